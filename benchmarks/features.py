"""The feature engine beside Polars, DuckDB and pandas: time, memory, scaling, first call, one payment at a time.

Every competitor starts from its own structure in memory and ends with a table in the caller's row order; what it gives
is compared with fraudlab's in the same run, and a difference ends the benchmark with exit code 1. `recipes` and
`card_recipes` hold the competitors' recipes, `probes` what needs a process of its own.

    python benchmarks/features.py --data path/to/handbook.parquet
    python benchmarks/features.py --quick                 # a look in seconds, on simulated payments, nothing written
    python benchmarks/features.py --only card scaling     # these sections; the others in the file stay

Without `--data` the book's features are computed on fraudlab's simulator.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import functools
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import frames
import numpy as np
import pandas as pd
import psutil
from card_polars import polars_card
from card_recipes import Given, duckdb_card
from figures import goals, setting, show, table, write
from probes import feature_set
from recipes import BOOK_12, book_pandas, book_recipes, dict_of_columns, ties
from rich.console import Console

from fraudlab.features import FeatureSet
from fraudlab.features.kernels import jit
from fraudlab.features.sets import CARD_V1

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "features.json"
SECTIONS = ("book", "card", "floor", "scaling", "memory", "cold", "online")

# What both sides must give to the last bit, and how far apart other numbers may lie: fraudlab's sums are exact and
# rounded once, the others' are rounded at every step. Spreads and angles lose more (relative or absolute), and where
# nothing is left in a window a sliding sum may hold some 1e-14 of what has passed through it (absolute).
EXACT = {"count", "distinct", "repeats", "frauds", "labelled", "is_new", "hour", "night", "weekday", "weekend", "round"}
ROUGH = {"std", "zscore", "entropy", "hour_shift", "distance", "speed"}
SLIDING = {"total"}
RELATIVE, ROUGHLY = 1e-12, 1e-9
WARM = 1 << 30  # bytes
PANDAS_PART = 20
PANDAS_LIMIT = 300  # seconds that the book's own code may take before it is only run on a part


class Mismatch(Exception):
    """A competitor gives other numbers than fraudlab."""


@dataclasses.dataclass
class Bench:
    """What the sections share: the options, the tables (each made once) and where the table is printed."""

    options: argparse.Namespace
    console: Console
    made: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def runs(self) -> int:
        return 1 if self.options.quick else self.options.runs

    def once(self, key: str, make: Callable[[], Any]) -> Any:
        if key not in self.made:
            self.made[key] = make()
        return self.made[key]

    def rows(self, usual: int) -> int:
        if self.options.rows:
            return min(usual, self.options.rows)
        return min(usual, 8_000) if self.options.quick else usual

    def book(self) -> pd.DataFrame:
        def make() -> pd.DataFrame:
            if self.options.data:
                return frames.part_of(frames.published(self.options.data), self.rows(10**9))
            self.console.print("No published transactions given: simulated payments in the book's shape instead.")
            return frames.like_the_book(frames.simulated(self.rows(1_000_000)))

        return self.once("book", make)

    def card(self) -> pd.DataFrame:
        return self.once("card", lambda: frames.simulated(self.rows(self.options.card_rows)))


# --- measuring --------------------------------------------------------------------------------------------------------


def warm_memory() -> None:
    """Write some memory with every core, and free it.

    A host of virtual machines may take back what lay free for some seconds; to write that for the first time takes up
    to twenty times as long. A core that had nothing to do comes back slowly, too. With this a run does not pay for how
    long the one before it took, or for memory that it gives back where others keep theirs.
    """
    cores = jit.threads()
    share = min(WARM, psutil.virtual_memory().available // 4) // cores
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(lambda _: np.empty(share, np.uint8).fill(1), range(cores)))


def interleaved(runs: dict[str, Callable[[], Any]], times: int) -> dict[str, dict[str, Any]]:
    """Time every function `times` times, in turn (A B C A B C ...), after one run that is not counted."""
    took: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(times + 1):
        for name, run in runs.items():
            gc.collect()
            warm_memory()
            began = time.perf_counter()
            result = run()
            seconds = time.perf_counter() - began
            del result
            if turn:
                took[name].append(seconds)
    return {
        name: {"median_s": median(found), "min_s": min(found), "max_s": max(found), "runs": len(found)}
        for name, found in took.items()
    }


def compare(name: str, expected: dict[str, np.ndarray], found: dict[str, np.ndarray], statistic: dict[str, str]) -> Any:
    """Return the largest difference per column that is not exactly equal, relative to it unless it is about 0.

    What differs by more than it may is a `Mismatch`.
    """
    differs = {}
    for column, theirs in found.items():
        ours, theirs = expected[column].astype(np.float64), theirs.astype(np.float64)
        if np.array_equal(ours, theirs, equal_nan=True):
            continue
        what = statistic[column]
        relative = 0.0 if what in EXACT else ROUGHLY if what in ROUGH else RELATIVE
        absolute = ROUGHLY if what in ROUGH | SLIDING else 0.0
        same = np.isclose(theirs, ours, rtol=relative, atol=absolute, equal_nan=True)
        if not same.all():
            raise Mismatch(f"{name}: column {column} differs from fraudlab's in {int((~same).sum()):,} rows")
        size = np.abs(ours)
        differs[column] = float(np.nanmax(np.abs(ours - theirs) / np.where(size > 1e-6, size, 1.0)))
    return differs


def statistics_of(specs: Iterable[Any]) -> dict[str, str]:
    return {column: spec.statistic for spec in specs for column in spec.columns}


def with_ratios(took: dict[str, dict[str, Any]], ours: str) -> dict[str, dict[str, Any]]:
    """Add how many times fraudlab's median each median is."""
    for row in took.values():
        row["times_fraudlab"] = row["median_s"] / took[ours]["median_s"]
    return took


