"""What the training core adds to bare XGBoost: time of a fold, memory of a large fit, one matrix for many trials.

    python benchmarks/train.py --data path/to/handbook.parquet            # 1.75 million rows, some minutes
    python benchmarks/train.py --data path/to/handbook.parquet --small    # a look; writes nothing unless --out is given

Inputs are the 15 of the handbook on the published transactions and three further copies of them, each value times a
lognormal factor (sigma 0.05), so that the 60 columns have real shapes and no two are the same. Bare and own code do the
same by turns: bins, boosting that a validation period stops, its scores, an isotonic curve, the fit on the latest rows.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import figures
import frames
import numpy as np
import pandas as pd
import xgboost as xgb
from rich.console import Console

from fraudlab.boosting import boost, tree_data
from fraudlab.config import ModelConfig, SplitConfig
from fraudlab.features.sets import named_set
from fraudlab.splits import Fold, temporal_fold
from fraudlab.training import fit_estimator, fit_fold

RESULTS = Path(__file__).resolve().parent / "results" / "train.json"
COLUMNS = 60
TEST_END, PAYMENTS_A_DAY = "2018-08-15", 9_700
SPLIT = SplitConfig(train_days=28, delay_days=7, valid_days=7, test_days=7, test_start="2018-08-08")
SMALL_SPLIT = SPLIT.model_copy(update={"train_days": 7})
MODEL = ModelConfig(n_estimators=60, early_stopping_rounds=10, max_depth=5)
LARGE = ModelConfig(n_estimators=20, early_stopping_rounds=0, max_depth=6)
TRIALS = [
    ModelConfig(n_estimators=20, early_stopping_rounds=0, max_depth=depth, learning_rate=rate)
    for depth, rate in ((3, 0.1), (5, 0.1), (4, 0.2), (6, 0.05), (3, 0.3))
]
GOALS = {"own_over_bare": ("<=", 1.15), "peak_gb": ("<=", 8.0)}


def prepared(path: Path, rows: int | None, until: str | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the published transactions, the latest `rows` of those before `until`, and 60 inputs."""
    transactions = frames.published(path)
    if until is not None:
        transactions = transactions[transactions["event_time"] < pd.Timestamp(until, tz="UTC")]
    if rows is not None:
        transactions = transactions.iloc[-rows:].reset_index(drop=True)
    real = named_set("handbook").compute(transactions)
    rng = np.random.default_rng(0)
    values = np.empty((len(real), COLUMNS))
    names: list[str] = []
    for copy in range(COLUMNS // real.shape[1]):
        for place, name in enumerate(real.columns):
            factor = rng.lognormal(0, 0.05, len(real)) if copy else 1.0
            values[:, len(names)] = real.iloc[:, place].to_numpy(dtype=float) * factor
            names.append(f"{name}__copy{copy}" if copy else name)
    return transactions, pd.DataFrame(values, columns=names, copy=False)


def params(model: ModelConfig, threads: int) -> dict[str, Any]:
    """Return the library's own names of the settings."""
    named = ("learning_rate", "max_depth", "min_child_weight", "subsample", "colsample_bytree", "reg_lambda", "max_bin")
    return {name: getattr(model, name) for name in named} | {
        "objective": "binary:logistic",
        "eval_metric": ["logloss", "aucpr"],
        "tree_method": "hist",
        "base_score": model.base_score,
        "seed": 0,
        "nthread": threads,
    }


def bare_fold(values: np.ndarray, y: np.ndarray, fold: Fold, threads: int) -> np.ndarray:
    """Do by hand with the library what `fit_fold` does; returns the margins of the test rows."""
    from sklearn.isotonic import IsotonicRegression

    settings = params(MODEL, threads)
    train = xgb.QuantileDMatrix(values[fold.train], y[fold.train], max_bin=MODEL.max_bin, nthread=threads)
    valid = xgb.QuantileDMatrix(values[fold.valid], y[fold.valid], ref=train, max_bin=MODEL.max_bin, nthread=threads)
    stop = xgb.callback.EarlyStopping(rounds=MODEL.early_stopping_rounds, save_best=True)
    first = xgb.train(
        settings, train, MODEL.n_estimators, evals=[(valid, "valid")], callbacks=[stop], verbose_eval=False
    )
    score = first.inplace_predict(values[fold.valid])
    IsotonicRegression(out_of_bounds="clip").fit(score, y[fold.valid])
    refit = xgb.QuantileDMatrix(values[fold.refit], y[fold.refit], max_bin=MODEL.max_bin, nthread=threads)
    last = xgb.train(settings, refit, first.num_boosted_rounds())
    return last.inplace_predict(values[fold.test], predict_type="margin")


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Return seconds on the clock and of the processor, and what the work gave."""
    clock, processor = time.perf_counter(), time.process_time()
    found = work()
    return time.perf_counter() - clock, time.process_time() - processor, found


def overhead(
    transactions: pd.DataFrame, X: pd.DataFrame, split: SplitConfig, threads: int, times: int
) -> dict[str, Any]:
    """Time a fold by hand and by `fit_fold`, by turns, and hold the scores against each other."""
    fold = temporal_fold(transactions, split)
    y = transactions["is_fraud"].to_numpy(dtype=bool)
    values = np.ascontiguousarray(X.to_numpy())
    took: dict[str, list[tuple[float, float]]] = {"bare": [], "own": []}
    for number in range(times + 1):
        *seconds, bare = timed(lambda: bare_fold(values, y, fold, threads))
        own_seconds, own_processor, model = timed(
            lambda: fit_fold(X, transactions["is_fraud"], fold, model=MODEL, seed=0, threads=threads)
        )
        if number:
            took["bare"].append(tuple(seconds))
            took["own"].append((own_seconds, own_processor))
    equal = bool((model.margin(X.iloc[fold.test]) == bare).all())
    clock, processor = ({name: median(pair[at] for pair in pairs) for name, pairs in took.items()} for at in (0, 1))
    return {
        "train_rows": len(fold.train),
        "columns": X.shape[1],
        "trees": model.facts["trees"],
        "bare_s": clock["bare"],
        "own_s": clock["own"],
        "own_over_bare": clock["own"] / clock["bare"],
        "own_over_bare_processor": processor["own"] / processor["bare"],
        "times": times,
        "same_scores": equal,
    }


def shared_matrix(transactions: pd.DataFrame, X: pd.DataFrame, split: SplitConfig, threads: int) -> dict[str, Any]:
    """Time trials that share one matrix, and the same fits each with its own."""
    fold = temporal_fold(transactions, split)
    known = transactions["is_fraud"].iloc[fold.train].to_numpy(dtype=bool)
    train = X.iloc[fold.train]

    def together() -> list[np.ndarray]:
        data = tree_data(train.to_numpy(), known, list(X.columns), model=TRIALS[0], threads=threads)
        return [boost(data, model, 0, threads=threads)[0].margin(train.iloc[:1000].to_numpy()) for model in TRIALS]

    def apart() -> list[np.ndarray]:
        return [
            fit_estimator(train, known, model=model, seed=0, threads=threads).margin(train.iloc[:1000])
            for model in TRIALS
        ]

    one_s, one_processor, one = timed(together)
    each_s, each_processor, each = timed(apart)
    return {
        "trials": len(TRIALS),
        "train_rows": len(fold.train),
        "shared_s": one_s,
        "each_own_s": each_s,
        "shared_over_own": one_s / each_s,
        "shared_over_own_processor": one_processor / each_processor,
        "same_scores": all((a == b).all() for a, b in zip(one, each)),
    }


def large_fit(path: str, rows: int | None, threads: int, queue: Any) -> None:
    """In a process of its own: prepare, fit on all rows, report the peak of resident memory."""
    transactions, X = prepared(Path(path), rows)
    y = transactions["is_fraud"]
    del transactions
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    seconds, _, model = timed(lambda: fit_estimator(X, y, model=LARGE, seed=0, threads=threads))
    queue.put(
        {
            "rows": len(X),
            "columns": X.shape[1],
            "trees": model.facts["trees"],
            "seconds": seconds,
            "before_gb": before / 1e9,
            "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        }
    )


def alone(path: Path, rows: int | None, threads: int) -> dict[str, Any]:
    """Run `large_fit` in a fresh process."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=large_fit, args=(str(path), rows, threads, queue))
    process.start()
    found = queue.get()
    process.join()
    return found


def show(results: dict[str, Any], console: Console) -> None:
    """Print the three tables and what was asked."""
    fold, shared, large = (results[name] for name in ("overhead", "shared_matrix", "large_fit"))
    rows = [
        ("bare XGBoost, by hand", f"{fold['bare_s']:.2f} s", "1.00", "1.00"),
        (
            "fit_fold",
            f"{fold['own_s']:.2f} s",
            f"{fold['own_over_bare']:.2f}",
            f"{fold['own_over_bare_processor']:.2f}",
        ),
    ]
    title = f"One fold, {fold['train_rows']:,} x {fold['columns']}; same scores: {fold['same_scores']}"
    figures.table(console, title, ("", "median", "clock", "processor"), rows)
    rows = [
        ("one matrix", f"{shared['shared_s']:.2f} s", f"{shared['shared_over_own']:.2f}"),
        ("each its own", f"{shared['each_own_s']:.2f} s", "1.00"),
    ]
    title = f"{shared['trials']} trials, {shared['train_rows']:,} rows; same scores: {shared['same_scores']}"
    figures.table(console, title, ("", "seconds", "of it"), rows)
    rows = [(f"{large['rows']:,} x {large['columns']}", f"{large['seconds']:.0f} s", f"{large['peak_gb']:.1f} GB")]
    figures.table(console, f"One fit, {large['trees']} trees", ("", "seconds", "peak memory"), rows)
    for goal in results["goals"]:
        console.print(
            f"{goal['what']}: {goal['measured']:.2f} (asked: {goal['goal']}) {'met' if goal['met'] else 'NOT met'}"
        )


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the published transactions, one Parquet file")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of XGBoost; default: all cores")
    parser.add_argument("--times", type=int, default=3, help="rounds of the overhead, after one that is not counted")
    parser.add_argument("--small", action="store_true", help="the large fit on 100,000 rows")
    parser.add_argument("--out", type=Path, help="where the figures go (JSON)")
    arguments = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    large = alone(arguments.data, 100_000 if arguments.small else None, arguments.threads)
    split = SMALL_SPLIT if arguments.small else SPLIT
    days = split.train_days + 2 * split.delay_days + split.valid_days + split.test_days + 1
    transactions, X = prepared(arguments.data, days * PAYMENTS_A_DAY, TEST_END)
    results: dict[str, Any] = {
        "overhead": overhead(transactions, X, split, arguments.threads, arguments.times),
        "shared_matrix": shared_matrix(transactions, X, split, arguments.threads),
        "large_fit": large,
    }
    measured = {"own_over_bare": results["overhead"]["own_over_bare"], "peak_gb": large["peak_gb"]}
    results["goals"] = [
        {"what": what, "measured": measured[what], "goal": f"{sign} {limit:g}", "met": measured[what] <= limit}
        for what, (sign, limit) in GOALS.items()
    ]
    results |= figures.setting()
    results["versions"] |= {
        name: importlib.metadata.version(name) for name in ("xgboost-cpu", "scikit-learn") if _installed(name)
    }
    results["load_average"] = os.getloadavg()[0]
    show(results, console)
    out = arguments.out or (None if arguments.small else RESULTS)
    if out:
        figures.write(json.loads(json.dumps(results)), out)
        console.print(f"written to {out}")
    return 0


def _installed(name: str) -> bool:
    try:
        return bool(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return False


if __name__ == "__main__":
    sys.exit(main())
