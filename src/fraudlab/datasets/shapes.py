"""How an unknown column tells what it tells: times in many forms, labels of two values, numbers, likely identifiers."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pandas as pd
import pyarrow.compute as pc

from fraudlab.datasets.contracts import ContractColumn, plain_name
from fraudlab.datasets.readers import read_column
from fraudlab.privacy.masking import count_identifiers
from fraudlab.privacy.treatments import arrow_text
from fraudlab.schema import InputError

SAMPLE = 5_000
"""Of so many different values the patterns of identifiers are sought."""

COUNTED_FROM = dt.date(2020, 1, 1)
"""The invented day from which times are counted that only say how long after the start they lie."""

YES = ("1", "1.0", "true", "yes", "y", "t", "fraud", "fraudulent")
NO = ("0", "0.0", "false", "no", "n", "f", "legit", "legitimate", "genuine", "normal", "non-fraud", "not fraud")

_DAYS = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y %m %d", "%d %b %Y", "%d%b%Y")
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p", ":%H:%M:%S")
WRITTEN = (*(day + clock for day in _DAYS for clock in _CLOCKS), "%Y%m%d", "%Y%m%d%H%M%S", "%Y%m%d %H:%M:%S")
"""How times are written, beside ISO 8601."""

_EITHER_WAY = (("%d/%m/%Y", "%m/%d/%Y"), ("%d-%m-%Y", "%m-%d-%Y"))
_EPOCHS = (("s", 1), ("ms", 1e3), ("us", 1e6), ("ns", 1e9))
_EPOCH_SECONDS = (631_152_000, 4_102_444_800)  # 1990 to 2100
_NAMED_UNITS = {"month": "30d", "week": "w", "day": "d", "hour": "h", "step": "h", "minute": "min", "second": "s"}
_ADDRESS = r"^\s*(?:\d{1,3}\.){3}\d{1,3}\s*$|^[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){3,7}$"


def read_time(values: pd.Series, name: str, unit: str = "") -> tuple[pd.Series, dict[str, Any]]:
    """Find out how a column tells times.

    Tried in this order: times as such or in ISO 8601, other written forms, numbers counted from 1970 (s, ms, us, ns),
    and numbers that count from an unknown start.

    Parameters
    ----------
    values : the raw column.
    name : what it is called; "month" or "step" in it say what its numbers count.
    unit : what they count (s, ms, h, d, 30d ...) where that is known; "" guesses.

    Returns
    -------
    UTC moments, missing where the value is; and the keys a contract needs to read them again, with `said`, how they
    were read, and for a start that had to be invented `note`.

    Raises
    ------
    InputError : no time in any of these ways, or one that can be read with the day or the month first.

    >>> read_time(pd.Series(["31/12/2025 23:59"]), "at")[1]["format"]
    '%d/%m/%Y %H:%M'
    >>> read_time(pd.Series([0.0, 90_000.0]), "Time")[1]["unit"]
    's'
    """
    if unit:
        return _counted(values, name, unit, f"counted in units of {unit}, as --time-unit says")
    tried = try_time(values)
    if tried is not None:
        said = "written in ISO 8601" if pd.api.types.is_string_dtype(values.dtype) else "a time"
        return tried, {"said": said}
    numbers = numbers_of(values)
    if numbers is None or _is_day_number(numbers):
        texts = values.astype("str")
        fitting = [form for form in WRITTEN if try_time(texts, format=form) is not None]
        days = {form[:8] for form in fitting}
        if any(days >= {*ways} for ways in _EITHER_WAY):
            raise InputError(
                f"--time: column '{name}' can be read with the day or the month first; write it as 2026-01-31T12:00"
            )
        if fitting:
            return try_time(texts, format=fitting[0]), {"format": fitting[0], "said": f"written as {fitting[0]}"}
    if numbers is None:
        raise InputError(
            f"--time: column '{name}' must tell times; found {values.notna().sum():,} values, not all of them written "
            "times (2026-01-31T12:00:00Z, 31/01/2026 12:00 ...) or numbers; name another column or correct the source"
        )
    known = numbers.dropna()
    for unit, per_second in _EPOCHS:
        if _between(known, *(moment * per_second for moment in _EPOCH_SECONDS)):
            return _counted(values, name, unit, f"counted in {unit} since 1970", since=None)
    named = next((unit for word, unit in _NAMED_UNITS.items() if word in plain_name(name)), None)
    guess = named or _by_size(known)
    return _counted(values, name, guess, f"counted in units of {guess}: {'its name' if named else 'its size'} says so")


def _by_size(known: pd.Series) -> str:
    largest = known.max()
    if largest >= 20_000:
        return "s"
    return "30d" if known.nunique() <= 12 else "d" if largest <= 400 else "h"


def _between(known: pd.Series, low: float, high: float) -> bool:
    return bool(len(known) and known.min() >= low and known.max() < high)


def _counted(
    values: pd.Series, name: str, unit: str, said: str, since: dt.date | None = COUNTED_FROM
) -> tuple[pd.Series, dict[str, Any]]:
    keys: dict[str, Any] = {"unit": unit} | ({"since": since} if since else {})
    try:
        column = _column("time", **keys)
    except ValueError:
        raise InputError(
            f"--time-unit: must be a unit such as s, ms, min, h, d or 30d; found '{unit}'; name what the time counts"
        ) from None
    times, problem = read_column(values, column, None)
    if problem:
        raise InputError(f"--time: column '{name}' {problem}")
    if since:
        keys["note"] = f"no date is known; the start was set to {since}; correct `since` in the contract if you know it"
    return times, keys | {"said": said}


def try_time(values: pd.Series, **keys: Any) -> pd.Series | None:
    """Return values read as UTC moments in ISO 8601 or by the keys of a contract; None where any is no such time."""
    if not (pd.api.types.is_string_dtype(values.dtype) or pd.api.types.is_datetime64_any_dtype(values.dtype)):
        return None
    column = _column("time", **keys)
    # A form that does not fit the first rows is not tried on all.
    for part in (values.iloc[:200], values) if len(values) > 200 else (values,):
        times, problem = read_column(part, column, "UTC")
        if problem or not times.notna().any():
            return None
    return times.dt.tz_convert("UTC") if isinstance(times.dtype, pd.DatetimeTZDtype) else None


def tells_time(values: pd.Series, numbers: pd.Series | None, name: str) -> bool:
    """Say whether a column that nobody named as the time tells times all the same; `numbers` are its `numbers_of`."""
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        return True
    if numbers is None:
        few = values.dropna().iloc[:50].astype("str")
        digits = few.str.count(r"\d").between(5, 24).all()  # what lacks them is not tried in every form
        return bool(digits) and any(
            try_time(values, **keys) is not None for keys in ({}, *({"format": form} for form in WRITTEN))
        )
    named = any(word in plain_name(name) for word in ("time", "date", "stamp", "unix"))
    known = numbers.dropna()
    return named and any(
        _between(known, *(moment * per_second for moment in _EPOCH_SECONDS)) for _, per_second in _EPOCHS
    )


def _is_day_number(numbers: pd.Series) -> bool:
    """Say whether numbers look like 20260131 or 20260131235959."""
    known = numbers.dropna()
    days = _between(known, 19_000_101, 22_001_232) or _between(known, 19_000_101_000_000, 22_001_232_000_000)
    return days and bool((known % 1 == 0).all())


def _column(kind: str, **keys: Any) -> ContractColumn:
    rest = {"name": "own", "treatment": "keep", "purposes": ("look",), "meaning": "looked at"}
    return ContractColumn.model_validate({"source": "looked at", "type": kind} | rest | keys)


def numbers_of(values: pd.Series) -> pd.Series | None:
    """Return a column's values as float64; None where a present one is no number, or none is present."""
    if pd.api.types.is_bool_dtype(values.dtype) or pd.api.types.is_datetime64_any_dtype(values.dtype):
        return None
    column = _column("number")
    if pd.api.types.is_string_dtype(values.dtype) and read_column(values.iloc[:200], column, None)[1]:
        return None
    numbers, problem = read_column(values, column, None)
    return None if problem or numbers.isna().all() else numbers


