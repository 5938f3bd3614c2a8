"""Folds in time: what a model may learn from, what it is tuned on and what it is judged on.

A fold keeps three promises. Time runs one way: training, then a delay, then the test. Nothing is learnt from a label
that was not known when the test began. A customer already known as a victim is not a discovery, so the test leaves
such customers out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from fraudlab.config import SplitConfig
from fraudlab.schema import InputError, require_columns, utc

MATURE = 0.99
"""Share of a day's labels that must be known before the day may end a test period chosen by default."""

FRAUDS_MATURE = 0.95
"""Share of a day's frauds that must be expected to be reported before the day may end a test chosen by default."""

SAID_LATE = 0.01
"""From this share of frauds still to be reported on, a fold says so when it explains itself."""

DAY = pd.Timedelta(days=1)

Window = tuple[pd.Timestamp, pd.Timestamp]


@dataclass(frozen=True, eq=False)
class Fold:
    """One division of the transactions in time, by row position; it can explain and tabulate itself.

    Attributes
    ----------
    train, valid, refit, test : int64 row positions into the frame the fold was made from, ascending. `valid` may be
        empty; `refit` is `train` where the model is not fitted again on later data.
    train_start ... test_end : half open periods [start, end), UTC; `valid_*` are None where there is no validation.
    delay : the time left for labels to become known, before the validation and before the test.
    excluded_customers, excluded_transactions : known victims, and their transactions, left out of the test.
    unlabelled : per part, rows left out because their label was not known when the test began (training, validation)
        or is not known at all (test).
    frauds, customers : per part, labelled frauds and distinct entities among its rows.
    late_frauds : expected share, 0 to 1, of the test's frauds that are reported only after the last known moment: its
        recall is that of the early ones. See the notes of `temporal_fold`.
    entity : the column whose values are counted and left out as customers.
    """

    name: str
    train: np.ndarray
    valid: np.ndarray
    refit: np.ndarray
    test: np.ndarray
    train_start: pd.Timestamp
    train_end: pd.Timestamp
    valid_start: pd.Timestamp | None
    valid_end: pd.Timestamp | None
    refit_start: pd.Timestamp
    refit_end: pd.Timestamp
    test_start: pd.Timestamp
    test_end: pd.Timestamp
    delay: pd.Timedelta
    excluded_customers: int
    excluded_transactions: int
    unlabelled: dict[str, int]
    frauds: dict[str, int]
    customers: dict[str, int]
    late_frauds: float
    entity: str = "customer_id"

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that differ, in the order of use: train, valid, refit, test without the absent ones."""
        absent = {"valid"} if self.valid_start is None else set()
        if self.refit is self.train:
            absent.add("refit")
        return tuple(part for part in ("train", "valid", "refit", "test") if part not in absent)

    def explain(self) -> str:
        """Say in one sentence what is learnt from, what is judged on, and what was left out.

        >>> days = pd.date_range("2026-01-01", periods=30, freq="D", tz="UTC", unit="us")
        >>> frame = pd.DataFrame({"event_time": days, "customer_id": range(30),
        ...     "is_fraud": pd.array([day % 3 == 0 for day in range(30)], "boolean"),
        ...     "label_time": days + pd.Timedelta(days=5)})
        >>> book_fold(frame, train_start="2026-01-08T00:00Z").explain()
        "Fold 'book' trains on 2026-01-08 to 2026-01-14 (7 transactions, 2 frauds), leaves 7 days for labels to become \
        known, and tests on 2026-01-22 to 2026-01-28 (7 transactions, 3 frauds)."
        """
        said = [f"trains on {self._said('train')}"]
        if "valid" in self.parts:
            said.append(f"tunes and calibrates on {self._said('valid')}")
        if "refit" in self.parts:
            said.append(f"fits again on {self._said('refit')}")
        days = self.delay / DAY
        said.append(f"leaves {days:g} day{'s' if days != 1 else ''} for labels to become known")
        test = f"tests on {self._said('test')}"
        if self.excluded_transactions:
            test += (
                f" without {self.excluded_transactions:,} transactions of {self.excluded_customers:,} "
                f"{self.entity.removesuffix('_id')}s already known as victims"
            )
        late = {part: self.unlabelled[part] for part in self.parts if self.unlabelled[part]}
        if late:
            test += "; left out for want of a label known in time: " + ", ".join(
                f"{count:,} in {part}" for part, count in late.items()
            )
        if self.late_frauds >= SAID_LATE:
            test += (
                f"; about {self.late_frauds * 100:.0f} % of the frauds of the test are expected to be reported later"
            )
        return f"Fold '{self.name}' {', '.join(said)}, and {test}."

    def table(self) -> pd.DataFrame:
        """Tabulate the parts: part, start, end (not included), transactions, frauds, fraud_rate, customers.

        `fraud_rate` is NaN only for a part without rows.
        """
        rows = []
        for part in self.parts:
            count = len(getattr(self, part))
            rows.append(
                {
                    "part": part,
                    "start": getattr(self, f"{part}_start"),
                    "end": getattr(self, f"{part}_end"),
                    "transactions": count,
                    "frauds": self.frauds[part],
                    "fraud_rate": self.frauds[part] / count if count else np.nan,
                    "customers": self.customers[part],
                }
            )
        return pd.DataFrame(rows)

    def _said(self, part: str) -> str:
        period = _period((getattr(self, f"{part}_start"), getattr(self, f"{part}_end")))
        return f"{period} ({len(getattr(self, part)):,} transactions, {self.frauds[part]:,} frauds)"


def temporal_fold(
    transactions: pd.DataFrame,
    split: SplitConfig,
    *,
    test_start: pd.Timestamp | None = None,
    name: str = "fold",
) -> Fold:
    """Divide transactions into train | delay | validation | delay | test, as the configuration says.

    Parameters
    ----------
    transactions : canonical frame in the total order, with `is_fraud`, `label_time` and the entity's column.
    split : lengths in days and rules, see `SplitConfig`.
    test_start : the moment the test begins, with a time zone; overrides `split.test_start`. When both are None the
        test is the latest run of `split.test_days` whole days (UTC) over which, and on the last of which, at least
        99 % of the transactions have a known label, and on the last of which at least 95 % of the frauds are expected
        to be reported (see the notes). A test that is stated may lie later; `late_frauds` then says what it lacks.
    name : what the fold is called when it explains itself.

    Returns
    -------
    Fold. With `split.refit_on_latest` the refit window is the latest `train_days` that end where the last delay begins;
    otherwise it is the training window. With `split.test_share` the windows are measured in transactions: see notes.

    Raises
    ------
    InputError : a column is missing or its rows are out of order, the data has too few days, a training window has
        fewer than `split.min_positives` frauds or no genuine row, the delay is shorter than labels take, the test has
        no labels or immature ones.

    Notes
    -----
    Training and validation rows count only when `label_time <= test_start`. At the start D (midnight when the test
    starts at midnight) of each test day, an entity is known as compromised when it has a fraud with
    event_time >= refit_start and label_time <= D; its rows from D on are left out. The validation is treated alike,
    with knowledge since train_start, so that what is tuned and calibrated there meets the test's conditions.

    A model must not be trained on a period whose genuine rows are not settled yet: frauds are reported first, so the
    labels known early are nearly all frauds. Hence the refusal when on the last day before the delay fewer than half of
    the labels that came to be known were known at the test's start.

    Genuine rows may all be settled while the slowest frauds are still to come; a test that ends too early for these
    knows only the quick ones. What is known ends at the table's latest event_time or label_time. How long frauds take
    is read off the labelled frauds of the first half of the time until then, the older ones, of which few are missing.
    A delay longer than that half cannot be seen.

    With shares, of the transactions up to the end of the latest mature day the last `test_share` by time is the test,
    the last `valid_share` before the delay the validation, all before another delay is learnt from, and by the refit
    all before the last delay. Of one moment all are in the later part. Everything else is as above.
    """
    table = _Table.read(transactions, split.entity)
    if split.test_share is not None and test_start is not None:
        raise InputError("split.test_share: a fold whose test_start is given needs lengths in days; state them")
    by_days = split.test_share is None
    return _fold(
        table,
        name=name,
        **(_day_windows(table, split, test_start) if by_days else _share_windows(table, split)),
        delay=split.delay_days * DAY,
        exclude=split.exclude_known_compromised,
        min_positives=split.min_positives,
    )


def _day_windows(table: _Table, split: SplitConfig, test_start: pd.Timestamp | None) -> dict[str, Window]:
    needed = split.train_days + 2 * split.delay_days + split.valid_days + split.test_days
    parts = f"train {split.train_days} + delay {split.delay_days} + validation {split.valid_days} "
    parts += f"+ delay {split.delay_days} + test {split.test_days}"
    if table.days < needed:
        raise InputError(_too_short(needed, parts, table, table.end))
    if test_start is not None:
        start = utc(test_start, "test_start")
    elif split.test_start is not None:
        start = pd.Timestamp(split.test_start, tz="UTC")
    else:
        start = _mature_start(table, split.test_days)
    delay = split.delay_days * DAY
    test = (start, start + split.test_days * DAY)
    valid = (start - delay - split.valid_days * DAY, start - delay)
    train = (valid[0] - delay - split.train_days * DAY, valid[0] - delay)
    refit = (valid[1] - split.train_days * DAY, valid[1]) if split.refit_on_latest else train
    if min(train[0], refit[0]) < table.start:
        raise InputError(_too_short(needed, parts, table, test[1]))
    return {"train": train, "valid": valid, "refit": refit, "test": test}


def _share_windows(table: _Table, split: SplitConfig) -> dict[str, Window]:
    """Return the windows of a split in shares; each begins at the moment of one of the transactions."""
    end = _mature_start(table, 1) + DAY
    rows, delay = table.rows((table.start, end)).stop, split.delay_days * DAY

    def begins(first: int) -> pd.Timestamp:
        return pd.Timestamp(table.event[max(first, 0)], tz="UTC")

    test = begins(rows - round(split.test_share * rows))  # type: ignore[operator]
    valid_end = test - delay
    valid = begins(table.rows((table.start, valid_end)).stop - round(split.valid_share * rows))
    train_end = valid - delay
    if not table.start < train_end < valid_end or not table.rows((table.start, train_end)).stop:
        raise InputError(
            f"split: after a test_share of {split.test_share:g}, a valid_share of {split.valid_share:g} and twice "
            f"{split.delay_days} days of delay something must be left to learn from; found transactions from "
            f"{table.start.date()} to {(table.end - DAY).date()}; lower one of them or load more days"
        )
    train, all_before = (table.start, train_end), (table.start, valid_end)
    refit = all_before if split.refit_on_latest else train
    return {"train": train, "valid": (valid, valid_end), "refit": refit, "test": (test, end)}


def prequential_folds(
    transactions: pd.DataFrame,
    split: SplitConfig,
    *,
    first_test_start: pd.Timestamp,
    folds: int = 4,
    step_days: int | None = None,
) -> list[Fold]:
    """Return `folds` temporal folds whose tests start `step_days` apart, the first at `first_test_start`.

    Parameters
    ----------
    transactions, split : as in `temporal_fold`; `split.test_start` is not used.
    first_test_start : with a time zone.
    folds : how many, at least 1.
    step_days : days from one test's start to the next; None means `split.test_days`, tests that touch.

    Returns
    -------
    list of Fold, named "fold 1" ... in the order of time.

    Raises
    ------
    InputError : as in `temporal_fold`; `folds` or `step_days` below 1.
    """
    step = split.test_days if step_days is None else step_days
    for argument, value in (("folds", folds), ("step_days", step)):
        if value < 1:
            raise InputError(f"{argument}: must be at least 1; found {value}; ask for one or more")
    first = utc(first_test_start, "first_test_start")
    return [
        temporal_fold(transactions, split, test_start=first + i * step * DAY, name=f"fold {i + 1}")
        for i in range(folds)
    ]


def book_fold(
    transactions: pd.DataFrame,
    *,
    train_start: pd.Timestamp,
    train_days: int = 7,
    delay_days: int = 7,
    test_days: int = 7,
    exclude_known_compromised: bool = True,
    entity: str = "customer_id",
    name: str = "book",
) -> Fold:
    """Divide transactions as the published protocol does: train | delay | test, without a validation part.

    Parameters
    ----------
    transactions : canonical frame in the total order, with `is_fraud`, `label_time` and `entity`.
    train_start : with a time zone.
    train_days, delay_days, test_days : lengths; the defaults are the published ones.
    exclude_known_compromised : leave known victims out of the test, see `temporal_fold`. With labels known exactly
        seven days after the event this is the published rule: for test day D the customers with a fraud in the
        training week or on any day up to D - 8.
    entity : the column whose victims are left out.
    name : what the fold is called when it explains itself.

    Returns
    -------
    Fold whose `valid` is empty and whose `refit` is `train`.

    Raises
    ------
    InputError : as in `temporal_fold`, with one fraud in the training window as the least.

    References
    ----------
    Le Borgne, Siblini, Lebichot, Bontempi: Reproducible Machine Learning for Credit Card Fraud Detection - Practical
    Handbook, 2022, chapter 5.
    """
    table = _Table.read(transactions, entity)
    start = utc(train_start, "train_start")
    delay = delay_days * DAY
    train = (start, start + train_days * DAY)
    test = (train[1] + delay, train[1] + delay + test_days * DAY)
    if train[0] < table.start:
        parts = f"train {train_days} + delay {delay_days} + test {test_days}"
        raise InputError(_too_short(train_days + delay_days + test_days, parts, table, test[1]))
    return _fold(
        table,
        name=name,
        train=train,
        valid=None,
        refit=train,
        test=test,
        delay=delay,
        exclude=exclude_known_compromised,
        min_positives=1,
    )


@dataclass(frozen=True)
class _Table:
    """The columns a fold needs, as plain arrays; times are UTC microseconds, `label_time` is NaT without a label."""

    event: np.ndarray
    label_time: np.ndarray
    labelled: np.ndarray
    fraud: np.ndarray
    entity: pd.Series
    start: pd.Timestamp
    end: pd.Timestamp
    known_until: np.datetime64
    fraud_delays: np.ndarray  # ascending, of the older frauds

    @classmethod
    def read(cls, transactions: pd.DataFrame, entity: str) -> _Table:
        require_columns(transactions, ["event_time", entity, "is_fraud", "label_time"], where="transactions")
        if not len(transactions):
            raise InputError("transactions: the table has no rows; check the source and its filter")
        if not transactions["event_time"].is_monotonic_increasing:
            raise InputError(
                "transactions: rows must be in the order of event_time; found some out of order; "
                "apply schema.sort_transactions first"
            )
        if missing := int(transactions[entity].isna().sum()):
            raise InputError(
                f"transactions: column '{entity}' must not be empty, its cases are counted; found {missing:,} empty of "
                f"{len(transactions):,} rows; choose another split.entity or fill them at the source"
            )
        event = _microseconds(transactions["event_time"])
        labelled = transactions["is_fraud"].notna().to_numpy()
        label_time = np.where(labelled, _microseconds(transactions["label_time"]), np.datetime64("NaT", "us"))
        fraud = transactions["is_fraud"].astype("boolean").to_numpy(dtype=bool, na_value=False)
        known_until = np.fmax(event[-1], np.fmax.reduce(label_time))
        dated = fraud & ~np.isnat(label_time)
        older = dated & (event <= event[0] + (known_until - event[0]) / 2)
        told = older if older.any() else dated
        return cls(
            event=event,
            label_time=label_time,
            labelled=labelled,
            fraud=fraud,
            known_until=known_until,
            fraud_delays=np.sort(label_time[told] - event[told]),
            entity=transactions[entity],
            start=pd.Timestamp(event[0], tz="UTC").floor("D"),
            end=pd.Timestamp(event[-1], tz="UTC").floor("D") + DAY,
        )

    @property
    def days(self) -> int:
        return (self.end - self.start) // DAY

    def rows(self, window: Window) -> slice:
        low, high = np.searchsorted(self.event, [_moment(window[0]), _moment(window[1])])
        return slice(int(low), int(high))

    def late_frauds(self, window: Window) -> float:
        """Return the share of the frauds of `window` that is expected to be reported after what is known ends.

        It is 0 where no fraud tells how long reports take.
        """
        age = self.known_until - self.event[self.rows(window)]
        if not (len(age) and len(self.fraud_delays)):
            return 0.0
        return float(1 - np.searchsorted(self.fraud_delays, age, side="right").mean() / len(self.fraud_delays))


def _fold(
    table: _Table,
    *,
    name: str,
    train: Window,
    valid: Window | None,
    refit: Window,
    test: Window,
    delay: pd.Timedelta,
    exclude: bool,
    min_positives: int,
) -> Fold:
    if test[1] > table.end:
        raise InputError(
            f"split.test_start: the test period {_period(test)} must lie within the data; found transactions from "
            f"{table.start.date()} to {(table.end - DAY).date()}; choose an earlier test_start"
        )
    span = table.rows((min(train[0], refit[0]), test[1]))
    # One factorisation serves every part: codes of the rows in `span`, counted from its beginning.
    codes = pd.factorize(table.entity.iloc[span])[0]
    known = table.label_time <= _moment(test[0])
    _refuse_short_delay(table, known, refit if valid is None else valid, refit, test)

    windows = {"train": train, "valid": valid, "refit": refit, "test": test}
    positions: dict[str, np.ndarray] = {}
    unlabelled: dict[str, int] = {}
    excluded = (0, 0)
    for part, window in windows.items():
        if window is None:
            positions[part], unlabelled[part] = np.empty(0, np.int64), 0
            continue
        if part == "refit" and refit == train:
            positions[part], unlabelled[part] = positions["train"], unlabelled["train"]
            continue
        rows = table.rows(window)
        keep = np.arange(rows.start, rows.stop, dtype=np.int64)
        if exclude and part in ("valid", "test"):
            since = train[0] if part == "valid" else refit[0]
            victim = _known_victims(table, codes, span.start, since, window)
            if part == "test":
                excluded = (_distinct(codes, keep[victim] - span.start), int(victim.sum()))
            keep = keep[~victim]
        has_label = table.labelled[keep] if part == "test" else known[keep]
        positions[part], unlabelled[part] = keep[has_label], int((~has_label).sum())

    frauds = {part: int(table.fraud[rows].sum()) for part, rows in positions.items()}
    for part, window in windows.items():
        if window is not None:
            _refuse_poor(part, window, len(positions[part]), frauds[part], unlabelled[part], min_positives)
    return Fold(
        name=name,
        **positions,
        train_start=train[0],
        train_end=train[1],
        valid_start=valid and valid[0],
        valid_end=valid and valid[1],
        refit_start=refit[0],
        refit_end=refit[1],
        test_start=test[0],
        test_end=test[1],
        delay=delay,
        excluded_customers=excluded[0],
        excluded_transactions=excluded[1],
        unlabelled=unlabelled,
        frauds=frauds,
        customers={part: _distinct(codes, rows - span.start) for part, rows in positions.items()},
        late_frauds=table.late_frauds(test),
        entity=str(table.entity.name),
    )


def _known_victims(table: _Table, codes: np.ndarray, offset: int, since: pd.Timestamp, window: Window) -> np.ndarray:
    """Return, for the rows of `window`, whether their entity was a known victim when the row's day began."""
    past = table.rows((since, window[1]))
    fraud = np.flatnonzero(table.fraud[past]) + past.start
    never = np.iinfo(np.int64).max
    known_from = np.full(codes.max(initial=-1) + 1, never)
    # Known after it happened at the earliest: a day that begins with a fraud does not begin with knowing it.
    told = np.maximum(table.label_time[fraud], table.event[fraud] + np.timedelta64(1, "us"))
    dated = ~np.isnat(told)
    np.minimum.at(known_from, codes[fraud[dated] - offset], told[dated].astype(np.int64))
    rows = table.rows(window)
    start = _moment(window[0])
    day_start = start + (table.event[rows] - start).astype("timedelta64[D]")
    return known_from[codes[rows.start - offset : rows.stop - offset]] <= day_start.astype(np.int64)


