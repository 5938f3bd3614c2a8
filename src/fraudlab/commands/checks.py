"""`fraudlab checks`: list the numbered checks, say what one means, show what a run found."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fraudlab.commands.shared import JsonOption, print_json, workspace_of

app = typer.Typer(help="The numbered checks: what they ask, what they mean, what a run found.", no_args_is_help=True)

LangOption = Annotated[str, typer.Option(help="en or zh.")]


@app.command("list")
def list_(lang: LangOption = "en", as_json: JsonOption = False) -> None:
    """List every numbered check with what a failure does.

    Example: fraudlab checks list
    """
    from fraudlab.checks import CHECKS
    from fraudlab.checks.guide import entry, heading

    entries = [entry(code, lang) for code in CHECKS]
    if as_json:
        print_json([{"code": each.code, "title": each.title, "severity": each.severity} for each in entries])
        return
    head = [heading(name, lang) for name in ("check", "question", "severity")]
    _print(head, [((each.code, each.title, each.severity), "") for each in entries])
    typer.echo("\nWhat one means: fraudlab checks explain FL001")


@app.command()
def explain(
    code: Annotated[str, typer.Argument(help="The number of a check, such as FL014.")],
    lang: LangOption = "en",
    as_json: JsonOption = False,
) -> None:
    """Say what a check detects, why it matters and what to do.

    Example: fraudlab checks explain FL014
    """
    from dataclasses import asdict

    from rich.console import Console
    from rich.markup import escape
    from rich.padding import Padding

    from fraudlab.checks.guide import TEXTS, entry, heading

    said = entry(code.upper(), lang)
    if as_json:
        print_json(asdict(said))
        return
    console = Console(highlight=False)
    console.print(f"[bold]{said.code}  {escape(said.title)}[/bold]")
    console.print(f"{heading('severity', lang)}: {said.severity}")
    for name in TEXTS:
        console.print(f"\n[bold]{heading(name, lang)}[/bold]")
        console.print(Padding(escape(getattr(said, name)), (0, 2)))


@app.command()
def show(
    run: Annotated[
        str, typer.Argument(help="A run of this project: `fraudlab runs`; default: the newest finished.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Show what the checks of a run found; exit 1 if one stopped it or blocks promotion and is not waived.

    Example: fraudlab checks show demo-dfbb80259f
    """
    import json

    from fraudlab.checks.wording import CLI, marked, told, tone
    from fraudlab.schema import InputError, did_you_mean

    workspace = workspace_of()
    if not run:
        from fraudlab.runs import finished_run

        run = finished_run(workspace).folder.name
    path = workspace.runs / run / "evidence" / "checks.json"
    if not path.is_file():
        known = sorted(found.parent.name for found in workspace.runs.glob("*/evidence"))
        if run in known:
            raise InputError(f"run {run}: it has no checks.json yet; run its notebooks in order, from 01_ingest")
        raise InputError(f"run: must be one of this project's runs; unknown '{run}'; {did_you_mean(run, known)}")
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    hold = [check["code"] for check in found if tone(check) == "bad"]
    if as_json:
        print_json({"run": run, "hold_back": hold, "checks": found})
    else:
        rows = [((each["code"], marked(each), told(each)), CLI[tone(each)]) for each in found]
        _print(["check", "result", "what was found"], rows)
        next_step = f"What to do: fraudlab checks explain {hold[0]}" if hold else "None of them holds the model back."
        typer.echo(f"\n{next_step}")
    if hold:
        raise typer.Exit(1)


@app.command()
def guide(lang: LangOption = "en") -> None:
    """Print the whole guide as Markdown; docs/checks.md is made by it.

    Example: fraudlab checks guide > docs/checks.md
    """
    from fraudlab.checks.guide import page

    typer.echo(page(lang), nl=False)


def _print(head: list[str], rows: list[tuple[tuple[str, ...], str]]) -> None:
    """Print rows, the second cell of each in its colour."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    shown = Table(header_style="bold", box=None, pad_edge=False)
    for place, name in enumerate(head):
        shown.add_column(name, no_wrap=place < len(head) - 1, overflow="fold")
    for cells, colour in rows:
        said = [escape(cell) for cell in cells]
        if colour:
            said[1] = f"[{colour}]{said[1]}[/{colour}]"
        shown.add_row(*said)
    Console(highlight=False).print(shown)
