"""A small service: transactions come in over HTTP, each is scored once and remembered.

    POST /score        {"transactions": [{...}, ...]}; also /invocations with {"dataframe_records": [...]}
    POST /labels       {"labels": [{"transaction_id": ..., "is_fraud": true, "label_time": "..."}, ...]}
    GET  /ping         is it there; no token needed
    GET  /version      which model answers

A request is answered as a whole or not at all: what breaks the contract gets 400 with one sentence that names the row's
place and the column and never quotes a value. Who asks again for the same transaction, such as after a time-out, gets
the same answer. Beyond this machine it speaks TLS only, and only to who knows the token.
"""

from __future__ import annotations

import datetime as dt
import hmac
import ipaddress
import json
import socket
import ssl
import threading
from collections import OrderedDict
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from fraudlab.schema import FraudlabError, InputError
from fraudlab.scoring.live import Answer, Live

LARGEST_BODY = 1 << 20
MOST_ROWS = 1000
MOST_CONNECTIONS = 64
SECONDS = 30
"""A client that says nothing for so long is let go."""
SHORTEST_TOKEN = 24
REMEMBERED = 20_000
"""Answers that are given again to who asks again."""


class Service:
    """Answers requests with one live scorer, one request at a time.

    Parameters
    ----------
    live : open; the caller closes it.
    clock : what event times are held against; None: nothing.
    lang : of the reasons.
    """

    def __init__(
        self,
        live: Live,
        *,
        clock: Callable[[], dt.datetime] | None = lambda: dt.datetime.now(dt.UTC),
        lang: str = "en",
        sync: bool = True,
    ) -> None:
        self.live = live
        self.clock = clock
        self.lang = lang
        self.sync = sync
        self.lock = threading.Lock()
        self.told: OrderedDict[Any, dict[str, Any]] = OrderedDict()

    def score(self, rows: Any, *, lang: str = "") -> list[dict[str, Any]]:
        """Score raw transactions; return an answer for each, its reasons in `lang` or the service's own language.

        Raises
        ------
        InputError : they are no list of objects, too many, or one breaks the contract; nothing was remembered.
        """
        rows = [rows] if isinstance(rows, dict) else rows
        if not isinstance(rows, list) or not 0 < len(rows) <= MOST_ROWS:
            raise InputError(
                f"body: must hold a list of 1 to {MOST_ROWS:,} transactions; found otherwise; split them up"
            )
        now = None if self.clock is None else self.clock()
        with self.lock:
            treated = [self.live.treat(row, now) if _is_payment(row) else _NO_PAYMENT for row in rows]
            self._refuse(treated)
            answers = self.live.commit(treated, sync=self.sync)
            self._refuse([{"refused": answer.said} if answer.kind == "refused" else {} for answer in answers])
            return self._said(answers, [event["payment"]["transaction_id"] for event in treated], lang or self.lang)

    def label(self, labels: Any) -> dict[str, int]:
        """Take labels in; return how many were known payments and how many not."""
        if not isinstance(labels, list) or not 0 < len(labels) <= MOST_ROWS:
            raise InputError(f"body: must hold a list of 1 to {MOST_ROWS:,} labels; found otherwise; split them up")
        with self.lock:
            treated = [self.live.treat({"label": label}) for label in labels]
            self._refuse(treated)
            kinds = [answer.kind for answer in self.live.commit(treated, sync=self.sync)]
        return {"known": kinds.count("labels"), "unknown": kinds.count("labels_unknown")}

    def _refuse(self, treated: list[dict[str, Any]]) -> None:
        wrong = [(place, event["refused"]) for place, event in enumerate(treated, 1) if "refused" in event]
        if wrong:
            more = f"; {len(wrong):,} of {len(treated):,} are refused" if len(wrong) > 1 else ""
            first = wrong[0][1].split("\n")[0]
            raise InputError(f"number {wrong[0][0]:,} of {len(treated):,}: {first}{more}")

    def _said(self, answers: list[Answer], ids: list[Any], lang: str) -> list[dict[str, Any]]:
        alerts = [answer.scored for answer in answers if answer.scored is not None and answer.scored.alert]
        reasons = iter(self.live.scorer.reasons(alerts, lang))
        found = []
        for answer, name in zip(answers, ids):
            scored = answer.scored
            if scored is None:
                before = self.told.get(name, {"transaction_id": name, "score": None, "action": None})
                found.append(before | {"kind": answer.kind})
                continue
            said = {
                "transaction_id": name,
                "kind": answer.kind,
                "score": scored.score,
                "risk": scored.risk,
                "tier": scored.tier,
                "action": scored.action,
                "reasons": next(reasons) if scored.alert else [],
                "rules": list(scored.rules),
            }
            self.told[name] = said
            found.append(said)
        while len(self.told) > REMEMBERED:
            self.told.popitem(last=False)
        return found


def _is_payment(row: Any) -> bool:
    return isinstance(row, dict) and set(row) != {"label"}


