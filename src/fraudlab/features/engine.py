"""From a frame of transactions to its features: order the rows, group them by entity, hand them to the kernels.

`Source` turns the frame's columns into plain arrays. Per entity, `plan` says what the kernels need of each row. These
words are put side by side, group after group, and the kernels run over them: for all rows at once, or where that would
take much memory for some entities at a time. Either way the threads share both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from fraudlab.features.graph import linked
from fraudlab.features.kernels import jit, operations, program, windows
from fraudlab.features.kernels import source as scan
from fraudlab.features.packing import Packing, Put, Word, fill, lay, pack
from fraudlab.features.plan import Plan, plan
from fraudlab.features.source import Part, Source
from fraudlab.features.specs import CurrentSpec, LinkSpec
from fraudlab.schema import InputError, require_columns

CHUNK = 512  # rows that are run together: what they need stays in the processor's second cache
MANY_ROWS = 50_000  # below this, starting threads costs more than they bring
SLICE = 65_536
STEP = 65_536  # cells that are made at once on their way to their groups: what fits the processor's second cache ...
STEPS = 32  # ... or more if these are still few beside all: threads that are done with a step wait for each other
PAGE = 4096  # bytes
LEAST_ROOM = 2 << 20  # bytes of cells that are no matter, however small the result
ROOMS = 24  # how many times the bytes of cells fit into the result
HOUR, DAY = 3_600_000_000, 86_400_000_000  # microseconds
NONE = np.empty(0, np.int64)
ROW = ("row",)
NO_ROWS = {"float64": np.empty((0, 0)), "float32": np.empty((0, 0), np.float32)}

Array = np.ndarray


# What is read from the row alone; `source` may be a whole frame, a part of it or one payment.
CURRENT: dict[str, Callable[[Any, CurrentSpec], Array]] = {
    "value": lambda source, spec: source.number(spec.value),
    "cents": lambda source, spec: np.mod(np.rint(source.number(spec.value) * 100), 100),
    "round": lambda source, spec: _flag(np.mod(source.number(spec.value), spec.step) == 0, source.number(spec.value)),
    "hour": lambda source, spec: source.local(spec.zone) // HOUR % 24,
    "night": lambda source, spec: source.local(spec.zone) // HOUR % 24 <= 6,
    "weekday": lambda source, spec: (source.local(spec.zone) // DAY + 3) % 7,  # 1970-01-01 was a Thursday
    "weekend": lambda source, spec: (source.local(spec.zone) // DAY + 3) % 7 >= 5,
    "month_day": lambda source, spec: _month_day(source.local(spec.zone)),
}


def _flag(flag: Array, known: Array) -> Array:
    return np.where(np.isnan(known), np.nan, flag)


def _month_day(local: Array) -> Array:
    days = local.view("datetime64[us]").astype("datetime64[D]")
    return (days - days.astype("datetime64[M]")).astype(np.int64) + 1


def compute(specs: Iterable[Any], requires: Iterable[str], frame: pd.DataFrame, *, dtype: str, where: str) -> Array:
    """Return one row per row of the frame, in its order, and one column per column of the specs, in theirs."""
    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"{where}: transactions must be a pandas DataFrame; found {type(frame).__name__}")
    require_columns(frame, requires, where=where)
    if not frame.columns.is_unique:
        raise InputError(f"{where}: column names must be unique; found repeated ones; rename or drop them")
    specs = list(specs)
    if len(frame) == 0:
        return np.empty((0, sum(len(spec.columns) for spec in specs)), dtype)
    work = by_entity(specs)
    out = np.empty((len(frame), sum(len(spec.columns) for spec in specs)), dtype)
    with ThreadPoolExecutor(jit.threads() if len(frame) >= MANY_ROWS else 1) as pool:
        # The system hands out memory when it is first written: better now than in the kernels' random order, by the
        # threads that have nothing to do while this one looks at the columns.
        pages = np.array_split(out.reshape(-1)[:: PAGE // out.itemsize], max(pool._max_workers - 1, 1))
        touched = [pool.submit(part.fill, 0) for part in pages]
        source = Source(frame, where)
        plans = {
            entity: plan([spec for spec, _ in work[entity]], source.may_miss, source.prompt)
            for entity in filter(None, work)
        }
        operations.prepare([todo.ops for todo in plans.values()])
        cells = max((many_cells(source, todo) for todo in plans.values()), default=0)
        whole = Room() if 8 * len(frame) * cells <= max(out.nbytes // 4, LEAST_ROOM) else None
        workers = Workers(pool, touched, [Room() for _ in range(pool._max_workers)], whole)
        order = in_turn(plans)
        if () in work:
            order.insert(1, ())
        ready: dict[tuple[str, ...], Ready] = {}
        running: list[Future] = []
        for k, entity in enumerate(order):
            columns = np.concatenate([columns for _, columns in work[entity]])
            if not entity:
                started = _start_rows(source, work[entity], out, workers)
            elif only_new(plans[entity]):
                started = _write_new(source, entity, columns, out, workers)
            else:
                mine = ready.pop(entity, None) or _make_ready(source, entity, plans[entity], workers)
                started = _start_entity(source, plans[entity], mine, columns, out, workers, running)
            source.keep({name for members in work.values() for spec, _ in members for name in spec.requires})
            del work[entity]
            # Where there is memory for all rows of one entity, there is also for what is made of the others' columns.
            for ahead in order[k + 1 :] if whole else order[k + 1 : k + 2]:
                if ahead and ahead not in ready and not only_new(plans[ahead]):
                    ready[ahead] = _make_ready(source, ahead, plans[ahead], workers)
            if started:
                _finish(running if pool._max_workers > 1 else started)
                running = started
        _finish(running)
    return out


def in_turn(plans: Mapping[tuple[str, ...], Plan]) -> list[tuple[str, ...]]:
    """Return the entities in the order in which they are computed.

    Columns are coded, and graphs grown, while the kernels of another entity run: first one that needs few codes, then
    the one that has the most to do, and beside it those that need no kernels.
    """
    needs = {entity: len({*entity, *coded(todo)}) for entity, todo in plans.items()}
    few = min(plans, key=lambda entity: (needs[entity], -len(plans[entity].ops)), default=())
    most = max((entity for entity in plans if entity != few), key=lambda entity: len(plans[entity].ops), default=())
    rank = {few: 0, most: 1}
    return sorted(plans, key=lambda entity: (rank.get(entity, 2), not only_new(plans[entity])))


def only_new(todo: Plan) -> bool:
    """Return whether a plan only asks which rows are the first of their entity: that needs no grouping."""
    return bool((todo.ops[:, 0] == program.NEW).all())


def coded(todo: Plan) -> list[str]:
    """Return the columns whose codes a plan needs."""
    return [key[1] for key in todo.words if key[0] == "code"]


def by_entity(specs: Iterable[Any]) -> dict[tuple[str, ...], list[tuple[Any, Array]]]:
    """Return entity -> its specs, each with the numbers of its columns; () stands for specs without an entity."""
    found: dict[tuple[str, ...], list[tuple[Any, Array]]] = {}
    width = 0
    for spec in specs:
        found.setdefault(spec.entity, []).append((spec, np.arange(width, width + len(spec.columns))))
        width += len(spec.columns)
    return found


def _start_rows(source: Source, members: list[tuple[Any, Array]], out: Array, workers: Workers) -> list[Future]:
    """Let the pool fill the columns of specs that have no entity, some rows at a time so that each is touched once."""
    slices = [slice(start, start + SLICE) for start in range(0, len(source), SLICE)]
    current = [(spec, columns) for spec, columns in members if not isinstance(spec, LinkSpec)]

    def work(rows: slice) -> None:
        some = Part(source, rows)
        for spec, columns in current:
            out[rows, columns[0]] = CURRENT[spec.statistic](some, spec)

    wait(workers.touched)
    started = [workers.pool.submit(work, rows) for rows in slices]
    graphs: dict[Any, dict[str, Array]] = {}
    for spec, columns in members:
        if isinstance(spec, LinkSpec):
            value, through = spec.value_and_through
            if (value, through) not in graphs:
                graphs[value, through] = linked(source, (value, *through))
            out[:, columns[0]] = graphs[value, through][spec.statistic]
    return started


def _finish(running: list[Future]) -> None:
    wait(running)  # for all of them at once: to wake up for each would disturb those at work
    for each in running:
        each.result()


class Groups(NamedTuple):
    """The rows of some entities, those of each one after the other in the total order.

    Attributes
    ----------
    first, last : where each entity's rows begin and end. held : how many of them were known before; empty where none
    was and the entities follow each other. packed, layout : see `packing`. rows : the frame's row of each, empty where
    it is the last word.
    """

    first: Array
    last: Array
    held: Array
    packed: Array
    layout: Array
    rows: Array


class Room:
    """One thread's memory for the cells of `Groups`, used again and again: new memory is dear to touch."""

    def __init__(self) -> None:
        self.cells, self.table = np.empty(0, np.int64), np.empty(0, np.int64)

    def take(self, rows: int, cells: int) -> Array:
        """Return room for so many rows of so many cells."""
        if rows * cells > self.cells.size:
            self.cells = np.empty(rows * cells, np.int64)
        return self.cells[: rows * cells].reshape(rows, cells)

    def zeros(self, size: int) -> Array:
        """Return a table of zeros, which must be zeros again when it is asked for the next time."""
        if size > self.table.size:
            self.table = np.zeros(size, np.int64)
        return self.table


