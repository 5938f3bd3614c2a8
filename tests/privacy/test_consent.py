"""The ledger: it only grows, says for any moment who may be used for what, and takes a file whole or not at all."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import typing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fraudlab.datasets.contracts import Purpose
from fraudlab.privacy import consent as consent_module
from fraudlab.privacy.consent import BASES, EVENTS, Ledger, allowed, why_not
from fraudlab.schema import FraudlabError, InputError

ANN, BOB, CY, DAN = (letter * 32 for letter in "abcd")
EVERYBODY = pd.Series([ANN, BOB, CY, DAN, ANN], dtype="str")
INTEREST = "legitimate-interest"
LETTER = "letter of 2026-03-01"


def day(number: int) -> pd.Timestamp:
    return pd.Timestamp("2026-03-01", tz="UTC") + pd.Timedelta(days=number)


class Clock:
    """The ledger's clock, set by hand."""

    def __init__(self) -> None:
        self.now = day(10)

    def __call__(self) -> pd.Timestamp:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(consent_module, "_now", clock)
    return clock


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Ledger:
    return Ledger(tmp_path / "ledger.db")


def say(ledger: Ledger, who: str, event: str, purpose: str = "p", **more: object) -> int:
    """Record an event on the first basis it exists on."""
    first = {"consent": "consent", "withdrawal": "consent", "erasure": None}
    basis = first.get(event, None if event.startswith("restriction") else INTEREST)
    return ledger.record(who, purpose, event, **{"basis": basis, "source": LETTER, "note": "stated", **more})


def may(ledger: Ledger, basis: str, purpose: str = "p", as_of: pd.Timestamp | None = None) -> list[bool]:
    return ledger.allowed(EVERYBODY, purpose, basis, as_of).tolist()


# Who may be used


def oracle(events: list[dict], who: str, purpose: str, basis: str, as_of: pd.Timestamp | None) -> bool:
    """Walk through the events one by one, as a clerk would."""
    closing = {"withdrawal", "objection", "restriction", "erasure"}
    seen = [e for e in events if e["customer"] == who and e["purpose"] in (purpose, "*")]
    if as_of is not None:
        seen = [e for e in seen if e["at"] <= as_of and e["recorded"] <= as_of]
    agreed = withdrawn = objected = erased = False
    restricted: dict[str, bool] = {}
    for e in sorted(seen, key=lambda e: (e["at"], e["event"] in closing)):
        match e["event"]:
            case "consent":
                agreed, withdrawn = True, False
            case "withdrawal":
                agreed, withdrawn = False, True
            case "objection":
                objected = True
            case "objection-refused" | "objection-withdrawn":
                objected = False
            case "restriction":
                restricted[e["purpose"]] = True
            case "restriction-lifted":
                restricted[e["purpose"]] = False
            case "erasure":
                erased = True
    if erased or any(restricted.values()):
        return False
    if basis == "consent":
        return agreed
    return not (objected or withdrawn) if basis in (INTEREST, "public-task") else True


