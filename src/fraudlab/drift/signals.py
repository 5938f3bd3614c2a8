"""Each day of payments as a row of charts: what is counted, what is usual, how far off it is, whether that is an alarm.

A day is held against the same weekdays of the six weeks before it, so that weekends are no news, and every chart is
scaled by how it wandered over the four weeks before, so that customers who come back and payments that come in bursts
are allowed for without a model of them. Labels are needed by two groups of charts alone, "fraud history"
and "labels"; all others see a change on its first day, whether or not anybody has reported a fraud.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from fraudlab.drift.charts import WEEKS, cusum
from fraudlab.drift.distances import bins_of
from fraudlab.schema import BY_NAME, InputError, require_columns

GROUPS: dict[str, str] = {
    "volume": "how many payments there are",
    "feed": "what the columns of the payments hold",
    "amount": "how much is paid",
    "customers": "who pays and where: new customers, merchants and devices",
    "features": "what the model reads of payments",
    "fraud history": "what the model reads of frauds known by then",
    "score": "what the model says and who is alerted",
    "labels": "frauds that were reported soon and had not been alerted",
}
"""Groups of charts and what they watch; each has limits of its own."""

USUAL_DAYS = 28
"""The spread of a chart is that of so many days before."""
LEAST_DAYS = 14
FEW = 50
"""A day of fewer payments is not judged."""
ALLOWANCE = 1.0
"""What a day may be off, in standard deviations, before a cumulative sum grows."""
QUIET_DAYS = 7
"""A chart that has alarmed is not heard again for so many days: it is one alarm."""
NEW_DAYS = 30
SOON_DAYS = 7
"""Frauds reported later tell of weeks ago; those of the last days are told by quick reports."""
RARE = 0.005
BINS = 10

COLUMNS = ["day", "group", "signal", "value", "usual", "z", "sum", "n", "what"]

LIMITS: dict[str, tuple[float, float]] = {
    "volume": (3.1, 3.1),
    "feed": (4.2, 4.5),
    "amount": (4.7, 4.3),
    "customers": (4.4, 12.7),
    "features": (9.1, 15.3),
    "fraud history": (5.6, 22.7),
    "score": (5.3, 31.4),
    "labels": (2.5, 3.6),
}
"""Limits of each group: |z| of one day, and the cumulative sum; set by benchmarks/monitoring.py on 50 calm streams."""


def daily_signals(
    payments: pd.DataFrame,
    features: pd.DataFrame,
    score: Any,
    *,
    review: float,
    step_up: float,
    begin: pd.Timestamp,
    until: pd.Timestamp,
    from_labels: Collection[str] = (),
) -> pd.DataFrame:
    """Turn payments, their features and scores into charts day by day.

    Parameters
    ----------
    payments : canonical transactions in the order of time: event_time, customer_id, amount and whatever else is there.
        Ids count as missing, or as never seen before; their values are not compared. `is_fraud` and `label_time`, where
        there, are read by the group "labels" alone, as they became known.
    features : what the model reads of the same rows.
    score : the model's, of the same rows.
    review, step_up : scores from which on payments are reviewed and stepped up.
    begin : bins are laid on the payments before this moment, such as the end of what the model learnt from.
    until : midnight (UTC) after the last whole day.
    from_labels : columns of `features` that count known frauds (`FeatureSet.from_labels`).

    Returns
    -------
    DataFrame, a row per day, group and signal: day, group (see `GROUPS`), signal, value and usual (of this day and of
    the weekdays before: a share, a mean, a count, or the stability index and what chance gives), z (standard
    deviations; of indices upwards only), sum (the larger of the two cumulative sums), n (payments of the day), what
    (which bin of an index moved most: "missing", "new values", "low values" ...). z is NaN on days without the history
    it needs (five weeks) or with fewer than 50 payments.

    Raises
    ------
    InputError : a required column is missing, lengths differ, nothing lies before `begin`.

    Notes
    -----
    Indices: the day's PSI against the same weekdays of six weeks before, times 1 / (1/n + 1/m), is about chi-square
    with bins - 1 degrees of freedom by chance (Yurdakul and Naranjo 2020); it is divided by the median of what it was
    in the 28 days before over its own, where above 1, and made normal by Wilson and Hilferty's cube root. Shares: the
    difference of arcsine roots (the variance does not depend on the share), means: over their standard error; both
    divided by the robust spread of the 28 days before, where above 1. Volume: the logarithm against the weekday's
    median. Sums grow by what a day is off beyond 1 (`ALLOWANCE`), at most by 3.

    References
    ----------
    Wilson and Hilferty (1931), The distribution of chi-square, doi:10.1073/pnas.17.12.684.
    """
    require_columns(payments, ["event_time", "customer_id", "amount"], where="drift")
    value = np.asarray(score, dtype=float)
    if not len(payments) == len(features) == value.size:
        raise InputError(
            f"drift: features and scores must have a row for each payment; found {len(features):,} and {value.size:,} "
            f"for {len(payments):,} payments; pass all for the same payments"
        )
    time = payments["event_time"]
    inside = (time < until).to_numpy()
    if not (inside & (time < begin).to_numpy()).any():
        raise InputError("drift: bins need payments before the moment they end at; found none; choose a later moment")
    payments, features = payments[inside].reset_index(drop=True), features[inside].reset_index(drop=True)
    value, time = value[inside], payments["event_time"]
    days = pd.date_range(time.iloc[0].floor("D"), until - pd.Timedelta(days=1), freq="D")
    day = ((time.dt.floor("D") - days[0]) // pd.Timedelta(days=1)).to_numpy(dtype=np.int64)
    n = np.bincount(day, minlength=len(days)).astype(float)
    charts = [("volume", "payments", *_volume(n))]
    known = time < begin
    for group, frame in (
        ("feed", raw_columns(payments)),
        ("features", features),
        ("score", pd.DataFrame({"score": value})),
    ):
        for name in frame.columns:
            where = "amount" if (group, name) == ("feed", "amount") else group
            where = "fraud history" if name in from_labels and group == "features" else where
            charts.append((where, f"distribution of {name}", *_index(frame[name], known, day, n)))
    amount = np.maximum(payments["amount"].to_numpy(dtype=float), 0.01)
    charts.append(("amount", "mean logarithm of the amount", *_mean(np.log(amount), day, n)))
    least, most = np.quantile(amount[known], [RARE, 1 - RARE])
    charts.append(("amount", "payments larger than 199 in 200 were", *_share(amount > most, day, n)))
    charts.append(("amount", "payments smaller than 199 in 200 were", *_share(amount < least, day, n)))
    for signal, flag in _newcomers(payments).items():
        charts.append(("customers", signal, *_share(flag, day, n)))
    case_day, best = _cases(payments["customer_id"], day, value)
    cases = np.bincount(case_day, minlength=n.size).astype(float)
    for signal, threshold in (("review", review), ("step-up", step_up)):
        signal = f"customers of the day at or above the {signal} threshold"
        charts.append(("score", signal, *_share(best >= threshold, case_day, cases)))
    if {"is_fraud", "label_time"} <= set(payments.columns):
        signal = f"victims reported within {SOON_DAYS} days, not alerted"
        charts.append(("labels", signal, *_missed(payments, value < review, days)))
    return _table(charts, days, n)


def _table(charts: list[tuple[Any, ...]], days: pd.DatetimeIndex, n: np.ndarray) -> pd.DataFrame:
    tables = []
    for group, signal, value, usual, z, what in charts:
        z = np.where(n < FEW, np.nan, z)
        up, down = cusum(z, ALLOWANCE)
        columns = {"day": days, "group": group, "signal": signal, "value": value, "usual": usual, "z": z}
        tables.append(pd.DataFrame(columns | {"sum": np.maximum(up, down), "n": n.astype(np.int64), "what": what}))
    return pd.concat(tables, ignore_index=True)[COLUMNS]


def raw_columns(payments: pd.DataFrame) -> pd.DataFrame:
    """Return the columns whose values can be compared: numbers and texts, no ids, no labels, no moments.

    >>> raw_columns(pd.DataFrame({"customer_id": ["c"], "amount": [1.0], "country": ["DE"]})).columns.tolist()
    ['amount', 'country']
    """
    left_out = {"is_fraud", "label_time", "event_time", "transaction_id", "fraud_scenario"}
    names = [
        name
        for name in payments.columns
        if name not in left_out
        and not (name in BY_NAME and BY_NAME[name].kind == "id")
        and not pd.api.types.is_datetime64_any_dtype(payments[name].dtype)
    ]
    return payments[names]


def _past(values: np.ndarray) -> np.ndarray:
    """Return the sums over the same weekdays of the weeks before, NaN with fewer than three of them."""
    total, seen = np.zeros(values.shape), np.zeros(len(values))
    for week in range(1, WEEKS + 1):
        total[7 * week :] += values[: len(values) - 7 * week]
        seen[7 * week :] += 1
    total[seen < 3] = np.nan
    return total


def _spread(off: np.ndarray, *, centre: bool) -> np.ndarray:
    """Return the robust spread of a series over the days before each; NaN with fewer than two weeks of them."""
    before = np.concatenate([np.full(USUAL_DAYS, np.nan), off[:-1]])
    windows = np.sort(
        np.lib.stride_tricks.sliding_window_view(np.abs(before) if centre else before, USUAL_DAYS), axis=1
    )
    there = (~np.isnan(windows)).sum(axis=1)  # those missing are sorted to the end
    rows = np.arange(off.size)
    middle = (windows[rows, (there - 1) // 2] + windows[rows, there // 2]) / 2
    return np.where(there >= LEAST_DAYS, (1.4826 if centre else 1.0) * middle, np.nan)


def _volume(n: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    usual = np.full(n.size, np.nan)
    for day in range(n.size):
        same = n[day % 7 : day : 7][-WEEKS:] if day >= 7 else n[:0]
        if same.size >= 3:
            usual[day] = np.median(same)
    with np.errstate(divide="ignore", invalid="ignore"):
        off = np.log(np.maximum(n, 0.5) / usual)
        least = np.sqrt(1 / usual + 1 / (WEEKS * usual))
    return n, usual, off / np.maximum(_spread(off, centre=True), least), ""


def _index(
    values: pd.Series, known: pd.Series, day: np.ndarray, n: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    (_, code), size, new, kind = bins_of(values[known], values, bins=BINS)
    cells = np.bincount(day * size + code, minlength=n.size * size).reshape(n.size, size).astype(float)
    past = _past(cells)
    m = past.sum(axis=1)
    there = (cells > 0) | (past > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(there, np.maximum(cells, 0.5) / n[:, None], 1.0)
        q = np.where(there, np.maximum(past, 0.5) / m[:, None], 1.0)
        terms = (p - q) * np.log(p / q)
        index, unit = terms.sum(axis=1), 1 / n + 1 / m
        freedom = np.maximum(there.sum(axis=1) - 1, 1).astype(float)
        off = index / unit / freedom  # 1 by chance
        usual_off = (1 - 2 / (9 * freedom)) ** 3  # the median of a chi-square over its degrees of freedom
        wander = _spread(off / usual_off, centre=False)
        effect = np.fmax(wander, 1.0)
        z = (np.cbrt(off / effect) - (1 - 2 / (9 * freedom))) / np.sqrt(2 / (9 * freedom))
        z = np.where((n > 0) & ~np.isnan(wander), z, np.nan)
    z = np.where(np.isfinite(z), np.maximum(z, 0), np.nan)
    worst = np.where(np.isnan(terms), -1, terms).argmax(axis=1)
    told = [_bin_name(number, size, new, kind) for number in range(size)]
    return index, effect * freedom * unit, z, [told[number] for number in worst]


def _bin_name(number: int, size: int, new: int, kind: str) -> str:
    """Return what a bin of an index is called; category values are not named, they may be anything."""
    if number == size - 1:
        return "missing values"
    if kind == "category":
        return "new values" if number == new else "rare values" if number == new - 1 else "one value more or less often"
    if size <= 3:
        return "values"
    third = 3 * number // (size - 1)
    return ("low values", "middle values", "high values")[third]


def _share(flag: np.ndarray, day: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    hits = np.bincount(day, weights=flag.astype(float), minlength=n.size)
    past, m = _past(hits), _past(n)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Anscombe's small shift keeps shares of 0 apart from each other.
        now, usual = (np.arcsin(np.sqrt((x + 0.375) / (size + 0.75))) for x, size in ((hits, n), (past, m)))
        off = 2 * (now - usual) / np.sqrt(1 / n + 1 / m)
    return hits / np.maximum(n, 1), past / m, off / np.maximum(_spread(off, centre=True), 1.0), ""


def _mean(values: np.ndarray, day: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    known = ~np.isnan(values)
    there = np.where(known, values, 0.0)
    size = np.bincount(day, weights=known, minlength=n.size)
    sums = np.bincount(day, weights=there, minlength=n.size)
    squares = np.bincount(day, weights=there**2, minlength=n.size)
    m, total, square = _past(size), _past(sums), _past(squares)
    with np.errstate(divide="ignore", invalid="ignore"):
        now, usual = sums / size, total / m
        spread = np.sqrt(np.maximum(square / m - usual**2, 1e-12))
        off = (now - usual) / (spread * np.sqrt(1 / size + 1 / m))
    return now, usual, off / np.maximum(_spread(off, centre=True), 1.0), ""


def _newcomers(payments: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return flags of payments by new customers, and at merchants and devices never seen before, as far as known."""
    time, who = payments["event_time"], payments["customer_id"]
    first = time.groupby(who.to_numpy()).transform("min")
    flags = {"payments of customers of less than 30 days": (time - first < pd.Timedelta(days=NEW_DAYS)).to_numpy()}
    flags["first payments of customers"] = ~who.duplicated().to_numpy()
    for name in payments.columns:
        if name in BY_NAME and BY_NAME[name].kind == "id" and name not in ("transaction_id", "customer_id", "card_id"):
            gone = payments[name].isna().to_numpy()
            flags[f"payments with a {name.replace('_id', '')} never seen before"] = (
                ~payments[name].duplicated().to_numpy() & ~gone
            )
            if gone.any():
                flags[f"payments without a {name.replace('_id', '')}"] = gone
    return flags


