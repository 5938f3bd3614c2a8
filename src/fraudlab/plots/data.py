"""Pictures of the transactions: how many, when labels come, how the period is split, what frauds look like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import FixedLocator, MaxNLocator, MultipleLocator

from fraudlab.metrics import SMALLEST_CELL
from fraudlab.plots.style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    PURPLE,
    RED,
    WIDTH,
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

LABELLED = 0.95
"""A week's rate of fraud is shown when at least this share of its payments has a known label."""


@drawn
def daily_volume(daily: pd.DataFrame) -> Picture:
    """Draw payments per day and, per week whose labels are known, how many of 1,000 are fraud.

    Parameters
    ----------
    daily : columns day, transactions, frauds, labelled; a row per day. Frauds may stand on the first day of each week
        from the first day on, for all of it, and be missing otherwise.

    Frauds are labelled sooner than genuine payments, so a rate over the labels known so far would be too high: weeks in
    which fewer than 95 % of the payments have a label are left out, and weeks with 1 to 9 frauds. The picture counts
    both.
    """
    require_columns(daily, ["day", "transactions", "frauds", "labelled"], where="daily_volume")
    if daily["transactions"].sum() == 0:
        return sentence("There are no transactions to draw.")
    daily = daily.assign(day=days_of(daily["day"])).sort_values("day")
    week = (daily["day"] - daily["day"].iloc[0]).dt.days // 7
    weeks = daily.groupby(week).agg(
        day=("day", "first"),
        transactions=("transactions", "sum"),
        frauds=("frauds", lambda days: days.sum(min_count=1)),
        labelled=("labelled", "sum"),
    )
    weeks = weeks[weeks["transactions"] > 0]
    known = weeks["labelled"] >= LABELLED * weeks["transactions"]
    hidden = weeks["frauds"].isna()
    few = known & (hidden | weeks["frauds"].between(1, SMALLEST_CELL - 1))
    shown = weeks[known & ~few]
    rate = "too few labels are known for a rate of fraud"
    counted = known & ~hidden
    if counted.any():
        rate = f"{share(weeks['frauds'][counted].sum() / weeks['labelled'][counted].sum())} of them are fraud"
        if not known.all():
            rate += " where labels are known"
    title = f"{daily['transactions'].mean():,.0f} payments a day on average; {rate}"
    figure = picture(3.9, title)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    top.plot(daily["day"], daily["transactions"], color=BLUE, linewidth=1.1)
    top.fill_between(daily["day"], daily["labelled"], color=BLUE, alpha=0.13, linewidth=0)
    top.set_ylim(0, daily["transactions"].max() * 1.18)
    top.set_title("Payments per day (line), of which the label is known (area)", color=MUTED)
    number_axis(top.yaxis)
    per_mille = 1000 * shown["frauds"] / shown["labelled"]
    bottom.bar(shown["day"], per_mille, width=6.2, align="edge", color=RED)
    lacking = [
        f"{count} {'week' if count == 1 else 'weeks'} {why}"
        for count, why in ((int((~known).sum()), "for want of labels"), (int(few.sum()), "with 1 to 9 frauds"))
        if count
    ]
    note = f"; left out: {', '.join(lacking)}" if lacking else ""
    small = f"Frauds per 1,000 payments, by week with a label for at least 95 % of them{note}"
    bottom.set_title(fit(small, WIDTH - 0.7), color=MUTED)
    bottom.yaxis.set_major_locator(MaxNLocator(4))
    date_axis(bottom)
    span = f"{daily['day'].iloc[0]:%Y-%m-%d} to {daily['day'].iloc[-1]:%Y-%m-%d}"
    weekly = (
        f" Weekly frauds per 1,000 range from {per_mille.min():.1f} to {per_mille.max():.1f}{note}."
        if len(shown)
        else ""
    )
    figure.alt = f"Payments per day, {span}: {title}.{weekly}"
    return figure


