"""Turn columns of categories into numbers that a model can use, learnt from its training rows alone.

The default way to use a category is a feature: `risk(by="merchant_category", window="28d", delay="14d")` is an ordered
target encoding that knows each label from its label_time on, and leaks nothing (docs/imbalance.md). An `Encoder` is for
columns outside the feature engine. It is fitted on training rows, belongs to the fitted model and is kept with it, so
that a live scorer passes the category as it is. A value that training did not know, or knew from few rows, is "other";
a missing value stays missing, which trees and the logistic regression have a place for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from fraudlab.schema import InputError, did_you_mean, require_columns

Method = Literal["native", "target", "frequency"]

FEW = 10
"""A category of fewer training rows is "other": too few to learn from, and a name that might point at a person."""

SMOOTHING = 20.0
"""As how many rows the overall rate weighs in a category's own."""

BLOCKS = 5
"""Stretches of time: the training rows of each are encoded by what the others say."""


@dataclass(frozen=True)
class Coding:
    """What one column's categories become: `values[i]` for `known[i]`, `other` for any other one.

    `missing` is what a missing value becomes: None leaves it missing; `other` where training had no missing value, from
    which its place could have been learnt.
    """

    column: str
    known: tuple[str, ...]
    values: tuple[float, ...]
    other: float
    missing: float | None = None


