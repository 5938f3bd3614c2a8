"""The policy: least expected cost by brute force, severity that never falls with risk, budgets kept, people asked."""

from __future__ import annotations

import doctest
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraudlab.config import DecisionConfig
from fraudlab.decisions import (
    ACTIONS,
    ADVERSE,
    TIERS,
    WHY,
    ActionCost,
    Policy,
    decide,
    expected_costs,
    with_prices,
)
from fraudlab.schema import InputError

START = pd.Timestamp("2026-03-01", tz="UTC")
USUAL = Policy(ActionCost(0.5, 0, 0.6), ActionCost(2, 0, 0.7), ActionCost(15, 0, 0.8), ActionCost(0, 25, 1))
PEOPLE = ("manual_review", "limit_and_review")


def drawn(seed: int, *, automatic: tuple[str, ...] = ()) -> Policy:
    """Costs in any size; stops and friction rise along the order, as a policy demands."""
    rng = np.random.default_rng(seed)
    stops, friction = np.sort(rng.random(4)), np.sort(rng.exponential(5, 4))
    four = [ActionCost(float(rng.exponential(6)), float(f), float(s)) for f, s in zip(friction, stops)]
    return Policy(*four, loss_given_fraud=float(rng.random()), automatic=automatic)


def cheapest(risk: float, amount: float, policy: Policy) -> tuple[str, str]:
    """What is done and what is proposed, from one payment's costs written out by hand; no budget, rules or ratings."""
    loss = risk * amount * policy.loss_given_fraud
    numbers = {
        "approve": (0.0, 0.0, 0.0),
        **{
            name: (each.cost, each.friction, each.stops)
            for name, each in zip(
                ("step_up_authentication", "limit", "manual_review", "decline"),
                (policy.step_up, policy.limit, policy.review, policy.decline),
            )
        },
    }
    cost = {name: c + (1 - risk) * f + loss * (1 - s) for name, (c, f, s) in numbers.items()}
    wished = min(cost, key=cost.get)
    alone = {name: value for name, value in cost.items() if name not in ADVERSE or name in policy.automatic}
    done = min(alone, key=alone.get)
    return done, wished


@pytest.mark.parametrize("automatic", [(), ("decline",), ("limit", "decline")])
@pytest.mark.parametrize("seed", range(6))
def test_the_action_is_the_cheapest_of_all_that_may_be_done(seed: int, automatic: tuple[str, ...]) -> None:
    rng, policy = np.random.default_rng(100 + seed), drawn(seed, automatic=automatic)
    risk, amount = rng.random(400) ** 3, np.round(rng.lognormal(4, 1.5, 400), 2)
    found = decide(risk, amount, policy)
    assert set(found["why"]) <= {WHY[name] for name in ("cheapest", "person", "not_worth", "automatic")}
    assert (
        (found["why"] == WHY["cheapest"])
        .eq((found["action"] == found["proposed"]) & ~found["action"].isin(ADVERSE))
        .all()
    )
    expected = [cheapest(p, a, policy) for p, a in zip(risk, amount)]
    assert list(zip(found["action"], found["proposed"])) == expected
    costs = expected_costs(risk, amount, policy)
    named = costs.to_numpy()[np.arange(400), [list(costs).index(name) for name in found["proposed"]]]
    np.testing.assert_allclose(named, costs.min(axis=1))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.floats(0.01, 5000),
    st.tuples(st.sampled_from([0.0, 3.0, 200.0]), st.sampled_from([0.0, 1.0, 50.0])),
    st.sampled_from([(), ("decline",), ("limit",), ("limit", "decline")]),
)
def test_a_higher_risk_never_gets_a_milder_action(seed: int, amount: float, prices, automatic) -> None:
    policy = replace(drawn(seed, automatic=automatic), review_price=prices[0], step_up_price=prices[1])
    found = decide(np.linspace(0, 1, 120), np.full(120, amount), policy)
    for column in ("action", "proposed"):
        rank = found[column].map(ACTIONS.index).to_numpy()
        assert (np.diff(rank) >= 0).all()
    assert (np.diff(found["tier"].cat.codes) >= 0).all()


def cases(seed: int, rows: int = 2500) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    risk = np.round(rng.beta(0.2, 6, rows), 2)  # rounded as an isotonic calibration does: many ties
    amount = np.round(rng.lognormal(4, 1, rows))
    time = START + pd.to_timedelta(rng.integers(0, 10 * 86_400, rows), unit="s")
    return risk, amount, time, np.array([f"c{i}" for i in rng.integers(0, 150, rows)])


