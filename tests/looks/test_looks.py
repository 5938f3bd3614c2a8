"""Each look at a test leaves a line, and the report says how many there were."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

from fraudlab import looks
from fraudlab.schema import InputError

LOOK = {
    "run": "demo-1",
    "dataset": "demo",
    "data_digest": "d1",
    "config_digest": "c1",
    "test_start": "2026-05-17T00:00:00Z",
    "test_end": "2026-06-07T00:00:00Z",
    "model": "xgboost",
    "result": {"auc_roc": 0.9, "average_precision": 0.5},
}


def noted(path: Path, **changes: object) -> None:
    looks.record(path, **(LOOK | {"when": pd.Timestamp("2026-07-01T08:00Z")} | changes))


def test_a_look_is_a_line_that_says_what_was_seen(tmp_path: Path):
    path = tmp_path / "runs" / "test_looks.jsonl"
    before = pd.Timestamp.now("UTC").floor("s")
    looks.record(path, **LOOK)
    line = json.loads(path.read_text())
    assert pd.Timestamp(line.pop("when")) >= before
    assert line == LOOK | {"test_start": "2026-05-17T00:00:00+00:00", "test_end": "2026-06-07T00:00:00+00:00"}
    assert path.stat().st_mode & 0o077 == 0
    table = looks.read(path)
    assert table.columns.tolist() == list(looks.COLUMNS)
    assert table["result"].iloc[0] == LOOK["result"]
    assert looks.read(tmp_path / "none.jsonl").empty


def test_looks_of_several_processes_are_whole_lines(tmp_path: Path):
    path = tmp_path / "test_looks.jsonl"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: noted(path, run=f"r{number}", model="m" * 3000), range(40)))
    assert sorted(looks.read(path)["run"], key=lambda run: int(run[1:])) == [f"r{i}" for i in range(40)]


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch):
    path = tmp_path / "test_looks.jsonl"
    noted(path)
    whole = path.read_bytes()
    opened = os.fdopen

    class Full:
        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, line):
            return self.file.write(line[:20])

    monkeypatch.setattr(looks.os, "fdopen", lambda *args, **options: Full(opened(*args, **options)))
    with pytest.raises(OSError, match="no space to note a look"):
        noted(path)
    assert path.read_bytes() == whole


def test_looks_at_the_same_days_are_found_also_where_only_some_are_shared(tmp_path: Path):
    path = tmp_path / "test_looks.jsonl"
    noted(path, run="third", when=pd.Timestamp("2026-07-03T08:00Z"))
    noted(path, run="first")
    noted(path, run="overlaps", test_start="2026-06-06T00:00Z", test_end="2026-06-20T00:00Z", config_digest="c2")
    noted(path, run="touches", test_start="2026-06-07T00:00Z", test_end="2026-06-20T00:00Z")
    noted(path, run="before", test_start="2026-05-01T00:00Z", test_end="2026-05-17T00:00Z")
    noted(path, run="other data", dataset="handbook")
    found = looks.at_period(looks.read(path), "demo", LOOK["test_start"], LOOK["test_end"])
    assert found["run"].tolist() == ["first", "overlaps", "third"]
    assert found["whole"].tolist() == [True, False, True]
    assert looks.explain(found) == (
        "These test days were looked at 3 times, with 2 different configs, first on 2026-07-01 and last on 2026-07-03; "
        "1 of these looks were at a period that shares some of the days. The more often, the more its figures flatter."
    )
    assert looks.explain(found.iloc[:1]) == "These test days were looked at once, on 2026-07-01."
    assert looks.explain(found.iloc[:0]) == "No look at these test days is noted."


def test_the_headline_leaves_out_what_does_not_apply():
    rows = [
        ("a", "auc_roc", "all", 0.9),
        ("a", "auc_roc", "young", 0.8),
        ("a", "average_precision", "all", float("nan")),
        ("a", "brier", "all", 0.1),
        ("b", "auc_roc", "all", 0.7),
    ]
    table = pd.DataFrame(rows, columns=["model", "metric", "group", "value"])
    assert looks.headline(table, "a") == {"auc_roc": 0.9}


@pytest.mark.parametrize("line", ["half a li", '{"when": "2026-07-01T08:00:00+00:00"}', "3"])
def test_a_damaged_log_is_refused_with_the_line(tmp_path: Path, line: str):
    path = tmp_path / "test_looks.jsonl"
    noted(path)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(InputError, match=r"test_looks.jsonl: each line must be a look .* found another in line 2;"):
        looks.read(path)
