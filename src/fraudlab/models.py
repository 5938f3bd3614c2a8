"""What a fitted model is: how it scores and explains a row, and how it is kept in files without pickles.

Three estimators share one shape: `margin(values)` in log-odds and `contributions(values)` that sum to it. `FittedModel`
joins one of them with the names of its inputs, a calibrator and the facts of its making; `fraudlab.training`
makes it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import xgboost as xgb
from scipy.special import expit, logit

from fraudlab.config import digest_of
from fraudlab.schema import InputError, require_columns

FORMAT = 1


# -- what goes in ------------------------------------------------------------------------------------------------


def feature_matrix(X: pd.DataFrame, features: tuple[str, ...], *, where: str = "features") -> np.ndarray:
    """Return the named columns of `X` as float64[rows, features], in that order whatever the order in `X`.

    Missing values become NaN. Other columns of `X` are ignored.

    Raises
    ------
    InputError : a column is missing, is not numeric, or holds values that are not finite in single precision.

    >>> feature_matrix(pd.DataFrame({"b": [True, False], "a": [1, 2]}), ("a", "b")).tolist()
    [[1.0, 1.0], [2.0, 0.0]]
    """
    require_columns(X, features, where=where)
    part = X.loc[:, list(features)]
    wrong = [f"'{name}' ({kind})" for name, kind in part.dtypes.items() if not pd.api.types.is_numeric_dtype(kind)]
    if wrong:
        raise InputError(
            f"{where}: columns must be numbers or booleans; found {len(wrong)} other: {', '.join(wrong)}; "
            "encode them as numbers in the feature set"
        )
    values = np.ascontiguousarray(part.to_numpy(dtype="float64", na_value=np.nan))
    infinite = (np.abs(values) > np.finfo(np.float32).max).sum(axis=0)
    if infinite.any():
        said = ", ".join(f"'{name}' {count:,}" for name, count in zip(features, infinite) if count)
        raise InputError(
            f"{where}: values must be finite; found infinite ones of {len(values):,} rows: {said}; "
            "make the feature missing (NaN) where it is undefined"
        )
    return values


# -- estimators: margin(values) in log-odds, contributions(values) that sum to it ---------------------------------


@dataclass(frozen=True, eq=False)
class Trees:
    """Boosted trees that hold exactly the trees in use, so no reader of the file can apply too many."""

    booster: xgb.Booster

    def margin(self, values: np.ndarray) -> np.ndarray:
        """Return the log-odds, float64[rows] (single precision inside)."""
        return self.booster.inplace_predict(values, predict_type="margin").astype("float64")

    def contributions(self, values: np.ndarray) -> np.ndarray:
        """Return exact path-dependent Shapley values in log-odds, float64[rows, features + 1]; the last is the base."""
        data = xgb.DMatrix(values, feature_names=self.booster.feature_names)
        return self.booster.predict(data, pred_contribs=True).astype("float64")


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


Estimator = Trees | Logistic | RuleBaseline


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


Calibrator = IsotonicCalibrator | SigmoidCalibrator
CALIBRATORS = {"isotonic": IsotonicCalibrator, "sigmoid": SigmoidCalibrator}


def _guard(risk: np.ndarray, rows: int) -> np.ndarray:
    # Laplace's rule of succession: n rows cannot show a probability nearer to 0 or 1 than this.
    return np.clip(risk, 1 / (rows + 2), 1 - 1 / (rows + 2))


def log_odds(score: Any) -> np.ndarray:
    return logit(np.clip(np.asarray(score, dtype="float64"), 1e-12, 1 - 1e-12))


# -- a fitted model ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class FittedModel:
    """A model ready to score: its kind, its inputs by name, what was estimated, how it came about.

    `valid_score` holds the scores of the fold's validation rows by the model as it was before the refit: the only
    scores no row of which was trained on, so decision thresholds are chosen on them. It is not saved.
    """

    name: str
    features: tuple[str, ...]
    estimator: Estimator
    calibrator: Calibrator | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    valid_score: np.ndarray | None = field(default=None, repr=False)

    def margin(self, X: pd.DataFrame) -> np.ndarray:
        """Return log-odds, float64[rows]; columns are found by name (see `feature_matrix` for refusals)."""
        return self.estimator.margin(feature_matrix(X, self.features))

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


# -- files ---------------------------------------------------------------------------------------------------------


def save_model(model: FittedModel, folder: str | Path) -> str:
    """Write a model as numbers and trees (no pickle) and return the sha-256 of its `model.json`.

    The folder appears complete or not at all: it is written under another name, synced, then renamed. It holds
    `model.json` (what the model is, with the sha-256 of the other file and of itself) and `trees.ubj` or
    `estimator.json`. Keep the returned digest elsewhere (an MLflow tag) to notice a deliberate exchange. Equal fits
    write equal bytes: the fact `seconds`, how long the fit took, is left out.

    Raises
    ------
    InputError : the folder exists and is not empty.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"folder {folder}: must be new or empty; found something there; choose another name")
    if isinstance(model.estimator, Trees):
        name, payload = "trees.ubj", bytes(model.estimator.booster.save_raw("ubj"))
    else:
        name, payload = "estimator.json", _json(_estimator_to_dict(model.estimator))
    about = {
        "format": FORMAT,
        "name": model.name,
        "features": list(model.features),
        "calibrator": _calibrator_to_dict(model.calibrator),
        "facts": {key: value for key, value in model.facts.items() if key != "seconds"},
        "files": {name: hashlib.sha256(payload).hexdigest()},
    }
    about_bytes = _json(about | {"digest": digest_of(about)})
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for file_name, content in ((name, payload), ("model.json", about_bytes)):
            with open(building / file_name, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        os.replace(building, folder)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return hashlib.sha256(about_bytes).hexdigest()


def load_model(folder: str | Path, *, digest: str | None = None) -> FittedModel:
    """Read a saved model after checking every byte of it; its scores are those of the saved one, bit for bit.

    Parameters
    ----------
    folder : what `save_model` wrote.
    digest : the sha-256 that `save_model` returned; given, another `model.json` is refused.

    Raises
    ------
    InputError : a file is missing, damaged or unexpected, or the format is another.
    """
    folder = Path(folder)
    about_bytes = _read(folder / "model.json")
    if digest is not None and hashlib.sha256(about_bytes).hexdigest() != digest:
        raise _damaged(folder, "model.json is not the one recorded")
    try:
        about = json.loads(about_bytes)
        stated = about.pop("digest")
        whole = stated == digest_of(about) and _json(about | {"digest": stated}) == about_bytes
    except (ValueError, KeyError, AttributeError, TypeError):
        whole = False
    if not whole:
        raise _damaged(folder, "model.json is damaged")
    if about["format"] != FORMAT:
        raise _damaged(folder, f"its format is {about['format']}, this version reads {FORMAT}")
    unexpected = sorted({path.name for path in folder.iterdir()} - {"model.json", *about["files"]})
    if unexpected:
        raise _damaged(folder, f"unexpected files: {', '.join(unexpected)}")
    if len(about["files"]) != 1 or not set(about["files"]) <= {"trees.ubj", "estimator.json"}:
        raise _damaged(folder, "it names other files than a model has")
    ((name, stated),) = about["files"].items()
    payload = _read(folder / name)
    if hashlib.sha256(payload).hexdigest() != stated:
        raise _damaged(folder, f"{name} is damaged")
    if name == "trees.ubj":
        booster = xgb.Booster()
        booster.load_model(bytearray(payload))
        estimator: Estimator = Trees(booster)
    else:
        estimator = _estimator_from_dict(json.loads(payload))
    calibrator = _calibrator_from_dict(about["calibrator"])
    return FittedModel(about["name"], tuple(about["features"]), estimator, calibrator, about["facts"])


def _damaged(folder: Path, finding: str) -> InputError:
    return InputError(
        f"model in {folder}: must be exactly what was saved; {finding}; restore the folder or train again"
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise _damaged(path.parent, f"{path.name} is missing or unreadable") from None


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, allow_nan=False).encode()


def _calibrator_to_dict(calibrator: Calibrator | None) -> dict[str, Any] | None:
    if calibrator is None:
        return None
    method = next(name for name, kind in CALIBRATORS.items() if isinstance(calibrator, kind))
    return {"method": method} | vars(calibrator)


def _calibrator_from_dict(stated: dict[str, Any] | None) -> Calibrator | None:
    if stated is None:
        return None
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in stated.items()}
    return CALIBRATORS[values.pop("method")](**values)


def _estimator_to_dict(estimator: Logistic | RuleBaseline) -> dict[str, Any]:
    if isinstance(estimator, RuleBaseline):
        return {"kind": "rules", "base": estimator.base, "rules": [vars(rule) for rule in estimator.rules]}
    numbers = vars(estimator).items()
    return {"kind": "logistic"} | {key: np.asarray(value).tolist() for key, value in numbers}


def _estimator_from_dict(stated: dict[str, Any]) -> Logistic | RuleBaseline:
    if stated.pop("kind") == "rules":
        return RuleBaseline(tuple(Rule(**rule) for rule in stated["rules"]), stated["base"])
    arrays = {key: np.asarray(value) if isinstance(value, list) else value for key, value in stated.items()}
    return Logistic(**arrays | {"indicated": np.asarray(stated["indicated"], dtype="int64")})
