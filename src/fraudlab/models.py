"""What a fitted model is: how it scores and explains a row.

All estimators share one shape: `margin(values)` in log-odds and, but for a wrapped one, `contributions(values)` that
sum to it. `FittedModel` joins one of them with the names of its inputs, a calibrator and the facts of its making;
`fraudlab.training` makes it, `fraudlab.model_files` keeps it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import xgboost as xgb
from scipy.special import expit, logit

from fraudlab.anomaly import ANOMALY, Detector, describe_with
from fraudlab.encodings import Encoder
from fraudlab.features.words import describe_category, in_every_language, regroup
from fraudlab.forest import Forest
from fraudlab.schema import InputError, require_columns

if TYPE_CHECKING:
    import catboost
    import lightgbm


STEP = 4096
"""Rows that are put together at once."""


# -- what goes in ------------------------------------------------------------------------------------------------


def feature_matrix(
    X: pd.DataFrame, features: tuple[str, ...], *, where: str = "features", dtype: str = "float64"
) -> np.ndarray:
    """Return the named columns of `X` as numbers, shape (rows, features), in that order whatever the order in `X`.

    Missing values become NaN. Other columns of `X` are ignored.

    Raises
    ------
    InputError : a column is missing, is not numeric, or holds values that are not finite in single precision.

    >>> feature_matrix(pd.DataFrame({"b": [True, False], "a": [1, 2]}), ("a", "b")).tolist()
    [[1.0, 1.0], [2.0, 0.0]]
    """
    require_columns(X, features, where=where)
    columns = [X[name] for name in features]
    wrong = [
        f"'{name}' ({column.dtype})"
        for name, column in zip(features, columns)
        if not pd.api.types.is_numeric_dtype(column.dtype)
    ]
    if wrong:
        raise InputError(
            f"{where}: columns must be numbers or booleans; found {len(wrong)} other: {', '.join(wrong)}; "
            "encode them as numbers in the feature set, or name them in features.categories"
        )
    parts = [
        column.to_numpy() if isinstance(column.dtype, np.dtype) else column.to_numpy(dtype="float64", na_value=np.nan)
        for column in columns
    ]
    values = np.empty((len(X), len(features)), dtype)
    infinite = np.zeros(len(features), np.int64)
    with np.errstate(over="ignore"):
        for start in range(0, len(X), STEP):  # what the processor's cache holds
            some = values[start : start + STEP]
            for k, part in enumerate(parts):
                some[:, k] = part[start : start + STEP]
            infinite += (np.abs(some) > np.finfo(np.float32).max).sum(axis=0)
    if infinite.any():
        said = ", ".join(f"'{name}' {count:,}" for name, count in zip(features, infinite) if count)
        raise InputError(
            f"{where}: values must be finite; found infinite ones of {len(values):,} rows: {said}; "
            "make the feature missing (NaN) where it is undefined"
        )
    return values


def known_labels(y: Any, where: str, *, min_positives: int = 1) -> np.ndarray:
    """Return labels as bool[rows]; refused when one is unknown or a class is lacking.

    >>> known_labels([0, 1], "training").tolist()
    [False, True]
    """
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


def same_length(values: np.ndarray, known: np.ndarray, where: str) -> None:
    """Refuse features and labels of different numbers of rows."""
    if len(values) != len(known):
        raise InputError(
            f"{where}: features and labels must have the same rows; found {len(values):,} and {len(known):,}; "
            "pass both for the same transactions"
        )


# -- estimators: margin(values) in log-odds, contributions(values) that sum to it ---------------------------------


FEW = 16
"""Rows for which other threads are not woken: on a busy machine to wait for them takes a hundred times the work."""


@dataclass(frozen=True, eq=False)
class Trees:
    """Boosted trees that hold exactly the trees in use, so no reader of the file can apply too many."""

    booster: xgb.Booster

    def margin(self, values: np.ndarray) -> np.ndarray:
        """Return the log-odds, float64[rows] (single precision inside)."""
        return self._for(values).inplace_predict(values, predict_type="margin").astype("float64")

    def contributions(self, values: np.ndarray) -> np.ndarray:
        """Return exact path-dependent Shapley values in log-odds, float64[rows, features + 1]; the last is the base."""
        return self._for(values).predict(self._matrix(values), pred_contribs=True).astype("float64")

    def interactions(self, values: np.ndarray) -> np.ndarray:
        """Return Shapley interaction values in log-odds, float64[rows, features + 1, features + 1].

        A row's matrix is symmetric, each half of a pair's interaction on either side; its rows sum to `contributions`.
        """
        return self.booster.predict(self._matrix(values), pred_interactions=True).astype("float64")

    def _matrix(self, values: np.ndarray) -> xgb.DMatrix:
        kinds = self.booster.feature_types
        return xgb.DMatrix(
            values,
            feature_names=self.booster.feature_names,
            feature_types=kinds,
            enable_categorical="c" in (kinds or ()),
            nthread=1 if len(values) <= FEW else None,
        )

    def _for(self, values: np.ndarray) -> xgb.Booster:
        return self._alone if len(values) <= FEW else self.booster

    @functools.cached_property
    def _alone(self) -> xgb.Booster:
        """The same trees on one thread."""
        alone = self.booster.copy()
        alone.set_param({"nthread": 1})
        return alone


@dataclass(frozen=True, eq=False)
class Logistic:
    """A linear model on standardised inputs; `indicated` are the columns that also have a missing-indicator."""

    median: np.ndarray
    indicated: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    coefficient: np.ndarray
    intercept: float

    def margin(self, values: np.ndarray) -> np.ndarray:
        """Return the log-odds, float64[rows]."""
        return self.contributions(values).sum(axis=1)

    def contributions(self, values: np.ndarray) -> np.ndarray:
        """Return coefficient x (value - training mean) / scale, float64[rows, features + 1]; the last is the intercept.

        A missing-indicator's share belongs to its feature.
        """
        count = values.shape[1]
        terms = (with_indicators(values, self.median, self.indicated) - self.mean) / self.scale * self.coefficient
        out = np.empty((len(values), count + 1))
        out[:, :count] = terms[:, :count]
        out[:, self.indicated] += terms[:, count:]
        out[:, count] = self.intercept
        return out


def with_indicators(values: np.ndarray, median: np.ndarray, indicated: np.ndarray) -> np.ndarray:
    missing = np.isnan(values)
    return np.hstack([np.where(missing, median, values), missing[:, indicated]])


@dataclass(frozen=True)
class Rule:
    """One rule: the feature exceeds a threshold; `weight` is added to the log-odds when it does."""

    column: str
    comparison: Literal[">", ">="]
    threshold: float
    quantile: float | None
    weight: float
    frauds: int
    genuine: int

    def fires(self, values: np.ndarray) -> np.ndarray:
        """Return bool[rows]; a missing value never fires."""
        return values > self.threshold if self.comparison == ">" else values >= self.threshold

    def __str__(self) -> str:
        return f"{self.column} {self.comparison} {self.threshold:.6g} (+{self.weight:.2f})"


@dataclass(frozen=True, eq=False)
class RuleBaseline:
    """A points system: the base rate's log-odds plus the weight of every fired rule (one rule a column)."""

    rules: tuple[Rule, ...]
    base: float

    def margin(self, values: np.ndarray) -> np.ndarray:
        """Return base + weights of the fired rules, float64[rows]."""
        return self.contributions(values).sum(axis=1)

    def contributions(self, values: np.ndarray) -> np.ndarray:
        """Return each rule's points, float64[rows, rules + 1]; the last is the base."""
        out = np.full((len(values), len(self.rules) + 1), self.base)
        for position, rule in enumerate(self.rules):
            out[:, position] = np.where(rule.fires(values[:, position]), rule.weight, 0.0)
        return out


