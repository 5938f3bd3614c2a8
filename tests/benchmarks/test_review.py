"""The browser review finds what it is there to find: a request, a broken rule, a page that spills over."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import review  # noqa: E402

from fraudlab.report.pages import Grid, Link, Part, page  # noqa: E402

GOOD = page(
    "Models and reports",
    kicker="Index",
    lead="One model.",
    links=[Link("Papers", "privacy/summary.html")],
    parts=[
        Part(
            "Models",
            ["A note."],
            [Grid("Every version", ["Model", "Reports"], [["demo", [Link("en", "r.html")]]], "ll")],
        )
    ],
)
BAD = """<!doctype html><html><head><title>t</title></head><body>
<img src="http://example.invalid/pixel.png"><p style="color:#ccc;background:#fff">pale</p>
<p style="width:900px">wide</p><script>throw new Error("broken")</script></body></html>"""


def test_pages_are_files_as_named_and_every_page_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.html", "a.html", "deep/c.html", "no.txt"):
        (tmp_path / name).touch()
    found = review.pages_of([tmp_path / "b.html", tmp_path])
    assert [path.name for path in found] == ["b.html", "a.html", "c.html"]
    with pytest.raises(SystemExit, match=r"review: no page at .*none\.html"):
        review.pages_of([tmp_path / "none.html"])


def test_every_kind_of_fault_counts() -> None:
    clean = {"requests": [], "errors": [], "violations": [], "spills": []}
    assert review.faults(clean) == 0
    assert all(review.faults(clean | {kind: ["x"]}) == 1 for kind in clean)


@pytest.mark.slow
def test_a_good_page_passes_and_a_bad_one_does_not(tmp_path: Path) -> None:
    pytest.importorskip("playwright", reason="the browser review needs playwright and axe-playwright-python")
    pytest.importorskip("axe_playwright_python", reason="the browser review needs playwright and axe-playwright-python")
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        pytest.skip("the browser review needs Chromium")
    (tmp_path / "good.html").write_text(GOOD)
    (tmp_path / "bad.html").write_text(BAD)
    (_, good), (_, bad) = review.reviewed([tmp_path / "good.html", tmp_path / "bad.html"])
    assert review.faults(good) == 0, good
    assert good["rules_passed"] > 10
    rules = {found["rule"] for found in bad["violations"]}
    assert {"image-alt", "html-has-lang", "color-contrast"} <= rules
    assert set(bad["requests"]) == {"example.invalid"}
    assert {found["view"] for found in bad["spills"]} == {"light, narrow", "dark, narrow"}
    assert any("broken" in said for said in bad["errors"])
