"""The index says of every version and every report what they say themselves."""

from __future__ import annotations

import copy
import re
import runpy
from pathlib import Path

import pytest

from fraudlab import plots
from fraudlab.config import Workspace
from fraudlab.report import read_evidence
from fraudlab.report.differences import facts
from fraudlab.report.index import index_page, write_index
from fraudlab.report.sealing import Examination, Signer, embed, examine, open_signer, seal

write_evidence = runpy.run_path(str(Path(__file__).with_name("evidence_sample.py")))["write_evidence"]
SHELL = '<html lang="en"><body><section><h2>One</h2></section><footer></footer></body></html>'
INTACT = Examination("intact", "Intact.", "k", "this workspace's key")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return facts(read_evidence(write_evidence(tmp_path_factory.mktemp("runs") / "demo") / "evidence"))


def version(number: str, aliases: str = "") -> dict:
    row = {"name": "demo", "version": number, "aliases": aliases, "model": "xgboost", "created": "2026-07-02 10:31"}
    return row | dict.fromkeys(
        ("auc_roc", "average_precision", "card_precision_at_k", "money_caught_share"), float("nan")
    )


def words(html: str) -> str:
    body = html[html.index("<main") : html.index("</main>")]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def test_a_version_s_row_holds_what_its_report_says(told: dict, tmp_path: Path) -> None:
    number = str(told["about"]["version"])
    chinese = copy.deepcopy(told) | {"lang": "zh"}
    (tmp_path / "r.pdf").touch()
    (tmp_path / told["about"]["run"] / "notebooks").mkdir(parents=True)
    (tmp_path / told["about"]["run"] / "notebooks" / "01_ingest.html").touch()
    reports = [(tmp_path / "r.html", told, INTACT), (tmp_path / "r.zh.html", chinese, Examination("altered", ""))]
    html = index_page(reports, [version(number, "champion")], tmp_path)
    said = words(html)
    assert f"demo version {number} champion" in said
    assert told["decision"]["decision"] in said
    mine = {row["metric"]: row for row in told["figures"] if row["candidate"]}
    for metric in ("card_precision_at_k", "average_precision", "auc_roc"):
        assert f"{plots.metric_text(metric, mine[metric]['value'])} " in said
        assert f"{plots.metric_text(metric, mine[metric]['low'])} to" in said
    failed = [check["code"] for check in told["checks"] if check["result"] == "failed"]
    assert f"{len(failed)} of {len(told['checks'])} failed {', '.join(failed)}".strip() in said
    run = told["about"]["run"]
    links = re.findall(r'<a href="([^"]+)">([^<]+)</a>', html[html.index("<main") :])
    assert links == [
        ("r.html", "English"),
        ("r.pdf", "English, PDF"),
        ("r.zh.html", "中文"),
        (f"{run}/notebooks/01_ingest.html", "Notebooks"),
    ]
    assert "English: intact 中文: altered" in said
    assert "Other reports" not in said


def test_versions_without_a_report_and_reports_without_a_version_are_listed(told: dict, tmp_path: Path) -> None:
    other = copy.deepcopy(told)
    other["about"]["version"] = None
    bare = version("9") | {"auc_roc": 0.8711}
    reports = [(tmp_path / "lab.html", other, INTACT), (tmp_path / "old.html", None, Examination("unsigned", ""))]
    said = words(index_page(reports, [bare], tmp_path))
    assert "demo version 9 2026-07-02 10:31 no report here AUC ROC 0.871" in said
    assert f"lab.html demo, run {told['about']['run']}" in said
    assert "old.html made by an earlier fraudlab – not signed" in said
    assert words(index_page([], [], tmp_path)).strip() == "Models No model is registered yet."


def test_the_page_is_made_from_the_files_and_sealed(told: dict, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    signer = open_signer(workspace)
    workspace.reports.mkdir()
    sealed = seal(embed(SHELL, told), signer)
    (workspace.reports / "good.html").write_text(sealed)
    (workspace.reports / "bad.html").write_text(sealed.replace("One", "Two"))
    (workspace.reports / "strange.html").write_text(seal(embed(SHELL, told), Signer(b"\2" * 32)))
    path = write_index(workspace, signer)
    html = path.read_text()
    assert path == workspace.reports / "index.html"
    assert examine(path.read_bytes(), {signer.public: "ours"}).ok
    for name, state in (("good", "intact"), ("bad", "altered"), ("strange", "intact, by an unknown key")):
        assert re.search(rf'<a href="{name}\.html">{name}\.html</a></th>.*<td class="l">{state}</td></tr>', html)
    # Written again it does not list itself, and is the same.
    assert write_index(workspace, signer).read_text() == html
    assert not re.search(r'(src|href)="(?!#|[\w./-]+\.(html|pdf)")', html)
    assert not path.stat().st_mode & 0o077
    assert not workspace.mlruns.exists()


def test_papers_are_linked_where_they_are(told: dict, tmp_path: Path) -> None:
    assert "privacy/summary.html" not in index_page([], [], tmp_path)
    (tmp_path / "privacy").mkdir()
    (tmp_path / "privacy" / "summary.html").touch()
    assert '<a href="privacy/summary.html">Data protection papers</a>' in index_page([], [], tmp_path)
