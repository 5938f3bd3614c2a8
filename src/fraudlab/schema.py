"""The words of the house: canonical columns, what is allowed in them, and how bad input is refused.

Every table that enters fraudlab is turned into one canonical pandas frame of transactions. This module says what its
columns are, casts a frame into that form and refuses what does not fit with one sentence per problem: the column, the
rule, how many rows break it, what to do. A message never holds a value of a row.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

Kind = Literal["id", "time", "number", "text", "boolean"]


class FraudlabError(Exception):
    """A failure with a sentence for people and an exit code for programs."""

    exit_code = 1


class InputError(FraudlabError, ValueError):
    """Something given to fraudlab (a table, a key, an argument) breaks a stated rule; nothing was written."""

    exit_code = 2


@dataclass(frozen=True)
class Column:
    """One canonical column: its name, what kind of values it holds, what it means."""

    name: str
    kind: Kind
    meaning: str
    required: bool = False


COLUMNS: tuple[Column, ...] = (
    Column("transaction_id", "id", "identifies the row; unique", required=True),
    Column("event_time", "time", "when the transaction happened, UTC", required=True),
    Column("customer_id", "id", "who paid", required=True),
    Column("amount", "number", "amount in major units of the currency, finite and >= 0", required=True),
    Column("card_id", "id", "the card or account used"),
    Column("merchant_id", "id", "who was paid: merchant or terminal"),
    Column("merchant_category", "text", "what the merchant sells"),
    Column("channel", "text", "how: pos, online, atm ..."),
    Column("country", "text", "country of the transaction, ISO 3166 alpha-2"),
    Column("currency", "text", "currency of the amount, ISO 4217"),
    Column("latitude", "number", "place of the transaction, degrees"),
    Column("longitude", "number", "place of the transaction, degrees"),
    Column("device_id", "id", "the device used"),
    Column("ip", "id", "the network address used"),
    Column("auth_method", "text", "how the customer was authenticated: none, password, totp ..."),
    Column("auth_result", "text", "how that ended: passed, failed, none"),
    Column("age_band", "text", "the customer's age in ten-year bands"),
    Column("postcode_area", "text", "first characters of the customer's postcode"),
    Column("fraud_scenario", "text", "what kind of fraud it was found to be, afterwards; never a feature"),
    Column("is_fraud", "boolean", "the label: true, false, or NA = not known yet"),
    Column("label_time", "time", "when the label became known, UTC; NA where the label is NA"),
)
BY_NAME: dict[str, Column] = {column.name: column for column in COLUMNS}
REQUIRED: tuple[str, ...] = tuple(column.name for column in COLUMNS if column.required)

TIME_DTYPE = "datetime64[us, UTC]"


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """Return a clause that names the nearest valid option, or lists the options when none is near.

    >>> did_you_mean("merchnt_id", ["merchant_id", "customer_id"])
    "did you mean 'merchant_id'?"
    >>> did_you_mean("x", ["b", "a"])
    'valid are: a, b'
    """
    known = sorted(str(option) for option in options)
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else f"valid are: {', '.join(known)}"


def refuse(problems: list[str]) -> None:
    """Raise one `InputError` that holds every problem, a line each; do nothing when there is none."""
    if problems:
        raise InputError("\n".join(problems))


def require_columns(frame: pd.DataFrame, names: Iterable[str], *, where: str) -> None:
    """Refuse a frame that lacks any of `names`, naming each missing column and the nearest present one."""
    present = [str(column) for column in frame.columns]
    refuse(
        [
            f"{where}: column '{name}' is missing; {did_you_mean(name, present)}"
            for name in names
            if name not in frame.columns
        ]
    )


def _cast_time(values: pd.Series) -> tuple[pd.Series | None, str]:
    dtype = values.dtype
    if isinstance(dtype, pd.DatetimeTZDtype):
        return values.dt.tz_convert("UTC").astype(TIME_DTYPE), ""
    if pd.api.types.is_datetime64_dtype(dtype):
        return None, (
            f"holds times without a time zone; found {values.notna().sum():,} naive rows; "
            'state the zone in the contract (timezone = "UTC")'
        )
    if not values.notna().any():
        return pd.Series(pd.NaT, index=values.index, dtype=TIME_DTYPE), ""
    return None, f"must hold times; found type {dtype}; give the column type 'time' in the contract"


def _cast_number(values: pd.Series) -> tuple[pd.Series | None, str]:
    if pd.api.types.is_bool_dtype(values.dtype) or not pd.api.types.is_numeric_dtype(values.dtype):
        return None, f"must hold numbers; found type {values.dtype}; correct the source or its contract"
    return values.astype("float64"), ""


def _cast_id(values: pd.Series) -> tuple[pd.Series | None, str]:
    if pd.api.types.is_integer_dtype(values.dtype):
        return values, ""
    if pd.api.types.is_float_dtype(values.dtype):
        return None, (
            "must hold text or whole numbers; found floating point, which damages long numbers; read the column as text"
        )
    return values.astype("str"), ""


def _cast_boolean(values: pd.Series) -> tuple[pd.Series | None, str]:
    if pd.api.types.is_bool_dtype(values.dtype):
        return values.astype("boolean"), ""
    numbers = pd.to_numeric(values, errors="coerce")
    wrong = int((values.notna() & ~numbers.isin([0, 1])).sum())
    if wrong:
        return None, f"must be 0, 1 or missing; found {wrong:,} other values; map them at the source"
    return numbers.astype("Float64").astype("boolean"), ""


def _cast_text(values: pd.Series) -> tuple[pd.Series | None, str]:
    return values.astype("str"), ""


_CASTS = {
    "id": _cast_id,
    "time": _cast_time,
    "number": _cast_number,
    "text": _cast_text,
    "boolean": _cast_boolean,
}


def conform(frame: pd.DataFrame, *, now: pd.Timestamp | None = None, where: str = "transactions") -> pd.DataFrame:
    """Cast a frame into the canonical form and refuse it, with every reason at once, when it does not fit.

    Parameters
    ----------
    frame : DataFrame with canonical column names (see `COLUMNS`); other columns are kept as they are.
    now : the moment of checking, UTC; event times after it are refused. None leaves the future unchecked.
    where : what the frame is called in messages.

    Returns
    -------
    A new frame in the total order (event_time, transaction_id) with a fresh index: ids as text or integers, times as
    microseconds in UTC, numbers as float64, labels as nullable booleans.

    Raises
    ------
    InputError : missing column, wrong type, no rows, missing or duplicate transaction_id, missing/naive/future
        event_time, negative, NaN or infinite amount, a label outside 0/1/NA, a label without its label_time.

    >>> conform(pd.DataFrame({"transaction_id": [1], "event_time": pd.to_datetime(["2026-01-01"], utc=True),
    ...                       "customer_id": ["a"], "amount": [-1.0]}))
    Traceback (most recent call last):
    fraudlab.schema.InputError: transactions: column 'amount' must be finite and >= 0; found 1 negative of 1 rows; \
