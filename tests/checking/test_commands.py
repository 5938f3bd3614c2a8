"""`fraudlab checks`: list, explain, show, guide; for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from fraudlab.checks import CHECKS, Finding, merged
from fraudlab.checks.guide import page
from fraudlab.cli import app
from fraudlab.schema import InputError

WIDE = {"COLUMNS": "200", "NO_COLOR": "1"}


def ask(*words: str) -> object:
    return CliRunner().invoke(app, ["checks", *words], env=WIDE)


def finding(code: str, result: str, waived: str = "") -> Finding:
    return Finding(code, CHECKS[code].title, CHECKS[code].severity, result, f"{code} said so.", pd.DataFrame(), waived)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose checks passed, failed, were waived or did not apply."""
    monkeypatch.setenv("FRAUDLAB_HOME", str(tmp_path))
    folder = tmp_path / "runs" / "demo-1"
    (folder / "evidence").mkdir(parents=True)
    found = {
        "a": finding("FL001", "passed"),
        "b": finding("FL009", "failed"),
        "c": finding("FL014", "failed", "A. Person: a book example"),
        "d": finding("FL019", "not applicable"),
    }
    (folder / "evidence" / "checks.json").write_text(json.dumps(merged([], found)))
    return folder


def test_list_names_every_check_in_both_languages() -> None:
    said = ask("list").output
    for code, check in CHECKS.items():
        assert f"{code}  {check.title}" in said
        assert check.severity in said
    assert "标签已有足够时间得到确认" in ask("list", "--lang", "zh").output
    rows = json.loads(ask("list", "--json").stdout)
    assert [row["code"] for row in rows] == list(CHECKS)


def test_explain_says_what_why_and_what_to_do() -> None:
    said = ask("explain", "fl014").output
    for words in ("FL014", "What it detects", "Why it matters", "What to do", "`model.max_depth`", "blocks promotion"):
        assert words in said
    told = json.loads(ask("explain", "FL014", "--json").stdout)
    assert set(told) == {"code", "title", "severity", "detects", "why", "do"}
    refused = ask("explain", "FL999")
    assert refused.exit_code != 0
    assert isinstance(refused.exception, InputError)
    assert "unknown 'FL999'; did you mean 'FL0" in str(refused.exception)


def test_show_gives_result_symbol_and_sentence_and_exits_1_where_one_holds_the_model_back(run: Path) -> None:
    shown = ask("show", "demo-1")
    assert shown.exit_code == 0, shown.output
    for words in (
        "✓ passed",
        "✗ failed",
        "◇ failed, waived",
        "○ not applicable",
        "FL009 said so.",
        "FL014 said so. Waived: A. Person: a book example",
        "None of them holds the model back.",
    ):
        assert words in shown.output
    path = run / "evidence" / "checks.json"
    path.write_text(json.dumps(merged(json.loads(path.read_text()), {"x": finding("FL014", "failed")})))
    shown = ask("show", "demo-1")
    assert (shown.exit_code, "What to do: fraudlab checks explain FL014" in shown.output) == (1, True)
    shown = ask("show", "demo-1", "--json")
    assert (shown.exit_code, json.loads(shown.stdout)["hold_back"]) == (1, ["FL014"])


def test_an_older_run_without_waivers_shows_too(run: Path) -> None:
    path = run / "evidence" / "checks.json"
    old = [{key: each[key] for key in each if key != "waived"} for each in json.loads(path.read_text())]
    path.write_text(json.dumps(old[:2]))
    assert ask("show", "demo-1").exit_code == 0


def test_show_refuses_a_run_that_is_not_there_or_has_no_checks_yet(run: Path) -> None:
    refused = ask("show", "demo-2")
    assert "unknown 'demo-2'; did you mean 'demo-1'?" in str(refused.exception)
    (run / "evidence" / "checks.json").unlink()
    assert "run demo-1: it has no checks.json yet" in str(ask("show", "demo-1").exception)
    assert "no run is finished yet" in str(ask("show").exception)


def test_guide_prints_the_page() -> None:
    assert ask("guide").stdout == page()
    assert ask("guide", "--lang", "zh").stdout == page("zh")
