"""Statistics of windows: kernels over chunks of whole groups.

Every kernel sees a chunk of whole groups: group g holds the rows `ip[g]:ip[g + 1]`, each
group in the total order (event_time, transaction_id). The window of row i is `lo[i]:hi[i]`; both edges never go back
inside a group, so every statistic costs one step in and one step out per row. Results are written from row `start` on:
0 for a table, the last row for a payment that has just come in.

`flags` holds a bit per condition; `bit` -1 stands for "every row".
"""

from __future__ import annotations

import math

import numpy as np

from fraudlab.features.kernels.jit import inlined, kernel, part, prefetch
from fraudlab.features.kernels.ranked import (
    empty_set,
    first_at_least,
    held_after,
    held_at,
    held_before,
    in_order,
    sort_rows,
    toggle,
)
from fraudlab.features.kernels.sums import (
    MOST_ROWS,
    UNITS,
    pair_sum,
    spread_by_visits,
    window_spread,
    window_sum,
)

MEAN, RATIO = 1, 2
DISTINCT, SAME, SHARE, MODE, ENTROPY = 0, 1, 2, 3, 4
LOG_UNITS = 2.0**32
KNOWN_LOGS = 256  # numbers whose logarithm is looked up
LOGS = np.array([0.0, *(math.log2(n) for n in range(1, KNOWN_LOGS))])
LOG_WEIGHTS = np.rint(np.arange(KNOWN_LOGS) * LOGS * LOG_UNITS).astype(np.int64)
# Indices that cannot be negative save a check per access. A literal as argument makes a variant of the kernel of its
# own, which is why some numbers are made int64 here, too.
NONE, ONE, TWO = np.uint64(0), np.uint64(1), np.uint64(2)
AHEAD = np.uint64(64)  # rows


@kernel
def group_sizes(codes, sizes):
    """Write how many rows have each code; code -1 belongs to no group."""
    clear(sizes, sizes.size)
    for code in codes:
        if code >= 0:
            sizes[np.uint64(code)] += 1


@kernel
def place_rows(cells, codes, free, to, packed):
    """Write the cells of some rows where their groups go on: one step of a stable counting sort.

    cells : (kinds, rows). free : for each group, where its next row goes; moved on. to : room for a number per row.
    packed : (rows, kinds). One loop after the other, so that the processor can work on many rows at once.
    """
    kinds = np.uint64(packed.shape[1])
    many = np.uint64(codes.size)
    for i in range(many):
        if codes[i] >= 0:
            code = np.uint64(codes[i])
            to[i] = free[code]
            free[code] += 1
        else:
            to[i] = -1
    for k in range(NONE, kinds - ONE, TWO):
        for i in range(many):
            ahead = to[min(i + AHEAD, many - ONE)]
            if ahead >= 0:
                prefetch(packed, np.uint64(ahead), k)
            if to[i] >= 0:
                packed[np.uint64(to[i]), k] = cells[k, i]
                packed[np.uint64(to[i]), k + ONE] = cells[k + ONE, i]
    if kinds % TWO:
        for i in range(many):
            ahead = to[min(i + AHEAD, many - ONE)]
            if ahead >= 0:
                prefetch(packed, np.uint64(ahead), kinds - ONE)
            if to[i] >= 0:
                packed[np.uint64(to[i]), kinds - ONE] = cells[kinds - ONE, i]


@inlined
def running_counts(flags, bit, out):
    """Write the running counts of the rows chosen by `bit`, one longer than the rows."""
    found = 0
    out[0] = 0
    for i in range(flags.size):
        found += (flags[i] >> bit) & 1
        out[i + 1] = found


@inlined
def latest(flags, bit, k, ip, lo, hi, start, out):
    """Write where the k latest chosen rows of each window begin, or `lo` when there are no more than k."""
    if bit < 0:
        for i in range(start, lo.size):
            out[i] = max(lo[i], hi[i] - k)
        return
    for g in range(ip.size - 1):
        left = ip[g]
        entered = ip[g]
        held = 0
        for i in range(max(ip[g], start), ip[g + 1]):
            while entered < hi[i]:
                held += (flags[entered] >> bit) & 1
                entered += 1
            while left < lo[i] or held > k:
                held -= (flags[left] >> bit) & 1
                left += 1
            out[i] = left


@inlined
def count(counted, counts, lo, hi, start, out):
    """Write how many chosen rows each window holds; `counts` are running counts when `counted`, else every row is."""
    if counted:
        for i in range(np.uint64(start), np.uint64(lo.size)):
            out[i] = counts[np.uint64(hi[i])] - counts[np.uint64(lo[i])]
    else:
        for i in range(np.uint64(start), np.uint64(lo.size)):
            out[i] = hi[i] - lo[i]


