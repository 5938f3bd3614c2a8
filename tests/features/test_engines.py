"""The same numbers from engines that share no line with ours: DuckDB's joins and windows, pandas, numpy slices."""

from __future__ import annotations

import math
import random
import time
from itertools import accumulate

import duckdb
import numpy as np
import pandas as pd
import pytest
from oracle import EVERYTHING, enriched
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from fraudlab.features import (
    FeatureSet,
    count,
    decayed_count,
    decayed_total,
    distinct,
    entropy,
    frauds,
    hour_spread,
    labelled,
    linked,
    linked_frauds,
    max_ratio,
    maximum,
    mean,
    mean_gap,
    median,
    minimum,
    mode_share,
    percentile,
    quantile,
    repeats,
    risk,
    share,
    since_fraud,
    since_last,
    std,
    std_gap,
    total,
    usual_hour,
    zscore,
)

CUSTOMER = {"by": "customer_id", "window": "7d"}
MERCHANT = {"by": "merchant_id", "window": "30d"}
LAST = {"by": "customer_id", "window": "30d", "last": 5, "where": ("country", "=", "DE")}

# --- DuckDB -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tied(transactions) -> pd.DataFrame:
    """The transactions on the full hour, so that many share a moment and only the id tells which came first."""
    return transactions.assign(event_time=transactions["event_time"].dt.floor("h"))


@pytest.fixture(scope="module")
def sql(tied):
    """A database that holds them as `t`, and as `pairs` each row beside the rows of its customer's last seven days."""
    database = duckdb.connect()
    naive = {name: tied[name].dt.tz_localize(None) for name in ("event_time", "label_time")}
    database.register("frame", tied.assign(**naive, is_fraud=tied["is_fraud"].astype("object")))
    database.execute("CREATE TABLE t AS SELECT * FROM frame")
    database.execute(
        """CREATE TABLE pairs AS
        SELECT a.transaction_id AS id, a.event_time AS t, a.amount AS v, a.merchant_id AS own,
               b.transaction_id AS other, b.event_time AS s, b.amount AS x, b.merchant_id AS m
        FROM t AS a JOIN t AS b ON a.customer_id = b.customer_id
             AND (b.event_time, b.transaction_id) < (a.event_time, a.transaction_id)
             AND b.event_time > a.event_time - INTERVAL 7 DAYS"""
    )
    yield database
    database.close()


def assert_equals_sql(
    database, frame: pd.DataFrame, query: str, exact: dict, close: dict, *, empty: float = math.nan
) -> None:
    """Compare specs with the query's columns of the same names, row by row; rows that it lacks hold `empty`."""
    expected = database.execute(query).df().set_index("id").reindex(frame["transaction_id"])
    for specs, rtol in ((exact, 0), (close, 1e-10)):
        for name, spec in specs.items():
            found = FeatureSet("sql", [spec]).compute(frame).iloc[:, 0]
            wanted = expected[name].astype("float64").fillna(empty)
            assert wanted.nunique() > 3, name
            np.testing.assert_allclose(found, wanted, rtol=rtol, atol=rtol, err_msg=name)


