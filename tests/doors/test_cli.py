"""The command line: what it teaches, what it refuses, with which exit code."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from fraudlab.cli import app, main

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands]


def fraudlab(*words: str, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Call the command line as its process does, but in this one, which has imported everything already."""
    said, complained, code = io.StringIO(), io.StringIO(), None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["fraudlab", *words])
        patch.chdir(ROOT)
        if home:
            patch.setenv("FRAUDLAB_HOME", str(home))
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
            try:
                main()
            except SystemExit as ended:
                code = ended.code
    return subprocess.CompletedProcess(words, int(code or 0), said.getvalue(), complained.getvalue())


def as_process(*words: str, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({"FRAUDLAB_HOME": str(home)} if home else {})
    return subprocess.run(
        [sys.executable, "-m", "fraudlab.cli", *words], capture_output=True, text=True, cwd=ROOT, env=environment
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"], terminal_width=200)
    assert result.exit_code == 0
    assert f"Example: fraudlab {command}" in result.output


def test_help_is_quick_and_names_the_first_step() -> None:
    began = os.times()
    result = as_process("--help")
    spent = os.times()
    assert "fraudlab retrain --config configs/demo.toml" in result.stdout
    # A slow machine needs 0.8 s; pandas alone would add one.
    assert (spent.children_user + spent.children_system) - (began.children_user + began.children_system) < 1.2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["retrain", "--config", "configs/dmo.toml"], "no file at configs/dmo.toml"),
        (["retrain", "--set", "split.tset_days=3"], "did you mean 'test_days'?"),
        (["retrain", "--set", "split"], "--set: must look like section.key=value"),
        (["retrain", "--as-of", "2026-01-01T00:00:00"], "must carry a time zone"),
        (["retrain", "--config", "configs/handbook.toml", "--set", "dataset.path=nowhere.parquet"], "no file at"),
        (["config", "check", "--set", "model.kind=magic"], "key 'model.kind'"),
        (["features", "show", "card-v9"], "did you mean 'card-v1'?"),
        (["features", "audit"], "vault: no data set 'demo'; the vault is empty; run `fraudlab ingest` first"),
        (["features", "audit", "--set", "features.set=card-v9"], "did you mean 'card-v1'?"),
        (["report", "none-such"], "no run 'none-such'"),
        (["describe", "none-such"], "none-such"),
        (["notebook", "notebooks/02_explore.ipynb", "--out", "x.ipynb", "-p", "confg=x"], "did you mean 'config'?"),
    ],
    ids=lambda value: "-".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_input_is_one_sentence_exit_2_and_nothing_written(words: list[str], sentence: str, tmp_path: Path) -> None:
    result = fraudlab(*words, home=tmp_path)
    assert result.returncode == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"]
    # A retraining that was refused says so in a message for the morning; nothing else is left.
    assert not [path for path in left if ".message." not in path.name]


HANDBOOK = {
    "TRANSACTION_ID": [0, 1, 2],
    "TX_DATETIME": pd.to_datetime(["2018-04-01", "2018-04-02", "2018-04-03"]),
    "CUSTOMER_ID": [5, 6, 5],
    "TERMINAL_ID": [1, 2, 3],
    "TX_AMOUNT": [10.0, 20.0, 30.0],
    "TX_FRAUD": [0, 0, 1],
    "TX_FRAUD_SCENARIO": [0, 0, 2],
}
TABLES = {
    "missing column": ({"TX_AMOUNT": None}, "TX_AMOUNT"),
    "wrong type": ({"TX_AMOUNT": ["a", "b", "c"]}, "TX_AMOUNT"),
    "duplicates": ({"TRANSACTION_ID": [0, 0, 2]}, "must be unique; found 1 duplicates of 3 rows"),
    "future": ({"TX_DATETIME": pd.to_datetime(["2018-04-01", "2018-04-02", "2118-04-03"])}, "found 1 of 3 rows"),
    "amounts": ({"TX_AMOUNT": [np.nan, np.inf, -1.0]}, "found 1 NaN, 1 infinite, 1 negative of 3 rows"),
    "label": ({"TX_FRAUD": [0, 1, 7]}, "must be 0, 1 or missing; found 1 other values"),
    "empty": ({name: [] for name in HANDBOOK}, "no rows"),
}


