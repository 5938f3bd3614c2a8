"""Every statistic of the features from its definition, row by row, and payments that are hard on purpose.

Nothing here knows how the engine works: rows are dictionaries in the total order, times whole microseconds, and each
value is made anew from the rows before it. `EVERYTHING` holds every statistic with every option that it takes.
"""

from __future__ import annotations

import datetime
import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from fraudlab.features import (
    FeatureSet,
    cents,
    count,
    decayed_count,
    decayed_total,
    distance,
    hour,
    is_new,
    linked,
    linked_frauds,
    month_day,
    night,
    round_amount,
    since_first,
    since_last,
    speed,
    value,
    weekday,
    weekend,
)
from fraudlab.features.specs import CurrentSpec, LinkSpec, PastSpec, Spec, WindowSpec

SECOND = 1_000_000
MINUTE, HOUR, DAY = 60 * SECOND, 3600 * SECOND, 86_400 * SECOND
UNITS = {"s": SECOND, "min": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
EARTH_KM = 6371.0088
Row = dict[str, Any]


class Close(NamedTuple):
    """A number that floats can only come near to, and how near they must; on a circle of length `around`, if any."""

    value: float
    slack: float
    around: float = math.inf


# --- every statistic with every option --------------------------------------------------------------------------------

ENTITIES: tuple[str | tuple[str, ...], ...] = (
    "customer_id",
    "merchant_id",
    "customer_id",
    "device_id",
    "merchant_id",
    ("customer_id", "merchant_id"),
    "customer_id",
    ("merchant_id", "country", "device_id"),
)
CONDITIONS = (
    ("amount", "<", 3),
    ("auth_result", "!=", "failed"),
    ("amount", ">=", 3),
    ("balance", ">", 0),
    ("auth_result", "=", "failed"),
    ("contactless", "=", True),
    ("country", "!=", "DE"),
    ("amount", "<=", 57.16),
    ("contactless", "!=", True),
    ("balance", "=", 7.5),
    ("merchant_id", "!=", 7),
)


def _variants(statistic: str) -> Iterator[dict[str, Any]]:
    """Yield each set of options that matters for a window statistic; what is chosen within them goes round."""
    takes = WindowSpec.STATISTICS[statistic]
    options = [{}, {"delay": True}]
    options += [{"include_current": True}] if takes.include_current else []
    options += [{"where": True}, {"where": True, "delay": True}] if takes.where else []
    options += [{"where": True, "include_current": True}] if takes.where and takes.include_current else []
    options += [{"last": True}, {"last": True, "delay": True}] if takes.last else []
    options += [{"last": True, "where": True}] if takes.last and takes.where else []
    options += [{"last": True, "include_current": True}] if takes.last and takes.include_current else []
    options += [{"zone": True}, {"zone": True, "last": True}] if takes.zone else []
    if statistic == "risk":
        options += [{"empty": 0.0}, {"prior": (0.01, 20)}, {"prior": (0.5, 0.25), "empty": -1.0, "last": True}]
    if statistic == "quantile":
        options = [{**option, "q": True} for option in options * 2]
    yield from options


def _window_specs() -> Iterator[WindowSpec]:
    rounds = {
        "by": itertools.cycle(ENTITIES),
        "number": itertools.cycle(["amount", "balance", "amount", "latitude"]),
        "any": itertools.cycle(["merchant_id", "device_id", "amount", "country", "balance"]),
        "window": itertools.cycle(["7d", "1h", "1d", "30d", "15min", "36500d"]),
        "where": itertools.cycle(CONDITIONS),
        "last": itertools.cycle([2, 1, 3, 5]),
        "delay": itertools.cycle(["1h", "1d", "15min", "1h", "1s"]),
        "zone": itertools.cycle(["Europe/Berlin", "Asia/Kathmandu", "America/St_Johns"]),
        "q": itertools.cycle([0.5, 0.9, 0.5, 0.25, 0, 0.5, 1, 1 / 3]),
    }
    for statistic, takes in WindowSpec.STATISTICS.items():
        for options in _variants(statistic):
            chosen = {
                name: next(rounds[name]) if found is True and name != "include_current" else found
                for name, found in options.items()
            }
            if takes.value:
                chosen["value"] = next(rounds[takes.value])
            windows = ("1h", "7d") if not options else next(rounds["window"])
            yield WindowSpec(statistic, next(rounds["by"]), windows, **chosen)


EVERYTHING = FeatureSet(
    "everything",
    [
        *{spec.columns: spec for spec in _window_specs()}.values(),
        count(by="customer_id", window=["15min", "2h", "1d", "1w"], include_current=True),
        count(by=("customer_id", "merchant_id", "country"), window="7d", include_current=True),
        count(by=("merchant_id", "customer_id"), window=["1h", "7d"]),
        is_new("device_id", by="customer_id"),
        is_new("country", by=("customer_id", "merchant_id")),
        is_new("balance", by="merchant_id"),
        since_last(by="customer_id"),
        since_last(by=("customer_id", "merchant_id")),
        since_first(by="device_id"),
        since_first(by=("customer_id", "merchant_id", "country")),
        distance(by="customer_id"),
        speed(by="customer_id"),
        speed(by="device_id", slack_km=0, floor="1h"),
        decayed_count(by="customer_id", half_life="1h"),
        decayed_count(by="merchant_id", half_life="7d", where=("auth_result", "!=", "failed")),
        decayed_total("amount", by="customer_id", half_life="1d"),
        decayed_total("balance", by=("merchant_id", "country"), half_life="1h"),
        decayed_total("balance", by="merchant_id", half_life="15min", where=("amount", "<", 3)),
        linked("customer_id", through="device_id"),
        linked("customer_id", through=["device_id", "country"]),
        linked("device_id", through=["customer_id", "merchant_id", "balance"]),
        linked_frauds("customer_id", through="device_id"),
        linked_frauds("device_id", through=["customer_id", "country"]),
        value("amount"),
        value("balance"),
        cents(),
        cents("balance"),
        round_amount(),
        round_amount("latitude", step=5),
        *(
            make(zone)
            for make in (hour, night, weekday, weekend, month_day)
            for zone in (None, "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns")
        ),
    ],
)


# --- the oracle -------------------------------------------------------------------------------------------------------


def missing(item: object) -> bool:
    return item is None or item is pd.NA or item is pd.NaT or item != item


def microseconds(text: str) -> int:
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    return int(number) * UNITS[text[len(number) :]]


def oracle(rows: list[Row], spec: Spec) -> dict[str, list[float | Close]]:
    """Return column -> values of rows that are in the total order."""
    if isinstance(spec, CurrentSpec):
        return {spec.columns[0]: [_current(row, spec) for row in rows]}
    if isinstance(spec, LinkSpec):
        return {spec.columns[0]: _links(rows, spec)}
    histories = _histories(rows, spec)
    if isinstance(spec, PastSpec):
        return {spec.columns[0]: [_past(rows[i], history, spec) for i, history in enumerate(histories)]}
    return {
        name: [_window(rows[i], history, spec, microseconds(width)) for i, history in enumerate(histories)]
        for name, width in zip(spec.columns, spec.window)
    }


def _histories(rows: list[Row], spec: WindowSpec | PastSpec) -> list[list[Row] | None]:
    """Return for each row the earlier rows of its entity, None where a part of the entity is missing."""
    found = []
    for i, row in enumerate(rows):
        entity = [row[column] for column in spec.by]
        lacking = any(missing(part) for part in entity)
        found.append(None if lacking else [old for old in rows[:i] if [old[column] for column in spec.by] == entity])
    return found


def _window(row: Row, history: list[Row] | None, spec: WindowSpec, width: int) -> float | Close:
    if history is None:
        return math.nan
    end = row["time"] - (microseconds(spec.delay) if spec.delay else 0)
    chosen = [old for old in history if end - width < old["time"] <= end]
    if spec.include_current:
        chosen.append(row)
    if spec.where:
        chosen = [old for old in chosen if meets(old, spec.where)]
    # What a statistic cannot use does not count, nor does it take one of the `last` places.
    if spec.value:
        chosen = [old for old in chosen if not missing(old[spec.value])]
    if spec.statistic == "usual_distance":
        chosen = [old for old in chosen if placed(old)]
    if spec.statistic in LABELS:
        chosen = [old for old in chosen if label_known(old, row["time"])]
    if spec.last:
        chosen = chosen[-spec.last :]
    return WINDOW[spec.statistic](row, chosen, spec)


def meets(row: Row, where: tuple) -> bool:
    column, operator, wanted = where
    found = row[column]
    if missing(found):
        return False
    compare: dict[str, Callable[[Any, Any], bool]] = {
        "=": lambda a, b: a == b,
        "!=": lambda a, b: a != b,
        "<": lambda a, b: a < b,
        "<=": lambda a, b: a <= b,
        ">": lambda a, b: a > b,
        ">=": lambda a, b: a >= b,
    }
    return compare[operator](found, wanted)


def placed(row: Row) -> bool:
    return not missing(row["latitude"]) and not missing(row["longitude"])


def label_known(row: Row, now: int) -> bool:
    """Return whether the row's label is known at `now`; the row must come before the one that asks."""
    if missing(row["is_fraud"]) or missing(row["label_time"]):
        return False
    return max(row["label_time"], row["time"]) <= now


def _numbers(rows: list[Row], spec: WindowSpec) -> list[float]:
    return [row[spec.value] for row in rows]


def _own(row: Row, spec: WindowSpec) -> Any:
    return math.nan if missing(row[spec.value]) else row[spec.value]


def _mean(x: list[float]) -> float:
    return math.fsum(x) / len(x) if x else math.nan


@functools.lru_cache(maxsize=1000)
def in_units(number: float) -> int:
    """Return a value in units of 1e-8: the decimals that a standard deviation takes."""
    return round(Fraction(number) * 10**8)


def exact_std(x: list[float]) -> float:
    """Return the sample standard deviation, NaN below two values: whole numbers until the root."""
    n = len(x)
    if n < 2:
        return math.nan
    whole = [in_units(number) for number in x]
    return math.sqrt(Fraction(n * sum(w * w for w in whole) - sum(whole) ** 2, n * (n - 1))) / 1e8


def _std(row: Row, rows: list[Row], spec: WindowSpec) -> Close:
    found = exact_std(_numbers(rows, spec))
    return Close(found, 1e-12 * abs(found))


def _zscore(row: Row, rows: list[Row], spec: WindowSpec) -> float | Close:
    x, now = _numbers(rows, spec), _own(row, spec)
    spread = exact_std(x)
    if not spread > 0 or missing(now):
        return math.nan
    found = (now - _mean(x)) / spread
    # Two floats are subtracted: what both are wrong by is divided by the spread.
    return Close(found, 1e-12 * abs(found) + 4e-16 * (abs(now) + abs(_mean(x))) / spread)


def _ratio(row: Row, rows: list[Row], spec: WindowSpec) -> float:
    average = _mean(_numbers(rows, spec))
    return _own(row, spec) / average if average else math.nan


def _max_ratio(row: Row, rows: list[Row], spec: WindowSpec) -> float:
    largest = max(_numbers(rows, spec), default=0)
    return _own(row, spec) / largest if largest else math.nan


def _quantile(row: Row, rows: list[Row], spec: WindowSpec) -> float | Close:
    x = _numbers(rows, spec)
    if not x:
        return math.nan
    found = float(np.quantile(x, spec.q, method="linear"))
    if spec.q * (len(x) - 1) % 1 == 0:
        return found  # one of the values itself
    return Close(found, 1e-12 * max(map(abs, x)))


def _percentile(row: Row, rows: list[Row], spec: WindowSpec) -> float:
    x, now = _numbers(rows, spec), _own(row, spec)
    if not x or missing(now):
        return math.nan
    return (sum(number < now for number in x) + sum(number == now for number in x) / 2) / len(x)


def _entropy(row: Row, rows: list[Row], spec: WindowSpec) -> float | Close:
    n = len(rows)
    often = Counter(_numbers(rows, spec)).values()
    if len(often) < 2:
        return 0.0 if often else math.nan
    found = -math.fsum(k / n * math.log2(k / n) for k in often)
    return Close(found, 1e-9 * found)


def _repeats(row: Row, rows: list[Row], spec: WindowSpec) -> float:
    now = _own(row, spec)
    return math.nan if missing(now) else sum(found == now for found in _numbers(rows, spec))


def _gaps(rows: list[Row]) -> list[int]:
    return [late["time"] - early["time"] for early, late in itertools.pairwise(rows)]


def _mean_gap(row: Row, rows: list[Row], spec: WindowSpec) -> float | Close:
    gaps = _gaps(rows)
    if not gaps:
        return math.nan
    found = float(Fraction(sum(gaps), len(gaps) * DAY))
    return Close(found, 1e-15 * found)


def _std_gap(row: Row, rows: list[Row], spec: WindowSpec) -> float | Close:
    gaps, n = _gaps(rows), len(rows) - 1
    if n < 2:
        return math.nan
    found = math.sqrt(Fraction(n * sum(gap * gap for gap in gaps) - sum(gaps) ** 2, n * (n - 1))) / DAY
    return Close(found, 1e-12 * found)


def wall_clock(row: Row, zone: str | None) -> datetime.datetime:
    moment = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(microseconds=row["time"])
    return moment.astimezone(ZoneInfo(zone) if zone else datetime.UTC)


def clock_hour(row: Row, zone: str | None) -> float:
    when = wall_clock(row, zone)
    return when.hour + when.minute / 60 + (when.second + when.microsecond / SECOND) / 3600


def _hours(row: Row, rows: list[Row], spec: WindowSpec) -> float | Close:
    """Circular statistics of the hour: the mean of directions on a clock face of 24 hours."""
    if not rows:
        return math.nan
    faces = [clock_hour(old, spec.zone) * math.pi / 12 for old in rows]
    x, y = (math.fsum(map(of, faces)) / len(faces) for of in (math.cos, math.sin))
    together = math.hypot(x, y)
    if together < 1e-6:  # evenly round the clock: no mean
        return math.nan
    if spec.statistic == "hour_spread":
        # Where all are nearly alike the root makes much of the last digits: what R may be wrong by goes through it too.
        spreads = [math.sqrt(-2 * math.log(min(1.0, together + by))) * 12 / math.pi for by in (-2e-11, 0, 2e-11)]
        return Close(spreads[1], max(spreads[0] - spreads[1], spreads[1] - spreads[2], 1e-12))
    usual, slack = math.atan2(y, x) * 12 / math.pi % 24, 1e-11 / together
    if spec.statistic == "usual_hour":
        return Close(usual, slack, 24)
    away = abs(clock_hour(row, spec.zone) - usual)
    return Close(min(away, 24 - away), slack)


def unit(row: Row) -> np.ndarray:
    north, east = math.radians(row["latitude"]), math.radians(row["longitude"])
    return np.array([math.cos(north) * math.cos(east), math.cos(north) * math.sin(east), math.sin(north)])


def kilometres(a: np.ndarray, b: np.ndarray) -> Close:
    """The great circle between two directions by the angle's tangent, which is right for near and far ones alike."""
    km = EARTH_KM * math.atan2(float(np.linalg.norm(np.cross(a, b))), float(a @ b))
    return Close(km, 1e-6 + 1e-9 * km if km < 20_000 else 1e-2)  # a haversine loses half its digits near the antipodes


def _usual_distance(row: Row, rows: list[Row], spec: WindowSpec) -> float | Close:
    if not rows or not placed(row):
        return math.nan
    middle = sum(unit(old) for old in rows) / len(rows)
    if np.linalg.norm(middle) < 1e-6:  # evenly round the earth: no middle
        return math.nan
    km = kilometres(middle, unit(row))
    return Close(km.value, km.slack / float(np.linalg.norm(middle)))


def _risk(row: Row, rows: list[Row], spec: WindowSpec) -> float:
    rate, strength = spec.prior or (0, 0)
    if not rows:
        return spec.empty if spec.empty is not None else rate if spec.prior else math.nan
    return (sum(old["is_fraud"] for old in rows) + rate * strength) / (len(rows) + strength)


def _since_fraud(row: Row, rows: list[Row], spec: WindowSpec) -> float:
    frauds = [old["time"] for old in rows if old["is_fraud"]]
    which = 0 if spec.statistic == "since_first_fraud" else -1
    return (row["time"] - frauds[which]) / DAY if frauds else math.nan


LABELS = ("frauds", "labelled", "risk", "since_fraud", "since_first_fraud")
WINDOW: dict[str, Callable[[Row, list[Row], WindowSpec], float | Close]] = {
    "count": lambda row, rows, spec: len(rows),
    "total": lambda row, rows, spec: math.fsum(_numbers(rows, spec)),
    "mean": lambda row, rows, spec: _mean(_numbers(rows, spec)),
    "std": _std,
    "minimum": lambda row, rows, spec: min(_numbers(rows, spec), default=math.nan),
    "maximum": lambda row, rows, spec: max(_numbers(rows, spec), default=math.nan),
    "quantile": _quantile,
    "zscore": _zscore,
    "ratio": _ratio,
    "max_ratio": _max_ratio,
    "percentile": _percentile,
    "distinct": lambda row, rows, spec: len(set(_numbers(rows, spec))),
    "mode_share": lambda row, rows, spec: max(Counter(_numbers(rows, spec)).values()) / len(rows) if rows else math.nan,
    "entropy": _entropy,
    "repeats": _repeats,
    "share": lambda row, rows, spec: _repeats(row, rows, spec) / len(rows) if rows else math.nan,
    "mean_gap": _mean_gap,
    "std_gap": _std_gap,
    "usual_hour": _hours,
    "hour_spread": _hours,
    "hour_shift": _hours,
    "usual_distance": _usual_distance,
    "frauds": lambda row, rows, spec: sum(old["is_fraud"] for old in rows),
    "labelled": lambda row, rows, spec: len(rows),
    "risk": _risk,
    "since_fraud": _since_fraud,
    "since_first_fraud": _since_fraud,
}


def _past(row: Row, history: list[Row] | None, spec: PastSpec) -> float | Close:
    if history is None or (spec.statistic == "is_new" and missing(row[spec.value])):
        return math.nan
    if spec.statistic == "is_new":
        return float(all(old[spec.value] != row[spec.value] for old in history))
    if spec.statistic == "since_last":
        return (row["time"] - history[-1]["time"]) / DAY if history else math.nan
    if spec.statistic == "since_first":
        return (row["time"] - history[0]["time"]) / DAY if history else 0.0
    if spec.statistic.startswith("decayed"):
        return _decayed(row, history, spec)
    places = [old for old in history if placed(old)]
    if not places or not placed(row):
        return math.nan
    km = kilometres(unit(places[-1]), unit(row))
    if spec.statistic == "distance":
        return km
    hours = max(row["time"] - places[-1]["time"], microseconds(spec.floor)) / HOUR
    return Close(max(km.value - spec.slack_km, 0) / hours, km.slack / hours)


def _decayed(row: Row, history: list[Row], spec: PastSpec) -> float | Close:
    parts = [
        (old[spec.value] if spec.value else 1.0) * 0.5 ** ((row["time"] - old["time"]) / microseconds(spec.half_life))
        for old in history
        if (not spec.where or meets(old, spec.where)) and not (spec.value and missing(old[spec.value]))
    ]
    # After a thousand half-lives next to nothing is left, and floats that small have few digits.
    return Close(math.fsum(parts), 1e-12 * math.fsum(map(abs, parts)) + 1e-300) if parts else 0.0


def _links(rows: list[Row], spec: LinkSpec) -> list[float]:
    """Components of the graph of rows and of what they name, made anew from the rows up to each one."""
    names = (spec.value, *spec.through)
    values = sorted({(name, str(row[name])) for row in rows for name in names if not missing(row[name])})
    number = {node: len(rows) + k for k, node in enumerate(values)}
    found = []
    for i, row in enumerate(rows):
        edges = [
            (j, number[name, str(old[name])])
            for j, old in enumerate(rows[: i + 1])
            for name in names
            if not missing(old[name])
        ]
        first, second = np.array(edges, int).reshape(-1, 2).T
        size = len(rows) + len(values)
        component = connected_components(coo_matrix((np.ones(len(edges)), (first, second)), (size, size)))[1]
        if spec.statistic == "linked":
            members = {node for node in values if node[0] == spec.value and component[number[node]] == component[i]}
            found.append(len(members))
        else:
            frauds = [j for j, old in enumerate(rows[:i]) if label_known(old, row["time"]) and old["is_fraud"]]
            found.append(sum(component[j] == component[i] for j in frauds))
    return found


def _current(row: Row, spec: CurrentSpec) -> float:
    if spec.value is not None:
        found = row[spec.value]
        if missing(found):
            return math.nan
        if spec.statistic == "cents":
            return round(found * 100) % 100
        return found if spec.statistic == "value" else float(found % spec.step == 0)
    when = wall_clock(row, spec.zone)
    return {
        "hour": when.hour,
        "night": float(when.hour <= 6),
        "weekday": when.weekday(),
        "weekend": float(when.weekday() >= 5),
        "month_day": when.day,
    }[spec.statistic]


def assert_as_defined(found: pd.Series | np.ndarray, expected: list[float | Close], name: str) -> None:
    """Compare a column with the oracle's values: those that are plain numbers exactly, others within their slack."""
    wanted = np.array([item.value if isinstance(item, Close) else item for item in expected], float)
    slack = np.array([item.slack if isinstance(item, Close) else 0 for item in expected], float)
    around = np.array([item.around if isinstance(item, Close) else math.inf for item in expected], float)
    found = np.asarray(found, float)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted), err_msg=f"{name}: missing")
    off = np.abs(found - wanted)
    wrong = np.flatnonzero(np.minimum(off, around - off) > slack)
    assert not wrong.size, f"{name}: rows {wrong}: found {found[wrong]}, expected {wanted[wrong]}"


