"""The command line: what it teaches, what it refuses, with which exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fraudlab.cli import app

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands]


def fraudlab(*words: str, home: Path | None = None) -> subprocess.CompletedProcess[str]:
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
    result = fraudlab("--help")
    spent = os.times()
    assert "fraudlab retrain --config configs/demo.toml" in result.stdout
    assert (spent.children_user + spent.children_system) - (began.children_user + began.children_system) < 0.8


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
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"]


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
        result = fraudlab("retrain", home=tmp_path)
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


def test_empty_projects_say_what_to_do_next(tmp_path: Path) -> None:
    assert "Next: fraudlab retrain" in fraudlab("runs", home=tmp_path).stdout
    assert "Next: fraudlab retrain" in fraudlab("models", "list", home=tmp_path).stdout
