"""Pictures of one thing held against another: model against model, what a rule promised against what it brought."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from fraudlab.plots.performance import METRIC_LABELS
from fraudlab.plots.style import (
    BLUE,
    INK,
    LOOKS,
    MARKS,
    MUTED,
    PALE,
    Picture,
    drawn,
    fit,
    number_axis,
    percent_axis,
    picture,
    sentence,
    share,
)
from fraudlab.schema import require_columns

RANKED = ("card_precision_at_k", "recall_at_budget", "money_caught_share", "average_precision", "auc_roc")
OUTCOME_LABELS = {
    "alerts_per_day": "cases reviewed a day",
    "bothered_per_day": "genuine cases among them",
    "precision": "reviewed cases that are fraud",
    "recall": "frauds caught",
    "false_positive_rate": "genuine payments alerted",
    "money_caught_per_day": "fraud amount caught a day",
    "money_caught_share": "share of fraud money caught",
    "net_saved_per_day": "saved a day, net of costs",
}
"""Measure of `metrics.OUTCOMES` -> what people call it; the report uses the same words."""
RULE_LABELS = {
    "budget": "cases a day",
    "cost": "least cost",
    "false_positive_rate": "share of genuine payments",
    "by_amount": "each payment by its amount",
}
"""Rule for the review threshold -> what people call it; the last has no threshold and is held against the others."""
_PER_CENT = ("precision", "recall", "false_positive_rate", "money_caught_share")


def points(value: float) -> str:
    """Return a difference of shares in percentage points, with its sign.

    >>> points(0.0952), points(-0.0004), points(0)
    ('+9.5', '−0.0', '+0.0')
    """
    return f"{100 * value:+.1f}".replace("-", "−")


@drawn
def comparison(table: pd.DataFrame, labels: Mapping[str, str] | None = None) -> Picture:
    """Draw a challenger against champions: overall, period by period, by group of customers, and its calibration.

    Parameters
    ----------
    table : from `fraudlab.comparing`: challenger, champion, view, by, group, metric, model, value, low, high. The first
        pair is the subject; further ones appear in the overall panel only.
    labels : model name -> what people call it.
    """
    columns = ["challenger", "champion", "view", "by", "group", "metric", "model", "value", "low", "high"]
    require_columns(table, columns, where="comparison")
    pairs = list(table[["challenger", "champion"]].drop_duplicates().itertuples(index=False, name=None))
    if not pairs:
        return sentence("There is no champion whose scores this model could be compared with.")
    named = {name: _called(name, labels) for pair in pairs for name in pair}
    challenger, champion = pairs[0]
    pair = table[(table["challenger"] == challenger) & (table["champion"] == champion)]
    overall = table[(table["view"] == "overall") & (table["model"] == "difference")].dropna(subset=["value"])
    if overall.empty:
        return sentence("The two models cannot be compared: the test part lacks frauds or genuine payments.")
    mine = overall[(overall["champion"] == champion) & (overall["metric"] == "card_precision_at_k")]
    title = f"{named[challenger]} against {named[champion].lower() if champion != 'champion' else 'the champion'}"
    if len(mine):
        first = mine.iloc[0]
        title += f": {points(first['value'])} percentage points of precision at the alert budget"
        if np.isfinite(first["low"]):
            title += f", 95 % interval {points(first['low'])} to {points(first['high'])}"
    figure = picture(5.9, title)
    panels = figure.subplots(2, 2)
    said = [
        _overall(panels[0, 0], overall, pairs, named),
        _periods(panels[0, 1], pair, named[challenger]),
        _groups(panels[1, 0], pair, (challenger, champion), named),
        _risks(panels[1, 1], pair, (challenger, champion), named),
    ]
    figure.alt = f"{title}. " + " ".join(filter(None, said))
    return figure


def _called(name: str, labels: Mapping[str, str] | None) -> str:
    said = (labels or {}).get(name, name)
    return said[:1].upper() + said[1:]


def _overall(ax: Axes, overall: pd.DataFrame, pairs: list[tuple[str, str]], named: Mapping[str, str]) -> str:
    metrics = [metric for metric in RANKED if metric in set(overall["metric"])]
    ax.axvline(0, color="#9aa3ae", linewidth=0.8)
    said = []
    for number, (_, champion) in enumerate(pairs):
        found = overall[overall["champion"] == champion].set_index("metric")
        colour = LOOKS[number % len(LOOKS)][0]
        shift = 0.22 * (number - (len(pairs) - 1) / 2)
        words = []
        for place, metric in enumerate(metrics):
            if metric not in found.index:
                continue
            value, low, high = found.loc[metric, ["value", "low", "high"]].astype(float)
            at = -place - shift
            ax.plot([low, high], [at, at], color=colour, linewidth=2, alpha=0.5, solid_capstyle="butt")
            label = f"against {named[champion][:1].lower() + named[champion][1:]}" if not words else None
            ax.plot([value], [at], MARKS[number % len(MARKS)], color=colour, markersize=5, label=label)
            words.append(f"{METRIC_LABELS[metric]} {points(value)}")
        said.append(f"Against {named[champion]}: {', '.join(words)} points.")
    ax.set_yticks([-place for place in range(len(metrics))], [fit(METRIC_LABELS[m], 1.25) for m in metrics], color=INK)
    ax.set_ylim(-len(metrics) + 0.5, 0.5 + 0.5 * (len(pairs) > 1) * len(pairs))  # room for the legend
    ax.xaxis.set_major_locator(MaxNLocator(5))
    _points_axis(ax.xaxis)
    ax.set_title("difference in percentage points; right of 0 is better", color=INK)
    if len(pairs) > 1:
        ax.legend(loc="upper right", fontsize=7.5)
    return " ".join(said)


def _periods(ax: Axes, pair: pd.DataFrame, challenger: str) -> str:
    found = pair[
        (pair["view"] == "period") & (pair["metric"] == "card_precision_at_k") & (pair["model"] == "difference")
    ].dropna(subset=["value"])
    ax.set_title("precision at the budget, period by period", color=INK)
    if found.empty:
        _empty(ax, "one period only")
        return ""
    where = np.arange(len(found))
    ax.axhline(0, color="#9aa3ae", linewidth=0.8)
    ax.vlines(where, found["low"], found["high"], color=BLUE, linewidth=2, alpha=0.5)
    ax.plot(where, found["value"], "o", color=BLUE, markersize=5)
    ax.set_xticks(where, [str(name) for name in found["group"]], rotation=0 if len(found) < 4 else 30)
    ax.set_xlim(-0.6, len(found) - 0.4)
    ax.yaxis.set_major_locator(MaxNLocator(5))
    _points_axis(ax.yaxis)
    ax.set_ylabel("difference, points")
    ahead = int((found["value"] > 0).sum())
    return f"{challenger} is ahead in {ahead} of {len(found)} periods."


def _groups(ax: Axes, pair: pd.DataFrame, both: tuple[str, str], named: Mapping[str, str]) -> str:
    groups = pair[(pair["view"] == "group") & (pair["metric"] == "false_positive_rate")]
    by = next(iter(groups.loc[groups["value"].notna(), "by"]), None)
    ax.set_title("genuine customers bothered, by group", color=INK)
    if by is None:
        _empty(ax, "no groups to compare")
        return ""
    ax.set_title(f"genuine cases bothered, by {str(by).replace('_', ' ')}", color=INK)
    groups = groups[groups["by"] == by]
    names = list(dict.fromkeys(groups["group"].astype(str)))
    hidden = 0
    for number, model in enumerate(both):
        found = groups[groups["model"] == model].assign(group=lambda t: t["group"].astype(str)).set_index("group")
        found = found.reindex(names)
        where = np.arange(len(names)) + 0.2 * (number - 0.5)
        colour = LOOKS[number][0]
        ax.vlines(where, found["low"], found["high"], color=colour, linewidth=2, alpha=0.5)
        ax.plot(where, found["value"], MARKS[number], color=colour, markersize=4.5, label=named[model])
        hidden = int(found["value"].isna().sum())
    ax.set_xticks(np.arange(len(names)), names, rotation=0 if len(" ".join(names)) < 36 else 30)
    ax.set_xlim(-0.6, len(names) - 0.4)
    ax.set_ylim(0, 1.3 * float(groups[["value", "high"]].max(axis=None)))  # room for the legend
    percent_axis(ax.yaxis)
    for place in np.flatnonzero(found["value"].isna()):
        ax.annotate("–", (place, 0.03), xycoords=("data", "axes fraction"), color=MUTED, ha="center")
    ax.legend(loc="upper right", fontsize=7.5)
    rates = groups[groups["model"] == both[0]].dropna(subset=["value"])
    most, least = rates.loc[rates["value"].idxmax()], rates.loc[rates["value"].idxmin()]
    also = f" Groups too small to show: {hidden}." if hidden else ""
    return (
        f"{named[both[0]]} bothers {share(most['value'])} of the genuine cases of {by} {most['group']} and "
        f"{share(least['value'])} of {least['group']}.{also}"
    )


def _risks(ax: Axes, pair: pd.DataFrame, both: tuple[str, str], named: Mapping[str, str]) -> str:
    found = pair[pair["view"] == "calibration"]
    ax.set_title("stated risk against observed fraud", color=INK)
    if found.empty:
        _empty(ax, "no stated risks to compare")
        return ""
    wide = found.pivot(index=["model", "group"], columns="metric", values=["value", "low", "high"])
    top = float(min(1, 1.1 * np.nanmax(wide.to_numpy(dtype=float))))
    ax.plot([0, top], [0, top], color=PALE, linewidth=1)
    for number, model in enumerate(both):
        bins = wide.loc[model].sort_values(("value", "stated_risk")).astype(float)
        stated, seen = bins[("value", "stated_risk")], bins[("value", "observed_rate")]
        spread = [seen - bins[("low", "observed_rate")], bins[("high", "observed_rate")] - seen]
        ax.errorbar(
            stated,
            seen,
            yerr=np.clip(spread, 0, None),
            fmt=MARKS[number],
            color=LOOKS[number][0],
            markersize=4,
            elinewidth=1,
            label=named[model],
        )
    ticks = [tick for tick in (0, 0.01, 0.05, 0.2, 0.4, 0.6, 1) if tick <= top]
    for axis, scale in ((ax.xaxis, ax.set_xscale), (ax.yaxis, ax.set_yscale)):
        scale("function", functions=(lambda v: np.sqrt(np.clip(v, 0, None)), np.square))
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_minor_locator(NullLocator())
        percent_axis(axis)
    ax.set(xlim=(0, 1.04 * top), ylim=(0, 1.04 * top), xlabel="stated risk (square-root scale)", ylabel="observed")
    ax.legend(loc="upper left", fontsize=7.5)
    errors = pair[(pair["view"] == "overall") & (pair["metric"] == "calibration_error")].set_index("model")["value"]
    if errors.isna().all():
        return ""
    return "Calibration error: " + ", ".join(f"{named[model]} {errors[model]:.2f}" for model in both) + "."


def _empty(ax: Axes, text: str) -> None:
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color=MUTED)
    ax.set(xticks=[], yticks=[])
    ax.grid(False)


def _points_axis(axis: object) -> None:
    axis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{round(100 * value, 6):+.4g}".replace("-", "−") if value else "0")
    )


@drawn
def threshold_outcomes(table: pd.DataFrame) -> Picture:
    """Draw what each rule for the review threshold promised on validation and brought on the test part.

    Parameters
    ----------
    table : from `comparing.threshold_outcomes`: rule, used, period, metric, value, low, high.
    """
    require_columns(table, ["rule", "used", "period", "metric", "value", "low", "high"], where="threshold_outcomes")
    table = table.dropna(subset=["value"])
    metrics = [
        metric
        for metric in (
            "alerts_per_day",
            "bothered_per_day",
            "precision",
            "recall",
            "money_caught_share",
            "net_saved_per_day",
        )
        if metric in set(table["metric"])
    ]
    if not metrics:
        return sentence("No rule for the review threshold could be measured.")
    rules = [rule for rule in RULE_LABELS if rule in set(table["rule"])]
    used = next((rule for rule in rules if table.loc[table["rule"] == rule, "used"].astype(bool).any()), rules[0])
    net = table[(table["rule"] == used) & (table["metric"] == "net_saved_per_day")].set_index("period")["value"]
    title = f"The rule in use ({RULE_LABELS[used]})"
    if {"validation", "test"} <= set(net.index):
        title += f" was to save {_amount(net['validation'])} a day and saved {_amount(net['test'])}"
    columns = min(3, len(metrics))
    lines = -(-len(metrics) // columns)
    figure = picture(0.75 + lines * (0.7 + 0.3 * len(rules)), title)
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False).ravel()
    said = []
    for ax, metric in zip(panels, metrics):
        found = table[table["metric"] == metric].set_index(["rule", "period"])
        words = []
        for place, rule in enumerate(rules):
            colour = BLUE if rule == used else MUTED
            for period, shift in (("validation", 0.13), ("test", -0.13)):
                if (rule, period) not in found.index:
                    continue
                value, low, high = found.loc[(rule, period), ["value", "low", "high"]].astype(float)
                at = shift - place
                if period == "test":
                    ax.plot([low, high], [at, at], color=colour, linewidth=2, alpha=0.5, solid_capstyle="butt")
                face = colour if period == "test" else "white"
                ax.plot([value], [at], "o", color=colour, markerfacecolor=face, markersize=5)
                if rule == used:
                    words.append(f"{_outcome(metric, value)} {'promised' if period == 'validation' else 'on the test'}")
        ax.set_title(OUTCOME_LABELS[metric], color=INK)
        ax.set_ylim(-len(rules) + 0.5, 0.55)
        ax.set_yticks(
            [-place for place in range(len(rules))], [fit(RULE_LABELS[rule], 1.2) for rule in rules], color=INK
        )
        ax.xaxis.set_major_locator(MaxNLocator(4))
        (percent_axis if metric in _PER_CENT else number_axis)(ax.xaxis)
        ax.margins(x=0.12)
        if words:
            said.append(f"{OUTCOME_LABELS[metric]}: {', '.join(words)}")
    for ax in panels[len(metrics) :]:
        ax.set_visible(False)
    figure.supxlabel(
        "hollow: expected on validation; filled: the test part with its 95 % interval; blue: the rule in use",
        color=MUTED,
        fontsize=8,
    )
    figure.alt = f"{title}. " + "; ".join(said)
    return figure


def _amount(value: float) -> str:
    return f"{value:,.0f}".replace("-", "−")


def _outcome(metric: str, value: float) -> str:
    if metric in _PER_CENT:
        return share(value)
    return f"{value:,.1f}".replace("-", "−")
