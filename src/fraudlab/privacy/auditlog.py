"""The audit log: who did what and when, in a form that shows tampering.

An SQLite database of numbered entries. Each entry carries a MAC of itself and of the entry before it, so a changed,
removed or inserted entry no longer fits:

    text = JSON array [number, time, action, actor, facts, previous], ASCII, no blanks; facts as the text stored
    mac  = HMAC-SHA256(K, text) in hex; previous = mac of the entry before, 64 zeros before the first
    K    = HMAC-SHA256(key `audit`, "fraudlab audit chain"), which every place that keeps keys can compute

That cannot show a cut tail, nor a log rewritten by who can use the key. An anchor can: the newest entry's number and
MAC, signed (Ed25519, the seed made like K from the key `audit-sign` and "fraudlab audit signature") and kept where
whoever could change the log cannot change it.

Sources: RFC 2104 (HMAC), RFC 8032 (Ed25519); B. Schneier and J. Kelsey, "Secure Audit Logs to Support Computer
Forensics", ACM TISSEC 2(2), 1999 (chained MACs).
"""

from __future__ import annotations

import contextlib
import datetime
import hmac
import json
import os
import re
import secrets
import sqlite3
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fraudlab.config import Workspace
from fraudlab.privacy.keys import Keys, account_name, key_id, missing_key, open_keys, sync_folder, write_private
from fraudlab.privacy.masking import find_identifiers
from fraudlab.schema import TIME_DTYPE, FraudlabError, InputError, did_you_mean, utc

CHAIN_KEY = "audit"
SIGN_KEY = "audit-sign"
_USES = {CHAIN_KEY: b"fraudlab audit chain", SIGN_KEY: b"fraudlab audit signature"}

ACTIONS = {
    "ingest": "a source was checked, treated and written into the vault",
    "load": "transactions were read from the vault for a purpose",
    "reidentify": "an identity was looked up behind a pseudonym",
    "refuse": "something asked for was denied",
    "consent": "a customer's consent was given or withdrawn",
    "object": "a customer objected to a use, or took the objection back",
    "restrict": "the use of a customer's data was restricted, or freed again",
    "erase": "a customer's data were erased",
    "rectify": "a customer's data were corrected",
    "access": "a customer got a copy of the own data",
    "retention": "data past their time were removed",
    "label": "outcomes of reviews or chargebacks came in",
    "train": "a model was trained",
    "decide": "it was decided about a model version (promoted, kept back, put into shadow) or a pattern",
    "promote": "a model version was made champion",
    "export": "data, a report or a model left the workspace",
    "share": "it was agreed to share indicators, or another institution's came in or were let go of",
    "keys": "a key was made, rotated, handed over or destroyed",
    "backup": "a backup was made",
    "restore": "a backup was restored",
    "drill": "restoring, or another emergency, was rehearsed",
    "scan": "files were searched for raw identifiers",
}
"""What an entry can be about."""

GENESIS = "0" * 64
_COLUMNS = "number, time, action, actor, facts, mac"
_TABLE = (
    "CREATE TABLE entries (number INTEGER PRIMARY KEY, time INTEGER NOT NULL, action TEXT NOT NULL, "
    "actor TEXT NOT NULL, facts TEXT NOT NULL, mac TEXT NOT NULL) STRICT"
)
_ANCHOR = ("number", "mac", "time", "public_key", "public_key_id")
_WAIT_SECONDS = 60
_canonical = json.JSONEncoder(separators=(",", ":"), sort_keys=True, allow_nan=False).encode

# One random code in some thousands looks like an IBAN, card or phone by chance. Of these lengths none can be one ...
_LONG_CODE = re.compile(r"\b(?:[0-9a-f]{64}|[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b")
# ... and shorter ones, and dates in a backup's name, are known by the fact's name.
_CODE_NAMES = ("backup", "digest", "key_id", "run", "snapshot", "version")
_SHORT_CODE = re.compile(r"(?:[\w.]+-)*[0-9a-f]{6,64}")
_NUMBER_LIMIT = 10**12


class DamagedLogError(FraudlabError):
    """The audit log is not what was written there."""


@dataclass(frozen=True)
class Verification:
    """What a check of the log found.

    entries : how many the log holds.
    problems : a sentence for each thing that is wrong; none when `ok`.
    warnings : what is odd and need not be wrong.
    first_bad : number of the first entry that cannot be trusted; None where there is none, or it cannot be told.
    """

    entries: int
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    first_bad: int | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