def in_process(what: str, name: str, frame: pd.DataFrame, **environment: str) -> dict[str, Any]:
    """Run a probe in a fresh process; return what it printed and how long the whole process took."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.parquet"
        frame.to_parquet(path)
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("probes.py")), what, name, str(path)],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return json.loads(done.stdout) | {"process_s": time.perf_counter() - began}


# --- sections ---------------------------------------------------------------------------------------------------------


def book(bench: Bench) -> dict[str, Any]:
    """The book's 12 window features: every competitor's best form."""
    frame = bench.book()
    recipes = book_recipes(frame)
    expected = dict_of_columns(BOOK_12.compute(frame))
    statistic = statistics_of(BOOK_12.specs)
    differs, by_ties = {}, {}
    for name, recipe in recipes.items():
        if name != "fraudlab":
            differs[name] = compare(name, expected, recipe.columns(recipe.run()), statistic)
    # The same recipes with the plain times: how many rows only ties set apart.
    for name, recipe in book_recipes(frame, tell_ties=False).items():
        if name in ("polars", "duckdb"):
            found = recipe.columns(recipe.run())
            apart = [~np.isclose(found[c], expected[c], rtol=RELATIVE, atol=0) for c in expected]
            by_ties[name] = int(np.any(apart, axis=0).sum())
    took = interleaved({name: recipe.run for name, recipe in recipes.items()}, bench.runs)
    result = {
        "rows": len(frame),
        "data": "published transactions" if bench.options.data else "simulated payments in the book's shape",
        "columns": len(BOOK_12.columns),
        "engines": with_ratios(took, "fraudlab"),
        "largest_difference": {name: max(found.values(), default=0.0) for name, found in differs.items()},
        "rows_with_ties": ties(frame),
        "rows_that_differ_when_ties_are_not_told_apart": by_ties,
        "pandas": _book_in_pandas(bench, frame, expected, took["fraudlab"]["median_s"]),
    }
    best = min((name for name in took if name != "fraudlab"), key=lambda name: took[name]["median_s"], default=None)
    if best:
        result["fastest_competitor"] = best
    return result


def _book_in_pandas(bench: Bench, frame: pd.DataFrame, expected: dict[str, np.ndarray], ours: float) -> dict[str, Any]:
    """Time the book's recipe on every 20th customer and terminal, and on all of them unless that takes too long."""
    statistic = statistics_of(BOOK_12.specs)

    def timed(step: int) -> float:
        seconds = 0.0
        for entity in ("customer_id", "merchant_id"):
            rows = np.flatnonzero(frame[entity].to_numpy() % step == 0)
            part = frame.iloc[rows]
            gc.collect()
            began = time.perf_counter()
            found = book_pandas(part, entity)
            seconds += time.perf_counter() - began
            compare("pandas", {c: expected[c][rows] for c in found}, dict_of_columns(found), statistic)
        return seconds

    part = timed(PANDAS_PART)
    result: dict[str, Any] = {
        "measured_on_a_part": {"part": f"every {PANDAS_PART}th customer and terminal", "seconds": part},
        "extrapolated_s": part * PANDAS_PART,
        "extrapolated_note": f"an estimate, {PANDAS_PART} times the part; not measured",
    }
    if bench.options.full or (not bench.options.quick and part * PANDAS_PART < PANDAS_LIMIT):
        bench.console.print(f"The book's own code on all rows, once (about {part * PANDAS_PART:.0f} s) ...")
        result["measured_in_full_s"] = timed(1)
        result["times_fraudlab"] = result["measured_in_full_s"] / ours
    else:
        result["times_fraudlab_extrapolated"] = result["extrapolated_s"] / ours
    return result


