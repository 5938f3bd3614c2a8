"""The walk: at each date a model from what was known then, the gate's answer, and the champion of the days to come.

Two kinds of work, each in a process of its own where several are wanted: making a model at a date (`fit_at`), and
asking the gate about it beside a champion (`gate_at`). Both are told by date alone, so policies share them. A model
that is made is kept in a folder; a walk that was cut off goes on with those that are there.
"""

from __future__ import annotations

import contextlib
import functools
import json
import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from fraudlab import comparing, metrics, recipe
from fraudlab.backtesting.policies import DAY, Policy
from fraudlab.calibration import calibration_errors
from fraudlab.checks import CHECKS, Finding, waive
from fraudlab.config import RunConfig, Workspace
from fraudlab.datasets import load_transactions
from fraudlab.datasets.reviewed import outcomes_of
from fraudlab.decisions import Thresholds
from fraudlab.features import FeatureSet
from fraudlab.features.sets import configured_set
from fraudlab.gate import Incumbent, promotion_gate
from fraudlab.model_files import load_model, save_model
from fraudlab.privacy.keys import open_keys
from fraudlab.privacy.vault import Vault
from fraudlab.recipe import Prepared
from fraudlab.schema import FraudlabError, InputError, as_known_at, require_columns
from fraudlab.splits import temporal_fold
from fraudlab.training import FittedModel

LABELS = ["is_fraud", "label_time"]


@dataclass(frozen=True, eq=False)
class World:
    """Everything that is known by now: what a walk reads, at each date only as far as it was known then.

    Attributes
    ----------
    config : the recipe, the budget, the costs and the gate; its as_of and split.test_start are not used.
    transactions : in the total order, labels as they stand today; no more columns than the walk needs.
    features : of all rows. A feature of a row reads what was known at that row's time, so that one computation serves
        every date.
    told : date -> is_fraud and label_time of the rows before it as they stood then, where labels were revised since.
    """

    config: RunConfig
    transactions: pd.DataFrame
    features: pd.DataFrame
    feature_set: FeatureSet
    left_out: pd.DataFrame = field(default_factory=pd.DataFrame)
    told: Mapping[pd.Timestamp, pd.DataFrame] = field(default_factory=dict)

    def known_at(self, date: pd.Timestamp) -> pd.DataFrame:
        """Return the payments before a date with the labels known by then."""
        known = as_known_at(self.transactions, date)
        if date in self.told:
            known = known.assign(**{name: self.told[date][name].array for name in LABELS})
        return known

    def prepared_at(self, date: pd.Timestamp) -> Prepared:
        """Return what a retraining at a date stands on; its test is the latest one whose labels were mature then."""
        known = self.known_at(date)
        fold = temporal_fold(known, self.config.split.model_copy(update={"test_start": None}))
        return Prepared(known, self.features.iloc[: len(known)], self.feature_set, fold, self.left_out)


def load_world(config: RunConfig, workspace: Workspace) -> World:
    """Load once everything that the purpose allows and that is known by now, and compute the features once.

    Raises
    ------
    InputError : as `recipe.prepare`.
    """
    return make_world(config, load_transactions(config.dataset.name, purpose=config.purpose, workspace=workspace))


def with_revised(world: World, workspace: Workspace, dates: Sequence[pd.Timestamp]) -> World:
    """Return the world with the labels as they stood at each date, where reviews or chargebacks have revised any.

    Without such outcomes a label never changes once it is known, and the world is returned as it is.
    """
    config = world.config
    if outcomes_of(Vault(workspace.vault, open_keys(workspace)), config.dataset.name) is None:
        return world
    told = {}
    for date in dates:
        told[date] = load_transactions(
            config.dataset.name,
            purpose=config.purpose,
            as_of=date,
            columns=["event_time", *LABELS],
            workspace=workspace,
        )[LABELS]
    return replace(world, told=told)


