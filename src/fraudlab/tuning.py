"""Choose a model's settings on periods before the test, by a rule that is stated beforehand.

Every setting tried is judged on the same periods, each as a test would be: labels known when it begins, known victims
left out, nothing later than the real test's beginning. The trials go on where they were when the search is interrupted;
`select` says which one wins and why.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pandas as pd
import xgboost as xgb

from fraudlab.boosting import boost, tree_data
from fraudlab.config import ModelConfig, RunConfig, SamplingConfig, digest_of, is_range
from fraudlab.metrics import card_precision_at_k
from fraudlab.models import known_labels
from fraudlab.progress import progress_line
from fraudlab.schema import InputError
from fraudlab.splits import Fold
from fraudlab.training import RowWeights, fit_values, input_matrix, learn_inputs
from fraudlab.validation import leaves, select, validation_folds

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

SPACES: dict[str, dict[str, list[float | int | str]]] = {
    "xgboost": {
        "n_estimators": [50, 800],
        "learning_rate": [0.02, 0.3],
        "max_depth": [2, 8],
        "min_child_weight": [1.0, 50.0],
        "subsample": [0.5, 1.0],
        "colsample_bytree": [0.3, 1.0],
        "reg_lambda": [0.1, 30.0],
    },
    "random_forest": {"n_estimators": [50, 300], "max_depth": [4, 16], "min_child_weight": [1, 50]},
}
SPACES |= {"lightgbm": SPACES["xgboost"], "catboost": SPACES["xgboost"], "balanced_bagging": SPACES["random_forest"]}
"""What is searched where `tuning.space` is empty."""

LOG_FROM = 10
"""A range whose high end is so many times its low end is searched on a logarithmic scale."""

STARTUP = 5
"""Finished settings before one may be given up: the median of fewer says little."""


@dataclass(frozen=True, eq=False)
class Tuned:
    """What a search found: the settings its rule chose, and the tables that show why.

    Attributes
    ----------
    model, sampling : the settings of `[model]` and `[sampling]` to use; no early stopping, the trees were searched.
    trial : the number of the chosen setting; 0 is what the config states.
    trials : a row per setting: trial, state ("complete", "given up"), the searched keys, leaves (the most the model can
        have), seconds, chosen, mean, standard_error, worst_regret. These are missing where it was given up.
    scores : a row per setting and period: trial, period, start, end (not included), metric, value.
    rules : a row per rule: rule, trial, mean, worst_regret, leaves, next_period_regret, used, why.
    facts : metric, rule, seed, settings asked for and finished, seconds, the periods in words, the study's digest.
    """

    model: ModelConfig
    sampling: SamplingConfig
    trial: int
    trials: pd.DataFrame
    scores: pd.DataFrame
    rules: pd.DataFrame
    facts: dict[str, Any]


def tune(
    X: pd.DataFrame,
    transactions: pd.DataFrame,
    fold: Fold,
    config: RunConfig,
    *,
    storage: Path | None = None,
    threads: int = 0,
    say: Callable[[str], None] | None = None,
) -> Tuned:
    """Try settings on periods before `fold`'s test and choose by `config.tuning.rule`.

    Parameters
    ----------
    X, transactions : features and canonical transactions of the same rows; nothing from the test on is read.
    fold : what the chosen model will be fitted on; its lengths and its delay are those of the periods.
    config : its [tuning] says what is tried, its [model] and [sampling] are setting 0 and what is not searched.
    storage : a SQLite file that keeps every finished setting. A search that is asked for again goes on where it was;
        another data set, feature, fold, seed or space is another study in the same file.
    threads : of each fit, 0 for all cores; settings are tried one after the other.
    say : is told the progress in one line; None prints it (see `progress_line`).

    Returns
    -------
    Tuned. The same seed, number of trials and data give the same result, interrupted or not; with `tuning.seconds`
    the machine's speed has a say.

    Raises
    ------
    InputError : too few days or frauds for the periods; a setting the kind of model cannot keep; nothing to search.

    Notes
    -----
    Settings come from a tree-structured Parzen estimator that starts with random ones; after each period a setting is
    given up when its mean so far is below the median of the finished ones at that point, the latest period first.
    All settings share one data matrix a period. Trees are not stopped early: their number is a setting like any other,
    judged on all periods together.

    References
    ----------
    Bergstra, Bardenet, Bengio, Kegl (2011), Algorithms for hyper-parameter optimization; Akiba, Sano, Yanase, Ohta,
    Koyama (2019), doi:10.1145/3292500.3330701.
    """
    began = time.perf_counter()
    tuning = config.tuning
    space = dict(tuning.space) or SPACES.get(config.model.kind, {})
    if not space:
        raise InputError(
            f"tuning.space: kind {config.model.kind} has no settings that are searched by default; found none stated; "
            "state keys of [sampling], or set tuning.trials to 0"
        )
    folds = validation_folds(
        transactions,
        fold,
        folds=tuning.folds,
        exclude=config.split.exclude_known_compromised,
        min_positives=config.split.min_positives,
    )
    periods = [_Period(X, transactions, each, config, threads) for each in folds]
    study = _Study(space, config, periods, storage)
    with contextlib.ExitStack() as stack:
        tell = stack.enter_context(progress_line("tuning")) if say is None else say
        while len(study.finished) < max(tuning.trials, 1):
            study.next()
            best = max(study.finished, key=lambda each: each.mean if each.complete else -np.inf)
            seconds = time.perf_counter() - began
            tell(
                f"tuning: {len(study.finished)} of {tuning.trials} settings in {seconds:.0f} s; best mean "
                f"{tuning.metric} {best.mean:.4f} (setting {best.number})"
            )
            if tuning.seconds is not None and seconds >= tuning.seconds:
                break
    return _result(study, config, folds, time.perf_counter() - began)


# -- the search ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Finished:
    """A setting that was tried: `values` are what it reached in the periods it was tried on, the latest first."""

    number: int
    complete: bool
    params: dict[str, Any]
    values: list[float]
    seconds: float

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))


class _Period:
    """A validation period with its data laid out once for all settings."""

    def __init__(self, X: pd.DataFrame, transactions: pd.DataFrame, fold: Fold, config: RunConfig, threads: int):
        self.fold, self.config, self.threads = fold, config, threads
        self.known = known_labels(transactions["is_fraud"].iloc[fold.train], f"tuning, {fold.name}")
        part = transactions.iloc[fold.test]
        self.y = part["is_fraud"].to_numpy(dtype=bool)
        self.when, self.whose = part["event_time"], part[fold.entity]
        inputs, self.train = learn_inputs(
            X.iloc[fold.train],
            self.known,
            kind=config.model.kind,
            seed=config.seed,
            categories=config.features.categories,
            encoding=config.features.encoding,
            anomaly=config.anomaly,
        )
        self.test = input_matrix(inputs, X.iloc[fold.test], f"tuning, {fold.name}")
        self.features, encoder, _ = inputs
        self.native = encoder.native if encoder else ()
        self.weights = functools.partial(
            RowWeights,
            transactions,
            X,
            as_of=fold.test_start,
            seed=config.seed,
            categories=config.features.categories,
            encoding=config.features.encoding,
            threads=threads,
        )
        self.shared: dict[tuple[str, int], xgb.DMatrix] = {}

    def score(self, model: ModelConfig, sampling: SamplingConfig) -> float:
        """Fit on the training window and measure on the period."""
        weighed = self.weights(sampling=sampling, model=model).of(self.fold.train)
        weight = weighed["weight"]
        if model.kind == "xgboost" and (weight is None or weight.all()):
            layout = model.tree_method, model.max_bin
            if layout not in self.shared:
                self.shared[layout] = tree_data(
                    self.train, self.known, self.features, model=model, categories=self.native, threads=self.threads
                )
            data = self.shared[layout]
            data.set_weight(np.ones(len(self.known)) if weight is None else weight)
            estimator, _ = boost(data, model, self.config.seed, threads=self.threads)
        else:
            there = slice(None) if weight is None else weight > 0
            estimator, _ = fit_values(
                self.train[there],
                self.known[there],
                self.features,
                model=model,
                seed=self.config.seed,
                weight=None if weight is None else weight[there],
                categories=self.native,
                genuine_per_fraud=weighed["genuine_per_fraud"],
                threads=self.threads,
            )
        return _measure(self.config, self.y, estimator.margin(self.test), self.when, self.whose)

    def digest(self, into: Any) -> None:
        """Feed what decides a setting's value here into a hash."""
        for array in (self.train, self.known, self.test, self.y, self.when.to_numpy(dtype="datetime64[us]")):
            into.update(np.ascontiguousarray(array).view(np.uint8).data)
        into.update(pd.util.hash_pandas_object(self.whose, index=False).to_numpy().data)


