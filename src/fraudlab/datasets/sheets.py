"""Read a filled sheet, CSV or Excel, as people save it: any separator, any case of the column names, dates as typed."""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
import zoneinfo
from pathlib import Path
from typing import Any

import pandas as pd

from fraudlab.schema import InputError

LARGEST_BYTES = 50_000_000
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_GUARDED = re.compile(r"'(?=[=+\-@\t\r])")
_SEPARATORS = ",;\t"


def read_sheet(path: Path) -> pd.DataFrame:
    """Return a sheet's rows as text, dates of Excel as such; its index is each row's line in the file.

    Parameters
    ----------
    path : .csv (UTF-8; comma, semicolon or tab) or .xlsx (its first sheet). The first row names the columns.

    Returns
    -------
    DataFrame of objects: text without blanks around it, "" where a cell is empty, `datetime` where Excel holds a date;
    column names in lower case with underscores. Rows without any cell are left out, and so is the apostrophe that
    guards a cell against being run as a formula.

    Raises
    ------
    InputError : no such file, another kind, larger than 50 MB, not readable, without rows, a column named twice.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"file: no file {path.name}; give the sheet that was filled in")
    if path.stat().st_size > LARGEST_BYTES:
        raise InputError(
            f"file: must be smaller than {LARGEST_BYTES / 1e6:.0f} MB; found {path.stat().st_size / 1e6:,.0f}"
        )
    kinds = {".csv": _csv_cells, ".xlsx": _excel_cells}
    if path.suffix.lower() not in kinds:
        raise InputError(f"file: must end in .csv or .xlsx; found '{path.suffix}'; save it as one of them")
    head, *rows = kinds[path.suffix.lower()](path) or [[]]
    names = [re.sub(r"\W+", "_", str(name).strip().lower()).strip("_") for name in head]
    while names and not names[-1]:
        names.pop()
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"file: each column must be named once; found '{twice[0]}' twice; rename one")
    filled = {line: _padded(row, len(names)) for line, row in enumerate(rows, start=2)}
    filled = {line: row for line, row in filled.items() if any(cell != "" for cell in row)}
    if not filled:
        raise InputError("file: must have a row of column names and rows below it; found none; check the file")
    return pd.DataFrame(list(filled.values()), columns=names, index=pd.Index(filled, name="line"), dtype=object)


def moment_of(value: Any, zone: str) -> tuple[pd.Timestamp | None, bool]:
    """Return the moment that a cell states, in UTC, and whether it names a day only; None where it states none.

    Parameters
    ----------
    value : text in ISO form, or a date of Excel.
    zone : what a time without a zone of its own is in. A day alone means its end, so that nothing counts as known
        before it was.

    >>> moment_of("2026-03-01 09:30", "Europe/Berlin")[0].isoformat()
    '2026-03-01T08:30:00+00:00'
    >>> moment_of("2026-03-01", "UTC")[0].isoformat(), moment_of("soon", "UTC")[0]
    ('2026-03-02T00:00:00+00:00', None)
    """
    whole = isinstance(value, dt.date) and not isinstance(value, dt.datetime)
    whole = whole or (isinstance(value, str) and _DAY.fullmatch(value) is not None)
    if isinstance(value, str) and not re.match(r"\d{4}-\d\d-\d\d", value):
        return None, False
    try:
        stamp = pd.Timestamp(value)
        if whole:
            stamp += pd.Timedelta(days=1)
        if stamp.tzinfo is None:
            stamp = stamp.tz_localize(zone, ambiguous=False, nonexistent="shift_forward")
    except (ValueError, TypeError, OverflowError):
        return None, False
    return stamp.tz_convert("UTC").as_unit("us"), whole


def known_zone(name: str) -> str:
    """Return a time zone's name, or refuse one that does not exist."""
    try:
        return zoneinfo.ZoneInfo(name).key
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise InputError(f"timezone: must be a name such as Europe/Berlin or UTC; found '{name}'") from None


def lines(rows: Any) -> str:
    """Name lines of a sheet for a message.

    >>> lines([4]), lines([2, 3, 9]), lines(range(2, 20))
    ('line 4', 'lines 2, 3 and 9', 'lines 2, 3, 4 and 15 more')
    """
    found = [str(row) for row in rows]
    if len(found) == 1:
        return f"line {found[0]}"
    if len(found) > 5:
        return f"lines {', '.join(found[:3])} and {len(found) - 3:,} more"
    return f"lines {', '.join(found[:-1])} and {found[-1]}"


def _csv_cells(path: Path) -> list[list[Any]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError("file: must be UTF-8 text; found other bytes; save it as 'CSV UTF-8'") from None
    first = text.split("\n", 1)[0]
    separator = max(_SEPARATORS, key=first.count)
    try:
        return [list(row) for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator)]
    except csv.Error as error:
        raise InputError(f"file: must be a CSV table; found otherwise ({error}); save it again as CSV") from None


def _excel_cells(path: Path) -> list[list[Any]]:
    try:
        from python_calamine import CalamineError, CalamineWorkbook
    except ImportError:
        raise InputError(
            "file: reading Excel needs the package python-calamine; install it, or save the sheet as CSV UTF-8"
        ) from None
    try:
        return CalamineWorkbook.from_path(str(path)).get_sheet_by_index(0).to_python(skip_empty_area=False)
    except (CalamineError, OSError, ValueError) as error:
        raise InputError(f"file: must be an Excel workbook; found otherwise ({error}); save it again") from None


def _padded(row: list[Any], width: int) -> list[Any]:
    cells = [_cell(value) for value in row[:width]]
    return cells + [""] * (width - len(cells))


def _cell(value: Any) -> Any:
    if isinstance(value, dt.date | dt.datetime):
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return _GUARDED.sub("", str("" if value is None else value).strip(), count=1)
