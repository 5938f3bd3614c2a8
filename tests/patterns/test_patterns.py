"""Patterns on arrays: what is counted, what chance explains, what is one candidate; labels have no say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import comb, gammaln

from fraudlab import patterns
from fraudlab.patterns import COLUMNS, SHARED, find_patterns
from fraudlab.schema import InputError

BEGIN = pd.Timestamp("2026-01-01", tz="UTC")
WEEK = pd.Timedelta(days=7)
UNTIL = BEGIN + 9 * WEEK
SINCE = UNTIL - WEEK


def stream(seed: int, rows: int = 5000, usual: float = 0.05) -> tuple[pd.DataFrame, np.ndarray]:
    """Nine weeks of payments whose unusual ones fall anywhere, more often at some merchants."""
    rng = np.random.default_rng(seed)
    customer, merchant = rng.integers(0, 300, rows), rng.integers(0, 60, rows)
    taste = np.random.default_rng(7).beta(2, 2 / usual, 60)
    frame = pd.DataFrame(
        {
            "event_time": BEGIN + pd.to_timedelta(np.sort(rng.integers(0, 9 * 7 * 86_400, rows)), unit="s"),
            "customer_id": [f"c{each}" for each in customer],
            "merchant_id": [f"m{each}" for each in merchant],
            "device_id": [f"d{each + 300 * (each % 7 == 0) * rng.integers(0, 2)}" for each in customer],
            "amount": np.round(rng.lognormal(3, 1, rows), 0) + 0.99,
        }
    )
    odd = rng.random(rows) < taste[merchant]
    return frame, np.where(odd, 0.95, 0.0) + rng.random(rows) * 0.05


def found_in(frame: pd.DataFrame, score: np.ndarray, **changes: Any) -> patterns.Patterns:
    return find_patterns(frame, score, since=SINCE, until=UNTIL, **changes)


def recent(frame: pd.DataFrame, customers: int, seed: int = 0) -> np.ndarray:
    """Rows of the last week of so many customers."""
    week = frame[frame["event_time"] >= SINCE].drop_duplicates("customer_id")
    return np.sort(np.random.default_rng(seed).choice(week.index.to_numpy(), customers, replace=False))


PLANTS: dict[str, Callable[[pd.DataFrame, np.ndarray], pd.DataFrame]] = {
    "device": lambda frame, rows: frame.assign(device_id=frame["device_id"].where(~frame.index.isin(rows), "strange")),
    "merchant": lambda frame, rows: frame.assign(merchant_id=frame["merchant_id"].where(~frame.index.isin(rows), "m3")),
    "amount": lambda frame, rows: frame.assign(amount=frame["amount"].where(~frame.index.isin(rows), 777.77)),
}


@pytest.mark.parametrize("link", list(PLANTS))
def test_what_is_planted_is_found_and_named(link: str) -> None:
    frame, score = stream(1)
    rows = recent(frame, 12)
    frame, score = PLANTS[link](frame, rows), score.copy()
    score[rows] = 0.99
    alerted = np.isin(np.arange(len(frame)), rows[:5])
    found = found_in(frame, score, alerted=alerted)
    assert link in found.table["shares"].iloc[0].split(", ")
    mine = set(found.members.loc[found.members["pattern"] == 1, "row"])
    assert set(rows) <= mine
    assert len(mine) <= len(rows) + 4, "chance adds few"
    row = found.table.iloc[0]
    assert row["alerted"] == 5
    assert row["payments"] == len(mine)
    assert row["customers"] == frame["customer_id"].iloc[sorted(mine)].nunique()
    assert row["first"] == frame["event_time"].iloc[sorted(mine)].min()
    assert row["amount"] == pytest.approx(frame["amount"].iloc[sorted(mine)].sum())
    assert row["expected"] < row["observed"] / 3
    assert row["p"] < row["q"] <= patterns.FALSE_SHARE
    lead = found.shared.iloc[0]
    assert lead["value"] == {"device": ("strange",), "merchant": ("m3",), "amount": (777.77,)}[link]
    assert list(found.table.columns) == list(COLUMNS)
    assert list(found.shared.columns) == list(SHARED)


def test_two_things_shared_by_the_same_payments_are_one_candidate_and_others_are_another() -> None:
    frame, score = stream(2)
    rows, others = np.split(recent(frame, 24), 2)
    frame = PLANTS["amount"](PLANTS["device"](frame, rows), rows)
    frame = frame.assign(device_id=frame["device_id"].where(~frame.index.isin(others), "another"))
    score = score.copy()
    score[rows] = score[others] = 0.99
    found = found_in(frame, score)
    assert len(found.table) == 2
    both = found.table[found.table["shares"].str.contains("amount")].iloc[0]
    assert {"device", "amount"} <= set(both["shares"].split(", "))
    assert both["customers"] >= 12
    assert found.table["p"].is_monotonic_increasing
    assert found.table["pattern"].tolist() == [1, 2]


def test_labels_have_no_say_and_the_same_input_gives_the_same_output() -> None:
    frame, score = stream(3)
    rows = recent(frame, 12)
    frame, score = PLANTS["device"](frame, rows), score.copy()
    score[rows] = 0.99
    one = found_in(frame, score)
    labelled = frame.assign(
        is_fraud=pd.array(np.arange(len(frame)) % 2 == 0, dtype="boolean"), label_time=frame["event_time"]
    )
    for other in (found_in(labelled, score), found_in(frame, score)):
        pd.testing.assert_frame_equal(one.table, other.table)
        pd.testing.assert_frame_equal(one.members, other.members)
        assert one.tested == other.tested


def test_what_comes_after_the_window_moves_nothing() -> None:
    frame, score = stream(3)
    short = (frame["event_time"] < UNTIL - WEEK).to_numpy()
    ends = {"since": SINCE - WEEK, "until": UNTIL - WEEK}
    one = find_patterns(frame, score, **ends)
    other = find_patterns(frame[short].reset_index(drop=True), score[short], **ends)
    pd.testing.assert_frame_equal(one.table, other.table)
    assert one.threshold == other.threshold


def test_where_payments_always_are_unusual_they_are_no_news() -> None:
    frame, score = stream(4)
    jeweller = frame["merchant_id"] == "m5"
    score = np.where(jeweller, 0.97, score)
    assert "merchant" not in found_in(frame, score).table["shares"].tolist()
    # The same at a merchant where it was not so before is.
    score = np.where(jeweller & (frame["event_time"] < SINCE), score - 0.9, score)
    assert found_in(frame, score).table["shares"].iloc[0].startswith("merchant")


def test_one_customer_is_no_pattern_and_two_are_none() -> None:
    frame, score = stream(5)
    rows = frame.index[frame["event_time"] >= SINCE][:30]
    for customers in (1, 2):
        alone = frame.copy()
        alone.loc[rows, "customer_id"] = [f"x{each % customers}" for each in range(len(rows))]
        alone.loc[rows, ["device_id", "merchant_id"]] = ["strange", "strange"]
        odd = np.where(alone.index.isin(rows), 0.99, score)
        assert found_in(alone, odd).table.empty


def test_calm_streams_are_mostly_left_alone() -> None:
    called = [len(found_in(*stream(100 + seed, rows=2000)).table) for seed in range(12)]
    # At a false discovery rate of 10 % about one in twelve has a candidate; more than four have 0.4 % chance.
    assert sum(count > 0 for count in called) <= 4


def test_decided_payments_count_no_more() -> None:
    frame, score = stream(6)
    rows = recent(frame, 12)
    frame, score = PLANTS["device"](frame, rows), score.copy()
    score[rows] = 0.99
    found = found_in(frame, score, left_out=np.isin(np.arange(len(frame)), rows))
    assert "device" not in ", ".join(found.table["shares"])
    assert not set(rows) & set(found.members["row"])


def test_missing_values_and_missing_columns_link_nobody() -> None:
    frame, score = stream(7)
    rows = recent(frame, 20)
    frame, score = frame.astype({"device_id": object}), score.copy()
    frame.loc[rows, "device_id"] = None
    score[rows] = 0.99
    assert "device" not in ", ".join(found_in(frame, score).table["shares"])
    bare = found_in(frame[["event_time", "customer_id", "amount"]], score)
    assert set(bare.tested) == {"amount"}


def test_nothing_unusual_gives_empty_tables_of_the_same_columns() -> None:
    frame, _ = stream(8)
    found = found_in(frame, np.zeros(len(frame)))
    assert found.table.empty
    assert list(found.table.columns) == list(COLUMNS)
    assert list(found.shared.columns) == list(SHARED)
    assert found.members.empty


def test_counts_are_those_of_a_loop() -> None:
    rng = np.random.default_rng(9)
    n = 400
    code, age = rng.integers(-1, 6, n), rng.integers(0, 4, n)
    customer, odd, size = rng.integers(0, 5, n), rng.random(n) < 0.3, np.zeros(n, dtype=int)
    table = patterns._counted(code, age, customer, odd, size).set_index(["code", "age"])
    assert set(table.index) == {(c, a) for c, a in zip(code, age) if c >= 0}
    for (value, stretch), row in table.iterrows():
        of = (code == value) & (age == stretch)
        assert row["n"] == len(set(customer[of]))
        assert row["k"] == len(set(customer[of & odd]))
        older = [len(set(customer[(code == value) & (age == each)])) for each in range(stretch + 1, 4)]
        assert row["n_before"] == sum(older)
        assert row["used_before"] == sum(count > 0 for count in older)
        assert row["k_before"] == sum(
            len(set(customer[odd & (code == value) & (age == each)])) for each in range(stretch + 1, 4)
        )


def test_the_laws_are_those_of_scipy() -> None:
    rows = pd.DataFrame(
        {
            "k": [0, 2, 5, 9],
            "n": [3, 4, 5, 30],
            "alike": [0.05, 0.1, 0.3, 0.2],
            "k_before": [0, 1, 4, 3],
            "n_before": [0, 10, 8, 200],
            "used_before": [0, 2, 3, 5],
            "times": 1,
        }
    )
    mean = (10 * rows["alike"] + rows["k_before"]) / (10 + rows["n_before"])
    firm = np.minimum(10 + rows["n_before"], 100.0)
    law = stats.betabinom(rows["n"], mean * firm, (1 - mean) * firm)
    ours = patterns._Law(False, 10.0, 100.0)
    expected, p = ours.judge(rows)
    np.testing.assert_allclose(expected, law.mean(), rtol=1e-12)
    np.testing.assert_allclose(p, law.sf(rows["k"] - 1), rtol=1e-9)
    logs = law.logpmf(rows["k"]) - np.log(comb(rows["n"], rows["k"]))
    assert ours.likelihood(rows) == pytest.approx(float(logs.sum()), rel=1e-9)
    own = patterns._Law(True, 10.0, 12.0)
    mean = (10 * rows["alike"] + rows["k_before"]) / (10 + rows["used_before"])
    firm = np.minimum(10 + rows["used_before"], 12.0)
    law = stats.nbinom(mean * firm, firm / (firm + 1))
    expected, p = own.judge(rows)
    np.testing.assert_allclose(expected, law.mean(), rtol=1e-12)
    np.testing.assert_allclose(p, law.sf(rows["k"] - 1), rtol=1e-9)
    logs = law.logpmf(rows["k"]) + gammaln(rows["k"] + 1)
    assert own.likelihood(rows) == pytest.approx(float(logs.sum()), rel=1e-9)


def test_every_link_has_an_equal_share_of_the_errors() -> None:
    tested = {"device": 1000, "merchant": 10, "place": 0}
    p, link = np.array([1e-5, 1e-3]), pd.Series(["device", "merchant"])
    # Bonferroni within a link of half the level each: 1e-5 * 1000 * 2 and 1e-3 * 10 * 2, halved by the second rank.
    np.testing.assert_allclose(patterns._weighted(p, link, tested), [0.01, 0.01])
    assert patterns._weighted(np.array([]), pd.Series([], dtype=object), tested).size == 0


def test_places_are_counted_in_cells_and_amounts_to_the_cent() -> None:
    assert patterns._rounded(pd.Series([50.04, 50.06, np.nan]), "latitude").tolist()[:2] == [50.0, 50.1]
    assert patterns._rounded(pd.Series([9.994, 9.996]), "amount").tolist() == [9.99, 10.0]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"alerted": [True]}, "'alerted' must have a value for each of 5,000 payments; found 1;"),
        ({"left_out": [True] * 3}, "'left_out' must have a value for each of 5,000 payments; found 3;"),
        ({"top": 1.0}, "top must lie between 0 and 1; found 1;"),
        ({"false_share": 0.0}, "false_share must lie between 0 and 1; found 0;"),
        ({"periods": 1}, "periods must be at least 2; found 1;"),
        ({"links": {}}, "needs a link; found none;"),
        ({"until": SINCE}, "the window must begin before it ends;"),
        ({"since": BEGIN + WEEK / 70, "until": BEGIN + WEEK}, "needs 500 payments before the window"),
    ],
)
def test_what_cannot_be_answered_is_refused(changes: dict[str, Any], sentence: str) -> None:
    frame, score = stream(1)
    with pytest.raises(InputError, match="patterns: ") as told:
        find_patterns(frame, score, **({"since": SINCE, "until": UNTIL} | changes))
    assert sentence in str(told.value)


def test_missing_columns_and_scores_are_refused() -> None:
    frame, score = stream(1)
    with pytest.raises(InputError, match="patterns: column 'amount' is missing"):
        found_in(frame.drop(columns="amount"), score)
    score[3] = np.nan
    with pytest.raises(InputError, match="found 1 missing; score them"):
        found_in(frame, score)
