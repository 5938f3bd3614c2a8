"""The compiled parts one by one: 128-bit sums against Python's integers, trees against lists, the cache's care."""

from __future__ import annotations

import ctypes
import math
import os
import statistics
import subprocess
import sys
from bisect import bisect_left
from collections import Counter
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numba.core.sigutils import normalize_signature

from fraudlab.features import FeatureSet, count, median, packing
from fraudlab.features.kernels import (
    edges,
    helper,
    jit,
    operations,
    places,
    program,
    ranked,
    source,
    sums,
    units,
    windows,
)

# Parts of kernels, with a way in from Python.
nearest, multiply, window_sum, window_spread, spread_by_visits = (
    jit.kernel(part.py_func)
    for part in (sums.nearest, sums.multiply, sums.window_sum, sums.window_spread, sums.spread_by_visits)
)
select = jit.kernel(windows.select.py_func)
spread_word = jit.kernel(program.spread_word.py_func)
later, move_on = jit.kernel(edges.later.py_func), jit.kernel(edges.move_on.py_func)
direction = jit.kernel(places.direction.py_func)
empty_set, toggle, held_before, held_at, held_after, in_order, sort_rows = (
    jit.kernel(part.py_func)
    for part in (
        ranked.empty_set,
        ranked.toggle,
        ranked.held_before,
        ranked.held_at,
        ranked.held_after,
        ranked.in_order,
        ranked.sort_rows,
    )
)
WORD = 2**64
ALL = np.empty(0, np.int64)  # flags, where every row is chosen


def words(number: int) -> tuple[np.uint64, np.uint64]:
    """Return a signed 128-bit integer as (high, low)."""
    assert -(2**127) <= number < 2**127
    return np.uint64((number >> 64) % WORD), np.uint64(number % WORD)


# --- sums -------------------------------------------------------------------------------------------------------------

SIZES = st.one_of(
    st.integers(-(2**127) + 1, 2**127 - 1),
    st.integers(-(2**70), 2**70),
    st.integers(-(2**54), 2**54),
    # Powers of two and their neighbours: half way between floats, carries, sign changes.
    st.builds(
        lambda exponent, low, by, sign: sign * min(max((1 << exponent) + (by << low), 0), 2**127 - 1),
        st.integers(0, 126),
        st.integers(0, 126),
        st.integers(-3, 3),
        st.sampled_from([1, -1]),
    ),
)


@given(SIZES)
@example(0)
@example(2**127 - 1)
@example(-(2**127) + 1)
@example(WORD - 1)
@example(-WORD)
@example((2**53 + 1) << 64)
@example(((2**53 + 1) << 64) + 1)
@example((2**127 - 1) ^ 1)
@example(-(((2**53 + 1) << 64) + 1))
@example((2**63 << 63) + (2**62))
def test_a_fixed_point_number_becomes_the_nearest_float(number):
    assert nearest(*words(number)) == float(Fraction(number, WORD))


@given(st.integers(0, WORD - 1), st.integers(0, WORD - 1))
@example(WORD - 1, WORD - 1)
@example(2**32, 2**32 - 1)
@example(0, WORD - 1)
def test_products_have_all_their_digits(a, b):
    high, low = multiply(np.uint64(a), np.uint64(b))
    assert int(high) * WORD + int(low) == a * b


FLOATS = st.one_of(
    st.floats(-1e15, 1e15).filter(lambda x: x == 0 or abs(x) >= 2**-12),
    st.sampled_from([0.01, 0.1, -0.1, 1e15, -1e15, 2**-12, 2.0**53 + 2, -0.0, 2.0**62, -(2.0**62)]),
)


@given(st.lists(st.tuples(FLOATS, st.booleans()), min_size=1, max_size=30), st.data())
def test_window_sums_are_the_nearest_float_to_the_exact_sum(drawn, data):
    values = np.array([value for value, _ in drawn])
    flags = np.array([4 * chosen for _, chosen in drawn], np.int64)
    lo = data.draw(st.integers(0, len(values)))
    hi = data.draw(st.integers(lo, len(values)))
    high, low = np.empty((2, len(values) + 1), np.int64)
    for bit, chosen in ((2, [value for value, chosen in drawn[lo:hi] if chosen]), (-1, values[lo:hi].tolist())):
        if abs(sum(map(Fraction, chosen))) < 2**63:
            sums.running_sums(values, flags, bit, high, low)
            assert window_sum(high, low, lo, hi) == math.fsum(chosen)


