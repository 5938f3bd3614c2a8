"""Metrics of a score at the investigators' budget, with bootstrap intervals, as one tidy table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from fraudlab.metrics.cases import Cases, Data, same_length, take_cards, whole
from fraudlab.metrics.replicates import AT_FPR, OF_CARDS, Inspection, Slice, draws, interval_note, percentiles
from fraudlab.schema import InputError

METRICS: dict[str, str] = {
    "auc_roc": "chance that a fraud scores above a genuine transaction, ties counting half",
    "average_precision": "mean precision over the frauds, from the highest score down",
    "card_precision_at_k": "share of the k inspected cases a day that are compromised; found ones leave the later days",
    "card_recall_at_k": "share of the compromised cases, found ones left out, that are among the k inspected a day",
    "precision_at_budget": "share of the transactions in the k best cases a day that are fraud",
    "recall_at_budget": "share of the frauds that lie in the k best cases a day",
    "recall_at_fpr_1": "share of the frauds above the lowest threshold that flags at most 1 % of the genuine",
    "recall_at_fpr_5": "share of the frauds above the lowest threshold that flags at most 5 % of the genuine",
    "money_caught": "fraud amount in the k best cases a day",
    "money_caught_share": "share of the fraud amount that lies in the k best cases a day",
    "money_blocked": "genuine amount in the k best cases a day, held up by the inspection",
    "brier": "mean squared difference between risk and outcome",
    "calibration_error": "frauds misplaced per fraud: |observed - predicted frauds|, summed over ten bins of equally "
    "many predicted frauds, per observed fraud; 1 for doubled risks, about 2.5 / sqrt(frauds) by chance alone",
}
"""Every metric of `evaluate`, in its order, with its meaning."""

_AT_BUDGET = (
    *OF_CARDS,
    "precision_at_budget",
    "recall_at_budget",
    "money_caught",
    "money_caught_share",
    "money_blocked",
)
_OF_RISK = ("brier", "calibration_error")


def evaluate(
    y: Any,
    score: Any,
    *,
    event_time: Any,
    entity: Any,
    amount: Any,
    k: int,
    model: str = "",
    risk: Any = None,
    n_boot: int = 200,
    block: Literal["day", "entity"] = "day",
    seed: int = 0,
    groups: Any = None,
) -> pd.DataFrame:
    """Measure a score against outcomes at the investigators' budget, with bootstrap intervals.

    Parameters
    ----------
    y : outcomes, shape (n,); boolean or 0/1, none missing.
    score : shape (n,); finite, higher is more suspicious. Only its order counts.
    event_time, entity, amount : shape (n,); when (times without a zone are taken as UTC), whose case, how much (>= 0).
    k : cases inspected a day.
    model : name put into the table.
    risk : calibrated probabilities in [0, 1], shape (n,); None leaves `brier` and `calibration_error` out.
    n_boot : bootstrap replicates; 0 asks for no intervals.
    block : what is drawn with replacement, whole days or whole entities with all their rows.
    seed : of the bootstrap; equal seeds give equal tables.
    groups : labels, shape (n,); every metric is given for each group too. The k cases are still chosen over everyone.

    Returns
    -------
    DataFrame with a row per group and metric (see `METRICS`): model, metric, group ("all" first), threshold (cases a
    day for budget metrics, false positive rate for `recall_at_fpr_*`, else NaN), value, low, high, n (transactions),
    note. `value` is NaN exactly where the metric does not apply, and `note` then says why.

    Raises
    ------
    InputError : lengths differ, nothing given, a missing or non-binary outcome, a score, amount or risk out of range.

    Notes
    -----
    `low` and `high` are the 2.5 % and 97.5 % percentiles over the replicates. Days as blocks keep what transactions of
    a day have in common; a test of 7 days has 7 blocks, for which such intervals are too narrow (the note says so).
    Entities as blocks keep what one entity's rows have in common and are usually many; they leave out the difference
    between days. Neither covers the training of the model nor change after the test. In a day-block replicate the
    inspected cases of a drawn day are those of that day; in an entity-block replicate they are chosen afresh. The bins
    of `calibration_error` are those of the data in every replicate.

    Except for the two card metrics every day stands alone: a case found on Monday may be inspected on Tuesday again, so
    amounts add up over days and a larger budget never catches less.

    Examples
    --------
    >>> day = pd.to_datetime(["2026-01-01"] * 4, utc=True)
    >>> table = evaluate([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1], event_time=day, entity=list("abcd"),
    ...                  amount=[50, 10, 30, 20], k=2, n_boot=0)
    >>> table.set_index("metric").loc[["auc_roc", "card_precision_at_k", "money_caught"], "value"].tolist()
    [0.75, 0.5, 50.0]
    """
    data = Data.read(y, score, event_time, entity, amount=amount, risk=risk)
    k = whole(k, "k", 1)
    n_boot = whole(n_boot, "n_boot", 0)
    if block not in ("day", "entity"):
        raise InputError(f"block: must be 'day' or 'entity'; found {block!r}; name one of them")
    by_entity = block == "entity"
    cases = Cases.of(data)
    slices = _slices(data, cases, groups, data.entity if by_entity else data.day)
    metrics = [metric for metric in METRICS if risk is not None or metric not in _OF_RISK]
    blocks = len(data.entities) if by_entity else len(data.days)
    inspection = Inspection.of(cases, k, by_entity=by_entity)

    def values(weights: np.ndarray) -> list[list[float]]:
        """Return every slice's metrics when block b is there weights[b] times."""
        taken, there, of_cards = inspection.drawn(weights)
        found = [of_cards | part.ranking(weights) | part.budget(taken, there) for part in slices]
        return [[each[metric] for metric in metrics] for each in found]

    point = np.array(values(np.ones(blocks)))
    low = high = np.full_like(point, np.nan)
    undefined = np.zeros(point.shape, int)
    if n_boot and blocks > 1:
        low, high, undefined = percentiles(np.array([values(draw) for draw in draws(blocks, n_boot, seed)]))
    rows = []
    for i, part in enumerate(slices):
        for j, metric in enumerate(metrics):
            reason = part.why_not(metric, inspection.taken_once)
            note = f"not applicable: {reason}" if reason else interval_note(block, blocks, n_boot, undefined[i, j])
            rows.append(
                {
                    "model": model,
                    "metric": metric,
                    "group": part.name,
                    "threshold": float(k) if metric in _AT_BUDGET else AT_FPR.get(metric, np.nan),
                    "value": np.nan if reason else point[i, j],
                    "low": np.nan if reason else low[i, j],
                    "high": np.nan if reason else high[i, j],
                    "n": len(part.rows),
                    "note": note,
                }
            )
    return pd.DataFrame(rows)


