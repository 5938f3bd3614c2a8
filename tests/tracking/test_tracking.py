"""Runs and models are found again: by several processes at once, after a kill, after a move, after a failure."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import psutil
import pytest
from mlflow import MlflowClient

from fraudlab import tracking, tracking_store
from fraudlab.config import ModelConfig, RunConfig, Workspace, config_digest
from fraudlab.decisions import Thresholds
from fraudlab.schema import FraudlabError, InputError
from fraudlab.serving import load_package, save_package
from fraudlab.training import fit_calibrator, fit_estimator

FEATURES = ["amount", "payments_1d", "new_device"]
DESCRIBE = pd.DataFrame(
    {
        "column": FEATURES,
        "group": FEATURES,
        "meaning": "",
        "template": ["{value} paid", "{value} payments in a day", "a device never seen before"],
        "kind": ["amount", "count", "flag"],
    }
)
CONFIG = RunConfig.model_validate(
    {
        "name": "demo",
        "title": "Demo",
        "dataset": {"name": "demo", "source": "simulate", "contract": "/some/where/contracts/demo.toml"},
    }
)
TABLE = pd.DataFrame(
    [
        ("xgboost", "auc_roc", "all", 0.9),
        ("xgboost", "average_precision", None, 0.5),
        ("xgboost", "average_precision", "pos & online", 0.4),
        ("xgboost", "calibration_error", "all", np.nan),
        ("rules", "auc_roc", "", 0.7),
    ],
    columns=["model", "metric", "group", "value"],
)
REPOSITORY = Path(__file__).parents[2]


def rows(count: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = pd.DataFrame({name: rng.gamma(2, 10, count) for name in FEATURES})
    return X, (X.sum(axis=1) + rng.normal(0, 10, count) > 90).to_numpy()


@pytest.fixture(scope="session")
def template(tmp_path_factory) -> Path:
    """One database, made once; tests copy it, which open_store takes for a moved project."""
    root = tmp_path_factory.mktemp("template")
    tracking.open_store(Workspace(root))
    with sqlite3.connect(root / "mlruns" / "mlflow.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return root / "mlruns" / "mlflow.db"


@pytest.fixture
def workspace(template, tmp_path) -> Workspace:
    (tmp_path / "project" / "mlruns").mkdir(parents=True)
    shutil.copy(template, tmp_path / "project" / "mlruns" / "mlflow.db")
    return Workspace(tmp_path / "project")


@pytest.fixture
def client(workspace) -> MlflowClient:
    return tracking.open_store(workspace)


@pytest.fixture
def run_id(client) -> str:
    run_id = tracking.start_run(client, CONFIG, name="a run", tags={"fraudlab.data_digest": "d" * 64})
    tracking.log_metrics(client, run_id, TABLE)
    return run_id


@pytest.fixture(scope="session")
def packed(tmp_path_factory) -> Path:
    X, y = rows(2000, 0)
    fitted = fit_estimator(X, y, model=ModelConfig(n_estimators=20, max_depth=3), seed=0, threads=1)
    X_valid, y_valid = rows(1000, 1)
    fitted = replace(fitted, calibrator=fit_calibrator(fitted.score(X_valid), y_valid))
    folder = tmp_path_factory.mktemp("packed") / "package"
    stated = {"name": "demo", "dataset": "demo", "as_of": "2026-06-30T00:00:00+00:00"}
    save_package(folder, fitted, Thresholds(review=0.5, step_up=0.2), DESCRIBE, stated)
    return folder


def cells(database: Path) -> list[str]:
    with sqlite3.connect(database) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return [str(cell) for table in tables for row in connection.execute(f'SELECT * FROM "{table}"') for cell in row]


def python(script: str, *words: str, flags: tuple[str, ...] = (), **environment: str) -> subprocess.Popen:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return subprocess.Popen(
        [sys.executable, *flags, "-c", script, *words],
        env=clean | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# -- the database --------------------------------------------------------------------------------------------------

START = """
import os, signal, sys
from pathlib import Path
from fraudlab import tracking, tracking_store
from fraudlab.config import RunConfig, Workspace
client = tracking.open_store(Workspace(Path(sys.argv[1])))
config = RunConfig.model_validate({"name": "demo", "dataset": {"name": "demo", "source": "simulate", "contract": "c"}})
run_id = tracking.start_run(client, config, name=sys.argv[2])
if sys.argv[2] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
tracking.finish_run(client, run_id, "FINISHED")
"""


@pytest.mark.slow
def test_three_processes_at_once_make_one_database_in_silence_and_a_kill_is_noticed(tmp_path):
    workspace = Workspace(tmp_path / "my project #1 ü")
    processes = [python(START, str(workspace.root), name) for name in ("first", "second", "killed")]
    said = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, -9], said
    assert said == [("", "")] * 3
    assert sorted(path.name for path in workspace.mlruns.iterdir() if not path.name.startswith("mlflow.db-")) == [
        ".lock", "artifacts", "mlflow.db",
    ]  # fmt: skip
    database = workspace.mlruns / "mlflow.db"
    assert database.stat().st_mode & 0o077 == 0
    with sqlite3.connect(database) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("SELECT name, artifact_location FROM experiments ORDER BY 1").fetchall() == [
            ("Default", f"{workspace.mlruns}/artifacts/0"),
            ("fraudlab", f"{workspace.mlruns}/artifacts/fraudlab"),
        ]
        runs = "SELECT name, status FROM runs ORDER BY name"
        assert connection.execute(runs).fetchall() == [
            ("first", "FINISHED"), ("killed", "RUNNING"), ("second", "FINISHED"),
        ]  # fmt: skip
    client = tracking.open_store(workspace)
    assert len(tracking.reap_stale_runs(client)) == 1
    with sqlite3.connect(database) as connection:
        assert connection.execute(runs).fetchall()[1] == ("killed", "KILLED")


def test_a_database_half_made_is_none(template, tmp_path, monkeypatch):
    class Interrupted:
        def __init__(self, uri, _):
            self.database = Path(uri.removeprefix("sqlite:///"))

        def create_experiment(self, *_, **__):
            self.database.with_name(self.database.name + "-journal").touch()
            raise KeyboardInterrupt

    mlruns = tmp_path / "mlruns"
    mlruns.mkdir()
    (mlruns / ".new-of-a-killed-process").touch()
    monkeypatch.setattr(tracking_store, "SqlAlchemyStore", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        tracking.open_store(Workspace(tmp_path))
    assert sorted(path.name for path in mlruns.iterdir()) == [".lock", "artifacts"]


def test_a_moved_project_keeps_its_runs_and_models(workspace, client, run_id, packed, tmp_path):
    tracking.register_package(client, run_id, packed, name="demo", config=CONFIG)
    tracking.promote(client, "demo", "1", reason="first")
    (tmp_path / "metrics.csv").write_text("value\n1\n")
    tracking.log_folder(client, run_id, tmp_path / "metrics.csv", "tables")
    outside = f"{workspace.mlruns}/artifacts-of-others"
    client.create_experiment("outside", artifact_location=outside)
    old = str(workspace.root)
    moved = Workspace(Path(shutil.move(workspace.root, tmp_path / "project-2")))
    client = tracking.open_store(moved)
    champion = tracking.champion(client, "demo")
    assert champion["package"].is_relative_to(moved.mlruns)
    assert load_package(champion["package"], digest=champion["digest"]).facts["name"] == "demo"
    assert [file.path for file in client.list_artifacts(run_id, "tables")] == ["tables/metrics.csv"]
    found = cells(moved.mlruns / "mlflow.db")
    assert [cell for cell in found if f"{old}/" in cell] == [outside]
    # Opening it again changes nothing; a copy is healed as well and the original stays as it is.
    tracking.open_store(moved)
    assert cells(moved.mlruns / "mlflow.db") == found
    second = tracking.register_package(client, run_id, packed, name="demo", config=CONFIG)
    assert second == "2"


def test_what_is_no_database_of_ours_is_refused(workspace, tmp_path):
    database = workspace.mlruns / "mlflow.db"
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'older'")
    connection.close()
    with pytest.raises(FraudlabError, match=r"mlruns/mlflow\.db: must have the form of MLflow .* mlflow db upgrade"):
        tracking.open_store(workspace)
    database.write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(FraudlabError, match=r"mlflow\.db: must be this project's MLflow database; found otherwise"):
        tracking.open_store(workspace)
    with pytest.raises(InputError, match="its path must not hold %, which MLflow cannot address"):
        tracking.open_store(Workspace(tmp_path / "100% sure"))
    assert not (tmp_path / "100% sure").exists()


def test_a_deleted_experiment_comes_back(workspace, client):
    client.delete_experiment(client.get_experiment_by_name("fraudlab").experiment_id)
    client = tracking.open_store(workspace)
    assert client.get_run(tracking.start_run(client, CONFIG, name="again")).info.status == "RUNNING"


# -- runs ----------------------------------------------------------------------------------------------------------


def test_a_run_carries_its_whole_config_and_no_path(client, run_id):
    run = client.get_run(run_id)
    params = run.data.params
    assert params["split.train_days"] == "60"
    assert params["model.kind"] == "xgboost"
    assert params["dataset.simulate.customers"] == "2500"
    assert params["dataset.contract"] == "demo.toml"
    assert run.data.tags["fraudlab.config_digest"] == config_digest(CONFIG)
    assert run.data.tags["fraudlab.data_digest"] == "d" * 64
    assert run.data.tags["mlflow.note.content"] == "Demo"
    assert not [value for value in [*params.values(), *run.data.tags.values()] if "/" in value]


def test_metrics_are_named_by_model_and_group_and_what_does_not_apply_is_left_out(client, run_id):
    assert client.get_run(run_id).data.metrics == {
        "xgboost/auc_roc": 0.9,
        "xgboost/average_precision": 0.5,
        "xgboost/average_precision/pos _ online": 0.4,
        "rules/auc_roc": 0.7,
    }
    with pytest.raises(InputError, match="must occur once; found 'rules/auc_roc' twice"):
        tracking.log_metrics(client, run_id, pd.concat([TABLE, TABLE.tail(1)]))


def test_more_metrics_than_one_request_holds(client, run_id):
    many = pd.DataFrame({"model": "m", "metric": [f"x{i}" for i in range(1500)], "value": range(1500)})
    tracking.log_metrics(client, run_id, many)
    found = client.get_run(run_id).data.metrics
    assert sum(value for name, value in found.items() if name.startswith("m/")) == 1499 * 750


def test_folders_and_files_come_back(client, run_id, tmp_path):
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence" / "a.json").write_text("{}")
    tracking.log_folder(client, run_id, tmp_path / "evidence", "evidence")
    tracking.log_folder(client, run_id, tmp_path / "evidence" / "a.json", "report")
    artifacts = Path(client.get_run(run_id).info.artifact_uri)
    files = {path.relative_to(artifacts).as_posix() for path in artifacts.rglob("*") if path.is_file()}
    assert files == {"evidence/a.json", "report/a.json"}
    with pytest.raises(InputError, match="must be a folder or a file; found nothing at 'none'"):
        tracking.log_folder(client, run_id, tmp_path / "none", "evidence")


def test_the_data_are_named_not_kept(client, run_id):
    tracking.log_dataset(client, run_id, name="demo", digest="e" * 64, rows=12)
    run = client.get_run(run_id)
    dataset = run.inputs.dataset_inputs[0].dataset
    assert (dataset.name, dataset.digest, json.loads(dataset.profile)) == ("demo", "e" * 36, {"num_rows": 12})
    assert run.data.tags["fraudlab.data_digest"] == "e" * 64


def test_a_run_ends_in_a_known_state(client, run_id):
    with pytest.raises(InputError, match="status: must be FINISHED, FAILED or KILLED; found 'DONE'"):
        tracking.finish_run(client, run_id, "DONE")
    tracking.finish_run(client, run_id, "FAILED")
    assert client.get_run(run_id).info.status == "FAILED"


def test_only_runs_whose_launcher_is_dead_here_are_reaped(client):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    here, me = socket.gethostname(), psutil.Process()
    launchers = {
        "gone": f"{here} {gone.pid} {me.create_time()}",
        "ended, not collected": f"{here} {zombie.pid} {psutil.Process(zombie.pid).create_time()}",
        "number taken over": f"{here} {me.pid} {me.create_time() - 3600}",
        "alive": f"{here} {me.pid} {me.create_time()}",
        "elsewhere": f"another-host {gone.pid} 1.0",
    }
    runs = {}
    for name, launcher in launchers.items():
        runs[name] = tracking.start_run(client, CONFIG, name=name, tags={"fraudlab.launcher": launcher})
    runs["not ours"] = client.create_run(client.get_experiment_by_name("fraudlab").experiment_id).info.run_id
    dead = {runs[name] for name in ("gone", "ended, not collected", "number taken over")}
    assert set(tracking.reap_stale_runs(client)) == dead
    assert tracking.reap_stale_runs(client) == []
    zombie.wait()
    status = {name: client.get_run(run_id).info.status for name, run_id in runs.items()}
    assert status == {
        "gone": "KILLED",
        "ended, not collected": "KILLED",
        "number taken over": "KILLED",
        "alive": "RUNNING",
        "elsewhere": "RUNNING",
        "not ours": "RUNNING",
    }
    with pytest.raises(InputError, match="experiment: must exist; found none named 'other'"):
        tracking.reap_stale_runs(client, "other")


# -- the registry --------------------------------------------------------------------------------------------------


def test_challenger_becomes_champion_and_the_one_before_is_remembered(client, run_id, packed):
    assert tracking.champion(client, "demo") is None
    assert tracking.models_table(client).empty
    assert tracking.register_package(client, run_id, packed, name="demo", config=CONFIG) == "1"
    assert tracking.champion(client, "demo") is None
    first = tracking.promote(client, "demo", "1", reason="better than the rules")
    assert (first["version"], first["previous"]) == ("1", None)
    assert tracking.register_package(client, run_id, packed, name="demo", config=CONFIG) == "2"
    assert tracking.register_package(client, run_id, packed, name="demo", config=CONFIG) == "3"
    table = tracking.models_table(client)
    assert table[["version", "aliases", "model"]].to_numpy().tolist() == [
        ["3", "challenger", "xgboost"], ["2", "", "xgboost"], ["1", "champion", "xgboost"],
    ]  # fmt: skip
    assert table["auc_roc"].tolist() == [0.9] * 3
    assert table["calibration_error"].isna().all()

    assert tracking.promote(client, "demo", "3", reason="not worse")["previous"] == "1"
    assert tracking.models_table(client)["aliases"].tolist() == ["champion", "", ""]
    champion = tracking.champion(client, "demo")
    assert (champion["version"], champion["run_id"]) == ("3", run_id)
    assert champion["metrics"]["average_precision/pos _ online"] == 0.4
    assert load_package(champion["package"], digest=champion["digest"]).digest == champion["digest"]
    assert abs(champion["created"] - pd.Timestamp.now("UTC")) < pd.Timedelta(minutes=5)
    # Back to the one before: its history grows.
    tracking.promote(client, "demo", "1", reason="complaints")
    tags = client.get_model_version("demo", "1").tags
    assert [(entry["reason"], entry["previous"]) for entry in json.loads(tags["fraudlab.promotions"])] == [
        ("better than the rules", None), ("complaints", "3"),
    ]  # fmt: skip
    assert tags["fraudlab.previous_champion"] == "3"
    assert tags["fraudlab.data_digest"] == "d" * 64
    assert (tags["fraudlab.dataset"], tags["fraudlab.as_of"]) == ("demo", "2026-06-30T00:00:00+00:00")
    assert "fraudlab.learnt_until" not in tags, "its package does not say"


def test_what_mlflow_keeps_says_what_goes_in_and_out_and_names_no_folder_of_this_machine(client, run_id, packed):
    version = tracking.register_package(client, run_id, packed, name="demo", config=CONFIG)
    folder = Path(client.get_model_version("demo", version).source)
    about = mlflow.models.Model.load(str(folder))
    assert [(column.name, column.type.name) for column in about.signature.inputs] == [
        (name, "double") for name in FEATURES
    ]
    assert about.signature.outputs.input_names() == ["score", "risk", "tier", "action", "reasons"]
    assert [param.name for param in about.signature.params] == ["threshold", "reasons", "lang"]
    assert (about.run_id, about.model_id) == (run_id, client.search_logged_models(["1"])[0].model_id)
    needed = (folder / "requirements.txt").read_text().split()
    assert {line.split(">=")[0] for line in needed} >= {"mlflow", "numpy", "pandas"}
    assert all(">=" in line for line in needed)
    for path in folder.rglob("*"):
        if path.is_file() and "code" not in path.relative_to(folder).parts:
            assert str(folder.parents[5]).encode() not in path.read_bytes(), path
            assert str(REPOSITORY).encode() not in path.read_bytes(), path
    assert not list(folder.rglob("*.pkl"))
    assert not list(folder.rglob("__pycache__"))
    assert client.get_run(run_id).outputs.model_outputs[0].model_id == about.model_id
    logged = {metric.key: metric.value for metric in client.get_logged_model(about.model_id).metrics}
    assert logged["auc_roc"] == 0.9


@pytest.mark.parametrize(
    "step", ["log_model_artifacts", "create_model_version", "log_outputs", "set_registered_model_alias"]
)
def test_a_failed_registration_leaves_nothing(client, run_id, packed, monkeypatch, step):
    def fail(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr(client, step, fail)
    with pytest.raises(OSError, match="no space left"):
        tracking.register_package(client, run_id, packed, name="demo", config=CONFIG)
    monkeypatch.undo()
    experiment = client.get_experiment_by_name("fraudlab")
    assert client.search_logged_models([experiment.experiment_id]) == []
    assert client.search_registered_models() == []
    assert client.search_model_versions() == []
    models = Path(experiment.artifact_location) / "models"
    assert not models.exists() or not list(models.iterdir())
    assert tracking.register_package(client, run_id, packed, name="demo", config=CONFIG) == "1"


@pytest.mark.parametrize("step", ["set_registered_model_alias", "log_outputs"])
def test_a_failed_registration_leaves_the_earlier_versions(client, run_id, packed, monkeypatch, step):
    for _ in range(2):
        tracking.register_package(client, run_id, packed, name="demo", config=CONFIG)
    tracking.promote(client, "demo", "1", reason="first")
    linked = client.get_run(run_id).outputs.model_outputs

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(client, step, interrupt)
    with pytest.raises(KeyboardInterrupt):
        tracking.register_package(client, run_id, packed, name="demo", config=CONFIG)
    monkeypatch.undo()
    assert tracking.models_table(client)[["version", "aliases"]].to_numpy().tolist() == [
        ["2", "challenger"], ["1", "champion"],
    ]  # fmt: skip
    assert len(client.get_run(run_id).outputs.model_outputs) == len(linked) == 2
    load_package(tracking.champion(client, "demo")["package"])


def test_only_a_sound_registered_version_is_promoted(client, run_id, packed, tmp_path):
    with pytest.raises(InputError, match="model: must be registered; found no version 1 of 'demo'"):
        tracking.promote(client, "demo", "1", reason="")
    for _ in range(2):
        tracking.register_package(client, run_id, packed, name="demo", config=CONFIG)
    tracking.promote(client, "demo", "1", reason="first")
    with pytest.raises(InputError, match="must not be the champion yet; version 1 of 'demo' is"):
        tracking.promote(client, "demo", "1", reason="again")
    trees = Path(client.get_model_version("demo", "2").source) / "artifacts/package/model/trees.ubj"
    damaged = bytearray(trees.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    trees.write_bytes(damaged)
    with pytest.raises(InputError, match=r"must be exactly what was saved; damaged: model/trees\.ubj"):
        tracking.promote(client, "demo", "2", reason="")
    assert tracking.champion(client, "demo")["version"] == "1"
    copy = shutil.copytree(packed, tmp_path / "damaged")
    (copy / "decision.json").write_text("{}")
    with pytest.raises(InputError, match=r"damaged: decision\.json"):
        tracking.register_package(client, run_id, copy, name="demo", config=CONFIG)


def test_mlflows_global_state_and_the_working_folder_are_left_alone(workspace, packed, tmp_path, monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = dict(os.environ)
    client = tracking.open_store(workspace)
    run_id = tracking.start_run(client, CONFIG, name="a run")
    tracking.register_package(client, run_id, packed, name="demo", config=CONFIG)
    tracking.promote(client, "demo", "1", reason="")
    assert not mlflow.is_tracking_uri_set()
    assert mlflow.active_run() is None
    assert {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_TR")} == {
        name: value for name, value in before.items() if name.startswith("MLFLOW_TR")
    }
    assert not list((tmp_path / "here").iterdir())


# -- through MLflow's own door -------------------------------------------------------------------------------------

LOAD = """
import json, sys
import mlflow.pyfunc, pandas as pd
model = mlflow.pyfunc.load_model("models:/demo@champion")
X = pd.read_parquet(sys.argv[1])
import fraudlab
out = {"code": fraudlab.__file__, "records": model.predict(X[X.columns[::-1]].assign(other=1)).to_dict("records")}
out["all reviewed"] = model.predict(X, params={"threshold": 0.0, "reasons": False}).to_dict("records")
out["chinese"] = model.predict(X, params={"lang": "zh"})["reasons"].tolist()
for name, bad in {"missing": X.drop(columns="amount"), "text": X.assign(amount="4929123412341234")}.items():
    try:
        model.predict(bad)
    except Exception as error:
        out[name] = [type(error).__name__, str(error)]
