"""Two models on the same rows: paired differences with intervals, what flips, when, and for whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from fraudlab.metrics.cases import Cases, Data, same_length, take, whole
from fraudlab.metrics.cells import SMALLEST_CELL, small_cells
from fraudlab.metrics.replicates import Inspection, Slice, draws, interval_note, percentiles
from fraudlab.schema import InputError, did_you_mean

COMPARED: dict[str, bool] = {
    "card_precision_at_k": True,
    "recall_at_budget": True,
    "money_caught_share": True,
    "average_precision": True,
    "auc_roc": True,
    "brier": False,
    "calibration_error": False,
}
"""What two models are compared by, and whether more of it is better; defined in `METRICS`."""

FAIRNESS: dict[str, str] = {
    "false_positive_rate": "share of the genuine cases of a group that are among the k best cases of a day",
    "false_positive_gap": "the group's false positive rate minus that of all others",
    "false_positive_ratio": "the group's false positive rate over that of all others; 1 is predictive equality",
    "case_recall": "share of the compromised cases of a group that are among the k best cases of a day",
}
"""What a group of customers meets with; a case is genuine when it has no fraud that day."""

IN_PERIODS = ("card_precision_at_k", "money_caught_share", "average_precision")
NOT_SHOWN = "not shown: a count below 10 could be read from it"
MOST_GROUPS = 12
PERIOD_REPLICATES = 200  # at most, for each period; the overall figures get them all
VIEWS = ("overall", "period", "flips", "group")
COLUMNS = ("view", "by", "group", "metric", "model", "value", "low", "high", "share_worse", "n", "note")


def compare(
    y: Any,
    challenger: Any,
    champion: Any,
    *,
    event_time: Any,
    entity: Any,
    amount: Any,
    k: int,
    names: tuple[str, str] = ("challenger", "champion"),
    risks: tuple[Any, Any] = (None, None),
    groups: Mapping[str, Any] | None = None,
    k_groups: int | None = None,
    periods: Any = None,
    n_boot: int = 500,
    block: Literal["day", "entity"] = "entity",
    seed: int = 0,
    views: Sequence[str] = VIEWS,
) -> pd.DataFrame:
    """Compare two models on the same transactions; every replicate draws the same blocks for both.

    An interval of the difference says far more than two intervals side by side: what makes a week hard is hard for
    both, and cancels.

    Parameters
    ----------
    y, event_time, entity, amount, k : as in `evaluate`.
    challenger, champion : scores, shape (n,); each counts by its order only, so they need no common scale.
    names : what the two are called in the table; not "difference".
    risks : calibrated probabilities of the two, shape (n,) each; where both are given, calibration is compared too.
    groups : column name -> label of each row, shape (n,), or None where the data has no such column. A case belongs to
        the group of its first transaction of the day; beyond the 12 groups with most entities, they are "others".
    k_groups : cases a day at which groups are compared; default `k`. More than k where a second factor is asked for.
    periods : label of each row's period, such as its fold, shape (n,); None cuts weeks from the first day on.
    n_boot, block, seed : as in `evaluate`. The default draws entities, as its intervals cover best over a few weeks.
    views : which of the views below to make.

    Returns
    -------
    DataFrame: view, by, group, metric, model, value, low, high, share_worse, n, note. Model is one of the names, or
    "difference", challenger minus champion, whose `share_worse` is the share of replicates in which the challenger does
    worse (equal ones count half). `value` is NaN exactly where `note` says "not applicable" or "not shown". Views:

    - "overall": the metrics of `COMPARED`.
    - "period": some of them per period (by "period"), each period on its own rows.
    - "flips": cases among the k best a day (each day alone) of both, of one only, of neither: fraud_cases,
      fraud_amount, genuine_cases; with the difference of the totals as group "all".
    - "group": the measures of `FAIRNESS`, by each column of `groups`.

    Raises
    ------
    InputError : as in `evaluate`; names that are equal or taken; an unknown view.

    Notes
    -----
    Flips and groups whose cases, entities or inspected cases count 1 to 9 are not shown, and as many more as would give
    them away. Where that hides much, the difference is hardly known either.

    References
    ----------
    Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 16. doi:10.1007/978-1-4899-4541-9
    Chouldechova (2017), Fair prediction with disparate impact. doi:10.1089/big.2016.0047 (predictive equality is
    balance of the error rate among the genuine)

    Examples
    --------
    Ten cases a day of forty; the challenger finds ten frauds of 50, the champion ten of 30:

    >>> day = pd.to_datetime(["2026-01-01"] * 40, utc=True)
    >>> table = compare([1, 0, 1, 0] * 10, [0.9, 0.3, 0.7, 0.1] * 10, [0.5, 0.6, 0.7, 0.1] * 10, event_time=day,
    ...                 entity=range(40), amount=[50, 10, 30, 20] * 10, k=10, n_boot=0)
    >>> found = table[table["metric"].isin(["money_caught_share", "auc_roc"])]
    >>> found.pivot(index="metric", columns="model", values="value").round(3)["difference"].to_dict()
    {'auc_roc': 0.25, 'money_caught_share': 0.25}
    >>> table[(table["view"] == "flips") & (table["metric"] == "fraud_amount")].set_index("group")["value"].to_dict()
    {'both': 0.0, 'challenger only': 500.0, 'champion only': 300.0, 'neither': 0.0, 'all': 200.0}
    """
    if len(set(names)) < 2 or {"difference", ""} & set(names):
        raise InputError(
            f"names: must be two different names other than 'difference'; found {', '.join(map(repr, names))}; "
            "rename one"
        )
    if block not in ("day", "entity"):
        raise InputError(f"block: must be 'day' or 'entity'; found {block!r}; name one of them")
    if unknown := [view for view in views if view not in VIEWS]:
        raise InputError(f"views: no view is named '{unknown[0]}'; {did_you_mean(unknown[0], VIEWS)}")
    k, n_boot = whole(k, "k", 1), whole(n_boot, "n_boot", 0)
    k_groups = whole(k if k_groups is None else k_groups, "k_groups", 1)
    if any(risk is None for risk in risks):
        risks = (None, None)
    data = tuple(
        Data.read(y, score, event_time, entity, amount=amount, risk=risk)
        for score, risk in zip((challenger, champion), risks)
    )
    time = pd.DatetimeIndex(event_time)
    pair = _Pair.of(data, names, k, block, n_boot, seed)
    columns = {name: None if labels is None else _Groups.of(name, labels, time, pair) for name, labels in
               (groups or {}).items()}  # fmt: skip
    present = [column for column in columns.values() if column is not None]
    metrics = [
        metric for metric in COMPARED if data[0].risk is not None or metric not in ("brier", "calibration_error")
    ]
    point, drawn = pair.measure(metrics, present, k_groups)
    rows = pair.triples("overall", "", "all", metrics, point, drawn) if "overall" in views else []
    rows += _by_period(data, periods, pair) if "period" in views else []
    rows += _flips(pair, point, drawn) if "flips" in views else []
    for name, column in columns.items() if "group" in views else ():
        rows += [_no_column(name)] if column is None else column.rows(pair, point[column.key], drawn[column.key])
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"n": "Int64"})


@dataclass(frozen=True)
class _Side:
    """One model: its cases in its order, who is inspected, and its sums."""

    cases: Cases
    inspection: Inspection
    part: Slice
    first_row: np.ndarray  # of each case, a transaction, to find the same case in the other's order

    @classmethod
    def of(cls, data: Data, k: int, by_entity: bool) -> _Side:
        cases = Cases.of(data)
        part = Slice.of("all", data, cases, np.arange(len(data.y)), data.entity if by_entity else data.day)
        first_row = np.unique(cases.of_row, return_index=True)[1]
        return cls(cases, Inspection.of(cases, k, by_entity=by_entity), part, first_row)


@dataclass(frozen=True)
class _Pair:
    """Both models on the same rows, and how replicates are drawn."""

    names: tuple[str, str]
    sides: tuple[_Side, _Side]
    rows: int
    block: Literal["day", "entity"]
    blocks: int
    n_boot: int
    seed: int

    @classmethod
    def of(
        cls,
        data: tuple[Data, ...],
        names: tuple[str, str],
        k: int,
        block: Literal["day", "entity"],
        n_boot: int,
        seed: int,
    ) -> _Pair:
        by_entity = block == "entity"
        sides = tuple(_Side.of(each, k, by_entity) for each in data)
        blocks = len(data[0].entities) if by_entity else len(data[0].days)
        return cls(names, sides, len(data[0].y), block, blocks, n_boot if blocks > 1 else 0, seed)

    def measure(
        self, metrics: list[str], columns: list[_Groups], k_groups: int | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Return everything measured, on the data and in each replicate: name -> array [replicate, side, ...].

        "metrics", "cases" (fraud cases, their amount, genuine cases inspected) and, per column of groups, the genuine
        and the compromised cases inspected and present, [.., 2, group, 2].
        """

        def values(weights: np.ndarray) -> dict[str, list[Any]]:
            found: dict[str, list[Any]] = {"metrics": [], "cases": [], **{column.key: [] for column in columns}}
            for number, side in enumerate(self.sides):
                taken, there, of_cards = side.inspection.drawn(weights)
                each = of_cards | side.part.ranking(weights) | side.part.budget(taken, there)
                found["metrics"].append([each[metric] for metric in metrics])
                bad = side.part.compromised
                caught = taken[bad].sum()
                found["cases"].append([caught, each["money_caught"], taken.sum() - caught])
                bothered = (
                    taken if k_groups in (None, side.inspection.k) else self._bothered(side, weights, there, k_groups)
                )
                for column in columns:
                    found[column.key].append([column.counts(number, bothered), column.counts(number, there)])
            return found

        once = values(np.ones(self.blocks))
        replicates = [values(weights) for weights in draws(self.blocks, self.n_boot, self.seed)]
        return (
            {name: np.array(each) for name, each in once.items()},
            {name: np.array([each[name] for each in replicates]) for name in once},
        )

    def _bothered(self, side: _Side, weights: np.ndarray, there: np.ndarray, k: int) -> np.ndarray:
        """Return each case's copies among the k best of a day."""
        if self.block == "entity":
            return take(side.cases, weights, k)
        return take(side.cases, np.ones(int(side.cases.entity.max()) + 1), k) * there

    def triples(
        self,
        view: str,
        by: str,
        group: str,
        metrics: list[str],
        point: Mapping[str, np.ndarray],
        drawn: Mapping[str, np.ndarray],
    ) -> list[dict[str, Any]]:
        """Lay out metrics as rows: the two models and their difference."""
        rows = []
        for number, metric in enumerate(metrics):
            reason = self.sides[0].part.why_not(metric, self.sides[0].inspection.taken_once)
            key = {"view": view, "by": by, "group": group, "metric": metric, "n": self.rows}
            replicates = drawn["metrics"][..., number] if self.n_boot else np.zeros((0, 2))
            rows += self.triple(
                key, point["metrics"][:, number], replicates, f"not applicable: {reason}" * bool(reason)
            )
        return rows

    def triple(
        self, key: dict[str, Any], point: np.ndarray, drawn: np.ndarray, why_not: str = ""
    ) -> list[dict[str, Any]]:
        """Return the rows of one measure: challenger, champion, difference."""
        better = COMPARED.get(key["metric"], not key["metric"].startswith(("false_positive", "genuine")))
        difference = drawn[:, 0] - drawn[:, 1]
        rows = [
            self.row(key | {"model": name}, value, replicates, why_not)
            for name, value, replicates in zip(
                (*self.names, "difference"), (*point, point[0] - point[1]), (*drawn.T, difference)
            )
        ]
        if np.isfinite(rows[-1]["value"]) and np.isfinite(difference).any():
            behind = difference if better else -difference
            behind = behind[np.isfinite(behind)]
            rows[-1]["share_worse"] = float((behind < 0).mean() + (behind == 0).mean() / 2)
        return rows

    def row(self, key: dict[str, Any], value: float, replicates: np.ndarray, why_not: str = "") -> dict[str, Any]:
        """Return one row with its interval, or with the reason why there is none."""
        if why_not:
            return key | {"value": np.nan, "low": np.nan, "high": np.nan, "share_worse": np.nan, "note": why_not}
        low = high = np.nan
        undefined = 0
        if len(replicates):
            (low,), (high,), (undefined,) = percentiles(replicates[:, None])
        note = interval_note(self.block, self.blocks, self.n_boot, int(undefined))
        return key | {"value": float(value), "low": low, "high": high, "share_worse": np.nan, "note": note}


