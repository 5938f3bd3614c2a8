"""What a customer may ask for: to be erased (GDPR Art. 17); access, rectify and retention have modules of their own.

Erasing destroys the customer's key, so that every copy of the raw identity becomes unreadable, and writes the vault
anew without the customer's rows. The ledger keeps the pseudonym: without it nobody could tell, after an older backup is
restored or the source brings the customer again, who must stay erased.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from fraudlab.config import Workspace
from fraudlab.datasets.access import access, access_page
from fraudlab.datasets.customers import customer_codes
from fraudlab.datasets.erasure import erased_customers, remove, replay_erasures
from fraudlab.datasets.rectify import end_rectification, rectify
from fraudlab.datasets.retention import retention
from fraudlab.privacy import lineage
from fraudlab.privacy.auditlog import audit_log
from fraudlab.privacy.consent import EVERY_PURPOSE, Ledger
from fraudlab.privacy.keys import open_keys
from fraudlab.privacy.vault import Vault
from fraudlab.schema import InputError

__all__ = ["access", "access_page", "end_rectification", "erase", "rectify", "replay_erasures", "retention"]

ROWS_WITHOUT_NAMES = ("alerts.json", "dependence.csv")
"""Evidence of a run that shows single payments, without any identifier; nobody can tell whose they were."""


def erase(
    dataset: str, customers: str | Iterable[str], *, source: str, workspace: Workspace | None = None
) -> dict[str, Any]:
    """Erase customers: no load returns them from the first step on, and in the end their rows and keys are gone.

    A pseudonym means the same customer in every data set, so all data sets of the vault are freed of it. Killed at any
    moment, the same call completes what was begun.

    Parameters
    ----------
    dataset : the one that knows the customers; says how their references are normalised.
    customers : references as the source writes them, or pseudonyms; one, or several for a single pass over the vault.
    source : how the request came in, such as "letter of 2026-03-01"; no name, address or number of a person.
    workspace : default: the project around the working folder.

    Returns
    -------
    dict: customers (pseudonyms), events (numbers in the ledger), already (how many were recorded before), keys (how
    many were destroyed), data_sets {name: transactions removed}, models [(name, version)] that were trained on any of
    them (`fraudlab.tracking.mark_retrain_due` marks these), runs (names of run folders whose evidence shows single
    payments without identifiers, which may be theirs: these, their reports and MLflow's copies are not touched).

    Raises
    ------
    InputError : a reference is empty or unknown, or `source` breaks a rule of the ledger; nothing was done.
    KeyUnavailableError : a reference needs the key `pseudonym`, which is not here; nothing was done.
    FraudlabError : a data set could not be freed of them. The ledger holds the erasure, so no load returns them; call
        it again once what the message names is mended.
    """
    workspace = workspace or Workspace.of()
    codes = _known(dataset, [customers] if isinstance(customers, str) else list(customers), workspace)
    ledger = Ledger(workspace.ledger)
    before = erased_customers(workspace)
    fresh = [code for code in codes if code not in before]
    for code in fresh:
        ledger.record(code, EVERY_PURPOSE, "erasure", source=source)
    removed = remove(Vault(workspace.vault, open_keys(workspace)), set(codes), scrub=True)
    events = ledger.events(purpose=EVERY_PURPOSE)
    mine = events[events["customer"].isin(codes) & (events["event"] == "erasure")]
    models = list(lineage.trained_on(workspace.lineage, codes))
    audit_log(workspace).append(
        "erase",
        dataset=dataset,
        count=len(codes),
        rows=sum(removed["data_sets"].values()),
        keys=removed["keys"],
        events=[str(number) for number in mine["number"]],
        models=[f"{name} {version}" for name, version in models],
    )
    return {
        "customers": codes,
        "events": mine["number"].tolist(),
        "already": len(codes) - len(fresh),
        **removed,
        "models": models,
        "runs": _runs_with_rows(workspace),
    }


def _known(dataset: str, references: list[str], workspace: Workspace) -> list[str]:
    """Return the pseudonyms of customers that the data set holds, or whose erasure has begun."""
    found = customer_codes(dataset, pd.Series(references, dtype="str"), workspace=workspace)
    known = found["held"] | found["code"].isin(erased_customers(workspace))
    if not len(found) or not known.all():
        raise InputError(
            f"customers: must all be held by data set {dataset}; found {int((~known).sum()):,} of {len(found):,} that "
            "are empty or not held; nothing was erased; check the references, or name the data set that holds them"
        )
    return found["code"].drop_duplicates().tolist()


def _runs_with_rows(workspace: Workspace) -> list[str]:
    paths = (path for name in ROWS_WITHOUT_NAMES for path in workspace.runs.glob(f"*/evidence/{name}"))
    return sorted({path.parents[1].name for path in paths})
