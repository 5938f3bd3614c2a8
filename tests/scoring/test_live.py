"""A monitor loses and counts nothing twice: killed, told twice, told late, told otherwise."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import shutil
import signal
import threading
import time

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from fraudlab.cli import app
from fraudlab.datasets.rights import erase
from fraudlab.features.online import OnlineState
from fraudlab.privacy import consent
from fraudlab.privacy.auditlog import audit_log
from fraudlab.privacy.journal import InUseError, Journal, read_sealed
from fraudlab.privacy.keys import open_keys
from fraudlab.privacy.vault import DamagedError
from fraudlab.schema import InputError
from fraudlab.scoring import live as living
from fraudlab.scoring import rights
from fraudlab.scoring import stream as streaming
from fraudlab.scoring.live import open_live, state_folder
from fraudlab.scoring.scorer import deployed
from fraudlab.scoring.stream import Alerts, File, Piped, monitor


@pytest.fixture
def model(workspace):
    return deployed(workspace, "demo")


@pytest.fixture
def events(lines) -> list[str]:
    """The later payments with repeats, late ones, labels and rubbish among them."""
    rng = np.random.default_rng(1)
    out: list[str] = []
    held: list[str] = []
    for number, line in enumerate(lines):
        if rng.random() < 0.03:
            held.append(line)  # comes later
        else:
            out.append(line)
        if rng.random() < 0.03:
            out.append(line)
        if held and rng.random() < 0.05:
            out.append(held.pop())
        if number % 60 == 59:
            row = json.loads(lines[number - 50])
            moment = json.loads(line)["paid_at"]
            out.append(
                json.dumps({"label": {"transaction_id": row["payment_id"], "is_fraud": True, "label_time": moment}})
            )
            out.append("this is no JSON")
    return out


def run(workspace, model, source, out, **settings):
    """Open, monitor, close; return the summary and what is left."""
    live, replayed = open_live(workspace, model)
    try:
        alerts = Alerts(out, every=True, model="demo/1")
        found = monitor(live, source(live.position), alerts, replayed=replayed, **settings)
        alerts.close()
        return found, live
    finally:
        live.journal.close()


def probe(live, lines) -> list[float]:
    """Score some payments that nothing was told of, a month on, with all that is remembered."""
    rows = [json.loads(line) for line in lines[::40]]
    for number, row in enumerate(rows):
        row |= {"payment_id": f"P9999{number:06d}", "paid_at": f"2026-04-25T10:00:{number % 60:02d}.{number:06d}+00:00"}
    live.journal = None
    return [answer.scored.score for answer in live.take(rows)]


@pytest.mark.parametrize("wanted", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_kills_leave_what_an_undisturbed_run_leaves(wanted, workspace, model, events, lines, tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "GROUP", 4)
    monkeypatch.setattr(living, "SNAPSHOT_EVERY", 150)
    path = tmp_path / "payments.jsonl"
    path.write_text("".join(f"{event}\n" for event in events))
    forking = multiprocessing.get_context("fork")
    begun = forking.Event()

    class Slow(File):
        def groups(self, stop):
            begun.set()
            for group in super().groups(stop):
                time.sleep(0.5 / len(events) * 4 * wanted if kills < wanted else 0)
                yield group

    def work() -> None:
        run(workspace, model, lambda position: Slow(path, position), tmp_path / "killed.jsonl")
        os._exit(0)

    rng = np.random.default_rng(wanted)
    kills = while_writing = 0
    while kills < wanted:
        begun.clear()
        child = forking.Process(target=work)
        child.start()
        if rng.random() < 0.85:  # else while it opens
            begun.wait()
        child.join(float(rng.uniform(0.01, 0.4)))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert child.exitcode == -signal.SIGKILL
        kills += 1
        while_writing += begun.is_set()
    assert while_writing > wanted / 2
    run(workspace, model, lambda position: File(path, position), tmp_path / "killed.jsonl")
    killed, replayed = open_live(workspace, model)
    assert replayed == []
    after = killed.counts.copy(), killed.number, killed.position
    seen = probe(killed, lines)
    killed_folder = state_folder(workspace, "demo")
    killed_folder.rename(tmp_path / "elsewhere")
    found, undisturbed = run(workspace, model, lambda position: File(path, position), tmp_path / "whole.jsonl")
    assert (undisturbed.counts, undisturbed.number, undisturbed.position) == after
    assert (tmp_path / "killed.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert probe(undisturbed, lines) == seen
    assert found["events"] == len(events)
    for kind in ("scored", "repeated", "late", "refused", "labels"):
        assert found[kind] > 5, kind
    assert found["scored"] == len(lines) - sum(1 for line in lines if line not in set(events))
    numbers = [json.loads(line)["number"] for line in (tmp_path / "whole.jsonl").read_text().splitlines()]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == found["scored"]


def test_nothing_readable_is_kept_and_only_the_owner_may_look(workspace, model, lines, tmp_path):
    path = tmp_path / "payments.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines[:200]))
    run(workspace, model, lambda position: File(path, position), tmp_path / "alerts.jsonl")
    kept = list(state_folder(workspace, "demo").iterdir())
    modes = [each.stat().st_mode & 0o077 for each in (*kept, tmp_path / "alerts.jsonl")]
    data = b"".join(each.read_bytes() for each in kept)
    out = (tmp_path / "alerts.jsonl").read_text()
    live, _ = open_live(workspace, model)
    codes = list(live.scorer.state.codes["customer_id"])
    live.journal.close()
    assert len(codes) > 100
    for line in lines[:200]:
        row = json.loads(line)
        for name in ("customer_ref", "card_number", "customer_name", "email", "ip_address", "device_fingerprint"):
            if row[name]:
                assert row[name].encode() not in data
                assert row[name] not in out
    assert not any(code.encode() in data or code in out for code in codes)
    assert modes == [0] * len(modes)


def test_one_process_scores_with_a_state(workspace, model):
    live, _ = open_live(workspace, model)
    with pytest.raises(InUseError) as refused:
        open_live(workspace, model)
    assert refused.value.exit_code == 75
    live.journal.close()
    open_live(workspace, model)[0].journal.close()


def test_a_changed_byte_is_refused_and_a_torn_end_is_cut_off(workspace, model, lines, tmp_path):
    live, _ = open_live(workspace, model)
    for line in lines[:30]:
        live.take([json.loads(line)])
    live.journal.close()
    folder = state_folder(workspace, "demo")
    (journal,) = folder.glob("journal-*.sealed")
    whole = journal.read_bytes()
    _, frames, torn = read_sealed(journal, open_keys(workspace))
    assert (len(frames), torn) == (30, None)
    for cut in (1, 20, len(whole) // 3):
        journal.write_bytes(whole[:-cut])
        _, left, torn = read_sealed(journal, open_keys(workspace))
        assert torn is not None
        assert left == frames[: len(left)]
        assert len(left) < 30
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(whole) - 400, 60).tolist():
        broken = bytearray(whole)
        broken[at] ^= 1 << int(rng.integers(8))
        journal.write_bytes(bytes(broken))
        try:
            _, left, torn = read_sealed(journal, open_keys(workspace))
        except DamagedError:
            continue
        assert torn is not None  # a length that was changed may point behind the end: the rest is gone, and it shows
        assert left == frames[: len(left)]
    journal.write_bytes(whole)
    (state,) = folder.glob("state-*.sealed")
    state.write_bytes(state.read_bytes()[:-5])
    with pytest.raises(DamagedError, match="is cut off; begin anew from the vault with --fresh"):
        open_live(workspace, model)
    fresh, answers = open_live(workspace, model, fresh=True)
    assert (fresh.number, answers) == (0, [])
    fresh.journal.close()


def test_late_and_repeated_payments_and_labels(workspace, model, lines):
    live, _ = open_live(workspace, model)
    rows = [json.loads(line) for line in lines[:40]]
    first, second, third = rows[0], rows[20], rows[39]
    assert [answer.kind for answer in live.take([first, third, third, second])] == [
        "scored",
        "scored",
        "repeated",
        "late",
    ]
    (answer,) = live.take([second])
    assert (answer.kind, answer.scored) == ("repeated", None)
    newest = live.scorer.state.last
    old = rows[5] | {"paid_at": (pd.Timestamp(third["paid_at"]) - pd.Timedelta(days=2)).isoformat()}
    assert live.take([old])[0].kind == "too_late"
    assert live.scorer.state.last == newest
    late = [json.loads(line) for line in lines if json.loads(line)["merchant_ref"] == second["merchant_ref"]]
    moment = pd.Timestamp(third["paid_at"]) + pd.Timedelta(hours=1)
    label = {"transaction_id": second["payment_id"], "is_fraud": True, "label_time": moment.isoformat()}

    def risk_at(when: pd.Timestamp) -> float:
        row = late[-1] | {"payment_id": f"X{when.value}", "paid_at": when.isoformat()}
        scored = live.take([row])[0].scored
        return scored.features[live.scorer.state.columns.index("merchant_id__frauds__7d")]

    before = risk_at(moment - pd.Timedelta(minutes=5))
    assert live.take([{"label": label}])[0].kind == "labels"
    assert risk_at(moment - pd.Timedelta(minutes=1)) == before
    assert risk_at(moment + pd.Timedelta(minutes=1)) == before + 1
    assert live.take([{"label": label | {"transaction_id": "nobody"}}])[0].kind == "labels_unknown"
    for wrong, said in (
        ({"is_fraud": 1}, "a label's is_fraud must be true or false; correct it"),
        ({"label_time": "2026-01-01"}, "a label's label_time must be a moment with a time zone; correct it"),
        ({"more": 1}, "a label must have is_fraud, label_time, transaction_id and nothing else; correct it"),
    ):
        (answer,) = live.take([{"label": label | wrong}])
        assert (answer.kind, answer.said) == ("refused", f"data set demo: {said}")
    live.journal.close()


def test_who_is_heard_of_in_the_ledger_is_forgotten(workspace, model, lines):
    live, _ = open_live(workspace, model)
    live.take([json.loads(line) for line in lines[:100]])
    whose = next(iter(live.scorer.state.codes["customer_id"]))
    consent.Ledger(workspace.ledger).record(
        customer=whose, purpose="fraud-detection", event="objection", basis="legitimate-interest", source="letter"
    )
    live.snapshot()
    assert whose not in live.scorer.state.codes["customer_id"]
    live.journal.close()
    again, _ = open_live(workspace, model)
    assert whose not in again.scorer.state.codes["customer_id"]
    again.journal.close()


def opened(workspace) -> str:
    """All that the kept files say of customers, each of them opened."""
    told = ""
    for path in state_folder(workspace, "demo").glob("*.sealed"):
        said = b"".join(read_sealed(path, open_keys(workspace))[1])
        is_state = path.name.startswith("state") and said
        told += " ".join(OnlineState.from_bytes(said).codes["customer_id"]) if is_state else said.decode()
    return told


def test_who_is_erased_is_in_no_file_after_the_next_snapshot(workspace, model, lines, monkeypatch):
    live, _ = open_live(workspace, model)
    rows = [json.loads(line) for line in lines[:100]]
    live.take(rows[:50])
    whose = next(iter(live.scorer.state.codes["customer_id"]))
    before = set(state_folder(workspace, "demo").glob("*.sealed"))
    assert whose in opened(workspace)
    erase("demo", whose, source="letter of 2026-03-01", workspace=workspace)
    assert rights.let_go(workspace) == {"demo": "in use"}
    live.take(rows[50:60])
    assert whose in opened(workspace), "else the rest of this test proves nothing"
    monkeypatch.setattr(living, "SNAPSHOT_AFTER", 0.0)
    live.take(rows[60:61])
    after = set(state_folder(workspace, "demo").glob("*.sealed"))
    assert len(after) == 2
    assert not before & after
    assert whose not in opened(workspace)
    live.journal.close()
    assert rights.let_go(workspace) == {}, "it knows already"


def test_a_state_that_nobody_uses_lets_go_at_once_and_goes_on_where_it_was(workspace, model, lines):
    live, _ = open_live(workspace, model)
    live.take([json.loads(line) for line in lines[:60]], position=60)
    whose = live.scorer.state.codes["customer_id"]
    other = next(code for code in whose if code != next(iter(whose)))
    live.journal.close()  # as if killed: 60 payments are in the journal alone
    shown = CliRunner().invoke(
        app, ["privacy", "erase", "--customer", other, "--source", "letter of 2026-03-01", "--yes"]
    )
    assert shown.exit_code == 0, shown.output
    assert "live state of demo: forgotten; the next start learns anew from the vault" in shown.output
    assert opened(workspace) == ""
    again, answers = open_live(workspace, model)
    assert (answers, again.number, again.position) == ([], 60, 60)
    assert other not in again.scorer.state.codes["customer_id"]
    assert len(again.scorer.state.codes["customer_id"]) > 100
    again.journal.close()
    entries = audit_log(workspace).entries("erase")
    assert entries["facts"].iloc[-1] == {"what": "live state", "models": ["demo"]}


def test_states_go_with_rows_of_a_certain_age_and_unreadable_ones_are_told(workspace, model):
    open_live(workspace, model)[0].journal.close()
    assert rights.let_go(workspace) == {}
    assert rights.let_go(workspace, datasets=["another"]) == {}
    assert rights.let_go(workspace, datasets=["demo"]) == {"demo": "let go"}
    for path in state_folder(workspace, "demo").glob("state-*"):
        path.write_bytes(path.read_bytes()[:-3])
    assert rights.let_go(workspace, datasets=["demo"]) == {"demo": "unreadable"}
    assert rights.said({"demo": "unreadable"}) == [
        "live state of demo: cannot be read; start its process with --fresh, which replaces it"
    ]


def test_a_pipe_and_a_file_that_grows_and_is_replaced(workspace, model, lines, tmp_path):
    live, _ = open_live(workspace, model)
    out = io.StringIO()
    found = monitor(
        live, Piped(io.BytesIO("".join(f"{line}\n" for line in lines[:150]).encode())), Alerts(out, every=True)
    )
    assert found["scored"] == len(out.getvalue().splitlines()) == 150
    assert found["latency_ms"]["p50"] is not None
    path = tmp_path / "payments.jsonl"
    stop = threading.Event()
    summary: dict = {}
    follower = threading.Thread(
        target=lambda: summary.update(
            monitor(live, File(path, follow=True), Alerts(tmp_path / "out.jsonl", every=True), stop=stop)
        )
    )
    follower.start()

    def wait_for(count: int) -> None:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            if live.counts["scored"] == 150 + count:
                return
            time.sleep(0.02)
        raise AssertionError(live.counts)

    with path.open("w") as file:
        file.write("".join(f"{line}\n" for line in lines[150:160]) + lines[160][:30])
        file.flush()
        wait_for(10)
        file.write(lines[160][30:] + "\n")
        file.flush()
        wait_for(11)
    path.rename(tmp_path / "payments.1")
    path.write_text(f"{lines[161]}\n{lines[162]}\n")
    wait_for(13)
    stop.set()
    follower.join()
    live.journal.close()
    assert summary["scored"] == 13
    assert summary["refused"] == 0
    again, _ = open_live(workspace, model)
    assert again.position == {"file": path.stat().st_ino, "at": path.stat().st_size}
    again.journal.close()


def test_a_file_of_alerts_that_is_another_file_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("remember the milk\n")
    with pytest.raises(InputError, match="must hold what the monitor wrote; found another last line; name a new file"):
        Alerts(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "remember the milk\n"
    (tmp_path / "alerts.jsonl").write_text('{"number": 7}\n{"numb')
    assert Alerts(tmp_path / "alerts.jsonl").last == 7
    assert (tmp_path / "alerts.jsonl").read_text() == '{"number": 7}\n'


def test_a_snapshot_is_kept_in_pieces_all_of_which_must_be_there(tmp_path, workspace, monkeypatch):
    monkeypatch.setattr("fraudlab.privacy.journal.PIECE", 1000)
    state = bytes(range(256)) * 14  # 3,584 bytes: the last piece is shorter
    with Journal(tmp_path / "state", open_keys(workspace)) as journal:
        journal.snapshot({"a": 1}, state)
        journal.append(b"one")
    with Journal(tmp_path / "state", open_keys(workspace)) as journal:
        assert journal.recover() == ({"a": 1}, state, [b"one"])
    (path,) = (tmp_path / "state").glob("state-*")
    whole = path.read_bytes()
    for size in (0, 584, 1000, 1000, 1000):  # the end gone, then each piece before it: a cut that tears no frame
        path.write_bytes(path.read_bytes()[: -(4 + size + 16)])
        with Journal(tmp_path / "state", open_keys(workspace)) as journal, pytest.raises(DamagedError, match="cut off"):
            journal.recover()
    first = len(whole) - 20 - (584 + 20) - 3 * 1020
    path.write_bytes(
        whole[:first] + whole[first + 1020 : first + 2040] + whole[first : first + 1020] + whole[first + 2040 :]
    )
    with Journal(tmp_path / "state", open_keys(workspace)) as journal, pytest.raises(DamagedError):
        journal.recover()


def names(folder) -> list[str]:
    return sorted(path.name.removesuffix(".sealed") for path in folder.glob("[!.]*.sealed"))


def test_a_snapshot_beside_holds_nobody_up_and_nothing_is_lost_at_any_moment_of_it(tmp_path, workspace):
    """Copies of the folder, as a kill at that moment would leave it, all tell every group that was written."""
    folder, go_on, keys = tmp_path / "state", threading.Event(), open_keys(workspace)

    def told(copy) -> tuple:
        shutil.copytree(folder, tmp_path / copy)
        with Journal(tmp_path / copy, keys) as journal:
            return journal.recover()

    def write(file) -> None:
        file.write(b"1 2 ")
        go_on.wait(20)
        file.write(b"3")

    with Journal(folder, keys) as journal:
        journal.snapshot({"at": 0}, b"")
        for group in (b"1", b"2", b"3"):
            journal.append(group)
        journal.snapshot_beside({"at": 3}, write)
        assert journal.keeping
        assert told("begun") == ({"at": 0}, b"", [b"1", b"2", b"3"])
        journal.append(b"4")
        assert told("meanwhile") == ({"at": 0}, b"", [b"1", b"2", b"3", b"4"])
        assert names(folder) == ["journal-000001", "journal-000002", "state-000001"]
        assert [path.name for path in folder.glob(".state*")] == [".state-000002.sealed"]
        go_on.set()
        journal.wait()
        assert names(folder) == ["journal-000002", "state-000002"]
        assert told("kept") == ({"at": 3}, b"1 2 3", [b"4"])
        journal.append(b"5")
    assert told("closed") == ({"at": 3}, b"1 2 3", [b"4", b"5"])


def test_a_snapshot_beside_that_fails_leaves_the_journals_to_tell_everything(tmp_path, workspace, caplog):
    def full(file) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    folder, keys = tmp_path / "state", open_keys(workspace)
    with Journal(folder, keys) as journal:
        journal.snapshot({}, b"state")
        for number in range(3):
            journal.append(b"before %d" % number)
            journal.snapshot_beside({}, full)
            journal.append(b"after %d" % number)
            journal.wait()
    assert names(folder) == [*(f"journal-00000{number}" for number in (1, 2, 3, 4)), "state-000001"]
    said = "state 'state': no snapshot could be kept (No space left on device); the journals tell everything meanwhile"
    assert sum(said in told for told in caplog.messages) == 3
    assert not list(folder.glob(".state*"))
    expected = [b"%s %d" % (when, number) for number in range(3) for when in (b"before", b"after")]
    with Journal(folder, keys) as journal:
        assert journal.recover() == ({}, b"state", expected)
        journal.snapshot({}, b"all of it")
        assert names(folder) == ["journal-000005", "state-000005"]
    held = {path.name: path.read_bytes() for path in folder.iterdir()}
    with Journal(folder, keys) as journal:
        assert journal.recover() == ({}, b"all of it", [])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == held


def test_a_chain_of_journals_with_a_hole_or_a_torn_link_is_no_crash(tmp_path, workspace):
    folder, keys = tmp_path / "state", open_keys(workspace)

    def never(file) -> None:
        raise OSError

    with Journal(folder, keys) as journal:
        journal.snapshot({}, b"state")
        for number in range(3):
            journal.append(b"group %d" % number)
            journal.snapshot_beside({}, never)
        journal.append(b"last")
    whole = {path.name: path.read_bytes() for path in folder.glob("*.sealed")}

    def left(**changed) -> list[bytes] | None:
        for path in folder.glob("*.sealed"):
            path.unlink()
        for name, data in (whole | {f"journal-00000{k[1:]}.sealed": data for k, data in changed.items()}).items():
            if data is not None:
                (folder / name).write_bytes(data)
        with Journal(folder, keys) as journal:
            return journal.recover()[2]

    assert left() == [b"group 0", b"group 1", b"group 2", b"last"]
    torn = {number: whole[f"journal-00000{number}.sealed"][:-3] for number in (1, 2, 3, 4)}
    assert left(_4=torn[4]) == [b"group 0", b"group 1", b"group 2"], "what nobody was told of is cut off"
    for number in (1, 2, 3):
        with pytest.raises(DamagedError, match=f"'journal-00000{number}.sealed': is cut off"):
            left(**{f"_{number}": torn[number]})
    with pytest.raises(DamagedError, match=r"'journal-000001.sealed': is gone"):
        left(_1=None)
    with pytest.raises(DamagedError, match=r"'journal-000002.sealed': is gone"):
        left(_2=None)
    assert left(_4=b"") == left(_4=None) == [b"group 0", b"group 1", b"group 2"], "killed when it was begun"


def test_a_copy_of_the_groups_without_its_snapshot_is_not_counted_twice(tmp_path, workspace, monkeypatch):
    """A rotation writes the groups anew before the snapshot has its name; killed between, they are there twice."""
    folder, keys = tmp_path / "state", open_keys(workspace)
    with Journal(folder, keys) as journal:
        journal.snapshot({}, b"state")
        journal.append(b"one")
    with Journal(folder, keys) as journal, monkeypatch.context() as patch:
        kept = journal.recover()
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("killed")))
        with pytest.raises(OSError, match="killed"):
            journal.snapshot(*kept)
    assert names(folder) == ["journal-000001", "journal-000002", "state-000001"]
    with Journal(folder, keys) as journal:
        assert journal.recover() == ({}, b"state", [b"one"])
        journal.snapshot(*kept)
    with Journal(folder, keys) as journal:
        assert journal.recover() == ({}, b"state", [b"one"])


def test_a_snapshot_beside_is_the_state_as_it_was(workspace, model, lines, monkeypatch):
    """Payments go on while a slow disk takes the snapshot; killed then, or after it, the same answers come out."""
    rows = [json.loads(line) for line in lines]
    alone, _ = open_live(workspace, model)
    alone.journal.close()
    alone.journal = None
    expected = [answer.scored.score for answer in alone.take(rows[:200])]
    go_on, live = threading.Event(), open_live(workspace, model, fresh=True)[0]
    frozen = OnlineState.frozen

    def slow(state):
        write = frozen(state)
        return lambda file: (go_on.wait(20), write(file))

    monkeypatch.setattr(OnlineState, "frozen", slow)
    monkeypatch.setattr(living, "SNAPSHOT_EVERY", 50)
    found = [answer.scored.score for row in rows[:120] for answer in live.take([row])]
    assert live.journal.keeping
    folder = state_folder(workspace, "demo")
    assert names(folder) == ["journal-000001", "journal-000002", "state-000001"], "the second one waits its turn"
    go_on.set()
    live.journal.wait()
    assert names(folder) == ["journal-000002", "state-000002"]
    found += [answer.scored.score for answer in live.take(rows[120:130])]  # brings the next one
    live.journal.close()
    monkeypatch.undo()
    again, replayed = open_live(workspace, model)
    assert (again.number, len(replayed)) == (130, 0)
    found += [answer.scored.score for answer in again.take(rows[130:200])]
    again.journal.close()
    assert found == expected


def test_a_journal_needs_its_snapshot(tmp_path, workspace):
    with Journal(tmp_path / "state", open_keys(workspace)) as journal:
        assert journal.recover() is None
        with pytest.raises(Exception, match="a snapshot comes first"):
            journal.append(b"group")
        journal.snapshot({"a": 1}, b"state")
        journal.append(b"one")
        journal.append(b"two", sync=False)
    with Journal(tmp_path / "state", open_keys(workspace)) as journal:
        facts, state, groups = journal.recover()
        assert (facts["a"], state, groups) == (1, b"state", [b"one", b"two"])
        journal.snapshot({"a": 2}, b"later")
        assert len(list((tmp_path / "state").glob("*.sealed"))) == 2
