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


def changes_of(pairs: list[str] | None) -> dict[str, Any]:
    """Read `key=value` pairs; a value is TOML (7, true, 2026-01-01, "text"), else text."""
    import tomllib

    from fraudlab.schema import InputError

    changes: dict[str, Any] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InputError(f"--set: must look like section.key=value; found '{pair}'")
        try:
            changes[key.replace(".", "__")] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            changes[key.replace(".", "__")] = value
    return changes


def same_data(run: Any) -> None:
    """Refuse a run whose data are not those of the vault any more: its model may have learnt from the new test."""
    from fraudlab.privacy.keys import open_keys
    from fraudlab.privacy.vault import Vault
    from fraudlab.schema import InputError

    held = Vault(run.workspace.vault, open_keys(run.workspace)).manifest(run.config.dataset.name)
    if held["digest"] != run.load_json("run")["data_digest"]:
        raise InputError(
            f"run {run.folder.name}: the data were ingested anew since; its model may know the payments it would be "
            "measured on; next: fraudlab retrain"
        )
