"""A challenger beside the champion on the same new payments: which cases flip, what money, and what the gate says.

Both score everything, only the champion's cases are worked on. Nothing here reads a file or a clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from fraudlab.gate import check, difference_said
from fraudlab.gate_config import GateConfig
from fraudlab.metrics import wilson

HELD = ("both", "champion only", "challenger only", "neither")
"""Who alerts a case."""

MEASURES = ("cases", "amount", "frauds", "fraud_amount")
COLUMNS = ["metric", "group", "value", "low", "high", "n", "note"]


def span(known: pd.Timestamp, last: pd.Timestamp, days: int) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Return the shadow's first moment and the moment it ends before: whole days (UTC) after what was known.

    Parameters
    ----------
    known : the moment that the challenger's training knew all before.
    last : the last payment it could know; where it lies far before `known`, as in a file brought in later, it counts.
    days : of the shadow.

    >>> day = pd.Timestamp("2026-06-30", tz="UTC")
    >>> [f"{moment:%m-%d %H:%M}" for moment in span(day, day - pd.Timedelta("5min"), 7)]
    ['06-30 00:00', '07-07 00:00']
    >>> [f"{moment:%m-%d %H:%M}" for moment in span(day + pd.Timedelta("14h"), day + pd.Timedelta("13h"), 1)]
    ['07-01 00:00', '07-02 00:00']
    """
    start = min(known, last + pd.Timedelta(microseconds=1)).ceil("D")
    return start, start + pd.Timedelta(days=days)


def facts(gate: GateConfig, champion: str, known: pd.Timestamp, last: pd.Timestamp) -> dict[str, Any]:
    """Return what is written down when a shadow begins: against whom, which days, and the limits it is judged by.

    >>> day = pd.Timestamp("2026-06-30", tz="UTC")
    >>> told = facts(GateConfig(shadow_days=7), "1", day, day)
    >>> told["champion"], told["first_day"], told["last_day"], told["days"]
    ('1', '2026-06-30', '2026-07-06', 7)
    """
    start, end = span(known, last, gate.shadow_days)
    asked = ("shadow_days", "max_flipped_share", "min_known_labels")
    return {
        "champion": champion,
        "known": known.isoformat(),
        "first_day": f"{start:%Y-%m-%d}",
        "last_day": f"{end - pd.Timedelta(days=1):%Y-%m-%d}",
        "days": gate.shadow_days,
        "gate": {name: getattr(gate, name) for name in asked if getattr(gate, name) is not None},
    }


