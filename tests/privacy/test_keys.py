"""Keys: made once, closed to others, and useless for anything they were not made for."""

from __future__ import annotations

import base64
import json
import os
import stat
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from typer.testing import CliRunner

from fraudlab.cli import app
from fraudlab.privacy import keybackup
from fraudlab.privacy.keys import KeyDirectory, KeyUnavailableError, key_id, unwrap, wrap
from fraudlab.schema import InputError


def test_a_key_is_made_on_first_use_and_stays(tmp_path: Path) -> None:
    keys = KeyDirectory(tmp_path / "deep" / "keys")
    assert keys.key_ids() == {}
    assert not keys.path.exists(), "asking makes nothing"
    first = keys.key("features")
    assert len(first) == 32
    assert keys.key("features") == KeyDirectory(keys.path).key("features") == first
    assert keys.key("identity") != first
    assert keys.key_ids() == {"features": key_id(first), "identity": key_id(keys.key("identity"))}
    assert first.hex()[:16] not in keys.key_ids().values()


def test_keys_are_closed_to_others_whatever_the_umask(tmp_path: Path) -> None:
    keys = KeyDirectory(tmp_path / "keys")
    before = os.umask(0)
    try:
        keys.key("features")
    finally:
        os.umask(before)
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in keys.path.iterdir()] == [0o600]


def test_of_many_that_come_first_all_get_one_key(tmp_path: Path) -> None:
    for attempt in range(20):
        keys, start, found = KeyDirectory(tmp_path / str(attempt)), threading.Barrier(8), []

        def ask(keys: KeyDirectory = keys, start: threading.Barrier = start, found: list = found) -> None:
            start.wait()
            found.append(keys.key("features"))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 8
        assert len(set(found)) == 1
        assert [path.name for path in keys.path.iterdir()] == ["features.key"], "no temporary file stays"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_open_key_files_are_refused(tmp_path: Path, mode: int) -> None:
    keys = KeyDirectory(tmp_path / "keys")
    keys.key("features")
    (keys.path / "features.key").chmod(mode)
    with pytest.raises(KeyUnavailableError, match=rf"closed to other accounts; found mode {mode:o}; run: chmod"):
        keys.key("features")


def test_open_folders_and_damaged_keys_are_refused(tmp_path: Path) -> None:
    keys = KeyDirectory(tmp_path / "keys")
    keys.path.mkdir(mode=0o755)
    with pytest.raises(KeyUnavailableError, match="found mode 755; run: chmod 700"):
        keys.key("features")
    assert not list(keys.path.iterdir())
    keys.path.chmod(0o700)
    keys.key("features")
    (keys.path / "features.key").write_bytes(b"x" * 31)
    with pytest.raises(KeyUnavailableError, match="'features': must have 32 bytes; found 31; restore"):
        keys.key("features")
    with pytest.raises(InputError, match="lower-case letters"):
        keys.key("../features")


def test_a_key_folder_that_cannot_be_made_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for path in (tmp_path / "file", tmp_path / "file" / "keys"):
        keys = KeyDirectory(path)
        with pytest.raises(KeyUnavailableError, match=r"key 'features': .* could not be used \(.*\); correct"):
            keys.key("features")
        assert keys.key_ids() == {}


def test_wrapping_is_bound_to_key_name_and_bytes() -> None:
    key, secret = os.urandom(32), os.urandom(32)
    wrapped = wrap(key, secret, "features")
    assert unwrap(key, wrapped, "features") == secret
    assert unwrap(key, wrap(key, secret, "identity"), "identity") == secret
    assert wrap(key, secret, "features") != wrapped, "a fresh nonce each time"
    flipped = bytearray(wrapped.encode())
    flipped[20] ^= 1
    for attempt in (
        (os.urandom(32), wrapped, "features"),
        (key, wrapped, "identity"),
        (key, bytes(flipped), "features"),
    ):
        with pytest.raises(KeyUnavailableError, match="does not open this file"):
            unwrap(*attempt)
    with pytest.raises(KeyUnavailableError):
        unwrap(key, "not base64!", "features")


def test_wrapping_is_plain_aes_gcm() -> None:
    key = bytes(32)
    sealed = base64.b64decode(wrap(key, b"data key", "features"))
    assert AESGCM(key).decrypt(sealed[:12], sealed[12:], b"features") == b"data key"


# McGrew and Viega, The Galois/Counter Mode of Operation (GCM), test case 15 (AES-256, no associated data).
GCM_KEY = bytes.fromhex("feffe9928665731c6d6a8f9467308308" * 2)
GCM_NONCE = bytes.fromhex("cafebabefacedbaddecaf888")
GCM_PLAIN = bytes.fromhex(
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255"
)
GCM_SEALED = bytes.fromhex(
    "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
    "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad"
    "b094dac5d93471bdec1a502270e3cc6c"
)


def test_wrapping_agrees_with_the_published_gcm_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    published = base64.b64encode(GCM_NONCE + GCM_SEALED).decode()
    assert unwrap(GCM_KEY, published, "") == GCM_PLAIN
    monkeypatch.setattr(os, "urandom", lambda size: GCM_NONCE[:size])
    assert wrap(GCM_KEY, GCM_PLAIN, "") == published


