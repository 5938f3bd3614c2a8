"""Fit the other kinds of model: forests, LightGBM, CatBoost, and any classifier with scikit-learn's methods.

They are references and alternatives to the boosted trees of `fraudlab.boosting`. Each kind uses the keys of `[model]`
that mean something for it (docs/models.md has the table) and refuses what it cannot keep.
"""

from __future__ import annotations

import importlib
import inspect
import math
import os
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fraudlab.config import ModelConfig
from fraudlab.forest import Forest, forest_of
from fraudlab.models import CatBoost, Estimator, FittedModel, LightGbm, Wrapped, feature_matrix, known_labels
from fraudlab.schema import InputError, did_you_mean

if TYPE_CHECKING:
    from sklearn.base import ClassifierMixin

FOREST_TREES, FOREST_DEPTH = 100, 20
"""Of forests where `[model]` states no `n_estimators` and `max_depth`: the defaults there are meant for boosting."""

GENUINE_PER_FRAUD = 1.0
"""In a bag of balanced bagging, as in imbalanced-learn's `BalancedBaggingClassifier`."""


def fit(
    kind: str,
    values: np.ndarray,
    known: np.ndarray,
    weight: np.ndarray | None,
    model: ModelConfig,
    seed: int,
    threads: int = 0,
    *,
    features: Sequence[str] = (),
    categories: Sequence[str] = (),
    valid: tuple[np.ndarray, np.ndarray] | None = None,
    genuine_per_fraud: float | None = None,
) -> tuple[Estimator, dict[str, Any]]:
    """Fit an estimator of `kind` on plain arrays.

    Parameters
    ----------
    kind : "random_forest", "balanced_bagging", "lightgbm", "catboost" or "wrapped" (`model.classifier`).
    values, known : float[rows, inputs], NaN = missing, and bool[rows].
    weight : float[rows] > 0, or None. A random forest draws its bags by weight, as the library does; balanced bagging
        draws rows alike and weighs them within a tree.
    model : the settings.
    seed : same rows, settings and seed give the same bits, whatever `threads` is.
    threads : 0 uses all cores.
    features : the inputs' names, for `model.monotone`.
    categories : those whose values are codes of categories, which LightGBM splits as sets.
    valid : later rows that stop LightGBM or CatBoost when average precision no longer rises; the trees after the best
        round are cut off.
    genuine_per_fraud : genuine rows for each fraud in a bag of balanced bagging; None: one.

    Returns
    -------
    (estimator, facts): `trees`, `params` and, of LightGBM and CatBoost, `rounds`; where validation rows stopped them
    also `best_iteration` and `best_aucpr`.

    Raises
    ------
    InputError : the kind's library is not installed; a setting it cannot keep; unknown names in `model.monotone`.

    >>> forest, facts = fit("random_forest", np.array([[1.0], [2.0]] * 9), np.array([False, True] * 9), None,
    ...                     ModelConfig(kind="random_forest"), seed=0, threads=1)
    >>> facts["trees"], forest.probability(np.array([[1.5], [1.6]])).tolist()
    (100, [0.0, 1.0])
    """
    if model.device == "cuda":
        raise InputError(
            f"model.device: kind {kind} is fitted on the CPU only; found 'cuda'; set it to cpu or choose kind xgboost"
        )
    if model.members > 1:
        raise InputError(
            f"model.members: only kind xgboost is fitted several times and averaged; found {model.members} for {kind}; "
            "set it to 1"
        )
    if unknown := [name for name in model.monotone if name not in features]:
        raise InputError(
            f"model.monotone: '{unknown[0]}' is none of the features; {did_you_mean(unknown[0], list(features))}"
        )
    monotone = [int(model.monotone.get(name, 0)) for name in features] if model.monotone else None
    if kind == "wrapped":
        return _wrapped(values, known, weight, model, seed)
    if kind == "random_forest":
        return _random_forest(values, known, weight, model, seed, threads, monotone)
    if kind == "balanced_bagging":
        wanted = GENUINE_PER_FRAUD if genuine_per_fraud is None else genuine_per_fraud
        return _balanced_bagging(values, known, weight, model, seed, threads, monotone, wanted)
    if kind == "catboost":
        return _catboost(values, known, weight, model, seed, threads, monotone, valid)
    if ordered := [name for name in model.monotone if name in categories]:
        raise InputError(f"model.monotone: '{ordered[0]}' holds categories, whose codes have no order; take it out")
    coded = [list(features).index(name) for name in categories]
    return _lightgbm(values, known, weight, model, seed, threads, monotone, valid, coded)


# -- forests -------------------------------------------------------------------------------------------------------


