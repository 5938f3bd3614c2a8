"""The drill: restore a backup where nobody sees it, load and score there, compare with here, take it away again."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fraudlab import tracking
from fraudlab.backup import recovery, snapshot
from fraudlab.config import Workspace
from fraudlab.datasets import load_transactions
from fraudlab.privacy.auditlog import AuditLog
from fraudlab.privacy.keys import open_keys
from fraudlab.privacy.vault import Vault
from fraudlab.schema import FraudlabError
from fraudlab.serving import Package, load_package

GOLDEN_ROWS = 500
_SEED = 20260101


@dataclass(frozen=True)
class _Restored(Workspace):
    """A restored folder that is opened with the keys of the present workspace."""

    present: Workspace

    @property
    def keys(self) -> Path:
        """The present key directory."""
        return self.present.keys


def drill(source: recovery.Source, workspace: Workspace) -> pd.DataFrame:
    """Rehearse recovery: restore, load every data set, score with every champion, compare; note how it went.

    Parameters
    ----------
    source : the backup; `recovery.newest` finds the newest one.
    workspace : the present one, with the keys. Nothing in it is changed but the notes of loads and of the drill.

    Returns
    -------
    DataFrame: step, ok, found (a clause), seconds. A step that fails has the reason in `found`; the drill is red when
    one does. The restored folder is removed whatever happens.

    Notes
    -----
    Where data set or champion here are the ones in the backup, rows and scores must be the same, to the last bit.
    Where they are newer, the rows must be those the backup's own manifest states, and the scores finite.
    """
    began = time.perf_counter()
    rows: list[dict[str, Any]] = []
    with snapshot.work_folder(recovery.backups_folder(workspace)) as work:
        restored = _Restored(work / "restored", workspace)
        manifest: dict[str, Any] = {"data_sets": {}, "anchor": None}
        replayed: dict[str, Any] = {}
        with _step(rows, "restore and verify") as found:
            manifest, replayed = recovery.rebuild(source, restored.root, workspace)
            found.append(f"{len(manifest['files']):,} files as written")
        for name, held in manifest["data_sets"].items():
            with _step(rows, f"load {name}") as found:
                found.append(_loaded(name, held, replayed["data_sets"].get(name, 0), restored, workspace))
        if manifest["anchor"] is not None:
            with _step(rows, "audit log") as found:
                found.append(_audited(restored, manifest["anchor"]))
        for name in _champions(restored):
            with _step(rows, f"score with {name}") as found:
                found.append(_scored(name, restored, workspace))
    table = pd.DataFrame(rows, columns=["step", "ok", "found", "seconds"])
    recovery.remember_drill(workspace, source, ok=bool(table["ok"].all()), seconds=time.perf_counter() - began)
    return table


def golden_rows(features: tuple[str, ...]) -> pd.DataFrame:
    """Return invented feature rows, the same on every machine, a tenth of the values missing; no customer is in them.

    >>> golden_rows(("amount",)).shape, golden_rows(("amount",)).equals(golden_rows(("amount",)))
    ((500, 1), True)
    """
    dice = np.random.default_rng(_SEED)
    values = dice.lognormal(2, 2, (GOLDEN_ROWS, len(features)))
    values[dice.random(values.shape) < 0.1] = np.nan
    return pd.DataFrame(values, columns=list(features))


@contextmanager
def _step(rows: list[dict[str, Any]], name: str) -> Iterator[list[str]]:
    """Time a step of the drill; a failure fraudlab has a sentence for makes it red, and the drill goes on."""
    began, found, ok = time.perf_counter(), [], True
    try:
        yield found
    except FraudlabError as error:
        found[:], ok = [str(error)], False
    rows.append({"step": name, "ok": ok, "found": " ".join(found), "seconds": time.perf_counter() - began})


def _loaded(name: str, held: Mapping[str, Any], erased: int, restored: Workspace, present: Workspace) -> str:
    """Load a data set from the restored vault and compare its rows; say what was found, or refuse."""
    purpose = next(iter(Vault(restored.vault, open_keys(present)).manifest(name)["purposes"]))
    there = load_transactions(name, purpose=purpose, workspace=restored)
    counted = len(there) + there.attrs["left_out"]["rows"] + there.attrs["past_retention"]
    stated = held["rows"]["features"] - erased
    if counted != stated:
        raise FraudlabError(f"{counted:,} rows, but there must be {stated:,}; take another backup")
    said = f"{len(there):,} rows"
    if _version(present, name) != held["version"]:
        return f"{said}, as it states; the data set here is another version"
    here = load_transactions(name, purpose=purpose, workspace=present)
    if not here.equals(there):
        raise FraudlabError(f"{said} there, {len(here):,} here, and they are not the same; take another backup")
    return f"{said}, the same as here"


def _version(workspace: Workspace, name: str) -> str | None:
    """Return the version of a data set here; None where there is none that can be read."""
    try:
        return Vault(workspace.vault, open_keys(workspace)).manifest(name)["version"]
    except FraudlabError:
        return None


def _audited(restored: Workspace, anchor: dict[str, Any]) -> str:
    found = AuditLog(restored.audit, open_keys(restored)).verify(anchor)
    if not found.ok:
        raise FraudlabError("; ".join(found.problems))
    return f"{found.entries:,} entries, fit the anchor of {anchor['time'][:10]}"


def _champions(workspace: Workspace) -> list[str]:
    """Return the registered models that have a champion."""
    if not tracking.has_registry(workspace):
        return []
    client = tracking.open_store(workspace)
    names = tracking.models_table(client)["name"].unique()
    return [name for name in names if tracking.champion(client, name) is not None]


def _scored(name: str, restored: Workspace, present: Workspace) -> str:
    """Score the golden rows with the restored champion and with the present one; say what was found, or refuse."""
    champion = tracking.champion(tracking.open_store(restored), name)
    package = load_package(champion["package"], digest=champion["digest"])
    there = _scores(package)
    said = f"version {champion['version']}, {len(there):,} golden rows"
    if not np.isfinite(there["score"]).all():
        raise FraudlabError(f"{said}: scores are not finite; register the model again")
    here = tracking.champion(tracking.open_store(present), name) if name in _champions(present) else None
    if here is None or here["version"] != champion["version"]:
        return f"{said}; the champion here is another version"
    if not _scores(load_package(here["package"], digest=here["digest"])).equals(there):
        raise FraudlabError(f"{said}: the same version scores otherwise here; find out which one was changed")
    return f"{said}, scored the same as here"


def _scores(package: Package) -> pd.DataFrame:
    return package.score(golden_rows(package.features), reasons=False)[["score", "risk"]]
