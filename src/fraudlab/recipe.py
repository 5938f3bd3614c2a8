"""From a run's config to its evidence: prepare once, score every model on the same rows, table what they are worth.

The notebooks call these functions one per cell. Each takes values and returns values; evidence is written by the run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fraudlab import checks, decisions, metrics
from fraudlab.calibration import calibration_errors
from fraudlab.config import RunConfig, Workspace
from fraudlab.datasets import load_transactions
from fraudlab.features import FeatureSet
from fraudlab.features.sets import configured_set
from fraudlab.privacy.membership import membership_risk
from fraudlab.schema import require_columns
from fraudlab.splits import Fold, temporal_fold
from fraudlab.training import REFERENCES, FittedModel, RowWeights, fit_models

if TYPE_CHECKING:
    from fraudlab.tuning import Tuned


@dataclass(frozen=True)
class Prepared:
    """What every later step stands on: transactions, their features, the fold, all in the same row order.

    `left_out` are the features of the named set that the data lack the columns for: feature, lacks.
    """

    transactions: pd.DataFrame
    features: pd.DataFrame
    feature_set: FeatureSet
    fold: Fold
    left_out: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def labels(self) -> pd.Series:
        """`is_fraud` of all rows; NA where it was not known."""
        return self.transactions["is_fraud"]

    @property
    def learnt_from(self) -> pd.Series:
        """Pseudonyms of the customers that a model of this fold learns from, each once.

        All with a payment up to the last one it is fitted or tuned on: features of a row read what others did before.
        """
        last = max(int(rows[-1]) for rows in (self.fold.train, self.fold.valid, self.fold.refit) if len(rows))
        return self.transactions["customer_id"].iloc[: last + 1].drop_duplicates()

    def rows(self, part: str) -> dict[str, Any]:
        """Return transactions, features and 0/1 labels of one part of the fold: train, valid, refit or test."""
        where = getattr(self.fold, part)
        return {
            "transactions": self.transactions.iloc[where].reset_index(drop=True),
            "features": self.features.iloc[where].reset_index(drop=True),
            "y": self.labels.iloc[where].to_numpy(dtype=bool).astype(np.int8),
        }


def prepare(
    config: RunConfig,
    workspace: Workspace,
    *,
    compute: Callable[[FeatureSet, pd.DataFrame], pd.DataFrame] = FeatureSet.compute,
) -> Prepared:
    """Load what the purpose allows, compute the feature set, cut the fold.

    Parameters
    ----------
    compute : makes the features of the transactions; the notebooks of a retraining share theirs (`Run.prepare`).

    Raises
    ------
    InputError : the data set is not in the vault, a column the features need is missing, the period is too short.
    """
    transactions = load_transactions(
        config.dataset.name, purpose=config.purpose, as_of=config.as_of_time, workspace=workspace
    )
    feature_set, left_out = configured_set(config.features, transactions)
    features = compute(feature_set, transactions)
    if categories := config.features.categories:
        require_columns(transactions, categories, where="features.categories")
        features = features.assign(**{name: transactions[name].to_numpy() for name in categories})
    return Prepared(transactions, features, feature_set, temporal_fold(transactions, config.split), left_out)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A recipe carried out: what was chosen, what was learnt, and the tables that show why.

    `config` holds the settings in use, chosen ones put in; `models` the candidate first; `thresholds` those of the
    candidate; `tuned` what the search found, None where there was none.
    """

    config: RunConfig
    models: dict[str, FittedModel]
    thresholds: decisions.Thresholds
    tuned: Tuned | None

    @property
    def candidate(self) -> FittedModel:
        """The model that wants the champion's place."""
        return self.models[self.config.model.kind]

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The evidence of a search: trials, trial_scores, selection (see `Tuned`); nothing without one."""
        if self.tuned is None:
            return {}
        return {"trials": self.tuned.trials, "trial_scores": self.tuned.scores, "selection": self.tuned.rules}

    @property
    def trials(self) -> pd.DataFrame:
        """The settings tried, the best mean first; empty without a search."""
        table = self.tables.get("trials", pd.DataFrame(columns=["trial", "state", "mean", "chosen"]))
        return table.sort_values("mean", ascending=False, na_position="last", kind="stable", ignore_index=True)

    @property
    def selection(self) -> pd.DataFrame:
        """What each rule chooses and why; empty without a search."""
        return self.tables.get("selection", pd.DataFrame(columns=["rule", "trial", "mean", "used", "why"]))

    @property
    def search(self) -> dict[str, Any] | None:
        """The facts of the search, for the run's record; None without one."""
        return None if self.tuned is None else self.tuned.facts


