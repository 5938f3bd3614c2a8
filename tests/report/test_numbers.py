"""Every number of the report is one of the evidence, or is worked out from it here a second time."""

from __future__ import annotations

import itertools
import json
import re
import runpy
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fraudlab import plots
from fraudlab.metrics import METRICS
from fraudlab.report import read_evidence, sections
from fraudlab.report.evidence import DOCUMENTS, TABLES, Evidence
from fraudlab.report.limits import control_limits

HERE = Path(__file__).parent
write_evidence = runpy.run_path(str(HERE / "evidence_sample.py"))["write_evidence"]
templates = runpy.run_path(str(HERE / "test_language.py"))["all_templates"]
NUMBER = re.compile(r"[+−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?: %)?")

# Section -> the evidence its numbers come from; the other sections may use all of it.
SOURCES = {
    "summary": ("metrics", "decision", "fold", "run", "checks"),
    "purpose": ("run", "data"),
    "data": (
        "data",
        "run",
        "fold",
        "config",
        "data_quality",
        "daily_volume",
        "label_maturity",
        "label_sources",
        "blind_side",
    ),
    "privacy": ("data", "run", "anonymity", "membership"),
    "method": ("fold", "models", "decision", "config", "features"),
    "features": ("features",),
    "performance": ("metrics", "test_looks", "decision", "daily", "config"),
    "segments": ("segments", "comparison"),
    "comparison": ("comparison",),
    "fairness": ("comparison",),
    "ranking": ("roc", "pr", "metrics"),
    "calibration": ("calibration", "calibration_error"),
    "data-protection": ("data", "run"),
    "reproduce": ("run", "data", "config"),
    "change-log": ("changes", "run", "decision"),
    "sign-off": ("decision", "run"),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return write_evidence(tmp_path_factory.mktemp("runs") / "demo")


@pytest.fixture(scope="module")
def evidence(run) -> Evidence:
    return read_evidence(run / "evidence")


def numbers(text: str) -> set[str]:
    """The numbers of a text, each as it is written, without a sign that is a dash."""
    return {found.strip() for found in NUMBER.findall(text)}


def leaves(value: Any) -> list[Any]:
    """Every plain value in lists and tables."""
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in [key, *leaves(inner)]]
    if isinstance(value, list):
        return [len(value), *(leaf for inner in value for leaf in leaves(inner))]
    return [value]


def written(value: Any) -> set[str]:
    """Every way in which the report may write one value of the evidence."""
    if isinstance(value, bool) or value is None:
        return set()
    if isinstance(value, str):
        return numbers(value) | ({value} if value.replace(".", "").isdigit() else set())
    number = float(value)
    if not np.isfinite(number):
        return set()
    ways = {f"{number:,.{digits}f}" for digits in range(6)} | {f"{number:g}", f"{number:.4g}", f"{number:.6g}"}
    ways |= {f"{number:+,.{digits}f}" for digits in (1, 2, 3, 5)}
    if -3 <= number <= 3:
        ways |= numbers(plots.share(abs(number))) | numbers(plots.points(number)) | {f"{100 * number:.0f} %"}
    return {way.replace("-", "−") for way in ways} | ways


def read(folder: Path, name: str) -> list[Any]:
    if name == "config":
        return leaves(tomllib.loads((folder / "config.toml").read_text(encoding="utf-8")))
    if (path := folder / f"{name}.json").is_file():
        return leaves(json.loads(path.read_text(encoding="utf-8")))
    if (path := folder / f"{name}.csv").is_file():
        table = pd.read_csv(path)
        return [len(table), *table.to_numpy(dtype=object).ravel().tolist()]
    return []


