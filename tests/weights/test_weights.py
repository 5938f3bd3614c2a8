"""Weights are held against closed forms, other libraries and simulations of which the truth is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from scipy.stats import ecdf
from sklearn.linear_model import LogisticRegression

from fraudlab.config import SamplingConfig
from fraudlab.delays import ReportDelays
from fraudlab.schema import InputError
from fraudlab.weights import (
    MOST,
    drawn,
    held_out_scores,
    prior_corrected,
    prior_shift,
    reported_share,
    training_weights,
)

AS_OF = pd.Timestamp("2026-03-01", tz="UTC")


def rows(n: int = 400, *, frauds: int = 40, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    age = rng.uniform(20, 60, n)
    event = AS_OF - pd.to_timedelta(age, unit="D")
    y = np.zeros(n, dtype=bool)
    y[rng.choice(n, frauds, replace=False)] = True
    return {
        "y": y,
        "event_time": event,
        "label_time": event + pd.to_timedelta(np.where(y, rng.uniform(1, 20, n), 14), unit="D"),
        "amount": rng.lognormal(3, 1, n),
        "as_of": AS_OF,
        "seed": 0,
    }


# -- class, age, amount --------------------------------------------------------------------------------------------


def test_default_settings_weigh_nothing():
    assert training_weights(**rows(), sampling=SamplingConfig()) is None


def test_class_age_and_amount_multiply_and_keep_each_others_meaning():
    given = rows()
    y, amount = given["y"], given["amount"]
    weight = training_weights(
        **given, sampling=SamplingConfig(fraud_weight=7, recency_half_life_days=9, amount_power=0.5)
    )
    age = np.asarray((AS_OF - given["event_time"]) / pd.Timedelta(days=1))
    recency = np.exp2(-age / 9)
    expected = recency / recency.mean()
    expected[y] *= 7 * np.sqrt(amount[y]) / np.sqrt(amount[y]).mean()
    np.testing.assert_allclose(weight, expected, rtol=1e-9)

    # Each factor on its own leaves the sum it must not touch.
    alone = {
        "age": training_weights(**given, sampling=SamplingConfig(recency_half_life_days=9)),
        "amount": training_weights(**given, sampling=SamplingConfig(amount_power=1)),
    }
    assert alone["age"].sum() == pytest.approx(len(y))
    assert alone["amount"][y].sum() == pytest.approx(y.sum())
    assert set(alone["amount"][~y]) == {1.0}
    older, newer = np.argmax(age), np.argmin(age)
    assert alone["age"][newer] / alone["age"][older] == pytest.approx(2 ** ((age[older] - age[newer]) / 9))


def test_a_constant_factor_of_all_weights_does_not_depend_on_when_it_is_known():
    given = rows()
    sampling = SamplingConfig(recency_half_life_days=9)
    later = given | {"as_of": AS_OF + pd.Timedelta(days=100)}
    np.testing.assert_allclose(
        training_weights(**given, sampling=sampling), training_weights(**later, sampling=sampling), rtol=1e-12
    )


# -- under-sampling ------------------------------------------------------------------------------------------------


def test_the_draw_keeps_every_fraud_and_so_many_genuine_rows_by_seed():
    given = rows()
    y = given["y"]
    sampling = SamplingConfig(genuine_per_fraud=3.5)
    weight = training_weights(**given, sampling=sampling)
    assert set(weight) == {0.0, 1.0}
    assert weight[y].all()
    assert weight[~y].sum() == 140
    np.testing.assert_array_equal(weight, training_weights(**given, sampling=sampling))
    assert (weight != training_weights(**given | {"seed": 1}, sampling=sampling)).any()
    # Every genuine row has the same chance: 1,000 draws, five standard errors.
    chance = np.mean([drawn(y, 3.5, seed) for seed in range(1000)], axis=0)[~y]
    share = 140 / 360
    assert np.abs(chance - share).max() < 5 * np.sqrt(share * (1 - share) / 1000)


def test_more_genuine_rows_than_there_are_means_all_of_them():
    y = rows()["y"]
    assert drawn(y, 1e6, 0).all()
    assert prior_shift(y, SamplingConfig(genuine_per_fraud=1e6)) == 0.0


def test_the_shift_of_the_log_odds_is_the_published_formula():
    y = rows()["y"]
    score = np.linspace(0.001, 0.999, 97)
    shift = prior_shift(y, SamplingConfig(genuine_per_fraud=2))
    kept = 80 / 360
    published = kept * score / (kept * score - score + 1)
    np.testing.assert_allclose(expit(logit(score) + shift), published, rtol=1e-12)
    np.testing.assert_allclose(prior_corrected(score, kept), published, rtol=1e-12)


@pytest.mark.parametrize(
    "sampling",
    [SamplingConfig(genuine_per_fraud=4), SamplingConfig(fraud_weight=20)],
    ids=["under-sampling", "class weight"],
)
def test_after_the_shift_a_sampled_fit_states_the_true_risk(sampling):
    """The truth is known: a logistic world of 2 % fraud. Unshifted, the risks are several times too high."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=200_000)
    truth = expit(1.5 * x - 4.8)
    y = rng.random(len(x)) < truth
    event = pd.DatetimeIndex(AS_OF - pd.to_timedelta(np.linspace(40, 20, len(x)), unit="D"))
    weight = training_weights(
        y, event_time=event, label_time=event, amount=np.ones(len(x)), as_of=AS_OF, sampling=sampling, seed=1
    )
    used = weight > 0
    fitted = LogisticRegression(C=np.inf).fit(x[used, None], y[used], sample_weight=weight[used])
    margin = fitted.decision_function(x[:, None])
    assert expit(margin).mean() > 4 * truth.mean()
    right = expit(margin + prior_shift(y, sampling))
    assert right.mean() == pytest.approx(truth.mean(), rel=0.03)
    assert np.abs(right - truth).max() < 0.04


