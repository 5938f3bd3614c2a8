"""The parts of the report that hold one thing against another: thresholds by every rule, model against model."""

from __future__ import annotations

from typing import Any

import pandas as pd

from fraudlab import plots
from fraudlab.metrics import METRICS
from fraudlab.report.blocks import (
    Cell,
    Figure,
    Prose,
    Section,
    Table,
    capital,
    count,
    money,
    not_available,
)
from fraudlab.report.evidence import Evidence

ABSENT = "–"
NOT_SHOWN = "not shown"
HELD = {
    "both": "both models",
    "challenger only": "{challenger} only",
    "champion only": "{champion} only",
    "neither": "neither",
}


def threshold_blocks(e: Evidence) -> list[Any]:
    """What every rule for the review threshold promised on validation, and what it brought on the test part."""
    table = e.threshold_outcomes
    if table is None:
        return [not_available("threshold_outcomes.csv")]
    measures = ["alerts_per_day", "bothered_per_day", "precision", "recall", "money_caught_share", "net_saved_per_day"]
    rows = []
    for rule, said in plots.RULE_LABELS.items():
        mine = table[table["rule"] == rule]
        for period, when in (("validation", "expected"), ("test", "on the test part")):
            found = mine[mine["period"] == period].set_index("metric")
            if len(found):
                used = "in use" if bool(found["used"].iloc[0]) else ""
                cells = [_outcome(measure, found, period == "test") for measure in measures]
                rows.append((Cell(capital(said), used), when, *cells))
    head = ("Review threshold by", "", *(capital(plots.OUTCOME_LABELS[measure]) for measure in measures))
    caption = (
        "Hollow: what the rule promised on the payments it was chosen on. Filled: what it brought on the test part, "
        "with 95 % intervals over customers. Each payment by its amount has no threshold and is for comparison only."
    )
    note = (
        "A case is reviewed when one of its payments is alerted; what is saved is the recovered share of its fraud, "
        "less the costs of reviews and false alarms. Promises flatter: each rule was chosen on those payments"
    )
    return [
        Figure(plots.threshold_outcomes(table), caption),
        Table("What each rule promised and what it brought", head, rows, "ll" + "r" * len(measures), note),
    ]


def _outcome(measure: str, found: pd.DataFrame, with_interval: bool) -> str | Cell:
    if measure not in found.index or pd.isna(found.loc[measure, "value"]):
        hidden = measure in found.index and str(found.loc[measure, "note"]).startswith(NOT_SHOWN)
        return NOT_SHOWN if hidden else Cell("not applicable")
    value, low, high = found.loc[measure, ["value", "low", "high"]].astype(float)

    def said(number: float) -> str:
        if measure == "net_saved_per_day":
            return money(number)
        return f"{number:,.1f}" if measure.endswith("_per_day") else plots.share(number)

    return Cell(said(value), f"{said(low)} to {said(high)}") if with_interval and pd.notna(low) else said(value)


def comparison(e: Evidence) -> Section:
    """The candidate against the champion, or against the baselines: overall, by period, by group, what flips."""
    table = e.champion_comparison if e.champion_comparison is not None and len(e.champion_comparison) else e.comparison
    title = "Comparison, and differences between customers"
    if table is None or not len(table):
        return Section("comparison", title, [not_available("comparison.csv")])
    labels = {"champion": "the champion", **e.labels}
    pairs = list(table[["challenger", "champion"]].drop_duplicates().itertuples(index=False, name=None))
    first = table[(table["challenger"] == pairs[0][0]) & (table["champion"] == pairs[0][1])]
    intro = (
        "Both models are judged on the same payments, and every bootstrap replicate draws the same customers for both: "
        "what makes a day hard is hard for both and cancels, so a difference is known better than either value. "
        "Differences are the first model minus the other."
    )
    blocks: list[Any] = [
        Prose(intro),
        Figure(
            plots.comparison(table, labels),
            "Bars are 95 % intervals over customers. Each period is judged on its own payments. A genuine case is a "
            "customer's day without a fraud; bothered means reviewed or asked for a second factor; – marks a group too "
            "small to show.",
        ),
    ]
    blocks += [_differences(table, pair, labels) for pair in pairs]
    blocks += [_flips(first, pairs[0], labels), *_groups(first, pairs[0], labels)]
    return Section("comparison", title, blocks)


