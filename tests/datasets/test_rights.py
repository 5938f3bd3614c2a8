"""A customer's rights: erased is gone from every byte and stays gone, access shows all and nobody else, time limits."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from fraudlab import tracking, workflow
from fraudlab.cli import app
from fraudlab.config import DatasetConfig, RunConfig, SimulateConfig, Workspace
from fraudlab.datasets import ingest, load_transactions
from fraudlab.datasets.digest import content_digest, pseudonymised
from fraudlab.datasets.rights import access, access_page, erase, replay_erasures, retention
from fraudlab.datasets.simulate import simulate
from fraudlab.privacy import lineage
from fraudlab.privacy.auditlog import audit_log
from fraudlab.privacy.consent import Ledger
from fraudlab.privacy.identities import identities
from fraudlab.privacy.keys import KeyDirectory, KeyUnavailableError
from fraudlab.privacy.vault import Vault
from fraudlab.schema import FraudlabError, InputError

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = ROOT / "configs" / "contracts" / "demo.toml"
SMALL = SimulateConfig(customers=50, merchants=20, days=40)
RAW = simulate(SMALL, 7)
COUNTS = RAW["customer_ref"].value_counts()
ANN, BOB, EVE = COUNTS.index[:3]
LETTER = "letter of 2026-03-01"
PURPOSES = ("fraud-model-training", "typology-review", "fraud-detection", "case-investigation")
RAW_COLUMNS = ["customer_ref", "card_number", "customer_name", "email", "phone", "street", "birth_date", "postcode"]


def config(name: str, seed: int) -> RunConfig:
    dataset = DatasetConfig(name=name, source="simulate", contract=CONTRACT, simulate=SMALL)
    return RunConfig(name=name, seed=seed, dataset=dataset)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FRAUDLAB_KEYS", raising=False)
        ingest(config("demo", 7), Workspace(root))
        ingest(config("other", 8), Workspace(root))
    return root


@pytest.fixture
def workspace(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.delenv("FRAUDLAB_KEYS", raising=False)
    shutil.copytree(made, tmp_path / "home")
    monkeypatch.setenv("FRAUDLAB_HOME", str(tmp_path / "home"))
    return Workspace(tmp_path / "home")


def vault_of(workspace: Workspace) -> Vault:
    return Vault(workspace.vault, KeyDirectory(workspace.keys))


def code_of(workspace: Workspace, reference: str) -> str:
    """Find a pseudonym by a payment, not by the code under test."""
    payment = RAW.loc[RAW["customer_ref"] == reference, "payment_id"].iloc[0]
    frame = vault_of(workspace).read("demo", columns=["transaction_id", "customer_id"])
    return frame.loc[frame["transaction_id"] == payment, "customer_id"].iloc[0]


def wrapped_keys(workspace: Workspace, code: str) -> list[bytes]:
    with sqlite3.connect(workspace.identities) as database:
        found = database.execute("SELECT wrapped FROM customer WHERE code = ?", (code,)).fetchall()
    database.close()
    return [wrapped for (wrapped,) in found]


def found_in(workspace: Workspace, *needles: bytes) -> set[str]:
    """Return the files of the workspace that hold any of some bytes."""
    files = [path for path in workspace.root.rglob("*") if path.is_file()]
    return {p.relative_to(workspace.root).as_posix() for p in files if any(n in p.read_bytes() for n in needles)}


def identity_of(reference: str) -> list[bytes]:
    person = RAW[RAW["customer_ref"] == reference]
    values = {str(value) for name in ("card_number", "email", "phone") for value in person[name].dropna()}
    return [value.encode() for value in values]


def readable_rows(workspace: Workspace, code: str) -> dict[str, int]:
    """Count what the vault still says of a customer, per data set, past the loader."""
    vault = vault_of(workspace)
    return {
        name: int((vault.read(name, columns=["customer_id"])["customer_id"] == code).sum())
        for name in ("demo", "other")
    }


def assert_gone(workspace: Workspace, code: str, keys: list[bytes], reference: str) -> None:
    assert readable_rows(workspace, code) == {"demo": 0, "other": 0}
    for name in ("demo", "other"):
        assert code not in set(identities(vault_of(workspace), name)["customer_id"])
        assert code not in set(vault_of(workspace).read(name, "identity")["customer_id"])
    assert not found_in(workspace, *keys, *identity_of(reference))
    assert found_in(workspace, code.encode()) <= {"data/ledger.db", "data/ledger.db-wal"}
    for name in ("demo", "other"):
        folders = [path for path in (workspace.vault / name).iterdir() if path.is_dir()]
        assert len(folders) == 1, "no older version stays"


def test_an_erased_customer_is_in_no_byte_but_the_ledgers_pseudonym(workspace: Workspace) -> None:
    code, vault = code_of(workspace, ANN), vault_of(workspace)
    keys = wrapped_keys(workspace, code)
    assert len(keys) == 2, "one for each data set"
    assert found_in(workspace, code.encode()) >= {"data/identity.db"}
    before = {name: vault.manifest(name) for name in ("demo", "other")}
    done = erase("demo", ANN, source=LETTER, workspace=workspace)
    assert done["data_sets"]["demo"] == COUNTS[ANN]
    assert (done["customers"], done["keys"], done["already"]) == ([code], 2, 0)
    assert_gone(workspace, code, keys, ANN)
    for name in ("demo", "other"):
        manifest, rows = vault.manifest(name), vault.read(name)
        assert manifest["rows"] == len(rows) == before[name]["rows"] - done["data_sets"][name]
        assert manifest["digest"] == content_digest(rows, pseudonymised(manifest["columns"])) != before[name]["digest"]
    entry = audit_log(workspace).entries("erase")["facts"].iloc[0]
    assert (entry["count"], entry["events"]) == (1, [str(number) for number in done["events"]])
    assert audit_log(workspace).verify().ok


def test_everyone_else_keeps_every_value(workspace: Workspace) -> None:
    code, vault = code_of(workspace, ANN), vault_of(workspace)
    rows, known = vault.read("demo"), identities(vault, "demo")
    erase("demo", ANN, source=LETTER, workspace=workspace)
    pd.testing.assert_frame_equal(vault.read("demo"), rows[rows["customer_id"] != code].reset_index(drop=True))
    pd.testing.assert_frame_equal(identities(vault, "demo"), known[known["customer_id"] != code].reset_index(drop=True))


def test_ingest_never_brings_an_erased_customer_back(workspace: Workspace) -> None:
    code = code_of(workspace, ANN)
    keys = wrapped_keys(workspace, code)
    erase("demo", ANN, source=LETTER, workspace=workspace)
    manifest = vault_of(workspace).manifest("demo")
    assert ingest(config("demo", 7), workspace)["reused"]
    again = ingest(config("demo", 7), workspace, force=True)
    assert not again["reused"]
    assert (again["rows"], again["digest"]) == (manifest["rows"], manifest["digest"])
    assert_gone(workspace, code, keys, ANN)


def test_erased_while_an_ingest_goes_on_is_erased_after_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, real = code_of(workspace, ANN), Vault.write

    def write(self: Vault, *arguments: object) -> dict:
        Ledger(workspace.ledger).record(code, "*", "erasure", source=LETTER)
        return real(self, *arguments)

    monkeypatch.setattr(Vault, "write", write)
    manifest = ingest(config("demo", 7), workspace, force=True)
    assert manifest["rows"] == len(RAW) - COUNTS[ANN]
    assert readable_rows(workspace, code)["demo"] == 0


def test_after_an_older_copy_is_put_back_the_replay_erases_again(workspace: Workspace, tmp_path: Path) -> None:
    code = code_of(workspace, ANN)
    keys = wrapped_keys(workspace, code)
    shutil.copytree(workspace.root / "data", tmp_path / "backup")
    erase("demo", ANN, source=LETTER, workspace=workspace)
    for name in ("vault", "identity.db"):
        target = workspace.root / "data" / name
        shutil.rmtree(target) if target.is_dir() else target.unlink()
        shutil.move(tmp_path / "backup" / name, target)
    held = identities(vault_of(workspace), "demo", customers=[code])
    assert set(held["raw_customer_ref"]) == {ANN}, "the old copy does hold the customer"
    frame = load_transactions("demo", purpose=PURPOSES[0], workspace=workspace)
    assert code not in set(frame["customer_id"]), "and still no load returns it"
    replayed = replay_erasures(workspace)
    assert replayed["data_sets"]["demo"] == COUNTS[ANN]
    assert replayed["keys"] == 2
    assert_gone(workspace, code, keys, ANN)
    assert replay_erasures(workspace) == {"keys": 0, "data_sets": {}}
    assert audit_log(workspace).entries("erase")["facts"].iloc[-1]["replayed"]


def test_an_older_vault_alone_no_longer_opens_the_identity(workspace: Workspace, tmp_path: Path) -> None:
    code = code_of(workspace, ANN)
    shutil.copytree(workspace.vault, tmp_path / "vault")
    erase("demo", ANN, source=LETTER, workspace=workspace)
    shutil.copy(workspace.identities, tmp_path / "identity.db")
    older = Vault(tmp_path / "vault", KeyDirectory(workspace.keys))
    assert code in set(older.read("demo", "identity")["customer_id"])
    assert identities(older, "demo", customers=[code]).empty


def test_several_customers_go_in_one_pass_and_twice_is_once(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = [code_of(workspace, reference) for reference in (ANN, BOB)]
    passes, real = [], Vault.rewrite
    monkeypatch.setattr(Vault, "rewrite", lambda self, name, *more: passes.append(name) or real(self, name, *more))
    done = erase("demo", [ANN, codes[1], ANN], source=LETTER, workspace=workspace)
    assert sorted(done["customers"]) == sorted(codes)
    assert sorted(passes) == ["demo", "other"]
    again = erase("demo", [ANN, BOB], source="a reminder", workspace=workspace)
    assert (again["already"], again["keys"], again["data_sets"]) == (2, 0, {})
    assert again["events"] == done["events"]
    assert len(Ledger(workspace.ledger).events()) == 2
    assert len(passes) == 2


KILLED = """
import os, signal, sys
from pathlib import Path
from fraudlab.config import Workspace
from fraudlab.datasets import rights
from fraudlab.privacy import identities, vault
from fraudlab.privacy.auditlog import AuditLog
from fraudlab.privacy.consent import Ledger

