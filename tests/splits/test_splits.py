"""Folds: the published sizes, the rules against plain loops, every refusal."""

from __future__ import annotations

import datetime as dt
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fraudlab.config import SplitConfig
from fraudlab.schema import InputError, as_known_at
from fraudlab.splits import Fold, book_fold, prequential_folds, temporal_fold

DAY = pd.Timedelta(days=1)
START = pd.Timestamp("2026-01-01", tz="UTC")


def day(number: int) -> pd.Timestamp:
    return START + number * DAY


def make(rows: int = 3000, days: int = 50, customers: int = 150, *, fixed_delay: bool = False, seed: int = 0):
    """Sorted transactions with labels after random delays, some of them never; every tenth event is at midnight."""
    rng = np.random.default_rng(seed)
    seconds = np.sort(rng.integers(0, days * 86_400, rows))
    seconds = np.where(rng.random(rows) < 0.1, seconds - seconds % 86_400, seconds)
    event = pd.Series(START + pd.to_timedelta(np.sort(seconds), unit="s")).astype("datetime64[us, UTC]")
    fraud = rng.random(rows) < 0.05
    delay = pd.to_timedelta(
        np.full(rows, 7 * 24) if fixed_delay else np.where(fraud, rng.integers(0, 300, rows), 96), "h"
    )
    known = np.full(rows, True) if fixed_delay else rng.random(rows) < 0.95
    return pd.DataFrame(
        {
            "transaction_id": np.arange(rows),
            "event_time": event,
            "customer_id": pd.Series([f"c{i}" for i in rng.integers(0, customers, rows)], dtype="str"),
            "is_fraud": pd.array(np.where(known, fraud, False), "boolean"),
            "label_time": (event + delay).astype("datetime64[us, UTC]").where(known),
        }
    ).assign(is_fraud=lambda frame: frame["is_fraud"].where(known, pd.NA))


SPLIT = SplitConfig(train_days=14, delay_days=5, valid_days=7, test_days=7, min_positives=5)


@pytest.fixture(scope="module")
def handbook() -> pd.DataFrame:
    path = Path(os.environ.get("FRAUDLAB_HANDBOOK", Path(__file__).parents[3] / "shared/data/handbook.parquet"))
    if not path.is_file():
        pytest.skip("the published handbook transactions are not here; set FRAUDLAB_HANDBOOK to their file")
    raw = pd.read_parquet(path, columns=["TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TX_FRAUD"])
    event = raw["TX_DATETIME"].astype("datetime64[us]").dt.tz_localize("UTC")
    frame = pd.DataFrame(
        {
            "transaction_id": raw["TRANSACTION_ID"],
            "event_time": event,
            "customer_id": raw["CUSTOMER_ID"],
            "is_fraud": raw["TX_FRAUD"].astype("boolean"),
            "label_time": event + 7 * DAY,
        }
    )
    return frame.sort_values(["event_time", "transaction_id"], ignore_index=True)


# --- the published protocol ---------------------------------------------------------------------------------------


def test_published_base_week(handbook):
    fold = book_fold(handbook, train_start=pd.Timestamp("2018-07-25", tz="UTC"))
    table = fold.table().set_index("part")
    assert table.index.tolist() == ["train", "test"]
    assert table["transactions"].to_dict() == {"train": 67_240, "test": 58_264}
    assert table["frauds"].to_dict() == {"train": 598, "test": 385}
    assert fold.test_start == pd.Timestamp("2018-08-08", tz="UTC")
    assert fold.test_end == pd.Timestamp("2018-08-15", tz="UTC")


