"""From a frame of transactions to one array per column: order the rows, gather each entity, ask the kernels.

`Source` turns the frame's columns into plain arrays, each once. `Partition` holds some whole entities, their rows one
after the other in the total order; every statistic is a function of a partition, a spec and a span, so any engine that
can hand over whole entities gets the same numbers. `compute` cuts each entity kind into partitions that fit the
processor's cache and shares them between the threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from fraudlab.features import windows
from fraudlab.schema import InputError, require_columns

ROWS_PER_PARTITION = 32_768
MANY_ROWS = 100_000  # below this, starting threads costs more than they bring
NEVER = np.iinfo(np.int64).max
HOUR, DAY = 3_600_000_000, 86_400_000_000  # microseconds
LARGEST_SUM = 2.0**62

Array = np.ndarray


class Span(NamedTuple):
    """A window in microseconds: the rows of (t - delay - width, t - delay], and the row itself if asked for."""

    width: int
    delay: int = 0
    include_current: bool = False


class Source:
    """The columns of one frame as plain arrays in the frame's own row order, each made once, when first asked for."""

    def __init__(self, frame: pd.DataFrame, where: str) -> None:
        self.frame = frame
        self.where = where
        self._memo: dict[Any, Any] = {}
        self._lock = threading.RLock()
        self.time = self._moments("event_time")
        if missing := int((self.time == NEVER).sum()):
            raise self._refusal("event_time", f"must not be empty; found {missing:,} empty rows; correct or drop them")
        self.order = self._total_order()

    def __len__(self) -> int:
        return len(self.frame)

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        with self._lock:
            if key not in self._memo:
                self._memo[key] = make()
            return self._memo[key]

    def number(self, name: str) -> Array:
        """Return a numeric column as float64, NaN where it is missing."""
        return self.once(("number", name), lambda: self._number(name))

    def code(self, names: Sequence[str]) -> tuple[Array, int]:
        """Return the columns' combined values as codes 0..n-1 (-1 where any is missing), and n."""
        return self.once(("code", tuple(names)), lambda: self._code(names))

    def chosen(self, value: str | None, where: tuple | None) -> Array:
        """Return which rows a statistic uses: those with a number in `value` that meet the condition `where`."""
        return self.once(("chosen", value, where), lambda: self._chosen(value, where))

    def labels(self) -> tuple[Array, Array]:
        """Return (known, fraud): the moment each label is known, NEVER when it is not, and the label as 0/1."""
        return self.once("labels", self._labels)

    def place(self) -> tuple[Array, Array]:
        """Return (latitude, longitude) in degrees, NaN where missing."""
        return self.once("place", self._place)

    def _refusal(self, name: str, rest: str) -> InputError:
        return InputError(f"{self.where}: column '{name}' {rest}")

    def _moments(self, name: str) -> Array:
        values = self.frame[name]
        if not isinstance(values.dtype, pd.DatetimeTZDtype):
            raise self._refusal(
                name,
                f"must hold times in one time zone; found type {values.dtype}; use pd.to_datetime(utc=True)",
            )
        moments = values.dt.as_unit("us").astype("int64").to_numpy()
        return np.where(values.isna(), NEVER, moments) if values.hasnans else moments

    def _total_order(self) -> Array | None:
        """Return the positions of the rows in the order (event_time, transaction_id); None when they already are."""
        ids, time = self.frame["transaction_id"], self.time
        if missing := int(ids.isna().sum()):
            raise self._refusal(
                "transaction_id", f"must not be empty; found {missing:,} empty rows; give each row an id"
            )
        tied = np.zeros(len(self), bool)
        if not (time[1:] < time[:-1]).any():
            equal = time[1:] == time[:-1]
            tied[1:] |= equal
            tied[:-1] |= equal
            where = np.flatnonzero(tied)
            rank = self._rank(ids.iloc[where])
            if not ((time[where[1:]] == time[where[:-1]]) & (rank[1:] <= rank[:-1])).any():
                return None
        rank = self._rank(ids)
        order = np.lexsort((rank, time))
        t, r = time[order], rank[order]
        if repeated := int(((t[1:] == t[:-1]) & (r[1:] == r[:-1])).sum()):
            raise self._refusal(
                "transaction_id",
                f"must tell apart rows of the same event_time; found {repeated:,} repeated; remove the duplicates",
            )
        return order

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
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        with np.errstate(over="ignore"):
            size = np.abs(numbers).sum()
        if not size < LARGEST_SUM:  # also when it is NaN or infinite
            if infinite := int(np.isinf(numbers).sum()):
                raise self._refusal(name, f"must be finite; found {infinite:,} infinite rows; correct or drop them")
            if np.abs(numbers[~np.isnan(numbers)]).sum() >= LARGEST_SUM:
                raise self._refusal(
                    name,
                    f"must add up to less than {LARGEST_SUM:.1e} to be summed exactly; found more; scale it",
                )
        return numbers

    def _code(self, names: Sequence[str]) -> tuple[Array, int]:
        if len(names) > 1:
            head, (tail, tails) = self.code(names[:-1])[0], self.code(names[-1:])
            pairs = np.where((head < 0) | (tail < 0), -1, head * np.int64(tails) + tail)
            code, found = pd.factorize(pairs)
            none = np.flatnonzero(found == -1)
            if none.size:  # the missing pair got a code of its own: close the gap
                code = np.where(code == none[0], -1, code - (code > none[0]))
            return code.astype(np.int64, copy=False), len(found) - none.size
        values = self.frame[names[0]]
        if isinstance(values.dtype, np.dtype) and values.dtype.kind == "i":
            least, most = int(values.min()), int(values.max())
            if most - least < 4 * len(values):  # integers close together are codes already
                return values.to_numpy(np.int64) - least, most - least + 1
        code, found = pd.factorize(values)
        return code.astype(np.int64, copy=False), len(found)

    def _chosen(self, value: str | None, where: tuple | None) -> Array:
        chosen = np.ones(len(self), bool) if value is None else ~np.isnan(self.number(value))
        if where is None:
            return chosen
        column, operator, wanted = where
        dtype = self.frame[column].dtype
        numeric = pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)
        if numeric == isinstance(wanted, str | bool):
            raise self._refusal(
                column,
                f"must be of the kind compared with ({type(wanted).__name__}); found type {dtype}; correct `where`",
            )
        if numeric:
            numbers = self.number(column)
            return chosen & ~np.isnan(numbers) & COMPARISONS[operator](numbers, wanted)
        code, found = pd.factorize(self.frame[column])
        equal = np.append(np.fromiter((item == wanted for item in found), bool, len(found)), False)[code]
        return chosen & (code >= 0) & (equal if operator == "=" else ~equal)

    def _place(self) -> tuple[Array, Array]:
        for name, limit in (("latitude", 90), ("longitude", 180)):
            if outside := int((np.abs(self.number(name)) > limit).sum()):
                raise self._refusal(
                    name, f"must lie within -{limit} and {limit} degrees; found {outside:,} outside; correct them"
                )
        return self.number("latitude"), self.number("longitude")

    def _labels(self) -> tuple[Array, Array]:
        try:
            fraud = self.frame["is_fraud"].astype("boolean")
        except (TypeError, ValueError):
            raise self._refusal(
                "is_fraud", f"must be true, false or missing; found type {self.frame['is_fraud'].dtype}; map its values"
            ) from None
        known = np.maximum(self._moments("label_time"), self.time)
        known[fraud.isna().to_numpy()] = NEVER
        return known, fraud.to_numpy(dtype=np.int64, na_value=0)


COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "=": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}


class Partition:
    """Whole entities, one after the other, each entity's rows in the total order.

    Attributes
    ----------
    rows : positions in the source's frame. indptr : entity g holds `rows[indptr[g]:indptr[g + 1]]`.
    time : event times, microseconds. first : for each row, the position of its entity's first row.
    """

    def __init__(self, source: Source, rows: Array, indptr: Array, scratch: dict[str, Array]) -> None:
        self.source = source
        self.rows = rows
        self.indptr = indptr
        self.time = source.time[rows]
        self.first = np.repeat(indptr[:-1], np.diff(indptr))
        self.position = np.arange(rows.size)
        self._scratch = scratch
        self._memo: dict[Any, Any] = {}

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._memo:
            self._memo[key] = make()
        return self._memo[key]

    def number(self, name: str) -> Array:
        return self.once(("number", name), lambda: self.source.number(name)[self.rows])

    def chosen(self, value: str | None, where: tuple | None) -> Array:
        return self.once(("chosen", value, where), lambda: self.source.chosen(value, where)[self.rows])

    def edge(self, offset: int) -> Array:
        return self.once(("edge", offset), lambda: windows.edge(self.time, self.indptr, offset))

    def edges(self, span: Span) -> tuple[Array, Array]:
        """Return (lo, hi): the rows of each row's window are `lo[i]:hi[i]`."""
        hi = self.edge(span.delay) if span.delay else self.position + span.include_current
        return self.edge(span.delay + span.width), hi

    def count(self, value: str | None, where: tuple | None, span: Span) -> Array:
        """Return how many rows of each window are chosen."""
        lo, hi = self.edges(span)
        if value is None and where is None:
            return hi - lo

        def make() -> Array:
            return np.concatenate(([0], np.cumsum(self.chosen(value, where))))

        running = self.once(("counts", value, where), make)
        return running[hi] - running[lo]

    def total(self, value: str, where: tuple | None, span: Span) -> Array:
        def sums() -> tuple[Array, Array]:
            return windows.running_sums(self.number(value), self.chosen(value, where))

        def make() -> Array:
            return windows.window_sums(*self.once(("sums", value, where), sums), *self.edges(span))

        return self.once(("total", value, where, span), make)

    def mean(self, value: str, where: tuple | None, span: Span) -> Array:
        return _divide(self.total(value, where, span), self.count(value, where, span))

    def spread(self, value: str, where: tuple | None, span: Span) -> tuple[Array, Array]:
        def make() -> tuple[Array, Array]:
            return windows.window_spread(self.number(value), self.chosen(value, where), *self.edges(span))

        return self.once(("spread", value, where, span), make)

    def maximum(self, value: str, span: Span) -> Array:
        return windows.window_maximum(self.number(value), self.chosen(value, None), self.indptr, *self.edges(span))

    def distinct(self, value: str, where: tuple | None, span: Span) -> Array:
        codes, different = self.source.code((value,))
        if value not in self._scratch:
            self._scratch[value] = np.zeros(different, np.int32)
        chosen = self.chosen(None, where)
        return windows.window_distinct(codes[self.rows], chosen, self.indptr, *self.edges(span), self._scratch[value])

    def labels(self, span: Span) -> tuple[Array, Array]:
        """Return (frauds, labelled): how many labels of each window are known at t, and how many of them are fraud."""

        def entering() -> tuple[Array, Array]:
            known = self.source.labels()[0][self.rows]
            enter = np.where(known == NEVER, NEVER, np.maximum(known, self.time + span.delay))
            falls = (enter[1:] < enter[:-1]) & (self.first[1:] == self.first[:-1])
            return enter, np.lexsort((enter, self.first)) if falls.any() else self.position

        def make() -> tuple[Array, Array]:
            fraud = self.once("fraud", lambda: self.source.labels()[1][self.rows])
            enter, by_enter = self.once(("enter", span.delay), entering)
            lo = self.edge(span.delay + span.width)
            return windows.window_labels(self.time, self.indptr, lo, enter, by_enter, fraud)

        return self.once(("labels", span), make)

    def journey(self) -> tuple[Array, Array]:
        """Return (km, hours) since the entity's previous known place; NaN without one or without a place now."""

        def make() -> tuple[Array, Array]:
            latitude, longitude = (degrees[self.rows] for degrees in self.source.place())
            known = ~(np.isnan(latitude) | np.isnan(longitude))
            latest = np.maximum.accumulate(np.where(known, self.position, -1))
            before = np.concatenate(([-1], latest[:-1]))
            before[(before < self.first) | ~known] = -1
            hours = (self.time - self.time[before]) / HOUR
            return windows.kilometres(latitude, longitude, before), np.where(before < 0, np.nan, hours)

        return self.once("journey", make)


