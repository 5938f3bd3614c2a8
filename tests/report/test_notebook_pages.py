"""Executed notebooks as pages: everything shown, code folded, nothing run and nothing fetched."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from fraudlab.report.notebooks import export_notebooks, notebook_page
from fraudlab.report.sealing import Signer, examine
from fraudlab.schema import InputError

DOT = base64.b64encode(b"\x89PNG dot").decode()


def code(source: str = "x", *outputs: dict) -> dict:
    return {"cell_type": "code", "source": source, "outputs": list(outputs)}


def text(source: str) -> dict:
    return {"cell_type": "markdown", "source": source}


def shown(data: dict, about: dict | None = None) -> dict:
    return {"output_type": "display_data", "data": data, "metadata": about or {}}


def html_of(*cells: dict, title: str = "A title") -> str:
    return notebook_page({"nbformat": 4, "cells": list(cells)}, title)


class Elements(HTMLParser):
    """Every element with its attributes, and whether all are closed in order."""

    def __init__(self, html: str):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "hr", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_text_output_and_pictures_are_open_and_code_is_folded() -> None:
    html = html_of(
        text("# A title\nSome *words*."),
        code("secret = 1 < 2", {"output_type": "stream", "name": "stdout", "text": ["a <b>\n", "c"]}),
        code(
            "draw()", shown({"image/png": DOT, "text/plain": "<Figure>"}, {"image/png": {"alt": 'A "dot"', "width": 7}})
        ),
        code("fail()", {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["\x1b[31mE: v\x1b[0m"]}),
        code("1", {"output_type": "execute_result", "data": {"text/plain": "42"}}),
    )
    page = Elements(html)
    assert html.count("<h1>A title</h1>") == 1
    assert "<h2>A title" not in html
    assert "<em>words</em>" in html
    details = re.findall(r"<details>.*?</details>", html, re.DOTALL)
    assert len(details) == 4
    assert "secret = 1 &lt; 2" in details[0]
    assert "a &lt;b&gt;\nc</pre>" in html
    assert "open" not in [name for tag, attrs in page.found if tag == "details" for name in attrs]
    [picture] = [attrs for tag, attrs in page.found if tag == "img"]
    assert picture == {"src": f"data:image/png;base64,{DOT}", "alt": 'A "dot"', "width": "7"}
    assert "&lt;Figure&gt;" not in html
    assert "E: v</pre>" in html
    assert "\x1b" not in html
    assert ">42</pre>" in html
    # Whatever scrolls can be reached and has a name.
    assert all(attrs.get("aria-label") for tag, attrs in page.found if tag == "pre" or attrs.get("class") == "pan")


@pytest.mark.parametrize(
    "nasty",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        '<a href="javascript:alert(1)">x</a>',
        "<svg onload=alert(1)><script>1</script></svg>",
        '<table onclick="x()"><tr><td style="background:url(http://a)">x<iframe src="http://a"></iframe></td></tr></table>',
        "<style>@import url(http://a)</style>",
        '<link rel="stylesheet" href="http://a">',
        "<p></p></article></main><form action=http://a><input></form>",
        "<table><tr><td><template><script>1</script></template>",
        "<b><i>x</b></i></table></div>",
        "<textarea></textarea><script>1</script>",
        "<<script>script>alert(1)<</script>/script>",
    ],
)
@pytest.mark.parametrize("place", ["html", "markdown", "text", "alt", "source", "title"])
def test_nothing_a_notebook_holds_runs_or_fetches(nasty: str, place: str) -> None:
    cells = {
        "html": code("x", shown({"text/html": nasty})),
        "markdown": text(nasty),
        "text": code("x", shown({"text/plain": nasty})),
        "alt": code("x", shown({"image/png": DOT + nasty}, {"image/png": {"alt": nasty, "width": nasty}})),
        "source": code(nasty),
        "title": text("x"),
    }
    html = html_of(cells[place], title=nasty if place == "title" else "A title")
    for tag, attrs in Elements(html).found:
        assert tag not in (
            "script",
            "iframe",
            "object",
            "embed",
            "form",
            "input",
            "link",
            "svg",
            "template",
            "textarea",
        )
        assert not [name for name in attrs if name.startswith("on") or name == "style"]
        assert attrs.get("href", "#").startswith("#")
        assert attrs.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
    assert html.count("<style>") == html.count("</main>") == 1


def test_links_of_markdown_stay_in_the_folder() -> None:
    html = html_of(text("[next](02_explore.ipynb) [out](https://example.org) ![p](http://example.org/p.png)"))
    assert re.findall(r'href="([^"]+)"', html) == ["#main", "02_explore.ipynb"]
    assert "<img" not in html


def test_a_table_keeps_its_cells_and_heads_its_columns() -> None:
    table = pd.DataFrame({"name": ["a & b", "c"], "n": [1234.5, -2.0], "share": ["3 %", "x"]})
    styled = table.style.format({"n": "{:,.1f}"}).to_html()
    plain = table.to_html()
    for source in (styled, plain):
        html = html_of(code("x", shown({"text/html": source, "text/plain": "not this"})))
        cells = re.findall(r"<(t[hd])([^>]*)>([^<]*)</t[hd]>", html)
        words = [word for _, _, word in cells]
        assert [word for word in words if word.strip()].count("a &amp; b") == 1
        assert [attrs for tag, attrs, word in cells if word == "name"] == [' scope="col"']
        assert [attrs for tag, attrs, word in cells if word in ("1,234.5", "1234.5")] == [' class="r"']
        assert [attrs for tag, attrs, word in cells if word == "3 %"] == [' class="r"']
        assert not [word for tag, _, word in cells if tag == "th" and not word.strip()], (
            "an empty heading heads nothing"
        )
        assert "not this" not in html
        assert html.count('<div class="scroll" tabindex="0" role="region" aria-label="Table, cell 1">') == 1


def test_pages_link_to_each_other_and_are_sealed(tmp_path: Path) -> None:
    paths = []
    for number in (1, 2, 3):
        path = tmp_path / f"0{number}_step.ipynb"
        cells = [text(f"# {number} · Step: with a long title"), code(f"print({number})")]
        path.write_text(json.dumps({"nbformat": 4, "cells": cells}))
        paths.append(path)
    signer = Signer(bytes(32))
    made = export_notebooks(paths, tmp_path / "out", report="../../r.html", index="../../index.html", signer=signer)
    assert [path.name for path in made] == ["01_step.html", "02_step.html", "03_step.html"]
    html = made[1].read_text()
    links = re.findall(r'<li><a href="([^"]+)"( aria-current="page")?>([^<]+)</a></li>', html)
    assert [link[0] for link in links] == ["../../index.html", "../../r.html", *(path.name for path in made)]
    assert [link[2] for link in links if link[1]] == ["2 · Step"]
    assert "<h1>2 · Step: with a long title</h1>" in html
    assert all(examine(path.read_bytes(), {signer.public: "x"}).ok for path in made)
    changed = html.replace("print(2)", "print(3)").encode()
    assert examine(changed, {}).changed == ["cell 1"]
    again = export_notebooks(paths, tmp_path / "again", report="../../r.html", index="../../index.html", signer=signer)
    assert [path.read_bytes() for path in made] == [path.read_bytes() for path in again]
    assert not made[0].stat().st_mode & 0o077


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "JSONDecodeError"), ('{"nbformat": 3, "worksheets": []}', "format 3"), ("[]", "TypeError")],
)
def test_what_is_no_notebook_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "bad.ipynb"
    path.write_text(content)
    with pytest.raises(InputError, match=rf"^notebook bad\.ipynb: must be a notebook of format 4; found {said}"):
        export_notebooks([path], tmp_path / "out", report="r.html")
