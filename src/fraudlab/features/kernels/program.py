"""The one entry to the kernels: run a list of operations over chunks of whole groups.

A chunk's rows are spread into small, contiguous scratch that stays in the processor's cache; operations fill `slots`
(edges of windows, running sums, ranks ...) from which others write result columns into `block`; the block then goes to
the caller's rows in one pass. `fraudlab.features.plan` makes the operations and says what the numbers in them mean.
"""

from __future__ import annotations

import numpy as np

from fraudlab.features.kernels import labels, places, sums, windows
from fraudlab.features.kernels.jit import kernel, prefetch

# What fills slots ...
CURSOR, EDGE, EDGES, LATEST, COUNTS, SUMS, INTEGERS, GAPS, SQUARES, RANKS = range(10)
ENTERING, ENTERED, LABELS, WINDOW_LABELS, LATEST_LABELS, JOURNEY, PLACES, HOURS = range(20, 28)
# ... and what writes a column.
COUNT, TOTAL, SPREAD, ZSCORE, EXTREME, QUANTILE, PERCENTILE, TALLY, MEAN_GAP = range(40, 49)
SINCE_LAST, SINCE_FIRST, NEW, DECAYED, DISTANCE, SPEED, USUAL_DISTANCE, USUAL_HOUR = range(60, 68)
LABEL_COUNT, RATE, KNOWN_RATE, SINCE_FRAUD = range(80, 84)
WIDTH = 11  # of an operation: code, target, lo, hi, value, bit, counts, and four that depend on the code
AHEAD = np.uint64(16)  # rows


@kernel
def spread_words(packed, words):
    """Write the words of the rows, one kind after the other: words[w, i] = packed[i, w]."""
    for w in range(np.uint64(packed.shape[1])):
        for i in range(np.uint64(packed.shape[0])):
            words[w, i] = packed[i, w]


@kernel
def scatter(block, rows, start, shift, columns, out):
    """Write the block's columns to the caller's rows: out[rows[i] - shift, columns[k]] = block[k, i].

    The rows lie far apart: what will be written is asked for some rows ahead.
    """
    last = np.uint64(rows.size - 1)
    for i in range(np.uint64(start), np.uint64(rows.size)):
        ahead = np.uint64(rows[min(i + AHEAD, last)] - shift)
        line = np.int64(-1)
        for k in range(np.uint64(columns.size)):
            if columns[k] >> 3 != line:
                line = columns[k] >> 3
                prefetch(out, ahead, np.uint64(columns[k]))
        row = np.uint64(rows[i] - shift)
        for k in range(np.uint64(columns.size)):
            out[row, np.uint64(columns[k])] = block[k, i]


