"""From specs to the operations of the kernels: which words of a row are needed, which slots are shared, in what order.

A plan serves one entity. Its `words` say what is gathered of each row, its `bits` which conditions the flags word
holds, its `ops` and `params` are what `kernels.program` runs. Tables and payments that come in one by one use the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from fraudlab.features.kernels import places, program, windows
from fraudlab.features.specs import PLACE, PastSpec, Span, WindowSpec

FRAUD = "fraud"  # the bit of a row's label, beside the bits of conditions
BITS = 60  # of a flags word
HOUR, DAY = 3_600_000_000, 86_400_000_000
_TALLIES = {
    "distinct": windows.DISTINCT,
    "repeats": windows.SAME,
    "share": windows.SHARE,
    "mode_share": windows.MODE,
    "entropy": windows.ENTROPY,
}
_CLOCK = {
    "usual_hour": places.USUAL_HOUR,
    "hour_spread": places.HOUR_SPREAD,
    "hour_shift": places.HOUR_SHIFT,
}
_LATEST_FIRST = {"since_fraud": 0, "since_first_fraud": 1}


class Where(NamedTuple):
    """A condition, with the kind of what it compares with: 1 and True are equal and yet not the same condition."""

    column: str
    operator: str
    wanted: str | int | float | bool
    kind: str


@dataclass
class Plan:
    """What the kernels are to do for the specs of one entity.

    Attributes
    ----------
    words : keys of a row's words: ("time",), ("flags", k), ("number", column), ("code", column), ("known",),
        ("local", zone), ("carry", k).
    bits : (value, Where) of each condition, see `_Planner.bit`, or FRAUD; `BITS` to a flags word.
    columns : how many columns come out; block rows beyond them are sums to carry on.
    """

    words: list[tuple] = field(default_factory=lambda: [("time",)])
    bits: list[Hashable] = field(default_factory=list)
    ops: np.ndarray = field(default_factory=lambda: np.empty((0, program.WIDTH), np.int64))
    params: np.ndarray = field(default_factory=lambda: np.empty((0, 3)))
    slots: int = 1
    columns: int = 0
    carries: int = 0

    def scratch(self, capacity: int) -> int:
        """Return how many numbers of scratch the kernels need for groups of up to `capacity` rows."""
        rows = len(self.words) + self.slots + self.columns + self.carries + 4
        return rows * (capacity + 2)

    @property
    def shape(self) -> np.ndarray:
        """The rows of scratch: slots and block."""
        return np.array([self.slots, self.columns + self.carries])


class _Planner:
    """Collects operations; what was asked for before is found again, so specs share edges, sums and ranks."""

    def __init__(
        self, columns: int, may_miss: Callable[[tuple], bool], prompt: Callable[[int], bool], keep: bool
    ) -> None:
        self.plan = Plan(columns=columns)
        self.may_miss = may_miss
        self.prompt = prompt
        self.keep = keep
        self.ops: list[list[int]] = []
        self.params: list[tuple[float, float, float]] = []
        self.found: dict[Hashable, int] = {}
        self.column = 0

    def word(self, *key: Any) -> int:
        if key not in self.plan.words:
            self.plan.words.append(key)
        return self.plan.words.index(key)

    def bit(self, value: tuple | None, where: tuple | None = None) -> int:
        """Return the bit of the rows that have a `value`, such as ("number", column), and meet `where`.

        -1 when that is every row.
        """
        if value is not None and not self.may_miss(value):
            value = None
        if value is None and where is None:
            return -1
        return self.flag((value, where and Where(*where, type(where[2]).__name__)))

    def flag(self, key: Hashable) -> int:
        if key not in self.plan.bits:
            self.plan.bits.append(key)
        number, bit = divmod(self.plan.bits.index(key), BITS)
        return 64 * self.word("flags", number) + bit

    def add(self, op: int, target: int, params: Sequence[float] = (), **given: int) -> None:
        names = ("lo", "hi", "value", "bit", "counts", "a", "b", "c", "d")
        default = {"lo": 0, "hi": 0, "bit": -1, "value": -1, "counts": -1}
        self.ops.append([op, target, *(given.get(name, default.get(name, 0)) for name in names)])
        self.params.append((*params, *(0.0,) * (3 - len(params))))

    def slot(self, many: int, op: int, params: Sequence[float] = (), **given: int) -> int:
        """Return the first of `many` slots that the operation fills, the same for the same operation."""
        key = (op, *params, *sorted(given.items()))
        if key not in self.found:
            self.found[key] = self.plan.slots
            self.plan.slots += many
            self.add(op, self.found[key], params, **given)
        return self.found[key]

    def edge(self, offset: int) -> int:
        return self.slot(1, program.EDGE, value=offset)

    def window(self, span: Span, last: int | None, bit: int) -> dict[str, int]:
        hi = self.edge(span.delay) if span.delay else self.slot(1, program.CURSOR, value=int(span.include_current))
        lo = self.edge(span.delay + span.width)
        if last:
            lo = self.slot(1, program.LATEST, lo=lo, hi=hi, value=last, bit=bit)
        return {"lo": lo, "hi": hi}

    def counts(self, bit: int) -> int:
        return -1 if bit < 0 else self.slot(1, program.COUNTS, bit=bit)

    def sums(self, word: int, bit: int) -> int:
        return self.slot(2, program.SUMS, value=word, bit=bit)

    def squares(self, integers: int, bit: int) -> int:
        return self.slot(5, program.SQUARES, value=integers, bit=bit)

    def in_order(self) -> tuple[list[list[int]], list[tuple[float, float, float]]]:
        """Return the operations and their numbers; edges, which need the times alone, come first, some at a time."""
        edges = [op for op in self.ops if op[0] == program.EDGE]
        rest = [k for k, op in enumerate(self.ops) if op[0] != program.EDGE]
        first = []
        for many in together(len(edges)):
            code = {1: program.EDGE, 3: program.THREE_EDGES, 4: program.FOUR_EDGES}[many]
            to, offset = ([op[place] for op in edges[:many]] + [0] * (4 - many) for place in (1, 4))
            first.append([code, *to[:3], offset[0], -1, -1, *offset[1:], to[3]])
            del edges[:many]
        return first + [self.ops[k] for k in rest], [(0.0, 0.0, 0.0)] * len(first) + [self.params[k] for k in rest]

    def emit(self, op: int, params: Sequence[float] = (), **given: int) -> None:
        self.add(op, self.column, params, **given)
        self.column += 1


def together(edges: int) -> list[int]:
    """Return how many of some edges are done at once: four or three, one where that leaves some over.

    >>> together(1), together(5), together(6), together(7)
    ([1], [4, 1], [3, 3], [4, 3])
    """
    fours = next((fours for fours in range(edges // 4, -1, -1) if (edges - 4 * fours) % 3 == 0), edges // 4)
    threes, ones = divmod(edges - 4 * fours, 3)
    return [4] * fours + [3] * threes + [1] * ones


def never(delay: int) -> bool:
    """Say of no delay that every label is known by then: what holds where labels may come late."""
    return False


def plan(
    specs: Sequence[WindowSpec | PastSpec],
    may_miss: Callable[[tuple], bool],
    prompt: Callable[[int], bool] = never,
    *,
    keep: bool = False,
) -> Plan:
    """Plan the specs of one entity.

    Parameters
    ----------
    specs : window and past specs with the same `entity`.
    may_miss : whether a word, ("number", column) or ("code", column), the ("place",) or the ("label",) may be missing.
    prompt : whether every label there is is known by a delay, in microseconds, after its payment.
    keep : whether rows come in one by one, so that sums over the whole past must be carried on.
    """
    make = _Planner(sum(len(spec.columns) for spec in specs), may_miss, prompt, keep)
    for spec in specs:
        if isinstance(spec, PastSpec):
            _plan_past(make, spec)
        else:
            for span in spec.spans:
                _plan_window(make, spec, span)
    done = make.plan
    ops, params = make.in_order()
    done.ops = np.array(ops, np.int64).reshape(-1, program.WIDTH)
    done.params = np.array(params, np.float64).reshape(-1, 3)
    return done


def _plan_window(make: _Planner, spec: WindowSpec, span: Span) -> None:
    name = spec.statistic
    if name in _TALLIES:
        bit = make.bit(("code", spec.value) if spec.last else None, spec.where)
        window = make.window(span, spec.last, bit)
        make.emit(program.TALLY, **window, value=make.word("code", spec.value), bit=bit, a=_TALLIES[name])
    elif name in ("mean_gap", "std_gap"):
        window = make.window(span, spec.last, -1)
        if name == "mean_gap":
            make.emit(program.MEAN_GAP, (DAY,), **window)
        else:
            squares = make.squares(make.slot(1, program.GAPS), -1)
            make.emit(program.COPY, b=make.slot(1, program.SPREAD, (DAY,), **window, a=1, b=squares))
    elif name in _CLOCK:
        local = make.word("local", spec.zone)
        sums = make.slot(2, program.HOURS, value=local)
        make.emit(program.USUAL_HOUR, **make.window(span, spec.last, -1), value=local, a=_CLOCK[name], b=sums)
    elif name == "usual_distance":
        latitude, longitude = (make.word("number", column) for column in PLACE)
        sums = make.slot(4, program.PLACES, value=latitude, bit=longitude)
        window = make.window(span, spec.last, make.bit(("place",)) if spec.last else -1)
        make.emit(program.USUAL_DISTANCE, **window, b=sums)
    elif spec.requires[-1:] == ("label_time",):
        _plan_labels(make, spec, span)
    else:
        _plan_numbers(make, spec, span)


def _plan_numbers(make: _Planner, spec: WindowSpec, span: Span) -> None:
    name = spec.statistic
    bit = make.bit(("number", spec.value) if spec.value else None, spec.where)
    shared = {**make.window(span, spec.last, bit), "bit": bit, "counts": make.counts(bit)}
    if name == "count":
        make.emit(program.COUNT, **shared)
        return
    word = make.word("number", spec.value)
    shared["value"] = word
    if name in ("total", "mean", "ratio"):
        what = {"total": 0, "mean": windows.MEAN, "ratio": windows.RATIO}[name]
        make.emit(program.TOTAL, **shared, a=what, b=make.sums(word, bit))
    elif name in ("std", "zscore"):
        squares = make.squares(make.slot(1, program.INTEGERS, value=word, bit=bit), bit)
        deviation = make.slot(1, program.SPREAD, (windows.UNITS,), **shared, b=squares)
        if name == "std":
            make.emit(program.COPY, b=deviation)
        else:
            make.emit(program.ZSCORE, **shared, a=deviation, b=make.sums(word, bit))
    elif name in ("minimum", "maximum", "max_ratio"):
        make.emit(program.EXTREME, **shared, a=-1 if name == "minimum" else 1, b=int(name == "max_ratio"))
    else:
        ranks = make.slot(4, program.RANKS, value=word, bit=bit)
        if name == "percentile":
            make.emit(program.PERCENTILE, **shared, b=ranks)
        else:
            make.emit(program.QUANTILE, (spec.q,), **shared, b=ranks)


def _plan_labels(make: _Planner, spec: WindowSpec, span: Span) -> None:
    if spec.statistic not in _LATEST_FIRST and not spec.last and make.prompt(span.delay):
        _plan_prompt_labels(make, spec, span)
        return
    known, bit = make.word("known"), make.flag(FRAUD)
    lo = make.edge(span.delay + span.width)
    enter = make.slot(3, program.ENTERING, value=span.delay, a=known)
    if spec.statistic in _LATEST_FIRST:
        first = _LATEST_FIRST[spec.statistic]
        make.emit(program.SINCE_FRAUD, (DAY,), lo=lo, bit=bit, a=known, b=enter, c=first)
        return
    if spec.last:
        found = make.slot(2, program.LATEST_LABELS, lo=lo, value=enter, bit=bit, a=known, b=spec.last)
    else:
        running = make.slot(2, program.LABELS, bit=bit, a=known)
        entered = make.slot(1, program.ENTERED, value=enter)
        found = make.slot(2, program.WINDOW_LABELS, lo=lo, hi=entered, value=enter, bit=bit, counts=running)
    if spec.statistic == "risk":
        make.emit(program.RATE, _prior(spec), b=found)
    else:
        make.emit(program.LABEL_COUNT, b=found + (spec.statistic == "labelled"))


def _plan_prompt_labels(make: _Planner, spec: WindowSpec, span: Span) -> None:
    """Plan a statistic of labels that are all known when their row enters the window: two more counts of rows."""
    window, labelled = make.window(span, None, -1), make.counts(make.bit(("label",)))
    if spec.statistic == "labelled":
        make.emit(program.COUNT, **window, counts=labelled)
        return
    frauds = make.counts(make.flag(FRAUD))
    if spec.statistic == "frauds":
        make.emit(program.COUNT, **window, counts=frauds)
    else:
        make.emit(program.KNOWN_RATE, _prior(spec), **window, counts=labelled, b=frauds)


def _prior(spec: WindowSpec) -> tuple[float, float, float]:
    """Return what a risk is without any label, what it is drawn towards, and as by how many labels."""
    prior, strength = spec.prior or (0.0, 0.0)
    empty = spec.empty if spec.empty is not None else prior if spec.prior else math.nan
    return empty, prior, strength


def _plan_past(make: _Planner, spec: PastSpec) -> None:
    name = spec.statistic
    if name in ("distance", "speed"):
        latitude, longitude = (make.word("number", column) for column in PLACE)
        journey = make.slot(2, program.JOURNEY, value=latitude, bit=longitude)
        if name == "distance":
            make.emit(program.COPY, b=journey)
        else:
            make.emit(program.SPEED, (spec.slack_km, spec.microseconds("floor") / HOUR), b=journey)
    elif name.startswith("decayed"):
        bit = make.bit(("number", spec.value) if spec.value else None, spec.where)
        value = make.word("number", spec.value) if spec.value else -1
        carry = make.plan.carries
        make.plan.carries += 1
        word = make.word("carry", carry) if make.keep else -1
        half_life = (spec.microseconds("half_life"),)
        make.emit(program.DECAYED, half_life, value=value, bit=bit, a=make.plan.columns + carry, b=word)
    else:
        op = {"is_new": program.NEW, "since_last": program.SINCE_LAST, "since_first": program.SINCE_FIRST}[name]
        make.emit(op, (DAY,))
