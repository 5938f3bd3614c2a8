"""Sharing indicators of fraud with other institutions: what leaves, what comes in, and what it would do here.

What leaves rests on the known frauds of customers who do not object to it, never on what came in from others. What
comes in is checked, kept sealed and used from then on: as columns `indicator_merchant`, `indicator_device`,
`indicator_ip` and `indicator_network` of every load and of live scoring, and as shadow rules for the rule book.
docs/sharing.md says what a partner can and cannot learn.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import tomli_w
from pydantic import ValidationError

from fraudlab.config import RunConfig, Workspace
from fraudlab.datasets import load_transactions
from fraudlab.datasets.contracts import load_contract
from fraudlab.datasets.indicators import Values, matches, values_in_source
from fraudlab.datasets.load import allowed_columns
from fraudlab.privacy import indicators
from fraudlab.privacy.auditlog import audit_log
from fraudlab.privacy.indicators import COLUMNS, KINDS
from fraudlab.privacy.keys import open_keys, sync_folder, write_private
from fraudlab.privacy.masking import find_identifiers
from fraudlab.privacy.secondfactor import check_reason
from fraudlab.privacy.sharing import Agreement, Held, Sharing, described
from fraudlab.privacy.vault import Vault
from fraudlab.rulebook import RuleBook, columns_of, misfits
from fraudlab.ruling import book_of, columns_of_config
from fraudlab.schema import FraudlabError, InputError, did_you_mean, utc

PURPOSE = "indicator-sharing"
"""The purpose that payments are looked at for before something leaves, where the contract states it; customers may
object to it alone. Else they are looked at for `fraud-detection`."""
DETECTION = "fraud-detection"
USES = (DETECTION, "fraud-model-training")
"""What a set may be used for unless the sender states something else."""
GROUPS = ("merchant_category", "channel", "country")
LOOKBACK_DAYS, VALID_DAYS = 60, 90
FEW = 10
_LABELS = ("is_fraud", "label_time")


@dataclass(frozen=True, eq=False)
class Exported:
    """What would leave, or has left.

    data : the file's bytes; the same for the same data, agreement and moment.
    table : a row per kind: kind, values (with a known victim), exported, held_back, why (most frequent reason).
    skipped : rules that stay here: id -> why.
    """

    data: bytes
    table: pd.DataFrame
    skipped: dict[str, str]

    @property
    def package(self) -> dict[str, Any]:
        """The file's content."""
        return json.loads(self.data)


def sharing_of(workspace: Workspace) -> Sharing:
    """Return a workspace's agreements and sets."""
    return Sharing.beside(Vault(workspace.vault, open_keys(workspace)))


def agree(workspace: Workspace, name: str, me: str, partner: str, out: Path) -> Agreement:
    """Begin an agreement: make a shared key and the file that brings it to the partner; it is noted in the audit log.

    Raises
    ------
    InputError : as `Sharing.agree`; the file is there already.
    """
    if out.exists():
        raise InputError(f"out: {out} is there already; name a new file")
    agreement, data = sharing_of(workspace).agree(name, me, partner)
    write_new(out, data)
    _log(workspace, agreement, did="agreed")
    return agreement


def join(workspace: Workspace, path: Path) -> Agreement:
    """Take in the file of a partner's `agree`; it is noted in the audit log."""
    agreement = sharing_of(workspace).join(_bytes(path), path.name)
    _log(workspace, agreement, did="joined")
    return agreement


def trust(workspace: Workspace, name: str, public: str) -> Agreement:
    """Note the public key that a partner signs with; it is noted in the audit log."""
    agreement = sharing_of(workspace).trust(name, public)
    _log(workspace, agreement, did="trusts", partner_key=public)
    return agreement


