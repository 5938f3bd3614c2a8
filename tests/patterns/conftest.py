"""One small project with a champion, made once; in its last week many accounts pay with one device."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fraudlab.config import RunConfig, Workspace
from fraudlab.datasets import simulate as simulation

AS_OF = pd.Timestamp("2026-04-06", tz="UTC")
NOW = pd.Timestamp("2026-07-01", tz="UTC")
VICTIMS = 14


def planted(raw: pd.DataFrame) -> pd.DataFrame:
    """Give recent online payments of so many customers one device and three times their amount."""
    week = raw["paid_at"].between(AS_OF - pd.Timedelta(days=5), AS_OF)
    online = raw[week & (raw["channel"] == "online")].drop_duplicates("customer_ref")
    rows = online.index[np.linspace(0, len(online) - 1, VICTIMS).astype(int)]
    changed = raw.copy()
    changed.loc[rows, "device_fingerprint"] = "the device of a stranger"
    changed.loc[rows, "amount"] = (changed.loc[rows, "amount"] * 3).round(2)
    return changed


@pytest.fixture(scope="session")
def as_of() -> pd.Timestamp:
    return AS_OF


@pytest.fixture(scope="session")
def config(small_bank: Callable[..., RunConfig]) -> RunConfig:
    return small_bank(anomaly__kind="density")


@pytest.fixture(scope="session")
def made(
    tmp_path_factory: pytest.TempPathFactory, config: RunConfig, make_champion: Callable[[RunConfig, Workspace], None]
) -> Path:
    root = tmp_path_factory.mktemp("patterns")
    simulate = simulation.simulate
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FRAUDLAB_KEYS", raising=False)
        patch.setattr(simulation, "simulate", lambda *args, **kwargs: planted(simulate(*args, **kwargs)))
        make_champion(config, Workspace(root))
    return root


@pytest.fixture(scope="session")
def searched(made: Path, config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    from fraudlab.casework.patterns import search

    root = tmp_path_factory.mktemp("searched") / "home"
    shutil.copytree(made, root)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FRAUDLAB_KEYS", raising=False)
        return root, search(config, Workspace(root), as_of=AS_OF, now=NOW)


@pytest.fixture
def workspace(searched: tuple[Path, dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The project after a first search, a copy of its own."""
    monkeypatch.delenv("FRAUDLAB_KEYS", raising=False)
    shutil.copytree(searched[0], tmp_path / "home")
    monkeypatch.setenv("FRAUDLAB_HOME", str(tmp_path / "home"))
    return Workspace(tmp_path / "home")


@pytest.fixture
def code(workspace: Workspace) -> str:
    """The planted pattern's code."""
    from fraudlab.casework.patterns import patterns_table

    return patterns_table("demo", workspace)["pattern"].iloc[0]
