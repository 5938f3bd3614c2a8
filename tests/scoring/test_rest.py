"""The service answers each transaction once, refuses in one sentence without a value, and is shut to strangers."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import mlflow.pyfunc
import pytest
from mlflow.exceptions import MlflowException

from fraudlab import tracking
from fraudlab.commands.servers import _self_signed
from fraudlab.schema import InputError
from fraudlab.scoring.live import open_live
from fraudlab.scoring.rest import Server, Service
from fraudlab.scoring.scorer import Scorer, deployed, learn, load_history, open_door

TOKEN = "a-token-of-some-length-123"


@contextmanager
def serving(live, **settings):
    server = Server(Service(live), **settings)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def live(workspace):
    live, _ = open_live(workspace, deployed(workspace, "demo"))
    yield live
    live.journal.close()


def ask(port, path, body=None, *, method="POST", headers=None, context=None, timeout=20):
    """Return the status and what was said."""
    kind = http.client.HTTPSConnection if context else http.client.HTTPConnection
    connection = kind("127.0.0.1", port, timeout=timeout, **({"context": context} if context else {}))
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    connection.request(method, path, data, headers or {})
    answer = connection.getresponse()
    said = json.loads(answer.read())
    connection.close()
    return answer.status, said


def test_answers_are_those_of_a_table_and_asking_again_gives_them_again(workspace, live, lines, made):
    model = deployed(workspace, "demo")
    payments = open_door(workspace, model).table(made.later.iloc[:300])
    expected = Scorer(model.package, learn(model.package, load_history(workspace, model))).table(payments)
    rows = [json.loads(line) for line in lines[:300]]
    found = []
    with serving(live) as port:
        for start in range(0, 300, 60):
            body = {"transactions": rows[start : start + 60]}
            status, said = ask(port, "/score", body)
            assert status == 200
            found += said["predictions"]
        assert said["model"] == "demo version 1"
        status, again = ask(port, "/invocations", {"dataframe_records": rows[:2]})
        split = {"columns": list(rows[2]), "data": [list(rows[2].values())]}
        _, third = ask(port, "/invocations", {"dataframe_split": split})
        assert ask(port, "/ping", method="GET") == (200, {"status": "ok"})
        assert ask(port, "/version", method="GET") == (200, {"model": "demo", "version": "1"})
    assert [each["score"] for each in found] == expected["score"].tolist()
    assert [each["reasons"] for each in found] == expected["reasons"].tolist()
    assert [each["transaction_id"] for each in found] == [row["payment_id"] for row in rows]
    assert again["predictions"] == [each | {"kind": "repeated"} for each in found[:2]]
    assert third["predictions"] == [found[2] | {"kind": "repeated"}]
    assert live.counts["scored"] == 300


def test_what_breaks_the_contract_is_refused_as_a_whole_and_never_quoted(live, lines):
    good, bad = (json.loads(line) for line in lines[:2])
    bad["amount"] = "4111111111111111 EUR"
    with serving(live, largest=20_000) as port:
        status, said = ask(port, "/score", {"transactions": [good, bad]})
        assert (status, said["error"]) == (
            400,
            "number 2 of 2: data set demo: column 'amount' must hold numbers (12.50); found 1 other values of 1; "
            "correct the source",
        )
        assert live.counts["scored"] == 0
        for body, error in (
            (b"{", "body: must be JSON in UTF-8 without NaN; found otherwise; correct it"),
            (b'{"transactions": [{"amount": NaN}]}', "body: must be JSON in UTF-8 without NaN"),
            ({"transactions": []}, "body: must hold a list of 1 to 1,000 transactions"),
            ({"rows": [good]}, 'body: must be {"transactions": [...]}'),
            ({"transactions": ["4111111111111111"]}, "number 1 of 1: a transaction must be an object"),
            ({"transactions": [{"label": {}}]}, "number 1 of 1: a transaction must be an object"),
            ({"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}, "body: dataframe_split must be"),
        ):
            status, said = ask(port, "/score", body)
            assert status == 400, said
            assert said["error"].startswith(error)
            assert "4111111111111111" not in said["error"]
        status, said = ask(port, "/score", b"x" * 20_001)
        assert (status, said["error"]) == (413, "body: must not exceed 20,000 bytes; send fewer transactions")
        assert ask(port, "/score", b"", headers={"Transfer-Encoding": "chunked"})[0] == 411
        assert ask(port, "/elsewhere", {})[0] == 404
        status, said = ask(port, "/labels", {"labels": [{"transaction_id": "x"}]})
        assert status == 400
        _, said = ask(port, "/score", {"transactions": [good]})
        label = {"transaction_id": good["payment_id"], "is_fraud": True, "label_time": "2026-04-10T00:00:00Z"}
        assert ask(port, "/labels", {"labels": [label, label | {"transaction_id": "no"}]}) == (
            200,
            {"known": 1, "unknown": 1},
        )


def test_strangers_are_shut_out(live, lines, tmp_path):
    certificate, key = _self_signed()
    (tmp_path / "cert.pem").write_bytes(certificate)
    (tmp_path / "key.pem").write_bytes(key)
    pair = tmp_path / "cert.pem", tmp_path / "key.pem"
    context = ssl.create_default_context(cafile=str(pair[0]))
    body = {"transactions": [json.loads(lines[0])]}
    with serving(live, token=TOKEN, certificate=pair) as port:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
            assert ask(port, "/score", body, headers=headers, context=context)[0] == 401
        assert live.counts["scored"] == 0
        assert ask(port, "/score", body, headers={"Authorization": f"Bearer {TOKEN}"}, context=context)[0] == 200
        assert ask(port, "/ping", method="GET", context=context)[0] == 200
        with pytest.raises((OSError, http.client.HTTPException)):
            ask(port, "/ping", method="GET")  # no plain HTTP


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"host": "0.0.0.0"}, "host: beyond this machine the service needs a token and TLS (--certfile, --keyfile)"),
        ({"host": "0.0.0.0", "token": TOKEN}, "host: beyond this machine the service needs TLS"),
        ({"token": "short"}, "token: must have at least 24 characters; found 5; make a longer one"),
        ({"host": "no.such.host.invalid"}, "host: must be an address of this machine; found 'no.such.host.invalid'"),
    ],
)
def test_off_loopback_it_needs_a_token_and_tls(settings, said):
    with pytest.raises(InputError) as refused:
        Server(None, **settings)
    assert str(refused.value).startswith(said)


def test_the_registered_model_scores_raw_transactions(workspace, made, lines):
    """What `mlflow models serve` runs: loaded from the registry, fed through MLflow's own parser."""
    from mlflow.pyfunc.scoring_server import infer_and_parse_data

    model = deployed(workspace, "demo")
    payments = open_door(workspace, model).table(made.later.iloc[:80])
    expected = Scorer(model.package, learn(model.package, load_history(workspace, model))).table(payments)
    client = tracking.open_store(workspace)
    source = client.get_model_version("demo", "1").source
    loaded = mlflow.pyfunc.load_model(source)
    rows = [json.loads(line) for line in lines[:80]]
    found = []
    for start in (0, 40):
        body = {"dataframe_records": rows[start : start + 40]}
        table = infer_and_parse_data(body, loaded.metadata.get_input_schema())
        found.append(loaded.predict(table, params={"lang": "zh"}))
    assert [*found[0]["score"], *found[1]["score"]] == expected["score"].tolist()
    assert [*found[0]["action"], *found[1]["action"]] == expected["action"].tolist()
    again = loaded.predict(table)
    assert set(again["kind"]) == {"repeated"}
    assert again["score"].tolist() == found[1]["score"].tolist()
    table["amount"] = -1.0
    table["payment_id"] = [f"N{number}" for number in range(40)]
    with pytest.raises(MlflowException) as refused:
        loaded.predict(table)
    assert refused.value.message == (
        "number 1 of 40: data set demo: column 'amount' must be finite and >= 0; found 1 negative of 1 rows; "
        "correct or drop these rows at the source; 40 of 40 are refused"
    )
    assert refused.value.get_http_status_code() == 400
    refused.value.message = "Failed to predict data 'a row'"  # what MLflow's server does before it answers
    assert "a row" not in refused.value.message + refused.value.serialize_as_json()


