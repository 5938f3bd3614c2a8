"""What other budgets and thresholds would bring, and what a policy's actions cost, on payments with outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fraudlab.metrics.cases import Cases, Data, same_length, whole
from fraudlab.metrics.cells import SMALLEST_CELL
from fraudlab.metrics.outcomes import OUTCOMES, Costs, measured, not_told
from fraudlab.metrics.replicates import draws, interval_note, percentiles
from fraudlab.schema import InputError, require_columns

SIMULATED: dict[str, str] = {
    "cases": "cases reviewed in the whole period; a case is an entity on a day",
    "alerts_per_day": "cases reviewed a day",
    "bothered_per_day": OUTCOMES["bothered_per_day"],
    "precision": "share of the reviewed cases that hold a fraud",
    "frauds_caught": "frauds in reviewed cases, in the whole period",
    "recall": "share of the frauds that lie in reviewed cases",
    "money_caught_per_day": "fraud amount a day in reviewed cases",
    "money_caught_share": "share of the fraud amount that lies in reviewed cases",
    "net_saved_per_day": OUTCOMES["net_saved_per_day"],
    "net_saved_gain": "that, less what the budget in use saves a day as a number of cases",
}
"""What `simulate` measures, in its order, with its meaning."""

ACTED: dict[str, str] = {
    "reviews_per_day": "cases a day that a person looks at",
    "step_ups_per_day": "cases a day asked for a second factor and not reviewed",
    "bothered_per_day": "cases a day without a fraud that get anything but approval",
    "fraud_lost_per_day": "fraud amount a day that is lost",
    "handling_per_day": "a day's cost of the actions themselves, for frauds and genuine customers",
    "cost_per_day": "both together",
    "saved_per_day": "what approving everything would cost a day, less that",
}
"""What `action_outcomes` measures, in its order, with its meaning."""

_SUMS = ("cases", "bad_cases", "frauds_caught", "money_caught", "frauds", "money")


def simulate(
    y: Any,
    score: Any,
    *,
    event_time: Any,
    entity: Any,
    amount: Any,
    budgets: Sequence[int],
    thresholds: Sequence[float] | None = None,
    chosen: int | None = None,
    review_cost: float,
    recovery_rate: float,
    false_alarm_cost: float = 0.0,
    model: str = "",
    n_boot: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """Table what each budget of cases a day, and each threshold in its stead, would have caught, cost and saved.

    Parameters
    ----------
    y, score, event_time, entity, amount : as in `evaluate`.
    budgets : cases a day to compare, whole numbers from 1.
    thresholds : for each budget the score from which on cases are reviewed, chosen on other transactions to give that
        many a day; None leaves thresholds out.
    chosen : the budget in use, one of `budgets`; the others are held against it. None holds against nothing.
    review_cost, recovery_rate, false_alarm_cost : as in `alert_outcomes`.
    model : name put into the table.
    n_boot : bootstrap replicates, entities with all their rows, the same for every budget and threshold; 0: none.
    seed : of the bootstrap; equal seeds give equal tables.

    Returns
    -------
    DataFrame: model, by ("budget": the best cases of each day; "threshold": every case that reaches the score), budget,
    threshold (NaN by budget), chosen (the budget in use), metric (see `SIMULATED`), value, low, high, n (transactions),
    note. `value` is NaN exactly where `note` begins "not applicable" or "not shown", as in `alert_outcomes`.

    Raises
    ------
    InputError : as in `evaluate`; a budget that is no whole number from 1, a cost or rate out of range, `chosen` not
        among the budgets, another number of thresholds than of budgets.

    Notes
    -----
    Every day stands alone, see `evaluate`. By budget the cases are chosen afresh in each replicate; a threshold stays.
    The best cases of a day are known only when it has ended: a threshold is what can be used, the budget what it is
    held against.

    >>> day = pd.to_datetime(["2026-01-01"] * 40, utc=True)
    >>> table = simulate([1, 0] * 20, [0.9, 0.2] * 20, event_time=day, entity=range(40), amount=[50, 10] * 20,
    ...                  budgets=[10, 30], chosen=10, review_cost=15, recovery_rate=0.8, n_boot=0)
    >>> table.pivot(index="metric", columns="budget", values="value").loc[["recall", "net_saved_gain"]].values.tolist()
    [[0.5, 1.0], [0.0, 100.0]]
    """
    data = Data.read(y, score, event_time, entity, amount=amount)
    costs = Costs(review_cost, recovery_rate, false_alarm_cost)
    levels = np.array([whole(k, "budgets", 1) for k in budgets], dtype=np.int64)
    if not len(levels):
        raise InputError("budgets: must hold at least one number of cases a day; found none; name some")
    if chosen is not None and chosen not in levels:
        raise InputError(f"chosen: must be one of the budgets; found {chosen}; add it to them")
    cases = Cases.of(data)
    ways: list[_Budgets | _Thresholds] = [_Budgets.of(data, cases, levels)]
    names = [("budget", np.full(len(levels), np.nan))]
    if thresholds is not None:
        cut = np.asarray(thresholds, dtype=float)
        if cut.shape != levels.shape:
            raise InputError(
                f"thresholds: must be one per budget; found {cut.size:,} for {len(levels):,} budgets; choose them again"
            )
        ways.append(_Thresholds.of(data, cases, cut))
        names.append(("threshold", cut))
    reference = None if chosen is None else int(np.flatnonzero(levels == chosen)[0])
    days, blocks = len(data.days), len(data.entities)
    per_entity = np.column_stack(
        [np.bincount(data.entity, weights=values, minlength=blocks) for values in (data.y, data.y * data.amount)]
    )

    def sums(weights: np.ndarray) -> np.ndarray:
        """Return the sums, a row per way and level, when entity e is there weights[e] times."""
        found = np.concatenate([way.sums(weights) for way in ways])
        everything = (weights[:, None] * per_entity).sum(axis=0)
        return np.column_stack([found, np.broadcast_to(everything, (len(found), 2))])

    def measure(stacked: list[np.ndarray]) -> np.ndarray:
        """Return the measures [replicates, rows, measures] of each one's sums."""
        total = pd.DataFrame(np.concatenate(stacked), columns=list(_SUMS))
        found = measured(total, days, costs).assign(cases=total["cases"], frauds_caught=total["frauds_caught"])
        net = found["net_saved_per_day"].to_numpy().reshape(-1, len(ways) * len(levels))
        gain = np.full_like(net, np.nan) if reference is None else net - net[:, [reference]]
        return found.assign(net_saved_gain=gain.ravel())[list(SIMULATED)].to_numpy().reshape(*net.shape, -1)

    total = sums(np.ones(blocks))
    point = measure([total])[0]
    low, high = np.full(point.shape, np.nan), np.full(point.shape, np.nan)
    undefined = np.zeros(point.shape, dtype=int)
    if whole(n_boot, "n_boot", 0) and blocks > 1:
        low, high, undefined = percentiles(measure([sums(weights) for weights in draws(blocks, n_boot, seed)]))
    rows = []
    for place, row in enumerate(total):
        own = pd.Series(row, index=list(_SUMS))
        by, cut = names[place // len(levels)]
        level = place % len(levels)
        for column, metric in enumerate(SIMULATED):
            gone = not_told(metric, own)
            if metric == "net_saved_gain" and not gone:
                gone = "" if reference is not None else "not applicable: no budget in use was named"
                gone = gone or not_told("net_saved_per_day", pd.Series(total[reference], index=list(_SUMS)))
            note = gone or interval_note("entity", blocks, n_boot, undefined[place, column])
            values = (np.nan,) * 3 if gone else (point[place, column], low[place, column], high[place, column])
            head = (model, by, levels[level], cut[level], levels[level] == chosen, metric)
            rows.append((*head, *values, len(data.y), note))
    columns = ["model", "by", "budget", "threshold", "chosen", "metric", "value", "low", "high", "n", "note"]
    return pd.DataFrame(rows, columns=columns)


@dataclass(frozen=True)
class _Budgets:
    """The k best cases of each day: their copies take up the day's places one after another."""

    cases: Cases
    levels: np.ndarray
    values: np.ndarray  # per case: 1, fraud, frauds, fraud amount
    near: np.ndarray  # cases that nearly always hold the largest budget

    @classmethod
    def of(cls, data: Data, cases: Cases, levels: np.ndarray) -> _Budgets:
        near = np.flatnonzero(cases.place < 4 * levels.max() + 64)
        return cls(cases, levels, _per_case(data, cases), near)

    def sums(self, weights: np.ndarray) -> np.ndarray:
        found, reached = self._among(self.near, weights)
        return found if reached else self._among(np.arange(len(self.cases.day)), weights)[0]

    def _among(self, where: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, bool]:
        """Return the sums [levels, values] among the cases at `where`, and whether no further case counts."""
        day, there = self.cases.day[where], weights[self.cases.entity[where]]
        total = np.concatenate([[0.0], np.cumsum(there)])
        start = np.searchsorted(day, np.arange(len(self.cases.start)))
        before = total[:-1] - total[start[day]]
        deepest = int(self.levels.max())
        copies = np.clip(deepest - before, 0, there).astype(np.int64)
        some = np.flatnonzero(copies)
        copies = copies[some]
        first = np.repeat(np.cumsum(copies) - copies, copies)
        place = np.repeat(before[some], copies).astype(np.int64) + np.arange(copies.sum()) - first
        value = np.repeat(self.values[where[some]], copies, axis=0)
        found = np.column_stack([np.bincount(place, weights=each, minlength=deepest) for each in value.T]).cumsum(
            axis=0
        )
        reached = (np.diff(total[start]) >= deepest) | (np.diff(start) == np.diff(self.cases.start))
        return found[self.levels - 1], bool(reached.all())


@dataclass(frozen=True)
class _Thresholds:
    """The cases whose best score reaches a threshold, whoever else is there."""

    per_entity: np.ndarray  # [entities, levels, values]

    @classmethod
    def of(cls, data: Data, cases: Cases, thresholds: np.ndarray) -> _Thresholds:
        best = np.full(len(cases.day), -np.inf)
        np.maximum.at(best, cases.of_row, data.score)
        values = _per_case(data, cases)
        sums = [
            [
                np.bincount(cases.entity, weights=value * (best >= each), minlength=len(data.entities))
                for value in values.T
            ]
            for each in thresholds
        ]
        return cls(np.moveaxis(np.array(sums), 2, 0))

    def sums(self, weights: np.ndarray) -> np.ndarray:
        return (weights[:, None, None] * self.per_entity).sum(axis=0)


def _per_case(data: Data, cases: Cases) -> np.ndarray:
    def add(weights: np.ndarray) -> np.ndarray:
        return np.bincount(cases.of_row, weights=weights, minlength=len(cases.day))

    return np.column_stack([np.ones(len(cases.day)), cases.fraud, add(data.y), add(data.y * data.amount)])


def action_outcomes(
    y: Any,
    actions: Mapping[str, Any],
    costs: pd.DataFrame,
    *,
    event_time: Any,
    entity: Any,
    amount: Any,
    loss_given_fraud: float = 1.0,
    n_boot: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure what ways of choosing actions cost with the outcomes as they were, each against the first.

    Parameters
    ----------
    y, event_time, entity, amount : as in `evaluate`.
    actions : name of a way -> its action for each transaction, shape (n,); the others are held against the first.
    costs : a row per action: cost, friction (where genuine), stops (share of a fraud's amount), by_case; as
        `decisions.Policy.costs`. An action `by_case` is a person's: paid once a case, and it covers the whole case.
    loss_given_fraud : share of a fraud's amount that is lost where nothing stops it.
    n_boot, seed : as in `simulate`; every way sees the same replicates.

    Returns
    -------
    DataFrame: way, against ("" or the first way), metric (see `ACTED`), value, low, high, n, note. With `against` the
    value is the difference of the two. "not shown" where the frauds of reviewed, otherwise treated or approved
    transactions count 1 to 9.

    Raises
    ------
    InputError : as in `evaluate`; no way, an action without a row in `costs`.

    >>> costs = pd.DataFrame({"cost": [0, 15.0], "friction": 0.0, "stops": [0, 0.75], "by_case": [False, True]},
    ...                      index=["approve", "manual_review"])
    >>> day = pd.to_datetime(["2026-01-01"] * 40, utc=True)
    >>> table = action_outcomes([1, 0] * 20, {"all": ["manual_review"] * 40}, costs, event_time=day, entity=range(40),
    ...                         amount=[100] * 40, n_boot=0).set_index("metric")["value"]
    >>> table[["fraud_lost_per_day", "handling_per_day", "saved_per_day"]].tolist()
    [500.0, 600.0, 900.0]
    """
    require_columns(costs, ["cost", "friction", "stops", "by_case"], where="costs")
    if not actions:
        raise InputError("actions: must hold at least one way to choose them; found none; name one")
    data = Data.read(y, np.zeros(len(y)), event_time, entity, amount=amount)
    cases = Cases.of(data)
    sums = {name: _acted(data, cases, given, costs, loss_given_fraud) for name, given in actions.items()}
    days, blocks = len(data.days), len(data.entities)
    columns = np.concatenate([each.to_numpy() for each in sums.values()], axis=1)

    def measure(totals: np.ndarray) -> np.ndarray:
        """Return the measures [replicates, ways, measures] of sums [replicates, ways * sums]."""
        total = totals.reshape(len(totals), len(sums), -1) / days
        reviews, step_ups, bothered, passing, lost, handling = np.moveaxis(total, 2, 0)[:6]
        both = lost + handling
        return np.stack([reviews, step_ups, bothered, lost, handling, both, passing - both], axis=2)

    point = measure(columns.sum(axis=0)[None])
    spread = np.zeros((0, *point.shape[1:]))
    if whole(n_boot, "n_boot", 0) and blocks > 1:
        totals = [(weights[:, None] * columns).sum(axis=0) for weights in draws(blocks, n_boot, seed)]
        spread = measure(np.array(totals))
    first, rows = next(iter(sums)), []
    hidden = {name: _few_frauds(each) for name, each in sums.items()}
    for place, name in enumerate(sums):
        for against in ("", first) if place else ("",):
            values, replicates = point[0, place], spread[:, place]
            if against:
                values, replicates = values - point[0, 0], replicates - spread[:, 0]
            low, high = np.full((2, len(ACTED)), np.nan)
            if len(replicates):
                low, high, _ = percentiles(replicates)
            few = hidden[name] or (bool(against) and hidden[first])
            for column, metric in enumerate(ACTED):
                gone = few and metric not in ("reviews_per_day", "step_ups_per_day")
                note = "not shown: it rests on 1 to 9 frauds" if gone else interval_note("entity", blocks, n_boot, 0)
                told = (np.nan,) * 3 if gone else (values[column], low[column], high[column])
                rows.append((name, against, metric, *told, len(data.y), note))
    return pd.DataFrame(rows, columns=["way", "against", "metric", "value", "low", "high", "n", "note"])


def _acted(data: Data, cases: Cases, given: Any, costs: pd.DataFrame, loss_given_fraud: float) -> pd.DataFrame:
    """Add up, per entity, what the actions bring; the last columns count frauds by what became of them."""
    names = pd.Series(np.asarray(given, dtype=object))
    same_length(y=data.y, actions=names)
    code = costs.index.get_indexer(pd.Index(names))
    if unknown := int((code < 0).sum()):
        raise InputError(f"actions: must each have a row in costs; found {unknown:,} without; add their costs")
    cost, friction, stops = (costs[name].to_numpy(dtype=float)[code] for name in ("cost", "friction", "stops"))
    by_case, treated = costs["by_case"].to_numpy(dtype=bool)[code], names.to_numpy() != "approve"

    def of_case(values: np.ndarray) -> np.ndarray:
        highest = np.zeros(len(cases.day))
        np.maximum.at(highest, cases.of_row, values)
        return highest

    reviewed, touched = of_case(by_case.astype(float)), of_case(treated.astype(float))
    stepped = of_case((names.to_numpy() == "step_up_authentication").astype(float)) * (1 - reviewed)
    # A reviewed case is paid once, bothers once, and all of its transactions are looked at.
    of_review, genuine = of_case(np.where(by_case, stops, 0.0)), 1 - cases.fraud
    paid = of_case(np.where(by_case, cost, 0.0)) + genuine * of_case(np.where(by_case, friction, 0.0))
    lost = data.y * data.amount * loss_given_fraud * (1 - np.maximum(stops, of_review[cases.of_row]))
    handled = np.where(by_case, 0.0, cost + (1 - data.y) * friction)
    looked = reviewed[cases.of_row] > 0

    def per_entity(values: np.ndarray, entity: np.ndarray = data.entity) -> np.ndarray:
        return np.bincount(entity, weights=values, minlength=len(data.entities))

    return pd.DataFrame(
        {
            "reviews": per_entity(reviewed, cases.entity),
            "step_ups": per_entity(stepped, cases.entity),
            "bothered": per_entity(touched * genuine, cases.entity),
            "passing": per_entity(data.y * data.amount * loss_given_fraud),
            "lost": per_entity(lost),
            "handling": per_entity(handled) + per_entity(paid, cases.entity),
            "frauds_reviewed": per_entity(data.y * looked),
            "frauds_treated": per_entity(data.y * (treated & ~looked)),
        }
    )


def _few_frauds(sums: pd.DataFrame) -> bool:
    """Say whether reviewed, or otherwise treated, transactions hold so few frauds that a sum would tell of them."""
    counts = sums[["frauds_reviewed", "frauds_treated"]].sum()
    return bool(((counts > 0) & (counts < SMALLEST_CELL)).any())
