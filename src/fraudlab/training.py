"""Fit a fraud model and its baselines on one temporal fold and calibrate them.

Boosted trees (the candidate), a logistic regression and a rule baseline that a person can read aloud. Everything
estimated (trees, medians, scales, quantiles, points) comes from the training rows; validation rows only stop the
boosting and calibrate.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import xgboost as xgb
from scipy.special import logit

from fraudlab.config import ModelConfig
from fraudlab.models import (
    CALIBRATORS,
    Calibrator,
    FittedModel,
    IsotonicCalibrator,
    Logistic,
    Rule,
    RuleBaseline,
    SigmoidCalibrator,
    Trees,
    feature_matrix,
    load_model,
    log_odds,
    save_model,
    with_indicators,
)
from fraudlab.schema import InputError, did_you_mean

if TYPE_CHECKING:
    from fraudlab.splits import Fold

__all__ = [
    "Calibrator",
    "FittedModel",
    "fit_calibrator",
    "fit_estimator",
    "fit_fold",
    "fit_models",
    "fit_rules",
    "load_model",
    "save_model",
]

MIN_VALID_FRAUDS = 10
RULE_KINDS = ("ratio", "count", "speed", "flag", "share", "amount")
RULE_QUANTILES = (0.95, 0.99, 0.999)
MAX_RULES, MAX_RULES_PER_GROUP, MIN_FRAUDS_PER_RULE = 10, 2, 3


def _labels(y: Any, where: str, *, min_positives: int = 1) -> np.ndarray:
    labels = pd.array(y, dtype="boolean")
    if unknown := int(labels.isna().sum()):
        raise InputError(
            f"{where}: labels must be known; found {unknown:,} unknown of {len(labels):,} rows; "
            "leave out rows whose is_fraud is missing"
        )
    known = labels.to_numpy(dtype=bool)
    frauds = int(known.sum())
    if frauds < min_positives or frauds == len(known):
        raise InputError(
            f"{where}: must hold at least {min_positives:,} frauds and one genuine row; found {frauds:,} frauds in "
            f"{len(known):,} rows; lengthen the period or move it"
        )
    return known


def fit_calibrator(score: Any, y: Any, method: Literal["isotonic", "sigmoid"] = "isotonic") -> Calibrator:
    """Learn how often a score means fraud, from rows the model has not been fitted on.

    Parameters
    ----------
    score : float[n], the model's probability or rule score in [0, 1].
    y : bool[n], known labels with both classes.
    method : "isotonic" follows the data (needs some hundred frauds to be smooth); "sigmoid" has two parameters.

    Returns
    -------
    A frozen calibrator. Its risk never falls when the score rises, and lies in [1/(n+2), 1-1/(n+2)].

    Raises
    ------
    InputError : unknown method, unknown labels, one class only, a score outside [0, 1], unequal lengths.

    References
    ----------
    Zadrozny and Elkan (2002), doi:10.1145/775047.775151; Platt (1999), with his smoothed targets.

    >>> curve = fit_calibrator([0.1, 0.1, 0.1, 0.1, 0.9, 0.9], [0, 0, 0, 1, 1, 1])
    >>> curve.apply([0.0, 0.1, 0.5, 0.9]).tolist()
    [0.25, 0.25, 0.625, 0.875]
    """
    if method not in CALIBRATORS:
        raise InputError(f"method: must be one of {', '.join(CALIBRATORS)}; found '{method}'; choose one of them")
    known = _labels(y, "calibration")
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
    from sklearn.linear_model import LogisticRegression

    # Platt's targets (frauds + 1) / (frauds + 2) and 1 / (genuine + 2), as a weighted copy of every row in each class.
    frauds, genuine = size["frauds"], size["rows"] - size["frauds"]
    target = np.where(known, (frauds + 1) / (frauds + 2), 1 / (genuine + 2))
    odds = log_odds(score)
    curve = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(
        np.tile(odds, 2)[:, None], np.repeat([1, 0], len(odds)), sample_weight=np.concatenate([target, 1 - target])
    )
    slope, intercept = float(curve.coef_[0, 0]), float(curve.intercept_[0])
    if slope < 0:  # a score that points the wrong way says nothing: everyone gets the base rate
        slope, intercept = 0.0, float(logit(target.mean()))
    return SigmoidCalibrator(slope, intercept, **size)


# -- fitting -------------------------------------------------------------------------------------------------------


def fit_estimator(
    X: pd.DataFrame,
    y: Any,
    *,
    model: ModelConfig,
    seed: int,
    X_valid: pd.DataFrame | None = None,
    y_valid: Any = None,
    threads: int = 0,
) -> FittedModel:
    """Fit trees or a logistic regression on training rows; no calibration yet.

    Parameters
    ----------
    X, y : training features (numbers, NaN = missing) and known labels of the same rows.
    model : the settings; `model.kind` says which model.
    seed : for row and column sampling. Same rows, settings and seed give the same bits, whatever `threads` is.
    X_valid, y_valid : a later period that stops the boosting when average precision no longer rises; the trees after
        the best round are cut off. Without it, or with `early_stopping_rounds = 0`, all trees are kept.
    threads : threads for boosting; 0 uses all cores. Use 1 for several small fits at once.

    Returns
    -------
    A model whose facts say rows, frauds, trees, best_iteration, seed and parameters, and seconds, which are not saved.

    Raises
    ------
    InputError : bad features (see `feature_matrix`), unknown labels, one class only.

    >>> X = pd.DataFrame({"amount": [10.0, 12.0, 11.0, 900.0]})
    >>> model = fit_estimator(X, [0, 0, 0, 1], model=ModelConfig(kind="logistic"), seed=0)
    >>> int(model.score(X).argmax())
    3
    """
    features = tuple(str(name) for name in X.columns)
    values, known = feature_matrix(X, features, where="training"), _labels(y, "training")
    _same_length(values, known, "training")
    began = time.perf_counter()
    if model.kind == "xgboost":
        valid = None
        if X_valid is not None and model.early_stopping_rounds:
            valid = feature_matrix(X_valid, features, where="validation"), _labels(y_valid, "validation")
            _same_length(*valid, "validation")
        estimator, found = _fit_trees(values, known, features, model, seed, valid, threads)
    else:
        estimator, found = _fit_logistic(values, known)
    facts = {"rows": len(known), "frauds": int(known.sum()), "features": len(features), "seed": seed} | found
    return FittedModel(
        model.kind, features, estimator, facts=facts | {"seconds": round(time.perf_counter() - began, 3)}
    )


def _same_length(values: np.ndarray, known: np.ndarray, where: str) -> None:
    if len(values) != len(known):
        raise InputError(
            f"{where}: features and labels must have the same rows; found {len(values):,} and {len(known):,}; "
            "pass both for the same transactions"
        )


def _fit_trees(
    values: np.ndarray,
    known: np.ndarray,
    features: tuple[str, ...],
    model: ModelConfig,
    seed: int,
    valid: tuple[np.ndarray, np.ndarray] | None,
    threads: int,
) -> tuple[Trees, dict[str, Any]]:
    params: dict[str, Any] = {
        "objective": "binary:logistic",
        "eval_metric": ["logloss", "aucpr"],  # early stopping follows the last one
        "tree_method": model.tree_method,
        "base_score": model.base_score,
        "learning_rate": model.learning_rate,
        "max_depth": model.max_depth,
        "min_child_weight": model.min_child_weight,
        "subsample": model.subsample,
        "colsample_bytree": model.colsample_bytree,
        "reg_lambda": model.reg_lambda,
        "seed": seed,
    }
    if model.tree_method == "hist":
        params["max_bin"] = model.max_bin

    def matrix(rows: np.ndarray, labels: np.ndarray) -> xgb.DMatrix:
        return xgb.DMatrix(rows, labels, feature_names=list(features), nthread=threads or -1)

    stop = xgb.callback.EarlyStopping(rounds=model.early_stopping_rounds, save_best=True) if valid else None
    booster = xgb.train(
        params | {"nthread": threads},
        matrix(values, known),
        num_boost_round=model.n_estimators,
        evals=[(matrix(*valid), "validation")] if valid else [],
        callbacks=[stop] if stop else [],
        verbose_eval=False,
    )
    found = {
        "trees": booster.num_boosted_rounds(),
        "best_iteration": booster.best_iteration if stop else None,
        "best_aucpr": round(booster.best_score, 6) if stop else None,
        "params": params,
    }
    return Trees(booster), found


def _fit_logistic(values: np.ndarray, known: np.ndarray) -> tuple[Logistic, dict[str, Any]]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    missing = np.isnan(values)
    indicated = np.flatnonzero(missing.any(axis=0))
    median = np.zeros(values.shape[1])  # stays 0 for a column without any value
    filled = ~missing.all(axis=0)
    median[filled] = np.nanmedian(values[:, filled], axis=0)
    scaler = StandardScaler()
    inputs = scaler.fit_transform(with_indicators(values, median, indicated))
    fitted = LogisticRegression(C=1.0, max_iter=1000).fit(inputs, known)
    estimator = Logistic(median, indicated, scaler.mean_, scaler.scale_, fitted.coef_[0], float(fitted.intercept_[0]))
    params = {"C": 1.0, "missing_indicators": len(indicated), "iterations": int(fitted.n_iter_[0])}
    return estimator, {"params": params}


def fit_rules(X: pd.DataFrame, y: Any, *, describe: pd.DataFrame | None = None) -> FittedModel:
    """Make a rule baseline that a person can read: at most ten "feature above threshold" rules with points.

    Each candidate rule says that a feature exceeds a high quantile (95, 99 or 99.9 %) of the genuine training rows,
    or that a flag is set. Its points are the smoothed log odds ratio of fraud with and without it,
    ln[(f + ½)(G - g + ½) / ((F - f + ½)(g + ½))], with f of F frauds and g of G genuine rows firing. Rules are taken by
    f x points, one a column and two a feature group at most, only if at least three frauds fire and the points exceed
    twice their standard error. Points of rules that say the same add up, so the score ranks but is no probability
    before calibration.

    Parameters
    ----------
    X, y : training features and known labels.
    describe : `FeatureSet.describe()`; features of other kinds than ratio, count, speed, flag, share and amount are
        left out. None takes every column, each as its own group.

    Raises
    ------
    InputError : bad features or labels, as in `fit_estimator`; `describe` without one of the columns.

    References
    ----------
    Woolf (1955), doi:10.1111/j.1469-1809.1955.tb01348.x, with half a row added to each cell.

    >>> X = pd.DataFrame({"amount": [5.0] * 97 + [6.0, 80.0, 90.0, 70.0]})
    >>> print(*fit_rules(X, [0] * 98 + [1] * 3).estimator.rules)
    amount > 5 (+6.12)
    """
    began = time.perf_counter()
    names = tuple(str(name) for name in X.columns)
    values, known = feature_matrix(X, names, where="training"), _labels(y, "training")
    _same_length(values, known, "training")
    if describe is None:
        kinds, groups = dict.fromkeys(names, "count"), {name: name for name in names}
    else:
        table = describe.set_index("column")
        if absent := [name for name in names if name not in table.index]:
            raise InputError(
                f"describe: must have a row for each feature; found none for {', '.join(absent)}; "
                f"{did_you_mean(absent[0], table.index)}"
            )
        kinds, groups = table["kind"].to_dict(), table["group"].to_dict()
    candidates = [
        rule
        for position, name in enumerate(names)
        if kinds[name] in RULE_KINDS and (rule := _best_rule(name, kinds[name], values[:, position], known))
    ]
    candidates.sort(key=lambda rule: (-rule.frauds * rule.weight, rule.column))
    chosen: list[Rule] = []
    for rule in candidates:
        same_group = sum(groups[other.column] == groups[rule.column] for other in chosen)
        if len(chosen) < MAX_RULES and same_group < MAX_RULES_PER_GROUP:
            chosen.append(rule)
    frauds = int(known.sum())
    facts = {
        "rows": len(known),
        "frauds": frauds,
        "features": len(chosen),
        "params": {"rules": [str(rule) for rule in chosen]},
        "seconds": round(time.perf_counter() - began, 3),
    }
    base = float(np.log((frauds + 0.5) / (len(known) - frauds + 0.5)))
    return FittedModel("rules", tuple(rule.column for rule in chosen), RuleBaseline(tuple(chosen), base), facts=facts)


def _best_rule(column: str, kind: str, values: np.ndarray, known: np.ndarray) -> Rule | None:
    genuine = values[~known]
    genuine = genuine[~np.isnan(genuine)]
    if kind == "flag":
        options: list[tuple[Literal[">", ">="], float, float | None]] = [(">=", 1.0, None)]
    elif len(genuine):
        options = [(">", float(np.quantile(genuine, share)), share) for share in RULE_QUANTILES]
    else:
        options = []
    best = None
    for comparison, threshold, share in options:
        fired = values > threshold if comparison == ">" else values >= threshold
        f, g = int((fired & known).sum()), int((fired & ~known).sum())
        cells = np.array([f, int((~known).sum()) - g, int(known.sum()) - f, g]) + 0.5
        weight = float(np.log(cells[0] * cells[1] / (cells[2] * cells[3])))
        clear = weight > 2 * np.sqrt((1 / cells).sum())  # Woolf's standard error
        if f >= MIN_FRAUDS_PER_RULE and clear and (best is None or f * weight > best.frauds * best.weight):
            best = Rule(column, comparison, threshold, share, weight, f, g)
    return best


# -- on a fold -----------------------------------------------------------------------------------------------------


def fit_fold(
    X: pd.DataFrame, y: Any, fold: Fold, *, model: ModelConfig, seed: int, min_positives: int = 20, threads: int = 0
) -> FittedModel:
    """Fit on the fold's training rows, stop and calibrate on its validation rows, fit again on the latest rows.

    Parameters
    ----------
    X : features of all transactions; the fold's positions count its rows.
    y : nullable booleans, one for each row of `X`.
    fold : its `train`, `valid` and `refit` rows must have known labels. Without validation rows all trees are kept and
        there is no calibrator. Where `refit` differs from `train`, the model is fitted again on `refit` with the
        number of trees found; the calibrator stays the one learned before, as it needs rows the model has not seen.
    model, seed, threads : as in `fit_estimator`.
    min_positives : fewer frauds than this in `train` or `refit` are refused (validation needs 10).

    Returns
    -------
    A model whose facts also say how it was calibrated and refitted; `valid_score` holds the validation scores.

    Raises
    ------
    InputError : too few frauds, unknown labels, positions outside `X`, bad features.
    """

    def fit(rows: pd.DataFrame, labels: np.ndarray, valid: dict[str, Any], trees: int | None) -> FittedModel:
        settings = model if trees is None else model.model_copy(update={"n_estimators": trees})
        return fit_estimator(rows, labels, model=settings, seed=seed, threads=threads, **valid)

    return _fit_on_fold(X, y, fold, fit, model.calibration, min_positives)


def fit_models(
    X: pd.DataFrame,
    y: Any,
    fold: Fold,
    *,
    model: ModelConfig,
    seed: int,
    describe: pd.DataFrame | None = None,
    min_positives: int = 20,
    threads: int = 0,
) -> dict[str, FittedModel]:
    """Fit the candidate and its baselines on one fold.

    Returns
    -------
    `{name: model}` with the candidate first, then "logistic" (unless it is the candidate) and "rules".

    Raises
    ------
    InputError : as `fit_fold` and `fit_rules`.
    """

    def rules(rows: pd.DataFrame, labels: np.ndarray, *_: Any) -> FittedModel:
        return fit_rules(rows, labels, describe=describe)

    logistic = model.model_copy(update={"kind": "logistic"})
    models = {
        each.kind: fit_fold(X, y, fold, model=each, seed=seed, min_positives=min_positives, threads=threads)
        for each in ([model, logistic] if model.kind != "logistic" else [model])
    }
    return models | {"rules": _fit_on_fold(X, y, fold, rules, model.calibration, min_positives)}


def _fit_on_fold(
    X: pd.DataFrame,
    y: Any,
    fold: Fold,
    fit: Callable[..., FittedModel],
    calibration: Literal["isotonic", "sigmoid"],
    min_positives: int,
) -> FittedModel:
    y = pd.array(y, dtype="boolean")
    if len(X) != len(y):
        raise InputError(
            f"y: must have one label for each row of X; found {len(y):,} for {len(X):,}; pass both for all transactions"
        )

    def part(name: str, least: int) -> tuple[pd.DataFrame, np.ndarray]:
        rows = getattr(fold, name)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(X)):
            raise InputError(
                f"fold.{name}: positions must lie within the {len(X):,} rows of X; found {rows.min():,} to "
                f"{rows.max():,}; make the fold from the same transactions"
            )
        return X.iloc[rows], _labels(y[rows], f"fold.{name}", min_positives=least)

    X_train, y_train = part("train", min_positives)
    X_valid, y_valid = part("valid", MIN_VALID_FRAUDS) if len(fold.valid) else (None, None)
    valid = {} if X_valid is None else {"X_valid": X_valid, "y_valid": y_valid}
    first = fit(X_train, y_train, valid, None)
    score = calibrator = None
    if X_valid is not None:
        score = first.score(X_valid)
        calibrator = fit_calibrator(score, y_valid, calibration)
    refitted = not np.array_equal(fold.train, fold.refit)
    final = fit(*part("refit", min_positives), {}, first.facts.get("trees")) if refitted else first
    stopping = {key: first.facts[key] for key in ("best_iteration", "best_aucpr") if key in first.facts}
    facts = (
        final.facts
        | stopping
        | {
            "seconds": round(first.facts["seconds"] + (final.facts["seconds"] if refitted else 0.0), 3),
            "refit": refitted,
            "train_rows": first.facts["rows"],
            "train_frauds": first.facts["frauds"],
            "calibration": None
            if calibrator is None
            else {
                "method": calibration,
                "rows": calibrator.rows,
                "frauds": calibrator.frauds,
                "learned": "on validation rows, before the refit" if refitted else "on validation rows",
            },
        }
    )
    return replace(final, calibrator=calibrator, facts=facts, valid_score=score)
