"""A snapshot: a folder that holds one consistent state of a workspace, and the manifest that says what is in it.

Others may write meanwhile. Databases are copied through SQLite's backup API in one step, data sets of the vault as the
version that their manifest names, what live scoring remembers as its newest snapshot and the journal so far. What
belongs together is taken in the order that keeps it whole: what live scoring remembers before the ledger, the ledger
before the vault, the vault before its customers' keys, MLflow's database before its artifacts, the audit log's anchor
before the log.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd

import fraudlab
from fraudlab.config import Workspace
from fraudlab.privacy import journal
from fraudlab.privacy.auditlog import audit_log
from fraudlab.privacy.keys import open_keys
from fraudlab.privacy.sharing import FOLDER as SHARING
from fraudlab.privacy.vault import Vault
from fraudlab.schema import FraudlabError, InputError
from fraudlab.tracking_place import SETTINGS

FORMAT = 1
MANIFEST = "manifest.json"
_VAULT = Path("data") / "vault"
_WORK = ".fraudlab-work-"
_TRIES = 20
_WAIT_SECONDS = 60


def stage(workspace: Workspace, folder: Path, *, runs: bool = False, reports: bool = False) -> dict[str, Any]:
    """Copy one consistent state of a workspace into a folder and return its manifest.

    Parameters
    ----------
    folder : a new one, on a disk of this machine; it holds pseudonymised data in clear databases.
    runs, reports : take these folders too; MLflow's artifacts already hold each run's evidence, notebooks and report.

    Returns
    -------
    dict, ready for JSON: format, created (ISO, UTC), fraudlab (version), files {path: {sha256, bytes}},
    tables {database: {table: rows}}, data_sets {name: {version, keys, rows: {kind: rows}}}, states {model: ids of the
    keys that open what its live scoring remembers}, anchor (of the audit log; None without a log).

    Raises
    ------
    InputError : there is nothing to back up.
    FraudlabError : a database or a data set here is damaged, so that this would be no backup of it.
    """
    created = pd.Timestamp.now("UTC").isoformat(timespec="seconds")
    tables: dict[str, dict[str, int]] = {}

    def take_database(path: Path) -> None:
        if path.is_file():
            name = path.relative_to(workspace.root).as_posix()
            _copy_database(path, folder / name)
            tables[name] = _counts(folder / name)

    make_folder(folder)
    # What it had heard of the ledger is in the ledger's copy then, so that a restored state lets go of whom came later.
    states = _copy_states(workspace, folder)
    # An erasure recorded while the vault is copied must look newer than the backup, so that it is replayed.
    take_database(workspace.ledger)
    data_sets = _copy_vault(Vault(workspace.vault, open_keys(workspace)), folder / _VAULT)
    # Ingest makes a customer's key before the table that needs it.
    take_database(workspace.identities)
    # Every model the database names has its files by then.
    take_database(workspace.mlruns / "mlflow.db")
    trees = [workspace.mlruns / "artifacts", workspace.lineage, workspace.root / "configs"]
    trees += [workspace.root / "data" / SHARING]
    trees += [workspace.runs] * runs + [workspace.reports] * reports
    for tree in trees:
        _copy_tree(tree, folder / tree.relative_to(workspace.root))
    if (workspace.root / SETTINGS).is_file():  # where the team keeps runs and models, which has backups of its own
        _copy(workspace.root / SETTINGS, folder / SETTINGS)
    anchor = audit_log(workspace).anchor() if workspace.audit.is_file() else None
    take_database(workspace.audit)
    files = digests(folder)
    if not files:
        raise InputError("backup: this project holds nothing to back up yet; run `fraudlab ingest` first")
    manifest = {
        "format": FORMAT,
        "created": created,
        "fraudlab": fraudlab.__version__,
        "files": files,
        "tables": tables,
        "data_sets": data_sets,
        "states": states,
        "anchor": anchor,
    }
    if problems := check(folder, manifest):
        raise FraudlabError(f"backup: nothing was written, because {problems[0]}; repair it here first")
    return manifest


def check(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Open what a snapshot holds and compare it with its manifest; return a sentence for each thing that is wrong.

    Every database passes SQLite's integrity check and holds the stated rows; every data set's own manifest names the
    stated rows and the files that are there. No key is needed; the digests of the files are for others to check.
    """
    problems = []
    for name, stated in manifest["tables"].items():
        try:
            found = _counts(folder / name, thorough=True)
        except sqlite3.Error as error:
            problems.append(f"{name} is damaged ({error})")
            continue
        problems += [
            f"{name}: table {table} must hold {stated.get(table, 0):,} rows; found {found.get(table, 0):,}"
            for table in sorted({*stated, *found})
            if stated.get(table) != found.get(table)
        ]
    for name, facts in manifest["data_sets"].items():
        held = json.loads((folder / _VAULT / name / MANIFEST).read_bytes())
        if (rows := _rows(held)) != facts["rows"]:
            problems.append(f"data set {name}: must hold {facts['rows']}; found {rows}")
        for part in held["parts"]:
            for entry in part["files"].values():
                path = (_VAULT / name / entry["path"]).as_posix()
                if manifest["files"].get(path, {}).get("sha256") != entry["sha256"]:
                    problems.append(f"data set {name}: the file {entry['path']} is not the one its manifest names")
    return problems


def opened_by_check(manifest: Mapping[str, Any]) -> set[str]:
    """Return the paths of the files that `check` opens."""
    return {*manifest["tables"], *((_VAULT / name / MANIFEST).as_posix() for name in manifest["data_sets"])}


