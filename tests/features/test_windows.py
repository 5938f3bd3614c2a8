"""Every statistic against a plain O(n^2) oracle, and the properties that make it safe: order, future, partitions."""

from __future__ import annotations

import datetime
import math
import random
import time
from fractions import Fraction

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraudlab.features import (
    FeatureSet,
    cents,
    count,
    distance,
    distinct,
    engine,
    frauds,
    hour,
    is_new,
    max_ratio,
    mean,
    night,
    ratio,
    risk,
    round_amount,
    since_first,
    since_last,
    speed,
    std,
    total,
    value,
    weekend,
    windows,
    zscore,
)

EVERYTHING = FeatureSet(
    "everything",
    [
        count(by="customer_id", window=["15min", "1h", "1d", "1w"]),
        count(by="customer_id", window="1d", include_current=True),
        count(by="merchant_id", window=["1h", "7d"], delay="1d"),
        count(by=("customer_id", "merchant_id"), window="7d"),
        count(by=("customer_id", "merchant_id", "country"), window="7d", include_current=True),
        count(by="customer_id", window="1d", where=("amount", "<", 3)),
        count(by="device_id", window="1d", where=("auth_result", "!=", "failed"), include_current=True),
        count(by="merchant_id", window="7d", where=("auth_result", "=", "failed"), delay="1h"),
        total("amount", by="customer_id", window=["1h", "7d"]),
        total("amount", by="merchant_id", window="1d", where=("amount", ">=", 3), include_current=True),
        total("latitude", by="merchant_id", window="7d"),
        mean("amount", by="customer_id", window=["1h", "7d"], include_current=True),
        mean("amount", by="merchant_id", window="7d", delay="1h"),
        mean("latitude", by="customer_id", window="7d"),
        std("amount", by="customer_id", window=["1d", "7d"]),
        std("latitude", by="merchant_id", window="7d", include_current=True),
        zscore("amount", by="customer_id", window="7d"),
        zscore("latitude", by="merchant_id", window="7d", delay="1h"),
        ratio("amount", by="customer_id", window="7d"),
        ratio("amount", by="merchant_id", window="1d", delay="1h"),
        max_ratio("amount", by="customer_id", window=["1h", "7d"]),
        max_ratio("latitude", by="merchant_id", window="7d", delay="1h"),
        distinct("merchant_id", by="customer_id", window=["1h", "7d"]),
        distinct("device_id", by="merchant_id", window="7d", include_current=True),
        distinct("customer_id", by="device_id", window="7d", delay="1h", where=("amount", ">", 3)),
        frauds(by="merchant_id", window=["1h", "7d"]),
        frauds(by="customer_id", window="1d", delay="1h"),
        risk(by="merchant_id", window=["1h", "7d"]),
        risk(by="merchant_id", window=["1h", "7d"], delay="1d", empty=0.0),
        risk(by=("merchant_id", "country"), window="7d", delay="1h"),
        is_new("device_id", by="customer_id"),
        is_new("country", by=("customer_id", "merchant_id")),
        since_last(by="customer_id"),
        since_last(by=("customer_id", "merchant_id")),
        since_first(by="device_id"),
        distance(by="customer_id"),
        speed(by="customer_id"),
        speed(by="device_id", slack_km=0, floor="1h"),
        value("amount"),
        cents(),
        round_amount(),
        round_amount("latitude", step=5),
        hour(),
        night(),
        weekend(),
    ],
)
LENGTHS = {"15min": 900, "1h": 3600, "1d": 86_400, "7d": 7 * 86_400, "1w": 7 * 86_400, "1min": 60}
# Exact where the engine promises the nearest float64, close where it promises a stable sum.
CLOSE = {"std", "zscore", "distance", "speed"}


# --- the oracle: rows as dictionaries, every statistic from its definition --------------------------------------------


def missing(item: object) -> bool:
    return item is None or item is pd.NA or item is pd.NaT or item != item


def oracle(rows: list[dict], spec) -> dict[str, list[float]]:
    """Return column -> values for rows that are in the total order, times and label times in whole seconds."""
    names = spec.columns
    widths = spec.window if spec.kind == "window" else [None]
    return {name: [oracle_value(rows, i, spec, width) for i in range(len(rows))] for name, width in zip(names, widths)}


