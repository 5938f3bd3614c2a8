"""100,000 payments: training's own table, a file, a stream, HTTP and the registered model give the same bits."""

from __future__ import annotations

import http.client
import json
import threading
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest

from fraudlab import tracking
from fraudlab.datasets.simulate import simulate
from fraudlab.scoring.files import score_file
from fraudlab.scoring.live import Live
from fraudlab.scoring.rest import MOST_ROWS, Server, Service
from fraudlab.scoring.scorer import Scorer, deployed, learn, load_history, open_door
from fraudlab.scoring.stream import GROUP

ROWS = 100_000


def payments_after(made: Any, rows: int) -> pd.DataFrame:
    """Return raw payments of a larger bank after the champion's history; its first customers have one there."""
    bank = made.config.dataset.simulate.model_copy(update={"customers": 8_000, "days": 30})
    raw = simulate(bank, 11, identities=False)
    moment = pd.to_datetime(raw["paid_at"], utc=True)
    later = (pd.to_datetime(made.later["paid_at"], utc=True).min() - moment.min()).ceil("D")
    raw = raw.assign(paid_at=(moment + later).map(lambda each: each.isoformat()))
    raw["payment_id"] = "n" + raw["payment_id"].astype("str")
    raw = raw.sort_values(["paid_at", "payment_id"], ignore_index=True).iloc[:rows]
    return raw.drop(columns=["reported_fraud", "reported_at", "fraud_scenario"])


def over_http(service: Service, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    server = Server(service)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=300)
    found = []
    try:
        for start in range(0, len(rows), MOST_ROWS):
            connection.request("POST", "/score", json.dumps({"transactions": rows[start : start + MOST_ROWS]}))
            answer = connection.getresponse()
            said = json.loads(answer.read())
            assert answer.status == 200, said
            found += said["predictions"]
    finally:
        connection.close()
        server.shutdown()
        thread.join()
        server.server_close()
    return found


@pytest.mark.parametrize("rows", [2_000, pytest.param(ROWS, marks=pytest.mark.slow)])
def test_all_ways_give_the_bits_of_the_training(workspace, made, tmp_path, rows):
    model = deployed(workspace, "demo@champion")
    raw = payments_after(made, rows)
    assert len(raw) == rows
    history, payments = load_history(workspace, model), open_door(workspace, model).table(raw)
    assert payments["customer_id"].isin(history["customer_id"]).mean() > 0.01
    features = model.package.features_of(pd.concat([history, payments], ignore_index=True)).iloc[len(history) :]
    score = model.package.score(features, reasons=False)
    ids = payments["transaction_id"].tolist()
    expected = dict(zip(ids, zip(score["score"], score["risk"], score["tier"], score["action"])))

    raw.to_parquet(tmp_path / "raw.parquet")
    score_file(workspace, model, tmp_path / "raw.parquet", tmp_path / "out.parquet", rows=rows // 3, reasons=False)
    file = pd.read_parquet(tmp_path / "out.parquet")
    assert dict(zip(file["transaction_id"], zip(file["score"], file["risk"], file["tier"], file["action"]))) == expected

    events = raw.astype(object).where(raw.notna(), None).to_dict("records")
    live = [
        Live(model, Scorer(model.package, learn(model.package, history)), open_door(workspace, model)) for _ in "ab"
    ]
    stream = [a.scored for start in range(0, rows, GROUP) for a in live[0].take(events[start : start + GROUP])]
    assert {s.transaction_id: (s.score, s.risk, s.tier, s.action) for s in stream} == expected
    by_id = {s.transaction_id: s.features for s in stream}
    made_here = np.array([by_id[name] for name in ids])
    np.testing.assert_array_equal(made_here, features[list(live[0].scorer.state.columns)].to_numpy())

    rest = over_http(Service(live[1], clock=None), events)
    assert {s["transaction_id"]: (s["score"], s["risk"], s["tier"], s["action"]) for s in rest} == expected

    client = tracking.open_store(workspace)
    registered = mlflow.pyfunc.load_model(client.get_model_version("demo", model.version).source)
    parts = [
        registered.predict(raw.iloc[at : at + MOST_ROWS], params={"reasons": False}) for at in range(0, rows, MOST_ROWS)
    ]
    found = pd.concat(parts)
    assert dict(zip(raw["payment_id"], zip(found["score"], found["risk"], found["tier"], found["action"]))) == expected