def die(*arguments, **named):
    os.kill(os.getpid(), signal.SIGKILL)

def before(owner, name):
    setattr(owner, name, die)

def after(owner, name):
    real = getattr(owner, name)
    setattr(owner, name, lambda *arguments, **named: (real(*arguments, **named), die()))

step = sys.argv[2]
if step == "ledger": after(Ledger, "record")
if step == "deleted": before(identities, "_scrub")
if step == "keys": after(identities.IdentityStore, "erase")
if step == "written": before(vault.Vault, "_commit")
if step == "committed": before(vault, "_clean")
if step == "vault": after(vault.Vault, "rewrite")
if step == "audit": before(AuditLog, "append")
rights.erase("demo", sys.argv[3], source="letter of 2026-03-01", workspace=Workspace(Path(sys.argv[1])))
"""


@pytest.mark.parametrize("step", ["ledger", "deleted", "keys", "written", "committed", "vault", "audit"])
def test_killed_at_any_step_no_load_returns_the_customer_and_the_same_call_completes_it(
    workspace: Workspace, step: str
) -> None:
    code = code_of(workspace, ANN)
    keys = wrapped_keys(workspace, code)
    ended = subprocess.run([sys.executable, "-c", KILLED, str(workspace.root), step, ANN], check=False)
    assert ended.returncode == -signal.SIGKILL
    for purpose in PURPOSES:
        frame = load_transactions("demo", purpose=purpose, workspace=workspace)
        assert code not in set(frame["customer_id"])
        assert len(frame) == len(RAW) - COUNTS[ANN]
    done = erase("demo", ANN, source=LETTER, workspace=workspace)
    assert done["already"] == 1
    assert_gone(workspace, code, keys, ANN)
    assert len(Ledger(workspace.ledger).events()) == 1
    assert len(audit_log(workspace).entries("erase")) == 1


def test_unknown_references_are_refused_and_nothing_is_done(workspace: Workspace) -> None:
    with pytest.raises(InputError, match="found 1 of 2 that are empty or not held; nothing was erased") as refused:
        erase("demo", [ANN, "C999999"], source=LETTER, workspace=workspace)
    assert "C999999" not in str(refused.value)
    with pytest.raises(InputError, match="source and note: must not hold an e-mail"):
        erase("demo", ANN, source="mail from ann@example.com", workspace=workspace)
    assert not workspace.ledger.exists() or Ledger(workspace.ledger).events().empty
    assert readable_rows(workspace, code_of(workspace, ANN))["demo"] == COUNTS[ANN]


def test_a_data_set_whose_key_is_elsewhere_is_named_and_the_call_is_completed_later(workspace: Workspace) -> None:
    code = code_of(workspace, ANN)
    keys = wrapped_keys(workspace, code)
    away = (workspace.keys / "identity.key").rename(workspace.keys.parent / "away")
    with pytest.raises(FraudlabError, match=r"the ledger holds it, so no load returns these customers.*'identity'"):
        erase("demo", ANN, source=LETTER, workspace=workspace)
    frame = load_transactions("demo", purpose=PURPOSES[0], workspace=workspace)
    assert code not in set(frame["customer_id"])
    away.rename(workspace.keys / "identity.key")
    erase("demo", ANN, source=LETTER, workspace=workspace)
    assert_gone(workspace, code, keys, ANN)


def registered(workspace: Workspace, versions: dict[str, list[str]]) -> None:
    client = tracking.open_store(workspace)
    client.create_registered_model("demo")
    for customers in versions.values():
        version = client.create_model_version("demo", source=str(workspace.root)).version
        lineage.keep(lineage.path_of(workspace.lineage, "demo", str(version)), customers)


def test_models_trained_on_the_erased_are_marked_and_the_others_are_not(workspace: Workspace) -> None:
    ann, bob, eve = (code_of(workspace, reference) for reference in (ANN, BOB, EVE))
    registered(workspace, {"1": [ann, bob, eve], "2": [bob, eve], "3": [eve]})
    assert tracking.models_trained_on(workspace, bob) == [("demo", "1"), ("demo", "2")]
    assert tracking.mark_retrain_due(workspace) == []
    done = erase("demo", [ANN, BOB], source=LETTER, workspace=workspace)
    assert done["models"] == [("demo", "1"), ("demo", "2")]
    began = pd.Timestamp.now("UTC").floor("s")
    due = tracking.mark_retrain_due(workspace)
    assert [(each["version"], each["customers"]) for each in due] == [("1", 2), ("2", 1)]
    client = tracking.open_store(workspace)
    tags = {version: client.get_model_version("demo", version).tags for version in "123"}
    assert tags["1"]["fraudlab.retrain_due_reason"] == "erasure of 2 customers that it was trained on"
    assert tags["2"]["fraudlab.retrain_due_reason"] == "erasure of 1 customer that it was trained on"
    assert pd.Timestamp(tags["1"]["fraudlab.retrain_due"]) >= began
    assert "fraudlab.retrain_due" not in tags["3"]
    assert tracking.mark_retrain_due(workspace) == due
    assert client.get_model_version("demo", "1").tags == tags["1"], "marking again changes nothing"
    erase("demo", EVE, source=LETTER, workspace=workspace)
    assert [each["customers"] for each in tracking.mark_retrain_due(workspace)] == [3, 2, 1]
    since = client.get_model_version("demo", "1").tags["fraudlab.retrain_due"]
    assert since == tags["1"]["fraudlab.retrain_due"], "due since the first erasure"


def test_fifty_models_are_searched_in_milliseconds(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    everyone = rng.integers(0, 2**64, 90_000, dtype="uint64")
    for version in range(50):
        chosen = np.unique(rng.choice(everyone, 80_000, replace=False))
        lineage.keep(tmp_path / "demo" / f"{version}.npy", chosen)
    code = f"{everyone[0]:016x}" + "0" * 16
    oracle = [("demo", str(v)) for v in range(50) if everyone[0] in set(np.load(tmp_path / "demo" / f"{v}.npy"))]
    times = []
    for _ in range(5):
        began = time.perf_counter()
        found = lineage.trained_on(tmp_path, [code])
        times.append(time.perf_counter() - began)
    assert list(found) == oracle
    assert 0 < len(oracle) < 50
    print(f"\n50 models of 80,000 customers: {1000 * min(times):.1f} ms")
    assert min(times) < 0.25
    path = tmp_path / "demo" / "7.npy"
    assert (path.stat().st_size, stat.S_IMODE(path.stat().st_mode)) == (640_128, 0o600)


@pytest.mark.slow
def test_the_next_retrain_says_so_and_its_model_never_saw_the_erased(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FRAUDLAB_KEYS", raising=False)
    monkeypatch.setattr(workflow, "code_digest", lambda project: "the same code throughout")
    workspace = Workspace(tmp_path)
    small = {
        "dataset__simulate__customers": 400, "dataset__simulate__merchants": 120, "dataset__simulate__days": 95,
        "split__train_days": 30, "split__valid_days": 14, "split__test_days": 12, "split__min_positives": 5,
        "model__n_estimators": 60, "decision__alerts_per_day": 3, "decision__step_up_per_day": 6,
    }  # fmt: skip
    demo, events = ROOT / "configs" / "demo.toml", []

    def retrain() -> workflow.Run:
        events.clear()
        return workflow.retrain(demo, changes=small, workspace=workspace, progress=events.append)

    retrain()
    retrain()
    assert [event["status"] for event in events] == ["reused"]
    rows = vault_of(workspace).read("demo", columns=["event_time", "customer_id"])
    code = rows["customer_id"].iloc[0]
    assert tracking.models_trained_on(workspace, code) == [("demo", "1")]
    erase("demo", code, source=LETTER, workspace=workspace)
    run = retrain()
    assert {key: events[0][key] for key in ("status", "version", "customers", "corrected")} == {
        "status": "retrain_due", "version": "1", "customers": 1, "corrected": 0,
    }  # fmt: skip
    assert [event["step"] for event in events[-2:]] == ["report", "queue"]
    assert run.load_json("run")["model_version"] == "2"
    assert tracking.models_trained_on(workspace, code) == [("demo", "1")]
    retrain()
    assert [event["status"] for event in events] == ["reused"], "once is enough"


class Cells(HTMLParser):
    """Reads a page's table cells, and refuses what a page for a customer must not have."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.inside = False

    def handle_starttag(self, tag: str, attributes: list) -> None:
        assert tag not in ("script", "img", "iframe", "link")
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "td"

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1][-1] += data