def oracle_value(rows: list[dict], i: int, spec, width: str | None) -> float:
    row = rows[i]
    if spec.kind == "current":
        return oracle_current(row, spec)
    entity = [row[column] for column in spec.by]
    if any(missing(part) for part in entity) or (spec.statistic == "is_new" and missing(row[spec.value])):
        return math.nan
    history = [other for other in rows[:i] if [other[column] for column in spec.by] == entity]
    if spec.kind == "past":
        return oracle_past(row, history, spec)
    delay = LENGTHS[spec.delay] if spec.delay else 0
    end = row["time"] - delay
    start = end - LENGTHS[width]
    chosen = [other for other in history if start < other["time"] <= end]
    if spec.include_current:
        chosen.append(row)
    if spec.where:
        column, operator, wanted = spec.where
        chosen = [other for other in chosen if not missing(other[column]) and meets(other[column], operator, wanted)]
    if spec.statistic == "count":
        return len(chosen)
    if spec.statistic == "distinct":
        return len({other[spec.value] for other in chosen if not missing(other[spec.value])})
    if spec.statistic in ("frauds", "risk"):
        known = [
            other
            for other in chosen
            if not missing(other["is_fraud"])
            and not missing(other["label_time"])
            and max(other["label_time"], other["time"]) <= row["time"]
        ]
        bad = sum(other["is_fraud"] for other in known)
        if spec.statistic == "frauds":
            return bad
        if not known:
            return math.nan if spec.empty is None else spec.empty
        return bad / len(known)
    now = math.nan if missing(row[spec.value]) else row[spec.value]
    values = [other[spec.value] for other in chosen if not missing(other[spec.value])]
    if spec.statistic == "total":
        return math.fsum(values)
    average = math.fsum(values) / len(values) if values else math.nan
    if spec.statistic == "mean":
        return average
    if spec.statistic == "ratio":
        return now / average if average else math.nan
    if spec.statistic == "max_ratio":
        return now / max(values) if values and max(values) else math.nan
    exact = [Fraction(item) for item in values]
    if len(exact) < 2:
        return math.nan
    centre = sum(exact) / len(exact)
    spread = math.sqrt(sum((item - centre) ** 2 for item in exact) / (len(exact) - 1))
    if spec.statistic == "std":
        return spread
    return float(Fraction(now) - centre) / spread if spread and not missing(now) else math.nan


def meets(found: object, operator: str, wanted: object) -> bool:
    return {
        "=": lambda: found == wanted,
        "!=": lambda: found != wanted,
        "<": lambda: found < wanted,
        ">": lambda: found > wanted,
        ">=": lambda: found >= wanted,
    }[operator]()


def oracle_past(row: dict, history: list[dict], spec) -> float:
    if spec.statistic == "is_new":
        return float(all(other[spec.value] != row[spec.value] for other in history))
    if spec.statistic == "since_last":
        return (row["time"] - history[-1]["time"]) / 86_400 if history else math.nan
    if spec.statistic == "since_first":
        return (row["time"] - history[0]["time"]) / 86_400 if history else 0.0
    places = [other for other in history if not missing(other["latitude"]) and not missing(other["longitude"])]
    if not places or missing(row["latitude"]) or missing(row["longitude"]):
        return math.nan
    km = 6371.0088 * angle(unit(places[-1]), unit(row))
    if spec.statistic == "distance":
        return km
    hours = max(row["time"] - places[-1]["time"], LENGTHS[spec.floor]) / 3600
    return max(km - spec.slack_km, 0) / hours


def unit(row: dict) -> np.ndarray:
    north, east = math.radians(row["latitude"]), math.radians(row["longitude"])
    return np.array([math.cos(north) * math.cos(east), math.cos(north) * math.sin(east), math.sin(north)])


def angle(a: np.ndarray, b: np.ndarray) -> float:
    return math.atan2(float(np.linalg.norm(np.cross(a, b))), float(a @ b))


