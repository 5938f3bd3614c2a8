"""How fast the deployed model scores: files, one payment at a time, and over HTTP under a steady load.

    python benchmarks/serve.py            # some minutes; writes benchmarks/results/serve.json
    python benchmarks/serve.py --small    # a minute; writes nothing unless --out is given

The payments are the simulator's, the features card-v1, the model boosted trees with categories. `batch` scores all of
them in stretches from nothing on, `after_history` the last part with the others as history, features included, reasons
left out. The scores of payments one by one and in a table must be equal to the bit, else it fails. `late_rows` of the
stream are those that took longer than five milliseconds. `beside_snapshot` are payments while another thread keeps a
snapshot, after the `pause` in which it began. Processor seconds bound the wall-clock time of a machine that
does nothing else, and other work does not spoil them.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


import frames
import numpy as np
import pandas as pd
from rich.console import Console

from fraudlab.acting import Acting
from fraudlab.config import ModelConfig
from fraudlab.decisions import Thresholds
from fraudlab.features.online import OnlineState
from fraudlab.features.sets import CARD_V1
from fraudlab.privacy.journal import Journal
from fraudlab.privacy.keys import KeyDirectory
from fraudlab.scoring.files import ROWS
from fraudlab.scoring.live import Live
from fraudlab.scoring.rest import Server, Service
from fraudlab.scoring.scorer import Deployed, Scorer, learn
from fraudlab.serving import Package
from fraudlab.training import fit_calibrator, fit_estimator

RESULTS = Path(__file__).resolve().parent / "results" / "serve.json"
CATEGORIES = ["merchant_category", "channel", "country", "auth_method"]
CUSTOMERS, DAYS, SCORED, STREAMED, SECONDS, RATE = 100_000, 30, 400_000, 5_000, 30, 50
MODEL = ModelConfig(n_estimators=120, max_depth=4, early_stopping_rounds=0)
GOALS = {
    "batch_rows_per_s": (">=", 100_000),
    "stream_p50_ms": ("<", 1.0),
    "stream_p99_ms": ("<", 5.0),
    "rest_p99_ms": ("<", 25.0),
    "different_scores": ("<=", 0),
}


class OpenDoor:
    """A door for payments that are canonical already: what the simulator made is neither raw nor personal."""

    where = "benchmark"

    def __init__(self) -> None:
        from fraudlab.scoring.door import Counts

        self.counts = Counts()

    def one(self, raw: dict[str, Any], *, now: Any = None) -> dict[str, Any]:
        """Return the payment with its time read."""
        import datetime as dt

        return raw | {"event_time": dt.datetime.fromisoformat(raw["event_time"])}


def package_of(history: pd.DataFrame, features: pd.DataFrame) -> Package:
    """Fit trees on a part of the history; one payment in a hundred is reviewed."""
    known = history["is_fraud"].notna().to_numpy()
    rows = np.flatnonzero(known)[-150_000:]
    y = history["is_fraud"].to_numpy(bool, na_value=False)[rows]
    X = features.iloc[rows].reset_index(drop=True)
    model = fit_estimator(X, y, model=MODEL, seed=0, categories=CATEGORIES)
    score = model.score(X)
    from dataclasses import replace

    model = replace(model, calibrator=fit_calibrator(score, y))
    cuts = Thresholds(review=float(np.quantile(score, 0.99)), step_up=float(np.quantile(score, 0.95)))
    facts = {"feature_set": CARD_V1.to_dict()}
    return Package(model, cuts, model.words(CARD_V1.describe()), facts, "benchmark", Acting(cuts))


def plain(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return payments as mappings with plain values."""
    bare = frame.drop(columns=["is_fraud", "label_time", "fraud_scenario"], errors="ignore")
    rows = bare.astype(object).where(bare.notna(), None).to_dict("records")
    return [row | {"event_time": row["event_time"].to_pydatetime()} for row in rows]


