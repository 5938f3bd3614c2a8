"""What labels do not tell: who was ever looked at, and what random checks say about the cases the model never lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from fraudlab import survey
from fraudlab.config import Workspace
from fraudlab.datasets.companions import CASES, INVESTIGATION, companion_rows
from fraudlab.datasets.labelling import cases_of
from fraudlab.datasets.load import load_transactions
from fraudlab.datasets.reviewed import outcomes_of
from fraudlab.metrics import wilson
from fraudlab.privacy.keys import open_keys
from fraudlab.privacy.vault import Vault

COLUMNS = ("metric", "group", "threshold", "value", "low", "high", "n", "note")
FIGURES = {
    "random_checks": "random checks decided",
    "frauds_found": "frauds among them",
    "frauds_per_10000": "frauds among 10,000 cases not listed",
    "hidden_frauds": "cases of fraud not listed",
    "queue_recall": "share of the frauds that the queue lists",
    "queue_precision": "share of listed cases that are fraud",
}
"""What the figures of `blind_side` are called."""

ASK = "set decision.explore_per_day, retrain or list the queue, and bring the outcomes in"
ORIGINS = ("source: fraud", "source: genuine", "review", "random", "chargeback", "not known")
"""Where the label of a payment comes from; the source's "genuine" is that nobody had complained by then."""


def label_sources(
    facts: Mapping[str, Any], *, as_of: pd.Timestamp | None = None, workspace: Workspace | None = None
) -> pd.DataFrame:
    """Table where the labels of a data set come from, and whom anybody ever looked at.

    Parameters
    ----------
    facts : of the data set, from `dataset_facts`: dataset, rows, frauds, labelled.
    as_of : what was known then.

    Returns
    -------
    DataFrame of metric, group, threshold (none), value, low, high (none), n, note. Metric "label_share": of each origin
    the number n and the share of all payments; a payment that was looked at counts there, by chance before by review,
    whatever the source says too. Metric "looked_at": the share of payments with an outcome among those that the model
    listed, and among all others.
    """
    workspace = workspace or Workspace.of()
    dataset, rows = facts["dataset"], facts["rows"]
    vault = Vault(workspace.vault, open_keys(workspace))
    counts = dict.fromkeys(ORIGINS, 0)
    outcomes = outcomes_of(vault, dataset)
    if outcomes is not None and as_of is not None:
        outcomes = outcomes[outcomes["decided_at"] <= as_of]
    if outcomes is None or outcomes.empty:
        counts |= {"source: fraud": facts["frauds"], "source: genuine": facts["labelled"] - facts["frauds"]}
        decided = pd.Series(dtype="str")
    else:
        source = vault.read(dataset, columns=["transaction_id", "event_time", "is_fraud", "label_time"], before=as_of)
        known = source["is_fraud"].astype("boolean")
        if as_of is not None:
            known = known.mask(~(source["label_time"] <= as_of))
        rows = len(source)
        ids = source["transaction_id"].astype("str")
        said = outcomes[outcomes["outcome"] != "unsure"]
        rank = said.assign(rank=said["source"].map({"random": 0, "review": 1, "pattern": 2, "chargeback": 3}))
        how = rank.sort_values("rank", kind="stable").drop_duplicates("transaction_id").set_index("transaction_id")
        origin = ids.map(how["source"])
        origin = origin.mask(origin.isna() & known.fillna(False).astype(bool), "source: fraud")
        origin = origin.mask(origin.isna() & known.notna().to_numpy(), "source: genuine").fillna("not known")
        counts |= origin.value_counts().to_dict()
        decided = said["transaction_id"]
    counts["not known"] = rows - sum(n for name, n in counts.items() if name != "not known")
    table = [("label_share", name, n / rows if rows else np.nan, n, "") for name, n in counts.items()]
    held = companion_rows(vault, dataset, CASES)
    listed = set()
    if held is not None:
        held = held if as_of is None else held[held["as_of"] <= as_of]
        listed = set(held.loc[held["chance"].isna(), "transaction_id"])
    looked = set(decided)
    for group, among, n in (
        ("listed", len(looked & listed), len(listed)),
        ("not listed", len(looked - listed), rows - len(listed)),
    ):
        note = "" if n else "not applicable: no payment"
        table.append(("looked_at", group, among / n if n else np.nan, n, note))
    frame = pd.DataFrame(table, columns=["metric", "group", "value", "n", "note"])
    return frame.assign(threshold=np.nan, low=np.nan, high=np.nan)[list(COLUMNS)]


