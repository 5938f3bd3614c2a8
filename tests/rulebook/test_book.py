"""Rule books: what is checked when one is read, which rules fire, what the strongest of them asks for."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pandas as pd
import pytest

from fraudlab import rulebook, ruling
from fraudlab.config import load_config
from fraudlab.decisions import ACTIONS
from fraudlab.rulebook import Rule, answered, check_columns, fired, notices, read_rules, strongest_action
from fraudlab.schema import InputError

ROOT = Path(__file__).resolve().parents[2]
HEAD = 'name = "small"\nversion = 2\n'
RULE = """
[[rule]]
id = "large"
title = { en = "Large amount", zh = "大额" }
expression = "amount > 500"
action = "limit_and_review"
status = "active"
since = 2026-01-01
owner = "card fraud team"
why = "large amounts are what stolen cards are for"
"""
NIGHT = (
    RULE.replace('"large"', '"night"')
    .replace("amount > 500", "channel = 'online' and hour < 6")
    .replace('action = "limit_and_review"\n', "")
)
SHADOW = RULE.replace('"large"', '"quiet"').replace("500", "5").replace('"active"', '"shadow"')
RETIRED = RULE.replace('"large"', '"gone"').replace("amount", "no_such_column").replace('"active"', '"retired"')
BOOK = read_rules(HEAD + RULE + NIGHT + SHADOW + RETIRED)
TABLE = pd.DataFrame(
    {
        "amount": [900.0, 900.0, 7.0, 1.0, None],
        "hour": [3, 12, 3, 3, 3],
        "channel": ["online", "pos", "online", None, "x"],
    },
    index=[5, 6, 7, 8, 9],
)


def test_active_rules_fire_where_their_condition_is_surely_true() -> None:
    found = fired(BOOK, TABLE)
    assert found.columns.tolist() == ["large", "night"]
    assert found.index.tolist() == TABLE.index.tolist()
    assert found["large"].tolist() == [True, True, False, False, False]
    assert found["night"].tolist() == [True, False, True, False, False]
    assert fired(BOOK, TABLE, status=("shadow",))["quiet"].tolist() == [True, True, True, False, False]
    assert answered(BOOK, TABLE)["night"].isna().tolist() == [False, False, False, True, False]
    assert fired(read_rules(HEAD + SHADOW), TABLE).shape == (5, 0)


def test_a_retired_rule_is_never_asked() -> None:
    check_columns(BOOK, rulebook.column_kinds(TABLE))  # its column is not there any more, and need not be
    with pytest.raises(InputError, match="active or shadow; found 'retired'"):
        fired(BOOK, TABLE, status=("active", "retired"))


def test_the_strongest_action_wins_and_a_rule_without_one_asks_a_person() -> None:
    found = strongest_action(BOOK, fired(BOOK, TABLE))
    assert found.tolist() == ["limit_and_review", "limit_and_review", "manual_review", None, None]
    assert found.index.tolist() == TABLE.index.tolist()
    assert strongest_action(BOOK, pd.DataFrame(index=[1, 2])).tolist() == [None, None]
    with pytest.raises(InputError, match=r"fired: must have a column per rule; found 'larg'; did you mean 'large'\?"):
        strongest_action(BOOK, pd.DataFrame({"larg": [True]}))


def test_actions_are_those_of_the_decisions_in_their_order() -> None:
    assert ("approve", *rulebook.ACTIONS) == tuple(ACTIONS)
    assert get_args(Rule.model_fields["action"].annotation) == rulebook.ACTIONS
    assert get_args(Rule.model_fields["status"].annotation) == rulebook.STATUSES
    assert set(rulebook.ADVERSE) < set(rulebook.ACTIONS)


def test_every_rule_that_does_not_fit_the_columns_has_its_sentence() -> None:
    with pytest.raises(InputError) as error:
        check_columns(BOOK, {"amount": "text", "hour": "number", "channel": "text"})
    assert str(error.value).splitlines() == [
        "rule 'large': '>' at column 8 needs two numbers; found a text and a number; compare like with like",
        "rule 'quiet': '>' at column 8 needs two numbers; found a text and a number; compare like with like",
    ]
    with pytest.raises(InputError, match="rule 'night': unknown column 'hour' at column 24; did you mean 'our'"):
        fired(BOOK, TABLE.rename(columns={"hour": "our"}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD + RULE.replace("owner", "ownr"), "book: rule 'large': unknown key 'ownr'; did you mean 'owner'?"),
        (HEAD + RULE.replace('owner = "card fraud team"', ""), "book: rule 'large': key 'owner' is missing; add it"),
        (HEAD + RULE.replace('"active"', '"on"'), "rule 'large': key 'status': input should be 'active', 'shadow' or"),
        (
            HEAD + RULE.replace("limit_and_review", "approve"),
            "rule 'large': key 'action': input should be 'step_up_auth",
        ),
        (HEAD + RULE.replace(', zh = "大额"', ""), "book: rule 'large': key 'title.zh' is missing; add it"),
        (HEAD + RULE.replace('"large"', '"Large"'), "book: rule 'Large': key 'id': string should match pattern"),
        (
            HEAD + RULE.replace('"large"', '"model"'),
            "no rule may have the id 'model', which tables need for themselves",
        ),
        (HEAD + RULE + RULE, "book: key 'the file': two rules have the id 'large'; give each its own"),
        (HEAD + RULE.replace("> 500", "> > 500"), "book: rule 'large': after 'amount >' at column 10 expected a value"),
        (HEAD, "book: key 'rule' is missing; add it"),
        ("name = 'small'\nversoin = 1" + RULE, "book: unknown key 'versoin'; did you mean 'version'?"),
        ('name = "small"\nversion = 0' + RULE, "book: key 'version': input should be greater than or equal to 1"),
        ("name =", "book: must be TOML; "),
    ],
)
def test_a_book_that_breaks_a_rule_is_refused_with_the_rule_named(text: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        read_rules(text, "book")
    assert said in str(error.value)


def test_the_digest_follows_what_the_rules_say_and_nothing_else() -> None:
    same = HEAD.replace("version = 2", "version = 9") + RULE.replace('"amount > 500"', "'''\n  amount>500.0\n'''")
    one = read_rules(HEAD + RULE)
    assert read_rules(same).digest == one.digest
    others = [RULE.replace("500", "501"), RULE.replace("limit_and_review", "limit"), RULE.replace("active", "shadow")]
    others += [RULE + NIGHT, RULE.replace("2026-01-01", "2026-01-02"), RULE.replace("stolen", "lost")]
    assert len({one.digest, *(read_rules(HEAD + text).digest for text in others)}) == 1 + len(others)


def test_a_book_tells_what_a_person_should_think_about() -> None:
    by_age = RULE.replace("amount > 500", "amount > 500 and age_band = '80-89'")
    text = HEAD + by_age + NIGHT.replace('status = "active"', 'status = "active"\naction = "decline"')
    again = NIGHT.replace('"night"', '"night-again"').replace("hour < 6", "hour<6")
    said = notices(read_rules(text + again), ["age_band"])
    assert [line.split(";")[0].split(",")[0] for line in said] == [
        "rule 'large' treats customers differently by age_band",
        "rule 'night' asks for 'decline'",
        "rule 'night-again' says the same as rule 'night'",
    ]
    assert notices(BOOK, ["age_band"]) == []


@pytest.mark.parametrize("name", ["demo", "handbook"])
def test_the_books_that_come_along_fit_their_data(name: str) -> None:
    config = load_config(ROOT / "configs" / f"{name}.toml")
    book = ruling.book_of(config)
    check_columns(book, ruling.columns_of_config(config))
    assert book.name == name
    assert book.of(("shadow",))
    assert not notices(book, config.decision.groups)
    assert all(rule.said("zh") != rule.said("en") for rule in book.rules)


def test_a_book_has_at_least_seven_rules_in_the_demo_and_one_of_each_status() -> None:
    book = ruling.read_book(ROOT / "configs" / "rules" / "demo.toml")
    assert 6 <= len(book.of(("active", "shadow"))) <= 8
    assert {rule.status for rule in book.rules} == set(rulebook.STATUSES)
