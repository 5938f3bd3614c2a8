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
from typing import Any, ClassVar, NamedTuple
from zoneinfo import ZoneInfo

from fraudlab.features import words
from fraudlab.schema import InputError, did_you_mean

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

PLACE = ("latitude", "longitude")

Condition = tuple[str, str, str | int | float | bool]


class Span(NamedTuple):
    """A window in microseconds: the rows of (t - delay - width, t - delay], and the row itself if asked for."""

    width: int
    delay: int = 0
    include_current: bool = False


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


class Takes(NamedTuple):
    """What a window statistic takes: a value column ("number" or "any"), the row itself, a condition, a last k."""

    value: str = ""
    include_current: bool = False
    where: bool = False
    last: bool = False
    zone: bool = False


_NUMBER = Takes("number", True, True, True)
_AGAINST = Takes("number", False, True, True)  # the row's value against its history
_TALLY = Takes("any", True, True, True)
_OWN = Takes("any", False, True, True)
_LABELS = ("frauds", "labelled", "risk", "since_fraud", "since_first_fraud")


@dataclass(frozen=True)
class WindowSpec:
    """A statistic over windows of an entity's history; a column per window. Made by `count`, `mean`, `risk` ...

    `last` keeps the latest k rows of each window that count. `empty` is what `risk` gives where no label is known (None
    stands for NaN); `prior` = (rate, strength) draws it towards a rate. `q` is the order of a quantile, `zone` a time
    zone.
    """

    kind: ClassVar[str] = "window"
    statistic: str
    by: str | Sequence[str]  # kept as a tuple, as is window
    window: str | Sequence[str]
    value: str | None = None
    delay: str | None = None
    include_current: bool = False
    where: Condition | None = None
    last: int | None = None
    empty: float | None = None
    prior: tuple[float, float] | None = None
    q: float | None = None
    zone: str | None = None

    STATISTICS: ClassVar[dict[str, Takes]] = {
        "count": Takes("", True, True),
        "total": _NUMBER,
        "mean": _NUMBER,
        "std": _NUMBER,
        "minimum": _NUMBER,
        "maximum": _NUMBER,
        "quantile": _NUMBER,
        "zscore": _AGAINST,
        "ratio": _AGAINST,
        "max_ratio": _AGAINST,
        "percentile": _AGAINST,
        "distinct": _TALLY,
        "mode_share": _TALLY,
        "entropy": _TALLY,
        "repeats": _OWN,
        "share": _OWN,
        "mean_gap": Takes("", True, last=True),
        "std_gap": Takes("", True, last=True),
        "usual_hour": Takes("", True, last=True, zone=True),
        "hour_spread": Takes("", True, last=True, zone=True),
        "hour_shift": Takes("", last=True, zone=True),
        "usual_distance": Takes("", last=True),
        "frauds": Takes("", last=True),
        "labelled": Takes(""),
        "risk": Takes("", last=True),
        "since_fraud": Takes(""),
        "since_first_fraud": Takes(""),
    }

    def __post_init__(self) -> None:
        object.__setattr__(self, "by", _tuple(self.by))
        object.__setattr__(self, "window", _tuple(self.window))
        _check_statistic(self)
        takes = self.STATISTICS[self.statistic]
        _check_value(self, bool(takes.value))
        _check_by(self)
        if not self.window:
            raise InputError(f"{self.statistic}: window must name at least one length, such as 7d; found none")
        for width in self.window:
            parse_duration(width, f"{self.statistic}: window")
        if self.delay is not None:
            parse_duration(self.delay, f"{self.statistic}: delay")
        if not isinstance(self.include_current, bool):
            raise InputError(
                f"{self.statistic}: include_current must be True or False; found {self.include_current!r}; correct it"
            )
        if self.include_current and (self.delay or not takes.include_current):
            why = (
                "the row lies after a delayed window" if takes.include_current else "it tells the row from its history"
            )
            raise InputError(
                f"{self.statistic}: include_current must be left out, because {why}; found true; remove it"
            )
        if self.where is not None:
            if not takes.where:
                raise InputError(
                    f"{self.statistic}: where must be left out; found a condition; use it with count or mean"
                )
            _check_condition(self.statistic, self.where)
        if self.last is not None and not (takes.last and _is_whole(self.last)):
            rule = "a whole number > 0" if takes.last else "left out"
            raise InputError(f"{self.statistic}: last must be {rule}; found {self.last!r}; correct or remove it")
        _check_risk(self)
        if (self.statistic == "quantile") != (self.q is not None) or (
            self.q is not None and not (_is_number(self.q) and 0 <= self.q <= 1)
        ):
            raise InputError(
                f"{self.statistic}: q must be a number from 0 to 1 of quantile, else left out; found {self.q!r}"
            )
        _as_real(self, "q")
        _check_zone(self, takes.zone)

    @property
    def entity(self) -> tuple[str, ...]:
        return self.by

    @property
    def columns(self) -> tuple[str, ...]:
        """The names, a window each: entity, value, statistic, window, then what differs from the default."""
        tail = [f"delay{self.delay}"] if self.delay else []
        tail += ["with_current"] if self.include_current else []
        tail += [f"last{self.last}"] if self.last else []
        tail += [f"empty{_plain(self.empty)}"] if self.empty is not None else []
        tail += [f"prior{_plain(self.prior[0])}_of_{_plain(self.prior[1])}"] if self.prior else []
        tail += [_plain(self.zone)] if self.zone else []
        if self.where:
            column, operator, wanted = self.where
            tail.append(f"where_{column}_{OPERATORS[operator]}_{_plain(wanted)}")
        statistic = self.statistic if self.q is None else "median" if self.q == 0.5 else f"quantile{_plain(self.q)}"
        return tuple(_name(self.by, self.value, statistic, width, *tail) for width in self.window)

    @property
    def requires(self) -> tuple[str, ...]:
        extra = {"usual_distance": PLACE} | dict.fromkeys(_LABELS, ("is_fraud", "label_time"))
        where = self.where[:1] if self.where else ()
        return (*self.by, *_given(self.value), *where, *extra.get(self.statistic, ()))

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """The windows in microseconds."""
        delay = parse_duration(self.delay, "delay") if self.delay else 0
        return tuple(Span(parse_duration(width, "window"), delay, self.include_current) for width in self.window)

    def describe(self, lang: str = "en") -> list[words.Words]:
        return [words.describe_window(self, *pair, lang) for pair in zip(self.columns, self.window)]


