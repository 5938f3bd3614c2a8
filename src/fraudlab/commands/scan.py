"""`fraudlab privacy scan`: search what was written for identifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fraudlab.commands.shared import DEMO, ConfigOption, JsonOption, print_json, print_table


def scan(
    paths: Annotated[list[Path], typer.Argument(help="Files or folders to search.")],
    config: ConfigOption = DEMO,
    patterns: Annotated[
        bool, typer.Option("--patterns", help="Warn also of what only looks like a card, IBAN, e-mail or phone number.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Search files, byte by byte, for the raw identifiers of a config's source; kinds and counts, never a value.

    Exit 1 if any is found. What `--patterns` adds are warnings: a number can look like a card's by chance.

    Example: fraudlab privacy scan runs reports mlruns data/vault --patterns
    """
    from fraudlab.config import load_config
    from fraudlab.datasets import raw_identifiers
    from fraudlab.privacy.scan import find_likely, find_planted

    needles = raw_identifiers(load_config(config))
    planted = find_planted(paths, needles)
    likely = find_likely(paths) if patterns else None
    if as_json:
        more = {} if likely is None else {"likely": likely.to_dict("records")}
        print_json({"searched_for": len(needles), "planted": planted.to_dict("records"), **more})
    else:
        where = ", ".join(map(str, paths))
        if likely is not None and len(likely):
            print_table(likely, "Only likely (by pattern)")
            typer.echo("Look at each of these files: is it a customer's? If so, find what wrote it.\n")
        if planted.empty:
            typer.echo(f"None of {len(needles):,} raw identifiers found in {where}.")
        else:
            print_table(planted, "Raw identifiers of the source")
            typer.echo("Remove these files, find what wrote them, and search again.")
    if not planted.empty:
        raise typer.Exit(1)
