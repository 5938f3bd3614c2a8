"""From a frame of transactions to its features: order the rows, group them by entity, hand them to the kernels.

`Source` turns the frame's columns into plain arrays. Per entity, `plan` says what the kernels need of each row. These
words are put side by side, group after group, and the kernels run over them: for all rows at once, or where that would
take much memory for some entities at a time. Either way the threads share both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from fraudlab.features.coding import codes_of, is_arrow_text, numbered, text_ranks
from fraudlab.features.graph import linked
from fraudlab.features.kernels import jit, operations, windows
from fraudlab.features.kernels import source as scan
from fraudlab.features.kernels.labels import NEVER
from fraudlab.features.plan import BITS, FRAUD, Plan, Where, plan
from fraudlab.features.specs import CurrentSpec, LinkSpec
from fraudlab.schema import InputError, require_columns

CHUNK = 1024  # rows of scratch: what fits the processor's second cache
MANY_ROWS = 50_000  # below this, starting threads costs more than they bring
SLICE = 65_536
STEP = 16384
PAGE = 4096  # bytes
LEAST_ROOM = 2 << 20  # bytes of words that are no matter, however small the result
ROOMS = 16  # how many times the bytes of words fit into the result
LONG_TIE = 64  # rows of one moment that are put in order one by one; more are sorted
HOUR, DAY = 3_600_000_000, 86_400_000_000  # microseconds
LARGEST_SUM = 2.0**62
MISSING = -NEVER - 1  # as a time
NO_HELD = np.empty(0, np.int64)
NO_ROWS = {"float64": np.empty((0, 0)), "float32": np.empty((0, 0), np.float32)}

Array = np.ndarray
Word = Callable[[slice | Array], Array]


class Source:
    """The columns of one frame as plain arrays in the frame's own row order, each made once, when first asked for."""

    def __init__(self, frame: pd.DataFrame, where: str) -> None:
        self.frame = frame
        self.where = where
        self._memo: dict[Any, Any] = {}
        self.time = self._moments("event_time")
        self.order = self._total_order()

    def __len__(self) -> int:
        return len(self.frame)

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._memo:  # two threads may both make it: the same, and rarely
            self._memo[key] = make()
        return self._memo[key]

    def keep(self, names: set[str]) -> None:
        """Forget what was made of columns other than these."""
        for key in [key for key in self._memo if key[0] in ("codes", "number") and key[1] not in names]:
            del self._memo[key]

    def number(self, name: str) -> Array:
        """Return a numeric column as float64, NaN where it is missing."""
        return self.once(("number", name), lambda: self._number(name))

    def may_miss(self, word: tuple) -> bool:
        """Return whether a word of `plan`, or the place, is missing in any row."""
        if word[0] == "number":
            self.number(word[1])  # finds it out on the way
        return self.once(("missing", word), lambda: not self._has(word).all())

    def codes(self, name: str) -> tuple[Array, Any]:
        """Return a column's values as codes 0..n-1 (-1 where missing) and the n values, or just n for integers."""
        return self.once(("codes", name), lambda: codes_of(self.frame[name]))

    def recode(self, name: str, code: Array, values: int) -> None:
        """Take other codes 0..values-1 for a column's values from now on, -1 where missing."""
        self._memo["codes", name] = (code.astype(np.int32), range(values))

    def chosen(self, value: tuple | None, where: Where | None) -> Array:
        """Return which rows a statistic uses: those that have the word `value` and meet the condition `where`."""
        met = None if where is None else self.once(("where", where), lambda: self._meets(where))
        if value is None:
            return met
        return self._has(value) if met is None else met & self._has(value)

    def _has(self, word: tuple) -> Array:
        if word[0] == "number":
            return ~np.isnan(self.number(word[1]))
        if word[0] == "code":
            return self.codes(word[1])[0] >= 0
        if word[0] == "label":
            return ~self.fraud()[1] & (self._label_time() != MISSING)
        return self._has(("number", "latitude")) & self._has(("number", "longitude"))

    def fraud(self) -> tuple[Array, Array]:
        """Return which rows are known to be fraud, and which have no label."""
        return self.once("fraud", self._fraud)

    def known(self, rows: slice | Array) -> Array:
        """Return the moment from which the label of some rows is known, NEVER when it is not."""
        time = self.time[rows]
        known = np.empty(time.size, np.int64)
        scan.known_from(self._label_time()[rows], time, self.fraud()[1][rows], known)
        return known

    def prompt(self, delay: int) -> bool:
        """Return whether every label there is is known by `delay` after its payment."""
        return delay >= self.once("delay", lambda: scan.longest_delay(self._label_time(), self.time, self.fraud()[1]))

    def _label_time(self) -> Array:
        return self.once("label_time", lambda: self._moments("label_time"))

    def _known_fraud(self) -> Array:
        label = ("label",)
        return self.fraud()[0] & self._has(label) if self.may_miss(label) else self.fraud()[0]

    def local(self, zone: str | None) -> Array:
        """Return the wall clock's time in a zone (None: UTC), in microseconds as if it were UTC."""
        return self.time if zone is None else self.once(("local", zone), lambda: self._local(zone))

    def word(self, key: tuple, bits: Sequence[Any]) -> Word:
        """Return a function that gives one word of some rows, as int64 or float64."""
        what = key[0]
        if what == "flags":
            mine = bits[BITS * key[1] : BITS * (key[1] + 1)]
            masks = [self.once("known fraud", self._known_fraud) if bit == FRAUD else self.chosen(*bit) for bit in mine]
            return lambda rows: sum(mask[rows].astype(np.int64) << k for k, mask in enumerate(masks))
        if what == "number":
            if key[1] in ("latitude", "longitude"):
                self.once("place", self._check_place)
            values = self.number(key[1])
        elif what == "code":
            values = self.codes(key[1])[0]
        elif what == "known":
            return self.known
        elif what == "carry":
            return lambda rows: np.array(np.nan)
        else:
            values = self.time if what == "time" else self.local(key[1])
        return values.__getitem__

    def _refusal(self, name: str, rest: str) -> InputError:
        return InputError(f"{self.where}: column '{name}' {rest}")

    def _moments(self, name: str) -> Array:
        values = self.frame[name]
        if not isinstance(values.dtype, pd.DatetimeTZDtype):
            raise self._refusal(
                name,
                f"must hold times in one time zone; found type {values.dtype}; use pd.to_datetime(utc=True)",
            )
        same = values.dt.unit == "us"  # as_unit copies
        return (values if same else values.dt.as_unit("us")).array.asi8  # missing ones are the smallest integer

    def _total_order(self) -> Array | None:
        """Return the positions of the rows in the order (event_time, transaction_id); None when they already are."""
        ids, time = self.frame["transaction_id"], self.time
        falls, same = scan.time_order(time)
        rising = falls == 0
        sure = rising and time[0] != MISSING  # missing times are the smallest: rising ones begin with them
        if not sure and (missing := int((time == MISSING).sum())):
            raise self._refusal("event_time", f"must not be empty; found {missing:,} empty rows; correct or drop them")
        sure = isinstance(ids.dtype, np.dtype) and ids.dtype.kind in "iu"
        if not sure and (missing := int(ids.isna().sum())):
            raise self._refusal(
                "transaction_id", f"must not be empty; found {missing:,} empty rows; give each row an id"
            )
        if rising and not same:
            return None
        if rising and not scan.longer_ties(time, LONG_TIE):
            if pd.api.types.is_integer_dtype(ids.dtype):
                rank = ids.to_numpy()
                if scan.ties_rise(time, rank):
                    return None
            else:  # ranking text is slow: only where it decides
                tied = np.zeros(len(self), bool)  # rows of Arrow's text taken by number would be copied all together
                tied[scan.tied_rows(time)] = True
                rank = np.zeros(len(self), np.int64)
                rank[tied] = self._rank(ids[tied])
            order = np.empty(len(self), np.int32)
            moved, repeated = scan.order_ties(time, rank, order)
        else:
            rank = self._rank(ids)
            order = np.lexsort((rank, time))
            moved = 1
            t, r = time[order], rank[order]
            repeated = int(((t[1:] == t[:-1]) & (r[1:] == r[:-1])).sum())
        if repeated:
            raise self._refusal(
                "transaction_id",
                f"must tell apart rows of the same event_time; found {repeated:,} repeated; remove the duplicates",
            )
        return order.astype(np.int32, copy=False) if moved else None

    def _rank(self, ids: pd.Series) -> Array:
        if pd.api.types.is_integer_dtype(ids.dtype):
            return ids.to_numpy()
        if is_arrow_text(ids):
            return text_ranks(ids)
        if isinstance(ids.dtype, pd.CategoricalDtype):
            ids = ids.astype(ids.cat.categories.dtype)
        if pd.api.types.infer_dtype(ids, skipna=False) not in ("string", "integer", "empty"):
            raise self._refusal(
                "transaction_id", f"must be all text or all integers; found type {ids.dtype}; read it as text"
            )
        return pd.factorize(ids, sort=True)[0]

    def _number(self, name: str) -> Array:
        values = self.frame[name]
        if pd.api.types.is_bool_dtype(values.dtype) or not pd.api.types.is_numeric_dtype(values.dtype):
            raise self._refusal(
                name, f"must hold numbers for this statistic; found type {values.dtype}; name a numeric column"
            )
        if values.dtype == np.float64:
            numbers = np.ascontiguousarray(values.to_numpy())  # most often no copy
        else:
            numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        missing, infinite, size = scan.number_facts(numbers, LARGEST_SUM)
        self._memo["missing", ("number", name)] = missing > 0
        if infinite:
            raise self._refusal(name, f"must be finite; found {infinite:,} infinite rows; correct or drop them")
        if size >= LARGEST_SUM:
            raise self._refusal(
                name, f"must add up to less than {LARGEST_SUM:.1e} to be summed exactly; found more; scale it"
            )
        return numbers

    def entity(self, names: Sequence[str]) -> tuple[Array, int]:
        """Return the columns' combined values as codes 0..n-1 (-1 where any is missing), and n."""
        code, found = self.codes(names[0])
        groups = len(found)
        for name in names[1:]:
            more, both = self.codes(name)[0], np.empty(len(self), np.int32)
            scan.missing_pairs(code, more, both)
            code, groups = both, numbered(code, more, both)
        return code, groups

    def _meets(self, where: Where) -> Array:
        column, operator, wanted, _ = where
        dtype = self.frame[column].dtype
        numeric = pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)
        if numeric == isinstance(wanted, str | bool):
            raise self._refusal(
                column,
                f"must be of the kind compared with ({type(wanted).__name__}); found type {dtype}; correct `where`",
            )
        if numeric:
            numbers = self.number(column)
            return ~np.isnan(numbers) & COMPARISONS[operator](numbers, wanted)
        code, found = codes_of(self.frame[column])
        equal = np.append(np.fromiter((item == wanted for item in found.tolist()), bool, len(found)), False)[code]
        return (code >= 0) & (equal if operator == "=" else ~equal)

    def _check_place(self) -> None:
        for name, limit in (("latitude", 90), ("longitude", 180)):
            if outside := int((np.abs(self.number(name)) > limit).sum()):
                raise self._refusal(
                    name, f"must lie within -{limit} and {limit} degrees; found {outside:,} outside; correct them"
                )

    def _fraud(self) -> tuple[Array, Array]:
        fraud = self.frame["is_fraud"]
        try:
            fraud = fraud if isinstance(fraud.dtype, pd.BooleanDtype) else fraud.astype("boolean")
        except (TypeError, ValueError):
            raise self._refusal(
                "is_fraud", f"must be true, false or missing; found type {fraud.dtype}; map its values"
            ) from None
        return fraud.to_numpy(bool, na_value=False), fraud.isna().to_numpy()

    def _local(self, zone: str) -> Array:
        return self.frame["event_time"].dt.as_unit("us").dt.tz_convert(zone).dt.tz_localize(None).array.asi8


