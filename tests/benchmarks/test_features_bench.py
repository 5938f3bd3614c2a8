"""The feature benchmark compares like with like: every competitor's recipe gives fraudlab's own numbers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fraudlab.features import FeatureSet, count, distinct, mean, risk, std, total
from fraudlab.features.sets import CARD_V1

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import features as bench  # noqa: E402
import frames  # noqa: E402
import recipes  # noqa: E402

# Options that the default set does not use.
MORE = [
    count(by=("customer_id", "merchant_id"), window="30d"),
    total("amount", by="customer_id", window="30d", where=("channel", "=", "online"), include_current=True),
    mean("amount", by="customer_id", window="30d", delay="7d"),
    std("amount", by="merchant_id", window="7d", include_current=True),
    distinct("country", by="device_id", window="30d", where=("amount", ">", 20), delay="1d"),
    risk(by="customer_id", window="60d", empty=0.0),
]


@pytest.fixture(scope="module")
def payments() -> pd.DataFrame:
    return frames.simulated(4000)


@pytest.fixture(scope="module")
def tied(payments) -> pd.DataFrame:
    """The payments with times in whole hours, so that many of one entity happen at once."""
    moved = payments.assign(**{name: payments[name].dt.floor("h") for name in ("event_time", "label_time")})
    return moved.sort_values(["event_time", "transaction_id"], ignore_index=True)


@pytest.mark.parametrize("table", ["payments", "tied"])
@pytest.mark.parametrize("engine", ["polars", "duckdb"])
def test_the_books_features_are_equal(engine, table, request):
    pytest.importorskip(engine)
    frame = frames.like_the_book(request.getfixturevalue(table))
    assert table == "payments" or recipes.ties(frame)["merchant_id"] > 100
    expected = recipes.dict_of_columns(recipes.BOOK_12.compute(frame))
    mine = {name: recipe for name, recipe in recipes.book_recipes(frame).items() if name.startswith(engine)}
    assert len(mine) == {"polars": 3, "duckdb": 1}[engine]
    for name, recipe in mine.items():
        found = recipe.columns(recipe.run())
        assert tuple(found) == recipes.BOOK_12.columns
        bench.compare(name, expected, found, bench.statistics_of(recipes.BOOK_12.specs))


def test_the_books_own_code_gives_the_same(tied):
    frame = frames.like_the_book(tied)
    frame = frame[frame["customer_id"] < 20].reset_index(drop=True)
    expected = recipes.dict_of_columns(recipes.BOOK_12.compute(frame))
    for entity in ("customer_id", "merchant_id"):
        found = recipes.dict_of_columns(recipes.book_pandas(frame, entity))
        assert len(found) == 6
        bench.compare("pandas", expected, found, bench.statistics_of(recipes.BOOK_12.specs))


@pytest.mark.parametrize("table", ["payments", "tied"])
@pytest.mark.parametrize("engine", ["polars", "duckdb"])
def test_the_default_sets_features_are_equal(engine, table, request):
    pytest.importorskip(engine)
    frame = request.getfixturevalue(table)
    specs = [*CARD_V1.specs, *(spec for spec in MORE if not set(spec.columns) & set(CARD_V1.columns))]
    given = bench.Given(frame, specs)
    recipe, expressed, left = {"polars": bench.polars_card, "duckdb": bench.duckdb_card}[engine](given, specs)
    found = recipe.columns(recipe.run())
    expected = recipes.dict_of_columns(FeatureSet("all", specs).compute(frame))
    assert set(found) == set(expressed)
    assert set(expressed) | set(left) == set(expected)
    assert len(expressed) > 0.8 * len(expected), left
    bench.compare(engine, expected, found, bench.statistics_of(specs))


def test_another_number_is_a_mismatch():
    ours = {"n": np.array([1.0, 2.0, np.nan])}
    assert bench.compare("x", ours, {"n": np.array([1.0, 2.0, np.nan])}, {"n": "count"}) == {}
    with pytest.raises(bench.Mismatch, match=r"x: column n differs from fraudlab's in 1 rows"):
        bench.compare("x", ours, {"n": np.array([1.0, 2.0 + 1e-13, np.nan])}, {"n": "count"})
    with pytest.raises(bench.Mismatch):
        bench.compare("x", ours, {"n": np.array([1.0, 2.0, 0.0])}, {"n": "mean"})
    assert bench.compare("x", ours, {"n": np.array([1.0, 2.0 + 1e-13, np.nan])}, {"n": "mean"})["n"] < 1e-12


def test_ten_times_the_rows_are_the_same_payments_of_others_or_later(payments):
    few = payments.head(500)
    wider, longer = (frames.ten_times(few, longer=which) for which in (False, True))
    assert len(wider) == len(longer) == 5000
    assert wider["customer_id"].nunique() == 10 * few["customer_id"].nunique()
    assert longer["customer_id"].nunique() == few["customer_id"].nunique()
    one = FeatureSet("one", [count(by="customer_id", window="1d")])
    assert one.compute(wider).to_numpy().sum() == 10 * one.compute(few).to_numpy().sum()


@pytest.mark.slow
def test_a_short_run_writes_its_figures(tmp_path, monkeypatch):
    out = tmp_path / "features.json"
    monkeypatch.setattr(sys, "argv", ["features.py", "--quick", "--rows", "3000", "--only", "book", "--out", str(out)])
    assert bench.main() == 0
    written = json.loads(out.read_text())
    assert {"versions", "cores", "cpu", "threads"} <= set(written["setting"])
    engines = written["sections"]["book"]["engines"]
    assert engines["fraudlab"]["times_fraudlab"] == 1
    assert all(row["min_s"] <= row["median_s"] <= row["max_s"] for row in engines.values())
    assert [path.name for path in tmp_path.iterdir()] == ["features.json"]