def make_world(config: RunConfig, transactions: pd.DataFrame) -> World:
    """Compute the features of a walk from canonical transactions, and keep of these only what the walk needs."""
    feature_set, left_out = configured_set(config.features, transactions)
    features = feature_set.compute(transactions)
    if categories := config.features.categories:
        require_columns(transactions, categories, where="features.categories")
        features = features.assign(**{name: transactions[name].to_numpy() for name in categories})
    needed = ["event_time", "customer_id", config.split.entity, "amount", *LABELS, *config.decision.groups]
    kept = [name for name in dict.fromkeys(needed) if name in transactions]
    return World(config, transactions[kept].reset_index(drop=True), features, feature_set, left_out)


def first_date(world: World) -> pd.Timestamp:
    """Return the first midnight at which enough is known to make a model.

    Raises
    ------
    InputError : there is none; the sentence says what is missing at the last one.
    """
    when, split = world.transactions["event_time"], world.config.split
    least = 1 if split.test_share is not None else split.train_days + split.valid_days + split.test_days
    begin = when.iloc[0].floor("D") + (least + 2 * split.delay_days) * DAY
    problem = "the period is too short"
    for date in pd.date_range(begin, when.iloc[-1].ceil("D"), freq="D"):
        try:
            world.prepared_at(date)
        except InputError as error:
            problem = str(error)
            continue
        return date
    raise InputError(f"--from: found no day at which a model could be made; {problem}")


def last_date(world: World) -> pd.Timestamp:
    """Return the last midnight before which labels are mature by now, so that what was missed is known."""
    split = world.config.split.model_copy(update={"test_start": None})
    return temporal_fold(world.transactions, split).test_end.floor("D")


@dataclass(frozen=True, eq=False)
class Walk:
    """Who served when, and why.

    Attributes
    ----------
    policies : in the order of the comparison; all others are held against the first.
    start, end, step : the days judged, [start, end), and days from one date of the walk to the next.
    history : policy, date, learnt_until, decision ("first", "promoted", "kept", "no model"), champion (its date), why.
    folder : where the models are, one folder per date.
    """

    policies: tuple[Policy, ...]
    start: pd.Timestamp
    end: pd.Timestamp
    step: int
    history: pd.DataFrame
    folder: Path

    def champions(self, policy: str) -> list[tuple[pd.Timestamp, pd.Timestamp, pd.Timestamp]]:
        """Return (from, to, the date of the model that serves) of each period of the walk, in order."""
        mine = self.history[self.history["policy"] == policy].sort_values("date")
        starts = list(pd.date_range(self.start, self.end, freq=self.step * DAY, inclusive="left"))
        place = np.searchsorted(mine["date"], pd.DatetimeIndex(starts), side="right") - 1
        return [
            (begin, min(begin + self.step * DAY, self.end), mine["champion"].iloc[at])
            for begin, at in zip(starts, place)
        ]


def walk(
    world: World,
    policies: Sequence[Policy],
    start: pd.Timestamp,
    end: pd.Timestamp,
    *,
    step: int,
    folder: Path,
    jobs: int = 1,
    tell: Callable[[str], None] = lambda text: None,
) -> Walk:
    """Walk from date to date: make each model once for all policies, and let the gate decide for those that ask it.

    Parameters
    ----------
    world : from `load_world`.
    policies : from `policies_of`.
    start, end : midnight, UTC. The first model is made at `start` and serves whatever the gate says of it.
    step : days from one date to the next; policies retrain at some of these dates.
    folder : keeps each model that is made; those that are there are taken as they are. Its name must stand for the
        config, the data and the code.
    jobs : processes at once, each with one thread; 1 works in this one. Results are the same for any number. Payments
        reach the others through pipes and are not written to any file.
    tell : is told how far it is, in one line.

    Raises
    ------
    InputError : the period is empty; no model can be made at the start.
    """
    if not start < end:
        raise InputError(
            f"--from: must lie before --to; found {start:%Y-%m-%d} and {end:%Y-%m-%d}; correct one of them"
        )
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left in folder.glob(".*"):  # what a killed process had begun
        shutil.rmtree(left, ignore_errors=True)
    courses = [_Course(policy, policy.dates(start, end)) for policy in policies]
    dates = sorted({date for course in courses for date in course.dates})
    with _workers(world, folder, jobs) as (submit, places):
        fits, gates = _work(courses, dates, submit, places, tell)
    history = pd.DataFrame([row for course in courses for row in course.rows(fits, gates)])
    return Walk(tuple(policies), start, end, step, history, folder)


