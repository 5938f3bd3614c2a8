"""Checks of what was received: is a day missing, did payments come twice, can the share of fraud be believed?

A broken export or a poisoned file of outcomes shows here, before anybody wonders why the model changed.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from fraudlab.checks.finding import Answer, named, not_applicable
from fraudlab.metrics import SMALLEST_CELL

HARDLY_ANY = 0.2
"""A day with less than this share of what the same weekdays had around it is taken for one that was not received whole.
Holidays of shops halve a day; an export that broke off leaves little or nothing."""

FEWEST_A_DAY = 20.0
"""Where a weekday usually has fewer payments, an empty day is chance (it has a probability of less than 1 in 10^8 at
20 payments a day that come independently)."""

WEEKS_AROUND = 4
"""So many of the same weekday before and after a day say what is usual."""

MOST_TWICE = 0.2
"""Share of a day's payments that may repeat an earlier one in customer, moment, amount and merchant."""

MOST_FRAUD = 0.2
"""Share of fraud among known labels above which they are not believed; card and account fraud lies below 5 %."""

MOST_JUMP = 5.0
"""How many times the usual share of fraud a week may have."""


def no_gap(event_time: pd.Series) -> Answer:
    """Fail when a day within the period has no payment, or hardly any of what its weekday usually has.

    Parameters
    ----------
    event_time : moments of all payments, with a zone; the first and the last day are not judged, they may be cut.

    Returns
    -------
    Answer; the table has a row per missing day: day, payments, usual (the median of the same weekday around it).

    >>> days = pd.date_range("2026-01-01", "2026-03-01", freq="30min", tz="UTC").to_series()
    >>> no_gap(days[days.dt.date != pd.Timestamp("2026-02-03").date()])[1]
    'Of 58 days 1 has no payment or hardly any: 2026-02-03.'
    """
    columns = ("day", "payments", "usual")
    if event_time.empty:
        return not_applicable("There are no payments.", columns)
    daily = event_time.dt.floor("D").value_counts().sort_index()
    daily = daily.reindex(pd.date_range(daily.index[0], daily.index[-1], freq="D"), fill_value=0).astype(float)
    weeks = [daily.shift(7 * k, freq="D").reindex(daily.index) for k in range(-WEEKS_AROUND, WEEKS_AROUND + 1) if k]
    usual = pd.concat(weeks, axis=1).median(axis=1)
    judged = (usual >= FEWEST_A_DAY) & (np.arange(len(daily)) > 0) & (np.arange(len(daily)) < len(daily) - 1)
    if not judged.any():
        return not_applicable("Too few payments a day to tell a missing day from a quiet one.", columns)
    lacking = daily.index[judged & (daily < HARDLY_ANY * usual)]
    days = [f"{day:%Y-%m-%d}" for day in lacking]
    table = pd.DataFrame({"day": days, "payments": daily[lacking].to_numpy(), "usual": usual[lacking].to_numpy()})
    if days:
        have = "has" if len(days) == 1 else "have"
        return (
            "failed",
            f"Of {judged.sum():,} days {len(days):,} {have} no payment or hardly any: {named(days)}.",
            table,
        )
    return "passed", f"Each of {judged.sum():,} days has payments as the same weekdays around it.", table


def not_doubled(transactions: pd.DataFrame) -> Answer:
    """Fail when the payments of a day came twice under different numbers.

    Parameters
    ----------
    transactions : event_time, customer_id, amount and, where there, merchant_id.

    Returns
    -------
    Answer; the table has a row per day on which more than `MOST_TWICE` of the payments, and ten or more, repeat an
    earlier one in all of these: day, payments, repeated.

    >>> time = pd.date_range("2026-01-01", periods=40, freq="1h", tz="UTC")
    >>> rows = pd.DataFrame({"event_time": time, "customer_id": "a", "amount": 1.0})
    >>> not_doubled(pd.concat([rows, rows[:24]]))[1]
    'On 1 of 2 days many payments repeat an earlier one in customer, moment and amount: 2026-01-01.'
    """
    keys = [name for name in ("customer_id", "event_time", "amount", "merchant_id") if name in transactions]
    said = {"customer_id": "customer", "event_time": "moment", "amount": "amount", "merchant_id": "merchant"}
    words = [said[name] for name in keys]
    if transactions.empty:
        return not_applicable("There are no payments.", ("day", "payments", "repeated"))
    day = transactions["event_time"].dt.strftime("%Y-%m-%d")
    repeated = transactions.duplicated(keys).groupby(day.to_numpy()).agg(["size", "sum"])
    wrong = repeated[(repeated["sum"] > MOST_TWICE * repeated["size"]) & (repeated["sum"] >= SMALLEST_CELL)]
    table = wrong.rename_axis("day").reset_index().set_axis(["day", "payments", "repeated"], axis=1)
    inside = f"{', '.join(words[:-1])} and {words[-1]}"
    if len(table):
        said_days = f"On {len(table):,} of {len(repeated):,} days many payments repeat an earlier one"
        return "failed", f"{said_days} in {inside}: {named(table['day'])}.", table
    return "passed", f"On none of {len(repeated):,} days do many payments repeat an earlier one in {inside}.", table


def believable(transactions: pd.DataFrame, until: pd.Timestamp) -> Answer:
    """Fail when the known labels hold more fraud than payments do, or one week far more than the others.

    A poisoned file of outcomes shows so; a wave of fraud may too, and is then for a person to confirm.

    Parameters
    ----------
    transactions : event_time and is_fraud, as loaded for the training.
    until : payments from this moment on are not judged: of young payments the frauds become known first.

    Returns
    -------
    Answer; the table has a row per judged week: week (its first day), labels, share (of fraud, 0 to 1).
    """
    columns = ("week", "labels", "share")
    known = transactions[transactions["is_fraud"].notna() & (transactions["event_time"] < until)]
    if len(known) < SMALLEST_CELL:
        return not_applicable("Too few labels are known.", columns)
    fraud = known["is_fraud"].astype(bool).to_numpy()
    first = known["event_time"].min().floor("D")
    week = first + (known["event_time"] - first) // pd.Timedelta(days=7) * pd.Timedelta(days=7)
    weekly = pd.Series(fraud).groupby(week.dt.strftime("%Y-%m-%d").to_numpy()).agg(["size", "sum", "mean"])
    table = weekly.reset_index()[["index", "size", "mean"]].set_axis(list(columns), axis=1)
    share = float(fraud.mean())
    if share > MOST_FRAUD:
        said = f"{share:.0%} of {len(known):,} known labels say fraud; more than {MOST_FRAUD:.0%} is not believed."
        return "failed", said.replace("%", " %"), table
    usual = float(weekly["mean"].median())
    # Twice what chance gives a week of this size beyond its share, so that a few frauds in a quiet week are no jump.
    chance = 2 * np.sqrt(np.maximum(usual, 1e-3) / weekly["size"])
    jumped = weekly.index[
        (weekly["sum"] >= SMALLEST_CELL) & (weekly["mean"] > np.maximum(MOST_JUMP * usual, usual + 2 * chance))
    ]
    if len(weekly) < 4:
        return "passed", f"{share:.1%} of {len(known):,} known labels say fraud.".replace("%", " %"), table
    if len(jumped):
        said = f"In {len(jumped):,} of {len(weekly):,} weeks labels say fraud more than {MOST_JUMP:g} times as often as"
        return "failed", f"{said} usual ({usual:.1%}): weeks from {named(jumped)}.".replace("%", " %"), table
    return (
        "passed",
        f"{share:.1%} of {len(known):,} known labels say fraud, no week far more.".replace("%", " %"),
        table,
    )
