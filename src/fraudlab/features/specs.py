"""Features as data: frozen specs that name their columns, and the functions that make them.

One rule holds for all of them. The total order is (event_time, transaction_id); the history of a row is the rows of the
same entity before it in that order. A window holds the history in (t - w, t]; `include_current` adds the row itself;
`delay` d moves it to (t - d - w, t - d]. A label counts from the moment it is known, never before. A row whose entity
is missing gets NaN and is nobody's history. `docs/features.md` gives each statistic's formula and null rule.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from fraudlab.features import words
from fraudlab.schema import InputError, did_you_mean

if TYPE_CHECKING:
    from fraudlab.features.engine import Span

MICROSECONDS = {
    "s": 1_000_000,
    "min": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}
LONGEST = 100 * 366 * MICROSECONDS["d"]
# What a condition may say, and how it is written in a column's name.
OPERATORS = {"=": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
# Known only after the payment: read through `risk` and `frauds`, which ask when, or not at all.
AFTERWARDS = ("is_fraud", "label_time", "fraud_scenario")

# Of `speed`: what a grid of 0.1 degree may feign, and the shortest time reckoned with.
SLACK_KM, FLOOR = 25, "1min"

Condition = tuple[str, str, str | int | float | bool]


def parse_duration(text: str, argument: str) -> int:
    """Return a length of time such as "15min" or "7d" in microseconds.

    >>> parse_duration("15min", "window")
    900000000
    >>> parse_duration("1 month", "window")
    Traceback (most recent call last):
    fraudlab.schema.InputError: window: must be a whole number > 0 and a unit out of s, min, h, d, w; found '1 month'; \
