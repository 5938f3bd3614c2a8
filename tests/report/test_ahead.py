"""Pictures are drawn once, ahead where the evidence allows it, and the report is the same to the byte."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from fraudlab import plots
from fraudlab.report import read_evidence, render
from fraudlab.report.making import draw_ahead

write_evidence = runpy.run_path(str(Path(__file__).with_name("evidence_sample.py")))["write_evidence"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_evidence(tmp_path_factory.mktemp("whole")) / "evidence"


@pytest.fixture
def undecided(tmp_path: Path) -> SimpleNamespace:
    run = write_evidence(tmp_path)
    decision = json.loads((run / "evidence" / "decision.json").read_text())
    (run / "evidence" / "thresholds.json").write_text(json.dumps(decision["thresholds"]))
    (run / "evidence" / "decision.json").unlink()
    return SimpleNamespace(evidence=run / "evidence")


def test_the_pictures_of_a_run_that_goes_on_are_those_of_its_report(whole: Path, undecided: SimpleNamespace) -> None:
    pictures: dict = {}
    draw_ahead(undecided, pictures)
    ahead = len(pictures)
    assert ahead > 10
    with plots.keeping(pictures):
        kept = {lang: render(read_evidence(whole), lang) for lang in ("en", "zh")}
    assert len(pictures) - ahead <= 1, (
        "at most what depends on the decision is drawn later, and once for both languages"
    )
    assert kept == {lang: render(read_evidence(whole), lang) for lang in kept}


def test_evidence_that_is_not_there_yet_or_damaged_is_for_the_report_to_refuse(undecided: SimpleNamespace) -> None:
    pictures: dict = {}
    metrics = undecided.evidence / "metrics.csv"
    aside = metrics.rename(undecided.evidence / "aside.csv")
    draw_ahead(undecided, pictures)
    assert not pictures
    aside.rename(metrics)
    (undecided.evidence / "tiers.csv").write_text(
        "tier,action,transactions,frauds,fraud_rate,amount,fraud_amount\nx,y\n"
    )
    draw_ahead(undecided, pictures)
    assert pictures


def test_other_numbers_are_another_picture_and_nothing_is_kept_unasked() -> None:
    table = pd.DataFrame({"days_since_event": [0, 1, 2], "share_known": [0.1, 0.5, 1.0]})
    pictures: dict = {}
    with plots.keeping(pictures):
        one = plots.label_maturity(table)
        assert plots.label_maturity(table.copy()) is one
        assert plots.label_maturity(table.assign(share_known=[0.1, 0.6, 1.0])) is not one
    assert plots.label_maturity(table) is not one
    assert len(pictures) == 2
