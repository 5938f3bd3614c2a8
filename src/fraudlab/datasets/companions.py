"""Tables that grow beside a data set in the vault: the cases that were listed, the outcomes that came back.

Each is a data set of the vault itself, named `<data set>.<kind>`, of the data set's customers and under the same keys.
So rotation, backup, restore, retention and erasure reach it like any other, and a load of it states a purpose and heeds
what the customers said. Rows are only ever added; a customer's rights and the end of their time remove them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fraudlab.datasets.digest import content_digest, pseudonymised
from fraudlab.datasets.treat import PSEUDONYM_KEY
from fraudlab.privacy.keys import KeyUnavailableError
from fraudlab.privacy.vault import Kind, Vault
from fraudlab.schema import InputError

INVESTIGATION = "case-investigation"
_JOINT = "."


@dataclass(frozen=True)
class Companion:
    """A kind of table beside a data set: what it is about, which columns name a row, and what each column means.

    `event_time`, `customer_id` and `transaction_id` are those of the payment that a row is about. Rows stay as long as
    one of `purposes` says; as long as the data set's own where there is none.
    """

    kind: str
    about: str
    key: tuple[str, ...]
    columns: Mapping[str, tuple[str, str]]
    purposes: tuple[str, ...] = ()

    def name(self, dataset: str) -> str:
        """Return what the table of a data set is called in the vault."""
        return f"{dataset}{_JOINT}{self.kind}"


CASES = Companion(
    "cases",
    "payments that a model put into the investigators' queue",
    ("alert_id", "transaction_id"),
    {
        "transaction_id": ("id", "the payment"),
        "event_time": ("time", "when the payment was attempted"),
        "customer_id": ("id", "whose payment"),
        "alert_id": ("id", "the case: model version, customer and day in a keyed code"),
        "model": ("text", "the registered model that found it"),
        "version": ("text", "the version of the model"),
        "as_of": ("time", "what was known when it was listed"),
        "score": ("number", "what the model ranks by"),
        "risk": ("number", "calibrated probability of fraud"),
        "tier": ("text", "the risk tier"),
        "action": ("text", "what was recommended"),
        "reasons": ("text", "why, a sentence a line"),
        "rules": ("text", "rules of the rule book that fired"),
        "chance": ("number", "the chance with which the case was drawn; missing where the model listed it"),
    },
    purposes=(INVESTIGATION,),
)
OUTCOMES = Companion(
    "outcomes",
    "what reviews and chargebacks found of payments",
    ("transaction_id", "source", "decided_at"),
    {
        "transaction_id": ("id", "the payment"),
        "event_time": ("time", "when the payment was attempted"),
        "customer_id": ("id", "whose payment"),
        "outcome": ("text", "fraud, genuine or unsure"),
        "decided_at": ("time", "when that became known"),
        "source": ("text", "review, chargeback or random: how the payment came to be looked at"),
        "by": ("text", "the role of who decided"),
        "alert_id": ("id", "the case, where there was one"),
        "chance": ("number", "the chance with which the case was drawn; missing where it was not drawn by chance"),
    },
)
PATTERNS = Companion(
    "patterns",
    "unusual payments that share more than chance explains, found without labels",
    ("pattern", "transaction_id"),
    {
        "transaction_id": ("id", "the payment"),
        "event_time": ("time", "when the payment was attempted"),
        "customer_id": ("id", "whose payment"),
        "pattern": ("id", "the pattern: a keyed code"),
        "as_of": ("time", "what was known when it was found"),
        "model": ("text", "the registered model whose detector found it unusual"),
        "version": ("text", "the version of the model"),
        "unusual": ("number", "share of the payments before that scored as high"),
        "alerted": ("number", "1 where the model alerted it, else 0"),
        "facts": ("text", "what the payments of the pattern share, and how surprising it is; no value of it"),
    },
    purposes=(INVESTIGATION,),
)
VERDICTS = Companion(
    "verdicts",
    "what analysts decided on patterns",
    ("pattern", "transaction_id", "decided_at"),
    {
        "transaction_id": ("id", "a payment of the pattern when it was decided on"),
        "event_time": ("time", "when the payment was attempted"),
        "customer_id": ("id", "whose payment"),
        "pattern": ("id", "the pattern: a keyed code"),
        "decision": ("text", "rule, fraud, rule and fraud, or dismissed"),
        "because": ("text", "why"),
        "by": ("text", "the role of who decided"),
        "decided_at": ("time", "when"),
    },
    purposes=(INVESTIGATION,),
)


def is_companion(name: str) -> bool:
    """Say whether a name in the vault is that of a table beside a data set; no data set's own name holds a dot.

    >>> is_companion("demo.cases"), is_companion("demo")
    (True, False)
    """
    return _JOINT in name


def companion_rows(vault: Vault, dataset: str, companion: Companion) -> pd.DataFrame | None:
    """Return all rows of a companion, or None where there is none yet; loads of a purpose go through the loader.

    Raises
    ------
    KeyUnavailableError, DamagedError : as for `Vault.read`.
    """
    name = companion.name(dataset)
    return with_chance(vault.read(name)) if name in vault.datasets() else None


def with_chance(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a companion's rows with the column `chance`, which those written before there were random checks lack."""
    return rows if "chance" in rows else rows.assign(chance=np.nan)


