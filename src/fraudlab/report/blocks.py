"""What a report is made of: sections of paragraphs, facts, tables and figures, and how numbers are written in them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import pandas as pd

from fraudlab import plots
from fraudlab.features.words import format_value
from fraudlab.report.language import capital, foreign, language, retold, say, spoken, term

NOT_PROVIDED, HIDDEN, NOT_APPLICABLE = "not provided", "not shown", "not applicable"
"""Whole cells; the template says them in the report's language."""
ABSENT = "–"


@dataclass(frozen=True)
class Prose:
    """A paragraph."""

    kind: ClassVar[str] = "prose"
    text: str


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    kind: ClassVar[str] = "bullets"
    items: Sequence[str]


@dataclass(frozen=True)
class Code:
    """Text to be copied: a command, a config."""

    kind: ClassVar[str] = "code"
    text: str
    label: str


@dataclass(frozen=True)
class Facts:
    """Terms with their values; `code` sets the values in a small fixed-width font."""

    kind: ClassVar[str] = "facts"
    items: Sequence[tuple[str, str]]
    code: bool = False


@dataclass(frozen=True)
class Cell:
    """A table cell with a second, smaller line such as an interval.

    `link` is an address inside the report; `tone` (good, hold, bad, none) colours the text, which says it in words too.
    """

    text: str
    small: str = ""
    link: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Table:
    """A table; `align` has one letter per column, l or r; the first column heads its row."""

    kind: ClassVar[str] = "table"
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    align: str
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """A picture with a caption that says how to read it; the picture brings its alternative text."""

    kind: ClassVar[str] = "figure"
    picture: plots.Picture
    caption: str

    @cached_property
    def source(self) -> str:
        """The picture as a data URI."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.picture.svg().encode()).decode()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in CSS pixels."""
        width, height = self.picture.get_size_inches()
        return round(96 * width), round(96 * height)


@dataclass(frozen=True)
class KeyFigure:
    """One number of the summary: what, how much, its interval, what to compare it with."""

    label: str
    value: str
    interval: str
    against: str


@dataclass(frozen=True)
class Verdict:
    """The decision box: a tone (good, hold, bad), the decision in a word and in a sentence, key figures."""

    kind: ClassVar[str] = "verdict"
    tone: str
    word: str
    sentence: str
    reasons: Sequence[str]
    figures: Sequence[KeyFigure]


@dataclass(frozen=True)
class Group:
    """Blocks under a heading of their own; `id` is what links lead to."""

    kind: ClassVar[str] = "group"
    title: str
    blocks: Sequence[Any]
    id: str = ""


@dataclass(frozen=True)
class Section:
    """A numbered section of the report."""

    id: str
    title: str
    blocks: Sequence[Any]


@dataclass(frozen=True)
class Part:
    """Sections under one heading; the summary stands before the parts and has no heading."""

    id: str
    title: str
    sections: Sequence[Section]


def not_available(file: str) -> Prose:
    """Return the sentence that stands where optional evidence is absent."""
    return Prose(say("Not available: {file} (this run's evidence does not hold it).", file=foreign(file)))


def few(value: float | None) -> bool:
    """Return whether a count is hidden: it is one of 1 to 9, or the evidence hides it already.

    >>> few(9), few(None), few(0), few(10)
    (True, True, False, False)
    """
    return value is None or bool(pd.isna(value)) or 0 < value < plots.SMALLEST_CELL


def count(value: float | None) -> str:
    """Return a whole number with separators, hiding 1 to 9; so is one that the evidence hides already.

    >>> count(12345), count(10), count(9), count(None), count(0)
    ('12,345', '10', 'fewer than 10', 'fewer than 10', '0')
    """
    return say("fewer than {n}", n=plots.SMALLEST_CELL) if few(value) else f"{value:,.0f}"


def counts(values: pd.Series) -> list[str]:
    """Return the counts of a column whose total may be known; what could be worked out is hidden too.

    >>> counts(pd.Series([300, 4, 25]))
    ['300', 'not shown', 'not shown']
    """
    hidden = plots.small_cells(values)
    return [say("not shown") if hide else f"{value:,.0f}" for value, hide in zip(values, hidden)]