def test_keyed_digests_agree_with_rfc_4231(tmp_path: Path) -> None:
    keys = KeyDirectory(tmp_path / "keys")
    # Test case 1 has a key of 20 bytes; HMAC fills keys up with zeros, so these 32 bytes are the same key.
    keys.add("manifest.key", b"\x0b" * 20 + bytes(12))
    published = "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
    assert keys.hmac("manifest", b"Hi There").hex() == published
    assert keys.hmac("manifest", b"Hi There", key=keys.make("manifest")).hex() == published
    with pytest.raises(KeyUnavailableError, match="key 'manifest': is not here or belongs to another account"):
        keys.hmac("manifest", b"Hi There", key="0" * 16)


def test_opening_makes_no_key(tmp_path: Path) -> None:
    keys = KeyDirectory(tmp_path / "keys")
    for ask in (
        lambda: keys.unwrap("features", wrap(bytes(32), bytes(32), "features")),
        lambda: keys.hmac("features", b"x", key="0" * 16),
        lambda: keys.begin_rotation("features"),
    ):
        with pytest.raises(KeyUnavailableError, match="restore it from its backup or ask its owner"):
            ask()
    assert keys.ids("features") == keys.held() == []
    assert not keys.path.exists()


def test_a_retired_key_opens_until_its_rotation_ends(tmp_path: Path) -> None:
    keys = KeyDirectory(tmp_path / "keys")
    wrapped, old = keys.wrap("features", b"data key"), keys.make("features")
    digest = keys.hmac("features", b"message")
    keys.begin_rotation("features")
    keys.begin_rotation("features")  # goes on, makes no third
    new = keys.make("features")
    assert keys.ids("features") == [new, old]
    assert keys.key_ids() == {"features": new}
    assert [key.retired for key in keys.held()] == [False, True]
    assert keys.unwrap("features", wrapped) == b"data key"
    assert keys.hmac("features", b"message", key=old) == digest != keys.hmac("features", b"message")
    assert unwrap(keys.key("features"), keys.wrap("features", b"data key"), "features") == b"data key"
    keys.end_rotation("features")
    keys.end_rotation("features")
    assert keys.ids("features") == [new]
    with pytest.raises(KeyUnavailableError, match="does not open this file"):
        keys.unwrap("features", wrapped)


def test_ending_a_rotation_that_brought_no_new_key_destroys_nothing(tmp_path: Path) -> None:
    keys = KeyDirectory(tmp_path / "keys")
    held = keys.key("features")
    os.link(keys.path / "features.key", keys.path / "features.retired")  # killed right after its first step
    assert keys.ids("features") == [key_id(held)]
    keys.end_rotation("features")
    assert keys.key("features") == held
    assert [path.name for path in keys.path.iterdir()] == ["features.key"]


# The command line


@pytest.mark.parametrize("command", ["list", "rotate", "backup", "restore", "serve"])
def test_every_keys_command_shows_an_example(command: str) -> None:
    result = CliRunner().invoke(app, ["keys", command, "--help"], terminal_width=200)
    assert result.exit_code == 0
    assert f"Example: fraudlab keys {command}" in result.output


def test_backing_up_restoring_and_listing_at_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAUDLAB_HOME", str(tmp_path))
    monkeypatch.delenv("FRAUDLAB_KEYS", raising=False)
    monkeypatch.setattr(keybackup, "SCRYPT", {"n": 2**10, "r": 8, "p": 1})
    run = CliRunner().invoke
    assert "This account has no key yet. Next: fraudlab ingest" in run(app, ["keys", "list"]).output
    keys, file, words = KeyDirectory(tmp_path / ".keys"), str(tmp_path / "backup.json"), tmp_path / "words"
    held = {name: keys.key(name) for name in ("features", "identity")}
    os.utime(keys.path / "features.key", (0, 0))
    differing = run(app, ["keys", "backup", file], input="first words here\nother words here\n" * 3)
    assert differing.exit_code == 1
    assert not Path(file).exists()
    asked = run(app, ["keys", "backup", file], input="first words here\nfirst words here\n")
    assert asked.exit_code == 0, asked.output
    assert "first words" not in asked.output
    (keys.path / "identity.key").unlink()
    words.write_text("first words here\n")
    words.chmod(0o644)
    refused = run(app, ["keys", "restore", file, "--passphrase-file", str(words)])
    assert "must be closed to others; found mode 644; run: chmod 600" in str(refused.exception)
    words.chmod(0o600)
    with words.open() as source:
        restored = run(app, ["keys", "restore", file, "--passphrase-fd", str(os.dup(source.fileno()))])
    assert key_id(held["identity"]) in restored.output
    assert {name: keys.key(name) for name in held} == held
    again = run(app, ["keys", "restore", file, "--passphrase-file", str(words)])
    assert "all its keys are here already. Next: fraudlab keys list" in again.output
    listed = json.loads(run(app, ["keys", "list", "--json"]).output)
    assert listed.pop(0)["name"] == "audit"  # made by what was logged meanwhile
    assert [(key["name"], key["id"]) for key in listed] == [(name, key_id(key)) for name, key in held.items()]
    assert listed[0]["age_days"] > 20_000 > 1 > listed[1]["age_days"]
    assert listed[0]["readers"].endswith(" only")
    assert listed[0]["data_sets"] == []