def test_handbook_layout_with_validation_ends_in_the_same_test(handbook):
    split = SplitConfig(train_days=7, delay_days=7, valid_days=7, test_days=7, test_start=dt.date(2018, 8, 8))
    fold = temporal_fold(handbook, split)
    book = book_fold(handbook, train_start=pd.Timestamp("2018-07-25", tz="UTC"))
    np.testing.assert_array_equal(fold.refit, book.train)
    np.testing.assert_array_equal(fold.test, book.test)
    dates = fold.table().set_index("part")[["start", "end"]].map(lambda moment: moment.strftime("%m-%d"))
    assert dates.loc["train"].tolist() == ["07-11", "07-18"]
    assert dates.loc["valid"].tolist() == ["07-25", "08-01"]
    assert dates.loc["refit"].tolist() == ["07-25", "08-01"]
    # The validation is the published protocol's own test for the model trained on 07-11..17.
    earlier = book_fold(handbook, train_start=pd.Timestamp("2018-07-11", tz="UTC"))
    np.testing.assert_array_equal(fold.valid, earlier.test)


def test_default_test_on_complete_labels_is_the_last_week(handbook):
    fold = temporal_fold(handbook, SplitConfig(train_days=7, delay_days=7, valid_days=7, test_days=7))
    assert fold.test_start == pd.Timestamp("2018-09-24", tz="UTC")


def plain_book(frame: pd.DataFrame, train_start: int, train_days=7, delay_days=7, test_days=7):
    """The book's rule by sets and a loop over days, with whole-day numbers only."""
    rows = [
        (position, (row.event_time - START).days, row.customer_id, bool(row.is_fraud))
        for position, row in enumerate(frame.itertuples())
    ]
    train = [row for row in rows if train_start <= row[1] < train_start + train_days]
    known = {customer for _, _, customer, fraud in train if fraud}
    first = train_start + train_days + delay_days
    test = []
    for number in range(first, first + test_days):
        known |= {customer for _, when, customer, fraud in rows if fraud and when == number - delay_days - 1}
        test += [position for position, when, customer, _ in rows if when == number and customer not in known]
    return [row[0] for row in train], test


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("start", [0, 5, 20])
def test_book_fold_equals_plain_loop(seed, start):
    frame = make(fixed_delay=True, seed=seed)
    # An event exactly at midnight becomes known exactly when a test day begins; the book counts whole days.
    frame["event_time"] += pd.Timedelta(1, "us")
    frame["label_time"] = frame["event_time"] + 7 * DAY
    fold = book_fold(frame, train_start=day(start))
    train, test = plain_book(frame, start)
    assert fold.train.tolist() == train
    assert fold.test.tolist() == test
    assert fold.refit is fold.train
    assert fold.valid.size == 0
    assert fold.excluded_transactions > 0


def test_book_fold_may_keep_known_victims():
    frame = make(fixed_delay=True)
    fold = book_fold(frame, train_start=day(3), exclude_known_compromised=False)
    within = (frame["event_time"] >= day(17)) & (frame["event_time"] < day(24))
    assert fold.test.tolist() == np.flatnonzero(within).tolist()
    assert (fold.excluded_customers, fold.excluded_transactions) == (0, 0)


# --- the general rule ---------------------------------------------------------------------------------------------


def plain_fold(frame: pd.DataFrame, windows: dict, test_start: pd.Timestamp):
    """Every part by a loop over rows; labels as known then."""
    rows = list(frame.itertuples())

    def victims(since, moment):
        return {
            row.customer_id
            for row in rows
            if row.is_fraud is not pd.NA and row.is_fraud and row.event_time >= since and row.label_time <= moment
        }

    positions, unlabelled, excluded = {}, {}, []
    for part, (start, end) in windows.items():
        since = {"valid": windows["train"][0], "test": windows["refit"][0]}.get(part)
        per_day = {}
        positions[part], unlabelled[part] = [], 0
        for position, row in enumerate(rows):
            if not start <= row.event_time < end:
                continue
            midnight = row.event_time.normalize()
            if since is not None:
                if midnight not in per_day:
                    per_day[midnight] = victims(since, midnight)
                if row.customer_id in per_day[midnight]:
                    if part == "test":
                        excluded.append(row.customer_id)
                    continue
            labelled = row.is_fraud is not pd.NA
            if labelled and (part == "test" or row.label_time <= test_start):
                positions[part].append(position)
            else:
                unlabelled[part] += 1
    return positions, unlabelled, excluded


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("refit", [True, False])
def test_temporal_fold_equals_plain_loop(seed, refit):
    frame = make(seed=seed)
    fold = temporal_fold(frame, SPLIT.model_copy(update={"refit_on_latest": refit}), test_start=day(40))
    windows = {"train": (day(9), day(23)), "valid": (day(28), day(35)), "test": (day(40), day(47))}
    windows["refit"] = (day(21), day(35)) if refit else windows["train"]
    positions, unlabelled, excluded = plain_fold(frame, windows, day(40))
    for part, expected in positions.items():
        assert getattr(fold, part).tolist() == expected, part
        assert getattr(fold, part).dtype == np.int64
        assert fold.frauds[part] == int(frame["is_fraud"].iloc[expected].sum())
        assert fold.customers[part] == frame["customer_id"].iloc[expected].nunique()
    assert fold.unlabelled == unlabelled
    assert all(count > 0 for count in unlabelled.values())
    assert (fold.excluded_customers, fold.excluded_transactions) == (len(set(excluded)), len(excluded))
    assert (fold.refit is fold.train) is not refit