def _differences(table: pd.DataFrame, pair: tuple[str, str], labels: dict[str, str]) -> Table:
    mine = table[(table["challenger"] == pair[0]) & (table["champion"] == pair[1]) & (table["view"] == "overall")]
    rows = []
    for metric, found in mine.groupby("metric", sort=False):
        values = found.set_index("model")
        name = Cell(capital(plots.METRIC_LABELS.get(str(metric), str(metric))), METRICS.get(str(metric), ""))
        if pd.isna(values.loc["difference", "value"]):
            rows.append((name, *[Cell("not applicable")] * 2, Cell(ABSENT), ABSENT))
            continue
        value, low, high, worse = values.loc["difference", ["value", "low", "high", "share_worse"]].astype(float)
        both = [plots.metric_text(str(metric), float(values.loc[model, "value"])) for model in pair]
        spread = "no interval" if pd.isna(low) else f"{_signed(metric, low)} to {_signed(metric, high)}"
        rows.append((name, *both, Cell(_signed(metric, value), spread), ABSENT if pd.isna(worse) else _chance(worse)))
    head = (
        "Metric",
        capital(labels.get(pair[0], pair[0])),
        capital(labels.get(pair[1], pair[1])),
        "Difference",
        "Worse",
    )
    note = "Worse: the share of replicates in which the first model does worse, equal ones counting half"
    return Table(f"{head[1]} and {head[2][:1].lower() + head[2][1:]}", head, rows, "lrrrr", note)


def _signed(metric: Any, value: float) -> str:
    if metric in ("auc_roc", "average_precision", "calibration_error"):
        return f"{value:+.3f}".replace("-", "−")
    return f"{value:+.5f}".replace("-", "−") if metric == "brier" else f"{plots.points(value)} points"


def _chance(share: float) -> str:
    return "under 0.5 %" if share < 0.005 else f"{100 * share:.0f} %"


def _flips(first: pd.DataFrame, pair: tuple[str, str], labels: dict[str, str]) -> Table:
    mine = first[first["view"] == "flips"]
    names = {
        key: capital(said.format(challenger=labels.get(pair[0], pair[0]), champion=labels.get(pair[1], pair[1])))
        for key, said in HELD.items()
    }
    order = ["fraud_cases", "fraud_amount", "genuine_cases"]
    wide = mine[mine["group"].isin(HELD)].pivot(index="group", columns="metric", values="value").loc[list(HELD)]
    rows = [
        (names[group], *(NOT_SHOWN if pd.isna(value) else money(value) for value in wide.loc[group, order]))
        for group in wide.index
    ]
    head = ("Reviewed by", "Cases of fraud", "Their fraud amount", "Genuine cases")
    note = (
        "A case is one customer on one day; the best of each day are reviewed, each day by itself. Counts from 1 to 9 "
        "are not shown, nor what would give them away"
    )
    return Table("Which cases flip at the alert budget", head, rows, "lrrr", note)


def _groups(first: pd.DataFrame, pair: tuple[str, str], labels: dict[str, str]) -> list[Any]:
    groups = first[first["view"] == "group"]
    if groups.empty:
        return [Prose("No column was named by which customers could be compared (decision.groups).")]
    blocks: list[Any] = []
    for by, mine in groups.groupby("by", sort=False):
        if mine["group"].isna().all() or (mine["group"] == "").all():
            blocks.append(Prose(f"Differences by {by}: {mine['note'].iloc[0]}."))
            continue
        columns = [(metric, model) for metric in ("false_positive_rate", "false_positive_ratio") for model in pair]
        columns += [("case_recall", model) for model in pair]
        rows = []
        for group, found in mine.groupby("group", sort=False):
            values = found.set_index(["metric", "model"])
            n = values.loc[("false_positive_rate", pair[0]), "n"]
            cells = [_rate(values.loc[key]) for key in columns]
            rows.append((str(group), NOT_SHOWN if pd.isna(n) else count(n), *cells))
        called = [capital(labels.get(name, name)) for name in pair]
        head = (
            capital(str(by).replace("_", " ")),
            "Genuine cases",
            *(f"{said}, {name}" for said in ("Bothered", "Over the others") for name in called),
            *(f"Fraud found, {name}" for name in called),
        )
        note = (
            "Bothered: share of the genuine cases that are reviewed or asked for a second factor. Over the others: "
            "that share over everybody else's; an interval without 1 is a difference to explain. What rests on a "
            "count from 1 to 9, or would give one away, is not shown"
        )
        caption = f"Who is bothered and who is protected, by {str(by).replace('_', ' ')}"
        blocks.append(Table(caption, head, rows, "l" + "r" * (len(head) - 1), note))
    return blocks


def _rate(row: pd.Series) -> str | Cell:
    if pd.isna(row["value"]):
        return NOT_SHOWN if str(row["note"]).startswith(NOT_SHOWN) else Cell("not applicable")
    ratio = "ratio" in str(row.name)

    def said(value: float) -> str:
        return f"{value:.2f}" if ratio else plots.share(value)

    return Cell(said(row["value"]), "" if pd.isna(row["low"]) else f"{said(row['low'])} to {said(row['high'])}")
