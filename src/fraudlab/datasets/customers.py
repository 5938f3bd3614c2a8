"""Whose rows are meant: from the reference a customer is known by to the pseudonym of a data set."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd

from fraudlab.config import Workspace
from fraudlab.datasets.treat import PSEUDONYM_KEY
from fraudlab.privacy.keys import KeyUnavailableError, open_keys
from fraudlab.privacy.treatments import PSEUDONYM_BYTES, pseudonymise
from fraudlab.privacy.vault import Vault
from fraudlab.schema import InputError

COLUMN = "customer_id"


def customer_code(dataset: str, reference: str, *, new: bool = False, workspace: Workspace | None = None) -> str:
    """Return the pseudonym under which a data set holds a customer.

    Parameters
    ----------
    dataset : its name in the vault; its contract says how a reference is normalised.
    reference : as the source writes it, or the pseudonym itself (32 hexadecimal digits).
    new : return the pseudonym of a customer without a row too, such as one who consents before the first transaction.
    workspace : default: the project around the working folder.

    Raises
    ------
    InputError : the reference is empty, the data set is unknown, or it holds no such customer; without repeating the
        reference.
    KeyUnavailableError : the reference is no pseudonym, and the key `pseudonym` of this data set is not here.
    """
    found = customer_codes(dataset, pd.Series([reference], dtype="str"), workspace=workspace)
    if pd.isna(found["code"].iloc[0]):
        raise InputError("customer: the reference is empty; give the one the source knows the customer by")
    if not (new or found["held"].iloc[0]):
        raise InputError(
            f"customer: data set {dataset} holds no such customer; check the reference, or name the data set that does"
        )
    return str(found["code"].iloc[0])


def customer_codes(dataset: str, references: pd.Series, *, workspace: Workspace | None = None) -> pd.DataFrame:
    """Return the pseudonyms of customers, and whether the data set holds rows of them.

    Parameters
    ----------
    references : text, as for `customer_code`. 32 hexadecimal digits are taken for a pseudonym, unless the data set
        holds only the one made from them (a source may have such references itself).

    Returns
    -------
    DataFrame, same index: code (text; missing where the reference is empty), held (bool), given (bool: the reference
    is the pseudonym itself).

    Raises
    ------
    InputError, KeyUnavailableError : as for `customer_code`.
    """
    workspace = workspace or Workspace.of()
    vault = Vault(workspace.vault, open_keys(workspace))
    manifest = vault.manifest(dataset)
    held = vault.read(dataset, columns=[COLUMN])[COLUMN].drop_duplicates()
    text = references.astype("str").str.strip()
    code = text.str.lower()
    looks = code.str.fullmatch(rf"[0-9a-f]{{{2 * PSEUDONYM_BYTES}}}").fillna(False).astype(bool)
    given = looks & code.isin(held)
    if _has_key(vault, manifest) or not looks.all():
        made = _made(vault, manifest, text)
        code = made.where(~given & (made.isin(held) | ~looks), code)
    return pd.DataFrame({"code": code, "held": code.isin(held), "given": looks & (code == text.str.lower())})


def _made(vault: Vault, manifest: dict[str, Any], references: pd.Series) -> pd.Series:
    if not _has_key(vault, manifest):
        raise KeyUnavailableError(
            f"data set {manifest['dataset']}: finding a customer by reference needs the key '{PSEUDONYM_KEY}' with id "
            f"{manifest['keys'][PSEUDONYM_KEY]}, which this account does not have; give the pseudonym, or ask the "
            "key's owner to do this step"
        )
    column = next(column for column in manifest["columns"] if column["name"] == COLUMN)
    return pseudonymise(references, partial(vault.keys.hmac, PSEUDONYM_KEY), COLUMN, form=column["how"] or "text")


def _has_key(vault: Vault, manifest: dict[str, Any]) -> bool:
    return vault.keys.key_ids().get(PSEUDONYM_KEY) == manifest["keys"][PSEUDONYM_KEY]