def export_set(
    config: RunConfig,
    workspace: Workspace,
    agreement: str,
    *,
    licence: str,
    purposes: Collection[str] = USES,
    kinds: Collection[str] = tuple(KINDS),
    lookback_days: int = LOOKBACK_DAYS,
    valid_days: int = VALID_DAYS,
    k: int = indicators.K,
    least_share: float = indicators.LEAST_SHARE,
    rules: bool = True,
    now: pd.Timestamp | None = None,
) -> Exported:
    """Make the set of indicators that a partner may have, signed; nothing is written and nothing leaves yet.

    Parameters
    ----------
    config : names the data set, its contract and source, and the rule book.
    agreement : with whom.
    licence : what the partner may do with it, in a sentence.
    purposes : what it may be used for.
    kinds : of `KINDS`; those whose column the contract lacks are left out.
    lookback_days : frauds of so many days before `now` count, as known then.
    valid_days : until it expires, at most 366.
    k, least_share : see `indicators.compromised`.
    rules : the book's active rules go with it.
    now : the moment of the export. Default: the clock's. Of simulated payments it also says what was known.

    Raises
    ------
    InputError : no such agreement or kind; the contract allows no purpose for it; the data set is not in the vault or
        its source cannot be read; a rule or the licence names a customer or a merchant; nothing is left to send.
    """
    sharing = sharing_of(workspace)
    agreed = sharing.agreement(agreement)
    if strange := [kind for kind in kinds if kind not in KINDS]:
        raise InputError(f"kinds: unknown '{strange[0]}'; {did_you_mean(strange[0], KINDS)}")
    if not 1 <= valid_days <= indicators.LONGEST_DAYS:
        raise InputError(
            f"days: a set may be valid for 1 to {indicators.LONGEST_DAYS} days; found {valid_days}; share anew later"
        )
    if len(licence.strip()) < 10 or find_identifiers(licence):
        raise InputError(
            "licence: must say in 10 characters or more what the partner may do, without a name or number; found less"
        )
    moment = pd.Timestamp.now("UTC").floor("s") if now is None else utc(now, "now")
    vault = Vault(workspace.vault, open_keys(workspace))
    manifest = vault.manifest(config.dataset.name)
    purpose = _purpose(manifest, (PURPOSE, DETECTION))
    allowed = allowed_columns(manifest, purpose)
    wanted = ["customer_id", "event_time", *_LABELS]
    wanted += [name for name in dict.fromkeys([*(KINDS[kind].column for kind in kinds), *GROUPS]) if name in allowed]
    payments = load_transactions(
        config.dataset.name, purpose=purpose, as_of=_known_at(manifest, moment), columns=wanted, workspace=workspace
    )
    recent = payments[payments["event_time"] >= moment - pd.Timedelta(days=lookback_days)]
    values = values_in_source(config, load_contract(config.dataset.contract), vault)
    codes, table = _coded(sharing, agreed, recent, values, kinds, k, least_share)
    told, skipped = _rules(config) if rules else ([], {})
    facts = {
        "agreement": agreed.name,
        "sender": agreed.me,
        "receiver": agreed.partner,
        "purposes": list(purposes),
        "licence": licence.strip(),
        "issued": moment.isoformat(),
        "expires": (moment + pd.Timedelta(days=valid_days)).isoformat(),
        "key_id": agreed.key_id,
        "disclosure": {
            "customers_at_least": k,
            "share_of_customers_at_least": least_share,
            "devices_and_addresses": f"{indicators.THINGS} or more victims, and used by nobody else",
            "lookback_days": lookback_days,
        },
        "indicators": codes,
        "aggregates": indicators.aggregated(recent, [name for name in GROUPS if name in recent], k),
        "rules": told,
    }
    if not (any(codes.values()) or facts["aggregates"] or told):
        raise InputError(
            f"share: nothing rests on at least {k} customers, so that nothing may leave; wait, or look further back"
        )
    _refuse_names({"rules": told, "licence": licence}, values, payments)
    return Exported(indicators.sign(facts, sharing.signer()), table, skipped)


def write_export(workspace: Workspace, made: Exported, out: Path) -> str:
    """Write a set to a new file, once it is in the audit log that it leaves; return its id."""
    package = made.package
    name = indicators.set_id(package)
    if out.exists():
        raise InputError(f"out: {out} is there already; name a new file")
    audit_log(workspace).append(
        "export",
        what="indicators",
        agreement=package["agreement"],
        receiver=package["receiver"],
        set_digest=name,
        purposes=package["purposes"],
        expires=package["expires"],
        k=package["disclosure"]["customers_at_least"],
        **{f"of_{kind}": len(codes) for kind, codes in package["indicators"].items()},
        rules=len(package["rules"]),
    )
    write_new(out, made.data)
    return name


