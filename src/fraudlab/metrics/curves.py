"""The tables that curves are drawn from: ROC, precision-recall, calibration."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from fraudlab.metrics.cases import labels, numbers, risk_bins, run_ends, same_length, whole
from fraudlab.schema import InputError

_Z95 = 1.959963984540054


def roc_table(y: Any, score: Any, model: str = "", max_points: int = 400) -> pd.DataFrame:
    """Tabulate the ROC curve: model, fpr, tpr, threshold, from "nothing flagged" (threshold inf) to "all flagged".

    Parameters
    ----------
    y, score : as in `evaluate`.
    model : name put into the table.
    max_points : at most so many rows, evenly spread along the curve; its ends are kept.

    Raises
    ------
    InputError : as in `evaluate`; there is only one class.

    >>> roc_table([1, 0], [0.9, 0.1])[["fpr", "tpr", "threshold"]].values.tolist()
    [[0.0, 0.0, inf], [0.0, 1.0, 0.9], [1.0, 1.0, 0.1]]
    """
    y, score = _two_classes(y, score, "roc_table")
    threshold, flagged_fraud, flagged = _staircase(y, score)
    fpr = np.concatenate([[0.0], (flagged - flagged_fraud) / (len(y) - y.sum())])
    tpr = np.concatenate([[0.0], flagged_fraud / y.sum()])
    keep = _spread(fpr + tpr, max_points)
    threshold = np.concatenate([[np.inf], threshold])
    return pd.DataFrame({"model": model, "fpr": fpr[keep], "tpr": tpr[keep], "threshold": threshold[keep]})


def pr_table(y: Any, score: Any, model: str = "", max_points: int = 400) -> pd.DataFrame:
    """Tabulate the precision-recall curve: model, recall, precision, threshold, from the highest score down.

    Parameters
    ----------
    y, score : as in `evaluate`.
    model : name put into the table.
    max_points : at most so many rows, evenly spread over the recall; its ends are kept.

    Raises
    ------
    InputError : as in `evaluate`; there is only one class.

    >>> pr_table([1, 0, 1], [0.9, 0.5, 0.1])[["recall", "precision"]].round(3).values.tolist()
    [[0.5, 1.0], [0.5, 0.5], [1.0, 0.667]]
    """
    y, score = _two_classes(y, score, "pr_table")
    threshold, flagged_fraud, flagged = _staircase(y, score)
    recall = flagged_fraud / y.sum()
    keep = _spread(recall, max_points)
    return pd.DataFrame(
        {
            "model": model,
            "recall": recall[keep],
            "precision": (flagged_fraud / flagged)[keep],
            "threshold": threshold[keep],
        }
    )


def calibration_table(y: Any, risk: Any, bins: int = 10, model: str = "", stage: str = "") -> pd.DataFrame:
    """Set predicted risk against the observed fraud rate, in bins that hold about equally many predicted frauds.

    Parameters
    ----------
    y : outcomes, shape (n,).
    risk : predicted probabilities in [0, 1], shape (n,).
    bins : how many at most; rows of equal risk stay together.
    model, stage : names put into the table, such as "xgboost", "calibrated".

    Returns
    -------
    DataFrame, a row per bin from low to high risk: model, stage, bin (from 1), n, mean_predicted, observed, low, high
    (95 % Wilson interval of the observed rate, as if rows were independent; rows of one customer are not).

    Raises
    ------
    InputError : as in `evaluate`; `bins` below 1.

    Notes
    -----
    Fraud is rare: bins of equally many rows would put nearly every fraud into the last one. Bins of equal predicted
    frauds spread the range where decisions are made.

    References
    ----------
    Wilson (1927), Probable inference, the law of succession, and statistical inference.
    doi:10.1080/01621459.1927.10502953

    >>> table = calibration_table([0, 0, 1, 1], [0.1, 0.1, 0.8, 0.8], bins=2)
    >>> table[["n", "mean_predicted", "observed"]].values.tolist()
    [[2.0, 0.1, 0.0], [2.0, 0.8, 1.0]]
    """
    y, risk = labels(y), numbers(risk, "risk", 0, 1)
    same_length(y=y, risk=risk)
    bins = whole(bins, "bins", 1)
    code = risk_bins(risk, bins)
    n = np.bincount(code)
    observed = np.bincount(code, weights=y) / n
    low, high = wilson(observed * n, n)
    return pd.DataFrame(
        {
            "model": model,
            "stage": stage,
            "bin": np.arange(1, len(n) + 1),
            "n": n,
            "mean_predicted": np.bincount(code, weights=risk) / n,
            "observed": observed,
            "low": low,
            "high": high,
        }
    )


def wilson(hits: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95 % Wilson interval of the rate `hits / n`; `n` must be positive.

    >>> [round(float(end), 3) for end in wilson(np.array(0), np.array(10))]
    [0.0, 0.278]
    """
    rate = hits / n
    centre = (rate + _Z95**2 / (2 * n)) / (1 + _Z95**2 / n)
    half = _Z95 / (1 + _Z95**2 / n) * np.sqrt(rate * (1 - rate) / n + _Z95**2 / (4 * n**2))
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def _staircase(y: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return distinct thresholds from high to low with the frauds and the rows flagged at each (score >= threshold)."""
    order = np.argsort(-score, kind="stable")
    ends = run_ends(score[order])
    return score[order][ends], np.cumsum(y[order])[ends], ends + 1.0


def _spread(along: np.ndarray, max_points: int) -> np.ndarray:
    """Return at most `max_points` positions, evenly spread over the non-decreasing `along`; the ends are kept."""
    max_points = whole(max_points, "max_points", 2)
    if len(along) <= max_points:
        return np.arange(len(along))
    inner = np.searchsorted(along, np.linspace(along[0], along[-1], max_points)[1:-1])
    return np.unique(np.concatenate([[0], inner, [len(along) - 1]]))


def _two_classes(y: Any, score: Any, where: str) -> tuple[np.ndarray, np.ndarray]:
    y, score = labels(y), numbers(score, "score")
    same_length(y=y, score=score)
    if y.all() or not y.any():
        raise InputError(
            f"{where}: needs frauds and genuine transactions; found {int(y.sum()):,} frauds of {len(y):,}; "
            "choose a test period with both"
        )
    return y, score
