"""What each step of the default recipe brings on the published transactions, and which frauds stay out of reach.

Every step is judged on the book's four VALIDATION folds, beside the step it is held against, on the same draws of
customers. Only the models that were declared beforehand are looked at on the four TEST folds; each look is written to
`runs/test_looks.jsonl`. Needs the settings that `make handbook` chose (`benchmarks/results/handbook.json`).

    python benchmarks/ablation.py --data path/to/handbook.parquet
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import pandas as pd
from handbook import RESULTS as HANDBOOK_RESULTS
from handbook import ROOT, console_for_logs, write
from handbook_protocol import (
    FIGURES,
    TEST,
    VALIDATION,
    Declared,
    Judge,
    folds_of,
    look,
    looked,
    said,
    score,
    summary,
    transactions_of,
)
from rich.console import Console
from rich.table import Table
from scipy.special import expit, logit

from fraudlab.calibration import calibration_errors, fit_calibrator
from fraudlab.config import AnomalyConfig, ModelConfig, RunConfig, SamplingConfig, Workspace, load_config
from fraudlab.datasets import dataset_facts, load_transactions
from fraudlab.features.sets import HANDBOOK, named_set
from fraudlab.schema import FraudlabError, InputError
from fraudlab.splits import DAY, Fold, book_fold

RESULTS = ROOT / "benchmarks" / "results" / "ablation.json"
KNOWING = "all known but the first week of a terminal"
PICTURE = ROOT / "docs" / "images" / "handbook_kinds.png"
PLAIN = ModelConfig(n_estimators=100, learning_rate=0.1, max_depth=3, early_stopping_rounds=0)
"""The settings of the published XGBoost row, in fine bins."""

OTHER = "LightGBM, same settings"

SEVERAL_TIMES = 2.5
"""From so many times a customer's usual amount on, a compromised card's amount shows."""
FIRST_LABELS = 7 * DAY
COMPROMISE = 28 * DAY


class Step(NamedTuple):
    """A model, the name of the one it is held against, and whether it is declared for the TEST."""

    topic: str
    model: Declared
    against: str | None
    declared: bool = False


def steps_of(recipe: Declared) -> list[Step]:
    """Return the steps from the book's inputs to the default recipe, and what was tried beside them."""
    book = HANDBOOK.columns
    more = [name for name in recipe.inputs if name not in book]
    terminal = tuple(name for name in more if name.startswith("merchant_id"))
    customer = tuple(name for name in more if name not in terminal)
    start = Declared("book's 15 inputs", book, model=PLAIN)
    whole = replace(start, name="all inputs", inputs=recipe.inputs)
    long = replace(whole, name="28 days", train_days=28)
    fewer = replace(long, name="20 genuine rows a fraud", sampling=SamplingConfig(genuine_per_fraud=20))
    tuned = replace(recipe, name="settings searched", model=recipe.model.model_copy(update={"members": 1}))
    fading = tuned.sampling.model_copy(update={"recency_half_life_days": 14.0})
    density, isolation = (AnomalyConfig(kind=kind, as_input=True) for kind in ("density", "isolation_forest"))
    other = tuned.model.model_copy(update={"kind": "lightgbm"})
    return [
        Step("inputs", start, None, True),
        Step("inputs", replace(start, name="+ terminal's known payments", inputs=(*book, *terminal)), start.name),
        Step("inputs", replace(start, name="+ customer's level and spree", inputs=(*book, *customer)), start.name),
        Step("inputs", whole, start.name, True),
        Step("history", replace(whole, name="14 days", train_days=14), whole.name),
        Step("history", long, whole.name),
        Step("sampling", fewer, long.name),
        Step("history", replace(fewer, name="56 days, 20 genuine rows a fraud", train_days=56), fewer.name),
        Step("tuning", tuned, fewer.name, True),
        Step("recency", replace(tuned, name="half-life 14 days", sampling=fading), tuned.name),
        Step("recency", replace(tuned, name="56 days, half-life 14 days", train_days=56, sampling=fading), tuned.name),
        Step("anomaly", replace(tuned, name="density score as input", anomaly=density), tuned.name),
        Step("anomaly", replace(tuned, name="isolation forest as input", anomaly=isolation), tuned.name),
        Step("ensembling", recipe, tuned.name, True),
        Step("kinds", replace(tuned, name=OTHER, model=other), tuned.name),
    ]