def batch(package: Package, data: bytes | None, payments: pd.DataFrame, name: str) -> tuple[dict[str, Any], int]:
    """Score payments in stretches, features included, reasons left out; from a state, or from nothing."""
    scorer = Scorer(package, learn(package, None) if data is None else _state(data))
    began, processor = time.perf_counter(), time.process_time()
    alerts = 0
    stretches = (payments.iloc[start : start + ROWS] for start in range(0, len(payments), ROWS))
    for scored in scorer.tables(stretches, reasons=False):
        alerts += int((scored["tier"] > "elevated").sum())
    wall, processor = time.perf_counter() - began, time.process_time() - processor
    return {
        f"{name}_rows": len(payments),
        f"{name}_s": wall,
        f"{name}_rows_per_s": len(payments) / wall,
        f"{name}_processor_s": processor,
        f"{name}_rows_per_processor_s": len(payments) / processor,
        f"{name}_alerts": alerts,
    }, alerts


def stream(package: Package, data: bytes, later: pd.DataFrame) -> tuple[dict[str, Any], list[float]]:
    """Score payments one by one within the process: features, model, tiers; then again with the journal's disk."""
    scorer = Scorer(package, _state(data))
    rows = plain(later)
    spent, used, scores = [], [], []
    for row in rows:
        began, processor = time.perf_counter(), time.thread_time()
        scores.append(scorer.one(row).score)
        spent.append(time.perf_counter() - began)
        used.append(time.thread_time() - processor)
    with (
        tempfile.TemporaryDirectory() as folder,
        Journal(Path(folder) / "state", KeyDirectory(Path(folder) / "k")) as log,
    ):
        live = Live(Deployed("bench", "1", package, "bench"), Scorer(package, _state(data)), OpenDoor(), log)
        began = time.perf_counter()
        live.snapshot()
        snapshot = time.perf_counter() - began
        coming = iter(rows)

        def commit() -> float:
            began = time.perf_counter()
            live.commit([{"payment": next(coming)}])
            return time.perf_counter() - began

        kept = [commit() for _ in range(len(rows) // 5)]
        began = time.perf_counter()
        live.snapshot(beside=True)
        pause, beside = time.perf_counter() - began, []
        while log.keeping and len(beside) < 3 * len(rows) // 5:
            beside.append(commit())
            time.sleep(1 / RATE)
    found = {f"stream_{name}_ms": 1000 * float(np.quantile(spent, at)) for name, at in _QUANTILES.items()}
    found |= {f"stream_processor_{name}_ms": 1000 * float(np.quantile(used, at)) for name, at in _QUANTILES.items()}
    found |= {f"journal_{name}_ms": 1000 * float(np.quantile(kept, at)) for name, at in _QUANTILES.items()}
    found |= {f"beside_snapshot_{name}_ms": 1000 * float(np.quantile(beside, at)) for name, at in _QUANTILES.items()}
    return found | {
        "stream_rows": len(rows),
        "late_rows": int((np.array(spent) > 0.005).sum()),
        "snapshot_s": snapshot,
        "snapshot_pause_ms": 1000 * pause,
        "state_mb": len(data) / 1e6,
    }, scores


ASKING = """
import http.client, json, sys, threading, time
port, rate, bodies = json.load(sys.stdin)
many, begin = 8, time.perf_counter() + 0.5
found = [None] * len(bodies)
def work(mine):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for number in range(mine, len(bodies), many):
        due = begin + number / rate
        time.sleep(max(0.0, due - time.perf_counter()))
        sent = time.perf_counter()
        connection.request("POST", "/score", bodies[number])
        answer = connection.getresponse()
        answer.read()
        found[number] = (time.perf_counter() - due, sent - due, answer.status)
workers = [threading.Thread(target=work, args=(mine,)) for mine in range(many)]
for worker in workers: worker.start()
for worker in workers: worker.join()
print(json.dumps([found, time.perf_counter() - begin]))
"""
"""The load: a process of its own, each request when it is due, whatever became of the ones before."""


def rest(package: Package, data: bytes, later: pd.DataFrame, *, rate: int, seconds: int) -> dict[str, Any]:
    """Ask the service at a steady rate over loopback; what waited in a queue counts from when it was due.

    `rest_sent_late_p99_ms` is how late the load itself was, or the connection that it takes in turns was still busy.
    """
    rows = [row | {"event_time": row["event_time"].isoformat()} for row in plain(later.iloc[: rate * seconds])]
    with (
        tempfile.TemporaryDirectory() as folder,
        Journal(Path(folder) / "state", KeyDirectory(Path(folder) / "k")) as log,
    ):
        live = Live(Deployed("bench", "1", package, "bench"), Scorer(package, _state(data)), OpenDoor(), log)
        live.snapshot()
        live.scorer.warm_up()
        gc.collect()
        gc.freeze()  # as fraudlab serve does
        server = Server(Service(live, clock=None))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        asked = [server.server_address[1], rate, [json.dumps({"transactions": [row]}) for row in rows]]
        try:
            done = subprocess.run(
                [sys.executable, "-c", ASKING], input=json.dumps(asked), capture_output=True, text=True, check=True
            )
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
            gc.unfreeze()
    found, wall = json.loads(done.stdout)
    spent, late, status = zip(*found)
    measured = {f"rest_{name}_ms": 1000 * float(np.quantile(spent, at)) for name, at in _QUANTILES.items()}
    return measured | {
        "rest_sent_late_p99_ms": 1000 * float(np.quantile(late, 0.99)),
        "rest_requests": len(found),
        "rest_per_s": len(found) / wall,
        "rest_failed": sum(each != 200 for each in status),
    }


_QUANTILES = {"p50": 0.5, "p99": 0.99, "p999": 0.999}


def _state(data: bytes) -> OnlineState:
    state = OnlineState.from_bytes(data)
    state.remembers = True
    return state


def main() -> int:
    """Measure, print, write; 1 where the ways do not agree."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true", help="a tenth of the customers")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    out = given.out or (None if given.small else RESULTS)
    share = 10 if given.small else 1
    console = Console()
    console.print(f"simulating payments of {CUSTOMERS // share:,} customers ...")
    payments = frames.simulated(0, customers=CUSTOMERS // share, days=DAYS)
    cut = len(payments) - SCORED // share
    history, later = payments.iloc[:cut], payments.iloc[cut:].reset_index(drop=True)
    console.print(f"{len(history):,} payments of history, {len(later):,} to score")
    features = CARD_V1.compute(history).assign(**{name: history[name].to_numpy() for name in CATEGORIES})
    package = package_of(history, features)
    began = time.perf_counter()
    data = learn(package, history).to_bytes()
    learnt = time.perf_counter() - began
    found: dict[str, Any] = {"customers": CUSTOMERS // share, "history_rows": len(history), "learn_s": learnt}
    for name, state, rows, times in (("batch", None, payments, 1), ("after_history", data, later, 3)):
        several = [batch(package, state, rows, name)[0] for _ in range(times)]
        found |= min(several, key=lambda each: each[f"{name}_s"])
    # The same payments with labels unknown, as they come in: the stream is told none.
    part = later.iloc[:STREAMED].drop(columns=["is_fraud", "label_time"])
    alone, scores = stream(package, data, part)
    found |= alone
    together = Scorer(package, _state(data)).table(part, reasons=False)["score"].to_numpy()
    found["different_scores"] = int((np.array(scores) != together).sum())
    console.print("asking the service ...")
    found |= rest(package, data, later, rate=RATE, seconds=10 if given.small else SECONDS)
    met = _goals(found)
    for row in met:
        console.print(
            f"{row['what']:<22} {row['measured']:>12,.3f}   goal {row['goal']}   {'met' if row['met'] else 'MISSED'}"
        )
    result = {"setting": _setting(), "goals": met, "figures": found}
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        console.print(f"{out}")
    return int(found["different_scores"] > 0 or found["rest_failed"] > 0)


def _goals(found: dict[str, Any]) -> list[dict[str, Any]]:
    compare = {">=": lambda a, b: a >= b, "<": lambda a, b: a < b, "<=": lambda a, b: a <= b}
    return [
        {"what": name, "measured": found[name], "goal": f"{sign} {limit:g}", "met": compare[sign](found[name], limit)}
        for name, (sign, limit) in GOALS.items()
    ]


def _setting() -> dict[str, Any]:
    import importlib.metadata
    import platform

    import psutil

    names = ("fraudlab", "numpy", "pandas", "numba", "xgboost-cpu", "pyarrow")
    return {
        "measured": pd.Timestamp.now("UTC").floor("min").isoformat(),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(os.getloadavg()[0], 2),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "versions": {name: importlib.metadata.version(name) for name in names},
        "features": "card-v1",
        "trees": MODEL.n_estimators,
    }


if __name__ == "__main__":
    sys.exit(main())