@inlined
def total(what, values, high, low, counted, counts, lo, hi, start, out):
    """Write the exact sum of each window, its mean (NaN when empty), or the row's value over its mean (NaN at 0)."""
    begin = np.uint64(start)
    end = np.uint64(lo.size)
    if high[0] != 0:
        for i in range(begin, end):
            out[i] = pair_sum(high, low, np.uint64(lo[i]), np.uint64(hi[i]))
    else:
        for i in range(begin, end):
            out[i] = window_sum(high, low, np.uint64(lo[i]), np.uint64(hi[i]))
    if what != 0:
        for i in range(begin, end):
            out[i] /= counts[np.uint64(hi[i])] - counts[np.uint64(lo[i])] if counted else hi[i] - lo[i]
    if what == RATIO:
        for i in range(begin, end):
            out[i] = values[i] / out[i] if out[i] != 0.0 else math.nan


@inlined
def spread(unit, values, flags, bit, sums, squares, large, counted, counts, skip, lo, hi, start, out):
    """Write the standard deviation (n - 1) of each window, in the `unit` of its integers, NaN below two values.

    The first `skip` rows of a window are left out. Windows beyond the reach of integers are visited row by row; gaps,
    of which the first is skipped, never are: their sum is a length of time, which bounds the sum of their squares.
    """
    for i in range(start, lo.size):
        first = min(lo[i] + skip, hi[i])
        n = counts[hi[i]] - counts[first] if counted else hi[i] - first
        if n < 2:
            out[i] = math.nan
        elif skip == 0 and (large[hi[i]] > large[first] or n > MOST_ROWS):
            out[i] = spread_by_visits(values, flags, bit, first, hi[i]) * (UNITS / unit)
        else:
            out[i] = window_spread(sums, squares, first, hi[i], n) / unit


@inlined
def zscore(values, deviation, high, low, counted, counts, lo, hi, start, out):
    """Write (value - mean) / deviation, NaN where the deviation is 0 or missing."""
    for i in range(start, out.size):
        if deviation[i] > 0:
            n = counts[hi[i]] - counts[lo[i]] if counted else hi[i] - lo[i]
            mean = window_sum(high, low, np.uint64(lo[i]), np.uint64(hi[i])) / n
            out[i] = (values[i] - mean) / deviation[i]
        else:
            out[i] = math.nan


@inlined
def extreme(sign, over, values, flags, bit, ip, lo, hi, onwards, start, out):
    """Write the largest (sign 1) or smallest (-1) chosen value of each window, NaN when there is none.

    With `over` the row's own value is divided by it instead, NaN at 0. Of 0 and -0 it is the latest.
    A window has two stretches, parted by `middle`: of the first, `onwards` holds the extreme from each row on, of the
    second only that of all is known. When the window has left the first, all of it becomes the first. Every row is so
    looked at twice at most, and there is next to no branch to guess.
    """
    for g in range(ip.size - 1):
        middle = ip[g]
        entered = ip[g]
        late = -math.inf
        for i in range(max(ip[g], start), ip[g + 1]):
            if lo[i] >= middle:
                late = -math.inf
                for j in range(hi[i] - 1, lo[i] - 1, -1):
                    value = sign * values[j] if bit < 0 or (flags[j] >> bit) & 1 else -math.inf
                    late = value if value > late else late
                    onwards[j] = late
                middle = hi[i]
                entered = hi[i]
                late = -math.inf
            while entered < hi[i]:
                value = sign * values[entered] if bit < 0 or (flags[entered] >> bit) & 1 else -math.inf
                late = value if value >= late else late
                entered += 1
            early = onwards[lo[i]] if lo[i] < middle else -math.inf
            found = late if late >= early else early
            found = sign * found if found > -math.inf else math.nan
            if over:
                found = values[i] / found if found != 0.0 else math.nan
            out[i] = found


@part
def clear(array, size):
    """Write zeros to the first places."""
    for i in range(size):
        array[i] = 0


