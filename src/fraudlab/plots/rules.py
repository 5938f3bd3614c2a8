"""Pictures of rules that people wrote: what each brings alone, what it adds to the model, how they overlap."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fraudlab.plots.comparison import points
from fraudlab.plots.style import (
    BLUE,
    INK,
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

_NO_RULES = "No rule that people wrote was measured in this run."
TOGETHER = "active rules together"
MODEL = "the model"
_DOTTED = (0, (1, 1))


@drawn
def rules_backtest(table: pd.DataFrame, titles: Mapping[str, str] | None = None) -> Picture:
    """Draw each rule alone beside what it adds to the model and what it would change within the model's budget.

    Parameters
    ----------
    table : from `ruling.backtest`: rule, status, view, metric, value, low, high, note.
    titles : rule -> what people call it. Where a value is missing but `low` and `high` are given, it lies between them.
    """
    require_columns(table, ["rule", "status", "view", "metric", "value", "low", "high", "note"], where="rules_backtest")
    rules = table[~table["rule"].isin(["model", "payments"])]
    names = sorted(dict.fromkeys(rules["rule"]), key=lambda name: _order(rules, name))
    if not names:
        return sentence(_NO_RULES)
    named = _named(titles)
    cells = table.set_index(["rule", "view", "metric"])
    figure = picture(1.5 + 0.44 * len(names), _title(cells, names))
    effort, caught, swap = figure.subplots(1, 3, sharey=True, width_ratios=[1, 1, 1])
    for place, name in enumerate(names):
        shadow = cells.loc[name]["status"].iloc[0] == "shadow"
        for ax, metric in ((effort, "alerts_per_day"), (caught, "recall")):
            _bar(ax, cells, (name, "alone", metric), 0.18 - place, PALE, shadow)
            _bar(ax, cells, (name, "beside", metric), -0.18 - place, BLUE, shadow)
        _change(swap, cells, (name, "within", "recall"), -place)
    labels = [f"{named.get(name, name)}{' (shadow)' if _order(rules, name)[0] else ''}" for name in names]
    effort.set_yticks([-place for place in range(len(names))], [fit(label, 1.75, 8) for label in labels], color=INK)
    effort.set_ylim(0.55 - len(names), 0.55)
    for ax, title, by in (
        (effort, "cases a day", number_axis),
        (caught, "share of the frauds caught", percent_axis),
        (swap, "frauds caught at the same budget", None),
    ):
        ax.set_title(fit(title, 1.75), color=INK)
        ax.grid(axis="y", visible=False)
        ax.xaxis.set_major_locator(MaxNLocator(4))
        if by is not None:
            ax.set_xlim(left=0)
            ax.margins(x=0.18)
            by(ax.xaxis)
    swap.axvline(0, color="#9aa3ae", linewidth=0.8)
    swap.xaxis.set_major_formatter(FuncFormatter(lambda value, _: points(value) if value else "0"))
    swap.set_xlabel("change in points, rule first")
    keys = [
        Patch(color=PALE, label="alone"),
        Patch(color=BLUE, label="added to the model's cases"),
        Patch(facecolor="white", edgecolor=MUTED, hatch="////", label="shadow: measured, not acted on"),
        Line2D([], [], color=INK, linewidth=1, label="95 % interval over customers"),
        Line2D([], [], color=INK, linewidth=1.6, linestyle=_DOTTED, label="1 to 9 frauds: it lies in between"),
    ]
    figure.legend(handles=keys, loc="outside lower left", ncols=3, labelcolor=INK, fontsize=7.5)
    said = []
    for name in names:
        alone, added = (_said(cells, (name, view, "recall")) for view in ("alone", "beside"))
        said.append(f"{named.get(name, name)} {alone} alone, {added} beside the model")
    figure.alt = f"{_title(cells, names)}. Share of the frauds caught, rule by rule: " + "; ".join(said) + "."
    return figure


def _named(titles: Mapping[str, str] | None) -> dict[str, str]:
    return {"together": TOGETHER, "model": MODEL} | dict(titles or {})


def _order(rules: pd.DataFrame, name: str) -> tuple[bool, bool, int]:
    """Sort active rules first, then what they bring together, then shadow ones."""
    mine = rules[rules["rule"] == name]
    return bool((mine["status"] == "shadow").any()), name == "together", int(mine.index[0])


def _title(cells: pd.DataFrame, names: list[str]) -> str:
    active = [name for name in names if cells.loc[name]["status"].iloc[0] != "shadow"]
    name = "together" if "together" in names else (active or names)[0]
    who = "The active rules" if name == "together" else "The rule"
    alone = _said(cells, (name, "alone", "recall"))
    if (name, "beside", "recall") not in cells.index:
        return f"{who} {'catch' if name == 'together' else 'catches'} {alone} of the frauds"
    catch, add = ("catch", "add") if name == "together" else ("catches", "adds")
    return (
        f"{who} {catch} {alone} of the frauds alone and {add} {_said(cells, (name, 'beside', 'recall'))} to the model"
    )


def _said(cells: pd.DataFrame, key: tuple[str, str, str]) -> str:
    if key not in cells.index:
        return "an unknown share"
    value, high = cells.loc[key, ["value", "high"]].astype(float)
    if np.isfinite(value):
        return share(value)
    return f"at most {share(high)}" if np.isfinite(high) else "too few to show"


def _bar(ax: Axes, cells: pd.DataFrame, key: tuple[str, str, str], at: float, colour: str, shadow: bool) -> None:
    if key not in cells.index:
        return
    value, low, high = cells.loc[key, ["value", "low", "high"]].astype(float)
    line = INK if colour == PALE else "#00456b"
    if np.isfinite(value):
        look = {"facecolor": "white", "edgecolor": colour, "hatch": "////"} if shadow else {"color": colour}
        ax.barh(at, value, height=0.3, linewidth=0.8, **look)
        if np.isfinite(high):
            ax.plot([low, high], [at, at], color=line, linewidth=1, solid_capstyle="butt")
    elif np.isfinite(high):
        ax.plot([low, high], [at, at], color=line, linewidth=1.6, linestyle=_DOTTED)
    else:
        why = "no figure" if str(cells.loc[key, "note"]).startswith("not applicable") else "few"
        ax.annotate(why, (0, at), xytext=(3, 0), textcoords="offset points", color=MUTED, fontsize=7, va="center")


def _change(ax: Axes, cells: pd.DataFrame, key: tuple[str, str, str], at: float) -> None:
    if key not in cells.index:
        return
    value, low, high = cells.loc[key, ["value", "low", "high"]].astype(float)
    if np.isfinite(high):
        ax.plot([low, high], [at, at], color=BLUE, linewidth=1.6, linestyle="-" if np.isfinite(value) else _DOTTED)
    if np.isfinite(value):
        ax.plot([value], [at], "o", color=BLUE, markersize=4.5)
    elif not np.isfinite(high):
        look = {"color": MUTED, "fontsize": 7, "va": "center", "ha": "right"}
        ax.annotate("few", (0, at), xytext=(-4, 0), textcoords="offset points", **look)


@drawn
def rules_overlap(table: pd.DataFrame, titles: Mapping[str, str] | None = None) -> Picture:
    """Draw, for every pair, which share of one rule's cases the other has as well; the model's first.

    Parameters
    ----------
    table : from `ruling.overlap`, as it was saved: first, second, cases, both, share; hidden ones missing.
    titles : rule -> what people call it.
    """
    require_columns(table, ["first", "second", "cases", "share"], where="rules_overlap")
    if table.empty:
        return sentence(_NO_RULES)
    names, named = list(dict.fromkeys(table["first"])), _named(titles)
    wide = table.pivot(index="first", columns="second", values="share").reindex(index=names, columns=names)
    cases = table.drop_duplicates("first").set_index("first")["cases"]
    known = wide.loc[[name for name in names if name != "model"]].get("model", pd.Series(dtype=float)).dropna()
    title = "How many of each rule's cases another one has as well"
    if len(known):
        title = (
            f"Of the cases of “{named.get(known.idxmax(), known.idxmax())}” the model has {share(known.max())} anyway"
        )
    figure = picture(1.1 + 0.42 * len(names), title)
    ax = figure.subplots()
    values = wide.to_numpy(dtype=float, copy=True)
    np.fill_diagonal(values, np.nan)
    shades = LinearSegmentedColormap.from_list("blues", ["white", "#cfe3f1", BLUE])
    ax.imshow(np.ma.masked_invalid(values), cmap=shades, vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(values.shape):
        value = values[row, column]
        if row == column:
            text = "–"
        else:
            text = share(value) if np.isfinite(value) else "none" if cases[names[row]] == 0 else "few"
        colour = "white" if np.isfinite(value) and value > 0.85 else INK if np.isfinite(value) else MUTED
        ax.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    counted = [f"{named.get(name, name)} ({_cases(cases[name])})   {at}" for at, name in enumerate(names, 1)]
    ax.set_yticks(range(len(names)), [fit(text, 2.9, 8) for text in counted], color=INK)
    ax.set_xticks(range(len(names)), [str(at) for at in range(1, len(names) + 1)], color=INK)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.set_xlabel("share of the row's cases that the column has too; brackets: cases", loc="left")
    if len(known):
        parts = "; ".join(f"{named.get(name, name)} {share(value)}" for name, value in known.items())
        figure.alt = f"{title}. Share of each rule's cases that the model has as well: {parts}."
    else:
        figure.alt = f"{title}. Too few cases in common with the model to be shown."
    return figure


def _cases(count: float) -> str:
    return "fewer than 10" if pd.isna(count) else f"{count:,.0f}"