write it like 15min, 1h or 7d
    """
    found = re.fullmatch(r"([1-9]\d{0,9})(s|min|h|d|w)", text) if isinstance(text, str) else None
    if not found:
        raise InputError(
            f"{argument}: must be a whole number > 0 and a unit out of {', '.join(MICROSECONDS)}; found {text!r}; "
            "write it like 15min, 1h or 7d"
        )
    length = int(found[1]) * MICROSECONDS[found[2]]
    if length > LONGEST:
        raise InputError(f"{argument}: must be at most 100 years; found {text!r}; choose a shorter one")
    return length


@dataclass(frozen=True)
class WindowSpec:
    """A statistic over windows of an entity's history; a column per window. Made by `count`, `mean`, `risk` ...

    `empty` is what `risk` gives where no label is known; None stands for NaN.
    """

    kind: ClassVar[str] = "window"
    statistic: str
    by: str | Sequence[str]  # kept as a tuple, as is window
    window: str | Sequence[str]
    value: str | None = None
    delay: str | None = None
    include_current: bool = False
    where: Condition | None = None
    empty: float | None = None

    # statistic -> (needs a value, may include the row itself, may have a condition)
    STATISTICS: ClassVar[dict[str, tuple[bool, bool, bool]]] = {
        "count": (False, True, True),
        "total": (True, True, True),
        "mean": (True, True, True),
        "std": (True, True, True),
        "zscore": (True, False, False),
        "ratio": (True, False, False),
        "max_ratio": (True, False, False),
        "distinct": (True, True, True),
        "frauds": (False, False, False),
        "risk": (False, False, False),
    }

    def __post_init__(self) -> None:
        object.__setattr__(self, "by", _tuple(self.by))
        object.__setattr__(self, "window", _tuple(self.window))
        _check_statistic(self)
        needs_value, may_include, may_choose = self.STATISTICS[self.statistic]
        _check_value(self, needs_value)
        _check_by(self)
        if not self.window:
            raise InputError(f"{self.statistic}: window must name at least one length, such as 7d; found none")
        for width in self.window:
            parse_duration(width, f"{self.statistic}: window")
        if self.delay is not None:
            parse_duration(self.delay, f"{self.statistic}: delay")
        if self.include_current and (self.delay or not may_include):
            why = "the row lies after a delayed window" if may_include else "it compares the row with its history"
            raise InputError(
                f"{self.statistic}: include_current must be left out, because {why}; found true; remove it"
            )
        if self.where is not None:
            if not may_choose:
                raise InputError(
                    f"{self.statistic}: where must be left out; found a condition; use it with count or mean"
                )
            _check_condition(self.statistic, self.where)
        if self.empty is not None and (self.statistic != "risk" or not _is_number(self.empty)):
            raise InputError(
                f"{self.statistic}: empty must be a finite number of risk, or left out; found {self.empty}"
            )

    @property
    def entity(self) -> tuple[str, ...]:
        return self.by

    @property
    def columns(self) -> tuple[str, ...]:
        """The names, a window each: entity, value, statistic, window, then what differs from the default."""
        tail = [f"delay{self.delay}"] if self.delay else []
        tail += ["with_current"] if self.include_current else []
        tail += [f"empty{_plain(self.empty)}"] if self.empty is not None else []
        if self.where:
            column, operator, wanted = self.where
            tail.append(f"where_{column}_{OPERATORS[operator]}_{_plain(wanted)}")
        return tuple(_name(self.by, self.value, self.statistic, width, *tail) for width in self.window)

    @property
    def requires(self) -> tuple[str, ...]:
        labels = ("is_fraud", "label_time") if self.statistic in ("frauds", "risk") else ()
        return (*self.by, *_given(self.value), *(self.where[:1] if self.where else ()), *labels)

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        from fraudlab.features.engine import Span

        delay = parse_duration(self.delay, "delay") if self.delay else 0
        return tuple(Span(parse_duration(width, "window"), delay, self.include_current) for width in self.window)

    def describe(self) -> list[words.Words]:
        return [words.describe_window(self, *pair) for pair in zip(self.columns, self.window)]


@dataclass(frozen=True)
class PastSpec:
    """A statistic over an entity's whole history; one column. Made by `is_new`, `since_last`, `speed` ..."""

    kind: ClassVar[str] = "past"
    statistic: str
    by: str | Sequence[str]  # kept as a tuple
    value: str | None = None
    slack_km: float | None = None
    floor: str | None = None

    STATISTICS: ClassVar[tuple[str, ...]] = ("is_new", "since_last", "since_first", "distance", "speed")

    def __post_init__(self) -> None:
        object.__setattr__(self, "by", _tuple(self.by))
        _check_statistic(self)
        _check_value(self, self.statistic == "is_new")
        _check_by(self)
        if self.statistic == "speed":
            if not _is_number(self.slack_km) or self.slack_km < 0:
                raise InputError(
                    f"speed: slack_km must be a finite number >= 0; found {self.slack_km!r}; the default is 25"
                )
            parse_duration(self.floor, "speed: floor")  # type: ignore[arg-type]
        elif self.slack_km is not None or self.floor is not None:
            raise InputError(f"{self.statistic}: slack_km and floor belong to speed; found one of them; remove it")

    @property
    def entity(self) -> tuple[str, ...]:
        return (*self.by, *_given(self.value))

    @property
    def columns(self) -> tuple[str, ...]:
        tail = [f"slack{_plain(self.slack_km)}km"] if self.slack_km not in (None, SLACK_KM) else []
        tail += [f"floor{self.floor}"] if self.floor not in (None, FLOOR) else []
        return (_name(self.by, self.value, self.statistic, *tail),)

    @property
    def requires(self) -> tuple[str, ...]:
        places = ("latitude", "longitude") if self.statistic in ("distance", "speed") else ()
        return (*self.entity, *places)

    @property
    def floor_microseconds(self) -> int:
        return parse_duration(self.floor, "speed: floor")  # type: ignore[arg-type]

    def describe(self) -> list[words.Words]:
        return [words.describe_past(self, self.columns[0])]