def test_a_self_join_gives_the_same_numbers(sql, tied):
    assert tied.duplicated(["customer_id", "event_time"]).sum() > 50
    assert_equals_sql(
        sql,
        tied,
        """SELECT id, avg(x) AS mean, stddev_samp(x) AS std, min(x) AS minimum, max(x) AS maximum,
                  quantile_cont(x, 0.5) AS median, quantile_cont(x, 0.9) AS high, quantile_cont(x, 0.1) AS low,
                  any_value(v) / max(x) AS max_ratio,
                  CASE WHEN stddev_samp(x) > 0 THEN (any_value(v) - avg(x)) / stddev_samp(x) END AS zscore,
                  avg(CASE WHEN x < v THEN 1 WHEN x = v THEN 0.5 ELSE 0 END) AS percentile,
                  avg((m = own)::INT) AS share, entropy(m) AS entropy,
                  date_diff('microsecond', min(s), max(s)) / 86400e6 / nullif(count(*) - 1, 0) AS mean_gap
           FROM pairs GROUP BY id""",
        exact={
            "minimum": minimum("amount", **CUSTOMER),
            "maximum": maximum("amount", **CUSTOMER),
            "max_ratio": max_ratio("amount", **CUSTOMER),
        },
        close={
            "mean": mean("amount", **CUSTOMER),
            "std": std("amount", **CUSTOMER),
            "median": median("amount", **CUSTOMER),
            "high": quantile("amount", 0.9, **CUSTOMER),
            "low": quantile("amount", 0.1, **CUSTOMER),
            "zscore": zscore("amount", **CUSTOMER),
            "percentile": percentile("amount", **CUSTOMER),
            "share": share("merchant_id", **CUSTOMER),
            "entropy": entropy("merchant_id", **CUSTOMER),
            "mean_gap": mean_gap(**CUSTOMER),
        },
    )
    assert_equals_sql(
        sql,
        tied,
        """SELECT id, count(*) AS count, sum(x) AS total, count(DISTINCT m) AS "distinct",
                  sum((m = own)::INT) AS repeats
           FROM pairs GROUP BY id""",
        exact={
            "count": count(**CUSTOMER),
            "distinct": distinct("merchant_id", **CUSTOMER),
            "repeats": repeats("merchant_id", **CUSTOMER),
        },
        close={"total": total("amount", **CUSTOMER)},
        empty=0,
    )


def test_the_most_frequent_value_and_the_gaps_by_sql(sql, tied):
    assert_equals_sql(
        sql,
        tied,
        "SELECT id, max(n) / sum(n) AS mode FROM (SELECT id, m, count(*) AS n FROM pairs GROUP BY ALL) GROUP BY id",
        exact={"mode": mode_share("merchant_id", **CUSTOMER)},
        close={},
    )
    assert_equals_sql(
        sql,
        tied,
        """SELECT id, stddev_samp(gap) AS gap FROM (
               SELECT id, date_diff('microsecond', lag(s) OVER (PARTITION BY id ORDER BY s, other), s) / 86400e6 AS gap
               FROM pairs)
           GROUP BY id HAVING stddev_samp(gap) IS NOT NULL""",
        exact={},
        close={"gap": std_gap(**CUSTOMER)},
    )


def test_hours_by_sql(sql, tied):
    query = """SELECT id, avg(sin(hour(s) * pi() / 12)) AS y, avg(cos(hour(s) * pi() / 12)) AS x
               FROM pairs GROUP BY id"""
    means = sql.execute(query).df().set_index("id").reindex(tied["transaction_id"])
    length = np.hypot(means["x"], means["y"]).to_numpy()
    found = FeatureSet("hours", [usual_hour(**CUSTOMER), hour_spread(**CUSTOMER)]).compute(tied).to_numpy()
    clear = length > 1e-5  # below, the hours have no mean
    assert clear.sum() > 3500
    usual = (np.arctan2(means["y"], means["x"]) * 12 / np.pi % 24).to_numpy()
    apart = np.abs(found[:, 0] - usual)[clear]
    assert np.minimum(apart, 24 - apart).max() < 1e-6
    wide = length < 1 - 1e-6
    spread = np.sqrt(-2 * np.log(length)) * 12 / np.pi
    np.testing.assert_allclose(found[clear & wide, 1], spread[clear & wide], rtol=1e-5)
    np.testing.assert_array_equal(np.isnan(found[:, 1]), ~(length > 1e-6))


def test_the_latest_rows_by_sql(sql, tied):
    assert_equals_sql(
        sql,
        tied,
        """SELECT id, avg(x) AS mean, sum(x) AS total, max(x) AS maximum, entropy(m) AS entropy FROM (
               SELECT a.transaction_id AS id, b.amount AS x, b.merchant_id AS m, row_number() OVER (
                   PARTITION BY a.transaction_id ORDER BY b.event_time DESC, b.transaction_id DESC) AS k
               FROM t AS a JOIN t AS b ON a.customer_id = b.customer_id AND b.country = 'DE'
                    AND (b.event_time, b.transaction_id) < (a.event_time, a.transaction_id)
                    AND b.event_time > a.event_time - INTERVAL 30 DAYS)
           WHERE k <= 5 GROUP BY id""",
        exact={"maximum": maximum("amount", **LAST)},
        close={"mean": mean("amount", **LAST), "entropy": entropy("merchant_id", **LAST)},
    )


