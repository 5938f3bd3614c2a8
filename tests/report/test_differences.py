"""What two reports say of each other: every difference of the evidence, nothing else, and no altered report."""

from __future__ import annotations

import copy
import json
import runpy
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from fraudlab.cli import app
from fraudlab.report import read_evidence
from fraudlab.report.differences import ABSENT, TITLES, compare, differences_page, facts, headline
from fraudlab.report.sealing import Signer, embed, seal
from fraudlab.schema import InputError

write_evidence = runpy.run_path(str(Path(__file__).with_name("evidence_sample.py")))["write_evidence"]
SHELL = '<html lang="en"><body><section><h2>One</h2></section><footer></footer></body></html>'
OURS = Signer(b"\1" * 32)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_evidence(tmp_path_factory.mktemp("runs") / "demo")


@pytest.fixture(scope="module")
def told(run: Path) -> dict:
    return facts(read_evidence(run / "evidence"))


@pytest.fixture
def other(told: dict) -> dict:
    """The same facts, to be changed."""
    return copy.deepcopy(told)


def rows(table: pd.DataFrame) -> list[list[str]]:
    return table.to_numpy().tolist()


def test_the_facts_are_those_of_the_evidence(run: Path, told: dict) -> None:
    metrics = pd.read_csv(run / "evidence" / "metrics.csv")
    overall = metrics[metrics["group"].isna() | metrics["group"].isin(["", "all"])]
    assert len(told["figures"]) == len(overall)
    for row in told["figures"]:
        found = overall[(overall["model"] == row["model"]) & (overall["metric"] == row["metric"])].iloc[0]
        for name in ("value", "low", "high"):
            assert row[name] == pytest.approx(found[name], rel=1e-8) if row[name] is not None else pd.isna(found[name])
    assert sum(row["candidate"] for row in told["figures"]) == (overall["model"] == "xgboost").sum()
    about = json.loads((run / "evidence" / "run.json").read_text())
    assert told["digests"]["config"] == about["config_digest"]
    assert told["about"]["run"] == about["run_id"]
    assert set(told["features"]) == set(pd.read_csv(run / "evidence" / "features.csv")["column"])
    assert told["config"]["dataset.contract"] == "configs/contracts/demo.toml"
    assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_a_report_does_not_differ_from_itself(told: dict) -> None:
    tables = compare(told, told)
    assert list(tables) == list(TITLES)
    assert all(table.empty for name, table in tables.items() if name != "figures")
    assert (tables["figures"]["change"].isin(["0", ABSENT])).all()
    assert headline(tables, told, told).endswith(
        "0 by more than their intervals; config, features, checks and digests are the same."
    )


def test_every_kind_of_difference_is_found(told: dict, other: dict) -> None:
    first = next(iter(other["features"]))
    del other["features"][first]
    other["features"]["new_one"] = "a new one"
    other["config"]["seed"] = 8
    other["config"]["split.train_days"] = 61
    other["decision"]["decision"] = "rejected"
    other["digests"]["data"] = "f" * 64
    other["data"]["rows"] += 1
    other["versions"]["pandas"] = "9.9"
    other["settings"]["params.max_depth"] = 5
    other["gate"][0] |= {"passed": False, "found": "0.1"}
    other["checks"] = [{"code": "FL099", "title": "New", "severity": "informs", "result": "failed", "sentence": "s"}]
    tables = compare(told, other)
    assert rows(tables["features"]) == [[first, told["features"][first], ABSENT], ["new_one", ABSENT, "a new one"]]
    assert ["seed", "7", "8"] in rows(tables["config"])
    assert ["split.train_days", str(told["config"].get("split.train_days", ABSENT)), "61"] in rows(tables["config"])
    assert rows(tables["about"]) == [["decision", told["decision"]["decision"], "rejected"]]
    assert rows(tables["digests"]) == [["data", told["digests"]["data"], "f" * 64]]
    assert rows(tables["data"]) == [["rows", f"{told['data']['rows']:,}", f"{other['data']['rows']:,}"]]
    assert rows(tables["versions"]) == [["pandas", told["versions"]["pandas"], "9.9"]]
    assert rows(tables["settings"]) == [["params.max_depth", "4", "5"]]
    assert len(tables["gate"]) == 1
    assert tables["gate"]["after"].iloc[0].startswith("failed: 0.1")
    assert ["FL099 New", ABSENT, "failed"] in rows(tables["checks"])
    said = headline(tables, told, other)
    assert f"{told['decision']['decision']}, then rejected" in said
    assert "2 keys of the config, 2 features" in said