def reviews(actions, time, entity) -> float:
    """Cases a day that a person looks at, counted with sets."""
    looked = {(t.date(), e) for a, t, e in zip(actions, time, entity) if a in PEOPLE}
    return len(looked) / len({t.date() for t in time})


@pytest.mark.parametrize("budget", [0.5, 1, 4, 9, 1000])
@pytest.mark.parametrize("seed", range(4))
def test_the_budget_is_filled_and_never_exceeded_where_it_was_chosen(seed: int, budget: float) -> None:
    risk, amount, time, entity = cases(seed)
    policy = replace(drawn(seed), review=ActionCost(1, 30, 0.95), decline=ActionCost(0, 60, 1))
    priced = with_prices(policy, risk, amount, time, entity, alerts_per_day=budget)
    found = decide(risk, amount, priced)
    assert reviews(found["action"], time, entity) <= budget
    free = reviews(decide(risk, amount, replace(policy, review_price=0.0))["action"], time, entity)
    if free <= budget:
        assert priced.review_price == 0, "what pays and has room is reviewed"
    else:
        cheaper = replace(priced, review_price=np.nextafter(priced.review_price, 0))
        assert reviews(decide(risk, amount, cheaper)["action"], time, entity) > budget, "the least price that does"
        crowded = found["why"] == WHY["budget"]
        assert crowded.any()
        assert not found.loc[crowded, "action"].isin(PEOPLE).any()
        kept = expected_costs(risk, amount, priced)
        gain = kept[["approve", "step_up_authentication"]].min(axis=1) - kept["manual_review"]
        assert gain[crowded].max() <= gain[found["action"] == "manual_review"].min(), "reviews go where they save most"


@pytest.mark.parametrize(("budget", "step_ups"), [(2, 0), (2, 3), (1, 20), (1000, 5)])
@pytest.mark.parametrize("seed", range(3))
def test_second_factors_keep_their_budget_too(seed: int, budget: float, step_ups: float) -> None:
    risk, amount, time, entity = cases(seed)
    policy = replace(USUAL, review=ActionCost(6, 0, 0.8))
    priced = with_prices(policy, risk, amount, time, entity, alerts_per_day=budget, step_up_per_day=step_ups)
    found = decide(risk, amount, priced)
    looked = {(t.date(), e) for a, t, e in zip(found["action"], time, entity) if a in PEOPLE}
    asked = {(t.date(), e) for a, t, e in zip(found["action"], time, entity) if a == "step_up_authentication"} - looked
    assert reviews(found["action"], time, entity) <= budget
    assert len(asked) <= 10 * step_ups
    if step_ups == 3:
        assert len(asked) > 10 * step_ups - 3, "filled, but for ties"
    unbounded = with_prices(policy, risk, amount, time, entity, alerts_per_day=budget)
    assert unbounded.step_up_price == 0


def test_what_rules_ask_for_comes_on_top_of_the_second_factors() -> None:
    risk, amount, time, entity = cases(3)
    asked = np.where(np.arange(len(risk)) % 4 == 0, "step_up_authentication", None)
    given = {"alerts_per_day": 2, "step_up_per_day": 4}
    with_rules = with_prices(USUAL, risk, amount, time, entity, rules=asked, **given)
    assert np.isfinite(with_rules.step_up_price)
    found = decide(risk, amount, with_rules, rules=asked)
    assert (found["action"] == "step_up_authentication")[pd.isna(asked)].sum() >= 20


def test_what_rules_ask_for_fills_the_budget_first() -> None:
    risk, amount, time, entity = cases(7)
    asked = np.where(np.arange(len(risk)) % 200 == 0, "decline", None)
    given = {"alerts_per_day": 4, "rules": asked}
    policy = replace(USUAL, review=ActionCost(1, 0, 0.8))
    priced = with_prices(policy, risk, amount, time, entity, **given)
    found = decide(risk, amount, priced, rules=asked)
    assert 3 < reviews(found["action"], time, entity) <= 4
    assert found.loc[asked == "decline", "action"].eq("manual_review").all()
    with pytest.raises(
        InputError, match=r"rules and ratings alone ask for 1\.\d reviews a day, above the budget of 1;"
    ):
        with_prices(policy, risk, amount, time, entity, **given | {"alerts_per_day": 1})


