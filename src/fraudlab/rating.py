"""How risky a customer is over time: frauds expected on the customer as known each midnight, in three tiers.

A payment counts with the risk stated for it until its outcome is known, then with the outcome. What lies back counts
less and less, so that a rating ends by itself; it is left at less evidence than it is given at, so that none flickers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fraudlab.schema import InputError

RATINGS = ("low", "medium", "high")
"""The ratings, from the lowest risk to the highest."""


@dataclass(frozen=True)
class RatingRule:
    """How evidence fades, and how much of it makes a customer medium or high.

    Parameters
    ----------
    half_life_days : evidence this much older counts half.
    counts_from : stated risks below are not counted; else whoever buys often would rate high.
    medium_from, high_from : expected frauds from which a customer is rated so.
    keep : share of that number below which the rating is left again.

    Raises
    ------
    InputError : a value is out of range, `high_from` lies below `medium_from`.
    """

    half_life_days: float = 14.0
    counts_from: float = 0.05
    medium_from: float = 0.2
    high_from: float = 0.6
    keep: float = 0.5

    def __post_init__(self) -> None:
        if not (
            self.half_life_days > 0
            and 0 <= self.counts_from <= 1
            and 0 < self.medium_from <= self.high_from
            and 0 < self.keep <= 1
        ):
            raise InputError(
                "rating: needs half_life_days > 0, counts_from in [0, 1], 0 < medium_from <= high_from and keep in "
                f"(0, 1]; found {self}; correct decision.rating"
            )

    def lasts(self, evidence: float = 1.0) -> dict[str, float]:
        """Return for how many days so many expected frauds keep a customer above low and at high, if nothing follows.

        >>> {rating: round(days, 1) for rating, days in RatingRule(half_life_days=7).lasts().items()}
        {'medium': 23.3, 'high': 12.2}
        """
        found = {}
        for rating, from_ in (("medium", self.medium_from), ("high", self.high_from)):
            days = self.half_life_days * np.log2(evidence / (self.keep * from_)) if evidence >= from_ else 0.0
            found[rating] = float(max(0.0, days))
        return found


@dataclass(frozen=True, eq=False)
class Ratings:
    """Everybody's rating at each midnight (UTC), as known then.

    `code` [entities, days] holds 0 low, 1 medium, 2 high; -1 before the entity's first transaction.
    """

    days: pd.DatetimeIndex
    entities: pd.Index
    code: np.ndarray

    def at(self, entity: Any, event_time: Any) -> pd.Categorical:
        """Return the rating in force when each transaction came in; low for entities without a history.

        Raises
        ------
        InputError : a transaction lies outside the days that were rated.
        """
        day = _midnights(event_time)
        place = self.days.get_indexer(day)
        if outside := int((place < 0).sum()):
            raise InputError(
                f"rating: transactions must lie in the days rated, {self.days[0]:%Y-%m-%d} to "
                f"{self.days[-1]:%Y-%m-%d}; found {outside:,} outside; rate these days too"
            )
        who = self.entities.get_indexer(pd.Index(entity))
        code = np.where(who < 0, -1, self.code[who, place])
        return pd.Categorical.from_codes(np.maximum(code, 0), categories=list(RATINGS), ordered=True)


def rate(
    entity: Any, event_time: Any, risk: Any, y: Any, label_time: Any, *, rule: RatingRule, start: Any, end: Any
) -> Ratings:
    """Rate every entity at each midnight from `start` to `end`, from what was known by then and nothing later.

    Parameters
    ----------
    entity, event_time : shape (n,), whose transaction and when; times without a zone are taken as UTC.
    risk : calibrated probability of fraud as stated when the transaction came in, shape (n,); NaN where none was, such
        as for rows the model has learnt from, whose outcome it knew.
    y, label_time : outcome (NA: not known yet) and when it became known, shape (n,).
    rule : how evidence fades and what it takes to be rated medium or high.
    start, end : the first and last day (UTC) to rate.

    Returns
    -------
    Ratings. A transaction of day d counts from the next midnight on, with its risk, from the first midnight at or after
    its label_time with its outcome instead, times 2 ** -(days since the next midnight / half-life).

    Raises
    ------
    InputError : lengths differ, an entity or time is missing, a risk outside [0, 1], `end` before `start`.

    >>> day = pd.to_datetime(["2026-01-01 10:00", "2026-01-03 10:00"], utc=True)
    >>> rated = rate(["a", "a"], day, [0.7, 0.01], [False, None], [pd.Timestamp("2026-01-04", tz="UTC"), None],
    ...              rule=RatingRule(), start="2026-01-01", end="2026-01-04")
    >>> rated.code.tolist()
    [[-1, 2, 2, 0]]
    """
    given = {"entity": pd.Series(entity), "event_time": pd.DatetimeIndex(event_time), "risk": np.asarray(risk, float)}
    given |= {"y": pd.Series(y, dtype="boolean"), "label_time": pd.DatetimeIndex(pd.Series(label_time))}
    if len({len(each) for each in given.values()}) > 1:
        found = ", ".join(f"{name} {len(each):,}" for name, each in given.items())
        raise InputError(f"arguments: must have one entry per transaction each; found {found}; pass the same rows")
    for name in ("entity", "event_time"):
        if missing := int(given[name].isna().sum()):
            raise InputError(f"{name}: must not be missing; found {missing:,} missing; fill or drop these rows")
    stated = given["risk"]
    if wrong := int(((stated < 0) | (stated > 1)).sum()):
        raise InputError(f"risk: must lie in [0, 1] or be missing; found {wrong:,} others; pass calibrated risks")
    first, last = (_day(pd.DatetimeIndex([moment]))[0] for moment in (start, end))
    if last < first:
        raise InputError(f"end: must not lie before start; found {end} before {start}; exchange them")
    code, entities = pd.factorize(given["entity"])
    counted = np.where(stated >= rule.counts_from, stated, 0.0)
    known, outcome = given["y"].notna().to_numpy(), given["y"].fillna(False).to_numpy(dtype=float)
    day = _day(given["event_time"]) + 1
    told = np.where(known & given["label_time"].notna(), np.maximum(_day_after(given["label_time"]), day), last + 1)
    # What becomes known on a day: a payment with its risk or outcome; or its outcome in place of the risk it had.
    late = np.flatnonzero((told > day) & (outcome != counted) & (told <= last))
    fade = 2.0 ** (-1 / rule.half_life_days)
    arrives = np.concatenate([day, told[late]])
    who = np.concatenate([code, code[late]])
    value = np.concatenate(
        [np.where(told <= day, outcome, counted), (outcome[late] - counted[late]) * fade ** (told[late] - day[late])]
    )
    some = np.flatnonzero((value != 0) & (arrives <= last))
    some = some[np.argsort(arrives[some], kind="stable")]
    arrives, who, value = arrives[some], who[some], value[some]
    since = np.full(len(entities), last + 1)
    np.minimum.at(since, code, day)
    evidence, rated = np.zeros(len(entities)), np.zeros(len(entities), dtype=np.int8)
    table = np.full((len(entities), last - first + 1), -1, dtype=np.int8)
    begin = int(min(arrives[0] if len(arrives) else first, first))
    edges = np.searchsorted(arrives, np.arange(begin, last + 2))
    for today in range(begin, last + 1):
        new = slice(edges[today - begin], edges[today - begin + 1])
        evidence *= fade
        if new.stop > new.start:
            evidence += np.bincount(who[new], weights=value[new], minlength=len(entities))
            np.maximum(evidence, 0, out=evidence)
        rated = _next(evidence, rated, rule)
        if today >= first:
            table[:, today - first] = np.where(since <= today, rated, -1)
    days = pd.DatetimeIndex(np.arange(first, last + 1).astype("datetime64[D]").astype("datetime64[us]"), tz="UTC")
    return Ratings(days, pd.Index(entities), table)


def rating_weeks(ratings: Ratings, y: Any, event_time: Any, entity: Any) -> pd.DataFrame:
    """Count who was rated how at the beginning of each week, and what followed in it.

    Parameters
    ----------
    ratings : weeks begin with its first day; a last part of a week is left out.
    y : outcomes, shape (n,); NA where not known, which is not counted.
    event_time, entity : shape (n,); transactions outside the weeks are not counted.

    Returns
    -------
    DataFrame, a row per week and rating: week (its first day), rating, customers, transactions (of known outcome, in
    the week), frauds.
    """
    starts = ratings.days[: len(ratings.days) // 7 * 7 : 7]
    outcome = pd.Series(y, dtype="boolean").to_numpy(dtype=float, na_value=np.nan)
    week = (ratings.days.get_indexer(_midnights(event_time))) // 7
    who = ratings.entities.get_indexer(pd.Index(entity))
    use = np.flatnonzero((week >= 0) & (week < len(starts)) & (who >= 0) & ~np.isnan(outcome))
    at_start = ratings.code[:, : 7 * len(starts) : 7]
    tier = at_start[who[use], week[use]]
    use, tier = use[tier >= 0], tier[tier >= 0]
    cell = week[use] * len(RATINGS) + tier
    size = len(starts) * len(RATINGS)
    return pd.DataFrame(
        {
            "week": np.repeat(starts, len(RATINGS)),
            "rating": list(RATINGS) * len(starts),
            "customers": np.ravel([(at_start == rank).sum(axis=0) for rank in range(len(RATINGS))], order="F"),
            "transactions": np.bincount(cell, minlength=size),
            "frauds": np.bincount(cell, weights=outcome[use], minlength=size).astype(np.int64),
        }
    )


def rating_moves(ratings: Ratings) -> pd.DataFrame:
    """Count how ratings change from one week's first day to the next one's.

    Returns
    -------
    DataFrame, a row per pair of ratings: before, after, customers (summed over the weeks), share (of those before; NaN
    where there were none). Customers without a rating on either day are left out.

    >>> days = pd.date_range("2026-01-01", periods=8, tz="UTC")
    >>> moves = rating_moves(Ratings(days, pd.Index(["a", "b"]), np.array([[2] + [0] * 7, [0] * 8])))
    >>> moves[moves["customers"] > 0].values.tolist()
    [['low', 'low', 1, 1.0], ['high', 'low', 1, 1.0]]
    """
    weekly = ratings.code[:, ::7]
    before, after = weekly[:, :-1].ravel(), weekly[:, 1:].ravel()
    both = (before >= 0) & (after >= 0)
    size = len(RATINGS)
    count = np.bincount(before[both] * size + after[both], minlength=size**2).reshape(size, size)
    of = count.sum(axis=1, keepdims=True)
    share = np.divide(count, of, out=np.full(count.shape, np.nan), where=of > 0)
    return pd.DataFrame(
        {
            "before": np.repeat(RATINGS, size),
            "after": list(RATINGS) * size,
            "customers": count.ravel(),
            "share": share.ravel(),
        }
    )


ACTED_ON = {
    "rating_step_up": "asking customers rated high for a second factor",
    "rating_review": "reviewing the payments of customers rated high",
}
"""Way to act on a rating -> what it is, in a sentence."""


def verdict(after: pd.DataFrame, effect: pd.DataFrame) -> tuple[str, str]:
    """Say what the ratings tell, and whether acting on them would have paid beside the score; a sentence each.

    Parameters
    ----------
    after : rating, fraud_rate of the week after.
    effect : way, against, metric, value, low, high: what ways to act cost a day more than the score alone.
    """
    rates = after.set_index("rating")["fraud_rate"].astype(float)
    told = "Too few frauds to say how often customers rated high are defrauded."
    if rates.get("low", np.nan) > 0 and rates.get("high", np.nan) > 0:
        times = rates["high"] / rates["low"]
        told = (
            f"In the week after, payments of customers rated high were fraud {times:.1f} times as often as of others."
        )
    costs = effect[effect["against"].fillna("").ne("") & effect["metric"].eq("cost_per_day")].dropna(
        subset=["low", "high"]
    )
    better, worse = costs[costs["high"] < 0], costs[costs["low"] > 0]
    if costs.empty:
        return told, "Whether acting on ratings would have paid cannot be told from this test."
    if len(better):
        best = better.loc[better["value"].idxmin()]
        return told, f"Beside the score, {ACTED_ON[best['way']]} pays: {-best['value']:,.0f} a day."
    if len(worse) == len(costs):
        return told, "Beside the score, acting on ratings does not pay: every way tried costs more than it saves."
    return told, "Beside the score, ratings add nothing that this test can tell from chance."


def _next(evidence: np.ndarray, rated: np.ndarray, rule: RatingRule) -> np.ndarray:
    high = (evidence >= rule.high_from) | ((rated == 2) & (evidence >= rule.keep * rule.high_from))
    medium = (evidence >= rule.medium_from) | ((rated >= 1) & (evidence >= rule.keep * rule.medium_from))
    return np.where(high, 2, np.where(medium, 1, 0)).astype(np.int8)


def _day(time: pd.DatetimeIndex) -> np.ndarray:
    """Return whole days (UTC) since 1970."""
    plain = time if time.tz is None else time.tz_convert(None)
    return plain.to_numpy().astype("datetime64[D]").astype(np.int64)


def _day_after(time: pd.DatetimeIndex) -> np.ndarray:
    """Return the first midnight (UTC) at or after each time, in days since 1970; a missing time gives a huge number."""
    plain = time if time.tz is None else time.tz_convert(None)
    exact = plain.to_numpy().astype("datetime64[us]")
    day = exact.astype("datetime64[D]")
    after = day.astype(np.int64) + (exact > day)
    return np.where(np.isnat(exact), np.iinfo(np.int64).max, after)


def _midnights(time: Any) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(_day(pd.DatetimeIndex(time)).astype("datetime64[D]").astype("datetime64[us]"), tz="UTC")