@pytest.mark.parametrize(
    ("before", "after", "change", "intervals"),
    [
        ((0.50, 0.40, 0.60), (0.55, 0.45, 0.65), "+5.00 points", "overlap"),
        ((0.50, 0.40, 0.60), (0.80, 0.70, 0.90), "+30.0 points", "apart"),
        ((0.50, 0.40, 0.60), (0.70, 0.60, 0.80), "+20.0 points", "overlap"),  # they touch
        ((0.80, 0.70, 0.90), (0.50, 0.40, 0.60), "−30.0 points", "apart"),
        ((0.50, None, None), (0.55, 0.45, 0.65), "+5.00 points", "none"),
        ((None, None, None), (0.55, 0.45, 0.65), ABSENT, "none"),
        ((0.50, 0.40, 0.60), (0.50, 0.40, 0.60), "0", "overlap"),
    ],
)
def test_a_figure_s_change_and_whether_intervals_meet(told: dict, before, after, change: str, intervals: str) -> None:
    def with_figure(values: tuple) -> dict:
        row = {"model": "m", "label": "M", "candidate": True, "metric": "recall_at_budget"}
        return told | {"figures": [row | dict(zip(("value", "low", "high"), values, strict=True))]}

    table = compare(with_figure(before), with_figure(after))["figures"]
    assert (table["change"].iloc[0], table["intervals"].iloc[0]) == (change, intervals)


def test_the_page_holds_every_row(told: dict, other: dict) -> None:
    other["config"]["seed"] = 8
    other["digests"]["code"] = "e" * 64
    tables = compare(told, other)
    html = differences_page(tables, told, other)
    assert html.count("No difference.") == sum(table.empty for table in tables.values())
    assert '<th scope="row" class="l">seed</th><td class="l">7</td><td class="l">8</td>' in html
    assert "eeeeeeeeeeeeeeee eeeeeeeeeeeeeeee" in html
    assert "<script" not in html
    assert 'href="http' not in html


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def files(told: dict, other: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.setenv("FRAUDLAB_HOME", str(tmp_path / "home"))
    other["config"]["seed"] = 8
    paths = tmp_path / "a.html", tmp_path / "b.html"
    for path, each in zip(paths, (told, other), strict=True):
        path.write_text(seal(embed(SHELL, each), OURS))
    return paths


def call(*words: object):
    return CliRunner().invoke(app, ["report", "diff", *map(str, words)])


def test_the_command_compares_two_files(files: tuple[Path, Path], tmp_path: Path) -> None:
    result = call(*files)
    assert result.exit_code == 0, result.output
    assert "\nConfig\n" in result.output
    assert "seed" in result.output
    told = json.loads(call(*files, "--json").output)
    assert told["config"] == [{"what": "seed", "before": "7", "after": "8"}]
    assert call(*files, "--out", tmp_path / "d.html").exit_code == 0
    assert "<h1>" in (tmp_path / "d.html").read_text()
    call(*files, "--out", tmp_path / "d.json")
    assert json.loads((tmp_path / "d.json").read_text()) == told


def test_altered_unsigned_and_older_reports_are_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    def refusal(*words: object) -> str:
        error = call(*words).exception
        assert isinstance(error, InputError)
        return str(error)

    before, after = files
    after.write_text(after.read_text().replace("<h2>One", "<h2>Two"))
    said = refusal(before, after)
    assert said.startswith("report b.html: must be as it was signed. Altered since key")
    assert said.endswith("--force compares it all the same")
    assert call(before, after, "--force").exit_code == 0
    (tmp_path / "old.html").write_text(SHELL)
    assert "Unsigned" in refusal(tmp_path / "old.html", after)
    assert "must hold facts for programs; found none (it was made by an earlier fraudlab)" in refusal(
        before, tmp_path / "old.html", "--force"
    )
    assert refusal(before, tmp_path / "none.html") == "report: no file at none.html; check its name"
    assert "out: must end in .html or .json; found 'd.xml'" in refusal(*files, "--out", tmp_path / "d.xml")
    assert refusal(before, "norun").startswith("run: no run 'norun'")
