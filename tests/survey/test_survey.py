"""Draws hit each unit with its stated chance, and estimates from them are those of small designs worked out in full."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import poisson

from fraudlab.schema import InputError
from fraudlab.survey import answered_weights, chances_by_rank, draw, inclusion_chances, weighted_total


def test_half_of_the_draws_go_to_the_tenth_that_ranks_highest() -> None:
    score = np.random.default_rng(0).permutation(200)
    chance = chances_by_rank(score, draws=4)
    assert chance.sum() == pytest.approx(4)
    assert chance[score >= 180].sum() == pytest.approx(2)
    assert np.unique(chance.round(12)).size == 2
    assert chance.max() / chance.min() == pytest.approx(9)


def test_equal_scores_get_equal_chances_and_few_units_are_all_drawn() -> None:
    assert np.allclose(chances_by_rank(np.ones(7), draws=2), 2 / 7)
    score = np.array([3.0, 2.0, 2.0, 2.0, *np.ones(16)])
    chance = chances_by_rank(score, draws=1)
    assert np.unique(chance[1:4]).size == 1, "a tie at the border shares what it gets"
    assert chance[0] > chance[1] > chance[4]
    assert chance.sum() == pytest.approx(1)
    assert chances_by_rank([0.5], draws=3).tolist() == [1.0]
    assert chances_by_rank([], draws=3).size == 0
    assert not chances_by_rank([0.5, 0.4], draws=0).any()


@pytest.mark.parametrize("seed", range(20))
def test_chances_are_proportional_unless_certain(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size, draws = rng.lognormal(0, 1.5, 12), float(rng.integers(1, 12))
    chance = inclusion_chances(size, draws)
    assert chance.sum() == pytest.approx(draws)
    assert (chance <= 1).all()
    free = chance < 1
    if free.sum() > 1:
        assert np.allclose(chance[free] / size[free], (chance[free] / size[free])[0])
    assert not free.any() or size[~free].min(initial=np.inf) >= size[free].max()


@pytest.mark.parametrize("seed", range(4))
def test_over_all_starts_each_unit_is_drawn_exactly_as_often_as_its_chance_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    chance = inclusion_chances(rng.lognormal(0, 1, 8), 3)
    order = rng.random(8)
    starts = (np.arange(1000) + 0.5) / 1000
    drawn = np.zeros(8)
    for start in starts:
        found = draw(chance, order, start)
        assert len(found) == 3
        drawn[found] += 1
    assert np.abs(drawn / 1000 - chance).max() <= 1 / 1000 + 1e-9


def test_chances_that_make_no_whole_number_give_one_less_or_one_more() -> None:
    rng = np.random.default_rng(3)
    chance = np.array([0.3, 0.4, 0.5, 0.2])
    sizes = [len(draw(chance, rng.random(4), rng.random())) for _ in range(2000)]
    assert set(sizes) == {1, 2}
    assert np.mean(sizes) == pytest.approx(1.4, abs=0.05)
    assert draw([], [], 0.5).size == 0
    assert draw([1.0, 1.0], [0.1, 0.2], 0.0).tolist() == [0, 1]


def test_the_estimate_is_right_over_every_draw_of_a_small_design() -> None:
    """One of four drawn a day for two days: all 16 outcomes with their chances."""
    fraud = np.array([[True, False, True, False], [False, False, False, True]])
    chance = chances_by_rank([0.9, 0.5, 0.4, 0.1], draws=1)
    expected = 0.0
    for first, second in itertools.product(range(4), repeat=2):
        weights = [1 / chance[unit] for day, unit in enumerate((first, second)) if fraud[day, unit]]
        expected += chance[first] * chance[second] * weighted_total(weights, most=1 / chance.min())[0]
    assert expected == pytest.approx(fraud.sum())


@pytest.mark.parametrize("frauds", [1, 3, 12])
def test_equal_weights_give_the_mid_p_interval_of_a_poisson_number(frauds: int) -> None:
    def tail(mean: float) -> float:
        return poisson.sf(frauds, mean) + 0.5 * poisson.pmf(frauds, mean)

    low = brentq(lambda mean: tail(mean) - 0.025, 1e-9, 100)
    high = brentq(lambda mean: tail(mean) - 0.975, 1e-9, 100)
    assert weighted_total(np.full(frauds, 40.0)) == pytest.approx((40.0 * frauds, 40 * low, 40 * high), rel=1e-6)


def test_estimates_are_right_on_average_and_intervals_hold_the_truth() -> None:
    """Four weeks of 200 cases a day, rarely fraud, likelier where the score is high; two drawn a day."""
    rng = np.random.default_rng(1)
    days, cases, n = 28, 200, 150
    score = rng.random((days, cases))
    fraud = rng.random((days, cases)) < 0.006 + 0.05 * (score > 0.9)
    chance = chances_by_rank(score[0], draws=2)
    low_first = np.sort(chance)  # the k-th smallest score of any day has the k-th smallest chance
    chances = np.take_along_axis(np.tile(low_first, (days, 1)), score.argsort(1).argsort(1), axis=1)
    truth, totals, held = fraud.sum(), [], 0
    for _ in range(n):
        weights = []
        for day in range(days):
            drawn = draw(chances[day], rng.random(cases), rng.random())
            weights += [1 / chances[day, unit] for unit in drawn if fraud[day, unit]]
        total, low, high = weighted_total(weights, most=1 / chances.min())
        totals.append(total)
        held += low <= truth <= high
    error = np.std(totals) / n**0.5
    assert abs(np.mean(totals) - truth) < 4 * error
    assert 0.91 <= held / n < 1


def test_none_found_is_no_proof_of_none() -> None:
    total, low, high = weighted_total([], most=50.0)
    assert (total, low) == (0.0, 0.0)
    assert high == pytest.approx(50 * -np.log(0.05), rel=1e-6), "the rule of three"


def test_answers_stand_for_those_still_out_and_told_frauds_for_themselves() -> None:
    """A third is decided, and a third of the frauds is told by others meanwhile: no bias on average."""
    rng = np.random.default_rng(5)
    n, found, naive = 4000, [], []
    fraud = rng.random(n) < 0.05
    chance = np.full(n, 0.02)
    for _ in range(60):
        answered = rng.random(n) < 1 / 3
        told = fraud & (rng.random(n) < 1 / 3)
        weight = answered_weights(chance, answered, told)
        found.append(weight[fraud].sum())
        either = answered | told
        naive.append((1 / chance)[either & fraud].sum() * n / either.sum())
    truth = 50 * fraud.sum()
    # Told frauds leave those still out with fewer: what is left is a known, small overestimate.
    assert abs(np.mean(found) / truth - 1) < 0.25
    assert np.mean(naive) / truth > 1.5


def test_weights_of_answers_at_their_limits() -> None:
    chance = [0.5, 0.25]
    assert answered_weights(chance, [True, True], [False, False]).tolist() == [2.0, 4.0]
    assert answered_weights(chance, [False, False], [False, False]).tolist() == [0.0, 0.0]
    assert answered_weights(chance, [False, False], [True, False]).tolist() == [0.0, 0.0], "one waits: no estimate"
    assert answered_weights(chance, [False, False], [True, True]).tolist() == [2.0, 4.0]
    assert answered_weights(chance, [True, False], [True, False]).tolist() == [6.0, 0.0]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: chances_by_rank([0.5, np.nan], 1), "scores must be finite; found 1 others of 2"),
        (lambda: inclusion_chances([1.0, 0.0], 1), "sizes must be above 0 and draws not below 0; found 1 other sizes"),
        (lambda: draw([0.5, 1.5], [0.1, 0.2], 0.5), "needs a chance in \\[0, 1\\] and a number per unit"),
        (lambda: draw([0.5], [0.1], 1.0), "a start in \\[0, 1\\)"),
        (lambda: weighted_total([]), "weights must be above 0 and the largest one known; found 0 weights"),
        (lambda: weighted_total([-1.0], most=2.0), "weights must be above 0"),
    ],
)
def test_what_makes_no_sense_is_refused(call, said: str) -> None:
    with pytest.raises(InputError, match=said):
        call()
