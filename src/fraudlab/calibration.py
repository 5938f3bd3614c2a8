"""Calibration: from a score that ranks to a risk that means what it says, learnt on rows the model has not seen.

A calibrator takes the model's score, which is a probability corrected for drawn or class-weighted training rows
(`FittedModel.shift`), and learns what is still wrong with it. `calibration_errors` says how much that was.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, combinations
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.special import logit

from fraudlab.metrics import SMALLEST_CELL
from fraudlab.metrics.cases import risk_bins
from fraudlab.metrics.replicates import RISK_BINS
from fraudlab.models import (
    CALIBRATORS,
    BetaCalibrator,
    Calibrator,
    IsotonicCalibrator,
    SigmoidCalibrator,
    beta_terms,
    known_labels,
    log_odds,
)
from fraudlab.schema import InputError


def fit_calibrator(score: Any, y: Any, method: Literal["isotonic", "sigmoid", "beta"] = "isotonic") -> Calibrator:
    """Learn how often a score means fraud, from rows the model has not been fitted on.

    Parameters
    ----------
    score : float[n], the model's probability or rule score in [0, 1].
    y : bool[n], known labels with both classes.
    method : "isotonic" follows the data (needs some hundred frauds to be smooth); "sigmoid" has two parameters and
        bends the score's log-odds evenly; "beta" has three, bends low and high scores apart and can leave a score as it
        is.

    Returns
    -------
    A frozen calibrator. Its risk never falls when the score rises, and lies in [1/(n+2), 1-1/(n+2)].

    Raises
    ------
    InputError : unknown method, unknown labels, one class only, a score outside [0, 1], unequal lengths.

    Notes
    -----
    "sigmoid" and "beta" are the likeliest curves with slopes >= 0 for Platt's targets, (frauds + 1) / (frauds + 2) and
    1 / (genuine + 2) in place of 1 and 0, so that scores which part the classes still have a curve. A score that points
    the wrong way says nothing: everyone gets the base rate.

    References
    ----------
    Zadrozny and Elkan (2002), doi:10.1145/775047.775151; Platt (1999); Kull, Silva Filho and Flach (2017),
    doi:10.1214/17-EJS1338SI.

    >>> curve = fit_calibrator([0.1, 0.1, 0.1, 0.1, 0.9, 0.9], [0, 0, 0, 1, 1, 1])
    >>> curve.apply([0.0, 0.1, 0.5, 0.9]).tolist()
    [0.25, 0.25, 0.625, 0.875]
    """
    if method not in CALIBRATORS:
        raise InputError(f"method: must be one of {', '.join(CALIBRATORS)}; found '{method}'; choose one of them")
    known = known_labels(y, "calibration")
    score = np.asarray(score, dtype="float64")
    outside = int((~((score >= 0) & (score <= 1))).sum())
    if score.shape != known.shape or outside:
        raise InputError(
            f"calibration: needs one score in [0, 1] for each label; found {len(score):,} scores, {outside:,} of them "
            f"outside, for {len(known):,} labels; pass the model's score of these rows"
        )
    size = {"rows": len(known), "frauds": int(known.sum())}
    if method == "isotonic":
        from sklearn.isotonic import IsotonicRegression

        fitted = IsotonicRegression(out_of_bounds="clip").fit(score, known)
        return IsotonicCalibrator(tuple(fitted.X_thresholds_.tolist()), tuple(fitted.y_thresholds_.tolist()), **size)
    if method == "sigmoid":
        return SigmoidCalibrator(*_likeliest(log_odds(score)[:, None], known), **size)
    return BetaCalibrator(*_likeliest(beta_terms(score), known), **size)


def _likeliest(terms: np.ndarray, known: np.ndarray) -> tuple[float, ...]:
    """Return the slopes >= 0 of the terms and the intercept of the likeliest logistic curve for Platt's targets."""
    from sklearn.linear_model import LogisticRegression

    frauds, genuine = int(known.sum()), int((~known).sum())
    target = np.where(known, (frauds + 1) / (frauds + 2), 1 / (genuine + 2))
    # A target between 0 and 1 is a row in both classes, weighted by it.
    labels, weight = np.repeat([1, 0], len(known)), np.concatenate([target, 1 - target])
    scale = terms.std(axis=0)
    columns = np.flatnonzero(scale > 1e-9)  # a term that is the same for every row says nothing
    best, least = (0.0,) * len(scale) + (float(logit(target.mean())),), np.inf
    # The likelihood has one peak: if slopes are negative there, the best allowed curve lacks some of the terms.
    for chosen in chain.from_iterable(combinations(columns, size) for size in range(len(columns), 0, -1)):
        used = list(chosen)
        curve = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(
            np.tile(terms[:, used] / scale[used], (2, 1)), labels, sample_weight=weight
        )
        slopes, intercept = np.zeros(len(scale)), float(curve.intercept_[0])
        slopes[used] = curve.coef_[0] / scale[used]
        margin = terms @ slopes + intercept
        loss = float((np.logaddexp(0, margin) - target * margin).sum())
        if (slopes >= 0).all() and loss < least:
            best, least = (*slopes.tolist(), intercept), loss
            if len(used) == len(columns):
                break
    return best


