"""One small project with a champion, made once: payments in the vault, a trained model in the registry."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from fraudlab.casework.queue import list_cases
from fraudlab.config import RunConfig, Workspace

AS_OF = pd.Timestamp("2026-04-06", tz="UTC")
NOW = pd.Timestamp("2026-07-01", tz="UTC")


@pytest.fixture(scope="session")
def as_of() -> pd.Timestamp:
    """The moment that the queue of the small project is about; its payments end the day before."""
    return AS_OF


@pytest.fixture(scope="session")
def config(small_bank: Callable[..., RunConfig]) -> RunConfig:
    return small_bank()


@pytest.fixture(scope="session")
def made(
    tmp_path_factory: pytest.TempPathFactory, config: RunConfig, make_champion: Callable[[RunConfig, Workspace], None]
) -> Path:
    root = tmp_path_factory.mktemp("casework")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FRAUDLAB_KEYS", raising=False)
        workspace = Workspace(root)
        make_champion(config, workspace)
        list_cases(config, workspace, as_of=AS_OF, now=NOW)
    return root


@pytest.fixture
def workspace(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.delenv("FRAUDLAB_KEYS", raising=False)
    shutil.copytree(made, tmp_path / "home")
    monkeypatch.setenv("FRAUDLAB_HOME", str(tmp_path / "home"))
    return Workspace(tmp_path / "home")
