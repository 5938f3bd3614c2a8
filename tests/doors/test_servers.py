"""JupyterLab and MLflow, started for real: this machine only, under its own name, with token or password, HTTPS."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import http.client
import json
import os
import re
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import argon2
import psutil
import pytest
import tornado.httpclient
import tornado.websocket
from cryptography import x509
from typer.testing import CliRunner

from fraudlab.cli import app
from fraudlab.commands import servers
from fraudlab.tracking_pages import behind_password

PASSWORD = "four words of my own"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FRAUDLAB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FRAUDLAB_KEYS", raising=False)
    return tmp_path / "home"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, str]]]:
    """What a command would have become, instead of becoming it."""
    became: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execvpe", lambda file, command, environment: became.append((command, environment)))
    monkeypatch.setattr(os, "umask", lambda mask: became.append(([f"umask {mask:03o}"], {})))
    return became


def run(*words: str, typed: str = "") -> object:
    return CliRunner().invoke(app, list(words), input=typed)


# Certificates


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> None:
    """Complete a TLS handshake in memory, or raise."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(6):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert ends[0].version() == "TLSv1.3"


def pair_of(home: Path) -> tuple[Path, Path]:
    return home / ".keys" / "localhost-cert.pem", home / ".keys" / "localhost-key.pem"


def test_the_certificate_made_here_is_trusted_for_this_machine_and_no_other(home: Path, started: list) -> None:
    run("lab", "--https")
    cert, key = pair_of(home)
    client, server = ssl.create_default_context(cafile=cert), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    server.load_cert_chain(cert, key)
    for name in ("localhost", "127.0.0.1"):
        handshake(client, server, name)
    for name in ("example.com", "127.0.0.2"):
        with pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|not valid for"):
            handshake(client, server, name)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"self.signed"):
        handshake(ssl.create_default_context(), server, "localhost")
    read = x509.load_pem_x509_certificate(cert.read_bytes())
    days = (read.not_valid_after_utc - dt.datetime.now(dt.UTC)) / dt.timedelta(days=1)
    assert 364.9 < days <= 365
    assert not read.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert {stat.S_IMODE(path.stat().st_mode) for path in (cert, key)} == {0o600}
    assert stat.S_IMODE(cert.parent.stat().st_mode) == 0o700


def test_a_certificate_is_kept_until_it_ends_or_its_key_is_another(
    home: Path, started: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("lab", "--https")
    cert, key = pair_of(home)
    first = cert.read_bytes()
    run("ui", "--https")
    assert cert.read_bytes() == first
    certificate, other = servers._self_signed()
    key.write_bytes(other)
    run("lab", "--https")
    second = cert.read_bytes()
    assert second not in (first, certificate)
    monkeypatch.setattr(servers, "RENEW_DAYS", 366)
    run("lab", "--https")
    assert cert.read_bytes() != second


def test_a_certificate_of_ones_own_needs_its_key(home: Path, started: list, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("cert.pem", "key.pem", "other.pem")]
    for path, data in zip(files, [*servers._self_signed(), servers._self_signed()[1]]):
        path.write_bytes(data)
    cert, key, other = map(str, files)
    run("lab", "--certfile", cert, "--keyfile", key)
    assert f"--ServerApp.certfile={files[0].resolve()}" in started[-1][0]
    for words, sentence in (
        (["--certfile", cert], "must be given together"),
        (["--keyfile", key], "must be given together"),
        (["--certfile", cert, "--keyfile", other], "whose private key"),
        (["--certfile", cert, "--keyfile", str(tmp_path / "none.pem")], "whose private key"),
    ):
        for server in ("lab", "ui"):
            assert sentence in str(run(server, *words).exception)
    assert len([command for command, _ in started if len(command) > 1]) == 1


# Passwords


def test_a_password_of_ones_own_is_kept_as_argon2_and_appears_in_no_argument(home: Path, started: list) -> None:
    result = run("lab", "--password", typed=f"{PASSWORD}\n{PASSWORD}\n")
    command, environment = started[-1]
    settings = Path(environment["JUPYTER_CONFIG_DIR"]) / "jupyter_server_config.json"
    assert stat.S_IMODE(settings.stat().st_mode) == 0o600
    hashed = json.loads(settings.read_text())["PasswordIdentityProvider"]["hashed_password"]
    algorithm, _, encoded = hashed.partition(":")
    assert algorithm == "argon2"
    assert argon2.PasswordHasher().verify(encoded, PASSWORD)
    assert not [word for word in (*command, result.output) if PASSWORD in word or encoded in word]
    run("lab")
    assert json.loads(settings.read_text()) == {}, "the next start without one makes a token"


def test_the_password_of_the_pages_is_in_no_argument(home: Path, started: list) -> None:
    result = run("ui", "--password", typed=f"{PASSWORD}\n{PASSWORD}\n")
    command, environment = started[-1]
    assert environment["FRAUDLAB_UI_PASSWORD"] == PASSWORD
    assert PASSWORD not in result.output + " ".join(command)
    made = [run("ui").output.rpartition("password ")[2].strip() for _ in range(2)]
    assert len(set(made)) == 2
    assert min(map(len, made)) == 32
    assert started[-1][1]["FRAUDLAB_UI_PASSWORD"] == made[1]
    assert not [word for word in started[-1][0] if made[1] in word]
    assert started[-1][1]["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert (["umask 077"], {}) in started


@pytest.mark.parametrize("server", ["lab", "ui"])
@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("short\nshort\n", "at least 12 characters; found 5"),
        (f"{PASSWORD}\n{PASSWORD}!\n", "must be equal"),
        ("", "found 0"),
    ],
)
def test_a_weak_or_mistyped_password_starts_nothing(
    home: Path, started: list, server: str, typed: str, sentence: str
) -> None:
    result = run(server, "--password", typed=typed)
    assert sentence in str(result.exception)
    assert not [command for command, _ in started if len(command) > 1]


