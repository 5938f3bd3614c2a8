"""The right to rectification: the right value wherever the wrong one was, the wrong one nowhere, and it stays so."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from fraudlab import tracking
from fraudlab.cli import app
from fraudlab.config import DatasetConfig, RunConfig, SimulateConfig, Workspace
from fraudlab.datasets import ingest, load_transactions
from fraudlab.datasets.digest import content_digest, pseudonymised
from fraudlab.datasets.rights import access, access_page, end_rectification, erase, rectify
from fraudlab.datasets.simulate import simulate
from fraudlab.features import FeatureSet, count, total
from fraudlab.privacy import lineage
from fraudlab.privacy.auditlog import audit_log
from fraudlab.privacy.identities import IdentityStore, identities
from fraudlab.privacy.keys import KeyDirectory, KeyUnavailableError
from fraudlab.privacy.rotation import rotate
from fraudlab.privacy.treatments import card_bin, movement, pseudonymise
from fraudlab.privacy.vault import Vault
from fraudlab.schema import InputError

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = ROOT / "configs" / "contracts" / "demo.toml"
SMALL = SimulateConfig(customers=50, merchants=20, days=40)
RAW = simulate(SMALL, 7)
COUNTS = RAW["customer_ref"].value_counts()
ANN, BOB = COUNTS.index[:2]
LETTER = "letter of 2026-03-01"
INVESTIGATION = "case-investigation"
POSTCODE, CARD, STREET = "QX4 7ZZ", "5555 5555 5555 4444", "17 Corrected Crescent"


def config() -> RunConfig:
    dataset = DatasetConfig(name="demo", source="simulate", contract=CONTRACT, simulate=SMALL)
    return RunConfig(name="demo", seed=7, dataset=dataset)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FRAUDLAB_KEYS", raising=False)
        ingest(config(), Workspace(root))
    return root


@pytest.fixture
def workspace(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.delenv("FRAUDLAB_KEYS", raising=False)
    shutil.copytree(made, tmp_path / "home")
    monkeypatch.setenv("FRAUDLAB_HOME", str(tmp_path / "home"))
    return Workspace(tmp_path / "home")


def vault_of(workspace: Workspace) -> Vault:
    return Vault(workspace.vault, KeyDirectory(workspace.keys))


def payments_of(reference: str) -> set[str]:
    return set(RAW.loc[RAW["customer_ref"] == reference, "payment_id"])


def split(workspace: Workspace, reference: str = ANN) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of one customer and of the others, told apart by the source's payments."""
    rows = vault_of(workspace).read("demo")
    mine = rows["transaction_id"].isin(payments_of(reference))
    return rows[mine].reset_index(drop=True), rows[~mine].reset_index(drop=True)


def state(workspace: Workspace) -> tuple[pd.DataFrame, pd.DataFrame]:
    held = identities(vault_of(workspace), "demo")
    return vault_of(workspace).read("demo"), held.sort_values(held.columns.tolist(), ignore_index=True)


def fix(workspace: Workspace, column: str, value: str | None, customer: str = ANN, **more: Any) -> dict[str, Any]:
    return rectify("demo", customer, column, value, source=LETTER, workspace=workspace, **more)


def corrected_raw(column: str, value: str, payments: set[str]) -> pd.DataFrame:
    raw = RAW.copy()
    raw.loc[raw["payment_id"].isin(payments), column] = value
    return raw


def ingested(raw: pd.DataFrame, folder: Path, keys: Path) -> Workspace:
    """Bring a table in as if its source had been right from the beginning, under the same keys."""
    folder.mkdir()
    raw.to_parquet(folder / "raw.parquet")
    place = Workspace(folder / "home")
    shutil.copytree(keys, place.keys)
    (place.keys / "audit.key").unlink()
    dataset = DatasetConfig(name="demo", source="file", contract=CONTRACT, path=folder / "raw.parquet")
    ingest(RunConfig(name="demo", dataset=dataset), place, now=RAW["paid_at"].max() + pd.Timedelta(days=60))
    return place


