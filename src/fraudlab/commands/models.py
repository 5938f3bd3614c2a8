"""`fraudlab models`: the registered versions, which of them serves, who decided so, and the way back."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fraudlab.commands.shared import JsonOption, print_json, print_table, workspace_of

app = typer.Typer(help="Registered models: what serves, what served when, and the way back.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="A registered model, e.g. demo.")]
Reason = Annotated[str, typer.Option(help="Why, for whoever reads the model's history.")]


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """List the registered versions with their aliases and key figures.

    Example: fraudlab models list
    """
    from fraudlab import tracking

    table = tracking.models_table(tracking.open_store(workspace_of()))
    if as_json:
        print_json(table.to_dict("records"))
    elif table.empty:
        typer.echo("No model is registered yet. Next: fraudlab retrain --config configs/demo.toml")
    else:
        print_table(table)


@app.command()
def show(
    name: Name,
    version: Annotated[str, typer.Argument(help="Default: the champion.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Show one version: what it learnt from, its figures, thresholds and promotions.

    Example: fraudlab models show demo
    """
    from fraudlab import tracking

    found = tracking.model_version(tracking.open_store(workspace_of()), name, version or None)
    if as_json:
        print_json(found)
        return
    for key, value in _flat(found):
        typer.echo(f"{key:<28} {value}")


def _flat(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [pair for key, each in value.items() for pair in _flat(each, f"{prefix}.{key}" if prefix else key)]
    if isinstance(value, list):
        return [pair for place, each in enumerate(value, 1) for pair in _flat(each, f"{prefix}[{place}]")]
    return [(prefix, f"{value:.4g}" if isinstance(value, float) else "-" if value is None else value)]


@app.command()
def promote(
    name: Name, version: Annotated[str, typer.Argument(help="The version that shall be champion.")], reason: Reason
) -> None:
    """Make a registered version the champion by hand, with a reason.

    Example: fraudlab models promote demo 1 --reason "version 2 raised false alarms on travel"
    """
    from fraudlab import production
    from fraudlab.runs import project_lock

    workspace = workspace_of()
    with project_lock(workspace):
        _say(production.promote(workspace, name, version, reason=reason))


@app.command()
def rollback(name: Name, reason: Reason) -> None:
    """Make the champion before the present one champion again: one command, a few seconds.

    Example: fraudlab models rollback demo --reason "twice the usual alerts since this morning"
    """
    from fraudlab import production
    from fraudlab.runs import project_lock

    workspace = workspace_of()
    with project_lock(workspace):
        _say(production.rollback(workspace, name, reason=reason))


def _say(done: dict[str, Any]) -> None:
    before = f"; before: version {done['previous']}" if done["previous"] else ""
    typer.echo(f"{done['name']} version {done['version']} is the champion{before}")


@app.command()
def history(
    name: Annotated[str, typer.Argument(help="Only this model.")] = "",
    on: Annotated[str, typer.Option(help="What served at this moment, with a time zone: 2026-06-01T00:00Z.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Tell which version served when, who decided so and why, from the tamper-evident log.

    Example: fraudlab models history demo --on 2026-06-01T00:00Z
    """
    from fraudlab import production
    from fraudlab.schema import InputError

    workspace = workspace_of()
    production.settle(workspace)
    if on:
        if not name:
            raise InputError("--on: tells what served of one model; found no model named; name it before the option")
        found = production.in_production(workspace, name, on)
        if as_json:
            print_json(found)
        elif found is None:
            typer.echo(f"No version of {name} was in production at {on}.")
        else:
            since = f"since {found['since']:%Y-%m-%d %H:%M} UTC, by {found['by']}"
            typer.echo(f"{name} version {found['version']} was in production at {on}: {since}. {found['reason']}")
        return
    table = production.history(workspace, name or None)
    for column in ("since", "until"):
        table[column] = table[column].dt.strftime("%Y-%m-%d %H:%M:%SZ").fillna("serving" if column == "until" else "")
    if as_json:
        print_json(table.to_dict("records"))
    elif table.empty:
        typer.echo("No version was promoted yet. Next: fraudlab models list")
    else:
        print_table(table)
        typer.echo("\nWhether it can be trusted: fraudlab audit verify")