def test_a_label_known_at_the_very_moment_is_known():
    frame = make(fixed_delay=True, customers=20)
    of_victim = frame["customer_id"] == "c7"
    frame["is_fraud"] = frame["is_fraud"].mask(of_victim, False)
    told = np.flatnonzero(of_victim & (frame["event_time"] < day(10)))[-1]
    frame.loc[told, "is_fraud"] = True
    for late, left_from in ((pd.Timedelta(0), day(22)), (pd.Timedelta(1, "us"), day(23))):
        frame.loc[told, "label_time"] = day(22) + late
        seen = np.intersect1d(book_fold(frame, train_start=day(6)).test, np.flatnonzero(of_victim))
        expected = of_victim & frame["event_time"].between(day(20), left_from, inclusive="left")
        assert seen.tolist() == np.flatnonzero(expected).tolist()
    for late, learnt in ((pd.Timedelta(0), True), (pd.Timedelta(1, "us"), False)):
        frame.loc[told, "label_time"] = day(20) + late
        assert (told in book_fold(frame, train_start=day(6)).train) is learnt


def test_labels_from_the_future_change_nothing_that_is_learnt():
    frame = make()
    before = temporal_fold(frame, SPLIT, test_start=day(40))
    late = (frame["label_time"] > day(40)) & (frame["event_time"] < day(40))
    assert late.sum() > 5
    rewritten = frame.assign(is_fraud=frame["is_fraud"].mask(late, ~frame["is_fraud"]))
    rewritten.loc[late, "label_time"] = frame.loc[late, "label_time"] + 3 * DAY
    after = temporal_fold(rewritten, SPLIT, test_start=day(40))
    for part in ("train", "valid", "refit"):
        np.testing.assert_array_equal(getattr(before, part), getattr(after, part))


def test_default_test_start_follows_the_stated_rule():
    frame = make(rows=6000)
    frame["is_fraud"] = frame["is_fraud"].fillna(False)
    frame["label_time"] = frame["label_time"].fillna(frame["event_time"] + 4 * DAY)
    # Labels stop on day 44; day 47 is a lone complete day among open ones and must not count.
    open_days = (frame["event_time"] >= day(44)) & ~frame["event_time"].between(day(47), day(48), inclusive="left")
    frame.loc[open_days, ["is_fraud", "label_time"]] = [pd.NA, pd.NaT]
    assert temporal_fold(frame, SPLIT).test_start == day(37)
    # The last day misses one label in fifty: the day before ends the test.
    last = np.flatnonzero(frame["event_time"].between(day(43), day(44), inclusive="left"))
    frame.loc[last[::50], ["is_fraud", "label_time"]] = [pd.NA, pd.NaT]
    assert temporal_fold(frame, SPLIT).test_start == day(36)
    assert temporal_fold(frame, SPLIT, test_start=day(33)).test_start == day(33)
    assert temporal_fold(frame, SPLIT.model_copy(update={"test_start": day(34).date()})).test_start == day(34)


