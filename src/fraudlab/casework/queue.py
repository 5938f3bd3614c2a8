"""The queue: the cases of each day that the model ranks highest, within what can be reviewed, and a few by chance."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import pandas as pd

from fraudlab import explain, rulebook, ruling, serving
from fraudlab import reasons as reasons_of
from fraudlab.casework.drawing import KEY, days_to_draw, draw_cases
from fraudlab.config import RunConfig, Workspace
from fraudlab.datasets import load_transactions
from fraudlab.datasets.companions import CASES, INVESTIGATION, append, companion_rows
from fraudlab.datasets.labelling import cases_of
from fraudlab.datasets.load import allowed_columns
from fraudlab.datasets.reviewed import outcomes_of
from fraudlab.privacy.keys import Keys, open_keys
from fraudlab.privacy.shortcodes import short_code
from fraudlab.privacy.vault import Vault
from fraudlab.schema import InputError, utc
from fraudlab.tracking import registered_package

SCORING = "fraud-detection"
"""The purpose that payments are scored for, where the contract states it; else they are for "case-investigation"."""

DAYS = 7
SHOWN_CODE = 8
STATES = ("open", "fraud", "genuine", "unsure")


def list_cases(
    config: RunConfig,
    workspace: Workspace,
    *,
    model: str = "",
    since: pd.Timestamp | None = None,
    as_of: pd.Timestamp | None = None,
    now: pd.Timestamp | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Score the newest payments with a registered model and put the cases it finds into the queue.

    Parameters
    ----------
    config : names the data set, whose cases are counted, how many a day can be reviewed (`decision.alerts_per_day`) and
        how many more are drawn by chance (`decision.explore_per_day`).
    model : NAME@ALIAS, NAME/VERSION or NAME, which is its champion; default: the config's own.
    since : cases of this day (UTC) and later; default: seven days before `as_of`.
    as_of : what was known then; default: the config's, else when the file was ingested, else all.
    now : the moment that is noted; default: the clock's.
    progress : is told what is being done.

    Returns
    -------
    dict: model, version, since, as_of (ISO), payments (scored), cases (found), drawn (of them by chance), new (cases
    not listed before), held (cases in the queue, of all listings), why ("" or why none was found), rules ("" or why
    the config's rules could not be asked).

    Raises
    ------
    InputError : no such model; the contract does not state "case-investigation", or does not allow the purpose that
        payments are scored for a column that the model reads.
    FraudlabError : the model's package is damaged; a key is not here.

    Notes
    -----
    A case is one customer (`split.entity`) on one day (UTC) with a payment at or above the model's review threshold.
    Of each day the highest ranking so many are listed; of those all payments at or above the threshold. A case that was
    listed before stays as it was; payments of the same day that came later are added to it. Random checks are drawn
    once for each whole day from the cases not listed by then, with all their payments (`drawing.draw_cases`); what is
    recommended for them is a review.
    """
    vault = Vault(workspace.vault, open_keys(workspace))
    name, version, package = registered_package(workspace, model or config.name)
    manifest = vault.manifest(config.dataset.name)
    purpose = scoring_purpose(manifest)
    moment = as_of if as_of is not None else config.as_of_time
    progress("loading the payments")
    transactions = load_for_scoring(package, config.dataset.name, purpose, moment, workspace, manifest)
    moment = _moment(moment, manifest, transactions)
    start = (moment - pd.Timedelta(days=DAYS)).floor("D") if since is None else since
    recent = np.flatnonzero(transactions["event_time"] >= start)
    facts = {"model": name, "version": version, "since": start.isoformat(), "as_of": moment.isoformat()}
    held = companion_rows(vault, config.dataset.name, CASES)
    held = pd.DataFrame(columns=list(CASES.columns)) if held is None else held
    if not len(recent):
        why = _why_nothing_is_scored(transactions, manifest, purpose, start)
        none = {"payments": 0, "cases": 0, "drawn": 0, "new": 0}
        return facts | none | {"held": held["alert_id"].nunique(), "why": why, "rules": ""}
    progress(f"computing {len(package.features)} features")
    features = package.features_of(transactions)
    progress(f"scoring {len(recent):,} payments")
    rows = features.iloc[recent].reset_index(drop=True)
    scored = package.score(rows, reasons=False)
    entity = config.split.entity
    payments = transactions.iloc[recent].reset_index(drop=True)
    highest = choose_cases(
        scored["score"],
        payments["event_time"],
        payments[entity],
        threshold=package.thresholds.review,
        per_day=config.decision.alerts_per_day,
    )
    drawn, chance = draw_cases(
        payments["event_time"],
        payments[entity],
        scored["score"].to_numpy(),
        listed=np.isin(np.arange(len(payments)), highest)
        | payments["transaction_id"].astype("str").isin(held["transaction_id"]).to_numpy(),
        per_day=config.decision.explore_per_day,
        days=days_to_draw(start, moment, held["event_time"], held["chance"]),
        dataset=config.dataset.name,
        keys=vault.keys,
    )
    chosen = np.append(highest, drawn)
    chances = np.append(np.full(len(highest), np.nan), chance)
    listed = payments.iloc[chosen]
    told = told_in_all(package, rows.iloc[chosen])
    fired, problem = fired_rules(config, listed, rows.iloc[chosen])
    codes = [
        case_code(vault.keys, name, version, str(whose), day)
        for whose, day in zip(listed[entity], listed["event_time"].dt.strftime("%Y-%m-%d"))
    ]
    recommended = scored["action"].astype("str").iloc[chosen].to_numpy()
    table = pd.DataFrame(
        {
            "transaction_id": listed["transaction_id"].astype("str"),
            "event_time": listed["event_time"],
            "customer_id": listed["customer_id"],
            "alert_id": pd.Series(codes, index=listed.index, dtype="str"),
            "model": pd.Series(name, index=listed.index, dtype="str"),
            "version": pd.Series(version, index=listed.index, dtype="str"),
            "as_of": pd.Series(moment.as_unit("us"), index=listed.index),
            "score": scored["score"].iloc[chosen].to_numpy(),
            "risk": scored["risk"].iloc[chosen].to_numpy(),
            "tier": scored["tier"].astype("str").iloc[chosen].to_numpy(),
            "action": np.where(np.isnan(chances), recommended, "manual_review"),
            "reasons": pd.Series(
                [json.dumps(each, ensure_ascii=False) for each in told], index=listed.index, dtype="str"
            ),
            "rules": pd.Series(fired, index=listed.index, dtype="str"),
            "chance": chances,
        }
    )
    now = pd.Timestamp.now("UTC") if now is None else now
    append(vault, config.dataset.name, CASES, table, came={"model": f"{name} {version}"}, now=now)
    cases, before = set(codes), set(held["alert_id"])
    return facts | {
        "payments": len(recent),
        "cases": len(cases),
        "drawn": len(set(codes[len(highest) :])),
        "new": len(cases - before),
        "held": len(cases | before),
        "why": "" if cases else f"none of the {len(recent):,} payments reaches the model's review threshold",
        "rules": problem,
    }


