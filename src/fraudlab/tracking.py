"""What was tried and what is in production: MLflow, in the project's own database or in its team's.

Everything goes through an `MlflowClient` that knows its database; MLflow's global state (active run, tracking URI) is
neither read nor set. `open_store` makes it (`tracking_store`).
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import logging
import math
import os
import re
import shutil
import socket
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before MLflow: it says what MLflow may do.
from fraudlab import tracking_store as tracking_store  # isort: skip

import mlflow.pyfunc
import pandas as pd
import psutil
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModel, LoggedModelOutput, Metric, Param, Run
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType

import fraudlab
from fraudlab import tracking_due, tracking_pages
from fraudlab.config import RunConfig, Workspace, config_digest
from fraudlab.privacy import lineage
from fraudlab.schema import REQUIRED, InputError
from fraudlab.tracking_place import has_registry as has_registry
from fraudlab.tracking_registry import CHALLENGER, aliases_of, named_version, registered
from fraudlab.tracking_registry import CHAMPION as CHAMPION
from fraudlab.tracking_registry import champion as champion
from fraudlab.tracking_registry import model_version as model_version
from fraudlab.tracking_registry import models_table as models_table
from fraudlab.tracking_registry import package_folder as package_folder
from fraudlab.tracking_registry import promote as promote
from fraudlab.tracking_registry import version_made_by as version_made_by
from fraudlab.tracking_store import EXPERIMENT, addresses, forget_files
from fraudlab.tracking_store import answers as answers
from fraudlab.tracking_store import open_store as open_store

# XGBoost and scikit-learn, which a rollback need not wait for, come with what loads a model.
if TYPE_CHECKING:
    from fraudlab.serving import Package

# An environment made by uv holds no pip; MLflow warns about that with every model.
logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)

# Facts of a run that its model version repeats.
CARRIED_TAGS = ("fraudlab.data_digest", "fraudlab.code_digest", "fraudlab.lock_digest", "fraudlab.git_commit")
STATED_TAGS = ("dataset", "as_of", "learnt_until")
"""Facts of a package that a version's tags state; with the digests, its figures and its state can be made again."""
SCRIPT = Path(__file__).with_name("serving_pyfunc.py")
# What a process needs to load and run a package; `xgboost-cpu` is the same library under another name.
REQUIREMENTS = ("mlflow", "numpy", "pandas", "pydantic", "scipy", "xgboost-cpu", "xgboost")


# -- runs ----------------------------------------------------------------------------------------------------------


def start_run(client: MlflowClient, config: RunConfig, *, name: str, tags: Mapping[str, str] | None = None) -> str:
    """Start a run with its config as parameters and return its id.

    The calling process is noted as its launcher: should it die, `reap_stale_runs` closes the run.

    Parameters
    ----------
    client : from `open_store`.
    config : logged key by key (`split.train_days`); of paths the last part only.
    name : what people see.
    tags : further facts, such as the digests of data, config, code and lock.
    """
    described = {"mlflow.note.content": config.title} if config.title else {}
    run = client.create_run(
        _experiment_id(client, EXPERIMENT),
        run_name=name,
        tags={"fraudlab.launcher": _launcher(), "fraudlab.config_digest": config_digest(config)}
        | described
        | dict(tags or {}),
    )
    told = config.model_dump(mode="json", exclude_none=True, exclude={"notify"})  # addresses are nobody's business
    params = [Param(key, value) for key, value in _flat(told)]
    for start in range(0, len(params), 100):
        client.log_batch(run.info.run_id, params=params[start : start + 100])
    return run.info.run_id


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", Path(value).name if key in ("path", "contract") else str(value)


def _launcher() -> str:
    # The start time tells this process from a later one that got the same number.
    return f"{socket.gethostname()} {os.getpid()} {psutil.Process().create_time():.2f}"


def log_metrics(client: MlflowClient, run_id: str, table: pd.DataFrame) -> None:
    """Log a tidy metric table (columns model, metric, value, group) as `model/metric`, `model/metric/group`.

    Values that do not apply (NaN) are left out; intervals stay in the table, which belongs to the evidence.

    Raises
    ------
    InputError : a name occurs twice.
    """
    metrics: dict[str, float] = {}
    for row in table.to_dict("records"):
        group = row.get("group", "all")
        parts = [row["model"], row["metric"], *([] if pd.isna(group) or group in ("", "all") else [group])]
        name = "/".join(re.sub(r"[^\w .-]", "_", str(part)) for part in parts if str(part))
        if name in metrics:
            raise InputError(f"metrics: each model, metric and group must occur once; found '{name}' twice; log one")
        metrics[name] = float(row["value"])
    _log(client, run_id, {name: value for name, value in metrics.items() if math.isfinite(value)})


