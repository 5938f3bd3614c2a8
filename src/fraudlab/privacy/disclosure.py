"""What of a run's evidence may leave: tables whose small groups are merged where that helps, and hidden where not.

Evidence goes into the report, into MLflow and through executed notebooks, so it is protected when it is saved. A count
is small from 1 to 9 (`SMALLEST_CELL`). A reviewer is helped by fewer, larger groups and not by blanks: bins of stated
risk are joined, budgets left out, days added up to weeks; only what cannot be joined is hidden (missing), with as much
else as would give it away. Protecting what is protected changes nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from fraudlab.metrics import SMALLEST_CELL, wilson
from fraudlab.privacy.anonymity import suppress_small_cells


def protected(name: str, table: pd.DataFrame, *, budget: int | None = None) -> pd.DataFrame:
    """Return a table of evidence as it may leave; tables that hold no counts of payments or people are returned as is.

    Parameters
    ----------
    name : of the evidence: calibration, cost, daily_volume, membership and tiers are known here.
    budget : cases a day that investigators review; this row of the cost table stays.
    """
    match name:
        case "calibration":
            return joined_bins(table)
        case "cost":
            return thinned_budgets(table, budget)
        case "daily_volume":
            return weekly_frauds(table)
        case "tiers":
            return hidden_tiers(table)
        case "membership" if not table[["members", "others"]].isna().any(axis=None) and len(table) > 1:
            return suppress_small_cells(table, ["members", "others"], ["group"], values=[])
    return table


def protected_facts(name: str, facts: Any) -> Any:
    """Return facts of evidence as they may leave: of the split and the data, counts from 1 to 9 become None.

    >>> protected_facts("data", {"rows": 7000, "left_out": {"customers": 3, "rows": 40, "why": {"objection": 3}}})
    {'rows': 7000, 'left_out': {'customers': None, 'rows': None, 'why': {'objection': None}}}
    """
    if name == "data" and (left_out := facts.get("left_out")):
        # How many customers were left out tells with their rows, and the other way round.
        few = any(_small(left_out[key]) for key in ("customers", "rows"))
        told = {key: None if few else left_out[key] for key in ("customers", "rows")}
        why = {reason: None if few or _small(n) else n for reason, n in left_out["why"].items()}
        return {**facts, "left_out": {**left_out, **told, "why": why}}
    if name == "fold":
        few = any(_small(facts[key]) for key in ("excluded_customers", "excluded_transactions"))
        told = {key: None if few else facts[key] for key in ("excluded_customers", "excluded_transactions")}
        parts = [
            {**part, **{key: None for key in ("frauds", "transactions", "customers") if _small(part.get(key))}}
            for part in facts["parts"]
        ]
        return {**facts, **told, "parts": parts}
    return facts


def joined_bins(table: pd.DataFrame, smallest: int = SMALLEST_CELL) -> pd.DataFrame:
    """Join neighbouring bins of a calibration table until each holds enough payments, and no frauds or enough of them.

    Parameters
    ----------
    table : model, stage, n, mean_predicted, observed, low, high; bins of a model and stage from low to high risk.

    Returns
    -------
    The same columns with fewer rows; means and intervals are those of the joined bins. Where all of a stage has 1 to 9
    frauds, one bin is left, its observed share and interval missing.

    >>> table = pd.DataFrame({"model": "m", "stage": "after", "bin": [1, 2, 3], "n": [900, 50, 50],
    ...                       "observed": [0, .1, .3], "mean_predicted": [.0, .1, .3], "low": 0.0, "high": 1.0})
    >>> joined_bins(table)[["bin", "n", "mean_predicted", "observed"]].values.tolist()
    [[1.0, 900.0, 0.0, 0.0], [2.0, 100.0, 0.2, 0.2]]
    """
    whole = table[table["n"].gt(0) & table["mean_predicted"].notna()].reset_index(drop=True)
    made = []
    for _, bins in whole.groupby(["model", "stage"], sort=False, dropna=False):
        bins = bins.sort_values("mean_predicted", kind="stable")
        n = bins["n"].to_numpy(dtype=float)
        hits = np.round(bins["observed"].to_numpy(dtype=float) * n)
        if np.isnan(hits).any():  # hidden already
            made.append(bins)
            continue
        groups = _joined(n, hits, smallest)
        starts = [group[0] for group in groups]
        size, frauds = np.add.reduceat(n, starts), np.add.reduceat(hits, starts)
        stated = np.add.reduceat(n * bins["mean_predicted"].to_numpy(dtype=float), starts) / size
        low, high = wilson(frauds, size)
        alone = np.diff([*starts, len(n)]) == 1  # as it came, to the last digit
        told = {"mean_predicted": stated, "observed": frauds / size, "low": low, "high": high}
        told = {key: np.where(alone, bins[key].to_numpy(dtype=float)[starts], told[key]) for key in told}
        few = (frauds > 0) & (frauds < smallest) | (size < smallest)
        told |= {key: np.where(few, np.nan, told[key]) for key in ("observed", "low", "high")}
        joined = bins.iloc[starts].assign(n=size.astype(np.int64), **told)
        made.append(joined.assign(bin=np.arange(1, len(groups) + 1)) if "bin" in joined else joined)
    return pd.concat(made, ignore_index=True) if made else whole


def _joined(n: np.ndarray, hits: np.ndarray, smallest: int) -> list[list[int]]:
    """Return runs of neighbours that hold enough; what is left at the end joins those before it."""

    def enough(group: list[int]) -> bool:
        frauds = hits[group].sum()
        return n[group].sum() >= smallest and (frauds == 0 or frauds >= smallest)

    groups: list[list[int]] = [[]]
    for place in range(len(n)):
        groups[-1].append(place)
        if enough(groups[-1]):
            groups.append([])
    if not groups[-1]:
        groups.pop()
    while len(groups) > 1 and not enough(groups[-1]):
        last = groups.pop()
        groups[-1] += last
    return groups


def thinned_budgets(table: pd.DataFrame, budget: int | None = None, smallest: int = SMALLEST_CELL) -> pd.DataFrame:
    """Leave out budgets of a cost table that differ from the next by 1 to 9 frauds, or by as few compromised cases.

    Parameters
    ----------
    table : model, alerts_per_day, cases, frauds_caught, precision and sums.
    budget : the row that stays, with its sums missing where it holds 1 to 9 frauds; None: the largest.

    >>> table = pd.DataFrame({"model": "m", "alerts_per_day": [1, 2, 3, 9], "cases": [30, 60, 90, 270],
    ...                       "frauds_caught": [4, 12, 15, 31], "precision": [.1, .2, .15, .1]})
    >>> thinned_budgets(table, 2)["alerts_per_day"].tolist()
    [2, 9]
    """
    kept = []
    for _, rows in table.groupby("model", sort=False):
        rows = rows.sort_values("alerts_per_day", kind="stable")
        frauds = rows["frauds_caught"].to_numpy(dtype=float)
        found = np.round((rows["precision"] * rows["cases"]).to_numpy(dtype=float))
        if np.isnan(frauds).any():  # hidden already
            kept.append(rows)
            continue
        counts = np.column_stack([frauds, found])
        own = np.flatnonzero(rows["alerts_per_day"].eq(budget))
        anchor = int(own[0]) if len(own) else len(rows) - 1
        hidden = _few(counts[anchor], smallest)
        chosen = [anchor]
        last = np.zeros(2) if hidden else counts[anchor]
        for place in range(anchor + 1, len(rows)):
            if not _few(counts[place] - last, smallest):
                chosen.append(place)
                last = counts[place]
        last = counts[anchor]
        for place in range(anchor - 1, -1, -1):
            if not (hidden or _few(last - counts[place], smallest) or _few(counts[place], smallest)):
                chosen.append(place)
                last = counts[place]
        sums = ("frauds_caught", "fraud_amount_caught", "net_saved", "precision")
        if hidden:
            blank = rows.index == rows.index[anchor]
            rows = rows.assign(**{name: rows[name].astype("float64").mask(blank) for name in sums if name in rows})
        kept.append(rows.iloc[sorted(chosen)])
    return pd.concat(kept, ignore_index=True) if kept else table


def weekly_frauds(table: pd.DataFrame, smallest: int = SMALLEST_CELL) -> pd.DataFrame:
    """Give the frauds of a table of days by the week: on its first day, missing on the others and where they are few.

    Parameters
    ----------
    table : day, transactions, frauds, labelled and, if wanted, amount; a row per day from the first on. Days of 1 to 9
        payments, or of as few known labels, are hidden too.
    """
    if table.empty or table["frauds"].isna().any():
        return table
    week = np.arange(len(table)) // 7
    weeks = pd.DataFrame({"week": week, "frauds": table["frauds"].to_numpy()}).groupby("week", as_index=False).sum()
    frauds = suppress_small_cells(weeks, ["frauds"], ["week"], smallest)["frauds"].astype("Float64")
    days = suppress_small_cells(
        table, ["transactions"], ["day"], smallest, values=[n for n in ["amount"] if n in table]
    )
    days["labelled"] = suppress_small_cells(table, ["labelled"], ["day"], smallest, values=[])["labelled"]
    first = np.arange(len(table)) % 7 == 0
    days["frauds"] = pd.Series(frauds.to_numpy()[week], index=table.index, dtype="Float64").where(first)
    numbers = [name for name in ("transactions", "labelled", "frauds") if name in days]
    return days.astype(dict.fromkeys(numbers, "float64"))


def hidden_tiers(table: pd.DataFrame, smallest: int = SMALLEST_CELL) -> pd.DataFrame:
    """Hide the small counts of a table of tiers, with rates and sums; shares of all payments and frauds stay beside.

    Parameters
    ----------
    table : tier, transactions, frauds and, if wanted, fraud_rate, amount, fraud_amount.

    Returns
    -------
    The table with hidden values missing and two columns more, `share_of_transactions` and `share_of_frauds`, hidden
    where their counts are.
    """
    if table["frauds"].isna().any() or table["transactions"].isna().any():
        return table
    shown = table.copy()
    hidden = np.zeros(len(table), dtype=bool)
    for name in ("transactions", "frauds"):
        cells = suppress_small_cells(table, [name], ["tier"], smallest, values=[])[name].astype("Float64")
        gone = cells.isna().to_numpy()
        hidden |= gone
        if gone.any():
            shown[name] = cells.astype("float64")
        share = table[name] / max(table[name].sum(), 1)
        shown[f"share_of_{name}"] = share.mask(gone)
    values = [name for name in ("fraud_rate", "amount", "fraud_amount") if name in table]
    return shown.assign(**{name: table[name].astype("float64").mask(hidden) for name in values})


def _few(counts: np.ndarray, smallest: int) -> bool:
    return bool(((counts > 0) & (counts < smallest)).any())


def _small(count: Any) -> bool:
    return isinstance(count, int | float | np.integer) and 0 < count < SMALLEST_CELL
