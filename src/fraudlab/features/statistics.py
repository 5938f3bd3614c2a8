"""The functions people write features with: each returns a spec. `docs/features.md` shows every one on an example."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fraudlab.features.specs import (
    FLOOR,
    SLACK_KM,
    Condition,
    CurrentSpec,
    LinkSpec,
    PastSpec,
    WindowSpec,
)
from fraudlab.schema import InputError

Names = str | Sequence[str]

# --- over a window of the entity's history ----------------------------------------------------------------------------


def count(
    by: Names, window: Names, *, where: Condition | None = None, delay: str | None = None, include_current: bool = False
) -> WindowSpec:
    """Count the payments of an entity in each window; 0 when there are none.

    Parameters
    ----------
    by : the entity's column, or several that name it together.
    window : lengths such as "15min", "1h", "7d", "4w"; one column each.
    where : (column, operator, value): only rows that meet it are counted; a row without a value never does.
    delay : leave out the latest stretch: the window is (t - delay - w, t - delay].
    include_current : count the row itself too.

    >>> count(by="customer_id", window=["1d", "7d"]).columns
    ('customer_id__count__1d', 'customer_id__count__7d')
    """
    return WindowSpec("count", by, window, where=where, delay=delay, include_current=include_current)


def total(
    value: str,
    by: Names,
    window: Names,
    *,
    where: Condition | None = None,
    delay: str | None = None,
    include_current: bool = False,
    last: int | None = None,
) -> WindowSpec:
    """Sum a numeric column over each window, exactly and rounded once; 0 when it is empty.

    Parameters
    ----------
    value : a numeric column; rows without a value do not count.
    by, window, where, delay, include_current : as in `count`.
    last : only the latest `last` rows of the window that have a value and meet `where`.

    >>> total("amount", by="card_id", window="1h", where=("channel", "=", "online")).columns
    ('card_id__amount__total__1h__where_channel_eq_online',)
    """
    return WindowSpec(
        "total", by, window, value=value, where=where, delay=delay, include_current=include_current, last=last
    )


def mean(
    value: str,
    by: Names,
    window: Names,
    *,
    where: Condition | None = None,
    delay: str | None = None,
    include_current: bool = False,
    last: int | None = None,
) -> WindowSpec:
    """Average a numeric column over each window; NaN when no row of it has a value. Parameters as in `total`.

    >>> mean("amount", by="customer_id", window="90d", last=5).columns
    ('customer_id__amount__mean__90d__last5',)
    """
    return WindowSpec(
        "mean", by, window, value=value, where=where, delay=delay, include_current=include_current, last=last
    )


def std(
    value: str,
    by: Names,
    window: Names,
    *,
    where: Condition | None = None,
    delay: str | None = None,
    include_current: bool = False,
    last: int | None = None,
) -> WindowSpec:
    """Give the sample standard deviation (n - 1) in each window; NaN below two values. Parameters as in `total`.

    Values are taken to 8 decimals, so it is exact for money; equal values give 0.
    """
    return WindowSpec(
        "std", by, window, value=value, where=where, delay=delay, include_current=include_current, last=last
    )


def minimum(
    value: str,
    by: Names,
    window: Names,
    *,
    where: Condition | None = None,
    delay: str | None = None,
    include_current: bool = False,
    last: int | None = None,
) -> WindowSpec:
    """Give the smallest value in each window; NaN when no row of it has a value. Parameters as in `total`."""
    return WindowSpec(
        "minimum", by, window, value=value, where=where, delay=delay, include_current=include_current, last=last
    )


def maximum(
    value: str,
    by: Names,
    window: Names,
    *,
    where: Condition | None = None,
    delay: str | None = None,
    include_current: bool = False,
    last: int | None = None,
) -> WindowSpec:
    """Give the largest value in each window; NaN when no row of it has a value. Parameters as in `total`."""
    return WindowSpec(
        "maximum", by, window, value=value, where=where, delay=delay, include_current=include_current, last=last
    )


def quantile(
    value: str,
    q: float,
    by: Names,
    window: Names,
    *,
    where: Condition | None = None,
    delay: str | None = None,
    include_current: bool = False,
    last: int | None = None,
) -> WindowSpec:
    """Give the quantile of order q in each window; NaN when no row of it has a value.

    It lies at place q (n - 1) of the sorted values, interpolated linearly between neighbours. Parameters as in `total`.

    >>> quantile("amount", 0.9, by="customer_id", window="30d").columns
    ('customer_id__amount__quantile0_9__30d',)
    """
    return WindowSpec(
        "quantile", by, window, value=value, where=where, delay=delay, include_current=include_current, last=last, q=q
    )


def median(
    value: str,
    by: Names,
    window: Names,
    *,
    where: Condition | None = None,
    delay: str | None = None,
    include_current: bool = False,
    last: int | None = None,
) -> WindowSpec:
    """Give the middle value in each window; NaN when no row of it has a value. Parameters as in `total`.

    >>> median("amount", by="customer_id", window="30d").columns
    ('customer_id__amount__median__30d',)
    """
    return WindowSpec(
        "quantile", by, window, value=value, where=where, delay=delay, include_current=include_current, last=last, q=0.5
    )


def zscore(
    value: str,
    by: Names,
    window: Names,
    *,
    where: Condition | None = None,
    delay: str | None = None,
    last: int | None = None,
) -> WindowSpec:
    """Say how many standard deviations the value lies above the mean of its history in each window.

    NaN when the history holds fewer than two values or all are equal. Parameters as in `total`.
    """
    return WindowSpec("zscore", by, window, value=value, where=where, delay=delay, last=last)


def ratio(
    value: str,
    by: Names,
    window: Names,
    *,
    where: Condition | None = None,
    delay: str | None = None,
    last: int | None = None,
) -> WindowSpec:
    """Divide the value by the mean of its history in each window; NaN when that is 0 or empty.

    Parameters as in `total`.
    """
    return WindowSpec("ratio", by, window, value=value, where=where, delay=delay, last=last)


def max_ratio(
    value: str,
    by: Names,
    window: Names,
    *,
    where: Condition | None = None,
    delay: str | None = None,
    last: int | None = None,
) -> WindowSpec:
    """Divide the value by the largest of its history in each window; NaN when that is 0 or empty.

    Parameters as in `total`.
    """
    return WindowSpec("max_ratio", by, window, value=value, where=where, delay=delay, last=last)


def percentile(
    value: str,
    by: Names,
    window: Names,
    *,
    where: Condition | None = None,
    delay: str | None = None,
    last: int | None = None,
) -> WindowSpec:
    """Give the share of the history in each window that is smaller than the value, equal ones counting half.

    0 to 1; NaN when the history is empty or the value is missing. Parameters as in `total`.
    """
    return WindowSpec("percentile", by, window, value=value, where=where, delay=delay, last=last)


def distinct(
    value: str,
    by: Names,
    window: Names,
    *,
    where: Condition | None = None,
    delay: str | None = None,
    include_current: bool = False,
    last: int | None = None,
) -> WindowSpec:
    """Count the different values of a column in each window; missing ones do not count. Parameters as in `total`.

    >>> distinct("customer_id", by="device_id", window="30d").columns
    ('device_id__customer_id__distinct__30d',)
    """
    return WindowSpec(
        "distinct", by, window, value=value, where=where, delay=delay, include_current=include_current, last=last
    )


def mode_share(
    value: str,
    by: Names,
    window: Names,
    *,
    where: Condition | None = None,
    delay: str | None = None,
    include_current: bool = False,
    last: int | None = None,
) -> WindowSpec:
    """Give the share of the most frequent value in each window; NaN when no row of it has a value.

    Parameters as in `total`; `value` may be of any kind.
    """
    return WindowSpec(
        "mode_share", by, window, value=value, where=where, delay=delay, include_current=include_current, last=last
    )


def entropy(
    value: str,
    by: Names,
    window: Names,
    *,
    where: Condition | None = None,
    delay: str | None = None,
    include_current: bool = False,
    last: int | None = None,
) -> WindowSpec:
    """Give the entropy of a column's values in each window, in bits; NaN when no row of it has a value.

    0 when all are the same, log2 of their number when all are different. Parameters as in `total`.
    """
    return WindowSpec(
        "entropy", by, window, value=value, where=where, delay=delay, include_current=include_current, last=last
    )


def repeats(
    value: str,
    by: Names,
    window: Names,
    *,
    where: Condition | None = None,
    delay: str | None = None,
    last: int | None = None,
) -> WindowSpec:
    """Count the rows of the history in each window that have the row's own value; NaN where that is missing.

    Of the amount it finds the same sum taken again and again. Parameters as in `total`.
    """
    return WindowSpec("repeats", by, window, value=value, where=where, delay=delay, last=last)


def share(
    value: str,
    by: Names,
    window: Names,
    *,
    where: Condition | None = None,
    delay: str | None = None,
    last: int | None = None,
) -> WindowSpec:
    """Give the share of the history in each window that has the row's own value; NaN when either is missing.

    Of the merchant it tells how usual this one is for the customer. Parameters as in `total`.

    >>> share("merchant_id", by="customer_id", window="90d").columns
    ('customer_id__merchant_id__share__90d',)
    """
    return WindowSpec("share", by, window, value=value, where=where, delay=delay, last=last)


def mean_gap(
    by: Names, window: Names, *, delay: str | None = None, include_current: bool = False, last: int | None = None
) -> WindowSpec:
    """Give the mean number of days from one row of each window to the next; NaN below two rows.

    Parameters as in `total`.
    """
    return WindowSpec("mean_gap", by, window, delay=delay, include_current=include_current, last=last)


def std_gap(
    by: Names, window: Names, *, delay: str | None = None, include_current: bool = False, last: int | None = None
) -> WindowSpec:
    """Give the standard deviation of the days from one row of each window to the next; NaN below three rows.

    Near 0 for a machine that pays by the clock. Parameters as in `total`.
    """
    return WindowSpec("std_gap", by, window, delay=delay, include_current=include_current, last=last)


def usual_hour(
    by: Names,
    window: Names,
    *,
    delay: str | None = None,
    include_current: bool = False,
    last: int | None = None,
    zone: str | None = None,
) -> WindowSpec:
    """Give the circular mean of the hours of the day in each window, 0 to 24; NaN when it is empty.

    NaN too when the hours lie evenly round the clock. Parameters as in `total`; `zone` is a time zone (default UTC).
    """
    return WindowSpec("usual_hour", by, window, delay=delay, include_current=include_current, last=last, zone=zone)


def hour_spread(
    by: Names,
    window: Names,
    *,
    delay: str | None = None,
    include_current: bool = False,
    last: int | None = None,
    zone: str | None = None,
) -> WindowSpec:
    """Give the circular standard deviation of the hours of the day in each window, in hours; NaN when it is empty.

    Parameters as in `usual_hour`.
    """
    return WindowSpec("hour_spread", by, window, delay=delay, include_current=include_current, last=last, zone=zone)


def hour_shift(
    by: Names, window: Names, *, delay: str | None = None, last: int | None = None, zone: str | None = None
) -> WindowSpec:
    """Give how many hours the row lies from the usual hour of its history in each window, 0 to 12.

    NaN where `usual_hour` is. Parameters as in `usual_hour`.
    """
    return WindowSpec("hour_shift", by, window, delay=delay, last=last, zone=zone)


def usual_distance(by: Names, window: Names, *, delay: str | None = None, last: int | None = None) -> WindowSpec:
    """Give the km from the middle of the history's places in each window; NaN without one, or without a place now.

    Parameters as in `total`.
    """
    return WindowSpec("usual_distance", by, window, delay=delay, last=last)


def frauds(by: Names, window: Names, *, delay: str | None = None, last: int | None = None) -> WindowSpec:
    """Count the payments of each window that are known to be fraud at t; 0 when none is. Parameters as in `count`.

    A label is known from the later of label_time and event_time on; one that becomes known at exactly t counts when
    its row comes before the present one. `last` looks at the latest `last` labelled rows only.
    """
    return WindowSpec("frauds", by, window, delay=delay, last=last)


def labelled(by: Names, window: Names, *, delay: str | None = None) -> WindowSpec:
    """Count the payments of each window whose label is known at t; 0 when none is. Parameters as in `count`."""
    return WindowSpec("labelled", by, window, delay=delay)


def risk(
    by: Names,
    window: Names,
    *,
    delay: str | None = None,
    last: int | None = None,
    empty: float = math.nan,
    prior: tuple[float, float] | None = None,
) -> WindowSpec:
    """Give the share of fraud among the payments of each window whose label is known at t.

    Frauds are often reported before the honest payments around them are settled, so without a `delay` of about the
    time in which labels settle the share is too high.

    Parameters
    ----------
    by, window, delay : as in `count`.
    last : only the latest `last` payments of the window whose label is known.
    empty : the value where no label of the window is known; NaN unless given, or the prior's rate.
    prior : (rate, strength): the share is (frauds + rate * strength) / (labelled + strength).

    >>> risk(by="merchant_id", window="28d", delay="14d").columns
    ('merchant_id__risk__28d__delay14d',)
    """
    given = None if empty != empty else empty
    return WindowSpec("risk", by, window, delay=delay, last=last, empty=given, prior=prior)


def since_fraud(by: Names, window: Names, *, delay: str | None = None, first: bool = False) -> WindowSpec:
    """Give the days since the latest (or `first`) payment of each window known at t to be fraud; NaN without one.

    Parameters as in `count`.

    >>> since_fraud(by="merchant_id", window="90d").columns
    ('merchant_id__since_fraud__90d',)
    """
    if not isinstance(first, bool):
        raise InputError(f"since_fraud: first must be True or False; found {first!r}; correct it")
    return WindowSpec("since_first_fraud" if first else "since_fraud", by, window, delay=delay)


# --- over the whole history -------------------------------------------------------------------------------------------


def is_new(value: str, by: Names) -> PastSpec:
    """Flag the first payment of an entity that has this value: 1 or 0, NaN when the value is missing.

    >>> is_new("device_id", by="customer_id").columns
    ('customer_id__device_id__is_new',)
    """
    return PastSpec("is_new", by, value)


def since_last(by: Names) -> PastSpec:
    """Give the days since the entity's previous payment; NaN for its first."""
    return PastSpec("since_last", by)