# --- payments that are hard on purpose: ties, edges of windows, missing ids, huge amounts, labels in any order --------


def _moment(*parts: int) -> int:
    return int(datetime.datetime(*parts, tzinfo=datetime.UTC).timestamp()) * SECOND


# A winter's Friday night; the nights in which Berlin's and St John's clocks change; before the epoch.
STARTS = [
    _moment(2026, 1, 2, 22, 0),
    _moment(2026, 3, 28, 23, 30),
    _moment(2025, 10, 25, 23, 30),
    _moment(2026, 3, 8, 4, 29),
    _moment(1969, 12, 30, 23, 59),
]
STEPS = [0, 0, 0, 1, MINUTE, 15 * MINUTE, HOUR, HOUR, 12 * HOUR, DAY, DAY - HOUR, 7 * DAY, 31 * SECOND]
AMOUNTS = [0.0, 0.01, 0.1, 0.2, 0.3, 2.99, 3.0, 10.0, 57.16, 57.16, 1 / 3, 123_456_789.12, 1e12]
KNOWN_AFTER = [-MINUTE, 0, MINUTE, HOUR, DAY, 25 * HOUR, 8 * DAY, None]
ROW = st.fixed_dictionaries(
    {
        "step": st.sampled_from(STEPS),
        "customer_id": st.sampled_from(["a", "a", "b", None]),
        "merchant_id": st.sampled_from([7, 7, -3]),
        "device_id": st.sampled_from(["x", "y", "y", None]),
        "country": st.sampled_from(["DE", "US", None]),
        "amount": st.sampled_from(AMOUNTS),
        "balance": st.sampled_from([-5.25, -0.01, 0.0, 7.5, 7.5, 1e12, -1e12, 0.3, None, None]),
        "contactless": st.sampled_from([True, False, None]),
        "auth_result": st.sampled_from(["failed", "passed", None]),
        "latitude": st.sampled_from([50.0, 50.1, -33.9, 90.0, None]),
        "longitude": st.sampled_from([8.0, 8.1, 151.2, -180.0, None]),
        "is_fraud": st.sampled_from([True, False, None]),
        "known_after": st.sampled_from(KNOWN_AFTER),
    }
)
# All labels after the same time, as where a bank waits for complaints, or each after its own.
SETTLED_AFTER = st.sampled_from([None, None, 0, HOUR, DAY, 8 * DAY])


