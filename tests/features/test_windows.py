"""Every statistic against a plain O(n^2) oracle, the oracle against cases by hand, and what is promised exactly."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import (
    AMOUNTS,
    DAY,
    EVERYTHING,
    HOUR,
    KEYS,
    KNOWN_AFTER,
    MINUTE,
    SECOND,
    STARTS,
    assert_as_defined,
    assert_equal_bits,
    frame_of,
    oracle,
    ordered_rows,
    payments,
    plain_row,
)

from fraudlab.features import (
    FeatureSet,
    count,
    distinct,
    frauds,
    hour,
    hour_shift,
    hour_spread,
    labelled,
    linked,
    linked_frauds,
    mean,
    median,
    month_day,
    night,
    ratio,
    risk,
    since_fraud,
    std,
    total,
    usual_distance,
    usual_hour,
    weekday,
    weekend,
    zscore,
)
from fraudlab.features.kernels import labels as label_kernels
from fraudlab.features.kernels import program
from fraudlab.features.plan import plan
from fraudlab.features.source import Source
from fraudlab.features.specs import OPERATORS, CurrentSpec, LinkSpec, PastSpec, WindowSpec

NAN = math.nan


def computed(rows: list[dict], *specs) -> list[list[float]]:
    """Return the columns of some specs over rows in the total order."""
    return FeatureSet("here", specs).compute(frame_of(rows)).to_numpy().T.tolist()


# --- against the oracle -----------------------------------------------------------------------------------------------


def check_against_the_oracle(rows: list[dict], keys: str, seed: int) -> None:
    """Compute the rows in any order, under an index that names nothing, and compare each column with its definition."""
    order = np.random.default_rng(seed).permutation(len(rows))
    frame = frame_of(rows, keys).iloc[order]
    frame.index = order % 3
    table = EVERYTHING.compute(frame)
    assert table.index.equals(frame.index)
    found = np.empty(table.shape)
    found[order] = table
    expected = {name: values for spec in EVERYTHING.specs for name, values in oracle(rows, spec).items()}
    for k, name in enumerate(EVERYTHING.columns):
        assert_as_defined(found[:, k], expected[name], name)


CASES = given(payments(), st.sampled_from(KEYS), st.integers(0, 2**32 - 1))


@CASES
def test_every_statistic_equals_its_definition(rows, keys, seed):
    check_against_the_oracle(rows, keys, seed)


@pytest.mark.slow
@settings(max_examples=1000)
@CASES
def test_every_statistic_equals_its_definition_a_thousand_times(rows, keys, seed):
    check_against_the_oracle(rows, keys, seed)


def crowded_rows(seed: int, many: int = 70) -> list[dict]:
    """Rows that fill windows: two customers, small steps, and more ties and edges than Hypothesis draws."""
    draw = random.Random(seed)
    choices = {
        "step": [0, 0, 0, 1, SECOND, MINUTE, MINUTE, 15 * MINUTE, HOUR, HOUR, 12 * HOUR, DAY],
        "customer_id": ["a", "a", "a", "b", None],
        "merchant_id": [7, 7, -3],
        "device_id": ["x", "y", "y", None],
        "country": ["DE", "US", None],
        "amount": AMOUNTS,
        "balance": [-5.25, -0.01, 0.0, 7.5, 7.5, 1e12, -1e12, 0.3, None, None],
        "contactless": [True, False, None],
        "auth_result": ["failed", "passed", None],
        "latitude": [50.0, 50.1, -33.9, 90.0, None],
        "longitude": [8.0, 8.1, 151.2, -180.0, None],
        "is_fraud": [True, False, None],
        "known_after": KNOWN_AFTER,
    }
    drawn = [{name: draw.choice(values) for name, values in choices.items()} for _ in range(many)]
    return ordered_rows(drawn, draw.choice(STARTS), draw.choice([None, None, 0, HOUR, DAY]))


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 60))])
def test_every_statistic_equals_its_definition_in_full_windows(seed):
    check_against_the_oracle(crowded_rows(seed), KEYS[seed % len(KEYS)], seed)


def test_the_oracle_is_asked_about_every_statistic_with_every_option():
    specs = EVERYTHING.specs
    for statistic, takes in WindowSpec.STATISTICS.items():
        of = [spec for spec in specs if isinstance(spec, WindowSpec) and spec.statistic == statistic]
        assert len({spec.by for spec in of}) > 1, statistic
        assert any(spec.delay for spec in of), statistic
        for option in ("include_current", "where", "last", "zone"):
            assert any(getattr(spec, option) for spec in of) == getattr(takes, option), (statistic, option)
    for kind in (PastSpec, LinkSpec, CurrentSpec):
        assert {spec.statistic for spec in specs if isinstance(spec, kind)} == set(kind.STATISTICS)
    assert {len(spec.entity) for spec in specs} >= {0, 1, 2, 3}
    assert {spec.where[1] for spec in specs if getattr(spec, "where", None)} == set(OPERATORS)


# --- by hand ----------------------------------------------------------------------------------------------------------


def test_the_oracle_itself_on_a_case_done_by_hand():
    shared = {"customer_id": "a", "merchant_id": 1}
    rows = ordered_rows(
        [
            plain_row(**shared, step=0, amount=10.0, is_fraud=True, known_after=MINUTE),
            plain_row(**shared, step=MINUTE, amount=30.0, is_fraud=False, known_after=0),
            plain_row(**shared, step=0, amount=80.0, is_fraud=None, known_after=0),
            plain_row(**shared, step=59 * MINUTE, amount=5.0, is_fraud=None, known_after=0),
        ]
    )
    features = {
        # The last row stands exactly one hour after the first, which has therefore left (t - 1h, t].
        count("customer_id", "1h"): [0, 1, 2, 2],
        total("amount", "customer_id", "1h"): [0, 10, 40, 110],
        mean("amount", "customer_id", "7d", include_current=True): [10, 20, 40, 31.25],
        mean("amount", "customer_id", "7d", last=2): [NAN, 10, 20, 55],
        median("amount", "customer_id", "7d"): [NAN, 10, 20, 30],
        # The first row's fraud is known after exactly one minute; the second row's own label is not its history.
        frauds("merchant_id", "7d"): [0, 1, 1, 1],
        labelled("merchant_id", "7d"): [0, 1, 2, 2],
        risk("merchant_id", "7d"): [NAN, 1, 0.5, 0.5],
        risk("merchant_id", "7d", last=1): [NAN, 1, 0, 0],
        risk("merchant_id", "7d", prior=(0.25, 2)): [0.25, 1.5 / 3, 1.5 / 4, 1.5 / 4],
        risk("merchant_id", "7d", prior=(0.25, 2), empty=9.0): [9, 1.5 / 3, 1.5 / 4, 1.5 / 4],
        since_fraud("merchant_id", "7d"): [NAN, 1 / 1440, 1 / 1440, 1 / 24],
        WindowSpec("percentile", "customer_id", "7d", value="amount"): [NAN, 1, 1, 0],
    }
    for (spec, by_hand), found in zip(features.items(), computed(rows, *features)):
        np.testing.assert_array_equal(found, np.array(by_hand, float), err_msg=spec.columns[0])
        assert_as_defined(np.array(by_hand, float), oracle(rows, spec)[spec.columns[0]], spec.columns[0])


def test_the_last_rows_are_those_that_have_a_value_and_meet_the_condition():
    merchants = ["m", None, "n", "m", None, "n", "n"]
    rows = ordered_rows(
        [plain_row(step=MINUTE, device_id=item, amount=float(k), country="DE") for k, item in enumerate(merchants)]
    )
    where = ("amount", "!=", 5)
    found = computed(
        rows,
        distinct("device_id", "customer_id", "7d", last=2),
        distinct("device_id", "customer_id", "7d", last=2, where=where),
        total("amount", "customer_id", "7d", last=2, where=where),
        total("amount", "customer_id", "3min", last=2),
    )
    assert found == [
        [0, 1, 1, 2, 2, 2, 2],
        [0, 1, 1, 2, 2, 2, 2],
        [0, 0, 1, 3, 5, 7, 7],
        [0, 0, 1, 3, 5, 7, 9],
    ]


def test_a_place_that_is_missing_takes_no_place_among_the_last():
    rows = ordered_rows(
        [
            plain_row(step=HOUR, latitude=latitude, longitude=8.0 if latitude is not None else None)
            for latitude in (50.0, 52.0, None, 51.0)
        ]
    )
    degree = 6371.0088 * math.pi / 180
    found = computed(rows, *(usual_distance("customer_id", "7d", last=last) for last in (None, 1, 2)))
    np.testing.assert_allclose(found[0], [NAN, 2 * degree, NAN, 0], atol=1e-6)
    np.testing.assert_allclose(found[1], [NAN, 2 * degree, NAN, degree], atol=1e-6)
    np.testing.assert_allclose(found[2], [NAN, 2 * degree, NAN, 0], atol=1e-6)


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
            labelled(by="merchant_id", window="30d"),
            since_fraud(by="merchant_id", window="30d"),
            since_fraud(by="merchant_id", window="30d", first=True),
            since_fraud(by="merchant_id", window="30d", delay="9d"),
        ],
    )
    found = features.compute(frame)
    assert found.iloc[:, 0].tolist() == [0, 0, 0, 1, 2, 3]
    np.testing.assert_array_equal(found.iloc[:, 1], [NAN] * 3 + [1, 1, 1])
    # Nine days back from day 10 lie the rows of days 0 and 1; of these one label is known.
    assert found.iloc[:, 2].tolist() == [0, 0, 0, 0, 1, 1]
    # (day 0, day 2] on day 10: the row of day 2, known just then; on earlier days nothing.
    assert found.iloc[:, 3].tolist() == [-1, -1, -1, -1, 1, 1]
    assert found.iloc[:, 4].tolist() == [0, 0, 0, 1, 2, 3]
    # On day 10 the latest known fraud is that of day 2, and for the second row of that day the first one's.
    np.testing.assert_array_equal(found.iloc[:, 5], [NAN, NAN, NAN, 3, 8, 0])
    np.testing.assert_array_equal(found.iloc[:, 6], [NAN, NAN, NAN, 3, 10, 10])
    np.testing.assert_array_equal(found.iloc[:, 7], [NAN, NAN, NAN, NAN, 10, 10])


def test_labels_in_the_order_of_rows_and_labels_in_any_order_are_counted_alike():
    draw = random.Random(8)
    specs = [
        spec
        for spec in EVERYTHING.specs
        if spec.statistic in ("frauds", "labelled", "risk", "since_fraud", "since_first_fraud", "linked_frauds")
    ]
    assert len(specs) > 15
    for settled_after, in_order in ((7 * HOUR, True), (0, True), (None, False)):
        rows = ordered_rows(
            [
                plain_row(
                    step=draw.choice([0, 1, HOUR, 3 * HOUR]),
                    customer_id=draw.choice("ab"),
                    merchant_id=draw.choice([7, -3]),
                    device_id=draw.choice("xy"),
                    country="DE",
                    is_fraud=draw.choice([True, False, None]),
                    known_after=draw.choice([HOUR, 2 * DAY, 9 * DAY, None]),
                )
                for _ in range(150)
            ],
            settled_after=settled_after,
        )
        # The kernel's own words about one merchant's labels: settled, or put in order first.
        of_one = [row for row in rows if row["merchant_id"] == 7]
        known = [
            label_kernels.NEVER
            if row["is_fraud"] is None or row["label_time"] is None
            else max(row["label_time"], row["time"])
            for row in of_one
        ]
        enter, by_enter, settled, keys, spare = np.zeros((5, len(of_one)), np.int64)
        time = np.array([row["time"] for row in of_one])
        ends = np.array([0, len(of_one)])
        label_kernels.entering(np.array(known), time, 0, ends, enter, by_enter, settled, keys, spare)
        assert bool(settled[0]) == in_order
        assert (by_enter.tolist() == list(range(len(of_one)))) == in_order

        found = FeatureSet("labels", specs).compute(frame_of(rows))
        for spec in specs:
            for name, values in oracle(rows, spec).items():
                assert_as_defined(found[name], values, name)


def test_labels_that_are_all_known_by_the_delay_are_counted_as_rows_are_and_give_the_same():
    draw = random.Random(3)
    rows = ordered_rows(
        [
            plain_row(
                step=draw.choice([0, 1, HOUR, 3 * HOUR]),
                is_fraud=draw.choice([True, False, None]),
                known_after=draw.choice([None, HOUR, 6 * HOUR, 7 * HOUR]),
            )
            for _ in range(200)
        ]
    )
    specs = [
        make(by="merchant_id", window=["5h", "1d"], delay=delay)
        for make in (frauds, labelled, risk, partial(risk, prior=(0.1, 3)), partial(risk, empty=-1.0))
        for delay in ("7h", "1d")
    ]
    late = {**rows[-1], "transaction_id": "t9999", "merchant_id": -3, "label_time": rows[-1]["time"] + 8 * HOUR}
    found = []
    for frame, counted in ((frame_of(rows), True), (frame_of([*rows, late | {"is_fraud": True}]), False)):
        source = Source(frame, "labels")
        done = plan([spec for spec in specs if "7h" in spec.columns[0]], source.may_miss, source.prompt)
        assert (program.KNOWN_RATE in done.ops[:, 0]) == counted
        assert (program.ENTERING in done.ops[:, 0]) != counted
        found.append(FeatureSet("labels", specs).compute(frame).head(len(rows)))
    assert_equal_bits(found[0], found[1])
    assert found[0].nunique().min() > 3


def test_what_hangs_together_grows_row_by_row():
    links = [
        ("a", "x", True),
        ("b", "y", True),
        ("a", None, None),
        (None, "x", None),
        ("b", "x", None),
        (None, None, None),
    ]
    rows = ordered_rows(
        [
            plain_row(step=HOUR, customer_id=customer, device_id=device, is_fraud=fraud, known_after=2 * HOUR)
            for customer, device, fraud in links
        ]
    )
    found = computed(rows, linked("customer_id", "device_id"), linked_frauds("customer_id", "device_id"))
    # Row 4 joins b and y to a and x; row 5 names nobody. The frauds are known from rows 2 and 3 on.
    assert found == [[1, 1, 1, 1, 2, 0], [0, 0, 1, 1, 2, 0]]


# --- clocks -----------------------------------------------------------------------------------------------------------


def test_the_wall_clock_jumps_where_its_zone_says():
    moments = ["2026-03-29 00:59:59", "2026-03-29 01:00:00", "2026-10-25 00:30:00", "2026-10-25 01:30:00"]
    frame = pd.DataFrame(
        {"transaction_id": range(4), "event_time": pd.to_datetime(moments, utc=True), "customer_id": "a"}
    )
    for times in (frame["event_time"], frame["event_time"].dt.tz_convert("Asia/Tokyo")):
        found = FeatureSet(
            "clock",
            [hour(), hour("Europe/Berlin"), hour("Asia/Kathmandu"), night("Europe/Berlin"), weekday("Europe/Berlin")],
        ).compute(frame.assign(event_time=times))
        assert found.to_numpy().T.tolist() == [
            [0, 1, 0, 1],
            [1, 3, 2, 2],  # there is no 2 o'clock in March, and two of them in October
            [6, 6, 6, 7],
            [1, 1, 1, 1],
            [6, 6, 6, 6],
        ]


def test_the_calendar_holds_at_both_ends_of_time():
    moments = ["0001-01-01", "1900-02-28 23:59:59.999999", "1900-03-01", "1960-02-29", "1969-12-31 23:59", "9999-12-31"]
    times = pd.to_datetime(moments, utc=True, format="ISO8601").astype("datetime64[us, UTC]")
    frame = pd.DataFrame({"transaction_id": range(6), "event_time": times, "customer_id": "a"})
    found = FeatureSet("calendar", [month_day(), weekday(), hour(), weekend()]).compute(frame)
    assert found.to_numpy().T.tolist() == [
        [1, 28, 1, 29, 31, 31],
        [0, 2, 3, 0, 2, 4],
        [0, 23, 0, 0, 23, 0],
        [0, 0, 0, 0, 0, 0],
    ]
    history = FeatureSet("history", [count("customer_id", "36500d")]).compute(frame).iloc[:, 0]
    assert history.tolist() == [0, 0, 1, 2, 3, 0]


def test_usual_hours_go_round_midnight_and_may_have_no_middle():
    def at(*hours: float) -> list[dict]:
        start = STARTS[0] - STARTS[0] % DAY
        rows = ordered_rows([plain_row(customer_id="a") for _ in hours])
        for k, (row, when) in enumerate(zip(rows, hours)):
            row["time"] = start + k * DAY + int(when * HOUR)
        return rows

    specs = [of("customer_id", "30d") for of in (usual_hour, hour_shift, hour_spread)]
    usual, shift, spread = computed(at(23, 1, 22, 6), *specs)
    np.testing.assert_allclose(usual[1:3], [23, 0], atol=1e-9)
    np.testing.assert_allclose(shift[1:3], [2, 2], atol=1e-9)
    assert spread[1] == 0
    # Two directions an hour to each side of midnight: R = cos(15 degrees).
    assert spread[2] == pytest.approx(math.sqrt(-2 * math.log(math.cos(math.pi / 12))) * 12 / math.pi, rel=1e-9)
    for evenly in ((3, 15, 7), (0, 8, 16, 7), (5, 11, 17, 23, 7)):
        assert np.isnan([column[-1] for column in computed(at(*evenly), *specs)]).all()


def test_times_of_any_zone_and_unit_mean_the_same_moment(transactions):
    specs = [hour(), hour("Europe/Berlin"), count("customer_id", "1d"), risk("merchant_id", "30d")]
    features = FeatureSet("zones", [*specs, usual_hour("customer_id", "30d", zone="Europe/Berlin")])
    expected = features.compute(transactions)
    for unit in ("s", "ms", "us", "ns"):
        elsewhere = {
            "event_time": transactions["event_time"].astype(f"datetime64[{unit}, Asia/Kathmandu]"),
            "label_time": transactions["label_time"].astype(f"datetime64[{unit}, America/New_York]"),
        }
        assert_equal_bits(features.compute(transactions.assign(**elsewhere)), expected)


# --- exactness --------------------------------------------------------------------------------------------------------


def test_a_huge_amount_leaves_no_trace():
    amounts = [0.01, 0.02, 1e12, 0.03, 0.01, 0.02, 0.03, 0.1, 0.2]
    features = FeatureSet(
        "trace",
        [of("amount", by="customer_id", window="150min", include_current=True) for of in (total, mean, std, median)]
        + [of("amount", by="customer_id", window="7d", include_current=True, last=3) for of in (total, mean, std)]
        + [of("amount", by="customer_id", window="150min") for of in (zscore, ratio)],
    )
    with_it = features.compute(frame_of(ordered_rows([plain_row(step=HOUR, amount=x) for x in amounts])))
    without = features.compute(frame_of(ordered_rows([plain_row(step=HOUR, amount=x) for x in amounts[3:]])))
    # From the third row after it on, the windows of three rows are as if it had never been.
    assert_equal_bits(with_it.iloc[5:], without.iloc[2:])
    np.testing.assert_array_equal(with_it.iloc[5:7, 0], [0.06, 0.06])
    np.testing.assert_array_equal(with_it.iloc[5:7, 1], [0.02, 0.02])
    np.testing.assert_allclose(with_it.iloc[5:7, 2], [0.01, 0.01], rtol=1e-15)


@given(
    st.lists(
        st.one_of(
            st.integers(-(10**13), 10**13).map(lambda units: units / 100),
            st.floats(-1e15, 1e15).filter(lambda x: x == 0 or abs(x) >= 2**-12),
            st.sampled_from([0.01, 0.1, -0.1, 1e15, -1e15, 2**-12, 2.0**53 + 2, 45_035_996.27, 45_035_996.28]),
        ),
        min_size=1,
        max_size=20,
    ),
    st.integers(1, 20),
)
def test_sums_are_the_nearest_floats_and_deviations_right_to_twelve_digits(values, width):
    rows = ordered_rows([plain_row(step=MINUTE, balance=value) for value in values])
    options = {"include_current": True, "last": width}
    specs = [of("balance", "customer_id", "7d", **options) for of in (total, mean, std)]
    sums, means, spreads = computed(rows, *specs)
    for i in range(len(values)):
        of = values[max(i + 1 - width, 0) : i + 1]
        assert sums[i] == math.fsum(of)
        assert means[i] == math.fsum(of) / len(of)
        if len(of) > 1:
            exact = [Fraction(x) for x in of]
            middle = sum(exact) / len(of)
            expected = math.sqrt(sum((x - middle) ** 2 for x in exact) / (len(of) - 1))
            # Values are taken to 8 decimals, so each may be off by half a unit of the last.
            assert spreads[i] == pytest.approx(expected, rel=1e-12, abs=1e-8)


def test_equal_amounts_have_no_spread_and_no_zscore():
    for amount in (0.1, 1 / 3, 1e12, 123_456_789.123456, 2.0**52 / 1e8):
        rows = ordered_rows([plain_row(step=MINUTE, amount=amount) for _ in range(6)])
        spread, score = computed(
            rows, std("amount", by="customer_id", window="7d"), zscore("amount", by="customer_id", window="7d")
        )
        assert spread[2:] == [0.0] * 4
        assert np.isnan(score).all()


def test_more_conditions_than_a_word_has_bits():
    rows = crowded_rows(3, many=40)
    features = FeatureSet("conditions", [count("merchant_id", "7d", where=("amount", "<", k / 4)) for k in range(150)])
    found = features.compute(frame_of(rows))
    for spec in features.specs:
        assert_as_defined(found[spec.columns[0]], oracle(rows, spec)[spec.columns[0]], spec.columns[0])


def test_a_number_is_compared_with_numbers_and_a_flag_with_flags():
    frame = frame_of(crowded_rows(3, many=40))
    one, true = (("amount", "=", wanted) for wanted in (1, True))
    with pytest.raises(ValueError, match="'amount' must be of the kind compared with"):
        FeatureSet("kinds", [count("customer_id", "7d", where=true)]).compute(frame)
    # Python holds 1 and True for equal; what was found for one must not stand for the other.
    both = FeatureSet("kinds", [count("customer_id", "7d", where=one), count("merchant_id", "7d", where=true)])
    with pytest.raises(ValueError, match="'amount' must be of the kind compared with"):
        both.compute(frame)


# --- keys and ids -----------------------------------------------------------------------------------------------------


def test_keys_of_every_type_give_the_same_bits(transactions):
    features = FeatureSet(
        "keys",
        [
            count(by="customer_id", window="7d"),
            count(by=("customer_id", "merchant_id"), window="30d"),
            distinct("customer_id", "device_id", "7d"),
            linked("customer_id", "device_id"),
        ],
    )
    expected = features.compute(transactions)
    number = transactions["customer_id"].str[1:].astype("int64")
    for keys in (
        number,
        number.astype("int8"),
        number * 10**12,
        number.where(number != 7, -(2**63)),
        number.astype("Int64"),
        number.astype("uint64"),
        number.astype("float64"),
        transactions["customer_id"].astype("category"),
        transactions["customer_id"].astype("category").cat.set_categories(["none", *map("c{:03d}".format, range(90))]),
        transactions["customer_id"].astype("object"),
        transactions["customer_id"].astype("string[pyarrow]"),
        number.astype("object").where(number % 2 == 0, transactions["customer_id"]),
    ):
        assert_equal_bits(features.compute(transactions.assign(customer_id=keys)), expected)


def test_text_and_number_ids_order_ties_as_sorting_does():
    moment = pd.to_datetime(["2026-01-01"] * 3, utc=True)
    features = FeatureSet("ties", [count(by="customer_id", window="1h")])
    frame = pd.DataFrame({"transaction_id": [10, 9, 100], "event_time": moment, "customer_id": "a"})
    assert features.compute(frame).iloc[:, 0].tolist() == [1, 0, 2]
    for dtype in ("Int64", "int16", "object"):
        assert features.compute(frame.astype({"transaction_id": dtype})).iloc[:, 0].tolist() == [1, 0, 2]
    frame["transaction_id"] = frame["transaction_id"].astype("str")
    for dtype in ("str", "object", "string[pyarrow]"):
        assert features.compute(frame.astype({"transaction_id": dtype})).iloc[:, 0].tolist() == [0, 2, 1]
    frame["transaction_id"] = pd.Categorical(frame["transaction_id"], categories=["9", "10", "100"])
    assert features.compute(frame).iloc[:, 0].tolist() == [0, 2, 1]
    large = np.array([2**64 - 1, 2**63, 0], "uint64")
    assert features.compute(frame.assign(transaction_id=large)).iloc[:, 0].tolist() == [2, 1, 0]
