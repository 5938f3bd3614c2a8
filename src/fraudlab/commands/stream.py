"""`fraudlab monitor`: score transactions as they come in."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from fraudlab.commands.dashboard import CertOption, DashboardOption, KeyOption, TokenOption, guarded, live_pages
from fraudlab.commands.shared import JsonOption, print_json, workspace_of


def stream(
    context: typer.Context,
    source: Annotated[Path | None, typer.Option("--file", help="Read this file; default: standard input.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for more lines in --file, until stopped.")] = False,
    kafka: Annotated[str, typer.Option(help="Read a Kafka topic: HOST:PORT/TOPIC; needs the extra [kafka].")] = "",
    model: Annotated[str, typer.Option(help="NAME@ALIAS, NAME/VERSION, or NAME for its champion.")] = "demo",
    dataset: Annotated[str, typer.Option(help="Whose contract the lines follow; default: the model's own.")] = "",
    out: Annotated[Path | None, typer.Option(help="Alerts go to this file; default: standard output.")] = None,
    every: Annotated[bool, typer.Option("--every", help="Write every scored transaction, not only alerts.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Forget the kept state and learn anew from the vault.")
    ] = False,
    replay: Annotated[bool, typer.Option("--replay", help="Event times may lie in the future of the clock.")] = False,
    sync: Annotated[
        bool, typer.Option("--sync/--no-sync", help="Each group is on the disk before it is answered.")
    ] = True,
    dashboard: DashboardOption = False,
    dashboard_host: Annotated[
        str, typer.Option(help="Address of the page; beyond this machine it needs token and TLS.")
    ] = "127.0.0.1",
    dashboard_port: Annotated[int, typer.Option(help="Port of the page; 0 takes a free one.")] = 8081,
    token_file: TokenOption = None,
    certfile: CertOption = None,
    keyfile: KeyOption = None,
    lang: Annotated[str, typer.Option(help="Of the reasons and the page: en or zh.")] = "en",
    as_json: JsonOption = False,
) -> None:
    """Score transactions as they come in, JSON lines as the source names them; alerts go out as JSON lines.

    A line is a transaction, or {"label": {"transaction_id": ..., "is_fraud": true, "label_time": "..."}}. The state is
    kept, sealed: a monitor that was killed goes on where it was. SIGTERM ends it cleanly. With --dashboard, a page at
    http://127.0.0.1:8081 shows what is done, and /metrics tells Prometheus.

    Example: fraudlab monitor --file payments.jsonl --follow --model demo@champion --out alerts.jsonl
    """
    if context.invoked_subcommand is not None:
        return
    import gc
    import signal
    import threading
    import time
    from contextlib import ExitStack

    from rich.console import Console

    from fraudlab.schema import InputError
    from fraudlab.scoring import stream as streaming
    from fraudlab.scoring.figures import Figures
    from fraudlab.scoring.live import open_live
    from fraudlab.scoring.scorer import deployed

    if follow and source is None:
        raise InputError("--follow: waits for more lines of a file; name it with --file")
    if kafka and source is not None:
        raise InputError("--kafka: takes the place of --file; give one of them")
    token, pair = guarded(dashboard_host, token_file, certfile, keyfile) if dashboard else (None, None)
    workspace = workspace_of()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    note = Console(stderr=True, highlight=False, soft_wrap=True)
    chosen = deployed(workspace, model, dataset=dataset)
    with note.status("") as status:
        live, replayed = open_live(
            workspace, chosen, fresh=fresh, **({"ahead": None} if replay else {}), say=lambda text: status.update(text)
        )
    live.scorer.warm_up(lang)
    gc.freeze()  # what was learnt stays: the collector need not walk over it while payments wait
    try:
        if kafka:
            from fraudlab.scoring.kafka import Topic

            reader: streaming.Source = Topic.at(kafka, live.position)
        elif source is not None:
            reader = streaming.File(source, live.position, follow=follow)
        else:
            reader = streaming.Piped(sys.stdin.buffer)
        alerts = streaming.Alerts(out or sys.stdout, every=every, lang=lang, model=f"{chosen.name}/{chosen.version}")
        figures = Figures(time.time())
        with ExitStack() as page:
            if dashboard:
                from fraudlab.dashboard import served

                pages = live_pages(workspace, live, figures, lang)
                place = {"host": dashboard_host, "port": dashboard_port, "token": token, "certificate": pair}
                address = page.enter_context(served(pages, **place))
                note.print(f"Live page: {address}  Prometheus: {address}metrics", markup=False)
            found = streaming.monitor(
                live,
                reader,
                alerts,
                replayed=replayed,
                stop=stop,
                sync=sync,
                said=lambda text: note.print(text, markup=False),
                figures=figures,
            )
        alerts.close()
    finally:
        if live.journal is not None:
            live.journal.close()
    if as_json:
        sys.stderr.write(f"{found}\n") if out is None else print_json(found)
        return
    note.print(
        f"{chosen.said}: {found['events']:,} events in {found['seconds']:,.1f} s; {found['scored']:,} scored, "
        f"{found['alerts']:,} alerts, {found['late']:,} late, {found['repeated']:,} repeated, "
        f"{found['too_late']:,} too late, {found['refused']:,} refused, {found['labels']:,} labels.",
        markup=False,
    )
    for column, rows in found["missing"].items():
        note.print(f"Column '{column}' was not given in {rows:,} transactions and counted as missing.", markup=False)
