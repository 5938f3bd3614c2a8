"""A rule book: rules that people wrote, each with its reason, its owner and what to do, versioned as a whole."""

from __future__ import annotations

import datetime as dt
import json
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fraudlab.config import digest_of, explain_validation
from fraudlab.rulebook.evaluation import column_kinds, evaluate
from fraudlab.rulebook.language import Node, check, columns_of, parse, written
from fraudlab.schema import InputError, did_you_mean, refuse

ACTIONS = ("step_up_authentication", "limit", "manual_review", "limit_and_review", "decline")
"""What a rule may ask for, the weakest first; a rule only ever asks for more than the model does."""
STATUSES = ("active", "shadow", "retired")
"""Whether a rule is acted on, only measured, or kept for the record alone."""
ADVERSE = ("limit", "decline")
"""Actions that fall on a customer before a person has looked; the decision policy must allow them by name."""
RESERVED = ("model", "together", "payments", "nan", "null")
"""Ids that the tables of a backtest use for themselves, or that a CSV file reads as missing."""


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Title(_Frozen):
    """What a rule is called, in each language of the report."""

    en: str = Field(min_length=3, max_length=80)
    zh: str = Field(min_length=2, max_length=80)


class Rule(_Frozen):
    """One rule: when it fires, what it asks for, why it is there and who answers for it."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=40, description="stays the same when the rule changes")
    title: Title
    expression: str = Field(description="the condition, in the language of docs/rules.md")
    action: Literal["step_up_authentication", "limit", "manual_review", "limit_and_review", "decline"] = Field(
        "manual_review", description="what is asked for; a person looks unless it says otherwise"
    )
    status: Literal["active", "shadow", "retired"] = Field(description="acted on, only measured, or kept on record")
    since: dt.date = Field(description="the day it got this status")
    owner: str = Field(min_length=2, description="the team that answers for it")
    why: str = Field(min_length=10, description="what it is meant to catch, and why it should")

    @property
    def tree(self) -> Node:
        """The condition as it was read."""
        return parse(self.expression, self.where)

    @property
    def where(self) -> str:
        """What the rule is called in messages."""
        return f"rule '{self.id}'"

    def said(self, language: str = "en") -> str:
        """Return the title in a language, in English where there is none."""
        return self.title.zh if language == "zh" else self.title.en


class RuleBook(_Frozen):
    """The rules of a portfolio, with the version that is raised whenever one of them changes."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    version: int = Field(ge=1, description="raised with every change")
    rule: tuple[Rule, ...] = Field(min_length=1, max_length=200)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Every rule, in the order of the file."""
        return self.rule

    @property
    def digest(self) -> str:
        """The sha-256 of what the rules say, whatever the version: equal for the same rules, however laid out."""
        rules = [rule.model_dump(mode="json") | {"expression": written(rule.tree)} for rule in self.rules]
        return digest_of({"name": self.name, "rules": rules})

    def of(self, status: Collection[str] = ("active",)) -> tuple[Rule, ...]:
        """Return the rules of these statuses, in the order of the file."""
        return tuple(rule for rule in self.rules if rule.status in status)

    @model_validator(mode="after")
    def _ids_are_one_each(self) -> RuleBook:
        ids = [rule.id for rule in self.rules]
        for name in ids:
            if ids.count(name) > 1:
                raise ValueError(f"two rules have the id '{name}'; give each its own")
            if name in RESERVED:
                raise ValueError(f"no rule may have the id '{name}', which tables need for themselves; choose another")
        return self


def read_rules(text: str, where: str = "rule book") -> RuleBook:
    """Read a rule book from its TOML text and check everything about it that needs no data.

    Parameters
    ----------
    text : TOML with `name`, `version` and a `[[rule]]` table per rule, keys as in `Rule`.
    where : what the book is called in messages, such as its file.

    Raises
    ------
    InputError : not TOML; a key is unknown, missing or ill-typed; two rules share an id; an expression does not follow
        the language. Every problem has its sentence.

    >>> book = read_rules('''
    ... name = "small"
    ... version = 1
    ... [[rule]]
    ... id = "large"
    ... title = {en = "Large amount", zh = "大额"}
    ... expression = "amount > 500"
    ... status = "active"
    ... since = 2026-01-01
    ... owner = "card fraud team"
    ... why = "large amounts are what stolen cards are for"
    ... ''')
    >>> book.rules[0].action, fired(book, pd.DataFrame({"amount": [700.0, 7.0]}))["large"].tolist()
    ('manual_review', [True, False])
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where}: must be TOML; {error}; see docs/rules.md") from None
    try:
        book = RuleBook.model_validate(raw)
    except ValidationError as error:
        raise InputError("\n".join(f"{where}: {line}" for line in _explained(error, raw))) from None
    problems = []
    for rule in book.rules:
        try:
            parse(rule.expression, rule.where)
        except InputError as error:
            problems.append(f"{where}: {error}")
    refuse(problems)
    return book


