"""Pictures of why a model scores as it does: importance, how values move the score, one alert as a sum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator

from fraudlab.metrics import SMALLEST_CELL
from fraudlab.plots.style import (
    BLUE,
    INK,
    LOOKS,
    MUTED,
    PALE,
    RED,
    Picture,
    called,
    drawn,
    fit,
    number_axis,
    picture,
    sentence,
    share,
    signed,
    value_text,
)
from fraudlab.schema import InputError, require_columns

LABEL_INCHES = 3.6
UNEXPLAINED = "What moves the score is not available for this kind of model."


@drawn
def importance(table: pd.DataFrame, labels: Mapping[str, str] | None = None, top: int = 12) -> Picture:
    """Draw how much each feature moves the score on average.

    Parameters
    ----------
    table : columns feature, mean_abs, share, meaning and, for whiskers, low, high; see `fraudlab.explain.importance`.
    labels : feature -> its short name, such as the column `label` of `FeatureSet.describe()`; else its meaning.
    top : how many features to draw.
    """
    require_columns(table, ["feature", "mean_abs", "share", "meaning"], where="importance")
    if table.empty:
        return sentence(UNEXPLAINED)
    ranked = table.sort_values("mean_abs", ascending=False).head(top).reset_index(drop=True)
    few = min(5, len(ranked))
    title = (
        f"The {few} strongest features make up {share(ranked['share'].head(few).sum())} of all movement of the score"
    )
    words = dict(zip(ranked["feature"], ranked["meaning"])) | dict(labels or {})
    names = [fit(called(feature, words), LABEL_INCHES) for feature in ranked["feature"]]
    lines = max(1 + name.count("\n") for name in names)
    figure = picture(0.95 + (0.11 + 0.135 * lines) * len(ranked), title)
    ax = figure.subplots()
    rows = np.arange(len(ranked))[::-1]
    ax.barh(rows, ranked["mean_abs"], color=BLUE, height=0.6)
    ends, label = ranked["mean_abs"], "mean absolute contribution to the score, log-odds"
    ranged = {"low", "high"}.issubset(ranked) and ranked["high"].notna().all()
    if ranged:
        ends, label = (
            ranked[["mean_abs", "high"]].max(axis=1),
            "mean absolute contribution, log-odds; lines: range over refits",
        )
        ax.hlines(rows, ranked["low"], ranked["high"], color=INK, linewidth=1.3)
        ax.plot(ranked["low"], rows, "|", color=INK, markersize=5)
        ax.plot(ranked["high"], rows, "|", color=INK, markersize=5)
    for row, value, part in zip(rows, ends, ranked["share"]):
        ax.annotate(share(part), (value, row), (5, 0), textcoords="offset points", va="center")
    ax.set_yticks(rows, names, color=INK)
    ax.set(xlim=(0, ends.max() * 1.14 or 1), xlabel=label)
    ax.grid(False, axis="y")
    figure.alt = f"{title}: " + "; ".join(
        f"{called(row.feature, words)} {share(row.share)}" for row in ranked.head(few).itertuples()
    )
    if ranged:
        figure.alt += ". Ranges over refits: " + "; ".join(
            f"{row.low:.2f} to {row.high:.2f}" for row in ranked.head(few).itertuples()
        )
    return figure


def dependence_bins(value: pd.Series, contribution: pd.Series, bins: int = 16) -> pd.DataFrame:
    """Summarise one feature's contributions over groups of similar values, never fewer than 10 payments each.

    Returns
    -------
    DataFrame value, middle, low, high, n: per group the median value, and the median and the 10th and 90th percentile
    of the contributions. Features with up to 12 different values get one group per value; missing values are left out.
    """
    both = pd.DataFrame({"value": np.asarray(value, float), "contribution": np.asarray(contribution, float)}).dropna()
    few = both["value"].nunique() <= 12
    group = both["value"] if few else pd.qcut(both["value"], bins, labels=False, duplicates="drop")
    grouped = both.groupby(group)
    table = pd.DataFrame(
        {
            "value": grouped["value"].median(),
            "middle": grouped["contribution"].median(),
            "low": grouped["contribution"].quantile(0.1),
            "high": grouped["contribution"].quantile(0.9),
            "n": grouped.size(),
        }
    )
    return table[table["n"] >= SMALLEST_CELL].reset_index(drop=True)


@drawn
def dependence(table: pd.DataFrame, labels: Mapping[str, str] | None = None) -> Picture:
    """Draw how the strongest features' values move the score: the median and the middle 80 % of contributions.

    Parameters
    ----------
    table : columns feature, value, contribution, a row per sampled payment; the first four features are drawn.
    labels : feature -> what people call it.
    """
    require_columns(table, ["feature", "value", "contribution"], where="dependence")
    if table.empty:
        return sentence(UNEXPLAINED)
    tables = {}
    for feature in list(dict.fromkeys(table["feature"]))[:4]:
        rows = table[table["feature"] == feature]
        if len(binned := dependence_bins(rows["value"], rows["contribution"])):
            tables[feature] = binned
    if not tables:
        return sentence("There are too few payments to draw how the features move the score.")
    rows, columns = (len(tables) + 1) // 2, min(2, len(tables))
    figure = picture(
        0.5 + 2.15 * rows,
        "How the strongest features move the score: above zero towards fraud, below it away",
        width=3.8 * columns,
    )
    panels = np.atleast_1d(figure.subplots(rows, columns, sharey=True, squeeze=False)).ravel()
    said = []
    for ax, (feature, binned) in zip(panels, tables.items()):
        ax.axhline(0, color="#9aa3ae", linewidth=0.8)
        x, middle = binned["value"].to_numpy(), binned["middle"].to_numpy()
        if len(binned) <= 12:
            ax.errorbar(
                x,
                middle,
                yerr=[middle - binned["low"], binned["high"] - middle],
                fmt="o",
                color=BLUE,
                markersize=4.5,
                elinewidth=1.2,
            )
        else:
            ax.fill_between(x, binned["low"], binned["high"], color=BLUE, alpha=0.16, linewidth=0)
            ax.plot(x, middle, color=BLUE, marker="o", markersize=3)
        _value_axis(ax, x)
        name = called(feature, labels)
        ax.set_title(fit(name, 3.1), color=INK)
        said.append(f"{name}: from {signed(middle[0])} at {x[0]:,.4g} to {signed(middle[-1])} at {x[-1]:,.4g}")
    for ax in panels[len(tables) :]:
        ax.set_visible(False)
    figure.supylabel("contribution to the score, log-odds", fontsize=8.5, color=MUTED)
    figure.alt = "Median contribution to the score over each feature's values. " + "; ".join(said)
    return figure


def _value_axis(ax: Axes, x: np.ndarray) -> None:
    """Spread the axis of a feature's values where a few are far larger than the others; whole numbers stay whole."""
    if x.min() >= 0 and x.max() > 30 * max(np.median(x), 1e-9):
        ax.set_xscale("symlog", linthresh=max(np.median(x[x > 0]), 1e-9))
        ax.xaxis.set_minor_locator(NullLocator())
    elif (x == np.round(x)).all():
        ax.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    number_axis(ax.xaxis)


