"""What a version changed is what its run's evidence differs in from the one before, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from fraudlab import changes

CONFIG = '[model]\nmax_depth = {depth}\nkind = "xgboost"\n\n[decision]\ngroups = ["age_band"]\n'


def evidence(
    folder: Path, *, depth: int = 4, features: tuple[str, ...] = ("a", "b"), value: float = 0.4, **facts
) -> Path:
    folder.mkdir(parents=True)
    told = {"run_id": folder.parent.name, "data_digest": "d" * 64, "seed": 7, "code_digest": "c" * 64} | facts
    (folder / "run.json").write_text(json.dumps(told))
    (folder / "config.toml").write_text(CONFIG.format(depth=depth))
    (folder / "models.json").write_text(
        json.dumps([{"name": "m", "role": "candidate"}, {"name": "r", "role": "baseline"}])
    )
    pd.DataFrame({"column": list(features)}).to_csv(folder / "features.csv", index=False)
    rows = [("m", "auc_roc", "all", value), ("r", "auc_roc", "all", 0.1), ("m", "auc_roc", "night", 0.2)]
    rows += [("m", "brier", "all", 0.01), ("m", "average_precision", "all", None)]
    pd.DataFrame(rows, columns=["model", "metric", "group", "value"]).to_csv(folder / "metrics.csv", index=False)
    return folder


def test_equal_runs_differ_in_nothing(tmp_path):
    before, after = (evidence(tmp_path / name / "evidence") for name in ("one", "two"))
    found = changes.since(before, after, version="3")
    assert found["version"] == "3"
    assert found["run_id"] == "one"
    assert found["note"] == ""
    assert [found[key] for key in ("facts", "config", "features_added", "features_removed")] == [[], [], [], []]
    assert found["metrics"] == [{"metric": "auc_roc", "before": 0.4, "after": 0.4}]


def test_each_difference_is_named_once(tmp_path):
    before = evidence(tmp_path / "one" / "evidence", seed=None)
    after = evidence(tmp_path / "two" / "evidence", depth=6, features=("b", "c"), value=0.5, data_digest="e" * 64)
    (after / "config.toml").write_text(CONFIG.format(depth=6).replace('kind = "xgboost"', "eta = 0.1"))
    found = changes.since(before, after, version="3")
    assert found["facts"] == [
        {"what": "data_digest", "before": "d" * 64, "after": "e" * 64},
        {"what": "seed", "before": None, "after": 7},
    ]
    assert found["config"] == [
        {"what": "model.max_depth", "before": "4", "after": "6"},
        {"what": "model.eta", "before": None, "after": "0.1"},
        {"what": "model.kind", "before": '"xgboost"', "after": None},
    ]
    assert (found["features_added"], found["features_removed"]) == (["c"], ["a"])
    assert found["metrics"] == [{"metric": "auc_roc", "before": 0.4, "after": 0.5}]


@pytest.mark.parametrize("gone", [True, False], ids=["gone", "written over by this run"])
def test_without_the_earlier_evidence_it_says_so(tmp_path, gone):
    after = evidence(tmp_path / "two" / "evidence")
    found = changes.since(tmp_path / "one" / "evidence" if gone else after, after, version="3")
    assert found["note"] == "the evidence of version 3's run is no longer here"
    assert found["config"] == found["metrics"] == []
    assert changes.first()["note"] == "there was no champion before"
    assert changes.first().keys() == found.keys()


def test_it_is_ready_for_json(tmp_path):
    before, after = evidence(tmp_path / "one" / "evidence", depth=2), evidence(tmp_path / "two" / "evidence")
    found = changes.since(before, after, version="3")
    assert json.loads(json.dumps(found, allow_nan=False)) == found
