"""`fraudlab backtest`: history as if it were live, to choose how often to retrain."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from fraudlab.commands.shared import (
    DEMO,
    ConfigOption,
    JsonOption,
    SetOption,
    changes_of,
    print_json,
    print_table,
    workspace_of,
)


def backtest(
    config: ConfigOption = DEMO,
    start: Annotated[
        str, typer.Option("--from", help="First day, UTC; default: the first at which a model can be made.")
    ] = "",
    end: Annotated[str, typer.Option("--to", help="Day after the last; default: the last with mature labels.")] = "",
    every: Annotated[str, typer.Option("--every", help="Days from one date of the walk to the next.")] = "7d",
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            help="never, weekly, monthly (28 days) or days such as 14d; with -ungated the gate is not asked. "
            "Repeatable; default: never, monthly, weekly.",
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", help="Processes, one thread each; default: cores.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the models there, to try other policies over the same days.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="The page, HTML; default: under reports/backtests/.")
    ] = None,
    change: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Walk through history as if it were live and say what money and alerts each policy of retraining would have given.

    At each date only what was known then is there. Nothing is registered, no champion changes. Cut off, the same
    command goes on with the models that are finished.

    Example: fraudlab backtest --from 2026-06-15 --to 2026-06-29 --every 7d --policy never --policy weekly
    """
    from fraudlab.backtesting.policies import DEFAULT, policies_of, step_days
    from fraudlab.config import load_config, project_root

    loaded = load_config(config, **changes_of(change))
    step = step_days(every)
    names = policy or list(DEFAULT)
    policies_of(names, step)  # refuse a typing error before anything is loaded
    from fraudlab import backtest_job
    from fraudlab.progress import progress_line

    dates = backtest_job.moment(start, "--from"), backtest_job.moment(end, "--to")
    workspace = workspace_of(config)
    with progress_line("backtest") as line:
        done = backtest_job.backtest(
            loaded,
            workspace,
            project=project_root(config),
            policies=names,
            start=dates[0],
            end=dates[1],
            step=step,
            jobs=(os.cpu_count() or 1) if jobs is None else jobs,
            keep=keep,
            out=out,
            tell=(lambda text: None) if as_json else line,
        )
    if as_json:
        told = {name: each.astype("object").where(each.notna(), None) for name, each in done.tables.items()}
        print_json(
            done.facts | {"page": str(done.page)} | {name: each.to_dict("records") for name, each in told.items()}
        )
        return
    _print(done, workspace)


def _print(done: Any, workspace: Any) -> None:
    from fraudlab.backtesting import overview

    facts = done.facts
    typer.echo(
        f"\n{facts['payments_judged']:,} payments from {facts['from']} to {facts['to']}; {facts['models']} models made "
        f"in {facts['seconds']['walk']:.0f} s\n"
    )
    for by, said in (("threshold", "by the champions' thresholds"), ("budget", "the best cases of each day")):
        print_table(overview(done.tables, by).round(3), title=f"Reviewed: {said}")
        typer.echo("")
    for sentence in facts["said"]:
        typer.echo(f"{sentence}.")
    inside = done.page.is_relative_to(workspace.root)
    typer.echo(f"\npage      {done.page.relative_to(workspace.root) if inside else done.page}   (open it in a browser)")
    typer.echo(f"evidence  runs/{facts['name']}/evidence")