@drawn
def pair_dependence(table: pd.DataFrame, labels: Mapping[str, str] | None = None) -> Picture:
    """Draw how one feature's values move the score, apart for low and high values of the feature it acts with.

    Parameters
    ----------
    table : columns feature, partner, level, value, contribution; see `fraudlab.explain.pair_dependence`.
    labels : feature -> what people call it.
    """
    require_columns(table, ["feature", "partner", "level", "value", "contribution"], where="pair_dependence")
    if table.empty:
        return sentence("No two features act together in this model, or its kind does not tell.")
    feature, partner = table["feature"].iloc[0], table["partner"].iloc[0]
    binned = {}
    for level in dict.fromkeys(table["level"]):
        rows = table[table["level"] == level]
        if len(found := dependence_bins(rows["value"], rows["contribution"], bins=10)) > 1:
            binned[level] = found
    if not binned:
        return sentence("There are too few payments to draw how the two features act together.")
    name, other = called(feature, labels), called(partner, labels)
    figure = picture(2.9, f"How “{name}” moves the score depends on “{other}”")
    ax = figure.subplots()
    ax.axhline(0, color="#9aa3ae", linewidth=0.8)
    said = []
    for (level, found), (colour, dash, width) in zip(binned.items(), LOOKS):
        x = found["value"].to_numpy()
        ax.fill_between(x, found["low"], found["high"], color=colour, alpha=0.13, linewidth=0)
        ax.plot(
            x, found["middle"], color=colour, linestyle=dash, linewidth=width, marker="o", markersize=3, label=level
        )
        middle = found["middle"].to_numpy()
        said.append(f"{level}: from {signed(middle[0])} at {x[0]:,.4g} to {signed(middle[-1])} at {x[-1]:,.4g}")
    _value_axis(ax, np.concatenate([found["value"].to_numpy() for found in binned.values()]))
    ax.set(xlabel=fit(name, 6.5), ylabel="contribution, log-odds")
    legend = figure.legend(
        loc="outside lower left", ncols=3, title=fit(other, 6.5), title_fontsize=8.5, alignment="left"
    )
    legend.get_title().set_color(INK)
    figure.alt = f"Median contribution of {name} over its values, by {other}. " + "; ".join(said)
    return figure


