"""A small service: transactions come in over HTTP, each is scored once and remembered.

    POST /score        {"transactions": [{...}, ...]}; also /invocations with {"dataframe_records": [...]}
    POST /labels       {"labels": [{"transaction_id": ..., "is_fraud": true, "label_time": "..."}, ...]}
    GET  /ping         is it there; no token needed
    GET  /version      which model answers
    GET  /, /metrics   the live page and its figures for Prometheus, where `pages` are given (`fraudlab.dashboard`)

A request is answered as a whole or not at all: what breaks the contract gets 400 with one sentence that names the row's
place and the column and never quotes a value. Who asks again for the same transaction, such as after a time-out, gets
the same answer. Beyond this machine it speaks TLS only, and only to who knows the token.
"""

from __future__ import annotations

import base64
import datetime as dt
import hmac
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from fraudlab.reasons import Reason
from fraudlab.schema import FraudlabError, InputError
from fraudlab.scoring.figures import Figures
from fraudlab.scoring.live import Answer, Live

LARGEST_BODY = 1 << 20
MOST_ROWS = 1000
MOST_CONNECTIONS = 64
SECONDS = 30
"""A client that says nothing for so long is let go."""
SHORTEST_TOKEN = 24
REMEMBERED = 20_000
"""Answers that are given again to who asks again."""


class Page(NamedTuple):
    """What a browser is given: the body, its media type, and headers of its own."""

    body: bytes
    kind: str
    headers: Mapping[str, str] = {}


Pages = Callable[[str, Mapping[str, str]], Page | None]
"""Returns the page of a path, given the query's values by name; None where there is none."""


class Service:
    """Answers requests with one live scorer, one request at a time.

    Parameters
    ----------
    live : open; the caller closes it.
    clock : what event times are held against; None: nothing.
    lang : of the reasons.
    figures : are told what each request came to; others may look at them meanwhile.
    """

    def __init__(
        self,
        live: Live,
        *,
        clock: Callable[[], dt.datetime] | None = lambda: dt.datetime.now(dt.UTC),
        lang: str = "en",
        sync: bool = True,
        figures: Figures | None = None,
    ) -> None:
        self.live = live
        self.figures = figures or Figures(time.time())
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
        started = time.perf_counter()
        with self.lock:
            treated = [self.live.treat(row, now) if _is_payment(row) else _NO_PAYMENT for row in rows]
            self._refuse(treated)
            answers = self.live.commit(treated, sync=self.sync)
            self._refuse([{"refused": answer.said} if answer.kind == "refused" else {} for answer in answers])
            alerts = [answer for answer in answers if answer.scored is not None and answer.scored.alert]
            told = self.live.scorer.told([answer.scored for answer in alerts], lang or self.lang)
            reasons = {answer.number: found for answer, found in zip(alerts, told)}
            said = self._said(answers, [event["payment"]["transaction_id"] for event in treated], reasons)
        self.figures.note(answers, time.perf_counter() - started, now=time.time(), reasons=reasons)
        return said

    def label(self, labels: Any) -> dict[str, int]:
        """Take labels in; return how many were known payments and how many not."""
        if not isinstance(labels, list) or not 0 < len(labels) <= MOST_ROWS:
            raise InputError(f"body: must hold a list of 1 to {MOST_ROWS:,} labels; found otherwise; split them up")
        with self.lock:
            treated = [self.live.treat({"label": label}) for label in labels]
            self._refuse(treated)
            answers = self.live.commit(treated, sync=self.sync)
        self.figures.note(answers, 0.0, now=time.time())
        kinds = [answer.kind for answer in answers]
        return {"known": kinds.count("labels"), "unknown": kinds.count("labels_unknown")}

    def _refuse(self, treated: list[dict[str, Any]]) -> None:
        wrong = [(place, event["refused"]) for place, event in enumerate(treated, 1) if "refused" in event]
        if wrong:
            self.figures.refuse(len(wrong), now=time.time())
            more = f"; {len(wrong):,} of {len(treated):,} are refused" if len(wrong) > 1 else ""
            first = wrong[0][1].split("\n")[0]
            raise InputError(f"number {wrong[0][0]:,} of {len(treated):,}: {first}{more}")

    def _said(self, answers: list[Answer], ids: list[Any], reasons: Mapping[int, list[Reason]]) -> list[dict[str, Any]]:
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
                "reasons": [reason.sentence for reason in reasons.get(answer.number, ())],
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


