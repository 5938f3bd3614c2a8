"""The arguments of the metrics: checked, as arrays; and the cases that investigators would inspect, in their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fraudlab.schema import InputError


@dataclass(frozen=True)
class Data:
    """The checked arguments as arrays; days and entities as codes, the days in time order.

    Entities are numbered by when they first appear (then by how often, then by their largest amount), not by their id:
    another pseudonym key must give the same figures. Only entities alike in all three fall back on their id.
    """

    y: np.ndarray
    score: np.ndarray
    day: np.ndarray
    days: pd.DatetimeIndex
    entity: np.ndarray
    entities: np.ndarray
    amount: np.ndarray
    risk: np.ndarray | None

    @classmethod
    def read(cls, y: Any, score: Any, event_time: Any, entity: Any, *, amount: Any = None, risk: Any = None) -> Data:
        y, score = labels(y), numbers(score, "score")
        amount = np.zeros(len(y)) if amount is None else numbers(amount, "amount", 0)
        risk = None if risk is None else numbers(risk, "risk", 0, 1)
        time, entity = pd.DatetimeIndex(event_time), pd.Series(entity)
        same_length(y=y, score=score, event_time=time, entity=entity, amount=amount, risk=y if risk is None else risk)
        for argument, missing in (("event_time", time.isna().sum()), ("entity", entity.isna().sum())):
            if missing:
                raise InputError(
                    f"{argument}: must not be missing; found {missing:,} missing of {len(y):,}; fill or drop these rows"
                )
        if time.tz is not None:
            time = time.tz_convert(None)
        days, day = np.unique(time.to_numpy().astype("datetime64[D]"), return_inverse=True)
        code, entities = _numbered(entity, time.as_unit("us").asi8, amount)
        return cls(
            y=y,
            score=score,
            day=day,
            days=pd.DatetimeIndex(days.astype("datetime64[us]"), tz="UTC"),
            entity=code,
            entities=entities,
            amount=amount,
            risk=risk,
        )


def _numbered(entity: pd.Series, moment: np.ndarray, amount: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each row's entity number and the entities in that order."""
    code, entities = pd.factorize(entity, sort=True)
    first = np.full(len(entities), np.iinfo(np.int64).max)
    np.minimum.at(first, code, moment)
    largest = np.zeros(len(entities))
    np.maximum.at(largest, code, amount)
    order = np.lexsort((largest, np.bincount(code, minlength=len(entities)), first))
    number = np.empty_like(order)
    number[order] = np.arange(len(order))
    return number[code], np.asarray(entities)[order]


@dataclass(frozen=True)
class Cases:
    """Cases in the order of inspection: by day, then best score first, then the hash of the entity's number.

    The hash is there so that a tie favours neither old nor new entities.
    """

    entity: np.ndarray
    day: np.ndarray
    start: np.ndarray  # where each day's cases begin, and the end of the last
    fraud: np.ndarray  # 1.0 where the entity has a fraud that day
    of_row: np.ndarray  # each transaction's case
    place: np.ndarray  # each case's place on its day, from 0
    bad: np.ndarray  # the cases with a fraud
    bad_start: np.ndarray  # where each day's begin among them, and the end of the last

    @classmethod
    def of(cls, data: Data) -> Cases:
        key, of_row = np.unique(data.day * len(data.entities) + data.entity, return_inverse=True)
        day, entity = np.divmod(key, len(data.entities))
        best = np.full(len(key), -np.inf)
        np.maximum.at(best, of_row, data.score)
        order = np.lexsort((pd.util.hash_array(np.arange(len(data.entities)))[entity], -best, day))
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        of_row = place[of_row]
        day = day[order]
        start = np.searchsorted(day, np.arange(len(data.days) + 1))
        fraud = (np.bincount(of_row, weights=data.y) > 0).astype(float)
        bad = np.flatnonzero(fraud)
        return cls(
            entity=entity[order],
            day=day,
            start=start,
            fraud=fraud,
            of_row=of_row,
            place=np.arange(len(day)) - start[day],
            bad=bad,
            bad_start=np.searchsorted(bad, start),
        )


@dataclass(frozen=True)
class Cards:
    """Per day: cases inspected, compromised ones among them, compromised ones in play; found ones leave later days."""

    inspected: np.ndarray
    hits: np.ndarray
    compromised: np.ndarray


def take(cases: Cases, copies: np.ndarray, k: int) -> np.ndarray:
    """Return how many copies of each case are inspected a day when entity e is there copies[e] times.

    Every day stands alone: whoever was found yesterday may be inspected again today.
    """
    taken = np.zeros(len(cases.day))
    near = np.flatnonzero(cases.place < near_top(k))
    reached = _take_among(cases, copies, k, near, taken)
    if not reached.all():
        _take_among(cases, copies, k, np.flatnonzero(~reached[cases.day]), taken)
    return taken


