"""What the feature benchmark says: goals, tables for people, the setting, the file."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

BOOK_GOALS = {"polars": (">=", 8), "duckdb": (">=", 15)}
PACKAGES = ("fraudlab", "numpy", "numba", "pandas", "polars", "duckdb", "pyarrow")


def goals(sections: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what is asked of the engine beside what was measured."""
    found: list[tuple[str, float, str, float]] = []
    if (part := sections.get("book")) and "fastest_competitor" in part:
        for name, row in part["engines"].items():
            if name != "fraudlab":
                found.append((f"book: {name}, times fraudlab", row["times_fraudlab"], *BOOK_GOALS.get(name, (">", 1))))
        in_full = part["pandas"].get("times_fraudlab")
        if in_full is not None:
            found.append(("book: the book's own pandas, times fraudlab", in_full, ">=", 500))
    for name, engine in sections.get("card", {}).get("engines", {}).items():
        found.append((f"card-v1: {name}, times fraudlab", engine["times_fraudlab"], ">=", 10))
    if part := sections.get("floor"):
        found.append(("book-12: times the floor", part["book-12"]["times_floor"], "<", 4))
    for name, part in sections.get("scaling", {}).items():
        found.append((f"{name}: ten times the entities, times as long", part["ten_times_the_entities"], "<=", 11))
    for name, part in sections.get("memory", {}).items():
        found.append((f"{name}: memory above the input per output", part["peak_above_input_per_output"], "<=", 1.5))
    for name, part in sections.get("cold", {}).items():
        if name != "skipped":
            found.append((f"{name}: first call ever, s", part["nothing_compiled"]["first_call_s"], "<", 15))
    if "median_us" in sections.get("online", {}):
        found.append(("card-v1 online: median, microseconds", sections["online"]["median_us"], "<", 500))
    holds = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}
    return [
        {"what": what, "measured": value, "goal": f"{sign} {limit:g}", "met": bool(holds[sign](value, limit))}
        for what, value, sign, limit in found
    ]


def show(name: str, part: dict[str, Any], console: Console) -> None:
    """Print one section as a table."""
    if "skipped" in part:
        console.print(f"{name}: skipped, {part['skipped']}\n")
        return
    if name == "book":
        title = f"The book's 12 window features, {part['rows']:,} rows, {part['data']}"
        rows = _timing_rows(part["engines"], times=True)
        pandas = part["pandas"]
        if "measured_in_full_s" in pandas:
            rows.append(
                (
                    "pandas, the book's code (one run)",
                    f"{pandas['measured_in_full_s']:.1f} s",
                    "",
                    "",
                    f"{pandas['times_fraudlab']:.0f}",
                )
            )
        else:
            rows.append(
                (
                    "pandas, the book's code (estimate, 1/20 run)",
                    f"{pandas['extrapolated_s']:.1f} s",
                    "",
                    "",
                    f"{pandas['times_fraudlab_extrapolated']:.0f}",
                )
            )
        table(console, title, ("", "median", "least", "most", "times fraudlab"), rows)
        console.print(
            f"equal on all rows, ties told apart; rows that share second and entity: {part['rows_with_ties']}; "
            f"rows that differ without: {part['rows_that_differ_when_ties_are_not_told_apart']}\n"
        )
    elif name == "card":
        title = f"card-v1, {part['columns']} columns, {part['rows']:,} rows, {part['data']}"
        table(console, title, ("", "median", "least", "most"), _timing_rows(part["timings"]))
        for engine, row in part["engines"].items():
            console.print(
                f"{engine}: {row['times_fraudlab']:.1f} times fraudlab on its {len(row['expressed'])} columns; equal. "
                f"Not expressed: {len(row['not_expressed'])}"
            )
            for column, why in row["not_expressed"].items():
                console.print(f"    {column} ({why})")
        console.print()
    elif name == "floor":
        rows = [
            (
                key,
                *(f"{p[seconds]:.3f} s" for seconds in ("floor_s", "compute_s", "least_floor_s", "least_compute_s")),
                *(f"{p[times]:.1f}" for times in ("times_floor", "times_floor_of_least")),
            )
            for key, p in part.items()
        ]
        heads = ("", "floor", "compute", "least floor", "least compute", "times floor", "times least")
        table(console, "Sorts + read + write, on one thread", heads, rows)
    elif name == "scaling":
        rows = [
            (key, f"{p['rows']:,}", f"{p['ten_times_the_entities']:.1f}", f"{p['ten_times_the_history']:.1f}")
            for key, p in part.items()
        ]
        table(console, "Ten times the rows, times as long", ("", "from rows", "more entities", "longer history"), rows)
    elif name == "memory":
        rows = [
            (
                key,
                *(f"{p[size] / 1e6:,.0f} MB" for size in ("input_bytes", "output_bytes")),
                f"{(p['peak_bytes'] - p['before_bytes']) / 1e6:,.0f} MB",
                f"{p['peak_above_input_per_output']:.2f}",
            )
            for key, p in part.items()
        ]
        table(console, "Peak memory of compute", ("", "input", "output", "above input", "per output"), rows)
    elif name == "cold":
        rows = [
            (key, *(f"{p[which]['first_call_s']:.1f} s" for which in ("nothing_compiled", "compiled_before")))
            for key, p in part.items()
        ]
        table(console, "First call in a process", ("", "nothing compiled", "compiled before"), rows)
    elif name == "online":
        console.print(
            f"Online, {part['columns']} columns, {part['customers']:,} customers, {part['history_rows']:,} earlier "
            f"payments, one core: median {part['median_us']:.0f} µs, 99 % {part['p99_us']:.0f} µs; learnt in "
            f"{part['learn_s']:.1f} s; equals compute: {part['equals_compute']}\n"
        )


def _timing_rows(took: dict[str, dict[str, Any]], times: bool = False) -> list[tuple[str, ...]]:
    rows = []
    for name, row in took.items():
        cells = (name, *(f"{row[key]:.3f} s" for key in ("median_s", "min_s", "max_s")))
        rows.append((*cells, f"{row['times_fraudlab']:.2f}") if times else cells)
    return rows


def table(console: Console, title: str, heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    made = Table(title=title, title_justify="left", box=None)
    for place, head in enumerate(heads):
        made.add_column(head, justify="right" if place else "left", no_wrap=True)
    for row in rows:
        made.add_row(*row)
    console.print(made)
    console.print()


def setting() -> dict[str, Any]:
    """Return what the figures depend on: versions, processor, threads."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    import numba

    threads = {"fraudlab": int(numba.config.NUMBA_NUM_THREADS)}
    if versions["polars"]:
        import polars

        threads["polars"] = polars.thread_pool_size()
    if versions["duckdb"]:
        import duckdb

        threads["duckdb"] = duckdb.sql("SELECT current_setting('threads')").fetchall()[0][0]
    return {
        "versions": versions,
        "cores": os.cpu_count(),
        "cpu": _cpu(),
        "machine": platform.machine(),
        "threads": threads,
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def write(results: dict[str, Any], path: Path) -> None:
    """Replace the file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)
