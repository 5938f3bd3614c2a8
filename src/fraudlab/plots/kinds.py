"""Picture of what is found of each kind of fraud, and what stays out of reach."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fraudlab.plots.style import BLUE, INK, MUTED, PALE, Picture, drawn, fit, percent_axis, picture, sentence, share
from fraudlab.schema import require_columns


@drawn
def fraud_kinds(table: pd.DataFrame) -> Picture:
    """Draw per kind of fraud the share that is found, and the share that ranks above nearly all genuine payments.

    Parameters
    ----------
    table : kind, frauds, found_100 (share on cards among the 100 inspected that day), top_percent (share that scores
        above 99 % of the genuine payments); shares are missing where a kind has too few frauds to be shown.
    """
    require_columns(table, ["kind", "frauds", "found_100", "top_percent"], where="fraud_kinds")
    rows = table.dropna(subset=["frauds"]).iloc[::-1]
    if rows.empty:
        return sentence("There is no kind of fraud with ten or more frauds to show.")
    best, worst = rows.iloc[-1], rows.iloc[0]
    figure = picture(
        0.9 + 0.52 * len(rows),
        f"Of the frauds of the kind “{worst['kind']}” {share(worst['found_100'])} are on an inspected card, of “"
        f"{best['kind']}” {share(best['found_100'])}",
    )
    ax = figure.subplots()
    place = np.arange(len(rows))
    ax.barh(place + 0.2, rows["found_100"], height=0.36, color=BLUE, label="on a card among the 100 inspected that day")
    ax.barh(
        place - 0.2, rows["top_percent"], height=0.36, color=PALE, label="scores above 99 % of the genuine payments"
    )
    for at, found, top in zip(place, rows["found_100"], rows["top_percent"]):
        for offset, value, colour in ((0.2, found, INK), (-0.2, top, MUTED)):
            ax.text(value + 0.01, at + offset, share(value), va="center", fontsize=7.5, color=colour)
    named = [fit(f"{kind} ({int(count):,})", 2.1) for kind, count in zip(rows["kind"], rows["frauds"])]
    ax.set_yticks(place, named)
    ax.set_xlim(0, 1.12)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1])
    percent_axis(ax.xaxis)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel("share of the frauds of a kind (their number in brackets)")
    figure.legend(loc="outside lower left", ncols=2, labelcolor=INK)
    figure.alt = "Share of frauds on inspected cards per kind: " + "; ".join(
        f"{row.kind} {share(row.found_100)} of {int(row.frauds):,}" for row in rows.iloc[::-1].itertuples()
    )
    return figure