def _cases(customer: pd.Series, day: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the day and the best score of each customer's day: a burst on one card is one case."""
    who = pd.factorize(customer)[0].astype(np.int64)
    best = pd.Series(score).groupby(day * (who.max() + 1) + who).max()
    return (best.index.to_numpy() // (who.max() + 1)).astype(np.int64), best.to_numpy()


def _missed(
    payments: pd.DataFrame, below: np.ndarray, days: pd.DatetimeIndex
) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Count, on the day they became known, victims whose payments were not alerted; against the four weeks before."""
    soon = payments["label_time"] - payments["event_time"] <= pd.Timedelta(days=SOON_DAYS)
    fraud = payments["is_fraud"].fillna(False).to_numpy(dtype=bool) & below & soon.fillna(False).to_numpy(dtype=bool)
    found = payments.loc[fraud, ["customer_id", "label_time"]]
    on = ((found["label_time"].dt.floor("D") - days[0]) // pd.Timedelta(days=1)).to_numpy(dtype=np.int64)
    victims = pd.DataFrame({"who": found["customer_id"].to_numpy(), "on": on}).drop_duplicates()
    victims = victims[victims["on"] < days.size]
    hits = np.bincount(victims["on"], minlength=days.size).astype(float)
    total = np.concatenate([[0.0], np.cumsum(hits)])
    start = np.maximum(np.arange(days.size) - USUAL_DAYS, 0)
    seen = np.arange(days.size) - start
    usual = np.where(seen >= LEAST_DAYS, (total[np.arange(days.size)] - total[start]) / np.maximum(seen, 1), np.nan)
    with np.errstate(invalid="ignore"):
        # Square roots of counts have a standard deviation of one half, whatever the mean.
        off = 2 * (np.sqrt(hits + 0.375) - np.sqrt(usual + 0.375)) / np.sqrt(1 + 1 / np.maximum(seen, 1))
    return hits, usual, off / np.maximum(_spread(off, centre=True), 1.0), ""


def alarms(signals: pd.DataFrame, limits: Mapping[str, tuple[float, float]] = LIMITS) -> pd.DataFrame:
    """Return the alarms that charts give: the first day each crosses a limit, and again after a week at the earliest.

    Parameters
    ----------
    signals : from `daily_signals`.
    limits : group -> (limit of |z| on one day, limit of the cumulative sum).

    Returns
    -------
    DataFrame, a row per alarm in the order of days: day, group, signal, kind ("one day" or "lasting"), value, usual, z,
    sum, what. A cumulative sum that stays above its limit alarms once, until it has been below again.

    >>> day = pd.date_range("2026-01-01", periods=3, freq="D", tz="UTC")
    >>> table = pd.DataFrame({"day": day, "group": "volume", "signal": "payments", "value": [9, 1, 1], "usual": 9.0,
    ...                       "z": [0.0, -9.0, -9.0], "sum": [0.0, 3.0, 6.0], "n": 9, "what": ""})
    >>> alarms(table)[["day", "kind", "z"]].astype(str).values.tolist()
    [['2026-01-02 00:00:00+00:00', 'one day', '-9.0']]
    """
    found = []
    for (group, _), chart in signals.groupby(["group", "signal"], sort=False):
        sharp, lasting = limits[str(group)]
        z, total = chart["z"].abs().to_numpy(), chart["sum"].to_numpy()
        over = total >= lasting
        fresh = over & ~np.concatenate([[False], over[:-1]])
        last = -QUIET_DAYS
        for place in np.flatnonzero((z >= sharp) | fresh):
            if place - last >= QUIET_DAYS:
                found.append((chart.index[place], "one day" if z[place] >= sharp else "lasting"))
                last = place
    columns = ["day", "group", "signal", "kind", "value", "usual", "z", "sum", "what"]
    if not found:
        return pd.DataFrame(columns=columns)
    where, kinds = zip(*found)
    table = signals.loc[list(where)].assign(kind=list(kinds))[columns]
    return table.sort_values(["day", "group", "signal"], kind="stable", ignore_index=True)


def episodes(table: pd.DataFrame, quiet_days: int = QUIET_DAYS) -> pd.DataFrame:
    """Join alarms of all charts that follow each other closely: what a person is called for once.

    Parameters
    ----------
    table : from `alarms`.
    quiet_days : alarms within so many days of the first one belong to it.

    Returns
    -------
    DataFrame, a row per episode: day (the first), groups (names, comma-separated), signals (how many charts).

    >>> day = pd.to_datetime(["2026-01-01", "2026-01-03", "2026-01-09"], utc=True)
    >>> table = pd.DataFrame({"day": day, "group": ["feed", "score", "feed"], "signal": list("abc")})
    >>> episodes(table)["signals"].tolist()
    [2, 1]
    """
    rows: list[dict[str, Any]] = []
    for day, group in zip(table["day"], table["group"]):
        if not rows or day - rows[-1]["day"] >= pd.Timedelta(days=quiet_days):
            rows.append({"day": day, "groups": [], "signals": 0})
        rows[-1]["signals"] += 1
        if group not in rows[-1]["groups"]:
            rows[-1]["groups"].append(group)
    told = [row | {"groups": ", ".join(row["groups"])} for row in rows]
    return pd.DataFrame(told, columns=["day", "groups", "signals"])


def limits_from(
    stable: Iterable[pd.DataFrame], since: int = 0, *, spare: Mapping[str, int] | int = 0
) -> dict[str, tuple[float, float]]:
    """Return limits from charts of streams in which nothing changed: the largest values that they reached.

    Parameters
    ----------
    stable : tables of `daily_signals`, one per stream; other streams than those the limits are judged on.
    since : days from this number on count, from 0; the charts need the ones before.
    spare : leave out so many of the largest per limit, or by group; each that is left out brings about one alarm more
        in all these streams together.

    Returns
    -------
    Group -> (limit of |z|, limit of the sum), rounded up to a tenth.
    """
    tops: dict[str, list[tuple[float, float]]] = {name: [] for name in GROUPS}
    for table in stable:
        late = table[table["day"] >= table["day"].min() + pd.Timedelta(days=since)]
        for group, rows in late.groupby("group", sort=False):
            tops[str(group)].append((rows["z"].abs().max(), rows["sum"].max()))
    told = {}
    for group, values in tops.items():
        if values:
            ranked = np.sort(np.asarray(values, dtype=float), axis=0)[::-1]
            left_out = spare if isinstance(spare, int) else spare.get(group, 0)
            z, total = np.ceil(ranked[min(left_out, len(ranked) - 1)] * 10 + 1e-9) / 10
            told[group] = (float(z), float(total))
    return told
