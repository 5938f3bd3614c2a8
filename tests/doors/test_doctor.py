"""The doctor: each check fires on what is wrong and is silent on what is right; what was not looked at is never ok."""

from __future__ import annotations

import datetime as dt
import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import psutil
import pytest
from typer.testing import CliRunner

from fraudlab import doctor
from fraudlab.config import Workspace
from fraudlab.doctor import Finding, Listener
from fraudlab.privacy.auditlog import audit_log, write_anchor
from fraudlab.privacy.keys import HeldKey, open_keys
from fraudlab.privacy.vault import Vault

NOW = pd.Timestamp("2026-07-01", tz="UTC")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A small workspace with a vault, keys and a log, as fraudlab itself makes them."""
    monkeypatch.delenv("FRAUDLAB_KEYS", raising=False)
    made = Workspace(tmp_path / "project")
    frame = pd.DataFrame({"customer_id": pd.Series(["7f" * 16] * 9, dtype="str"), "amount": range(9)})
    Vault(made.vault, open_keys(made)).write("demo", [("2026-01", {"features": frame, "identity": frame})], {})
    audit_log(made).append("ingest", dataset="demo", rows=9)
    return made


def row(workspace: Workspace, code: str, **options: object) -> pd.Series:
    return doctor.examine(workspace, now=NOW, **options).set_index("code").loc[code]


# --- files -------------------------------------------------------------------------------------------------------


def test_what_fraudlab_wrote_is_closed(workspace: Workspace) -> None:
    table = doctor.examine(workspace, now=NOW).set_index("code")
    assert table.loc[["FD01", "FD02"], "status"].tolist() == ["ok", "ok"]


@pytest.mark.parametrize(
    ("code", "opened"),
    [
        ("FD01", lambda w: w.keys / "features.key"),
        ("FD01", lambda w: w.keys),
        ("FD02", lambda w: w.vault / "demo" / "manifest.json"),
        ("FD02", lambda w: next(w.vault.rglob("identity.parquet"))),
        ("FD02", lambda w: w.audit),
    ],
    ids=["a key", "the key folder", "the manifest", "the identities", "the log"],
)
@pytest.mark.parametrize("bits", [0o040, 0o001, 0o002])
def test_one_bit_for_others_fails(
    workspace: Workspace, code: str, opened: Callable[[Workspace], Path], bits: int
) -> None:
    path = opened(workspace)
    path.chmod(path.stat().st_mode | bits)
    found = row(workspace, code)
    assert found["status"] == "fail"
    assert str(path.relative_to(workspace.root)) in found["found"]
    # The command it names puts it right.
    subprocess.run(["sh", "-c", found["fix"]], cwd=workspace.root, check=True)
    assert row(workspace, code)["status"] == "ok"


def test_open_runs_fail_and_an_open_folder_alone_warns(workspace: Workspace) -> None:
    assert row(workspace, "FD03")["status"] == "not checked"
    workspace.mlruns.mkdir(mode=0o755)
    (workspace.mlruns / "README.md").write_text("what lies here")
    (workspace.mlruns / "README.md").chmod(0o644)
    workspace.mlruns.chmod(0o755)
    assert row(workspace, "FD03")["status"] == "warn"
    (workspace.mlruns / "model.ubj").write_text("trees")
    (workspace.mlruns / "model.ubj").chmod(0o640)
    assert row(workspace, "FD03")["status"] == "fail"
    (workspace.mlruns / "model.ubj").chmod(0o600)
    workspace.mlruns.chmod(0o700)
    assert row(workspace, "FD03")["status"] == "ok"


def test_a_link_is_not_followed(workspace: Workspace, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("open")
    outside.chmod(0o644)
    (workspace.keys / "link").symlink_to(outside)
    assert row(workspace, "FD01")["status"] == "ok"


@pytest.mark.parametrize(("umask", "status"), [(0o077, "ok"), (0o177, "ok"), (0o022, "warn"), (0o027, "warn")])
def test_umask(umask: int, status: str) -> None:
    assert doctor.mask(umask).status == status


def test_the_umask_of_the_process_is_read_and_stays() -> None:
    before = os.umask(0o027)
    try:
        assert doctor._umask() == 0o027
        assert doctor._umask() == 0o027
    finally:
        os.umask(before)


def test_keys_beside_the_data_are_no_least_privilege(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert doctor.apart(workspace, "").status == "warn"
    elsewhere = tmp_path / "keys"
    workspace.keys.rename(elsewhere)
    monkeypatch.setenv("FRAUDLAB_KEYS", str(elsewhere))
    same_account = doctor.apart(workspace, str(elsewhere))
    assert (same_account.status, "one account" in same_account.found) == ("warn", True)
    assert doctor.apart(workspace, "unix:/run/fraudlab/keys.sock").status == "ok"
    if os.getuid() == 0:
        os.chown(elsewhere, 12345, 12345)
        assert doctor.apart(workspace, str(elsewhere)).status == "ok"


def test_room_for_a_rewrite(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    size = sum(path.stat().st_size for path in workspace.vault.rglob("*") if path.is_file())
    for free, status in ((size - 1, "fail"), (size + 1, "warn"), (3 * size, "ok")):
        monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _, free=free: type("Usage", (), {"free": free})())
        assert doctor.room(workspace).status == status, free


def test_git_with_a_key_in_it_fails(workspace: Workspace) -> None:
    assert row(workspace, "FD20")["status"] == "not checked"
    git = ["git", "-C", str(workspace.root)]
    subprocess.run([*git, "init", "-q"], check=True)
    (workspace.mlruns).mkdir()
    (workspace.mlruns / "README.md").write_text("here")
    subprocess.run([*git, "add", "-f", "mlruns"], check=True)
    assert row(workspace, "FD20")["status"] == "ok"
    subprocess.run([*git, "add", "-f", ".keys/features.key"], check=True)
    found = row(workspace, "FD20")
    assert (found["status"], found["fix"]) == ("fail", "git rm --cached .keys/features.key")


# --- keys, log, backup -------------------------------------------------------------------------------------------


def held(name: str, days: int, *, retired: bool = False) -> HeldKey:
    return HeldKey(name, "0" * 16, (NOW - pd.Timedelta(days=days)).to_pydatetime(), "me only", retired)


@pytest.mark.parametrize(
    ("keys", "status", "fix"),
    [
        ([], "not checked", "fraudlab ingest"),
        ([held("features", 365), held("identity", 1)], "ok", ""),
        ([held("features", 1), held("identity", 366)], "warn", "fraudlab keys rotate identity"),
        # It cannot be rotated: every customer would get another pseudonym.
        ([held("features", 1), held("pseudonym", 4000)], "ok", ""),
        ([held("features", 1), held("features", 900, retired=True)], "warn", "fraudlab keys rotate features"),
    ],
    ids=["none", "a year", "older", "pseudonym", "half rotated"],
)
def test_age_of_keys(keys: list[HeldKey], status: str, fix: str) -> None:
    found = doctor.key_age(keys, NOW)
    assert (found.status, found.fix) == (status, fix)


def test_a_changed_log_entry_fails(workspace: Workspace) -> None:
    assert row(workspace, "FD07")["status"] == "ok"
    with sqlite3.connect(workspace.audit) as database:
        database.execute("UPDATE entries SET facts = '{}'")
    assert row(workspace, "FD07")["status"] == "fail"


def test_a_workspace_without_a_log_is_not_checked(tmp_path: Path) -> None:
    empty = Workspace(tmp_path)
    assert doctor.audit_chain(empty).status == "not checked"
    assert doctor.audit_anchor(empty, None).status == "not checked"
    assert not any(tmp_path.iterdir()), "looking makes nothing"


def test_an_outside_anchor_shows_a_cut_tail(workspace: Workspace, tmp_path: Path) -> None:
    log = audit_log(workspace)
    assert row(workspace, "FD08")["status"] == "warn", "no anchor was ever made"
    log.append("load", dataset="demo", purpose="fraud-model-training")
    outside, inside = tmp_path / "anchor.json", workspace.root / "anchor.json"
    for path in (outside, inside):
        write_anchor(path, log.anchor())
    assert row(workspace, "FD08")["status"] == "not checked", "an anchor was made, and which is not said"
    assert row(workspace, "FD08", anchor=outside)["status"] == "ok"
    assert row(workspace, "FD08", anchor=inside)["status"] == "warn"
    with sqlite3.connect(workspace.audit) as database:
        database.execute("DELETE FROM entries WHERE number = 2")
    assert row(workspace, "FD07")["status"] == "ok", "the chain alone cannot show it"
    assert row(workspace, "FD08", anchor=outside)["status"] == "fail"


def state(days: int, *, ok: bool = True, verified: bool = True) -> dict[str, object]:
    created = (NOW - pd.Timedelta(days=days)).isoformat()
    return {"created": created, "ok": ok, "verified": created if verified else None}


@pytest.mark.parametrize(
    ("known", "status", "fix"),
    [
        ({}, "not checked", "fraudlab backup create"),
        (state(1), "ok", ""),
        (state(8), "warn", "fraudlab backup create"),
        (state(1, verified=False), "warn", "fraudlab backup drill"),
        (state(1, ok=False), "fail", "fraudlab backup create"),
    ],
    ids=["none", "fresh", "old", "untried", "bad"],
)
def test_backup(known: dict[str, object], status: str, fix: str) -> None:
    found = doctor.backup(known, NOW)
    assert (found.status, found.fix) == (status, fix)


# --- settings and servers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "name", "good", "bad"),
    [
        (doctor.telemetry, "MLFLOW_DISABLE_TELEMETRY", "true", "false"),
        (doctor.pickles, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false", "true"),
    ],
)
def test_switches(check: Callable[[dict[str, str]], Finding], name: str, good: str, bad: str) -> None:
    assert check({name: good}).status == "ok"
    assert check({name: bad}).status == "fail"
    unset = check({})
    assert (unset.status, unset.fix) == ("warn", f"export {name}={good}")


def certificate(days: int) -> bytes:
    """A certificate that ends so many days after NOW, made by the library and not by the code under test."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    key, name = ed25519.Ed25519PrivateKey.generate(), x509.Name([])
    ends = (NOW + pd.Timedelta(days=days, hours=1)).to_pydatetime()
    built = x509.CertificateBuilder(name, name, key.public_key(), 7, ends - dt.timedelta(days=9), ends)
    return built.sign(key, None).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize(("days", "status"), [(200, "ok"), (29, "warn"), (-1, "fail")])
