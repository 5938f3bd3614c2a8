"""A key server on a Unix socket: one account keeps the keys, others ask it to wrap, unwrap and seal for them.

Who asks is known from the kernel (SO_PEERCRED), not from what they say. One connection carries one request and one
answer, each as four bytes of length (big-endian) and that many bytes of JSON:

    {"do": "unwrap", "name": "features", "wrapped": "...", "files": 3}  ->  {"done": "<base64>"} or {"refused": "..."}
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import json
import os
import pwd
import re
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fraudlab.privacy.keys import HeldKey, KeyDirectory, Keys, KeyUnavailableError, account_name, check_name
from fraudlab.schema import FraudlabError, InputError, did_you_mean

TIMEOUT = 4.0
"""Seconds for a request and its answer, on both sides."""

LARGEST = 16 << 20
"""Bytes of a message at most; a manifest to be sealed is the longest."""

ROTATE = "rotate"
"""Stands among the keys an account may use: it may rotate these keys too."""

_WORKERS = 32


class Peer(NamedTuple):
    """Who is at the other end of a socket, as the kernel says."""

    pid: int
    uid: int


@dataclass(frozen=True)
class KeyClient(Keys):
    """The keys of a key server, as far as it lets this account use them; no key comes here.

    Raises
    ------
    KeyUnavailableError : the server refuses, is not there, does not answer within 4 seconds, or its socket lies in a
        folder where others could have put one of their own.
    """

    path: Path

    def held(self, name: str | None = None) -> list[HeldKey]:
        """Return the keys this account may use; make none."""
        told = self._ask("held", name=name)
        return [HeldKey(**key | {"made": dt.datetime.fromisoformat(key["made"])}) for key in told]

    def make(self, name: str) -> str:
        """Return the id of the current key, made by the server on first use."""
        return self._ask("make", name=name)

    def wrap(self, name: str, secret: bytes) -> str:
        """Let the server encrypt a data key."""
        return self._ask("wrap", name=name, secret=_text(secret))

    def unwrap(self, name: str, wrapped: str | bytes, *, files: int = 1) -> bytes:
        """Let the server decrypt a data key; it writes down who asked."""
        sent = wrapped.decode("ascii", "replace") if isinstance(wrapped, bytes) else wrapped
        return base64.b64decode(self._ask("unwrap", name=name, wrapped=sent, files=files))

    def hmac(self, name: str, message: bytes, *, key: str | None = None) -> bytes:
        """Let the server compute a keyed digest."""
        return base64.b64decode(self._ask("hmac", name=name, message=_text(message), key=key))

    def begin_rotation(self, name: str) -> None:
        """Let the server make a new key and keep the current one as the retired one."""
        self._ask("begin_rotation", name=name)

    def end_rotation(self, name: str) -> None:
        """Let the server destroy the retired key."""
        self._ask("end_rotation", name=name)

    def _ask(self, do: str, **what: Any) -> Any:
        deadline = time.monotonic() + TIMEOUT
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
                line.settimeout(TIMEOUT)
                line.connect(str(self.path))
                _refuse_strangers(self.path, peer_of(line).uid)
                # A refusal may come before the question was read, and closes the line.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    _send(line, {"do": do, **what}, deadline)
                answer = _receive(line, deadline)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise KeyUnavailableError(
                f"key server: no answer at {self.path} ({reason.lower()}); start it with `fraudlab keys serve --socket "
                f"{self.path}`, or name another place in FRAUDLAB_KEYS"
            ) from None
        if "done" in answer:
            return answer["done"]
        raise (InputError if answer.get("input") else KeyUnavailableError)(str(answer.get("refused", "refused")))


def parse_grants(given: list[str]) -> dict[int, frozenset[str]]:
    """Read which account may use which keys, `account:key,key`, an account by name or number.

    Raises
    ------
    InputError : another form, an unknown account, or a name no key can have.

    >>> sorted(parse_grants(["1001:features,manifest"])[1001])
    ['features', 'manifest']
    """
    grants: dict[int, frozenset[str]] = {}
    for text in given:
        account, colon, names = text.partition(":")
        if not colon or not names:
            raise InputError(f"--allow: must look like account:features,manifest; found '{text}'")
        wanted = [name.strip() for name in names.split(",")]
        for name in wanted:
            check_name(name)
        uid = _uid(account.strip())
        grants[uid] = grants.get(uid, frozenset()) | frozenset(wanted)
    return grants


def serve(
    keys: KeyDirectory,
    path: Path,
    grants: Mapping[int, frozenset[str]],
    log: Path,
    *,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Answer on a Unix socket until the process is told to end; then the socket is removed.

    Parameters
    ----------
    keys : the folder; no key leaves it.
    path : the socket, in a folder that only the server's account can write to.
    grants : which keys an account may use, by uid; "rotate" among them lets it rotate these. The server's own account
        may use them all: it could read the folder anyway.
    log : every unwrap, refusal and rotation, a line of JSON each (0600): time, uid, pid, do, key, files, allowed. Where
        it cannot be written, nothing is unwrapped.
    ready : called when the first connection can come.

    Raises
    ------
    InputError : the folder is open to others, another server is there, the log cannot be written, or this is not Linux.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        raise InputError("keys serve: only Linux tells a server who is asking; use the key folder or HashiCorp Vault")
    try:
        log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(_opened_log(log))
    except OSError as error:
        raise InputError(f"--log: {log} could not be written ({error.strerror}); name another file") from None
    door = _Door(keys, grants, log)
    free = threading.Semaphore(_WORKERS)

    def answer(line: socket.socket) -> None:
        try:
            with line, contextlib.suppress(OSError, ValueError):
                door.answer(line)
        finally:
            free.release()

    public = bool(grants.keys() - {os.getuid()})
    with _listening(path, public=public) as listener, ThreadPoolExecutor(_WORKERS) as workers:
        ready()
        while True:
            free.acquire()  # who comes while all are busy waits in the kernel's queue
            line, _ = listener.accept()
            workers.submit(answer, line)


@dataclass(frozen=True)
class _Door:
    """Decides who may ask for what, does it, and writes it down."""

    keys: KeyDirectory
    grants: Mapping[int, frozenset[str]]
    log: Path

    def answer(self, line: socket.socket) -> None:
        deadline = time.monotonic() + TIMEOUT
        line.settimeout(TIMEOUT)
        peer = peer_of(line)
        if peer.uid != os.getuid() and peer.uid not in self.grants:
            # Nothing is read from strangers.
            try:
                self._note(peer, {"do": "connect"}, allowed=False)
            finally:
                _send(line, {"refused": self._no_entry(peer, "any key")}, deadline)
            return
        request = _receive(line, deadline)
        try:
            answer = {"done": self._do(peer, request)}
        except FraudlabError as error:
            answer = {"refused": str(error), "input": isinstance(error, InputError)}
        except (KeyError, TypeError, ValueError):
            answer = {"refused": "key server: the request has not the form this server knows; update both sides"}
        except OSError as error:
            answer = {
                "refused": f"key server: its log or its folder could not be used ({error.strerror or error}); "
                "ask the key server's owner"
            }
        _send(line, answer, deadline)

    def _do(self, peer: Peer, request: dict[str, Any]) -> Any:
        do, name = request["do"], request["name"]
        if do == "held":
            return [self._described(key) for key in self.keys.held(name) if self._may(peer, key.name)]
        if not self._may(peer, name) or (do in ("begin_rotation", "end_rotation") and not self._may(peer, ROTATE)):
            self._note(peer, request, allowed=False)
            raise KeyUnavailableError(
                self._no_entry(peer, f"the key '{name}'" if not self._may(peer, name) else f"'{ROTATE}' for '{name}'")
            )
        match do:
            case "make":
                return self.keys.make(name)
            case "wrap":
                return self.keys.wrap(name, base64.b64decode(request["secret"], validate=True))
            case "unwrap":
                # Written down first: what cannot be written down is not done.
                self._note(peer, request, allowed=True)
                return _text(self.keys.unwrap(name, request["wrapped"]))
            case "hmac":
                message = base64.b64decode(request["message"], validate=True)
                return _text(self.keys.hmac(name, message, key=request["key"]))
            case "begin_rotation" | "end_rotation":
                self._note(peer, request, allowed=True)
                getattr(self.keys, do)(name)
                return True
        raise ValueError(do)

    def _may(self, peer: Peer, name: str) -> bool:
        return peer.uid == os.getuid() or name in self.grants.get(peer.uid, ())

    def _no_entry(self, peer: Peer, what: str) -> str:
        granted = ", ".join(sorted(self.grants.get(peer.uid, ()))) or "none"
        return (
            f"key server: account {account_name(peer.uid)} may not use {what} (it may use: {granted}); "
            "ask the key server's owner"
        )

    def _described(self, key: HeldKey) -> dict[str, Any]:
        others = [account_name(uid) for uid, names in self.grants.items() if key.name in names]
        readers = f"held by {account_name(os.getuid())}; used by {', '.join(others) or 'nobody else'}"
        return asdict(key) | {"made": key.made.isoformat(), "readers": readers}

    def _note(self, peer: Peer, request: Mapping[str, Any], *, allowed: bool) -> None:
        line = {
            "time": dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds"),
            "uid": peer.uid,
            "pid": peer.pid,
            "do": str(request.get("do"))[:40],
            "key": str(request["name"])[:40] if "name" in request else None,
            "files": request["files"] if isinstance(request.get("files"), int) else None,
            "allowed": allowed,
        }
        handle = _opened_log(self.log)
        try:
            os.write(handle, json.dumps(line).encode() + b"\n")
        finally:
            os.close(handle)


def _opened_log(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def peer_of(line: socket.socket) -> Peer:
    """Return who is at the other end, as the kernel says."""
    pid, uid, _ = struct.unpack("iII", line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII")))
    return Peer(pid, uid)


@contextlib.contextmanager
def _listening(path: Path, *, public: bool) -> Iterator[socket.socket]:
    """Listen on a socket that is not in use; a dead server's one is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(0o177)
    try:
        _refuse_strangers(path, os.getuid())
        _remove_dead(path)
        listener.bind(str(path))
        # Who may ask is decided for each connection.
        path.chmod(0o666 if public else 0o600)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise InputError(
            f"--socket: {path} could not be used ({error.strerror or error}); name a path of at most 100 characters "
            "in a folder of this account"
        ) from None
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(umask)
    try:
        with listener:
            yield listener
    finally:
        path.unlink(missing_ok=True)


