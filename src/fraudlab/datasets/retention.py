"""How long rows may be kept: for a purpose as long as the contract says, in the vault as long as any purpose says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from fraudlab.config import Workspace
from fraudlab.datasets.erasure import CUSTOMER, facts_of, keep
from fraudlab.privacy.auditlog import audit_log
from fraudlab.privacy.identities import IdentityStore
from fraudlab.privacy.keys import open_keys
from fraudlab.privacy.vault import Kind, Vault
from fraudlab.schema import utc


def clock(manifest: Mapping[str, Any], now: pd.Timestamp | None = None) -> pd.Timestamp | None:
    """Return the moment that ages are counted to.

    `now`, else the clock's. Simulated payments concern nobody and may lie anywhere in time: their own last payment
    stands for the present, else the demo would vanish with the years; None where the manifest does not tell it.
    """
    if now is not None:
        return utc(now, "now")
    if manifest.get("known_at") is not None:
        return pd.Timestamp.now("UTC")
    return None if manifest.get("last") is None else utc(manifest["last"], "last")


def oldest_kept(manifest: Mapping[str, Any], purpose: str, now: pd.Timestamp | None = None) -> pd.Timestamp | None:
    """Return the earliest moment whose rows a purpose may see; a row of exactly that age still is. None: all.

    >>> manifest = {"known_at": "x", "purposes": {"review": {"retention_days": 2}}}
    >>> oldest_kept(manifest, "review", pd.Timestamp("2026-03-03", tz="UTC"))
    Timestamp('2026-03-01 00:00:00+0000', tz='UTC')
    """
    moment = clock(manifest, now)
    return None if moment is None else moment - pd.Timedelta(days=manifest["purposes"][purpose]["retention_days"])


def retention(
    dataset: str | None = None,
    *,
    now: pd.Timestamp | None = None,
    dry_run: bool = False,
    workspace: Workspace | None = None,
) -> pd.DataFrame:
    """Remove rows that no purpose may keep any longer, with the identity keys of customers who have no other row.

    Parameters
    ----------
    dataset : None takes all of the vault.
    now : see `clock`.
    dry_run : only tell what would go.
    workspace : default: the project around the working folder.

    Returns
    -------
    DataFrame, a row for each data set and purpose: dataset, purpose, days, oldest (its oldest row, UTC; NaT without
    rows), past (rows that this purpose no longer sees), goes (rows that leave the vault: past for every purpose).

    Raises
    ------
    InputError : no such data set, or `now` has no time zone.
    KeyUnavailableError : a key of the data set is not here; it is untouched.
    """
    workspace = workspace or Workspace.of()
    vault = Vault(workspace.vault, open_keys(workspace))
    told = []
    for name in vault.datasets() if dataset is None else [dataset]:
        manifest = vault.manifest(name)
        rows = vault.read(name, columns=["event_time", CUSTOMER])
        times = rows["event_time"]
        limits = {purpose: oldest_kept(manifest, purpose, now) for purpose in manifest["purposes"]}
        limits = {purpose: times.min() if limit is None else limit for purpose, limit in limits.items()}
        limit = min(limits.values())
        goes = int((times < limit).sum())
        for purpose, own in limits.items():
            days = manifest["purposes"][purpose]["retention_days"]
            told.append((name, purpose, days, times.min(), int((times < own).sum()), goes))
        if goes and not dry_run:
            _remove(vault, name, rows, limit)
            audit_log(workspace).append("retention", dataset=name, rows=goes, before=limit.isoformat())
    return pd.DataFrame(told, columns=["dataset", "purpose", "days", "oldest", "past", "goes"])


def _remove(vault: Vault, dataset: str, rows: pd.DataFrame, limit: pd.Timestamp) -> None:
    stay = rows["event_time"] >= limit
    gone = set(rows[CUSTOMER]) - set(rows.loc[stay, CUSTOMER])
    # Keys first: a call that is killed after the rows are gone would no longer know whose they were.
    if gone:
        IdentityStore.beside(vault).erase(gone, dataset)

    def young(tables: Mapping[Kind, pd.DataFrame]) -> dict[Kind, pd.DataFrame]:
        features = keep(tables["features"], tables["features"]["event_time"] >= limit)
        left = {kind: keep(table, table[CUSTOMER].isin(features[CUSTOMER])) for kind, table in tables.items()}
        return left | {"features": features}

    vault.rewrite(dataset, young, facts_of)
