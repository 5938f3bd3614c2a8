"""Random checks: drawn by a key, each with its chance, listed without a mark, and counted when they come back."""

from __future__ import annotations

import hmac
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from fraudlab import survey
from fraudlab.casework.drawing import days_to_draw, draw_cases
from fraudlab.casework.export import export_queue
from fraudlab.casework.facts import case_facts
from fraudlab.casework.queue import list_cases, queue_table
from fraudlab.casework.sheet import case_sheet
from fraudlab.cli import app
from fraudlab.config import RunConfig, Workspace
from fraudlab.datasets import dataset_facts, load_transactions
from fraudlab.datasets.blindside import _estimates, blind_side, label_sources
from fraudlab.datasets.companions import CASES, OUTCOMES, companion_rows
from fraudlab.datasets.labelling import import_outcomes, record_outcome
from fraudlab.datasets.maturity import SOURCES, maturity_by_source
from fraudlab.metrics import wilson
from fraudlab.plots import maturity_by_source as drawn_maturity
from fraudlab.privacy.keys import KeyDirectory
from fraudlab.privacy.vault import Vault
from fraudlab.tracking import registered_package

DAY = pd.Timedelta(days=1)
BEGIN = pd.Timestamp("2026-03-01", tz="UTC")


def exploring(config: RunConfig, per_day: int = 2) -> RunConfig:
    return config.model_copy(update={"decision": config.decision.model_copy(update={"explore_per_day": per_day})})


def vault_of(workspace: Workspace) -> Vault:
    return Vault(workspace.vault, KeyDirectory(workspace.keys))


def payments(days: int, cases: int) -> tuple[pd.Series, pd.Series, np.ndarray]:
    """Two payments a day of each customer, scores falling from the first customer to the last."""
    place = np.arange(days * cases * 2)
    day, who = place // (2 * cases), place % cases
    time = pd.Series(BEGIN + pd.to_timedelta(day * 24 + place % 23, unit="h"))
    return time, pd.Series([f"c{each:02d}" for each in who]), 1 - who / cases + (place % 2) / 1000


