"""A series against its own past: cumulative sums, control limits for shares, hours against the same weekdays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from fraudlab.schema import InputError

CLIP = 4.0
"""A day counts at most so much in a cumulative sum, so that one odd day alone is no lasting change."""

SIGMAS = 3.0
WEEKS = 6
FLAGGED = 4.0
"""Hours whose z lies beyond are marked: by chance about 1 in 16,000, or 1 week in 50 with two figures an hour."""

MANY_LOG = float(np.log(1.5))
"""A day of the past whose volume is off its weekday's median by half as much again is no guide to what is usual."""


def cusum(z: Any, k: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Return the cumulative sums of a standardised series upwards and downwards, each starting at 0.

    Parameters
    ----------
    z : float[days], about standard normal while nothing changes; NaN leaves the sums as they are.
    k : what a day is allowed to be off, in standard deviations; half the shift that shall be found fastest.

    Returns
    -------
    up, down : float[days], both >= 0. Each z is cut at +-`CLIP` first.

    References
    ----------
    Page (1954), Continuous inspection schemes, doi:10.1093/biomet/41.1-2.100.

    >>> up, down = cusum([1.0, 2.0, -3.0, np.nan], k=0.5)
    >>> up.tolist(), down.tolist()
    ([0.5, 2.0, 0.0, 0.0], [0.0, 0.0, 2.5, 2.5])
    """
    values = np.clip(np.asarray(z, dtype=float), -CLIP, CLIP)
    up, down = np.zeros(values.size), np.zeros(values.size)
    high = low = 0.0
    for day, value in enumerate(values):
        if not np.isnan(value):
            high, low = max(0.0, high + value - k), max(0.0, low - value - k)
        up[day], down[day] = high, low
    return up, down


def cusum_arl(k: float, h: float, shift: float = 0.0, *, two_sided: bool = True, states: int = 400) -> float:
    """Return how many days a cumulative sum runs on average until it crosses its limit.

    Parameters
    ----------
    k, h : allowance and limit, in standard deviations.
    shift : by how many standard deviations the mean has moved; 0 gives the days between false alarms.
    two_sided : upwards and downwards together, else upwards alone.
    states : of the Markov chain that stands for the sum.

    Returns
    -------
    Average run length in days, for independent normal values without the cut at `CLIP`.

    Raises
    ------
    InputError : k is negative or h not above 0.

    References
    ----------
    Brook and Evans (1972), An approach to the probability distribution of cusum run length,
    doi:10.1093/biomet/59.3.539.

    >>> round(cusum_arl(0.5, 4)), round(cusum_arl(0.5, 5)), round(cusum_arl(0.5, 4, 1.0), 1)
    (168, 465, 8.4)
    """
    from scipy.stats import norm

    if not (k >= 0 and h > 0):
        raise InputError(f"cusum_arl: k must be >= 0 and h above 0; found k {k} and h {h}; take 0.5 and 5")

    def one_side(mean: float) -> float:
        width = 2 * h / (2 * states - 1)
        level = np.arange(states) * width
        # From state i the sum moves to state j when the value lies within half a width of the step; state 0 holds all
        # that falls below.
        step = level[None, :] - level[:, None] + k
        chain = norm.cdf(step + width / 2 - mean) - norm.cdf(step - width / 2 - mean)
        chain[:, 0] = norm.cdf(step[:, 0] + width / 2 - mean)
        return float(np.linalg.solve(np.eye(states) - chain, np.ones(states))[0])

    up = one_side(shift)
    return 1 / (1 / up + 1 / one_side(-shift)) if two_sided else up


def share_chart(hits: Any, cases: Any, *, baseline: int | None = None, sigmas: float = SIGMAS) -> pd.DataFrame:
    """Chart a share period by period with control limits that allow for how much it wanders beyond chance.

    Parameters
    ----------
    hits, cases : counts of each period, hits <= cases; a period without cases has no share.
    baseline : how many of the first periods set the limits; None: all.
    sigmas : how far the limits lie from the mean.

    Returns
    -------
    DataFrame, a row per period in their order: value, expected (the mean share), low, high (limits for this period's
    cases, within 0 and 1), z, outside (beyond a limit), note. The note says why where there are no limits: fewer than
    six periods with cases in the baseline, or no hit or only hits in it.

    Raises
    ------
    InputError : lengths differ, more hits than cases.

    Notes
    -----
    Binomial limits assume that cases are independent and weeks alike. Laney's p' chart widens them by the moving range
    of the standardised shares over 1.128, here by no less than 1. Three sigmas: a stable share crosses its limits about
    3 times in 1,000 periods where it is normal; with few cases a period more often upwards than downwards.

    References
    ----------
    Laney (2002), Improved control charts for attributes, doi:10.1081/QEN-120003555.

    >>> share_chart([5, 5, 5, 5, 5, 5, 0], [10] * 7, baseline=6)[["value", "low", "outside"]].round(3).tail(1).values
    array([[0.0, 0.026, True]], dtype=object)
    """
    hit, size = np.asarray(hits, dtype=float), np.asarray(cases, dtype=float)
    if hit.shape != size.shape or (hit > size).any():
        raise InputError(
            f"share_chart: every period must have at most as many hits as cases; found {hit.size:,} hits for "
            f"{size.size:,} periods, {int((hit > size).sum()) if hit.shape == size.shape else 0:,} of them with more"
        )
    value = np.divide(hit, size, out=np.full(hit.size, np.nan), where=size > 0)
    table = pd.DataFrame({"value": value, "expected": np.nan, "low": np.nan, "high": np.nan, "z": np.nan})
    table["outside"], table["note"] = False, ""
    first = np.arange(hit.size) < (hit.size if baseline is None else baseline)
    base = first & (size > 0)
    mean = hit[base].sum() / size[base].sum() if base.any() else np.nan
    table["expected"] = mean
    if base.sum() < 6:
        return table.assign(note="not applicable: fewer than 6 periods with cases to set limits by")
    if mean in (0.0, 1.0):
        return table.assign(note="not applicable: a share of 0 or 1 throughout sets no limits")
    sd = np.sqrt(mean * (1 - mean) / np.maximum(size, 1))
    plain = (value - mean) / sd
    wander = max(float(np.abs(np.diff(plain[base])).mean()) / 1.128, 1.0)
    table["low"] = np.where(size > 0, np.clip(mean - sigmas * wander * sd, 0, 1), np.nan)
    table["high"] = np.where(size > 0, np.clip(mean + sigmas * wander * sd, 0, 1), np.nan)
    table["z"] = plain / wander
    table["outside"] = (value < table["low"]) | (value > table["high"])
    return table


def hour_by_weekday(
    event_time: Any, amount: Any, *, until: pd.Timestamp, days: int = 7, weeks: int = WEEKS
) -> pd.DataFrame:
    """Hold the number and the amounts of payments of each hour of the last days against the same weekdays before.

    Parameters
    ----------
    event_time : moments of payments, with a zone.
    amount : of the same payments.
    until : midnight (UTC) after the last whole day.
    days : how many days, up to there, are judged.
    weeks : how many same weekdays before the judged days they are held against, at most; at least three.

    Returns
    -------
    DataFrame, a row per judged day and hour: day, hour (UTC), n, expected (payments), z, amount (geometric mean),
    amount_usual, amount_z, note. z are about standard normal where nothing changed; |z| above 4 is worth a look. NaN,
    with the note why, where there are fewer than three such weekdays; amount_z also with fewer than five payments.

    Notes
    -----
    Counts follow a negative binomial law: its mean is that of the same hour and weekday, without the days whose whole
    volume is off by half as much again (a broken day is no guide); its overdispersion φ, of variance mean + φ mean², is
    fitted by moments over all hours of the week and widened for the mean's own error. Amounts: the mean logarithm
    against that of the same hours, over its standard error.

    >>> hours = pd.date_range("2026-01-05", periods=24 * 35, freq="h", tz="UTC").repeat(4)
    >>> keep = ~((hours >= "2026-02-08 10:00") & (hours < "2026-02-08 12:00"))
    >>> table = hour_by_weekday(hours[keep], np.full(keep.sum(), 20.0), until=pd.Timestamp("2026-02-09", tz="UTC"))
    >>> table.loc[table["z"] < -2.5, ["hour", "n", "expected"]].values.tolist()
    []
    >>> table.loc[table["n"] == 0, ["hour", "n", "expected"]].values.tolist()
    [[10.0, 0.0, 4.0], [11.0, 0.0, 4.0]]
    """
    time = pd.DatetimeIndex(event_time).tz_convert("UTC")
    value = np.log(np.maximum(np.asarray(amount, dtype=float), 0.01))
    end = until.tz_convert("UTC").floor("D")
    age = np.asarray((end - time.floor("D")) / pd.Timedelta(days=1)).astype(np.int64) - 1  # 0: the last whole day
    span = days + 7 * weeks
    inside = (age >= 0) & (age < span)
    cell = age[inside] * 24 + time.hour.to_numpy()[inside]
    n = np.bincount(cell, minlength=span * 24).reshape(span, 24).astype(float)
    logs = value[inside]
    total = np.bincount(cell, weights=logs, minlength=span * 24).reshape(span, 24)
    squares = np.bincount(cell, weights=logs**2, minlength=span * 24).reshape(span, 24)
    there = int(age[age >= 0].max(initial=-1)) + 1  # days of data, the oldest perhaps not whole
    usual = _usual_days(n, there - 1, days)
    rows = []
    phi = _overdispersion(n, usual, days)
    for place in range(days - 1, -1, -1):
        past = [other for other in range(place + 7, span, 7) if other >= days and usual[other]]
        said = end - pd.Timedelta(days=place + 1)
        for hour in range(24):
            row = {"day": said, "hour": hour, "n": int(n[place, hour])}
            if len(past) < 3:
                rows.append(row | {"note": "not applicable: fewer than three usual days of the same weekday before"})
                continue
            mean = float(n[past, hour].mean())
            row |= {"expected": mean, "z": _count_z(n[place, hour], mean, phi, len(past)), "note": ""}
            rows.append(row | _amounts(place, past, hour, n, total, squares))
    columns = ["day", "hour", "n", "expected", "z", "amount", "amount_usual", "amount_z", "note"]
    return pd.DataFrame(rows).reindex(columns=columns)


def _usual_days(n: np.ndarray, there: int, days: int) -> np.ndarray:
    """Return which days of the past are guides: whole, and of a volume near the median of their weekday."""
    whole = n.sum(axis=1)
    usual = np.zeros(len(n), dtype=bool)
    for weekday in range(7):
        same = np.arange(weekday, len(n), 7)
        same = same[(same >= days) & (same < there) & (whole[same] > 0)]
        if same.size:
            off = np.abs(np.log(whole[same] / np.median(whole[same])))
            usual[same[off <= MANY_LOG]] = True
    return usual


def _overdispersion(n: np.ndarray, usual: np.ndarray, days: int) -> float:
    """Return φ of variance = mean + φ mean², by moments over the hours of the week."""
    excess = square = 0.0
    for weekday in range(7):
        same = [day for day in range(weekday, len(n), 7) if day >= days and usual[day]]
        if len(same) >= 3:
            mean, spread = n[same].mean(axis=0), n[same].var(axis=0, ddof=1)
            excess += float((spread - mean).sum())
            square += float((mean**2 - spread / len(same)).sum())
    return max(excess / square, 0.0) if square > 0 else 0.0


def _count_z(count: float, mean: float, phi: float, weeks: int) -> float:
    """Return the z of a count, from the middle of its probability under a negative binomial law."""
    from scipy.stats import nbinom, norm, poisson

    mean = max(mean, 0.5 / weeks)
    variance = (mean + phi * mean**2) * (1 + 1 / weeks)
    wide = variance > mean * (1 + 1e-9)
    law = nbinom(mean**2 / (variance - mean), mean / variance) if wide else poisson(mean)
    below = law.cdf(count - 1) + law.pmf(count) / 2
    above = law.sf(count) + law.pmf(count) / 2
    return float(norm.isf(above)) if above < below else float(norm.ppf(max(below, 1e-300)))


def _amounts(
    place: int, past: list[int], hour: int, n: np.ndarray, total: np.ndarray, squares: np.ndarray
) -> dict[str, float]:
    """Return the typical amount of an hour, the usual one and how far apart they lie."""
    now, before = n[place, hour], n[past, hour].sum()
    if now < 5 or before < 10:
        return {}
    mean, usual = total[place, hour] / now, total[past, hour].sum() / before
    spread = np.sqrt(max(squares[past, hour].sum() / before - usual**2, 1e-12))
    return {
        "amount": float(np.exp(mean)),
        "amount_usual": float(np.exp(usual)),
        "amount_z": float((mean - usual) / (spread * np.sqrt(1 / now + 1 / before))),
    }
