"""The checks asked of a model before the gate: each fires, stays silent and says "not applicable", in one sentence."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata

from fraudlab.checks import CHECKS, Finding
from fraudlab.schema import FraudlabError

TIMES = pd.Series(pd.date_range("2026-01-01", periods=4000, freq="20min", tz="UTC", unit="us"))
DAY = pd.Timedelta(days=1)
DAYS = pd.Series(pd.date_range("2026-01-01", periods=60, freq="D", tz="UTC", unit="us"))


def reported(after_days: float) -> pd.DataFrame:
    """Sixty payments a day apart, each a fraud reported so many days later."""
    return pd.DataFrame({"event_time": DAYS, "is_fraud": True, "label_time": DAYS + after_days * DAY})


def test_fl006_labels_had_time_fires():
    # The last 20 days, read at their end: reports take 5 days, so that those of the last 5 are not in: 5 of 20.
    finding = CHECKS["FL006"](reported(5), {"test": (np.arange(40, 60), DAYS.iloc[-1])})
    assert (finding.result, finding.stops, finding.blocks) == ("failed", False, True)
    assert finding.sentence == (
        "About 25 % of the frauds of the test were not reported yet when its labels were read; the limit is 10 %."
    )
    assert finding.table["expected_late"].tolist() == [0.25]


def test_fl006_labels_had_time_does_not_fire():
    parts = {"training": (np.arange(10, 30), DAYS.iloc[36]), "test": (np.arange(40, 60), DAYS.iloc[-1] + 5 * DAY)}
    finding = CHECKS["FL006"](reported(5), parts)
    assert (finding.result, finding.blocks) == ("passed", False)
    assert finding.table["expected_late"].tolist() == [0, 0]


def test_fl006_labels_had_time_is_not_applicable():
    undated = reported(5).assign(label_time=pd.Series(pd.NaT, index=DAYS.index, dtype=DAYS.dtype))
    finding = CHECKS["FL006"](undated, {"test": (np.arange(40, 60), DAYS.iloc[-1])})
    assert (finding.result, finding.blocks) == ("not applicable", False)
    assert finding.sentence == "The data do not say when frauds became known."
    few = reported(5).assign(is_fraud=np.arange(60) < 5)
    finding = CHECKS["FL006"](few, {"test": (np.arange(40, 60), DAYS.iloc[-1])})
    assert finding.sentence == "Too few frauds of the older half tell how long reports take."
    assert CHECKS["FL006"](reported(5), {"test": (np.arange(0), DAYS.iloc[-1])}).sentence == "No part has payments."


def test_fl007_enough_frauds_fires():
    # Forty frauds, but those of nineteen customers.
    parts = {
        "refit": (np.ones(40), range(40)),
        "validation": ([1] * 9, range(9)),
        "test": (np.ones(40), np.arange(40) % 19),
    }
    finding = CHECKS["FL007"](parts)
    assert (finding.result, finding.blocks) == ("failed", True)
    assert finding.sentence == "The validation and the test hold the frauds of fewer than 20 customers."
    assert finding.table["victims"].tolist() == [40, 9, 19]


def test_fl007_enough_frauds_does_not_fire():
    finding = CHECKS["FL007"]({"test": (np.r_[np.ones(20), np.zeros(9)], np.arange(29)), "validation": ([], [])})
    assert finding.result == "passed"
    assert finding.sentence == "Every part holds the frauds of at least 20 customers."
    assert finding.table["part"].tolist() == ["test"]


def test_fl007_enough_frauds_is_not_applicable():
    finding = CHECKS["FL007"]({"test": ([], [])})
    assert (finding.result, finding.sentence) == ("not applicable", "No part has payments with a known label.")


def side(lift: float, n: int = 3000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, scores and customers; frauds score higher by `lift`."""
    dice = np.random.default_rng(seed)
    y = np.arange(n) % 20 == 0
    return y, dice.normal(size=n) + lift * y, dice.integers(0, 300, n)


def test_fl008_holds_outside_the_training_fires():
    finding = CHECKS["FL008"](side(5.0), side(1.0, seed=1), n_boot=50)
    assert (finding.result, finding.blocks) == ("failed", False)
    assert finding.sentence.startswith("From training to test the model loses: AUC 0.2")
    loss = finding.table[finding.table["part"] == "loss"]
    assert (loss["low"] > 0.05).all()


