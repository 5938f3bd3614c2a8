"""What another bank's indicators are worth: two banks of one invented world, one shares, the other watches.

    python benchmarks/sharing.py            # some minutes; writes benchmarks/results/sharing.json
    python benchmarks/sharing.py --weekly   # a set every week, from 28 days, for 7; needs --out

One world of 5,000 customers is cut into two banks of 2,500, so that both see the same shops, skimmed terminals and
stolen devices, under keys of their own. On some days bank A shares what the frauds of the days before tell, as known
then, by the rules of docs/sharing.md; bank B takes it in and its payments of the next days are looked at.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

from fraudlab import sharing
from fraudlab.config import RunConfig, SimulateConfig, Workspace, load_config
from fraudlab.datasets import ingest, load_transactions
from fraudlab.datasets.simulate import simulate
from fraudlab.privacy.indicators import COLUMNS

ROOT = Path(__file__).resolve().parents[1]
MONTHLY, WEEKLY = ((90, 120, 150), 60, 30), (tuple(range(60, 174, 7)), 28, 7)
"""Days on which is shared, days that are looked back, days that follow."""
LICENCE = "To stop payments; a measurement."
END = pd.Timestamp("2026-10-01T00:00Z")


def bank(root: Path, name: str, raw: pd.DataFrame) -> tuple[RunConfig, Workspace]:
    """Bring a bank's payments into a project of its own."""
    (root / name / "data").mkdir(parents=True)
    path = root / name / "data" / "payments.parquet"
    raw.to_parquet(path, index=False)
    config = load_config(ROOT / "configs" / "demo.toml", dataset__source="file", dataset__path=str(path))
    workspace = Workspace(root / name)
    ingest(config, workspace, now=END)
    return config, workspace


def measured(seed: int, days: tuple[int, ...], lookback: int, ahead: int) -> list[dict[str, Any]]:
    """Return a row per day of sharing: what was sent, and what of the frauds that followed lay at it."""
    raw = simulate(SimulateConfig(customers=5000, merchants=800, days=180), seed)
    start = raw["paid_at"].min().floor("D")
    halves = raw["customer_ref"].str[-1].astype(int) % 2 == 0
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        config_a, a = bank(root, "a", raw[halves].reset_index(drop=True))
        config_b, b = bank(root, "b", raw[~halves].reset_index(drop=True))
        letter = root / "letter.json"
        sharing.agree(a, "cards", "bank-a", "bank-b", letter)
        sharing.join(b, letter)
        for day in days:
            now = start + pd.Timedelta(days=day)
            made = sharing.export_set(config_a, a, "cards", licence=LICENCE, lookback_days=lookback, now=now)
            path = root / f"{day}.json"
            sharing.write_export(a, made, path)
            held = sharing.import_set(config_b, b, path, now=now).held
            frame = load_transactions("demo", purpose="fraud-model-training", workspace=b)
            frame = frame[(frame["event_time"] >= now) & (frame["event_time"] < now + pd.Timedelta(days=ahead))]
            fraud = frame["is_fraud"].fillna(False).astype(bool)
            row = {
                "seed": seed,
                "day": day,
                **{f"sent_{kind}": len(codes) for kind, codes in held.package["indicators"].items()},
                "payments": len(frame),
                "frauds": int(fraud.sum()),
            }
            either = frame[list(COLUMNS)].gt(0).any(axis=1)
            for name, flag in {**{c: frame[c].gt(0) for c in COLUMNS}, "any": either}.items():
                row |= {f"{name}_payments": int(flag.sum()), f"{name}_frauds": int((flag & fraud).sum())}
            rows.append(row)
            sharing.revoke(b, held.id, "the next measurement begins")
    return rows


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "sharing.json")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7])
    parser.add_argument("--weekly", action="store_true")
    asked = parser.parse_args()
    began = time.perf_counter()
    rows = [row for seed in asked.seeds for row in measured(seed, *(WEEKLY if asked.weekly else MONTHLY))]
    told = {"rows": rows, "seconds": round(time.perf_counter() - began)}
    asked.out.write_text(json.dumps(told, indent=1) + "\n")
    print(pd.DataFrame(rows).T.to_string())


if __name__ == "__main__":
    main()