def since_first(by: Names) -> PastSpec:
    """Give the days since the entity's first payment, its age as seen here; 0 for the first."""
    return PastSpec("since_first", by)


def distance(by: Names) -> PastSpec:
    """Give the km from the entity's previous known place; NaN without one, or without a place now."""
    return PastSpec("distance", by)


def speed(by: Names, *, slack_km: float = SLACK_KM, floor: str = FLOOR) -> PastSpec:
    """Give the speed in km/h needed from the entity's previous known place; NaN where `distance` is.

    Parameters
    ----------
    by : as in `count`.
    slack_km : taken off the distance, down to 0: places on a 0.1 degree grid are off by up to about 8 km each.
    floor : the shortest time reckoned with, so that two payments in one second do not divide by zero.
    """
    return PastSpec("speed", by, slack_km=slack_km, floor=floor)


def decayed_count(by: Names, half_life: str, *, where: Condition | None = None) -> PastSpec:
    """Count the entity's earlier payments, each worth half as much after every `half_life`; 0 without any.

    >>> decayed_count(by="card_id", half_life="1h").columns
    ('card_id__decayed_count__half1h',)
    """
    return PastSpec("decayed_count", by, half_life=half_life, where=where)


def decayed_total(value: str, by: Names, half_life: str, *, where: Condition | None = None) -> PastSpec:
    """Sum a numeric column over the entity's earlier payments, halved after every `half_life`; 0 without any."""
    return PastSpec("decayed_total", by, value, half_life=half_life, where=where)


