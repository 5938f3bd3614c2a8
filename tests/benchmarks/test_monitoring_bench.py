"""What the monitoring benchmark plants is what it says, begins when it says, and is counted as it says."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("monitoring_bench", BENCHMARKS / "monitoring.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


@pytest.fixture(scope="module")
def frame(bench: ModuleType) -> pd.DataFrame:
    return bench.whole(bench.canonical(60, 3))


@pytest.mark.parametrize("name", ["new fraud typology", "broken feed", "currency mix-up", "population shift"])
def test_a_plant_leaves_what_came_before_as_it_was(bench: ModuleType, frame: pd.DataFrame, name: str) -> None:
    plant, strengths, _ = bench.CHANGES[name]
    begins = bench.moment(110)
    late = (frame["event_time"] >= begins).to_numpy()
    changed = bench.whole(plant(frame, late, np.random.default_rng(1), strengths[0]))
    columns = [column for column in frame.columns if column != "transaction_id"]
    before = changed[changed["event_time"] < begins]
    pd.testing.assert_frame_equal(before[columns], frame.loc[~late, columns])
    after = changed[changed["event_time"] >= begins]
    assert not after[columns].reset_index(drop=True).equals(frame.loc[late, columns].reset_index(drop=True))
    assert changed["transaction_id"].is_unique


def test_a_change_is_found_by_the_first_alarm_of_its_week(bench: ModuleType, tmp_path: Path) -> None:
    begins = bench.moment(bench.planted_on(1))
    day = pd.date_range(begins - pd.Timedelta(days=9), periods=16, freq="D")
    z = np.where(day == begins + pd.Timedelta(days=2), 9.0, 0.0)
    table = pd.DataFrame({"day": day, "group": "feed", "signal": "s", "value": 0.0, "usual": 0.0, "z": z, "sum": 0.0})
    table.assign(n=9, what="").to_parquet(bench.file_of(tmp_path, 1, "broken feed", 1.0))
    found = bench._found(tmp_path, [1], "broken feed", 1.0, {"feed": (5.0, 5.0)})
    assert (found["found"], found["median_days"], found["first_by"]) == (1, 3.0, {"feed": 1})
    missed = bench._found(tmp_path, [1], "broken feed", 1.0, {"feed": (10.0, 5.0)})
    assert (missed["streams"], missed["found"], missed["median_days"]) == (1, 0, None)
    # A stream that calls already in the week before cannot say what found the change.
    table["z"] = np.where(day == begins - pd.Timedelta(days=1), 9.0, z)
    table.assign(n=9, what="").to_parquet(bench.file_of(tmp_path, 1, "broken feed", 1.0))
    assert bench._found(tmp_path, [1], "broken feed", 1.0, {"feed": (5.0, 5.0)})["left_out"] == 1
