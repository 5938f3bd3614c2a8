"""The ledger: who agreed, withdrew, objected, was restricted or erased, for which purpose, since when, how it came in.

One SQLite table that only grows, of pseudonyms only (the fields of ISO/IEC TS 27560 in short). What counts for whom:

    basis of the purpose                    who is left out
    consent                                 all without a standing consent
    legitimate-interest, public-task        those with a standing objection or withdrawal
    contract, legal-obligation, vital-...   nobody
    every basis                             those restricted or erased, for this purpose or for all ("*")

Triggers refuse to change or delete a row. They stop programs and slips, not the owner of the file, who can replace it.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import hashlib
import os
import re
import secrets
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from fraudlab.privacy.keys import sync_folder, write_private
from fraudlab.privacy.masking import find_identifiers
from fraudlab.schema import TIME_DTYPE, FraudlabError, InputError, did_you_mean, refuse, utc

EVERY_PURPOSE = "*"
BASES = ("consent", "contract", "legal-obligation", "vital-interests", "public-task", "legitimate-interest")
"""Lawful bases, GDPR Art. 6(1)."""

_INTERESTS = ("legitimate-interest", "public-task")
COLUMNS = ("number", "customer", "purpose", "basis", "event", "at", "recorded", "source", "note")
_GIVEN = ("customer", "purpose", "basis", "event", "at", "source", "note")


class Event(NamedTuple):
    """What an event is about (of one subject the latest event stands), whether it closes, on which bases it exists."""

    about: str
    closes: bool
    bases: tuple[str, ...]


EVENTS: dict[str, Event] = {
    "consent": Event("agreement", False, ("consent",)),
    "withdrawal": Event("agreement", True, ("consent", *_INTERESTS)),
    "objection": Event("objection", True, _INTERESTS),
    "objection-refused": Event("objection", False, _INTERESTS),
    "objection-withdrawn": Event("objection", False, _INTERESTS),
    "restriction": Event("restriction", True, BASES),
    "restriction-lifted": Event("restriction", False, BASES),
    "erasure": Event("erasure", True, BASES),
}
_ABOUT = {name: event.about for name, event in EVENTS.items()}
_CLOSES = {name: event.closes for name, event in EVENTS.items()}
_WITHOUT_BASIS = ("restriction", "restriction-lifted", "erasure")
_REASONS = ("erasure", "restriction", "objection", "withdrawal", "no consent")

_FORMAT = 1
_SCHEMA = (
    f"""CREATE TABLE event (
        number INTEGER PRIMARY KEY,
        customer TEXT NOT NULL CHECK (length(customer) = 32 AND customer NOT GLOB '*[^0-9a-f]*'),
        purpose TEXT NOT NULL CHECK (purpose <> ''),
        basis TEXT CHECK (basis IN {BASES}),
        event TEXT NOT NULL CHECK (event IN {tuple(EVENTS)}),
        at INTEGER NOT NULL CHECK (at <= recorded),  -- microseconds since 1970, UTC, as is recorded
        source TEXT NOT NULL CHECK (source <> ''),
        note TEXT NOT NULL,
        recorded INTEGER NOT NULL
    ) STRICT""",
    "CREATE INDEX event_customer ON event (customer, purpose, event, at)",
    # Holds all that decides over a purpose, so that a load of many consents reads nothing else.
    "CREATE INDEX event_purpose ON event (purpose, event, customer, at, recorded)",
    """CREATE TRIGGER event_unchanged BEFORE UPDATE ON event
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END""",
    """CREATE TRIGGER event_kept BEFORE DELETE ON event
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END""",
    # INSERT OR REPLACE deletes without asking the trigger above; a number in sequence leaves it nothing to replace.
    """CREATE TRIGGER event_appended BEFORE INSERT ON event
    WHEN NEW.number <> (SELECT coalesce(max(number), 0) + 1 FROM event)
      OR NEW.recorded < (SELECT recorded FROM event ORDER BY number DESC LIMIT 1)
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END""",
    f"PRAGMA user_version = {_FORMAT}",
)
_INSERT = "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_SAME = "SELECT 1 FROM event WHERE " + " AND ".join(f"{name} IS ?" for name in _GIVEN)
_WAIT_SECONDS = 30


@dataclass(frozen=True)
class Ledger:
    """The events kept in the file `path`; where there is no file there are no events, and reading makes none."""

    path: Path

    def record(
        self,
        customer: str,
        purpose: str,
        event: str,
        *,
        source: str,
        basis: str | None = None,
        at: pd.Timestamp | None = None,
        note: str = "",
    ) -> int:
        """Append one event and return its number.

        Parameters
        ----------
        customer : the pseudonym, 32 hexadecimal digits.
        purpose : the purpose it is about; "*" (all of them) for a restriction, its lifting, and an erasure only.
        event : one of `EVENTS`. "objection-refused" needs its compelling grounds in `note` (GDPR Art. 21(1)).
        source : how it came in, such as "letter of 2026-03-01"; no name, address or number of a person.
        basis : the purpose's lawful basis (GDPR Art. 6); may be missing for a restriction, its lifting and an erasure.
        at : since when it holds, with a time zone, not in the future. Default: now.

        Raises
        ------
        InputError : a rule above is broken, a line each; nothing was recorded.
        FraudlabError : the ledger could not be written, or is not one; nothing was recorded.

        Notes
        -----
        An objection counts until it is refused with grounds or taken back ("objection-withdrawn"). A withdrawal counts
        on the bases of legitimate interest and public task too: changing the basis is no way around it (EDPB guidelines
        05/2020, 121-123). Erasure is never undone. What was restricted for all purposes is lifted for all purposes.
        """
        now = _now()
        held_at = now if at is None else utc(at, "at")
        given = (customer, purpose, basis or None, event, _micros(held_at), source.strip(), note.strip())
        refuse(_broken(given, _micros(now)))
        numbers, _ = self._append([given], now)
        return numbers[0]

    def events(self, customer: str | None = None, purpose: str | None = None) -> pd.DataFrame:
        """Return the events, oldest number first; of one customer, or that name one purpose ("*" is a name too).

        Returns
        -------
        DataFrame: number (int64), customer, purpose, basis (missing where none was given), event, at and recorded
        (microseconds, UTC), source, note ("" where there is none).
        """
        wanted = {"customer": customer, "purpose": purpose}
        chosen = {name: value for name, value in wanted.items() if value is not None}
        where = " AND ".join(f"{name} = ?" for name in chosen)
        query = f"SELECT {', '.join(COLUMNS)} FROM event {f'WHERE {where}' if where else ''} ORDER BY number"
        (rows,) = self._ask([(query, tuple(chosen.values()))])
        columns = dict(zip(COLUMNS, zip(*rows))) if rows else dict.fromkeys(COLUMNS, ())
        return pd.DataFrame({name: _typed(name, values) for name, values in columns.items()})

    def standing(self, purpose: str, as_of: pd.Timestamp | None = None) -> pd.DataFrame:
        """Return the events that decide over a purpose, those for all purposes among them; see `standing`.

        Parameters
        ----------
        as_of : None counts every event recorded. A moment counts the events that held by then (`at`) and had been
            recorded by then (`recorded`): a letter of the 1st, recorded on the 5th, was not heeded by a load of the
            3rd, and this says what that load saw. For an audit only; what is in force is what None says.
        """
        names = (purpose, EVERY_PURPOSE)
        until = np.iinfo(np.int64).max if as_of is None else _micros(utc(as_of, "as_of"))
        wanted = "SELECT customer, at FROM event WHERE purpose = ? AND event = ? AND at <= ? AND recorded <= ?"
        asked = [(name, event) for name in names for event in EVENTS]
        found = self._ask([(wanted, (*pair, until, until)) for pair in asked])
        # Codes instead of words: a purpose on consent can have an event for every customer.
        pairs = np.repeat(np.arange(len(asked)), [len(rows) for rows in found])
        customers, moments = zip(*(row for rows in found for row in rows)) if len(pairs) else ((), ())
        return standing(
            pd.DataFrame(
                {
                    "customer": _typed("customer", customers),
                    "purpose": pd.Categorical.from_codes(pairs // len(EVENTS), list(names)),
                    "event": pd.Categorical.from_codes(pairs % len(EVENTS), list(EVENTS)),
                    "at": _typed("at", moments),
                }
            )
        )

    def allowed(self, customers: pd.Series, purpose: str, basis: str, as_of: pd.Timestamp | None = None) -> np.ndarray:
        """Return for each row whether its customer may be processed for a purpose that stands on `basis`.

        Parameters
        ----------
        customers : pseudonyms, any length, repeats welcome. A missing one has no consent and no objection.
        as_of : see `standing`.

        Returns
        -------
        Boolean array as long as `customers`.

        >>> Ledger(Path("none.db")).allowed(pd.Series(["7f" * 16]), "marketing", "consent").tolist()
        [False]
        """
        return allowed(self.standing(purpose, as_of), customers, basis)

    def digest(self, purpose: str) -> str | None:
        """Return the sha-256 of the events that bear on a purpose: it differs once a load may; None without a ledger.

        `number` and `recorded` do not enter it: a ledger filled anew from its export has the same digest.
        """
        if not self.path.exists():
            return None
        query = "SELECT customer, purpose, event, at FROM event WHERE purpose IN (?, ?)"
        (rows,) = self._ask([(query, (purpose, EVERY_PURPOSE))])
        return hashlib.sha256("\n".join(sorted(map(repr, rows))).encode()).hexdigest()

    def export_csv(self, path: str | Path) -> int:
        """Write all events as CSV, for its owner only (0600), replacing a file there as a whole; return how many."""
        path, events = Path(path), self.events()
        for name in ("at", "recorded"):
            events[name] = events[name].dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        fresh = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
        try:
            write_private(fresh, events.to_csv(index=False, lineterminator="\n").encode())
            os.replace(fresh, path)
            sync_folder(path.parent)
        except OSError as error:
            raise FraudlabError(
                f"export: {path} could not be written ({error.strerror or error}); name another file"
            ) from None
        finally:
            fresh.unlink(missing_ok=True)
        return len(events)

    def import_csv(
        self,
        path: str | Path,
        *,
        codes: Callable[[pd.Series], pd.Series] | None = None,
        purposes: Collection[str] | None = None,
    ) -> dict[str, int]:
        """Append the events of a CSV file, all or none; what is in the ledger already is not added again.

        Parameters
        ----------
        path : a UTF-8 file with the columns customer, purpose, basis, event, at, source and, if wanted, note. Those of
            an export that say when and as which number it was recorded are ignored: an event is recorded when written.
        codes : turns the customers of the file into pseudonyms, missing where one is unknown. None: they are
            pseudonyms.
        purposes : those that exist; others are refused. None: any.

        Returns
        -------
        dict: rows (in the file), added, already (in the ledger, or in the file before).

        Raises
        ------
        InputError : the file is unreadable, or lines break a rule of `record`; each line is named with its rule, never
            with a value. Nothing was recorded.
        """
        path, now = Path(path), _now()
        lines, rows = _read_csv(path)
        if codes is not None:
            pseudonyms = codes(pd.Series([row["customer"] for row in rows], dtype="str"))
            rows = [{**row, "customer": code} for row, code in zip(rows, pseudonyms.fillna("").tolist())]
        given: list[tuple[object, ...]] = []
        broken: dict[str, list[int]] = {}
        for line, row in zip(lines, rows):
            values, problems = _from_text(row, _micros(now))
            if purposes is not None and values[1] not in (*purposes, EVERY_PURPOSE):
                problems.append(f"purpose: must be one of {', '.join(purposes)}")
            given.append(values)
            for problem in problems:
                broken.setdefault(problem, []).append(line)
        refuse([f"{path.name}: {rule}; broken in {_spoken(there)}" for rule, there in broken.items()])
        numbers, already = self._append(given, now, once=True)
        return {"rows": len(rows), "added": len(numbers), "already": already}

    def _ask(self, queries: list[tuple[str, tuple[object, ...]]]) -> list[list[tuple[Any, ...]]]:
        """Return the rows of each query, all of one state of the ledger."""
        if not self.path.exists():
            return [[] for _ in queries]
        with self._said("read"), contextlib.closing(_open_to_read(self.path)) as database:
            database.execute("BEGIN")
            _demand_ledger(database)
            return [database.execute(*query).fetchall() for query in queries]

    def _append(
        self, given: list[tuple[object, ...]], now: pd.Timestamp, *, once: bool = False
    ) -> tuple[list[int], int]:
        """Append in one transaction; return the new numbers and, with `once`, how many were there already."""
        with self._said("written"), contextlib.closing(self._open_to_write()) as database:
            database.execute("BEGIN IMMEDIATE")
            last, latest = database.execute("SELECT coalesce(max(number), 0), max(recorded) FROM event").fetchone()
            # A clock set back must not date an event before one that was there first.
            recorded = max(_micros(now), latest or 0)
            numbers: list[int] = []
            for row in given:
                if once and database.execute(_SAME, row).fetchone():
                    continue
                numbers.append(last + len(numbers) + 1)
                database.execute(_INSERT, (numbers[-1], *row, recorded))
            # Closing without this undoes it all.
            database.execute("COMMIT")
        return numbers, len(given) - len(numbers)

    def _open_to_write(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # SQLite gives its side files the rights of the database, so these come first.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        self.path.chmod(0o600)
        database = sqlite3.connect(self.path, timeout=_WAIT_SECONDS, isolation_level=None)
        try:
            database.execute("PRAGMA secure_delete = ON")
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            if not database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                _create(database)
            _demand_ledger(database)
        except BaseException:
            database.close()
            raise
        return database

    @contextlib.contextmanager
    def _said(self, done: str) -> Iterator[None]:
        """Say in a sentence what the disk or SQLite refuses."""
        nothing = "; nothing was recorded" if done == "written" else ""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            what = getattr(error, "strerror", None) or error
            raise FraudlabError(
                f"ledger: {self.path} could not be {done} ({what}){nothing}; check its rights and the disk, "
                "or restore it from a backup"
            ) from None


def standing(events: pd.DataFrame) -> pd.DataFrame:
    """Return the events that stand: per customer, purpose and subject the latest since when it holds.

    Parameters
    ----------
    events : customer, purpose, event, at; in any order.

    Returns
    -------
    DataFrame: those columns, and about (agreement, objection, restriction, erasure) and closes (bool). Of two events
    with the same `at`, the one that closes stands: dates without a clock time must not undo a withdrawal.

    >>> day = pd.to_datetime(["2026-03-01", "2026-03-05", "2026-03-05"], utc=True)
    >>> events = pd.DataFrame({"customer": "7f" * 16, "purpose": "marketing", "at": day,
    ...                        "event": ["consent", "withdrawal", "consent"]})
    >>> standing(events)["event"].tolist(), standing(events[:1])["event"].tolist()
    (['withdrawal'], ['consent'])
    """
    told = events.assign(about=events["event"].map(_ABOUT), closes=events["event"].map(_CLOSES).astype(bool))
    ordered = told.sort_values(["at", "closes"], kind="stable")
    return ordered.drop_duplicates(["customer", "purpose", "about"], keep="last", ignore_index=True)


def allowed(stands: pd.DataFrame, customers: pd.Series, basis: str) -> np.ndarray:
    """Return for each row whether its customer may be processed, given the events that stand for the purpose."""
    closed = _closed(stands, basis)["customer"]
    if basis != "consent":
        return ~_is_in(customers, closed)
    agreed = stands.loc[(stands["about"] == "agreement") & ~stands["closes"], "customer"]
    return _is_in(customers, agreed[~_is_in(agreed, closed)])


def why_not(stands: pd.DataFrame, customers: pd.Series, basis: str) -> pd.Series:
    """Return why each row's customer is left out, missing where it is not; same index as `customers`.

    One of erasure, restriction, objection, withdrawal, "no consent"; of several the first of these.

    >>> nothing = Ledger(Path("none.db")).standing("marketing")
    >>> why_not(nothing, pd.Series(["7f" * 16]), "consent").tolist()
    ['no consent']
    """
    reasons = pd.Series("no consent" if basis == "consent" else None, index=customers.index, dtype="str")
    reasons[allowed(stands, customers, basis)] = None
    closed = _closed(stands, basis)
    for reason in reversed(_REASONS):
        reasons[_is_in(customers, closed.loc[closed["event"] == reason, "customer"])] = reason
    return reasons


def _closed(stands: pd.DataFrame, basis: str) -> pd.DataFrame:
    if basis not in BASES:
        raise InputError(f"basis: unknown '{basis}'; {did_you_mean(basis, BASES)}")
    counts = {"erasure", "restriction"}
    if basis in ("consent", *_INTERESTS):
        counts.add("agreement")
    if basis in _INTERESTS:
        counts.add("objection")
    return stands[stands["closes"] & stands["about"].isin(counts)]


def _is_in(values: pd.Series, those: pd.Series) -> np.ndarray:
    """Return which values are among those; about four times as fast for text as pandas' own."""
    text = pa.array(values.astype("str"), from_pandas=True)
    return pc.is_in(text, value_set=pa.array(those.astype("str"), from_pandas=True)).to_numpy(zero_copy_only=False)


