"""From a case back to the one customer behind it: for a stated reason, with a second factor, written down first."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable

from fraudlab.config import Workspace
from fraudlab.datasets.load import load_transactions
from fraudlab.privacy.auditlog import audit_log
from fraudlab.privacy.identities import IDENTITY_KEY, identities
from fraudlab.privacy.keys import KeyDirectory, Keys, KeyUnavailableError, account_name, open_keys
from fraudlab.privacy.masking import find_identifiers, mask_text
from fraudlab.privacy.secondfactor import check_reason, second_factor
from fraudlab.privacy.vault import Vault
from fraudlab.schema import FraudlabError, InputError

PURPOSE = "case-investigation"


def reidentify(
    dataset: str,
    *,
    reason: str,
    code: Callable[[], str],
    transaction: str | None = None,
    pseudonym: str | None = None,
    now: float | None = None,
    workspace: Workspace | None = None,
) -> dict[str, list[str]]:
    """Return the identity of the one customer behind a transaction or a pseudonym.

    Parameters
    ----------
    dataset : its name in the vault.
    reason : why, at least 10 characters, without a card number, e-mail address or the like; goes into the audit log.
    code : called once all else is in order; returns six digits of the account's second factor.
    transaction, pseudonym : exactly one of them.
    now : seconds since 1970 (UTC), for the second factor; None: the clock's.
    workspace : default: the project around the working folder.

    Returns
    -------
    dict: the source's name of each identity column that the purpose `case-investigation` allows, to its different
    values (a customer may have several cards); empty values are left out.

    Raises
    ------
    InputError : a reason too short or with an identifier in it; both or no case; an unknown data set; a contract
        without the purpose; a case that the data set does not hold for this purpose, or whose customer restricted it.
    KeyUnavailableError : the key `identity` of this data set is not here; says whose it is, where that can be seen.
    SecondFactorError : see `SecondFactor.check`.
    FraudlabError : the customer's identity was erased; the audit log cannot be written. Nothing is returned then,
        whatever else is in order.

    Notes
    -----
    The entry `reidentify` is in the audit log before the identity is decrypted; each refusal is an entry `refuse`.
    """
    workspace = workspace or Workspace.of()
    log = audit_log(workspace)
    facts = {"dataset": dataset, "purpose": PURPOSE, "reason": reason}
    try:
        check_reason(reason)
        if find_identifiers(reason):
            raise InputError(
                "reason: must hold no card, account or phone number and no e-mail address; found what looks like one; "
                "name the case, not the person"
            )
        customer, columns = _behind(dataset, transaction, pseudonym, workspace)
        # Only now: what names no case may be a person's name, typed by mistake.
        facts |= _case_fact(transaction or customer)
        second_factor(workspace).check(code(), now=now)
    except FraudlabError as error:
        # A refused request may hold anything; the log takes no identifier.
        told = {**facts, "why": str(error)}
        log.append("refuse", asked="reidentify", **{name: mask_text(text)[0] for name, text in told.items()})
        raise
    log.append("reidentify", customer=customer, columns=columns, **facts)
    return _identity(_vault(workspace), dataset, customer, columns)


def _behind(
    dataset: str, transaction: str | None, pseudonym: str | None, workspace: Workspace
) -> tuple[str, list[str]]:
    """Return the pseudonym of a case's customer and the identity columns that may be shown, without any identity."""
    if (transaction is None) == (pseudonym is None):
        raise InputError("case: name one transaction or one pseudonym; found both or none; look up one at a time")
    vault = _vault(workspace)
    manifest = vault.manifest(dataset)
    if PURPOSE not in manifest["purposes"]:
        raise InputError(
            f"data set {dataset}: its contract has no purpose '{PURPOSE}', so nobody may be looked up; declare the "
            "purpose there and ingest again"
        )
    columns = [c["source"] for c in manifest["columns"] if c["identity"] and PURPOSE in c["purposes"]]
    if not columns or IDENTITY_KEY not in manifest["keys"]:
        raise InputError(f"data set {dataset}: its contract keeps no identity for '{PURPOSE}'; there is none to show")
    if manifest["keys"][IDENTITY_KEY] not in vault.keys.ids(IDENTITY_KEY):
        raise KeyUnavailableError(
            f"data set {dataset}: showing an identity needs the key '{IDENTITY_KEY}' with id "
            f"{manifest['keys'][IDENTITY_KEY]}, {_whose(vault.keys)}"
        )
    name, wanted = ("customer_id", pseudonym) if transaction is None else ("transaction_id", transaction)
    needed = list(dict.fromkeys([name, "customer_id"]))
    frame = load_transactions(dataset, purpose=PURPOSE, columns=needed, workspace=workspace)
    found = frame.loc[frame[name].astype("str") == wanted, "customer_id"].drop_duplicates()
    if len(found) != 1:
        raise InputError(
            f"case: data set {dataset} holds no such {'pseudonym' if transaction is None else 'transaction'} for the "
            f"purpose '{PURPOSE}'; check it; a customer who restricted or objected to this is not found either"
        )
    return str(found.iloc[0]), columns


def _identity(vault: Vault, dataset: str, customer: str, columns: list[str]) -> dict[str, list[str]]:
    raw = {f"raw_{column}": column for column in columns}
    rows = identities(vault, dataset, columns=list(raw), customers=[customer])
    if rows.empty:
        raise FraudlabError(
            f"data set {dataset}: the identity of this customer is not held any more: it was erased; this look-up is "
            "logged; ask who answers for the data"
        )
    return {column: [str(value) for value in rows[name].dropna().unique()] for name, column in raw.items()}


def _whose(keys: Keys) -> str:
    """Say whose key it is, where the file system tells."""
    if isinstance(keys, KeyDirectory):
        with contextlib.suppress(OSError):
            owner = (keys.path / f"{IDENTITY_KEY}.key").stat().st_uid
            if owner != os.getuid():
                return f"which belongs to {account_name(owner)}; ask {account_name(owner)} to do this step"
    return "which this account does not have; ask the key's owner to do this step, or restore it from its backup"


def _case_fact(case: str) -> dict[str, str]:
    """Name the case for the log; an id that looks like a card or phone number stands there as its digest."""
    if find_identifiers(case):
        return {"case_digest": hashlib.sha256(case.encode()).hexdigest()}
    return {"case": case}


def _vault(workspace: Workspace) -> Vault:
    return Vault(workspace.vault, open_keys(workspace))