def oracle_current(row: dict, spec) -> float:
    if spec.statistic in ("value", "cents", "round"):
        found = row[spec.value]
        if spec.statistic == "value":
            return math.nan if missing(found) else found
        if missing(found):
            return math.nan
        return round(found * 100) % 100 if spec.statistic == "cents" else float(found % spec.step == 0)
    when = datetime.datetime.fromtimestamp(row["time"], tz=datetime.UTC)
    return {"hour": when.hour, "night": float(when.hour <= 6), "weekend": float(when.weekday() >= 5)}[spec.statistic]


# --- data that is hard on purpose: ties, edges of windows, missing ids, huge amounts ----------------------------------

START = int(datetime.datetime(2026, 1, 2, 22, 0, tzinfo=datetime.UTC).timestamp())
STEPS = [0, 0, 0, 60, 900, 3600, 3600, 86_400, 86_400 - 3600, 7 * 86_400, 31]
AMOUNTS = [0.0, 0.01, 0.1, 0.2, 0.3, 2.99, 3.0, 10.0, 57.16, 57.16, 1 / 3, 123_456_789.12, 1e12]
ROW = st.fixed_dictionaries(
    {
        "step": st.sampled_from(STEPS),
        "customer_id": st.sampled_from(["a", "a", "b", None]),
        "merchant_id": st.sampled_from([7, 7, -3]),
        "device_id": st.sampled_from(["x", "y", None]),
        "country": st.sampled_from(["DE", "US", None]),
        "amount": st.sampled_from(AMOUNTS),
        "auth_result": st.sampled_from(["failed", "passed", None]),
        "latitude": st.sampled_from([50.0, 50.1, -33.9, 90.0, None]),
        "longitude": st.sampled_from([8.0, 8.1, 151.2, -180.0, None]),
        "is_fraud": st.sampled_from([True, False, None]),
        "known_after": st.sampled_from([-60, 0, 60, 3600, 86_400, 90_000, 8 * 86_400, None]),
    }
)
KEYS = st.sampled_from(["str", "object", "category"])


def ordered_rows(drawn: list[dict]) -> list[dict]:
    rows, now = [], START
    for position, item in enumerate(drawn):
        now += item["step"]
        known = None if item["known_after"] is None else now + item["known_after"]
        rows.append({**item, "transaction_id": f"t{position:04d}", "time": now, "label_time": known})
    return rows


def frame_of(rows: list[dict], keys: str = "str") -> pd.DataFrame:
    def moments(name: str) -> pd.Series:
        seconds = pd.Series([row[name] for row in rows], dtype="Int64")
        return pd.to_datetime(seconds, unit="s", utc=True).astype("datetime64[us, UTC]")

    def column(name: str, dtype: str) -> pd.Series:
        return pd.Series([row[name] for row in rows], dtype=dtype)

    return pd.DataFrame(
        {
            "transaction_id": column("transaction_id", "str"),
            "event_time": moments("time"),
            "customer_id": column("customer_id", keys),
            "merchant_id": column("merchant_id", "int64"),
            "device_id": column("device_id", keys),
            "country": column("country", "str"),
            "amount": column("amount", "float64"),
            "auth_result": column("auth_result", keys),
            "latitude": column("latitude", "float64"),
            "longitude": column("longitude", "float64"),
            "is_fraud": column("is_fraud", "boolean"),
            "label_time": moments("label_time"),
        }
    )


def assert_equal_bits(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert list(found.columns) == list(expected.columns)
    differ = found.to_numpy().view(np.int64) != expected.to_numpy().view(np.int64)
    both_nan = found.isna().to_numpy() & expected.isna().to_numpy()
    wrong = (differ & ~both_nan).any(axis=0)
    assert not wrong.any(), list(found.columns[wrong])


@settings(max_examples=120, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=14), KEYS, st.integers(0, 2**32 - 1))
def test_every_statistic_equals_its_definition(drawn, keys, seed):
    rows = ordered_rows(drawn)
    frame = frame_of(rows, keys)
    frame.index = [f"row {position}" for position in range(len(rows))]
    shuffled = frame.sample(frac=1, random_state=seed)
    found = EVERYTHING.compute(shuffled)
    assert found.index.equals(shuffled.index)
    found = found.loc[frame.index]
    for spec in EVERYTHING.specs:
        for name, expected in oracle(rows, spec).items():
            expected = np.array(expected, dtype=float)
            if spec.statistic in CLOSE:
                np.testing.assert_allclose(found[name], expected, rtol=1e-6, atol=1e-6, err_msg=name)
            else:
                np.testing.assert_array_equal(found[name], expected, err_msg=name)


