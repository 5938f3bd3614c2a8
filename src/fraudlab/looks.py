"""The log of looks at the test: each evaluation on a test period leaves a line, and reports say how many there were.

A test that is looked at again and again, each time with another model, ends up choosing the luckiest; no interval shows
that. So `record` appends one JSON line to `runs/test_looks.jsonl`, and `at_period` finds those that looked at the same
days of a data set before.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from fraudlab.schema import InputError, utc

COLUMNS = ("when", "run", "dataset", "data_digest", "config_digest", "test_start", "test_end", "model", "result")

HEADLINE = ("auc_roc", "average_precision", "card_precision_at_k")
"""Metrics of a metric table that a look keeps."""


def record(
    path: Path,
    *,
    run: str,
    dataset: str,
    data_digest: str,
    config_digest: str,
    test_start: Any,
    test_end: Any,
    model: str,
    result: Mapping[str, float],
    when: pd.Timestamp | None = None,
) -> None:
    """Append one look: a whole line or none, also when several processes look at once.

    Parameters
    ----------
    path : the log, one JSON object a line; made when absent, for its owner only.
    run, dataset, data_digest, config_digest : which run looked, and what decided its result.
    test_start, test_end : the period [start, end) that was looked at, with a time zone.
    model : which model was judged.
    result : metric -> value, the headline.
    when : with a time zone; default: now.
    """
    moments = {name: utc(value, name).isoformat() for name, value in (("start", test_start), ("end", test_end))}
    entry = {
        "when": (pd.Timestamp.now("UTC") if when is None else utc(when, "when")).floor("s").isoformat(),
        "run": run,
        "dataset": dataset,
        "data_digest": data_digest,
        "config_digest": config_digest,
        "test_start": moments["start"],
        "test_end": moments["end"],
        "model": model,
        "result": {name: round(float(value), 6) for name, value in result.items()},
    }
    line = json.dumps(entry, sort_keys=False, allow_nan=False).encode() + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        size = file.seek(0, os.SEEK_END)
        if file.write(line) != len(line):  # a full disk: what was begun is taken back
            file.truncate(size)
            raise OSError(28, f"{path.name}: no space to note a look at the test")
        os.fsync(file.fileno())


def read(path: Path) -> pd.DataFrame:
    """Return every look in the order of the log, columns `COLUMNS`; times in UTC. No file: no looks.

    Raises
    ------
    InputError : a line is no look; the log is evidence and must not be guessed at.
    """
    rows = []
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            rows.append([entry[name] for name in COLUMNS])
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"{path.name}: each line must be a look at a test; found another in line {number}; restore the file "
                "from a backup, or move the line out and say so in the report's notes"
            ) from None
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    for name in ("when", "test_start", "test_end"):
        table[name] = pd.to_datetime(table[name], utc=True, format="ISO8601")
    return table


def at_period(looks: pd.DataFrame, dataset: str, test_start: Any, test_end: Any) -> pd.DataFrame:
    """Return the looks at any day of [test_start, test_end) of a data set, oldest first, with a column `whole`.

    `whole` says whether the same period was looked at, and not one that shares some of its days.
    """
    start, end = utc(test_start, "test_start"), utc(test_end, "test_end")
    same = (looks["dataset"] == dataset) & (looks["test_start"] < end) & (looks["test_end"] > start)
    found = looks[same].sort_values("when", kind="stable", ignore_index=True)
    return found.assign(whole=(found["test_start"] == start) & (found["test_end"] == end))


def headline(metrics: pd.DataFrame, model: str) -> dict[str, float]:
    """Return the headline figures of a model in a metric table; what does not apply is left out.

    >>> table = pd.DataFrame({"model": ["a"], "metric": ["auc_roc"], "group": ["all"], "value": [0.9]})
    >>> headline(table, "a")
    {'auc_roc': 0.9}
    """
    ours = metrics[(metrics["model"] == model) & (metrics["group"] == "all") & metrics["metric"].isin(HEADLINE)]
    return {row.metric: float(row.value) for row in ours.dropna(subset="value").itertuples()}


def explain(looks: pd.DataFrame) -> str:
    """Say how often and when a test period was looked at, this time included.

    Parameters
    ----------
    looks : as of `at_period`.

    >>> day = pd.to_datetime(["2026-01-01", "2026-01-05"], utc=True)
    >>> explain(pd.DataFrame({"when": day, "config_digest": ["a", "b"], "whole": [True, True]}))
    'These test days were looked at 2 times, with 2 different configs, first on 2026-01-01 and last on 2026-01-05. \
The more often, the more its figures flatter.'
    """
    if looks.empty:
        return "No look at these test days is noted."
    if len(looks) == 1:
        return f"These test days were looked at once, on {looks['when'].iloc[0]:%Y-%m-%d}."
    configs = looks["config_digest"].nunique()
    partly = int((~looks["whole"].astype(bool)).sum())
    said = (
        f"These test days were looked at {len(looks):,} times, with {configs:,} different config"
        f"{'s' if configs > 1 else ''}, first on {looks['when'].iloc[0]:%Y-%m-%d} and last on "
        f"{looks['when'].iloc[-1]:%Y-%m-%d}"
    )
    said += f"; {partly:,} of these looks were at a period that shares some of the days" if partly else ""
    return said + ". The more often, the more its figures flatter."
