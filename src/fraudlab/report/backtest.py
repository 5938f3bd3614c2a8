"""The page of a backtest: which policy of retraining would have found and saved how much, and who served when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from fraudlab import plots
from fraudlab.report.blocks import Cell, Figure, money, share
from fraudlab.report.pages import Grid, Part, page

CHOSEN = {
    "threshold": "Every case that reaches the champion's threshold is reviewed, as at work",
    "budget": "The best cases of each day are reviewed, known only when the day is over",
}
FIGURES = {
    "card_precision_at_k": "Precision within the budget",
    "alerts_per_day": "Cases reviewed a day",
    "recall": "Frauds caught",
    "money_caught_share": "Fraud money caught",
    "money_missed_per_day": "Fraud money missed a day",
    "review_cost_per_day": "Cost of reviews a day",
    "net_saved_per_day": "Saved a day, net",
}
SHARES = ("card_precision_at_k", "recall", "money_caught_share")
UNIT = {"entity": "over customers", "week": "over weeks"}


def backtest_page(
    tables: Mapping[str, pd.DataFrame],
    facts: Mapping[str, Any],
    *,
    end: pd.Timestamp,
    marks: Sequence[tuple[pd.Timestamp, str]] = (),
) -> str:
    """Return the page as HTML: the same bytes for the same evidence, no script, no address outside the file.

    Parameters
    ----------
    tables : of `backtesting.judge`, as they may leave.
    facts : of the job: name, dataset, from, to, every_days, policies, alerts_per_day, said ...
    end : when the walk ends.
    marks : moments named in the picture.
    """
    totals, champions = tables["backtest_totals"], tables["backtest_champions"]
    picture = plots.backtest(
        champions, tables["backtest_precision"], tables["backtest_periods"], totals, end=end, marks=marks
    )
    caption = (
        "Upper: of the cases within the budget, the share that were victims; the bands are 95 % intervals over "
        "customers of the first and the last policy. Middle: who got a new champion, and when. Lower: what was saved "
        "more than with the first policy, with thresholds as at work; told where ten frauds or more make the "
        "difference. The bar at the end is the 95 % interval over customers."
    )
    figure = Figure(picture, caption)
    body = Markup(
        '<figure>\n<div class="pan" tabindex="0" role="region" aria-labelledby="figure-1">\n'
        '<img src="{}" alt="{}" width="{}" height="{}">\n</div>\n<figcaption id="figure-1">{}</figcaption>\n</figure>'
    ).format(figure.source, picture.alt, *figure.size, caption)
    parts = [
        Part("In a sentence each", [f"{said}." for said in facts["said"]], []),
        Part("The policies", [], [_policies(facts, champions)]),
        *(_totals(totals, by) for by in CHOSEN),
        Part("How good the estimate is before labels come", [_ESTIMATE], [_estimates(tables["backtest_estimates"])]),
        Part("Who served, and why", [_WHY], [_history(champions)]),
        Part("How it was walked", _how(facts), []),
    ]
    lead = (
        f"{facts['payments_judged']:,} payments of {facts['dataset']} from {facts['from']} to {facts['to']}, as if "
        f"they came in live: {facts['models']} models, each made from what was known at its date."
    )
    return page(f"Retraining {facts['config']}: how often?", kicker="Backtest", lead=lead, body=body, parts=parts)


_WHY = (
    "A model kept out did not pass the gate beside the champion of that day. The gate's questions about stated risks, "
    "groups of customers, remembered frauds and the champion are asked as in a retraining; those that need a whole "
    "run's evidence are not."
)


_ESTIMATE = (
    "When a week ends, few of its frauds are known, and the monitoring tells what the champion's stated risks come to "
    "over its alerts, then the same corrected by what earlier weeks, known by then, turned out to be. Held here, week "
    "by week, against what the week turned out to be with every label of now. Chance: how far a week lies from its own "
    "expectation because its frauds are few; no estimate can come closer."
)
ESTIMATED = {
    "precision": "Precision of the alerts, as risks state it",
    "corrected precision": "the same, corrected by earlier weeks",
    "recall": "Frauds caught, as risks state it",
}


def _estimates(table: pd.DataFrame) -> Grid:
    rows: list[list[str | Cell]] = []
    for row in table.itertuples():
        if np.isfinite(row.bias):
            # Without its sign: an error is no change.
            apart = [f"{plots.points(value).lstrip('+')} points" for value in (row.error, row.typical, row.chance)]
            told: list[str | Cell] = [f"{plots.points(row.bias)} points", *apart]
        else:
            told = [Cell("–", str(row.note).partition(":")[0]), "–", "–", "–"]
        rows.append([str(row.policy), ESTIMATED[str(row.metric)], *told, f"{row.n:,}"])
    head = ["Policy", "What is told", "Too high by", "Off by", "Spread", "Chance", "Weeks"]
    caption = "The estimate of each week at its end, less what the week turned out to be: mean, mean size, spread"
    return Grid(caption, head, rows, "llrrrrr")


def _policies(facts: Mapping[str, Any], champions: pd.DataFrame) -> Grid:
    rows = []
    for name, said in facts["policies"].items():
        mine = champions[champions["policy"] == name]["decision"].value_counts()
        counts = [f"{int(mine.get(decision, 0)):,}" for decision in ("promoted", "kept", "no model")]
        rows.append([name, said, *counts])
    head = ["Policy", "What it does", "Promoted", "Kept out", "No model"]
    return Grid("Policies of retraining", head, rows, "llrrr")


def _totals(totals: pd.DataFrame, by: str) -> Part:
    """Return the figures of every policy, and the differences from the first, for one way of choosing cases."""
    mine = totals[totals["by"] == by]
    metrics = [metric for metric in FIGURES if metric in set(mine["metric"])]
    names = list(dict.fromkeys(mine["policy"]))
    # Replicates over customers draw the precision of a day's best cases down: one drawn twice fills two places.
    block = np.where(mine["metric"] == "card_precision_at_k", "week", "entity")
    own = mine[mine["block"] == block].set_index(["policy", "against", "metric"])
    rows = [[name, *(_cell(own.loc[(name, "", metric)], metric, signed=False) for metric in metrics)] for name in names]
    base = names[0]
    apart = []
    for name in names[1:]:
        for block, said in UNIT.items():
            held = mine[(mine["block"] == block) & (mine["policy"] == name) & (mine["against"] == base)]
            held = held.set_index("metric")
            apart.append([name, said, *(_cell(held.loc[metric], metric, signed=True) for metric in metrics)])
    grids = [Grid("What each policy would have brought, with 95 % intervals over customers (precision: over weeks)",
                  ["Policy", *(FIGURES[metric] for metric in metrics)], rows, "l" + "r" * len(metrics))]  # fmt: skip
    if apart:
        head = ["Policy", "Interval", *(FIGURES[metric] for metric in metrics)]
        grids.append(Grid(f"The difference from “{base}”, paired", head, apart, "ll" + "r" * len(metrics)))
    return Part("By the threshold" if by == "threshold" else "By the budget", [f"{CHOSEN[by]}."], grids)


def _cell(row: pd.Series, metric: str, *, signed: bool) -> str | Cell:
    if not np.isfinite(row["value"]):
        return Cell("–", str(row["note"]).partition(":")[0])

    def said(value: float, unit: str = "") -> str:
        if metric in SHARES:
            return f"{plots.points(value)}{unit}" if signed else share(value)
        text = f"{value:,.1f}" if metric == "alerts_per_day" else money(value)
        return f"+{text}" if signed and value >= 0 else text.replace("-", "−")

    spread = f"{said(row['low'])} to {said(row['high'])}" if np.isfinite(row["low"]) else "no interval"
    return Cell(said(row["value"], " points"), spread)


def _history(champions: pd.DataFrame) -> Grid:
    rows = [
        [
            row.policy,
            row.date,
            row.learnt_until if isinstance(row.learnt_until, str) else "–",
            row.decision,
            row.champion,
            row.why,
        ]
        for row in champions.itertuples()
    ]
    head = ["Policy", "Date", "Learnt until", "Decision", "Serves from then", "Why"]
    return Grid("Every model, and what became of it", head, rows, "llllll")


def _how(facts: Mapping[str, Any]) -> list[str]:
    return [
        f"Every {facts['every_days']} days the clock stands still: payments before that midnight and labels known by "
        "then are all that is there. The model is made by the config's whole recipe on the latest fold whose test was "
        "mature then, so that it has learnt from payments some weeks old, as at work. The champion of each policy then "
        "scores the days until the next date; what it would have found is judged with every label known by now.",
        "Customers known as victims when a day begins are left out, as in every test of fraudlab. What an intervention "
        "would have changed afterwards is not simulated: frauds that a review would have stopped go on in the data.",
        "Intervals over customers leave out what differs from week to week, those over weeks what one customer's "
        "payments have in common; neither covers that another year brings other frauds. Policies share customers, "
        "weeks and models, so that their difference is known better than either.",
        f"Digests: config {facts['digests']['config'][:12]}, data {facts['digests']['data'][:12]}, code "
        f"{facts['digests']['code'][:12]}.",
    ]