def written(value: object) -> str:
    """Write a value of the vault as the page for a customer does."""
    if pd.isna(value):
        return ""
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def test_access_shows_every_held_value_once_and_nothing_of_another(workspace: Workspace) -> None:
    code, vault = code_of(workspace, ANN), vault_of(workspace)
    Ledger(workspace.ledger).record(
        code, "typology-review", "objection", basis="legitimate-interest", source="<b>a letter</b>", note="by & by"
    )
    audit_log(workspace).append("reidentify", dataset="demo", customer=code, reason="call back on alert 17")
    audit_log(workspace).append("reidentify", dataset="demo", customer=code_of(workspace, BOB), reason="alert 18")
    lineage.keep(lineage.path_of(workspace.lineage, "demo", "4"), [code])
    lineage.keep(lineage.path_of(workspace.lineage, "demo", "5"), [code_of(workspace, BOB)])
    held = access("demo", ANN, workspace=workspace)
    page = access_page(held)
    cells = Cells()
    cells.feed(page)
    rows = vault.read("demo")
    mine = rows[rows["customer_id"] == code]
    for row in mine.to_dict("records"):
        assert cells.rows.count([written(value) for value in row.values()]) == 1
    person = RAW[RAW["customer_ref"] == ANN]
    for column in [*RAW_COLUMNS, "device_fingerprint", "ip_address"]:
        values = set(person[column].dropna().astype(str)) if column in held["identity"] else set()
        assert set(held["identity"].get(column, [])) == values
        for value in values:
            assert cells.rows.count([column.replace("_", " ").capitalize(), value]) == 1
    assert set(RAW_COLUMNS) <= set(held["identity"])
    assert len(held["transactions"]) == len(mine) == COUNTS[ANN]
    for other in RAW["customer_ref"].unique():
        if other != ANN:
            assert not any(needle.decode() in page for needle in [other.encode(), *identity_of(other)])
    others = set(rows.loc[rows["customer_id"] != code, "transaction_id"]) | {code_of(workspace, BOB)}
    assert not any(other in page for other in others)
    assert [(e["event"], e["source"]) for e in held["events"]] == [("objection", "<b>a letter</b>")]
    assert "&lt;b&gt;a letter&lt;/b&gt;" in page
    assert "<b>" not in page
    assert [entry["facts"]["reason"] for entry in held["audit"]] == ["call back on alert 17"]
    assert held["models"] == [{"name": "demo", "version": "4"}]
    assert [(p["purpose"], p["retention_days"]) for p in held["purposes"]] == list(zip(PURPOSES, (730, 730, 365, 365)))
    assert json.loads(json.dumps(held, allow_nan=False)) == held
    assert audit_log(workspace).entries("access")["facts"].iloc[0]["customer"] == code


