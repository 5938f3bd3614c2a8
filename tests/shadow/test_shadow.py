"""Disagreement of two models and the rows that judge it: against loops, at the limits, and as it may leave."""

from __future__ import annotations

import zlib

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from fraudlab import shadow
from fraudlab.gate_config import GateConfig
from fraudlab.metrics import compare
from fraudlab.privacy.disclosure import protected

DAY = pd.Timestamp("2026-04-06", tz="UTC")


def payments(n: int, seed: int = 0, *, days: int = 5, entities: int = 12) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    label = rng.choice([True, False, None], size=n, p=[0.1, 0.6, 0.3])
    return pd.DataFrame(
        {
            "event_time": DAY + pd.to_timedelta(rng.integers(0, days * 86_400, n), unit="s"),
            "entity": rng.integers(0, entities, n).astype(str),
            "amount": rng.integers(1, 500, n) / 4,
            "is_fraud": pd.array(label, dtype="boolean"),
        }
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_table_is_what_a_loop_over_days_and_customers_finds(seed: int) -> None:
    rows = payments(400, seed)
    rng = np.random.default_rng(seed + 100)
    score = {"champion": rng.random(400), "challenger": rng.random(400)}
    # Whole cases are alerted: every payment of a customer's day, or none.
    key = list(zip(rows["event_time"].dt.date, rows["entity"]))
    alerted = {name: np.isin([zlib.crc32(f"{name}{each}".encode()) % 5 for each in key], [0, 1]) for name in score}
    table = shadow.disagreement(shadow.cases(rows, alerted), *score.values(), labels_known=0.7, days=5)
    known = [label is not pd.NA and bool(label) for label in rows["is_fraud"]]
    found: dict[tuple[str, str], float] = {}
    for case in dict.fromkeys(key):
        mine = [place for place, each in enumerate(key) if each == case]
        one, other = alerted["champion"][mine[0]], alerted["challenger"][mine[0]]
        group = "both" if one and other else "champion only" if one else "challenger only" if other else "neither"
        frauds = [place for place in mine if known[place]]
        for metric, value in (
            ("cases", 1),
            ("amount", sum(rows["amount"].iloc[mine])),
            ("frauds", int(bool(frauds))),
            ("fraud_amount", sum(rows["amount"].iloc[frauds])),
        ):
            found[metric, group] = found.get((metric, group), 0) + value
    for (metric, group), value in found.items():
        assert shadow.value_of(table, metric, group) == pytest.approx(value)
    flipped = found["cases", "champion only"] + found["cases", "challenger only"]
    assert shadow.value_of(table, "flipped_share") == pytest.approx(flipped / (flipped + found["cases", "both"]))
    assert shadow.value_of(table, "agreement") == pytest.approx(1 - flipped / len(set(key)))
    assert shadow.value_of(table, "rank_correlation") == pytest.approx(spearmanr(*score.values()).statistic)


def test_rank_correlation_with_ties_is_scipys() -> None:
    rng = np.random.default_rng(3)
    one, other = rng.integers(0, 4, 200), rng.integers(0, 3, 200)
    assert shadow.spearman(one, other)[0] == pytest.approx(spearmanr(one, other).statistic)


def test_nothing_alerted_and_no_payments_are_answers() -> None:
    rows = payments(50)
    none = {name: np.zeros(50, dtype=bool) for name in ("champion", "challenger")}
    table = shadow.disagreement(shadow.cases(rows, none), np.arange(50.0), np.arange(50.0), labels_known=0.5, days=5)
    flipped = table[table["metric"] == "flipped_share"].iloc[0]
    assert np.isnan(flipped["value"])
    assert flipped["note"] == "not applicable: neither alerted a case"
    assert shadow.value_of(table, "agreement") == 1
    empty = shadow.cases(rows.iloc[:0], {name: np.zeros(0, dtype=bool) for name in none})
    table = shadow.disagreement(empty, [], [])
    missing = table[table["value"].isna()]
    assert set(missing["metric"]) == {"flipped_share", "agreement", "rank_correlation", "labels_known"}
    assert missing["note"].str.startswith("not applicable: ").all()
    row = shadow.shadow_gate(table, GateConfig(shadow_days=1))[0]
    assert (row["found"], row["passed"]) == ("0", False)


def table_of(**changes: float) -> pd.DataFrame:
    """Fifty cases alerted by both, so many by one only; labels known; the given figures."""
    told = {"rank_correlation": 0.9, "labels_known": 1.0, "days": 7.0, "flipped_share": 0.2, "agreement": 0.99}
    rows = [("all", metric, changes.get(metric, value)) for metric, value in told.items()]
    held = {"both": 50, "champion only": 6, "challenger only": 7, "neither": 900}
    rows += [(group, "cases", changes.get(group.replace(" ", "_"), value)) for group, value in held.items()]
    return pd.DataFrame(
        [{"group": group, "metric": metric, "value": value, "note": "so"} for group, metric, value in rows]
    )


def difference(low: float, high: float) -> pd.DataFrame:
    row = {"view": "overall", "model": "difference", "metric": "card_precision_at_k", "value": (low + high) / 2}
    return pd.DataFrame([row | {"low": low, "high": high}])


@pytest.mark.parametrize(
    ("changes", "beside", "passed"),
    [
        ({}, (-0.2, 0.0), [True, True, True, True]),
        ({"days": 6.0}, (-0.2, 0.1), [False, True, True, True]),
        ({"rank_correlation": 0.0}, (-0.2, 0.1), [True, False, True, True]),
        ({"rank_correlation": np.nan}, (-0.2, 0.1), [True, False, True, True]),
        ({"flipped_share": 0.31}, (-0.2, 0.1), [True, True, False, True]),
        ({"flipped_share": 0.3}, (-0.2, 0.1), [True, True, True, True]),
        ({"flipped_share": np.nan}, (-0.2, 0.1), [True, True, True, True]),
        ({}, (-0.2, -0.001), [True, True, True, False]),
        ({}, (np.nan, np.nan), [True, True, True, True]),
        ({"labels_known": 0.89}, (-0.2, -0.001), [True, True, True, True]),
        ({"labels_known": np.nan}, (-0.2, -0.001), [True, True, True, True]),
    ],
)
def test_the_days_in_shadow_are_judged_row_by_row(changes, beside, passed) -> None:
    gate = GateConfig(shadow_days=7, max_flipped_share=0.3)
    rows = shadow.shadow_gate(table_of(**changes), gate, comparison=difference(*beside))
    assert [row["passed"] for row in rows] == passed
    judged = rows[-1]["found"].startswith("not judged: ")
    assert judged == ("labels_known" in changes)


def test_without_a_limit_flips_are_told_and_not_judged() -> None:
    rows = shadow.shadow_gate(table_of(flipped_share=0.99), GateConfig(shadow_days=7))
    assert [row["check"] for row in rows if "alerts" in row["check"]] == []
    assert all(row["passed"] for row in rows)


@pytest.mark.parametrize(
    ("share", "counts", "found"),
    [
        (0.2, {"both": 80, "champion_only": 10, "challenger_only": 10}, "20.0 %"),
        (0.0, {"both": 80, "champion_only": 0, "challenger_only": 0}, "0.0 %"),
        (0.1, {"both": 80, "champion_only": 4, "challenger_only": 5}, "within it, by a count too small to show"),
        (0.9, {"both": 4, "champion_only": 20, "challenger_only": 20}, "above it, by a count too small to show"),
    ],
)
def test_the_row_about_flips_gives_no_small_count_away(share, counts, found) -> None:
    gate = GateConfig(shadow_days=7, max_flipped_share=0.3)
    row = shadow.shadow_gate(table_of(flipped_share=share, **counts), gate)[2]
    assert row["found"] == found


def test_a_paired_comparison_of_real_scores_holds_back_a_broken_challenger() -> None:
    rng = np.random.default_rng(0)
    y = rng.random(3000) < 0.1
    good = 2 * y + rng.normal(size=3000)
    beside = compare(
        y,
        -good,
        good,
        event_time=DAY + pd.to_timedelta(rng.integers(0, 7, 3000), unit="D"),
        entity=rng.integers(0, 600, 3000),
        amount=np.ones(3000),
        k=8,
        n_boot=100,
        views=("overall",),
    )
    rows = shadow.shadow_gate(table_of(rank_correlation=-1.0), GateConfig(shadow_days=7), comparison=beside)
    assert [row["passed"] for row in rows] == [True, False, False]


def shown(both: int, one: int, other: int, neither: int) -> pd.DataFrame:
    """What leaves of so many cases, of which every tenth is a fraud."""
    counts = {(True, True): both, (True, False): one, (False, True): other, (False, False): neither}
    held = [key for key, many in counts.items() for _ in range(many)]
    found = pd.DataFrame(held, columns=["champion", "challenger"]).assign(amount=2.0, fraud=False, fraud_amount=0.0)
    table = shadow.disagreement(found, np.arange(len(found)), np.arange(len(found)), labels_known=1.0, days=7)
    return protected("shadow", table)


@pytest.mark.parametrize(
    ("counts", "hidden"),
    [
        ((40, 12, 15, 900), []),
        ((40, 0, 0, 900), []),
        ((40, 9, 15, 900), ["champion only", "challenger only"]),
        ((40, 3, 4, 900), ["both", "champion only", "challenger only"]),
        ((5, 30, 30, 900), ["both", "champion only"]),
    ],
)
def test_small_counts_do_not_leave_nor_what_tells_them(counts, hidden) -> None:
    table = shown(*counts)
    cases = table[table["metric"] == "cases"].set_index("group")
    assert cases.index[cases["value"].isna()].tolist() == hidden
    amounts = table[table["metric"] == "amount"].set_index("group")
    assert amounts.index[amounts["value"].isna()].tolist() == hidden
    flipped = table[table["metric"] == "flipped_share"].iloc[0]
    assert pd.isna(flipped["value"]) == bool(hidden)
    assert pd.isna(flipped["n"]) == bool(hidden)
    gone = table[table["value"].isna()]
    assert (gone["note"] == "not shown: a count below 10 could be read from it").all()
    pd.testing.assert_frame_equal(protected("shadow", table), table)
