"""A picture of how unusual payments are, frauds beside genuine ones."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd

from fraudlab.plots.style import LOOKS, PALE, Picture, drawn, percent_axis, picture, sentence, share
from fraudlab.schema import require_columns

SUBJECT_TOP = 0.01
REFERENCE_LOOK = 2  # grey: the others stand out from it


@drawn
def unusual(table: pd.DataFrame, labels: Mapping[str, str] | None = None) -> Picture:
    """Draw which share of each group is among the most unusual payments, from the rarest to all.

    Parameters
    ----------
    table : columns group, top, value, low, high; see `fraudlab.anomaly.tail_table`. Groups without values are left out.
    labels : group -> what people call it, in drawing order; the first one is what the others are held against.
    """
    require_columns(table, ["group", "top", "value", "low", "high"], where="unusual")
    table = table.dropna(subset=["value"])
    named = dict(labels or {name: name for name in dict.fromkeys(table["group"])})
    groups = [name for name in named if name in set(table["group"])]
    if len(groups) < 2:
        return sentence("Two groups of at least ten payments are needed to see which is more unusual.")
    others = [look for place, look in enumerate(LOOKS) if place != REFERENCE_LOOK]
    styles = dict(zip(groups, [LOOKS[REFERENCE_LOOK], *itertools.islice(itertools.cycle(others), len(groups))]))
    at = {name: _at(table, name) for name in groups}
    rarest = max(groups[1:], key=at.__getitem__)
    figure = picture(
        3.3,
        f"{share(at[rarest])} of {named[rarest]} are as unusual as the rarest 1 % of the payments learnt from, "
        f"{share(at[groups[0]])} of {named[groups[0]]}",
    )
    ax = figure.subplots()
    for name in groups:
        curve = table[table["group"] == name].sort_values("top")
        colour, dash, width = styles[name]
        ax.fill_between(curve["top"], curve["low"], curve["high"], color=colour, alpha=0.12, linewidth=0)
        ax.plot(curve["top"], curve["value"], color=colour, linestyle=dash, linewidth=width, label=named[name])
    ax.set_xscale("log")
    ax.set(
        xlim=(table["top"].min(), 1),
        ylim=(0, 1.02),
        xlabel="the most unusual share of the payments learnt from",
        ylabel="share of the group that is as unusual",
    )
    ax.axvline(SUBJECT_TOP, color=PALE, linewidth=1)
    percent_axis(ax.xaxis)
    percent_axis(ax.yaxis)
    ax.legend(loc="upper left", fontsize=8.5)
    figure.alt = "As unusual as the rarest 1 % of the payments learnt from: " + "; ".join(
        f"{named[name]} {share(at[name])}" for name in groups
    )
    return figure


def _at(table: pd.DataFrame, group: str) -> float:
    curve = table[table["group"] == group].sort_values("top")
    return float(np.interp(np.log(SUBJECT_TOP), np.log(curve["top"]), curve["value"]))