def test_a_sum_just_above_half_way_rounds_up():
    # 2**53 + 1 lies half way between two floats; the last value, far below the leading 64 bits, decides.
    for values in ([2.0**53, 1.0, 2.0**-12], [-(2.0**53), -1.0, -(2.0**-12)], [2.0**53, 1.0, 0.0]):
        high, low = np.empty((2, 4), np.int64)
        sums.running_sums(np.array(values), ALL, -1, high, low)
        assert window_sum(high, low, 0, 3) == math.fsum(values)
    assert math.fsum([2.0**53, 1.0, 2.0**-12]) == 2.0**53 + 2


@pytest.mark.parametrize(("largest", "paired"), [(2.0**30, True), (2.0**30 + 1e-3, False)])
@pytest.mark.parametrize("sign", [1, -1])
def test_running_sums_become_pairs_while_they_are_small(largest, paired, sign):
    rng = np.random.default_rng(7)
    values = sign * np.concatenate(([largest - 1.0], rng.exponential(1e-4, 900), [2.0**-12, 0.3, 0.25]))
    values[1:] *= (1.0 - 2.0**-20) / abs(values[1:].sum())
    values = np.concatenate((values, -values[1:], values[1:] * 2.0**-20))
    high, low = np.empty((2, values.size + 1), np.int64)
    sums.running_sums(values, ALL, -1, high, low)
    assert (high[0] != 0) == paired
    exact = [value - math.fmod(value, 2.0**-64) for value in values.tolist()]  # smaller parts are cut off
    for lo, hi in rng.integers(0, values.size, (300, 2)).tolist():
        assert window_sum(high, low, min(lo, hi), max(lo, hi)) == math.fsum(exact[min(lo, hi) : max(lo, hi)])


def test_running_sums_may_wrap_around():
    # Four quintillions in all; each window is right, for only its own sum must fit.
    values = np.array([2.0**62, 2.0**61] * 40 + [0.01, 0.02])
    high, low = np.empty((2, values.size + 1), np.int64)
    sums.running_sums(values, ALL, -1, high, low)
    for lo in range(values.size - 2):
        assert window_sum(high, low, lo, lo + 1) == values[lo]
    assert window_sum(high, low, 80, 82) == math.fsum([0.01, 0.02])


INTEGERS = st.one_of(
    st.integers(-(2**52) + 1, 2**52 - 1),
    st.integers(-1000, 1000),
    st.sampled_from([0, 1, -1, 2**52 - 1, -(2**52) + 1, 2**51, 10**10, 10**10 + 1, -(10**10)]),
)


def spread_of(values: list[int], lo: int, hi: int) -> float:
    integers = np.array(values, np.int64)
    rows = np.empty((5, integers.size + 1), np.int64)
    sums.running_squares(integers, ALL, -1, rows[:2], rows[2:4], rows[4])
    assert not rows[4].any()
    return window_spread(rows[:2], rows[2:4], lo, hi, hi - lo)


@given(st.lists(INTEGERS, min_size=2, max_size=20), st.data())
@example([2**52 - 1, -(2**52) + 1], None)
@example([2**52 - 1] * 5 + [2**52 - 2], None)
@example([-(2**52) + 1] * 5 + [-(2**52) + 2], None)
def test_spreads_are_those_of_the_integers(values, data):
    lo = data.draw(st.integers(0, len(values) - 2)) if data else 0
    hi = data.draw(st.integers(lo + 2, len(values))) if data else len(values)
    of = values[lo:hi]
    n = len(of)
    around = Fraction(n * sum(x * x for x in of) - sum(of) ** 2, n * (n - 1))
    assert spread_of(values, lo, hi) == pytest.approx(math.sqrt(around), rel=1e-14)
    if len(set(of)) == 1:
        assert spread_of(values, lo, hi) == 0


