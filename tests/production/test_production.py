"""What serves, what served when, and the way back: against the registry and the log, through the command line."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from fraudlab import production, tracking, tracking_decisions
from fraudlab.cli import app
from fraudlab.config import ModelConfig, RunConfig, Workspace
from fraudlab.decision_record import is_whole
from fraudlab.decisions import Thresholds
from fraudlab.privacy.auditlog import audit_log
from fraudlab.schema import InputError
from fraudlab.serving import save_package
from fraudlab.training import fit_estimator

CONFIG = RunConfig.model_validate(
    {"name": "demo", "dataset": {"name": "demo", "source": "simulate", "contract": "contracts/demo.toml"}}
)


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A registry with three versions and no champion, made once and copied for each test."""
    root = tmp_path_factory.mktemp("template")
    workspace = Workspace(root / "project")
    client = tracking.open_store(workspace)
    X = pd.DataFrame({"amount": np.r_[np.arange(60.0), 900.0, 950.0, 990.0]})
    fitted = fit_estimator(X, X["amount"] > 500, model=ModelConfig(n_estimators=3), seed=0, threads=1)
    words = pd.DataFrame([["amount", "amount", "", "{value} paid", "amount"]])
    words.columns = ["column", "group", "meaning", "template", "kind"]
    for number in range(3):
        package = root / f"package-{number}"
        save_package(package, fitted, Thresholds(review=0.5, step_up=0.2), words, {"name": "demo", "number": number})
        run_id = tracking.start_run(client, CONFIG, name=f"run-{number}")
        tracking.register_package(client, run_id, package, name="demo", config=CONFIG)
        tracking.finish_run(client, run_id, "FINISHED")
    with sqlite3.connect(workspace.mlruns / "mlflow.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return workspace.root


@pytest.fixture
def workspace(template, tmp_path, monkeypatch) -> Workspace:
    shutil.copytree(template, tmp_path / "project")
    monkeypatch.setenv("FRAUDLAB_HOME", str(tmp_path / "project"))
    return Workspace(tmp_path / "project")


def served(workspace: Workspace) -> str | None:
    found = tracking.champion(tracking.open_store(workspace), "demo")
    return found and found["version"]


def test_promotions_and_rollbacks_are_told_as_they_happened(workspace):
    for version in ("1", "2", "3"):
        production.promote(workspace, "demo", version, reason=f"try {version}", by="the gate", config_digest="a" * 64)
    assert production.rollback(workspace, "demo", reason="too many alerts")["version"] == "2"
    assert production.rollback(workspace, "demo", reason="still too many")["version"] == "1"
    assert served(workspace) == "1"
    table = production.history(workspace, "demo")
    assert list(table["version"]) == ["1", "2", "3", "2", "1"]
    assert list(table["before"]) == [None, "1", "2", "3", "2"]
    assert list(table["by"]) == ["the gate"] * 3 + ["hand"] * 2
    assert list(table["reason"])[-1] == "rollback: still too many"
    assert (table["until"].iloc[:-1].to_numpy() == table["since"].iloc[1:].to_numpy()).all()
    assert table["until"].isna().tolist() == [False] * 4 + [True]
    with pytest.raises(InputError, match="no other version of 'demo' was champion before"):
        production.rollback(workspace, "demo", reason="further")
    assert audit_log(workspace).verify().ok


def test_the_log_answers_what_served_at_a_moment(workspace):
    assert production.history(workspace).empty
    with pytest.raises(InputError, match="'demo' was never in production"):
        production.in_production(workspace, "demo", "2026-06-01T00:00Z")
    moments = []
    for version in ("1", "2"):
        production.promote(workspace, "demo", version, reason="because")
        moments.append(production.history(workspace)["since"].iloc[-1])
    instant = pd.Timedelta(microseconds=1)
    assert production.in_production(workspace, "demo", moments[0] - instant) is None
    assert production.in_production(workspace, "demo", moments[0])["version"] == "1"
    assert production.in_production(workspace, "demo", moments[1] - instant)["version"] == "1"
    assert production.in_production(workspace, "demo", moments[1])["version"] == "2"
    with pytest.raises(InputError, match="time zone"):
        production.in_production(workspace, "demo", "2026-06-01")
    with pytest.raises(InputError, match="did you mean 'demo'"):
        production.in_production(workspace, "demp", "2026-06-01T00:00Z")


def test_an_alias_that_moved_without_an_entry_is_found_and_entered_once(workspace):
    production.promote(workspace, "demo", "1", reason="because")
    client = tracking.open_store(workspace)
    client.set_registered_model_alias("demo", "champion", "3")  # by hand in MLflow, or a kill before the entry
    assert production.settle(workspace) == ["demo 3"]
    assert production.settle(workspace) == []
    last = production.history(workspace).iloc[-1]
    assert (last["version"], last["before"], last["by"]) == ("3", "1", "found in the registry")
    assert production.rollback(workspace, "demo", reason="nobody knows why")["version"] == "1"


def test_a_promotion_decided_against_another_champion_is_refused(workspace):
    production.promote(workspace, "demo", "1", reason="because")
    production.promote(workspace, "demo", "2", reason="because", expected="1")
    with pytest.raises(InputError, match="must still be version 1, which the decision was made against; found 2"):
        production.promote(workspace, "demo", "3", reason="because", expected="1")
    assert served(workspace) == "2"
    with pytest.raises(InputError, match="a promotion needs one"):
        production.promote(workspace, "demo", "3", reason="  ")


def test_a_registry_without_a_model_has_no_history(tmp_path):
    workspace = Workspace(tmp_path / "new")
    tracking.open_store(workspace)
    assert production.settle(workspace) == []
    assert production.history(workspace).empty
    with pytest.raises(InputError, match="'demo' has no champion; found none to go back from"):
        production.rollback(workspace, "demo", reason="back")


def test_a_promotion_by_hand_and_a_rollback_leave_a_record(workspace):
    production.promote(workspace, "demo", "1", reason="first")
    production.promote(workspace, "demo", "2", reason="better")
    production.rollback(workspace, "demo", reason="worse after all")
    client = tracking.open_store(workspace)
    told = {version: tracking_decisions.decisions(client, "demo", version) for version in "123"}
    assert {version: [each["reason"] for each in records] for version, records in told.items()} == {
        "1": ["first", "rollback: worse after all"],
        "2": ["better"],
        "3": [],
    }
    back = told["1"][-1]
    assert (back["by"], back["champion_before"], back["champion_after"]) == ("hand", "2", "1")
    assert back["amends"] == told["1"][0]["digest"]
    assert set(back["made_from"]) == {"config_digest"}
    assert all(is_whole(each) for records in told.values() for each in records)
    entries = audit_log(workspace).entries("decide")["facts"].tolist()
    digests = [record["digest"] for record in (told["1"][0], told["2"][0], back)]
    assert [facts["record_digest"] for facts in entries] == digests
    promoted = audit_log(workspace).entries("promote")["facts"]
    assert [facts["decision_digest"] for facts in promoted] == digests
    production.enter(workspace, back)  # again: nothing is entered twice
    assert len(audit_log(workspace).entries("decide")) == 3
    assert len(tracking_decisions.decisions(client, "demo", "1")) == 2


def test_a_rollback_loads_no_learning_library(workspace):
    """Bytes are checked without it; importing it would take most of the five seconds."""
    loaded = subprocess.run(
        [sys.executable, "-c", "import fraudlab.production, sys; print(*sys.modules)"], capture_output=True, text=True
    ).stdout.split()
    assert "mlflow" in loaded
    assert {"xgboost", "sklearn", "shap", "numba", "matplotlib"}.isdisjoint(loaded)


def test_a_damaged_version_is_no_way_back(workspace):
    for version in ("1", "2"):
        production.promote(workspace, "demo", version, reason="because")
    client = tracking.open_store(workspace)
    folder = tracking.package_folder(client, client.get_model_version("demo", "1"))
    (folder / "decision.json").write_text("{}")
    with pytest.raises(InputError, match=r"damaged: decision\.json"):
        production.rollback(workspace, "demo", reason="back")
    assert served(workspace) == "2"
    assert len(production.history(workspace)) == 2


def test_the_commands_tell_the_same(workspace):
    run = CliRunner().invoke
    assert "No version was promoted yet" in run(app, ["models", "history"]).output
    assert run(app, ["models", "promote", "demo", "1"]).exit_code == 2, "a reason is needed"
    assert "version 1 is the champion" in run(app, ["models", "promote", "demo", "1", "--reason", "first"]).output
    assert "before: version 1" in run(app, ["models", "promote", "demo", "2", "--reason", "call +49 30 1234567"]).output
    began = time.perf_counter()
    assert (
        "version 1 is the champion; before: version 2"
        in run(app, ["models", "rollback", "demo", "--reason", "alerts doubled"]).output
    )
    assert time.perf_counter() - began < 5
    told = json.loads(run(app, ["models", "history", "demo", "--json"]).output)
    assert [row["version"] for row in told] == ["1", "2", "1"]
    assert "1234567" not in json.dumps(told), "what looks like an identifier is masked"
    assert told[-1]["until"] == "serving"
    now = pd.Timestamp.now("UTC").isoformat()
    assert "demo version 1 was in production at" in run(app, ["models", "history", "demo", "--on", now]).output
    assert "No version of demo was" in run(app, ["models", "history", "demo", "--on", "2020-01-01T00:00Z"]).output
    shown = json.loads(run(app, ["models", "show", "demo", "--json"]).output)
    assert (shown["version"], shown["aliases"], shown["features"]) == ("1", ["champion"], 1)
    assert [entry["reason"] for entry in shown["promotions"]] == ["first", "rollback: alerts doubled"]
    assert run(app, ["models", "show", "demo", "9"]).exit_code != 0
    assert "version" in run(app, ["models", "show", "demo", "2"]).output