def ordered_rows(drawn: list[Row], start: int = STARTS[0], settled_after: int | None = None) -> list[Row]:
    """Return drawn rows in the total order, their times and label times made from the steps between them."""
    rows, now = [], start
    for position, item in enumerate(drawn):
        now += item["step"]
        after = item["known_after"] if settled_after is None else settled_after
        known = None if after is None else now + after
        rows.append({**item, "transaction_id": f"t{position:04d}", "time": now, "label_time": known})
    return rows


@st.composite
def payments(draw: st.DrawFn, min_size: int = 1, max_size: int = 14) -> list[Row]:
    drawn = draw(st.lists(ROW, min_size=min_size, max_size=max_size))
    return ordered_rows(drawn, draw(st.sampled_from(STARTS)), draw(SETTLED_AFTER))


def plain_row(**given: Any) -> Row:
    """Return a row as drawn, where only what is given is known."""
    names = ("device_id", "country", "balance", "contactless", "auth_result", "latitude", "longitude", "is_fraud")
    empty = dict.fromkeys(names)
    return {**empty, "step": 0, "customer_id": "a", "merchant_id": 7, "amount": 1.0, "known_after": None, **given}


# Types that ids come in; each keeps the order of ids, none of them matters for keys.
KEYS = ("str", "object", "category", "Int64", "float64")
NUMBER_OF = {"a": 10**12, "b": -5, "x": 3, "y": 4, 7: 7, -3: -3}