class Workers(NamedTuple):
    """The threads, what they did first, each one's room and, where it may be taken, a room for all rows at once."""

    pool: ThreadPoolExecutor
    touched: list[Future]
    rooms: list[Room]
    whole: Room | None


def entity_codes(source: Source, entity: tuple[str, ...]) -> tuple[Array, int]:
    """Return the entity of each row in the total order as a code (-1: none), and how many entities there are."""
    code, groups = source.entity(entity)
    return code if source.order is None else code[source.order], groups


def packing(source: Source, todo: Plan) -> Packing:
    """Return how a plan's words, and each row's number as the last one, lie in memory."""
    return pack([source.field(key, todo.bits) for key in (*todo.words, ROW)])


def many_cells(source: Source, todo: Plan) -> int:
    """Return how many cells `packing` makes."""
    return 1 + max(cell for cell, _ in lay([source.bits_of(key, todo.bits) for key in (*todo.words, ROW)]))


def group(source: Source, packed: Packing, code: Array, groups: int, places: Array | None, room: Room) -> Groups:
    """Return the rows of each entity with their words: a counting sort.

    Words are made for some rows at a time and go from there to their place: they never lie in memory twice.

    Parameters
    ----------
    code : the entity of each row, in the total order. places : of these rows, where in the total order; None: all rows.
    """
    sizes = np.empty(groups, np.int64)
    windows.group_sizes(code, sizes)
    ends = np.concatenate(([0], np.cumsum(sizes)))
    laid = room.take(int(ends[-1]), len(packed.cells))
    place(source, packed.cells, code, places, (0, code.size), ends[:-1].copy(), laid)
    return Groups(ends[:-1], ends[1:], NONE, laid, packed.layout, NONE)