def test_the_oracle_itself_on_a_case_done_by_hand():
    rows = ordered_rows(
        [
            {**dict.fromkeys(["device_id", "country", "auth_result", "latitude", "longitude"]), **row}
            for row in [
                {"step": 0, "customer_id": "a", "merchant_id": 1, "amount": 10.0, "is_fraud": True, "known_after": 60},
                {"step": 60, "customer_id": "a", "merchant_id": 1, "amount": 30.0, "is_fraud": False, "known_after": 0},
                {"step": 0, "customer_id": "a", "merchant_id": 1, "amount": 80.0, "is_fraud": None, "known_after": 0},
                {"step": 3540, "customer_id": "a", "merchant_id": 1, "amount": 5.0, "is_fraud": None, "known_after": 0},
            ]
        ]
    )
    by_hand = {
        # The last row stands exactly one hour after the first, which has therefore left (t - 1h, t].
        "customer_id__count__1h": [0, 1, 2, 2],
        "customer_id__amount__total__1h": [0, 10, 40, 110],
        "customer_id__amount__mean__7d__with_current": [10, 20, 40, 31.25],
        "customer_id__amount__max_ratio__7d": [math.nan, 3, 80 / 30, 5 / 80],
        # The first row's fraud is known after exactly one minute; the second row's own label is not its history.
        "merchant_id__frauds__7d": [0, 1, 1, 1],
        "merchant_id__risk__7d": [math.nan, 1, 0.5, 0.5],
        "customer_id__since_last": [math.nan, 60 / 86_400, 0, 3540 / 86_400],
    }
    found = EVERYTHING.compute(frame_of(rows))
    expected = {name: values for spec in EVERYTHING.specs for name, values in oracle(rows, spec).items()}
    for name, values in by_hand.items():
        np.testing.assert_array_equal(found[name], np.array(values, dtype=float), err_msg=name)
        np.testing.assert_array_equal(expected[name], np.array(values, dtype=float), err_msg=name)


@settings(max_examples=120, deadline=None)
@given(st.lists(ROW, min_size=2, max_size=14), st.lists(ROW, max_size=6), st.data())
def test_rewriting_the_future_moves_no_bit(drawn, later, data):
    rows = ordered_rows(drawn)
    cut = data.draw(st.integers(0, len(rows) - 1), label="last row kept")
    now = rows[cut]["time"]
    kept = [dict(row) for row in rows[: cut + 1]]
    for row in kept:
        # A label not known by `now` is the future too: it may come later, turn, or stay away.
        if not missing(row["label_time"]) and max(row["label_time"], row["time"]) > now:
            row["is_fraud"] = data.draw(st.sampled_from([True, False, None]))
            row["label_time"] = data.draw(st.sampled_from([now + 1, now + 10**6, None]))
    future = ordered_rows(later)
    for position, row in enumerate(future):
        row["time"] += now - START
        row["transaction_id"] = f"u{position:04d}"
        row["label_time"] = None if missing(row["label_time"]) else row["time"] + 60
        row["amount"] = row["amount"] * 7.7 + 1e13 / 3
    before = EVERYTHING.compute(frame_of(rows)).iloc[: cut + 1]
    after = EVERYTHING.compute(frame_of([*kept, *future])).iloc[: cut + 1]
    assert_equal_bits(after, before)


def test_every_bit_is_the_same_in_any_row_order_and_any_partition(transactions, monkeypatch):
    expected = EVERYTHING.compute(transactions)
    shuffled = transactions.sample(frac=1, random_state=3)
    assert_equal_bits(EVERYTHING.compute(shuffled).loc[transactions.index], expected)
    monkeypatch.setattr(engine, "ROWS_PER_PARTITION", 97)
    monkeypatch.setattr(engine, "MANY_ROWS", 0)
    monkeypatch.setattr(windows, "threads", lambda: 3)
    assert_equal_bits(EVERYTHING.compute(transactions), expected)