def added(text: str, rule: Rule, where: str = "rule book") -> str:
    """Return a rule book's text with one more rule at its end and its version raised; all else stays as it is written.

    Parameters
    ----------
    text : the book, as `read_rules` reads it.
    where : what the book is called in messages.

    Raises
    ------
    InputError : as `read_rules`, of the book before and after, such as an id that is taken.

    >>> rule = {"id": "b", "expression": 'channel = "pos"', "status": "shadow", "since": "2026-02-01", "owner": "team",
    ...         "title": {"en": "At a counter", "zh": "柜台"}, "why": "an example of a rule"}
    >>> text = 'name = "small"  # mine' + chr(10) + "version = 1" + _block(Rule(**rule | {"id": "a"}))
    >>> longer = added(text, Rule(**rule))
    >>> longer.splitlines()[:2], [rule.id for rule in read_rules(longer).rules]
    (['name = "small"  # mine', 'version = 2'], ['a', 'b'])
    """
    before = read_rules(text, where)
    raised, found = _VERSION.subn(rf"\g<1>{before.version + 1}", text, count=1)
    longer = f"{raised.rstrip()}{_block(rule)}"
    book = read_rules(longer, where)
    if not found or book.version != before.version + 1 or book.rules[:-1] != before.rules:
        raise InputError(
            f"{where}: 'version' must stand on a line of its own at the top; found otherwise; move it there"
        )
    return longer


_VERSION = re.compile(r"^(version\s*=\s*)\d+", flags=re.MULTILINE)


def _block(rule: Rule) -> str:
    """Return a rule as a table of a rule book."""
    plain = rule.model_dump(mode="json")
    title = ", ".join(f"{name} = {_quoted(text)}" for name, text in plain["title"].items())
    lines = [f"id = {_quoted(rule.id)}", f"title = {{ {title} }}"]
    lines += [f"{name} = {_quoted(plain[name])}" for name in ("expression", "action", "status")]
    lines += [f"since = {plain['since']}", f"owner = {_quoted(rule.owner)}", f"why = {_quoted(rule.why)}"]
    return "\n".join(["", "", "[[rule]]", *lines, ""])


def _quoted(text: str) -> str:
    """Return a TOML string; its escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def _explained(error: ValidationError, raw: Mapping[str, Any]) -> list[str]:
    """Say each problem with the rule's id in place of its number."""
    lines = []
    for line in explain_validation(error, RuleBook):
        for number, rule in enumerate(raw.get("rule", [])):
            prefix = f"rule.{number}."
            if prefix in line and isinstance(rule, dict):
                line = line.replace(prefix, "")
                line = f"rule '{rule.get('id', number + 1)}': {line}"
        lines.append(_nearest(line))
    return lines


def _nearest(line: str) -> str:
    """Name the nearest valid key where the list of the book's keys was none."""
    head, unknown, rest = line.partition("unknown key '")
    name = rest.partition("'")[0]
    if not unknown or not head.startswith("rule '"):
        return line
    return f"{head}{unknown}{name}'; {did_you_mean(name.split('.')[-1], Rule.model_fields)}"


def check_columns(book: RuleBook, kinds: Mapping[str, str]) -> None:
    """Refuse a book whose rules do not fit the columns there are; retired rules are left alone.

    Parameters
    ----------
    kinds : column -> its kind, see `language.check`.

    Raises
    ------
    InputError : a sentence per rule that reads an unknown column or mixes what cannot be compared.
    """
    refuse(list(misfits(book, kinds).values()))


