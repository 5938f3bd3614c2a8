"""The queue as a file: a sheet to fill in (CSV, Excel) that comes back through `fraudlab labels import`, or a page.

Cells that a spreadsheet would run as a formula (they begin with = + - @ or a control sign) get an apostrophe in front.
Source: OWASP, "CSV Injection", https://owasp.org/www-community/attacks/CSV_Injection.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd

from fraudlab.casework.sheet import action_words, fill
from fraudlab.config import Workspace
from fraudlab.datasets.reviewed import WORDS
from fraudlab.privacy.auditlog import audit_log
from fraudlab.privacy.keys import replace_private
from fraudlab.report.blocks import Table, share
from fraudlab.report.language import language, say, speaking, term
from fraudlab.schema import InputError

FORMATS = ("csv", "xlsx", "html")
TO_FILL = ("outcome", "decided_at_utc", "by", "only")
"""Columns that investigators fill in."""

COLUMNS = {
    "alert_id": 14,
    "day": 11,
    "age_days": 9,
    "customer": 11,
    "payments": 10,
    "amount": 11,
    "risk": 8,
    "tier": 10,
    "action": 20,
    "rules": 22,
    "reasons": 90,
    "state": 9,
    "outcome": 12,
    "decided_at_utc": 18,
    "by": 14,
    "only": 10,
}
"""The columns of a sheet, with their widths in Excel."""

_RISKY = re.compile(r"[=+\-@\t\r\n]")


def export_queue(
    table: pd.DataFrame,
    path: Path,
    *,
    dataset: str,
    workspace: Workspace,
    form: str = "",
    lang: str = "en",
    as_of: pd.Timestamp | None = None,
) -> dict[str, Any]:
    """Write the queue to a file for its owner only, and enter it into the audit log.

    Parameters
    ----------
    table : from `queue_table`; of a blind one the page has no column of what the model says.
    path : the file; an older one is replaced in one step.
    form : "csv", "xlsx" or "html"; default: by the file's ending.
    lang : of the reasons, and of the whole page.
    as_of : the moment that the queue is about, for the page.

    Returns
    -------
    dict: cases, form, bytes, digest (sha-256 of the file).

    Raises
    ------
    InputError : another form; Excel's package is not installed; no such language.
    """
    form = form or path.suffix.lower().removeprefix(".")
    if form not in FORMATS:
        raise InputError(f"format: must be one of {', '.join(FORMATS)}; found '{form}'; name one with --format")
    with speaking(lang):
        data = {"csv": _csv, "xlsx": _excel, "html": _html}[form](table, dataset, as_of)
    replace_private(path, data)
    told = {"cases": len(table), "form": form, "bytes": len(data), "digest": hashlib.sha256(data).hexdigest()}
    audit_log(workspace).append("export", what="queue of cases", dataset=dataset, **told)
    return told


def safe_cell(value: Any) -> Any:
    """Return a cell that no spreadsheet runs as a formula; numbers stay numbers.

    >>> safe_cell("=1+1"), safe_cell("-2"), safe_cell(-2), safe_cell("fine")
    ("'=1+1", "'-2", -2, 'fine')
    """
    return f"'{value}" if isinstance(value, str) and _RISKY.match(value) else value


def sheet_rows(table: pd.DataFrame) -> list[list[Any]]:
    """Return the queue as rows of a sheet, in the order of `COLUMNS`; what is to be filled in is empty."""
    lang = language()
    return [
        [
            row["alert_id"],
            row["day"],
            int(row["age_days"]),
            row["customer"],
            int(row["payments"]),
            float(row["amount"]),
            None if pd.isna(row["risk"]) else round(float(row["risk"]), 4),
            row["tier"],
            row["action"],
            row["rules"],
            "; ".join(each[lang] for each in row["reasons"]),
            row["state"],
            *[""] * len(TO_FILL),
        ]
        for row in table.to_dict("records")
    ]


def queue_json(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the queue ready for JSON."""
    return json.loads(table.to_json(orient="records"))


def _csv(table: pd.DataFrame, dataset: str, as_of: pd.Timestamp | None) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows([safe_cell(cell) for cell in row] for row in sheet_rows(table))
    return text.getvalue().encode("utf-8-sig")  # the mark tells Excel that it is UTF-8


