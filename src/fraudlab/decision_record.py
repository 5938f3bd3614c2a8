"""The record of a decision about a model version: who decided what, on which evidence, and what would have changed it.

A record is a plain dict that JSON can hold. Its digest covers all of it, so that whoever holds the digest (the audit
log does) can tell whether the record still is what was decided. A later decision about the same version is a record of
its own that names the one before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fraudlab.config import digest_of

FORMAT = 1
PROMOTED, KEPT, REJECTED, IN_SHADOW = "promoted", "kept champion", "rejected", "in shadow"
GATE, HAND = "the gate", "hand"
"""Who decides."""

DECISIONS = (PROMOTED, KEPT, REJECTED, IN_SHADOW)
"""What can be decided. Rejected: not good enough, and there is no champion to keep."""

MADE_FROM = ("run_id", "config_digest", "data_digest", "code_digest", "lock_digest", "git_commit", "as_of", "seed")
SHORTEST = 160
"""Characters of one row of the gate in a line."""


def verdict(gate: Sequence[Mapping[str, Any]], champion: str | None, *, shadow_days: int = 0) -> str:
    """Return what a gate's rows lead to.

    Parameters
    ----------
    gate : rows with `passed`.
    champion : the version at work, None where there is none.
    shadow_days : days a challenger that passes stands beside the champion first; without a champion there is nothing
        to stand beside.

    >>> rows = [{"passed": True}]
    >>> verdict(rows, None, shadow_days=7), verdict(rows, "1", shadow_days=7), verdict(rows, "1")
    ('promoted', 'in shadow', 'promoted')
    >>> verdict([{"passed": False}], "1"), verdict([{"passed": False}], None)
    ('kept champion', 'rejected')
    """
    if not all(row["passed"] for row in gate):
        return REJECTED if champion is None else KEPT
    return IN_SHADOW if shadow_days and champion is not None else PROMOTED


def record(
    *,
    model: str,
    version: str,
    champion: str | None,
    decision: str,
    gate: Sequence[Mapping[str, Any]],
    by: str,
    at: str,
    reason: str = "",
    made_from: Mapping[str, Any] | None = None,
    checks: Sequence[Mapping[str, Any]] = (),
    shadow: Mapping[str, Any] | None = None,
    amends: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return the record of a decision, sealed with its digest.

    Parameters
    ----------
    model, version : the challenger.
    champion : the version at work when it was decided, None where there was none.
    decision : one of `DECISIONS`.
    gate : rows of check, required, found, passed.
    by, reason : "the gate", or "hand" with the reason a person stated.
    at : when (UTC, ISO).
    made_from : run_id, digests of config, data, code and environment, what was known when; others are left out.
    checks : the numbered checks as kept in checks.json; of those that did not fail only the result is kept.
    shadow : first_day, last_day, days and, once they are in, what they showed.
    amends : digest of the record that this one follows.
    more : further facts, such as thresholds.

    Returns
    -------
    dict: format, model, challenger_version, decision, by, reason, at, champion_before, champion_after, headline,
    reasons (a sentence per row of the gate that counted), gate, findings (code, result and, of failed ones, sentence
    and waived), made_from, shadow, would_change (sentences), amends, summary, `more`, digest.

    >>> rows = [{"check": "ranks", "required": ">= 0.6", "found": "0.5", "passed": False}]
    >>> kept = record(model="demo", version="2", champion="1", decision="kept champion", gate=rows, by="the gate",
    ...               at="2026-06-01T00:00:00+00:00")
    >>> kept["headline"], kept["reasons"]
    ('demo version 2 stays challenger; version 1 remains the champion', ['ranks: required >= 0.6, found 0.5'])
    >>> kept["would_change"], is_whole(kept), is_whole(kept | {"decision": "promoted"})
    (['promoted, if this had passed: ranks'], True, False)
    """
    champion_after = version if decision == PROMOTED else champion
    told = {
        "format": FORMAT,
        "model": model,
        "challenger_version": version,
        "decision": decision,
        "by": by,
        "reason": reason,
        "at": at,
        "champion_before": champion,
        "champion_after": champion_after,
        "headline": headline(decision, model, version, champion, shadow),
        "reasons": [reason] if reason else _reasons(gate, decision),
        "gate": [dict(row) for row in gate],
        "findings": [_finding(check) for check in checks],
        "made_from": {name: (made_from or {}).get(name) for name in MADE_FROM if (made_from or {}).get(name)},
        "shadow": None if shadow is None else dict(shadow),
        "would_change": would_change(gate, decision, by=by, reason=reason),
        "amends": amends,
        **more,
    }
    told["summary"] = {key: told[key] for key in ("decision", "champion_before", "champion_after")}
    return sealed(told)