def companion_manifest(vault: Vault, dataset: str, companion: Companion) -> dict[str, Any] | None:
    """Return a companion's manifest, or None where there is none yet."""
    name = companion.name(dataset)
    return vault.manifest(name) if name in vault.datasets() else None


def append(
    vault: Vault, dataset: str, companion: Companion, rows: pd.DataFrame, *, came: Mapping[str, Any], now: pd.Timestamp
) -> int:
    """Add the rows that are not there yet and return how many they are; an earlier row of the same key stays.

    Killed at any moment, all of them are there or none. Several may add at once.

    Parameters
    ----------
    rows : the companion's columns, one row per key.
    came : what the manifest says of this addition beside its moment and its rows, such as the digest of a file.
    now : the moment, UTC.

    Raises
    ------
    InputError : the data set's contract does not state the purpose "case-investigation".
    KeyUnavailableError : the companion's pseudonyms are of another key than those of the data set.
    """
    about = vault.manifest(dataset)
    if INVESTIGATION not in about["purposes"]:
        raise InputError(
            f"data set {dataset}: its contract has no purpose '{INVESTIGATION}', so no case of it may be kept; declare "
            "the purpose there and ingest again"
        )
    name = companion.name(dataset)
    held = companion_manifest(vault, dataset, companion)
    if held is not None and held["keys"][PSEUDONYM_KEY] != about["keys"][PSEUDONYM_KEY]:
        raise KeyUnavailableError(
            f"data set {name}: its customers' codes were made with another key '{PSEUDONYM_KEY}' than those of "
            f"{dataset}, so that nothing would match; restore that key from its backup"
        )
    rows = rows[list(companion.columns)]
    if _new(companion, companion_rows(vault, dataset, companion), rows).empty:
        return 0
    columns = _described(companion, about)
    facts: dict[str, Any] = {
        "dataset": name,
        "source": companion.about,
        "created": now.isoformat(timespec="seconds"),
        "known_at": None if about.get("known_at") is None else now.isoformat(),
        "contract_digest": about["contract_digest"],
        "keys": {PSEUDONYM_KEY: about["keys"][PSEUDONYM_KEY]},
        "purposes": {p: how for p, how in about["purposes"].items() if p in (companion.purposes or about["purposes"])},
        "columns": columns,
        "dropped": [],
    }
    added = 0

    def months() -> Iterator[tuple[str, dict[Kind, pd.DataFrame]]]:
        # Drawn under the write lock: what others added meanwhile is there.
        nonlocal added
        older = companion_rows(vault, dataset, companion)
        fresh = _new(companion, older, rows)
        added = len(fresh)
        whole = (fresh if older is None else pd.concat([older[list(companion.columns)], fresh])).sort_values(
            ["event_time", *companion.key], kind="stable", ignore_index=True
        )
        before = companion_manifest(vault, dataset, companion) or {"came": []}
        facts["came"] = [*before["came"], {"at": facts["created"], "rows": added, **came}]
        facts["rows"], facts["digest"] = len(whole), content_digest(whole, pseudonymised(columns))
        facts["last"] = whole["event_time"].iloc[-1].isoformat()
        for month, part in whole.groupby(whole["event_time"].dt.strftime("%Y-%m")):
            yield str(month), {"features": part.reset_index(drop=True)}

    vault.write(name, months(), facts)
    return added


def _new(companion: Companion, older: pd.DataFrame | None, rows: pd.DataFrame) -> pd.DataFrame:
    key = list(companion.key)
    rows = rows.drop_duplicates(key)
    if older is None:
        return rows
    return rows[~pd.MultiIndex.from_frame(rows[key]).isin(pd.MultiIndex.from_frame(older[key]))]


def _described(companion: Companion, about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Describe the columns for the manifest; ids that the data set holds are described as there."""
    known = {column["name"]: column for column in about["columns"]}
    return [
        {
            "name": name,
            "source": "",
            "type": kind,
            "treatment": "pseudonymise"
            if name in ("alert_id", "pattern")
            else known.get(name, {}).get("treatment", "keep"),
            "how": known.get(name, {}).get("how"),
            "identity": False,
            "purposes": [INVESTIGATION],
            "meaning": meaning,
        }
        for name, (kind, meaning) in companion.columns.items()
    ]