def test_one_entity_alone_gives_what_it_gives_among_others(transactions):
    one = transactions[transactions["customer_id"] == "c007"]
    customer = FeatureSet("customer", [spec for spec in EVERYTHING.specs if spec.entity[:1] == ("customer_id",)])
    assert len(customer.columns) > 20
    assert_equal_bits(customer.compute(one), customer.compute(transactions).loc[one.index])


def test_counts_sums_and_means_equal_sql_windows(transactions):
    frame = transactions.assign(
        event_time=transactions["event_time"] + pd.to_timedelta(np.arange(len(transactions)), unit="us")
    )  # RANGE takes in later rows of the same moment, so no two rows share one here
    features = FeatureSet(
        "sql",
        [
            count(by="customer_id", window=["1d", "7d"], include_current=True),
            mean("amount", by="customer_id", window=["1d", "7d"], include_current=True),
            total("amount", by="merchant_id", window="30d"),
            count(by="merchant_id", window="7d", delay="7d"),
        ],
    )
    found = features.compute(frame)
    table = frame.assign(event_time=frame["event_time"].dt.tz_localize(None))  # noqa: F841 (read by name in the query)
    day = 86_400_000_000

    def over(by: str, first: int, last: str) -> str:
        return (
            f"OVER (PARTITION BY {by} ORDER BY event_time "
            f"RANGE BETWEEN INTERVAL {first} MICROSECONDS PRECEDING AND {last})"
        )

    expected = duckdb.sql(
        f"""SELECT transaction_id,
            count(*) {over("customer_id", day - 1, "CURRENT ROW")} AS n1,
            count(*) {over("customer_id", 7 * day - 1, "CURRENT ROW")} AS n7,
            avg(amount) {over("customer_id", day - 1, "CURRENT ROW")} AS m1,
            avg(amount) {over("customer_id", 7 * day - 1, "CURRENT ROW")} AS m7,
            coalesce(sum(amount) {over("merchant_id", 30 * day - 1, "INTERVAL 1 MICROSECONDS PRECEDING")}, 0) AS s30,
            count(*) {over("merchant_id", 14 * day - 1, f"INTERVAL {7 * day} MICROSECONDS PRECEDING")} AS d7
        FROM "table" ORDER BY transaction_id"""
    ).df()
    assert expected["n7"].max() > 10
    np.testing.assert_array_equal(found.iloc[:, [0, 1, 5]], expected[["n1", "n7", "d7"]])
    np.testing.assert_allclose(found.iloc[:, 2:5], expected[["m1", "m7", "s30"]], rtol=1e-12, atol=1e-9)


# --- exactness --------------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.floats(-1e15, 1e15).filter(lambda x: x == 0 or abs(x) >= 2**-12),
            st.sampled_from([0.01, 0.1, -0.1, 1e15, -1e15, 2**-12, 2.0**53 + 2]),
        ),
        min_size=1,
        max_size=30,
    ),
    st.data(),
)
def test_window_sums_are_the_nearest_float_to_the_exact_sum(values, data):
    lo = data.draw(st.integers(0, len(values)))
    hi = data.draw(st.integers(lo, len(values)))
    sums = windows.running_sums(np.array(values), np.ones(len(values), bool))
    found = windows.window_sums(*sums, np.array([lo]), np.array([hi]))
    assert found[0] == math.fsum(values[lo:hi])


def test_a_sum_just_above_half_way_rounds_up():
    # 2**53 + 1 lies half way between two floats; the last value, far below the leading 64 bits, decides.
    for values in ([2.0**53, 1.0, 2.0**-12], [-(2.0**53), -1.0, -(2.0**-12)], [2.0**53, 1.0, 0.0]):
        sums = windows.running_sums(np.array(values), np.ones(3, bool))
        assert windows.window_sums(*sums, np.array([0]), np.array([3]))[0] == math.fsum(values)
    assert math.fsum([2.0**53, 1.0, 2.0**-12]) == 2.0**53 + 2


