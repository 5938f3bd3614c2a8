"""How mature labels are by where they come from: reports, chargebacks, reviews, random checks."""

from __future__ import annotations

import pandas as pd

from fraudlab.config import Workspace
from fraudlab.datasets.companions import CASES, INVESTIGATION
from fraudlab.datasets.labelling import cases_of
from fraudlab.datasets.load import load_transactions
from fraudlab.datasets.reviewed import LABELS, outcomes_of
from fraudlab.delays import COLUMNS, decision_delays, report_delays
from fraudlab.privacy.keys import open_keys
from fraudlab.privacy.vault import Vault
from fraudlab.schema import as_known_at

SOURCES = {
    "source": "frauds reported by the source",
    "chargeback": "chargebacks",
    "review": "cases that the model listed, decided",
    "random": "random checks, decided",
}
"""Where a label comes from, and what its curve counts."""


def maturity_by_source(
    dataset: str, *, as_of: pd.Timestamp | None = None, workspace: Workspace | None = None
) -> pd.DataFrame:
    """Table how many days after the payment labels of each source become known, corrected for what is still to come.

    Parameters
    ----------
    as_of : the moment of knowing; default: the newest payment, report or outcome that is held.

    Returns
    -------
    DataFrame: source (of `SOURCES`), days, share, low, high (95 % interval), n; no row of a source without any.

    Notes
    -----
    Frauds show only once they are reported, so the curves of the source and of chargebacks are those of
    `delays.report_delays`: relative to what the oldest fraud could have shown. Of cases in the queue all are known,
    decided or not: those curves are of `delays.decision_delays`, from the case's first payment to the last of its
    payments' first answers, and end below 1 where cases wait.
    """
    workspace = workspace or Workspace.of()
    vault = Vault(workspace.vault, open_keys(workspace))
    allowed = load_transactions(
        dataset, purpose=INVESTIGATION, as_of=as_of, columns=["transaction_id"], workspace=workspace
    )
    rows = vault.read(dataset, columns=["transaction_id", "event_time", *LABELS], before=as_of)
    rows = as_known_at(rows[rows["transaction_id"].isin(allowed["transaction_id"])], as_of)
    held = outcomes_of(vault, dataset)
    outcomes = pd.DataFrame(columns=["transaction_id", "event_time", "outcome", "decided_at", "source"])
    if held is not None:
        outcomes = held[held["transaction_id"].isin(allowed["transaction_id"].astype("str"))]
    if as_of is None:
        moments = [rows["event_time"].max(), rows["label_time"].max(), *outcomes["decided_at"]]
        as_of = max((moment for moment in moments if pd.notna(moment)), default=pd.Timestamp.min.tz_localize("UTC"))
    outcomes = outcomes[outcomes["decided_at"] <= as_of]
    frauds = rows[rows["is_fraud"].fillna(False).astype(bool)]
    charged = outcomes[(outcomes["source"] == "chargeback") & (outcomes["outcome"] == "fraud")]
    charged = charged.sort_values("decided_at", kind="stable").drop_duplicates("transaction_id")
    curves = {
        "source": report_delays(frauds["event_time"], frauds["label_time"], as_of),
        "chargeback": report_delays(charged["event_time"], charged["decided_at"], as_of),
    }
    if CASES.name(dataset) in vault.datasets():
        cases = cases_of(dataset, workspace)
        cases = cases[(cases["event_time"] < as_of) & (cases["as_of"] <= as_of)]
        said = outcomes[outcomes["source"].isin(["review", "random"]) & (outcomes["outcome"] != "unsure")]
        first = said.groupby("transaction_id")["decided_at"].min()
        answered = pd.to_datetime(cases["transaction_id"].map(first), utc=True)
        per = cases.assign(answered=answered, open=answered.isna()).groupby("alert_id")
        case = per.agg({"event_time": "min", "answered": "max", "open": "any", "chance": "first"})
        case["answered"] = case["answered"].mask(case["open"])
        for source, mine in (("review", case["chance"].isna()), ("random", case["chance"].notna())):
            curves[source] = decision_delays(case.loc[mine, "event_time"], case.loc[mine, "answered"], as_of)
    tables = [table.assign(source=source) for source, table in curves.items() if len(table)]
    columns = ["source", *COLUMNS]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)