def cases(payments: pd.DataFrame, alerted: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Add payments up to cases: one entity on one day (UTC).

    Parameters
    ----------
    payments : event_time, entity, amount, is_fraud (missing: not known yet).
    alerted : champion and challenger: whether each payment is in a case that the model alerts, shape (n,).

    Returns
    -------
    A row per case: champion, challenger (whether it alerts the case), amount, fraud (known so far), fraud_amount.
    """
    fraud = payments["is_fraud"].fillna(False).to_numpy(dtype=bool)
    amount = payments["amount"].to_numpy(dtype=float)
    frame = pd.DataFrame(
        {
            "day": pd.DatetimeIndex(payments["event_time"]).tz_convert("UTC").floor("D"),
            "entity": payments["entity"].astype("str").to_numpy(),
            "champion": np.asarray(alerted["champion"], dtype=bool),
            "challenger": np.asarray(alerted["challenger"], dtype=bool),
            "amount": amount,
            "fraud": fraud,
            "fraud_amount": np.where(fraud, amount, 0.0),
        }
    )
    how = {"champion": "max", "challenger": "max", "amount": "sum", "fraud": "max", "fraud_amount": "sum"}
    return frame.groupby(["day", "entity"], sort=True).agg(how).reset_index(drop=True)


def disagreement(
    found: pd.DataFrame, champion: Any, challenger: Any, *, labels_known: float = np.nan, days: int = 0
) -> pd.DataFrame:
    """Table on which cases two models disagree, and what that is worth.

    Parameters
    ----------
    found : from `cases`.
    champion, challenger : scores of the payments, shape (n,) each; only their order counts.
    labels_known : share of the payments whose label is known.
    days : with payments.

    Returns
    -------
    DataFrame: metric, group, value, low, high, n, note. Of the groups "both", "champion only", "challenger only" and
    "neither": cases, amount (of all their payments), frauds (cases known to be fraud so far) and fraud_amount. Of the
    group "all": flipped_share (cases that one alerts and the other does not, over those alerted by either; Wilson
    interval), agreement (share of all cases held alike), rank_correlation (Spearman's, of the payments' scores),
    labels_known, days. `value` is missing where the note says "not applicable". It counts cases: it is saved through
    `privacy.disclosure`.

    >>> found = pd.DataFrame({"champion": [True, True, False, False], "challenger": [True, False, True, False],
    ...                       "amount": [5.0, 7.0, 11.0, 13.0], "fraud": [True, False, True, False],
    ...                       "fraud_amount": [5.0, 0.0, 11.0, 0.0]})
    >>> table = disagreement(found, [0.9, 0.8, 0.1, 0.2], [0.9, 0.1, 0.8, 0.2])
    >>> table[table["metric"] == "amount"].set_index("group")["value"].to_dict()
    {'both': 5.0, 'champion only': 7.0, 'challenger only': 11.0, 'neither': 13.0}
    >>> round(value_of(table, "flipped_share"), 3), value_of(table, "agreement"), value_of(table, "rank_correlation")
    (0.667, 0.5, 0.2)
    """
    one, other = found["champion"].to_numpy(dtype=bool), found["challenger"].to_numpy(dtype=bool)
    held = dict(zip(HELD, (one & other, one & ~other, ~one & other, ~one & ~other)))
    worth = {
        "cases": np.ones(len(found)),
        "amount": found["amount"].to_numpy(dtype=float),
        "frauds": found["fraud"].to_numpy(dtype=float),
        "fraud_amount": found["fraud_amount"].to_numpy(dtype=float),
    }
    none = {"low": np.nan, "high": np.nan}
    rows: list[dict[str, Any]] = [
        {"metric": metric, "group": group, "value": float(worth[metric][where].sum()), "n": len(found)}
        | none
        | {"note": "known so far" if metric.startswith("fraud") else "counted"}
        for metric in MEASURES
        for group, where in held.items()
    ]
    flipped, alerted = int((one ^ other).sum()), int((one | other).sum())
    for metric, part, whole, why in (
        ("flipped_share", flipped, alerted, "neither alerted a case"),
        ("agreement", len(found) - flipped, len(found), "there were no payments"),
    ):
        rows.append({"metric": metric, "group": "all", "n": whole} | _share(part, whole, why))
    correlation, why = spearman(champion, challenger)
    payments = len(np.asarray(champion))
    for metric, value, n, note in (
        ("rank_correlation", correlation, payments, why or "of the payments' scores"),
        (
            "labels_known",
            labels_known,
            payments,
            "share of the payments" if payments else "not applicable: no payments",
        ),
        ("days", float(days), days, "with payments"),
    ):
        rows.append({"metric": metric, "group": "all", "value": value, "n": n, "note": note} | none)
    return pd.DataFrame(rows)[COLUMNS].astype({"n": "Int64"})


def spearman(one: Any, other: Any) -> tuple[float, str]:
    """Return Spearman's rank correlation, ties at their mean rank, and why there is none.

    >>> spearman([1, 2, 3], [10, 20, 30]), spearman([1, 2, 3], [3, 2, 1])
    ((1.0, ''), (-1.0, ''))
    >>> spearman([1, 1, 1], [3, 2, 1])[1]
    'not applicable: a model gives all payments the same score'
    """
    ranks = [rankdata(np.asarray(score, dtype=float)) for score in (one, other)]
    if len(ranks[0]) < 2:
        return np.nan, "not applicable: fewer than two payments"
    if any(np.ptp(rank) == 0 for rank in ranks):
        return np.nan, "not applicable: a model gives all payments the same score"
    centred = [rank - rank.mean() for rank in ranks]
    value = (centred[0] @ centred[1]) / np.sqrt((centred[0] @ centred[0]) * (centred[1] @ centred[1]))
    return float(np.clip(round(value, 12), -1, 1)), ""


def shadow_gate(
    table: pd.DataFrame, gate: GateConfig, *, comparison: pd.DataFrame | None = None
) -> list[dict[str, Any]]:
    """Judge a challenger by its days in shadow: rows of check, required, found, passed, as of `gate.promotion_gate`.

    Parameters
    ----------
    table : from `disagreement`, before anything in it is hidden.
    gate : its shadow_days, max_flipped_share and min_known_labels are asked.
    comparison : both models on the payments whose labels are known, from `metrics.compare` with the names challenger
        and champion. Where too few labels are known it is not judged, and the row says so: those known early are mostly
        frauds, and the comparison on the test part stands.

    Notes
    -----
    That the challenger loses less than `gate.non_inferiority` was shown on the test part. A few days in shadow are too
    few to show it again; they hold back a challenger that is evidently below the champion there.
    """
    days, known = int(value_of(table, "days")), value_of(table, "labels_known")
    correlation = table[(table["metric"] == "rank_correlation")].iloc[0]
    related = bool(np.isfinite(correlation["value"]) and correlation["value"] > 0)
    said = f"{correlation['value']:.3f}" if np.isfinite(correlation["value"]) else str(correlation["note"])
    rows = [
        check("days of the shadow with payments", f">= {gate.shadow_days}", f"{days}", days >= gate.shadow_days),
        check("orders the payments of the shadow as the champion does (rank correlation)", "> 0", said, related),
    ]
    if gate.max_flipped_share is not None:
        rows.append(_flips(table, gate.max_flipped_share))
    named = "not below the champion on the days in shadow (precision at the budget)"
    if not known >= gate.min_known_labels or comparison is None or comparison.empty:
        share = f"{known:.0%}".replace("%", " %") if np.isfinite(known) else "none"
        why = f"not judged: {share} of the labels are known; the comparison on the test part stands"
        wanted = f"{gate.min_known_labels:.0%}".replace("%", " %")
        return [*rows, check(named, f"judged from {wanted} of the labels on", why, True)]
    row = comparison[
        (comparison["view"] == "overall")
        & (comparison["model"] == "difference")
        & (comparison["metric"] == "card_precision_at_k")
    ].iloc[0]
    found = difference_said(row["value"], row["low"], row["high"])
    return [*rows, check(named, "not the whole 95 % interval below 0", found, not row["high"] < 0)]


def value_of(table: pd.DataFrame, metric: str, group: str = "all") -> float:
    """Return one figure of a disagreement table."""
    return float(table.loc[(table["metric"] == metric) & (table["group"] == group), "value"].iloc[0])


def _flips(table: pd.DataFrame, most: float) -> dict[str, Any]:
    share = value_of(table, "flipped_share")
    name = "cases that only one of the two alerts, of those alerted by either"
    required = f"<= {most:.1%}".replace("%", " %")
    if not np.isfinite(share):
        return check(name, required, "no case was alerted", True)
    flipped = sum(value_of(table, "cases", group) for group in ("champion only", "challenger only"))
    found = f"{share:.1%}".replace("%", " %")
    if 0 < flipped < 10 or 0 < value_of(table, "cases", "both") < 10:
        found = "within it, by a count too small to show" if share <= most else "above it, by a count too small to show"
    return check(name, required, found, share <= most)


def _share(part: int, whole: int, why: str) -> dict[str, Any]:
    if not whole:
        return {"value": np.nan, "low": np.nan, "high": np.nan, "note": f"not applicable: {why}"}
    low, high = (float(end[0]) for end in wilson(np.array([part]), np.array([whole])))
    return {
        "value": part / whole,
        "low": low,
        "high": high,
        "note": "95 % Wilson interval, as if cases were independent",
    }