class Part:
    """Some rows of a source, as far as specs without history ask."""

    def __init__(self, source: Source, rows: slice) -> None:
        self.source = source
        self.rows = rows

    def number(self, name: str) -> Array:
        return self.source.number(name)[self.rows]

    def local(self, zone: str | None) -> Array:
        return self.source.local(zone)[self.rows]


COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "=": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}

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
        words = 8 * len(frame) * max((len(todo.words) for todo in plans.values()), default=0)
        whole = Room() if words <= max(out.nbytes // 4, LEAST_ROOM) else None
        workers = Workers(pool, touched, [Room() for _ in range(pool._max_workers)], whole)
        # Columns are coded, and graphs grown, while the kernels of another entity run: first one that needs few codes,
        # then those that have the most to do.
        needs = {entity: len({*entity, *coded(todo)}) for entity, todo in plans.items()}
        order: list[tuple[str, ...]] = sorted(plans, key=lambda entity: -len(plans[entity].ops))
        order.sort(key=lambda entity: needs[entity] > min(needs.values()))
        if () in work:
            order.insert(1, ())
        running: list[Future] = []
        for entity in order:
            started = []
            if entity:
                columns = np.concatenate([columns for _, columns in work[entity]])
                started = _start_entity(source, entity, plans[entity], columns, out, workers, running)
            else:
                wait(touched)
                _compute_rows(source, work[entity], out, pool)
            del work[entity]
            source.keep({name for members in work.values() for spec, _ in members for name in spec.requires})
            _finish(running if pool._max_workers > 1 else started)
            running = started
        _finish(running)
    return out


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


def _compute_rows(source: Source, members: list[tuple[Any, Array]], out: Array, pool: ThreadPoolExecutor) -> None:
    """Fill the columns of specs that have no entity, some rows at a time so that each row is touched once."""
    slices = [slice(start, start + SLICE) for start in range(0, len(source), SLICE)]
    current = [(spec, columns) for spec, columns in members if not isinstance(spec, LinkSpec)]

    def work(rows: slice) -> None:
        some = Part(source, rows)
        for spec, columns in current:
            out[rows, columns[0]] = CURRENT[spec.statistic](some, spec)

    running = [pool.submit(work, rows) for rows in slices]
    graphs: dict[Any, dict[str, Array]] = {}
    for spec, columns in members:
        if isinstance(spec, LinkSpec):
            value, through = spec.value_and_through
            if (value, through) not in graphs:
                graphs[value, through] = linked(source, (value, *through))
            out[:, columns[0]] = graphs[value, through][spec.statistic]
    _finish(running)


def _finish(running: list[Future]) -> None:
    for each in running:
        each.result()


class Groups(NamedTuple):
    """The rows of some entities, those of each one after the other in the total order.

    Attributes
    ----------
    first, last : where each entity's rows begin and end. held : how many of them were known before; empty where none
    was and the entities follow each other. rows : the frame's row of each. packed : (rows, words) of a plan.
    """

    first: Array
    last: Array
    held: Array
    rows: Array
    packed: Array


class Room:
    """One thread's memory for the rows and the words of `Groups`, used again and again: new memory is dear to touch."""

    def __init__(self) -> None:
        self.rows, self.words, self.table = np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.int64)

    def take(self, rows: int, words: int) -> tuple[Array, Array]:
        """Return room for so many rows of so many words."""
        if rows > self.rows.size:
            self.rows = np.empty(rows, np.int32)
        if rows * words > self.words.size:
            self.words = np.empty(rows * words, np.int64)
        return self.rows[:rows], self.words[: rows * words].reshape(rows, words)

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