SETTLED = SPLIT.model_copy(update={"delay_days": 14})


def slow_reports(median: float = 5, *, days: int = 120, as_of: float = 120, seed: int = 0) -> pd.DataFrame:
    """As the demo: genuine rows settle after 14 days exactly, frauds when reported; labels as known at `as_of`."""
    frame = make(rows=20_000, days=days, customers=4000, fixed_delay=True, seed=seed)
    delay = np.random.default_rng(seed).lognormal(np.log(median), 1, len(frame))
    delay = np.where(frame["is_fraud"].astype(bool), np.minimum(delay, 60), 14)
    frame["label_time"] = frame["event_time"] + pd.to_timedelta((delay * 86_400).round(), unit="s")
    return as_known_at(frame, day(0) + as_of * DAY)


def plain_late(frame: pd.DataFrame, start: pd.Timestamp, end: pd.Timestamp) -> float:
    """Chance of a report after the last known moment, row by row, from the older half's frauds."""
    known_until = max(frame["event_time"].max(), frame["label_time"].max())
    half = frame["event_time"].min() + (known_until - frame["event_time"].min()) / 2
    told = frame[(frame["event_time"] <= half) & frame["is_fraud"].fillna(False)]
    delays = (told["label_time"] - told["event_time"]).tolist()
    moments = frame["event_time"][frame["event_time"].between(start, end, inclusive="left")]
    return float(np.mean([np.mean([delay > known_until - moment for delay in delays]) for moment in moments]))


@pytest.mark.parametrize("seed", range(3))
def test_default_test_waits_for_the_frauds_too(seed):
    frame = slow_reports(seed=seed)
    fold = temporal_fold(frame, SETTLED)
    last = fold.test_end - DAY
    assert plain_late(frame, last, fold.test_end) <= 0.05 < plain_late(frame, last + DAY, fold.test_end + DAY)
    # All genuine rows are settled 14 days back, where the labels alone would have let the test end.
    assert day(120 - 40) < fold.test_end < day(120 - 14 - 7)
    assert fold.late_frauds == pytest.approx(plain_late(frame, fold.test_start, fold.test_end))
    everything = slow_reports(seed=seed, as_of=1000)
    within = everything["event_time"].between(last, fold.test_end, inclusive="left")
    missing = frame["is_fraud"].isna().reindex(everything.index, fill_value=True)
    true = everything["is_fraud"].astype(bool)
    assert (within & missing & true).sum() <= 0.2 * (within & true).sum()


@pytest.mark.parametrize("as_of", [45, 45.3, 45.999])
def test_a_fixed_delay_ends_the_default_test_where_its_labels_end(as_of):
    frame = as_known_at(make(rows=20_000, fixed_delay=True), day(0) + as_of * DAY)
    fold = temporal_fold(frame, SPLIT.model_copy(update={"train_days": 10, "delay_days": 7}))
    assert fold.test_end == day(39 if as_of == 45.999 else 38)
    assert fold.late_frauds < 0.002
    assert "later" not in fold.explain()


def test_a_label_at_the_last_known_moment_is_not_late():
    frame = make(fixed_delay=True)
    frame["event_time"] = frame["event_time"].dt.floor("D")
    frame["label_time"] = frame["event_time"] + 7 * DAY
    fold = temporal_fold(frame, SPLIT.model_copy(update={"delay_days": 7}))
    assert (fold.test_end, fold.late_frauds) == (day(50), 0)


