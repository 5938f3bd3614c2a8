"""`fraudlab models`: the registered versions, which of them serves or stands in shadow, the way back."""

from __future__ import annotations

from pathlib import Path
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
        print_json(table.astype(object).where(table.notna(), None).to_dict("records"))
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
    """Show one version: what it learnt from, its figures, thresholds, promotions and the decisions about it.

    Example: fraudlab models show demo
    """
    from fraudlab import tracking, tracking_decisions
    from fraudlab.decision_record import short_reason

    client = tracking.open_store(workspace_of())
    found = tracking.model_version(client, name, version or None)
    records = tracking_decisions.decisions(client, name, found["version"])
    if as_json:
        print_json(found | {"decisions": records})
        return
    keys = ("decision", "by", "at", "digest")
    found["decisions"] = [{key: each[key] for key in keys} | {"why": short_reason(each)} for each in records]
    for key, value in _flat(found):
        typer.echo(f"{key:<28} {value}")


@app.command()
def decision(
    model: Annotated[str, typer.Argument(help="NAME/VERSION or NAME@ALIAS, e.g. demo/3 or demo@champion.")],
    as_json: JsonOption = False,
) -> None:
    """Print the record of the last decision about a version: who, when, on which evidence, what would have changed it.

    Example: fraudlab models decision demo/3
    """
    from fraudlab import tracking, tracking_decisions
    from fraudlab.decision_record import is_whole, markdown
    from fraudlab.schema import FraudlabError, InputError
    from fraudlab.tracking_registry import named_version

    client = tracking.open_store(workspace_of())
    found = named_version(client, model)
    records = tracking_decisions.decisions(client, found.name, str(found.version))
    if not records:
        raise InputError(f"decision: none is kept of {found.name} version {found.version}; see fraudlab models history")
    if damaged := [str(place) for place, each in enumerate(records, 1) if not is_whole(each)]:
        raise FraudlabError(
            f"decision: records must be as they were made; found {', '.join(damaged)} of {len(records)} of "
            f"{found.name} version {found.version} changed since; their digests are in fraudlab audit show"
        )
    if as_json:
        print_json(records)
        return
    typer.echo(markdown(records[-1]), nl=False)
    if len(records) > 1:
        typer.echo(f"\nDecisions before it: {len(records) - 1} (--json prints all)")


@app.command()
def shadow(
    name: Name,
    config: Annotated[
        Path | None, typer.Option(help="A run config; default: that of the run which made the version.")
    ] = None,
    as_of: Annotated[str, typer.Option(help="What is known, with a time zone; default: all that was brought in.")] = "",
    decide: Annotated[
        bool, typer.Option("--decide", help="Promote or keep, where its days are in or it cannot go on.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Score the days in shadow beside the champion and show where the two disagree; each retrain does it by itself.

    Example: fraudlab models shadow demo
    """
    from rich.console import Console

    from fraudlab import shadowing
    from fraudlab.config import load_config
    from fraudlab.runs import project_lock
    from fraudlab.schema import utc

    workspace = workspace_of(config)
    loaded = shadowing.config_of(workspace, name) if config is None else load_config(config)
    if loaded is None:
        _none_in_shadow(name, as_json)
        return
    moment = utc(as_of, "as_of") if as_of else None
    with Console(stderr=True).status("") as status:

        def progress(text: str) -> None:
            status.update(f"{text} ...")

        if decide:
            with project_lock(workspace):
                seen = shadowing.settle(loaded, workspace, as_of=moment, progress=progress)
        else:
            seen = shadowing.look(loaded, workspace, as_of=moment, progress=progress)
    if seen is None:
        _none_in_shadow(name, as_json)
    elif as_json:
        print_json(shadowing.seen_json(seen))
    else:
        if "shadow" in seen.tables:
            print_table(shadowing.overview(seen.tables["shadow"]))
        for row in seen.gate:
            mark = "ok  " if row["passed"] else "FAIL"
            typer.echo(f"{mark}  {row['check']}: {row['found']} ({row['required']})")
        typer.echo(f"{name}: {seen.said}")
        if seen.state != shadowing.WAITING and seen.record is None:
            typer.echo(f"Next: fraudlab models shadow {name} --decide, or the next fraudlab retrain")


def _none_in_shadow(name: str, as_json: bool) -> None:
    if as_json:
        print_json(None)
    else:
        typer.echo(f"No version of {name} is in shadow (gate.shadow_days of its config says for how long one stands).")


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
