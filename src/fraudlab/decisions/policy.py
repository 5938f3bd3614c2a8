"""The action of least expected cost for each transaction, within what investigators can review and people must decide.

Every action is three numbers: what it costs whoever gets it, what more where the customer is genuine, which share of a
fraud's amount it stops. From calibrated risk and amount follows what each is expected to cost; the cheapest is taken,
reviews only as many as there are people for. Fired rules and a customer's rating can ask for more, never for less.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from fraudlab.decisions.thresholds import TIERS, _best_of_cases, _same_rows
from fraudlab.schema import InputError, did_you_mean

ACTIONS = ("approve", "step_up_authentication", "limit", "manual_review", "limit_and_review", "decline")
"""Every action, from the mildest to the most severe."""

ADVERSE = ("limit", "limit_and_review", "decline")
"""Actions that take something from a customer; a person decides them unless `Policy.automatic` names them."""

WEIGHED = ("approve", "step_up_authentication", "limit", "manual_review", "decline")
"""Actions with costs of their own; `limit_and_review` counts as a review and comes only from rules and tiers."""

TIER_OF = dict(zip(ACTIONS, ("low", "elevated", "high", "high", "severe", "severe"), strict=True))

_PERSON = "a person decides, as what is adverse is not left to a machine alone (GDPR Art. 22)"
WHY = {
    "cheapest": "No action is expected to cost less at this risk and amount.",
    "budget": "A severer action would pay here, but the day's reviews and second factors go where they save more.",
    "person": f"A severer action is expected to cost least; {_PERSON}.",
    "not_worth": "A severer action would cost least, but asking a person about it costs more than it saves.",
    "automatic": "It is expected to cost least, and the config allows it without a person.",
    "rule": "A rule asks for it.",
    "rule_person": f"A rule asks for a severer action; {_PERSON}.",
    "rating": "The customer's rating asks for it.",
    "rating_person": f"The customer's rating asks for a severer action; {_PERSON}.",
    "allowed": "The payment is on the list of those that may pass.",
}
"""Reason for an action -> its sentence for people."""

_RANK = {action: rank for rank, action in enumerate(ACTIONS)}
_REVIEW = _RANK["manual_review"]


@dataclass(frozen=True)
class ActionCost:
    """What an action costs whoever gets it, what more where the customer is genuine, which share of a fraud it stops.

    >>> ActionCost(cost=15.0, stops=0.8).friction
    0.0
    """

    cost: float = 0.0
    friction: float = 0.0
    stops: float = 0.0

    def __post_init__(self) -> None:
        numbers = (self.cost, self.friction, self.stops)
        if not (all(np.isfinite(numbers)) and min(numbers) >= 0 and self.stops <= 1):
            raise InputError(
                f"action: cost and friction must be finite and >= 0, stops a share in [0, 1]; found cost {self.cost}, "
                f"friction {self.friction}, stops {self.stops}; correct decision.policy"
            )


@dataclass(frozen=True)
class Policy:
    """What each action costs and stops, who may act without a person, what rules and ratings ask for at least.

    Parameters
    ----------
    step_up, limit, review, decline : costs of the four actions; along this order `stops` and `friction` never fall, so
        that a higher risk never leads to a milder action.
    loss_given_fraud : share of a fraud's amount that is lost where nothing stops it, in [0, 1].
    automatic : those of `ADVERSE` that are carried out without a person. Empty: none is.
    at_least : a customer's rating -> the least severe action for this customer's transactions.
    review_price, step_up_price : what a review, and a second factor, must be expected to save beyond its cost;
        `with_prices` sets them from budgets.

    Raises
    ------
    InputError : stops or friction fall along the order, a share or price is out of range, an action is unknown.
    """

    step_up: ActionCost
    limit: ActionCost
    review: ActionCost
    decline: ActionCost
    loss_given_fraud: float = 1.0
    automatic: tuple[str, ...] = ()
    at_least: Mapping[str, str] = field(default_factory=dict)
    review_price: float = 0.0
    step_up_price: float = 0.0

    def __post_init__(self) -> None:
        along = (self.step_up, self.limit, self.review, self.decline)
        for name in ("stops", "friction"):
            values = [getattr(each, name) for each in along]
            if sorted(values) != values:
                raise InputError(
                    f"policy: {name} must not fall from step_up over limit and review to decline, or a higher risk "
                    f"could get a milder action; found {', '.join(f'{value:g}' for value in values)}; correct it"
                )
        if not 0 <= self.loss_given_fraud <= 1:
            raise InputError(
                f"policy: loss_given_fraud must lie in [0, 1]; found {self.loss_given_fraud}; correct decision.policy"
            )
        for name in ("review_price", "step_up_price"):
            if not getattr(self, name) >= 0:
                raise InputError(f"policy: {name} must be >= 0; found {getattr(self, name)}; choose it again")
        for name in self.automatic:
            if name not in ADVERSE:
                raise InputError(f"policy: automatic: '{name}' is no adverse action; {did_you_mean(name, ADVERSE)}")
        for name in self.at_least.values():
            if name not in ACTIONS:
                raise InputError(f"policy: at_least: unknown action '{name}'; {did_you_mean(name, ACTIONS)}")

    @property
    def costs(self) -> pd.DataFrame:
        """A row per action of `ACTIONS`: cost, friction, stops, by_case (paid once for all of a case's transactions).

        `limit_and_review` costs and stops what a review does.
        """
        rows = [ActionCost(), self.step_up, self.limit, self.review, self.review, self.decline]
        table = pd.DataFrame([(each.cost, each.friction, each.stops) for each in rows], index=list(ACTIONS))
        return table.set_axis(["cost", "friction", "stops"], axis=1).assign(
            by_case=[name in ("manual_review", "limit_and_review") for name in ACTIONS]
        )


def expected_costs(risk: Any, amount: Any, policy: Policy) -> pd.DataFrame:
    """Return what each action is expected to cost for each transaction by itself.

    Parameters
    ----------
    risk : calibrated probability of fraud, shape (n,), in [0, 1]; a score that is no probability gives wrong answers.
    amount : shape (n,), >= 0, in major units.
    policy : its costs; its prices are not added.

    Returns
    -------
    DataFrame (n rows), a column per action of `WEIGHED`:
    cost + (1 - risk) * friction + risk * amount * loss_given_fraud * (1 - stops).

    Raises
    ------
    InputError : lengths differ, a risk outside [0, 1], an amount negative or not finite.

    References
    ----------
    Elkan (2001), The foundations of cost-sensitive learning, IJCAI. Costs that differ from transaction to transaction:
    Bahnsen, Aouada, Ottersten (2015), doi:10.1016/j.eswa.2015.04.042.

    >>> policy = Policy(ActionCost(1, 0, 0.5), ActionCost(2, 0, 0.7), ActionCost(15, 0, 0.8), ActionCost(0, 25, 1))
    >>> expected_costs([0.1], [200.0], policy).round(2).iloc[0].tolist()
    [20.0, 11.0, 8.0, 19.0, 22.5]
    """
    risk, amount = np.asarray(risk, dtype=float), np.asarray(amount, dtype=float)
    _same_rows(risk=risk, amount=amount)
    if wrong := int((~((risk >= 0) & (risk <= 1))).sum()):
        raise InputError(f"risk: must lie in [0, 1]; found {wrong:,} others of {len(risk):,}; pass calibrated risks")
    if wrong := int((~(np.isfinite(amount) & (amount >= 0))).sum()):
        raise InputError(f"amount: must be finite and >= 0; found {wrong:,} others of {len(amount):,}; mend them")
    loss = risk * amount * policy.loss_given_fraud
    return pd.DataFrame(
        {
            name: row.cost + (1 - risk) * row.friction + loss * (1 - row.stops)
            for name, row in zip(WEIGHED, policy.costs.loc[list(WEIGHED)].itertuples(), strict=True)
        }
    )


def decide(
    risk: Any, amount: Any, policy: Policy, *, rules: Any = None, allowed: Any = None, customer: Any = None
) -> pd.DataFrame:
    """Choose an action for each transaction: the cheapest that may be done, and more where rules or ratings ask for it.

    Parameters
    ----------
    risk, amount : as in `expected_costs`.
    policy : costs, who may act alone, the price of a review.
    rules : shape (n,), the most severe action that a fired rule asks for; missing where none fired.
    allowed : bool, shape (n,); on a list of those that may pass. It overrules model and rating, never a fired rule.
    customer : shape (n,), the customer's rating when the transaction came in; those not in `at_least` ask for nothing.

    Returns
    -------
    DataFrame (n rows): tier (ordered, as in `TIERS`), action (what is done now), proposed (what would cost least if
    all of it could be done, which is what a reviewing person is advised), why (a sentence of `WHY`). An adverse action
    not in `policy.automatic` is proposed, and a manual review is done. Of equally cheap actions the mildest is taken.

    Raises
    ------
    InputError : as in `expected_costs`; lengths differ, an unknown action.

    >>> policy = Policy(ActionCost(1, 0, 0.5), ActionCost(2, 0, 0.7), ActionCost(15, 0, 0.8), ActionCost(0, 25, 1))
    >>> decide([0.001, 0.05, 0.9], [50.0, 90.0, 400.0], policy)[["action", "proposed"]].values.tolist()
    [['approve', 'approve'], ['step_up_authentication', 'step_up_authentication'], ['manual_review', 'decline']]
    """
    weighed = _Weighed.of(risk, amount, policy)
    n = len(weighed.review_gain)
    asked = _asked(n, rules, "rules"), _asked(n, _at_least(n, customer, policy), "at_least")
    passing = np.zeros(n, dtype=bool) if allowed is None else np.asarray(allowed, dtype=bool)
    _same_rows(risk=weighed.review_gain, allowed=passing)
    reviewed = weighed.review_gain > policy.review_price
    action = np.where(reviewed, _REVIEW, weighed.alone)
    proposed = weighed.cheapest.copy()
    asks_person = np.isin(proposed, [_RANK[name] for name in ADVERSE if not _alone(name, policy)])
    why = np.select(
        [
            reviewed & asks_person,
            weighed.wanted != action,
            asks_person,
            np.isin(action, [_RANK[name] for name in policy.automatic]),
        ],
        ["person", "budget", "not_worth", "automatic"],
        "cheapest",
    ).astype(object)
    action[passing] = proposed[passing] = 0
    why[passing] = "allowed"
    alone = [rank for rank, name in enumerate(ACTIONS) if _alone(name, policy)]
    for rank, name, on in ((asked[1], "rating", ~passing), (asked[0], "rule", True)):
        done = np.where(np.isin(rank, alone), rank, _REVIEW)
        raised, advised = on & (rank > 0) & (done > action), on & (rank > np.maximum(proposed, action))
        action[raised] = done[raised]
        told = raised | advised & (done == action)
        why[told] = np.where(done == rank, name, f"{name}_person")[told]
        proposed = np.maximum(proposed, np.where(on, rank, 0))
    names = np.array(ACTIONS, dtype=object)
    return pd.DataFrame(
        {
            "tier": pd.Categorical([TIER_OF[name] for name in names[action]], categories=list(TIERS), ordered=True),
            "action": pd.Series(names[action]).astype("str"),
            "proposed": pd.Series(names[proposed]).astype("str"),
            "why": pd.Series(why).map(WHY).astype("str"),
        }
    )


def with_prices(
    policy: Policy,
    risk: Any,
    amount: Any,
    event_time: Any,
    entity: Any,
    *,
    alerts_per_day: float,
    step_up_per_day: float = np.inf,
    rules: Any = None,
    allowed: Any = None,
    customer: Any = None,
) -> Policy:
    """Return the policy with prices of a review and a second factor that keep their budgets on these transactions.

    Parameters
    ----------
    policy : its own prices are not looked at.
    risk, amount, event_time, entity : shape (n,), of transactions the model was not fitted on. A case is one entity on
        one day (UTC); it is reviewed when one of its transactions is.
    alerts_per_day : cases a day, on average over the days that have transactions, for investigators.
    step_up_per_day : further cases a day asked for a second factor because of their costs.
    rules, allowed, customer : as in `decide`. The reviews they ask for fill the investigators' budget first; the second
        factors they ask for come on top.

    Returns
    -------
    Policy whose prices are 0 where the budgets hold all that pays, and whose review price is else the least that keeps
    the budget. Of cases that save equally much, on the edge of a budget, none is taken.

    Raises
    ------
    InputError : as in `decide`; a budget out of range; rules and ratings alone ask for more reviews than it holds.

    >>> policy = Policy(ActionCost(1, 0, 0.5), ActionCost(2, 0, 0.7), ActionCost(15, 0, 0.8), ActionCost(0, 25, 1))
    >>> day = pd.to_datetime(["2026-01-01"] * 3, utc=True)
    >>> priced = with_prices(policy, [0.9, 0.8, 0.9], [900, 700, 800], day, list("abc"), alerts_per_day=2)
    >>> decide([0.9, 0.8, 0.9], [900, 700, 800], priced)["action"].tolist()
    ['manual_review', 'step_up_authentication', 'manual_review']
    """
    if not alerts_per_day > 0:
        raise InputError(f"alerts_per_day: must be above 0; found {alerts_per_day}; correct decision.alerts_per_day")
    if not step_up_per_day >= 0:
        raise InputError(f"step_up_per_day: must be >= 0; found {step_up_per_day}; correct decision.step_up_per_day")
    time, entity = pd.DatetimeIndex(event_time), pd.Series(entity)
    closed = decide(risk, amount, replace(policy, review_price=np.inf, step_up_price=np.inf),
                    rules=rules, allowed=allowed, customer=customer)["action"]  # fmt: skip
    _same_rows(risk=closed, event_time=time, entity=entity)
    forced = closed.isin(["manual_review", "limit_and_review"]).to_numpy()
    asked = (closed != "approve").to_numpy() if rules is not None or customer is not None else np.zeros_like(forced)
    passing = np.zeros(len(closed), dtype=bool) if allowed is None else np.asarray(allowed, dtype=bool)

    def by_case(gain: np.ndarray) -> pd.Series:
        return _best_of_cases(np.where(passing, -np.inf, gain), time, entity)[0]

    days = max(1, _best_of_cases(np.zeros(len(closed)), time, entity)[1])
    by_force = _best_of_cases(forced.astype(float), time, entity)[0].to_numpy() > 0
    if by_force.sum() > (count := int(np.floor(alerts_per_day * days + 1e-9))):
        raise InputError(
            f"policy: rules and ratings alone ask for {by_force.sum() / days:,.1f} reviews a day, above the budget of "
            f"{alerts_per_day:,}; make them stricter or raise decision.alerts_per_day"
        )
    policy = replace(policy, review_price=0.0, step_up_price=0.0)
    while True:
        weighed = _Weighed.of(risk, amount, policy)
        review = np.where(by_force, np.inf, by_case(weighed.review_gain).to_numpy())
        policy = replace(policy, review_price=_least_price(review, count))
        # Cases that are not reviewed and that costs, not rules or ratings, ask for a second factor.
        gain = by_case(np.where(asked, -np.inf, weighed.step_up_gain)).to_numpy()
        gain = np.where(review > policy.review_price, -np.inf, gain)
        if (gain > policy.step_up_price).sum() <= step_up_per_day * days + 1e-9:
            return policy
        policy = replace(policy, step_up_price=_least_price(gain, int(np.floor(step_up_per_day * days + 1e-9))))


def _least_price(gain: np.ndarray, count: int) -> float:
    """Return the least price >= 0 that at most `count` gains exceed."""
    return float(max(0.0, np.sort(gain)[::-1][count])) if count < len(gain) else 0.0


@dataclass(frozen=True)
class _Weighed:
    """Per transaction: the cheapest of all actions; the cheapest without a person, a second factor at its price.

    `wanted` is what would be done if prices were nothing. The gains are what a review, and a second factor, saves
    beside the best that could be done without it; compared with their prices they decide.
    """

    cheapest: np.ndarray
    wanted: np.ndarray
    alone: np.ndarray
    review_gain: np.ndarray
    step_up_gain: np.ndarray

    @classmethod
    def of(cls, risk: Any, amount: Any, policy: Policy) -> _Weighed:
        costs = expected_costs(risk, amount, policy)
        review, step_up = costs["manual_review"].to_numpy(), costs["step_up_authentication"].to_numpy()
        may = [name for name in WEIGHED if name not in ("manual_review", "step_up_authentication")]
        others, other = _cheapest(costs, [name for name in may if _alone(name, policy)])
        gain = others - step_up
        stepped = gain > policy.step_up_price
        done_for = np.where(stepped, step_up + policy.step_up_price, others)
        open_to_all = [name for name in WEIGHED if name == "manual_review" or _alone(name, policy)]
        return cls(
            cheapest=_cheapest(costs, list(WEIGHED))[1],
            wanted=_cheapest(costs, open_to_all)[1],
            alone=np.where(stepped, _RANK["step_up_authentication"], other),
            review_gain=done_for - review,
            step_up_gain=gain,
        )


def _cheapest(costs: pd.DataFrame, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the least cost among some actions and its action's rank, the mildest of equally cheap ones."""
    values = costs[names].to_numpy()
    if not len(values):
        return np.zeros(0), np.zeros(0, dtype=int)
    least = values.argmin(axis=1)
    return values[np.arange(len(values)), least], np.array([_RANK[name] for name in names])[least]


def _alone(action: str, policy: Policy) -> bool:
    """Say whether an action is carried out as it is asked for, without a person deciding it first."""
    return action not in ADVERSE or action in policy.automatic


def _at_least(n: int, customer: Any, policy: Policy) -> Any:
    if customer is None:
        return None
    _same_rows(risk=range(n), customer=customer)
    return pd.Series(np.asarray(customer, dtype=object)).map(dict(policy.at_least))


def _asked(n: int, actions: Any, argument: str) -> np.ndarray:
    """Return the rank of the action asked for, 0 where none is."""
    if actions is None:
        return np.zeros(n, dtype=int)
    given = pd.Series(np.asarray(actions, dtype=object))
    _same_rows(risk=range(n), **{argument: given})
    known = given.dropna()
    if unknown := sorted({str(name) for name in known.unique()} - set(ACTIONS)):
        raise InputError(f"{argument}: unknown action '{unknown[0]}'; {did_you_mean(unknown[0], ACTIONS)}")
    return given.map(_RANK).fillna(0).to_numpy(dtype=int)