@pytest.mark.parametrize("delay", [0, 3])
@pytest.mark.parametrize("last", [None, 4])
def test_labels_known_by_then_by_sql(sql, tied, delay, last):
    # A label known at the very moment counts: its row comes before the present one, whose own label is not asked.
    options = {**MERCHANT, "delay": f"{delay}d" if delay else None}
    sql.execute(
        f"""CREATE OR REPLACE TABLE known AS
        SELECT a.transaction_id AS id, a.event_time AS t, b.event_time AS s, b.is_fraud::INT AS bad
        FROM t AS a JOIN t AS b ON a.merchant_id = b.merchant_id
             AND (b.event_time, b.transaction_id) < (a.event_time, a.transaction_id)
             AND b.event_time <= a.event_time - INTERVAL {delay} DAYS
             AND b.event_time > a.event_time - INTERVAL {30 + delay} DAYS
             AND greatest(b.label_time, b.event_time) <= a.event_time
        QUALIFY row_number() OVER (PARTITION BY a.transaction_id ORDER BY b.event_time DESC, b.transaction_id DESC)
             <= {last or 10**6}"""
    )
    counts = {"bad": frauds(**options, last=last)} | ({} if last else {"n": labelled(**options)})
    query = "SELECT id, sum(bad) AS bad, count(*) AS n FROM known GROUP BY id"
    assert_equals_sql(sql, tied, query, exact=counts, close={}, empty=0)
    query = """SELECT id, sum(bad) / count(*) AS risk, (sum(bad) + 0.01 * 20) / (count(*) + 20) AS drawn
               FROM known GROUP BY id"""
    assert_equals_sql(sql, tied, query, exact={"risk": risk(**options, last=last)}, close={})
    drawn = {"drawn": risk(**options, last=last, prior=(0.01, 20))}
    assert_equals_sql(sql, tied, query, exact={}, close=drawn, empty=0.01)
    if last is None:
        query = """SELECT id, date_diff('microsecond', max(s), any_value(t)) / 86400e6 AS latest,
                          date_diff('microsecond', min(s), any_value(t)) / 86400e6 AS earliest
                   FROM known WHERE bad = 1 GROUP BY id"""
        since = {"latest": since_fraud(**options), "earliest": since_fraud(**options, first=True)}
        assert_equals_sql(sql, tied, query, exact=since, close={})


