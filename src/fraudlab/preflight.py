"""What must be true before a retraining begins, asked in seconds instead of found out after minutes.

    for answer in preflight(config, workspace):
        print(answer.ok, answer.question, answer.found)

Nothing is written: a registry or keys that are not there yet are made by the retraining itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import pandas as pd

from fraudlab.config import RunConfig, Workspace
from fraudlab.run_states import read_state, state_files
from fraudlab.runs import project_lock
from fraudlab.schema import FraudlabError
from fraudlab.tracking_place import has_registry

LEAST_DISK = 500e6
"""Bytes that a small retraining may need; a large one three times what its last run took."""


@dataclass(frozen=True)
class Answer:
    """One question before a retraining: whether all is well, what was found, what to do where it is not.

    `ok` None: the question cannot be asked yet, `found` says why.
    """

    question: str
    ok: bool | None
    found: str


def preflight(config: RunConfig, workspace: Workspace, *, now: pd.Timestamp | None = None) -> list[Answer]:
    """Ask everything that stops a retraining: data, labels, disk, lock, registry, audit log.

    Parameters
    ----------
    now : against which the data's age is told; default: the clock's.

    Returns
    -------
    An answer per question, in the order in which the retraining would stumble.
    """
    now = pd.Timestamp.now("UTC") if now is None else now
    asked: list[tuple[str, Callable[[], tuple[bool | None, str]]]] = [
        ("the source is there", lambda: _source(config)),
        ("the data are fresh", lambda: _fresh(config, workspace, now)),
        ("enough labels are mature", lambda: _labels(config, workspace)),
        ("the disk has room", lambda: _disk(config, workspace)),
        ("no other retraining runs", lambda: _lock(workspace)),
        ("the registry can be read", lambda: _registry(config, workspace)),
        ("the audit log is whole", lambda: _audit(workspace)),
    ]
    return [Answer(question, *_told(answer)) for question, answer in asked]


def _told(answer: Callable[[], tuple[bool | None, str]]) -> tuple[bool | None, str]:
    """Return what a question found; a refusal is an answer too."""
    try:
        return answer()
    except FraudlabError as error:
        return False, str(error)


def _source(config: RunConfig) -> tuple[bool, str]:
    if config.dataset.source == "simulate":
        return True, "simulated"
    absent = [path.name for path in (*config.dataset.files, config.dataset.contract) if not path.is_file()]
    if absent:
        return False, f"no file {', '.join(absent)}; put it there or name another with --set dataset.path=FILE"
    size = sum(path.stat().st_size for path in config.dataset.files)
    return True, f"{len(config.dataset.files)} files, {size / 1e6:,.0f} MB"


def _manifest(config: RunConfig, workspace: Workspace) -> dict[str, Any] | None:
    from fraudlab.privacy.keys import open_keys
    from fraudlab.privacy.vault import Vault

    if not (workspace.vault / config.dataset.name).is_dir():
        return None
    return Vault(workspace.vault, open_keys(workspace)).manifest(config.dataset.name)


def _fresh(config: RunConfig, workspace: Workspace, now: pd.Timestamp) -> tuple[bool | None, str]:
    if config.dataset.source == "simulate":
        return True, "simulated"
    manifest = _manifest(config, workspace)
    if manifest is None:
        return None, "not in the vault yet; ingest tells"
    last = pd.Timestamp(manifest["last"])
    until = config.as_of_time or now
    days = max((until - last) / pd.Timedelta(days=1), 0.0)
    most = config.dataset.fresh_days
    said = f"the newest payment is {days:,.1f} days old ({last:%Y-%m-%d})"
    if most is None:
        return True, f"{said}; dataset.fresh_days states no limit"
    if days <= most:
        return True, said
    return False, f"{said}, dataset.fresh_days allows {most}; bring newer data, or state the day with --as-of"


def _labels(config: RunConfig, workspace: Workspace) -> tuple[bool | None, str]:
    from fraudlab.datasets import load_transactions
    from fraudlab.splits import temporal_fold

    if _manifest(config, workspace) is None:
        return None, "not in the vault yet; the training tells"
    wanted = ["transaction_id", "event_time", config.split.entity, "is_fraud", "label_time"]
    rows = load_transactions(
        config.dataset.name, purpose=config.purpose, as_of=config.as_of_time, columns=wanted, workspace=workspace
    )
    fold = temporal_fold(rows, config.split)
    frauds = {part: int(rows["is_fraud"].iloc[getattr(fold, part)].sum()) for part in ("refit", "test")}
    return True, f"{frauds['refit']:,} known frauds to learn from, test from {fold.test_start:%Y-%m-%d}"


def _disk(config: RunConfig, workspace: Workspace) -> tuple[bool, str]:
    folder = next(path for path in (workspace.root, *workspace.root.parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    taken = [_size(path.parent) for path in state_files(workspace, config.name)]
    needed = max(LEAST_DISK, 3 * max(taken, default=0.0))
    said = f"{free / 1e9:,.1f} GB free, {needed / 1e9:,.1f} GB wanted"
    return free >= needed, said if free >= needed else f"{said}; make room: `fraudlab runs` lists what is kept"


def _size(folder: Any) -> float:
    return float(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))


def _lock(workspace: Workspace) -> tuple[bool, str]:
    if not workspace.runs.is_dir():
        return True, "no run yet"
    with project_lock(workspace):
        return True, "the lock is free"


def _registry(config: RunConfig, workspace: Workspace) -> tuple[bool, str]:
    if not has_registry(workspace):
        return True, "none yet; the retraining makes it"
    from fraudlab import serving, tracking

    asked = f"{where}; " if (where := tracking.answers(workspace)) else ""
    champion = tracking.champion(tracking.open_store(workspace), config.name)
    if champion is None:
        return True, f"{asked}readable; no champion yet"
    serving.load_package(champion["package"], digest=champion["digest"])
    return True, f"{asked}readable; the champion is version {champion['version']}, whole"


def _audit(workspace: Workspace) -> tuple[bool, str]:
    from fraudlab.privacy.auditlog import audit_log

    log = audit_log(workspace)
    if not log.path.exists():
        return True, "none yet; the retraining begins it"
    found = log.verify()
    if found.ok:
        return True, f"{found.entries:,} entries, whole"
    return False, f"{'; '.join(found.problems)}; see `fraudlab audit verify` before anything else"


def plan(config: RunConfig, workspace: Workspace, steps: list[tuple[str, str]]) -> pd.DataFrame:
    """Say how long each step is expected to take: the median of the finished runs of this name.

    Parameters
    ----------
    steps : (name, title) in their order.

    Returns
    -------
    A row per step: step, title, seconds (NaN: no run to tell from), runs (finished runs told from).
    """
    seconds: dict[str, list[float]] = {name: [] for name, _ in steps}
    for state in map(read_state, state_files(workspace, config.name)):
        for step in state.get("steps", []) if state.get("status") == "done" else []:
            if step["step"] in seconds:
                seconds[step["step"]].append(float(step["seconds"]))
    rows = [(name, title, median(seconds[name]) if seconds[name] else float("nan")) for name, title in steps]
    told = max((len(each) for each in seconds.values()), default=0)
    return pd.DataFrame(rows, columns=["step", "title", "seconds"]).assign(runs=told)
