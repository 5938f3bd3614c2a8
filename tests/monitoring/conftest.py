"""One small project with a champion, made once, and what monitoring finds of it."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from fraudlab import monitoring
from fraudlab.config import RunConfig, Workspace

AS_OF = pd.Timestamp("2026-04-21", tz="UTC")


@pytest.fixture(scope="session")
def config(small_bank: Callable[..., RunConfig]) -> RunConfig:
    return small_bank(
        dataset__simulate__days=110,
        decision__alerts_per_day=4,
        decision__step_up_per_day=5,
    )


@pytest.fixture(scope="session")
def workspace(
    tmp_path_factory: pytest.TempPathFactory, config: RunConfig, make_champion: Callable[[RunConfig, Workspace], None]
) -> Workspace:
    root = tmp_path_factory.mktemp("monitoring")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FRAUDLAB_KEYS", raising=False)
        workspace = Workspace(root)
        make_champion(config, workspace)
    return workspace


@pytest.fixture(scope="session")
def watched(workspace: Workspace, config: RunConfig) -> monitoring.Watched:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FRAUDLAB_KEYS", raising=False)
        return monitoring.watch(config, workspace, as_of=AS_OF)