def misfits(book: RuleBook, kinds: Mapping[str, str], status: Collection[str] = ("active", "shadow")) -> dict[str, str]:
    """Return the rules that do not fit the columns there are: id -> what is wrong; empty where all fit.

    Parameters
    ----------
    kinds : column -> its kind, see `language.check`.
    status : whose rules are looked at.
    """
    problems = {}
    for rule in book.of(status):
        try:
            check(rule.tree, kinds, rule.where, rule.expression)
        except InputError as error:
            problems[rule.id] = str(error)
    return problems


def fired(book: RuleBook, table: pd.DataFrame, *, status: Collection[str] = ("active",)) -> pd.DataFrame:
    """Say which rules fire on which payments.

    Parameters
    ----------
    book : the rules.
    table : the payments: columns of the transactions and of the features side by side.
    status : which rules are asked; "active" ones alone unless stated. Shadow rules are to be measured, not acted on.

    Returns
    -------
    DataFrame of booleans in the table's index, a column per rule id. What a missing value leaves open does not fire.

    Raises
    ------
    InputError : an unknown or retired status; a rule does not fit the columns.
    """
    answers = answered(book, table, status=status)
    return answers.fillna(False).astype(bool) if len(answers.columns) else answers


def answered(book: RuleBook, table: pd.DataFrame, *, status: Collection[str] = ("active",)) -> pd.DataFrame:
    """As `fired`, in nullable booleans: NA where a missing value leaves open whether a rule fires."""
    for name in status:
        if name not in ("active", "shadow"):
            raise InputError(f"status: rules that are asked are active or shadow; found '{name}'; take it out")
    rules = book.of(status)
    refuse(list(misfits(book, column_kinds(table), status).values()))
    return pd.DataFrame({rule.id: evaluate(rule.tree, table, rule.where) for rule in rules}, index=table.index)


def strongest_action(book: RuleBook, fired: pd.DataFrame) -> pd.Series:
    """Return, per payment, the strongest action that a rule which fired asks for; missing where none fired.

    Parameters
    ----------
    fired : of `fired`: booleans, a column per rule id.

    >>> title = {"en": "Title", "zh": "标题"}
    >>> told = {"title": title, "status": "active", "since": "2026-01-01", "owner": "team", "why": "an example of two"}
    >>> book = RuleBook.model_validate({"name": "two", "version": 1, "rule": [
    ...     {"id": "a", "expression": "amount > 1", "action": "limit_and_review", **told},
    ...     {"id": "b", "expression": "amount > 0", **told}]})
    >>> strongest_action(book, pd.DataFrame({"a": [True, False, False], "b": [True, True, False]})).tolist()
    ['limit_and_review', 'manual_review', None]
    """
    rank = {rule.id: ACTIONS.index(rule.action) + 1 for rule in book.rules}
    if unknown := [str(name) for name in fired if name not in rank]:
        raise InputError(f"fired: must have a column per rule; found '{unknown[0]}'; {did_you_mean(unknown[0], rank)}")
    strength = np.zeros(len(fired), dtype=int)
    for name in fired:
        strength = np.maximum(strength, np.where(fired[name], rank[str(name)], 0))
    return pd.Series(np.array([None, *ACTIONS], dtype=object)[strength], index=fired.index, dtype=object)


def notices(book: RuleBook, groups: Iterable[str] = ()) -> list[str]:
    """Return what a person should think about in a book that breaks no rule.

    Parameters
    ----------
    groups : columns by which customers are compared for fairness (`decision.groups`).
    """
    said, seen = [], {}
    for rule in book.of(("active", "shadow")):
        by = [name for name in columns_of(rule.tree) if name in set(groups)]
        if by:
            said.append(
                f"{rule.where} treats customers differently by {', '.join(by)}, by which fairness is watched; say in "
                "'why' what justifies it, or take it out"
            )
        if rule.action in ADVERSE:
            said.append(
                f"{rule.where} asks for '{rule.action}', which falls on customers before a person has looked; it stays "
                "a proposal for a person unless the decision policy allows it by name"
            )
        same = seen.setdefault(written(rule.tree), rule.id)
        if same != rule.id:
            said.append(f"{rule.where} says the same as rule '{same}'; retire one of them")
    return said
