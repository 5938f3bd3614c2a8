"""Keys by purpose, and Parquet encryption that stands on them.

A key has a name that says what it is for (`features`, `identity`, `pseudonym`, `manifest`) and an id, a fingerprint
that may be written down. Every Parquet file is encrypted under a key of its own, which lies in the file wrapped by the
named key (Parquet modular encryption).

Three back ends keep keys: a folder (here), a key server on a Unix socket (`keyserver`) and HashiCorp Vault
(`keys_vault`). All three wrap, unwrap and compute keyed digests; only the folder hands a key itself out.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import hashlib
import hmac
import os
import pwd
import re
import secrets
import stat
from abc import abstractmethod
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

from fraudlab.config import Workspace
from fraudlab.schema import FraudlabError, InputError

KEY_BYTES = 32
_NONCE_BYTES = 12


class KeyUnavailableError(FraudlabError):
    """A key is missing, belongs to someone else, is not the one a file was made with, or lies open to others."""


@dataclass(frozen=True)
class HeldKey:
    """What may be said of a key: name, id, when it was made, who can use it, and whether a rotation is retiring it."""

    name: str
    id: str
    made: dt.datetime
    readers: str
    retired: bool = False


class Keys(Protocol):
    """Where keys are kept and used. A retired key still opens what it made until its rotation has ended."""

    @abstractmethod
    def held(self, name: str | None = None) -> list[HeldKey]:
        """Return the keys this account can use, or those of one name, the current one first; make none."""

    @abstractmethod
    def make(self, name: str) -> str:
        """Return the id of the current key of a name, made on first use."""

    @abstractmethod
    def wrap(self, name: str, secret: bytes) -> str:
        """Encrypt a data key under the current key of a name, made on first use."""

    @abstractmethod
    def unwrap(self, name: str, wrapped: str | bytes, *, files: int = 1) -> bytes:
        """Decrypt what `wrap` made, with the current key or the retired one.

        `files` says how many files this opens, for the log of a back end that keeps one.
        """

    @abstractmethod
    def hmac(self, name: str, message: bytes, *, key: str | None = None) -> bytes:
        """Return the HMAC-SHA256 of a message under the key of a name: the current one, or the one of the id `key`."""

    @abstractmethod
    def begin_rotation(self, name: str) -> None:
        """Put a new key in the place of the current one, which stays as the retired one; one that has begun goes on."""

    @abstractmethod
    def end_rotation(self, name: str) -> None:
        """Destroy the retired key of a name, where there is one."""

    def ids(self, name: str) -> list[str]:
        """Return the ids of the keys that open what was made under a name, the current one first; make none."""
        return [key.id for key in self.held(name)]

    def key_ids(self) -> dict[str, str]:
        """Return the id of the current key of each name that this account can use; make none."""
        return {key.name: key.id for key in self.held() if not key.retired}


def open_keys(workspace: Workspace) -> Keys:
    """Return the keys of a workspace, from where the environment variable FRAUDLAB_KEYS says.

    A folder (default: the workspace's own), `unix:/path/to.sock` for a key server, or
    `vault:https://host:8200/transit` for HashiCorp Vault, whose last part is the mount of its transit engine.

    Raises
    ------
    InputError : FRAUDLAB_KEYS names something else.
    """
    where = os.environ.get("FRAUDLAB_KEYS", "")
    kind, colon, rest = where.partition(":")
    if not colon or "/" in kind:
        return KeyDirectory(workspace.keys)
    if kind == "unix":
        from fraudlab.privacy.keyserver import KeyClient

        return KeyClient(Path(rest))
    if kind == "vault":
        from fraudlab.privacy.keys_vault import open_transit

        return open_transit(rest)
    raise InputError(
        f"FRAUDLAB_KEYS: must be a folder, unix:/path/to.sock or vault:https://host/mount; found '{kind}:...'; "
        "correct it"
    )


def open_folder(workspace: Workspace) -> KeyDirectory:
    """Return the key folder of a workspace, for steps that need the keys themselves; refuse other back ends."""
    keys = open_keys(workspace)
    if not isinstance(keys, KeyDirectory):
        raise InputError(
            "keys: this step needs the key folder itself, and FRAUDLAB_KEYS names a server; run it as the account that "
            "owns the folder, with FRAUDLAB_KEYS set to the folder (Vault's keys: use Vault's own snapshots)"
        )
    return keys


def check_name(name: str) -> None:
    """Refuse what cannot be a key's name."""
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise InputError(f"keys: a name must be lower-case letters, digits and '-'; found {name!r}; rename it")


@dataclass(frozen=True)
class KeyDirectory(Keys):
    """A folder of keys for its owner only (0700), one file of 32 random bytes each (0600).

    `features.key` is the current key of that name, `features.retired` the one a rotation is replacing.

    Raises
    ------
    KeyUnavailableError : a file or the folder is open to other accounts, has the wrong size or cannot be read.
    """

    path: Path

    def key(self, name: str) -> bytes:
        """Return a key, made on first use; of two processes that make it at once, both get the same one."""
        check_name(name)
        path = self._current(name)
        try:
            if not path.exists():
                self.add(path.name, os.urandom(KEY_BYTES))
            return self._read(path)
        except OSError as error:
            raise self._unusable(name, error) from None

    def held(self, name: str | None = None) -> list[HeldKey]:
        """Return the keys this account can read; make none."""
        if name is not None:
            check_name(name)
        names = [path.stem for path in sorted(self.path.glob("*.key"))] if name is None else [name]
        found = []
        for each in names:
            for path in (self._current(each), self._retired(each)):
                if not os.access(path, os.R_OK):
                    continue
                try:
                    facts, identity = path.stat(), key_id(self._read(path))
                except FileNotFoundError:
                    continue  # retired in this very moment
                if identity not in [key.id for key in found if key.name == each]:
                    made = dt.datetime.fromtimestamp(facts.st_mtime, dt.UTC)
                    readers = f"{account_name(facts.st_uid)} only"
                    found.append(HeldKey(each, identity, made, readers, retired=path.suffix == ".retired"))
        return found

    def make(self, name: str) -> str:
        """Return the id of the current key, made on first use."""
        return key_id(self.key(name))

    def wrap(self, name: str, secret: bytes) -> str:
        """Encrypt a data key under the current key, made on first use."""
        return wrap(self.key(name), secret, name)

    def unwrap(self, name: str, wrapped: str | bytes, *, files: int = 1) -> bytes:
        """Decrypt what `wrap` made; make no key."""
        *earlier, last = self._openers(name)
        for key in earlier:
            with contextlib.suppress(KeyUnavailableError):
                return unwrap(key, wrapped, name)
        return unwrap(last, wrapped, name)

    def hmac(self, name: str, message: bytes, *, key: str | None = None) -> bytes:
        """Return the HMAC-SHA256 of a message under the current key, made on first use, or under that of an id."""
        if key is None:
            return hmac.digest(self.key(name), message, "sha256")
        for held in self._openers(name):
            if key_id(held) == key:
                return hmac.digest(held, message, "sha256")
        raise missing_key(name)

    def begin_rotation(self, name: str) -> None:
        """Put a new key in the place of the current one, which stays as `<name>.retired`."""
        current, retired = self._current(name), self._retired(name)
        self._openers(name)
        try:
            # Two names for the one key first: whatever happens next, it is not lost.
            with contextlib.suppress(FileExistsError):
                os.link(current, retired)
            sync_folder(self.path)
            if self._read(current) != self._read(retired):
                return
            fresh = self._temporary(current)
            write_private(fresh, os.urandom(KEY_BYTES))
            os.replace(fresh, current)
            sync_folder(self.path)
        except OSError as error:
            raise self._unusable(name, error) from None

    def end_rotation(self, name: str) -> None:
        """Overwrite the retired key and remove it, with what a killed process left of it."""
        retired = self._retired(name)
        try:
            # A second name says that no new key came: overwriting would destroy the one in use.
            if retired.exists() and retired.stat().st_nlink == 1:
                with retired.open("r+b") as file:
                    file.write(os.urandom(KEY_BYTES))
                    file.flush()
                    os.fsync(file.fileno())
            for path in (retired, *self.path.glob(f".{name}.key.*")):
                path.unlink(missing_ok=True)
            sync_folder(self.path)
        except OSError as error:
            raise self._unusable(name, error) from None

    def files(self) -> dict[str, Path]:
        """Return every key file of the folder, current and retired, by file name."""
        return {path.name: path for pattern in ("*.key", "*.retired") for path in sorted(self.path.glob(pattern))}

    def read_file(self, name: str) -> bytes:
        """Return the key in one of `files`."""
        return self._read(self.path / name)

    def add(self, name: str, key: bytes) -> bool:
        """Put a key under a file name that is not taken; return whether it was free."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._refuse_open(self.path, "700")
        path = self.path / name
        temporary = self._temporary(path)
        write_private(temporary, key)
        try:
            # A link never replaces: whoever comes second keeps the first one's key.
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        sync_folder(self.path)
        return True

    def _current(self, name: str) -> Path:
        return self.path / f"{name}.key"

    def _retired(self, name: str) -> Path:
        return self.path / f"{name}.retired"

    def _temporary(self, path: Path) -> Path:
        return self.path / f".{path.name}.{secrets.token_hex(8)}"

    def _openers(self, name: str) -> list[bytes]:
        """Return the current key and the retired one, where they are."""
        check_name(name)
        found = []
        for path in (self._current(name), self._retired(name)):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                found.append(self._read(path))
        if not found:
            raise missing_key(name)
        return found

    def _unusable(self, name: str, error: OSError) -> KeyUnavailableError:
        return KeyUnavailableError(
            f"key '{name}': {self.path} could not be used ({error.strerror or error}); correct the folder's rights "
            "or name another folder in FRAUDLAB_KEYS"
        )

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


def missing_key(name: str) -> KeyUnavailableError:
    """Return the refusal of a step whose key is not here."""
    return KeyUnavailableError(
        f"key '{name}': is not here or belongs to another account; restore it from its backup or ask its owner"
    )


def account_name(uid: int) -> str:
    """Return an account's name, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


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

    def __init__(self, keys: Keys, files: int) -> None:
        super().__init__()
        self._keys = keys
        self._files = files

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> str:
        return self._keys.wrap(master_key_identifier, key_bytes)

    def unwrap_key(self, wrapped_key: str, master_key_identifier: str) -> bytes:
        return self._keys.unwrap(master_key_identifier, wrapped_key, files=self._files)


class ParquetCipher:
    """Parquet modular encryption, each file uniformly under one named key: AES-GCM, 256 bits, encrypted footer.

    Uniform on purpose: in a file with several column keys, asking for a column whose key is missing can hang a reader.
    One cipher for many files asks the keys once, not once a file; `files` says how many they are, for a server's log.
    """

    def __init__(self, keys: Keys, *, files: int = 1) -> None:
        self._factory = CryptoFactory(lambda connection: _Kms(keys, files))
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


def replace_private(path: Path, data: bytes) -> None:
    """Write a file for its owner only, whole, in place of one of that name."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        write_private(fresh, data)
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Bring a folder's entries down to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
