"""The model report for reviewers: one HTML file that needs nothing else, made from a run's evidence folder alone."""

from __future__ import annotations

import os
import tempfile
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from fraudlab.report.blocks import moment, provided
from fraudlab.report.evidence import Evidence, read_evidence
from fraudlab.report.sections import SECTIONS
from fraudlab.schema import FraudlabError, InputError

__all__ = ["build_report", "read_evidence", "render", "to_pdf"]


def render(evidence: Evidence) -> str:
    """Return the report as HTML: the same bytes for the same evidence, no script, no address outside the file."""
    here = files(__package__)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["breakable"] = _breakable
    template = environment.from_string(here.joinpath("template.html.j2").read_text(encoding="utf-8"))
    run = evidence.run
    return template.render(
        title=provided(run.get("title") or run["name"]),
        model=f"{provided(run.get('model_name') or run['name'])}, version {provided(run.get('model_version'))}",
        made=moment(run["created"]),
        run_id=provided(run["run_id"]),
        owner=provided(run.get("owner")),
        digest=evidence.digest,
        sections=[section(evidence) for section in SECTIONS],
        style=here.joinpath("style.css").read_text(encoding="utf-8"),
    )


def _breakable(text: str) -> Markup:
    """Let a long name break after a double underscore."""
    return Markup(escape(text).replace("__", Markup("__<wbr>")))


def build_report(run_dir: Path, out: Path) -> Path:
    """Write a run's report for reviewers as one self-contained HTML file.

    Parameters
    ----------
    run_dir : the run's folder; only its `evidence` folder is read.
    out : the file to write, ending in .html; its folder is made. It appears whole or not at all, readable by its owner.

    Returns
    -------
    `out`.

    Raises
    ------
    InputError : the evidence is incomplete or damaged, or `out` is no .html file. Nothing is written then.
    """
    out = Path(out)
    if out.suffix != ".html":
        raise InputError(f"out: must name a file ending in .html; found '{out.name}'; to_pdf turns it into a PDF")
    html = render(read_evidence(Path(run_dir) / "evidence"))
    out.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(html)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, out)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return out


def to_pdf(html_path: Path, pdf_path: Path) -> Path:
    """Turn a report into a tagged PDF with WeasyPrint, which is an extra.

    Parameters
    ----------
    html_path : a report written by `build_report`.
    pdf_path : the file to write.

    Raises
    ------
    FraudlabError : WeasyPrint, or the Pango library it draws with, is not installed.
    InputError : there is no report at `html_path`.
    """
    html_path, pdf_path = Path(html_path), Path(pdf_path)
    if not html_path.is_file():
        raise InputError(f"html_path: no report at {html_path}; build it first")
    try:
        from weasyprint import HTML
    except ImportError:
        raise FraudlabError("PDF needs WeasyPrint, which is not installed; add it with: make extras") from None
    except OSError:
        raise FraudlabError("PDF needs the Pango library of the system; install it (Debian: libpango-1.0-0)") from None
    pdf_path.parent.mkdir(parents=True, exist_ok=True)
    temporary = pdf_path.with_name(f".{pdf_path.name}.{os.getpid()}")
    try:
        HTML(filename=str(html_path)).write_pdf(str(temporary), pdf_variant="pdf/ua-1")
        os.replace(temporary, pdf_path)
    finally:
        temporary.unlink(missing_ok=True)
    return pdf_path