@dataclass(frozen=True)
class CurrentSpec:
    """A value read from the row alone; one column. Made by `value`, `hour`, `round_amount` ..."""

    kind: ClassVar[str] = "current"
    statistic: str
    value: str | None = None
    step: int | None = None

    STATISTICS: ClassVar[tuple[str, ...]] = ("value", "cents", "round", "hour", "night", "weekend")
    entity: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        _check_statistic(self)
        _check_value(self, self.statistic in ("value", "cents", "round"))
        whole = isinstance(self.step, int) and not isinstance(self.step, bool) and self.step > 0
        if not (whole if self.statistic == "round" else self.step is None):
            raise InputError(
                f"{self.statistic}: step must be a whole number > 0 of round, else left out; found {self.step!r}"
            )

    @property
    def columns(self) -> tuple[str, ...]:
        if self.statistic == "value":
            return (self.value or "",)
        return (_name((), self.value, self.statistic + (str(self.step) if self.step else "")),)

    @property
    def requires(self) -> tuple[str, ...]:
        return _given(self.value)

    def describe(self) -> list[words.Words]:
        return [words.describe_current(self, self.columns[0])]


Spec = WindowSpec | PastSpec | CurrentSpec
_KINDS: dict[str, type[WindowSpec] | type[PastSpec] | type[CurrentSpec]] = {
    spec.kind: spec for spec in (WindowSpec, PastSpec, CurrentSpec)
}


def _given(value: str | None) -> tuple[str, ...]:
    return () if value is None else (value,)


def _name(by: tuple[str, ...], *parts: str | None) -> str:
    return "__".join(part for part in ("_and_".join(by), *parts) if part)


def _plain(value: object) -> str:
    """Write a parameter so that it may stand in a column's name.

    >>> _plain(0.5), _plain(25.0), _plain("no [SCA]")
    ('0_5', '25', 'no__SCA_')
    """
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    return re.sub(r"[^0-9A-Za-z-]", "_", text)


def _check_statistic(spec: Spec) -> None:
    if spec.statistic not in spec.STATISTICS:
        raise InputError(
            f"features: unknown {spec.kind} statistic '{spec.statistic}'; "
            f"{did_you_mean(spec.statistic, spec.STATISTICS)}"
        )


def _check_column(statistic: str, argument: str, name: object) -> None:
    if not isinstance(name, str) or not name:
        raise InputError(f"{statistic}: {argument} must be a column's name; found {name!r}; write it as text")
    if name in AFTERWARDS:
        raise InputError(
            f"{statistic}: {argument} must be known when the payment happens; found '{name}', which is known only "
            "afterwards; use risk or frauds, which count a label from the moment it is known"
        )


def _check_value(spec: Spec, needed: bool) -> None:
    if needed:
        _check_column(spec.statistic, "value", spec.value)
    elif spec.value is not None:
        raise InputError(f"{spec.statistic}: value must be left out; found '{spec.value}'; remove it")


def _check_by(spec: WindowSpec | PastSpec) -> None:
    for name in spec.by:
        _check_column(spec.statistic, "by", name)
    if not spec.by or len(set(spec.by)) < len(spec.by) or (spec.statistic == "is_new" and spec.value in spec.by):
        raise InputError(
            f"{spec.statistic}: by must name one or more different columns; found {', '.join(spec.by) or 'none'}; "
            "name the entity, such as customer_id"
        )


def _check_condition(statistic: str, where: Condition) -> None:
    if not isinstance(where, tuple) or len(where) != 3:
        raise InputError(f'{statistic}: where must be (column, operator, value), such as ("amount", "<", 3)')
    column, operator, wanted = where
    _check_column(statistic, "where", column)
    if operator not in OPERATORS:
        raise InputError(f"{statistic}: where must compare with one of {' '.join(OPERATORS)}; found {operator!r}")
    if not isinstance(wanted, str | int | float) or wanted != wanted:
        raise InputError(f"{statistic}: where must compare with text, a number or a boolean; found {wanted!r}")
    if isinstance(wanted, str | bool) and operator not in ("=", "!="):
        raise InputError(f"{statistic}: where must compare text with = or !=; found {operator!r}")


def _is_number(given: object) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given)