def sizes_in(spans: Sequence[tuple[int, int]], code: Array, groups: int) -> Array:
    """Return how many rows of each span each entity has."""
    sizes = np.empty((len(spans), groups), np.int64)
    for span, its in zip(spans, sizes, strict=True):
        windows.group_sizes(code[slice(*span)], its)
    return sizes


def group_all(source: Source, ready: Ready, workers: Workers, running: list[Future]) -> Groups:
    """Return what `group` does of all rows, the pool's threads with a span of them each.

    running : what must be done before the rows of another entity kind may be overwritten.
    """
    code, _, spans, sizes, packed, _ = ready
    ends = np.concatenate(([0], np.cumsum(sizes.sum(axis=0))))
    free = ends[:-1] + np.cumsum(sizes, axis=0) - sizes
    _finish(running)
    laid = workers.whole.take(int(ends[-1]), len(packed.cells))
    started = [
        workers.pool.submit(place, source, packed.cells, code, None, span, its, laid)
        for span, its in zip(spans, free, strict=True)
    ]
    _finish(started)
    return Groups(ends[:-1], ends[1:], NONE, laid, packed.layout, NONE)


def place(
    source: Source,
    cells: Sequence[Word | Sequence[tuple[Put, int]]],
    code: Array,
    places: Array | None,
    span: tuple[int, int],
    free: Array,
    packed: Array,
) -> None:
    """Write the cells of a span of rows to where their groups go on, see `group`; `free` says where, and moves on."""
    step = max(STEP // max(len(cells), 4), len(packed) // STEPS)  # rows
    some, to = np.empty((len(cells), step), np.int64), np.empty(step, np.int64)
    for start in range(*span, step):
        end = min(start + step, span[1])
        which = slice(start, end) if places is None else places[start:end]
        which = which if source.order is None else source.order[which]
        which = which if isinstance(which, slice) else which.astype(np.int64)
        fill(cells, which, some[:, : end - start])
        windows.place_rows(some, code[start:end], free, to, packed)


class Ready(NamedTuple):
    """What is made of the columns before the kernels of an entity run.

    Attributes
    ----------
    code, groups : see `entity_codes`. spans, sizes : of rows, and `sizes_in` them. packed : see `packing`. codes : how
    many codes one of the words has at most.
    """

    code: Array
    groups: int
    spans: list[tuple[int, int]]
    sizes: Array
    packed: Packing
    codes: int


def _make_ready(source: Source, entity: tuple[str, ...], todo: Plan, workers: Workers) -> Ready:
    code, groups = entity_codes(source, entity)
    many = 4 * workers.pool._max_workers if workers.whole else 1
    spans = list(pairwise(np.linspace(0, code.size, many + 1).astype(int).tolist()))
    codes = max((len(source.codes(name)[1]) for name in coded(todo)), default=0)
    return Ready(code, groups, spans, sizes_in(spans, code, groups), packing(source, todo), codes)


def _start_entity(
    source: Source,
    todo: Plan,
    ready: Ready,
    columns: Array,
    out: Array,
    workers: Workers,
    running: list[Future],
) -> list[Future]:
    """Let the pool fill the columns of all specs of one entity kind; `running` is what it still does for another.

    All rows are laid out at once where there is a room for the `whole`. Else each thread lays out some of the entities
    at a time in a room of its own; how many depends on what all `rooms` may take.
    """
    pool, touched, rooms, whole = workers
    code, _, _, sizes, packed, codes = ready
    threads = pool._max_workers
    before = np.concatenate(([0], np.cumsum(sizes.sum(axis=0))))
    largest = int(np.diff(before).max(initial=0))
    grouped = None if whole is None else group_all(source, ready, workers, running)
    wait(touched)  # before anything is written: a page touched late would lose a value

    def work_on(part: tuple[int, int]) -> None:
        run(todo, grouped, part, largest, np.zeros(codes, np.int64), columns, out)

    def work(part: tuple[int, int]) -> None:
        mine = None if places is None else places[before[part[0]] : before[part[1]]]
        room = rooms.pop()
        try:
            own = code if mine is None else code[mine] - np.int32(part[0])
            laid = group(source, packed, own, part[1] - part[0], mine, room)
            run(todo, laid, (0, part[1] - part[0]), largest, room.zeros(codes), columns, out)
        finally:
            rooms.append(room)

    if grouped is not None:
        started = [pool.submit(work_on, part) for part in cut(before, 16 * threads)]
    else:
        often = -(-8 * len(packed.cells) * int(before[-1]) // max(out.nbytes // ROOMS, LEAST_ROOM))
        parts = cut(before, threads * max(often, 2))
        places = dealt(code, before, parts) if len(parts) > 1 else None
        started = [pool.submit(work, part) for part in parts]
    if before[-1] < len(source):
        without = np.flatnonzero(code < 0)
        out[np.ix_(without if source.order is None else source.order[without], columns)] = np.nan
    return started


def dealt(code: Array, before: Array, parts: Sequence[tuple[int, int]]) -> Array:
    """Return the rows of each part of the groups, one part after the other; `before` a group lie so many rows."""
    free, part_of = before[[first for first, _ in parts]], np.repeat(np.arange(len(parts)), np.diff(parts).ravel())
    places = np.empty(int(before[-1]), np.int32)
    scan.dealt(code, part_of, free, places)
    return places


def _write_new(source: Source, entity: tuple[str, ...], columns: Array, out: Array, workers: Workers) -> list[Future]:
    """Fill columns that say which rows are the first of their entity, see `only_new`; nothing is left to wait for."""
    code, groups = entity_codes(source, entity)
    wait(workers.touched)
    first = np.empty(code.size, bool)
    scan.first_rows(code, np.zeros(groups, bool), first)
    new = np.where(code < 0, np.nan, first)
    for column in columns:
        out[slice(None) if source.order is None else source.order, column] = new
    return []


def cut(ends: Array, pieces: int) -> list[tuple[int, int]]:
    """Cut groups into about so many pieces of about as many rows, each given by its first group and its end."""
    cuts = np.searchsorted(ends, np.linspace(0, ends[-1], pieces + 1)[1:-1].astype(np.int64)).tolist()
    groups = ends.size - 1
    return list(pairwise([0, *(cut for cut in sorted(set(cuts)) if 0 < cut < groups), groups]))


def run(
    todo: Plan, grouped: Groups, part: tuple[int, int], largest: int, tables: Array, columns: Array, out: Array
) -> None:
    """Hand some groups to the kernels; the result's number type decides which of its two outputs they fill.

    largest : how many rows a group has at most.
    """
    other = NO_ROWS["float64" if out.dtype == np.float32 else "float32"]
    pair = (other, out) if out.dtype == np.float32 else (out, other)
    scratch = np.empty(todo.scratch(max(CHUNK, largest)), np.int64)
    operations.run(
        todo.ops, todo.params, grouped.packed, grouped.layout, grouped.rows, grouped.first, grouped.last, grouped.held,
        *part, CHUNK, scratch, 0, todo.shape, tables, columns, *pair,
    )  # fmt: skip
