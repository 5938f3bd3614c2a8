"""The benchmark of the published protocol: its folds, its intervals, its steps, on small invented payments."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from fraudlab import looks
from fraudlab.config import ModelConfig, SamplingConfig, Workspace
from fraudlab.features.sets import HANDBOOK, HANDBOOK_V2
from fraudlab.metrics import card_precision_at_k
from fraudlab.plots import fraud_kinds
from fraudlab.schema import InputError
from fraudlab.splits import book_fold

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import ablation  # noqa: E402
import handbook  # noqa: E402
import handbook_protocol as protocol  # noqa: E402

START = "2018-07-25"
SMALL = ModelConfig(n_estimators=10, max_depth=3, early_stopping_rounds=0, max_bin=64)


@pytest.fixture(scope="module")
def payments() -> pd.DataFrame:
    """Payments of 2018 in the shape of the published ones: 120 days, labels after a week, three kinds of fraud."""
    rng = np.random.default_rng(0)
    n = 9000
    seconds = np.sort(rng.integers(0, 160 * 86_400, n))
    time = (pd.Timestamp("2018-04-01", tz="UTC") + pd.to_timedelta(seconds, unit="s")).astype("datetime64[us, UTC]")
    merchant, amount = rng.integers(0, 60, n), rng.normal(50, 15, n).clip(1)
    bad = (merchant < 60) & ((merchant + seconds // (28 * 86_400) * 7) % 30 == 0)
    scenario = np.where(bad, "2", np.where(rng.random(n) < 0.03, "3", "0"))
    amount = np.where(scenario == "3", 5 * amount, amount).round(2)
    return pd.DataFrame(
        {
            "transaction_id": np.arange(n),
            "event_time": time,
            "customer_id": pd.Series([f"c{k}" for k in rng.integers(0, 300, n)], dtype="str"),
            "merchant_id": pd.Series([f"m{k}" for k in merchant], dtype="str"),
            "amount": amount,
            "is_fraud": pd.array(scenario != "0", dtype="boolean"),
            "label_time": time + pd.Timedelta(days=7),
            "fraud_scenario": pd.Series(scenario, dtype="str"),
        }
    )


@pytest.fixture(scope="module")
def features(payments) -> pd.DataFrame:
    return HANDBOOK_V2.compute(payments)


def test_a_longer_training_window_leaves_the_test_as_it_is(payments):
    book = book_fold(payments, train_start=pd.Timestamp(START, tz="UTC"))
    (same,) = protocol.folds_of(payments, [START])
    (long,) = protocol.folds_of(payments, [START], train_days=28)
    np.testing.assert_array_equal(same.train, book.train)
    for fold in (same, long):
        np.testing.assert_array_equal(fold.test, book.test)
        assert (fold.test_start, fold.excluded_customers) == (book.test_start, book.excluded_customers)
    time = payments["event_time"]
    inside = (time >= pd.Timestamp("2018-07-04", tz="UTC")) & (time < pd.Timestamp("2018-08-01", tz="UTC"))
    np.testing.assert_array_equal(long.train, np.flatnonzero(inside))
    assert (payments["label_time"].iloc[long.train] <= long.test_start).all()
    assert long.frauds["train"] == payments["is_fraud"].iloc[long.train].sum()
    # Where the data begin, the window ends.
    (longest,) = protocol.folds_of(payments, [START], train_days=500)
    assert longest.train[0] == 0
    assert longest.train_start == pd.Timestamp("2018-04-01", tz="UTC")


def test_the_four_validation_weeks_of_the_config_are_the_books(payments):
    from fraudlab.config import load_config
    from fraudlab.splits import temporal_fold
    from fraudlab.validation import validation_folds

    config = load_config(BENCHMARKS.parent / "configs" / "handbook.toml")
    fold = temporal_fold(payments, config.split)
    tuned_on = validation_folds(payments, fold, folds=config.tuning.folds)
    books = protocol.folds_of(payments, protocol.VALIDATION, config.split.train_days)
    assert [each.test_start for each in tuned_on] == [each.test_start for each in books]
    assert [each.train_start for each in tuned_on] == [each.train_start for each in books]
    assert max(each.test_end for each in tuned_on) <= min(
        each.test_start for each in protocol.folds_of(payments, protocol.TEST[:1])
    )


def test_figures_are_those_of_other_libraries_and_differences_are_paired(payments):
    folds = protocol.folds_of(payments, protocol.VALIDATION)
    judge = protocol.Judge(payments, folds, n_boot=40)
    rng = np.random.default_rng(1)
    scores = [payments["amount"].iloc[fold.test].to_numpy() for fold in folds]
    found = protocol.summary(judge.judge(scores))
    for k, fold in enumerate(folds):
        part = payments.iloc[fold.test]
        y = part["is_fraud"].to_numpy(dtype=int)
        assert found["auc_roc"]["folds"][k] == pytest.approx(roc_auc_score(y, scores[k]))
        assert found["average_precision"]["folds"][k] == pytest.approx(average_precision_score(y, scores[k]))
        precision, _ = card_precision_at_k(y, scores[k], part["event_time"], part["customer_id"], 100)
        assert found["card_precision_100"]["folds"][k] == pytest.approx(precision)
    for row in found.values():
        assert row["low"] <= row["value"] <= row["high"]
        assert row["value"] == pytest.approx(np.mean(row["folds"]))
    # The same model differs from itself by nothing; a random one is worse with an interval that says so.
    same = protocol.summary(judge.judge(scores), judge.judge(scores))
    assert {row["difference_low"] for row in same.values()} == {0.0}
    noise = protocol.summary(judge.judge([rng.random(len(each)) for each in scores]), judge.judge(scores))
    assert noise["average_precision"]["difference_high"] < 0


def test_a_declared_model_is_its_settings_and_each_look_is_noted(payments, features, tmp_path):
    declared = protocol.Declared("ours", HANDBOOK.columns, model=SMALL)
    assert replace(declared, name="another").digest == declared.digest
    assert replace(declared, seed=1).digest != declared.digest
    folds = protocol.folds_of(payments, protocol.TEST[:2])
    judge = protocol.Judge(payments, folds, n_boot=10)
    scores = [protocol.score(declared, features, payments, fold) for fold in folds]
    again = protocol.score(declared, features, payments, folds[0])
    np.testing.assert_array_equal(scores[0], again)
    workspace = Workspace(tmp_path)
    protocol.look(workspace, declared, folds, protocol.summary(judge.judge(scores)), "abc")
    (row,) = looks.read(tmp_path / "runs" / "test_looks.jsonl").to_dict("records")
    assert row["config_digest"] == declared.digest
    assert (row["test_start"], row["test_end"]) == (folds[0].test_start, folds[1].test_end)
    assert set(row["result"]) == set(looks.HEADLINE)
    assert protocol.looked(workspace, folds)[-1].startswith("These test days were looked at once")


@pytest.mark.slow
def test_every_step_of_the_ablation_runs_and_is_held_against_an_earlier_one(payments, features, monkeypatch):
    monkeypatch.setattr(ablation, "PLAIN", SMALL)
    recipe = protocol.Declared(
        handbook.RECIPE,
        HANDBOOK_V2.columns,
        train_days=28,
        model=SMALL.model_copy(update={"members": 2, "subsample": 0.8}),
        sampling=SamplingConfig(genuine_per_fraud=20),
    )
    said: list[str] = []
    rows, scores = ablation.measure(recipe, features, payments, said.append, n_boot=5)
    names = [row["step"] for row in rows]
    assert len(set(names)) == len(names) == len(scores)
    for k, row in enumerate(rows):
        assert row["against"] is None if k == 0 else row["against"] in names[:k]
        assert set(row["validation"]) == set(protocol.FIGURES)
    assert sum(row["declared"] for row in rows) == 4
    assert {row["topic"] for row in rows} >= {
        "inputs", "history", "sampling", "recency", "tuning", "calibration", "ensembling", "anomaly",
    }  # fmt: skip
    errors = {row["step"]: row["error"] for row in rows if row["topic"] == "calibration"}
    assert set(errors) == {"isotonic", "sigmoid", "beta"}
    # A sigmoid moves no score past another.
    found = {row["step"]: row["validation"]["auc_roc"]["value"] for row in rows}
    assert found["sigmoid"] == pytest.approx(found[handbook.RECIPE])


def test_kinds_of_fraud_follow_what_could_be_known():
    day = pd.Timestamp("2018-05-01", tz="UTC")
    rows = pd.DataFrame(
        [
            ("0", "m1", 0, 1.0),
            ("2", "m1", 1, 1.0),
            ("2", "m1", 7.9, 1.0),
            ("2", "m1", 8.0, 1.0),
            ("2", "m2", 8.0, 1.0),
            ("1", "m2", 9, 1.0),
            ("3", "m2", 9, 5.0),
            ("3", "m2", 9, 1.2),
            ("3", "m2", 9, np.nan),
            ("2", "m1", 40, 1.0),
        ],
        columns=["scenario", "merchant_id", "days", "ratio"],
    )
    rows["event_time"] = day + pd.to_timedelta(rows["days"], unit="D")
    kind = ablation.kinds_of_fraud(rows, rows["scenario"], rows["ratio"])
    assert kind.iloc[0] is pd.NA or pd.isna(kind.iloc[0])
    assert kind.iloc[1:].tolist() == [
        "compromised terminal, first week",
        "compromised terminal, first week",
        "compromised terminal, a label known",
        "compromised terminal, first week",
        "amount above 220",
        "compromised card, 2.5 times the usual or more",
        "compromised card, smaller amount",
        "compromised card, smaller amount",
        "compromised terminal, first week",
    ]


def test_what_is_found_of_each_kind_and_what_a_perfect_use_would_give(payments, features):
    folds = protocol.folds_of(payments, protocol.VALIDATION)
    kind = ablation.kinds_of_fraud(payments, payments["fraud_scenario"], features["amount_ratio"])
    truth = [payments["is_fraud"].iloc[fold.test].to_numpy(dtype=float) for fold in folds]
    table = ablation.reach(payments, folds, truth, kind)
    shown = table.dropna(subset="frauds")
    assert (shown["found_100"] > 0.99).all()
    assert (shown["top_percent"] == 1).all()
    assert (shown["auc_roc"] == 1).all()
    assert shown["frauds"].min() >= 10
    figures = ablation.perfect(payments, folds, kind, truth)
    others = ("at random", "as the model ranks them")
    random, as_model = (f"every fraud that shows first, others {how}" for how in others)
    assert figures[as_model]["auc_roc"] == 1
    assert figures[random]["auc_roc"] < figures[ablation.KNOWING]["auc_roc"] < 1
    # First-week frauds at random among all that is not known: half of them above, half below.
    low, high = (figures[f"{ablation.KNOWING}, 2.5 % of the draws {side}"]["auc_roc"] for side in ("below", "above"))
    shares = []
    for fold in folds:
        of_fold = kind.iloc[fold.test]
        shares.append((of_fold == "compromised terminal, first week").sum() / of_fold.notna().sum())
    assert low < 1 - np.mean(shares) / 2 < high
    picture = fraud_kinds(table)
    assert "per kind" in picture.alt
    assert "no kind of fraud" in fraud_kinds(table.assign(frauds=None)).alt


def test_the_recipe_comes_from_what_the_search_chose(tmp_path):
    from fraudlab.config import load_config

    config = load_config(BENCHMARKS.parent / "configs" / "handbook.toml")
    declared = handbook.declared_recipe(config, {"max_depth": 5, "learning_rate": 0.03}, HANDBOOK_V2.columns)
    assert (declared.model.max_depth, declared.model.learning_rate) == (5, 0.03)
    assert declared.model.members == config.model.members
    kept = {
        "features": config.features.set,
        "train_days": declared.train_days,
        **{name: getattr(declared, name).model_dump(mode="json") for name in ("model", "sampling", "anomaly")},
        "seed": declared.seed,
    }
    handbook.write(tmp_path / "handbook.json", {"recipe": kept, "figure": 0.12345678})
    assert json.loads((tmp_path / "handbook.json").read_text())["figure"] == 0.123457
    again, feature_set = ablation.recipe_of(tmp_path / "handbook.json")
    assert (again.digest, feature_set) == (declared.digest, "handbook-v2")
    with pytest.raises(InputError, match="needs the settings that `make handbook` chose; found no absent"):
        ablation.recipe_of(tmp_path / "absent.json")
