"""Agreements with other institutions to share indicators, and the sets that came in by them; sealed, beside the vault.

    data/sharing/NAME.agreement    who we are to each other, the id of the shared key, the partner's public key
    data/sharing/ID.set            a set as its sender signed it, from when on it counts here, and which of the own
                                   values it matches, by data set
    data/sharing/ID.revoked        what is left of a set that was let go of: no code, no value

The shared key of an agreement is the key `share-NAME`; the key `sharing` seals these files and makes the signatures.
A file is AES-256-GCM, bound to its name: it can be neither read nor changed nor put in another's place without the key.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fraudlab.privacy import indicators
from fraudlab.privacy.keys import (
    KEY_BYTES,
    KeyDirectory,
    Keys,
    KeyUnavailableError,
    check_name,
    key_id,
    missing_key,
    sync_folder,
    write_private,
)
from fraudlab.privacy.vault import DamagedError, Vault
from fraudlab.schema import FraudlabError, InputError, did_you_mean

KEY = "sharing"
FOLDER = "sharing"
"""Beside the vault."""
PARTNER_FORMAT = "fraudlab sharing key 1"
_SEAL, _SIGN = b"fraudlab sharing seal", b"fraudlab indicator signature"
_NONCE = 12


@dataclass(frozen=True)
class Agreement:
    """What two institutions have agreed upon: their names, the shared key's id, the partner's public key (hex)."""

    name: str
    me: str
    partner: str
    key_id: str
    partner_key: str = ""

    @property
    def key_name(self) -> str:
        """The name of the shared key among the keys."""
        return f"share-{self.name}"


@dataclass(frozen=True)
class Held:
    """A set that came in: as signed, since when it counts, for which purposes, and the own values it matches.

    `matches` are treated values as the vault holds them: {data set: {kind: values}}.
    """

    package: Mapping[str, Any]
    imported: str
    valid_from: str
    purposes: tuple[str, ...]
    matches: Mapping[str, Mapping[str, list[str]]]

    @property
    def id(self) -> str:
        """What the set is called."""
        return indicators.set_id(self.package)

    @property
    def span(self) -> tuple[pd.Timestamp, pd.Timestamp]:
        """From when until when it counts."""
        return pd.Timestamp(self.valid_from), pd.Timestamp(self.package["expires"])


@dataclass(frozen=True)
class Sharing:
    """The agreements and sets in the folder `path`, opened with `keys`."""

    path: Path
    keys: Keys

    @classmethod
    def beside(cls, vault: Vault) -> Sharing:
        """Return those that belong to a vault."""
        return cls(vault.root.with_name(FOLDER), vault.keys)

    # --- agreements -----------------------------------------------------------------------------------------------

    def agree(self, name: str, me: str, partner: str) -> tuple[Agreement, bytes]:
        """Begin an agreement with a new shared key; return it and the file for the partner, which holds the key.

        Raises
        ------
        InputError : a name is taken, or is none; the keys are not in a folder of this account.
        """
        folder = self._folder()
        check_name(name)
        for each in (me, partner):
            check_name(each)
        if me == partner:
            raise InputError(f"share: the two parties must have two names; found '{me}' twice; give each its own")
        shared = os.urandom(KEY_BYTES)
        agreement = Agreement(name, me, partner, key_id(shared))
        self._take_key(folder, agreement, shared)
        told = {
            "format": PARTNER_FORMAT,
            "agreement": name,
            "me": partner,
            "partner": me,
            "partner_key": self.public_key(make=True),
            "key": base64.b64encode(shared).decode(),
        }
        return agreement, json.dumps(told, indent=1).encode() + b"\n"

    def join(self, data: bytes, where: str) -> Agreement:
        """Take in the file that the partner's `agree` made.

        Raises
        ------
        InputError : it is no such file; an agreement of this name is here with another key.
        """
        folder = self._folder()
        wrong = InputError(f"{where}: must be a file that `fraudlab share key` wrote; found something else; ask for it")
        try:
            told = json.loads(data)
            shared = base64.b64decode(told["key"], validate=True)
            names = [told[name] for name in ("agreement", "me", "partner")]
            _public(told["partner_key"])
        except (ValueError, KeyError, TypeError):
            raise wrong from None
        if told["format"] != PARTNER_FORMAT or len(shared) != KEY_BYTES or not all(isinstance(n, str) for n in names):
            raise wrong
        for each in names:
            check_name(each)
        agreement = Agreement(*names, key_id(shared), told["partner_key"])
        self._take_key(folder, agreement, shared)
        self.public_key(make=True)
        return agreement

    def trust(self, name: str, public: str) -> Agreement:
        """Note the partner's public key, as they said it over another way than the files come.

        Raises
        ------
        InputError : no such agreement; no public key; another one is noted already.
        """
        agreement = self.agreement(name)
        try:
            _public(public)
        except ValueError:
            raise InputError(
                "--public-key: must be an Ed25519 public key, 64 hexadecimal digits, as `fraudlab share join` shows "
                "it; found something else; copy it whole"
            ) from None
        if agreement.partner_key not in ("", public):
            raise InputError(
                f"share: agreement '{name}' already holds another public key of {agreement.partner}; whoever has a "
                "new one must begin a new agreement"
            )
        return self._write_agreement(replace(agreement, partner_key=public))

    def agreement(self, name: str) -> Agreement:
        """Return an agreement by its name."""
        names = self.agreements()
        if name not in names:
            known = did_you_mean(name, names) if names else "there is none yet"
            raise InputError(
                f"share: no agreement '{name}' here; {known}; next: fraudlab share key, or share join FILE"
            )
        return Agreement(**self._read(self.path / f"{name}.agreement"))

    def agreements(self) -> list[str]:
        """Return the names of the agreements."""
        return sorted(path.stem for path in self.path.glob("*.agreement"))

    def coder(self, agreement: Agreement, kind: str) -> indicators.Coder:
        """Return what codes values of a kind under an agreement's key, where that key is the one agreed upon."""
        if agreement.key_id not in self.keys.ids(agreement.key_name)[:1]:
            raise KeyUnavailableError(
                f"share: agreement '{agreement.name}' needs the key '{agreement.key_name}' (id {agreement.key_id}), "
                "which is not here; restore the keys from their backup"
            )
        return indicators.coder(partial(self.keys.hmac, agreement.key_name), kind)

    def public_key(self, *, make: bool = False) -> str:
        """Return the public key that this workspace signs indicators with, in hex."""
        return self.signer(make=make).public_key().public_bytes_raw().hex()

    def signer(self, *, make: bool = False) -> Ed25519PrivateKey:
        """Return what signs indicators; the key is made only where that is asked for."""
        return Ed25519PrivateKey.from_private_bytes(self._key(_SIGN, make=make))

    # --- sets -----------------------------------------------------------------------------------------------------

    @property
    def begun(self) -> bool:
        """Whether there is any agreement or set, and the key that opens them is here."""
        return self.path.is_dir() and any(self.path.iterdir()) and bool(self.keys.ids(KEY))

    def sets(self) -> list[Held]:
        """Return the sets that are held, by id; expired ones too, which no later payment is held against."""
        if not self.path.is_dir():
            return []
        return [_held(self._read(path)) for path in sorted(self.path.glob("*.set"))]

    def add(self, held: Held) -> Held:
        """Keep a set; one that is held already keeps the moment it came in, and gains the matches of `held`.

        Raises
        ------
        InputError : it was revoked here.
        """
        path = self.path / f"{held.id}.set"
        with self._alone():
            if path.with_suffix(".revoked").exists():
                raise InputError(
                    f"share: set {held.id} was revoked here and is not taken in again; ask the sender for a new one"
                )
            if path.exists():
                before = _held(self._read(path))
                held = replace(before, matches={**before.matches, **held.matches})
            self._write(path, asdict(held))
        return held

    def revoke(self, name: str, reason: str, now: pd.Timestamp) -> dict[str, Any]:
        """Let a set go: its codes and matches are removed, what it was stays on record.

        Raises
        ------
        InputError : no such set.
        """
        path = self.path / f"{name}.set"
        with self._alone():
            if not path.exists():
                there = [each.stem for each in self.path.glob("*.set")]
                known = did_you_mean(name, there) if there else "there is none"
                raise InputError(f"share: no set '{name}' is held here; {known}; see `fraudlab share list`")
            held = _held(self._read(path))
            left = {**described(held), "revoked": now.isoformat(), "reason": reason}
            self._write(path.with_suffix(".revoked"), left)
            path.unlink()
            sync_folder(self.path)
        return left

    def revoked(self) -> list[dict[str, Any]]:
        """Return what is left of the sets that were let go of."""
        return [self._read(path) for path in sorted(self.path.glob("*.revoked"))]

    def revoke_as(self, left: Iterable[Mapping[str, Any]]) -> list[str]:
        """Let go of sets that were revoked elsewhere; return those that were held.

        Parameters
        ----------
        left : what `revoked` returns there; it is on record here too, so that these sets cannot come in again.
        """
        gone = []
        for each in left:
            path = self.path / f"{each['id']}.set"
            with self._alone():
                if not (record := path.with_suffix(".revoked")).exists():
                    self._write(record, each)
                if path.exists():
                    path.unlink()
                    gone.append(each["id"])
                sync_folder(self.path)
        return gone

    def names(self) -> list[str]:
        """Return the ids of the sets that are held; needs no key."""
        return sorted(path.stem for path in self.path.glob("*.set"))

    # --- files ----------------------------------------------------------------------------------------------------

    def _folder(self) -> KeyDirectory:
        if not isinstance(self.keys, KeyDirectory):
            raise InputError(
                "share: a shared key can only be put into a key folder, and FRAUDLAB_KEYS names a server; do this step "
                "as the account that owns the folder"
            )
        return self.keys

    def _take_key(self, folder: KeyDirectory, agreement: Agreement, shared: bytes) -> None:
        name = f"{agreement.key_name}.key"
        if not folder.add(name, shared) and key_id(folder.read_file(name)) != agreement.key_id:
            raise InputError(
                f"share: agreement '{agreement.name}' is here with another key already; give the new one another name"
            )
        self._write_agreement(agreement)

    def _write_agreement(self, agreement: Agreement) -> Agreement:
        with self._alone():
            self._write(self.path / f"{agreement.name}.agreement", asdict(agreement))
        return agreement

    def _key(self, use: bytes, *, make: bool = False) -> bytes:
        if not make and not self.keys.ids(KEY):
            raise missing_key(KEY)
        return self.keys.hmac(KEY, use)

    def _read(self, path: Path) -> dict[str, Any]:
        data = path.read_bytes()
        try:
            return json.loads(AESGCM(self._key(_SEAL)).decrypt(data[:_NONCE], data[_NONCE:], path.name.encode()))
        except (InvalidTag, ValueError):
            raise DamagedError(
                f"share: {path.name} is damaged, or was sealed with another key '{KEY}'; restore it, or the key, from "
                "a backup"
            ) from None

    def _write(self, path: Path, content: Mapping[str, Any]) -> None:
        nonce = os.urandom(_NONCE)
        sealed = AESGCM(self._key(_SEAL, make=True)).encrypt(nonce, json.dumps(content).encode(), path.name.encode())
        fresh = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
        try:
            write_private(fresh, nonce + sealed)
            os.replace(fresh, path)
        finally:
            fresh.unlink(missing_ok=True)
        sync_folder(path.parent)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the folder's lock; say in a sentence what the disk refuses."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            with os.fdopen(os.open(self.path / ".lock", os.O_WRONLY | os.O_CREAT, 0o600), "w") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise FraudlabError(
                f"share: {self.path} could not be written ({error.strerror or error}); nothing was changed; make room "
                "or correct the folder's rights"
            ) from None


def described(held: Held) -> dict[str, Any]:
    """Return what may be said of a set: who sent it, for what, until when, how many of each kind."""
    package = held.package
    return {
        "id": held.id,
        **{name: package[name] for name in ("agreement", "sender", "licence", "issued", "expires")},
        "purposes": list(held.purposes),
        "imported": held.imported,
        "valid_from": held.valid_from,
        "indicators": {kind: len(codes) for kind, codes in package["indicators"].items()},
        "aggregates": len(package["aggregates"]),
        "rules": len(package["rules"]),
    }


def _held(content: Mapping[str, Any]) -> Held:
    return Held(**{**content, "purposes": tuple(content["purposes"])})


def _public(text: Any) -> Ed25519PublicKey:
    if not isinstance(text, str) or len(text) != 64:
        raise ValueError
    return Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))