@drawn
def robustness(table: pd.DataFrame, labels: Mapping[str, str] | None = None) -> Picture:
    """Draw what the model loses when its inputs fail, with paired intervals, the worst failure first.

    Parameters
    ----------
    table : columns scenario, metric, change, change_low, change_high; see `fraudlab.explaining.robustness`. Drawn is
        the first metric that has changes.
    labels : metric -> what people call it.
    """
    require_columns(table, ["scenario", "metric", "change", "change_low", "change_high"], where="robustness")
    known = table.dropna(subset=["change"])
    if known.empty:
        return sentence("No failure of the inputs could be tried.")
    metric = known["metric"].iloc[0]
    rows = known[known["metric"] == metric].sort_values("change", ascending=False, kind="stable")
    worst, name = rows.iloc[-1], called(metric, labels)
    title = (
        f"{name[:1].upper()}{name[1:]} changes most {_when(worst['scenario'])}: by {_points(worst['change'])} points"
    )
    figure = picture(0.9 + 0.24 * len(rows), title)
    ax = figure.subplots()
    place = np.arange(len(rows))
    ax.axvline(0, color="#9aa3ae", linewidth=0.8)
    colour = [RED if high < 0 else BLUE for high in rows["change_high"].fillna(0)]
    ax.hlines(place, 100 * rows["change_low"], 100 * rows["change_high"], color=colour, linewidth=1.3)
    ax.scatter(100 * rows["change"], place, color=colour, s=20, zorder=3)
    ax.set_yticks(place, [fit(scenario, 2.8) for scenario in rows["scenario"]], color=INK)
    ax.set_xlabel("change in percentage points; lines: 95 % intervals")
    number_axis(ax.xaxis)
    ax.grid(False, axis="y")
    figure.alt = f"{title}. " + "; ".join(
        f"{row.scenario} {_points(row.change)}" for row in rows.iloc[::-1].head(5).itertuples()
    )
    return figure


def _when(scenario: str) -> str:
    return scenario if scenario.startswith("without ") else f"with {scenario}"


def _points(value: float) -> str:
    return format(round(100 * value, 1) + 0.0, "+.1f").replace("-", "−")


def _with_value(part: Mapping[str, Any], words: Mapping[str, str], kinds: Mapping[str, str]) -> str:
    name, kind = called(part["feature"], words), kinds.get(part["feature"], "")
    if kind == "identifier":  # whose value is never shown
        return name
    # The value brings its own unit: "days since ...: 5 minutes" would contradict itself.
    for unit, quantity, of_kind in (
        ("days since", "time since", "days"),
        ("days between", "time between", "days"),
        ("km/h from", "speed from", "speed"),
    ):
        if kind == of_kind and name.lower().startswith(unit):
            name = quantity + name[len(unit) :]
    return f"{name}: {value_text(part['value'], kind)}"