# The door before MLflow's pages


def answer(headers: dict[str, str], kind: str = "http") -> dict:
    """Send one request through the door; return the first message that comes back, or what went in."""
    sent: list[dict] = []

    async def inside(scope: dict, receive: object, send: object) -> None:
        await send({"type": "inside"})

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {"type": kind, "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
    asyncio.run(behind_password(inside, PASSWORD, ["http://localhost:5000"])(scope, None, send))
    return sent[0]


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


RIGHT = basic("fraudlab", PASSWORD)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": ""}, 401),
        ({"authorization": basic("fraudlab", "")}, 401),
        ({"authorization": basic("admin", PASSWORD)}, 401),
        ({"authorization": RIGHT[:-1]}, 401),
        ({"authorization": "Bearer " + RIGHT[6:]}, 401),
        ({"authorization": RIGHT, "origin": "http://localhost:3000"}, 403),
        ({"authorization": RIGHT, "origin": "https://localhost:5000"}, 403),
        ({"authorization": RIGHT, "origin": "null"}, 403),
    ],
)
def test_the_door_refuses(headers: dict[str, str], status: int) -> None:
    assert answer(headers)["status"] == status
    assert answer(headers, "websocket") == {"type": "websocket.close", "code": 1008}


def test_the_door_opens_to_the_password_and_to_the_pages_own_requests() -> None:
    for kind in ("http", "websocket"):
        assert answer({"authorization": RIGHT}, kind) == {"type": "inside"}
        assert answer({"authorization": RIGHT, "origin": "http://localhost:5000"}, kind) == {"type": "inside"}
    assert answer({}, "lifespan") == {"type": "inside"}
    asked = dict(answer({})["headers"])
    assert asked[b"www-authenticate"].startswith(b"Basic realm=")


# The real servers


class Server(NamedTuple):
    process: subprocess.Popen[str]
    port: int
    secret: str
    home: Path

    def get(self, path: str, *, name: str = "127.0.0.1", **headers: str) -> tuple[int, bytes]:
        """GET over HTTPS, with our certificate as the only authority."""
        trust = ssl.create_default_context(cafile=pair_of(self.home)[0])
        line = http.client.HTTPSConnection(name, self.port, context=trust, timeout=60)
        try:
            line.request("GET", path, headers=headers)
            response = line.getresponse()
            return response.status, response.read()
        finally:
            line.close()


def serving(home: Path, words: list[str], secret: str) -> Iterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    allow_root = home / "allow-root"
    allow_root.mkdir(parents=True)
    (allow_root / "jupyter_server_config.json").write_text('{"ServerApp": {"allow_root": true}}')
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FRAUDLAB", "JUPYTER"))}
    environment |= {"FRAUDLAB_HOME": str(home), "JUPYTER_CONFIG_PATH": str(allow_root)}
    environment |= {"JUPYTER_RUNTIME_DIR": str(home / "runtime"), "PYTHONUNBUFFERED": "1"}
    with (home / "out.txt").open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "fraudlab.cli", *words, "--port", str(port), "--https"],
            stdout=out, stderr=subprocess.STDOUT, env=environment, text=True,
        )  # fmt: skip
    try:
        for _ in range(600):
            found = re.search(secret, (home / "out.txt").read_text())
            with socket.socket() as line:
                if found and line.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, (home / "out.txt").read_text()
            time.sleep(0.2)
        yield Server(process, port, found[1], home)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from serving(tmp_path_factory.mktemp("lab"), ["lab", "--no-browser"], r"[?]token=([0-9a-f]{48})")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from serving(tmp_path_factory.mktemp("pages"), ["ui"], r"password (\S{32})")


