"""Propose a rule that tells a few payments from all others: the conditions that leave out most of the others.

A starting point for a person who saw a pattern, learnt from what the payments look like and from no label. What such a
rule is worth is measured afterwards, as that of any rule.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fraudlab.rulebook.evaluation import column_kinds, evaluate
from fraudlab.rulebook.language import parse, written
from fraudlab.schema import InputError

KEPT = 0.8
"""Of the payments, so many a proposal must still fire on."""

MOST_CONDITIONS, MOST_VALUES = 4, 3
ENOUGH = 0.05
"""A proposal is done when the others it fires on are so few beside the payments it is about."""

WORTH = 0.25
"""A further condition must leave out so much of the others that are left."""

_OUTER = 0.05
_DIGITS = 3


@dataclass(frozen=True)
class Proposal:
    """A condition in the rules' language, and what it fires on.

    Attributes
    ----------
    expression : the condition.
    fires : of the payments it is about.
    others : of all others it fires on, `out_of` there are.
    """

    expression: str
    fires: int
    others: int
    out_of: int


def propose(table: pd.DataFrame, about: Any, *, without: Collection[str] = ()) -> Proposal | None:
    """Propose a rule for some payments of a table, at most four conditions joined by "and".

    Parameters
    ----------
    table : payments as rules read them: columns of the transactions and of the features side by side.
    about : bool[n], the payments to fire on; the others should be left alone, whatever they are.
    without : columns that no condition may read, such as features of labels and those that fairness is watched by.

    Returns
    -------
    Proposal; None where no condition leaves out a quarter of the others.

    Raises
    ------
    InputError : lengths differ, no payment to fire on.

    Notes
    -----
    Conditions offered: of a text, the at most three commonest values; of a number, at least its 5 % or at most its 95 %
    quantile over the payments, rounded outwards to three digits. The one that leaves out most others is taken, as long
    as the rule fires on 80 % of the payments (as PRIM peels: Friedman and Fisher 1999, doi:10.1023/A:1008894516817).
    Columns that point at people cannot be read by rules.

    >>> table = pd.DataFrame({"amount": [10.0, 20.0, 499.0, 499.0, 700.0], "channel": ["pos"] * 2 + ["online"] * 3})
    >>> propose(table, [False, False, True, True, False])
    Proposal(expression='amount >= 499 and amount <= 499', fires=2, others=0, out_of=3)
    """
    mine = np.asarray(about, dtype=bool)
    if mine.shape != (len(table),) or not mine.any():
        raise InputError(
            f"proposal: 'about' must say of each of {len(table):,} payments whether the rule fires, and of one that it "
            f"does; found {int(mine.sum()):,} of {mine.size:,}; name the payments"
        )
    fires = _offered(table, mine, without)
    chosen: list[str] = []
    left = np.ones(len(table), dtype=bool)
    while len(chosen) < MOST_CONDITIONS and (left & ~mine).sum() > ENOUGH * mine.sum():
        others = {
            text: int((left & hit & ~mine).sum())
            for text, hit in fires.items()
            if (left & hit & mine).sum() >= KEPT * mine.sum()
        }
        best = min(others, key=others.__getitem__, default=None)
        if best is None or others[best] > (1 - WORTH) * (left & ~mine).sum():
            break
        chosen.append(best)
        left &= fires[best]
    if not chosen:
        return None
    return Proposal(" and ".join(chosen), int((left & mine).sum()), int((left & ~mine).sum()), int((~mine).sum()))


def _offered(table: pd.DataFrame, mine: np.ndarray, without: Collection[str]) -> Mapping[str, np.ndarray]:
    """Return the conditions that fire on enough of the payments, in the columns' order, with what they fire on."""
    offered = {}
    for name, kind in column_kinds(table).items():
        if name in without or "`" in name or kind not in ("number", "text"):
            continue
        own = table.loc[mine, name].dropna()
        if len(own) < KEPT * mine.sum():
            continue
        for text in _of_numbers(name, own) if kind == "number" else _of_texts(name, own):
            tree = parse(text)
            hit = evaluate(tree, table).fillna(False).to_numpy(dtype=bool)
            if (hit & mine).sum() >= KEPT * mine.sum():
                offered[written(tree)] = hit
    return offered


def _of_numbers(name: str, own: pd.Series) -> list[str]:
    low, high = np.quantile(own.to_numpy(dtype=float), [_OUTER, 1 - _OUTER])
    ends = ((">=", _outwards(low, np.floor)), ("<=", _outwards(high, np.ceil)))
    return [f"`{name}` {sign} {np.format_float_positional(end, trim='-')}" for sign, end in ends if np.isfinite(end)]


def _outwards(value: float, whole: Any) -> float:
    """Return a number with three digits, rounded by `np.floor` or `np.ceil`.

    >>> _outwards(499.0, np.floor), _outwards(0.12345, np.ceil), _outwards(-12345.0, np.floor), _outwards(0.0, np.ceil)
    (499.0, 0.124, -12400.0, 0.0)
    """
    if value == 0:
        return 0.0
    places = _DIGITS - 1 - int(np.floor(np.log10(abs(value))))
    # What is one of these numbers but for its last bits stays: 32-bit features hold 0.9 as 0.8999999762.
    near = round(value, places)
    if np.isclose(near, value, rtol=1e-6, atol=0):
        step = 0.0 if near == value else 10.0**-places
        return round(near + (step if whole is np.ceil else -step), places)
    return round(float(whole(value * 10.0**places)) / 10.0**places, places)


def _of_texts(name: str, own: pd.Series) -> list[str]:
    common = own.astype("str").value_counts()
    values = [value for value in common.index[:MOST_VALUES] if '"' not in value and "\n" not in value]
    listed = [", ".join(f'"{value}"' for value in values[: count + 1]) for count in range(len(values))]
    return [f"`{name}` = {listed[0]}", *(f"`{name}` in [{several}]" for several in listed[1:])] if listed else []
