"""The notebooks in order, through papermill: the door scheduled retraining goes through.

`retrain` takes a config file, runs every notebook into the run's folder, keeps a state file, owns the MLflow run,
writes the report, moves the champion's alias last of all, and leaves a message for the morning.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd

from fraudlab import features_kept
from fraudlab.config import RunConfig, Workspace, config_digest, digest_of, load_config, project_root
from fraudlab.executing import Kernels, kernels
from fraudlab.executing import run_notebook as run_notebook
from fraudlab.launching import for_kernels, sweep
from fraudlab.made_from import code_digest
from fraudlab.run_states import read_state, state_files
from fraudlab.runs import BusyError, Run, begin, project_lock, write_whole
from fraudlab.schema import FraudlabError, InputError, did_you_mean

STEPS: tuple[tuple[str, str], ...] = (
    ("01_ingest", "Ingest"),
    ("02_explore", "Explore"),
    ("03_train", "Train"),
    ("04_evaluate", "Evaluate"),
    ("05_explain", "Explain"),
    ("06_register", "Register"),
)
REPORT_STEP = ("report", "Report")
# Steps before this one may still refuse the input; a refused run leaves no trace in MLflow.
FIRST_TRACKED = "04_evaluate"
# Before this one the version in shadow is looked at, because it may become the champion to compare with.
TRAINING = "03_train"
BEFORE_TRAINING = ("01_ingest", "02_explore")
# Their work is in threads, one a core.
BUSY = ("03_train", "05_explain")
# What a notebook's calls import later, loaded while its kernel waits for its turn.
LATER = {"05_explain": ("fraudlab.recipe",), "06_register": ("fraudlab.tracking",)}


def retrain(
    config_path: str | Path,
    *,
    changes: dict[str, Any] | None = None,
    workspace: Workspace | None = None,
    fresh: bool = False,
    resume: str = "",
    progress: Callable[[dict[str, Any]], None] = lambda event: None,
) -> Run:
    """Take a config through all notebooks to a registered model and a report.

    The run's folder is named by what decides its result (config, data, code): asking again for the same reuses it.

    Parameters
    ----------
    config_path : a run config.
    changes : overrides of the config, dotted keys with `__`.
    workspace : where data, runs and models are kept; default: the project the config lies in.
    fresh : run again although nothing changed.
    resume : an unfinished run, to go on at its first unfinished step; `config_path` is then `unfinished(...)`.
    progress : receives a dict per event: {step, title, number, of, status, seconds, headline}; first, where the
        newest version learnt from customers who were erased or corrected since, {step, status "retrain_due", version,
        customers, corrected, reason}; last, where cases may be investigated, {step, status "queued", cases, new ...}.

    Returns
    -------
    The finished run; its evidence says whether the challenger became champion.

    Raises
    ------
    InputError : config, data or parameters break a rule (exit code 2).
    BusyError : another run is going on (exit code 75).
    FraudlabError : a step failed (exit code 1); a failure before the last notebook leaves the registry as it was.
    """
    config_path = Path(config_path)
    changes = changes or {}
    config = load_config(config_path, **changes)
    workspace = workspace or Workspace.of(config_path)

    def work() -> tuple[Run, bool]:
        return _retrain(config_path, config, changes, workspace, fresh, resume, progress)

    return _telling(config, workspace, work, progress)


def _telling(
    config: RunConfig,
    workspace: Workspace,
    work: Callable[[], tuple[Run, bool]],
    progress: Callable[[dict[str, Any]], None],
) -> Run:
    """Do the work and leave the message about it, be it done or failed; a busy project has another's."""
    from fraudlab import notify

    began = time.perf_counter()
    try:
        run, reused = work()
        message = notify.summary(run, time.perf_counter() - began) | ({"status": "reused"} if reused else {})
    except BusyError:
        raise
    except BaseException as error:
        message = notify.failure(config.name, _where(config, workspace), error, getattr(error, "exit_code", 1))
        _deliver(config, workspace, message, progress)
        raise
    _deliver(config, workspace, message, progress)
    return run