def test_fl008_holds_outside_the_training_does_not_fire():
    finding = CHECKS["FL008"](side(3.0), side(3.0, seed=1), n_boot=50)
    assert finding.result == "passed"
    assert "-0.000" not in finding.sentence
    # One half has lost much, the customers of both halves are the same: too wide to say so.
    assert CHECKS["FL008"](side(3.0), side(2.4, 400, seed=1), n_boot=50).result == "passed"


def test_fl008_holds_outside_the_training_is_not_applicable():
    y, score, entity = side(3.0)
    finding = CHECKS["FL008"]((y, score, entity), (np.zeros(3000, dtype=bool), score, entity))
    assert finding.result == "not applicable"
    assert finding.sentence == "There are fewer than 20 frauds or genuine payments on one side."


def test_fl008_figures_are_those_of_scikit_learn_under_any_weights():
    """AUC as it is, average precision with the genuine weighed to the test's share of frauds; ties included."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    dice = np.random.default_rng(3)
    learnt = (dice.random(900) < 0.2, np.round(dice.normal(size=900), 1), dice.integers(0, 60, 900))
    test = (dice.random(700) < 0.05, np.round(dice.normal(size=700), 1), dice.integers(0, 60, 700))
    table = CHECKS["FL008"](learnt, test, n_boot=0).table.set_index(["metric", "part"])["value"]
    share = test[0].mean()
    for part, (y, score, _) in (("training", learnt), ("test", test)):
        assert table["auc_roc", part] == pytest.approx(roc_auc_score(y, score))
        weight = np.where(y, share / y.sum(), (1 - share) / (~y).sum())
        expected = average_precision_score(y, score, sample_weight=weight)
        assert table["average_precision", part] == pytest.approx(expected)
    assert table["auc_roc", "loss"] == pytest.approx(table["auc_roc", "training"] - table["auc_roc", "test"])


def errors(low: float) -> pd.DataFrame:
    row = {"metric": "calibration_error", "value": low + 0.2, "low": low, "high": low + 0.5, "n": 900, "note": ""}
    return pd.DataFrame([row | {"model": "m", "stage": "before", "low": 9.0}, row | {"model": "m", "stage": "after"}])


def test_fl009_stated_risk_fires():
    finding = CHECKS["FL009"](errors(0.51), "m")
    assert (finding.result, finding.blocks) == ("failed", False)
    assert finding.sentence == "The stated risks misplace 0.71 frauds per fraud (0.51 to 1.01); the limit is 0.5."


def test_fl009_stated_risk_does_not_fire():
    assert CHECKS["FL009"](errors(0.5), "m").result == "passed"


def test_fl009_stated_risk_is_not_applicable():
    assert CHECKS["FL009"](None, "m").sentence == "No model of the run states a risk."
    assert CHECKS["FL009"](errors(0.9), "other").sentence == "The model states no risk."
    finding = CHECKS["FL009"](errors(np.nan), "m")
    assert (finding.result, finding.sentence) == (
        "not applicable",
        "The error of the stated risks has no interval.",
    )


def test_fl010_values_of_the_test_fires():
    noise = np.random.default_rng(2).normal(size=4000)
    late = np.arange(4000) >= 3000
    features = pd.DataFrame({"same": noise, "shifted": noise + 2 * late, "channel": np.where(late, "app", "web")})
    finding = CHECKS["FL010"](features, TIMES, TIMES[3000])
    assert (finding.result, finding.blocks) == ("failed", False)
    assert finding.sentence == "The test holds other values of 2 of 3 features than the training: channel, shifted."


def test_fl010_values_of_the_test_does_not_fire():
    noise = np.random.default_rng(2).normal(size=4000)
    names = np.array(["web", "app", "post"])[np.random.default_rng(3).integers(0, 3, 4000)]
    finding = CHECKS["FL010"](pd.DataFrame({"same": noise, "channel": names}), TIMES, TIMES[3000])
    assert finding.result == "passed"
    assert finding.table["n"].tolist() == [1000, 1000]  # the whole test is one period


def test_fl010_values_of_the_test_is_not_applicable():
    features = pd.DataFrame({"a": np.arange(4000.0)})
    finding = CHECKS["FL010"](features, TIMES, TIMES[0])
    assert (finding.result, finding.sentence) == (
        "not applicable",
        "There are no payments on one side of the test's start.",
    )
    finding = CHECKS["FL010"](features, TIMES, TIMES[3900])
    assert finding.sentence == "No feature could be judged; not applicable: fewer than 500 rows in the period."


def ratios(**groups: tuple[float, float]) -> pd.DataFrame:
    row = {"view": "group", "by": "age_band", "model": "m", "metric": "false_positive_ratio", "note": ""}
    rows = [row | {"group": name, "value": (a + b) / 2, "low": a, "high": b} for name, (a, b) in groups.items()]
    return pd.DataFrame([*rows, row | {"group": "x", "model": "difference", "value": 9.0, "low": 9.0, "high": 9.0}])


def test_fl011_groups_alike_fires():
    finding = CHECKS["FL011"](ratios(young=(1.26, 1.74), old=(0.5, 0.79), middle=(0.9, 3.0), few=(np.nan,) * 2), "m")
    assert (finding.result, finding.blocks) == ("failed", False)
    assert finding.sentence == (
        "2 of 3 groups are bothered more or less often than the others: age_band young (1.50 times, 1.26 to 1.74), "
        "age_band old (0.65 times, 0.50 to 0.79)."
    )
    assert finding.table["reading"].tolist() == ["bothered more", "bothered less", "alike", "not told"]


def test_fl011_groups_alike_does_not_fire():
    finding = CHECKS["FL011"](pd.concat([ratios(young=(1.25, 3.0), old=(0.1, 0.8))] * 2), "m")
    assert finding.result == "passed"
    assert finding.sentence == "No group of 2 is bothered more or less often than the others beyond four fifths."


def test_fl011_groups_alike_is_not_applicable():
    assert CHECKS["FL011"](None, "m").sentence == "The run compared no groups."
    assert CHECKS["FL011"](ratios(), "m").sentence == "The data have none of the columns in decision.groups."
    finding = CHECKS["FL011"](ratios(few=(np.nan, np.nan)), "m")
    assert (finding.result, finding.sentence) == (
        "not applicable",
        "No group has enough genuine customers to be judged.",
    )


def kept(low: float, high: float, **groups: float) -> pd.DataFrame:
    rows = [("top_reason_kept", "all", (low + high) / 2, low, high, ""), ("overlap", "all", 0.1, 0.1, 0.1, "")]
    rows += [("top_reason_kept", name, value, value, value, "") for name, value in groups.items()]
    return pd.DataFrame(rows, columns=["metric", "group", "value", "low", "high", "note"])


def test_fl012_reasons_stay_fires():
    finding = CHECKS["FL012"](kept(0.6, 0.7, place=0.5, amount=0.9))
    assert (finding.result, finding.blocks) == ("failed", False)
    assert finding.sentence == (
        "Under small noise 65.0 % of the alerts keep their first reason (60.0 % to 70.0 %); the limit is 80 %; "
        "least steady: place."
    )


def test_fl012_reasons_stay_does_not_fire():
    finding = CHECKS["FL012"](kept(0.7, 0.8, place=0.5))  # the interval reaches the limit
    assert finding.result == "passed"
    assert finding.sentence.endswith("(70.0 % to 80.0 %); the limit is 80 %.")


def test_fl012_reasons_stay_is_not_applicable():
    assert CHECKS["FL012"](None).sentence == "The run did not measure how reasons change under noise."
    finding = CHECKS["FL012"](kept(np.nan, np.nan).assign(note="not applicable: this kind of model has no reasons"))
    assert finding.result == "not applicable"
    assert finding.sentence == "How reasons change under noise is not known: this kind of model has no reasons."


def payments_of(ids: range, frauds: int, shift: float = 0.0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Payments of customers named as their ids; the first ones are frauds known at once; and their inputs."""
    when = TIMES.iloc[list(ids)].reset_index(drop=True)
    rows = pd.DataFrame(
        {
            "transaction_id": [f"t{n}" for n in ids],
            "customer_id": [f"c{n}" for n in ids],
            "event_time": when,
            "is_fraud": pd.array(np.arange(len(ids)) < frauds, dtype="boolean"),
            "label_time": when,
        }
    )
    inputs = pd.DataFrame({"amount": np.arange(len(ids)) + shift, "channel": "web"})
    inputs.loc[0, "amount"] = np.nan if shift == 0 else inputs.loc[0, "amount"]
    return rows, inputs


