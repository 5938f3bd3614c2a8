"""The parts of the report that hold one thing against another: thresholds by every rule, models, customers."""

from __future__ import annotations

from typing import Any

import pandas as pd

from fraudlab import plots
from fraudlab.metrics import METRICS
from fraudlab.report.blocks import (
    ABSENT,
    HIDDEN,
    NOT_APPLICABLE,
    Cell,
    Figure,
    Prose,
    Section,
    Table,
    capital,
    count,
    metric_label,
    metric_text,
    money,
    not_available,
    share,
    span,
)
from fraudlab.report.evidence import Evidence
from fraudlab.report.language import foreign, retold, say, spoken, term

HELD = ("both", "challenger only", "champion only", "neither")
FAIR = (0.8, 1.25)
"""Ratio of false alarms outside of which a difference counts as large (the four-fifths rule, both ways)."""


def threshold_blocks(e: Evidence) -> list[Any]:
    """What every rule for the review threshold promised on validation, and what it brought on the test part."""
    table = e.threshold_outcomes
    if table is None:
        return [not_available("threshold_outcomes.csv")]
    measures = ["alerts_per_day", "bothered_per_day", "precision", "recall", "money_caught_share", "net_saved_per_day"]
    rows = []
    for rule, said in plots.RULE_LABELS.items():
        mine = table[table["rule"] == rule]
        for period, when in (("validation", say("expected")), ("test", say("on the test part"))):
            found = mine[mine["period"] == period].set_index("metric")
            if len(found):
                used = say("in use") if bool(found["used"].iloc[0]) else ""
                cells = [_outcome(measure, found, period == "test") for measure in measures]
                rows.append((Cell(capital(term(said)), used), when, *cells))
    head = (say("Review threshold by"), "", *(capital(term(plots.OUTCOME_LABELS[measure])) for measure in measures))
    caption = say(
        "Hollow: what the rule promised on the payments it was chosen on. Filled: what it brought on the test part, "
        "with 95 % intervals over customers. Each payment by its amount has no threshold and is for comparison only."
    )
    note = say(
        "A case is reviewed when one of its payments is alerted; what is saved is the recovered share of its fraud, "
        "less the costs of reviews and false alarms. Promises flatter: each rule was chosen on those payments"
    )
    return [
        Figure(plots.threshold_outcomes(table), caption),
        Table(say("What each rule promised and what it brought"), head, rows, "ll" + "r" * len(measures), note),
    ]


def _outcome(measure: str, found: pd.DataFrame, with_interval: bool) -> str | Cell:
    if measure not in found.index or pd.isna(found.loc[measure, "value"]):
        hidden = measure in found.index and str(found.loc[measure, "note"]).startswith(HIDDEN)
        return HIDDEN if hidden else Cell(NOT_APPLICABLE)
    value, low, high = found.loc[measure, ["value", "low", "high"]].astype(float)

    def said(number: float) -> str:
        if measure == "net_saved_per_day":
            return money(number)
        return f"{number:,.1f}" if measure.endswith("_per_day") else share(number)

    return Cell(said(value), span(said(low), said(high))) if with_interval and pd.notna(low) else said(value)


def compared(e: Evidence) -> tuple[pd.DataFrame | None, dict[str, str], list[tuple[str, str]]]:
    """Return the comparison that counts (with the champion, else the baselines), names of models, the pairs in it."""
    table = e.champion_comparison if e.champion_comparison is not None and len(e.champion_comparison) else e.comparison
    names = {"champion": say("the champion"), **{model: e.called(model) for model in e.labels}}
    if table is None or not len(table):
        return None, names, []
    return table, names, list(table[["challenger", "champion"]].drop_duplicates().itertuples(index=False, name=None))