@dataclass(frozen=True)
class Encoder:
    """How a model's category columns become numbers; made by `fit_encoder`."""

    method: Method
    codings: tuple[Coding, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The encoded columns."""
        return tuple(coding.column for coding in self.codings)

    @property
    def native(self) -> tuple[str, ...]:
        """The columns whose numbers are mere codes 0, 1, ..., which the trees must treat as categories."""
        return self.columns if self.method == "native" else ()

    def encode(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return `X` with a number (float64) in place of each category; a missing one is NaN.

        Raises
        ------
        InputError : a column is missing or does not hold categories. A value never seen is no error.

        >>> encoder = Encoder("target", (Coding("channel", ("online", "pos"), (0.03, 0.01), 0.02),))
        >>> encoder.encode(pd.DataFrame({"channel": ["pos", "fax", None]}))["channel"].tolist()
        [0.01, 0.02, nan]
        """
        require_columns(X, self.columns, where="categories")
        return X.assign(**{coding.column: _applied(coding, X[coding.column]) for coding in self.codings})

    def to_dict(self) -> dict[str, Any]:
        """Return the encoder as plain values, ready for JSON."""
        return {"method": self.method, "codings": [asdict(coding) for coding in self.codings]}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Encoder:
        """Return the encoder that `to_dict` wrote.

        >>> encoder = Encoder("native", (Coding("channel", ("pos",), (0.0,), 1.0),))
        >>> Encoder.from_dict(encoder.to_dict()) == encoder
        True
        """
        codings = [
            Coding(each["column"], tuple(each["known"]), tuple(each["values"]), each["other"], each["missing"])
            for each in plain["codings"]
        ]
        return cls(plain["method"], tuple(codings))


def fit_encoder(
    X: pd.DataFrame,
    y: Any,
    columns: Sequence[str],
    method: Method,
    *,
    few: int = FEW,
    smoothing: float = SMOOTHING,
    blocks: int = BLOCKS,
) -> tuple[Encoder, pd.DataFrame]:
    """Learn how categories become numbers, from training rows.

    Parameters
    ----------
    X : training rows in time order, holding `columns`.
    y : bool[rows], their known labels; used by "target" only.
    columns : text, whole numbers (such as a merchant category code), booleans or pandas categories.
    method : "native": codes 0, 1, ... in the order of the names, for trees that split on sets of categories; the last
        code is "other"; where training has none, other ones count as the most frequent. "target": the smoothed share of
        frauds. "frequency": the share of rows, 0 for other ones.
    few : categories of fewer rows are pooled as "other", at least 1.
    smoothing : >= 0, see the notes.
    blocks : stretches of time of the out-of-block encoding, at least 2.

    Returns
    -------
    (encoder, X with numbers). The encoder serves every later row. The training rows get the same numbers, except with
    "target": there, a row's number comes from the other stretches of time, as a number that holds the row's own label
    would tell the model the answer. Stretches, not random rows, because frauds come in bursts: rows of a burst must not
    tell each other.

    Raises
    ------
    InputError : a column is missing, holds values of several types or fractions, no row has a category, unknown method,
        a number out of range.

    Notes
    -----
    Target: (frauds + m r) / (rows + m), with m = `smoothing` and r the share of frauds among all rows; "other" pools
    the small categories, and is r where there is none. Everything counts rows: sample weights have no say.

    References
    ----------
    Micci-Barreca (2001), doi:10.1145/507533.507538, with out-of-fold training rows as in Prokhorenkova et al. (2018),
    arXiv:1706.09516.

    >>> X = pd.DataFrame({"channel": ["pos", "online"] * 20})
    >>> encoder, coded = fit_encoder(X, [False, True, False, False] * 10, ["channel"], "target", smoothing=0)
    >>> encoder.codings[0].known, encoder.codings[0].values
    (('online', 'pos'), (0.5, 0.0))
    """
    if method not in get_args(Method):
        raise InputError(f"encoding: unknown method '{method}'; {did_you_mean(method, get_args(Method))}")
    for name, value, least in (("few", few, 1), ("smoothing", smoothing, 0), ("blocks", blocks, 2)):
        if not value >= least:
            raise InputError(f"{name}: must be at least {least}; found {value}; correct it")
    require_columns(X, columns, where="categories")
    fraud = np.asarray(pd.array(y, dtype="boolean").to_numpy(dtype=float, na_value=np.nan))
    if len(fraud) != len(X) or np.isnan(fraud).any():
        raise InputError(
            f"categories: need a known label for each training row; found {len(fraud):,} labels, "
            f"{int(np.isnan(fraud).sum()):,} of them unknown, for {len(X):,} rows; pass the training part"
        )
    block = np.arange(len(X)) * blocks // max(len(X), 1)
    codings, coded = [], {}
    for column in columns:
        code, names = _coded(X[column])
        counts = np.bincount(code[code >= 0], minlength=len(names))
        if not counts.sum():
            raise InputError(
                f"categories: column '{column}' must have values in the training rows; found none in {len(X):,}; "
                "take it out of features.categories"
            )
        keep = np.flatnonzero(counts >= few)
        # Kept categories are numbered by name, the others share the last number.
        place = np.full(len(names) + 1, len(keep))
        place[keep] = np.arange(len(keep))
        code = np.where(code < 0, -1, place[code])
        values = _values(method, code, len(keep), fraud, smoothing)
        other = float(values[-1])
        missing = None if (code < 0).any() else other
        codings.append(Coding(column, tuple(names[keep]), tuple(values[:-1].tolist()), other, missing))
        number = np.append(values, np.nan)[code]
        if method == "target":
            for each in range(blocks):
                own = block == each
                told = _values(method, code[~own], len(keep), fraud[~own], smoothing)
                number[own] = np.append(told, np.nan)[code[own]]
        coded[column] = number
    return Encoder(method, tuple(codings)), X.assign(**coded)


def _values(method: Method, code: np.ndarray, known: int, fraud: np.ndarray, smoothing: float) -> np.ndarray:
    """Return the number of each of `known` categories and, last, of the others."""
    here = code >= 0
    rows = np.bincount(code[here], minlength=known + 1)
    if method == "native":
        # A code that training never saw would fall on an arbitrary side of each split, perhaps that of the worst one.
        return np.append(np.arange(known), known if rows[-1] else np.argmax(rows)).astype("float64")
    if method == "frequency":
        return np.append(rows[:-1] / max(len(code), 1), 0.0)
    rate = fraud.mean() if len(fraud) else 0.0
    frauds = np.bincount(code[here], weights=fraud[here], minlength=known + 1)
    weight = rows + smoothing
    return np.divide(frauds + smoothing * rate, weight, out=np.full(known + 1, rate), where=weight > 0)


def _applied(coding: Coding, column: pd.Series) -> np.ndarray:
    code, names = _coded(column)
    value = dict(zip(coding.known, coding.values))
    numbers = np.array([value.get(name, coding.other) for name in names] + [coding.missing], dtype="float64")
    return numbers[code]


def _coded(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return each row's code, -1 where missing, and the names of the codes in ascending order."""
    code, found = pd.factorize(column, sort=False)
    names = np.array([_name(value) for value in found], dtype=object)
    if wrong := sorted({type(value).__name__ for value, name in zip(found, names) if name is None}):
        raise InputError(
            f"categories: column '{column.name}' must hold text, whole numbers or booleans; found {', '.join(wrong)} "
            f"in type {column.dtype}; turn it into text with astype('str'), or use it as a number"
        )
    if len({isinstance(value, str) for value in found}) > 1:
        raise InputError(
            f"categories: column '{column.name}' must hold values of one type; found text and numbers in type "
            f"{column.dtype}; turn it into text with astype('str')"
        )
    order = np.argsort(names, kind="stable")
    place = np.empty(len(names) + 1, dtype=np.int64)
    place[order] = np.arange(len(names))
    place[-1] = -1
    return place[code], names[order]


def _name(value: Any) -> str | None:
    """Return a category's name; a whole number is written alike however it is stored; None for what is no category."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, int | np.integer) or (isinstance(value, float | np.floating) and float(value).is_integer()):
        return str(int(value))
    return None