def frame_of(rows: list[Row], keys: str = "str") -> pd.DataFrame:
    def moments(name: str) -> pd.Series:
        return pd.to_datetime(pd.Series([row[name] for row in rows], dtype="Int64"), unit="us", utc=True).astype(
            "datetime64[us, UTC]"
        )

    def column(name: str, dtype: str) -> pd.Series:
        return pd.Series([row[name] for row in rows], dtype=dtype)

    def key(name: str) -> pd.Series:
        if keys in ("Int64", "float64"):
            numbers = [None if missing(row[name]) else NUMBER_OF.get(row[name], row[name]) for row in rows]
            return pd.Series(numbers, dtype=keys)
        return column(name, keys)

    numbered = keys in ("Int64", "float64")
    ids = pd.Series([int(row["transaction_id"][1:]) * 3 - 5 for row in rows], dtype="int64")
    return pd.DataFrame(
        {
            "transaction_id": ids if numbered else column("transaction_id", keys),
            "event_time": moments("time"),
            "customer_id": key("customer_id"),
            "merchant_id": column("merchant_id", "Int64" if keys == "Int64" else "int64"),
            "device_id": key("device_id"),
            "country": column("country", "str" if numbered else keys),
            "amount": column("amount", "float64"),
            "balance": column("balance", "Float64" if numbered else "float64"),
            "contactless": column("contactless", "object" if keys == "object" else "boolean"),
            "auth_result": column("auth_result", "str" if numbered else keys),
            "latitude": column("latitude", "float64"),
            "longitude": column("longitude", "float64"),
            "is_fraud": column("is_fraud", "object" if keys == "object" else "boolean"),
            "label_time": moments("label_time"),
        }
    )


