"""What protection costs: ingest, load, pseudonyms, masking, encryption beside plain Parquet, the audit log, rights.

    python benchmarks/privacy.py                 # a million payments, some minutes
    python benchmarks/privacy.py --rows 100000   # a look; writes nothing unless --out is given

Encrypted and plain files hold the same table with the same compression, in the same run, read and written by turns.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from figures import setting, write
from rich.console import Console
from rich.table import Table

from fraudlab.config import Workspace, load_config
from fraudlab.datasets import ingest, load_transactions
from fraudlab.privacy.anonymity import risk_table
from fraudlab.privacy.auditlog import AuditLog
from fraudlab.privacy.consent import Ledger
from fraudlab.privacy.keys import KeyDirectory, ParquetCipher
from fraudlab.privacy.masking import mask
from fraudlab.privacy.treatments import pseudonymise

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "privacy.json"
PAYMENTS_PER_CUSTOMER = 125  # of the simulator, in 180 days
PURPOSE = "fraud-model-training"
WRITERS = 4


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds something took, and what it gave."""
    gc.collect()
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


def by_turns(works: dict[str, Callable[[], Any]], times: int) -> dict[str, float]:
    """Return the median seconds of each, run by turns after a round that is not counted."""
    took: dict[str, list[float]] = {name: [] for name in works}
    for number in range(times + 1):
        for name, work in works.items():
            seconds = timed(work)[0]
            if number:
                took[name].append(seconds)
    return {name: median(seconds) for name, seconds in took.items()}


