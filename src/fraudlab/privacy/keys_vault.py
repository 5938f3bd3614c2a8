"""Keys in HashiCorp Vault's transit engine, through `hvac` (the extra `vault`); no key leaves Vault.

Vault keeps versions of a key; the latest is the current one, earlier ones are retired until a rotation has ended.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fraudlab.privacy.keys import HeldKey, Keys, KeyUnavailableError, check_name, missing_key
from fraudlab.schema import InputError

TIMEOUT = 4.0


def open_transit(address: str) -> TransitKeys:
    """Return the keys at `https://host:8200/transit`; the last part is the mount of the transit engine.

    The token comes from the environment variable VAULT_TOKEN, else from the file that VAULT_TOKEN_FILE names (default
    `~/.vault-token`); VAULT_CACERT names the certificate authority, VAULT_NAMESPACE the namespace.

    Raises
    ------
    InputError : another form of address, one that is neither https nor this machine, or `hvac` is not installed.
    KeyUnavailableError : no token, or its file lies open to others.
    """
    parts = urlsplit(address)
    mount = parts.path.strip("/")
    if not parts.hostname or not mount or parts.username or parts.query:
        raise InputError(
            "FRAUDLAB_KEYS: vault: must be followed by https://host:8200/mount, with no name, password or query; "
            "correct it"
        )
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")):
        raise InputError(
            f"FRAUDLAB_KEYS: vault must be asked over https; found '{parts.scheme}'; data keys would cross the network "
            "in clear"
        )
    try:
        import hvac
    except ImportError:
        raise InputError("FRAUDLAB_KEYS: vault needs the package hvac; run: pip install 'fraudlab[vault]'") from None
    client = hvac.Client(
        url=f"{parts.scheme}://{parts.netloc}",
        token=_token(),
        timeout=TIMEOUT,
        verify=os.environ.get("VAULT_CACERT") or True,
        namespace=os.environ.get("VAULT_NAMESPACE"),
    )
    return TransitKeys(client.secrets.transit, mount, f"{parts.scheme}://{parts.netloc}")


@dataclass(frozen=True)
class TransitKeys(Keys):
    """The keys of one transit mount, as far as the token's policies allow.

    Raises
    ------
    KeyUnavailableError : Vault cannot be reached within 4 seconds, is sealed, or its policies refuse.

    References
    ----------
    HashiCorp Vault, Transit secrets engine (HTTP API).
    """

    transit: Any
    mount: str
    address: str

    def held(self, name: str | None = None) -> list[HeldKey]:
        """Return the keys the token may read; make none."""
        if name is None:
            with self._said("the list of keys"):
                names = self._list()
            return [key for each in sorted(names) for key in self.held(each)]
        return [
            HeldKey(
                name,
                _version_id(name, version, made),
                dt.datetime.fromtimestamp(made, dt.UTC),
                f"whom the policies of {self.address} allow",
                retired=place > 0,
            )
            for place, (version, made) in enumerate(self._versions(name))
        ]

    def make(self, name: str) -> str:
        """Return the id of the latest version; the key is made on first use."""
        check_name(name)
        if not self._versions(name):
            with self._said(f"key '{name}'"):
                self.transit.create_key(name, key_type="aes256-gcm96", mount_point=self.mount)
        versions = self._versions(name)
        if not versions:
            raise missing_key(name)
        return _version_id(name, *versions[0])

    def wrap(self, name: str, secret: bytes) -> str:
        """Let Vault encrypt a data key; it makes the named key on first use."""
        self.make(name)
        with self._said(f"key '{name}'"):
            answer = self.transit.encrypt_data(name, plaintext=_text(secret), mount_point=self.mount)
        return answer["data"]["ciphertext"]

    def unwrap(self, name: str, wrapped: str | bytes, *, files: int = 1) -> bytes:
        """Let Vault decrypt a data key; its audit device writes down who asked."""
        check_name(name)
        sent = wrapped.decode("ascii", "replace") if isinstance(wrapped, bytes) else wrapped
        with self._said(f"key '{name}'"):
            answer = self.transit.decrypt_data(name, ciphertext=sent, mount_point=self.mount)
        return base64.b64decode(answer["data"]["plaintext"])

    def hmac(self, name: str, message: bytes, *, key: str | None = None) -> bytes:
        """Let Vault compute a keyed digest with the version of an id; default: the latest."""
        wanted = self.make(name) if key is None else key
        found = [version for version, made in self._versions(name) if _version_id(name, version, made) == wanted]
        if not found:
            raise missing_key(name)
        with self._said(f"key '{name}'"):
            answer = self.transit.generate_hmac(
                name, hash_input=_text(message), key_version=found[0], algorithm="sha2-256", mount_point=self.mount
            )
        return base64.b64decode(answer["data"]["hmac"].rpartition(":")[2])

    def begin_rotation(self, name: str) -> None:
        """Let Vault make a new version; where earlier ones are still in use, that rotation goes on."""
        versions = self._versions(name)
        if not versions:
            raise missing_key(name)
        if len(versions) == 1:
            with self._said(f"key '{name}'"):
                self.transit.rotate_key(name, mount_point=self.mount)

    def end_rotation(self, name: str) -> None:
        """Let Vault forget every version but the latest."""
        (latest, _), *earlier = self._versions(name)
        if not earlier:
            return
        with self._said(f"key '{name}'"):
            # In this order and one at a time: none may pass the one before.
            self.transit.update_key_configuration(name, min_encryption_version=latest, mount_point=self.mount)
            self.transit.update_key_configuration(name, min_decryption_version=latest, mount_point=self.mount)
            self.transit.trim_key(name, min_version=latest, mount_point=self.mount)

    def _list(self) -> list[str]:
        from hvac.exceptions import InvalidPath

        try:
            return self.transit.list_keys(mount_point=self.mount)["data"]["keys"]
        except InvalidPath:
            return []

    def _versions(self, name: str) -> list[tuple[int, int]]:
        """Return version and creation time (seconds since 1970) of each that still opens, the latest first."""
        from hvac.exceptions import InvalidPath

        check_name(name)
        with self._said(f"key '{name}'"):
            try:
                facts = self.transit.read_key(name, mount_point=self.mount)["data"]
            except InvalidPath:
                return []
        if facts["type"] != "aes256-gcm96":
            raise KeyUnavailableError(
                f"key '{name}': must be of type aes256-gcm96 in Vault; found {facts['type']}; name another mount"
            )
        opening = ((int(version), int(made)) for version, made in facts["keys"].items())
        return sorted((each for each in opening if each[0] >= facts["min_decryption_version"]), reverse=True)

    @contextlib.contextmanager
    def _said(self, what: str) -> Iterator[None]:
        """Turn what Vault or the network says into a sentence."""
        import requests
        from hvac import exceptions

        try:
            yield
        except requests.exceptions.RequestException as error:
            raise KeyUnavailableError(
                f"vault: {self.address} does not answer ({type(error).__name__}); start it, or correct FRAUDLAB_KEYS"
            ) from None
        except (exceptions.Forbidden, exceptions.Unauthorized):
            raise KeyUnavailableError(
                f"vault: the token may not use {what} like this; ask for a policy on {self.mount}/, or renew the token"
            ) from None
        except exceptions.VaultDown:
            raise KeyUnavailableError(f"vault: {self.address} is sealed; ask its owner to unseal it") from None
        except exceptions.InvalidPath:
            raise KeyUnavailableError(
                f"vault: {self.address} has no transit engine at '{self.mount}' with {what}; correct FRAUDLAB_KEYS"
            ) from None
        except exceptions.InvalidRequest:
            raise KeyUnavailableError(
                f"vault: {what} does not open this; it was made with another key or a retired version, or is damaged; "
                "restore the key or the file from its backup"
            ) from None
        except exceptions.VaultError as error:
            raise KeyUnavailableError(
                f"vault: {self.address} could not do this with {what} ({type(error).__name__}); see Vault's log"
            ) from None


def _version_id(name: str, version: int, made: int) -> str:
    """Return a fingerprint of a key that is never seen: what tells it from every other is when it was made."""
    return hashlib.sha256(f"fraudlab transit key\0{name}\0{version}\0{made}".encode()).hexdigest()[:16]


def _token() -> str:
    if token := os.environ.get("VAULT_TOKEN"):
        return token
    path = Path(os.environ.get("VAULT_TOKEN_FILE") or Path.home() / ".vault-token")
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        token = path.read_text().strip()
    except OSError as error:
        raise KeyUnavailableError(
            f"vault: no token; set VAULT_TOKEN, or name its file in VAULT_TOKEN_FILE ({path}: {error.strerror})"
        ) from None
    if mode & 0o077:
        raise KeyUnavailableError(
            f"vault: {path} must be closed to other accounts; found mode {mode:03o}; run: chmod 600 {path}"
        )
    return token


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