@dataclass(frozen=True)
class _Groups:
    """One column whose groups are compared: each side's cases by group, and what may be shown."""

    name: str
    labels: list[str]
    code: tuple[np.ndarray, np.ndarray]  # per side, of each case: twice its group, plus 1 where it is compromised
    entities: np.ndarray

    @classmethod
    def of(cls, name: str, labels: Any, time: pd.DatetimeIndex, pair: _Pair) -> _Groups:
        said = pd.Series(labels).astype("str").fillna("missing").to_numpy(dtype=object)
        same_length(rows=np.empty(pair.rows), **{f"groups['{name}']": said})
        cases = pair.sides[0].cases
        ordered = np.lexsort((time.as_unit("us").asi8, cases.of_row))
        first = ordered[np.unique(cases.of_row[ordered], return_index=True)[1]]
        of_case = pd.Series(said[first])
        seen = of_case.groupby(cases.entity).first().value_counts()
        kept = seen.sort_index().sort_values(ascending=False, kind="stable").index[:MOST_GROUPS]
        of_case = of_case.where(of_case.isin(kept), "others")
        names = sorted(of_case.unique(), key=lambda label: (label in ("others", "missing"), label))
        group = pd.Index(names).get_indexer(of_case)
        by_row = group[cases.of_row]
        code = tuple(2 * by_row[side.first_row] + (side.cases.fraud > 0) for side in pair.sides)
        entities = pd.Series(cases.entity).groupby(group).nunique().reindex(range(len(names))).to_numpy()
        return cls(name, names, code, entities)

    @property
    def key(self) -> str:
        """What its counts are called among everything measured."""
        return f"group {self.name}"

    def counts(self, side: int, copies: np.ndarray) -> np.ndarray:
        """Return how many copies are genuine and how many compromised, [group, 2]."""
        return np.bincount(self.code[side], weights=copies, minlength=2 * len(self.labels)).reshape(-1, 2)

    def rows(self, pair: _Pair, point: np.ndarray, drawn: np.ndarray) -> list[dict[str, Any]]:
        """Lay out the measures of `FAIRNESS` per group: both models, and their difference in the two rates."""
        values, replicates = _rates(point), _rates(drawn) if pair.n_boot else None
        taken, there = point[:, 0], point[0, 1]
        rows = []
        for metric in FAIRNESS:
            outcome = int(metric == "case_recall")
            counts = (self.entities, there[:, outcome], taken[0, :, outcome], taken[1, :, outcome])
            hidden = np.any([small_cells(each) for each in counts], axis=0)
            for g, label in enumerate(self.labels):
                known = self.entities[g] >= SMALLEST_CELL and not 0 < there[g, outcome] < SMALLEST_CELL
                key = {"view": "group", "by": self.name, "group": label, "metric": metric}
                key["n"] = int(there[g, outcome]) if known else pd.NA
                why_not = NOT_SHOWN if hidden[g] else ""
                if not why_not and not np.isfinite(values[metric][:, g]).all():
                    why_not = f"not applicable: {_nothing(metric, there[g, outcome])}"
                found = replicates[metric][:, :, g] if replicates else np.zeros((0, 2))
                three = pair.triple(key, values[metric][:, g], found, why_not)
                rows += three if metric in ("false_positive_rate", "case_recall") else three[:2]
        return rows