def test_the_spread_of_many_large_integers_does_not_overflow():
    n = 100_000
    for large in (2**52 - 1, -(2**52) + 1):
        values = [large, large - 1 if large > 0 else large + 1] * (n // 2)
        assert spread_of(values, 0, n) == pytest.approx(math.sqrt(n / 4 / (n - 1)), rel=1e-14)
    assert spread_of([2**52 - 1, -(2**52) + 1] * (n // 2), 0, n) == pytest.approx(
        (2**52 - 1) * math.sqrt(n / (n - 1)), rel=1e-14
    )


def test_values_become_whole_units_and_large_ones_are_set_aside():
    values = np.array([0.01, -0.01, 57.16, 1 / 3, 0.0, 1e12, -1e12, 45_035_996.27, 45_035_996.28, 7.0])
    flags = np.array([1] * 9 + [0], np.int64)
    integers = np.empty(values.size, np.int64)
    sums.to_integers(values, flags, 0, integers)
    large = 2**62
    assert integers.tolist() == [
        10**6,
        -(10**6),
        5_716_000_000,
        33_333_333,
        0,
        large,
        large,
        4_503_599_627_000_000,
        large,
        0,
    ]
    rows = np.empty((5, values.size + 1), np.int64)
    sums.running_squares(integers, flags, 0, rows[:2], rows[2:4], rows[4])
    assert rows[4].tolist() == [0, 0, 0, 0, 0, 0, 1, 2, 2, 3, 3]


@given(st.lists(FLOATS, min_size=2, max_size=12))
def test_visiting_each_value_gives_the_same_spread(values):
    found = spread_by_visits(np.array(values), ALL, -1, 0, len(values))
    expected = statistics.stdev(map(Fraction, values))
    assert found == pytest.approx(float(expected), rel=1e-12, abs=1e-15 * max(map(abs, values)))


# --- ranks and windows ------------------------------------------------------------------------------------------------


@given(st.integers(1, 300), st.lists(st.integers(0, 10**6), max_size=200))
def test_a_set_of_ranks_counts_and_finds_as_a_sorted_list_does(size, drawn):
    ranks = empty_set(np.full(size + 2, 7), size)
    held: list[int] = []
    for rank in (number % size for number in drawn):
        toggle(ranks, rank, -1 if rank in held else 1)
        held = sorted(set(held) ^ {rank})
    assert [held_before(ranks, k) for k in range(size + 1)] == [bisect_left(held, k) for k in range(size + 1)]
    assert [held_at(ranks, k) for k in range(len(held))] == held
    assert [held_after(ranks, rank, k + 1) for k, rank in enumerate(held[:-1])] == held[1:]


@given(st.lists(st.sampled_from([-0.0, 0.0, 1.5]) | st.floats(-1e6, 1e6), max_size=100), st.integers(0, 5))
def test_rows_are_sorted_by_their_keys_and_equal_ones_stay_in_their_order(keys, before):
    rows = np.arange(len(keys))
    before = min(before, len(keys))
    sorted_keys = np.array([in_order(key) for key in keys], np.int64)
    sort_rows(sorted_keys, rows, np.empty_like(rows), np.empty_like(rows), before, len(keys))
    assert rows[:before].tolist() == list(range(before))
    assert rows[before:].tolist() == sorted(range(before, len(keys)), key=keys.__getitem__)


@given(st.lists(st.sampled_from([-0.0, 0.0, 1.0, 1.5, 2.0, 1e12]) | st.floats(-1e6, 1e6), max_size=40), st.data())
def test_one_windows_quantile_and_percentile_are_numpys_and_a_count(values, data):
    values = np.array(values)
    lo = data.draw(st.integers(0, values.size))
    hi = data.draw(st.integers(lo, values.size))
    q = data.draw(st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]))
    chosen = np.array(data.draw(st.lists(st.booleans(), min_size=values.size, max_size=values.size)), np.int64)
    used = values[lo:hi][chosen[lo:hi] == 1]
    found = windows.last_quantile(q, values, chosen, 0, lo, hi, np.empty(values.size + 1))
    among = windows.last_percentile(values, chosen, 0, lo, hi, 1.5)
    if used.size == 0:
        assert math.isnan(found)
        assert math.isnan(among)
        return
    assert found == pytest.approx(np.quantile(used, q), rel=1e-12, abs=1e-9)
    assert among == (np.sum(used < 1.5) + 0.5 * np.sum(used == 1.5)) / used.size
    assert math.isnan(windows.last_percentile(values, chosen, 0, lo, hi, math.nan))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.data())
