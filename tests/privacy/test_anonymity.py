"""How anonymous a table is, and what of a table must be hidden: against published tables, other tools, brute force."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import null_space
from scipy.stats import wasserstein_distance
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from fraudlab.cli import app
from fraudlab.privacy.anonymity import drop_order, remedy_table, risk_table, suppress_small_cells
from fraudlab.privacy.membership import membership_risk
from fraudlab.schema import InputError

# Table 4.1 of the sdcMicro practice guide (World Bank, IHSN): residence, gender, education, labour status.
SDCMICRO = pd.DataFrame(
    [
        ("urban", "female", "secondary incomplete", "employed"),
        ("urban", "female", "secondary incomplete", "employed"),
        ("urban", "female", "primary incomplete", "non-LF"),
        ("urban", "male", "secondary complete", "employed"),
        ("rural", "female", "secondary complete", "unemployed"),
        ("urban", "male", "secondary complete", "employed"),
        ("urban", "female", "primary complete", "non-LF"),
        ("urban", "male", "post-secondary", "unemployed"),
        ("urban", "female", "secondary incomplete", "non-LF"),
        ("urban", "female", "secondary incomplete", "non-LF"),
    ],
    columns=["residence", "gender", "education", "labour"],
)
SDCMICRO_FK = [2, 2, 1, 2, 1, 2, 1, 1, 2, 2]  # freq(sdcInitial, type = "fk") in the same guide

# The table "hospital_anonymized" that comes with pycanon.
HOSPITAL = pd.DataFrame(
    [
        *[("F", "Kerala", disease) for disease in ("viral", "heart")],
        *[("F", "Tamil Nadu", disease) for disease in ("cancer", "TB")],
        *[("M", "Karnataka", disease) for disease in ("none", "TB", "heart")],
        *[("M", "Kerala", disease) for disease in ("cancer", "heart", "viral")],
        *[("M", "Tamil Nadu", "cancer")] * 3,
    ],
    columns=["gender", "city", "disease"],
)
MADE = pd.DataFrame(
    {
        "a": [str(i * i % 5) for i in range(200)],
        "b": [str(i * 7 % 11 // 4) for i in range(200)],
        "kind": [f"k{i**3 % 7}" for i in range(200)],
        "score": [(i * i + 3 * i) % 23 for i in range(200)],
    }
)


def test_the_frequencies_published_for_sdcmicro() -> None:
    risk = risk_table(SDCMICRO, list(SDCMICRO), unit=None, k=2)
    fk = Counter(SDCMICRO_FK)
    assert (risk.units, risk.classes, risk.k_anonymity, risk.alone, risk.units_below) == (10, 7, 1, 4, 4)
    assert risk.sizes[["smallest", "units"]].to_numpy().tolist() == [[1, fk[1]], [2, fk[2]]]
    assert risk.average_risk == pytest.approx(np.mean([1 / f for f in SDCMICRO_FK]))
    assert risk.highest_risk == 1
    assert risk.share_below == 0.4


def test_the_distances_printed_in_the_paper_on_t_closeness() -> None:
    """Li, Li and Venkatasubramanian 2007, section 4: 0.375 and 0.167; table 5 has 0.167-closeness for salary."""
    table_3 = pd.DataFrame({"zip": list("aaabbbccc"), "salary": [3, 4, 5, 6, 11, 8, 7, 9, 10]})
    table_5 = pd.DataFrame({"zip": list("aaabbbccc"), "salary": [3, 5, 9, 6, 11, 8, 4, 7, 10]})
    for table, printed in ((table_3, 0.375), (table_5, 1 / 6)):
        found = risk_table(table, ["zip"], sensitive="salary", unit=None).sensitive.iloc[0]
        assert found["distance"] == "ordered"
        assert found["t_closeness"] == pytest.approx(printed)
        assert (found["distinct_l"], found["entropy_l"]) == (3, pytest.approx(3))


@pytest.mark.parametrize(
    ("table", "columns", "sensitive", "k", "distinct", "whole_entropy_l", "t"),
    [
        (HOSPITAL, ["gender", "city"], "disease", 2, 1, 1, 0.6153846153846154),
        (MADE, ["a", "b"], "kind", 11, 3, 2, 0.09666666666666669),
        (MADE, ["a", "b"], "score", 11, 7, 6, 0.12811688311688313),
        (MADE, ["a"], "kind", 40, 3, 2, 0.03),
        (MADE, ["a"], "score", 40, 12, 11, 0.01272727272727273),
        (MADE, ["b"], "score", 54, 12, 11, 0.008400673400673391),
    ],
)
def test_the_figures_that_pycanon_gives(
    table: pd.DataFrame, columns: list[str], sensitive: str, k: int, distinct: int, whole_entropy_l: int, t: float
) -> None:
    """pycanon 1.3.6: k_anonymity, l_diversity, entropy_l_diversity (cut to a whole number), t_closeness."""
    risk = risk_table(table, columns, sensitive=sensitive, unit=None)
    found = risk.sensitive.iloc[0]
    assert risk.k_anonymity == k
    assert found["distinct_l"] == distinct
    assert int(found["entropy_l"]) == whole_entropy_l
    assert found["t_closeness"] == pytest.approx(t, abs=1e-12)


def test_twenty_five_alike_by_row_and_everybody_alone_by_customer() -> None:
    pairs = list(itertools.combinations(range(26), 2))  # each customer paid in two of 26 countries, no two in the same
    frame = pd.DataFrame([(number, country) for number, pair in enumerate(pairs) for country in pair])
    frame.columns = ["customer_id", "country"]
    assert risk_table(frame, ["country"], unit=None).k_anonymity == 25
    people = risk_table(frame, ["country"])
    assert (people.units, people.k_anonymity, people.alone) == (325, 1, 325)


def brute_force(frame: pd.DataFrame, columns: list[str], unit: str | None, k: int) -> dict[str, Any]:
    """Group profiles with plain dicts and frozen sets."""
    rows = [tuple("missing" if value is None or value != value else value for value in row) for row in
            frame[columns].astype("object").itertuples(index=False)]  # fmt: skip
    owners = list(range(len(frame))) if unit is None else frame[unit].tolist()
    profiles: dict[Any, set] = {}
    for owner, row in zip(owners, rows):
        profiles.setdefault(owner, set()).add(row)
    classes = Counter(frozenset(profile) for profile in profiles.values())
    small = sum(size for size in classes.values() if size < k)
    return {
        "units": len(profiles),
        "classes": len(classes),
        "k_anonymity": min(classes.values()),
        "alone": sum(size == 1 for size in classes.values()),
        "units_below": small,
        "of": {owner: frozenset(profile) for owner, profile in profiles.items()},
    }


def frames(rows: int = 14) -> st.SearchStrategy[pd.DataFrame]:
    row = st.tuples(
        st.integers(0, 5),
        st.sampled_from(["DE", "FR", "LU", None]),
        st.sampled_from([1.0, 2.0, 5.0, math.nan]),
        st.sampled_from(["20-29", "30-39", "100+", None]),
        st.sampled_from([True, False, None]),
        st.sampled_from([0.0, 1.0, 7.5, 8.0]),
    )
    names = ["customer_id", "country", "place", "age", "fraud", "amount"]
    return st.lists(row, min_size=1, max_size=rows).map(
        lambda found: pd.DataFrame(found, columns=names).astype({"country": "str", "age": "str", "fraud": "boolean"})
    )


@settings(max_examples=60, deadline=None)
@given(frame=frames(), unit=st.sampled_from([None, "customer_id"]), k=st.integers(2, 4))
def test_counts_agree_with_brute_force(frame: pd.DataFrame, unit: str | None, k: int) -> None:
    columns = ["country", "place", "age"]
    risk, expected = risk_table(frame, columns, unit=unit, k=k), brute_force(frame, columns, unit, k)
    assert {name: getattr(risk, name) for name in expected if name != "of"} == {
        name: value for name, value in expected.items() if name != "of"
    }
    assert int(risk.sizes["units"].sum()) == risk.units
    assert int(risk.sizes["classes"].sum()) == risk.classes
    assert int(risk.sizes.loc[risk.sizes["largest"] < k, "units"].sum()) == risk.units_below


def sensitive_by_hand(frame: pd.DataFrame, column: str, unit: str | None) -> dict[Any, Any]:
    values = frame[column].astype("object").where(frame[column].notna(), None)
    if unit is None:
        return dict(enumerate(values))
    told: dict[Any, Any] = {}
    for owner, value in zip(frame[unit], values):
        known = told.get(owner)
        told[owner] = value if known is None else known if value is None else max(known, value)
    return told


@settings(max_examples=60, deadline=None)
@given(frame=frames(), unit=st.sampled_from([None, "customer_id"]))
def test_diversity_and_closeness_agree_with_brute_force(frame: pd.DataFrame, unit: str | None) -> None:
    columns = ["country", "age"]
    table = risk_table(frame, columns, sensitive=["fraud", "amount"], unit=unit).sensitive.set_index("column")
    profile = brute_force(frame, columns, unit, 2)["of"]
    for column in ("fraud", "amount"):
        value = sensitive_by_hand(frame, column, unit)
        order = sorted({v for v in value.values() if v is not None}) + [None] * (None in value.values())
        rank = {v: place for place, v in enumerate(order)}
        everybody = [rank[v] for v in value.values()]
        members: dict[Any, list[int]] = {}
        for owner, v in value.items():
            members.setdefault(profile[owner], []).append(rank[v])
        distances, entropies = [], []
        for group in members.values():
            share = np.bincount(group, minlength=len(order)) / len(group)
            entropies.append(-sum(p * math.log(p) for p in share if p))
            if column == "amount":
                distances.append(wasserstein_distance(group, everybody) / max(len(order) - 1, 1))
            else:
                whole = np.bincount(everybody, minlength=len(order)) / len(everybody)
                distances.append(np.abs(share - whole).sum() / 2)
        found = table.loc[column]
        assert found["distinct_l"] == min(len(set(group)) for group in members.values())
        assert found["entropy_l"] == pytest.approx(math.exp(min(entropies)))
        assert found["t_closeness"] == pytest.approx(max(distances), abs=1e-9)
        assert found["units_alike"] == sum(len(group) for group in members.values() if len(set(group)) == 1)


def test_texts_of_a_customer_are_a_set() -> None:
    frame = pd.DataFrame({"customer_id": [1, 1, 2, 2, 3], "age": ["a"] * 5, "kind": ["x", "y", "y", "x", "x"]})
    found = risk_table(frame, ["age"], sensitive="kind").sensitive.iloc[0]
    assert (found["distinct_l"], found["distance"]) == (2, "equal")
    assert found["entropy_l"] == pytest.approx(math.exp(-(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))))


def coarser_by_hand(frame: pd.DataFrame, column: str, unit: str | None, k: int) -> pd.Series:
    if column == "country":
        owners = frame.index.to_series() if unit is None else frame[unit]
        held = owners.groupby(frame[column]).nunique()
        return frame[column].astype("object").map(lambda v: v if v is None or v != v or held[v] >= k else "rare")
    order = {"place": [1.0, 2.0, 5.0], "age": ["20-29", "30-39", "100+"]}[column]
    present = [value for value in order if value in set(frame[column].dropna())]
    return frame[column].astype("object").map(lambda v: v if v is None or v != v else present.index(v) // 2)


@settings(max_examples=40, deadline=None)
@given(frame=frames(), unit=st.sampled_from([None, "customer_id"]), k=st.integers(2, 4))
def test_remedies_and_the_order_of_dropping_do_what_they_say(frame: pd.DataFrame, unit: str | None, k: int) -> None:
    columns = ["country", "place", "age"]
    table = remedy_table(frame, columns, unit=unit, k=k)
    assert len(table) == 6
    assert table["units_below"].is_monotonic_increasing
    for row in table.itertuples():
        if row.remedy == "drop it":
            expected = brute_force(frame, [name for name in columns if name != row.column], unit, k)
        else:
            unordered = row.column == "country" and frame["country"].notna().any()
            assert row.remedy == ("merge rare values" if unordered else "merge neighbours in pairs")
            changed = frame.assign(**{row.column: coarser_by_hand(frame, row.column, unit, k)})
            expected = brute_force(changed, columns, unit, k)
        assert (row.k_anonymity, row.alone, row.units_below) == tuple(
            expected[name] for name in ("k_anonymity", "alone", "units_below")
        )
        assert row.share_below == pytest.approx(expected["units_below"] / expected["units"])
    left = list(columns)
    below = brute_force(frame, left, unit, k)["units_below"]
    for row in drop_order(frame, columns, unit=unit, k=k).itertuples():
        assert below > 0, "no step without need"
        tried = {name: brute_force(frame, [o for o in left if o != name], unit, k)["units_below"] for name in left}
        assert row.units_below == tried[row.dropped] == min(tried.values())
        left.remove(row.dropped)
        below = row.units_below
    assert left
    assert below == 0 or len(left) == 1


def test_many_wide_columns_do_not_run_over() -> None:
    """Eight columns of 4,096 codes need 96 bits; wrapped at 64, the first columns would not count any more."""
    alike = np.tile(np.arange(4095)[:, None], 8)
    first_only = alike * (np.arange(8) == 0)
    names = [f"c{i}" for i in range(8)]
    frame = pd.DataFrame(np.concatenate([alike, first_only]), columns=names)
    frame["customer_id"] = range(len(frame))
    for unit in (None, "customer_id"):
        risk = risk_table(frame, names, unit=unit)
        assert (risk.classes, risk.k_anonymity, risk.alone) == (2 * 4095 - 1, 1, 2 * 4095 - 2)


def test_long_equal_histories_are_one_class_and_one_odd_payment_leaves_it() -> None:
    frame = pd.DataFrame({"customer_id": np.repeat([1, 2, 3], 400), "place": np.tile(np.arange(400), 3)})
    assert risk_table(frame, ["place"]).k_anonymity == 3
    frame.loc[1199, "place"] = 400
    assert risk_table(frame, ["place"]).sizes["units"].tolist() == [1, 2]


def test_no_value_of_a_row_is_in_any_result() -> None:
    frame = SDCMICRO.assign(residence=["Rosalind"] * 9 + ["Mill Lane"], customer_id=range(10))
    risk = risk_table(frame, ["residence", "gender"], sensitive="labour", k=3)
    said = json.dumps(risk.facts()) + repr(risk)
    said += remedy_table(frame, ["residence", "gender"]).to_csv() + drop_order(frame, ["residence", "gender"]).to_csv()
    assert not any(str(value) in said for value in {*frame["residence"], *frame["labour"], *frame["gender"]})


def test_a_million_rows_take_less_than_two_seconds_of_cpu() -> None:
    rng = np.random.default_rng(0)
    n, customers = 1_000_000, 100_000
    who = rng.integers(0, customers, n)
    frame = pd.DataFrame(
        {"customer_id": who, "age": who * 7 % 8, "area": who * 13 % 100, "channel": rng.integers(0, 2, n)}
    )
    frame["country"] = rng.choice(5, n, p=[0.9, 0.05, 0.03, 0.01, 0.01])
    frame["latitude"] = np.round(rng.normal(52, 0.1, n), 1)
    frame["fraud"] = rng.random(n) < 0.01
    for unit in (None, "customer_id"):
        began = time.process_time()
        risk_table(frame, ["age", "area", "country", "channel", "latitude"], sensitive="fraud", unit=unit)
        assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"quasi_identifiers": []}, "at least one column"),
        ({"quasi_identifiers": ["age", "age"]}, "must be different columns"),
        ({"quasi_identifiers": ["customer_id"]}, "without the unit"),
        ({"quasi_identifiers": ["agee"]}, "did you mean 'age'"),
        ({"sensitive": "fruad"}, "column 'fruad' is missing"),
        ({"k": 1}, "k: must be at least 2; found 1"),
        ({"frame": pd.DataFrame({"customer_id": [], "age": []})}, "no rows"),
        ({"frame": pd.DataFrame({"customer_id": ["a", None], "age": [1, 2]})}, "found 1 empty rows"),
    ],
)
def test_what_cannot_be_measured_is_refused(change: dict[str, Any], sentence: str) -> None:
    arguments = {"frame": pd.DataFrame({"customer_id": [1], "age": [2]}), "quasi_identifiers": ["age"]} | change
    with pytest.raises(InputError, match=sentence):
        risk_table(arguments.pop("frame"), arguments.pop("quasi_identifiers"), **arguments)


# ---- small cells


def cube(counts: np.ndarray, *, totals: bool) -> tuple[pd.DataFrame, list[str]]:
    """Return an array of counts as a tidy table, with or without its totals."""
    names = list("xyz")[: counts.ndim]
    if totals:
        for axis in range(counts.ndim):
            counts = np.concatenate([counts, counts.sum(axis=axis, keepdims=True)], axis=axis)
    rows = []
    for place, count in np.ndenumerate(counts):
        last = [totals and i == size - 1 for i, size in zip(place, counts.shape)]
        rows.append((*("all" if end else f"v{i}" for i, end in zip(place, last)), int(count)))
    return pd.DataFrame(rows, columns=[*names, "n"]), names


def equations(table: pd.DataFrame, names: list[str]) -> np.ndarray:
    """Return every published sum: a row per line, 1 for its cells, -1 for its total where the table has it."""
    rows = []
    for name in names:
        others = [other for other in names if other != name]
        groups = table.groupby(others).indices.values() if others else [np.arange(len(table))]
        for places in groups:
            row = np.zeros(len(table))
            row[places] = np.where(table[name].iloc[places] == "all", -1, 1)
            rows.append(row)
    return np.array(rows)


def determined(table: pd.DataFrame, shown: pd.DataFrame, names: list[str]) -> np.ndarray:
    """Return the hidden cells that linear algebra gives back: those that no solution of the system can move."""
    hidden = np.flatnonzero(shown["n"].isna())
    free = null_space(equations(table, names)[:, hidden]) if len(hidden) else np.zeros((0, 0))
    return hidden[np.abs(free).max(axis=1, initial=0) < 1e-9]


arrays = st.sampled_from([(2,), (5,), (2, 2), (3, 4), (4, 4), (2, 2, 3)]).flatmap(
    lambda shape: st.lists(
        st.one_of(st.just(0), st.integers(1, 9), st.integers(10, 40)),
        min_size=math.prod(shape),
        max_size=math.prod(shape),
    ).map(lambda cells: np.array(cells).reshape(shape))
)


@settings(max_examples=80, deadline=None)
@given(counts=arrays, totals=st.booleans())
def test_no_hidden_count_follows_from_what_is_shown(counts: np.ndarray, totals: bool) -> None:
    table, names = cube(counts, totals=totals)
    shown = suppress_small_cells(table, ["n"], names)
    there = shown["n"].notna()
    assert (shown.loc[there, "n"] == table.loc[there, "n"]).all(), "what is shown is true"
    assert not ((shown["n"] > 0) & (shown["n"] < 10)).fillna(False).any(), "no small count is shown"
    assert determined(table, shown, names).size == 0
    if counts.min() >= 10:
        assert there.all(), "nothing is hidden without need"


def alternatives(table: pd.DataFrame, shown: pd.DataFrame, names: list[str], most: int) -> dict[int, set[int]]:
    """Try every whole number >= 0 in the hidden cells; return which values fit all published sums."""
    hidden = np.flatnonzero(shown["n"].isna())
    system = equations(table, names)
    truth = table["n"].to_numpy()
    fitting: dict[int, set[int]] = {place: set() for place in hidden}
    for guess in itertools.product(range(most + 1), repeat=len(hidden)):
        tried = truth.copy()
        tried[hidden] = guess
        if (system @ tried == system @ truth).all():
            for place, value in zip(hidden, guess):
                fitting[place].add(value)
    return fitting


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=4, max_size=4), st.booleans())
def test_small_counts_stay_open_when_every_possible_table_is_tried(cells: list[int], totals: bool) -> None:
    """k = 3, so that all tables of whole numbers can be tried."""
    table, names = cube(np.array(cells), totals=totals)
    shown = suppress_small_cells(table, ["n"], names, k=3)
    if shown["n"].isna().sum() <= 4:
        for place, values in alternatives(table, shown, names, 20 if shown["n"].isna().sum() < 4 else 12).items():
            assert len(values) > 1 or table["n"].iloc[place] == 0


def test_two_hidden_in_every_line_are_not_enough_where_a_bridge_joins_two_squares() -> None:
    """Each line has two hidden cells or none, yet the cell between the squares follows from both sides at once."""
    counts = np.full((4, 4), 50)
    for place in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 2), (2, 3), (3, 2), (3, 3)):
        counts[place] = 9
    counts[1, 2] = 4  # the bridge
    table, names = cube(counts, totals=True)
    small = table.assign(n=table["n"].astype("Int64").mask(table["n"] < 10))
    bridge = table.index[(table["x"] == "v1") & (table["y"] == "v2")]
    assert determined(table, small, names).tolist() == bridge.tolist(), "the plain rule fails here"
    assert determined(table, suppress_small_cells(table, ["n"], names), names).size == 0


def test_a_hidden_total_protects_its_line_so_that_no_more_is_hidden_than_needed() -> None:
    table, names = cube(np.array([[30, 50, 50], [12, 50, 50], [1, 0, 0]]), totals=True)
    hidden = table[suppress_small_cells(table, ["n"], names)["n"].isna()]
    assert hidden.to_numpy().tolist() == [["v1", "v0", 12], ["v1", "all", 112], ["v2", "v0", 1], ["v2", "all", 1]]


def test_hidden_counts_of_a_line_add_up_to_at_least_k() -> None:
    table = pd.DataFrame({"channel": ["pos", "online", "atm", "mail", "all"], "frauds": [60, 25, 2, 3, 90]})
    shown = suppress_small_cells(table, ["frauds"], ["channel"])
    assert shown["frauds"].fillna(-1).tolist() == [60, -1, -1, -1, 90], "2 + 3 would tell of five customers"


def test_a_lone_small_count_takes_a_zero_with_it_where_nothing_else_is_there() -> None:
    table = pd.DataFrame({"tier": ["low", "high", "severe"], "frauds": [0, 3, 0]})
    assert suppress_small_cells(table, ["frauds"], ["tier"])["frauds"].isna().sum() == 2
    one = pd.DataFrame({"tier": ["low", "all"], "frauds": [3, 3]})
    assert suppress_small_cells(one, ["frauds"], ["tier"])["frauds"].isna().all(), "the total is the cell"


def test_rates_of_hidden_counts_go_too_and_the_rest_stays() -> None:
    table = pd.DataFrame(
        {
            "tier": ["low", "elevated", "high", "all"],
            "action": ["approve", "step_up", "review", ""],
            "payments": [900, 60, 40, 1000],
            "frauds": [12, 8, 30, 50],
            "fraud_rate": [0.0133, 0.1333, 0.75, 0.05],
            "threshold": [0, 1, 2, 3],
        },
        index=[5, 6, 7, 8],
    )
    shown = suppress_small_cells(table, ["payments", "frauds"], ["tier"], values=["fraud_rate"])
    assert shown["payments"].tolist() == [900, 60, 40, 1000]
    assert shown["frauds"].fillna(-1).tolist() == [-1, -1, 30, 50]
    assert shown["fraud_rate"].fillna(-1).tolist() == [-1, -1, 0.75, 0.05]
    pd.testing.assert_frame_equal(shown[["tier", "action", "threshold"]], table[["tier", "action", "threshold"]])
    every = suppress_small_cells(table, ["payments", "frauds"], ["tier"])
    assert every["threshold"].isna().sum() == 2, "unless told otherwise, any number may be computed from the counts"
    assert table["frauds"].tolist() == [12, 8, 30, 50], "the given table is not changed"


def test_missing_values_are_a_category_of_their_own() -> None:
    table = pd.DataFrame({"country": ["DE", None, "FR"], "n": [40, 5, 30]})
    assert suppress_small_cells(table, ["n"], ["country"])["n"].isna().tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"by": []}, "at least one column each"),
        ({"counts": ["n", "n"]}, "none twice"),
        ({"counts": ["m"]}, "column 'm' is missing"),
        ({"k": 1}, "k: must be at least 2"),
        ({"table": pd.DataFrame({"a": ["x", "x"], "n": [1, 2]})}, "found 1 repeated"),
        ({"table": pd.DataFrame({"a": ["x", "y", "z"], "n": [1.5, -2, None]})}, "found 3 other values"),
    ],
)
def test_tables_that_cannot_be_protected_are_refused(change: dict[str, Any], sentence: str) -> None:
    given_ = {"table": pd.DataFrame({"a": ["x"], "n": [1]}), "counts": ["n"], "by": ["a"]} | change
    with pytest.raises(InputError, match=sentence):
        suppress_small_cells(**given_)


# ---- membership


def test_membership_is_the_auc_of_the_loss() -> None:
    rng = np.random.default_rng(1)
    labels = [rng.integers(0, 2, n) for n in (400, 300)]
    scores = [np.round(rng.beta(2 + y, 3 - y), 2) for y in labels]
    table = membership_risk(labels[0], scores[0], labels[1], scores[1]).set_index("group")
    loss = [-np.log(np.clip(np.where(y == 1, p, 1 - p), 1e-12, 1)) for y, p in zip(labels, scores)]
    for group, keep in (("all", [y >= 0 for y in labels]), ("fraud", [y == 1 for y in labels])):
        ours, theirs = loss[0][keep[0]], loss[1][keep[1]]
        expected = roc_auc_score(np.r_[np.ones(len(ours)), np.zeros(len(theirs))], -np.r_[ours, theirs])
        assert table.loc[group, "auc"] == pytest.approx(expected)
        assert (table.loc[group, "members"], table.loc[group, "others"]) == (len(ours), len(theirs))


def test_membership_without_frauds_says_so_and_refuses_what_is_no_score() -> None:
    table = membership_risk([0, 0], [0.1, 0.2], [0, 1], [0.1, 0.2]).set_index("group")
    assert math.isnan(table.loc["fraud", "auc"])
    assert "no rows on one side" in table.loc["fraud", "note"]
    with pytest.raises(InputError, match="found 2 other rows"):
        membership_risk([0, None, 1], [0.1, 0.2, 1.2], [0], [0.1])
    with pytest.raises(InputError, match="must be as many as the labels; found 1 and 2"):
        membership_risk([0, 1], [0.1, 0.2], [0, 1], [0.1])


# ---- the command


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Return a function that runs `fraudlab privacy risk` on a small demo data set."""
    home = tmp_path_factory.mktemp("project")
    (home / "configs").symlink_to(Path(__file__).resolve().parents[2] / "configs")
    smaller = ("dataset.simulate.customers=150", "dataset.simulate.merchants=60")
    words = ["ingest", "--config", str(home / "configs/demo.toml")]
    environment = {"FRAUDLAB_HOME": str(home), "COLUMNS": "200"}
    done = CliRunner().invoke(app, [*words, *(word for pair in smaller for word in ("--set", pair))], env=environment)
    assert done.exit_code == 0, done.output
    return lambda *more: CliRunner().invoke(app, ["privacy", "risk", "demo", *more], env=environment)


