"""Decisions: budgets kept on the data they were chosen on, tiers that rise with the score, refusals."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from fraudlab.config import DecisionConfig
from fraudlab.decisions import (
    TIERS,
    Thresholds,
    actions_for,
    assign_tiers,
    choose_thresholds,
    least_cost_threshold,
    threshold_at_false_positive_rate,
    tier_table,
    worth_reviewing,
)
from fraudlab.schema import InputError

START = pd.Timestamp("2026-03-01", tz="UTC")


def make(rows=3000, days=14, entities=200, seed=0):
    rng = np.random.default_rng(seed)
    event_time = START + pd.to_timedelta(rng.integers(0, days * 86_400, rows), unit="s")
    return rng.random(rows), event_time, np.array([f"c{i}" for i in rng.integers(0, entities, rows)])


def cases_at(score, event_time, entity, threshold) -> float:
    """Cases a day that reach a threshold, counted with sets."""
    reached = {(t.date(), e) for s, t, e in zip(score, event_time, entity) if s >= threshold}
    return len(reached) / len({t.date() for t in event_time})


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("alerts", "step_up", "limited"), [(1, 0, 0), (10, 30, 2), (7, 5, 7), (0.5, 1.5, 0.5)])
def test_thresholds_fill_the_budget_on_their_own_data(seed, alerts, step_up, limited):
    given = make(seed=seed)
    chosen = choose_thresholds(*given, alerts_per_day=alerts, step_up_per_day=step_up, limit_per_day=limited)
    assert cases_at(*given, chosen.review) == alerts
    assert cases_at(*given, chosen.step_up) == alerts + step_up
    if limited:
        assert cases_at(*given, chosen.limit) == limited
    else:
        assert chosen.limit is None


def test_equal_scores_never_exceed_the_budget():
    score, event_time, entity = make()
    score = np.round(score, 2)
    chosen = choose_thresholds(score, event_time, entity, alerts_per_day=10, step_up_per_day=30)
    for threshold, budget in ((chosen.review, 10), (chosen.step_up, 40)):
        lower = score[score < threshold].max()
        assert cases_at(score, event_time, entity, threshold) <= budget
        assert cases_at(score, event_time, entity, lower) > budget
    tied = choose_thresholds(np.full(3000, 0.4), event_time, entity, alerts_per_day=10, step_up_per_day=30)
    assert cases_at(np.full(3000, 0.4), event_time, entity, tied.review) == 0
    assert np.isfinite(tied.review)


def test_a_budget_above_the_cases_alerts_every_case():
    given = make()
    chosen = choose_thresholds(*given, alerts_per_day=10_000, step_up_per_day=0)
    by_case = pd.Series(given[0]).groupby([given[1].date, given[2]]).max()
    assert cases_at(*given, chosen.review) == len(by_case) / 14
    assert chosen.review == by_case.min()


def test_times_count_in_utc():
    score, event_time, entity = make()
    chosen = [
        choose_thresholds(score, time, entity, alerts_per_day=3, step_up_per_day=3)
        for time in (event_time, event_time.tz_convert("Asia/Tokyo"), event_time.tz_convert(None))
    ]
    assert chosen[0] == chosen[1] == chosen[2]


@pytest.mark.parametrize("limit", [None, 0.95])
def test_tiers_rise_with_the_score(limit):
    score = np.sort(make()[0])
    tiers = assign_tiers(score, Thresholds(review=0.8, step_up=0.5, limit=limit))
    assert tiers.ordered
    assert list(tiers.categories) == list(TIERS) == ["low", "elevated", "high", "severe"]
    assert (np.diff(tiers.codes) >= 0).all()
    counts = pd.Series(tiers).value_counts()
    assert counts["low"] == (score < 0.5).sum()
    assert counts["elevated"] == ((score >= 0.5) & (score < 0.8)).sum()
    assert counts["severe"] == (0 if limit is None else (score >= limit).sum())
    edges = assign_tiers([0.5, 0.8, 0.95], Thresholds(review=0.8, step_up=0.5, limit=limit))
    assert list(edges) == ["elevated", "high", "high" if limit is None else "severe"]


def test_every_tier_has_an_action_and_a_sentence():
    tiers = assign_tiers([0.1, 0.6, 0.85, 0.99], Thresholds(review=0.8, step_up=0.5, limit=0.95))
    expected = ["approve", "step_up_authentication", "manual_review", "limit_and_review"]
    assert actions_for(tiers).tolist() == expected == [tier.action for tier in TIERS.values()]
    assert actions_for(tiers).dtype == "str"
    assert all(tier.sentence.endswith(".") and len(tier.sentence) > 20 for tier in TIERS.values())


def test_tier_table_equals_a_group_by():
    rng = np.random.default_rng(3)
    score, amount = make()[0], rng.lognormal(3, 1, 3000)
    y = pd.array(rng.random(3000) < score / 4, dtype="boolean")
    tiers = assign_tiers(score, Thresholds(review=0.8, step_up=0.5))
    table = tier_table(y, tiers, amount).set_index("tier")
    assert table.columns.tolist() == ["action", "transactions", "frauds", "fraud_rate", "amount", "fraud_amount"]
    fraud = np.asarray(y, dtype=bool)
    for name in ("low", "elevated", "high"):
        rows = tiers == name
        expected = [
            rows.sum(),
            (rows & fraud).sum(),
            fraud[rows].mean(),
            amount[rows].sum(),
            amount[rows & fraud].sum(),
        ]
        np.testing.assert_allclose(table.loc[name].iloc[1:].astype(float), expected)
    assert table.loc["severe", "transactions"] == 0
    assert np.isnan(table.loc["severe", "fraud_rate"])
    assert table["transactions"].sum() == 3000


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
def test_cases_per_day_compare_with_the_plan(zone):
    score, event_time, entity = make()
    planned = {"alerts_per_day": 10, "step_up_per_day": 30, "limit_per_day": 2}
    thresholds = choose_thresholds(score, event_time, entity, **planned)
    tiers = assign_tiers(score, thresholds)
    y, amount = score > 0.9, np.ones(3000)
    table = tier_table(y, tiers, amount, event_time=event_time.tz_convert(zone), entity=entity)
    best = {}
    for time, who, tier in zip(event_time, entity, tiers.codes):
        best[time.date(), who] = max(tier, best.get((time.date(), who), 0))
    assert table["cases_per_day"].tolist() == [list(best.values()).count(code) / 14 for code in range(4)]
    found = table.set_index("tier")["cases_per_day"]
    assert (found["severe"], found["high"], found["elevated"]) == (2, 8, 30)
    plain = tier_table(y, tiers, amount)
    assert "cases_per_day" not in plain
    pd.testing.assert_frame_equal(table.drop(columns="cases_per_day"), plain)


def test_cases_are_counted_on_the_days_given():
    tiers = assign_tiers([0.9, 0.1, 0.9, 0.1], Thresholds(review=0.8, step_up=0.5))
    days = pd.to_datetime(["2026-03-01", "2026-03-01", "2026-03-09", "2026-03-09"], utc=True)
    table = tier_table(
        [1, 0, 0, 0], tiers, [1.0] * 4, event_time=pd.Series(days, index=[5, 6, 7, 8]), entity=list("aaab")
    )
    assert table["cases_per_day"].tolist() == [0.5, 0, 1, 0]


def test_thresholds_travel_through_json():
    for thresholds in (Thresholds(review=0.8, step_up=0.3), Thresholds(review=0.8, step_up=0.3, limit=0.9)):
        assert Thresholds.from_dict(json.loads(json.dumps(thresholds.to_dict()))) == thresholds


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"review": 0.8, "stepup": 0.3}, "unknown key 'stepup'; did you mean 'step_up'"),
        ({"review": 0.8}, "key 'step_up' is missing"),
        ({"review": "high", "step_up": 0.3}, "thresholds: must be numbers"),
        ({"review": 0.2, "step_up": 0.3}, "step_up <= review <= limit; found step_up 0.3, review 0.2"),
        ({"review": 0.8, "step_up": 0.3, "limit": 0.7}, "step_up <= review <= limit"),
        ({"review": float("nan"), "step_up": 0.3}, "must be finite"),
    ],
)
def test_thresholds_refuse(values, sentence):
    with pytest.raises(InputError, match=sentence):
        Thresholds.from_dict(values)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"alerts_per_day": 0}, "alerts_per_day: must be above 0; found 0"),
        ({"step_up_per_day": -1}, "step_up_per_day: must be >= 0; found -1"),
        ({"limit_per_day": 6}, r"limit_per_day: must lie in \[0, alerts_per_day\]; found 6 of 5"),
        ({"score": [np.nan] * 3000}, "score: must be finite; found 3,000 others of 3,000"),
        ({"score": []}, "score: must have at least one entry"),
        ({"score": [0.5]}, "one entry per transaction each; found score 1, event_time 3,000"),
        ({"entity": [None] * 3000}, "entity: must not be missing; found 3,000"),
    ],
)
def test_choosing_refuses(changes, sentence):
    score, event_time, entity = make()
    given = {"score": score, "event_time": event_time, "entity": entity, "alerts_per_day": 5, "step_up_per_day": 5}
    with pytest.raises(InputError, match=sentence):
        choose_thresholds(**(given | changes))


def test_tier_table_refuses():
    tiers = assign_tiers([0.1, 0.9], Thresholds(review=0.8, step_up=0.5))
    with pytest.raises(InputError, match="y: outcomes must be known; found 1 missing"):
        tier_table(pd.array([True, None], "boolean"), tiers, [1.0, 2.0])
    with pytest.raises(InputError, match="found y 1, tiers 2, amount 2"):
        tier_table([1], tiers, [1.0, 2.0])
    with pytest.raises(InputError, match="found y 2, tiers 2, amount 2, event_time 1, entity 2"):
        tier_table([1, 0], tiers, [1.0, 2.0], event_time=[START], entity=["a", "b"])
    for given in ({"event_time": [START, START]}, {"entity": ["a", "b"]}):
        with pytest.raises(InputError, match="event_time, entity: must be given together to count cases; found one"):
            tier_table([1, 0], tiers, [1.0, 2.0], **given)
    with pytest.raises(InputError, match="entity: must not be missing; found 1 missing"):
        tier_table([1, 0], tiers, [1.0, 2.0], event_time=[START, START], entity=["a", None])
    with pytest.raises(InputError, match="tiers: must be low, elevated, high, severe; found 1 others"):
        tier_table([1, 0], ["low", "hot"], [1.0, 2.0])


# --- thresholds by cost and by a rate, against every threshold there is -------------------------------------------


def labelled(seed=0, digits=None, rows=400):
    """Scores that tell frauds a little, with amounts; rounding forces ties."""
    rng = np.random.default_rng(seed)
    score, event_time, entity = make(rows=rows, days=5, entities=60, seed=seed)
    y = rng.random(rows) < 0.1
    score = np.clip(score * 0.7 + 0.3 * y, 0, 1)
    return y, score if digits is None else np.round(score, digits), event_time, entity, rng.lognormal(3, 1, rows)


def cost_at(y, score, event_time, entity, amount, threshold, review_cost, recovery_rate, false_alarm_cost) -> float:
    """What reviewing from a threshold on costs, less what it saves, counted case by case."""
    cases: dict = {}
    for bad, s, t, e, money in zip(y, score, event_time, entity, amount):
        case = cases.setdefault((t.date(), e), [False, 0.0, False])
        case[0] |= bool(s >= threshold)
        case[1] += money if bad else 0.0
        case[2] |= bool(bad)
    reviewed = [(money, bad) for taken, money, bad in cases.values() if taken]
    return sum(review_cost + (0 if bad else false_alarm_cost) - recovery_rate * money for money, bad in reviewed)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("digits", [None, 1])
@pytest.mark.parametrize("costs", [(3.0, 0.8, 0.0), (1.0, 1.0, 4.0), (0.0, 0.5, 0.0), (500.0, 0.8, 0.0)])
def test_the_least_cost_threshold_is_the_cheapest_of_all(seed, digits, costs):
    given = labelled(seed, digits)
    names = ("review_cost", "recovery_rate", "false_alarm_cost")
    chosen = least_cost_threshold(*given, **dict(zip(names, costs)))
    every = [cost_at(*given, threshold, *costs) for threshold in [*np.unique(given[1]), np.inf]]
    assert cost_at(*given, chosen, *costs) == pytest.approx(min(every))
    if costs[0] == 500:
        assert chosen > given[1].max(), "no review pays, so nobody is reviewed"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("digits", [None, 1])
@pytest.mark.parametrize("rate", [0.001, 0.05, 0.3, 0.999])
def test_the_threshold_at_a_rate_is_the_lowest_that_keeps_it(seed, digits, rate):
    y, score, *_ = labelled(seed, digits)
    chosen = threshold_at_false_positive_rate(y, score, rate)
    assert (score[~y] >= chosen).mean() <= rate
    lower = np.unique(score)[np.unique(score) < chosen]
    if len(lower):
        assert (score[~y] >= lower[-1]).mean() > rate


def test_a_payment_is_worth_reviewing_when_its_expected_saving_is():
    risk, amount = np.random.default_rng(0).random((2, 200)) * [[1], [100]]
    costs = {"review_cost": 10.0, "recovery_rate": 0.8, "false_alarm_cost": 3.0}
    if_fraud, if_genuine = 10 - 0.8 * amount, 10 + 3  # what a review costs; leaving the payment alone costs nothing
    expected = risk * if_fraud + (1 - risk) * if_genuine
    assert worth_reviewing(risk, amount, **costs).tolist() == (expected < 0).tolist()
    assert 20 < (expected < 0).sum() < 180
    assert not worth_reviewing([1.0], [12.5], review_cost=10, recovery_rate=0.8).any(), "no gain is no reason"


def test_another_rule_sets_the_review_and_budgets_stay_beside_it():
    given = make()
    planned = {"alerts_per_day": 5, "step_up_per_day": 20, "limit_per_day": 2}
    chosen = choose_thresholds(*given, **planned, review=0.9)
    assert chosen.review == 0.9
    reviewed = cases_at(*given, 0.9)
    assert reviewed + 20 - 1 < cases_at(*given, chosen.step_up) <= reviewed + 20
    assert cases_at(*given, chosen.limit) == 2
    nobody = choose_thresholds(*given, **planned, review=2.0)
    assert (nobody.review, nobody.limit) == (2.0, 2.0)
    assert cases_at(*given, nobody.step_up) == 20


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: threshold_at_false_positive_rate([0, 1], [0.1, 0.2], 1.0), r"rate: must lie in \(0, 1\); found 1.0"),
        (lambda: threshold_at_false_positive_rate([1, 1], [0.1, 0.2], 0.1), "y: needs genuine transactions"),
        (lambda: threshold_at_false_positive_rate([1, None], [0.1, 0.2], 0.1), "y: outcomes must be known; found 1"),
        (lambda: threshold_at_false_positive_rate([1], [0.1, 0.2], 0.1), "found score 2, y 1; pass the same rows"),
    ],
)
def test_a_rate_refuses(call, sentence):
    with pytest.raises(InputError, match=sentence):
        call()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"review_cost": -1}, "review_cost: must be finite and >= 0; found -1; correct decision.review_cost"),
        ({"false_alarm_cost": np.inf}, "false_alarm_cost: must be finite and >= 0; found inf"),
        ({"recovery_rate": 1.2}, r"recovery_rate: must lie in \[0, 1\]; found 1.2"),
        ({"amount": [-1.0] * 400}, "amount: must be finite and >= 0; found 400 others of 400"),
        ({"entity": ["a"]}, "found score 400, y 400, event_time 400, entity 1, amount 400"),
    ],
)
def test_least_cost_refuses(changes, sentence):
    names = ("y", "score", "event_time", "entity", "amount")
    with pytest.raises(InputError, match=sentence):
        least_cost_threshold(**(dict(zip(names, labelled())) | {"review_cost": 1, "recovery_rate": 0.8} | changes))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("customer_id", "'customer_id' points at a person or a single payment; name a column of few, large groups"),
        ("is_fraud", "'is_fraud' makes no groups of customers; name a column such as age_band"),
    ],
)
def test_groups_of_customers_are_no_names_and_no_outcomes(name, sentence):
    with pytest.raises(ValueError, match=sentence):
        DecisionConfig(groups=(name,))
    assert DecisionConfig(groups=("country", "age_band")).groups == ("country", "age_band")