def parted(learnt: tuple, test: tuple, **options: object) -> Finding:
    return CHECKS["FL013"](learnt[0], test[0], inputs=(learnt[1], test[1]), **options)


def test_fl013_nothing_seen_fires():
    learnt = payments_of(range(300), 60)
    finding = parted(learnt, payments_of(range(250, 350), 20, shift=0.5))
    assert (finding.result, finding.blocks) == ("failed", True)
    assert finding.sentence == (
        "The test holds what the training has seen: the same payments (50.0 % of its payments)."
    )
    # The same inputs, missing ones and texts included, under other names: copies of frauds.
    finding = parted(learnt, payments_of(range(300, 400), 20))
    assert finding.sentence == (
        "The test holds what the training has seen: frauds with the inputs of a training fraud (100.0 % of its frauds)."
    )
    # A victim whose fraud was known before the day of the payment, one of a hundred.
    rows, inputs = payments_of(range(300, 400), 20, shift=0.5)
    rows.loc[90, "customer_id"] = "c0"
    finding = parted(learnt, (rows, inputs))
    assert finding.sentence == (
        "The test holds what the training has seen: payments of victims known before (1.0 % of its payments)."
    )
    finding = parted(learnt, (rows, inputs), victims_excluded=False)
    assert (finding.result, finding.sentence) == (
        "passed",
        "The test holds no payment of the training, and 0.0 % of its frauds are copies; 1.0 % of its payments are of "
        "victims known before, which the config keeps.",
    )