def _log(client: MlflowClient, run_id: str, metrics: Mapping[str, float], model_id: str | None = None) -> None:
    now = int(pd.Timestamp.now("UTC").timestamp() * 1000)
    rows = [
        Metric(name, value, now, 0, model_id=model_id, run_id=run_id if model_id else None)
        for name, value in metrics.items()
    ]
    for start in range(0, len(rows), 1000):
        client.log_batch(run_id, metrics=rows[start : start + 1000])


def log_folder(client: MlflowClient, run_id: str, folder: Path, artifact_path: str) -> None:
    """Copy a folder's files, or one file, to the run's artifacts under `artifact_path`."""
    folder = Path(folder)
    if folder.is_dir():
        client.log_artifacts(run_id, str(folder), artifact_path)
    elif folder.is_file():
        client.log_artifact(run_id, str(folder), artifact_path)
    else:
        raise InputError(f"artifacts: must be a folder or a file; found nothing at '{folder.name}'; write it first")


def log_dataset(client: MlflowClient, run_id: str, *, name: str, digest: str, rows: int) -> None:
    """Note which data the run stands on: its name, the sha-256 of its content, its size. No row is read or kept.

    MLflow's own dataset digest looks at the first 10,000 rows only, so the vault's is given; the whole of it is a tag.
    """
    dataset = Dataset(
        name=name,
        digest=digest[:36],
        source_type="fraudlab-vault",
        source=json.dumps({"dataset": name}),
        profile=json.dumps({"num_rows": int(rows)}),
    )
    client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    set_tags(client, run_id, {"fraudlab.data_digest": digest})


def set_tags(client: MlflowClient, run_id: str, tags: Mapping[str, str]) -> None:
    """Set tags of a run; a tag that exists is replaced."""
    for name, value in tags.items():
        client.set_tag(run_id, name, value)


def finish_run(client: MlflowClient, run_id: str, status: str) -> None:
    """End a run with status FINISHED, FAILED or KILLED."""
    if status not in ("FINISHED", "FAILED", "KILLED"):
        raise InputError(f"status: must be FINISHED, FAILED or KILLED; found '{status}'; choose one of them")
    client.set_terminated(run_id, status)


def reopen_run(client: MlflowClient, run_id: str) -> None:
    """Go on with a run that was cut off; the calling process is its launcher from now on."""
    client.update_run(run_id, status="RUNNING")
    client.set_tag(run_id, "fraudlab.launcher", _launcher())


def reap_stale_runs(client: MlflowClient, experiment: str = EXPERIMENT) -> list[str]:
    """End runs whose launcher died without ending them, as KILLED, and return their ids.

    Runs launched on another machine, or by something else than fraudlab, are left alone: nothing here can tell.
    """
    stale = [run.info.run_id for run in _running(client, _experiment_id(client, experiment)) if _is_dead(run)]
    for run_id in stale:
        finish_run(client, run_id, "KILLED")
    return stale


def _running(client: MlflowClient, experiment_id: str) -> list[Run]:
    runs: list[Run] = []
    token = None
    while True:
        page = client.search_runs([experiment_id], "attributes.status = 'RUNNING'", max_results=1000, page_token=token)
        runs, token = [*runs, *page], page.token
        if not token:
            return runs


def _is_dead(run: Run) -> bool:
    host, _, process = run.data.tags.get("fraudlab.launcher", "").partition(" ")
    if host != socket.gethostname():
        return False
    number, _, started = process.partition(" ")
    try:
        found = psutil.Process(int(number))
        # A zombie has ended, though its parent has not looked yet: usual in containers.
        return found.status() == psutil.STATUS_ZOMBIE or abs(found.create_time() - float(started)) > 1
    except psutil.NoSuchProcess:
        return True


def _experiment_id(client: MlflowClient, name: str) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        raise InputError(f"experiment: must exist; found none named '{name}'; open the store with open_store")
    return experiment.experiment_id


# -- the registry --------------------------------------------------------------------------------------------------


def registered_package(workspace: Workspace, reference: str) -> tuple[str, str, Package]:
    """Return the name, version and package of a registered model, checked byte by byte against its registration.

    Parameters
    ----------
    reference : NAME@ALIAS, NAME/VERSION, or NAME for its champion.

    Raises
    ------
    InputError : no such model or version; its package is damaged, or not the one that was registered.
    """
    from fraudlab.serving import load_package

    client = open_store(workspace)
    whole = reference if "@" in reference or "/" in reference else f"{reference}@{CHAMPION}"
    held = named_version(client, whole)
    digest = held.tags.get("fraudlab.package_digest")
    if digest is None:
        raise InputError(f"model: {whole} has no digest of its package, so it cannot be trusted; register it again")
    return held.name, str(held.version), load_package(package_folder(client, held), digest=digest)


