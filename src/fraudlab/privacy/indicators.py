"""Indicators of fraud that institutions share: keyed codes of places, devices and addresses, signed, for a time.

A value becomes a code under a key that two parties have agreed upon, never under the key of a workspace's pseudonyms:

    code = first 128 bits of HMAC-SHA256(HMAC-SHA256(shared key, "fraudlab pseudonym" 0x00 "shared " kind), value)

Who holds the shared key can test guesses: a partner who lists all merchants, or all addresses, learns which of them
were sent. Codes hide values from everybody else, and from nobody who holds the key. So only what may be known by the
partner is sent: what enough customers stand behind, and nothing that is a customer's own.

Pure functions of frames, texts and keys; what is kept where is in `fraudlab.privacy.sharing`.

Sources: RFC 2104 (HMAC, truncation in section 5), RFC 8032 (Ed25519).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fraudlab.privacy.treatments import Key, address_of, network_of, pseudonymiser
from fraudlab.schema import InputError, require_columns, utc

FORMAT = "fraudlab indicators 1"
K = 10
"""Customers that what is sent rests on, unless more are asked for."""
LEAST_SHARE = 0.2
"""Of the customers at a merchant or in a network, so many must be victims: a large shop has victims too."""
THINGS = 3
"""Victims from one device or address; see `compromised`."""
LONGEST_DAYS = 366
"""From issue to expiry: who wants to go on shares anew."""
LARGEST = 32 << 20
"""Bytes of a file of indicators."""
_AHEAD = pd.Timedelta(minutes=10)
_FIELDS = {
    "format", "agreement", "sender", "receiver", "purposes", "licence", "issued", "expires", "key_id", "disclosure",
    "indicators", "aggregates", "rules", "public_key",
}  # fmt: skip
_LISTS = ("purposes", "aggregates", "rules")
_DOMAIN = b"fraudlab indicators 1\0"


class Kind(NamedTuple):
    """What an indicator points at: the column whose raw values are coded, and whether one person holds such a thing."""

    column: str
    thing: bool
    meaning: str


KINDS: dict[str, Kind] = {
    "merchant": Kind("merchant_id", False, "a merchant or terminal where customers were defrauded"),
    "device": Kind("device_id", True, "a device that several victims' accounts were used from"),
    "ip": Kind("ip", True, "a network address that several victims' accounts were used from"),
    "network": Kind("ip", False, "a network (IPv4 /24, IPv6 /48) where customers were defrauded"),
}
COLUMNS: dict[str, str] = {f"indicator_{kind}": kind for kind in KINDS}
"""The columns that imported indicators become: 1 where a payment's value is among them then, else 0."""

Coder = Callable[[str], str | None]


def coder(key: Key, kind: str) -> Coder:
    """Return the function that gives a raw value the code that both parties know it by.

    Parameters
    ----------
    key : the agreed one, or what computes HMAC-SHA256 under it.
    kind : of `KINDS`; the same value has unrelated codes as another kind.

    Returns
    -------
    A function of text; None for what is empty, or no address. Case and outer blanks do not count, addresses are
    written in one way first, and of a network only the network counts.

    >>> code = coder(bytes(32), "network")
    >>> code("192.0.2.7") == code("192.0.2.99"), len(code("192.0.2.7")), code("nowhere")
    (True, 32, None)
    """
    code = pseudonymiser(key, f"shared {kind}")
    normal = {"ip": address_of, "network": network_of}.get(kind)
    if normal is None:
        return code

    def of_address(value: str) -> str | None:
        found = normal(value)
        return None if found is None else code(found)

    return of_address