_NO_ADDRESS = "no such address; there are POST /score, POST /labels, GET /ping"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "fraudlab", ""
    disable_nagle_algorithm = True
    timeout = SECONDS
    server: Server

    def do_GET(self) -> None:
        """Answer what needs no body."""
        asked = urlsplit(self.path)
        if asked.path in ("/ping", "/health"):
            self._reply(200, {"status": "ok"})
        elif not self._known(browser=self.server.pages is not None):
            pass
        elif self.server.service is not None and asked.path == "/version":
            model = self.server.service.live.model
            self._reply(200, {"model": model.name, "version": model.version})
        elif self.server.pages is None:
            self._reply(404, {"error": _NO_ADDRESS})
        elif not self._meant():
            self._reply(421, {"error": "host: this service is asked under another name than its own; use its address"})
        else:
            query = {name: values[-1] for name, values in parse_qs(asked.query).items()}
            try:
                page = self.server.pages(asked.path, query)
            except Exception:  # as below: what it was about is nobody's business
                self._reply(500, {"error": "the page could not be written; the scorer goes on"})
                return
            if page is None:
                self._reply(404, {"error": _NO_ADDRESS})
            else:
                self._send(200, page.body, page.kind, page.headers)

    def do_POST(self) -> None:
        """Score transactions or take labels in."""
        if not self._known(closing=True):
            return
        body = self._body()
        if body is None:
            return
        service = self.server.service
        if service is None:
            self._reply(404, {"error": "no such address; this is a page to look at: GET /"})
            return
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
                self._reply(404, {"error": _NO_ADDRESS})
        except InputError as refused:
            self._reply(400, {"error": str(refused)})
        except FraudlabError as failed:
            self._reply(500, {"error": str(failed)})
        except Exception:  # what it was about may quote the row
            self._reply(500, {"error": "the service failed on this request; its owner finds nothing of it in any log"})

    def _known(self, *, closing: bool = False, browser: bool = False) -> bool:
        """Say whether the token is there; a browser that looks on may send it as a password.

        Never with what changes anything: a browser sends a password for a stranger's page as well.
        """
        token = self.server.token
        given = self.headers.get("Authorization", "")
        if browser and given.startswith("Basic "):
            given = f"Bearer {_password(given)}"
        if token is None or hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            return True
        self.close_connection = self.close_connection or closing  # its body is not read
        way = 'Basic realm="fraudlab: any name, the token as password", charset="UTF-8"' if browser else "Bearer"
        self._reply(401, {"error": "a token is needed: Authorization: Bearer TOKEN"}, {"WWW-Authenticate": way})
        return False

    def _meant(self) -> bool:
        """Say whether this machine was asked for by its own name.

        Without a token a stranger's page could else read along, by a name of its own that points here.
        """
        return self.server.token is not None or _names_this_machine(self.headers.get("Host", ""))

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
        self._send(status, json.dumps(said, ensure_ascii=False).encode(), "application/json", headers)

    def _send(self, status: int, data: bytes, kind: str, headers: Mapping[str, str] | None = None) -> None:
        head = [f"HTTP/1.1 {status} {self.responses[status][0]}", f"Content-Type: {kind}"]
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
    service : what answers; None: there are pages alone.
    pages : what a browser may look at, see `Pages`; a token is taken as a password too.
    host, port : where; port 0 takes a free one.
    token : asked for as `Authorization: Bearer TOKEN`; needed off loopback.
    certificate : PEM files of a certificate and its key, for TLS; needed off loopback.
    largest : bytes of a body.

    Raises
    ------
    InputError : the host is not this machine alone and token or TLS is lacking; the token is short; the port is taken.
    """

    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = True

    def __init__(
        self,
        service: Service | None,
        *,
        pages: Pages | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        certificate: tuple[Path, Path] | None = None,
        largest: int = LARGEST_BODY,
    ) -> None:
        self.check(host, token, certificate)
        self.service, self.pages, self.token, self.largest = service, pages, token, largest
        self._room = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self.tls: ssl.SSLContext | None = None
        if certificate is not None:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.minimum_version = ssl.TLSVersion.TLSv1_2
            self.tls.load_cert_chain(*certificate)
        try:
            super().__init__((host, port), _Handler)
        except OSError as refused:
            raise InputError(
                f"port: {port} cannot be listened on ({refused.strerror}); name another, or 0 for a free one"
            ) from None

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


def _names_this_machine(host: str) -> bool:
    """Say whether a Host header names this machine alone, without asking anybody."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _password(given: str) -> str:
    try:
        return base64.b64decode(given.removeprefix("Basic "), validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


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