@dataclass(frozen=True, eq=False)
class LightGbm:
    """Boosted trees of LightGBM."""

    booster: lightgbm.Booster

    def margin(self, values: np.ndarray) -> np.ndarray:
        """Return the log-odds, float64[rows]."""
        return self.booster.predict(values, raw_score=True) if len(values) else np.empty(0)

    def contributions(self, values: np.ndarray) -> np.ndarray:
        """Return exact path-dependent Shapley values in log-odds, float64[rows, features + 1]; the last is the base."""
        empty = np.empty((0, values.shape[1] + 1))
        return self.booster.predict(values, pred_contrib=True) if len(values) else empty


@dataclass(frozen=True, eq=False)
class CatBoost:
    """Boosted trees of CatBoost, on numbers."""

    model: catboost.CatBoost

    def margin(self, values: np.ndarray) -> np.ndarray:
        """Return the log-odds, float64[rows]."""
        return self.model.predict(values, prediction_type="RawFormulaVal") if len(values) else np.empty(0)

    def contributions(self, values: np.ndarray) -> np.ndarray:
        """Return the library's Shapley values in log-odds, float64[rows, features + 1]; the last is the base."""
        from catboost import Pool

        if not len(values):
            return np.empty((0, values.shape[1] + 1))
        return self.model.get_feature_importance(Pool(values), type="ShapValues")


