"""One small project with a champion, made once; the payments of its last days come in afterwards, as raw rows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from fraudlab.config import RunConfig, Workspace
from fraudlab.datasets.simulate import simulate

CUT = pd.Timestamp("2026-03-30", tz="UTC")


@dataclass(frozen=True)
class Made:
    """A project's folder, its config, and the raw payments that came after its ingest."""

    root: Path
    config: RunConfig
    later: pd.DataFrame


@pytest.fixture(scope="session")
def made(
    tmp_path_factory: pytest.TempPathFactory,
    small_bank: Callable[..., RunConfig],
    make_champion: Callable[[RunConfig, Workspace], None],
) -> Made:
    root = tmp_path_factory.mktemp("scoring")
    simulated = small_bank(as_of=None)
    raw = simulate(simulated.dataset.simulate, simulated.seed)
    moment = pd.to_datetime(raw["paid_at"], utc=True)
    (root / "data").mkdir()
    raw[moment < CUT].to_csv(root / "data" / "payments.csv", index=False)
    config = small_bank(as_of=None, dataset__source="file", dataset__path=str(root / "data" / "payments.csv"))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FRAUDLAB_KEYS", raising=False)
        make_champion(config, Workspace(root))
    later = raw[moment >= CUT].sort_values(["paid_at", "payment_id"], ignore_index=True)
    return Made(root, config, later.drop(columns=["reported_fraud", "reported_at", "fraud_scenario"]))


@pytest.fixture
def workspace(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A copy of the project of its own."""
    monkeypatch.delenv("FRAUDLAB_KEYS", raising=False)
    shutil.copytree(made.root, tmp_path / "home")
    monkeypatch.setenv("FRAUDLAB_HOME", str(tmp_path / "home"))
    return Workspace(tmp_path / "home")


def as_lines(raw: pd.DataFrame) -> list[str]:
    """Return raw rows as JSON lines, as a payment system would send them."""
    rows = raw.assign(paid_at=pd.to_datetime(raw["paid_at"], utc=True).map(lambda moment: moment.isoformat()))
    plain = rows.astype(object).where(rows.notna(), None)
    return [json.dumps(row, default=str) for row in plain.to_dict("records")]


@pytest.fixture(scope="session")
def lines(made: Made) -> list[str]:
    return as_lines(made.later)
