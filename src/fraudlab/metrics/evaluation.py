"""Metrics of a score at the investigators' budget, with bootstrap intervals, as one tidy table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from fraudlab.metrics.cases import Cases, Data, ratio, risk_bins, run_ends, same_length, take, take_cards, whole
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

FEW_BLOCKS = 20
"""With fewer blocks than this, percentile intervals are known to be too narrow; the note says so."""

RISK_BINS = 10
"""Bins of equally many predicted frauds over which `calibration_error` adds up."""

_AT_FPR = {"recall_at_fpr_1": 0.01, "recall_at_fpr_5": 0.05}
_OF_CARDS = ("card_precision_at_k", "card_recall_at_k")
_AT_BUDGET = (
    *_OF_CARDS,
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
    slices = _slices(data, cases, groups)
    metrics = [metric for metric in METRICS if risk is not None or metric not in _OF_RISK]
    row_block, case_block = (data.entity, cases.entity) if by_entity else (data.day, cases.day)
    blocks = len(data.entities) if by_entity else len(data.days)
    once, every_day = np.ones(len(data.entities)), np.ones(len(data.days))
    taken_once, cards_once = take(cases, once, k), take_cards(cases, once, k)

    def values(weights: np.ndarray) -> list[list[float]]:
        """Return every slice's metrics when block b is there weights[b] times."""
        if by_entity:
            taken, cards, day_weights = take(cases, weights, k), take_cards(cases, weights, k), every_day
        else:
            taken, cards, day_weights = taken_once * weights[cases.day], cards_once, weights
        of_cards = {
            "card_precision_at_k": day_weights @ cards.hits / k / day_weights.sum(),
            "card_recall_at_k": ratio(day_weights @ cards.hits, day_weights @ cards.compromised),
        }
        row_weights, case_weights = weights[row_block], weights[case_block]
        found = [of_cards | part.ranking(row_weights) | part.budget(taken, case_weights) for part in slices]
        return [[each[metric] for metric in metrics] for each in found]

    point = np.array(values(np.ones(blocks)))
    low = high = np.full_like(point, np.nan)
    undefined = np.zeros(point.shape, int)
    if n_boot and blocks > 1:
        draws = np.random.default_rng(seed).multinomial(blocks, np.full(blocks, 1 / blocks), size=n_boot)
        low, high, undefined = _percentiles(np.array([values(draw.astype(float)) for draw in draws]))
    rows = []
    for i, part in enumerate(slices):
        for j, metric in enumerate(metrics):
            reason = part.why_not(metric, taken_once)
            note = f"not applicable: {reason}" if reason else _interval_note(block, blocks, n_boot, undefined[i, j])
            rows.append(
                {
                    "model": model,
                    "metric": metric,
                    "group": part.name,
                    "threshold": float(k) if metric in _AT_BUDGET else _AT_FPR.get(metric, np.nan),
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


@dataclass(frozen=True)
class _Slice:
    """One group's rows, ordered for ranking metrics, and its sums per case for budget metrics."""

    name: str
    rows: np.ndarray  # positions, highest score first
    y: np.ndarray
    ends: np.ndarray  # last place of each run of equal scores
    risk: np.ndarray | None
    bin: np.ndarray | None
    transactions: np.ndarray  # per case, as are the following
    frauds: np.ndarray
    fraud_amount: np.ndarray
    genuine_amount: np.ndarray

    @classmethod
    def of(cls, name: str, data: Data, cases: Cases, rows: np.ndarray) -> _Slice:
        rows = rows[np.argsort(-data.score[rows], kind="stable")]
        y, case, amount = data.y[rows], cases.of_row[rows], data.amount[rows]
        risk = None if data.risk is None else data.risk[rows]

        def per_case(weights: np.ndarray) -> np.ndarray:
            return np.bincount(case, weights=weights, minlength=len(cases.day))

        return cls(
            name=name,
            rows=rows,
            y=y,
            ends=run_ends(data.score[rows]),
            risk=risk,
            bin=None if risk is None else risk_bins(risk, RISK_BINS),
            transactions=per_case(np.ones(len(rows))),
            frauds=per_case(y),
            fraud_amount=per_case(y * amount),
            genuine_amount=per_case((1 - y) * amount),
        )

    def ranking(self, weights: np.ndarray) -> dict[str, float]:
        """Return the metrics of the order and of the risk when row i of the data is there weights[i] times."""
        weights = weights[self.rows]
        flagged_fraud = np.cumsum(weights * self.y)[self.ends]
        flagged = np.cumsum(weights)[self.ends]
        flagged_genuine = flagged - flagged_fraud
        frauds, genuine = flagged_fraud[-1], flagged_genuine[-1]
        caught = np.diff(flagged_fraud, prepend=0.0)
        wrong = np.diff(flagged_genuine, prepend=0.0)
        precision = np.divide(flagged_fraud, flagged, out=np.zeros_like(flagged), where=flagged > 0)
        values = {
            "auc_roc": ratio(wrong @ (flagged_fraud - caught / 2), frauds * genuine),
            "average_precision": ratio(caught @ precision, frauds if genuine else 0.0),
        }
        for metric, rate in _AT_FPR.items():
            reached = np.searchsorted(flagged_genuine, rate * genuine * (1 + 1e-12), side="right")
            best = flagged_fraud[reached - 1] if reached else 0.0
            values[metric] = ratio(best, frauds if genuine else 0.0)
        if self.risk is not None:
            gap = weights * (self.risk - self.y)
            values["brier"] = ratio(gap @ (self.risk - self.y), weights.sum())
            values["calibration_error"] = ratio(np.abs(np.bincount(self.bin, weights=gap)).sum(), frauds)
        return values

    def budget(self, taken: np.ndarray, there: np.ndarray) -> dict[str, float]:
        """Return the budget metrics when, of there[c] copies of case c, taken[c] are inspected."""
        return {
            "precision_at_budget": ratio(taken @ self.frauds, taken @ self.transactions),
            "recall_at_budget": ratio(taken @ self.frauds, there @ self.frauds),
            "money_caught": taken @ self.fraud_amount,
            "money_caught_share": ratio(taken @ self.fraud_amount, there @ self.fraud_amount),
            "money_blocked": taken @ self.genuine_amount,
        }

    def why_not(self, metric: str, taken: np.ndarray) -> str:
        """Say why a metric does not apply to these rows; empty when it does."""
        if metric in _OF_CARDS and self.name != "all":
            return "the k cases a day are chosen over all groups"
        if metric in ("brier", "money_caught", "money_blocked"):
            return ""
        if not self.y.any():
            return "no frauds among these transactions"
        if metric in ("auc_roc", "average_precision", *_AT_FPR) and self.y.all():
            return "no genuine ones among these transactions"
        if metric == "precision_at_budget" and not taken @ self.transactions:
            return "none of these transactions was inspected"
        if metric == "money_caught_share" and not self.fraud_amount.any():
            return "the frauds amount to nothing"
        return ""


def _slices(data: Data, cases: Cases, groups: Any) -> list[_Slice]:
    whole = _Slice.of("all", data, cases, np.arange(len(data.y)))
    if groups is None:
        return [whole]
    labels = pd.Series(groups).astype("str").fillna("missing").to_numpy(dtype=object)
    same_length(y=data.y, groups=labels)
    names = sorted(set(labels))
    if "all" in names:
        raise InputError("groups: no label may be 'all', which stands for every row; found it; rename this label")
    return [whole, *(_Slice.of(name, data, cases, np.flatnonzero(labels == name)) for name in names)]


def _percentiles(replicates: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the 2.5 % and 97.5 % points over the first axis and how many replicates had no value (left out)."""
    undefined = np.isnan(replicates).sum(axis=0)
    low, high = np.full(undefined.shape, np.nan), np.full(undefined.shape, np.nan)
    some = undefined < len(replicates)
    low[some], high[some] = np.nanpercentile(replicates[:, some], [2.5, 97.5], axis=0)
    return low, high, undefined


def _interval_note(block: str, blocks: int, n_boot: int, undefined: int) -> str:
    kind = {"day": "days", "entity": "entities"}[block]
    if not n_boot:
        return "no interval asked for"
    if blocks == 1:
        return f"no interval: one {block} only"
    note = f"95 % interval over {blocks:,} {kind}"
    if blocks < FEW_BLOCKS:
        note += ", too few for a bootstrap: read it as too narrow"
        note += "; block='entity' draws from more" if block == "day" else ""
    if undefined:
        note += f"; {undefined} of {n_boot} replicates had no value and were left out"
    return note