def derived(name: str, e: Evidence) -> list[Any]:
    """What a section may work out of its evidence, worked out here."""
    if name == "summary":
        failed = sum(check["result"] == "failed" for check in e.checks)
        return [len(e.checks), failed, len(sections.limits.found_limitations(e))]
    if name == "data":
        return [e.data["frauds"] / e.data["labelled"], 0.01, 0.99]
    if name == "method":
        shares = [part["frauds"] / part["transactions"] for part in e.fold["parts"]]
        in_time = e.label_maturity["share_frauds_known"][e.label_maturity["days_since_event"] <= 14].max()
        rules = re.findall(
            r"[\d.]+", " ".join(next(m for m in e.models if m["name"] == "rules")["facts"]["params"]["rules"])
        )
        return [*shares, in_time, *map(float, rules), len(e.features), 0.02 * 24 * 60]
    if name == "features":
        return [len(e.features)]
    if name == "privacy":
        hidden = e.segments["note"].str.startswith("not shown").sum()
        quality = e.data_quality["note"].str.startswith("not shown").sum()
        flips = e.comparison["note"].astype("str").str.contains("not shown").sum()
        return [hidden, quality, flips, len(e.data["purpose_columns"])]
    if name == "data-protection":
        columns = e.data["columns"]
        apart = sum(column["treatment"] in ("identity", "drop") for column in columns)
        age = (pd.Timestamp(e.run["created"]) - pd.Timestamp(e.data["first"])).days
        return [len(columns), len(columns) - apart, apart, len(e.data["dropped"]), len(e.data["purpose_columns"]), age]
    if name == "calibration":
        risk = e.stated_risk
        return [*risk[["n", "mean_predicted", "observed", "low", "high"]].to_numpy().ravel(), *range(len(risk) + 1)]
    return [0.8, 1.25] if name == "fairness" else []


def told(block: Any) -> list[str]:
    """What a block says in words and cells; not the text of pictures, which is tested with them."""
    if block.kind == "group":
        return [block.title, *(text for inner in block.blocks for text in told(inner))]
    if block.kind == "table":
        cells = [cell for row in block.rows for cell in row]
        return [block.caption, *block.head, block.note, *(
            text for cell in cells for text in ([cell] if isinstance(cell, str) else [cell.text, cell.small])
        )]  # fmt: skip
    if block.kind == "facts":
        return [text for item in block.items for text in item]
    if block.kind == "bullets":
        return list(block.items)
    if block.kind == "verdict":
        figures = [text for f in block.figures for text in (f.value, f.interval, f.against)]
        return [block.sentence, *block.reasons, *figures]
    if block.kind == "figure":
        return [block.caption]
    return [block.text]


@pytest.fixture(scope="module")
def constants() -> set[str]:
    """The numbers that stand in the sentences of the report's own code."""
    return set().union(*map(numbers, [*templates(), *plots.METRIC_LABELS.values(), *METRICS.values()]))


NOT_OF_HERE = ("limitations", "monitoring")  # tested figure by figure: in test_report.py, and below


def unknown(found: Any, folder: Path, e: Evidence, constants: set[str]) -> list[str]:
    """The numbers of a section that its evidence does not hold."""
    sources = SOURCES.get(found.id, (*DOCUMENTS, *TABLES, "config"))
    values = list(itertools.chain.from_iterable(read(folder, name) for name in sources))
    allowed = constants.union(*(written(value) for value in [*values, *derived(found.id, e)]))
    if found.id not in SOURCES:
        allowed |= {str(number) for number in range(13)}
    names = {f"{name}.{kind}" for name in (*DOCUMENTS, *TABLES) for kind in ("csv", "json")}
    words = {value for value in values if isinstance(value, str)}
    not_there = []
    for block in found.blocks:
        for text in told(block):
            if text in words or text in names or re.fullmatch(r"[0-9a-f]{10,}", text):
                continue
            bare = re.sub(r"\b[A-Za-z_]\w*\b", " ", text)
            not_there += [f"{number!r} in {text!r}" for number in numbers(bare) if not known(number, allowed)]
    return not_there


def known(number: str, allowed: set[str]) -> bool:
    """Whether a number is allowed as it is, or as the part of a date that it is."""
    bare = number.lstrip("+−")
    return any(form in allowed for form in (number, bare, number.removesuffix(" %"), bare.lstrip("0") or "0"))


