"""A picture of one case of fraud, for people who learn what it looks like; in the language of the words given."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter

from fraudlab.plots.style import BLUE, INK, MUTED, RED, Picture, drawn, number_axis, picture

# role: word, marker, colour, size
ROLES = {"own": ("own", "o", BLUE, 16), "bad": ("bad", "D", RED, 34), "failed": ("failed", "x", INK, 38)}


@drawn
def case_of_fraud(
    payments: pd.DataFrame,
    words: Mapping[str, str],
    *,
    title: str,
    unit: str = "days",
    shown: str = "amount",
    reported: float | None = None,
) -> Picture:
    """Draw a case's payments over time: genuine ones, frauds and failed authentications told apart by mark and colour.

    Parameters
    ----------
    payments : since (in `unit`, from the first fraud), value (amount or kilometres), role (own, bad, failed).
    words : own, bad, failed, report, x_days, x_hours, y_amount, y_km, comma, picture_alt (with {what}), picture_facts
        (with {title}, {counts}, {axis}, {low}, {high}): in any language.
    title : what the picture shows.
    unit, shown : which axis words are taken.
    reported : when the first report came, in `unit`; drawn as a line where the axis reaches so far.
    """
    figure = picture(2.7, title, width=7.2)
    axis = figure.subplots()
    figure.set_layout_engine("constrained", rect=(0, 0, 1, 1))
    counted = []
    for role, (word, marker, colour, size) in ROLES.items():
        rows = payments[payments["role"] == role]
        if len(rows):
            filled = {"linewidths": 1.5} if marker == "x" else {"edgecolors": "white", "linewidths": 0.5}
            axis.scatter(
                rows["since"], rows["value"], size, colour, marker=marker, label=words[word], zorder=3, **filled
            )
            counted.append(f"{words[word]} {len(rows)}")
    low, high = payments["since"].min(), payments["since"].max()
    if reported is not None and reported <= high:
        axis.axvline(reported, color=MUTED, linestyle=(0, (4, 3)), linewidth=1)
        axis.annotate(
            words["report"], (reported, 1), xycoords=("data", "axes fraction"), xytext=(4, -10),
            textcoords="offset points", color=MUTED,
        )  # fmt: skip
    axis.set_yscale("symlog", linthresh=10, linscale=0.6) if shown == "km" else axis.set_yscale("log")
    number_axis(axis.yaxis)
    axis.yaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    margin = 0.03 * max(high - low, 1e-9)
    axis.set_xlim(low - margin, high + margin)
    axis.set_xlabel(words[f"x_{unit}"])
    axis.set_ylabel(words[f"y_{shown}"])
    axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(ROLES), borderaxespad=0.2, handletextpad=0.2)
    spans = [f"{np.floor(low):.0f}", f"{np.ceil(high):.0f}"]
    figure.alt = words["picture_alt"].format(
        what=words["picture_facts"].format(
            title=title, counts=words["comma"].join(counted), axis=words[f"x_{unit}"], low=spans[0], high=spans[1]
        )
    )
    return figure