@dataclass(frozen=True, eq=False)
class Wrapped:
    """Any fitted classifier with scikit-learn's methods and two classes, the second of which is fraud.

    `columns` names the inputs where the classifier was fitted on a table and looks for them by name. It has no
    `contributions`: what moves an unknown model's score cannot be read from it.
    """

    classifier: Any
    columns: tuple[str, ...] | None = None

    def margin(self, values: np.ndarray) -> np.ndarray:
        """Return float64[rows]: the log-odds of `predict_proba` or, where that is lacking, `decision_function`."""
        if not len(values):
            return np.empty(0)
        rows = values if self.columns is None else pd.DataFrame(values, columns=list(self.columns))
        if hasattr(self.classifier, "predict_proba"):
            return log_odds(self.classifier.predict_proba(rows)[:, 1])
        return np.asarray(self.classifier.decision_function(rows), dtype="float64")


Estimator = Trees | Logistic | RuleBaseline | Forest | LightGbm | CatBoost | Wrapped | Detector
LIBRARIES = {LightGbm: "lightgbm", CatBoost: "catboost", Wrapped: "skops"}
"""What must be installed to read one of these from its file, beside what all need."""


# -- calibration: score -> risk, monotone, inside (0, 1) -----------------------------------------------------------


@dataclass(frozen=True)
class IsotonicCalibrator:
    """A non-decreasing broken line through (`score`, `risk`), flat outside."""

    score: tuple[float, ...]
    risk: tuple[float, ...]
    rows: int
    frauds: int

    def apply(self, score: Any) -> np.ndarray:
        """Return the risk for each score, float64[n], within [1/(rows + 2), 1 - 1/(rows + 2)]."""
        return _guard(np.interp(np.asarray(score, dtype="float64"), self.score, self.risk), self.rows)


@dataclass(frozen=True)
class SigmoidCalibrator:
    """Platt's logistic curve on the score's log-odds, with a slope that is never negative."""

    slope: float
    intercept: float
    rows: int
    frauds: int

    def apply(self, score: Any) -> np.ndarray:
        """Return the risk for each score, float64[n], within [1/(rows + 2), 1 - 1/(rows + 2)]."""
        return _guard(expit(self.slope * log_odds(score) + self.intercept), self.rows)


@dataclass(frozen=True)
class BetaCalibrator:
    """The beta curve: log-odds of the risk are a ln(score) - b ln(1 - score) + c, with a and b never negative."""

    a: float
    b: float
    c: float
    rows: int
    frauds: int

    def apply(self, score: Any) -> np.ndarray:
        """Return the risk for each score, float64[n], within [1/(rows + 2), 1 - 1/(rows + 2)]."""
        return _guard(expit(beta_terms(score) @ (self.a, self.b) + self.c), self.rows)


Calibrator = IsotonicCalibrator | SigmoidCalibrator | BetaCalibrator
CALIBRATORS = {"isotonic": IsotonicCalibrator, "sigmoid": SigmoidCalibrator, "beta": BetaCalibrator}


def _guard(risk: np.ndarray, rows: int) -> np.ndarray:
    # Laplace's rule of succession: n rows cannot show a probability nearer to 0 or 1 than this.
    return np.clip(risk, 1 / (rows + 2), 1 - 1 / (rows + 2))


def log_odds(score: Any) -> np.ndarray:
    return logit(_inside(score))


