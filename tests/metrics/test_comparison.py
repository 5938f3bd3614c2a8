"""Two models on the same rows: paired replicates by brute force, flips by sets, groups by loops, known truths."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as oracle

from fraudlab.metrics import COMPARED, FAIRNESS, card_precision_at_k, compare, evaluate, small_cells
from fraudlab.metrics.cases import Cases, Data, take, take_cards
from fraudlab.schema import InputError
from fraudlab.splits import book_fold

START = pd.Timestamp("2026-03-01", tz="UTC")


def make(rows=1200, days=10, entities=80, seed=0) -> dict:
    """Two useful models of different strength that share part of their noise; frauds cluster on some entities."""
    rng = np.random.default_rng(seed)
    entity = rng.integers(0, entities, rows)
    y = rng.random(rows) < np.where(entity < entities / 8, 0.4, 0.03)
    shared = rng.normal(size=rows)
    return {
        "y": y,
        "challenger": shared + 0.5 * rng.normal(size=rows) + 1.8 * y,
        "champion": shared + 0.5 * rng.normal(size=rows) + 1.1 * y,
        "event_time": START + pd.to_timedelta(rng.integers(0, days * 86_400, rows), unit="s"),
        "entity": np.array([f"c{i:03d}" for i in entity]),
        "amount": np.round(rng.lognormal(3, 1, rows), 2),
    }


def found(table: pd.DataFrame, view="overall", group="all") -> pd.DataFrame:
    rows = table[(table["view"] == view) & (table["group"] == group)]
    return rows.set_index(["metric", "model"])


def one_model(arguments: dict, name: str) -> dict:
    kept = {key: value for key, value in arguments.items() if key not in ("challenger", "champion")}
    return kept | {"score": arguments[name]}


def drawn(blocks: int, n_boot: int) -> list[list[int]]:
    """The blocks drawn in each replicate of seed 0: as many names out of a hat as there are blocks."""
    hat = np.random.default_rng(0)
    return [hat.integers(0, blocks, blocks).tolist() for _ in range(n_boot)]


def numbered(arguments: dict) -> np.ndarray:
    """Each row's entity number: by first appearance, then by how often, then by the largest amount."""
    seen = (
        pd.DataFrame({key: arguments[key] for key in ("event_time", "entity", "amount", "y")})
        .groupby("entity")
        .agg(first=("event_time", "min"), rows=("y", "size"), largest=("amount", "max"))
        .sort_values(["first", "rows", "largest"])
    )
    return seen.index.get_indexer(arguments["entity"])


def copied(arguments: dict, block: np.ndarray, names: list[int]) -> dict:
    """The rows of the drawn blocks, each draw under its own name."""
    parts = []
    for copy, name in enumerate(names):
        rows = {key: np.asarray(value)[block == name] for key, value in arguments.items()}
        parts.append(rows | {"entity": np.array([f"{each}/{copy}" for each in rows["entity"]])})
    return {key: np.concatenate([part[key] for part in parts]) for key in arguments}


# --- values -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_each_model_has_the_value_of_an_independent_library(seed):
    arguments = make(seed=seed)
    table = found(compare(**arguments, k=5, n_boot=0))["value"]
    for model in ("challenger", "champion"):
        score = arguments[model]
        assert table["auc_roc", model] == pytest.approx(oracle.roc_auc_score(arguments["y"], score))
        assert table["average_precision", model] == pytest.approx(oracle.average_precision_score(arguments["y"], score))
        given = [one_model(arguments, model)[key] for key in ("y", "score", "event_time", "entity")]
        assert table["card_precision_at_k", model] == pytest.approx(card_precision_at_k(*given, 5)[0])
    for metric in table.index.get_level_values("metric").unique():
        three = table[metric]
        assert three["difference"] == pytest.approx(three["challenger"] - three["champion"])


@pytest.mark.parametrize("block", ["entity", "day"])
def test_each_model_has_the_interval_it_has_alone(block):
    arguments = make()
    risks = [1 / (1 + np.exp(3 - arguments[model])) for model in ("challenger", "champion")]
    table = found(compare(**arguments, k=5, n_boot=60, block=block, seed=3, risks=risks))
    for model, risk in zip(("challenger", "champion"), risks):
        alone = evaluate(**one_model(arguments, model), k=5, n_boot=60, block=block, seed=3, risk=risk)
        alone = alone.set_index("metric")
        for metric in COMPARED:
            ours, theirs = table.loc[(metric, model)], alone.loc[metric]
            np.testing.assert_allclose(
                ours[["value", "low", "high"]].astype(float), theirs[["value", "low", "high"]].astype(float)
            )


