"""Every section of the sample report, word for word: a change of a section shows as a change of its file.

To accept a change, write the files anew and read the difference before it is committed:

    FRAUDLAB_SNAPSHOTS=write .venv/bin/python -m pytest tests/report/test_snapshots.py -n 0
"""

from __future__ import annotations

import difflib
import os
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from fraudlab import plots
from fraudlab.report import read_evidence, sections
from fraudlab.report.evidence import Evidence
from fraudlab.report.language import plain, speaking

FOLDER = Path(__file__).with_name("snapshots")
# The last bits of some of the evidence's numbers, and with them its digest, depend on the processor.
DIGEST = re.compile(r"(Evidence of this report \(sha-256\): )[0-9a-f]{64}")
WRITE = os.environ.get("FRAUDLAB_SNAPSHOTS") == "write"
write_evidence = runpy.run_path(str(Path(__file__).with_name("evidence_sample.py")))["write_evidence"]


@pytest.fixture(scope="module")
def evidence(tmp_path_factory) -> Evidence:
    return read_evidence(write_evidence(tmp_path_factory.mktemp("runs") / "demo") / "evidence")


def cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    return value.text + (f" [{value.small}]" if value.small else "")


def lines(block: Any, indent: str = "") -> list[str]:
    """One block as text: what a reader sees, a line each."""
    if block.kind == "table":
        rows = [" | ".join(map(cell, row)) for row in block.rows]
        said = [f"TABLE {block.caption} ({block.align})", "  " + " | ".join(block.head), *(f"  {row}" for row in rows)]
        said += [f"  note: {block.note}"] if block.note else []
    elif block.kind == "figure":
        said = [f"FIGURE {block.caption}", f"  alt: {block.picture.alt}"]
    elif block.kind == "facts":
        said = [f"{term}: {value}" for term, value in block.items]
    elif block.kind == "bullets":
        said = [f"- {item}" for item in block.items]
    elif block.kind == "code":
        said = [f"CODE {block.label}", *(f"  {line}" for line in block.text.splitlines())]
    elif block.kind == "verdict":
        said = [f"VERDICT {block.tone}: {block.word}. {block.sentence}", *(f"- {reason}" for reason in block.reasons)]
        said += [f"  {f.label} | {f.value} | {f.interval} | {f.against}" for f in block.figures]
    elif block.kind == "group":
        said = [f"## {block.title}", *(line for inner in block.blocks for line in lines(inner))]
    else:
        said = [block.text]
    return [indent + line for line in said]


def as_text(section: Any) -> str:
    body = [line for block in section.blocks for line in lines(block)]
    text = plain("\n".join([f"# {section.title} (#{section.id})", *body])) + "\n"
    return DIGEST.sub(r"\1of the evidence", text)


def named(section) -> str:
    return f"{section.__module__.rpartition('.')[2]}-{section.__name__}"


@pytest.mark.parametrize("section", sections.SECTIONS, ids=named)
def test_section_reads_as_its_snapshot(evidence, section):
    found = as_text(section(evidence))
    path = FOLDER / f"{named(section)}.txt"
    if WRITE:
        FOLDER.mkdir(exist_ok=True)
        path.write_text(found, encoding="utf-8")
    assert path.is_file(), f"no snapshot {path.name}; write it with FRAUDLAB_SNAPSHOTS=write"
    expected = path.read_text(encoding="utf-8")
    difference = difflib.unified_diff(expected.splitlines(), found.splitlines(), path.name, "now", lineterm="")
    assert found == expected, "\n".join(difference)


def test_no_snapshot_is_left_of_a_section_that_is_gone():
    assert {path.stem for path in FOLDER.glob("*.txt")} == {named(section) for section in sections.SECTIONS}


def test_pictures_have_a_text_that_says_what_they_show(evidence):
    for section in sections.SECTIONS:
        for block in figures(section(evidence).blocks):
            assert isinstance(block.picture, plots.Picture)
            assert len(block.picture.alt) > 40, section.__name__
            assert block.caption, section.__name__


def figures(blocks: Any) -> list[Any]:
    found = []
    for block in blocks:
        found += figures(block.blocks) if block.kind == "group" else [block] if block.kind == "figure" else []
    return found


def test_every_section_of_the_sample_is_said_in_chinese(evidence):
    with speaking("zh") as untold:
        said = [as_text(section(evidence)) for section in sections.SECTIONS]
    assert untold == set()
    for text in said:
        assert any("\u4e00" <= letter <= "\u9fff" for letter in text.splitlines()[0])
