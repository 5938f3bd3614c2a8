"""Rewriting the future: what is not known at a moment is changed, joined by invented rows, taken away.

Whatever sees only the past does not notice. `fraudlab.features.audit` judges by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from fraudlab.features.specs import AFTERWARDS
from fraudlab.schema import sort_transactions

_AHEAD = "Use only the rows before each payment in the order (event_time, transaction_id)"

# What is rewritten -> what it means when a value of the past moves, and what to do. The most telling comes first: it is
# the one that the table names.
REWRITINGS: dict[str, str] = {
    "labels not known yet changed": "It uses labels before they are known. Count a label from its label_time on, as "
    "risk(...) and frauds(...) do.",
    "columns known later changed": "It uses a column of known_later before the moment from which it is known. Take "
    "only values whose moment has passed.",
    "later amounts changed": "It uses amounts of later payments, as a scale or a rank over all rows or a look at the "
    f"next payment does. {_AHEAD}; judge a scale fitted on training rows by cuts after the training period.",
    "later ids, places or categories changed": "It uses who, where or what of later payments, as a frequency over all "
    f"rows or a look at the next payment does. {_AHEAD}.",
    "later rows of the same moment added": "It sees payments of the same moment that come later in the order. Sort by "
    "event_time and transaction_id, and let each row see only the rows before it.",
    "later rows added": f"It changes when more payments come later. {_AHEAD}.",
    "later rows removed": f"It changes when later payments stay away. {_AHEAD}.",
}
_LABELS, _LATE, _AMOUNTS, _CONTENTS, _SAME_MOMENT, _ADDED, _REMOVED = REWRITINGS


def with_twins(frame: pd.DataFrame, moments: list[pd.Timestamp], late: Mapping[str, str]) -> pd.DataFrame:
    """Plant at every cut a payment like the last one before it, with a later id and the opposite label, still open."""
    ordered = sort_transactions(frame)
    last = [ordered["event_time"].searchsorted(moment, side="right") - 1 for moment in moments]
    twins = ordered.iloc[last].reset_index(drop=True)
    if "is_fraud" in twins:
        twins["is_fraud"] = ~twins["is_fraud"].fillna(False)
    return _append(frame, twins, pd.Series(moments, dtype=frame["event_time"].dtype), late)


def rewritten(
    frame: pd.DataFrame, past: np.ndarray, moment: pd.Timestamp, late: Mapping[str, str], rng: np.random.Generator
) -> Iterator[tuple[str, pd.DataFrame, np.ndarray]]:
    """Give each rewriting of what is not known at `moment`: its name, the frame, where the rows of the past now are."""
    later = np.ones(len(frame), bool)
    later[past] = False
    labels = {"is_fraud": "label_time"} if "is_fraud" in frame else {}
    for value, known in (labels | dict(late)).items():
        unknown = later | ~(frame[known] <= moment).to_numpy() if known in frame else np.ones(len(frame), bool)
        rewriting = _LABELS if value in labels else _LATE
        turned = _turned(frame, value, known, unknown, moment, rng)
        yield rewriting, frame.assign(**turned), past
        yield rewriting, frame.assign(**{name: frame[name].mask(unknown) for name in turned}), past
    drawn = _drawn(later, rng)
    if "amount" in frame:
        amount = frame["amount"].take(drawn).array
        if pd.api.types.is_float_dtype(amount.dtype):
            amount = (amount * np.where(later, rng.uniform(0.1, 10, len(frame)), 1)).astype(amount.dtype)
        yield _AMOUNTS, frame.assign(amount=amount), past
    fixed = {"transaction_id", "event_time", "amount", *AFTERWARDS, *late, *late.values()}
    yield _CONTENTS, frame.assign(**{name: frame[name].take(drawn).array for name in frame if name not in fixed}), past
    latest = frame["event_time"].iloc[past].max()
    yield _SAME_MOMENT, _append(frame, frame[frame["event_time"] == latest], moment, late), past
    copies = frame.iloc[rng.choice(past, size=max(1, past.size // 4))].reset_index(drop=True)
    times = moment + pd.to_timedelta(pd.Series(rng.integers(1, 7 * 86_400, len(copies))), unit="s")
    yield _ADDED, _append(frame, copies.assign(event_time=times), moment, late), past
    yield _REMOVED, frame.iloc[past].reset_index(drop=True), np.arange(past.size)


def _drawn(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return positions that leave all rows in place but `rows`, which take the content of any row."""
    return np.where(rows, rng.integers(0, rows.size, rows.size), np.arange(rows.size))


def _turned(
    frame: pd.DataFrame, value: str, known: str, unknown: np.ndarray, moment: pd.Timestamp, rng: np.random.Generator
) -> dict[str, Any]:
    """Return columns in which the unknown values are others, known at another moment after the cut; labels turn."""
    drawn = _drawn(unknown, rng)
    turned: dict[str, Any] = {value: frame[value].take(drawn).array}
    if value == "is_fraud":
        guess = pd.Series(rng.random(len(frame)) < 0.5, dtype="boolean")
        turned[value] = frame[value].mask(unknown, ~frame[value].fillna(guess))
        if "fraud_scenario" in frame:
            turned["fraud_scenario"] = frame["fraud_scenario"].take(drawn).array
    if known in frame:
        begin = frame["event_time"].where(frame["event_time"] > moment, moment)
        then = begin + pd.to_timedelta(rng.integers(1, 30 * 86_400, len(frame)), unit="s")
        turned[known] = frame[known].mask(unknown, then.astype(frame[known].dtype))
    return turned


def _append(frame: pd.DataFrame, more: pd.DataFrame, moment: Any, late: Mapping[str, str]) -> pd.DataFrame:
    """Add invented rows under ids that come last; what is known later of them becomes known after `moment`.

    A frame in the total order stays in it; else the rows are added at the end.
    """
    ids, last = frame["transaction_id"], frame["transaction_id"].max()
    if pd.api.types.is_integer_dtype(ids.dtype):
        fresh: Any = int(last) + 1 + np.arange(len(more))
    else:
        fresh = [f"{last}~{number:06d}" for number in range(len(more))]
    changed: dict[str, Any] = {"transaction_id": pd.Series(fresh, index=more.index)}
    for known in ("label_time", *late.values()):
        if known in more:
            soon = more["event_time"].where(more["event_time"] > moment, moment) + pd.Timedelta(days=1)
            changed[known] = soon.where(more[known].notna())
    joined = pd.concat([frame, more.assign(**changed).astype(frame.dtypes)], ignore_index=True)
    time, in_order = frame["event_time"], frame["event_time"].is_monotonic_increasing
    if in_order:
        tied = np.flatnonzero((time.diff() == pd.Timedelta(0)).to_numpy())
        in_order = bool((ids.iloc[tied].array > ids.iloc[tied - 1].array).all())
    return sort_transactions(joined) if in_order else joined
