"""The shadow from its beginning to its end: champion unchanged meanwhile, decided when its days are in, or ended."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from typer.testing import CliRunner

from fraudlab import production, recipe, shadow, shadowing, tracking, tracking_decisions
from fraudlab.cli import app
from fraudlab.config import RunConfig, SimulateConfig, Workspace, load_config
from fraudlab.datasets import dataset_facts, ingest, load_transactions
from fraudlab.datasets.simulate import simulate
from fraudlab.decision_record import is_whole
from fraudlab.decisions import Thresholds
from fraudlab.model_files import load_model
from fraudlab.privacy.auditlog import audit_log
from fraudlab.runs import Run, begin
from fraudlab.schema import FraudlabError, InputError

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "dataset__source": "file",
    "as_of": None,
    "split__train_days": 20,
    "split__delay_days": 14,
    "split__valid_days": 14,
    "split__test_days": 12,
    "split__min_positives": 3,
    "anomaly__kind": "none",
    "features__categories": [],
    "model__n_estimators": 15,
    "decision__alerts_per_day": 6,
    "decision__limit_per_day": 0,
    "decision__step_up_per_day": 6,
    "gate__shadow_days": 7,
}
PASSED = [{"check": "for this test", "required": "-", "found": "-", "passed": True}]
KNOWN, WEEK = pd.Timestamp("2026-04-06T09:00Z"), pd.Timedelta(days=7)
"""The payments end the day before; a week of them follows."""


def small_config(folder: Path, **changes: Any) -> RunConfig:
    files = {"dataset__path": folder / "first.parquet"}
    return load_config(ROOT / "configs" / "demo.toml", **(SMALL | files | changes))


def with_week(folder: Path, **changes: Any) -> RunConfig:
    """The config once the file of the next seven days is there too."""
    return small_config(folder, dataset__append=[folder / "week.parquet"], **changes)


def registered(workspace: Workspace, config: RunConfig, fitted: recipe.Fitted, name: str, prepared: Any) -> Run:
    """Do what a retraining does from a fitted model on: register it, decide, carry it out."""
    run = Run(workspace.runs / f"{config.name}-{name}", config, workspace)
    begin(run, ROOT, command="fraudlab retrain --config small")
    run.record_data(dataset_facts(config.dataset.name, config.purpose, KNOWN, workspace))
    run.save_models({config.model.kind: fitted.candidate}, prepared)
    run.save_json("fold", recipe.fold_facts(prepared.fold))
    run.save_json("thresholds", fitted.thresholds.to_dict())
    run.note(candidate=config.model.kind)
    run.register(prepared.feature_set, PASSED)
    run.carry_out()
    return run


LATER = KNOWN + WEEK
END = LATER.floor("D")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shadow")
    raw = simulate(SimulateConfig(customers=400, merchants=120, days=102), seed=7)
    late = pd.to_datetime(raw["paid_at"], utc=True) >= KNOWN.floor("D")
    raw[~late].to_parquet(root / "first.parquet")
    raw[late].to_parquet(root / "week.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FRAUDLAB_KEYS", raising=False)
        workspace, config = Workspace(root), small_config(root)
        ingest(config, workspace, now=KNOWN)
        prepared = recipe.prepare(config, workspace)
        fitted = recipe.fit(config, prepared, threads=1)
        registered(workspace, config, fitted, "one", prepared)
        other = dataclasses.replace(
            fitted, models={config.model.kind: dataclasses.replace(fitted.candidate, facts={"second": 1})}
        )
        registered(workspace, config, other, "two", prepared)
    return root


@pytest.fixture(scope="session")
def made_later(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same seven days later: their payments have been brought in."""
    home = tmp_path_factory.mktemp("later") / "home"
    shutil.copytree(made, home)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FRAUDLAB_KEYS", raising=False)
        ingest(with_week(home), Workspace(home), now=LATER)
    return home


