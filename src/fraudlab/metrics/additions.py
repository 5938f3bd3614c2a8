"""What rules bring alone, what they add to a model's k cases a day, and what they would displace among these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fraudlab.metrics.cases import Cases, Data, near_top, numbers, same_length, take, whole
from fraudlab.metrics.cells import SMALLEST_CELL
from fraudlab.metrics.replicates import draws, interval_note, percentiles
from fraudlab.schema import InputError

RULE_OUTCOMES: dict[str, str] = {
    "payments_per_day": "payments a day on which it fires",
    "alerts_per_day": "cases a day with an alert; a case is a customer on a day",
    "displaced_per_day": "cases a day that the model would have had reviewed and that make room",
    "bothered_per_day": "those of the cases without a fraud: genuine customers a day who are bothered",
    "customers_bothered": "different customers without any fraud in the period who are bothered in it",
    "precision": "share of the cases with an alert that hold a fraud",
    "recall": "share of all frauds that lie in these cases",
    "money_caught_per_day": "fraud amount a day in these cases",
    "money_caught_share": "share of the fraud amount that lies in these cases",
    "net_saved_per_day": "recovered share of that amount, less the costs of reviews and of false alarms, a day",
}
"""What `rule_outcomes` measures, in its order, with its meaning."""
RULE_VIEWS: dict[str, str] = {
    "alone": "every case the rule alerts, without the model",
    "beside": "what these cases add when they are reviewed on top of the model's k a day",
    "within": "the change when these cases come first within the k a day and the model fills the rest",
}
"""How a rule is looked at; `within` compares with the model's k cases a day alone."""

FEW_FRAUDS = "not shown: it rests on 1 to 9 frauds; low and high are what 1 and 9 would give"
"""The note of a figure whose number would tell of so few; its `low` and `high` are bounds and no interval."""
_ONLY = {"payments_per_day": "alone", "displaced_per_day": "within"}
_ALWAYS = ("payments_per_day", "alerts_per_day", "displaced_per_day")
_SUMS = ("payments", "cases", "bad", "frauds", "money", "customers", "displaced", "all_frauds", "all_money", "sharper")


