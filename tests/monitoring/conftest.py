"""One small project with a champion, made once, and what monitoring finds of it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from fraudlab import monitoring, recipe, serving, tracking
from fraudlab.config import RunConfig, Workspace, load_config
from fraudlab.datasets import ingest

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "dataset__simulate__customers": 400,
    "dataset__simulate__merchants": 120,
    "dataset__simulate__days": 110,
    "split__train_days": 30,
    "split__delay_days": 14,
    "split__valid_days": 14,
    "split__test_days": 12,
    "split__min_positives": 3,
    "anomaly__kind": "none",
    "model__n_estimators": 15,
    "decision__alerts_per_day": 4,
    "decision__limit_per_day": 0,
    "decision__step_up_per_day": 5,
    "gate__min_auc_roc": 0.0,
}
AS_OF = pd.Timestamp("2026-04-21", tz="UTC")


@pytest.fixture(scope="session")
def config() -> RunConfig:
    return load_config(ROOT / "configs" / "demo.toml", **SMALL)


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory, config: RunConfig) -> Workspace:
    root = tmp_path_factory.mktemp("monitoring")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FRAUDLAB_KEYS", raising=False)
        workspace = Workspace(root)
        ingest(config, workspace)
        prepared = recipe.prepare(config, workspace)
        fitted = recipe.fit(config, prepared, threads=1)
        facts = {
            "name": config.name,
            "purpose": config.purpose,
            "feature_set": prepared.feature_set.to_dict(),
            "learnt_until": prepared.fold.refit_end.isoformat(),
        }
        folder = tmp_path_factory.mktemp("package") / "package"
        serving.save_package(folder, fitted.candidate, fitted.thresholds, prepared.feature_set.describe(), facts)
        client = tracking.open_store(workspace)
        run = tracking.start_run(client, config, name="small")
        version = tracking.register_package(client, run, folder, name=config.name, config=config)
        tracking.promote(client, config.name, version, reason="a test")
        tracking.finish_run(client, run, "FINISHED")
    return workspace


@pytest.fixture(scope="session")
def watched(workspace: Workspace, config: RunConfig) -> monitoring.Watched:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FRAUDLAB_KEYS", raising=False)
        return monitoring.watch(config, workspace, as_of=AS_OF)
