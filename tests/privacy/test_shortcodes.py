"""Codes that people copy by hand: every single slip and every exchange of two signs is noticed."""

from __future__ import annotations

import itertools
import os

import pytest

from fraudlab.privacy.shortcodes import ALPHABET, demand_code, read_code, short_code
from fraudlab.schema import InputError


def codes(count: int) -> list[str]:
    return [short_code(os.urandom(8)).replace("-", "") for _ in range(count)]


def test_every_wrong_sign_is_noticed() -> None:
    for code in codes(20):
        for place, sign in itertools.product(range(10), ALPHABET):
            if sign != code[place]:
                assert read_code(code[:place] + sign + code[place + 1 :]) is None


def test_every_exchange_of_two_signs_is_noticed() -> None:
    for code in codes(50):
        for one, other in itertools.combinations(range(10), 2):
            if code[one] != code[other]:
                signs = list(code)
                signs[one], signs[other] = signs[other], signs[one]
                assert read_code("".join(signs)) is None


def test_it_is_read_however_it_is_written() -> None:
    for code in codes(50):
        whole = f"{code[:5]}-{code[5:]}"
        spoken = code.replace("1", "l").replace("0", "o").lower()
        assert read_code(code) == read_code(f" {code[:3]} {code[3:]} ") == read_code(spoken) == whole


def test_codes_are_spread_over_all_signs_and_depend_on_the_first_45_bits_only() -> None:
    seen = {sign for code in codes(300) for sign in code[:9]}
    assert seen == set(ALPHABET)
    assert short_code(b"\0" * 6) == short_code(b"\0" * 5 + b"\x07" + b"more")
    assert short_code(b"\0" * 6) != short_code(b"\0" * 5 + b"\x08")


@pytest.mark.parametrize("text", ["", "ABC12", "CSS62-XB4D8", "CSS62-XB4D77", "CSS62-XB4U7", "ünïcode-123"])
def test_what_is_no_code_is_refused_without_repeating_it(text: str) -> None:
    assert read_code(text) is None
    with pytest.raises(InputError, match="case: must be ten letters and digits such as CSS62-XB4D7") as refused:
        demand_code(text, "case")
    assert not text or f"{text} " not in f"{refused.value} "
