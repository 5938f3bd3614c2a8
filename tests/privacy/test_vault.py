"""The vault: whole or not at all, damaged or strange files refused, nothing readable without its key."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from fraudlab.privacy import vault as vault_module
from fraudlab.privacy.keys import KeyDirectory, KeyUnavailableError
from fraudlab.privacy.vault import DamagedError, Vault
from fraudlab.schema import FraudlabError, InputError

SECRET = "Rosalind Appleby, 12 Mill Lane"


def month(name: str, rows: int = 40, amount: float = 1.0) -> tuple[str, dict[str, pd.DataFrame]]:
    times = pd.date_range(f"{name}-01", periods=rows, freq="h", tz="UTC", unit="us")
    features = pd.DataFrame(
        {
            "transaction_id": [f"{name}-{i:04d}" for i in range(rows)],
            "event_time": times,
            "customer_id": pd.Series([f"c{i % 7}" for i in range(rows)], dtype="str"),
            "amount": [amount + i for i in range(rows)],
            "merchant_id": range(rows),
            "is_fraud": pd.array([None, True, False, False] * (rows // 4), dtype="boolean"),
        }
    ).astype({"transaction_id": "str"})
    identity = pd.DataFrame({"customer_id": ["c0", "c1"], "raw_name": [SECRET, None]}).astype("str")
    return name, {"features": features, "identity": identity}


PARTS = [month("2026-01"), month("2026-02", 60)]
FEATURES = pd.concat([tables["features"] for _, tables in PARTS], ignore_index=True)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    held = Vault(tmp_path / "vault", KeyDirectory(tmp_path / "keys"))
    held.write("demo", PARTS, {"rows": 100})
    return held


def files(vault: Vault, name: str = "*.parquet") -> list[Path]:
    return sorted(vault.root.rglob(name))


def test_what_was_written_is_read(vault: Vault) -> None:
    pd.testing.assert_frame_equal(vault.read("demo"), FEATURES)
    identity = vault.read("demo", "identity")
    assert identity["raw_name"].dropna().tolist() == [SECRET, SECRET]
    some = vault.read("demo", columns=["customer_id", "amount"])
    pd.testing.assert_frame_equal(some, FEATURES[["customer_id", "amount"]])


def test_months_after_the_moment_are_not_opened(vault: Vault) -> None:
    files(vault)[-2].write_bytes(b"damaged")  # features of 2026-02
    early = vault.read("demo", before=pd.Timestamp("2026-02-01", tz="UTC"))
    pd.testing.assert_frame_equal(early, PARTS[0][1]["features"])
    none = vault.read("demo", before=pd.Timestamp("2025-01-01", tz="UTC"))
    assert len(none) == 0
    assert none.dtypes.equals(FEATURES.dtypes)
    with pytest.raises(DamagedError):
        vault.read("demo")


def test_files_are_for_their_owner_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        Vault(tmp_path / "vault", KeyDirectory(tmp_path / "keys")).write("demo", PARTS, {})
    finally:
        os.umask(before)
    for path in (tmp_path / "vault").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_nothing_is_readable_in_the_bytes(vault: Vault) -> None:
    for path in files(vault):
        data = path.read_bytes()
        assert data[:4] == data[-4:] == b"PARE", "encrypted footer"
        assert not any(word in data for word in (b"Rosalind", b"2026-01-0001", b"raw_name", b"amount"))
        with pytest.raises((OSError, ValueError)):
            pq.read_table(path)
    manifest = (vault.root / "demo" / "manifest.json").read_text()
    assert "Rosalind" not in manifest
    entry = json.loads(manifest)["parts"][1]["files"]["features"]
    assert entry["rows"] == 60
    assert entry["schema"]["amount"] == "double"


def test_each_table_needs_its_own_key(vault: Vault) -> None:
    (vault.keys.path / "identity.key").unlink()
    assert len(vault.read("demo")) == 100
    began = time.monotonic()
    with pytest.raises(KeyUnavailableError, match=r"'identity' needs the key 'identity' with id [0-9a-f]{16}, which"):
        vault.read("demo", "identity")
    assert time.monotonic() - began < 5
    assert "identity" not in vault.keys.key_ids(), "reading makes no key"


def test_a_wrong_key_is_refused_at_once(vault: Vault, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(KeyUnavailableError, match="made with another key 'manifest'"):
        Vault(vault.root, KeyDirectory(tmp_path / "none")).read("demo")
    (vault.keys.path / "features.key").write_bytes(os.urandom(32))
    with pytest.raises(KeyUnavailableError, match="needs the key 'features'"):
        vault.read("demo")
    assert time.monotonic() - began < 5


def test_a_wrong_key_under_the_right_id_is_refused_by_the_cipher(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = vault.keys.key_ids()
    (vault.keys.path / "features.key").write_bytes(os.urandom(32))
    monkeypatch.setattr(KeyDirectory, "ids", lambda self, name: [ids[name]])
    with pytest.raises(KeyUnavailableError, match="key 'features': does not open this file"):
        vault.read("demo")


def flipped(data: bytes, position: int, bit: int) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 1 << bit
    return bytes(changed)


def test_every_flipped_bit_is_refused(vault: Vault) -> None:
    dice = random.Random(1)
    for path in [*files(vault, "features.parquet"), vault.root / "demo" / "manifest.json"]:
        whole = path.read_bytes()
        for _ in range(50):
            path.write_bytes(flipped(whole, dice.randrange(len(whole)), dice.randrange(8)))
            with pytest.raises(FraudlabError) as refusal:
                vault.read("demo")
            assert "\n" not in str(refusal.value)
            assert not vault_is_intact(vault)
        path.write_bytes(whole)
    assert len(vault.read("demo")) == 100
    assert not vault.damaged("demo")


def vault_is_intact(vault: Vault) -> bool:
    try:
        return not vault.damaged("demo")
    except FraudlabError:
        return False


def test_even_with_the_digest_unchecked_no_flip_gives_other_data(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    path = files(vault, "features.parquet")[0]
    whole, dice, refused = path.read_bytes(), random.Random(2), 0
    digest = vault_module._sha256(whole)
    monkeypatch.setattr(vault_module, "_sha256", lambda data: digest)
    for _ in range(50):
        path.write_bytes(flipped(whole, dice.randrange(len(whole)), dice.randrange(8)))
        try:
            table = vault.read("demo", before=pd.Timestamp("2026-02-01", tz="UTC"))
        except FraudlabError:
            refused += 1
        else:
            pd.testing.assert_frame_equal(table, PARTS[0][1]["features"])
    assert refused >= 40


def test_cut_missing_and_swapped_files_are_refused(vault: Vault) -> None:
    first, second = files(vault, "features.parquet")
    whole = first.read_bytes()
    for size in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        first.write_bytes(whole[:size])
        with pytest.raises(DamagedError, match=r"features\.parquet is damaged; ingest it again or restore a backup"):
            vault.read("demo")
    shutil.copy(second, first)
    with pytest.raises(DamagedError):
        vault.read("demo")
    first.unlink()
    with pytest.raises(DamagedError, match="is missing"):
        vault.read("demo")


def test_a_rewritten_manifest_is_refused(vault: Vault) -> None:
    path = vault.root / "demo" / "manifest.json"
    text = path.read_text()
    for old, new in (('"rows": 60', '"rows": 61'), ("\n", "\r\n"), ('"seal"', '"sael"')):
        path.write_text(text.replace(old, new), newline="")
        with pytest.raises(DamagedError, match="its manifest is damaged"):
            vault.manifest("demo")
    path.write_text("{")
    with pytest.raises(DamagedError):
        vault.manifest("demo")


def test_unknown_data_sets_and_tables_are_refused(vault: Vault, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no data set 'demp'; did you mean 'demo'"):
        vault.read("demp")
    with pytest.raises(InputError, match="the vault is empty; run `fraudlab ingest` first"):
        Vault(tmp_path / "other", vault.keys).read("demo")
    with pytest.raises(InputError):
        vault.read("../demo")
    vault.write("bare", [("2026-01", {"features": PARTS[0][1]["features"]})], {})
    with pytest.raises(InputError, match="has no table 'identity'"):
        vault.read("bare", "identity")


NEW = [month("2026-01", 40, amount=500.0)]


class Killed(BaseException):
    """Stands for a process that ends here and now."""


def versions(vault: Vault) -> list[str]:
    return [path.name for path in (vault.root / "demo").iterdir() if path.is_dir()]


def end_at(monkeypatch: pytest.MonkeyPatch, at: int) -> list[str]:
    """Make the `at`-th call that touches the disk end the process; nothing can be cleaned up after that."""
    calls: list[str] = []

    def ending(name: str, real: Callable) -> Callable:
        def call(*arguments: object, **named: object) -> object:
            calls.append(name)
            if len(calls) == at:
                raise Killed
            return real(*arguments, **named)

        return call

    for name in ("replace", "fsync", "open"):
        monkeypatch.setattr(os, name, ending(name, getattr(os, name)))
    monkeypatch.setattr(vault_module.shutil, "rmtree", lambda *arguments, **named: None)
    monkeypatch.setattr(Path, "unlink", lambda *arguments, **named: None)
    return calls


def test_a_kill_at_any_disk_operation_leaves_the_old_or_the_new(vault: Vault) -> None:
    outcomes: list[float] = []
    while True:
        with pytest.MonkeyPatch.context() as patch:
            calls = end_at(patch, len(outcomes) + 1)
            with contextlib.suppress(Killed):
                vault.write("demo", NEW, {})
        outcomes.append(vault.read("demo")["amount"].iloc[0])
        assert not vault.damaged("demo")
        if len(calls) < len(outcomes):
            break
        if outcomes[-1] == 500.0:
            vault.write("demo", PARTS, {"rows": 100})
    assert calls.count("replace") == 1, "one step commits"
    assert outcomes.index(500.0) == calls.index("replace") + 1, "killed before it: the old; after it: the new"
    assert set(outcomes[calls.index("replace") + 1 :]) == {500.0}
    vault.write("demo", NEW, {})
    assert len(versions(vault)) == 1, "what killed writers left is removed"


def test_a_killed_process_leaves_whole_data(vault: Vault, tmp_path: Path) -> None:
    script = tmp_path / "write.py"
    script.write_text(
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_vault import NEW, PARTS, KeyDirectory, Path, Vault\n"
        "vault = Vault(Path(sys.argv[2]), KeyDirectory(Path(sys.argv[3])))\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    vault.write('demo', NEW, {}); vault.write('demo', PARTS, {})\n"
    )
    dice = random.Random(3)
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, script, Path(__file__).parent, vault.root, vault.keys.path], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(dice.uniform(0.02, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert len(vault.read("demo")) in (40, 100)
        assert not vault.damaged("demo")
    vault.write("demo", PARTS, {})
    assert len(versions(vault)) == 1


def test_a_full_disk_changes_nothing(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.read_bytes() for path in vault.root.rglob("*") if path.is_file()}

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FraudlabError, match=r"could not be written \(No space left on device\); nothing was changed"):
        vault.write("demo", NEW, {})
    assert {path: path.read_bytes() for path in vault.root.rglob("*") if path.is_file()} == before


def test_a_commit_that_the_disk_does_not_confirm_keeps_its_tables(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, sync, replaced = os.replace, vault_module.sync_folder, []

    def replacing(*arguments: object) -> None:
        replace(*arguments)
        replaced.append(True)

    def failing(folder: Path) -> None:
        if replaced:
            raise OSError(5, "Input/output error")
        sync(folder)

    monkeypatch.setattr(os, "replace", replacing)
    monkeypatch.setattr(vault_module, "sync_folder", failing)
    with pytest.raises(FraudlabError, match=r"is written, but the disk did not confirm it \(Input/output error\)"):
        vault.write("demo", NEW, {})
    assert vault.read("demo")["amount"].iloc[0] == 500.0
    assert vault.damaged("demo") == []


@pytest.mark.parametrize("blocked", ["vault", "vault/demo", "vault/demo/.lock"])
def test_a_folder_that_cannot_be_written_is_said_in_a_sentence(tmp_path: Path, blocked: str) -> None:
    keys = KeyDirectory(tmp_path / "keys")
    (tmp_path / blocked).parent.mkdir(parents=True, exist_ok=True)
    if blocked.endswith(".lock"):
        (tmp_path / blocked).mkdir()
    else:
        (tmp_path / blocked).write_text("a file where a folder should be")
    with pytest.raises(FraudlabError, match=r"data set demo: .*demo could not be written \(.*\); nothing was changed"):
        Vault(tmp_path / "vault", keys).write("demo", PARTS, {})
    assert not keys.path.exists()


def test_a_manifest_that_cannot_be_read_is_said_in_a_sentence(vault: Vault) -> None:
    path = vault.root / "demo" / "manifest.json"
    path.unlink()
    path.mkdir()
    with pytest.raises(FraudlabError, match=r"its manifest cannot be read \(Is a directory\); correct the rights"):
        vault.manifest("demo")


def test_a_table_that_cannot_be_read_is_said_in_a_sentence(vault: Vault) -> None:
    path = files(vault, "features.parquet")[0]
    path.unlink()
    path.mkdir()
    with pytest.raises(FraudlabError, match=r"2026-01/features\.parquet cannot be read \(Is a directory\); correct"):
        vault.read("demo")


def test_damage_is_named_by_file(vault: Vault) -> None:
    assert vault.damaged("demo") == []
    first, second = files(vault, "features.parquet")
    first.write_bytes(first.read_bytes()[:-1])
    second.unlink()
    assert vault.damaged("demo") == ["2026-01/features.parquet", "2026-02/features.parquet"]


def test_a_version_replaced_while_it_is_checked_is_not_called_damaged(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, replaced = Path.read_bytes, []

    def replacing(path: Path) -> bytes:
        if path.suffix == ".parquet" and not replaced:
            replaced.append(True)
            vault.write("demo", NEW, {})
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", replacing)
    assert vault.damaged("demo") == []
    assert replaced


def test_confirming_moves_the_moment_on_and_touches_no_table(vault: Vault) -> None:
    earlier, later = pd.Timestamp("2026-03-01", tz="UTC"), pd.Timestamp("2026-03-02 01:02:03.456789", tz="UTC")
    held = vault.manifest("demo")
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files(vault)}
    confirmed = vault.confirm("demo", held["version"], later)
    assert pd.Timestamp(confirmed["known_at"]) == later
    assert vault.manifest("demo") == confirmed == {**held, "known_at": confirmed["known_at"], "seal": confirmed["seal"]}
    assert vault.confirm("demo", held["version"], earlier) == confirmed, "never back"
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files(vault)} == before
    assert stat.S_IMODE((vault.root / "demo" / "manifest.json").stat().st_mode) == 0o600
    newer = vault.write("demo", NEW, {})
    assert vault.confirm("demo", held["version"], later) == newer, "another version has come meanwhile"


def test_a_kill_while_confirming_leaves_whole_data(vault: Vault) -> None:
    version, moment = vault.manifest("demo")["version"], pd.Timestamp("2026-03-01", tz="UTC")
    seen: set[str] = set()
    for at in range(1, 20):
        with pytest.MonkeyPatch.context() as patch:
            calls = end_at(patch, at)
            with contextlib.suppress(Killed):
                vault.confirm("demo", version, moment)
        seen |= set(calls)
        assert len(vault.read("demo")) == 100
        if len(calls) < at:
            break
    assert seen == {"open", "fsync", "replace"}
    assert "known_at" in vault.manifest("demo")


def test_a_reader_overtaken_by_a_writer_gets_the_new_data(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    real, overtaken = Vault._open, []

    def overtaking(self: Vault, *arguments: object) -> object:
        if not overtaken:
            overtaken.append(True)
            self.write("demo", NEW, {})
        return real(self, *arguments)

    monkeypatch.setattr(Vault, "_open", overtaking)
    pd.testing.assert_frame_equal(vault.read("demo"), NEW[0][1]["features"])