correct or drop these rows at the source
    """
    require_columns(frame, REQUIRED, where=where)
    rows = len(frame)
    if rows == 0:
        raise InputError(f"{where}: the table has no rows; check the source and its filter")
    problems: list[str] = []
    cast: dict[str, pd.Series] = {}
    for name in frame.columns:
        column = BY_NAME.get(str(name))
        if column is None:
            cast[name] = frame[name]
            continue
        values, problem = _CASTS[column.kind](frame[name])
        if values is None:
            problems.append(f"{where}: column '{name}' {problem}")
        else:
            cast[name] = values
    problems += _broken_rules(cast, rows, now, where)
    refuse(problems)
    return sort_transactions(pd.DataFrame(cast))


def _broken_rules(cast: dict[str, pd.Series], rows: int, now: pd.Timestamp | None, where: str) -> list[str]:
    problems = []
    for name in REQUIRED:
        if name != "amount" and name in cast and (missing := int(cast[name].isna().sum())):
            problems.append(
                f"{where}: column '{name}' must not be empty; found {missing:,} empty of {rows:,} rows; "
                "correct or drop these rows at the source"
            )
    if "transaction_id" in cast and (repeated := int(cast["transaction_id"].duplicated().sum())):
        problems.append(
            f"{where}: column 'transaction_id' must be unique; found {repeated:,} duplicates of {rows:,} rows; "
            "remove the repeated rows at the source"
        )
    if "event_time" in cast and now is not None and (future := int((cast["event_time"] > now).sum())):
        problems.append(
            f"{where}: column 'event_time' must not lie in the future; found {future:,} of {rows:,} rows; "
            "check the source's clock and time zone"
        )
    if "amount" in cast:
        amount = cast["amount"].to_numpy()
        found = {
            "NaN": int(np.isnan(amount).sum()),
            "infinite": int(np.isinf(amount).sum()),
            "negative": int((np.isfinite(amount) & (amount < 0)).sum()),
        }
        if any(found.values()):
            said = ", ".join(f"{count:,} {what}" for what, count in found.items() if count)
            problems.append(
                f"{where}: column 'amount' must be finite and >= 0; found {said} of {rows:,} rows; "
                "correct or drop these rows at the source"
            )
    if "is_fraud" in cast and "label_time" in cast:
        undated = int((cast["is_fraud"].notna() & cast["label_time"].isna()).sum())
        if undated:
            problems.append(
                f"{where}: column 'label_time' must say when each label became known; found {undated:,} labels "
                "without it; add the time or state a fixed label delay in the contract"
            )
        if "event_time" in cast:
            early = int((cast["label_time"] < cast["event_time"]).sum())
            if early:
                problems.append(
                    f"{where}: column 'label_time' must not lie before event_time; found {early:,} of {rows:,} rows; "
                    "check the source's clock and time zone"
                )
    return problems


def sort_transactions(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows in the total order (event_time, transaction_id) with a fresh 0..n-1 index."""
    return frame.sort_values(["event_time", "transaction_id"], kind="stable", ignore_index=True)


