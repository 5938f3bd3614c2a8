"""A small run explained: refits read nothing from the test on, alerts say what would change them, failures cost."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from fraudlab import explain, explaining, metrics, recipe
from fraudlab.config import RunConfig
from fraudlab.explaining import AS_IT_IS, NOISE, ROBUST_METRICS, TENFOLD, WITHOUT
from fraudlab.features import FeatureSet, count, is_new, ratio, value
from fraudlab.models import FittedModel, Wrapped
from fraudlab.splits import temporal_fold

FEATURES = FeatureSet(
    "small",
    [
        value("amount"),
        ratio("amount", by="customer_id", window="20d"),
        count(by="customer_id", window=["1d", "7d"]),
        is_new("device_id", by="customer_id"),
    ],
)
CATEGORIES = ["country", "auth_method"]


def configured(**changes: object) -> RunConfig:
    return RunConfig.model_validate(
        {
            "name": "small",
            "seed": 3,
            "dataset": {"name": "small", "source": "simulate", "contract": "small.toml"},
            "features": {"categories": CATEGORIES},
            "model": {"n_estimators": 25, "max_depth": 3, "early_stopping_rounds": 0, "calibration": "sigmoid"},
            "split": {
                "train_days": 16,
                "delay_days": 9,
                "valid_days": 8,
                "test_days": 8,
                "min_positives": 5,
                "exclude_known_compromised": False,
            },
            "decision": {"alerts_per_day": 3, "step_up_per_day": 5},
        }
        | changes
    )


@pytest.fixture(scope="module")
def run(transactions) -> tuple[RunConfig, recipe.Prepared, FittedModel, dict]:
    config = configured()
    features = FEATURES.compute(transactions).assign(**{name: transactions[name] for name in CATEGORIES})
    prepared = recipe.Prepared(transactions, features, FEATURES, temporal_fold(transactions, config.split))
    fitted = recipe.fit(config, prepared, threads=1)
    return config, prepared, fitted.candidate, fitted.thresholds.to_dict()


# -- the sample and the refits -------------------------------------------------------------------------------------


def test_the_sample_is_of_the_test_part_row_for_row(run):
    config, prepared, model, _ = run
    sample = explaining.explained_sample(model, prepared, seed=config.seed, size=50)
    assert len(sample.features) == 50
    pd.testing.assert_frame_equal(sample.contributions, explain.contributions(model, sample.features))
    test = prepared.rows("test")["features"]
    assert len(sample.features.merge(test.drop_duplicates(), how="inner")) == 50


def test_refits_read_nothing_from_the_test_on(run):
    config, prepared, model, _ = run
    tables = explaining.refit_contributions(model, prepared, config, threads=1, rows=200)
    assert 1 <= len(tables) <= 3
    for table in tables:
        assert list(table.columns) == list(model.features)
        assert len(table) == 200
    late = (prepared.transactions["event_time"] >= prepared.fold.test_start).to_numpy()
    spoilt = dataclasses.replace(
        prepared,
        transactions=prepared.transactions.assign(
            is_fraud=prepared.transactions["is_fraud"].mask(late, True),
            amount=prepared.transactions["amount"].mask(late, 1.0),
        ),
        features=prepared.features.assign(amount=prepared.features["amount"].mask(late, -5.0)),
    )
    again = explaining.refit_contributions(model, spoilt, config, threads=1, rows=200)
    for ours, theirs in zip(tables, again, strict=True):
        pd.testing.assert_frame_equal(ours, theirs, check_exact=True)


def test_importance_holds_the_model_itself_within_its_range(run):
    config, prepared, model, _ = run
    sample = explaining.explained_sample(model, prepared, seed=config.seed)
    refits = explaining.refit_contributions(model, prepared, config, threads=1)
    found = explain.importance(sample.contributions, sample.features, model.words(FEATURES.describe()), refits)
    assert (found["low"] <= found["mean_abs"]).all()
    assert (found["mean_abs"] <= found["high"]).all()
    assert (found["low"] < found["high"]).any()
    assert f"{len(refits)} refit" in found["note"].iloc[0]


def test_data_too_short_for_any_earlier_period_give_no_range(run):
    config, prepared, model, _ = run
    short = dataclasses.replace(
        prepared, fold=dataclasses.replace(prepared.fold, valid_start=prepared.transactions["event_time"].iloc[0])
    )
    assert explaining.refit_contributions(model, short, config, threads=1) == []


# -- alerts --------------------------------------------------------------------------------------------------------


def test_alerts_say_what_would_have_changed_them_and_it_does(run):
    config, prepared, model, thresholds = run
    alerts = explaining.alert_examples(model, prepared, thresholds, config, n=4)
    told = explaining.alerts_table(alerts)["would have changed it"]
    assert len(alerts) == 4
    assert all(told)
    transactions = prepared.transactions
    for alert in alerts:
        assert len(alert["would_change"]) == max(1, len(alert["changes"]))
        for change in alert["changes"]:
            assert change["score"] < thresholds["review"] <= alert["score"]
    # The same for every alert, put into the table in place of the real payment.
    change = explaining.what_would_change(model, prepared, config, thresholds["review"])
    score = model.score(prepared.features.iloc[prepared.fold.test])
    confirmed = 0
    for position in prepared.fold.test[np.argsort(-score)[:4]]:
        for found in change(int(position)):
            new = transactions.iloc[position].to_dict()
            for option in found.options:
                new |= option.values
            row = pd.DataFrame([new]).astype(transactions.dtypes.to_dict())
            table = pd.concat([transactions.iloc[:position], row], ignore_index=True)
            features = FEATURES.compute(table).assign(**{name: table[name] for name in CATEGORIES})
            assert model.score(features.iloc[[-1]])[0] == pytest.approx(found.score)
            confirmed += 1
    assert confirmed >= 3


def test_frozen_inputs_stay(run):
    config, prepared, model, thresholds = run
    free = explaining.alert_examples(model, prepared, thresholds, config, n=2)
    used = {part["input"] for alert in free for change in alert["changes"] for part in change["inputs"]}
    assert "amount" in used
    alerts = explaining.alert_examples(model, prepared, thresholds, config, n=2, frozen=["amount"])
    used = {part["input"] for alert in alerts for change in alert["changes"] for part in change["inputs"]}
    assert "amount" not in used


def test_monotone_constraints_of_the_config_keep_amounts_from_rising(run):
    config, prepared, model, thresholds = run
    bound = config.model_copy(update={"model": config.model.model_copy(update={"monotone": {"amount": 1}})})
    change = explaining.what_would_change(model, prepared, bound, thresholds["review"])
    for position in prepared.fold.test[:400:80]:
        for found in change(int(position)):
            before = prepared.transactions["amount"].iloc[position]
            assert all(each.values["amount"] < before for each in found.options if each.input == "amount")


def test_alerts_name_nobody(run):
    config, prepared, model, thresholds = run
    text = str(explaining.alert_examples(model, prepared, thresholds, config, n=3))
    for name in ("customer_id", "card_id", "device_id", "merchant_id"):
        assert not [each for each in prepared.transactions[name].unique() if f"'{each}'" in text or f" {each} " in text]


# -- steadiness and robustness -------------------------------------------------------------------------------------


def test_reasons_of_the_highest_scores_are_tried(run):
    config, prepared, model, thresholds = run
    table = explaining.steady_reasons(model, prepared, thresholds, config, most=150)
    whole = table[table["group"] == "all"].set_index("metric")
    # Of the 150, those that have a reason.
    score = model.score(prepared.features.iloc[prepared.fold.test])
    highest = prepared.features.iloc[prepared.fold.test[np.argsort(-score, kind="stable")[:150]]]
    moved = explain.contributions(model, highest).drop(columns="base")
    groups = model.words(FEATURES.describe()).set_index("column")["group"]
    reasoned = moved.T.groupby(groups[moved.columns].to_numpy()).sum().gt(0).any()
    assert whole.loc["top_reason_kept", "n"] == reasoned.sum()
    assert 0.3 < whole.loc["top_reason_kept", "value"] <= 1
    assert (table["threshold"] == 0.05).all()
    pd.testing.assert_frame_equal(
        table, explaining.steady_reasons(model, prepared, thresholds, config, most=150), check_exact=True
    )


def test_robustness_by_hand(run):
    config, prepared, model, _ = run
    table = explaining.robustness(model, prepared, config, n_boot=20)
    groups = set(model.words(FEATURES.describe()).set_index("column").loc[list(model.inputs), "group"])
    assert set(table["scenario"]) == {AS_IT_IS, NOISE, TENFOLD, *(f"{WITHOUT}{group}" for group in groups)}
    assert all(rows["metric"].tolist() == list(ROBUST_METRICS) for _, rows in table.groupby("scenario"))
    part = prepared.rows("test")
    transactions = part["transactions"]

    def worth(features: pd.DataFrame) -> pd.Series:
        found = metrics.evaluate(
            part["y"],
            model.score(features),
            event_time=transactions["event_time"],
            entity=transactions["customer_id"],
            amount=transactions["amount"],
            k=3,
            n_boot=0,
        )
        return found.set_index("metric")["value"][list(ROBUST_METRICS)]

    wrong = prepared.transactions.copy()
    wrong.loc[wrong["event_time"] >= prepared.fold.test_start, "amount"] *= 10
    tenfold = FEATURES.compute(wrong).assign(**{name: wrong[name] for name in CATEGORIES}).iloc[prepared.fold.test]
    by_hand = {
        AS_IT_IS: worth(part["features"]),
        TENFOLD: worth(tenfold),
        f"{WITHOUT}authentication": worth(part["features"].assign(auth_method=None)),
    }
    found = table.set_index(["scenario", "metric"])
    for scenario, expected in by_hand.items():
        for metric, number in expected.items():
            row = found.loc[(scenario, metric)]
            assert row["value"] == pytest.approx(number), (scenario, metric)
            if scenario != AS_IT_IS:
                assert row["change"] == pytest.approx(number - by_hand[AS_IT_IS][metric])
                assert row["change_low"] <= row["change_high"]
    assert found.loc[(TENFOLD, "auc_roc"), "features"] == 2
    assert found.loc[(f"{WITHOUT}amount", "average_precision"), "change"] < -0.05


def test_a_set_without_amounts_says_that_tenfold_ones_do_not_apply(run, transactions):
    config, prepared, _, _ = run
    features = FeatureSet("plain", [count(by="customer_id", window=["1d", "7d"]), is_new("device_id", "customer_id")])
    plain = configured(features={})
    ready = recipe.Prepared(transactions, features.compute(transactions), features, prepared.fold)
    model = recipe.fit(plain, ready, threads=1).candidate
    table = explaining.robustness(model, ready, plain, n_boot=0)
    rows = table[table["scenario"] == TENFOLD]
    assert rows["value"].isna().all()
    assert set(rows["note"]) == {"not applicable: no feature reads it"}
    assert table.loc[table["scenario"] != TENFOLD, "value"].notna().all()
    assert config.features.categories == tuple(CATEGORIES)


def test_a_model_that_does_not_explain_is_still_tried(run):
    """A wrapped classifier: no contributions, so no reasons; what would change an alert is known."""
    config, prepared, model, thresholds = run

    class Classifier:
        def predict_proba(self, rows):
            risk = model.estimator.margin(np.asarray(rows))
            risk = 1 / (1 + np.exp(-risk))
            return np.column_stack([1 - risk, risk])

    wrapped = dataclasses.replace(model, estimator=Wrapped(Classifier()))
    assert explaining.refit_contributions(wrapped, prepared, config) == []
    sample = explaining.explained_sample(wrapped, prepared, seed=0, size=30)
    assert list(sample.contributions.columns) == ["base"]
    pairs = explaining.interactions(wrapped, sample, prepared)
    assert pairs["note"].iloc[0].startswith("not applicable")
    assert explaining.pair_dependence(wrapped, sample, prepared, pairs).empty
    assert explaining.steady_reasons(wrapped, prepared, thresholds, config)["value"].isna().all()
    alerts = explaining.alert_examples(wrapped, prepared, thresholds, config, n=2)
    assert all(alert["would_change"] for alert in alerts)


def test_the_strongest_pair_with_a_number_is_followed(run):
    config, prepared, model, _ = run
    sample = explaining.explained_sample(model, prepared, seed=config.seed)
    pairs = explaining.interactions(model, sample, prepared, rows=100)
    table = explaining.pair_dependence(model, sample, prepared, pairs)
    assert {table["feature"].iloc[0], table["partner"].iloc[0]} == set(pairs.loc[0, ["first", "second"]])
    text = pd.DataFrame({"first": ["country"], "second": ["auth_method"]})
    assert explaining.pair_dependence(model, sample, prepared, text).empty
    followed = explaining.pair_dependence(model, sample, prepared, pd.concat([text, pairs[["first", "second"]]]))
    pd.testing.assert_frame_equal(followed, table)