# --- over everything that hangs together ------------------------------------------------------------------------------


def linked(value: str, through: Names) -> LinkSpec:
    """Count the values of `value` that hang together with the payment through what they share, as known at t.

    Customers, devices, cards ... are the nodes of a graph; each payment joins those it names. The count is that of the
    component the payment belongs to, made by the rows before it and itself. What very many share (an address of a large
    network) joins strangers: leave it out.

    Parameters
    ----------
    value : the column whose values are counted, such as customer_id.
    through : the columns that link them, such as device_id and card_id; missing values link nothing.

    >>> linked("customer_id", through=["device_id", "card_id"]).columns
    ('customer_id__linked__through_device_id_and_card_id',)
    """
    return LinkSpec("linked", value, through)


def linked_frauds(value: str, through: Names) -> LinkSpec:
    """Count the payments known at t to be fraud in the component of `linked`."""
    return LinkSpec("linked_frauds", value, through)


# --- from the row alone -----------------------------------------------------------------------------------------------


def value(name: str) -> CurrentSpec:
    """Take a numeric column as it is; its name stays."""
    return CurrentSpec("value", name)


def cents(name: str = "amount") -> CurrentSpec:
    """Give the last two decimals of a column in major units, 0 to 99."""
    return CurrentSpec("cents", name)


def round_amount(name: str = "amount", step: int = 10) -> CurrentSpec:
    """Flag values that are whole multiples of `step`."""
    return CurrentSpec("round", name, step)


def hour(zone: str | None = None) -> CurrentSpec:
    """Give the hour of the day in a time zone (default UTC), 0 to 23."""
    return CurrentSpec("hour", zone=zone)


def night(zone: str | None = None) -> CurrentSpec:
    """Flag the hours 0 to 6 in a time zone (default UTC)."""
    return CurrentSpec("night", zone=zone)


def weekday(zone: str | None = None) -> CurrentSpec:
    """Give the day of the week in a time zone (default UTC), 0 (Monday) to 6."""
    return CurrentSpec("weekday", zone=zone)


def weekend(zone: str | None = None) -> CurrentSpec:
    """Flag Saturdays and Sundays in a time zone (default UTC)."""
    return CurrentSpec("weekend", zone=zone)


def month_day(zone: str | None = None) -> CurrentSpec:
    """Give the day of the month in a time zone (default UTC), 1 to 31."""
    return CurrentSpec("month_day", zone=zone)
