"""`fraudlab score` and `fraudlab serve`: the deployed model over files, and as a service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fraudlab.commands.dashboard import CertOption, DashboardOption, KeyOption, TokenOption, guarded, live_pages
from fraudlab.commands.shared import JsonOption, print_json, workspace_of

ModelOption = Annotated[str, typer.Option(help="NAME@ALIAS, NAME/VERSION, or NAME for its champion.")]
DatasetOption = Annotated[str, typer.Option(help="Whose contract the rows follow; default: the model's own.")]
LangOption = Annotated[str, typer.Option(help="Of the reasons: en or zh.")]


def score(
    source: Annotated[
        str, typer.Argument(help="A CSV or Parquet file of raw transactions, or vault: for the held ones.")
    ],
    out: Annotated[Path, typer.Option(help="Parquet or CSV file to write, for its owner only.")],
    model: ModelOption = "demo",
    dataset: DatasetOption = "",
    since: Annotated[str, typer.Option(help="With vault: only from this moment on, with a time zone.")] = "",
    reasons: Annotated[bool, typer.Option("--reasons/--no-reasons", help="Say why of alerts.")] = True,
    replay: Annotated[bool, typer.Option("--replay", help="Event times may lie in the future of the clock.")] = False,
    lang: LangOption = "en",
    as_json: JsonOption = False,
) -> None:
    """Score a file of transactions as the source gives them, in stretches that fit the memory.

    Earlier payments in the vault are their history. Columns of the answer: transaction_id, event_time, score, risk,
    tier, action, rules, reasons.

    Example: fraudlab score payments.csv --model demo@champion --out scored.parquet
    """
    import pandas as pd

    from fraudlab.progress import progress_line
    from fraudlab.schema import InputError, utc
    from fraudlab.scoring import files
    from fraudlab.scoring.scorer import deployed

    workspace = workspace_of()
    held = source.removeprefix("vault:") if source.startswith("vault:") else None
    if since and held is None:
        raise InputError("--since: is for payments of the vault; name them as vault:DATASET")
    chosen = deployed(workspace, model, dataset=dataset or held or "")
    with progress_line("scoring", after=1e9 if as_json else 0) as say:
        if held is not None:
            moment = utc(since, "since") if since else None
            found = files.score_vault(workspace, chosen, out, since=moment, lang=lang, reasons=reasons, say=say)
        else:
            now = None if replay else pd.Timestamp.now("UTC")
            found = files.score_file(workspace, chosen, Path(source), out, lang=lang, reasons=reasons, now=now, say=say)
    if as_json:
        print_json({"model": chosen.name, "version": chosen.version, "out": str(out), **files.facts(found)})
        return
    tiers = ", ".join(f"{name} {n:,}" for name, n in found.tiers.items())
    typer.echo(f"{chosen.said}: {found.rows:,} transactions scored, {found.alerts:,} alerts ({tiers}).")
    for column, rows in found.missing.items():
        typer.echo(f"Column '{column}' was not given in {rows:,} transactions and counted as missing.")
    typer.echo(f"Scores: {out}. It names transactions as the source does: keep it like the source.")


def serve(
    model: ModelOption = "demo",
    dataset: DatasetOption = "",
    host: Annotated[
        str, typer.Option(help="Address to listen on; beyond this machine it needs token and TLS.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8080,
    token_file: TokenOption = None,
    certfile: CertOption = None,
    keyfile: KeyOption = None,
    largest: Annotated[int, typer.Option(help="Bytes of a request's body, at most.")] = 1 << 20,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Forget the kept state and learn anew from the vault.")
    ] = False,
    replay: Annotated[bool, typer.Option("--replay", help="Event times may lie in the future of the clock.")] = False,
    dashboard: DashboardOption = False,
    lang: LangOption = "en",
) -> None:
    """Score transactions over HTTP, each as it comes in; the state is kept as by fraudlab monitor.

    With --dashboard, GET / is a page that shows what is done, and GET /metrics tells Prometheus.

    Example: fraudlab serve --model demo@champion --port 8080
    """
    import gc
    import signal
    import threading

    from rich.console import Console

    from fraudlab.scoring.live import open_live
    from fraudlab.scoring.rest import Server, Service
    from fraudlab.scoring.scorer import deployed

    token, pair = guarded(host, token_file, certfile, keyfile)
    workspace = workspace_of()
    chosen = deployed(workspace, model, dataset=dataset)
    with Console(stderr=True).status("") as status:
        live, _ = open_live(
            workspace, chosen, fresh=fresh, **({"ahead": None} if replay else {}), say=lambda text: status.update(text)
        )
    live.scorer.warm_up(lang)
    gc.freeze()  # what was learnt stays: the collector need not walk over it while payments wait
    try:
        service = Service(live, lang=lang, **({"clock": None} if replay else {}))
        pages = live_pages(workspace, live, service.figures, lang) if dashboard else None
        server = Server(service, pages=pages, host=host, port=port, token=token, certificate=pair, largest=largest)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
        address = f"{'https' if pair else 'http'}://{host}:{server.server_address[1]}"
        typer.echo(f"{chosen.said} answers at {address}/score (Ctrl+C ends it)")
        if dashboard:
            typer.echo(f"Live page: {address}/  Prometheus: {address}/metrics")
        server.serve_forever(poll_interval=0.2)
        with service.lock:
            live.snapshot()
        typer.echo(
            f"{live.counts['scored']:,} transactions scored, {live.counts['alerts']:,} alerts; the state is kept."
        )
    finally:
        if live.journal is not None:
            live.journal.close()
