"""Erasing customers' rows, keys and identities: the part that can be done again at any time, and is at every ingest."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd

from fraudlab.config import Workspace
from fraudlab.datasets.digest import content_digest, pseudonymised
from fraudlab.datasets.indicators import forget_unheld
from fraudlab.privacy.auditlog import AuditLog
from fraudlab.privacy.consent import EVERY_PURPOSE, Ledger
from fraudlab.privacy.identities import IdentityStore
from fraudlab.privacy.keys import Keys, open_keys
from fraudlab.privacy.vault import Kind, Vault
from fraudlab.schema import FraudlabError

CUSTOMER = "customer_id"


def erased_customers(workspace: Workspace) -> set[str]:
    """Return the pseudonyms of all customers that the ledger has erased for all purposes."""
    events = Ledger(workspace.ledger).events(purpose=EVERY_PURPOSE)
    return set(events.loc[events["event"] == "erasure", "customer"])


def replay_erasures(workspace: Workspace, *, keys: Keys | None = None) -> dict[str, Any]:
    """Apply every erasure of the ledger that the vault and the customers' keys do not reflect yet.

    That is what an erasure left to do when it was killed, and what comes back with a restored older copy. Where nothing
    is left, only a column of pseudonyms is read.

    Parameters
    ----------
    keys : those of the workspace; a restored one is opened with the keys of the present one.

    Returns
    -------
    dict: keys (how many were destroyed), data_sets {name: rows removed}, those that held rows of erased customers.

    Raises
    ------
    FraudlabError : a data set could not be freed of them, such as for want of a key; all others were.
    """
    gone = erased_customers(workspace)
    if not gone:
        return {"keys": 0, "data_sets": {}}
    keys = open_keys(workspace) if keys is None else keys
    done = remove(Vault(workspace.vault, keys), gone)
    if done["keys"] or done["data_sets"]:
        rows = sum(done["data_sets"].values())
        AuditLog(workspace.audit, keys).append("erase", replayed=True, rows=rows, keys=done["keys"])
    return done


def remove(vault: Vault, codes: Collection[str], *, scrub: bool = False) -> dict[str, Any]:
    """Destroy the keys of customers and write every data set that holds rows of them anew without these.

    Parameters
    ----------
    scrub : go over the store of keys even when none of them is left in it, as after a call that was killed.

    Returns, raises : as `replay_erasures`.
    """
    store = IdentityStore.beside(vault)
    destroyed = store.erase(codes) if scrub or store.holds(codes) else 0
    removed: dict[str, int] = {}
    failed: list[str] = []
    for dataset in vault.datasets():
        try:
            rows = _drop(vault, dataset, codes)
        except FraudlabError as error:
            failed.append(str(error))
            continue
        if rows:
            removed[dataset] = rows
    if removed:
        forget_unheld(vault)
    if failed:
        raise FraudlabError(
            "erasure: the ledger holds it, so no load returns these customers, but their rows could not be removed "
            f"from {len(failed)} data set{'s' * (len(failed) > 1)}; correct this and call it again: {'; '.join(failed)}"
        )
    return {"keys": destroyed, "data_sets": removed}


def facts_of(manifest: Mapping[str, Any], features: pd.DataFrame) -> dict[str, Any]:
    """Return what a manifest says of the rows that are left."""
    told = {"rows": len(features), "digest": content_digest(features, pseudonymised(manifest["columns"]))}
    return told | ({"last": features["event_time"].iloc[-1].isoformat()} if len(features) else {})


def keep(table: pd.DataFrame, rows: pd.Series) -> pd.DataFrame:
    """Return some rows of a table; the table itself where they are all."""
    return table if rows.all() else table[rows].reset_index(drop=True)


def _drop(vault: Vault, dataset: str, codes: Collection[str]) -> int:
    """Write a data set without the rows of some customers; return how many transactions they had."""
    there = vault.read(dataset, columns=[CUSTOMER])[CUSTOMER].isin(list(codes))
    if not there.any():
        vault.tidy(dataset)  # a killed call may have left the older version
        return 0

    def without(tables: Mapping[Kind, pd.DataFrame]) -> dict[Kind, pd.DataFrame]:
        return {kind: keep(table, ~table[CUSTOMER].isin(list(codes))) for kind, table in tables.items()}

    vault.rewrite(dataset, without, facts_of)
    return int(there.sum())
