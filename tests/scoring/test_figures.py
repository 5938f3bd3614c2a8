"""What is kept of a scorer's work: counts by minute, times, newest alerts; bounded, and nobody in it."""

from __future__ import annotations

import datetime as dt
import sys
import threading
from itertools import pairwise

import numpy as np
import pytest

from fraudlab.reasons import Reason
from fraudlab.scoring.figures import BOUNDS, MINUTES, NEWEST, SCORES, Figures, quantile
from fraudlab.scoring.live import Answer
from fraudlab.scoring.scorer import Scored

BEGIN = 1_800_000_000.0
PAID = dt.datetime(2027, 1, 15, 7, 59, 58, tzinfo=dt.UTC)


def answer(number, *, tier="low", action="approve", amount=12.5, score=0.1, kind="scored"):
    payment = {"transaction_id": f"t{number}", "customer_id": "code", "amount": amount}
    scored = Scored(f"t{number}", PAID, score, 0.2, tier, action, (), np.zeros(2), payment, kind == "late")
    return Answer(number, kind, scored)


def test_each_event_counts_once_and_where_it_belongs():
    figures = Figures(BEGIN)
    pace = [Reason("R02", "pace", "3 payments of 77.10", "x", 1.0)]
    figures.note([answer(1), answer(2, tier="high", action="manual_review")], 0.002, now=BEGIN, reasons={2: pace})
    figures.note([Answer(3, "refused", said="no"), Answer(4, "labels"), Answer(5, "too_late")], 9.0, now=BEGIN + 61)
    figures.note([answer(6, kind="late")], 0.5, now=BEGIN + 61)
    figures.refuse(2, now=BEGIN + 62)
    read = figures.read(BEGIN + 125)
    assert read.kinds == {"scored": 2, "refused": 3, "labels": 1, "too_late": 1, "late": 1}
    assert (read.tiers, read.actions) == ({"low": 2, "high": 1}, {"manual_review": 1})
    assert [minute.payments for minute in read.minutes[-3:]] == [2, 1, 0]
    assert [minute.alerts for minute in read.minutes[-3:]] == [1, 0, 0]
    assert [minute.unusable for minute in read.minutes[-3:]] == [0, 4, 0]
    assert np.diff([minute.start for minute in read.minutes]).tolist() == [60] * (MINUTES - 1)
    assert sum(read.took) == 3
    assert read.seconds == pytest.approx(0.502)
    assert read.last == BEGIN + 61
    [alert] = read.alerts
    assert (alert.number, alert.band, alert.reasons, alert.minute % 60) == (2, 1, (("R02", "pace"),), 0)
    assert "77.10" not in repr(read), "sentences hold values"


@pytest.mark.parametrize(("amount", "band"), [(0, 0), (9.99, 0), (10, 1), (4_999.99, 4), (5_000, 5), (10**6, 5)])
def test_an_amount_is_kept_as_its_band(amount, band):
    figures = Figures(BEGIN)
    figures.note([answer(1, tier="high", action="manual_review", amount=amount)], 0.001, now=BEGIN)
    assert figures.read(BEGIN).alerts[0].band == band


def test_memory_is_bounded_and_an_hour_without_events_is_one_of_zeros():
    figures = Figures(BEGIN)
    for number in range(3_000):
        figures.note([answer(number, tier="high", action="decline", score=number)], 1e-3, now=BEGIN + 20 * number)
    read = figures.read(BEGIN + 60_000)
    assert [alert.number for alert in read.alerts] == list(range(2_999, 2_999 - NEWEST, -1))
    assert read.scores.tolist() == list(range(3_000 - SCORES, 3_000))
    assert len(read.minutes) == MINUTES
    assert read.tiers == {"high": 3_000}
    later = figures.read(BEGIN + 200_000)
    assert sum(minute.payments for minute in later.minutes) == 0
    assert sum(later.took) == 3_000


def test_a_clock_that_is_set_back_counts_into_the_newest_minute():
    figures = Figures(BEGIN)
    figures.note([answer(1)], 0.001, now=BEGIN + 600)
    figures.note([answer(2)], 0.001, now=BEGIN)
    assert figures.read(BEGIN).minutes[-1].payments == 2


def test_times_are_told_within_fifteen_per_cent():
    spent = np.random.default_rng(0).lognormal(-7.5, 1.2, 5_000)
    figures = Figures(BEGIN)
    for number, seconds in enumerate(spent):
        figures.note([answer(number)], seconds, now=BEGIN)
    took = figures.read(BEGIN).took
    for share in (0.01, 0.5, 0.9, 0.99, 0.999):
        assert quantile(took, share) == pytest.approx(np.quantile(spent, share), rel=0.15)
    assert max(b / a for a, b in pairwise(BOUNDS)) < 1.15
    figures.note([answer(0)], 1e9, now=BEGIN)
    assert quantile(figures.read(BEGIN).took, 1) == BOUNDS[-1]
    assert quantile([0] * 5, 0.5) is None


def test_threads_lose_no_count():
    figures = Figures(BEGIN)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def work():
        for number in range(500):
            figures.note([answer(number)], 0.001, now=BEGIN + number)
            if number % 50 == 0:
                figures.read(BEGIN + number)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)
    read = figures.read(BEGIN + 500)
    assert read.kinds == {"scored": 2_000}
    assert sum(minute.payments for minute in read.minutes) == 2_000
