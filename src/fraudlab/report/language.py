"""Say a report's sentences in the reader's language: English in the code, every other language from its tables.

A sentence is written once, in English, where it is used: ``say("{n} payments", n=count(n))``. Its Chinese stands in
`zh/<module>.toml` under the English template, with the same {places}. A sentence without an entry is said in English
and marked as English for screen readers; a test lists every one. Words that come from elsewhere (metrics, tiers,
roles) go through `term`, English sentences kept in the evidence through `retold`.
"""

from __future__ import annotations

import functools
import re
import string
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.resources import files
from typing import Any

from markupsafe import Markup, escape

from fraudlab.schema import InputError, did_you_mean

LANGUAGES = ("en", "zh")
NAMES = {"en": "English", "zh": "中文"}
CELLS = ("not provided", "not shown", "not applicable")
"""Texts that fill a cell by themselves; said in the report's language wherever one stands alone."""
# Marks around English words in another language's text; private characters that no evidence has a use for.
_OPEN, _CLOSE = "\ue000", "\ue001"
_MARKED = re.compile(f"{_OPEN}([^{_OPEN}{_CLOSE}]*){_CLOSE}")

_language: ContextVar[str] = ContextVar("language", default="en")
_untold: ContextVar[set[str] | None] = ContextVar("untold", default=None)


@contextmanager
def speaking(lang: str) -> Iterator[set[str]]:
    """Say everything inside in one language; gives the set of templates and words found to have no entry in it.

    Parameters
    ----------
    lang : one of `LANGUAGES`.

    Raises
    ------
    InputError : no report is written in that language.

    >>> with speaking("zh") as untold:
    ...     text = say("Summary")
    >>> text, untold
    ('摘要', set())
    """
    if lang not in LANGUAGES:
        raise InputError(f"lang: unknown '{lang}'; {did_you_mean(lang, LANGUAGES)}")
    untold: set[str] = set()
    tokens = _language.set(lang), _untold.set(untold)
    try:
        yield untold
    finally:
        _language.reset(tokens[0])
        _untold.reset(tokens[1])


def language() -> str:
    """Return the language of the report being written, "en" outside of one."""
    return _language.get()


def say(template: str, /, **values: Any) -> str:
    """Return a sentence of the report in its language, its {places} filled.

    Parameters
    ----------
    template : the English sentence, a literal, so that a test can find it; `{name}` or `{name:,}` mark places.
    values : what fills them: text already in the report's language, or numbers.

    Returns
    -------
    The sentence; in English, marked as such, where the language's tables lack it.

    >>> say("{low} to {high}", low="0.1", high="0.2")
    '0.1 to 0.2'
    >>> with speaking("zh"):
    ...     say("{low} to {high}", low="0.1", high="0.2")
    '0.1 至 0.2'
    """
    lang = language()
    if lang == "en":
        return template.format(**values) if values else template
    wording = _wordings(lang).get(template)
    if wording is None:
        _note(template)
        return foreign(template.format(**values) if values else template)
    return wording.format(**values) if values else wording


def term(text: str) -> str:
    """Return a word of the house's vocabulary (a metric, a tier, a role) in the report's language, else as it is.

    >>> with speaking("zh"):
    ...     term("manual review"), plain(term("a word nobody knows"))
    ('人工审核', 'a word nobody knows')
    """
    lang = language()
    if lang == "en" or not text:
        return text
    words = _wordings(lang)
    found = words.get(text) or words.get(text[:1].lower() + text[1:])
    return foreign(text) if found is None else found


def retold(text: str) -> str:
    """Return a sentence that the evidence holds in English in the report's language.

    Such sentences were written by other modules, numbers included. Those whose template stands in `zh/evidence.toml`
    are recognised and said anew with the same numbers; words in their places are translated as `term` does. Others
    stay English and are marked so.

    >>> with speaking("zh"):
    ...     retold("95 % interval over 2,062 entities")
    '基于 2,062 个主体的 95% 区间'
    """
    lang = language()
    if lang == "en" or not text:
        return text
    whole = _wordings(lang).get(text)
    if whole is not None:
        return whole
    for pattern, wording in _told(lang):
        if found := pattern.fullmatch(text):
            places = {name: _place(value) for name, value in found.groupdict().items()}
            return wording.format(**places)
    if "; " in text:
        parts = text.split("; ")
        return "；".join(retold(part) for part in parts)
    return foreign(text)


