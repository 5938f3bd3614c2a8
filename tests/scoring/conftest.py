"""One small project with a champion, made once; the payments of its last days come in afterwards, as raw rows."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from fraudlab import deciding, recipe, serving, tracking
from fraudlab.config import RunConfig, Workspace, load_config
from fraudlab.datasets import ingest
from fraudlab.datasets.simulate import simulate

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
    "decision__limit_per_day": 0,
    "decision__step_up_per_day": 3,
    "gate__min_auc_roc": 0.0,
    "as_of": None,
}
CUT = pd.Timestamp("2026-03-30", tz="UTC")


@dataclass(frozen=True)
class Made:
    """A project's folder, its config, and the raw payments that came after its ingest."""

    root: Path
    config: RunConfig
    later: pd.DataFrame


def register(config: RunConfig, workspace: Workspace, folder: Path, *, threads: int = 1) -> str:
    """Train, pack and promote what a run would; return the version."""
    prepared = recipe.prepare(config, workspace)
    fitted = recipe.fit(config, prepared, threads=threads)
    facts = {
        "name": config.name,
        "purpose": config.purpose,
        "dataset": config.dataset.name,
        "feature_set": prepared.feature_set.to_dict(),
    }
    prices = None
    if config.decision.way != "tiers":
        scores = recipe.score_part(fitted.models, prepared, "test")
        tables = deciding.policy_tables(
            fitted.candidate, prepared, scores, config, thresholds=fitted.thresholds.to_dict(), n_boot=10
        )
        prices = tables["policy_prices"]
    acting = deciding.acting_of(config, fitted.thresholds, prices)
    describe = prepared.feature_set.describe()
    serving.save_package(folder, fitted.candidate, fitted.thresholds, describe, facts, acting=acting)
    client = tracking.open_store(workspace)
    run = tracking.start_run(client, config, name="small")
    version = tracking.register_package(client, run, folder, name=config.name, config=config)
    tracking.promote(client, config.name, version, reason="a test")
    tracking.finish_run(client, run, "FINISHED")
    return version


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("scoring")
    simulated = load_config(ROOT / "configs" / "demo.toml", **SMALL)
    raw = simulate(simulated.dataset.simulate, simulated.seed)
    moment = pd.to_datetime(raw["paid_at"], utc=True)
    (root / "data").mkdir()
    raw[moment < CUT].to_csv(root / "data" / "payments.csv", index=False)
    config = load_config(
        ROOT / "configs" / "demo.toml",
        **SMALL | {"dataset__source": "file", "dataset__path": str(root / "data" / "payments.csv")},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FRAUDLAB_KEYS", raising=False)
        workspace = Workspace(root)
        ingest(config, workspace)
        register(config, workspace, tmp_path_factory.mktemp("package") / "package")
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
