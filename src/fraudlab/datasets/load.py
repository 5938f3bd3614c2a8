"""Loading: what a purpose may see of a data set, as it was known at a moment, and tables that describe it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from fraudlab.config import Workspace
from fraudlab.datasets import indicators
from fraudlab.datasets.retention import oldest_kept
from fraudlab.datasets.reviewed import LABELS, data_digest, outcomes_of, with_outcomes
from fraudlab.privacy import consent
from fraudlab.privacy.auditlog import audit_log
from fraudlab.privacy.keys import open_keys
from fraudlab.privacy.vault import Vault
from fraudlab.schema import InputError, as_known_at, did_you_mean, refuse, require_columns, utc

MATURITY_DAYS = 180


def load_transactions(
    dataset: str,
    *,
    purpose: str,
    as_of: pd.Timestamp | None = None,
    columns: list[str] | None = None,
    consent_as_of: pd.Timestamp | None = None,
    now: pd.Timestamp | None = None,
    workspace: Workspace | None = None,
) -> pd.DataFrame:
    """Load the transactions of a data set: what the purpose and each customer allow, as it was known then.

    Labels are those of the source with the outcomes of reviews and chargebacks put over them (`datasets.reviewed`).

    Parameters
    ----------
    dataset : its name in the vault.
    purpose : one of the contract's purposes; decides the columns.
    as_of : a moment with a time zone; rows before it, labels known by then. None: what was known when the file was
        ingested last (the manifest's `known_at`); everything held where the data are simulated.
    columns : fewer columns than the purpose allows; asking for others is refused. `indicator_merchant` and the like
        (docs/sharing.md) may always be asked for, and come by themselves where sharing has begun.
    consent_as_of : None heeds every withdrawal, objection, restriction and erasure of the ledger, whatever `as_of` is:
        a right that is in force today holds for what was known last year too. A moment with a time zone heeds what the
        ledger held then, to show in an audit what an earlier load saw; what it returns beyond today's consents must
        not be used for the purpose.
    now : the moment that ages are counted to: rows older than the purpose's `retention_days` are not returned, whatever
        `as_of` is. Default: the clock's; for simulated payments their own last one.
    workspace : default: the project around the working folder.

    Returns
    -------
    Canonical transactions (`fraudlab.schema.COLUMNS`) in the total order with index 0..n-1. Its `attrs["left_out"]`
    counts what customers did not allow: {"customers": n, "rows": n, "why": {reason: customers}}, each customer under
    one reason (see `fraudlab.privacy.consent.why_not`); `attrs["past_retention"]` counts rows that were too old.

    Raises
    ------
    InputError : unknown data set, purpose or column; a column this purpose may not see, with the purposes that may; an
        `as_of` after the file's ingest, because what was known then is not held.
    FraudlabError : a file of the vault is damaged, or its key is not here; the ledger cannot be read; the audit log is
        there and the load cannot be entered in it. (Where there is no log, such as in a read-only copy, none is begun.)
    """
    workspace = workspace or Workspace.of()
    vault = _vault(workspace)
    manifest = vault.manifest(dataset)
    allowed = allowed_columns(manifest, purpose)
    wanted = [*allowed, *indicators.offered(vault, manifest, allowed)] if columns is None else columns
    shared = [name for name in wanted if name in indicators.COLUMNS]
    wanted = [name for name in wanted if name not in indicators.COLUMNS]
    refuse(_denied(manifest, purpose, allowed, wanted) + indicators.refuse_unseen(shared, allowed, purpose))
    moment = _known_at(manifest, as_of)
    heeded = None if consent_as_of is None else utc(consent_as_of, "consent_as_of")
    labels = set(LABELS)
    dated = labels if moment is not None and labels & set(wanted) else set()
    read = {*wanted, *dated, "event_time", "customer_id", *map(indicators.base_of, shared)} & set(allowed)
    found = outcomes_of(vault, dataset) if labels & set(wanted) and "is_fraud" in allowed else None
    if found is not None:  # by the payment's number and the label's time, whether or not the purpose sees them
        read |= {"transaction_id", *labels}
    frame = vault.read(dataset, columns=[name for name in _loadable(manifest) if name in read], before=moment)
    frame = with_outcomes(frame, found, moment)
    if "label_time" in frame and "is_fraud" not in frame:  # a purpose may see when labels came, and not the labels
        frame["is_fraud"] = pd.Series(pd.NA, index=frame.index, dtype="boolean")
    frame = as_known_at(frame, moment)
    oldest = oldest_kept(manifest, purpose, now)
    past = 0 if oldest is None else int((frame["event_time"] < oldest).sum())
    if past:
        frame = frame[frame["event_time"] >= oldest].reset_index(drop=True)
    # Asked after the reading, which takes longer: what was recorded meanwhile counts.
    stands = consent.Ledger(workspace.ledger).standing(purpose, heeded)
    frame, left_out = _heeding(frame, stands, manifest["purposes"][purpose]["basis"])
    frame = indicators.with_indicators(frame, shared, vault, dataset, purpose)
    frame = frame[[name for name in (*allowed, *shared) if name in wanted or name in shared]]
    frame.attrs |= {"left_out": left_out, "past_retention": past}
    facts = {"dataset": dataset, "purpose": purpose, "rows": len(frame), "columns": frame.shape[1]}
    _log_load(workspace, facts, as_of=moment, consent_as_of=heeded)
    return frame


def _heeding(frame: pd.DataFrame, stands: pd.DataFrame, basis: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the rows whose customers allow them, and what was left out."""
    kept = consent.allowed(stands, frame["customer_id"], basis)
    customers = frame.loc[~kept, "customer_id"].drop_duplicates()
    why = consent.why_not(stands, customers, basis).value_counts()
    left_out = {
        "customers": len(customers),
        "rows": int((~kept).sum()),
        "why": {str(k): int(n) for k, n in why.items()},
    }
    return frame if kept.all() else frame[kept].reset_index(drop=True), left_out


def _log_load(workspace: Workspace, facts: dict[str, Any], **moments: pd.Timestamp | None) -> None:
    """Enter a load into the audit log where there is one: reading begins no log and makes no key."""
    log = audit_log(workspace)
    if log.path.exists():
        times = {name: None if moment is None else moment.isoformat() for name, moment in moments.items()}
        log.append("load", **facts, **times)


def allowed_columns(manifest: dict[str, Any], purpose: str) -> list[str]:
    """Return the loadable columns a purpose allows, in the order of the table."""
    if purpose not in manifest["purposes"]:
        raise InputError(f"purpose: unknown '{purpose}'; {did_you_mean(purpose, manifest['purposes'])}")
    allowed = {column["name"] for column in manifest["columns"] if purpose in column["purposes"]}
    return [name for name in _loadable(manifest) if name in allowed]


def dataset_facts(
    dataset: str, purpose: str, as_of: pd.Timestamp | None = None, workspace: Workspace | None = None
) -> dict[str, Any]:
    """Describe a data set as a purpose may see it: counts, columns with treatment and purposes, what was dropped.

    Returns
    -------
    dict, ready for JSON: dataset, source, rows, customers, merchants (None where the purpose sees no merchant), first,
    last, frauds, labelled, unlabelled, fraud_rate (frauds / labelled; 0 where none is labelled), digest,
    contract_digest, columns, dropped, purpose, purpose_meaning, basis (the lawful basis that the contract states),
    retention_days, purpose_columns, label_delay_days (median, p90, max; None where none is labelled), as_of (what the
    counts were known at, ISO; None: everything held), known_at (when the file was ingested last; None: simulated),
    left_out (what customers did not allow, not in the counts: customers, rows, why), ledger_digest (of the events that
    bear on the purpose; None without a ledger).
    """
    workspace = workspace or Workspace.of()
    vault = _vault(workspace)
    ledger_digest = consent.Ledger(workspace.ledger).digest(purpose)
    manifest = vault.manifest(dataset)
    moment = _known_at(manifest, as_of)
    allowed = allowed_columns(manifest, purpose)
    needed = ("event_time", "customer_id", "merchant_id", "is_fraud", "label_time")
    frame = load_transactions(
        dataset,
        purpose=purpose,
        as_of=moment,
        columns=[name for name in needed if name in allowed],
        workspace=workspace,
    )
    labels = _labels(frame)
    labelled, frauds = int(labels.notna().sum()), int(labels.sum())
    told = ("name", "type", "treatment", "purposes", "meaning")
    stated = manifest["purposes"][purpose]
    return {
        "dataset": dataset,
        "source": manifest["source"],
        "rows": len(frame),
        "customers": int(frame["customer_id"].nunique()),
        "merchants": int(frame["merchant_id"].nunique()) if "merchant_id" in frame else None,
        "first": frame["event_time"].min().isoformat() if len(frame) else None,
        "last": frame["event_time"].max().isoformat() if len(frame) else None,
        "frauds": frauds,
        "labelled": labelled,
        "unlabelled": len(frame) - labelled,
        "fraud_rate": frauds / labelled if labelled else 0.0,
        "digest": data_digest(vault, dataset),
        "contract_digest": manifest["contract_digest"],
        "columns": [{key: column[key] for key in told} for column in manifest["columns"]],
        "dropped": manifest["dropped"],
        "purpose": purpose,
        "purpose_meaning": stated["meaning"],
        "basis": stated["basis"],
        "retention_days": stated["retention_days"],
        "purpose_columns": allowed,
        "label_delay_days": _delay_facts(frame),
        "as_of": None if moment is None else moment.isoformat(),
        "known_at": manifest.get("known_at"),
        "left_out": frame.attrs["left_out"],
        "ledger_digest": ledger_digest,
    }


def daily_volume(transactions: pd.DataFrame) -> pd.DataFrame:
    """Count transactions, known frauds, amount and known labels per day (UTC); days without any are rows of zeros.

    Returns
    -------
    DataFrame: day (YYYY-MM-DD), transactions, frauds, amount, labelled; a row for every day from the first to the last.

    >>> daily_volume(pd.DataFrame({"event_time": pd.to_datetime(["2026-01-01", "2026-01-03"], utc=True),
    ...                            "amount": [1.5, 2.0], "is_fraud": pd.array([True, None], "boolean")}))
              day  transactions  frauds  amount  labelled
    0  2026-01-01             1       1     1.5         1
    1  2026-01-02             0       0     0.0         0
    2  2026-01-03             1       0     2.0         0
    """
    require_columns(transactions, ["event_time", "amount"], where="daily_volume")
    labels = _labels(transactions)
    days = transactions["event_time"].dt.floor("D")
    table = (
        pd.DataFrame(
            {
                "day": days,
                "transactions": 1,
                "frauds": labels.fillna(False).astype("int64"),
                "amount": transactions["amount"],
                "labelled": labels.notna().astype("int64"),
            }
        )
        .groupby("day")
        .sum()
    )
    if len(table):
        table = table.reindex(pd.date_range(table.index[0], table.index[-1], freq="D", name="day"), fill_value=0)
    table.insert(0, "day", table.index.strftime("%Y-%m-%d").astype("str"))
    return table.reset_index(drop=True)


def label_maturity(transactions: pd.DataFrame) -> pd.DataFrame:
    """Table how many labels, and how many of the frauds, are known so many days after the event.

    Returns
    -------
    DataFrame: days_since_event (0, 1, ... up to the longest delay seen, at most 180), share_known (of all labels),
    share_frauds_known (of the known frauds; NaN where none counts).

    Notes
    -----
    Young transactions must not make labels look slower or faster than they are. At d days only those at least d days
    old at the latest moment seen count for share_known; NaN where none is old enough. A fraud not reported yet cannot
    be told from a genuine payment, so share_frauds_known counts frauds among transactions as old as the longest delay
    of any fraud (or half the period, where that is shorter): their reports had time to arrive.

    >>> t = pd.to_datetime(["2026-01-01", "2026-01-01", "2026-01-05"], utc=True)
    >>> known = pd.to_datetime(["2026-01-02", "2026-01-04", None], utc=True)
    >>> fraud = pd.array([True, True, None], dtype="boolean")
    >>> table = label_maturity(pd.DataFrame({"event_time": t, "label_time": known, "is_fraud": fraud}))
    >>> [round(share, 2) for share in table["share_known"]], table["share_frauds_known"].tolist()
    ([0.0, 0.5, 0.5, 1.0], [0.0, 0.5, 0.5, 1.0])
    """
    require_columns(transactions, ["event_time", "label_time"], where="label_maturity")
    event, known = transactions["event_time"], transactions["label_time"]
    latest = max((moment for moment in (event.max(), known.max()) if moment is not pd.NaT), default=pd.NaT)
    delays = ((known - event) / pd.Timedelta(days=1)).to_numpy()
    age = ((latest - event) / pd.Timedelta(days=1)).to_numpy()
    there = ~np.isnan(delays)
    longest = int(min(np.ceil(delays[there].max()), MATURITY_DAYS)) if there.any() else 0
    days = np.arange(longest + 1)
    # Known after at most d days, less those that are not d days old (all known ones of them were known by then).
    by_then = _up_to(delays[there], days) - np.searchsorted(np.sort(age[there]), days, side="left")
    old_enough = len(age) - np.searchsorted(np.sort(age), days, side="left")
    fraud = there & _labels(transactions).fillna(False).to_numpy(dtype=bool)
    if fraud.any():
        fraud &= age >= min(delays[fraud].max(), age.max() / 2)
    return pd.DataFrame(
        {
            "days_since_event": days,
            "share_known": _share(by_then, old_enough),
            "share_frauds_known": _share(_up_to(delays[fraud], days), np.full(len(days), fraud.sum())),
        }
    )


def _up_to(values: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Count for each limit the values that do not exceed it."""
    return np.searchsorted(np.sort(values), limits, side="right")


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def _vault(workspace: Workspace) -> Vault:
    return Vault(workspace.vault, open_keys(workspace))


def _known_at(manifest: dict[str, Any], as_of: pd.Timestamp | None) -> pd.Timestamp | None:
    """Return the moment a load is about; a file tells nothing of what came after its ingest."""
    moment = None if as_of is None else utc(as_of, "as_of")
    if manifest.get("known_at") is None:
        return moment
    known = utc(manifest["known_at"], "known_at")
    if moment is not None and moment > known:
        raise InputError(
            f"as_of: must not lie after the last ingest of data set {manifest['dataset']}; found {_minute(moment)}, "
            f"ingested {_minute(known)}; ingest a newer export or take an earlier as_of"
        )
    return known if moment is None else moment


def _minute(moment: pd.Timestamp) -> str:
    return moment.strftime("%Y-%m-%dT%H:%MZ")


def _loadable(manifest: dict[str, Any]) -> list[str]:
    return list(manifest["parts"][0]["files"]["features"]["schema"])


def _denied(manifest: dict[str, Any], purpose: str, allowed: list[str], wanted: list[str]) -> list[str]:
    purposes = {column["name"]: column["purposes"] for column in manifest["columns"]}
    loadable = _loadable(manifest)
    problems = []
    for name in wanted:
        if name in allowed:
            continue
        if name in loadable:
            problems.append(
                f"columns: '{name}' is not allowed for purpose '{purpose}'; it is for: {', '.join(purposes[name])}"
            )
        elif name in purposes:
            problems.append(f"columns: '{name}' is kept in the identity file only; no purpose loads it from here")
        else:
            problems.append(f"columns: no column '{name}'; {did_you_mean(name, allowed)}")
    return problems


def _labels(transactions: pd.DataFrame) -> pd.Series:
    """Return `is_fraud`, or no known label at all where there is no such column."""
    if "is_fraud" in transactions:
        return transactions["is_fraud"].astype("boolean")
    return pd.Series(pd.NA, index=transactions.index, dtype="boolean")


def _delay_facts(frame: pd.DataFrame) -> dict[str, float | None]:
    if "label_time" not in frame:
        return {"median": None, "p90": None, "max": None}
    delays = ((frame["label_time"] - frame["event_time"]) / pd.Timedelta(days=1)).dropna()
    found = delays.quantile([0.5, 0.9, 1.0]).round(3).tolist() if len(delays) else [None] * 3
    return dict(zip(("median", "p90", "max"), found))