def test_window_functions_give_the_same_numbers(transactions):
    frame = transactions.assign(
        event_time=transactions["event_time"] + pd.to_timedelta(np.arange(len(transactions)), unit="us")
    )  # RANGE takes in later rows of the same moment, so no two rows share one here
    with_current = {"by": "customer_id", "window": ["1d", "7d"], "include_current": True}
    features = FeatureSet(
        "sql",
        [
            count(**with_current),
            minimum("amount", **with_current),
            maximum("amount", **with_current),
            distinct("merchant_id", **with_current),
            count(by="merchant_id", window="7d", delay="7d"),
            mean("amount", **with_current),
            std("amount", **with_current),
            median("amount", **with_current),
            total("amount", by="merchant_id", window="30d"),
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

    one, week = (over("customer_id", days * day - 1, "CURRENT ROW") for days in (1, 7))
    earlier = over("merchant_id", 30 * day - 1, "INTERVAL 1 MICROSECONDS PRECEDING")
    delayed = over("merchant_id", 14 * day - 1, f"INTERVAL {7 * day} MICROSECONDS PRECEDING")
    columns = [
        f"{function} {window}"
        for function in ("count(*)", "min(amount)", "max(amount)", "count(DISTINCT merchant_id)")
        for window in (one, week)
    ]
    columns += [f"count(*) {delayed}"]
    columns += [
        f"{function} {window}"
        for function in ("avg(amount)", "stddev_samp(amount)", "quantile_cont(amount, 0.5)")
        for window in (one, week)
    ]
    columns += [f"coalesce(sum(amount) {earlier}, 0)"]
    expected = duckdb.sql(f'SELECT {", ".join(columns)} FROM "table" ORDER BY transaction_id').df().to_numpy(float)
    assert expected[:, 1].max() > 10
    np.testing.assert_array_equal(found.iloc[:, :9], expected[:, :9])
    np.testing.assert_allclose(found.iloc[:, 9:], expected[:, 9:], rtol=1e-11, atol=1e-9)


# --- pandas and numpy, on groups with many rows -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_history() -> pd.DataFrame:
    """Five thousand payments of one customer in cents, times a few minutes apart and often tied."""
    rng = random.Random(5)
    moments = accumulate(rng.choice([0, 0, 1, 60, 600, 3600]) for _ in range(5000))
    return pd.DataFrame(
        {
            "transaction_id": range(5000),
            "event_time": pd.to_datetime([1_767_225_600 + s for s in moments], unit="s", utc=True),
            "customer_id": 1,
            "merchant_id": [int(rng.paretovariate(0.4)) % 300 for _ in range(5000)],
            "amount": [round(rng.lognormvariate(3, 1), 2) for _ in range(5000)],
        }
    )


WIDTHS = {"15min": "15min", "1d": "1D", "3650d": "3650D"}


@pytest.mark.parametrize("width", WIDTHS)
def test_long_histories_equal_pandas_rolling(long_history, width):
    # With the row itself, pandas' window (t - w, t] ends at the row's position: of tied rows it too takes the earlier.
    options = {"by": "customer_id", "window": width, "include_current": True}
    rolled = long_history.set_index("event_time")["amount"].rolling(WIDTHS[width])
    exact = {
        count(**options): rolled.count(),
        minimum("amount", **options): rolled.min(),
        maximum("amount", **options): rolled.max(),
    }
    close = {
        total("amount", **options): rolled.sum(),
        mean("amount", **options): rolled.mean(),
        std("amount", **options): rolled.std(),
        median("amount", **options): rolled.median(),
        quantile("amount", 0.9, **options): rolled.quantile(0.9),
        quantile("amount", 0.01, **options): rolled.quantile(0.01),
    }
    found = FeatureSet("rolling", [*exact, *close]).compute(long_history).to_numpy().T
    for values, (spec, expected) in zip(found, (exact | close).items()):
        # pandas adds and takes away floats, which drifts.
        rtol = 0 if spec in exact else 1e-8
        np.testing.assert_allclose(values, expected, rtol=rtol, atol=rtol, err_msg=spec.columns[0])


@pytest.mark.parametrize("width", WIDTHS)
def test_long_histories_equal_slices(long_history, width):
    options = {"by": "customer_id", "window": width}
    specs = [
        std("amount", **options),
        quantile("amount", 0.37, **options),
        percentile("amount", **options),
        distinct("merchant_id", **options),
        entropy("merchant_id", **options),
        mode_share("merchant_id", **options),
        share("merchant_id", **options),
        std_gap(**options),
    ]
    found = FeatureSet("slices", specs).compute(long_history).to_numpy()
    merchant = long_history["merchant_id"].to_numpy()
    amount = long_history["amount"].to_numpy()
    units = np.rint(amount * 100).astype(int).tolist()
    sums = [0, *accumulate(units)]
    squares = [0, *accumulate(unit * unit for unit in units)]
    seconds = (long_history["event_time"] - long_history["event_time"].iloc[0]).dt.total_seconds().to_numpy()
    days = {"15min": 1 / 96, "1d": 1, "3650d": 3650}[width]
    for i in (*range(60), *range(60, 5000, 7)):
        lo = int(np.searchsorted(seconds[:i], seconds[i] - days * 86_400, side="right"))
        n = i - lo
        expected = np.full(8, np.nan)
        expected[3] = 0
        if n > 1:
            # Whole cents: nothing is rounded before the root.
            around = n * (squares[i] - squares[lo]) - (sums[i] - sums[lo]) ** 2
            expected[0] = math.sqrt(around / (n * (n - 1))) / 100
        if n > 0:
            expected[1] = np.quantile(amount[lo:i], 0.37)
            expected[2] = np.mean(amount[lo:i] < amount[i]) + np.mean(amount[lo:i] == amount[i]) / 2
            often = np.unique(merchant[lo:i], return_counts=True)[1]
            expected[3] = often.size
            expected[4] = -np.sum(often / n * np.log2(often / n)) + 0.0
            expected[5] = often.max() / n
            expected[6] = np.mean(merchant[lo:i] == merchant[i])
        if n > 2:
            expected[7] = np.std(np.diff(seconds[lo:i]), ddof=1) / 86_400
        # Entropy adds n log2(n) in units of 2**-32.
        rtol = np.where(np.arange(8) == 4, 1e-10, 1e-12)
        same = np.isclose(found[i], expected, rtol=rtol, atol=0, equal_nan=True)
        assert same.all(), (i, found[i], expected)


def test_decayed_sums_equal_those_of_all_earlier_rows(long_history):
    frame = long_history.head(1500)
    seconds = (frame["event_time"] - frame["event_time"].iloc[0]).dt.total_seconds().to_numpy()
    weight = np.tril(0.5 ** ((seconds[:, None] - seconds) / 7200), -1)
    found = FeatureSet(
        "decay", [decayed_count("customer_id", "2h"), decayed_total("amount", "customer_id", "2h")]
    ).compute(frame)
    np.testing.assert_allclose(found.iloc[:, 0], weight.sum(axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.iloc[:, 1], weight @ frame["amount"].to_numpy(), rtol=1e-12)


def test_what_hangs_together_equals_components_of_the_rows_so_far(transactions):
    frame = transactions.head(1200).assign(device_id=lambda rows: rows["device_id"].where(rows.index % 3 > 0))
    features = FeatureSet(
        "links",
        [
            linked("customer_id", ["device_id", "merchant_id"]),
            linked_frauds("customer_id", ["device_id"]),
            linked("customer_id", ["device_id"]),
        ],
    )
    found = features.compute(frame)
    codes = {name: pd.factorize(frame[name])[0] for name in ("customer_id", "device_id", "merchant_id")}
    known = frame[["label_time", "event_time"]].max(axis=1)

    def components(last: int, *names: str) -> np.ndarray:
        """Return the component of each row up to `last`; rows and values are the nodes."""
        first, second, start = [], [], last + 1
        for name in names:
            code = codes[name][: last + 1]
            first.append(np.flatnonzero(code >= 0))
            second.append(code[code >= 0] + start)
            start += codes[name].max() + 1
        edges = np.concatenate(first), np.concatenate(second)
        return connected_components(coo_matrix((np.ones(edges[0].size), edges), (start, start)))[1][: last + 1]

    for i in range(0, len(frame), 23):
        for column, names in ((0, ("customer_id", "device_id", "merchant_id")), (2, ("customer_id", "device_id"))):
            component = components(i, *names)
            together = frame["customer_id"].iloc[: i + 1][component == component[i]]
            assert found.iloc[i, column] == together.nunique()
        seen = (known <= frame["event_time"].iloc[i]) & frame["is_fraud"]
        assert found.iloc[i, 1] == (component[:i] == component[i])[seen.iloc[:i].to_numpy(bool)].sum()
    assert found.iloc[:, 1].max() > 5
    assert 1 < found.iloc[:, 2].max() < found.iloc[:, 0].max()


# --- time -------------------------------------------------------------------------------------------------------------


def seconds_for(features: FeatureSet, frame: pd.DataFrame) -> float:
    """Return the least time of three, on whatever else the machine does."""
    features.compute(frame.head(100))
    taken = []
    for _ in range(3):
        start = time.process_time()
        features.compute(frame)
        taken.append(time.process_time() - start)
    return min(taken)


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
        return enriched(pd.concat(parts, ignore_index=True))

    assert seconds_for(EVERYTHING, repeated(50)) < 20 * seconds_for(EVERYTHING, repeated(5))


@pytest.mark.slow
def test_many_rows_of_one_moment_are_put_in_order_quickly():
    # Days without a clock, as many published tables have them, and ids in any order.
    ids = np.random.default_rng(0).permutation(100_000)
    frame = pd.DataFrame(
        {"transaction_id": ids, "event_time": pd.Timestamp("2026-01-01", tz="UTC"), "customer_id": ids % 1000}
    )
    assert seconds_for(FeatureSet("ties", [since_last("customer_id")]), frame) < 1
