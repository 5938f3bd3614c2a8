"""Bring outcomes in: of reviewed cases, by the case's code, and chargebacks, by the payment's number in the source.

An outcome of a case is one of every payment that put it into the queue: those at or above the review threshold. A
column `only` with their numbers on the case sheet narrows it down. Where anything in a file breaks a rule, nothing of
it comes in; the same file twice changes nothing.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fraudlab.config import Workspace
from fraudlab.datasets.companions import (
    CASES,
    INVESTIGATION,
    OUTCOMES,
    append,
    companion_manifest,
    with_chance,
)
from fraudlab.datasets.corrections import contract_of, pseudonym_key, utc_day
from fraudlab.datasets.load import label_maturity, load_transactions
from fraudlab.datasets.readers import read_column, spoken
from fraudlab.datasets.reviewed import (
    LABELS,
    SOURCES,
    WORDS,
    label_changes,
    outcomes_of,
    outcomes_table,
    with_outcomes,
)
from fraudlab.datasets.sheets import known_zone, lines, moment_of, read_sheet
from fraudlab.datasets.treat import treat
from fraudlab.privacy.auditlog import audit_log
from fraudlab.privacy.keys import open_keys
from fraudlab.privacy.masking import find_identifiers
from fraudlab.privacy.shortcodes import demand_code, read_code
from fraudlab.privacy.vault import Vault
from fraudlab.schema import InputError, as_known_at, did_you_mean

_SAID = {"fraud": "fraud", "genuine": "genuine", "unsure": "unsure", "true": "fraud", "false": "genuine"}
_SAID |= {"1": "fraud", "0": "genuine", "yes": "fraud", "no": "genuine"}
_ROLE = re.compile(r"[a-z0-9][a-z0-9 -]{0,29}")
NO_ROLE = "not stated"


def import_outcomes(
    dataset: str,
    path: Path,
    *,
    source: str | None = None,
    by: str = "",
    zone: str = "UTC",
    skip_unknown: bool = False,
    now: pd.Timestamp | None = None,
    workspace: Workspace | None = None,
) -> dict[str, Any]:
    """Bring a filled sheet of cases, or a table of chargebacks, in as dated labels.

    Parameters
    ----------
    dataset : its name in the vault.
    path : CSV or Excel. Cases: alert_id, outcome (fraud, genuine or unsure; empty: not decided yet), decided_at, and
        where wanted `by` and `only`. Chargebacks: transaction_id (as the source writes it), is_fraud, reported_at.
        Other columns, notes among them, are not read.
    source : of cases "review" (the default) or "random"; chargebacks are "chargeback". Cases that the queue drew by
        chance are "random" whatever is said here.
    by : the role of who decided, such as "desk-2", where the sheet does not say; never a person's name.
    zone : what times without a zone are in; a day alone means its end.
    skip_unknown : leave rows out whose case or payment is not held (the customer was erased, its time is over).
    now : the moment of the import, UTC; outcomes of later than that are refused unless the data are simulated.
        Default: the clock's.
    workspace : default: the project around the working folder.

    Returns
    -------
    dict: kind ("cases" or "chargebacks"), rows (of the sheet), undecided, unknown (left out), outcomes (of payments,
    in the sheet), new, already (came in before), fraud, genuine, unsure, random (of the new ones; random: of random
    checks).

    Raises
    ------
    InputError : a column is missing; a code, an outcome, a moment, a role or a number breaks a rule, with the lines; a
        case or payment is not held; two outcomes contradict each other; the data set has no dated labels or does not
        state the purpose "case-investigation". Nothing came in.
    """
    sheet = read_sheet(path)
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return _take_in(
        dataset,
        sheet,
        digest=digest,
        source=source,
        by=by,
        zone=zone,
        skip_unknown=skip_unknown,
        now=now,
        workspace=workspace,
    )


def record_outcome(
    dataset: str,
    alert_id: str,
    outcome: str,
    *,
    decided_at: str,
    only: str = "",
    source: str | None = None,
    by: str = "",
    zone: str = "UTC",
    now: pd.Timestamp | None = None,
    workspace: Workspace | None = None,
) -> dict[str, Any]:
    """Bring the outcome of one case in; parameters, returns and errors as of `import_outcomes`."""
    cells = {"alert_id": alert_id, "outcome": outcome, "decided_at": decided_at, "only": only}
    sheet = pd.DataFrame([cells], index=pd.Index([1], name="line"), dtype=object)
    return _take_in(dataset, sheet, digest=None, source=source, by=by, zone=zone, now=now, workspace=workspace)


def label_facts(
    dataset: str, *, as_of: pd.Timestamp | None = None, workspace: Workspace | None = None
) -> dict[str, Any]:
    """Return what outcomes are held of a data set, and what they do to its labels.

    Parameters
    ----------
    as_of : what was known then; None: all that is held.

    Returns
    -------
    dict: outcomes (`reviewed.outcomes_table`), changes (`reviewed.label_changes` over all payments held), imports (a
    dict each: at, rows, source, file).
    """
    vault, outcomes, before, after = _both(dataset, as_of, workspace)
    manifest = companion_manifest(vault, dataset, OUTCOMES) or {"came": []}
    if outcomes is not None and as_of is not None:
        outcomes = outcomes[outcomes["decided_at"] <= as_of]
    return {
        "outcomes": outcomes_table(outcomes),
        "changes": label_changes(before, after),
        "imports": [dict(each) for each in manifest["came"]],
    }


def maturity_table(
    dataset: str, *, as_of: pd.Timestamp | None = None, workspace: Workspace | None = None
) -> pd.DataFrame:
    """Table how fast labels become known, without and with outcomes.

    Returns
    -------
    DataFrame: days_since_event, share_known and share_frauds_known as of `label_maturity` of what the source says
    alone, share_known_now and share_frauds_known_now with outcomes.
    """
    _, _, before, after = _both(dataset, as_of, workspace)
    tables = [label_maturity(frame).set_index("days_since_event") for frame in (before, after)]
    return tables[0].join(tables[1].add_suffix("_now"), how="outer").ffill().reset_index()


def _both(
    dataset: str, as_of: pd.Timestamp | None, workspace: Workspace | None
) -> tuple[Vault, pd.DataFrame | None, pd.DataFrame, pd.DataFrame]:
    """Return the labels of a data set's payments as the source states them, and with outcomes; and the outcomes."""
    workspace = workspace or Workspace.of()
    vault = Vault(workspace.vault, open_keys(workspace))
    _demand_labels(vault.manifest(dataset))
    outcomes = outcomes_of(vault, dataset)
    allowed = load_transactions(
        dataset, purpose=INVESTIGATION, as_of=as_of, columns=["transaction_id"], workspace=workspace
    )
    rows = vault.read(dataset, columns=["transaction_id", "event_time", *LABELS], before=as_of)
    rows = rows[rows["transaction_id"].isin(allowed["transaction_id"])].reset_index(drop=True)
    found = with_outcomes(rows, outcomes, as_of)
    return vault, outcomes, as_known_at(rows, as_of), as_known_at(found, as_of)