@pytest.mark.parametrize("seed", range(6))
def test_the_ledger_answers_as_a_clerk_would_for_every_basis_and_moment(
    ledger: Ledger, clock: Clock, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    kept = []
    for _ in range(40):
        clock.now += pd.Timedelta(hours=int(rng.integers(0, 30)))
        event = str(rng.choice(list(EVENTS)))
        everywhere = event in ("restriction", "restriction-lifted", "erasure") and rng.random() < 0.5
        if event == "erasure" and rng.random() < 0.8:
            continue
        told = {
            "customer": str(rng.choice(EVERYBODY)),
            "purpose": "*" if everywhere else str(rng.choice(["p", "q"])),
            "event": event,
            # Whole days, so that ties are common.
            "at": min(clock.now, day(int(rng.integers(0, 25)))),
            "recorded": clock.now,
        }
        say(ledger, told["customer"], event, told["purpose"], at=told["at"])
        kept.append(told)
    answers = set()
    for purpose, as_of in itertools.product(("p", "q"), (None, *(day(n) for n in range(9, 30, 4)))):
        stands = ledger.standing(purpose, as_of)
        for basis in BASES:
            expected = [oracle(kept, who, purpose, basis, as_of) for who in EVERYBODY]
            assert allowed(stands, EVERYBODY, basis).tolist() == expected, (basis, purpose, as_of)
            assert why_not(stands, EVERYBODY, basis).isna().tolist() == expected
            answers.update(expected)
    assert answers == {True, False}


def test_consent_is_needed_only_where_it_is_the_basis(ledger: Ledger) -> None:
    say(ledger, ANN, "consent")
    say(ledger, BOB, "withdrawal")
    assert may(ledger, "consent") == [True, False, False, False, True]
    assert may(ledger, INTEREST) == [True, False, True, True, True]
    assert may(ledger, "legal-obligation") == [True] * 5
    assert may(ledger, "consent", "another") == [False] * 5


def test_an_objection_counts_until_it_is_refused_or_taken_back(ledger: Ledger) -> None:
    for who in (ANN, BOB, CY):
        say(ledger, who, "objection", at=day(1))
    say(ledger, ANN, "objection-refused", at=day(2))
    say(ledger, BOB, "objection-withdrawn", at=day(2))
    assert may(ledger, INTEREST) == [True, True, False, True, True]
    say(ledger, ANN, "objection", at=day(3))
    assert may(ledger, INTEREST) == [False, True, False, True, False]


def test_restriction_and_erasure_hold_on_every_basis_and_for_all_purposes(ledger: Ledger) -> None:
    for who in EVERYBODY[:4]:
        say(ledger, who, "consent", at=day(0))
    say(ledger, ANN, "restriction", "*", at=day(1))
    say(ledger, BOB, "erasure", "*", at=day(1))
    say(ledger, CY, "restriction", at=day(1))
    for basis in BASES:
        assert may(ledger, basis) == [False, False, False, True, False]
    say(ledger, ANN, "restriction-lifted", at=day(2))
    assert may(ledger, "contract") == [False, False, False, True, False], "one purpose does not lift all of them"
    say(ledger, ANN, "restriction-lifted", "*", at=day(2))
    say(ledger, CY, "restriction-lifted", at=day(2))
    say(ledger, BOB, "consent", at=day(2))
    assert may(ledger, "consent") == [True, False, True, True, True]


def test_of_several_reasons_the_gravest_is_told(ledger: Ledger) -> None:
    for event in ("withdrawal", "objection", "restriction", "erasure"):
        say(ledger, ANN, event)
    say(ledger, BOB, "withdrawal")
    say(ledger, BOB, "objection")
    say(ledger, CY, "withdrawal")
    told = why_not(ledger.standing("p"), EVERYBODY, INTEREST)
    assert told.astype(object).where(told.notna(), None).tolist() == [
        "erasure",
        "objection",
        "withdrawal",
        None,
        "erasure",
    ]
    assert why_not(ledger.standing("p"), EVERYBODY, "consent").tolist()[1:4] == [
        "withdrawal",
        "withdrawal",
        "no consent",
    ]


def test_an_event_counts_for_a_past_moment_once_it_held_and_was_recorded(ledger: Ledger, clock: Clock) -> None:
    clock.now = day(5)
    say(ledger, ANN, "objection", at=day(1))
    assert may(ledger, INTEREST, as_of=day(3))[0], "a load of the third day could not know the letter"
    assert not may(ledger, INTEREST, as_of=day(5))[0]
    assert not may(ledger, INTEREST)[0]
    say(ledger, ANN, "objection-withdrawn", at=day(0))
    assert not may(ledger, INTEREST)[0], "what was said before the objection does not end it"


def test_a_clock_set_back_neither_hides_an_event_nor_reorders_the_numbers(ledger: Ledger, clock: Clock) -> None:
    clock.now = day(5)
    say(ledger, ANN, "objection")
    clock.now = day(2)
    say(ledger, BOB, "objection")
    assert may(ledger, INTEREST) == [False, False, True, True, False]
    assert ledger.events()["recorded"].is_monotonic_increasing


def test_a_missing_customer_has_neither_consent_nor_objection(ledger: Ledger) -> None:
    say(ledger, ANN, "consent")
    say(ledger, BOB, "objection")
    who = pd.Series([None, ANN], dtype="str")
    assert ledger.allowed(who, "p", "consent").tolist() == [False, True]
    assert ledger.allowed(who, "p", INTEREST).tolist() == [True, True]
    assert ledger.allowed(EVERYBODY[:0], "p", "consent").tolist() == []


def test_without_a_ledger_there_are_no_events_and_none_is_made(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "none" / "ledger.db")
    assert may(ledger, INTEREST) == [True] * 5
    assert may(ledger, "consent") == [False] * 5
    assert ledger.events().empty
    assert ledger.digest("p") is None
    assert list(tmp_path.iterdir()) == []


def test_the_bases_are_those_of_a_contract(ledger: Ledger) -> None:
    assert set(typing.get_args(Purpose.model_fields["basis"].annotation)) == set(BASES)
    with pytest.raises(InputError, match="basis: unknown 'consnt'; did you mean 'consent'"):
        may(ledger, "consnt")


# What is recorded


def test_events_are_returned_as_they_were_given(ledger: Ledger, clock: Clock) -> None:
    assert say(ledger, ANN, "objection", at=day(1), source=" form 7 ", note="by phone") == 1
    assert ledger.record(BOB, "*", "erasure", source="request 12") == 2
    events = ledger.events()
    assert events.drop(columns=["at", "recorded"]).astype(object).where(events.notna(), None).values.tolist() == [
        [1, ANN, "p", INTEREST, "objection", "form 7", "by phone"],
        [2, BOB, "*", None, "erasure", "request 12", ""],
    ]
    assert events["at"].tolist() == [day(1), clock.now]
    assert events["recorded"].tolist() == [clock.now] * 2
    assert ledger.events(ANN)["number"].tolist() == ledger.events(purpose="p")["number"].tolist() == [1]
    assert ledger.events("e" * 32).dtypes.equals(events.dtypes)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"customer": "00451"}, "customer: must be a known customer's pseudonym"),
        ({"customer": ANN.upper()}, "customer: must be a known customer's pseudonym"),
        ({"purpose": " "}, "purpose: is missing"),
        ({"purpose": "*"}, "name each purpose instead"),
        ({"event": "objektion"}, "event: must be one of consent, withdrawal"),
        ({"basis": None}, "event 'objection' needs one; take legitimate-interest or public-task"),
        ({"basis": "legal-obligation"}, "'objection' does not exist on basis 'legal-obligation'"),
        ({"basis": "whim"}, "basis: must be one of"),
        ({"event": "objection-refused", "note": ""}, "compelling grounds only"),
        ({"at": day(11)}, "at: must be a moment with a time zone that has come"),
        ({"at": pd.Timestamp("2026-03-01")}, "at: must carry a time zone"),
        ({"source": "  "}, "source: is missing"),
        ({"source": "mail of ann.smith@example.com"}, "must not hold an e-mail address"),
        ({"note": "card 4111 1111 1111 1111"}, "must not hold an e-mail address, IBAN, card or phone number"),
    ],
)
def test_a_wrong_event_is_refused_in_a_sentence_without_its_value(
    ledger: Ledger, change: dict[str, object], sentence: str
) -> None:
    given = {"customer": ANN, "purpose": "p", "event": "objection", "basis": INTEREST, "source": LETTER} | change
    with pytest.raises(InputError) as refused:
        ledger.record(given.pop("customer"), given.pop("purpose"), given.pop("event"), **given)
    assert sentence in str(refused.value)
    assert not any(secret in str(refused.value) for secret in ("00451", "objektion", "whim", "ann.smith", "4111"))
    assert ledger.events().empty


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE event SET event = 'consent'",
        "DELETE FROM event",
        "INSERT OR REPLACE INTO event SELECT 1, customer, purpose, basis, event, at, 'x', note, recorded FROM event",
        "REPLACE INTO event SELECT number, customer, purpose, basis, 'consent', at, source, note, recorded FROM event",
        "INSERT INTO event SELECT 9, customer, purpose, basis, event, at, source, note, recorded FROM event",
        "INSERT INTO event SELECT 2, customer, purpose, basis, event, at, source, note, recorded - 1 FROM event",
        "INSERT INTO event SELECT 0, customer, purpose, basis, event, at - 9, source, note, recorded FROM event",
        "INSERT INTO event SELECT NULL, customer, purpose, basis, event, at, source, note, recorded FROM event",
    ],
)
def test_sql_can_neither_change_remove_nor_slip_in_an_event(ledger: Ledger, statement: str) -> None:
    say(ledger, ANN, "objection", at=day(1))
    before = ledger.events()
    with contextlib.closing(sqlite3.connect(ledger.path)) as database:
        with pytest.raises(sqlite3.DatabaseError, match="append-only"):
            database.execute(statement)
        database.commit()
    pd.testing.assert_frame_equal(ledger.events(), before)