@pytest.mark.slow
def test_mlflow_serves_the_registered_model(workspace, lines, tmp_path):
    """The promise as it stands: one command, plain HTTP, raw transactions; a broken row gets 400 without its values."""
    source = tracking.open_store(workspace).get_model_version("demo", "1").source
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "serve",
        "-m",
        source,
        "--env-manager",
        "local",
        "-t",
        "300",
        "-p",
        str(port),
    ]
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "FRAUDLAB_HOME": str(workspace.root)}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"  # as in an activated one
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(150):
            try:
                ask_plain(port, "/ping")
                break
            except OSError:
                time.sleep(0.5)
        rows = [json.loads(line) for line in lines[:5]]
        # The first one learns the history; a copy of the sources has no compiled kernels yet.
        status, said = ask(port, "/invocations", {"dataframe_records": rows}, headers=JSON, timeout=300)
        assert status == 200, said
        assert [each["kind"] for each in said["predictions"]] == ["scored"] * 5
        bad = rows[0] | {"payment_id": "4111111111111111", "amount": -5.0}
        status, said = ask(port, "/invocations", {"dataframe_records": [bad]}, headers=JSON)
        assert status == 400
        assert "column 'amount' must be finite and >= 0" in said["message"]
        for secret in (bad["payment_id"], bad["customer_ref"], bad["card_number"]):
            assert secret not in json.dumps(said)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
    log = (tmp_path / "log").read_text()
    assert not any(row["card_number"] in log or row["customer_ref"] in log for row in rows)


JSON = {"Content-Type": "application/json"}


def ask_plain(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path)
    return connection.getresponse().read()
