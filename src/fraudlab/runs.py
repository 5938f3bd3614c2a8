"""A run: one folder of evidence about one model, and the few ways notebooks write to it.

`open_run` is the first call of every notebook: under papermill it finds the folder the launcher prepared, in JupyterLab
it makes one. Evidence is written whole or not at all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import tomli_w

from fraudlab import changes, decision_record, looks
from fraudlab.config import RunConfig, Workspace, config_digest, load_config, project_root
from fraudlab.made_from import code_digest, git_commit
from fraudlab.privacy import lineage
from fraudlab.privacy.auditlog import audit_log
from fraudlab.privacy.disclosure import protected, protected_facts
from fraudlab.run_states import read_state, state_files
from fraudlab.schema import FraudlabError, InputError, did_you_mean
from fraudlab.showing import show as show

# MLflow, XGBoost and shap take seconds to import: each kernel pays for those that its notebook uses.
if TYPE_CHECKING:
    from fraudlab.features import FeatureSet
    from fraudlab.gate import Incumbent
    from fraudlab.plots import Picture
    from fraudlab.recipe import Prepared
    from fraudlab.training import FittedModel

EVIDENCE_VERSIONS = (
    "pandas",
    "numpy",
    "scikit-learn",
    "xgboost-cpu",
    "xgboost",
    "mlflow",
    "shap",
    "numba",
    "papermill",
)
INTERACTIVE = "interactive session"


class BusyError(FraudlabError):
    """Another run holds the project's lock; the champion and the other run are untouched."""

    exit_code = 75


@contextlib.contextmanager
def project_lock(workspace: Workspace) -> Iterator[None]:
    """Hold the project's run lock; a second run gets `BusyError` (exit code 75) at once."""
    workspace.runs.mkdir(parents=True, exist_ok=True, mode=0o700)
    with os.fdopen(os.open(workspace.runs / ".lock", os.O_WRONLY | os.O_CREAT, 0o600), "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(
                "another retraining is running in this project; wait for it or look at `fraudlab runs`"
            ) from None
        yield