@drawn
def label_maturity(maturity: pd.DataFrame, delay_days: int | None = None) -> Picture:
    """Draw how many days after a payment frauds are reported, and how many all labels take.

    Parameters
    ----------
    maturity : columns days_since_event, share_known and, where frauds are known, share_frauds_known; see
        `fraudlab.datasets.label_maturity`.
    delay_days : the waiting time the split uses; marked when given.
    """
    require_columns(maturity, ["days_since_event", "share_known"], where="label_maturity")
    maturity = maturity.sort_values("days_since_event")
    curves = {
        name: maturity.loc[maturity[column].notna(), ["days_since_event", column]].to_numpy(dtype=float).T
        for name, column in (("frauds", "share_frauds_known"), ("labels", "share_known"))
        if column in maturity and maturity[column].notna().any()
    }
    if not curves:
        return sentence("No label is known yet, so its delay cannot be drawn.")
    last = max(days[-1] for days, _ in curves.values())
    at = last if delay_days is None else float(delay_days)
    end = max(last, 1.4 * at)
    subject = next(iter(curves))
    title = _how_soon(subject, *curves[subject], at, waited=delay_days is not None)
    figure = picture(2.7, title)
    ax = figure.subplots()
    loud = {"color": RED if subject == "frauds" else BLUE, "linewidth": 2.4}
    quiet = {"color": MUTED, "linewidth": 1.2, "linestyle": (0, (4, 2))}
    for name, (days, shares) in curves.items():
        text = "frauds reported" if name == "frauds" else "all labels known"
        # Beyond the longest delay seen nothing more comes.
        ax.step([*days, end], [*shares, shares[-1]], where="post", label=text, **(loud if name == subject else quiet))
    ax.set(ylim=(0, 1.04), xlim=(0, end or 1), xlabel="days since the payment", ylabel="known by then")
    late = at > 0.6 * end
    if delay_days is not None:
        ax.axvline(at, color=INK, linewidth=1, linestyle=(0, (2, 2)))
        ax.annotate(
            "waiting time of the split",
            (at, 0.06),
            (-6 if late else 6, 0),
            textcoords="offset points",
            color=INK,
            ha="right" if late else "left",
        )
    if len(curves) > 1:
        ax.legend(loc="upper left" if late else "center right", fontsize=8.5)
    percent_axis(ax.yaxis)
    ax.xaxis.set_major_locator(MultipleLocator(7 * np.ceil(end / 70)) if end > 14 else MaxNLocator(8, integer=True))
    figure.alt = f"{title}."
    if subject == "frauds" and "labels" in curves:
        reached = share(_reached(*curves["labels"], at))
        figure.alt += f" Of all labels, those of genuine payments included, {reached} are known within {_days(at)}."
    return figure


@drawn
def maturity_by_source(table: pd.DataFrame, labels: Mapping[str, str]) -> Picture:
    """Draw for each source of labels how many are known so many days after the payment, with 95 % bands.

    Parameters
    ----------
    table : source, days, share, low, high, n; see `fraudlab.datasets.maturity.maturity_by_source`.
    labels : source -> what its curve counts, in the order of the legend.
    """
    require_columns(table, ["source", "days", "share", "low", "high", "n"], where="maturity_by_source")
    there = [name for name in labels if (table["source"] == name).any()]
    if not there:
        return sentence("No fraud is reported and no case is listed yet, so no delay can be drawn.")
    colours = dict(zip(labels, (RED, PURPLE, BLUE, GREEN)))
    dashes = dict(zip(labels, ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1, 1.5)))))
    first = table[table["source"] == there[0]]
    figure = picture(3.1, _half_known(labels[there[0]], first))
    ax = figure.subplots()
    told = []
    for name in there:
        rows = table[table["source"] == name].sort_values("days")
        days, share_known = rows["days"].to_numpy(dtype=float), rows["share"].to_numpy(dtype=float)
        look = {"color": colours[name], "linestyle": dashes[name]}
        label = f"{labels[name]} ({rows['n'].iloc[0]:,.0f})"
        ax.step(days, share_known, where="post", linewidth=2, label=label, **look)
        ax.fill_between(
            days, rows["low"].astype(float), rows["high"].astype(float), step="post", color=colours[name], alpha=0.13,
            linewidth=0,
        )  # fmt: skip
        told.append(_half_known(labels[name], rows))
    ax.set(ylim=(0, 1.04), xlabel="days since the payment", ylabel="known by then")
    ax.set_xlim(0, max(float(table["days"].max()), 1))
    percent_axis(ax.yaxis)
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    figure.legend(loc="outside lower left", ncols=2, fontsize=8.5)
    figure.alt = "; ".join(told) + ". Bands are 95 % intervals."
    return figure


