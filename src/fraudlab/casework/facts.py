"""What is to be known of one case: its payments, the customer's usual, who else is near, why the model ranked it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from fraudlab import counterfactuals, explain
from fraudlab import reasons as reasons_of
from fraudlab.casework.queue import (
    SHOWN_CODE,
    load_for_scoring,
    scoring_purpose,
)
from fraudlab.config import Workspace
from fraudlab.datasets import load_transactions
from fraudlab.datasets.companions import INVESTIGATION
from fraudlab.datasets.labelling import cases_of
from fraudlab.datasets.reviewed import outcomes_of
from fraudlab.privacy.keys import open_keys
from fraudlab.privacy.shortcodes import demand_code
from fraudlab.privacy.vault import Vault
from fraudlab.schema import FraudlabError, InputError
from fraudlab.serving import Package
from fraudlab.tracking import registered_package

HISTORY_DAYS = 90
LINK_DAYS = 30
LINKS = {"device_id": "device", "ip": "network address", "card_id": "card", "merchant_id": "merchant"}
"""What a customer can share with others, and what it is called."""

CHAINED = "devices and cards, in several steps"
"""Whoever hangs together with the customer: used a device or card of someone who used one of theirs, and so on."""

_CHAINS = ("device_id", "card_id")
SHOWN_OTHERS = 5
SHOWN_PARTS = 6
SAME_SCORE = 1e-6
CHANGED = "The data behind this case have changed since: its reasons are those of then, its score is computed anew"


@dataclass(frozen=True)
class Case:
    """All that the sheet of one case says; times in UTC, customers by the first signs of their pseudonyms.

    Attributes
    ----------
    alert_id, dataset, model, version, day, customer, tier, action : as in the queue.
    as_of : what was known when the case was listed.
    payments : of the case, in order: number, event_time, amount, risk, and of the columns that investigators see those
        that there are (merchant_id, merchant_category, channel, country, currency, auth_method, auth_result, place_km,
        place_kmh).
    history : the customer's payments of the 90 days up to the end of the case, these included: event_time, amount,
        case, fraud (known by `as_of`), and place_km where there is one.
    usual : what the payments before the case were like: facts by name; empty where there is none.
    links : what the case's payments share with other customers within 30 days, as known at `as_of`: what, others
        (customers), known_fraud (how many of them with a known fraud on it), codes (up to five of them, fraud first).
    reasons : of the riskiest payment: code, en, zh.
    score : base, margin, contributions of the riskiest payment, for a waterfall; None where it cannot be had.
    note : why something is not there; "".
    changes : what would have kept it below the threshold: for each way its inputs, before and after.
    would_change : the same in sentences, or the one that says that nothing would; empty where it cannot be had.
    outcomes : what came back of the case: decided_at, outcome, source, by.
    rules : ids of the rules that fired.
    """

    alert_id: str
    dataset: str
    model: str
    version: str
    day: str
    customer: str
    tier: str
    action: str
    as_of: pd.Timestamp
    payments: pd.DataFrame = field(repr=False)
    history: pd.DataFrame = field(repr=False)
    usual: dict[str, Any] = field(repr=False)
    links: pd.DataFrame = field(repr=False)
    reasons: list[dict[str, str]]
    score: dict[str, Any] | None = field(repr=False)
    note: str
    changes: list[list[dict[str, str]]]
    would_change: list[str]
    outcomes: pd.DataFrame = field(repr=False)
    rules: str


def case_facts(
    alert_id: str,
    dataset: str,
    workspace: Workspace,
    *,
    explained: bool = True,
    progress: Callable[[str], None] = lambda text: None,
) -> Case:
    """Gather what an investigator needs to decide one case, as it was known when the case was listed.

    Parameters
    ----------
    alert_id : the case's code; case, hyphens and blanks do not matter.
    dataset : its name in the vault.
    explained : compute the score's parts and what would have changed it, which takes some seconds.
    progress : is told what is being done.

    Raises
    ------
    InputError : no such code; no such case of this data set, or its customer restricted or objected to this.
    """
    code = demand_code(alert_id, "case")
    rows = cases_of(dataset, workspace)
    rows = rows[rows["alert_id"] == code].reset_index(drop=True)
    if rows.empty:
        raise InputError(
            f"case: data set {dataset} holds no case {code} for the purpose '{INVESTIGATION}'; check it and the data "
            "set; a case whose customer restricted this, or whose time is over, is not found either"
        )
    as_of, customer = rows["as_of"].max(), rows["customer_id"].iloc[0]
    progress("reading the customer's payments")
    known = load_transactions(dataset, purpose=INVESTIGATION, as_of=as_of, workspace=workspace)
    known = known.assign(transaction_id=known["transaction_id"].astype("str"))
    mine = known[known["customer_id"] == customer]
    case = mine["transaction_id"].isin(rows["transaction_id"])
    if int(case.sum()) != len(rows):
        raise InputError(f"case: payments of {code} are not held any more; list the cases again with `fraudlab queue`")
    best = rows.sort_values(["score", "event_time"], ascending=[False, True], kind="stable").iloc[0]
    score, changes, would_change, note = None, [], [], ""
    reasons = json.loads(best["reasons"])
    if explained:
        progress("computing why the model ranked it")
        try:
            score, changes, would_change, note = _explained(best, dataset, as_of, workspace)
        except FraudlabError as error:
            note = str(error)
    return Case(
        alert_id=code,
        dataset=dataset,
        model=best["model"],
        version=best["version"],
        day=f"{rows['event_time'].min():%Y-%m-%d}",
        customer=str(customer)[:SHOWN_CODE],
        tier=best["tier"],
        action=best["action"],
        as_of=as_of,
        payments=_payments(mine[case], rows),
        history=_history(mine, case),
        usual=usual_of(mine[mine["event_time"] < rows["event_time"].min()]),
        links=links_of(known, mine[case]),
        reasons=reasons,
        score=score,
        note=note,
        changes=changes,
        would_change=would_change,
        outcomes=_outcomes(rows, dataset, workspace),
        rules=best["rules"],
    )


def usual_of(before: pd.DataFrame) -> dict[str, Any]:
    """Return what a customer's payments before a case were like, over the 90 days before the last of them.

    Parameters
    ----------
    before : the customer's payments before the case, in order; event_time, amount and what else there is of channel,
        country, merchant_category, device_id.

    Returns
    -------
    dict: payments, days (whole days since the first), median, low, high (the amounts' 10 % and 90 % quantiles), first,
    last (hours of the day between which 80 % of them were, UTC), and per column there is: the commonest value and its
    share, or of devices how many; empty without payments.

    >>> rows = pd.DataFrame({"event_time": pd.to_datetime(["2026-03-01 09:00", "2026-03-03 11:00"], utc=True),
    ...                      "amount": [10.0, 30.0], "country": ["DE", "DE"]})
    >>> usual = usual_of(rows)
    >>> usual["payments"], usual["median"], usual["low"], usual["high"], usual["first"], usual["country"]
    (2, 20.0, 12.0, 28.0, 9, ('DE', 1.0))
    """
    if before.empty:
        return {}
    end = before["event_time"].max()
    rows = before[before["event_time"] >= end - pd.Timedelta(days=HISTORY_DAYS)]
    hours = rows["event_time"].dt.hour
    told: dict[str, Any] = {
        "payments": len(rows),
        "days": int((end - rows["event_time"].min()) / pd.Timedelta(days=1)),
        "median": round(float(rows["amount"].median()), 2),
        "low": round(float(rows["amount"].quantile(0.1)), 2),
        "high": round(float(rows["amount"].quantile(0.9)), 2),
        "first": int(hours.quantile(0.1, interpolation="nearest")),
        "last": int(hours.quantile(0.9, interpolation="nearest")),
    }
    for name in ("channel", "country", "merchant_category", "auth_method"):
        if name in rows and rows[name].notna().any():
            shares = rows[name].value_counts(normalize=True)
            told[name] = (str(shares.index[0]), round(float(shares.iloc[0]), 3))
    if "device_id" in rows:
        told["devices"] = int(rows["device_id"].nunique())
    return told


def links_of(known: pd.DataFrame, payments: pd.DataFrame) -> pd.DataFrame:
    """Return which other customers used what a case's payments used, within the 30 days up to the last of them.

    Parameters
    ----------
    known : all payments as known then: event_time, customer_id, is_fraud and what there is of device_id, ip, card_id,
        merchant_id.
    payments : those of the case.

    Returns
    -------
    DataFrame: what, others (different customers), known_fraud (of them with a known fraud on it), codes (the first
    signs of up to five, those with a fraud first; of a merchant none). A row for each thing that is known of the case,
    and one for customers who hang together with this one through devices and cards in several steps, over all that is
    known, where there are any beyond the direct ones.

    >>> rows = pd.DataFrame({"event_time": pd.to_datetime(["2026-03-01", "2026-03-02", "2026-03-03"], utc=True),
    ...     "customer_id": ["a" * 9, "b" * 9, "c" * 9], "device_id": ["d", "d", "e"],
    ...     "is_fraud": pd.array([True, None, None], dtype="boolean")})
    >>> links_of(rows, rows.iloc[[1]]).values.tolist()
    [['device', 1, 1, ['aaaaaaaa']]]
    """
    last, customer = payments["event_time"].max(), payments["customer_id"].iloc[0]
    known = known[known["event_time"] <= last]
    recent = known[known["event_time"] >= last - pd.Timedelta(days=LINK_DAYS)]
    made, direct = [], set()
    for name, what in LINKS.items():
        values = payments[name].dropna().unique() if name in payments else []
        if len(values):
            shared = recent[recent[name].isin(values) & (recent["customer_id"] != customer)]
            made.append(_others(what, shared, shown=0 if name == "merchant_id" else SHOWN_OTHERS))
            direct |= set(shared["customer_id"]) if name in _CHAINS else set()
    chained = known[known["customer_id"].isin(_hanging_together(known, customer) - {customer})]
    if set(chained["customer_id"]) - direct:
        made.append(_others(CHAINED, chained, shown=SHOWN_OTHERS))
    return pd.DataFrame(made, columns=["what", "others", "known_fraud", "codes"])


def _others(what: str, shared: pd.DataFrame, *, shown: int) -> tuple[str, int, int, list[str]]:
    """Count the customers of some payments, those with a known fraud, and name the first ones by short codes."""
    fraud = shared["is_fraud"].fillna(False).astype(bool) if "is_fraud" in shared else pd.Series(False, shared.index)
    bad = list(dict.fromkeys(shared.loc[fraud, "customer_id"]))
    every = list(dict.fromkeys([*bad, *shared["customer_id"]]))
    return what, len(every), len(bad), [str(code)[:SHOWN_CODE] for code in every[:shown]]


def _hanging_together(known: pd.DataFrame, customer: str) -> set[str]:
    """Return the customers reached from one through shared devices and cards, in any number of steps."""
    reached, size = {customer}, 0
    while size < len(reached):
        size = len(reached)
        mine = known[known["customer_id"].isin(reached)]
        for name in (name for name in _CHAINS if name in known):
            reached |= set(known.loc[known[name].isin(mine[name].dropna().unique()), "customer_id"])
    return reached


def _payments(mine: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the case's payments numbered as `labels import` counts them."""
    order = rows[["transaction_id", "risk"]].assign(number=np.arange(1, len(rows) + 1))
    names = ["merchant_id", "merchant_category", "channel", "country", "currency", "auth_method", "auth_result"]
    columns = [name for name in (*names, "place_km", "place_kmh") if name in mine]
    table = mine[["transaction_id", "event_time", "amount", *columns]].merge(order, on="transaction_id")
    return table.sort_values("number").drop(columns="transaction_id").reset_index(drop=True)


def _history(mine: pd.DataFrame, case: pd.Series) -> pd.DataFrame:
    end = mine.loc[case, "event_time"].max()
    near = mine["event_time"].between(end - pd.Timedelta(days=HISTORY_DAYS), end)
    rows = mine[near]
    fraud = rows["is_fraud"].fillna(False).astype(bool) if "is_fraud" in rows else False
    kept = ["event_time", "amount", *(["place_km"] if "place_km" in rows else [])]
    return rows[kept].assign(case=case[near], fraud=fraud).reset_index(drop=True)


def _outcomes(rows: pd.DataFrame, dataset: str, workspace: Workspace) -> pd.DataFrame:
    """Return what has come back of a case's payments, each moment once, whenever it came."""
    columns = ["decided_at", "outcome", "source", "by"]
    held = outcomes_of(Vault(workspace.vault, open_keys(workspace)), dataset)
    if held is None:
        return pd.DataFrame(columns=columns)
    mine = held[held["transaction_id"].isin(rows["transaction_id"])]
    return mine[columns].drop_duplicates().sort_values("decided_at", kind="stable", ignore_index=True)


def _explained(
    best: pd.Series, dataset: str, as_of: pd.Timestamp, workspace: Workspace
) -> tuple[dict[str, Any] | None, list[list[dict[str, str]]], list[str], str]:
    """Return the parts of the riskiest payment's score, what would have changed it, and what to know of both."""
    _, _, package = registered_package(workspace, f"{best['model']}/{best['version']}")
    manifest = Vault(workspace.vault, open_keys(workspace)).manifest(dataset)
    purpose = scoring_purpose(manifest)
    transactions = load_for_scoring(package, dataset, purpose, as_of, workspace, manifest)
    place = np.flatnonzero(transactions["transaction_id"].astype("str") == best["transaction_id"])
    if not len(place):
        raise InputError(
            f"case: its payment may not be used for the purpose '{purpose}' any more, so it is not explained"
        )
    payment = transactions.iloc[place[0]]
    before = transactions.iloc[: place[0]]
    features = package.feature_set
    genuine = (
        transactions.loc[~transactions["is_fraud"].fillna(True).astype(bool), "amount"]
        if "is_fraud" in transactions
        else ()
    )
    mine = before[before["customer_id"] == payment["customer_id"]]
    names = package.categories
    options = counterfactuals.offered(dict(payment), mine, genuine, reads=[*features.requires, *names])
    compute = counterfactuals.recomputed(features, before, dict(payment), options, categories=names)
    row = compute([dict(payment)])
    note = ""
    if abs(float(package.score(row, reasons=False)["score"].iloc[0]) - best["score"]) > SAME_SCORE:
        note = CHANGED
    return parts_of(package, row), *_would_change(package, payment, options, compute, genuine), note


def _would_change(
    package: Package, payment: pd.Series, options: list[Any], compute: Callable, genuine: Any
) -> tuple[list[list[dict[str, str]]], list[str]]:
    def score_of(payments: list[dict[str, Any]]) -> np.ndarray:
        return package.score(compute(payments), reasons=False)["score"].to_numpy()

    threshold = package.thresholds.review
    changes = counterfactuals.smallest_changes(
        dict(payment), options, score_of, threshold, genuine_amounts=genuine, most=2
    )
    below = not changes and float(score_of([dict(payment)])[0]) < threshold
    told = [change.facts()["inputs"] for change in changes]
    return told, counterfactuals.sentences(changes, most=2, below=below)


def parts_of(package: Package, row: pd.DataFrame) -> dict[str, Any] | None:
    """Return one payment's score as a sum, for a waterfall: base, margin, its largest contributions; None without any.

    Parameters
    ----------
    row : the model's features of one payment.
    """
    if not package.model.explains:
        return None
    alert = package.model.complete(row)
    table = explain.contributions(package.model, alert)
    moved, values, words = reasons_of.aligned(table, alert, package.describe)
    largest = moved.iloc[0].abs().sort_values(ascending=False, kind="stable").index[:SHOWN_PARTS]
    kinds = words["kind"].to_dict()
    return {
        "base": float(table[reasons_of.BASE].iloc[0]),
        "margin": float(table.iloc[0].sum()),
        "contributions": [
            {
                "feature": name,
                "meaning": str(words.loc[name, "meaning"]),
                "value": None if kinds[name] == "identifier" else _plain(values[name].iloc[0]),
                "contribution": float(moved[name].iloc[0]),
            }
            for name in largest
        ],
        "kinds": {name: kinds[name] for name in largest},
        "labels": words["label"].reindex(largest).dropna().to_dict() if "label" in words else {},
    }


def _plain(value: Any) -> Any:
    with contextlib.suppress(TypeError, ValueError):
        return None if np.isnan(value) else round(float(value), 4)
    return value
