"""The model report for reviewers: one HTML file that needs nothing else, made from a run's evidence folder alone."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from fraudlab.report import language
from fraudlab.report.blocks import Part, moment, provided
from fraudlab.report.differences import facts
from fraudlab.report.evidence import Evidence, read_evidence
from fraudlab.report.language import say
from fraudlab.report.pdf import to_pdf
from fraudlab.report.sealing import Signer, embed, seal
from fraudlab.report.sections import parts
from fraudlab.schema import InputError

__all__ = ["build_report", "read_evidence", "render", "to_pdf"]


def render(evidence: Evidence, lang: str = "en") -> str:
    """Return the report as HTML: the same bytes for the same evidence, no script, no address outside the file.

    Parameters
    ----------
    evidence : as of `read_evidence`.
    lang : one of `language.LANGUAGES`. Pictures and names from the evidence stay English, and are marked so.

    Raises
    ------
    InputError : no report is written in that language.
    """
    run = evidence.run
    with language.speaking(lang):
        model = language.foreign(provided(run.get("model_name") or run["name"]))
        title = provided(run.get("title") or run["name"])
        version = provided(run.get("model_version"))
        return fill(
            parts(evidence),
            title=title,
            heading=say("Model report: {title}", title=title),
            kicker=say("Model report"),
            head=[
                (say("Model"), say("{name}, version {version}", name=model, version=version)),
                (say("Run"), language.foreign(provided(run["run_id"]))),
                (say("Made"), moment(run["created"])),
                (say("Owner"), language.foreign(provided(run.get("owner")))),
            ],
            foot=say(
                "Made by fraudlab from the evidence with sha-256 {digest}. Internal: holds results on personal data.",
                digest=evidence.digest,
            ),
        )


def fill(
    parts: Sequence[Part], *, title: str, heading: str, kicker: str, head: Sequence[tuple[str, str]], foot: str
) -> str:
    """Fill the reports' template in the language that is being spoken.

    Parameters
    ----------
    parts : what the page says.
    title, heading, kicker : the large heading, the window's title, the line above.
    head : names and values below the heading.
    foot : the last line.
    """
    here, lang = files(__package__), language.language()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"marked": language.marked, "plain": language.plain, "is_digest": _is_digest}
    template = environment.from_string(here.joinpath("template.html.j2").read_text(encoding="utf-8"))
    return template.render(
        say=say,
        lang=lang,
        html_lang={"zh": "zh-Hans"}.get(lang, lang),
        not_provided=say("not provided"),
        title=title,
        heading=heading,
        kicker=kicker,
        head=head,
        foot=foot,
        parts=parts,
        style=here.joinpath("style.css").read_text(encoding="utf-8"),
    )


def _is_digest(text: str) -> bool:
    """Return whether a text is one long word that has to be set small and breakable."""
    return re.fullmatch("[!-~]{40,}", text) is not None


def build_report(run_dir: Path, out: Path, *, lang: str = "en", signer: Signer | None = None) -> Path:
    """Write a run's report for reviewers as one self-contained HTML file.

    Parameters
    ----------
    run_dir : the run's folder; only its `evidence` folder is read.
    out : the file to write, ending in .html; its folder is made. It appears whole or not at all, readable by its owner.
    lang : one of `language.LANGUAGES`.
    signer : seals it, so that `fraudlab report verify` sees any change; None leaves it unsigned.

    Returns
    -------
    `out`.

    Raises
    ------
    InputError : the evidence is incomplete or damaged, `out` is no .html file, or no report is written in that
        language. Nothing is written then.
    """
    out = Path(out)
    if out.suffix != ".html":
        raise InputError(f"out: must name a file ending in .html; found '{out.name}'; to_pdf turns it into a PDF")
    evidence = read_evidence(Path(run_dir) / "evidence")
    html = embed(render(evidence, lang), facts(evidence, lang))
    if signer is not None:
        html = seal(html, signer)
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
