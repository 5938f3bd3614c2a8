"""What an analyst decides on a pattern: a rule that is watched, labels of its payments, or that it is nothing.

Each verdict is in the audit log with the account that gave it, before anything else is written; it is kept in the
vault last, so that one cut short can be given again.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd

from fraudlab import rulebook, ruling
from fraudlab.casework.patterns import DISMISSED, SHARES, facts_of, rows_of, verdicts_of
from fraudlab.config import RunConfig, Workspace
from fraudlab.datasets.companions import VERDICTS, append
from fraudlab.datasets.labelling import NO_ROLE, demand_role, numbers_of, record_pattern
from fraudlab.privacy.auditlog import audit_log
from fraudlab.privacy.keys import open_keys
from fraudlab.privacy.masking import find_identifiers
from fraudlab.privacy.vault import Vault
from fraudlab.runs import write_whole
from fraudlab.schema import InputError

DECISIONS = ("rule", "fraud")
"""What a pattern can be confirmed as."""


def confirm(
    pattern: str,
    config: RunConfig,
    workspace: Workspace,
    *,
    decision: Collection[str],
    because: str,
    by: str = "",
    only: str = "",
    decided_at: pd.Timestamp | None = None,
    book: Path | None = None,
    now: pd.Timestamp | None = None,
) -> dict[str, Any]:
    """Keep that a pattern is real, as a shadow rule, as fraud labels of its payments, or both.

    Parameters
    ----------
    pattern : its code.
    config : names the data set, the rule book and its owner.
    decision : of `DECISIONS`. "rule": the proposed rule goes into the book with status "shadow", so that it is measured
        and not acted on. "fraud": its payments get the outcome fraud, of source "pattern".
    because : why, in 10 to 300 characters; it becomes the rule's reason and names nobody.
    by : the role of who decided, such as "desk-2".
    only : numbers of the payments that are fraud, as shown, such as "1 3"; "": all.
    decided_at : default: now; of simulated payments the newest search.
    book : the rule book; default: the config's.
    now : the moment that is noted; default: the clock's.

    Returns
    -------
    dict: pattern, decision, payments, and where asked for rule (id, book, version, expression) and labels (as of
    `labelling.import_outcomes`).

    Raises
    ------
    InputError : no such pattern; it was decided on already; no or an unknown decision; a reason, role or number breaks
        a rule; there is no book or no rule to propose. Nothing was kept.
    """
    wanted = tuple(name for name in DECISIONS if name in decision)
    if not wanted or set(decision) - set(DECISIONS):
        raise InputError(f"--as: must be {' or '.join(DECISIONS)}, or both; found '{' '.join(decision)}'; correct it")
    code, rows = rows_of(pattern, config.dataset.name, workspace)
    moment, now = _moments(rows, config.dataset.name, workspace, decided_at, now)
    because, role = _said(because), demand_role(by)
    _demand_open(code, config.dataset.name, workspace)
    chosen = rows
    if only:
        numbers = numbers_of(only)
        if not numbers or max(numbers) > len(rows) or "fraud" not in wanted:
            raise InputError(
                f"--only: must be numbers of the payments, 1 to {len(rows)}, with --as fraud; found '{only}'; see "
                f"`fraudlab monitor patterns show {code}`"
            )
        chosen = rows.iloc[sorted({number - 1 for number in numbers})]
    told: dict[str, Any] = {"pattern": code, "decision": " and ".join(wanted), "payments": len(chosen)}
    placed = _placed(code, rows, config, because, role, moment, book) if "rule" in wanted else None
    _enter(workspace, config.dataset.name, code, told["decision"], because, role)
    if "fraud" in wanted:
        # What labels refuse (a day before the payment, no dated labels) is refused before the book is touched.
        told["labels"] = record_pattern(
            config.dataset.name, chosen, "fraud", decided_at=moment, by=by, now=now, workspace=workspace
        )
    if placed is not None:
        path, text, told["rule"] = placed
        if text is not None:
            _rewrite(path, text)
    _keep_verdict(rows, config.dataset.name, workspace, told["decision"], because, role, moment, now)
    return told


def dismiss(
    pattern: str,
    dataset: str,
    workspace: Workspace,
    *,
    because: str,
    by: str = "",
    decided_at: pd.Timestamp | None = None,
    now: pd.Timestamp | None = None,
) -> dict[str, Any]:
    """Keep that a pattern is nothing; its payments count no more as unusual, later ones at the same value do.

    Parameters
    ----------
    pattern, because, by, decided_at, now : as of `confirm`.

    Raises
    ------
    InputError : as `confirm`.
    """
    code, rows = rows_of(pattern, dataset, workspace)
    moment, now = _moments(rows, dataset, workspace, decided_at, now)
    because, role = _said(because), demand_role(by)
    _demand_open(code, dataset, workspace)
    _enter(workspace, dataset, code, DISMISSED, because, role)
    _keep_verdict(rows, dataset, workspace, DISMISSED, because, role, moment, now)
    return {"pattern": code, "decision": DISMISSED, "payments": len(rows)}


def _moments(
    rows: pd.DataFrame,
    dataset: str,
    workspace: Workspace,
    decided_at: pd.Timestamp | None,
    now: pd.Timestamp | None,
) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Return when it was decided and the clock's moment; simulated payments lie at any distance from the clock."""
    now = pd.Timestamp.now("UTC") if now is None else now
    if decided_at is not None:
        return decided_at.as_unit("us"), now
    real = Vault(workspace.vault, open_keys(workspace)).manifest(dataset).get("known_at") is not None
    return (now if real else rows["as_of"].max()).as_unit("us"), now