def register_package(client: MlflowClient, run_id: str, folder: Path, *, name: str, config: RunConfig) -> str:
    """Register a package as a new version of a model, alias `challenger`, and return the version.

    What MLflow keeps is the package as it is, a script that loads it (models from code, nothing pickled), a copy of
    fraudlab's sources, the signature and the requirements as installed here: it loads wherever those are installed.
    If anything fails, nothing of it stays.

    Parameters
    ----------
    client, run_id : the run that made the package; its metrics of this model are kept with the version.
    folder : what `serving.save_package` wrote.
    name : the registered model; made when new.
    config : its digest becomes a tag.

    Raises
    ------
    InputError : the package is damaged.
    """
    from fraudlab.serving import load_package

    package = load_package(folder)
    run = client.get_run(run_id)
    metrics = _metrics_of(run, package.model.name)
    tags = {
        "fraudlab.model": package.model.name,
        "fraudlab.package_digest": package.digest,
        "fraudlab.config_digest": config_digest(config),
        "fraudlab.metrics": json.dumps(metrics),
    }
    tags |= {f"fraudlab.{fact}": str(package.facts[fact]) for fact in STATED_TAGS if package.facts.get(fact)}
    tags |= {key: value for key, value in run.data.tags.items() if key in CARRIED_TAGS}
    _forget_unfinished(client, run.info.experiment_id, run_id, name)
    with tempfile.TemporaryDirectory() as building, contextlib.ExitStack() as undo:
        model_folder = Path(building) / "model"
        about = _save_pyfunc(package, Path(folder), model_folder, raw_columns(package, config))
        logged = client.create_logged_model(
            run.info.experiment_id, name=name, source_run_id=run_id, tags=tags, params=run.data.params
        )
        undo.callback(_forget, client, logged)
        # The model's id and run belong into its own description; no path of this machine does.
        about.model_id, about.model_uuid, about.run_id = logged.model_id, logged.model_id, run_id
        about.artifact_path = name
        flavor = about.flavors[mlflow.pyfunc.FLAVOR_NAME]
        flavor["artifacts"]["package"]["uri"] = "artifacts/package"
        flavor["model_code_path"] = SCRIPT.name
        about.save(str(model_folder / "MLmodel"))
        client.log_model_artifacts(logged.model_id, str(model_folder))
        client.finalize_logged_model(logged.model_id, "READY")
        if registered(client, name) is None:
            client.create_registered_model(name, description=config.title or None)
            undo.callback(client.delete_registered_model, name)
        version = str(
            client.create_model_version(
                name, source=logged.artifact_location, run_id=run_id, tags=tags, model_id=logged.model_id
            ).version
        )
        undo.callback(client.delete_model_version, name, version)
        waiting = aliases_of(client, name).get(CHALLENGER)
        if waiting is not None:
            undo.callback(client.set_registered_model_alias, name, CHALLENGER, waiting)
        complete_registration(client, name, version)
        undo.pop_all()
    return version


def complete_registration(client: MlflowClient, name: str, version: str) -> None:
    """Say in MLflow's other tables what a new version is, and make it the challenger; done twice it is done once."""
    found = client.get_model_version(name, version)
    run = client.get_run(found.run_id)
    logged = next(
        each for each in _logged_by(client, run.info.experiment_id, found.run_id) if _is_source(each, found.source)
    )
    client.set_logged_model_tags(
        logged.model_id, {"mlflow.modelVersions": json.dumps([{"name": name, "version": version}])}
    )
    if not logged.metrics:
        _log(client, found.run_id, json.loads(found.tags["fraudlab.metrics"]), logged.model_id)
    client.set_registered_model_alias(name, CHALLENGER, version)
    if logged.model_id not in {each.model_id for each in (run.outputs.model_outputs if run.outputs else ())}:
        client.log_outputs(found.run_id, [LoggedModelOutput(logged.model_id, step=0)])


def _logged_by(client: MlflowClient, experiment: str, run_id: str) -> list[LoggedModel]:
    return list(client.search_logged_models([experiment], f"source_run_id = '{run_id}'"))


def _is_source(logged: LoggedModel, source: str) -> bool:
    return source in (logged.artifact_location, f"models:/{logged.model_id}")


def _forget_unfinished(client: MlflowClient, experiment: str, run_id: str, name: str) -> None:
    """Remove the models that a run logged and was killed before it had registered them."""
    sources = [each.source for each in client.search_model_versions(f"name = '{name}'", max_results=10_000)]
    for logged in _logged_by(client, experiment, run_id):
        if not any(_is_source(logged, source) for source in sources):
            _forget(client, logged)