print(json.dumps(out))
"""


def test_a_moved_champion_loads_in_a_fresh_process_without_pickle_and_without_fraudlab_installed(
    workspace, client, run_id, packed, tmp_path
):
    tracking.register_package(client, run_id, packed, name="demo", config=CONFIG)
    tracking.promote(client, "demo", "1", reason="first")
    workspace = Workspace(Path(shutil.move(workspace.root, tmp_path / "moved")))
    tracking.open_store(workspace)
    X = rows(200, 3)[0]
    X.to_parquet(tmp_path / "X.parquet")
    process = python(
        LOAD,
        str(tmp_path / "X.parquet"),
        # Without the site module no .pth file is read, so an editable fraudlab is not there.
        flags=("-S",),
        PYTHONPATH=str(Path(pd.__file__).parents[1]),
        MLFLOW_TRACKING_URI=f"sqlite:///{workspace.mlruns}/mlflow.db",
        MLFLOW_ALLOW_PICKLE_DESERIALIZATION="false",
        MLFLOW_DISABLE_TELEMETRY="true",
    )
    said, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    out = json.loads(said)
    assert Path(out["code"]).is_relative_to(workspace.mlruns)
    expected = load_package(packed).score(X)
    expected = expected.assign(tier=expected["tier"].astype("str"), reasons=expected["reasons"].map("; ".join))
    assert out["records"] == expected.to_dict("records")
    assert expected["reasons"].str.len().max() > 0
    assert out["chinese"] == load_package(packed).score(X, lang="zh")["reasons"].map("；".join).tolist()
    assert {row["tier"] for row in out["all reviewed"]} == {"high"}
    assert {row["reasons"] for row in out["all reviewed"]} == {""}
    assert out["missing"][0] == "InputError"
    assert "missing are 1 of 3: 'amount'" in out["missing"][1]
    assert out["text"] == [
        "MlflowException", "Failed to enforce model input schema. Please check your input data.",
    ]  # fmt: skip
    assert "4929" not in errors


def test_a_damaged_booster_is_refused_by_mlflow_too(client, run_id, packed, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    tracking.register_package(client, run_id, packed, name="demo", config=CONFIG)
    folder = Path(client.get_model_version("demo", "1").source)
    X = rows(20, 3)[0]
    np.testing.assert_array_equal(
        mlflow.pyfunc.load_model(str(folder)).predict(X)["score"], load_package(packed).score(X)["score"]
    )
    trees = folder / "artifacts/package/model/trees.ubj"
    damaged = bytearray(trees.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    trees.write_bytes(damaged)
    with pytest.raises(InputError, match=r"damaged: model/trees\.ubj"):
        mlflow.pyfunc.load_model(str(folder))


def test_the_pages_command_opens_this_database_on_this_machine_only(workspace):
    command, environment = tracking.ui_command(workspace, port=5077, password="a secret of this test")
    assert command[:5] == [sys.executable, "-m", "uvicorn", "--factory", "fraudlab.tracking_pages:pages"]
    assert command[5:9] == ["--host", "127.0.0.1", "--port", "5077"]
    assert environment["MLFLOW_BACKEND_STORE_URI"] == f"sqlite:///{workspace.mlruns}/mlflow.db"
    assert environment["MLFLOW_DEFAULT_ARTIFACT_ROOT"] == str(workspace.mlruns / "artifacts")
    assert environment["MLFLOW_SERVER_ALLOWED_HOSTS"] == "127.0.0.1:5077,localhost:5077"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


@pytest.mark.slow
def test_the_pages_show_the_registered_model_and_stop_cleanly(workspace, client, run_id, packed):
    tracking.register_package(client, run_id, packed, name="demo", config=CONFIG)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command, environment = tracking.ui_command(workspace, port=port, password="open")
    right = {"Authorization": "Basic " + base64.b64encode(b"fraudlab:open").decode()}
    server = subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/health", headers=right))
                break
            except OSError:
                time.sleep(0.5)
        address = f"http://127.0.0.1:{port}/ajax-api/2.0/mlflow/registered-models/search"
        found = json.loads(urllib.request.urlopen(urllib.request.Request(address, headers=right)).read())[
            "registered_models"
        ]
        assert [(model["name"], model["aliases"]) for model in found] == [
            ("demo", [{"alias": "challenger", "version": "1"}])
        ]
        assert not psutil.Process(server.pid).children(recursive=True), "one process serves"
    finally:
        server.send_signal(2)
        server.wait(30)