def group(source: Source, words: Sequence[Word], code: Array, groups: int, places: Array | None, room: Room) -> Groups:
    """Return the rows of each entity with their words: a counting sort.

    Words are made for some rows at a time and go from there to their place: they never lie in memory twice.

    Parameters
    ----------
    code : the entity of each row, in the total order. places : of these rows, where in the total order; None: all rows.
    """
    sizes = np.empty(groups, np.int64)
    windows.group_sizes(code, sizes)
    ends = np.concatenate(([0], np.cumsum(sizes)))
    rows, packed = room.take(int(ends[-1]), len(words))
    place(source, words, code, places, (0, code.size), ends[:-1].copy(), packed, rows)
    return Groups(ends[:-1], ends[1:], NO_HELD, rows, packed)


def sizes_in(spans: Sequence[tuple[int, int]], code: Array, groups: int) -> Array:
    """Return how many rows of each span each entity has."""
    sizes = np.empty((len(spans), groups), np.int64)
    for span, its in zip(spans, sizes, strict=True):
        windows.group_sizes(code[slice(*span)], its)
    return sizes


def group_all(
    source: Source,
    words: Sequence[Word],
    code: Array,
    spans: Sequence[tuple[int, int]],
    sizes: Array,
    pool: ThreadPoolExecutor,
    room: Room,
) -> Groups:
    """Return what `group` does of all rows, the pool's threads with a span of them each, of these `sizes_in`."""
    ends = np.concatenate(([0], np.cumsum(sizes.sum(axis=0))))
    free = ends[:-1] + np.cumsum(sizes, axis=0) - sizes
    rows, packed = room.take(int(ends[-1]), len(words))
    list(pool.map(lambda span, free: place(source, words, code, None, span, free, packed, rows), spans, free))
    return Groups(ends[:-1], ends[1:], NO_HELD, rows, packed)