def _metrics_of(run: Run, model: str) -> dict[str, float]:
    prefix = f"{model}/"
    return {name.removeprefix(prefix): value for name, value in run.data.metrics.items() if name.startswith(prefix)}


def raw_columns(package: Package, config: RunConfig) -> list[str]:
    """Return the columns of raw transactions that a package can be given in place of features, by its contract."""
    from fraudlab.datasets.contracts import load_contract

    if "feature_set" not in package.facts:
        return []
    read = {*package.feature_set.requires, *package.categories, *package.acting.columns, *REQUIRED}
    wanted = [
        column
        for column in load_contract(config.dataset.contract).columns
        if column.name in read and column.name not in ("is_fraud", "label_time")
    ]
    return list(dict.fromkeys(name for column in wanted for name in (column.source, *(column.join or ()))))


def _save_pyfunc(package: Package, folder: Path, target: Path, raw: Sequence[str] = ()) -> Model:
    names = package.model.encoder.columns if package.model.encoder else ()
    kinds = {name: "string" if name in names else "double" for name in package.features}
    more = {name: AnyType() for name in raw if name not in kinds}  # ids may be text or whole numbers
    inputs = Schema([ColSpec(kind, name, required=False) for name, kind in (kinds | more).items()])
    outputs = Schema(
        [ColSpec(kind, name) for name, kind in (("score", "double"), ("risk", "double"))]
        + [ColSpec("string", name) for name in ("tier", "action", "reasons")]
    )
    params = ParamSchema(
        [
            ParamSpec("threshold", "double", math.nan),
            ParamSpec("reasons", "boolean", True),
            ParamSpec("lang", "string", "en"),
        ]
    )
    about = Model()
    with tempfile.TemporaryDirectory() as staging, warnings.catch_warnings():
        # MLflow compares columns in a way the next pandas will read otherwise; ours are named, so nothing changes.
        warnings.simplefilter("ignore", DeprecationWarning)
        shutil.copytree(folder, Path(staging) / "package")
        mlflow.pyfunc.save_model(
            path=str(target),
            mlflow_model=about,
            python_model=str(SCRIPT),
            artifacts={"package": f"{staging}/package"},
            code_paths=[str(Path(fraudlab.__file__).parent)],
            pip_requirements=_requirements(package),
            signature=ModelSignature(inputs=inputs, outputs=outputs, params=params),
            # A made-up row: nothing is known about the payment.
            input_example=pd.DataFrame([{name: "" if kind == "string" else 0.0 for name, kind in kinds.items()}]),
        )
    for path in target.rglob("*"):  # copies of our own source keep its rights
        path.chmod(0o700 if path.is_dir() else 0o600)
    return about


def _requirements(package: Package) -> list[str]:
    from fraudlab.models import LIBRARIES

    found = []
    own = LIBRARIES.get(type(package.model.estimator))
    for name in (*REQUIREMENTS, *((own, "scikit-learn") if own else ())):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name}>={importlib.metadata.version(name)}")
    return found


def _forget(client: MlflowClient, logged: LoggedModel) -> None:
    client.delete_logged_model(logged.model_id)
    forget_files(client, logged.artifact_location.rpartition("/")[0])


def mark_retrain_due(workspace: Workspace) -> list[dict[str, Any]]:
    """Mark every version that learnt from a customer who was erased, or from a value that was corrected, since.

    The mark is two tags, `fraudlab.retrain_due` (UTC, ISO: since when) and `fraudlab.retrain_due_reason`. It follows
    from the ledger, the corrections held and the lineage alone, so that a call that was killed is completed by the next
    one. A correction counts for versions whose features read the column.

    Returns
    -------
    name, version, customers (how many of them are erased), corrected (how many are corrected), reason, of each version
    that is due, by name and version.
    """
    erased, corrections = tracking_due.due_by_rights(workspace)
    if not (erased or corrections) or not has_registry(workspace):
        return []
    return tracking_due.mark(open_store(workspace), workspace, erased, corrections)


def models_trained_on(workspace: Workspace, customer: str) -> list[tuple[str, str]]:
    """Return name and version of the registered models that were trained on a customer, given by pseudonym."""
    return list(lineage.trained_on(workspace.lineage, [customer]))


# -- MLflow's own pages --------------------------------------------------------------------------------------------


def ui_command(
    workspace: Workspace, *, port: int = 5000, password: str, certificate: tuple[Path, Path] | None = None
) -> tuple[list[str], dict[str, str]]:
    """Return the command line, and what its environment needs, that opens MLflow's pages on this project."""
    return tracking_pages.command(*addresses(workspace), port=port, password=password, certificate=certificate)
