"""Splits in shares: cut by rank as published protocols do, with every promise of the folds in days kept."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fraudlab.config import SplitConfig
from fraudlab.schema import InputError
from fraudlab.splits import prequential_folds, temporal_fold

FAST = {"min_positives": 1, "exclude_known_compromised": False}


def rows(seconds: np.ndarray, *, delay_hours: float = 0.0, customers: int = 50) -> pd.DataFrame:
    """One transaction per second given, every tenth a fraud, labels known after a fixed delay."""
    at = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(np.sort(seconds), unit="s")
    at = pd.Series(at).astype("datetime64[us, UTC]")
    return pd.DataFrame(
        {
            "event_time": at,
            "customer_id": np.arange(len(at)) % customers,
            "is_fraud": pd.array(np.arange(len(at)) % 10 == 0, dtype="boolean"),
            "label_time": at + pd.Timedelta(hours=delay_hours),
        }
    )


def test_the_test_is_the_last_fifth_by_rank_of_two_days_of_data() -> None:
    # As of the ULB payments: two days, more by day than by night, so that a fifth of the rows is no fifth of the time.
    rng = np.random.default_rng(0)
    frame = rows(np.concatenate([rng.integers(0, 100_000, 300), rng.integers(100_000, 172_792, 700)]))
    fold = temporal_fold(frame, SplitConfig(test_share=0.2, valid_share=0.15, delay_days=0, **FAST))
    # An oracle that knows no windows: positions by rank.
    assert fold.test.tolist() == list(range(800, 1000))
    assert fold.valid.tolist() == list(range(650, 800))
    assert fold.train.tolist() == list(range(650))
    assert fold.refit.tolist() == list(range(800))


def test_without_a_refit_on_the_latest_the_training_rows_serve() -> None:
    fold = temporal_fold(
        rows(np.arange(1000) * 60), SplitConfig(test_share=0.2, delay_days=0, refit_on_latest=False, **FAST)
    )
    assert fold.refit is fold.train
    assert len(fold.train) == 700


def test_transactions_of_one_moment_are_never_on_both_sides() -> None:
    # Eight months of unlike size, each at one moment, as of the Bank Account Fraud applications.
    sizes = [132, 128, 137, 151, 128, 119, 108, 97]
    frame = rows(np.repeat(np.arange(8) * 30 * 86_400, sizes))
    fold = temporal_fold(frame, SplitConfig(test_share=0.2, valid_share=0.1, delay_days=0, **FAST))
    month = np.repeat(np.arange(8), sizes)
    assert set(month[fold.test]) == {6, 7}
    assert set(month[fold.valid]) == {5}
    assert set(month[fold.train]) == {0, 1, 2, 3, 4}
    assert len(fold.refit) + len(fold.test) == len(frame)


def test_the_delay_lies_before_the_validation_and_before_the_test() -> None:
    frame = rows(np.arange(2000) * 3600.0, delay_hours=72)  # 83 days, a row an hour
    fold = temporal_fold(frame, SplitConfig(test_share=0.2, valid_share=0.1, delay_days=3, **FAST))
    moment = frame["event_time"].to_numpy()
    three = np.timedelta64(3, "D")
    assert moment[fold.test].min() - moment[fold.refit].max() > three
    assert moment[fold.test].min() - moment[fold.valid].max() > three
    assert moment[fold.valid].min() - moment[fold.train].max() > three
    assert len(fold.valid) == 200
    # Every label that is learnt from was known when the test began.
    assert (frame["label_time"].to_numpy()[fold.refit] <= moment[fold.test].min()).all()


def test_rows_whose_labels_are_not_settled_do_not_count() -> None:
    frame = rows(np.arange(1000) * 3600.0, delay_hours=24)
    frame.loc[frame.index[-72:], "is_fraud"] = pd.NA  # the last three days are still open
    frame.loc[frame.index[-72:], "label_time"] = pd.NaT
    fold = temporal_fold(frame, SplitConfig(test_share=0.25, valid_share=0.1, delay_days=1, **FAST))
    settled = np.flatnonzero(frame["is_fraud"].notna())
    assert fold.test.max() <= settled.max()
    # Whole days: the 928 settled rows end within a day, whose open hours keep the whole day out.
    last_day = frame["event_time"].iloc[settled.max()].floor("D")
    before = int((frame["event_time"] < last_day).sum())
    assert len(fold.test) == round(0.25 * before)


def test_known_victims_are_left_out_of_a_test_in_shares() -> None:
    frame = rows(np.arange(1000) * 3600.0, customers=1000)
    frame.loc[[100, 900], "customer_id"] = 77  # a fraud in training, and a row in the test
    frame.loc[100, "is_fraud"] = True
    split = SplitConfig(test_share=0.2, delay_days=0, min_positives=1)
    fold = temporal_fold(frame, split)
    assert 900 not in fold.test
    assert (fold.excluded_customers, fold.excluded_transactions) == (1, 1)


def test_a_fold_within_days_says_hours() -> None:
    fold = temporal_fold(rows(np.arange(1000) * 60), SplitConfig(test_share=0.2, delay_days=0, **FAST))
    assert "tests on 2026-01-01 13:20 to 2026-01-02 00:00 (200 transactions, 20 frauds)" in fold.explain()


def test_a_delay_that_leaves_nothing_to_learn_from_is_refused() -> None:
    frame = rows(np.arange(1000) * 600.0)  # a week
    with pytest.raises(
        InputError, match=r"something must be left to learn from; found transactions from 2026-01-01 to"
    ):
        temporal_fold(frame, SplitConfig(test_share=0.2, valid_share=0.1, delay_days=3, **FAST))


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"test_share": 0.6, "valid_share": 0.4}, "must leave a share to learn from"),
        ({"test_share": 0.2, "test_start": "2026-01-01"}, "split.test_share and split.test_start exclude each other"),
    ],
)
def test_shares_that_cannot_be_are_refused(keys: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        SplitConfig(**keys)


def test_folds_one_after_the_other_need_days() -> None:
    with pytest.raises(InputError, match="needs lengths in days"):
        prequential_folds(
            rows(np.arange(1000) * 3600.0),
            SplitConfig(test_share=0.2),
            first_test_start=pd.Timestamp("2026-01-20", tz="UTC"),
        )
