"""Pseudonyms and coarser values: against formulas written out by hand, and the ways identifiers go wrong."""

from __future__ import annotations

import hashlib
import time

import numpy as np
import pandas as pd
import pytest

from fraudlab.privacy.treatments import (
    age_band,
    card_bin,
    email_domain,
    grid,
    movement,
    network,
    prefix,
    pseudonymise,
)
from fraudlab.schema import InputError

KEY = bytes(range(32))
OTHER = bytes(range(1, 33))


def hmac_by_hand(key: bytes, message: bytes) -> bytes:
    """RFC 2104, with plain hashlib."""
    block = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in block) + message).digest()
    return hashlib.sha256(bytes(b ^ 0x5C for b in block) + inner).digest()


# RFC 4231, test cases 2, 6 and 7: key, data, HMAC-SHA-256.
RFC_4231 = [
    (b"Jefe", b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
    (
        b"\xaa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
    (
        b"\xaa" * 131,
        b"This is a test using a larger than block-size key and a larger than block-size data. The key needs to be "
        b"hashed before being used by the HMAC algorithm.",
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
    ),
]


@pytest.mark.parametrize(("key", "data", "expected"), RFC_4231)
def test_the_keyed_code_is_hmac_sha256_of_rfc_4231(key: bytes, data: bytes, expected: str) -> None:
    # A key that lies elsewhere returns the column's key; here it is the one of the test case.
    assert pseudonymise(text(data.decode()), lambda purpose: key, "x", form="exact").tolist() == [expected[:32]]


def test_pseudonyms_are_those_of_earlier_versions() -> None:
    # Written down before the calculation was changed: held data must go on joining with new data.
    held = {
        ("email", "text", " Zoë@Example.com "): "124cfa5b0a27c68691fcab1cd428350d",
        ("card_id", "digits", "4111 1111-1111 1111"): "b91d1c75c17de9b7ac602021e4183f10",
        ("device_id", "exact", " aB1 "): "b8b1c2f5f6d451798589ecd1f98e359f",
        ("customer_id", "text", "42"): "8ee6d238c508cf7aa65d384e20717a53",
    }
    for (namespace, form, value), code in held.items():
        assert pseudonymise(text(value, value), KEY, namespace, form=form).tolist() == [code, code]
    assert pseudonymise(pd.Series([42]), KEY, "customer_id").tolist() == [held["customer_id", "text", "42"]]


def text(*values: object) -> pd.Series:
    return pd.Series(values, dtype="str")


def test_a_pseudonym_is_the_published_formula() -> None:
    subkey = hmac_by_hand(KEY, b"fraudlab pseudonym\0card_id")
    expected = hmac_by_hand(subkey, b"4111111111111111").hex()[:32]
    assert pseudonymise(text("4111 1111-1111 1111"), KEY, "card_id", form="digits").tolist() == [expected]


def test_the_same_value_in_another_dress_gets_the_same_pseudonym() -> None:
    same = {
        "text": ["Ann@Example.com ", "ann@example.com", "ＡＮＮ@example.com"],
        "digits": ["4111 1111 1111 1111", "4111111111111111", "4111-1111-1111-1111"],
        "exact": [" aB1", "aB1 "],
    }
    for form, values in same.items():
        assert pseudonymise(text(*values), KEY, "x", form=form).nunique() == 1
    assert pseudonymise(text("aB1", "ab1"), KEY, "x", form="exact").nunique() == 2
    numbers, said = pseudonymise(pd.Series([7, 70]), KEY, "x"), pseudonymise(text("7", "70"), KEY, "x")
    assert numbers.tolist() == said.tolist()


def test_namespaces_and_keys_do_not_join() -> None:
    values = text("a", "b", "c")
    codes = [pseudonymise(values, key, name) for key in (KEY, OTHER) for name in ("customer_id", "card_id")]
    assert pd.concat(codes).nunique() == 12


def test_missing_and_empty_values_stay_missing_and_link_nobody() -> None:
    codes = pseudonymise(text("a", None, "", "  ", "a"), KEY, "device_id")
    assert codes.isna().tolist() == [False, True, True, True, False]
    assert pseudonymise(text("none given"), KEY, "phone", form="digits").isna().all()
    assert str(codes.dtype) == "str"


def test_the_index_and_the_name_stay() -> None:
    values = pd.Series(["a", "b"], index=[7, 3], name="customer_id", dtype="str")
    codes = pseudonymise(values, KEY, "customer_id")
    assert codes.index.tolist() == [7, 3]
    assert codes.name == "customer_id"


def test_what_cannot_be_keyed_safely_is_refused() -> None:
    with pytest.raises(InputError, match="at least 32 bytes; found 5"):
        pseudonymise(text("a"), b"short", "x")
    with pytest.raises(InputError, match="unknown form 'digit'; did you mean 'digits'"):
        pseudonymise(text("a"), KEY, "x", form="digit")
    with pytest.raises(InputError, match="card_id must hold text or whole numbers; found floating point"):
        pseudonymise(pd.Series([4.111111e15]), KEY, "card_id")


def test_a_million_rows_take_less_than_two_seconds_of_cpu() -> None:
    pool = pd.array([f"customer-{i}@example.com" for i in range(100_000)], dtype="str")
    values = pd.Series(pool.take(np.random.default_rng(0).integers(0, 100_000, 1_000_000)))
    began = time.process_time()
    pseudonymise(values, KEY, "customer_id")
    assert time.process_time() - began < 2


def test_age_bands_turn_on_the_birthday() -> None:
    born = text("2000-02-29", "2000-03-01", "2000-03-02", "1946-03-01", "1946-03-02", "2026-03-02", "1900-01-01", None)
    bands = age_band(born, pd.Timestamp("2026-03-01")).astype(object).where(lambda band: band.notna(), None)
    assert bands.tolist() == ["20-29", "20-29", "20-29", "80+", "70-79", None, None, None]
    ages = {f"{2026 - age}-01-01": age for age in range(0, 121)}
    found = age_band(text(*ages), pd.Timestamp("2026-01-01"))
    expected = ["0-19" if a < 20 else "80+" if a >= 80 else f"{a - a % 10}-{a - a % 10 + 9}" for a in ages.values()]
    assert found.tolist() == expected


def test_prefix_and_grid_make_equal_what_is_near() -> None:
    assert prefix(text("01234", " ec1a 1bb", "7", None), 2).fillna("-").tolist() == ["01", "EC", "7", "-"]
    places = grid(pd.Series([0.31, 0.29, -0.01, 0.04, -33.87, np.nan]), 0.1)
    assert places.tolist()[:5] == [0.3, 0.3, 0.0, 0.0, -33.9]
    assert np.signbit(places.to_numpy()[2]) == np.False_, "minus zero would be another place"
    assert grid(pd.Series([12.0, 13.0]), 5).tolist() == [10.0, 15.0]
    with pytest.raises(InputError, match="characters must be at least 1"):
        prefix(text("a"), 0)
    with pytest.raises(InputError, match="step must be above 0"):
        grid(pd.Series([1.0]), 0)


def told(values: pd.Series) -> list[str]:
    assert str(values.dtype) == "str"
    return values.fillna("-").tolist()


def test_the_issuer_of_a_card_is_kept_and_nothing_of_what_is_no_card() -> None:
    cards = text(
        "4111 1111 1111 1111", "4111-1111-1111-1111", "378282246310005", "41111111", "none", "", None, "4" * 20
    )
    assert told(card_bin(cards)) == ["411111", "411111", "378282", "-", "-", "-", "-", "-"]
    assert told(card_bin(text("4111111111111111"), digits=8)) == ["41111111"]
    assert told(card_bin(pd.Series([5555555555554444, 5]))) == ["555555", "-"]
    assert told(card_bin(text("４１１１１１１１１１１１１１１１"))) == ["411111"]
    with pytest.raises(InputError, match="bin: digits must be 6 or 8; found 12; correct the contract"):
        card_bin(cards, digits=12)


DOMAINS = {
    "ann@example.com": "example.com",
    " Ann.B+c@Mail.EXAMPLE.Co.UK ": "mail.example.co.uk",
    "ann@example.com.": "example.com",
    "ann@bücher.example": "xn--bcher-kva.example",
    "ann@xn--bcher-kva.example": "xn--bcher-kva.example",
    '"a@b"@example.org': "example.org",
    "ann@" + "a" * 63 + ".com": "a" * 63 + ".com",
    "ann@" + "a" * 64 + ".com": "-",
    "ann@" + "abcdefg." * 32 + "com": "-",
    "ann@localhost": "-",
    "ann@example..com": "-",
    "ann@.example.com": "-",
    "ann@-example.com": "-",
    "ann@exa_mple.com": "-",
    "ann@192.0.2.1": "-",
    "ann@[192.0.2.1]": "-",
    "ann@bob@example.com": "-",
    "ann bob@example.com": "-",
    "@example.com": "-",
    "example.com": "-",
    "": "-",
}


@pytest.mark.parametrize("address", DOMAINS)
def test_a_domain_is_a_name_of_the_dns_or_missing(address: str) -> None:
    assert told(email_domain(text(address, None))) == [DOMAINS[address], "-"]


NETWORKS = {
    "192.0.2.77": "192.0.2.0/24",
    " 192.0.2.255 ": "192.0.2.0/24",
    "0.0.0.0": "0.0.0.0/24",
    "255.255.255.255": "255.255.255.0/24",
    "2001:DB8:1:2:3:4:5:6": "2001:db8:1::/48",
    "2001:0db8:0001:0000:0000:0000:0000:0001": "2001:db8:1::/48",
    "::ffff:192.0.2.7": "192.0.2.0/24",
    "fe80::1%eth0": "fe80::/48",
    "::1": "::/48",
    "192.0.2": "-",
    "192.0.2.256": "-",
    "192.000.002.001": "-",
    "192.0.2.1:443": "-",
    "192.0.2.1/24": "-",
    "3221226061": "-",
    "localhost": "-",
    "": "-",
}


@pytest.mark.parametrize("address", NETWORKS)
def test_a_network_is_that_of_an_address_or_missing(address: str) -> None:
    assert told(network(text(address, None))) == [NETWORKS[address], "-"]


def test_networks_have_the_asked_size_within_limits() -> None:
    both = text("10.20.30.40", "2001:db8:1:2::1")
    assert told(network(both, ipv4=16, ipv6=32)) == ["10.20.0.0/16", "2001:db8::/32"]
    with pytest.raises(InputError, match="ipv4 must be 8 to 24 bits; found 32"):
        network(both, ipv4=32)
    with pytest.raises(InputError, match="ipv6 must be 16 to 48 bits; found 64"):
        network(both, ipv6=64)


def test_companions_keep_index_and_name() -> None:
    values = pd.Series(["ann@example.com", "192.0.2.1"], index=[7, 3], name="what", dtype="str")
    for made in (card_bin(values), email_domain(values), network(values)):
        assert (made.index.tolist(), made.name) == ([7, 3], "what")


def test_movement_is_that_from_the_customers_previous_known_place() -> None:
    dice = np.random.default_rng(2)
    n = 300
    seconds = np.sort(dice.integers(0, 86_400, n))
    rows = pd.DataFrame(
        {
            "transaction_id": np.arange(n),
            "event_time": (pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(seconds, unit="s")).as_unit("us"),
            "customer_id": text(*(f"c{i}" for i in dice.integers(0, 9, n))),
            "latitude": np.where(dice.random(n) < 0.1, np.nan, dice.uniform(-90, 90, n)),
            "longitude": np.where(dice.random(n) < 0.1, 181.0, dice.uniform(-180, 180, n)),
        }
    )
    found = movement(rows)
    before: dict[str, tuple[float, float, float]] = {}
    for row, km, kmh in zip(rows.itertuples(), found["distance"], found["speed"]):
        here, second = np.radians([row.latitude, row.longitude]), row.event_time.timestamp()
        if np.isnan(row.latitude) or row.longitude > 180:
            assert np.isnan(km)
            assert np.isnan(kmh)
            continue
        if row.customer_id in before:
            *there, then = before[row.customer_id]
            # The spherical law of cosines, not the haversine formula.
            cosine = np.sin(here[0]) * np.sin(there[0])
            cosine += np.cos(here[0]) * np.cos(there[0]) * np.cos(here[1] - there[1])
            expected = 6371.0088 * np.arccos(np.clip(cosine, -1, 1))
            assert km == pytest.approx(expected, abs=0.51)
            assert kmh == pytest.approx(expected / (max(second - then, 60) / 3600), abs=0.51)
            assert km == round(km)
        else:
            assert np.isnan(km)
        before[row.customer_id] = (*here, second)
    assert found["distance"].notna().sum() > 200


@pytest.mark.slow
def test_ten_million_rows_take_less_than_ten_seconds_of_cpu() -> None:
    pool = pd.array([f"customer-{i}@example.com" for i in range(100_000)], dtype="str")
    values = pd.Series(pool.take(np.random.default_rng(0).integers(0, 100_000, 10_000_000)))
    began = time.process_time()
    pseudonymise(values, KEY, "customer_id")
    assert time.process_time() - began < 10