def _remove_dead(path: Path) -> None:
    if not path.exists():
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise InputError(f"--socket: {path} is a file of another kind; name another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(TIMEOUT)
        try:
            line.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise InputError(f"--socket: another key server answers at {path}; end it first, or name another path")


def _refuse_strangers(path: Path, server: int) -> None:
    """Refuse a socket in a folder where an account other than the server's (or root) could have put it."""
    facts = path.parent.stat()
    if facts.st_mode & 0o022 or facts.st_uid not in (0, server):
        raise KeyUnavailableError(
            f"key server: {path.parent} must belong to the server's account and be writable for it alone; found owner "
            f"{account_name(facts.st_uid)}, mode {stat.S_IMODE(facts.st_mode):03o}; use a folder such as /run/fraudlab"
        )


def _uid(account: str) -> int:
    if re.fullmatch(r"[0-9]+", account):
        return int(account)
    try:
        return pwd.getpwnam(account).pw_uid
    except KeyError:
        names = [entry.pw_name for entry in pwd.getpwall()]
        raise InputError(f"--allow: no account '{account}'; {did_you_mean(account, names)}") from None


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _send(line: socket.socket, message: Mapping[str, Any], deadline: float) -> None:
    data = json.dumps(message).encode()
    line.settimeout(_left(deadline))
    line.sendall(struct.pack(">I", len(data)) + data)


def _receive(line: socket.socket, deadline: float) -> dict[str, Any]:
    (size,) = struct.unpack(">I", _exactly(line, 4, deadline))
    if size > LARGEST:
        raise ValueError("the message is too long")
    message = json.loads(_exactly(line, size, deadline))
    if not isinstance(message, dict):
        raise ValueError("the message has another form")
    return message


def _exactly(line: socket.socket, size: int, deadline: float) -> bytes:
    received = bytearray()
    while len(received) < size:
        line.settimeout(_left(deadline))
        more = line.recv(min(size - len(received), 1 << 16))
        if not more:
            raise ValueError("the line was closed")
        received += more
    return bytes(received)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left