def test_sql_cannot_add_a_raw_reference_or_an_unknown_word(ledger: Ledger) -> None:
    say(ledger, ANN, "objection", at=day(1))
    insert = "INSERT INTO event SELECT 2, {}, purpose, basis, {}, at, source, note, recorded FROM event"
    with contextlib.closing(sqlite3.connect(ledger.path)) as database:
        for values in (("'00451'", "event"), ("customer", "'objektion'")):
            with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
                database.execute(insert.format(*values))
        database.execute(insert.format("customer", "event"))


def test_the_files_are_for_their_owner_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        ledger = Ledger(tmp_path / "data" / "ledger.db")
        ledger.record(ANN, "*", "erasure", source=LETTER)
        with contextlib.closing(sqlite3.connect(ledger.path)) as database:  # a second one keeps the side files
            database.execute("SELECT * FROM event").fetchall()
            ledger.record(BOB, "*", "erasure", source=LETTER)
            ledger.export_csv(tmp_path / "out.csv")
            files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in ledger.path.parent.iterdir()}
    finally:
        os.umask(before)
    assert files == dict.fromkeys(["ledger.db", "ledger.db-wal", "ledger.db-shm"], 0o600)
    assert stat.S_IMODE(ledger.path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "out.csv").stat().st_mode) == 0o600


