"""Keys by purpose, and Parquet encryption that stands on them.

A key has a name that says what it is for (`features`, `identity`, `pseudonym`, `manifest`) and an id, a fingerprint
that may be written down. Every Parquet file is encrypted under a key of its own, which lies in the file wrapped by the
named key (Parquet modular encryption).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pyarrow.parquet import FileDecryptionProperties, FileEncryptionProperties
from pyarrow.parquet.encryption import (
    CryptoFactory,
    DecryptionConfiguration,
    EncryptionConfiguration,
    KmsClient,
    KmsConnectionConfig,
)

from fraudlab.schema import FraudlabError, InputError

KEY_BYTES = 32
_NONCE_BYTES = 12


class KeyUnavailableError(FraudlabError):
    """A key is missing, belongs to someone else, is not the one a file was made with, or lies open to others."""


class Keys(Protocol):
    """Where keys come from: a folder today; a key server or an HSM has the same two questions to answer."""

    def key(self, name: str) -> bytes:
        """Return the 32 bytes of a key, made on first use."""

    def key_ids(self) -> dict[str, str]:
        """Return the id of each key that exists and can be used, by name; makes none."""


@dataclass(frozen=True)
class KeyDirectory:
    """A folder of keys for its owner only (0700), one file of 32 random bytes each (0600).

    Raises
    ------
    KeyUnavailableError : a file or the folder is open to other accounts, has the wrong size or cannot be read.
    """

    path: Path

    def key(self, name: str) -> bytes:
        """Return a key, made on first use; of two processes that make it at once, both get the same one."""
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            raise InputError(f"keys: a name must be lower-case letters, digits and '-'; found {name!r}; rename it")
        path = self.path / f"{name}.key"
        try:
            if not path.exists():
                self._create(path)
            return self._read(path)
        except OSError as error:
            raise KeyUnavailableError(
                f"key '{name}': {self.path} could not be used ({error.strerror or error}); correct the folder's rights "
                "or name another folder in FRAUDLAB_KEYS"
            ) from None

    def key_ids(self) -> dict[str, str]:
        """Return name -> id of the keys this account can read."""
        found = {}
        for path in sorted(self.path.glob("*.key")):
            if os.access(path, os.R_OK):
                found[path.stem] = key_id(self._read(path))
        return found

    def _create(self, path: Path) -> None:
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._refuse_open(self.path, "700")
        temporary = self.path / f".{path.name}.{secrets.token_hex(8)}"
        write_private(temporary, os.urandom(KEY_BYTES))
        try:
            # A link never replaces: whoever comes second keeps the first one's key.
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
        finally:
            temporary.unlink()
        sync_folder(self.path)

    def _read(self, path: Path) -> bytes:
        self._refuse_open(self.path, "700")
        self._refuse_open(path, "600")
        try:
            key = path.read_bytes()
        except PermissionError:
            raise KeyUnavailableError(
                f"key '{path.stem}': belongs to another account; ask its owner to do this step"
            ) from None
        if len(key) != KEY_BYTES:
            raise KeyUnavailableError(
                f"key '{path.stem}': must have {KEY_BYTES} bytes; found {len(key)}; restore {path} from its backup"
            )
        return key

    def _refuse_open(self, path: Path, mode: str) -> None:
        found = stat.S_IMODE(path.stat().st_mode)
        if found & 0o077:
            raise KeyUnavailableError(
                f"keys: {path} must be closed to other accounts; found mode {found:03o}; run: chmod {mode} {path}"
            )


def key_id(key: bytes) -> str:
    """Return a key's fingerprint, which tells keys apart and nothing else."""
    return hashlib.sha256(b"fraudlab key id\0" + key).hexdigest()[:16]


def wrap(key: bytes, secret: bytes, name: str) -> str:
    """Encrypt a data key under a named key with AES-256-GCM, bound to that name (NIST SP 800-38D)."""
    nonce = os.urandom(_NONCE_BYTES)
    return base64.b64encode(nonce + AESGCM(key).encrypt(nonce, secret, name.encode())).decode()


def unwrap(key: bytes, wrapped: str | bytes, name: str) -> bytes:
    """Decrypt what `wrap` made; refuse another key, another name, or a changed byte.

    >>> unwrap(bytes(32), wrap(bytes(32), b"data key", "features"), "features")
    b'data key'
    """
    try:
        sealed = base64.b64decode(wrapped, validate=True)
        return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], name.encode())
    except (InvalidTag, ValueError):
        raise KeyUnavailableError(
            f"key '{name}': does not open this file; it was made with another key, or is damaged; "
            "restore the key or the file from its backup"
        ) from None


class _Kms(KmsClient):
    """What pyarrow asks for when it writes or opens an encrypted file."""

    def __init__(self, keys: Keys) -> None:
        super().__init__()
        self._keys = keys

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> str:
        return wrap(self._keys.key(master_key_identifier), key_bytes, master_key_identifier)

    def unwrap_key(self, wrapped_key: str, master_key_identifier: str) -> bytes:
        # Asked first, because key() would make a missing one.
        if master_key_identifier not in self._keys.key_ids():
            raise KeyUnavailableError(
                f"key '{master_key_identifier}': is not in this key directory or belongs to another account; "
                "restore it from its backup or ask its owner"
            )
        return unwrap(self._keys.key(master_key_identifier), wrapped_key, master_key_identifier)


class ParquetCipher:
    """Parquet modular encryption, each file uniformly under one named key: AES-GCM, 256 bits, encrypted footer.

    Uniform on purpose: in a file with several column keys, asking for a column whose key is missing can hang a reader.
    """

    def __init__(self, keys: Keys) -> None:
        self._factory = CryptoFactory(lambda connection: _Kms(keys))
        self._connection = KmsConnectionConfig()

    def encryption(self, name: str) -> FileEncryptionProperties:
        """Return what a writer needs to encrypt one file under the key `name`."""
        return self._factory.file_encryption_properties(
            self._connection,
            EncryptionConfiguration(
                footer_key=name,
                uniform_encryption=True,
                encryption_algorithm="AES_GCM_V1",
                data_key_length_bits=8 * KEY_BYTES,
                plaintext_footer=False,
                internal_key_material=True,
            ),
        )

    def decryption(self) -> FileDecryptionProperties:
        """Return what a reader needs; the file itself names its key."""
        return self._factory.file_decryption_properties(self._connection, DecryptionConfiguration())


def write_private(path: Path, data: bytes) -> None:
    """Write a new file that only its owner can read (0600), down to the disk."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Bring a folder's entries down to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