def _measure(config: RunConfig, y: np.ndarray, score: np.ndarray, when: pd.Series, whose: pd.Series) -> float:
    from sklearn.metrics import average_precision_score, roc_auc_score

    if config.tuning.metric == "card_precision_at_k":
        return card_precision_at_k(y, score, when, whose, config.decision.alerts_per_day)[0]
    measure = {"average_precision": average_precision_score, "auc_roc": roc_auc_score}[config.tuning.metric]
    return float(measure(y, score))


class _Study:
    """Settings asked of Optuna one by one, finished ones kept in the storage.

    The study itself lives in memory and is told the kept settings again: one small transaction a setting instead of
    dozens, and a search that was killed leaves nothing half done. Each setting is drawn by a sampler of its own seed,
    so that it depends on those before it and not on where a search was interrupted.
    """

    def __init__(
        self,
        space: Mapping[str, Sequence[float | int | str]],
        config: RunConfig,
        periods: Sequence[_Period],
        storage: Path | None,
    ):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.config, self.periods, self.storage = config, periods, storage
        self.space = {key: _distribution(key, values) for key, values in space.items()}
        self.study = optuna.create_study(
            direction="maximize", pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP)
        )
        self.digest = self._digest()
        self.finished: list[_Finished] = []
        for each in _kept(storage, self.digest) if storage else []:
            self.finished.append(each)
            self._tell(each)

    def next(self) -> None:
        """Try one more setting."""
        import optuna

        number, began = len(self.finished), time.perf_counter()
        trial = None
        if number == 0:
            params = {key: _stated(self.config, key) for key in self.space}
        else:
            seed = int(np.random.SeedSequence([self.config.seed, number]).generate_state(1)[0])
            self.study.sampler = optuna.samplers.TPESampler(seed=seed)
            trial = self.study.ask(self.space)
            params = trial.params
        model, sampling = settings(self.config, params)
        values: list[float] = []
        for period in reversed(self.periods):
            values.append(period.score(model, sampling))
            if trial is not None and len(values) < len(self.periods):
                trial.report(float(np.mean(values)), len(values))
                if trial.should_prune():
                    break
        complete = len(values) == len(self.periods)
        found = _Finished(number, complete, dict(params), values, round(time.perf_counter() - began, 3))
        if trial is not None:
            state = optuna.trial.TrialState.COMPLETE if complete else optuna.trial.TrialState.PRUNED
            self.study.tell(trial, found.mean if complete else None, state)
        else:
            self._tell(found)
        if self.storage:
            _keep(self.storage, self.digest, found)
        self.finished.append(found)

    def _tell(self, each: _Finished) -> None:
        """Tell the study of a setting that it has not drawn itself; one outside the space teaches it nothing."""
        import optuna

        last = len(self.periods)
        state = optuna.trial.TrialState.COMPLETE if each.complete else optuna.trial.TrialState.PRUNED
        seen = {at: float(np.mean(each.values[:at])) for at in range(1, len(each.values) + 1) if at < last}
        value = each.mean if each.complete else seen[len(each.values)]
        with contextlib.suppress(ValueError):  # such as the stated setting outside the space
            self.study.add_trial(
                optuna.trial.create_trial(
                    state=state, params=each.params, distributions=self.space, value=value, intermediate_values=seen
                )
            )

    def _digest(self) -> str:
        """Return what a setting's value depends on, the data first."""
        data = hashlib.sha256()
        for period in self.periods:
            period.digest(data)
        config = self.config
        return digest_of(
            {
                "data": data.hexdigest(),
                "features": self.periods[0].features,
                "model": config.model.model_dump(
                    mode="json", exclude={"members", "calibration", "early_stopping_rounds"}
                ),
                "sampling": config.sampling.model_dump(mode="json"),
                "space": {key: str(spread) for key, spread in self.space.items()},
                "metric": [config.tuning.metric, config.decision.alerts_per_day],
                "seed": config.seed,
                "versions": [version("optuna"), xgb.__version__],
            }
        )


