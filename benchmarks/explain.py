"""How long it takes to explain 10,000 alerts of a model with some 60 inputs, and that the numbers are those of shap.

    python benchmarks/explain.py            # a minute; writes benchmarks/results/explain.json
    python benchmarks/explain.py --small    # 1,000 alerts; writes nothing unless --out is given

The inputs have the names and the kinds of the card-v1 features, so that reasons are written from its real words; their
values are drawn. Fitting is not timed. Explaining an alert is its contributions, checked to add up, and its reasons in
plain words; shap's own explainer gives the contributions alone.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import figures
import numpy as np
import pandas as pd
from rich.console import Console
from scipy.special import expit

from fraudlab.config import ModelConfig
from fraudlab.explain import contributions, interactions
from fraudlab.features.sets import CARD_V1
from fraudlab.models import FittedModel
from fraudlab.progress import progress_line
from fraudlab.reasons import reasons
from fraudlab.training import fit_estimator

RESULTS = Path(__file__).resolve().parent / "results" / "explain.json"
ALERTS, SMALL, TRAINING = 10_000, 1_000, 40_000
MODEL = ModelConfig(n_estimators=400, max_depth=4, early_stopping_rounds=0)
# Processor seconds bound the wall-clock time of a machine that does nothing else, and other work does not spoil them.
GOALS = {"explained_processor_s": ("<=", 15.0), "largest_difference": ("<=", 1e-4)}


def drawn(rows: int, describe: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Draw values of each feature's kind: flags, counts, shares, and skewed numbers with some of them missing."""
    rng = np.random.default_rng(seed)
    columns = {}
    for name, kind in zip(describe["column"], describe["kind"]):
        if kind == "flag":
            values = (rng.random(rows) < 0.2).astype(float)
        elif kind == "count":
            values = rng.poisson(2, rows).astype(float)
        elif kind in ("share", "part"):
            values = rng.beta(1, 6, rows)
        else:
            values = rng.lognormal(1, 1, rows)
            values[rng.random(rows) < 0.05] = np.nan
        columns[name] = values
    return pd.DataFrame(columns)


def fitted(describe: pd.DataFrame) -> FittedModel:
    """Fit the model on frauds that twenty of the features tell."""
    X = drawn(TRAINING, describe, 1)
    weight = np.random.default_rng(2).normal(0, 0.5, 20)
    y = np.random.default_rng(3).random(TRAINING) < expit(
        -4 + X.iloc[:, :20].fillna(0).clip(upper=10).to_numpy() @ weight
    )
    return fit_estimator(X, y, model=MODEL, seed=0)


def timed(work: Callable[[], Any], times: int) -> tuple[float, float, Any]:
    """Return the least seconds, the least processor seconds, and what the work gave."""
    wall = processor = np.inf
    for _ in range(times):
        began, busy = time.perf_counter(), time.process_time()
        given = work()
        wall, processor = min(wall, time.perf_counter() - began), min(processor, time.process_time() - busy)
    return wall, processor, given


def measure(rows: int, times: int) -> dict[str, Any]:
    """Explain the rows by own code and by shap, and compare."""
    import shap

    describe = CARD_V1.describe()
    model, X = fitted(describe), drawn(rows, describe, 4)

    def explained() -> tuple[pd.DataFrame, list[list[str]]]:
        with progress_line("explaining", after=3) as say:
            table = contributions(model, X, say=say)
        return table, reasons(table, X, describe)

    whole, whole_processor, (table, said) = timed(explained, times)
    alone, _, _ = timed(lambda: contributions(model, X), times)
    told, _, _ = timed(lambda: reasons(table, X, describe), times)
    oracle, _, values = timed(lambda: shap.TreeExplainer(model.estimator.booster)(X).values, 1)
    pairs, _, _ = timed(lambda: interactions(model, X.iloc[:100], describe), 1)
    gap = np.abs(table[list(model.features)].to_numpy() - values).max()
    return {
        "alerts": rows,
        "features": len(model.features),
        "trees": model.facts["trees"],
        "explained_s": whole,
        "explained_processor_s": whole_processor,
        "contributions_s": alone,
        "reasons_s": told,
        "reasons": sum(map(len, said)),
        "shap_s": oracle,
        "largest_difference": float(gap),
        "largest_gap_to_margin": float(np.abs(table.sum(axis=1) - model.margin(X)).max()),
        "interactions_ms_a_row": 10 * pairs,
    }


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help=f"{SMALL:,} alerts in place of {ALERTS:,}")
    parser.add_argument("--times", type=int, default=3, help="of each; the quickest counts")
    parser.add_argument("--out", type=Path, help="where the figures go (JSON)")
    arguments = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    found = measure(SMALL if arguments.small else ALERTS, arguments.times)
    results: dict[str, Any] = {"explain": found}
    results["goals"] = [
        {"what": what, "measured": found[what], "goal": f"{sign} {limit:g}", "met": found[what] <= limit}
        for what, (sign, limit) in GOALS.items()
    ]
    results |= figures.setting()
    results["versions"] |= {name: importlib.metadata.version(name) for name in ("shap",)}
    results["load_average"] = os.getloadavg()[0]
    rows = [
        ("contributions and reasons", f"{found['explained_s']:.1f} s", f"{found['explained_processor_s']:.1f} s"),
        ("contributions alone", f"{found['contributions_s']:.1f} s", ""),
        ("reasons alone", f"{found['reasons_s']:.1f} s", ""),
        ("shap.TreeExplainer, contributions", f"{found['shap_s']:.1f} s", ""),
    ]
    title = f"{found['alerts']:,} alerts, {found['features']} features, {found['trees']} trees"
    figures.table(console, title, ("", "seconds", "processor"), rows)
    for goal in results["goals"]:
        met = "met" if goal["met"] else "NOT met"
        console.print(f"{goal['what']}: {goal['measured']:.3g} (asked: {goal['goal']}) {met}")
    out = arguments.out or (None if arguments.small else RESULTS)
    if out:
        figures.write(json.loads(json.dumps(results)), out)
        console.print(f"written to {out.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