def compromised(
    payments: pd.DataFrame,
    value: str,
    *,
    thing: bool,
    k: int = K,
    least_share: float = LEAST_SHARE,
    things: int = THINGS,
) -> pd.DataFrame:
    """Count at each value the customers and the victims, and say which values may leave.

    Parameters
    ----------
    payments : customer_id, is_fraud (nullable: NA is not known yet) and the column `value`; only of customers whose
        payments may be used for this, and labels as known at one moment.
    value : the column that is looked at; rows without one do not count.
    thing : False for what many customers use (merchants, networks): at least `k` customers were defrauded there, and
        they are at least `least_share` of all customers there. True for what one person holds (devices, addresses): at
        least `things` customers were defrauded from it, and nobody who was not ever paid from it. Then it is not a
        customer's, and no customer stands behind it but those whom its holder robbed; that they are fewer than `k` is
        why neither their number nor anything else about them is sent. With `k` asked of devices none would be sent: a
        stolen account's device is used a few times.

    Returns
    -------
    DataFrame, most victims first: value, customers, victims, frauds, exported (boolean), why (empty where exported).

    Raises
    ------
    InputError : a column is missing; k below 2, fewer than 2 things, a share outside (0, 1].

    >>> rows = pd.DataFrame({"customer_id": ["a", "b", "c", "c"], "shop": ["x", "x", "x", "y"],
    ...                      "is_fraud": pd.array([True, True, False, None], "boolean")})
    >>> compromised(rows, "shop", thing=False, k=2)[["value", "customers", "victims", "exported"]].values.tolist()
    [['x', 3, 2, True], ['y', 1, 0, False]]
    >>> compromised(rows, "shop", thing=True, things=2)["why"].tolist()
    ['also used by 1 or more who were not defrauded', 'fewer than 2 victims']
    """
    require_columns(payments, ["customer_id", "is_fraud", value], where="indicators")
    if k < 2 or things < 2 or not 0 < least_share <= 1:
        raise InputError(
            f"indicators: k and things must be at least 2 and the least share above 0 and at most 1; found {k}, "
            f"{things}, {least_share:g}; one customer alone never leaves"
        )
    rows = payments.loc[payments[value].notna(), ["customer_id", "is_fraud", value]]
    fraud = rows["is_fraud"].fillna(False).astype(bool)
    counted = rows.groupby(value, sort=True)["customer_id"].nunique().rename("customers").to_frame()
    counted["victims"] = rows[fraud].groupby(value)["customer_id"].nunique()
    counted["frauds"] = rows[fraud].groupby(value).size()
    counted = counted.fillna(0).astype("int64").rename_axis("value").reset_index()
    least = things if thing else k
    few = counted["victims"] < least
    most = counted["victims"] if thing else counted["victims"] / least_share
    others = counted["customers"] > most
    reason = "also used by 1 or more who were not defrauded" if thing else f"under {least_share:.0%} of its customers"
    counted["exported"] = ~few & ~others
    counted["why"] = np.select([few, others], [f"fewer than {least} victims", reason], "")
    return counted.sort_values(["victims", "value"], ascending=[False, True], kind="stable", ignore_index=True)


def aggregated(payments: pd.DataFrame, by: Sequence[str], k: int = K) -> list[dict[str, Any]]:
    """Tell where fraud happens in groups of payments, in figures too coarse to find a customer by.

    Parameters
    ----------
    payments : customer_id, is_fraud (NA where not known) and the columns `by`.
    by : coarse columns, such as the category of the merchant.

    Returns
    -------
    A dict per group with at least k victims and at least k customers who are none, by the names of the group:
    customers and victims (rounded down to a multiple of k) and fraud_share (frauds of the payments with a label, to one
    digit). No total is told, so that nothing left out can be subtracted.

    >>> rows = pd.DataFrame({"customer_id": list("abcde"), "channel": "pos",
    ...                      "is_fraud": pd.array([True, True, False, False, False], "boolean")})
    >>> aggregated(rows, ["channel"], k=2)
    [{'channel': 'pos', 'customers': 4, 'victims': 2, 'fraud_share': 0.4}]
    """
    labelled = payments[payments["is_fraud"].notna()]
    labelled = labelled.assign(fraud=labelled["is_fraud"].astype(bool))
    found = []
    for names, rows in labelled.groupby(list(by), sort=True):
        customers, victims = rows["customer_id"].nunique(), rows.loc[rows["fraud"], "customer_id"].nunique()
        if victims < k or customers - victims < k:
            continue
        share = float(rows["fraud"].mean())
        found.append(
            dict(zip(by, map(str, names)))
            | {
                "customers": customers // k * k,
                "victims": victims // k * k,
                "fraud_share": round(share, -math.floor(math.log10(share))),
            }
        )
    return found


