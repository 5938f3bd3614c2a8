"""The checks section prints what checks.json and its tables hold; each number leads to its guide entry in the file."""

from __future__ import annotations

import json
import re
import runpy
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fraudlab.checks import CHECKS
from fraudlab.checks.guide import entry
from fraudlab.report import checking, read_evidence, render
from fraudlab.report.blocks import Cell, Group, Section, Table
from fraudlab.report.language import plain, speaking

write_evidence = runpy.run_path(str(Path(__file__).with_name("evidence_sample.py")))["write_evidence"]
RESULTS = ["passed", "failed", "not applicable"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Evidence with every check answered, one of them waived, and the tables of three."""
    folder = write_evidence(tmp_path_factory.mktemp("runs") / "demo") / "evidence"
    records = [
        {
            "code": code,
            "title": check.title,
            "severity": check.severity,
            "result": RESULTS[place % 3],
            "sentence": f"{code} said so.",
            "waived": "A. Person: a book example" if code == "FL014" else "",
        }
        for place, (code, check) in enumerate(CHECKS.items())
    ]
    assert records[13]["result"] == "failed"
    (folder / "checks.json").write_text(json.dumps(records))
    rng = np.random.default_rng(0)
    parts = [(metric, part) for metric in ("auc_roc", "average_precision") for part in ("training", "test", "loss")]
    loss = pd.DataFrame(parts, columns=["metric", "part"])
    loss = loss.assign(value=rng.random(6), low=[0.1, 0.1, -0.0002, 0.1, 0.1, 0.1], high=0.9, n=900, note="")
    loss.to_csv(folder / "check_FL008.csv", index=False)
    names = read_evidence(folder).features["column"].tolist()
    drift = pd.DataFrame({"feature": names, "psi": rng.random(len(names)), "reading": "stable", "note": ""})
    drift.to_csv(folder / "check_FL010.csv", index=False)
    noise = pd.DataFrame(
        {"feature": [*names, "x, shuffled"], "importance": np.linspace(1, 0.2, len(names) + 1), "planted": False}
    )
    noise["planted"] = noise["feature"].eq("x, shuffled")
    noise["reading"] = np.where(noise["planted"], "planted", "above noise")
    noise.assign(rank=range(1, len(noise) + 1)).to_csv(folder / "check_FL020.csv", index=False)
    return folder


def tables(section: Section) -> dict[str, Table]:
    found = [inner for block in section.blocks for inner in (block.blocks if isinstance(block, Group) else [block])]
    return {block.caption: block for block in found if isinstance(block, Table)}


def words(cell: str | Cell) -> tuple[str, str]:
    return (cell.text, cell.small) if isinstance(cell, Cell) else (cell, "")


def test_every_check_stands_with_symbol_word_severity_and_sentence(folder: Path) -> None:
    section = checking.checks(read_evidence(folder))
    rows = tables(section)["The numbered checks"].rows
    known = json.loads((folder / "checks.json").read_text())
    assert len(rows) == len(known) == len(CHECKS)
    signs = {"passed": "✓ passed", "failed": "✗ failed", "not applicable": "○ not applicable"}
    for row, check in zip(rows, known):
        assert (row[0].text, row[0].link) == (check["code"], f"#check-{check['code']}")
        assert words(row[1]) == (check["title"], check["severity"])
        waived = bool(check["waived"])
        assert row[2].text == ("◇ failed, waived" if waived else signs[check["result"]])
        assert words(row[3]) == (check["sentence"], f"Waived: {check['waived']}" if waived else "")
    tones = {row[0].text: row[2].tone for row in rows}
    assert [tones[code] for code in ("FL001", "FL002", "FL003", "FL005", "FL014")] == [
        "good",
        "hold",
        "none",
        "bad",
        "hold",
    ]
    held = [code for code, tone in tones.items() if tone == "bad"]
    counts = Counter(check["result"] for check in known)
    said = ", ".join(f"{counts[result]} {result}" for result in ("passed", "failed", "not applicable"))
    assert section.blocks[0].text == (
        f"{len(CHECKS)} questions were asked: {said}. These hold the model back: {', '.join(held)}."
    )


def test_every_link_of_a_check_leads_to_its_guide_entry_in_the_same_file(folder: Path) -> None:
    html = render(read_evidence(folder))
    links = re.findall(r'href="#(check-FL\d{3})"', html)
    assert links == [f"check-{code}" for code in CHECKS]
    for link in links:
        assert html.count(f'id="{link}"') == 1
    for code in CHECKS:
        shown = re.search(f'id="check-{code}">.*?</dl>', html, re.DOTALL)
        said = " ".join(re.sub("<[^>]+>|&#3[49];|&quot;", "", shown.group(0)).split())
        whole = re.sub("[`\"']", "", entry(code).why)
        assert whole in said


def test_the_tables_behind_the_checks_hold_the_evidence(folder: Path) -> None:
    found = tables(checking.checks(read_evidence(folder)))
    loss = pd.read_csv(folder / "check_FL008.csv").set_index(["metric", "part"])
    rows = found["The candidate on what it learnt from and on later payments"].rows
    for row, metric in zip(rows, ("auc_roc", "average_precision"), strict=True):
        for cell, part in zip(row[1:], ("training", "test", "loss"), strict=True):
            value, low, high = loss.loc[(metric, part), ["value", "low", "high"]]
            low = 0.0 if abs(low) < 0.0005 else low
            assert words(cell) == (f"{value:.3f}", f"{low:.3f} to {high:.3f}")
    drift = pd.read_csv(folder / "check_FL010.csv").sort_values("psi", ascending=False)
    rows = found["Values of the test against those of the training"].rows
    assert [row[1] for row in rows] == [f"{psi:.3f}" for psi in drift["psi"].head(checking.MOST)]
    noise = pd.read_csv(folder / "check_FL020.csv")
    rows = found["The first features beside planted noise"].rows
    assert [row[1] for row in rows] == [str(n + 1) for n in range(min(checking.MOST, len(noise) - 1))]
    assert rows[0][2] == f"{100 / noise['importance'].sum():.1f} %"


def test_what_a_run_did_not_ask_is_said(tmp_path: Path, folder: Path) -> None:
    for file in folder.iterdir():
        if not file.name.startswith("check"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    evidence = read_evidence(tmp_path)
    said = str(checking.checks(evidence))
    for name in ("checks.json", "check_FL008.csv", "check_FL010.csv", "check_FL020.csv"):
        assert f"Not available: {name}" in said
    assert len(checking.check_guide(evidence).blocks) == 1 + len(CHECKS)
    record = {"code": "FL020", "title": "t", "severity": "informs", "result": "not applicable", "sentence": "No noise."}
    (tmp_path / "checks.json").write_text(json.dumps([record]))
    assert "No noise." in str(checking.checks(read_evidence(tmp_path)).blocks[-1])


def test_in_chinese_titles_results_and_guide_are_chinese(folder: Path) -> None:
    evidence = read_evidence(folder)
    with speaking("zh") as untold:
        section, guide = checking.checks(evidence), checking.check_guide(evidence)
    assert not untold
    rows = tables(section)["编号检查"].rows
    assert words(rows[5][1]) == ("标签已有足够时间得到确认", "阻止上线")
    assert rows[13][2].text == "◇ 未通过，已豁免"
    assert plain(rows[13][3].small) == "豁免理由：A. Person: a book example"
    assert guide.blocks[6].title == "FL006 标签已有足够时间得到确认"