@pytest.mark.parametrize(
    ("column", "value"),
    [("postcode", POSTCODE), ("card_number", CARD), ("street", STREET), ("birth_date", "1931-05-05")],
)
def test_the_vault_is_as_if_the_source_had_been_right_from_the_beginning(
    workspace: Workspace, tmp_path: Path, column: str, value: str
) -> None:
    done = fix(workspace, column, value)
    assert (done["rows"], done["identity"], done["replaced"]) == (COUNTS[ANN], True, 0)
    oracle = ingested(corrected_raw(column, value, payments_of(ANN)), tmp_path / "oracle", workspace.keys)
    for ours, theirs in zip(state(workspace), state(oracle)):
        pd.testing.assert_frame_equal(ours, theirs)
    manifest = vault_of(workspace).manifest("demo")
    assert manifest["digest"] == vault_of(oracle).manifest("demo")["digest"]
    assert manifest["corrections"] == [done["correction"]]


def test_companions_follow_and_nobody_else_changes(workspace: Workspace) -> None:
    before, others = split(workspace)
    done = fix(workspace, "card_number", CARD)
    after, still = split(workspace)
    key = (workspace.keys / "pseudonym.key").read_bytes()
    text = pd.Series([CARD])
    assert set(after["card_id"]) == {pseudonymise(text, key, "card_id", form="digits")[0]}
    assert set(after["card_bin"]) == {card_bin(text)[0]} == {"555555"}
    assert sorted(done["columns"]) == ["card_bin", "card_id"]
    pd.testing.assert_frame_equal(still, others)
    unchanged = [name for name in before if name not in done["columns"]]
    pd.testing.assert_frame_equal(after[unchanged], before[unchanged])


def test_a_period_and_one_payment(workspace: Workspace) -> None:
    mine, _ = split(workspace)
    since, until = mine["event_time"].iloc[2], mine["event_time"].iloc[5]
    done = fix(workspace, "merchant_category", "groceries", since=since, until=until)
    expected = mine["merchant_category"].where(~mine["event_time"].between(since, until, inclusive="left"), "groceries")
    after, _ = split(workspace)
    assert after["merchant_category"].tolist() == expected.tolist()
    assert done["rows"] == 3
    one = mine["transaction_id"].iloc[7]
    assert fix(workspace, "amount", "12.34", transaction=one)["rows"] == 1
    after, _ = split(workspace)
    assert after["amount"].tolist() == [
        12.34 if i == one else a for i, a in zip(mine["transaction_id"], mine["amount"])
    ]
    assert set(after["merchant_category"]) == set(expected), "the first correction stands"


def test_right_can_be_that_there_is_none(workspace: Workspace) -> None:
    fix(workspace, "email", None)
    code = split(workspace)[0]["customer_id"].iloc[0]
    held = identities(vault_of(workspace), "demo", customers=[code])
    assert held["raw_email"].isna().all()
    assert split(workspace)[0]["email_domain"].isna().all()
    with pytest.raises(InputError, match=r"'amount' must be finite and >= 0; give one that fits"):
        fix(workspace, "amount", None)


