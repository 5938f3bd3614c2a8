"""What is in production: promote a version, take the last promotion back, tell what served on a given day.

The registry's alias says what serves now; the audit log, which nobody can rewrite unseen, says what served when. An
alias that moved while nobody could write the log (a kill between the two, a change by hand in MLflow) is found and
entered by `settle`, which each of the functions here calls first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fraudlab import decision_record, tracking, tracking_decisions
from fraudlab.config import Workspace
from fraudlab.decision_record import GATE, HAND, IN_SHADOW, KEPT, PROMOTED
from fraudlab.privacy.auditlog import audit_log
from fraudlab.privacy.masking import mask_text
from fraudlab.schema import InputError, did_you_mean, utc

FOUND = "found in the registry"
NAMES = ["name", "version", "since", "until", "before", "by", "reason"]


def promote(
    workspace: Workspace,
    name: str,
    version: str,
    *,
    reason: str,
    by: str = HAND,
    expected: str | None = None,
    record: Mapping[str, Any] | None = None,
    **facts: Any,
) -> dict[str, Any]:
    """Make a registered version the champion and enter it into the log; call it under the project's lock.

    Parameters
    ----------
    name, version, expected : as in `tracking.promote`.
    reason : why, for whoever reads the history; what looks like an identifier in it is masked.
    by : "hand", or "the gate".
    record : of the decision, where it was entered already; else one is made of the reason.
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
    client = tracking.open_store(workspace)
    done = tracking.promote(client, name, version, reason=reason, expected=expected)
    if record is None:
        record = _by_hand(client, done, by)
        enter(workspace, record)
    said = {"model": name, "model_version": version, "before": done["previous"], "by": by}
    facts |= {"decision_digest": record["digest"]}
    audit_log(workspace).append("promote", **said, reason=reason[:500], **facts)
    if (stands := tracking_decisions.in_shadow(client, name)) and stands["version"] == version:
        tracking_decisions.end_shadow(client, name)
    return done


def carry_out(workspace: Workspace, record: Mapping[str, Any], **facts: Any) -> None:
    """Do what a record says: enter it, then move the alias `champion` or `shadow`; call it under the project's lock.

    It is done once: whatever broke off, calling it again goes on with the rest.

    Parameters
    ----------
    record : from `decision_record.record`.
    facts : more for the log, such as the config's digest.

    Raises
    ------
    InputError : another version became champion since the decision; and as in `promote`.
    """
    client = tracking.open_store(workspace)
    name, version, decision = (record[key] for key in ("model", "challenger_version", "decision"))
    present = (tracking.champion(client, name) or {}).get("version")
    if decision in (PROMOTED, IN_SHADOW) and present not in (record["champion_before"], version):
        raise InputError(
            f"model: the champion of '{name}' must still be version {record['champion_before'] or 'none'}, which the "
            f"decision was made against; found {present or 'none'}; decide again"
        )
    enter(workspace, record)
    stands = tracking_decisions.in_shadow(client, name)
    if decision == IN_SHADOW:
        if stands is not None and stands["version"] != version:
            _replaced(workspace, client, name, stands, version)
        tracking_decisions.begin_shadow(client, name, version, record["shadow"])
    elif decision == PROMOTED and present != version:
        promote(
            workspace,
            name,
            version,
            reason=decision_record.short_reason(record),
            by=record["by"],
            expected=record["champion_before"] or "",
            record=record,
            **facts,
        )
    elif stands is not None and stands["version"] == version:
        tracking_decisions.end_shadow(client, name)


def enter(workspace: Workspace, record: Mapping[str, Any]) -> None:
    """Enter a decision into the audit log, by its digest and once, and into the registry, as a whole."""
    log = audit_log(workspace)
    known = log.entries("decide")["facts"] if log.path.exists() else []
    if record["digest"] not in [facts.get("record_digest") for facts in known]:
        told = {"model": record["model"], "model_version": record["challenger_version"], "by": record["by"]}
        told |= {"before": record["champion_before"], "reason": decision_record.short_reason(record)}
        log.append("decide", outcome=record["decision"], record_digest=record["digest"], **told)
    tracking_decisions.keep_decision(tracking.open_store(workspace), record)


def _by_hand(client: Any, done: Mapping[str, Any], by: str) -> dict[str, Any]:
    """Return the record of a promotion that a person asked for, with what the gate had said of the version."""
    name, version = done["name"], done["version"]
    held = tracking_decisions.decisions(client, name, version)
    last = held[-1] if held else {}
    made_from = last.get("made_from") or tracking_decisions.made_from(client, name, version)
    return decision_record.record(
        model=name,
        version=version,
        champion=done["previous"],
        decision=PROMOTED,
        gate=last.get("gate", []),
        by=by,
        at=done["at"],
        reason=done["reason"],
        made_from=made_from,
        checks=last.get("findings", []),
        amends=last.get("digest"),
    )


def _replaced(workspace: Workspace, client: Any, name: str, stands: Mapping[str, Any], version: str) -> None:
    """Enter that the version in shadow goes, because another takes its place before its days were in."""
    why = f"version {version} took its place in shadow before its last day, {stands['last_day']}"
    enter(workspace, concluded(client, name, stands, decision=KEPT, reason=why))


def concluded(
    client: Any,
    name: str,
    stands: Mapping[str, Any],
    *,
    decision: str,
    gate: Sequence[Mapping[str, Any]] = (),
    reason: str = "",
    seen: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the record that ends a shadow; where the same was concluded before, that one.

    Parameters
    ----------
    client : from `tracking.open_store`.
    stands : what `tracking_decisions.in_shadow` says.
    decision : promoted or kept champion.
    gate : rows about the days in shadow, which follow those of the decision that began it.
    reason : why it ended before it was judged; "": it was judged by the rows.
    seen : figures of these days that may leave.
    """
    held = tracking_decisions.decisions(client, name, stands["version"])
    begun = next((each for each in reversed(held) if each["decision"] == IN_SHADOW), {})
    told = decision_record.record(
        model=name,
        version=stands["version"],
        champion=stands.get("champion"),
        decision=decision,
        gate=[*begun.get("gate", []), *gate],
        by=GATE,
        at=pd.Timestamp.now("UTC").floor("s").isoformat(),
        reason=reason,
        made_from=begun.get("made_from") or tracking_decisions.made_from(client, name, stands["version"]),
        checks=begun.get("findings", []),
        shadow={key: value for key, value in stands.items() if key != "version"} | dict(seen or {}),
        amends=begun.get("digest"),
        **{key: begun[key] for key in ("thresholds", "alerts_per_day") if key in begun},
    )
    return next((each for each in held if decision_record.same(each, told)), told)


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
    if not tracking.has_registry(workspace):
        return []
    client, log = tracking.open_store(workspace), audit_log(workspace)
    known = history(workspace).groupby("name")["version"].last() if log.path.exists() else pd.Series(dtype=str)
    found = []
    models = tracking.models_table(client)
    serves = [tracking.CHAMPION in aliases.split(", ") for aliases in models["aliases"]]
    serving = models[np.array(serves, dtype=bool)]  # no model at all is no column chosen
    for name, version in zip(serving["name"], serving["version"]):
        before = known.get(name)
        if before != version:
            reason = "the alias had moved without an entry here"
            said = {"model": name, "model_version": version, "before": before, "by": FOUND}
            log.append("promote", **said, reason=reason)
            found.append(f"{name} {version}")
    return found