def test_selection_puts_the_value_of_that_place_where_a_sort_would(values, data):
    k = data.draw(st.integers(0, len(values) - 1))
    work = np.array(values)
    select(work, work.size, k)
    assert work[k] == sorted(values)[k]
    assert max(work[: k + 1]) == work[k] == min(work[k:])


def test_the_spread_of_very_many_gaps_is_that_of_the_gaps():
    rows = 2**23 + 10  # more than a sum of squares of any integers could hold
    gaps = np.where(np.arange(rows) % 2 == 0, 1_000_000, 3_000_000)
    two, four, many = np.empty((2, rows + 1), np.int64), np.empty((2, rows + 1), np.int64), np.empty(rows + 1, np.int64)
    none = np.empty(0, np.int64)
    sums.running_squares(gaps, gaps, -1, two, four, many)
    lo, hi, out = np.zeros(rows, np.int64), np.full(rows, rows), np.empty(rows)
    windows.spread(1e6, gaps.view(np.float64), gaps, -1, two, four, many, False, none, 1, lo, hi, rows - 1, out)
    assert out[-1] == pytest.approx(np.std(gaps[1:] / 1e6, ddof=1), rel=1e-12)


@given(st.lists(st.sampled_from([0, 0, 1, 2, 5, 9]), min_size=1, max_size=60), st.data())
def test_edges_lie_before_the_first_row_within_reach(steps, data):
    rows = len(steps)
    behind = data.draw(st.sampled_from([-(10**9), 0, 10**9]))  # what the memory after the times holds is no matter
    time_ = np.concatenate((list(accumulate(steps)), np.full(8, behind)))
    cut, start = data.draw(st.integers(0, rows)), data.draw(st.integers(0, rows))
    offsets = tuple(data.draw(st.lists(st.integers(1, 100), min_size=3, max_size=4)))
    ip = np.array([0, cut, cut, rows])
    expected = [
        [next(j for j in range(0 if i < cut else cut, i + 1) if time_[j] > time_[i] - offset) for i in range(rows)]
        for offset in offsets
    ]
    found = np.full((len(offsets), rows), -1)
    edges.edges(time_, ip, offsets, start, tuple(found))
    alone = np.full(rows, -1)
    edges.edge(time_, ip, offsets[0], start, alone)
    for which, row in zip([*expected, expected[0]], [*found, alone], strict=True):
        assert row.tolist() == [-1] * start + which[start:]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(0, 30), st.integers(-1, 10), st.integers(0, 9))
def test_moving_on_stops_at_the_end_whatever_is_behind_it(times, end, limit, behind):
    end = min(end, len(times))
    time_ = np.concatenate((sorted(times[:end]), times[end:], np.full(8, behind))).astype(np.int64)
    for first in range(end + 1):
        wanted = next((j for j in range(first, end) if time_[j] > limit), end)
        assert move_on(time_, np.uint64(first), np.uint64(end), limit) == wanted
        assert later(np.where(np.arange(time_.size) == end, limit + 1, time_), np.uint64(first), limit) == wanted


@given(st.floats(-1e4, 1e4), st.sampled_from([1.0, 24.0, 360.0, 86_400e6]))
def test_directions_are_cosines_and_sines(turns, turn):
    x, y = direction(turns * turn, turn)
    way = math.remainder(turns * turn, turn) / turn * 2 * math.pi
    assert (x, y) == pytest.approx((math.cos(way), math.sin(way)), rel=0, abs=1e-15)


@given(st.lists(st.sampled_from([0.0, -0.0, 1.5, -3.0, 5e-324, 2.0**61, -(2.0**62), math.inf, -math.inf, math.nan])))
def test_facts_of_numbers(values):
    missing, infinite, size = source.number_facts(np.array(values, float), 2.0**62)
    assert (missing, infinite) == (np.isnan(values).sum(), np.isinf(values).sum())
    assert (size >= 2.0**62) == (np.abs([value for value in values if math.isfinite(value)]).sum() >= 2.0**62)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=30), st.integers(1, 8))
