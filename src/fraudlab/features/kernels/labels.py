"""Statistics of labels: what was known at t of the rows of a window. Chunks, windows and `start` as in `windows`.

`enter` is the moment from which a row's label may count: when it becomes known and, with a delay, when the row is old
enough. A label that enters at exactly t counts only for rows before the present one. NEVER stands for no label.
"""

from __future__ import annotations

import math

import numpy as np

from fraudlab.features.kernels.edges import move_on
from fraudlab.features.kernels.jit import inlined
from fraudlab.features.kernels.ranked import empty_set, held_at, held_before, sort_rows, toggle

NEVER = np.iinfo(np.int64).max


@inlined
def entering(known, time, delay, ip, enter, by_enter, settled, keys, spare):
    """Write when each label enters, and each group's rows in the order in which they do.

    A group whose labels enter in the order of its rows, which is common, is told by `settled` at its first row; there
    a row without a label gets the moment of the one before it, so that `enter` never falls. keys, spare : room.
    """
    for g in range(ip.size - 1):
        a = ip[g]
        before = np.int64(-NEVER)
        rising = True
        for i in range(a, ip[g + 1]):
            enter[i] = NEVER if known[i] == NEVER else max(known[i], time[i] + delay)
            by_enter[i] = i
            if enter[i] != NEVER:
                rising = rising and enter[i] >= before
                before = enter[i]
        if rising and a < ip[g + 1]:
            settled[a] = True
            before = np.int64(-NEVER)
            for i in range(a, ip[g + 1]):
                if enter[i] == NEVER:
                    enter[i] = before
                before = enter[i]
        else:
            for i in range(a, ip[g + 1]):
                keys[i] = enter[i]
            sort_rows(keys, by_enter, spare, settled, a, ip[g + 1])
            settled[a] = False


@inlined
def entered(time, enter, settled, ip, start, out):
    """Write for each row of a settled group before which row all that have a label had entered by then."""
    for g in range(ip.size - 1):
        a = ip[g]
        if a == ip[g + 1] or not settled[a]:
            continue
        first = np.uint64(a)
        for i in range(np.uint64(max(a, start)), np.uint64(ip[g + 1])):
            first = move_on(enter, first, i, time[i])
            out[i] = np.int64(first)


@inlined
def running_labels(known, flags, fraud_bit, labelled, frauds):
    """Write the running counts of rows with a label and of frauds among them, one longer than the rows."""
    labelled[0] = 0
    frauds[0] = 0
    for i in range(known.size):
        has = known[i] != NEVER
        labelled[i + 1] = labelled[i] + has
        frauds[i + 1] = frauds[i] + (has and (flags[i] >> fraud_bit) & 1)


@inlined
def window_labels(
    time, enter, by_enter, settled, entered, labelled, frauds, flags, fraud_bit, ip, lo, start, bad, some
):  # fmt: skip
    """Write how many labels of each window are known at t (`some`), and how many of them are fraud (`bad`)."""
    for g in range(ip.size - 1):
        a = ip[g]
        b = ip[g + 1]
        if a == b:
            continue
        k = a
        if settled[a]:
            for i in range(np.uint64(max(a, start)), np.uint64(b)):
                end = np.uint64(entered[i])
                first = min(np.uint64(lo[i]), end)
                some[i] = labelled[end] - labelled[first]
                bad[i] = frauds[end] - frauds[first]
            continue
        left = a
        known_now = 0
        bad_now = 0
        for i in range(max(a, start), b):
            now = time[i]
            while k < b:
                j = by_enter[k]
                if enter[j] > now or (enter[j] == now and j >= i):
                    break
                if j >= left:
                    known_now += 1
                    bad_now += (flags[j] >> fraud_bit) & 1
                k += 1
            while left < lo[i]:
                if enter[left] < now or (enter[left] == now and left < i):
                    known_now -= 1
                    bad_now -= (flags[left] >> fraud_bit) & 1
                left += 1
            some[i] = known_now
            bad[i] = bad_now


@inlined
def latest_labels(last, time, known, enter, by_enter, flags, fraud_bit, ip, lo, held, start, bad, some):
    """Write the same as `window_labels` of the `last` latest rows of each window whose label is known at t.

    held[oldest:newest] : these rows, in their order. A row that had to leave, because the window has passed it or
    `last` later ones are known, never comes back.
    """
    for g in range(ip.size - 1):
        a = ip[g]
        b = ip[g + 1]
        oldest = 0
        newest = 0
        frauds = 0
        k = a
        for i in range(max(a, start), b):
            now = time[i]
            while k < b:
                j = by_enter[k]
                if enter[j] > now or (enter[j] == now and j >= i):
                    break
                k += 1
                full = newest - oldest == last
                if known[j] == NEVER or j < lo[i] or (full and j < held[oldest]):
                    continue
                if full:
                    frauds -= (flags[held[oldest]] >> fraud_bit) & 1
                    oldest += 1
                place = newest
                while place > oldest and held[place - 1] > j:
                    held[place] = held[place - 1]
                    place -= 1
                held[place] = j
                newest += 1
                frauds += (flags[j] >> fraud_bit) & 1
            while oldest < newest and held[oldest] < lo[i]:
                frauds -= (flags[held[oldest]] >> fraud_bit) & 1
                oldest += 1
            some[i] = newest - oldest
            bad[i] = frauds


@inlined
def since_fraud(first, unit, time, known, enter, by_enter, flags, fraud_bit, ip, lo, room, start, out):
    """Write the time since the last (or `first`) row of each window known at t to be fraud, NaN when there is none."""
    for g in range(ip.size - 1):
        a = ip[g]
        b = ip[g + 1]
        guilty = empty_set(room, b - a)
        n = 0
        k = a
        for i in range(max(a, start), b):
            now = time[i]
            while k < b:
                j = by_enter[k]
                if enter[j] > now or (enter[j] == now and j >= i):
                    break
                if known[j] != NEVER and (flags[j] >> fraud_bit) & 1:
                    toggle(guilty, j - a, np.int64(1))
                    n += 1
                k += 1
            gone = held_before(guilty, lo[i] - a)
            if gone == n:
                out[i] = math.nan
            else:
                out[i] = (now - time[a + held_at(guilty, gone if first else n - 1)]) / unit


@inlined
def rate(bad, some, empty, prior, strength, start, out):
    """Write frauds / labelled, drawn towards `prior` as by `strength` more labels; `empty` where none is known."""
    for i in range(start, out.size):
        out[i] = (bad[i] + prior * strength) / (some[i] + strength)
    # Apart from the division, so that there is no branch to guess.
    for i in range(start, out.size):
        out[i] = out[i] if some[i] > 0 else empty


@inlined
def known_rate(frauds, counted, labelled, lo, hi, empty, prior, strength, start, out):
    """Write the same as `rate` of windows whose labels are all known, from running counts.

    Every row has a label unless `counted`.
    """
    for i in range(np.uint64(start), np.uint64(out.size)):
        out[i] = frauds[np.uint64(hi[i])] - frauds[np.uint64(lo[i])]
    # Apart from the counts, so that the processor divides eight rows at once.
    for i in range(np.uint64(start), np.uint64(out.size)):
        some = labelled[np.uint64(hi[i])] - labelled[np.uint64(lo[i])] if counted else hi[i] - lo[i]
        share = (out[i] + prior * strength) / (some + strength)
        out[i] = share if some > 0 else empty