def fit(
    config: RunConfig,
    prepared: Prepared | Workspace,
    *,
    storage: Path | None = None,
    threads: int = 0,
    references: Collection[str] = REFERENCES,
    say: Callable[[str], None] | None = None,
) -> Fitted:
    """Carry a recipe out: check the features, choose the settings, fit, calibrate and set the thresholds.

    Parameters
    ----------
    config : the whole recipe. With `tuning.trials` the settings are searched on periods before the test.
    prepared : what `prepare` made; a workspace prepares it first.
    storage : a SQLite file that keeps finished trials, so that a search which is cut off goes on where it was.
    threads : of each fit, 0 for all cores. One thread gives the same bits every time, as do several.
    references : the models that are fitted beside the candidate.
    say : is told a search's progress in one line; None shows it.

    Returns
    -------
    Fitted. The test part is not read.

    Raises
    ------
    InputError : a feature tells frauds almost alone and is not confirmed; and as `fit_models`, `tune`, `prepare`.
    """
    if isinstance(prepared, Workspace):
        prepared = prepare(config, prepared)
    alone = checks.CHECKS["FL005"](single_feature_ranking(prepared), config.features.confirmed)
    checks.check_features({"alone": alone})
    shared: dict[str, Any] = {
        "categories": config.features.categories,
        "encoding": config.features.encoding,
        "threads": threads,
    }
    tuned = None
    if config.tuning.trials:
        from fraudlab import tuning

        tuned = tuning.tune(
            prepared.features,
            prepared.transactions,
            prepared.fold,
            config,
            storage=storage,
            threads=threads,
            say=say,
        )
        config = config.model_copy(update={"model": tuned.model, "sampling": tuned.sampling})
    weight = RowWeights(
        prepared.transactions,
        prepared.features,
        config.sampling,
        as_of=prepared.fold.test_start,
        model=config.model,
        seed=config.seed,
        **shared,
    )
    models = fit_models(
        prepared.features,
        prepared.labels,
        prepared.fold,
        model=config.model,
        seed=config.seed,
        describe=prepared.feature_set.describe(),
        weight=weight,
        anomaly=config.anomaly,
        min_positives=config.split.min_positives,
        references=references,
        **shared,
    )
    thresholds = thresholds_from_validation(models[config.model.kind], prepared, config)
    return Fitted(config, models, thresholds, tuned)


def training_headline(fitted: Fitted) -> str:
    """Say in one line what the candidate learnt from, and which of the settings tried it has."""
    learnt, search = fitted.candidate.facts, fitted.search
    said = f"{fitted.candidate.name} learnt from {learnt['rows']:,} payments, {learnt['frauds']:,} of them fraud"
    return said if search is None else f"{said}; setting {search['trial']} of {search['finished']} tried"


def score_part(models: Mapping[str, FittedModel], prepared: Prepared, part: str) -> pd.DataFrame:
    """Score one part of the fold with every model: columns `<model>` (raw score) and `<model>_risk` (calibrated).

    The rows are those of `prepared.rows(part)`. A model without a calibrator gets no `_risk` column.
    """
    features = prepared.features.iloc[getattr(prepared.fold, part)].reset_index(drop=True)
    scored = {}
    for name, model in models.items():
        scored[name] = model.score(features)
        if model.calibrator is not None:
            scored[f"{name}_risk"] = model.risk(features)
    return pd.DataFrame(scored)