def _mature_start(table: _Table, test_days: int) -> pd.Timestamp:
    day = (table.event - _moment(table.start)).astype("timedelta64[D]").astype(np.int64)
    total = np.bincount(day, minlength=table.days)
    known = np.bincount(day[table.labelled], minlength=table.days)

    def run(counts: np.ndarray) -> np.ndarray:
        summed = np.concatenate([[0], np.cumsum(counts)])
        return summed[test_days:] - summed[:-test_days]

    last = slice(test_days - 1, None)
    mature = (known[last] >= MATURE * total[last]) & (run(known) >= MATURE * run(total)) & (total[last] > 0)
    for first in np.flatnonzero(mature)[::-1]:
        start = table.start + int(first) * DAY
        end = start + test_days * DAY
        if table.late_frauds((end - DAY, end)) <= 1 - FRAUDS_MATURE:
            return start
    found = f"found none, {known.sum():,} of {total.sum():,} labels are known at all"
    if mature.any():
        slow = np.quantile(table.fraud_delays, FRAUDS_MATURE) / np.timedelta64(1, "D")
        found = (
            f"found none, {FRAUDS_MATURE:.0%} of the frauds take up to {slow:.0f} days and what is known ends on "
            f"{pd.Timestamp(table.known_until).date()}"
        )
    raise InputError(
        f"split.test_start: by default the test is the latest {test_days} days with {MATURE:.0%} of the labels known "
        f"and, on the last day, {FRAUDS_MATURE:.0%} of the frauds reported; {found}; load a later as_of or state "
        "split.test_start"
    )