def test_distance_and_speed_from_a_corrected_place_wait_for_the_next_ingest(workspace: Workspace) -> None:
    mine, _ = split(workspace)
    placed = mine.index[mine["latitude"].notna() & mine["place_km"].notna()]
    at = placed[len(placed) // 2]
    following = placed[placed > at][0]
    fix(workspace, "latitude", "48.85", transaction=mine["transaction_id"][at])
    after, _ = split(workspace)
    lost = after.index[after["place_km"].isna() & mine["place_km"].notna()].tolist()
    assert lost == [at, following]
    assert after["latitude"][at] == 48.8 or after["latitude"][at] == 48.9
    ingest(config(), workspace, force=True)
    after, _ = split(workspace)
    raw = RAW[RAW["customer_ref"] == ANN].rename(columns={"payment_id": "transaction_id", "paid_at": "event_time"})
    raw = raw.rename(columns={"customer_ref": "customer_id"}).sort_values(["event_time", "transaction_id"])
    raw = raw.reset_index(drop=True)
    raw.loc[at, "latitude"] = 48.85
    np.testing.assert_array_equal(after["place_km"], movement(raw)["distance"])


def test_the_next_ingest_of_the_same_source_keeps_what_is_right(workspace: Workspace) -> None:
    fix(workspace, "postcode", POSTCODE)
    rows, known = state(workspace)
    assert ingest(config(), workspace)["reused"]
    manifest = ingest(config(), workspace, force=True)
    assert not manifest["reused"]
    assert manifest["corrected"] == [{"column": "postcode", "rows": COUNTS[ANN]}]
    again, still = state(workspace)
    pd.testing.assert_frame_equal(again, rows)
    pd.testing.assert_frame_equal(still, known)
    assert manifest["digest"] == content_digest(rows, pseudonymised(manifest["columns"]))


def test_a_later_correction_replaces_an_earlier_one_and_no_byte_of_it_stays(workspace: Workspace) -> None:
    first = fix(workspace, "postcode", "ZZ9 9ZZ")
    sealed = IdentityStore.beside(vault_of(workspace)).corrections()[0].sealed
    second = fix(workspace, "postcode_area", POSTCODE)
    assert (first["replaced"], second["replaced"]) == (0, 1)
    store = IdentityStore.beside(vault_of(workspace))
    assert [each.id for each in store.corrections("demo")] == [second["correction"]]
    assert not any(sealed in path.read_bytes() for path in workspace.root.rglob("*") if path.is_file())
    assert set(split(workspace)[0]["postcode_area"]) == {POSTCODE[:2]}


def test_an_ended_correction_gives_way_to_the_source(workspace: Workspace) -> None:
    before = state(workspace)
    fix(workspace, "postcode", POSTCODE)
    assert end_rectification("demo", ANN, "postcode", source="source mended", workspace=workspace) == 1
    assert set(split(workspace)[0]["postcode_area"]) == {POSTCODE[:2]}, "until the next ingest"
    ingest(config(), workspace, force=True)
    for ours, earlier in zip(state(workspace), before):
        pd.testing.assert_frame_equal(ours, earlier)
    with pytest.raises(InputError, match="no correction of 'postcode' is held for this customer"):
        end_rectification("demo", ANN, "postcode", source="again", workspace=workspace)


def test_the_old_value_is_in_no_byte_and_the_new_one_in_none_in_clear(workspace: Workspace) -> None:
    old = RAW.loc[RAW["customer_ref"] == ANN, "street"].iloc[0]
    older = {path: path.read_bytes() for path in workspace.vault.rglob("*.parquet")}
    fix(workspace, "street", STREET)
    files = [path for path in workspace.root.rglob("*") if path.is_file()]
    for text in (old, STREET):
        for needle in (
            text.encode(),
            text.encode("utf-16-le"),
            text.encode().hex().encode(),
            json.dumps(text).encode(),
        ):
            assert not any(needle in path.read_bytes() for path in files)
    assert not set(older) & set(workspace.vault.rglob("*.parquet")), "no file of the older version stays"
    assert old not in set(identities(vault_of(workspace), "demo")["raw_street"]) or old in set(
        RAW.loc[RAW["customer_ref"] != ANN, "street"]
    )


def test_the_log_says_that_and_never_what(workspace: Workspace) -> None:
    done = fix(workspace, "street", STREET)
    facts = audit_log(workspace).entries("rectify")["facts"].tolist()
    assert facts == [
        {
            "dataset": "demo", "customer": done["customer"], "column": "street", "rows": COUNTS[ANN],
            "source": LETTER, "correction": done["correction"],
        }
    ]  # fmt: skip
    assert audit_log(workspace).verify().ok
    end_rectification("demo", ANN, "street", source=LETTER, workspace=workspace)
    assert audit_log(workspace).entries("rectify")["facts"].iloc[-1]["ended"] == 1


def test_access_shows_what_is_right_and_that_it_was_corrected(workspace: Workspace) -> None:
    fix(workspace, "street", STREET)
    held = access("demo", ANN, workspace=workspace)
    assert held["identity"]["street"] == [STREET]
    (told,) = held["corrections"]
    assert (told["column"], told["value"], told["source"], told["applied"]) == ("street", STREET, LETTER, True)
    assert pd.Timestamp(told["at"]) <= pd.Timestamp.now("UTC")
    page = access_page(held)
    assert page.count(STREET) == 2
    assert LETTER in page
    assert STREET not in access_page(access("demo", BOB, workspace=workspace))


def test_erasing_the_customer_erases_the_corrections(workspace: Workspace) -> None:
    fix(workspace, "street", STREET)
    store = IdentityStore.beside(vault_of(workspace))
    sealed = store.corrections()[0].sealed
    assert sealed in workspace.identities.read_bytes() + workspace.identities.with_name("identity.db-wal").read_bytes()
    erase("demo", ANN, source=LETTER, workspace=workspace)
    assert store.corrections() == []
    assert not any(sealed in path.read_bytes() for path in workspace.root.rglob("*") if path.is_file())
    assert ingest(config(), workspace, force=True)["corrected"] == []
    assert not split(workspace)[0].shape[0]


def test_after_the_identity_key_is_rotated_corrections_still_open(workspace: Workspace) -> None:
    fix(workspace, "street", STREET)
    rotate(vault_of(workspace), "identity")
    ingest(config(), workspace, force=True)
    assert access("demo", ANN, workspace=workspace)["identity"]["street"] == [STREET]


KILLED = """
import os, signal, sys
from pathlib import Path
from fraudlab.config import Workspace
from fraudlab.datasets import rectify
from fraudlab.privacy import identities, vault
from fraudlab.privacy.auditlog import AuditLog

def die(*arguments, **named):
    os.kill(os.getpid(), signal.SIGKILL)

def after(owner, name):
    real = getattr(owner, name)
    setattr(owner, name, lambda *arguments, **named: (real(*arguments, **named), die()))

step = sys.argv[2]
if step == "before": identities.IdentityStore.correct = die
if step == "noted": after(identities.IdentityStore, "correct")
if step == "written": vault.Vault._commit = die
if step == "committed": vault._clean = die
if step == "audit": AuditLog.append = die
rectify.rectify("demo", sys.argv[3], "street", sys.argv[4], source="letter of 2026-03-01",
                workspace=Workspace(Path(sys.argv[1])))
"""


@pytest.mark.parametrize(
    ("step", "by"),
    [
        ("before", "the same call"),
        ("noted", "the next ingest"),
        ("written", "the same call"),
        ("written", "the next ingest"),
        ("committed", "the next ingest"),
        ("audit", "the same call"),
    ],
)
def test_killed_at_any_step_the_vault_is_the_old_or_the_new_and_is_completed(
    workspace: Workspace, step: str, by: str
) -> None:
    before = state(workspace)
    words = [sys.executable, "-c", KILLED, str(workspace.root), step, ANN, STREET]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    now, known = state(workspace)
    pd.testing.assert_frame_equal(now, before[0])  # the street is in no loadable column
    new = step in ("committed", "audit")
    assert (STREET in set(known["raw_street"])) == new
    if not new:
        pd.testing.assert_frame_equal(known, before[1])
    if by == "the same call":
        fix(workspace, "street", STREET)
        assert len(audit_log(workspace).entries("rectify")) == 1
    else:
        assert ingest(config(), workspace)["reused"]
    assert access("demo", ANN, workspace=workspace)["identity"]["street"] == [STREET]
    assert len([path for path in (workspace.vault / "demo").iterdir() if path.is_dir()]) == 1
    assert len(IdentityStore.beside(vault_of(workspace)).corrections()) == 1


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "label": ({"column": "reported_fraud", "value": "0"}, "is what an investigation found, with the time it became"),
    "finding": ({"column": "fraud_scenario", "value": "none"}, "'fraud_scenario' is what an investigation found"),
    "key": ({"column": "customer_id", "value": "C9"}, "'customer_ref' says whose payment it is, and is corrected at"),
    "time": ({"column": "paid_at", "value": "2026-01-01T00:00Z"}, "'paid_at' puts the payments in their order"),
    "unknown": ({"column": "postcoode", "value": "1"}, "none called 'postcoode' is held; did you mean 'postcode'"),
    "dropped": ({"column": "loyalty_tier", "value": "gold"}, "none called 'loyalty_tier' is held"),
    "type": (
        {"column": "amount", "value": "much"},
        r"does not fit, and nothing was changed: demo: column 'amount' must",
    ),
    "rule": ({"column": "amount", "value": "-1"}, "'amount' must be finite and >= 0; give one that fits"),
    "date": (
        {"column": "birth_date", "value": "5.5.31"},
        "'birth_date' .for 'age_band'. must hold dates as YYYY-MM-DD",
    ),
    "malformed": (
        {"column": "email", "value": "nobody"},
        "would leave 'email_domain' empty, because the value is malf",
    ),
    "kept text": ({"column": "channel", "value": "call +4930123456789"}, "must hold no identifiers to be kept"),
    "payment": ({"column": "amount", "value": "1", "transaction": "P?"}, "holds no such payment of this customer"),
    "period": ({"column": "street", "value": "x", "since": "2026-01-10T00:00Z"}, "kept for each customer and month"),
    "both": ({"column": "amount", "value": "1", "transaction": "P1", "since": "2026-01-10T00:00Z"}, "leave them out"),
    "zone": ({"column": "amount", "value": "1", "since": "2026-01-10"}, "since: must carry a time zone"),
    "no source": ({"column": "street", "value": "x", "source": " "}, "source: is missing"),
    "identifier": ({"column": "street", "value": "x", "source": "from ann@example.com"}, "must not hold an e-mail"),
    "value": ({"column": "street", "value": STREET, "source": f"lives at {STREET}"}, "repeat neither"),
    "customer": ({"column": "street", "value": "x", "source": f"asked by {ANN}"}, "repeat neither"),
    "stranger": ({"column": "street", "value": "x", "customer": "C999999"}, "holds no such customer"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_does_not_fit_is_refused_in_a_sentence_and_nothing_changes(workspace: Workspace, why: str) -> None:
    given, sentence = REFUSED[why]
    before = state(workspace)
    asked = {"customer": ANN, "source": LETTER} | given
    with pytest.raises(InputError, match=sentence) as refused:
        rectify("demo", asked.pop("customer"), asked.pop("column"), asked.pop("value"), workspace=workspace, **asked)
    assert not any(secret in str(refused.value) for secret in (STREET, "C999999", "nobody", "+4930123456789"))
    for now, earlier in zip(state(workspace), before):
        pd.testing.assert_frame_equal(now, earlier)
    assert IdentityStore.beside(vault_of(workspace)).corrections() == []


def test_without_the_identity_key_nothing_is_changed(workspace: Workspace) -> None:
    (workspace.keys / "identity.key").rename(workspace.root / "away")
    with pytest.raises(KeyUnavailableError, match="'identity'"):
        fix(workspace, "amount", "1")
    (workspace.root / "away").rename(workspace.keys / "identity.key")
    assert IdentityStore.beside(vault_of(workspace)).corrections() == []


def package(folder: Path, feature_set: FeatureSet) -> str:
    """Write what the mark looks at: a package that names its feature set."""
    place = folder / "artifacts" / "package"
    place.mkdir(parents=True)
    (place / "package.json").write_text(json.dumps({"facts": {"feature_set": feature_set.to_dict()}}))
    return str(folder)


def test_models_that_read_the_column_and_learnt_before_are_due(workspace: Workspace, tmp_path: Path) -> None:
    client = tracking.open_store(workspace)
    client.create_registered_model("demo")
    amounts = FeatureSet("amounts", [total("amount", by="customer_id", window="7d")])
    counts = FeatureSet("counts", [count(by="customer_id", window="7d")])
    ann, bob = (split(workspace, reference)[0]["customer_id"].iloc[0] for reference in (ANN, BOB))

    def registered(name: str, features: FeatureSet, customers: list[str]) -> None:
        version = client.create_model_version("demo", source=package(tmp_path / name, features)).version
        lineage.keep(lineage.path_of(workspace.lineage, "demo", str(version)), customers)

    registered("1", amounts, [ann, bob])
    registered("2", counts, [ann, bob])
    registered("3", amounts, [bob])
    assert tracking.mark_retrain_due(workspace) == []
    fix(workspace, "street", STREET)
    assert tracking.mark_retrain_due(workspace) == [], "no model reads a street"
    one = split(workspace)[0]["transaction_id"].iloc[0]
    done = fix(workspace, "amount", "9.99", transaction=one)
    assert done["models"] == [("demo", "1"), ("demo", "2")]
    registered("4", amounts, [ann])
    reason = "correction of what it read of 1 customer"
    (due,) = tracking.mark_retrain_due(workspace)
    assert due == {"name": "demo", "version": "1", "customers": 0, "corrected": 1, "reason": reason}
    tags = client.get_model_version("demo", "1").tags
    assert tags["fraudlab.retrain_due_reason"] == reason
    assert "fraudlab.retrain_due" not in client.get_model_version("demo", "4").tags


def test_the_command_says_what_was_done_and_never_the_value(workspace: Workspace) -> None:
    words = ["privacy", "rectify", "--customer", "-", "--column", "street", "--value", "-", "--source", LETTER]
    done = CliRunner().invoke(app, words, input=f"{ANN}\n{STREET}\n")
    assert isinstance(done.exception, InputError)
    assert "say --yes" in str(done.exception)
    done = CliRunner().invoke(app, [*words, "--yes"], input=f"{ANN}\n{STREET}\n")
    assert done.exit_code == 0, done.output + str(done.exception)
    assert f"street: corrected in {COUNTS[ANN]:,} payments of one customer and the raw identity" in done.output
    assert STREET not in done.output
    assert ANN not in done.output
    assert access("demo", ANN, workspace=workspace)["identity"]["street"] == [STREET]
    done = CliRunner().invoke(app, [*words[:6], "--source", LETTER, "--end"], input=f"{ANN}\n")
    assert "1 correction(s) of 'street' ended" in done.output
    done = CliRunner().invoke(app, [*words, "--yes"], input=f"{ANN}\n")
    assert "must hold a line for each '-'" in str(done.exception)


def test_a_vault_of_an_earlier_version_asks_for_an_ingest(workspace: Workspace) -> None:
    vault = vault_of(workspace)
    manifest = vault.manifest("demo")
    vault.rewrite("demo", dict, lambda older, features: {})
    assert vault.manifest("demo")["rows"] == manifest["rows"]
    with vault._writing("demo"):
        vault._commit("demo", {key: value for key, value in vault.manifest("demo").items() if key != "contract"})
    with pytest.raises(InputError, match="earlier version, which did not keep its contract; run `fraudlab ingest`"):
        fix(workspace, "street", STREET)
    assert not ingest(config(), workspace)["reused"]
    fix(workspace, "street", STREET)


def test_a_load_shows_the_corrected_value(workspace: Workspace) -> None:
    one = split(workspace)[0]["transaction_id"].iloc[0]
    fix(workspace, "amount", "0.07", transaction=one)
    frame = load_transactions("demo", purpose=INVESTIGATION, workspace=workspace)
    assert frame.loc[frame["transaction_id"] == one, "amount"].tolist() == [0.07]
