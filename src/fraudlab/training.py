"""Fit a fraud model and its baselines on one temporal fold and calibrate them.

Any kind of model (boosted trees, `fraudlab.boosting`; others, `fraudlab.estimators`), beside it a logistic regression
and a rule baseline that a person can read aloud. Everything estimated (trees, medians, scales, quantiles, points) comes
from the training rows; validation rows only stop the boosting and calibrate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from fraudlab.anomaly import ANOMALY, Detector, fit_detector
from fraudlab.boosting import boost, tree_data
from fraudlab.calibration import fit_calibrator
from fraudlab.config import AnomalyConfig, ModelConfig, SamplingConfig
from fraudlab.encodings import Encoder, Method, fit_encoder
from fraudlab.model_files import load_model, save_model
from fraudlab.models import (
    Calibrator,
    Estimator,
    FittedModel,
    Logistic,
    feature_matrix,
    known_labels,
    same_length,
    with_indicators,
)
from fraudlab.reasons import told_together
from fraudlab.rules import fit_rules
from fraudlab.schema import InputError
from fraudlab.validation import MIN_VALID_FRAUDS
from fraudlab.weights import held_out_scores, prior_shift, training_weights

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

NO_ANOMALY = AnomalyConfig()
REFERENCES = ("logistic", "rules", ANOMALY)
"""The models that are fitted beside a candidate, to be compared with it."""

BOOSTED = ("xgboost", "lightgbm", "catboost")
"""The kinds that a validation period can stop."""

NATIVE = ("xgboost", "lightgbm")
"""The kinds that split categories as sets; others get their share of frauds instead of codes."""


# -- fitting -------------------------------------------------------------------------------------------------------


def fit_estimator(
    X: pd.DataFrame,
    y: Any,
    *,
    model: ModelConfig,
    seed: int,
    weight: np.ndarray | None = None,
    shift: float = 0.0,
    genuine_per_fraud: float | None = None,
    categories: Sequence[str] = (),
    encoding: Method = "native",
    anomaly: AnomalyConfig = NO_ANOMALY,
    X_valid: pd.DataFrame | None = None,
    y_valid: Any = None,
    threads: int = 0,
) -> FittedModel:
    """Fit one model on training rows, of the kind that `model.kind` names; no calibration yet.

    Parameters
    ----------
    X, y : training features (numbers, NaN = missing) and known labels of the same rows.
    model : the settings; `model.kind` says which model.
    seed : for row and column sampling. Same rows, settings and seed give the same bits, whatever `threads` is.
    weight : float[n], how much each row counts, finite and >= 0; None counts all alike. A row of weight 0 is not there.
    shift : added to the log-odds, where `weight` moved them (see `weights.prior_shift`).
    genuine_per_fraud : in a bag of "balanced_bagging"; other kinds draw by weights of 0.
    categories, encoding : columns of `X` that hold categories, and how they become numbers (see `fit_encoder`); kinds
        other than "xgboost" and "lightgbm" do not split on sets, so that "native" means "target" for them.
    anomaly : whether a detector is fitted on these rows without their labels, and whether its score is one more input.
    X_valid, y_valid : a later period that stops the boosting when average precision no longer rises; the trees after
        the best round are cut off. Without it, or with `early_stopping_rounds = 0`, all trees are kept.
    threads : threads for boosting; 0 uses all cores. Use 1 for several small fits at once.

    Returns
    -------
    A model whose facts say rows, frauds, trees, best_iteration, seed and parameters, and seconds, which are not saved.

    Raises
    ------
    InputError : bad features (see `feature_matrix`), unknown labels, one class only, bad weights, a setting that the
        kind of model cannot keep, such as monotone constraints of a logistic regression.

    >>> X = pd.DataFrame({"amount": [10.0, 12.0, 11.0, 900.0]})
    >>> model = fit_estimator(X, [0, 0, 0, 1], model=ModelConfig(kind="logistic"), seed=0)
    >>> int(model.score(X).argmax())
    3
    """
    began = time.perf_counter()
    known = known_labels(y, "training")
    inputs, values = learn_inputs(
        X, known, kind=model.kind, seed=seed, categories=categories, encoding=encoding, anomaly=anomaly
    )
    features, encoder, detector = inputs
    same_length(values, known, "training")
    if weight is not None:
        values, known, weight = _weighed(values, known, weight)
    native, valid = encoder.native if encoder else (), None
    if X_valid is not None and model.kind in BOOSTED and model.early_stopping_rounds:
        rows, labels = input_matrix(inputs, X_valid, "validation"), known_labels(y_valid, "validation")
        same_length(rows, labels, "validation")
        valid = rows, labels
    estimator, found = fit_values(
        values,
        known,
        features,
        model=model,
        seed=seed,
        weight=weight,
        categories=native,
        genuine_per_fraud=genuine_per_fraud,
        valid=valid,
        threads=threads,
    )
    facts = {"rows": len(known), "frauds": int(known.sum()), "features": len(features), "seed": seed} | found
    facts["seconds"] = round(time.perf_counter() - began, 3)
    if detector is not None:
        facts["anomaly"] = anomaly.model_dump()
    return FittedModel(model.kind, features, estimator, facts=facts, shift=shift, encoder=encoder, detector=detector)


Inputs = tuple[tuple[str, ...], Encoder | None, Detector | None]
"""What a model reads: the names in their order, what turns categories into numbers, what tells the unusual."""


def learn_inputs(
    X: pd.DataFrame,
    known: np.ndarray,
    *,
    kind: str,
    seed: int,
    categories: Sequence[str] = (),
    encoding: Method = "native",
    anomaly: AnomalyConfig = NO_ANOMALY,
) -> tuple[Inputs, np.ndarray]:
    """Learn from training rows how columns become inputs; returns that, and these rows as float64[rows, inputs].

    Parameters are those of `fit_estimator`; `kind` is that of the model. The training rows' own numbers of a "target"
    encoding come from the other stretches of time, so that later rows go through `input_matrix` and these do not.
    """
    features, encoder = tuple(str(name) for name in X.columns), None
    detector = _detector(X, categories, anomaly, seed)
    if detector is not None and anomaly.as_input:
        features, X = (*features, ANOMALY), _with_score(X, detector)
    if categories:
        method: Method = "target" if encoding == "native" and kind not in NATIVE else encoding
        encoder, X = fit_encoder(X, known, categories, method)
    return (features, encoder, detector), feature_matrix(X, features, where="training")


def input_matrix(inputs: Inputs, X: pd.DataFrame, where: str) -> np.ndarray:
    """Return rows that were not learnt from as float64[rows, inputs]."""
    features, encoder, detector = inputs
    if detector is not None and ANOMALY in features:
        X = _with_score(X, detector)
    return feature_matrix(X if encoder is None else encoder.encode(X), features, where=where)


def _detector(X: pd.DataFrame, categories: Sequence[str], anomaly: AnomalyConfig, seed: int) -> Detector | None:
    if anomaly.kind == "none":
        return None
    if ANOMALY in X.columns:
        raise InputError(f"features: no column may be named '{ANOMALY}' where [anomaly] makes one; found it; rename it")
    numbers = tuple(str(name) for name in X.columns if name not in set(categories))
    return fit_detector(feature_matrix(X, numbers, where="training"), numbers, anomaly.kind, seed=seed)


def _with_score(X: pd.DataFrame, detector: Detector) -> pd.DataFrame:
    return X.assign(**{ANOMALY: detector.score(feature_matrix(X, detector.features))})


def _fit_anomaly(
    X: pd.DataFrame, known: np.ndarray, anomaly: AnomalyConfig, seed: int, categories: Sequence[str]
) -> FittedModel:
    """Fit a detector as a reference model; the labels are counted for its facts, not learnt from."""
    began = time.perf_counter()
    detector = _detector(X, categories, anomaly, seed)
    facts = {"rows": len(known), "frauds": int(known.sum()), "features": len(detector.features), "seed": seed}
    facts |= {"params": {"kind": detector.kind}, "seconds": round(time.perf_counter() - began, 3)}
    return FittedModel(ANOMALY, detector.features, detector, facts=facts)


def fit_values(
    values: np.ndarray,
    known: np.ndarray,
    features: Sequence[str],
    *,
    model: ModelConfig,
    seed: int,
    weight: np.ndarray | None = None,
    categories: Sequence[str] = (),
    genuine_per_fraud: float | None = None,
    valid: tuple[np.ndarray, np.ndarray] | None = None,
    threads: int = 0,
) -> tuple[Estimator, dict[str, Any]]:
    """Fit what `model.kind` names on plain arrays; returns the estimator and the facts of its making.

    Parameters
    ----------
    values, known, weight : float[n, features] as of `feature_matrix`, bool[n], and float[n] > 0 or None.
    categories : features whose values are codes, which only the kinds of `NATIVE` can read.
    valid : values and labels that stop the boosting.
    model, seed, genuine_per_fraud, threads : as in `fit_estimator`.
    """
    if model.kind == "xgboost":
        layout: dict[str, Any] = {"model": model, "categories": categories, "threads": threads}
        data = tree_data(values, known, features, weight=weight, **layout)
        stopping = None if valid is None else tree_data(*valid, features, reference=data, **layout)
        return boost(data, model, seed, valid=stopping, threads=threads)
    if model.kind == "logistic":
        if model.monotone:
            raise InputError(
                "model.monotone: a logistic regression keeps no constraints; found "
                f"{len(model.monotone)}, such as '{min(model.monotone)}'; choose kind xgboost or leave them out"
            )
        return _fit_logistic(values, known, weight)
    from fraudlab import estimators

    return estimators.fit(
        model.kind,
        values,
        known,
        weight,
        model,
        seed,
        threads,
        features=features,
        categories=categories,
        valid=valid,
        genuine_per_fraud=genuine_per_fraud,
    )


def _weighed(values: np.ndarray, known: np.ndarray, weight: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Check the rows' weights and leave out the rows that weigh nothing."""
    weight = np.asarray(weight, dtype="float64")
    wrong = int((~(np.isfinite(weight) & (weight >= 0))).sum())
    if weight.shape != known.shape or wrong:
        raise InputError(
            f"weight: needs one finite number >= 0 for each training row; found {weight.size:,} numbers, {wrong:,} of "
            f"them others, for {len(known):,} rows; correct [sampling] or what made the weights"
        )
    there = weight > 0
    if not there.all():
        values, known, weight = values[there], known[there], weight[there]
        known_labels(known, "training, without the rows of weight 0")
    return values, known, weight