def test_certificates(days: int, status: str) -> None:
    assert doctor.certificates({"long.pem": certificate(900), "this.pem": certificate(days)}, NOW).status == status


def test_no_certificate_and_no_certificate_at_all() -> None:
    assert doctor.certificates({}, NOW).status == "not checked"
    assert doctor.certificates({"this.pem": b"something else"}, NOW).status == "fail"


@pytest.mark.parametrize(
    ("address", "port", "command", "status"),
    [
        ("127.0.0.1", 5000, "", "ok"),
        ("::1", 8888, "", "ok"),
        ("0.0.0.0", 5000, "", "fail"),
        ("::", 8888, "", "fail"),
        ("192.168.1.7", 7777, "python -m mlflow server", "fail"),
        ("fe80::1%eth0", 8888, "", "fail"),
        ("0.0.0.0", 22, "sshd", "ok"),
    ],
)
def test_servers(address: str, port: int, command: str, status: str) -> None:
    assert doctor.listeners([Listener(address, port, command)]).status == status


def test_a_real_socket_is_seen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert [each.address for each in doctor._listeners() if each.port == port] == ["127.0.0.1"]


def test_a_run_whose_process_is_gone_hangs(workspace: Workspace) -> None:
    assert row(workspace, "FD17")["status"] == "not checked"
    with subprocess.Popen(["sleep", "60"]) as process:
        launcher = f"{socket.gethostname()} {process.pid} {psutil.Process(process.pid).create_time():.2f}"
        alive, elsewhere = doctor.hanging([launcher]), doctor.hanging(["another-host 1 1.00", launcher])
        process.kill()
        process.wait()
    assert alive.status == elsewhere.status == "ok"
    assert "another machine" in elsewhere.found
    assert doctor.hanging([launcher]).status == "warn"
    mine = f"{socket.gethostname()} {os.getpid()} {time.time() - 1e6:.2f}"
    assert doctor.hanging([mine]).status == "warn", "the number was given to another process"


