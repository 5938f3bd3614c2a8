"""Calibrators are held against independent optimisers, the published package's own figures, and the metric table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit

from fraudlab.calibration import calibration_errors, fit_calibrator
from fraudlab.metrics import evaluate
from fraudlab.schema import InputError

METHODS = ("isotonic", "sigmoid", "beta")


def scored(rows: int, seed: int, a: float = 0.6, b: float = 2.5, c: float = -1.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose true risk is the beta curve with a, b, c."""
    rng = np.random.default_rng(seed)
    score = np.clip(rng.beta(0.6, 3.0, rows), 1e-6, 1 - 1e-6)
    return score, rng.random(rows) < expit(a * np.log(score) - b * np.log1p(-score) + c)


def negative_log_likelihood(parameters: np.ndarray, score: np.ndarray, y: np.ndarray) -> float:
    """Of the beta curve for Platt's targets, written out."""
    a, b, c = parameters
    frauds, genuine = y.sum(), (~y).sum()
    target = np.where(y, (frauds + 1) / (frauds + 2), 1 / (genuine + 2))
    with np.errstate(over="ignore", divide="ignore"):
        risk = np.clip(1 / (1 + (1 - score) ** b / (np.exp(c) * score**a)), 1e-15, 1 - 1e-15)
    return float(-(target * np.log(risk) + (1 - target) * np.log(1 - risk)).sum())


@pytest.mark.parametrize(
    ("a", "b", "c"), [(0.6, 2.5, -1.0), (1.0, 1.0, 0.0), (-0.4, 2.0, 0.0), (1.5, -1.0, 1.0), (-0.5, -0.5, -2.0)]
)
def test_beta_is_the_likeliest_curve_among_those_that_never_fall(a, b, c):
    score, y = scored(1500, 3, a, b, c)
    curve = fit_calibrator(score, y, "beta")
    starts = [(1.0, 1.0, 0.0), (0.5, 0.0, -1.0), (0.0, 2.0, 0.0)]
    found = [
        minimize(
            negative_log_likelihood,
            start,
            args=(score, y),
            method="SLSQP",
            bounds=[(0, None), (0, None), (None, None)],
            options={"ftol": 1e-12, "maxiter": 500},
        )
        for start in starts
    ]
    best = min(found, key=lambda each: each.fun)
    assert negative_log_likelihood((curve.a, curve.b, curve.c), score, y) <= best.fun + 1e-6
    grid = np.linspace(0.001, 0.999, 500)
    expected = expit(best.x[0] * np.log(grid) - best.x[1] * np.log1p(-grid) + best.x[2])
    np.testing.assert_allclose(curve.apply(grid), np.clip(expected, 1 / 1502, 1501 / 1502), atol=2e-3)
    assert min(curve.a, curve.b) >= 0
    if a < 0 or b < 0:
        assert min(curve.a, curve.b) == 0


def test_beta_agrees_with_the_published_package():
    score, y = scored(20_000, 11)
    risk = fit_calibrator(score, y, "beta").apply([0.001, 0.01, 0.05, 0.2, 0.5, 0.9])
    # betacal 1.1.0, BetaCalibration("abm").fit(score, y) on these rows; it takes the labels as they are.
    theirs = [0.007506, 0.026418, 0.067692, 0.194904, 0.576742, 0.992137]
    np.testing.assert_allclose(risk, theirs, rtol=0.01)


def test_beta_leaves_a_risk_that_is_right_as_it_is():
    rng = np.random.default_rng(0)
    score = rng.uniform(0, 1, 100_000)
    curve = fit_calibrator(score, rng.random(100_000) < score, "beta")
    assert (curve.a, curve.b, curve.c) == pytest.approx((1, 1, 0), abs=0.06)  # four standard errors


@pytest.mark.parametrize("method", METHODS)
def test_risk_never_falls_is_never_certain_and_is_right_on_average(method):
    score, y = scored(3000, 5)
    curve = fit_calibrator(score, y, method)
    risk = curve.apply(np.concatenate([[0.0], np.linspace(0, 1, 2001), [1.0]]))
    assert (np.diff(risk) >= -1e-15).all()
    assert risk.min() >= 1 / 3002
    assert risk.max() <= 3001 / 3002
    assert curve.apply(score).mean() == pytest.approx(y.mean(), rel=0.02)
    assert (curve.rows, curve.frauds) == (3000, y.sum())


