"""A program: a list of operations that is run over chunks of whole groups.

A chunk's rows are spread into small, contiguous scratch that stays in the processor's cache; operations fill `slots`
(edges of windows, running sums, ranks ...) from which others write result columns into `block`; the block then goes to
the caller's rows in one pass. `fraudlab.features.plan` makes the operations and says what the numbers in them mean;
what each of them does is in `operations`, and is called by its address.
"""

from __future__ import annotations

import numpy as np

from fraudlab.features.kernels import frame as at
from fraudlab.features.kernels.jit import address_of, call, kernel, part, pointer_to, prefetch, write_two

# What fills slots ...
CURSOR, EDGE, THREE_EDGES, FOUR_EDGES, LATEST, COUNTS, SUMS, INTEGERS, GAPS, SQUARES, RANKS, SPREAD = range(12)
ENTERING, ENTERED, LABELS, WINDOW_LABELS, LATEST_LABELS, JOURNEY, PLACES, HOURS = range(20, 28)
# ... and what writes a column.
COUNT, TOTAL, ZSCORE, EXTREME, QUANTILE, PERCENTILE, TALLY, MEAN_GAP, COPY = range(40, 49)
SINCE_LAST, SINCE_FIRST, NEW, DECAYED, SPEED, USUAL_DISTANCE, USUAL_HOUR = range(60, 67)
LABEL_COUNT, RATE, KNOWN_RATE, SINCE_FRAUD = range(80, 84)
# Instead of these, where only the last row's result is wanted; -1: nothing is to be done then.
LAST_QUANTILE, LAST_PERCENTILE = range(90, 92)
CODES = 92
INSTEAD = np.arange(CODES)
INSTEAD[RANKS], INSTEAD[QUANTILE], INSTEAD[PERCENTILE] = -1, LAST_QUANTILE, LAST_PERCENTILE
NONE, ONE, TWO = np.uint64(0), np.uint64(1), np.uint64(2)
ROWS = np.uint64(64)  # of the result that are written together
WIDTH = at.WIDTH  # of an operation: code, target, lo, hi, value, bit, counts, and four that depend on the code


@part
def spread_word(cells, first, apart, word, out):
    """Write a word of some rows, whose cells lie `apart` from `first` on; `word` is its row of the layout."""
    shift, bits, unit, base = word[1], word[2], word[3], word[4]
    if unit == 0:
        for i in range(np.uint64(out.size)):
            out[i] = cells[first + apart * i]
    else:
        for i in range(np.uint64(out.size)):
            out[i] = base + unit * ((cells[first + apart * i] >> shift) & bits)


@part
def spread_words(packed, layout, first, frame):
    """Write the words of the chunk's rows, from `first` on, one kind after the other."""
    cells = packed.reshape(-1)
    kinds = np.uint64(packed.shape[1])
    first = np.uint64(first) * kinds
    if kinds == ONE:
        for w in range(layout.shape[0]):
            spread_word(cells, first, ONE, layout[w], at.word(frame, w))
    elif kinds == TWO:  # of cells side by side the processor reads eight at once, of others one
        room = at.slots(frame, 0, 2)  # in the slots, and the block behind them, is nothing yet
        for i in range(np.uint64(frame[at.ROWS])):
            room[0, i] = cells[first + TWO * i]
            room[1, i] = cells[first + TWO * i + ONE]
        for w in range(layout.shape[0]):
            spread_word(room[layout[w, 0]], NONE, ONE, layout[w], at.word(frame, w))
    else:
        for w in range(layout.shape[0]):
            spread_word(cells, first + np.uint64(layout[w, 0]), kinds, layout[w], at.word(frame, w))


@part
def columns_of_lines(columns, most, out):
    """Write columns by which every line of the cache is met that holds one of a row's columns; return how many.

    A line holds `most` numbers, and where it begins in a row is not known: so the first and the last of columns that
    follow each other, and between them one in each `most`.
    """
    many = 0
    for k in range(columns.size):
        ends = k + 1 == columns.size or columns[k + 1] != columns[k] + 1
        begins = k == 0 or columns[k - 1] != columns[k] - 1
        if ends or begins or columns[k] - out[many - 1] == most:
            out[many] = columns[k]
            many += 1
    return many


@part
def ask(rows, first, end, columns, out):
    """Ask the processor for these columns of some rows of the result, which are to be written soon."""
    for k in range(np.uint64(columns.size)):
        for i in range(np.uint64(first), np.uint64(end)):
            prefetch(out, np.uint64(rows[i]), np.uint64(columns[k]))