@dataclass(frozen=True)
class PastSpec:
    """A statistic over an entity's whole history; one column. Made by `is_new`, `since_last`, `speed` ..."""

    kind: ClassVar[str] = "past"
    statistic: str
    by: str | Sequence[str]  # kept as a tuple
    value: str | None = None
    slack_km: float | None = None
    floor: str | None = None
    half_life: str | None = None
    where: Condition | None = None

    STATISTICS: ClassVar[tuple[str, ...]] = (
        "is_new",
        "since_last",
        "since_first",
        "distance",
        "speed",
        "decayed_count",
        "decayed_total",
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "by", _tuple(self.by))
        _check_statistic(self)
        _check_value(self, self.statistic in ("is_new", "decayed_total"))
        _check_by(self)
        if self.statistic == "speed":
            if not _is_number(self.slack_km) or self.slack_km < 0:
                raise InputError(
                    f"speed: slack_km must be a finite number >= 0; found {self.slack_km!r}; the default is 25"
                )
            _as_real(self, "slack_km")
            parse_duration(self.floor, "speed: floor")  # type: ignore[arg-type]
        elif self.slack_km is not None or self.floor is not None:
            raise InputError(f"{self.statistic}: slack_km and floor belong to speed; found one of them; remove it")
        if self.statistic.startswith("decayed"):
            parse_duration(self.half_life, f"{self.statistic}: half_life")  # type: ignore[arg-type]
            if self.where is not None:
                _check_condition(self.statistic, self.where)
        elif self.half_life is not None or self.where is not None:
            raise InputError(f"{self.statistic}: half_life and where belong to decayed sums; found one; remove it")

    @property
    def entity(self) -> tuple[str, ...]:
        return (*self.by, *_given(self.value)) if self.statistic == "is_new" else self.by

    @property
    def columns(self) -> tuple[str, ...]:
        tail = [f"slack{_plain(self.slack_km)}km"] if self.slack_km not in (None, SLACK_KM) else []
        tail += [f"floor{self.floor}"] if self.floor not in (None, FLOOR) else []
        tail += [f"half{self.half_life}"] if self.half_life else []
        if self.where:
            column, operator, wanted = self.where
            tail.append(f"where_{column}_{OPERATORS[operator]}_{_plain(wanted)}")
        return (_name(self.by, self.value, self.statistic, *tail),)

    @property
    def requires(self) -> tuple[str, ...]:
        places = PLACE if self.statistic in ("distance", "speed") else ()
        return (*self.by, *_given(self.value), *(self.where[:1] if self.where else ()), *places)

    def microseconds(self, name: str) -> int:
        """The parameter `floor` or `half_life` in microseconds."""
        return parse_duration(getattr(self, name), name)

    def describe(self, lang: str = "en") -> list[words.Words]:
        return [words.describe_past(self, self.columns[0], lang)]


@dataclass(frozen=True)
class LinkSpec:
    """A statistic of who hangs together with the payment; one column. Made by `linked` and `linked_frauds`."""

    kind: ClassVar[str] = "link"
    statistic: str
    value: str
    through: str | Sequence[str]  # kept as a tuple

    STATISTICS: ClassVar[tuple[str, ...]] = ("linked", "linked_frauds")
    entity: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "through", _tuple(self.through))
        _check_statistic(self)
        _check_value(self, True)
        for name in self.through:
            _check_column(self.statistic, "through", name)
        if not self.through or len({self.value, *self.through}) < 1 + len(self.through):
            raise InputError(
                f"{self.statistic}: through must name one or more columns other than '{self.value}'; "
                f"found {', '.join(self.through) or 'none'}; name what people share, such as device_id"
            )

    @property
    def value_and_through(self) -> tuple[str, tuple[str, ...]]:
        """What makes the graph."""
        return self.value, self.through

    @property
    def columns(self) -> tuple[str, ...]:
        return (_name((self.value,), self.statistic, f"through_{'_and_'.join(self.through)}"),)

    @property
    def requires(self) -> tuple[str, ...]:
        labels = ("is_fraud", "label_time") if self.statistic == "linked_frauds" else ()
        return (self.value, *self.through, *labels)

    def describe(self, lang: str = "en") -> list[words.Words]:
        return [words.describe_link(self, self.columns[0], lang)]