def test_nobody_is_limited_or_declined_by_a_machine_unless_the_config_names_it() -> None:
    risk, amount, *_ = cases(1)
    asked = np.resize(np.array([None, *ACTIONS], dtype=object), len(risk))
    found = decide(risk, amount, USUAL, rules=asked, customer=np.resize(["low", "high"], len(risk)))
    assert set(found["action"]) == {"approve", "step_up_authentication", "manual_review"}
    assert set(ADVERSE) <= set(found["proposed"]), "what would be cheapest is told to the person"
    adverse = found[found["proposed"].isin(ADVERSE) & (found["action"] == "manual_review")]
    adverse = adverse[(adverse["why"] != WHY["rule"])]  # a rule asked for a person to begin with
    assert adverse["why"].str.contains("a person decides", regex=False).all()
    assert adverse["why"].str.contains("GDPR Art. 22", regex=False).all()
    allowed = replace(USUAL, automatic=("decline",))
    told = decide([0.9], [400.0], allowed)
    assert told.iloc[0].tolist() == ["severe", "decline", "decline", WHY["automatic"]]
    assert set(decide(risk, amount, allowed, rules=asked)["action"]) == {
        "approve", "step_up_authentication", "manual_review", "decline"
    }  # fmt: skip
    assert DecisionConfig().policy.automatic == (), "a person decides unless someone writes otherwise"


def test_rules_and_ratings_raise_and_never_lower() -> None:
    risk, amount, *_ = cases(2)
    policy = replace(USUAL, automatic=ADVERSE, at_least={"high": "manual_review", "medium": "step_up_authentication"})
    alone = decide(risk, amount, policy)["action"].map(ACTIONS.index)
    asked = np.resize(np.array([None, *ACTIONS], dtype=object), len(risk))
    rated = np.resize(np.array(["low", "medium", "high"], dtype=object), len(risk))
    found = decide(risk, amount, policy, rules=asked, customer=rated)
    of_rule = pd.Series(asked).map({name: rank for rank, name in enumerate(ACTIONS)}).fillna(0)
    of_rating = pd.Series(rated).map({"low": 0, "medium": 1, "high": 3})
    expected = np.maximum(np.maximum(alone, of_rule), of_rating)
    assert found["action"].map(ACTIONS.index).tolist() == expected.tolist()
    assert found.loc[(of_rule > alone) & (of_rule > of_rating), "why"].eq(WHY["rule"]).all()
    assert found.loc[(of_rating > alone) & (of_rule <= of_rating), "why"].eq(WHY["rating"]).all()


def test_the_allow_list_overrules_model_and_rating_but_no_rule() -> None:
    policy = replace(USUAL, at_least={"high": "manual_review"})
    found = decide(
        [0.9, 0.9, 0.001], [500.0] * 3, policy, rules=[None, "decline", None], allowed=[True] * 3, customer=["high"] * 3
    )
    assert found[["action", "proposed"]].values.tolist() == [
        ["approve", "approve"], ["manual_review", "decline"], ["approve", "approve"]
    ]  # fmt: skip
    assert found["why"].tolist() == [WHY["allowed"], WHY["rule_person"], WHY["allowed"]]


def test_a_review_that_was_due_anyway_takes_up_what_a_rule_proposes() -> None:
    policy = replace(USUAL, decline=ActionCost(0, 5000, 1), review=ActionCost(1, 0, 0.8))
    assert decide([0.5], [90.0], policy)[["action", "proposed"]].values.tolist() == [["manual_review", "manual_review"]]
    found = decide([0.5], [90.0], policy, rules=["decline"]).iloc[0]
    assert (found["action"], found["proposed"], found["why"]) == ("manual_review", "decline", WHY["rule_person"])


def test_each_action_lies_in_the_tier_packages_give_it() -> None:
    of_package = {tier.action: name for name, tier in TIERS.items()}
    everything = decide([0.0] * len(ACTIONS), [1.0] * len(ACTIONS), replace(USUAL, automatic=ADVERSE), rules=ACTIONS)
    assert everything["action"].tolist() == list(ACTIONS)
    tiers = dict(zip(everything["action"], everything["tier"]))
    assert {action: tiers[action] for action in of_package} == of_package
    assert (np.diff(everything["tier"].cat.codes) >= 0).all()
    assert list(everything["tier"].cat.categories) == list(TIERS)


