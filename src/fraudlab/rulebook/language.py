"""The language that people write rules in: read by a small parser of its own, checked by type, never executed as code.

A rule is a condition over the columns of a payment, such as `amount > 500 and country not in ["AT", "DE"]`:

- values: numbers (`220`, `0.5`, `1_000`), texts in quotes (`"online"`), times (`10 minutes`, `2 hours`, `30 days`,
  which are numbers of days, as the features count them), and columns by name (an odd name in backticks);
- `+ - * /` of numbers, `= != < <= > >=` of two values, `in [...]`, `not in [...]`, `is missing`, `is not missing`;
- `not`, then `and`, then `or`, in this order of binding, and parentheses.

There are no functions, no attributes and no way to reach anything but the row itself. Numbers are told from texts
before a row is looked at. What a missing value makes of a condition is in `fraudlab.rulebook.evaluation`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn, TypeAlias

from fraudlab.schema import InputError, did_you_mean, refuse

MAX_LENGTH, MAX_TOKENS, MAX_DEPTH = 4000, 500, 30
"""Characters, words and signs, and levels of nesting of one rule: more belongs into several rules."""
MAX_NUMBER = 1e15
UNITS = {"seconds": 86_400, "minutes": 1440, "hours": 24, "days": 1}
"""Units of time, and how many of each make a day."""
_SHORT = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days"}
_UNIT_WORDS = {name: name for name in UNITS} | {name[:-1]: name for name in UNITS} | _SHORT
KEYWORDS = ("and", "or", "not", "in", "is", "missing")
_COMPARISONS = {"<": "<", "<=": "<=", ">": ">", ">=": ">=", "=": "=", "==": "=", "!=": "!=", "<>": "!="}
_TOKEN = re.compile(
    r"(?P<space>\s+)|(?P<number>\d+(?:_\d+)*(?:\.\d+)?(?:[eE][+-]?\d+)?)|(?P<text>\"[^\"\n]*\"|'[^'\n]*')"
    r"|(?P<name>`[^`\n]+`|[^\W\d]\w*)|(?P<sign><=|>=|==|!=|<>|[<>=+\-*/()\[\],])"
)

KINDS = {
    "number": "a number",
    "text": "a text",
    "truth": "a condition",
    "id": "an identifier",
    "time": "a moment",
    "label": "a label",
}
"""What a column can hold. Only numbers, texts and truths can be compared; see `check`."""


@dataclass(frozen=True)
class Number:
    """A number, in days where it has a unit of time."""

    value: float
    unit: str = ""

    @property
    def plain(self) -> float:
        """The number as columns hold it."""
        return self.value / UNITS[self.unit] if self.unit else self.value


@dataclass(frozen=True)
class Text:
    """A text in quotes."""

    value: str


@dataclass(frozen=True)
class Column:
    """A column of the payment, by its name."""

    name: str
    at: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Negative:
    """Minus a number."""

    of: Node
    at: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Arithmetic:
    """Two numbers added, subtracted, multiplied or divided."""

    sign: str
    left: Node
    right: Node
    at: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Comparison:
    """Two values held against each other."""

    sign: str
    left: Node
    right: Node
    at: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Member:
    """Whether a value is, or is not, one of a list."""

    of: Node
    values: tuple[Number | Text, ...]
    negated: bool
    at: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Missing:
    """Whether a value is, or is not, missing."""

    of: Node
    negated: bool
    at: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Not:
    """The opposite of a condition."""

    of: Node
    at: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Joined:
    """Conditions joined by one word: all of them ("and"), or any ("or")."""

    word: str
    parts: tuple[Node, ...]
    at: int = field(default=0, compare=False)


Node: TypeAlias = Number | Text | Column | Negative | Arithmetic | Comparison | Member | Missing | Not | Joined


@dataclass(frozen=True)
class _Token:
    kind: str  # number, text, name, word (a keyword), sign, end
    text: str
    at: int


@functools.lru_cache(maxsize=4096)
def parse(text: str, where: str = "rule") -> Node:
    """Read a rule's expression into its parts; nothing of it is executed.

    Parameters
    ----------
    text : the expression; line breaks count as spaces.
    where : what the rule is called in messages, such as "rule 'velocity'".

    Returns
    -------
    The tree of the condition. Types are not checked here: `check` knows the columns.

    Raises
    ------
    InputError : the text is empty, longer than `MAX_LENGTH`, has more than `MAX_TOKENS` words and signs, nests deeper
        than `MAX_DEPTH`, or does not follow the grammar; the sentence names the place and what was expected.

    >>> written(parse("amount>500 AND not(country in ['AT','DE'])"))
    'amount > 500 and not country in ["AT", "DE"]'
    >>> parse("amount >", "rule 'x'")
    Traceback (most recent call last):
    fraudlab.schema.InputError: rule 'x': after 'amount >' at column 9 expected a value; found the end; finish it
    """
    if len(text) > MAX_LENGTH:
        raise InputError(
            f"{where}: an expression has at most {MAX_LENGTH:,} characters; found {len(text):,}; make several rules"
        )
    tokens = tuple(_tokens(text, where))
    if len(tokens) > MAX_TOKENS:
        raise InputError(
            f"{where}: an expression has at most {MAX_TOKENS} words and signs; found {len(tokens) - 1:,}; make "
            "several rules"
        )
    return _Parser(text, tokens, where).whole()


def _tokens(text: str, where: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise InputError(f"{where}: {_place(text, at)} cannot be read: found {_unreadable(text, at)}")
        kind, said = str(found.lastgroup), found.group()
        if kind == "name" and said.lower() in KEYWORDS:
            kind, said = "word", said.lower()
        if kind != "space":
            yield _Token(kind, said, at)
        at = found.end()
    yield _Token("end", "", len(text))


def _unreadable(text: str, at: int) -> str:
    sign = text[at]
    if sign in "\"'":
        return "a quote that is not closed; close it in the same line"
    if sign == "`":
        return "a backtick that is not closed, or nothing between two; close it in the same line"
    if sign == ".":
        return "a full stop; numbers begin with a digit (0.5), and names have no parts"
    shown = f"'{sign}'" if sign.isprintable() else f"the character U+{ord(sign):04X}"
    return f"{shown}, which the language does not have; see docs/rules.md"


def _place(text: str, at: int) -> str:
    """Say where in an expression a character is."""
    line = text.count("\n", 0, at) + 1
    column = at - (text.rfind("\n", 0, at) + 1) + 1
    return f"column {column}" if "\n" not in text.strip() else f"line {line}, column {column}"


@dataclass
class _Parser:
    text: str
    tokens: Sequence[_Token]
    where: str
    next: int = 0
    depth: int = 0

    @property
    def token(self) -> _Token:
        return self.tokens[self.next]

    def whole(self) -> Node:
        if self.token.kind == "end":
            raise InputError(f"{self.where}: an expression must state a condition; found nothing; write one")
        tree = self.either()
        if self.token.kind != "end":
            if self.token.text == "(" and self.tokens[self.next - 1].kind == "name":
                self.fail("the end or 'and'", "the language has no functions; features do the counting")
            self.fail("the end, 'and' or 'or'", "join conditions with 'and' or 'or'")
        return tree

    def take(self, *texts: str, kind: str = "sign") -> _Token | None:
        if self.token.kind == kind and self.token.text in texts:
            self.next += 1
            return self.tokens[self.next - 1]
        return None

    def fail(self, expected: str, advice: str) -> NoReturn:
        before = " ".join(self.text[: self.token.at].split())
        before = f"after '{before if len(before) <= 30 else '... ' + before[-26:]}' " if before else ""
        found = "the end" if self.token.kind == "end" else f"'{self.token.text}'"
        place = _place(self.text, self.token.at)
        raise InputError(f"{self.where}: {before}at {place} expected {expected}; found {found}; {advice}")

    def deeper(self, at: int) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise InputError(
                f"{self.where}: an expression nests at most {MAX_DEPTH} levels; found more at "
                f"{_place(self.text, at)}; make several rules"
            )

    def either(self) -> Node:
        return self.joined("or", lambda: self.joined("and", self.condition))

    def joined(self, word: str, part) -> Node:
        at, parts = self.token.at, [part()]
        while self.take(word, kind="word"):
            parts.append(part())
        if len(parts) == 1:
            return parts[0]
        flat: list[Node] = []
        for each in parts:
            flat += each.parts if isinstance(each, Joined) and each.word == word else (each,)
        return Joined(word, tuple(flat), at)

    def condition(self) -> Node:
        if token := self.take("not", kind="word"):
            self.deeper(token.at)
            tree = Not(self.condition(), token.at)
            self.depth -= 1
            return tree
        left = self.sum()
        token = self.token
        if self.take(*_COMPARISONS):
            tree = Comparison(_COMPARISONS[token.text], left, self.sum(), token.at)
        elif self.take("is", kind="word"):
            negated = self.take("not", kind="word") is not None
            if not self.take("missing", kind="word"):
                self.fail("'missing' or 'not missing'", "compare with = and !=")
            tree = Missing(left, negated, token.at)
        elif self.take("in", kind="word"):
            tree = Member(left, self.values(), False, token.at)
        elif self.take("not", kind="word"):
            if not self.take("in", kind="word"):
                self.fail("'in'", "write 'not in [...]', or 'and not ...'")
            tree = Member(left, self.values(), True, token.at)
        else:
            return left
        if self.token.kind == "sign" and self.token.text in _COMPARISONS:
            self.fail("'and' or 'or'", "comparisons are not chained: write 'a < b and b < c'")
        return tree

    def values(self) -> tuple[Number | Text, ...]:
        if not self.take("["):
            self.fail("'['", "list the values in square brackets: [1, 2]")
        found = [self.value()]
        while self.take(","):
            found.append(self.value())
        if not self.take("]"):
            self.fail("',' or ']'", "part the values with commas and close the list")
        return tuple(found)

    def value(self) -> Number | Text:
        if self.take("-"):
            if self.token.kind != "number":
                self.fail("a number", "lists hold numbers and texts")
            number = self.number()
            return Number(-number.value, number.unit)
        if self.token.kind == "number":
            return self.number()
        if self.token.kind == "text":
            self.next += 1
            return Text(self.tokens[self.next - 1].text[1:-1])
        self.fail("a number or a text in quotes", "lists hold numbers and texts")

    def sum(self) -> Node:
        return self.chain(("+", "-"), lambda: self.chain(("*", "/"), self.unary))

    def chain(self, signs: tuple[str, ...], part) -> Node:
        tree = part()
        while token := self.take(*signs):
            tree = Arithmetic(token.text, tree, part(), token.at)
        return tree

    def unary(self) -> Node:
        if token := self.take("-"):
            self.deeper(token.at)
            tree = Negative(self.unary(), token.at)
            self.depth -= 1
            return tree
        return self.primary()

    def primary(self) -> Node:
        token = self.token
        if token.kind == "number":
            return self.number()
        if token.kind in ("text", "name"):
            self.next += 1
            if token.kind == "text":
                return Text(token.text[1:-1])
            return Column(token.text.strip("`"), token.at)
        if self.take("("):
            self.deeper(token.at)
            tree = self.either()
            self.depth -= 1
            if not self.take(")"):
                self.fail("')'", "close the parenthesis")
            return tree
        self.fail("a value", "finish it" if token.kind == "end" else "write a number, a column or a text in quotes")

    def number(self) -> Number:
        token = self.token
        self.next += 1
        value, unit = float(token.text.replace("_", "")), ""
        if value > MAX_NUMBER:
            raise InputError(
                f"{self.where}: numbers go up to {MAX_NUMBER:g}; found more at {_place(self.text, token.at)}; lower it"
            )
        if self.token.kind == "name":
            name = self.token.text.lower()
            if name not in _UNIT_WORDS:
                self.fail("a unit of time or a sign", did_you_mean(name, _UNIT_WORDS))
            self.next += 1
            unit = _UNIT_WORDS[name]
        return Number(value, unit)


_LOOSEST, _AND, _NOT, _COMPARED, _SUM, _PRODUCT, _MINUS, _TIGHTEST = range(8)


def written(tree: Node) -> str:
    """Write a tree in the one canonical way; reading that gives the tree back.

    >>> written(parse("NOT (a=1 or b<>2)  and c in [1,-2] and d < 90s"))
    'not (a = 1 or b != 2) and c in [1, -2] and d < 90 seconds'
    >>> written(parse("(a - (b - c)) * -2 > 0 or `odd name` is   not missing"))
    '(a - (b - c)) * -2 > 0 or `odd name` is not missing'
    """
    return _written(tree, _LOOSEST)


def _written(tree: Node, outer: int) -> str:
    match tree:
        case Number():
            whole = tree.value == round(tree.value)
            said, binds = (f"{tree.value:.0f}" if whole else repr(tree.value)), _TIGHTEST
            said += f" {tree.unit}" if tree.unit else ""
        case Text():
            quote = "'" if '"' in tree.value else '"'
            said, binds = f"{quote}{tree.value}{quote}", _TIGHTEST
        case Column():
            plain = re.fullmatch(r"[^\W\d]\w*", tree.name) and tree.name.lower() not in KEYWORDS
            said, binds = tree.name if plain else f"`{tree.name}`", _TIGHTEST
        case Negative():
            said, binds = f"-{_written(tree.of, _MINUS)}", _MINUS
        case Arithmetic():
            binds = _SUM if tree.sign in "+-" else _PRODUCT
            said = f"{_written(tree.left, binds)} {tree.sign} {_written(tree.right, binds + 1)}"
        case Comparison():
            said, binds = f"{_written(tree.left, _SUM)} {tree.sign} {_written(tree.right, _SUM)}", _COMPARED
        case Member():
            listed = ", ".join(_written(value, _LOOSEST) for value in tree.values)
            said = f"{_written(tree.of, _SUM)} {'not in' if tree.negated else 'in'} [{listed}]"
            binds = _COMPARED
        case Missing():
            said = f"{_written(tree.of, _SUM)} is {'not missing' if tree.negated else 'missing'}"
            binds = _COMPARED
        case Not():
            said, binds = f"not {_written(tree.of, _NOT)}", _NOT
        case Joined():
            binds = _AND if tree.word == "and" else _LOOSEST
            said = f" {tree.word} ".join(_written(part, binds + 1) for part in tree.parts)
    return f"({said})" if binds < outer else said


def columns_of(tree: Node) -> tuple[str, ...]:
    """Return the names of the columns an expression reads, each once, in the order of reading.

    >>> columns_of(parse("amount / b > 2 and amount < 9"))
    ('amount', 'b')
    """
    return tuple(dict.fromkeys(column.name for column in _columns(tree)))


def _columns(tree: Node) -> Iterator[Column]:
    match tree:
        case Column():
            yield tree
        case Arithmetic() | Comparison():
            yield from _columns(tree.left)
            yield from _columns(tree.right)
        case Joined():
            for part in tree.parts:
                yield from _columns(part)
        case Negative() | Member() | Missing() | Not():
            yield from _columns(tree.of)


def check(tree: Node, kinds: Mapping[str, str], where: str = "rule", text: str = "") -> None:
    """Refuse an expression that reads an unknown column or mixes what cannot be compared.

    Parameters
    ----------
    tree : from `parse`.
    kinds : column -> one of `KINDS`. Identifiers and moments can only be `missing` or not: a rule that names a person
        has no place in a rule book. Labels are known only after the payment and cannot be read at all.
    where : what the rule is called in messages.
    text : the expression as it was written, so that messages name places in it; "" takes it as `written`.

    Raises
    ------
    InputError : a sentence per unknown or forbidden column, or the first place where types do not fit.

    >>> check(parse("amount > 'much'"), {"amount": "number"}, "rule 'x'")
    Traceback (most recent call last):
    fraudlab.schema.InputError: rule 'x': '>' at column 8 needs two numbers; found a number and a text; compare like \