def _typed(name: str, values: tuple[object, ...]) -> object:
    if name == "number":
        return np.array(values, dtype=np.int64)
    if name in ("at", "recorded"):
        moments = np.array(values, dtype=np.int64).view("datetime64[us]")
        return pd.DatetimeIndex(moments).tz_localize("UTC").astype(TIME_DTYPE)
    return pd.array(values, dtype="str")


def _open_to_read(path: Path) -> sqlite3.Connection:
    """Open a ledger without ever making or changing one, in a folder that cannot be written too."""
    address = f"{path.resolve().as_uri()}?mode=ro"
    database = sqlite3.connect(address, uri=True, timeout=_WAIT_SECONDS)
    try:
        database.execute("SELECT count(*) FROM sqlite_schema")
    except sqlite3.OperationalError:
        database.close()
        # In a folder that cannot be written SQLite cannot coordinate with writers. Without a log of later writes the
        # file alone is the whole ledger, and nobody writes there.
        log = path.with_name(f"{path.name}-wal")
        if os.access(path.parent, os.W_OK) or (log.exists() and log.stat().st_size):
            raise
        database = sqlite3.connect(f"{address}&immutable=1", uri=True)
    return database


def _create(database: sqlite3.Connection) -> None:
    """Make the table; of two processes that come first at once, one makes it and the other finds it."""
    database.execute("BEGIN IMMEDIATE")
    if not database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        for statement in _SCHEMA:
            database.execute(statement)
    database.execute("COMMIT")