def beta_terms(score: Any) -> np.ndarray:
    """Return ln(score) and -ln(1 - score), float64[n, 2]; both rise with the score."""
    inside = _inside(score)
    return np.column_stack([np.log(inside), -np.log1p(-inside)])


def _inside(score: Any) -> np.ndarray:
    return np.clip(np.asarray(score, dtype="float64"), 1e-12, 1 - 1e-12)


# -- a fitted model ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class FittedModel:
    """A model ready to score: its kind, its inputs by name, what was estimated, how it came about.

    `valid_score` holds the scores of the fold's validation rows by the model as it was before the refit: the only
    scores no row of which was trained on, so decision thresholds are chosen on them. It is not saved. `shift` is added
    to the log-odds, where training rows were drawn or weighed by class; `encoder` turns categories into numbers.
    `detector` tells how unusual a payment is; where "anomaly" is among the features, the model takes it as an input.
    """

    name: str
    features: tuple[str, ...]
    estimator: Estimator
    calibrator: Calibrator | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    valid_score: np.ndarray | None = field(default=None, repr=False)
    shift: float = 0.0
    encoder: Encoder | None = None
    detector: Detector | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns a caller must bring: the features but for the one that the model's own detector makes."""
        return tuple(name for name in self.features if self.detector is None or name != ANOMALY)

    def complete(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return `X` with the column "anomaly" where it is one of the features."""
        if self.detector is None or ANOMALY not in self.features:
            return X
        return X.assign(**{ANOMALY: self.detector.score(feature_matrix(X, self.detector.features))})

    def words(self, describe: pd.DataFrame) -> pd.DataFrame:
        """Return `FeatureSet.describe()` with rows for the anomaly score and the categories among the features.

        Features that vary together are told under one reason, as found on the training rows (`told_with` of the facts).
        """
        if self.inputs != self.features:
            describe = describe_with(describe)
        if self.encoder is not None:
            new = [column for column in self.encoder.columns if column not in set(describe["column"])]
            rows = [in_every_language(describe_category, column) for column in new]
            more = pd.DataFrame(rows, columns=list(describe.columns)).astype("str")
            describe = pd.concat([describe, more], ignore_index=True)
        return regroup(describe, self.facts.get("told_with", {}))

    @property
    def explains(self) -> bool:
        """Whether what moved a score can be read from the model; not from a wrapped classifier or a detector."""
        return hasattr(self.estimator, "contributions")

    def matrix(self, X: pd.DataFrame, *, dtype: str = "float64") -> np.ndarray:
        """Return the model's inputs, shape (rows, features); columns are found by name, categories encoded."""
        X = self.complete(X)
        return feature_matrix(X if self.encoder is None else self.encoder.encode(X), self.features, dtype=dtype)

    def margin(self, X: pd.DataFrame) -> np.ndarray:
        """Return log-odds, float64[rows]; see `feature_matrix` and `Encoder.encode` for refusals."""
        # The trees compare in single precision, whatever they are given.
        dtype = "float32" if isinstance(self.estimator, Trees) else "float64"
        return self.estimator.margin(self.matrix(X, dtype=dtype)) + self.shift

    def contributions(self, X: pd.DataFrame) -> np.ndarray:
        """Return what each feature adds to the log-odds, float64[rows, features + 1]; the last is the base.

        Where `explains` is false the base is all there is, float64[rows, 1].
        """
        if not self.explains:
            return self.margin(X)[:, None]
        parts = self.estimator.contributions(self.matrix(X))
        parts[:, -1] += self.shift
        return parts

    def score(self, X: pd.DataFrame) -> np.ndarray:
        """Return the uncalibrated probability (rules: their points squeezed into (0, 1)), float64[rows]."""
        return expit(self.margin(X))

    def risk(self, X: pd.DataFrame) -> np.ndarray:
        """Return the calibrated probability of fraud, float64[rows]; refused when the model has no calibrator."""
        return self.risk_of(self.score(X))

    def risk_of(self, score: np.ndarray) -> np.ndarray:
        """Return the calibrated probability for scores already computed."""
        if self.calibrator is None:
            raise InputError(
                f"model '{self.name}': a risk needs a calibrator; found none, as the fold had no validation rows; "
                "fit on a fold with a validation part, or use the score for ranking only"
            )
        return self.calibrator.apply(score)
