"""`fraudlab doctor`: what protects the customers on this machine, what does not, and the command that helps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fraudlab.commands.shared import JsonOption, print_json, workspace_of

MARKS = {"ok": "green", "warn": "yellow", "fail": "red", "not checked": "dim"}


def doctor(
    anchor: Annotated[
        Path | None, typer.Option(help="What `fraudlab audit anchor` wrote, kept elsewhere: holds the log against it.")
    ] = None,
    online: Annotated[
        bool, typer.Option("--online", help="Ask the public list of known weaknesses, through pip-audit.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check how keys, data, log, backups, settings and servers are kept here; exit 1 if a check fails.

    It changes nothing. What could not be looked at is "not checked", never "ok".

    Example: fraudlab doctor --anchor /media/safe/anchor-2026-06.json
    """
    from fraudlab.doctor import examine

    table = examine(workspace_of(), anchor=anchor, online=online)
    failed = table[table["status"] == "fail"]
    if as_json:
        print_json(table.to_dict("records"))
    else:
        _print(table)
    if len(failed):
        raise typer.Exit(1)


def _print(table) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("code", "status", "check", "found"):
        shown.add_column(name, overflow="fold", no_wrap=name in ("code", "status"))
    for row in table.itertuples():
        shown.add_row(
            row.code, f"[{MARKS[row.status]}]{row.status}[/]", escape(row.check), escape(row.found), end_section=False
        )
    console.print(shown)
    counted = table["status"].value_counts()
    console.print("\n" + ", ".join(f"{counted.get(status, 0)} {status}" for status in MARKS) + ".")
    todo = table[(table["fix"] != "") & (table["status"] != "ok")]
    if len(todo):
        console.print("Next:")
    for row in todo.itertuples():
        console.print(f"  {row.code}  {escape(row.fix)}", soft_wrap=True)
