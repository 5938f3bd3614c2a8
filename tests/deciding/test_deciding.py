"""Decisions in a run: chosen on validation, measured on the test, rules and ratings beside the score, nobody named."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from fraudlab import comparing, deciding, decisions, metrics, plots, recipe, training
from fraudlab.commands import decide
from fraudlab.config import RunConfig, load_config
from fraudlab.privacy.disclosure import protected
from fraudlab.rating import RATINGS
from fraudlab.schema import InputError
from fraudlab.splits import temporal_fold

ROOT = Path(__file__).resolve().parents[2]
CHANGES = {
    "split__train_days": 20,
    "split__delay_days": 2,
    "split__valid_days": 14,
    "split__test_days": 14,
    "model__n_estimators": 20,
    "decision__alerts_per_day": 12,
    "decision__limit_per_day": 1,
    "decision__step_up_per_day": 20,
}
BOOK = """
name = "small"
version = 1
[[rule]]
id = "large"
title = { en = "Large", zh = "大额" }
expression = "amount > 150"
action = "ACTION"
status = "active"
since = 2026-01-01
owner = "fraud team"
why = "large payments are looked at"
"""


@pytest.fixture(scope="module")
def one(sixty_days) -> tuple[RunConfig, recipe.Prepared, dict[str, training.FittedModel], pd.DataFrame]:
    """Sixty days of 600 customers, some of them defrauded again and again; two features see it through noise."""
    rng = np.random.default_rng(0)
    rows, config = 20_000, load_config(ROOT / "configs" / "demo.toml", **CHANGES)
    transactions, _, fraud = sixty_days(rng, rows, 0.2)
    features = pd.DataFrame(
        {"size": np.log(transactions["amount"]) + rng.normal(0, 1, rows), "night": 1.5 * fraud + rng.normal(0, 1, rows)}
    )
    split = config.split.model_copy(update={"exclude_known_compromised": False})
    rules = config.rules.model_copy(update={"book": None})
    config = config.model_copy(update={"split": split, "rules": rules})
    prepared = recipe.Prepared(transactions, features, None, temporal_fold(transactions, split))
    models = training.fit_models(
        features, transactions["is_fraud"], prepared.fold, model=config.model, seed=0, threads=1
    )
    return config, prepared, models, recipe.score_part(models, prepared, "test")


@pytest.fixture(scope="module")
def ratings(one):
    config, prepared, models, _ = one
    return deciding.customer_ratings(models["xgboost"], prepared, config)


def with_decision(config: RunConfig, **changes: object) -> RunConfig:
    return config.model_copy(update={"decision": config.decision.model_copy(update=changes)})


def with_book(config: RunConfig, tmp_path: Path, action: str = "step_up_authentication", text: str = BOOK) -> RunConfig:
    path = tmp_path / "book.toml"
    path.write_text(text.replace("ACTION", action), encoding="utf-8")
    return config.model_copy(update={"rules": config.rules.model_copy(update={"book": path})})


def thresholds_of(one) -> dict:
    config, prepared, models, _ = one
    return recipe.thresholds_from_validation(models["xgboost"], prepared, config).to_dict()


def cases_a_day(actions: pd.Series, part: dict, wanted: tuple[str, ...]) -> float:
    transactions = part["transactions"]
    day = transactions["event_time"].dt.date
    some = actions.isin(wanted).to_numpy()
    return len(set(zip(day[some], transactions["customer_id"][some]))) / day.nunique()


def test_only_the_budget_plans_cases_for_review(one) -> None:
    config, prepared, models, scores = one
    for rule, planned in (("budget", 11.0), ("cost", np.nan)):
        ruled = with_decision(config, rule=rule)
        thresholds = recipe.thresholds_from_validation(models["xgboost"], prepared, ruled)
        assert isinstance(thresholds, decisions.Thresholds)
        table = deciding.tiers_on_test(prepared, scores["xgboost"], thresholds.to_dict(), ruled).set_index("tier")
        np.testing.assert_equal(table["planned_per_day"].astype(float)[["elevated", "high"]].tolist(), [20.0, planned])


def test_the_simulation_agrees_with_the_thresholds_in_use_and_with_the_metrics(one) -> None:
    config, prepared, models, scores = one
    table = deciding.simulation(models, prepared, scores, config, n_boot=20)
    assert table["model"].unique().tolist() == list(models)
    assert set(table.loc[table["by"] == "threshold", "model"]) == {"xgboost"}
    assert table.loc[table["chosen"], "budget"].unique().tolist() == [12]
    outcomes = comparing.threshold_outcomes(models["xgboost"], prepared, scores, config, n_boot=20)
    rule = outcomes[(outcomes["rule"] == "budget") & (outcomes["period"] == "test")].set_index("metric")
    mine = table[(table["by"] == "threshold") & table["chosen"]].set_index("metric")
    assert (mine["threshold"] == rule["threshold"].iloc[0]).all()
    for metric in ("alerts_per_day", "precision", "recall", "net_saved_per_day"):
        for column in ("value", "low", "high"):
            assert mine.loc[metric, column] == pytest.approx(rule.loc[metric, column])
    overview = deciding.simulation_overview(table, "xgboost")
    assert len(overview) == 2 * len(deciding.budgets_around(12))
    assert overview[overview["by"] == "budget"]["alerts_per_day"].is_monotonic_increasing
    other = deciding.simulation(models, prepared, scores, config, budgets=[3], n_boot=0)
    assert other["budget"].unique().tolist() == [3, 12], "the number in use is always there"


def test_the_test_part_never_moves_what_was_chosen(one) -> None:
    config, prepared, models, scores = one
    turned = scores.iloc[::-1].reset_index(drop=True)
    cuts = [
        deciding.simulation(models, prepared, each, config, budgets=[3], n_boot=0)["threshold"]
        for each in (scores, turned)
    ]
    pd.testing.assert_series_equal(*cuts)
    wrong = prepared.transactions.copy()
    test = prepared.fold.test
    wrong.loc[wrong.index[test], "amount"] = 1.0
    wrong.loc[wrong.index[test], "is_fraud"] = ~wrong["is_fraud"].iloc[test]
    first = deciding.decide(models["xgboost"], prepared, config)
    second = deciding.decide(models["xgboost"], replace(prepared, transactions=wrong), config)
    assert first.policy == second.policy


def test_the_policy_keeps_its_budgets_on_validation(one, ratings) -> None:
    config, prepared, models, _ = one
    for given in ({}, {"ratings": ratings}):
        decided = deciding.decide(models["xgboost"], prepared, config, part="valid", **given)
        part = prepared.rows("valid")
        assert cases_a_day(decided.actions["action"], part, ("manual_review", "limit_and_review")) <= 12
        assert set(decided.actions["action"]) <= {"approve", "step_up_authentication", "manual_review"}
    assert decided.policy.at_least == {"medium": "approve", "high": "step_up_authentication"}


def test_the_tables_of_the_policy(one, ratings) -> None:
    config, prepared, models, scores = one
    tables = deciding.policy_tables(
        models["xgboost"], prepared, scores, config, ratings=ratings, thresholds=thresholds_of(one), n_boot=10
    )
    assert {name: tuple(table) for name, table in tables.items()} == deciding.POLICY_TABLES
    actions = deciding.decide(models["xgboost"], prepared, config, ratings=ratings).actions
    part, policy = prepared.rows("test"), tables["policy"].set_index("action")
    assert policy["transactions"].to_dict() == actions["action"].value_counts().to_dict()
    assert policy["frauds"].sum() == part["y"].sum()
    reviewed = (actions["action"] == "manual_review").to_numpy()
    assert policy.loc["manual_review", "frauds"] == part["y"][reviewed].sum()
    amount = part["transactions"]["amount"].to_numpy()
    assert policy.loc["manual_review", "fraud_amount"] == pytest.approx(amount[reviewed & (part["y"] == 1)].sum())
    assert policy.loc["manual_review", "cases_per_day"] == cases_a_day(actions["action"], part, ("manual_review",))
    assert policy["decided_by"].to_dict()["manual_review"] == "a person"
    assert tables["policy_reasons"]["transactions"].sum() == len(actions)
    costs = tables["policy_costs"].set_index("action")
    assert costs.loc["manual_review", ["cost", "stops"]].tolist() == [15.0, 0.8]
    assert costs.loc["step_up_authentication", "stops"] == pytest.approx(0.6)
    ways = tables["policy_outcomes"]
    assert ways["way"].unique().tolist() == ["tiers", "costs", "policy"], "no rule book, no way with rules"
    alone = metrics.action_outcomes(
        part["y"], {"policy": actions["action"]}, deciding.policy_of(config).costs, n_boot=0,
        event_time=part["transactions"]["event_time"], entity=part["transactions"]["customer_id"], amount=amount,
    )  # fmt: skip
    mine = ways[(ways["way"] == "policy") & (ways["against"] == "")]
    np.testing.assert_allclose(mine["value"], alone["value"])
    overview = deciding.ways_overview(ways)
    assert overview["way"].tolist() == [plots.WAY_LABELS[way] for way in ("tiers", "costs", "policy")]
    text = pd.concat(tables.values()).astype(str)
    assert not text.apply(lambda column: column.str.contains("customer-|t0")).any(axis=None)


def test_rules_ask_for_more_and_show_as_a_way(one, tmp_path) -> None:
    config, prepared, models, scores = one
    ruled = with_book(config, tmp_path)
    found = deciding.decide(models["xgboost"], prepared, ruled)
    part = prepared.rows("test")
    large = (part["transactions"]["amount"] > 150).to_numpy()
    assert large.sum() > 20
    assert not (found.actions["action"][large] == "approve").any()
    tables = deciding.policy_tables(models["xgboost"], prepared, scores, ruled, thresholds=thresholds_of(one), n_boot=0)
    assert "rules" in set(tables["policy_outcomes"]["way"])
    assert found.problem == ""


def test_rules_that_ask_for_more_reviews_than_there_are_people_are_left_out_and_it_is_said(one, tmp_path) -> None:
    config, prepared, models, scores = one
    flooded = with_book(config, tmp_path, "decline", BOOK.replace("amount > 150", "amount > 5"))
    found = deciding.decide(models["xgboost"], prepared, flooded)
    assert "rules and ratings alone ask for" in found.problem
    pd.testing.assert_frame_equal(found.actions, deciding.decide(models["xgboost"], prepared, config).actions)
    tables = deciding.policy_tables(
        models["xgboost"], prepared, scores, flooded, thresholds=thresholds_of(one), n_boot=0
    )
    outcomes = tables["policy_outcomes"]
    assert set(outcomes["way"]) == {"tiers", "costs", "policy"}
    assert outcomes.loc[outcomes["way"] == "policy", "note"].str.contains("without rules: policy: rules and").all()


def test_risks_are_stated_only_for_payments_the_model_has_not_learnt_from(one) -> None:
    _, prepared, models, _ = one
    model, fold = models["xgboost"], prepared.fold
    risk = deciding.stated_risks(model, prepared)
    np.testing.assert_array_equal(risk[fold.valid], model.risk_of(model.valid_score))
    np.testing.assert_allclose(risk[fold.test], model.risk(prepared.features.iloc[fold.test]))
    assert np.isnan(risk[fold.train]).all()
    learnt_only = np.setdiff1d(fold.refit, fold.valid)
    assert np.isnan(risk[learnt_only]).all()
    assert np.isnan(deciding.stated_risks(replace(model, calibrator=None), prepared)).all()


def test_ratings_cover_validation_and_test_and_tell_who_is_defrauded_again(one, ratings) -> None:
    config, prepared, models, _ = one
    time, fold = prepared.transactions["event_time"], prepared.fold
    assert ratings.days[0] == time.iloc[fold.valid[0]].floor("D")
    assert ratings.days[-1] == time.iloc[fold.test[-1]].floor("D")
    tables = deciding.rating_tables(ratings, models["xgboost"], prepared, config, n_boot=10)
    assert list(tables) == ["customer_rating", "rating_after", "rating_moves", "rating_effect"]
    after = tables["rating_after"].set_index("rating")
    assert list(after.index) == list(RATINGS)
    assert after.loc["high", "fraud_rate"] > 1.5 * after.loc["low", "fraud_rate"]
    assert after.loc["high", "low"] < after.loc["high", "fraud_rate"] < after.loc["high", "high"]
    weekly = tables["customer_rating"]
    assert weekly.groupby("week")["share"].sum().round(9).eq(1).all()
    ways = tables["rating_effect"]
    assert ways["way"].unique().tolist() == ["costs", "rating_step_up", "rating_review"]
    wide = ways[ways["against"] == ""].pivot(index="way", columns="metric", values="value")
    assert wide.loc["rating_review", "reviews_per_day"] > wide.loc["costs", "reviews_per_day"]
    assert wide.loc["rating_step_up", "fraud_lost_per_day"] <= wide.loc["costs", "fraud_lost_per_day"]


def test_what_happens_after_the_test_moves_no_rating(one, ratings) -> None:
    config, prepared, models, _ = one
    late = prepared.transactions.copy()
    end = ratings.days[20]
    unknown = (late["label_time"] > end).to_numpy()
    late.loc[unknown, "is_fraud"] = ~late.loc[unknown, "is_fraud"]
    again = deciding.customer_ratings(models["xgboost"], replace(prepared, transactions=late), config)
    np.testing.assert_array_equal(again.code[:, :21], ratings.code[:, :21])
    assert not np.array_equal(again.code, ratings.code)


def test_labels_of_unknown_date_rate_nobody(one) -> None:
    config, prepared, models, _ = one
    undated = config.model_copy(update={"features": config.features.model_copy(update={"labels": False})})
    turned = prepared.transactions.assign(is_fraud=~prepared.transactions["is_fraud"])
    first, second = (
        deciding.customer_ratings(models["xgboost"], each, undated)
        for each in (prepared, replace(prepared, transactions=turned))
    )
    np.testing.assert_array_equal(first.code, second.code)
    assert (first.code > 0).any()


def test_a_model_without_stated_risks_has_no_policy(one, ratings) -> None:
    config, prepared, models, scores = one
    bare = replace(models["xgboost"], calibrator=None)
    tables = deciding.policy_tables(bare, prepared, scores, config, ratings=ratings, thresholds=thresholds_of(one))
    assert all(table.empty for table in tables.values())
    assert {name: tuple(table) for name, table in tables.items()} == deciding.POLICY_TABLES
    effect = deciding.rating_tables(ratings, bare, prepared, config)["rating_effect"]
    assert effect.empty
    assert deciding.ways_overview(tables["policy_outcomes"], effect).empty
    with pytest.raises(InputError, match="policy: needs a model that states a risk and has scores on validation"):
        deciding.decide(bare, prepared, config)


def test_what_the_config_states_is_the_policy(one) -> None:
    config = one[0]
    stated = config.decision.model_dump()
    stated["policy"] |= {"automatic": ["decline"], "loss_given_fraud": 0.5, "high": "manual_review"}
    stated |= {"recovery_rate": 0.6, "false_alarm_cost": 4.0}
    policy = deciding.policy_of(config.model_copy(update={"decision": type(config.decision).model_validate(stated)}))
    assert policy.automatic == ("decline",)
    assert policy.loss_given_fraud == 0.5
    assert policy.at_least["high"] == "manual_review"
    assert policy.review == decisions.ActionCost(15.0, 4.0, 0.6)
    assert (policy.step_up.stops, policy.limit.stops) == pytest.approx((0.45, 0.525))


@pytest.fixture
def command(one, monkeypatch):
    """`fraudlab decide` beside a finished run that needs no vault."""
    config, prepared, models, _ = one
    run = SimpleNamespace(folder=Path("runs/demo-1a2b"), config=config, load_models=lambda: models)
    monkeypatch.setattr("fraudlab.runs.finished_run", lambda workspace, name: run)
    monkeypatch.setattr("fraudlab.recipe.prepare", lambda config, workspace: prepared)
    monkeypatch.setattr(decide, "same_data", lambda run: None)
    monkeypatch.setattr(decide, "workspace_of", lambda: None)
    return lambda *words: CliRunner().invoke(decide.app, list(words))


def test_the_command_simulates_with_the_costs_given(one, command) -> None:
    config, prepared, models, scores = one
    done = command("--alerts-per-day", "8", "--review-cost", "20", "--recovery-rate", "0.5", "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.output)
    other = with_decision(config, alerts_per_day=8, review_cost=20.0, recovery_rate=0.5)
    mine = {"xgboost": models["xgboost"]}
    expected = protected("simulation", deciding.simulation(mine, prepared, scores, other))
    found = pd.DataFrame(said["simulation"])
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    assert said["decision"]["alerts_per_day"] == 8
    assert said["decision"]["recovery_rate"] == 0.5
    assert set(found.loc[found["chosen"], "budget"]) == {8}
    assert "customer-" not in done.output


def test_the_command_says_which_number_saves_most(command) -> None:
    plain = command()
    assert plain.exit_code == 0, plain.output
    assert "demo-1a2b, xgboost: 12 cases a day, a review costs 15, 80% of a caught fraud is saved" in plain.output
    assert re.search(
        r"reviews a day would save [\d,]+ a day more than|No other number of reviews saves more", plain.output
    )
    assert "A day: cases planned and reviewed" in plain.output


def test_the_command_refuses_costs_out_of_range(command) -> None:
    wrong = command("--recovery-rate", "2")
    assert isinstance(wrong.exception, InputError)
    assert "decide: key 'decision.recovery_rate'" in str(wrong.exception)
