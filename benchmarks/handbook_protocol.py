"""The book's protocol in parts: its folds, what a model is declared to be, its scores, figures with paired intervals.

A model is chosen on the VALIDATION folds. Its score of a TEST fold is a look, and `look` writes each look down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from fraudlab import looks
from fraudlab.config import AnomalyConfig, ModelConfig, RunConfig, SamplingConfig, Workspace, digest_of
from fraudlab.datasets import ingest, load_transactions
from fraudlab.metrics.cases import Cases, Data
from fraudlab.metrics.replicates import Inspection, Slice, draws, percentiles
from fraudlab.splits import DAY, Fold, book_fold
from fraudlab.training import RowWeights, fit_estimator

VALIDATION = ("2018-06-20", "2018-06-27", "2018-07-04", "2018-07-11")
TEST = ("2018-07-25", "2018-08-01", "2018-08-08", "2018-08-15")
FIGURES = ("auc_roc", "average_precision", "card_precision_100")
INSPECTED = 100
"""Cards a day."""


@dataclass(frozen=True)
class Declared:
    """A model as it is declared before anybody looks at the TEST: everything that decides its scores.

    Attributes
    ----------
    name : as the tables call it. inputs : columns of the features, in order.
    train_days : how far the training window reaches back from its end, which is the book's.
    model, sampling, anomaly, seed : as in a run's config.
    """

    name: str
    inputs: tuple[str, ...]
    train_days: int = 7
    model: ModelConfig = field(default_factory=ModelConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    anomaly: AnomalyConfig = field(default_factory=AnomalyConfig)
    seed: int = 0

    @property
    def digest(self) -> str:
        """The sha-256 of everything but the name."""
        settings = {key: getattr(self, key).model_dump(mode="json") for key in ("model", "sampling", "anomaly")}
        return digest_of(settings | {"inputs": self.inputs, "train_days": self.train_days, "seed": self.seed})


def transactions_of(config: RunConfig, workspace: Workspace) -> pd.DataFrame:
    """Bring the published transactions into the vault unless they are there, and load what training may see."""
    ingest(config, workspace)
    return load_transactions(config.dataset.name, purpose=config.purpose, workspace=workspace)


def folds_of(transactions: pd.DataFrame, starts: Sequence[str], train_days: int = 7) -> list[Fold]:
    """Return the book's folds whose training weeks start on these days, each with a training window of `train_days`."""
    made = [book_fold(transactions, train_start=pd.Timestamp(start, tz="UTC"), name=start) for start in starts]
    return [widened(fold, transactions, train_days) for fold in made]


def widened(fold: Fold, transactions: pd.DataFrame, train_days: int) -> Fold:
    """Return the fold with a training window that ends where it did and is `train_days` long; the test stays as it is.

    Labels of earlier rows were known earlier still; the window is cut where the data begin.
    """
    start = max(fold.train_end - train_days * DAY, transactions["event_time"].iloc[0].floor("D"))
    low, high = transactions["event_time"].searchsorted([start, fold.train_end])
    rows = np.arange(low, high, dtype=np.int64)
    known = (transactions["label_time"].iloc[rows] <= fold.test_start).to_numpy()
    rows = rows[known]
    part = transactions.iloc[rows]
    frauds, customers = int(part["is_fraud"].sum()), int(part[fold.entity].nunique())
    return replace(
        fold,
        train=rows,
        refit=rows,
        train_start=start,
        refit_start=start,
        unlabelled=fold.unlabelled | dict.fromkeys(("train", "refit"), int((~known).sum())),
        frauds=fold.frauds | dict.fromkeys(("train", "refit"), frauds),
        customers=fold.customers | dict.fromkeys(("train", "refit"), customers),
    )


def score(declared: Declared, features: pd.DataFrame, transactions: pd.DataFrame, fold: Fold) -> np.ndarray:
    """Fit a declared model on a fold's training rows and score its test rows."""
    inputs = features[list(declared.inputs)]
    weight = RowWeights(
        transactions, inputs, declared.sampling, as_of=fold.test_start, model=declared.model, seed=declared.seed
    )
    labels = transactions["is_fraud"].iloc[fold.train]
    fitted = fit_estimator(
        inputs.iloc[fold.train],
        labels,
        model=declared.model,
        seed=declared.seed,
        anomaly=declared.anomaly,
        **weight.of(fold.train),
    )
    return fitted.margin(inputs.iloc[fold.test])


