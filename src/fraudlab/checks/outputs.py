"""Checks of what leaves: identifiers and small groups in it, and what the scores tell about those learnt from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from fraudlab.checks.finding import Answer, named, not_applicable
from fraudlab.metrics import SMALLEST_CELL
from fraudlab.privacy.disclosure import protected
from fraudlab.privacy.scan import find_planted, telling

REMEMBERS = 0.75
"""AUC of the guess who was in the training, from which a model counts as remembering frauds. 0.5 is no memory; a
default booster reaches 0.99 on fraud rows, a shallow one stays below 0.7 (docs/privacy.md)."""

FEWEST_MEMBERS = 20
"""With fewer frauds on a side the guess says nothing: 0.5 would have a standard error of 0.09."""

COUNTS: tuple[str, ...] = (
    *("n", "n_first", "n_last", "rows", "payments", "transactions", "labelled", "genuine"),
    *(
        "frauds",
        "frauds_first",
        "frauds_last",
        "frauds_caught",
        "caught",
        "fraud_cases",
        "hits",
        "compromised",
        "victims",
    ),
    *("customers", "entities", "people", "members", "others", "bothered", "bothered_customers"),
)
"""Columns of evidence that count payments or people. Planned numbers, such as the cases of a budget, are none."""


def nameless(paths: Iterable[Path], needles: Iterable[str], *, root: Path) -> Answer:
    """Fail when a file holds a raw identifier of the source, in whatever disguise; `find_planted` makes the table.

    Parameters
    ----------
    paths : what the run wrote: files, or folders with everything below them.
    needles : the raw identifiers, as `fraudlab.datasets.raw_identifiers` gives them; numbers that fill their range
        (`telling`) are left out.
    root : files are named from here.
    """
    needles = telling(needles)
    if not needles:
        nothing = pd.DataFrame(columns=["file", "kind", "count"])
        return "not applicable", "The source holds no identifiers that can be told from other numbers.", nothing
    table = find_planted(paths, needles)
    table["file"] = [str(Path(file).relative_to(root)) for file in table["file"]]
    if len(table):
        files = table["file"].unique()
        hold = "file holds" if len(files) == 1 else "files hold"
        return "failed", f"{len(files)} {hold} raw identifiers of the source: {named(files)}.", table
    return "passed", f"None of {len(needles):,} raw identifiers of the source is in what the run wrote.", table


def forgetful(table: pd.DataFrame | None, most: float = REMEMBERS) -> Answer:
    """Fail when the scores tell which frauds the model learnt from.

    Parameters
    ----------
    table : group, members, others, auc, note, as `membership_risk` makes it.
    most : AUC from which it counts as memory.

    Returns
    -------
    Answer; the table gains low and high, the 95 % interval of each AUC by Hanley and McNeil.

    References
    ----------
    Hanley and McNeil (1982), doi:10.1148/radiology.143.1.7063747.

    >>> table = pd.DataFrame({"group": ["fraud"], "members": [900], "others": [100], "auc": [0.66], "note": [""]})
    >>> forgetful(table)[1]
    'Guessing from the scores which frauds were learnt from succeeds with an AUC of 0.660 (0.609 to 0.711); the limit \
is 0.75.'
    """
    if table is None or table.empty:
        return not_applicable("The run measured no membership risk.")
    table = table.astype({"auc": "float64", "members": "float64", "others": "float64"})
    auc, members, others = (table[name] for name in ("auc", "members", "others"))
    twice = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (members - 1) * (twice[0] - auc**2) + (others - 1) * (twice[1] - auc**2)
    half = 1.959963984540054 * np.sqrt(variance / (members * others))
    table = table.assign(low=(auc - half).clip(0, 1), high=(auc + half).clip(0, 1))
    fraud = table[table["group"] == "fraud"]
    if fraud.empty or fraud["auc"].isna().all():
        notes = [str(note) for note in table["note"].dropna() if str(note)]
        why = notes[0].removeprefix("not applicable: ") if notes else "there are no frauds on one side"
        return "not applicable", f"The memory of frauds could not be measured: {why}.", table
    found = fraud.iloc[0]
    if not (found["members"] >= FEWEST_MEMBERS and found["others"] >= FEWEST_MEMBERS):
        said = f"Fewer than {FEWEST_MEMBERS} frauds on a side cannot tell memory from chance."
        return "not applicable", said, table
    said = (
        "Guessing from the scores which frauds were learnt from succeeds with an AUC of "
        f"{found['auc']:.3f} ({found['low']:.3f} to {found['high']:.3f}); the limit is {most:g}."
    )
    return ("failed" if found["auc"] > most else "passed"), said, table


def no_small_cells(evidence: Mapping[str, pd.DataFrame]) -> Answer:
    """Fail when a table of evidence shows a count of payments or people from 1 to 9, or is not as it may leave.

    Parameters
    ----------
    evidence : every table of evidence under its name.

    Returns
    -------
    Answer; the table has a row per column, or metric, that shows such counts: table, column, cells; column is empty
    where the rule of `privacy.disclosure` for that table would still hide something.
    """
    if not evidence:
        return not_applicable("The run has no tables of evidence.", ("table", "column", "cells"))
    rows = []
    for name, table in sorted(evidence.items()):
        for column in table.columns:
            if column in COUNTS and pd.api.types.is_numeric_dtype(table[column].dtype):
                counts = table[column].to_numpy(dtype=float, na_value=np.nan)
                if few := int(((counts > 0) & (counts < SMALLEST_CELL)).sum()):
                    rows.append((name, column, few))
        if {"metric", "value"} <= set(table.columns):
            counted = table[table["metric"].isin(COUNTS)]
            for metric, value in counted.groupby("metric", sort=True)["value"]:
                if few := int(((value > 0) & (value < SMALLEST_CELL)).sum()):
                    rows.append((name, str(metric), few))
        if hidden := _would_hide(name, table):
            rows.append((name, "", hidden))
    found = pd.DataFrame(rows, columns=["table", "column", "cells"])
    if len(found):
        names = found["table"].unique()
        show = "table shows" if len(names) == 1 else "tables show"
        return "failed", f"{len(names)} {show} counts from 1 to {SMALLEST_CELL - 1}: {named(names)}.", found
    said = f"None of {len(evidence)} tables of evidence shows a count from 1 to {SMALLEST_CELL - 1}."
    return "passed", said, found


def _would_hide(name: str, table: pd.DataFrame) -> int:
    """Return how many rows or values the table's own rule would still take away."""
    if name == "simulation":  # which budget stays is the run's own matter
        return 0
    again = protected(name, table)
    if len(again) != len(table):
        return abs(len(table) - len(again))
    return int(sum((again[column].isna() & table[column].isna().eq(False)).sum() for column in table.columns))