def _demand_ledger(database: sqlite3.Connection) -> None:
    if database.execute("PRAGMA user_version").fetchone()[0] != _FORMAT:
        raise sqlite3.DatabaseError("not a ledger of this version")


def _broken(given: tuple[object, ...], now: int) -> list[str]:
    """Return the rules that an event breaks, a sentence each, without a value."""
    customer, purpose, basis, event, at, source, note = given
    problems = []
    if not re.fullmatch(r"[0-9a-f]{32}", str(customer)):
        problems.append("customer: must be a known customer's pseudonym, 32 hexadecimal digits")
    if not str(purpose).strip():
        problems.append("purpose: is missing; name the purpose the event is about")
    if event not in EVENTS:
        problems.append(f"event: must be one of {', '.join(EVENTS)}")
    else:
        problems += _unfit(str(event), purpose, basis, note)
    if not isinstance(at, int) or at > now:
        problems.append("at: must be a moment with a time zone that has come, such as 2026-01-31T00:00Z")
    if not source:
        problems.append("source: is missing; say how it came in, such as 'letter of 2026-03-01'")
    if _names_someone(f"{source}\n{note}"):
        problems.append(
            "source and note: must not hold an e-mail address, IBAN, card or phone number; name the letter, not the "
            "person, and write days as 2026-03-01"
        )
    return problems


