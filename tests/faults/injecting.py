"""Faults at single operations of a process: each file operation and statement is counted, and one of them goes wrong.

What Python asks of the system is seen by an audit hook (open, rename, remove, mkdir ...); what it does not announce
(write, fsync, statements of a database) by thin wrappers. `arm` is called in a forked process and never undone.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import pickle
import re
import signal
import sqlite3
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.link", "os.symlink"}
KINDS: dict[str, tuple[str, ...]] = {
    "kill -9": ("create", "change", "write", "fsync", "statement", "commit", "own statement", "own commit"),
    "kill -9 of the kernel": ("create", "change", "write", "statement", "own statement"),
    "disk full": ("create", "change", "write", "fsync"),
    "unreadable file": ("read",),
    "locked database": ("statement", "commit", "own statement", "own commit"),
}
"""Which operations a kind of fault can hit."""


def forked(act: Callable[[], Any]) -> tuple[int, Any]:
    """Do something in a forked process of its own group; return how that ended (`waitpid`) and what it returned."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        os.setpgid(0, 0)
        try:
            told = pickle.dumps(act())
        except BaseException:
            told = pickle.dumps({"unforeseen": traceback.format_exc()})
        with os.fdopen(writer, "wb") as file:
            file.write(told)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        told = file.read()
    return os.waitpid(child, 0)[1], pickle.loads(told) if told else None


class Operation(NamedTuple):
    """One operation as counted: its number, what it is, the file or the statement without what changes by the run."""

    number: int
    what: str
    about: str


class Fault(NamedTuple):
    """What goes wrong: the kind, in which process (launcher or a notebook's kernel), at its n-th operation."""

    kind: str
    process: str
    at: int


def arm(roots: tuple[Path, ...], seen: Callable[[str, str], None]) -> None:
    """Call `seen(what, about)` before each file operation below `roots` and each statement of a database."""
    below = tuple(str(root) for root in roots)

    def known(path: Any) -> str | None:
        """Return a path relative to its root; None: not ours."""
        if isinstance(path, int):
            try:
                path = os.readlink(f"/proc/self/fd/{path}")
            except OSError:
                return None
        if not isinstance(path, str | bytes | os.PathLike):
            return None
        text = os.fsdecode(path)
        root = next((root for root in below if text.startswith(root)), None)
        return None if root is None else _steady(text[len(root) :])

    def announced(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            name = known(path)
            if name is not None and not isinstance(path, int):
                writes = bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
                seen("create" if writes else "read", name)
        elif event in CHANGES and (name := known(arguments[0])) is not None:
            seen("change", f"{event.removeprefix('os.')} {name}")

    _wrap_files(known, seen)
    _wrap_databases(seen)
    sys.addaudithook(announced)


def _steady(path: str) -> str:
    """Leave out of a path what differs from run to run: numbers of processes, random names."""
    return re.sub(r"[0-9a-f]{8,}|(?<=[.-])\d+|tmp\w{8}", "*", path)


def _wrap_files(known: Callable[[Any], str | None], seen: Callable[[str, str], None]) -> None:
    class Counted(io.FileIO):
        about = ""

        def write(self, data: Any) -> int | None:
            seen("write", self.about)
            return super().write(data)

    real_open, real_fsync = io.open, os.fsync

    def opened(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):  # type: ignore[no-untyped-def]
        name = known(file) if set(mode) & set("wax+") else None
        if name is None or buffering == 0:
            return real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = Counted(file, mode.replace("b", "").replace("t", ""), closefd=closefd, opener=opener)
        raw.about = name
        held = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return held
        text = io.TextIOWrapper(held, encoding, errors, newline)
        text.mode = mode  # type: ignore[misc]
        return text

    def fsync(descriptor: Any) -> None:
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        if (name := known(number)) is not None:
            seen("fsync", name)
        real_fsync(descriptor)

    io.open = builtins.open = opened  # type: ignore[assignment]
    os.fsync = fsync  # type: ignore[assignment]


def _wrap_databases(seen: Callable[[str, str], None]) -> None:
    import sqlalchemy

    class Counted(sqlite3.Connection):
        def execute(self, statement: str, *given: Any) -> sqlite3.Cursor:
            seen("own statement", _said(statement))
            return super().execute(statement, *given)

        def __exit__(self, *given: Any) -> Any:
            if given[0] is None and self.in_transaction:
                seen("own commit", "")
            return super().__exit__(*given)

    real = sqlite3.connect
    sqlite3.connect = lambda *given, **named: real(*given, **{"factory": Counted, **named})  # type: ignore[assignment]

    def statement(connection: Any, cursor: Any, text: str, *_: Any) -> None:
        seen("statement", _said(text))

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "before_cursor_execute", statement)
    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "commit", lambda *_: seen("commit", ""))


def _said(statement: str) -> str:
    words = statement.split()
    if words[0].upper() == "SELECT" and "FROM" in words:
        return f"SELECT {words[words.index('FROM') + 1]}"
    return " ".join(words[:3])


def strike(kind: str, what: str, launcher: int) -> None:
    """Let a fault of a kind happen, at an operation `what`; `launcher` is that process's number."""
    if kind == "kill -9":
        os.killpg(launcher, signal.SIGKILL)
    if kind == "kill -9 of the kernel":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "disk full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if kind == "unreadable file":
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    locked = sqlite3.OperationalError("database is locked")
    if what.startswith("own"):  # a database of fraudlab's own, without SQLAlchemy
        raise locked
    from sqlalchemy.exc import OperationalError

    raise OperationalError("", {}, locked)
