"""What alerts are worth: unbiased before labels where risks are calibrated, and corrected for labels still to come."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fraudlab.delays import ReportDelays
from fraudlab.drift import cases_of, estimate_error, precision_chart, weekly_performance
from fraudlab.schema import InputError

START = pd.Timestamp("2026-01-01", tz="UTC")
DAY = pd.Timedelta(days=1)


def world(seed: int, days: int = 70, rows: int = 14_000) -> tuple[pd.DataFrame, np.ndarray]:
    """Payments whose risks are true probabilities; frauds are reported after about six days, exponentially."""
    rng = np.random.default_rng(seed)
    risk = rng.beta(0.3, 6, rows)
    fraud = rng.random(rows) < risk
    time = START + pd.to_timedelta(np.sort(rng.integers(0, days * 86_400, rows)), unit="s")
    delay = pd.to_timedelta(rng.exponential(6, rows) * 86_400, unit="s")
    payments = pd.DataFrame(
        {
            "event_time": time,
            "customer_id": [f"c{number}" for number in range(rows)],
            "is_fraud": pd.array(fraud, dtype="boolean"),
            "label_time": time + delay,
        }
    )
    return payments, risk


def performance(seed: int, as_of: pd.Timestamp) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    payments, risk = world(seed)
    known = payments[payments["is_fraud"].astype(bool) & (payments["label_time"] <= as_of)]
    delays = ReportDelays.of((known["label_time"] - known["event_time"]) / DAY, (as_of - known["event_time"]) / DAY)
    cases = cases_of(payments, risk, risk, review=0.25, as_of=as_of)
    return weekly_performance(cases, start=START, as_of=as_of, delays=delays), payments, risk


def test_estimates_of_true_risks_are_unbiased_and_labels_agree_once_corrected() -> None:
    as_of = START + 70 * DAY
    expected, found, naive, truth = [], [], [], []
    for seed in range(6):
        table, payments, risk = performance(seed, as_of)
        week = ((payments["event_time"] - START) // (7 * DAY)).to_numpy()
        last = (week == 8) & (risk >= 0.25)  # seven to fourteen days old: some three quarters known
        row = table.iloc[8]
        assert not row["mature"]
        expected.append(row["precision_expected"])
        found.append(row["precision"])
        naive.append(row["hits"] / row["alerts"])
        truth.append(payments["is_fraud"].to_numpy(dtype=bool)[last].mean())
    assert np.mean(expected) == pytest.approx(np.mean(truth), abs=0.02)
    assert np.mean(found) == pytest.approx(np.mean(truth), abs=0.03)
    assert np.mean(naive) < np.mean(truth) - 0.05


def test_mature_weeks_measure_the_error_and_correct_a_bias() -> None:
    as_of = START + 70 * DAY
    table, *_ = performance(1, as_of)
    error = estimate_error(table).set_index("metric")
    assert abs(error.loc["precision", "bias"]) < 0.05
    payments, risk = world(1)
    cases = cases_of(payments, risk, np.minimum(2 * risk, 1), review=0.25, as_of=as_of)
    known = payments[payments["is_fraud"].astype(bool) & (payments["label_time"] <= as_of)]
    delays = ReportDelays.of((known["label_time"] - known["event_time"]) / DAY, (as_of - known["event_time"]) / DAY)
    flattered = weekly_performance(cases, start=START, as_of=as_of, delays=delays)
    error = estimate_error(flattered).set_index("metric")
    assert error.loc["precision", "bias"] > 0.2
    assert abs(error.loc["corrected precision", "bias"]) < 0.03
    assert flattered["precision_corrected"].iloc[-1] == pytest.approx(table["precision_expected"].iloc[-1], abs=0.06)


def test_cases_join_a_day_and_know_no_later_label() -> None:
    time = pd.to_datetime(["2026-01-01 08:00", "2026-01-01 22:00", "2026-01-03 08:00"], utc=True)
    rows = pd.DataFrame(
        {
            "event_time": time,
            "customer_id": "a",
            "is_fraud": pd.array([True, None, False], dtype="boolean"),
            "label_time": pd.to_datetime(["2026-01-02 12:00", None, None], utc=True),
        }
    )
    early = cases_of(rows, [0.2, 0.7, 0.6], [0.1, 0.3, 0.2], review=0.5, as_of=pd.Timestamp("2026-01-02", tz="UTC"))
    assert early["fraud"].tolist() == [False, False]
    late = cases_of(rows, [0.2, 0.7, 0.6], [0.1, 0.3, 0.2], review=0.5, as_of=pd.Timestamp("2026-01-04", tz="UTC"))
    assert late[["score", "risk", "alerted", "fraud", "known_victim"]].values.tolist() == [
        [0.7, 0.3, True, True, False],
        [0.6, 0.2, True, False, True],
    ]
    unlabelled = cases_of(rows.drop(columns=["is_fraud", "label_time"]), [0, 0, 0], [0, 0, 0], review=1, as_of=time[2])
    assert not unlabelled["fraud"].any()


def test_what_cannot_be_told_is_said() -> None:
    payments, risk = world(2, rows=400)
    as_of = START + 70 * DAY
    blind = weekly_performance(
        cases_of(payments, risk, np.full(400, np.nan), review=0.25, as_of=as_of), start=START, as_of=as_of, delays=None
    )
    assert blind["precision"].isna().all()
    assert blind["note"].iloc[0] == (
        "not applicable in part: the model states no risks to expect from; no fraud is known yet to learn from how "
        "soon they are reported"
    )
    quiet = weekly_performance(
        cases_of(payments, risk, risk, review=2.0, as_of=as_of), start=START, as_of=as_of, delays=None
    )
    assert set(quiet["note"]) == {"not applicable: no alert in this week"}
    assert precision_chart(quiet).empty
    assert estimate_error(quiet)["note"].iloc[0] == "not applicable: fewer than three mature weeks to measure it by"
    with pytest.raises(InputError, match=r"^weekly performance: there must be a whole week; found none"):
        weekly_performance(cases_of(payments, risk, risk, review=1, as_of=as_of), start=as_of, as_of=as_of, delays=None)
