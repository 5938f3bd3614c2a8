"""From config to evidence: the same numbers under any key, thresholds without hindsight, one call that fits it all."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from fraudlab import explaining, recipe, training
from fraudlab.config import RunConfig, SamplingConfig, TuningConfig, Workspace, load_config
from fraudlab.datasets import ingest
from fraudlab.features import FeatureSet, value
from fraudlab.schema import InputError
from fraudlab.splits import temporal_fold

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "dataset__simulate__customers": 300,
    "dataset__simulate__merchants": 100,
    "dataset__simulate__days": 95,
    "split__train_days": 30,
    "split__valid_days": 14,
    "split__test_days": 12,
    "split__min_positives": 5,
    "model__n_estimators": 40,
    "decision__alerts_per_day": 3,
    "decision__step_up_per_day": 6,
}


def worked_through(folder: Path) -> tuple[RunConfig, recipe.Prepared, dict[str, training.FittedModel]]:
    config = load_config(ROOT / "configs" / "demo.toml", **SMALL)
    workspace = Workspace(folder)
    ingest(config, workspace)
    prepared = recipe.prepare(config, workspace)
    return config, prepared, recipe.fit(config, prepared, threads=1).models


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, recipe.Prepared, dict[str, training.FittedModel]]:
    return worked_through(tmp_path_factory.mktemp("one"))


def test_another_key_changes_every_pseudonym_and_no_figure(one, tmp_path: Path) -> None:
    config, prepared, models = one
    _, other, other_models = worked_through(tmp_path)
    assert set(prepared.transactions["customer_id"]).isdisjoint(other.transactions["customer_id"])
    pd.testing.assert_frame_equal(prepared.features, other.features, check_exact=True)
    scores = recipe.score_part(models, prepared, "test")
    pd.testing.assert_frame_equal(scores, recipe.score_part(other_models, other, "test"), check_exact=True)
    ours = recipe.performance(models, prepared, scores, config, n_boot=20)
    theirs = recipe.performance(other_models, other, scores, config, n_boot=20)
    for name, table in ours.items():
        pd.testing.assert_frame_equal(table, theirs[name], check_exact=True, obj=name)


def test_one_call_does_what_the_steps_do_by_hand(one) -> None:
    config, prepared, models = one
    by_hand = training.fit_models(
        prepared.features,
        prepared.labels,
        prepared.fold,
        model=config.model,
        seed=config.seed,
        describe=prepared.feature_set.describe(),
        min_positives=config.split.min_positives,
        categories=config.features.categories,
        encoding=config.features.encoding,
        anomaly=config.anomaly,
        threads=1,
    )
    assert list(models) == list(by_hand) == ["xgboost", "logistic", "rules", "anomaly"]
    for name, model in models.items():
        np.testing.assert_array_equal(model.score(prepared.features), by_hand[name].score(prepared.features))
        assert model.calibrator == by_hand[name].calibrator
    fitted = recipe.fit(config, prepared, threads=1)
    assert fitted.thresholds == recipe.thresholds_from_validation(models["xgboost"], prepared, config)
    assert (fitted.tables, fitted.search, len(fitted.trials), len(fitted.selection)) == ({}, None, 0, 0)
    assert recipe.training_headline(fitted).startswith("xgboost learnt from ")


@pytest.mark.slow
def test_the_same_recipe_gives_the_same_bits_on_one_thread_and_equal_metrics_on_two(one) -> None:
    config, prepared, models = one
    drawn = config.model.model_copy(update={"subsample": 0.7, "colsample_bytree": 0.5, "members": 2})
    drawn = config.model_copy(update={"model": drawn})
    first, again, wide = (recipe.fit(drawn, prepared, threads=threads) for threads in (1, 1, 2))
    scores = [recipe.score_part(fitted.models, prepared, "test") for fitted in (first, again, wide)]
    pd.testing.assert_frame_equal(scores[0], scores[1], check_exact=True)
    tables = [recipe.performance(first.models, prepared, each, drawn, n_boot=0)["metrics"] for each in scores]
    pd.testing.assert_frame_equal(tables[0], tables[2], rtol=1e-6)
    assert first.thresholds == again.thresholds
    assert first.candidate.facts["members"] == 2
    assert (first.candidate.score(prepared.features) != models["xgboost"].score(prepared.features)).any()


@pytest.mark.slow
def test_a_search_replaces_the_stated_settings_and_leaves_its_tables(one, tmp_path: Path) -> None:
    config, prepared, _ = one
    tuned = config.model_copy(
        update={
            "tuning": TuningConfig(trials=3, folds=1, rule="mean", space={"max_depth": [1, 6], "fraud_weight": [1, 9]})
        }
    )
    said: list[str] = []
    fitted = recipe.fit(tuned, prepared, storage=tmp_path / "tuning.db", threads=1, say=said.append)
    assert len(said) == 3
    chosen = fitted.trials[fitted.trials["chosen"]].iloc[0]
    assert chosen["mean"] == fitted.trials["mean"].max() == fitted.trials["mean"].iloc[0]
    assert fitted.config.model.max_depth == chosen["max_depth"] == fitted.search["chosen"]["max_depth"]
    assert fitted.config.sampling.fraud_weight == chosen["fraud_weight"]
    assert fitted.candidate.facts["params"]["max_depth"] == chosen["max_depth"]
    assert fitted.candidate.shift == pytest.approx(-np.log(chosen["fraud_weight"]))
    assert list(fitted.tables) == ["trials", "trial_scores", "selection"]
    assert fitted.selection.set_index("rule").loc["mean", "used"]
    assert recipe.training_headline(fitted).endswith(f"setting {chosen['trial']} of 3 tried")
    pd.testing.assert_frame_equal(
        recipe.fit(tuned, prepared, storage=tmp_path / "tuning.db", threads=1, say=said.append).trials, fitted.trials
    )
    assert len(said) == 3, "nothing is tried twice"


def test_row_weights_reach_the_candidate_alone_and_its_margin_is_put_right(one) -> None:
    config, prepared, models = one
    weighed = config.model_copy(update={"sampling": SamplingConfig(genuine_per_fraud=5.0)})
    fitted = recipe.fit(weighed, prepared, threads=1)
    frauds, genuine = int(prepared.rows("refit")["y"].sum()), int((prepared.rows("refit")["y"] == 0).sum())
    assert fitted.candidate.facts["rows"] == 6 * frauds
    assert fitted.candidate.shift == pytest.approx(np.log(5 * frauds / genuine))
    for name in ("logistic", "rules"):
        np.testing.assert_array_equal(
            fitted.models[name].score(prepared.features), models[name].score(prepared.features)
        )


def leaking(prepared: recipe.Prepared, **columns: np.ndarray) -> recipe.Prepared:
    known = dict.fromkeys(columns)
    specs = [*prepared.feature_set.specs, *(value(name) for name in known)]
    wider = FeatureSet("leaking", specs, prepared.feature_set.dtype)
    return dataclasses.replace(prepared, features=prepared.features.assign(**columns), feature_set=wider)


def test_a_feature_that_tells_frauds_almost_alone_must_be_confirmed(one) -> None:
    config, prepared, _ = one
    rng = np.random.default_rng(0)
    answer = prepared.labels.fillna(False).to_numpy(dtype=float)
    leaked = leaking(prepared, chargeback=-answer + rng.normal(0, 0.05, len(answer)))
    with pytest.raises(InputError) as refusal:
        recipe.fit(config, leaked, threads=1)
    assert str(refusal.value) == (
        f"FL005 no feature tells frauds almost alone: 1 of {len(leaked.feature_set.columns)} features tells frauds "
        "almost alone (AUC above 0.99): chargeback. Nothing was trained; take them out or mend them, `fraudlab "
        "features audit` says what each one reads; where one is honest, list it in features.confirmed"
    )
    features = config.features.model_copy(update={"confirmed": ("chargeback",)})
    fitted = recipe.fit(config.model_copy(update={"features": features}), leaked, threads=1)
    assert "chargeback" in fitted.candidate.features


def test_bad_features_and_labels_are_refused_before_anything_is_fitted(one) -> None:
    config, prepared, _ = one
    fold = prepared.fold
    first = prepared.features.columns[0]
    infinite = prepared.features.copy()
    infinite.iloc[fold.train[:2], 0] = np.inf
    with pytest.raises(InputError, match=rf"training: values must be finite; found infinite ones .* '{first}' 2; make"):
        recipe.fit(config, dataclasses.replace(prepared, features=infinite), threads=1)
    text = prepared.features.assign(note=pd.Series(["a"] * len(prepared.features), dtype=object))
    with pytest.raises(InputError, match=r"columns must be numbers or booleans; found 1 other: 'note' \(object\)"):
        recipe.fit(config, dataclasses.replace(prepared, features=text), threads=1)
    for part, least in (("train", 5), ("valid", 10)):
        honest = prepared.transactions.copy()
        honest.iloc[getattr(fold, part), honest.columns.get_loc("is_fraud")] = False
        with pytest.raises(InputError, match=rf"must hold at least {least} frauds and one genuine row; found 0 frauds"):
            recipe.fit(config, dataclasses.replace(prepared, transactions=honest), threads=1)


def test_a_test_without_labels_or_frauds_without_number_are_refused_when_the_fold_is_cut(one) -> None:
    config, prepared, _ = one
    start = prepared.fold.test_start.date()
    late = prepared.transactions["event_time"] >= prepared.fold.test_start
    unknown = prepared.transactions.assign(
        is_fraud=prepared.transactions["is_fraud"].mask(late), label_time=prepared.transactions["label_time"].mask(late)
    )
    split = config.split.model_copy(update={"test_start": start})
    with pytest.raises(InputError, match=r"split.test_start: the test period .* must have labels; found none among"):
        temporal_fold(unknown, split)
    honest = prepared.transactions.assign(is_fraud=prepared.transactions["is_fraud"].mask(~late, False))
    with pytest.raises(InputError, match=r"the train window .* must hold 5 or more frauds .* found 0 among"):
        temporal_fold(honest, split)


def test_thresholds_are_chosen_without_the_test(one) -> None:
    config, prepared, models = one
    model = models["xgboost"]
    chosen = recipe.thresholds_from_validation(model, prepared, config)
    assert chosen.step_up <= chosen.review
    # The cases of the validation days that reach manual review, counted by hand, fill the budget and do not exceed it.
    part = prepared.rows("valid")["transactions"]
    cases = (
        pd.DataFrame({"day": part["event_time"].dt.date, "who": part["customer_id"], "score": model.valid_score})
        .groupby(["day", "who"])["score"]
        .max()
    )
    days = part["event_time"].dt.date.nunique()
    assert (
        0.8 * config.decision.alerts_per_day <= (cases >= chosen.review).sum() / days <= config.decision.alerts_per_day
    )


def test_single_features_are_ranked_on_training_rows_like_sklearn(one) -> None:
    _, prepared, _ = one
    table = recipe.single_feature_ranking(prepared).set_index("feature")
    part = prepared.rows("refit")
    for name in ("amount", "customer_id__count__1d", "customer_id__speed"):
        values = part["features"][name].fillna(-np.inf).clip(-1e30)
        auc = roc_auc_score(part["y"], values)
        assert table.loc[name, "auc_roc"] == pytest.approx(max(auc, 1 - auc))
    assert table["auc_roc"].is_monotonic_decreasing
    assert table["auc_roc"].max() < 0.99, "one column that tells the label is a leak"


def test_example_alerts_name_nobody(one) -> None:
    config, prepared, models = one
    thresholds = recipe.thresholds_from_validation(models["xgboost"], prepared, config).to_dict()
    alerts = explaining.alert_examples(models["xgboost"], prepared, thresholds, config)
    text = str(alerts)
    ids = ["transaction_id", "customer_id", "card_id", "device_id", "ip"]
    known = {value for name in ids for value in prepared.transactions[name].dropna().unique()}
    assert not [value for value in known if value in text]
    assert explaining.alerts_table(alerts)["case"].tolist() == [1, 2, 3, 4, 5]


def test_membership_compares_what_was_learnt_with_what_was_not(one) -> None:
    _, prepared, models = one
    model = models["xgboost"]
    table = recipe.membership(prepared, model).set_index("group")
    learnt, other = prepared.rows("refit"), prepared.rows("test")
    assert table["members"].tolist() == [len(learnt["y"]), learnt["y"].sum(), (learnt["y"] == 0).sum()]
    assert table["others"].tolist() == [len(other["y"]), other["y"].sum(), (other["y"] == 0).sum()]
    # of the frauds, the higher the score the smaller the surprise
    scores = [model.score(part["features"])[part["y"] == 1] for part in (learnt, other)]
    expected = roc_auc_score(np.repeat([1, 0], [len(each) for each in scores]), np.concatenate(scores))
    assert table.loc["fraud", "auc"] == pytest.approx(expected)


@pytest.mark.slow
def test_a_model_that_learns_by_heart_is_found_out(one) -> None:
    config, prepared, _ = one
    by_heart = training.fit_models(
        prepared.features,
        prepared.labels,
        prepared.fold,
        model=config.model.model_copy(
            update={"max_depth": 12, "min_child_weight": 0, "learning_rate": 0.5, "n_estimators": 200}
        ),
        seed=config.seed,
        describe=prepared.feature_set.describe(),
        min_positives=config.split.min_positives,
        categories=config.features.categories,
        threads=1,
    )
    small = recipe.membership(prepared, one[2]["xgboost"]).set_index("group")["auc"]
    large = recipe.membership(prepared, by_heart["xgboost"]).set_index("group")["auc"]
    assert large["fraud"] > 0.9
    assert large["fraud"] > small["fraud"]


def test_a_model_without_probabilities_says_so(one) -> None:
    _, prepared, models = one
    points = dataclasses.replace(models["rules"], calibrator=None)
    score = points.score(prepared.rows("test")["features"])
    table = recipe.membership(prepared, points)
    if ((score >= 0) & (score <= 1)).all():
        assert table["auc"].notna().all()
    else:
        assert table["note"].tolist() == ["not applicable: the model states no probability"]
        assert table["auc"].isna().all()
