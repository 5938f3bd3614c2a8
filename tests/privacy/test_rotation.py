"""Rotation and backup: everything stays readable whatever happens, and what is retired opens nothing."""

from __future__ import annotations

import json
import os
import random
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from pyarrow.parquet.encryption import CryptoFactory, DecryptionConfiguration, KmsClient, KmsConnectionConfig

from fraudlab.privacy import journal, keybackup
from fraudlab.privacy.journal import InUseError, Journal
from fraudlab.privacy.keybackup import backup_keys, restore_keys
from fraudlab.privacy.keys import KeyDirectory, KeyUnavailableError, key_id
from fraudlab.privacy.rotation import rotate, users
from fraudlab.privacy.vault import DamagedError, Vault
from fraudlab.schema import FraudlabError, InputError

FEATURES = pd.DataFrame(
    {
        "event_time": pd.date_range("2026-01-01", periods=50, freq="h", tz="UTC", unit="us"),
        "customer_id": pd.Series([f"c{i % 7}" for i in range(50)], dtype="str"),
        "amount": [i / 8 for i in range(50)],
        "is_fraud": pd.array([None, True, False, False, None] * 10, dtype="boolean"),
    }
)
IDENTITY = pd.DataFrame({"customer_id": ["c0"], "raw_name": ["Rosalind Appleby"]}).astype("str")
PARTS = [
    ("2026-01", {"features": FEATURES.iloc[:20], "identity": IDENTITY}),
    ("2026-02", {"features": FEATURES.iloc[20:], "identity": IDENTITY}),
]
NAMES = ("features", "identity", "manifest")


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    held = Vault(tmp_path / "vault", KeyDirectory(tmp_path / "keys"))
    held.write("demo", PARTS, {"rows": 50})
    held.write("other", PARTS[:1], {"rows": 20})
    return held


def whole(vault: Vault) -> None:
    """Everything is there, is what was written, and is not damaged."""
    pd.testing.assert_frame_equal(vault.read("demo"), FEATURES)
    pd.testing.assert_frame_equal(vault.read("other"), FEATURES.iloc[:20])
    assert vault.read("demo", "identity")["raw_name"].tolist() == ["Rosalind Appleby"] * 2
    assert vault.damaged("demo") == vault.damaged("other") == []


def key_files(vault: Vault) -> list[str]:
    return sorted(path.name for path in vault.keys.path.iterdir())


class Plain(KmsClient):
    """A reader that knows nothing of fraudlab: AES-GCM with key bytes that somebody holds."""

    def __init__(self, key: bytes) -> None:
        super().__init__()
        self.key = key

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> str:
        raise NotImplementedError

    def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:
        import base64

        sealed = base64.b64decode(wrapped_key)
        return AESGCM(self.key).decrypt(sealed[:12], sealed[12:], master_key_identifier.encode())


def read_with(path: Path, key: bytes) -> pd.DataFrame:
    factory = CryptoFactory(lambda connection: Plain(key))
    properties = factory.file_decryption_properties(KmsConnectionConfig(), DecryptionConfiguration())
    return pq.read_table(path, decryption_properties=properties, partitioning=None).to_pandas()


@pytest.mark.parametrize("name", ["features", "identity"])
def test_rotated_files_differ_hold_the_same_and_the_retired_key_opens_nothing(
    vault: Vault, tmp_path: Path, name: str
) -> None:
    old = vault.keys.key(name)
    (vault.keys.path / f".{name}.key.0123456789abcdef").write_bytes(old)
    before = {path.relative_to(vault.root).parts[-2:]: path.read_bytes() for path in vault.root.rglob("*.parquet")}
    copy = tmp_path / "copy.parquet"
    copy.write_bytes(next(vault.root.glob(f"demo/*/2026-01/{name}.parquet")).read_bytes())
    ids, manifests = vault.keys.key_ids(), {each: vault.manifest(each) for each in ("demo", "other")}
    seen: list[tuple[str, int, int]] = []
    done = rotate(vault, name, progress=lambda *step: seen.append(step))
    assert done == {
        "name": name, "id": vault.keys.key_ids()[name], "resumed": False, "data_sets": ["demo", "other"], "states": [],
        "rows": 70 if name == "features" else 3,
    }  # fmt: skip
    assert [step for step in seen if step[1] == step[2]][-1][0] == "other"
    new = vault.keys.key(name)
    assert new != old
    assert {k: v for k, v in vault.keys.key_ids().items() if k != name} == {k: v for k, v in ids.items() if k != name}
    whole(vault)
    files = list(vault.root.rglob(f"{name}.parquet"))
    assert len(files) == 3
    for path in files:
        assert read_with(path, new) is not None
        with pytest.raises(InvalidTag):
            read_with(path, old)
    assert len(read_with(copy, old)) > 0, "the same reader opens what was made before"
    for path in vault.root.rglob("*.parquet"):
        same = path.read_bytes() == before[path.relative_to(vault.root).parts[-2:]]
        if path.relative_to(vault.root).parts[0] == "demo":
            assert same == (path.stem != name), "files of other keys are copied byte for byte"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for dataset, manifest in manifests.items():
        after = vault.manifest(dataset)
        assert {k: v for k, v in after.items() if k not in ("version", "keys", "parts", "seal")} == {
            k: v for k, v in manifest.items() if k not in ("version", "keys", "parts", "seal")
        }
        assert after["keys"] == {**manifest["keys"], name: key_id(new)}
    assert key_files(vault) == [f"{each}.key" for each in sorted(NAMES)], "nor a copy that a killed process left"
    assert not any(old in path.read_bytes() for path in vault.keys.path.iterdir())