def thresholds_from_validation(model: FittedModel, prepared: Prepared, config: RunConfig) -> decisions.Thresholds:
    """Choose the alert thresholds on the validation part, never on the test.

    `decision.rule` sets the review threshold: cases a day, least cost, or a share of the genuine payments. The scores
    are those of the model before its refit, because the refitted one has learnt from these rows; uncalibrated, because
    calibration ties scores and a tie straddling the budget would waste it.
    """
    transactions = prepared.rows("valid")["transactions"]
    return decisions.choose_thresholds(
        model.valid_score,
        transactions["event_time"],
        transactions[config.split.entity],
        alerts_per_day=config.decision.alerts_per_day,
        step_up_per_day=config.decision.step_up_per_day,
        limit_per_day=config.decision.limit_per_day,
        review=review_threshold(config.decision.rule, model, prepared, config),
    )


def review_threshold(rule: str, model: FittedModel, prepared: Prepared, config: RunConfig) -> float | None:
    """Return the score from which on a rule of `decision.rule` reviews cases of validation; None for the budget."""
    part, costs = prepared.rows("valid"), config.decision
    if rule == "cost":
        return decisions.least_cost_threshold(
            part["y"],
            model.valid_score,
            part["transactions"]["event_time"],
            part["transactions"][config.split.entity],
            part["transactions"]["amount"].to_numpy(),
            review_cost=costs.review_cost,
            recovery_rate=costs.recovery_rate,
            false_alarm_cost=costs.false_alarm_cost,
        )
    if rule == "false_positive_rate":
        return decisions.threshold_at_false_positive_rate(part["y"], model.valid_score, costs.max_false_positive_rate)
    return None


def performance(
    models: Mapping[str, FittedModel], prepared: Prepared, scores: pd.DataFrame, config: RunConfig, *, n_boot: int = 200
) -> dict[str, pd.DataFrame]:
    """Table what every model is worth on the test part.

    Returns
    -------
    dict of tidy tables: metrics, daily, roc, pr, calibration (columns as in `fraudlab.metrics`) and
    calibration_error (as in `fraudlab.calibration`).
    """
    part = prepared.rows("test")
    transactions, y = part["transactions"], part["y"]
    shared = {
        "event_time": transactions["event_time"],
        "entity": transactions[config.split.entity],
        "amount": transactions["amount"].to_numpy(),
    }
    k = config.decision.alerts_per_day
    tables: dict[str, list[pd.DataFrame]] = {
        name: [] for name in ("metrics", "daily", "roc", "pr", "calibration", "calibration_error")
    }
    for name in models:
        score = scores[name].to_numpy()
        risk = scores[f"{name}_risk"].to_numpy() if f"{name}_risk" in scores else None
        tables["metrics"].append(
            metrics.evaluate(
                y, score, **shared, k=k, model=name, risk=risk, n_boot=n_boot, block="entity", seed=config.seed
            )
        )
        _, daily = metrics.card_precision_at_k(y, score, shared["event_time"], shared["entity"], k)
        tables["daily"].append(daily.assign(model=name))
        tables["roc"].append(metrics.roc_table(y, score, model=name))
        tables["pr"].append(metrics.pr_table(y, score, model=name))
        if risk is not None:
            tables["calibration"].append(metrics.calibration_table(y, score, model=name, stage="before"))
            tables["calibration"].append(metrics.calibration_table(y, risk, model=name, stage="after"))
            stages = {"before": score, "after": risk}
            tables["calibration_error"].append(
                calibration_errors(y, stages, entity=shared["entity"], model=name, n_boot=n_boot, seed=config.seed)
            )
    return {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items() if parts}


def single_feature_ranking(prepared: Prepared) -> pd.DataFrame:
    """Rank every feature by how well it alone orders the frauds of the training part (AUC ROC, whichever direction).

    Missing values rank lowest. Columns: feature, label, auc_roc, missing; best first.
    """
    from scipy.stats import rankdata

    part = prepared.rows("refit")
    y = part["y"].astype(bool)
    frauds, genuine = int(y.sum()), int((~y).sum())
    label = prepared.feature_set.describe().set_index("column")["label"]
    rows = []
    for name in prepared.feature_set.columns:
        values = part["features"][name].to_numpy(dtype=float)
        missing = np.isnan(values)
        ranks = rankdata(np.where(missing, -np.inf, values))
        auc = (ranks[y].sum() - frauds * (frauds + 1) / 2) / (frauds * genuine)
        rows.append((name, label[name], max(auc, 1 - auc), missing.mean()))
    table = pd.DataFrame(rows, columns=["feature", "label", "auc_roc", "missing"])
    return table.sort_values(["auc_roc", "feature"], ascending=[False, True], ignore_index=True)