@dataclasses.dataclass(frozen=True)
class Run:
    """One run's folder: its config, where its evidence goes, what came before."""

    folder: Path
    config: RunConfig
    workspace: Workspace

    @property
    def evidence(self) -> Path:
        """The tables and facts the report is made from."""
        return self.folder / "evidence"

    @property
    def model_folder(self) -> Path:
        """The fitted models, one folder each."""
        return self.folder / "models"

    @property
    def package(self) -> Path:
        """The model as it goes to production: booster, calibrator, thresholds, reasons."""
        return self.folder / "package"

    def save_json(self, name: str, value: Any) -> None:
        """Write one JSON file of evidence as it may leave (`privacy.disclosure`), whole or not at all."""
        text = json.dumps(protected_facts(name, value), indent=2, default=_jsonable, allow_nan=False)
        write_whole(self.evidence / f"{name}.json", text + "\n")

    def save_table(self, name: str, table: pd.DataFrame) -> pd.DataFrame:
        """Write one table of evidence as CSV and return it, so that a cell can show what it saved.

        It is saved and returned as it may leave: small groups joined or hidden (`fraudlab.privacy.disclosure`).
        """
        table = protected(name, table, budget=self.config.decision.alerts_per_day)
        write_whole(self.evidence / f"{name}.csv", table.to_csv(index=False))
        return table

    def save_picture(self, name: str, picture: Picture) -> Picture:
        """Write a picture as figures/<name>.png and return it, so that a cell can show what it saved."""
        folder = self.folder / "figures"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = folder / f".{name}.png"
        temporary.write_bytes(picture.png)
        os.replace(temporary, folder / f"{name}.png")
        return picture

    def load_json(self, name: str) -> Any:
        """Read one JSON file of evidence; say which notebook writes it when it is not there."""
        path = self.evidence / f"{name}.json"
        if not path.is_file():
            raise InputError(f"run {self.folder.name}: no {name}.json yet; run the notebooks in order, from 01_ingest")
        return json.loads(path.read_text(encoding="utf-8"))

    def load_table(self, name: str) -> pd.DataFrame:
        """Read one table of evidence; say which notebook writes it when it is not there."""
        path = self.evidence / f"{name}.csv"
        if not path.is_file():
            raise InputError(f"run {self.folder.name}: no {name}.csv yet; run the notebooks in order, from 01_ingest")
        return pd.read_csv(path)

    def load_tables(self) -> dict[str, pd.DataFrame]:
        """Read every table of evidence there is so far, each under its name; one without columns is left out."""
        found = sorted(path for path in self.evidence.glob("*.csv") if path.read_bytes().strip())
        return {path.stem: pd.read_csv(path) for path in found}

    def prepare(self) -> Prepared:
        """Prepare this run's data (`recipe.prepare`); the notebooks of one retraining compute the features once."""
        from fraudlab import features_kept, recipe

        private = self.folder / "private"
        return recipe.prepare(self.config, self.workspace, compute=partial(features_kept.shared, private))

    def record_data(self, facts: Mapping[str, Any]) -> None:
        """Write what the data is; what an earlier pass through the notebooks made from other data is cleared away."""
        if self.load_json("run").get("data_digest") not in (None, facts["digest"]):
            self.clear()
        self.save_json("data", facts)
        self.note(data_digest=facts["digest"], as_of=facts.get("as_of"))

    def clear(self) -> None:
        """Remove models, package and evidence, all but the config and run.json."""
        for folder in (self.model_folder, self.package, self.folder / "figures", self.lineage.parent):
            shutil.rmtree(folder, ignore_errors=True)
        for path in self.evidence.glob("*"):
            if path.name not in ("config.toml", "run.json"):
                path.unlink()

    def save_tables(self, tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
        """Write several tables of evidence, each under its name, and return them as saved."""
        return {name: self.save_table(name, table) for name, table in tables.items()}

    @property
    def lineage(self) -> Path:
        """The customers its models learnt from; goes with a registered version, and nowhere else."""
        return self.folder / "private" / "customers.npy"

    def save_models(self, models: Mapping[str, FittedModel], prepared: Prepared) -> None:
        """Write every fitted model into its own folder, nothing pickled.

        Apart from them, for this run alone: which customers they learnt from, and their scores on the validation rows,
        on which thresholds are compared later.
        """
        from fraudlab import training

        shutil.rmtree(self.model_folder, ignore_errors=True)
        lineage.keep(self.lineage, prepared.learnt_from)
        for name, model in models.items():
            training.save_model(model, self.model_folder / name)
        scores = {name: model.valid_score for name, model in models.items() if model.valid_score is not None}
        temporary = self.valid_scores.with_name(f".{self.valid_scores.name}")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            np.savez(file, **scores)
        os.replace(temporary, self.valid_scores)

    @property
    def valid_scores(self) -> Path:
        """The models' scores on the validation rows, by the models before their refit; goes nowhere else."""
        return self.folder / "private" / "valid_scores.npz"

    def load_models(self) -> dict[str, FittedModel]:
        """Read the fitted models of this run with their validation scores, candidate first; digests are checked."""
        from fraudlab import training

        models = {row["name"]: training.load_model(self.model_folder / row["name"]) for row in self.load_json("models")}
        with np.load(self.valid_scores, allow_pickle=False) as scores:
            return {name: dataclasses.replace(model, valid_score=scores.get(name)) for name, model in models.items()}

    def tracked(self) -> str:
        """Return the MLflow run's id; a launcher has made it, an interactive session makes its own."""
        known = self.load_json("run").get("mlflow_run_id")
        if known is None:
            from fraudlab import tracking

            client = tracking.open_store(self.workspace)
            known = tracking.start_run(client, self.config, name=self.folder.name, tags=self.tags())
            self.note(mlflow_run_id=known)
        return known

    def tags(self) -> dict[str, str]:
        """Return what an MLflow run must carry so that its result can be made again."""
        facts = self.load_json("run")
        named = ("config_digest", "data_digest", "code_digest", "git_commit", "lock_digest", "purpose", "as_of")
        return {f"fraudlab.{name}": str(facts[name]) for name in named if facts.get(name)}

    @property
    def tuning_storage(self) -> Path:
        """The settings tried so far; outside the run's folder, so that a run begun anew goes on where it was."""
        return self.workspace.runs / "tuning.db"

    @property
    def test_looks(self) -> Path:
        """The log of every look at a test, of all runs of the project."""
        return self.workspace.runs / "test_looks.jsonl"

    @property
    def rule_books(self) -> Path:
        """Which rules each version of a rule book held when it was measured, of all runs of the project."""
        from fraudlab.ruling import VERSION_LOG

        return self.workspace.runs / VERSION_LOG

    def note_look(self, table: pd.DataFrame) -> pd.DataFrame:
        """Add a line to the log of looks at the test, and keep as evidence which looks these test days have had.

        `table` is the metric table; the look is that of the candidate.
        """
        facts, data = self.load_json("run"), self.load_json("data")
        test = next(part for part in self.load_json("fold")["parts"] if part["part"] == "test")
        looks.record(
            self.test_looks,
            run=self.folder.name,
            dataset=data["dataset"],
            data_digest=data["digest"],
            config_digest=facts["config_digest"],
            test_start=test["start"],
            test_end=test["end"],
            model=facts["candidate"],
            result=looks.headline(table, facts["candidate"]),
        )
        found = looks.at_period(looks.read(self.test_looks), data["dataset"], test["start"], test["end"])
        figures = pd.DataFrame(list(found.pop("result")), columns=list(looks.HEADLINE))
        return self.save_table("test_looks", pd.concat([found, figures], axis=1))

    def track_metrics(self, table: pd.DataFrame) -> None:
        """Note a look at the test and, in an interactive session, log what was found; else the launcher logs it."""
        self.note_look(table)
        if self.load_json("run")["command"] == INTERACTIVE:
            self.log_metrics()

    def log_metrics(self) -> None:
        """Log the metrics as saved, the data they were measured on and chosen settings to MLflow."""
        from fraudlab import tracking

        client, data = tracking.open_store(self.workspace), self.load_json("data")
        if search := self.load_json("run").get("tuned"):
            chosen = {f"fraudlab.chosen.{key}": str(value) for key, value in search["chosen"].items()}
            tracking.set_tags(client, self.tracked(), chosen | {"fraudlab.chosen_by": search["rule"]})
        tracking.log_dataset(client, self.tracked(), name=data["dataset"], digest=data["digest"], rows=data["rows"])
        tracking.log_metrics(client, self.tracked(), self.load_table("metrics"))

    def incumbent(self, prepared: Prepared) -> Incumbent | None:
        """Score this run's test part with the present champion; None when there is none.

        The champion brings its own feature set, so it is judged fairly after the named set has changed. One that cannot
        be read or computed any more is returned with the problem, for the gate to tell.
        """
        from fraudlab import serving, tracking
        from fraudlab.gate import Incumbent

        champion = tracking.champion(tracking.open_store(self.workspace), self.config.name)
        if champion is None:
            return None
        try:
            package = serving.load_package(champion["package"], digest=champion["digest"])
            features = package.features_of(prepared.transactions)
            scored = package.score(features.iloc[prepared.fold.test].reset_index(drop=True), reasons=False)
        except FraudlabError as error:
            return Incumbent(champion["version"], None, None, str(error))
        scores = scored[["score", "risk"]].rename(columns={"score": "champion", "risk": "champion_risk"})
        until = package.facts.get("learnt_until")
        return Incumbent(champion["version"], None if until is None else pd.Timestamp(until), scores)

    def register(self, feature_set: FeatureSet, gate: list[dict[str, Any]]) -> dict[str, Any]:
        """Pack the candidate, register it as challenger and decide by the gate whether it becomes the champion.

        An interactive session promotes at once; of a retraining the launcher calls `carry_out` when all else is done.

        Returns
        -------
        The decision as kept in decision.json: decision, reasons, gate, champion before and after, versions, summary.

        Raises
        ------
        BusyError : an interactive session registers while a retraining runs.
        """
        facts = self.load_json("run")
        if facts["command"] != INTERACTIVE:  # the launcher holds the lock for its notebooks
            return self._register(facts, feature_set, gate)
        with project_lock(self.workspace):
            decision = self._register(facts, feature_set, gate)
            self.carry_out()
            from fraudlab import tracking

            tracking.finish_run(tracking.open_store(self.workspace), self.tracked(), "FINISHED")
            # The next interactive pass through the notebooks is a run of its own.
            self.note(mlflow_run_id=None)
        return decision

    def _register(self, facts: dict[str, Any], feature_set: FeatureSet, gate: list[dict[str, Any]]) -> dict[str, Any]:
        from fraudlab import deciding, serving, tracking, training
        from fraudlab.decisions import Thresholds

        candidate = training.load_model(self.model_folder / facts["candidate"])
        thresholds = Thresholds.from_dict(self.load_json("thresholds"))
        named = ("name", "purpose", "run_id", "config_digest", "data_digest", "code_digest", "seed", "as_of")
        shutil.rmtree(self.package, ignore_errors=True)
        packed = serving.save_package(
            self.package,
            candidate,
            thresholds,
            feature_set.describe(),
            {name: facts.get(name) for name in named}
            | {"feature_set": feature_set.to_dict(), "learnt_until": self.load_json("fold")["learnt_until"]}
            | {"dataset": self.config.dataset.name, "entity": self.config.split.entity},
            acting=deciding.acting_of(self.config, thresholds, self.load_tables().get("policy_prices")),
        )
        client = tracking.open_store(self.workspace)
        before = tracking.champion(client, self.config.name)
        self.save_json("changes", self._changes(before))
        run_id = self.tracked()
        tracking.set_tags(client, run_id, self.tags())
        # A run that was cut off after its registration goes on with the version it has.
        version = tracking.version_made_by(client, self.config.name, run_id, packed)
        if version is None:
            version = tracking.register_package(client, run_id, self.package, name=self.config.name, config=self.config)
        elif before is None or before["version"] != version:
            tracking.complete_registration(client, self.config.name, version)
        lineage.keep(lineage.path_of(self.workspace.lineage, self.config.name, version), lineage.read(self.lineage))
        log = audit_log(self.workspace)
        known = {"model": self.config.name, "model_version": version, "config_digest": facts.get("config_digest")}
        log.append("train", data_digest=facts.get("data_digest"), purpose=facts.get("purpose"), **known)
        # Whoever was erased since the training began is in the model all the same.
        due = tracking.mark_retrain_due(self.workspace)
        gate = [*gate, *_erased_meanwhile(due, self.config.name, version), *self._place_in_shadow(client, version)]
        champion_before = before["version"] if before else None
        said = decision_record.verdict(gate, champion_before, shadow_days=self.config.gate.shadow_days)
        decision = decision_record.record(
            model=self.config.name,
            version=version,
            champion=champion_before,
            decision=said,
            gate=gate,
            by=decision_record.GATE,
            at=pd.Timestamp.now("UTC").floor("s").isoformat(),
            made_from=self.load_json("run"),
            checks=self.load_json("checks") if (self.evidence / "checks.json").is_file() else (),
            shadow=self._shadow(champion_before) if said == decision_record.IN_SHADOW else None,
            thresholds=thresholds.to_dict(),
            alerts_per_day=self.config.decision.alerts_per_day,
        )
        self.save_json("decision", decision)
        self.note(model_name=self.config.name, model_version=version)
        return decision

    def _shadow(self, champion: str) -> dict[str, Any]:
        """Return which days this run's challenger stands in shadow: those after what it could know."""
        from fraudlab import shadow

        data = self.load_json("data")
        last = pd.Timestamp(data["last"])
        known = pd.Timestamp(data["as_of"]) if data.get("as_of") else last + pd.Timedelta(microseconds=1)
        return shadow.facts(self.config.gate, champion, known, last)

    def _place_in_shadow(self, client: Any, version: str) -> list[dict[str, Any]]:
        """Return a failed row of the gate where another version stands in shadow and may stay there."""
        from fraudlab import tracking_decisions

        stands = tracking_decisions.in_shadow(client, self.config.name)
        if self.config.gate.shadow_replace or stands is None or stands["version"] == version:
            return []
        found = f"version {stands['version']} until {stands.get('last_day')}"
        return [{"check": "no other version is in shadow", "required": "none", "found": found, "passed": False}]

    def carry_out(self) -> None:
        """Do what was decided: enter it, then move the alias if one moves; the last thing a run does, and done once.

        Raises
        ------
        InputError : another version became champion since the decision.
        FraudlabError : a customer it has learnt from was erased since the decision; it stays challenger. Or
            decision.json is not what was decided.
        """
        from fraudlab import production, tracking

        decision = self.load_json("decision")
        version = decision["challenger_version"]
        again = "start anew: fraudlab retrain --config FILE --fresh"
        if not decision_record.is_whole(decision):
            raise FraudlabError(
                f"decision: must be as it was made; decision.json of {self.folder.name} differs; {again}"
            )
        champion = tracking.champion(tracking.open_store(self.workspace), self.config.name)
        moves = decision["decision"] in (decision_record.PROMOTED, decision_record.IN_SHADOW)
        if moves and not (champion and champion["version"] == version):
            erased = _erased_meanwhile(tracking.mark_retrain_due(self.workspace), self.config.name, version)
            if erased:
                raise FraudlabError(
                    f"promotion: version {version} has learnt from {erased[0]['found']} customers who were erased "
                    f"since it was decided, so the champion stays; {again}"
                )
        production.carry_out(self.workspace, decision, config_digest=self.load_json("run").get("config_digest"))

    def _changes(self, champion: dict[str, Any] | None) -> dict[str, Any]:
        """Return what differs between this run and the one that made the present champion."""
        from fraudlab.serving import ABOUT

        if champion is None:
            return changes.first()
        try:
            made_by = json.loads((Path(champion["package"]) / ABOUT).read_bytes())["facts"]["run_id"]
        except (OSError, ValueError, KeyError, TypeError):
            made_by = ""
        same = made_by in ("", self.folder.name)
        before = self.evidence if same else self.workspace.runs / made_by / "evidence"
        return changes.since(before, self.evidence, version=champion["version"])

    @property
    def report(self) -> Path:
        """Where this run's report for reviewers lies, in the first language of its config."""
        return self.report_file(self.config.report.languages[0])

    def report_file(self, lang: str = "en", kind: str = "html") -> Path:
        """Where this run's report in a language lies, as html or pdf."""
        return self.workspace.reports / f"{self.folder.name}{'' if lang == 'en' else f'.{lang}'}.{kind}"

    def report_files(self) -> list[Path]:
        """Every report of this run that is there, in the order of languages and formats of its config."""
        settings = self.config.report
        files = [self.report_file(lang, kind) for lang in settings.languages for kind in ("html", *settings.formats)]
        return [path for path in dict.fromkeys(files) if path.is_file()]

    def note(self, **facts: Any) -> None:
        """Add facts to run.json."""
        path = self.evidence / "run.json"
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        self.save_json("run", known | facts)

    def done(self, step: str, headline: str) -> str:
        """Leave one line about what a notebook reached; the launcher prints it."""
        write_whole(self.folder / "headlines" / step, headline)
        return headline


def _erased_meanwhile(due: list[dict[str, Any]], name: str, version: str) -> list[dict[str, Any]]:
    """Return a failed check of the gate where a new version has learnt from customers who are erased by now."""
    found = [
        each["customers"] for each in due if (each["name"], each["version"]) == (name, version) and each["customers"]
    ]
    check = {"check": "has learnt from no customer erased meanwhile", "required": "0", "passed": False}
    return [check | {"found": f"{count:,}"} for count in found]


def _jsonable(value: Any) -> Any:
    if hasattr(value, "item"):
        return value.item()
    if isinstance(value, pd.Timestamp | dt.datetime | dt.date):
        return value.isoformat()
    if isinstance(value, pd.Timedelta):
        return value.total_seconds() / 86_400
    if value is pd.NA or value is pd.NaT:
        return None
    raise TypeError(f"evidence holds a {type(value).__name__}, which JSON does not know")


def write_whole(path: Path, text: str) -> None:
    """Write a text file for its owner only, under a temporary name, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as handle:
        handle.write(text)
    os.replace(temporary, path)


def open_run(config: str | Path, run_dir: str | Path = "", as_of: str = "") -> Run:
    """Open the run a notebook belongs to.

    Parameters
    ----------
    config : a run config, absolute or relative to the project's root.
    run_dir : the folder a launcher prepared; empty in JupyterLab, where `runs/<name>-lab` is used.
    as_of : what was known then, with a time zone; empty takes the config's own.

    Raises
    ------
    InputError : the config is missing or wrong, or the run folder does not exist.
    """
    workspace = Workspace.of()
    if run_dir:
        folder = workspace.root / run_dir
        if not folder.is_dir():
            raise InputError(f"run_dir: no folder at {run_dir}; leave it empty to work interactively")
        return Run(folder, load_config(folder / "config.toml"), workspace)
    path = Path(config) if Path(config).is_file() else workspace.root / config
    loaded = load_config(path, **({"as_of": as_of} if as_of else {}))
    run = Run(workspace.runs / f"{loaded.name}-lab", loaded, workspace)
    made_from = ("config_digest", "code_digest")
    before = run.load_json("run") if (run.evidence / "run.json").is_file() else {}
    begin(run, project_root(path), command=INTERACTIVE)
    now = run.load_json("run")
    if any(before.get(name) != now[name] for name in made_from):
        run.clear()  # models of another config must not be registered under this one
    return run


def finished_run(workspace: Workspace, name: str = "", *, config: str = "") -> Run:
    """Return a finished run by its name; "" takes the newest, of the config of a name where one is given.

    Raises
    ------
    InputError : there is none, or it is not finished.
    """
    done = [path.parent for path in state_files(workspace) if read_state(path).get("status") == "done"]
    if not done:
        raise InputError("run: no run is finished yet; next: fraudlab retrain --config configs/demo.toml")
    if config and not name:
        done = [folder for folder in done if folder.name.rpartition("-")[0] == config]
        if not done:
            raise InputError(f"run: no run of '{config}' is finished yet; next: fraudlab retrain with its config")
    found = [folder for folder in done if name in ("", folder.name)]
    if not found:
        state = "is not finished" if (workspace.runs / name).is_dir() else "does not exist"
        raise InputError(f"run: '{name}' {state}; {did_you_mean(name, [folder.name for folder in done])}")
    return Run(found[0], load_config(found[0] / "config.toml"), workspace)


def begin(run: Run, project: Path, command: str) -> None:
    """Start a run's folder with what the run is made from: its config, its digests, its versions."""
    run.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    raw = json.loads(run.config.model_dump_json(exclude_none=True))
    write_whole(run.folder / "config.toml", tomli_w.dumps(raw))
    raw.pop("notify", None)  # people's addresses are no evidence
    # What leaves the house tells no machine's folders: paths within the project, else only a file's name.
    for table, key in (("dataset", "path"), ("dataset", "contract"), ("rules", "book")):
        if key in raw[table]:
            path = Path(raw[table][key])
            inside = path.is_relative_to(run.workspace.root)
            raw[table][key] = str(path.relative_to(run.workspace.root)) if inside else path.name
    write_whole(run.evidence / "config.toml", tomli_w.dumps(raw))
    installed = {}
    for package in EVIDENCE_VERSIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[package] = importlib.metadata.version(package)
    lock = project / "requirements.lock"
    run.note(
        name=run.config.name,
        title=run.config.title,
        owner=run.config.owner,
        purpose=run.config.purpose,
        run_id=run.folder.name,
        created=pd.Timestamp.now("UTC").floor("s").isoformat(),
        as_of=run.config.as_of_time.isoformat() if run.config.as_of_time is not None else None,
        seed=run.config.seed,
        config_digest=config_digest(run.config),
        code_digest=code_digest(project),
        git_commit=git_commit(project),
        lock_digest=hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else None,
        versions={"python": platform.python_version(), **installed},
        command=command,
    )