def near_top(k: int) -> int:
    """Return how many of a day's cases nearly always hold k copies, so that the others need no look."""
    return 4 * k + 64


def _take_among(cases: Cases, copies: np.ndarray, k: int, where: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Inspect the cases at `where`, the first ones of their days; return the days that need no further ones."""
    day, there = cases.day[where], copies[cases.entity[where]]
    total = np.concatenate([[0.0], np.cumsum(there)])
    start = np.searchsorted(day, np.arange(len(cases.start)))
    taken[where] = np.minimum(np.maximum(k - (total[:-1] - total[start[day]]), 0), there)
    return (np.diff(total[start]) >= k) | (np.diff(start) == np.diff(cases.start))


def take_cards(cases: Cases, copies: np.ndarray, k: int) -> Cards:
    """Inspect k cases day by day when entity e is there copies[e] times; copies found compromised leave later days."""
    left = copies.copy()
    days = len(cases.start) - 1
    inspected, hits, compromised = np.zeros(days), np.zeros(days), np.zeros(days)
    for day in range(days):
        begin, end = cases.start[day], cases.start[day + 1]
        bad = cases.bad[cases.bad_start[day] : cases.bad_start[day + 1]]
        who = cases.entity[bad]
        compromised[day] = left[who].sum()
        stop = min(end, begin + near_top(k))
        there = left[cases.entity[begin:stop]]
        if stop < end and there.sum() < k:
            stop, there = end, left[cases.entity[begin:end]]
        upto = there.cumsum()
        inspected[day] = min(k, upto[-1])
        inside = bad < stop
        at = bad[inside] - begin
        found = np.minimum(np.maximum(k - (upto[at] - there[at]), 0), there[at])
        hits[day] = found.sum()
        left[who[inside]] -= found
    return Cards(inspected, hits, compromised)


def risk_bins(risk: np.ndarray, bins: int) -> np.ndarray:
    """Return each row's bin, 0 to at most `bins` - 1, from low risk to high, about equally many predicted frauds each.

    Rows of equal risk share a bin; a bin that none of them falls into is not numbered.
    """
    level, row, count = np.unique(risk, return_inverse=True, return_counts=True)
    expected = level * count
    middle = np.cumsum(expected) - expected / 2
    cut = np.floor(middle / expected.sum() * bins) if expected.sum() > 0 else np.zeros(len(level))
    return np.unique(np.minimum(cut, bins - 1), return_inverse=True)[1][row]


def run_ends(ordered: np.ndarray) -> np.ndarray:
    """Return the last position of each run of equal values."""
    return np.flatnonzero(np.append(np.diff(ordered) != 0, True))


def ratio(part: float, total: float) -> float:
    """Return part / total, NaN where there is nothing to share."""
    return float(part / total) if total > 0 else np.nan


def labels(y: Any) -> np.ndarray:
    """Return outcomes as 0.0 and 1.0; refuse none at all, missing and other ones."""
    values = pd.Series(y)
    if not len(values):
        raise InputError("y: must have at least one outcome; found none; check the fold's test part")
    if missing := int(values.isna().sum()):
        raise InputError(
            f"y: outcomes must be known; found {missing:,} missing of {len(values):,}; leave rows without a label out"
        )
    if wrong := int((~values.isin([0, 1])).sum()):
        raise InputError(f"y: must be 0 or 1; found {wrong:,} other values of {len(values):,}; map them at the source")
    return values.to_numpy(dtype=float)


def numbers(values: Any, argument: str, least: float = -np.inf, most: float = np.inf) -> np.ndarray:
    """Return finite numbers in [least, most]; refuse others."""
    array = np.asarray(values, dtype=float)
    wrong = int((~(np.isfinite(array) & (array >= least) & (array <= most))).sum())
    if wrong:
        ends = f" and >= {least:g}" if np.isfinite(least) else ""
        ends += f" and <= {most:g}" if np.isfinite(most) else ""
        raise InputError(
            f"{argument}: must be finite{ends}; found {wrong:,} others of {array.size:,}; check where it was computed"
        )
    return array


def same_length(**arguments: Any) -> None:
    """Refuse arguments that do not have an entry each per transaction."""
    lengths = {name: len(values) for name, values in arguments.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
        raise InputError(f"arguments: must have one entry per transaction each; found {found}; pass the same rows")


def whole(value: Any, argument: str, least: int) -> int:
    """Return a whole number not below `least`; refuse others."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InputError(f"{argument}: must be a whole number >= {least}; found {value!r}; correct it")
    return int(value)
