"""What a report is made of: sections of paragraphs, facts, tables and figures, and how numbers are written in them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import pandas as pd

from fraudlab import plots

NOT_PROVIDED = "not provided"
FEW = f"fewer than {plots.SMALLEST_CELL}"
HIDDEN = "not shown"


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
    """A table cell with a second, smaller line such as an interval."""

    text: str
    small: str = ""


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
    """Blocks under a heading of their own."""

    kind: ClassVar[str] = "group"
    title: str
    blocks: Sequence[Any]


@dataclass(frozen=True)
class Section:
    """A numbered part of the report."""

    id: str
    title: str
    blocks: Sequence[Any]


def not_available(file: str) -> Prose:
    """Return the sentence that stands where optional evidence is absent."""
    return Prose(f"Not available: {file} (this run's evidence does not hold it).")


def capital(text: str) -> str:
    """Return a text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def count(value: float | None) -> str:
    """Return a whole number with separators, hiding 1 to 9; so is one that the evidence hides already.

    >>> count(12345), count(10), count(9), count(None), count(0)
    ('12,345', '10', 'fewer than 10', 'fewer than 10', '0')
    """
    if value is None or pd.isna(value):
        return FEW
    return FEW if 0 < value < plots.SMALLEST_CELL else f"{value:,.0f}"


def counts(values: pd.Series) -> list[str]:
    """Return the counts of a column whose total may be known; what could be worked out is hidden too.

    >>> counts(pd.Series([300, 4, 25]))
    ['300', 'not shown', 'not shown']
    """
    hidden = plots.small_cells(values)
    return [HIDDEN if hide else f"{value:,.0f}" for value, hide in zip(values, hidden)]


def money(value: float) -> str:
    """Return an amount in whole units of the currency, with a true minus sign.

    >>> money(-1234.6), money(float("nan"))
    ('−1,235', 'not shown')
    """
    if pd.isna(value):
        return HIDDEN
    return f"{value:,.0f}".replace("-", "−")


def moment(value: Any) -> str:
    """Return a moment to the minute in UTC; text that is no moment stays as it is.

    >>> moment("2026-07-02T10:30:09+02:00"), moment("2026-07-02"), moment(None)
    ('2026-07-02 08:30 UTC', '2026-07-02', 'not provided')
    """
    if not value:
        return NOT_PROVIDED
    text = str(value)
    if len(text) <= 10:
        return text
    stamp = pd.to_datetime(text, utc=True, errors="coerce")
    return text if pd.isna(stamp) else f"{stamp:%Y-%m-%d %H:%M} UTC"


def provided(value: Any) -> str:
    """Return a value as text, "not provided" where it is empty.

    >>> provided("  "), provided(None), provided(0)
    ('not provided', 'not provided', '0')
    """
    text = "" if value is None else str(value).strip()
    return text or NOT_PROVIDED


def interval(metric: str, low: float, high: float) -> str:
    """Return a metric's interval in its unit.

    >>> interval("auc_roc", 0.86, 0.88), interval("auc_roc", float("nan"), 0.88)
    ('0.860 to 0.880', 'no interval')
    """
    if pd.isna(low) or pd.isna(high):
        return "no interval"
    return f"{plots.metric_text(metric, low)} to {plots.metric_text(metric, high)}"