@pytest.mark.parametrize("section", sections.SECTIONS, ids=lambda section: section.__name__)
def test_every_number_of_a_section_is_in_its_evidence(run, evidence, constants, section):
    found = section(evidence)
    if found.id not in NOT_OF_HERE:
        assert unknown(found, run / "evidence", evidence, constants) == []


def test_numbers_of_other_evidence_are_noticed(run, evidence, constants):
    other = replace(evidence, metrics=evidence.metrics.assign(value=0.9137 * evidence.metrics["value"]))
    found = unknown(sections.results.performance(other), run / "evidence", evidence, constants)
    values = evidence.metrics["value"].notna().sum()
    assert len(found) > 0.6 * values, "a few may be like another number by chance"


# --- the monitoring plan: each limit worked out a second time ------------------------------------------------------


def rows_of(section: Any) -> dict[str, list[str]]:
    table = next(block for block in section.blocks if block.kind == "table")
    return {row[0] if isinstance(row[0], str) else row[0].text: list(row[1:]) for row in table.rows}


def test_monitoring_limits_are_those_of_the_tables(evidence):
    plan = rows_of(sections.limits.monitoring(evidence))
    volume = evidence.daily_volume["transactions"].to_numpy()[-57:-1]
    spread = np.abs(np.diff(volume)).mean() / 1.128
    low, high = volume.mean() - 3 * spread, volume.mean() + 3 * spread
    assert plan["Payments a day"][:2] == [f"{volume.mean():,.0f}", f"below {low:,.0f} or above {high:,.0f}"]
    used = evidence.threshold_outcomes.query("used and period == 'test' and metric == 'alerts_per_day'")["value"].item()
    limits = (
        f"above {used + 3 * used**0.5:,.0f}"
        if used < 9
        else (f"below {used - 3 * used**0.5:,.0f} or above {used + 3 * used**0.5:,.0f}")
    )
    assert plan["Cases a day over the review threshold"][:2] == [f"{used:,.1f}", limits]
    p, n = evidence.metric("xgboost", "card_precision_at_k")["value"], 7 * evidence.decision["alerts_per_day"]
    floor = plots.share(p - 3 * (p * (1 - p) / n) ** 0.5)
    assert plan["Precision of a week's reviews"][:2] == [plots.share(p), f"below {floor}"]
    worst = evidence.stability["psi"].max()
    assert plan["Stability index of each feature and of the score"][:2] == [
        f"up to 0.10; largest in training {worst:.3f}",
        "above 0.25",
    ]
    risk = evidence.stated_risk
    ratio = (risk["n"] * risk["mean_predicted"]).sum() / (risk["n"] * risk["observed"]).sum()
    assert plan["Stated frauds over frauds seen"][:2] == [f"1; in the test {ratio:.2f}", "below 0.80 or above 1.25"]
    row = evidence.metric("xgboost", "average_precision")
    assert plan["Average precision"][:2] == [f"{row['value']:.3f}", f"below {row['low']:.3f}"]


def test_monitoring_without_optional_evidence_still_says_what_to_watch(evidence):
    bare = replace(
        evidence, daily_volume=None, threshold_outcomes=None, stability=None, calibration=None, label_maturity=None
    )
    plan = rows_of(sections.limits.monitoring(bare))
    assert "Payments a day" not in plan
    assert plan["Stated frauds over frauds seen"][0] == "1; in the test –"
    assert plan["Stability index of each feature and of the score"][0] == "up to 0.10; largest in training –"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5.0] * 8, (5.0, 5.0, 5.0)),
        ([5.0] * 7, (np.nan, np.nan, np.nan)),
        ([0.0, 10.0] * 4, (5.0, 0.0, 5 + 3 * 10 / 1.128)),
    ],
    ids=["constant", "too few", "low end at zero"],
)
def test_control_limits_at_their_edges(values, expected):
    assert control_limits(pd.Series(values)) == pytest.approx(expected, nan_ok=True)
