"""A key per customer: raw identities are sealed under it, so that destroying it makes every copy of them unreadable.

    named key `identity`  wraps  a key per data set  wraps  a random key per customer
    a raw value in the identity table = AES-256-GCM under its customer's key, bound to data set, pseudonym and column
    a correction of a customer's data = the same, bound to data set, pseudonym and its id

The store is one SQLite database beside the vault. A deleted row is overwritten (`secure_delete`), the database is
written anew (VACUUM), so that nothing depends on which pages a row has been on, and its log is cut to nothing.
Older copies of the database still hold the row: after restoring one, erasures are replayed, and rotating the key
`identity` ends what such copies can open.

Sources: NIST SP 800-38D (GCM); https://sqlite.org/pragma.html (secure_delete, wal_checkpoint).
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fraudlab.privacy.keys import KEY_BYTES, Keys, KeyUnavailableError
from fraudlab.privacy.vault import DamagedError, Vault
from fraudlab.schema import FraudlabError, InputError

IDENTITY_KEY = "identity"
FORMAT = 1
"""What a manifest says of a data set whose identities are sealed like this."""

Seal = Callable[[pd.DataFrame], pd.DataFrame]
_NONCE_BYTES = 12
_SCHEMA = (
    """CREATE TABLE dataset (
        name TEXT PRIMARY KEY,
        wrapped TEXT NOT NULL,
        made_with TEXT NOT NULL  -- id of the named key
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE customer (
        dataset TEXT NOT NULL,
        code TEXT NOT NULL,
        wrapped BLOB NOT NULL,
        PRIMARY KEY (dataset, code)
    ) STRICT, WITHOUT ROWID""",
    f"PRAGMA user_version = {FORMAT}",
)
_CORRECTIONS = """CREATE TABLE IF NOT EXISTS correction (
    id TEXT PRIMARY KEY,
    dataset TEXT NOT NULL,
    code TEXT NOT NULL,
    columns TEXT NOT NULL,  -- names of what changed in the loadable table, with blanks between
    at INTEGER NOT NULL,  -- microseconds since 1970, UTC
    sealed BLOB NOT NULL
) STRICT, WITHOUT ROWID"""
_WAIT_SECONDS = 30


class Correction(NamedTuple):
    """What a store says of a correction without opening it: whose data, which columns, since when (UTC)."""

    id: str
    dataset: str
    code: str
    columns: tuple[str, ...]
    at: pd.Timestamp
    sealed: bytes


@dataclass(frozen=True)
class IdentityStore:
    """The customers' keys in the file `path`, opened with `keys`; made on the first sealing, for its owner only."""

    path: Path
    keys: Keys

    @classmethod
    def beside(cls, vault: Vault) -> IdentityStore:
        """Return the store that belongs to a vault."""
        return cls(vault.root.with_name("identity.db"), vault.keys)

    def sealer(self, dataset: str, codes: Iterable[str], *, anew: bool = False) -> Seal:
        """Return a function that seals the raw columns of tables of these customers; their keys are made where new.

        The tables have `customer_id`, the pseudonym, and text columns; missing values stay missing.

        Parameters
        ----------
        anew : where the key that the data set's keys are under is not here, begin with new ones for all its customers.

        Raises
        ------
        KeyUnavailableError : the key `identity` is not here.
        FraudlabError : the store could not be written.
        """
        ciphers = {code: AESGCM(key) for code, key in self._make(dataset, sorted(set(codes)), anew=anew).items()}

        def seal(table: pd.DataFrame) -> pd.DataFrame:
            return _each(table, lambda code, column, value: _sealed(ciphers[code], value, dataset, code, column))

        return seal

    def opened(self, dataset: str, table: pd.DataFrame) -> pd.DataFrame:
        """Return a sealed table as text, without the rows of customers whose key is gone.

        Raises
        ------
        KeyUnavailableError : the key `identity` is not here, or the store knows nobody of this data set.
        DamagedError : a value was not sealed for this customer, column and data set.
        """
        if table.empty:
            return table
        held = self._held(dataset, set(table["customer_id"]))
        if not held and not self._ask("SELECT 1 FROM customer WHERE dataset = ? LIMIT 1", (dataset,)):
            raise KeyUnavailableError(
                f"data set {dataset}: {self.path.name} holds no customer's key of it; restore it from the backup that "
                "the vault belongs to, or ingest again"
            )
        ciphers = {code: AESGCM(key) for code, key in held.items()}
        there = table[table["customer_id"].isin(list(held))].reset_index(drop=True)
        return _each(there, lambda code, column, value: _opened(ciphers[code], value, dataset, code, column))

    def holds(self, codes: Collection[str]) -> int:
        """Return how many keys of these customers the store holds, of all data sets; needs no named key."""
        return sum(code in codes for (code,) in self._ask("SELECT code FROM customer"))

    def erase(self, codes: Collection[str], dataset: str | None = None) -> int:
        """Destroy the keys of customers, of all data sets or of one, and return how many there were.

        When this returns, neither they nor the pseudonyms beside them are in any byte of the database or its log; so
        too when an earlier call was killed half-way.

        Raises
        ------
        FraudlabError : the disk refused, or another process reads the store without end; call it again.
        """
        if not self.path.exists():
            return 0
        query = "DELETE FROM {} WHERE code = ? AND dataset = coalesce(?, dataset)"
        with self._writing() as database:
            database.execute("BEGIN IMMEDIATE")
            before = database.total_changes
            database.executemany(query.format("customer"), [(code, dataset) for code in codes])
            gone = database.total_changes - before
            database.executemany(query.format("correction"), [(code, dataset) for code in codes])
            database.execute("COMMIT")
            _scrub(database)
        return gone

    def correct(
        self,
        dataset: str,
        code: str,
        columns: Iterable[str],
        content: Mapping[str, Any],
        replaces: Collection[str] = (),
        brought: tuple[str, pd.Timestamp] | None = None,
    ) -> str:
        """Keep a correction of one customer's data, sealed under this customer's key, and return its id.

        Parameters
        ----------
        columns : names of what it changes in the loadable table; they, the pseudonym and the time stay in clear.
        content : what else to know of it, the right value among it; ready for JSON.
        replaces : ids of corrections that go with it, in the same step; no byte of them stays.
        brought : id and time of one that another store holds, such as that of the project a backup was made from.

        Raises
        ------
        KeyUnavailableError : the key `identity` is not here.
        FraudlabError : the store could not be written; nothing was changed.
        """
        cipher = AESGCM(self._make(dataset, [code], anew=False)[code])
        name, moment = os.urandom(16).hex(), time.time_ns() // 1000
        if brought is not None:
            name, moment = brought[0], brought[1].value // 1000
        sealed = _encrypted(cipher, json.dumps(dict(content)).encode(), _bound(dataset, code, "correction", name))
        with self._writing() as database:
            database.execute("BEGIN IMMEDIATE")
            database.executemany("DELETE FROM correction WHERE id = ?", [(each,) for each in replaces])
            values = (name, dataset, code, " ".join(columns), moment, sealed)
            database.execute("INSERT INTO correction VALUES (?, ?, ?, ?, ?, ?)", values)
            database.execute("COMMIT")
            if replaces:
                _scrub(database)
        return name

    def forget(self, corrections: Collection[str]) -> None:
        """Remove corrections by id; no byte of them stays."""
        if corrections and self.path.exists():
            with self._writing() as database:
                database.executemany("DELETE FROM correction WHERE id = ?", [(each,) for each in corrections])
                _scrub(database)

    def corrections(self, dataset: str | None = None, code: str | None = None) -> list[Correction]:
        """Return corrections, of one data set or one customer, the oldest first; needs no key."""
        if not self._ask("SELECT 1 FROM sqlite_schema WHERE name = 'correction'"):
            return []
        query = (
            "SELECT id, dataset, code, columns, at, sealed FROM correction "
            "WHERE dataset = coalesce(?, dataset) AND code = coalesce(?, code) ORDER BY at, id"
        )
        return [
            Correction(name, held_in, whose, tuple(columns.split()), pd.Timestamp(at, unit="us", tz="UTC"), sealed)
            for name, held_in, whose, columns, at, sealed in self._ask(query, (dataset, code))
        ]

    def content(self, corrections: Collection[Correction]) -> list[dict[str, Any]]:
        """Return what was kept of corrections of one data set, opened, in their order.

        Raises
        ------
        KeyUnavailableError : the key `identity`, or a customer's key, is not here.
        DamagedError : one was not sealed for this customer and data set.
        """
        if not corrections:
            return []
        dataset = next(iter(corrections)).dataset
        keys = self._held(dataset, {each.code for each in corrections})
        told = []
        for each in corrections:
            if each.code not in keys:
                raise KeyUnavailableError(
                    f"data set {dataset}: a correction is held whose customer's key is gone from {self.path.name}; "
                    "restore it from a backup"
                )
            bound = _bound(dataset, each.code, "correction", each.id)
            try:
                told.append(json.loads(_decrypted(AESGCM(keys[each.code]), each.sealed, bound)))
            except (InvalidTag, ValueError):
                raise DamagedError(
                    f"{self.path.name}: a correction of data set {dataset} is damaged; restore it from a backup"
                ) from None
        return told

    def rekey(self) -> int:
        """Wrap all customers' keys anew, under new keys for each data set and the current key `identity`.

        Data sets that are under the current key already are left alone. Returns how many customers' keys were wrapped.
        """
        if not self.path.exists():
            return 0
        made_with = self.keys.make(IDENTITY_KEY)
        done = 0
        with self._writing() as database:
            database.execute("BEGIN IMMEDIATE")
            stale = "SELECT name, wrapped FROM dataset WHERE made_with <> ?"
            for dataset, under in database.execute(stale, (made_with,)).fetchall():
                old, new = AESGCM(self.keys.unwrap(IDENTITY_KEY, under)), os.urandom(KEY_BYTES)
                keys = self._known(database, dataset, old)
                database.executemany(
                    "UPDATE customer SET wrapped = ? WHERE dataset = ? AND code = ?",
                    [(_wrapped(AESGCM(new), key, dataset, code), dataset, code) for code, key in keys.items()],
                )
                database.execute(
                    "UPDATE dataset SET wrapped = ?, made_with = ? WHERE name = ?",
                    (self.keys.wrap(IDENTITY_KEY, new), made_with, dataset),
                )
                done += len(keys)
            database.execute("COMMIT")
            _scrub(database)
        return done

    def made_with(self) -> set[str]:
        """Return the ids of the named keys that the store is under."""
        return {key for (key,) in self._ask("SELECT DISTINCT made_with FROM dataset")}

    def _make(self, dataset: str, codes: list[str], *, anew: bool) -> dict[str, bytes]:
        with self._writing() as database:
            database.execute("BEGIN IMMEDIATE")
            row = database.execute("SELECT wrapped, made_with FROM dataset WHERE name = ?", (dataset,)).fetchone()
            if row is not None and anew and row[1] not in self.keys.ids(IDENTITY_KEY):
                for table, column in (("customer", "dataset"), ("correction", "dataset"), ("dataset", "name")):
                    database.execute(f"DELETE FROM {table} WHERE {column} = ?", (dataset,))
                row = None
            if row is None:
                key, made_with = os.urandom(KEY_BYTES), self.keys.make(IDENTITY_KEY)
                values = (dataset, self.keys.wrap(IDENTITY_KEY, key), made_with)
                database.execute("INSERT INTO dataset VALUES (?, ?, ?)", values)
            else:
                key = self.keys.unwrap(IDENTITY_KEY, row[0])
            cipher = AESGCM(key)
            known = self._known(database, dataset, cipher)
            fresh = {code: os.urandom(KEY_BYTES) for code in codes if code not in known}
            database.executemany(
                "INSERT INTO customer VALUES (?, ?, ?)",
                [(dataset, code, _wrapped(cipher, key, dataset, code)) for code, key in fresh.items()],
            )
            database.execute("COMMIT")
        return known | fresh

    def _known(self, database: sqlite3.Connection, dataset: str, cipher: AESGCM) -> dict[str, bytes]:
        rows = database.execute("SELECT code, wrapped FROM customer WHERE dataset = ?", (dataset,)).fetchall()
        return {code: self._unwrapped(cipher, wrapped, dataset, code) for code, wrapped in rows}

    def _held(self, dataset: str, codes: set[str]) -> dict[str, bytes]:
        query, values = "SELECT code, wrapped FROM customer WHERE dataset = ?", [dataset]
        if len(codes) == 1:
            query, values = f"{query} AND code = ?", [dataset, *codes]
        rows = [row for row in self._ask(query, tuple(values)) if row[0] in codes]
        under = self._ask("SELECT wrapped FROM dataset WHERE name = ?", (dataset,))
        if not rows or not under:
            return {}
        cipher = AESGCM(self.keys.unwrap(IDENTITY_KEY, under[0][0]))
        return {code: self._unwrapped(cipher, wrapped, dataset, code) for code, wrapped in rows}

    def _unwrapped(self, cipher: AESGCM, wrapped: bytes, dataset: str, code: str) -> bytes:
        try:
            return _decrypted(cipher, wrapped, _bound(dataset, code))
        except InvalidTag:
            raise DamagedError(f"{self.path.name}: a customer's key is damaged; restore it from a backup") from None

    def _ask(self, query: str, values: tuple[str | None, ...] = ()) -> list[tuple]:
        if not self.path.exists():
            return []
        with self._said("read"):
            database = sqlite3.connect(f"{self.path.resolve().as_uri()}?mode=ro", uri=True, timeout=_WAIT_SECONDS)
            with contextlib.closing(database):
                return database.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._said("written"):
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # SQLite gives its side files the rights of the database, so these come first.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            self.path.chmod(0o600)
            database = sqlite3.connect(self.path, timeout=_WAIT_SECONDS, isolation_level=None)
            with contextlib.closing(database):
                for pragma in ("secure_delete = ON", "journal_mode = WAL", "synchronous = FULL", "temp_store = MEMORY"):
                    database.execute(f"PRAGMA {pragma}")
                _create(database)
                database.execute(_CORRECTIONS)  # a store of an earlier version has none
                yield database

    @contextlib.contextmanager
    def _said(self, done: str) -> Iterator[None]:
        """Say in a sentence what the disk or SQLite refuses."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            what = getattr(error, "strerror", None) or error
            raise FraudlabError(
                f"customers' keys: {self.path} could not be {done} ({what}); check its rights and the disk, call it "
                "again, or restore it from a backup"
            ) from None


def identities(
    vault: Vault, dataset: str, *, columns: list[str] | None = None, customers: Collection[str] | None = None
) -> pd.DataFrame:
    """Return a data set's raw identities, opened; the one way to read them.

    Parameters
    ----------
    columns : `raw_` and the source's name; None reads all.
    customers : pseudonyms; the others' identities are not opened. None opens all.

    Returns
    -------
    DataFrame: customer_id and the columns, as text; a customer can have several rows. Whose key was destroyed has none.

    Raises
    ------
    InputError : no such data set, or its identities are not sealed per customer yet.
    KeyUnavailableError, DamagedError : as for `Vault.read` and `IdentityStore.opened`.
    """
    table = vault.read(dataset, "identity", columns=None if columns is None else ["customer_id", *columns])
    if vault.manifest(dataset).get("identities") != FORMAT:
        raise InputError(
            f"data set {dataset}: its identities are of an older form, not sealed for each customer; ingest it again"
        )
    if customers is not None:
        table = table[table["customer_id"].isin(list(customers))]
    return IdentityStore.beside(vault).opened(dataset, table)


def _each(table: pd.DataFrame, change: Callable[[str, str, object], object]) -> pd.DataFrame:
    """Return a table with every value that is there changed, given its customer and column."""
    codes = table["customer_id"].tolist()
    changed = {
        name: [
            None if missing else change(code, name, value)
            for code, value, missing in zip(codes, table[name].tolist(), table[name].isna())
        ]
        for name in table.columns
        if name != "customer_id"
    }
    return table.assign(**{name: pd.array(values, dtype="str") for name, values in changed.items()})


def _sealed(cipher: AESGCM, value: object, dataset: str, code: str, column: str) -> str:
    return _encrypted(cipher, str(value).encode(), _bound(dataset, code, column)).hex()


def _opened(cipher: AESGCM, value: object, dataset: str, code: str, column: str) -> str:
    try:
        return _decrypted(cipher, bytes.fromhex(str(value)), _bound(dataset, code, column)).decode()
    except (InvalidTag, ValueError):
        raise DamagedError(
            f"data set {dataset}: an identity in column '{column}' was not sealed for this customer and column, or is "
            "damaged; ingest it again or restore a backup"
        ) from None


def _wrapped(cipher: AESGCM, key: bytes, dataset: str, code: str) -> bytes:
    return _encrypted(cipher, key, _bound(dataset, code))


def _encrypted(cipher: AESGCM, data: bytes, bound: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, data, bound)


def _decrypted(cipher: AESGCM, data: bytes, bound: bytes) -> bytes:
    return cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], bound)


def _bound(*words: str) -> bytes:
    return "\0".join(words).encode()


def _create(database: sqlite3.Connection) -> None:
    """Make the tables; of two processes that come first at once, one makes them and the other finds them."""
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if version == FORMAT:
        return
    database.execute("BEGIN IMMEDIATE")
    if not database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        for statement in _SCHEMA:
            database.execute(statement)
    elif database.execute("PRAGMA user_version").fetchone()[0] != FORMAT:
        raise sqlite3.DatabaseError("not a store of this version")
    database.execute("COMMIT")


def _scrub(database: sqlite3.Connection) -> None:
    """Leave only live rows in the database's bytes, and none in its log."""
    database.execute("VACUUM")
    if database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        raise sqlite3.OperationalError("another process reads it, so that its log still holds what was removed")
