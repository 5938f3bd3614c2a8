"""The operations of a program, each compiled and kept on disk on its own: a plan pays for those that it needs.

What the numbers of an operation mean is said where it is planned, in `fraudlab.features.plan`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from fraudlab.features.kernels import edges, labels, places, program, sums, windows
from fraudlab.features.kernels.frame import (
    BIT,
    COUNTS,
    FLAG,
    FLAGS,
    HI,
    LO,
    START,
    TARGET,
    VALUE,
    A,
    B,
    C,
    D,
    column,
    edge,
    ends,
    params,
    real,
    seen,
    seen_real,
    slot,
    slots,
    table,
    value,
    word,
)  # fmt: skip
from fraudlab.features.kernels.units import Unit, take

ADDRESSES = np.zeros(program.CODES, np.int64)
"""By the code of an operation: where its machine code lies in this process, 0 while it is not ready."""
FUNCTIONS: dict[int, Callable] = {}
_lock = threading.Lock()


def operation(code: int) -> Callable[[Callable], Callable]:
    """Return a decorator that registers what an operation does."""

    def register(function: Callable) -> Callable:
        FUNCTIONS[code] = function
        return function

    return register


@cache
def unit(code: int) -> Unit:
    """Return the unit of an operation, which keeps its machine code in memory."""
    return Unit(FUNCTIONS[code])


def prepare(programs: Sequence[np.ndarray], *, alone: bool = False) -> None:
    """Make the operations of some programs ready: from disk or, with the help of another process, compiled.

    With `alone` also those that are run instead for a payment that has just come in.
    """
    codes = {code for ops in programs for code in ops[:, 0].tolist()}
    if alone:
        codes |= {program.INSTEAD[code] for code in codes} - {-1}
    with _lock:
        units = {code: unit(code) for code in codes if ADDRESSES[code] == 0}
        take(list(units.values()))
        for code, one in units.items():
            ADDRESSES[code] = one.address


def run(ops: np.ndarray, *rest: Any) -> None:
    """Do what `program.run` says; operations that are not ready are made so."""
    if not program.run(ADDRESSES, ops, *rest):
        prepare([ops], alone=True)
        program.run(ADDRESSES, ops, *rest)


# --- what fills slots -------------------------------------------------------------------------------------------------


@operation(program.CURSOR)
def cursor(f):
    ahead, out = f[VALUE], edge(f, f[TARGET])
    for i in range(out.size):
        out[i] = i + ahead


@operation(program.EDGE)
def edge_of_span(f):
    edges.edge(word(f, 0), ends(f), f[VALUE], f[START], slot(f, f[TARGET]))


@operation(program.THREE_EDGES)
def three_edges(f):
    edges.edges(
        word(f, 0), ends(f), (f[VALUE], f[A], f[B]), f[START], (slot(f, f[TARGET]), slot(f, f[LO]), slot(f, f[HI]))
    )


@operation(program.FOUR_EDGES)
def four_edges(f):
    edges.edges(
        word(f, 0), ends(f), (f[VALUE], f[A], f[B], f[C]), f[START],
        (slot(f, f[TARGET]), slot(f, f[LO]), slot(f, f[HI]), slot(f, f[D])),
    )  # fmt: skip


@operation(program.LATEST)
def latest(f):
    windows.latest(
        word(f, f[FLAGS]), f[FLAG], f[VALUE], ends(f), edge(f, f[LO]), edge(f, f[HI]), f[START], slot(f, f[TARGET])
    )


@operation(program.COUNTS)
def running_counts(f):
    windows.running_counts(word(f, f[FLAGS]), f[FLAG], slot(f, f[TARGET]))


@operation(program.SUMS)
def running_sums(f):
    sums.running_sums(value(f, f[VALUE]), word(f, f[FLAGS]), f[FLAG], slot(f, f[TARGET]), slot(f, f[TARGET] + 1))


@operation(program.INTEGERS)
def to_integers(f):
    sums.to_integers(value(f, f[VALUE]), word(f, f[FLAGS]), f[FLAG], slot(f, f[TARGET]))


@operation(program.GAPS)
def gaps(f):
    windows.gaps(word(f, 0), ends(f), slot(f, f[TARGET]))


@operation(program.SQUARES)
def running_squares(f):
    to = f[TARGET]
    sums.running_squares(
        edge(f, f[VALUE]), word(f, f[FLAGS]), f[FLAG], slots(f, to, 2), slots(f, to + 2, 2), slot(f, to + 4)
    )


@operation(program.RANKS)
def ranks(f):
    to = f[TARGET]
    windows.ranks(
        value(f, f[VALUE]), word(f, f[FLAGS]), f[FLAG], ends(f), slot(f, to), slot(f, to + 1), slot(f, to + 2),
        slot(f, to + 3), seen(f, 0), seen(f, 1),
    )  # fmt: skip


@operation(program.SPREAD)
def spread(f):
    windows.spread(
        params(f)[0], value(f, f[VALUE]), word(f, f[FLAGS]), f[FLAG], slots(f, f[B], 2), slots(f, f[B] + 2, 2),
        slot(f, f[B] + 4), f[COUNTS] >= 0, slot(f, f[COUNTS]), f[A], edge(f, f[LO]), edge(f, f[HI]), f[START],
        real(f, f[TARGET]),
    )  # fmt: skip


@operation(program.ENTERING)
def entering(f):
    to = f[TARGET]
    labels.entering(
        word(f, f[A]), word(f, 0), f[VALUE], ends(f), slot(f, to), slot(f, to + 1), slot(f, to + 2), seen(f, 0),
        seen(f, 1),
    )  # fmt: skip


@operation(program.ENTERED)
def entered(f):
    e = f[VALUE]
    labels.entered(word(f, 0), slot(f, e), slot(f, e + 2), ends(f), f[START], slot(f, f[TARGET]))


@operation(program.LABELS)
def running_labels(f):
    labels.running_labels(word(f, f[A]), word(f, f[FLAGS]), f[FLAG], slot(f, f[TARGET]), slot(f, f[TARGET] + 1))


@operation(program.WINDOW_LABELS)
def window_labels(f):
    e, r, to = f[VALUE], f[COUNTS], f[TARGET]
    labels.window_labels(
        word(f, 0), slot(f, e), slot(f, e + 1), slot(f, e + 2), slot(f, f[HI]), slot(f, r), slot(f, r + 1),
        word(f, f[FLAGS]), f[FLAG], ends(f), slot(f, f[LO]), f[START], slot(f, to), slot(f, to + 1),
    )  # fmt: skip


@operation(program.LATEST_LABELS)
def latest_labels(f):
    e, to = f[VALUE], f[TARGET]
    labels.latest_labels(
        f[B], word(f, 0), word(f, f[A]), slot(f, e), slot(f, e + 1), word(f, f[FLAGS]), f[FLAG], ends(f),
        slot(f, f[LO]), seen(f, 0), f[START], slot(f, to), slot(f, to + 1),
    )  # fmt: skip


@operation(program.JOURNEY)
def journey(f):
    places.journey(
        value(f, f[VALUE]), value(f, f[BIT]), word(f, 0), ends(f), real(f, f[TARGET]), real(f, f[TARGET] + 1)
    )


@operation(program.PLACES)
def running_places(f):
    places.running_places(value(f, f[VALUE]), value(f, f[BIT]), slots(f, f[TARGET], 4))


@operation(program.HOURS)
def running_hours(f):
    places.running_hours(word(f, f[VALUE]), slots(f, f[TARGET], 2))


# --- what writes a column ---------------------------------------------------------------------------------------------


@operation(program.COPY)
def copy(f):
    found, out = real(f, f[B]), column(f, f[TARGET])
    for i in range(f[START], out.size):
        out[i] = found[i]


@operation(program.COUNT)
def count(f):
    windows.count(f[COUNTS] >= 0, slot(f, f[COUNTS]), edge(f, f[LO]), edge(f, f[HI]), f[START], column(f, f[TARGET]))


@operation(program.TOTAL)
def total(f):
    windows.total(
        f[A], value(f, f[VALUE]), slot(f, f[B]), slot(f, f[B] + 1), f[COUNTS] >= 0, slot(f, f[COUNTS]),
        edge(f, f[LO]), edge(f, f[HI]), f[START], column(f, f[TARGET]),
    )  # fmt: skip


@operation(program.ZSCORE)
def zscore(f):
    windows.zscore(
        value(f, f[VALUE]), real(f, f[A]), slot(f, f[B]), slot(f, f[B] + 1), f[COUNTS] >= 0, slot(f, f[COUNTS]),
        edge(f, f[LO]), edge(f, f[HI]), f[START], column(f, f[TARGET]),
    )  # fmt: skip


@operation(program.EXTREME)
def extreme(f):
    windows.extreme(
        f[A], f[B] != 0, value(f, f[VALUE]), word(f, f[FLAGS]), f[FLAG], ends(f), edge(f, f[LO]), edge(f, f[HI]),
        seen_real(f, 0), f[START], column(f, f[TARGET]),
    )  # fmt: skip


@operation(program.QUANTILE)
def quantile(f):
    windows.quantile(
        params(f)[0], value(f, f[VALUE]), slot(f, f[B]), slot(f, f[B] + 1), ends(f), edge(f, f[LO]), edge(f, f[HI]),
        seen(f, 0), f[START], column(f, f[TARGET]),
    )  # fmt: skip


@operation(program.LAST_QUANTILE)
def last_quantile(f):
    row = f[START]
    column(f, f[TARGET])[row] = windows.last_quantile(
        params(f)[0], value(f, f[VALUE]), word(f, f[FLAGS]), f[FLAG], slot(f, f[LO])[row], slot(f, f[HI])[row],
        seen_real(f, 0),
    )  # fmt: skip


@operation(program.PERCENTILE)
def percentile(f):
    windows.percentile(
        slot(f, f[B] + 1), slot(f, f[B] + 2), slot(f, f[B] + 3), ends(f), edge(f, f[LO]), edge(f, f[HI]), seen(f, 0),
        f[START], column(f, f[TARGET]),
    )  # fmt: skip


@operation(program.LAST_PERCENTILE)
def last_percentile(f):
    row, own = f[START], value(f, f[VALUE])
    column(f, f[TARGET])[row] = windows.last_percentile(
        own, word(f, f[FLAGS]), f[FLAG], slot(f, f[LO])[row], slot(f, f[HI])[row], own[row]
    )


@operation(program.TALLY)
def tally(f):
    windows.tally(
        f[A], word(f, f[VALUE]), word(f, f[FLAGS]), f[FLAG], ends(f), edge(f, f[LO]), edge(f, f[HI]), table(f),
        seen(f, 2), f[START], column(f, f[TARGET]),
    )  # fmt: skip


@operation(program.MEAN_GAP)
def mean_gap(f):
    windows.mean_gap(word(f, 0), params(f)[0], edge(f, f[LO]), edge(f, f[HI]), f[START], column(f, f[TARGET]))


@operation(program.SINCE_LAST)
def since_last(f):
    windows.since_last(word(f, 0), ends(f), params(f)[0], f[START], column(f, f[TARGET]))


@operation(program.SINCE_FIRST)
def since_first(f):
    windows.since_first(word(f, 0), ends(f), params(f)[0], f[START], column(f, f[TARGET]))


@operation(program.NEW)
def is_new(f):
    windows.is_new(ends(f), f[START], column(f, f[TARGET]))


@operation(program.DECAYED)
def decayed(f):
    windows.decayed(
        params(f)[0], f[VALUE] >= 0, value(f, f[VALUE]), word(f, f[FLAGS]), f[FLAG], f[B] >= 0, value(f, f[B]),
        word(f, 0), ends(f), column(f, f[A]), column(f, f[TARGET]),
    )  # fmt: skip


@operation(program.SPEED)
def speed(f):
    places.speed(real(f, f[B]), real(f, f[B] + 1), params(f)[0], params(f)[1], f[START], column(f, f[TARGET]))


@operation(program.USUAL_DISTANCE)
def usual_distance(f):
    places.usual_distance(slots(f, f[B], 4), edge(f, f[LO]), edge(f, f[HI]), f[START], column(f, f[TARGET]))


@operation(program.USUAL_HOUR)
def usual_hour(f):
    places.usual_hour(
        f[A], word(f, f[VALUE]), slots(f, f[B], 2), edge(f, f[LO]), edge(f, f[HI]), f[START], column(f, f[TARGET])
    )


@operation(program.LABEL_COUNT)
def label_count(f):
    many, out = slot(f, f[B]), column(f, f[TARGET])
    for i in range(f[START], out.size):
        out[i] = many[i]


@operation(program.RATE)
def rate(f):
    p = params(f)
    labels.rate(slot(f, f[B]), slot(f, f[B] + 1), p[0], p[1], p[2], f[START], column(f, f[TARGET]))


@operation(program.KNOWN_RATE)
def known_rate(f):
    p = params(f)
    labels.known_rate(
        slot(f, f[B]), f[COUNTS] >= 0, slot(f, f[COUNTS]), edge(f, f[LO]), edge(f, f[HI]), p[0], p[1], p[2], f[START],
        column(f, f[TARGET]),
    )  # fmt: skip


@operation(program.SINCE_FRAUD)
def since_fraud(f):
    labels.since_fraud(
        f[C] != 0, params(f)[0], word(f, 0), word(f, f[A]), slot(f, f[B]), slot(f, f[B] + 1), word(f, f[FLAGS]),
        f[FLAG], ends(f), slot(f, f[LO]), seen(f, 0), f[START], column(f, f[TARGET]),
    )  # fmt: skip