def test_reading_changes_nothing(ledger: Ledger) -> None:
    say(ledger, ANN, "objection")
    before = ledger.path.read_bytes()
    may(ledger, INTEREST)
    assert ledger.path.read_bytes() == before
    side = {path.name for path in ledger.path.parent.iterdir() if path.stat().st_size} - {ledger.path.name}
    assert side <= {"ledger.db-shm"}, "SQLite's index of a log without entries"


def test_a_place_that_cannot_be_written_is_read_all_the_same() -> None:
    folder = Path(tempfile.mkdtemp())
    ledger = Ledger(folder / "ledger.db")
    ledger.record(ANN, "p", "objection", basis=INTEREST, source=LETTER)
    ledger.path.chmod(0o444)
    folder.chmod(0o555)
    try:
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                if os.getuid() == 0:  # whom no mode stops
                    os.setuid(65534)
                os._exit(not (len(ledger.events()) == 1 and not os.access(folder, os.W_OK)))
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert [path.name for path in folder.iterdir()] == ["ledger.db"]
    finally:
        folder.chmod(0o700)
        shutil.rmtree(folder)


def test_a_damaged_or_foreign_file_is_refused_and_never_read_as_no_events(ledger: Ledger) -> None:
    say(ledger, ANN, "objection")
    for damage in (b"no database at all" * 500, b"", ledger.path.read_bytes()[:5000]):
        ledger.path.write_bytes(damage)
        with pytest.raises(FraudlabError, match=r"ledger: .* could not be read .* restore it from a backup"):
            may(ledger, INTEREST)


