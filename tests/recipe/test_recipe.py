"""From config to evidence: the same numbers under any key, thresholds without hindsight, a gate that can say no."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from fraudlab import recipe, training
from fraudlab.checks import Finding
from fraudlab.config import GateConfig, RunConfig, Workspace, load_config
from fraudlab.datasets import ingest
from fraudlab.schema import InputError

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
    models = training.fit_models(
        prepared.features,
        prepared.labels,
        prepared.fold,
        model=config.model,
        seed=config.seed,
        describe=prepared.feature_set.describe(),
        min_positives=config.split.min_positives,
        threads=1,
    )
    return config, prepared, models


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


def figures(**values: float) -> pd.DataFrame:
    rows = []
    for name, value in values.items():
        model, metric = name.split("__")
        rows.append({"model": model, "metric": metric, "group": "all", "value": value})
    return pd.DataFrame(rows)


OURS = {"xgboost__auc_roc": 0.9, "xgboost__card_precision_at_k": 0.3, "rules__card_precision_at_k": 0.1}


@pytest.mark.parametrize(
    ("changes", "champion", "passed"),
    [
        ({}, None, [True, True]),
        ({"xgboost__auc_roc": 0.55}, None, [False, True]),
        ({"rules__card_precision_at_k": 0.3}, None, [True, False]),
        ({}, 0.32, [True, True, True, True]),
        ({}, 0.3201, [True, True, True, False]),
    ],
)
def test_the_gate(one, changes: dict[str, float], champion: float | None, passed: list[bool]) -> None:
    fold = one[1].fold
    before = champion and recipe.Incumbent("1", fold.refit_end, figures(champion__card_precision_at_k=champion))
    gate = GateConfig(non_inferiority=0.02)
    found = recipe.promotion_gate(figures(**(OURS | changes)), "xgboost", before, gate, fold=fold)
    assert [check["passed"] for check in found] == passed
    assert all(check["required"] and check["check"] and check["found"] for check in found)


def test_a_look_back_never_takes_over(one) -> None:
    fold = one[1].fold
    later = recipe.Incumbent("1", fold.refit_end + pd.Timedelta(days=1), figures(champion__card_precision_at_k=0.0))
    found = recipe.promotion_gate(figures(**OURS), "xgboost", later, GateConfig(), fold=fold)
    assert [check["check"] for check in found if not check["passed"]] == [
        "has learnt from payments as late as the champion's"
    ]
    flattered = recipe.Incumbent("1", fold.test_end, figures(champion__card_precision_at_k=0.0))
    found = recipe.promotion_gate(figures(**OURS), "xgboost", flattered, GateConfig(), fold=fold)
    assert found[-1]["check"].endswith("which has learnt from some of these days")


def test_a_champion_that_cannot_be_read_is_not_replaced_in_silence(one) -> None:
    broken = recipe.Incumbent("1", None, None, "its package is damaged")
    found = recipe.promotion_gate(figures(**OURS), "xgboost", broken, GateConfig(), fold=one[1].fold)
    assert found[-1] == {
        "check": "the champion can be compared",
        "required": "a package that loads",
        "found": "its package is damaged",
        "passed": False,
    }


def test_the_gate_refuses_a_table_without_the_figures(one) -> None:
    with pytest.raises(InputError, match="must hold card_precision_at_k of rules once; found 0"):
        recipe.promotion_gate(figures(**OURS).iloc[:2], "xgboost", None, GateConfig(), fold=one[1].fold)


def test_example_alerts_name_nobody(one) -> None:
    config, prepared, models = one
    thresholds = recipe.thresholds_from_validation(models["xgboost"], prepared, config).to_dict()
    alerts = recipe.alert_examples(models["xgboost"], prepared, thresholds, config)
    text = str(alerts)
    ids = ["transaction_id", "customer_id", "card_id", "device_id", "ip"]
    known = {value for name in ids for value in prepared.transactions[name].dropna().unique()}
    assert not [value for value in known if value in text]
    assert recipe.alerts_table(alerts)["case"].tolist() == [1, 2, 3, 4, 5]


def test_the_audit_looks_at_nothing_from_the_test_on(one) -> None:
    config, prepared, _ = one
    found = recipe.audit_features(prepared, config, rows=2000)
    assert found["leakage"].result == "passed", found["leakage"].sentence
    assert found["leakage"].table["column"].tolist() == list(prepared.feature_set.columns)
    assert [finding.code for finding in found.values()] == ["FL001", "FL002", "FL003"]
    rng = np.random.default_rng(0)
    late = (prepared.transactions["event_time"] >= prepared.fold.test_start).to_numpy()
    spoilt = dataclasses.replace(
        prepared,
        transactions=prepared.transactions.assign(
            amount=np.where(late, rng.random(late.size), prepared.transactions["amount"]),
            is_fraud=prepared.transactions["is_fraud"].mask(late, pd.NA),
        ),
        features=prepared.features.mask(pd.Series(late), axis=0),
    )
    again = recipe.audit_features(spoilt, config, rows=2000)
    for name, finding in found.items():
        pd.testing.assert_frame_equal(finding.table, again[name].table, obj=name)
    watched = recipe.features_to_watch(found, prepared)
    assert sorted(watched["feature"]) == sorted(prepared.feature_set.columns)
    assert watched["label"].notna().all()


def test_a_feature_that_sees_the_future_stops_the_run_with_a_sentence(one) -> None:
    nothing = pd.DataFrame()
    seen = "1 of 38 features sees the future: amount."
    found = {
        "leakage": Finding("FL001", "Features see only the past", "stops the run", "failed", seen, nothing),
        "stability": Finding("FL003", "Values stay", "informs", "failed", "1 of 38 features changed.", nothing),
    }
    with pytest.raises(InputError) as refusal:
        recipe.check_features(found)
    assert str(refusal.value) == (
        "FL001 features see only the past: 1 of 38 features sees the future: amount. Nothing was trained; take them "
        "out or mend them, `fraudlab features audit` says what each one reads"
    )
    found["leakage"] = dataclasses.replace(found["leakage"], result="not applicable")
    recipe.check_features(found)
