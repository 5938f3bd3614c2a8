"""Pages beside the reports (index, differences, notebooks): one frame in the reports' style, nothing from outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from fraudlab.report.blocks import Cell

# What these pages need beside the reports' own style.
_STYLE = """
.links { display: flex; flex-wrap: wrap; gap: .35rem 1.5rem; margin: 0; padding: 0; max-width: none; list-style: none; }
td div a, .links a { display: inline-block; min-height: 24px; line-height: 24px; }
.links a[aria-current] { color: var(--ink); font-weight: 600; text-decoration: none; }
"""


@dataclass(frozen=True)
class Link:
    """A link; `here` marks the page one is on."""

    text: str
    href: str
    here: bool = False


@dataclass(frozen=True)
class Grid:
    """A table whose cells are text, links, text with a smaller second line, or lists of these."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | Link | Cell | Sequence[str | Link | Cell]]]
    align: str


@dataclass(frozen=True)
class Part:
    """A part of a page under its heading."""

    title: str
    texts: Sequence[str] = ()
    tables: Sequence[Grid] = ()


def page(
    title: str,
    *,
    kicker: str,
    lead: str = "",
    links: Sequence[Link] = (),
    parts: Sequence[Part] = (),
    body: Markup | str = "",
    style: str = "",
    foot: str = "Made by fraudlab. Internal: holds results on personal data.",
) -> str:
    """Return a page as HTML: the same bytes for the same content, no script, no address outside its folder.

    Parameters
    ----------
    title, kicker, lead : the heading, the line above it, the sentence below it.
    links : other pages, in a navigation of their own.
    parts : headed tables.
    body : HTML that stands before the parts; plain text is escaped.
    style : further CSS.
    foot : the last line.
    """
    here = files(__package__)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["breakable"] = _breakable
    return environment.from_string(here.joinpath("page.html.j2").read_text(encoding="utf-8")).render(
        lang="en",
        title=title,
        kicker=kicker,
        lead=lead,
        links=links,
        pages="Pages",
        skip="Skip to the content",
        sections=parts,
        body=body,
        foot=foot,
        style=here.joinpath("style.css").read_text(encoding="utf-8") + _STYLE + style,
    )


def _breakable(text: str) -> Markup:
    """Let a long name break after a double underscore, and a digest anywhere."""
    return Markup(str(escape(text)).replace("__", "__<wbr>"))