def measure(
    recipe: Declared, features: pd.DataFrame, transactions: pd.DataFrame, say: Callable[[str], None], n_boot: int = 200
) -> tuple[list[dict[str, Any]], dict[str, list[np.ndarray]]]:
    """Judge every step on the VALIDATION folds; also return the scores of each."""
    judge = Judge(transactions, folds_of(transactions, VALIDATION), n_boot=n_boot)
    judged: dict[str, np.ndarray] = {}
    scores: dict[str, list[np.ndarray]] = {}
    rows = []

    def note(topic: str, name: str, against: str | None, began: float, **more: Any) -> None:
        judged[name] = judge.judge(scores[name])
        found = summary(judged[name], judged[against] if against else None)
        rows.append({"topic": topic, "step": name, "against": against, "validation": found, **more})
        say(f"  {topic:<11} {name:<32} {said(found)}   {time.perf_counter() - began:.0f} s")

    for topic, declared, against, to_test in steps_of(recipe):
        began = time.perf_counter()
        folds = folds_of(transactions, VALIDATION, declared.train_days)
        scores[declared.name] = [score(declared, features, transactions, fold) for fold in folds]
        note(topic, declared.name, against, began, declared=to_test, train_days=declared.train_days)
    began = time.perf_counter()
    scores["recipe and LightGBM, mean"] = [(a + b) / 2 for a, b in zip(scores[recipe.name], scores[OTHER])]
    note("kinds", "recipe and LightGBM, mean", recipe.name, began, declared=False, train_days=recipe.train_days)
    began = time.perf_counter()
    for method, (risks, errors) in calibrated(recipe, features, transactions, scores[recipe.name]).items():
        scores[method] = risks
        note("calibration", method, recipe.name, began, declared=False, train_days=recipe.train_days, error=errors)
    return rows, scores


def calibrated(
    recipe: Declared, features: pd.DataFrame, transactions: pd.DataFrame, scores: Sequence[np.ndarray]
) -> dict[str, tuple[list[np.ndarray], dict[str, float]]]:
    """Return, per method, the risks of the VALIDATION folds and the mean calibration error before and after.

    Each calibrator is learnt on the last week of the fold's training window, from a model that ends a label delay
    before that week; nothing of the fold's test is seen.
    """
    folds = folds_of(transactions, VALIDATION, recipe.train_days)
    learnt = []
    for fold in folds:
        week = fold.train_end - 7 * DAY
        start = max(week - (recipe.train_days + 7) * DAY, transactions["event_time"].iloc[0].floor("D"))
        earlier = book_fold(transactions, train_start=start, train_days=(week - start) / DAY - 7, name="earlier")
        y = transactions["is_fraud"].iloc[earlier.test].to_numpy(dtype=bool)
        learnt.append((expit(score(recipe, features, transactions, earlier)), y))
    outcome = [transactions["is_fraud"].iloc[fold.test].to_numpy(dtype=bool) for fold in folds]
    found = {}
    for method in ("isotonic", "sigmoid", "beta"):
        risks, before, after = [], [], []
        for (past, y), margin, truth, fold in zip(learnt, scores, outcome, folds):
            stages = {"before": expit(margin), "after": fit_calibrator(past, y, method).apply(expit(margin))}
            customers = transactions["customer_id"].iloc[fold.test]
            wrong = calibration_errors(truth, stages, entity=customers, n_boot=1).set_index("stage")["value"]
            before.append(wrong["before"])
            after.append(wrong["after"])
            risks.append(logit(stages["after"]))
        found[method] = (risks, {"before": float(np.mean(before)), "after": float(np.mean(after))})
    return found


def kinds_of_fraud(transactions: pd.DataFrame, scenario: pd.Series, ratios: pd.Series) -> pd.Series:
    """Say of each fraud what could be known of it at its moment; missing where the row is no fraud.

    Parameters
    ----------
    transactions : canonical. scenario : 1, 2, 3 per row, for review only.
    ratios : amount against the customer's mean of 60 days, per row.

    Notes
    -----
    A compromised terminal's frauds can be known once the first one's label is, a label delay after it began; a
    compromise lasts 28 days.
    """
    kind = pd.Series(pd.NA, index=transactions.index, dtype="str")
    kind[scenario == "1"] = "amount above 220"
    large = ratios.ge(SEVERAL_TIMES).to_numpy()
    kind[(scenario == "3") & large] = f"compromised card, {SEVERAL_TIMES:g} times the usual or more"
    kind[(scenario == "3") & ~large] = "compromised card, smaller amount"
    of_terminal = transactions[scenario == "2"]
    for _, moments in of_terminal.groupby("merchant_id", observed=True)["event_time"]:
        values = moments.dt.tz_localize(None).to_numpy()
        first = values[np.searchsorted(values, values - COMPROMISE.to_numpy(), side="right")]
        known = values - first >= FIRST_LABELS.to_numpy()
        kind[moments.index[known]] = "compromised terminal, a label known"
        kind[moments.index[~known]] = "compromised terminal, first week"
    return kind


