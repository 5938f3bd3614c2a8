"""The audit log: every tampering is found, every entry that was promised is there, no identifier gets in."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import hmac
import json
import os
import pwd
import random
import resource
import signal
import sqlite3
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from typer.testing import CliRunner

from fraudlab.cli import app
from fraudlab.config import Workspace
from fraudlab.privacy import auditlog as module
from fraudlab.privacy.auditlog import ACTIONS, AuditLog, DamagedLogError, audit_log, read_anchor, write_anchor
from fraudlab.privacy.keys import KeyDirectory, KeyUnavailableError
from fraudlab.privacy.masking import find_identifiers
from fraudlab.schema import FraudlabError, InputError

ENTRIES = 8


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    made = AuditLog(tmp_path / "data" / "audit.db", KeyDirectory(tmp_path / "keys"))
    with made.opened() as held:
        for number in range(1, ENTRIES + 1):
            held.append("load" if number % 2 else "refuse", dataset="demo", rows=number)
    return made


def sql(log: AuditLog, *statements: str, **values: object) -> list[tuple]:
    """Do what someone does who can write to the file."""
    with contextlib.closing(sqlite3.connect(log.path, isolation_level=None)) as connection:
        for statement in statements:
            rows = connection.execute(statement, values).fetchall()
    return rows


def chain_key(log: AuditLog) -> bytes:
    return hmac.new((log.keys.path / "audit.key").read_bytes(), b"fraudlab audit chain", hashlib.sha256).digest()


def seal(key: bytes, entry: list, previous: str) -> str:
    """The documented form of a MAC, written a second time."""
    text = "[" + ",".join(json.dumps(value) for value in [*entry, previous]) + "]"
    return hmac.new(key, text.encode("ascii"), hashlib.sha256).hexdigest()


def rewrite(log: AuditLog, start: int, change: Callable[[list], list]) -> None:
    """Rewrite the entries from one on, with MACs that fit: what a stolen key makes possible."""
    key, previous = chain_key(log), "0" * 64
    for *entry, mac in sql(log, "SELECT * FROM entries ORDER BY number"):
        if entry[0] >= start:
            entry = change(entry)
            mac = seal(key, entry, previous)
            sql(
                log,
                "UPDATE entries SET time = :time, action = :action, actor = :actor, facts = :facts, mac = :mac "
                "WHERE number = :number",
                **dict(zip(("number", "time", "action", "actor", "facts", "mac"), [*entry, mac])),
            )
        previous = mac


def test_an_entry_says_who_did_what_and_when(log: AuditLog) -> None:
    before = pd.Timestamp.now("UTC")
    number = log.append("reidentify", customer="0" * 32, reason="Überfall", share=0.25, ok=True, none=None, of=["a"])
    after = pd.Timestamp.now("UTC")
    assert number == ENTRIES + 1
    last = log.entries().iloc[-1]
    assert before.floor("us") <= last["time"] <= after
    assert last["actor"] == f"{pwd.getpwuid(os.getuid()).pw_name}/{os.getuid()}"
    assert last["facts"] == {
        "customer": "0" * 32, "reason": "Überfall", "share": 0.25, "ok": True, "none": None, "of": ["a"],
    }  # fmt: skip
    assert str(log.entries()["time"].dtype) == "datetime64[us, UTC]"


def test_the_account_is_not_taken_from_the_environment(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USER", "LOGNAME", "USERNAME", "SUDO_USER"):
        monkeypatch.setenv(name, "somebody-else")
    log.append("scan")
    assert "somebody-else" not in log.entries()["actor"].iloc[-1]


def test_entries_are_chosen_by_action_moment_and_number(log: AuditLog) -> None:
    table = log.entries()
    assert table["number"].tolist() == list(range(1, ENTRIES + 1))
    assert log.entries("refuse")["number"].tolist() == [2, 4, 6, 8]
    assert log.entries("refuse", limit=2)["number"].tolist() == [6, 8]
    assert log.entries(since=table["time"][4])["number"].tolist() == [5, 6, 7, 8]
    elsewhere = table["time"][4].tz_convert("Asia/Tokyo").isoformat()
    assert log.entries(since=elsewhere)["number"].tolist() == [5, 6, 7, 8]
    for wrong in ({"action": "lod"}, {"since": "2026-01-01"}, {"limit": 0}):
        with pytest.raises(InputError):
            log.entries(**wrong)


def test_an_empty_log_is_an_empty_table_and_asking_makes_nothing(tmp_path: Path) -> None:
    empty = AuditLog(tmp_path / "data" / "audit.db", KeyDirectory(tmp_path / "keys"))
    assert empty.entries().empty
    assert empty.entries().dtypes.astype(str).tolist()[:2] == ["int64", "datetime64[us, UTC]"]
    assert empty.verify().ok
    assert list(tmp_path.iterdir()) == []


def test_unknown_actions_are_refused_and_the_words_are_there(log: AuditLog) -> None:
    with pytest.raises(InputError, match="action: no word 'reidentfy' in the audit log; did you mean 'reidentify'"):
        log.append("reidentfy")
    needed = "ingest load reidentify refuse consent erase rectify access retention promote export keys backup restore"
    assert set(f"{needed} drill scan".split()) <= set(ACTIONS)
    assert len(log.entries()) == ENTRIES


def test_a_second_implementation_of_the_documented_form_agrees(log: AuditLog) -> None:
    log.append("consent", reason='Zürich "quoted" \\ \n 漢字 😀', amount=0.1 + 0.2, many=10**11, off=False)
    previous = "0" * 64
    for *entry, mac in sql(log, "SELECT number, time, action, actor, facts, mac FROM entries ORDER BY number"):
        assert mac == seal(chain_key(log), entry, previous)
        assert entry[4] == json.dumps(json.loads(entry[4]), sort_keys=True, separators=(",", ":"))
        previous = mac
    anchor = log.anchor()
    assert (anchor["number"], anchor["mac"]) == (ENTRIES + 1, previous)
    signed = {name: value for name, value in anchor.items() if name != "signature"}
    text = json.dumps(signed, sort_keys=True, separators=(",", ":")).encode()
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(anchor["public_key"])).verify(
        bytes.fromhex(anchor["signature"]), text
    )


CHANGES = {
    "time": "UPDATE entries SET time = time + 1 WHERE number = :n",
    "action": "UPDATE entries SET action = 'scan' WHERE number = :n",
    "actor": "UPDATE entries SET actor = 'nobody/65534' WHERE number = :n",
    "facts": "UPDATE entries SET facts = replace(facts, 'demo', 'damo') WHERE number = :n",
    "blanks in facts": "UPDATE entries SET facts = facts || ' ' WHERE number = :n",
    "bytes that are no text": "UPDATE entries SET facts = CAST(x'7bff7d' AS TEXT) WHERE number = :n",
    "mac": "UPDATE entries SET mac = replace(mac, substr(mac, 1, 1), 'x') WHERE number = :n",
    "mac in capitals": "UPDATE entries SET mac = upper(mac) WHERE number = :n",
    "removed": "DELETE FROM entries WHERE number = :n",
    "number": "UPDATE entries SET number = number + 1000 WHERE number = :n",
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("n", [1, 4, ENTRIES])
def test_a_changed_entry_is_found_and_named(log: AuditLog, change: str, n: int) -> None:
    anchor = log.anchor()
    sql(log, CHANGES[change], n=n)
    found = log.verify(anchor)
    assert not found.ok
    assert found.first_bad == n
    if (change, n) != ("removed", ENTRIES):  # a cut tail: only the anchor shows it
        assert log.verify().first_bad == n
        assert f"{n}" in log.verify().problems[0]


def test_swapped_entries_are_found(log: AuditLog) -> None:
    for columns in ("time, action, actor, facts", "time, action, actor, facts, mac"):
        before = sql(log, "SELECT * FROM entries ORDER BY number")
        sql(
            log,
            "CREATE TEMP TABLE two AS SELECT * FROM entries WHERE number IN (3, 6)",
            f"UPDATE entries SET ({columns}) = (SELECT {columns} FROM two WHERE two.number = 9 - entries.number) "
            "WHERE number IN (3, 6)",
        )
        assert sorted(sql(log, "SELECT facts FROM entries")) == sorted((row[4],) for row in before)
        found = log.verify()
        assert found.first_bad == 3
        assert any(problem.startswith(("entry 6", "entries 6 to 7")) for problem in found.problems)
        sql(log, "DELETE FROM entries")
        for row in before:
            sql(log, "INSERT INTO entries VALUES (:a, :b, :c, :d, :e, :f)", **dict(zip("abcdef", row)))
        assert log.verify().ok


def test_a_gap_closed_by_renumbering_is_found(log: AuditLog) -> None:
    sql(log, "DELETE FROM entries WHERE number = 4", "UPDATE entries SET number = number - 1 WHERE number > 4")
    found = log.verify()
    assert found.first_bad == 4
    assert found.problems == ["entries 4 to 7 are not as written here: changed, moved or inserted by someone else"]


def test_inserted_entries_are_found(log: AuditLog) -> None:
    copy = "INSERT INTO entries SELECT :to, time, action, actor, facts, mac FROM entries WHERE number = 2"
    for to in (0, -5, ENTRIES + 1, ENTRIES + 5):
        sql(log, copy, to=to)
        assert log.verify().first_bad == (ENTRIES + 1 if to > ENTRIES else to), to
        sql(log, "DELETE FROM entries WHERE number = :to", to=to)
    sql(log, copy, to=ENTRIES + 1)
    with pytest.raises(DamagedLogError, match="last entry 9 does not fit the key 'audit'"):
        log.append("scan")
    with pytest.raises(DamagedLogError):
        log.anchor()


def test_a_cut_tail_shows_against_an_anchor_only(log: AuditLog) -> None:
    early, late = log.anchor(), None
    log.append("erase", count=1)
    late = log.anchor()
    sql(log, "DELETE FROM entries WHERE number = :n", n=ENTRIES + 1)
    assert log.verify().ok, "as documented"
    assert log.verify(early).ok
    found = log.verify(late)
    assert found.first_bad == ENTRIES + 1
    assert "names entry 9 and the log ends with entry 8: its tail was cut off" in found.problems[0]
    log.append("load")
    found = log.verify(late)
    assert not found.ok, "another entry in its place"
    assert "entry 9 is not the one that the anchor" in found.problems[0]


def test_a_removed_log_shows_against_an_anchor(log: AuditLog) -> None:
    anchor = log.anchor()
    for path in log.path.parent.iterdir():
        path.unlink()
    assert log.verify().warnings == ["there is a key 'audit' and no log: it was not begun here, moved away or removed"]
    assert log.verify(anchor).first_bad == 1


@pytest.mark.parametrize("start", [1, ENTRIES])
def test_rewriting_with_the_stolen_key_shows_against_an_anchor_only(log: AuditLog, start: int) -> None:
    anchor = log.anchor()
    log.append("scan")
    rewrite(log, start, lambda entry: [*entry[:3], "nobody/65534", entry[4]])
    assert log.verify().ok, "the thief's MACs fit"
    found = log.verify(anchor)
    assert "entry 8 is not the one that the anchor" in found.problems[0]
    assert found.first_bad == 8


def test_what_came_after_the_anchor_is_not_protected_from_a_stolen_key(log: AuditLog) -> None:
    anchor = log.anchor()
    log.append("scan")
    rewrite(log, ENTRIES + 1, lambda entry: [*entry[:3], "nobody/65534", entry[4]])
    assert log.verify(anchor).ok, "as documented"
    assert not log.verify(log.anchor() | {"number": ENTRIES}).ok


def test_an_anchor_signed_with_another_key_or_changed_is_refused(log: AuditLog, tmp_path: Path) -> None:
    anchor = log.anchor()
    stranger = AuditLog(log.path, KeyDirectory(tmp_path / "other"))
    (tmp_path / "other").mkdir(mode=0o700)
    (tmp_path / "other" / "audit.key").write_bytes((log.keys.path / "audit.key").read_bytes())
    (tmp_path / "other" / "audit.key").chmod(0o600)
    found = log.verify(stranger.anchor())
    assert "was signed with another key" in found.problems[0]
    assert found.first_bad is None
    forged = stranger.anchor() | {"public_key": anchor["public_key"], "public_key_id": anchor["public_key_id"]}
    changes = [
        {"number": 5}, {"number": "8"}, {"mac": "1" * 64}, {"time": "2020-01-01T00:00:00+00:00"},
        {"public_key_id": "0" * 16}, {"signature": "00" * 64}, {"signature": "no hex"}, {"signature": None},
    ]  # fmt: skip
    for wrong in (forged, *(anchor | change for change in changes)):
        assert log.verify(wrong).problems == [
            "the anchor was changed after it was signed: it proves nothing; take another copy of it"
        ], wrong
    for wrong in ({}, {**anchor, "more": 1}, {name: anchor[name] for name in ("number", "mac")}):
        with pytest.raises(InputError, match="anchor: must hold number, mac"):
            log.verify(wrong)


def test_anchors_stay_good_while_the_log_grows(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.db", KeyDirectory(tmp_path / "keys"))
    anchors = []
    for _ in range(4):
        anchors.append(json.loads(json.dumps(log.anchor())))
        log.append("load")
    assert [anchor["number"] for anchor in anchors] == [0, 1, 2, 3]
    assert all(log.verify(anchor).ok for anchor in anchors)


def test_another_log_under_other_keys_is_not_taken_for_this_one(log: AuditLog, tmp_path: Path) -> None:
    (log.keys.path / "audit.key").write_bytes(os.urandom(32))
    found = log.verify()
    assert found.problems == ["none of 8 entries fits the key 'audit': the key was replaced, or the log is another's"]
    assert found.first_bad == 1
    with pytest.raises(DamagedLogError):
        log.append("scan")


def test_without_its_key_a_log_is_not_continued_and_no_key_is_made(log: AuditLog) -> None:
    anchor = log.anchor()
    for name, attempts in (
        ("audit", [lambda: log.append("scan"), log.verify, log.anchor]),
        ("audit-sign", [lambda: log.verify(anchor)]),
    ):
        held = (log.keys.path / f"{name}.key").read_bytes()
        (log.keys.path / f"{name}.key").unlink()
        for attempt in attempts:
            with pytest.raises(KeyUnavailableError, match=f"key '{name}'"):
                attempt()
        assert name not in log.keys.key_ids()
        (log.keys.path / f"{name}.key").write_bytes(held)
        (log.keys.path / f"{name}.key").chmod(0o600)
    assert log.verify(anchor).ok


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TRIGGER quiet AFTER INSERT ON entries BEGIN DELETE FROM entries WHERE number = new.number; END",
        "ALTER TABLE entries RENAME TO gone",
        "CREATE TABLE more (x)",
        "DROP TABLE entries",
    ],
)
def test_a_rebuilt_database_is_not_trusted(log: AuditLog, change: str) -> None:
    sql(log, change)
    assert log.verify().first_bad == 1
    for attempt in (lambda: log.append("scan"), log.entries, log.anchor):
        with pytest.raises(DamagedLogError, match="holds something else than the table of entries"):
            attempt()


def put(log: AuditLog, content: bytes) -> None:
    log.path.write_bytes(content)
    for beside in log.path.parent.glob("audit.db-*"):
        beside.unlink()


def test_no_flipped_byte_of_the_file_is_silent(log: AuditLog) -> None:
    sql(log, "PRAGMA wal_checkpoint(TRUNCATE)")
    whole, before, dice, anchor = log.path.read_bytes(), log.entries(), random.Random(4), log.anchor()
    written = whole.index(b"refuse")  # SQLite fills a page from its end: from here on every byte says something
    assert len(whole) - written > 100 * ENTRIES
    anywhere = [dice.randrange(len(whole)) for _ in range(30)]
    positions = anywhere + [dice.randrange(written, len(whole)) for _ in range(40)]
    found = []
    for position in positions:
        changed = bytearray(whole)
        changed[position] ^= 1 << dice.randrange(8)
        put(log, changed)
        ok = False
        with contextlib.suppress(FraudlabError):
            ok = log.verify(anchor).ok
        if ok:
            pd.testing.assert_frame_equal(log.entries(), before)
        found.append(not ok)
    assert all(found[len(anywhere) :])


@pytest.mark.parametrize("size", [0, 50, 4096, 6000])
def test_a_cut_file_is_found_and_not_continued(log: AuditLog, size: int) -> None:
    sql(log, "PRAGMA wal_checkpoint(TRUNCATE)")
    put(log, log.path.read_bytes()[:size])
    assert not log.verify().ok
    with pytest.raises(DamagedLogError, match="run `fraudlab audit verify`, then keep the file as evidence"):
        log.append("scan")


def test_a_strange_file_is_said_in_a_sentence(log: AuditLog) -> None:
    put(log, b"no database" * 1000)
    found = log.verify()
    assert found.first_bad == 1
    assert found.problems[0].startswith("audit log: audit.db: is damaged (file is not a database); run")
    with pytest.raises(DamagedLogError):
        log.append("scan")


def test_a_clock_set_back_is_odd_and_not_wrong(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time_ns()
    monkeypatch.setattr(module.time, "time_ns", lambda: now - 90 * 10**9)
    log.append("scan")
    found = log.verify()
    assert found.ok
    assert found.first_bad is None
    assert len(found.warnings) == 1
    assert found.warnings[0].startswith("entry 9: its time is 9")
    assert "a clock was set back" in found.warnings[0]


IDENTIFIERS = {
    "email": "ask ann@example.com",
    "iban": "DE89 3704 0044 0532 0130 00",
    "card": "4111 1111 1111 1111",
    "phone": "call +49 30 1234567",
}


@pytest.mark.parametrize("kind", IDENTIFIERS)
def test_identifiers_are_refused_without_repeating_them(log: AuditLog, kind: str) -> None:
    said = IDENTIFIERS[kind]
    for facts in ({"note": said}, {"notes": ["fine", said]}, {"digest": said}):
        with pytest.raises(InputError) as refusal:
            log.append("reidentify", **facts)
        (name,) = facts
        assert f"fact '{name}': must hold no identifier; found what looks like one ({kind})" in str(refusal.value)
        assert said[-6:] not in str(refusal.value)
    assert log.verify().entries == ENTRIES
    beside = b"".join(path.read_bytes() for path in log.path.parent.iterdir())
    assert said.encode() not in beside


@pytest.mark.parametrize(
    "facts",
    [
        {"card": 4111111111111111}, {"card": 4111111111111111.0}, {"x": float("nan")}, {"x": float("inf")},
        {"x": b"bytes"}, {"x": Path("here")}, {"x": {"a": 1}}, {"x": [1, 2]}, {"x": ("a",)}, {"x": pd.Timestamp(0)},
    ],
    ids=lambda facts: str(next(iter(facts.values()))),
)  # fmt: skip
def test_facts_of_other_kinds_are_refused(log: AuditLog, facts: dict) -> None:
    with pytest.raises(InputError, match=r"fact '(card|x)': "):
        log.append("load", **facts)
    with pytest.raises(InputError, match="names must be lower-case") as refusal:
        log.append("load", **{"ann@example.com": 1})
    assert "ann" not in str(refusal.value)
    assert len(log.entries()) == ENTRIES


def test_random_codes_are_never_mistaken_for_identifiers() -> None:
    dice = random.Random(5)
    code = lambda size: f"{dice.getrandbits(4 * size):0{size}x}"  # noqa: E731
    facts = [
        fact
        for _ in range(2000)
        for fact in (
            ("customer", code(32)), ("reason", f"asked for {code(32)}"), ("file", code(64)),
            ("mlflow", str(uuid.UUID(int=dice.getrandbits(128), version=4))), ("key_id", code(16)),
            ("run", f"demo-{code(10)}"), ("config_digest", code(12)), ("snapshot", code(8)), ("version", code(16)),
            ("backup", f"backup-20260131-{dice.randrange(10**6):06d}"),
        )
    ]  # fmt: skip
    refused = [name for name, value in facts if find_identifiers(value)]
    assert len(refused) > 10, "without the exception some would be taken for phone numbers"
    assert [name for name, value in facts if module._identifier_kind(name, value)] == []


def test_usual_facts_are_taken(log: AuditLog) -> None:
    usual = {
        "as_of": "2026-06-01T00:00:00+00:00", "day": "2026-01-31", "when": "2026-01-31 23:59:59.123456+00:00",
        "rows": 999_999_999_999, "amount": 123456.78, "reason": "version 2 raised false alarms on travel, case 4711",
        "purpose": "fraud-model-training", "path": "data/vault/demo/0123456789abcdef/2026-01/features.parquet",
        "columns": ["amount", "customer_id"], "empty": [], "text": "",
    }  # fmt: skip
    log.append("export", **usual)
    assert log.entries()["facts"].iloc[-1] == usual


def test_files_are_for_their_owner_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        log = AuditLog(tmp_path / "data" / "audit.db", KeyDirectory(tmp_path / "keys"))
        with log.opened() as held:
            held.append("scan")
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in log.path.parent.iterdir()}
            write_anchor(tmp_path / "anchor.json", held.anchor())
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(["audit.db", "audit.db-shm", "audit.db-wal"], 0o600)
    assert stat.S_IMODE(log.path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "anchor.json").stat().st_mode) == 0o600


def test_anchor_files_are_kept_never_replaced(log: AuditLog, tmp_path: Path) -> None:
    path = tmp_path / "anchor.json"
    anchor = log.anchor()
    write_anchor(path, anchor)
    assert read_anchor(path) == anchor
    with pytest.raises(InputError, match="is there already"):
        write_anchor(path, log.anchor())
    assert read_anchor(path) == anchor
    assert [found.name for found in tmp_path.glob("*anchor*")] == ["anchor.json"], "nothing half-written stays"
    for content in ("[1]", "{", ""):
        path.write_text(content)
        with pytest.raises(InputError, match="must hold what `fraudlab audit anchor` writes"):
            read_anchor(path)
    with pytest.raises(InputError, match=r"cannot be read \(No such file"):
        read_anchor(tmp_path / "none.json")


def test_the_log_asks_its_keys_for_digests_only(tmp_path: Path) -> None:
    """A key server gives no key away; the log needs none."""
    folder, asked = KeyDirectory(tmp_path / "keys"), []

    class Server:
        def ids(self, name: str) -> list[str]:
            return folder.ids(name)

        def hmac(self, name: str, message: bytes) -> bytes:
            asked.append(name)
            return folder.hmac(name, message)

    log = AuditLog(tmp_path / "audit.db", Server())  # type: ignore[arg-type]
    log.append("scan")
    log.append("scan")
    assert log.verify(log.anchor()).ok
    assert AuditLog(log.path, folder).verify().ok
    assert set(asked) == {"audit", "audit-sign"}


def test_what_the_caller_does_meanwhile_speaks_for_itself(log: AuditLog) -> None:
    def failing() -> None:
        with log.opened() as held:
            held.append("scan")
            raise sqlite3.OperationalError("the caller's own")

    with pytest.raises(sqlite3.OperationalError, match="the caller's own"):
        failing()
    assert log.verify().entries == ENTRIES + 1


def test_a_log_held_by_another_process_is_said_in_a_sentence(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WAIT_SECONDS", 0.1)
    with contextlib.closing(sqlite3.connect(log.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(FraudlabError, match=r"audit\.db could not be used \(database is locked\); make room"):
            log.append("scan")
        assert log.verify().ok, "readers do not wait"
    assert log.append("scan") == ENTRIES + 1


def test_a_folder_that_cannot_be_made_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where a folder should be")
    log = AuditLog(tmp_path / "data" / "audit.db", KeyDirectory(tmp_path / "keys"))
    with pytest.raises(FraudlabError, match=r"audit\.db could not be used \(.*\); make room, correct the rights"):
        log.append("scan")
    assert not log.keys.path.exists()


def child(work: Callable[[int], None]) -> tuple[int, int]:
    """Run `work` in a process of its own, forked; return its id and the end of the pipe it writes to."""
    out, into = os.pipe()
    process = os.fork()
    if process == 0:
        code = 1
        try:
            os.close(out)
            work(into)
            code = 0
        finally:
            os._exit(code)
    os.close(into)
    return process, out


def test_a_full_disk_loses_nothing_and_is_said_in_a_sentence(log: AuditLog) -> None:
    def fill(pipe: int) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
        with log.opened() as held:
            for _ in range(1000):
                try:
                    number = held.append("load", note="x" * 500)
                except FraudlabError as error:
                    os.write(pipe, f"!{error}".encode())
                    return
                os.write(pipe, f"{number} ".encode())

    process, pipe = child(fill)
    with os.fdopen(pipe) as lines:
        done, _, said = lines.read().partition("!")
    assert os.waitpid(process, 0)[1] == 0
    assert "could not be used (" in said
    assert "Traceback" not in said
    found = log.verify()
    assert found.ok
    assert found.entries == ENTRIES + len(done.split())
    assert log.append("scan") == found.entries + 1


def numbers_from(pipe: int) -> list[int]:
    """Return what a writer reported; what it was killed in the middle of writing was not reported."""
    with os.fdopen(pipe) as lines:
        return [int(line) for line in lines.read().split("\n")[:-1]]


def test_killed_writers_lose_no_promised_entry_and_leave_no_lock(log: AuditLog, tmp_path: Path) -> None:
    stop, dice = tmp_path / "stop", random.Random(6)

    def writer(name: str, pause: float = 0) -> Callable[[int], None]:
        def work(pipe: int) -> None:
            while not stop.exists():
                os.write(pipe, f"{log.append('load', writer=name)}\n".encode())
                time.sleep(pause)

        return work

    survivors = {f"survivor {i}": child(writer(f"survivor {i}", pause=0.005)) for i in range(3)}
    promised: dict[int, str] = {}
    try:
        for turn in range(20):
            process, pipe = child(writer(f"victim {turn}"))
            first = os.read(pipe, 1)
            time.sleep(dice.uniform(0, 0.05))
            os.kill(process, signal.SIGKILL)
            assert os.waitpid(process, 0)[1] == signal.SIGKILL
            with os.fdopen(os.dup(pipe)) as lines:
                text = first.decode() + lines.read()
            os.close(pipe)
            reported = [int(line) for line in text.split("\n")[:-1]]
            assert not promised.keys() & set(reported)
            promised |= dict.fromkeys(reported, f"victim {turn}")
            if turn % 5 == 0:
                assert log.verify().ok, "read while others write"
        began = time.monotonic()
        promised[log.append("load", writer="after")] = "after"
        assert time.monotonic() - began < 10
    finally:
        stop.touch()
        for name, (process, pipe) in survivors.items():
            promised |= dict.fromkeys(numbers_from(pipe), name)
            assert os.waitpid(process, 0)[1] == 0
    table = log.entries().iloc[ENTRIES:]
    there = dict(zip(table["number"].tolist(), [facts["writer"] for facts in table["facts"]]))
    assert all(there.get(number) == name for number, name in promised.items())
    assert set(promised.values()) >= {*survivors, "after", "victim 0", "victim 19"}
    assert 0 <= len(there) - len(promised) <= 20, "at most one entry that a victim could not report any more"
    found = log.verify(log.anchor())
    assert found.ok
    assert found.warnings == []


@pytest.mark.parametrize("attempt", range(4))
def test_four_processes_begin_a_log_together_and_nothing_is_lost(tmp_path: Path, attempt: int) -> None:
    log = AuditLog(tmp_path / "data" / "audit.db", KeyDirectory(tmp_path / "keys"))
    start = time.time() + 0.05

    def writer(name: str) -> Callable[[int], None]:
        def work(pipe: int) -> None:
            while time.time() < start:
                pass
            for turn in range(10):
                os.write(pipe, f"{log.append('load', writer=name, turn=turn)}\n".encode())

        return work

    writers = {name: child(writer(name)) for name in "abcd"}
    promised = {name: numbers_from(pipe) for name, (_, pipe) in writers.items()}
    assert [os.waitpid(process, 0)[1] for process, _ in writers.values()] == [0] * 4
    assert sorted(number for numbers in promised.values() for number in numbers) == list(range(1, 41))
    facts = log.entries()["facts"].tolist()
    for name, numbers in promised.items():
        assert [facts[number - 1] for number in numbers] == [{"writer": name, "turn": turn} for turn in range(10)]
    assert log.verify().ok
    assert log.verify().warnings == []
    assert not [found.name for found in log.path.parent.iterdir() if found.name.startswith(".")]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AuditLog]:
    monkeypatch.setenv("FRAUDLAB_HOME", str(tmp_path))
    monkeypatch.delenv("FRAUDLAB_KEYS", raising=False)
    return audit_log(Workspace(tmp_path))


def fraudlab(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["audit", *words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.mark.parametrize("command", ["show", "verify", "anchor"])
def test_every_audit_command_shows_an_example(command: str) -> None:
    result = CliRunner().invoke(app, ["audit", command, "--help"], terminal_width=200)
    assert result.exit_code == 0
    assert f"Example: fraudlab audit {command}" in result.output


def test_show_prints_a_readable_table(home: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert "No such entry" in fraudlab("show")[1]
    home.append("load", dataset="demo", rows=120_000, columns=["amount", "channel"])
    home.append("refuse", reason="[bold]no[/x] \x1b[31mred", share=0.25)
    code, text = fraudlab("show")
    assert code == 0
    assert f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}" in text
    assert f"{pwd.getpwuid(os.getuid()).pw_name}/{os.getuid()}" in text
    assert "columns=amount+channel, dataset=demo, rows=120,000" in text
    assert "[bold]no[/x]" in text, "no markup"
    assert "\x1b[31m" not in text, "no control character reaches the terminal"
    assert "rows=120,000" not in fraudlab("show", "--action", "refuse")[1]
    assert "rows=120,000" not in fraudlab("show", "--last", "1")[1]
    assert "No such entry" in fraudlab("show", "--since", "2200-01-01T00:00Z")[1]
    table = json.loads(fraudlab("show", "--json")[1])
    assert [row["number"] for row in table] == [1, 2]
    assert table[0]["facts"] == {"dataset": "demo", "rows": 120_000, "columns": ["amount", "channel"]}
    assert pd.Timestamp(table[0]["time"]) == home.entries()["time"][0]
    with pytest.raises(InputError, match="did you mean 'load'"):
        fraudlab("show", "--action", "lod")


def test_verify_says_what_is_wrong_and_exits_1(home: AuditLog, tmp_path: Path) -> None:
    assert fraudlab("verify")[0] == 0
    for rows in range(5):
        home.append("load", rows=rows)
    outside = tmp_path / "outside.json"
    assert "entry 5" in fraudlab("anchor", "--out", str(outside))[1]
    code, text = fraudlab("verify")
    assert code == 0
    assert "5 entries: each is as it was written" in text
    assert "Without an outside anchor it cannot be noticed that the tail was cut off" in text
    code, text = fraudlab("verify", "--anchor", str(outside))
    assert code == 0
    assert "up to entry 5 nothing was cut off or rewritten" in text
    sql(home, "UPDATE entries SET actor = 'nobody/65534' WHERE number = 3")
    code, text = fraudlab("verify", "--anchor", str(outside))
    assert code == 1
    assert "Wrong: entry 3 is not as written here: changed, moved or inserted by someone else." in text
    assert "Only what lies before entry 3 can be trusted." in text
    assert "Next: keep the log as it is" in text
    found = json.loads(fraudlab("verify", "--json")[1])
    assert (found["ok"], found["entries"], found["first_bad"], found["anchor"]) == (False, 5, 3, None)


def test_verify_notices_a_cut_tail_with_an_anchor(home: AuditLog, tmp_path: Path) -> None:
    home.append("load")
    home.append("erase", count=1)
    outside = tmp_path / "outside.json"
    outside.write_text(fraudlab("anchor")[1])
    sql(home, "DELETE FROM entries WHERE number = 2")
    assert fraudlab("verify")[0] == 0
    code, text = fraudlab("verify", "--anchor", str(outside))
    assert code == 1
    assert "names entry 2 and the log ends with entry 1: its tail was cut off" in text
    with pytest.raises(InputError, match="cannot be read"):
        fraudlab("verify", "--anchor", str(tmp_path / "none.json"))
