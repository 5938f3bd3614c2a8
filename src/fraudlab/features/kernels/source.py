"""Single passes over a frame's columns: their order, their facts, their codes.

Long results are written to arrays the caller has made: numpy's come in large pages, which are cheaper to touch.
"""

from __future__ import annotations

import math

import numpy as np

from fraudlab.features.kernels.jit import kernel
from fraudlab.features.kernels.labels import NEVER
from fraudlab.features.kernels.table import HALF, ODD

ONE = np.uint64(1)
NO_SIGN = np.int64(2**63 - 1)
SECOND = 1_000_000  # microseconds
PART = 1e-6  # of a second: quicker than to divide, and as good as what is rounded is small
MOST_SECONDS = 2**31


@kernel
def time_order(time, rank):
    """Return how often times fall from one row to the next, how often they stay, how many are `odd`, and `wrong`.

    Odd ones are not a whole number of seconds (below 2**31) away from the first one. Wrong is how often ranks do not
    rise where times stay.
    """
    falls = 0
    same = 0
    odd = 0
    wrong = 0
    for i in range(ONE, np.uint64(time.size)):
        falls += time[i] < time[i - ONE]
        same += time[i] == time[i - ONE]
        wrong += (time[i] == time[i - ONE]) & (rank[i] <= rank[i - ONE])
        apart = time[i] - time[0]
        seconds = np.rint(np.float64(apart) * PART)
        odd += (np.int64(seconds) * SECOND != apart) | (abs(seconds) >= MOST_SECONDS)
    return falls, same, odd, wrong


@kernel
def add_seconds(time, base, shift, out):
    """Add how many seconds times, which are whole numbers of them apart, are after `base`, at bits that are 0."""
    for i in range(np.uint64(time.size)):
        out[i] |= np.int64(np.rint(np.float64(time[i] - base) * PART)) << shift


@kernel
def add_numbers(first, shift, out):
    """Add first, first + 1, ... at bits that are 0."""
    for i in range(np.uint64(out.size)):
        out[i] |= (first + np.int64(i)) << shift


@kernel
def add_bits(values, more, shift, out):
    """Add values + more, whole numbers not below 0, at bits that are 0."""
    for i in range(np.uint64(values.size)):
        out[i] |= (np.int64(values[i]) + more) << shift


@kernel
def longer_ties(time, rows):
    """Return whether more than so many rows share a time, where times never fall."""
    apart = np.uint64(rows)
    found = 0
    for i in range(apart, np.uint64(time.size)):
        found += time[i] == time[i - apart]
    return found > 0


@kernel
def tied_rows(time):
    """Return the rows that share their time with a neighbour."""
    out = np.empty(time.size, np.int64)
    n = 0
    for i in range(time.size):
        if (i > 0 and time[i] == time[i - 1]) or (i + 1 < time.size and time[i] == time[i + 1]):
            out[n] = i
            n += 1
    return out[:n]


@kernel
def order_ties(time, rank, out):
    """Write the rows, whose times never fall, in the order (time, rank); return how many were out of place, and twins.

    Twins are rows that equal the one before in both.
    """
    moved = 0
    twins = 0
    for i in range(time.size):
        k = i
        while k > 0 and time[out[k - 1]] == time[i] and rank[out[k - 1]] > rank[i]:
            out[k] = out[k - 1]
            k -= 1
        out[k] = i
        moved += k < i
        twins += k > 0 and time[out[k - 1]] == time[i] and rank[out[k - 1]] == rank[i]
    return moved, twins


@kernel
def number_facts(values, enough):
    """Return how many values are missing, how many infinite, and the sum of the sizes of the others.

    Where it is clear that the sum is below `enough`, some number between them is returned.
    """
    bits = values.view(np.int64)
    largest = np.zeros(1, np.int64)  # floats without their sign are in the order of the integers they are written as
    for i in range(np.uint64(bits.size)):
        size = bits[i] & NO_SIGN
        largest[0] = size if size > largest[0] else largest[0]
    bound = largest.view(np.float64)[0] * values.size
    if bound < enough:  # not where the largest is infinite or no number
        return 0, 0, bound
    missing = 0
    infinite = 0
    total = 0.0
    for value in values:
        if value != value:
            missing += 1
        elif math.isinf(value):
            infinite += 1
        else:
            total += abs(value)
    return missing, infinite, total


@kernel
def narrowed(values, out):
    """Write integers with 32 bits, whatever becomes of those that need more; return the smallest and the largest."""
    least = values[0]
    most = values[0]
    for i in range(np.uint64(values.size)):
        out[i] = np.int32(values[i])
        least = values[i] if values[i] < least else least
        most = values[i] if values[i] > most else most
    return least, most


@kernel
def shifted(values, least, out):
    """Write the integers less the smallest one, as codes."""
    for i in range(values.size):
        out[i] = values[i] - least


@kernel
def dealt(codes, part_of, free, out):
    """Write the rows of each part of the groups, in their order, from where it is `free` on."""
    for i in range(np.uint64(codes.size)):
        if codes[i] >= 0:
            part = np.uint64(part_of[np.uint64(codes[i])])
            out[np.uint64(free[part])] = i
            free[part] += 1


@kernel
def first_rows(codes, seen, out):
    """Write which rows are the first with their code; `seen` has a False for each, code -1 is never the first."""
    for i in range(np.uint64(codes.size)):
        out[i] = False
        if codes[i] >= 0:
            code = np.uint64(codes[i])
            out[i] = not seen[code]
            seen[code] = True


@kernel
def missing_codes(values, out):
    """Write -1 where a value is missing, 0 elsewhere; return how many zeros have a minus."""
    bits = values.view(np.int64)
    minus = 0
    for i in range(values.size):
        out[i] = 0 if values[i] == values[i] else -1
        minus += values[i] == 0 and bits[i] != 0
    return minus


@kernel
def missing_pairs(first, second, out):
    """Write -1 where one of two codes is missing, 0 elsewhere."""
    for i in range(first.size):
        out[i] = -1 if first[i] < 0 or second[i] < 0 else 0


@kernel
def numbered(first, second, slots, out):
    """Number pairs of integers of 32 bits in the order in which they come; where -1 stands, it stays. Return how many.

    slots : -1 everywhere, a power of two of them, more than rows: an open table of the row where a pair first came.
    """
    many = 0
    mask = np.uint64(slots.size - 1)
    for i in range(np.uint64(out.size)):
        if out[i] < 0:
            continue
        mixed = (np.uint64(np.uint32(first[i])) << HALF) | np.uint64(np.uint32(second[i]))
        mixed *= ODD
        place = (mixed ^ (mixed >> HALF)) & mask
        row = slots[place]
        while row >= 0 and (first[row] != first[i] or second[row] != second[i]):
            place = (place + np.uint64(1)) & mask
            row = slots[place]
        if row < 0:
            slots[place] = i
            out[i] = many
            many += 1
        else:
            out[i] = out[row]
    return many


@kernel
def known_from(label_time, time, unknown, out):
    """Write the moment from which each label counts: label_time, not before the event; NEVER without a label."""
    for i in range(time.size):
        missing = unknown[i] or label_time[i] == -NEVER - 1
        out[i] = NEVER if missing else max(label_time[i], time[i])


@kernel
def label_facts(label_time, time, unknown):
    """Return the longest time from an event to the moment its label is known, 0 without labels, and how many miss."""
    longest = np.int64(0)
    missing = 0
    for i in range(np.uint64(time.size)):
        misses = unknown[i] | (label_time[i] == -NEVER - 1)
        missing += misses
        longest = max(longest, 0 if misses else label_time[i] - time[i])
    return longest, missing