def reach(
    transactions: pd.DataFrame, folds: Sequence[Fold], scores: Sequence[np.ndarray], kind: pd.Series
) -> pd.DataFrame:
    """Table per kind of fraud how much of it is found on some folds' test rows.

    Columns: kind, frauds, found_100 (share whose card is among the 100 best of its day), top_percent (share that scores
    above 99 % of the genuine payments of its fold), auc_roc (against all genuine payments, mean of the folds). Counts
    of 1 to 9 are not shown.
    """
    from sklearn.metrics import roc_auc_score

    parts = []
    for fold, values in zip(folds, scores):
        part = transactions.iloc[fold.test]
        frame = pd.DataFrame({"kind": kind.iloc[fold.test], "fraud": part["is_fraud"].to_numpy(dtype=bool)})
        frame["score"], frame["card"] = values, part["customer_id"].to_numpy()
        frame["day"], frame["fold"] = part["event_time"].dt.floor("D").to_numpy(), fold.name
        best = frame.groupby(["day", "card"])["score"].max()
        place = best.groupby(level="day").rank(ascending=False, method="first")
        keys = pd.MultiIndex.from_frame(frame[["day", "card"]])
        frame["found"] = place.reindex(keys).to_numpy() <= 100
        frame["top"] = frame["score"] > frame.loc[~frame["fraud"], "score"].quantile(0.99)
        parts.append(frame)
    rows = pd.concat(parts)
    table = []
    for name, mine in rows[rows["fraud"]].groupby("kind"):
        aucs = []
        for fold, some in mine.groupby("fold"):
            genuine = rows[(rows["fold"] == fold) & ~rows["fraud"]]["score"]
            aucs.append(roc_auc_score(np.r_[np.ones(len(some)), np.zeros(len(genuine))], np.r_[some["score"], genuine]))
        shown = len(mine) >= 10
        table.append(
            {
                "kind": name,
                "frauds": len(mine) if shown else None,
                "found_100": mine["found"].mean() if shown else None,
                "top_percent": mine["top"].mean() if shown else None,
                "auc_roc": float(np.mean(aucs)) if shown else None,
            }
        )
    return pd.DataFrame(table).sort_values("found_100", ascending=False, ignore_index=True)


def perfect(
    transactions: pd.DataFrame, folds: Sequence[Fold], kind: pd.Series, scores: Sequence[np.ndarray], seed: int = 0
) -> dict[str, dict[str, float]]:
    """Return the figures of judges better than any model: what shows is ranked first, what does not at random.

    Returns
    -------
    The three figures by judge. Two rank every fraud that shows first, and the others at random or as the model does.
    The third knows every fraud, the small amounts on a compromised card too, but for a terminal's first week, which
    looks like any other week of any terminal: no model can be expected to do better. Where chance decides, the mean of
    40 draws; of the third also the span of the middle 95 % of them.
    """
    hidden = ("compromised terminal, first week", "compromised card, smaller amount")
    rng = np.random.default_rng(seed)
    judge = Judge(transactions, folds, n_boot=0)

    def known_but(unknown: Sequence[str]) -> list[np.ndarray]:
        return [(kind.iloc[fold.test].notna() & ~kind.iloc[fold.test].isin(unknown)).to_numpy() for fold in folds]

    def at_random(known: list[np.ndarray]) -> np.ndarray:
        drawn = [
            judge.judge([first * 2 + rng.random(len(first)) for first in known])[0].mean(axis=0) for _ in range(40)
        ]
        return np.array(drawn)

    shows = known_but(hidden)
    as_model = judge.judge([first * 1e6 + values for first, values in zip(shows, scores)])[0].mean(axis=0)
    knowing = at_random(known_but(hidden[:1]))
    low, high = np.quantile(knowing, [0.025, 0.975], axis=0)
    found = {
        "every fraud that shows first, others at random": at_random(shows).mean(axis=0),
        "every fraud that shows first, others as the model ranks them": as_model,
        KNOWING: knowing.mean(axis=0),
        f"{KNOWING}, 2.5 % of the draws below": low,
        f"{KNOWING}, 2.5 % of the draws above": high,
    }
    return {name: dict(zip(FIGURES, map(float, values))) for name, values in found.items()}


