"""`fraudlab privacy papers`: the data protection papers, made from facts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fraudlab.commands.shared import JsonOption, print_json, workspace_of


def papers(
    dataset: Annotated[str, typer.Option(help="A data set in the vault.")] = "demo",
    out: Annotated[Path | None, typer.Option(help="Folder for the papers; default: reports/privacy.")] = None,
    answers: Annotated[
        Path | None, typer.Option(help="TOML file with what only a person knows; default: answers.toml in the folder.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the record of processing, impact assessment, minimisation, notice and retention papers from facts.

    What only a person knows is "not provided" until it stands in answers.toml, which is made once and then kept.

    Example: fraudlab privacy papers --dataset demo
    """
    from fraudlab.papers import write_papers

    workspace = workspace_of()
    if out is None:
        workspace.reports.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = out or workspace.reports / "privacy"
    done = write_papers(workspace, dataset, folder, answers=answers)
    if as_json:
        print_json(done | {"folder": str(folder)})
        return
    near = folder.relative_to(workspace.root) if folder.is_relative_to(workspace.root) else folder
    typer.echo(f"{len(done['papers'])} papers, as HTML and Markdown, in {near}:")
    for name in done["papers"]:
        typer.echo(f"  {name}")
    if done["open"]:
        count = len(done["open"])
        typer.echo(f"{count} answers are not provided. Next: write them into {done['answers']}, then run this again")
    else:
        typer.echo(f"Every question is answered. Next: read {near}/summary.html and have the papers signed")
