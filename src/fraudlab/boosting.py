"""Grow boosted trees on one data matrix that every setting tried shares.

`tree_data` lays the training rows out once; `boost` grows trees on it as often as asked. Rows change their weight, not
their place: `data.set_weight(...)` between two calls serves another weighting.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import xgboost as xgb

from fraudlab.config import ModelConfig
from fraudlab.models import Trees
from fraudlab.schema import InputError, did_you_mean

STRIDE = 1_000_003
"""Between the seeds of two members, so that neighbouring seeds of a study do not share members."""


def tree_data(
    values: np.ndarray,
    known: np.ndarray,
    features: Sequence[str],
    *,
    model: ModelConfig,
    weight: np.ndarray | None = None,
    categories: Sequence[str] = (),
    reference: xgb.DMatrix | None = None,
    threads: int = 0,
) -> xgb.DMatrix:
    """Lay rows out for `boost`: quantile bins for "hist", sorted values for "exact".

    Parameters
    ----------
    values, known : float[n, features], NaN for missing, and bool[n].
    features : a name for each column.
    model : `tree_method` and `max_bin` decide the layout; every other setting may change between calls of `boost`.
    weight : float[n], how much each row counts, or None. It does not move the bins, which are quantiles of the rows
        whatever they weigh, so that one matrix serves every weighting.
    categories : the features whose values are codes of categories, 0, 1, ...
    reference : for rows that only stop the boosting: the training rows' matrix, whose bins they take.
    threads : 0 uses all cores.

    Returns
    -------
    A matrix of two bytes a value for "hist" with up to 65,536 bins in all rows; "exact" needs some times more.

    >>> data = tree_data(np.array([[1.0], [2.0], [3.0]]), np.array([0, 0, 1]), ["amount"], model=ModelConfig())
    >>> data.num_row(), data.num_col()
    (3, 1)
    """
    given: dict[str, Any] = {
        "feature_names": list(features),
        "feature_types": ["c" if name in set(categories) else "q" for name in features] if categories else None,
        "enable_categorical": bool(categories),
        "nthread": threads or -1,
    }
    if model.tree_method == "exact":
        data = xgb.DMatrix(values, known, **given)
    else:
        data = xgb.QuantileDMatrix(values, known, ref=reference, max_bin=model.max_bin, **given)
    if weight is not None:
        data.set_weight(weight)
    return data


def boost(
    data: xgb.DMatrix,
    model: ModelConfig,
    seed: int,
    *,
    valid: xgb.DMatrix | None = None,
    callbacks: Sequence[xgb.callback.TrainingCallback] = (),
    threads: int = 0,
) -> tuple[Trees, dict[str, Any]]:
    """Grow trees on `data`; with `model.members` above 1, the mean of as many models that differ by their seed.

    Members differ only where rows or columns are drawn; where `subsample` and `colsample_bytree` are 1, one is grown.

    Parameters
    ----------
    data : what `tree_data` made with the same `tree_method` and `max_bin`.
    model : the settings.
    seed : of row and column sampling; member i takes `seed + 1,000,003 i`. Same data, settings and seed: same bits.
    valid : rows that stop the boosting when their average precision has not risen for `early_stopping_rounds`; the
        trees after the best round are cut off. None or `early_stopping_rounds = 0` keeps all.
    callbacks : told after every round, such as one that ends a hopeless trial.

    Returns
    -------
    (trees, facts): facts are `trees` (in the model), `rounds` (a member's, rounded mean), `members`, `best_iteration`
    and `best_aucpr` (None without stopping; means over members) and `params`.

    The members' log-odds are averaged by dividing every leaf by their number, so that the result is one model whose
    contributions add up to its margin like any other's.

    Raises
    ------
    InputError : `model.monotone` names an unknown feature or a category; `device` is "cuda" and there is no GPU, or
        `tree_method` is "exact", which GPUs do not have, or which knows no categories.

    References
    ----------
    Chen and Guestrin (2016), doi:10.1145/2939672.2939785; averaging over seeds: Breiman (1996), doi:10.1007/BF00058655.
    """
    params = _params(data, model, seed)
    stops = valid is not None and model.early_stopping_rounds > 0
    differ = model.subsample < 1 or model.colsample_bytree < 1
    boosters, best = [], []
    for member in range(model.members if differ else 1):
        stop = xgb.callback.EarlyStopping(rounds=model.early_stopping_rounds, save_best=True) if stops else None
        booster = xgb.train(
            params | {"seed": seed + STRIDE * member, "nthread": threads},
            data,
            num_boost_round=model.n_estimators,
            evals=[(valid, "validation")] if valid is not None else [],
            callbacks=[*callbacks, *([stop] if stop else [])],
            verbose_eval=False,
        )
        boosters.append(booster)
        best.append((booster.best_iteration, booster.best_score) if stop else (None, None))
    booster = boosters[0] if len(boosters) == 1 else _mean(boosters)
    facts = {
        "trees": booster.num_boosted_rounds(),
        "rounds": round(float(np.mean([each.num_boosted_rounds() for each in boosters]))),
        "members": len(boosters),
        "best_iteration": round(float(np.mean([at for at, _ in best]))) if stops else None,
        "best_aucpr": round(float(np.mean([score for _, score in best])), 6) if stops else None,
        "params": params,
    }
    return Trees(booster), facts


def _params(data: xgb.DMatrix, model: ModelConfig, seed: int) -> dict[str, Any]:
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
    names = list(data.feature_names or ())
    coded = {name for name, kind in zip(names, data.feature_types or ()) if kind == "c"}
    if model.tree_method == "hist":
        params["max_bin"] = model.max_bin
    elif coded:
        raise InputError(
            f"model.tree_method: exact knows no categories; found {len(coded)} category columns, such as "
            f"'{min(coded)}'; choose hist, or encode them as numbers"
        )
    if model.monotone:
        params["monotone_constraints"] = _monotone(names, coded, model.monotone)
    if model.device == "cuda":
        if model.tree_method == "exact":
            raise InputError("model.device: cuda grows trees with tree_method 'hist' only; found 'exact'; choose one")
        if not has_gpu():
            raise InputError(
                "model.device: cuda needs an NVIDIA GPU and the library xgboost built for it; found none; set it to "
                "cpu, or install xgboost in place of xgboost-cpu on a machine with a GPU"
            )
        params["device"] = "cuda"
    return params


def _monotone(names: Sequence[str], coded: set[str], monotone: dict[str, Any]) -> str:
    """Return the constraint of each column in the library's form, such as "(0,1,-1)"."""
    for name in monotone:
        if name not in names:
            raise InputError(f"model.monotone: '{name}' is none of the features; {did_you_mean(name, names)}")
        if name in coded:  # the library would ignore it in silence
            raise InputError(
                f"model.monotone: '{name}' holds categories, whose codes have no order; take it out, or give the "
                "feature set a number in its place"
            )
    return f"({','.join(str(monotone.get(name, 0)) for name in names)})"


def has_gpu() -> bool:
    """Say whether boosting can run on a GPU here: the library itself falls back to the CPU with a warning only."""
    with xgb.config_context(verbosity=0):
        asked = xgb.train({"device": "cuda"}, xgb.DMatrix(np.zeros((2, 1)), [0, 1]), num_boost_round=0)
        return json.loads(asked.save_config())["learner"]["generic_param"]["device"].startswith("cuda")


def _mean(boosters: Sequence[xgb.Booster]) -> xgb.Booster:
    """Return one booster with the trees of all, every leaf divided by their number: its margin is their mean."""
    parts = [json.loads(bytes(booster.save_raw("json"))) for booster in boosters]
    whole, trees = parts[0], []
    for part in parts:
        for tree in part["learner"]["gradient_booster"]["model"]["trees"]:
            tree["id"] = len(trees)
            tree["base_weights"] = [value / len(boosters) for value in tree["base_weights"]]
            tree["split_conditions"] = [
                value / len(boosters) if left == -1 else value
                for value, left in zip(tree["split_conditions"], tree["left_children"])
            ]
            trees.append(tree)
    learnt = whole["learner"]["gradient_booster"]["model"]
    learnt["trees"] = trees
    learnt["tree_info"] = [0] * len(trees)
    learnt["iteration_indptr"] = list(range(len(trees) + 1))
    learnt["gbtree_model_param"]["num_trees"] = str(len(trees))
    whole["learner"]["attributes"] = {}
    booster = xgb.Booster()
    booster.load_model(bytearray(json.dumps(whole).encode()))
    return booster
