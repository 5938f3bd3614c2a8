"""A sealed file: a stream encrypted chunk by chunk, so that any size needs little memory and no change goes unseen.

    "fraudlab sealed 1\\n"    tells what it is
    4 bytes, big-endian      length of the head
    head                     JSON: key (id of the key `backup`), wrapped (the file's own key under it)
    32 bytes                 sha-256 of the head: tells damage from a wrong key
    chunks                   AES-256-GCM, 1 MiB each; the last one may be shorter

The nonce of a chunk is its number (11 bytes) and whether it is the last (1 byte): a chunk that is changed, moved, left
out or added does not open, nor does a file cut between two chunks. Every file has a key of its own, so no nonce occurs
twice under one key.

Source: V. T. Hoang, R. Reyhanitabar, P. Rogaway, D. Vizar, "Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance", CRYPTO 2015 (STREAM); NIST SP 800-38D (GCM).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fraudlab.privacy.keys import KEY_BYTES, Keys, KeyUnavailableError
from fraudlab.schema import FraudlabError

SEAL_NAME = "backup"
MAGIC = b"fraudlab sealed 1\n"
CHUNK = 1 << 20
_TAG = 16
_LONGEST_HEAD = 1 << 16


class DamagedBackupError(FraudlabError):
    """A backup is not what was written; nothing of it was put in place."""


class Sealer(io.RawIOBase):
    """Encrypts what is written to it into `file`; only `finish` makes the file whole.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from fraudlab.privacy.keys import KeyDirectory
    >>> keys, file = KeyDirectory(Path(tempfile.mkdtemp()) / "keys"), io.BytesIO()
    >>> sealer = Sealer(file, keys)
    >>> sealer.write(b"a snapshot")
    10
    >>> sealer.finish()
    >>> b"snapshot" in file.getvalue(), Opener(io.BytesIO(file.getvalue()), keys, "x").read()
    (False, b'a snapshot')
    """

    def __init__(self, file: BinaryIO, keys: Keys) -> None:
        super().__init__()
        own = os.urandom(KEY_BYTES)
        head = json.dumps({"key": keys.make(SEAL_NAME), "wrapped": keys.wrap(SEAL_NAME, own)}).encode()
        self._head = hashlib.sha256(head).digest()
        file.write(MAGIC + len(head).to_bytes(4, "big") + head + self._head)
        self._file, self._cipher = file, AESGCM(own)
        self._waiting, self._number = bytearray(), 0

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: bytes) -> int:
        """Take the next bytes of the stream."""
        self._waiting += data
        # A full chunk waits until more comes: it could be the last.
        while len(self._waiting) > CHUNK:
            self._seal(last=False)
        return len(data)

    def finish(self) -> None:
        """Seal what is left as the last chunk."""
        self._seal(last=True)

    def _seal(self, *, last: bool) -> None:
        piece = bytes(self._waiting[:CHUNK])
        del self._waiting[:CHUNK]
        self._file.write(self._cipher.encrypt(_nonce(self._number, last), piece, self._head))
        self._number += 1


class Opener(io.RawIOBase):
    """Decrypts what a `Sealer` wrote; gives no byte that was not checked.

    Raises
    ------
    KeyUnavailableError : it was sealed under a key `backup` that is not here.
    DamagedBackupError : a byte was changed, chunks were moved, something is missing or added, or it is no sealed file.
    """

    def __init__(self, file: BinaryIO, keys: Keys, name: str) -> None:
        super().__init__()
        self._file, self._name, self._number = file, name, 0
        self._cipher = AESGCM(self._own_key(keys))
        self._ahead = file.read(CHUNK + _TAG)
        self._open, self._position, self._ended = b"", 0, False

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, at most `size` of them, all of the rest for -1; none at the end."""
        if size < 0:
            return b"".join(iter(lambda: self.read(CHUNK), b""))
        if self._position == len(self._open) and not self._ended:
            self._next()
        piece = self._open[self._position : self._position + size]
        self._position += len(piece)
        return piece

    def _next(self) -> None:
        piece, self._ahead = self._ahead, self._file.read(CHUNK + _TAG)
        self._ended = not self._ahead
        try:
            self._open = self._cipher.decrypt(_nonce(self._number, self._ended), piece, self._head)
        except (InvalidTag, ValueError):
            raise DamagedBackupError(
                f"backup {self._name}: chunk {self._number + 1:,} is not as written: changed, moved or cut; take "
                "another backup, and find out what happened to this one"
            ) from None
        self._position = 0
        self._number += 1

    def _own_key(self, keys: Keys) -> bytes:
        if self._file.read(len(MAGIC)) != MAGIC:
            raise DamagedBackupError(
                f"backup {self._name}: is no file that `fraudlab backup create` wrote, or its first bytes are damaged; "
                "name the right file, or take another backup"
            )
        length = int.from_bytes(self._file.read(4), "big")
        head = self._file.read(min(length, _LONGEST_HEAD))
        self._head = hashlib.sha256(head).digest()
        if self._file.read(len(self._head)) != self._head:
            raise DamagedBackupError(f"backup {self._name}: its head is damaged; take another backup")
        stated = json.loads(head)
        held = keys.ids(SEAL_NAME)
        if stated["key"] not in held:
            raise KeyUnavailableError(
                f"backup {self._name}: is sealed under the key '{SEAL_NAME}' with id {stated['key']}; found here: "
                f"{', '.join(held) or 'none'}; run `fraudlab keys restore` with the backup of the keys"
            )
        return keys.unwrap(SEAL_NAME, stated["wrapped"])


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])