def _fit_logistic(values: np.ndarray, known: np.ndarray, weight: np.ndarray | None) -> tuple[Logistic, dict[str, Any]]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    missing = np.isnan(values)
    indicated = np.flatnonzero(missing.any(axis=0))
    median = np.zeros(values.shape[1])  # stays 0 for a column without any value
    filled = ~missing.all(axis=0)
    median[filled] = np.nanmedian(values[:, filled], axis=0)
    scaler = StandardScaler()
    inputs = scaler.fit_transform(with_indicators(values, median, indicated))
    fitted = LogisticRegression(C=1.0, max_iter=1000).fit(inputs, known, sample_weight=weight)
    estimator = Logistic(median, indicated, scaler.mean_, scaler.scale_, fitted.coef_[0], float(fitted.intercept_[0]))
    params = {"C": 1.0, "missing_indicators": len(indicated), "iterations": int(fitted.n_iter_[0])}
    return estimator, {"params": params}


# -- on a fold -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class RowWeights:
    """How much the rows of any part of a fold count, as `[sampling]` says; made once a fold.

    Attributes
    ----------
    transactions, X : all rows, in one order: event_time, label_time, amount, is_fraud; and their features.
    sampling, model, seed : settings; the model is what scores the rows for "positive_unlabelled".
    as_of : when the labels were known: the fold's `test_start`.
    categories, encoding, threads : as in `fit_estimator`.
    """

    transactions: pd.DataFrame
    X: pd.DataFrame
    sampling: SamplingConfig
    as_of: pd.Timestamp
    model: ModelConfig
    seed: int
    categories: Sequence[str] = ()
    encoding: Method = "native"
    threads: int = 0

    def of(self, rows: np.ndarray) -> dict[str, Any]:
        """Return what `fit_estimator` takes of it for the rows at these positions: weight, shift, genuine_per_fraud."""
        sampling, bag = self.sampling, None
        if self.model.kind == "balanced_bagging":  # it draws for every tree anew
            bag, sampling = sampling.genuine_per_fraud, sampling.model_copy(update={"genuine_per_fraud": None})
        if sampling == SamplingConfig():
            return {"weight": None, "shift": 0.0, "genuine_per_fraud": bag}
        part = self.transactions.iloc[rows]
        y = part["is_fraud"]
        score = None
        if sampling.labels == "positive_unlabelled":
            fraud = known_labels(y, "sampling.labels")

            def fit_and_score(learn: np.ndarray, at: np.ndarray) -> np.ndarray:
                plain = self.model.model_copy(update={"early_stopping_rounds": 0, "members": 1})
                model = fit_estimator(
                    self.X.iloc[rows[learn]],
                    fraud[learn],
                    model=plain,
                    seed=self.seed,
                    categories=self.categories,
                    encoding=self.encoding,
                    threads=self.threads,
                )
                return model.score(self.X.iloc[rows[at]])

            score = held_out_scores(fraud, fit_and_score)
        weight = training_weights(
            y,
            event_time=part["event_time"],
            label_time=part["label_time"],
            amount=part["amount"],
            as_of=self.as_of,
            sampling=sampling,
            seed=self.seed,
            score=score,
        )
        return {"weight": weight, "shift": prior_shift(y, sampling), "genuine_per_fraud": bag}