def sealed(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with its digest, the sha-256 of all else in canonical form."""
    rest = {key: value for key, value in told.items() if key != "digest"}
    return rest | {"digest": digest_of(rest)}


def is_whole(told: Mapping[str, Any]) -> bool:
    """Say whether a record still is what its digest was made of."""
    return sealed(told)["digest"] == told.get("digest")


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Say whether two records tell the same decision, whenever each was written down.

    >>> same({"at": "1", "decision": "promoted", "digest": "a"}, {"at": "2", "decision": "promoted", "digest": "b"})
    True
    """
    aside = ("at", "digest")
    return {key: one[key] for key in one if key not in aside} == {key: other[key] for key in other if key not in aside}


def headline(
    decision: str, model: str, version: str, champion: str | None, shadow: Mapping[str, Any] | None = None
) -> str:
    """Say a decision in a line."""
    if decision == PROMOTED:
        return f"{model} version {version} is the champion"
    if decision == IN_SHADOW and shadow is not None:
        return (
            f"{model} version {version} is in shadow until {shadow['last_day']}; "
            f"version {champion} remains the champion"
        )
    if champion:
        return f"{model} version {version} stays challenger; version {champion} remains the champion"
    return f"{model} version {version} is registered but did not pass the gate; there is no champion yet"


def would_change(gate: Sequence[Mapping[str, Any]], decision: str, *, by: str = GATE, reason: str = "") -> list[str]:
    """Say what would have led to another decision: the rows of the gate that it turned on."""
    if by == HAND:
        return ["a person decided; the rows of the gate are for the record"]
    failed = [row["check"] for row in gate if not row["passed"]]
    if failed:
        return [f"promoted, if {'this' if len(failed) == 1 else 'all of these'} had passed: {'; '.join(failed)}"]
    if decision in (KEPT, REJECTED):
        return [f"judged after its days in shadow, if this had not happened: {reason}"] if reason else []
    told = f"not promoted, if one of the {len(gate)} rows of the gate had failed"
    return [f"promoted at once, if gate.shadow_days were 0; {told}"] if decision == IN_SHADOW else [told]


def short_reason(told: Mapping[str, Any], most: int = 500) -> str:
    """Return why in a line for a tag: the stated reason, else the failed rows, each short, else that all passed.

    >>> short_reason({"reason": "", "by": "the gate", "gate": [
    ...     {"check": "ranks", "required": ">= 0.6", "found": "0.5", "passed": False}]})
    'ranks: 0.5 (>= 0.6)'
    """
    if told["reason"]:
        return str(told["reason"])[:most]
    failed = [row for row in told["gate"] if not row["passed"]]
    if not failed:
        return f"all {len(told['gate'])} rows of the gate passed"
    rows = [f"{row['check']}: {row['found']} ({row['required']})" for row in failed]
    return "; ".join(row if len(row) <= SHORTEST else f"{row[: SHORTEST - 1]}…" for row in rows)[:most]


def markdown(told: Mapping[str, Any]) -> str:
    """Return a record as Markdown, for people.

    >>> rows = [{"check": "ranks", "required": ">= 0.6", "found": "0.7", "passed": True}]
    >>> print(markdown(record(model="demo", version="1", champion=None, decision="promoted", gate=rows, by="the gate",
    ...                       at="2026-06-01T00:00:00+00:00")).split("Digest")[0].rstrip())
    # demo version 1 is the champion
    <BLANKLINE>
    - decision: promoted
    - by: the gate
    - at: 2026-06-01T00:00:00+00:00
    - champion before: none
    <BLANKLINE>
    | check | required | found | result |
    |---|---|---|---|
    | ranks | >= 0.6 | 0.7 | passed |
    <BLANKLINE>
    What would have changed it: not promoted, if one of the 1 rows of the gate had failed.
    """
    facts = [("decision", told["decision"]), ("by", told["by"]), ("reason", told["reason"]), ("at", told["at"])]
    facts += [("champion before", told["champion_before"] or "none"), ("amends", told["amends"])]
    if shadow := told["shadow"]:
        facts.append(("shadow", f"{shadow['first_day']} to {shadow['last_day']}, against version {shadow['champion']}"))
    facts += [(name.replace("_", " "), value) for name, value in told["made_from"].items()]
    parts = [f"# {told['headline']}", "\n".join(f"- {name}: {value}" for name, value in facts if value)]
    if told["gate"]:
        rows = [
            f"| {row['check']} | {row['required']} | {row['found']} | {'passed' if row['passed'] else 'FAILED'} |"
            for row in told["gate"]
        ]
        parts.append("\n".join(["| check | required | found | result |", "|---|---|---|---|", *rows]))
    if failed := [each for each in told["findings"] if each["result"] == "failed"]:
        lines = [
            f"- {each['code']}: {each['sentence']}" + (f" Waived: {each['waived']}" if each["waived"] else "")
            for each in failed
        ]
        parts.append("\n".join(["## Failed checks", "", *lines]))
    if told["would_change"]:
        parts.append(f"What would have changed it: {'; '.join(told['would_change'])}.")
    parts.append(f"Digest (sha-256): {told['digest']}")
    return "\n\n".join(parts) + "\n"


def _reasons(gate: Sequence[Mapping[str, Any]], decision: str) -> list[str]:
    if decision in (KEPT, REJECTED):
        failed = [row for row in gate if not row["passed"]]
        return [f"{row['check']}: required {row['required']}, found {row['found']}" for row in failed]
    return [f"{row['check']}: {row['found']} ({row['required']})" for row in gate]


def _finding(check: Mapping[str, Any]) -> dict[str, Any]:
    told = {"code": check["code"], "result": check["result"]}
    if check["result"] == "failed":
        told |= {kept: check.get(kept, "") for kept in ("sentence", "waived")}
    return told
