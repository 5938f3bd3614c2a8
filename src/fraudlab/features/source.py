"""The columns of a frame as plain arrays: what the rest of the engine reads instead of the frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fraudlab.features.coding import MOST, codes_of, is_arrow_text, numbered, text_ranks
from fraudlab.features.kernels import source as scan
from fraudlab.features.kernels.labels import NEVER
from fraudlab.features.packing import CELL, Field, Word
from fraudlab.features.plan import BITS, FRAUD, Where
from fraudlab.features.specs import LONGEST
from fraudlab.schema import InputError

LONG_TIE = 64  # rows of one moment that are put in order one by one; more are sorted
LARGEST_SUM = 2.0**62
MISSING = -NEVER - 1  # as a time
EARLIEST = MISSING + 2 * LONGEST  # by the longest delay and window later than there are times

Array = np.ndarray


class Source:
    """The columns of one frame as plain arrays in the frame's own row order, each made once, when first asked for."""

    def __init__(self, frame: pd.DataFrame, where: str) -> None:
        self.frame = frame
        self.where = where
        self._memo: dict[Any, Any] = {}
        self.time = self._moments("event_time")
        self.order = self._total_order()
        ends = [0, -1] if self.order is None else self.order[[0, -1]]
        self.first, self.last = self.time[ends].tolist()
        if self.first < EARLIEST:
            raise self._refusal("event_time", "must not begin before 290,000 BC; found earlier rows; correct them")

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
        if word[0] == "label":
            return self._label_facts()[1] > 0
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
        return delay >= self._label_facts()[0]

    def _label_facts(self) -> tuple[int, int]:
        """Return the longest delay of a label and how many rows have none."""
        return self.once("labels", lambda: scan.label_facts(self._label_time(), self.time, self.fraud()[1]))

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
            masks = self._masks(key[1], bits)
            return lambda rows: _flags(masks, rows)
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
        elif what == "row":
            return _numbers
        else:
            values = self.time if what == "time" else self.local(key[1])
        return values.__getitem__

    def bits_of(self, key: tuple, bits: Sequence[Any]) -> int:
        """Return how many bits a word, or the number of the ("row",) itself, needs at most."""
        if key[0] == "flags":
            return min(len(bits) - BITS * key[1], BITS)
        if key[0] in ("row", "code"):
            return (len(self) * (MOST if key[0] == "code" else 1)).bit_length()
        if self.whole_seconds and key in (("time",), ("local", None)):
            return max(((self.last - self.first) // scan.SECOND).bit_length(), 1)
        return CELL

    def field(self, key: tuple, bits: Sequence[Any]) -> Word | Field:
        """Return a word, as a field if it needs less than a cell."""
        what, many = key[0], self.bits_of(key, bits)
        if many == CELL:
            return self.word(key, bits)
        if what == "flags":
            masks = self._masks(key[1], bits)
            return Field(lambda rows, shift, out: _add_flags(masks, rows, shift, out), many)
        if what == "row":
            return Field(_add_numbers, many)
        if what == "code":  # -1 where missing
            codes = self.codes(key[1])[0]
            return Field(lambda rows, shift, out: scan.add_bits(codes[rows], 1, shift, out), many, 1, -1)
        return Field(
            lambda rows, shift, out: scan.add_seconds(self.time[rows], self.first, shift, out),
            many, scan.SECOND, self.first,
        )  # fmt: skip

    def _masks(self, number: int, bits: Sequence[Any]) -> list[Array]:
        """Return which rows have each bit of a word of flags."""
        mine = bits[BITS * number : BITS * (number + 1)]
        return [self.once("known fraud", self._known_fraud) if bit == FRAUD else self.chosen(*bit) for bit in mine]

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
        plain = isinstance(ids.dtype, np.dtype) and ids.dtype.kind in "iu"
        falls, same, odd, wrong = scan.time_order(time, ids.to_numpy() if plain else time)
        self.whole_seconds = odd == 0
        rising = falls == 0
        sure = rising and time[0] != MISSING  # missing times are the smallest: rising ones begin with them
        if not sure and (missing := int((time == MISSING).sum())):
            raise self._refusal("event_time", f"must not be empty; found {missing:,} empty rows; correct or drop them")
        if not plain and (missing := int(ids.isna().sum())):
            raise self._refusal(
                "transaction_id", f"must not be empty; found {missing:,} empty rows; give each row an id"
            )
        if rising and (not same or (plain and not wrong)):
            return None
        whole = pd.api.types.is_integer_dtype(ids.dtype)
        if rising and not scan.longer_ties(time, LONG_TIE):
            if whole:
                rank = ids.to_numpy()
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


def _numbers(rows: slice | Array) -> Array:
    return np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows


def _add_numbers(rows: slice | Array, shift: int, out: Array) -> None:
    if isinstance(rows, slice):
        scan.add_numbers(rows.start, shift, out)
    else:
        scan.add_bits(rows, 0, shift, out)


def _flags(masks: Sequence[Array], rows: slice | Array) -> Array:
    flags = masks[0][rows].astype(np.int64)
    _add_flags(masks[1:], rows, 1, flags)
    return flags


def _add_flags(masks: Sequence[Array], rows: slice | Array, shift: int, out: Array) -> None:
    for k, mask in enumerate(masks):
        scan.add_bits(mask[rows], 0, shift + k, out)


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