def digests(folder: Path) -> dict[str, dict[str, Any]]:
    """Return {path: {sha256, bytes}} of all files below a folder, in the order of their paths."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found[path.relative_to(folder).as_posix()] = {"sha256": digest, "bytes": path.stat().st_size}
    return found


@contextlib.contextmanager
def work_folder(parent: Path) -> Iterator[Path]:
    """Give a private folder (0700) that is gone afterwards; what a killed process left there is removed first."""
    make_folder(parent)
    for left in parent.glob(f"{_WORK}*"):
        _remove_dead(left)
    folder, handle = _claimed(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it that are missing, for their owner only (0700)."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)


def private_file(path: Path) -> BinaryIO:
    """Open a new file for writing that only its owner can read (0600)."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _claimed(parent: Path) -> tuple[Path, int]:
    """Make a work folder and lock it: the lock says that its owner lives; the system lets go of it with the owner."""
    while True:
        folder = parent / f"{_WORK}{secrets.token_hex(8)}"
        folder.mkdir(mode=0o700)
        with contextlib.suppress(FileNotFoundError):
            handle = os.open(folder, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX)
            if folder.is_dir():  # else taken for dead before it was locked
                return folder, handle
            os.close(handle)


def _remove_dead(folder: Path) -> None:
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(handle)


def _copy_database(path: Path, target: Path) -> None:
    """Copy a database as it is at one moment, in one step, whoever writes to it."""
    make_folder(target.parent)
    private_file(target).close()
    address = f"{path.resolve().as_uri()}?mode=ro"
    try:
        with (
            contextlib.closing(sqlite3.connect(address, uri=True, timeout=_WAIT_SECONDS)) as source,
            contextlib.closing(sqlite3.connect(target)) as copy,
        ):
            source.backup(copy)
    except sqlite3.Error as error:
        raise FraudlabError(
            f"backup: nothing was written, because {path.name} could not be copied ({error}); repair it, or make room"
        ) from None


def _counts(path: Path, *, thorough: bool = False) -> dict[str, int]:
    """Return the rows of every table of a database that nobody writes to; `thorough` checks all its pages first."""
    # Immutable: no side file is made, and none is looked for.
    with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as database:
        if thorough and (said := database.execute("PRAGMA integrity_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(said)
        names = database.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").fetchall()
        return {
            name: database.execute('SELECT count(*) FROM "{}"'.format(name.replace('"', '""'))).fetchone()[0]
            for (name,) in names
        }


def _copy_vault(vault: Vault, target: Path) -> dict[str, dict[str, Any]]:
    """Copy every data set as one version; a data set that is replaced meanwhile is taken again, as the new one."""
    copied = {}
    for name in vault.datasets():
        manifest = _copy_data_set(vault, name, target / name)
        copied[name] = {"version": manifest["version"], "keys": manifest["keys"], "rows": _rows(manifest)}
    return copied


def _copy_data_set(vault: Vault, name: str, target: Path) -> dict[str, Any]:
    sealed = vault.root / name / MANIFEST
    for _ in range(_TRIES):
        before = sealed.read_bytes()
        manifest = vault.manifest(name)
        make_folder(target)
        try:
            for part in manifest["parts"]:
                for entry in part["files"].values():
                    make_folder((target / entry["path"]).parent)
                    _take(vault.root / name / entry["path"], target / entry["path"])
        except FileNotFoundError:
            missing = entry["path"]
        else:
            missing = None
        if missing is None and sealed.read_bytes() == before:
            with private_file(target / MANIFEST) as file:
                file.write(before)
            return manifest
        shutil.rmtree(target)
        if missing is not None and sealed.read_bytes() == before:
            raise FraudlabError(
                f"backup: nothing was written, because data set {name} lacks the file {missing}; ingest it again or "
                "restore an earlier backup"
            )
    raise FraudlabError(f"backup: data set {name} was replaced {_TRIES} times while it was copied; try again later")


def _copy_states(workspace: Workspace, folder: Path) -> dict[str, list[str]]:
    """Copy what live scoring remembers of each model, whether or not it is at work; return the keys that open it.

    A snapshot never changes once it has its name, and a journal only grows: its copy ends where a crash at that moment
    would have ended it.
    """
    copied = {}
    for source in journal.state_folders(workspace.vault):
        target = folder / source.relative_to(workspace.root)
        for _ in range(_TRIES):
            files = journal.newest_files(source)
            if not files:
                break
            make_folder(target)
            with contextlib.suppress(FileNotFoundError):  # else a newer snapshot has come meanwhile
                _take(files[0], target / files[0].name)
                for file in files[1:]:
                    _copy(file, target / file.name)
                copied[source.name] = sorted(journal.made_with(target))
                break
            shutil.rmtree(target)
        else:
            raise FraudlabError(f"backup: the live state of {source.name} was replaced {_TRIES} times; try again later")
    return copied


def _take(source: Path, target: Path) -> None:
    """Give a file of the vault a second name; copy it where the disks differ. What is written there never changes."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        _copy(source, target)


def _copy_tree(source: Path, target: Path) -> None:
    """Copy the files below a folder; links are left out, and so is what is removed meanwhile."""
    for path in _regular(source.rglob("*")):
        copy = target / path.relative_to(source)
        make_folder(copy.parent)
        with contextlib.suppress(FileNotFoundError):
            _copy(path, copy)


def _regular(paths: Iterable[Path]) -> Iterator[Path]:
    return (path for path in paths if path.is_file() and not path.is_symlink())


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as reading, private_file(target) as writing:
        shutil.copyfileobj(reading, writing, 1 << 20)


def _rows(manifest: Mapping[str, Any]) -> dict[str, int]:
    """Return the rows of a data set by kind of table, as its own manifest states them."""
    rows: dict[str, int] = {}
    for part in manifest["parts"]:
        for kind, entry in part["files"].items():
            rows[kind] = rows.get(kind, 0) + entry["rows"]
    return rows
