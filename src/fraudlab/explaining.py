"""A run's candidate explained: a sample and its alerts, what would have changed them, how steady and robust all is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fraudlab import counterfactuals, decisions, explain, metrics
from fraudlab.config import ModelConfig, RunConfig
from fraudlab.models import FittedModel
from fraudlab.progress import progress_line
from fraudlab.recipe import Prepared
from fraudlab.schema import InputError
from fraudlab.steadiness import Spread, reason_stability
from fraudlab.training import RowWeights, fit_estimator
from fraudlab.validation import validation_folds

QUIET = 3.0
"""Seconds before a progress line shows."""

SEARCHED = ("learning_rate", "max_depth", "min_child_weight", "subsample", "colsample_bytree", "reg_lambda")
"""Settings that a search may have chosen; refits take them from the model's own facts."""

REFIT_BINS = 256
"""Bins of a refit at most: its trees are explained, not used, and more bins cost several times the time."""

FEWEST_ROWS, MOST_TREE_ROWS = 50, 24_000
"""Rows whose interactions are computed at least, and trees times rows at most."""

ROBUST_METRICS = ("card_precision_at_k", "average_precision", "auc_roc")
AS_IT_IS, NOISE, TENFOLD = "as it is", "small noise in all numbers", "amounts ten times as large"
WITHOUT = "without "
FEWEST_ALERTS = 200
"""Payments whose reasons are tried, at least: where there are fewer alerts, the next highest scores join them."""


# -- a sample ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ExplainedSample:
    """A sample of payments with their features and the model's contributions, row for row."""

    features: pd.DataFrame
    contributions: pd.DataFrame


def explained_sample(model: FittedModel, prepared: Prepared, *, seed: int, size: int = 3000) -> ExplainedSample:
    """Explain a random sample of the test part, large enough for means, small enough to be quick."""
    features = model.complete(_sampled(prepared, prepared.fold.test, size, seed))
    with progress_line("explaining", after=QUIET) as say:
        return ExplainedSample(features, explain.contributions(model, features, say=say))


def _sampled(prepared: Prepared, where: np.ndarray, size: int, seed: int) -> pd.DataFrame:
    chosen = np.sort(np.random.default_rng(seed).choice(where, size=min(size, len(where)), replace=False))
    return prepared.features.iloc[chosen].reset_index(drop=True)


def refit_contributions(
    model: FittedModel,
    prepared: Prepared,
    config: RunConfig,
    *,
    periods: int = 3,
    rows: int = 1500,
    threads: int = 0,
) -> list[pd.DataFrame]:
    """Learn the model's settings again on earlier periods and explain each on the period that follows it.

    What they disagree on is what another training period would have changed; `explain.importance` makes a range of it.

    Parameters
    ----------
    model : the candidate; its number of trees and its searched settings are kept.
    prepared, config : what it was trained on, and how.
    periods : how many at most; fewer where the data do not reach back so far (see `validation_folds`), perhaps none.
    rows : payments of each later period that are explained, drawn by the config's seed.
    threads : of each fit, 0 for all cores.

    Returns
    -------
    A table of contributions for each period, in the order of time; none for a model that does not explain. Nothing from
    the test on is read. A refit is cheap: trees use up to 256 bins, one member, and no early stopping.
    """
    folds = []
    for count in range(periods if model.explains else 0, 0, -1):
        try:
            folds = validation_folds(
                prepared.transactions,
                prepared.fold,
                folds=count,
                exclude=config.split.exclude_known_compromised,
                min_positives=config.split.min_positives,
            )
            break
        except InputError:
            continue
    settings = _settings(model, config)
    tables = []
    shared: dict[str, Any] = {
        "categories": config.features.categories,
        "encoding": config.features.encoding,
        "threads": threads,
    }
    with progress_line("refits", after=QUIET) as say:
        for number, fold in enumerate(folds, start=1):
            weight = RowWeights(
                prepared.transactions,
                prepared.features,
                config.sampling,
                as_of=fold.test_start,
                model=settings,
                seed=config.seed,
                **shared,
            ).of(fold.train)
            refit = fit_estimator(
                prepared.features.iloc[fold.train],
                prepared.labels.iloc[fold.train],
                model=settings,
                seed=config.seed,
                anomaly=config.anomaly,
                **shared,
                **weight,
            )
            features = refit.complete(_sampled(prepared, fold.test, rows, config.seed))
            tables.append(explain.contributions(refit, features).drop(columns=explain.BASE))
            say(f"importance: {number} of {len(folds)} earlier periods")
    return tables


