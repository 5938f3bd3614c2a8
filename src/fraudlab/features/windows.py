"""Kernels of the feature engine: plain arrays in, plain arrays out; the only module that knows numba.

Every kernel sees whole entities one after the other: the rows of group `g` are `indptr[g]:indptr[g+1]`, each group in
the total order (event_time, transaction_id). A window of row `i` is two edges `lo[i] <= hi[i]`: its rows are
`lo[i]:hi[i]`. Edges never go back inside a group, so every statistic costs one step in and one step out per row.

Sums are held in 128-bit fixed point (two unsigned 64-bit words, the lower one the fraction), so what leaves a window
leaves no trace: adding is exact, and a window's sum is the difference of two running sums, rounded once.

Kernels release the interpreter lock and are compiled on first use; the machine code is cached beside this file, or in
NUMBA_CACHE_DIR, or in the user's cache folder, whichever can be written first.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np

# Mean radius of the earth (IUGG R1), km.
EARTH_RADIUS_KM = 6371.0088

_log = logging.getLogger(__name__)
_told = False


def _kernel(function: Callable) -> Callable:
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no folder for the cache can be written: compile once per process instead
        return numba.njit(nogil=True)(function)


def threads() -> int:
    """Return how many threads this process may use (NUMBA_NUM_THREADS, else the cores it may run on)."""
    return int(numba.config.NUMBA_NUM_THREADS)


def announce_compilation() -> None:
    """Say once, before the first use, that the kernels have to be compiled; stay silent when they are cached."""
    global _told
    if _told:
        return
    _told = True
    folder = getattr(gather_groups.stats, "cache_path", None)
    if folder is None:
        _log.warning("Compiling the feature kernels: some seconds in every run, until NUMBA_CACHE_DIR can be written.")
    elif not any(Path(folder).glob("windows.*.nbi")):
        _log.warning("Compiling the feature kernels: some seconds, once; later runs take them from the cache.")


@_kernel
def gather_groups(codes, groups):
    """Return (order, indptr): a stable counting sort of the positions by code; code -1 belongs to no group."""
    indptr = np.zeros(groups + 1, np.int64)
    for code in codes:
        if code >= 0:
            indptr[code + 1] += 1
    for g in range(groups):
        indptr[g + 1] += indptr[g]
    free = indptr[:-1].copy()
    order = np.empty(indptr[groups], np.int64)
    for position in range(codes.size):
        code = codes[position]
        if code >= 0:
            order[free[code]] = position
            free[code] += 1
    return order, indptr


@_kernel
def edge(time, indptr, offset):
    """Return for each row the first row of its group with time > t - offset (offset > 0, so never past the row)."""
    out = np.empty(time.size, np.int64)
    for g in range(indptr.size - 1):
        first = indptr[g]
        for i in range(indptr[g], indptr[g + 1]):
            limit = time[i] - offset
            while time[first] <= limit:
                first += 1
            out[i] = first
    return out


@_kernel
def running_sums(values, chosen):
    """Return the exact running sums of the chosen values as (whole, fraction), 128-bit fixed point, length n + 1.

    A value is cut to a multiple of 2**-64; nothing is lost of values whose size is at least 2**-12. The running sums
    may wrap around; their differences are right as long as a window's own sum stays within +-2**63.
    """
    whole = np.empty(values.size + 1, np.uint64)
    fraction = np.empty(values.size + 1, np.uint64)
    high = np.uint64(0)
    low = np.uint64(0)
    whole[0] = high
    fraction[0] = low
    for i in range(values.size):
        if chosen[i]:
            size = abs(values[i])
            units = math.floor(size)
            rest = (size - units) * 4294967296.0
            upper = math.floor(rest)
            lower = math.floor((rest - upper) * 4294967296.0)
            h = np.uint64(np.int64(units))
            f = (np.uint64(np.int64(upper)) << np.uint64(32)) | np.uint64(np.int64(lower))
            if values[i] < 0:
                f = ~f + np.uint64(1)
                h = ~h + np.uint64(f == 0)
            low += f
            high += h + np.uint64(low < f)
        whole[i + 1] = high
        fraction[i + 1] = low
    return whole, fraction


@_kernel
def window_sums(whole, fraction, lo, hi):
    """Return for each row the float64 nearest to the exact sum of its window (what `math.fsum` gives)."""
    out = np.empty(lo.size, np.float64)
    for i in range(lo.size):
        low = fraction[hi[i]] - fraction[lo[i]]
        high = whole[hi[i]] - whole[lo[i]] - np.uint64(fraction[hi[i]] < fraction[lo[i]])
        negative = (high >> np.uint64(63)) != 0
        if negative:
            low = ~low + np.uint64(1)
            high = ~high + np.uint64(low == 0)
        if high == 0:
            size = np.float64(low) * 2.0**-64
        else:
            # Keep the 64 leading bits; a 1 in the last of them stands for all that was cut, so it rounds right.
            shift = np.uint64(64 - math.frexp(np.float64(high))[1])
            if shift == 0:
                top = high | np.uint64(low != 0)
            else:
                cut = low << shift
                top = (high << shift) | (low >> (np.uint64(64) - shift)) | np.uint64(cut != 0)
            size = math.ldexp(np.float64(top), -np.int64(shift))
        out[i] = -size if negative else size
    return out


@_kernel
def window_spread(values, chosen, lo, hi):
    """Return (mean, std) of each window: NaN mean when empty, NaN std (n - 1 in the denominator) below two values.

    Every window is summed anew, as deviations from its first value and then from its mean, so the result depends on
    nothing but the window, and equal values give a spread of exactly 0. Costs one visit per row of every window.
    """
    mean = np.empty(lo.size, np.float64)
    std = np.empty(lo.size, np.float64)
    for i in range(lo.size):
        n = 0
        origin = 0.0
        shifted = 0.0
        for j in range(lo[i], hi[i]):
            if chosen[j]:
                if n == 0:
                    origin = values[j]
                n += 1
                shifted += values[j] - origin
        middle = origin + shifted / n if n else math.nan
        mean[i] = middle
        if n < 2:
            std[i] = math.nan
            continue
        squares = 0.0
        left = 0.0
        for j in range(lo[i], hi[i]):
            if chosen[j]:
                deviation = values[j] - middle
                squares += deviation * deviation
                left += deviation
        std[i] = math.sqrt(max(squares - left * left / n, 0.0) / (n - 1))
    return mean, std


@_kernel
def window_maximum(values, chosen, indptr, lo, hi):
    """Return the largest chosen value of each window, NaN when there is none."""
    out = np.empty(values.size, np.float64)
    queue = np.empty(values.size, np.int64)  # rows of falling value, the window's largest first
    for g in range(indptr.size - 1):
        head = 0
        tail = 0
        entered = indptr[g]
        for i in range(indptr[g], indptr[g + 1]):
            while entered < hi[i]:
                if chosen[entered]:
                    while tail > head and values[queue[tail - 1]] <= values[entered]:
                        tail -= 1
                    queue[tail] = entered
                    tail += 1
                entered += 1
            while head < tail and queue[head] < lo[i]:
                head += 1
            out[i] = values[queue[head]] if head < tail else math.nan
    return out


@_kernel
def window_distinct(codes, chosen, indptr, lo, hi, table):
    """Return how many different codes each window holds; code -1 is not counted.

    `table` has a zero for every code, and is all zeros again afterwards.
    """
    out = np.empty(codes.size, np.float64)
    for g in range(indptr.size - 1):
        left = indptr[g]
        entered = indptr[g]
        different = 0
        for i in range(indptr[g], indptr[g + 1]):
            while entered < hi[i]:
                code = codes[entered]
                if code >= 0 and chosen[entered]:
                    different += table[code] == 0
                    table[code] += 1
                entered += 1
            while left < lo[i]:
                code = codes[left]
                if code >= 0 and chosen[left]:
                    table[code] -= 1
                    different -= table[code] == 0
                left += 1
            out[i] = different
        for j in range(left, entered):
            if codes[j] >= 0:
                table[codes[j]] = 0
    return out


@_kernel
def window_labels(time, indptr, lo, enter, by_enter, fraud):
    """Return (frauds, labelled) of each window: rows that have entered by t and are not before `lo`.

    `enter` is the moment from which a row's label may count: when it is known and, with a delay, when the row is old
    enough. `by_enter` holds each group's rows in the order (enter, row). A label entering at exactly t counts only
    for rows before the present one.
    """
    frauds = np.empty(time.size, np.float64)
    labelled = np.empty(time.size, np.float64)
    for g in range(indptr.size - 1):
        following = indptr[g]
        left = indptr[g]
        bad = 0
        known = 0
        for i in range(indptr[g], indptr[g + 1]):
            now = time[i]
            while following < indptr[g + 1]:
                j = by_enter[following]
                if enter[j] > now or (enter[j] == now and j >= i):
                    break
                if j >= left:
                    known += 1
                    bad += fraud[j]
                following += 1
            while left < lo[i]:
                if enter[left] <= now:
                    known -= 1
                    bad -= fraud[left]
                left += 1
            frauds[i] = bad
            labelled[i] = known
    return frauds, labelled


@_kernel
def kilometres(latitude, longitude, before):
    """Return the great-circle distance in km of each row from row `before[i]` of the same arrays; NaN where it is -1.

    The haversine formula on a sphere of the earth's mean radius.
    """
    out = np.empty(before.size, np.float64)
    for i in range(before.size):
        j = before[i]
        if j < 0:
            out[i] = math.nan
            continue
        north = math.radians(latitude[i] - latitude[j]) / 2
        east = math.radians(longitude[i] - longitude[j]) / 2
        shrink = math.cos(math.radians(latitude[i])) * math.cos(math.radians(latitude[j]))
        half = math.sin(north) ** 2 + shrink * math.sin(east) ** 2
        out[i] = 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(half, 1.0)))
    return out


@_kernel
def scatter(block, rows, columns, out):
    """Write block[k, i] to out[rows[i], columns[k]]: from the entities' order back to the caller's rows."""
    for i in range(rows.size):
        row = rows[i]
        for k in range(columns.size):
            out[row, columns[k]] = block[k, i]