# -- delayed feedback ----------------------------------------------------------------------------------------------


def test_delays_are_those_of_the_definition_and_of_the_plain_distribution_when_nothing_is_truncated():
    rng = np.random.default_rng(2)
    age = rng.uniform(1, 60, 3000)
    delay = rng.integers(1, 40, 3000).astype(float)
    seen = delay <= age
    delay, age = delay[seen], age[seen]
    found = ReportDelays.of(delay, age)
    # Brute force, one delay at a time, from its definition.
    share, expected = 1.0, {}
    for day in sorted(set(delay), reverse=True):
        expected[day] = share
        at_risk = ((delay <= day) & (day <= age)).sum()
        share *= 1 - (delay == day).sum() / at_risk
    np.testing.assert_allclose(found.share, [expected[day] for day in found.days], atol=1e-12)
    # Old enough to show everything: nothing is truncated, and it is the plain distribution of the delays.
    plain = ReportDelays.of(delay, np.full(len(delay), 100.0))
    counted = ecdf(delay).cdf
    np.testing.assert_array_equal(plain.days, counted.quantiles)
    np.testing.assert_allclose(plain.share, counted.probabilities, atol=1e-12)


def test_delays_find_the_truth_where_the_plain_distribution_is_too_short():
    rng = np.random.default_rng(3)
    age = rng.uniform(0, 60, 40_000)
    delay = np.minimum(rng.lognormal(np.log(8), 0.9, 40_000), 59.9)
    seen = delay <= age
    found = ReportDelays.of(delay[seen], age[seen])
    for day in (3, 8, 15, 30):
        truth = (delay <= day).mean()
        assert found.by(day) == pytest.approx(truth, abs=0.02)
        assert (delay[seen] <= day).mean() > truth + 0.025