def test_a_huge_amount_leaves_no_trace():
    rows = ordered_rows(
        [
            {
                **dict.fromkeys(["device_id", "country", "auth_result", "latitude", "longitude", "is_fraud"]),
                **{"step": 3600, "customer_id": "a", "merchant_id": 1, "known_after": None},
                "amount": amount,
            }
            for amount in [0.01, 0.02, 1e12, 0.03, 0.01, 0.02, 0.03]
        ]
    )
    features = FeatureSet(
        "trace",
        [
            statistic("amount", by="customer_id", window="150min", include_current=True)
            for statistic in (total, mean, std)
        ],
    )
    found = features.compute(frame_of(rows)).iloc[-2:]
    # The last two windows hold (0.03, 0.01, 0.02) and (0.01, 0.02, 0.03).
    np.testing.assert_array_equal(found.iloc[:, 0], [0.06, 0.06])
    np.testing.assert_array_equal(found.iloc[:, 1], [0.02, 0.02])
    np.testing.assert_allclose(found.iloc[:, 2], [0.01, 0.01], rtol=1e-12)


def test_equal_amounts_have_no_spread_and_no_zscore():
    rows = ordered_rows(
        [
            {
                **dict.fromkeys(["device_id", "country", "auth_result", "latitude", "longitude", "is_fraud"]),
                **{"step": 60, "customer_id": "a", "merchant_id": 1, "known_after": None, "amount": 0.1},
            }
            for _ in range(6)
        ]
    )
    features = FeatureSet(
        "flat", [std("amount", by="customer_id", window="7d"), zscore("amount", by="customer_id", window="7d")]
    )
    found = features.compute(frame_of(rows))
    assert found.iloc[2:, 0].tolist() == [0.0] * 4
    assert found.iloc[:, 1].isna().all()


def test_label_statistics_wait_for_the_label_and_for_the_delay():
    start = pd.Timestamp("2026-01-01", tz="UTC")
    day = pd.Timedelta(days=1)
    frame = pd.DataFrame(
        {
            "transaction_id": range(6),
            "event_time": [start + day * k for k in (0, 1, 2, 3, 10, 10)],
            "merchant_id": 5,
            "is_fraud": pd.array([True, False, True, None, True, False], dtype="boolean"),
            # Known on day 3, 15, 10, never, before its own event (so at the event), at the event.
            "label_time": [start + day * 3, start + day * 15, start + day * 10, pd.NaT, start, start + day * 10],
        }
    )
    features = FeatureSet(
        "labels",
        [
            frauds(by="merchant_id", window="30d"),
            risk(by="merchant_id", window="30d"),
            frauds(by="merchant_id", window="30d", delay="9d"),
            risk(by="merchant_id", window="2d", delay="8d", empty=-1.0),
        ],
    )
    found = features.compute(frame)
    assert found.iloc[:, 0].tolist() == [0, 0, 0, 1, 2, 3]
    np.testing.assert_array_equal(found.iloc[:, 1], [math.nan] * 3 + [1, 1, 1])
    # Nine days back from day 10 lie the rows of days 0 and 1; of these one label is known.
    assert found.iloc[:, 2].tolist() == [0, 0, 0, 0, 1, 1]
    # (day 0, day 2] on day 10: the row of day 2, known just then; on earlier days nothing.
    assert found.iloc[:, 3].tolist() == [-1, -1, -1, -1, 1, 1]


def test_keys_of_every_type_give_the_same_bits(transactions):
    features = FeatureSet("keys", [count(by="customer_id", window="7d"), distinct("customer_id", "device_id", "7d")])
    expected = features.compute(transactions)
    number = transactions["customer_id"].str[1:].astype("int64")
    for keys in (
        number,
        number.astype("int8"),
        number * 10**12,
        number.astype("Int64"),
        number.astype("uint64"),
        transactions["customer_id"].astype("category"),
        transactions["customer_id"].astype("object"),
    ):
        assert_equal_bits(features.compute(transactions.assign(customer_id=keys)), expected)


def test_times_of_any_zone_and_unit_mean_the_same_moment(transactions):
    features = FeatureSet("zones", [hour(), count(by="customer_id", window="1d")])
    expected = features.compute(transactions)
    elsewhere = transactions["event_time"].dt.tz_convert("Asia/Kathmandu")
    for times in (elsewhere, elsewhere.astype("datetime64[ns, Asia/Kathmandu]")):
        assert_equal_bits(features.compute(transactions.assign(event_time=times)), expected)


