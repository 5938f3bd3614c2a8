"""Models are held against other ways to the same number: scikit-learn, counting, the published benchmark."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
import xgboost as xgb
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fraudlab.config import ModelConfig
from fraudlab.models import IsotonicCalibrator, Trees
from fraudlab.schema import InputError
from fraudlab.training import (
    fit_calibrator,
    fit_estimator,
    fit_fold,
    fit_models,
    fit_rules,
    load_model,
    save_model,
)

TREES = ModelConfig(n_estimators=60, early_stopping_rounds=10, learning_rate=0.2, max_depth=3)
LINEAR = ModelConfig(kind="logistic")


@dataclass(frozen=True)
class Parts:
    """The four row sets of a fold, all that training looks at."""

    train: np.ndarray
    valid: np.ndarray
    refit: np.ndarray
    test: np.ndarray


def make_data(rows: int = 6000, seed: int = 0) -> tuple[pd.DataFrame, pd.Series, Parts]:
    rng = np.random.default_rng(seed)
    amount = np.round(rng.lognormal(3.5, 0.8, rows), 2)
    ratio = rng.lognormal(0, 0.6, rows)
    count = rng.poisson(2.0, rows)
    new_device = rng.random(rows) < 0.08
    margin = -4.0 + 1.6 * np.log(ratio) + 0.5 * (count > 4) + 2.0 * new_device + 0.8 * (np.log(amount) - 3.5)
    fraud = rng.random(rows) < expit(margin)
    ratio[rng.random(rows) < 0.1] = np.nan
    X = pd.DataFrame(
        {
            "amount": amount,
            "amount_ratio": ratio,
            "count_1d": count,
            "new_device": new_device,
            "noise": rng.normal(size=rows),
        }
    )
    at = np.arange(rows)
    parts = Parts(at[: rows // 2], at[rows // 2 : 3 * rows // 4], at[rows // 4 : 3 * rows // 4], at[3 * rows // 4 :])
    return X, pd.Series(pd.array(fraud, dtype="boolean")), parts


DESCRIBE = pd.DataFrame(
    {
        "column": ["amount", "amount_ratio", "count_1d", "new_device", "noise"],
        "group": ["amount", "amount", "pace", "device", "noise"],
        "meaning": ["amount", "amount against own mean", "payments in a day", "device not seen before", "noise"],
        "template": ["{value}", "{value} times usual", "{value} payments", "A new device", "{value}"],
        "kind": ["amount", "ratio", "count", "flag", "number"],
    }
)


@pytest.fixture(scope="module")
def data() -> tuple[pd.DataFrame, pd.Series, Parts]:
    return make_data()


@pytest.fixture(scope="module")
def models(data):
    X, y, fold = data
    return fit_models(X, y, fold, model=TREES, seed=3, describe=DESCRIBE, threads=1)


# -- trees ---------------------------------------------------------------------------------------------------------


def test_trees_are_those_of_the_library_with_the_stated_settings(data):
    X, y, fold = data
    model = fit_estimator(X.iloc[fold.train], y.iloc[fold.train], model=TREES, seed=3, threads=1)
    oracle = xgb.XGBClassifier(
        n_estimators=60, learning_rate=0.2, max_depth=3, tree_method="hist", max_bin=4096, base_score=0.5, n_jobs=1
    ).fit(X.iloc[fold.train].astype("float64"), y.iloc[fold.train].astype(int))
    test = X.iloc[fold.test]
    np.testing.assert_allclose(model.score(test), oracle.predict_proba(test.astype("float64"))[:, 1], rtol=1e-5)
    assert model.facts["trees"] == 60
    assert model.facts["best_iteration"] is None


def test_early_stopping_keeps_the_trees_with_the_best_average_precision_and_no_more(data):
    X, y, fold = data
    inside, later = (X.iloc[fold.train], y.iloc[fold.train]), (X.iloc[fold.valid], y.iloc[fold.valid])
    settings = TREES.model_copy(update={"n_estimators": 200})
    stopped = fit_estimator(*inside, model=settings, seed=3, X_valid=later[0], y_valid=later[1], threads=1)
    everything = fit_estimator(*inside, model=settings, seed=3, threads=1).estimator.booster
    assert everything.num_boosted_rounds() == 200

    # By hand: the precision-recall area after every round, in the full run.
    valid = xgb.DMatrix(
        later[0].astype("float64").to_numpy(), later[1].astype(int), feature_names=everything.feature_names
    )
    history = [float(everything[:rounds].eval_set([(valid, "v")]).split("v-aucpr:")[1]) for rounds in range(1, 120)]
    best = stopped.facts["best_iteration"]
    assert history[best] == max(history[: best + 11])
    assert 1 <= best < 119
    assert stopped.facts["trees"] == best + 1 == stopped.estimator.booster.num_boosted_rounds()
    margin = everything.predict(valid, output_margin=True, iteration_range=(0, best + 1))
    np.testing.assert_array_equal(stopped.margin(later[0]), margin)


@pytest.mark.parametrize("method", ["hist", "exact"])
def test_same_seed_gives_the_same_bits_on_one_thread_or_two(data, method):
    X, y, fold = data
    settings = TREES.model_copy(update={"subsample": 0.7, "colsample_bytree": 0.6, "tree_method": method})

    def margin(seed: int, threads: int) -> np.ndarray:
        model = fit_fold(X, y, fold, model=settings, seed=seed, threads=threads)
        return np.concatenate([model.margin(X), model.risk(X)])

    np.testing.assert_array_equal(margin(3, 1), margin(3, 1))
    np.testing.assert_array_equal(margin(3, 1), margin(3, 2))
    assert (margin(3, 1) != margin(4, 1)).any()


def test_a_row_scores_the_same_alone_and_in_any_company_or_column_order(data, models):
    X, _, fold = data
    test = X.iloc[fold.test[:30]]
    for model in models.values():
        together = model.margin(test)
        alone = np.concatenate([model.margin(test.iloc[[row]]) for row in range(len(test))])
        np.testing.assert_array_equal(alone, together)
        np.testing.assert_array_equal(model.margin(test[test.columns[::-1]].assign(other=1)), together)
        assert model.score(test.iloc[:0]).shape == (0,)


# -- logistic regression -------------------------------------------------------------------------------------------


def test_logistic_regression_is_the_pipeline_of_scikit_learn(data):
    X, y, fold = data
    X = X.assign(gone=np.nan, fixed=3.0)
    model = fit_estimator(X.iloc[fold.train], y.iloc[fold.train], model=LINEAR, seed=0)
    oracle = make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
        StandardScaler(),
        LogisticRegression(max_iter=1000),
    ).fit(X.iloc[fold.train].astype("float64").to_numpy(), y.iloc[fold.train].astype(int))
    later = X.iloc[fold.test].astype("float64")
    np.testing.assert_allclose(model.score(later), oracle.predict_proba(later.to_numpy())[:, 1], rtol=1e-9)
    assert model.facts["params"]["missing_indicators"] == 2


def test_missing_values_new_at_scoring_take_the_training_median(data):
    X, y, fold = data
    model = fit_estimator(X.iloc[fold.train], y.iloc[fold.train], model=LINEAR, seed=0)
    row = X.iloc[fold.test[:1]].astype("float64")
    median = float(X["amount"].iloc[fold.train].median())
    np.testing.assert_array_equal(model.margin(row.assign(amount=np.nan)), model.margin(row.assign(amount=median)))


# -- rules ---------------------------------------------------------------------------------------------------------


def test_rules_are_quantiles_of_genuine_rows_with_the_counted_odds(data):
    X, y, fold = data
    model = fit_rules(X.iloc[fold.train], y.iloc[fold.train], describe=DESCRIBE)
    fraud = y.iloc[fold.train].astype(bool)
    train = X.iloc[fold.train].astype("float64")
    rules = {rule.column: rule for rule in model.estimator.rules}
    assert {"amount_ratio", "new_device"} <= set(rules)
    assert "noise" not in rules  # kind "number" is no rule
    for rule in rules.values():
        genuine = train.loc[~fraud, rule.column].dropna()
        if rule.column == "new_device":
            assert (rule.comparison, rule.threshold) == (">=", 1.0)
            fired = train[rule.column] == 1
        else:
            assert rule.threshold == pytest.approx(genuine.quantile(rule.quantile), rel=1e-12)
            assert (genuine > rule.threshold).mean() <= 1 - rule.quantile + 1 / len(genuine)
            fired = train[rule.column] > rule.threshold
        table = pd.crosstab(fired, fraud).to_numpy() + 0.5
        assert rule.weight == pytest.approx(np.log(table[1, 1] * table[0, 0] / (table[0, 1] * table[1, 0])))
        assert rule.weight > 0
        assert (rule.frauds, rule.genuine) == ((fired & fraud).sum(), (fired & ~fraud).sum())


def test_rule_points_add_up_and_missing_never_fires(data):
    X, y, fold = data
    model = fit_rules(X.iloc[fold.train], y.iloc[fold.train], describe=DESCRIBE)
    row = X.iloc[fold.train[:1]].assign(amount=0.0, amount_ratio=np.nan, count_1d=0, new_device=False)
    assert model.margin(row)[0] == model.estimator.base
    device = next(rule for rule in model.estimator.rules if rule.column == "new_device")
    assert model.margin(row.assign(new_device=True))[0] == model.estimator.base + device.weight


def test_rules_keep_to_two_a_group_and_ten_in_all():
    rng = np.random.default_rng(1)
    fraud = rng.random(2000) < 0.1
    X = pd.DataFrame({f"f{i:02d}": rng.normal(size=2000) + 1.5 * fraud for i in range(16)})
    words = pd.DataFrame({"column": X.columns, "group": [f"g{i % 4}" for i in range(16)], "kind": "count"})
    rules = fit_rules(X, fraud, describe=words).estimator.rules
    assert len(rules) == 8
    assert pd.Series([int(rule.column[1:]) % 4 for rule in rules]).value_counts().tolist() == [2, 2, 2, 2]
    assert len(fit_rules(X, fraud).estimator.rules) == 10
    noise = pd.DataFrame(rng.normal(size=(2000, 40)), columns=[f"n{i}" for i in range(40)])
    assert len(fit_rules(noise, fraud).estimator.rules) <= 6  # 2.5 % of 120 candidates by chance


def test_without_a_telling_feature_the_rules_give_everyone_the_base_rate():
    X = pd.DataFrame({"a": np.ones(50)})
    model = fit_rules(X, [True] * 5 + [False] * 45)
    assert model.features == ()
    np.testing.assert_allclose(model.margin(X), np.log(5.5 / 45.5))


# -- calibration ---------------------------------------------------------------------------------------------------


def pool_adjacent_violators(score: np.ndarray, y: np.ndarray) -> np.ndarray:
    blocks = [[group.mean(), len(group)] for _, group in pd.Series(y.astype(float)).groupby(score, sort=True)]
    merged: list[list[float]] = []
    for mean, size in blocks:
        merged.append([mean, size, 1])
        while len(merged) > 1 and merged[-2][0] >= merged[-1][0]:
            last, before = merged.pop(), merged.pop()
            size = last[1] + before[1]
            merged.append([(last[0] * last[1] + before[0] * before[1]) / size, size, last[2] + before[2]])
    levels = np.concatenate([[mean] * int(count) for mean, _, count in merged])
    return levels[np.unique(score, return_inverse=True)[1]]


def test_isotonic_is_the_pooled_rate_and_never_certain():
    rng = np.random.default_rng(5)
    score = np.round(rng.random(800), 2)
    y = rng.random(800) < score**2
    curve = fit_calibrator(score, y, "isotonic")
    expected = np.clip(pool_adjacent_violators(score, y), 1 / 802, 801 / 802)
    np.testing.assert_allclose(curve.apply(score), expected, atol=1e-12)
    assert (curve.rows, curve.frauds) == (800, y.sum())


def test_sigmoid_is_the_likeliest_curve_for_the_smoothed_targets():
    rng = np.random.default_rng(6)
    score = rng.random(600)
    y = rng.random(600) < 0.3 * score
    curve = fit_calibrator(score, y, "sigmoid")
    frauds = int(y.sum())
    target = np.where(y, (frauds + 1) / (frauds + 2), 1 / (600 - frauds + 2))
    odds = logit(score)

    def loss(p: np.ndarray) -> float:
        return float(np.logaddexp(0, p[0] * odds + p[1]).sum() - (target * (p[0] * odds + p[1])).sum())

    best = minimize(loss, [1.0, 0.0], tol=1e-12).x
    np.testing.assert_allclose([curve.slope, curve.intercept], best, rtol=1e-3)


@pytest.mark.parametrize("method", ["isotonic", "sigmoid"])
def test_risk_never_falls_when_the_score_rises_and_stays_inside(method):
    rng = np.random.default_rng(7)
    score = np.concatenate([[0.0, 1.0], rng.random(300)])
    y = rng.random(302) < score
    risk = fit_calibrator(score, y, method).apply(np.linspace(0, 1, 2001))
    assert (np.diff(risk) >= -1e-15).all()
    assert risk.min() >= 1 / 304
    assert risk.max() <= 303 / 304
    assert risk[-1] - risk[0] > 0.5


def test_a_score_that_points_the_wrong_way_is_flattened_not_turned_around():
    score = np.linspace(0.01, 0.99, 200)
    y = score < 0.3
    for method in ("isotonic", "sigmoid"):
        risk = fit_calibrator(score, y, method).apply([0.01, 0.99])
        assert risk[0] == pytest.approx(risk[1])
        assert risk[0] == pytest.approx(y.mean(), abs=0.01)


def test_calibrated_risk_is_nearer_to_the_observed_rate_than_the_rule_score(data, models):
    X, y, fold = data
    rules, truth = models["rules"], y.iloc[fold.test].to_numpy(dtype=float)
    brier = ((rules.risk(X.iloc[fold.test]) - truth) ** 2).mean()
    assert brier < ((rules.score(X.iloc[fold.test]) - truth) ** 2).mean()


# -- on a fold -----------------------------------------------------------------------------------------------------


def test_the_candidate_comes_first_and_all_models_find_the_signal(data, models):
    X, y, fold = data
    assert list(models) == ["xgboost", "logistic", "rules"]
    for model in models.values():
        assert roc_auc_score(y.iloc[fold.test].astype(int), model.score(X.iloc[fold.test])) > 0.7
        json.dumps(model.facts, allow_nan=False)
    linear = fit_models(X, y, fold, model=LINEAR, seed=0, describe=DESCRIBE)
    assert list(linear) == ["logistic", "rules"]


def test_refit_takes_the_found_number_of_trees_on_the_latest_rows(data, models):
    X, y, fold = data
    facts = models["xgboost"].facts
    early = fit_fold(X, y, replace(fold, refit=fold.train), model=TREES, seed=3, threads=1)
    assert early.facts["refit"] is False
    assert facts["refit"] is True
    assert facts["trees"] == facts["best_iteration"] + 1 == early.facts["trees"]
    assert facts["rows"] == len(fold.refit)
    assert facts["frauds"] == int(y.iloc[fold.refit].sum())
    assert (facts["train_rows"], facts["train_frauds"]) == (len(fold.train), int(y.iloc[fold.train].sum()))
    again = fit_estimator(
        X.iloc[fold.refit],
        y.iloc[fold.refit],
        model=TREES.model_copy(update={"n_estimators": facts["trees"]}),
        seed=3,
        threads=1,
    )
    np.testing.assert_array_equal(again.margin(X), models["xgboost"].margin(X))
    # The calibrator and the validation scores are those of the model that has not seen the validation rows.
    assert models["xgboost"].calibrator == early.calibrator
    np.testing.assert_array_equal(models["xgboost"].valid_score, early.score(X.iloc[fold.valid]))
    assert (models["xgboost"].valid_score != models["xgboost"].score(X.iloc[fold.valid])).any()


def test_test_rows_and_their_labels_leave_no_trace(data, models):
    X, y, fold = data
    changed, flipped = X.astype("float64"), y.copy()
    changed.iloc[fold.test] = 10 * changed.iloc[fold.test] + 1
    flipped.iloc[fold.test] = pd.NA
    others = fit_models(changed, flipped, fold, model=TREES, seed=3, describe=DESCRIBE, threads=1)
    for name, model in models.items():
        np.testing.assert_array_equal(model.risk(X), others[name].risk(X))


def test_without_validation_rows_all_trees_are_kept_and_no_risk_is_claimed(data):
    X, y, fold = data
    bare = replace(fold, valid=np.array([], dtype="int64"), refit=fold.train)
    model = fit_fold(X, y, bare, model=TREES, seed=3, threads=1)
    assert model.facts["trees"] == 60
    assert model.facts["calibration"] is None
    assert model.valid_score is None
    with pytest.raises(InputError, match="found none, as the fold had no validation rows"):
        model.risk(X)


def test_too_few_frauds_are_refused_with_numbers(data):
    X, y, fold = data
    honest = y.copy()
    honest.iloc[fold.train] = False
    with pytest.raises(InputError, match=r"^fold.train: must hold at least 20 frauds .* found 0 frauds in 3,000 rows"):
        fit_fold(X, honest, fold, model=TREES, seed=0)
    honest = y.copy()
    honest.iloc[fold.valid] = False
    with pytest.raises(InputError, match=r"fold.valid: must hold at least 10 frauds .* found 0 frauds in 1,500 rows"):
        fit_fold(X, honest, fold, model=LINEAR, seed=0)
    found = int(y.iloc[fold.train].sum())
    with pytest.raises(InputError, match=rf"at least {found + 1} frauds and one genuine row; found {found} frauds"):
        fit_fold(X, y, fold, model=LINEAR, seed=0, min_positives=found + 1)
    fit_fold(X, y, replace(fold, refit=fold.train), model=LINEAR, seed=0, min_positives=found)


def test_unknown_labels_never_enter(data):
    X, y, fold = data
    unknown = y.copy()
    unknown.iloc[fold.train[:7]] = pd.NA
    with pytest.raises(InputError, match=r"fold.train: labels must be known; found 7 unknown of 3,000 rows"):
        fit_fold(X, unknown, fold, model=LINEAR, seed=0)


@pytest.mark.parametrize("model", [TREES, LINEAR])
def test_bad_features_are_refused_by_name_and_count(data, model):
    X, y, fold = data
    infinite = X.astype("float64")
    infinite.iloc[:3, 0] = np.inf
    infinite.iloc[5, 4] = -np.inf
    with pytest.raises(InputError, match=r"infinite ones of 3,000 rows: 'amount' 3, 'noise' 1; make the feature"):
        fit_fold(infinite, y, fold, model=model, seed=0)
    texts = X.assign(channel="pos", tier=pd.Categorical(["a"] * len(X)), at=pd.Timestamp("2026-01-01"))
    with pytest.raises(InputError, match=r"found 3 other: 'channel' \(str\), 'tier' \(category\), 'at' \(datetime64"):
        fit_fold(texts, y, fold, model=model, seed=0)
    fitted = fit_fold(X, y, fold, model=model, seed=0, threads=1)
    with pytest.raises(InputError, match="features: column 'count_1d' is missing; did you mean 'count_2d'"):
        fitted.score(X.rename(columns={"count_1d": "count_2d"}))


def test_lengths_and_positions_must_match(data):
    X, y, fold = data
    with pytest.raises(InputError, match="one label for each row of X; found 10 for 6,000"):
        fit_fold(X, y.iloc[:10], fold, model=LINEAR, seed=0)
    with pytest.raises(InputError, match=r"fold.test|fold.train: positions must lie within the 100 rows of X"):
        fit_fold(X.iloc[:100], y.iloc[:100], fold, model=LINEAR, seed=0)
    with pytest.raises(InputError, match="training: features and labels must have the same rows; found 9 and 10"):
        fit_estimator(X.iloc[:9], [True] + [False] * 9, model=LINEAR, seed=0)
    with pytest.raises(InputError, match="describe: must have a row for each feature; found none for noise"):
        fit_rules(X, y, describe=DESCRIBE.iloc[:4])


def test_calibration_refuses_what_it_cannot_learn_from():
    with pytest.raises(InputError, match=r"calibration: must hold at least 1 frauds .* found 0 frauds in 3 rows"):
        fit_calibrator([0.1, 0.2, 0.3], [0, 0, 0])
    with pytest.raises(InputError, match="found 2 scores, 1 of them outside, for 3 labels"):
        fit_calibrator([0.1, 1.2], [0, 0, 1])
    with pytest.raises(InputError, match="method: must be one of isotonic, sigmoid, beta; found 'platt'"):
        fit_calibrator([0.1, 0.2], [0, 1], "platt")


# -- files ---------------------------------------------------------------------------------------------------------


def test_saved_models_score_bit_for_bit_and_hold_no_pickle(data, models, tmp_path):
    X, y, fold = data
    sigmoid = fit_fold(X, y, fold, model=LINEAR.model_copy(update={"calibration": "sigmoid"}), seed=0)
    for name, model in {**models, "sigmoid": sigmoid}.items():
        digest = save_model(model, tmp_path / name)
        again = load_model(tmp_path / name, digest=digest)
        np.testing.assert_array_equal(again.margin(X), model.margin(X))
        np.testing.assert_array_equal(again.risk(X), model.risk(X))
        assert (again.name, again.features, again.calibrator, again.facts) == (
            model.name,
            model.features,
            model.calibrator,
            {key: value for key, value in model.facts.items() if key != "seconds"},
        )
        estimator = "trees.ubj" if isinstance(model.estimator, Trees) else "estimator.json"
        assert {path.name for path in (tmp_path / name).iterdir()} == {"model.json", estimator}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logistic", "rules", "sigmoid", "xgboost"]


def test_equal_fits_are_saved_in_equal_bytes(data, models, tmp_path):
    X, y, fold = data
    again = fit_models(X, y, fold, model=TREES, seed=3, describe=DESCRIBE, threads=2)
    for name, model in models.items():
        slower = replace(again[name], facts=again[name].facts | {"seconds": model.facts["seconds"] + 1})
        assert save_model(model, tmp_path / "a" / name) == save_model(slower, tmp_path / "b" / name)
        for path in sorted((tmp_path / "a" / name).iterdir()):
            assert path.read_bytes() == (tmp_path / "b" / name / path.name).read_bytes(), path.name
        assert slower.facts["seconds"] > model.facts["seconds"] >= 0


def test_no_flipped_bit_and_no_lost_end_is_loaded(models, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("xgboost", "rules"):
        folder = tmp_path / name
        save_model(models[name], folder)
        for path in sorted(folder.iterdir()):
            whole = path.read_bytes()
            for place, bit in zip(rng.integers(0, len(whole), 60), rng.integers(0, 8, 60)):
                damaged = bytearray(whole)
                damaged[place] ^= 1 << int(bit)
                path.write_bytes(damaged)
                with pytest.raises(InputError, match=r"must be exactly what was saved; .*(damaged|format)"):
                    load_model(folder)
            for end in (0, 1, len(whole) // 2, len(whole) - 1):
                path.write_bytes(whole[:end])
                with pytest.raises(InputError, match="damaged"):
                    load_model(folder)
            path.write_bytes(whole)
            load_model(folder)


def test_missing_unexpected_and_exchanged_files_are_refused(models, tmp_path):
    digest = save_model(models["xgboost"], tmp_path / "model")
    (tmp_path / "model" / "extra.pkl").write_bytes(b"x")
    with pytest.raises(InputError, match=r"unexpected files: extra.pkl"):
        load_model(tmp_path / "model")
    (tmp_path / "model" / "extra.pkl").unlink()
    (tmp_path / "model" / "trees.ubj").unlink()
    with pytest.raises(InputError, match=r"trees.ubj is missing or unreadable"):
        load_model(tmp_path / "model")
    with pytest.raises(InputError, match=r"model.json is missing or unreadable"):
        load_model(tmp_path / "nowhere")
    # A well-formed model in place of another: only the digest kept elsewhere can tell.
    save_model(models["rules"], tmp_path / "other")
    load_model(tmp_path / "other")
    with pytest.raises(InputError, match=r"model.json is not the one recorded"):
        load_model(tmp_path / "other", digest=digest)


def test_saving_never_overwrites_and_leaves_nothing_half_done(models, tmp_path, monkeypatch):
    save_model(models["rules"], tmp_path / "model")
    before = (tmp_path / "model" / "model.json").read_bytes()
    with pytest.raises(InputError, match="must be new or empty; found something there"):
        save_model(models["xgboost"], tmp_path / "model")
    assert (tmp_path / "model" / "model.json").read_bytes() == before

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_model(models["rules"], tmp_path / "second")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_calibrators_are_plain_frozen_numbers(models):
    calibrator = models["xgboost"].calibrator
    assert isinstance(calibrator, IsotonicCalibrator)
    assert all(type(value) is float for value in calibrator.score + calibrator.risk)
    with pytest.raises(AttributeError):
        calibrator.rows = 1


# -- the published benchmark ---------------------------------------------------------------------------------------

HANDBOOK = Path(os.environ.get("FRAUDLAB_HANDBOOK", Path(__file__).parents[3] / "shared" / "data" / "handbook.parquet"))
WINDOWS = {"1d": "1 DAY", "7d": "7 DAYS", "30d": "30 DAYS"}


def handbook_inputs() -> pd.DataFrame:
    """The published 15 inputs by SQL windows, from late July on; rows since early June fill the longest window."""
    inputs, frames = [], []
    for name, length in WINDOWS.items():
        # (t - w, t] is half open and RANGE frames are closed: they start one microsecond later.
        start = f"INTERVAL {length} - INTERVAL 1 MICROSECOND"
        inputs += [
            f"count(*) OVER c{name} AS customer_count_{name}",
            f"avg(amount) OVER c{name} AS customer_mean_{name}",
            f"count(*) OVER t{name} AS terminal_count_{name}",
            f"coalesce(avg(fraud) OVER t{name}, 0) AS terminal_risk_{name}",
        ]
        frames += [
            f"c{name} AS (PARTITION BY customer ORDER BY moment RANGE BETWEEN {start} PRECEDING AND CURRENT ROW)",
            f"t{name} AS (PARTITION BY terminal ORDER BY moment RANGE BETWEEN {start} + INTERVAL 7 DAYS PRECEDING"
            " AND INTERVAL 7 DAYS PRECEDING)",
        ]
    return duckdb.sql(
        f"""
        WITH raw AS (
            SELECT TRANSACTION_ID AS id, TX_DATETIME::TIMESTAMP AS moment, CUSTOMER_ID AS customer,
                TERMINAL_ID AS terminal, TX_AMOUNT AS amount, TX_TIME_DAYS AS day, TX_FRAUD AS fraud
            FROM '{HANDBOOK}' WHERE TX_DATETIME >= '2018-06-10' AND TX_DATETIME < '2018-09-05'
        ), joined AS (
            SELECT *, (isodow(moment) >= 6)::INT AS weekend, (hour(moment) <= 6)::INT AS night, {", ".join(inputs)}
            FROM raw WINDOW {", ".join(frames)}
        )
        SELECT * EXCLUDE (moment, terminal) FROM joined WHERE moment >= '2018-07-25' ORDER BY id
        """
    ).df()


def handbook_fold(table: pd.DataFrame, start: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Seven days of training, seven of delay, seven of test without the customers known as victims."""
    train = table[table["day"].between(start, start + 6)]
    known = set(train.loc[train["fraud"] == 1, "customer"])
    days = []
    for day in range(start + 14, start + 21):
        learned = table[(table["day"] == day - 8) & (table["fraud"] == 1)]
        known |= set(learned["customer"])
        days.append(table[(table["day"] == day) & ~table["customer"].isin(known)])
    return train, pd.concat(days)