def read_label(values: pd.Series, name: str) -> tuple[pd.Series, dict[str, Any]]:
    """Read a label of two values as nullable booleans; return them and the keys a contract needs to read it again.

    Raises
    ------
    InputError : other than two values, values that do not tell which of them is fraud, one class only.

    >>> labels, keys = read_label(pd.Series(["Yes", "No", None]), "Is Fraud?")
    >>> labels.tolist(), keys
    ([True, False, <NA>], {'yes': 'yes', 'no': 'no'})
    """
    plain = values.astype("str").str.strip().str.casefold()
    plain = plain.where(plain != "")
    different = set(plain.dropna())
    unknown = different - {*YES, *NO}
    if unknown or len(different) > 2:
        neither = f", of which {len(unknown):,} say neither" if unknown else ""
        raise InputError(
            f"--label: column '{name}' must hold two values, such as 0 and 1, true and false, yes and no; "
            f"found {len(different):,} different ones{neither}; map them at the source, or name another column"
        )
    labels = plain.isin(YES).astype("boolean").mask(plain.isna(), pd.NA)
    frauds, genuine = int(labels.sum()), int((~labels).sum())
    if not frauds or not genuine:
        found = "no fraud" if not frauds else "no genuine row"
        raise InputError(
            f"--label: column '{name}' must tell frauds from genuine rows; found {found} among {frauds + genuine:,} "
            f"labelled rows of {len(values):,}; check which column is the label"
        )
    if different <= {"0", "1", "0.0", "1.0", "true", "false"}:
        return labels, {}
    return labels, {"yes": next(iter(different & {*YES})), "no": next(iter(different & {*NO}))}


def identifier_kind(values: pd.Series, least: float = 0.5) -> str:
    """Return what more than a share of the values look like: "card", "iban", "email", "phone", "ip", or "".

    >>> identifier_kind(pd.Series(["ann@mail.example", "bob@mail.example", "none"]))
    'email'
    """
    if not (pd.api.types.is_string_dtype(values.dtype) or pd.api.types.is_integer_dtype(values.dtype)):
        return ""
    different = pd.Series(values.dropna().unique()[:SAMPLE])
    texts = arrow_text(different.astype("str"))
    if not len(texts):
        return ""
    counts: dict[str, int] = dict(count_identifiers(texts))
    counts["ip"] = pc.sum(pc.match_substring_regex(texts, _ADDRESS)).as_py() or 0
    if numbers_of(different) is not None:
        counts.pop("phone", None)  # a plain number is too easily taken for one
    kind = max(counts, key=lambda each: counts[each])
    return kind if counts[kind] > least * len(texts) else ""
