"""The PDF is tagged, has contents with page numbers that are true, bookmarks and alternative texts, and is sealed."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fraudlab.report import build_report, data, governance, read_evidence, sections, to_pdf
from fraudlab.report.sealing import Signer, examine

pytest.importorskip("weasyprint", reason="WeasyPrint is an extra: make extras", exc_type=(ImportError, OSError))
pypdf = pytest.importorskip("pypdf", reason="pypdf reads the PDF back: make extras")

write_evidence = runpy.run_path(str(Path(__file__).with_name("evidence_sample.py")))["write_evidence"]
OURS = Signer(b"\1" * 32)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_evidence(tmp_path_factory.mktemp("runs") / "demo")


@pytest.fixture(scope="module")
def html(run: Path) -> Iterator[Path]:
    """A report of four sections with pictures: the real template, and quicker than all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sections, "DEVELOPMENT", (data.data,))
        patch.setattr(sections, "VALIDATION", ())
        patch.setattr(sections, "GOVERNANCE", (data.data_protection, governance.sign_off))
        yield build_report(run, run / "few.html", signer=OURS)


@pytest.fixture(scope="module")
def pdf(html: Path, run: Path) -> Path:
    assert to_pdf(html, run / "few.pdf", OURS) == []
    return run / "few.pdf"


@pytest.fixture(scope="module")
def read(pdf: Path) -> Any:
    return pypdf.PdfReader(pdf)


def tags(node: Any) -> Iterator[dict]:
    """Every element of the structure tree."""
    node = node.get_object() if hasattr(node, "get_object") else node
    if isinstance(node, list):
        for each in node:
            yield from tags(each)
    elif isinstance(node, dict):
        if "/S" in node:
            yield node
        if "/K" in node:
            yield from tags(node["/K"])


def test_it_is_tagged_in_its_language_with_its_title(read: Any, run: Path) -> None:
    root = read.trailer["/Root"]
    assert root["/MarkInfo"]["/Marked"]
    assert root["/Lang"] == "en"
    assert root["/ViewerPreferences"]["/DisplayDocTitle"]
    title = read_evidence(run / "evidence").run["title"]
    assert title in read.metadata.title
    kinds = {each["/S"] for each in tags(root["/StructTreeRoot"])}
    assert {"/Document", "/H1", "/H2", "/P", "/L", "/LI", "/Table", "/TR", "/TH", "/TD", "/Caption", "/Figure"} <= kinds
    assert b"pdfuaid" in root["/Metadata"].get_object().get_data()


def test_every_picture_has_its_text_in_the_tags(read: Any, html: Path) -> None:
    said = [str(each.get("/Alt")) for each in tags(read.trailer["/Root"]["/StructTreeRoot"]) if each["/S"] == "/Figure"]
    written = re.findall(r'<img [^>]*alt="([^"]+)"', html.read_text(encoding="utf-8"))
    assert len(written) >= 2
    assert len(said) == len(written)
    assert all(text.split("&")[0] in alt for text, alt in zip(written, said, strict=True))


def test_the_contents_name_every_section_with_its_true_page(read: Any, html: Path) -> None:
    text = html.read_text(encoding="utf-8")
    titles = re.findall(r'<li><a href="#[\w-]+">([^<]+)</a></li>', text)
    assert len(titles) == 4
    first = " ".join(read.pages[0].extract_text().split())
    plain = [" ".join(page.extract_text().split()) for page in read.pages]
    for title in titles:
        number = re.search(rf"{re.escape(title)}[ .]*(\d+)", first)
        assert number, title
        assert title in plain[int(number[1]) - 1]
        assert int(number[1]) > 1
    assert all(f"{number} / {len(plain)}" in page for number, page in enumerate(plain, 1))


def test_bookmarks_follow_the_headings(read: Any) -> None:
    def flat(items: list, depth: int = 0) -> Iterator[tuple[int, str]]:
        for item in items:
            if isinstance(item, list):
                yield from flat(item, depth + 1)
            else:
                yield depth, " ".join(item.title.split())

    found = list(flat(read.outline))
    assert found[0] == (0, read.metadata.title.removeprefix("Model report: "))
    assert sum(depth > 0 for depth, _ in found) >= 5
    assert any(name.endswith("Data protection") for _, name in found)


def test_it_is_sealed_and_the_same_each_time(html: Path, pdf: Path, tmp_path: Path) -> None:
    content = pdf.read_bytes()
    assert examine(content, {OURS.public: "ours"}).ok
    assert examine(content.replace(b"endobj", b"endobk", 1), {}).state == "altered"
    assert not pdf.stat().st_mode & 0o077
    to_pdf(html, tmp_path / "sub" / "again.pdf", OURS)
    assert (tmp_path / "sub" / "again.pdf").read_bytes() == content


def test_characters_that_no_font_has_are_told_in_one_sentence(html: Path, tmp_path: Path) -> None:
    strange = tmp_path / "strange.html"
    body = "<h1>\U0010fffd \U0010fffc</h1>"
    strange.write_text(f'<html lang="en"><head><title>t</title></head><body>{body}</body></html>', encoding="utf-8")
    [said] = to_pdf(strange, tmp_path / "strange.pdf")
    assert said.startswith("PDF: no font here has 2 of its characters (")
    assert (tmp_path / "strange.pdf").read_bytes().startswith(b"%PDF-")


def test_nothing_outside_the_report_is_opened(tmp_path: Path) -> None:
    secret = tmp_path / "secret.svg"
    secret.write_text('<svg xmlns="http://www.w3.org/2000/svg"><text>SECRET</text></svg>')
    page = tmp_path / "page.html"
    page.write_text(
        f'<html lang="en"><head><title>t</title><link rel="stylesheet" href="{secret.as_uri()}"></head>'
        f'<body><h1>t</h1><img src="{secret.as_uri()}" alt="a"><img src="http://127.0.0.1:9/x.png" alt="b"></body>'
    )
    code = (
        "import sys; from pathlib import Path; from fraudlab.report.pdf import to_pdf\n"
        "opened = []\n"
        "watched = ('socket.connect', 'open')\n"
        "sys.addaudithook(lambda event, given: opened.append(str(given)) if event in watched else None)\n"
        "to_pdf(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "print([each for each in opened if 'secret.svg' in each or '127.0.0.1' in each])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, page, tmp_path / "page.pdf"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    assert "SECRET" not in pypdf.PdfReader(tmp_path / "page.pdf").pages[0].extract_text()
