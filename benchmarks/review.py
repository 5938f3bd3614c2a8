"""Open reports in a real browser: nothing may leave, nobody may be shut out, nothing may spill over the screen.

    python benchmarks/review.py                              # every page in reports/
    python benchmarks/review.py reports/demo-1a2b3c4d5e.html # these only; writes nothing unless --out is given

Each page is opened by headless Chromium, light and dark, wide and 400 px narrow, with every request recorded and all
but the page itself refused. axe-core then checks it against WCAG 2.0, 2.1 and 2.2, levels A and AA. Needs Chromium and
`pip install playwright axe-playwright-python`. Exit code 1: a request left, a rule is broken, a page spills over, or a
report is too heavy or too slow to make.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from figures import setting, write
from rich.console import Console
from rich.table import Table

from fraudlab.report.sealing import embedded

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "review.json"
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa"]
WIDTHS = {"wide": 1280, "narrow": 400}
SCHEMES = ("light", "dark")
MOST_BYTES, MOST_SECONDS = 2_000_000, 20.0
"""What the report's own file may weigh, and take to make."""


def chromium() -> str:
    """Return the browser to use: CHROMIUM, or the first of the usual names."""
    for name in (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"):
        if name and (found := shutil.which(name)):
            return found
    raise SystemExit("review needs Chromium; install it (Debian: chromium) or name it in CHROMIUM")


def checker() -> str:
    """Return axe-core's source."""
    try:
        return files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    except ModuleNotFoundError:
        raise SystemExit("review needs: pip install playwright axe-playwright-python") from None


def pages_of(places: list[Path]) -> list[Path]:
    """Return the pages to open: files as they are, every page of a folder."""
    found = [page for place in places for page in (sorted(place.rglob("*.html")) if place.is_dir() else [place])]
    if missing := [page for page in found if not page.is_file()]:
        raise SystemExit(f"review: no page at {missing[0]}")
    return list(dict.fromkeys(found))


def reviewed(pages: list[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield each page with what opening it four times has shown."""
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        raise SystemExit("review needs: pip install playwright axe-playwright-python") from None
    axe = checker()
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        try:
            for page in pages:
                yield page, _page(browser, page, axe)
        finally:
            browser.close()


def _page(browser: Any, path: Path, axe: str) -> dict[str, Any]:
    found: dict[str, Any] = {"bytes": path.stat().st_size, "requests": [], "errors": [], "violations": [], "spills": []}
    checked = 0
    for scheme in SCHEMES:
        for width_name, width in WIDTHS.items():
            context = browser.new_context(
                color_scheme=scheme, viewport={"width": width, "height": 900}, reduced_motion="reduce"
            )
            context.route("**/*", lambda route, request: _only(path, route, request, found["requests"]))
            tab = context.new_page()
            tab.on("console", lambda said: found["errors"].append(said.text) if said.type == "error" else None)
            tab.on("pageerror", lambda error: found["errors"].append(str(error)))
            tab.goto(path.resolve().as_uri(), wait_until="load")
            view = f"{scheme}, {width_name}"
            over = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            if over > 0:
                found["spills"].append({"view": view, "pixels": over})
            # The page's own policy forbids scripts; the checker comes in beside it, through the browser's console.
            tab.evaluate(axe)
            told = tab.evaluate(
                "tags => axe.run(document, {runOnly: {type: 'tag', values: tags}, resultTypes: ['violations']})", LEVELS
            )
            checked = max(checked, len(told["passes"]))
            found["checker"] = told["testEngine"]["version"]
            for rule in told["violations"]:
                places = [" ".join(map(str, node["target"])) for node in rule["nodes"]]
                found["violations"].append(
                    {"view": view, "rule": rule["id"], "impact": rule["impact"], "places": len(places)}
                    | {"first": places[:3], "help": rule["help"]}
                )
            context.close()
    return found | {"rules_passed": checked}


def _only(path: Path, route: Any, request: Any, requests: list[str]) -> None:
    """Let the page itself through, note and refuse everything else."""
    if request.url.startswith("data:") or request.url.split("#")[0] == path.resolve().as_uri():
        route.continue_()
    else:
        requests.append(request.url.split("/")[2] or "a file beside it")
        route.abort()


def making(home: Path) -> dict[str, float]:
    """Return how many seconds the newest finished run's report takes to make, in each language."""
    from fraudlab.report import build_report
    from fraudlab.report.language import LANGUAGES

    finished = (path.parents[1] for path in home.glob("runs/*/evidence/decision.json"))
    runs = sorted(finished, key=lambda run: run.stat().st_mtime)
    took = {}
    for lang in LANGUAGES if runs else ():
        with tempfile.TemporaryDirectory() as passing:
            began = time.perf_counter()
            build_report(runs[-1], Path(passing) / "report.html", lang=lang)
            took[f"{runs[-1].name}, {lang}, made in"] = round(time.perf_counter() - began, 1)
    return took


def faults(found: dict[str, Any]) -> int:
    """Count what speaks against a page."""
    return sum(len(found[name]) for name in ("requests", "errors", "violations", "spills"))


def main() -> None:
    """Open the pages, print what was found, and fail where anything was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=Path, help="HTML files or folders; default: those of this project")
    parser.add_argument("--out", type=Path, help="where the figures go; default without PAGES: results/review.json")
    arguments = parser.parse_args()
    home = Path(os.environ.get("FRAUDLAB_HOME", ROOT))
    pages = pages_of(arguments.pages or [home / "reports"])
    if not pages:
        raise SystemExit("review: no page to open; make a report first (make run), or name pages")
    began = time.perf_counter()
    results, heavy = {}, []
    table = Table("page", "kB", "requests", "axe", "spills", "errors", box=None, header_style="bold")
    for path, found in reviewed(pages):
        name = str(path.relative_to(home)) if path.is_relative_to(home) else path.name
        results[name] = found
        counted = [str(len(found[each])) for each in ("requests", "violations", "spills", "errors")]
        table.add_row(name, f"{found['bytes'] / 1e3:,.0f}", *counted)
        if embedded(path.read_bytes()) and found["bytes"] > MOST_BYTES:
            heavy.append(name)
    console = Console()
    console.print(table)
    for name, found in results.items():
        for rule in found["violations"]:
            console.print(f"{name} ({rule['view']}): {rule['rule']}, {rule['help']}: {', '.join(rule['first'])}")
        for spill in found["spills"]:
            console.print(f"{name} ({spill['view']}): {spill['pixels']} px wider than the screen")
        for said in [*found["requests"], *found["errors"]]:
            console.print(f"{name}: {said}")
    made = {} if arguments.pages else making(home)
    for said, seconds in made.items():
        console.print(f"{said}: {seconds:.1f} s")
    slow = [said for said, seconds in made.items() if seconds > MOST_SECONDS]
    for name in heavy:
        console.print(f"{name}: heavier than {MOST_BYTES / 1e6:.0f} MB")
    bad = sum(map(faults, results.values())) + len(heavy) + len(slow)
    console.print(f"{len(results)} pages, {len(SCHEMES) * len(WIDTHS)} views each: {bad} faults")
    out = arguments.out or (None if arguments.pages else RESULTS)
    if out is not None:
        views = [f"{scheme}, {width} px" for scheme in SCHEMES for width in WIDTHS.values()]
        told = {"setting": setting(), "views": views, "levels": LEVELS, "faults": bad, "made": made, "pages": results}
        write(told, out)
    console.print(f"{time.perf_counter() - began:.0f} s")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
