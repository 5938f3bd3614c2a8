"""Exact sums: 128-bit integers held in two unsigned 64-bit words, so that what leaves a window leaves no trace.

A float64 becomes fixed point with 64 binary places; adding is exact, and a window's sum is the difference of two
running sums, rounded once. Running sums that are not too large are turned into two float64 each, whose differences are
exact: to add these is to round once. Variances are taken from integers too, in units of 1e-8.
"""

from __future__ import annotations

import math

import numpy as np

from fraudlab.features.kernels.jit import inlined, part

LOW32 = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)
# Squares of integers below this, and 2**23 of them, fit 128 bits.
LARGEST_INTEGER = 2**52
CUT, CUT_BITS = np.uint64(11), np.uint64(2**11 - 1)  # what a float64 cannot hold of a 64-bit fraction
MOST_ROWS = 2**23
UNITS = 1e8
WORD = 2.0**64
HALVES = 0.5 ** np.arange(64)
# Of a pair the first number has 22 binary places, the second one the other 42: both, and their differences, are exact.
LARGEST_PAIR = np.uint64(2**30)
COARSE, FINE, FINE_BITS = 2.0**-22, np.uint64(42), np.uint64(2**42 - 1)


@inlined
def running_sums(values, flags, bit, high, low):
    """Write the exact running sums of the values chosen by `bit` (-1: all) as (high, low), one longer than values.

    A value is cut to a multiple of 2**-64; nothing is lost of values whose size is at least 2**-12. The running sums
    may wrap around; their differences are right as long as a window's own sum stays within +-2**63.

    When none of them reaches 2**30 they become pairs of float64, see `pair_sum`. Then high[0] is not 0.
    """
    for i in range(np.uint64(values.size)):
        value = values[i] if bit < 0 or (flags[i] >> bit) & 1 else 0.0
        size = abs(value)
        units = math.floor(size)
        rest = (size - units) * 4294967296.0
        upper = math.floor(rest)
        lower = math.floor((rest - upper) * 4294967296.0)
        whole = np.int64(units)
        part = (np.int64(upper) << 32) | np.int64(lower)
        sign = -np.int64(value < 0)  # a number is (number ^ -1) + 1 with the other sign, here over two words
        high[i + 1] = (whole ^ sign) - (sign if part == 0 else 0)
        low[i + 1] = (part ^ sign) - sign
    # Apart from the adding up, which goes one by one, so that eight values are done at once.
    h = np.uint64(0)
    f = np.uint64(0)
    sizes = np.uint64(0)
    high[0] = 0
    low[0] = 0
    for i in range(np.uint64(1), np.uint64(high.size)):
        part = np.uint64(low[i])
        f += part
        h += np.uint64(high[i]) + np.uint64(f < part)
        sizes |= h ^ np.uint64(np.int64(h) >> 63)
        high[i] = np.int64(h)
        low[i] = np.int64(f)
    if sizes < LARGEST_PAIR:
        for i in range(np.uint64(high.size)):
            part = np.uint64(low[i])
            coarse = np.float64(high[i]) + np.float64(np.int64(part >> FINE)) * COARSE
            fine = np.float64(np.int64(part & FINE_BITS)) * 2.0**-64
            high[i] = np.float64(coarse + 1.0).view(np.int64)  # so that the first is not 0; differences are the same
            low[i] = np.float64(fine).view(np.int64)


@part
def pair_sum(high, low, lo, hi):
    """Return what `window_sum` does of running sums that are pairs."""
    coarse = np.int64(high[hi]).view(np.float64) - np.int64(high[lo]).view(np.float64)
    return coarse + (np.int64(low[hi]).view(np.float64) - np.int64(low[lo]).view(np.float64))


@part
def nearest(high, low):
    """Return the float64 nearest to a signed 128-bit fixed-point number with 64 binary places."""
    negative = (high >> np.uint64(63)) != 0
    if negative:
        low = ~low + np.uint64(1)
        high = ~high + np.uint64(low == 0)
    if high == 0:
        size = np.float64(low) * 2.0**-64
    else:
        # Keep the 64 leading bits; a 1 in the last of them stands for all that was cut, so it rounds right.
        exponent = (np.float64(high).view(np.int64) >> 52) - 1022  # of a power of two at most twice too large
        shift = np.uint64(64 - exponent)
        if shift == 0:
            size = np.float64(high | np.uint64(low != 0))
        else:
            top = (high << shift) | (low >> (np.uint64(64) - shift)) | np.uint64((low << shift) != 0)
            size = np.float64(top) * HALVES[shift]
    return -size if negative else size