@dataclass(frozen=True, eq=False)
class Imported:
    """What a set is and what it does here.

    held : the set, in use unless it was a trial.
    effect : a row per kind: kind, column, received, matched (own values), payments and customers of the last 90 days at
        them (text; "fewer than 10" where fewer).
    unfit : rules of it that do not fit the columns here: id -> why.
    note : what could not be done yet; empty where all was.
    """

    held: Held
    effect: pd.DataFrame
    unfit: dict[str, str]
    note: str = ""


def import_set(
    config: RunConfig, workspace: Workspace, path: Path, *, dry_run: bool = False, now: pd.Timestamp | None = None
) -> Imported:
    """Check a set that came in and, unless it is a trial, use it from now on until it expires.

    Parameters
    ----------
    config : names the data set whose payments are held against it, the contract and the source.
    path : the file.
    dry_run : only say what it would do; nothing is written but the look into the audit log.
    now : the moment of the import; no payment before it is flagged. Default: the clock's.

    Raises
    ------
    InputError : in this order: no such file, no agreement for it, no public key of the partner, another signer or an
        altered file, another receiver, another shared key, issued after now, expired, no purpose that the data here
        are held for, rules that are none, revoked here.
    """
    moment = pd.Timestamp.now("UTC").floor("s") if now is None else utc(now, "now")
    vault = Vault(workspace.vault, open_keys(workspace))
    manifest = vault.manifest(config.dataset.name)
    sharing = Sharing.beside(vault)
    package = indicators.read(_bytes(path), path.name)
    try:
        agreement = sharing.agreement(str(package["agreement"]))
        if not agreement.partner_key:
            raise InputError(
                f"{path.name}: the public key of {agreement.partner} is not known yet, so nobody can say who signed; "
                f"ask them on another way, then: fraudlab share trust {agreement.name} --public-key KEY"
            )
        usable = indicators.verify(
            package,
            where=path.name,
            partner=agreement.partner,
            me=agreement.me,
            partner_key=agreement.partner_key,
            key_id=agreement.key_id,
            now=moment,
            purposes=list(manifest["purposes"]),
        )
        book = _book(package, moment)
    except FraudlabError as error:
        audit_log(workspace).append("refuse", asked="share import", why=str(error))
        raise
    unfit = {} if book is None else misfits(book, columns_of_config(config))
    found, note = {}, ""
    try:
        found = matches(sharing, package, values_in_source(config, load_contract(config.dataset.contract), vault))
    except InputError as error:
        note = f"own values will be matched at the next ingest, as the source cannot be read now ({error})"
    held = Held(package, moment.isoformat(), moment.isoformat(), tuple(usable), {config.dataset.name: found})
    if not dry_run:
        held = sharing.add(held)
    effect = _effect(held, config.dataset.name, manifest, workspace, moment)
    audit_log(workspace).append(
        "share",
        did="tried" if dry_run else "took in",
        agreement=agreement.name,
        sender=agreement.partner,
        set_digest=held.id,
        purposes=usable,
        expires=package["expires"],
        **{f"of_{row.kind}": int(row.received) for row in effect.itertuples()},
    )
    return Imported(held, effect, unfit, note)


def revoke(workspace: Workspace, name: str, reason: str, *, now: pd.Timestamp | None = None) -> dict[str, Any]:
    """Let a set go, for a reason that goes into the audit log: no payment is flagged by it any more, past ones neither.

    Raises
    ------
    InputError : no such set; a reason too short, or with an identifier in it.
    """
    check_reason(reason)
    moment = pd.Timestamp.now("UTC").floor("s") if now is None else utc(now, "now")
    left = sharing_of(workspace).revoke(name, reason, moment)
    audit_log(workspace).append(
        "share", did="revoked", agreement=left["agreement"], sender=left["sender"], set_digest=name, reason=reason
    )
    return left


