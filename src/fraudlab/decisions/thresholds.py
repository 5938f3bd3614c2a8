"""Thresholds from a budget, costs or a rate, and the tiers of risk they cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from fraudlab.schema import InputError, did_you_mean


@dataclass(frozen=True)
class Tier:
    """A level of risk: what is done about it, and why, in a sentence for people."""

    action: str
    sentence: str


TIERS: dict[str, Tier] = {
    "low": Tier("approve", "The payment goes through without the customer noticing anything."),
    "elevated": Tier("step_up_authentication", "The customer confirms with a second factor; then the payment goes on."),
    "high": Tier("manual_review", "An investigator looks at the case the same day and decides."),
    "severe": Tier("limit_and_review", "The payment waits and the account is limited until an investigator decides."),
}
"""The tiers by name, from the lowest risk to the highest."""


@dataclass(frozen=True)
class Thresholds:
    """Scores from which on a transaction is stepped up, reviewed or limited; `limit` None limits nobody.

    Raises
    ------
    InputError : a threshold is not finite, or they are out of order (step_up <= review <= limit).

    >>> Thresholds.from_dict(Thresholds(review=0.8, step_up=0.3, limit=None).to_dict()).review
    0.8
    """

    review: float
    step_up: float
    limit: float | None = None

    def __post_init__(self) -> None:
        given = [self.step_up, self.review] + ([] if self.limit is None else [self.limit])
        if not all(np.isfinite(given)) or sorted(given) != given:
            raise InputError(
                f"thresholds: must be finite with step_up <= review <= limit; found step_up {self.step_up}, review "
                f"{self.review}, limit {self.limit}; choose them again"
            )

    def to_dict(self) -> dict[str, float | None]:
        """Return the thresholds as plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Thresholds:
        """Return thresholds from `to_dict`'s values; refuse unknown and missing keys and values that are no numbers."""
        names = [field.name for field in fields(cls)]
        for name in values:
            if name not in names:
                raise InputError(f"thresholds: unknown key '{name}'; {did_you_mean(name, names)}")
        for name in ("review", "step_up"):
            if values.get(name) is None:
                raise InputError(f"thresholds: key '{name}' is missing; add the score it begins at")
        try:
            return cls(**{name: None if value is None else float(value) for name, value in values.items()})
        except (TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError("thresholds: must be numbers; found another type; choose them again") from None


def choose_thresholds(
    score: Any,
    event_time: Any,
    entity: Any,
    *,
    alerts_per_day: float,
    step_up_per_day: float,
    limit_per_day: float = 0,
    review: float | None = None,
) -> Thresholds:
    """Choose the scores from which on the cases of a day, on average, fill the budget and do not exceed it.

    Parameters
    ----------
    score, event_time, entity : shape (n,), of transactions the model was not fitted on. A case is one entity on one
        day (UTC) with its best score of that day.
    alerts_per_day : cases a day for investigators, the limited ones included.
    step_up_per_day : further cases a day asked for a second factor; 0 asks nobody.
    limit_per_day : cases a day, among the alerts, that are limited at once; 0 limits nobody.
    review : the score from which on cases are reviewed, where costs or a rate have set it (`least_cost_threshold`,
        `threshold_at_false_positive_rate`); None takes `alerts_per_day`. The others keep their budgets beside it.

    Returns
    -------
    Thresholds: each the lowest score that keeps its budget. Where equal scores straddle the budget none of them is
    alerted; a budget above the number of cases alerts every case.

    Raises
    ------
    InputError : nothing given, lengths differ, a score is not finite, a time or entity is missing, a budget is out of
        range.

    >>> day = pd.to_datetime(["2026-01-01"] * 4, utc=True)
    >>> choose_thresholds([0.1, 0.2, 0.3, 0.4], day, list("abcd"), alerts_per_day=1, step_up_per_day=2)
    Thresholds(review=0.4, step_up=0.2, limit=None)
    """
    score, time, entity = _scores(score), pd.DatetimeIndex(event_time), pd.Series(entity)
    _same_rows(score=score, event_time=time, entity=entity)
    if not alerts_per_day > 0:
        raise InputError(f"alerts_per_day: must be above 0; found {alerts_per_day}; correct decision.alerts_per_day")
    if not step_up_per_day >= 0:
        raise InputError(f"step_up_per_day: must be >= 0; found {step_up_per_day}; correct decision.step_up_per_day")
    if not 0 <= limit_per_day <= alerts_per_day:
        raise InputError(
            f"limit_per_day: must lie in [0, alerts_per_day]; found {limit_per_day} of {alerts_per_day}; correct it"
        )
    best, days = _best_of_cases(score, time, entity)
    alerts = alerts_per_day * days
    if review is None:
        review = _threshold(best, alerts)
    else:
        alerts = int((best >= review).sum())
    limit = _threshold(best, limit_per_day * days) if limit_per_day else None
    return Thresholds(
        review=review,
        step_up=min(review, _threshold(best, alerts + step_up_per_day * days)),
        limit=None if limit is None else max(review, limit),
    )


def thresholds_of_budgets(score: Any, event_time: Any, entity: Any, budgets: Sequence[float]) -> list[float]:
    """Return for each budget the review threshold that `choose_thresholds` would choose.

    Parameters
    ----------
    score, event_time, entity : as in `choose_thresholds`.
    budgets : cases a day, each above 0.

    Raises
    ------
    InputError : as in `choose_thresholds`.

    >>> day = pd.to_datetime(["2026-01-01"] * 4, utc=True)
    >>> thresholds_of_budgets([0.1, 0.2, 0.3, 0.4], day, list("abcd"), [1, 3])
    [0.4, 0.2]
    """
    score, time, entity = _scores(score), pd.DatetimeIndex(event_time), pd.Series(entity)
    _same_rows(score=score, event_time=time, entity=entity)
    if wrong := [each for each in budgets if not each > 0]:
        raise InputError(f"budgets: must be above 0; found {wrong[0]}; name cases a day")
    best, days = _best_of_cases(score, time, entity)
    return [_threshold(best, each * days) for each in budgets]


def threshold_at_false_positive_rate(y: Any, score: Any, rate: float) -> float:
    """Return the lowest score from which on at most a share `rate` of the genuine transactions is flagged.

    Parameters
    ----------
    y : outcomes, shape (n,), boolean or 0/1, none missing.
    score : shape (n,), of transactions the model was not fitted on.
    rate : share of the genuine transactions, in (0, 1).

    Returns
    -------
    float: one of the scores; just above the highest where even the first ones flag too many.

    Raises
    ------
    InputError : nothing given, lengths differ, an outcome is missing, no genuine transaction, a rate out of range.

    >>> threshold_at_false_positive_rate([0, 0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4, 0.5], rate=0.4)
    0.3
    """
    score, fraud = _scores(score), _outcomes(y)
    _same_rows(score=score, y=fraud)
    if not 0 < rate < 1:
        raise InputError(f"rate: must lie in (0, 1); found {rate}; correct decision.max_false_positive_rate")
    if not (genuine := int((~fraud).sum())):
        raise InputError("y: needs genuine transactions for a false positive rate; found none; lengthen validation")
    top, flagged = _steps(score, (~fraud).astype(float))
    within = np.flatnonzero(flagged <= rate * genuine * (1 + 1e-12))
    return float(top[within[-1]] if len(within) else np.nextafter(top[0], np.inf))


def least_cost_threshold(
    y: Any,
    score: Any,
    event_time: Any,
    entity: Any,
    amount: Any,
    *,
    review_cost: float,
    recovery_rate: float,
    false_alarm_cost: float = 0.0,
) -> float:
    """Return the score from which on reviewing cases costs least, with the amounts as they were.

    Parameters
    ----------
    y, score, event_time, entity, amount : shape (n,), of transactions the model was not fitted on. A case is one entity
        on one day (UTC) with its best score of that day.
    review_cost : cost of reviewing one case, in the currency of `amount`.
    recovery_rate : share of a reviewed case's fraud amount that is saved, in [0, 1].
    false_alarm_cost : what bothering a genuine customer costs beside the review, per case without a fraud.

    Returns
    -------
    float: one of the scores, the highest of equally cheap ones; just above the highest where no review pays.

    Raises
    ------
    InputError : as in `choose_thresholds`; an outcome is missing, an amount negative, a cost out of range.

    Notes
    -----
    Minimises review_cost * cases + false_alarm_cost * genuine cases - recovery_rate * fraud amount of the cases, over
    all thresholds. A few large frauds can decide it: look at what it brings on other rows, with an interval.

    References
    ----------
    Elkan (2001), The foundations of cost-sensitive learning, IJCAI; Bahnsen, Aouada, Stojanovic, Ottersten (2016),
    Feature engineering strategies for credit card fraud detection. doi:10.1016/j.eswa.2015.12.030 (costs by amount)

    Reviewing the first two cases saves 80 and 8 and costs 10 each; the third would cost more than it saves:

    >>> day = pd.to_datetime(["2026-01-01"] * 3, utc=True)
    >>> least_cost_threshold([1, 1, 1], [0.9, 0.8, 0.7], day, list("abc"), [100, 15, 10], review_cost=10,
    ...                      recovery_rate=0.8)
    0.8
    """
    score, fraud, time, entity = _scores(score), _outcomes(y), pd.DatetimeIndex(event_time), pd.Series(entity)
    amount = np.asarray(amount, dtype=float)
    _same_rows(score=score, y=fraud, event_time=time, entity=entity, amount=amount)
    if wrong := int((~(amount >= 0) | ~np.isfinite(amount)).sum()):
        raise InputError(f"amount: must be finite and >= 0; found {wrong:,} others of {len(amount):,}; mend them")
    for name, cost in (("review_cost", review_cost), ("false_alarm_cost", false_alarm_cost)):
        if not (np.isfinite(cost) and cost >= 0):
            raise InputError(f"{name}: must be finite and >= 0; found {cost}; correct decision.{name}")
    if not 0 <= recovery_rate <= 1:
        raise InputError(f"recovery_rate: must lie in [0, 1]; found {recovery_rate}; correct decision.recovery_rate")
    best, _ = _best_of_cases(score, time, entity)
    money, _ = _best_of_cases(np.where(fraud, amount, 0.0), time, entity, how="sum")
    bad, _ = _best_of_cases(fraud.astype(float), time, entity)
    saved = recovery_rate * money.to_numpy() - review_cost - false_alarm_cost * (bad.to_numpy() == 0)
    top, net = _steps(best.to_numpy(), saved)
    least = int(np.argmax(np.round(net, 9)))
    return float(top[least] if net[least] > 0 else np.nextafter(top[0], np.inf))


def worth_reviewing(
    risk: Any, amount: Any, *, review_cost: float, recovery_rate: float, false_alarm_cost: float = 0.0
) -> np.ndarray:
    """Say of each transaction by itself whether its review is expected to save more than it costs.

    Parameters
    ----------
    risk : calibrated probability of fraud, shape (n,); a score that is no probability gives a wrong answer.
    amount, review_cost, recovery_rate, false_alarm_cost : as in `least_cost_threshold`.

    Returns
    -------
    bool array (n,): risk * amount * recovery_rate > review_cost + (1 - risk) * false_alarm_cost.

    References
    ----------
    Elkan (2001), The foundations of cost-sensitive learning, IJCAI: the decision of least expected cost.

    >>> worth_reviewing([0.2, 0.2], [50, 200], review_cost=15, recovery_rate=0.8).tolist()
    [False, True]
    """
    risk, amount = np.asarray(risk, dtype=float), np.asarray(amount, dtype=float)
    _same_rows(risk=risk, amount=amount)
    return risk * amount * recovery_rate > review_cost + (1 - risk) * false_alarm_cost


def assign_tiers(score: Any, thresholds: Thresholds) -> pd.Categorical:
    """Return each transaction's tier: an ordered categorical, low < elevated < high < severe.

    Parameters
    ----------
    score : shape (n,), finite.
    thresholds : a score equal to a threshold belongs to the tier above it.

    Raises
    ------
    InputError : a score is not finite.

    >>> list(assign_tiers([0.1, 0.3, 0.9], Thresholds(review=0.8, step_up=0.3)))
    ['low', 'elevated', 'high']
    """
    limit = np.inf if thresholds.limit is None else thresholds.limit
    codes = np.searchsorted([thresholds.step_up, thresholds.review, limit], _scores(score), side="right")
    return pd.Categorical.from_codes(codes, categories=list(TIERS), ordered=True)


def actions_for(tiers: pd.Categorical) -> pd.Series:
    """Return the action of each tier, as text.

    >>> actions_for(assign_tiers([0.1, 0.9], Thresholds(review=0.8, step_up=0.3))).tolist()
    ['approve', 'manual_review']
    """
    return pd.Series(pd.array([tier.action for tier in TIERS.values()], dtype="str").take(tiers.codes))


def tier_table(
    y: Any, tiers: pd.Categorical, amount: Any, *, event_time: Any = None, entity: Any = None
) -> pd.DataFrame:
    """Count what fell into each tier.

    Parameters
    ----------
    y : outcomes, shape (n,), boolean or 0/1, none missing.
    tiers : from `assign_tiers`, shape (n,).
    amount : shape (n,), in major units.
    event_time, entity : shape (n,), both or neither; they say whose case of which day (UTC) a transaction belongs to.

    Returns
    -------
    DataFrame, a row per tier from low to severe, empty ones too: tier, action, transactions, frauds, fraud_rate (NaN
    for an empty tier), amount, fraud_amount. With event_time and entity also cases_per_day: the entities whose highest
    tier of a day is this one, mean over the days that have transactions; "high" and "severe" together compare with
    the planned `alerts_per_day`, "elevated" with `step_up_per_day`.

    Raises
    ------
    InputError : lengths differ, an outcome, time or entity is missing, a tier is unknown, event_time comes without
        entity or the other way round.

    >>> tiers = assign_tiers([0.1, 0.3, 0.9], Thresholds(review=0.8, step_up=0.3))
    >>> tier_table([0, 0, 1], tiers, [10.0, 20.0, 30.0])[["tier", "frauds", "fraud_amount"]].values.tolist()
    [['low', 0, 0.0], ['elevated', 0, 0.0], ['high', 1, 30.0], ['severe', 0, 0.0]]
    """
    outcome, amount = pd.Series(y), np.asarray(amount, dtype=float)
    given = {"y": outcome, "tiers": tiers, "amount": amount}
    by_case = event_time is not None
    if by_case != (entity is not None):
        raise InputError("event_time, entity: must be given together to count cases; found one only; pass both or none")
    if by_case:
        given |= {"event_time": pd.DatetimeIndex(event_time), "entity": pd.Series(entity)}
    _same_rows(**given)
    fraud, code = _outcomes(outcome).astype(float), pd.Index(TIERS).get_indexer(pd.Series(tiers).astype("str"))
    if unknown := int((code < 0).sum()):
        raise InputError(f"tiers: must be {', '.join(TIERS)}; found {unknown:,} others; use assign_tiers")

    def per_tier(weights: np.ndarray | None = None) -> np.ndarray:
        return np.bincount(code, weights=weights, minlength=len(TIERS))

    transactions, frauds = per_tier(), per_tier(fraud)
    table = pd.DataFrame(
        {
            "tier": list(TIERS),
            "action": [tier.action for tier in TIERS.values()],
            "transactions": transactions,
            "frauds": frauds.astype(np.int64),
            "fraud_rate": np.divide(frauds, transactions, out=np.full(len(TIERS), np.nan), where=transactions > 0),
            "amount": per_tier(amount),
            "fraud_amount": per_tier(fraud * amount),
        }
    )
    if by_case:
        best, days = _best_of_cases(code, given["event_time"], given["entity"])
        table["cases_per_day"] = np.bincount(best, minlength=len(TIERS)) / max(days, 1)
    return table


def _best_of_cases(
    values: np.ndarray, time: pd.DatetimeIndex, entity: pd.Series, how: str = "max"
) -> tuple[pd.Series, int]:
    """Return the highest value (or the sum) of each case, an entity on a day (UTC), and the number of days."""
    for argument, missing in (("event_time", time.isna().sum()), ("entity", entity.isna().sum())):
        if missing:
            raise InputError(f"{argument}: must not be missing; found {missing:,} missing; fill or drop these rows")
    day = (time if time.tz is None else time.tz_convert(None)).floor("D")
    return pd.Series(values).groupby([day, entity.to_numpy()], sort=False).agg(how), day.nunique()


def _threshold(best: pd.Series, budget: float) -> float:
    """Return the lowest score that at most `budget` cases reach; just above all when equal top scores exceed it."""
    ordered = np.sort(best.to_numpy())[::-1]
    count = int(np.floor(budget + 1e-9))
    if count >= len(ordered):
        return float(ordered[-1])
    above = ordered[:count][ordered[:count] > ordered[count]]
    return float(above[-1] if len(above) else np.nextafter(ordered[0], np.inf))


def _steps(score: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the different scores from high to low, and the sum of the values from each of them on up."""
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    return score[order][last], np.cumsum(value[order])[last]


def _same_rows(**given: Any) -> None:
    if len({len(values) for values in given.values()}) > 1:
        found = ", ".join(f"{name} {len(values):,}" for name, values in given.items())
        raise InputError(f"arguments: must have one entry per transaction each; found {found}; pass the same rows")


def _outcomes(y: Any) -> np.ndarray:
    outcome = pd.Series(y)
    if missing := int(outcome.isna().sum()):
        raise InputError(f"y: outcomes must be known; found {missing:,} missing; leave rows without a label out")
    return outcome.to_numpy(dtype=float) > 0


def _scores(score: Any) -> np.ndarray:
    values = np.asarray(score, dtype=float)
    if not len(values):
        raise InputError("score: must have at least one entry; found none; check the rows passed")
    if wrong := int((~np.isfinite(values)).sum()):
        raise InputError(
            f"score: must be finite; found {wrong:,} others of {len(values):,}; check where it was computed"
        )
    return values