@part
def window_sum(high, low, lo, hi):
    """Return the float64 nearest to the exact sum of rows lo:hi (what `math.fsum` gives)."""
    if high[0] != 0:
        return pair_sum(high, low, lo, hi)
    b = np.uint64(low[hi])
    a = np.uint64(low[lo])
    units = np.uint64(high[hi]) - np.uint64(high[lo]) - np.uint64(b < a)
    part = b - a
    whole = np.int64(units)
    if -LARGEST_INTEGER < whole < -2 or 1 < whole < LARGEST_INTEGER:
        # 53 places of the part, the last one 1 when more are cut, are two more than the sum can hold: it rounds right.
        return whole + np.int64((part >> CUT) | np.uint64((part & CUT_BITS) != 0)) * 2.0**-53
    return nearest(units, part)


@part
def multiply(a, b):
    """Return the 128-bit product of two unsigned 64-bit integers as (high, low)."""
    a1 = a >> HALF
    a0 = a & LOW32
    b1 = b >> HALF
    b0 = b & LOW32
    middle = a1 * b0 + ((a0 * b0) >> HALF)
    other = a0 * b1 + (middle & LOW32)
    return a1 * b1 + (middle >> HALF) + (other >> HALF), a * b


@inlined
def to_integers(values, flags, bit, out):
    """Write the chosen values in units of 1e-8, rounded; what is too large to be squared becomes 2**62."""
    for i in range(values.size):
        out[i] = 0
        if bit < 0 or (flags[i] >> bit) & 1:
            scaled = np.rint(values[i] * UNITS)
            out[i] = np.int64(scaled) if abs(scaled) < LARGEST_INTEGER else np.int64(2) ** 62


@inlined
def running_squares(integers, flags, bit, sums, squares, large):
    """Write the running sums of integers and of their squares (each a pair of rows: high, low), and how many are large.

    Large ones (see `to_integers`) are counted and left out of both.
    """
    sh = np.uint64(0)
    sl = np.uint64(0)
    qh = np.uint64(0)
    ql = np.uint64(0)
    many = 0
    sums[0, 0] = 0
    sums[1, 0] = 0
    squares[0, 0] = 0
    squares[1, 0] = 0
    large[0] = 0
    for i in range(integers.size):
        item = integers[i]
        if bit < 0 or (flags[i] >> bit) & 1:
            if abs(item) >= 2**52:
                many += 1
            else:
                plain = np.uint64(item)
                sl += plain
                sh += np.uint64(item >> 63) + np.uint64(sl < plain)
                h, low = multiply(np.uint64(abs(item)), np.uint64(abs(item)))
                ql += low
                qh += h + np.uint64(ql < low)
        sums[0, i + 1] = np.int64(sh)
        sums[1, i + 1] = np.int64(sl)
        squares[0, i + 1] = np.int64(qh)
        squares[1, i + 1] = np.int64(ql)
        large[i + 1] = many


@part
def window_spread(sums, squares, lo, hi, n):
    """Return the standard deviation (n - 1 in the denominator, n >= 2) of the integers in rows lo:hi.

    With m the rounded mean, the sum of (x - m)**2 is an exact integer: nothing cancels, equal values give exactly 0.
    """
    b = np.uint64(sums[1, hi])
    a = np.uint64(sums[1, lo])
    low = b - a
    high = np.uint64(sums[0, hi]) - np.uint64(sums[0, lo]) - np.uint64(b < a)
    if np.int64(high) < 0:
        positive = ~low + np.uint64(1)
        total = -(np.float64(~high + np.uint64(positive == 0)) * WORD + np.float64(positive))
    else:
        total = np.float64(high) * WORD + np.float64(low)
    m = np.int64(np.rint(total / n))
    rest = np.int64(low - np.uint64(m) * np.uint64(n))  # total - n m: small, so its lowest word is all of it
    # squares - m (total + rest), modulo 2**128
    tl = low + np.uint64(rest)
    th = high + np.uint64(rest >> 63) + np.uint64(tl < low)
    ph, pl = multiply(np.uint64(m), tl)
    ph += np.uint64(m) * th + np.uint64(m >> 63) * tl
    b = np.uint64(squares[1, hi])
    a = np.uint64(squares[1, lo])
    ql = b - a
    qh = np.uint64(squares[0, hi]) - np.uint64(squares[0, lo]) - np.uint64(b < a)
    left = ql - pl
    qh = qh - ph - np.uint64(ql < pl)
    around = np.float64(qh) * WORD + np.float64(left)
    return math.sqrt(max(around - np.float64(rest) * np.float64(rest) / n, 0.0) / (n - 1))


@part
def spread_by_visits(values, flags, bit, lo, hi):
    """Return the standard deviation of the chosen values in rows lo:hi by visiting each; for sizes beyond integers."""
    n = 0
    origin = 0.0
    shifted = 0.0
    for j in range(lo, hi):
        if bit < 0 or (flags[j] >> bit) & 1:
            if n == 0:
                origin = values[j]
            n += 1
            shifted += values[j] - origin
    middle = origin + shifted / n
    squares = 0.0
    left = 0.0
    for j in range(lo, hi):
        if bit < 0 or (flags[j] >> bit) & 1:
            deviation = values[j] - middle
            squares += deviation * deviation
            left += deviation
    return math.sqrt(max(squares - left * left / n, 0.0) / (n - 1))
