"""A picture of one emerging pattern: its payments among all others, over time."""

from __future__ import annotations

from typing import Any

import pandas as pd

from fraudlab.plots.casework import log_axis
from fraudlab.plots.style import (
    BLUE,
    INK,
    MUTED,
    PALE,
    RED,
    Picture,
    date_axis,
    days_of,
    drawn,
    picture,
    sentence,
)
from fraudlab.schema import require_columns

_LEAST_AMOUNT = 0.01  # what a logarithmic axis shows in place of nothing


@drawn
def pattern(payments: pd.DataFrame, others: pd.DataFrame, *, shared: str, facts: dict[str, Any]) -> Picture:
    """Draw the payments of a pattern by time and amount, with others around them.

    Parameters
    ----------
    payments : of the pattern: event_time, amount, alerted (bool: the model alerted it).
    others : event_time, amount, same (bool: they share the pattern's value, and are usual); the rest is a sample.
    shared : what the payments share, in words, such as "on the same device"; never its value.
    facts : observed (customers with an unusual payment at the value), of (customers there), expected (by chance).
    """
    require_columns(payments, ["event_time", "amount", "alerted"], where="pattern")
    require_columns(others, ["event_time", "amount", "same"], where="pattern")
    if payments.empty:
        return sentence("There is no payment of this pattern to draw.")
    expected = facts["expected"]
    title = (
        f"{facts['observed']:,} of {facts['of']:,} customers paid unusually {shared}; by chance it would be "
        f"{f'{expected:,.1f}' if expected >= 0.05 else 'none'}"
    )
    figure = picture(3.0, title)
    ax = figure.subplots()
    same, alerted = others["same"].to_numpy(dtype=bool), payments["alerted"].to_numpy(dtype=bool)
    looks: tuple[tuple[pd.DataFrame, str, dict[str, Any]], ...] = (
        (others[~same], "other payments (a sample)", {"s": 7, "color": PALE, "linewidths": 0, "zorder": 2}),
        (
            others[same],
            f"{shared}, not unusual",
            {"s": 22, "facecolors": "none", "edgecolors": BLUE, "linewidths": 1.0, "zorder": 3},
        ),
        (
            payments[~alerted],
            "of the pattern",
            {"s": 44, "color": RED, "marker": "D", "edgecolors": "white", "linewidths": 0.8, "zorder": 4},
        ),
        (
            payments[alerted],
            "of the pattern, alerted by the model",
            {"s": 50, "color": RED, "marker": "s", "edgecolors": INK, "linewidths": 1.2, "zorder": 5},
        ),
    )
    for rows, label, look in looks:
        if len(rows):
            ax.scatter(days_of(rows["event_time"]), rows["amount"].clip(lower=_LEAST_AMOUNT), label=label, **look)
    ax.set_title("Amount", color=MUTED)
    log_axis(ax)
    ax.margins(x=0.02)
    date_axis(ax)
    figure.legend(loc="outside lower left", ncols=2, labelcolor=INK)
    first, last = payments["event_time"].min(), payments["event_time"].max()
    figure.alt = (
        f"{title}. {len(payments):,} payments from {first:%d %B %Y} to {last:%d %B %Y}, amounts from "
        f"{payments['amount'].min():,.2f} to {payments['amount'].max():,.2f}, {int(alerted.sum()):,} alerted"
    )
    return figure