def _said(because: str) -> str:
    text = " ".join(because.split())
    if not 10 <= len(text) <= 300 or find_identifiers(text):
        raise InputError(
            f"--because: must say why in 10 to 300 characters and hold no name or number of a person; found "
            f"{len(text):,} characters{' and what looks like an identifier' if find_identifiers(text) else ''}; "
            "say it otherwise"
        )
    return text


def _demand_open(code: str, dataset: str, workspace: Workspace) -> None:
    verdicts = verdicts_of(dataset, workspace)
    if code in verdicts.index and (last := verdicts.loc[code])["decision"] != DISMISSED:
        raise InputError(
            f"pattern {code}: must be open or dismissed to be decided on; it was confirmed as {last['decision']} on "
            f"{last['decided_at']:%Y-%m-%d}; retire its rule in the book, or bring other outcomes in"
        )


def _enter(workspace: Workspace, dataset: str, code: str, decision: str, because: str, role: str) -> None:
    """Enter the decision in the audit log; first, because what cannot be logged is not done."""
    audit_log(workspace).append(
        "decide", what="pattern", dataset=dataset, pattern=code, decision=decision, because=because, by=role
    )


def _keep_verdict(
    rows: pd.DataFrame,
    dataset: str,
    workspace: Workspace,
    decision: str,
    because: str,
    role: str,
    moment: pd.Timestamp,
    now: pd.Timestamp,
) -> None:
    told = {"decision": decision, "because": because, "by": role, "decided_at": moment}
    table = rows[["transaction_id", "event_time", "customer_id", "pattern"]].assign(**told)
    vault = Vault(workspace.vault, open_keys(workspace))
    append(vault, dataset, VERDICTS, table, came={"decision": decision}, now=now)


def _placed(
    code: str,
    rows: pd.DataFrame,
    config: RunConfig,
    because: str,
    role: str,
    moment: pd.Timestamp,
    book: Path | None,
) -> tuple[Path, str | None, dict[str, Any]]:
    """Return the book with the pattern's rule in it, None where it is there already, and what to tell."""
    path = book or config.rules.book
    if path is None:
        raise InputError("--as rule: the config names no rule book; name one there (docs/rules.md) or with --book")
    before = ruling.read_book(path)
    facts = facts_of(rows)
    if facts["rule"] is None:
        raise InputError(
            f"pattern {code}: no condition of four parts tells its payments from others, so no rule is proposed; write "
            "one by hand (docs/rules.md), or confirm it as fraud"
        )
    shares = list(dict.fromkeys(each["link"] for each in facts["shares"]))[:2]
    rule = rulebook.Rule(
        id=f"pattern-{code.lower()}",
        title={
            "en": f"Unusual payments {' and '.join(SHARES[link][0] for link in shares)}",
            "zh": f"异常付款：{'、'.join(SHARES[link][1] for link in shares)}",
        },
        expression=facts["rule"]["expression"],
        status="shadow",
        since=moment.date(),
        owner=config.owner if role == NO_ROLE else role,
        why=because,
    )
    there = next((each for each in before.rules if each.id == rule.id), None)
    text = None if there is not None else rulebook.added(path.read_text(encoding="utf-8"), rule, f"book {path.name}")
    version = before.version + (text is not None)
    told = {"id": rule.id, "book": str(path), "version": version, "expression": rule.expression}
    return path, text, told


def _rewrite(path: Path, text: str) -> None:
    """Write a book whole, readable by whom it was readable before: it is part of the project, not of the case work."""
    mode = path.stat().st_mode & 0o777
    write_whole(path, text)
    os.chmod(path, mode)