def _settings(model: FittedModel, config: RunConfig) -> ModelConfig:
    """Return the settings of a refit: those of the model in use, with its number of trees and no early stopping."""
    facts, found = model.facts, model.facts.get("params") or {}
    trees = facts.get("rounds") or facts.get("trees") or config.model.n_estimators
    update = {"n_estimators": int(trees), "early_stopping_rounds": 0, "members": 1}
    update |= {"max_bin": min(config.model.max_bin, REFIT_BINS)}
    update |= {
        name: found[name] for name in SEARCHED if found.get(name) is not None and name in ModelConfig.model_fields
    }
    return config.model.model_copy(update=update)


def interactions(
    model: FittedModel, sample: ExplainedSample, prepared: Prepared, *, rows: int | None = None
) -> pd.DataFrame:
    """Rank the pairs of features that act together, over the first rows of a sample; see `explain.interactions`.

    Without `rows`, 200 rows, and fewer of a model of more than 120 trees, so that it stays a matter of seconds.
    """
    if rows is None:
        rows = max(FEWEST_ROWS, min(200, MOST_TREE_ROWS // int(model.facts.get("trees") or 1)))
    with progress_line("interactions", after=QUIET) as say:
        words = model.words(prepared.feature_set.describe())
        return explain.interactions(model, sample.features.iloc[:rows], words, say=say)


def pair_dependence(
    model: FittedModel, sample: ExplainedSample, prepared: Prepared, pairs: pd.DataFrame
) -> pd.DataFrame:
    """Follow the strongest pair of `interactions`: its first feature, apart for low and high values of the second.

    The first pair that holds a number is taken; no rows where there is none. See `explain.pair_dependence`.
    """
    table = pd.DataFrame(columns=["feature", "partner", "level", "value", "contribution"])
    for first, second in zip(pairs["first"], pairs["second"]):
        if first and table.empty:
            words = model.words(prepared.feature_set.describe())
            table = explain.pair_dependence(sample.contributions, sample.features, words, (first, second))
    return table


# -- alerts -----------------------------------------------------------------------------------------------------------


def alert_examples(
    model: FittedModel,
    prepared: Prepared,
    thresholds: Mapping[str, Any],
    config: RunConfig,
    n: int = 5,
    *,
    frozen: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Explain `n` alerts of the test part as a case worker would read them; nothing in them names a customer.

    Each also says what would have kept its score below the threshold of review (see `what_would_change`): the
    sentences under "would_change", the same as plain values under "changes". `frozen` inputs are left alone.
    """
    part = prepared.rows("test")
    score = model.score(part["features"])
    tiers = decisions.assign_tiers(score, decisions.Thresholds.from_dict(dict(thresholds)))
    where = prepared.fold.test
    with progress_line("alerts", after=QUIET) as say:
        change = what_would_change(model, prepared, config, float(thresholds["review"]), frozen=frozen)

        def further(row: int) -> dict[str, Any]:
            found = change(int(where[row]))
            said = counterfactuals.sentences(found, below=bool(score[row] < thresholds["review"]))
            say("looking for what would have changed the alerts")
            return {"would_change": said, "changes": [each.facts() for each in found]}

        return explain.example_alerts(
            model,
            part["features"],
            part["transactions"],
            part["y"],
            model.risk_of(score),
            tiers,
            decisions.actions_for(tiers),
            model.words(prepared.feature_set.describe()),
            n=n,
            seed=config.seed,
            further=further,
        )


def what_would_change(
    model: FittedModel, prepared: Prepared, config: RunConfig, threshold: float, *, frozen: Sequence[str] = ()
) -> Callable[[int], list[counterfactuals.Change]]:
    """Return a function from a payment's position to the smallest changes that bring its score below a threshold.

    Parameters
    ----------
    model, prepared, config : what scores, its data, its monotone constraints.
    threshold : of the uncalibrated score, such as that of review.
    frozen : inputs that must not change, keys of `counterfactuals.INPUTS`.

    Returns
    -------
    position in `prepared.transactions` -> changes, at most three (see `counterfactuals.smallest_changes`). Each call
    takes about a second: features are computed anew for some thousand changed payments.
    """
    transactions = prepared.transactions
    learnt = prepared.rows("refit")
    genuine = learnt["transactions"][learnt["y"] == 0]
    categories = tuple(name for name in config.features.categories if name in prepared.features)
    reads = {*prepared.feature_set.requires, *categories}

    def change(position: int) -> list[counterfactuals.Change]:
        payment = transactions.iloc[position].to_dict()
        before = transactions.iloc[:position]
        past = before[(before["customer_id"] == payment["customer_id"]).to_numpy()]
        amounts = genuine["amount"]
        if "currency" in genuine:
            same = (genuine["currency"] == payment["currency"]).to_numpy()
            amounts = amounts[same] if same.sum() >= 100 else amounts
        amounts = amounts.to_numpy()
        options = counterfactuals.offered(
            payment, past, amounts, reads=reads, frozen=frozen, monotone=config.model.monotone
        )
        features_of = counterfactuals.recomputed(prepared.feature_set, before, payment, options, categories=categories)
        return counterfactuals.smallest_changes(
            payment, options, lambda rows: model.score(features_of(rows)), threshold, genuine_amounts=amounts
        )

    return change


def alerts_table(alerts: list[dict[str, Any]]) -> pd.DataFrame:
    """Lay example alerts out as a table: when, amount, risk, action, outcome, why, what would have changed it."""
    return pd.DataFrame(
        [
            {
                "case": alert["case"],
                "when": f"{alert['day']}, {alert['hour']:02d} h",
                "amount": alert["amount"],
                "risk": round(alert["risk"], 3),
                "action": alert["action"],
                "outcome": alert["outcome"],
                "reasons": "; ".join(alert["reasons"]),
                "would have changed it": "; or ".join(alert.get("would_change", [])),
            }
            for alert in alerts
        ]
    )


# -- how steady and robust --------------------------------------------------------------------------------------------


def steady_reasons(
    model: FittedModel,
    prepared: Prepared,
    thresholds: Mapping[str, Any],
    config: RunConfig,
    *,
    most: int = 500,
    noise: float = 0.05,
) -> pd.DataFrame:
    """Measure how the reasons of the test's alerts change under small noise; the table of `reason_stability`.

    Taken are the payments whose score reaches the threshold of review, the highest first: `most` at most, and 200 of
    the highest scores at least. The noise is scaled by what the genuine payments of the training vary.
    """
    features = prepared.features.iloc[prepared.fold.test]
    score = model.score(features)
    count = min(most, max(FEWEST_ALERTS, int((score >= float(thresholds["review"])).sum())))
    alerts = features.iloc[np.argsort(-score, kind="stable")[:count]].reset_index(drop=True)
    words = model.words(prepared.feature_set.describe())
    spread = Spread.of(_genuine(prepared), words)
    return reason_stability(model, model.complete(alerts), words, spread, noise=noise, seed=config.seed)


def _genuine(prepared: Prepared) -> pd.DataFrame:
    """Return the features of the genuine payments that the model learnt from."""
    learnt = prepared.rows("refit")
    return learnt["features"][learnt["y"] == 0]


def robustness(
    model: FittedModel,
    prepared: Prepared,
    config: RunConfig,
    *,
    noise: float = 0.05,
    n_boot: int = 100,
) -> pd.DataFrame:
    """Measure what the model is worth on the test part when its inputs fail.

    Parameters
    ----------
    model, prepared, config : the candidate, its data, its budget, its entity, its seed.
    noise : standard deviation of the small noise, in those of each feature among genuine payments.
    n_boot : bootstrap replicates over entities, the same for the model as it is and with failed inputs.

    Returns
    -------
    DataFrame scenario, features (how many inputs are hit), metric (`ROBUST_METRICS`), value, low, high, change (against
    the inputs as they are), change_low, change_high, n, note. Scenarios: "as it is"; "without ..." each group of
    features, as if the feed behind it were broken and its values missing; "amounts ten times as large" from the test's
    first day on, as if units were mixed up, features computed anew; "small noise in all numbers".

    Notes
    -----
    A broken feed is told by missing values. One that fills in zeros would do other damage.
    """
    part = prepared.rows("test")
    transactions, features = part["transactions"], part["features"]
    normal = model.score(features)
    rows: list[dict[str, Any]] = []
    with progress_line("robustness", after=QUIET) as say:
        hit = _failures(model, prepared, config, features, noise)
        for place, (scenario, (inputs, frame)) in enumerate(hit.items(), start=1):
            if frame is None:
                key = {"scenario": scenario, "features": inputs, "n": len(features)}
                rows += [
                    key | {"metric": each, "note": "not applicable: no feature reads it"} for each in ROBUST_METRICS
                ]
                continue
            score = model.score(frame)
            table = metrics.compare(
                part["y"],
                score,
                normal,
                event_time=transactions["event_time"],
                entity=transactions[config.split.entity],
                amount=transactions["amount"].to_numpy(),
                k=config.decision.alerts_per_day,
                names=("failed", "normal"),
                n_boot=n_boot,
                seed=config.seed,
                views=("overall",),
            )
            rows += _compared(scenario, inputs, table, first=place == 1)
            say(f"robustness: {place} of {len(hit)} failures")
    columns = [
        "scenario",
        "features",
        "metric",
        "value",
        "low",
        "high",
        "change",
        "change_low",
        "change_high",
        "n",
        "note",
    ]
    return pd.DataFrame(rows, columns=columns).astype({"n": "Int64"})


def _failures(
    model: FittedModel, prepared: Prepared, config: RunConfig, features: pd.DataFrame, noise: float
) -> dict[str, tuple[int, pd.DataFrame | None]]:
    """Return each scenario's number of inputs hit and its features."""
    words = model.words(prepared.feature_set.describe()).set_index("column")
    groups: dict[str, list[str]] = {}
    for name in model.inputs:
        groups.setdefault(str(words["group"][name]), []).append(name)
    found: dict[str, tuple[int, pd.DataFrame | None]] = {}
    for group, names in sorted(groups.items()):
        found[f"{WITHOUT}{group}"] = (len(names), _missing(features, names))
    reads_amount = [
        column
        for spec in prepared.feature_set.specs
        if "amount" in prepared.feature_set.reads(spec)
        for column in spec.columns
        if column in model.inputs
    ]
    found[TENFOLD] = (len(reads_amount), _tenfold(prepared, config) if reads_amount else None)
    spread = Spread.of(_genuine(prepared), words.reset_index())
    moved = int((spread.scale > 0).sum())
    rng = np.random.default_rng(config.seed)
    found[NOISE] = (moved, spread.nudged(features, noise, rng) if moved else None)
    return found


def _missing(features: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    empty = {
        name: np.nan if pd.api.types.is_numeric_dtype(features[name].dtype) else pd.Series(pd.NA, features.index, "str")
        for name in names
    }
    return features.assign(**empty)


def _tenfold(prepared: Prepared, config: RunConfig) -> pd.DataFrame:
    transactions = prepared.transactions
    late = (transactions["event_time"] >= prepared.fold.test_start).to_numpy()
    wrong = transactions.assign(amount=transactions["amount"].where(~late, transactions["amount"] * 10))
    features = prepared.feature_set.compute(wrong)
    features = features.assign(**{name: transactions[name].to_numpy() for name in config.features.categories})
    return features.iloc[prepared.fold.test].reset_index(drop=True)


def _compared(scenario: str, inputs: int, table: pd.DataFrame, *, first: bool) -> list[dict[str, Any]]:
    """Lay one comparison out; the first one also gives the rows of the inputs as they are."""
    found = table.set_index(["metric", "model"])
    rows = []
    for name, model in ((AS_IT_IS, "normal"), (scenario, "failed"))[0 if first else 1 :]:
        for metric in ROBUST_METRICS:
            one, difference = found.loc[(metric, model)], found.loc[(metric, "difference")]
            row = {"scenario": name, "features": inputs if model == "failed" else 0, "metric": metric}
            row |= {key: one[key] for key in ("value", "low", "high", "n", "note")}
            if model == "failed":
                ends = {"change": "value", "change_low": "low", "change_high": "high"}
                row |= {key: difference[of] for key, of in ends.items()}
            rows.append(row)
    return rows
