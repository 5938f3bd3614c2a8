"""`fraudlab report`: make, verify, diff and index from the command line, with their exit codes."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fraudlab.cli import app
from fraudlab.config import Workspace
from fraudlab.privacy.auditlog import audit_log
from fraudlab.report.sealing import open_signer
from fraudlab.schema import InputError
from fraudlab.tracking_registry import Version

ROOT = Path(__file__).resolve().parents[2]
write_evidence = runpy.run_path(str(ROOT / "tests" / "report" / "evidence_sample.py"))["write_evidence"]
RUN = "demo-1a2b3c4d5e"


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_evidence(tmp_path_factory.mktemp("runs") / RUN)


@pytest.fixture
def workspace(evidence: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A project with one finished run; its report is written by a renderer that draws nothing."""
    shutil.copytree(evidence, tmp_path / "runs" / RUN)
    shutil.copy(ROOT / "configs" / "demo.toml", tmp_path / "runs" / RUN / "config.toml")
    (tmp_path / "runs" / RUN / "state.json").write_text('{"status": "done", "steps": []}')
    notebooks = tmp_path / "runs" / RUN / "notebooks"
    notebooks.mkdir()
    cells = [{"cell_type": "markdown", "source": "# 1 · Ingest: the start"}]
    (notebooks / "01_ingest.ipynb").write_text(json.dumps({"nbformat": 4, "cells": cells}))
    monkeypatch.setenv("FRAUDLAB_HOME", str(tmp_path))
    monkeypatch.setattr("fraudlab.report.render", page)
    return Workspace(tmp_path)


def page(evidence, lang: str = "en") -> str:
    spoken = {"en": "Summary", "zh": "摘要"}[lang]
    return (
        f'<!doctype html>\n<html lang="{lang}"><head><title>{evidence.run["title"]}</title></head><body><main>'
        f"<section><h2>{spoken}</h2></section></main><footer></footer>\n</body></html>\n"
    )


def call(*words: object):
    return CliRunner().invoke(app, ["report", *map(str, words)])


def refusal(*words: object) -> str:
    result = call(*words)
    assert isinstance(result.exception, InputError), result.output
    assert result.exception.exit_code == 2
    return str(result.exception)


# --- make ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [(RUN,), ("--run", RUN), ("make", RUN), ("make", "--run", RUN)])
def test_a_run_is_reported_sealed_with_notebooks_and_index(workspace: Workspace, words: tuple[str, ...]) -> None:
    result = call(*words)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [
        f"reports/{RUN}.html",
        f"reports/{RUN}/notebooks/01_ingest.html",
        "reports/index.html",
    ]
    made = [workspace.root / name for name in result.output.splitlines()]
    assert call("verify", *made).exit_code == 0
    assert f'href="{RUN}.html"' in made[2].read_text()
    assert f'href="../../{RUN}.html"' in made[1].read_text()
    assert audit_log(workspace).entries(action="export").empty  # nothing left the workspace


def test_language_and_format_are_chosen(workspace: Workspace) -> None:
    result = call(RUN, "--lang", "zh", "--format", "html")
    assert result.output.splitlines()[0] == f"reports/{RUN}.zh.html"
    assert "摘要" in (workspace.reports / f"{RUN}.zh.html").read_text()
    assert not (workspace.reports / f"{RUN}.html").exists()
    told = json.loads(call(RUN, "--json").output)
    assert told["written"][0] == f"reports/{RUN}.html"
    assert told["remarks"] == []