def listening(server: Server) -> set[tuple[str, int]]:
    main = psutil.Process(server.process.pid)
    ours = [main, *main.children(recursive=True)]
    return {(c.laddr.ip, c.laddr.port) for p in ours for c in p.net_connections() if c.status == psutil.CONN_LISTEN}


@pytest.mark.slow
def test_jupyterlab_lets_nobody_in_without_the_token(lab: Server) -> None:
    for path in ("/api/contents", "/api/status", "/api/kernels", "/api/terminals", "/lsp/status", "/nbdime/api/diff"):
        assert lab.get(path)[0] in (401, 403, 405), path
    assert lab.get("/lab")[0] == 302, "to the login"
    assert lab.get("/api/contents", Authorization=f"token {'0' * 48}")[0] == 403
    for path in ("/api/contents", "/lab"):
        assert lab.get(path, Authorization=f"token {lab.secret}")[0] == 200
    assert lab.get("/api/contents", name="localhost", Authorization=f"token {lab.secret}")[0] == 200


@pytest.mark.slow
def test_jupyterlab_answers_on_this_machine_under_its_own_name_only(lab: Server) -> None:
    assert {ip for ip, _ in listening(lab)} == {"127.0.0.1"}
    assert ("127.0.0.1", lab.port) in listening(lab)
    status, _ = lab.get("/api/contents", Host=f"rebound.example:{lab.port}", Authorization=f"token {lab.secret}")
    assert status == 403
    words = psutil.Process(lab.process.pid).cmdline()
    assert not [word for word in words if lab.secret in word], "ps shows no token"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["terminals", "kernels"])
def test_jupyterlabs_web_sockets_open_with_the_token_only(lab: Server, kind: str) -> None:
    trust = ssl.create_default_context(cafile=pair_of(lab.home)[0])
    right = {"Authorization": f"token {lab.secret}"}
    line = http.client.HTTPSConnection("127.0.0.1", lab.port, context=trust, timeout=60)
    line.request("POST", f"/api/{kind}", headers=right)
    made = json.loads(line.getresponse().read())
    path = f"/terminals/websocket/{made['name']}" if kind == "terminals" else f"/api/kernels/{made['id']}/channels"
    line.close()

    async def first_message(headers: dict[str, str]) -> object:
        request = tornado.httpclient.HTTPRequest(
            f"wss://127.0.0.1:{lab.port}{path}", headers=headers, ssl_options=trust, connect_timeout=60
        )
        socket = await tornado.websocket.websocket_connect(request)
        message = await socket.read_message()
        socket.close()
        return message

    assert asyncio.run(first_message(right))
    with pytest.raises(tornado.httpclient.HTTPClientError, match="403"):
        asyncio.run(first_message({}))


@pytest.mark.slow
def test_mlflow_lets_nobody_in_without_the_password(pages: Server) -> None:
    right = basic("fraudlab", pages.secret)
    search = "/ajax-api/2.0/mlflow/experiments/search?max_results=9"
    for path in ("/", "/health", "/version", search, "/api/2.0/mlflow-artifacts/artifacts", "/static-files/x"):
        assert pages.get(path)[0] == 401, path
        assert pages.get(path, Authorization=basic("fraudlab", "wrong"))[0] == 401
    status, body = pages.get(search, Authorization=right)
    assert status == 200
    assert "fraudlab" in {experiment["name"] for experiment in json.loads(body)["experiments"]}
    assert pages.get("/", name="localhost", Authorization=right)[0] == 200


@pytest.mark.slow
def test_mlflow_answers_on_this_machine_under_its_own_name_only(pages: Server) -> None:
    right = basic("fraudlab", pages.secret)
    assert listening(pages) == {("127.0.0.1", pages.port)}
    for name in ("rebound.example", f"rebound.example:{pages.port}", "192.168.0.1"):
        assert pages.get("/", Host=name, Authorization=right)[0] == 403
    assert pages.get("/", Origin="https://elsewhere.example", Authorization=right)[0] == 403
    words = psutil.Process(pages.process.pid).cmdline()
    assert not [word for word in words if pages.secret in word], "ps shows no password"
    written = [path for path in (pages.home / "mlruns").rglob("*") if path.is_file()]
    assert written
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in written} == {0}
