"""The page of the backtest says what the results say, and its worlds are what they are called."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import backtest as bench  # noqa: E402
from handbook_page import filled  # noqa: E402

from fraudlab.config import load_config  # noqa: E402


def test_the_page_holds_the_measured_figures() -> None:
    results = json.loads(bench.RESULTS.read_text(encoding="utf-8"))
    page = bench.PAGE.read_text(encoding="utf-8")
    assert filled(page, bench.parts(results)) == page
    assert bench.PICTURE.is_file()


def test_only_the_second_world_changes() -> None:
    demo = ROOT / "configs" / "demo.toml"
    steady, onset = (load_config(demo, **bench.changes_of(world, 52)).dataset.simulate for world in bench.WORLDS)
    assert steady.onset is None
    assert set(onset.onset) == set(bench.BEGIN_LATE)
    assert onset.model_copy(update={"onset": None}) == steady
    assert steady.days == bench.DAYS_BEFORE + 364


def test_a_figure_that_is_hidden_is_said_to_be() -> None:
    row = {"value": None, "low": None, "high": None}
    assert bench._spread(row, "recall") == "not shown"
    row = {"value": -0.0123, "low": -0.02, "high": 0.01}
    assert bench._spread(row, "recall", signed=True) == "−1.2 points (−2.0 to +1.0)"
