"""Pictures for an investigator's sheet: one customer's payments over time, and where they were."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from fraudlab.plots.style import (
    BLUE,
    INK,
    MUTED,
    PURPLE,
    RED,
    Picture,
    date_axis,
    days_of,
    drawn,
    number_axis,
    picture,
    sentence,
)
from fraudlab.schema import require_columns

_FEW_KM, _LEAST_AMOUNT = 1.0, 0.01  # what a logarithmic axis shows in place of nothing


@drawn
def payment_history(payments: pd.DataFrame) -> Picture:
    """Draw one customer's payments: amounts over time, those of the case and known frauds marked; below, the distances.

    Parameters
    ----------
    payments : event_time, amount, case (bool: of the case under review), fraud (bool: known as fraud by then); with
        place_km (km from the previous payment's place) a second panel shows it, where any is known.

    Amounts and distances stand on logarithmic axes: what is usual stays readable beside what is not.
    """
    require_columns(payments, ["event_time", "amount", "case", "fraud"], where="payment_history")
    if not len(payments) or not payments["case"].any():
        return sentence("There is no payment of this case to draw.")
    rows = payments.assign(day=days_of(payments["event_time"])).sort_values("day", kind="stable")
    case, fraud = rows["case"].to_numpy(dtype=bool), rows["fraud"].to_numpy(dtype=bool)
    placed = "place_km" in rows and rows["place_km"].notna().any()
    top = rows.loc[case, "amount"].max()
    others = rows.loc[~case, "amount"]
    title = _title(top, others)
    figure = picture(3.6 if placed else 2.5, title)
    axes = figure.subplots(2 if placed else 1, 1, sharex=True, squeeze=False, height_ratios=(3, 2) if placed else None)
    upper = axes[0, 0]
    _marks(upper, rows, rows["amount"].clip(lower=_LEAST_AMOUNT), legend=True)
    if len(others):
        upper.axhline(others.median(), color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        upper.annotate(
            "median",
            (1.005, others.median()),
            xycoords=("axes fraction", "data"),
            color=MUTED,
            va="center",
            annotation_clip=False,
        )
    upper.set_title("Amount", color=MUTED)
    log_axis(upper)
    if placed:
        lower = axes[1, 0]
        _marks(lower, rows, rows["place_km"].clip(lower=_FEW_KM), legend=False)
        lower.set_title("Kilometres from the place of the payment before", color=MUTED)
        log_axis(lower)
    axes[-1, 0].margins(x=0.03)
    date_axis(axes[-1, 0])
    figure.legend(loc="outside lower left", ncols=3, labelcolor=INK)
    figure.alt = (
        f"{title}. {len(rows):,} payments from {rows['day'].iloc[0]:%d %B %Y} to {rows['day'].iloc[-1]:%d %B %Y}, "
    )
    figure.alt += f"{int(case.sum())} of this case, {int(fraud.sum())} known as fraud by then"
    if placed and rows.loc[case, "place_km"].notna().any():
        figure.alt += f"; farthest from the payment before: {rows.loc[case, 'place_km'].max():,.0f} km"
    return figure


def _title(top: float, others: pd.Series) -> str:
    if others.empty:
        return "There is no earlier payment to compare with"
    above = int((others >= top).sum())
    if not above:
        return f"The case's largest amount, {top:,.2f}, exceeds all {len(others):,} other payments of these 90 days"
    return (
        f"The case's largest amount is {top:,.2f}; {above:,} of {len(others):,} other payments in 90 days were as large"
    )


def _marks(ax: Axes, rows: pd.DataFrame, values: pd.Series, *, legend: bool) -> None:
    case, known = rows["case"].to_numpy(dtype=bool), values.notna().to_numpy()
    looks = (
        (known & ~case, "other payments", {"s": 16, "color": BLUE, "alpha": 0.65, "linewidths": 0, "zorder": 2}),
        (
            known & case,
            "payments of this case",
            {"s": 54, "color": RED, "marker": "D", "edgecolors": "white", "zorder": 4},
        ),
        (
            known & rows["fraud"].to_numpy(dtype=bool),
            "known as fraud",
            {"s": 60, "color": PURPLE, "marker": "x", "linewidths": 1.8, "zorder": 5},
        ),
    )
    for shown, label, look in looks:
        if shown.any():
            ax.scatter(rows["day"][shown], values[shown], label=label if legend else None, **look)


def log_axis(ax: Axes) -> None:
    """Give an axis of amounts or distances a logarithmic scale with plain numbers."""
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    ax.set_ylim(low / 1.3, high * 1.3)
    if high / low < 30:
        ax.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
    number_axis(ax.yaxis)
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