def test_fl013_nothing_seen_does_not_fire():
    learnt, test = payments_of(range(300), 60), payments_of(range(300, 400), 20, shift=0.5)
    test[0]["customer_id"] = [f"c{n}" for n in range(100, 200)]  # customers come again, victims do not
    finding = parted(learnt, test)
    assert finding.result == "passed"
    assert finding.sentence == "The test holds no payment of the training, and 0.0 % of its frauds are copies."
    late = learnt[0].assign(label_time=TIMES.iloc[3999])  # a victim not known yet when the payment was made
    test[0]["customer_id"] = "c0"
    assert parted((late, learnt[1]), test).result == "passed"


def test_fl013_nothing_seen_is_not_applicable():
    learnt = payments_of(range(300), 60)
    finding = parted(learnt, (learnt[0].iloc[:0], learnt[1].iloc[:0]))
    assert (finding.result, finding.sentence) == ("not applicable", "There are no payments on one side of the split.")


def memory(auc: float, members: int = 900, others: int = 100, note: str = "") -> pd.DataFrame:
    row = {"members": members, "others": others, "note": note}
    return pd.DataFrame([row | {"group": "all", "auc": 0.9}, row | {"group": "fraud", "auc": auc}])


def test_fl014_memory_of_frauds_fires():
    finding = CHECKS["FL014"](memory(0.76))
    assert (finding.result, finding.blocks) == ("failed", True)
    assert finding.sentence.startswith(
        "Guessing from the scores which frauds were learnt from succeeds with an AUC of 0.760 (0."
    )


def test_fl014_memory_of_frauds_does_not_fire():
    assert CHECKS["FL014"](memory(0.75)).result == "passed"


def test_fl014_memory_of_frauds_is_not_applicable():
    assert CHECKS["FL014"](None).sentence == "The run measured no membership risk."
    finding = CHECKS["FL014"](memory(0.99, others=19))
    assert finding.sentence == "Fewer than 20 frauds on a side cannot tell memory from chance."
    hidden = memory(0.99).astype({"others": "Int64"})
    hidden.loc[1, "others"] = pd.NA
    assert CHECKS["FL014"](hidden).result == "not applicable"
    finding = CHECKS["FL014"](memory(np.nan, note="not applicable: the model states no probability"))
    assert finding.result == "not applicable"
    assert finding.sentence == "The memory of frauds could not be measured: the model states no probability."


def test_fl014_interval_covers_what_chance_gives():
    """The formula's spread is that of samples drawn anew, within a tenth."""
    dice = np.random.default_rng(0)
    scores = dice.normal(size=(2000, 380)) + np.repeat([0.6, 0.0], [300, 80])
    drawn = (rankdata(scores, axis=1)[:, :300].sum(axis=1) / 300 - 150.5) / 80
    low, high = CHECKS["FL014"](memory(float(np.mean(drawn)), 300, 80)).table.loc[1, ["low", "high"]]
    assert (high - low) / 3.92 == pytest.approx(np.std(drawn), rel=0.1)


