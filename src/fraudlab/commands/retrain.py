"""`fraudlab retrain`: the whole job, by hand or at night."""

from __future__ import annotations

import time
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


def retrain(
    config: ConfigOption = DEMO,
    as_of: Annotated[str, typer.Option(help="What was known then, with a time zone: 2026-06-01T00:00Z.")] = "",
    change: SetOption = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run again although nothing but time has passed.")] = False,
    resume: Annotated[
        str, typer.Option(help="Go on with this unfinished run at its first unfinished step: `fraudlab runs`.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Ask what could stop it and tell how long it takes; do nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Ingest, train, evaluate, explain, register and report, by running the notebooks in order.

    The champion's place changes hands last of all; killed before, everything serves as it did. A message for the
    morning lies in reports/, and goes to mail and webhook where the config's notify section says so.

    Example: fraudlab retrain --config configs/demo.toml --as-of 2026-06-01T00:00Z
    """
    from rich.console import Console

    from fraudlab.config import load_config
    from fraudlab.schema import InputError

    changes = changes_of(change) | ({"as_of": as_of} if as_of else {})
    loaded = load_config(config, **changes)  # refuse a typing error before the heavy imports below
    if dry_run:
        _show_plan(loaded, workspace_of(config), as_json)
        return
    from fraudlab import workflow

    workspace = workspace_of(config)
    if resume:
        if changes or fresh:
            raise InputError("--resume: goes on with the run's own config; found other options; leave them out")
        config = workflow.unfinished(workspace, resume)

    console = Console(stderr=as_json, highlight=False)
    began = time.perf_counter()
    status = console.status("")

    def progress(event: dict[str, Any]) -> None:
        if event["status"] == "reused":
            console.print("Nothing changed since this run: its results are reused (--fresh runs again).")
        elif event["status"] == "retrain_due":
            console.print(
                f"Version {event['version']} is due to be replaced by a model that never saw it: {event['reason']}."
            )
        elif event["status"] == "queued":
            said = event.get("problem") or f"{event['cases']:,} cases of the last days, {event['new']:,} of them new"
            said += f"; {why}" if (why := event.get("why")) else ""
            console.print(f"Queue: {said} (fraudlab queue).", soft_wrap=True)
        elif event["status"] == "shadow":
            console.print(f"Shadow: {event['said']}.", soft_wrap=True)
        elif event["status"] == "not sent":
            console.print(f"Message: {event['problem']}", soft_wrap=True)
        elif event["status"] == "started":
            status.update(f"[{event['number']}/{event['of']}] {event['title']} ...")
        else:
            console.print(
                f"\\[{event['number']}/{event['of']}] {event['title']:<9} {event['seconds']:6.1f} s   "
                f"{event['headline']}",
                soft_wrap=True,
            )

    with status:
        run = workflow.retrain(
            config, changes=changes, workspace=workspace, fresh=fresh, resume=resume, progress=progress
        )
    if as_json:
        print_json({"run": run.load_json("run"), "decision": run.load_json("decision")})
        return
    _print_summary(console, run, time.perf_counter() - began)


def _print_summary(console: Any, run: Any, seconds: float) -> None:
    facts, decision, metrics = run.load_json("run"), run.load_json("decision"), run.load_table("metrics")
    console.print(f"\n[bold]{decision['headline']}[/bold]  ({seconds:.0f} s)\n")
    ours = metrics[(metrics["model"] == facts["candidate"]) & (metrics["group"] == "all")].set_index("metric")
    k = run.config.decision.alerts_per_day
    for metric, said in (
        ("auc_roc", "AUC ROC"),
        ("average_precision", "average precision"),
        ("card_precision_at_k", f"precision of the {k} cases a day"),
        ("money_caught_share", "share of the fraud money in those cases"),
    ):
        row = ours.loc[metric]
        interval = f"   95 % interval {row['low']:.3f} to {row['high']:.3f}" if row["low"] == row["low"] else ""
        console.print(f"  {said:<42} {row['value']:.3f}{interval}", soft_wrap=True)
    bins = run.load_table("calibration").query("model == @facts['candidate'] and stage == 'after'")
    expected, seen = (bins["n"] * bins["mean_predicted"]).sum(), (bins["n"] * bins["observed"]).sum()
    console.print(f"  {'frauds the stated risks add up to':<42} {expected:.0f}, seen in the test: {seen:.0f}")
    here = run.workspace.root
    console.print(f"\n  report      {_near(run.report, here)}   (open it in a browser)")
    console.print(f"  notebooks   {_near(run.folder / 'notebooks', here)}")
    console.print("  MLflow      make ui")
    console.print("  JupyterLab  make lab")


def _near(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _show_plan(config: Any, workspace: Any, as_json: bool) -> None:
    """Print what the preflight found and how long each step is expected to take; exit 2 where something stops it."""
    from fraudlab.preflight import plan, preflight
    from fraudlab.workflow import REPORT_STEP, STEPS

    answers = preflight(config, workspace)
    steps = plan(config, workspace, [*STEPS, REPORT_STEP])
    stopped = [answer for answer in answers if answer.ok is False]
    if as_json:
        known = steps["seconds"].notna()
        planned = [
            {"step": row.step, "title": row.title, "seconds": row.seconds if there else None}
            for row, there in zip(steps.itertuples(), known)
        ]
        print_json({"ready": not stopped, "preflight": [vars(answer) for answer in answers], "plan": planned})
    else:
        for answer in answers:
            mark = {True: "ok  ", False: "STOP", None: "?   "}[answer.ok]
            typer.echo(f"{mark}  {answer.question}: {answer.found}")
        typer.echo("")
        print_table(steps[["step", "title", "seconds"]])
        told, whole = int(steps["runs"].max()), steps["seconds"].sum()
        said = "no finished run yet to tell the time from"
        if told:
            said = f"about {whole:.0f} s, as earlier runs took ({told} seen)"
        typer.echo(f"\nExpected: {said}. Nothing was done.")
        typer.echo("Next: mend what stops it" if stopped else "Next: the same command without --dry-run")
    if stopped:
        raise typer.Exit(2)
