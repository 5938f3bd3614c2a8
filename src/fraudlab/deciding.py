"""From a run's scores to what is done with each payment: budgets simulated, actions by their cost, customers rated.

What is chosen (thresholds, the price of a review) is chosen on the validation part; the test part only measures it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from fraudlab import decisions, metrics, rating, rulebook, ruling
from fraudlab.acting import Acting
from fraudlab.config import RunConfig
from fraudlab.plots import WAY_LABELS
from fraudlab.recipe import Prepared
from fraudlab.schema import InputError
from fraudlab.training import FittedModel

BUDGET_STEPS = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 12.0)
"""The budgets that are simulated, as multiples of the investigators' own; up to ten, the whole numbers below too."""

OUTCOME_COLUMNS = ("way", "against", "metric", "value", "low", "high", "n", "note")
POLICY_TABLES = {
    "policy": (
        "action", "decided_by", "transactions", "frauds", "fraud_rate", "amount", "fraud_amount", "cases_per_day",
    ),
    "policy_reasons": ("action", "proposed", "why", "transactions"),
    "policy_costs": ("action", "cost", "friction", "stops", "price"),
    "policy_outcomes": OUTCOME_COLUMNS,
    "policy_prices": ("way", "action", "price"),
}  # fmt: skip
"""The tables of `policy_tables` with their columns."""

DECIDED_BY = {
    "approve": "nobody",
    "step_up_authentication": "the customer confirms",
    "limit": "automatic, named in the config",
    "manual_review": "a person",
    "limit_and_review": "automatic, then a person",
    "decline": "automatic, named in the config",
}
"""Action -> who decides on the payment."""


def tiers_on_test(
    prepared: Prepared, score: pd.Series, thresholds: Mapping[str, Any], config: RunConfig
) -> pd.DataFrame:
    """Table what each risk tier held in the test period, with its cases a day beside the planned number.

    Only the rule "budget" plans the cases for review; `comparing.threshold_outcomes` says what the others expected.
    """
    part = prepared.rows("test")
    tiers = decisions.assign_tiers(score.to_numpy(), decisions.Thresholds.from_dict(dict(thresholds)))
    table = decisions.tier_table(part["y"], tiers, **_whose(part, config))
    budget = config.decision
    planned = {
        "elevated": budget.step_up_per_day,
        "high": budget.alerts_per_day - budget.limit_per_day if budget.rule == "budget" else None,
        "severe": budget.limit_per_day,
    }
    return table.assign(planned_per_day=table["tier"].map(planned))


def budgets_around(k: int) -> list[int]:
    """Return the numbers of cases a day worth comparing where investigators review k.

    >>> budgets_around(5)
    [1, 2, 3, 4, 5, 8, 10, 15, 25, 40, 60]
    """
    return sorted({max(1, round(k * step)) for step in BUDGET_STEPS} | set(range(1, min(k, 10) + 1)))


def simulation(
    models: Mapping[str, FittedModel],
    prepared: Prepared,
    scores: pd.DataFrame,
    config: RunConfig,
    *,
    budgets: Sequence[int] | None = None,
    n_boot: int = 200,
) -> pd.DataFrame:
    """Simulate other numbers of reviews a day on the test part, for every model, and the candidate's thresholds.

    Parameters
    ----------
    models, prepared, scores : as loaded and scored in notebook 4.
    config : its costs and the budget in use.
    budgets : cases a day; None takes those of `budgets_around`.
    n_boot : bootstrap replicates over entities, the same for every model and budget.

    Returns
    -------
    DataFrame of `metrics.simulate`. The thresholds of the candidate are those that gave as many cases a day on
    validation; the test shows what they bring.
    """
    part, decision = prepared.rows("test"), config.decision
    k = decision.alerts_per_day
    levels = sorted({*(budgets_around(k) if budgets is None else budgets), k})
    tables = []
    for name, model in models.items():
        cut = None
        if name == config.model.kind and model.valid_score is not None:
            valid = _whose(prepared.rows("valid"), config)
            cut = decisions.thresholds_of_budgets(model.valid_score, valid["event_time"], valid["entity"], levels)
        table = metrics.simulate(
            part["y"],
            scores[name].to_numpy(),
            **_whose(part, config),
            budgets=levels,
            thresholds=cut,
            chosen=k,
            review_cost=decision.review_cost,
            recovery_rate=decision.recovery_rate,
            false_alarm_cost=decision.false_alarm_cost,
            model=name,
            n_boot=n_boot,
            seed=config.seed,
        )
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def simulation_overview(table: pd.DataFrame, model: str) -> pd.DataFrame:
    """Lay a simulation out for reading: a row per budget of a model, a column per measure, the thresholds' behind."""
    mine = table[table["model"] == model]
    wide = mine.pivot(index=["by", "budget", "chosen"], columns="metric", values="value").reset_index()
    shown = ["alerts_per_day", "bothered_per_day", "precision", "recall", "money_caught_share", "net_saved_per_day"]
    return wide[["by", "budget", "chosen", *shown, "net_saved_gain"]]