def test_access_needs_the_identity_key_and_a_customer(workspace: Workspace) -> None:
    with pytest.raises(InputError, match="holds nothing on such a customer") as refused:
        access("demo", "C999999", workspace=workspace)
    assert "C999999" not in str(refused.value)
    (workspace.keys / "identity.key").unlink()
    with pytest.raises(KeyUnavailableError, match="'identity'"):
        access("demo", ANN, workspace=workspace)


def test_after_an_erasure_access_shows_that_only_the_event_is_left(workspace: Workspace) -> None:
    erase("demo", ANN, source=LETTER, workspace=workspace)
    held = access("demo", ANN, workspace=workspace)
    assert (held["transactions"], held["models"]) == ([], [])
    assert not any(held["identity"].values())
    assert [event["event"] for event in held["events"]] == ["erasure"]


def file_set(workspace: Workspace, times: pd.DatetimeIndex, known_at: str = "2026-11-01T00:00:00+00:00") -> Vault:
    """Write a data set as if a file had brought it: purposes of 10 and 40 days, a customer a row."""
    codes = [f"{i:032x}" for i in range(len(times))]
    frame = pd.DataFrame(
        {"event_time": times.as_unit("us"), "customer_id": pd.Series(codes, dtype="str"), "amount": 1.0}
    )
    columns = [
        {"name": name, "treatment": "keep", "purposes": ["short", "long"], "identity": False, "source": name}
        for name in frame.columns
    ]
    purposes = {
        name: {"basis": "legitimate-interest", "meaning": name, "retention_days": days}
        for name, days in (("short", 10), ("long", 40))
    }
    facts = {"dataset": "file", "columns": columns, "purposes": purposes, "known_at": known_at, "digest": ""}
    vault, months = vault_of(workspace), frame["event_time"].dt.strftime("%Y-%m")
    parts = [
        (m, {"features": f.reset_index(drop=True), "identity": f[["customer_id"]]}) for m, f in frame.groupby(months)
    ]
    vault.write("file", parts, facts)
    return vault