def settings(config: RunConfig, params: Mapping[str, Any]) -> tuple[ModelConfig, SamplingConfig]:
    """Return [model] and [sampling] with searched values put in; one member, no early stopping, as all are compared."""
    chosen = {key: None if value == "none" else value for key, value in params.items()}
    model = {key: value for key, value in chosen.items() if key in ModelConfig.model_fields}
    sampling = {key: value for key, value in chosen.items() if key in SamplingConfig.model_fields}
    model |= {"early_stopping_rounds": 0, "members": 1}
    return config.model.model_copy(update=model), config.sampling.model_copy(update=sampling)


def _stated(config: RunConfig, key: str) -> Any:
    value = getattr(config.model if key in ModelConfig.model_fields else config.sampling, key)
    return "none" if value is None else value


def _distribution(key: str, values: Sequence[float | int | str]) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not is_range(values):
        return CategoricalDistribution(tuple(values))
    low, high = values
    log = low > 0 and high / low >= LOG_FROM
    owner = ModelConfig if key in ModelConfig.model_fields else SamplingConfig
    kind = owner.model_fields[key].annotation
    if kind is int or int in get_args(kind):
        return IntDistribution(int(low), int(high), log=log)
    return FloatDistribution(float(low), float(high), log=log)


def _result(study: _Study, config: RunConfig, folds: Sequence[Fold], seconds: float) -> Tuned:
    names = [fold.name for fold in reversed(folds)]
    when = {fold.name: (fold.test_start, fold.test_end) for fold in folds}
    scores = pd.DataFrame(
        [
            {
                "trial": each.number,
                "period": name,
                "start": when[name][0],
                "end": when[name][1],
                "metric": config.tuning.metric,
                "value": value,
            }
            for each in study.finished
            for name, value in zip(names, each.values)
        ]
    ).sort_values(["trial", "start"], ignore_index=True)
    complete = {each.number for each in study.finished if each.complete}
    sizes = {each.number: leaves(settings(config, each.params)[0]) for each in study.finished}
    ordered = scores[scores["trial"].isin(complete)].assign(period=lambda table: table["start"])
    chosen, rules = select(ordered, sizes, config.tuning.rule)
    best = ordered.groupby("period")["value"].transform("max")
    figures = ordered.assign(regret=best - ordered["value"]).groupby("trial")
    figures = figures.agg(mean=("value", "mean"), standard_error=("value", "sem"), worst_regret=("regret", "max"))
    trials = pd.DataFrame(
        [
            {
                "trial": each.number,
                "state": "complete" if each.complete else "given up",
                **each.params,
                "leaves": sizes[each.number],
                "seconds": each.seconds,
                "chosen": each.number == chosen,
            }
            for each in study.finished
        ]
    ).join(figures, on="trial")
    params = next(each.params for each in study.finished if each.number == chosen)
    model, sampling = settings(config, params)
    facts = {
        "metric": config.tuning.metric,
        "rule": config.tuning.rule,
        "why": str(rules.loc[rules["used"], "why"].iloc[0]),
        "seed": config.seed,
        "asked": config.tuning.trials,
        "finished": len(study.finished),
        "given_up": len(study.finished) - len(complete),
        "trial": chosen,
        "chosen": params,
        "periods": [fold.explain() for fold in folds],
        "study": study.digest,
        "seconds": round(seconds, 1),
    }
    return Tuned(
        model.model_copy(update={"members": config.model.members}), sampling, chosen, trials, scores, rules, facts
    )


# -- what is kept ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path, timeout=30)
    try:
        with connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS trials (study TEXT, number INTEGER, complete INTEGER, params TEXT, "
                '"values" TEXT, seconds REAL, PRIMARY KEY (study, number))'
            )
            yield connection
    except sqlite3.DatabaseError as error:
        raise InputError(
            f"tuning: the storage {path.name} must be the SQLite file of earlier searches; found {error}; remove it to "
            "search anew"
        ) from None
    finally:
        connection.close()


def _kept(path: Path, study: str) -> list[_Finished]:
    with _opened(path) as connection:
        rows = connection.execute(
            'SELECT number, complete, params, "values", seconds FROM trials WHERE study = ? ORDER BY number', (study,)
        ).fetchall()
    found = [_Finished(row[0], bool(row[1]), json.loads(row[2]), json.loads(row[3]), row[4]) for row in rows]
    return [each for place, each in enumerate(found) if each.number == place]


def _keep(path: Path, study: str, each: _Finished) -> None:
    with _opened(path) as connection:
        connection.execute(
            "INSERT OR REPLACE INTO trials VALUES (?, ?, ?, ?, ?, ?)",
            (study, each.number, each.complete, json.dumps(each.params), json.dumps(each.values), each.seconds),
        )