def _tuple(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _window(statistic: str, by: str | Sequence[str], window: str | Sequence[str], **given: Any) -> WindowSpec:
    return WindowSpec(statistic, by, window, **given)


def count(
    by: str | Sequence[str],
    window: str | Sequence[str],
    *,
    where: Condition | None = None,
    delay: str | None = None,
    include_current: bool = False,
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
    return _window("count", by, window, where=where, delay=delay, include_current=include_current)


def total(
    value: str,
    by: str | Sequence[str],
    window: str | Sequence[str],
    *,
    where: Condition | None = None,
    delay: str | None = None,
    include_current: bool = False,
) -> WindowSpec:
    """Sum a numeric column over each window, exactly and rounded once; 0 when it is empty. Parameters as in `count`.

    >>> total("amount", by="card_id", window="1h", where=("channel", "=", "online")).columns
    ('card_id__amount__total__1h__where_channel_eq_online',)
    """
    return _window("total", by, window, value=value, where=where, delay=delay, include_current=include_current)


def mean(
    value: str,
    by: str | Sequence[str],
    window: str | Sequence[str],
    *,
    where: Condition | None = None,
    delay: str | None = None,
    include_current: bool = False,
) -> WindowSpec:
    """Average a numeric column over each window; NaN when no row of it has a value. Parameters as in `count`.

    >>> mean("amount", by="customer_id", window="7d").columns
    ('customer_id__amount__mean__7d',)
    """
    return _window("mean", by, window, value=value, where=where, delay=delay, include_current=include_current)


def std(
    value: str,
    by: str | Sequence[str],
    window: str | Sequence[str],
    *,
    where: Condition | None = None,
    delay: str | None = None,
    include_current: bool = False,
) -> WindowSpec:
    """Give the sample standard deviation (n - 1) in each window; NaN below two values. Parameters as in `count`."""
    return _window("std", by, window, value=value, where=where, delay=delay, include_current=include_current)


def zscore(value: str, by: str | Sequence[str], window: str | Sequence[str], *, delay: str | None = None) -> WindowSpec:
    """Say how many standard deviations the value lies above the mean of its history in each window.

    NaN when the history holds fewer than two values or all are equal. Parameters as in `count`.
    """
    return _window("zscore", by, window, value=value, delay=delay)


def ratio(value: str, by: str | Sequence[str], window: str | Sequence[str], *, delay: str | None = None) -> WindowSpec:
    """Divide the value by the mean of its history in each window; NaN when that is 0 or empty.

    Parameters as in `count`.
    """
    return _window("ratio", by, window, value=value, delay=delay)


def max_ratio(
    value: str, by: str | Sequence[str], window: str | Sequence[str], *, delay: str | None = None
) -> WindowSpec:
    """Divide the value by the largest of its history in each window; NaN when that is 0 or empty.

    Parameters as in `count`.
    """
    return _window("max_ratio", by, window, value=value, delay=delay)


def distinct(
    value: str,
    by: str | Sequence[str],
    window: str | Sequence[str],
    *,
    where: Condition | None = None,
    delay: str | None = None,
    include_current: bool = False,
) -> WindowSpec:
    """Count the different values of a column in each window; missing ones do not count. Parameters as in `count`.

    >>> distinct("customer_id", by="device_id", window="30d").columns
    ('device_id__customer_id__distinct__30d',)
    """
    return _window("distinct", by, window, value=value, where=where, delay=delay, include_current=include_current)


def frauds(by: str | Sequence[str], window: str | Sequence[str], *, delay: str | None = None) -> WindowSpec:
    """Count the payments of each window that are known to be fraud at t; 0 when none is. Parameters as in `count`.

    A label is known from the later of label_time and event_time on; one that becomes known at exactly t counts when
    its row comes before the present one.
    """
    return _window("frauds", by, window, delay=delay)


def risk(
    by: str | Sequence[str], window: str | Sequence[str], *, delay: str | None = None, empty: float = math.nan
) -> WindowSpec:
    """Give the share of fraud among the payments of each window whose label is known at t.

    Frauds are often reported before the honest payments around them are settled, so without a `delay` of about the
    time in which labels settle the share is too high.

    Parameters
    ----------
    by, window, delay : as in `count`.
    empty : the value where no label of the window is known; NaN unless given.

    >>> risk(by="merchant_id", window="28d", delay="14d").columns
    ('merchant_id__risk__28d__delay14d',)
    """
    return _window("risk", by, window, delay=delay, empty=None if empty != empty else empty)


def is_new(value: str, by: str | Sequence[str]) -> PastSpec:
    """Flag the first payment of an entity that has this value: 1 or 0, NaN when the value is missing.

    >>> is_new("device_id", by="customer_id").columns
    ('customer_id__device_id__is_new',)
    """
    return PastSpec("is_new", by, value)


def since_last(by: str | Sequence[str]) -> PastSpec:
    """Give the days since the entity's previous payment; NaN for its first."""
    return PastSpec("since_last", by)


def since_first(by: str | Sequence[str]) -> PastSpec:
    """Give the days since the entity's first payment, its age as seen here; 0 for the first."""
    return PastSpec("since_first", by)


def distance(by: str | Sequence[str]) -> PastSpec:
    """Give the km from the entity's previous known place; NaN without one, or without a place now."""
    return PastSpec("distance", by)


def speed(by: str | Sequence[str], *, slack_km: float = SLACK_KM, floor: str = FLOOR) -> PastSpec:
    """Give the speed in km/h needed from the entity's previous known place; NaN where `distance` is.

    Parameters
    ----------
    by : as in `count`.
    slack_km : taken off the distance, down to 0: places on a 0.1 degree grid are off by up to about 8 km each.
    floor : the shortest time reckoned with, so that two payments in one second do not divide by zero.
    """
    return PastSpec("speed", by, slack_km=slack_km, floor=floor)


def value(name: str) -> CurrentSpec:
    """Take a numeric column as it is; its name stays."""
    return CurrentSpec("value", name)


def cents(name: str = "amount") -> CurrentSpec:
    """Give the last two decimals of a column in major units, 0 to 99."""
    return CurrentSpec("cents", name)


def round_amount(name: str = "amount", step: int = 10) -> CurrentSpec:
    """Flag values that are whole multiples of `step`."""
    return CurrentSpec("round", name, step)


def hour() -> CurrentSpec:
    """Give the hour of the day in UTC, 0 to 23."""
    return CurrentSpec("hour")


def night() -> CurrentSpec:
    """Flag the hours 0 to 6, UTC."""
    return CurrentSpec("night")


def weekend() -> CurrentSpec:
    """Flag Saturdays and Sundays, UTC."""
    return CurrentSpec("weekend")


def spec_to_dict(spec: Spec) -> dict[str, Any]:
    """Return a spec as plain values; what has its default is left out."""
    plain = {
        field.name: list(found) if isinstance(found, tuple) else found
        for field in fields(spec)
        if (found := getattr(spec, field.name)) is not None and found is not False
    }
    return {"kind": spec.kind, **plain}


def spec_from_dict(plain: Mapping[str, Any]) -> Spec:
    """Return the spec that `spec_to_dict` wrote; unknown kinds and parameters are refused."""
    given = dict(plain)
    name = given.pop("kind", None)
    if name not in _KINDS:
        raise InputError(f"features: unknown kind of spec {name!r}; {did_you_mean(str(name), _KINDS)}")
    known = [field.name for field in fields(_KINDS[name])]
    for parameter in given:
        if parameter not in known:
            raise InputError(
                f"features: unknown parameter '{parameter}' of a {name} spec; {did_you_mean(parameter, known)}"
            )
    if missing := [
        parameter for parameter in ("statistic", *(["by"] if "by" in known else [])) if parameter not in given
    ]:
        raise InputError(f"features: a {name} spec must give {' and '.join(missing)}; found none; add it")
    return _KINDS[name](**{key: tuple(item) if isinstance(item, list) else item for key, item in given.items()})
