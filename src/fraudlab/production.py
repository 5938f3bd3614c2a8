"""What is in production: promote a version, take the last promotion back, tell what served on a given day.

The registry's alias says what serves now; the audit log, which nobody can rewrite unseen, says what served when. An
alias that moved while nobody could write the log (a kill between the two, a change by hand in MLflow) is found and
entered by `settle`, which each of the functions here calls first.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from fraudlab import tracking
from fraudlab.config import Workspace
from fraudlab.privacy.auditlog import audit_log
from fraudlab.privacy.masking import mask_text
from fraudlab.schema import InputError, did_you_mean, utc

GATE, HAND, FOUND = "the gate", "hand", "found in the registry"
NAMES = ["name", "version", "since", "until", "before", "by", "reason"]


def promote(
    workspace: Workspace,
    name: str,
    version: str,
    *,
    reason: str,
    by: str = HAND,
    expected: str | None = None,
    **facts: Any,
) -> dict[str, Any]:
    """Make a registered version the champion and enter it into the log; call it under the project's lock.

    Parameters
    ----------
    name, version, expected : as in `tracking.promote`.
    reason : why, for whoever reads the history; what looks like an identifier in it is masked.
    by : "hand", or "the gate".
    facts : more for the log, such as the config's digest.

    Returns
    -------
    name, version, previous, reason, at.

    Raises
    ------
    InputError : no reason; and as in `tracking.promote`.
    """
    if not (reason := mask_text(reason)[0].strip()):
        raise InputError("reason: a promotion needs one for whoever reads the history; found none; say why")
    settle(workspace)
    done = tracking.promote(tracking.open_store(workspace), name, version, reason=reason, expected=expected)
    said = {"model": name, "model_version": version, "before": done["previous"], "by": by}
    audit_log(workspace).append("promote", **said, reason=reason[:500], **facts)
    return done


def rollback(workspace: Workspace, name: str, *, reason: str) -> dict[str, Any]:
    """Make the champion before the present one champion again; call it under the project's lock.

    The version to go back to is the newest one that served before and was not taken back itself: two rollbacks go two
    champions back. A version that is due to be replaced for customers' rights is no way back.

    Raises
    ------
    InputError : nothing served before; the way back is closed; and as in `promote`.
    """
    settle(workspace)
    served = history(workspace, name)
    if served.empty:
        raise InputError(f"model: '{name}' has no champion; found none to go back from; promote a version first")
    back = _before(served["version"].tolist())
    if back is None:
        raise InputError(
            f"model: no other version of '{name}' was champion before; found only version "
            f"{served['version'].iloc[-1]}; promote one by name"
        )
    due = {each["version"]: each["reason"] for each in tracking.mark_retrain_due(workspace) if each["name"] == name}
    if back in due:
        raise InputError(
            f"model: version {back} of '{name}' is no way back: {due[back]}; promote another version or retrain"
        )
    return promote(workspace, name, back, reason=f"rollback: {reason}".strip())


def _before(served: list[str]) -> str | None:
    """Return the champion before the last one, reading a return to an earlier champion as taking back what came since.

    >>> _before(["1", "2", "3"]), _before(["1", "2", "3", "2"]), _before(["1", "2", "1"]), _before(["1"])
    ('2', '1', None, None)
    """
    stack: list[str] = []
    for version in served:
        stack = stack[: stack.index(version)] if version in stack else stack
        stack.append(version)
    return stack[-2] if len(stack) > 1 else None


def history(workspace: Workspace, name: str | None = None) -> pd.DataFrame:
    """Tell from the log which version served when.

    Parameters
    ----------
    name : only this model.

    Returns
    -------
    A row per promotion, oldest first: name, version, since, until (UTC; NaT: still serving), before (version or None),
    by ("the gate", "hand", "found in the registry"), reason.
    """
    entries = audit_log(workspace).entries("promote")
    rows = [
        {
            "name": facts.get("model"),
            "version": str(facts.get("model_version")),
            "since": moment,
            "before": facts.get("before"),
            "by": facts.get("by", HAND),
            "reason": facts.get("reason", ""),
        }
        for moment, facts in zip(entries["time"], entries["facts"])
    ]
    table = pd.DataFrame(rows, columns=[column for column in NAMES if column != "until"])
    table["since"] = pd.to_datetime(table["since"], utc=True)
    table["before"] = table["before"].astype(object).where(table["before"].notna(), None)
    table["until"] = table.groupby("name", sort=False)["since"].shift(-1)
    if name is not None:
        table = table[table["name"] == name]
    return table[NAMES].reset_index(drop=True)


def in_production(workspace: Workspace, name: str, at: pd.Timestamp | str) -> dict[str, Any] | None:
    """Tell which version served at a moment; None before the first.

    Parameters
    ----------
    at : with a time zone; a version serves from the moment of its promotion on.

    Raises
    ------
    InputError : an unknown model, a moment without a time zone.
    """
    table = history(workspace)
    if name not in set(table["name"]):
        raise InputError(f"model: '{name}' was never in production; {did_you_mean(name, sorted(set(table['name'])))}")
    moment = utc(at, "at")
    found = table[(table["name"] == name) & (table["since"] <= moment)]
    return None if found.empty else found.iloc[-1].to_dict()


def settle(workspace: Workspace) -> list[str]:
    """Enter champions of the registry that the log does not know yet; returns "name version" of each.

    The moment is that of the finding: when the alias moved is in the version's tags, where anybody could write it.
    """
    if not (workspace.mlruns / "mlflow.db").is_file():
        return []
    client, log = tracking.open_store(workspace), audit_log(workspace)
    known = history(workspace).groupby("name")["version"].last() if log.path.exists() else pd.Series(dtype=str)
    found = []
    models = tracking.models_table(client)
    serving = models[models["aliases"].str.split(", ").map(lambda aliases: tracking.CHAMPION in aliases)]
    for name, version in zip(serving["name"], serving["version"]):
        before = known.get(name)
        if before != version:
            reason = "the alias had moved without an entry here"
            said = {"model": name, "model_version": version, "before": before, "by": FOUND}
            log.append("promote", **said, reason=reason)
            found.append(f"{name} {version}")
    return found
