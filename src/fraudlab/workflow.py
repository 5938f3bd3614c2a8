"""The notebooks in order, through papermill: the door scheduled retraining goes through.

`retrain` takes a config file, runs every notebook into the run's folder, keeps a state file, owns the MLflow run and
writes the report.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from fraudlab.config import Workspace, config_digest, digest_of, load_config, project_root
from fraudlab.runs import BusyError, Run, begin, code_digest, project_lock, write_whole
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


def run_notebook(notebook: Path, output: Path, parameters: dict[str, Any], *, cwd: Path) -> None:
    """Execute one notebook with papermill; its output appears under its final name only when papermill has ended.

    Raises
    ------
    InputError : the notebook does not exist, a parameter is not one of its own, or a cell refused its input.
    FraudlabError : a cell failed; the message names the notebook and the error, the output notebook shows the rest.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    if not notebook.is_file():
        there = [path.stem for path in notebook.parent.glob("*.ipynb")]
        raise InputError(f"notebook: no file {notebook.name}; {did_you_mean(notebook.stem, there)}")
    known = papermill.inspect_notebook(str(notebook))
    for name in parameters:
        if name not in known:
            raise InputError(f"notebook {notebook.name}: unknown parameter '{name}'; {did_you_mean(name, known)}")
    output.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = output.with_name(f".{output.name}")
    try:
        papermill.execute_notebook(
            str(notebook),
            str(temporary),
            parameters=parameters,
            cwd=str(cwd),
            kernel_name="python3",
            progress_bar=False,
            log_output=False,
            request_save_on_cell_execute=False,
            # Cells and outputs travel over Unix sockets of this account, not over TCP that others could read.
            config=Config({"KernelManager": {"transport": "ipc"}}),
            # A kernel that is told to stop calls that an error.
            extra_arguments=["--IPKernelApp.log_level=50"],
        )
    except PapermillExecutionError as error:
        where = f"notebook {notebook.name}, cell {error.exec_count}"
        if error.ename == "InputError":
            raise InputError(f"{error.evalue}\n({where})") from None
        raise FraudlabError(
            f"{where} failed: {error.ename}: {error.evalue}\nThe executed notebook shows the rest: {output}"
        ) from None
    finally:
        if temporary.is_file():
            _forget_folders(temporary)
            os.replace(temporary, output)


def _forget_folders(notebook: Path) -> None:
    """Leave only file names of the paths papermill notes in an executed notebook, and close it to other accounts."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    noted = content["metadata"].get("papermill", {})
    for name in ("input_path", "output_path"):
        if noted.get(name):
            noted[name] = Path(noted[name]).name.lstrip(".")
    write_whole(notebook, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def retrain(
    config_path: str | Path,
    *,
    changes: dict[str, Any] | None = None,
    workspace: Workspace | None = None,
    fresh: bool = False,
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
    progress : receives a dict per event: {step, title, number, of, status, seconds, headline}; first, where the
        newest version learnt from customers who were erased or corrected since, {step, status "retrain_due", version,
        customers, corrected, reason}.

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
    }
    run = Run(workspace.runs / f"{config.name}-{digest_of(identity)[:10]}", config, workspace)
    aside = run.folder.with_name(f"{run.folder.name}.before")
    with project_lock(workspace):
        if aside.is_dir():  # a launcher was killed before it ended: the finished run it set aside comes back
            shutil.rmtree(run.folder, ignore_errors=True)
            os.rename(aside, run.folder)
        if due := _retrain_due(workspace, config.name):
            progress({"step": "lineage", "status": "retrain_due", **due})
        if not fresh and _can_be_reused(run):
            progress({"step": "reuse", "status": "reused"})
            return run
        if _read_state(run).get("status") == "done":
            os.rename(run.folder, aside)
        # An unfinished folder holds only its own evidence; starting clean is cheaper than guessing.
        shutil.rmtree(run.folder, ignore_errors=True)
        try:
            begin(run, project, command=_command(config_path, project, changes))
            with _for_kernels(workspace):
                _run_steps(run, project, progress)
        except BaseException:
            if aside.is_dir():
                shutil.rmtree(run.folder, ignore_errors=True)
                os.rename(aside, run.folder)
            raise
        shutil.rmtree(aside, ignore_errors=True)
    return run


def _project(config_path: Path, workspace: Workspace) -> Path:
    """Return the folder whose notebooks and code make the run: the config's project, the workspace, the checkout."""
    for folder in (project_root(config_path), workspace.root, Path(__file__).resolve().parents[2]):
        if (folder / "notebooks" / f"{STEPS[0][0]}.ipynb").is_file():
            return folder
    raise InputError(
        "notebooks: found no notebooks/01_ingest.ipynb beside the config; use a config of a fraudlab project"
    )


def _can_be_reused(run: Run) -> bool:
    """Say whether a finished run's results are all still there: its report, its model version, its data."""
    if _read_state(run).get("status") != "done" or not run.report.is_file():
        return False
    if not (run.workspace.mlruns / "mlflow.db").is_file():
        return False
    from fraudlab import tracking
    from fraudlab.privacy.consent import Ledger
    from fraudlab.privacy.keys import open_keys
    from fraudlab.privacy.vault import Vault

    versions = tracking.models_table(tracking.open_store(run.workspace))
    version = run.load_json("decision")["challenger_version"]
    if any((due["name"], due["version"]) == (run.config.name, version) for due in _due(run.workspace)):
        return False
    there = ((versions["name"] == run.config.name) & (versions["version"].astype(str) == version)).any()
    with contextlib.suppress(FraudlabError):
        held = Vault(run.workspace.vault, open_keys(run.workspace)).manifest(run.config.dataset.name)
        ledger = Ledger(run.workspace.ledger).digest(run.config.purpose)
        same_data = held["digest"] == run.load_json("run")["data_digest"]
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