def listed(workspace: Workspace, now: pd.Timestamp | None = None) -> dict[str, list[dict[str, Any]]]:
    """Return the agreements and the sets, each set with its state: in use, expired or revoked; for people and programs.

    Returns
    -------
    dict: agreements (name, me, partner, key_id, partner_key), sets (see `privacy.sharing.described`; state).
    """
    moment = pd.Timestamp.now("UTC") if now is None else utc(now, "now")
    sharing = sharing_of(workspace)
    names = sharing.agreements()
    sets = [described(held) | {"state": "in use" if held.span[1] > moment else "expired"} for held in sharing.sets()]
    return {
        "agreements": [vars(sharing.agreement(name)) for name in names],
        "sets": sets + [left | {"state": "revoked"} for left in sharing.revoked()],
    }


def rules_of(workspace: Workspace, name: str, now: pd.Timestamp | None = None) -> str:
    """Return the rules of a set as TOML for a rule book, as shadow rules: measured, not acted on.

    Raises
    ------
    InputError : no such set, or it has no rule.
    """
    moment = pd.Timestamp.now("UTC") if now is None else utc(now, "now")
    sets = {held.id: held for held in sharing_of(workspace).sets()}
    if name not in sets:
        known = did_you_mean(name, sets) if sets else "there is none"
        raise InputError(f"share: no set '{name}' is held here; {known}; see `fraudlab share list`")
    book = _book(sets[name].package, moment)
    if book is None:
        raise InputError(f"share: set {name} brings no rule; its indicators are columns of every load")
    return tomli_w.dumps({"rule": [rule.model_dump() for rule in book.rules]})


def replayed(workspace: Workspace, config: RunConfig, at: str) -> pd.Timestamp | None:
    """Return the moment that stands in for the clock, which only invented payments may have; None where none is given.

    Raises
    ------
    InputError : the data set is real: a set dated back would flag payments that nobody could have flagged.
    """
    if not at:
        return None
    manifest = Vault(workspace.vault, open_keys(workspace)).manifest(config.dataset.name)
    if manifest.get("known_at") is not None:
        raise InputError(
            f"--at: is for simulated payments; data set {config.dataset.name} comes from a file, and a set counts from "
            "the moment it really came in; leave --at out"
        )
    return utc(at, "--at")


def write_new(path: Path, data: bytes) -> None:
    """Write a file for its owner only, whole or not at all; refuse to replace one."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        write_private(temporary, data)
        os.link(temporary, path)
    except FileExistsError:
        raise InputError(f"out: {path} is there already; name a new file") from None
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(indicators.LARGEST + 1)
    except OSError as error:
        raise InputError(f"share: {path} cannot be read ({error.strerror}); correct the path") from None


def _log(workspace: Workspace, agreement: Agreement, **facts: Any) -> None:
    audit_log(workspace).append(
        "share", agreement=agreement.name, partner=agreement.partner, shared_key_id=agreement.key_id, **facts
    )


def _purpose(manifest: Mapping[str, Any], names: Collection[str]) -> str:
    found = next((name for name in names if name in manifest["purposes"]), None)
    if found is None:
        raise InputError(
            f"data set {manifest['dataset']}: its contract has no purpose '{PURPOSE}' and no '{DETECTION}', so nothing "
            "of it may be looked at for sharing; declare one there and ingest again"
        )
    return found


def _known_at(manifest: Mapping[str, Any], moment: pd.Timestamp) -> pd.Timestamp:
    known = manifest.get("known_at")
    return moment if known is None else min(moment, utc(known, "known_at"))


def _coded(
    sharing: Sharing,
    agreement: Agreement,
    payments: pd.DataFrame,
    values: Values,
    kinds: Collection[str],
    k: int,
    least_share: float,
) -> tuple[dict[str, list[str]], pd.DataFrame]:
    """Return the codes of what may leave, by kind, and the table of what did not."""
    codes: dict[str, list[str]] = {}
    rows = []
    for kind, (column, thing, _) in KINDS.items():
        if kind not in kinds or column not in payments or column not in values:
            continue
        code = sharing.coder(agreement, kind)
        coded = {value: code(raw) for raw, value in zip(values[column]["raw"], values[column]["value"])}
        looked = payments.assign(code=payments[column].astype("str").map(coded))
        counts = indicators.compromised(looked, "code", thing=thing, k=k, least_share=least_share)
        counts = counts[counts["victims"] > 0]
        codes[kind] = sorted(counts.loc[counts["exported"], "value"])
        back = counts.loc[~counts["exported"], "why"]
        rows.append(
            {
                "kind": kind,
                "values": len(counts),
                "exported": len(codes[kind]),
                "held_back": len(back),
                "why": back.value_counts().index[0] if len(back) else "",
            }
        )
    return codes, pd.DataFrame(rows, columns=["kind", "values", "exported", "held_back", "why"])


def _rules(config: RunConfig) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the active rules that may leave, as plain values, and why others stay."""
    book = book_of(config)
    told, skipped = [], {}
    for rule in book.of(("active",)) if book else ():
        read = set(columns_of(rule.tree))
        words = " ".join((rule.title.en, rule.title.zh, rule.expression, rule.why))
        if "merchant_id" in read:
            skipped[rule.id] = "names a merchant in clear; share it as an indicator"
        elif read & set(COLUMNS):
            skipped[rule.id] = "rests on what others shared, which is not passed on"
        elif find_identifiers(words):
            skipped[rule.id] = "holds what looks like an identifier"
        else:
            plain = rule.model_dump(mode="json")
            told.append({name: plain[name] for name in ("id", "title", "expression", "action", "why")})
    return told, skipped


