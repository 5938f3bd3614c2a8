"""What a numbered check is made of: the question, the answer in a sentence, and whether it holds a model back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

Result = Literal["passed", "failed", "not applicable"]
Severity = Literal["stops the run", "blocks promotion", "informs"]
Answer = tuple[Result, str, pd.DataFrame]


@dataclass(frozen=True)
class Finding:
    """What a check found: its result, the sentence for people, the table it rests on.

    `waived` is the reason why a failed check does not block promotion; empty where nobody waived it.
    """

    code: str
    title: str
    severity: Severity
    result: Result
    sentence: str
    table: pd.DataFrame
    waived: str = ""

    @property
    def stops(self) -> bool:
        """Whether a run must not go on."""
        return self.result == "failed" and self.severity == "stops the run"

    @property
    def blocks(self) -> bool:
        """Whether the model must not be promoted: what stops a run blocks too, and only promotion can be waived."""
        return self.stops or (self.result == "failed" and self.severity == "blocks promotion" and not self.waived)


@dataclass(frozen=True)
class Check:
    """A numbered question; calling it with what its function needs gives the finding."""

    code: str
    title: str
    severity: Severity
    answer: Callable[..., Answer]

    def __call__(self, *given: Any, **options: Any) -> Finding:
        result, sentence, table = self.answer(*given, **options)
        return Finding(self.code, self.title, self.severity, result, sentence, table)


def not_applicable(why: str, columns: Iterable[str] = ()) -> Answer:
    """Return the third answer: nothing was judged, and why.

    >>> not_applicable("There is no champion.")[:2]
    ('not applicable', 'There is no champion.')
    """
    return "not applicable", why, pd.DataFrame(columns=list(columns))


def named(names: Iterable[str], most: int = 3) -> str:
    """Return the first names and how many more there are.

    >>> named(["a", "b", "c", "d", "e"]), named(["a"])
    ('a, b, c and 2 more', 'a')
    """
    listed = [str(name) for name in names]
    more = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {more} more" if more > 0 else "")


def reason(table: pd.DataFrame) -> str:
    """Return the first note of a table in which nothing was judged."""
    return str(table["note"].iloc[0]) if len(table) else "not applicable: there is none"


def overview(findings: Mapping[str, Finding]) -> pd.DataFrame:
    """Lay findings out as a table in the order of their numbers: code, title, severity, result, sentence, waived."""
    names = ["code", "title", "severity", "result", "sentence", "waived"]
    rows = [[getattr(finding, name) for name in names] for finding in findings.values()]
    return pd.DataFrame(rows, columns=names).sort_values("code", kind="stable", ignore_index=True)


def tables(findings: Mapping[str, Finding]) -> dict[str, pd.DataFrame]:
    """Return the tables that findings rest on, under the findings' names."""
    return {name: finding.table for name, finding in findings.items()}


def merged(known: Iterable[Mapping[str, Any]], findings: Mapping[str, Finding]) -> list[dict[str, Any]]:
    """Return records of checks with new findings put in, in the order of their numbers; a new one replaces an old one.

    >>> found = Finding("FL002", "Later", "informs", "passed", "Yes.", pd.DataFrame())
    >>> [each["code"] for each in merged([{"code": "FL003"}, {"code": "FL002"}], {"later": found})]
    ['FL002', 'FL003']
    """
    new = overview(findings).to_dict("records")
    codes = {record["code"] for record in new}
    return sorted([*(dict(record) for record in known if record["code"] not in codes), *new], key=lambda r: r["code"])