def _half_known(what: str, rows: pd.DataFrame) -> str:
    """Say when half of one source's labels are known, or how many are at the end."""
    days, known = rows["days"].to_numpy(dtype=float), rows["share"].to_numpy(dtype=float)
    what = what[:1].upper() + what[1:]
    if known.max() < 0.5:
        return f"{what}: {share(float(known.max()))} within {_days(days[-1])}"
    return f"{what}: half within {_days(days[np.argmax(known >= 0.5)])}"


def _days(count: float) -> str:
    return f"{count:,.0f} {'day' if count == 1 else 'days'}"


def _reached(days: np.ndarray, shares: np.ndarray, at: float) -> float:
    return float(shares[days <= at][-1]) if (days <= at).any() else 0.0


def _how_soon(subject: str, days: np.ndarray, shares: np.ndarray, at: float, waited: bool) -> str:
    """Say when half of the frauds or labels are known, and how many within the time waited."""
    verb = "reported" if subject == "frauds" else "known"
    if shares[-1] == 1 and set(shares) <= {0, 1}:
        said = f"All {subject} are {verb} {_days(days[np.argmax(shares)])} after the payment"
        return f"{said}; the split waits {_days(at)}" if waited else said
    within = f"within the {_days(at)} the split waits" if waited else f"within {_days(at)}"
    reached = share(_reached(days, shares, at))
    if shares.max() < 0.5:
        return f"{reached} of the {subject} are {verb} {within}"
    return f"Half of the {subject} are {verb} within {_days(days[np.argmax(shares >= 0.5)])}; {reached} {within}"


@drawn
def timeline(parts: pd.DataFrame) -> Picture:
    """Draw the fold's parts as bars on a time axis; the gaps between them are the time labels need.

    Parameters
    ----------
    parts : columns part, start, end, transactions, frauds (a fold's `table()`); parts without dates are skipped.
    """
    require_columns(parts, ["part", "start", "end", "transactions", "frauds"], where="timeline")
    parts = parts.assign(start=pd.to_datetime(parts["start"], utc=True), end=pd.to_datetime(parts["end"], utc=True))
    parts = parts.dropna(subset=["start", "end"]).reset_index(drop=True)
    if parts.empty:
        return sentence("The split has no parts with dates.")
    start, end = days_of(parts["start"]), days_of(parts["end"])
    days = ((end - start) / pd.Timedelta(days=1)).round(2)
    test = parts["part"].eq("test")
    on = f" on the {days[test].iloc[0]:g} days from {start[test].iloc[0]:%Y-%m-%d}" if test.any() else ""
    figure = picture(0.85 + 0.36 * len(parts), f"The model learns from earlier payments and is judged{on}")
    ax = figure.subplots()
    rows = np.arange(len(parts))[::-1]
    colours = [{"test": INK, "train": BLUE, "refit": BLUE}.get(part, MUTED) for part in parts["part"]]
    bars = ax.barh(rows, end - start, left=start, height=0.58, color=colours)
    said = []
    for bar, row, part, length in zip(bars, rows, parts.itertuples(), days):
        if part.part == "refit":
            bar.set_alpha(0.55)
        frauds = f"{part.frauds:,.0f}" if part.frauds == 0 or part.frauds >= SMALLEST_CELL else "fewer than 10"
        text = f"{length:g} days · {part.transactions:,.0f} payments · {frauds} frauds"
        ax.annotate(
            text, (1.01, row), xycoords=("axes fraction", "data"), va="center", color=MUTED, annotation_clip=False
        )
        said.append(f"{part.part} {part.start:%Y-%m-%d} to {part.end:%Y-%m-%d}, {text.replace(' · ', ', ')}")
    ax.set_yticks(rows, parts["part"], color=INK)
    ax.grid(False, axis="y")
    date_axis(ax)
    figure.alt = "Parts of the split on a time axis: " + "; ".join(said)
    return figure


def _two_classes(transactions: pd.DataFrame, where: str) -> list[tuple[str, pd.Series, str]] | Picture:
    require_columns(transactions, ["event_time", "amount", "is_fraud"], where=where)
    known = transactions[transactions["is_fraud"].notna()]
    if known.empty:
        return sentence("No label is known yet, so frauds and genuine payments cannot be told apart.")
    fraud = known["is_fraud"].astype(bool)
    classes = [("genuine", ~fraud, MUTED), ("fraud", fraud, RED)]
    return [(name, known[mask], colour) for name, mask, colour in classes if mask.sum() >= SMALLEST_CELL]


