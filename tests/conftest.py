"""Small canonical transactions for tests, made without any of the code under test."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# One thread for small fits: spinning OpenMP threads cost far more than they bring here. Set before any import.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import numpy as np
import pandas as pd
import pytest

EMPTY_DATABASE: list[bytes] = []


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let an empty MLflow database be copied: making one takes two seconds. Not where its making is what is tested."""
    store = sys.modules.get("fraudlab.tracking_store")
    if store is None:
        return
    make = getattr(store._create, "makes", store._create)

    def copy(database: Path, artifacts: Path) -> None:
        if not EMPTY_DATABASE:
            make(database, artifacts)
            EMPTY_DATABASE.append(database.read_bytes())
            return
        database.touch(mode=0o600)
        # Its paths are the first one's: opening it heals them, as after a move.
        database.write_bytes(EMPTY_DATABASE[0])

    copy.makes = make
    store._create = make if item.path.parent.name in ("tracking", "faults") else copy


def make_transactions(
    rows: int = 4000,
    *,
    days: int = 60,
    customers: int = 60,
    merchants: int = 40,
    fraud_rate: float = 0.05,
    seed: int = 0,
) -> pd.DataFrame:
    """Canonical transactions in the total order: frauds are larger and at a few bad merchants, labels come later."""
    rng = np.random.default_rng(seed)
    start = pd.Timestamp("2026-01-01", tz="UTC")
    seconds = np.sort(rng.integers(0, days * 86_400, rows))
    customer = rng.integers(0, customers, rows)
    merchant = rng.integers(0, merchants, rows)
    fraud = rng.random(rows) < np.where(merchant < 4, fraud_rate * 5, fraud_rate / 2)
    amount = np.round(np.where(fraud, rng.lognormal(4.6, 0.6, rows), rng.lognormal(3.4, 0.7, rows)), 2)
    event_time = (start + pd.to_timedelta(seconds, unit="s")).astype("datetime64[us, UTC]")
    delay = pd.to_timedelta(np.where(fraud, rng.integers(1, 10, rows), 7), unit="D")
    return pd.DataFrame(
        {
            "transaction_id": np.arange(rows),
            "event_time": event_time,
            "customer_id": pd.Series([f"c{i:03d}" for i in customer], dtype="str"),
            "card_id": pd.Series([f"k{i:03d}" for i in customer], dtype="str"),
            "amount": amount,
            "merchant_id": pd.Series([f"m{i:03d}" for i in merchant], dtype="str"),
            "device_id": pd.Series([f"d{i:03d}" for i in (customer + (rng.random(rows) < 0.1) * 7)], dtype="str"),
            "country": pd.Series(np.where(rng.random(rows) < 0.05, "US", "DE"), dtype="str"),
            "latitude": np.round(50 + rng.normal(0, 0.2, rows), 1),
            "longitude": np.round(8 + rng.normal(0, 0.2, rows), 1),
            "auth_method": pd.Series(np.where(rng.random(rows) < 0.2, "totp", "none"), dtype="str"),
            "auth_result": pd.Series(np.where(rng.random(rows) < 0.05, "failed", "passed"), dtype="str"),
            "is_fraud": pd.array(fraud, dtype="boolean"),
            "label_time": (event_time + delay).astype("datetime64[us, UTC]"),
        }
    )


@pytest.fixture(scope="session")
def transactions() -> pd.DataFrame:
    return make_transactions()


@pytest.fixture(scope="session")
def sixty_days() -> Callable[..., tuple[pd.DataFrame, np.ndarray, np.ndarray]]:
    """Return a function of (rng, rows, often): payments of 600 customers, who made them, which are fraud.

    One customer in twenty is defrauded again and again, a share `often` of the payments; the others rarely. Frauds are
    larger, and every label is known after a day.
    """

    def made(rng: np.random.Generator, rows: int, often: float) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
        who = rng.integers(0, 600, rows)
        fraud = rng.random(rows) < np.where(who % 20 == 0, often, 0.03)
        seconds = pd.to_timedelta(np.sort(rng.integers(0, 60 * 86_400, rows)), unit="s")
        when = pd.Timestamp("2026-01-01", tz="UTC") + seconds
        payments = pd.DataFrame(
            {
                "transaction_id": [f"t{i:05d}" for i in range(rows)],
                "event_time": when,
                "customer_id": [f"customer-{i:03d}" for i in who],
                "amount": np.round(rng.lognormal(3 + fraud, 0.8), 2),
                "is_fraud": pd.array(fraud, dtype="boolean"),
                "label_time": when + pd.Timedelta(days=1),
            }
        )
        return payments, who, fraud

    return made


SMALL_BANK = {
    "dataset__simulate__customers": 400,
    "dataset__simulate__merchants": 120,
    "dataset__simulate__days": 95,
    "split__train_days": 30,
    "split__delay_days": 14,
    "split__valid_days": 14,
    "split__test_days": 12,
    "split__min_positives": 3,
    "anomaly__kind": "none",
    "model__n_estimators": 15,
    "decision__alerts_per_day": 2,
    "decision__explore_per_day": 0,
    "decision__limit_per_day": 0,
    "decision__step_up_per_day": 3,
    "gate__min_auc_roc": 0.0,
}


@pytest.fixture(scope="session")
def small_bank() -> Callable[..., Any]:
    """Return the demo's config of a bank that is trained on in a second; keywords change it."""
    from fraudlab.config import load_config

    demo = Path(__file__).resolve().parents[1] / "configs" / "demo.toml"
    return lambda **changes: load_config(demo, **SMALL_BANK | changes)


@pytest.fixture(scope="session")
def make_champion(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """Bring a config's payments in, then train, pack, register and promote what a run of it would."""
    from fraudlab import deciding, recipe, serving, tracking
    from fraudlab.datasets import ingest

    def make(config: Any, workspace: Any) -> None:
        ingest(config, workspace)
        prepared = recipe.prepare(config, workspace)
        fitted = recipe.fit(config, prepared, threads=1)
        facts = {
            "name": config.name,
            "purpose": config.purpose,
            "dataset": config.dataset.name,
            "feature_set": prepared.feature_set.to_dict(),
            "learnt_until": prepared.fold.refit_end.isoformat(),
        }
        folder = tmp_path_factory.mktemp("package") / "package"
        words, acting = prepared.feature_set.describe(), deciding.acting_of(config, fitted.thresholds, None)
        serving.save_package(folder, fitted.candidate, fitted.thresholds, words, facts, acting=acting)
        client = tracking.open_store(workspace)
        run = tracking.start_run(client, config, name="small")
        version = tracking.register_package(client, run, folder, name=config.name, config=config)
        tracking.promote(client, config.name, version, reason="a test")
        tracking.finish_run(client, run, "FINISHED")

    return make
