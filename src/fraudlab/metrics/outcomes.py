"""What a rule that alerts some transactions brings: cases a day, who is bothered, what is caught, what it saves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fraudlab.metrics.cases import Cases, Data, whole
from fraudlab.metrics.cells import SMALLEST_CELL
from fraudlab.metrics.replicates import draws, interval_note, percentiles
from fraudlab.schema import InputError

OUTCOMES: dict[str, str] = {
    "alerts_per_day": "cases a day with an alert; a case is an entity on a day",
    "bothered_per_day": "those of them without a fraud: genuine customers a day who are bothered",
    "precision": "share of the cases with an alert that hold a fraud",
    "recall": "share of the frauds that lie in cases with an alert",
    "false_positive_rate": "share of the genuine transactions that raise an alert themselves",
    "money_caught_per_day": "fraud amount a day in cases with an alert",
    "money_caught_share": "share of the fraud amount that lies in cases with an alert",
    "net_saved_per_day": "recovered share of that amount, less the costs of reviews and of false alarms, a day",
}
"""What `alert_outcomes` measures, in its order, with its meaning."""

_RATIOS = {
    "precision": ("bad_cases", "cases"),
    "recall": ("frauds_caught", "frauds"),
    "false_positive_rate": ("genuine_alerted", "genuine"),
    "money_caught_share": ("money_caught", "money"),
}


def alert_outcomes(
    y: Any,
    alerted: Any,
    *,
    event_time: Any,
    entity: Any,
    amount: Any,
    review_cost: float,
    recovery_rate: float,
    false_alarm_cost: float = 0.0,
    n_boot: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure what reviewing every case with an alert brings, with intervals over entities.

    Parameters
    ----------
    y, event_time, entity, amount : as in `evaluate`.
    alerted : bool, shape (n,); whether the transaction raises an alert, such as `score >= threshold`. One is enough to
        review the whole case, its other transactions of the day included.
    review_cost, false_alarm_cost : per reviewed case, and per case without a fraud, in the currency of `amount`.
    recovery_rate : share of the fraud amount in reviewed cases that is saved, in [0, 1].
    n_boot : bootstrap replicates, entities with all their rows; 0 asks for no intervals.
    seed : of the bootstrap; equal seeds give equal tables.

    Returns
    -------
    DataFrame, a row per entry of `OUTCOMES`: metric, value, low, high, n (transactions), note. `value` is NaN exactly
    where `note` begins "not applicable" or "not shown": what rests on 1 to 9 frauds or compromised cases would tell of
    them, so only the number of alerts is shown then.

    Raises
    ------
    InputError : as in `evaluate`; a cost or rate out of range.

    Notes
    -----
    "A day" is a day that has transactions. The rule stays as it is in every replicate: the intervals do not cover that
    it was chosen, so on the rows it was chosen on they flatter.

    Of 40 customers, 20 raise an alert, 10 of them with a fraud of 50; 10 frauds of 30 do not:

    >>> day = pd.to_datetime(["2026-01-01"] * 40, utc=True)
    >>> table = alert_outcomes([1, 0, 1, 0] * 10, [True, True, False, False] * 10, event_time=day, entity=range(40),
    ...                        amount=[50, 10, 30, 20] * 10, review_cost=15, recovery_rate=0.8, n_boot=0)
    >>> found = table.set_index("metric")["value"]
    >>> found[["alerts_per_day", "bothered_per_day", "precision", "money_caught_share", "net_saved_per_day"]].tolist()
    [20.0, 10.0, 0.5, 0.625, 100.0]
    """
    data = Data.read(y, np.asarray(alerted, dtype=float), event_time, entity, amount=amount)
    costs = Costs(review_cost, recovery_rate, false_alarm_cost)
    sums = alert_sums(data, Cases.of(data))

    def measure(total: pd.DataFrame) -> pd.DataFrame:
        return measured(total, len(data.days), costs)[list(OUTCOMES)]

    point = measure(sums.sum().to_frame().T).iloc[0]
    low = high = pd.Series(np.nan, index=point.index)
    undefined = pd.Series(0, index=point.index)
    blocks = len(sums)
    if whole(n_boot, "n_boot", 0) and blocks > 1:
        columns = sums.to_numpy()
        totals = [(weights[:, None] * columns).sum(axis=0) for weights in draws(blocks, n_boot, seed)]
        found = percentiles(measure(pd.DataFrame(totals, columns=sums.columns)).to_numpy())
        low, high, undefined = (pd.Series(each, index=point.index) for each in found)
    rows = []
    for metric, value in point.items():
        why_not = not_told(metric, sums.sum())
        note = why_not or interval_note("entity", blocks, n_boot, undefined[metric])
        ends = {"low": np.nan, "high": np.nan} if why_not else {"low": low[metric], "high": high[metric]}
        rows.append(
            {"metric": metric, "value": np.nan if why_not else float(value), **ends, "n": len(data.y), "note": note}
        )
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Costs:
    """What reviewing a case costs and saves; refused where out of range."""

    review_cost: float
    recovery_rate: float
    false_alarm_cost: float = 0.0

    def __post_init__(self) -> None:
        for name in ("review_cost", "false_alarm_cost"):
            if not (np.isfinite(cost := getattr(self, name)) and cost >= 0):
                raise InputError(f"{name}: must be finite and >= 0; found {cost}; correct decision.{name}")
        if not 0 <= self.recovery_rate <= 1:
            raise InputError(
                f"recovery_rate: must lie in [0, 1]; found {self.recovery_rate}; correct decision.recovery_rate"
            )