def test_a_stated_test_may_be_later_and_says_what_it_lacks():
    frame = slow_reports()
    default = temporal_fold(frame, SETTLED).test_start
    fold = temporal_fold(frame, SETTLED, test_start=day(99))
    assert fold.test_start > default
    assert fold.late_frauds == pytest.approx(plain_late(frame, day(99), day(106)))
    everything = slow_reports(as_of=1000)
    true = everything["event_time"].between(day(99), day(106), inclusive="left") & everything["is_fraud"]
    unknown = frame["is_fraud"].isna().reindex(everything.index)
    assert fold.late_frauds == pytest.approx((true & unknown).sum() / true.sum(), abs=0.06)
    said = f"; about {100 * fold.late_frauds:.0f} % of the frauds of the test are expected to be reported later."
    assert fold.explain().endswith(said)
    assert fold.explain().count(".") == 1
    early = temporal_fold(frame, SETTLED, test_start=day(60))
    assert early.late_frauds < 0.01
    assert "reported later" not in early.explain()
    # Without a known fraud in the older half the younger ones tell.
    younger = frame.assign(is_fraud=frame["is_fraud"].mask((frame["event_time"] < day(61)) & frame["is_fraud"], False))
    assert temporal_fold(younger, SETTLED, test_start=day(99)).late_frauds > 0.01


def test_refuses_a_default_test_without_mature_frauds():
    with pytest.raises(InputError, match=r"needs 59 days .* found [3-5]\d from 2026-01-01 to .*, where the test"):
        temporal_fold(slow_reports(days=70, as_of=70), SETTLED.model_copy(update={"train_days": 17}))
    # Every genuine row is known after a day, but frauds, of the first five days only, take 45 days of the 50 known.
    frame = make(rows=3000, days=40, fixed_delay=True)
    fraud = frame["is_fraud"].astype(bool) & (frame["event_time"] < day(5))
    frame["is_fraud"] = frame["is_fraud"].mask(~fraud, False)
    frame["label_time"] = frame["event_time"] + pd.to_timedelta(np.where(fraud, 45, 1), unit="D")
    with pytest.raises(InputError, match="95% of the frauds take up to 45 days and what is known ends on 2026-02-19"):
        temporal_fold(frame, SPLIT)


def test_prequential_tests_touch_or_step():
    frame = make()
    folds = prequential_folds(frame, SPLIT, first_test_start=day(38), folds=2, step_days=3)
    assert [fold.name for fold in folds] == ["fold 1", "fold 2"]
    assert [fold.test_start for fold in folds] == [day(38), day(41)]
    np.testing.assert_array_equal(folds[1].test, temporal_fold(frame, SPLIT, test_start=day(41)).test)
    short = SPLIT.model_copy(update={"test_days": 4})
    touching = prequential_folds(frame, short, first_test_start=day(38), folds=3)
    assert [fold.test_end for fold in touching[:-1]] == [fold.test_start for fold in touching[1:]]
    with pytest.raises(InputError, match="folds: must be at least 1; found 0"):
        prequential_folds(frame, SPLIT, first_test_start=day(38), folds=0)


def test_explains_itself_in_one_sentence():
    fold = temporal_fold(make(), SPLIT, test_start=day(40), name="spring")
    said = fold.explain()
    assert said.startswith("Fold 'spring' trains on 2026-01-10 to 2026-01-23 (")
    assert "fits again on 2026-01-22 to 2026-02-04" in said
    assert f"{fold.excluded_transactions:,} transactions of {fold.excluded_customers:,} customers already" in said
    assert f"{fold.unlabelled['train']:,} in train" in said
    assert said.count(".") == 1
    assert "\n" not in said
    assert fold.table()["part"].tolist() == ["train", "valid", "refit", "test"]
    by_card = make().rename(columns={"customer_id": "card_id"})
    cards = temporal_fold(by_card, SPLIT.model_copy(update={"entity": "card_id"}), test_start=day(40))
    np.testing.assert_array_equal(cards.test, fold.test)
    assert "cards already known as victims" in cards.explain()


def test_a_fold_of_the_full_size_takes_less_than_a_second():
    rng = np.random.default_rng(0)
    rows = 1_750_000
    event = pd.Series(START + pd.to_timedelta(np.sort(rng.integers(0, 183 * 86_400, rows)), unit="s"))
    event = event.astype("datetime64[us, UTC]")
    frame = pd.DataFrame(
        {
            "event_time": event,
            "customer_id": rng.integers(0, 5000, rows),
            "is_fraud": pd.array(rng.random(rows) < 0.008, "boolean"),
            "label_time": event + 7 * DAY,
        }
    )
    split = SplitConfig(train_days=60, delay_days=14, valid_days=21, test_days=21)
    started = time.process_time()
    fold = temporal_fold(frame, split)
    assert time.process_time() - started < 1
    assert len(fold.train) > 500_000