@part
def scatter(block, rows, start, columns, out):
    """Write the block's columns to the caller's rows: out[rows[i], columns[k]] = block[k, i].

    Two columns of some rows at a time: the rows stay near meanwhile.
    """
    many, end = np.uint64(columns.size), np.uint64(block.shape[1])
    for begin in range(np.uint64(start), end, ROWS):
        after = min(begin + ROWS, end)
        for k in range(NONE, many - many % TWO, TWO):
            a, b = np.uint64(columns[k]), np.uint64(columns[k + ONE])
            if b == a + ONE:
                for i in range(begin, after):
                    write_two(out, np.uint64(rows[i]), a, block[k, i], block[k + ONE, i])
            else:
                for i in range(begin, after):
                    row = np.uint64(rows[i])
                    out[row, a] = block[k, i]
                    out[row, b] = block[k + ONE, i]
        if many % TWO:
            a = np.uint64(columns[many - ONE])
            for i in range(begin, after):
                out[np.uint64(rows[i]), a] = block[many - ONE, i]


@kernel
def run(
    addresses, ops, params, packed, layout, rows, first, last, held, begin, end, most, scratch, shift, shape,
    tables, columns, out64, out32,
):  # fmt: skip
    """Run the operations over the groups begin:end and write block row k to column `columns[k]` of the result.

    addresses : of the machine code of operations, by their codes. ops, params : one row per operation, integers and
    numbers. packed : (rows, cells), what is known of each row. layout : (words, 5), where each word lies in them: the
    time, then flags, values, codes, label times; where `rows` is empty the caller's row is the last one. rows : else
    the caller's row of each, `shift` higher than in the result. first, last : where each group begins and ends in both.
    held : how many rows of each group are known already, so that nothing is written for them; such groups may lie
    anywhere and are run one by one. When it is empty, everything is written, and groups that follow each other are run
    together while they have `most` rows or fewer; larger ones alone. scratch : as long as `Plan.scratch` says,
    with anything in it. shape : (slots, block rows). tables : zeros, all zeros again afterwards. The result is `out64`
    or `out32`; the other one has no rows.

    Returns whether it was done: not when an operation has no address.
    """
    for k in range(ops.shape[0]):
        code = ops[k, at.CODE]
        if addresses[code] == 0 or (held.size and INSTEAD[code] >= 0 and addresses[INSTEAD[code]] == 0):
            return False
    width = layout.shape[0] - (rows.size == 0)
    room = np.empty(at.SIZE + end - begin + 1, np.int64)
    frame = pointer_to(room)
    ip = room[at.SIZE :]  # as long as this is used, the room is there
    frame[at.ENDS] = address_of(ip)
    frame[at.TABLE] = address_of(tables)
    frame[at.TABLE_SIZE] = tables.size
    lines = np.empty(columns.size, np.int64)
    lines = lines[: columns_of_lines(columns, 8 if out64.shape[0] else 16, lines)]
    g = begin
    while g < end:
        a = first[g]
        h = g + 1
        start = np.int64(0)
        if held.size:
            start = held[g]
        else:
            while h < end and last[h] - a <= most:
                h += 1
        m = last[h - 1] - a
        for k in range(h - g):
            ip[k] = first[g + k] - a
        ip[h - g] = m
        frame[at.ROWS] = m
        frame[at.GROUPS] = h - g
        frame[at.START] = start
        # What these rows need lies close together.
        frame[at.WORDS] = address_of(scratch)
        frame[at.SLOTS] = frame[at.WORDS] + 8 * (width + 1) * m
        frame[at.BLOCK] = frame[at.SLOTS] + 8 * shape[0] * (m + 1)
        frame[at.SEEN] = frame[at.BLOCK] + 8 * shape[1] * m
        zeros = at.seen(frame, 2)
        for i in range(m + 2):
            zeros[i] = 0
        spread_words(packed, layout, a, frame)
        to = at.word(frame, width)
        if rows.size:
            for i in range(start, m):
                to[i] = rows[a + i] - shift
        alone = start > 0 and start == m - 1  # a payment that has just come in: nothing else is wanted
        asked = start
        for k in range(ops.shape[0]):
            # The rows of the result lie far apart: while the operations run they come nearer, some with each.
            before = asked
            asked = start + (m - start) * (k + 1) // ops.shape[0]
            if out64.shape[0]:
                ask(to, before, asked, lines, out64)
            else:
                ask(to, before, asked, lines, out32)
            code = INSTEAD[ops[k, at.CODE]] if alone else ops[k, at.CODE]
            if code < 0:
                continue
            for c in range(WIDTH):
                frame[c] = ops[k, c]
            # A condition is a bit of a word: 64 * word + bit, or -1 for none.
            bit = ops[k, at.BIT]
            frame[at.FLAG] = bit & 63 if bit >= 0 else -1
            frame[at.FLAGS] = bit >> 6 if bit >= 0 else 0
            frame[at.PARAMS] = address_of(params) + 8 * params.shape[1] * k
            call(addresses[code], frame)
        block = at.columns(frame, 0, shape[1])
        if out64.shape[0]:
            scatter(block, to, start, columns, out64)
        else:
            scatter(block, to, start, columns, out32)
        g = h
    return True