def test_the_command_says_what_it_means_and_what_helps(ask: Callable[..., Any]) -> None:
    result = ask("--columns", "age_band,postcode_area")
    assert result.exit_code == 0
    said = " ".join(result.output.split())
    for words in ("customers are alone in what these columns say about all their payments", "postcode_area drop it",
                  "stay personal data", "fraudlab ingest", "per customer", "per payment"):  # fmt: skip
        assert words in said
    facts = json.loads(ask("--columns", "age_band,postcode_area", "--json").output)
    alone = facts["risks"]["customer"]["alone"]
    assert f"{alone:,} of {facts['risks']['customer']['units']:,} customers" in said
    assert facts["remedies"][0]["units_below"] <= facts["risks"]["customer"]["units_below"]
    assert facts["risks"]["payment"]["k_anonymity"] >= facts["risks"]["customer"]["k_anonymity"]


def test_the_command_takes_the_coarse_columns_of_the_purpose(ask: Callable[..., Any]) -> None:
    facts = json.loads(ask("--per", "customer", "--json").output)
    assert list(facts["risks"]) == ["customer"]
    chosen = facts["risks"]["customer"]["columns"]
    assert {"age_band", "country", "latitude", "longitude", "postcode_area"} <= set(chosen)
    assert not {"customer_id", "card_id", "device_id", "ip", "transaction_id", "amount", "is_fraud"} & set(chosen)
    row = json.loads(ask("--per", "row", "--purpose", "case-investigation", "--sensitive", "none", "--json").output)
    assert "country" in row["risks"]["payment"]["columns"]
    assert not {"age_band", "postcode_area"} & set(row["risks"]["payment"]["columns"]), "the purpose does not see them"
    assert row["risks"]["payment"]["sensitive"] == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--columns", "card_id"), "'card_id' is an identifier"),
        (("--columns", "age_bnd"), "did you mean 'age_band'"),
        (("--per", "custmer"), "did you mean 'customer'"),
        (("--purpose", "case-investigation", "--columns", "age_band"), "not allowed for purpose"),
    ],
)
def test_the_command_refuses_with_a_remedy(ask: Callable[..., Any], words: tuple[str, ...], sentence: str) -> None:
    result = ask(*words)
    assert isinstance(result.exception, InputError)
    assert sentence in str(result.exception)