def _book(package: Mapping[str, Any], moment: pd.Timestamp) -> RuleBook | None:
    """Return the rules of a set as shadow rules, or refuse what is none."""
    if not package["rules"]:
        return None
    more = {"status": "shadow", "since": dt.date.fromisoformat(f"{moment:%Y-%m-%d}"), "owner": package["sender"]}
    try:
        book = RuleBook.model_validate({"name": "shared", "version": 1, "rule": [r | more for r in package["rules"]]})
        for rule in book.rules:
            _ = rule.tree
    except (ValidationError, TypeError, InputError):
        raise InputError(
            "share: the set's rules do not follow the language of docs/rules.md; ask the sender for a set without them"
        ) from None
    return book


def _refuse_names(told: Mapping[str, Any], values: Values, payments: pd.DataFrame) -> None:
    """Refuse texts that hold a raw value or a pseudonym; codes are none."""
    text = json.dumps(told, ensure_ascii=False)
    known = {*payments["customer_id"].astype("str").unique()}
    for pairs in values.values():
        known |= {*pairs["raw"], *pairs["value"]}
    found = sum(len(v) >= (6 if v.isdigit() else 4) and v in text for v in known)
    if found:
        raise InputError(
            f"share: rules and licence must name no merchant, device, address or customer; found {found:,} of those in "
            "the data; reword them, or share without rules"
        )


def _effect(
    held: Held, dataset: str, manifest: Mapping[str, Any], workspace: Workspace, moment: pd.Timestamp
) -> pd.DataFrame:
    """Table what a set would have flagged in the 90 days before it came in, had it been known."""
    purpose = held.purposes[0]
    allowed = allowed_columns(dict(manifest), purpose)
    found = held.matches.get(dataset, {})
    columns = dict.fromkeys(KINDS[kind].column for kind in found if KINDS[kind].column in allowed)
    payments = load_transactions(
        dataset,
        purpose=purpose,
        as_of=_known_at(manifest, moment),
        columns=["event_time", "customer_id", *columns],
        workspace=workspace,
    )
    payments = payments[payments["event_time"] >= moment - pd.Timedelta(days=90)]
    rows = []
    for kind, codes in held.package["indicators"].items():
        column = KINDS[kind].column if kind in KINDS else ""
        there = (
            payments[payments[column].astype("str").isin(found.get(kind, ()))] if column in payments else payments[:0]
        )
        rows.append(
            {
                "kind": kind,
                "column": f"indicator_{kind}" if column in allowed else "not held here",
                "received": len(codes),
                "matched": len(found.get(kind, ())),
                "payments": _shown(len(there)),
                "customers": _shown(there["customer_id"].nunique()),
            }
        )
    return pd.DataFrame(rows, columns=["kind", "column", "received", "matched", "payments", "customers"])


def _shown(number: int) -> str:
    return f"{number:,}" if number == 0 or number >= FEW else f"fewer than {FEW}"