def _deliver(
    config: RunConfig, workspace: Workspace, message: dict[str, Any], progress: Callable[[dict[str, Any]], None]
) -> None:
    from fraudlab import notify

    try:
        problems = notify.deliver(config.notify, message, workspace.reports)
    except OSError as error:  # a full disk, most likely what the message is about
        problems = [f"not written: {error.strerror}"]
    for problem in problems:
        progress({"step": "message", "status": "not sent", "problem": problem})


def _where(config: RunConfig, workspace: Workspace) -> str:
    """Say which step of the newest unfinished run of a config broke off."""
    state = next(map(read_state, state_files(workspace, config.name)), {})
    if state.get("status") not in ("failed", "running"):
        return "the start"
    done = {step["step"] for step in state.get("steps", [])}
    return next((title.lower() for step, title in (*STEPS, REPORT_STEP) if step not in done), "the end")


def _retrain(
    config_path: Path,
    config: RunConfig,
    changes: dict[str, Any],
    workspace: Workspace,
    fresh: bool,
    resume: str,
    progress: Callable[[dict[str, Any]], None],
) -> tuple[Run, bool]:
    """Return the run and whether it was there already."""
    project = _project(config_path, workspace)
    for key, path in zip(("path", *["append"] * len(config.dataset.append), "attach"), config.dataset.files):
        if not path.is_file():
            raise InputError(
                f"dataset.{key}: no file at {path}; put the data there or name another file "
                f"with --set dataset.{key}=FILE"
            )
    identity = {
        "config": config_digest(config),
        "code": code_digest(project),
        "data": " ".join(_file_digest(path) for path in config.dataset.files) or None,
        "contract": _file_digest(config.dataset.contract),
        "rules": None if config.rules.book is None else _file_digest(config.rules.book),
    }
    run = Run(workspace.runs / f"{config.name}-{digest_of(identity)[:10]}", config, workspace)
    aside = run.folder.with_name(f"{run.folder.name}.before")
    with project_lock(workspace):
        sweep(workspace, config.name)
        _settle_aside(run.folder, aside)
        if due := _retrain_due(workspace, config.name):
            progress({"step": "lineage", "status": "retrain_due", **due})
        if not fresh and _can_be_reused(run):
            if not all(run.report_file(lang).is_file() for lang in config.report.languages):
                from fraudlab.report.making import make_reports

                make_reports(run)
            progress({"step": "reuse", "status": "reused"})
            return run, True
        if resume:
            _refuse_to_resume(run, resume)
        elif read_state(run.folder / "state.json").get("status") == "done":
            os.rename(run.folder, aside)
        try:
            if not resume:
                # What an unfinished folder holds is gone on with only where somebody says so.
                shutil.rmtree(run.folder, ignore_errors=True)
                begin(run, project, command=_command(config_path, project, changes))
            with (
                for_kernels(workspace),
                features_kept.shared_key(run.folder / "private"),
                kernels(workspace.root) as ahead,
                ThreadPoolExecutor(max_workers=1) as meanwhile,
            ):
                _run_steps(run, project, progress, ahead, meanwhile)
        except BaseException:
            if aside.is_dir():
                shutil.rmtree(run.folder, ignore_errors=True)
                os.rename(aside, run.folder)
            raise
        shutil.rmtree(aside, ignore_errors=True)
        if listed := _put_into_queue(run):
            progress({"step": "queue", "status": "queued", **listed})
    return run, False


def _settle_aside(folder: Path, aside: Path) -> None:
    """Bring back the finished run that a killed launcher had set aside, unless the one it made instead is finished."""
    if aside.is_dir() and read_state(folder / "state.json").get("status") == "done":
        shutil.rmtree(aside, ignore_errors=True)
    elif aside.is_dir():
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(aside, folder)


def _refuse_to_resume(run: Run, name: str) -> None:
    """Refuse to go on with a run that has not begun, or was made from something else than is here now."""
    from fraudlab.datasets.reviewed import data_digest
    from fraudlab.privacy.keys import open_keys
    from fraudlab.privacy.vault import Vault

    state = read_state(run.workspace.runs / name / "state.json")
    again = "start anew: fraudlab retrain --config FILE"
    if not state.get("steps"):
        raise InputError(f"resume: run '{name}' has no finished step to go on from; {again}")
    if run.folder.name != name:
        raise InputError(f"resume: config, code or source have changed since '{name}' began; {again}")
    if state.get("status") == "done":
        raise InputError(f"resume: run '{name}' is finished, but its data have changed since; {again}")
    vault = Vault(run.workspace.vault, open_keys(run.workspace))
    if data_digest(vault, run.config.dataset.name) != run.load_json("run").get("data_digest"):
        raise InputError(f"resume: the data in the vault have changed since '{name}' read them; {again}")


