"""Evidence that features see only the past, and will last: `audit_leakage`, `time_consistency`, `stability`.

`audit_leakage` does to the user's own data what the tests do to invented data: it rewrites the future and demands that
no value of the past moves by one bit. The other two live in `fraudlab.features.lasting`. `docs/audit.md` teaches how to
read the three tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from fraudlab.features.featureset import FeatureSet
from fraudlab.features.lasting import stability, time_consistency
from fraudlab.features.rewriting import REWRITINGS, rewritten, with_twins
from fraudlab.features.specs import AFTERWARDS
from fraudlab.schema import BY_NAME, COLUMNS, InputError, require_columns, utc

__all__ = ["REWRITINGS", "audit_leakage", "stability", "time_consistency"]

TELLING = 0.99
"""A raw column that alone ranks frauds this well (AUC ROC) looks like one written after the fact."""

FEWEST = 20
"""Frauds, and genuine payments, below which no column is called telling."""

MOST_CODES = 50
"""A numeric column with more different values is a quantity, not a code."""

MOST_CUTS = 50

_AT_FACE_VALUE = [
    column.name for column in COLUMNS if column.kind in ("number", "text") and column.name not in AFTERWARDS
]
"""Canonical columns that a source may have overwritten afterwards; ids and times would be of no use to it."""

_NAN_BITS = np.array([np.nan]).view(np.int64)[0]

Custom = Mapping[str, Callable[[pd.DataFrame], Any]]


@dataclass
class _Judged:
    """One column: the function it comes from ("" for the set), its values, which moved, what first moved one."""

    source: str
    values: np.ndarray
    moved: np.ndarray
    rewriting: str = ""

    def compare(self, after: np.ndarray | None, past: np.ndarray, rewriting: str) -> None:
        """Note which values of the past differ; a column that is gone has moved altogether."""
        differs = np.ones(past.size, bool) if after is None else (self.values[past] != after).astype(bool)
        self.moved[past] |= differs
        order = list(REWRITINGS)
        if differs.any() and (not self.rewriting or order.index(rewriting) < order.index(self.rewriting)):
            self.rewriting = rewriting


def audit_leakage(
    feature_set: FeatureSet | None,
    transactions: pd.DataFrame,
    *,
    custom: Custom | None = None,
    cuts: int | Sequence[Any] = 5,
    rows: int = 20_000,
    known_later: Mapping[str, str] | None = None,
    known_at_event: Sequence[str] = (),
    by: str = "customer_id",
    seed: int = 0,
) -> pd.DataFrame:
    """Rewrite what comes after some moments and list, for every column, whether a value of the past moved.

    At each cut moment t the later rows are changed, joined by invented ones and removed, and every label that is not
    known at t is turned or withheld, those of earlier rows too. A column that sees only the past keeps each value at or
    before t to the last bit. Judge the functions that train the model on the data that train it. A clean column can
    still be useless; that is what `time_consistency` looks at.

    Parameters
    ----------
    feature_set : the set to judge; None judges `custom` alone.
    transactions : canonical columns, event_time with a zone, any row order. A label without label_time counts as not
        known yet.
    custom : name -> function of the transactions that returns a value per row (an array or Series; a DataFrame for
        several columns, named name__column), for columns computed by code of one's own. It is called some 50 times.
    cuts : how many moments, spread over the period; or the moments themselves, in any order.
    rows : at most so many rows are used, see the notes.
    known_later : column -> the column with the moment from which its value is known; for what is filled in afterwards.
    known_at_event : other columns that are known when the payment happens. Canonical columns are, all but is_fraud,
        label_time and fraud_scenario.
    by : whose whole histories a sample keeps.
    seed : of the sample and of what is written anew.

    Returns
    -------
    DataFrame, a row per judged column: column, verdict ("clean", "leaks" or "not judged"), cuts (moments tried), rows
    (values compared), moved (how many of them moved under any rewriting), rewriting (the first of `REWRITINGS` that
    moved one; "" if none did), meaning (what the verdict means and what to do). Counts only, no value of any row.

    Raises
    ------
    InputError : a column is missing, an argument is out of range, or a custom function fails or returns something else
        than a value per row.

    Notes
    -----
    A table larger than `rows` is sampled by whole customers, in random order until they fill it, over the whole period.
    So a customer's windows hold what they hold in the full table, and at every cut some labels are known and others
    open. Merchants and devices get thinner; invented rows are copies of earlier ones, so that these have a future too.

    A cut lies right before the slowest label of its stretch becomes known: there a function shows that waits for
    labels, but not long enough. At every cut a twin of the last payment is planted, the same but for its id and the
    opposite label: on data without ties nothing would show that a function lets the label decide them.

    A column of the frame cannot be computed again. One that is neither canonical nor declared makes a column "not
    judged" that reads it (a custom function reads it when shuffling it moves its values), and "leaks" when it alone
    ranks the frauds with an AUC ROC above 0.99, by size or by the fraud rate of its values on every other row. A
    canonical column as telling as that makes its readers "not judged" until it is named in `known_at_event`.

    References
    ----------
    Kaufman, Rosset, Perlich, Stitelman (2012), Leakage in data mining, doi:10.1145/2382577.2382579.

    >>> frame = pd.DataFrame({"transaction_id": range(40), "customer_id": ["a", "b"] * 20, "amount": range(40),
    ...                       "event_time": pd.date_range("2026-01-01", periods=40, freq="D", tz="UTC")})
    >>> amounts = lambda rows: rows.groupby("customer_id")["amount"]
    >>> table = audit_leakage(None, frame, custom={"largest so far": lambda rows: amounts(rows).cummax(),
    ...                                            "largest of all": lambda rows: amounts(rows).transform("max")})
    >>> table[["column", "verdict", "rewriting"]].values.tolist()
    [['largest so far', 'clean', ''], ['largest of all', 'leaks', 'later amounts changed']]
    """
    custom, late = dict(custom or {}), dict(known_later or {})
    at_event = (known_at_event,) if isinstance(known_at_event, str) else tuple(known_at_event)
    _check(transactions, by, rows, seed, late, at_event)
    sample = _sample(transactions, by, rows, np.random.default_rng([seed, 0]))
    moments = _moments(sample, cuts)
    frame = with_twins(sample, moments, late)

    columns, _ = _compute(feature_set, custom, frame, strict=True)
    again, _ = _compute(feature_set, custom, frame, strict=True)
    judged = {name: _Judged(source, values, np.zeros(len(frame), bool)) for name, (source, values) in columns.items()}
    failed: dict[str, str] = {}
    for number, moment in enumerate(moments, start=1):
        past = np.flatnonzero(frame["event_time"] <= moment)
        for rewriting, changed, where in rewritten(frame, past, moment, late, np.random.default_rng([seed, number])):
            after, fails = _compute(feature_set, custom, changed)
            failed |= fails
            for name, column in judged.items():
                if column.source not in fails:
                    column.compare(after[name][1][where] if name in after else None, past, rewriting)

    undeclared = [name for name in frame if name not in {*BY_NAME, *late, *late.values(), *at_event}]
    telling = _telling(
        sample, [*undeclared, *(name for name in _AT_FACE_VALUE if name in frame and name not in at_event)]
    )
    suspects = list(dict.fromkeys([*undeclared, *telling]))
    reads = _suspects_read(feature_set, custom, frame, judged, suspects, np.random.default_rng([seed, 0]))
    compared = int((frame["event_time"] <= moments[-1]).sum())
    table = []
    for name, column in judged.items():
        steady = name in again and not (again[name][1] != column.values).any()
        read = {suspect: telling.get(suspect) for suspect in reads[name]}
        verdict, meaning = _verdict(column, steady, failed.get(column.source), read)
        shown = (int(column.moved.sum()), column.rewriting) if steady else (0, "")
        table.append((name, verdict, len(moments), compared, *shown, meaning))
    return pd.DataFrame(table, columns=["column", "verdict", "cuts", "rows", "moved", "rewriting", "meaning"])


def _check(frame: Any, by: str, rows: Any, seed: Any, late: Mapping[str, str], at_event: Sequence[str]) -> None:
    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"audit: transactions must be a pandas DataFrame; found {type(frame).__name__}; pass a table")
    require_columns(frame, ["transaction_id", "event_time", by, *late, *late.values(), *at_event], where="audit")
    if not frame.columns.is_unique:
        raise InputError("audit: column names must be unique; found repeated ones; rename or drop them")
    if not isinstance(rows, int) or rows < 100:
        raise InputError(f"audit: rows must be a whole number >= 100; found {rows!r}; leave it out for 20,000")
    if not isinstance(seed, int) or seed < 0:
        raise InputError(f"audit: seed must be a whole number >= 0; found {seed!r}; the default is 0")
    for name in ("event_time", *(["label_time"] if "label_time" in frame else []), *late.values()):
        if not isinstance(frame[name].dtype, pd.DatetimeTZDtype):
            raise InputError(
                f"audit: column '{name}' must hold times in one time zone; found type {frame[name].dtype}; "
                "use pd.to_datetime(utc=True)"
            )
    for name in ("event_time", "transaction_id"):
        if missing := int(frame[name].isna().sum()):
            raise InputError(
                f"audit: column '{name}' must not be empty; found {missing:,} empty rows; correct or drop them"
            )
    for name in (*late, *at_event):
        if name in ("transaction_id", "event_time", *AFTERWARDS):
            raise InputError(
                f"audit: known_later and known_at_event must leave out '{name}', whose rule is fixed; remove it"
            )


def _sample(frame: pd.DataFrame, by: str, rows: int, rng: np.random.Generator) -> pd.DataFrame:
    """Return whole entities that together fill `rows`, in the caller's order; the earliest rows if none fits."""
    if len(frame) > rows:
        code = pd.factorize(frame[by], use_na_sentinel=False)[0]
        size = np.bincount(code)
        drawn = rng.permutation(size.size)
        drawn = drawn[size[drawn] <= rows]
        chosen = np.isin(code, drawn[np.cumsum(size[drawn]) <= rows])
        if not chosen.any():
            chosen[np.argsort(frame["event_time"].to_numpy(), kind="stable")[:rows]] = True
        frame = frame.iloc[np.flatnonzero(chosen)]
    frame = frame.reset_index(drop=True)
    # Ids get room for new ones, labels for unknown ones.
    ids = frame["transaction_id"]
    ids = ids.astype(ids.cat.categories.dtype) if isinstance(ids.dtype, pd.CategoricalDtype) else ids.infer_objects()
    frame["transaction_id"] = ids.astype("int64") if ids.dtype.kind == "i" else ids
    if "is_fraud" in frame:
        try:
            frame["is_fraud"] = frame["is_fraud"].astype("boolean")
        except (TypeError, ValueError):
            raise InputError(
                f"audit: column 'is_fraud' must be true, false or missing; found type {frame['is_fraud'].dtype}; "
                "map its values"
            ) from None
    return frame


