"""A key per customer: what is sealed under it opens only with it, and nothing of it is left once it is destroyed."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import stat
from pathlib import Path

import pandas as pd
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fraudlab.config import Workspace
from fraudlab.privacy.identities import FORMAT, IdentityStore, identities
from fraudlab.privacy.keys import KeyDirectory, KeyUnavailableError
from fraudlab.privacy.rotation import rotate
from fraudlab.privacy.vault import DamagedError, Vault
from fraudlab.schema import FraudlabError, InputError

ANN, BOB, EVE = (f"{i:032x}" for i in (0xA, 0xB, 0xE))
NAMES = {ANN: "Ann Appleby", BOB: "Bob Quux", EVE: "Eve Zhu"}
FEATURES = pd.DataFrame(
    {
        "event_time": pd.date_range("2026-01-01", periods=3, freq="D", tz="UTC", unit="us"),
        "customer_id": pd.Series([ANN, BOB, EVE], dtype="str"),
    }
)
IDENTITY = pd.DataFrame(
    {
        "customer_id": pd.Series([ANN, ANN, BOB, EVE], dtype="str"),
        "raw_name": pd.Series([NAMES[ANN], NAMES[ANN], NAMES[BOB], NAMES[EVE]], dtype="str"),
        "raw_card": pd.Series(["4242 4242 4242 4242", None, "", "4000 0000 0000 0002"], dtype="str"),
    }
)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return filled(Vault(tmp_path / "data" / "vault", KeyDirectory(tmp_path / "keys")))


def filled(vault: Vault) -> Vault:
    seal = IdentityStore.beside(vault).sealer("demo", IDENTITY["customer_id"])
    vault.write("demo", [("2026-01", {"features": FEATURES, "identity": seal(IDENTITY)})], {"identities": FORMAT})
    return vault


def rows_of(path: Path) -> dict[str, bytes]:
    """Return each customer's wrapped key, read past the module."""
    with sqlite3.connect(path) as database:
        return dict(database.execute("SELECT code, wrapped FROM customer").fetchall())


def all_bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_identities_come_back_as_they_were(vault: Vault) -> None:
    pd.testing.assert_frame_equal(identities(vault, "demo"), IDENTITY)
    one = identities(vault, "demo", columns=["raw_name"], customers=[BOB])
    assert one.to_dict("records") == [{"customer_id": BOB, "raw_name": NAMES[BOB]}]


def test_the_vaults_own_key_does_not_show_a_name(vault: Vault) -> None:
    sealed = vault.read("demo", "identity")
    assert sealed["raw_card"].isna().tolist() == IDENTITY["raw_card"].isna().tolist()
    values = [*sealed["raw_name"], *sealed["raw_card"].dropna()]
    assert not any(name.split()[0].encode().hex() in value for value in values for name in NAMES.values())
    assert sealed["raw_name"].nunique() == 4, "equal values do not look equal"


def test_a_value_is_plain_gcm_bound_to_data_set_customer_and_column(vault: Vault) -> None:
    sealed = vault.read("demo", "identity").iloc[0]
    store = IdentityStore.beside(vault)
    with sqlite3.connect(store.path) as database:
        under = database.execute("SELECT wrapped FROM dataset WHERE name = 'demo'").fetchone()[0]
    key = open_by_hand(vault.keys.unwrap("identity", under), rows_of(store.path)[ANN], f"demo\0{ANN}")
    assert open_by_hand(key, bytes.fromhex(sealed["raw_name"]), f"demo\0{ANN}\0raw_name") == NAMES[ANN].encode()


def open_by_hand(key: bytes, data: bytes, bound: str) -> bytes:
    return AESGCM(key).decrypt(data[:12], data[12:], bound.encode())


@pytest.mark.parametrize("swap", ["customers", "columns", "a bit"])
def test_a_moved_or_changed_value_is_refused(vault: Vault, swap: str) -> None:
    sealed, store = vault.read("demo", "identity"), IdentityStore.beside(vault)
    if swap == "customers":
        sealed.loc[3, "raw_name"] = sealed.loc[2, "raw_name"]
    elif swap == "columns":
        sealed.loc[3, "raw_name"] = sealed.loc[3, "raw_card"]
    else:
        sealed.loc[3, "raw_name"] = f"{int(sealed.loc[3, 'raw_name'], 16) ^ 1:x}".zfill(len(sealed.loc[3, "raw_name"]))
    with pytest.raises(DamagedError, match="column 'raw_name' was not sealed for this customer"):
        store.opened("demo", sealed)
    with pytest.raises((DamagedError, KeyUnavailableError)):
        store.opened("other", sealed)


