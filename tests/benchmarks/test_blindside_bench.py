"""The benchmark of selective labels counts by the truth, and labels only what somebody looked at."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import blindside as bench  # noqa: E402


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> bench.World:
    """Thirty customers, one payment a day each; the last three begin to commit a new fraud when reports end."""
    monkeypatch.setattr(bench, "WEEKS", 2)
    monkeypatch.setattr(bench, "PER_DAY", 1)
    days, customers = bench.BEGIN + 14, 30
    place = np.arange(days * customers)
    day, who = place // customers, place % customers
    old, new = who < 2, (who >= 27) & (day >= bench.BEGIN)
    features = pd.DataFrame({"a": (who < 2) + 0.01 * who, "b": (who >= 27).astype(float)})
    time = pd.Series(pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(day * 24 + 9, unit="h"))
    return bench.World(features, time, np.array([f"c{each:02d}" for each in who]), old | new, new)


def test_a_week_is_counted_by_the_truth(world: bench.World) -> None:
    weeks = bench.lived(world, bench.Way(random=2), seed=1)
    assert weeks["cases"].tolist() == [35, 35], "two old and three new ones a day"
    assert weeks["listed"].tolist() == [7, 7]
    assert (weeks["found"] + weeks["hidden"] == weeks["cases"]).all()
    assert weeks["drawn"].tolist() == [14, 14]
    assert (weeks["drawn_frauds"] <= weeks["hidden"]).all()
    assert ((weeks["low"] <= weeks["estimate"]) & (weeks["estimate"] <= weeks["high"])).all()
    told = bench.judged(weeks)
    assert told["recall"] == weeks["found"].iloc[1] / 35
    assert bench.lived(world, bench.Way(), seed=1)["low"].isna().all()


def test_what_nobody_looked_at_is_not_learnt_as_fraud(world: bench.World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = bench.fit_estimator

    def fit(X: pd.DataFrame, y: np.ndarray, **given: object) -> object:
        seen.append((int(y.sum()), len(y)))
        return real(X, y, **given)

    monkeypatch.setattr(bench, "fit_estimator", fit)
    bench.lived(world, bench.Way(reports=True), seed=1)
    bench.lived(world, bench.Way(), seed=1)
    bench.lived(world, bench.Way(unlabelled="left out"), seed=1)
    reports, reviews, left_out = seen[1], seen[3], seen[5]
    assert reports[0] == 2 * bench.LEARNT_DAYS + 3 * 7
    assert reviews[0] <= 2 * (bench.LEARNT_DAYS - 7) + 7, "at most one a day was listed"
    assert reviews[1] == reports[1] == 30 * bench.LEARNT_DAYS
    assert left_out[1] == 30 * (bench.LEARNT_DAYS - 7) + 7


def test_the_table_has_a_line_for_each_way() -> None:
    numbers = {"recall": 0.5, "recall_new": 0.4, "precision": 0.3, "hidden_a_week": 9.0, "estimate_a_week": 8.0}
    numbers |= {"covered": 1.0, "frauds_drawn": 1.0, "cases_drawn": 280.0}
    rows = [{"way": way, "world": world, **numbers} for way in bench.WAYS for world in (1, 2)]
    rows[0] |= {"recall": 0.7}
    told = bench.summed(rows)
    assert told["every fraud is reported"]["recall"][:2] == pytest.approx([0.6, 0.1])
    page = bench.markdown({"ways": told, "worlds": 2})
    assert len(page.splitlines()) == 2 + len(bench.WAYS)
    assert "| every fraud is reported | 60.0% | 40.0% | +10.0 ± 127.1 points | 30.0% | 9.0 | 8.0 | 100% |" in page