_NO_PAYMENT = {"refused": "a transaction must be an object with the source's column names; correct it"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "fraudlab", ""
    disable_nagle_algorithm = True
    timeout = SECONDS
    server: Server

    def do_GET(self) -> None:
        """Answer what needs no body."""
        if self.path in ("/ping", "/health"):
            self._reply(200, {"status": "ok"})
        elif self._known():
            if self.path == "/version":
                model = self.server.service.live.model
                self._reply(200, {"model": model.name, "version": model.version})
            else:
                self._reply(404, {"error": "no such address; there are POST /score, POST /labels, GET /ping"})

    def do_POST(self) -> None:
        """Score transactions or take labels in."""
        if not self._known(closing=True):
            return
        body = self._body()
        if body is None:
            return
        service = self.server.service
        try:
            said = _parsed(body)
            if self.path in ("/score", "/invocations"):
                rows = said.get("transactions", said.get("dataframe_records")) if isinstance(said, dict) else None
                if rows is None and isinstance(said, dict) and "dataframe_split" in said:
                    rows = _split(said["dataframe_split"])
                if rows is None:
                    raise InputError('body: must be {"transactions": [...]}; found something else; correct it')
                self._reply(200, {"model": service.live.model.said, "predictions": service.score(rows)})
            elif self.path == "/labels":
                self._reply(200, service.label(said.get("labels") if isinstance(said, dict) else None))
            else:
                self._reply(404, {"error": "no such address; there are POST /score, POST /labels, GET /ping"})
        except InputError as refused:
            self._reply(400, {"error": str(refused)})
        except FraudlabError as failed:
            self._reply(500, {"error": str(failed)})
        except Exception:  # what it was about may quote the row
            self._reply(500, {"error": "the service failed on this request; its owner finds nothing of it in any log"})

    def _known(self, *, closing: bool = False) -> bool:
        token = self.server.token
        given = self.headers.get("Authorization", "")
        if token is None or hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            return True
        self.close_connection = self.close_connection or closing  # its body is not read
        self._reply(401, {"error": "a token is needed: Authorization: Bearer TOKEN"}, {"WWW-Authenticate": "Bearer"})
        return False

    def _body(self) -> bytes | None:
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit() or "Transfer-Encoding" in self.headers:
            self.close_connection = True
            self._reply(411, {"error": "body: its length must be stated (Content-Length); send it in one piece"})
            return None
        if int(length) > self.server.largest:
            self.close_connection = True
            self._reply(413, {"error": f"body: must not exceed {self.server.largest:,} bytes; send fewer transactions"})
            return None
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self.close_connection = True
            return None
        return body

    def _reply(self, status: int, said: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(said, ensure_ascii=False).encode()
        head = [f"HTTP/1.1 {status} {self.responses[status][0]}", "Content-Type: application/json"]
        head += [f"Content-Length: {len(data)}", "Cache-Control: no-store", "X-Content-Type-Options: nosniff"]
        head += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if self.close_connection:
            head.append("Connection: close")
        self.wfile.write("\r\n".join([*head, "", ""]).encode() + data)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is no proper request, without quoting it."""
        self.close_connection = True
        self._reply(code, {"error": self.responses[code][0].lower()})

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: addresses and paths are nobody's business."""


class Server(ThreadingHTTPServer):
    """The service behind an address.

    Parameters
    ----------
    service : what answers.
    host, port : where; port 0 takes a free one.
    token : asked for as `Authorization: Bearer TOKEN`; needed off loopback.
    certificate : PEM files of a certificate and its key, for TLS; needed off loopback.
    largest : bytes of a body.

    Raises
    ------
    InputError : the host is not this machine alone and token or TLS is lacking; the token is short.
    """

    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = True

    def __init__(
        self,
        service: Service,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        certificate: tuple[Path, Path] | None = None,
        largest: int = LARGEST_BODY,
    ) -> None:
        self.check(host, token, certificate)
        self.service, self.token, self.largest = service, token, largest
        self._room = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self.tls: ssl.SSLContext | None = None
        if certificate is not None:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.minimum_version = ssl.TLSVersion.TLSv1_2
            self.tls.load_cert_chain(*certificate)
        super().__init__((host, port), _Handler)

    @staticmethod
    def check(host: str, token: str | None, certificate: tuple[Path, Path] | None) -> None:
        """Refuse what must not be served; see `Server`."""
        if token is not None and len(token) < SHORTEST_TOKEN:
            raise InputError(
                f"token: must have at least {SHORTEST_TOKEN} characters; found {len(token)}; make a longer one"
            )
        if not is_loopback(host) and (token is None or certificate is None):
            lacking = " and ".join(
                name
                for name, given in (("a token", token), ("TLS (--certfile, --keyfile)", certificate))
                if given is None
            )
            raise InputError(f"host: beyond this machine the service needs {lacking}; add it, or take 127.0.0.1")

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hand a connection to a thread of its own; more than there is room for are closed at once."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Shake hands where TLS is spoken, then answer."""
        try:
            request.settimeout(SECONDS)
            if self.tls is not None:
                request = self.tls.wrap_socket(request, server_side=True)
            super().process_request_thread(request, client_address)
        except OSError:  # a handshake that failed
            self.shutdown_request(request)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a connection that broke: its traceback could quote a row."""


def is_loopback(host: str) -> bool:
    """Say whether an address is this machine alone.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError:
        raise InputError(f"host: must be an address of this machine; found '{host}'; take 127.0.0.1") from None
    return bool(found) and all(ipaddress.ip_address(each.partition("%")[0]).is_loopback for each in found)


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise InputError("body: must be JSON in UTF-8 without NaN; found otherwise; correct it") from None


def _no_number(text: str) -> Any:
    raise ValueError


def _split(given: Any) -> list[dict[str, Any]]:
    """Return rows from MLflow's other form: {"columns": [...], "data": [[...], ...]}."""
    try:
        columns, data = given["columns"], given["data"]
        if any(len(row) != len(columns) for row in data) or not all(isinstance(name, str) for name in columns):
            raise ValueError
        return [dict(zip(columns, row)) for row in data]
    except (KeyError, TypeError, ValueError):
        raise InputError(
            'body: dataframe_split must be {"columns": [...], "data": [[...], ...]} with a value for each column; '
            "correct it"
        ) from None