def test_several_processes_append_without_a_gap(ledger: Ledger, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from fraudlab.privacy.consent import Ledger\n"
        "for i in range(15):\n"
        "    Ledger(Path(sys.argv[1])).record(sys.argv[2] * 32, 'p', 'consent', basis='consent', source=f'form {i}')\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, ledger.path, letter]) for letter in "abc"]
    assert [process.wait() for process in running] == [0, 0, 0]
    events = ledger.events()
    assert events["number"].tolist() == list(range(1, 46))
    assert events["customer"].value_counts().tolist() == [15, 15, 15]


# Files in and out


def write(path: Path, *lines: str, header: str = "customer,purpose,basis,event,at,source,note") -> Path:
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def test_a_file_goes_in_once_and_comes_out_again(ledger: Ledger, tmp_path: Path) -> None:
    lines = [
        f"{ANN},p,consent,consent,2026-03-01T09:00:00+01:00,form 7,",
        f'{BOB},p,{INTEREST},objection,2026-03-02T00:00Z,"letter, registered","two\nlines"',
        f"{CY},*,,erasure,2026-03-03T00:00Z,request 12,",
        f"{ANN},p,consent,consent,2026-03-01T08:00:00Z,form 7,",
    ]
    file = write(tmp_path / "in.csv", *lines)
    assert ledger.import_csv(file) == {"rows": 4, "added": 3, "already": 1}
    assert ledger.import_csv(file) == {"rows": 4, "added": 0, "already": 4}
    assert ledger.export_csv(tmp_path / "out.csv") == 3
    assert ledger.import_csv(tmp_path / "out.csv") == {"rows": 3, "added": 0, "already": 3}
    other = Ledger(tmp_path / "other.db")
    assert other.import_csv(tmp_path / "out.csv")["added"] == 3
    pd.testing.assert_frame_equal(other.events(), ledger.events())
    assert other.digest("p") == ledger.digest("p")
    read = pd.read_csv(tmp_path / "out.csv", keep_default_na=False)
    assert read["note"].tolist() == ["", "two\nlines", ""]
    assert read["at"].tolist()[0] == "2026-03-01T08:00:00.000000Z"


def test_a_single_line_goes_in_once(ledger: Ledger, tmp_path: Path) -> None:
    file = write(tmp_path / "in.csv", f"{ANN},p,consent,consent,2026-03-01T09:00Z,form 7,")
    assert [ledger.import_csv(file)["added"] for _ in range(2)] == [1, 0]


def test_every_bad_line_is_named_with_its_rule_and_nothing_goes_in(ledger: Ledger, tmp_path: Path) -> None:
    good = f"{ANN},p,consent,consent,2026-03-01T00:00Z,form 7,"
    lines = [
        good,
        '0045177,p,consent,consent,2026-03-01T00:00Z,form 7,"a note\non two lines"',
        f"{ANN},p,consent,konsent,2026-03-01T00:00Z,form 7,",
        f"{ANN},p,consent,consent,2026-03-01,form 7,",
        f"{ANN},p,consent,consent,2062-03-01T00:00Z,form 7,",
        f"{ANN},elsewhere,consent,consent,2026-03-01T00:00Z,form 7,",
        f"{ANN},p,consent,consent,2026-03-01T00:00Z,form 7, a note, unquoted",
        f"{ANN},p,consent",
    ]
    file = write(tmp_path / "in.csv", *lines)
    with pytest.raises(InputError) as refused:
        ledger.import_csv(file, purposes=["p"])
    said = {line.split("; broken in ")[1]: line for line in str(refused.value).split("\n")}
    assert "customer: must be" in said["line 3"]
    assert "event: must be one of" in said["lines 5, 10"]
    assert "at: must be a moment with a time zone that has come" in said["lines 6-7, 10"]
    assert "purpose: must be one of p" in said["line 8"]
    assert "more fields than the header" in said["line 9"]
    assert "source: is missing" in said["line 10"]
    assert len(said) == 6
    assert not any(value in str(refused.value) for value in ("0045177", "konsent", "2062", "elsewhere", ANN))
    assert not ledger.path.exists()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"customer,purpose\n", "column 'event' is missing"),
        (b"", "column 'customer' is missing"),
        (b"customer,purpose,basis,event,at,source\n\xff\xfe,p\n", "is no UTF-8 CSV file"),
        (b'customer,purpose,basis,event,at,source\n"a"b,p\n', "is no UTF-8 CSV file from line 2 on"),
    ],
)
def test_a_file_that_is_none_is_refused(ledger: Ledger, tmp_path: Path, data: bytes, sentence: str) -> None:
    (tmp_path / "in.csv").write_bytes(data)
    with pytest.raises(InputError, match=sentence):
        ledger.import_csv(tmp_path / "in.csv")
    with pytest.raises(InputError, match="cannot be read"):
        ledger.import_csv(tmp_path / "none.csv")