def policy_of(config: RunConfig) -> decisions.Policy:
    """Return the policy a config states, before a review has its price."""
    decision, stated = config.decision, config.decision.policy

    def costs(of: Any, stops: float) -> decisions.ActionCost:
        return decisions.ActionCost(of.cost, of.friction, stops)

    return decisions.Policy(
        step_up=costs(stated.step_up, decision.stopped[0]),
        limit=costs(stated.limit, decision.stopped[1]),
        review=decisions.ActionCost(decision.review_cost, decision.false_alarm_cost, decision.recovery_rate),
        decline=costs(stated.decline, stated.decline.stops),
        loss_given_fraud=stated.loss_given_fraud,
        automatic=stated.automatic,
        at_least={"medium": stated.medium, "high": stated.high},
    )


def stated_risks(model: FittedModel, prepared: Prepared) -> np.ndarray:
    """Return the risk a model states for each payment that it has not learnt from; missing before validation.

    For the validation part these are the risks of the model before its refit. Payments it learnt from have none: their
    risk would tell of their label, which nobody knew then. A model that states no risk gives none at all.
    """
    fold, time = prepared.fold, prepared.transactions["event_time"]
    risk = np.full(len(time), np.nan)
    if model.calibrator is None or model.valid_score is None:
        return risk
    learnt = np.zeros(len(time), dtype=bool)
    for part in (fold.train, fold.refit):
        learnt[part] = True
    later = np.flatnonzero((time >= time.iloc[fold.valid[0]]).to_numpy() & ~learnt)
    risk[later] = model.risk(prepared.features.iloc[later])
    risk[fold.valid] = model.risk_of(model.valid_score)
    return risk


def customer_ratings(model: FittedModel, prepared: Prepared, config: RunConfig) -> rating.Ratings:
    """Rate every customer at each midnight from the validation to the end of the test, as known then.

    A confirmed fraud counts from the day it was reported; until then a payment counts with the risk the model stated,
    where it had not learnt from it. Where nobody knows when labels came in (`features.labels` is false), none counts.
    """
    transactions, fold = prepared.transactions, prepared.fold
    time, outcome = transactions["event_time"], transactions["is_fraud"]
    if not config.features.labels:
        outcome = pd.Series(pd.NA, index=outcome.index, dtype="boolean")
    return rating.rate(
        transactions[config.split.entity],
        time,
        stated_risks(model, prepared),
        outcome,
        transactions["label_time"],
        rule=rating.RatingRule(**config.decision.rating.model_dump()),
        start=time.iloc[fold.valid[0]],
        end=time.iloc[fold.test[-1]],
    )


@dataclass(frozen=True, eq=False)
class Decided:
    """What the policy does in one part of the fold; `problem` says why rules could not be part of it, where so."""

    policy: decisions.Policy
    actions: pd.DataFrame
    problem: str = ""


