"""Make everything a run's reviewers get: reports in each language and format, sealed, and the notebooks beside them.

from fraudlab.report.making import make_reports

make_reports(run)                                     # as the config's [report] says
make_reports(run, languages=["zh"], formats=["pdf"])  # what a reviewer asked for
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fraudlab.checks import CHECKS, overview
from fraudlab.config import RunConfig, Workspace
from fraudlab.datasets import raw_identifiers
from fraudlab.plots import Picture, keeping
from fraudlab.privacy.keys import KeyUnavailableError
from fraudlab.report import build_report
from fraudlab.report.blocks import Figure, Group
from fraudlab.report.evidence import evidence_so_far
from fraudlab.report.index import write_index
from fraudlab.report.monitoring import bring_findings
from fraudlab.report.notebooks import export_notebooks
from fraudlab.report.pdf import to_pdf
from fraudlab.report.sealing import Signer, open_signer
from fraudlab.report.sections import DEVELOPMENT, GOVERNANCE, VALIDATION
from fraudlab.runs import Run
from fraudlab.schema import FraudlabError


@dataclass(frozen=True)
class Made:
    """What was written: the reports, the first language's HTML first, the notebooks' pages, the index of all reports.

    `remarks` says what could not be done.
    """

    reports: list[Path]
    notebooks: list[Path]
    index: Path
    remarks: list[str]


def make_reports(
    run: Run,
    *,
    languages: Sequence[str] | None = None,
    formats: Sequence[str] | None = None,
    pictures: dict[bytes, Picture] | None = None,
) -> Made:
    """Write a run's reports, from its evidence, its executed notebooks as pages beside them, and the index anew.

    Parameters
    ----------
    run : its `evidence` folder is read, and `notebooks` where a launcher has run them.
    languages : of `language.LANGUAGES`; default: those of the config's `[report]`.
    formats : html, pdf; default: those of the config. A PDF is made from the HTML, which is written in any case.
    pictures : those of `draw_ahead`.

    Returns
    -------
    What was written. A PDF that cannot be made, or a missing signing key, is a remark and no failure.

    Raises
    ------
    InputError : the evidence is incomplete or damaged, or a language is unknown.
    """
    signer, remarks = signer_of(run.workspace)
    remarks += [remark] if (remark := bring_findings(run)) else []
    reports: list[Path] = []
    with keeping({} if pictures is None else pictures):
        for lang in languages or run.config.report.languages:
            html = build_report(run.folder, run.report_file(lang), lang=lang, signer=signer)
            reports.append(html)
            if "pdf" in (formats or run.config.report.formats):
                pdf = run.report_file(lang, "pdf")
                try:
                    remarks += to_pdf(html, pdf, signer)
                    reports.append(pdf)
                except FraudlabError as error:
                    remarks.append(str(error))
    pages = export_notebooks(
        sorted((run.folder / "notebooks").glob("*.ipynb")),
        run.workspace.reports / run.folder.name / "notebooks",
        report=f"../../{reports[0].name}",
        index="../../index.html",
        signer=signer,
    )
    return Made(reports, pages, write_index(run.workspace, signer), list(dict.fromkeys(remarks)))


def draw_ahead(run: Run, pictures: dict[bytes, Picture]) -> None:
    """Draw into `pictures` what the evidence of a run that is going on asks for already, for `make_reports` to find.

    What cannot be drawn yet is drawn with the report, which says what is wrong.
    """
    with contextlib.suppress(FraudlabError), keeping(pictures):
        evidence = evidence_so_far(run.evidence)
        for section in (*DEVELOPMENT, *VALIDATION, *GOVERNANCE):
            with contextlib.suppress(Exception):
                _draw(section(evidence).blocks)


def _draw(blocks: Sequence[Any]) -> None:
    for block in blocks:
        if isinstance(block, Figure):
            block.picture.svg()
        elif isinstance(block, Group):
            _draw(block.blocks)


def identifiers_to_find(config: RunConfig) -> list[str]:
    """Return the raw identifiers that no output may hold, with the search for them made ready."""
    needles = raw_identifiers(config)
    CHECKS["FL004"]([], needles, root=Path())
    return needles


def checked_reports(run: Run, needles: list[str] | None = None, pictures: dict[bytes, Picture] | None = None) -> str:
    """Write the reports once no raw identifier is in what the run wrote, and keep them if none is in them either.

    They come in each language and format of the config; the notebooks' pages and the index lie beside them.

    Parameters
    ----------
    run : a run whose notebooks have ended.
    needles : the raw identifiers of its source; default: `identifiers_to_find` is asked.
    pictures : those of `draw_ahead`.

    Returns
    -------
    What was made, in a line.

    Raises
    ------
    FraudlabError : a raw identifier was found; nothing of the run may go to MLflow.
    """
    needles = identifiers_to_find(run.config) if needles is None else needles
    finding = CHECKS["FL004"]([run.folder], needles, root=run.folder)
    earlier = [check for check in run.load_json("checks") if check["code"] != finding.code]
    every = earlier + overview({"identifiers": finding}).to_dict("records")
    run.save_json("checks", sorted(every, key=lambda check: check["code"]))
    if not finding.stops:
        made = make_reports(run, pictures=pictures)
        written = [*made.reports, *made.notebooks]
        finding = CHECKS["FL004"](written, needles, root=run.workspace.reports)
        if finding.stops:
            for path in written:
                path.unlink()
            write_index(run.workspace, signer_of(run.workspace)[0])
    if finding.stops:
        raise FraudlabError(
            f"{finding.code} {finding.title.lower()}: {finding.sentence} No notebook, evidence or report of this run "
            f"was logged; they lie in {run.folder.name} only. Mend the cell that wrote it and run again."
        )
    size = made.reports[0].stat().st_size / 1e3
    count = "one file" if len(made.reports) == 1 else f"{len(made.reports)} reports"
    return "; ".join([f"{size:,.0f} kB, {count}, no network needed", *made.remarks])


def signer_of(workspace: Workspace) -> tuple[Signer | None, list[str]]:
    """Return the workspace's signer, or None with the sentence that says why there is none."""
    try:
        return open_signer(workspace), []
    except KeyUnavailableError as error:
        return None, [f"The report is not signed: {error}"]