def test_running_runs_are_read_from_the_database_that_mlflow_makes(workspace: Workspace) -> None:
    from fraudlab import tracking
    from fraudlab.config import RunConfig

    config = RunConfig.model_validate(
        {"name": "demo", "dataset": {"name": "demo", "source": "simulate", "contract": "x"}}
    )
    client = tracking.open_store(workspace)
    ended, running = (tracking.start_run(client, config, name=name) for name in ("a", "b"))
    tracking.finish_run(client, ended, "FINISHED")
    assert doctor._running(workspace) == [client.get_run(running).data.tags["fraudlab.launcher"]]


def test_core_dumps_and_swap() -> None:
    assert doctor.core_dumps(0).status == "ok"
    assert doctor.core_dumps(-1).status == doctor.core_dumps(4096).status == "warn"
    assert doctor.swap(0, "linux").status == doctor.swap(10**9, "darwin").status == "ok"
    assert doctor.swap(10**9, "linux").status == "warn"


# --- packages ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("installed", "status", "said"),
    [
        ({"a": "1", "b-c": "2"}, "ok", "2 packages"),
        ({"a": "1.1", "b-c": "2"}, "fail", "a 1.1 instead of 1"),
        ({"a": "1"}, "warn", "missing: b-c"),
        ({"a": "1", "b-c": "2", "d": "3"}, "warn", "not in the lock: d"),
    ],
)
def test_packages_against_the_lock(installed: dict[str, str], status: str, said: str) -> None:
    found = doctor.packages({"a": "1", "b-c": "2"}, installed)
    assert (found.status, said in found.found) == (status, True)


