"""A shadow through three real retrainings: first champion, challenger in shadow, decided once a week has come in."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from fraudlab import production, tracking, tracking_decisions, workflow
from fraudlab.config import SimulateConfig, Workspace
from fraudlab.datasets.simulate import simulate
from fraudlab.decision_record import is_whole
from fraudlab.report.sealing import examine, known_keys

DEMO = Path(__file__).resolve().parents[2] / "configs" / "demo.toml"
SMALL = {
    "dataset__source": "file",
    "as_of": None,
    "split__train_days": 30,
    "split__valid_days": 14,
    "split__test_days": 12,
    "split__min_positives": 5,
    "model__n_estimators": 60,
    "decision__alerts_per_day": 3,
    "decision__step_up_per_day": 6,
    # What so few customers cannot show is not asked for: the way is tested, not the model.
    "gate__min_auc_roc": 0.0,
    "gate__non_inferiority": 1.0,
    "gate__max_calibration_error": 1000.0,
    "gate__max_group_ratio": 1000.0,
    "gate__waive": ["FL006", "FL007", "FL013", "FL014", "FL018", "FL019"],
    "gate__waived_because": "so few customers cannot show it",
}
WEEK = pd.Timestamp("2026-04-06", tz="UTC")


@pytest.mark.slow
def test_month_train_shadow_a_week_more_promoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FRAUDLAB_KEYS", raising=False)
    workspace = Workspace(tmp_path / "home")
    workspace.root.mkdir()
    raw = simulate(SimulateConfig(customers=400, merchants=120, days=102), seed=7)
    late = pd.to_datetime(raw["paid_at"], utc=True) >= WEEK
    raw[~late].to_parquet(workspace.root / "first.parquet")
    raw[late].to_parquet(workspace.root / "week.parquet")
    base = SMALL | {"dataset__path": workspace.root / "first.parquet"}

    def retrained(**changes: object) -> tuple[workflow.Run, list[dict]]:
        events: list[dict] = []
        run = workflow.retrain(DEMO, changes=base | changes, workspace=workspace, progress=events.append)
        return run, [event for event in events if event["step"] == "shadow"]

    client = tracking.open_store(workspace)

    def aliases() -> dict[str, str]:
        found = client.get_registered_model("demo").aliases
        return {alias: str(version) for alias, version in found.items()}

    first, told = retrained()
    assert first.load_json("decision")["decision"] == "promoted", first.load_json("decision")["reasons"]
    assert told == []
    second, told = retrained(gate__shadow_days=7, model__n_estimators=50)
    decision = second.load_json("decision")
    assert decision["decision"] == "in shadow", decision["reasons"]
    assert decision["shadow"]["first_day"] == "2026-04-06"
    assert aliases() == {"champion": "1", "challenger": "2", "shadow": "2"}
    message = json.loads((workspace.reports / "demo.message.json").read_text())
    assert message["headline"] == "demo version 2 is in shadow until 2026-04-12; version 1 remains the champion"
    assert "in shadow" in second.report.read_text(encoding="utf-8")
    looks = second.report.read_bytes()

    third, told = retrained(
        gate__shadow_days=7, model__n_estimators=40, dataset__append=[workspace.root / "week.parquet"]
    )
    ((event,),) = [told]
    assert event["state"] == "over"
    assert "the shadow of version 2 is over: demo version 2 is the champion" in event["said"]
    message = json.loads((workspace.reports / "demo.message.json").read_text())
    assert message["shadow"] == event["said"]
    assert production.history(workspace)["version"].tolist() == ["1", "2"]
    ended = second.load_json("decision")
    assert ended["decision"] == "promoted"
    assert ended["amends"] == decision["digest"]
    assert is_whole(ended)
    assert tracking_decisions.decisions(client, "demo", "2") == [decision, ended]
    assert second.load_table("shadow")["metric"].tolist()[:4] == ["cases"] * 4
    assert second.report.read_bytes() != looks
    html = second.report.read_text(encoding="utf-8")
    assert "Which cases flip in the shadow" in html
    assert ended["digest"] in html
    assert examine(second.report.read_bytes(), known_keys(workspace)).ok
    # The third was compared with the new champion; what so small a model is worth is up to chance.
    decided = third.load_json("decision")
    assert decided["champion_before"] == "2"
    assert decided["decision"] in ("in shadow", "kept champion"), decided["reasons"]
    beside = {"shadow": "3"} if decided["decision"] == "in shadow" else {}
    assert aliases() == {"champion": "2", "challenger": "3"} | beside
    outcomes = [facts["outcome"] for facts in production.audit_log(workspace).entries("decide")["facts"]]
    assert outcomes == ["promoted", "in shadow", "promoted", decided["decision"]]