def fold_facts(fold: Fold) -> dict[str, Any]:
    """Return the fold as evidence: its sentence, its parts, what was left out and why."""
    parts = fold.table()
    return {
        "explain": fold.explain(),
        "parts": parts.assign(start=parts["start"].astype(str), end=parts["end"].astype(str)).to_dict("records"),
        "excluded_customers": fold.excluded_customers,
        "excluded_transactions": fold.excluded_transactions,
        "unlabelled": fold.unlabelled,
        "delay_days": fold.delay / pd.Timedelta(days=1),
        "learnt_until": fold.refit_end.isoformat(),
        "late_frauds": fold.late_frauds,
    }


MODEL_LABELS = {
    "xgboost": "boosted trees (XGBoost)",
    "logistic": "logistic regression",
    "rules": "plain rules",
    "anomaly": "unusual payments, no labels",
}


def labels(models: Mapping[str, FittedModel]) -> dict[str, str]:
    """Return what people call each model, in the order given; plots and reports draw the first one as their subject."""
    return {name: MODEL_LABELS.get(name, name) for name in models}


def model_facts(models: Mapping[str, FittedModel], candidate: str) -> list[dict[str, Any]]:
    """Return what each model is and how it was fitted, the candidate first."""
    names = [candidate, *(name for name in models if name != candidate)]
    return [
        {
            "name": name,
            "label": MODEL_LABELS.get(name, name),
            "role": "candidate" if name == candidate else "baseline",
            "facts": models[name].facts,
        }
        for name in names
    ]


def models_overview(models: Mapping[str, FittedModel]) -> pd.DataFrame:
    """Lay the fitted models out side by side: what each learnt from, how it was fitted, its settings in one line."""
    rows = []
    for name, model in models.items():
        settings = model.facts["params"]
        listed = settings["rules"] if "rules" in settings else [f"{key} = {value}" for key, value in settings.items()]
        calibration = model.facts["calibration"] or {"rows": 0, "frauds": 0}
        rows.append(
            {
                "model": MODEL_LABELS.get(name, name),
                "payments": model.facts["rows"],
                "frauds": model.facts["frauds"],
                "features": model.facts["features"],
                "trees": model.facts.get("trees"),
                "calibrated on": f"{calibration['rows']:,} payments, {calibration['frauds']:,} frauds",
                "seconds": model.facts["seconds"],
                "settings": "; ".join(listed),
            }
        )
    return pd.DataFrame(rows).astype({"trees": "Int64"})


def headline(table: pd.DataFrame, config: RunConfig) -> str:
    """Say in one line what the candidate is worth at the budget."""
    ours = table[(table["model"] == config.model.kind) & (table["group"] == "all")].set_index("metric")["value"]
    return (
        f"{ours['card_precision_at_k']:.0%} of the {config.decision.alerts_per_day} cases a day are victims; "
        f"AUC {ours['auc_roc']:.3f}, average precision {ours['average_precision']:.3f}"
    )


def membership(prepared: Prepared, model: FittedModel) -> pd.DataFrame:
    """Measure how well a model's scores tell whom it learnt from: those of the training against those of the test.

    The table of `fraudlab.privacy.membership.membership_risk`. The test lies later and leaves known victims out, so a
    part of what it finds may be change and not memory: it errs on the side of caution. Where the scores are no
    probabilities, the calibrated risk stands for them; without either the AUC is missing and the note says why.
    """
    learnt, other = prepared.rows("refit"), prepared.rows("test")
    scores = [model.score(part["features"]) for part in (learnt, other)]
    if not all(((each >= 0) & (each <= 1)).all() for each in scores):
        if model.calibrator is None:
            note = "not applicable: the model states no probability"
            sides = {"members": len(learnt["y"]), "others": len(other["y"])}
            return pd.DataFrame([{"group": "all", **sides, "auc": np.nan, "note": note}])
        scores = [model.risk_of(each) for each in scores]
    return membership_risk(learnt["y"], scores[0], other["y"], scores[1])
