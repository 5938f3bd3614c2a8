"""What a scorer has learnt, kept through crashes: a sealed snapshot and, beside it, a journal of what came since.

    state-000007.sealed      "fraudlab journal 1\\n", a head, the snapshot in pieces, an empty frame as its end
    journal-000007.sealed    a head of the same form, then a frame per group of events, in the order they came

A group is on the disk before anything of it is answered: append, fsync, then apply. For a snapshot a new journal begins
that says which one it follows; the state as it was at that moment is written under a temporary name, synced, renamed,
also while payments go on; and only then the older files go. So at any moment the newest whole snapshot, with its
journal and those that follow, tells everything that was acknowledged, once.

Each file is encrypted under a key of its own, wrapped by the key `scoring`. A frame is 4 bytes of length, big-endian,
and AES-256-GCM with the frame's number as nonce, bound to the head: a frame that is changed, moved or left out does not
open. A torn last frame is what a crash leaves of a group that nobody was told of: it is cut off.

Nothing but the last journal's end ever changes, so whoever copies `newest_files` in their order has a state that was: a
backup needs no lock. Who writes anew what is kept (`fraudlab keys rotate scoring`) takes the lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fraudlab.privacy.keys import KEY_BYTES, Keys, KeyUnavailableError, sync_folder
from fraudlab.privacy.vault import DamagedError
from fraudlab.schema import FraudlabError

_log = logging.getLogger(__name__)

KEY = "scoring"
FOLDER = "scoring"
"""Beside the vault; holds a folder for each model."""
MAGIC = b"fraudlab journal 1\n"
LONGEST_HEAD = 1 << 16
PIECE = 1 << 22
"""Bytes of a snapshot in one frame: some milliseconds' work, as payments may wait for it."""


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


def newest_files(folder: Path) -> list[Path]:
    """Return the newest snapshot and the journals that go on from it, in the order to copy them in.

    Empty where nothing is kept.
    """
    snapshots = sorted(folder.glob("state-*.sealed"))
    if not snapshots:
        return []
    # Listed at once: of these journals all but the last one are closed, whatever begins meanwhile.
    journals = sorted(folder.glob("journal-*.sealed"))
    return [snapshots[-1], *(path for path in journals if _number(path) >= _number(snapshots[-1]))]


