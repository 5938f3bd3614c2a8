"""Rotation: everything a key opens comes under a new key, then the retired one is destroyed."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from fraudlab.privacy import journal
from fraudlab.privacy.identities import IDENTITY_KEY, IdentityStore
from fraudlab.privacy.keys import KeyUnavailableError
from fraudlab.privacy.vault import DamagedError, Vault
from fraudlab.schema import FraudlabError, InputError, did_you_mean

ROTATABLE = ("features", "identity", "manifest", "report-sign", journal.KEY)

_KEPT = {
    "pseudonym": "every customer would get another pseudonym, and nothing would match earlier data, models and "
    "consents; if it is known to others, remove the key, bring every source in again with `fraudlab ingest "
    "--new-pseudonyms` and tell the ledger anew",
    "audit": "the log made so far could no longer be checked; close the log, keep the key with it, and begin a new log",
}


def rotate(
    vault: Vault, name: str, *, progress: Callable[[str, int, int], None] = lambda dataset, done, rows: None
) -> dict[str, Any]:
    """Replace a key: write what it opens anew under its successor, data set by data set, then destroy it.

    Killed at any moment, everything stays readable: both keys are kept until the last data set is under the new one.
    The next call goes on where this one ended.

    Parameters
    ----------
    name : "features", "identity", "manifest", "scoring" (what live scoring remembers; nobody may score meanwhile) or
        "report-sign" (which opens nothing: only the key is replaced).
    progress : is told the data set, its rows done and its rows.

    Returns
    -------
    `name`, `id` (of the new key), `resumed` (whether an interrupted rotation was finished, so that the key is the one
    that rotation made), `data_sets` (those written anew), `states` (models whose live state was), `rows`.

    Raises
    ------
    InputError : a key that is not rotated, with what to do instead; no such key.
    KeyUnavailableError : a key that is needed is not here.
    DamagedError : a data set is not whole. Nothing was changed, or the retired key stays until the next call.
    InUseError : a state of live scoring is in use. Nothing was changed, or the retired key stays until the next call.
    FraudlabError : another rotation is going on.

    Notes
    -----
    Only the data sets of this vault are written anew. Another vault that shares the keys, and older copies of this one,
    need a backup of the keys made before.
    """
    _refuse(name)
    with _alone(vault), contextlib.ExitStack() as held:
        ids = vault.keys.ids(name)
        if not ids:
            first = "nobody has scored payments with it" if name == journal.KEY else "ingest a data set first"
            raise InputError(f"keys: there is no key '{name}' yet; {first}")
        _demand_whole(vault, name)
        states = _states(vault, held) if name == journal.KEY else {}
        with vault.nobody_writing():
            vault.keys.begin_rotation(name)
        rewritten, rows = [], 0
        for dataset in vault.datasets():
            before = vault.manifest(dataset)
            total, done = _rows(before, name), 0

            def note(more: int, dataset: str = dataset, total: int = total) -> None:
                nonlocal done
                done += more
                progress(dataset, done, total)

            if vault.rekey(dataset, name, progress=note)["keys"].get(name) != before["keys"].get(name):
                rewritten.append(dataset)
                rows += total
        if name == IDENTITY_KEY:
            IdentityStore.beside(vault).rekey()
        if name == journal.KEY:
            # Whoever began to score before the key changed holds a folder by now; who comes later has the new key.
            states |= _states(vault, held, known=states)
        renewed = [folder.name for folder, state in states.items() if state.rekey()]
        left = users(vault).keys() & set(vault.keys.ids(name)[1:])
        if left:
            raise FraudlabError(
                f"keys: {len(left)} retired key '{name}' is still in use; both stay; rotate it once more"
            )
        vault.keys.end_rotation(name)
    return {
        "name": name,
        "id": vault.keys.ids(name)[0],
        "resumed": len(ids) > 1,
        "data_sets": rewritten,
        "states": renewed,
        "rows": rows,
    }


def users(vault: Vault) -> dict[str, list[str]]:
    """Return which data sets, and which models' live states, were made with which key, by key id."""
    found: dict[str, list[str]] = {}
    for dataset in vault.datasets():
        for identity in vault.manifest(dataset)["keys"].values():
            found.setdefault(identity, []).append(dataset)
    for folder in journal.state_folders(vault.root):
        for identity in journal.made_with(folder):
            found.setdefault(identity, []).append(f"live state of {folder.name}")
    return found


def _states(vault: Vault, held: contextlib.ExitStack, known: Collection[Path] = ()) -> dict[Path, journal.Journal]:
    """Hold the states of live scoring that are not held yet; refuse those in use, and those that cannot be read."""
    found = {}
    for folder in journal.state_folders(vault.root):
        if folder not in known:
            found[folder] = held.enter_context(journal.Journal(folder, vault.keys))
            found[folder].recover()
    return found


def _refuse(name: str) -> None:
    kept = _KEPT.get(name.partition("-")[0])
    if kept is not None:
        raise InputError(f"keys: '{name}' is not rotated: {kept}")
    if name not in ROTATABLE:
        raise InputError(f"keys: no key '{name}' to rotate; {did_you_mean(name, ROTATABLE)}")


def _demand_whole(vault: Vault, name: str) -> None:
    """Refuse before anything is changed what would stop half-way."""
    ids = vault.keys.ids(name)
    store = IdentityStore.beside(vault)
    if name == IDENTITY_KEY and (lacking := store.made_with() - set(ids)):
        raise KeyUnavailableError(
            f"{store.path.name}: customers' keys are under a key '{name}' (id {', '.join(sorted(lacking))}) that is "
            "not here; nothing was changed; restore the keys from their backup, then rotate"
        )
    for dataset in vault.datasets():
        wrong = vault.damaged(dataset)
        if wrong:
            raise DamagedError(
                f"data set {dataset}: {len(wrong)} of its files are damaged ({', '.join(wrong[:3])}); nothing was "
                "changed; ingest it again or restore a backup, then rotate"
            )
        made_with = vault.manifest(dataset)["keys"].get(name)
        if made_with not in (None, *ids):
            raise KeyUnavailableError(
                f"data set {dataset}: was made with a key '{name}' (id {made_with}) that is not here; nothing was "
                "changed; restore the keys from their backup, or ingest it again with --force, then rotate"
            )


def _rows(manifest: dict[str, Any], name: str) -> int:
    return sum(part["files"][name]["rows"] for part in manifest["parts"] if name in part["files"])


@contextlib.contextmanager
def _alone(vault: Vault) -> Iterator[None]:
    """Hold the vault's rotation lock; the system releases it when a process dies."""
    vault.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    with os.fdopen(os.open(vault.root / ".rotation", os.O_WRONLY | os.O_CREAT, 0o600), "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FraudlabError("keys: another rotation is going on; wait until it has ended") from None
        yield