class FixedKeys:
    """Keys that are the same in every run, so that what a draw by chance shows is too."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def hmac(self, name: str, message: bytes) -> bytes:
        return hmac.digest(self._key, name.encode() + message, "sha256")


def test_draws_hang_on_the_key_and_the_day_and_keep_the_chances() -> None:
    time, who, score = payments(120, 20)
    listed = np.isin(who, ["c00", "c01"])
    days = pd.date_range(BEGIN, periods=120, tz="UTC")
    given = {"listed": listed, "per_day": 1, "days": days, "dataset": "demo"}
    keys = FixedKeys(b"one")
    rows, chance = draw_cases(time, who, score, **given, keys=keys)
    again = draw_cases(time, who, score, **given, keys=keys)
    assert rows.tolist() == again[0].tolist()
    other = draw_cases(time, who, score, **given, keys=FixedKeys(b"two"))
    assert rows.tolist() != other[0].tolist(), "whoever has no key cannot know"
    some = draw_cases(time, who, score, **given | {"dataset": "another"}, keys=keys)
    assert rows.tolist() != some[0].tolist()
    drawn = pd.DataFrame({"day": time.iloc[rows].dt.floor("D"), "who": who.iloc[rows], "chance": chance})
    assert not set(drawn["who"]) & {"c00", "c01"}, "listed cases are not drawn from"
    assert (drawn.groupby("day")["who"].nunique() == 1).all()
    assert len(drawn) == 240, "all payments of a drawn case"
    expected = survey.chances_by_rank(1 - np.arange(2, 20) / 20, 1)
    chances = drawn.drop_duplicates("who").set_index("who")["chance"]
    assert len(chances) > 12, "some are seldom drawn, and perhaps not in these days"
    assert chances.to_dict() == pytest.approx({who: expected[int(who[1:]) - 2] for who in chances.index})
    often = drawn["who"].value_counts().reindex([f"c{each:02d}" for each in range(2, 20)], fill_value=0) / 2
    spread = np.sqrt(120 * expected * (1 - expected))
    assert (np.abs(often.to_numpy() - 120 * expected) < 4 * spread).all()
    assert draw_cases(time, who, score, **given | {"per_day": 0}, keys=keys)[0].size == 0
    assert draw_cases(time, who, score, **given | {"days": days[:0]}, keys=keys)[0].size == 0
    assert draw_cases(time, who, score, **given | {"listed": listed | True}, keys=keys)[0].size == 0


def test_only_whole_days_that_were_not_drawn_are_drawn_for() -> None:
    none = pd.Series([], dtype="datetime64[us, UTC]"), pd.Series([], dtype="float64")
    assert len(days_to_draw(BEGIN + pd.Timedelta(hours=1), BEGIN + DAY, *none)) == 0
    assert days_to_draw(BEGIN, BEGIN + 2 * DAY, *none).tolist() == [BEGIN, BEGIN + DAY]


@pytest.fixture(scope="module")
def once(made: Path, tmp_path_factory: pytest.TempPathFactory, config: RunConfig, as_of: pd.Timestamp) -> Path:
    root = tmp_path_factory.mktemp("drawing") / "home"
    shutil.copytree(made, root)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FRAUDLAB_KEYS", raising=False)
        done = list_cases(exploring(config), Workspace(root), as_of=as_of)
    assert done["drawn"] == 14
    assert done["new"] == 14
    return root


@pytest.fixture
def explored(once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.delenv("FRAUDLAB_KEYS", raising=False)
    shutil.copytree(once, tmp_path / "home")
    monkeypatch.setenv("FRAUDLAB_HOME", str(tmp_path / "home"))
    return Workspace(tmp_path / "home")


def drawn_of(workspace: Workspace) -> pd.DataFrame:
    rows = companion_rows(vault_of(workspace), "demo", CASES)
    return rows[rows["chance"].notna()]


def test_what_is_drawn_stands_in_the_queue_without_a_mark(
    explored: Workspace, config: RunConfig, as_of: pd.Timestamp, tmp_path
) -> None:
    drawn = drawn_of(explored)
    assert (drawn["action"] == "manual_review").all()
    assert drawn.groupby(drawn["event_time"].dt.floor("D"))["alert_id"].nunique().tolist() == [2] * 7
    known = load_transactions("demo", purpose="case-investigation", as_of=as_of, workspace=explored)
    for _, case in drawn.groupby("alert_id"):
        day = case["event_time"].iloc[0].floor("D")
        own = known[(known["customer_id"] == case["customer_id"].iloc[0]) & (known["event_time"].dt.floor("D") == day)]
        assert set(own["transaction_id"]) == set(case["transaction_id"]), "the whole case"
        assert case["chance"].nunique() == 1
    before = companion_rows(vault_of(explored), "demo", CASES)
    assert list_cases(exploring(config, 5), explored, as_of=as_of)["drawn"] == 0, "a day is drawn once"
    pd.testing.assert_frame_equal(companion_rows(vault_of(explored), "demo", CASES), before)
    table = queue_table("demo", explored, blind=True, open_only=False)
    assert set(drawn["alert_id"]) < set(table["alert_id"])
    assert table["risk"].isna().all()
    assert not any(table[name].astype(bool).any() for name in ("tier", "action", "rules"))
    for _, rows in table.groupby("day"):
        assert rows["alert_id"].is_monotonic_increasing
    for form in ("csv", "html"):
        export_queue(table, tmp_path / f"q.{form}", dataset="demo", workspace=explored)
        told = (tmp_path / f"q.{form}").read_text(encoding="utf-8-sig")
        assert "random" not in told
        assert "Stated risk" not in told
        assert "manual_review" not in told
    case = case_facts(drawn["alert_id"].iloc[0], "demo", explored)
    for lang in ("en", "zh"):
        assert case.alert_id in case_sheet(case, lang)
    assert "An investigator looks at the case the same day" in case_sheet(case)


def test_outcomes_of_drawn_cases_know_that_they_were_drawn(explored: Workspace) -> None:
    drawn = drawn_of(explored)
    code = drawn["alert_id"].iloc[0]
    chosen = queue_table("demo", explored)["alert_id"]
    other = chosen[~chosen.isin(drawn["alert_id"])].iloc[0]
    # Whatever the bearer of the sheet says.
    done = record_outcome("demo", code, "genuine", decided_at="2026-04-07", source="review", workspace=explored)
    assert done["random"] == done["new"] == (drawn["alert_id"] == code).sum()
    record_outcome("demo", other, "fraud", decided_at="2026-04-07", workspace=explored)
    held = companion_rows(vault_of(explored), "demo", OUTCOMES).set_index("alert_id")
    assert set(held.loc[[code], "source"]) == {"random"}
    assert held.loc[[code], "chance"].tolist() == drawn.loc[drawn["alert_id"] == code, "chance"].tolist()
    assert set(held.loc[[other], "source"]) == {"review"}
    assert held.loc[[other], "chance"].isna().all()
    facts = dataset_facts("demo", "fraud-model-training", workspace=explored)
    table = label_sources(facts, workspace=explored)
    by = table[table["metric"] == "label_share"].set_index("group")["n"]
    assert by["random"] == done["new"]
    assert by["review"] == (held["source"] == "review").sum()
    assert by.sum() == facts["rows"]
    looked = table[table["metric"] == "looked_at"].set_index("group")
    assert looked.loc["not listed", "value"] == pytest.approx(done["new"] / looked.loc["not listed", "n"])
    assert label_sources(facts, as_of=BEGIN, workspace=explored)["n"].iloc[2:5].sum() == 0, "not known by then"


def test_the_blind_side_is_estimated_as_by_hand(explored: Workspace) -> None:
    drawn = drawn_of(explored)
    first = blind_side("demo", workspace=explored).set_index("metric")
    assert first.loc["random_checks", "n"] == 14
    source = load_transactions("demo", purpose="case-investigation", workspace=explored)
    frauds = set(source.loc[source["is_fraud"].fillna(False).astype(bool), "transaction_id"])
    open_ones = [c for c, rows in drawn.groupby("alert_id") if not frauds & set(rows["transaction_id"])]
    filled = [f"{code},{'genuine' if place else 'fraud'},2026-04-07" for place, code in enumerate(open_ones)]
    sheet = explored.root / "filled.csv"
    sheet.write_text("\n".join(["alert_id,outcome,decided_at", *filled]), encoding="utf-8")
    assert import_outcomes("demo", sheet, workspace=explored)["random"] > 0
    table = blind_side("demo", workspace=explored).set_index("metric")
    cases = drawn.drop_duplicates("alert_id").set_index("alert_id")
    hit = [c for c in cases.index if c == open_ones[0] or c not in open_ones]
    weights = 1 / cases["chance"]
    total, low, high = survey.weighted_total(weights[hit], most=weights.max())
    assert table.loc["hidden_frauds", ["value", "low", "high"]].tolist() == pytest.approx([total, low, high])
    assert table.loc["frauds_found", "value"] == len(hit)
    assert table.loc["frauds_per_10000", "value"] == pytest.approx(1e4 * total / weights.sum())
    assert "7 days" in table.loc["hidden_frauds", "note"]
    told = CliRunner().invoke(app, ["labels", "blind-side"])
    assert told.exit_code == 0
    assert f"{total:,.1f}" in told.output
    plain = json.loads(CliRunner().invoke(app, ["labels", "blind-side", "--json"]).output)
    assert {row["metric"]: row["value"] for row in plain}["hidden_frauds"] == pytest.approx(total)


def test_estimates_by_hand_and_at_their_limits() -> None:
    drawn = pd.DataFrame(
        {"day": BEGIN, "chance": [0.5, 0.1, 0.1], "fraud": [True, False, False], "decided": [True, True, False]}
    )
    listed = pd.DataFrame({"fraud": [True, True, False, False], "decided": [True, True, True, False]})
    found = {row[0]: row[3:7] for row in _estimates(drawn, listed)}
    # The undecided one's 10 goes to the two decided: 12 stand for 22.
    total = 2 * 22 / 12
    assert found["hidden_frauds"][0] == pytest.approx(total)
    queue = 2 * 4 / 3
    assert found["queue_recall"][0] == pytest.approx(queue / (queue + total))
    low, high = wilson(np.array(2.0), np.array(3))
    assert found["queue_precision"] == pytest.approx((2 / 3, float(low), float(high), 3))
    nothing = {row[0]: row for row in _estimates(drawn.assign(decided=False, fraud=False), listed.iloc[:0])}
    assert nothing["frauds_per_10000"][-1].startswith("not available: none of 3 random checks is decided yet")
    assert nothing["queue_precision"][-1] == "not available: no listed case of these days is decided"
    none = {row[0]: row for row in _estimates(drawn.assign(fraud=False), listed.assign(fraud=False))}
    assert none["hidden_frauds"][3] == 0
    assert none["hidden_frauds"][5] > 0
    assert none["queue_recall"][-1].startswith("not applicable: no fraud is known")


def test_maturity_is_told_source_by_source(explored: Workspace, tmp_path) -> None:
    drawn = drawn_of(explored)
    codes = list(dict.fromkeys(drawn["alert_id"]))
    for code in codes[:2]:
        record_outcome("demo", code, "genuine", decided_at="2026-04-06 12:00", workspace=explored)
    table = maturity_by_source("demo", as_of=pd.Timestamp("2026-04-20", tz="UTC"), workspace=explored)
    by = table.groupby("source")
    assert set(by.groups) == {"source", "review", "random"}
    assert by["n"].first()["random"] == 14
    assert by["share"].last()["random"] < 1, "twelve wait"
    assert by["share"].last()["source"] == 1
    assert ((table["low"] <= table["share"]) & (table["share"] <= table["high"])).all()
    picture = drawn_maturity(table, SOURCES)
    assert "Frauds reported by the source: half within" in picture.alt
    assert picture.svg() == drawn_maturity(table, SOURCES).svg()
    empty = drawn_maturity(table.iloc[:0], SOURCES)
    assert "No fraud is reported and no case is listed yet" in empty.alt
    out = tmp_path / "maturity.svg"
    done = CliRunner().invoke(app, ["labels", "maturity", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert out.read_text(encoding="utf-8").startswith("<svg")
    wrong = CliRunner().invoke(app, ["labels", "maturity", "--out", str(tmp_path / "x.doc")])
    assert wrong.exception is not None


def test_without_random_checks_the_blind_side_says_what_to_do(workspace: Workspace) -> None:
    table = blind_side("demo", workspace=workspace)
    assert len(table) == 1
    assert "not available: no random checks yet; set decision.explore_per_day" in table["note"].iloc[0]


def test_an_empty_queue_says_why(workspace: Workspace, config: RunConfig, as_of: pd.Timestamp, monkeypatch) -> None:
    late = list_cases(config, workspace, since=as_of + 5 * DAY, as_of=as_of + 9 * DAY)
    assert late["payments"] == late["cases"] == 0
    assert "the newest payment that may be scored is of 2026-04-05, before the first day asked for" in late["why"]

    def high(*given: str) -> tuple:
        name, version, package = registered_package(*given)
        object.__setattr__(package.thresholds, "review", 2.0)
        return name, version, package

    monkeypatch.setattr("fraudlab.casework.queue.registered_package", high)
    none = list_cases(config, workspace, as_of=as_of)
    assert "payments reaches the model's review threshold" in none["why"]
    monkeypatch.undo()
    monkeypatch.setenv("FRAUDLAB_HOME", str(workspace.root))

    def old(*given: object) -> pd.DataFrame:
        frame = load_transactions("demo", purpose="fraud-detection", as_of=as_of, workspace=workspace).iloc[:0]
        frame.attrs |= {"past_retention": 40_000, "left_out": {"customers": 1, "rows": 7, "why": {}}}
        return frame

    monkeypatch.setattr("fraudlab.casework.queue.load_for_scoring", old)
    gone = list_cases(config, workspace)
    assert "no payment may be scored for the purpose 'fraud-detection': 40,000 are older than the" in gone["why"]
    assert "and 7 are of customers who do not allow it" in gone["why"]
