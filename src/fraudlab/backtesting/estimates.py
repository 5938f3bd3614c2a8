"""How good the monitoring's estimate is before labels come: made at each week's end as known then, judged now."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fraudlab import drift
from fraudlab.backtesting.outcomes import Judged
from fraudlab.backtesting.policies import DAY
from fraudlab.backtesting.walking import Walk, World
from fraudlab.delays import delays_known

WEEK = 7 * DAY
COLUMNS = [
    *("week", "alerts", "hits", "frauds", "precision_expected", "precision_corrected", "precision"),
    *("recall_expected", "recall", "mature"),
]


def measured(world: World, walked: Walk, judged: Judged) -> pd.DataFrame:
    """Hold what the monitoring would have said of each week when it ended against what the week turned out to be.

    Said when a week ends: the mean risk that the champion stated of its alerts, and the same corrected by earlier weeks
    whose frauds were known by then (`drift.weekly_performance`). Turned out: every label that is known by now.

    Parameters
    ----------
    judged : of `score_walk`.

    Returns
    -------
    DataFrame, for each policy the rows of `drift.estimate_error` and chance: the standard deviation that a week's
    precision, or recall, has by chance alone, its frauds being few (binomial, mean variance over the weeks of n).
    """
    parts = [_error(weekly(world, walked, judged, name)).assign(policy=name) for name in judged.score]
    columns = ["policy", "metric", "bias", "error", "typical", "chance", "n", "note"]
    return pd.concat(parts, ignore_index=True)[columns]


def weekly(world: World, walked: Walk, judged: Judged, policy: str) -> pd.DataFrame:
    """Table a policy's weeks: what was expected of them when they ended, and what is known of them now.

    Returns
    -------
    DataFrame, a row per whole week of the walk: week, alerts, hits, frauds, precision_expected, precision_corrected,
    precision, recall_expected, recall, mature (true: all is known that ever will be). NaN as in
    `drift.weekly_performance`.
    """
    payments = world.transactions.iloc[judged.rows]
    payments = payments.assign(customer_id=payments[world.config.split.entity])
    cases = drift.cases_of(
        payments, judged.alert[policy].to_numpy(), judged.risk[policy], review=1.0, as_of=payments["label_time"].max()
    )
    alerts = cases[cases["alerted"]]
    rows = []
    for end in pd.date_range(walked.start + WEEK, walked.end, freq=WEEK):
        past = alerts[alerts["time"] < end]
        known = past.assign(fraud=past["label_time"] <= end)
        told = drift.weekly_performance(
            known, start=walked.start, as_of=end, delays=delays_known(world.transactions, end)
        )
        week = cases[(cases["time"] >= end - WEEK) & (cases["time"] < end)]
        stated, frauds = week["risk"].sum(skipna=False), int(week["fraud"].sum())
        hits = int((week["fraud"] & week["alerted"]).sum())
        row = told[["week", "alerts", "expected_hits", "precision_expected", "precision_corrected"]].iloc[-1].to_dict()
        row |= {"hits": hits, "frauds": frauds, "mature": True}
        row["recall_expected"] = row["expected_hits"] / stated if stated > 0 else np.nan
        row["precision"] = hits / row["alerts"] if row["alerts"] else np.nan
        row["recall"] = hits / frauds if frauds else np.nan
        rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def _error(weeks: pd.DataFrame) -> pd.DataFrame:
    table = drift.estimate_error(weeks)
    of = {"precision": "alerts", "corrected precision": "alerts", "recall": "frauds"}
    chance = []
    for metric, estimate, found in drift.estimates.ESTIMATES:
        both = weeks[[estimate, found, of[metric]]].dropna().astype(float)
        variance = both[found] * (1 - both[found]) / both[of[metric]]
        chance.append(float(np.sqrt(variance.mean())) if len(both) >= 3 else np.nan)
    return table.assign(chance=chance)