def test_a_file_elsewhere_is_noted_in_the_audit_log(workspace: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "elsewhere" / "review.html"
    result = call(RUN, "--out", out, "--lang", "zh")
    assert result.output.splitlines() == ["elsewhere/review.html"]
    assert "摘要" in out.read_text()
    [facts] = audit_log(workspace).entries(action="export")["facts"]
    assert facts == {"what": "report", "run": RUN, "to": ".html"}


def test_a_pdf_without_weasyprint_is_a_remark_and_the_html_is_there(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    result = CliRunner().invoke(app, ["report", RUN, "--format", "pdf"])
    assert result.exit_code == 0
    assert (workspace.reports / f"{RUN}.html").is_file()
    assert "PDF needs WeasyPrint" in result.output
    # Asked for at a place of its own there is nothing else to give: that fails.
    assert "PDF needs WeasyPrint" in str(call(RUN, "--out", workspace.root / "r.pdf").exception)


def test_what_cannot_be_made_is_refused_in_one_sentence(workspace: Workspace, tmp_path: Path) -> None:
    assert refusal("--lang", "en").startswith("report: name one run (RUN or --run) or one model (--model); found 0")
    assert refusal(RUN, "--model", "demo/1").startswith("report: name one run")
    assert refusal("demo-1a2b3c4d5f") == f"run: no run 'demo-1a2b3c4d5f'; did you mean '{RUN}'?"
    assert refusal(RUN, "--out", "r.txt") == "out: must end in .html or .pdf; found 'r.txt'; rename it"
    assert refusal(RUN, "--out", "r.html", "--format", "pdf").startswith("out: must end in .pdf as --format says")
    assert call(RUN, "--lang", "fr").exit_code == 2


# --- of a model ------------------------------------------------------------------------------------------------------


def found(monkeypatch: pytest.MonkeyPatch, version: Version) -> None:
    monkeypatch.setattr("fraudlab.tracking.open_store", lambda workspace: None)
    monkeypatch.setattr("fraudlab.tracking_registry.find_version", lambda client, wanted: version)
    monkeypatch.setattr("fraudlab.report.index._versions", lambda workspace: [])


def test_a_model_is_reported_from_the_run_that_made_it(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = json.loads((workspace.runs / RUN / "evidence" / "run.json").read_text())
    found(monkeypatch, Version(facts["model_name"], str(facts["model_version"]), RUN, None))
    assert call("--model", "demo@champion").output.splitlines()[0] == f"reports/{RUN}.html"


def test_a_version_whose_run_was_made_anew_is_reported_from_what_was_logged_with_it(
    workspace: Workspace, evidence: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged = tmp_path / "artifacts"
    shutil.copytree(evidence, logged)
    facts = logged / "evidence" / "run.json"
    facts.write_text(json.dumps(json.loads(facts.read_text()) | {"title": "The older one", "model_version": 1}))
    found(monkeypatch, Version("demo", "1", RUN, logged))
    assert call("--model", "demo/1").output.splitlines() == ["reports/demo-v1.html", "reports/index.html"]
    assert "The older one" in (workspace.reports / "demo-v1.html").read_text()
    told = json.loads(call("diff", "demo/1", RUN, "--json").output)
    assert {"what": "version", "before": "1", "after": "3"} in told["about"]


def test_a_version_without_evidence_says_so(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    found(monkeypatch, Version("demo", "1", "gone-run", None))
    assert refusal("--model", "demo/1") == (
        "model: demo version 1 comes from run 'gone-run', whose evidence is not in runs/ or MLflow any more; train it "
        "anew or restore a backup"
    )


# --- verify ----------------------------------------------------------------------------------------------------------


def test_verify_says_what_it_found_by_sentence_and_exit_code(workspace: Workspace, tmp_path: Path) -> None:
    call(RUN)
    report = workspace.reports / f"{RUN}.html"
    result = call("verify", report)
    assert result.exit_code == 0
    assert re.fullmatch(r"Intact: signed by this workspace's key \([0-9a-f]{16}…\)\.\n", result.output)
    altered = tmp_path / "altered.html"
    altered.write_text(report.read_text().replace("<h2>Summary</h2>", "<h2>Summary</h2> 99 %"))
    result = call("verify", altered)
    assert result.exit_code == 1
    assert "the text of “Summary”" in result.output
    plain = tmp_path / "plain.html"
    plain.write_text("<html></html>")
    assert call("verify", plain).exit_code == 2
    result = call("verify", report, altered, plain)
    assert result.exit_code == 1
    assert [line.split(": ")[1].split()[0] for line in result.output.splitlines()] == ["Intact", "Altered", "Unsigned"]
    told = json.loads(call("verify", altered, "--json").output)
    assert (told[0]["file"], told[0]["state"], told[0]["ok"]) == ("altered.html", "altered", False)
    assert refusal("verify", tmp_path / "none.html") == "file: no report at none.html; check its name"
    assert refusal("verify", report, "--key", "abc").startswith("key: must be a public key")


def test_verify_works_on_a_copy_without_any_workspace(workspace: Workspace, tmp_path: Path) -> None:
    call(RUN)
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.copy(workspace.reports / f"{RUN}.html", outside / "copy.html")
    environment = {name: value for name, value in os.environ.items() if name != "FRAUDLAB_HOME"}

    def verify(*words: str) -> subprocess.CompletedProcess:
        code = "import sys; from fraudlab.cli import main; sys.argv = ['fraudlab', *sys.argv[1:]]; main()"
        return subprocess.run(
            [sys.executable, "-c", code, "report", "verify", "copy.html", *words],
            cwd=outside,
            env=environment,
            capture_output=True,
            text=True,
        )

    done = verify()
    assert done.returncode == 1
    assert "which this machine does not know" in done.stdout
    assert verify("--key", open_signer(workspace).public).returncode == 0
    assert os.listdir(outside) == ["copy.html"], "looking makes nothing"


# --- the group -------------------------------------------------------------------------------------------------------


def test_help_teaches_each_word() -> None:
    said = call("--help").output
    assert all(word in said for word in ("make", "verify", "diff", "index"))
    for word in ("make", "verify", "diff", "index"):
        assert "Example: fraudlab report" in call(word, "--help").output


def test_the_index_is_written_alone(workspace: Workspace) -> None:
    result = call("index")
    assert result.output == "reports/index.html\n"
    assert "No model is registered yet." in (workspace.reports / "index.html").read_text()
