"""Pictures of drift: which feature moved in which week, which chart left its limits when, odd hours, precision."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from fraudlab.drift import CHANGED, GROUPS, LIMITS, STABLE
from fraudlab.plots.style import (
    BLUE,
    INK,
    MUTED,
    PALE,
    RED,
    Picture,
    called,
    date_axis,
    days_of,
    drawn,
    fit,
    percent_axis,
    picture,
    sentence,
    share,
)
from fraudlab.schema import require_columns

MOST_FEATURES = 14
_STEPS = (STABLE / 2, STABLE, CHANGED, 2 * CHANGED)
_WORDS = ("under 0.05", "to 0.10", "to 0.25: moved", "to 0.50: changed", "above")
_SHADES = ("#f3f6f9", "#cfe3f1", "#7fb8dc", "#2f8ac4", "#00456b")
_OFF = 4.0


@drawn
def drift_by_week(table: pd.DataFrame, labels: Mapping[str, str] | None = None) -> Picture:
    """Draw the stability index of the features that moved most, week by week, against training.

    Parameters
    ----------
    table : monitor_weeks: feature, start, psi, reading. A week too small to judge stays empty.
    labels : feature -> what people call it.
    """
    require_columns(table, ["feature", "start", "psi"], where="drift_by_week")
    if table.empty or table["psi"].isna().all():
        return sentence("No whole week has passed since the model learnt; drift by week comes with the first one.")
    wide = table.pivot(index="feature", columns="start", values="psi")
    worst = wide.max(axis=1).sort_values(ascending=False, kind="stable")
    wide = wide.loc[worst.index[:MOST_FEATURES]]
    values = wide.to_numpy(dtype=float)
    changed = [name for name in worst.index if worst[name] > CHANGED]
    title = "No feature has changed since training"
    if changed:
        several = f"{len(changed)} features have changed" if len(changed) > 1 else "One feature has changed"
        title = f"{several} since training, most of all {called(changed[0], labels)}"
    figure = picture(1.15 + 0.27 * len(wide), title)
    ax = figure.subplots()
    shades = ListedColormap(list(_SHADES))
    codes = np.where(np.isnan(values), np.nan, np.digitize(values, _STEPS))
    ax.imshow(
        np.ma.masked_invalid(codes), cmap=shades, norm=BoundaryNorm(np.arange(-0.5, 5.5), 5), aspect="auto", alpha=1
    )
    for row, column in np.ndindex(values.shape):
        if np.isfinite(values[row, column]) and values[row, column] >= STABLE:
            colour = "white" if codes[row, column] >= 3 else INK
            text = f"{values[row, column]:.2f}"
            ax.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    names = [fit(called(name, labels), 2.6, 7.5) for name in wide.index]
    ax.set_yticks(range(len(wide)), names, color=INK, fontsize=7.5)
    weeks = [f"{start:%d %b}" for start in days_of(pd.Series(wide.columns))]
    step = max(len(weeks) // 9, 1)
    ax.set_xticks(range(0, len(weeks), step), weeks[::step], color=MUTED)
    ax.set_xlabel("week beginning (UTC)", loc="left")
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    keys = [Patch(facecolor=shade, edgecolor=PALE, label=word) for shade, word in zip(_SHADES, _WORDS)]
    figure.legend(handles=keys, loc="outside lower left", ncols=5, labelcolor=INK, fontsize=7.5)
    said = "; ".join(f"{called(name, labels)} {worst[name]:.2f}" for name in worst.index[:5])
    figure.alt = f"{title}. Largest stability index of a week, feature by feature: {said}."
    return figure


@drawn
def drift_charts(signals: pd.DataFrame, alarms: pd.DataFrame) -> Picture:
    """Draw, for each group of charts, how far the farthest chart of each day lay from its limit, and the alarms.

    Parameters
    ----------
    signals : monitor_signals: day, group, signal, z, sum.
    alarms : monitor_alarms: day, group, signal.
    """
    require_columns(signals, ["day", "group", "z", "sum"], where="drift_charts")
    known = signals[signals["z"].notna()]
    if known.empty:
        return sentence("No day could be judged: charts need five weeks of payments before the first one.")
    limit = known["group"].map({group: pair[0] for group, pair in LIMITS.items()})
    lasting = known["group"].map({group: pair[1] for group, pair in LIMITS.items()})
    height = np.maximum(known["z"].abs() / limit, known["sum"] / lasting)
    top = height.groupby([known["group"], known["day"]]).max()
    groups = [group for group in GROUPS if group in set(known["group"])]
    title = "No chart has left its limits"
    if len(alarms):
        first = alarms.iloc[0]
        count = f"{len(alarms)} alarms" if len(alarms) > 1 else "One alarm"
        title = f"{count}; the first on {first['day']:%d %b %Y}: {GROUPS[first['group']].split(':')[0]}"
    figure = picture(0.75 + 0.62 * len(groups), title)
    axes = figure.subplots(len(groups), 1, sharex=True, squeeze=False)[:, 0]
    for ax, group in zip(axes, groups):
        series = top[group]
        days = days_of(pd.Series(series.index))
        ax.fill_between(days, 0, np.minimum(series.to_numpy(), 2.2), color=PALE, linewidth=0, step="mid")
        ax.axhline(1, color=RED, linewidth=1, linestyle=(0, (4, 2)))
        mine = alarms[alarms["group"] == group]
        if len(mine):
            ax.plot(days_of(mine["day"]), np.full(len(mine), 1.0), "v", color=RED, markersize=6, clip_on=False)
        ax.set_ylim(0, 2.2)
        ax.set_yticks([])
        ax.grid(False)
        ax.spines["left"].set_visible(False)
        ax.set_title(group, fontsize=8, color=INK, pad=2)
    date_axis(axes[-1])
    keys = [
        Patch(color=PALE, label="the chart of the group that lies farthest out"),
        Line2D([], [], color=RED, linewidth=1, linestyle=(0, (4, 2)), label="limit"),
        Line2D([], [], color=RED, marker="v", linestyle="", label="alarm"),
    ]
    figure.legend(handles=keys, loc="outside lower left", ncols=3, labelcolor=INK, fontsize=7.5)
    said = "; ".join(f"{row.day:%Y-%m-%d} {row.group}: {row.signal}" for row in alarms.head(5).itertuples())
    figure.alt = f"{title}. {said}." if said else f"{title}, in {len(groups)} groups of charts."
    return figure


@drawn
def odd_hours(table: pd.DataFrame) -> Picture:
    """Draw the number and the amounts of payments of each hour of the last days against the same weekdays.

    Parameters
    ----------
    table : monitor_hours: day, hour, z, amount_z; hours with few payments are hidden and stay empty.
    """
    require_columns(table, ["day", "hour", "z", "amount_z"], where="odd_hours")
    if table.empty or table["z"].isna().all():
        return sentence("Hours cannot be judged yet: three usual days of each weekday are needed before them.")
    flagged = table[(table["z"].abs() > _OFF) | (table["amount_z"].abs() > _OFF)]
    title = "No hour of the last week was unusual"
    if len(flagged):
        first = flagged.iloc[0]
        count = f"{len(flagged)} hours were" if len(flagged) > 1 else "One hour was"
        title = f"{count} unusual in the last week, the first on {first['day']:%d %b} at {int(first['hour']):02d} h UTC"
    figure = picture(2.3, title)
    axes = figure.subplots(1, 2, sharey=True)
    days = sorted(table["day"].unique())
    shown = None
    for ax, column, name in ((axes[0], "z", "number of payments"), (axes[1], "amount_z", "amounts")):
        wide = table.pivot(index="day", columns="hour", values=column).reindex(days)
        shown = ax.imshow(
            np.ma.masked_invalid(wide.to_numpy(dtype=float)), cmap="PuOr_r", vmin=-6, vmax=6, aspect="auto"
        )
        for row, column_ in np.argwhere(np.abs(np.nan_to_num(wide.to_numpy(dtype=float))) > _OFF):
            ax.plot(column_, row, "o", markersize=5, markerfacecolor="none", markeredgecolor=INK, markeredgewidth=0.9)
        ax.set_title(name, color=INK)
        ax.set_xticks([0, 6, 12, 18, 23], ["0", "6", "12", "18", "23 h"])
        ax.grid(False)
        ax.tick_params(length=0)
    axes[0].set_yticks(range(len(days)), [f"{day:%a %d %b}" for day in days_of(pd.Series(days))], color=INK)
    bar = figure.colorbar(shown, ax=list(axes), shrink=0.8, ticks=[-6, -4, 0, 4, 6])
    bar.set_ticklabels(["−6: fewer, smaller", "−4", "0: as usual", "4", "6: more, larger"], fontsize=7)
    bar.outline.set_visible(False)
    figure.alt = f"{title}. Circles mark hours more than 4 standard deviations from the same weekdays before."
    return figure


@drawn
def precision_weeks(weeks: pd.DataFrame, chart: pd.DataFrame) -> Picture:
    """Draw what the alerts of each week were worth: estimated before labels, found since, with control limits.

    Parameters
    ----------
    weeks : monitor_performance: week, precision_expected, precision_corrected, precision, low, high, mature.
    chart : monitor_precision: week, expected, low, high of the mature weeks; limits may be missing.
    """
    named = ["week", "precision_expected", "precision_corrected", "precision", "low", "high", "mature"]
    require_columns(weeks, named, where="precision_weeks")
    if weeks.empty or weeks[["precision_expected", "precision"]].isna().all(axis=None):
        return sentence("No week's alerts can be judged yet, neither by stated risks nor by labels.")
    mature = weeks[weeks["mature"].astype(bool) & weeks["precision"].notna()]
    title = "No week is mature yet: only the estimate is known"
    if len(mature):
        last = mature.iloc[-1]
        title = f"{share(float(last['precision']))} of the alerts of the newest mature week were frauds"
    figure = picture(2.7, title)
    ax = figure.subplots()
    day = days_of(weeks["week"])
    limits = chart[chart["low"].notna()] if len(chart) else chart
    keys: list[Line2D | Patch] = []
    if len(limits):
        _limits(ax, limits)
        keys.append(Patch(color="#eef1f4", label="control limits"))
    for column, label, colour, look in (
        ("precision_expected", "stated by the risks", MUTED, (0, (1.2, 1.4))),
        ("precision_corrected", "corrected by mature weeks", BLUE, (0, (5, 2))),
    ):
        if weeks[column].notna().any():
            ax.plot(day, weeks[column].to_numpy(dtype=float), color=colour, linestyle=look, linewidth=1.6)
            keys.append(Line2D([], [], color=colour, linestyle=look, label=label))
    known = weeks[weeks["precision"].notna()]
    for row in known.itertuples():
        at = days_of(pd.Series([row.week])).iloc[0]
        ax.plot([at, at], [row.low, row.high], color=INK, linewidth=0.9)
        fill = INK if row.mature else "white"
        ax.plot([at], [row.precision], "o", color=INK, markerfacecolor=fill, markersize=5)
    keys += [
        Line2D([], [], color=INK, marker="o", linestyle="", label="found, mature"),
        Line2D([], [], color=INK, marker="o", markerfacecolor="white", linestyle="", label="found, not mature"),
    ]
    ax.set_ylim(0, 1)
    percent_axis(ax.yaxis)
    date_axis(ax)
    ax.set_ylabel("alerts that are frauds")
    figure.legend(handles=keys, loc="outside lower left", ncols=3, labelcolor=INK, fontsize=7.5)
    parts = [f"{row.week:%Y-%m-%d} {share(float(row.precision))}" for row in known.itertuples()]
    figure.alt = f"{title}. Found so far by week: {'; '.join(parts) or 'nothing yet'}."
    return figure


def _limits(ax: Axes, limits: pd.DataFrame) -> None:
    day = days_of(limits["week"])
    if len(limits) == 1:
        day = pd.concat([day - pd.Timedelta(days=2), day + pd.Timedelta(days=2)])
        limits = pd.concat([limits, limits])
    ax.fill_between(
        day, limits["low"].to_numpy(dtype=float), limits["high"].to_numpy(dtype=float), color="#eef1f4", linewidth=0
    )
    ax.plot(day, limits["expected"].to_numpy(dtype=float), color=PALE, linewidth=1)


@drawn
def score_movers(table: pd.DataFrame, labels: Mapping[str, str] | None = None, most: int = 8) -> Picture:
    """Draw which features moved the mean log-odds, with intervals.

    Parameters
    ----------
    table : monitor_contributions: feature, difference, low, high; the row "all" is the whole change.
    labels : feature -> what people call it.
    """
    require_columns(table, ["feature", "difference", "low", "high"], where="score_movers")
    whole = table[table["feature"] == "all"]
    parts = table[table["feature"] != "all"].head(most)
    if whole.empty or parts.empty:
        return sentence("What moved the score cannot be told: the model explains nothing, or is at work for a week.")
    change = float(whole["difference"].iloc[0])
    sure = not float(whole["low"].iloc[0]) <= 0 <= float(whole["high"].iloc[0])
    way = "risen" if change > 0 else "fallen"
    title = f"The mean score has {way}, most of all by {called(parts['feature'].iloc[0], labels)}"
    if not sure:
        title = "The mean score has not moved beyond chance"
    rows = pd.concat([whole, parts])
    figure = picture(0.9 + 0.29 * len(rows), title)
    ax = figure.subplots()
    at = -np.arange(len(rows), dtype=float)
    colours = [INK, *[BLUE if value > 0 else MUTED for value in parts["difference"]]]
    for place, row, colour in zip(at, rows.itertuples(), colours):
        ax.plot([row.low, row.high], [place, place], color=colour, linewidth=1.2)
        ax.plot([row.difference], [place], "o", color=colour, markersize=4.5)
    ax.axvline(0, color="#9aa3ae", linewidth=0.8)
    names = ["all features together", *[called(name, labels) for name in parts["feature"]]]
    ax.set_yticks(at, [fit(name, 2.8, 7.5) for name in names], color=INK, fontsize=7.5)
    ax.set_xlabel("change of the mean log-odds, last week less the four weeks before", loc="left")
    ax.grid(axis="y", visible=False)
    said = "; ".join(f"{called(row.feature, labels)} {row.difference:+.3f}" for row in parts.head(5).itertuples())
    figure.alt = f"{title}. Change of the mean log-odds {change:+.3f}: {said}.".replace("-", "−")
    return figure