def _demand_labels(manifest: dict[str, Any]) -> None:
    if lacking := [name for name in LABELS if name not in manifest["parts"][0]["files"]["features"]["schema"]]:
        raise InputError(
            f"data set {manifest['dataset']}: outcomes become dated labels, and its contract declares no "
            f"{' and no '.join(lacking)}; declare them there and ingest again"
        )


def _take_in(
    dataset: str,
    sheet: pd.DataFrame,
    *,
    digest: str | None,
    source: str | None,
    by: str,
    zone: str,
    skip_unknown: bool = False,
    now: pd.Timestamp | None,
    workspace: Workspace | None,
) -> dict[str, Any]:
    workspace = workspace or Workspace.of()
    now = pd.Timestamp.now("UTC") if now is None else now
    vault = Vault(workspace.vault, open_keys(workspace))
    manifest = vault.manifest(dataset)
    _demand_labels(manifest)
    kind, named = _kind(sheet, source)
    source = "chargeback" if kind == "chargebacks" else source or "review"
    rows = sheet.rename(columns=named)
    stated = rows[rows["outcome"] != ""]
    if stated.empty:
        raise InputError("outcome: must be filled in on at least one row; found none; fill the sheet in first")
    clock = now if manifest.get("known_at") is not None else None
    decided = _decided(stated, by=by, zone=known_zone(zone), clock=clock)
    if kind == "cases":
        found, unknown = _of_cases(dataset, decided, skip_unknown=skip_unknown, workspace=workspace)
    else:
        found, unknown = _of_payments(vault, manifest, decided, skip_unknown=skip_unknown)
    # A case that was drawn by chance knows it, whatever the sheet's bearer believes.
    found = found.assign(source=np.where(found["chance"].notna(), "random", source))
    about = {"kind": kind, "rows": len(sheet), "undecided": len(rows) - len(stated), "unknown": unknown}
    return _keep(vault, dataset, found, about, source=source, digest=digest, now=now, workspace=workspace)