def unfinished(workspace: Workspace, name: str) -> Path:
    """Return the config of a run, to go on with it.

    Raises
    ------
    InputError : there is no such run.
    """
    path = workspace.runs / name / "config.toml"
    if not path.is_file():
        there = [state.parent.name for state in workspace.runs.glob("*/state.json")]
        raise InputError(f"resume: no run '{name}'; {did_you_mean(name, there)}")
    return path


def _put_into_queue(run: Run) -> dict[str, Any]:
    """Put the champion's newest cases into the investigators' queue; the run is done whether or not that is possible.

    Returns
    -------
    What `casework.queue.list_cases` says, or `problem`, a sentence; nothing where the contract states no investigation.
    """
    from fraudlab.casework.queue import list_cases
    from fraudlab.datasets.companions import INVESTIGATION
    from fraudlab.privacy.keys import open_keys
    from fraudlab.privacy.vault import Vault

    vault = Vault(run.workspace.vault, open_keys(run.workspace))
    try:
        if INVESTIGATION not in vault.manifest(run.config.dataset.name)["purposes"]:
            return {}
        return list_cases(run.config, run.workspace)
    except FraudlabError as error:
        return {"problem": str(error)}


def _project(config_path: Path, workspace: Workspace) -> Path:
    """Return the folder whose notebooks and code make the run: the config's project, the workspace, the checkout."""
    # A run's own folder, whose config a resumed run takes, holds notebooks too: executed ones.
    beside = () if config_path.is_relative_to(workspace.runs) else (project_root(config_path),)
    for folder in (*beside, workspace.root, Path(__file__).resolve().parents[2]):
        if (folder / "notebooks" / f"{STEPS[0][0]}.ipynb").is_file():
            return folder
    raise InputError(
        "notebooks: found no notebooks/01_ingest.ipynb beside the config; use a config of a fraudlab project"
    )


def _can_be_reused(run: Run) -> bool:
    """Say whether a finished run's results are all still there: its report, its model version, its data."""
    if read_state(run.folder / "state.json").get("status") != "done":
        return False
    if not any(run.report_file(lang).is_file() for lang in ("en", "zh")):
        return False
    from fraudlab import tracking

    if not tracking.has_registry(run.workspace):
        return False
    from fraudlab.datasets.reviewed import data_digest
    from fraudlab.privacy.consent import Ledger
    from fraudlab.privacy.keys import open_keys
    from fraudlab.privacy.vault import Vault

    versions = tracking.models_table(tracking.open_store(run.workspace))
    version = run.load_json("decision")["challenger_version"]
    if any((due["name"], due["version"]) == (run.config.name, version) for due in _due(run.workspace)):
        return False
    there = ((versions["name"] == run.config.name) & (versions["version"].astype(str) == version)).any()
    with contextlib.suppress(FraudlabError):
        held = data_digest(Vault(run.workspace.vault, open_keys(run.workspace)), run.config.dataset.name)
        ledger = Ledger(run.workspace.ledger).digest(run.config.purpose)
        same_data = held == run.load_json("run")["data_digest"]
        return bool(there) and same_data and ledger == run.load_json("data")["ledger_digest"]
    return False


def _due(workspace: Workspace) -> list[dict[str, Any]]:
    """Mark the models that learnt from customers who were erased or corrected since, and return them."""
    if not workspace.lineage.is_dir():
        return []
    from fraudlab import tracking

    return tracking.mark_retrain_due(workspace)


def _retrain_due(workspace: Workspace, name: str) -> dict[str, Any]:
    """Return what is said of a model's newest version where it is due for customers' rights; else nothing."""
    due = {int(each["version"]): each for each in _due(workspace) if each["name"] == name}
    newest = max((int(path.stem) for path in (workspace.lineage / name).glob("*.npy")), default=None)
    return {key: value for key, value in due[newest].items() if key != "name"} if newest in due else {}


