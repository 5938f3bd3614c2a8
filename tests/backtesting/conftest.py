"""A small world to walk through, made without the code under test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fraudlab.backtesting import World, make_world, policies_of, walk
from fraudlab.backtesting.walking import Walk
from fraudlab.config import RunConfig

START = pd.Timestamp("2026-03-05", tz="UTC")
END = pd.Timestamp("2026-04-02", tz="UTC")


def payments_of(rows: int = 9000, days: int = 95, seed: int = 3) -> pd.DataFrame:
    """Payments of 150 customers whose frauds are larger; from day 70 on small ones at night join them."""
    rng = np.random.default_rng(seed)
    seconds = np.sort(rng.integers(0, days * 86_400, rows))
    customer = rng.integers(0, 150, rows)
    fraud = rng.random(rows) < np.where(customer % 10 == 0, 0.12, 0.06)
    amount = np.round(np.where(fraud, rng.lognormal(5.2, 0.6, rows), rng.lognormal(3.4, 0.7, rows)), 2)
    late = fraud & (seconds > 70 * 86_400)
    amount = np.where(late, np.round(amount / 20, 2), amount)
    when = (pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(seconds, unit="s")).astype("datetime64[us, UTC]")
    delay = pd.to_timedelta(np.where(fraud, rng.integers(1, 5, rows), 4), unit="D")
    return pd.DataFrame(
        {
            "transaction_id": [f"t{i:05d}" for i in range(rows)],
            "event_time": when,
            "customer_id": pd.Series([f"c{i:03d}" for i in customer], dtype="str"),
            "amount": amount,
            "merchant_id": pd.Series([f"m{i:03d}" for i in rng.integers(0, 30, rows)], dtype="str"),
            "age_band": pd.Series(np.where(customer < 80, "18-39", "40+"), dtype="str"),
            "is_fraud": pd.array(fraud, dtype="boolean"),
            "label_time": (when + delay).astype("datetime64[us, UTC]"),
        }
    )


@pytest.fixture(scope="session")
def payments() -> pd.DataFrame:
    return payments_of()


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    return RunConfig.model_validate(
        {
            "name": "walked",
            "dataset": {"name": "walked", "source": "simulate", "contract": "contract.toml"},
            "features": {"set": "handbook"},
            "split": {"train_days": 21, "delay_days": 5, "valid_days": 10, "test_days": 10, "min_positives": 5},
            "model": {"n_estimators": 25, "max_depth": 3, "min_child_weight": 5, "max_bin": 64},
            "decision": {"alerts_per_day": 8, "step_up_per_day": 9, "limit_per_day": 0, "review_cost": 5.0},
            "gate": {"non_inferiority": 0.1, "waive": ["FL014"], "waived_because": "tiny world"},
        }
    )


@pytest.fixture(scope="session")
def world(config: RunConfig, payments: pd.DataFrame) -> World:
    return make_world(config, payments)


@pytest.fixture(scope="session")
def walked(world: World, tmp_path_factory: pytest.TempPathFactory) -> Walk:
    """Four weeks, four policies, in one process."""
    folder = tmp_path_factory.mktemp("models")
    names = ["weekly", "14d", "never", "weekly-ungated"]
    return walk(world, policies_of(names, 7), START, END, step=7, folder=folder)


@pytest.fixture
def remade(config: RunConfig) -> Callable[[pd.DataFrame], World]:
    return lambda frame: make_world(config, frame)


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    return tmp_path / "models"
