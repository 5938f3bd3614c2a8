"""The guide to the numbered checks: what each detects, why it matters, what to do; in English and Chinese.

Its texts are in `guide.toml` alone. The command line, the report and docs/checks.md say them from here.
"""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from importlib.resources import files

from fraudlab.checks import CHECKS
from fraudlab.schema import InputError, did_you_mean

LANGUAGES = ("en", "zh")
TEXTS = ("detects", "why", "do")


@dataclass(frozen=True)
class Entry:
    """One check in one language: its number, question and severity, and the three texts."""

    code: str
    title: str
    severity: str
    detects: str
    why: str
    do: str


def entry(code: str, lang: str = "en") -> Entry:
    """Return what the guide says about a check.

    Raises
    ------
    InputError : there is no such check, or no such language.

    >>> entry("FL001").title, entry("FL001", "zh").title
    ('Features see only the past', '特征只看得到过去')
    """
    if lang not in LANGUAGES:
        raise InputError(f"lang: must be one of {', '.join(LANGUAGES)}; found '{lang}'; choose one of them")
    if code not in CHECKS:
        raise InputError(f"check: must be one of the numbered checks; unknown '{code}'; {did_you_mean(code, CHECKS)}")
    check, said = CHECKS[code], _texts()[code][lang]
    return Entry(code, said.get("title", check.title), heading(check.severity, lang), *(said[name] for name in TEXTS))


def heading(name: str, lang: str = "en") -> str:
    """Return a heading or a word of the guide: detects, why, do, check, question, severity, and the severities.

    >>> heading("do"), heading("blocks promotion", "zh")
    ('What to do', '阻止上线')
    """
    return _texts()["page"][lang].get(name, name)


@functools.cache
def _texts() -> dict[str, dict[str, dict[str, str]]]:
    return tomllib.loads(files(__package__).joinpath("guide.toml").read_text(encoding="utf-8"))


def page(lang: str = "en") -> str:
    """Return the whole guide as Markdown; docs/checks.md is the English one, docs/checks.zh.md the Chinese one."""
    entries = [entry(code, lang) for code in CHECKS]
    lines = [
        f"# {heading('page', lang)}",
        "",
        f"<!-- made by: fraudlab checks guide --lang {lang} -->",
        "",
        heading("intro", lang),
        "",
        "```",
        "fraudlab checks list                 # all of them",
        "fraudlab checks explain FL014        # one of them",
        "fraudlab checks show RUN             # what a run found",
        "```",
        "",
        f"| {' | '.join(heading(name, lang) for name in ('check', 'question', 'severity'))} |",
        "|---|---|---|",
        *(f"| [{each.code}](#{each.code.lower()}) | {each.title} | {each.severity} |" for each in entries),
    ]
    for each in entries:
        lines += ["", f"## {each.code}", "", f"**{each.title}** ({each.severity})", ""]
        lines += [f"- {heading(name, lang)}: {getattr(each, name)}" for name in TEXTS]
    return "\n".join(lines) + "\n"