def test_a_row_is_kept_to_the_microsecond_of_its_time(workspace: Workspace) -> None:
    now, tick = pd.Timestamp("2026-11-01", tz="UTC"), pd.Timedelta(1, "us")
    edges = [now - pd.Timedelta(days=days) for days in (40, 10)]
    vault = file_set(workspace, pd.DatetimeIndex([m + k * tick for m in edges for k in (-1, 0, 1)]))
    seen = {p: load_transactions("file", purpose=p, now=now, workspace=workspace) for p in ("short", "long")}
    assert seen["long"]["event_time"].tolist() == [
        edges[0],
        edges[0] + tick,
        *(edges[1] + k * tick for k in (-1, 0, 1)),
    ]
    assert seen["short"]["event_time"].tolist() == [edges[1], edges[1] + tick]
    assert (seen["short"].attrs["past_retention"], seen["long"].attrs["past_retention"]) == (4, 1)
    early = load_transactions("file", purpose="long", now=now - tick, workspace=workspace)
    assert len(early) == 6
    told = retention("file", now=now, dry_run=True, workspace=workspace)
    assert told[["purpose", "days", "past", "goes"]].to_numpy().tolist() == [["short", 10, 4, 1], ["long", 40, 1, 1]]
    assert told["oldest"].tolist() == [edges[0] - tick] * 2
    assert len(vault.read("file")) == 6, "a dry run removes nothing"
    retention("file", now=now, workspace=workspace)
    assert vault.read("file")["event_time"].min() == edges[0]
    assert f"{0:032x}" not in set(vault.read("file", "identity")["customer_id"])
    assert vault.manifest("file")["rows"] == 5
    assert audit_log(workspace).entries("retention")["facts"].iloc[0]["rows"] == 1
    assert retention("file", now=now, workspace=workspace)["goes"].tolist() == [0, 0]


