"""What docs/retraining.md promises for each thing that can go wrong with data, disk, kernel and database."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import psutil
import pytest
import sqlalchemy

from fraudlab import launching, tracking, workflow
from fraudlab.checks import CHECKS
from fraudlab.config import DatasetConfig, RunConfig, Workspace
from fraudlab.datasets import ingest as bring_in
from fraudlab.datasets import load_transactions
from fraudlab.executing import run_notebook
from fraudlab.privacy.auditlog import audit_log
from fraudlab.privacy.keys import open_keys
from fraudlab.privacy.vault import DamagedError, Vault
from fraudlab.schema import FraudlabError, InputError

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = ROOT / "configs" / "contracts" / "handbook.toml"
NOW = pd.Timestamp("2026-06-01", tz="UTC")
PURPOSE = "fraud-model-training"
ingesting = sys.modules["fraudlab.datasets.ingest"]


def export(days: int = 40, a_day: int = 50) -> pd.DataFrame:
    """A bank's export, as the handbook's files look."""
    rng = np.random.default_rng(5)
    seconds = np.sort(np.repeat(np.arange(days), a_day) * 86_400 + rng.integers(0, 86_400, days * a_day))
    when = pd.Timestamp("2026-03-01") + pd.to_timedelta(seconds, unit="s")
    return pd.DataFrame(
        {
            "TRANSACTION_ID": np.arange(len(when)),
            "TX_DATETIME": when.strftime("%Y-%m-%d %H:%M:%S"),
            "CUSTOMER_ID": [f"C{n:06d}" for n in rng.integers(0, 200, len(when))],
            "TERMINAL_ID": [f"T{n:04d}" for n in rng.integers(0, 40, len(when))],
            "TX_AMOUNT": rng.lognormal(3, 1, len(when)).round(2),
            "TX_FRAUD": (rng.random(len(when)) < 0.02).astype(int),
            "TX_FRAUD_SCENARIO": 0,
        }
    )


def source(folder: Path, table: pd.DataFrame) -> tuple[RunConfig, Workspace]:
    path = folder / "export.csv"
    table.to_csv(path, index=False)
    dataset = DatasetConfig(name="bank", path=path, contract=CONTRACT)
    return RunConfig(name="bank", dataset=dataset), Workspace(folder / "home")


def loaded(folder: Path, table: pd.DataFrame) -> pd.DataFrame:
    config, workspace = source(folder, table)
    bring_in(config, workspace, now=NOW)
    return load_transactions("bank", purpose=PURPOSE, workspace=workspace)


# -- data ------------------------------------------------------------------------------------------------------------

DRIFTS = {
    "a column is gone": (lambda t: t.drop(columns="TX_AMOUNT"), "TX_AMOUNT"),
    "a column is renamed": (lambda t: t.rename(columns={"TX_AMOUNT": "TX_AMOUNTS"}), "TX_AMOUNT"),
    "amounts have become words": (lambda t: t.assign(TX_AMOUNT="twelve"), "TX_AMOUNT"),
    "times have become numbers": (lambda t: t.assign(TX_DATETIME=range(len(t))), "TX_DATETIME"),
    "a day came twice": (lambda t: pd.concat([t, t.head(50)]), "TRANSACTION_ID"),
    "payments of tomorrow (a clock was moved)": (
        lambda t: t.assign(TX_DATETIME=t["TX_DATETIME"].where(t.index < 1990, "2026-06-03 10:00:00")),
        "TX_DATETIME",
    ),
    "a field of a row is cut off": (
        lambda t: t.assign(TX_DATETIME=t["TX_DATETIME"].where(t.index != 7, "2026-03-")),
        "",
    ),
}


@pytest.mark.parametrize("drift", DRIFTS)
def test_a_source_that_breaks_its_contract_is_refused_and_what_is_held_stays(tmp_path: Path, drift: str) -> None:
    change, named = DRIFTS[drift]
    before = loaded(tmp_path, export())
    config, workspace = source(tmp_path, change(export()))
    with pytest.raises(InputError) as refused:
        bring_in(config, workspace, now=NOW)
    assert named in str(refused.value)
    assert refused.value.exit_code == 2
    assert not any(word in str(refused.value) for word in ("C000", "twelve", "T00"))
    pd.testing.assert_frame_equal(load_transactions("bank", purpose=PURPOSE, workspace=workspace), before)


def test_a_new_column_is_dropped_and_counted(tmp_path: Path) -> None:
    config, workspace = source(tmp_path, export().assign(CARDHOLDER="Zoe Quux"))
    manifest = bring_in(config, workspace, now=NOW)
    assert manifest["dropped"] == [{"column": "CARDHOLDER", "non_null": 2000}]
    assert "CARDHOLDER" not in load_transactions("bank", purpose=PURPOSE, workspace=workspace)


def test_a_day_missing_and_a_day_under_new_numbers_are_findings(tmp_path: Path) -> None:
    table = export()
    day = table["TX_DATETIME"].str.startswith("2026-03-20")
    gap = CHECKS["FL021"](loaded(tmp_path, table[~day])["event_time"])
    assert gap.sentence == "Of 38 days 1 has no payment or hardly any: 2026-03-20."
    again = table[day].assign(TRANSACTION_ID=lambda t: t["TRANSACTION_ID"] + 100_000)
    twice = CHECKS["FL022"](loaded(tmp_path, pd.concat([table, again])))
    assert twice.blocks
    assert twice.sentence.endswith("customer, moment, amount and merchant: 2026-03-20.")


def test_poisoned_outcomes_are_not_believed(tmp_path: Path) -> None:
    table, until = export(), pd.Timestamp("2026-04-01", tz="UTC")
    assert CHECKS["FL023"](loaded(tmp_path, table), until).result == "passed"
    for poisoned in (table.assign(TX_FRAUD=1), table.assign(TX_FRAUD=table["TX_FRAUD"] ^ (table.index % 2))):
        assert CHECKS["FL023"](loaded(tmp_path, poisoned), until).blocks


def test_flipped_bytes_in_the_vault_are_told_and_mended_from_the_source(tmp_path: Path) -> None:
    before = loaded(tmp_path, export())
    config, workspace = source(tmp_path, export())
    part = next(workspace.vault.rglob("features.parquet"))
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 0x40
    part.write_bytes(data)
    with pytest.raises(DamagedError, match="is damaged; ingest it again or restore a backup"):
        load_transactions("bank", purpose=PURPOSE, workspace=workspace)
    assert bring_in(config, workspace, now=NOW)["repaired"]
    pd.testing.assert_frame_equal(load_transactions("bank", purpose=PURPOSE, workspace=workspace), before)


def test_an_ingest_killed_once_its_tables_are_in_place_is_entered_and_tidied_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded(tmp_path, export(days=39))
    config, workspace = source(tmp_path, export())

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("fraudlab.privacy.vault._clean", killed)
        with pytest.raises(KeyboardInterrupt):
            bring_in(config, workspace, now=NOW)
    vault = Vault(workspace.vault, open_keys(workspace))
    assert len([path for path in (workspace.vault / "bank").iterdir() if path.is_dir()]) == 2
    for _ in range(2):
        assert bring_in(config, workspace, now=NOW)["reused"]
    entries = audit_log(workspace).entries("ingest")["facts"]
    assert [facts["rows"] for facts in entries] == [39 * 50, 40 * 50]
    held = [path.name for path in (workspace.vault / "bank").iterdir() if path.is_dir()]
    assert held == [vault.manifest("bank")["version"]]


# -- kernels and launchers -------------------------------------------------------------------------------------------


def notebook(folder: Path, *cells: str) -> Path:
    path = folder / "bad.ipynb"
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata=kernel), path
    )
    return path


def test_a_killed_kernel_is_told_in_a_sentence(tmp_path: Path) -> None:
    bad = notebook(tmp_path, "print('before')", "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(FraudlabError, match=r"bad\.ipynb: its kernel must live until the notebook ends; found it dead"):
        run_notebook(bad, tmp_path / "out" / "bad.ipynb", {}, cwd=tmp_path)
    assert not any((tmp_path / "out").iterdir())
    assert not any((tmp_path / "runs").rglob("*"))


def test_a_kernel_ends_with_its_launcher(tmp_path: Path) -> None:
    slow = notebook(tmp_path, f"import os, time\nopen('{tmp_path}/pid', 'w').write(str(os.getpid()))\ntime.sleep(60)")
    script = (
        "from pathlib import Path; from fraudlab.executing import run_notebook; "
        f"run_notebook(Path({str(slow)!r}), Path({str(tmp_path / 'out.ipynb')!r}), {{}}, cwd=Path({str(tmp_path)!r}))"
    )
    launcher = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    until = time.monotonic() + 60
    while not ((tmp_path / "pid").is_file() and (tmp_path / "pid").read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    kernel = psutil.Process(int((tmp_path / "pid").read_text()))
    os.kill(launcher.pid, signal.SIGKILL)
    launcher.wait()
    # Not even the second in which ipykernel asks for its parent: a run that goes on at once meets no writer.
    until = time.monotonic() + (0.5 if sys.platform == "linux" else 5)
    while _alive(kernel) and time.monotonic() < until:
        time.sleep(0.02)
    assert not _alive(kernel)


def _alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE  # in a container nobody may look at the dead
    except psutil.NoSuchProcess:
        return False


# -- what is left over -----------------------------------------------------------------------------------------------


def test_what_killed_launchers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    stays = ["runs/.lock", "runs/demo-1/state.json", "runs/demo-lab/evidence/.data.json.77", "reports/demo-1.html",
             "reports/.other-2.html.x1"]  # fmt: skip
    goes = ["runs/demo-1/.state.json.12", "runs/demo-2/notebooks/.01_ingest.ipynb", "runs/demo-1/models/.x.ab/a.ubj",
            "reports/.demo-1.html.k2", "reports/.index.html.9", "reports/demo-1/notebooks/.a.html.4"]  # fmt: skip
    for name in (*stays, *goes):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    launching.sweep(workspace, "demo")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == sorted(stays)


def test_temporary_files_of_a_killed_retraining_go_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "system").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "system"))
    monkeypatch.setattr("tempfile.tempdir", None)
    workspace = Workspace(tmp_path / "home")
    with launching.for_kernels(workspace):
        scratch = Path(os.environ["TMPDIR"])
        assert scratch.parent == tmp_path / "system"
        assert os.environ["FRAUDLAB_HOME"] == str(workspace.root)
    assert not any((tmp_path / "system").iterdir())
    assert os.environ["TMPDIR"] == str(tmp_path / "system")
    scratch.mkdir(mode=0o700)
    (scratch / "half a model").mkdir()
    with launching.for_kernels(workspace):
        assert not any(scratch.iterdir())
    # A folder of that name which others may write into is not used.
    scratch.mkdir()
    scratch.chmod(0o777)
    with launching.for_kernels(workspace):
        assert os.environ["TMPDIR"] != str(scratch)


def test_the_finished_run_that_was_set_aside_gives_way_to_the_one_that_was_made_instead(tmp_path: Path) -> None:
    folder, aside = tmp_path / "demo-1", tmp_path / "demo-1.before"
    for status, expected in (("done", "new"), ("running", "old")):
        for path, said, about in ((folder, status, "new"), (aside, "done", "old")):
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()
            (path / "state.json").write_text(json.dumps({"status": said, "about": about}))
        workflow._settle_aside(folder, aside)
        assert json.loads((folder / "state.json").read_text())["about"] == expected
        assert not aside.exists()


# -- MLflow's database -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that was made once; making one takes seconds."""
    workspace = Workspace(tmp_path_factory.mktemp("store"))
    tracking.open_store(workspace)
    return workspace.root