def enriched(transactions: pd.DataFrame, seed: int = 4) -> pd.DataFrame:
    """Return transactions in a tenth of the time, on the quarter of an hour, with all that `EVERYTHING` needs.

    So windows are full and many rows tie; keys, values, places and labels are missing here and there.
    """
    rng = np.random.default_rng(seed)
    rows = len(transactions)
    start = transactions["event_time"].min().floor("D")
    moment = (start + (transactions["event_time"] - start) / 10).dt.floor("15min").astype("datetime64[us, UTC]")
    later = pd.to_timedelta(rng.integers(-1, 40, rows) * 3, unit="h")
    return transactions.assign(
        event_time=moment,
        customer_id=transactions["customer_id"].where(rng.random(rows) > 0.02),
        device_id=transactions["device_id"].where(rng.random(rows) > 0.2),
        country=transactions["country"].where(rng.random(rows) > 0.1),
        merchant_id=transactions["merchant_id"].str[1:].astype("int64") % 8,
        amount=transactions["amount"].where(rng.random(rows) > 0.15, np.round(3 * rng.random(rows), 1)),
        balance=np.round(rng.normal(0, 1e4, rows), 2) * (rng.random(rows) < 0.5) + 7.5,
        contactless=pd.array(rng.random(rows) < 0.5, dtype="boolean"),
        auth_result=transactions["auth_result"].where(rng.random(rows) > 0.2),
        latitude=transactions["latitude"].where(rng.random(rows) > 0.1),
        is_fraud=transactions["is_fraud"].mask(rng.random(rows) < 0.1),
        label_time=(moment + later).astype("datetime64[us, UTC]").mask(rng.random(rows) < 0.1),
    ).pipe(lambda frame: frame.assign(balance=frame["balance"].where(rng.random(rows) > 0.2)))


def assert_equal_bits(found: pd.DataFrame | np.ndarray, expected: pd.DataFrame | np.ndarray) -> None:
    """Compare two tables bit by bit; any NaN equals any other."""
    names = list(found.columns) if isinstance(found, pd.DataFrame) else None
    if names is not None and isinstance(expected, pd.DataFrame):
        assert names == list(expected.columns)
    found, expected = np.array(found), np.array(expected)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    whole = f"i{found.dtype.itemsize}"
    differ = (found.view(whole) != expected.view(whole)) & ~(np.isnan(found) & np.isnan(expected))
    wrong = np.flatnonzero(differ.any(axis=0))
    assert not wrong.size, [names[k] if names else k for k in wrong]