def test_whole_months_go_and_the_others_are_not_written_anew(workspace: Workspace) -> None:
    vault = file_set(workspace, pd.date_range("2026-07-15", "2026-10-20", freq="D", tz="UTC"))
    digests = {part["month"]: part["files"]["features"]["sha256"] for part in vault.manifest("file")["parts"]}
    retention("file", now=pd.Timestamp("2026-10-11", tz="UTC"), workspace=workspace)
    left = {part["month"]: part["files"]["features"]["sha256"] for part in vault.manifest("file")["parts"]}
    assert left == {month: digests[month] for month in ("2026-09", "2026-10")}
    assert vault.read("file")["event_time"].min() == pd.Timestamp("2026-09-01", tz="UTC")


def test_when_all_is_past_an_empty_data_set_stays(workspace: Workspace) -> None:
    vault = file_set(workspace, pd.date_range("2026-07-15", periods=40, freq="D", tz="UTC"))
    retention("file", now=pd.Timestamp("2030-01-01", tz="UTC"), workspace=workspace)
    assert vault.read("file").empty
    assert load_transactions("file", purpose="long", workspace=workspace).empty
    assert retention("file", workspace=workspace)["past"].tolist() == [0, 0]


def test_loads_of_a_file_count_to_the_clock_and_simulated_payments_to_their_own_end(workspace: Workspace) -> None:
    clock = pd.Timestamp.now("UTC")
    file_set(workspace, pd.DatetimeIndex([clock - pd.Timedelta(days=d) for d in (41, 39, 11, 9)]), clock.isoformat())
    assert len(load_transactions("file", purpose="long", workspace=workspace)) == 3
    assert len(load_transactions("file", purpose="short", workspace=workspace)) == 1
    assert load_transactions("demo", purpose=PURPOSES[2], workspace=workspace).attrs["past_retention"] == 0
    late = RAW["paid_at"].max() + pd.Timedelta(days=365)
    seen = load_transactions("demo", purpose=PURPOSES[2], now=late, workspace=workspace)
    assert len(seen) == (RAW["paid_at"] == RAW["paid_at"].max()).sum()