@dataclass(frozen=True)
class AuditLog:
    """The log at `path`, made on the first entry, for its owner only (0600); any number of processes may write.

    >>> import tempfile
    >>> from fraudlab.privacy.keys import KeyDirectory
    >>> folder = Path(tempfile.mkdtemp())
    >>> log = AuditLog(folder / "audit.db", KeyDirectory(folder / "keys"))
    >>> log.append("ingest", dataset="demo", rows=1200)
    1
    >>> log.verify().ok, log.entries()["facts"].tolist()
    (True, [{'dataset': 'demo', 'rows': 1200}])
    """

    path: Path
    keys: Keys
    _held: sqlite3.Connection | None = field(default=None, repr=False, compare=False)

    def append(self, action: str, **facts: Any) -> int:
        """Write one entry and return its number; when this returns, the entry is on the disk.

        Parameters
        ----------
        action : one of `ACTIONS`.
        facts : text, whole or decimal numbers (below 10^12, because longer ones could be card numbers), True, False,
            None, or lists of texts; pseudonyms, names of data sets, counts, reasons; never a raw identifier.

        Raises
        ------
        InputError : an unknown action; a fact of another kind, or one that looks like an e-mail address, IBAN, card or
            phone number. Random codes pass: pseudonyms, sha-256 digests and UUIDs everywhere, shorter ones in facts
            named backup, digest, key_id, run, snapshot or version, or ending so.
        KeyUnavailableError : the log has entries and the key `audit` is not here.
        DamagedLogError : the last entry does not fit the key; nothing is added to a log that cannot be trusted.
        FraudlabError : the disk refused, or another process held the log for a minute.
        """
        _refuse_unknown(action)
        text = _facts_text(facts)
        with self._sentences(), self._writer() as connection, _transaction(connection, "IMMEDIATE"):
            newest = _newest(connection)
            key = self._key(CHAIN_KEY, make=not newest)
            number, previous = self._head(newest, key) if newest else (0, GENESIS)
            # The time is taken under the lock, so that it rises with the number.
            entry = (number + 1, time.time_ns() // 1000, action, _actor(), text)
            sealed = (*entry, _mac(key, entry, previous))
            connection.execute(f"INSERT INTO entries ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", sealed)
        return number + 1

    @contextlib.contextmanager
    def opened(self) -> Iterator[AuditLog]:
        """Give the log with its database kept open, for many entries in a row (several times faster each).

        Each entry is on the disk when its `append` returns, as ever. Use it in this thread and process only.
        """
        with contextlib.ExitStack() as stack:
            with self._sentences():  # of opening only; what the caller does inside speaks for itself
                connection = stack.enter_context(self._writer())
            yield replace(self, _held=connection)

    def entries(
        self, action: str | None = None, since: pd.Timestamp | str | None = None, limit: int | None = None
    ) -> pd.DataFrame:
        """Return entries in their order; whether they can be trusted is the question of `verify`.

        Parameters
        ----------
        action : only this one.
        since : only those at or after this moment, which carries a time zone.
        limit : only the newest so many of them.

        Returns
        -------
        DataFrame: number, time (UTC, microseconds), action, actor (account name/uid), facts (dict).

        Raises
        ------
        InputError : an unknown action, a moment without time zone, a limit below 1.
        FraudlabError : the log is damaged or cannot be read.
        """
        if action is not None:
            _refuse_unknown(action)
        if limit is not None and limit < 1:
            raise InputError(f"limit: must be at least 1; found {limit}; leave it out for all entries")
        earliest = 0 if since is None else utc(since, "since").value // 1000
        query = (
            "SELECT number, time, action, actor, facts FROM entries WHERE (:action IS NULL OR action = :action) "
            "AND time >= :earliest ORDER BY number DESC LIMIT :limit"
        )
        rows: list[tuple] = []
        if self.path.exists():
            with self._reader() as connection:
                wanted = {"action": action, "earliest": earliest, "limit": -1 if limit is None else limit}
                rows = connection.execute(query, wanted).fetchall()[::-1]
        try:
            facts = [dict(json.loads(row[4])) for row in rows]
            return pd.DataFrame(
                {
                    "number": pd.Series([row[0] for row in rows], dtype="int64"),
                    "time": pd.to_datetime(pd.Series([row[1] for row in rows], dtype="int64"), unit="us", utc=True),
                    "action": pd.Series([row[2] for row in rows], dtype="str"),
                    "actor": pd.Series([row[3] for row in rows], dtype="str"),
                    "facts": pd.Series(facts, dtype="object"),
                }
            ).astype({"time": TIME_DTYPE})
        except (TypeError, ValueError):
            raise self._damaged("holds an entry that cannot be read") from None

    def anchor(self) -> dict[str, Any]:
        """Sign the newest entry; the result is worth what the place is safe where it is kept.

        Returns
        -------
        dict, ready for JSON: number, mac (of the newest entry; 0 and zeros for an empty log), time (ISO, UTC),
        public_key (Ed25519, hex), public_key_id, signature (hex, over the canonical JSON of the other five).

        Raises
        ------
        KeyUnavailableError, DamagedLogError, FraudlabError : as for `append`.
        """
        number, mac = 0, GENESIS
        if self.path.exists():
            with self._reader() as connection:
                newest = _newest(connection)
                if newest:
                    number, mac = self._head(newest, self._key(CHAIN_KEY))
        signer = self._signer(make=True)
        public = signer.public_key().public_bytes_raw()
        head = {
            "number": number,
            "mac": mac,
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds"),
            "public_key": public.hex(),
            "public_key_id": key_id(public),
        }
        return {**head, "signature": signer.sign(_canonical(head).encode()).hex()}

    def verify(self, anchor: Mapping[str, Any] | None = None) -> Verification:
        """Check every MAC, that no number is missing, that times do not fall, and what an anchor says.

        Parameters
        ----------
        anchor : what `anchor` returned at an earlier time. Without one a cut tail, a removed log, or one rewritten by
            who holds the key `audit`, cannot be noticed; with one, up to the entry that it names.

        Raises
        ------
        InputError : `anchor` is none.
        KeyUnavailableError : the key `audit`, or for an anchor `audit-sign`, is not here.
        FraudlabError : the log cannot be read.
        """
        if anchor is not None and set(anchor) != {*_ANCHOR, "signature"}:
            raise InputError(
                f"anchor: must hold {', '.join(_ANCHOR)} and signature, as `fraudlab audit anchor` writes them; found "
                f"{len(anchor)} other or incomplete fields; give the anchor unchanged"
            )
        chain = _Chain()
        problems = []
        named = None if anchor is None else anchor["number"]
        try:
            if self.path.exists():
                self._follow(chain, named)
            elif self.keys.ids(CHAIN_KEY):
                chain.warnings.append("there is a key 'audit' and no log: it was not begun here, moved away or removed")
        except DamagedLogError as error:
            chain.bad.append(chain.last + 1)
            problems.append(str(error))
        problems += chain.problems()
        if anchor is not None:
            problems += self._against(anchor, chain)
        return Verification(chain.entries, problems, chain.warnings, min(chain.bad, default=None))

    def _follow(self, chain: _Chain, named: int | None) -> None:
        with self._reader() as connection:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM entries ORDER BY number")
            first = rows.fetchone()
            if first is None:
                return
            key = self._key(CHAIN_KEY)
            chain.add(key, first, named)
            for row in rows:
                chain.add(key, row, named)

    def _against(self, anchor: Mapping[str, Any], chain: _Chain) -> list[str]:
        """Return what speaks against the anchor, or in its light against the log."""
        number, public = anchor["number"], self._signer().public_key()
        if anchor["public_key"] != public.public_bytes_raw().hex():
            return [
                f"the anchor was signed with another key (id {anchor['public_key_id']}) than 'audit-sign' here (id "
                f"{key_id(public.public_bytes_raw())}): it belongs to another log, is forged, or the keys were replaced"
            ]
        try:
            signed = _canonical({name: anchor[name] for name in _ANCHOR}).encode()
            public.verify(bytes.fromhex(anchor["signature"]), signed)
        except (InvalidSignature, TypeError, ValueError):
            return ["the anchor was changed after it was signed: it proves nothing; take another copy of it"]
        if number > chain.last:
            chain.bad.append(chain.last + 1)
            return [
                f"the anchor of {anchor['time']} names entry {number:,} and the log ends with entry {chain.last:,}: "
                "its tail was cut off, or an older copy was put in its place"
            ]
        if number and chain.named_mac != anchor["mac"]:
            chain.bad.append(number)
            return [
                f"entry {number:,} is not the one that the anchor of {anchor['time']} names: it or entries before it "
                "were removed or rewritten"
            ]
        return []

    def _head(self, newest: list[tuple], key: bytes) -> tuple[int, str]:
        """Return number and MAC of the newest entry, once it is seen to fit the key and the entry before it."""
        *entry, mac = newest[0]
        if mac != _mac(key, entry, newest[1][-1] if len(newest) == 2 else GENESIS):
            raise self._damaged(f"its last entry {entry[0]:,} does not fit the key 'audit' and the entry before it")
        return entry[0], mac

    def _signer(self, *, make: bool = False) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self._key(SIGN_KEY, make=make))

    def _key(self, name: str, *, make: bool = False) -> bytes:
        """Return the key made from a named one; unasked none is made anew, for it would fit nothing that is there."""
        if not make and not self.keys.ids(name):
            raise missing_key(name)
        return self.keys.hmac(name, _USES[name])

    def _damaged(self, what: str) -> DamagedLogError:
        return DamagedLogError(
            f"audit log: {self.path.name}: {what}; run `fraudlab audit verify`, then keep the file as evidence and put "
            "a backup in its place, or move it away to begin anew"
        )

    @contextlib.contextmanager
    def _writer(self) -> Iterator[sqlite3.Connection]:
        """Give a connection to write with: the one held open, else one for now."""
        if self._held is not None:
            yield self._held
            return
        if not self.path.exists():
            self._create()
        with self._connection("rw") as connection:
            connection.execute("PRAGMA synchronous = FULL")
            yield connection

    @contextlib.contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """Give a connection that sees one state of the log and changes nothing."""
        with self._sentences(), self._connection("ro") as connection, _transaction(connection, "DEFERRED"):
            yield connection

    @contextlib.contextmanager
    def _connection(self, mode: str) -> Iterator[sqlite3.Connection]:
        where = f"{self.path.resolve().as_uri()}?mode={mode}"
        connection = sqlite3.connect(where, uri=True, timeout=_WAIT_SECONDS, isolation_level=None)
        with contextlib.closing(connection):
            # Bytes that are no text must make the MAC fail, not the reading.
            connection.text_factory = lambda data: data.decode(errors="surrogateescape")
            # A trigger could remove entries unseen, a rebuilt table could hold two under one number.
            if connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall() != [
                ("table", "entries", _TABLE)
            ]:
                raise self._damaged("holds something else than the table of entries that was made")
            yield connection

    @contextlib.contextmanager
    def _sentences(self) -> Iterator[None]:
        """Turn what the database or the disk refuses into a sentence."""
        try:
            yield
        except (sqlite3.OperationalError, OSError) as error:
            said = error.strerror if isinstance(error, OSError) else error
            raise FraudlabError(
                f"audit log: {self.path} could not be used ({said}); make room, correct the rights there, or wait for "
                "the process that holds it"
            ) from None
        except sqlite3.Error as error:
            raise self._damaged(f"is damaged ({error})") from None

    def _create(self) -> None:
        """Make the database under another name, then link it: whoever comes second keeps the first one's."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        building = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        try:
            write_private(building, b"")
            with contextlib.closing(sqlite3.connect(building, isolation_level=None)) as connection:
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute(_TABLE)
            with contextlib.suppress(FileExistsError):
                os.link(building, self.path)
        finally:
            for left in self.path.parent.glob(f"{building.name}*"):
                left.unlink()
        sync_folder(self.path.parent)


@dataclass
class _Chain:
    """What following the entries has shown so far."""

    entries: int = 0
    last: int = 0
    last_mac: str = GENESIS
    last_time: int = 0
    named_mac: str = GENESIS
    bad: list[int] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    missing: list[tuple[int, int]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, key: bytes, row: tuple, named: int | None) -> None:
        """Take the next entry; after a bad one the chain goes on from what is stored, to find every bad one."""
        *entry, mac = row
        number, moment = entry[:2]
        if number > self.last + 1:
            self.missing.append((self.last + 1, number - 1))
            self.bad.append(self.last + 1)
            # Only the missing entry could say whether this one is as written.
        elif mac != _mac(key, entry, self.last_mac):
            self.changed.append(number)
            self.bad.append(number)
        if isinstance(moment, int):
            if moment < self.last_time:
                self.warnings.append(
                    f"entry {number:,}: its time is {(self.last_time - moment) / 1e6:,.1f} s before that of the entry "
                    "before it; a clock was set back"
                )
            self.last_time = moment
        if number == named:
            self.named_mac = mac
        self.entries += 1
        self.last, self.last_mac = number, mac

    def problems(self) -> list[str]:
        """Return a sentence for each run of bad entries."""
        said = []
        for first, last in self.missing:
            said.append(
                (first, f"{_numbers(first, last)} missing: removed after writing; nor can {last + 1:,} be checked now")
            )
        if self.changed and len(self.changed) == self.entries:
            return [
                f"none of {self.entries:,} entries fits the key 'audit': the key was replaced, or the log is another's"
            ]
        for first, last in _runs(self.changed):
            said.append(
                (first, f"{_numbers(first, last)} not as written here: changed, moved or inserted by someone else")
            )
        return [sentence for _, sentence in sorted(said)]


def audit_log(workspace: Workspace) -> AuditLog:
    """Return the audit log of a workspace."""
    return AuditLog(workspace.audit, open_keys(workspace))


def write_anchor(path: Path, anchor: Mapping[str, Any]) -> None:
    """Write an anchor to a new file (0600), whole or not at all.

    Raises
    ------
    InputError : the file is there already; an anchor is kept, never replaced.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        write_private(temporary, json.dumps(anchor, indent=2).encode() + b"\n")
        os.link(temporary, path)
    except FileExistsError:
        raise InputError(f"out: {path} is there already, and anchors are kept; choose another name") from None
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def read_anchor(path: Path) -> dict[str, Any]:
    """Read an anchor from a file.

    Raises
    ------
    InputError : there is no such file, or it holds something else.
    """
    try:
        anchor = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"anchor: {path} cannot be read ({error.strerror}); correct the path") from None
    except ValueError:
        anchor = None
    if not isinstance(anchor, dict):
        raise InputError(f"anchor: {path} must hold what `fraudlab audit anchor` writes; found something else")
    return anchor