@inlined
def ranks(values, flags, bit, ip, order, rank, below, upto, keys, spare):
    """Rank the chosen values inside each group.

    order : rows by rising value, from ip[g] on. rank : a row's place in it, -1 when not chosen. below, upto : how many
    of the group's chosen values are smaller than the row's, and how many are not larger; -1 when it has no value.
    keys, spare : room for a number per row.
    """
    for g in range(ip.size - 1):
        a = ip[g]
        many = np.int64(0)
        for i in range(a, ip[g + 1]):
            rank[i] = -1
            below[i] = -1
            if bit < 0 or (flags[i] >> bit) & 1:
                order[a + many] = i
                keys[a + many] = in_order(values[i])
                many += 1
        sort_rows(keys, order, spare, upto, a, a + many)
        same = 0  # where the values that equal this one begin, and end
        for k in range(many):
            row = order[a + k]
            same = same if keys[a + k] == keys[a + same] else k
            rank[row] = k
            below[row] = same
        same = many
        for k in range(many - 1, -1, -1):
            row = order[a + k]
            same = same if keys[a + k] == keys[a + same - 1] else k + 1
            upto[row] = same
        if many < ip[g + 1] - a:
            for i in range(a, ip[g + 1]):
                value = values[i]
                if rank[i] < 0 and value == value:
                    below[i] = first_at_least(values, order, a, many, value, np.bool_(False))
                    upto[i] = first_at_least(values, order, a, many, value, np.bool_(True))


@inlined
def quantile(q, values, order, rank, ip, lo, hi, room, start, out):
    """Write the quantile q of each window, interpolated linearly between the two nearest values; NaN when empty."""
    for g in range(ip.size - 1):
        a = ip[g]
        held = empty_set(room, ip[g + 1] - a)
        left = a
        entered = a
        n = np.int64(0)
        for i in range(max(a, start), ip[g + 1]):
            left, entered, n = move_ranks(rank, held, left, entered, n, lo[i], hi[i])
            if n == 0:
                out[i] = math.nan
                continue
            place = q * (n - 1)
            k = np.int64(math.floor(place))
            at = held_at(held, k)
            found = values[order[a + at]] + 0.0  # zero has no sign
            if place > k:
                found += (values[order[a + held_after(held, at, k + 1)]] - found) * (place - k)
            out[i] = found


@inlined
def percentile(rank, below, upto, ip, lo, hi, room, start, out):
    """Write the share of each window's values that are smaller than the row's, those equal to it counting half."""
    for g in range(ip.size - 1):
        a = ip[g]
        held = empty_set(room, ip[g + 1] - a)
        left = a
        entered = a
        n = np.int64(0)
        for i in range(max(a, start), ip[g + 1]):
            left, entered, n = move_ranks(rank, held, left, entered, n, lo[i], hi[i])
            if n == 0 or below[i] < 0:
                out[i] = math.nan
            else:
                out[i] = 0.5 * (held_before(held, below[i]) + held_before(held, upto[i])) / n


@part
def move_ranks(rank, held, left, entered, n, lo, hi):
    """Move the window, whose ranks are held in a set, to lo:hi; return its edges and how many ranks it holds."""
    if entered < lo and n == 0:
        left = lo
        entered = lo
    while entered < hi:
        if rank[entered] >= 0:
            toggle(held, rank[entered], np.int64(1))
            n += 1
        entered += 1
    while left < lo:
        if rank[left] >= 0:
            toggle(held, rank[left], np.int64(-1))
            n -= 1
        left += 1
    return left, entered, n


@inlined
def last_quantile(q, values, flags, bit, lo, hi, work):
    """Return what `quantile` would write of one window, by selection: no need to rank rows for one answer."""
    n = 0
    for i in range(lo, hi):
        if bit < 0 or (flags[i] >> bit) & 1:
            work[n] = values[i] + 0.0
            n += 1
    if n == 0:
        return math.nan
    place = q * (n - 1)
    k = np.int64(math.floor(place))
    select(work, n, k)
    found = work[k]
    if place > k:
        above = work[k + 1]
        for i in range(k + 2, n):
            above = min(above, work[i])
        found += (above - found) * (place - k)
    return found