def choose_cases(score: Any, event_time: Any, entity: Any, *, threshold: float, per_day: int) -> np.ndarray:
    """Return the rows of the payments that make up each day's cases for review, in their order.

    Parameters
    ----------
    score, event_time, entity : shape (n,); of payments.
    threshold : payments with this score or more are suspicious.
    per_day : cases a day (UTC) that can be reviewed. Where cases with equal best scores straddle it, those whose
        entity comes first in the alphabet are taken, so that the answer does not depend on the order of the rows.

    Returns
    -------
    int array: positions of the payments at or above the threshold of the `per_day` best cases of each day.

    >>> day = pd.to_datetime(["2026-03-01 09:00", "2026-03-01 10:00", "2026-03-01 11:00", "2026-03-02 09:00"], utc=True)
    >>> choose_cases([0.9, 0.7, 0.8, 0.6], day, ["a", "b", "a", "b"], threshold=0.5, per_day=1).tolist()
    [0, 2, 3]
    """
    frame = pd.DataFrame(
        {"score": np.asarray(score, dtype=float), "entity": pd.Series(entity).astype("str").to_numpy()}
    )
    frame["day"] = pd.DatetimeIndex(event_time).tz_convert("UTC").floor("D")
    suspicious = frame[frame["score"] >= threshold]
    best = suspicious.groupby(["day", "entity"], as_index=False)["score"].max()
    best = best.sort_values(["day", "score", "entity"], ascending=[True, False, True], kind="stable")
    taken = best.groupby("day").head(per_day)
    chosen = pd.MultiIndex.from_frame(suspicious[["day", "entity"]]).isin(
        pd.MultiIndex.from_frame(taken[["day", "entity"]])
    )
    return suspicious.index[chosen].to_numpy(dtype=np.int64)