def _newest(connection: sqlite3.Connection) -> list[tuple]:
    return connection.execute(f"SELECT {_COLUMNS} FROM entries ORDER BY number DESC LIMIT 2").fetchall()


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection, kind: str) -> Iterator[None]:
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _mac(key: bytes, entry: list | tuple, previous: str) -> str:
    """Return the MAC of an entry (number, time, action, actor, facts) that follows the one with MAC `previous`."""
    try:
        text = _canonical([*entry, previous])
    except (TypeError, ValueError):
        return ""  # Of kinds that were never written; no MAC fits.
    return hmac.digest(key, text.encode(), "sha256").hex()


def _actor() -> str:
    """Return the account that acts, by name and number; not from the environment, which anyone can set."""
    return f"{account_name(os.getuid())}/{os.getuid()}"


def _refuse_unknown(action: str) -> None:
    if action not in ACTIONS:
        raise InputError(f"action: no word '{action}' in the audit log; {did_you_mean(action, ACTIONS)}")


def _facts_text(facts: Mapping[str, Any]) -> str:
    for name, value in facts.items():
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise InputError("facts: names must be lower-case letters, digits and '_'; found another; rename it")
        kind = _identifier_kind(name, value)
        if kind is not None:
            raise InputError(
                f"fact '{name}': must hold no identifier; found what looks like one ({kind}); give its pseudonym, or "
                "leave it out"
            )
    return _canonical(facts)


def _identifier_kind(name: str, value: Any) -> str | None:
    """Return what a fact looks like (email, iban, card, phone), or None; refuse kinds that an entry cannot hold."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        if not abs(value) < _NUMBER_LIMIT:
            raise InputError(
                f"fact '{name}': a number must be finite and below 10^12, because a longer one could be a card "
                "number; give a larger unit, or an ISO time"
            )
        return None
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in texts):
        raise InputError(
            f"fact '{name}': must be text, a number, True, False, None or a list of texts; found "
            f"{type(value).__name__}; turn it into one of these"
        )
    if name.removesuffix("s").endswith(_CODE_NAMES):
        texts = [text for text in texts if not _SHORT_CODE.fullmatch(text)]
    return next((found.kind for text in texts for found in find_identifiers(_LONG_CODE.sub(" ", text))), None)


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    """Return rising numbers as (first, last) of each unbroken run.

    >>> _runs([3, 4, 5, 9])
    [(3, 5), (9, 9)]
    """
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


def _numbers(first: int, last: int) -> str:
    return f"entry {first:,} is" if first == last else f"entries {first:,} to {last:,} are"