@pytest.mark.parametrize(
    ("door", "case"),
    # One case shows that retrain refuses as ingest does; each costs a kernel's start.
    [*(("ingest", case) for case in TABLES), pytest.param("retrain", "duplicates", marks=pytest.mark.slow)],
)
def test_a_bad_table_is_refused_at_either_door_with_nothing_written(door: str, case: str, tmp_path: Path) -> None:
    changes, sentence = TABLES[case]
    columns = {name: values for name, values in (HANDBOOK | changes).items() if values is not None}
    source = tmp_path / "source"
    source.mkdir()
    pd.DataFrame(columns).to_parquet(source / "table.parquet")
    home = tmp_path / "home"
    home.mkdir()
    # A retraining goes through kernels, as it does at night.
    result = (fraudlab if door == "ingest" else as_process)(
        door, "--config", "configs/handbook.toml", "--set", f"dataset.path={source / 'table.parquet'}", home=home
    )
    assert result.returncode == 2, result.stderr
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
    left = [path.relative_to(home) for path in home.rglob("*") if path.is_file() and path.name != ".lock"]
    # What a night's run was refused for is told in a message; nothing else is left.
    told = {Path("reports/handbook.message.json"), Path("reports/handbook.message.md")} if door == "retrain" else set()
    assert {path for path in left if path.parts[0] not in ("mlruns", ".keys")} == told


def test_the_same_table_is_taken_when_it_is_right(tmp_path: Path) -> None:
    pd.DataFrame(HANDBOOK).to_parquet(tmp_path / "table.parquet")
    result = fraudlab(
        "ingest",
        "--config",
        "configs/handbook.toml",
        "--set",
        f"dataset.path={tmp_path / 'table.parquet'}",
        home=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert "3 transactions" in result.stdout


def test_a_second_retraining_exits_75(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    hold = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); "
        "print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path / "runs" / ".lock")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        result = as_process("retrain", home=tmp_path)
        assert result.returncode == 75
        assert "another retraining is running" in result.stderr
    finally:
        holder.kill()
        holder.wait()


def test_config_check_says_valid() -> None:
    result = fraudlab("config", "check")
    assert result.returncode == 0
    assert "valid; run 'demo'" in result.stdout


def test_features_show_as_json() -> None:
    rows = json.loads(fraudlab("features", "show", "handbook", "--json").stdout)
    assert len(rows) == 15
    assert all(row["meaning"] for row in rows)


@pytest.mark.parametrize(("verdict", "code"), [("clean", 0), ("not judged", 0), ("leaks", 1)])
def test_features_audit_says_what_leaks_and_exits_1(verdict: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from fraudlab import checking

    row = {"column": "a", "cuts": 5, "rows": 1200, "moved": 0, "rewriting": "", "meaning": "No value moved."}
    other = row | {"column": "b", "verdict": verdict, "moved": 17, "meaning": "It means this."}
    table = pd.DataFrame([row | {"verdict": "clean"}, other])
    monkeypatch.setattr(checking, "leakage_table", lambda *_, **__: table)
    result = CliRunner().invoke(app, ["features", "audit", "--config", str(ROOT / "configs" / "demo.toml")])
    assert result.exit_code == code
    assert ("b: It means this." in result.output) == (verdict != "clean")
    counts = [int(verdict == said) + (said == "clean") for said in ("clean", "leaks", "not judged")]
    assert f"2 features: {counts[0]} clean, {counts[1]} leaking, {counts[2]} not judged, over 1,200 " in result.output
    result = CliRunner().invoke(app, ["features", "audit", "--json", "-c", str(ROOT / "configs" / "demo.toml")])
    assert result.exit_code == code
    assert json.loads(result.stdout)[1]["verdict"] == verdict


def test_empty_projects_say_what_to_do_next(tmp_path: Path) -> None:
    assert "Next: fraudlab retrain" in fraudlab("runs", home=tmp_path).stdout
    assert "Next: fraudlab retrain" in fraudlab("models", "list", home=tmp_path).stdout
