"""Pictures of decisions: what other budgets would bring, what the policy does, how customers are rated."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from fraudlab.plots.style import (
    BLUE,
    INK,
    LOOKS,
    MARKS,
    MUTED,
    PALE,
    RED,
    WIDTH,
    Picture,
    date_axis,
    days_of,
    drawn,
    fit,
    line_up,
    number_axis,
    percent_axis,
    picture,
    sentence,
    share,
)
from fraudlab.privacy.disclosure import hidden_ratings, hidden_tiers, thinned_budgets
from fraudlab.schema import require_columns

SIMULATED_PANELS = {
    "net_saved_per_day": "saved a day, net of costs",
    "recall": "share of the frauds caught",
    "bothered_per_day": "genuine cases reviewed a day",
}
ACTION_LABELS = {
    "approve": "approve",
    "step_up_authentication": "step-up authentication",
    "limit": "limit",
    "manual_review": "manual review",
    "limit_and_review": "limit and review",
    "decline": "decline",
}
"""Action -> what people call it."""
WAY_LABELS = {
    "tiers": "tiers cut on the score",
    "costs": "least cost, by risk and amount",
    "rules": "least cost, with rules",
    "policy": "least cost, with rules and ratings",
    "rating_step_up": "customers rated high confirm",
    "rating_review": "customers rated high are reviewed",
}
"""Way to choose actions -> what people call it; the last two only say what a rating would add."""


@drawn
def simulation(table: pd.DataFrame, labels: Mapping[str, str] | None = None, *, budget: int | None = None) -> Picture:
    """Draw what each number of reviews a day would save, catch and whom it would bother, with intervals.

    Parameters
    ----------
    table : from `metrics.simulate`: model, by, budget, chosen, metric, value, low, high.
    labels : model name -> what people call it; the first one is the picture's subject.
    budget : the number that is marked; None: the chosen one of the table.

    The band is the 95 % interval of the subject. Hollow diamonds are its thresholds, at the cases a day they brought.
    Budgets that differ by 1 to 9 frauds are not told apart: of such neighbours one is drawn.
    """
    columns = ["model", "by", "budget", "chosen", "metric", "value", "low", "high"]
    require_columns(table, columns, where="simulation")
    if table.empty:
        return sentence("There is no simulation to draw.")
    table = thinned_budgets(table, budget)
    told = table[table["metric"].eq("net_saved_per_day") & table["value"].notna()]
    if told.empty:
        return sentence("The reviews find fewer than 10 frauds at every budget, so what they save is not drawn.")
    looks = line_up(told, labels)
    first, label, _ = looks[0]
    mine = told[(told["model"] == first) & (told["by"] == "budget")].set_index("budget")
    in_use = budget if budget is not None else next(iter(table.loc[table["chosen"].astype(bool), "budget"]), None)
    title = f"{label}: no budget could be told"
    if len(mine):
        peak = int(mine["value"].idxmax())
        title = f"{label}: {peak:,} reviews a day would save most, {_money(mine.loc[peak, 'value'])} a day"
        if in_use in mine.index and in_use != peak:
            title += f"; the {in_use:,} in use save {_money(mine.loc[in_use, 'value'])}"
        elif in_use == peak:
            title = f"{label}: the {peak:,} reviews a day in use save most, {_money(mine.loc[peak, 'value'])} a day"
    figure = picture(3.0, title)
    panels = figure.subplots(1, 3)
    keep: list[int] = []
    for step in sorted(table.loc[table["by"] == "budget", "budget"].unique()):
        keep += [step] if not keep or step >= 1.9 * keep[-1] else []
    for ax, (metric, said) in zip(panels, SIMULATED_PANELS.items()):
        found = table[(table["metric"] == metric) & table["value"].notna()]
        for name, called, look in reversed(looks):
            line = found[(found["model"] == name) & (found["by"] == "budget")].sort_values("budget")
            colour, dash, width = LOOKS[look]
            ax.plot(
                line["budget"], line["value"], color=colour, linestyle=dash, linewidth=width,
                marker=MARKS[look], markersize=3.5, label=called,
            )  # fmt: skip
            if name == first:
                ax.fill_between(line["budget"], line["low"], line["high"], color=colour, alpha=0.15, linewidth=0)
        _thresholds(ax, table, first, metric)
        if in_use is not None:
            ax.axvline(in_use, color=PALE, linewidth=1.2, zorder=1)
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(FixedLocator(keep))
        ax.xaxis.set_minor_locator(NullLocator())
        number_axis(ax.xaxis)
        ax.set_title(fit(said, 2.2), color=INK)
        ax.yaxis.set_major_locator(MaxNLocator(5))
        (percent_axis if metric == "recall" else number_axis)(ax.yaxis)
    panels[0].axhline(0, color="#9aa3ae", linewidth=0.8)
    panels[1].set_xlabel("cases reviewed a day (log scale)" + (f"; grey line: {in_use:,} in use" if in_use else ""))
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles[::-1], names[::-1], loc="outside lower left", ncols=3, fontsize=7.5, labelcolor=INK)
    figure.alt = f"{title}. " + " ".join(_told_budgets(table, first))
    return figure


def _thresholds(ax: Axes, table: pd.DataFrame, model: str, metric: str) -> None:
    """Mark what the thresholds chosen on validation brought, at the cases a day they led to."""
    mine = table[(table["model"] == model) & (table["by"] == "threshold")]
    wide = mine.pivot(index="budget", columns="metric", values="value")
    if metric not in wide or "alerts_per_day" not in wide:
        return
    some = wide[(wide["alerts_per_day"] > 0) & wide[metric].notna()]
    ax.plot(
        some["alerts_per_day"], some[metric], "D", color=BLUE, markerfacecolor="white", markersize=4.5,
        label="its thresholds, from validation",
    )  # fmt: skip


def _told_budgets(table: pd.DataFrame, model: str) -> list[str]:
    mine = table[(table["model"] == model) & (table["by"] == "budget")]
    wide = mine.pivot(index="budget", columns="metric", values="value").dropna(subset=["recall"])
    return [
        f"{int(budget):,} a day: {share(row['recall'])} of the frauds, {row['bothered_per_day']:,.1f} genuine cases, "
        f"{_money(row['net_saved_per_day'])} saved."
        for budget, row in wide.iterrows()
    ]


def _money(value: float) -> str:
    return f"{value:,.0f}".replace("-", "−")


@drawn
def actions(table: pd.DataFrame) -> Picture:
    """Draw which share of the payments, and of the frauds, each action of the policy gets, and who decides it.

    Parameters
    ----------
    table : columns action, decided_by, transactions, frauds; from the mildest action to the severest.

    Actions whose counts could reveal 1 to 9 payments or frauds have no bar and say so.
    """
    require_columns(table, ["action", "decided_by", "transactions", "frauds"], where="actions")
    if table.empty:
        return sentence("The model states no risk, so no action can be chosen by its cost.")
    table = hidden_tiers(table).reset_index(drop=True)
    ranks = np.arange(len(table))
    figure = picture(0.95 + 0.42 * len(table), "What the policy does with the payments of the test, and who decides")
    said = {}
    for ax, column, colour in zip(figure.subplots(1, 2, sharey=True), ("transactions", "frauds"), (MUTED, RED)):
        shares = table[f"share_of_{column}"].to_numpy(dtype=float)
        said[column] = ["not shown (few)" if np.isnan(value) else share(value) for value in shares]
        ax.barh(ranks, np.nan_to_num(shares), color=colour, height=0.62)
        for rank, text in zip(ranks, said[column]):
            at = (np.nan_to_num(shares[rank]), rank)
            ax.annotate(text, at, (4, 0), textcoords="offset points", va="center", color=INK)
        ax.set(xlim=(0, 1.28), xticks=[])
        ax.grid(False)
        ax.spines["bottom"].set_visible(False)
        ax.set_title("share of payments" if column == "transactions" else "share of frauds", color=MUTED)
        names = [f"{ACTION_LABELS.get(row.action, row.action)}\n{row.decided_by}" for row in table.itertuples()]
        ax.set_yticks(ranks, names, color=INK)
    figure.alt = "What the policy does: " + "; ".join(
        f"{ACTION_LABELS.get(row.action, row.action)} ({row.decided_by}), {said['transactions'][row.Index]} of "
        f"payments, {said['frauds'][row.Index]} of frauds"
        for row in table.itertuples()
    )
    return figure


@drawn
def ratings(weekly: pd.DataFrame, after: pd.DataFrame) -> Picture:
    """Draw how many customers are rated medium and high from week to week, and how often each rating is defrauded.

    Parameters
    ----------
    weekly : columns week, rating, customers, share; from `deciding.rating_tables`.
    after : columns rating, transactions, frauds, fraud_rate, low, high.
    """
    require_columns(weekly, ["week", "rating", "customers", "share"], where="ratings")
    require_columns(
        after, ["rating", "customers", "transactions", "frauds", "fraud_rate", "low", "high"], where="ratings"
    )
    weekly, after = hidden_ratings(weekly), hidden_ratings(after)
    raised = weekly[weekly["rating"] != "low"].dropna(subset=["share"])
    shown = after.dropna(subset=["fraud_rate"])
    if raised.empty and shown.empty:
        return sentence("Fewer than 10 customers are rated above low, or their frauds are too few to show.")
    rates = shown.set_index("rating")["fraud_rate"].astype(float)
    title = "How customers are rated"
    if rates.get("low", 0) > 0 and "high" in rates:
        title = (
            f"In the week after, payments of customers rated high are fraud {rates['high'] / rates['low']:.1f} times "
            "as often as of those rated low"
        )
    figure = picture(2.7, title, width=WIDTH)
    left, right = figure.subplots(1, 2)
    ends = []
    for rating, colour, mark in (("medium", MUTED, "s"), ("high", RED, "o")):
        line = raised[raised["rating"] == rating]
        if line.empty:
            continue
        left.plot(
            days_of(line["week"]), line["share"].astype(float), color=colour, marker=mark, markersize=4, label=rating
        )
        ends.append(
            f"{rating} {share(float(line['share'].iloc[0]))} at first, {share(float(line['share'].iloc[-1]))} at last"
        )
    left.set_ylim(0, None)
    left.set_title("share of the customers, week by week", color=INK)
    percent_axis(left.yaxis)
    date_axis(left)
    if ends:
        left.legend(loc="upper left", fontsize=7.5)
    for place, row in enumerate(shown.itertuples()):
        right.plot([row.low, row.high], [-place, -place], color=BLUE, linewidth=2, alpha=0.5, solid_capstyle="butt")
        right.plot([row.fraud_rate], [-place], "o", color=BLUE, markersize=5)
        right.annotate(
            share(row.fraud_rate), (row.fraud_rate, -place), (0, 6), textcoords="offset points", ha="center",
            fontsize=7.5,
        )  # fmt: skip
    right.set_yticks([-place for place in range(len(shown))], list(shown["rating"]), color=INK)
    right.set_ylim(-len(shown) + 0.4, 0.7)
    right.set_xlim(0, None)
    right.margins(x=0.15)
    right.set_title("share of fraud among the payments of the week after", color=INK)
    percent_axis(right.xaxis)
    figure.alt = (
        f"{title}. Share of customers: {'; '.join(ends) or 'too few to show'}. Share of fraud in the week after: "
        + (", ".join(f"{name} {share(value)}" for name, value in rates.items()) or "too few to show")
        + "."
    )
    return figure
