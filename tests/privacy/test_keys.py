"""Keys: made once, closed to others, and useless for anything they were not made for."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

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
    import base64

    key = bytes(32)
    sealed = base64.b64decode(wrap(key, b"data key", "features"))
    assert AESGCM(key).decrypt(sealed[:12], sealed[12:], b"features") == b"data key"