def fit_fold(
    X: pd.DataFrame,
    y: Any,
    fold: Fold,
    *,
    model: ModelConfig,
    seed: int,
    weight: np.ndarray | RowWeights | None = None,
    categories: Sequence[str] = (),
    encoding: Method = "native",
    anomaly: AnomalyConfig = NO_ANOMALY,
    min_positives: int = 20,
    threads: int = 0,
) -> FittedModel:
    """Fit on the fold's training rows, stop and calibrate on its validation rows, fit again on the latest rows.

    Parameters
    ----------
    X : features of all transactions; the fold's positions count its rows.
    y : nullable booleans, one for each row of `X`.
    fold : its `train`, `valid` and `refit` rows must have known labels. Without validation rows all trees are kept and
        there is no calibrator. Where `refit` differs from `train`, the model is fitted again on `refit` with the
        number of trees found; the calibrator stays the one learned before, as it needs rows the model has not seen.
    model, seed, categories, encoding, anomaly, threads : as in `fit_estimator`.
    weight : float[rows of X], or what weighs the rows of `train` and of `refit`, each anew. Validation rows all count
        alike.
    min_positives : fewer frauds than this in `train` or `refit` are refused (validation needs 10).

    Returns
    -------
    A model whose facts also say how it was calibrated and refitted; `valid_score` holds the validation scores.

    Raises
    ------
    InputError : too few frauds, unknown labels, positions outside `X`, bad features.
    """

    def fit(
        rows: pd.DataFrame, labels: np.ndarray, where: np.ndarray, valid: dict[str, Any], rounds: int | None
    ) -> FittedModel:
        if isinstance(weight, RowWeights):
            weighed = weight.of(where)
        else:
            weighed = {"weight": None if weight is None else np.asarray(weight)[where]}
        return fit_estimator(
            rows,
            labels,
            model=model if rounds is None else model.model_copy(update={"n_estimators": rounds}),
            seed=seed,
            categories=categories,
            encoding=encoding,
            anomaly=anomaly,
            threads=threads,
            **weighed,
            **valid,
        )

    return _fit_on_fold(X, y, fold, fit, model.calibration, min_positives)