def test_fl015_small_cells_fires():
    tables = {
        "segments_of_mine": pd.DataFrame({"group": ["a", "b"], "frauds": [9, 10], "cases": [3, 4]}),
        "calibration": pd.DataFrame(
            {"model": "m", "stage": "after", "bin": [1, 2], "n": [900, 50], "mean_predicted": [0.0, 0.2],
             "observed": [0.0, 0.1], "low": 0.0, "high": 1.0}
        ),
    }  # fmt: skip
    finding = CHECKS["FL015"](tables)
    assert (finding.result, finding.blocks) == ("failed", True)
    assert finding.sentence == "2 tables show counts from 1 to 9: calibration, segments_of_mine."
    tidy = pd.DataFrame({"metric": ["frauds_caught", "frauds_caught", "auc_roc"], "value": [12.0, 3.0, 3.0]})
    assert CHECKS["FL015"]({"tidy": tidy}).table.values.tolist() == [["tidy", "frauds_caught", 1]]
    assert finding.table.to_dict("records")[1] == {"table": "segments_of_mine", "column": "frauds", "cells": 1}


def test_fl015_small_cells_does_not_fire():
    tables = {
        "mine": pd.DataFrame({"frauds": [0, 10, None], "planned": [1, 2, 3], "n": ["1", "2", "3"]}),
        "tiers": pd.DataFrame({"tier": ["low"], "transactions": [300], "frauds": [12], "fraud_rate": [0.04]}),
    }
    finding = CHECKS["FL015"](tables)
    assert finding.result == "passed"
    assert finding.sentence == "None of 2 tables of evidence shows a count from 1 to 9."


def test_fl015_small_cells_is_not_applicable():
    finding = CHECKS["FL015"]({})
    assert (finding.result, finding.sentence) == ("not applicable", "The run has no tables of evidence.")


def test_fl016_columns_fires():
    features = pd.DataFrame({"b": [1.0, 2.0], "a": [1, 2], "word": ["x", "y"]})
    finding = CHECKS["FL016"](["a", "b", "gone", "word"], features)
    assert (finding.result, finding.blocks) == ("failed", True)
    assert finding.sentence == "Of 4 columns 1 missing: gone; 1 of no numbers: word."
    assert CHECKS["FL016"](["a"], features[["a", "b"]]).sentence == "Of 2 columns 1 not read by the model: b."
    swapped = features[["b", "a"]].assign(b=[5.0, 6.0])
    by_place = CHECKS["FL016"](["b", "a"], swapped, score=lambda rows: rows.to_numpy()[:, 0])
    assert by_place.sentence == "The scores change when the 2 columns come in another order."


def test_fl016_columns_does_not_fire():
    features = pd.DataFrame({"b": [1.0, 2.0], "a": [1, 2], "word": ["x", "y"]})
    finding = CHECKS["FL016"](
        ["b", "a", "word"], features, categories=["word"], score=lambda rows: rows["a"].to_numpy()
    )
    assert finding.result == "passed"
    assert finding.sentence == "The model reads all 3 columns by their names."
    finding = CHECKS["FL016"](["a", "b", "word"], features, categories=["word"])
    assert finding.sentence == "The model reads all 3 columns by their names, though in another order."
    assert finding.table[["expected", "found"]].values.tolist() == [[1, 2], [2, 1], [3, 3]]


def test_fl016_columns_is_not_applicable():
    finding = CHECKS["FL016"]([], pd.DataFrame({"a": [1]}))
    assert (finding.result, finding.sentence) == ("not applicable", "The model reads no columns.")


def test_fl017_looks_fires():
    looks = pd.DataFrame({"config_digest": ["a", "b", "a", "c"]})
    row = {"model": "m", "metric": "average_precision", "group": "all", "low": 0.6, "high": 0.8}
    finding = CHECKS["FL017"](looks, pd.DataFrame([row]), "m")
    assert (finding.result, finding.blocks) == ("failed", False)
    # The mean of the best of three normal draws is 0.846; the standard error here 0.2 / 3.92.
    assert finding.table.loc[0, "flatters"] == pytest.approx(0.846 * 0.2 / 3.92, rel=0.001)
    assert finding.sentence == (
        "3 different configs were judged on these test days; the best of as many equals gains up to 0.043 in average "
        "precision."
    )
    assert CHECKS["FL017"](looks).sentence == "3 different configs were judged on these test days."


def test_fl017_looks_does_not_fire():
    # The same recipe every night: its test days overlap, and nothing was chosen by them.
    finding = CHECKS["FL017"](pd.DataFrame({"config_digest": ["a"] * 30}))
    assert (finding.result, finding.sentence) == (
        "passed",
        "Only this config was judged on these test days, 30 times.",
    )
    assert CHECKS["FL017"](pd.DataFrame({"config_digest": ["a"]})).sentence.endswith("on these test days, once.")