def card_precision_at_k(y: Any, score: Any, event_time: Any, entity: Any, k: int) -> tuple[float, pd.DataFrame]:
    """Compute CP@k as published: the mean over test days of the share of compromised among the k best cases.

    Each day the k entities with the highest scores are inspected. Those inspected and compromised (with a fraud that
    day) are removed from the later days. A day with fewer than k cases is still divided by k.

    Parameters
    ----------
    y, score, event_time, entity : as in `evaluate`.
    k : cases inspected a day.

    Returns
    -------
    (float, DataFrame). The float is NaN when there is no fraud at all. The frame has a row per day with transactions:
    day, cases (inspected), hits (compromised among them), compromised (that day, not found before), precision
    (hits / k), perfect_precision (that of the outcomes themselves as scores, under their own removals).

    Raises
    ------
    InputError : as in `evaluate`.

    References
    ----------
    Le Borgne, Siblini, Lebichot, Bontempi: Reproducible Machine Learning for Credit Card Fraud Detection - Practical
    Handbook, 2022, chapter 4.

    Examples
    --------
    The fraud found on the first day is not looked for again on the second:

    >>> day = pd.to_datetime(["2026-01-01"] * 2 + ["2026-01-02"] * 2, utc=True)
    >>> value, daily = card_precision_at_k([1, 0, 1, 0], [0.9, 0.2, 0.8, 0.1], day, ["a", "b", "a", "b"], k=1)
    >>> value, daily["hits"].tolist(), daily["compromised"].tolist()
    (0.5, [1, 0], [1, 0])
    """
    data = Data.read(y, score, event_time, entity)
    k = whole(k, "k", 1)
    once = np.ones(len(data.entities))
    cards = take_cards(Cases.of(data), once, k)
    perfect = take_cards(Cases.of(replace(data, score=data.y)), once, k)
    daily = pd.DataFrame(
        {
            "day": data.days,
            "cases": cards.inspected.astype(np.int64),
            "hits": cards.hits.astype(np.int64),
            "compromised": cards.compromised.astype(np.int64),
            "precision": cards.hits / k,
            "perfect_precision": perfect.hits / k,
        }
    )
    return (float(daily["precision"].mean()) if data.y.any() else np.nan), daily


def _slices(data: Data, cases: Cases, groups: Any, block: np.ndarray) -> list[Slice]:
    whole = Slice.of("all", data, cases, np.arange(len(data.y)), block)
    if groups is None:
        return [whole]
    labels = pd.Series(groups).astype("str").fillna("missing").to_numpy(dtype=object)
    same_length(y=data.y, groups=labels)
    names = sorted(set(labels))
    if "all" in names:
        raise InputError("groups: no label may be 'all', which stands for every row; found it; rename this label")
    return [whole, *(Slice.of(name, data, cases, np.flatnonzero(labels == name), block) for name in names)]
