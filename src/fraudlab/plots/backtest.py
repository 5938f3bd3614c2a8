"""Picture of a walk through history: precision over time, when champions changed, and what it saved."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from fraudlab.plots.style import (
    INK,
    LOOKS,
    MARKS,
    MUTED,
    PALE,
    RED,
    Picture,
    date_axis,
    days_of,
    drawn,
    fit,
    number_axis,
    percent_axis,
    picture,
    sentence,
    share,
)
from fraudlab.schema import require_columns


@drawn
def backtest(
    champions: pd.DataFrame,
    precision: pd.DataFrame,
    periods: pd.DataFrame,
    totals: pd.DataFrame,
    *,
    end: pd.Timestamp,
    by: str = "threshold",
    marks: Sequence[tuple[pd.Timestamp, str]] = (),
) -> Picture:
    """Draw what each policy of retraining found over time, when its champion changed, and what it saved more.

    Parameters
    ----------
    champions : policy, date, decision.
    precision : policy, against, period (its first day), value, low, high.
    periods : policy, by, period, difference; missing where it rests on few frauds.
    totals : policy, by, against, metric, block, value, low, high.
    end : when the walk ends.
    by : how the cases of the lowest panel were chosen, "threshold" or "budget".
    marks : moments to be named, such as the onset of a new kind of fraud.

    The band is the 95 % interval of the first policy and of the last. The bar at the end of a line of the lowest panel
    is the interval over customers of the whole difference.
    """
    require_columns(champions, ["policy", "date", "decision"], where="backtest")
    require_columns(precision, ["policy", "against", "period", "value", "low", "high"], where="backtest")
    require_columns(periods, ["policy", "by", "period", "difference"], where="backtest")
    names = list(dict.fromkeys(champions["policy"]))
    own = precision[(precision["against"] == "") & (precision["period"] != "all")]
    if own["value"].isna().all():
        return sentence("Fewer than 10 victims were found in every period, so none is drawn.")
    looks = {name: rank % len(LOOKS) for rank, name in enumerate(names)}
    whole = precision[(precision["against"] == "") & (precision["period"] == "all")].set_index("policy")["value"]
    best = whole.reindex(names).idxmax()
    title = f"Of the cases reviewed {share(whole[names[0]])} were victims with “{names[0]}”"
    title += f", {share(whole[best])} with “{best}”" if best != names[0] else ", no less than with any other policy"
    figure = picture(5.6 + 0.16 * len(names), title)
    upper, lanes, lower = figure.subplots(3, 1, sharex=True, height_ratios=[2.3, 0.35 + 0.24 * len(names), 2.1])
    close = days_of(pd.Series([end])).iloc[0]
    for name in reversed(names):
        _over_time(upper, own[own["policy"] == name], close, looks[name], name in (names[0], names[-1]), name)
    upper.set_title(fit("precision of the cases reviewed within the budget", 7), color=INK)
    upper.set_ylim(bottom=0)
    percent_axis(upper.yaxis)
    _lanes(lanes, champions, names, looks, close)
    spread = totals[(totals["metric"] == "net_saved_per_day") & (totals["by"] == by) & (totals["block"] == "entity")]
    days = (pd.Timestamp(end) - pd.to_datetime(champions["date"], utc=True).min()) / pd.Timedelta(days=1)
    for place, name in enumerate(names[1:]):
        mine = periods[(periods["policy"] == name) & (periods["by"] == by)]
        ends = spread[(spread["policy"] == name) & (spread["against"] != "")]
        _saved(lower, mine, close, looks[name], ends, days, place, len(names) - 1)
    lower.axhline(0, color=LOOKS[looks[names[0]]][0], linewidth=1.2)
    lower.set_title(fit(f"saved since the first day, net of costs, more than with “{names[0]}”", 7), color=INK)
    lower.yaxis.set_major_locator(MaxNLocator(5))
    number_axis(lower.yaxis)
    for moment, said in marks:
        at = days_of(pd.Series([moment])).iloc[0]
        for ax in (upper, lanes, lower):
            ax.axvline(at, color=RED, linewidth=0.9, linestyle=":", zorder=1)
        upper.annotate(said, (at, 1), xycoords=("data", "axes fraction"), xytext=(3, -2), textcoords="offset points",
                       va="top", color=RED, fontsize=7.5)  # fmt: skip
    date_axis(lower)
    handles, labels = upper.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside lower left", ncols=min(len(names), 5))
    figure.alt = _alt(champions, whole, spread, names)
    return figure


def _over_time(ax: Axes, mine: pd.DataFrame, close: pd.Timestamp, look: int, band: bool, name: str) -> None:
    start = days_of(mine["period"])
    x = [*start, close]
    colour, dash, width = LOOKS[look]

    def held(column: str) -> np.ndarray:
        values = mine[column].to_numpy(dtype=float)
        return np.append(values, values[-1])

    if band:
        ax.fill_between(x, held("low"), held("high"), step="post", color=colour, alpha=0.13, linewidth=0)
    ax.step(x, held("value"), where="post", color=colour, linestyle=dash, linewidth=width, label=name)


def _lanes(ax: Axes, champions: pd.DataFrame, names: list[str], looks: dict[str, int], close: pd.Timestamp) -> None:
    """Draw a lane per policy: a mark where a champion changed, a faint one where the champion was kept."""
    for place, name in enumerate(names):
        mine = champions[champions["policy"] == name]
        when, colour = days_of(mine["date"]), LOOKS[looks[name]][0]
        ax.plot([when.iloc[0], close], [place, place], color=PALE, linewidth=0.8, zorder=1)
        changed = mine["decision"].isin(["first", "promoted"]).to_numpy()
        kept = (mine["decision"] == "kept").to_numpy()
        ax.plot(when[kept], np.full(kept.sum(), place), ".", color=colour, markersize=2.2)
        ax.plot(when[changed], np.full(changed.sum(), place), MARKS[looks[name]], color=colour, markersize=4.6,
                linestyle="none")  # fmt: skip
        none = (mine["decision"] == "no model").to_numpy()
        ax.plot(when[none], np.full(none.sum(), place), "x", color=MUTED, markersize=4, linestyle="none")
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_yticks(range(len(names)), names)
    ax.grid(axis="y", visible=False)
    ax.set_title(fit("a new champion (large mark), or the old one kept (point)", 7), color=INK)


def _saved(
    ax: Axes, mine: pd.DataFrame, close: pd.Timestamp, look: int, ends: pd.DataFrame, days: float, place: int, of: int
) -> None:
    start = list(days_of(mine["period"]))
    until = [*start[1:], close]
    value = mine["difference"].to_numpy(dtype=float)
    told = np.isfinite(value)
    colour, dash, width = LOOKS[look]
    x = [start[0], *(moment for moment, there in zip(until, told) if there)]
    ax.plot(x, [0.0, *value[told]], color=colour, linestyle=dash, linewidth=width, drawstyle="default")
    if len(ends) and np.isfinite(ends["low"].iloc[0]):
        row = ends.iloc[0]
        at = close + pd.Timedelta(days=days * (0.012 + 0.02 * place / max(of, 1)))
        ax.plot([at, at], [row["low"] * days, row["high"] * days], color=colour, linewidth=1.6, solid_capstyle="butt")
        ax.plot([at], [row["value"] * days], MARKS[look], color=colour, markersize=4)


def _alt(champions: pd.DataFrame, whole: pd.Series, spread: pd.DataFrame, names: list[str]) -> str:
    told = []
    for name in names:
        changed = int((champions.loc[champions["policy"] == name, "decision"] == "promoted").sum())
        said = f"{name}: {share(whole[name])} of the reviewed cases victims, {changed} changes of champion"
        beside = spread[(spread["policy"] == name) & (spread["against"] != "")]
        if len(beside) and np.isfinite(beside["value"].iloc[0]):
            row = beside.iloc[0]
            said += f", {row['value']:+,.0f} saved a day against {row['against']}".replace("-", "−")
        told.append(said)
    return "Policies of retraining over time. " + "; ".join(told) + "."