def _unfit(event: str, purpose: object, basis: object, note: object) -> list[str]:
    fitting = EVENTS[event].bases
    problems = []
    if basis is None and event not in _WITHOUT_BASIS:
        problems.append(f"basis: event '{event}' needs one; take {' or '.join(fitting)}")
    elif basis is not None and basis not in BASES:
        problems.append(f"basis: must be one of {', '.join(BASES)}")
    elif basis is not None and basis not in fitting:
        problems.append(
            f"event: '{event}' does not exist on basis '{basis}', only on {', '.join(fitting)}; a restriction or an "
            "erasure exists on every basis"
        )
    if purpose == EVERY_PURPOSE and event not in _WITHOUT_BASIS:
        problems.append(f"purpose: '{EVERY_PURPOSE}' is for {', '.join(_WITHOUT_BASIS)}; name each purpose instead")
    if event == "objection-refused" and not note:
        problems.append("note: an objection is refused for compelling grounds only (GDPR Art. 21(1)); state them")
    return problems


@functools.lru_cache(maxsize=1024)
def _names_someone(text: str) -> bool:
    return bool(find_identifiers(text))


def _read_csv(path: Path) -> tuple[list[int], list[dict[str, str]]]:
    """Return the rows of a CSV file and the line each begins on."""
    lines, rows, at = [], [], 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True, restval="")
            names = reader.fieldnames or []
            refuse(
                [
                    f"{path.name}: column '{name}' is missing; the columns are {', '.join(_GIVEN)}"
                    for name in _GIVEN
                    if name not in names and name != "note"
                ]
            )
            at = reader.line_num + 1
            for row in reader:
                at = reader.line_num + 1
                lines.append(reader.line_num - sum(str(value).count("\n") for value in row.values()))
                rows.append(row)
    except OSError as error:
        raise InputError(f"import: {path} cannot be read ({error.strerror or error}); name a file that can") from None
    except (UnicodeDecodeError, csv.Error):
        raise InputError(
            f"{path.name}: is no UTF-8 CSV file from line {at} on; nothing was recorded; export it again"
        ) from None
    return lines, rows