def _divide(upper: Array, lower: Array) -> Array:
    """Divide, NaN where the denominator is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(lower == 0, np.nan, upper / lower)


def _risk(part: Partition, spec: Any, span: Span) -> Array:
    frauds, labelled = part.labels(span)
    share = _divide(frauds, labelled)
    return share if spec.empty is None else np.where(labelled == 0, spec.empty, share)


def _zscore(part: Partition, spec: Any, span: Span) -> Array:
    mean, std = part.spread(spec.value, None, span)
    return _divide(part.number(spec.value) - mean, std)


def _since_last(part: Partition, spec: Any) -> Array:
    waited = (part.time - part.time[part.position - 1]) / DAY
    return np.where(part.position == part.first, np.nan, waited)


def _speed(part: Partition, spec: Any) -> Array:
    km, hours = part.journey()
    return np.maximum(km - spec.slack_km, 0.0) / np.maximum(hours, spec.floor_microseconds / HOUR)


# One line per statistic: over a window of the entity's history ...
WINDOW: dict[str, Callable[[Partition, Any, Span], Array]] = {
    "count": lambda part, spec, span: part.count(None, spec.where, span),
    "total": lambda part, spec, span: part.total(spec.value, spec.where, span),
    "mean": lambda part, spec, span: part.mean(spec.value, spec.where, span),
    "std": lambda part, spec, span: part.spread(spec.value, spec.where, span)[1],
    "zscore": _zscore,
    "ratio": lambda part, spec, span: _divide(part.number(spec.value), part.mean(spec.value, None, span)),
    "max_ratio": lambda part, spec, span: _divide(part.number(spec.value), part.maximum(spec.value, span)),
    "distinct": lambda part, spec, span: part.distinct(spec.value, spec.where, span),
    "frauds": lambda part, spec, span: part.labels(span)[0],
    "risk": _risk,
}
# ... over all of it ...
PAST: dict[str, Callable[[Partition, Any], Array]] = {
    "is_new": lambda part, spec: part.position == part.first,
    "since_last": _since_last,
    "since_first": lambda part, spec: (part.time - part.time[part.first]) / DAY,
    "distance": lambda part, spec: part.journey()[0],
    "speed": _speed,
}
# ... or from the row alone.
CURRENT: dict[str, Callable[[Source, Any], Array]] = {
    "value": lambda source, spec: source.number(spec.value),
    "cents": lambda source, spec: np.mod(np.rint(source.number(spec.value) * 100), 100),
    "round": lambda source, spec: _flag(np.mod(source.number(spec.value), spec.step) == 0, source.number(spec.value)),
    "hour": lambda source, spec: _hour(source),
    "night": lambda source, spec: _hour(source) <= 6,
    "weekend": lambda source, spec: (source.time // DAY + 3) % 7 >= 5,  # 1970-01-01 was a Thursday
}


def _hour(source: Source) -> Array:
    return source.once("hour", lambda: source.time // HOUR - 24 * (source.time // DAY))


def _flag(flag: Array, known: Array) -> Array:
    return np.where(np.isnan(known), np.nan, flag)


def compute(specs: Iterable[Any], requires: Iterable[str], frame: pd.DataFrame, *, dtype: str, where: str) -> Array:
    """Return one row per row of the frame, in its order, and one column per column of the specs, in theirs."""
    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"{where}: transactions must be a pandas DataFrame; found {type(frame).__name__}")
    require_columns(frame, requires, where=where)
    if not frame.columns.is_unique:
        raise InputError(f"{where}: column names must be unique; found repeated ones; rename or drop them")
    if len(frame) == 0:
        return np.empty((0, sum(len(spec.columns) for spec in specs)), dtype)
    windows.announce_compilation()
    source = Source(frame, where)
    by_entity: dict[tuple[str, ...], list[tuple[Any, int]]] = {}
    width = 0
    now = []
    for spec in specs:
        if spec.entity:
            by_entity.setdefault(spec.entity, []).append((spec, width))
        else:
            now.append((spec, width))
        width += len(spec.columns)
    out = np.empty((len(frame), width), dtype)
    for spec, column in now:
        out[:, column] = CURRENT[spec.statistic](source, spec)
    for entity, members in by_entity.items():
        _compute_entity(source, entity, members, out)
    return out


def _compute_entity(source: Source, entity: tuple[str, ...], members: list[tuple[Any, int]], out: Array) -> None:
    """Fill the columns of all specs of one entity: one stable sort, then one pass over its partitions."""
    code, groups = source.code(entity)
    ordered = code if source.order is None else code[source.order]
    rows, indptr = windows.gather_groups(ordered, groups)
    if source.order is not None:
        rows = source.order[rows]
    columns = np.concatenate([np.arange(column, column + len(spec.columns)) for spec, column in members])
    if rows.size < len(source):
        out[np.ix_(code < 0, columns)] = np.nan

    cuts = np.unique(np.append(np.searchsorted(indptr, np.arange(0, rows.size, ROWS_PER_PARTITION)), groups))
    parts = list(pairwise(cuts.tolist()))

    def work(mine: list[tuple[int, int]]) -> None:
        scratch: dict[str, Array] = {}
        for start, stop in mine:
            ends = indptr[start : stop + 1]
            part = Partition(source, rows[ends[0] : ends[-1]], ends - ends[0], scratch)
            block = np.empty((columns.size, part.rows.size))
            filled = 0
            for spec, _ in members:
                for values in _columns_of(part, spec):
                    block[filled] = values
                    filled += 1
            windows.scatter(block, part.rows, columns, out)

    workers = windows.threads() if rows.size >= MANY_ROWS else 1
    shares = [parts[len(parts) * w // workers : len(parts) * (w + 1) // workers] for w in range(workers)]
    if workers == 1:
        work(shares[0])
    else:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(work, shares))


def _columns_of(part: Partition, spec: Any) -> Iterable[Array]:
    if spec.statistic in PAST:
        yield PAST[spec.statistic](part, spec)
    else:
        for span in spec.spans:
            yield WINDOW[spec.statistic](part, spec, span)
