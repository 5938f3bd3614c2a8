"""Proposed rules: they say what they fire on, read nothing that is forbidden, and go into a book as shadows."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from fraudlab import rulebook
from fraudlab.rulebook import Rule, added, column_kinds, evaluate, parse, propose, read_rules
from fraudlab.schema import InputError


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    n = 600
    return pd.DataFrame(
        {
            "transaction_id": np.arange(n),
            "device_id": [f"d{each}" for each in rng.integers(0, 90, n)],
            "amount": np.round(rng.lognormal(3, 0.6, n), 2),
            "channel": rng.choice(["online", "pos"], n),
            "merchant_id": [f"m{each}" for each in rng.integers(0, 30, n)],
            "customers on device": rng.integers(1, 3, n).astype("float32"),
            "share": rng.random(n).astype("float32"),
            "reported": rng.random(n),
            "gone": np.full(n, np.nan),
        }
    )


def test_it_says_what_it_fires_on_and_rules_can_read_it(table: pd.DataFrame) -> None:
    mine = np.arange(len(table)) % 50 == 0
    told = table.assign(
        channel=table["channel"].mask(mine, "online"),
        amount=table["amount"].mask(mine, 180.0 + np.arange(len(table)) % 7),
        **{"customers on device": table["customers on device"].mask(mine, 9)},
    )
    found = propose(told, mine)
    assert found is not None
    rulebook.check(parse(found.expression), column_kinds(told))
    hit = evaluate(parse(found.expression), told).fillna(False).to_numpy(dtype=bool)
    assert found.fires == (hit & mine).sum() >= 0.8 * mine.sum()
    assert found.others == (hit & ~mine).sum() <= 1
    assert found.out_of == (~mine).sum()
    assert "device_id" not in found.expression
    assert "transaction_id" not in found.expression
    assert found == propose(told, mine)


def test_columns_that_are_left_out_are_not_read(table: pd.DataFrame) -> None:
    mine = np.arange(len(table)) % 50 == 0
    told = table.assign(reported=np.where(mine, 7.0, table["reported"]))
    assert "reported" in propose(told, mine).expression
    without = propose(told, mine, without={"reported"})
    assert without is None or "reported" not in without.expression


def test_nothing_that_tells_them_apart_gives_no_rule(table: pd.DataFrame) -> None:
    same = table.assign(**dict.fromkeys(("amount", "share", "reported", "customers on device"), 1.0))
    same = same.assign(channel="pos", merchant_id="m1")
    assert propose(same, np.arange(len(same)) < 9) is None


def test_thirty_two_bits_and_odd_texts_do_no_harm() -> None:
    n = 40
    mine = np.arange(n) < 8
    told = pd.DataFrame(
        {
            "part": np.where(mine, 0.9, 0.1).astype("float32"),
            "kind": np.where(mine, 'a "quoted" one', "plain"),
        }
    )
    found = propose(told, mine)
    assert (found.fires, found.others) == (8, 0)
    assert "quoted" not in found.expression


def test_who_names_no_payment_is_refused(table: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="found 0 of 600; name the payments"):
        propose(table, np.zeros(len(table), dtype=bool))
    with pytest.raises(InputError, match="found 1 of 1; name the payments"):
        propose(table, [True])


RULE = Rule(
    id="pattern-x",
    title={"en": 'One "device"', "zh": "同一设备"},
    expression='channel = "online" and amount > 3',
    status="shadow",
    since=dt.date(2026, 3, 1),
    owner="desk-2",
    why='accounts were emptied; "quoted" \\ and such',
)
BOOK = """# A comment that stays.
name = "small"
version   = 7   # raise it

[[rule]]
id = "large"
title = { en = "version = 3", zh = "大额" }   # a trap
expression = "amount > 500"
status = "active"
since = 2026-01-01
owner = "card fraud team"
why = "large amounts are what stolen cards are for"
"""


def test_a_rule_is_added_and_the_rest_of_the_book_stays_as_written() -> None:
    longer = added(BOOK, RULE)
    book = read_rules(longer)
    assert book.version == 8
    assert [rule.id for rule in book.rules] == ["large", "pattern-x"]
    assert book.rules[1] == RULE
    assert longer.startswith(BOOK.replace("7", "8", 1).rstrip())
    assert read_rules(added(longer, RULE.model_copy(update={"id": "another"}))).version == 9


def test_an_id_that_is_taken_and_a_book_of_another_layout_are_refused() -> None:
    with pytest.raises(InputError, match="two rules have the id 'pattern-x'"):
        added(added(BOOK, RULE), RULE)
    quoted = BOOK.replace("version   = 7", '"version" = 7')
    with pytest.raises(InputError, match="'version' must stand on a line of its own"):
        added(quoted, RULE)