def _tree_settings(model: ModelConfig) -> tuple[int, dict[str, Any]]:
    stated = model.model_fields_set
    return model.n_estimators if "n_estimators" in stated else FOREST_TREES, {
        "max_depth": model.max_depth if "max_depth" in stated else FOREST_DEPTH,
        "min_samples_leaf": max(1, int(np.ceil(model.min_child_weight))),
    }


def _random_forest(
    values: np.ndarray,
    known: np.ndarray,
    weight: np.ndarray | None,
    model: ModelConfig,
    seed: int,
    threads: int,
    monotone: list[int] | None,
) -> tuple[Forest, dict[str, Any]]:
    from sklearn.ensemble import RandomForestClassifier

    count, settings = _tree_settings(model)
    params = settings | {"n_estimators": count, "max_features": "sqrt", "random_state": seed}
    if model.subsample < 1:
        params["max_samples"] = max(1, round(len(values) * model.subsample))
    forest = RandomForestClassifier(**params, monotonic_cst=monotone, n_jobs=threads or -1)
    forest.fit(values, known, sample_weight=weight)
    rows = max(1, round(len(values) * model.subsample))
    return forest_of(forest.estimators_, rows=rows), {"trees": count, "params": params | _said(monotone)}


def _balanced_bagging(
    values: np.ndarray,
    known: np.ndarray,
    weight: np.ndarray | None,
    model: ModelConfig,
    seed: int,
    threads: int,
    monotone: list[int] | None,
    genuine_per_fraud: float,
) -> tuple[Forest, dict[str, Any]]:
    """Grow each tree on a bootstrap of the rows from which genuine ones are left out, down to so many for each fraud.

    The log-odds are moved back by the share of genuine rows that were kept (Elkan 2001).
    """
    from sklearn.tree import DecisionTreeClassifier

    count, settings = _tree_settings(model)
    single = np.ascontiguousarray(values, dtype="float32")  # once, not in every tree
    drawn = max(1, round(len(values) * model.subsample))

    def grow(generator: np.random.Generator) -> DecisionTreeClassifier:
        bag = generator.integers(0, len(values), drawn)
        frauds, genuine = bag[known[bag]], bag[~known[bag]]
        if not len(frauds):  # a tree that has never seen a fraud says nothing
            frauds = generator.choice(np.flatnonzero(known), 1)
        wanted = min(len(genuine), max(1, round(genuine_per_fraud * len(frauds))))
        rows = np.sort(np.concatenate([frauds, generator.choice(genuine, wanted, replace=False)]))
        tree = DecisionTreeClassifier(
            **settings, monotonic_cst=monotone, random_state=int(generator.integers(2**31 - 1))
        )
        return tree.fit(single[rows], known[rows], sample_weight=None if weight is None else weight[rows])

    generators = [np.random.default_rng(each) for each in np.random.SeedSequence(seed).spawn(count)]
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        trees = list(pool.map(grow, generators))
    frauds, genuine = int(known.sum()), int((~known).sum())
    kept = min(1.0, genuine_per_fraud * frauds / genuine)
    share = drawn / len(values)
    rows = max(1, round(share * (frauds + kept * genuine)))
    params = settings | {
        "n_estimators": count,
        "subsample": model.subsample,
        "genuine_per_fraud": genuine_per_fraud,
        "genuine_kept": round(kept, 6),
        "random_state": seed,
    }
    return forest_of(trees, rows=rows, shift=float(np.log(kept))), {"trees": count, "params": params | _said(monotone)}


def _said(monotone: list[int] | None) -> dict[str, Any]:
    return {} if monotone is None else {"monotone": monotone}


# -- boosters ------------------------------------------------------------------------------------------------------


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise InputError(
            f"model.kind: {name} is a library of its own; found it not installed; install the extra with "
            "pip install 'fraudlab[boosters]', or choose kind xgboost"
        ) from None


