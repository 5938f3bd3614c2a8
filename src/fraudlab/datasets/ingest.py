"""Ingest: a raw table goes through its contract, is checked, treated and written to the vault, or refused as a whole.

Raw values live in the memory of this one step. What leaves it is the treated table and, apart from it under another
key, the identity table.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fraudlab.config import RunConfig, Workspace
from fraudlab.datasets.contracts import MADE, Contract, load_contract
from fraudlab.datasets.corrections import overlay, replay_corrections
from fraudlab.datasets.digest import content_digest
from fraudlab.datasets.erasure import erased_customers, replay_erasures
from fraudlab.datasets.indicators import different, note_matches
from fraudlab.datasets.readers import read_source, source_digest
from fraudlab.datasets.treat import PSEUDONYM_KEY, checked, refuse_hidden_identifiers, treated
from fraudlab.privacy import consent, identities, masking, treatments
from fraudlab.privacy.auditlog import AuditLog
from fraudlab.privacy.keys import KeyUnavailableError, open_keys
from fraudlab.privacy.scan import SHORTEST
from fraudlab.privacy.sharing import Sharing
from fraudlab.privacy.vault import SEAL_KEY, DamagedError, Kind, Vault
from fraudlab.schema import InputError, did_you_mean, utc


def ingest(
    config: RunConfig,
    workspace: Workspace,
    *,
    now: pd.Timestamp | None = None,
    force: bool = False,
    new_pseudonyms: bool = False,
) -> dict[str, Any]:
    """Bring a config's data set through its contract into the vault, or refuse it with nothing written.

    Parameters
    ----------
    config : names the source, the contract and, for simulated payments, the seed.
    workspace : whose vault and keys are used.
    now : the moment of a file's ingest: event times after it are refused, labels after it are not loaded. Default: the
        clock. Simulated payments may lie in the future of the clock; only a stated `now` is held against them.
    force : treat and write again even when nothing has changed, and even when the held data set was made with keys that
        are no longer here.
    new_pseudonyms : with `force`, go on under another key `pseudonym` than before although the ledger, corrections,
        models' lists of customers or other data sets rest on it. They match nobody from then on: who objected, was
        restricted or erased is loaded again until the ledger is told anew.

    Returns
    -------
    The data set's manifest, with `reused`: whether source, contract and treatments are those of the held one, so that
    its tables stayed (of a file, `known_at` moves on, and labels that have become known since appear); and `repaired`:
    whether files of the held one were damaged, so that it was written again (`repaired_files` names them).

    Raises
    ------
    InputError : the source or the contract is unreadable, the contract does not know the config's purpose, or the table
        breaks a rule; every problem in a line.
    KeyUnavailableError : a key that this step needs and the held data set was made with is not here, and `force` is not
        set. Reusing needs `manifest` and `features`; writing again needs them all. Or the key `pseudonym` is another
        than the one that other things rest on, and `new_pseudonyms` is not set.
    """
    force = force or new_pseudonyms
    dataset = config.dataset
    contract = load_contract(dataset.contract)
    if config.purpose not in contract.purposes:
        hint = did_you_mean(config.purpose, contract.purposes)
        raise InputError(f"purpose: contract {contract.name} does not state '{config.purpose}'; {hint}")
    from_file = dataset.source == "file"
    moment = utc(now, "now") if now is not None else pd.Timestamp.now("UTC") if from_file else None
    vault = Vault(workspace.vault, open_keys(workspace))
    made_from = {
        "source_digest": source_digest(dataset, config.seed),
        "contract_digest": contract.digest,
        "contract": contract.model_dump(mode="json", exclude_none=True),
        "treatments_version": treatments.VERSION,
        "identities": identities.FORMAT,
    }
    held, damaged = _held(vault, dataset.name, force=force)
    unchanged = held is not None and all(held.get(key) == value for key, value in made_from.items())
    if held is not None and unchanged and not damaged and not force:
        _demand_keys(vault, dataset.name, {"features": held["keys"]["features"]})
        if from_file:
            held = vault.confirm(dataset.name, held["version"], moment)
        if _brought_up_to_date(workspace, vault, dataset.name):
            held = vault.manifest(dataset.name)
        # An ingest that was killed once its tables were in place goes on here.
        vault.tidy(dataset.name)
        log = AuditLog(workspace.audit, vault.keys)
        if not _is_entered(log, held):
            _enter(log, held)
        return held | {"reused": True, "repaired": False}
    if not force:
        of_old = dict.fromkeys(_key_names(contract)) if damaged else {}
        _demand_keys(vault, dataset.name, held["keys"] if held is not None else of_old)
    unmatched = _pseudonyms_at_stake(workspace, vault, dataset.name)
    if unmatched and not new_pseudonyms:
        raise _other_pseudonyms(dataset.name, unmatched)
    source = read_source(dataset, contract, config.seed)
    if source.digest != made_from["source_digest"]:
        raise InputError(f"{dataset.name}: the file changed while it was read; try again when its export has ended")
    key = partial(vault.keys.hmac, PSEUDONYM_KEY)
    store = identities.IdentityStore.beside(vault)
    raw = checked(source.frame, contract, moment, dataset.name)
    raw, corrected = _corrected(raw, contract, store, dataset.name, key, force=force)
    refuse_hidden_identifiers(raw, contract, dataset.name)
    masked = {c.name: masking.mask(raw[c.name]) for c in contract.columns if c.treatment == "mask"}
    raw = raw.assign(**{name: texts for name, (texts, _) in masked.items()})
    features = treated(raw, contract, key)
    identity = _identities(raw, features, contract)
    kept = ~features["customer_id"].isin(erased_customers(workspace))
    if not kept.any():
        raise InputError(f"{dataset.name}: every customer in it has been erased; bring in other data")
    values = different(raw[kept], features[kept]) if Sharing.beside(vault).names() else {}
    identity, features = identity[kept], features[kept].reset_index(drop=True)
    facts = {
        "dataset": dataset.name,
        "source": source.description,
        **made_from,
        "digest": content_digest(features, [c.name for c in contract.columns if c.treatment == "pseudonymise"]),
        "created": pd.Timestamp.now("UTC").isoformat(timespec="microseconds"),
        "known_at": moment.isoformat() if from_file else None,
        "repaired_files": damaged,
        "rows": len(features),
        "last": features["event_time"].iloc[-1].isoformat(),
        "keys": {PSEUDONYM_KEY: vault.keys.make(PSEUDONYM_KEY)},
        "purposes": {name: purpose.model_dump() for name, purpose in contract.purposes.items()},
        "columns": _described(contract),
        "dropped": [{"column": name, "non_null": n} for name, n in source.undeclared.items()],
        "masked": [{"column": name, **counts} for name, (_, counts) in masked.items()],
        **corrected,
    }
    seal = store.sealer(dataset.name, identity["customer_id"], anew=force) if contract.identities else None
    manifest = vault.write(dataset.name, _by_month(features, identity, seal), facts)
    note_matches(vault, dataset.name, values)
    # Someone may have been erased, or corrected, while this went on.
    if _brought_up_to_date(workspace, vault, dataset.name):
        manifest = vault.manifest(dataset.name)
    _enter(AuditLog(workspace.audit, vault.keys), manifest, unmatched)
    return manifest | {"reused": False, "repaired": bool(damaged)}


def _enter(log: AuditLog, manifest: Mapping[str, Any], unmatched: Mapping[str, int] | None = None) -> None:
    """Enter an ingest into the audit log."""
    log.append(
        "ingest",
        dataset=manifest["dataset"],
        rows=manifest["rows"],
        digest=manifest["digest"],
        contract_digest=manifest["contract_digest"],
        repaired=len(manifest["repaired_files"]),
        pseudonym_key_id=manifest["keys"][PSEUDONYM_KEY],
        **{f"unmatched_{what}": n for what, n in (unmatched or {}).items()},
    )


def _is_entered(log: AuditLog, manifest: Mapping[str, Any]) -> bool:
    """Say whether the log knows of the ingest of the held tables, or of what changed them since."""
    if not log.path.exists():
        return False
    told = log.entries("ingest")
    moments = [
        moment for moment, facts in zip(told["time"], told["facts"]) if facts.get("dataset") == manifest["dataset"]
    ]
    return bool(moments) and moments[-1] >= pd.Timestamp(manifest["created"])


def raw_identifiers(config: RunConfig) -> list[str]:
    """Return the raw identifiers of a config's source, for a search of what was written; never write them anywhere.

    All different values of columns that are pseudonymised or kept as identity only, from six characters on: shorter
    ones are found by chance.
    """
    contract = load_contract(config.dataset.contract)
    frame = read_source(config.dataset, contract, config.seed).frame
    hidden = [
        c.name
        for c in contract.columns
        if c.treatment in ("pseudonymise", "drop") and c.type != "date" and c.source not in MADE
    ]
    values = {str(value) for name in hidden for value in frame[name].dropna().unique().tolist()}
    return sorted(value for value in values if len(value) >= SHORTEST)


def _held(vault: Vault, name: str, *, force: bool) -> tuple[dict[str, Any] | None, list[str]]:
    """Return a data set's manifest, None where there is none to be trusted, and which of its files are damaged."""
    if name not in vault.datasets():
        return None, []
    try:
        return vault.manifest(name), vault.damaged(name)
    except DamagedError:
        return None, ["manifest.json"]
    except KeyUnavailableError:
        if force:
            return None, []
        raise _other_keys(name, [SEAL_KEY]) from None


