"""Outcomes of reviewed cases and of chargebacks as dated labels, put over what the source says at every load.

What is known of a payment at a moment is decided by these rules:

1. Only what was known by then counts: outcomes decided, and labels of the source dated, at or before the moment.
2. The source's "genuine" is silence: nobody had complained by then. It never stands against an outcome.
3. Of all else (outcomes, the source's "fraud") the newest wins; at the same moment a chargeback before a review, and a
   review before the source.
4. "Unsure" says nothing: what was known before stays.
5. The label's time is the moment since which the answer that stands has been given without a break, so that one more
   confirmation does not make a label younger.

Outcomes are kept beside the data set (`companions`), are never changed, and enter the digest of the data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from fraudlab.config import digest_of
from fraudlab.datasets.companions import OUTCOMES, companion_manifest, companion_rows
from fraudlab.privacy.sharing import Sharing
from fraudlab.privacy.vault import Vault
from fraudlab.schema import TIME_DTYPE

WORDS = ("fraud", "genuine", "unsure")
"""What an outcome can say."""

SOURCES = {
    "review": "a case that the model put into the queue",
    "random": "a payment drawn by chance, so that what the model does not see is seen too",
    "chargeback": "what the cardholder or the bank reported later",
    "pattern": "a payment of a pattern that an analyst confirmed; found unusual, whether or not the model alerted it",
}
"""How a payment came to be looked at; reviewed cases are chosen by the model and are no fair sample."""

_RANK = {"source": 0, "random": 1, "review": 1, "pattern": 1, "chargeback": 2}
LABELS = ("is_fraud", "label_time")


def with_outcomes(frame: pd.DataFrame, outcomes: pd.DataFrame | None, as_of: pd.Timestamp | None) -> pd.DataFrame:
    """Return transactions with the labels that stand at a moment, once outcomes are counted with what the source says.

    Parameters
    ----------
    frame : transaction_id, is_fraud, label_time and any other columns; labels as the source states them.
    outcomes : transaction_id, outcome, decided_at, source, of any payments; None: there are none.
    as_of : outcomes decided, and labels dated, after it do not count for a payment that has outcomes by then. None:
        all count.

    Returns
    -------
    The same rows; `frame` itself where no outcome is about them. Labels of other payments are untouched, those after
    `as_of` included (`as_known_at` hides them).

    >>> time = pd.to_datetime(["2026-03-01", "2026-03-15", "2026-03-20"], utc=True)
    >>> silence = {"is_fraud": pd.array([False], "boolean"), "label_time": time[[1]]}
    >>> rows = pd.DataFrame({"transaction_id": ["p"], **silence})
    >>> found = pd.DataFrame({"transaction_id": ["p", "p"], "outcome": ["fraud", "fraud"], "decided_at": time[[0, 2]],
    ...                       "source": ["review", "chargeback"]})
    >>> label = with_outcomes(rows, found, None).iloc[0]
    >>> bool(label["is_fraud"]), f"{label['label_time']:%d %B}"
    (True, '01 March')
    """
    if outcomes is None:
        return frame
    ids = frame["transaction_id"].astype("str")
    said = outcomes[outcomes["outcome"] != "unsure"]
    if as_of is not None:
        said = said[said["decided_at"] <= as_of]
    about = ids.isin(said["transaction_id"])
    if not about.any():
        return frame
    stands = _settled(frame.loc[about, list(LABELS)].assign(transaction_id=ids[about]), said, as_of)
    found = ids[about].map(stands["is_fraud"]), ids[about].map(stands["label_time"])
    changed = frame.assign(is_fraud=frame["is_fraud"].astype("boolean"))
    changed.loc[about, "is_fraud"] = found[0].astype("boolean")
    changed.loc[about, "label_time"] = found[1].astype(TIME_DTYPE)
    return changed


def _settled(labels: pd.DataFrame, said: pd.DataFrame, as_of: pd.Timestamp | None) -> pd.DataFrame:
    """Return is_fraud and label_time by transaction id, of payments with an outcome."""
    reported = labels["is_fraud"].fillna(False).astype(bool) & labels["label_time"].notna()
    if as_of is not None:
        reported &= labels["label_time"] <= as_of
    told = said[said["transaction_id"].isin(labels["transaction_id"])]
    statements = pd.DataFrame(
        {
            "transaction_id": [*told["transaction_id"], *labels.loc[reported, "transaction_id"]],
            "at": pd.concat([told["decided_at"], labels.loc[reported, "label_time"]]).to_numpy(),
            "fraud": [*(told["outcome"] == "fraud"), *[True] * int(reported.sum())],
            "rank": [*told["source"].map(_RANK), *[_RANK["source"]] * int(reported.sum())],
        }
    ).sort_values(["transaction_id", "at", "rank"], kind="stable", ignore_index=True)
    # Of one moment the highest rank alone has a say.
    statements = statements.drop_duplicates(["transaction_id", "at"], keep="last", ignore_index=True)
    whose, fraud = statements["transaction_id"], statements["fraud"]
    turns = statements[(whose != whose.shift()) | (fraud != fraud.shift())]
    last = turns.drop_duplicates("transaction_id", keep="last").set_index("transaction_id")
    return pd.DataFrame({"is_fraud": last["fraud"], "label_time": pd.to_datetime(last["at"], utc=True)})


def outcomes_of(vault: Vault, dataset: str) -> pd.DataFrame | None:
    """Return all outcomes of a data set's payments, or None where none has come in.

    Returns
    -------
    DataFrame: transaction_id (text), event_time, customer_id (pseudonym), outcome, decided_at (UTC), source, by,
    alert_id.
    """
    return companion_rows(vault, dataset, OUTCOMES)


def data_digest(vault: Vault, dataset: str) -> str:
    """Return the sha-256 of what a data set says: its tables, outcomes of its payments, indicators that came in."""
    said = [vault.manifest(dataset)["digest"]]
    outcomes = companion_manifest(vault, dataset, OUTCOMES)
    if outcomes and outcomes["rows"]:
        said.append(outcomes["digest"])
    if sets := Sharing.beside(vault).names():
        said.append(digest_of(sets))
    return said[0] if len(said) == 1 else digest_of(said)


def label_changes(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Count what outcomes do to labels: what the next training sees that the source alone does not say.

    Parameters
    ----------
    before, after : is_fraud and label_time of the same rows, without and with outcomes.

    Returns
    -------
    DataFrame: what, payments; a row for each of: known to the source, known now, new, turned to fraud, turned to
    genuine, known earlier, known later.

    >>> labels = pd.DataFrame({"is_fraud": pd.array([None, False], "boolean"),
    ...                        "label_time": pd.to_datetime([None, "2026-03-15"], utc=True)})
    >>> now = labels.assign(is_fraud=pd.array([True, True], "boolean"),
    ...                     label_time=pd.to_datetime(["2026-03-02", "2026-03-03"], utc=True))
    >>> label_changes(labels, now).set_index("what")["payments"].to_dict()
    {'known to the source': 1, 'known now': 2, 'new': 1, 'turned to fraud': 1, 'turned to genuine': 0,
     'known earlier': 1, 'known later': 0}
    """
    was, now = before["is_fraud"].astype("boolean"), after["is_fraud"].astype("boolean")
    both = was.notna() & now.notna()
    shift = (after["label_time"] - before["label_time"]).dt.total_seconds().fillna(0.0).to_numpy()
    counted: dict[str, Any] = {
        "known to the source": was.notna(),
        "known now": now.notna(),
        "new": was.isna() & now.notna(),
        "turned to fraud": both & ~was.fillna(True) & now.fillna(False),
        "turned to genuine": both & was.fillna(False) & ~now.fillna(True),
        "known earlier": both & (shift < 0),
        "known later": both & (shift > 0),
    }
    return pd.DataFrame({"what": list(counted), "payments": [int(np.sum(rows)) for rows in counted.values()]})


def outcomes_table(outcomes: pd.DataFrame | None) -> pd.DataFrame:
    """Count outcomes by where they came from and what they say.

    Returns
    -------
    DataFrame: source, outcome, outcomes, payments (different ones), first, last (days, UTC); no row without outcomes.
    """
    columns = ["source", "outcome", "outcomes", "payments", "first", "last"]
    if outcomes is None or outcomes.empty:
        return pd.DataFrame(columns=columns)
    grouped = outcomes.groupby(["source", "outcome"], sort=True)
    table = grouped.agg(
        outcomes=("transaction_id", "size"),
        payments=("transaction_id", "nunique"),
        first=("decided_at", "min"),
        last=("decided_at", "max"),
    ).reset_index()
    days = {name: table[name].dt.strftime("%Y-%m-%d") for name in ("first", "last")}
    return table.assign(**days)[columns]
