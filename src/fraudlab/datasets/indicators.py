"""Where imported indicators meet own payments: at ingest, at an import, and at the door of scoring.

The vault holds pseudonyms under its own key, and an indicator is a code under another, so the two can only be compared
where the raw value is at hand. At ingest and at an import the own values that a set matches are noted with the set, as
the vault holds them; a load looks these up. At the door each raw value is coded and looked up itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import pandas as pd

from fraudlab.config import RunConfig
from fraudlab.datasets.contracts import Contract
from fraudlab.datasets.readers import read_source
from fraudlab.datasets.treat import PSEUDONYM_KEY, treat
from fraudlab.privacy import indicators
from fraudlab.privacy.indicators import COLUMNS, KINDS
from fraudlab.privacy.sharing import Held, Sharing
from fraudlab.privacy.vault import Vault

Values = Mapping[str, pd.DataFrame]
"""Column -> its different values: raw (text) and value (as the vault holds it, text)."""


def base_of(name: str) -> str:
    """Return the column that an indicator's column is made from.

    >>> base_of("indicator_network")
    'ip'
    """
    return KINDS[COLUMNS[name]].column


def different(raw: Mapping[str, pd.Series], treated: Mapping[str, pd.Series]) -> dict[str, pd.DataFrame]:
    """Return the different values of the columns that indicators are about, raw and treated side by side."""
    found = {}
    for name in dict.fromkeys(kind.column for kind in KINDS.values()):
        if name in raw and treated.get(name) is not None:
            pairs = pd.DataFrame({"raw": raw[name], "value": treated[name]}).dropna().drop_duplicates()
            found[name] = pairs.astype("str").reset_index(drop=True)
    return found


def values_in_source(config: RunConfig, contract: Contract, vault: Vault) -> dict[str, pd.DataFrame]:
    """Return `different` of a config's source, read anew; raw values, for the memory of one step only."""
    frame = read_source(config.dataset, contract, config.seed).frame
    last = pd.Timestamp(0)  # no treatment of an identifier asks for the day
    key = partial(vault.keys.hmac, PSEUDONYM_KEY)
    columns = [column for column in contract.columns if column.treatment in ("keep", "pseudonymise")]
    raw = {column.name: frame[column.name].drop_duplicates() for column in columns if column.name in _BASES}
    treated = {column.name: treat(raw[column.name], column, key, last) for column in columns if column.name in raw}
    return different(raw, treated)


def matches(sharing: Sharing, package: Mapping[str, Any], values: Values) -> dict[str, list[str]]:
    """Return the own values that a set's codes stand for, by kind."""
    agreement = sharing.agreement(package["agreement"])
    found: dict[str, list[str]] = {}
    for kind, codes in package["indicators"].items():
        if kind in KINDS and KINDS[kind].column in values:
            pairs, code, wanted = values[KINDS[kind].column], sharing.coder(agreement, kind), set(codes)
            found[kind] = sorted({value for raw, value in zip(pairs["raw"], pairs["value"]) if code(raw) in wanted})
    return found


def note_matches(vault: Vault, dataset: str, values: Values) -> None:
    """Note with every set that is held which of a data set's values it matches; what ingest does at its end."""
    sharing = Sharing.beside(vault)
    for held in sharing.sets() if sharing.names() else []:
        found = matches(sharing, held.package, values)
        sharing.add(Held(held.package, held.imported, held.valid_from, held.purposes, {dataset: found}))


def forget_unheld(vault: Vault) -> None:
    """Remove matches that no payment in the vault has any more, such as the device of somebody who was erased."""
    sharing = Sharing.beside(vault)
    for held in sharing.sets() if sharing.names() else []:
        for dataset, found in held.matches.items():
            if dataset in vault.datasets():
                columns = list(dict.fromkeys(KINDS[kind].column for kind in found))
                there = vault.read(dataset, columns=columns) if columns else pd.DataFrame()
                left = {kind: _still(values, there[KINDS[kind].column]) for kind, values in found.items()}
                if left != found:
                    sharing.add(Held(held.package, held.imported, held.valid_from, held.purposes, {dataset: left}))