def sign(facts: Mapping[str, Any], private: Ed25519PrivateKey) -> bytes:
    """Return the file that is sent: the facts of `_FIELDS` but format and public key, signed; the same each time.

    Parameters
    ----------
    facts : agreement, sender, receiver, purposes, licence, issued, expires (ISO, UTC), key_id (of the shared key),
        disclosure (what was left out and why, in words), indicators {kind: sorted codes}, aggregates, rules.
    """
    public = private.public_key().public_bytes_raw().hex()
    body = {"format": FORMAT, **facts, "public_key": public}
    signed = body | {"signature": private.sign(_DOMAIN + _canonical(body)).hex()}
    return json.dumps(signed, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def set_id(package: Mapping[str, Any]) -> str:
    """Return what a set of indicators is called: the start of its signature's sha-256."""
    return hashlib.sha256(package["signature"].encode()).hexdigest()[:16]


def read(data: bytes, where: str) -> dict[str, Any]:
    """Read a file of indicators; only its form is checked.

    Raises
    ------
    InputError : it is none, or too large.
    """
    wrong = InputError(
        f"{where}: must be a file that `fraudlab share export` wrote, of at most {LARGEST >> 20} MiB; found something "
        "else; ask the sender for it again"
    )
    if len(data) > LARGEST:
        raise wrong
    try:
        package = json.loads(data)
    except ValueError:
        raise wrong from None
    if not isinstance(package, dict) or package.get("format") != FORMAT or set(package) != _FIELDS | {"signature"}:
        raise wrong
    codes, lists = package["indicators"], [package[name] for name in _LISTS]
    lists += list(codes.values()) if isinstance(codes, dict) else [None]
    texts = [package[name] for name in package.keys() - {"disclosure", "indicators", *_LISTS}]
    if not all(isinstance(each, list) for each in lists) or not all(isinstance(text, str) for text in texts):
        raise wrong
    return package


def verify(
    package: Mapping[str, Any],
    *,
    where: str,
    partner: str,
    me: str,
    partner_key: str,
    key_id: str,
    now: pd.Timestamp,
    purposes: Collection[str],
) -> list[str]:
    """Return the purposes that a set may be used for here, or refuse it; the signature is looked at before all else.

    Parameters
    ----------
    package : of `read`.
    partner, me, partner_key, key_id : what the agreement says: who sends and receives, the sender's public key (hex),
        the id of the shared key.
    now : the moment of the import.
    purposes : those that the data here are held for.

    Raises
    ------
    InputError : a sentence for the first thing that is wrong.
    """
    body = {name: value for name, value in package.items() if name != "signature"}
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(partner_key))
        public.verify(bytes.fromhex(package["signature"]), _DOMAIN + _canonical(body))
    except (InvalidSignature, TypeError, ValueError):
        raise InputError(
            f"{where}: must be signed by {partner}, whose public key the agreement holds; found another signer, or a "
            "file that was altered after signing; ask the sender for it again"
        ) from None
    if (package["sender"], package["receiver"]) != (partner, me):
        raise InputError(
            f"{where}: must go from {partner} to {me}; found a set for another receiver; it is not for this institution"
        )
    if package["key_id"] != key_id:
        raise InputError(
            f"{where}: was made with another shared key (id {package['key_id']}) than the agreement's (id {key_id}), "
            "so that nothing would match; agree with the sender on one key"
        )
    issued, expires = utc(package["issued"], "issued"), utc(package["expires"], "expires")
    if issued > now + _AHEAD:
        raise InputError(f"{where}: was issued {_day(issued)}, after now ({_day(now)}); check both clocks")
    if expires <= now:
        raise InputError(f"{where}: expired {_day(expires)} and may not be used any more; ask the sender for a new set")
    if not issued < expires <= issued + pd.Timedelta(days=LONGEST_DAYS):
        raise InputError(
            f"{where}: must expire within {LONGEST_DAYS} days of its issue; found {_day(expires)}; ask the sender for "
            "another set"
        )
    usable = [name for name in package["purposes"] if name in purposes]
    if not usable:
        raise InputError(
            f"{where}: may be used for {', '.join(package['purposes']) or 'nothing'} only, and the data here are held "
            f"for {', '.join(purposes)}; agree with the sender on a purpose"
        )
    return usable


def flagged(values: pd.Series, times: pd.Series, known: Collection[tuple[Collection[str], Any, Any]]) -> np.ndarray:
    """Say which payments an indicator is known about at their moment.

    Parameters
    ----------
    values : what the payments have in the column, as text; missing ones are never flagged.
    times : their moments.
    known : (values, valid from, expires) of each set; a set counts in [valid from, expires).

    Returns
    -------
    Array of 1.0 and 0.0, shape (n,).

    >>> at = pd.Series(pd.to_datetime(["2026-01-01", "2026-01-02", "2026-01-03"], utc=True))
    >>> flagged(pd.Series(["x", "x", "x"]), at, [({"x"}, at[1], at[2])]).tolist()
    [0.0, 1.0, 0.0]
    """
    found = np.zeros(len(values), dtype=bool)
    for those, since, until in known:
        found |= (values.isin(list(those)) & (times >= since) & (times < until)).to_numpy(dtype=bool)
    return found.astype(np.float64)


def _canonical(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def _day(moment: pd.Timestamp) -> str:
    return f"{moment:%Y-%m-%d}"
