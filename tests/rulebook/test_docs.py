"""docs/rules.md holds: its examples are rules of the demo's columns, its truth table is what the language does."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from fraudlab import rulebook, ruling
from fraudlab.config import load_config
from fraudlab.rulebook import ACTIONS, STATUSES, check, evaluate, parse
from fraudlab.rulebook.language import MAX_DEPTH, MAX_LENGTH, MAX_TOKENS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
RULES = re.findall(r"```rule\n(.+?)\n```", PAGE, re.DOTALL)


@pytest.mark.parametrize("text", RULES)
def test_every_example_is_a_rule_of_the_demo(text: str) -> None:
    check(parse(text), ruling.columns_of_config(load_config(ROOT / "configs" / "demo.toml")), text=text)


def test_there_are_examples_and_the_whole_rule_is_one() -> None:
    assert len(RULES) >= 5
    whole = re.search(r"```toml\n(name = .+?)```", PAGE, re.DOTALL)
    assert rulebook.read_rules(whole[1]).rules[0].id == "impossible-travel"


def test_the_truth_table_is_what_the_language_does() -> None:
    words = {"true": True, "false": False, "unknown": None}
    head = PAGE.index("| `a` | `b` |")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE[head:].splitlines()[2:8]]
    assert len(rows) == 6
    table = pd.DataFrame({"a": [words[r[0]] for r in rows], "b": [words[r[1]] for r in rows]}, dtype="boolean")
    swapped = table.rename(columns={"a": "b", "b": "a"})
    for column, text, tables in (
        (2, "a and b", (table, swapped)),
        (3, "a or b", (table, swapped)),
        (4, "not a", (table,)),
    ):
        for each in tables:
            found = evaluate(parse(text), each)
            assert [None if value is pd.NA else bool(value) for value in found] == [words[row[column]] for row in rows]


def test_limits_actions_and_statuses_are_those_of_the_code() -> None:
    assert f"{MAX_LENGTH:,} characters,\n{MAX_TOKENS} words and signs, and {MAX_DEPTH} levels" in PAGE
    assert ", ".join(f"`{action}`" for action in ACTIONS) in PAGE.replace("\n", " ")
    assert all(status in PAGE for status in STATUSES)
