"""One small project with a champion, made once: payments in the vault, a trained model in the registry."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from fraudlab import recipe, serving, tracking
from fraudlab.casework.queue import list_cases
from fraudlab.config import RunConfig, Workspace, load_config
from fraudlab.datasets import ingest

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
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


AS_OF = pd.Timestamp("2026-04-06", tz="UTC")
NOW = pd.Timestamp("2026-07-01", tz="UTC")


@pytest.fixture(scope="session")
def as_of() -> pd.Timestamp:
    """The moment that the queue of the small project is about; its payments end the day before."""
    return AS_OF


@pytest.fixture(scope="session")
def config() -> RunConfig:
    return load_config(ROOT / "configs" / "demo.toml", **SMALL)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, config: RunConfig) -> Path:
    root = tmp_path_factory.mktemp("casework")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FRAUDLAB_KEYS", raising=False)
        workspace = Workspace(root)
        ingest(config, workspace)
        prepared = recipe.prepare(config, workspace)
        fitted = recipe.fit(config, prepared, threads=1)
        facts = {"name": config.name, "purpose": config.purpose, "feature_set": prepared.feature_set.to_dict()}
        folder = tmp_path_factory.mktemp("package") / "package"
        serving.save_package(folder, fitted.candidate, fitted.thresholds, prepared.feature_set.describe(), facts)
        client = tracking.open_store(workspace)
        run = tracking.start_run(client, config, name="small")
        version = tracking.register_package(client, run, folder, name=config.name, config=config)
        tracking.promote(client, config.name, version, reason="a test")
        tracking.finish_run(client, run, "FINISHED")
        list_cases(config, workspace, as_of=AS_OF, now=NOW)
    return root


@pytest.fixture
def workspace(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.delenv("FRAUDLAB_KEYS", raising=False)
    shutil.copytree(made, tmp_path / "home")
    monkeypatch.setenv("FRAUDLAB_HOME", str(tmp_path / "home"))
    return Workspace(tmp_path / "home")
