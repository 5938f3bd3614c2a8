"""What a scorer has learnt, kept through crashes: a sealed snapshot and, beside it, a journal of what came since.

    state-000007.sealed      "fraudlab journal 1\\n", a head that says how many frames follow: the snapshot in pieces
    journal-000007.sealed    the same head's form, then a frame per group of events, in the order they came

A group is on the disk before anything of it is answered: append, fsync, then apply. A snapshot is written under a
temporary name, synced, renamed; then a new journal begins, and only then the older pair goes. So at any moment the
newest whole snapshot with its journal tells everything that was acknowledged, once.

Each file is encrypted under a key of its own, wrapped by the key `scoring`. A frame is 4 bytes of length, big-endian,
and AES-256-GCM with the frame's number as nonce, bound to the head: a frame that is changed, moved or left out does not
open. A torn last frame is what a crash leaves of a group that nobody was told of: it is cut off.

Nothing but a journal's end ever changes, so whoever copies the newest pair of files, the snapshot first, has a state
that was: a backup needs no lock. Who writes anew what is kept (`fraudlab keys rotate scoring`) takes the lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fraudlab.privacy.keys import KEY_BYTES, Keys, KeyUnavailableError, sync_folder
from fraudlab.privacy.vault import DamagedError
from fraudlab.schema import FraudlabError

KEY = "scoring"
FOLDER = "scoring"
"""Beside the vault; holds a folder for each model."""
MAGIC = b"fraudlab journal 1\n"
LONGEST_HEAD = 1 << 16
PIECE = 1 << 26
"""Bytes of a snapshot in one frame: AES-GCM takes two gigabytes at a time, and a state may be larger."""


class InUseError(FraudlabError):
    """Another process scores with this state."""

    exit_code = 75


class Sealed:
    """One sealed file of frames, open for appending."""

    def __init__(self, path: Path, keys: Keys, facts: dict[str, Any]) -> None:
        own = os.urandom(KEY_BYTES)
        head = json.dumps({**facts, "key": keys.make(KEY), "wrapped": keys.wrap(KEY, own)}).encode()
        self.path = path
        self._bound = hashlib.sha256(head).digest()
        self._cipher = AESGCM(own)
        self._number = 0
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._file = os.fdopen(handle, "wb", buffering=0)
        self._write(MAGIC + len(head).to_bytes(4, "big") + head + self._bound)

    def append(self, data: bytes | memoryview, *, sync: bool = True) -> None:
        """Write one frame; with `sync` it is on the disk when this returns."""
        sealed = self._cipher.encrypt(self._number.to_bytes(12, "big"), data, self._bound)
        self._write(len(sealed).to_bytes(4, "big") + sealed)
        self._number += 1
        if sync:
            os.fdatasync(self._file.fileno())

    def close(self) -> None:
        """Close the file, all of it on the disk."""
        if not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]


def read_sealed(path: Path, keys: Keys) -> tuple[dict[str, Any], list[bytes], int | None]:
    """Return a sealed file's facts, its whole frames, and where a torn last frame begins (None: there is none).

    Raises
    ------
    KeyUnavailableError : its key is not here.
    DamagedError : a byte of it is not what was written.
    """
    data = path.read_bytes()
    damaged = DamagedError(
        f"state '{path.name}': is not what was written there; restore it from a backup, or begin anew from the vault "
        "with --fresh"
    )
    found = _head(data)
    if found is None:
        raise damaged
    head, end = found
    facts, bound = json.loads(head), data[end : end + 32]
    if facts["key"] not in keys.ids(KEY):
        raise KeyUnavailableError(
            f"state '{path.name}': is sealed under another key '{KEY}' (id {facts['key']}) than is held here; restore "
            "the keys from their backup, or begin anew from the vault with --fresh"
        )
    cipher = AESGCM(keys.unwrap(KEY, facts["wrapped"]))
    frames: list[bytes] = []
    at = end + 32
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        frame = data[at + 4 : at + 4 + size]
        last = at + 4 + size >= len(data)
        if len(frame) < size or size < 16:
            if last or not any(data[at:]):
                return facts, frames, at
            raise damaged
        try:
            frames.append(cipher.decrypt(len(frames).to_bytes(12, "big"), frame, bound))
        except InvalidTag:
            raise damaged from None
        at += 4 + size
    return facts, frames, None


def _head(data: bytes) -> tuple[bytes, int] | None:
    """Return the head that a sealed file begins with and where it ends; None where it is torn or changed."""
    start = len(MAGIC) + 4
    length = int.from_bytes(data[len(MAGIC) : start], "big")
    end = start + length
    head = data[start:end]
    whole = data[: len(MAGIC)] == MAGIC and length <= LONGEST_HEAD
    return (head, end) if whole and hashlib.sha256(head).digest() == data[end : end + 32] else None


def state_folders(vault: Path) -> list[Path]:
    """Return the folders of states that are kept beside a vault, by name."""
    return sorted(path for path in (vault.parent / FOLDER).glob("*") if path.is_dir())


def newest_pair(folder: Path) -> tuple[Path, Path] | None:
    """Return the paths of the newest snapshot and of the journal that goes on from it; None where nothing is kept.

    The journal may be missing or torn: then nothing was acknowledged after the snapshot.
    """
    snapshots = sorted(folder.glob("state-*.sealed"))
    return (snapshots[-1], _beside(snapshots[-1])) if snapshots else None


def _beside(snapshot: Path) -> Path:
    return snapshot.with_name(f"journal-{snapshot.stem.rpartition('-')[2]}.sealed")


def made_with(folder: Path) -> set[str]:
    """Return the ids of the keys that a folder's files are sealed under; no key is needed, a torn file has none."""
    found = set()
    for path in [*folder.glob("*.sealed"), *folder.glob(".*.sealed")]:
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            head = _head(file.read(len(MAGIC) + 4 + LONGEST_HEAD + 32))
            if head is not None:
                found.add(json.loads(head[0])["key"])
    return found


