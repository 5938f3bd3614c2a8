"""The index of all models and reports: one page, read from the reports themselves and from the registry."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fraudlab import plots, tracking
from fraudlab.config import Workspace
from fraudlab.report.blocks import Cell
from fraudlab.report.language import NAMES
from fraudlab.report.pages import Grid, Link, Part, page
from fraudlab.report.sealing import Examination, Signer, embedded, examine, known_keys, seal
from fraudlab.runs import write_whole

INDEX = "index.html"
KEY_METRICS = ("card_precision_at_k", "money_caught_share", "average_precision", "auc_roc")
_SEAL = {"intact": "intact", "altered": "altered", "unsigned": "not signed"}
_PAPERS = (("privacy/summary.html", "Data protection papers"),)


def write_index(workspace: Workspace, signer: Signer | None = None) -> Path:
    """Write `reports/index.html`: every registered version and every report, with its seal looked at.

    Parameters
    ----------
    workspace : its reports, its registry and its keys are read; none is made.
    signer : seals the page.

    Returns
    -------
    The page.
    """
    known = known_keys(workspace)
    told = [_told(path, known) for path in sorted(workspace.reports.glob("*.html")) if path.name != INDEX]
    versions = _versions(workspace)
    html = index_page(told, versions, workspace.reports)
    path = workspace.reports / INDEX
    write_whole(path, html if signer is None else seal(html, signer))
    return path


def index_page(
    reports: list[tuple[Path, dict[str, Any] | None, Examination]], versions: list[dict[str, Any]], folder: Path
) -> str:
    """Return the index as a page: registered versions with their newest report, then reports without a version.

    Parameters
    ----------
    reports : file, its facts (None where it has none), and what its seal shows.
    versions : rows of `tracking.models_table`.
    folder : where the page will lie; links are relative to it.
    """
    by_version: dict[tuple[str, str], list[tuple[Path, dict[str, Any], Examination]]] = {}
    others = []
    registered = {(row["name"], row["version"]) for row in versions}
    for path, facts, found in reports:
        key = None if facts is None else (facts["about"]["model"], str(facts["about"]["version"]))
        if key in registered:
            by_version.setdefault(key, []).append((path, facts, found))
        else:
            others.append((path, facts, found))
    rows = []
    for row in versions:
        # A run made anew may have registered a later version from the same place; the newest report speaks.
        mine = sorted(by_version.get((row["name"], row["version"]), []), key=lambda each: each[1]["about"]["made"])
        rows.append(_version_row(row, mine, folder))
    parts = [_models(rows), *([_others(others, folder)] if others else [])]
    links = [Link(said, address) for address, said in _PAPERS if (folder / address).is_file()]
    many = [f"{n} {said}{'' if n == 1 else 's'}" for n, said in ((len(versions), "version"), (len(reports), "report"))]
    lead = f"{many[0]} registered, {many[1]} here."
    return page("Models and reports", kicker="Index", lead=lead, links=links, parts=parts)


def _told(path: Path, known: Mapping[str, str]) -> tuple[Path, dict[str, Any] | None, Examination]:
    data = path.read_bytes()
    return path, embedded(data), examine(data, known)


def _versions(workspace: Workspace) -> list[dict[str, Any]]:
    if not tracking.has_registry(workspace):
        return []
    return tracking.models_table(tracking.open_store(workspace)).to_dict("records")


def _models(rows: list[list[Any]]) -> Part:
    if not rows:
        return Part("Models", ["No model is registered yet."])
    head = ["Model", "Registered (UTC)", "Decision", "Key figures", "Checks", "Reports", "Seal"]
    note = (
        "Key figures are those of the version on its own test part, with 95 % intervals where the report has them. An "
        "intact seal: when this page was written, the file was as a key of this workspace had signed it."
    )
    return Part(
        "Models", [note], [Grid("Every registered version, the newest of each model first", head, rows, "lllllll")]
    )


def _version_row(row: dict[str, Any], mine: list[tuple[Path, dict[str, Any], Examination]], folder: Path) -> list[Any]:
    name = Cell(f"{row['name']} version {row['version']}", row["aliases"])
    if not mine:
        figures = [
            f"{_label(metric)} {plots.metric_text(metric, row[metric])}"
            for metric in KEY_METRICS
            if row.get(metric) == row.get(metric) and row.get(metric) is not None
        ]
        said = "no report here"
        return [name, row["created"], said, figures or [said], said, said, "–"]
    facts = mine[-1][1]
    return [
        name,
        row["created"],
        str(facts["decision"]["decision"]),
        _figures(facts) or ["none"],
        _checks(facts),
        _links(mine, folder),
        _seals(mine),
    ]


def _figures(facts: dict[str, Any]) -> list[Cell]:
    mine = {row["metric"]: row for row in facts["figures"] if row["candidate"] and row["value"] is not None}
    said = []
    for metric in KEY_METRICS:
        if (row := mine.get(metric)) is not None:
            spread = ""
            if row["low"] is not None:
                spread = f"{plots.metric_text(metric, row['low'])} to {plots.metric_text(metric, row['high'])}"
            said.append(Cell(f"{_label(metric)} {plots.metric_text(metric, row['value'])}", spread))
    return said


def _label(metric: str) -> str:
    label = plots.METRIC_LABELS.get(metric, metric)
    return f"{label[:1].upper()}{label[1:]}"


def _checks(facts: dict[str, Any]) -> str | list[str]:
    failed = [check["code"] for check in facts["checks"] if check["result"] == "failed"]
    if not facts["checks"]:
        return "none recorded"
    return [f"{len(failed)} of {len(facts['checks'])} failed", *([", ".join(failed)] if failed else [])]


def _links(mine: list[tuple[Path, dict[str, Any], Examination]], folder: Path) -> list[Link]:
    links = []
    for path, facts, _ in mine:
        said, run = NAMES.get(facts["lang"], facts["lang"]), facts["about"]["run"]
        more = "" if len({each[1]["about"]["run"] for each in mine}) == 1 else f" ({run})"
        links.append(Link(f"{said}{more}", path.name))
        if path.with_suffix(".pdf").is_file():
            links.append(Link(f"{said}{more}, PDF", path.with_suffix(".pdf").name))
    run = mine[-1][1]["about"]["run"]
    first = next(iter(sorted((folder / run / "notebooks").glob("*.html"))), None)
    return links + ([Link("Notebooks", f"{run}/notebooks/{first.name}")] if first else [])


def _seals(mine: list[tuple[Path, dict[str, Any], Examination]]) -> list[str]:
    return [f"{NAMES.get(facts['lang'], facts['lang'])}: {_seal_word(found)}" for _, facts, found in mine]


def _seal_word(found: Examination) -> str:
    return "intact, by an unknown key" if found.state == "intact" and not found.known else _SEAL[found.state]


def _others(others: list[tuple[Path, dict[str, Any] | None, Examination]], folder: Path) -> Part:
    rows = []
    for path, facts, found in others:
        about = {} if facts is None else facts["about"]
        what = f"{about['model']}, run {about['run']}" if about else "made by an earlier fraudlab"
        rows.append([Link(path.name, path.name), what, str(about.get("made") or "–"), _seal_word(found)])
    head = ["Report", "About", "Made", "Seal"]
    said = "Their model is not in this registry: an interactive session, a registry made anew, or a removed version."
    return Part("Other reports", [said], [Grid("Reports without a registered version", head, rows, "llll")])
