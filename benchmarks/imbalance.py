"""What weights, label corrections and category encodings bring, on validation folds only.

Every method is fitted on the same folds as the plain fit and scored on the same rows. A row of the table is the mean
over the folds and the difference to the plain fit, with the 95 % interval of a bootstrap over customers that draws the
same customers for both. No fold's test part of the published protocol, and no test of the demo run, is touched.

    python benchmarks/imbalance.py --data path/to/handbook.parquet
    python benchmarks/imbalance.py --table        # the written results again, as Markdown

References: Le Borgne, Siblini, Lebichot, Bontempi, "Reproducible Machine Learning for Credit Card Fraud Detection -
Practical Handbook", Université Libre de Bruxelles, 2022 (chapter 5: validation weeks of the prequential protocol).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import figures
import numpy as np
import pandas as pd
from frames import published, simulated
from rich.console import Console

from fraudlab.config import ModelConfig, SamplingConfig
from fraudlab.features import FeatureSet, risk
from fraudlab.features.sets import named_set
from fraudlab.metrics.cases import Cases, Data, run_ends, take_cards
from fraudlab.splits import book_fold
from fraudlab.training import fit_estimator
from fraudlab.weights import held_out_scores, prior_shift, training_weights

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "imbalance.json"
DAY = pd.Timedelta(days=1)

BOOK_WEEKS = ("2018-06-20", "2018-06-27", "2018-07-04", "2018-07-11")
BOOK_MODEL = ModelConfig(
    n_estimators=100, learning_rate=0.1, max_depth=3, tree_method="exact", base_score=0.5, early_stopping_rounds=0
)
BOOK_HIST = BOOK_MODEL.model_copy(update={"tree_method": "hist", "max_bin": 4096})

DEMO_CUSTOMERS, DEMO_SEED = 2500, 7
DEMO_TESTS = ("2026-03-25", "2026-04-01", "2026-04-08", "2026-04-15")
DEMO_TRAIN_DAYS, DEMO_DELAY_DAYS = 60, 14
DEMO_MODEL = ModelConfig(
    n_estimators=100, learning_rate=0.1, max_depth=4, min_child_weight=5, max_bin=512, early_stopping_rounds=0
)

DRAWS = 3
"""Seeds over which a method with a random draw is averaged."""

METRICS = ("average_precision", "auc_roc", "card_precision")


@dataclass(frozen=True)
class Fold:
    """Rows to learn from and rows to be judged on, by position; what the labels say and what is true of them."""

    train: np.ndarray
    test: np.ndarray
    as_of: pd.Timestamp


@dataclass(frozen=True)
class Bench:
    """One table: the data, its folds, the model, how many cases a day are inspected."""

    name: str
    transactions: pd.DataFrame
    features: pd.DataFrame
    folds: tuple[Fold, ...]
    truth: np.ndarray
    model: ModelConfig
    k: int
    console: Console
    n_boot: int
    threads: int
    known: dict[Any, Any] = field(default_factory=dict)  # what was worked out before
    scores: dict[str, list[list[np.ndarray]]] = field(default_factory=dict)

    def fit(
        self,
        method: str,
        sampling: SamplingConfig | None = None,
        *,
        features: pd.DataFrame | None = None,
        folds: tuple[Fold, ...] | None = None,
        unknown_is_genuine: bool = False,
        draws: int = 1,
        **settings: Any,
    ) -> None:
        """Fit one method on every fold and keep its scores of the rows to be judged."""
        began = time.perf_counter()
        X = self.features if features is None else features
        scores = []
        for own, judged in zip(folds or self.folds, self.folds):
            scores.append(
                [
                    self._score(X, own, judged, sampling or SamplingConfig(), unknown_is_genuine, seed, settings)
                    for seed in range(draws)
                ]
            )
        self.scores[method] = scores
        self.console.print(f"  {method:<58} {time.perf_counter() - began:6.1f} s")

    def _score(
        self,
        X: pd.DataFrame,
        own: Fold,
        judged: Fold,
        sampling: SamplingConfig,
        unknown_is_genuine: bool,
        seed: int,
        settings: dict[str, Any],
    ) -> np.ndarray:
        part, inputs = self.transactions.iloc[own.train], X.iloc[own.train]
        settled = part["label_time"] <= own.as_of
        known, told = part["is_fraud"].where(settled), part["label_time"].where(settled)
        if unknown_is_genuine and sampling.labels != "delayed_feedback":
            known, told = known.fillna(False), told.fillna(own.as_of)
        y = known.fillna(False).to_numpy(dtype=bool)

        def fit_and_score(learn: np.ndarray, at: np.ndarray) -> np.ndarray:
            model = fit_estimator(inputs.iloc[learn], y[learn], model=self.model, seed=seed, threads=self.threads)
            return model.score(inputs.iloc[at])

        held_out, key = None, ("held out", own.as_of, len(own.train))
        if sampling.labels == "positive_unlabelled":
            if key not in self.known:
                self.known[key] = held_out_scores(y, fit_and_score)
            held_out = self.known[key]
        weight = training_weights(
            known,
            event_time=part["event_time"],
            label_time=told,
            amount=part["amount"],
            as_of=own.as_of,
            sampling=sampling,
            seed=seed,
            score=held_out,
        )
        model = fit_estimator(
            inputs,
            y,
            model=self.model,
            seed=seed,
            weight=weight,
            shift=prior_shift(y, sampling),
            threads=self.threads,
            **settings,
        )
        return model.score(X.iloc[judged.test])

    def table(self, plain: str) -> list[dict[str, Any]]:
        """Return method, metric, value, difference, low, high and the stated over the seen frauds."""
        began = time.perf_counter()
        values = {method: self._means(method, None) for method in self.scores}
        replicates: dict[str, list[np.ndarray]] = {method: [] for method in self.scores}
        rng = np.random.default_rng(0)
        count = self._customers().max() + 1
        for _ in range(self.n_boot):
            copies = np.bincount(rng.integers(0, count, count), minlength=count).astype(float)
            for method in self.scores:
                replicates[method].append(self._means(method, copies))
        rows = []
        for method, value in values.items():
            gaps = np.array(replicates[method]) - np.array(replicates[plain])
            low, high = np.percentile(gaps, [2.5, 97.5], axis=0)
            stated = [np.mean([s.sum() for s in fold]) / self.truth[f.test].sum() for f, fold in self._of(method)]
            for place, metric in enumerate(METRICS):
                rows.append(
                    {
                        "method": method,
                        "metric": metric,
                        "value": round(float(value[place]), 5),
                        "difference": round(float(value[place] - values[plain][place]), 5),
                        "low": round(float(low[place]), 5),
                        "high": round(float(high[place]), 5),
                        "stated_over_seen": round(float(np.mean(stated)), 3),
                    }
                )
        self.console.print(f"  {self.n_boot} replicates {time.perf_counter() - began:52.1f} s")
        return rows

    def _of(self, method: str) -> Iterator[tuple[Fold, list[np.ndarray]]]:
        return zip(self.folds, self.scores[method])

    def _means(self, method: str, copies: np.ndarray | None) -> np.ndarray:
        """Return the metrics, means over folds and draws, when customer c is there copies[c] times (None: once)."""
        return np.mean(
            [
                self._ranked(method, number, draw).metrics(copies, self.k)
                for number, (_, scores) in enumerate(self._of(method))
                for draw in range(len(scores))
            ],
            axis=0,
        )

    def _ranked(self, method: str, number: int, draw: int) -> Ranked:
        key = (method, number, draw)
        if key not in self.known:
            test = self.folds[number].test
            self.known[key] = Ranked.of(
                self.truth[test],
                self.scores[method][number][draw],
                self.transactions.iloc[test],
                self._customers()[test],
            )
        return self.known[key]

    def _customers(self) -> np.ndarray:
        if "customers" not in self.known:
            self.known["customers"] = pd.factorize(self.transactions["customer_id"])[0]
        return self.known["customers"]


@dataclass(frozen=True)
class Ranked:
    """Scored rows in the order of their scores, and their cases, ready for any weights."""

    y: np.ndarray
    customer: np.ndarray
    ends: np.ndarray
    cases: Cases
    entity: np.ndarray  # of each numbered entity of the cases, the customer

    @classmethod
    def of(cls, y: np.ndarray, score: np.ndarray, part: pd.DataFrame, customer: np.ndarray) -> Ranked:
        data = Data.read(y, score, part["event_time"], part["customer_id"])
        order = np.argsort(-score, kind="stable")
        entity = np.zeros(len(data.entities), dtype=np.int64)
        entity[data.entity] = customer
        return cls(y[order].astype(float), customer[order], run_ends(score[order]), Cases.of(data), entity)

    def metrics(self, copies: np.ndarray | None, k: int) -> tuple[float, float, float]:
        """Return average precision, AUC ROC and card precision at k."""
        weight = np.ones(len(self.y)) if copies is None else copies[self.customer]
        frauds = np.cumsum(weight * self.y)[self.ends]
        flagged = np.cumsum(weight)[self.ends]
        caught, wrong = np.diff(frauds, prepend=0.0), np.diff(flagged - frauds, prepend=0.0)
        precision = np.divide(frauds, flagged, out=np.zeros_like(flagged), where=flagged > 0)
        there = np.ones(len(self.entity)) if copies is None else copies[self.entity]
        cards = take_cards(self.cases, there, k)
        return (
            float(caught @ precision / frauds[-1]),
            float(wrong @ (frauds - caught / 2) / (frauds[-1] * (flagged[-1] - frauds[-1]))),
            float(cards.hits.sum() / k / len(cards.hits)),
        )


# -- the tables ------------------------------------------------------------------------------------------------------

WEIGHTS: dict[str, tuple[SamplingConfig, int]] = {
    "class weight 5": (SamplingConfig(fraud_weight=5), 1),
    "class weight 20": (SamplingConfig(fraud_weight=20), 1),
    "class weight 100 (balanced)": (SamplingConfig(fraud_weight=100), 1),
    "recency, half-life 3 days": (SamplingConfig(recency_half_life_days=3), 1),
    "amount of a fraud, square root": (SamplingConfig(amount_power=0.5), 1),
    "amount of a fraud": (SamplingConfig(amount_power=1.0), 1),
    "under-sampling 1:10": (SamplingConfig(genuine_per_fraud=10), DRAWS),
    "under-sampling 1:50": (SamplingConfig(genuine_per_fraud=50), DRAWS),
    "delayed feedback": (SamplingConfig(labels="delayed_feedback"), 1),
    "positive-unlabelled, share stated 0.95": (SamplingConfig(labels="positive_unlabelled", reported_share=0.95), 1),
    "positive-unlabelled, share estimated": (SamplingConfig(labels="positive_unlabelled"), 1),
}


def book_folds(transactions: pd.DataFrame, days: int = 7) -> tuple[Fold, ...]:
    """The published validation weeks; with longer training, judged on the same rows."""
    folds = []
    for start in BOOK_WEEKS:
        week = book_fold(transactions, train_start=pd.Timestamp(start, tz="UTC"))
        longer = pd.Timestamp(start, tz="UTC") - (days - 7) * DAY
        train = week.train if days == 7 else book_fold(transactions, train_start=longer, train_days=days).train
        folds.append(Fold(train, week.test, week.test_start))
    return tuple(folds)


def demo_folds(transactions: pd.DataFrame, delay_days: int = DEMO_DELAY_DAYS) -> tuple[Fold, ...]:
    """Four validation weeks of the demo data; with another delay, judged on the same rows.

    Without a delay the rows reach up to the week itself, so that many of their labels are not known yet.
    """
    folds = []
    for text in DEMO_TESTS:
        start = pd.Timestamp(text, tz="UTC")
        week = book_fold(
            transactions,
            train_start=start - (DEMO_DELAY_DAYS + DEMO_TRAIN_DAYS) * DAY,
            train_days=DEMO_TRAIN_DAYS,
            delay_days=DEMO_DELAY_DAYS,
        )
        end = start - delay_days * DAY
        late = transactions["event_time"].between(end - DEMO_TRAIN_DAYS * DAY, end, inclusive="left")
        folds.append(Fold(week.train if delay_days == DEMO_DELAY_DAYS else np.flatnonzero(late), week.test, start))
    return tuple(folds)


def is_fraud(transactions: pd.DataFrame) -> np.ndarray:
    """What the labels say in the end."""
    return transactions["is_fraud"].fillna(False).to_numpy(dtype=bool)


def book_weights(make: Callable[..., Bench], transactions: pd.DataFrame, features: pd.DataFrame) -> Bench:
    """The published data: weights, draws and label corrections."""
    bench = make("book_weights", transactions, features, book_folds(transactions), is_fraud(transactions), BOOK_MODEL)
    bench.fit("plain")
    for method, (sampling, draws) in WEIGHTS.items():
        bench.fit(method, sampling, draws=draws)
    return bench


def book_history(make: Callable[..., Bench], transactions: pd.DataFrame, features: pd.DataFrame) -> Bench:
    """The published data: four weeks to learn from, newer ones counting more."""
    longer = book_folds(transactions, 28)
    bench = make("book_history", transactions, features, book_folds(transactions), is_fraud(transactions), BOOK_HIST)
    bench.fit("28 days, plain", folds=longer)
    for days in (7, 14):
        bench.fit(f"28 days, half-life {days}", SamplingConfig(recency_half_life_days=days), folds=longer)
    bench.fit("7 days, plain")
    return bench


def book_hidden(make: Callable[..., Bench], transactions: pd.DataFrame, features: pd.DataFrame) -> Bench:
    """The published data with 30 % of the frauds never reported, in labels and features; judged on all of them."""
    truth = is_fraud(transactions)
    hidden = truth & (np.random.default_rng(0).random(len(truth)) < 0.3)
    told = transactions.assign(is_fraud=transactions["is_fraud"].mask(hidden, False))
    bench = make("book_hidden", told, named_set("handbook").compute(told), book_folds(told), truth, BOOK_MODEL)
    bench.fit("plain")
    for share in (0.7, 0.85):
        sampling = SamplingConfig(labels="positive_unlabelled", reported_share=share)
        bench.fit(f"positive-unlabelled, share stated {share}", sampling)
    bench.fit("positive-unlabelled, share estimated", SamplingConfig(labels="positive_unlabelled"))
    return bench


def book_categories(make: Callable[..., Bench], transactions: pd.DataFrame, features: pd.DataFrame) -> Bench:
    """The published data: the terminal itself (10,000 of them) as a category beside its known frauds."""
    bench = make("book_categories", transactions, features, book_folds(transactions), is_fraud(transactions), BOOK_HIST)
    bench.fit("plain (with the terminal's risk)")
    joined = features.assign(merchant_id=transactions["merchant_id"])
    without = features[[name for name in features if "risk" not in name]]
    for encoding in ("native", "target", "frequency"):
        bench.fit(f"and the terminal, {encoding}", features=joined, categories=["merchant_id"], encoding=encoding)
    bench.fit("without the terminal's risk", features=without)
    only = without.assign(merchant_id=transactions["merchant_id"])
    for encoding in ("native", "target"):
        bench.fit(
            f"the terminal in its place, {encoding}", features=only, categories=["merchant_id"], encoding=encoding
        )
    return bench


def demo_late(make: Callable[..., Bench], transactions: pd.DataFrame, features: pd.DataFrame) -> Bench:
    """The demo data: labels that come late, with and without leaving them time."""
    bench = make("demo_late", transactions, features, demo_folds(transactions), is_fraud(transactions), DEMO_MODEL)
    late = SamplingConfig(labels="delayed_feedback")
    bench.fit("plain, 14 days for labels")
    bench.fit("delayed feedback, 14 days", late)
    for days in (7, 0):
        folds = demo_folds(transactions, days)
        bench.fit(f"unreported is genuine, {days} days", folds=folds, unknown_is_genuine=True)
        bench.fit(f"delayed feedback, {days} days", late, folds=folds, unknown_is_genuine=True)
    return bench


def demo_weights(make: Callable[..., Bench], transactions: pd.DataFrame, features: pd.DataFrame) -> Bench:
    """The demo data: weights and draws."""
    bench = make("demo_weights", transactions, features, demo_folds(transactions), is_fraud(transactions), DEMO_MODEL)
    bench.fit("plain")
    for method, (sampling, draws) in WEIGHTS.items():
        if sampling.labels == "known" and sampling.recency_half_life_days is None:
            bench.fit(method, sampling, draws=draws)
    for days in (14, 30):
        bench.fit(f"recency, half-life {days} days", SamplingConfig(recency_half_life_days=days))
    return bench


def demo_hidden(make: Callable[..., Bench], transactions: pd.DataFrame, features: pd.DataFrame) -> Bench:
    """The demo data with 9 % of the frauds never reported; judged on what truly happened."""
    truth = (transactions["fraud_scenario"] != "").to_numpy()
    bench = make("demo_hidden", transactions, features, demo_folds(transactions), truth, DEMO_MODEL)
    bench.fit("plain")
    for share in (0.91, 0.7):
        sampling = SamplingConfig(labels="positive_unlabelled", reported_share=share)
        bench.fit(f"positive-unlabelled, share stated {share}", sampling)
    bench.fit("positive-unlabelled, share estimated", SamplingConfig(labels="positive_unlabelled"))
    return bench


def demo_categories(make: Callable[..., Bench], transactions: pd.DataFrame, features: pd.DataFrame) -> Bench:
    """The demo data: four columns of few values, and the merchant of many."""
    bench = make(
        "demo_categories", transactions, features, demo_folds(transactions), is_fraud(transactions), DEMO_MODEL
    )
    bench.fit("plain")
    few = ["merchant_category", "channel", "country", "auth_method"]
    for names, said in ((few, "4 columns"), (["merchant_id"], "the merchant")):
        joined = features.join(transactions[names])
        for encoding in ("native", "target", "frequency"):
            bench.fit(f"{said}, {encoding}", features=joined, categories=names, encoding=encoding)
    ordered = FeatureSet("risks", [risk(by=name, window="28d", delay="14d") for name in few])
    bench.fit("4 columns, risk(by=...) features", features=features.join(ordered.compute(transactions)))
    return bench


TITLES = {
    "book_weights": "Published data, 7 days, k = 100",
    "book_history": "Published data, 28 days, hist 4,096 bins, k = 100",
    "book_hidden": "Published data, 30 % of the frauds never reported, k = 100",
    "book_categories": "Published data, the terminal as a category, hist 4,096 bins, k = 100",
    "demo_weights": "Demo data, k = 5",
    "demo_late": "Demo data, late labels, k = 5",
    "demo_hidden": "Demo data, 9 % of the frauds never reported, k = 5",
    "demo_categories": "Demo data, categories, k = 5",
}


def markdown(results: dict[str, Any]) -> str:
    """Write the results as Markdown tables."""
    said = []
    for name, rows in results["tables"].items():
        head = (
            f"**{TITLES[name]}**\n\n| method | average precision | difference (95 %) | AUC ROC | difference | CP@k | "
        )
        said.append(f"{head}difference | stated / seen |\n|---|---|---|---|---|---|---|---|")
        table = pd.DataFrame(rows)
        for method in dict.fromkeys(table["method"]):
            found = table[table["method"] == method].set_index("metric")
            cells = []
            for metric in METRICS:
                row = found.loc[metric]
                gap = (
                    f"{row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})" if found["high"].any() else ""
                )
                cells += [f"{row['value']:.3f}", gap]
            said.append(f"| {method} | {' | '.join(cells)} | {found['stated_over_seen'].iloc[0]:.2f} |")
        said.append("")
    return "\n".join(said)


def main() -> int:
    """Fit everything, write the results, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, help="the published transactions, one Parquet file; else the demo data only"
    )
    parser.add_argument(
        "--only", nargs="*", choices=list(TITLES), help="some of the tables; the others stay as written"
    )
    parser.add_argument("--n-boot", type=int, default=200, help="replicates")
    parser.add_argument("--threads", type=int, default=0, help="of each fit; 0: all cores, 1: on a busy machine")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the figures go (JSON)")
    parser.add_argument("--table", action="store_true", help="print what is written, as Markdown")
    arguments = parser.parse_args()
    written = json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.out.is_file() else {"tables": {}}
    if arguments.table:
        print(markdown(written))
        return 0
    console = Console(highlight=False, soft_wrap=True)
    began = time.perf_counter()
    wanted = arguments.only or [name for name in TITLES if arguments.data or name.startswith("demo")]
    tables = dict(written["tables"])

    def run(what: Callable[..., Bench], transactions: pd.DataFrame, features: pd.DataFrame, k: int) -> None:
        console.print(TITLES[what.__name__])
        bench = what(
            lambda *given: Bench(*given, k, console, arguments.n_boot, arguments.threads), transactions, features
        )
        tables[what.__name__] = bench.table(next(iter(bench.scores)))

    if arguments.data and any(name.startswith("book") for name in wanted):
        transactions = published(arguments.data)
        features = named_set("handbook").compute(transactions)
        for what in (book_weights, book_history, book_hidden, book_categories):
            if what.__name__ in wanted:
                run(what, transactions, features, 100)
    if any(name.startswith("demo") for name in wanted):
        transactions = simulated(0, customers=DEMO_CUSTOMERS, seed=DEMO_SEED)
        features = named_set("card-v1").compute(transactions)
        for what in (demo_weights, demo_late, demo_categories):
            if what.__name__ in wanted:
                run(what, transactions, features, 5)
        if "demo_hidden" in wanted:
            noisy = simulated(0, customers=DEMO_CUSTOMERS, seed=DEMO_SEED, label_noise=0.09)
            run(demo_hidden, noisy, named_set("card-v1").compute(noisy), 5)
    results = {
        "tables": {name: tables[name] for name in TITLES if name in tables},
        "replicates": arguments.n_boot,
        "seconds": round(time.perf_counter() - began, 1),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "versions": {name: importlib.metadata.version(name) for name in ("fraudlab", "numpy", "pandas", "xgboost-cpu")},
    }
    figures.write(results, arguments.out)
    print(markdown(results))
    console.print(f"written to {arguments.out}; {results['seconds']:.0f} s in all")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