def _run_steps(
    run: Run,
    project: Path,
    progress: Callable[[dict[str, Any]], None],
    ahead: Kernels,
    meanwhile: ThreadPoolExecutor,
) -> None:
    """Run the steps that the state file does not call done, keep what they made in MLflow, then move the alias.

    While a notebook keeps one core busy, what is to come is got ready on another: MLflow is opened during the first,
    the search for raw identifiers and the queue are readied from the fourth on, the report's pictures are drawn during
    the last, and the kernels of later notebooks import.
    """
    done: list[dict[str, Any]] = read_state(run.folder / "state.json").get("steps", [])
    known = {step["step"] for step in done}
    to_come = [step for step, _ in STEPS if step not in known]
    pictures: dict[bytes, Any] = {}
    needles = drawn = None
    steps = [*STEPS, REPORT_STEP]
    tracked, status = run.load_json("run").get("mlflow_run_id"), "FAILED"
    _start_ahead(ahead, project, "", to_come)
    registry = meanwhile.submit(ahead.in_turn, _open_registry, run.workspace)
    if tracked is not None:  # a launcher before this one was cut off
        tracking, client = registry.result()
        tracking.reopen_run(client, tracked)
    try:
        for number, (step, title) in enumerate(steps, start=1):
            if step in known:
                continue
            if step not in BEFORE_TRAINING:
                tracking, client = registry.result()
            if step == TRAINING:
                _settle_shadow(run, progress)
            event = {"step": step, "title": title, "number": number, "of": len(steps)}
            progress(event | {"status": "started"})
            began = time.perf_counter()
            if step == FIRST_TRACKED and tracked is None:
                tracked = tracking.start_run(client, run.config, name=run.folder.name, tags=run.tags())
                run.note(mlflow_run_id=tracked)
            _start_ahead(ahead, project, step, to_come)
            if step not in (*BEFORE_TRAINING, TRAINING) and needles is None:
                needles = meanwhile.submit(ahead.in_turn, _ready_the_end, run.config)
            if step == STEPS[-1][0]:
                drawn = meanwhile.submit(ahead.in_turn, _draw_ahead, run, pictures)
            if step == REPORT_STEP[0]:
                if drawn is not None:
                    drawn.result()
                _report(run, needles.result(), pictures)
            else:
                _run_step(step, run, project, ahead)
            if step == FIRST_TRACKED:  # here, where MLflow is loaded already
                run.log_metrics()
            headline = run.folder / "headlines" / step
            event |= {
                "status": "done",
                "seconds": round(time.perf_counter() - began, 1),
                "headline": headline.read_text(encoding="utf-8") if headline.is_file() else "",
            }
            done.append(event)
            _write_state(run, "running", done)
            progress(event)
        for name in ("evidence", "figures", "notebooks"):
            tracking.log_folder(client, tracked, run.folder / name, name)
        for path in run.report_files():
            tracking.log_folder(client, tracked, path, "report")
        run.carry_out()
        _write_index(run.workspace)
        status = "FINISHED"
        _write_state(run, "done", done)
    except BaseException as error:
        if isinstance(error, InputError) and tracked is None:
            # A refusal leaves nothing behind: the sentence says all there is to know.
            shutil.rmtree(run.folder, ignore_errors=True)
            raise
        meanwhile.shutdown(wait=False, cancel_futures=True)
        status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
        _write_state(run, "failed", done)
        raise
    finally:
        if tracked is not None:
            tracking.finish_run(client, tracked, status)


def _start_ahead(ahead: Kernels, project: Path, step: str, to_come: list[str]) -> None:
    """Start the kernels that can get ready while a step is at work; "" is before the first, whose own is started.

    One ahead, and two where the next one keeps all cores busy, so that nothing starts beside it.
    """
    if step in (*BUSY, REPORT_STEP[0]):
        return
    for later in to_come[to_come.index(step) + 1 :] if step else to_come:
        if (notebook := project / "notebooks" / f"{later}.ipynb").is_file():
            ahead.start(notebook, LATER.get(later, ()), now=not step)
        if not step or later not in BUSY:
            break


