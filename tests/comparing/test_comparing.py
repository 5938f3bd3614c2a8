"""Rules and models held together on one fold: chosen on validation, measured on the test, nobody named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fraudlab import comparing, plots, recipe, training
from fraudlab.config import RunConfig, load_config
from fraudlab.gate import Incumbent
from fraudlab.splits import temporal_fold

ROOT = Path(__file__).resolve().parents[2]
CHANGES = {
    "split__train_days": 20,
    "split__delay_days": 2,
    "split__valid_days": 14,
    "split__test_days": 14,
    "model__n_estimators": 20,
    "decision__alerts_per_day": 12,
    "decision__limit_per_day": 1,
    "decision__step_up_per_day": 20,
}


@pytest.fixture(scope="module")
def one(sixty_days) -> tuple[RunConfig, recipe.Prepared, dict[str, training.FittedModel], pd.DataFrame]:
    """Sixty days of 600 customers whose frauds are larger and at night; two features that see it through noise."""
    rng = np.random.default_rng(0)
    rows, config = 20_000, load_config(ROOT / "configs" / "demo.toml", **CHANGES)
    transactions, who, fraud = sixty_days(rng, rows, 0.2)
    transactions["age_band"] = np.array(["20-29", "30-39", "40-49"], dtype=object)[who % 3]
    features = pd.DataFrame(
        {"size": np.log(transactions["amount"]) + rng.normal(0, 1, rows), "night": 1.5 * fraud + rng.normal(0, 1, rows)}
    )
    split = config.split.model_copy(update={"exclude_known_compromised": False})
    config = config.model_copy(update={"split": split})
    prepared = recipe.Prepared(transactions, features, None, temporal_fold(transactions, split))
    models = training.fit_models(
        features, transactions["is_fraud"], prepared.fold, model=config.model, seed=0, threads=1
    )
    return config, prepared, models, recipe.score_part(models, prepared, "test")


def with_decision(config: RunConfig, **changes: object) -> RunConfig:
    return config.model_copy(update={"decision": config.decision.model_copy(update=changes)})


def test_every_rule_chooses_on_validation_and_is_measured_on_the_test(one) -> None:
    config, prepared, models, scores = one
    model = models["xgboost"]
    table = comparing.threshold_outcomes(model, prepared, scores, config, n_boot=10)
    assert table["rule"].unique().tolist() == list(plots.RULE_LABELS)
    assert table.loc[table["used"], "rule"].unique().tolist() == ["budget"]
    assert (table["value"].isna() == table["note"].str.startswith("not ")).all()
    threshold = table.groupby("rule")["threshold"].first()
    for rule in ("budget", "cost", "false_positive_rate"):
        chosen = recipe.thresholds_from_validation(model, prepared, with_decision(config, rule=rule))
        assert threshold[rule] == chosen.review
        assert chosen.step_up <= chosen.review
    assert np.isnan(threshold["by_amount"])
    genuine = prepared.rows("valid")["y"] == 0
    flagged = (model.valid_score[genuine] >= threshold["false_positive_rate"]).mean()
    assert 0 < flagged <= config.decision.max_false_positive_rate
    reached = table.set_index(["rule", "period", "metric"])["value"]
    assert reached["false_positive_rate", "validation", "false_positive_rate"] == pytest.approx(flagged)
    assert 4 < reached["budget", "validation", "alerts_per_day"] <= 12, "ties waste some of the budget, none exceeds it"
    wide = comparing.outcomes_overview(table)
    assert wide["period"].tolist() == ["validation", "test"] * 4
    assert wide["rule"].unique().tolist() == list(plots.RULE_LABELS.values())


def test_the_test_changes_what_happened_and_never_what_was_chosen(one) -> None:
    config, prepared, models, scores = one
    turned = scores.iloc[::-1].reset_index(drop=True)
    first, second = (
        comparing.threshold_outcomes(models["xgboost"], prepared, each, config, n_boot=5) for each in (scores, turned)
    )
    expected = [each[each["period"] == "validation"].reset_index(drop=True) for each in (first, second)]
    pd.testing.assert_frame_equal(*expected)
    pd.testing.assert_series_equal(first["threshold"], second["threshold"])
    assert not first.equals(second)


def test_the_payment_by_payment_rule_reads_risk_and_amount(one) -> None:
    config, prepared, models, scores = one
    table = comparing.threshold_outcomes(models["xgboost"], prepared, scores, config, n_boot=0)
    transactions = prepared.rows("test")["transactions"]
    worth = scores["xgboost_risk"] * transactions["amount"] * 0.8 > 15
    days = transactions["event_time"].dt.date
    cases = len(set(zip(days[worth], transactions["customer_id"][worth])))
    found = table[(table["rule"] == "by_amount") & (table["period"] == "test")].set_index("metric")["value"]
    assert cases > 0
    assert found["alerts_per_day"] == pytest.approx(cases / days.nunique())


def test_the_candidate_beside_its_baselines(one) -> None:
    config, prepared, _, scores = one
    table = comparing.with_baselines(prepared, scores, config, n_boot=10)
    pairs = table[["challenger", "champion"]].drop_duplicates().to_numpy().tolist()
    assert pairs == [["xgboost", "logistic"], ["xgboost", "rules"]]
    assert set(table["view"]) == {"overall", "period", "flips", "group", "calibration"}
    assert (table["value"].isna() == table["note"].str.startswith("not ")).all()
    assert table.loc[table["view"] == "group", "by"].unique().tolist() == ["age_band"]
    assert not table.astype(str).apply(lambda column: column.str.contains("customer-|t0")).any(axis=None)
    shown = table[(table["view"] == "calibration") & (table["metric"] == "observed_rate")].dropna(subset=["value"])
    frauds = (shown["value"] * shown["n"].astype(float)).round()
    assert ((frauds == 0) | (frauds >= 10)).all(), "bins of few frauds are joined"
    assert len(comparing.with_baselines(prepared, scores[["xgboost", "xgboost_risk"]], config)) == 0
    elsewhere = comparing.with_baselines(prepared, scores, with_decision(config, groups=("branch",)), n_boot=0)
    missing = elsewhere[elsewhere["view"] == "group"]
    assert missing["note"].unique().tolist() == [
        "not applicable: what was loaded for this purpose has no column 'branch'"
    ]


def test_a_champion_that_is_the_candidate_differs_by_nothing(one) -> None:
    config, prepared, _, scores = one
    own = scores[["xgboost", "xgboost_risk"]].set_axis(["champion", "champion_risk"], axis=1)
    same = comparing.with_champion(prepared, scores, Incumbent("1", prepared.fold.refit_end, own), config, n_boot=10)
    differences = same[(same["model"] == "difference") & same["value"].notna()]
    assert len(differences) > 6
    assert (differences[["value", "low", "high"]] == 0).all(axis=None)
    assert comparing.overview(same)["against"].unique().tolist() == ["champion"]
    for nobody in (None, Incumbent("1", None, None, "its package is damaged")):
        empty = comparing.with_champion(prepared, scores, nobody, config)
        assert len(empty) == 0
        assert list(empty) == list(same)
        assert comparing.overview(empty).empty