def _still(values: list[str], held: pd.Series) -> list[str]:
    there = set(held.dropna().astype("str").unique())
    return [value for value in values if value in there]


def offered(vault: Vault, manifest: Mapping[str, Any], allowed: Iterable[str]) -> list[str]:
    """Return the indicators' columns that a load gives unasked: where sharing has begun, of the columns it may see."""
    there = set(allowed)
    begun = "contract" in manifest and Sharing.beside(vault).begun  # not the cases and outcomes kept beside a data set
    return [name for name in COLUMNS if base_of(name) in there] if begun else []


def with_indicators(
    frame: pd.DataFrame, names: Iterable[str], vault: Vault, dataset: str, purpose: str
) -> pd.DataFrame:
    """Return payments with the indicators' columns asked for, each from the sets that hold for the purpose.

    Parameters
    ----------
    frame : payments as loaded, with event_time and the columns that `names` are made from.
    """
    names = list(names)
    if not names:
        return frame
    sharing = Sharing.beside(vault)
    sets = [held for held in sharing.sets() if purpose in held.purposes] if sharing.names() else []
    texts: dict[str, pd.Series] = {}
    more = {}
    for name in names:
        base = base_of(name)
        texts.setdefault(base, frame[base].astype("str"))
        known = [(held.matches.get(dataset, {}).get(COLUMNS[name], ()), *held.span) for held in sets]
        more[name] = indicators.flagged(texts[base], frame["event_time"], known)
    return frame.assign(**more)


class Flags:
    """Looks the raw values of payments that come in up among the indicators that hold for a purpose.

    Parameters
    ----------
    names : the indicators' columns that are wanted.
    vault, purpose : whose sets count. None: there are none, and nothing is flagged.

    The sets are read once, here: whoever revokes or takes in a set starts a scorer anew.
    """

    def __init__(self, names: Iterable[str], vault: Vault | None = None, purpose: str = "") -> None:
        self.names = tuple(dict.fromkeys(names))
        self._known: dict[str, list[tuple[indicators.Coder, dict[str, list[tuple[Any, Any]]]]]] = {}
        sharing = None if vault is None else Sharing.beside(vault)
        sets = [] if sharing is None or not sharing.names() else sharing.sets()
        for name in self.names:
            kind = COLUMNS[name]
            by_agreement: dict[str, dict[str, list[tuple[Any, Any]]]] = {}
            for held in sets:
                if purpose in held.purposes:
                    codes = by_agreement.setdefault(held.package["agreement"], {})
                    for code in held.package["indicators"].get(kind, ()):
                        codes.setdefault(code, []).append(held.span)
            self._known[name] = [
                (sharing.coder(sharing.agreement(agreement), kind), codes)
                for agreement, codes in by_agreement.items()
                if codes and sharing is not None
            ]

    def one(self, name: str, raw: Any, moment: Any) -> float:
        """Return 1.0 where a raw value is known at a moment, else 0.0; missing ones never are."""
        if raw is None:
            return 0.0
        for code, known in self._known[name]:
            if any(since <= moment < until for since, until in known.get(code(str(raw)) or "", ())):
                return 1.0
        return 0.0

    def many(self, name: str, raw: pd.Series, times: pd.Series) -> pd.Series:
        """Return `one` of each payment."""
        texts = raw.astype("str").where(raw.notna())
        places, different = pd.factorize(texts)
        found = pd.Series(0.0, index=raw.index)
        for code, known in self._known[name]:
            spans = [known.get(code(text) or "", ()) for text in different]
            for place, each in enumerate(spans):
                for since, until in each:
                    found[(places == place) & (times >= since).to_numpy() & (times < until).to_numpy()] = 1.0
        return found


def refuse_unseen(names: Iterable[str], allowed: Iterable[str], purpose: str) -> list[str]:
    """Return a sentence for each indicator's column whose own column the purpose may not see."""
    there = set(allowed)
    return [
        f"columns: '{name}' is made from '{base_of(name)}', which is not allowed for purpose '{purpose}'; ask for "
        "another column, or allow it in the contract"
        for name in names
        if base_of(name) not in there
    ]


_BASES = frozenset(kind.column for kind in KINDS.values())
