"""Make, verify and restore backups, and remember how the last one did."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from fraudlab.backup import archive, snapshot
from fraudlab.backup.restic import Repository
from fraudlab.backup.sealed import DamagedBackupError
from fraudlab.config import Workspace
from fraudlab.datasets import corrections, erasure
from fraudlab.privacy.auditlog import audit_log
from fraudlab.privacy.consent import Ledger
from fraudlab.privacy.identities import IdentityStore
from fraudlab.privacy.journal import KEY as STATE_KEY
from fraudlab.privacy.keys import Keys, KeyUnavailableError, open_keys, sync_folder, write_private
from fraudlab.privacy.sharing import Sharing
from fraudlab.privacy.vault import Vault
from fraudlab.schema import FraudlabError, InputError
from fraudlab.scoring.rights import let_go
from fraudlab.tracking_place import UnreachableError

SUFFIX = ".flbk"
Source = Path | Repository


def backups_folder(workspace: Workspace) -> Path:
    """Return where a workspace's own archives lie."""
    return workspace.root / "backups"


def create(
    workspace: Workspace,
    *,
    out: Path | None = None,
    repository: Repository | None = None,
    runs: bool = False,
    reports: bool = False,
) -> dict[str, Any]:
    """Back up a workspace while others work in it; a call killed at any moment leaves nothing that looks like a backup.

    Parameters
    ----------
    out : the new archive. Default: `backups/<UTC time>.flbk` in the workspace.
    repository : a restic repository instead of an archive.
    runs, reports : take these folders too.

    Returns
    -------
    backup (path, or restic's id), tool ("own archive" or "restic"), created (ISO, UTC), data_sets {name: {kind: rows}},
    tables, files (count), bytes (of the content), size (of the archive in bytes; None with restic), seconds.

    Raises
    ------
    InputError : there is nothing to back up, or `out` exists.
    FraudlabError : something here is damaged, the disk is full, or restic failed; nothing was written.
    """
    began = time.perf_counter()
    target = None
    if repository is None:
        target = out if out is not None else backups_folder(workspace) / f"{_stamp()}{SUFFIX}"
        if target.exists():
            raise InputError(f"out: {target} exists, and a backup replaces nothing; choose another name")
    try:
        manifest, made = _made(workspace, target, repository, runs=runs, reports=reports)
    except OSError as error:
        raise FraudlabError(
            f"backup: {target or 'the snapshot'} could not be written ({error.strerror or error}); nothing is left "
            "of it; make room, or name another place with --out"
        ) from None
    facts = {
        "backup": made,
        "tool": "own archive" if repository is None else "restic",
        "created": manifest["created"],
        "data_sets": {name: held["rows"] for name, held in manifest["data_sets"].items()},
        "tables": manifest["tables"],
        "files": len(manifest["files"]),
        "bytes": sum(file["bytes"] for file in manifest["files"].values()),
        "size": None if target is None else target.stat().st_size,
        "seconds": time.perf_counter() - began,
    }
    name = (repository or target).name
    _remember(workspace, backup=name, created=facts["created"], tool=facts["tool"], verified=None, ok=True)
    audit_log(workspace).append("backup", backup=name, tool=facts["tool"], files=facts["files"])
    return facts


def _made(
    workspace: Workspace, target: Path | None, repository: Repository | None, **also: bool
) -> tuple[dict[str, Any], str]:
    """Stage a snapshot and write it to its place; return its manifest and what to call the backup."""
    # Staged here and never beside the target, which may be on a disk that knows no file rights.
    with snapshot.work_folder(backups_folder(workspace)) as work:
        staged = work / "snapshot"
        manifest = snapshot.stage(workspace, staged, **also)
        if target is None:
            write_private(staged / snapshot.MANIFEST, json.dumps(manifest, indent=1).encode())
            return manifest, repository.backup(staged, manifest["created"])
        with snapshot.work_folder(target.parent) as building:
            archive.pack(staged, manifest, building / "sealed", open_keys(workspace))
            os.rename(building / "sealed", target)
        sync_folder(target.parent)
        return manifest, str(target)