def test_an_import_killed_half_way_leaves_nothing_of_itself(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.record(BOB, "p", "consent", basis="consent", source=LETTER)
    file = write(tmp_path / "in.csv", *(f"{i:032x},p,consent,consent,2026-03-01T00:00Z,form 7," for i in range(500)))
    program = (
        "import os, signal, sqlite3, sys; from pathlib import Path; from fraudlab.privacy import consent\n"
        "class Killed(sqlite3.Connection):\n"
        "    done = 0\n"
        "    def execute(self, sql, *values):\n"
        "        self.done += sql.startswith('INSERT')\n"
        "        if self.done == 300: os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return super().execute(sql, *values)\n"
        "plain = sqlite3.connect\n"
        "sqlite3.connect = lambda *a, **k: plain(*a, factory=Killed, **k)\n"
        "consent.Ledger(Path(sys.argv[1])).import_csv(sys.argv[2])\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, ledger.path, file], capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert ledger.events()["customer"].tolist() == [BOB]
    assert ledger.import_csv(file)["added"] == 500


def test_an_export_that_fails_leaves_the_older_file(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(ledger, ANN, "objection")
    out = tmp_path / "out.csv"
    ledger.export_csv(out)
    before = out.read_bytes()
    say(ledger, BOB, "objection")

    def full(*paths: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(FraudlabError, match=r"could not be written \(No space left"):
        ledger.export_csv(out)
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir() if "out" in path.name) == ["out.csv"]


def test_the_digest_tells_when_a_load_may_differ(ledger: Ledger) -> None:
    say(ledger, ANN, "objection")
    before = ledger.digest("p")
    say(ledger, ANN, "objection", "q")
    assert ledger.digest("p") == before
    say(ledger, ANN, "restriction", "*")
    assert ledger.digest("p") != before


@pytest.mark.slow
def test_a_million_rows_are_asked_quickly(tmp_path: Path) -> None:
    import time

    rng = np.random.default_rng(5)
    codes = np.array([rng.bytes(16).hex() for _ in range(100_000)])
    lines = (f"{code},p,consent,consent,2026-03-01T00:00Z,form 7," for code in codes)
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.import_csv(write(tmp_path / "in.csv", *lines))
    for code in codes[:20]:
        ledger.record(code, "q", "objection", basis=INTEREST, source=LETTER)
    rows = pd.Series(codes[rng.integers(0, len(codes), 1_000_000)], dtype="str")

    def best(purpose: str, basis: str) -> float:
        spent = []
        for _ in range(3):
            began = time.process_time()
            ledger.allowed(rows, purpose, basis)
            spent.append(time.process_time() - began)
        return min(spent)

    # Twice and more what an idle core needs.
    assert best("q", INTEREST) < 0.15
    assert best("p", "consent") < 1.2
