"""Executed notebooks as pages beside the report: text, outputs and pictures at once, code folded, nothing from outside.

Notebooks hold what cells printed, so nothing of it is trusted: markdown is rendered without raw HTML, tables pass a
list of allowed elements, pictures are embedded, scripts and styles are left out.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markupsafe import Markup, escape

from fraudlab.report.pages import Link, page
from fraudlab.report.sealing import Signer, seal
from fraudlab.runs import write_whole
from fraudlab.schema import InputError

_STYLE = """
article { margin: 1.25rem 0; }
article h2 { margin-top: 2.5rem; }
details { margin: .5rem 0; }
summary { color: var(--muted); font-size: .88rem; cursor: pointer; }
summary:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
details pre { margin: .5rem 0 1rem; }
article pre { white-space: pre-wrap; overflow-wrap: anywhere; }
.messages { color: var(--muted); }
.failed { border-left: 6px solid var(--bad); }
article code { font: .92em ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
article .scroll { margin: .75rem 0 1rem; }
"""
_TABLE = {"table", "thead", "tbody", "tfoot", "tr", "th", "td", "caption"}
_TEXT = {"p", "b", "strong", "em", "i", "code", "pre", "br", "hr", "div", "span", "small", "sup", "sub"}
_LIST = {"ul", "ol", "li", "dl", "dt", "dd"}
_ALLOWED = _TABLE | _TEXT | _LIST | {"h2", "h3", "h4", "h5", "h6"}
_SKIPPED = {"style", "script", "template", "svg", "math", "iframe", "object", "noscript", "title", "textarea", "select"}
_ALONE = {"br", "hr"}
_NUMBER = re.compile(r"[+−-]?[\d,]*\.?\d+(?:[eE][+−-]?\d+)?\s*(?:%|s|ms|kB|MB)?")
_ESCAPE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_PICTURES = ("image/png", "image/jpeg", "image/svg+xml")


def export_notebooks(
    notebooks: Sequence[Path], folder: Path, *, report: str, index: str = "", signer: Signer | None = None
) -> list[Path]:
    """Write executed notebooks as HTML pages that link to each other and to the report.

    Parameters
    ----------
    notebooks : executed .ipynb files (format 4), in their order.
    folder : where the pages go, each under its notebook's name.
    report : the report's address, relative to `folder`.
    index : that of the index of all reports; none: no link.
    signer : seals each page.

    Returns
    -------
    The pages, in the order of the notebooks.

    Raises
    ------
    InputError : a file is no notebook of format 4.
    """
    read = [_read(path) for path in notebooks]
    titles = [_title(content) or path.stem for path, content in zip(notebooks, read)]
    pages = []
    for number, (path, content) in enumerate(zip(notebooks, read)):
        links = [Link("All models and reports", index)] if index else []
        links.append(Link("The report", report))
        links += [
            Link(title.partition(":")[0], f"{each.stem}.html", here=each is path)
            for each, title in zip(notebooks, titles, strict=True)
        ]
        html = notebook_page(content, titles[number], links)
        target = folder / f"{path.stem}.html"
        write_whole(target, html if signer is None else seal(html, signer))
        pages.append(target)
    return pages


def notebook_page(content: Mapping[str, Any], title: str, links: Sequence[Link] = ()) -> str:
    """Return an executed notebook as one page: markdown and outputs open, code folded.

    Parameters
    ----------
    content : a notebook of format 4, as read from its file.
    title : the page's heading; a first heading of the notebook that says the same is left out.
    links : other pages.

    >>> cell = {"cell_type": "code", "source": "1 + 1", "outputs": [{"output_type": "stream", "text": "<2>"}]}
    >>> html = notebook_page({"cells": [cell], "nbformat": 4}, "Sum")
    >>> "<details>" in html, "&lt;2&gt;" in html, "<script" in html
    (True, True, False)
    """
    markdown = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable("table").disable("image")
    markdown.validateLink = lambda address: address.startswith("#") or address.endswith((".html", ".ipynb"))
    cells, number = [], 0
    for cell in content["cells"]:
        source = _joined(cell.get("source"))
        if cell["cell_type"] == "markdown":
            if not cells:
                source = re.sub(rf"\A\s*#\s+{re.escape(title)}\s*(\n|\Z)", "", source)
            if source.strip():
                cells.append(Markup("<article>{}</article>").format(_lowered(markdown.render(source))))
        elif cell["cell_type"] == "code" and (source.strip() or cell.get("outputs")):
            number += 1
            shown = Markup("\n").join(_output(output, number) for output in cell.get("outputs", []))
            code = Markup(
                '<details><summary>Code of cell {0}</summary>\n<pre tabindex="0" role="region" '
                'aria-label="Code, cell {0}"><code>{1}</code></pre></details>'
            ).format(number, source)
            cells.append(Markup('<article aria-label="Cell {}">\n{}\n{}\n</article>').format(number, code, shown))
    return page(
        title,
        kicker="Executed notebook",
        links=links,
        body=Markup("\n").join(cells),
        style=_STYLE,
        foot="An executed notebook, its code folded. Made by fraudlab. Internal: holds results on personal data.",
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["nbformat"] == 4:
            return content | {"cells": list(content["cells"])}
        found = f"format {content['nbformat']}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        found = type(error).__name__
    raise InputError(f"notebook {path.name}: must be a notebook of format 4; found {found}; run it again")


def _title(content: Mapping[str, Any]) -> str:
    for cell in content["cells"]:
        if cell["cell_type"] == "markdown" and (found := re.match(r"\s*#\s+(.+)", _joined(cell.get("source")))):
            return found[1].strip()
    return ""


def _joined(text: Any) -> str:
    return text if isinstance(text, str) else "".join(text or [])


def _lowered(html: str) -> Markup:
    """Leave the first level of headings to the page, and put tables where they can scroll."""
    html = html.replace("<h1>", "<h2>").replace("</h1>", "</h2>")
    return Markup(
        re.sub(r"<table>.*?</table>", lambda found: _safe(found[0], "Table of the text"), html, flags=re.DOTALL)
    )


def _output(output: Mapping[str, Any], number: int) -> Markup:
    """Return one output of a cell: a picture, a table, text, what it warned of, or how it failed."""
    kind = output.get("output_type")
    if kind == "stream":
        messages = output.get("name") == "stderr"
        return _pre(_joined(output.get("text")), f"{'Messages' if messages else 'Output'}, cell {number}", messages)
    if kind == "error":
        trace = _joined([f"{line}\n" for line in output.get("traceback") or []])
        text = trace or f"{output.get('ename')}: {output.get('evalue')}"
        return _pre(text, f"Failure, cell {number}", kind="failed")
    data, about = output.get("data") or {}, output.get("metadata") or {}
    for name in _PICTURES:
        if name in data:
            return _picture(name, _joined(data[name]), about.get(name) or {}, number)
    if "text/html" in data:
        return Markup(_safe(_joined(data["text/html"]), f"Table, cell {number}"))
    return _pre(_joined(data.get("text/plain")), f"Output, cell {number}") if "text/plain" in data else Markup("")


def _pre(text: str, label: str, messages: bool = False, kind: str = "") -> Markup:
    shown = _ESCAPE.sub("", text).rstrip()
    if not shown:
        return Markup("")
    kinds = kind or ("messages" if messages else "output")
    return Markup('<pre class="{}" tabindex="0" role="region" aria-label="{}">{}</pre>').format(kinds, label, shown)


def _picture(kind: str, inside: str, about: Mapping[str, Any], number: int) -> Markup:
    if kind == "image/svg+xml":
        inside = base64.b64encode(inside.encode()).decode()
    alt = str(about.get("alt") or f"Picture of cell {number}; it brought no description")
    known = {name: str(about[name]) for name in ("width", "height") if str(about.get(name, "")).isdigit()}
    size = Markup("").join(Markup(' {}="{}"').format(name, value) for name, value in known.items())
    return Markup(
        '<figure><div class="pan" tabindex="0" role="region" aria-label="Picture, cell {}">'
        '<img src="data:{};base64,{}" alt="{}"{}></div></figure>'
    ).format(number, kind, re.sub(r"[^A-Za-z0-9+/=]", "", inside), alt, size)


def _safe(html: str, label: str) -> str:
    """Return the allowed elements of a fragment without their attributes; tables scroll and head their columns."""
    parser = _Sanitiser(label)
    parser.feed(html)
    parser.close()
    return parser.result()


class _Sanitiser(HTMLParser):
    """Copies text and allowed elements; everything else is left out, its text kept unless it is code or style."""

    def __init__(self, label: str) -> None:
        super().__init__(convert_charrefs=True)
        self._label = label
        self._pieces: list[str] = []
        self._open: list[str] = []
        self._skipping = 0
        self._cell: tuple[int, str, dict[str, str]] | None = None
        self._words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SKIPPED:
            self._skipping += 1
        if self._skipping or tag not in _ALLOWED:
            return
        if tag in _ALONE:
            self._pieces.append(f"<{tag}>")
            return
        spans = {name: value for name, value in attrs if name in ("colspan", "rowspan") and (value or "").isdigit()}
        if tag == "table":
            self._pieces.append(f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(self._label)}">')
        if tag in ("th", "td"):
            self._cell, self._words = (len(self._pieces), tag, spans), []
        self._pieces.append(f"<{tag}>")
        self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _SKIPPED:
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag in _SKIPPED:
            self._skipping = max(self._skipping - 1, 0)
        elif not self._skipping and tag in self._open:
            while self._open:
                last = self._open.pop()
                self._ended(last)
                if last == tag:
                    break

    def _ended(self, tag: str) -> None:
        if tag in ("th", "td") and self._cell is not None:
            tag = self._headed(*self._cell)
            self._cell = None
        self._pieces.append(f"</{tag}>")
        if tag == "table":
            self._pieces.append("</div>")

    def _headed(self, at: int, tag: str, spans: dict[str, str]) -> str:
        """Write a cell's opening: a heading says of what, numbers stand to the right, an empty heading is none."""
        words = "".join(self._words).strip()
        heads = tag == "th" and bool(words)
        scope = f' scope="{"col" if "thead" in self._open else "row"}"' if heads else ""
        right = ' class="r"' if _NUMBER.fullmatch(words) else ""
        around = "".join(f' {name}="{value}"' for name, value in sorted(spans.items()))
        tag = "th" if heads else "td"
        self._pieces[at] = f"<{tag}{scope}{right}{around}>"
        return tag

    def handle_data(self, data: str) -> None:
        if self._skipping:
            return
        self._words.append(data)
        # Blanks between the parts of a table are no text.
        if data.strip() or not self._open or self._open[-1] not in ("table", "thead", "tbody", "tr"):
            self._pieces.append(str(escape(data)))

    def result(self) -> str:
        """Return what was copied, everything closed."""
        while self._open:
            self._ended(self._open.pop())
        return "".join(self._pieces)
