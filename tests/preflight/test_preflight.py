"""What stops a retraining is told before it begins, and nothing is written by asking."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path

import pandas as pd
import pytest

from fraudlab import preflight as asking
from fraudlab.config import Workspace, load_config
from fraudlab.datasets import ingest
from fraudlab.preflight import plan, preflight
from fraudlab.privacy.auditlog import audit_log
from fraudlab.runs import project_lock

DEMO = Path(__file__).resolve().parents[2] / "configs" / "demo.toml"
SMALL = {
    "dataset__simulate__customers": 120,
    "dataset__simulate__merchants": 60,
    "dataset__simulate__days": 100,
    "split__train_days": 30,
    "split__valid_days": 14,
    "split__test_days": 12,
    "split__min_positives": 5,
}
NOW = pd.Timestamp("2026-07-01", tz="UTC")


@pytest.fixture(scope="module")
def ingested(tmp_path_factory) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("workspace"))
    ingest(load_config(DEMO, **SMALL), workspace)
    return workspace


def answers(config, workspace, now=NOW) -> dict[str, asking.Answer]:
    return {answer.question: answer for answer in preflight(config, workspace, now=now)}


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_empty_project_may_begin_and_is_left_empty(tmp_path):
    found = answers(load_config(DEMO, **SMALL), Workspace(tmp_path / "project"))
    assert {question: answer.ok for question, answer in found.items()} == {
        "the source is there": True,
        "the data are fresh": True,
        "enough labels are mature": None,
        "the disk has room": True,
        "no other retraining runs": True,
        "the registry can be read": True,
        "the audit log is whole": True,
    }
    assert not (tmp_path / "project").exists()


def test_a_vault_is_asked_for_its_labels(ingested):
    before = set(files(ingested.vault))
    found = answers(load_config(DEMO, **SMALL), ingested)
    assert found["enough labels are mature"].ok
    assert "known frauds to learn from, test from 2026-" in found["enough labels are mature"].found
    few = load_config(DEMO, **SMALL | {"split__min_positives": 10_000})
    assert not answers(few, ingested)["enough labels are mature"].ok
    long = load_config(DEMO, **SMALL | {"split__train_days": 300})
    assert not answers(long, ingested)["enough labels are mature"].ok
    assert set(files(ingested.vault)) == before


def test_a_file_that_is_not_there_is_named_and_its_folder_is_not(tmp_path):
    config = load_config(DEMO, dataset__source="file", dataset__path=str(tmp_path / "secret" / "payments.csv"))
    found = answers(config, Workspace(tmp_path / "project"))["the source is there"]
    assert (found.ok, found.found) == (
        False,
        "no file payments.csv; put it there or name another with --set dataset.path=FILE",
    )


@pytest.mark.parametrize(("days", "ok"), [(3.0, False), (3.5, True), (None, True)])
def test_old_data_are_told(tmp_path, monkeypatch, days, ok):
    monkeypatch.setattr(asking, "_manifest", lambda *_: {"last": "2026-06-27T12:00:00+00:00"})
    settings = {"dataset__source": "file", "dataset__path": str(tmp_path / "payments.csv")}
    config = load_config(DEMO, **settings, **({} if days is None else {"dataset__fresh_days": days}))
    config = config.model_copy(update={"as_of": None})
    found = asking._fresh(config, Workspace(tmp_path), NOW)
    assert found[0] is ok
    assert "3.5 days old (2026-06-27)" in found[1]
    assert ("bring newer data" in found[1]) is not ok


def test_a_held_lock_a_full_disk_and_a_changed_log_are_told(ingested, tmp_path, monkeypatch):
    config = load_config(DEMO, **SMALL)
    workspace = Workspace(shutil.copytree(ingested.root, tmp_path / "project"))
    with project_lock(workspace):
        found = answers(config, workspace)["no other retraining runs"]
    assert (found.ok, found.found[:37]) == (False, "another retraining is running in this")
    usage = namedtuple("usage", "total used free")(10, 9, 1)
    monkeypatch.setattr(asking.shutil, "disk_usage", lambda _: usage)
    found = answers(config, workspace)["the disk has room"]
    assert (found.ok, found.found) == (
        False,
        "0.0 GB free, 0.5 GB wanted; make room: `fraudlab runs` lists what is kept",
    )
    log = audit_log(workspace)
    content = log.path.read_bytes()
    assert b'"rows"' in content
    log.path.write_bytes(content.replace(b'"rows"', b'"rowz"', 1))
    found = answers(config, workspace)["the audit log is whole"]
    assert found.ok is False
    assert "fraudlab audit verify" in found.found


def test_the_expected_times_are_medians_of_finished_runs(tmp_path):
    config, workspace = load_config(DEMO), Workspace(tmp_path)
    steps = [("01_ingest", "Ingest"), ("02_explore", "Explore")]
    assert plan(config, workspace, steps)["seconds"].isna().all()
    for number, (status, seconds) in enumerate([("done", 10), ("done", 30), ("done", 12), ("failed", 99)]):
        folder = tmp_path / "runs" / f"demo-{number}"
        folder.mkdir(parents=True)
        done = [{"step": "01_ingest", "seconds": seconds}, {"step": "gone", "seconds": 5}]
        (folder / "state.json").write_text(json.dumps({"status": status, "steps": done}))
    (tmp_path / "runs" / "demo-broken").mkdir()
    (tmp_path / "runs" / "demo-broken" / "state.json").write_text("{")
    table = plan(config, workspace, steps).set_index("step")
    assert table.at["01_ingest", "seconds"] == 12
    assert table["seconds"].isna().tolist() == [False, True]
    assert table["runs"].tolist() == [3, 3]