@part
def select(values, n, k):
    """Put the first n values in such an order that none before place k is larger, none after it smaller (Hoare)."""
    left = 0
    right = n - 1
    while left < right:
        pivot = values[(left + right) // 2]
        i = left
        j = right
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if j < k:
            left = i
        if i > k:
            right = j


@inlined
def last_percentile(values, flags, bit, lo, hi, value):
    """Return what `percentile` would write of one window, for the value of its row, by counting."""
    n = 0
    twice = 0
    for i in range(lo, hi):
        if bit < 0 or (flags[i] >> bit) & 1:
            n += 1
            twice += (values[i] < value) + (values[i] <= value)
    return 0.5 * twice / n if n and value == value else math.nan


@part
def log_weight(n):
    """Return n log2(n) as an integer in units of 2**-32, so that sums of it are exact."""
    return LOG_WEIGHTS[np.uint64(n)] if n < KNOWN_LOGS else np.int64(np.rint(n * math.log2(n) * LOG_UNITS))


@inlined
def tally(what, codes, flags, bit, ip, lo, hi, table, often, start, out):
    """Write what the chosen codes of each window tell; code -1 is no value and does not count.

    DISTINCT : how many different ones. SAME, SHARE : how many equal the row's own, and their share.
    MODE : the share of the most frequent one. ENTROPY : -sum p log2 p, in bits.
    `table` (a zero per code) and `often` (a zero per row and one more) are all zeros again afterwards.
    """
    for g in range(ip.size - 1):
        left = ip[g]
        entered = ip[g]
        different = 0
        most = 0
        weight = np.int64(0)
        n = 0
        for i in range(max(ip[g], start), ip[g + 1]):
            if entered < lo[i] and n == 0:
                left = lo[i]
                entered = left
            while entered < hi[i]:
                code = codes[entered]
                if code >= 0 and (bit < 0 or (flags[entered] >> bit) & 1):
                    held = table[code]
                    different += held == 0
                    table[code] = held + 1
                    n += 1
                    if what == MODE:
                        often[held] -= 1
                        often[held + 1] += 1
                        most = max(most, held + 1)
                    elif what == ENTROPY:
                        weight += log_weight(held + 1) - log_weight(held)
                entered += 1
            while left < lo[i]:
                code = codes[left]
                if code >= 0 and (bit < 0 or (flags[left] >> bit) & 1):
                    held = table[code]
                    different -= held == 1
                    table[code] = held - 1
                    n -= 1
                    if what == MODE:
                        often[held] -= 1
                        often[held - 1] += 1
                        most -= often[most] == 0
                    elif what == ENTROPY:
                        weight -= log_weight(held) - log_weight(held - 1)
                left += 1
            if what == DISTINCT:
                out[i] = different
            elif what <= SHARE:  # or SAME
                own = codes[i]
                found = np.float64(table[own]) if own >= 0 else math.nan
                if what == SHARE:
                    found = found / n if n else math.nan
                out[i] = found
            elif n == 0:
                out[i] = math.nan
            elif what == MODE:
                out[i] = most / n
            else:
                most_even = LOGS[n] if n < KNOWN_LOGS else math.log2(n)
                out[i] = max(most_even - weight / LOG_UNITS / n, 0.0) if different > 1 else 0.0
        for j in range(left, entered):
            if codes[j] >= 0:
                table[codes[j]] = 0
        if what == MODE:
            clear(often, ip[g + 1] - ip[g] + 1)


@inlined
def gaps(time, ip, out):
    """Write the microseconds since the group's previous row; 0 for its first."""
    for g in range(ip.size - 1):
        for i in range(ip[g], ip[g + 1]):
            out[i] = time[i] - time[max(i - 1, ip[g])]


@inlined
def mean_gap(time, unit, lo, hi, start, out):
    """Write the mean time between one row of a window and the next, NaN below two rows."""
    for i in range(start, lo.size):
        n = hi[i] - lo[i]
        out[i] = (time[hi[i] - 1] - time[lo[i]]) / unit / (n - 1) if n > 1 else math.nan


@inlined
def since_last(time, ip, unit, start, out):
    """Write the time since the group's previous row, NaN for its first."""
    for g in range(ip.size - 1):
        for i in range(max(ip[g], start), ip[g + 1]):
            out[i] = (time[i] - time[i - 1]) / unit if i > ip[g] else math.nan


@inlined
def since_first(time, ip, unit, start, out):
    """Write the time since the group's first row, 0 for itself."""
    for g in range(ip.size - 1):
        for i in range(max(ip[g], start), ip[g + 1]):
            out[i] = (time[i] - time[ip[g]]) / unit


@inlined
def is_new(ip, start, out):
    """Write 1 for the first row of each group, else 0."""
    for g in range(ip.size - 1):
        for i in range(max(ip[g], start), ip[g + 1]):
            out[i] = 1.0 if i == ip[g] else 0.0


@inlined
def decayed(half_life, valued, values, flags, bit, carrying, carried, time, ip, after, out):
    """Write the sum of the chosen values (ones unless `valued`) of the rows before, each halved every `half_life`.

    after : the sum just after each row, as of its own time. When `carrying`, `carried` holds it for rows whose own past
    is no longer here, NaN elsewhere.
    """
    for g in range(ip.size - 1):
        sum_ = 0.0
        for i in range(ip[g], ip[g + 1]):
            if i > ip[g]:
                sum_ *= 2.0 ** (-(time[i] - time[i - 1]) / half_life)
            out[i] = sum_
            if carrying and carried[i] == carried[i]:
                sum_ = carried[i]
            elif bit < 0 or (flags[i] >> bit) & 1:
                sum_ += values[i] if valued else 1.0
            after[i] = sum_
