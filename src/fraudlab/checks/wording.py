"""How a finding looks: the same symbol, word and colour in notebooks, on the command line and in the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

SYMBOLS = {"passed": "✓", "failed": "✗", "waived": "◇", "not applicable": "○"}
"""A symbol per outcome, so that none depends on colour."""

TONES = {"passed": "good", "failed": "bad", "informs": "hold", "waived": "hold", "not applicable": "none"}
PAPER = {"good": "#dff0df", "bad": "#f8d9d4", "hold": "#fbeec8", "none": "#ececec"}
CLI = {"good": "green", "bad": "red", "hold": "yellow", "none": "dim"}


def outcome(finding: Mapping[str, Any]) -> str:
    """Return what came of a check: its result, or "waived" where a failure was waived.

    >>> outcome({"result": "failed", "waived": "looked into"}), outcome({"result": "passed"})
    ('waived', 'passed')
    """
    return "waived" if finding["result"] == "failed" and finding.get("waived") else str(finding["result"])


def marked(finding: Mapping[str, Any]) -> str:
    """Return the outcome with its symbol.

    >>> marked({"result": "failed"}), marked({"result": "failed", "waived": "looked into"})
    ('✗ failed', '◇ failed, waived')
    """
    came = outcome(finding)
    return f"{SYMBOLS[came]} {'failed, waived' if came == 'waived' else came}"


def tone(finding: Mapping[str, Any]) -> str:
    """Return how an outcome is coloured: good, bad, hold (failed but only informs, or waived), none.

    >>> tone({"result": "failed", "severity": "informs"}), tone({"result": "failed", "severity": "blocks promotion"})
    ('hold', 'bad')
    """
    came = outcome(finding)
    return TONES["informs"] if came == "failed" and finding["severity"] == "informs" else TONES[came]


def told(finding: Mapping[str, Any]) -> str:
    """Return the sentence, with the reason of a waiver behind it.

    >>> told({"result": "failed", "sentence": "Two are.", "waived": "known"})
    'Two are. Waived: known'
    """
    return finding["sentence"] + (f" Waived: {finding['waived']}" if outcome(finding) == "waived" else "")


def laid_out(records: pd.DataFrame) -> pd.DataFrame:
    """Lay records of checks out for people: check, what is checked, if it fails, result, what was found."""
    rows = [(each["code"], each["title"], each["severity"], marked(each), told(each)) for each in _filled(records)]
    return pd.DataFrame(rows, columns=["check", "what is checked", "if it fails", "result", "what was found"])


def show_checks(records: pd.DataFrame) -> Styler:
    """Show records of checks in a notebook, each result with its symbol, its word and a colour."""
    table = laid_out(records)
    colours = [f"background-color: {PAPER[tone(each)]}; color: #1a1a1a; font-weight: bold" for each in _filled(records)]
    left = {"selector": "th, td", "props": [("text-align", "left"), ("max-width", "40em"), ("white-space", "normal")]}
    styled = table.style.hide(axis="index").set_properties(**{"vertical-align": "top"}).set_table_styles([left])
    return styled.apply(lambda _: colours, subset=["result"], axis=0)


def _filled(records: pd.DataFrame) -> list[dict[str, Any]]:
    """Return records as dictionaries; a missing waiver is none."""
    return [
        {key: "" if pd.isna(value) else value for key, value in record.items()} for record in records.to_dict("records")
    ]