def as_known_at(frame: pd.DataFrame, as_of: pd.Timestamp | None) -> pd.DataFrame:
    """Return what was known at `as_of`: rows before it, labels whose label_time is not after it (others become NA).

    Parameters
    ----------
    frame : canonical transactions.
    as_of : a moment with a time zone; None returns the frame unchanged.

    Raises
    ------
    InputError : `as_of` has no time zone.

    >>> t = pd.to_datetime(["2026-01-01", "2026-01-02", "2026-01-09"], utc=True)
    >>> frame = pd.DataFrame({"event_time": t, "is_fraud": pd.array([True, False, True], "boolean"),
    ...                       "label_time": t + pd.Timedelta(days=3)})
    >>> as_known_at(frame, pd.Timestamp("2026-01-04", tz="UTC"))["is_fraud"].tolist()
    [True, <NA>]
    """
    if as_of is None:
        return frame
    as_of = utc(as_of, "as_of")
    frame = frame.loc[frame["event_time"] < as_of].reset_index(drop=True)
    if "label_time" in frame.columns:
        unknown = ~(frame["label_time"] <= as_of)
        if "is_fraud" in frame.columns:
            frame["is_fraud"] = frame["is_fraud"].mask(unknown, pd.NA)
        frame["label_time"] = frame["label_time"].mask(unknown, pd.NaT)
    return frame


def utc(moment: object, argument: str) -> pd.Timestamp:
    """Return a moment as a UTC timestamp; refuse one without a time zone.

    >>> utc("2026-01-01T01:00+01:00", "as_of")
    Timestamp('2026-01-01 00:00:00+0000', tz='UTC')
    """
    try:
        stamp = pd.Timestamp(moment)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        raise InputError(f"{argument}: must be a date with a time zone, such as 2026-01-31T00:00Z") from None
    if stamp is pd.NaT or stamp.tzinfo is None:
        raise InputError(f"{argument}: must carry a time zone, such as 2026-01-31T00:00Z; found none")
    return stamp.tz_convert("UTC")