def vault(workspace: Workspace, rows: int, times: int) -> dict[str, Any]:
    """Ingest simulated payments and load them; then the same table encrypted and plain."""
    config = load_config(ROOT / "configs" / "demo.toml", dataset__simulate__customers=rows // PAYMENTS_PER_CUSTOMER)
    simulated, manifest = timed(lambda: ingest(config, workspace))
    again, _ = timed(lambda: ingest(config, workspace, force=True))

    def load() -> pd.DataFrame:
        return load_transactions(config.dataset.name, purpose=PURPOSE, workspace=workspace)

    frame = load()
    loaded = by_turns({"load": load}, times)["load"]
    cipher = ParquetCipher(KeyDirectory(workspace.keys))
    table = pa.Table.from_pandas(frame, preserve_index=False)
    files = {name: workspace.root / f"{name}.parquet" for name in ("plain", "encrypted")}

    def put(name: str) -> None:
        properties = cipher.encryption("features") if name == "encrypted" else None
        pq.write_table(table, files[name], compression="zstd", encryption_properties=properties)

    def get(name: str) -> pa.Table:
        properties = cipher.decryption() if name == "encrypted" else None
        return pq.ParquetFile(files[name], decryption_properties=properties).read()

    wrote = by_turns({name: lambda name=name: put(name) for name in files}, times)
    read = by_turns({name: lambda name=name: get(name) for name in files}, times)
    assert get("encrypted").equals(get("plain"))
    return {
        "rows": manifest["rows"],
        "columns": frame.shape[1],
        "simulate_and_ingest_s": simulated,
        "ingest_again_rows_per_s": manifest["rows"] / again,
        "load_s": loaded,
        "load_rows_per_s": len(frame) / loaded,
        "parquet_write_s": wrote,
        "parquet_read_s": read,
        "encryption_on_write": wrote["encrypted"] / wrote["plain"] - 1,
        "encryption_on_read": read["encrypted"] / read["plain"] - 1,
        "encryption_on_size": files["encrypted"].stat().st_size / files["plain"].stat().st_size - 1,
    }


def pseudonyms(rows: int, times: int) -> dict[str, Any]:
    """Pseudonymise card numbers: a tenth as many different ones as rows."""
    result = {}
    for name, many in (("some", rows), ("ten_times", 10 * rows)):
        draw = np.random.default_rng(1)
        cards = pd.Series(draw.integers(0, rows // 10, many) + 4_000_000_000_000_000).astype("str")
        seconds = by_turns({"pseudonymise": lambda cards=cards: pseudonymise(cards, bytes(32), "card_id")}, times)
        result[name] = {"rows": many, "different": rows // 10, "s": seconds["pseudonymise"]}
    return result


def words(rows: int, times: int) -> dict[str, Any]:
    """Mask free text, one memo in four hundred with an identifier."""
    memos = pd.Series([f"order {k} of {k % 90} items" for k in range(rows)], dtype="str")
    memos[::400] = "call +49 30 1234567"
    return {"rows": rows, "mask_s": by_turns({"mask": lambda: mask(memos)}, times)["mask"]}


def _append(path: Path, keys: Path, many: int) -> None:
    with AuditLog(path, KeyDirectory(keys)).opened() as log:
        for number in range(many):
            log.append("load", dataset="demo", rows=number)


def audit(workspace: Workspace, many: int) -> dict[str, Any]:
    """Append to one audit log from one process, then from four at once; verify it."""
    log = AuditLog(workspace.root / "audit.db", KeyDirectory(workspace.keys))
    log.append("ingest", dataset="demo")
    alone = timed(lambda: _append(log.path, workspace.keys, many))[0]
    context = multiprocessing.get_context("spawn")
    # Started before the clock: what is timed is writing, not importing.
    with context.Pool(WRITERS) as pool:
        pool.starmap(_append, [(log.path, workspace.keys, 1)] * WRITERS)
        together = timed(lambda: pool.starmap(_append, [(log.path, workspace.keys, many)] * WRITERS, chunksize=1))[0]
    seconds, verified = timed(log.verify)
    assert verified.ok
    return {
        "appends_per_s": many / alone,
        "appends_per_s_of_four_processes": WRITERS * many / together,
        "verified_per_s": verified.entries / seconds,
    }


def people(rows: int, times: int) -> dict[str, Any]:
    """Ask the ledger who may be loaded, and how anonymous a table is per row and per customer."""
    draw = np.random.default_rng(2)
    many = rows // 10
    codes = pd.Series([f"{number:032x}" for number in range(many)], dtype="str")
    customers = codes.take(draw.integers(0, many, rows)).reset_index(drop=True)
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.db")
        lines = [f"{code},marketing,consent,consent,2026-01-01T00:00Z,form,\n" for code in codes[::2]]
        lines += [f"{code},{PURPOSE},legitimate-interest,objection,2026-01-01T00:00Z,letter,\n" for code in codes[:100]]
        file = Path(folder) / "events.csv"
        file.write_text("customer,purpose,basis,event,at,source,note\n" + "".join(lines), encoding="utf-8")
        ledger.import_csv(file)
        asked = by_turns(
            {
                "consent": lambda: ledger.allowed(customers, "marketing", "consent"),
                "legitimate-interest": lambda: ledger.allowed(customers, PURPOSE, "legitimate-interest"),
            },
            times,
        )
    table = pd.DataFrame({"customer_id": customers})
    for name, values in {"country": 20, "age_band": 8, "postcode_area": 90, "channel": 3, "card_bin": 40}.items():
        table[name] = pd.Series(draw.integers(0, values, rows)).astype("str")
    known = list(table.columns[1:])
    measured = by_turns(
        {
            "row": lambda: risk_table(table, known, unit=None),
            "customer": lambda: risk_table(table, known, unit="customer_id"),
        },
        times,
    )
    return {"rows": rows, "customers": many, "ledger_s": asked, "risk_s": measured}


def goals(found: dict[str, Any]) -> list[tuple[str, float, str, bool]]:
    """Return what is asked beside what was measured."""
    store, codes, log, rights = found["vault"], found["pseudonyms"], found["audit"], found["people"]
    asked = [
        ("encryption on load, share of plain Parquet", store["encryption_on_read"], "<=", 0.15),
        (f"pseudonymise {codes['some']['rows']:,} rows, s", codes["some"]["s"], "<", 2),
        (f"pseudonymise {codes['ten_times']['rows']:,} rows, s", codes["ten_times"]["s"], "<", 10),
        ("audit appends/s, four processes", log["appends_per_s_of_four_processes"], ">=", 1000),
        (f"anonymity of {rights['rows']:,} rows, per row, s", rights["risk_s"]["row"], "<", 1),
        (f"anonymity of {rights['rows']:,} rows, per customer, s", rights["risk_s"]["customer"], "<", 1),
    ]
    holds = {"<=": np.less_equal, "<": np.less, ">=": np.greater_equal}
    return [(what, value, f"{sign} {limit:g}", bool(holds[sign](value, limit))) for what, value, sign, limit in asked]


def main() -> int:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="payments (a million)")
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each, after one that is not counted (5)")
    parser.add_argument("--appends", type=int, default=1_000, help="audit entries a process writes (1,000)")
    parser.add_argument("--out", type=Path, help=f"where the figures go (default: {RESULTS.relative_to(ROOT)})")
    options = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    folder = Path(tempfile.mkdtemp(dir=ROOT / "data"))  # the project's own disk: the system's may lie in memory
    load_before = os.getloadavg()[0]
    try:
        workspace = Workspace(folder)
        found: dict[str, Any] = {}
        for name, work in {
            "vault": lambda: vault(workspace, options.rows, options.runs),
            "pseudonyms": lambda: pseudonyms(options.rows, options.runs),
            "free_text": lambda: words(options.rows, options.runs),
            "audit": lambda: audit(workspace, options.appends),
            "people": lambda: people(options.rows, options.runs),
        }.items():
            console.print(f"{name} ...")
            found[name] = work()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    shown = Table("measured", "value", "goal", "met", title="What protection costs", title_justify="left", box=None)
    store, log = found["vault"], found["audit"]
    told = [
        ("ingest again, rows/s", store["ingest_again_rows_per_s"]),
        ("load, rows/s", store["load_rows_per_s"]),
        ("encryption on write, share", store["encryption_on_write"]),
        ("encryption on size, share", store["encryption_on_size"]),
        (f"mask {found['free_text']['rows']:,} memos, s", found["free_text"]["mask_s"]),
        ("audit appends/s, one process", log["appends_per_s"]),
        ("audit entries verified/s", log["verified_per_s"]),
        *((f"ledger asked, {basis}, s", seconds) for basis, seconds in found["people"]["ledger_s"].items()),
    ]
    for what, value in told:
        shown.add_row(what, f"{value:,.3g}" if value < 100 else f"{value:,.0f}", "", "")
    for what, value, goal, met in goals(found):
        shown.add_row(what, f"{value:,.3g}" if value < 100 else f"{value:,.0f}", goal, "yes" if met else "no")
    console.print(shown)
    out = options.out or (RESULTS if options.rows >= 1_000_000 else None)
    if out:
        write({"setting": setting(), "load_before": load_before, **found}, out)
        console.print(f"written to {out.relative_to(ROOT) if out.is_relative_to(ROOT) else out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