class Judge:
    """The test rows of some folds, and the same draws of customers for every model that is judged on them."""

    def __init__(self, transactions: pd.DataFrame, folds: Sequence[Fold], *, n_boot: int = 200, seed: int = 0):
        self.folds, self.n_boot, self.seed = list(folds), n_boot, seed
        self.parts = [transactions.iloc[fold.test] for fold in folds]
        self.customers = pd.Index(pd.unique(pd.concat([part["customer_id"] for part in self.parts])))

    def judge(self, scores: Sequence[np.ndarray]) -> np.ndarray:
        """Return figures[replicate, fold, figure] of one model's scores, replicate 0 being the data themselves.

        A replicate draws the customers with replacement, the same ones in every fold and for every model, so that
        differences of two models are paired.
        """
        sides = []
        for part, values in zip(self.parts, scores, strict=True):
            data = Data.read(part["is_fraud"].to_numpy(dtype=float), values, part["event_time"], part["customer_id"])
            cases = Cases.of(data)
            whole = Slice.of("all", data, cases, np.arange(len(data.y)), data.entity)
            of_all = self.customers.get_indexer(data.entities)
            sides.append((Inspection.of(cases, INSPECTED, by_entity=True), whole, of_all))

        def figures(weights: np.ndarray) -> list[list[float]]:
            found = []
            for inspection, whole, of_all in sides:
                ranking = whole.ranking(weights[of_all])
                precision = inspection.drawn(weights[of_all])[2]["card_precision_at_k"]
                found.append([ranking["auc_roc"], ranking["average_precision"], precision])
            return found

        copies = [np.ones(len(self.customers)), *draws(len(self.customers), self.n_boot, self.seed)]
        return np.array([figures(weights) for weights in copies])


def summary(judged: np.ndarray, against: np.ndarray | None = None) -> dict[str, Any]:
    """Return means over folds with 95 % intervals, and with `against` those of the paired difference.

    Parameters
    ----------
    judged, against : from the same `Judge`.

    Returns
    -------
    figure -> {value, low, high, folds}; with `against` also difference, difference_low, difference_high.
    """
    means = judged.mean(axis=1)
    low, high, _ = percentiles(means[1:])
    found: dict[str, Any] = {}
    for k, figure in enumerate(FIGURES):
        found[figure] = {
            "value": float(means[0, k]),
            "low": float(low[k]),
            "high": float(high[k]),
            "folds": [float(value) for value in judged[0, :, k]],
        }
    if against is not None:
        gap = means - against.mean(axis=1)
        low, high, _ = percentiles(gap[1:])
        for k, figure in enumerate(FIGURES):
            found[figure] |= {
                "difference": float(gap[0, k]),
                "difference_low": float(low[k]),
                "difference_high": float(high[k]),
            }
    return found


def look(
    workspace: Workspace, declared: Declared, folds: Sequence[Fold], result: Mapping[str, Any], data_digest: str
) -> None:
    """Write down in `runs/test_looks.jsonl` that a declared model was looked at on the TEST folds."""
    looks.record(
        workspace.runs / "test_looks.jsonl",
        run="prequential TEST",
        dataset="handbook",
        data_digest=data_digest,
        config_digest=declared.digest,
        test_start=folds[0].test_start,
        test_end=folds[-1].test_end,
        model=declared.name,
        result={metric: result[figure]["value"] for metric, figure in zip(looks.HEADLINE, FIGURES)},
    )


def looked(workspace: Workspace, folds: Sequence[Fold]) -> list[str]:
    """Return a line for each look at any of the folds' test days so far, and one that sums them up."""
    found = looks.read(workspace.runs / "test_looks.jsonl")
    found = looks.at_period(found, "handbook", folds[0].test_start, folds[-1].test_end)
    lines = [
        f"{each.when:%Y-%m-%d %H:%M}  {each.config_digest[:10]}  {each.model:<34}"
        + " / ".join(f"{each.result[metric]:.3f}" for metric in looks.HEADLINE if metric in each.result)
        for each in found.itertuples()
    ]
    return [*lines, looks.explain(found)]


def said(row: Mapping[str, Mapping[str, float]]) -> str:
    """Write the three figures of a row as the book does."""
    return " / ".join(f"{row[figure]['value']:.3f}" for figure in FIGURES)