# --- refusals -----------------------------------------------------------------------------------------------------


def edited(**columns) -> pd.DataFrame:
    return make().assign(**columns)


@pytest.mark.parametrize(
    ("frame", "changes", "test_start", "sentence"),
    [
        (make().drop(columns="label_time"), {}, 40, "column 'label_time' is missing"),
        (make().drop(columns="is_fraud"), {}, 40, "column 'is_fraud' is missing"),
        (make(), {"entity": "card_id"}, 40, "column 'card_id' is missing; valid are: customer_id"),
        (make().iloc[:0], {}, 40, "the table has no rows"),
        (make().iloc[::-1], {}, 40, "rows must be in the order of event_time"),
        (
            edited(customer_id=make()["customer_id"].where(make()["transaction_id"] > 2)),
            {},
            40,
            "found 3 empty of 3,000 rows",
        ),
        (make(), {"train_days": 40}, None, r"needs 64 days .* found 50 from 2026-01-01 to 2026-02-19"),
        (make(), {}, 25, r"needs 38 days .* found 32 from 2026-01-01 to 2026-02-01"),
        (
            make(),
            {},
            44,
            "2026-02-14 to 2026-02-20 must lie within the data; found transactions from 2026-01-01 to 2026-02-19",
        ),
        (
            edited(is_fraud=False),
            {},
            40,
            "train window 2026-01-10 to 2026-01-23 must hold 5 or more frauds .* found 0 among",
        ),
        (make(), {"min_positives": 500}, 40, "must hold 500 or more frauds .* found [0-9]{2} among"),
        (make(), {"delay_days": 2}, 40, "split.delay_days: must leave labels the time .* set it to [0-9]+ days"),
        (edited(is_fraud=True), {}, 40, "must hold genuine transactions too; found [0-9]+ frauds"),
        (
            edited(is_fraud=make()["is_fraud"].where(make()["event_time"] < day(40), pd.NA)),
            {},
            40,
            "test period 2026-02-10 to 2026-02-16 must have labels; found none among [0-9]+ transactions",
        ),
        (
            edited(is_fraud=make()["is_fraud"].where(make()["event_time"] < day(45), pd.NA)),
            {},
            40,
            "labels of the test period .* must be mature; found 0% known on its last day",
        ),
        (
            edited(is_fraud=make()["is_fraud"].where(make()["transaction_id"] % 2 == 0, pd.NA)),
            {},
            None,
            "latest 7 days with 99% of the labels known and, on the last day, 95% of the frauds reported; found none, "
            "1,[0-9]+ of 3,000 labels are known",
        ),
    ],
)
def test_refuses(frame, changes, test_start, sentence):
    split = SPLIT.model_copy(update=changes)
    with pytest.raises(InputError, match=sentence) as caught:
        temporal_fold(frame, split, test_start=None if test_start is None else day(test_start))
    assert "\n" not in str(caught.value)


def test_refuses_a_moment_without_a_zone_and_a_book_fold_before_the_data():
    with pytest.raises(InputError, match="test_start: must carry a time zone"):
        temporal_fold(make(), SPLIT, test_start=pd.Timestamp("2026-02-10"))
    with pytest.raises(InputError, match="needs 21 days"):
        book_fold(make(fixed_delay=True), train_start=day(-2))
    quiet = make()["event_time"].between(day(28), day(35))
    with pytest.raises(InputError, match=r"valid window .* must hold 1 or more frauds .* found 0 among"):
        temporal_fold(edited(is_fraud=make()["is_fraud"].mask(quiet, False)), SPLIT, test_start=day(40))


def test_is_frozen():
    fold = temporal_fold(make(), SPLIT, test_start=day(40))
    assert isinstance(fold, Fold)
    with pytest.raises(AttributeError):
        fold.name = "other"
