"""Data protection papers made from facts: what the law wants written down, as far as a machine can know it.

    write_papers(workspace, "demo", workspace.reports / "privacy")

Each paper comes as Markdown and as HTML. What only a person knows is "not provided" until it stands in `answers.toml`.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

import pandas as pd

from fraudlab.config import Workspace
from fraudlab.papers.facts import QUESTIONS, gather
from fraudlab.papers.render import Paper, to_html, to_markdown
from fraudlab.papers.texts import PAPERS, summary
from fraudlab.privacy.keys import sync_folder, write_private
from fraudlab.schema import FraudlabError

__all__ = ["QUESTIONS", "Paper", "gather", "to_html", "to_markdown", "write_papers"]

ANSWERS = "answers.toml"


def write_papers(
    workspace: Workspace, dataset: str, out: Path, *, answers: Path | None = None, now: pd.Timestamp | None = None
) -> dict[str, Any]:
    """Write all papers about a data set, and a file for the answers where there is none; earlier papers are replaced.

    Parameters
    ----------
    out : the folder, made where it is not there (0700); files are for their owner (0600), each whole or not at all.
    answers : a TOML file with a person's answers. Default: `answers.toml` in `out`; it is never overwritten.
    now : the moment ages are counted from. Default: the clock.

    Returns
    -------
    dict: papers (file names of the HTML, the summary first), open (names of the questions not answered), answers (the
    file to put them in), manifest_digest.

    Raises
    ------
    InputError : no such data set; the answers are no answers. Nothing is written then.
    FraudlabError : a key that is needed is not here; something is damaged; the folder cannot be written.
    """
    own = out / ANSWERS
    given = answers if answers is not None else own if own.exists() else None
    facts = gather(workspace, dataset, answers=given, now=now)
    papers = [paper(facts) for paper in PAPERS]
    written = [summary(facts, papers), *papers]
    texts = {f"{paper.id}{end}": show(paper) for paper in written for end, show in _FORMS.items()}
    if given is None:
        texts[ANSWERS] = _questions()
    try:
        out.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name, text in texts.items():
            _write(out / name, text)
        sync_folder(out)
    except OSError as error:
        raise FraudlabError(
            f"out: {out} could not be written ({error.strerror or error}); correct its rights or name another folder"
        ) from None
    return {
        "papers": [f"{paper.id}.html" for paper in written],
        "open": [name for name in QUESTIONS if name not in facts.answers],
        "answers": str(given or own),
        "manifest_digest": facts.manifest_digest,
    }


_FORMS = {".md": to_markdown, ".html": to_html}


def _questions() -> str:
    """Return an answers file with every question and no answer."""
    lines = ["# What only a person knows. Put the answer between the quotes, then make the papers again.\n"]
    return "\n".join([*lines, *(f'# {question}\n{name} = ""\n' for name, question in QUESTIONS.items())])


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        write_private(fresh, text.encode())
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