def test_order_and_ties_of_times(rows, most):
    times, ranks = [time_ for time_, _ in rows], [rank for _, rank in rows]
    falls, same, _, wrong = source.time_order(np.array(times, np.int64), np.array(ranks, np.int64))
    pairs = list(pairwise(times))
    assert (falls, same) == (sum(a > b for a, b in pairs), sum(a == b for a, b in pairs))
    assert wrong == sum(a == b and rank >= after for (a, rank), (b, after) in pairwise(rows))
    longest = max(Counter(times).values(), default=0)
    assert source.longer_ties(np.array(sorted(times), np.int64), most) == (longest > most)


MOMENTS = st.one_of(
    st.integers(-(2**31), 2**31).map(lambda seconds: seconds * 10**6),
    st.integers(-(2**20), 2**20),
    st.integers(-(2**62), 2**62),
)


@given(st.lists(MOMENTS, min_size=1, max_size=12), st.integers(-(2**40), 2**40))
def test_times_whole_seconds_apart_are_found_and_come_back(apart, first):
    time_ = np.array([first, *(first + d for d in apart)], np.int64)
    odd = source.time_order(time_, time_)[2]
    assert odd == sum(d % 10**6 != 0 or abs(d) >= 2**31 * 10**6 for d in apart)
    if not odd:
        seconds, earliest = np.zeros(time_.size, np.int64), time_.min()
        source.add_seconds(time_, earliest, 3, seconds)
        assert ((seconds >> 3) * 10**6 + earliest).tolist() == time_.tolist()


def field_of(word: np.ndarray, bits: int, unit: int, base: int) -> packing.Field:
    """Return a field of whole numbers from 0 on."""
    return packing.Field(lambda rows, shift, out: source.add_bits(word[rows], 0, shift, out), bits, unit, base)


@given(st.lists(st.sampled_from([0, 1, 1, 12, 21, 32, 52, 63, 64]), min_size=1, max_size=9), st.integers(1, 40),
       st.randoms(use_true_random=False))  # fmt: skip
def test_words_come_back_from_their_cells_at_their_groups(kinds, rows, rng):
    # Bits of a field, 64: a whole number without a field, 0: a real one.
    words, packed, wanted = [], [], []
    for bits in kinds:
        if bits == 0:
            words.append(np.array([rng.choice([math.nan, -0.0, rng.gauss(0, 1e9)]) for _ in range(rows)]))
        else:
            least = -(2**63) if bits == 64 else 0
            words.append(np.array([rng.randrange(least, least + 2**bits) for _ in range(rows)], np.int64))
        unit, base = rng.choice([(1, 0), (1, -1), (10**6, 77)]) if bits < 40 else (1, 0)
        packed.append(field_of(words[-1], bits, unit, base) if 0 < bits < 64 else words[-1].__getitem__)
        wanted.append(words[-1] if bits == 0 else words[-1] * unit + base)
    packed = packing.pack(packed)
    codes = np.array([rng.randrange(-1, 4) for _ in range(rows)], np.int32)
    sizes = np.bincount(codes[codes >= 0], minlength=4)
    cells = np.full((len(packed.cells), rows), -1)
    laid = np.empty((sizes.sum(), len(packed.cells)), np.int64)
    packing.fill(packed.cells, slice(0, rows), cells)
    windows.place_rows(cells, codes, np.cumsum(sizes) - sizes, np.empty(rows, np.int64), laid)
    order = np.argsort(codes, kind="stable")[(codes < 0).sum() :]
    for number, word in enumerate(wanted):
        found = np.empty(len(laid), np.int64)
        spread_word(laid.reshape(-1), np.uint64(packed.layout[number, 0]), np.uint64(laid.shape[1]),
                    packed.layout[number], found)  # fmt: skip
        assert found.tolist() == word[order].view(np.int64).tolist()
    taken = [0] * len(packed.cells)
    for bits, cell in zip(kinds, packed.layout[:, 0], strict=True):
        taken[cell] += bits or 64
    assert all(0 < bits <= 64 for bits in taken)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=40), st.randoms())
