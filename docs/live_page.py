"""Draw docs/images/live.png again, the live page of the demo after an hour: `python docs/live_page.py`.

Needs a finished demo (`make run`), its monitoring report, playwright and Chromium. The payments are invented: the
demo's bank a few days later, an hour of them compressed into as many seconds as the scorer needs.
"""

from __future__ import annotations

import math
import shutil
import time
from pathlib import Path

import pandas as pd
from playwright.sync_api import sync_playwright

from fraudlab import monitoring
from fraudlab.config import Workspace, load_config
from fraudlab.dashboard import AtWork, pages_of, served
from fraudlab.datasets.simulate import simulate
from fraudlab.scoring.figures import Figures
from fraudlab.scoring.live import Live
from fraudlab.scoring.scorer import Scorer, deployed, learn, load_history, open_door

ROOT = Path(__file__).resolve().parents[1]
NOON = pd.Timestamp("2026-07-03T12:00:00Z").timestamp()


def later(workspace: Workspace) -> tuple[Live, list[dict]]:
    """Return the demo's scorer, keeping nothing, and raw payments that come after its history."""
    config = load_config(ROOT / "configs" / "demo.toml")
    bank = config.dataset.simulate
    raw = simulate(bank.model_copy(update={"days": bank.days + 5}), config.seed)
    model = deployed(workspace, "demo")
    history = load_history(workspace, model)
    raw = raw[pd.to_datetime(raw["paid_at"], utc=True) > history["event_time"].iloc[-1]]
    raw = raw.sort_values(["paid_at", "payment_id"]).drop(columns=["reported_fraud", "reported_at", "fraud_scenario"])
    raw = raw.assign(payment_id="L" + raw["payment_id"].astype(str), paid_at=raw["paid_at"].astype(str))
    live = Live(model, Scorer(model.package, learn(model.package, history)), open_door(workspace, model, ahead=None))
    return live, raw.astype(object).where(raw.notna(), None).to_dict("records")


def scored(live: Live, rows: list[dict]) -> Figures:
    """Return the figures of an hour in which so many payments come as a day has at that pace."""
    figures = Figures(NOON - 3_600)
    done = 0
    for second in range(3_600):
        due = int(len(rows) * (second / 3_600 - 0.02 * math.sin(second / 400)))
        for row in rows[done : max(done, due)]:
            started = time.thread_time()  # other work on the machine is not to be in the picture
            answers = live.take([row])
            alerts = [answer for answer in answers if answer.scored is not None and answer.scored.alert]
            told = live.scorer.told([answer.scored for answer in alerts])
            reasons = {answer.number: found for answer, found in zip(alerts, told)}
            figures.note(answers, time.thread_time() - started, now=NOON - 3_600 + second, reasons=reasons)
        done = max(done, due)
    return figures


def main(out: Path, *views: tuple[str, int, str, str]) -> None:
    """Write a screenshot for each view: scheme, width, language, name."""
    workspace = Workspace.of(ROOT / "configs" / "demo.toml")
    live, rows = later(workspace)
    work = AtWork(live, scored(live, rows[:4_000]), lambda: monitoring.newest(workspace, "demo", live.model.version))
    browser_at = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with served(pages_of(work, clock=lambda: NOON)) as address, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=browser_at, args=["--no-sandbox"])
        for scheme, width, lang, name in views:
            size = {"width": width, "height": 900}
            tab = browser.new_context(color_scheme=scheme, viewport=size, reduced_motion="reduce").new_page()
            tab.goto(f"{address}?lang={lang}")
            tab.screenshot(path=out / name, full_page=True)
        browser.close()


if __name__ == "__main__":
    main(ROOT / "docs" / "images", ("light", 1100, "en", "live.png"))
