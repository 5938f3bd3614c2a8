"""A team's registry: real PostgreSQL and S3 servers, two machines at once, servers that go away."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from fraudlab import doctor, production, tracking, tracking_place, tracking_store, workflow
from fraudlab.config import RunConfig, Workspace, load_config
from fraudlab.package_check import checked_package
from fraudlab.preflight import preflight
from fraudlab.schema import FraudlabError, InputError
from fraudlab.serving import load_package
from fraudlab.tracking_place import TrackingConfig, UnreachableError, settings_of
from fraudlab.tracking_registry import find_version

ROOT = Path(__file__).resolve().parents[2]
CONFIG = RunConfig.model_validate(
    {"name": "demo", "dataset": {"name": "demo", "source": "simulate", "contract": "contracts/demo.toml"}}
)
PAYMENTS = pd.DataFrame({"amount": [3.0, 40.0, 901.0, 960.0]})


def machine(root: Path, store: str, artifacts: str, endpoint: str = "") -> Workspace:
    """Return a project on one of the team's machines."""
    root.mkdir(parents=True, exist_ok=True)
    text = f"store = {json.dumps(store)}\nartifacts = {json.dumps(artifacts)}\ns3_endpoint = {json.dumps(endpoint)}\n"
    (root / "tracking.toml").write_text(text)
    return Workspace(root)


def register(workspace: Workspace, package: Path, name: str = "a run") -> tuple[str, str]:
    client = tracking.open_store(workspace)
    run_id = tracking.start_run(client, CONFIG, name=name)
    version = tracking.register_package(client, run_id, package, name="demo", config=CONFIG)
    tracking.finish_run(client, run_id, "FINISHED")
    return version, run_id


def served(workspace: Workspace) -> str | None:
    found = tracking.champion(tracking.open_store(workspace), "demo")
    return found and found["version"]


# -- what tracking.toml may say ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("store", "sentence"),
    [
        ("postgresql://me:secret@db.example/f", "must hold no password; found one"),
        ("postgresql://me@db.example/f?password=secret", "must hold no password; found one"),
        ("postgresql://me@db.example/f?sslmode=disable", "must be reached over TLS off this machine"),
        ("postgresql://me@db.example/f?sslmode=nonsense", "sslmode must be one of require, verify-ca, verify-full"),
        ("postgresql://me@db.example/f?sslmod=require", "cannot say 'sslmod' after the question mark; did you mean"),
        ("postgresql://db.example/f", "must be postgresql://ROLE@HOST/DATABASE"),
        ("postgresql://me@db.example/f/g", "must be postgresql://ROLE@HOST/DATABASE"),
        ("postgresql://me@db.example:99999/f", "must be postgresql://ROLE@HOST/DATABASE"),
        ("postgresql://me@db.example/f?host=/run/postgresql", "host after the question mark must be the folder"),
        ("mysql://me@db.example/f", "must be postgresql://ROLE@HOST/DATABASE"),
        ("https://mlflow.example", "must be postgresql://ROLE@HOST/DATABASE"),
    ],
)
def test_an_address_that_breaks_a_rule_is_refused_and_not_repeated(tmp_path, store, sentence):
    with pytest.raises(InputError, match=r"tracking.toml: key 'store'") as refused:
        settings_of(machine(tmp_path, store, "s3://models"))
    assert sentence in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"artifacts": "models"}, "key 'artifacts': must be s3://BUCKET/PREFIX or an absolute folder"),
        ({"artifacts": "s3://Models"}, "key 'artifacts': must be s3://BUCKET/PREFIX"),
        ({"artifacts": "s3://models/../x?y"}, "key 'artifacts': must be s3://BUCKET/PREFIX"),
        ({"s3_endpoint": "http://s3.example"}, "key 's3_endpoint': must be https off this machine"),
        ({"s3_endpoint": "https://me:secret@s3.example"}, "key 's3_endpoint': must be https://HOST"),
        ({"stor": "x"}, "unknown key 'stor'; did you mean 'store'?"),
        ({"artifacts": None}, "key 'artifacts' is missing; add it"),
    ],
)
def test_other_settings_that_break_a_rule_are_refused(tmp_path, settings, sentence):
    said = {"store": "postgresql://me@db.example/f", "artifacts": "s3://models"} | settings
    (tmp_path / "tracking.toml").write_text("".join(f'{key} = "{value}"\n' for key, value in said.items() if value))
    with pytest.raises(InputError) as refused:
        settings_of(Workspace(tmp_path))
    assert f"tracking.toml: {sentence}" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_off_this_machine_the_server_is_checked_unless_somebody_says_otherwise(monkeypatch):
    def mode(host: str, said: str = "") -> str:
        return TrackingConfig(store=f"postgresql://me@{host}/f{said}", artifacts="/srv").address

    assert "sslmode=verify-full" in mode("db.example")
    assert "sslmode=require" in mode("db.example", "?sslmode=require")
    assert "sslmode" not in mode("127.0.0.1")
    monkeypatch.setenv("PGSSLMODE", "verify-ca")
    assert "sslmode=verify-ca" in mode("db.example")
    monkeypatch.setenv("PGSSLMODE", "prefer")
    with pytest.raises(ValueError, match="must be reached over TLS off this machine; found sslmode prefer"):
        mode("db.example")


