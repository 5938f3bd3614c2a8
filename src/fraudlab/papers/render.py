"""How a paper looks: the same blocks as Markdown, for editing, and as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined, Template

from fraudlab.report.blocks import NOT_PROVIDED, Bullets, Code, Facts, Prose, Section, Table


@dataclass(frozen=True)
class Paper:
    """One paper: its file name, its title, what it is for, its sections and where its figures come from."""

    id: str
    title: str
    about: str
    sections: Sequence[Section]
    origin: Sequence[tuple[str, str]]


def is_open(text: str) -> bool:
    """Return whether a text stands where a person's answer is missing."""
    return text.startswith(NOT_PROVIDED)


def to_html(paper: Paper) -> str:
    """Return a paper as HTML, in the look of the model reports: no script, no address outside the file."""
    style = files("fraudlab.report").joinpath("style.css").read_text(encoding="utf-8")
    return _template().render(paper=paper, style=style, is_open=is_open)


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(files(__package__).joinpath("paper.html.j2").read_text(encoding="utf-8"))


def to_markdown(paper: Paper) -> str:
    """Return a paper as Markdown.

    >>> section = Section("who", "Who", [Facts([("Controller", "not provided: who?"), ("Customers", "1,200")])])
    >>> print(to_markdown(Paper("record", "Record", "For the authority.", [section], [("Made", "2026-07-01")])))
    # Record
    <BLANKLINE>
    For the authority.
    <BLANKLINE>
    ## Who
    <BLANKLINE>
    - Controller: **not provided**: who?
    - Customers: 1,200
    <BLANKLINE>
    ---
    <BLANKLINE>
    - Made: 2026-07-01
    <BLANKLINE>
    """
    parts = [f"# {paper.title}", paper.about]
    for section in paper.sections:
        parts += [f"## {section.title}", *map(_markdown, section.blocks)]
    return "\n\n".join([*parts, "---", _markdown(Facts(paper.origin))]) + "\n"


def _markdown(block: Any) -> str:
    match block:
        case Prose(text):
            return _marked(text)
        case Bullets(items):
            return "\n".join(f"- {_marked(item)}" for item in items)
        case Code(text):
            return f"    {text}"
        case Facts(items):
            return "\n".join(f"- {term}: {_marked(value)}" for term, value in items)
        case Table():
            return _markdown_table(block)
    raise TypeError(f"papers hold no {type(block).__name__}")


def _marked(text: str) -> str:
    return f"**{NOT_PROVIDED}**{text.removeprefix(NOT_PROVIDED)}" if is_open(text) else text


def _markdown_table(table: Table) -> str:
    rows = [table.head, [":--" if side == "l" else "--:" for side in table.align], *table.rows]
    lines = ["| " + " | ".join(_marked(str(cell)).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([f"{table.caption}:", "", *lines, *(["", table.note] if table.note else [])])