def recipe_of(path: Path) -> tuple[Declared, str]:
    """Return the default recipe as `make handbook` declared it, and the name of its feature set.

    Raises
    ------
    InputError : the results are not there.
    """
    if not path.is_file():
        raise InputError(f"ablation: needs the settings that `make handbook` chose; found no {path.name}; run it first")
    found = json.loads(path.read_text(encoding="utf-8"))["recipe"]
    declared = Declared(
        "default recipe",
        named_set(found["features"]).columns,
        train_days=found["train_days"],
        model=ModelConfig.model_validate(found["model"]),
        sampling=SamplingConfig.model_validate(found["sampling"]),
        anomaly=AnomalyConfig.model_validate(found["anomaly"]),
        seed=found["seed"],
    )
    return declared, found["features"]


def run(config: RunConfig, workspace: Workspace, recipe: Declared, say: Callable[[str], None]) -> dict[str, Any]:
    """Do everything: the steps on VALIDATION, the declared ones on TEST, the kinds of fraud."""
    transactions = transactions_of(config, workspace)
    features = named_set(config.features.set).compute(transactions)
    rows, _ = measure(recipe, features, transactions, say)

    judged, last = {}, []
    judge = Judge(transactions, folds_of(transactions, TEST))
    digest = dataset_facts(config.dataset.name, purpose=config.purpose, workspace=workspace)["digest"]
    for row, (_, declared, _, to_test) in zip(rows, steps_of(recipe)):
        if not to_test:
            continue
        folds = folds_of(transactions, TEST, declared.train_days)
        last = [score(declared, features, transactions, fold) for fold in folds]
        judged[declared.name] = judge.judge(last)
        before = list(judged)[-2] if len(judged) > 1 else None
        row["test"] = summary(judged[declared.name], judged[before] if before else None)
        row["test_against"] = before
        look(workspace, declared, folds, row["test"], digest)
        say(f"  TEST        {declared.name:<32} {said(row['test'])}")

    review = load_transactions(config.dataset.name, purpose="typology-review", workspace=workspace)
    scenario = review.set_index("transaction_id")["fraud_scenario"].astype("str")
    scenario = transactions["transaction_id"].map(scenario)
    kind = kinds_of_fraud(transactions, scenario, features["amount_ratio"])
    return {
        "steps": rows,
        "kinds": reach(transactions, folds, last, kind).to_dict("records"),
        "perfect_use_of_what_shows": perfect(transactions, folds, kind, last),
        "looks": looked(workspace, folds),
    }


def print_steps(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print the steps with their paired differences."""
    for part in ("validation", "test"):
        table = Table(title=f"{part.upper()}: AUC ROC / average precision / CP@100", title_justify="left", box=None)
        for column in ("topic", "step", "figures", "against", "change in average precision (95 % interval)"):
            table.add_column(column)
        for row in rows:
            if part not in row:
                continue
            found = row[part]["average_precision"]
            against = row["against"] if part == "validation" else row["test_against"]
            gap = "-"
            if against:
                low, high = found["difference_low"], found["difference_high"]
                gap = f"{found['difference']:+.4f} ({low:+.4f} to {high:+.4f})"
            table.add_row(row["topic"], row["step"], said(row[part]), against or "-", gap)
        console.print(table)
        console.print()


def main() -> int:
    """Run everything; the exit code is that of the first refusal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the published transactions, one Parquet file")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the figures go (JSON)")
    parser.add_argument("--recipe", type=Path, default=HANDBOOK_RESULTS, help="what `make handbook` wrote")
    parser.add_argument("--picture", type=Path, default=PICTURE, help="where the picture of the kinds of fraud goes")
    arguments = parser.parse_args()
    console = console_for_logs()
    began = time.perf_counter()
    try:
        recipe, feature_set = recipe_of(arguments.recipe)
        config = load_config(
            ROOT / "configs" / "handbook.toml",
            dataset__path=str(arguments.data.resolve()),
            features__set=feature_set,
        )
        results = run(config, Workspace.of(ROOT / "configs" / "handbook.toml"), recipe, console.print)
    except FraudlabError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    console.print()
    print_steps(results["steps"], console)
    kinds = pd.DataFrame(results["kinds"])
    console.print(kinds.round(3).to_string(index=False))
    results |= {"recipe": recipe.digest, "seconds": round(time.perf_counter() - began, 1), "cores": os.cpu_count()}
    write(arguments.out, results)
    from fraudlab.plots import fraud_kinds

    arguments.picture.parent.mkdir(parents=True, exist_ok=True)
    fraud_kinds(kinds).savefig(arguments.picture, dpi=130)
    for line in results["looks"]:
        console.print(f"  {line}")
    console.print(f"written to {arguments.out} and {arguments.picture}; {results['seconds']:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