def queue_table(
    dataset: str,
    workspace: Workspace,
    *,
    as_of: pd.Timestamp | None = None,
    since: pd.Timestamp | None = None,
    open_only: bool = True,
    blind: bool = False,
) -> pd.DataFrame:
    """Return the cases in the queue, the newest day and the highest risk first.

    Parameters
    ----------
    dataset : its name in the vault.
    as_of : the moment that ages are counted to and outcomes are known at; default: that of the newest listing.
    since : cases of this moment and later.
    open_only : leave out cases that have an outcome.
    blind : leave risk, tier, action, reasons and rules empty and order a day's cases by their codes, so that random
        checks look like all others and are decided like them.

    Returns
    -------
    DataFrame, a row per case: alert_id, day (YYYY-MM-DD, UTC), customer (the first eight signs of the pseudonym),
    payments, amount (their sum), risk (the highest), tier, action, reasons (list of {code, en, zh}, of the
    riskiest payment), rules, age_days (since the case's first payment, whole days), state (open, fraud, genuine or
    unsure), model. A case is fraud where one of its payments is known to be, from whatever source, and genuine where
    outcomes say so of all.

    Raises
    ------
    InputError : no case was listed yet.
    """
    rows = cases_of(dataset, workspace)
    moment = rows["as_of"].max() if as_of is None else as_of
    if since is not None:
        rows = rows[rows["event_time"] >= since]
    rows = rows[rows["event_time"] < moment]
    known = load_transactions(
        dataset,
        purpose=INVESTIGATION,
        as_of=moment,
        columns=["transaction_id", "amount", "is_fraud"],
        workspace=workspace,
    )
    known = known.set_index(known["transaction_id"].astype("str"))
    rows = rows.assign(
        # As it is known now: a copy kept with the case would outlive a correction.
        amount=rows["transaction_id"].map(known["amount"]),
        state=_states(rows["transaction_id"], known["is_fraud"], dataset, workspace, moment),
    )
    rows = rows.sort_values(["alert_id", "score", "event_time"], ascending=[True, False, True], kind="stable")
    grouped = rows.groupby("alert_id", sort=False)
    best = grouped.first()
    table = pd.DataFrame(
        {
            "alert_id": best.index.astype("str"),
            "day": grouped["event_time"].min().dt.strftime("%Y-%m-%d").to_numpy(),
            "customer": best["customer_id"].str[:SHOWN_CODE].to_numpy(),
            "payments": grouped.size().to_numpy(),
            "amount": grouped["amount"].sum().round(2).to_numpy(),
            "risk": best["risk"].to_numpy(),
            "tier": best["tier"].to_numpy(),
            "action": best["action"].to_numpy(),
            "reasons": [json.loads(text) for text in best["reasons"]],
            "rules": best["rules"].to_numpy(),
            "age_days": ((moment - grouped["event_time"].min()) // pd.Timedelta(days=1)).to_numpy(),
            "state": grouped["state"].agg(_worst).to_numpy(),
            "model": (best["model"] + " " + best["version"]).to_numpy(),
            "_score": 0.0 if blind else best["score"].to_numpy(),
        }
    )
    if blind:
        table = table.assign(risk=np.nan, tier="", action="", reasons=[[] for _ in range(len(table))], rules="")
    if open_only:
        table = table[table["state"] == "open"]
    ordered = table.sort_values(["day", "_score", "alert_id"], ascending=[False, False, True], kind="stable")
    return ordered.drop(columns="_score").reset_index(drop=True)


def told_in_all(package: serving.Package, rows: pd.DataFrame) -> list[list[dict[str, str]]]:
    """Return the reasons of payments in every language: for each row a list of {code, en, zh}, strongest first."""
    if not len(rows):
        return []
    if not package.model.explains:
        return [[{"code": "", "en": reasons_of.unexplained("en"), "zh": reasons_of.unexplained("zh")}]] * len(rows)
    alerts = package.model.complete(rows)
    table = explain.contributions(package.model, alerts)
    told = {
        lang: reasons_of.tell(table, alerts, package.describe, top=serving.TOP_REASONS, lang=lang)
        for lang in ("en", "zh")
    }
    return [
        [{"code": one.code, "en": one.sentence, "zh": other.sentence} for one, other in zip(english, chinese)]
        for english, chinese in zip(told["en"], told["zh"])
    ]


def fired_rules(config: RunConfig, payments: pd.DataFrame, features: pd.DataFrame) -> tuple[list[str], str]:
    """Return the ids of the active rules that fired on each payment, comma-separated; and why none could be asked."""
    none = [""] * len(payments)
    try:
        book = ruling.book_of(config)
        if book is None or payments.empty:
            return none, ""
        table = ruling.rule_table({"transactions": payments, "features": features.set_axis(payments.index)})
        fired = rulebook.fired(book, table)
    except InputError as error:
        return none, str(error).replace("\n", " ")
    return [", ".join(fired.columns[row]) for row in fired.to_numpy(dtype=bool)], ""


def case_code(keys: Keys, model: str, version: str, customer: str, day: str) -> str:
    """Return a case's code: the same for the same model version, customer and day, and telling none of them."""
    return short_code(keys.hmac(KEY, "\0".join((model, version, customer, day)).encode()))


def scoring_purpose(manifest: dict[str, Any]) -> str:
    """Return the purpose that a data set's payments are scored for, or refuse one that states none."""
    if INVESTIGATION not in manifest["purposes"]:
        raise InputError(
            f"data set {manifest['dataset']}: its contract has no purpose '{INVESTIGATION}', so no case of it may be "
            "looked into; declare the purpose there and ingest again"
        )
    return SCORING if SCORING in manifest["purposes"] else INVESTIGATION


def load_for_scoring(
    package: serving.Package,
    dataset: str,
    purpose: str,
    as_of: pd.Timestamp | None,
    workspace: Workspace,
    manifest: dict[str, Any],
    *,
    also: Collection[str] = (),
) -> pd.DataFrame:
    """Load what a model reads of a data set for a purpose; refuse where the contract does not allow it.

    `also` names further columns that are wanted where the purpose may see them.
    """
    needed, allowed = needed_columns(package), allowed_columns(manifest, purpose)
    if lacking := [name for name in needed if name not in allowed]:
        raise InputError(
            f"data set {dataset}: its contract must allow the purpose '{purpose}' every column that the model reads; "
            f"it does not allow {', '.join(lacking)}; add the purpose to these columns and ingest again"
        )
    columns = [*needed, *(name for name in allowed if name in also and name not in needed)]
    return load_transactions(dataset, purpose=purpose, as_of=as_of, columns=columns, workspace=workspace)


def needed_columns(package: serving.Package) -> list[str]:
    """Return the columns of transactions that a model's features and categories are made from, and those of a case."""
    case = ("transaction_id", "event_time", "customer_id", "amount")
    return list(dict.fromkeys([*case, *package.feature_set.requires, *package.categories]))


def _moment(as_of: pd.Timestamp | None, manifest: dict[str, Any], transactions: pd.DataFrame) -> pd.Timestamp:
    """Return the moment that a listing is about: the one asked for, the file's, else just after the last payment."""
    if as_of is not None:
        return as_of
    if manifest.get("known_at") is not None:
        return utc(manifest["known_at"], "known_at")
    if transactions.empty:
        return utc(manifest["last"], "last")
    return transactions["event_time"].max() + pd.Timedelta(microseconds=1)


def _why_nothing_is_scored(
    transactions: pd.DataFrame, manifest: dict[str, Any], purpose: str, start: pd.Timestamp
) -> str:
    """Say why there is no payment to score from a moment on: too old, refused by its customers, or none so late."""
    if len(transactions):
        newest = f"the newest payment that may be scored is of {transactions['event_time'].max():%Y-%m-%d}"
        return f"{newest}, before the first day asked for, {start:%Y-%m-%d}; name an earlier one with --since"
    why = []
    if past := transactions.attrs["past_retention"]:
        days = manifest["purposes"][purpose]["retention_days"]
        why.append(f"{past:,} are older than the {days:,} days that the contract allows it (retention_days)")
    if refused := transactions.attrs["left_out"]["rows"]:
        why.append(f"{refused:,} are of customers who do not allow it")
    return f"no payment may be scored for the purpose '{purpose}': {' and '.join(why) or 'none is held from that time'}"


def _states(ids: pd.Series, fraud: pd.Series, dataset: str, workspace: Workspace, moment: pd.Timestamp) -> pd.Series:
    """Return what is known of each payment by a moment: fraud, genuine (an outcome says so), unsure, else open."""
    label = ids.map(fraud).astype("boolean")
    outcomes = outcomes_of(Vault(workspace.vault, open_keys(workspace)), dataset)
    state = pd.Series("open", index=ids.index, dtype="str")
    if outcomes is not None:
        outcomes = outcomes[outcomes["decided_at"] <= moment]
        state = state.mask(ids.isin(outcomes["transaction_id"]), "unsure")
        decided = ids.isin(outcomes.loc[outcomes["outcome"] != "unsure", "transaction_id"])
        state = state.mask(decided & ~label.fillna(True).astype(bool), "genuine")
    return state.mask(label.fillna(False).astype(bool), "fraud")


def _worst(states: pd.Series) -> str:
    """Return the state of a case: fraud if any payment is, genuine only if none is open or unsure."""
    for state in ("fraud", "open", "unsure"):
        if (states == state).any():
            return state
    return "genuine"