def test_ties_are_put_in_order_and_twins_counted(drawn, rng):
    rows = sorted(drawn, key=lambda row: row[0])
    time_, rank = np.array(rows, np.int64).reshape(-1, 2).T
    order = np.empty(len(rows), np.int32)
    moved, twins = source.order_ties(np.ascontiguousarray(time_), np.ascontiguousarray(rank), order)
    assert [rows[k] for k in order] == sorted(rows)
    assert sorted(order) == list(range(len(rows)))
    assert (moved == 0) == (rows == sorted(rows))
    if len(set(rows)) == len(rows):
        assert twins == 0
    else:
        assert twins > 0


# --- the cache of compiled code ---------------------------------------------------------------------------------------


def test_compiling_is_announced_once(monkeypatch, caplog):
    monkeypatch.setattr(jit, "_told", False)
    jit.announce_compilation(kept=True)
    jit.announce_compilation(kept=True)
    assert len(caplog.records) == 1
    assert "once; later runs take them from the cache" in caplog.text


def test_a_cache_that_cannot_be_written_is_announced(monkeypatch, caplog):
    monkeypatch.setattr(jit, "_told", False)
    jit.announce_compilation(kept=False)
    assert "until NUMBA_CACHE_DIR can be written" in caplog.text


def test_kernels_work_where_no_cache_can_be_written(monkeypatch):
    def refuse(function):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(jit, "Kept", refuse)

    def double(x):
        return 2 * x

    assert jit.kernel(double)(21) == 42


# --- operations, compiled one by one ----------------------------------------------------------------------------------


def doubled(f):
    f[1] = 2 * f[0]


def plus_one(f):
    f[1] = f[0] + 1


def result_of(unit: units.Unit, number: int) -> int:
    frame = np.array([number, 0])
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(unit.address)(frame.ctypes.data)
    return int(frame[1])


