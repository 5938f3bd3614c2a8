"""What can be found without labels, and what such a score adds to a model that has them; validation folds only.

Detectors are fitted on each training week of the published protocol without its labels and ranked on the week it
validates on; the last of these weeks, 2018-07-25 to 31, is the one with published figures. Then the boosted trees get
the score as one more input: means over the folds and paired differences, with the 95 % interval of a bootstrap over
customers. No fold's test part of the published protocol, and no test of the demo run, is touched.

    python benchmarks/anomaly.py --data path/to/handbook.parquet
    python benchmarks/anomaly.py --table        # the written results again, as Markdown

References: Le Borgne, Siblini, Lebichot, Bontempi, "Reproducible Machine Learning for Credit Card Fraud Detection -
Practical Handbook", Université Libre de Bruxelles, 2022 (chapter 7: autoencoders and anomaly detection).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import figures
import numpy as np
import pandas as pd
from frames import published, simulated
from imbalance import (
    BOOK_MODEL,
    DEMO_CUSTOMERS,
    DEMO_MODEL,
    DEMO_SEED,
    METRICS,
    Fold,
    Ranked,
    book_folds,
    demo_folds,
    is_fraud,
)
from rich.console import Console
from scipy.stats import norm

from fraudlab import plots
from fraudlab.anomaly import Detector, fit_detector, tail_table
from fraudlab.config import AnomalyConfig, ModelConfig
from fraudlab.features.sets import named_set
from fraudlab.training import fit_estimator

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "anomaly.json"
PICTURE = ROOT / "docs" / "images" / "unusual.png"

# Of the week 2018-07-25..31: AUC ROC, average precision, CP@100.
PUBLISHED = {"autoencoder": (0.836, 0.180, 0.217), "isolation forest": (0.808, 0.164, 0.190)}
FIGURES = ("auc_roc", "average_precision", "card_precision")
BOOK_TREES, BOOK_SEED, BOOK_SEEDS = 10, 42, 20  # the published setting, and how often it is repeated
SCENARIOS = {
    0: "genuine",
    1: "frauds with large amounts",
    2: "frauds at compromised terminals",
    3: "frauds on compromised customers",
}

Scorer = Callable[[np.ndarray, np.ndarray], np.ndarray]


def detect(kind: str, **settings: Any) -> Scorer:
    """Return what fits a detector of ours on some rows and scores others."""

    def score(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        names = [str(place) for place in range(train.shape[1])]
        return fit_detector(train, names, kind, **settings).score(test)

    return score


# -- methods tried and not taken; complete rows only -----------------------------------------------------------------


def in_deviations(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both in standard deviations from the training mean."""
    mean, scale = train.mean(axis=0), train.std(axis=0)
    return (train - mean) / scale, (test - mean) / scale


