"""What makes the features safe: row order, partitions, neighbours and names move no bit, nor does the future."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import (
    DAY,
    EVERYTHING,
    MINUTE,
    ROW,
    STARTS,
    assert_equal_bits,
    enriched,
    frame_of,
    label_known,
    ordered_rows,
    payments,
)

from fraudlab.features import FeatureSet, engine
from fraudlab.features.kernels import jit
from fraudlab.features.source import Source


@pytest.fixture(scope="module")
def frame(transactions) -> pd.DataFrame:
    return enriched(transactions)


@pytest.fixture(scope="module")
def expected(frame) -> pd.DataFrame:
    return EVERYTHING.compute(frame)


def test_most_values_of_the_table_tell_something(expected):
    # Else the properties below would hold of emptiness.
    filled = expected.notna().mean()
    assert (filled > 0).mean() > 0.95
    assert (filled > 0.5).mean() > 0.7
    assert (expected.nunique() > 3).mean() > 0.7


# --- the future -------------------------------------------------------------------------------------------------------


def check_the_future(rows: list[dict], later: list[dict], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(rows) - 1), label="last row kept")
    now = rows[cut]["time"]
    kept = [dict(row) for row in rows[: cut + 1]]
    for row in kept:
        # A label not known by `now` is the future too: it may come later, turn, or stay away. So is the row's own.
        if not label_known(row, now) or row is kept[-1]:
            row["is_fraud"] = data.draw(st.sampled_from([True, False, None]))
            row["label_time"] = data.draw(st.sampled_from([now + 1, now + 10 * DAY, None]))
    future = ordered_rows(later)
    for position, row in enumerate(future):
        row["time"] += now - STARTS[0]
        row["transaction_id"] = f"t{cut + 1 + position:04d}"
        row["label_time"] = None if row["label_time"] is None else row["time"] + MINUTE
        row["amount"] = row["amount"] * 7.7 + 1e13 / 3
        row["country"] = row["country"] and row["country"].lower()
    before = EVERYTHING.compute(frame_of(rows)).iloc[: cut + 1]
    after = EVERYTHING.compute(frame_of([*kept, *future])).iloc[: cut + 1]
    assert_equal_bits(after, before)


FUTURES = given(payments(min_size=2), st.lists(ROW, max_size=6), st.data())


@FUTURES
def test_rewriting_the_future_moves_no_bit(rows, later, data):
    check_the_future(rows, later, data)


@pytest.mark.slow
@settings(max_examples=1000)
@FUTURES
def test_rewriting_the_future_moves_no_bit_a_thousand_times(rows, later, data):
    check_the_future(rows, later, data)


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_rewriting_the_future_of_many_rows_moves_no_bit(frame, expected, share):
    rng = np.random.default_rng(6)
    ordered = frame.sort_values(["event_time", "transaction_id"])
    cut = int(share * len(ordered))
    now = ordered["event_time"].iloc[cut - 1]
    kept, later = ordered.iloc[:cut].copy(), ordered.iloc[cut:].sample(frac=0.7, random_state=1)
    known = kept[["label_time", "event_time"]].max(axis=1, skipna=False) <= now
    open_ = ~(known & kept["is_fraud"].notna())
    assert 100 < open_.sum() < cut
    kept.loc[open_, "is_fraud"] = rng.random(open_.sum()) < 0.5
    kept.loc[open_, "label_time"] = now + pd.Timedelta(microseconds=1)
    later["amount"] = np.round(rng.lognormal(9, 3, len(later)), 2)
    later["balance"] = later["balance"] * -1e9
    later["customer_id"] = rng.permutation(later["customer_id"])
    later["device_id"] = later["device_id"].mask(rng.random(len(later)) < 0.3, "of the future")
    later["merchant_id"] = later["merchant_id"] - 5
    later["is_fraud"] = ~later["is_fraud"]
    after = EVERYTHING.compute(pd.concat([kept, later]))
    assert_equal_bits(after.iloc[:cut], expected.loc[kept.index])


# --- order, partitions, threads ---------------------------------------------------------------------------------------


def test_every_bit_is_the_same_in_any_row_order(frame, expected):
    for seed in (3, 4):
        shuffled = frame.sample(frac=1, random_state=seed)
        assert_equal_bits(EVERYTHING.compute(shuffled).loc[frame.index], expected)
    backwards = frame.iloc[::-1]
    assert_equal_bits(EVERYTHING.compute(backwards).iloc[::-1], expected)


@pytest.mark.parametrize(("chunk", "threads"), [(1, 1), (97, 3), (1024, 5), (10**6, 2), (10**6, 1)])
def test_every_bit_is_the_same_in_any_partition(frame, expected, monkeypatch, chunk, threads):
    monkeypatch.setattr(engine, "CHUNK", chunk)
    monkeypatch.setattr(engine, "SLICE", 64 * chunk)
    monkeypatch.setattr(engine, "MANY_ROWS", 0)
    monkeypatch.setattr(jit, "threads", lambda: threads)
    assert_equal_bits(EVERYTHING.compute(frame), expected)


def test_a_spec_gives_the_same_bits_alone_and_in_any_company(frame, expected):
    # Specs share edges, sums and ranks; none may depend on what others left there.
    for spec in EVERYTHING.specs:
        alone = FeatureSet("alone", [spec]).compute(frame)
        assert_equal_bits(alone, expected[list(spec.columns)])
    backwards = FeatureSet("backwards", EVERYTHING.specs[::-1]).compute(frame)
    assert_equal_bits(backwards[list(EVERYTHING.columns)], expected)


def test_an_index_names_nothing(frame, expected):
    for index in (np.zeros(len(frame), int), pd.MultiIndex.from_arrays([frame["merchant_id"], frame["country"]])):
        assert_equal_bits(EVERYTHING.compute(frame.set_axis(index)).to_numpy(), expected.to_numpy())


def test_half_the_memory_is_the_same_number_rounded(frame, expected):
    half = FeatureSet("half", EVERYTHING.specs, dtype="float32").compute(frame)
    assert_equal_bits(half, expected.astype("float32"))


# --- neighbours and names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entity", ["customer_id", "merchant_id", "device_id"])
def test_whole_entities_alone_give_what_they_give_among_others(frame, expected, entity):
    some = frame[frame[entity].isin(frame[entity].dropna().unique()[1::3])]
    assert 0 < len(some) < len(frame) / 2
    of = FeatureSet("of", [spec for spec in EVERYTHING.specs if entity in spec.entity])
    assert len(of.columns) > 40
    assert_equal_bits(of.compute(some), expected.loc[some.index, list(of.columns)])


def test_names_of_entities_and_larger_ids_move_no_bit(frame, expected):
    rng = np.random.default_rng(7)
    customers = frame["customer_id"].dropna().unique()
    devices = frame["device_id"].dropna().unique()
    renamed = frame.assign(
        transaction_id=frame["transaction_id"] * 7 - 11,
        customer_id=frame["customer_id"].map(dict(zip(customers, rng.permutation(len(customers)) * 10**9))),
        device_id=frame["device_id"].map(dict(zip(devices, rng.permutation(len(devices)) - 5))).astype("Int64"),
    )
    assert_equal_bits(EVERYTHING.compute(renamed), expected)
    as_text = frame.assign(transaction_id=frame["transaction_id"].map("{:09d}".format))
    assert_equal_bits(EVERYTHING.compute(as_text), expected)


def test_times_kept_as_seconds_or_as_microseconds_give_the_same_bits(frame):
    whole = frame.assign(event_time=frame["event_time"].dt.floor("s"))
    stranger = whole.iloc[-1:].assign(transaction_id="stranger", is_fraud=pd.NA)
    stranger[["customer_id", "device_id"]] = "stranger"
    stranger["merchant_id"] = -1
    stranger["event_time"] = whole["event_time"].max() + pd.Timedelta(microseconds=1)
    both = pd.concat([whole, stranger])
    assert (Source(whole, "").whole_seconds, Source(both, "").whole_seconds) == (True, False)
    assert_equal_bits(EVERYTHING.compute(both).iloc[:-1], EVERYTHING.compute(whole))


def test_memory_touched_late_loses_no_value(frame, expected, monkeypatch):
    # The result's pages are touched beside other work. A thread that sleeps meanwhile must not write over a value.
    slept = []

    class Slow(ThreadPoolExecutor):
        def submit(self, call, *args, **kwargs):
            if getattr(call, "__name__", "") == "fill" and not slept:
                slept.append(call)

                def late(*args):
                    time.sleep(1)
                    return call(*args)

                return super().submit(late, *args, **kwargs)
            return super().submit(call, *args, **kwargs)

    monkeypatch.setattr(engine, "ThreadPoolExecutor", Slow)
    monkeypatch.setattr(engine, "MANY_ROWS", 1)
    monkeypatch.setattr(jit, "threads", lambda: 2)
    assert_equal_bits(EVERYTHING.compute(frame), expected)
    assert slept