def test_fl017_looks_is_not_applicable():
    assert CHECKS["FL017"](None).sentence == "No look at these test days is noted."


def aged(candidate: float, champion: float | None = None) -> pd.DataFrame:
    rows = {"candidate": candidate} | ({} if champion is None else {"champion": champion})
    return pd.DataFrame({"model": list(rows), "age_days": list(rows.values())})


def test_fl018_recent_fires():
    finding = CHECKS["FL018"](aged(91.0, 200.0), 90)
    assert (finding.result, finding.blocks) == ("failed", True)
    assert finding.sentence == (
        "What the candidate has learnt from ends 91 days before what was known; the champion's ends 200 days before; "
        "the policy allows 90."
    )


def test_fl018_recent_does_not_fire():
    finding = CHECKS["FL018"](aged(90.0, 90.0), 90)
    assert finding.result == "passed"
    assert "champion" not in finding.sentence
    # An old champion is no reason to hold a new candidate back.
    assert CHECKS["FL018"](aged(58.0, 200.0), 90).result == "passed"


def test_fl018_recent_is_not_applicable():
    assert CHECKS["FL018"](aged(900.0), None).sentence == "The config sets no gate.max_age_days."
    finding = CHECKS["FL018"](aged(np.nan), 90)
    assert (finding.result, finding.sentence) == (
        "not applicable",
        "The model does not say until when it has learnt.",
    )


def against(value: float, low: float, high: float) -> pd.DataFrame:
    row = {"view": "overall", "model": "difference", "metric": "card_precision_at_k"}
    return pd.DataFrame([row | {"value": value, "low": low, "high": high}])


def test_fl019_champion_fires():
    finding = CHECKS["FL019"](against(-0.03, -0.049, -0.001))  # within the margin of the gate, and below all the same
    assert (finding.result, finding.blocks) == ("failed", True)
    assert finding.sentence == (
        "At the budget the candidate differs from the champion by -0.030 in precision (-0.049 to -0.001)."
    )


def test_fl019_champion_does_not_fire():
    assert CHECKS["FL019"](against(-0.03, -0.07, 0.0)).result == "passed"


def test_fl019_champion_is_not_applicable():
    assert CHECKS["FL019"](None).sentence == "There is no champion to compare with."
    assert CHECKS["FL019"](against(0, 0, 0).iloc[:0]).sentence == "There is no champion to compare with."
    finding = CHECKS["FL019"](against(np.nan, np.nan, np.nan))
    assert finding.sentence == "The difference from the champion has no interval."
    with pytest.raises(FraudlabError, match="difference in card_precision_at_k once; found 2"):
        CHECKS["FL019"](pd.concat([against(0, 0, 0)] * 2))


def ranked(noise: float, weak: float = 0.1) -> pd.DataFrame:
    real = {f"f{n}": 1.0 - n / 100 for n in range(12)} | {"weak": weak}
    rows = [(name, worth, False) for name, worth in real.items()] + [("f0, shuffled", noise, True)]
    return pd.DataFrame(rows, columns=["feature", "importance", "planted"])


def test_fl020_noise_fires():
    finding = CHECKS["FL020"](ranked(0.91))  # equal to the tenth feature: being as good as noise is not enough
    assert (finding.result, finding.blocks) == ("failed", False)
    assert finding.sentence == (
        "The best of 1 planted noise features ranks 10 of 14; 4 of 13 features lie below it: f9, f10, f11 and 1 more."
    )
    # With fewer features than places, noise must not come before the last.
    few = pd.DataFrame({"feature": ["a", "a2"], "importance": [0.1, 0.5], "planted": [False, True]})
    assert CHECKS["FL020"](few).result == "failed"


def test_fl020_noise_does_not_fire():
    finding = CHECKS["FL020"](ranked(0.905))
    assert finding.result == "passed"
    assert finding.table.set_index("feature").loc[["f0", "weak", "f0, shuffled"], "reading"].tolist() == [
        "above noise",
        "below noise",
        "planted",
    ]
    assert CHECKS["FL020"](ranked(0.0)).sentence.endswith("0 of 13 features lie below it.")


def test_fl020_noise_is_not_applicable():
    nothing = ranked(0.5)
    assert CHECKS["FL020"](nothing[~nothing["planted"]]).sentence == "No noise was planted beside real features."
    finding = CHECKS["FL020"](nothing.assign(importance=0.0))
    assert finding.result == "not applicable"
    assert finding.sentence.startswith("The small model used for this learnt nothing")