class Journal:
    """The state's folder: the newest snapshot, the journal that goes on from it, and the lock of who uses them.

    Parameters
    ----------
    folder : made for its owner only.
    keys : seal the files.

    Raises
    ------
    InUseError : another process has it open.
    """

    def __init__(self, folder: Path, keys: Keys) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = folder
        self.keys = keys
        self.number = 0
        self._log: Sealed | None = None
        self._lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise InUseError(
                f"state '{folder.name}': another process scores with it; stop that one, or name another state"
            ) from None

    def recover(self) -> tuple[dict[str, Any], bytes, list[bytes]] | None:
        """Return the newest snapshot's facts and bytes and the groups since; None where nothing is kept.

        Raises
        ------
        KeyUnavailableError, DamagedError : as `read_sealed`.
        """
        pair = newest_pair(self.folder)
        if pair is None:
            return None
        newest, path = pair
        facts, frames, torn = read_sealed(newest, self.keys)
        if len(frames) != facts.get("pieces", 1) or torn is not None:  # renamed when whole: this is no crash
            raise DamagedError(f"state '{newest.name}': is cut off; begin anew from the vault with --fresh")
        self.number = int(newest.stem.rpartition("-")[2])
        groups: list[bytes] = []
        if path.exists() and path.stat().st_size >= len(MAGIC):
            with contextlib.suppress(_TornHead):
                groups = self._groups(path)
        told = {name: value for name, value in facts.items() if name not in ("key", "wrapped", "pieces")}
        return told, b"".join(frames), groups

    def _groups(self, path: Path) -> list[bytes]:
        data = path.read_bytes()
        start = len(MAGIC) + 4
        if len(data) < start + int.from_bytes(data[len(MAGIC) : start], "big") + 32:
            raise _TornHead  # killed before the first group: nothing was acknowledged
        return read_sealed(path, self.keys)[1]

    def snapshot(self, facts: dict[str, Any], state: bytes, groups: Sequence[bytes] = ()) -> None:
        """Keep a state; what the journal held until now is part of it, so a new one begins, with `groups` if any."""
        if self._log is not None:
            self._log.close()
        self.number += 1
        path = self._path("state", self.number)
        temporary = path.with_name(f".{path.name}")
        whole = memoryview(state)
        pieces = [whole[at : at + PIECE] for at in range(0, len(whole), PIECE)]
        sealed = Sealed(temporary, self.keys, facts | {"pieces": len(pieces)})
        for piece in pieces:
            sealed.append(piece, sync=False)
        sealed.close()
        # Its journal is there before it is: a snapshot without one would look like one that lost its own.
        self._log = Sealed(self._path("journal", self.number), self.keys, {})
        for group in groups:
            self._log.append(group, sync=group is groups[-1])
        os.replace(temporary, path)
        sync_folder(self.folder)
        for each in self.folder.glob("*-*.sealed"):
            if int(each.stem.rpartition("-")[2]) != self.number:
                each.unlink(missing_ok=True)
        for each in self.folder.glob(".*.sealed"):
            each.unlink(missing_ok=True)

    def rekey(self) -> bool:
        """Write what is kept anew under the current key, unless all of it is; return whether it was.

        Raises
        ------
        KeyUnavailableError, DamagedError : as `read_sealed`; what is kept stays as it is.
        """
        if made_with(self.folder) <= set(self.keys.ids(KEY)[:1]):
            return False
        kept = self.recover()
        if kept is None:  # killed before its first snapshot
            self.clear()
        else:
            self.snapshot(*kept)
        return True

    def append(self, group: bytes, *, sync: bool = True) -> None:
        """Write a group of events; it is on the disk when this returns, unless `sync` is false."""
        if self._log is None:
            raise FraudlabError("journal: a snapshot comes first")
        self._log.append(group, sync=sync)

    def clear(self) -> None:
        """Forget everything kept here."""
        for each in [*self.folder.glob("*.sealed"), *self.folder.glob(".*.sealed")]:
            each.unlink(missing_ok=True)
        self.number = 0

    def close(self) -> None:
        """Let go of the files and the lock."""
        if self._log is not None:
            self._log.close()
            self._log = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _path(self, kind: str, number: int) -> Path:
        return self.folder / f"{kind}-{number:06d}.sealed"

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


class _TornHead(Exception):
    """A journal whose head was not written to its end."""