def decide(
    model: FittedModel,
    prepared: Prepared,
    config: RunConfig,
    *,
    policy: decisions.Policy | None = None,
    with_rules: bool = True,
    ratings: rating.Ratings | None = None,
    part: str = "test",
) -> Decided:
    """Choose an action for each payment of a part, by prices that keep the budgets on validation.

    Parameters
    ----------
    model : states the risks; needs its validation scores.
    policy : costs and who may act alone; None takes the config's.
    with_rules : whether rules of the config's rule book may ask for more.
    ratings : from `customer_ratings`; None asks for nothing on their account.
    part : "test" or "valid".

    Raises
    ------
    InputError : the model states no risk, or has no validation scores.
    """
    if model.calibrator is None or model.valid_score is None:
        raise InputError("policy: needs a model that states a risk and has scores on validation; train it again")
    policy = policy_of(config) if policy is None else policy
    valid, here = prepared.rows("valid"), prepared.rows(part)
    risk = {"valid": model.risk_of(model.valid_score)}
    risk[part] = risk["valid"] if part == "valid" else model.risk(here["features"])

    def asked(of: dict[str, Any], rules: bool) -> dict[str, Any]:
        who = _whose(of, config)
        customer = None if ratings is None else np.asarray(ratings.at(who["entity"], who["event_time"]), dtype=object)
        return {"rules": _ruled(of, config) if rules else None, "customer": customer}

    whose, problem = _whose(valid, config), ""
    given = (risk["valid"], whose["amount"], whose["event_time"], whose["entity"])
    budgets = {name: getattr(config.decision, name) for name in ("alerts_per_day", "step_up_per_day")}
    try:
        priced = decisions.with_prices(policy, *given, **budgets, **asked(valid, with_rules))
    except InputError as error:
        if not with_rules:
            raise
        problem, with_rules = str(error), False
        priced = decisions.with_prices(policy, *given, **budgets, **asked(valid, with_rules))
    amount = here["transactions"]["amount"].to_numpy()
    return Decided(priced, decisions.decide(risk[part], amount, priced, **asked(here, with_rules)), problem)


def _ruled(part: Mapping[str, Any], config: RunConfig) -> pd.Series | None:
    """Return what the active rules ask for; None where the config names no book."""
    book = ruling.book_of(config)
    return None if book is None else rulebook.strongest_action(book, rulebook.fired(book, ruling.rule_table(part)))


def policy_tables(
    model: FittedModel,
    prepared: Prepared,
    scores: pd.DataFrame,
    config: RunConfig,
    *,
    ratings: rating.Ratings | None = None,
    thresholds: Mapping[str, Any],
    n_boot: int = 200,
) -> dict[str, pd.DataFrame]:
    """Table what the policy does on the test part, why, and what it costs beside the tiers that packages cut today.

    Parameters
    ----------
    model, prepared, scores, config : as in `simulation`.
    ratings : from `customer_ratings`; None leaves them out.
    thresholds : of the tiers in use, as in thresholds.json.
    n_boot : bootstrap replicates over entities.

    Returns
    -------
    dict of tables, empty ones for a model that states no risk.
    policy: action, decided_by, transactions, frauds, fraud_rate, amount, fraud_amount, cases_per_day.
    policy_reasons: action, proposed, why, transactions.
    policy_costs: action, cost, friction, stops, price (what it must save beyond its cost, by the budgets).
    policy_outcomes: way (see `plots.WAY_LABELS`), against, metric (see `metrics.ACTED`), value, low, high, n, note.
    policy_prices: way, action, price: what `acting_of` packs for a model that acts that way.
    """
    if model.calibrator is None or model.valid_score is None:
        return {name: pd.DataFrame(columns=list(columns)) for name, columns in POLICY_TABLES.items()}
    part = prepared.rows("test")
    whole = decide(model, prepared, config, ratings=ratings)
    tiers = decisions.assign_tiers(
        scores[config.model.kind].to_numpy(), decisions.Thresholds.from_dict(dict(thresholds))
    )
    ways = {"tiers": decisions.actions_for(tiers)}
    done = {"costs": decide(model, prepared, config, with_rules=False)}
    if ruling.book_of(config) is not None and not whole.problem:
        done["rules"] = decide(model, prepared, config)
    ways |= {way: decided.actions["action"] for way, decided in done.items()}
    ways["policy"] = whole.actions["action"]
    outcomes = _outcomes(part, ways, whole.policy, config, n_boot)
    if whole.problem:
        outcomes.loc[outcomes["way"] == "policy", "note"] += f"; without rules: {whole.problem}"
    stated = whole.policy.costs.loc[list(decisions.WEIGHED)].rename_axis("action").reset_index()
    prices = {"step_up_authentication": whole.policy.step_up_price, "manual_review": whole.policy.review_price}
    return {
        "policy": _action_table(part, whole.actions, config),
        "policy_reasons": whole.actions.groupby(["action", "proposed", "why"], sort=False)
        .size()
        .rename("transactions")
        .reset_index()
        .sort_values("transactions", ascending=False, ignore_index=True),
        "policy_costs": stated[["action", "cost", "friction", "stops"]].assign(
            price=stated["action"].map(prices).fillna(0.0)
        ),
        "policy_outcomes": outcomes,
        "policy_prices": pd.DataFrame(
            [
                (way, action, price)
                for way, decided in done.items()
                for action, price in (
                    ("step_up_authentication", decided.policy.step_up_price),
                    ("manual_review", decided.policy.review_price),
                )
            ],
            columns=list(POLICY_TABLES["policy_prices"]),
        ),
    }


