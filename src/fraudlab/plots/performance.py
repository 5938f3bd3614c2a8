"""Pictures of what a model is worth: ranking curves, the daily alert budget, calibrated risk, tiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from fraudlab.metrics import small_cells
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
    line_up,
    name_at_end,
    percent_axis,
    picture,
    sentence,
    share,
)
from fraudlab.privacy.disclosure import joined_bins
from fraudlab.schema import require_columns


def _best_tpr(curve: pd.DataFrame, limit: float) -> float:
    return float(curve.loc[curve["fpr"] <= limit, "tpr"].max()) if (curve["fpr"] <= limit).any() else 0.0


@drawn
def roc(table: pd.DataFrame, labels: Mapping[str, str] | None = None) -> Picture:
    """Draw frauds found against genuine payments flagged, once in full and once for the few that can be reviewed.

    Parameters
    ----------
    table : columns model, fpr, tpr; see `fraudlab.metrics.roc_table`.
    labels : model name -> what people call it, in drawing order; the first one is the picture's subject.
    """
    require_columns(table, ["model", "fpr", "tpr"], where="roc")
    table = table.dropna(subset=["fpr", "tpr"])
    if table.empty:
        return sentence("Frauds and genuine payments are both needed for this curve; the test part lacks one of them.")
    looks = line_up(table, labels)
    found = {name: _best_tpr(table[table["model"] == name], 0.05) for name, _, _ in looks}
    first, title_name, _ = looks[0]
    figure = picture(
        3.5, f"{title_name} finds {share(found[first])} of the frauds when 5 % of the genuine payments are flagged"
    )
    wide, near = figure.subplots(1, 2)
    for name, label, look in looks:
        curve = table[table["model"] == name].sort_values(["fpr", "tpr"])
        colour, dash, width = LOOKS[look]
        wide.plot(curve["fpr"], curve["tpr"], color=colour, linestyle=dash, linewidth=width, label=label)
        near.plot(curve["fpr"], curve["tpr"], color=colour, linestyle=dash, linewidth=width)
    wide.plot([0, 1], [0, 1], color=PALE, linewidth=1)
    wide.annotate("by chance", (0.62, 0.6), color=MUTED, rotation=38, va="top", ha="left")
    wide.legend(loc="lower right", fontsize=8)
    wide.set(xlim=(0, 1), ylim=(0, 1.01), ylabel="frauds found", xlabel="genuine payments flagged")
    near.set(xlim=(0, 0.055), ylim=(0, 1.01), xlabel="genuine payments flagged: the first 5 %")
    near.axvline(0.05, color=PALE, linewidth=1)
    near.plot([0.05], [found[first]], "o", color=BLUE, markersize=5)
    near.xaxis.set_major_locator(FixedLocator([0, 0.01, 0.02, 0.03, 0.04, 0.05]))
    for ax in (wide, near):
        percent_axis(ax.xaxis)
        percent_axis(ax.yaxis)
    figure.alt = "ROC curves. Share of frauds found when 5 % of the genuine payments are flagged: " + "; ".join(
        f"{label} {share(found[name])}" for name, label, _ in looks
    )
    return figure


@drawn
def precision_recall(table: pd.DataFrame, labels: Mapping[str, str] | None = None) -> Picture:
    """Draw how many of the flagged payments are fraud against how many of the frauds are flagged.

    Parameters
    ----------
    table : columns model, recall, precision; see `fraudlab.metrics.pr_table`.
    labels : model name -> what people call it; the first one is the picture's subject.
    """
    require_columns(table, ["model", "recall", "precision"], where="precision_recall")
    table = table.dropna(subset=["recall", "precision"])
    if table.empty:
        return sentence("Frauds are needed for this curve; the test part holds none with a known label.")
    looks = line_up(table, labels)
    half = {}
    for name, _, _ in looks:
        curve = table[table["model"] == name]
        half[name] = float(curve.loc[curve["recall"] >= 0.5, "precision"].max())
    figure = picture(
        3.3,
        f"To find half of the frauds with {looks[0][1]}, {share(half[looks[0][0]])} of the flagged payments are fraud",
    )
    ax = figure.subplots()
    for name, label, look in looks:
        curve = table[table["model"] == name].sort_values(["recall", "precision"], ascending=[True, False])
        colour, dash, width = LOOKS[look]
        ax.plot(curve["recall"], curve["precision"], color=colour, linestyle=dash, linewidth=width, label=label)
    ax.plot([0.5], [half[looks[0][0]]], "o", color=BLUE, markersize=5)
    ax.set(
        xlim=(0, 1.005),
        ylim=(0, 1.01),
        xlabel="recall: frauds that are flagged",
        ylabel="precision: flagged that are fraud",
    )
    ax.legend(loc="upper right", fontsize=8)
    percent_axis(ax.xaxis)
    percent_axis(ax.yaxis)
    figure.alt = "Precision-recall curves. Precision where half of the frauds are found: " + "; ".join(
        f"{label} {share(half[name])}" for name, label, _ in looks
    )
    return figure


@drawn
def daily_precision(daily: pd.DataFrame, labels: Mapping[str, str] | None = None) -> Picture:
    """Draw, per test day, the share of inspected cases that were truly compromised, against a perfect ranking.

    Parameters
    ----------
    daily : columns model, day, precision, perfect_precision; with a column days a row is that many days.
    labels : model name -> what people call it; the first one is the picture's subject.
    """
    require_columns(daily, ["model", "day", "precision", "perfect_precision"], where="daily_precision")
    daily = daily.dropna(subset=["precision"])
    if daily.empty:
        return sentence("There is no test day to draw.")
    daily = daily.assign(day=days_of(daily["day"])).sort_values("day")
    looks = line_up(daily, labels)
    first, name_of_first, _ = looks[0]
    mine = daily[daily["model"] == first]
    mean, best = mine["precision"].mean(), mine["perfect_precision"].mean()
    weekly = "days" in daily and daily["days"].gt(1).any()
    title = (
        f"{name_of_first}: {share(mean)} of the daily cases were compromised; a perfect ranking reaches {share(best)}"
    )
    figure = picture(3.0, title)
    ax = figure.subplots()
    ax.plot(mine["day"], mine["perfect_precision"], color=INK, linewidth=1, drawstyle="steps-mid")
    ends = [(mine["perfect_precision"].iloc[-1], "perfect ranking", INK)]
    for name, label, look in reversed(looks):
        line = daily[daily["model"] == name]
        colour, dash, width = LOOKS[look]
        mark = MARKS[look] if name == first or len(line) == 1 else None
        ax.plot(
            line["day"], line["precision"], color=colour, linestyle=dash, linewidth=width, marker=mark, markersize=4
        )
        ends.append((line["precision"].iloc[-1], label, colour))
    ax.set(ylim=(0, min(1.02, 1.12 * max(daily["perfect_precision"].max(), daily["precision"].max(), 0.05))))
    ax.set_ylabel("inspected cases that\nwere compromised")
    percent_axis(ax.yaxis)
    date_axis(ax)
    name_at_end(ax, ends)
    others = "; ".join(
        f"{label} {share(daily.loc[daily['model'] == name, 'precision'].mean())}" for name, label, _ in looks[1:]
    )
    figure.alt = (
        f"{title}, over {len(mine)} {'weeks; weekly' if weekly else 'days; daily'} values lie between "
        f"{share(mine['precision'].min())} and "
        f"{share(mine['precision'].max())}." + (f" Means of the others: {others}." if others else "")
    )
    return figure


@drawn
def calibration(
    table: pd.DataFrame, labels: Mapping[str, str] | None = None, errors: pd.DataFrame | None = None
) -> Picture:
    """Draw stated risk against the observed share of fraud, with intervals, a panel per stage (before, after).

    Parameters
    ----------
    table : columns model, stage, bin, n, mean_predicted, observed, low, high; only the first model is drawn.
    labels : model name -> what people call it; the first one present is drawn.
    errors : model, stage, value, low, high; see `fraudlab.calibration.calibration_errors`. Written above each panel.

    Both axes are on a square-root scale, which keeps small risks apart and still shows zero. Neighbouring bins are
    joined until each holds at least 10 payments, and no frauds or at least 10.
    """
    require_columns(table, ["model", "stage", "n", "mean_predicted", "observed", "low", "high"], where="calibration")
    table = joined_bins(table)
    table = table[table["observed"].notna()]
    if table.empty:
        return sentence("There is no calibrated risk with known labels to compare.")
    name, label, _ = line_up(table, labels)[0]
    table = table[table["model"] == name]
    stages = list(dict.fromkeys(table["stage"]))
    gaps = {}
    for stage in stages:
        bins = table[table["stage"] == stage]
        gaps[stage] = float(np.average((bins["mean_predicted"] - bins["observed"]).abs(), weights=bins["n"]))
    last = stages[-1]
    was = f", {100 * gaps[stages[0]]:.2g} before calibration" if len(stages) > 1 else ""
    title = f"{label}: the stated risk is off by {100 * gaps[last]:.2g} percentage points on average{was}"
    figure = picture(3.5, title, width=WIDTH if len(stages) > 1 else 4.6)
    panels = np.atleast_1d(figure.subplots(1, len(stages), sharex=True, sharey=True))
    top = float(min(1, 1.1 * max(table["mean_predicted"].max(), table["high"].max(), 0.01)))
    ticks = [tick for tick in (0, 0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 1) if tick <= top]
    for ax, stage in zip(panels, stages):
        bins = table[table["stage"] == stage].sort_values("mean_predicted")
        ax.plot([0, top], [0, top], color=PALE, linewidth=1)
        spread = [bins["observed"] - bins["low"], bins["high"] - bins["observed"]]
        colour, mark = (BLUE, "o") if stage == last else (MUTED, "s")
        ax.errorbar(
            bins["mean_predicted"],
            bins["observed"],
            yerr=np.clip(spread, 0, None),
            fmt=mark,
            color=colour,
            markersize=4.5,
            elinewidth=1.2,
        )
        for axis, scale in ((ax.xaxis, ax.set_xscale), (ax.yaxis, ax.set_yscale)):
            scale("function", functions=(lambda v: np.sqrt(np.clip(v, 0, None)), np.square))
            axis.set_major_locator(FixedLocator(ticks[:1] + ticks[2:] if top > 0.1 else ticks))
            axis.set_minor_locator(NullLocator())
            percent_axis(axis)
        ax.set(xlim=(0, 1.04 * top), ylim=(0, 1.04 * top), xlabel="stated risk (square-root scale)")
        ax.set_title(_stage_title(stage, name, errors) if len(stages) > 1 else "", color=MUTED)
    panels[0].set_ylabel("observed share of fraud, 95 % interval")
    said = []
    for stage in stages:
        bins = table[table["stage"] == stage]
        inside = int(bins["mean_predicted"].between(bins["low"], bins["high"]).sum())
        head = _stage_title(stage, name, errors).capitalize()
        said.append(f"{head}, {inside} of {len(bins)} intervals contain the stated risk.")
    figure.alt = f"{title}. {' '.join(said)}"
    return figure


def _stage_title(stage: str, model: str, errors: pd.DataFrame | None) -> str:
    if errors is None:
        return f"{stage} calibration"
    require_columns(errors, ["model", "stage", "value", "low", "high"], where="calibration errors")
    row = errors[(errors["model"] == model) & (errors["stage"] == stage)]
    if row.empty or row[["value", "low", "high"]].isna().any(axis=None):
        return f"{stage} calibration"
    value, low, high = row[["value", "low", "high"]].iloc[0]
    return f"{stage} calibration: error {value:.2f} ({low:.2f} to {high:.2f})"


@drawn
def tiers(table: pd.DataFrame) -> Picture:
    """Draw each decision tier's share of the payments beside its share of the frauds.

    Parameters
    ----------
    table : columns tier, action, transactions, frauds, from the lowest tier to the highest.

    Tiers whose counts could reveal 1 to 9 payments or frauds have no bar and say so.
    """
    require_columns(table, ["tier", "action", "transactions", "frauds"], where="tiers")
    if table.empty or table["transactions"].sum() == 0:
        return sentence("No payment was assigned to a decision tier.")
    upward = table.reset_index(drop=True)
    ranks = np.arange(len(upward))
    shares, said = {}, {}
    for column in ("transactions", "frauds"):
        counts = upward[column].to_numpy(float)
        hidden = small_cells(counts)
        known = upward[f"share_of_{column}"] if f"share_of_{column}" in upward else counts / max(np.nansum(counts), 1)
        shares[column] = np.where(hidden, np.nan, known)
        said[column] = ["not shown (few)" if hide else share(value) for hide, value in zip(hidden, shares[column])]
    top = int(np.flatnonzero(upward["transactions"] > 0)[-1])
    payments, frauds = said["transactions"][top], said["frauds"][top]
    title = f"Tier '{upward['tier'][top]}' holds {payments} of the payments and {frauds} of the frauds"
    if "not" in payments + frauds:
        title = "How payments and frauds spread over the decision tiers"
    figure = picture(0.95 + 0.42 * len(upward), title)
    for ax, column, colour in zip(figure.subplots(1, 2, sharey=True), ("transactions", "frauds"), (MUTED, RED)):
        ax.barh(ranks, np.nan_to_num(shares[column]), color=colour, height=0.62)
        for rank, text in zip(ranks, said[column]):
            width = np.nan_to_num(shares[column][rank])
            ax.annotate(text, (width, rank), (4, 0), textcoords="offset points", va="center", color=INK)
        ax.set(xlim=(0, 1.28), xticks=[])
        ax.grid(False)
        ax.spines["bottom"].set_visible(False)
        ax.set_title("share of payments" if column == "transactions" else "share of frauds", color=MUTED)
        names = [f"{tier}\n{str(action).replace('_', ' ')}" for tier, action in zip(upward["tier"], upward["action"])]
        ax.set_yticks(ranks, names, color=INK)
    figure.alt = "Decision tiers: " + "; ".join(
        f"{upward['tier'][rank]}, {said['transactions'][rank]} of payments, {said['frauds'][rank]} of frauds"
        for rank in ranks
    )
    return figure


METRIC_LABELS: dict[str, str] = {
    "card_precision_at_k": "precision of the daily cases",
    "card_recall_at_k": "compromised found in the daily cases",
    "precision_at_budget": "payments: precision at the budget",
    "recall_at_budget": "payments: recall at the budget",
    "recall_at_fpr_1": "recall at 1 % false alarms",
    "recall_at_fpr_5": "recall at 5 % false alarms",
    "auc_roc": "AUC ROC",
    "average_precision": "average precision",
    "money_caught": "fraud amount in the inspected cases",
    "money_caught_share": "share of fraud money caught",
    "money_blocked": "genuine amount in the inspected cases",
    "brier": "Brier score",
    "calibration_error": "calibration error",
}
"""Metric name -> what people call it; the report uses the same words."""

_PLAIN = ("auc_roc", "average_precision", "calibration_error")
_FINE = ("brier",)
_MONEY = ("money_caught", "money_blocked")


def metric_text(metric: str, value: float) -> str:
    """Return a metric's value in its unit: per cent for shares, three decimals for ranking, whole money.

    >>> metric_text("recall_at_budget", 0.304), metric_text("auc_roc", 0.8711), metric_text("money_caught", 41234.5)
    ('30.4 %', '0.871', '41,234')
    """
    if metric in _PLAIN:
        return f"{value:.3f}"
    if metric in _FINE:
        return f"{value:.5f}"
    return f"{value:,.0f}" if metric in _MONEY else share(value)


@drawn
def metric_intervals(
    table: pd.DataFrame,
    labels: Mapping[str, str] | None = None,
    metrics: Sequence[str] = (
        "card_precision_at_k",
        "recall_at_budget",
        "money_caught_share",
        "average_precision",
        "auc_roc",
        "recall_at_fpr_1",
    ),
) -> Picture:
    """Draw the models side by side: a panel per metric, each model's value with its interval.

    Parameters
    ----------
    table : columns model, metric, value, low, high (tidy metric table, overall rows).
    labels : model name -> what people call it, best first.
    metrics : which metrics, in this order; absent ones are skipped.
    """
    require_columns(table, ["model", "metric", "value", "low", "high"], where="metric_intervals")
    table = table[table["metric"].isin(metrics) & table["value"].notna()]
    present = [metric for metric in metrics if metric in set(table["metric"])]
    if not present:
        return sentence("No metric could be computed on the test part.")
    looks = line_up(table, labels)
    columns = min(3, len(present))
    rows = -(-len(present) // columns)
    figure = picture(
        0.45 + rows * (0.62 + 0.24 * len(looks)), "How the models compare: value and 95 % interval on the test part"
    )
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    said = []
    for ax, metric in zip(panels, present):
        found = table[table["metric"] == metric].drop_duplicates("model").set_index("model")
        words = []
        for place, (name, label, look) in enumerate(looks):
            if name not in found.index:
                continue
            value, low, high = found.loc[name, ["value", "low", "high"]].astype(float)
            colour = LOOKS[look][0]
            if np.isfinite(low) and np.isfinite(high):
                ax.plot([low, high], [-place, -place], color=colour, linewidth=2, alpha=0.5, solid_capstyle="butt")
            ax.plot([value], [-place], MARKS[look], color=colour, markersize=5)
            ax.annotate(
                metric_text(metric, value),
                (value, -place),
                (0, 5),
                textcoords="offset points",
                ha="center",
                color=colour,
                fontsize=7.5,
            )
            words.append(f"{label} {metric_text(metric, value)}")
        ax.set_title(METRIC_LABELS.get(metric, metric), color=INK)
        ax.set_ylim(-len(looks) + 0.45, 0.75)
        ax.set_yticks([-place for place in range(len(looks))], [label for _, label, _ in looks], color=INK)
        ax.xaxis.set_major_locator(MaxNLocator(4))
        if metric not in (*_PLAIN, *_FINE, *_MONEY):
            percent_axis(ax.xaxis)
        ax.margins(x=0.18)
        said.append(f"{METRIC_LABELS.get(metric, metric)}: {', '.join(words)}")
    for ax in panels[len(present) :]:
        ax.set_visible(False)
    figure.alt = "Models compared. " + "; ".join(said)
    return figure