def _only(classes: list[tuple[str, Any, str]]) -> str:
    lacking = {"genuine", "fraud"} - {name for name, _, _ in classes}
    return (
        f" (fewer than {SMALLEST_CELL} {'frauds' if 'fraud' in lacking else 'genuine payments'}: not drawn)"
        if lacking
        else ""
    )


@drawn
def amount_by_label(transactions: pd.DataFrame, bins: int = 30) -> Picture:
    """Draw how amounts are distributed for frauds and for genuine payments, on a log scale.

    Parameters
    ----------
    transactions : canonical transactions; rows without a label and amounts of zero are left out.
    bins : cells of equal width on the log scale; cells with 1 to 9 payments are not drawn.
    """
    classes = _two_classes(transactions, "amount_by_label")
    if isinstance(classes, Picture):
        return classes
    classes = [(name, rows.loc[rows["amount"] > 0, "amount"], colour) for name, rows, colour in classes]
    classes = [entry for entry in classes if len(entry[1]) >= SMALLEST_CELL]
    if not classes:
        return sentence(f"Fewer than {SMALLEST_CELL} labelled payments have an amount to draw.")
    medians = {name: amounts.median() for name, amounts, _ in classes}
    said = "; ".join(f"half of the {name} payments exceed {median:,.2f}" for name, median in medians.items())
    title = f"{said[0].upper()}{said[1:]}{_only(classes)}"
    figure = picture(3.0, title)
    ax = figure.subplots()
    everything = np.concatenate([amounts for _, amounts, _ in classes])
    edges = np.geomspace(everything.min(), everything.max() * 1.0001, bins + 1)
    for name, amounts, colour in classes:
        counts = np.histogram(amounts, edges)[0]
        shown = np.where(counts >= SMALLEST_CELL, counts / len(amounts), 0.0)
        ax.stairs(shown, edges, color=colour, fill=True, alpha=0.16)
        ax.stairs(shown, edges, color=colour, linewidth=1.6)
        peak = int(np.argmax(shown))
        ax.annotate(
            name,
            (np.sqrt(edges[peak] * edges[peak + 1]), shown[peak]),
            (0, 4),
            textcoords="offset points",
            ha="center",
            color=colour,
            fontweight="bold",
        )
    ax.set_xscale("log")
    number_axis(ax.xaxis)
    percent_axis(ax.yaxis)
    ax.margins(y=0.14)
    ax.set_ylim(bottom=0)
    ax.set(xlabel="amount, currency units (log scale)", ylabel="share of the payments of a kind")
    figure.alt = f"Distribution of amounts: {title}."
    return figure


@drawn
def hour_by_label(transactions: pd.DataFrame) -> Picture:
    """Draw at which hour of the day (UTC) frauds and genuine payments happen.

    Parameters
    ----------
    transactions : canonical transactions; rows without a label are left out, and hours with 1 to 9 payments of a kind
        have no point.
    """
    classes = _two_classes(transactions, "hour_by_label")
    if isinstance(classes, Picture):
        return classes
    if not classes:
        return sentence(f"Fewer than {SMALLEST_CELL} payments are labelled.")
    night = {name: float((rows["event_time"].dt.hour < 6).mean()) for name, rows, _ in classes}
    said = " and ".join(f"{share(value)} of the {name} payments" for name, value in reversed(night.items()))
    title = f"{said} happen between midnight and six{_only(classes)}"
    figure = picture(2.8, title)
    ax = figure.subplots()
    for (name, rows, colour), dash, mark in zip(classes, ("-", (0, (4, 2))), ("o", "s")):
        counts = rows["event_time"].dt.hour.value_counts().reindex(range(24), fill_value=0).to_numpy()
        shown = np.where(counts >= SMALLEST_CELL, counts / len(rows), np.nan)
        ax.plot(np.arange(24), shown, color=colour, linestyle=dash, marker=mark, markersize=3.5, label=name)
    ax.legend(loc="best", fontsize=8.5)
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_locator(FixedLocator(range(0, 24, 3)))
    percent_axis(ax.yaxis)
    ax.set(xlabel="hour of the day, UTC", ylabel="share of the payments of a kind")
    figure.alt = f"Payments by hour of the day: {title}."
    return figure