def verify(source: Source, workspace: Workspace) -> dict[str, Any]:
    """Read and decrypt all of a backup, recompute every digest, open every database, compare every count; note it.

    Parameters
    ----------
    source : an archive, or a restic repository: all its data are read, and its newest snapshot is opened.
    workspace : whose key `backup` opens it, and where the result is noted.

    Returns
    -------
    backup (its name), ok, problems (a sentence each), created (None where it could not be read), files, bytes, seconds.

    Raises
    ------
    InputError, KeyUnavailableError : there is no such backup, or its key is not here; this says nothing about it.
    """
    began = time.perf_counter()
    manifest: Mapping[str, Any] = {}
    problems = []
    if isinstance(source, Repository) and (said := source.check()) is not None:
        problems.append(said)
    else:
        with snapshot.work_folder(backups_folder(workspace)) as work:
            try:
                manifest = _opened(source, open_keys(workspace), work, whole=False)
            except DamagedBackupError as error:
                problems.append(str(error))
    name, moment = source.name, _now()
    last = backup_state(workspace)
    of_last = {}
    if last.get("backup") in (None, name):
        of_last = {"backup": name, "created": manifest.get("created", last.get("created", moment)), "ok": not problems}
        of_last |= {} if problems else {"verified": moment}
    _remember(workspace, **of_last, last_check={"backup": name, "at": moment, "ok": not problems, "problems": problems})
    return {
        "backup": name,
        "ok": not problems,
        "problems": problems,
        "created": manifest.get("created"),
        "files": len(manifest.get("files", {})),
        "bytes": sum(file["bytes"] for file in manifest.get("files", {}).values()),
        "seconds": time.perf_counter() - began,
    }


def restore(source: Source, into: Path, workspace: Workspace, *, force: bool = False) -> dict[str, Any]:
    """Put a backup into a new folder, verified while it is written, all of it or nothing; then replay what came later.

    Erasures and corrections that the backup does not know are done again, and the models that learnt otherwise are
    marked as due.

    Parameters
    ----------
    into : a folder that is empty or not there yet; `FRAUDLAB_HOME` can name it afterwards.
    workspace : the present one: its keys open the backup, its ledger says what the backup does not know.
    force : a folder with content is renamed to `<name>.before-<UTC time>` first; nothing is ever removed.

    Returns
    -------
    backup, into, aside (where the older content is now; None), created, files, bytes, keys {name: {id that the data
    sets and live states need: whether it is here}}, replayed (see `replay_rights`), due (model versions to be trained
    again; see `fraudlab.tracking.mark_retrain_due`), seconds.

    Raises
    ------
    InputError : no such backup; `into` has content, or holds the present workspace or its keys.
    KeyUnavailableError : the backup's key is not here.
    DamagedBackupError : the backup is not as written; `into` is untouched.
    """
    began = time.perf_counter()
    into = into.absolute()
    _refuse_target(into, workspace, force=force)
    with snapshot.work_folder(into.parent) as work:
        manifest, replayed = rebuild(source, work / "content", workspace)
        aside = _put(work / "content", into)
    name = source.name
    audit_log(workspace).append("restore", backup=name, events=replayed["events"], files=len(manifest["files"]))
    keys, needed = open_keys(workspace), {}
    # Not before the folder has its name: MLflow's database keeps absolute paths.
    due = _retrain_due(Workspace(into))
    pairs = [pair for held in manifest["data_sets"].values() for pair in held["keys"].items()]
    # Backups from before live scoring was part of them say nothing of it.
    pairs += [(STATE_KEY, identity) for ids in manifest.get("states", {}).values() for identity in ids]
    for key, identity in pairs:
        needed.setdefault(key, {})[identity] = identity in keys.ids(key)
    return {
        "backup": name,
        "into": str(into),
        "aside": None if aside is None else str(aside),
        "created": manifest["created"],
        "files": len(manifest["files"]),
        "bytes": sum(file["bytes"] for file in manifest["files"].values()),
        "keys": needed,
        "replayed": replayed,
        "due": due,
        "seconds": time.perf_counter() - began,
    }