@drawn
def waterfall(
    alert: Mapping[str, Any],
    labels: Mapping[str, str] | None = None,
    kinds: Mapping[str, str] | None = None,
    *,
    top: int = 8,
) -> Picture:
    """Draw one alert's score as a sum: from the average payment through each feature's contribution to this one.

    Parameters
    ----------
    alert : case, base, margin and contributions, a list of mappings with feature, meaning, value, contribution; what
        they leave of margin - base is drawn as "all other features".
    labels : feature -> its short name; else its meaning.
    kinds : feature -> the kind of its values, which gives them a unit; see `FeatureSet.describe()`.
    top : how many of the contributions to draw; the others join "all other features".
    """
    missing = [key for key in ("case", "base", "margin", "contributions") if key not in alert]
    if missing:
        raise InputError(
            f"waterfall: an alert needs case, base, margin and contributions; missing: {', '.join(missing)}"
        )
    if not alert["contributions"]:
        return sentence(UNEXPLAINED)
    parts = sorted(alert["contributions"], key=lambda part: -abs(part["contribution"]))[:top]
    base, margin = float(alert["base"]), float(alert["margin"])
    steps = [float(part["contribution"]) for part in parts]
    words = {part["feature"]: part.get("meaning", "") for part in parts} | dict(labels or {})
    names = [fit(_with_value(part, words, kinds or {}), LABEL_INCHES) for part in parts]
    rest = margin - base - sum(steps)
    steps, names = [*steps, rest], [*names, "all other features"]
    title = f"Case {alert['case']}: from the average of {signed(base, '')} to {signed(margin, '')} log-odds"
    lines = max(1 + name.count("\n") for name in names)
    figure = picture(0.85 + (0.11 + 0.135 * lines) * len(names), title)
    ax = figure.subplots()
    starts = base + np.concatenate([[0], np.cumsum(steps)[:-1]])
    rows = np.arange(len(steps))[::-1]
    ax.barh(rows, steps, left=starts, color=[RED if step > 0 else BLUE for step in steps], height=0.62)
    for row, start, step in zip(rows, starts, steps):
        side = 1 if step >= 0 else -1
        ax.annotate(
            signed(step),
            (start + step, row),
            (4 * side, 0),
            textcoords="offset points",
            va="center",
            ha="left" if side > 0 else "right",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
        )
        ax.plot([start + step] * 2, [row - 1 if row else row - 0.31, row + 0.31], color=PALE, linewidth=0.8, zorder=0)
    ax.axvline(base, zorder=0, color="#9aa3ae", linewidth=0.8, linestyle=(0, (2, 2)))
    ax.axvline(margin, zorder=0, color=INK, linewidth=1)
    low, high = min(*starts, margin), max(*(starts + steps), margin, base)
    ax.set(xlim=(low - 0.1 * (high - low) - 0.05, high + 0.12 * (high - low) + 0.05), ylim=(-0.6, len(steps) - 0.4))
    ax.set_yticks(rows, names, color=INK)
    ax.grid(False, axis="y")
    number_axis(ax.xaxis)
    near = abs(margin - base) < 0.3 * (high - low)
    for place, text, side in (
        (base, "average payment", "right" if base < margin else "left"),
        (margin, "this payment", "left" if base < margin else "right"),
    ):
        where = {"xy": (place, 1.01), "xycoords": ("data", "axes fraction")}
        ax.annotate(text, **where, ha=side if near else "center", va="bottom", color=MUTED)
    ax.set_xlabel("score, log-odds")
    figure.alt = f"{title}. Largest contributions: " + "; ".join(
        f"{name} {signed(step)}".replace("\n", " ") for name, step in zip(names[:3], steps[:3])
    )
    return figure