def _lightgbm(
    values: np.ndarray,
    known: np.ndarray,
    weight: np.ndarray | None,
    model: ModelConfig,
    seed: int,
    threads: int,
    monotone: list[int] | None,
    valid: tuple[np.ndarray, np.ndarray] | None,
    coded: list[int],
) -> tuple[LightGbm, dict[str, Any]]:
    lightgbm = _library("lightgbm")
    params = {
        "objective": "binary",
        "metric": "average_precision",
        "learning_rate": model.learning_rate,
        "max_depth": model.max_depth,
        "num_leaves": min(2**model.max_depth, 131_072),
        "min_sum_hessian_in_leaf": model.min_child_weight,
        "min_data_in_leaf": 1,
        "bagging_fraction": model.subsample,
        "bagging_freq": int(model.subsample < 1),
        "feature_fraction": model.colsample_bytree,
        "lambda_l2": model.reg_lambda,
        "max_bin": model.max_bin,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
    }
    if monotone:
        params["monotone_constraints"] = monotone
    options = {"verbosity": -1, "num_threads": threads, "feature_pre_filter": False}
    rows = lightgbm.Dataset(
        values, known.astype(float), weight=weight, params=params | options, categorical_feature=coded
    )
    stops = valid is not None and model.early_stopping_rounds > 0
    watched = [lightgbm.Dataset(valid[0], valid[1].astype(float), reference=rows)] if stops else []
    stop = [lightgbm.early_stopping(model.early_stopping_rounds, verbose=False)] if stops else []
    booster = lightgbm.train(params | options, rows, model.n_estimators, valid_sets=watched, callbacks=stop)
    best = booster.best_iteration if stops else None
    text = booster.model_to_string(num_iteration=best or -1)
    # Written into the file and without effect on the trees: equal fits are to give equal files.
    text = re.sub(r"\[num_threads: \d+\]", "[num_threads: 0]", text)
    trees = best or booster.num_trees()
    found = {"trees": trees, "rounds": trees, "params": params}
    if stops:
        (score,) = booster.best_score.values()
        found |= {"best_iteration": best - 1, "best_aucpr": round(float(score["average_precision"]), 6)}
    return LightGbm(lightgbm.Booster(model_str=text)), found


def _catboost(
    values: np.ndarray,
    known: np.ndarray,
    weight: np.ndarray | None,
    model: ModelConfig,
    seed: int,
    threads: int,
    monotone: list[int] | None,
    valid: tuple[np.ndarray, np.ndarray] | None,
) -> tuple[CatBoost, dict[str, Any]]:
    catboost = _library("catboost")
    if model.max_depth > 16:
        raise InputError(
            f"model.max_depth: catboost grows trees of depth 16 at most; found {model.max_depth}; lower it"
        )
    params = {
        "loss_function": "Logloss",
        "eval_metric": "PRAUC" if weight is None else "PRAUC:use_weights=false",
        "learning_rate": model.learning_rate,
        "depth": model.max_depth,
        "l2_leaf_reg": model.reg_lambda,
        "border_count": min(model.max_bin - 1, 65_535),
        "rsm": model.colsample_bytree,
        "bootstrap_type": "Bernoulli" if model.subsample < 1 else "No",
        "random_seed": seed,
    }
    if model.subsample < 1:
        params["subsample"] = model.subsample
    if monotone:
        params["monotone_constraints"] = monotone
    stops = valid is not None and model.early_stopping_rounds > 0
    booster = catboost.CatBoost(
        params
        | {
            "iterations": model.n_estimators,
            "thread_count": threads or -1,
            "allow_writing_files": False,
            "logging_level": "Silent",
        }
    )
    watched = {"eval_set": catboost.Pool(valid[0], valid[1].astype(int))} if stops else {}
    booster.fit(
        catboost.Pool(values, known.astype(int), weight=weight),
        early_stopping_rounds=model.early_stopping_rounds if stops else None,
        **watched,
    )
    found = {"trees": booster.tree_count_, "rounds": booster.tree_count_, "params": params}
    if stops:
        score = booster.get_best_score()["validation"][params["eval_metric"]]
        found |= {"best_iteration": booster.get_best_iteration(), "best_aucpr": round(float(score), 6)}
    metadata = booster.get_metadata()
    for key in list(metadata):  # the time, a random number, the training's history: equal fits are to give equal files
        del metadata[key]
    return CatBoost(booster), found


# -- any classifier ------------------------------------------------------------------------------------------------


def _wrapped(
    values: np.ndarray, known: np.ndarray, weight: np.ndarray | None, model: ModelConfig, seed: int
) -> tuple[Wrapped, dict[str, Any]]:
    """Fit the classifier of scikit-learn that the config names."""
    if model.monotone:
        raise InputError(
            f"model.monotone: kind wrapped keeps no constraints by name; found {len(model.monotone)}; state them in "
            "model.params as the classifier takes them"
        )
    module, _, name = model.classifier.rpartition(".")
    try:
        made = getattr(importlib.import_module(module), name)(**model.params)
    except (ImportError, AttributeError):
        raise InputError(
            f"model.classifier: scikit-learn has no {model.classifier}; write its import name, such as "
            "sklearn.ensemble.ExtraTreesClassifier"
        ) from None
    except TypeError as error:
        raise InputError(f"model.params: {name} does not take them ({error}); look them up and correct them") from None
    try:
        fitted = wrap(made, pd.DataFrame(values).rename(columns=str), known, weight=weight, seed=seed)
    except ValueError as error:
        if "NaN" not in str(error):
            raise
        raise InputError(
            f"model.classifier: {name} takes no missing values and the features have some; choose one that does, such "
            "as sklearn.ensemble.HistGradientBoostingClassifier"
        ) from None
    return fitted.estimator, {"trees": None, "params": fitted.facts["params"]}