def rule_outcomes(
    y: Any,
    fired: pd.DataFrame,
    *,
    score: Any,
    event_time: Any,
    entity: Any,
    amount: Any,
    k: int,
    review_cost: float,
    recovery_rate: float,
    false_alarm_cost: float = 0.0,
    together: Sequence[str] = (),
    n_boot: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure each rule alone and against a model that fills k cases a day, with intervals over entities.

    Parameters
    ----------
    y, event_time, entity, amount : as in `evaluate`.
    fired : booleans, a row per transaction and a column per rule; one payment on which a rule fires is enough to
        review the whole case, its other transactions of the day included.
    score : of the model, shape (n,), finite; None where there is no model, and then rules are looked at alone.
    k : cases a day that the model fills: the best ones of each day, ties as in `evaluate`.
    review_cost, recovery_rate, false_alarm_cost : as in `alert_outcomes`.
    together : columns of `fired` that are also measured as one, "together": a case of any is one of theirs.
    n_boot : bootstrap replicates, entities with all their rows; the model's cases and those that rules displace are
        chosen anew in each. 0 asks for no intervals.
    seed : of the bootstrap; equal seeds give equal tables.

    Returns
    -------
    DataFrame, a row per rule, view (`RULE_VIEWS`) and metric (`RULE_OUTCOMES`) that fits the view: rule, view, metric,
    value, low, high, n (transactions), note. First the model itself, as rule "model", view "alone". Views "beside" and
    "within" hold differences from the model; only the precision beside it is that of the cases added, and within it the
    difference of both precisions. `value` is NaN exactly where `note` begins "not applicable" or "not shown"; where it
    is `FEW_FRAUDS`, low and high say between what it lies.

    Raises
    ------
    InputError : as in `alert_outcomes`; `fired` is no table of truth values, names a rule "model" or "together", or
        lacks one of `together`.

    Notes
    -----
    Within the budget, the cases a rule alerts come first, best score first, then the model's own; of more than k such
    ones the worst are left. A figure that rests on 1 to 9 frauds or compromised cases is not shown, nor one from which
    such a number follows: the frauds shared with the model are those alone less those beside it, and the frauds of
    rules together less those of one. Where fewer than 10 cases make a figure or a difference, nothing of it is shown.
    The rules stay as they are in every replicate.

    The model's one case a day is customer 0; a rule alerts customers 0 and 1, of whom 1 is a victim as well:

    >>> day = pd.to_datetime(["2026-01-01"] * 3, utc=True)
    >>> table = rule_outcomes([1, 1, 0], pd.DataFrame({"r": [True, True, False]}), score=[0.9, 0.1, 0.5], k=1,
    ...     event_time=day, entity=[0, 1, 2], amount=[50, 80, 10], review_cost=15, recovery_rate=0.8, n_boot=0)
    >>> table.loc[table["view"] == "beside", ["metric", "note"]].values[0].tolist()
    ['alerts_per_day', 'not shown: fewer than 10 cases']
    """
    names = _rule_names(fired, together)
    costs = {"review_cost": review_cost, "recovery_rate": recovery_rate, "false_alarm_cost": false_alarm_cost}
    for name, cost in costs.items():
        if not (np.isfinite(cost) and cost >= 0 and (name != "recovery_rate" or cost <= 1)):
            rule = "lie in [0, 1]" if name == "recovery_rate" else "be finite and >= 0"
            raise InputError(f"{name}: must {rule}; found {cost}; correct decision.{name}")
    flags = fired.to_numpy(dtype=bool)
    same_length(y=pd.Series(y), fired=flags)
    if together:
        flags = np.column_stack([flags, flags[:, [names.index(name) for name in together]].any(axis=1)])
        names = [*names, "together"]
    scored = np.zeros(len(flags)) if score is None else numbers(score, "score")
    data = Data.read(y, scored, event_time, entity, amount=amount)
    sides = _Sides.of(data, flags, whole(k, "k", 1), with_model=score is not None)
    views = [("model", "alone")] if score is not None else []
    views += [(name, view) for name in names for view in (RULE_VIEWS if score is not None else ("alone",))]
    ones = np.ones(len(data.entities))
    point = sides.sums(ones)
    blocks = len(ones)
    replicates = None
    if whole(n_boot, "n_boot", 0) and blocks > 1:
        drawn = np.stack([sides.sums(weights) for weights in draws(blocks, n_boot, seed)])
        replicates = _measures(drawn, len(data.days), costs)
    values = _measures(point, len(data.days), costs)
    turnover = sides.turnover()
    why_not = _hidden(point, turnover, views, together)
    bounds = _bounds(point, turnover, views, len(data.days))
    rows = []
    for place, (rule, view) in enumerate(views):
        for at, metric in enumerate(RULE_OUTCOMES):
            if _ONLY.get(metric, view) != view or (view == "within" and metric == "alerts_per_day"):
                continue
            if rule == "model" and metric == "payments_per_day":
                continue
            reason = why_not[place] if metric not in _ALWAYS or "10 cases" in why_not[place] else ""
            if not reason and metric == "customers_bothered" and 0 < abs(point[place, 5]) < SMALLEST_CELL:
                reason = "not shown: fewer than 10 customers"
            value = values[place, at]
            reason = reason or ("" if np.isfinite(value) else _why_undefined(metric, view))
            low = high = np.nan
            undefined = 0.0
            if reason == FEW_FRAUDS:
                low, high = bounds[place].get(metric, (np.nan, np.nan))
            elif replicates is not None and not reason:
                found = percentiles(replicates[:, place, at][:, None])
                low, high, undefined = (float(each[0]) for each in found)
            rows.append(
                {
                    "rule": rule,
                    "view": view,
                    "metric": metric,
                    "value": np.nan if reason else float(value),
                    "low": low,
                    "high": high,
                    "n": len(flags),
                    "note": reason or interval_note("entity", blocks, n_boot, int(undefined)),
                }
            )
    return pd.DataFrame(rows, columns=["rule", "view", "metric", "value", "low", "high", "n", "note"])


def _rule_names(fired: pd.DataFrame, together: Sequence[str]) -> list[str]:
    names = [str(name) for name in fired.columns]
    for name in ("model", "together"):
        if name in names:
            raise InputError(f"fired: no rule may be called '{name}', a row of the table; rename it")
    for name, dtype in zip(names, fired.dtypes):
        if not pd.api.types.is_bool_dtype(dtype) or fired[name].isna().any():
            raise InputError(f"fired: column '{name}' must be true or false; found other values; use rulebook.fired")
    if lost := [name for name in together if name not in names]:
        raise InputError(f"together: must be columns of fired; found '{lost[0]}'; take it out")
    return names


@dataclass(frozen=True)
class _Sides:
    """The cases that the model or a rule may have reviewed, and what each is worth."""

    model: Cases  # in the model's order of inspection
    first: tuple[tuple[Cases, np.ndarray], ...]  # per rule: its own cases first, and each case's place there
    k: int
    alerted: np.ndarray  # rules x cases
    payments: np.ndarray  # rules x entities: on how many payments each fires
    worth: np.ndarray  # (bad, frauds, money) x cases
    genuine: np.ndarray  # entities without a fraud
    owed: np.ndarray  # (frauds, money) x entities
    with_model: bool

    @classmethod
    def of(cls, data: Data, flags: np.ndarray, k: int, *, with_model: bool) -> _Sides:
        cases = Cases.of(data)
        alerted = np.zeros((flags.shape[1], len(cases.day)), dtype=bool)
        payments = np.zeros((flags.shape[1], len(data.entities)))
        for rule, flag in enumerate(flags.T):
            alerted[rule, cases.of_row[flag]] = True
            payments[rule] = np.bincount(data.entity[flag], minlength=len(data.entities))
        money = data.y * data.amount
        worth = [cases.fraud, *(np.bincount(cases.of_row, each, len(cases.day)) for each in (data.y, money))]
        owed = np.stack([np.bincount(data.entity, each, len(data.entities)) for each in (data.y, money)])
        # What neither a rule nor k copies of the best cases in any replicate reach, is never looked at again.
        keep = np.flatnonzero((cases.place < near_top(k)) | alerted.any(axis=0))
        alerted, worth = alerted[:, keep], np.stack(worth)[:, keep]
        day, entity, days = cases.day[keep], cases.entity[keep], len(data.days)
        first = []
        for mine in alerted if with_model else ():
            order = np.lexsort((np.arange(len(day)), ~mine, day))
            place = np.empty(len(order), dtype=np.int64)
            place[order] = np.arange(len(order))
            first.append((_inspected(entity[order], day[order], days), place))
        model = _inspected(entity, day, days)
        return cls(model, tuple(first), k, alerted, payments, worth, owed[0] == 0, owed, with_model)

    def sums(self, weights: np.ndarray) -> np.ndarray:
        """Return, per rule and view, everything the measures are made of when entity e is there weights[e] times."""
        there = weights[self.model.entity]
        owed = (self.owed * weights).sum(axis=1)
        rows = []
        model = take(self.model, weights, self.k) if self.with_model else np.zeros(len(there))
        bothered, precision = self._bothered(model), self._precision(model)
        if self.with_model:
            rows.append([0.0, *self._worth(model), bothered, 0.0, *owed, np.nan])
        for rule, mine in enumerate(self.alerted):
            alone = there * mine
            fires = (self.payments[rule] * weights).sum()
            rows.append([fires, *self._worth(alone), self._bothered(alone), 0.0, *owed, np.nan])
            if not self.with_model:
                continue
            either = np.maximum(alone, model)
            more = self._bothered(either) - bothered
            rows.append([0.0, *self._worth(either - model), more, 0.0, *owed, np.nan])
            theirs, place = self.first[rule]
            after = take(theirs, weights, self.k)[place]
            moved = after - model
            change = self._bothered(after) - bothered
            sharper = self._precision(after) - precision
            rows.append([0.0, *self._worth(moved), change, -moved[moved < 0].sum(), *owed, sharper])
        return np.array(rows)

    def turnover(self) -> np.ndarray:
        """Return, per rule, (compromised cases, frauds) that come into the budget and those that drop out of it."""
        weights = np.ones(len(self.genuine))
        model = take(self.model, weights, self.k)
        moved = [take(theirs, weights, self.k)[place] - model for theirs, place in self.first]
        return np.array([[self._worth(each.clip(0))[1:3], self._worth((-each).clip(0))[1:3]] for each in moved])

    def _worth(self, taken: np.ndarray) -> list[float]:
        """Return cases, compromised ones, frauds and fraud amount of so many copies of each case."""
        some = np.flatnonzero(taken)  # few; a product of whole arrays would start threads
        return [taken[some].sum(), *(self.worth[:, some] * taken[some]).sum(axis=1)]

    def _precision(self, taken: np.ndarray) -> float:
        cases, bad, *_ = self._worth(taken)
        return bad / cases if cases else np.nan

    def _bothered(self, taken: np.ndarray) -> float:
        """Return how many genuine entities have at least one case among those taken; drawn twice they count twice."""
        some = np.flatnonzero(taken)
        most = np.zeros(len(self.genuine))
        np.maximum.at(most, self.model.entity[some], taken[some])
        return float(most[self.genuine].sum())


def _inspected(entity: np.ndarray, day: np.ndarray, days: int) -> Cases:
    """Return cases in a given order of inspection within their days, with what `take` needs of them."""
    start = np.searchsorted(day, np.arange(days + 1))
    none = np.zeros(0, dtype=np.int64)
    place = np.arange(len(day)) - start[day]
    return Cases(entity=entity, day=day, start=start, fraud=none, of_row=none, place=place, bad=none, bad_start=none)


def _measures(sums: np.ndarray, days: int, costs: dict[str, float]) -> np.ndarray:
    """Turn sums (..., rules and views, `_SUMS`) into the measures (..., rules and views, `RULE_OUTCOMES`)."""
    of = {name: sums[..., at] for at, name in enumerate(_SUMS)}

    def over(part: np.ndarray, total: np.ndarray) -> np.ndarray:
        return np.divide(part, total, out=np.full(part.shape, np.nan), where=total > 0)

    precision = np.where(np.isnan(of["sharper"]), over(of["bad"], of["cases"]), of["sharper"])
    found = {
        "payments_per_day": of["payments"] / days,
        "alerts_per_day": of["cases"] / days,
        "displaced_per_day": of["displaced"] / days,
        "bothered_per_day": (of["cases"] - of["bad"]) / days,
        "customers_bothered": of["customers"],
        "precision": precision,
        "recall": over(of["frauds"], of["all_frauds"]),
        "money_caught_per_day": of["money"] / days,
        "money_caught_share": over(of["money"], of["all_money"]),
    }
    found["net_saved_per_day"] = (
        costs["recovery_rate"] * found["money_caught_per_day"]
        - costs["review_cost"] * found["alerts_per_day"]
        - costs["false_alarm_cost"] * found["bothered_per_day"]
    )
    return np.stack([found[name] for name in RULE_OUTCOMES], axis=-1)


def _few(count: float) -> bool:
    return 0 < round(abs(count)) < SMALLEST_CELL


def _hidden(
    point: np.ndarray, turnover: np.ndarray, views: list[tuple[str, str]], together: Sequence[str]
) -> list[str]:
    """Say per rule and view why what rests on frauds, or any of it, is not shown; empty where it is."""
    at = {view: place for place, view in enumerate(views)}
    rules = [rule for rule, view in views if view == "alone" and rule != "model"]
    said = [""] * len(views)
    for (rule, view), place in at.items():
        cases, bad, frauds, displaced = point[place, [1, 2, 3, 6]]
        shared = point[at[(rule, "alone")], 1:4] - point[place, 1:4]
        if view == "within":
            if _few(displaced):
                said[place] = "not shown: it moves fewer than 10 cases"
            elif any(_few(count) for count in turnover[rules.index(rule)].ravel()):
                said[place] = FEW_FRAUDS
        elif _few(cases):
            said[place] = "not shown: fewer than 10 cases"
        elif view == "beside" and _few(shared[0]):
            said[place] = "not shown: all but fewer than 10 cases are those of the rule alone"
        elif _few(bad) or _few(frauds):
            said[place] = FEW_FRAUDS
        elif view == "beside" and (_few(shared[1]) or _few(shared[2])):
            said[place] = "not shown: it differs from the rule alone by 1 to 9 frauds"
    for view in ("alone", "beside"):
        place = at.get(("together", view))
        if place is None or said[place]:
            continue
        for rule in together:
            other = at[(rule, view)]
            if not said[other] and any(_few(count) for count in point[place, 1:4] - point[other, 1:4]):
                said[place] = "not shown: it differs from one rule's by fewer than 10 cases or frauds"
    return said


def _bounds(
    point: np.ndarray, turnover: np.ndarray, views: list[tuple[str, str]], days: int
) -> list[dict[str, tuple[float, float]]]:
    """Return, per rule and view, what 1 and 9 would make of the figures that rest on so few."""
    found = []
    rules = [rule for rule, view in views if view == "alone" and rule != "model"]
    for place, (rule, view) in enumerate(views):
        if view == "within":
            ends = [
                [(1, SMALLEST_CELL - 1) if _few(n) else (n, n) for n in side] for side in turnover[rules.index(rule)]
            ]
            (bad_in, frauds_in), (bad_out, frauds_out) = ends
            bad = (bad_in[0] - bad_out[1], bad_in[1] - bad_out[0])
            frauds = (frauds_in[0] - frauds_out[1], frauds_in[1] - frauds_out[0])
            cases, reviewed = 0.0, point[views.index(("model", "alone")), 1]
        else:
            bad, frauds = (((1, SMALLEST_CELL - 1) if _few(n) else (np.nan, np.nan)) for n in point[place, 2:4])
            cases = reviewed = point[place, 1]
        found.append(
            {
                "bothered_per_day": ((cases - bad[1]) / days, (cases - bad[0]) / days),
                "precision": (bad[0] / max(reviewed, 1), bad[1] / max(reviewed, 1)),
                "recall": (frauds[0] / max(point[place, 7], 1), frauds[1] / max(point[place, 7], 1)),
            }
        )
    return found


def _why_undefined(metric: str, view: str) -> str:
    reasons = {
        "precision": "it adds no case" if view == "beside" else "nothing raises an alert",
        "recall": "no frauds among these transactions",
        "money_caught_share": "the frauds amount to nothing",
    }
    return f"not applicable: {reasons[metric]}"