@pytest.mark.slow
@pytest.mark.skipif(not HANDBOOK.is_file(), reason="the published transactions are absent; set FRAUDLAB_HANDBOOK")
def test_the_published_figures_are_reproduced():
    table = handbook_inputs()
    inputs = [column for column in table.columns if column not in ("id", "customer", "day", "fraud")]
    assert len(inputs) == 15
    trees = ModelConfig(n_estimators=100, learning_rate=0.1, max_depth=3, tree_method="exact", early_stopping_rounds=0)
    found = {"logistic": [], "xgboost": []}
    for week, start in enumerate(range(115, 115 + 28, 7)):  # day 115 is 2018-07-25
        train, test = handbook_fold(table, start)
        if week == 0:
            assert (len(train), train["fraud"].sum()) == (67_240, 598)
            assert (len(test), test["fraud"].sum()) == (58_264, 385)
        for kind, figures in found.items():
            settings = trees.model_copy(update={"kind": kind})
            model = fit_estimator(train[inputs], train["fraud"], model=settings, seed=0)
            score = model.score(test[inputs])
            figures.append((roc_auc_score(test["fraud"], score), average_precision_score(test["fraud"], score)))
    print({kind: [np.round(figures[0], 4), np.round(np.mean(figures, axis=0), 4)] for kind, figures in found.items()})
    assert found["logistic"][0] == pytest.approx((0.871, 0.606), abs=0.003)
    assert np.mean(found["xgboost"], axis=0) == pytest.approx((0.871, 0.694), abs=0.002)
