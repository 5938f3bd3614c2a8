"""Write the awareness pages: for each kind of fraud a page in each language, with a picture and what a model found."""

from __future__ import annotations

import os
import shutil
import tempfile
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from fraudlab import plots
from fraudlab.awareness.cases import Case
from fraudlab.datasets.typologies import TYPOLOGIES
from fraudlab.features.words import format_value

LANGUAGES = ("en", "zh")


@dataclass(frozen=True)
class Findings:
    """What the pages say of a model: tables of `fraudlab.awareness.findings`, reasons and words by language."""

    run: str
    budget: int
    found: pd.DataFrame
    apart: pd.DataFrame
    reasons: dict[str, list[str]]
    words: dict[str, pd.DataFrame]


@cache
def texts() -> dict[str, Any]:
    """Return the texts of every kind of fraud and of the pages themselves: texts()[kind][language][word]."""
    return tomllib.loads(files(__package__).joinpath("texts.toml").read_text(encoding="utf-8"))


def write_pages(folder: Path, cases: dict[str, Case], findings: Findings, command: str) -> list[Path]:
    """Write all pages and pictures and return the pages; the folder is complete or as it was.

    Parameters
    ----------
    folder : a new one, or one that holds these pages; other files in it are left alone.
    cases : an invented case per kind; a kind without one has no picture.
    findings : what the model found.
    command : how the pages are made again, printed at their foot.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        building = Path(scratch)
        for name in ("images", *LANGUAGES):
            (building / name).mkdir()
        alts = {}
        for name, case in cases.items():
            for language in LANGUAGES:
                picture = _picture(case, language)
                alts[name, language] = picture.alt
                (building / "images" / f"{name}.{language}.svg").write_text(picture.svg() + "\n", encoding="utf-8")
        for language in LANGUAGES:
            for name in TYPOLOGIES:
                text = page(name, language, findings, command, alts.get((name, language)))
                (building / language / f"{name}.md").write_text(text, encoding="utf-8")
            (building / language / "README.md").write_text(overview(language, findings, command), encoding="utf-8")
        (building / "README.md").write_text(_doors(), encoding="utf-8")
        for name in ("images", *LANGUAGES):
            shutil.rmtree(folder / name, ignore_errors=True)
            folder.mkdir(exist_ok=True)
            os.replace(building / name, folder / name)
        os.replace(building / "README.md", folder / "README.md")
    return [folder / "README.md", *sorted(folder.glob("*/*.md"))]


def _picture(case: Case, language: str) -> plots.Picture:
    said = texts()
    return plots.case_of_fraud(
        case.payments,
        said["words"][language],
        title=said[case.name][language]["title"],
        unit=case.unit,
        shown=case.shown,
        reported=case.reported,
    )


def page(name: str, language: str, findings: Findings, command: str, alt: str | None) -> str:
    """Return the page of one kind of fraud as Markdown; `alt` describes its picture, None where there is none."""
    said, words = texts()[name][language], texts()["words"][language]
    other = next(each for each in LANGUAGES if each != language)
    lines = [
        f"# {said['title']}",
        f"[{words['back']}](README.md) · [{words['other_language']}](../{other}/{name}.md)",
        f"![{alt}](../images/{name}.{language}.svg)" if alt else "",
        f"## {words['story']}",
        said["story"],
        f"## {words['signs']}",
        said["signs"],
        *_apart(name, language, findings),
        f"## {words['found']}",
        *_found(name, language, findings),
    ]
    for who in ("customers", "staff"):
        lines += [f"## {words[who]}"]
        for what in ("notice", "do"):
            lines += [f"**{words[what]}**", "\n".join(f"- {line}" for line in said[f"{who}_{what}"])]
    lines += ["---", words["made"].format(command=command, run=findings.run)]
    return "\n\n".join(line for line in lines if line) + "\n"


def _apart(name: str, language: str, findings: Findings) -> list[str]:
    """Return the table of what sets a kind apart, with its note; nothing where too few were seen."""
    words, described = texts()["words"][language], findings.words[language].set_index("column")
    rows = findings.apart[findings.apart["kind"] == name]
    if rows.empty:
        return []
    head = " | ".join(words[each] for each in ("feature", "fraud", "genuine", "rank"))
    lines = [f"| {head} |", "|---|---:|---:|---:|"]
    for row in rows.itertuples():
        kind = described["kind"][row.feature]
        values = " | ".join(_value(value, kind, language) for value in (row.fraud, row.genuine))
        lines.append(f"| {described['label'][row.feature]} | {values} | {row.rank:.2f} |")
    return [f"**{words['stands_out']}**", "\n".join(lines), words["stands_out_note"]]


def _value(value: float, kind: str, language: str) -> str:
    if kind == "flag":
        return texts()["words"][language]["yes" if value else "no"]
    return format_value(value, kind, lang=language)


def _found(name: str, language: str, findings: Findings) -> list[str]:
    words = texts()["words"][language]
    rows = findings.found[findings.found["kind"] == name]
    if rows.empty or rows["on_list"].isna().all():
        return [words["few"]]
    row = rows.iloc[0]
    sentence = words["caught_sentence"].format(
        payments=f"{int(row['payments']):,}",
        budget=findings.budget,
        **{
            said: plots.share(row[column])
            for said, column in (("caught", "on_list"), ("low", "low"), ("high", "high"), ("stepped", "stepped_up"))
        },
    )
    reported = words["reported_sentence"].format(days=f"{row['report_days']:.1f}")
    called = findings.words[language].drop_duplicates("reason").set_index("reason")["group"]
    named = [called[code] for code in findings.reasons.get(name, [])]
    why = words["none_found"]
    if named:
        why = words["reasons_sentence"].format(reasons=words["comma"].join(named))
    return [f"{sentence} {reported}" if language == "en" else f"{sentence}{reported}", why]


def overview(language: str, findings: Findings, command: str) -> str:
    """Return the page that lists all kinds, with what was found of each, as Markdown."""
    words = texts()["words"][language]
    other = next(each for each in LANGUAGES if each != language)
    found = findings.found.set_index("kind")
    lines = [
        f"| {words['kind']} | {words['payments']} | {words['caught']} | {words['stepped']} | {words['reported']} |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in TYPOLOGIES:
        cells = ["<10" if name in found.index else "0", "–", "–", "–"]
        if name in found.index and pd.notna(found.at[name, "on_list"]):
            row = found.loc[name]
            cells = [f"{int(row['payments']):,}", plots.share(row["on_list"]), plots.share(row["stepped_up"])]
            cells.append(f"{row['report_days']:.1f}")
        lines.append(f"| [{texts()[name][language]['title']}]({name}.md) | {' | '.join(cells)} |")
    parts = [
        f"# {words['heading']}",
        f"[{words['other_language']}](../{other}/README.md)",
        words["intro"],
        "\n".join(lines),
        words["more"],
        "---",
        words["made"].format(command=command, run=findings.run),
    ]
    return "\n\n".join(parts) + "\n"


def _doors() -> str:
    lines = [f"# {' · '.join(texts()['words'][each]['heading'] for each in LANGUAGES)}", ""]
    for language in LANGUAGES:
        words = texts()["words"][language]
        lines += [f"- [{words['heading']}]({language}/README.md): {words['intro']}"]
    return "\n".join(lines) + "\n"