def copied(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A copy in which a run's whole report is not asked for: its evidence was not made."""
    monkeypatch.delenv("FRAUDLAB_KEYS", raising=False)
    shutil.copytree(home, tmp_path / "home")
    monkeypatch.setenv("FRAUDLAB_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(shadowing, "checked_reports", lambda run: "")
    return Workspace(tmp_path / "home")


@pytest.fixture
def workspace(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    return copied(made, tmp_path, monkeypatch)


@pytest.fixture
def later(made_later: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    return copied(made_later, tmp_path, monkeypatch)


@dataclasses.dataclass(frozen=True)
class Altered:
    """A package whose scores are something else, made from its own."""

    package: Any
    alter: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.package, name)

    def score(self, X: pd.DataFrame, **options: Any) -> pd.DataFrame:
        scored = self.package.score(X, **options)
        return scored.assign(score=self.alter(scored["score"].to_numpy()))


def alter_challenger(monkeypatch: pytest.MonkeyPatch, alter: Any) -> None:
    real = shadowing.registered_package

    def altered(workspace: Workspace, reference: str) -> tuple[str, str, Any]:
        name, version, package = real(workspace, reference)
        return name, version, Altered(package, alter) if version == "2" else package

    monkeypatch.setattr(shadowing, "registered_package", altered)


def noisy(scores: np.ndarray) -> np.ndarray:
    return np.clip(scores * np.random.default_rng(1).uniform(0.2, 1.8, len(scores)), 0, 1)


def aliases(workspace: Workspace) -> dict[str, str]:
    registered_model = tracking.open_store(workspace).get_registered_model("demo")
    return {alias: str(version) for alias, version in registered_model.aliases.items()}


def decided(workspace: Workspace) -> list[tuple[str, str]]:
    facts = audit_log(workspace).entries("decide")["facts"]
    return [(each["model_version"], each["outcome"]) for each in facts]


def records(workspace: Workspace, version: str) -> list[dict[str, Any]]:
    return tracking_decisions.decisions(tracking.open_store(workspace), "demo", version)


def test_the_first_model_has_nobody_to_stand_beside_and_the_second_does_not_take_over(workspace) -> None:
    assert aliases(workspace) == {"champion": "1", "challenger": "2", "shadow": "2"}
    assert decided(workspace) == [("1", "promoted"), ("2", "in shadow")]
    (first,) = records(workspace, "2")
    assert first["headline"] == "demo version 2 is in shadow until 2026-04-12; version 1 remains the champion"
    assert is_whole(first)
    tags = tracking.open_store(workspace).get_model_version("demo", "2").tags
    assert (tags["fraudlab.decision"], tags["fraudlab.decision_digest"]) == ("in shadow", first["digest"])
    run = tracking.open_store(workspace).get_run(tracking.open_store(workspace).get_model_version("demo", "2").run_id)
    assert run.data.tags["fraudlab.decision"] == "in shadow"
    assert [row["version"] for row in production.history(workspace).to_dict("records")] == ["1"]


def test_a_challenger_that_scores_alike_flips_nothing_and_is_promoted_when_its_days_are_in(later) -> None:
    config = with_week(later.root)
    for days in (0, 1, 6):
        seen = shadowing.settle(config, later, as_of=KNOWN + pd.Timedelta(days=days))
        assert (seen.state, seen.days_in, seen.record) == ("waiting", days, None)
        assert aliases(later) == {"champion": "1", "challenger": "2", "shadow": "2"}
    seen = shadowing.settle(config, later)
    table = seen.tables["shadow"].set_index(["metric", "group"])["value"]
    assert table["flipped_share", "all"] == 0
    assert table["agreement", "all"] == 1
    assert table["rank_correlation", "all"] == 1
    assert table["cases", "champion only"] == table["cases", "challenger only"] == 0
    assert table["cases", "both"] >= 10
    assert seen.record["decision"] == "promoted"
    assert aliases(later) == {"champion": "2"}
    assert decided(later)[-1] == ("2", "promoted")
    assert production.history(later)["version"].tolist() == ["1", "2"]
    promoted = audit_log(later).entries("promote")["facts"].iloc[-1]
    assert promoted["decision_digest"] == seen.record["digest"]
    first, last = records(later, "2")
    assert last == seen.record
    assert last["amends"] == first["digest"]
    assert last["gate"][0] == PASSED[0]
    assert last["gate"][-1]["found"].startswith("not judged: ")  # two weeks must pass before labels are known
    evidence = later.runs / "demo-two" / "evidence"
    assert Run(evidence.parent, config, later).load_json("decision") == last
    assert {path.name for path in evidence.glob("shadow*.csv")} >= {"shadow.csv"}
    assert shadowing.settle(config, later) is None
    assert audit_log(later).verify().ok


def test_the_table_of_disagreement_is_what_a_loop_over_the_cases_finds(later, monkeypatch) -> None:
    alter_challenger(monkeypatch, noisy)
    config = with_week(later.root)
    monkeypatch.setattr(shadowing, "protected", lambda name, table: table)
    seen = shadowing.look(config, later)
    rows = load_transactions("demo", purpose=config.purpose, workspace=later)
    packages = {name: shadowing.registered_package(later, f"demo/{name}")[2] for name in ("1", "2")}
    week = rows["event_time"] >= KNOWN.floor("D")
    rows = rows.assign(day=rows["event_time"].dt.date, known=rows["is_fraud"].fillna(False).astype(bool))
    for name, package in packages.items():
        features = package.features_of(rows)[week.to_numpy()].reset_index(drop=True)
        rows.loc[week, name] = package.score(features, reasons=False)["score"].to_numpy()
    rows = rows[week]
    held: dict[str, list[pd.DataFrame]] = {group: [] for group in shadow.HELD}
    for _, of_day in rows.groupby("day"):
        alerted = {}
        for name, package in packages.items():
            best = of_day.groupby("customer_id")[name].max()
            best = best[best >= package.thresholds.review].reset_index()
            best = best.sort_values([name, "customer_id"], ascending=[False, True])
            alerted[name] = set(best["customer_id"].head(config.decision.alerts_per_day))
        for customer, mine in of_day.groupby("customer_id"):
            by = (customer in alerted["1"], customer in alerted["2"])
            groups = {(True, True): "both", (True, False): "champion only", (False, True): "challenger only"}
            held[groups.get(by, "neither")].append(mine)
    value = seen.tables["shadow"].set_index(["metric", "group"])["value"]
    for group, found in held.items():
        assert value["cases", group] == len(found)
        assert value["amount", group] == pytest.approx(sum(mine["amount"].sum() for mine in found))
        assert value["frauds", group] == sum(mine["known"].any() for mine in found)
        assert value["fraud_amount", group] == pytest.approx(sum(mine["amount"][mine["known"]].sum() for mine in found))
    flipped, both = len(held["champion only"]) + len(held["challenger only"]), len(held["both"])
    assert flipped > 5
    assert both > 5
    assert value["flipped_share", "all"] == pytest.approx(flipped / (flipped + both))
    assert value["agreement", "all"] == pytest.approx(1 - flipped / sum(map(len, held.values())))
    assert value["rank_correlation", "all"] == pytest.approx(spearmanr(rows["1"], rows["2"]).statistic)
    assert value["labels_known", "all"] == pytest.approx(rows["is_fraud"].notna().mean())


def test_a_broken_challenger_is_kept(later, monkeypatch) -> None:
    alter_challenger(monkeypatch, lambda scores: 1 - scores)
    config = with_week(later.root)
    seen = shadowing.settle(config, later)
    assert seen.record["decision"] == "kept champion"
    failed = [row["check"] for row in seen.record["gate"] if not row["passed"]]
    assert failed == ["orders the payments of the shadow as the champion does (rank correlation)"]
    assert seen.said.startswith("the shadow of version 2 is over: demo version 2 stays challenger")
    assert aliases(later) == {"champion": "1", "challenger": "2"}
    assert decided(later)[-1] == ("2", "kept champion")
    assert production.history(later)["version"].tolist() == ["1"]


def test_a_shadow_that_was_cut_off_while_it_was_decided_is_decided_once(later, monkeypatch) -> None:
    config = with_week(later.root)
    promote = tracking.promote

    def fails(*_: Any, **__: Any) -> None:
        raise FraudlabError("no room")

    monkeypatch.setattr(tracking, "promote", fails)
    with pytest.raises(FraudlabError, match="no room"):
        shadowing.settle(config, later)
    monkeypatch.setattr(tracking, "promote", promote)
    assert aliases(later) == {"champion": "1", "challenger": "2", "shadow": "2"}
    assert decided(later)[-1] == ("2", "promoted")
    shadowing.settle(config, later)
    assert aliases(later) == {"champion": "2"}
    assert decided(later) == [("1", "promoted"), ("2", "in shadow"), ("2", "promoted")]
    assert len(records(later, "2")) == 2


@pytest.mark.parametrize(
    ("happened", "said"),
    [
        ("erased", "it is due to be replaced: erasure of 3 customers"),
        ("clock", "the clock or the data went back"),
        ("damaged", "must be exactly what was saved"),
    ],
)
def test_what_ends_a_shadow_keeps_the_champion_with_the_reason(workspace, monkeypatch, happened, said) -> None:
    as_of = None
    if happened == "erased":
        due = [{"name": "demo", "version": "2", "customers": 3, "corrected": 0, "reason": "erasure of 3 customers"}]
        monkeypatch.setattr(tracking, "mark_retrain_due", lambda _: due)
    elif happened == "clock":
        as_of = KNOWN - pd.Timedelta(hours=1)
    else:
        client = tracking.open_store(workspace)
        folder = tracking.package_folder(client, client.get_model_version("demo", "2"))
        (folder / "decision.json").write_text("{}")
    seen = shadowing.settle(small_config(workspace.root), workspace, as_of=as_of)
    assert seen.record["decision"] == "kept champion"
    assert said in seen.record["reason"]
    assert seen.record["would_change"] == [
        f"judged after its days in shadow, if this had not happened: {seen.record['reason']}"
    ]
    assert aliases(workspace) == {"champion": "1", "challenger": "2"}
    assert shadowing.look(small_config(workspace.root), workspace) is None


def test_another_champion_ends_the_shadow_and_a_promotion_by_hand_too(workspace) -> None:
    config = small_config(workspace.root)
    client = tracking.open_store(workspace)
    stands = tracking_decisions.in_shadow(client, "demo")
    production.promote(workspace, "demo", "2", reason="it cannot wait")
    assert aliases(workspace) == {"champion": "2"}
    by_hand = records(workspace, "2")[-1]
    assert (by_hand["by"], by_hand["reason"], by_hand["decision"]) == ("hand", "it cannot wait", "promoted")
    assert by_hand["amends"] == records(workspace, "2")[0]["digest"]
    production.rollback(workspace, "demo", reason="it should have")
    assert [record["reason"] for record in records(workspace, "1")][-1] == "rollback: it should have"
    # Put back into shadow, and the champion of its time exchanged.
    tracking_decisions.begin_shadow(client, "demo", "2", {**stands, "champion": "7"})
    seen = shadowing.settle(config, workspace)
    assert "it stood beside version 7, and the champion is 1 by now" in seen.record["reason"]
    assert aliases(workspace)["champion"] == "1"


def test_a_newer_challenger_takes_the_place_in_shadow_or_waits(workspace) -> None:
    model = load_model(workspace.runs / "demo-two" / "models" / "xgboost")
    thresholds = Thresholds.from_dict(records(workspace, "2")[0]["thresholds"])

    prepared = recipe.prepare(small_config(workspace.root), workspace)

    def challenge(name: str, **changes: Any) -> Run:
        config = small_config(workspace.root, **changes)
        candidate = dataclasses.replace(model, facts={"made": name})
        fitted = recipe.Fitted(config, {"xgboost": candidate}, thresholds, None)
        return registered(workspace, config, fitted, name, prepared)

    decision = challenge("three", gate__shadow_replace=False).load_json("decision")
    assert decision["decision"] == "kept champion"
    assert decision["reasons"] == ["no other version is in shadow: required none, found version 2 until 2026-04-12"]
    assert aliases(workspace) == {"champion": "1", "challenger": "3", "shadow": "2"}
    run = challenge("four")
    assert aliases(workspace) == {"champion": "1", "challenger": "4", "shadow": "4"}
    assert records(workspace, "2")[-1]["reason"] == "version 4 took its place in shadow before its last day, 2026-04-12"
    run.carry_out()  # again, as after a kill
    assert decided(workspace)[-3:] == [("3", "kept champion"), ("4", "in shadow"), ("2", "kept champion")]
    assert [len(records(workspace, version)) for version in "1234"] == [1, 2, 1, 1]


def test_the_commands_tell_of_the_shadow_and_decide_it(later) -> None:
    config = later.runs / "demo-two" / "config.toml"
    run = CliRunner().invoke
    looked = run(app, ["models", "shadow", "demo"])
    assert looked.exit_code == 0, looked.output
    assert "version 2 in shadow: 7 of 7 days are in; it can be decided" in looked.output
    assert "challenger only" in looked.output
    early = run(app, ["models", "shadow", "demo", "--config", str(config), "--as-of", "2026-04-08T12:00Z", "--json"])
    told = json.loads(early.output)
    assert (told["state"], told["days_in"], told["record"]) == ("waiting", 2, None)
    listed = json.loads(run(app, ["models", "list", "--json"]).output)
    assert [row["aliases"] for row in listed] == ["challenger, shadow", "champion"]
    assert "decision: promoted" not in run(app, ["models", "decision", "demo/2"]).output
    ended = run(app, ["models", "shadow", "demo", "--decide"])
    assert "the shadow of version 2 is over: demo version 2 is the champion" in ended.output
    printed = run(app, ["models", "decision", "demo@champion"]).output
    assert "- shadow: 2026-04-06 to 2026-04-12, against version 1" in printed
    assert "Decisions before it: 1" in printed
    shown = json.loads(run(app, ["models", "show", "demo", "--json"]).output)
    assert [each["decision"] for each in shown["decisions"]] == ["in shadow", "promoted"]
    assert "decisions[2].decision" in run(app, ["models", "show", "demo"]).output
    assert "No version of demo is in shadow" in run(app, ["models", "shadow", "demo"]).output
    client = tracking.open_store(later)
    text = client.get_model_version("demo", "2").tags["fraudlab.decision_record.001"]
    client.set_model_version_tag("demo", "2", "fraudlab.decision_record.001", text.replace("in shadow", "promoted"))
    assert "found 1 of 2 of demo version 2 changed since" in str(run(app, ["models", "decision", "demo/2"]).exception)


def test_a_decision_that_was_edited_is_not_carried_out(workspace) -> None:
    run = Run(workspace.runs / "demo-two", small_config(workspace.root), workspace)
    run.save_json("decision", run.load_json("decision") | {"decision": "promoted"})
    with pytest.raises(FraudlabError, match=r"must be as it was made; decision.json of demo-two differs; start anew"):
        run.carry_out()
    assert aliases(workspace)["champion"] == "1"


def test_a_decision_against_another_champion_is_not_carried_out_nor_entered(workspace) -> None:
    run = Run(workspace.runs / "demo-two", small_config(workspace.root), workspace)
    tracking.open_store(workspace).delete_registered_model_alias("demo", "champion")
    with pytest.raises(InputError, match="must still be version 1, which the decision was made against; found none"):
        run.carry_out()
    assert len(decided(workspace)) == 2