def test_delayed_feedback_restores_the_frauds_of_every_age():
    """Of 30,000 frauds some are not reported yet; weighted, each age has as many as there truly are."""
    rng = np.random.default_rng(4)
    n = 200_000
    age = rng.uniform(1, 60, n)
    truth = rng.random(n) < 0.15
    delay = np.minimum(rng.lognormal(np.log(8), 0.9, n), 59.9)
    reported = truth & (delay <= age)
    event = pd.DatetimeIndex(AS_OF - pd.to_timedelta(age, unit="D"))
    told = (event + pd.to_timedelta(delay, unit="D")).where(reported)
    y = pd.array(np.where(reported, True, pd.NA), dtype="boolean")
    weight = training_weights(
        y,
        event_time=event,
        label_time=told,
        amount=np.ones(n),
        as_of=AS_OF,
        sampling=SamplingConfig(labels="delayed_feedback"),
        seed=0,
    )
    for low, high in ((5, 10), (10, 20), (20, 40), (40, 60)):
        band = (age >= low) & (age < high)
        assert weight[band & reported].sum() == pytest.approx(truth[band].sum(), rel=0.06)
        # What is not reported counts as genuine as often as it truly is.
        assert weight[band & ~reported].sum() == pytest.approx((~truth)[band].sum(), rel=0.01)
    assert weight.max() <= MOST
    naive = reported[(age >= 5) & (age < 10)].sum() / truth[(age >= 5) & (age < 10)].sum()
    assert naive < 0.6


def test_labels_that_are_known_weigh_one_when_every_fraud_is_reported_in_time():
    given = rows()
    given["label_time"] = given["event_time"] + pd.Timedelta(days=7)
    weight = training_weights(**given, sampling=SamplingConfig(labels="delayed_feedback"))
    np.testing.assert_array_equal(weight, np.ones(len(weight)))


# -- frauds that nobody reports ------------------------------------------------------------------------------------


