"""The checks asked about a run: each is answered, nothing late is read before the gate, planted noise stays noise."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fraudlab import checking, recipe, training
from fraudlab.checks import CHECKS, Finding, check_features
from fraudlab.config import RunConfig, load_config
from fraudlab.features import FeatureSet, count, mean, value
from fraudlab.gate import Incumbent
from fraudlab.schema import InputError
from fraudlab.splits import temporal_fold

ROOT = Path(__file__).resolve().parents[2]
CHANGES = {
    "split__train_days": 20,
    "split__delay_days": 2,
    "split__valid_days": 14,
    "split__test_days": 14,
    "model__n_estimators": 20,
    "features__categories": ["country"],
    "gate__max_age_days": 30,
    "gate__waive": ["FL018"],
    "gate__waived_because": "a look back",
}
SMALL_SET = FeatureSet(
    "small", [value("amount"), count(by="customer_id", window="7d"), mean("amount", by="customer_id", window="7d")]
)


@pytest.fixture(scope="module")
def one() -> tuple[RunConfig, recipe.Prepared, training.FittedModel, pd.DataFrame]:
    """Sixty days of 900 customers whose frauds are larger, reported a day later; a model of three features."""
    rng = np.random.default_rng(0)
    rows, config = 12_000, load_config(ROOT / "configs" / "demo.toml", **CHANGES)
    config = config.model_copy(update={"as_of": None})
    fraud = rng.random(rows) < 0.03
    when = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(np.sort(rng.integers(0, 60 * 86_400, rows)), unit="s")
    transactions = pd.DataFrame(
        {
            "transaction_id": [f"t{i:05d}" for i in range(rows)],
            "event_time": when.as_unit("us"),
            "customer_id": [f"customer-{i:03d}" for i in rng.integers(0, 900, rows)],
            "amount": np.round(rng.lognormal(3 + 2 * fraud, 0.8), 2),
            "country": np.array(["DE", "FR", "US"], dtype=object)[np.minimum(rng.integers(0, 9, rows) // 4, 2)],
            "is_fraud": pd.array(fraud, dtype="boolean"),
            "label_time": when.as_unit("us") + pd.Timedelta(days=1),
        }
    ).astype({"transaction_id": "str", "customer_id": "str", "country": "str"})
    features = SMALL_SET.compute(transactions).assign(country=transactions["country"])
    prepared = recipe.Prepared(transactions, features, SMALL_SET, temporal_fold(transactions, config.split))
    models = training.fit_models(
        features,
        transactions["is_fraud"],
        prepared.fold,
        model=config.model,
        seed=0,
        threads=1,
        describe=SMALL_SET.describe(),
        categories=config.features.categories,
    )
    mine = {"xgboost": models["xgboost"]}
    return config, prepared, mine["xgboost"], recipe.score_part(mine, prepared, "test")


def spoilt_from(prepared: recipe.Prepared, begins: pd.Timestamp) -> recipe.Prepared:
    """The same with everything from a moment on drawn anew."""
    rng = np.random.default_rng(0)
    late = (prepared.transactions["event_time"] >= begins).to_numpy()
    transactions = prepared.transactions.assign(
        amount=np.where(late, rng.random(late.size), prepared.transactions["amount"]),
        is_fraud=prepared.transactions["is_fraud"].mask(late, pd.NA),
    )
    return dataclasses.replace(
        prepared, transactions=transactions, features=prepared.features.mask(pd.Series(late), axis=0)
    )


def test_the_audit_looks_at_nothing_from_the_test_on(one) -> None:
    config, prepared, _, _ = one
    found = checking.audit_features(prepared, config, rows=1000)
    assert found["leakage"].result == "passed", found["leakage"].sentence
    assert found["leakage"].table["column"].tolist() == list(prepared.feature_set.columns)
    assert [finding.code for finding in found.values()] == ["FL001", "FL002", "FL003", "FL005"]
    again = checking.audit_features(spoilt_from(prepared, prepared.fold.test_start), config, rows=1000)
    for name, finding in found.items():
        pd.testing.assert_frame_equal(finding.table, again[name].table, obj=name)
    watched = checking.features_to_watch(found, prepared)
    assert sorted(watched["feature"]) == sorted(prepared.feature_set.columns)
    assert watched["label"].notna().all()


def test_a_feature_that_sees_the_future_stops_the_run_with_a_sentence() -> None:
    seen = "1 of 38 features sees the future: amount."
    found = {
        "leakage": Finding("FL001", "Features see only the past", "stops the run", "failed", seen, pd.DataFrame()),
        "stability": Finding("FL003", "Values stay", "informs", "failed", "1 of 38 changed.", pd.DataFrame()),
    }
    with pytest.raises(InputError) as refusal:
        check_features(found)
    assert str(refusal.value) == (
        "FL001 features see only the past: 1 of 38 features sees the future: amount. Nothing was trained; take them "
        "out or mend them, `fraudlab features audit` says what each one reads"
    )
    found["leakage"] = dataclasses.replace(found["leakage"], result="not applicable")
    check_features(found)


def test_every_check_of_a_model_is_answered(one) -> None:
    config, prepared, model, scores = one
    before = prepared.transactions.copy()
    found = checking.run_checks(prepared, model, scores, config, evidence={}, n_boot=20)
    assert list(found) == [code for code in CHECKS if code >= "FL006"]
    results = {code: finding.result for code, finding in found.items()}
    asked_of_evidence = ("FL009", "FL011", "FL012", "FL014", "FL015", "FL017", "FL019")
    assert {results[code] for code in asked_of_evidence} == {"not applicable"}
    assert {results[code] for code in ("FL006", "FL007", "FL010", "FL013", "FL016", "FL018")} == {"passed"}
    assert "all 4 columns" in found["FL016"].sentence
    assert all(finding.sentence.endswith(".") and finding.waived == "" for finding in found.values())
    shown = checking.shown_tables(found)
    assert {"check_FL008", "check_FL020"} <= set(shown) <= {f"check_{code}" for code in checking.SHOWN}
    pd.testing.assert_frame_equal(prepared.transactions, before)
    again = checking.run_checks(prepared, model, scores, config, evidence={}, n_boot=20)
    for code, finding in found.items():
        assert finding.sentence == again[code].sentence
        pd.testing.assert_frame_equal(finding.table, again[code].table, obj=code)


def test_evidence_is_judged_where_there_is_some_and_a_failure_is_waived_as_the_config_says(one) -> None:
    config, prepared, model, scores = one
    config = config.model_copy(update={"as_of": pd.Timestamp("2026-04-30", tz="UTC").to_pydatetime()})
    fraud = {"group": "fraud", "members": 500, "others": 200, "auc": 0.9, "note": ""}
    difference = {"view": "overall", "model": "difference", "metric": "card_precision_at_k", "value": -0.1}
    evidence = {
        "membership": pd.DataFrame([fraud]),
        "champion_comparison": pd.DataFrame([difference | {"low": -0.2, "high": -0.01}]),
        "daily": pd.DataFrame({"day": ["2026-02-01"], "cases": [5], "hits": [2], "compromised": [3], "model": "m"}),
    }
    champion = Incumbent("3", pd.Timestamp("2025-06-01", tz="UTC"), None)
    found = checking.run_checks(prepared, model, scores, config, evidence=evidence, champion=champion, n_boot=5)
    assert [code for code, finding in found.items() if finding.blocks] == ["FL014", "FL015", "FL019"]
    assert (found["FL018"].result, found["FL018"].waived) == ("failed", "a look back")
    assert "the champion's ends 333 days before; the policy allows 30." in found["FL018"].sentence


def test_a_check_that_informs_cannot_be_waived(one) -> None:
    config, prepared, model, scores = one
    gate = config.gate.model_copy(update={"waive": ("FL009",)})
    with pytest.raises(InputError, match="found FL009, which informs; take it out"):
        checking.run_checks(prepared, model, scores, config.model_copy(update={"gate": gate}), evidence={}, n_boot=0)


def test_planted_noise_reads_the_training_alone_and_ranks_below_what_tells(one) -> None:
    config, prepared, _, _ = one
    table = checking.planted_noise(prepared, config, plantings=2)
    assert table.loc[~table["planted"], "feature"].tolist() == list(prepared.features.columns)
    assert table.loc[table["planted"], "feature"].tolist() == [
        f"{name}, shuffled" for name in prepared.features.columns
    ]
    best = table.sort_values("importance", ascending=False).iloc[0]
    assert (best["feature"], best["importance"] > 3 * table.loc[table["planted"], "importance"].max()) == (
        "amount",
        True,
    )
    again = checking.planted_noise(spoilt_from(prepared, prepared.fold.refit_end), config, plantings=2)
    pd.testing.assert_frame_equal(table, again)


def test_features_made_of_noise_are_worth_what_planted_noise_is(one) -> None:
    config, prepared, _, _ = one
    dice = np.random.default_rng(5).normal(size=(len(prepared.features), 8))
    luck = [f"luck {n}" for n in range(8)]
    features = pd.concat([prepared.features, pd.DataFrame(dice, columns=luck)], axis=1)
    worth = checking.planted_noise(dataclasses.replace(prepared, features=features), config, plantings=2).set_index(
        "feature"
    )["importance"]
    assert worth[luck].median() == pytest.approx(worth[[f"{name}, shuffled" for name in luck]].median(), rel=0.35)
    assert worth[luck].max() < worth["amount"] / 3


def test_ages_run_to_what_was_known(one) -> None:
    config, prepared, _, _ = one
    table = checking.ages(prepared, config)
    last = prepared.transactions["event_time"].max()
    assert table["model"].tolist() == ["candidate"]
    assert table.loc[0, "age_days"] == pytest.approx((last - prepared.fold.refit_end) / pd.Timedelta(days=1))
    table = checking.ages(prepared, config, Incumbent("1", None, None))
    assert table.loc[1, ["learnt_until", "age_days"]].isna().all()
