"""Why a figure changed: which features moved the score, and which segments moved a rate, by mix or by rate.

Both take a difference of means apart into parts that add up to it exactly. They say where a change sits, not why the
world changed; parts of features that vary together can be told apart by nobody.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from fraudlab.schema import InputError, require_columns

_Z95 = 1.959963984540054
WHOLE = "all"
SEGMENT_COLUMNS = [
    *("by", "segment", "share_reference", "share_current", "rate_reference", "rate_current"),
    *("mix", "rate", "total", "n_reference", "n_current"),
]


def contribution_shift(
    reference: pd.DataFrame, current: pd.DataFrame, entity_reference: Any, entity_current: Any
) -> pd.DataFrame:
    """Split the change of the mean log-odds into what each feature's contribution changed by.

    Parameters
    ----------
    reference, current : contributions of features to the log-odds (`fraudlab.explain.contributions`), a row per
        payment, the same columns; with the base among them or without it.
    entity_reference, entity_current : whose each payment is; intervals are over them.

    Returns
    -------
    DataFrame, the largest change first, then a row "all": feature, reference and current (mean contributions,
    log-odds), difference, low, high (95 %, normal, over entities), share (of the sum of absolute differences), n
    (current payments). The differences add up to that of "all", the change of the mean log-odds.

    Raises
    ------
    InputError : a feature is missing, lengths differ, no payment on one side.

    >>> before = pd.DataFrame({"amount": [0.0, 0.2], "hour": [0.1, 0.1]})
    >>> after = pd.DataFrame({"amount": [1.0, 1.2], "hour": [0.0, 0.2]})
    >>> contribution_shift(before, after, ["a", "b"], ["c", "d"])[["feature", "difference"]].round(2).values.tolist()
    [['amount', 1.0], ['hour', 0.0], ['all', 1.0]]
    """
    require_columns(current, reference.columns, where="contribution_shift")
    for side, table, entity in (("reference", reference, entity_reference), ("current", current, entity_current)):
        if len(table) != len(entity) or not len(table):
            raise InputError(
                f"contribution_shift: entity_{side} must have a value for each row; found {len(entity):,} for "
                f"{len(table):,} rows; pass both for the same payments"
            )
    names = list(reference.columns)
    values = [table[names].to_numpy(dtype=float) for table in (reference, current)]
    values = [np.column_stack([table, table.sum(axis=1)]) for table in values]
    means = [table.mean(axis=0) for table in values]
    variance = sum(
        _clustered(table, entity) for table, entity in zip(values, (entity_reference, entity_current), strict=True)
    )
    difference = means[1] - means[0]
    half = _Z95 * np.sqrt(variance)
    moved = np.abs(difference[:-1]).sum()
    table = pd.DataFrame(
        {
            "feature": [*names, WHOLE],
            "reference": means[0],
            "current": means[1],
            "difference": difference,
            "low": difference - half,
            "high": difference + half,
            "share": np.append(np.abs(difference[:-1]) / moved if moved else np.zeros(len(names)), 1.0),
            "n": len(current),
        }
    )
    order = np.argsort(-np.abs(difference[:-1]), kind="stable")
    return table.iloc[[*order, len(names)]].reset_index(drop=True)


def _clustered(values: np.ndarray, entity: Any) -> np.ndarray:
    """Return the variance of the means, residuals summed per entity first."""
    code = pd.factorize(pd.Series(np.asarray(entity)), use_na_sentinel=False)[0]
    off = pd.DataFrame(values - values.mean(axis=0)).groupby(code).sum().to_numpy()
    groups = len(off)
    return (off**2).sum(axis=0) / len(values) ** 2 * groups / max(groups - 1, 1)


def segment_change(by: str, reference: pd.DataFrame, current: pd.DataFrame) -> pd.DataFrame:
    """Split the change of a rate over segments into a part by mix and a part by rate.

    Parameters
    ----------
    by : what the segments are segments of, such as "channel".
    reference, current : segment (a label), value (0 or 1, or a number: what the rate is the mean of); a row per
        payment.

    Returns
    -------
    DataFrame, the largest total first: by, segment, share_reference, share_current (of the payments), rate_reference,
    rate_current, mix, rate, total, n_reference, n_current. mix = change of share x (mean of both rates less the overall
    mean rate), rate = change of rate x mean of both shares, total their sum: totals add up to the change of the overall
    rate. A segment that one side lacks has the rate of the other there, so that all of its part is mix.

    Raises
    ------
    InputError : no payment on one side.

    References
    ----------
    Kitagawa (1955), Components of a difference between two rates, doi:10.1080/01621459.1955.10501299.

    >>> before = pd.DataFrame({"segment": ["pos"] * 8 + ["online"] * 2, "value": [0] * 8 + [1, 0]})
    >>> after = pd.DataFrame({"segment": ["pos"] * 5 + ["online"] * 5, "value": [0] * 5 + [1, 1, 1, 0, 0]})
    >>> table = segment_change("channel", before, after)
    >>> table[["segment", "mix", "rate"]].round(4).values.tolist(), round(float(table["total"].sum()), 4)
    ([['online', 0.105, 0.035], ['pos', 0.06, 0.0]], 0.2)
    """
    for side, table in (("reference", reference), ("current", current)):
        require_columns(table, ["segment", "value"], where="segment_change")
        if table.empty:
            raise InputError(f"segment_change: {side} must hold payments; found none; choose a longer period")
    sides = []
    for table in (reference, current):
        label = table["segment"].astype("str").where(table["segment"].notna(), "missing")
        sides.append(table["value"].astype(float).groupby(label.to_numpy()).agg(["size", "mean"]))
    names = sides[0].index.union(sides[1].index)
    n = [side["size"].reindex(names, fill_value=0).to_numpy(dtype=float) for side in sides]
    rate = [side["mean"].reindex(names).to_numpy(dtype=float) for side in sides]
    rate = [np.where(np.isnan(rate[0]), rate[1], rate[0]), np.where(np.isnan(rate[1]), rate[0], rate[1])]
    share = [count / count.sum() for count in n]
    overall = [float((share[side] * rate[side]).sum()) for side in (0, 1)]
    middle = (rate[0] + rate[1]) / 2
    mix = (share[1] - share[0]) * (middle - sum(overall) / 2)
    moved = (rate[1] - rate[0]) * (share[0] + share[1]) / 2
    table = pd.DataFrame(
        {
            "by": by,
            "segment": names,
            "share_reference": share[0],
            "share_current": share[1],
            "rate_reference": rate[0],
            "rate_current": rate[1],
            "mix": mix,
            "rate": moved,
            "total": mix + moved,
            "n_reference": n[0].astype(np.int64),
            "n_current": n[1].astype(np.int64),
        }
    )
    order = np.lexsort((table["segment"], -table["total"].abs().round(12)))
    return table.iloc[order].reset_index(drop=True)
