"""Bootstrap replicates of metrics: the blocks drawn, the metrics of some rows under any weights, the intervals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fraudlab.metrics.cases import Cards, Cases, Data, ratio, risk_bins, run_ends, take, take_cards

FEW_BLOCKS = 20
"""With fewer blocks than this, percentile intervals are known to be too narrow; the note says so."""

RISK_BINS = 10
"""Bins of equally many predicted frauds over which `calibration_error` adds up."""

AT_FPR = {"recall_at_fpr_1": 0.01, "recall_at_fpr_5": 0.05}
OF_CARDS = ("card_precision_at_k", "card_recall_at_k")


def draws(blocks: int, n_boot: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each block is drawn, `n_boot` times: as many blocks as there are, with replacement.

    Equal seeds give equal draws, whatever is measured on them; that is what pairs two models.

    >>> [draw.sum() for draw in draws(5, 3, seed=0)]
    [np.float64(5.0), np.float64(5.0), np.float64(5.0)]
    """
    rng = np.random.default_rng(seed)
    for _ in range(n_boot):
        yield np.bincount(rng.integers(0, blocks, blocks), minlength=blocks).astype(float)


@dataclass(frozen=True)
class Inspection:
    """Who is inspected when k cases a day can be, and which of them are compromised, in any replicate."""

    cases: Cases
    k: int
    by_entity: bool
    taken_once: np.ndarray  # of each case as the data has it, as is the following
    cards_once: Cards

    @classmethod
    def of(cls, cases: Cases, k: int, *, by_entity: bool) -> Inspection:
        once = np.ones(int(cases.entity.max()) + 1)
        return cls(cases, k, by_entity, take(cases, once, k), take_cards(cases, once, k))

    def drawn(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
        """Return, when block b is there weights[b] times, each case's inspected and present copies and card metrics.

        Days as blocks leave each day's inspection as it is; with entities as blocks it is done afresh.
        """
        if self.by_entity:
            taken, cards = take(self.cases, weights, self.k), take_cards(self.cases, weights, self.k)
            there, days = weights[self.cases.entity], np.ones(len(self.cases.start) - 1)
        else:
            cards, days, there = self.cards_once, weights, weights[self.cases.day]
            taken = self.taken_once * there
        return (
            taken,
            there,
            {
                "card_precision_at_k": days @ cards.hits / self.k / days.sum(),
                "card_recall_at_k": ratio(days @ cards.hits, days @ cards.compromised),
            },
        )


@dataclass(frozen=True)
class Slice:
    """One group's rows, ordered for ranking metrics, and its sums per case for budget metrics.

    Ranking metrics change only where a fraud lies, so a replicate adds up the rows once and then looks at the runs of
    equal scores that hold a fraud.
    """

    name: str
    rows: np.ndarray  # positions, highest score first
    block: np.ndarray  # each of these rows' block
    y: np.ndarray
    fraud: np.ndarray  # places of the frauds among these rows
    run: np.ndarray  # where, among the frauds, each run of equal scores begins
    before: np.ndarray  # the last place before each of these runs, -1 at the top
    last: np.ndarray  # the last place of each of these runs
    gap: np.ndarray | None  # stated risk - outcome
    bin: np.ndarray | None
    transactions: np.ndarray  # per case, as are the following
    frauds: np.ndarray
    fraud_amount: np.ndarray
    genuine_amount: np.ndarray
    compromised: np.ndarray  # the cases with a fraud

    @classmethod
    def of(cls, name: str, data: Data, cases: Cases, rows: np.ndarray, block: np.ndarray) -> Slice:
        """Order the rows at these positions; `block` has every row's block."""
        rows = rows[np.argsort(-data.score[rows], kind="stable")]
        y, case, amount = data.y[rows], cases.of_row[rows], data.amount[rows]
        risk = None if data.risk is None else data.risk[rows]
        ends = run_ends(data.score[rows])
        fraud = np.flatnonzero(y)
        of_run, run = np.unique(np.searchsorted(ends, fraud), return_index=True)

        def per_case(weights: np.ndarray) -> np.ndarray:
            return np.bincount(case, weights=weights, minlength=len(cases.day))

        frauds = per_case(y)
        return cls(
            name=name,
            rows=rows,
            block=block[rows],
            y=y,
            fraud=fraud,
            run=run,
            before=np.concatenate([[-1], ends])[of_run],
            last=ends[of_run],
            gap=None if risk is None else risk - y,
            bin=None if risk is None else risk_bins(risk, RISK_BINS),
            transactions=per_case(np.ones(len(rows))),
            frauds=frauds,
            fraud_amount=per_case(y * amount),
            genuine_amount=per_case((1 - y) * amount),
            compromised=np.flatnonzero(frauds),
        )

    def ranking(self, weights: np.ndarray) -> dict[str, float]:
        """Return the metrics of the order and of the risk when block b is there weights[b] times."""
        weights = weights[self.block]
        above = np.concatenate([[0.0], np.cumsum(weights)])
        total = above[-1]
        caught = np.add.reduceat(weights[self.fraud], self.run) if len(self.run) else np.zeros(0)
        flagged, flagged_fraud = above[self.last + 1], np.cumsum(caught)
        frauds = flagged_fraud[-1] if len(self.run) else 0.0
        genuine = total - frauds
        flagged_genuine = flagged - flagged_fraud
        tied = flagged - above[self.before + 1] - caught
        precision = np.divide(flagged_fraud, flagged, out=np.zeros_like(flagged), where=flagged > 0)
        values = {
            "auc_roc": ratio(caught @ (genuine - flagged_genuine + tied / 2), frauds * genuine),
            "average_precision": ratio(caught @ precision, frauds if genuine else 0.0),
        }
        for metric, rate in AT_FPR.items():
            reached = np.searchsorted(flagged_genuine, rate * genuine * (1 + 1e-12), side="right")
            best = flagged_fraud[reached - 1] if reached else 0.0
            values[metric] = ratio(best, frauds if genuine else 0.0)
        if self.gap is not None:
            gap = weights * self.gap
            values["brier"] = ratio((gap * self.gap).sum(), total)
            values["calibration_error"] = ratio(np.abs(np.bincount(self.bin, weights=gap)).sum(), frauds)
        return values

    def budget(self, taken: np.ndarray, there: np.ndarray) -> dict[str, float]:
        """Return the budget metrics when, of there[c] copies of case c, taken[c] are inspected."""
        # Few cases are inspected and few are fraud; over all of them a product of arrays would start threads.
        some, bad = np.flatnonzero(taken), self.compromised
        frauds, money = taken[bad] @ self.frauds[bad], taken[bad] @ self.fraud_amount[bad]
        return {
            "precision_at_budget": ratio(frauds, taken[some] @ self.transactions[some]),
            "recall_at_budget": ratio(frauds, there[bad] @ self.frauds[bad]),
            "money_caught": money,
            "money_caught_share": ratio(money, there[bad] @ self.fraud_amount[bad]),
            "money_blocked": taken[some] @ self.genuine_amount[some],
        }

    def why_not(self, metric: str, taken: np.ndarray) -> str:
        """Say why a metric does not apply to these rows; empty when it does."""
        if metric in OF_CARDS and self.name != "all":
            return "the k cases a day are chosen over all groups"
        if metric in ("brier", "money_caught", "money_blocked"):
            return ""
        if not self.y.any():
            return "no frauds among these transactions"
        if metric in ("auc_roc", "average_precision", *AT_FPR) and self.y.all():
            return "no genuine ones among these transactions"
        if metric == "precision_at_budget" and not taken @ self.transactions:
            return "none of these transactions was inspected"
        if metric == "money_caught_share" and not self.fraud_amount.any():
            return "the frauds amount to nothing"
        return ""


def percentiles(replicates: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the 2.5 % and 97.5 % points over the first axis and how many replicates had no value (left out)."""
    undefined = np.isnan(replicates).sum(axis=0)
    low, high = np.full(undefined.shape, np.nan), np.full(undefined.shape, np.nan)
    some = undefined < len(replicates)
    low[some], high[some] = np.nanpercentile(replicates[:, some], [2.5, 97.5], axis=0)
    return low, high, undefined


def interval_note(block: str, blocks: int, n_boot: int, undefined: int) -> str:
    """Say what an interval rests on, or why there is none."""
    kind = {"day": "days", "entity": "entities", "week": "weeks"}[block]
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
