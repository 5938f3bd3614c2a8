"""A simulated year walked through: the demo bank retrained weekly, monthly, never, and weekly without a gate.

Two worlds: one in which nothing changes, and one in which two kinds of fraud begin in the middle of the year
(`dataset.simulate.onset`). Writes results/backtest.json, docs/images/backtest.png and the tables of docs/backtest.md.

    python benchmarks/backtest.py               # both worlds, about a quarter of an hour each on 2 quiet cores
    python benchmarks/backtest.py --page        # the page again, from the written results
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pandas as pd
from handbook_page import filled, table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "backtest.json"
PICTURE = ROOT / "docs" / "images" / "backtest.png"
PAGE = ROOT / "docs" / "backtest.md"

POLICIES = ("never", "monthly", "weekly", "weekly-ungated")
DAYS_BEFORE = 157
"""Days of payments before the walk starts: what a first model needs with the demo's windows and late reports."""
ONSET_WEEK = 20
BEGIN_LATE = ("card_testing", "impossible_travel")
KEPT = ("card_precision_at_k", "alerts_per_day", "recall", "money_caught_share", "net_saved_per_day")
WORLDS = {
    "steady": "nothing changes but the customers",
    "onset": f"{' and '.join(name.replace('_', ' ') for name in BEGIN_LATE)} begin in week {ONSET_WEEK + 1}",
}


def changes_of(world: str, weeks: int) -> dict[str, Any]:
    """Return what a world's config changes in that of the demo."""
    changes = {"name": f"year-{world}", "dataset__name": f"year-{world}"}
    changes |= {"dataset__simulate__days": DAYS_BEFORE + 7 * weeks}
    if world == "onset":
        changes |= {"dataset__simulate__onset": dict.fromkeys(BEGIN_LATE, DAYS_BEFORE + 7 * ONSET_WEEK)}
    return changes


def walked(world: str, weeks: int, jobs: int, home: Path) -> tuple[dict[str, Any], Any, list[tuple[Any, str]]]:
    """Make a world, walk through it and return its results for the file, the backtest and the marks of its picture."""
    from fraudlab.backtest_job import backtest
    from fraudlab.config import Workspace, load_config
    from fraudlab.datasets import ingest

    config = load_config(ROOT / "configs" / "demo.toml", **changes_of(world, weeks))
    workspace = Workspace(home)
    start = pd.Timestamp(config.dataset.simulate.start, tz="UTC") + pd.Timedelta(days=DAYS_BEFORE)
    marks = []
    if world == "onset":
        marks = [(start + pd.Timedelta(weeks=ONSET_WEEK), "two kinds of fraud begin")]
    ingest(config, workspace)
    began, cpu = time.perf_counter(), _cpu()
    done = backtest(
        config,
        workspace,
        project=ROOT,
        policies=POLICIES,
        start=start,
        end=start + pd.Timedelta(weeks=weeks),
        jobs=jobs,
        marks=marks,
        tell=lambda text: print(f"{time.perf_counter() - began:6.0f} s  {text}", flush=True),
    )
    seconds = {"wall": round(time.perf_counter() - began, 1), "cpu": round(_cpu() - cpu, 1), **done.facts["seconds"]}
    return result_of(world, done.tables, done.facts) | {"seconds": seconds}, done, marks


