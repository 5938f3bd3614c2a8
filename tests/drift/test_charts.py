"""Charts against published run lengths, brute force and planted hours."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fraudlab.drift import cusum, cusum_arl, hour_by_weekday, share_chart
from fraudlab.schema import InputError


@pytest.mark.parametrize(
    ("h", "shift", "days"),
    # Montgomery, Introduction to Statistical Quality Control, table 9.3: two-sided, k = 1/2.
    [(4, 0.0, 168), (4, 0.5, 26.6), (4, 1.0, 8.38), (5, 0.0, 465), (5, 1.0, 10.4), (5, 2.0, 4.01)],
)
def test_run_lengths_are_the_published_ones(h: float, shift: float, days: float) -> None:
    assert cusum_arl(0.5, h, shift) == pytest.approx(days, rel=0.01)


def test_run_length_of_one_side_and_by_simulation() -> None:
    rng = np.random.default_rng(1)
    runs = []
    for _ in range(250):
        up, down = cusum(rng.normal(0.5, size=400), k=1.0)
        runs.append(int(np.argmax(np.maximum(up, down) >= 2.0)) + 1)
    assert cusum_arl(1.0, 2.0, 0.5) == pytest.approx(np.mean(runs), rel=0.2)
    assert cusum_arl(0.5, 4, two_sided=False) == pytest.approx(2 * cusum_arl(0.5, 4), rel=1e-6)
    with pytest.raises(InputError, match=r"^cusum_arl: k must be >= 0 and h above 0; found k 0.5 and h 0; take"):
        cusum_arl(0.5, 0)


def test_sums_follow_their_definition_and_one_odd_day_is_cut() -> None:
    rng = np.random.default_rng(2)
    z = rng.normal(size=50)
    up, down = cusum(z, 0.5)
    high = low = 0.0
    for day, value in enumerate(z):
        high, low = max(0.0, high + value - 0.5), max(0.0, low - value - 0.5)
        assert (up[day], down[day]) == pytest.approx((high, low))
    assert cusum([100.0], 1.0)[0].tolist() == [3.0]


def test_limits_of_shares_widen_where_weeks_wander() -> None:
    rng = np.random.default_rng(3)
    cases = np.full(400, 50)
    calm = share_chart(rng.binomial(50, 0.4, 400), cases)
    assert calm["outside"].mean() < 0.01
    assert calm["high"].iloc[0] == pytest.approx(0.4 + 3 * np.sqrt(0.24 / 50), abs=0.05)
    level = np.clip(rng.normal(0.4, 0.15, 400), 0.02, 0.98)
    wild = share_chart(rng.binomial(50, level), cases)
    assert wild["outside"].mean() < 0.02
    assert wild["high"].iloc[0] > calm["high"].iloc[0] + 0.1
    fell = share_chart([20, 21, 19, 20, 22, 20, 2], [50] * 7, baseline=6)
    assert fell["outside"].tolist() == [False] * 6 + [True]


def test_shares_without_limits_say_why() -> None:
    assert share_chart([1, 2], [5, 5])["note"].iloc[0] == (
        "not applicable: fewer than 6 periods with cases to set limits by"
    )
    assert share_chart([0] * 8, [5] * 8)["note"].iloc[0].startswith("not applicable: a share of 0 or 1")
    gap = share_chart([1] * 7 + [0], [5] * 7 + [0])
    assert np.isnan(gap["value"].iloc[-1])
    assert not gap["outside"].iloc[-1]
    with pytest.raises(InputError, match="at most as many hits as cases; found 1 hits for 1 periods, 1 of them"):
        share_chart([6], [5])


def hours(rng: np.random.Generator, weeks: int = 8) -> tuple[pd.DatetimeIndex, np.ndarray]:
    """Payments with a daily and weekly rhythm, some days busier than others."""
    moments = []
    for day in range(7 * weeks):
        busy = rng.gamma(60, 1 / 60) * (1.3 if day % 7 == 4 else 1.0)
        for hour in range(24):
            n = rng.poisson(busy * (4 + 30 * np.exp(-((hour - 15) ** 2) / 18)))
            moments.append(day * 86_400 + hour * 3_600 + rng.integers(0, 3_600, n))
    time = pd.Timestamp("2026-01-05", tz="UTC") + pd.to_timedelta(np.sort(np.concatenate(moments)), unit="s")
    return pd.DatetimeIndex(time), rng.lognormal(3, 0.8, len(time))


def test_hours_are_standard_normal_while_nothing_changes() -> None:
    tables = []
    for seed in range(3):
        time, amount = hours(np.random.default_rng(seed))
        tables.append(hour_by_weekday(time, amount, until=pd.Timestamp("2026-03-02", tz="UTC")))
    table = pd.concat(tables)
    assert len(tables[0]) == 168
    assert table["note"].eq("").all()
    for column in ("z", "amount_z"):
        values = table[column].dropna()
        assert abs(values.mean()) < 0.1
        assert values.std() == pytest.approx(1, abs=0.15)
        assert (values.abs() > 4).mean() < 0.004


def test_a_silent_hour_and_amounts_in_cents_are_found() -> None:
    time, amount = hours(np.random.default_rng(7))
    silent = (time >= "2026-02-26 14:00") & (time < "2026-02-26 15:00")
    cents = (time >= "2026-02-27 10:00") & (time < "2026-02-27 11:00")
    table = hour_by_weekday(
        time[~silent], np.where(cents, amount * 100, amount)[~silent], until=pd.Timestamp("2026-03-02", tz="UTC")
    )
    found = table[table["z"].abs() > 4]
    assert found[["hour", "n"]].values.tolist() == [[14, 0]]
    found = table[table["amount_z"].abs() > 4]
    assert found["hour"].tolist() == [10]
    assert found["day"].dt.strftime("%Y-%m-%d").tolist() == ["2026-02-27"]


def test_a_broken_day_of_the_past_is_no_guide() -> None:
    time, amount = hours(np.random.default_rng(8))
    broken = (time >= "2026-02-20") & (time < "2026-02-21") & (np.arange(len(time)) % 10 > 0)
    whole = hour_by_weekday(time, amount, until=pd.Timestamp("2026-03-02", tz="UTC"))
    left = hour_by_weekday(time[~broken], amount[~broken], until=pd.Timestamp("2026-03-02", tz="UTC"))
    friday = left["day"] == pd.Timestamp("2026-02-27", tz="UTC")
    assert (left.loc[friday, "z"].abs() < 4).all()
    assert (left.loc[friday, "expected"] / whole.loc[friday, "expected"]).mean() == pytest.approx(1, abs=0.1)


def test_too_little_history_is_said() -> None:
    time, amount = hours(np.random.default_rng(9), weeks=3)
    table = hour_by_weekday(time, amount, until=pd.Timestamp("2026-01-26", tz="UTC"))
    assert table["z"].isna().all()
    assert table["note"].iloc[0] == "not applicable: fewer than three usual days of the same weekday before"
