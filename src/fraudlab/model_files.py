"""How a fitted model is kept in files: numbers and trees without pickles, every byte checked before use."""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, get_args

import numpy as np
import xgboost as xgb

from fraudlab.anomaly import Detector, Kind
from fraudlab.config import digest_of
from fraudlab.encodings import Encoder
from fraudlab.forest import ARRAYS, Forest, check_forest
from fraudlab.models import (
    CALIBRATORS,
    Calibrator,
    CatBoost,
    Estimator,
    FittedModel,
    LightGbm,
    Logistic,
    Rule,
    RuleBaseline,
    Trees,
    Wrapped,
)
from fraudlab.schema import InputError

FORMAT = 1
FILES = ("trees.ubj", "estimator.json", "forest.npz", "lightgbm.txt", "catboost.cbm", "classifier.skops")
"""A model's estimator is in one of these, beside `model.json`."""

TRUSTED = (
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.tree._tree.Tree",
)
"""Parts of scikit-learn's classifiers that a file may hold beside what skops itself knows to be harmless."""


def save_model(model: FittedModel, folder: str | Path) -> str:
    """Write a model as numbers and trees (no pickle) and return the sha-256 of its `model.json`.

    The folder appears complete or not at all: it is written under another name, synced, then renamed. It holds
    `model.json` (what the model is, with the sha-256 of the other file and of itself) and one of `FILES`. Keep the
    returned digest elsewhere (an MLflow tag) to notice a deliberate exchange. Equal fits write equal bytes (but for a
    wrapped classifier, whose file holds a time): the fact `seconds`, how long the fit took, is left out.

    Raises
    ------
    InputError : the folder exists and is not empty; a wrapped classifier has parts that cannot be kept safely.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"folder {folder}: must be new or empty; found something there; choose another name")
    name, payload = _written(model)
    about = {
        "format": FORMAT,
        "name": model.name,
        "features": list(model.features),
        "calibrator": _calibrator_to_dict(model.calibrator),
        "shift": model.shift,
        "encoder": None if model.encoder is None else model.encoder.to_dict(),
        "detector": None if model.detector is None else model.detector.to_dict(),
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
    if len(about["files"]) != 1 or not set(about["files"]) <= set(FILES):
        raise _damaged(folder, "it names other files than a model has")
    ((name, stated),) = about["files"].items()
    payload = _read(folder / name)
    if hashlib.sha256(payload).hexdigest() != stated:
        raise _damaged(folder, f"{name} is damaged")
    estimator = _read_back(name, payload, folder)
    calibrator = _calibrator_from_dict(about["calibrator"])
    encoder = None if about.get("encoder") is None else Encoder.from_dict(about["encoder"])
    detector = None if about.get("detector") is None else Detector.from_dict(about["detector"])
    return FittedModel(
        about["name"],
        tuple(about["features"]),
        estimator,
        calibrator,
        about["facts"],
        shift=about.get("shift", 0.0),
        encoder=encoder,
        detector=detector,
    )


def _written(model: FittedModel) -> tuple[str, bytes]:
    estimator = model.estimator
    match estimator:
        case Trees():
            return "trees.ubj", bytes(estimator.booster.save_raw("ubj"))
        case Forest():
            arrays = io.BytesIO()
            np.savez(arrays, **{name: getattr(estimator, name) for name in (*ARRAYS, "inputs", "rows", "shift")})
            return "forest.npz", arrays.getvalue()
        case LightGbm():
            return "lightgbm.txt", estimator.booster.model_to_string().encode()
        case CatBoost():
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.cbm"
                estimator.model.save_model(str(path))
                return "catboost.cbm", path.read_bytes()
        case Wrapped():
            return "classifier.skops", _skops(model)
        case _:
            return "estimator.json", _json(_estimator_to_dict(estimator))


def _read_back(name: str, payload: bytes, folder: Path) -> Estimator:
    if name == "trees.ubj":
        booster = xgb.Booster()
        booster.load_model(bytearray(payload))
        return Trees(booster)
    if name == "forest.npz":
        return _forest(payload, folder)
    if name == "lightgbm.txt":
        return LightGbm(_library("lightgbm", folder).Booster(model_str=payload.decode()))
    if name == "catboost.cbm":
        return CatBoost(_library("catboost", folder).CatBoost().load_model(blob=payload))
    if name == "classifier.skops":
        import skops.io

        parts = skops.io.get_untrusted_types(data=payload)
        if other := sorted(set(parts) - set(TRUSTED)):
            raise _damaged(folder, f"it holds {other[0]}, which is not loaded from files")
        kept = skops.io.loads(payload, trusted=parts)
        return Wrapped(kept["classifier"], None if kept["columns"] is None else tuple(kept["columns"]))
    return _estimator_from_dict(json.loads(payload))


def _skops(model: FittedModel) -> bytes:
    """Return the classifier in skops' form: a tree of known types, rebuilt without running code from the file."""
    import skops.io

    said = type(model.estimator.classifier).__name__
    columns = model.estimator.columns
    try:
        payload = skops.io.dumps(
            {"classifier": model.estimator.classifier, "columns": None if columns is None else list(columns)}
        )
        other = sorted(set(skops.io.get_untrusted_types(data=payload)) - set(TRUSTED))
    except Exception as error:  # skops says in many ways that it cannot
        other = [type(error).__name__]
    if other:
        raise InputError(
            f"model '{model.name}': a classifier can be kept without pickles only if made of scikit-learn's own parts; "
            f"found {other[0]} in {said}; use it in Python only, or choose one of the kinds of [model]"
        )
    return payload


def _forest(payload: bytes, folder: Path) -> Forest:
    try:
        with np.load(io.BytesIO(payload), allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in (*ARRAYS, "inputs", "rows", "shift")}
        wrong = [name for name, kind in ARRAYS.items() if arrays[name].dtype != kind or arrays[name].ndim != 1]
        numbers = {"inputs": int(arrays["inputs"]), "rows": int(arrays["rows"]), "shift": float(arrays["shift"])}
    except (ValueError, KeyError, OSError, TypeError) as error:
        raise _damaged(folder, f"forest.npz holds no forest ({type(error).__name__})") from None
    if wrong:
        raise _damaged(folder, f"forest.npz holds another kind of '{wrong[0]}'")
    forest = Forest(**arrays | numbers)
    check_forest(forest)
    return forest


def _library(name: str, folder: Path) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise InputError(
            f"model in {folder}: is of the library {name}; found it not installed; install the extra with "
            "pip install 'fraudlab[boosters]'"
        ) from None


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


def _estimator_to_dict(estimator: Logistic | RuleBaseline | Detector) -> dict[str, Any]:
    if isinstance(estimator, Detector):
        return estimator.to_dict()
    if isinstance(estimator, RuleBaseline):
        return {"kind": "rules", "base": estimator.base, "rules": [vars(rule) for rule in estimator.rules]}
    numbers = vars(estimator).items()
    return {"kind": "logistic"} | {key: np.asarray(value).tolist() for key, value in numbers}


def _estimator_from_dict(stated: dict[str, Any]) -> Logistic | RuleBaseline | Detector:
    if stated["kind"] in get_args(Kind):
        return Detector.from_dict(stated)
    if stated.pop("kind") == "rules":
        return RuleBaseline(tuple(Rule(**rule) for rule in stated["rules"]), stated["base"])
    arrays = {key: np.asarray(value) if isinstance(value, list) else value for key, value in stated.items()}
    return Logistic(**arrays | {"indicated": np.asarray(stated["indicated"], dtype="int64")})
