"""Boosted trees: one data matrix for many fits, members that average, constraints that hold, and no silent CPU."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xgboost as xgb
from scipy.special import expit

from fraudlab import boosting
from fraudlab.boosting import STRIDE, boost, tree_data
from fraudlab.config import ModelConfig, load_config
from fraudlab.model_files import load_model, save_model
from fraudlab.schema import InputError
from fraudlab.training import fit_estimator

NAMES = ["amount", "ratio", "noise"]
MODEL = ModelConfig(n_estimators=25, max_depth=3, max_bin=512)


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    values = np.round(rng.normal(size=(2500, 3)), 2)
    known = rng.random(2500) < expit(-2.5 + 1.2 * values[:, 0] - 0.7 * values[:, 1])
    values[rng.random(values.shape) < 0.05] = np.nan
    return values, known


def by_hand(values: np.ndarray, known: np.ndarray, model: ModelConfig, seed: int, weight=None) -> np.ndarray:
    data = xgb.DMatrix(values, known, weight=weight, feature_names=NAMES, nthread=1)
    params = {
        "objective": "binary:logistic",
        "tree_method": model.tree_method,
        "base_score": 0.5,
        "learning_rate": model.learning_rate,
        "max_depth": model.max_depth,
        "subsample": model.subsample,
        "colsample_bytree": model.colsample_bytree,
        "seed": seed,
        "nthread": 1,
    }
    if model.tree_method == "hist":
        params["max_bin"] = model.max_bin
    return xgb.train(params, data, num_boost_round=model.n_estimators).predict(data, output_margin=True)


@pytest.mark.parametrize("method", ["hist", "exact"])
def test_one_matrix_serves_every_setting_and_weighting(rows, method):
    values, known = rows
    settings = [
        MODEL.model_copy(update={"tree_method": method}),
        MODEL.model_copy(update={"tree_method": method, "max_depth": 5, "subsample": 0.6, "colsample_bytree": 0.7}),
    ]
    data = tree_data(values, known, NAMES, model=settings[0], threads=1)
    weight = np.where(known, 7.0, 1.0)
    for model in settings:
        for weights in (None, weight, None):
            data.set_weight(np.ones(len(known)) if weights is None else weights)
            trees, _ = boost(data, model, 5, threads=1)
            # The columns have fewer values than bins, so that weights cannot move the library's bins.
            np.testing.assert_array_equal(trees.margin(values), by_hand(values, known, model, 5, weights))


def test_row_weights_are_those_of_the_library_and_a_row_of_weight_0_is_not_there(rows):
    values, known = rows
    X = pd.DataFrame(values, columns=NAMES)
    weight = np.random.default_rng(2).uniform(0.2, 3, len(known))
    model = fit_estimator(X, known, model=MODEL, seed=5, weight=weight, shift=0.25, threads=1)
    np.testing.assert_array_equal(model.margin(X), by_hand(values, known, MODEL, 5, weight).astype("float64") + 0.25)
    np.testing.assert_allclose(model.contributions(X).sum(axis=1), model.margin(X), atol=1e-5)
    there = np.arange(len(known)) % 3 > 0
    left_out = fit_estimator(X, known, model=MODEL, seed=5, weight=there * 1.0, threads=1)
    alone = fit_estimator(X[there], known[there], model=MODEL, seed=5, threads=1)
    np.testing.assert_array_equal(left_out.margin(X), alone.margin(X))
    assert left_out.facts["rows"] == there.sum()


def test_weights_of_a_logistic_regression_are_copies_of_rows(rows):
    values, known = rows
    X, linear = pd.DataFrame(values, columns=NAMES), ModelConfig(kind="logistic")
    twice = np.where(known, 2.0, 1.0)
    weighed = fit_estimator(X, known, model=linear, seed=0, weight=twice).estimator
    from sklearn.linear_model import LogisticRegression

    from fraudlab.models import with_indicators

    inputs = (with_indicators(values, weighed.median, weighed.indicated) - weighed.mean) / weighed.scale
    copies = np.concatenate([np.arange(len(known)), np.flatnonzero(known)])
    oracle = LogisticRegression(max_iter=1000).fit(inputs[copies], known[copies])
    np.testing.assert_allclose(weighed.coefficient, oracle.coef_[0], atol=1e-3)


@pytest.mark.parametrize(
    ("weight", "said"),
    [
        (np.ones(7), "found 7 numbers, 0 of them others, for 2,500 rows"),
        (np.r_[-1.0, np.nan, np.inf, np.ones(2497)], "found 2,500 numbers, 3 of them others, for 2,500 rows"),
    ],
)
def test_bad_weights_are_refused(rows, weight, said):
    values, known = rows
    with pytest.raises(InputError, match=f"weight: needs one finite number >= 0 for each training row; {said}"):
        fit_estimator(pd.DataFrame(values, columns=NAMES), known, model=MODEL, seed=0, weight=weight)
    with pytest.raises(InputError, match="training, without the rows of weight 0: must hold at least 1 frauds"):
        fit_estimator(pd.DataFrame(values, columns=NAMES), known, model=MODEL, seed=0, weight=1.0 - known)


def test_members_are_the_mean_of_models_with_other_seeds_in_one_file(rows, tmp_path):
    values, known = rows
    X = pd.DataFrame(values, columns=NAMES)
    drawn = MODEL.model_copy(update={"subsample": 0.6, "colsample_bytree": 0.7, "members": 4})
    model = fit_estimator(X, known, model=drawn, seed=9, threads=1)
    each = [by_hand(values, known, drawn, 9 + STRIDE * member) for member in range(4)]
    assert np.std(each, axis=0).max() > 0.01
    np.testing.assert_allclose(model.margin(X), np.mean(each, axis=0), atol=5e-6)
    np.testing.assert_allclose(model.contributions(X).sum(axis=1), model.margin(X), atol=5e-6)
    assert (model.facts["members"], model.facts["trees"], model.facts["rounds"]) == (4, 100, 25)
    save_model(model, tmp_path / "model")
    np.testing.assert_array_equal(load_model(tmp_path / "model").margin(X), model.margin(X))


def test_members_stop_on_their_own_and_a_refit_takes_the_mean_of_their_rounds(rows):
    values, known = rows
    drawn = MODEL.model_copy(update={"subsample": 0.5, "members": 3, "n_estimators": 80, "early_stopping_rounds": 5})
    data = tree_data(values[:1500], known[:1500], NAMES, model=drawn, threads=1)
    valid = tree_data(values[1500:], known[1500:], NAMES, model=drawn, reference=data, threads=1)
    trees, facts = boost(data, drawn, 0, valid=valid, threads=1)
    rounds = [
        boost(data, drawn.model_copy(update={"members": 1}), STRIDE * member, valid=valid, threads=1)[1]["rounds"]
        for member in range(3)
    ]
    assert facts["trees"] == sum(rounds) == trees.booster.num_boosted_rounds()
    assert facts["rounds"] == round(np.mean(rounds))


def test_members_that_cannot_differ_are_refused_in_a_config_and_never_grown_twice(rows, tmp_path):
    values, known = rows
    data = tree_data(values, known, NAMES, model=MODEL, threads=1)
    assert boost(data, MODEL.model_copy(update={"members": 5}), 0, threads=1)[1]["members"] == 1
    path = tmp_path / "c.toml"
    path.write_text('name = "t"\n[dataset]\nname = "t"\nsource = "simulate"\ncontract = "c"\n[model]\nmembers = 5\n')
    with pytest.raises(
        InputError, match=r"model.members differ only where rows or columns are drawn; set subsample or"
    ):
        load_config(path)
    assert load_config(path, model__subsample=0.8).model.members == 5


def test_a_monotone_feature_never_turns_round(rows):
    values, known = rows
    X = pd.DataFrame(values, columns=NAMES)
    free = fit_estimator(X, known, model=MODEL, seed=0, threads=1)
    constrained = MODEL.model_copy(update={"monotone": {"ratio": 1, "noise": -1}})
    held = fit_estimator(X, known, model=constrained, seed=0, threads=1)
    # Frauds have low ratios, so that the free model falls where the held one must not.
    grid = pd.DataFrame({"amount": 0.3, "ratio": np.linspace(-3, 3, 200), "noise": 0.0})
    assert (np.diff(free.margin(grid)) < 0).any()
    assert (np.diff(held.margin(grid)) >= 0).all()
    grid = grid.assign(ratio=0.0, noise=np.linspace(-3, 3, 200))
    assert (np.diff(held.margin(grid)) <= 0).all()


def test_constraints_that_cannot_hold_are_refused(rows):
    values, known = rows
    X = pd.DataFrame(values, columns=NAMES)
    wrong = MODEL.model_copy(update={"monotone": {"amout": 1}})
    with pytest.raises(InputError, match=r"model.monotone: 'amout' is none of the features; did you mean 'amount'\?"):
        fit_estimator(X, known, model=wrong, seed=0)
    channel = X.assign(channel=np.where(known, "online", "pos"))
    for kind in ("xgboost", "logistic"):
        held = MODEL.model_copy(update={"kind": kind, "monotone": {"channel": 1}})
        with pytest.raises(
            InputError, match=r"model.monotone: ('channel' holds categories|a logistic regression keeps)"
        ):
            fit_estimator(channel, known, model=held, seed=0, categories=["channel"])


def test_categories_are_split_as_sets_and_unseen_ones_scored(rows):
    values, known = rows
    rng = np.random.default_rng(3)
    kinds = np.array(["a", "b", "c", "d"])
    channel = np.where(known, kinds[rng.choice([0, 2], len(known))], kinds[rng.choice(4, len(known))])
    X = pd.DataFrame(values, columns=NAMES).assign(channel=channel)
    model = fit_estimator(X, known, model=MODEL, seed=0, categories=["channel"], threads=1)
    risk = {name: model.score(X.assign(channel=name)).mean() for name in kinds}
    assert min(risk["a"], risk["c"]) > 2 * max(risk["b"], risk["d"])
    assert np.isfinite(model.score(X.assign(channel="never seen"))).all()
    assert np.isfinite(model.score(X.assign(channel=None))).all()
    frame = pd.DataFrame(values, columns=NAMES).assign(channel=pd.Categorical(channel))
    oracle = xgb.XGBClassifier(
        n_estimators=25, max_depth=3, max_bin=512, learning_rate=0.1, base_score=0.5, enable_categorical=True, n_jobs=1
    ).fit(frame, known)
    np.testing.assert_allclose(model.score(X), oracle.predict_proba(frame)[:, 1], rtol=1e-5)
    exact = MODEL.model_copy(update={"tree_method": "exact"})
    with pytest.raises(
        InputError, match=r"model.tree_method: exact knows no categories; found 1 category columns, such"
    ):
        fit_estimator(X, known, model=exact, seed=0, categories=["channel"])


def test_a_gpu_that_is_not_there_is_refused_not_replaced(rows, monkeypatch):
    values, known = rows
    X, cuda = pd.DataFrame(values, columns=NAMES), MODEL.model_copy(update={"device": "cuda"})
    if not boosting.has_gpu():
        with pytest.raises(
            InputError, match=r"model.device: cuda needs an NVIDIA GPU and the library xgboost built for it"
        ):
            fit_estimator(X, known, model=cuda, seed=0)
    monkeypatch.setattr(boosting, "has_gpu", lambda: True)
    data = tree_data(values, known, NAMES, model=MODEL, threads=1)
    assert boosting._params(data, cuda, 0)["device"] == "cuda"
    with pytest.raises(InputError, match="cuda grows trees with tree_method 'hist' only; found 'exact'"):
        boosting._params(data, cuda.model_copy(update={"tree_method": "exact"}), 0)