def _key_names(contract: Contract) -> list[str]:
    return [SEAL_KEY, PSEUDONYM_KEY, "features", *(["identity"] if contract.identities else [])]


def _demand_keys(vault: Vault, name: str, made_with: Mapping[str, str | None]) -> None:
    """Refuse to go on without the keys a data set was made with; an id of None is met by any key of that name."""
    present = {key: vault.keys.ids(key) for key in made_with}
    lacking = [key for key, made in made_with.items() if not present[key] or made not in (None, *present[key])]
    if lacking:
        raise _other_keys(name, lacking)


def _other_keys(name: str, lacking: list[str]) -> KeyUnavailableError:
    named = ", ".join(f"'{key}'" for key in lacking)
    return KeyUnavailableError(
        f"{name}: the vault holds this data set under keys that are not here ({named}); restore them from their "
        "backup, or ask their owner to do this step; only if they are lost for good, begin anew with --force, which "
        "gives every customer another pseudonym"
    )


def _pseudonyms_at_stake(workspace: Workspace, vault: Vault, name: str) -> dict[str, int]:
    """Return what would match nobody under the present key `pseudonym`, by kind; nothing where the key is the same."""
    known = {made for each in vault.datasets() if (made := _pseudonym_id(vault.root / each)) is not None}
    log = AuditLog(workspace.audit, vault.keys)
    if not known and log.path.exists():
        told = [facts.get("pseudonym_key_id") for facts in log.entries("ingest")["facts"]]
        known = {each for each in told[-1:] if each is not None}
    if not known or known & set(vault.keys.ids(PSEUDONYM_KEY)[:1]):
        return {}
    at_stake = {
        "events": len(consent.Ledger(workspace.ledger).events()),
        "corrections": len(identities.IdentityStore.beside(vault).corrections()),
        "models": len(list(workspace.lineage.glob("*/*.npy"))),
        "data_sets": sum(each != name for each in vault.datasets()),
    }
    return {what: n for what, n in at_stake.items() if n}