def place(
    source: Source,
    words: Sequence[Word],
    code: Array,
    places: Array | None,
    span: tuple[int, int],
    free: Array,
    packed: Array,
    rows: Array,
) -> None:
    """Write the words of a span of rows to where their groups go on, see `group`; `free` says where, and moves on."""
    some = np.empty((len(words), STEP), np.int64)
    reals, to = some.view(np.float64), np.empty(STEP, np.int64)
    for start in range(*span, STEP):
        end = min(start + STEP, span[1])
        mine = np.arange(start, end) if places is None else places[start:end]
        mine = mine if source.order is None else source.order[mine]
        which = slice(start, end) if places is None and source.order is None else mine.astype(np.int64, copy=False)
        for k, word in enumerate(words):
            values = word(which)
            (reals if values.dtype == np.float64 else some)[k, : end - start] = values
        windows.place_rows(some, code[start:end], mine.astype(np.int32, copy=False), free, to, packed, rows)


def _start_entity(
    source: Source,
    entity: tuple[str, ...],
    todo: Plan,
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
    threads = pool._max_workers
    code, groups = entity_codes(source, entity)
    spans = list(pairwise(np.linspace(0, code.size, 4 * threads + 1).astype(int).tolist()))
    sizes = sizes_in(spans, code, groups)
    before = np.concatenate(([0], np.cumsum(sizes.sum(axis=0))))
    capacity = max(CHUNK, int(np.diff(before).max(initial=0)))
    codes = max((len(source.codes(name)[1]) for name in coded(todo)), default=0)
    words = [source.word(key, todo.bits) for key in todo.words]
    grouped = None
    if whole is not None:
        _finish(running)
        grouped = group_all(source, words, code, spans, sizes, pool, whole)
    wait(touched)  # before anything is written: a page touched late would lose a value
    if before[-1] < len(source):
        without = np.flatnonzero(code < 0)
        out[np.ix_(without if source.order is None else source.order[without], columns)] = np.nan

    if grouped is not None:

        def work_on(part: tuple[int, int]) -> None:
            run(todo, grouped, part, capacity, np.zeros(codes, np.int64), columns, out)

        return [pool.submit(work_on, part) for part in cut(before, 8 * threads)]

    often = -(-8 * len(words) * int(before[-1]) // max(out.nbytes // ROOMS, LEAST_ROOM))
    parts = cut(before, threads * max(often, 2))
    places = None
    if len(parts) > 1:  # dealt to the parts
        free, part_of = before[[first for first, _ in parts]], np.repeat(np.arange(len(parts)), np.diff(parts).ravel())
        places = np.empty(int(before[-1]), np.int32)
        scan.dealt(code, part_of, free, places)

    def work(first: int, end: int) -> None:
        mine = None if places is None else places[before[first] : before[end]]
        room = rooms.pop()
        try:
            own = code if mine is None else code[mine] - np.int32(first)
            grouped = group(source, words, own, end - first, mine, room)
            run(todo, grouped, (0, end - first), capacity, room.zeros(codes), columns, out)
        finally:
            rooms.append(room)

    return [pool.submit(work, *part) for part in parts]


def cut(ends: Array, pieces: int) -> list[tuple[int, int]]:
    """Cut groups into about so many pieces of about as many rows, each given by its first group and its end."""
    cuts = np.searchsorted(ends, np.linspace(0, ends[-1], pieces + 1)[1:-1].astype(np.int64)).tolist()
    groups = ends.size - 1
    return list(pairwise([0, *(cut for cut in sorted(set(cuts)) if 0 < cut < groups), groups]))


def run(
    todo: Plan, grouped: Groups, part: tuple[int, int], capacity: int, tables: Array, columns: Array, out: Array
) -> None:
    """Hand some groups to the kernels; the result's number type decides which of its two outputs they fill."""
    other = NO_ROWS["float64" if out.dtype == np.float32 else "float32"]
    pair = (other, out) if out.dtype == np.float32 else (out, other)
    scratch = np.empty(todo.scratch(capacity), np.int64)
    operations.run(
        todo.ops, todo.params, grouped.packed, grouped.rows, grouped.first, grouped.last, grouped.held, *part, capacity,
        scratch, 0, todo.shape, tables, columns, *pair,
    )  # fmt: skip
