"""What a package does about a payment: many or one, by tiers, costs or rules, kept and read again."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraudlab import deciding
from fraudlab.acting import Acting
from fraudlab.config import ModelConfig, load_config
from fraudlab.decisions import ActionCost, Policy, Thresholds, decide
from fraudlab.rulebook import RuleBook, evaluate, fired, holds, parse, strongest_action
from fraudlab.schema import InputError
from fraudlab.scoring.walk import Walk
from fraudlab.serving import load_package, save_package
from fraudlab.training import fit_estimator

CUTS = Thresholds(review=0.5, step_up=0.2, limit=0.9)
POLICY = Policy(
    ActionCost(1, 0, 0.5),
    ActionCost(2, 0, 0.7),
    ActionCost(15, 0, 0.8),
    ActionCost(0, 25, 1),
    automatic=("decline",),
    at_least={"high": "manual_review"},
    review_price=3.0,
)
TOLD = {"title": {"en": "Title", "zh": "标题"}, "since": "2026-01-01", "owner": "team", "why": "an example of rules"}
BOOK = RuleBook.model_validate(
    {
        "name": "some",
        "version": 1,
        "rule": [
            {"id": "large", "expression": "amount > 400", "action": "limit_and_review", "status": "active", **TOLD},
            {"id": "far", "expression": "speed > 900 and channel = 'pos'", "status": "active", **TOLD},
            {"id": "shadow", "expression": "amount > 0", "status": "shadow", **TOLD},
        ],
    }
)


def payments(rows: int = 80) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "amount": np.round(rng.lognormal(4, 1.2, rows), 2),
            "speed": np.where(rng.random(rows) < 0.2, np.nan, rng.gamma(2, 400, rows)).astype("float32"),
            "channel": pd.Series(rng.choice(["pos", "online"], rows)).where(rng.random(rows) < 0.9, None),
        }
    )
    score = rng.beta(0.6, 1.5, rows)
    return score, score**2, table


@pytest.mark.parametrize(
    "acting", [Acting(CUTS, book=BOOK), Acting(CUTS, "costs", POLICY, BOOK), Acting(CUTS, "rules", POLICY, BOOK)]
)
def test_one_payment_is_decided_like_many(acting):
    score, risk, table = payments()
    done = acting.act(score, risk, table["amount"].to_numpy(), table)
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    for row, (s, r, found) in enumerate(zip(score, risk, rows)):
        one = acting.one(float(s), float(r), found)
        expected = done.iloc[row]
        assert (one.tier, one.action, ",".join(one.rules)) == (expected["tier"], expected["action"], expected["rules"])
    assert done["action"].nunique() > 2
    hits = fired(BOOK, table)
    asked = strongest_action(BOOK, hits) if acting.way == "rules" else None
    if acting.way != "tiers":
        assert done["action"].tolist() == decide(risk, table["amount"], POLICY, rules=asked)["action"].tolist()
    assert set(",".join(done["rules"]).split(",")) == {"", "large", "far"}  # shadow rules are not told here
    again = Acting.from_dict(CUTS, acting.to_dict())
    pd.testing.assert_frame_equal(again.act(score, risk, table["amount"].to_numpy(), table), done)
    assert len(acting.act(score[:0], risk[:0], [], table.iloc[:0])) == 0


def test_what_a_way_lacks_is_refused():
    with pytest.raises(InputError, match=r"decision\.way: 'costs' needs a policy with prices; found none"):
        Acting(CUTS, "costs")
    with pytest.raises(InputError, match=r"decision\.way: 'rules' needs a rule book; found none"):
        Acting(CUTS, "rules", POLICY)
    with pytest.raises(InputError, match=r"decision\.way: unknown 'cost'; did you mean 'costs'\?"):
        Acting(CUTS, "cost")


VALUES = {
    "amount": st.one_of(st.none(), st.floats(-1e6, 1e6), st.sampled_from([0.0, 1.0, 2.0])),
    "ratio": st.one_of(st.none(), st.floats(width=32, allow_nan=False, allow_infinity=False)),
    "channel": st.sampled_from([None, "pos", "online"]),
}
RULES = [
    "amount > 1 and ratio < 2",
    "amount > 1 or ratio < 2 or channel is missing",
    "not (amount = 2) and channel != 'pos'",
    "amount / ratio > 1 or -ratio >= amount",
    "channel in ['pos', 'atm'] or amount not in [1, 2]",
    "amount + ratio is missing and not (channel = 'pos')",
    "amount * ratio - 1 <= 0.1",
    "ratio is not missing or amount > 10 / 4",
    "ratio = 0.1 or ratio >= 0.2",
]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.fixed_dictionaries(VALUES), min_size=1, max_size=5), st.sampled_from(RULES))
def test_a_rule_says_of_one_payment_what_it_says_of_a_table(rows, text):
    tree = parse(text)
    table = pd.DataFrame(rows).astype({"amount": "float64", "ratio": "float32", "channel": "str"})
    expected = [None if answer is pd.NA else bool(answer) for answer in evaluate(tree, table)]
    told = [
        {"amount": row["amount"], "ratio": value, "channel": row["channel"]} for row, value in zip(rows, table["ratio"])
    ]
    assert [holds(tree, row) for row in told] == expected


def test_a_run_packs_the_way_of_its_config(tmp_path):
    config = load_config("configs/demo.toml")
    tiers = deciding.acting_of(config, CUTS)
    assert (tiers.way, tiers.policy) == ("tiers", None)
    assert {rule.status for rule in tiers.book.rules} == {"active"}
    prices = pd.DataFrame(
        [("costs", "step_up_authentication", 0.5), ("costs", "manual_review", 7.0)], columns=["way", "action", "price"]
    )
    costs = deciding.acting_of(load_config("configs/demo.toml", decision__way="costs"), CUTS, prices)
    assert (costs.policy.step_up_price, costs.policy.review_price) == (0.5, 7.0)
    with pytest.raises(InputError, match=r"decision\.way: 'rules' needs a model that states a risk"):
        deciding.acting_of(load_config("configs/demo.toml", decision__way="rules"), CUTS, prices)
    X, y, words = trained()
    model = fit_estimator(X, y, model=ModelConfig(n_estimators=3), seed=0, threads=1)
    save_package(tmp_path / "p", model, CUTS, words, {}, acting=costs)
    kept = load_package(tmp_path / "p").acting
    assert kept.to_dict() == costs.to_dict()
    save_package(tmp_path / "old", model, CUTS, words, {})
    assert load_package(tmp_path / "old").acting.way == "tiers"


def trained() -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    rng = np.random.default_rng(1)
    X = pd.DataFrame(
        {"a": rng.normal(size=600), "b": rng.normal(size=600), "c": rng.integers(0, 40, 600).astype(float)}
    )
    X = X.mask(rng.random(X.shape) < 0.1)
    y = (X["a"].fillna(0) + X["c"].fillna(20) / 20 + rng.normal(size=600) > 1.5).to_numpy()
    words = pd.DataFrame(
        {"column": ["a", "b", "c"], "label": "", "reason": "", "group": "", "meaning": "", "template": "", "kind": ""}
    )
    return X, y, words


@pytest.mark.parametrize(
    "settings", [{"base_score": 0.5}, {"base_score": 0.03}, {"max_depth": 14, "min_child_weight": 0.01}]
)
@pytest.mark.parametrize("categories", [(), ("c",)])
def test_a_walk_gives_the_librarys_bits(settings, categories, monkeypatch):
    X, y, _ = trained()
    model = ModelConfig(**({"n_estimators": 40, "max_depth": 5, "early_stopping_rounds": 0} | settings))
    model = fit_estimator(X, y, model=model, seed=0, categories=categories, threads=1)
    walk = Walk.of(model.estimator)
    assert walk is not None
    rng = np.random.default_rng(2)
    values = np.column_stack([rng.normal(size=3000), rng.normal(size=3000), rng.integers(-1, 70, 3000)])
    values[rng.random(values.shape) < 0.1] = np.nan
    if categories:
        values[values[:, 2] < 0, 2] = np.nan  # no code is negative
    expected = model.estimator.booster.inplace_predict(values, predict_type="margin")
    rows = values.astype(np.float32)
    np.testing.assert_array_equal(walk.margins(rows), expected)
    np.testing.assert_array_equal([walk.margins(rows[k : k + 1])[0] for k in range(300)], expected[:300])
    monkeypatch.setattr("fraudlab.scoring.walk.MANY", 100)
    np.testing.assert_array_equal(walk.margins(rows), expected)
    assert len(walk.margins(rows[:0])) == 0


def test_trees_that_no_node_can_hold_are_left_to_the_library(monkeypatch):
    X, y, _ = trained()
    model = ModelConfig(n_estimators=4, max_depth=5, early_stopping_rounds=0)
    estimator = fit_estimator(X, y, model=model, seed=0, threads=1).estimator
    assert Walk.of(estimator) is not None
    monkeypatch.setattr("fraudlab.features.kernels.trees.MOST_COLUMNS", 1)
    assert Walk.of(estimator) is None