def _rates(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Return the measures of `FAIRNESS` from counts [.., side, inspected or present, group, outcome]."""
    others = counts.sum(axis=-2, keepdims=True) - counts

    def share(of: np.ndarray, outcome: int) -> np.ndarray:
        inspected, present = of[..., 0, :, outcome], of[..., 1, :, outcome]
        return np.divide(inspected, present, out=np.full(present.shape, np.nan), where=present > 0)

    rate, rest = share(counts, 0), share(others, 0)
    return {
        "false_positive_rate": rate,
        "false_positive_gap": rate - rest,
        "false_positive_ratio": np.divide(rate, rest, out=np.full(rate.shape, np.nan), where=rest > 0),
        "case_recall": share(counts, 1),
    }


def _nothing(metric: str, present: float) -> str:
    if not present:
        return "no compromised case in this group" if metric == "case_recall" else "no genuine case in this group"
    return "no genuine case of the others is inspected"


def _no_column(name: str) -> dict[str, Any]:
    note = f"not applicable: what was loaded for this purpose has no column '{name}'"
    return dict.fromkeys(COLUMNS, np.nan) | {
        "view": "group",
        "by": name,
        "group": "",
        "metric": "false_positive_rate",
        "model": "",
        "n": pd.NA,
        "note": note,
    }


def _by_period(data: tuple[Data, ...], periods: Any, pair: _Pair) -> list[dict[str, Any]]:
    """Compare period by period; nothing where there is only one."""
    if periods is None:
        start = data[0].days[0] + pd.to_timedelta(7 * ((data[0].days - data[0].days[0]).days // 7), unit="D")
        label = start.strftime("%Y-%m-%d").to_numpy()[data[0].day]
    else:
        label = pd.Series(periods).astype("str").to_numpy(dtype=object)
        same_length(y=data[0].y, periods=label)
    names = list(dict.fromkeys(label[np.argsort(data[0].day, kind="stable")]))
    rows = []
    for name in names if len(names) > 1 else []:
        where = np.flatnonzero(label == name)
        part = _Pair.of(
            tuple(_rows_of(each, where) for each in data),
            pair.names,
            pair.sides[0].inspection.k,
            pair.block,
            min(pair.n_boot, PERIOD_REPLICATES),
            pair.seed,
        )
        rows += part.triples("period", "period", str(name), list(IN_PERIODS), *part.measure(list(IN_PERIODS), []))
    return rows


def _rows_of(data: Data, where: np.ndarray) -> Data:
    """Return the data of some rows, its days and entities numbered anew in the same order."""
    days, day = np.unique(data.day[where], return_inverse=True)
    entities, entity = np.unique(data.entity[where], return_inverse=True)
    return replace(
        data,
        y=data.y[where],
        score=data.score[where],
        day=day,
        days=data.days[days],
        entity=entity,
        entities=data.entities[entities],
        amount=data.amount[where],
        risk=None,
    )


def _flips(pair: _Pair, point: Mapping[str, np.ndarray], drawn: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Count the cases that both models put among the k best of their day, that only one does, that neither does."""
    one, other = pair.sides
    mine = one.inspection.taken_once > 0
    theirs = (other.inspection.taken_once > 0)[other.cases.of_row[one.first_row]]
    bad = one.cases.fraud > 0
    held = {
        "both": mine & theirs,
        "challenger only": mine & ~theirs,
        "champion only": ~mine & theirs,
        "neither": ~mine & ~theirs,
    }
    few = {
        outcome: small_cells([(cases & where).sum() for where in held.values()])
        for outcome, cases in (("fraud", bad), ("genuine", ~bad))
    }
    rows = []
    for number, (metric, weight) in enumerate(
        {"fraud_cases": bad, "fraud_amount": one.part.fraud_amount, "genuine_cases": ~bad}.items()
    ):
        hidden = few["genuine" if metric == "genuine_cases" else "fraud"]
        key = {"view": "flips", "by": "case", "metric": metric, "n": len(bad)}
        for hide, (group, cases) in zip(hidden, held.items()):
            value = np.nan if hide else float(weight[cases].sum())
            note = NOT_SHOWN if hide else "counted; no interval"
            empty = {"low": np.nan, "high": np.nan, "share_worse": np.nan, "note": note}
            rows.append(key | {"group": group, "model": "", "value": value} | empty)
        replicates = drawn["cases"][..., number] if pair.n_boot else np.zeros((0, 2))
        why_not = NOT_SHOWN if hidden.any() else ""
        rows.append(pair.triple(key | {"group": "all"}, point["cases"][:, number], replicates, why_not)[-1])
    return rows