def _retrain_due(workspace: Workspace) -> list[dict[str, Any]]:
    """Mark the models of a restored workspace that learnt from who was erased or corrected since; return them."""
    if not workspace.lineage.is_dir():
        return []
    from fraudlab.tracking import mark_retrain_due  # brings MLflow, which nothing else here needs

    # A restore may be what an outage calls for: a team's database that is away is told by the next retraining.
    with contextlib.suppress(UnreachableError):
        return mark_retrain_due(workspace)
    return []


def rebuild(source: Source, folder: Path, workspace: Workspace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write a backup into a new folder, verified, its ledger brought up to date; return manifest and what was replayed.

    Raises
    ------
    InputError, KeyUnavailableError, DamagedBackupError : as for `restore`; what was written is the caller's to remove.
    """
    snapshot.make_folder(folder)
    manifest = _opened(source, open_keys(workspace), folder)
    return manifest, replay_rights(workspace, Workspace(folder))


def replay_rights(from_workspace: Workspace, into_workspace: Workspace) -> dict[str, Any]:
    """Bring newer events and corrections into a restored workspace; erase, correct and revoke there what came back.

    Parameters
    ----------
    from_workspace : the present one, with its keys.
    into_workspace : the restored one. An event that is there already is not added again.

    Returns
    -------
    events (how many were brought over), keys (customers' keys destroyed again), data_sets {name: rows removed again},
    corrected {name: corrections put in again}, states {model: what became of its live state, see
    `fraudlab.scoring.rights.let_go`}, revoked (ids of other institutions' sets that were let go of again), left ("" or
    the sentence that says what could not be done, such as for want of a key; loads leave the erased out anyway, because
    they heed the ledger).
    """
    present, restored = Ledger(from_workspace.ledger), Ledger(into_workspace.ledger)
    added, done, corrected, states, revoked, left = 0, {"keys": 0, "data_sets": {}}, {}, {}, [], ""
    keys = open_keys(from_workspace)
    if present.path.is_file():
        with tempfile.TemporaryDirectory() as folder:
            present.export_csv(Path(folder) / "ledger.csv")
            added = restored.import_csv(Path(folder) / "ledger.csv")["added"]
    try:
        done = erasure.replay_erasures(into_workspace, keys=keys)
        corrections.bring_over(IdentityStore(from_workspace.identities, keys), Vault(into_workspace.vault, keys))
        corrected = corrections.replay_corrections(into_workspace, keys=keys)
        states = let_go(into_workspace, keys=keys)
        shared = Sharing.beside(Vault(from_workspace.vault, keys)).revoked()
        revoked = Sharing.beside(Vault(into_workspace.vault, keys)).revoke_as(shared)
    except FraudlabError as error:
        left = str(error)
    told = {"events": added, **done, "corrected": corrected, "states": states}
    return told | {"revoked": revoked, "left": left}


def newest(workspace: Workspace) -> Path:
    """Return the newest archive in the workspace's own folder."""
    found = sorted(backups_folder(workspace).glob(f"*{SUFFIX}"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    if not found:
        raise InputError("backup: there is none in backups/ yet; run `fraudlab backup create`")
    return found[-1]


def backups_table(workspace: Workspace, repository: Repository | None = None) -> pd.DataFrame:
    """List backups, newest first.

    Returns
    -------
    DataFrame: backup, created (ISO, UTC), megabytes (NaN with restic), checked ("" for never, else "good" or "bad" and
    the day, of the last one that was verified).
    """
    if repository is not None:
        rows = [(each["id"][:8], each["time"], float("nan"), "") for each in repository.snapshots()]
        return pd.DataFrame(rows[::-1], columns=["backup", "created", "megabytes", "checked"])
    last = backup_state(workspace).get("last_check", {})
    rows = []
    for path in sorted(backups_folder(workspace).glob(f"*{SUFFIX}"), key=lambda path: path.name, reverse=True):
        checked = f"{'good' if last['ok'] else 'bad'}, {last['at'][:10]}" if last.get("backup") == path.name else ""
        try:
            created = archive.manifest_in(path, open_keys(workspace))["created"]
        except (DamagedBackupError, KeyUnavailableError, InputError):
            created = "cannot be opened"
        rows.append((path.name, created, path.stat().st_size / 1e6, checked))
    return pd.DataFrame(rows, columns=["backup", "created", "megabytes", "checked"])


def backup_state(workspace: Workspace) -> dict[str, Any]:
    """Return what is known of the last backup; nothing when there was none.

    Returns
    -------
    backup, created, tool, ok (False once a check failed), verified (ISO moment of the last check that passed, or None),
    last_check {backup, at, ok, problems}, last_drill {backup, at, ok, seconds}; those that apply.
    """
    path = _state_path(workspace)
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def remember_drill(workspace: Workspace, source: Source, *, ok: bool, seconds: float) -> None:
    """Note how a drill ended; one that failed says that the backup is not good."""
    name, moment = source.name, _now()
    of_last = {}
    if backup_state(workspace).get("backup") == name:
        of_last = {"ok": True, "verified": moment} if ok else {"ok": False}
    _remember(workspace, **of_last, last_drill={"backup": name, "at": moment, "ok": ok, "seconds": round(seconds, 1)})
    audit_log(workspace).append("drill", backup=name, ok=ok, seconds=round(seconds, 1))


def _opened(source: Source, keys: Keys, folder: Path, *, whole: bool = True) -> dict[str, Any]:
    """Write a backup's content into a folder, all checked; return its manifest. Not `whole`: only what is opened."""
    if isinstance(source, Repository):
        source.restore(folder)
        manifest = _restored_manifest(source, folder)
    else:
        names = None if whole else snapshot.opened_by_check(archive.manifest_in(source, keys))
        manifest = archive.unpack(source, keys, folder, wanted=lambda name: names is None or name in names)
    if problems := snapshot.check(folder, manifest):
        raise DamagedBackupError(f"backup {source.name}: {'; '.join(problems)}; take another backup")
    return manifest


def _restored_manifest(source: Repository, folder: Path) -> dict[str, Any]:
    """Return the manifest in a folder that restic wrote, once every file there has the digest that it states."""
    path = folder / snapshot.MANIFEST
    if not path.is_file():
        raise DamagedBackupError(f"backup {source.name}: its newest snapshot holds no manifest; take another snapshot")
    manifest = json.loads(path.read_bytes())
    path.unlink()
    found = snapshot.digests(folder)
    wrong = sorted(name for name in {*found, *manifest["files"]} if found.get(name) != manifest["files"].get(name))
    if wrong:
        raise DamagedBackupError(f"backup {source.name}: not as written: {', '.join(wrong)}; take another snapshot")
    return manifest


def _refuse_target(into: Path, workspace: Workspace, *, force: bool) -> None:
    for what, path in (("the present workspace", workspace.root), ("the keys", workspace.keys)):
        if path.resolve().is_relative_to(into.resolve()):
            raise InputError(
                f"into: {into} holds {what}, which a restore must not move; choose a new folder, and name it in "
                "FRAUDLAB_HOME afterwards"
            )
    if into.exists() and not into.is_dir():
        raise InputError(f"into: {into} is a file; choose a new folder")
    if into.is_dir() and any(into.iterdir()) and not force:
        raise InputError(
            f"into: {into} is not empty; choose a new folder, or --force, which renames this one and keeps it"
        )


def _put(content: Path, into: Path) -> Path | None:
    """Rename a finished folder into its place, an older one aside; return where that is."""
    aside = None
    if into.is_dir() and any(into.iterdir()):
        aside = into.with_name(f"{into.name}.before-{_stamp()}")
        os.rename(into, aside)
    try:
        os.rename(content, into)
    except BaseException:
        if aside is not None:
            os.rename(aside, into)
        raise
    sync_folder(into.parent)
    return aside


def _state_path(workspace: Workspace) -> Path:
    return workspace.root / "data" / "backup.json"


def _remember(workspace: Workspace, **facts: Any) -> None:
    path = _state_path(workspace)
    snapshot.make_folder(path.parent)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        write_private(fresh, json.dumps(backup_state(workspace) | facts, indent=1).encode() + b"\n")
        os.replace(fresh, path)
    finally:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)


def _stamp() -> str:
    """Return the present moment as a part of a file's name."""
    return f"{pd.Timestamp.now('UTC'):%Y-%m-%dT%H-%M-%S-%fZ}"


def _now() -> str:
    return pd.Timestamp.now("UTC").isoformat(timespec="seconds")
