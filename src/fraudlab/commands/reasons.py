"""`fraudlab features reasons`: the named reasons of a feature set."""

from __future__ import annotations

from typing import Annotated

import typer

from fraudlab.commands.shared import JsonOption, print_json, print_table


def reasons(
    name: Annotated[str, typer.Argument(help="A named set.")] = "card-v1",
    lang: Annotated[str, typer.Option(help="Language of the sentences: en or zh.")] = "en",
    as_json: JsonOption = False,
) -> None:
    """List the reasons an alert can have, with their codes and an example each; the facts in it are invented.

    Every feature belongs to one reason, and an alert names each reason at most once (docs/reasons.md).

    Example: fraudlab features reasons card-v1 --lang zh
    """
    from fraudlab.features.sets import named_set
    from fraudlab.reasons import catalogue

    table = catalogue(named_set(name).describe(), lang)
    if as_json:
        print_json(table.to_dict("records"))
    else:
        print_table(table[["code", "name", "features", "example"]])