def foreign(text: str) -> str:
    """Mark a text as English inside a report of another language, as it is in an English one.

    >>> foreign("as it is"), plain(foreign("as it is"))
    ('as it is', 'as it is')
    """
    if language() == "en" or not re.search("[A-Za-z]", text):
        return text
    return f"{_OPEN}{plain(text)}{_CLOSE}"


def plain(text: str) -> str:
    """Return a text without marks, for where no element can stand, such as attributes."""
    return text.replace(_OPEN, "").replace(_CLOSE, "")


def marked(text: str) -> Markup:
    """Return a text for HTML: escaped, English parts in an element that says so, `code` as code, long names breakable.

    >>> str(marked("a < b: `fraudlab doctor`"))
    'a &lt; b: <code>fraudlab doctor</code>'
    """
    safe = str(escape(term(text) if text in CELLS else text)).replace("__", "__<wbr>")
    parts = re.sub("`([^`]+)`", r"<code>\1</code>", _MARKED.sub(r'<span lang="en">\1</span>', safe))
    return Markup(plain(parts))


def spoken(number: str) -> str:
    """Return a number's text as the report's language writes it: Chinese has no space before the per cent sign.

    >>> spoken("30.4 %")
    '30.4 %'
    >>> with speaking("zh"):
    ...     spoken("over 99.9 %"), spoken("30.4 %")
    ('超过 99.9%', '30.4%')
    """
    if language() == "en":
        return number
    return (
        number.replace(" %", "%").replace("over ", "超过 ").replace("under ", "不足 ").replace(" points", " 个百分点")
    )


def capital(text: str) -> str:
    """Return a text with its first letter in upper case.

    >>> capital("ten days"), capital("")
    ('Ten days', '')
    """
    start = 1 if text.startswith(_OPEN) else 0
    return text[:start] + text[start : start + 1].upper() + text[start + 1 :]


def places(template: str) -> set[str]:
    """Return the names of a template's places.

    >>> sorted(places("{low} to {high:,}"))
    ['high', 'low']
    """
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


@functools.cache
def _wordings(lang: str) -> dict[str, str]:
    """Read all tables of a language: English template -> wording."""
    said: dict[str, str] = {}
    for table in tables(lang).values():
        said.update(table)
    return said


def tables(lang: str) -> dict[str, dict[str, str]]:
    """Return the wording tables of a language by file, in the order of their names."""
    folder = files(__package__).joinpath(lang)
    found = sorted((file for file in folder.iterdir() if file.name.endswith(".toml")), key=lambda file: file.name)
    return {file.name: tomllib.loads(file.read_text(encoding="utf-8")) for file in found}


@functools.cache
def _told(lang: str) -> list[tuple[re.Pattern[str], str]]:
    """Return the patterns of evidence sentences with their wordings, in the order of the file."""
    told = []
    for template, wording in tables(lang).get("evidence.toml", {}).items():
        if places(template):
            pattern = "".join(
                re.escape(text) + (f"(?P<{name}>.+?)" if name else "")
                for text, name, _, _ in string.Formatter().parse(template)
            )
            told.append((re.compile(pattern), wording))
    return told


def _place(value: str) -> str:
    """Return what stands in a place of an evidence sentence: numbers as spoken, words as terms, sentences retold."""
    if not re.search(r"[A-Za-z]{2}", value):
        return spoken(value)
    words = _wordings(language())
    if (word := words.get(value)) is not None:
        return word
    if ", " in value and all(part in words for part in value.split(", ")):
        return "、".join(words[part] for part in value.split(", "))
    return retold(value)


def _note(template: str) -> None:
    untold = _untold.get()
    if untold is not None:
        untold.add(template)