def test_the_object_store_is_checked_too(tmp_path, monkeypatch):
    workspace = machine(tmp_path, "postgresql://me@127.0.0.1/f", "s3://models")
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", "http://s3.example")
    with pytest.raises(InputError, match="MLFLOW_S3_ENDPOINT_URL: must be https off this machine"):
        settings_of(workspace)
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", "https://s3.example")
    assert settings_of(workspace).endpoint == "https://s3.example"
    monkeypatch.setenv("MLFLOW_S3_IGNORE_TLS", "true")
    with pytest.raises(InputError, match="MLFLOW_S3_IGNORE_TLS: must not be set for a server elsewhere"):
        settings_of(workspace)


def test_a_project_without_settings_is_its_own_and_one_with_models_stays_so(tmp_path):
    assert settings_of(Workspace(tmp_path)) is None
    assert tracking.has_registry(Workspace(tmp_path)) is False
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").touch()
    assert tracking.has_registry(Workspace(tmp_path)) is True
    workspace = machine(tmp_path, "postgresql://me@db.example/f", "s3://models")
    with pytest.raises(InputError, match="must not take the place of a registry that exists"):
        tracking.open_store(workspace)


def test_every_setting_is_explained():
    assert all(field.description for field in TrackingConfig.model_fields.values())
    told = (ROOT / "docs" / "tracking.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in told for name in TrackingConfig.model_fields)


# -- servers that are not there ------------------------------------------------------------------------------------


@pytest.fixture
def silent() -> int:
    """A port that takes connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def test_a_database_that_is_not_there_is_told_in_one_sentence(tmp_path):
    pytest.importorskip("psycopg", reason="the extra `team` is not installed")
    workspace = machine(tmp_path, "postgresql://me@127.0.0.1:1/fraud", "s3://models")
    for ask in (tracking.has_registry, tracking.open_store, production.settle):
        with pytest.raises(UnreachableError) as told:
            ask(workspace)
        assert str(told.value) == (
            "registry: the database 127.0.0.1/fraud must answer; found no answer; see to it, then run the same command "
            "again (a retraining with --resume)"
        )
        assert told.value.exit_code == 1
    answer = next(each for each in preflight(CONFIG, workspace) if each.question == "the registry can be read")
    assert answer.ok is False
    assert "must answer; found no answer" in answer.found
    table = doctor.examine(workspace).set_index("code")
    assert table.at["FD17", "status"] == "not checked"
    assert table.at["FD21", "status"] == "ok"


def test_what_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    workspace = machine(tmp_path, "postgresql://me@127.0.0.1:1/fraud", "s3://models")
    with pytest.raises(
        InputError, match=r"needs the PostgreSQL client; found none installed; install fraudlab\[team\]"
    ):
        tracking.open_store(workspace)
    monkeypatch.setitem(sys.modules, "botocore.exceptions", None)
    monkeypatch.setitem(sys.modules, "boto3.exceptions", None)
    with (
        pytest.raises(InputError, match="needs boto3; found none installed"),
        tracking_store.reaching(settings_of(workspace)),
    ):
        pass


def test_a_database_that_says_nothing_is_given_up(tmp_path, silent, monkeypatch):
    pytest.importorskip("psycopg", reason="the extra `team` is not installed")
    monkeypatch.setattr(tracking_place, "SECONDS", 2)
    began = time.monotonic()
    with pytest.raises(UnreachableError, match="found no answer"):
        tracking.open_store(machine(tmp_path, f"postgresql://me@127.0.0.1:{silent}/fraud", "s3://models"))
    assert time.monotonic() - began < 10


def test_the_doctor_tells_of_servers_that_are_not_checked(tmp_path):
    passwords = tmp_path / "pgpass"
    passwords.write_text("*:*:*:*:secret")
    passwords.chmod(0o600)
    store = "postgresql://me@db.example/f?sslmode={}"
    assert doctor.registry(Workspace(tmp_path / "own"), passwords).status == "ok"
    assert doctor.registry(machine(tmp_path, store.format("verify-full"), "s3://models"), passwords).status == "ok"
    found = doctor.registry(machine(tmp_path, store.format("require"), "s3://models"), passwords)
    assert (found.status, "believes any server" in found.found) == ("warn", True)
    passwords.chmod(0o644)
    found = doctor.registry(machine(tmp_path, store.format("verify-full"), "s3://models"), passwords)
    assert (found.status, found.fix) == ("fail", f"chmod 600 {passwords}")


# -- PostgreSQL ----------------------------------------------------------------------------------------------------


@pytest.fixture
def team(postgres, tmp_path, monkeypatch) -> Workspace:
    """A machine of a team that keeps its files in a folder all machines share."""
    monkeypatch.setenv("PGPASSFILE", str(postgres.passwords))
    return machine(tmp_path / "one", postgres.address(postgres.database()), str(tmp_path / "shared"))


def test_two_machines_see_one_registry(team, small_packages, tmp_path):
    other = machine(tmp_path / "two", settings_of(team).store, settings_of(team).artifacts)
    assert tracking.has_registry(team)
    for package in small_packages[:2]:
        register(team, package)
    production.promote(team, "demo", "1", reason="the first", expected="")
    assert served(other) == "1"
    production.promote(other, "demo", "2", reason="the second", expected="1")
    assert served(team) == "2"
    with pytest.raises(InputError, match=r"must still be version 1, .*; found 2"):
        production.promote(team, "demo", "2", reason="decided against the first", expected="1")
    with pytest.raises(InputError, match=r"must still be none, .*; found 2"):
        production.promote(team, "demo", "1", reason="decided when there was none", expected="")
    # Each machine's log says how it came to know.
    assert production.history(team, "demo")["by"].tolist() == ["hand", "found in the registry"]
    assert production.rollback(team, "demo", reason="too many alerts")["version"] == "1"
    assert served(other) == "1"
    champion = tracking.champion(tracking.open_store(other), "demo")
    scored = load_package(champion["package"], digest=champion["digest"]).score(PAYMENTS, reasons=False)
    pd.testing.assert_frame_equal(scored, load_package(small_packages[0]).score(PAYMENTS, reasons=False))
    assert tracking.models_table(tracking.open_store(other))["aliases"].tolist() == ["", "champion"]
    assert not (other.mlruns / "mlflow.db").exists()


def test_a_registration_that_fails_leaves_nothing(team, small_packages, monkeypatch, tmp_path):
    client = tracking.open_store(team)
    run_id = tracking.start_run(client, CONFIG, name="a run")
    monkeypatch.setattr(client, "log_outputs", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tracking.register_package(client, run_id, small_packages[0], name="demo", config=CONFIG)
    assert tracking.models_table(client).empty
    assert not [path for path in (tmp_path / "shared").rglob("*") if path.is_file()]


def test_who_may_only_read_lists_and_scores_and_promotes_nothing(team, postgres, small_packages, tmp_path):
    register(team, small_packages[0])
    database = settings_of(team).store.rpartition("/")[2]
    reader = machine(tmp_path / "two", postgres.address(database, "fraudlab_reader"), settings_of(team).artifacts)
    assert len(tracking.models_table(tracking.open_store(reader))) == 1
    with pytest.raises(UnreachableError, match="found that it does not let this role write"):
        production.promote(reader, "demo", "1", reason="I may not")
    assert served(team) is None


def test_tables_are_made_by_who_may(postgres, tmp_path, monkeypatch):
    monkeypatch.setenv("PGPASSFILE", str(postgres.passwords))
    database = postgres.database("empty")
    workspace = machine(tmp_path, postgres.address(database), "/srv/models")
    assert tracking.has_registry(workspace) is False
    with pytest.raises(FraudlabError, match="let the database's owner run `fraudlab models list` once"):
        tracking.open_store(workspace)
    assert tracking.has_registry(workspace) is False


def test_files_are_where_the_registry_says(team, tmp_path):
    tracking.open_store(team)
    other = machine(tmp_path / "two", settings_of(team).store, "s3://elsewhere")
    with pytest.raises(
        InputError, match=r"artifacts must be where this registry keeps them, .*shared; found s3://else"
    ):
        tracking.open_store(other)


@pytest.mark.parametrize(
    ("database", "role", "said", "why"),
    [
        ("template", "fraudlab_nobody", "", "that it refuses the password"),
        ("nowhere", "fraudlab_writer", "", "no such database there"),
        ("template", "fraudlab_writer", "?sslmode=verify-full&sslrootcert={other}", "no TLS connection that can be tr"),
    ],
)
def test_why_a_database_refuses_is_told(postgres, other_certificate, tmp_path, monkeypatch, database, role, said, why):
    monkeypatch.setenv("PGPASSFILE", str(postgres.passwords))
    address = postgres.address(database, role, said.format(other=other_certificate))
    with pytest.raises(UnreachableError) as told:
        tracking.open_store(machine(tmp_path / "one", address, "/srv/models"))
    assert f"found {why}" in str(told.value)
    assert role not in str(told.value)
    assert "\n" not in str(told.value)


def test_the_server_s_own_certificate_is_believed(postgres, tmp_path, monkeypatch):
    monkeypatch.setenv("PGPASSFILE", str(postgres.passwords))
    said = f"?sslmode=verify-full&sslrootcert={postgres.certificate}"
    workspace = machine(tmp_path, postgres.address(postgres.database(), said=said), "/srv/models")
    assert tracking.models_table(tracking.open_store(workspace)).empty
    with tracking_place.connected(settings_of(workspace)) as connection:
        query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        assert connection.execute(query).fetchone() == (True,)
    # The password file, with every sign in the password, was what let us in.
    monkeypatch.delenv("PGPASSFILE")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UnreachableError, match="refuses the password"):
        tracking.has_registry(workspace)


def test_the_hosts_file_lets_three_roles_in_over_tls_and_nobody_else(postgres, tmp_path, monkeypatch):
    monkeypatch.setenv("PGPASSFILE", str(postgres.passwords))
    hosts = postgres.folder / "data" / "pg_hba.conf"
    before = hosts.read_text()
    if postgres.admin("SELECT 1 FROM pg_database WHERE datname = 'fraudlab'") == []:
        postgres.admin("CREATE DATABASE fraudlab TEMPLATE template")
    administrator = "host all admin 127.0.0.1/32 scram-sha-256\n"
    hosts.write_text(administrator + (ROOT / "deploy" / "team" / "pg_hba.conf").read_text())
    try:
        postgres.admin("SELECT pg_reload_conf()")
        assert not postgres.admin("SELECT * FROM pg_hba_file_rules WHERE error IS NOT NULL")
        for role in ("fraudlab_owner", "fraudlab_writer", "fraudlab_reader"):
            inside = machine(tmp_path / role, postgres.address("fraudlab", role, "?sslmode=require"), "/srv/models")
            assert tracking.has_registry(inside)
        for database, said in (("fraudlab", "?sslmode=disable"), ("template", "?sslmode=require")):
            outside = machine(tmp_path / "outside", postgres.address(database, said=said), "/srv/models")
            with pytest.raises(UnreachableError, match="does not let this role in from here"):
                tracking.has_registry(outside)
    finally:
        hosts.write_text(before)
        postgres.admin("SELECT pg_reload_conf()")


# -- one champion at a time ----------------------------------------------------------------------------------------


def test_who_finds_another_at_it_waits_and_then_says_so(team, small_packages, monkeypatch):
    register(team, small_packages[0])
    client = tracking.open_store(team)
    with tracking_store.alone(tracking.open_store(team), "demo"):
        monkeypatch.setattr(tracking_store, "LOCK_SECONDS", 1)
        with pytest.raises(FraudlabError, match="one machine at a time; found another at it for 1 s"):
            tracking.promote(client, "demo", "1", reason="too late")
        # Another model's champion is nobody else's business.
        with tracking_store.alone(client, "other"):
            pass
    assert tracking.promote(client, "demo", "1", reason="now")["previous"] is None


def test_who_waits_compares_with_what_the_other_made(team, small_packages):
    for package in small_packages[:2]:
        register(team, package)
    client, refused = tracking.open_store(team), []

    def decided_on_none() -> None:
        try:
            tracking.promote(client, "demo", "2", reason="decided when there was none", expected="")
        except InputError as error:
            refused.append(str(error))

    waiting = threading.Thread(target=decided_on_none)
    with tracking_store.alone(tracking.open_store(team), "demo"):
        waiting.start()
        time.sleep(1)
        assert waiting.is_alive()
        tracking.open_store(team).set_registered_model_alias("demo", "champion", "1")
    waiting.join(30)
    assert "must still be none" in refused[0]
    assert served(team) == "1"


def test_who_lost_the_lock_on_the_way_changes_nothing(team, postgres, small_packages, monkeypatch):
    register(team, small_packages[0])
    whole = checked_package

    def slow(folder: Path, **named: str) -> object:
        gone = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
        assert postgres.admin(gone) == [(True,)]
        return whole(folder, **named)

    monkeypatch.setattr("fraudlab.tracking_registry.checked_package", slow)
    with pytest.raises(UnreachableError):
        tracking.promote(tracking.open_store(team), "demo", "1", reason="cut off")
    assert served(team) is None
    assert "fraudlab.promotions" not in tracking.open_store(team).get_model_version("demo", "1").tags


RACE = """
import sys, time
from pathlib import Path
from fraudlab import tracking
from fraudlab.config import Workspace
from fraudlab.schema import InputError
client = tracking.open_store(Workspace(Path(sys.argv[1])))
start = Path(sys.argv[1]) / "start"
(start.parent / f"ready-{sys.argv[2]}").touch()
while not start.exists():
    time.sleep(0.001)
try:
    tracking.promote(client, "demo", sys.argv[2], reason="decided when there was none", expected="")
    print("promoted")
except InputError as error:
    print(error)
"""


@pytest.mark.slow
def test_of_four_processes_that_decided_on_the_same_champion_one_wins(team, small_packages):
    for number in range(4):
        register(team, small_packages[number % 3], f"run {number}")
    racing = [
        subprocess.Popen([sys.executable, "-c", RACE, str(team.root), str(n)], stdout=subprocess.PIPE, text=True)
        for n in (1, 2, 3, 4)
    ]
    until = time.monotonic() + 240
    while len(list(team.root.glob("ready-*"))) < 4 and time.monotonic() < until:
        time.sleep(0.05)
    (team.root / "start").touch()
    said = [process.communicate(timeout=120)[0].strip() for process in racing]
    assert said.count("promoted") == 1
    assert sum("must still be none, which the decision was made against" in each for each in said) == 3
    assert served(team) == str(said.index("promoted") + 1)
    promoted = [tracking.open_store(team).get_model_version("demo", str(n)).tags for n in (1, 2, 3, 4)]
    assert sum("fraudlab.promotions" in tags for tags in promoted) == 1


@pytest.mark.slow
def test_an_empty_database_is_made_once_by_whoever_comes_first(postgres, tmp_path, monkeypatch):
    monkeypatch.setenv("PGPASSFILE", str(postgres.passwords))
    store = postgres.address(postgres.database("empty"), "fraudlab_owner")
    script = (
        "import sys; from pathlib import Path; from fraudlab import tracking; from fraudlab.config import Workspace\n"
    )
    script += "tracking.open_store(Workspace(Path(sys.argv[1])))"
    made = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(machine(tmp_path / name, store, "/srv/models").root)],
            stderr=subprocess.PIPE,
            env=os.environ | {"TMPDIR": str(tmp_path / name)},  # two machines share no lock file
            text=True,
        )
        for name in ("one", "two", "three")
    ]
    said = [process.communicate(timeout=300)[1] for process in made]
    assert [process.returncode for process in made] == [0, 0, 0], said
    assert said == [""] * 3
    names = postgres.admin("SELECT name, artifact_location FROM experiments ORDER BY 1", store.rpartition("/")[2])
    assert names == [("Default", "/srv/models/0"), ("fraudlab", "/srv/models/fraudlab")]


# -- an object store -----------------------------------------------------------------------------------------------


@pytest.fixture
def far(postgres, object_store, tmp_path, monkeypatch) -> Workspace:
    """A machine of a team whose files are in an object store."""
    monkeypatch.setenv("PGPASSFILE", str(postgres.passwords))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", object_store.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", object_store.secret)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(object_store.certificate))
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", object_store.endpoint)  # put back afterwards
    prefix = f"s3://models/{tmp_path.name}"
    return machine(tmp_path / "one", postgres.address(postgres.database()), prefix, object_store.endpoint)


@pytest.mark.slow
def test_another_machine_fetches_the_champion_checks_it_and_keeps_it(far, object_store, small_packages, tmp_path):
    for package in small_packages[:2]:
        register(far, package)
    production.promote(far, "demo", "1", reason="the first")
    production.promote(far, "demo", "2", reason="the second")
    settings = settings_of(far)
    other = machine(tmp_path / "two", settings.store, settings.artifacts, object_store.endpoint)
    assert tracking.answers(other) == f"the database {settings.shown}, the bucket models"
    champion = tracking.champion(tracking.open_store(other), "demo")
    assert champion["package"].is_relative_to(other.mlruns)
    package = load_package(champion["package"], digest=champion["digest"])
    expected = load_package(small_packages[1]).score(PAYMENTS, reasons=False)
    pd.testing.assert_frame_equal(package.score(PAYMENTS, reasons=False), expected)
    assert {path.stat().st_mode & 0o077 for path in other.mlruns.rglob("*")} == {0}
    assert not list(other.mlruns.rglob(".new-*"))
    # A copy that was touched is fetched again, and what a killed process left goes.
    (champion["package"] / "decision.json").write_text("{}")
    left = [champion["package"].with_name(name) for name in (".new-of-the-killed", ".new-of-another")]
    for folder in left:
        folder.mkdir()
    os.utime(left[0], (0, 0))
    again = tracking.champion(tracking.open_store(other), "demo")
    load_package(again["package"], digest=again["digest"])
    assert [folder.exists() for folder in left] == [False, True]
    # Without the object store what was fetched serves on, and the way back is open where it served before.
    object_store.stop()
    try:
        assert tracking.champion(tracking.open_store(other), "demo")["version"] == "2"
        assert production.rollback(far, "demo", reason="the store is down, the second errs")["version"] == "1"
        began = time.monotonic()
        for ask in (lambda: tracking.champion(tracking.open_store(other), "demo"), lambda: tracking.answers(other)):
            with pytest.raises(UnreachableError, match=r"the object store of s3://models/.* found no answer"):
                ask()
        with pytest.raises(UnreachableError, match="the object store of"):
            register(far, small_packages[2])
        assert time.monotonic() - began < 120
    finally:
        object_store.start()
    assert served(other) == "1"
    assert tracking.models_table(tracking.open_store(far))["version"].tolist() == ["2", "1"]


@pytest.mark.slow
def test_an_exchanged_object_is_refused(far, object_store, small_packages, tmp_path):
    register(far, small_packages[0])
    key = next(name for name in object_store.names(tmp_path.name) if name.endswith("package/decision.json"))
    object_store.client().put_object(Bucket="models", Key=key, Body=b"{}")
    with pytest.raises(InputError, match=r"damaged: decision.json"):
        tracking.promote(tracking.open_store(far), "demo", "1", reason="exchanged")
    object_store.client().delete_object(Bucket="models", Key=key)
    with pytest.raises(InputError, match=r"missing: decision.json"):
        tracking.promote(tracking.open_store(far), "demo", "1", reason="deleted")
    assert served(far) is None


@pytest.mark.slow
def test_a_registration_that_fails_leaves_no_object(far, object_store, small_packages, monkeypatch, tmp_path):
    client = tracking.open_store(far)
    run_id = tracking.start_run(client, CONFIG, name="a run")
    monkeypatch.setattr(client, "log_outputs", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tracking.register_package(client, run_id, small_packages[0], name="demo", config=CONFIG)
    assert object_store.names(tmp_path.name) == []


@pytest.mark.slow
def test_keys_that_are_not_known_and_a_bucket_that_is_not_there(far, monkeypatch):
    other = machine(far.root.parent / "two", settings_of(far).store, "s3://nowhere", settings_of(far).s3_endpoint)
    with pytest.raises(UnreachableError, match="found no such bucket"):
        tracking.answers(other)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(UnreachableError, match="found that it does not let these keys do this"):
        tracking.answers(far)
    monkeypatch.delenv("AWS_CA_BUNDLE")
    with pytest.raises(UnreachableError, match="found no TLS connection that can be trusted"):
        tracking.answers(far)


@pytest.mark.slow
def test_the_bucket_s_policy_lets_writers_keep_and_readers_fetch(object_store, tmp_path):
    from botocore.exceptions import ClientError

    policy = (ROOT / "deploy" / "team" / "bucket-policy.json").read_text()
    for name in ("writer", "reader"):
        said = ("--access-key", f"{name}key", "--secret", "secret")
        object_store.run("radosgw-admin", "user", "create", f"--uid=fraudlab-{name}", f"--display-name={name}", *said)
        policy = policy.replace(f'"fraudlab-{name}"', f'"arn:aws:iam:::user/fraudlab-{name}"')  # Ceph's form
    owner = object_store.client()
    owner.create_bucket(Bucket="fraudlab")
    owner.put_bucket_policy(Bucket="fraudlab", Policy=policy)
    owner.put_object(Bucket="fraudlab", Key="other/secret", Body=b"not theirs")
    writer, reader = (
        replace(object_store, key=f"{name}key", secret="secret").client() for name in ("writer", "reader")
    )
    writer.put_object(Bucket="fraudlab", Key="models/1", Body=b"model")
    for each in (writer, reader):
        assert each.get_object(Bucket="fraudlab", Key="models/1")["Body"].read() == b"model"
        assert len(each.list_objects_v2(Bucket="fraudlab", Prefix="models/")["Contents"]) == 1
        each.head_bucket(Bucket="fraudlab")
    refused = [
        lambda: reader.put_object(Bucket="fraudlab", Key="models/1", Body=b"exchanged"),
        lambda: reader.delete_object(Bucket="fraudlab", Key="models/1"),
        lambda: reader.get_object(Bucket="fraudlab", Key="other/secret"),
        lambda: writer.get_object(Bucket="fraudlab", Key="other/secret"),
        lambda: writer.put_object(Bucket="fraudlab", Key="other/mine", Body=b""),
        lambda: writer.delete_bucket_policy(Bucket="fraudlab"),
        lambda: writer.put_bucket_policy(Bucket="fraudlab", Policy=policy),
    ]
    for ask in refused:
        with pytest.raises(ClientError, match=r"AccessDenied|403"):
            ask()
    writer.delete_object(Bucket="fraudlab", Key="models/1")


@pytest.mark.slow
def test_mlflows_pages_show_the_team_s_registry(far, small_packages, object_store):
    version, run_id = register(far, small_packages[0])
    client = tracking.open_store(far)
    (far.root / "note.txt").write_text("evidence")
    tracking.log_folder(client, run_id, far.root / "note.txt", "evidence")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command, environment = tracking.ui_command(far, port=port, password="only here")
    assert object_store.secret not in str(command) + str(environment)
    server = subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    token = base64.b64encode(b"fraudlab:only here").decode()

    def page(path: str) -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Basic {token}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    try:
        until = time.monotonic() + 180
        while True:
            try:
                page("/health")
                break
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.5)
        found = json.loads(page(f"/api/2.0/mlflow/model-versions/get?name=demo&version={version}"))
        assert found["model_version"]["run_id"] == run_id
        assert page(f"/get-artifact?path=evidence/note.txt&run_uuid={run_id}") == b"evidence"
    finally:
        server.terminate()
        said = server.communicate(timeout=60)[0]
    assert object_store.secret.encode() not in said


# -- a whole retraining --------------------------------------------------------------------------------------------

SMALL = {
    "dataset__simulate__customers": 400,
    "dataset__simulate__merchants": 120,
    "dataset__simulate__days": 95,
    "split__train_days": 30,
    "split__valid_days": 14,
    "split__test_days": 12,
    "split__min_positives": 5,
    "model__n_estimators": 60,
    "decision__alerts_per_day": 3,
    "decision__step_up_per_day": 6,
}


@pytest.mark.slow
def test_a_retraining_whose_database_goes_away_goes_on_when_it_is_back(far, postgres, object_store, tmp_path):
    def cut_off(event: dict) -> None:
        if event["status"] == "started" and event["step"] == "06_register":
            postgres.stop()

    with pytest.raises(FraudlabError, match=r"registry: the database .* must answer") as told:
        workflow.retrain(ROOT / "configs" / "demo.toml", changes=SMALL, workspace=far, progress=cut_off)
    assert told.value.exit_code == 1
    message = json.loads((far.reports / "demo.message.json").read_text())
    assert (message["status"], message["exit_code"]) == ("failed", 1)
    with pytest.raises(UnreachableError):
        tracking.models_table(tracking.open_store(far))
    postgres.start()
    assert tracking.models_table(tracking.open_store(far)).empty
    (folder,) = (path.parent for path in far.runs.glob("*/state.json"))
    run = workflow.retrain(workflow.unfinished(far, folder.name), workspace=far, resume=folder.name)
    client = tracking.open_store(far)
    assert tracking.models_table(client)["version"].tolist() == ["1"]
    assert client.get_run(run.load_json("run")["mlflow_run_id"]).info.status == "FINISHED"
    decision = run.load_json("decision")
    assert served(far) == decision["champion_after"]
    # Elsewhere the evidence is read from the object store.
    settings = settings_of(far)
    other = machine(tmp_path / "two", settings.store, settings.artifacts, object_store.endpoint)
    found = find_version(tracking.open_store(other), "demo/1")
    assert found.run == folder.name
    for name in ("metrics.csv", "run.json", "decision.json"):
        assert (found.folder / "evidence" / name).read_bytes() == (run.evidence / name).read_bytes()
    # Nothing of where it is kept, no secret and no name of this machine is in what others can read.
    texts = [path for path in (*far.reports.rglob("*"), *run.evidence.rglob("*")) if path.is_file()]
    for secret in (
        object_store.secret,
        object_store.endpoint,
        "pgpass",
        "fraudlab_writer",
        f"127.0.0.1:{postgres.port}",
    ):
        assert not [path.name for path in texts if secret.encode() in path.read_bytes()]
    again = workflow.retrain(ROOT / "configs" / "demo.toml", changes=SMALL, workspace=far)
    assert again.folder == folder
    answers = preflight(load_config(ROOT / "configs" / "demo.toml", **SMALL), far)
    assert all(answer.ok is not False for answer in answers), answers
