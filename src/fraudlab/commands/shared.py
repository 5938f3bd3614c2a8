"""What the commands share: their options, and how a table, a value and the workspace come to the screen."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="A run config.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change one key of the config, e.g. --set model.max_depth=3. Repeatable."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
DEMO = Path("configs/demo.toml")


def print_table(table: Any, title: str = "") -> None:
    """Print a frame as a table, numbers to the right."""
    from rich.console import Console
    from rich.table import Table

    shown = Table(title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for column in table.columns:
        numeric = table[column].dtype.kind in "fi"
        shown.add_column(str(column), justify="right" if numeric else "left", overflow="fold")
    for row in table.itertuples(index=False):
        shown.add_row(
            *(
                "" if cell is None or cell != cell else f"{cell:,.4g}" if isinstance(cell, float) else str(cell)
                for cell in row
            )
        )
    Console().print(shown)


def print_json(value: Any) -> None:
    """Print a value as JSON, for programs."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def workspace_of(config: Path | None = None) -> Any:
    """Return the workspace of a config, else that of the working folder."""
    from fraudlab.config import Workspace

    return Workspace.of(config)
