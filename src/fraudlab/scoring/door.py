"""The door of the scoring room: rows as the source gives them become what the model knows, or are refused.

A payment that is scored goes through the same contract and the same treatments as those the model has learnt from,
under the same keys; what is not declared is left outside. A refusal names columns and counts rows and never quotes one.
One payment alone is read by short cuts where its values are plain, and else like a table of one row, with one result.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from fraudlab.datasets.contracts import MOVEMENT, ROW_NUMBER, Contract, ContractColumn
from fraudlab.datasets.indicators import COLUMNS as INDICATORS
from fraudlab.datasets.indicators import Flags, base_of
from fraudlab.datasets.load import allowed_columns
from fraudlab.datasets.readers import joined, read_column, spoken
from fraudlab.datasets.treat import PSEUDONYM_KEY, checked, treat
from fraudlab.privacy import masking, treatments
from fraudlab.privacy.keys import Keys, KeyUnavailableError
from fraudlab.schema import REQUIRED, InputError, refuse, utc

LABELS = ("is_fraud", "label_time")
_PLAIN_NUMBER = re.compile(r"[+-]?\d{1,15}(\.\d{1,15})?")
_PLACE = "_place"


class _NotPlain(Exception):
    """A value that only the table's reader may judge."""


@dataclass
class Counts:
    """What came through a door: rows, values missing of columns that were not given at all, columns left outside."""

    rows: int = 0
    missing: Counter = field(default_factory=Counter)
    undeclared: Counter = field(default_factory=Counter)


