"""Emerging patterns as case work: find candidates, keep them in the vault, show one, keep what an analyst decided.

The registered model's detector says how unusual a payment is, without the features of labels and of merchants alone;
what unusual payments share is judged by `fraudlab.patterns`. Candidates and verdicts are tables beside the data set, so
rights, retention, rotation and backup reach them. Nothing is acted on before a person has confirmed it
(`casework.verdicts`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from fraudlab import patterns, rulebook, ruling, serving
from fraudlab.anomaly import Detector, fit_detector
from fraudlab.casework.queue import SHOWN_CODE, load_for_scoring, scoring_purpose
from fraudlab.config import RunConfig, Workspace
from fraudlab.datasets import load_transactions
from fraudlab.datasets.companions import INVESTIGATION, PATTERNS, VERDICTS, append, companion_rows
from fraudlab.models import feature_matrix
from fraudlab.privacy.keys import open_keys
from fraudlab.privacy.shortcodes import demand_code, short_code
from fraudlab.privacy.vault import Vault
from fraudlab.schema import InputError, utc
from fraudlab.tracking import registered_package

KEY = "case"
"""The named key of the patterns' codes, that of the cases'."""

DAYS = 7
WHY = 3
DISMISSED = "dismissed"
SHARES = {
    "device": ("on the same device", "同一设备"),
    "address": ("behind the same network address", "同一网络地址"),
    "merchant": ("at the same merchant", "同一商户"),
    "amount": ("of the same amount", "同一金额"),
    "merchant and amount": ("at the same merchant, of the same amount", "同一商户、同一金额"),
    "place": ("in the same place", "同一地点"),
}
"""What payments with a link in common are, in English and Chinese; its value is not said."""

_BEHIND = 3_000


def search(
    config: RunConfig,
    workspace: Workspace,
    *,
    model: str = "",
    since: pd.Timestamp | None = None,
    as_of: pd.Timestamp | None = None,
    now: pd.Timestamp | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Look for patterns among the newest payments and keep the candidates in the vault.

    Parameters
    ----------
    config : names the data set, the model, and by `decision.groups` what no proposed rule may read.
    model : NAME@ALIAS, NAME/VERSION or NAME, which is its champion; default: the config's own.
    since : begin of the window; default: seven days before `as_of`.
    as_of : end of the window; default: the config's, else when the file was ingested, else the last payment.
    now : the moment that is noted; default: the clock's.
    progress : is told what is being done.

    Returns
    -------
    dict: model, version, since, as_of (ISO), payments (in the window), unusual (of them), tested (values looked at),
    found (candidates), new (of them, not kept before).

    Raises
    ------
    InputError : as `casework.queue.list_cases`; too few payments before the window.

    Notes
    -----
    Payments of patterns that were confirmed count no more, in the window and before it; those of dismissed ones only
    not in the window, so that they go on saying what is usual. A candidate that shares half of its payments with an
    open pattern is that pattern, found again.
    """
    vault = Vault(workspace.vault, open_keys(workspace))
    dataset = config.dataset.name
    name, version, package = registered_package(workspace, model or config.name)
    manifest = vault.manifest(dataset)
    purpose = scoring_purpose(manifest)
    moment = as_of if as_of is not None else config.as_of_time
    links = {column for columns in patterns.LINKS.values() for column in columns}
    progress("loading the payments")
    payments = load_for_scoring(package, dataset, purpose, moment, workspace, manifest, also=links)
    if payments.empty:
        raise InputError(f"data set {dataset}: no payment may be read for '{purpose}'; see its retention")
    if moment is None:
        known, last = manifest.get("known_at"), payments["event_time"].iloc[-1]
        moment = last + pd.Timedelta(microseconds=1) if known is None else utc(known, "known_at")
    begin = moment - pd.Timedelta(days=DAYS) if since is None else since
    progress(f"computing {len(package.features)} features")
    features = package.features_of(payments)
    inside = (payments["event_time"] >= begin).to_numpy()
    progress("scoring")
    blind = features.assign(**dict.fromkeys(patterns.not_read(package.feature_set), np.nan))
    detector = package.model.detector or _fitted(blind[~inside], package)
    values = feature_matrix(blind, detector.features)
    alerted = package.model.score(features) >= package.thresholds.review
    verdicts = companion_rows(vault, dataset, VERDICTS)
    progress("looking for what unusual payments share")
    found = patterns.find_patterns(
        payments,
        detector.score(values),
        since=begin,
        until=moment,
        alerted=alerted,
        left_out=_decided(payments["transaction_id"].astype("str"), inside, verdicts),
    )
    held = companion_rows(vault, dataset, PATTERNS)
    codes = _codes(found, payments, vault, dataset, held, verdicts)
    facts = {
        number: _facts(found, number, payments, features, inside, detector, values, package, config)
        for number in found.table["pattern"]
    }
    about = {"since": begin.isoformat(), "until": moment.isoformat(), "tested": sum(found.tested.values())}
    rows = found.members["row"].to_numpy()
    mine, number = payments.iloc[rows], found.members["pattern"]
    score = detector.score(values)
    before = np.sort(score[~inside])
    table = mine[["event_time", "customer_id"]].assign(
        transaction_id=mine["transaction_id"].astype("str"),
        pattern=number.map(codes).to_numpy(),
        as_of=moment.as_unit("us"),
        model=name,
        version=version,
        unusual=1 - np.searchsorted(before, score[rows], side="left") / (len(before) + 1),
        alerted=alerted[rows].astype("float64"),
        facts=number.map(lambda each: json.dumps(about | facts[each], ensure_ascii=False, sort_keys=True)).to_numpy(),
    )
    now = pd.Timestamp.now("UTC") if now is None else now
    if len(table):
        append(vault, dataset, PATTERNS, table, came={"model": f"{name} {version}"}, now=now)
    before_codes = set() if held is None else set(held["pattern"])
    return {
        "model": name,
        "version": version,
        "since": begin.isoformat(),
        "as_of": moment.isoformat(),
        "payments": int(inside.sum()),
        "unusual": int((score[inside] > found.threshold).sum()),
        "tested": sum(found.tested.values()),
        "found": len(found.table),
        "new": len(set(codes.values()) - before_codes),
    }