@dataclass
class _Course:
    """One policy on its way: decided up to some date, and the pair whose gate it waits for."""

    policy: Policy
    dates: list[pd.Timestamp]
    champions: list[pd.Timestamp] = field(default_factory=list)

    def advance(self, fits: Mapping[Any, Any], gates: Mapping[Any, Any]) -> tuple[pd.Timestamp, pd.Timestamp] | None:
        """Go on as far as models and answers are there; return the (date, champion) whose answer is missing."""
        while len(self.champions) < len(self.dates):
            date = self.dates[len(self.champions)]
            if date not in fits:
                return None
            champion = self.champions[-1] if self.champions else date
            if date == champion or "problem" in fits[date]:
                self.champions.append(champion)
            elif not self.policy.gate:
                self.champions.append(date)
            elif (date, champion) not in gates:
                return date, champion
            else:
                self.champions.append(date if _passed(gates[date, champion]) else champion)
        return None

    def rows(self, fits: Mapping[Any, Any], gates: Mapping[Any, Any]) -> Iterator[dict[str, Any]]:
        """Yield the history of its decisions."""
        for place, (date, champion) in enumerate(zip(self.dates, self.champions)):
            facts = fits[date]
            until = pd.NaT if "problem" in facts else pd.Timestamp(facts["learnt_until"])
            if place == 0:
                failed = _reasons(facts["alone"])
                decision, why = "first", f"needs no gate; it says: {failed}" if failed else "would have passed the gate"
            elif "problem" in facts:
                decision, why = "no model", facts["problem"]
            elif not self.policy.gate:
                decision, why = "promoted", "the gate was not asked"
            else:
                checks = gates[date, self.champions[place - 1]]
                decision = "promoted" if champion == date else "kept"
                last = checks[-1]
                why = _reasons(checks) or f"{last['check']}: {last['found']}"
            named = {"policy": self.policy.name, "date": date, "learnt_until": until}
            yield {**named, "decision": decision, "champion": champion, "why": why}


def _passed(checks: list[dict[str, Any]]) -> bool:
    return all(check["passed"] for check in checks)


def _reasons(checks: list[dict[str, Any]]) -> str:
    """Say which checks failed; empty where none did."""
    failed = [check for check in checks if not check["passed"]]
    return "; ".join(f"{check['check']}: required {check['required']}, found {check['found']}" for check in failed)


# -- one date ------------------------------------------------------------------------------------------------------