@pytest.fixture
def store(made_store: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(made_store, tmp_path / "home")
    return Workspace(tmp_path / "home")


def test_a_locked_database_is_told_in_a_sentence(store: Workspace) -> None:
    client = tracking.open_store(store)

    def locked(*_: object) -> None:
        raise sqlalchemy.exc.OperationalError("", {}, sqlite3.OperationalError("database is locked"))

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "before_cursor_execute", locked)
    try:
        with pytest.raises(FraudlabError, match=r"mlruns/mlflow\.db: .*database is locked.*go on with --resume"):
            tracking.reap_stale_runs(client)
    finally:
        sqlalchemy.event.remove(sqlalchemy.engine.Engine, "before_cursor_execute", locked)
    assert tracking.reap_stale_runs(client) == []


@pytest.mark.parametrize("made", [True, False])
def test_a_database_locked_when_it_is_opened_is_told_in_a_sentence(
    store: Workspace, tmp_path: Path, made: bool
) -> None:
    other = Workspace(tmp_path / "other")  # MLflow remembers which addresses this process has opened
    if made:
        tracking.open_store(store)
        shutil.copytree(store.mlruns, other.mlruns)

    def locked(*_: object) -> None:
        raise sqlalchemy.exc.OperationalError("", {}, sqlite3.OperationalError("database is locked"))

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "before_cursor_execute", locked)
    try:
        with pytest.raises(FraudlabError, match=r"mlruns/mlflow\.db: .*database is locked.*go on with --resume"):
            tracking.open_store(other)
    finally:
        sqlalchemy.event.remove(sqlalchemy.engine.Engine, "before_cursor_execute", locked)
    assert tracking.reap_stale_runs(tracking.open_store(other)) == []


@pytest.mark.parametrize("content", [b"", b"not a database" * 500])
def test_a_database_that_is_none_is_told_in_a_sentence(store: Workspace, content: bytes) -> None:
    for end in ("", "-wal", "-shm"):
        (store.mlruns / f"mlflow.db{end}").unlink(missing_ok=True)
    (store.mlruns / "mlflow.db").write_bytes(content)
    with pytest.raises(FraudlabError, match=r"mlruns/mlflow\.db: must be"):
        tracking.open_store(store)