def record_pattern(
    dataset: str,
    payments: pd.DataFrame,
    outcome: str,
    *,
    decided_at: pd.Timestamp,
    by: str,
    now: pd.Timestamp,
    workspace: Workspace,
) -> dict[str, Any]:
    """Bring the outcome of a pattern's payments in, as one of source "pattern".

    Parameters
    ----------
    payments : transaction_id (as the vault holds it), event_time, customer_id, pattern (its code), a row each.
    outcome, by : as of `import_outcomes`.
    decided_at : the moment of the decision, UTC.
    now : the moment of the import, UTC.

    Returns
    -------
    dict, as of `import_outcomes`, of kind "pattern".

    Raises
    ------
    InputError : as `import_outcomes`.
    """
    vault = Vault(workspace.vault, open_keys(workspace))
    manifest = vault.manifest(dataset)
    _demand_labels(manifest)
    rows = payments[["transaction_id", "event_time", "customer_id"]].assign(
        outcome=outcome,
        decided_at=decided_at.isoformat(),
        alert_id=payments["pattern"],
        source="pattern",
        chance=np.nan,
    )
    rows = rows.set_axis(pd.RangeIndex(1, len(rows) + 1, name="line"))
    clock = now if manifest.get("known_at") is not None else None
    found = _decided(rows, by=by, zone=known_zone("UTC"), clock=clock)
    about = {"kind": "pattern", "rows": len(rows), "undecided": 0, "unknown": 0}
    found = found.assign(line=found.index)
    return _keep(vault, dataset, found, about, source="pattern", digest=None, now=now, workspace=workspace)


def _keep(
    vault: Vault,
    dataset: str,
    found: pd.DataFrame,
    about: dict[str, Any],
    *,
    source: str,
    digest: str | None,
    now: pd.Timestamp,
    workspace: Workspace,
) -> dict[str, Any]:
    """Add the outcomes that are new to those held and enter it in the audit log, or refuse all of them."""
    _check_moments(found)
    held = outcomes_of(vault, dataset)
    _check_contradictions(found, held)
    found = found.drop_duplicates(list(OUTCOMES.key), ignore_index=True)
    new = _fresh(found, held)
    came = {"file": digest, "source": source}
    added = append(vault, dataset, OUTCOMES, found, came=came, now=now) if len(found) else 0
    counts = {word: int((new["outcome"] == word).sum()) for word in WORDS}
    told = {
        **about,
        "outcomes": len(found),
        "new": added,
        "already": len(found) - added,
        **counts,
        "random": int((new["source"] == "random").sum()),
    }
    audit_log(workspace).append("label", dataset=dataset, source=source, file_digest=digest, **told)
    return told


def _kind(sheet: pd.DataFrame, source: str | None) -> tuple[str, dict[str, str]]:
    """Say whether a sheet is of cases or chargebacks, and which of its columns are meant."""
    cases, payments = "alert_id" in sheet, "transaction_id" in sheet
    if cases == payments:
        raise InputError(
            "file: must have either a column alert_id (cases) or a column transaction_id (chargebacks); found "
            f"{'both' if cases else 'none'}; {did_you_mean('alert_id', sheet.columns) if not cases else 'remove one'}"
        )
    renamed = {} if cases else {"is_fraud": "outcome", "reported_at": "decided_at"}
    # The queue's own sheet says in its header what a time without a zone is in.
    renamed |= {"decided_at_utc": "decided_at"} if "decided_at" not in sheet else {}
    there = [renamed.get(name, name) for name in sheet.columns]
    back = {} if cases else {new: old for old, new in renamed.items()}
    if lacking := [back.get(name, name) for name in ("outcome", "decided_at") if name not in there]:
        raise InputError(f"file: column '{lacking[0]}' is missing; {did_you_mean(lacking[0], sheet.columns)}")
    known = [name for name in SOURCES if name in ("review", "random")] if cases else ["chargeback"]
    if source is not None and source not in known:
        raise InputError(
            f"source: outcomes of {'cases' if cases else 'chargebacks'} are {' or '.join(known)}; "
            f"found '{source}'; leave it out"
        )
    return "cases" if cases else "chargebacks", renamed


