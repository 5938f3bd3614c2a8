"""The queue as a file: it holds nothing that runs, comes back as it was filled in, and is for its owner only."""

from __future__ import annotations

import csv
import io
import re
import stat
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import xlsxwriter
from python_calamine import CalamineWorkbook

from fraudlab.casework.export import COLUMNS, export_queue
from fraudlab.casework.queue import queue_table
from fraudlab.config import Workspace
from fraudlab.datasets.labelling import import_outcomes
from fraudlab.datasets.sheets import read_sheet
from fraudlab.privacy.auditlog import audit_log
from fraudlab.schema import InputError


def written(workspace: Workspace, folder: Path, form: str, table: pd.DataFrame, **more: object) -> Path:
    path = folder / f"queue.{form}"
    export_queue(table, path, dataset="demo", workspace=workspace, **more)
    return path


@pytest.mark.parametrize("form", ["csv", "xlsx"])
def test_a_filled_sheet_comes_back(workspace: Workspace, tmp_path: Path, form: str) -> None:
    table = queue_table("demo", workspace)
    path = written(workspace, tmp_path, form, table)
    sheet = read_sheet(path)
    assert list(sheet) == list(COLUMNS)
    assert sheet["alert_id"].tolist() == table["alert_id"].tolist()
    assert sheet["payments"].astype(int).tolist() == table["payments"].tolist()
    assert sheet["amount"].astype(float).tolist() == table["amount"].tolist()
    filled = sheet.assign(
        outcome=["fraud", "genuine", *[""] * (len(sheet) - 2)], decided_at_utc="2026-04-07", by="desk-1"
    )
    back = tmp_path / f"back.{form}"
    if form == "csv":
        filled.to_csv(back, index=False)
    else:
        with xlsxwriter.Workbook(back) as book:
            page = book.add_worksheet()
            for line, row in enumerate([list(filled), *filled.values.tolist()]):
                page.write_row(line, 0, row)
    done = import_outcomes("demo", back, workspace=workspace)
    assert done["undecided"] == len(table) - 2
    assert (done["fraud"], done["genuine"]) == tuple(table["payments"].iloc[:2])
    assert done["new"] == table["payments"].iloc[:2].sum()


def test_no_cell_is_run_as_a_formula(workspace: Workspace, tmp_path: Path) -> None:
    bad = ["=HYPERLINK(1)", "+1", "-1", "@SUM(A1)", "\tx", "http://evil.example"]
    table = queue_table("demo", workspace, open_only=False).head(len(bad)).assign(rules=bad)
    text = written(workspace, tmp_path, "csv", table).read_text(encoding="utf-8-sig")
    cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
    assert not [cell for cell in cells if re.match(r"[=+\-@\t\r]", cell)]
    assert read_sheet(tmp_path / "queue.csv")["rules"].tolist()[:4] == bad[:4]
    path = written(workspace, tmp_path, "xlsx", table)
    with zipfile.ZipFile(path) as book:
        page = book.read("xl/worksheets/sheet1.xml").decode()
        assert "<f>" not in page
        assert "<hyperlink" not in page
        assert 'type="list"' in page, "outcomes are chosen from a list"
        assert "fraud,genuine,unsure" in page
        assert 'state="frozen"' in page
    rules = [
        row[list(COLUMNS).index("rules")]
        for row in CalamineWorkbook.from_path(str(path)).get_sheet_by_index(0).to_python()
    ]
    assert rules[1:] == bad


def test_files_are_for_their_owner_logged_and_the_same_for_the_same_queue(workspace: Workspace, tmp_path: Path) -> None:
    table = queue_table("demo", workspace, open_only=False)
    moment = pd.Timestamp("2026-04-06", tz="UTC")
    for form in ("csv", "xlsx", "html"):
        path = written(workspace, tmp_path, form, table, as_of=moment)
        first = path.read_bytes()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        written(workspace, tmp_path, form, table, as_of=moment)
        assert path.read_bytes() == first
    entries = audit_log(workspace).entries("export")["facts"].tolist()
    assert [(entry["form"], entry["cases"]) for entry in entries[::2]] == [
        (form, len(table)) for form in ("csv", "xlsx", "html")
    ]
    assert sorted(path.name for path in tmp_path.glob("*queue*")) == ["queue.csv", "queue.html", "queue.xlsx"]


def test_the_page_shows_every_case_in_both_languages(workspace: Workspace, tmp_path: Path) -> None:
    table = queue_table("demo", workspace, open_only=False)
    for lang in ("en", "zh"):
        html = written(workspace, tmp_path, "html", table, lang=lang).read_text(encoding="utf-8")
        assert all(f">{code}<" in html for code in table["alert_id"])
        assert html.count('<th scope="row"') == len(table)
        assert not re.search(r"(src|href)=\"(?!#)", html)
        assert "<script" not in html
        assert f'<html lang="{"zh-Hans" if lang == "zh" else "en"}">' in html
    assert "案件队列" in html
    empty = written(workspace, tmp_path, "html", table.head(0)).read_text(encoding="utf-8")
    assert "No case is open." in empty


def test_another_form_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="format: must be one of csv, xlsx, html; found 'pdf'"):
        written(workspace, tmp_path, "pdf", queue_table("demo", workspace, open_only=False))
