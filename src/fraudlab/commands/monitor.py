"""`fraudlab monitor`: score payments as they come, and report how the model at work is doing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fraudlab.commands import patterns
from fraudlab.commands.shared import DEMO, ConfigOption, JsonOption, SetOption, changes_of, print_json, workspace_of
from fraudlab.commands.stream import stream

app = typer.Typer()
app.callback(invoke_without_command=True)(stream)
app.add_typer(patterns.app, name="patterns")


@app.command()
def report(
    config: ConfigOption = DEMO,
    change: SetOption = None,
    model: Annotated[
        str, typer.Option(help="NAME@ALIAS or NAME/VERSION; default: the champion of the config's model.")
    ] = "",
    as_of: Annotated[str, typer.Option(help="What was known then; default: the config's own moment.")] = "",
    refit: Annotated[
        bool, typer.Option("--refit", help="Fit anew on what is known and compare: would retraining help?")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for page and JSON; default: the project's reports.")] = None,
    fail_on: Annotated[
        str, typer.Option(help="Exit with 1 at this light or worse: red, amber or never; for schedulers.")
    ] = "never",
    as_json: JsonOption = False,
) -> None:
    """Hold what the model met since it learnt against its past: a light for each topic with its next step.

    Writes a page in each of the config's languages and the lights as JSON; labels are needed by few of the charts.

    Example: fraudlab monitor report --config configs/demo.toml
    """
    from rich.console import Console

    from fraudlab import monitoring
    from fraudlab.config import load_config
    from fraudlab.privacy.auditlog import audit_log
    from fraudlab.report.language import plain
    from fraudlab.report.monitoring import found_words, light_words, step_words, topic_words
    from fraudlab.schema import InputError, did_you_mean, utc

    if fail_on not in ("red", "amber", "never"):
        raise InputError(f"--fail-on: unknown '{fail_on}'; {did_you_mean(fail_on, ('red', 'amber', 'never'))}")
    loaded, workspace = load_config(config, **changes_of(change)), workspace_of(config)
    moment = utc(as_of, "as_of") if as_of else None
    with Console(stderr=True).status("") as status:
        watched = monitoring.watch(
            loaded,
            workspace,
            model=model,
            as_of=moment,
            refit=refit,
            progress=lambda text: status.update(f"{text} ..."),
        )
        status.update("writing ...")
        facts = watched.facts
        # Written down first: what cannot be logged is not handed out.
        audit_log(workspace).append(
            "export",
            what="monitoring",
            dataset=facts["dataset"],
            model=facts["model"],
            model_version=facts["version"],
        )
        written = monitoring.report(watched, workspace, loaded.report.languages, out=out)
    if as_json:
        print_json({**monitoring.as_json(watched), "written": [str(path) for path in written]})
    else:
        for light in watched.lights:
            typer.echo(f"{light['light']:<6} {topic_words(light['topic'])}: {plain(found_words(light))}")
            if step := step_words(light):
                typer.echo(f"       {plain(step)}")
        since = f"{facts['payments']:,} payments since {facts['learnt_until'][:10]}"
        typer.echo(f"\n{facts['model']} version {facts['version']}, {since}: {plain(light_words(watched.worst))}.")
        typer.echo(f"Next: open {written[0]}")
    if fail_on == watched.worst or (fail_on == "amber" and watched.worst == "red"):
        raise typer.Exit(1)