def comparison(e: Evidence) -> Section:
    """The candidate against the champion, or against the baselines: overall, by period, what flips."""
    table, names, pairs = compared(e)
    title = say("Comparison with champion and baselines")
    if table is None:
        return Section("comparison", title, [not_available("comparison.csv")])
    intro = say(
        "Both models are judged on the same payments, and every bootstrap replicate draws the same customers for both: "
        "what makes a day hard is hard for both and cancels, so a difference is known better than either value. "
        "Differences are the first model minus the other."
    )
    caption = say(
        "Bars are 95 % intervals over customers. Each period is judged on its own payments. A genuine case is a "
        "customer's day without a fraud; bothered means reviewed or asked for a second factor; – marks a group too "
        "small to show."
    )
    blocks: list[Any] = [
        Prose(intro),
        Figure(plots.comparison(table, {"champion": "the champion", **e.labels}), caption),
    ]
    blocks += [_differences(table, pair, names) for pair in pairs]
    blocks.append(_flips(_of(table, pairs[0]), pairs[0], names))
    if e.champion_comparison is not None and len(e.champion_comparison) and e.comparison is not None:
        blocks += _with_baselines(e, names)
    return Section("comparison", title, blocks)


def _of(table: pd.DataFrame, pair: tuple[str, str]) -> pd.DataFrame:
    return table[(table["challenger"] == pair[0]) & (table["champion"] == pair[1])]


def _with_baselines(e: Evidence, names: dict[str, str]) -> list[Any]:
    """The differences from the baselines, beside those from the champion."""
    table = e.comparison
    if table is None or not len(table):
        return []
    pairs = table[["challenger", "champion"]].drop_duplicates().itertuples(index=False, name=None)
    return [_differences(table, pair, names) for pair in pairs]


def _differences(table: pd.DataFrame, pair: tuple[str, str], names: dict[str, str]) -> Table:
    mine = _of(table, pair)
    rows = []
    for metric, found in mine[mine["view"] == "overall"].groupby("metric", sort=False):
        values = found.set_index("model")
        name = Cell(metric_label(str(metric)), term(METRICS.get(str(metric), "")))
        if pd.isna(values.loc["difference", "value"]):
            rows.append((name, *[Cell(NOT_APPLICABLE)] * 2, Cell(ABSENT), ABSENT))
            continue
        value, low, high, worse = values.loc["difference", ["value", "low", "high", "share_worse"]].astype(float)
        both = [metric_text(str(metric), float(values.loc[model, "value"])) for model in pair]
        spread = say("no interval") if pd.isna(low) else span(_signed(metric, low), _signed(metric, high))
        rows.append((name, *both, Cell(_signed(metric, value), spread), ABSENT if pd.isna(worse) else _chance(worse)))
    called = [names.get(name, name) for name in pair]
    head = (say("Metric"), *map(capital, called), say("Difference"), say("Worse"))
    note = say("Worse: the share of replicates in which the first model does worse, equal ones counting half")
    caption = say("{one} and {other}", one=capital(called[0]), other=called[1][:1].lower() + called[1][1:])
    return Table(caption, head, rows, "lrrrr", note)


def _signed(metric: Any, value: float) -> str:
    if metric in ("auc_roc", "average_precision", "calibration_error"):
        return f"{value:+.3f}".replace("-", "−")
    if metric == "brier":
        return f"{value:+.5f}".replace("-", "−")
    return say("{n} points", n=plots.points(value))


def _chance(value: float) -> str:
    return spoken("under 0.5 %" if value < 0.005 else f"{100 * value:.0f} %")


def _flips(first: pd.DataFrame, pair: tuple[str, str], names: dict[str, str]) -> Table:
    mine = first[first["view"] == "flips"]
    one, other = (names.get(name, name) for name in pair)
    held = dict(
        zip(
            HELD,
            (
                capital(say("both models")),
                capital(say("{model} only", model=one)),
                capital(say("{model} only", model=other)),
                capital(say("neither")),
            ),
        )
    )
    order = ["fraud_cases", "fraud_amount", "genuine_cases"]
    wide = mine[mine["group"].isin(HELD)].pivot(index="group", columns="metric", values="value").loc[list(HELD)]
    rows = [
        (held[group], *(HIDDEN if pd.isna(value) else money(value) for value in wide.loc[group, order]))
        for group in wide.index
    ]
    head = (say("Reviewed by"), say("Cases of fraud"), say("Their fraud amount"), say("Genuine cases"))
    note = say(
        "A case is one customer on one day; the best of each day are reviewed, each day by itself. Counts from 1 to 9 "
        "are not shown, nor what would give them away"
    )
    return Table(say("Which cases flip at the alert budget"), head, rows, "lrrr", note)