def only(specs: Iterable[Any], columns: Iterable[str]) -> list[Any]:
    """Return the specs of these columns; a spec of several windows keeps those asked for."""
    wanted, kept = set(columns), []
    for spec in specs:
        of = [column in wanted for column in spec.columns]
        if all(of):
            kept.append(spec)
        elif any(of):
            kept.append(dataclasses.replace(spec, window=tuple(w for w, yes in zip(spec.window, of) if yes)))
    return kept


def card(bench: Bench) -> dict[str, Any]:
    """The default set: each competitor on the columns it can express, beside fraudlab on the same columns."""
    frame = bench.card()
    categories = frame.copy()
    for name in frame.columns:
        if isinstance(frame[name].dtype, pd.StringDtype) and name != "transaction_id":
            categories[name] = frame[name].astype("category")
    given = Given(frame, CARD_V1.specs)
    expected = dict_of_columns(FeatureSet("card-as-float64", CARD_V1.specs).compute(frame))
    statistic = statistics_of(CARD_V1.specs)
    runs: dict[str, Callable[[], Any]] = {
        "fraudlab, whole set": lambda: CARD_V1.compute(frame),
        "fraudlab, whole set, ids as categories": lambda: CARD_V1.compute(categories),
    }
    engines: dict[str, Any] = {}
    for name, recipe_for in (("polars", polars_card), ("duckdb", duckdb_card)):
        try:
            recipe, expressed, left = recipe_for(given, CARD_V1.specs)
        except ImportError:
            continue
        differs = compare(name, expected, recipe.columns(recipe.run()), statistic)
        same = FeatureSet(f"card-as-{name}", only(CARD_V1.specs, expressed))
        assert sorted(same.columns) == sorted(expressed)
        runs[name] = recipe.run
        runs[f"fraudlab, the columns of {name}"] = lambda same=same: same.compute(frame)
        engines[name] = {
            "expressed": expressed,
            "not_expressed": left,
            "largest_difference": differs,
        }
    took = interleaved(runs, bench.runs)
    for name, engine in engines.items():
        engine["times_fraudlab"] = took[name]["median_s"] / took[f"fraudlab, the columns of {name}"]["median_s"]
        engine["times_fraudlab_whole_set"] = took[name]["median_s"] / took["fraudlab, whole set"]["median_s"]
    return {
        "rows": len(frame),
        "columns": len(CARD_V1.columns),
        "digest": CARD_V1.digest,
        "data": "simulated payments",
        "engines": engines,
        "timings": took,
    }


def floor(bench: Bench) -> dict[str, Any]:
    """How close to what nothing can avoid: one sort per entity kind, one read of the input, one write of the output."""
    result = {}
    for features, frame in ((BOOK_12, bench.book()), (CARD_V1, bench.card())):
        runs = _floor_steps(features, frame) | {"compute": lambda f=features, t=frame: f.compute(t)}
        took = interleaved(runs, bench.runs)
        median_floor, least_floor = (_floor_of(took, key) for key in ("median_s", "min_s"))
        result[features.name] = {
            "rows": len(frame),
            "steps": took,
            "floor_s": median_floor,
            "compute_s": took["compute"]["median_s"],
            "times_floor": took["compute"]["median_s"] / median_floor,
            "least_floor_s": least_floor,
            "least_compute_s": took["compute"]["min_s"],
            "times_floor_of_least": took["compute"]["min_s"] / least_floor,
            "note": "the floor: one thread, the faster of two sorts; medians of both sides, and the least of both",
        }
    return result