def test_whose_key_is_destroyed_has_no_identity_any_more_in_no_copy(vault: Vault, tmp_path: Path) -> None:
    copy = shutil.copytree(vault.root, tmp_path / "copy" / "vault")
    store = IdentityStore.beside(vault)
    assert (store.holds([BOB, "ff" * 16]), store.erase([BOB]), store.holds([BOB])) == (1, 1, 0)
    assert set(identities(vault, "demo")["customer_id"]) == {ANN, EVE}
    shutil.copy(store.path, tmp_path / "copy" / "identity.db")
    older = Vault(copy, vault.keys)
    assert set(older.read("demo", "identity")["customer_id"]) == {ANN, BOB, EVE}
    assert identities(older, "demo", customers=[BOB]).empty
    assert store.erase([BOB]) == 0


def test_no_byte_of_a_destroyed_key_stays_however_the_database_has_moved_it(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    store = IdentityStore(folder / "identity.db", KeyDirectory(tmp_path / "keys"))
    dice = random.Random(5)
    codes = [f"{dice.getrandbits(128):032x}" for _ in range(3000)]
    for start in range(0, len(codes), 300):  # pages split and rows move
        store.sealer("demo", codes[start : start + 300])
    held = rows_of(store.path)
    gone = dice.sample(codes, 500)
    assert all(code.encode() in all_bytes(folder) for code in gone[:50])
    assert store.erase(gone) == 500
    left = all_bytes(folder)
    assert not any(code.encode() in left or held[code] in left for code in gone)
    stay = set(codes) - set(gone)
    assert all(code.encode() in left and held[code] in left for code in stay)
    assert {path.name for path in folder.iterdir()} <= {"identity.db", "identity.db-wal", "identity.db-shm"}


def test_a_reader_that_stays_makes_the_erasure_say_that_it_is_not_done(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fraudlab.privacy.identities._WAIT_SECONDS", 0.2)
    store = IdentityStore.beside(vault)
    wrapped = rows_of(store.path)[ANN]
    reader = sqlite3.connect(store.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM customer").fetchone()
    with pytest.raises(FraudlabError, match="call it again"):
        store.erase([ANN])
    reader.close()
    store.erase([ANN])
    assert wrapped not in all_bytes(store.path.parent)


def test_rotation_wraps_every_customers_key_anew_and_the_old_key_opens_none(vault: Vault) -> None:
    store = IdentityStore.beside(vault)
    before, old = rows_of(store.path), vault.keys.key("identity")
    with sqlite3.connect(store.path) as database:
        under = database.execute("SELECT wrapped FROM dataset").fetchone()[0]
    rotate(vault, "identity")
    pd.testing.assert_frame_equal(identities(vault, "demo"), IDENTITY)
    left = all_bytes(store.path.parent)
    assert not any(wrapped in left for wrapped in [*before.values(), under.encode()])
    assert store.made_with() == set(vault.keys.ids("identity"))
    (vault.keys.path / "identity.key").write_bytes(old)
    with pytest.raises(KeyUnavailableError):
        store.opened("demo", IDENTITY)


def test_rotation_killed_before_the_store_was_wrapped_loses_nothing(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(IdentityStore, "rekey", lambda store: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            rotate(vault, "identity")
    pd.testing.assert_frame_equal(identities(vault, "demo"), IDENTITY)
    rotate(vault, "identity")
    pd.testing.assert_frame_equal(identities(vault, "demo"), IDENTITY)
    assert len(vault.keys.ids("identity")) == 1


def test_a_lost_named_key_or_store_is_said_and_never_replaced_in_silence(vault: Vault) -> None:
    store = IdentityStore.beside(vault)
    kept = store.path.rename(store.path.with_name("kept"))
    with pytest.raises(KeyUnavailableError, match=r"identity\.db holds no customer's key of it; restore it"):
        identities(vault, "demo")
    kept.rename(store.path)
    (vault.keys.path / "identity.key").write_bytes(os.urandom(32))
    with pytest.raises(KeyUnavailableError):
        store.sealer("demo", [ANN])
    assert len(rows_of(store.path)) == 3
    before = rows_of(store.path)
    seal = store.sealer("demo", [ANN], anew=True)
    assert store.opened("demo", seal(IDENTITY.head(2)))["raw_name"].tolist() == [NAMES[ANN]] * 2
    assert rows_of(store.path).keys() == {ANN}
    assert rows_of(store.path)[ANN] != before[ANN]


def test_an_older_vault_is_not_shown_as_if_it_were_sealed(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "vault", KeyDirectory(tmp_path / "keys"))
    vault.write("demo", [("2026-01", {"features": FEATURES, "identity": IDENTITY})], {})
    with pytest.raises(InputError, match="older form, not sealed for each customer; ingest it again"):
        identities(vault, "demo")


def test_the_store_is_for_its_owner_and_where_the_workspace_says(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    store = IdentityStore.beside(Vault(workspace.vault, KeyDirectory(tmp_path / "keys")))
    assert store.path == workspace.identities
    before = os.umask(0)
    try:
        store.sealer("demo", [ANN])
        with sqlite3.connect(store.path) as database:
            database.execute("BEGIN")
            for path in store.path.parent.iterdir():
                assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(before)
    assert stat.S_IMODE(store.path.parent.stat().st_mode) == 0o700