def _moments(frame: pd.DataFrame, cuts: int | Sequence[Any]) -> list[pd.Timestamp]:
    """Return the cut moments in order; each has rows at or before it and rows after it."""
    times = frame["event_time"].sort_values(ignore_index=True)
    if isinstance(cuts, int):
        if not 1 <= cuts <= MOST_CUTS:
            raise InputError(f"audit: cuts must be 1 to {MOST_CUTS}, or moments; found {cuts}; the default is 5")
        edges = [times.iloc[len(times) * k // (cuts + 1)] for k in range(1, cuts + 1)] if len(times) else []
        edges += times.tail(1).tolist()
        moments = {_before_the_slowest_label(frame, times, *edge) for edge in pairwise(edges)}
    else:
        moments = {utc(moment, "audit: cuts") for moment in cuts}
        outside = sum(not (len(times) and times.iloc[0] <= moment < times.iloc[-1]) for moment in moments)
        if outside:
            raise InputError(
                f"audit: cuts must have transactions before and after them; found {outside} that have not; choose "
                "moments within the period"
            )
    moments = {moment for moment in moments if moment < times.iloc[-1]}
    if not moments:
        raise InputError(
            f"audit: transactions must reach over more than one moment, to have a future; found {len(times):,} rows "
            "that do not; pass a longer period"
        )
    return sorted(moments)


def _before_the_slowest_label(
    frame: pd.DataFrame, times: pd.Series, start: pd.Timestamp, end: pd.Timestamp
) -> pd.Timestamp:
    """Return the last moment before the label becomes known that took longest of all that end in (start, end].

    There a function shows that waits, but not long enough. Without such a label it is `start`.
    """
    if "label_time" not in frame:
        return start
    known = frame["label_time"].where((frame["label_time"] > start) & (frame["label_time"] <= end))
    delay = known - frame["event_time"]
    if not (delay > pd.Timedelta(0)).any():
        return start
    return max(start, times.iloc[times.searchsorted(known[delay.idxmax()], side="left") - 1])


def _compute(
    feature_set: FeatureSet | None, custom: Custom, frame: pd.DataFrame, *, strict: bool = False
) -> tuple[dict[str, tuple[str, np.ndarray]], dict[str, str]]:
    """Return column -> (its function, values that compare bit by bit), and function -> why it gave none.

    A failure is raised when `strict`; on rewritten rows it only means that the function cannot be judged.
    """
    found: dict[str, tuple[str, np.ndarray]] = {}
    failed: dict[str, str] = {}
    if feature_set is not None:
        bits = _bits(feature_set.compute(frame).to_numpy(dtype=np.float64))
        found = {name: ("", bits[:, place]) for place, name in enumerate(feature_set.columns)}
    for source, function in custom.items():
        try:
            given = function(frame.copy())
            given = given if isinstance(given, pd.Series | pd.DataFrame) else pd.Series(np.asarray(given))
            if len(given) != len(frame) or not given.index.sort_values().equals(frame.index):
                raise InputError(f"found {len(given):,} for {len(frame):,} rows, or another index")
        except Exception as error:  # anything may go wrong in code of one's own; its words could hold a row's values
            failed[source] = str(error) if isinstance(error, InputError) else f"found {type(error).__name__}"
            if strict:
                raise InputError(
                    f"audit: custom function '{source}' must give a value per row, under the rows' own index; "
                    f"{failed[source]}; correct it"
                ) from error
            continue
        given = given.reindex(frame.index)
        columns = {source: given} if isinstance(given, pd.Series) else {f"{source}__{n}": given[n] for n in given}
        if twice := next((name for name in columns if name in found), None):
            raise InputError(f"audit: columns must differ; found '{twice}' twice; rename the custom function")
        found |= {name: (source, _bits(values)) for name, values in columns.items()}
    return found, failed


def _bits(values: np.ndarray | pd.Series) -> np.ndarray:
    """Return the values so that != compares bits: one NaN is like another, 0.0 is not like -0.0."""
    if isinstance(values, pd.Series):
        values = values.infer_objects()
        if not pd.api.types.is_numeric_dtype(values.dtype):
            return values.astype(object).where(values.notna(), None).to_numpy()
        values = values.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.isnan(values), _NAN_BITS, values.view(np.int64))


def _telling(sample: pd.DataFrame, names: Sequence[str]) -> dict[str, float]:
    """Return, of the raw columns `names`, those that alone rank the labelled frauds above `TELLING`, with their AUC."""
    labelled = sample[sample["is_fraud"].notna()] if "is_fraud" in sample else sample.iloc[:0]
    fraud = labelled["is_fraud"].to_numpy(dtype=bool) if len(labelled) else np.zeros(0, bool)
    if min(fraud.sum(), (~fraud).sum()) < FEWEST:
        return {}
    found = {}
    for name in names:
        values = labelled[name]
        scores = []
        if pd.api.types.is_numeric_dtype(values.dtype) or isinstance(values.dtype, pd.DatetimeTZDtype):
            rank = values.rank(na_option="top").to_numpy(dtype=float)
            scores = [rank, -rank]
        if not scores or values.nunique() <= MOST_CODES:
            # Fraud rates learnt on every other row and judged on the rest: what occurs once tells nothing then.
            code = pd.factorize(values, use_na_sentinel=False)[0]
            half = np.arange(code.size) % 2
            rows, bad = (np.bincount(2 * code + half, weights=w, minlength=2 * code.max() + 2) for w in (None, fraud))
            other = 2 * code + 1 - half
            scores.append(np.where(rows[other] > 0, bad[other] / np.maximum(rows[other], 1), fraud.mean()))
        auc = max(_auc(score, fraud) for score in scores)
        if auc > TELLING:
            found[name] = auc
    return found


def _auc(score: np.ndarray, fraud: np.ndarray) -> float:
    rank, bad = pd.Series(score).rank().to_numpy(), int(fraud.sum())
    return float((rank[fraud].sum() - bad * (bad + 1) / 2) / (bad * (fraud.size - bad)))


def _suspects_read(
    feature_set: FeatureSet | None,
    custom: Custom,
    frame: pd.DataFrame,
    judged: Mapping[str, _Judged],
    suspects: Sequence[str],
    rng: np.random.Generator,
) -> dict[str, list[str]]:
    """Return column -> the suspects it reads: a spec says so, a custom function moves when one is shuffled."""
    reads: dict[str, list[str]] = {name: [] for name in judged}
    for spec in feature_set.specs if feature_set is not None else ():
        for name in spec.columns:
            reads[name] = [suspect for suspect in suspects if suspect in feature_set.reads(spec)]
    for suspect in suspects if custom else ():
        shuffled = frame.assign(**{suspect: frame[suspect].take(rng.permutation(len(frame))).array})
        after, _ = _compute(None, custom, shuffled)
        for name, column in judged.items():
            if column.source and (name not in after or (after[name][1] != column.values).any()):
                reads[name].append(suspect)
    return reads


def _verdict(column: _Judged, steady: bool, failed: str | None, reads: Mapping[str, float | None]) -> tuple[str, str]:
    """Return the verdict and what it means; a leak that was seen goes before what cannot be said."""
    if not steady:
        return "not judged", "Computed twice from the same rows it differs. Let it take its chance from a fixed seed."
    if column.rewriting:
        return "leaks", REWRITINGS[column.rewriting]
    told = {name: auc for name, auc in reads.items() if auc is not None}
    for name, auc in told.items():
        said = f"It reads column '{name}', which alone tells the frauds (AUC ROC {auc:.3f})"
        if name not in BY_NAME:
            return "leaks", f"{said}, as only what is written after the payment does. Leave it out."
        return "not judged", f"{said}. If it is never written after the payment, name it in known_at_event."
    if reads:
        return "not judged", (
            f"It reads column '{next(iter(reads))}', which cannot be shown to be known at the payment. Name it in "
            "known_at_event, or in known_later with the column that says from when."
        )
    if failed:
        return "not judged", f"Its function gave no values on rewritten rows ({failed}). Let it work on any such rows."
    if all(value is None or value == _NAN_BITS for value in pd.unique(column.values)):
        return "not judged", "It has no value in any row. Pass rows in which it has."
    return "clean", "No value moved: it sees only the past."