def hidden_world(seed: int, share: float, n: int = 150_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    truth = expit(2.0 * x - 3.5)
    fraud = rng.random(n) < truth
    return x, truth, fraud & (rng.random(n) < share)


def pu_weights(y: np.ndarray, score: np.ndarray, share: float | None) -> np.ndarray:
    event = pd.DatetimeIndex(AS_OF - pd.to_timedelta(np.linspace(40, 20, len(y)), unit="D"))
    sampling = SamplingConfig(labels="positive_unlabelled", reported_share=share)
    return training_weights(
        y,
        event_time=event,
        label_time=event,
        amount=np.ones(len(y)),
        as_of=AS_OF,
        sampling=sampling,
        seed=0,
        score=score,
    )


def test_positive_unlabelled_weights_are_those_of_elkan_and_noto():
    """Their form doubles each unlabelled row: as fraud of weight w and as genuine of 1 - w, by their eq. 4."""
    _, truth, y = hidden_world(1, 0.6)
    score = 0.6 * truth  # the ideal probability of a report
    weight = pu_weights(y, score, 0.6)
    w = (1 - 0.6) / 0.6 * score / (1 - score)
    np.testing.assert_allclose(weight[~y], (1 - w)[~y], rtol=1e-9)
    assert set(weight[y]) == {1 / 0.6}
    # Both forms hold as much fraud and as much genuine mass, up to the draw of the labels.
    assert weight[y].sum() == pytest.approx(y.sum() + w[~y].sum(), rel=0.02)


def test_positive_unlabelled_finds_the_true_risk_when_two_in_five_frauds_are_hidden():
    x, truth, y = hidden_world(2, 0.6)

    def fit_and_score(learn: np.ndarray, at: np.ndarray) -> np.ndarray:
        # The probability of a report is bent (0.6 times a logistic curve): a spline basis follows it.
        basis = np.column_stack([x, x**2, x**3])
        return LogisticRegression(C=np.inf, max_iter=1000).fit(basis[learn], y[learn]).predict_proba(basis[at])[:, 1]

    score = held_out_scores(y, fit_and_score)
    weight = pu_weights(y, score, 0.6)
    naive = LogisticRegression(C=np.inf).fit(x[:, None], y).predict_proba(x[:, None])[:, 1]
    corrected = LogisticRegression(C=np.inf).fit(x[:, None], y, sample_weight=weight).predict_proba(x[:, None])[:, 1]
    assert naive.mean() == pytest.approx(0.6 * truth.mean(), rel=0.03)
    assert corrected.mean() == pytest.approx(truth.mean(), rel=0.03)
    assert np.abs(corrected - truth).mean() < np.abs(naive - truth).mean() / 5


def test_the_reported_share_is_found_where_classes_part_and_too_low_where_they_overlap():
    rng = np.random.default_rng(6)
    fraud = rng.random(50_000) < 0.1
    y = fraud & (rng.random(50_000) < 0.7)
    assert reported_share(np.where(fraud, 0.7, 0.0), y) == pytest.approx(0.7)
    _, truth, y = hidden_world(3, 0.7)
    assert reported_share(0.7 * truth, y) < 0.45


def test_held_out_scores_come_from_models_that_have_not_seen_the_row():
    y = np.tile([True, False, False], 10)
    seen: dict[int, set[int]] = {}

    def fit_and_score(learn: np.ndarray, at: np.ndarray) -> np.ndarray:
        seen.update({int(row): set(learn.tolist()) for row in at})
        return np.zeros(len(at))

    held_out_scores(y, fit_and_score, blocks=4)
    assert sorted(seen) == list(range(30))
    assert all(row not in learnt for row, learnt in seen.items())
    assert all(len(learnt) >= 22 for learnt in seen.values())


# -- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "sampling", "sentence"),
    [
        ({"amount": [1.0]}, {"fraud_weight": 2}, r"weights: need an entry for each training row.*amount 1"),
        ({"y": np.zeros(400, bool)}, {"fraud_weight": 2}, r"found 0 frauds of 400 rows; lengthen the training period"),
        ({"y": pd.array([pd.NA, True] * 200, "boolean")}, {"fraud_weight": 2}, r"found 200 unknown of 400"),
        (
            {"amount": np.full(400, -1.0)},
            {"fraud_weight": 2},
            r"amount must be finite and >= 0; found 400 others of 400",
        ),
        ({"amount": np.zeros(400)}, {"amount_power": 1}, r"amount_power needs frauds of an amount above 0; found 40"),
        ({"as_of": AS_OF - pd.Timedelta(days=30)}, {"fraud_weight": 2}, r"event_time must be there and not lie after"),
        ({}, {"labels": "positive_unlabelled"}, r"needs each row's held-out score; found none"),
        (
            {"score": np.full(400, 2.0)},
            {"labels": "positive_unlabelled"},
            r"found 400 for 400 rows, 400 of them outside",
        ),
    ],
)
def test_bad_rows_are_refused_in_one_sentence(change, sampling, sentence):
    with pytest.raises(InputError, match=sentence) as refused:
        training_weights(**rows() | change, sampling=SamplingConfig(**sampling))
    assert "\n" not in str(refused.value)


def test_times_without_a_zone_or_missing_labels_times_are_refused():
    given = rows()
    with pytest.raises(InputError, match="event_time must carry a time zone; found none"):
        training_weights(
            **given | {"event_time": given["event_time"].tz_localize(None)}, sampling=SamplingConfig(fraud_weight=2)
        )
    told = given["label_time"].where(np.arange(400) > 4)
    with pytest.raises(InputError, match=r"label_time must be there .* found 5 missing and 0 later of 400"):
        training_weights(**given | {"label_time": told}, sampling=SamplingConfig(labels="delayed_feedback"))


def test_other_bad_arguments_are_refused():
    with pytest.raises(InputError, match="kept: must be a share above 0"):
        prior_corrected([0.5], 0)
    with pytest.raises(InputError, match=r"delays: need the delay of each reported fraud.* 1 that do not fit"):
        ReportDelays.of([5.0, 1.0], [4.0, 9.0])
    with pytest.raises(InputError, match="found all 1 frauds in one"):
        held_out_scores(np.array([True, False, False]), lambda learn, at: np.zeros(len(at)))


def test_a_share_without_its_method_is_refused():
    with pytest.raises(ValueError, match=r"reported_share belongs to labels = 'positive_unlabelled'"):
        SamplingConfig(reported_share=0.9)
