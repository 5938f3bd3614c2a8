"""The competitors' recipes for the book's 12 window features, each the fastest form found, and what they start from.

Every recipe starts from its library's own structure in memory (a Polars frame, a DuckDB table, a pandas frame) and ends
with a table of the 12 columns in the caller's row order. Making that structure is not timed.

Ties. fraudlab orders payments of one second by their id; a RANGE window of the others cannot. So they are given a time
of their own per entity, `moments`: the payment's time plus its rank among the entity's payments of that second, in
microseconds. Times come in whole seconds (`half_step` finds the step), so a window that is half a second shorter holds
the same rows: a payment exactly `w` ago has left whatever its rank, one a second later has not. With that, every row
can be compared, ties included, and nobody pays for it: neither clock nor window gets slower.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fraudlab.features import FeatureSet
from fraudlab.features.sets import HANDBOOK

DAY = 86_400_000_000  # microseconds
DAYS = (1, 7, 30)
DELAY = 7
BOOK_12 = FeatureSet("book-12", HANDBOOK.specs[3:])


@dataclass(frozen=True)
class Recipe:
    """One way to compute the features: `run` is timed, `columns` turns its result into arrays, untimed."""

    run: Callable[[], Any]
    columns: Callable[[Any], dict[str, np.ndarray]]


def half_step(time: np.ndarray) -> int:
    """Return half of the largest step that all times are multiples of, in microseconds; refuse steps below 1 ms."""
    step = int(np.gcd.reduce(time)) if len(time) else 0
    if step < 1000:
        raise SystemExit("benchmarks: times must come in whole milliseconds or seconds, so that ties can be told apart")
    return step // 2


def moments(time: np.ndarray, entity: np.ndarray, half: int) -> np.ndarray:
    """Return the times plus, in microseconds, each row's rank among its entity's rows of that time.

    Rows are in the total order; a negative entity is none.
    """
    rank = pd.DataFrame({"entity": entity, "time": time}).groupby(["entity", "time"]).cumcount().to_numpy()
    if len(rank) and rank[entity >= 0].max(initial=0) >= half:
        raise SystemExit("benchmarks: too many payments of one entity at one time to tell them apart")
    return time + rank


def ties(frame: pd.DataFrame) -> dict[str, int]:
    """Count the rows that share entity and time with another."""
    return {
        name: int(frame.duplicated([name, "event_time"], keep=False).sum()) for name in ("customer_id", "merchant_id")
    }


def microseconds(values: pd.Series) -> np.ndarray:
    """Return times as whole microseconds."""
    return values.dt.as_unit("us").astype("int64").to_numpy()


def book_recipes(frame: pd.DataFrame, *, tell_ties: bool = True) -> dict[str, Recipe]:
    """Return every recipe of the 12 features for a frame of the book's shape in the total order.

    The frame's labels are all known exactly `DELAY` days later, as in the book. Without `tell_ties` the competitors get
    the plain times, so that rows of one second see each other.
    """
    base = _book_base(frame, tell_ties)
    recipes = {"fraudlab": Recipe(lambda: BOOK_12.compute(frame), dict_of_columns)}
    with contextlib.suppress(ImportError):
        recipes |= _book_polars(base)
    with contextlib.suppress(ImportError):
        recipes |= _book_duckdb(base)
    return recipes


def dict_of_columns(table: pd.DataFrame) -> dict[str, np.ndarray]:
    return {name: table[name].to_numpy() for name in table.columns}


def _book_base(frame: pd.DataFrame, tell_ties: bool) -> dict[str, Any]:
    time = microseconds(frame["event_time"])
    half = half_step(time)
    customer, merchant = (pd.factorize(frame[name])[0].astype(np.int32) for name in ("customer_id", "merchant_id"))
    return {
        "half": half,
        "row": np.arange(len(frame)),
        "customer": customer,
        "merchant": merchant,
        "customer_time": moments(time, customer, half) if tell_ties else time,
        "merchant_time": moments(time, merchant, half) if tell_ties else time,
        "amount": frame["amount"].to_numpy(np.float64),
        "fraud": frame["is_fraud"].to_numpy(np.int32),
    }


def _book_polars(base: dict[str, Any]) -> dict[str, Recipe]:
    """Return three forms: as a person would write it, one pass over the groups for all windows, packed integers.

    Tried and slower: `DataFrame.rolling(group_by=).agg` (2-3 times), `group_by().agg().explode()` (2 times), sorting by
    entity first (1.5-4 times), running sums with `join_asof` (3 times), the streaming engine (the same).
    """
    import polars as pl

    half = base["half"]
    amount = base["amount"]
    cents = np.rint(amount * 100)
    frame = pl.DataFrame({name: values for name, values in base.items() if name not in ("half", "row")}).with_columns(
        pl.col("customer_time", "merchant_time").cast(pl.Datetime("us")),
        one=pl.lit(1, pl.Int32),
        # A count and a sum of whole numbers share one 64-bit sum.
        count_and_cents=pl.Series(cents.astype(np.int64) * 2**20 + 1),
        count_and_frauds=pl.Series(base["fraud"].astype(np.int64) * 2**32 + 1),
    )
    # Amounts may be off their cent by a last bit, which no mean shows; what is packed must fit.
    whole = np.allclose(cents / 100, amount, rtol=1e-14, atol=0) and len(amount) * cents.max(initial=1) < 2**42

    def sums(value: str, clock: str, days: int) -> Any:
        return pl.col(value).rolling_sum_by(clock, f"{days * DAY - half}us")

    def customer_columns() -> list[Any]:
        counts = [sums("one", "customer_time", days).alias(f"cn{days}") for days in DAYS]
        means = [
            pl.col("amount").rolling_mean_by("customer_time", f"{days * DAY - half}us").alias(f"cm{days}")
            for days in DAYS
        ]
        return counts + means

    def merchant_columns() -> list[Any]:
        return [
            sums(value, "merchant_time", DELAY + days).alias(f"{short}{days}")
            for days in (0, *DAYS)
            for value, short in (("one", "n"), ("fraud", "f"))
        ]

    def finish(lazy: Any) -> Any:
        """Give counts and means their names; a delayed window is the long one less the delay."""
        counts = {days: pl.col(f"n{days}") - pl.col("n0") for days in DAYS}
        frauds = {days: pl.col(f"f{days}") - pl.col("f0") for days in DAYS}
        shares = {days: pl.when(counts[days] == 0).then(0.0).otherwise(frauds[days] / counts[days]) for days in DAYS}
        found = [pl.col(f"cn{days}") for days in DAYS] + [pl.col(f"cm{days}") for days in DAYS]
        found += [counts[days] for days in DAYS] + [shares[days] for days in DAYS]
        return lazy.select(column.alias(name) for name, column in zip(BOOK_12.columns, found)).collect()

    def plain() -> Any:
        return finish(
            frame.lazy().select(
                *(column.over("customer") for column in customer_columns()),
                *(column.over("merchant") for column in merchant_columns()),
            )
        )

    def grouped() -> Any:
        return finish(
            frame.lazy()
            .select(
                pl.struct(customer_columns()).over("customer").alias("customer"),
                pl.struct(merchant_columns()).over("merchant").alias("merchant"),
            )
            .unnest("customer", "merchant")
        )

    def packed() -> Any:
        low20, low32 = 2**20 - 1, 2**32 - 1
        lazy = frame.lazy().select(
            *(sums("count_and_cents", "customer_time", days).over("customer").alias(f"c{days}") for days in DAYS),
            *(
                sums("count_and_frauds", "merchant_time", DELAY + days).over("merchant").alias(f"m{days}")
                for days in (0, *DAYS)
            ),
        )
        lazy = lazy.with_columns((pl.col(f"m{days}") - pl.col("m0")).alias(f"m{days}") for days in DAYS)
        counts = [pl.col(f"c{days}") & low20 for days in DAYS]
        means = [pl.col(f"c{days}").floordiv(2**20) / 100 / (pl.col(f"c{days}") & low20) for days in DAYS]
        delayed = {days: pl.col(f"m{days}") & low32 for days in DAYS}
        shares = [
            pl.when(delayed[days] == 0).then(0.0).otherwise(pl.col(f"m{days}").floordiv(2**32) / delayed[days])
            for days in DAYS
        ]
        found = [*counts, *means, *delayed.values(), *shares]
        return lazy.select(column.alias(name) for name, column in zip(BOOK_12.columns, found)).collect()

    def columns(result: Any) -> dict[str, np.ndarray]:
        return {name: result[name].to_numpy() for name in result.columns}

    recipes = {"polars": Recipe(plain, columns), "polars, all windows in one pass": Recipe(grouped, columns)}
    if whole:
        recipes["polars, packed integers"] = Recipe(packed, columns)
    return recipes


def _book_duckdb(base: dict[str, Any]) -> dict[str, Recipe]:
    """Return the RANGE windows, one named window per frame, into a table ordered as the caller's rows.

    Times are whole numbers, which is a little faster than timestamps with intervals. Tried and not faster: fetching to
    numpy or Arrow and ordering there, `sum / count` instead of `avg`, a query per entity, running sums with ASOF JOIN.
    """
    import duckdb

    half = base["half"]
    connection = duckdb.connect()
    connection.execute("SET enable_progress_bar = false")
    table = pd.DataFrame({name: values for name, values in base.items() if name != "half"})
    connection.register("given", table)
    connection.execute("CREATE TABLE payments AS SELECT * FROM given")
    connection.unregister("given")
    frames, found = [], []
    for days in DAYS:
        frames.append(
            f"c{days} AS (PARTITION BY customer ORDER BY customer_time "
            f"RANGE BETWEEN {days * DAY - half - 1} PRECEDING AND CURRENT ROW)"
        )
        frames.append(
            f"m{days} AS (PARTITION BY merchant ORDER BY merchant_time "
            f"RANGE BETWEEN {(DELAY + days) * DAY - half - 1} PRECEDING AND {DELAY * DAY - half} PRECEDING)"
        )
    for expression in (
        "count(*) OVER c{}",
        "avg(amount) OVER c{}",
        "count(*) OVER m{}",
        "coalesce(avg(fraud) OVER m{}, 0)",
    ):
        found += [expression.format(days) for days in DAYS]
    named = ", ".join(f'{expression} AS "{name}"' for name, expression in zip(BOOK_12.columns, found))
    query = (
        f"CREATE OR REPLACE TABLE found AS SELECT row, {named} FROM payments WINDOW {', '.join(frames)} ORDER BY row"
    )

    def run() -> Any:
        connection.execute(query)
        return connection

    def columns(result: Any) -> dict[str, np.ndarray]:
        read = result.sql("SELECT * EXCLUDE row FROM found").fetchnumpy()
        return {name: np.ma.filled(values, np.nan) for name, values in read.items()}

    return {"duckdb": Recipe(run, columns)}


def book_pandas(frame: pd.DataFrame, entity: str) -> pd.DataFrame:
    """Compute one entity's half of the 12 features as the book does: `groupby.apply` of rolling windows.

    The book's steps, written anew: a sort and a time index per group, a rolling sum and count per window, and per
    terminal the window with the delay less the delay alone. Windows and times as in the other recipes.
    """
    time = microseconds(frame["event_time"])
    half = half_step(time)
    clock = moments(time, pd.factorize(frame[entity])[0], half)
    given = pd.DataFrame(
        {
            "row": np.arange(len(frame)),
            "entity": frame[entity].to_numpy(),
            "clock": clock.astype("datetime64[us]"),
            "amount": frame["amount"].to_numpy(np.float64),
            "fraud": frame["is_fraud"].to_numpy(np.int64),
        }
    )

    def customer(rows: pd.DataFrame) -> pd.DataFrame:
        rows = rows.sort_values("clock")
        rows.index = rows["clock"]
        for days in DAYS:
            rolling = rows["amount"].rolling(pd.Timedelta(days * DAY - half, unit="us"))
            total, count = rolling.sum(), rolling.count()
            rows[f"customer_id__count__{days}d__with_current"] = list(count)
            rows[f"customer_id__amount__mean__{days}d__with_current"] = list(total / count)
        rows.index = rows["row"].to_numpy()
        return rows

    def terminal(rows: pd.DataFrame) -> pd.DataFrame:
        rows = rows.sort_values("clock")
        rows.index = rows["clock"]
        delay = rows["fraud"].rolling(pd.Timedelta(DELAY * DAY - half, unit="us"))
        frauds_delay, count_delay = delay.sum(), delay.count()
        for days in DAYS:
            rolling = rows["fraud"].rolling(pd.Timedelta((DELAY + days) * DAY - half, unit="us"))
            frauds = rolling.sum() - frauds_delay
            count = rolling.count() - count_delay
            rows[f"merchant_id__count__{days}d__delay7d"] = list(count)
            rows[f"merchant_id__risk__{days}d__delay7d__empty0"] = list(frauds / count)
        rows.index = rows["row"].to_numpy()
        return rows.fillna({f"merchant_id__risk__{days}d__delay7d__empty0": 0 for days in DAYS})

    found = given.groupby("entity").apply(customer if entity == "customer_id" else terminal)
    found = found.sort_values("row").reset_index(drop=True)
    return found[[name for name in BOOK_12.columns if name in found]]