def _decided(rows: pd.DataFrame, *, by: str, zone: str, clock: pd.Timestamp | None) -> pd.DataFrame:
    """Return the rows with outcome, moment and role read, or refuse what does not fit, with its lines."""
    outcome = rows["outcome"].map(lambda cell: _SAID.get(str(cell).casefold()))
    _refuse_lines(rows, outcome.isna(), f"outcome: must be {', '.join(WORDS[:-1])} or {WORDS[-1]}", "correct them")
    moments = [moment_of(cell, zone) for cell in rows["decided_at"]]
    decided = pd.Series([moment for moment, _ in moments], index=rows.index)
    _refuse_lines(
        rows,
        decided.isna(),
        "decided_at: must say when it was decided, such as 2026-03-01 14:30 or 2026-03-01",
        "fill them in",
    )
    decided = pd.to_datetime(decided, utc=True).astype("datetime64[us, UTC]")
    if clock is not None:
        whole = pd.Series([day for _, day in moments], index=rows.index)
        decided = decided.mask(whole & decided.between(clock, clock + pd.Timedelta(days=1)), clock.as_unit("us"))
        _refuse_lines(rows, decided > clock, "decided_at: must not lie in the future", "correct them")
    role = rows["by"].astype("str") if "by" in rows else pd.Series("", index=rows.index, dtype="str")
    role = role.where(role != "", by.strip() or NO_ROLE).str.lower()
    wrong = ~role.str.fullmatch(_ROLE.pattern) | role.map(lambda text: bool(find_identifiers(text)))
    _refuse_lines(
        rows,
        wrong,
        "by: must be a role in at most 30 letters, digits, blanks and hyphens, such as desk-2, and no person's name or "
        "number",
        "correct them",
    )
    return rows.assign(outcome=outcome, decided_at=decided, by=role)


def _of_cases(
    dataset: str, rows: pd.DataFrame, *, skip_unknown: bool, workspace: Workspace
) -> tuple[pd.DataFrame, int]:
    """Return the outcomes of the payments of each case, and how many rows were left out."""
    codes = rows["alert_id"].map(lambda cell: read_code(str(cell)))
    _refuse_lines(
        rows,
        codes.isna(),
        "alert_id: must be ten letters and digits, the last of which checks the others",
        "copy them again from the queue",
    )
    cases = cases_of(dataset, workspace)
    numbered = cases.assign(number=cases.groupby("alert_id").cumcount() + 1)
    unknown = ~codes.isin(cases["alert_id"])
    if not skip_unknown:
        _refuse_lines(
            rows,
            unknown,
            f"alert_id: must be a case that was listed for data set {dataset} and is still held",
            "check the data set, or leave them out with --skip-unknown",
        )
    said = rows.assign(alert_id=codes)[~unknown]
    whole = said[["alert_id", "outcome", "decided_at", "by"]].assign(line=said.index)
    if "only" in said:
        whole = whole.assign(only=[numbers_of(cell) for cell in said["only"]])
        wrong = whole["only"].map(lambda numbers: numbers is None)
        _refuse_lines(
            rows,
            wrong.set_axis(said.index),
            "only: must be payments' numbers on the sheet, such as 1 3",
            "correct them",
        )
    about = ["alert_id", "transaction_id", "event_time", "customer_id", "chance", "number"]
    each = whole.merge(numbered[about], on="alert_id")
    if "only" in each:
        most = each.groupby("line")["number"].max()
        beyond = whole.set_index("line")["only"].map(lambda numbers: max(numbers, default=0)) > most
        _refuse_lines(rows, beyond, "only: must not exceed the number of payments of the case", "correct them")
        each = each[[not only or number in only for only, number in zip(each["only"], each["number"])]]
    return each.drop(columns=["number", "only"], errors="ignore"), int(unknown.sum())


def cases_of(dataset: str, workspace: Workspace) -> pd.DataFrame:
    """Return the payments of all cases that were listed and may be investigated, each case's in the total order.

    Raises
    ------
    InputError : no case of this data set was listed yet.
    """
    vault = Vault(workspace.vault, open_keys(workspace))
    vault.manifest(dataset)
    if CASES.name(dataset) not in vault.datasets():
        raise InputError(f"data set {dataset}: no case was listed yet; run `fraudlab queue` first")
    rows = with_chance(load_transactions(CASES.name(dataset), purpose=INVESTIGATION, workspace=workspace))
    return rows.sort_values(["event_time", "transaction_id"], kind="stable", ignore_index=True)


