"""The checks of what was received: a day missing, a day twice, labels that cannot be believed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fraudlab.checks import CHECKS

DAY = pd.Timedelta(days=1)
START = pd.Timestamp("2026-01-01", tz="UTC")


def payments(days: int = 70, a_day: int = 60, share: float = 0.02, seed: int = 3) -> pd.DataFrame:
    """Payments at chance moments, weekends at half the pace, frauds spread evenly."""
    rng = np.random.default_rng(seed)
    day = np.repeat(np.arange(days), [a_day // 2 if d % 7 >= 5 else a_day for d in range(days)])
    when = START + pd.to_timedelta(np.sort(day * 86_400 + rng.integers(0, 86_400, len(day))), unit="s")
    return pd.DataFrame(
        {
            "transaction_id": [f"t{n}" for n in range(len(when))],
            "event_time": when,
            "customer_id": [f"c{n}" for n in rng.integers(0, 300, len(when))],
            "amount": rng.lognormal(3, 1, len(when)).round(2),
            "merchant_id": [f"m{n}" for n in rng.integers(0, 30, len(when))],
            "is_fraud": pd.array(rng.random(len(when)) < share, dtype="boolean"),
        }
    )


def without(rows: pd.DataFrame, *days: int, keep: float = 0.0) -> pd.DataFrame:
    gone = ((rows["event_time"] - START) // DAY).isin(days) & (np.random.default_rng(1).random(len(rows)) >= keep)
    return rows[~gone].reset_index(drop=True)


@pytest.mark.parametrize("keep", [0.0, 0.1])
def test_fl021_a_missing_day_fires_and_a_day_of_which_little_came(keep):
    finding = CHECKS["FL021"](without(payments(), 30, 34, keep=keep)["event_time"])
    assert (finding.result, finding.blocks) == ("failed", False)
    assert finding.sentence == "Of 68 days 2 have no payment or hardly any: 2026-01-31, 2026-02-04."
    assert finding.table["usual"].tolist() == [60.0, 30.0]


def test_fl021_does_not_fire_for_weekends_half_days_and_cut_ends():
    rows = payments()
    assert CHECKS["FL021"](rows["event_time"]).result == "passed"
    assert CHECKS["FL021"](without(rows, 30, keep=0.5)["event_time"]).result == "passed"
    assert CHECKS["FL021"](rows["event_time"][50:-50]).result == "passed"
    # Closed every Sunday: usual is nothing.
    assert CHECKS["FL021"](without(rows, *range(6, 70, 7))["event_time"]).result == "passed"


def test_fl021_is_not_applicable_where_days_are_quiet():
    assert CHECKS["FL021"](payments(a_day=8)["event_time"]).result == "not applicable"
    assert CHECKS["FL021"](payments()["event_time"][:0]).sentence == "There are no payments."


def test_fl022_a_day_under_new_numbers_fires():
    rows = payments()
    day = rows[(rows["event_time"] - START) // DAY == 12]
    twice = pd.concat([rows, day.assign(transaction_id="x" + day["transaction_id"])], ignore_index=True)
    finding = CHECKS["FL022"](twice)
    assert (finding.result, finding.blocks) == ("failed", True)
    assert finding.sentence == (
        "On 1 of 70 days many payments repeat an earlier one in customer, moment, amount and merchant: 2026-01-13."
    )
    assert finding.table.to_dict("records") == [{"day": "2026-01-13", "payments": 2 * len(day), "repeated": len(day)}]


def test_fl022_does_not_fire_for_single_repeats_and_nothing_is_not_applicable():
    rows = payments()
    assert CHECKS["FL022"](rows).result == "passed"
    assert CHECKS["FL022"](pd.concat([rows, rows[:9]], ignore_index=True)).result == "passed"
    assert CHECKS["FL022"](rows[:0]).result == "not applicable"


UNTIL = START + 60 * DAY


def test_fl023_labels_flipped_to_fraud_fires():
    rows = payments()
    finding = CHECKS["FL023"](rows.assign(is_fraud=pd.array([True] * len(rows), dtype="boolean")), UNTIL)
    assert (finding.result, finding.blocks) == ("failed", True)
    assert finding.sentence.startswith("100 % of ")
    half = np.random.default_rng(0).random(len(rows)) < 0.5
    flipped = rows.assign(is_fraud=rows["is_fraud"] ^ half)
    assert CHECKS["FL023"](flipped, UNTIL).result == "failed"


def test_fl023_a_week_of_flipped_labels_fires():
    rows = payments()
    week = ((rows["event_time"] - START) // DAY).between(28, 34)
    finding = CHECKS["FL023"](rows.assign(is_fraud=rows["is_fraud"] | (week & (rows.index % 3 == 0))), UNTIL)
    assert finding.result == "failed"
    assert "In 1 of 9 weeks labels say fraud more than 5 times as often as usual" in finding.sentence
    assert finding.sentence.endswith("weeks from 2026-01-29.")


def test_fl023_does_not_fire_for_chance_or_young_labels_and_none_is_not_applicable():
    for seed in range(20):
        assert CHECKS["FL023"](payments(seed=seed), UNTIL).result == "passed"
        assert CHECKS["FL023"](payments(a_day=20, share=0.01, seed=seed), UNTIL).result == "passed"
    rows = payments()
    young = (rows["event_time"] - START) // DAY >= 60
    assert CHECKS["FL023"](rows.assign(is_fraud=rows["is_fraud"] | young), UNTIL).result == "passed"
    unknown = rows.assign(is_fraud=pd.array([pd.NA] * len(rows), dtype="boolean"))
    assert CHECKS["FL023"](unknown, UNTIL).result == "not applicable"