def wrap(
    classifier: ClassifierMixin,
    X: pd.DataFrame,
    y: Any = None,
    *,
    name: str = "wrapped",
    weight: np.ndarray | None = None,
    seed: int = 0,
) -> FittedModel:
    """Make a `FittedModel` of any classifier with scikit-learn's methods: `predict_proba` or `decision_function`.

    It scores, is calibrated, compared and registered like any other model; its scores cannot be explained.

    Parameters
    ----------
    classifier : not fitted, or fitted on labels of two classes, the second (true, 1) being fraud. It is copied, not
        changed, when `y` is given.
    X : the training features; of a fitted classifier any table with its inputs, in its order.
    y : known labels of `X`; None takes the classifier as it is, already fitted.
    name : what to call the model.
    weight : float[rows], how much each row counts; refused by a classifier that takes no `sample_weight`.
    seed : put into every `random_state` of the classifier that is None.

    Returns
    -------
    A model without calibrator; `fit_calibrator(model.score(X_valid), y_valid)` makes one for `dataclasses.replace`.

    Raises
    ------
    InputError : no such methods, not fitted, other than two classes, other inputs, weights it does not take.

    >>> from sklearn.naive_bayes import GaussianNB
    >>> X = pd.DataFrame({"amount": [10.0, 12.0, 11.0, 900.0, 800.0]})
    >>> wrap(GaussianNB(), X, [0, 0, 0, 1, 1], name="bayes").score(X).round(3).tolist()
    [0.0, 0.0, 0.0, 1.0, 1.0]
    """
    from sklearn.base import clone
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    said = type(classifier).__name__
    scores = _has(classifier, "predict_proba") or _has(classifier, "decision_function")
    if not (_has(classifier, "fit") and scores):
        raise InputError(
            f"classifier: must have fit and predict_proba or decision_function; found {said}; "
            "pass a classifier with scikit-learn's methods"
        )
    began = time.perf_counter()
    features = tuple(str(column) for column in X.columns)
    facts: dict[str, Any] = {"rows": None, "frauds": None, "features": len(features)}
    if y is None:
        try:
            check_is_fitted(classifier)
        except (NotFittedError, TypeError):
            raise InputError(f"classifier: without y it must be fitted; found {said} not fitted; pass y") from None
        fitted = classifier
    else:
        values, known = feature_matrix(X, features, where="training"), known_labels(y, "training")
        if len(values) != len(known):
            raise InputError(
                f"training: features and labels must have the same rows; found {len(values):,} and {len(known):,}; "
                "pass both for the same transactions"
            )
        fitted, given = clone(classifier), {}
        unseeded = [key for key, value in fitted.get_params().items() if _is_seed(key) and value is None]
        fitted.set_params(**dict.fromkeys(unseeded, seed))
        if weight is not None:
            if "sample_weight" not in inspect.signature(fitted.fit).parameters:
                raise InputError(
                    f"weight: {said} takes no sample_weight; found weights for {len(weight):,} rows; leave them out or "
                    "choose another classifier"
                )
            given["sample_weight"] = weight
        fitted.fit(values, known, **given)
        facts |= {"rows": len(known), "frauds": int(known.sum()), "seed": seed}
    classes = list(getattr(fitted, "classes_", ()))
    if len(classes) != 2:
        raise InputError(
            f"classifier: must have been fitted on two classes, genuine and fraud; found {len(classes)} in {said}; "
            "fit it on labels that are true or false"
        )
    if (wanted := getattr(fitted, "n_features_in_", len(features))) != len(features):
        raise InputError(
            f"classifier: {said} was fitted on {wanted:,} inputs; found {len(features):,} columns; pass its own inputs"
        )
    named = getattr(fitted, "feature_names_in_", None)
    if named is not None and (other := [own for own, new in zip(named, features) if own != new]):
        raise InputError(
            f"classifier: {said} wants its inputs by name and in its order; found another column where '{other[0]}' "
            "belongs; pass its own inputs"
        )
    columns = None if named is None else tuple(str(each) for each in named)
    facts |= {"params": {"classifier": said} | _plain(fitted.get_params())}
    facts |= {"seconds": round(time.perf_counter() - began, 3)}
    return FittedModel(name, features, Wrapped(fitted, columns), facts=facts)


def _has(classifier: Any, method: str) -> bool:
    return callable(getattr(classifier, method, None))


def _is_seed(key: str) -> bool:
    return key == "random_state" or key.endswith("__random_state")


def _plain(params: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in params.items() if isinstance(value, str | int | float | bool)}
    return {key: value for key, value in kept.items() if not isinstance(value, float) or math.isfinite(value)}
