"""Backup of the key folder: all keys in one file, encrypted with a passphrase."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from fraudlab.privacy.keys import (
    KEY_BYTES,
    KeyDirectory,
    KeyUnavailableError,
    key_id,
    sync_folder,
    write_private,
)
from fraudlab.schema import InputError, refuse

FORMAT = "fraudlab keys 1"
SHORTEST_PASSPHRASE = 12
SCRYPT = {"n": 2**17, "r": 8, "p": 1}
"""128 MiB and about half a second a guess (OWASP, Password Storage Cheat Sheet)."""

_LARGEST = {"n": 2**20, "r": 16, "p": 4}
_SUFFIXES = (".key", ".retired")


def backup_keys(keys: KeyDirectory, path: Path, passphrase: str) -> dict[str, str]:
    """Write all keys of a folder into a new file (0600), encrypted with a passphrase; return the ids by file name.

    Returns
    -------
    Ids by the key's file name, `features.key`; a rotation that is not finished adds `features.retired`.

    Raises
    ------
    InputError : the file exists, the passphrase has fewer than 12 characters, or there is no key.
    KeyUnavailableError : a key cannot be read.

    Notes
    -----
    JSON: format, scrypt's parameters and salt, ids, nonce, and the keys under AES-256-GCM, which covers the rest too.

    References
    ----------
    RFC 7914 (scrypt); NIST SP 800-38D (GCM).
    """
    if len(passphrase) < SHORTEST_PASSPHRASE:
        raise InputError(
            f"passphrase: must have at least {SHORTEST_PASSPHRASE} characters; found {len(passphrase)}; take some words"
        )
    files = keys.files()
    found = {name: keys.read_file(name) for name in files}
    if not found:
        raise InputError(f"keys: {keys.path} holds no key; ingest a data set first")
    ids = {name: key_id(key) for name, key in found.items()}
    salt, nonce = os.urandom(16), os.urandom(12)
    made = {name: int(file.stat().st_mtime) for name, file in files.items()}
    head = {"format": FORMAT, "kdf": "scrypt", **SCRYPT, "salt": _text(salt), "nonce": _text(nonce)}
    head |= {"ids": ids, "made": made}
    plain = json.dumps({name: _text(key) for name, key in found.items()}).encode()
    sealed = AESGCM(_stretched(passphrase, head)).encrypt(nonce, plain, _bytes(head))
    _write_new(path, json.dumps({**head, "keys": _text(sealed)}, indent=1).encode() + b"\n")
    return ids


def restore_keys(keys: KeyDirectory, path: Path, passphrase: str) -> dict[str, str]:
    """Put the keys of a backup into the folder, or none of them; return the ids of those that were missing.

    Raises
    ------
    InputError : the file is no backup, or the folder holds another key under one of the names.
    KeyUnavailableError : the passphrase is wrong, or the file was changed.
    """
    opened, made = _opened(path, passphrase)
    missing, problems = {}, []
    held = keys.files()
    for name, key in opened.items():
        if name not in held:
            missing[name] = key
        elif (found := key_id(keys.read_file(name))) != key_id(key):
            problems.append(
                f"keys: {name} is another key (id {found}) than the backup's (id {key_id(key)}); nothing was restored; "
                "restore into an empty folder, or move this key away first"
            )
    refuse(problems)
    written: list[str] = []
    try:
        for name, key in missing.items():
            if not keys.add(name, key):
                raise InputError(f"keys: {name} was made by someone else just now; nothing was restored; try again")
            written.append(name)
            os.utime(keys.path / name, (made[name], made[name]))
    except BaseException:
        for name in written:
            (keys.path / name).unlink(missing_ok=True)
        raise
    return {name: key_id(key) for name, key in missing.items()}


def _opened(path: Path, passphrase: str) -> tuple[dict[str, bytes], dict[str, int]]:
    """Return the keys in a backup and when they were made, by file name, their ids checked."""
    stranger = InputError(f"backup: {path} is not a backup of keys; name the file that `fraudlab keys backup` wrote")
    try:
        held = json.loads(path.read_bytes())
        sealed = base64.b64decode(held.pop("keys"), validate=True)
        nonce = base64.b64decode(held["nonce"], validate=True)
        fits = held["format"] == FORMAT and held["kdf"] == "scrypt" and len(nonce) == 12
        # A changed file must not make us fill the memory.
        fits = fits and all(isinstance(held[name], int) and 1 <= held[name] <= most for name, most in _LARGEST.items())
        wrapping = _stretched(passphrase, held) if fits else None
    except FileNotFoundError:
        raise InputError(f"backup: no file at {path}; name the file that `fraudlab keys backup` wrote") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise stranger from None
    if wrapping is None:
        raise stranger
    try:
        plain = AESGCM(wrapping).decrypt(nonce, sealed, _bytes(held))
    except InvalidTag:
        raise KeyUnavailableError(
            f"backup: {path} does not open; the passphrase is wrong or the file was changed; nothing was restored; "
            "try again or take another copy"
        ) from None
    found = {name: base64.b64decode(key, validate=True) for name, key in json.loads(plain).items()}
    if {name: key_id(key) for name, key in found.items()} != held["ids"] or not all(map(_is_key, found.items())):
        raise stranger
    return found, held["made"]


def _is_key(entry: tuple[str, bytes]) -> bool:
    name, key = entry
    return len(key) == KEY_BYTES and Path(name).name == name and Path(name).suffix in _SUFFIXES


def _stretched(passphrase: str, head: dict[str, Any]) -> bytes:
    salt = base64.b64decode(head["salt"], validate=True)
    return Scrypt(salt=salt, length=KEY_BYTES, n=head["n"], r=head["r"], p=head["p"]).derive(passphrase.encode())


def _bytes(head: dict[str, Any]) -> bytes:
    return json.dumps(head, sort_keys=True, separators=(",", ":")).encode()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _write_new(path: Path, data: bytes) -> None:
    """Write a file for its owner only; refuse to replace one."""
    if path.exists():
        raise InputError(f"backup: {path} exists; a backup replaces nothing; name a new file")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        write_private(temporary, data)
        os.replace(temporary, path)  # no link: backups go to disks that know none
    except OSError as error:
        raise InputError(
            f"backup: {path} could not be written ({error.strerror or error}); name another place"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