def test_text_and_number_ids_order_ties_as_sorting_does():
    moment = pd.to_datetime(["2026-01-01"] * 3, utc=True)
    features = FeatureSet("ties", [count(by="customer_id", window="1h")])
    frame = pd.DataFrame({"transaction_id": [10, 9, 100], "event_time": moment, "customer_id": "a"})
    assert features.compute(frame).iloc[:, 0].tolist() == [1, 0, 2]
    frame["transaction_id"] = frame["transaction_id"].astype("str")
    assert features.compute(frame).iloc[:, 0].tolist() == [0, 2, 1]
    frame["transaction_id"] = pd.Categorical(frame["transaction_id"], categories=["9", "10", "100"])
    assert features.compute(frame).iloc[:, 0].tolist() == [0, 2, 1]


def test_a_random_walk_of_sizes_matches_pandas_rolling():
    rng = random.Random(5)
    times, now = [], 0.0
    for _ in range(3000):
        now += rng.expovariate(1 / 3000)
        times.append(now)
    frame = pd.DataFrame(
        {
            "transaction_id": range(3000),
            "event_time": pd.to_datetime(times, unit="s", utc=True).astype("datetime64[us, UTC]"),
            "customer_id": 1,
            "amount": [rng.lognormvariate(3, 1) for _ in range(3000)],
        }
    )
    features = FeatureSet(
        "rolling",
        [
            std("amount", by="customer_id", window=["1d", "30d"], include_current=True),
            max_ratio("amount", by="customer_id", window="7d"),
        ],
    )
    found = features.compute(frame)
    rolled = frame.set_index("event_time")["amount"].rolling
    np.testing.assert_allclose(found.iloc[:, 0], rolled("1D").std(), rtol=1e-9)
    np.testing.assert_allclose(found.iloc[:, 1], rolled("30D").std(), rtol=1e-9)
    before = frame.set_index("event_time")["amount"].rolling("7D", closed="neither").max()
    np.testing.assert_allclose(found.iloc[:, 2], frame["amount"].to_numpy() / before, rtol=1e-12)


# --- the compiled code ------------------------------------------------------------------------------------------------


def test_a_cold_cache_is_announced_once(tmp_path, monkeypatch, caplog):
    class Cached:
        class stats:
            cache_path = str(tmp_path)

    monkeypatch.setattr(windows, "gather_groups", Cached)
    monkeypatch.setattr(windows, "_told", False)
    windows.announce_compilation()
    windows.announce_compilation()
    assert len(caplog.records) == 1
    assert "Compiling the feature kernels" in caplog.text
    (tmp_path / "windows.gather_groups-45.py311.nbi").touch()
    monkeypatch.setattr(windows, "_told", False)
    windows.announce_compilation()
    assert len(caplog.records) == 1


def test_kernels_work_where_no_cache_can_be_written(monkeypatch):
    compile_kernel = windows.numba.njit

    def refuse_cache(**options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return compile_kernel(**options)

    monkeypatch.setattr(windows.numba, "njit", refuse_cache)

    def double(x):
        return 2 * x

    assert windows._kernel(double)(21) == 42


@pytest.mark.slow
def test_time_grows_with_the_rows_not_with_their_square(transactions):
    def repeated(times: int) -> pd.DataFrame:
        parts = [
            transactions.assign(
                transaction_id=transactions["transaction_id"] + k * len(transactions),
                event_time=transactions["event_time"] + pd.Timedelta(days=60 * k),
                label_time=transactions["label_time"] + pd.Timedelta(days=60 * k),
            )
            for k in range(times)
        ]
        return pd.concat(parts, ignore_index=True)

    def seconds(frame: pd.DataFrame) -> float:
        taken = []
        for _ in range(3):
            start = time.process_time()
            EVERYTHING.compute(frame)
            taken.append(time.process_time() - start)
        return min(taken)

    assert seconds(repeated(50)) < 20 * seconds(repeated(5))