def measured(total: pd.DataFrame, days: int, costs: Costs) -> pd.DataFrame:
    """Turn sums over cases into the measures, a row each as given; a ratio of nothing is NaN."""
    found = {
        "alerts_per_day": total["cases"] / days,
        "bothered_per_day": (total["cases"] - total["bad_cases"]) / days,
        "money_caught_per_day": total["money_caught"] / days,
        **{
            name: (total[part] / total[all_]).where(total[all_] > 0)
            for name, (part, all_) in _RATIOS.items()
            if all_ in total
        },
    }
    found["net_saved_per_day"] = (
        costs.recovery_rate * found["money_caught_per_day"]
        - costs.review_cost * found["alerts_per_day"]
        - costs.false_alarm_cost * found["bothered_per_day"]
    )
    return pd.DataFrame(found)


def alert_sums(data: Data, cases: Cases, *, per: np.ndarray | None = None) -> pd.DataFrame:
    """Add up everything the measures are made of, per entity or per block of `per`, int[rows] from 0.

    `data.score` is 1 where a transaction raises an alert. All rows of a case must lie in one block.
    """
    alerted = data.score > 0
    case_alerted = np.zeros(len(cases.day))
    np.maximum.at(case_alerted, cases.of_row, alerted.astype(float))
    inspected = case_alerted[cases.of_row]

    unit = data.entity if per is None else per
    unit_of_case = np.zeros(len(cases.day), np.int64)
    unit_of_case[cases.of_row] = unit
    size = int(unit.max()) + 1

    def of_rows(values: np.ndarray) -> np.ndarray:
        return np.bincount(unit, weights=values, minlength=size)

    def of_cases(values: np.ndarray) -> np.ndarray:
        return np.bincount(unit_of_case, weights=values, minlength=size)

    return pd.DataFrame(
        {
            "cases": of_cases(case_alerted),
            "bad_cases": of_cases(case_alerted * cases.fraud),
            "frauds": of_rows(data.y),
            "frauds_caught": of_rows(data.y * inspected),
            "genuine": of_rows(1 - data.y),
            "genuine_alerted": of_rows((1 - data.y) * alerted),
            "money": of_rows(data.y * data.amount),
            "money_caught": of_rows(data.y * data.amount * inspected),
        }
    )


def not_told(metric: str, total: pd.Series) -> str:
    """Say why a measure of these sums is not told: it does not apply, or rests on few; empty when it is."""
    few = any(0 < total[name] < SMALLEST_CELL for name in ("bad_cases", "frauds_caught"))
    if few and metric not in ("cases", "alerts_per_day", "false_positive_rate"):
        return "not shown: it rests on 1 to 9 frauds"
    part = _RATIOS.get(metric)
    if part is None or total[part[1]] > 0:
        return ""
    return (
        "not applicable: "
        + {
            "cases": "nothing raises an alert",
            "frauds": "no frauds among these transactions",
            "genuine": "no genuine ones among these transactions",
            "money": "the frauds amount to nothing",
        }[part[1]]
    )