def tails(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """ECOD: each feature's rarer tail, multiplied (Li et al. 2022, doi:10.1109/TKDE.2022.3159580)."""
    total, rows = np.zeros(len(test)), len(train)
    for known, new in zip(np.sort(train, axis=0).T, test.T):
        below = (np.searchsorted(known, new, "right") + 1) / (rows + 1)
        above = (rows - np.searchsorted(known, new, "left") + 1) / (rows + 1)
        total -= np.log(np.minimum(below, above))
    return total


def reconstruction(parts: int) -> Scorer:
    """Return the squared error of a row rebuilt from the first principal components."""

    def score(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        known, new = in_deviations(train, test)
        axes = np.linalg.eigh(known.T @ known)[1][:, -parts:]
        return ((new - new @ axes @ axes.T) ** 2).sum(axis=1)

    return score


def neighbours(rows: int, k: int) -> Scorer:
    """Return the distance to the k-th nearest of some training rows."""

    def score(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        from sklearn.neighbors import NearestNeighbors

        known, new = in_deviations(train, test)
        chosen = np.random.default_rng(0).choice(len(known), rows, replace=False)
        return NearestNeighbors(n_neighbors=k).fit(known[chosen]).kneighbors(new)[0][:, -1]

    return score


def by_ranks(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Return the squared distance after each feature is made normal by its ranks."""
    rows = len(train)

    def normal(known: np.ndarray, new: np.ndarray) -> np.ndarray:
        place = (np.searchsorted(known, new, "left") + np.searchsorted(known, new, "right") + 1) / 2
        return norm.ppf(np.clip(place / (rows + 1), 0.5 / (rows + 1), 1 - 0.5 / (rows + 1)))

    ordered = np.sort(train, axis=0)
    known, new = (np.column_stack([normal(*pair) for pair in zip(ordered.T, rows.T)]) for rows in (train, test))
    precision = np.linalg.inv(known.T @ known / rows + 1e-3 * np.eye(known.shape[1]))
    return ((new @ precision) * new).sum(axis=1)


CANDIDATES: dict[str, Scorer] = {
    "isolation forest, 10 trees": detect("isolation_forest", trees=BOOK_TREES, seed=BOOK_SEED),
    "isolation forest, 100 trees": detect("isolation_forest", seed=BOOK_SEED),
    "isolation forest, 100 trees of 1,024 rows": detect("isolation_forest", seed=BOOK_SEED, rows_a_tree=1024),
    "density, ridge 0.001": detect("density", ridge=0.001),
    "density, ridge 0.1": detect("density"),
    "density, ridge 1": detect("density", ridge=1.0),
    "density of ranks": by_ranks,
    "tails of each feature (ECOD)": tails,
    "rebuilt from 5 principal components": reconstruction(5),
    "rebuilt from 8 principal components": reconstruction(8),
    "5th nearest of 2,000 rows": neighbours(2000, 5),
}


# -- the parts -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bench:
    """One table: the data, its validation folds, how many cases a day are inspected, and the scores of each method."""

    transactions: pd.DataFrame
    features: pd.DataFrame
    folds: tuple[Fold, ...]
    k: int
    scores: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def add(self, method: str, score: Callable[[Fold], np.ndarray], console: Console) -> None:
        """Score every fold's rows with one method."""
        began = time.perf_counter()
        self.scores[method] = [score(fold) for fold in self.folds]
        console.print(f"  {method:<50} {time.perf_counter() - began:6.1f} s")

    def ranked(self, method: str) -> list[Ranked]:
        """Return a method's scored rows, fold by fold."""
        truth, customers = is_fraud(self.transactions), pd.factorize(self.transactions["customer_id"])[0]
        return [
            Ranked.of(truth[fold.test], score, self.transactions.iloc[fold.test], customers[fold.test])
            for fold, score in zip(self.folds, self.scores[method])
        ]

    def table(self, n_boot: int) -> list[dict[str, Any]]:
        """Return each method's means over the folds and, with intervals, the differences to the first method."""
        ranked = {method: self.ranked(method) for method in self.scores}
        count = self.transactions["customer_id"].nunique()

        def means(copies: np.ndarray | None) -> np.ndarray:
            return np.array(
                [np.mean([fold.metrics(copies, self.k) for fold in folds], axis=0) for folds in ranked.values()]
            )

        once, rng, gaps = means(None), np.random.default_rng(0), []
        for _ in range(n_boot):
            drawn = means(np.bincount(rng.integers(0, count, count), minlength=count).astype(float))
            gaps.append(drawn - drawn[0])
        low, high = np.percentile(gaps, [2.5, 97.5], axis=0)
        return [
            {
                "method": method,
                "metric": metric,
                "value": round(float(once[row, place]), 5),
                "difference": round(float(once[row, place] - once[0, place]), 5),
                "low": round(float(low[row, place]), 5),
                "high": round(float(high[row, place]), 5),
            }
            for row, method in enumerate(ranked)
            for place, metric in enumerate(METRICS)
        ]


def without_labels(bench: Bench, console: Console) -> None:
    """Score the validation weeks with every candidate."""
    values = bench.features.to_numpy()
    for name, scorer in CANDIDATES.items():
        bench.add(name, lambda fold, scorer=scorer: scorer(values[fold.train], values[fold.test]), console)


def published_week(bench: Bench) -> dict[str, Any]:
    """Return the figures of the published week: as published, the published forest over seeds, and the candidates."""
    values, fold = bench.features.to_numpy(), bench.folds[-1]
    week = Bench(bench.transactions, bench.features, (fold,), bench.k)
    for method, scores in bench.scores.items():
        week.scores[method] = scores[-1:]
    for seed in range(BOOK_SEEDS):
        scorer = detect("isolation_forest", trees=BOOK_TREES, seed=seed)
        week.scores[f"seed {seed}"] = [scorer(values[fold.train], values[fold.test])]
    found = {
        method: dict(zip(METRICS, (float(value) for value in week.ranked(method)[0].metrics(None, bench.k))))
        for method in week.scores
    }
    spread = pd.DataFrame([found[f"seed {seed}"] for seed in range(BOOK_SEEDS)])
    return {
        "published": {name: dict(zip(FIGURES, row)) for name, row in PUBLISHED.items()},
        "over_seeds": {said: getattr(spread, said)().round(4).to_dict() for said in ("min", "mean", "max", "std")},
        "ours": {method: {name: round(value, 4) for name, value in found[method].items()} for method in bench.scores},
    }


def as_input(bench: Bench, model: ModelConfig, console: Console) -> None:
    """Fit the trees without the score and with it."""
    known = is_fraud(bench.transactions)

    def fit(fold: Fold, anomaly: AnomalyConfig) -> np.ndarray:
        train, test = bench.features.iloc[fold.train], bench.features.iloc[fold.test]
        return fit_estimator(train, known[fold.train], model=model, seed=0, anomaly=anomaly).score(test)

    bench.add("without", lambda fold: fit(fold, AnomalyConfig()), console)
    for kind in ("density", "isolation_forest"):
        settings = AnomalyConfig(kind=kind, as_input=True)
        bench.add(f"with {kind.replace('_', ' ')}", lambda fold, settings=settings: fit(fold, settings), console)


def speed(values: np.ndarray, train: np.ndarray, names: list[str]) -> dict[str, float]:
    """Time fitting on one week and scoring everything, in seconds; of the processor, as the machine is shared."""
    found: dict[str, float] = {"rows": len(values), "features": values.shape[1]}
    for kind in ("density", "isolation_forest"):
        detector = fit_detector(values[train], names, kind)  # once before, so that no import is timed
        for said, work in (
            ("fit", lambda kind=kind: fit_detector(values[train], names, kind)),
            ("score", lambda detector=detector: detector.score(values)),
        ):
            began, busy = time.perf_counter(), time.process_time()
            work()
            found[f"{kind} {said}"] = round(time.perf_counter() - began, 2)
            found[f"{kind} {said}, processor"] = round(time.process_time() - busy, 2)
    return found


def by_scenario(bench: Bench, scenario: np.ndarray, detector: Detector) -> pd.DataFrame:
    """Table how unusual each kind of fraud of the published week is, of those not yet known as victims."""
    test = bench.folds[-1].test
    score = detector.score(bench.features.iloc[test].to_numpy())
    return tail_table(score, pd.Series(scenario[test]).map(SCENARIOS))


def markdown(results: dict[str, Any]) -> str:
    """Write the results as Markdown tables."""
    said = [
        "**Published week, 2018-07-25 to 31** (AUC ROC / average precision / CP@100)\n",
        "| method | figures |",
        "|---|---|",
    ]

    def line(name: str, row: dict[str, float]) -> str:
        return f"| {name} | {' / '.join(f'{row[figure]:.3f}' for figure in FIGURES)} |"

    week = results["published_week"]
    said += [line(f"{name}, published", row) for name, row in week["published"].items()]
    spread = week["over_seeds"]
    said += [
        line(f"isolation forest, 10 trees, {said_} of {BOOK_SEEDS} seeds", spread[said_])
        for said_ in ("min", "mean", "max")
    ]
    said += [line(name, row) for name, row in week["ours"].items()]
    titles = {
        "without_labels": "Without labels, mean of the four validation weeks, k = 100",
        "as_input": "As an input, published data, k = 100",
        "as_input_demo": "As an input, demo data, k = 5",
    }
    for key, title in titles.items():
        if key not in results:
            continue
        said += [
            f"\n**{title}**\n",
            "| method | AUC ROC | difference (95 %) | average precision | difference | CP@k | difference |",
            "|---|---|---|---|---|---|---|",
        ]
        table = pd.DataFrame(results[key])
        for method in dict.fromkeys(table["method"]):
            found = table[table["method"] == method].set_index("metric")
            cells = []
            for metric in FIGURES:
                row = found.loc[metric]
                first = method == table["method"].iloc[0]
                gap = "" if first else f"{row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
                cells += [f"{row['value']:.3f}", gap]
            said.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(said)


def main() -> int:
    """Fit everything, write the results and the picture, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="the published transactions, one Parquet file")
    parser.add_argument("--n-boot", type=int, default=200, help="replicates")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the figures go (JSON)")
    parser.add_argument("--picture", type=Path, default=PICTURE, help="where the picture goes (PNG)")
    parser.add_argument("--table", action="store_true", help="print what is written, as Markdown")
    arguments = parser.parse_args()
    if arguments.table:
        print(markdown(json.loads(arguments.out.read_text(encoding="utf-8"))))
        return 0
    if arguments.data is None:
        parser.error("--data is needed: the published transactions, one Parquet file")
    console = Console(highlight=False, soft_wrap=True)
    began = time.perf_counter()
    transactions = published(arguments.data)
    features = named_set("handbook").compute(transactions)
    folds = book_folds(transactions)
    console.print("Without labels, published validation weeks")
    ranked = Bench(transactions, features, folds, 100)
    without_labels(ranked, console)
    results: dict[str, Any] = {
        "without_labels": ranked.table(arguments.n_boot),
        "published_week": published_week(ranked),
    }
    console.print("As an input, published validation weeks")
    helped = Bench(transactions, features, folds, 100)
    as_input(helped, BOOK_MODEL, console)
    results["as_input"] = helped.table(arguments.n_boot)
    detector = fit_detector(features.iloc[folds[-1].train].to_numpy(), list(features), "density")
    # In the order of the canonical table: by time, then number.
    scenario = pd.read_parquet(arguments.data, columns=["TX_DATETIME", "TRANSACTION_ID", "TX_FRAUD_SCENARIO"])
    scenario = scenario.sort_values(["TX_DATETIME", "TRANSACTION_ID"])["TX_FRAUD_SCENARIO"].to_numpy()
    unusual = by_scenario(ranked, scenario, detector)
    results["by_scenario"] = unusual.round(5).to_dict("records")
    results["seconds_of"] = speed(features.to_numpy(), folds[-1].train, list(features))
    demo = simulated(0, customers=DEMO_CUSTOMERS, seed=DEMO_SEED)
    computed = named_set("card-v1").compute(demo)
    console.print("As an input, demo validation weeks")
    helped = Bench(demo, computed, demo_folds(demo), 5)
    as_input(helped, DEMO_MODEL, console)
    results["as_input_demo"] = helped.table(arguments.n_boot)
    results |= {
        "replicates": arguments.n_boot,
        "seconds": round(time.perf_counter() - began, 1),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("fraudlab", "numpy", "pandas", "scikit-learn", "xgboost-cpu")
        },
    }
    labels = {name: "genuine payments" if name == "genuine" else name for name in SCENARIOS.values()}
    arguments.picture.parent.mkdir(parents=True, exist_ok=True)
    plots.unusual(unusual, labels).savefig(arguments.picture, dpi=130)
    figures.write(results, arguments.out)
    print(markdown(results))
    console.print(f"written to {arguments.out}; {results['seconds']:.0f} s in all")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