def _open_registry(workspace: Workspace) -> tuple[Any, Any]:
    """Open MLflow and end the runs that died in it; return `fraudlab.tracking`, seconds to import, and a client."""
    from fraudlab import shadowing, tracking  # noqa: F401  (both are asked for before training)

    client = tracking.open_store(workspace)
    tracking.answers(workspace)
    tracking.reap_stale_runs(client)
    return tracking, client


def _run_step(step: str, run: Run, project: Path, ahead: Kernels) -> None:
    # Relative, because papermill writes parameters into the notebook.
    parameters = {"run_dir": os.path.relpath(run.folder, run.workspace.root)}
    notebook = project / "notebooks" / f"{step}.ipynb"
    run_notebook(notebook, run.folder / "notebooks" / notebook.name, parameters, cwd=run.workspace.root, ahead=ahead)


def _ready_the_end(config: RunConfig) -> list[str]:
    """Import what the end asks for, seconds of it, and return the raw identifiers that the report's step looks for."""
    from fraudlab.casework import queue  # noqa: F401
    from fraudlab.report.making import identifiers_to_find

    return identifiers_to_find(config)


def _draw_ahead(run: Run, pictures: dict[bytes, Any]) -> None:
    from fraudlab.report.making import draw_ahead

    draw_ahead(run, pictures)


def _report(run: Run, needles: list[str], pictures: dict[bytes, Any]) -> None:
    from fraudlab.report.making import checked_reports

    features_kept.forget(run.folder / "private")  # no notebook is to come, and all that is there will be searched
    run.done(REPORT_STEP[0], checked_reports(run, needles, pictures))


def _write_index(workspace: Workspace) -> None:
    from fraudlab.report.index import write_index
    from fraudlab.report.making import signer_of

    write_index(workspace, signer_of(workspace)[0])


def _settle_shadow(run: Run, progress: Callable[[dict[str, Any]], None]) -> None:
    """Look at the version in shadow with what has come in, before another is trained; nothing of it stops the run."""
    from fraudlab import shadowing

    try:
        seen = shadowing.settle(run.config, run.workspace, as_of=run.config.as_of_time)
    except FraudlabError as error:
        progress({"step": "shadow", "status": "shadow", "said": f"not looked at: {error}"})
        return
    if seen is not None:
        run.note(shadow=seen.said)
        progress({"step": "shadow", "status": "shadow", "said": seen.said, "state": seen.state})


def _command(config_path: Path, project: Path, changes: dict[str, Any]) -> str:
    shown = config_path.resolve()
    shown = shown.relative_to(project) if shown.is_relative_to(project) else Path(shown.name)
    # A path outside the project is a fact about one machine: its last part is enough to repeat the run.
    words = [f"--set {key.replace('__', '.')}={Path(str(value)).name}" for key, value in sorted(changes.items())]
    return " ".join(["fraudlab retrain --config", str(shown), *words])


def _file_digest(path: Path) -> str:
    if not path.is_file():
        raise InputError(f"config: no file at {path}; check dataset.path, dataset.contract and rules.book")
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _write_state(run: Run, status: str, steps: list[dict[str, Any]]) -> None:
    write_whole(run.folder / "state.json", json.dumps({"status": status, "steps": steps}, indent=2) + "\n")


def runs_table(workspace: Workspace) -> pd.DataFrame:
    """List the runs of a project, newest first: run, status, steps, seconds, report.

    A run that says it is running while nobody holds the project's lock was killed.
    """
    try:
        with project_lock(workspace):
            alive = False
    except BusyError:
        alive = True
    rows = []
    for path in state_files(workspace):
        state = {"status": "damaged", "steps": []}
        with contextlib.suppress(ValueError):
            state = json.loads(path.read_text(encoding="utf-8"))
        found = [workspace.reports / f"{path.parent.name}{end}.html" for end in ("", ".zh")]
        report = next((each for each in found if each.is_file()), None)
        killed = state["status"] == "running" and not alive
        rows.append(
            {
                "run": path.parent.name,
                "status": "killed" if killed else state["status"],
                "steps": len(state["steps"]),
                "seconds": round(sum(step["seconds"] for step in state["steps"]), 1),
                "report": str(report.relative_to(workspace.root)) if report else "",
            }
        )
    return pd.DataFrame(rows, columns=["run", "status", "steps", "seconds", "report"])