class Door:
    """Turns raw rows of one data set into canonical, treated ones: the columns that a model needs, no others.

    Parameters
    ----------
    manifest : of the data set that the model learnt from; it holds the contract and the ids of the keys.
    keys : whose key `pseudonym` must be the one that the data set was made with.
    needed : canonical columns; those of a label are never asked for.
    purpose : what the rows are scored for; it must be allowed every column.
    ahead : how far an event time may lie after the clock; None does not ask, for a replay of invented payments.
    flags : what other institutions' indicators say; asked for the columns of `needed` that are made from them.

    Raises
    ------
    InputError : the purpose may not see a column; a column cannot be known for a payment that comes in alone.
    KeyUnavailableError : the key is another one.
    """

    def __init__(
        self,
        manifest: Mapping[str, Any],
        keys: Keys,
        needed: Iterable[str],
        *,
        purpose: str,
        ahead: dt.timedelta | None = dt.timedelta(minutes=10),
        flags: Flags | None = None,
    ) -> None:
        self.dataset = manifest["dataset"]
        self.where = f"data set {self.dataset}"
        self.contract = Contract.model_validate(manifest["contract"])
        self.ahead = ahead
        self.counts = Counts()
        needed = list(needed)
        flagged = [name for name in needed if name in INDICATORS]
        wanted = dict.fromkeys((*REQUIRED, *needed, *map(base_of, flagged)))
        wanted = [name for name in wanted if name not in LABELS and name not in INDICATORS]
        allowed = allowed_columns(dict(manifest), purpose)
        if lacking := [name for name in wanted if name not in allowed]:
            raise InputError(
                f"{self.where}: its contract must allow the purpose '{purpose}' every column that the model reads; "
                f"it does not allow {', '.join(lacking)}; add the purpose to these columns and ingest again"
            )
        by_name = {column.name: column for column in self.contract.columns if column.in_features}
        self.columns = [by_name[name] for name in wanted]
        for column in self.columns:
            if column.how in MOVEMENT or column.source == ROW_NUMBER:
                raise InputError(
                    f"{self.where}: '{column.name}' is made from a whole table (source '{column.source}'), so no "
                    "payment that comes in alone can have it; train without it, or give the source such a column"
                )
        if manifest["treatments_version"] != treatments.VERSION:
            raise InputError(f"{self.where}: was treated by another version of fraudlab; ingest it again")
        made_with = manifest["keys"][PSEUDONYM_KEY]
        if made_with not in keys.ids(PSEUDONYM_KEY)[:1]:
            raise KeyUnavailableError(
                f"{self.where}: its customers' codes were made with another key '{PSEUDONYM_KEY}' than the one here, "
                "so that no payment would find its history; restore that key from its backup"
            )
        self.key = partial(keys.hmac, PSEUDONYM_KEY)
        self.last_day = utc(manifest["last"], "last").tz_localize(None).normalize()
        held = manifest["parts"][0]["files"]["features"]["schema"]
        self.whole = {column.name: "int" in held[column.name] for column in self.columns if column.becomes == "id"}
        self.declared = set(self.contract.sources)
        self._readers = [(column, self._reader(column)) for column in self.columns]
        self.flags = flags or Flags(flagged)
        self._flagged = [(name, by_name[base_of(name)], self._plain(by_name[base_of(name)])) for name in flagged]

    # --- tables ---------------------------------------------------------------------------------------------------

    def table(self, raw: pd.DataFrame, *, now: pd.Timestamp | None = None) -> pd.DataFrame:
        """Return raw rows treated, in the total order; the index says which row of `raw` each one is (0, 1, ...).

        Parameters
        ----------
        raw : columns as the source names them. A column that the model could use and that is not there counts as
            missing in every row, unless it is the id, the time, the customer or the amount.
        now : the clock, for `ahead`.

        Raises
        ------
        InputError : a line per problem: a required column is missing, values are not of their type, ids repeat ...
        """
        if raw.empty:
            raise InputError(f"{self.where}: must hold at least one transaction; found none; send some")
        typed, problems = {}, []
        for column in self.columns:
            sources = (column.source, *(column.join or ()))
            if not any(name in raw for name in sources) and column.source in self.declared:
                if column.name in REQUIRED:
                    problems.append(f"{self.where}: {spoken(column)} is missing; every transaction needs it; add it")
                else:
                    self.counts.missing[column.name] += len(raw)
                    typed[column.name] = self._nothing(column, raw.index)
                continue
            typed[column.name], problem = read_column(self._source(raw, column), column, self.contract.timezone)
            if problem:
                problems.append(f"{self.where}: {spoken(column)} {problem}")
        refuse(problems)
        limit = None if self.ahead is None or now is None else now + self.ahead
        frame = pd.DataFrame(typed).reset_index(drop=True).assign(**{_PLACE: np.arange(len(raw))})
        frame = checked(frame, self.contract.model_copy(update={"label_delay_days": None}), limit, self.where)
        frame = frame.set_index(_PLACE).rename_axis(None)
        found = {}
        for column in self.columns:
            values = frame[column.name]
            if column.treatment == "mask":
                values = masking.mask(values)[0]
            treated = treat(values, column, self.key, self.last_day)
            if self.whole.get(column.name) is not None:
                treated = self._as_held(treated, column)
            found[column.name] = treated
        for name, column, _ in self._flagged:
            found[name] = self.flags.many(name, frame[column.name], frame["event_time"])
        self.counts.rows += len(raw)
        for name in raw.columns:
            if name not in self.declared:
                self.counts.undeclared[str(name)] += int(raw[name].notna().sum())
        return pd.DataFrame(found).sort_values(["event_time", "transaction_id"], kind="stable")

    def _source(self, raw: pd.DataFrame, column: ContractColumn) -> pd.Series:
        if column.source not in self.declared:  # made, such as (one)
            return pd.Series(np.ones(len(raw)), index=raw.index)
        names = [column.source, *(column.join or ())]
        parts = [_typed(raw[name]) if name in raw else pd.Series(None, raw.index, dtype="str") for name in names]
        return parts[0] if len(parts) == 1 else joined(parts)

    def _nothing(self, column: ContractColumn, index: pd.Index) -> pd.Series:
        kind = {"number": "float64", "boolean": "boolean"}.get(column.type, "str")
        return pd.Series(np.nan if kind == "float64" else None, index=index, dtype=kind)

    def _as_held(self, values: pd.Series, column: ContractColumn) -> pd.Series:
        """Give kept ids the type they have in the vault, which histories are matched by."""
        is_whole = pd.api.types.is_integer_dtype(values.dtype)
        if self.whole[column.name] == is_whole:
            return values
        if not self.whole[column.name]:
            return values.astype("str")
        numbers = pd.to_numeric(values, errors="coerce")
        if wrong := int((numbers.isna() | (numbers % 1 != 0)).sum()):
            raise InputError(
                f"{self.where}: {spoken(column)} must hold whole numbers, as in the history; found {wrong:,} others of "
                f"{len(values):,}; correct the source"
            )
        return numbers.astype("int64")

    # --- one payment ----------------------------------------------------------------------------------------------

    def one(self, raw: Mapping[str, Any], *, now: dt.datetime | None = None) -> dict[str, Any]:
        """Return one raw row treated: canonical name -> value, None where missing; as `table` does of many.

        Raises
        ------
        InputError : as `table`.
        """
        found: dict[str, Any] = {}
        try:
            for column, read in self._readers:
                value = raw.get(column.source)
                if value is None and column.source in self.declared:
                    if column.name in REQUIRED or (column.join and any(raw.get(name) for name in column.join)):
                        raise _NotPlain
                    if column.source not in raw:
                        self.counts.missing[column.name] += 1
                    found[column.name] = None
                    continue
                found[column.name] = read(value, raw)
            for name, column, plain in self._flagged:
                value = raw.get(column.source)
                found[name] = self.flags.one(name, None if value is None else plain(value), found["event_time"])
        except _NotPlain:
            return self._like_a_table(raw, now)
        amount, moment = found["amount"], found["event_time"]
        late = self.ahead is not None and now is not None and moment > now + self.ahead
        if late or not 0 <= amount < math.inf or found["customer_id"] is None or found["transaction_id"] is None:
            return self._like_a_table(raw, now)
        self.counts.rows += 1
        if len(raw) > len(self.declared) or not self.declared.issuperset(raw):
            for name in raw.keys() - self.declared:
                self.counts.undeclared[str(name)] += raw[name] is not None
        return found

    def _like_a_table(self, raw: Mapping[str, Any], now: dt.datetime | None) -> dict[str, Any]:
        before = Counter(self.counts.missing)
        try:
            frame = self.table(pd.DataFrame([dict(raw)], dtype=object), now=None if now is None else pd.Timestamp(now))
        except InputError:
            self.counts.missing = before
            raise
        row = frame.iloc[0]
        return {name: _bare(row[name]) for name in frame}

    def _reader(self, column: ContractColumn) -> Callable[[Any, Mapping[str, Any]], Any]:
        """Return what reads and treats one value, or says that it is not plain."""
        plain = self._plain(column)
        treated = self._treated(column)

        def read(value: Any, raw: Mapping[str, Any]) -> Any:
            value = plain(value)
            return None if value is None else treated(value)

        return read

    def _plain(self, column: ContractColumn) -> Callable[[Any], Any]:
        if column.join or column.unit or column.format or column.type in ("boolean", "date"):
            return _refer
        if column.source not in self.declared:
            return lambda value: 1.0
        if column.type == "number":
            return (lambda value: abs(_number(value))) if column.absolute else _number
        return {"time": _time, "id": _id, "text": _text}[column.type]

    def _treated(self, column: ContractColumn) -> Callable[[Any], Any]:
        if column.treatment == "pseudonymise":
            code = treatments.pseudonymiser(self.key, column.name, form=column.form)
            return lambda value: code(str(value))
        if column.treatment == "generalise" and column.how == "grid":
            step = column.step
            return lambda value: float(treatments.gridded(value, step))
        if column.treatment == "generalise" or column.treatment == "mask":
            return _refer
        if column.name in self.whole:
            whole = self.whole[column.name]
            return lambda value: _same_kind(value, whole)
        return lambda value: value