def payments_of_case(dataset: str, alert_id: str, workspace: Workspace) -> list[str]:
    """Return the numbers of a case's payments, in order, for a look-up that is logged.

    Raises
    ------
    InputError : no such code; no such case of this data set.
    """
    code = demand_code(alert_id, "case")
    rows = cases_of(dataset, workspace)
    found = rows.loc[rows["alert_id"] == code, "transaction_id"].tolist()
    if not found:
        raise InputError(f"case: data set {dataset} holds no case {code}; check it and the data set")
    return found


def _of_payments(
    vault: Vault, manifest: dict[str, Any], rows: pd.DataFrame, *, skip_unknown: bool
) -> tuple[pd.DataFrame, int]:
    """Return the outcomes of payments named as the source names them, and how many rows were left out."""
    contract = contract_of(manifest)
    column = next(column for column in contract.columns if column.name == "transaction_id")
    given, problem = read_column(rows["transaction_id"].astype("str"), column, contract.timezone)
    if problem:
        raise InputError(f"transaction_id: {spoken(column)} {problem}")
    key = pseudonym_key(vault, manifest)
    ids = treat(given, column, key, utc_day(manifest["last"])).astype("str")
    held = vault.read(manifest["dataset"], columns=["transaction_id", "event_time", "customer_id"])
    held = held.assign(transaction_id=held["transaction_id"].astype("str"))
    unknown = ~ids.isin(held["transaction_id"])
    if not skip_unknown:
        _refuse_lines(
            rows,
            unknown,
            f"transaction_id: must be a payment that data set {manifest['dataset']} holds",
            "check the data set, or leave them out with --skip-unknown",
        )
    said = rows[~unknown].assign(transaction_id=ids[~unknown], line=rows.index[~unknown], alert_id="", chance=np.nan)
    columns = ["transaction_id", "outcome", "decided_at", "by", "alert_id", "chance", "line"]
    return said[columns].merge(held, on="transaction_id"), int(unknown.sum())


def _check_moments(found: pd.DataFrame) -> None:
    early = found[found["decided_at"] < found["event_time"]]
    if len(early):
        raise InputError(
            f"decided_at: must not lie before the payment; found {len(early):,} earlier "
            f"({lines(dict.fromkeys(early['line']))}); nothing came in; check the dates and the time zone"
        )


def _check_contradictions(found: pd.DataFrame, held: pd.DataFrame | None) -> None:
    """Refuse two outcomes of one payment, source and moment that differ."""
    key = list(OUTCOMES.key)
    every = found if held is None else pd.concat([held.assign(line=0), found])
    differ = every.groupby(key)["outcome"].transform("nunique") > 1
    wrong = [line for line in dict.fromkeys(every.loc[differ, "line"]) if line]
    if wrong:
        raise InputError(
            "outcome: two of one payment and moment must not contradict each other, here or with what came in before; "
            f"found {lines(wrong)}; nothing came in; an outcome that replaces another has a later decided_at"
        )


def _fresh(found: pd.DataFrame, held: pd.DataFrame | None) -> pd.DataFrame:
    if held is None:
        return found
    key = list(OUTCOMES.key)
    return found[~pd.MultiIndex.from_frame(found[key]).isin(pd.MultiIndex.from_frame(held[key]))]


def numbers_of(cell: Any) -> list[int] | None:
    """Return the numbers of a cell such as "1 3", none where it is empty, None where it holds anything else."""
    words = re.split(r"[\s,;]+", str(cell).strip()) if str(cell).strip() else []
    return [int(word) for word in words] if all(re.fullmatch(r"[1-9]\d{0,3}", word) for word in words) else None


def demand_role(by: str) -> str:
    """Return a role as it is kept, "not stated" where there is none, or refuse what may be a person.

    Raises
    ------
    InputError : it is longer than 30 letters, digits, blanks and hyphens, or looks like an identifier.

    >>> demand_role(" Desk-2"), demand_role("")
    ('desk-2', 'not stated')
    """
    role = (by.strip() or NO_ROLE).lower()
    if not _ROLE.fullmatch(role) or find_identifiers(role):
        raise InputError(
            "by: must be a role in at most 30 letters, digits, blanks and hyphens, such as desk-2, and no person's "
            f"name or number; found {len(role):,} characters that do not fit; correct it"
        )
    return role


def _refuse_lines(rows: pd.DataFrame, wrong: pd.Series, rule: str, advice: str) -> None:
    """Refuse rows that break a rule, naming their lines and no value."""
    if wrong.any():
        found = lines(wrong.index[wrong])
        raise InputError(f"{rule}; found {int(wrong.sum()):,} that do not ({found}); nothing came in; {advice}")