# --- paired replicates --------------------------------------------------------------------------------------------


def test_differences_of_replicates_equal_those_of_copied_entities():
    arguments = make(rows=500, entities=40)
    block, rows = numbered(arguments), []
    for names in drawn(40, 25):
        replicate = copied(arguments, block, names)
        values = [
            evaluate(**one_model(replicate, model), k=3, n_boot=0).set_index("metric")["value"]
            for model in ("challenger", "champion")
        ]
        rows.append(values[0] - values[1])
    plain = pd.DataFrame(rows)
    table = found(compare(**arguments, k=3, n_boot=25)).xs("difference", level="model")
    for metric in ("card_precision_at_k", "recall_at_budget", "money_caught_share", "average_precision", "auc_roc"):
        expected = plain[metric].to_numpy()
        np.testing.assert_allclose(
            table.loc[metric, ["low", "high"]].astype(float), np.percentile(expected, [2.5, 97.5]), atol=1e-12
        )
        worse = np.mean(expected < -1e-12) + np.mean(np.abs(expected) <= 1e-12) / 2
        assert table.loc[metric, "share_worse"] == pytest.approx(worse)


def test_a_model_against_itself_differs_by_nothing():
    arguments = make() | {"champion": make()["challenger"]}
    table = compare(**arguments, k=5, n_boot=40, groups={"all of them": np.full(1200, "x")})
    differences = table[(table["model"] == "difference") & table["value"].notna()]
    assert (differences[["value", "low", "high"]] == 0).all(axis=None)
    assert (differences["share_worse"] == 0.5).all()
    flips = found(table, "flips", "challenger only")["value"]
    assert (flips == 0).all()


def test_less_is_better_where_risks_are_compared():
    rng = np.random.default_rng(0)
    risk = rng.uniform(0, 0.3, 3000)
    y = rng.random(3000) < risk
    table = compare(
        y, risk, risk, risks=(risk, np.clip(3 * risk, 0, 1)), event_time=np.full(3000, START), entity=np.arange(3000),
        amount=np.ones(3000), k=5, n_boot=40,
    )  # fmt: skip
    differences = found(table).xs("difference", level="model")
    for metric in ("brier", "calibration_error"):
        assert differences.loc[metric, "value"] < 0
        assert differences.loc[metric, "share_worse"] == 0
    alone = found(
        compare(y, risk, risk, event_time=np.full(3000, START), entity=np.arange(3000), amount=y, k=5, n_boot=0)
    )
    assert "brier" not in alone.index


def correlated_world(seed: int, worlds_entities=150, rows=6) -> dict:
    rng = np.random.default_rng(seed)
    entity = np.repeat(np.arange(worlds_entities), rows)
    y = entity % 5 == 0
    habit, shared = rng.normal(size=worlds_entities)[entity], rng.normal(size=len(entity))
    noise = np.sqrt(0.4) * habit + np.sqrt(0.4) * shared
    own = [np.sqrt(0.2) * rng.normal(size=len(entity)) for _ in range(2)]
    return {
        "y": y,
        "challenger": 1.2 * y + noise + own[0],
        "champion": 0.9 * y + noise + own[1],
        "event_time": np.full(len(y), np.datetime64("2026-03-01")),
        "entity": entity,
        "amount": np.ones(len(y)),
    }


@pytest.mark.slow
def test_paired_intervals_cover_a_known_difference_and_are_narrower():
    """The areas under the curves of shifted normal scores are known: Phi(shift / sqrt(2))."""
    truth = stats.norm.cdf(1.2 / np.sqrt(2)) - stats.norm.cdf(0.9 / np.sqrt(2))
    worlds, covered, paired, unpaired = 120, 0, [], []
    for seed in range(worlds):
        table = found(compare(**correlated_world(seed), k=5, n_boot=150)).loc["auc_roc"]
        low, high = table.loc["difference", ["low", "high"]].astype(float)
        covered += low <= truth <= high
        paired.append(high - low)
        widths = [float(table.loc[name, "high"] - table.loc[name, "low"]) for name in ("challenger", "champion")]
        unpaired.append(np.hypot(*widths))
    assert 0.89 * worlds <= covered <= worlds
    assert np.mean(paired) < 0.6 * np.mean(unpaired)


# --- flips, periods -----------------------------------------------------------------------------------------------


