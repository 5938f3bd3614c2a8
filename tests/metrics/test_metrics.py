"""Metrics: limits, independent oracles, invariances, intervals, refusals."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as oracle

from fraudlab.metrics import (
    METRICS,
    calibration_table,
    card_precision_at_k,
    evaluate,
    pr_table,
    roc_table,
    wilson,
)
from fraudlab.schema import InputError
from fraudlab.splits import book_fold

START = pd.Timestamp("2026-03-01", tz="UTC")


def make(rows=1200, days=10, entities=80, rate=0.06, seed=0) -> dict:
    """Arguments of `evaluate` for a useful, imperfect score without ties; frauds cluster on some entities."""
    rng = np.random.default_rng(seed)
    entity = rng.integers(0, entities, rows)
    y = rng.random(rows) < np.where(entity < entities / 8, rate * 5, rate / 3)
    score = rng.normal(size=rows) + 1.5 * y
    return {
        "y": y,
        "score": score,
        "event_time": START + pd.to_timedelta(rng.integers(0, days * 86_400, rows), unit="s"),
        "entity": np.array([f"c{i:03d}" for i in entity]),
        "amount": np.round(rng.lognormal(3, 1, rows), 2),
        "risk": 1 / (1 + np.exp(2.5 - score)),
    }


def values(table: pd.DataFrame, group="all") -> pd.Series:
    return table[table["group"] == group].set_index("metric")["value"]


def drawn(blocks: int, n_boot: int) -> np.ndarray:
    """How often each block is drawn in each replicate of seed 0: as many names out of a hat as there are blocks."""
    hat = np.random.default_rng(0)
    return np.array([[names.count(b) for b in range(blocks)] for names in
                     (hat.integers(0, blocks, blocks).tolist() for _ in range(n_boot))])  # fmt: skip


def permuted(arguments: dict, order: np.ndarray) -> dict:
    return {name: column[order] for name, column in arguments.items()}


# --- the published figures ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def handbook() -> pd.DataFrame:
    path = Path(os.environ.get("FRAUDLAB_HANDBOOK", Path(__file__).parents[3] / "shared/data/handbook.parquet"))
    if not path.is_file():
        pytest.skip("the published handbook transactions are not here; set FRAUDLAB_HANDBOOK to their file")
    raw = pd.read_parquet(path, columns=["TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TX_AMOUNT", "TX_FRAUD"])
    raw = raw.sort_values(["TX_DATETIME", "TRANSACTION_ID"], ignore_index=True)
    event = raw["TX_DATETIME"].astype("datetime64[us]").dt.tz_localize("UTC")
    return pd.DataFrame(
        {
            "event_time": event,
            "customer_id": raw["CUSTOMER_ID"],
            "amount": raw["TX_AMOUNT"],
            "is_fraud": raw["TX_FRAUD"].astype("boolean"),
            "label_time": event + pd.Timedelta(days=7),
        }
    )


def test_perfect_ranking_reaches_the_published_card_precision(handbook):
    reached = []
    for start in ("2018-07-25", "2018-08-01", "2018-08-08", "2018-08-15"):
        test = handbook.iloc[book_fold(handbook, train_start=pd.Timestamp(start, tz="UTC")).test]
        perfect = test["is_fraud"].astype(float)
        value, daily = card_precision_at_k(test["is_fraud"], perfect, test["event_time"], test["customer_id"], 100)
        assert daily["hits"].tolist() == daily["compromised"].tolist()
        reached.append(value)
    assert round(reached[0], 3) == 0.397
    assert round(np.mean(reached), 3) == 0.419


def test_two_hundred_replicates_of_a_published_test_are_fast(handbook):
    test = handbook.iloc[book_fold(handbook, train_start=pd.Timestamp("2018-07-25", tz="UTC")).test]
    risk = np.random.default_rng(0).random(len(test))
    for block in ("day", "entity"):
        started = time.process_time()
        evaluate(
            test["is_fraud"],
            risk,
            event_time=test["event_time"],
            entity=test["customer_id"],
            amount=test["amount"],
            k=100,
            risk=risk,
            block=block,
        )
        assert time.process_time() - started < 6


# --- card precision -----------------------------------------------------------------------------------------------


def test_card_precision_by_hand():
    # Day 1: a (.9, fraud) and b (.8, genuine) are inspected; a is found. Day 2: a is gone, c (.7, genuine) and
    # b (.6, fraud) are inspected, b is found; d (.5, fraud) is missed. Day 3: only d is left, and found: 1 of 2.
    rows = [
        (1, "a", 0.2, 0), (1, "a", 0.9, 1), (1, "b", 0.8, 0), (1, "d", 0.1, 0),
        (2, "a", 0.9, 1), (2, "b", 0.6, 1), (2, "c", 0.7, 0), (2, "d", 0.5, 1),
        (3, "a", 0.9, 1), (3, "b", 0.8, 1), (3, "d", 0.3, 1), (3, "d", 0.1, 0),
    ]  # fmt: skip
    day, entity, score, y = map(list, zip(*rows))
    event_time = [START + pd.Timedelta(days=number) for number in day]
    value, daily = card_precision_at_k(y, score, event_time, entity, 2)
    assert daily["cases"].tolist() == [2, 2, 1]
    assert daily["hits"].tolist() == [1, 1, 1]
    assert daily["compromised"].tolist() == [1, 2, 1]
    assert daily["precision"].tolist() == [0.5, 0.5, 0.5]
    # The outcomes as scores find a, then b and d; nothing is left for the third day.
    assert daily["perfect_precision"].tolist() == [0.5, 1.0, 0.0]
    assert value == 0.5
    assert daily["day"].tolist() == [START + pd.Timedelta(days=number) for number in (1, 2, 3)]
    table = evaluate(y, score, event_time=event_time, entity=entity, amount=[10] * 12, k=2, n_boot=0)
    assert values(table)["card_recall_at_k"] == 3 / 4
    # Without removals a and b, then a and c, then a and b are inspected: 3, 2, 2 transactions with 1, 1, 2 frauds.
    assert values(table)["precision_at_budget"] == (1 + 1 + 2) / (3 + 2 + 2)
    assert values(table)["recall_at_budget"] == (1 + 1 + 2) / 7
    assert values(table)["money_caught"] == 40
    assert values(table)["money_blocked"] == 30


def plain_card_precision(y, score, event_time, entity, k):
    found, precisions = set(), []
    for today in sorted({moment.normalize() for moment in event_time}):
        best, bad = {}, set()
        for outcome, value, moment, who in zip(y, score, event_time, entity):
            if moment.normalize() == today and who not in found:
                best[who] = max(value, best.get(who, -np.inf))
                if outcome:
                    bad.add(who)
        hits = bad & set(sorted(best, key=best.get, reverse=True)[:k])
        found |= hits
        precisions.append(len(hits) / k)
    return float(np.mean(precisions))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("k", [1, 5, 30, 500])
def test_card_precision_equals_plain_loop(seed, k):
    arguments = make(rows=600, seed=seed)
    given = [arguments[name] for name in ("y", "score", "event_time", "entity")]
    assert card_precision_at_k(*given, k)[0] == pytest.approx(plain_card_precision(*given, k))


def test_cases_are_cut_at_midnight_utc():
    late = pd.Series(pd.to_datetime(["2026-03-01T23:30", "2026-03-02T00:30"])).dt.tz_localize("UTC")
    for event_time in (late, late.dt.tz_convert("Asia/Tokyo"), late.dt.tz_localize(None)):
        _, daily = card_precision_at_k([1, 0], [0.1, 0.2], event_time, ["a", "b"], 1)
        assert daily["compromised"].tolist() == [1, 0]


def test_ties_go_by_neither_rows_nor_names():
    entity = np.array([f"c{i:03d}" for i in range(200)])
    for y in (np.arange(200) < 20, np.arange(200) >= 180):
        value, _ = card_precision_at_k(y, np.zeros(200), np.full(200, np.datetime64("2026-03-01")), entity, 20)
        assert value < 0.4


# --- limits -------------------------------------------------------------------------------------------------------


def test_perfect_score():
    arguments = make() | {"score": make()["y"].astype(float), "risk": make()["y"].astype(float)}
    found = values(evaluate(**arguments, k=500, n_boot=0))
    for metric in METRICS:
        if metric in ("card_precision_at_k", "precision_at_budget", "money_caught", "money_blocked"):
            continue
        assert found[metric] == (0 if metric in ("brier", "calibration_error") else 1), metric


def test_worst_score():
    arguments = make() | {"score": -make()["y"].astype(float)}
    found = values(evaluate(**arguments, k=1, n_boot=0))
    assert found["auc_roc"] == 0
    assert found["recall_at_fpr_5"] == 0


def test_all_tied_score():
    arguments = make() | {"score": np.full(1200, 0.3), "risk": np.full(1200, 0.3)}
    found = values(evaluate(**arguments, k=5, n_boot=0))
    rate = arguments["y"].mean()
    assert found["auc_roc"] == 0.5
    assert found["average_precision"] == pytest.approx(rate)
    assert found["recall_at_fpr_1"] == 0
    assert found["calibration_error"] == pytest.approx(abs(rate - 0.3) / rate)
    assert len(roc_table(arguments["y"], arguments["score"])) == 2


def test_random_score_is_as_good_as_chance():
    arguments = make(rows=20_000, entities=2000) | {"score": np.random.default_rng(5).random(20_000)}
    arguments["risk"] = np.full(20_000, arguments["y"].mean())
    found = values(evaluate(**arguments, k=50, n_boot=0))
    assert found["auc_roc"] == pytest.approx(0.5, abs=0.03)
    assert found["average_precision"] == pytest.approx(arguments["y"].mean(), abs=0.01)
    assert found["recall_at_fpr_5"] == pytest.approx(0.05, abs=0.02)
    assert found["calibration_error"] == pytest.approx(0)


@pytest.mark.parametrize(("outcome", "reason"), [(False, "no frauds"), (True, "no genuine")])
def test_one_class_is_not_applicable_with_a_reason(outcome, reason):
    arguments = make(rows=60) | {"y": np.full(60, outcome)}
    table = evaluate(**arguments, k=3, n_boot=20).set_index("metric")
    absent = table["value"].isna()
    assert absent.equals(table["note"].str.startswith("not applicable: "))
    assert table.loc[["auc_roc", "average_precision", "recall_at_fpr_1"], "note"].str.contains(reason).all()
    assert absent.sum() == (4 if outcome else 10)
    assert table.loc[absent, ["low", "high"]].isna().all(axis=None)
    if not outcome:
        assert table.loc["money_caught", "value"] == 0
        assert np.isnan(card_precision_at_k(*[arguments[n] for n in ("y", "score", "event_time", "entity")], 3)[0])


def test_frauds_without_an_amount_have_no_share():
    arguments = make() | {"amount": np.zeros(1200)}
    row = evaluate(**arguments, k=3, n_boot=0).set_index("metric").loc["money_caught_share"]
    assert np.isnan(row["value"])
    assert row["note"] == "not applicable: the frauds amount to nothing"


# --- oracles ------------------------------------------------------------------------------------------------------


def tenths(risk: np.ndarray) -> list[int]:
    """Each row's bin, by a walk from low to high risk: where the middle of its level's predicted frauds falls."""
    level_of, passed = {}, 0.0
    for level in sorted(set(risk)):
        mass = level * (risk == level).sum()
        level_of[level] = min(int(10 * (passed + mass / 2) / risk.sum()), 9)
        passed += mass
    return [level_of[level] for level in risk]


def misplaced(y, risk, bins, weights=1) -> float:
    frame = pd.DataFrame({"y": y * weights, "risk": risk * weights, "bin": bins})
    sums = frame.groupby("bin").sum()
    return (sums["y"] - sums["risk"]).abs().sum() / sums["y"].sum()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("digits", [None, 1])
def test_ranking_and_risk_metrics_equal_sklearn(seed, digits):
    arguments = make(seed=seed)
    if digits is not None:
        arguments["score"] = np.round(arguments["score"], digits)
    y, score, risk = arguments["y"], arguments["score"], arguments["risk"]
    found = values(evaluate(**arguments, k=5, n_boot=0))
    assert found["auc_roc"] == pytest.approx(oracle.roc_auc_score(y, score))
    assert found["average_precision"] == pytest.approx(oracle.average_precision_score(y, score))
    assert found["brier"] == pytest.approx(oracle.brier_score_loss(y, risk))
    fpr, tpr, _ = oracle.roc_curve(y, score, drop_intermediate=False)
    assert found["recall_at_fpr_1"] == pytest.approx(tpr[fpr <= 0.01].max())
    assert found["recall_at_fpr_5"] == pytest.approx(tpr[fpr <= 0.05].max())
    assert found["calibration_error"] == pytest.approx(misplaced(y, risk, tenths(risk)))


def rare_risk(rows: int, seed: int) -> np.ndarray:
    """Risks as the demo has them: 0.8 % on average, a few rows near certainty."""
    return np.random.default_rng(seed).beta(0.02, 2.48, rows)


def risk_only(y: np.ndarray, risk: np.ndarray, **options) -> pd.DataFrame:
    rows = len(y)
    fixed = {"event_time": START + pd.to_timedelta(np.arange(rows) % 20, unit="D"), "entity": np.arange(rows)}
    options = {"n_boot": 0} | options
    return evaluate(y, risk, amount=np.ones(rows), k=1, risk=risk, **fixed, **options).set_index("metric")


def test_calibration_error_shows_wrong_risks_at_rare_frauds():
    risk = rare_risk(40_000, 0)
    y = np.random.default_rng(1).random(40_000) < risk
    frauds = y.sum()
    assert 250 < frauds < 400
    right = risk_only(y, risk).loc["calibration_error", "value"]
    assert right < 3.5 / np.sqrt(frauds)
    doubled = risk_only(y, np.minimum(2 * risk, 1)).loc["calibration_error", "value"]
    assert doubled == pytest.approx(risk.sum() * 2 / frauds - 1, abs=0.2)
    assert doubled > 0.75
    assert risk_only(y, risk / 2).loc["calibration_error", "value"] == pytest.approx(0.5, abs=0.1)
    # The right sum of risks in the wrong places is wrong too: everyone gets the base rate, or the others' risk.
    assert risk_only(y, risk[::-1]).loc["calibration_error", "value"] > 0.75
    assert risk_only(y, np.zeros(40_000)).loc["calibration_error", "value"] == 1


@pytest.mark.parametrize("frauds", [100, 400])
def test_calibration_error_of_a_perfect_rare_risk_is_the_stated_noise(frauds):
    found = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        risk = rng.uniform(0, 0.04, frauds * 50)
        found.append(risk_only(rng.random(len(risk)) < risk, risk).loc["calibration_error", "value"])
    assert np.mean(found) == pytest.approx(2.5 / np.sqrt(frauds), rel=0.1)


@pytest.mark.parametrize("block", ["day", "entity"])
def test_calibration_error_replicates_keep_the_bins_of_the_data(block):
    arguments = make(rows=500, days=6)
    if block == "day":
        number = pd.factorize(arguments["event_time"].floor("D"), sort=True)[0]
    else:
        arguments["entity"] = np.arange(500)
        number = np.argsort(np.argsort(arguments["event_time"]))  # entities are numbered by first appearance
    blocks = number.max() + 1
    draws = drawn(blocks, 40)
    bins = tenths(arguments["risk"])
    plain = [misplaced(arguments["y"], arguments["risk"], bins, draw[number]) for draw in draws]
    row = evaluate(**arguments, k=3, n_boot=40, block=block).set_index("metric").loc["calibration_error"]
    np.testing.assert_allclose([row["low"], row["high"]], np.percentile(plain, [2.5, 97.5]))


def test_recall_at_one_percent_allows_exactly_one_of_a_hundred():
    y = np.array([0, 1, 1, 0, 1] + [0] * 98)
    rows = len(y)
    table = evaluate(
        y, -np.arange(rows), event_time=np.full(rows, START), entity=np.arange(rows), amount=y, k=1, n_boot=0
    )
    assert values(table)["recall_at_fpr_1"] == pytest.approx(2 / 3)
    assert values(table)["recall_at_fpr_5"] == 1


def test_budget_metrics_equal_a_group_by():
    arguments = make()
    frame = pd.DataFrame(arguments)
    frame["day"] = frame["event_time"].dt.floor("D")
    best = frame.groupby(["day", "entity"])["score"].max().groupby("day").nlargest(4)
    chosen = pd.MultiIndex.from_frame(frame[["day", "entity"]]).isin(best.index.droplevel(0))
    fraud, money = frame["y"], frame["amount"]
    found = values(evaluate(**arguments, k=4, n_boot=0))
    assert found["precision_at_budget"] == pytest.approx(fraud[chosen].mean())
    assert found["recall_at_budget"] == pytest.approx((fraud & chosen).sum() / fraud.sum())
    assert found["money_caught"] == pytest.approx(money[fraud & chosen].sum())
    assert found["money_caught_share"] == pytest.approx(money[fraud & chosen].sum() / money[fraud].sum())
    assert found["money_blocked"] == pytest.approx(money[~fraud & chosen].sum())


# --- invariances --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", ["day", "entity"])
def test_row_order_does_not_matter_even_with_ties(block):
    arguments = make()
    arguments["score"] = np.round(arguments["score"])
    order = np.random.default_rng(9).permutation(1200)
    first = evaluate(**arguments, k=7, n_boot=20, block=block)
    second = evaluate(**permuted(arguments, order), k=7, n_boot=20, block=block)
    pd.testing.assert_frame_equal(first, second, rtol=1e-9)


@pytest.mark.parametrize("block", ["day", "entity"])
def test_other_pseudonyms_give_the_same_figures_even_with_ties(block):
    arguments = make()
    arguments["score"] = np.round(arguments["score"])
    names = {name: f"{number * 7919 % 1009:04d}" for number, name in enumerate(sorted(set(arguments["entity"])))}
    renamed = arguments | {"entity": np.array([names[name] for name in arguments["entity"]])}
    assert len(set(renamed["entity"])) == len(names)
    first = evaluate(**arguments, k=7, n_boot=20, block=block)
    pd.testing.assert_frame_equal(first, evaluate(**renamed, k=7, n_boot=20, block=block))


def test_a_monotone_transform_changes_no_ranking_metric():
    arguments = make()
    changed = arguments | {"score": np.exp(3 * arguments["score"])}
    pd.testing.assert_frame_equal(evaluate(**arguments, k=7, n_boot=20), evaluate(**changed, k=7, n_boot=20))


def test_an_index_is_not_looked_at():
    arguments = make()
    series = {name: pd.Series(column, index=np.arange(1200)[::-1]) for name, column in arguments.items()}
    series["y"] = series["y"].astype("boolean")
    pd.testing.assert_frame_equal(evaluate(**series, k=7, n_boot=5), evaluate(**arguments, k=7, n_boot=5))


def test_equal_seeds_give_equal_tables():
    first, second, other = (evaluate(**make(), k=7, n_boot=30, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, second)
    assert not first["low"].equals(other["low"])
    assert first["value"].equals(other["value"])


# --- groups -------------------------------------------------------------------------------------------------------


def test_groups_share_the_budget():
    arguments = make()
    label = np.where(np.arange(1200) % 3 == 0, "online", "counter")
    table = evaluate(**arguments, k=7, n_boot=10, groups=label)
    assert table["group"].drop_duplicates().tolist() == ["all", "counter", "online"]
    pd.testing.assert_frame_equal(table[table["group"] == "all"], evaluate(**arguments, k=7, n_boot=10))
    alone = values(evaluate(**permuted(arguments, label == "online"), k=7, n_boot=0))
    online = values(table, "online")
    for metric in ("auc_roc", "average_precision", "recall_at_fpr_1", "brier", "calibration_error"):
        assert online[metric] == pytest.approx(alone[metric])
    for metric in ("money_caught", "money_blocked"):
        assert values(table)[metric] == pytest.approx(online[metric] + values(table, "counter")[metric])
    notes = table[table["group"] == "online"].set_index("metric")["note"]
    assert notes["card_precision_at_k"] == "not applicable: the k cases a day are chosen over all groups"
    with pytest.raises(InputError, match="groups: no label may be 'all'"):
        evaluate(**arguments, k=7, groups=np.where(label == "online", "all", "rest"))
    missing = evaluate(**arguments, k=7, n_boot=0, groups=np.where(label == "online", "online", None))
    assert set(missing["group"]) == {"all", "online", "missing"}


# --- intervals ----------------------------------------------------------------------------------------------------


def duplicated(arguments: dict, block: np.ndarray, counts: np.ndarray, rename) -> dict:
    """Rows of block b, counts[b] times, each copy under its own name."""
    parts = []
    for number, count in enumerate(counts):
        rows = permuted(arguments, block == number)
        parts += [rename(rows, copy) for copy in range(count)]
    return {name: np.concatenate([np.asarray(part[name]) for part in parts]) for name in arguments}


def replicates(arguments: dict, block: np.ndarray, rename, n_boot: int, k: int) -> pd.DataFrame:
    blocks = block.max() + 1
    draws = drawn(blocks, n_boot)
    return pd.DataFrame([values(evaluate(**duplicated(arguments, block, d, rename), k=k, n_boot=0)) for d in draws])


def test_entity_replicates_equal_copied_entities():
    arguments = make(rows=500, entities=40)
    # Blocks are numbered by first appearance, then by how often, then by the largest amount.
    seen = (
        pd.DataFrame(arguments)
        .groupby("entity")
        .agg(first=("event_time", "min"), rows=("y", "size"), largest=("amount", "max"))
    )
    numbers = {name: number for number, name in enumerate(seen.sort_values(["first", "rows", "largest"]).index)}
    block = np.array([numbers[name] for name in arguments["entity"]])

    def rename(rows, copy):
        return rows | {"entity": np.array([f"{name}/{copy}" for name in rows["entity"]])}

    plain = replicates(arguments, block, rename, 25, k=3).drop(columns="calibration_error")
    table = evaluate(**arguments, k=3, n_boot=25, block="entity").set_index("metric").loc[plain.columns]
    np.testing.assert_allclose(table["low"], plain.quantile(0.025))
    np.testing.assert_allclose(table["high"], plain.quantile(0.975))


def test_day_replicates_equal_copied_days():
    arguments = make(rows=500, days=6)
    arguments["event_time"] = arguments["event_time"].tz_convert(None).to_numpy()
    block = pd.factorize(arguments["event_time"].astype("datetime64[D]"), sort=True)[0]

    def rename(rows, copy):
        return rows | {"event_time": rows["event_time"] + np.timedelta64(100 * copy, "D")}

    plain = replicates(arguments, block, rename, 25, k=3)
    plain = plain.drop(columns=["calibration_error", "card_precision_at_k", "card_recall_at_k"])
    table = evaluate(**arguments, k=3, n_boot=25).set_index("metric")
    np.testing.assert_allclose(table.loc[plain.columns, "low"], plain.quantile(0.025))
    np.testing.assert_allclose(table.loc[plain.columns, "high"], plain.quantile(0.975))
    # Card precision: the day values themselves are drawn.
    _, daily = card_precision_at_k(*[arguments[name] for name in ("y", "score", "event_time", "entity")], 3)
    draws = drawn(6, 25)
    means = draws @ daily["precision"].to_numpy() / 6
    recalls = draws @ daily["hits"].to_numpy() / (draws @ daily["compromised"].to_numpy())
    for metric, found in (("card_precision_at_k", means), ("card_recall_at_k", recalls)):
        expected = np.percentile(found, [2.5, 97.5])
        np.testing.assert_allclose(table.loc[metric, ["low", "high"]].astype(float), expected)


@pytest.mark.slow
def test_entity_intervals_cover_where_row_intervals_do_not():
    """Twelve rows an entity share most of their noise; the true area is known for normal scores."""
    truth = stats.norm.cdf(1.0 / np.sqrt(2))
    covered = {"entity": 0, "row": 0}
    worlds, entities, rows = 60, 80, 12
    for world in range(worlds):
        rng = np.random.default_rng(world)
        entity = np.repeat(np.arange(entities), rows)
        y = entity % 4 == 0
        score = y + np.sqrt(0.8) * rng.normal(size=entities)[entity] + np.sqrt(0.2) * rng.normal(size=len(entity))
        for name, block in (("entity", entity), ("row", np.arange(len(entity)))):
            table = evaluate(
                y,
                score,
                event_time=np.full(len(y), np.datetime64("2026-03-01")),
                entity=block,
                amount=y,
                k=5,
                n_boot=100,
                block="entity",
            )
            row = table.set_index("metric").loc["auc_roc"]
            covered[name] += row["low"] <= truth <= row["high"]
    assert covered["entity"] >= 0.85 * worlds
    assert covered["row"] <= 0.7 * worlds


def simulated_week(seed: int) -> dict:
    """Seven days of 800 customers, 6 % of them compromised, whose own habits shift all their scores."""
    rng = np.random.default_rng(seed)
    entity = rng.integers(0, 800, 4000)
    y = (rng.random(800) < 0.06)[entity] & (rng.random(4000) < 0.5)
    score = 1.6 * y + (0.7 * rng.normal(size=800))[entity] + 0.7 * rng.normal(size=4000)
    return {
        "y": y,
        "score": score,
        "event_time": START + pd.to_timedelta(rng.integers(0, 7 * 86_400, 4000), unit="s"),
        "entity": entity,
        "amount": rng.lognormal(3, 1, 4000),
        "risk": 1 / (1 + np.exp(3.5 - score)),
    }


@pytest.mark.slow
def test_measured_coverage_of_both_blocks_on_a_week():
    """The figures of docs/evaluation.md: seven days are too few blocks, entities serve."""
    weeks = 100
    truth = pd.DataFrame([values(evaluate(**simulated_week(10_000 + i), k=10, n_boot=0)) for i in range(600)]).mean()
    coverage = {}
    for block in ("entity", "day"):
        tables = [evaluate(**simulated_week(i), k=10, block=block).set_index("metric") for i in range(weeks)]
        inside = [(table["low"] <= truth) & (truth <= table["high"]) for table in tables]
        coverage[block] = pd.DataFrame(inside).mean()
    # A few large frauds decide sums of money, which a bootstrap over one week's frauds cannot know.
    money = ["money_caught", "money_caught_share"]
    assert coverage["entity"].drop(money).min() >= 0.9
    assert coverage["entity"][money].min() >= 0.8
    assert coverage["day"].max() <= 0.88
    assert coverage["day"].mean() <= 0.8


def test_notes_say_what_an_interval_rests_on():
    few = evaluate(**make(days=7), k=5, n_boot=10)
    assert few["note"].str.contains("over 7 days, too few for a bootstrap").all()
    many = evaluate(**make(), k=5, n_boot=10, block="entity")
    assert set(many["note"]) == {"95 % interval over 80 entities"}
    none = evaluate(**make(), k=5, n_boot=0)
    assert set(none["note"]) == {"no interval asked for"}
    assert none["low"].isna().all()
    one = evaluate(**make(days=1), k=5, n_boot=10)
    assert set(one["note"]) == {"no interval: one day only"}
    rare = make(rows=200, entities=50)
    rare["y"] = np.isin(np.arange(200), [3, 60])
    table = evaluate(**rare, k=5, n_boot=100, block="entity").set_index("metric")
    assert "of 100 replicates had no value and were left out" in table.loc["auc_roc", "note"]
    assert table.loc["auc_roc", ["low", "high"]].notna().all()
    assert (table["low"] <= table["high"]).all()


def test_threshold_column_is_the_operating_point():
    table = evaluate(**make(), k=9, n_boot=0, model="m").set_index("metric")
    assert table.loc["card_precision_at_k", "threshold"] == 9
    assert table.loc["recall_at_fpr_5", "threshold"] == 0.05
    assert np.isnan(table.loc["auc_roc", "threshold"])
    assert table.index.tolist() == list(METRICS)
    assert table.reset_index().columns.tolist() == [
        "metric", "model", "group", "threshold", "value", "low", "high", "n", "note"
    ]  # fmt: skip
    without = make()
    del without["risk"]
    assert {"brier", "calibration_error"}.isdisjoint(evaluate(**without, k=9, n_boot=0)["metric"])


# --- curves -------------------------------------------------------------------------------------------------------


def test_roc_points_are_true_points_and_keep_the_area():
    arguments = make(rows=20_000)
    y, score = arguments["y"], arguments["score"]
    table = roc_table(y, score, model="m", max_points=300)
    assert table.columns.tolist() == ["model", "fpr", "tpr", "threshold"]
    assert 200 < len(table) <= 300
    for row in table.iloc[::40].itertuples():
        assert row.tpr == pytest.approx((score[y] >= row.threshold).mean())
        assert row.fpr == pytest.approx((score[~y] >= row.threshold).mean())
    assert oracle.auc(table["fpr"], table["tpr"]) == pytest.approx(oracle.roc_auc_score(y, score), abs=1e-3)
    full = roc_table(y, score, max_points=10**6)
    fpr, tpr, threshold = oracle.roc_curve(y, score, drop_intermediate=False)
    np.testing.assert_allclose(full[["fpr", "tpr", "threshold"]], np.column_stack([fpr, tpr, threshold]))


def test_pr_points_equal_sklearn_up_to_full_recall():
    arguments = make()
    y, score = arguments["y"], np.round(arguments["score"], 1)
    full = pr_table(y, score, max_points=10**6)
    precision, recall, threshold = oracle.precision_recall_curve(y, score)
    expected = np.column_stack([recall[:-1], precision[:-1], threshold])[::-1]
    np.testing.assert_allclose(full[["recall", "precision", "threshold"]], expected)
    thin = pr_table(y, score, max_points=20)
    assert len(thin) <= 20
    assert thin.iloc[[0, -1]].reset_index(drop=True).equals(full.iloc[[0, -1]].reset_index(drop=True))
    assert len(thin.merge(full)) == len(thin)


def test_calibration_bins_hold_equal_shares_of_the_predicted_frauds():
    rng = np.random.default_rng(1)
    risk = rng.beta(0.2, 8, 50_000)
    y = rng.random(50_000) < risk
    table = calibration_table(y, risk, bins=10, model="m", stage="calibrated")
    assert table.columns.tolist() == ["model", "stage", "bin", "n", "mean_predicted", "observed", "low", "high"]
    assert table["bin"].tolist() == list(range(1, 11))
    assert table["n"].sum() == 50_000
    np.testing.assert_allclose(table["n"] * table["mean_predicted"], risk.sum() / 10, rtol=0.01)
    assert table["mean_predicted"].is_monotonic_increasing
    covered = (table["low"] <= table["mean_predicted"]) & (table["mean_predicted"] <= table["high"])
    assert covered.sum() >= 8
    wrong = calibration_table(y, np.sqrt(risk))
    assert (wrong["high"] < wrong["mean_predicted"]).all()
    assert len(calibration_table(y, np.zeros(50_000))) == 1
    assert calibration_table(y[:40], np.repeat([0.1, 0.9], 20), bins=10)["n"].tolist() == [20, 20]


def test_calibration_bins_split_levels_by_the_middle_of_their_mass():
    risk = np.repeat([0.1, 0.2, 0.4, 0.8], [8, 4, 2, 1])
    table = calibration_table(np.zeros(15), risk, bins=2)
    assert table["n"].tolist() == [12, 3]


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (5, 5), (3, 40), (385, 58_264)])
def test_wilson_equals_scipy(hits, n):
    interval = stats.binomtest(hits, n).proportion_ci(method="wilson")
    np.testing.assert_allclose(wilson(np.array(hits), np.array(n)), (interval.low, interval.high), atol=1e-12)


# --- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"y": pd.array([True, None] * 600, "boolean")}, "y: outcomes must be known; found 600 missing of 1,200"),
        ({"y": np.full(1200, 2)}, "y: must be 0 or 1; found 1,200 other values"),
        ({"y": []}, "y: must have at least one outcome"),
        ({"score": np.r_[np.nan, np.inf, np.zeros(1198)]}, "score: must be finite; found 2 others of 1,200"),
        ({"score": np.zeros(7)}, "one entry per transaction each; found y 1,200, score 7"),
        ({"risk": np.full(1200, 1.5)}, "risk: must be finite and >= 0 and <= 1; found 1,200 others"),
        ({"amount": np.full(1200, -1.0)}, "amount: must be finite and >= 0; found 1,200 others"),
        ({"entity": np.array([None] + ["a"] * 1199)}, "entity: must not be missing; found 1 missing of 1,200"),
        ({"event_time": pd.Series([pd.NaT] * 1200)}, "event_time: must not be missing; found 1,200"),
        ({"k": 0}, "k: must be a whole number >= 1; found 0"),
        ({"k": 2.5}, "k: must be a whole number >= 1; found 2.5"),
        ({"n_boot": -1}, "n_boot: must be a whole number >= 0; found -1"),
        ({"block": "week"}, "block: must be 'day' or 'entity'; found 'week'"),
        ({"groups": ["a"]}, "one entry per transaction each; found y 1,200, groups 1"),
    ],
)
def test_refuses(changes, sentence):
    with pytest.raises(InputError, match=sentence.replace("(", r"\(")):
        evaluate(**({"k": 5} | make() | changes))


def test_curves_refuse_what_has_no_curve():
    for table in (roc_table, pr_table):
        with pytest.raises(InputError, match="needs frauds and genuine transactions; found 0 frauds of 3"):
            table([0, 0, 0], [0.1, 0.2, 0.3])
        with pytest.raises(InputError, match="max_points: must be a whole number >= 2; found 1"):
            table([0, 1, 0], [0.1, 0.2, 0.3], max_points=1)
    with pytest.raises(InputError, match="bins: must be a whole number >= 1; found 0"):
        calibration_table([0, 1], [0.1, 0.2], bins=0)