def blind_side(dataset: str, *, as_of: pd.Timestamp | None = None, workspace: Workspace | None = None) -> pd.DataFrame:
    """Estimate from random checks how many frauds the queue does not list, and which share it does.

    Parameters
    ----------
    as_of : what was listed and decided by then; default: all that is held.

    Returns
    -------
    DataFrame of metric, group, threshold (none), value, low, high, n, note, over the days for which cases were drawn:

    - random_checks: the share of drawn cases that is decided; n drawn. frauds_found: of them, n decided.
    - frauds_per_10000: frauds among 10,000 cases that are not listed. hidden_frauds: in all of them on those days.
    - queue_recall: of all cases of fraud on those days, known and estimated, the share that the queue listed.
    - queue_precision: of the listed cases that are decided, the share that is fraud.

    A case is fraud where one of its payments is known to be, from whatever source. Intervals are 95 %: of
    `survey.weighted_total`, and Wilson's for the precision. Without random checks one row says so.
    """
    workspace = workspace or Workspace.of()
    vault = Vault(workspace.vault, open_keys(workspace))
    if INVESTIGATION not in vault.manifest(dataset)["purposes"]:
        return _nothing(f"not applicable: the contract states no purpose '{INVESTIGATION}', so no case is looked into")
    if CASES.name(dataset) not in vault.datasets():
        return _nothing(f"not available: no random checks yet; {ASK}")
    rows = cases_of(dataset, workspace)
    if as_of is not None:
        rows = rows[(rows["as_of"] <= as_of) & (rows["event_time"] < as_of)]
    rows = rows.assign(day=rows["event_time"].dt.floor("D"))
    drawn = rows[rows["chance"].notna()]
    if drawn.empty:
        return _nothing(f"not available: no random checks yet; {ASK}")
    rows = _with_answers(rows, dataset, as_of, workspace)
    cases = rows.groupby(["alert_id", "customer_id", "day"], as_index=False).agg(
        {"chance": "first", "as_of": "min", "fraud": "any", "reviewed": "any", "settled": "all"}
    )
    cases["decided"] = cases["reviewed"] & (cases["fraud"] | cases["settled"])
    mine = cases[cases["chance"].notna()]
    # Listed by the time of the draw: what a later model lists of those days was drawn from.
    drawn_at = mine.groupby("day")["as_of"].max()
    listed = cases[cases["chance"].isna() & (cases["as_of"] <= cases["day"].map(drawn_at))]
    listed = listed.groupby(["customer_id", "day"], as_index=False).agg({"fraud": "any", "decided": "any"})
    return pd.DataFrame(_estimates(mine, listed), columns=list(COLUMNS))


def _with_answers(rows: pd.DataFrame, dataset: str, as_of: pd.Timestamp | None, workspace: Workspace) -> pd.DataFrame:
    """Add of each payment whether it is known as fraud, was decided as such in a review, or as anything."""
    known = load_transactions(
        dataset, purpose=INVESTIGATION, as_of=as_of, columns=["transaction_id", "is_fraud"], workspace=workspace
    )
    fraud = known.loc[known["is_fraud"].fillna(False).astype(bool), "transaction_id"].astype("str")
    outcomes = outcomes_of(Vault(workspace.vault, open_keys(workspace)), dataset)
    said = pd.Series(dtype="str")
    if outcomes is not None:
        looked = outcomes[outcomes["source"].isin(["review", "random"]) & (outcomes["outcome"] != "unsure")]
        said = looked.loc[looked["decided_at"] <= as_of if as_of is not None else slice(None), "transaction_id"]
    settled = rows["transaction_id"].isin(said)
    return rows.assign(fraud=rows["transaction_id"].isin(fraud), reviewed=settled, settled=settled)


def _estimates(drawn: pd.DataFrame, listed: pd.DataFrame) -> list[tuple[Any, ...]]:
    """Return the rows of `blind_side` from drawn cases (chance, fraud, decided) and listed ones (fraud, decided)."""
    days = drawn["day"].nunique()
    over = f"{days:,} days from {drawn['day'].min():%Y-%m-%d} to {drawn['day'].max():%Y-%m-%d}"
    weight = survey.answered_weights(drawn["chance"], drawn["decided"], drawn["fraud"])
    counted = weight > 0
    share = float(drawn["decided"].mean())
    made = [("random_checks", "drawn", np.nan, share, np.nan, np.nan, len(drawn), over)]
    listed_weight = survey.answered_weights(np.ones(len(listed)), listed["decided"], listed["fraud"])
    # The queue's frauds, those that wait for a decision counted like those that have one.
    frauds = float(listed_weight[listed["fraud"].to_numpy()].sum())
    if counted.any():
        hit = counted & drawn["fraud"].to_numpy()
        total, low, high = survey.weighted_total(weight[hit], most=float(weight[counted].max()))
        scale = 10_000 / weight.sum()
        n = int(counted.sum())
        made.append(("frauds_found", "drawn", np.nan, float(hit.sum()), np.nan, np.nan, n, over))
        made.append(
            ("frauds_per_10000", "not listed", np.nan, total * scale, low * scale, min(high * scale, 1e4), n, over)
        )
        made.append(("hidden_frauds", "not listed", np.nan, total, low, high, n, over))
        if frauds + total:
            recall = frauds / (frauds + total), frauds / (frauds + high), frauds / (frauds + low)
            made.append(("queue_recall", "all", np.nan, *recall, len(listed), over))
        else:
            note = "not applicable: no fraud is known on these days, listed or drawn"
            made.append(("queue_recall", "all", np.nan, np.nan, np.nan, np.nan, len(listed), note))
    else:
        note = (
            f"not available: none of {len(drawn):,} random checks is decided yet; fill the queue's sheet in and bring "
            "it in with `fraudlab labels import`"
        )
        made.append(("frauds_per_10000", "not listed", np.nan, np.nan, np.nan, np.nan, 0, note))
    if known := int((listed_weight > 0).sum()):
        precision = frauds / listed_weight.sum()
        ends = wilson(np.array(precision * known), np.array(known))
        made.append(("queue_precision", "listed", np.nan, precision, *map(float, ends), known, over))
    else:
        note = "not available: no listed case of these days is decided"
        made.append(("queue_precision", "listed", np.nan, np.nan, np.nan, np.nan, 0, note))
    return made


def _nothing(note: str) -> pd.DataFrame:
    return pd.DataFrame([("random_checks", "drawn", np.nan, np.nan, np.nan, np.nan, 0, note)], columns=list(COLUMNS))
