"""Pseudonyms and coarser values: against formulas written out by hand, and the ways identifiers go wrong."""

from __future__ import annotations

import hashlib
import time

import numpy as np
import pandas as pd
import pytest

from fraudlab.privacy.treatments import age_band, grid, prefix, pseudonymise
from fraudlab.schema import InputError

KEY = bytes(range(32))
OTHER = bytes(range(1, 33))


def hmac_by_hand(key: bytes, message: bytes) -> bytes:
    """RFC 2104, with plain hashlib."""
    block = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in block) + message).digest()
    return hashlib.sha256(bytes(b ^ 0x5C for b in block) + inner).digest()


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
