"""The message about a retraining: as files, through a real mail server and to a real HTTPS address on this machine."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fraudlab import notify
from fraudlab.config import NotifyConfig, RunConfig, Workspace, config_digest
from fraudlab.runs import Run
from fraudlab.schema import InputError

BASE = {"name": "demo", "dataset": {"name": "demo", "source": "simulate", "contract": "contracts/demo.toml"}}
MESSAGE = {
    "run": "demo-1",
    "model": "demo",
    "status": "promoted",
    "headline": "demo version 2 is the champion",
    "figures": [{"metric": "auc_roc", "value": 0.98, "low": 0.96, "high": None}],
    "reasons": ["AUC is high"],
    "failed": [{"code": "FL003", "sentence": "2 features changed."}],
    "report": "reports/demo-1.html",
    "next": "read the report",
}


def a_run(folder: Path, **settings) -> Run:
    config = RunConfig.model_validate(BASE | {"notify": settings})
    (folder / "runs" / "demo-1").mkdir(parents=True)
    return Run(folder / "runs" / "demo-1", config, Workspace(folder))


def told(run: Run, message: dict) -> list[str]:
    return notify.deliver(run.config.notify, message, run.workspace.reports)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("certificate")
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture
def server_side(certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


class Inbox:
    def __init__(self) -> None:
        self.mails: list = []

    async def handle_DATA(self, server, session, envelope):
        self.mails.append((session.ssl is not None, envelope))
        return "250 OK"


@pytest.fixture
def mail(server_side) -> Iterator[tuple[Inbox, Controller]]:
    inbox = Inbox()

    def known(server, session, envelope, mechanism, data):
        return AuthResult(success=(data.login, data.password) == (b"robot", b"secret"), handled=False)

    controller = Controller(
        inbox, hostname="127.0.0.1", port=free_port(), tls_context=server_side, auth_required=False, authenticator=known
    )
    controller.start()
    yield inbox, controller
    controller.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def mailing(controller: Controller, certificate: tuple[Path, Path], **settings) -> dict:
    return {
        "email_to": ["team@bank.example", "risk@bank.example"],
        "email_from": "fraudlab@bank.example",
        "smtp": f"127.0.0.1:{controller.port}",
        "ca_file": str(certificate[0]),
    } | settings


@pytest.fixture
def hook(server_side) -> Iterator[tuple[list, int]]:
    got: list = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.path, self.headers.get("Authorization"), json.loads(body)))
            if self.path == "/elsewhere":
                self.send_response(302)
                self.send_header("Location", "/hook")
            else:
                self.send_response(500 if self.path == "/broken" else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = server_side.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield got, server.server_address[1]
    server.shutdown()
    server.server_close()


def test_a_message_is_always_a_file(tmp_path):
    run = a_run(tmp_path)
    assert told(run, MESSAGE) == []
    assert json.loads((run.workspace.reports / "demo.message.json").read_text()) == MESSAGE
    text = (run.workspace.reports / "demo.message.md").read_text()
    for said in (
        "# demo version 2 is the champion",
        "| AUC ROC | 0.980 | 0.960 to – |",
        "- FL003: 2 features changed.",
    ):
        assert said in text
    assert text.endswith("Next: read the report\n")


def test_a_mail_goes_over_tls_with_the_password(tmp_path, mail, certificate, monkeypatch):
    inbox, controller = mail
    monkeypatch.setenv(notify.USER, "robot")
    monkeypatch.setenv(notify.PASSWORD, "secret")
    assert told(a_run(tmp_path, **mailing(controller, certificate)), MESSAGE) == []
    ((encrypted, envelope),) = inbox.mails
    assert encrypted
    assert envelope.rcpt_tos == ["team@bank.example", "risk@bank.example"]
    text = envelope.content.decode()
    assert "Subject: [fraudlab] demo version 2 is the champion" in text
    monkeypatch.setenv(notify.PASSWORD, "wrong")
    problems = told(a_run(tmp_path / "again", **mailing(controller, certificate)), MESSAGE)
    assert problems == ["mail: not sent: the server answered 535"]


def test_a_mail_server_that_nobody_vouches_for_gets_nothing(tmp_path, mail, certificate):
    inbox, controller = mail
    run = a_run(tmp_path, **mailing(controller, certificate, ca_file=None))
    (problem,) = told(run, MESSAGE)
    assert problem.startswith("mail: not sent: SSL")
    assert inbox.mails == []


def test_without_encryption_only_this_machine_is_mailed(tmp_path, mail, certificate):
    inbox, controller = mail
    assert told(a_run(tmp_path, **mailing(controller, certificate, tls="none")), MESSAGE) == []
    assert [encrypted for encrypted, _ in inbox.mails] == [False]
    elsewhere = NotifyConfig(**mailing(controller, certificate, tls="none", smtp="mail.bank.example:25"))
    with pytest.raises(InputError, match="must be starttls or tls for a server elsewhere"):
        notify.send_mail(elsewhere, MESSAGE)


def test_a_webhook_gets_the_message_and_the_token(tmp_path, hook, certificate, monkeypatch):
    got, port = hook
    monkeypatch.setenv(notify.TOKEN, "t0ken")
    settings = {"webhook": f"https://127.0.0.1:{port}/hook", "ca_file": str(certificate[0])}
    assert told(a_run(tmp_path, **settings), MESSAGE) == []
    ((path, token, body),) = got
    assert (path, token, body["message"]) == ("/hook", "Bearer t0ken", MESSAGE)
    assert body["text"] == notify.markdown(MESSAGE)


@pytest.mark.parametrize(("path", "answer"), [("/broken", 500), ("/elsewhere", 302)])
def test_a_webhook_that_fails_or_sends_elsewhere_is_told_and_nothing_more(tmp_path, hook, certificate, path, answer):
    got, port = hook
    settings = {"webhook": f"https://127.0.0.1:{port}{path}", "ca_file": str(certificate[0])}
    run = a_run(tmp_path, **settings)
    assert told(run, MESSAGE) == [f"webhook: not sent: the server answered {answer}"]
    assert [each[0] for each in got] == [path], "the token must not follow a redirect"


def test_a_server_that_is_not_there_fails_nothing(tmp_path):
    port = free_port()
    both = {
        "email_to": ["team@bank.example"],
        "email_from": "fraudlab@bank.example",
        "smtp": f"127.0.0.1:{port}",
        "webhook": f"http://127.0.0.1:{port}/hook",
    }
    problems = told(a_run(tmp_path, **both), MESSAGE)
    assert [line.split(":")[0] for line in problems] == ["mail", "webhook"]
    assert all("not sent" in line for line in problems)


@pytest.mark.parametrize("address", ["http://bank.example/hook", "ftp://127.0.0.1/x", "file:///etc/passwd"])
def test_an_unencrypted_webhook_elsewhere_is_refused(tmp_path, address):
    problems = told(a_run(tmp_path, webhook=address), MESSAGE)
    assert problems == [
        "webhook: not sent: notify.webhook: must be https unless it is on this machine; found another; correct it"
    ]


@pytest.mark.parametrize(
    ("on", "status", "sent"),
    [
        ("always", "kept champion", True),
        ("change", "kept champion", False),
        ("change", "promoted", True),
        ("change", "failed", True),
        ("failure", "promoted", False),
        ("failure", "failed", True),
    ],
)
def test_who_wants_less_gets_less(tmp_path, monkeypatch, on, status, sent):
    posted = []
    monkeypatch.setattr(notify, "send_webhook", lambda settings, message: posted.append(message))
    run = a_run(tmp_path, on=on, webhook="https://bank.example/hook")
    told(run, MESSAGE | {"status": status})
    assert bool(posted) == sent
    assert (run.workspace.reports / "demo.message.md").is_file()


def test_a_failure_names_the_step_and_masks_identifiers():
    error = InputError("dataset: column email holds jane.doe@example.com; drop it\nand a second line")
    message = notify.failure("demo", "train", error, 2)
    assert message["status"] == "failed"
    assert "jane.doe" not in json.dumps(message)
    assert "second line" not in message["error"]
    assert "failed at train" in notify.markdown(message)


def test_a_finished_run_is_summed_up_from_its_evidence(tmp_path):
    run = a_run(tmp_path)
    run.save_json("run", {"candidate": "xgboost", "as_of": None})
    run.save_json(
        "decision", {"decision": "kept champion", "challenger_version": "4", "headline": "stays", "reasons": ["x"]}
    )
    run.save_json(
        "checks",
        [
            {"code": "FL001", "result": "passed", "sentence": "fine"},
            {"code": "FL003", "result": "failed", "sentence": "2 changed."},
        ],
    )
    rows = [
        ("xgboost", "all", "auc_roc", 0.9, 0.8, 0.95),
        ("xgboost", "all", "average_precision", 0.5, float("nan"), 0.6),
        ("xgboost", "online", "auc_roc", 0.1, 0.1, 0.1),
        ("rules", "all", "auc_roc", 0.2, 0.1, 0.3),
    ]
    table = pd.DataFrame(rows, columns=["model", "group", "metric", "value", "low", "high"])
    table.to_csv(run.evidence / "metrics.csv", index=False)
    message = notify.summary(run, 12.34)
    assert [(row["metric"], row["value"]) for row in message["figures"]] == [
        ("average_precision", 0.5),
        ("auc_roc", 0.9),
    ]
    assert message["figures"][0]["low"] is None
    assert message["failed"] == [{"code": "FL003", "sentence": "2 changed."}]
    assert (message["status"], message["version"], message["seconds"]) == ("kept champion", "4", 12.3)
    assert json.loads(json.dumps(message)) == message


def test_addresses_decide_no_figure_and_half_a_mail_setting_is_refused():
    mail = {"email_to": ["a@bank.example"], "email_from": "b@bank.example", "smtp": "localhost:25"}
    told, silent = (RunConfig.model_validate(BASE | extra) for extra in ({"notify": mail}, {}))
    assert config_digest(told) == config_digest(silent)
    with pytest.raises(ValueError, match="belong together"):
        NotifyConfig(email_to=("a@bank.example",))
    with pytest.raises(ValueError, match="pattern"):
        NotifyConfig(**mail | {"smtp": "localhost"})