def _excel(table: pd.DataFrame, dataset: str, as_of: pd.Timestamp | None) -> bytes:
    try:
        import xlsxwriter
    except ImportError:
        raise InputError("format: Excel needs the package xlsxwriter; install it, or take csv") from None
    target = io.BytesIO()
    # Text is written as text: nothing in a cell becomes a formula or a link.
    options = {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    with xlsxwriter.Workbook(target, options) as book:
        # The same queue gives the same bytes.
        book.set_properties(
            {"title": f"Queue of cases: {dataset}", "created": pd.Timestamp("2000-01-01").to_pydatetime()}
        )
        sheet = book.add_worksheet("queue")
        head = book.add_format({"bold": True, "bottom": 1, "text_wrap": True, "valign": "bottom"})
        fill_head = book.add_format({"bold": True, "bottom": 1, "bg_color": "#FFF2CC", "valign": "bottom"})
        plain = book.add_format({"valign": "top"})
        wrapped = book.add_format({"valign": "top", "text_wrap": True})
        looks = {
            "amount": book.add_format({"valign": "top", "num_format": "#,##0.00"}),
            "risk": book.add_format({"valign": "top", "num_format": "0.0%"}),
            "reasons": wrapped,
            "rules": wrapped,
            **{
                name: book.add_format({"valign": "top", "bg_color": "#FFFBEB", "border": 1, "border_color": "#D9D9D9"})
                for name in TO_FILL
            },
            "decided_at_utc": book.add_format(
                {"valign": "top", "bg_color": "#FFFBEB", "border": 1, "border_color": "#D9D9D9", "num_format": "@"}
            ),
        }
        rows = sheet_rows(table)
        for place, (name, width) in enumerate(COLUMNS.items()):
            sheet.set_column(place, place, width)
            sheet.write_string(0, place, name, fill_head if name in TO_FILL else head)
            for line, row in enumerate(rows, start=1):
                look = looks.get(name, plain)
                if isinstance(row[place], int | float):
                    sheet.write_number(line, place, row[place], look)
                else:
                    sheet.write_string(line, place, row[place] or "", look) if row[place] else sheet.write_blank(
                        line, place, None, look
                    )
        sheet.freeze_panes(1, 1)
        last = max(len(rows), 1)
        sheet.autofilter(0, 0, last, len(COLUMNS) - 1)
        outcome, decided = (list(COLUMNS).index(name) for name in ("outcome", "decided_at_utc"))
        sheet.data_validation(1, outcome, last, outcome, {"validate": "list", "source": list(WORDS)})
        sheet.write_comment(0, decided, say("When it was decided, in UTC: 2026-03-01 14:30, or the day alone"))
        sheet.set_landscape()
        sheet.set_paper(9)
        sheet.fit_to_pages(1, 0)
        sheet.repeat_rows(0)
        how = book.add_worksheet("how to fill in")
        how.set_column(0, 0, 110)
        for line, text in enumerate(_how(dataset)):
            how.write_string(line, 0, text, wrapped)
    return target.getvalue()


def _how(dataset: str) -> list[str]:
    return [
        say("outcome: fraud, genuine or unsure; empty while it is not decided."),
        say("decided_at_utc: when it was decided, in UTC, such as 2026-03-01 14:30; a day alone counts as its end."),
        say("by: the role of who decided, such as desk-2; no person's name."),
        say("only: numbers of the case's payments that it is about, as on the case sheet; empty: all of them."),
        say("Bring it back with:"),
        f"fraudlab labels import FILE --dataset {dataset}",
    ]


def _html(table: pd.DataFrame, dataset: str, as_of: pd.Timestamp | None) -> bytes:
    lang = language()
    rows = [
        [
            row["alert_id"],
            row["day"],
            f"{row['age_days']:,}",
            row["customer"],
            f"{row['payments']:,}",
            f"{row['amount']:,.2f}",
            share(row["risk"]),
            action_words(row["action"]),
            [each[lang] for each in row["reasons"]],
            term(row["state"]),
        ]
        for row in table.to_dict("records")
    ]
    heads = [
        say("Case"),
        say("Day"),
        say("Days old"),
        say("Customer (code)"),
        say("Payments"),
        say("Amount"),
        say("Stated risk"),
        say("Recommended"),
        say("Why"),
        say("State"),
    ]
    align, caption = "mmrlrrrlll", say("Cases for review, the newest day first, then the riskiest")
    if len(table) and table["risk"].isna().all() and not any(map(len, table["reasons"])):
        # A blind queue says nothing of the model.
        kept = [0, 1, 2, 3, 4, 5, 9]
        rows = [[row[place] for place in kept] for row in rows]
        heads, align = [heads[place] for place in kept], "mmrlrrl"
        caption = say("Cases for review, the newest day first")
    grid = Table(caption, heads, rows, align)
    when = "" if as_of is None else f"{as_of:%Y-%m-%d %H:%M}"
    content = {"grid": grid, "dataset": dataset, "as_of": when, "cases": len(rows)}
    return fill("queue.html.j2", title=say("Queue of cases"), **content).encode()
