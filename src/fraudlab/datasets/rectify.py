"""A customer's right to have wrong data corrected (GDPR Art. 16).

The right value goes through the contract's treatment as if the source had said it. The wrong one is not kept: the vault
is written anew, and what is held of the correction is the right value, sealed under the customer's key. It is put over
the source at every later ingest, until it is ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from fraudlab.config import Workspace
from fraudlab.datasets.companions import is_companion
from fraudlab.datasets.contracts import MADE, Contract
from fraudlab.datasets.corrections import (
    Scope,
    contract_of,
    fits_whole,
    pseudonym_key,
    put_in,
    raw_value,
    treated_value,
    utc_day,
    whole_months,
)
from fraudlab.datasets.customers import customer_code
from fraudlab.datasets.erasure import CUSTOMER
from fraudlab.privacy import lineage
from fraudlab.privacy.auditlog import audit_log
from fraudlab.privacy.identities import Correction, IdentityStore
from fraudlab.privacy.keys import open_keys
from fraudlab.privacy.masking import find_identifiers
from fraudlab.privacy.vault import Vault
from fraudlab.schema import InputError, did_you_mean, utc

SETTLED = {
    "customer_id": "says whose payment it is",
    "transaction_id": "says which payment it is",
    "event_time": "puts the payments in their order",
    "is_fraud": "is what an investigation found, with the time it became known",
    "label_time": "says when a label became known",
    "fraud_scenario": "is what an investigation found",
}
"""Columns that are corrected at the source only, and why."""


def rectify(
    dataset: str,
    customer: str,
    column: str,
    value: str | None,
    *,
    source: str,
    transaction: str | None = None,
    since: pd.Timestamp | str | None = None,
    until: pd.Timestamp | str | None = None,
    workspace: Workspace | None = None,
) -> dict[str, Any]:
    """Correct a column of one customer's data, in all payments, those of a period, or one; the old value is not kept.

    Killed at any moment, the vault holds the old values or the new ones; the same call, or the next ingest, completes
    it.

    Parameters
    ----------
    dataset : its name in the vault; other data sets are not touched (`elsewhere` names them).
    customer : the reference as the source writes it, or the pseudonym.
    column : the source's name of the column, such as postcode, or a name that it has here, such as postcode_area. All
        columns made from the same source column follow.
    value : what is right, as the source would write it; None: there is none.
    source : how it came in and on what grounds, such as "letter of 2026-03-01"; no name, address or number of a person.
    transaction : the id of one payment. since, until : moments with a time zone; payments from `since` on and before
        `until`. None of them: all payments of this customer, later ones too.
    workspace : default: the project around the working folder.

    Returns
    -------
    dict: customer (pseudonym), column (the source's name), columns (names of what changed in the loadable table),
    correction (its id), rows (payments), different (how many different values they had before, of the column with
    most), identity (whether raw identities changed), replaced (earlier corrections that it stands for now), elsewhere
    (other data sets that hold the customer), models [(name, version)] trained on the customer
    (`fraudlab.tracking.mark_retrain_due` marks those that read the column).

    Raises
    ------
    InputError : unknown customer, payment or column; a column that is corrected at the source only; a value that does
        not fit the contract; a part of a month of a raw identity; a `source` with an identifier. Nothing was changed.
    KeyUnavailableError : a key of the data set is not here.
    FraudlabError : the vault could not be written; the correction is noted, the same call completes it.
    """
    workspace = workspace or Workspace.of()
    vault = Vault(workspace.vault, open_keys(workspace))
    manifest = vault.manifest(dataset)
    contract = contract_of(manifest)
    name = _source_column(contract, column)
    code = customer_code(dataset, customer, workspace=workspace)
    scope = _scope(transaction, since, until)
    _check_words(source, customer, value)
    values = _values(vault, manifest, contract, name, value)
    mine = vault.read(dataset, columns=["transaction_id", "event_time", CUSTOMER, *values])
    mine = mine[mine[CUSTOMER] == code]
    chosen = scope.rows(mine, code)
    if not chosen.any():
        raise InputError(
            f"transaction, since, until: data set {dataset} holds no such payment of this customer; nothing was "
            "changed; check them"
        )
    for each, treated in values.items():
        if pd.api.types.is_integer_dtype(mine[each].dtype) and not fits_whole(treated):
            raise InputError(f"value: column '{name}' holds whole numbers; nothing was changed; give one")
    kept = any(each.source == name for each in contract.identities)
    _refuse_part_of_a_month(name, mine, chosen, kept=kept)
    store = IdentityStore.beside(vault)
    replaced = _within(store, store.corrections(dataset, code), name, scope)
    moved = [each.name for each in contract.columns if each.source == name and each.in_features]
    content = {"column": name, "value": value, "source": source.strip()} | scope.plain()
    made = store.correct(dataset, code, moved, content, replaces=[each.id for each in replaced])
    put_in(vault, dataset)
    models = list(lineage.trained_on(workspace.lineage, [code]))
    rows = int(chosen.sum())
    audit_log(workspace).append(
        "rectify", dataset=dataset, customer=code, column=name, rows=rows, source=source.strip(), correction=made
    )
    return {
        "customer": code,
        "column": name,
        "columns": moved,
        "correction": made,
        "rows": rows,
        "different": max((mine.loc[chosen, each].nunique(dropna=False) for each in values), default=0),
        "identity": kept,
        "replaced": len(replaced),
        "elsewhere": _elsewhere(vault, dataset, code),
        "models": models,
    }


def end_rectification(
    dataset: str, customer: str, column: str, *, source: str, workspace: Workspace | None = None
) -> int:
    """Forget the corrections of a customer's column, because the source is right now; return how many there were.

    What the vault holds stays until the next ingest, which takes the column from the source again.

    Raises
    ------
    InputError : there is no correction of this column; as for `rectify`.
    """
    workspace = workspace or Workspace.of()
    vault = Vault(workspace.vault, open_keys(workspace))
    name = _source_column(contract_of(vault.manifest(dataset)), column)
    code = customer_code(dataset, customer, new=True, workspace=workspace)
    _check_words(source, customer, None)
    store = IdentityStore.beside(vault)
    ended = _within(store, store.corrections(dataset, code), name, Scope())
    if not ended:
        raise InputError(
            f"column: no correction of '{name}' is held for this customer in data set {dataset}; nothing to end"
        )
    store.forget([each.id for each in ended])
    audit_log(workspace).append(
        "rectify", dataset=dataset, customer=code, column=name, source=source.strip(), ended=len(ended)
    )
    return len(ended)


def _source_column(contract: Contract, column: str) -> str:
    """Return the source's column that is meant, or refuse one that is not corrected here."""
    named = {each.name: each.source for each in contract.columns}
    name = column if column in contract.sources else named.get(column)
    if name is None:
        raise InputError(f"column: none called '{column}' is held; {did_you_mean(column, contract.sources)}")
    if name in MADE or any(each.join and name in (each.source, *each.join) for each in contract.columns):
        raise InputError(
            f"column: '{column}' is made from no column of the source, or from several, and is corrected at the source "
            "only; have it corrected there and ingest again"
        )
    for each in contract.columns:
        if each.source == name and each.name in SETTLED:
            raise InputError(
                f"column: '{name}' {SETTLED[each.name]}, and is corrected at the source only; have it corrected there "
                "and ingest again"
            )
    return name


def _scope(transaction: str | None, since: Any, until: Any) -> Scope:
    begin = None if since is None else utc(since, "since")
    end = None if until is None else utc(until, "until")
    if transaction is not None and (begin is not None or end is not None):
        raise InputError("transaction: names one payment, so 'since' and 'until' do not go with it; leave them out")
    if begin is not None and end is not None and begin >= end:
        raise InputError("until: must come after 'since'; found it before or equal; correct them")
    return Scope(transaction, begin, end)


def _check_words(source: str, customer: str, value: str | None) -> None:
    if not source.strip():
        raise InputError("source: is missing; say how it came in and on what grounds, such as 'letter of 2026-03-01'")
    if find_identifiers(source):
        raise InputError(
            "source: must not hold an e-mail address, IBAN, card or phone number; name the letter, not the person"
        )
    if any(
        word and len(word) >= 3 and word.casefold() in source.casefold() for word in (customer, (value or "").strip())
    ):
        raise InputError("source: must repeat neither the customer's reference nor the value; name the letter")


def _values(
    vault: Vault, manifest: Mapping[str, Any], contract: Contract, name: str, value: str | None
) -> dict[str, Any]:
    """Return the treated values, or say which rule the value breaks, without repeating it."""
    try:
        raw = raw_value(contract, name, value, manifest["dataset"])
    except InputError as error:
        rules = "; ".join(line.partition("; found")[0] for line in str(error).split("\n"))
        raise InputError(f"value: does not fit, and nothing was changed: {rules}; give one that fits") from None
    treated = treated_value(contract, raw, pseudonym_key(vault, manifest), utc_day(manifest["last"]))
    given = value is not None and value.strip() != ""
    if lost := [each for each, made in treated.items() if given and pd.isna(made)]:
        raise InputError(
            f"value: column '{name}' would leave '{lost[0]}' empty, because the value is malformed for it; nothing was "
            "changed; give a well-formed one, or say that there is none"
        )
    return treated


def _refuse_part_of_a_month(name: str, mine: pd.DataFrame, chosen: pd.Series, *, kept: bool) -> None:
    months = mine.loc[chosen, "event_time"].dt.strftime("%Y-%m").unique()
    if kept and (cut := set(months) - set(whole_months(mine, chosen))):
        raise InputError(
            f"transaction, since, until: raw values of '{name}' are kept for each customer and month, not for each "
            f"payment, and {len(cut)} month{'s' * (len(cut) > 1)} would be cut; nothing was changed; take whole months "
            "or all payments, or have it corrected at the source"
        )


def _within(store: IdentityStore, held: list[Correction], name: str, scope: Scope) -> list[Correction]:
    """Return the corrections of a column that one of this scope stands for: those of the same scope, or all."""
    return [
        each
        for each, content in zip(held, store.content(held))
        if content["column"] == name and scope in (Scope(), Scope.of(content))
    ]


def _elsewhere(vault: Vault, dataset: str, code: str) -> list[str]:
    others = [name for name in vault.datasets() if name != dataset and not is_companion(name)]
    return [name for name in others if (vault.read(name, columns=[CUSTOMER])[CUSTOMER] == code).any()]