def _number(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


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
        self.kept_at: float | None = None
        """When the last snapshot was kept, in seconds since 1970."""
        self._log: Sealed | None = None
        self._keeping: threading.Thread | None = None
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
        kept = newest_files(self.folder)
        if not kept:
            return None
        newest, journals = kept[0], kept[1:]
        facts, frames, torn = read_sealed(newest, self.keys)
        # Renamed when whole: this is no crash. Older ones say how many pieces they have.
        whole = len(frames) == facts["pieces"] if "pieces" in facts else frames[-1:] == [b""]
        if torn is not None or not whole:
            raise DamagedError(f"state '{newest.name}': is cut off; begin anew from the vault with --fresh")
        self.number = _number(newest)
        groups = self._groups(journals)
        told = {name: value for name, value in facts.items() if name not in ("key", "wrapped", "pieces")}
        return told, b"".join(frames), groups

    def _groups(self, journals: Sequence[Path]) -> list[bytes]:
        """Return what came since the snapshot; one journal after the other, as far as each follows the one before."""
        groups: list[bytes] = []
        torn = None
        for path in journals:
            expected = self.number + (path is not journals[0])
            if _number(path) != expected:
                gone = self._path("journal", expected)
                raise DamagedError(
                    f"state '{gone.name}': is gone; restore it from a backup, or begin anew from the vault with --fresh"
                )
            if not _has_whole_head(path):  # killed before its first group: nothing was acknowledged
                break
            facts, found, cut = read_sealed(path, self.keys)
            if path is not journals[0] and facts.get("follows") != self.number:
                break  # of a snapshot that never got its name
            if torn is not None and found:  # it was whole before this one began
                raise DamagedError(f"state '{torn.name}': is cut off; begin anew from the vault with --fresh")
            torn = path if cut is not None else torn
            self.number = expected
            groups += found
        return groups

    def snapshot(self, facts: dict[str, Any], state: bytes, groups: Sequence[bytes] = ()) -> None:
        """Keep a state and begin a new journal, with `groups` if any; what the old one held is part of the state."""
        self._begin({} if groups else {"follows": self.number})
        for group in groups:
            self.append(group, sync=group is groups[-1])
        self._keep(self.number, facts, lambda file: file.write(state))

    def snapshot_beside(self, facts: dict[str, Any], write: Callable[[IO[bytes]], object]) -> None:
        """Begin a new journal at once; the state as it is now is kept by another thread, one at a time.

        One that fails leaves everything as it was, with a warning in the log.

        Parameters
        ----------
        write : writes that state to a file; it is called later, when the state itself has gone on.
        """
        self.wait()
        self._begin({"follows": self.number})

        def keep(number: int = self.number) -> None:
            try:
                self._keep(number, facts, write)
            except Exception as error:  # such as a full disk
                _log.warning(
                    "state '%s': no snapshot could be kept (%s); the journals tell everything meanwhile, and reading "
                    "them takes longer at the next start; make room, the next snapshot is tried in its turn",
                    self.folder.name,
                    getattr(error, "strerror", None) or type(error).__name__,
                )

        self._keeping = threading.Thread(target=keep, name="snapshot")
        self._keeping.start()

    @property
    def keeping(self) -> bool:
        """Whether a snapshot is being written at this moment."""
        return self._keeping is not None and self._keeping.is_alive()

    def wait(self) -> None:
        """Wait until no snapshot is being written."""
        if self._keeping is not None:
            self._keeping.join()
            self._keeping = None

    def _begin(self, facts: dict[str, Any]) -> None:
        self.wait()
        number = self.number + 1
        log = Sealed(self._path("journal", number), self.keys, facts)
        if self._log is not None:
            self._log.close()
        self._log, self.number = log, number
        sync_folder(self.folder)

    def _keep(self, number: int, facts: dict[str, Any], write: Callable[[IO[bytes]], object]) -> None:
        path = self._path("state", number)
        temporary = path.with_name(f".{path.name}")
        try:
            with contextlib.closing(Sealed(temporary, self.keys, facts)) as sealed:
                with _Pieces(sealed) as pieces:
                    write(pieces)
                sealed.append(b"", sync=False)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(self.folder)
        for each in self.folder.glob("*-*.sealed"):
            if _number(each) < number:
                each.unlink(missing_ok=True)
        for each in self.folder.glob(".*.sealed"):
            each.unlink(missing_ok=True)
        self.kept_at = time.time()

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
        """Let go of the files and the lock, once no snapshot is being written."""
        self.wait()
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


class _Pieces(io.RawIOBase):
    """What is written to it goes into a sealed file, a piece to a frame."""

    def __init__(self, sealed: Sealed) -> None:
        self.sealed = sealed
        self._held = bytearray()

    def writable(self) -> bool:
        """Say that it is there to be written."""
        return True

    def write(self, data: Any) -> int:
        """Take some bytes; whole pieces are sealed at once."""
        self._held += data
        while len(self._held) >= PIECE:
            self._seal()
        return len(data)

    def close(self) -> None:
        """Seal what is left."""
        while not self.closed and self._held:
            self._seal()
        super().close()

    def _seal(self) -> None:
        # Piece by piece: a group of events would wait for all that the disk has still to write.
        self.sealed.append(bytes(self._held[:PIECE]))
        del self._held[:PIECE]


def _has_whole_head(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(len(MAGIC) + 4)
        length = int.from_bytes(start[len(MAGIC) :], "big")
        return len(start) == len(MAGIC) + 4 and path.stat().st_size >= len(start) + length + 32