def fairness(e: Evidence) -> Section:
    """Who is bothered without cause and who is protected, group by group, with intervals."""
    table, names, pairs = compared(e)
    title = say("Differences between groups of customers")
    if table is None:
        return Section("fairness", title, [not_available("comparison.csv")])
    first = _of(table, pairs[0])
    groups = first[first["view"] == "group"]
    if groups.empty:
        said = say("No column was named by which customers could be compared (decision.groups).")
        return Section("fairness", title, [Prose(said)])
    intro = say(
        "Genuine customers should be bothered about equally often whatever group they belong to, and frauds against "
        "them found about equally well. A ratio of false alarms below {low} or above {high} whose interval excludes 1 "
        "is a difference to explain: the cause may lie in the kinds of payments, in the labels, or in the model.",
        low=f"{FAIR[0]:.2f}",
        high=f"{FAIR[1]:.2f}",
    )
    blocks: list[Any] = [Prose(intro)]
    for by, mine in groups.groupby("by", sort=False):
        blocks += _by_group(str(by), mine, pairs[0], names)
    return Section("fairness", title, blocks)


def _by_group(by: str, mine: pd.DataFrame, pair: tuple[str, str], names: dict[str, str]) -> list[Any]:
    said_by = term(by.replace("_", " "))
    if mine["group"].isna().all() or (mine["group"] == "").all():
        return [Prose(say("Differences by {group}: {why}.", group=said_by, why=retold(str(mine["note"].iloc[0]))))]
    columns = [(metric, model) for metric in ("false_positive_rate", "false_positive_ratio") for model in pair]
    columns += [("case_recall", model) for model in pair]
    rows, large = [], []
    for group, found in mine.groupby("group", sort=False):
        values = found.set_index(["metric", "model"])
        n = values.loc[("false_positive_rate", pair[0]), "n"]
        rows.append((_group(str(group)), HIDDEN if pd.isna(n) else count(n), *(_rate(values.loc[c]) for c in columns)))
        if _is_large(values.loc[("false_positive_ratio", pair[0])]):
            large.append(_group(str(group)))
    called = [capital(names.get(name, name)) for name in pair]
    head = (
        capital(said_by),
        say("Genuine cases"),
        *(say("Bothered, {model}", model=name) for name in called),
        *(say("Over the others, {model}", model=name) for name in called),
        *(say("Fraud found, {model}", model=name) for name in called),
    )
    note = say(
        "Bothered: share of the genuine cases that are reviewed or asked for a second factor. Over the others: that "
        "share over everybody else's; an interval without 1 is a difference to explain. What rests on a count from 1 "
        "to 9, or would give one away, is not shown"
    )
    caption = say("Who is bothered and who is protected, by {group}", group=said_by)
    limits = {"low": f"{FAIR[0]:.2f}", "high": f"{FAIR[1]:.2f}"}
    read = say("No group's ratio lies outside {low} to {high} with an interval that excludes 1.", **limits)
    if large:
        read = say("Large differences for {model}: {groups}.", model=called[0], groups=say(", ").join(large))
    return [Table(caption, head, rows, "l" + "r" * (len(head) - 1), note), Prose(read)]


def _group(name: str) -> str:
    return term(name) if name in ("others", "missing") else foreign(name)


def _is_large(row: pd.Series) -> bool:
    """Return whether a ratio lies outside the four-fifths limits and its interval excludes 1."""
    if pd.isna(row["value"]) or pd.isna(row["low"]):
        return False
    return not FAIR[0] <= row["value"] <= FAIR[1] and not row["low"] <= 1 <= row["high"]


def _rate(row: pd.Series) -> str | Cell:
    if pd.isna(row["value"]):
        return HIDDEN if str(row["note"]).startswith(HIDDEN) else Cell(NOT_APPLICABLE)
    ratio = "ratio" in str(row.name)

    def said(value: float) -> str:
        return f"{value:.2f}" if ratio else share(value)

    return Cell(said(row["value"]), "" if pd.isna(row["low"]) else span(said(row["low"]), said(row["high"])))