@kernel
def run(
    ops, params, packed, rows, first, last, held, begin, end, capacity, scratch, shift, shape, tables, columns, out64,
    out32,
):  # fmt: skip
    """Run the operations over the groups begin:end and write block row k to column `columns[k]` of the result.

    ops, params : one row per operation, integers and numbers. packed : (rows, words), what is known of each row: time,
    then flags, values, codes, label times. rows : the caller's row of each, `shift` higher than in the result. first,
    last : where each group begins and ends in both. held : how many rows of each group are known already, so that
    nothing is written for them; such groups may lie anywhere and are run one by one. When it is empty, everything is
    written, and groups that follow each other are run together. capacity : rows in scratch, at least those of the
    largest group. scratch : as long as `Plan.scratch` says, with anything in it. shape : (slots, block rows). tables :
    zeros, all zeros again afterwards. The result is `out64` or `out32`; the other one has no rows.
    """
    width = packed.shape[1]
    g = begin
    while g < end:
        a = first[g]
        h = g + 1
        start = np.int64(0)
        if held.size:
            start = held[g]
        else:
            while h < end and last[h] - a <= capacity:
                h += 1
        m = last[h - 1] - a
        ip = np.empty(h - g + 1, np.int64)
        for k in range(h - g):
            ip[k] = first[g + k] - a
        ip[h - g] = m
        # What these rows need lies close together.
        words = scratch[: width * m].reshape((width, m))
        values = words.view(np.float64)
        used = width * m
        slots = scratch[used : used + shape[0] * (m + 1)].reshape((shape[0], m + 1))
        reals = slots.view(np.float64)
        used += shape[0] * (m + 1)
        block = scratch[used : used + shape[1] * m].reshape((shape[1], m)).view(np.float64)
        used += shape[1] * m
        seen = scratch[used : used + 3 * (m + 2)].reshape((3, m + 2))
        windows.clear(seen[2], m + 2)
        spread_words(packed[a : a + m], words)
        time = words[0, :m]
        single = start > 0 and start == m - 1  # a payment that has just come in: nothing else is wanted
        for k in range(ops.shape[0]):
            o = ops[k]
            p = params[k]
            op, to, bit = o[0], o[1], o[5]
            # A condition is a bit of a word: 64 * word + bit, or -1 for none.
            flags = words[max(bit, 0) >> 6, :m]
            if bit >= 0:
                bit &= 63
            # What most operations look at; those that do not, get any row of it.
            lo = slots[o[2], :m]
            hi = slots[o[3], :m]
            own = values[o[4] if 0 <= o[4] < width else 0, :m]
            counted = o[6] >= 0
            counts = slots[max(o[6], 0)]
            out = block[to if op >= COUNT else 0, :m]
            if op == CURSOR:
                for i in range(m):
                    slots[to, i] = i + o[4]
            elif op == EDGE:
                windows.edge(time, ip, o[4], start, slots[to])
            elif op == EDGES:
                windows.edges(time, ip, o[4], o[7], o[8], start, slots[to], lo, hi)
            elif op == LATEST:
                windows.latest(flags, bit, o[4], ip, lo, hi, start, slots[to])
            elif op == COUNTS:
                windows.running_counts(flags, bit, slots[to])
            elif op == SUMS:
                sums.running_sums(own, flags, bit, slots[to], slots[to + 1])
            elif op == INTEGERS:
                sums.to_integers(own, flags, bit, slots[to])
            elif op == GAPS:
                windows.gaps(time, ip, slots[to])
            elif op == SQUARES:
                sums.running_squares(
                    slots[o[4], :m], flags, bit, slots[to : to + 2], slots[to + 2 : to + 4], slots[to + 4]
                )
            elif op == RANKS and not single:
                windows.ranks(own, flags, bit, ip, slots[to], slots[to + 1], slots[to + 2], slots[to + 3])
            elif op == ENTERING:
                labels.entering(words[o[7], :m], time, o[4], ip, slots[to], slots[to + 1], slots[to + 2])
            elif op == ENTERED:
                e = o[4]
                labels.entered(time, slots[e], slots[e + 2], ip, start, slots[to])
            elif op == LABELS:
                labels.running_labels(words[o[7], :m], flags, bit, slots[to], slots[to + 1])
            elif op == WINDOW_LABELS:
                e, r = o[4], o[6]
                labels.window_labels(
                    time, slots[e], slots[e + 1], slots[e + 2], hi, slots[r], slots[r + 1], flags, bit, ip, lo, start,
                    slots[to], slots[to + 1],
                )  # fmt: skip
            elif op == LATEST_LABELS:
                labels.latest_labels(
                    o[8], time, words[o[7], :m], slots[o[4]], slots[o[4] + 1], flags, bit, ip, lo, seen[0], seen[1],
                    start, slots[to], slots[to + 1],
                )  # fmt: skip
            elif op == JOURNEY:
                places.journey(values[o[4], :m], values[o[5], :m], time, ip, reals[to], reals[to + 1])
            elif op == PLACES:
                places.running_places(values[o[4], :m], values[o[5], :m], slots[to : to + 4])
            elif op == HOURS:
                places.running_hours(words[o[4], :m], slots[to : to + 2])
            elif op == COUNT:
                windows.count(counted, counts, lo, hi, start, out)
            elif op == TOTAL:
                windows.total(o[7], own, slots[o[8]], slots[o[8] + 1], counted, counts, lo, hi, start, out)
            elif op in (SPREAD, ZSCORE):
                s = o[8]
                windows.spread(
                    p[0], own, flags, bit, slots[s : s + 2], slots[s + 2 : s + 4], slots[s + 4], counted, counts, o[7],
                    lo, hi, start, out,
                )  # fmt: skip
                if op == ZSCORE:
                    mean = reals[o[10], :m]
                    windows.total(windows.MEAN, own, slots[o[9]], slots[o[9] + 1], counted, counts, lo, hi, start, mean)
                    windows.zscore(own, mean, out, start)
            elif op == EXTREME:
                windows.extreme(o[7], o[8] != 0, own, flags, bit, ip, lo, hi, seen[0], start, out)
            elif op == QUANTILE and single:
                out[start] = windows.last_quantile(
                    p[0], own, flags, bit, lo[start], hi[start], seen[0].view(np.float64)
                )
            elif op == PERCENTILE and single:
                out[start] = windows.last_percentile(own, flags, bit, lo[start], hi[start], own[start])
            elif op == QUANTILE:
                windows.quantile(p[0], own, slots[o[8]], slots[o[8] + 1], ip, lo, hi, seen[0], start, out)
            elif op == PERCENTILE:
                r = o[8]
                windows.percentile(slots[r + 1], slots[r + 2], slots[r + 3], ip, lo, hi, seen[0], start, out)
            elif op == TALLY:
                windows.tally(o[7], words[o[4], :m], flags, bit, ip, lo, hi, tables, seen[2], start, out)
            elif op == MEAN_GAP:
                windows.mean_gap(time, p[0], lo, hi, start, out)
            elif op == SINCE_LAST:
                windows.since_last(time, ip, p[0], start, out)
            elif op == SINCE_FIRST:
                windows.since_first(time, ip, p[0], start, out)
            elif op == NEW:
                windows.is_new(ip, start, out)
            elif op == DECAYED:
                carried = values[max(o[8], 0), : m if o[8] >= 0 else 0]
                windows.decayed(p[0], o[4] >= 0, own, flags, bit, carried, time, ip, block[o[7], :m], out)
            elif op == DISTANCE:
                for i in range(start, m):
                    out[i] = reals[o[8], i]
            elif op == SPEED:
                places.speed(reals[o[8]], reals[o[8] + 1], p[0], p[1], start, out)
            elif op == USUAL_DISTANCE:
                places.usual_distance(own, values[o[5], :m], slots[o[8] : o[8] + 4], lo, hi, start, out)
            elif op == USUAL_HOUR:
                places.usual_hour(o[7], words[o[4], :m], slots[o[8] : o[8] + 2], lo, hi, start, out)
            elif op == LABEL_COUNT:
                for i in range(start, m):
                    out[i] = slots[o[8], i]
            elif op == RATE:
                labels.rate(slots[o[8]], slots[o[8] + 1], p[0], p[1], p[2], start, out)
            elif op == KNOWN_RATE:
                labels.known_rate(slots[o[8]], counted, counts, lo, hi, p[0], p[1], p[2], start, out)
            elif op == SINCE_FRAUD:
                e = o[8]
                labels.since_fraud(
                    o[9] != 0,
                    p[0],
                    time,
                    words[o[7], :m],
                    slots[e],
                    slots[e + 1],
                    flags,
                    bit,
                    ip,
                    lo,
                    seen[0],
                    start,
                    out,
                )
        if out64.shape[0]:
            scatter(block, rows[a : a + m], start, shift, columns, out64)
        else:
            scatter(block, rows[a : a + m], start, shift, columns, out32)
        g = h