@pytest.mark.parametrize("method", METHODS)
def test_scores_that_part_the_classes_give_a_curve_and_no_warning(method, recwarn):
    curve = fit_calibrator([0.1] * 40 + [0.9] * 10, [False] * 40 + [True] * 10, method)
    low, high = curve.apply([0.1, 0.9])
    assert low < 0.05
    assert high > 0.85
    assert not recwarn.list


@pytest.mark.parametrize("method", METHODS)
def test_a_score_that_points_the_wrong_way_is_flattened_not_turned_around(method):
    score = np.linspace(0.01, 0.99, 200)
    y = score < 0.3
    low, high = fit_calibrator(score, y, method).apply([0.01, 0.99])
    assert low == pytest.approx(high)
    assert low == pytest.approx(y.mean(), abs=0.01)


def test_a_score_that_is_one_number_gets_the_base_rate():
    for method in METHODS:
        assert fit_calibrator([0.3] * 20, [True] * 5 + [False] * 15, method).apply([0.3])[0] == pytest.approx(
            0.25, abs=0.03
        )


def test_a_corrected_score_and_an_uncorrected_one_give_the_same_risk():
    # Under-sampling moves the log-odds by a constant: a curve learnt on either side of it takes the constant in.
    score, y = scored(4000, 8)
    moved = expit(logit(score) + np.log(0.05))
    here, there = (fit_calibrator(each, y, "sigmoid").apply(each) for each in (score, moved))
    np.testing.assert_allclose(here, there, atol=1e-6)
    np.testing.assert_array_equal(*(fit_calibrator(each, y, "isotonic").apply(each) for each in (score, moved)))


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="method: must be one of isotonic, sigmoid, beta; found 'platt'"):
        fit_calibrator([0.1, 0.2], [0, 1], "platt")
    with pytest.raises(InputError, match=r"calibration: must hold at least 1 frauds .* found 0 frauds in 3 rows"):
        fit_calibrator([0.1, 0.2, 0.3], [0, 0, 0], "beta")
    with pytest.raises(InputError, match="found 2 scores, 1 of them outside, for 3 labels"):
        fit_calibrator([0.1, 1.2], [0, 0, 1], "beta")
    with pytest.raises(InputError, match=r"at least one fraud; found y 3, entity 3, after 3 and 0 frauds"):
        calibration_errors([0, 0, 0], {"after": [0.1] * 3}, entity=list("abc"))
    with pytest.raises(InputError, match=r"rows of equal number .* found y 2, entity 3, after 2"):
        calibration_errors([0, 1], {"after": [0.1] * 2}, entity=list("abc"))


# -- how wrong it was ----------------------------------------------------------------------------------------------


def test_errors_are_those_of_the_metric_table_and_their_intervals_agree():
    rng = np.random.default_rng(4)
    score, y = scored(4000, 6)
    risk = fit_calibrator(*scored(4000, 7), "beta").apply(score)
    entity = rng.integers(0, 400, 4000)
    table = calibration_errors(y, {"before": score, "after": risk}, entity=entity, model="m", n_boot=400)
    days = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(rng.integers(0, 20, 4000), "D")
    for row in table.itertuples():
        stated = {"before": score, "after": risk}[row.stage]
        other = evaluate(
            y, score, event_time=days, entity=entity, amount=np.ones(4000), k=5, risk=stated, n_boot=400, block="entity"
        )
        (expected,) = other[other["metric"] == "calibration_error"].itertuples()
        assert row.value == pytest.approx(expected.value)
        assert (row.low, row.high) == pytest.approx((expected.low, expected.high), abs=0.03)
        assert row.n == 4000
    before, after = table["value"]
    assert after < 0.6 * before
    assert table["note"].str.contains(f"by chance alone, with {y.sum():,} frauds").all()


def test_frauds_of_four_customers_are_as_unsure_as_four():
    y = np.zeros(1000)
    y[:20] = 1
    own = np.arange(1000)
    few = np.where(y == 1, own % 4, own)
    tables = [
        calibration_errors(y, {"after": np.full(1000, 0.03)}, entity=each, n_boot=300).iloc[0] for each in (own, few)
    ]
    assert [table["value"] for table in tables] == pytest.approx([0.5, 0.5])
    alone, shared = (table["high"] - table["low"] for table in tables)
    assert shared > 1.5 * alone