def by_case(arguments: dict, model: str, k: int, **more: np.ndarray) -> pd.DataFrame:
    """Every case with whether it is compromised, its fraud amount and whether it is among the k best of its day."""
    frame = pd.DataFrame(arguments).assign(**more)
    frame["day"] = pd.DatetimeIndex(frame["event_time"]).floor("D")
    frame["money"] = frame["amount"] * frame["y"]
    first = {name: (name, "first") for name in more}
    cases = frame.sort_values("event_time").groupby(["day", "entity"]).agg(
        bad=("y", "max"), money=("money", "sum"), score=(model, "max"), **first
    )  # fmt: skip
    cases["taken"] = cases.groupby("day")["score"].rank(ascending=False, method="first") <= k
    return cases


def test_flips_equal_sets():
    arguments = make(rows=3000, entities=300)
    table = compare(**arguments, k=12, n_boot=30)
    one, other = (by_case(arguments, model, 12) for model in ("challenger", "champion"))
    held = {
        "both": one["taken"] & other["taken"],
        "challenger only": one["taken"] & ~other["taken"],
        "champion only": ~one["taken"] & other["taken"],
        "neither": ~one["taken"] & ~other["taken"],
    }
    for metric in ("fraud_cases", "fraud_amount", "genuine_cases"):
        those = ~one["bad"] if metric == "genuine_cases" else one["bad"]
        counts = [int((those & where).sum()) for where in held.values()]
        hidden = small_cells(counts)
        for (group, where), hide, n in zip(held.items(), hidden, counts):
            value = found(table, "flips", group).loc[(metric, ""), "value"]
            expected = one.loc[where, "money"].sum() if metric == "fraud_amount" else n
            assert np.isnan(value) if hide else value == pytest.approx(expected), (metric, group)
        difference = found(table, "flips").loc[(metric, "difference")]
        if hidden.any():
            assert difference["note"].startswith("not shown")
        else:
            weight = one["money"] if metric == "fraud_amount" else those
            assert difference["value"] == pytest.approx(weight[one["taken"]].sum() - weight[other["taken"]].sum())


def test_periods_are_weeks_or_the_folds_given():
    arguments = make(days=20)
    weeks = compare(**arguments, k=4, n_boot=10)
    weeks = weeks[weeks["view"] == "period"]
    assert weeks["group"].unique().tolist() == ["2026-03-01", "2026-03-08", "2026-03-15"]
    fold = np.where(arguments["event_time"] < START + pd.Timedelta(days=5), "fold 1", "fold 2")
    table = compare(**arguments, k=4, n_boot=10, periods=fold)
    for name in ("fold 1", "fold 2"):
        part = {key: value[fold == name] for key, value in arguments.items()}
        alone, ours = found(compare(**part, k=4, n_boot=10)), found(table, "period", name)
        for metric in ("card_precision_at_k", "money_caught_share", "average_precision"):
            np.testing.assert_allclose(ours.loc[metric, "value"], alone.loc[metric, "value"])
            assert (ours.loc[metric, "low"] <= ours.loc[metric, "high"]).all()
    assert not (compare(**make(days=6), k=4, n_boot=0)["view"] == "period").any(), "one week is no comparison"


# --- groups -------------------------------------------------------------------------------------------------------


def with_bands(rows=5000, entities=400, seed=1) -> tuple[dict, np.ndarray]:
    arguments = make(rows=rows, days=14, entities=entities, seed=seed)
    band = np.array([["20-29", "30-39", "40-49"][int(name[1:]) % 3] for name in arguments["entity"]], dtype=object)
    return arguments, band


def rates_by_case(arguments: dict, band: np.ndarray, model: str, k: int) -> dict[str, tuple[float, float]]:
    """False positive rate and recall of each group, over cases."""
    cases = by_case(arguments, model, k, band=band)
    rates = cases.groupby(["band", "bad"])["taken"].mean()
    return {group: (rates[group, False], rates[group, True]) for group in rates.index.levels[0]}


@pytest.mark.parametrize("k_groups", [None, 60])
def test_group_rates_equal_a_group_by(k_groups):
    arguments, band = with_bands()
    table = compare(**arguments, k=40, n_boot=0, groups={"age_band": band}, k_groups=k_groups)
    table = table[table["view"] == "group"].set_index(["metric", "group", "model"])["value"]
    for model in ("challenger", "champion"):
        plain = rates_by_case(arguments, band, model, k_groups or 40)
        for group, (bothered, caught) in plain.items():
            assert table["false_positive_rate", group, model] == pytest.approx(bothered)
            assert table["case_recall", group, model] == pytest.approx(caught)
    merged = rates_by_case(arguments, np.where(band == "20-29", "20-29", "rest"), "challenger", k_groups or 40)
    ours = merged["20-29"][0], merged["rest"][0]
    assert table["false_positive_ratio", "20-29", "challenger"] == pytest.approx(ours[0] / ours[1])
    assert table["false_positive_gap", "20-29", "challenger"] == pytest.approx(ours[0] - ours[1])


