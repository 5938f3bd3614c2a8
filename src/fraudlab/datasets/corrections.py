"""Corrections of customers' data: kept sealed under each customer's key, and put over whatever the source still says.

Which ones a data set reflects stands in its manifest, by id. One that it does not reflect yet (a call was killed, a
backup is older) is put in at the next ingest, correction or restore.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import pandas as pd

from fraudlab.config import Workspace
from fraudlab.datasets.contracts import MOVEMENT, Contract
from fraudlab.datasets.erasure import CUSTOMER, facts_of
from fraudlab.datasets.readers import read_column, spoken
from fraudlab.datasets.treat import PSEUDONYM_KEY, checked, refuse_hidden_identifiers, treat
from fraudlab.privacy import masking, treatments
from fraudlab.privacy.auditlog import AuditLog
from fraudlab.privacy.identities import Correction, IdentityStore
from fraudlab.privacy.keys import Keys, KeyUnavailableError, open_keys
from fraudlab.privacy.vault import Kind, Vault
from fraudlab.schema import InputError, refuse

_NOWHEN = pd.Timestamp(0, tz="UTC")


class Scope(NamedTuple):
    """Which of a customer's payments a correction is about: all, those of a period, or one."""

    transaction: str | None = None
    since: pd.Timestamp | None = None
    until: pd.Timestamp | None = None

    def rows(self, frame: pd.DataFrame, code: str) -> pd.Series:
        """Return which rows of a table (customer_id, transaction_id, event_time) are meant."""
        chosen = frame[CUSTOMER] == code
        if self.transaction is not None:
            chosen &= frame["transaction_id"].astype("str") == self.transaction
        if self.since is not None:
            chosen &= frame["event_time"] >= self.since
        if self.until is not None:
            chosen &= frame["event_time"] < self.until
        return chosen.fillna(False).astype(bool)

    def plain(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        moments = {name: getattr(self, name) for name in ("since", "until")}
        return {"transaction": self.transaction} | {n: None if m is None else m.isoformat() for n, m in moments.items()}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Scope:
        """Return the scope that `plain` wrote."""
        moments = (None if plain[name] is None else pd.Timestamp(plain[name]) for name in ("since", "until"))
        return cls(plain["transaction"], *moments)


def contract_of(manifest: Mapping[str, Any]) -> Contract:
    """Return the contract that a data set was brought in with.

    Raises
    ------
    InputError : the manifest was written by an earlier version, which did not keep it.
    """
    if "contract" not in manifest:
        raise InputError(
            f"data set {manifest['dataset']}: was brought in by an earlier version, which did not keep its contract; "
            "run `fraudlab ingest` once"
        )
    return Contract.model_validate(manifest["contract"])


def raw_value(contract: Contract, source: str, value: str | None, where: str) -> pd.DataFrame:
    """Return a value of a source's column as ingest would read and check it: a row, under each canonical name of it.

    Raises
    ------
    InputError : it is not of the declared type, or breaks a rule of ingest.
    """
    columns = [column for column in contract.columns if column.source == source]
    text = pd.Series([value], dtype="str")
    read = {column.name: read_column(text, column, contract.timezone) for column in columns}
    refuse([f"{where}: {spoken(column)} {read[column.name][1]}" for column in columns if read[column.name][1]])
    # Beside a payment that breaks no rule, so that the rules speak of this value alone.
    beside = {"transaction_id": ["0"], CUSTOMER: ["0"], "amount": [0.0], "event_time": [_NOWHEN]}
    given = {name: values for name, (values, _) in read.items()}
    row = checked(pd.DataFrame(beside).assign(**given), contract, None, where)
    refuse_hidden_identifiers(row, contract, where)
    return row[[column.name for column in columns]]


def treated_value(contract: Contract, raw: pd.DataFrame, key: treatments.Key, last_day: pd.Timestamp) -> dict[str, Any]:
    """Return what becomes of a `raw_value` in the loadable table, by name; distance and speed are left out."""
    found = {}
    for column in contract.columns:
        if column.name in raw and column.how not in MOVEMENT:
            values = masking.mask(raw[column.name])[0] if column.treatment == "mask" else raw[column.name]
            made = treat(values, column, key, last_day)
            if made is not None:
                found[column.name] = made.iloc[0]
    return found


def overlay(
    raw: pd.DataFrame, contract: Contract, store: IdentityStore, dataset: str, key: treatments.Key
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Put the corrections of a data set over its raw table, before it is treated.

    Returns
    -------
    The table; {"corrections": ids, "corrected": [{"column", "rows"}]} for the manifest: rows whose value was put in,
    whether or not the source says the same by now.
    """
    held = store.corrections(dataset)
    facts: dict[str, Any] = {"corrections": [each.id for each in held], "corrected": []}
    if not held:
        return raw, facts
    named = {column.name: column for column in contract.columns}
    keyed = pd.DataFrame(
        {name: treat(raw[name], named[name], key, _NOWHEN) for name in (CUSTOMER, "transaction_id")}
    ).assign(event_time=raw["event_time"])
    rows: dict[str, int] = {}
    for each, content in zip(held, store.content(held)):
        chosen = Scope.of(content).rows(keyed, each.code)
        if content["column"] in contract.sources and chosen.any():
            value = raw_value(contract, content["column"], content["value"], dataset)
            raw = raw.assign(**{name: _put(raw[name], chosen, value[name].iloc[0]) for name in value})
            rows[content["column"]] = rows.get(content["column"], 0) + int(chosen.sum())
    facts["corrected"] = [{"column": column, "rows": n} for column, n in rows.items()]
    return raw, facts


def bring_over(present: IdentityStore, vault: Vault) -> int:
    """Keep the corrections of another store beside a restored vault too; return how many it did not hold.

    They are put into the vault by `replay_corrections`. One that was replaced since goes; one that was ended comes back
    with the older data.
    """
    restored, added = IdentityStore.beside(vault), 0
    for dataset in vault.datasets():
        there = restored.corrections(dataset)
        late = [each for each in present.corrections(dataset) if each.id not in [held.id for held in there]]
        older = list(zip(there, restored.content(there)))
        for each, content in zip(late, present.content(late)):
            about = (each.code, content["column"])
            replaced = [
                held.id
                for held, said in older
                if (held.code, said["column"]) == about and Scope.of(content) in (Scope(), Scope.of(said))
            ]
            restored.correct(dataset, each.code, each.columns, content, replaces=replaced, brought=(each.id, each.at))
            added += 1
    return added


def replay_corrections(workspace: Workspace, *, keys: Keys | None = None) -> dict[str, int]:
    """Put in every correction that a data set of the vault does not reflect yet, and note it in the audit log.

    Parameters
    ----------
    keys : those of the workspace; a restored one is opened with the keys of the present one.

    Returns
    -------
    {data set: how many were put in}, those that lacked any.

    Raises
    ------
    FraudlabError : a data set could not be corrected, such as for want of a key.
    """
    keys = open_keys(workspace) if keys is None else keys
    vault, done = Vault(workspace.vault, keys), {}
    for dataset in vault.datasets():
        if late := put_in(vault, dataset):
            done[dataset] = late
            AuditLog(workspace.audit, keys).append("rectify", replayed=True, dataset=dataset, count=late)
    return done


def put_in(vault: Vault, dataset: str) -> int:
    """Write a data set anew with the corrections that it does not reflect yet; return how many they are.

    Distance and speed from a corrected place, and of the payment after it, are missing until the next ingest, which has
    the exact places to compute them from.

    Raises
    ------
    KeyUnavailableError, DamagedError : as for `Vault.rewrite`; the data set is untouched.
    """
    store = IdentityStore.beside(vault)
    held = store.corrections(dataset)
    if not held:
        return 0
    manifest = vault.manifest(dataset)
    pending = [each for each in held if each.id not in manifest.get("corrections", [])]
    if not pending:
        vault.tidy(dataset)  # a killed call may have left the older version
        return 0
    changes = _changes(vault, manifest, store, pending)

    def corrected(tables: Mapping[Kind, pd.DataFrame]) -> dict[Kind, pd.DataFrame]:
        for change in changes:
            tables = change.into(tables)
        return dict(tables)

    ids = [each.id for each in held]
    vault.rewrite(dataset, corrected, lambda older, features: facts_of(older, features) | {"corrections": ids})
    return len(pending)


class _Change(NamedTuple):
    """What a correction does to a month's tables."""

    code: str
    rows: frozenset[Any]  # transaction ids
    values: dict[str, Any]
    moved: frozenset[Any]  # transaction ids whose distance and speed are no longer known
    movement: list[str]
    identity: tuple[str, Any] | None  # its column in the identity table, and the value there
    months: frozenset[str]
    store: IdentityStore
    dataset: str

    def into(self, tables: Mapping[Kind, pd.DataFrame]) -> Mapping[Kind, pd.DataFrame]:
        """Return the tables with the correction; a table that it does not touch is returned as the same object."""
        features = tables["features"]
        here = features["transaction_id"].isin(self.rows)
        changed = dict(tables)
        if here.any():
            put = {name: _put(features[name], here, value) for name, value in self.values.items()}
            changed["features"] = features.assign(**put)
        gone = features["transaction_id"].isin(self.moved)
        if gone.any():
            lost = {name: features[name].mask(gone) for name in self.movement}
            changed["features"] = changed["features"].assign(**lost)
        if self.identity is not None and len(features) and f"{features['event_time'].iloc[0]:%Y-%m}" in self.months:
            changed["identity"] = self._identity(tables["identity"])
        return changed

    def _identity(self, table: pd.DataFrame) -> pd.DataFrame:
        mine = table[CUSTOMER] == self.code
        name, value = self.identity
        opened = self.store.opened(self.dataset, table[mine].reset_index(drop=True))
        opened = opened.assign(**{name: pd.array([value] * len(opened), dtype="str")}).drop_duplicates()
        sealed = self.store.sealer(self.dataset, [self.code])(opened.reset_index(drop=True))
        return pd.concat([table[~mine], sealed], ignore_index=True)


def _changes(
    vault: Vault, manifest: Mapping[str, Any], store: IdentityStore, pending: list[Correction]
) -> list[_Change]:
    dataset, contract = manifest["dataset"], contract_of(manifest)
    key, last_day = pseudonym_key(vault, manifest), utc_day(manifest["last"])
    there = list(manifest["parts"][0]["files"]["features"]["schema"])
    needed = [n for n in ("transaction_id", "event_time", CUSTOMER, "latitude", "longitude") if n in there]
    rows = vault.read(dataset, columns=needed)
    rows = rows[rows[CUSTOMER].isin([each.code for each in pending])]
    changes = []
    for each, content in zip(pending, store.content(pending)):
        if content["column"] not in contract.sources:
            continue  # the contract no longer declares it: nothing of it is held
        mine = rows[rows[CUSTOMER] == each.code]
        chosen = Scope.of(content).rows(mine, each.code)
        raw = raw_value(contract, content["column"], content["value"], dataset)
        kept = next((c for c in contract.identities if c.source == content["column"]), None)
        movement = [c.name for c in contract.columns if c.name in raw and c.how in MOVEMENT]
        changes.append(
            _Change(
                code=each.code,
                rows=frozenset(mine.loc[chosen, "transaction_id"]),
                values=treated_value(contract, raw, key, last_day),
                moved=frozenset(mine.loc[_moved(mine, chosen), "transaction_id"]) if movement else frozenset(),
                movement=movement,
                identity=kept and (f"raw_{kept.source}", raw[kept.name].astype("str").iloc[0]),
                months=frozenset(whole_months(mine, chosen)),
                store=store,
                dataset=dataset,
            )
        )
    return changes


def whole_months(rows: pd.DataFrame, chosen: pd.Series) -> list[str]:
    """Return the months of a customer's payments all of which are chosen: those whose identity rows are meant."""
    months = rows["event_time"].dt.strftime("%Y-%m")
    every = chosen.groupby(months).all()
    return every.index[every].tolist()


def pseudonym_key(vault: Vault, manifest: Mapping[str, Any]) -> treatments.Key:
    """Return what makes a data set's pseudonyms; refused once it is asked for one, where its key is another."""
    needed = manifest["keys"][PSEUDONYM_KEY]

    def digest(message: bytes) -> bytes:
        if needed not in vault.keys.ids(PSEUDONYM_KEY):
            raise KeyUnavailableError(
                f"data set {manifest['dataset']}: this column's code needs the key '{PSEUDONYM_KEY}' with id {needed}, "
                "which this account does not have; ask the key's owner to do this step"
            )
        return vault.keys.hmac(PSEUDONYM_KEY, message)

    return digest


def utc_day(moment: str) -> pd.Timestamp:
    """Return the day of a manifest's moment, as treatments want it."""
    return pd.Timestamp(moment).tz_localize(None).normalize()


def _moved(rows: pd.DataFrame, chosen: pd.Series) -> pd.Series:
    """Return the rows of one customer whose distance depends on a chosen row's place: it, and the next with a place."""
    placed = rows[[n for n in ("latitude", "longitude") if n in rows]].notna().all(axis=1)
    last_placed = chosen.astype("float64").where(placed | chosen).ffill().shift()
    return chosen | ((last_placed == 1) & placed)


def _put(values: pd.Series, rows: pd.Series, value: Any) -> pd.Series:
    """Return a column with one value in some rows."""
    if pd.api.types.is_integer_dtype(values.dtype):
        if fits_whole(value):
            value = int(value)
        else:
            values = values.astype("str")
    changed = values.copy()
    changed[rows] = value
    return changed


def fits_whole(value: Any) -> bool:
    """Return whether a value can stand in a column of whole numbers without damage."""
    return not pd.isna(value) and re.fullmatch(r"0|-?[1-9]\d{0,17}", str(value)) is not None


def told(
    store: IdentityStore, manifest: Mapping[str, Any], corrections: Collection[Correction]
) -> list[dict[str, Any]]:
    """Return corrections for people: at, column, transaction, since, until, value, source, applied."""
    names = ("column", "transaction", "since", "until", "value", "source")
    return [
        {"at": each.at.isoformat(timespec="seconds")}
        | {name: content[name] for name in names}
        | {"applied": each.id in manifest.get("corrections", [])}
        for each, content in zip(corrections, store.content(corrections))
    ]
