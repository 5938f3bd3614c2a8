"""What must be measured in a process of its own: memory, the first call, one payment at a time.

    python benchmarks/probes.py {memory,cold,online} SET FRAME.parquet

Prints one line of JSON.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil

WARM_ROWS = 1000
SCORED = 3000
CLEAR_REFS, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def feature_set(name: str) -> Any:
    """Return `book-12`, the book's 12 window features, or a named set."""
    from fraudlab.features import FeatureSet
    from fraudlab.features.sets import HANDBOOK, named_set

    return FeatureSet("book-12", HANDBOOK.specs[3:]) if name == "book-12" else named_set(name)


def _kilobytes(field: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1])


def peak_of(work: Callable[[], Any]) -> tuple[Any, int, int, str]:
    """Run something; return its result, the memory before and the peak during it (bytes), and how that was seen.

    Linux keeps the peak itself and lets it be reset; elsewhere it is sampled every millisecond.
    """
    process = psutil.Process()
    try:
        CLEAR_REFS.write_text("5")
        before = _kilobytes("VmRSS:") * 1024
        result = work()
        return result, before, _kilobytes("VmHWM:") * 1024, "peak kept by the kernel"
    except OSError:
        before = process.memory_info().rss
    done = threading.Event()
    seen = [before]

    def watch() -> None:
        while not done.wait(0.001):
            seen.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        result = work()
    finally:
        done.set()
        watcher.join()
    return result, before, max(*seen, process.memory_info().rss), "sampled every millisecond"


def give_back_memory() -> None:
    """Return freed memory to the system, so that it does not hide what comes next."""
    import pyarrow as pa

    gc.collect()
    pa.default_memory_pool().release_unused()
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def memory(features: Any, frame: pd.DataFrame) -> dict[str, Any]:
    """Measure the peak memory of `compute` above what was there with the table loaded and the kernels in memory."""
    frame = frame[list(features.requires)].copy()
    features.compute(frame.head(WARM_ROWS))
    give_back_memory()
    found, before, peak, how = peak_of(lambda: features.compute(frame))
    output = int(found.memory_usage(index=False).sum())
    return {
        "rows": len(frame),
        "columns": found.shape[1],
        "input_bytes": int(frame.memory_usage(index=False, deep=True).sum()),
        "output_bytes": output,
        "before_bytes": before,
        "peak_bytes": peak,
        "peak_above_input_per_output": (peak - before) / output,
        "how": how,
    }


def cold(features: Any, frame: pd.DataFrame) -> dict[str, Any]:
    """Time the first call in this process, the engine's import included."""
    few = frame.head(WARM_ROWS)
    began = time.perf_counter()
    features.compute(few)
    first = time.perf_counter() - began
    began = time.perf_counter()
    features.compute(few)
    return {"rows": len(few), "first_call_s": first, "second_call_s": time.perf_counter() - began}


def online(features: Any, frame: pd.DataFrame) -> dict[str, Any]:
    """Time the latest payments one by one, on one core, and compare them with the table's features."""
    if not hasattr(features, "online"):
        return {"skipped": "FeatureSet.online does not exist"}
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    scored = min(SCORED, len(frame) // 4)
    # The labels of the payments scored are not told, so the table must not have them either.
    frame = frame.copy()
    latest = frame.index[-scored:]
    frame.loc[latest, "is_fraud"] = pd.NA
    frame.loc[latest, "label_time"] = pd.NaT
    expected = features.compute(frame).to_numpy()[-scored:]
    names = [name for name in features.requires if name not in ("is_fraud", "label_time")]
    payments = frame.loc[latest, names].astype(object)
    payments = payments.where(payments.notna(), None).to_dict("records")
    began = time.perf_counter()
    state = features.online(frame.iloc[:-scored])
    learnt = time.perf_counter() - began
    before = psutil.Process().memory_info().rss
    took, found = [], []
    for payment in payments:
        began = time.perf_counter_ns()
        values = state.score_then_update(payment)
        took.append((time.perf_counter_ns() - began) / 1000)
        found.append(list(values.values()) if isinstance(values, dict) else values)
    took = took[scored // 10 :]  # the first calls load what the others find loaded
    same = np.array_equal(np.asarray(found, expected.dtype), expected, equal_nan=True)
    return {
        "customers": int(frame["customer_id"].nunique()),
        "history_rows": len(frame) - scored,
        "scored": len(took),
        "columns": len(features.columns),
        "median_us": float(np.median(took)),
        "p99_us": float(np.quantile(took, 0.99)),
        "learn_s": learnt,
        "process_bytes": before,
        "equals_compute": bool(same),
    }


def main() -> int:
    what, name, path = sys.argv[1:]
    frame = pd.read_parquet(path)
    result = {"memory": memory, "cold": cold, "online": online}[what](feature_set(name), frame)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
