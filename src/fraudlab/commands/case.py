"""`fraudlab queue` and `fraudlab case`: the cases for investigators, and the sheet of one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fraudlab.commands.shared import DEMO, ConfigOption, JsonOption, print_json, print_table, workspace_of

LangOption = Annotated[str, typer.Option(help="en or zh.")]


def queue(
    config: ConfigOption = DEMO,
    model: Annotated[
        str, typer.Option(help="NAME@ALIAS or NAME/VERSION; default: the champion of the config's model.")
    ] = "",
    since: Annotated[
        str, typer.Option(help="Cases from then on, with a time zone; default: the last seven days.")
    ] = "",
    as_of: Annotated[str, typer.Option(help="What was known then; default: the config's own moment.")] = "",
    out: Annotated[
        Path | None, typer.Option(help="Write it to this file (.csv, .xlsx, .html) for its owner only.")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="csv, xlsx or html; default: by the file's ending.")] = "",
    every: Annotated[bool, typer.Option("--all", help="Cases with an outcome too.")] = False,
    blind: Annotated[
        bool, typer.Option("--blind", help="Leave out risk, tier and reasons, which tell the random checks apart.")
    ] = False,
    score: Annotated[
        bool, typer.Option("--score/--no-score", help="Score the newest payments first, or show what is listed.")
    ] = True,
    lang: LangOption = "en",
    as_json: JsonOption = False,
) -> None:
    """Score the newest payments with the champion and show each day's cases, within what can be reviewed.

    A case is one customer on one day; its code says neither. A filled CSV or Excel file comes back with labels import.

    Example: fraudlab queue --config configs/demo.toml --out queue.xlsx
    """
    from rich.console import Console

    from fraudlab.casework import queue as cases
    from fraudlab.casework.export import export_queue, queue_json
    from fraudlab.config import load_config
    from fraudlab.report.blocks import share
    from fraudlab.schema import InputError, utc

    if form and out is None:
        raise InputError("--format: is for a file; name one with --out")
    loaded, workspace = load_config(config), workspace_of(config)
    begin = utc(since, "since") if since else None
    moment = utc(as_of, "as_of") if as_of else None
    listed = None
    if score:
        with Console(stderr=True).status("") as status:
            listed = cases.list_cases(
                loaded,
                workspace,
                model=model,
                since=begin,
                as_of=moment,
                progress=lambda text: status.update(f"{text} ..."),
            )
        begin = utc(listed["since"], "since")
        moment = utc(listed["as_of"], "as_of")
    dataset = loaded.dataset.name
    if listed is not None and not listed["held"]:
        if as_json:
            print_json({"listed": listed, "written": None, "cases": []})
            return
        typer.echo(f"0 cases: {listed['why']}.")
        return
    table = cases.queue_table(dataset, workspace, since=begin, as_of=moment, open_only=not every, blind=blind)
    written = None
    if out is not None:
        written = export_queue(table, out, dataset=dataset, workspace=workspace, form=form, lang=lang, as_of=moment)
    if as_json:
        print_json({"listed": listed, "written": written, "cases": queue_json(table)})
        return
    if out is None and len(table):
        shown = table.assign(
            risk="" if blind else table["risk"].map(share),
            amount=table["amount"].map("{:,.2f}".format),
            why=[reasons[0][lang] if reasons else "" for reasons in table["reasons"]],
        )
        print_table(shown[["alert_id", "day", "amount", "risk", "tier", "why", *(["state"] if every else [])]])
    if listed is not None:
        typer.echo(
            f"{listed['payments']:,} payments since {listed['since'][:10]} scored by {listed['model']} version "
            f"{listed['version']}: {listed['cases']:,} cases, {listed['new']:,} of them new."
        )
        if listed["why"]:
            typer.echo(f"No case was found: {listed['why']}.")
        if listed["rules"]:
            typer.echo(f"Rules were not asked: {listed['rules']}")
    if out is not None:
        typer.echo(
            f"{len(table):,} cases written to {out}; it holds coded personal data: lock it away, then delete it."
        )
        typer.echo(f"Next: fill in outcome and decided_at_utc, then fraudlab labels import {out} --dataset {dataset}")
    elif len(table):
        typer.echo(f"Next: fraudlab case {table['alert_id'].iloc[0]} --dataset {dataset} --out sheet.html")
    else:
        typer.echo("No case is open. Next: fraudlab queue --all, or --since with an earlier day")


def case(
    alert_id: Annotated[str, typer.Argument(help="The case's code, from the queue.")],
    dataset: Annotated[str, typer.Option(help="A data set in the vault.")] = "demo",
    out: Annotated[Path | None, typer.Option(help="The sheet's file; default: CODE.html here.")] = None,
    lang: LangOption = "en",
    as_json: JsonOption = False,
) -> None:
    """Write the sheet of one case: facts, reasons, history, links, recommendation, place for the decision.

    One HTML file that needs nothing else, to read or print; customers appear as codes only.

    Example: fraudlab case 6F13V-J6V4K --out sheet.html --lang zh
    """
    from rich.console import Console

    from fraudlab.casework.facts import case_facts
    from fraudlab.casework.sheet import case_sheet
    from fraudlab.privacy.auditlog import audit_log
    from fraudlab.runs import write_whole

    workspace = workspace_of()
    with Console(stderr=True).status("") as status:
        facts = case_facts(alert_id, dataset, workspace, progress=lambda text: status.update(f"{text} ..."))
        sheet = case_sheet(facts, lang)
    path = out or Path(f"{facts.alert_id}.html")
    # Written down first: what cannot be logged is not handed out.
    audit_log(workspace).append("export", what="case sheet", dataset=dataset, case=facts.alert_id, lang=lang)
    write_whole(path, sheet)
    if as_json:
        print_json({"case": facts.alert_id, "file": str(path), "bytes": len(sheet.encode())})
        return
    typer.echo(
        f"Case {facts.alert_id}: {len(facts.payments):,} payments, recommended: {facts.action.replace('_', ' ')}."
    )
    typer.echo(f"Sheet: {path} (for its owner only; this look is in the audit log)")
    typer.echo(f"Next: fraudlab labels record {facts.alert_id} fraud --dataset {dataset} --by desk-1 --decided-at ...")
