"""From a frame of transactions to its features: order the rows, group them by entity, hand them to the kernels.

`Source` turns the frame's columns into plain arrays. Per entity, `plan` says what the kernels need of each row; those
words are put side by side, group after group, and the groups are shared between the threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from fraudlab.features.kernels import jit, links, operations, windows
from fraudlab.features.kernels import source as scan
from fraudlab.features.kernels.labels import NEVER
from fraudlab.features.plan import BITS, FRAUD, Plan, Where, plan
from fraudlab.features.specs import CurrentSpec, LinkSpec
from fraudlab.schema import InputError, require_columns

CHUNK = 1024  # rows of scratch: what fits the processor's second cache
MANY_ROWS = 50_000  # below this, starting threads costs more than they bring
SLICE = 65_536
STEP = 16_384  # rows whose words are made at once on their way to their groups
PAGE = 4096  # bytes
LEAST_ROOM = 4 << 20  # bytes of words that are no matter, however small the result
LONG_TIE = 64  # rows of one moment that are put in order one by one; more are sorted
HOUR, DAY = 3_600_000_000, 86_400_000_000  # microseconds
LARGEST_SUM = 2.0**62
NO_HELD = np.empty(0, np.int64)
NO_ROWS = {"float64": np.empty((0, 0)), "float32": np.empty((0, 0), np.float32)}

Array = np.ndarray


class Source:
    """The columns of one frame as plain arrays in the frame's own row order, each made once, when first asked for."""

    def __init__(self, frame: pd.DataFrame, where: str) -> None:
        self.frame = frame
        self.where = where
        self._memo: dict[Any, Any] = {}
        self.time = self._moments("event_time")
        if missing := int(frame["event_time"].isna().sum()):
            raise self._refusal("event_time", f"must not be empty; found {missing:,} empty rows; correct or drop them")
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
        return self.once(("codes", name), lambda: self._codes(name))

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
        return self._has(("number", "latitude")) & self._has(("number", "longitude"))

    def fraud(self) -> tuple[Array, Array]:
        """Return which rows are known to be fraud, and which have no label."""
        return self.once("fraud", self._fraud)

    def known(self, rows: slice | Array) -> Array:
        """Return the moment from which the label of some rows is known, NEVER when it is not."""
        time = self.time[rows]
        known = np.empty(time.size, np.int64)
        label_time = self.once("label_time", lambda: self._moments("label_time"))
        scan.known_from(label_time[rows], time, self.fraud()[1][rows], known)
        return known

    def local(self, zone: str | None) -> Array:
        """Return the wall clock's time in a zone (None: UTC), in microseconds as if it were UTC."""
        return self.time if zone is None else self.once(("local", zone), lambda: self._local(zone))

    def word(self, key: tuple, bits: Sequence[Any]) -> Callable[[slice], Array]:
        """Return a function that gives one word of some rows, as int64 or float64."""
        what = key[0]
        if what == "flags":
            mine = bits[BITS * key[1] : BITS * (key[1] + 1)]
            masks = [self.fraud()[0] if bit == FRAUD else self.chosen(*bit) for bit in mine]
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
        if missing := int(ids.isna().sum()):
            raise self._refusal(
                "transaction_id", f"must not be empty; found {missing:,} empty rows; give each row an id"
            )
        rising, longest = scan.time_order(time)
        if rising and longest == 1:
            return None
        if rising and longest <= LONG_TIE:
            if pd.api.types.is_integer_dtype(ids.dtype):
                rank = ids.to_numpy()
                if scan.ties_rise(time, rank):
                    return None
            else:  # ranking text is slow: only where it decides
                tied = scan.tied_rows(time)
                rank = np.zeros(len(self), np.int64)
                rank[tied] = self._rank(ids.iloc[tied])
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
        numbers = np.ascontiguousarray(values.to_numpy(dtype=np.float64, na_value=np.nan))
        missing, infinite, size = scan.number_facts(numbers)
        self._memo["missing", ("number", name)] = missing > 0
        if infinite:
            raise self._refusal(name, f"must be finite; found {infinite:,} infinite rows; correct or drop them")
        if size >= LARGEST_SUM:
            raise self._refusal(
                name, f"must add up to less than {LARGEST_SUM:.1e} to be summed exactly; found more; scale it"
            )
        return numbers

    def _codes(self, name: str) -> tuple[Array, Any]:
        values = self.frame[name]
        if isinstance(values.dtype, np.dtype) and values.dtype.kind == "i" and len(values):
            plain = values.to_numpy(np.int64)
            least, most = scan.extremes(plain)
            if most - least < 4 * len(values):  # integers close together are codes already
                code = np.empty(len(values), np.int32)
                scan.shifted(plain, least, code)
                return code, range(least, most + 1)
        code, found = pd.factorize(values)
        return code.astype(np.int32), found

    def entity(self, names: Sequence[str]) -> tuple[Array, int]:
        """Return the columns' combined values as codes 0..n-1 (-1 where any is missing), and n."""
        code, found = self.codes(names[0])
        groups = len(found)
        for name in names[1:]:
            more, found = self.codes(name)
            both = np.empty(len(self), np.int64)
            scan.paired(code, more, len(found), both)
            code, pairs = pd.factorize(both)
            none = np.flatnonzero(pairs == -1)
            if none.size:  # the missing pair got a code of its own: close the gap
                code = np.where(code == none[0], -1, code - (code > none[0]))
            groups = len(pairs) - none.size
        return code.astype(np.int32, copy=False), groups

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
        code, found = pd.factorize(self.frame[column])
        equal = np.append(np.fromiter((item == wanted for item in found), bool, len(found)), False)[code]
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


COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "=": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}

# What is read from the row alone; `source` may be a whole frame or one payment.
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
        # The system hands out memory when it is first written: better now than in the kernels' random order.
        pages = np.array_split(out.reshape(-1)[:: PAGE // out.itemsize], pool._max_workers)
        touched = [pool.submit(part.fill, 0) for part in pages]
        source = Source(frame, where)
        plans = {entity: plan([spec for spec, _ in work[entity]], source.may_miss) for entity in filter(None, work)}
        operations.prepare([todo.ops for todo in plans.values()])
        room = Room()
        wait(touched)  # before anything is written: a page touched late would lose a value
        for entity, todo in plans.items():
            columns = np.concatenate([columns for _, columns in work[entity]])
            _compute_entity(source, entity, todo, columns, out, pool, room)
            work.pop(entity)
            source.keep({name for members in work.values() for spec, _ in members for name in spec.requires})
        del room
        if () in work:
            _compute_rows(source, work[()], out, pool)
    return out


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
    columns = np.concatenate([columns for _, columns in members])
    graphs = {}
    for spec, _ in members:
        if isinstance(spec, LinkSpec) and spec.value_and_through not in graphs:
            value, through = spec.value_and_through
            graphs[value, through] = linked(source, (value, *through))

    def values_of(spec: Any) -> Array:
        if isinstance(spec, LinkSpec):
            return graphs[spec.value_and_through][spec.statistic]
        return CURRENT[spec.statistic](source, spec)

    found = [values_of(spec) for spec, _ in members]

    def work(start: int) -> None:
        rows = slice(start, start + SLICE)
        out[rows, columns] = np.column_stack([values[rows] for values in found])

    list(pool.map(work, range(0, len(source), SLICE)))


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
    """Memory for the rows and the words of `Groups`, which one after the other uses: new memory is dear to touch."""

    def __init__(self) -> None:
        self.rows, self.words = np.empty(0, np.int32), np.empty(0, np.int64)

    def take(self, rows: int, words: int) -> tuple[Array, Array]:
        """Return room for so many rows of so many words."""
        if rows > self.rows.size:
            self.rows = np.empty(rows, np.int32)
        if rows * words > self.words.size:
            self.words = np.empty(rows * words, np.int64)
        return self.rows[:rows], self.words[: rows * words].reshape(rows, words)


def entity_codes(source: Source, entity: tuple[str, ...]) -> tuple[Array, int]:
    """Return the entity of each row in the total order as a code (-1: none), and how many entities there are."""
    code, groups = source.entity(entity)
    return code if source.order is None else code[source.order], groups


def group(
    source: Source, code: Array, groups: int, places: Array | None, todo: Plan, pool: ThreadPoolExecutor, room: Room
) -> Groups:
    """Return the rows of each entity with the words that the plan needs: a counting sort, each thread with its share.

    Words are made for some rows at a time and go from there to their place: they never lie in memory twice.

    Parameters
    ----------
    code : the entity of each row, in the total order. places : of these rows, where in the total order; None: all rows.
    """
    shares = shared(code.size, pool)
    free = np.zeros((len(shares), groups), np.int64)
    list(pool.map(windows.group_sizes, np.split(code, [share[0] for share in shares[1:]]), free))
    ends = np.concatenate(([0], np.cumsum(free.sum(axis=0))))
    free[:] = ends[:-1] + np.cumsum(free, axis=0) - free
    rows, packed = room.take(int(ends[-1]), len(todo.words))
    place(source, code, places, todo, pool, shares, free, packed, rows)
    return Groups(ends[:-1], ends[1:], NO_HELD, rows, packed)


def shared(rows: int, pool: ThreadPoolExecutor) -> list[Array]:
    """Return for each thread where the steps begin that make its share of the rows."""
    return [share for share in np.array_split(np.arange(0, rows, STEP), pool._max_workers) if share.size]


def place(
    source: Source,
    code: Array,
    places: Array | None,
    todo: Plan,
    pool: ThreadPoolExecutor,
    shares: list[Array],
    free: Array,
    packed: Array,
    rows: Array,
) -> None:
    """Write the words of some rows to where their groups go on, see `group`; `free` says where, for each share."""
    words = [source.word(key, todo.bits) for key in todo.words]

    def work(share: Array, free: Array) -> None:
        some = np.empty((len(words), STEP), np.int64)
        reals, to = some.view(np.float64), np.empty(STEP, np.int64)
        for start in share:
            end = min(start + STEP, code.size)
            mine = np.arange(start, end) if places is None else places[start:end]
            mine = mine if source.order is None else source.order[mine]
            which = slice(start, end) if places is None and source.order is None else mine
            for k, word in enumerate(words):
                values = word(which)
                (reals if values.dtype == np.float64 else some)[k, : end - start] = values
            windows.place_rows(some, code[start:end], mine.astype(np.int32, copy=False), free, to, packed, rows)

    list(pool.map(work, shares, free))


def _compute_entity(
    source: Source,
    entity: tuple[str, ...],
    todo: Plan,
    columns: Array,
    out: Array,
    pool: ThreadPoolExecutor,
    room: Room,
) -> None:
    """Fill the columns of all specs of one entity: one grouping of its rows, one pass over its groups.

    Where the words would take much memory beside the result, some of the entities at a time.
    """
    code, groups = entity_codes(source, entity)
    sizes = np.empty(groups, np.int64)
    windows.group_sizes(code, sizes)
    before = np.concatenate(([0], np.cumsum(sizes)))
    if before[-1] < len(source):
        without = np.flatnonzero(code < 0)
        out[np.ix_(without if source.order is None else source.order[without], columns)] = np.nan
    capacity = max(CHUNK, int(sizes.max(initial=0)))
    codes = max((len(source.codes(key[1])[1]) for key in todo.words if key[0] == "code"), default=0)
    most = max(out.nbytes // 4, LEAST_ROOM) // (8 * len(todo.words))
    batches = cut(before, -(-int(before[-1]) // most))
    for first, end in batches:
        places = None if len(batches) == 1 else np.flatnonzero((code >= first) & (code < end))
        mine = code if places is None else code[places] - np.int32(first)
        grouped = group(source, mine, end - first, places, todo, pool, room)

        def work(part: tuple[int, int], grouped: Groups = grouped) -> None:
            run(todo, grouped, part, capacity, np.zeros(codes, np.int64), columns, out)

        list(pool.map(work, cut(np.concatenate(([0], grouped.last)), 2 * pool._max_workers)))


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


def linked(source: Source, names: Sequence[str]) -> dict[str, Array]:
    """Return the members and the known frauds of each row's component, members being values of the first name."""
    graph = Graph(source, names)
    members, frauds = np.empty(len(source)), np.empty(len(source))
    members[graph.order], frauds[graph.order] = graph.members_of_rows, graph.frauds_of_rows
    return {"linked": members, "linked_frauds": frauds}


class Graph:
    """The graph of the values of some columns, grown row by row in the total order.

    Attributes
    ----------
    parent, seen, members, frauds : per node, see `kernels.links`; the nodes of column k start at `offsets[k]`.
    where : per row in the total order, one of its nodes or -1.
    """

    def __init__(self, source: Source, names: Sequence[str]) -> None:
        coded = [source.codes(name) for name in names]
        sizes = [len(found) for _, found in coded]
        self.offsets = [sum(sizes[:k]) for k in range(len(sizes))]
        self.order = np.arange(len(source), dtype=np.int32) if source.order is None else source.order
        ordered = (lambda values: values) if source.order is None else (lambda values: values[source.order])
        nodes = np.empty((len(source), len(names)), np.int64)
        for k, (code, _) in enumerate(coded):
            links.numbered(ordered(code), self.offsets[k], nodes[:, k])
        self.parent = np.arange(sum(sizes))
        self.seen = np.zeros(sum(sizes), bool)
        self.members, self.frauds = np.zeros(sum(sizes), np.int64), np.zeros(sum(sizes), np.int64)
        self.where = np.empty(len(source), np.int64)
        self.members_of_rows, self.frauds_of_rows = np.empty(len(source), np.int64), np.empty(len(source), np.int64)
        if "label_time" in source.frame and "is_fraud" in source.frame:
            self.known = source.known(slice(None) if source.order is None else source.order)
            fraud = ordered(source.fraud()[0])
        else:
            self.known, fraud = np.full(len(source), NEVER), np.zeros(len(source), bool)
        told = np.flatnonzero(fraud & (self.known != NEVER))
        by_known = told[np.argsort(self.known[told], kind="stable")]
        tree = (self.parent, self.seen, self.members, self.frauds, self.where)
        result = (self.members_of_rows, self.frauds_of_rows)
        time = ordered(source.time)
        links.linked(nodes, 0, time, self.known, by_known, fraud, *tree, *result)
