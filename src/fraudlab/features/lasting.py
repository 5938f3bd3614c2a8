"""Will a feature last? Each one alone on a later period, and how far its values drift.

Both functions cut a feature's values into bins that are laid on the earlier rows only. Missing values have a bin of
their own, and so has a single value that fills a whole one, as the 0 of a flag does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from fraudlab.drift.distances import CHANGED, STABLE, bin_breaks, bin_codes, psi
from fraudlab.features.specs import parse_duration
from fraudlab.schema import InputError, utc

FINE_BINS = 20
"""Bins of a feature that is judged alone: fine enough for the tail, where frauds are."""

STRETCHES = 20
"""The first period is cut into so many stretches of time; every other one is judged by what the others teach."""

_Z95 = 1.959963984540054
_NOT = "not applicable"


def time_consistency(
    features: pd.DataFrame,
    y: Any,
    event_time: Any,
    *,
    split: Any = 0.5,
    entity: Any = None,
    min_frauds: int = 20,
) -> pd.DataFrame:
    """Let each feature alone learn fraud from the first period and say whether the last period still agrees.

    A feature that told frauds at first and later tells none, or turns round, teaches a model what will not hold. Use it
    on training rows, before training; never choose features by the test period. It looks at each feature alone, and one
    that is weak alone can be strong together with others: its answer is a reason to look, not to drop.

    Parameters
    ----------
    features : numbers, NaN = missing.
    y : labels of the same rows: true, false or missing. Rows without a label are left out.
    event_time : moments of the same rows, with a zone.
    split : the share of the labelled rows, in the order of time, that makes the first period; or the moment at which
        the last one begins.
    entity : whose rows belong together, such as the customer; None takes every row as independent, which makes
        intervals too narrow where frauds come in series.
    min_frauds : with fewer frauds, or fewer genuine rows, in either period nothing is said.

    Returns
    -------
    DataFrame, a row per feature in their order: feature, verdict, auc_first, low_first, high_first, auc_last, low_last,
    high_last (AUC ROC with 95 % intervals), n_first, frauds_first, n_last, frauds_last, note.

    - "lasts": the last interval lies above 0.5 and reaches the first one.
    - "fades": it lies wholly below the first one, which lies above 0.5: the feature tells less than it did.
    - "turns round": it even lies below 0.5: what meant fraud now means the opposite.
    - "not applicable": the note says why. AUCs are NaN only where there is none.

    Raises
    ------
    InputError : lengths differ, times have no zone, labels are no labels, the split leaves a period without rows.

    Notes
    -----
    The model of a feature is its fraud rate in about 20 bins of equally many rows of the first period. A rate is drawn
    towards the average, (frauds + 1) / (rows + 1 / average), so that a small bin does not lead by one fraud. The last
    period is scored with these rates. The first period is cut into 20 stretches of time, and each half of them, every
    other one, is scored with the rates of the other half.

    Intervals are normal, with the variance of the placement values, summed per entity; with one row per entity it is
    DeLong's. What chance did to bins and rates is not in them.

    References
    ----------
    DeLong, DeLong, Clarke-Pearson (1988), doi:10.2307/2531595; Obuchowski (1997), doi:10.2307/2533958, for entities.

    >>> hours = pd.Series(pd.date_range("2026-01-01", periods=400, freq="h", tz="UTC"))
    >>> fraud = np.arange(400) % 4 == 0
    >>> turned = np.where(np.arange(400) < 200, fraud, ~fraud)
    >>> table = time_consistency(pd.DataFrame({"same": fraud, "turned": turned, "flat": 1.0}), fraud, hours)
    >>> table[["feature", "verdict", "auc_first", "auc_last", "note"]].values.tolist()
    [['same', 'lasts', 1.0, 1.0, ''], ['turned', 'turns round', 1.0, 0.0, ''],
     ['flat', 'not applicable', nan, nan, 'not applicable: it has a single value in the first period']]
    """
    time = _times(features, event_time, "time_consistency")
    labels = _labels(y, len(features))
    if not isinstance(min_frauds, int) or min_frauds < 2:
        raise InputError(f"time_consistency: min_frauds must be a whole number >= 2; found {min_frauds!r}; take 20")
    order = np.argsort(time, kind="stable")
    order = order[labels[order] >= 0]
    begins = _split(time[order], split)
    fraud = labels[order] == 1
    group = np.arange(order.size) if entity is None else _groups(entity, len(features))[order]
    first, last = slice(0, begins), slice(begins, None)
    sizes = (begins, int(fraud[first].sum()), order.size - begins, int(fraud[last].sum()))
    least = min(sizes[1], sizes[0] - sizes[1], sizes[3], sizes[2] - sizes[3])
    half = np.arange(begins) * STRETCHES // begins % 2
    rows = []
    for name in features.columns:
        values = _numbers(features[name])
        told = (np.nan,) * 6
        if least < min_frauds:
            verdict, note = _NOT, f"{_NOT}: fewer than {min_frauds} frauds or genuine rows in one of the periods"
        elif values is None:
            verdict, note = _NOT, f"{_NOT}: it holds no numbers"
        elif _single(values := values[order], first):
            verdict, note = _NOT, f"{_NOT}: it has a single value in the first period"
        else:
            breaks = bin_breaks(values[first], FINE_BINS)
            code, bins = bin_codes(values, breaks), breaks.size + 2
            halves = [_rates(code[first][half != side], fraud[first][half != side], bins) for side in (0, 1)]
            at_first = _auc(np.stack(halves)[half, code[first]], fraud[first], group[first])
            at_last = _auc(_rates(code[first], fraud[first], bins)[code[last]], fraud[last], group[last])
            verdict, note = _lasting(at_first, at_last)
            told = (*at_first, *at_last)
        rows.append((name, verdict, *told, *sizes, note))
    columns = [f"{value}_{when}" for when in ("first", "last") for value in ("auc", "low", "high")]
    counts = [f"{value}_{when}" for when in ("first", "last") for value in ("n", "frauds")]
    return pd.DataFrame(rows, columns=["feature", "verdict", *columns, *counts, "note"])


def stability(
    features: pd.DataFrame,
    event_time: Any,
    *,
    period: str | int = "7d",
    bins: int = 10,
    reference: Any = None,
    min_rows: int = 500,
) -> pd.DataFrame:
    """Measure how far each feature's values have drifted from the first period: the population stability index.

    A feature whose values change is seen by the model where it has not learnt. Labels play no part, so drift shows at
    once, before any fraud is reported; whether it matters for finding fraud is another question (`time_consistency`).

    Parameters
    ----------
    features : numbers, NaN = missing.
    event_time : moments of the same rows, with a zone.
    period : the length of a period, such as "7d" (whole weeks keep the days of the week alike), or how many periods of
        equal length. The first begins at midnight, UTC, of the first day; the last may be shorter.
    bins : how many bins of equally many reference rows, at most.
    reference : the moment at which the reference ends and the periods begin; None takes the first period.
    min_rows : a period, or a reference, with fewer rows is "not applicable".

    Returns
    -------
    DataFrame, a row per feature and period after the reference: feature, period (from 1), start, end (not included), n,
    psi, reading, note (why "not applicable", else "").

    - "stable" below 0.10, "moved" up to 0.25, "changed" above: customary limits without a test behind them. PSI is NaN
      only where the reading is "not applicable".

    Raises
    ------
    InputError : lengths differ, times have no zone, an argument is out of range, nothing lies after the reference.

    Notes
    -----
    PSI = Σ (p - q) ln(p / q) over the bins, with the share p of the period's rows and q of the reference's. Bins are
    quantiles of the reference alone. Missing values have a bin; a value that fills a whole bin is a bin of its own. A
    bin that is empty on one side counts there as half a row; one that is empty on both counts nothing. Equal
    distributions give about (bins - 1)(1 / n + 1 / reference rows) by chance, 0.02 for ten bins and 1,000 rows each.

    References
    ----------
    Siddiqi (2006), Credit Risk Scorecards, for index and limits; Yurdakul and Naranjo (2020), Statistical properties of
    the population stability index, Journal of Risk Model Validation 14(4), for what chance alone gives.

    >>> hours = pd.Series(pd.date_range("2026-01-01", periods=48, freq="h", tz="UTC"))
    >>> flag = pd.DataFrame({"night": [0.0] * 18 + [1.0] * 6 + [0.0] * 12 + [1.0] * 12})
    >>> stability(flag, hours, period="1d", min_rows=20)[["feature", "n", "psi", "reading"]].round(4).values.tolist()
    [['night', 24, 0.2747, 'changed']]

    By hand: (1/2 - 3/4) ln(2/3) + (1/2 - 1/4) ln 2 = 0.1014 + 0.1733.
    """
    time = _times(features, event_time, "stability")
    if isinstance(bins, bool) or not isinstance(bins, int) or not 2 <= bins <= 100:
        raise InputError(f"stability: bins must be a whole number from 2 to 100; found {bins!r}; the default is 10")
    edges = _periods(time, period, reference)
    where = np.searchsorted(edges, time, side="right") - 1  # 0 is the reference
    n = np.bincount(where, minlength=edges.size - 1)
    said = pd.to_datetime(edges, unit="us", utc=True)
    rows = []
    for name in features.columns:
        values = _numbers(features[name])
        if values is not None:
            breaks = bin_breaks(values[where == 0], bins)
            cells = np.bincount(
                where * (breaks.size + 2) + bin_codes(values, breaks), minlength=n.size * (breaks.size + 2)
            )
            table = cells.reshape(n.size, -1)
        for number in range(1, n.size):
            index, note = np.nan, ""
            if values is None:
                note = f"{_NOT}: it holds no numbers"
            elif min(n[0], n[number]) < min_rows:
                note = f"{_NOT}: fewer than {min_rows} rows in the {'reference' if n[0] < min_rows else 'period'}"
            else:
                index = psi(table[0], table[number])
            reading = _NOT if note else "stable" if index < STABLE else "moved" if index <= CHANGED else "changed"
            rows.append((name, number, said[number], said[number + 1], n[number], index, reading, note))
    return pd.DataFrame(rows, columns=["feature", "period", "start", "end", "n", "psi", "reading", "note"])


def _times(features: Any, event_time: Any, where: str) -> np.ndarray:
    """Return the moments in microseconds."""
    if not isinstance(features, pd.DataFrame):
        raise InputError(f"{where}: features must be a DataFrame; found {type(features).__name__}; pass a table")
    times = pd.Series(event_time)
    if not isinstance(times.dtype, pd.DatetimeTZDtype) or times.hasnans:
        raise InputError(
            f"{where}: event_time must hold a moment with a time zone for every row; found type {times.dtype} with "
            f"{int(times.isna().sum()):,} missing; use pd.to_datetime(utc=True)"
        )
    if len(times) != len(features) or not len(times):
        raise InputError(
            f"{where}: event_time must have a moment for each row of features; found {len(times):,} for "
            f"{len(features):,} rows; pass both for the same transactions"
        )
    return times.dt.as_unit("us").astype("int64").to_numpy()


def _labels(y: Any, rows: int) -> np.ndarray:
    """Return 1 for fraud, 0 for genuine, -1 for not known."""
    try:
        labels = pd.array(y, dtype="boolean")
    except (TypeError, ValueError):
        raise InputError("time_consistency: y must be true, false or missing; found other values; map them") from None
    if len(labels) != rows:
        raise InputError(
            f"time_consistency: y must have a label for each row of features; found {len(labels):,} for {rows:,} rows; "
            "pass both for the same transactions"
        )
    return labels.to_numpy(dtype=np.int64, na_value=-1)


def _groups(entity: Any, rows: int) -> np.ndarray:
    if len(entity) != rows:
        raise InputError(
            f"time_consistency: entity must have a value for each row of features; found {len(entity):,} for {rows:,} "
            "rows; pass both for the same transactions"
        )
    return pd.factorize(pd.Series(entity), use_na_sentinel=False)[0]


def _split(time: np.ndarray, split: Any) -> int:
    """Return the position of the first row of the last period; rows of one moment stay together."""
    if isinstance(split, int | float) and not isinstance(split, bool):
        if not 0 < split < 1:
            raise InputError(
                f"time_consistency: split must lie between 0 and 1, or be a moment; found {split}; take 0.5"
            )
        moment = time[int(time.size * split)] if time.size else 0
    else:
        moment = utc(split, "time_consistency: split").value // 1000
    begins = int(np.searchsorted(time, moment))
    if not 0 < begins < time.size:
        raise InputError(
            f"time_consistency: split must leave labelled rows before and after it; found {begins:,} before and "
            f"{time.size - begins:,} after; choose a moment within the period"
        )
    return begins


def _periods(time: np.ndarray, period: str | int, reference: Any) -> np.ndarray:
    """Return the edges of reference and periods, microseconds; the last one lies after every row."""
    day = parse_duration("1d", "period")
    begin, end = int(time.min()) // day * day, int(time.max()) + 1
    if isinstance(period, int) and not isinstance(period, bool):
        if not 1 + (reference is None) <= period <= 1000:
            raise InputError(
                f"stability: period must be a length or 2 to 1000 periods; found {period}; write it like 7d"
            )
        width = None
    else:
        width = parse_duration(period, "stability: period")
    start = begin
    if reference is not None:
        start = utc(reference, "stability: reference").value // 1000
        if not begin < start < end:
            raise InputError(
                "stability: reference must end within the period; found it outside; choose a moment between"
            )
    if width is None:
        edges = np.linspace(start, end, period + 1).astype(np.int64)
    else:
        edges = np.arange(start, end + width, width)
    edges = edges if reference is None else np.concatenate([[begin], edges])
    if edges.size < 3:
        raise InputError(
            f"stability: there must be a period after the reference; found {edges.size - 1} in all; shorten period or "
            "pass more rows"
        )
    return edges


def _numbers(values: pd.Series) -> np.ndarray | None:
    if not pd.api.types.is_numeric_dtype(values.dtype):
        return None
    return values.to_numpy(dtype=np.float64, na_value=np.nan)


def _single(values: np.ndarray, rows: slice) -> bool:
    there = values[rows]
    known = there[~np.isnan(there)]
    return known.size == 0 or (known.size == there.size and known.min() == known.max())


def _rates(code: np.ndarray, fraud: np.ndarray, bins: int) -> np.ndarray:
    """Return the fraud rate of each bin, drawn towards the average; of an empty bin the average."""
    average = max(fraud.mean(), 1 / fraud.size)
    return (np.bincount(code, weights=fraud, minlength=bins) + 1) / (np.bincount(code, minlength=bins) + 1 / average)


def _auc(score: np.ndarray, fraud: np.ndarray, group: np.ndarray) -> tuple[float, float, float]:
    """Return AUC ROC and its 95 % interval from placement values summed per group, ties counting half."""
    level = np.unique(score, return_inverse=True)[1]
    bad, good = np.bincount(level, weights=fraud), np.bincount(level, weights=~fraud)
    below = (np.cumsum(good) - good / 2) / good.sum()
    above = (bad.sum() - np.cumsum(bad) + bad / 2) / bad.sum()
    auc = float((bad * below).sum() / bad.sum())
    off = np.where(fraud, (below[level] - auc) / bad.sum(), (above[level] - auc) / good.sum())
    groups = pd.factorize(group)[0]
    summed = np.bincount(groups, weights=off)
    half = _Z95 * float(np.sqrt((summed**2).sum() * summed.size / max(summed.size - 1, 1)))
    return auc, max(auc - half, 0.0), min(auc + half, 1.0)


def _lasting(at_first: tuple[float, float, float], at_last: tuple[float, float, float]) -> tuple[str, str]:
    """Return verdict and note from (AUC, low, high) of both periods."""
    told = at_first[1] > 0.5
    if told and at_last[2] < 0.5:
        return "turns round", ""
    if told and at_last[2] < at_first[1]:
        return "fades", ""
    if at_last[1] > 0.5:
        return "lasts", ""
    if told:
        return _NOT, f"{_NOT}: the last interval holds both 0.5 and what it was; more frauds would tell"
    return _NOT, f"{_NOT}: alone it does not tell fraud in either period"