def test_the_projects_lock_is_read_as_pip_reads_it() -> None:
    wanted, installed = doctor.locked(ROOT / "requirements.lock"), doctor._installed()
    from packaging.requirements import Requirement

    lines = (ROOT / "requirements.lock").read_text().replace("\\\n", "").splitlines()
    parsed = [Requirement(line.partition(" --hash")[0]) for line in lines if line.strip()]
    here = {one.name.lower(): str(one.specifier) for one in parsed if one.marker is None or one.marker.evaluate()}
    assert {name: f"=={version}" for name, version in wanted.items()} == here
    assert installed["pandas"] == pd.__version__


def test_a_lock_that_is_not_there_is_not_checked(workspace: Workspace) -> None:
    assert row(workspace, "FD14")["status"] == "not checked"


def test_what_pip_audit_did_not_judge_is_not_audited() -> None:
    clean = {"name": "a", "version": "1", "vulns": []}
    weak = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1"}]}
    skipped = {"name": "c", "skip_reason": "no network"}
    assert doctor.weaknesses({"dependencies": [clean]}, True).status == "ok"
    assert doctor.weaknesses({"dependencies": [clean, weak, skipped]}, True).status == "fail"
    for answer in ({"dependencies": [clean, skipped]}, {"dependencies": []}, {}, None):
        found = doctor.weaknesses(answer, True)
        assert (found.status, "not audited" in found.found) == ("not checked", True), answer
    offline = doctor.weaknesses(None, False)
    assert (offline.status, offline.fix) == ("not checked", "fraudlab doctor --online")


# --- the whole ---------------------------------------------------------------------------------------------------


def kept(workspace: Workspace) -> dict[str, bytes]:
    """Every file with its bytes, but for the side files that SQLite makes for any reader."""
    files = [path for path in workspace.root.rglob("*") if path.is_file() and path.suffix not in (".db-shm", ".db-wal")]
    return {str(path): path.read_bytes() for path in files}


def test_codes_are_numbered_and_the_command_fails_when_a_check_does(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fraudlab.cli import app

    monkeypatch.setenv("FRAUDLAB_HOME", str(workspace.root))
    for name, value in (("MLFLOW_DISABLE_TELEMETRY", "true"), ("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(doctor, "_listeners", list)
    before = kept(workspace)
    good = CliRunner().invoke(app, ["doctor", "--json"])
    table = pd.DataFrame(json.loads(good.stdout))
    assert table["code"].tolist() == [f"FD{number:02d}" for number in range(1, len(table) + 1)]
    assert set(table["status"]) <= {"ok", "warn", "fail", "not checked"}
    assert (good.exit_code, (table["status"] == "fail").sum()) == (0, 0)
    assert table.loc[table["status"].isin(["warn", "fail"]), "fix"].str.len().gt(0).all()
    assert kept(workspace) == before, "it changes nothing"
    (workspace.keys / "features.key").chmod(0o644)
    bad = CliRunner().invoke(app, ["doctor"], terminal_width=200)
    assert bad.exit_code == 1
    assert "chmod -R go= .keys" in bad.output


def test_a_check_that_breaks_is_a_row_and_not_an_error(workspace: Workspace) -> None:
    workspace.audit.write_bytes(b"no database" * 99)
    found = row(workspace, "FD07")
    assert found["status"] in ("fail", "not checked")
    assert "audit" in found["found"]


def test_the_doctor_needs_no_heavy_library() -> None:
    said = subprocess.run(
        [sys.executable, "-c", "import fraudlab.doctor, sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert {"mlflow", "xgboost", "matplotlib", "shap"}.isdisjoint(said.stdout.split())
