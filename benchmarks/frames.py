"""The tables that the feature benchmark runs on, all canonical: the published one, simulated ones, larger copies."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pandas as pd

from fraudlab.config import SimulateConfig
from fraudlab.schema import BY_NAME, TIME_DTYPE, conform

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "configs" / "contracts" / "demo.toml"
ROWS_PER_CUSTOMER = 125  # of the simulator, in its 180 days
LABEL_DAYS = 7


def published(path: Path) -> pd.DataFrame:
    """Return the book's transactions in canonical columns and in the total order; labels come seven days later."""
    raw = pd.read_parquet(path)
    event_time = raw["TX_DATETIME"].dt.tz_localize("UTC").astype(TIME_DTYPE)
    frame = pd.DataFrame(
        {
            "transaction_id": raw["TRANSACTION_ID"].astype("int64"),
            "event_time": event_time,
            "customer_id": raw["CUSTOMER_ID"].astype("int64"),
            "merchant_id": raw["TERMINAL_ID"].astype("int64"),
            "amount": raw["TX_AMOUNT"].astype("float64"),
            "is_fraud": raw["TX_FRAUD"].astype("boolean"),
            "label_time": event_time + pd.Timedelta(days=LABEL_DAYS),
        }
    )
    return frame.sort_values(["event_time", "transaction_id"], ignore_index=True)


def simulated(
    rows: int, *, customers: int | None = None, days: int = 180, seed: int = 7, label_noise: float = 0.002
) -> pd.DataFrame:
    """Return about `rows` simulated payments (or those of so many customers), canonical and in the total order."""
    from fraudlab.datasets.simulate import simulate

    people = customers or max(50, rows // ROWS_PER_CUSTOMER)
    merchants = max(20, min(people // 3, 5000))
    config = SimulateConfig(customers=people, merchants=merchants, days=days, label_noise=label_noise)
    raw = simulate(config, seed, identities=False)
    columns = tomllib.loads(DEMO.read_text(encoding="utf-8"))["columns"]
    # What the contract coarsens is left out, but for places, which are coarsened here as there.
    kept = {c["source"]: c["name"] for c in columns if c["name"] in BY_NAME and c["treatment"] != "generalise"}
    frame = raw[[*kept, "latitude", "longitude"]].rename(columns=kept)
    for name in ("latitude", "longitude"):
        frame[name] = np.round(np.round(frame[name] / 0.1) * 0.1, 1)
    return conform(frame)


def like_the_book(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a simulated table in the book's shape: whole numbers as ids, every label known after seven days."""
    return pd.DataFrame(
        {
            "transaction_id": np.arange(len(frame)),
            "event_time": frame["event_time"],
            "customer_id": pd.factorize(frame["customer_id"])[0].astype(np.int64),
            "merchant_id": pd.factorize(frame["merchant_id"])[0].astype(np.int64),
            "amount": frame["amount"],
            "is_fraud": frame["is_fraud"].fillna(False),
            "label_time": frame["event_time"] + pd.Timedelta(days=LABEL_DAYS),
        }
    )


def part_of(frame: pd.DataFrame, rows: int) -> pd.DataFrame:
    """Return all payments of as many customers as make about `rows` rows, evenly chosen."""
    if rows >= len(frame):
        return frame
    code, values = pd.factorize(frame["customer_id"])
    keep = max(1, round(len(values) * rows / len(frame)))
    return frame[(code * keep) % len(values) < keep].reset_index(drop=True)


def ten_times(frame: pd.DataFrame, *, longer: bool) -> pd.DataFrame:
    """Return ten copies in the total order: of other entities at about the same times, or of the same ones later."""
    ids = [name for name in frame.columns if BY_NAME[name].kind == "id"]
    span = (frame["event_time"].max() - frame["event_time"].min()).ceil("D") + pd.Timedelta(days=1)
    copies = []
    for copy in range(10):
        # Other entities pay some seconds later, so that no ten payments share a second.
        later = span * copy if longer else pd.Timedelta(seconds=7 * copy)
        new = frame.assign(event_time=frame["event_time"] + later, label_time=frame["label_time"] + later)
        for name in ["transaction_id"] if longer else ids:
            if pd.api.types.is_integer_dtype(frame[name].dtype):
                new[name] = frame[name] + copy * (int(frame[name].max()) + 1)
            else:
                new[name] = frame[name] + f"~{copy}"
        copies.append(new)
    return pd.concat(copies).sort_values(["event_time", "transaction_id"], ignore_index=True)