def _refuse_short_delay(table: _Table, known: np.ndarray, learnt: Window, refit: Window, test: Window) -> None:
    """Refuse labels that are still coming in, both where the model learns and where it is judged."""
    rows = table.rows((learnt[1] - DAY, learnt[1]))
    ever, in_time = int(table.labelled[rows].sum()), int(known[rows].sum())
    if in_time < ever / 2:
        past = table.rows(refit)
        taken = (table.label_time[past] - table.event[past])[table.labelled[past]]
        days = int(np.ceil(np.quantile(taken / np.timedelta64(1, "D"), 0.95)))
        raise InputError(
            f"split.delay_days: must leave labels the time to become known; of {ever:,} labels of the last day before "
            f"the delay {in_time:,} were known when the test began, and those known early are mostly frauds; set it to "
            f"{days} days, within which 95 % of the labels arrive"
        )
    rows, past = table.rows((test[1] - DAY, test[1])), table.rows(refit)
    if not table.labelled[table.rows(test)].any():
        raise InputError(
            f"split.test_start: the test period {_period(test)} must have labels; found none among "
            f"{len(table.event[table.rows(test)]):,} transactions; choose an earlier test_start or load a later as_of"
        )
    if rows.stop > rows.start and table.labelled[rows].mean() < table.labelled[past].mean() / 2:
        raise InputError(
            f"split.test_start: the labels of the test period {_period(test)} must be mature; found "
            f"{table.labelled[rows].mean():.0%} known on its last day against {table.labelled[past].mean():.0%} in the "
            "training window; choose an earlier test_start or load a later as_of"
        )