def acting_of(config: RunConfig, thresholds: decisions.Thresholds, prices: pd.DataFrame | None = None) -> Acting:
    """Return how the deployed model acts: `decision.way` of the config, with its prices and the rules that fit.

    Parameters
    ----------
    thresholds : of the tiers.
    prices : `policy_prices` of `policy_tables`; needed unless the way is "tiers".

    Raises
    ------
    InputError : the way has no prices, as the model states no risk; the way is "rules" and an active rule does not fit
        the columns that are scored.
    """
    way, book = config.decision.way, ruling.book_of(config)
    if book is not None:
        unfit = rulebook.misfits(book, ruling.columns_of_config(config), ("active",))
        if unfit and way == "rules":
            raise InputError("\n".join(unfit.values()))
        fitting = tuple(rule for rule in book.of() if rule.id not in unfit)
        book = book.model_copy(update={"rule": fitting}) if fitting else None
    if way == "tiers":
        return Acting(thresholds, book=book)
    mine = {} if prices is None else dict(prices[prices["way"] == way][["action", "price"]].to_numpy().tolist())
    if not mine:
        raise InputError(
            f"decision.way: '{way}' needs a model that states a risk and has scores on validation; choose 'tiers'"
        )
    priced = replace(
        policy_of(config), step_up_price=mine["step_up_authentication"], review_price=mine["manual_review"]
    )
    return Acting(thresholds, way, priced, book)


def _outcomes(
    part: dict[str, Any], ways: Mapping[str, pd.Series], policy: decisions.Policy, config: RunConfig, n_boot: int
) -> pd.DataFrame:
    return metrics.action_outcomes(
        part["y"],
        ways,
        policy.costs,
        **_whose(part, config),
        loss_given_fraud=policy.loss_given_fraud,
        n_boot=n_boot,
        seed=config.seed,
    )


def _action_table(part: dict[str, Any], actions: pd.DataFrame, config: RunConfig) -> pd.DataFrame:
    """Count what each action of the policy got; a case counts under its severest action of the day."""
    rank = actions["action"].map(decisions.ACTIONS.index).to_numpy()
    frame = pd.DataFrame(_whose(part, config)).assign(rank=rank, fraud=np.asarray(part["y"], dtype=np.int64))
    frame["day"] = frame["event_time"].dt.tz_convert("UTC").dt.floor("D")
    frame["fraud_amount"] = frame["fraud"] * frame["amount"]
    found = frame.groupby("rank").agg(
        transactions=("fraud", "size"),
        frauds=("fraud", "sum"),
        amount=("amount", "sum"),
        fraud_amount=("fraud_amount", "sum"),
    )
    highest = frame.groupby(["day", "entity"], sort=False)["rank"].max().value_counts() / frame["day"].nunique()
    found = found.reindex(range(len(decisions.ACTIONS)), fill_value=0)
    found = found.assign(action=decisions.ACTIONS, cases_per_day=highest.reindex(found.index, fill_value=0.0))
    used = found[(found["transactions"] > 0) | found["action"].isin(["approve", "step_up_authentication"])]
    return pd.DataFrame(
        {
            "action": used["action"],
            "decided_by": used["action"].map(DECIDED_BY),
            "transactions": used["transactions"],
            "frauds": used["frauds"],
            "fraud_rate": (used["frauds"] / used["transactions"]).where(used["transactions"] > 0),
            "amount": used["amount"],
            "fraud_amount": used["fraud_amount"],
            "cases_per_day": used["cases_per_day"],
        }
    ).reset_index(drop=True)


