"""Delays are held against simulations of which the truth is known, and against scipy's Kaplan-Meier curve."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import CensoredData, ecdf

from fraudlab.delays import ReportDelays, decision_delays, report_delays
from fraudlab.schema import InputError

AS_OF = pd.Timestamp("2026-06-30", tz="UTC")
DAY = pd.Timedelta(days=1)


def frauds(rng: np.random.Generator, n: int, *, days: int = 90, mean: float = 8.0) -> tuple[pd.Series, pd.Series]:
    """Frauds of the last days, ever more of them, reported after exponential delays; when paid, when reported."""
    age = days * (1 - np.sqrt(rng.random(n)))  # twice as many young ones as old ones
    paid = AS_OF - pd.to_timedelta(age, unit="D")
    return pd.Series(paid), pd.Series(paid + pd.to_timedelta(rng.exponential(mean, n), unit="D"))


def test_young_frauds_do_not_make_reports_look_quick() -> None:
    paid, told = frauds(np.random.default_rng(0), 4000)
    table = report_delays(paid, told, AS_OF).set_index("days")
    assert table["n"].iloc[0] == (told <= AS_OF).sum()
    seen = ((told - paid) / DAY)[told <= AS_OF]
    for day in (3, 7, 14, 28):
        truth = 1 - np.exp(-day / 8)
        assert table.loc[day, "share"] == pytest.approx(truth, abs=0.025)
        assert table.loc[day, "low"] <= table.loc[day, "share"] <= table.loc[day, "high"]
    assert (seen <= 7).mean() > 1 - np.exp(-7 / 8) + 0.03, "the plain share is too high here"
    assert table["share"].is_monotonic_increasing
    assert table["share"].iloc[-1] == 1


def test_intervals_hold_the_truth_about_nineteen_times_in_twenty() -> None:
    rng, n, held = np.random.default_rng(1), 150, np.zeros(3)
    at = np.array([3, 7, 14])
    for _ in range(n):
        paid, told = frauds(rng, 250)
        table = report_delays(paid, told, AS_OF).set_index("days").loc[at]
        truth = (1 - np.exp(-at / 8)) / (1 - np.exp(-90 / 8))
        held += (table["low"] <= truth) & (truth <= table["high"])
    assert ((held / n > 0.89) & (held / n < 0.995)).all()


def test_nothing_is_known_before_a_day_that_holds_all_who_could_show_it() -> None:
    # Two old frauds of 20 days; a young one of 1 day could not have shown 20.
    delays = ReportDelays.of(delay=[20, 20, 1], age=[60, 60, 5])
    assert delays.share.tolist() == [0.0, 1.0]
    assert (delays.low[0], delays.high[0]) == (0.0, 1.0)
    table = delays.table().set_index("days")
    assert table.loc[0, "high"] == 1.0
    assert table.loc[20, ["share", "low", "high"]].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.filterwarnings("ignore:The confidence interval is undefined")
def test_cases_that_wait_count_as_long_as_they_have_waited_as_in_scipy() -> None:
    rng = np.random.default_rng(2)
    begin = pd.Series(AS_OF - pd.to_timedelta(rng.uniform(1, 30, 200), unit="D"))
    decided = begin + pd.to_timedelta(rng.exponential(6, 200), unit="D")
    table = decision_delays(begin, decided, AS_OF).set_index("days")
    done = (decided <= AS_OF).to_numpy()
    waited = ((decided.where(done, AS_OF) - begin) / DAY).to_numpy()
    curve = ecdf(CensoredData.right_censored(waited, ~done)).sf
    ends = curve.confidence_interval(method="log-log")
    for day in (1, 3, 7, 14):
        assert table.loc[day, "share"] == pytest.approx(1 - curve.evaluate(day))
        assert table.loc[day, "low"] == pytest.approx(1 - ends.high.evaluate(day))
        assert table.loc[day, "high"] == pytest.approx(1 - ends.low.evaluate(day))
        assert table.loc[day, "share"] == pytest.approx(1 - np.exp(-day / 6), abs=0.12)


def test_the_curve_of_cases_by_hand() -> None:
    begin = pd.Series([AS_OF - 10 * DAY] * 4)
    decided = pd.Series([begin[0] + 2 * DAY, begin[0] + 5 * DAY, pd.NaT, AS_OF + DAY])
    table = decision_delays(begin, decided, AS_OF).set_index("days")
    assert table["share"].loc[[1, 2, 4, 5, 10]].tolist() == [0.0, 0.25, 0.25, 0.5, 0.5]
    everyone = decision_delays(begin, begin + DAY, AS_OF)
    assert everyone["share"].tolist() == [0.0, 1.0]
    assert everyone["low"].iloc[-1] == 0.0, "four at once prove little"


def test_without_any_there_is_no_row() -> None:
    none = pd.Series([], dtype="datetime64[us, UTC]")
    assert report_delays(none, none, AS_OF).empty
    late = pd.Series([AS_OF - DAY])
    assert report_delays(late, late + 3 * DAY, AS_OF).empty
    assert decision_delays(none, none, AS_OF).empty
    assert list(report_delays(none, none, AS_OF)) == list(decision_delays(none, none, AS_OF))


def test_what_cannot_be_is_refused() -> None:
    paid = pd.Series([AS_OF - DAY])
    with pytest.raises(InputError, match="from 0 to its age; found 1 delays, 1 ages and 1 that do not fit"):
        report_delays(paid, paid - DAY, AS_OF)
    with pytest.raises(InputError, match="no case may begin after it was decided or after as_of; found 1 of 1"):
        decision_delays(paid, paid - DAY, AS_OF)