def test_group_intervals_equal_those_of_copied_entities():
    arguments, band = with_bands(rows=1200, entities=90)
    arguments = arguments | {"band": band}
    block, rows = numbered(arguments), []
    blocks = block.max() + 1
    for names in drawn(blocks, 8):
        replicate = copied(arguments, block, names)
        own = replicate.pop("band")
        replicate["event_time"] = pd.DatetimeIndex(replicate["event_time"])
        plain = [rates_by_case(replicate, own, model, 30)["20-29"][0] for model in ("challenger", "champion")]
        rows.append(plain[0] - plain[1])
    del arguments["band"]
    table = compare(**arguments, k=30, n_boot=8, groups={"age_band": band})
    row = found(table, "group", "20-29").loc[("false_positive_rate", "difference")]
    np.testing.assert_allclose(row[["low", "high"]].astype(float), np.percentile(rows, [2.5, 97.5]))


def test_a_case_belongs_to_the_group_of_its_first_payment():
    arguments = make(rows=2000, entities=300)
    label = np.where(np.random.default_rng(4).random(2000) < 0.5, "online", "counter").astype(object)
    table = compare(**arguments, k=30, n_boot=0, groups={"channel": label})
    table = table[table["view"] == "group"].set_index(["metric", "group", "model"])["value"]
    for group, (bothered, _) in rates_by_case(arguments, label, "challenger", 30).items():
        assert table["false_positive_rate", group, "challenger"] == pytest.approx(bothered)


def test_small_groups_are_not_shown_nor_what_gives_them_away():
    arguments, band = with_bands()
    band = np.where(np.isin(arguments["entity"], ["c001", "c002", "c004"]), "80+", band)
    table = compare(**arguments, k=40, n_boot=20, groups={"age_band": band})
    rates = table[(table["view"] == "group") & (table["metric"] == "false_positive_rate")]
    hidden = rates[rates["value"].isna()]
    assert "80+" in set(hidden["group"])
    assert hidden["group"].nunique() >= 2, "one hidden group follows from the total"
    assert hidden["note"].str.startswith("not shown: ").all()
    assert hidden[["low", "high", "share_worse"]].isna().all(axis=None)
    assert rates.loc[rates["group"] == "80+", "n"].isna().all()
    assert table.loc[table["value"].isna(), "note"].str.startswith(("not shown", "not applicable")).all()


def test_many_groups_are_joined_and_absent_columns_told():
    arguments = make(rows=6000, entities=600)
    label = np.array([f"area {int(name[1:]) % 30:02d}" for name in arguments["entity"]])
    table = compare(**arguments, k=40, n_boot=0, groups={"postcode_area": label, "age_band": None})
    groups = table[(table["view"] == "group") & (table["by"] == "postcode_area")]["group"].unique()
    assert len(groups) == 13
    assert "others" in groups
    missing = table[table["by"] == "age_band"].iloc[0]
    assert missing["note"] == "not applicable: what was loaded for this purpose has no column 'age_band'"
    assert set(table.loc[table["by"] == "postcode_area", "metric"]) == set(FAIRNESS)


# --- inspection ---------------------------------------------------------------------------------------------------


def plain_taken(cases: Cases, copies: np.ndarray, k: int) -> np.ndarray:
    taken, left = np.zeros(len(cases.day)), dict.fromkeys(range(len(cases.start)), k)
    for case, (entity, day) in enumerate(zip(cases.entity, cases.day)):
        taken[case] = min(left[day], copies[entity])
        left[day] -= taken[case]
    return taken