def _from_text(row: Mapping[str, str], now: int) -> tuple[tuple[object, ...], list[str]]:
    """Return the values of one line of a file, and the rules it breaks."""
    said = {name: (row.get(name) or "").strip() for name in _GIVEN}
    try:
        at = _micros(utc(said["at"], "at"))
    except InputError:
        at = None
    values = (*(said[name] for name in ("customer", "purpose")), said["basis"] or None, said["event"], at)
    given = (*values, said["source"], said["note"])
    problems = _broken(given, now)
    if None in row:
        problems.append("columns: has more fields than the header; put fields with commas in quotes")
    return given, problems


def _spoken(lines: list[int]) -> str:
    """Name lines in order, runs of neighbours as one.

    >>> _spoken([3]), _spoken([2, 3, 4, 9])
    ('line 3', 'lines 2-4, 9')
    """
    runs: list[list[int]] = []
    for line in lines:
        if runs and line == runs[-1][-1] + 1:
            runs[-1][1:] = [line]
        else:
            runs.append([line])
    return f"line{'s' * (len(lines) > 1)} {', '.join('-'.join(map(str, run)) for run in runs)}"


def _now() -> pd.Timestamp:
    return pd.Timestamp.now("UTC")


def _micros(moment: pd.Timestamp) -> int:
    return int(moment.as_unit("us").asm8.view("int64"))