with like
    """
    if not text:
        text = written(tree)
        tree = parse(text, where)
    problems, said = [], set()
    for column in _columns(tree):
        place = _place(text, column.at)
        if column.name in said:
            continue
        said.add(column.name)
        if column.name not in kinds:
            problems.append(f"{where}: unknown column '{column.name}' at {place}; {did_you_mean(column.name, kinds)}")
        elif kinds[column.name] == "label":
            problems.append(
                f"{where}: column '{column.name}' at {place} is known only after the payment; take it out of the rule"
            )
    refuse(problems)
    kind = _kind(tree, kinds, where, text)
    if kind != "truth":
        raise InputError(f"{where}: an expression must be a condition; found {KINDS[kind]}; compare it with something")


def _kind(tree: Node, kinds: Mapping[str, str], where: str, text: str) -> str:
    """Return what a part is, "number", "text" or "truth", and refuse what does not fit together."""

    def wrong(at: int, sign: str, rule: str, found: Sequence[str], advice: str) -> NoReturn:
        named = " and ".join(KINDS[each] for each in found)
        raise InputError(f"{where}: '{sign}' at {_place(text, at)} needs {rule}; found {named}; {advice}")

    def kind_of(part: Node) -> str:
        return _kind(part, kinds, where, text)

    match tree:
        case Number():
            return "number"
        case Text():
            return "text"
        case Column():
            return kinds[tree.name]
        case Negative():
            if (found := kind_of(tree.of)) != "number":
                wrong(tree.at, "-", "a number", [found], "take the minus away")
            return "number"
        case Arithmetic():
            found = [kind_of(tree.left), kind_of(tree.right)]
            if found != ["number", "number"]:
                wrong(tree.at, tree.sign, "two numbers", found, "only numbers can be reckoned with")
            return "number"
        case Comparison():
            found = [kind_of(tree.left), kind_of(tree.right)]
            if "id" in found or "time" in found:
                wrong(tree.at, tree.sign, "numbers or texts", found, "of these a rule may only ask 'is missing'")
            if "truth" in found:
                wrong(tree.at, tree.sign, "numbers or texts", found, "join conditions with 'and', 'or' and 'not'")
            if found[0] != found[1] or (found[0] == "text" and tree.sign not in ("=", "!=")):
                rule = "two numbers or two texts" if tree.sign in ("=", "!=") else "two numbers"
                wrong(tree.at, tree.sign, rule, found, "compare like with like")
            return "truth"
        case Member():
            found = [kind_of(tree.of), *dict.fromkeys(kind_of(value) for value in tree.values)]
            if found[0] not in ("number", "text") or len(set(found)) > 1:
                advice = "list values like the column's"
                if found[0] in ("id", "time"):
                    advice = "of these a rule may only ask 'is missing'"
                wrong(tree.at, "in", "a number and numbers, or a text and texts", found, advice)
            return "truth"
        case Missing():
            if (found := kind_of(tree.of)) == "truth" and not isinstance(tree.of, Column):
                wrong(tree.at, "is", "a value", [found], "ask whether a column or a number is missing")
            return "truth"
        case Not():
            if (found := kind_of(tree.of)) != "truth":
                wrong(tree.at, "not", "a condition", [found], "compare it with something")
            return "truth"
    for part in tree.parts:
        if (found := kind_of(part)) != "truth":
            wrong(tree.at, tree.word, "conditions", [found], "compare it with something")
    return "truth"