def fit_models(
    X: pd.DataFrame,
    y: Any,
    fold: Fold,
    *,
    model: ModelConfig,
    seed: int,
    describe: pd.DataFrame | None = None,
    weight: np.ndarray | RowWeights | None = None,
    categories: Sequence[str] = (),
    encoding: Method = "native",
    anomaly: AnomalyConfig = NO_ANOMALY,
    min_positives: int = 20,
    threads: int = 0,
    references: Collection[str] = REFERENCES,
) -> dict[str, FittedModel]:
    """Fit the candidate and its baselines on one fold; weights are the candidate's alone, rules see no categories.

    `references` are the baselines that are wanted; the candidate is the same whichever they are.

    Returns
    -------
    `{name: model}` with the candidate first, then "logistic" (unless it is the candidate), "rules" and, where there is
    a detector, "anomaly": its score alone. With `describe` the candidate's facts say which of its features are told
    under one reason (`told_with`, see `reasons.told_together`).

    Raises
    ------
    InputError : as `fit_fold` and `fit_rules`.
    """

    def rules(rows: pd.DataFrame, labels: np.ndarray, *_: Any) -> FittedModel:
        return fit_rules(rows.drop(columns=list(categories)), labels, describe=describe)

    def unlabelled(rows: pd.DataFrame, labels: np.ndarray, *_: Any) -> FittedModel:
        return _fit_anomaly(rows, labels, anomaly, seed, categories)

    shared: dict[str, Any] = {
        "seed": seed,
        "categories": categories,
        "encoding": encoding,
        "min_positives": min_positives,
        "threads": threads,
    }
    candidate = fit_fold(X, y, fold, model=model, weight=weight, anomaly=anomaly, **shared)
    if describe is not None:
        candidate = replace(
            candidate, facts=candidate.facts | {"told_with": told_together(describe, X.iloc[fold.refit])}
        )
    models = {model.kind: candidate}
    if model.kind != "logistic" and "logistic" in references:
        logistic = ModelConfig(kind="logistic", calibration=model.calibration)
        models["logistic"] = fit_fold(X, y, fold, model=logistic, **shared)
    if "rules" in references:
        models["rules"] = _fit_on_fold(X, y, fold, rules, model.calibration, min_positives)
    if anomaly.kind != "none" and ANOMALY in references:
        models[ANOMALY] = _fit_on_fold(X, y, fold, unlabelled, model.calibration, min_positives)
    return models


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

    def part(name: str, least: int) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
        rows = getattr(fold, name)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(X)):
            raise InputError(
                f"fold.{name}: positions must lie within the {len(X):,} rows of X; found {rows.min():,} to "
                f"{rows.max():,}; make the fold from the same transactions"
            )
        return X.iloc[rows], known_labels(y[rows], f"fold.{name}", min_positives=least), rows

    train = part("train", min_positives)
    X_valid, y_valid, _ = part("valid", MIN_VALID_FRAUDS) if len(fold.valid) else (None, None, None)
    valid = {} if X_valid is None else {"X_valid": X_valid, "y_valid": y_valid}
    first = fit(*train, valid, None)
    score = calibrator = None
    if X_valid is not None:
        score = first.score(X_valid)
        calibrator = fit_calibrator(score, y_valid, calibration)
    refitted = not np.array_equal(fold.train, fold.refit)
    stopped = first.facts.get("best_iteration") is not None
    found = first.facts.get("rounds", first.facts["trees"]) if stopped else None
    final = fit(*part("refit", min_positives), {}, found) if refitted else first
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