@contextlib.contextmanager
def _for_kernels(workspace: Workspace) -> Iterator[None]:
    """Give the notebooks' kernels, which inherit it, this run's workspace and files only their owner can read."""
    wanted = {
        "FRAUDLAB_HOME": str(workspace.root),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    before = {name: os.environ.get(name) for name in wanted}
    umask = os.umask(0o077)
    os.environ.update(wanted)
    try:
        yield
    finally:
        os.umask(umask)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def _run_steps(run: Run, project: Path, progress: Callable[[dict[str, Any]], None]) -> None:
    from fraudlab import tracking

    client = tracking.open_store(run.workspace)
    tracking.reap_stale_runs(client)
    steps = [*STEPS, REPORT_STEP]
    done: list[dict[str, Any]] = []
    tracked, status = None, "FAILED"
    try:
        for number, (step, title) in enumerate(steps, start=1):
            event = {"step": step, "title": title, "number": number, "of": len(steps)}
            progress(event | {"status": "started"})
            began = time.perf_counter()
            if step == FIRST_TRACKED:
                tracked = tracking.start_run(client, run.config, name=run.folder.name, tags=run.tags())
                run.note(mlflow_run_id=tracked)
            _run_step(step, run, project)
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
        tracking.log_folder(client, tracked, run.report, "report")
        status = "FINISHED"
        _write_state(run, "done", done)
    except BaseException as error:
        if isinstance(error, InputError) and tracked is None:
            # A refusal leaves nothing behind: the sentence says all there is to know.
            shutil.rmtree(run.folder, ignore_errors=True)
            raise
        status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
        _write_state(run, "failed", done)
        raise
    finally:
        if tracked is not None:
            tracking.finish_run(client, tracked, status)


def _run_step(step: str, run: Run, project: Path) -> None:
    if step == REPORT_STEP[0]:
        _report(step, run)
        return
    # Relative, because papermill writes parameters into the notebook.
    parameters = {"run_dir": os.path.relpath(run.folder, run.workspace.root)}
    notebook = project / "notebooks" / f"{step}.ipynb"
    run_notebook(notebook, run.folder / "notebooks" / notebook.name, parameters, cwd=run.workspace.root)


def _report(step: str, run: Run) -> None:
    """Write the report once no raw identifier is in what the notebooks wrote, and keep it if none is in it either.

    Raises
    ------
    FraudlabError : a raw identifier was found; no notebook, evidence or report goes to MLflow.
    """
    from fraudlab.checks import CHECKS, overview
    from fraudlab.datasets import raw_identifiers
    from fraudlab.report import build_report

    needles = raw_identifiers(run.config)
    finding = CHECKS["FL004"]([run.folder], needles, root=run.folder)
    earlier = [check for check in run.load_json("checks") if check["code"] != finding.code]
    every = earlier + overview({"identifiers": finding}).to_dict("records")
    run.save_json("checks", sorted(every, key=lambda check: check["code"]))
    if not finding.stops:
        path = build_report(run.folder, run.report)
        finding = CHECKS["FL004"]([path], needles, root=path.parent)
        if finding.stops:
            path.unlink()
    if finding.stops:
        raise FraudlabError(
            f"{finding.code} {finding.title.lower()}: {finding.sentence} No notebook, evidence or report of this run "
            f"was logged; they lie in {run.folder.name} only. Mend the cell that wrote it and run again."
        )
    run.done(step, f"{path.stat().st_size / 1e3:,.0f} kB, one file, no network needed")


def _command(config_path: Path, project: Path, changes: dict[str, Any]) -> str:
    shown = config_path.resolve()
    shown = shown.relative_to(project) if shown.is_relative_to(project) else Path(shown.name)
    # A path outside the project is a fact about one machine: its last part is enough to repeat the run.
    words = [f"--set {key.replace('__', '.')}={Path(str(value)).name}" for key, value in sorted(changes.items())]
    return " ".join(["fraudlab retrain --config", str(shown), *words])


def _file_digest(path: Path) -> str:
    if not path.is_file():
        raise InputError(f"dataset: no file at {path}; check dataset.path and dataset.contract in the config")
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _read_state(run: Run) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        return json.loads((run.folder / "state.json").read_text(encoding="utf-8"))
    return {}


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
    for path in sorted(workspace.runs.glob("*/state.json"), key=lambda p: p.stat().st_mtime, reverse=True):
        state = {"status": "damaged", "steps": []}
        with contextlib.suppress(ValueError):
            state = json.loads(path.read_text(encoding="utf-8"))
        report = workspace.reports / f"{path.parent.name}.html"
        killed = state["status"] == "running" and not alive
        rows.append(
            {
                "run": path.parent.name,
                "status": "killed" if killed else state["status"],
                "steps": len(state["steps"]),
                "seconds": round(sum(step["seconds"] for step in state["steps"]), 1),
                "report": str(report.relative_to(workspace.root)) if report.is_file() else "",
            }
        )
    return pd.DataFrame(rows, columns=["run", "status", "steps", "seconds", "report"])
