"""What a rule says of each payment: yes, no, or unknown where a value it needs is missing."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fraudlab.rulebook.language import (
    Column,
    Comparison,
    Member,
    Missing,
    Negative,
    Node,
    Not,
    Number,
    Text,
    check,
)
from fraudlab.schema import BY_NAME

LABELS = ("is_fraud", "label_time", "fraud_scenario")
"""What is known only after the payment; no rule may read it."""
_SIGNS = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class _Answer:
    """Where a condition is surely true and where it is surely false; elsewhere it is unknown."""

    yes: np.ndarray
    no: np.ndarray


@dataclass(frozen=True)
class _Texts:
    values: Any  # a Series, or one str
    missing: np.ndarray


def column_kinds(table: pd.DataFrame) -> dict[str, str]:
    """Return what each column of a table is to a rule: number, text, truth, id, time or label.

    Identifiers are the canonical ones that point at a person or a single payment; the merchant's is a text or a number
    like any other.

    >>> column_kinds(pd.DataFrame({"customer_id": ["a"], "amount": [1.0], "channel": ["pos"], "is_fraud": [True]}))
    {'customer_id': 'id', 'amount': 'number', 'channel': 'text', 'is_fraud': 'label'}
    """
    return {str(name): _column_kind(str(name), dtype) for name, dtype in table.dtypes.items()}


def _column_kind(name: str, dtype: Any) -> str:
    if name in LABELS:
        return "label"
    if name in BY_NAME and BY_NAME[name].kind == "id" and name != "merchant_id":
        return "id"
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return "time"
    if pd.api.types.is_bool_dtype(dtype):
        return "truth"
    return "number" if pd.api.types.is_numeric_dtype(dtype) else "text"


def evaluate(tree: Node, table: pd.DataFrame, where: str = "rule") -> pd.Series:
    """Say of every row whether a condition holds.

    Parameters
    ----------
    tree : from `parse`.
    table : the payments, with every column the rule reads; no row's value appears in a message.
    where : what the rule is called in messages.

    Returns
    -------
    Nullable booleans in the table's index: NA where a missing value leaves it open.

    Raises
    ------
    InputError : as `check`.

    Notes
    -----
    As in SQL (three-valued logic, Kleene 1938): a comparison with a missing value is unknown, and so is a sum with one
    and a division by zero or without a finite result. `not` of unknown is unknown; `and` is false as soon as one part
    is, `or` true as soon as one is, whatever the others are. `is missing` is never unknown. A rule fires only where its
    condition is surely true.

    >>> table = pd.DataFrame({"amount": [700.0, 700.0, 9.0], "country": ["FR", None, None]})
    >>> from fraudlab.rulebook.language import parse
    >>> evaluate(parse('amount > 500 and country != "AT"'), table).tolist()
    [True, <NA>, False]
    """
    check(tree, column_kinds(table), where)
    with np.errstate(all="ignore"):  # what has no finite result is missing
        answer = _answer(tree, table)
    unknown = ~(answer.yes | answer.no)
    return pd.Series(pd.arrays.BooleanArray(answer.yes.copy(), unknown), index=table.index)


def holds(tree: Node, row: Mapping[str, Any]) -> bool | None:
    """Say of one payment whether a condition holds, as `evaluate` does of many; None where that is open.

    Parameters
    ----------
    tree : from `parse`, checked against the columns' kinds.
    row : the columns it reads; None, NA or NaN where a value is missing.

    >>> from fraudlab.rulebook.language import parse
    >>> tree = parse('amount > 500 and country != "AT"')
    >>> [holds(tree, {"amount": amount, "country": country}) for amount, country in ((700.0, None), (9.0, None))]
    [None, False]
    """
    match tree:
        case Column():
            value = _of_row(tree, row)
            return None if value is None else bool(value)
        case Comparison():
            return _held_against(tree.sign, _of_row(tree.left, row), _of_row(tree.right, row))
        case Member():
            value = _of_row(tree.of, row)
            if value is None:
                return None
            found = any(_held_against("=", value, _of_row(each, row)) for each in tree.values)
            return found is not tree.negated
        case Missing():
            gone = _absent(row[tree.of.name]) if isinstance(tree.of, Column) else _of_row(tree.of, row) is None
            return gone is not tree.negated
        case Not():
            inner = holds(tree.of, row)
            return None if inner is None else not inner
    decisive = tree.word == "or"  # one true part makes an "or" true, one false part an "and" false
    parts = [holds(part, row) for part in tree.parts]
    return decisive if decisive in parts else None if None in parts else not decisive


def _of_row(tree: Node, row: Mapping[str, Any]) -> Any:
    """Return a value of one payment: a number, a text, a truth, or None where missing or without a finite result."""
    match tree:
        case Number():
            return tree.plain
        case Text():
            return tree.value
        case Column():
            value = row[tree.name]
            if _absent(value):
                return None
            if isinstance(value, str | bool | np.bool_):
                return value
            return float(value) if math.isfinite(value) else None
        case Negative():
            value = _of_row(tree.of, row)
            return None if value is None else -value
    left, right = _of_row(tree.left, row), _of_row(tree.right, row)
    if left is None or right is None or (tree.sign == "/" and right == 0):
        return None
    found = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}[tree.sign](
        float(left), float(right)
    )
    return found if math.isfinite(found) else None


def _absent(value: Any) -> bool:
    return value is None or value is pd.NA or value != value


def _held_against(sign: str, left: Any, right: Any) -> bool | None:
    if left is None or right is None:
        return None
    if isinstance(left, str) or isinstance(right, str):
        return (left == right) is (sign == "=")
    return bool(_SIGNS[sign](left, right))


def _answer(tree: Node, table: pd.DataFrame) -> _Answer:
    match tree:
        case Column():
            values = table[tree.name]
            known = values.notna().to_numpy()
            yes = values.fillna(False).to_numpy(dtype=bool) & known
            return _Answer(yes, ~yes & known)
        case Comparison():
            return _compared(tree.sign, _value(tree.left, table), _value(tree.right, table), len(table))
        case Member():
            of = _value(tree.of, table)
            same = [_compared("=", of, _value(value, table), len(table)).yes for value in tree.values]
            yes = np.logical_or.reduce(same)
            found = _Answer(yes, ~yes & ~_missing(of, len(table)))
            return _Answer(found.no, found.yes) if tree.negated else found
        case Missing():
            if isinstance(tree.of, Column):
                gone = table[tree.of.name].isna().to_numpy()
            else:
                gone = _missing(_value(tree.of, table), len(table))
            return _Answer(~gone, gone) if tree.negated else _Answer(gone, ~gone)
        case Not():
            inner = _answer(tree.of, table)
            return _Answer(inner.no, inner.yes)
    parts = [_answer(part, table) for part in tree.parts]
    every, some = np.logical_and.reduce, np.logical_or.reduce
    if tree.word == "and":
        return _Answer(every([part.yes for part in parts]), some([part.no for part in parts]))
    return _Answer(some([part.yes for part in parts]), every([part.no for part in parts]))


def _value(tree: Node, table: pd.DataFrame) -> Any:
    """Return numbers as floats, NaN where missing (one number stays one), or texts with where they are missing."""
    match tree:
        case Number():
            return np.float64(tree.plain)
        case Text():
            return _Texts(tree.value, np.zeros(len(table), bool))
        case Column():
            values = table[tree.name]
            if pd.api.types.is_numeric_dtype(values.dtype):
                return _finite(values.to_numpy(dtype=float, na_value=np.nan))
            return _Texts(values.astype("object"), values.isna().to_numpy())
        case Negative():
            return -_value(tree.of, table)
    left, right = _value(tree.left, table), _value(tree.right, table)
    match tree.sign:
        case "+":
            return _finite(left + right)
        case "-":
            return _finite(left - right)
        case "*":
            return _finite(left * right)
    return _finite(np.divide(left, right))


def _finite(values: Any) -> Any:
    return np.where(np.isfinite(values), values, np.nan)


def _missing(value: Any, rows: int) -> np.ndarray:
    return value.missing if isinstance(value, _Texts) else np.broadcast_to(np.isnan(value), rows)


def _compared(sign: str, left: Any, right: Any, rows: int) -> _Answer:
    known = ~(_missing(left, rows) | _missing(right, rows))
    if isinstance(left, _Texts):
        same = np.broadcast_to(np.asarray(_same(left.values, right.values), dtype=bool), rows)
        yes = same if sign == "=" else ~same
    else:
        ask = {
            "=": np.equal,
            "!=": np.not_equal,
            "<": np.less,
            "<=": np.less_equal,
            ">": np.greater,
            ">=": np.greater_equal,
        }
        yes = np.broadcast_to(ask[sign](left, right), rows)
    return _Answer(yes & known, ~yes & known)


def _same(left: Any, right: Any) -> Any:
    if isinstance(left, str) and isinstance(right, str):
        return left == right
    one, other = (right, left) if isinstance(left, str) else (left, right)
    return (one == other).fillna(False).to_numpy(dtype=bool)