def test_a_rotated_seal_is_the_new_keys(vault: Vault) -> None:
    before = {path: path.read_bytes() for path in vault.root.rglob("*.parquet")}
    old, seal = vault.keys.key("manifest"), vault.manifest("demo")["seal"]
    assert rotate(vault, "manifest")["data_sets"] == ["demo", "other"]
    assert vault.manifest("demo")["seal"] != seal
    whole(vault)
    assert {path: path.read_bytes() for path in vault.root.rglob("*.parquet")} == before
    stale = KeyDirectory(vault.keys.path.parent / "stale")
    stale.path.mkdir(mode=0o700)
    stale.add("manifest.key", old)
    with pytest.raises(KeyUnavailableError, match="made with another key 'manifest'"):
        Vault(vault.root, stale).manifest("demo")


def test_rotating_needs_no_other_key(vault: Vault) -> None:
    identity = vault.keys.path / "identity.key"
    held = identity.read_bytes()
    identity.unlink()
    rotate(vault, "features")
    assert not identity.exists()
    identity.write_bytes(held)
    identity.chmod(0o600)
    whole(vault)


def in_a_process(work: Callable[[], object]) -> int:
    """Run in a forked process; return its id."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child


def killed_at(vault: Vault, name: str, at: int) -> bool:
    """Rotate in a process that dies by signal 9 at its `at`-th disk operation; return whether it came so far."""

    def work() -> None:
        count = 0

        def dying(real: Callable) -> Callable:
            def call(*arguments: object, **named: object) -> object:
                nonlocal count
                count += 1
                if count == at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*arguments, **named)

            return call

        for operation in ("open", "link", "replace", "fsync", "unlink", "mkdir", "rmdir"):
            setattr(os, operation, dying(getattr(os, operation)))
        rotate(vault, name)

    return os.WIFSIGNALED(os.waitpid(in_a_process(work), 0)[1])


@pytest.mark.parametrize("name", ["features", "manifest"])
def test_a_kill_at_any_disk_operation_leaves_everything_readable(vault: Vault, name: str) -> None:
    first, step, resumed = vault.keys.key_ids()[name], 0, 0
    while True:
        step += 1
        died = killed_at(vault, name, step)
        whole(vault)
        if not died:
            break
        resumed += rotate(vault, name)["resumed"]
        whole(vault)
        assert key_files(vault) == [f"{each}.key" for each in sorted(NAMES)], "and nothing is left behind"
        assert {path.name for path in (vault.root / "demo").iterdir() if path.is_dir()} == {
            vault.manifest("demo")["version"]
        }
        if step > 12:
            step += 3  # the first steps change the key; later ones are alike
    assert step > 15
    assert resumed > 3
    assert vault.keys.key_ids()[name] != first


def test_kill_9_at_random_moments_leaves_everything_readable(vault: Vault) -> None:
    def forever() -> None:
        while True:
            for name in NAMES:
                rotate(vault, name)

    dice, seen = random.Random(5), set()
    for _ in range(12):
        child = in_a_process(forever)
        time.sleep(dice.uniform(0.005, 0.25))
        os.kill(child, signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
        whole(vault)
        seen.add(tuple(sorted(vault.keys.key_ids().values())))
    assert len(seen) > 2, "it was at work"
    for name in NAMES:
        rotate(vault, name)
    whole(vault)
    assert key_files(vault) == [f"{each}.key" for each in sorted(NAMES)]


def test_readers_and_writers_go_on_while_a_key_rotates(vault: Vault) -> None:
    def forever() -> None:
        while True:
            for name in NAMES:
                rotate(vault, name)

    child = in_a_process(forever)
    try:
        until = time.monotonic() + 1.5
        rounds = 0
        while time.monotonic() < until:
            whole(vault)
            vault.write("demo", PARTS, {"rows": 50})
            rounds += 1
        assert rounds > 3
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    whole(vault)


def test_an_interrupted_rotation_is_no_loss_to_a_writer(vault: Vault) -> None:
    for name in NAMES:
        vault.keys.begin_rotation(name)
    assert {name: len(vault.keys.ids(name)) for name in NAMES} == dict.fromkeys(NAMES, 2)
    whole(vault)
    vault.confirm("demo", vault.manifest("demo")["version"], pd.Timestamp("2026-03-01", tz="UTC"))
    vault.write("other", PARTS[:1], {"rows": 20})
    whole(vault)
    assert vault.manifest("other")["keys"] == vault.keys.key_ids()
    for name in NAMES:
        assert rotate(vault, name)["resumed"]
    whole(vault)
    assert set(users(vault)) == set(vault.keys.key_ids().values())


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("pseudonym", r"'pseudonym' is not rotated: every customer would .*`fraudlab ingest --new-pseudonyms`"),
        ("audit", r"'audit' is not rotated: the log made so far could no longer be checked"),
        ("audit-sign", "'audit-sign' is not rotated"),
        ("featurs", r"no key 'featurs' to rotate; did you mean 'features'\?"),
    ],
)  # fmt: skip
def test_keys_that_are_not_rotated_say_what_to_do(vault: Vault, name: str, sentence: str) -> None:
    vault.keys.key("pseudonym")
    before = {path.name: path.read_bytes() for path in vault.keys.path.iterdir()}
    with pytest.raises(InputError, match=sentence):
        rotate(vault, name)
    assert {path.name: path.read_bytes() for path in vault.keys.path.iterdir()} == before


def test_what_would_stop_half_way_is_refused_before_anything_changes(vault: Vault) -> None:
    keys = {path.name: path.read_bytes() for path in vault.keys.path.iterdir()}
    victim = next(vault.root.glob("other/*/*/identity.parquet"))
    data = victim.read_bytes()
    victim.write_bytes(data[:-1])
    with pytest.raises(DamagedError, match=r"other: 1 of its files are damaged .*; nothing was changed; ingest"):
        rotate(vault, "features")
    victim.write_bytes(data)
    (vault.keys.path / "features.key").write_bytes(os.urandom(32))
    with pytest.raises(KeyUnavailableError, match=r"made with a key 'features' \(id [0-9a-f]{16}\) that is not"):
        rotate(vault, "features")
    assert {name: data for name, data in keys.items() if name != "features.key"} == {
        path.name: path.read_bytes() for path in vault.keys.path.iterdir() if path.name != "features.key"
    }
    with pytest.raises(InputError, match="there is no key 'features' yet; ingest a data set first"):
        rotate(Vault(vault.root, KeyDirectory(vault.root.parent / "none")), "features")


def test_two_rotations_do_not_meet(vault: Vault) -> None:
    def again(*step: object) -> None:
        with pytest.raises(FraudlabError, match="another rotation is going on"):
            rotate(vault, "identity")

    rotate(vault, "features", progress=again)
    whole(vault)


# What live scoring remembers

GROUPS = [b"first group", b"second group", b"third group"]


@pytest.fixture
def states(vault: Vault) -> Vault:
    """A vault with live states of two models beside it, the one killed in the middle of its work."""
    for model in ("demo", "other"):
        with Journal(vault.root.parent / "scoring" / model, vault.keys) as kept:
            kept.snapshot({"model": model, "number": 7}, f"state of {model}".encode())
            for group in GROUPS if model == "demo" else ():
                kept.append(group)
    with (vault.root.parent / "scoring" / "demo" / "journal-000001.sealed").open("ab") as file:
        file.write(b"\0\0\1\0torn")
    return vault


def states_whole(vault: Vault) -> None:
    for model, groups in (("demo", GROUPS), ("other", [])):
        with Journal(vault.root.parent / "scoring" / model, vault.keys) as kept:
            assert kept.recover() == ({"model": model, "number": 7}, f"state of {model}".encode(), groups)


def test_what_live_scoring_remembers_comes_under_the_new_key(states: Vault, tmp_path: Path) -> None:
    old, before = states.keys.key("scoring"), states.keys.key_ids()
    assert users(states)[before["scoring"]] == ["live state of demo", "live state of other"]
    done = rotate(states, "scoring")
    assert (done["states"], done["data_sets"], done["rows"]) == (["demo", "other"], [], 0)
    assert users(states)[done["id"]] == ["live state of demo", "live state of other"]
    assert before["scoring"] not in users(states)
    states_whole(states)
    stale = KeyDirectory(tmp_path / "stale")
    stale.path.mkdir(mode=0o700)
    stale.add("scoring.key", old)
    for folder in journal.state_folders(states.root):
        files = sorted(path.name for path in folder.glob("*.sealed"))
        assert files == ["journal-000002.sealed", "state-000002.sealed"], "those under the old key are gone"
        for path in folder.glob("*.sealed"):
            with pytest.raises(KeyUnavailableError, match=r"sealed under another key 'scoring'"):
                journal.read_sealed(path, stale)
    whole(states)
    assert key_files(states) == sorted([*(f"{each}.key" for each in NAMES), "scoring.key"])
    with Journal(states.root.parent / "scoring" / "demo", states.keys) as kept:
        assert not kept.rekey(), "all of it is under the current key"


def test_a_key_is_not_rotated_under_a_monitor_at_work(states: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in states.keys.path.iterdir()}
    with Journal(states.root.parent / "scoring" / "other", states.keys):
        with pytest.raises(InUseError, match="state 'other': another process scores with it; stop that one") as refused:
            rotate(states, "scoring")
        assert refused.value.exit_code == 75
        assert {path.name: path.read_bytes() for path in states.keys.path.iterdir()} == before
    late: list[Journal] = []
    begin = KeyDirectory.begin_rotation

    def just_before(keys: KeyDirectory, name: str) -> None:
        late.append(Journal(states.root.parent / "scoring" / "late", keys))
        late[0].snapshot({}, b"under the old key")
        begin(keys, name)

    monkeypatch.setattr(KeyDirectory, "begin_rotation", just_before)
    with pytest.raises(InUseError, match="state 'late'"):
        rotate(states, "scoring")
    monkeypatch.undo()
    assert len(states.keys.ids("scoring")) == 2, "both stay, so that everything opens"
    late[0].append(b"and goes on")
    late[0].close()
    states_whole(states)
    done = rotate(states, "scoring")
    assert (done["resumed"], done["states"]) == (True, ["demo", "late", "other"])
    assert len(states.keys.ids("scoring")) == 1
    with Journal(states.root.parent / "scoring" / "late", states.keys) as kept:
        assert kept.recover() == ({}, b"under the old key", [b"and goes on"])


def test_a_state_that_cannot_be_read_stops_a_rotation_before_anything_changes(states: Vault) -> None:
    path = states.root.parent / "scoring" / "other" / "state-000001.sealed"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DamagedError, match=r"'state-000001\.sealed': is not what was written there; .* --fresh"):
        rotate(states, "scoring")
    assert len(states.keys.ids("scoring")) == 1
    path.write_bytes(data)
    states_whole(states)
    with pytest.raises(InputError, match="there is no key 'scoring' yet; nobody has scored payments with it"):
        rotate(Vault(states.root, KeyDirectory(states.root.parent / "none")), "scoring")


def test_a_kill_at_any_disk_operation_loses_nothing_that_live_scoring_remembers(states: Vault) -> None:
    first, step, resumed = states.keys.key_ids()["scoring"], 0, 0
    while True:
        step += 1
        died = killed_at(states, "scoring", step)
        states_whole(states)
        if not died:
            break
        resumed += rotate(states, "scoring")["resumed"]
        states_whole(states)
        assert all(len(list(folder.glob("*.sealed"))) == 2 for folder in journal.state_folders(states.root))
        assert len(users(states)) == len(NAMES) + 1
        if step > 12:
            step += 2  # the first steps change the key; later ones are alike
    assert step > 25
    assert resumed > 3
    assert states.keys.key_ids()["scoring"] != first


# Backup

WORDS = "four words and more"


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """scrypt as it is, at a cost for tests."""
    monkeypatch.setattr(keybackup, "SCRYPT", {"n": 2**10, "r": 8, "p": 1})


def test_a_backup_brings_every_key_back(vault: Vault, tmp_path: Path) -> None:
    vault.keys.begin_rotation("features")
    held = {path.name: path.read_bytes() for path in vault.keys.path.iterdir()}
    os.utime(vault.keys.path / "identity.key", (1.7e9, 1.7e9))
    file = tmp_path / "backup.json"
    ids = backup_keys(vault.keys, file, WORDS)
    assert ids == {name: key_id(key) for name, key in held.items()}
    assert "features.retired" in ids
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not any(key in file.read_bytes() or key.hex().encode() in file.read_bytes() for key in held.values())
    elsewhere = KeyDirectory(tmp_path / "elsewhere")
    assert restore_keys(elsewhere, file, WORDS) == ids
    assert {path.name: path.read_bytes() for path in elsewhere.path.iterdir()} == held
    assert {stat.S_IMODE(path.stat().st_mode) for path in elsewhere.path.iterdir()} == {0o600}
    assert stat.S_IMODE(elsewhere.path.stat().st_mode) == 0o700
    assert (elsewhere.path / "identity.key").stat().st_mtime == 1.7e9, "a key's age is restored too"
    whole(Vault(vault.root, elsewhere))
    (elsewhere.path / "identity.key").unlink()
    assert restore_keys(elsewhere, file, WORDS) == {"identity.key": ids["identity.key"]}
    assert restore_keys(elsewhere, file, WORDS) == {}


def test_a_backup_is_scrypt_and_aes_gcm_as_written_in_it(vault: Vault, tmp_path: Path) -> None:
    import base64

    backup_keys(vault.keys, tmp_path / "backup.json", WORDS)
    held = json.loads((tmp_path / "backup.json").read_text())
    assert (held["n"], held["r"], held["p"]) == (131072, 8, 1)
    sealed = base64.b64decode(held.pop("keys"))
    salt, nonce = base64.b64decode(held["salt"]), base64.b64decode(held["nonce"])
    key = Scrypt(salt=salt, length=32, n=held["n"], r=held["r"], p=held["p"]).derive(WORDS.encode())
    plain = AESGCM(key).decrypt(nonce, sealed, json.dumps(held, sort_keys=True, separators=(",", ":")).encode())
    assert base64.b64decode(json.loads(plain)["features.key"]) == vault.keys.key("features")


@pytest.mark.usefixtures("cheap")
def test_a_wrong_passphrase_and_any_flipped_bit_restore_nothing(vault: Vault, tmp_path: Path) -> None:
    file, elsewhere = tmp_path / "backup.json", KeyDirectory(tmp_path / "elsewhere")
    backup_keys(vault.keys, file, WORDS)
    with pytest.raises(KeyUnavailableError, match="the passphrase is wrong or the file was changed; nothing"):
        restore_keys(elsewhere, file, "other words and more")
    data, dice = file.read_bytes(), random.Random(3)
    refused = 0
    for _ in range(60):
        changed = bytearray(data)
        changed[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        file.write_bytes(changed)
        try:
            restore_keys(elsewhere, file, WORDS)
        except FraudlabError:
            refused += 1
        else:
            assert json.loads(changed) == json.loads(data), "only a blank between words changes nothing"
            for path in elsewhere.path.iterdir():
                path.unlink()
        assert not elsewhere.path.exists() or not list(elsewhere.path.iterdir())
    assert refused > 50
    for strange in (b"", b"[]", b"{}", b"\xff", json.dumps({**json.loads(data), "n": 2**40}).encode()):
        file.write_bytes(strange)
        with pytest.raises(InputError, match="is not a backup of keys"):
            restore_keys(elsewhere, file, WORDS)
    with pytest.raises(InputError, match="no file at"):
        restore_keys(elsewhere, tmp_path / "none", WORDS)


@pytest.mark.usefixtures("cheap")
def test_another_key_under_the_same_name_stays(vault: Vault, tmp_path: Path) -> None:
    file, elsewhere = tmp_path / "backup.json", KeyDirectory(tmp_path / "elsewhere")
    backup_keys(vault.keys, file, WORDS)
    mine = elsewhere.key("identity")
    with pytest.raises(InputError, match=r"keys: identity\.key is another key .*; nothing was restored; restore"):
        restore_keys(elsewhere, file, WORDS)
    assert [path.name for path in elsewhere.path.iterdir()] == ["identity.key"]
    assert elsewhere.key("identity") == mine
    with pytest.raises(InputError, match="exists; a backup replaces nothing; name a new file"):
        backup_keys(vault.keys, file, WORDS)
    with pytest.raises(InputError, match="passphrase: must have at least 12 characters; found 5"):
        backup_keys(vault.keys, tmp_path / "new.json", "short")
    with pytest.raises(InputError, match=r"could not be written \(No such file or directory\)"):
        backup_keys(vault.keys, tmp_path / "none" / "new.json", WORDS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup.json", "elsewhere", "keys", "vault"]