def result_of(world: str, tables: Mapping[str, pd.DataFrame], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the file keeps of a backtest."""
    totals, champions = tables["backtest_totals"], tables["backtest_champions"]
    kept = totals[totals["metric"].isin(KEPT)]
    rows = [
        {
            **{name: getattr(row, name) for name in ("policy", "by", "against", "metric", "block")},
            **{name: _number(getattr(row, name)) for name in ("value", "low", "high")},
        }
        for row in kept.itertuples()
    ]
    counts = champions.groupby("policy")["decision"].value_counts().unstack(fill_value=0)
    named = ("from", "to", "models", "payments", "payments_judged", "jobs", "said")
    return {
        "world": world,
        "about": WORLDS[world],
        **{name: facts[name] for name in named},
        "decisions": {
            policy: {name: int(counts.loc[policy].get(name, 0)) for name in ("promoted", "kept", "no model")}
            for policy in POLICIES
        },
        "totals": rows,
        "estimates": [
            {key: _number(value) if isinstance(value, float) else value for key, value in row.items()}
            for row in tables["backtest_estimates"].to_dict("records")
        ],
    }


def _number(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None


def _cpu() -> float:
    """Return the seconds of processor time of this process and its ended children."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def _spread(row: Mapping[str, Any] | None, metric: str, *, signed: bool = False) -> str:
    """Write a figure with its interval."""
    if row is None or row["value"] is None:
        return "not shown"
    per_cent = metric in ("card_precision_at_k", "recall", "money_caught_share")

    def said(value: float) -> str:
        text = f"{100 * value:{'+' if signed else ''}.1f}" if per_cent else f"{value:{'+' if signed else ''},.1f}"
        return text.replace("-", "−")

    unit = (" points" if signed else " %") if per_cent else ""
    spread = "" if row["low"] is None else f" ({said(row['low'])} to {said(row['high'])})"
    return f"{said(row['value'])}{unit}{spread}"


def of_world(result: Mapping[str, Any]) -> str:
    """Tabulate one world: what each policy found, and what it saved more than the first."""

    def found(**where: str) -> Mapping[str, Any] | None:
        rows = [row for row in result["totals"] if all(row[key] == value for key, value in where.items())]
        return rows[0] if rows else None

    base, rows = POLICIES[0], []
    for policy in POLICIES:
        own = {"policy": policy, "against": "", "block": "entity"}
        beside = {"policy": policy, "against": base, "metric": "net_saved_per_day", "by": "threshold"}
        rows.append(
            [
                policy,
                f"{result['decisions'][policy]['promoted']:,}",
                # Over weeks: a customer drawn twice fills two of a day's five places, which draws precision down.
                _spread(
                    found(**own | {"block": "week"}, by="budget", metric="card_precision_at_k"), "card_precision_at_k"
                ),
                _spread(found(**own, by="threshold", metric="alerts_per_day"), "alerts_per_day"),
                _spread(found(**own, by="threshold", metric="recall"), "recall"),
                _spread(found(**own, by="threshold", metric="net_saved_per_day"), "net_saved_per_day"),
                *(
                    "-" if policy == base else _spread(found(**beside, block=block), "net_saved_per_day", signed=True)
                    for block in ("entity", "week")
                ),
            ]
        )
    head = ["policy", "new champions", "CP@5", "cases a day", "frauds caught", "saved a day"]
    head += [f"more than {base}, over customers", "the same, over weeks"]
    seconds = result["seconds"]
    told = (
        f"{result['payments_judged']:,} payments from {result['from']} to {result['to']}, {result['models']} models; "
        f"{seconds['wall'] / 60:.1f} minutes on {result['jobs']} processes, {seconds['cpu'] / 60:.1f} of CPU."
    )
    told_by = [told, table(head, rows), "\n".join(f"- {said}." for said in result["said"])]
    return "\n\n".join([*told_by, *([_estimates(result["estimates"])] if result.get("estimates") else [])])


def _estimates(rows: list[Mapping[str, Any]]) -> str:
    """Tabulate how far the estimates made at each week's end, before labels, were from what the weeks turned out."""
    head = ["policy", "told at a week's end", "too high by", "off by", "spread", "by chance alone", "weeks"]
    names = {"precision": "precision stated", "corrected precision": "precision corrected", "recall": "recall stated"}

    def points(value: float | None, sign: str = "") -> str:
        return "not told" if value is None else f"{100 * value:{sign}.1f}".replace("-", "−")

    told = [
        [
            row["policy"],
            names[row["metric"]],
            points(row["bias"], "+"),
            *(points(row[key]) for key in ("error", "typical", "chance")),
            f"{row['n']}",
        ]
        for row in rows
    ]
    return "Estimates before labels, in points, against what the weeks turned out to be:\n\n" + table(head, told)


def parts(results: Mapping[str, Any]) -> dict[str, str]:
    """Return the measured parts of the page by the name of their markers."""
    return {result["world"]: of_world(result) for result in results["worlds"]}


def main() -> None:
    """Walk, write the results, draw the picture, fill the page."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--world", choices=tuple(WORLDS), action="append", help="only this one; default: both")
    options.add_argument("--weeks", type=int, default=52)
    options.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options.add_argument("--home", type=Path, default=ROOT / "build" / "backtest", help="where the data are made")
    options.add_argument("--page", action="store_true", help="only write the page anew")
    given = options.parse_args()
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {"worlds": []}
    for world in () if given.page else (given.world or WORLDS):
        result, done, marks = walked(world, given.weeks, given.jobs, given.home)
        others = [each for each in results["worlds"] if each["world"] != world]
        results = {
            "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
            "versions": {name: importlib.metadata.version(name) for name in ("numpy", "pandas", "scikit-learn")},
            "worlds": sorted([*others, result], key=lambda each: list(WORLDS).index(each["world"])),
        }
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        if world == "onset" or not PICTURE.is_file():
            draw(done.tables, pd.Timestamp(result["to"], tz="UTC"), marks)
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), parts(results)), encoding="utf-8")


def draw(tables: Mapping[str, pd.DataFrame], end: pd.Timestamp, marks: list[tuple[Any, str]]) -> None:
    """Draw the picture of the page."""
    from fraudlab import plots

    picture = plots.backtest(
        tables["backtest_champions"],
        tables["backtest_precision"],
        tables["backtest_periods"],
        tables["backtest_totals"],
        end=end,
        marks=marks,
    )
    picture.savefig(PICTURE, dpi=130, metadata={"Software": None})


if __name__ == "__main__":
    main()