@dataclass(frozen=True)
class CurrentSpec:
    """A value read from the row alone; one column. Made by `value`, `hour`, `round_amount` ..."""

    kind: ClassVar[str] = "current"
    statistic: str
    value: str | None = None
    step: int | None = None
    zone: str | None = None

    CALENDAR: ClassVar[tuple[str, ...]] = ("hour", "night", "weekday", "weekend", "month_day")
    STATISTICS: ClassVar[tuple[str, ...]] = ("value", "cents", "round", *CALENDAR)
    entity: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        _check_statistic(self)
        _check_value(self, self.statistic in ("value", "cents", "round"))
        if not (_is_whole(self.step) if self.statistic == "round" else self.step is None):
            raise InputError(
                f"{self.statistic}: step must be a whole number > 0 of round, else left out; found {self.step!r}"
            )
        _check_zone(self, self.statistic in self.CALENDAR)

    @property
    def columns(self) -> tuple[str, ...]:
        if self.statistic == "value":
            return (self.value or "",)
        zone = _plain(self.zone) if self.zone else None
        return (_name((), self.value, self.statistic + (str(self.step) if self.step else ""), zone),)

    @property
    def requires(self) -> tuple[str, ...]:
        return _given(self.value)

    def describe(self, lang: str = "en") -> list[words.Words]:
        return [words.describe_current(self, self.columns[0], lang)]


Spec = WindowSpec | PastSpec | LinkSpec | CurrentSpec
_KINDS: dict[str, type[Any]] = {spec.kind: spec for spec in (WindowSpec, PastSpec, LinkSpec, CurrentSpec)}


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


def _check_risk(spec: WindowSpec) -> None:
    if spec.empty is not None and (spec.statistic != "risk" or not _is_number(spec.empty)):
        raise InputError(f"{spec.statistic}: empty must be a finite number of risk, or left out; found {spec.empty}")
    _as_real(spec, "empty")
    if spec.prior is None:
        return
    object.__setattr__(spec, "prior", tuple(spec.prior) if isinstance(spec.prior, list | tuple) else spec.prior)
    pair = isinstance(spec.prior, tuple) and len(spec.prior) == 2 and all(map(_is_number, spec.prior))
    if spec.statistic != "risk" or not pair or not 0 <= spec.prior[0] <= 1 or spec.prior[1] <= 0:
        raise InputError(
            f"{spec.statistic}: prior must be (rate from 0 to 1, strength > 0) of risk, or left out; "
            f"found {spec.prior!r}; (0.01, 20) weighs like 20 labels"
        )
    object.__setattr__(spec, "prior", tuple(map(float, spec.prior)))


def _as_real(spec: Spec, name: str) -> None:
    """Make a number that was given a float: 20 and 20.0 are the same spec, and must have the same digest."""
    if getattr(spec, name) is not None:
        object.__setattr__(spec, name, float(getattr(spec, name)))


def _check_zone(spec: WindowSpec | CurrentSpec, may: bool) -> None:
    if spec.zone is None:
        return
    if not may:
        raise InputError(f"{spec.statistic}: zone must be left out; found {spec.zone!r}; remove it")
    try:
        if spec.zone in ("localtime", "posixrules"):  # what they mean depends on the machine
            raise LookupError
        ZoneInfo(spec.zone)
    except (ValueError, OSError, TypeError, AttributeError, LookupError):
        raise InputError(
            f"{spec.statistic}: zone must be a time zone's name; found {spec.zone!r}; write it like Europe/Berlin"
        ) from None


def _is_whole(given: object) -> bool:
    return isinstance(given, int) and not isinstance(given, bool) and given > 0


def _is_number(given: object) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given)


def _tuple(given: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names as a tuple; what is no sequence is left to the checks that follow, as the only one of it."""
    return tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else (given,)


# What a spec cannot do without, beside what its statistic asks for.
NEEDED = {
    "window": ("statistic", "by", "window"),
    "past": ("statistic", "by"),
    "link": ("statistic", "value", "through"),
    "current": ("statistic",),
}


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
    if missing := [parameter for parameter in NEEDED[name] if parameter not in given]:
        raise InputError(f"features: a {name} spec must give {' and '.join(missing)}; found none; add it")
    return _KINDS[name](**{key: tuple(item) if isinstance(item, list) else item for key, item in given.items()})