def _pseudonym_id(folder: Path) -> str | None:
    """Return which key a data set's pseudonyms were made with, whether or not its seal can be checked."""
    try:
        return json.loads((folder / "manifest.json").read_bytes())["keys"][PSEUDONYM_KEY]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _other_pseudonyms(name: str, unmatched: Mapping[str, int]) -> KeyUnavailableError:
    words = {
        "events": "events of the ledger",
        "corrections": "corrections",
        "models": "models' lists of customers",
        "data_sets": "other data sets",
    }
    said = ", ".join(f"{n:,} {words[what]}" for what, n in unmatched.items())
    return KeyUnavailableError(
        f"{name}: the key '{PSEUDONYM_KEY}' here is not the one that this project's pseudonyms were made with, so that "
        f"{said} would match nobody, and who objected or was erased would be loaded again; nothing was changed; "
        "restore the key from its backup (fraudlab keys restore FILE); only if it is lost for good, go on with "
        "--new-pseudonyms and tell the ledger again before anybody loads"
    )


def _corrected(
    raw: pd.DataFrame,
    contract: Contract,
    store: identities.IdentityStore,
    name: str,
    key: treatments.Key,
    *,
    force: bool,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the table with customers' corrections in it, and what the manifest says of them."""
    try:
        return overlay(raw, contract, store, name, key)
    except KeyUnavailableError:
        if not force:
            raise
        # Sealed under a key that is lost for good: nobody can read them any more.
        store.forget([each.id for each in store.corrections(name)])
        return raw, {"corrections": [], "corrected": []}


def _brought_up_to_date(workspace: Workspace, vault: Vault, name: str) -> bool:
    """Apply what customers' rights still ask of the vault; return whether a data set was written anew by it."""
    erased = replay_erasures(workspace, keys=vault.keys)["data_sets"]
    return name in {*erased, *replay_corrections(workspace, keys=vault.keys)}


def _identities(raw: pd.DataFrame, features: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Return the raw identity columns beside the pseudonym they belong to, row by row."""
    known = {f"raw_{column.source}": raw[column.name].astype("str") for column in contract.identities}
    return pd.DataFrame({"customer_id": features["customer_id"], **known}, index=features.index)


def _by_month(
    features: pd.DataFrame, identity: pd.DataFrame, seal: identities.Seal | None
) -> Iterator[tuple[str, dict[Kind, pd.DataFrame]]]:
    """Cut the ordered table into calendar months (UTC); of the identities each different one stays once a month."""
    months = features["event_time"].dt.tz_localize(None).to_numpy().astype("datetime64[M]")
    starts = np.flatnonzero(np.r_[True, months[1:] != months[:-1]])
    for start, end in zip(starts, [*starts[1:], len(months)]):
        tables: dict[Kind, pd.DataFrame] = {"features": features.iloc[start:end]}
        if seal is not None:
            tables["identity"] = seal(identity.iloc[start:end].drop_duplicates(ignore_index=True))
        yield str(months[start]), tables


def _described(contract: Contract) -> list[dict[str, Any]]:
    """Describe what became of each declared column, for manifest and report."""
    columns = [
        {
            "name": column.name,
            "source": column.source,
            "type": column.becomes,
            "treatment": column.treatment if column.in_features else "identity",
            "how": column.how,
            "identity": column.identity,
            "purposes": list(column.purposes),
            "meaning": column.meaning,
        }
        for column in contract.columns
    ]
    label = next((column for column in columns if column["name"] == "is_fraud"), None)
    if label is not None and contract.label_delay_days is not None:
        days = f"{contract.label_delay_days:g}"
        columns.append(
            {
                **label,
                "name": "label_time",
                "source": "",
                "type": "time",
                "meaning": f"when the label became known: a fixed {days} days after the transaction",
            }
        )
    return columns
