"""The sections about explanations: every number is that of the table it came from, in both languages."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fraudlab import counterfactuals, plots
from fraudlab.report import read_evidence
from fraudlab.report.blocks import Bullets, Cell, Facts, Figure, Group, Prose, Section, Table
from fraudlab.report.evidence import Evidence
from fraudlab.report.explaining import explanation, robustness
from fraudlab.report.language import plain, speaking

spec = importlib.util.spec_from_file_location("evidence_sample", Path(__file__).with_name("evidence_sample.py"))
sample = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sample)


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return read_evidence(sample.write_evidence(tmp_path_factory.mktemp("run")) / "evidence")


def blocks_of(found: Section | Group) -> Iterator[Any]:
    for block in found.blocks:
        yield block
        if isinstance(block, Group):
            yield from blocks_of(block)


def named(section: Section, caption: str) -> Table:
    return next(block for block in blocks_of(section) if isinstance(block, Table) and plain(block.caption) == caption)


def cells(table: Table) -> list[list[str]]:
    return [[f"{c.text} {c.small}".strip() if isinstance(c, Cell) else c for c in row] for row in table.rows]


def all_text(section: Section) -> str:
    said = []
    for block in blocks_of(section):
        match block:
            case Prose():
                said.append(block.text)
            case Bullets():
                said += block.items
            case Table():
                said += [block.caption, block.note, *block.head, *(cell for row in cells(block) for cell in row)]
            case Facts():
                said += [text for item in block.items for text in item]
            case Figure():
                said += [block.caption]
            case Group():
                said += [block.title]
    return plain(" | ".join(said))


def test_pairs_print_every_row_of_their_table(evidence):
    found = cells(named(explanation(evidence), "The strongest pairs"))
    for row, shown in zip(evidence.interactions.itertuples(), found, strict=True):
        assert shown[0].endswith(row.first)
        assert shown[1].endswith(row.second)
        assert shown[2:] == [f"{row.mean_abs:.3f}", plots.share(row.share)]
    assert "over 200 payments" in all_text(explanation(evidence))
    pictures = [block.picture.alt for block in blocks_of(explanation(evidence)) if isinstance(block, Figure)]
    assert any("up to 2" in alt and "above 2" in alt for alt in pictures)


def test_every_alert_has_its_waterfall_and_what_would_have_changed_it(evidence):
    section = explanation(evidence)
    groups = [block for block in section.blocks if isinstance(block, Group) and "Example alert" in block.title]
    assert len(groups) == len(evidence.alerts) == 5
    for alert, group in zip(evidence.alerts, groups, strict=True):
        lists = [block.items for block in blocks_of(group) if isinstance(block, Bullets)]
        assert lists == [alert["reasons"], alert["would_change"]]  # the report's own wording is that of the evidence
        figures = [block for block in blocks_of(group) if isinstance(block, Figure)]
        assert len(figures) == 1
        assert f"Case {alert['case']}: " in figures[0].picture.alt
        text = all_text(Section("one", "", [group]))
        for change in alert["changes"]:
            assert f"{change['score']:.4g}" in text


def test_fragments_read_as_those_of_the_evidence_for_every_input():
    """One wording in two places, kept together here."""
    from fraudlab.report.explaining import _fragment

    for name, template in counterfactuals.FRAGMENTS.items():
        for after in ("1 hour", "12 hours") if name == "time" else ("72",):
            assert _fragment(name, "274", after) == template.format(before="274", after=after)
            with speaking("zh") as untold:
                assert re.search("[一-鿿]", _fragment(name, "274", after))
            assert not untold


def test_steadiness_prints_its_table_and_hides_the_small(evidence):
    found = {row[0]: row[1:] for row in cells(named(explanation(evidence), "How steady the reasons are"))}
    whole = evidence.reason_stability.set_index(["metric", "group"])
    for label, metric in (
        ("The first reason stays the first", "top_reason_kept"),
        ("Share of the first three reasons that stay", "top_reasons_overlap"),
    ):
        row = whole.loc[(metric, "all")]
        assert found[label] == [
            f"{plots.share(row['value'])} {plots.share(row['low'])} to {plots.share(row['high'])}",
            f"{row['n']:,.0f}",
        ]
    row = whole.loc[("rank_correlation", "all")]
    assert (
        found["Rank correlation of the contributions"][0] == f"{row['value']:.3f} {row['low']:.3f} to {row['high']:.3f}"
    )
    assert found["The first reason stays the first: place"][0].startswith("64.0 %")
    assert found["The first reason stays the first: time"] == ["not shown", "not shown"]


def test_robustness_prints_every_value_and_change(evidence):
    section = robustness(evidence)
    table = named(section, "Robustness to failed inputs")
    found = {row[0]: row[2:] for row in cells(table)}
    names = list(dict.fromkeys(evidence.robustness["metric"]))
    assert [plain(head) for head in table.head[2:]] == ["Precision of the daily cases", "Average precision", "AUC ROC"]
    for row in evidence.robustness.itertuples():
        shown = found[row.scenario[:1].upper() + row.scenario[1:]][names.index(row.metric)]
        if pd.isna(row.value):
            assert shown == "not applicable"
            continue
        value = plots.metric_text(row.metric, row.value)
        change = "" if pd.isna(row.change) else f" {plots.points(row.change)} points "
        ends = "" if not change else f"({plots.points(row.change_low)} to {plots.points(row.change_high)})"
        assert shown == f"{value}{change}{ends}"
    (picture,) = [block.picture for block in section.blocks if isinstance(block, Figure)]
    assert "without amount: by −21.4 points" in picture.alt


def test_older_evidence_without_the_new_tables_says_what_is_absent(evidence):
    older = dataclasses.replace(
        evidence,
        importance=evidence.importance.drop(columns=["low", "high", "n", "note"]),
        interactions=None,
        pair_dependence=None,
        reason_stability=None,
        robustness=None,
        alerts=[{k: v for k, v in alert.items() if k not in ("would_change", "changes")} for alert in evidence.alerts],
    )
    said = all_text(explanation(older))
    for name in ("interactions.csv", "reason_stability.csv"):
        assert f"Not available: {name}" in said
    assert "would have kept" not in said
    assert "Not available: robustness.csv" in all_text(robustness(older))
    bare = dataclasses.replace(older, importance=None, dependence=None, alerts=None)
    for name in ("importance.csv", "dependence.csv", "alerts.json"):
        assert f"Not available: {name}" in all_text(explanation(bare))


def test_not_applicable_tables_give_their_reason(evidence):
    none = "not applicable: interaction values are computed for models of kind xgboost only"
    pairs = pd.DataFrame(
        {"first": [""], "second": [""], "mean_abs": [float("nan")], "share": [float("nan")], "n": [9], "note": [none]}
    )
    steady = evidence.reason_stability.iloc[:1].assign(
        value=float("nan"), note="not applicable: this kind of model has no reasons"
    )
    said = all_text(explanation(dataclasses.replace(evidence, interactions=pairs, reason_stability=steady)))
    assert none.capitalize() in said
    assert "Not applicable: this kind of model has no reasons" in said


def test_chinese_sections_leave_no_sentence_of_the_house_untold(evidence):
    alerts = [{**alert, "reasons_zh": ["金额是平时的 4.8 倍"]} for alert in evidence.alerts]
    with speaking("zh") as untold:
        said = all_text(explanation(dataclasses.replace(evidence, alerts=alerts))) + all_text(robustness(evidence))
    assert untold == set()
    assert "金额为 72 而不是 274" in said
    assert "晚 3 小时" in said
    assert "没有合理的变化会使其低于阈值" in said
    assert "金额是平时的 4.8 倍" in said
    assert "本模型与 3 次在更早时期重新拟合的范围" in said
    assert "95 % interval over payments" not in said


def test_nothing_in_the_sections_changes_between_two_readings(evidence):
    assert all_text(explanation(evidence)) == all_text(explanation(evidence))
    assert json.dumps(evidence.alerts) == json.dumps(evidence.alerts)