def run_cli(*words: str, typed: str = "") -> str:
    done = CliRunner().invoke(app, ["privacy", *words], input=typed)
    assert done.exit_code == 0, done.output + str(done.exception)
    return done.output


def test_the_commands_say_what_was_done_and_what_comes_next(workspace: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "answer"
    said = run_cli("access", "--customer", "-", "--out", str(out), typed=f"{ANN}\n")
    assert f"{COUNTS[ANN]:,} payments" in said
    assert ANN not in said
    files = sorted(out.iterdir())
    assert [path.suffix for path in files] == [".html", ".json"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in (out, *files)] == [0o700, 0o600, 0o600]
    assert json.loads(files[1].read_text())["identity"]["customer_ref"] == [ANN]
    registered(workspace, {"1": [code_of(workspace, ANN)]})
    said = run_cli("erase", "--customer", "-", "--source", LETTER, "--yes", typed=f"{ANN}\n{BOB}\n")
    assert "2 customer(s) erased; 4 key(s) of raw identities destroyed." in said
    assert "model demo version 1: trained on 1 of the erased" in said
    assert "Next: fraudlab retrain" in said
    tags = tracking.open_store(workspace).get_model_version("demo", "1").tags
    assert tags["fraudlab.retrain_due_reason"] == "erasure of 1 customer that it was trained on"
    said = run_cli("retention", "--dry-run")
    assert "case-investigation" in said
    assert "0 rows to go" in said


def test_erasing_without_yes_and_a_source_with_the_reference_are_refused(workspace: Workspace) -> None:
    done = CliRunner().invoke(app, ["privacy", "erase", "--customer", ANN, "--source", LETTER])
    assert isinstance(done.exception, InputError)
    done = CliRunner().invoke(app, ["privacy", "erase", "--customer", ANN, "--source", f"asked by {ANN}", "--yes"])
    assert isinstance(done.exception, InputError)
    assert ANN not in str(done.exception)
    assert not workspace.ledger.exists()
