"""The backtest as people start it: on a vault, through the command line, twice, cut off."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from fraudlab import backtest_job, looks
from fraudlab.cli import app
from fraudlab.config import Workspace, load_config
from fraudlab.datasets import ingest
from fraudlab.privacy.auditlog import audit_log
from fraudlab.schema import InputError

ROOT = Path(__file__).parents[2]
SMALL = {
    "dataset__simulate__customers": 250,
    "dataset__simulate__merchants": 80,
    "dataset__simulate__days": 135,
    "features__set": "handbook",
    "features__categories": [],
    "anomaly__kind": "none",
    "split__train_days": 30,
    "split__valid_days": 20,
    "split__test_days": 14,
    "split__min_positives": 5,
    "model__n_estimators": 25,
    "decision__alerts_per_day": 3,
    "decision__step_up_per_day": 6,
}


@pytest.fixture(scope="module", autouse=True)
def one_code() -> Iterator[None]:
    """The code stays what it is while these tests run, whoever is editing it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backtest_job, "code_digest", lambda project: "c" * 64)
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("workspace"))
    ingest(load_config(ROOT / "configs" / "demo.toml", **SMALL), workspace)
    return workspace


@pytest.fixture(scope="module")
def started(home: Workspace) -> dict:
    """The command on the small vault: two dates."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FRAUDLAB_HOME", str(home.root))
        patch.setenv("COLUMNS", "200")
        settings = [f"--set={key.replace('__', '.')}={json.dumps(value)}" for key, value in SMALL.items()]
        command = ["backtest", "--config", str(ROOT / "configs" / "demo.toml"), *settings, "--jobs", "1", "--json"]
        command += ["--from", "2026-05-01", "--to", "2026-05-13", "--policy", "never", "--policy", "weekly"]
        result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_command_leaves_evidence_and_a_page_and_no_model(home: Workspace, started: dict) -> None:
    folder = home.runs / started["name"]
    assert {path.name for path in (folder / "evidence").iterdir()} == {
        "backtest.json",
        *(f"backtest_{name}.csv" for name in ("champions", "estimates", "periods", "precision", "totals")),
    }
    assert {path.name for path in folder.iterdir()} == {".lock", "evidence"}
    page = Path(started["page"])
    assert page.parent == home.reports / "backtests"
    assert page.stat().st_mode & 0o077 == 0
    assert started["models"] == 2
    assert [row["decision"] for row in started["backtest_champions"]][:2] == ["first", "first"]
    assert not home.mlruns.exists()


def test_a_backtest_is_a_look_and_is_logged(home: Workspace, started: dict) -> None:
    found = looks.read(home.runs / "test_looks.jsonl").iloc[-1]
    assert found["run"] == started["name"]
    assert f"{found['test_start']:%Y-%m-%d}" == "2026-05-01"
    entries = audit_log(home).entries()
    last = entries[entries["action"] == "train"]["facts"].iloc[-1]
    assert (last["what"], last["models"], last["policies"]) == ("backtest", 2, ["never", "weekly"])
    loads = entries[entries["action"] == "load"]["facts"].tolist()
    assert loads[-1]["purpose"] == "fraud-model-training"


def test_no_pseudonym_leaves(home: Workspace, started: dict) -> None:
    from fraudlab.datasets import load_transactions

    known = load_transactions("demo", purpose="fraud-model-training", workspace=home)
    codes = [str(code) for name in ("customer_id", "card_id", "device_id") for code in known[name].dropna().unique()]
    text = Path(started["page"]).read_text() + "".join(
        path.read_text() for path in (home.runs / started["name"] / "evidence").iterdir()
    )
    assert len(codes) > 500
    assert not [code for code in codes if len(code) >= 8 and code in text]


def test_a_second_one_at_once_is_told_to_wait(home: Workspace, started: dict) -> None:
    config = load_config(ROOT / "configs" / "demo.toml", **SMALL)
    with (home.runs / started["name"] / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(backtest_job.BusyError, match="this backtest is running already") as busy:
            backtest_job.backtest(config, home, project=ROOT)
    assert busy.value.exit_code == 75


def test_days_are_days() -> None:
    assert backtest_job.moment("2026-04-24", "--from") == pd.Timestamp("2026-04-24", tz="UTC")
    for wrong in ("2026-04-24T05:00", "2026-04-24T00:00Z", "spring"):
        with pytest.raises(InputError, match=r"^--from: must be a day such as 2026-06-01"):
            backtest_job.moment(wrong, "--from")


def test_the_screen_says_what_came_out(home: Workspace, started: dict, capsys: pytest.CaptureFixture[str]) -> None:
    from fraudlab.commands.backtest import _print

    folder = home.runs / started["name"] / "evidence"
    tables = {path.stem: pd.read_csv(path, keep_default_na=False, na_values=[""]) for path in folder.glob("*.csv")}
    tables["backtest_totals"]["against"] = tables["backtest_totals"]["against"].fillna("")
    facts = json.loads((folder / "backtest.json").read_text())
    _print(backtest_job.Done(facts, tables, Path(started["page"])), home)
    said = capsys.readouterr().out
    assert "never" in said
    assert f"reports/backtests/{started['name']}.html" in said
    assert "weekly promoted" in said
