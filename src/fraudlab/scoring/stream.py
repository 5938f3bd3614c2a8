"""`fraudlab monitor`: JSON lines in, alerts out, in order, until the source ends or somebody says stop.

A source gives lines with the position after each; the lines that are there make a group, so that a burst shares one
write to the disk and a lone payment waits for nobody. Alerts are numbered: after a kill the file of alerts goes on with
the first number that it does not hold.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol

from fraudlab.reasons import Reason
from fraudlab.schema import InputError
from fraudlab.scoring.figures import Figures, quantile
from fraudlab.scoring.live import Answer, Live

GROUP = 64
"""Events that share one write to the disk, at most."""
LONGEST_LINE = 1 << 20
WAIT = 0.2
"""Seconds between two looks at a file that grows, or at whether somebody said stop."""


class Source(Protocol):
    """Where lines come from."""

    def groups(self, stop: threading.Event) -> Iterator[tuple[list[bytes], Any]]:
        """Yield lines that are there, with the position after the last one; end at the source's end or on `stop`."""


class Piped:
    """Lines of a pipe such as standard input; there is no position to go back to: repeats are noticed by their ids."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.pipe = pipe

    def groups(self, stop: threading.Event) -> Iterator[tuple[list[bytes], Any]]:
        """Yield what has come in; a thread of its own waits for the pipe."""
        lines: queue.Queue[bytes | None] = queue.Queue(maxsize=16 * GROUP)

        def read() -> None:
            # Unbuffered: a process cannot end while a thread that waits here holds a buffer's lock.
            pipe, rest = getattr(self.pipe, "raw", self.pipe), b""
            while more := pipe.read(1 << 16):
                *whole, rest = (rest + more).split(b"\n")
                for line in whole:
                    lines.put(line + b"\n")
            if rest:
                lines.put(rest)
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        while not stop.is_set():
            try:
                group = [lines.get(timeout=WAIT)]
            except queue.Empty:
                continue
            while len(group) < GROUP and group[-1] is not None:
                try:
                    group.append(lines.get_nowait())
                except queue.Empty:
                    break
            ended = group[-1] is None
            if found := [line for line in group if line is not None]:
                yield found, None
            if ended:
                return


class File:
    """Lines of a file from a position on; with `follow` it waits for more, and for another file under the same name.

    A position is {"file": the file's number on its disk, "at": bytes}. A file that is shorter than its position, or
    another one, is read from its beginning.
    """

    def __init__(self, path: Path, position: Any = None, *, follow: bool = False) -> None:
        self.path = path
        self.position = position
        self.follow = follow
        if not path.is_file() and not follow:
            raise InputError(f"monitor: no file at {path}; name one, or take --follow to wait for it")

    def groups(self, stop: threading.Event) -> Iterator[tuple[list[bytes], Any]]:
        """Yield whole lines; at the end without `follow`, a last line that has no end too."""
        while not stop.is_set():
            try:
                with self.path.open("rb") as file:
                    yield from self._of(file, stop)
            except FileNotFoundError:
                pass
            if not self.follow:
                return
            stop.wait(WAIT)

    def _of(self, file: IO[bytes], stop: threading.Event) -> Iterator[tuple[list[bytes], Any]]:
        facts = os.fstat(file.fileno())
        same = isinstance(self.position, dict) and self.position.get("file") == facts.st_ino
        if same and self.position["at"] <= facts.st_size:
            file.seek(self.position["at"])
        while not stop.is_set():
            start = file.tell()
            group = self._whole_lines(file)
            if group:
                self.position = {"file": facts.st_ino, "at": file.tell()}
                yield group, self.position
                continue
            if not self.follow:
                return
            file.seek(start)
            if self._replaced(facts.st_ino, start):
                return
            stop.wait(WAIT)

    def _whole_lines(self, file: IO[bytes]) -> list[bytes]:
        group: list[bytes] = []
        while len(group) < GROUP:
            at = file.tell()
            line = file.readline(LONGEST_LINE + 1)
            if not line:
                break
            if not line.endswith(b"\n") and len(line) <= LONGEST_LINE and self.follow:
                file.seek(at)  # its end is still to come
                break
            while not line.endswith(b"\n") and len(line) > LONGEST_LINE:  # too long: one refusal for all of it
                more = file.readline(LONGEST_LINE)
                if not more or more.endswith(b"\n"):
                    break
            group.append(line)
        return group

    def _replaced(self, number: int, at: int) -> bool:
        try:
            facts = self.path.stat()
        except FileNotFoundError:
            return False  # moved away; its successor is still to come
        return facts.st_ino != number or facts.st_size < at


class Alerts:
    """Where alerts go: a file of JSON lines for its owner only, or a pipe.

    Parameters
    ----------
    target : a path, or an open text stream; into a stream, alerts of the last group before a kill may come twice.
    every : write every scored payment, not only alerts.
    """

    def __init__(self, target: Path | IO[str], *, every: bool = False, lang: str = "en", model: str = "") -> None:
        self.every, self.lang, self.model = every, lang, model
        self.last = 0
        if isinstance(target, Path):
            target.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(target, os.O_RDWR | os.O_CREAT, 0o600)
            self.last = _cut_to_whole_lines(handle)
            self.stream: IO[str] = os.fdopen(handle, "w", encoding="utf-8")
            self.stream.seek(0, os.SEEK_END)
        else:
            self.stream = target

    def write(self, live: Live, answers: list[Answer]) -> dict[int, list[Reason]]:
        """Write the alerts among some answers that are not there yet; return their reasons by number."""
        mine = [a for a in answers if a.scored is not None and (self.every or a.scored.alert) and a.number > self.last]
        if not mine:
            return {}
        alerts = [answer for answer in mine if answer.scored.alert]
        told = live.scorer.told([answer.scored for answer in alerts], self.lang)
        reasons = {answer.number: found for answer, found in zip(alerts, told)}
        lines = [self.line(answer, [each.sentence for each in reasons.get(answer.number, ())]) for answer in mine]
        self.stream.write("".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines))
        self.stream.flush()
        self.last = mine[-1].number
        return reasons

    def line(self, answer: Answer, reasons: list[str]) -> dict[str, Any]:
        """Return one alert as it is written: the caller's own id, no code of a customer."""
        scored = answer.scored
        return {
            "number": answer.number,
            "transaction_id": scored.transaction_id,
            "event_time": scored.event_time.isoformat(),
            "score": scored.score,
            "risk": scored.risk,
            "tier": scored.tier,
            "action": scored.action,
            "reasons": reasons,
            "rules": list(scored.rules),
            "late": scored.late,
            "model": self.model,
        }

    def close(self) -> None:
        """Bring what was written down to the disk."""
        self.stream.flush()
        if self.stream.fileno() > 2:
            os.fsync(self.stream.fileno())
            self.stream.close()


def _cut_to_whole_lines(handle: int) -> int:
    """Cut a torn last line off a file of alerts; return the number of the last whole one, 0 without any."""
    size = os.fstat(handle).st_size
    tail = b""
    at = size
    while at > 0 and tail.count(b"\n") < 2:
        step = min(65_536, at)
        at -= step
        tail = os.pread(handle, step, at) + tail
    end = tail.rfind(b"\n") + 1
    os.ftruncate(handle, at + end)
    lines = tail[:end].splitlines()
    if not lines:
        return 0
    try:
        return int(json.loads(lines[-1])["number"])
    except (ValueError, KeyError, TypeError):
        raise InputError(
            "monitor: the file of alerts must hold what the monitor wrote; found another last line; name a new file"
        ) from None


def monitor(
    live: Live,
    source: Source,
    alerts: Alerts,
    *,
    replayed: list[Answer] | None = None,
    stop: threading.Event | None = None,
    clock: Callable[[], dt.datetime] | None = lambda: dt.datetime.now(dt.UTC),
    sync: bool = True,
    said: Callable[[str], None] = lambda text: None,
    figures: Figures | None = None,
) -> dict[str, Any]:
    """Score every line of a source in order until it ends or `stop` is set; keep the state.

    Parameters
    ----------
    live : open; it is kept with a snapshot at the end, and stays open.
    source, alerts : where lines come from and alerts go.
    replayed : answers that `open_live` gave again; their alerts are written where the file lacks them.
    clock : what event times are held against; None: nothing (for a replay).
    sync : each group is on the disk before it is answered.
    said : is told each refusal, with the line's number of this session.
    figures : are told what each group came to; others may look at them meanwhile.

    Returns
    -------
    The summary: seconds, events, one count per kind, alerts, tiers; latency_ms (p50, p99, of scoring a payment within
    the process, the disk included, as `quantile` has them); missing (columns that were not given: rows).
    """
    stop = stop or threading.Event()
    figures = figures or Figures(time.time())
    before = live.counts.copy()
    began, line_number = time.monotonic(), 0
    alerts.write(live, replayed or [])
    for lines, position in source.groups(stop):
        started = time.perf_counter()
        events = [_parsed(line) for line in lines]
        answers = live.take(events, position=position, now=None if clock is None else clock(), sync=sync)
        reasons = alerts.write(live, answers)
        figures.note(answers, time.perf_counter() - started, now=time.time(), reasons=reasons)
        for answer in answers:
            line_number += 1
            if answer.kind == "refused":
                said(f"line {line_number:,} of this session: {answer.said}")
    live.snapshot()
    counts = live.counts - before
    took = figures.read(time.time()).took
    slow = {name: quantile(took, share) for name, share in (("p50", 0.5), ("p99", 0.99))}
    return {
        "seconds": round(time.monotonic() - began, 3),
        "events": line_number,
        **{kind: counts[kind] for kind in ("scored", "alerts", "late", "repeated", "too_late", "refused")},
        "labels": counts["labels"],
        "labels_unknown": counts["labels_unknown"],
        "tiers": {name.removeprefix("tier "): n for name, n in sorted(counts.items()) if name.startswith("tier ")},
        "latency_ms": {name: None if at is None else round(1000 * at, 3) for name, at in slow.items()},
        "missing": dict(live.door.counts.missing),
    }


def _parsed(line: bytes) -> Any:
    """Return a line's value; None, which is refused, where it is no JSON, too long or says not-a-number."""
    if len(line) > LONGEST_LINE:
        return None
    try:
        return json.loads(line, parse_constant=_refused)
    except (ValueError, RecursionError):
        return None


def _refused(text: str) -> Any:
    raise ValueError