def rating_tables(
    ratings: rating.Ratings, model: FittedModel, prepared: Prepared, config: RunConfig, *, n_boot: int = 200
) -> dict[str, pd.DataFrame]:
    """Table how customers were rated, what followed, and what acting on it would have added to the score on the test.

    Returns
    -------
    dict of tables.
    customer_rating: week, rating, customers, share.
    rating_after: rating, customers (summed over the weeks), transactions (of the week after), frauds, fraud_rate, low,
    high (95 % Wilson interval, as if payments were independent). Every payment with a known outcome counts, those of
    known victims too, which the test part leaves out.
    rating_moves: before, after, customers, share; from one week to the next.
    rating_effect: as policy_outcomes, ways "costs", "rating_step_up", "rating_review"; empty for a model without risks.
    """
    transactions = prepared.transactions
    weeks = rating.rating_weeks(
        ratings, transactions["is_fraud"], transactions["event_time"], transactions[config.split.entity]
    )
    everybody = weeks.groupby("week")["customers"].transform("sum")
    after = weeks.groupby("rating", as_index=False)[["customers", "transactions", "frauds"]].sum()
    after = after.set_index("rating").loc[list(rating.RATINGS)].reset_index()
    some = after["transactions"].to_numpy() > 0
    low, high = np.full((2, len(after)), np.nan)
    low[some], high[some] = metrics.wilson(after["frauds"].to_numpy()[some], after["transactions"].to_numpy()[some])
    rate = (after["frauds"] / after["transactions"]).where(some)
    return {
        "customer_rating": weeks[["week", "rating", "customers"]].assign(share=weeks["customers"] / everybody),
        "rating_after": after.assign(fraud_rate=rate, low=low, high=high),
        "rating_moves": rating.rating_moves(ratings),
        "rating_effect": _rating_effect(ratings, model, prepared, config, n_boot),
    }


def _rating_effect(
    ratings: rating.Ratings, model: FittedModel, prepared: Prepared, config: RunConfig, n_boot: int
) -> pd.DataFrame:
    if model.calibrator is None or model.valid_score is None:
        return pd.DataFrame(columns=list(OUTCOME_COLUMNS))
    part = prepared.rows("test")
    at = np.asarray(ratings.at(*[_whose(part, config)[name] for name in ("entity", "event_time")]), dtype=object)
    alone = decide(model, prepared, config, with_rules=False)
    ways = {"costs": alone.actions["action"]}
    risk, amount = model.risk(part["features"]), part["transactions"]["amount"].to_numpy()
    for way, least in (("rating_step_up", "step_up_authentication"), ("rating_review", "manual_review")):
        # Prices stay: what is asked is what ratings add to what the score does already.
        raised = replace(alone.policy, at_least={"high": least})
        ways[way] = decisions.decide(risk, amount, raised, customer=at)["action"]
    return _outcomes(part, ways, alone.policy, config, n_boot)


def ways_overview(*outcomes: pd.DataFrame) -> pd.DataFrame:
    """Lay ways of choosing actions out for reading: a row per way, what it costs a day, and how much more than another.

    Parameters
    ----------
    outcomes : tables "policy_outcomes" and "rating_effect".
    """
    rows = []
    for table in outcomes:
        for (way, against), found in table.groupby(["way", "against"], sort=False):
            if against or way == table["way"].iloc[0]:
                own = table[(table["way"] == way) & (table["against"] == "")].set_index("metric")["value"]
                more = found.set_index("metric").loc["cost_per_day"] if against else None
                rows.append(
                    {
                        "way": WAY_LABELS.get(str(way), way),
                        **{metric: own[metric] for metric in metrics.ACTED if metric != "saved_per_day"},
                        "against": WAY_LABELS.get(str(against), against),
                        "costs more": np.nan if more is None else more["value"],
                        "low": np.nan if more is None else more["low"],
                        "high": np.nan if more is None else more["high"],
                    }
                )
    return pd.DataFrame(rows)


def _whose(part: Mapping[str, Any], config: RunConfig) -> dict[str, Any]:
    """Return when, whose and how much, as the metrics take them."""
    transactions = part["transactions"]
    return {
        "event_time": transactions["event_time"],
        "entity": transactions[config.split.entity],
        "amount": transactions["amount"].to_numpy(),
    }
