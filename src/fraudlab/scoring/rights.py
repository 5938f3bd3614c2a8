"""Customers who may no longer be remembered: noticed in the ledger, let go of by states that nobody scores with."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fraudlab.config import Workspace
from fraudlab.privacy.auditlog import AuditLog
from fraudlab.privacy.consent import Ledger
from fraudlab.privacy.journal import InUseError, Journal, state_folders
from fraudlab.privacy.keys import Keys, KeyUnavailableError, open_keys
from fraudlab.privacy.vault import DamagedError

if TYPE_CHECKING:
    from fraudlab.features.online import OnlineState

LET_GO, IN_USE, UNREADABLE = "let go", "in use", "unreadable"
"""What became of a state: it is learnt anew at the next start; its process does so at its next snapshot; nothing."""


def heard_of(ledger: Ledger, seen: int) -> tuple[int, set[str]]:
    """Return the number of the ledger's newest event, and the customers of the events after the number `seen`."""
    events = ledger.events()
    newest = max(seen, int(events["number"].max())) if len(events) else seen
    return newest, set(events.loc[events["number"] > seen, "customer"])


def concerns(state: OnlineState, customers: Collection[str]) -> bool:
    """Return whether a state may remember one of some customers.

    A state without a feature by customer cannot tell whose cards and devices it knows, so it may.
    """
    known = state.codes.get("customer_id")
    return bool(customers) and (known is None or any(code in known for code in customers))


def let_go(workspace: Workspace, *, keys: Keys | None = None, datasets: Collection[str] = ()) -> dict[str, str]:
    """Make states of live scoring forget customers of whom the ledger heard since they were learnt.

    The state goes, with the journal's payments; where the source is to go on, the counts and the numbers stay. The next
    start learns from what the vault may show. A process at work does the same at its next snapshot.

    Parameters
    ----------
    keys : those of the workspace; a restored one is opened with the keys of the present one.
    datasets : rows of these were removed for their age: their models' states go, whoever is in them.

    Returns
    -------
    dict: model -> "let go", "in use" (at most a day while payments come in, see `live.SNAPSHOT_AFTER`) or "unreadable"
    (its key is not here, or it is damaged; `--fresh` replaces it). Models whose states concern nobody are left out.
    """
    keys = open_keys(workspace) if keys is None else keys
    ledger = Ledger(workspace.ledger)
    found = {}
    for folder in state_folders(workspace.vault):
        try:
            with Journal(folder, keys) as journal:
                kept = journal.recover()
                if kept is None:
                    continue
                facts, data, groups = kept
                newest, customers = heard_of(ledger, int(facts.get("ledger", 0)))
                events = [json.loads(group) for group in groups]
                if facts.get("dataset") not in datasets and not _remembers(data, events, customers):
                    continue
                journal.snapshot({**facts, **_place(facts, events), "ledger": newest}, b"")
                found[folder.name] = LET_GO
        except InUseError:
            found[folder.name] = IN_USE
        except (KeyUnavailableError, DamagedError):
            found[folder.name] = UNREADABLE
    if gone := [name for name, what in found.items() if what == LET_GO]:
        AuditLog(workspace.audit, keys).append("erase", what="live state", models=gone)
    return found


def said(found: Mapping[str, str]) -> list[str]:
    """Return in sentences what became of states, for people.

    >>> said({"demo": "let go"})
    ['live state of demo: forgotten; the next start learns anew from the vault']
    """
    words = {
        LET_GO: "forgotten; the next start learns anew from the vault",
        IN_USE: "in use; at its next snapshot, within a day while payments come in, it lets go of whom the ledger "
        "names; to do it now, end and start its process (with --fresh where rows went for their age)",
        UNREADABLE: "cannot be read; start its process with --fresh, which replaces it",
    }
    return [f"live state of {name}: {words[what]}" for name, what in found.items()]


def _remembers(data: bytes, events: Iterable[Mapping[str, Any]], customers: set[str]) -> bool:
    from fraudlab.features.online import OnlineState  # brings the kernels, which most erasures need not wait for

    if not customers:
        return False
    paid = {event["payment"].get("customer_id") for group in events for event in group["events"] if "payment" in event}
    return bool(paid & customers) or (bool(data) and concerns(OnlineState.from_bytes(data), customers))


def _place(facts: Mapping[str, Any], groups: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how many events there were, and where the source goes on, after a journal's groups."""
    positions = [group["position"] for group in groups if group["position"] is not None]
    return {
        "number": int(facts.get("number", 0)) + sum(len(group["events"]) for group in groups),
        "position": positions[-1] if positions else facts.get("position"),
    }