def _refuse_poor(part: str, window: Window, rows: int, frauds: int, unlabelled: int, min_positives: int) -> None:
    if part == "test":
        return
    least = min_positives if part in ("train", "refit") else 1
    if frauds < least:
        raise InputError(
            f"split: the {part} window {_period(window)} must hold {least:,} or more frauds known when the test "
            f"begins; found {frauds:,} among {rows:,} transactions ({unlabelled:,} more without a label in time); "
            "lengthen the window, move test_start or, for training, lower split.min_positives"
        )
    if frauds == rows:
        raise InputError(
            f"split: the {part} window {_period(window)} must hold genuine transactions too; found {frauds:,} frauds "
            "and no other labels; lengthen split.delay_days or check the source of the labels"
        )


def _too_short(needed: int, parts: str, table: _Table, end: pd.Timestamp) -> str:
    found = max((end - table.start) // DAY, 0)
    where = ", where the test ends" if end < table.end else ""
    return (
        f"split: needs {needed} days of transactions ({parts}); found {found} from {table.start.date()} to "
        f"{(end - DAY).date()}{where}; shorten the windows, move test_start or load more days"
    )


def _period(window: Window) -> str:
    if any(moment != moment.floor("D") for moment in window):
        return f"{window[0]:%Y-%m-%d %H:%M} to {window[1]:%Y-%m-%d %H:%M}"
    return f"{window[0].date()} to {(window[1] - pd.Timedelta(1, 'us')).date()}"


def _distinct(codes: np.ndarray, rows: np.ndarray) -> int:
    return int(np.count_nonzero(np.bincount(codes[rows]))) if len(rows) else 0


def _microseconds(values: pd.Series) -> np.ndarray:
    return values.to_numpy(dtype="datetime64[us]")


def _moment(stamp: pd.Timestamp) -> np.datetime64:
    return np.datetime64(stamp.tz_convert(None), "us")