@pytest.mark.parametrize("k", [1, 5, 40])
def test_inspection_looks_as_far_as_it_must(k):
    """Where the first cases of a day are not drawn at all, those far behind are inspected."""
    rng = np.random.default_rng(k)
    rows = 3000
    when = START + pd.to_timedelta(rng.integers(0, 3, rows), unit="D")
    data = Data.read(rng.random(rows) < 0.1, rng.random(rows), when, rng.integers(0, 1500, rows))
    cases = Cases.of(data)
    for absent in (0, 0.5, 0.9, 0.999):
        copies = np.bincount(rng.integers(0, 1500, 1500), minlength=len(data.entities))[: len(data.entities)].astype(
            float
        )
        first = np.unique(cases.entity[cases.place < absent * 700])
        copies[first] = 0
        expected = plain_taken(cases, copies, k)
        np.testing.assert_array_equal(take(cases, copies, k), expected)
        cards, left = take_cards(cases, copies, k), copies.copy()
        for day in range(3):
            today = plain_taken(cases, left, k) * (cases.day == day)
            assert cards.inspected[day] == today.sum()
            assert cards.compromised[day] == left[cases.entity[(cases.day == day) & (cases.fraud > 0)]].sum()
            assert cards.hits[day] == (today * cases.fraud).sum()
            np.subtract.at(left, cases.entity, today * cases.fraud)


def test_five_hundred_paired_replicates_of_a_published_test_are_fast():
    path = Path(os.environ.get("FRAUDLAB_HANDBOOK", Path(__file__).parents[3] / "shared/data/handbook.parquet"))
    if not path.is_file():
        pytest.skip("the published handbook transactions are not here; set FRAUDLAB_HANDBOOK to their file")
    raw = pd.read_parquet(path, columns=["TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TX_AMOUNT", "TX_FRAUD"])
    raw = raw.sort_values(["TX_DATETIME", "TRANSACTION_ID"], ignore_index=True)
    event = raw["TX_DATETIME"].astype("datetime64[us]").dt.tz_localize("UTC")
    table = pd.DataFrame(
        {
            "event_time": event,
            "customer_id": raw["CUSTOMER_ID"],
            "amount": raw["TX_AMOUNT"],
            "is_fraud": raw["TX_FRAUD"].astype("boolean"),
            "label_time": event + pd.Timedelta(days=7),
        }
    )
    test = table.iloc[book_fold(table, train_start=pd.Timestamp("2018-07-25", tz="UTC")).test]
    score = np.random.default_rng(0).random((2, len(test)))
    started = time.process_time()
    compare(
        test["is_fraud"], *score, event_time=test["event_time"], entity=test["customer_id"], amount=test["amount"],
        k=100, risks=tuple(score),
    )  # fmt: skip
    assert time.process_time() - started < 9  # 1 to 3 s on cores of its own


# --- limits -------------------------------------------------------------------------------------------------------


def test_a_test_without_frauds_is_told():
    arguments = make(rows=200) | {"y": np.zeros(200)}
    table = compare(**arguments, k=3, n_boot=10)
    overall = table[table["view"] == "overall"]
    assert overall["value"].isna().all()
    assert overall["note"].eq("not applicable: no frauds among these transactions").all()
    assert overall["share_worse"].isna().all()


def test_other_names_of_customers_change_nothing():
    arguments, band = with_bands(rows=1500)
    renamed = arguments | {
        "entity": np.array([f"x{(int(name[1:]) * 7919) % 1009:04d}" for name in arguments["entity"]])
    }
    first, second = (compare(**each, k=20, n_boot=15, groups={"age_band": band}) for each in (arguments, renamed))
    pd.testing.assert_frame_equal(first, second)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"names": ("a", "a")},
            "names: must be two different names other than 'difference'; found 'a', 'a'; rename one",
        ),
        ({"names": ("difference", "b")}, "names: must be two different names"),
        ({"block": "week"}, "block: must be 'day' or 'entity'; found 'week'"),
        ({"k": 0}, "k: must be a whole number >= 1; found 0"),
        ({"k_groups": 0.5}, "k_groups: must be a whole number >= 1; found 0.5"),
        ({"champion": np.zeros(3)}, "must have one entry per transaction each; found y 1,200, score 3"),
        ({"groups": {"band": ["a"]}}, r"found rows 1,200, groups\['band'\] 1"),
        ({"periods": ["a"]}, "found y 1,200, periods 1"),
    ],
)
def test_compare_refuses(changes, sentence):
    with pytest.raises(InputError, match=sentence):
        compare(**(make() | {"k": 5, "n_boot": 0} | changes))


def test_views_are_those_asked_for_with_the_same_figures():
    whole = compare(**make(), k=3, n_boot=10)
    part = compare(**make(), k=3, n_boot=10, views=("overall",))
    pd.testing.assert_frame_equal(part, whole[whole["view"] == "overall"].reset_index(drop=True))
    with pytest.raises(InputError, match=r"^views: no view is named 'overal'; did you mean 'overall'\?$"):
        compare(**make(), k=3, n_boot=0, views=("overal",))