def _floor_of(took: dict[str, dict[str, Any]], key: str) -> float:
    """Add up the faster sort of each entity kind, the read and the write."""
    steps: dict[str, float] = {}
    for name, row in took.items():
        if name != "compute":
            what = name.split(" of ")[-1]
            steps[what] = min(row[key], steps.get(what, np.inf))
    return sum(steps.values())


@functools.cache
def _counting_sort() -> Callable[[np.ndarray, int], np.ndarray]:
    """Compile a stable counting sort of codes 0 .. groups - 1, once."""
    import numba

    @numba.njit
    def counting_sort(codes, groups):
        free = np.zeros(groups + 1, np.int64)
        for code in codes:
            free[code + 1] += 1
        for g in range(groups):
            free[g + 1] += free[g]
        order = np.empty(codes.size, np.int32)
        for i in range(codes.size):
            order[free[codes[i]]] = i
            free[codes[i]] += 1
        return order

    return counting_sort


def _floor_steps(features: FeatureSet, frame: pd.DataFrame) -> dict[str, Callable[[], Any]]:
    steps: dict[str, Callable[[], Any]] = {}
    for entity in sorted({tuple(spec.entity) for spec in features.specs if spec.entity}):
        codes = frame.groupby(list(entity), sort=False, dropna=False).ngroup().to_numpy().astype(np.int32)
        groups = int(codes.max(initial=0)) + 1
        name = " and ".join(entity)
        steps[f"sort (numpy) of {name}"] = lambda c=codes: np.argsort(c, kind="stable")
        steps[f"sort (counting) of {name}"] = lambda c=codes, g=groups: _counting_sort()(c, g)
    read = [words for name in features.requires for words in _words(frame[name])]
    size, width = len(frame), len(features.columns)

    def write() -> np.ndarray:
        out = np.empty((size, width), features.dtype)
        out.fill(0)
        return out

    steps["read"] = lambda: sum(int(words.max(initial=0)) for words in read)
    steps["write"] = write
    return steps


