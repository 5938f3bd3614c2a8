"""What of the monitoring may leave: counts from 1 to 9 are hidden, with what would give them away."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fraudlab.metrics import SMALLEST_CELL, small_cells
from fraudlab.privacy.anonymity import suppress_small_cells


def hidden_monitoring(name: str, table: pd.DataFrame, smallest: int = SMALLEST_CELL) -> pd.DataFrame:
    """Return a table of the monitoring as it may leave.

    Parameters
    ----------
    name : monitor_columns, monitor_hours, monitor_signals, monitor_alarms, monitor_decisions, monitor_reasons,
        monitor_performance, monitor_precision or monitor_segments; others hold no counts of payments or people and are
        returned as they are.
    """
    if table.empty:
        return table
    match name:
        case "monitor_columns":
            return _columns(table, smallest)
        case "monitor_hours":
            few = _few(table["n"], smallest) | _few(table["expected"], smallest)
            hidden = ["n", "expected", "z", "amount", "amount_usual", "amount_z"]
            return table.assign(**{key: table[key].astype("float64").mask(few) for key in hidden})
        case "monitor_signals" | "monitor_alarms":
            return _signals(table, smallest)
        case "monitor_decisions" if table["cases"].notna().all():
            shown = suppress_small_cells(table, ["cases"], ["week", "tier"], smallest, values=["share"])
            return shown.astype({"cases": "float64"})
        case "monitor_reasons":
            counts = {key: table[key].astype("float64") for key in ("alerts", "alerts_before")}
            few = {key: small_cells(values, smallest) for key, values in counts.items()}
            shares = {"share": few["alerts"], "share_before": few["alerts_before"]}
            counts = {key: values.mask(few[key]) for key, values in counts.items()}
            return table.assign(**counts, **{key: table[key].mask(few_) for key, few_ in shares.items()})
        case "monitor_performance" | "monitor_precision":
            return _performance(table, smallest)
        case "monitor_segments":
            return _segments(table, smallest)
    return table


def _few(values: pd.Series, smallest: int) -> pd.Series:
    """Return where a count is small or hidden."""
    numbers = values.astype("float64")
    return numbers.isna() | ((numbers > 0) & (numbers < smallest))


def _columns(table: pd.DataFrame, smallest: int) -> pd.DataFrame:
    """Hide shares that rest on 1 to 9 payments: missing ones, and values not seen before."""
    hidden = {}
    for share, size in (("missing_reference", "n_reference"), ("missing_current", "n_current"), ("new", "n_current")):
        hits = (table[share] * table[size]).round()
        hidden[share] = table[share].mask((hits > 0) & (hits < smallest))
    return table.assign(**hidden)


def _signals(table: pd.DataFrame, smallest: int) -> pd.DataFrame:
    """Hide what small counts were and are usually; the deviation stays, to a tenth.

    Shares are counts over the day's payments; indices and means rest on all payments of a day.
    """
    counted = table["group"].isin(["labels", "volume"])
    spread = table["signal"].str.startswith(("distribution", "mean"))
    size = table["n"].astype("float64") if "n" in table else pd.Series(np.nan, index=table.index)
    hits = table["value"].where(counted, table["value"] * size)
    few = ~spread & ~((hits == 0) | (hits.round(6) >= smallest))
    rounded = {key: table[key].round(1) for key in ("z", "sum")}
    return table.assign(**{key: table[key].mask(few) for key in ("value", "usual")}, **rounded)


def _performance(table: pd.DataFrame, smallest: int) -> pd.DataFrame:
    """Hide hits and frauds from 1 to 9, and the rates that would tell them."""
    few_hits, few_alerts = _few(table["hits"], smallest), _few(table["alerts"], smallest)
    hits = few_hits | few_alerts
    hidden: dict[str, pd.Series] = {"hits": table["hits"].astype("float64").mask(hits)}
    hidden["alerts"] = table["alerts"].astype("float64").mask(few_alerts)
    rates = ["precision", "low", "high"] if "precision" in table else ["value", "z"]
    hidden |= {key: table[key].mask(hits) for key in rates}
    if "frauds" in table:
        frauds = hits | _few(table["frauds"], smallest) | _few(table["frauds"] - table["hits"], smallest)
        hidden["frauds"] = table["frauds"].astype("float64").mask(frauds)
        hidden |= {key: table[key].mask(frauds) for key in ("recall", "recall_low", "recall_high")}
    return table.assign(**hidden)


def _segments(table: pd.DataFrame, smallest: int) -> pd.DataFrame:
    """Hide the rates, and the parts, of segments with 1 to 9 payments or alerts on either side."""
    hidden = pd.Series(False, index=table.index)
    for side in ("reference", "current"):
        n = table[f"n_{side}"].astype("float64")
        hits = (table[f"rate_{side}"] * n).round()
        hidden |= _few(n, smallest) | ((hits > 0) & (hits < smallest)) | hits.isna()
    # One hidden segment among shown ones could be worked out from the whole: another goes with it.
    for _, rows in table.groupby("by", sort=False):
        if hidden[rows.index].sum() == 1 and len(rows) > 1:
            hidden[rows.index[~hidden[rows.index]][-1]] = True
    shown = {key: table[key].mask(hidden) for key in ("rate_reference", "rate_current", "mix", "rate", "total")}
    counts = {key: table[key].astype("float64").mask(hidden) for key in ("n_reference", "n_current")}
    return table.assign(**shown, **counts)