def _fitted(features: pd.DataFrame, package: serving.Package) -> Detector:
    """Return a detector of the payments before the window, for a model that has none."""
    numbers = tuple(name for name in package.features if name not in package.categories)
    return fit_detector(feature_matrix(features, numbers), numbers, "density")


def _decided(ids: pd.Series, inside: np.ndarray, verdicts: pd.DataFrame | None) -> np.ndarray:
    if verdicts is None:
        return np.zeros(len(ids), dtype=bool)
    newest = _newest(verdicts)
    gone = newest["decision"] == DISMISSED
    dismissed = verdicts.loc[verdicts["pattern"].isin(newest.index[gone]), "transaction_id"]
    confirmed = verdicts.loc[verdicts["pattern"].isin(newest.index[~gone]), "transaction_id"]
    return (ids.isin(confirmed) | (ids.isin(dismissed) & inside)).to_numpy()


def _newest(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Return the last verdict on each pattern: decision, because, by, decided_at, by its code."""
    last = verdicts.sort_values(["decided_at", "transaction_id"], kind="stable").drop_duplicates("pattern", keep="last")
    return last.set_index("pattern")[["decision", "because", "by", "decided_at"]]


def _codes(
    found: patterns.Patterns,
    payments: pd.DataFrame,
    vault: Vault,
    dataset: str,
    held: pd.DataFrame | None,
    verdicts: pd.DataFrame | None,
) -> dict[int, str]:
    """Return each candidate's code: that of the open pattern it is, else a new one from its link and first payment."""
    decided = set() if verdicts is None else set(verdicts["pattern"])
    open_ones: dict[str, set[str]] = {}
    if held is not None:
        still = held[~held["pattern"].isin(decided)]
        open_ones = still.groupby("pattern")["transaction_id"].agg(set).to_dict()
    codes = {}
    for number, rows in found.members.groupby("pattern"):
        ids = payments["transaction_id"].astype("str").iloc[rows["row"]].tolist()
        near = {
            code: len(their & set(ids))
            for code, their in open_ones.items()
            if len(their & set(ids)) >= patterns.SAME * min(len(their), len(ids))
        }
        lead = found.shared.loc[found.shared["pattern"] == number, "link"].iloc[0]
        fresh = short_code(vault.keys.hmac(KEY, "\0".join(("pattern", dataset, lead, ids[0])).encode()))
        codes[int(number)] = max(near, key=lambda code: (near[code], code)) if near else fresh
        open_ones.pop(codes[int(number)], None)
    return codes


def _facts(
    found: patterns.Patterns,
    number: int,
    payments: pd.DataFrame,
    features: pd.DataFrame,
    inside: np.ndarray,
    detector: Detector,
    values: np.ndarray,
    package: serving.Package,
    config: RunConfig,
) -> dict[str, Any]:
    """Return what is kept of a candidate beside its payments: what is shared, what makes it unusual, a rule for it."""
    row = found.table.set_index("pattern").loc[number]
    own = found.members.loc[found.members["pattern"] == number, "row"].to_numpy()
    shared = found.shared[found.shared["pattern"] == number].drop(columns=["pattern", "value"])
    parts = detector.parts(values[own]).mean().sort_values(ascending=False, kind="stable")
    words = package.describe.drop_duplicates("column").set_index("column")
    named = {lang: words[key] for lang, key in (("en", "label"), ("zh", "label_zh")) if key in words}
    window = np.flatnonzero(inside)
    rule = rulebook.propose(
        ruling.rule_table({"transactions": payments.iloc[window], "features": features.iloc[window]}),
        np.isin(window, own),
        without={*package.feature_set.from_labels, *config.decision.groups},
    )
    return {
        "shares": shared.to_dict("records"),
        **{name: row[name].item() for name in ("unusual", "observed", "of", "expected", "p", "q")},
        "why": [
            {lang: str(labels.get(name, name)) for lang, labels in named.items()} | {"feature": name}
            for name in parts.index[:WHY]
            if parts[name] > 0
        ],
        "rule": None if rule is None else vars(rule),
    }


# -- what is kept ----------------------------------------------------------------------------------------------------


def patterns_table(
    dataset: str, workspace: Workspace, *, as_of: pd.Timestamp | None = None, open_only: bool = True
) -> pd.DataFrame:
    """Return the patterns that are kept, open ones first and the most surprising first.

    Parameters
    ----------
    dataset : its name in the vault.
    as_of : labels known by then are counted; default: the newest search.
    open_only : leave out those that were decided on.

    Returns
    -------
    DataFrame, a row per pattern: pattern (code), state (open, dismissed, or what it was confirmed as), shares (links,
    comma-separated), payments, customers, first, last, amount (sum), alerted (payments that the model alerted), fraud
    (payments known as fraud by `as_of`), observed, of, expected (of the most surprising value), surprise (-log10 p), as
    it was found first; found (the newest search that found it). Payments whose customer objects to the purpose, or
    whose time is over, do not count. No row where nothing was found.
    """
    rows = _kept(dataset, workspace)
    columns = ["pattern", "state", "shares", "payments", "customers", "first", "last", "amount", "alerted", "fraud"]
    columns += ["observed", "of", "expected", "surprise", "found"]
    if rows.empty:
        return pd.DataFrame(columns=columns)
    moment = rows["as_of"].max() if as_of is None else as_of
    known = load_transactions(
        dataset,
        purpose=INVESTIGATION,
        as_of=moment,
        columns=["transaction_id", "amount", "is_fraud"],
        workspace=workspace,
    )
    known = known.set_index(known["transaction_id"].astype("str"))
    rows = rows.assign(
        amount=rows["transaction_id"].map(known["amount"]),
        fraud=rows["transaction_id"].map(known["is_fraud"]).astype("boolean").fillna(False).astype(bool),
    )
    verdicts = verdicts_of(dataset, workspace)
    told = []
    for code, mine in rows.groupby("pattern", sort=True):
        facts = facts_of(mine)
        told.append(
            {
                "pattern": code,
                "state": "open" if code not in verdicts.index else verdicts.loc[code, "decision"],
                "shares": ", ".join(dict.fromkeys(each["link"] for each in facts["shares"])),
                "payments": len(mine),
                "customers": mine["customer_id"].nunique(),
                "first": mine["event_time"].min(),
                "last": mine["event_time"].max(),
                "amount": round(float(mine["amount"].sum()), 2),
                "alerted": int(mine["alerted"].sum()),
                "fraud": int(mine["fraud"].sum()),
                **{name: facts[name] for name in ("observed", "of", "expected")},
                "surprise": round(float(-np.log10(max(facts["p"], 1e-300))), 1),
                "found": mine["as_of"].max(),
            }
        )
    table = pd.DataFrame(told, columns=columns)
    if open_only:
        table = table[table["state"] == "open"]
    order = table.assign(decided=table["state"] != "open").sort_values(
        ["decided", "surprise", "pattern"], ascending=[True, False, True], kind="stable"
    )
    return order[columns].reset_index(drop=True)


def _kept(dataset: str, workspace: Workspace) -> pd.DataFrame:
    """Return the rows of all patterns that may be investigated."""
    vault = Vault(workspace.vault, open_keys(workspace))
    vault.manifest(dataset)
    if PATTERNS.name(dataset) not in vault.datasets():
        return pd.DataFrame(columns=list(PATTERNS.columns))
    return load_transactions(PATTERNS.name(dataset), purpose=INVESTIGATION, workspace=workspace)


def verdicts_of(dataset: str, workspace: Workspace) -> pd.DataFrame:
    """Return the last verdict on each pattern of a data set: decision, because, by, decided_at, by its code."""
    rows = companion_rows(Vault(workspace.vault, open_keys(workspace)), dataset, VERDICTS)
    return _newest(pd.DataFrame(columns=list(VERDICTS.columns)) if rows is None else rows)


@dataclass(frozen=True, eq=False)
class Pattern:
    """All that is shown of one pattern; customers by the first signs of their pseudonyms.

    Attributes
    ----------
    code, dataset, state : as in `patterns_table`.
    facts : as kept: since, until, tested, shares (a dict a link), unusual, observed, of, expected, p, q, why, rule.
    payments : its members in order: number, event_time, amount, customer, unusual, alerted, fraud (known by the newest
        search), and what investigators see of merchant_id, merchant_category, channel, country, auth_method,
        auth_result.
    others : event_time, amount and same (bool: they share the most surprising value) of other payments around it, at
        most 3,000 that do not share it, evenly taken.
    verdict : decision, because, by, decided_at of the last verdict; empty while it is open.
    """

    code: str
    dataset: str
    state: str
    facts: dict[str, Any] = field(repr=False)
    payments: pd.DataFrame = field(repr=False)
    others: pd.DataFrame = field(repr=False)
    verdict: dict[str, Any]

    @property
    def links(self) -> list[str]:
        """What its payments share, the most surprising first."""
        return list(dict.fromkeys(each["link"] for each in self.facts["shares"]))


def pattern_facts(pattern: str, dataset: str, workspace: Workspace) -> Pattern:
    """Gather what is to be known of one pattern, as it was known when it was found last.

    Parameters
    ----------
    pattern : its code; case, hyphens and blanks do not matter.
    dataset : its name in the vault.

    Raises
    ------
    InputError : no such code; no such pattern of this data set, or all its customers objected to this.
    """
    code, rows = rows_of(pattern, dataset, workspace)
    moment = rows["as_of"].max()
    known = load_transactions(dataset, purpose=INVESTIGATION, as_of=moment, workspace=workspace)
    known = known.assign(transaction_id=known["transaction_id"].astype("str"))
    facts = facts_of(rows)
    names = ["merchant_id", "merchant_category", "channel", "country", "auth_method", "auth_result", "is_fraud"]
    columns = ["transaction_id", "event_time", "amount", "customer_id", *(name for name in names if name in known)]
    mine = known[columns].merge(rows[["transaction_id", "unusual", "alerted"]], on="transaction_id")
    payments = mine.assign(
        number=np.arange(1, len(mine) + 1),
        customer=mine["customer_id"].str[:SHOWN_CODE],
        fraud=mine["is_fraud"].fillna(False).astype(bool) if "is_fraud" in mine else False,
        alerted=mine["alerted"] > 0,
    ).drop(columns=["transaction_id", "customer_id", "is_fraud"], errors="ignore")
    verdicts = verdicts_of(dataset, workspace)
    verdict = verdicts.loc[code].to_dict() if code in verdicts.index else {}
    return Pattern(
        code=code,
        dataset=dataset,
        state=verdict.get("decision", "open"),
        facts=facts,
        payments=payments,
        others=_others(known, rows, facts["shares"][0]["link"], utc(facts["since"], "since")),
        verdict=verdict,
    )


def rows_of(pattern: str, dataset: str, workspace: Workspace) -> tuple[str, pd.DataFrame]:
    """Return a pattern's code as it is kept and its rows, in order, that may be investigated; see `pattern_facts`."""
    code = demand_code(pattern, "pattern")
    rows = _kept(dataset, workspace)
    rows = rows[rows["pattern"] == code].sort_values(["event_time", "transaction_id"], kind="stable", ignore_index=True)
    if rows.empty:
        raise InputError(
            f"pattern: data set {dataset} holds no pattern {code} for the purpose '{INVESTIGATION}'; check it and the "
            "data set, or look for patterns with `fraudlab monitor patterns`"
        )
    return code, rows


def facts_of(rows: pd.DataFrame) -> dict[str, Any]:
    """Return what is kept of a pattern beside its payments, as the search that found it first said it."""
    return json.loads(rows.sort_values("as_of", kind="stable")["facts"].iloc[0])


def _others(known: pd.DataFrame, rows: pd.DataFrame, link: str, since: pd.Timestamp) -> pd.DataFrame:
    """Return other payments from the window's begin to the last member, and which of them share its value."""
    near = known[known["event_time"].between(min(since, rows["event_time"].min()), rows["event_time"].max())]
    member = near["transaction_id"].isin(rows["transaction_id"])
    columns = [name for name in patterns.LINKS[link] if name in near]
    same = pd.Series(len(columns) == len(patterns.LINKS[link]), index=near.index)
    for name in columns:
        value = near.loc[member, name].mode()
        same &= near[name].eq(value.iloc[0]) if len(value) else False
    others = near.assign(same=same)[~member][["event_time", "amount", "same"]]
    rest = others[~others["same"]]
    taken = rest.iloc[np.unique(np.linspace(0, max(len(rest) - 1, 0), min(len(rest), _BEHIND)).astype(np.int64))]
    return pd.concat([taken, others[others["same"]]]).sort_values("event_time", kind="stable", ignore_index=True)