@pytest.fixture
def anew(tmp_path, monkeypatch):
    """An empty cache, and whether compiling was announced is forgotten."""
    monkeypatch.setattr(jit.numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(jit, "_told", False)


@pytest.fixture
def helpers(monkeypatch):
    """The helpers that are started."""
    started = []

    class Noted(subprocess.Popen):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            started.append(self)

    monkeypatch.setattr(units.subprocess, "Popen", Noted)
    monkeypatch.setattr(units, "FEW", 2)
    monkeypatch.setattr(jit, "cores", lambda: 2)
    return started


def test_a_unit_is_compiled_once_and_then_loaded(anew, helpers, caplog):
    first = units.Unit(doubled)
    assert not first.load()
    units.take([first])
    assert len(caplog.records) == 1
    again = units.Unit(doubled)
    assert again.load()
    assert result_of(first, 21) == result_of(again, 21) == 42
    units.take([first, again])
    assert len(caplog.records) == 1
    assert not helpers  # one unit is not worth it


def test_code_made_of_other_sources_is_not_taken(anew, monkeypatch):
    units.take([units.Unit(doubled)])
    sources = jit.SOURCES
    monkeypatch.setattr(jit, "SOURCES", "others")
    assert not units.Unit(doubled).load()
    units.take([units.Unit(doubled)])
    assert units.Unit(doubled).load()
    monkeypatch.setattr(jit, "SOURCES", sources)
    assert units.Unit(doubled).load()  # each finds its own


def test_a_helper_that_fails_does_no_harm(anew, helpers):
    both = [units.Unit(doubled), units.Unit(plus_one)]
    units.take(both)  # the helper does not know these
    assert [result_of(unit, 20) for unit in both] == [40, 21]
    assert [helper.returncode is None for helper in helpers] == [False]


@pytest.mark.parametrize("program", ["/not/there", "/bin/false"])
def test_a_helper_that_cannot_start_does_no_harm(anew, helpers, monkeypatch, program):
    monkeypatch.setattr(units.sys, "executable", program)
    both = [units.Unit(doubled), units.Unit(plus_one)]
    units.take(both)
    assert [result_of(unit, 20) for unit in both] == [40, 21]


def test_no_helper_is_started_where_nothing_can_be_kept_or_one_core_is_allowed(anew, helpers, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        patch.setattr(jit, "cores", lambda: 1)
        units.take([units.Unit(doubled), units.Unit(plus_one)])

    def refuse(function):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(jit, "Kept", refuse)
    monkeypatch.setattr(jit, "_told", False)
    both = [units.Unit(doubled), units.Unit(plus_one)]
    units.take(both)
    assert [result_of(unit, 20) for unit in both] == [40, 21]
    assert not helpers
    assert "until NUMBA_CACHE_DIR can be written" in caplog.records[-1].message


def test_what_calls_much_is_long():
    codes = (program.CURSOR, program.EDGE, program.QUANTILE)
    lengths = [units._length(operations.FUNCTIONS[code]) for code in codes]
    assert lengths == sorted(lengths)
    assert lengths[-1] > len(windows.quantile.py_func.__code__.co_code)


FEATURES = FeatureSet("few", [count(by="c", window="7d"), median("amount", by="c", window="7d")])
ROWS = pd.DataFrame(
    {
        "transaction_id": [1, 2, 3],
        "event_time": pd.to_datetime(["2026-01-01", "2026-01-02", "2026-01-03"], utc=True),
        "c": [7, 7, 8],
        "amount": [1.0, 3.0, 5.0],
    }
)
EXPECTED = "[[0.0, nan], [1.0, 1.0], [0.0, nan]]"


def test_operations_that_are_not_ready_are_made_so_on_the_way():
    assert str(FEATURES.compute(ROWS).to_numpy().tolist()) == EXPECTED
    known = operations.ADDRESSES.copy()
    operations.ADDRESSES[:] = 0
    state = FEATURES.online(ROWS.head(0))
    found = [state.score_then_update(row).tolist() for row in ROWS.to_dict("records")]
    assert str(found) == EXPECTED
    made = operations.ADDRESSES != 0
    assert made[[program.EDGE, program.COUNT, program.QUANTILE, program.LAST_QUANTILE]].all()
    assert (operations.ADDRESSES[made & (known != 0)] == known[made & (known != 0)]).all()  # the same code as before
    operations.ADDRESSES[known != 0] = known[known != 0]


def test_the_helper_compiles_the_kernels_for_what_they_are_called_with():
    FEATURES.compute(ROWS)
    for name, signature in helper.KERNELS.items():
        module, kernel = name.split(".")
        called_with = getattr({"program": program, "windows": windows}[module], kernel).signatures
        assert normalize_signature(f"({signature})")[0] in called_with


def test_the_helper_compiles_what_it_is_told():
    helper.main(["cursor"])
    assert operations.unit(program.CURSOR).load()


@pytest.mark.slow
def test_a_cold_cache_is_filled_once(tmp_path):
    ROWS.to_pickle(tmp_path / "rows.pkl")
    code = (
        "import pandas as pd\nfrom fraudlab.features import FeatureSet\n"
        f"features = FeatureSet.from_dict({FEATURES.to_dict()!r})\n"
        "print(features.compute(pd.read_pickle('rows.pkl')).to_numpy().tolist())"
    )
    for said in ("Compiling the feature kernels", ""):
        run = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
            check=True,
        )
        assert run.stdout.strip() == EXPECTED
        assert run.stderr[: len(said) or None] == said


@pytest.mark.slow
def test_a_kernel_is_compiled_anew_when_one_it_calls_has_changed(tmp_path):
    """The reason for all this: numba itself would go on with the old code."""
    folder = tmp_path / "kernels"
    folder.mkdir()
    (folder / "jit.py").write_text(Path(jit.__file__).read_text())
    (folder / "outer.py").write_text(
        "from jit import kernel\nfrom inner import inner\n\n\n@kernel\ndef outer(x):\n    return inner(x)\n"
    )
    found = []
    for factor in (2, 3):
        source_ = folder / "inner.py"
        source_.write_text(f"from jit import kernel\n\n\n@kernel\ndef inner(x):\n    return {factor} * x\n")
        run = subprocess.run(
            [sys.executable, "-c", "from outer import outer; print(outer(7))"],
            cwd=folder,
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            check=True,
        )
        found.append(run.stdout.strip())
    assert found == ["14", "21"]