def fit_at(world: World, date: pd.Timestamp, folder: Path) -> dict[str, Any]:
    """Make the model of a date from what was known then, and keep it; one that is kept already is taken as it is.

    Returns
    -------
    dict: learnt_until, thresholds, alone (the gate's answer without a champion); or `problem`, the sentence that says
    why no model can be made then.
    """
    target = folder / f"{date:%Y-%m-%d}"
    if (target / "facts.json").is_file():
        return _facts(target)
    config, temporary = world.config, folder / f".{target.name}.{os.getpid()}"
    try:
        prepared = world.prepared_at(date)
        with threadpool_limits(1):
            fitted = recipe.fit(config, prepared, threads=1, references=("rules",), say=lambda text: None)
            evidence = _on_test(fitted, prepared)
    except InputError as error:
        return {"problem": str(error)}
    facts = {
        "learnt_until": prepared.fold.refit_end.isoformat(),
        "thresholds": fitted.thresholds.to_dict(),
        "alone": promotion_gate(
            evidence["metrics"],
            config.model.kind,
            None,
            config.gate,
            fold=prepared.fold,
            findings=_findings(evidence, None, config),
        ),
    }
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700)
    for name, table in evidence.items():
        table.to_csv(temporary / f"{name}.csv", index=False)
    save_model(fitted.candidate, temporary / "model")
    (temporary / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    with contextlib.suppress(OSError):  # another walk was quicker, and made the same
        os.replace(temporary, target)
    shutil.rmtree(temporary, ignore_errors=True)
    return facts


def _on_test(fitted: recipe.Fitted, prepared: Prepared) -> dict[str, pd.DataFrame]:
    """Return what the gate reads about a model by itself: metrics (with the rules'), calibration, membership."""
    config, kind = fitted.config, fitted.config.model.kind
    part, scores = prepared.rows("test"), recipe.score_part(fitted.models, prepared, "test")
    rows = part["transactions"]
    where: dict[str, Any] = {"event_time": rows["event_time"], "entity": rows[config.split.entity]}
    shared = {**where, "amount": rows["amount"].to_numpy(), "k": config.decision.alerts_per_day, "n_boot": 0}
    tables = [metrics.evaluate(part["y"], scores[name].to_numpy(), **shared, model=name) for name in (kind, "rules")]
    found = {"metrics": pd.concat(tables, ignore_index=True)}
    if f"{kind}_risk" in scores:
        stages = {"before": scores[kind].to_numpy(), "after": scores[f"{kind}_risk"].to_numpy()}
        found["calibration"] = calibration_errors(
            part["y"], stages, entity=where["entity"], model=kind, n_boot=200, seed=config.seed
        )
    return found | {"membership": recipe.membership(prepared, fitted.candidate)}


def _findings(
    evidence: Mapping[str, pd.DataFrame], comparison: pd.DataFrame | None, config: RunConfig
) -> dict[str, Finding]:
    """Ask the numbered checks about risks, memory, groups and the champion; others need a whole run's evidence."""
    kind = config.model.kind
    found = (
        CHECKS["FL009"](evidence.get("calibration"), kind),
        CHECKS["FL011"](comparison, kind),
        CHECKS["FL014"](evidence.get("membership")),
        CHECKS["FL019"](comparison),
    )
    return waive({finding.code: finding for finding in found}, config.gate.waive, config.gate.waived_because)


def gate_at(world: World, date: pd.Timestamp, champion: pd.Timestamp, folder: Path) -> list[dict[str, Any]]:
    """Ask the gate about the model of a date beside the champion of then, as a retraining does.

    Both score the same payments, the model's own test part, with the labels known at the date. The answer is kept
    beside the model; one that is there is taken as it is.
    """
    config = world.config
    target = folder / f"{date:%Y-%m-%d}"
    answer = target / f"beside-{champion:%Y-%m-%d}.json"
    if answer.is_file():
        return json.loads(answer.read_text(encoding="utf-8"))
    prepared = world.prepared_at(date)
    model, _ = kept_model(folder, date)
    other, of_other = kept_model(folder, champion)
    with threadpool_limits(1):
        scores = recipe.score_part({config.model.kind: model}, prepared, "test")
        beside = recipe.score_part({"champion": other}, prepared, "test")
        incumbent = Incumbent(f"{champion:%Y-%m-%d}", pd.Timestamp(of_other["learnt_until"]), beside)
        comparison = comparing.with_champion(prepared, scores, incumbent, config)
    evidence = {path.stem: pd.read_csv(path) for path in sorted(target.glob("*.csv"))}
    found = promotion_gate(
        evidence["metrics"],
        config.model.kind,
        incumbent,
        config.gate,
        fold=prepared.fold,
        comparison=comparison,
        findings=_findings(evidence, comparison, config),
    )
    temporary = target / f".{answer.name}.{os.getpid()}"
    temporary.write_text(json.dumps(found), encoding="utf-8")
    os.replace(temporary, answer)
    return found


def kept_model(folder: Path, date: pd.Timestamp) -> tuple[FittedModel, dict[str, Any]]:
    """Return the model of a date, its bytes checked, and its facts."""
    target = folder / f"{date:%Y-%m-%d}"
    return load_model(target / "model"), _facts(target)


def _facts(target: Path) -> dict[str, Any]:
    return json.loads((target / "facts.json").read_text(encoding="utf-8"))


def review_threshold(facts: Mapping[str, Any]) -> float:
    """Return the score from which on a kept model's alerts are reviewed."""
    return Thresholds.from_dict(facts["thresholds"]).review


# -- the work, in one process or several -----------------------------------------------------------------------------


def _work(
    courses: list[_Course],
    dates: list[pd.Timestamp],
    submit: Callable[..., Future[Any]],
    places: int,
    tell: Callable[[str], None],
) -> tuple[dict[pd.Timestamp, dict[str, Any]], dict[tuple[pd.Timestamp, pd.Timestamp], list[dict[str, Any]]]]:
    """Make the models in the order of their dates; ask the gate as soon as the model and its champion are known."""
    fits: dict[pd.Timestamp, dict[str, Any]] = {}
    gates: dict[tuple[pd.Timestamp, pd.Timestamp], list[dict[str, Any]]] = {}
    running: dict[Future[Any], tuple[str, Any]] = {}
    begun = 0
    while True:
        asked = {key for kind, key in running.values() if kind == "gate"}
        for pair in dict.fromkeys(course.advance(fits, gates) for course in courses):
            if pair is not None and pair not in asked:
                running[submit("gate", *pair)] = "gate", pair
        while begun < len(dates) and len(running) < places:
            running[submit("fit", dates[begun])] = "fit", dates[begun]
            begun += 1
        if not running:
            return fits, gates
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            kind, key = running.pop(future)
            (fits if kind == "fit" else gates)[key] = future.result()  # type: ignore[index]
            if key == dates[0] and "problem" in fits[key]:
                raise InputError(
                    f"backtest: no model can be made at {key:%Y-%m-%d}, where the walk starts: {fits[key]['problem']}"
                )
        decided = sum(len(course.champions) for course in courses)
        of = sum(len(course.dates) for course in courses)
        tell(f"{len(fits)} of {len(dates)} models made, {decided} of {of} decisions taken")


def _task(world: World, folder: Path, kind: str, *moments: pd.Timestamp) -> Any:
    """Do one piece of work."""
    return (fit_at if kind == "fit" else gate_at)(world, *moments, folder)


@contextlib.contextmanager
def _workers(world: World, folder: Path, jobs: int) -> Iterator[tuple[Callable[..., Future[Any]], int]]:
    """Yield a function that submits a piece of work, and how many at once make sense."""
    if jobs < 1:
        raise InputError(f"--jobs: must be 1 or more; found {jobs}; leave it out for one per core")
    if jobs == 1:
        yield functools.partial(_done, world, folder), 1
        return
    # A process reads these when it loads the libraries: as many threads each as there are cores would stand in line.
    quiet = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    before = {name: os.environ.get(name) for name in quiet}
    os.environ.update(quiet)
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(world, folder))
    try:
        yield functools.partial(pool.submit, _in_worker), jobs
    except BrokenProcessPool:
        raise FraudlabError(
            "backtest: one of its processes was ended from outside, most likely for want of memory; what is finished "
            "is kept: start the same command again, with fewer --jobs"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def _done(world: World, folder: Path, kind: str, *moments: pd.Timestamp) -> Future[Any]:
    """Do one piece of work at once."""
    future: Future[Any] = Future()
    future.set_result(_task(world, folder, kind, *moments))
    return future


_HELD: list[Any] = []
"""What a process of the pool works on; set once, when it begins."""


def _begin(world: World, folder: Path) -> None:
    """Take over what there is to work on, and end when the process that began this one is gone."""
    _HELD[:] = [world, folder]
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait_for([sentinel])
    os._exit(1)


def _in_worker(kind: str, *moments: pd.Timestamp) -> Any:
    return _task(*_HELD, kind, *moments)