def _refer(value: Any) -> Any:
    raise _NotPlain


def _number(value: Any) -> float:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _NotPlain
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and _PLAIN_NUMBER.fullmatch(value):
        return float(value)
    raise _NotPlain


def _time(value: Any) -> dt.datetime:
    if not isinstance(value, str) or len(value) < 20:
        raise _NotPlain
    try:
        moment = dt.datetime.fromisoformat(value)
    except ValueError:
        raise _NotPlain from None
    if moment.tzinfo is None:
        raise _NotPlain
    return moment.astimezone(dt.UTC)


def _id(value: Any) -> str | int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return _text(value)


def _text(value: Any) -> str | None:
    if not isinstance(value, str):
        raise _NotPlain
    return value if value.strip() else None


def _same_kind(value: str | int, whole: bool) -> str | int:
    if whole is isinstance(value, int):
        return value
    if whole:
        raise _NotPlain
    return str(value)


def _typed(values: pd.Series) -> pd.Series:
    """Give values that came as JSON the type a file's reader would have given them."""
    if values.dtype != object:
        return values
    kinds = {type(value) for value in values if not (value is None or value is pd.NA or value != value)}
    if kinds <= {str}:
        return values.astype("str")
    if kinds == {bool}:
        return values.astype("boolean")
    if kinds == {int} and all(abs(value) < 2**63 for value in values.dropna()):
        return values.astype("Int64")
    if kinds <= {int, float}:
        return values.astype("float64")
    if kinds <= {pd.Timestamp, dt.datetime}:
        return pd.to_datetime(values, utc=True)
    return values.map(str, na_action="ignore").astype("str")


def _bare(value: Any) -> Any:
    """Return a value of a frame as a plain one; missing ones are None."""
    if value is None or value is pd.NA or value is pd.NaT or value != value:
        return None
    if isinstance(value, pd.Timestamp):
        return value.to_pydatetime()
    return value.item() if isinstance(value, np.generic) else value