def money(value: float) -> str:
    """Return an amount in whole units of the currency, with a true minus sign.

    >>> money(-1234.6), money(float("nan"))
    ('−1,235', 'not shown')
    """
    if pd.isna(value):
        return say("not shown")
    return f"{value:,.0f}".replace("-", "−")


def share(value: float) -> str:
    """Return a share as per cent, as `plots.share` does, in the report's language; "–" where there is none.

    >>> share(0.3041), share(float("nan"))
    ('30.4 %', '–')
    """
    return ABSENT if pd.isna(value) else spoken(plots.share(value))


def metric_text(metric: str, value: float) -> str:
    """Return a metric's value in its unit, in the report's language.

    >>> metric_text("auc_roc", 0.86), metric_text("recall_at_budget", 0.5)
    ('0.860', '50.0 %')
    """
    return spoken(plots.metric_text(metric, value))


def metric_label(metric: str) -> str:
    """Return what a metric is called, in the report's language.

    >>> metric_label("average_precision"), metric_label("of my own")
    ('Average precision', 'Of my own')
    """
    return capital(term(plots.METRIC_LABELS.get(metric, metric)))


def value_text(value: Any, kind: str = "") -> str:
    """Return a feature's value with its unit, as `plots.value_text` does, in the report's language.

    >>> value_text(0.0036, "days"), value_text(None)
    ('5 minutes', 'missing')
    """
    text = plots.value_text(value, kind)
    if language() == "en" or text in ("yes", "no", "missing"):
        return say("yes") if text == "yes" else say("no") if text == "no" else term(text)
    if kind and kind != "flag":
        return format_value(value, kind, whole_amounts=value == round(value), lang=language())
    return foreign(text)


def span(low: str, high: str) -> str:
    """Return two numbers as an interval.

    >>> span("0.86", "0.88")
    '0.86 to 0.88'
    """
    return say("{low} to {high}", low=low, high=high)


def day(value: Any) -> str:
    """Return the day of a moment, UTC; text that is none stays as it is.

    >>> day("2026-07-02T23:30:09-05:00"), day(None)
    ('2026-07-03', 'not provided')
    """
    return moment(value, to="day")


def moment(value: Any, to: str = "minute") -> str:
    """Return a moment to the minute (or the day) in UTC; text that is no moment stays as it is.

    >>> moment("2026-07-02T10:30:09+02:00"), moment("2026-07-02"), moment(None)
    ('2026-07-02 08:30 UTC', '2026-07-02', 'not provided')
    """
    if not value:
        return say("not provided")
    text = str(value)
    stamp = pd.to_datetime(text, utc=True, errors="coerce") if len(text) >= 10 else pd.NaT
    if pd.isna(stamp):
        return text
    date = f"{stamp:%Y-%m-%d}" if language() == "en" else f"{stamp.year}年{stamp.month}月{stamp.day}日"
    return date if to == "day" or len(text) <= 10 else f"{date} {stamp:%H:%M} UTC"


def provided(value: Any) -> str:
    """Return a value as text, "not provided" where it is empty.

    >>> provided("  "), provided(None), provided(0)
    ('not provided', 'not provided', '0')
    """
    text = "" if value is None else str(value).strip()
    return text if text and text != NOT_PROVIDED else say("not provided")


def interval(metric: str, low: float, high: float) -> str:
    """Return a metric's interval in its unit.

    >>> interval("auc_roc", 0.86, 0.88), interval("auc_roc", float("nan"), 0.88)
    ('0.860 to 0.880', 'no interval')
    """
    if pd.isna(low) or pd.isna(high):
        return say("no interval")
    return span(metric_text(metric, low), metric_text(metric, high))


def notes(values: pd.Series) -> str:
    """Return the different notes of a table as one text, in the report's language.

    >>> notes(pd.Series(["95 % interval over 9 days", None, " ", "95 % interval over 9 days"]))
    '95 % interval over 9 days'
    """
    told = [str(note) for note in values.dropna().unique() if str(note).strip()]
    return capital(("; " if language() == "en" else "；").join(map(retold, told)))