def calibration_errors(
    y: Any, stages: Mapping[str, Any], *, entity: Any, model: str = "", n_boot: int = 200, seed: int = 0
) -> pd.DataFrame:
    """Say how wrong stated probabilities are before and after calibration, with intervals.

    Parameters
    ----------
    y : outcomes, shape (n,), 0/1.
    stages : name -> probabilities of the same rows, such as {"before": score, "after": risk}.
    entity : shape (n,); whose rows are drawn together.
    model : name put into the table.
    n_boot : bootstrap replicates over entities; every stage sees the same ones.
    seed : of the bootstrap.

    Returns
    -------
    A row per stage: metric ("calibration_error"), model, stage, value, low, high (95 % percentiles), n (rows), note.
    The value is that of `metrics.evaluate`: frauds misplaced per fraud, 1 for doubled risks. Chance only ever adds to
    it: the note says what a perfect risk would show, and the interval of a small error may lie above it.

    Raises
    ------
    InputError : no fraud; lengths differ.

    >>> table = calibration_errors([0, 0, 0, 1], {"before": [0.5] * 4, "after": [0.25] * 4}, entity=list("abcd"))
    >>> table[["stage", "value"]].values.tolist()
    [['before', 1.0], ['after', 0.0]]
    """
    outcome = np.asarray(y, dtype="float64")
    frauds = outcome.sum()
    sizes = {"y": len(outcome), "entity": len(entity)} | {name: len(risk) for name, risk in stages.items()}
    if not frauds or len(set(sizes.values())) > 1:
        said = ", ".join(f"{name} {size:,}" for name, size in sizes.items())
        raise InputError(
            f"calibration error: needs rows of equal number and at least one fraud; found {said} and {frauds:,.0f} "
            "frauds; pass the rows of one period with its known labels"
        )
    owner, names = pd.factorize(np.asarray(entity))
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=n_boot)
    found = drawn @ np.bincount(owner, weights=outcome, minlength=len(names))
    counted = f"{frauds:,.0f} frauds" if frauds >= SMALLEST_CELL else "so few frauds"
    note = f"a perfect risk shows about {2.5 / np.sqrt(frauds):.2f} by chance alone, with {counted}"
    rows = []
    for stage, risk in stages.items():
        risk = np.asarray(risk, dtype="float64")
        bins = risk_bins(risk, RISK_BINS)
        gap = np.zeros((len(names), bins.max() + 1))
        np.add.at(gap, (owner, bins), risk - outcome)
        replicates = np.abs(drawn @ gap).sum(axis=1)[found > 0] / found[found > 0]
        low, high = np.quantile(replicates, [0.025, 0.975]) if len(replicates) else (np.nan, np.nan)
        value = np.abs(gap.sum(axis=0)).sum() / frauds
        rows.append(("calibration_error", model, stage, value, low, high, len(outcome), note))
    return pd.DataFrame(rows, columns=["metric", "model", "stage", "value", "low", "high", "n", "note"])