def test_nothing_to_decide_is_no_error() -> None:
    assert decide([], [], USUAL).empty


def test_costs_by_hand() -> None:
    costs = expected_costs([0.25], [80.0], replace(USUAL, loss_given_fraud=0.5)).iloc[0]
    # loss 0.25 * 80 * 0.5 = 10
    assert costs.round(9).to_dict() == {
        "approve": 10.0, "step_up_authentication": 4.5, "limit": 5.0, "manual_review": 17.0, "decline": 18.75
    }  # fmt: skip


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: expected_costs([1.2], [1.0], USUAL), r"risk: must lie in \[0, 1\]; found 1 others of 1"),
        (lambda: expected_costs([np.nan], [1.0], USUAL), r"risk: must lie in \[0, 1\]"),
        (lambda: expected_costs([0.2], [-1.0], USUAL), "amount: must be finite and >= 0; found 1 others of 1"),
        (lambda: expected_costs([0.2], [1.0, 2.0], USUAL), "one entry per transaction each; found risk 1, amount 2"),
        (lambda: decide([0.2], [1.0], USUAL, rules=["deny"]), "rules: unknown action 'deny'"),
        (lambda: decide([0.2], [1.0], USUAL, rules=[None, None]), "found risk 1, rules 2"),
        (lambda: decide([0.2], [1.0], USUAL, customer=["low"] * 2), "found risk 1, customer 2"),
        (lambda: decide([0.2], [1.0], USUAL, allowed=[True] * 2), "found risk 1, allowed 2"),
        (lambda: ActionCost(stops=1.5), r"stops a share in \[0, 1\]; found cost 0.0, friction 0.0, stops 1.5"),
        (lambda: ActionCost(cost=float("inf")), "cost and friction must be finite"),
        (lambda: replace(USUAL, review=ActionCost(15, 0, 0.5)), "stops must not fall .*; found 0.6, 0.7, 0.5, 1;"),
        (lambda: replace(USUAL, limit=ActionCost(2, 30, 0.7)), "friction must not fall .*; found 0, 30, 0, 25;"),
        (lambda: replace(USUAL, loss_given_fraud=2), r"loss_given_fraud must lie in \[0, 1\]; found 2"),
        (lambda: replace(USUAL, automatic=("approve",)), "automatic: 'approve' is no adverse action"),
        (lambda: replace(USUAL, at_least={"high": "revew"}), "at_least: unknown action 'revew'"),
        (lambda: replace(USUAL, review_price=-1), "review_price must be >= 0; found -1"),
        (lambda: replace(USUAL, step_up_price=np.nan), "step_up_price must be >= 0; found nan"),
        (
            lambda: with_prices(USUAL, [0.1], [1.0], [START], ["a"], alerts_per_day=1, step_up_per_day=-1),
            "step_up_per_day: must be >= 0; found -1",
        ),
        (
            lambda: with_prices(USUAL, [0.1], [1.0], [START], ["a"], alerts_per_day=0),
            "alerts_per_day: must be above 0; found 0",
        ),
        (
            lambda: with_prices(USUAL, [0.1], [1.0], [START] * 2, ["a"], alerts_per_day=1),
            "found risk 1, event_time 2, entity 1",
        ),
    ],
)
def test_the_policy_refuses(call, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        call()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"recovery_rate": 0.5, "policy": {"limit": {"stops": 0.7}}}, "found 0.375, 0.7, 0.5, 1; correct the one that"),
        ({"policy": {"limit": {"friction": 9}}}, "decision.false_alarm_cost to decline.friction"),
        ({"rating": {"medium_from": 2.0}}, "high_from must not lie below medium_from"),
        ({"policy": {"automatic": ["approve"]}}, "automatic"),
    ],
)
def test_the_config_refuses(values: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        DecisionConfig.model_validate(values)


def test_the_page_shows_what_the_code_does() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "decisions.md"
    done = doctest.testfile(str(page), module_relative=False)
    assert done.attempted >= 3
    assert done.failed == 0
    text = page.read_text(encoding="utf-8")
    assert all(f"`{action}`" in text for action in ACTIONS)
    assert "`why` (one of ten sentences)" in text
    assert len(WHY) == 10