def _words(values: pd.Series) -> list[np.ndarray]:
    """Return a column's bytes as 64-bit words, without copying them."""
    array = values.array
    if isinstance(values.dtype, pd.StringDtype) and hasattr(array, "__arrow_array__"):
        chunks = array.__arrow_array__()
        buffers = [b for chunk in getattr(chunks, "chunks", [chunks]) for b in chunk.buffers() if b is not None]
        return [np.frombuffer(b, np.int64, count=b.size // 8) for b in buffers]
    if isinstance(values.dtype, pd.BooleanDtype):
        parts = [array._data, array._mask]
    else:
        parts = [array.asi8 if isinstance(values.dtype, pd.DatetimeTZDtype) else values.to_numpy()]
    return [np.frombuffer(part, np.int64, count=part.nbytes // 8) for part in map(np.ascontiguousarray, parts)]


def scaling(bench: Bench) -> dict[str, Any]:
    """Ten times the rows: of ten times the entities, and of histories ten times as long."""
    result = {}
    rows = bench.rows(bench.options.scaling_rows) // (4 if bench.options.quick else 1)
    for features, whole in ((BOOK_12, bench.book()), (CARD_V1, bench.card())):
        base = frames.part_of(whole, rows)
        tables = {
            "rows": base,
            "ten times the entities": frames.ten_times(base, longer=False),
            "ten times the history": frames.ten_times(base, longer=True),
        }
        runs = {name: lambda f=features, t=frame: f.compute(t) for name, frame in tables.items()}
        took = interleaved(runs, bench.runs)
        ours = took["rows"]["median_s"]
        result[features.name] = {
            "rows": len(base),
            "timings": took,
            "ten_times_the_entities": took["ten times the entities"]["median_s"] / ours,
            "ten_times_the_history": took["ten times the history"]["median_s"] / ours,
        }
    return result


def memory(bench: Bench) -> dict[str, Any]:
    """Peak memory of `compute` in a fresh process, above the loaded input, per byte of output."""
    return {
        features.name: in_process("memory", features.name, frame[list(features.requires)])
        for features, frame in ((BOOK_12, bench.book()), (CARD_V1, bench.card()))
    }


def cold(bench: Bench) -> dict[str, Any]:
    """The first call in a new process: with nothing compiled yet, and with the compiled code on disk."""
    if bench.options.quick:
        return {"skipped": "compiling takes longer than --quick may"}
    result = {}
    for name, frame in (("book-12", bench.book()), ("handbook", bench.book()), ("card-v1", bench.card())):
        few = frame.head(2000)[list(feature_set(name).requires)]
        with tempfile.TemporaryDirectory() as cache:
            first, second = (in_process("cold", name, few, NUMBA_CACHE_DIR=cache) for _ in range(2))
        result[name] = {"nothing_compiled": first, "compiled_before": second}
    return result


def online(bench: Bench) -> dict[str, Any]:
    """One payment at a time: the default set after a history of 100,000 customers, on one core."""
    if not hasattr(FeatureSet, "online"):
        return {"skipped": "FeatureSet.online does not exist"}
    few = bench.options.quick or bench.options.rows
    frame = frames.simulated(0, customers=2_000 if few else 100_000, days=30)
    return in_process("online", "card-v1", frame[list(CARD_V1.requires)], NUMBA_NUM_THREADS="1")


def main() -> int:
    """Run the sections; exit code 1 where a competitor's numbers differ from fraudlab's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="the published transactions, one Parquet file (default: simulated)")
    parser.add_argument("--out", type=Path, help=f"where the figures go (default: {RESULTS.relative_to(ROOT)})")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="run these sections")
    parser.add_argument("--rows", type=int, help="at most about so many rows")
    parser.add_argument("--card-rows", type=int, default=300_000, help="rows of the default set's table (300,000)")
    parser.add_argument("--scaling-rows", type=int, default=200_000, help="rows before they become ten times as many")
    parser.add_argument("--runs", type=int, default=15, help="timed runs of each, after one that is not counted (15)")
    parser.add_argument("--full", action="store_true", help="the book's pandas code on all rows, however long it takes")
    parser.add_argument("--quick", action="store_true", help="a look on few rows; writes nothing unless --out is given")
    options = parser.parse_args()
    if options.data and not options.data.exists():
        parser.error(f"{options.data} does not exist")
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 120  # a log has no edge that a table must respect
    bench = Bench(options, console)
    out = options.out or (None if options.quick or options.rows else RESULTS)
    where = setting()
    results: dict[str, Any] = {}
    if out and out.exists() and len(options.only) < len(SECTIONS):
        results = json.loads(out.read_text(encoding="utf-8"))
        if results.get("setting") != where:
            console.print("The file's figures come from another setting; they are not kept.")
            results = {}
    sections = results.get("sections", {})
    run = {name: globals()[name] for name in SECTIONS if name in options.only}
    for name, section in run.items():
        load = os.getloadavg()[0]
        began = time.perf_counter()
        try:
            part = section(bench)
        except Mismatch as mismatch:
            sys.stderr.write(f"{mismatch}\n")
            return 1
        sections[name] = part
        show(name, part, console)
        results.setdefault("sections_run", {})[name] = {
            "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "seconds": round(time.perf_counter() - began, 1),
            "load_before": round(load, 2),
        }
    reached = [] if bench.options.quick else goals(sections)  # so few rows say nothing about them
    rows = [(g["what"], f"{g['measured']:.2f}", g["goal"], "yes" if g["met"] else "no") for g in reached]
    if rows:
        table(console, "Goals", ("", "measured", "goal", "met"), rows)
    if out:
        write({"setting": where, "goals": reached} | results | {"goals": reached, "sections": sections}, out)
        console.print(f"written to {out}")
    if not sections.get("online", {}).get("equals_compute", True):
        sys.stderr.write("online: the numbers differ from those of compute\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
