"""The command line: every door of fraudlab as one word, each with an example in its help.

Nothing heavy is imported before a command runs, so `fraudlab --help` is quick.

Exit codes: 0 done; 1 a step failed; 2 the input breaks a rule; 75 another run is going on.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from fraudlab.commands import audit, backup, doctor, keys, privacy, quickstart, servers
from fraudlab.commands.shared import (
    DEMO,
    ConfigOption,
    JsonOption,
    SetOption,
    print_json,
    print_table,
    workspace_of,
)

app = typer.Typer(
    name="fraudlab",
    help="A workbench for fraud analytics: from raw transactions to a registered, explained, reported fraud model.\n\n"
    "First steps:  [bold]fraudlab retrain --config configs/demo.toml[/bold]  does the whole job on demo data.",
    epilog="Exit codes: 0 done · 1 a step failed · 2 the input breaks a rule · 75 another run is going on",
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="Read, check and explain run configs.", no_args_is_help=True)
features_app = typer.Typer(help="Look at the named feature sets.", no_args_is_help=True)
models_app = typer.Typer(help="Look at the registered models.", no_args_is_help=True)
app.add_typer(config_app, name="config")
app.add_typer(features_app, name="features")
app.add_typer(models_app, name="models")
app.add_typer(audit.app, name="audit")
app.add_typer(backup.app, name="backup")
app.add_typer(keys.app, name="keys")
app.add_typer(privacy.app, name="privacy")
app.command()(servers.ui)
app.command()(servers.lab)
app.command()(doctor.doctor)
app.command()(quickstart.quickstart)


def _changes(pairs: list[str] | None) -> dict[str, Any]:
    """Read `key=value` pairs; a value is TOML (7, true, 2026-01-01, "text"), else text."""
    import tomllib

    from fraudlab.schema import InputError

    changes: dict[str, Any] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InputError(f"--set: must look like section.key=value; found '{pair}'")
        try:
            changes[key.replace(".", "__")] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            changes[key.replace(".", "__")] = value
    return changes


@app.command()
def retrain(
    config: ConfigOption = DEMO,
    as_of: Annotated[str, typer.Option(help="What was known then, with a time zone: 2026-06-01T00:00Z.")] = "",
    change: SetOption = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run again although nothing but time has passed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Ingest, train, evaluate, explain, register and report, by running the notebooks in order.

    Example: fraudlab retrain --config configs/demo.toml --as-of 2026-06-01T00:00Z
    """
    from rich.console import Console

    from fraudlab.config import load_config

    changes = _changes(change) | ({"as_of": as_of} if as_of else {})
    load_config(config, **changes)  # refuse a typing error before the heavy imports below
    from fraudlab import workflow

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
        elif event["status"] == "started":
            status.update(f"[{event['number']}/{event['of']}] {event['title']} ...")
        else:
            console.print(
                f"\\[{event['number']}/{event['of']}] {event['title']:<9} {event['seconds']:6.1f} s   "
                f"{event['headline']}",
                soft_wrap=True,
            )

    with status:
        run = workflow.retrain(config, changes=changes, fresh=fresh, progress=progress)
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


@app.command()
def ingest(
    config: ConfigOption = DEMO,
    change: SetOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write anew although nothing changed, or with new keys if the old are lost.")
    ] = False,
    new_pseudonyms: Annotated[
        bool,
        typer.Option(
            "--new-pseudonyms",
            help="With --force: go on with another key of the pseudonyms; the ledger matches nobody then.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring raw transactions through their contract into the encrypted, pseudonymised vault.

    Example: fraudlab ingest --config configs/demo.toml
    """
    from fraudlab.config import load_config
    from fraudlab.datasets import ingest as ingest_dataset

    loaded = load_config(config, **_changes(change))
    manifest = ingest_dataset(loaded, workspace_of(config), force=force, new_pseudonyms=new_pseudonyms)
    if as_json:
        print_json(manifest)
        return
    said = "is already in the vault, unchanged" if manifest["reused"] else "is in the vault"
    typer.echo(f"{loaded.dataset.name}: {manifest['rows']:,} transactions; the data set {said}.")
    if manifest["repaired"]:
        damaged = ", ".join(manifest["repaired_files"])
        typer.echo(f"Damaged files were found and written anew from the source: {damaged}. Find out who changed them.")
    for row in manifest.get("corrected", []):
        typer.echo(f"Corrections of customers were put over '{row['column']}' in {row['rows']:,} rows.")
    if new_pseudonyms:
        typer.echo(
            "Every customer has another pseudonym now: what the ledger, the corrections and the models' lists say of "
            "customers matches nobody. Tell the ledger again before anybody loads: fraudlab privacy consent record",
            err=True,
        )
    typer.echo(f"Next: fraudlab retrain --config {config}")


@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(help="Parquet or CSV file to write.")],
    config: ConfigOption = DEMO,
    change: SetOption = None,
) -> None:
    """Write the raw demo table, with its invented names and card numbers, to try a contract of your own on it.

    Example: fraudlab simulate data/raw/payments.csv --set dataset.simulate.customers=500
    """
    from fraudlab.config import load_config
    from fraudlab.datasets.simulate import simulate as simulate_payments
    from fraudlab.schema import InputError

    loaded = load_config(config, **_changes(change))
    if out.suffix not in (".csv", ".parquet"):
        raise InputError(f"out: must end in .csv or .parquet; found '{out.suffix}'; choose one of them")
    frame = simulate_payments(loaded.dataset.simulate, loaded.seed)
    os.umask(0o077)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}")
    if out.suffix == ".csv":
        frame.to_csv(temporary, index=False)
    else:
        frame.to_parquet(temporary, index=False)
    os.replace(temporary, out)
    typer.echo(f"{len(frame):,} invented payments in {out}. Nothing in it belongs to a real person.")


@app.command()
def describe(
    dataset: Annotated[str, typer.Argument(help="A data set in the vault.")] = "demo",
    purpose: Annotated[str, typer.Option(help="Why you look; decides the columns.")] = "fraud-model-training",
    as_json: JsonOption = False,
) -> None:
    """Say what the vault holds of a data set, as a purpose may see it.

    Example: fraudlab describe demo --purpose fraud-model-training
    """
    import pandas as pd

    from fraudlab.datasets import dataset_facts

    facts = dataset_facts(dataset, purpose=purpose, as_of=None, workspace=workspace_of())
    if as_json:
        print_json(facts)
        return
    typer.echo(
        f"{dataset}: {facts['rows']:,} transactions of {facts['customers']:,} customers, "
        f"{facts['first']} to {facts['last']}"
    )
    typer.echo(
        f"frauds {facts['frauds']:,} of {facts['labelled']:,} labelled ({facts['fraud_rate']:.3%}), "
        f"not known yet {facts['unlabelled']:,}"
    )
    left_out = facts["left_out"]
    why = ", ".join(f"{reason} {n:,}" for reason, n in left_out["why"].items())
    typer.echo(
        f"left out for this purpose: {left_out['customers']:,} customers with {left_out['rows']:,} transactions"
        f"{f' ({why})' if why else ''}\n"
    )
    columns = pd.DataFrame(facts["columns"])
    columns["purposes"] = columns["purposes"].map(", ".join)
    print_table(columns)


@config_app.command("check")
def config_check(config: ConfigOption = DEMO, change: SetOption = None) -> None:
    """Validate a run config without running it.

    Example: fraudlab config check --config configs/demo.toml
    """
    from fraudlab.config import config_digest, load_config

    loaded = load_config(config, **_changes(change))
    typer.echo(f"{config}: valid; run '{loaded.name}', digest {config_digest(loaded)[:12]}")


@config_app.command("explain")
def config_explain() -> None:
    """List every key of a run config with its type, default and meaning.

    Example: fraudlab config explain
    """
    import pandas as pd

    from fraudlab.config import explain_keys

    print_table(pd.DataFrame(explain_keys(), columns=["key", "type", "default", "meaning"]))


@features_app.command("list")
def features_list() -> None:
    """List the named feature sets.

    Example: fraudlab features list
    """
    from fraudlab.features.sets import NAMED_SETS

    for name, feature_set in NAMED_SETS.items():
        typer.echo(f"{name:<12} {len(feature_set.columns):3d} columns   needs {', '.join(feature_set.requires)}")


@features_app.command("show")
def features_show(
    name: Annotated[str, typer.Argument(help="A named set.")] = "card-v1", as_json: JsonOption = False
) -> None:
    """Show what each column of a feature set means.

    Example: fraudlab features show card-v1
    """
    from fraudlab.features.sets import named_set

    table = named_set(name).describe()
    if as_json:
        print_json(table.to_dict("records"))
    else:
        print_table(table[["column", "group", "meaning"]])


@features_app.command("audit")
def features_audit(
    config: ConfigOption = DEMO,
    change: SetOption = None,
    cuts: Annotated[int, typer.Option(help="After how many moments the future is rewritten.")] = 5,
    rows: Annotated[int, typer.Option(help="At most so many payments, by whole customers.")] = 20_000,
    as_json: JsonOption = False,
) -> None:
    """Rewrite the future of the data in the vault and say which features notice; exit 1 if any does.

    Example: fraudlab features audit --config configs/demo.toml
    """
    from fraudlab.config import load_config

    loaded = load_config(config, **_changes(change))
    from fraudlab import recipe

    table = recipe.leakage_table(loaded, workspace_of(config), cuts=cuts, rows=rows)
    leaks = int((table["verdict"] == "leaks").sum())
    if as_json:
        print_json(table.to_dict("records"))
    else:
        print_table(table[["column", "verdict", "moved", "rewriting"]])
        for row in table[table["verdict"] != "clean"].itertuples():
            typer.echo(f"\n{row.column}: {row.meaning}")
        typer.echo(
            f"\n{len(table)} features: {(table['verdict'] == 'clean').sum()} clean, {leaks} leaking, "
            f"{(table['verdict'] == 'not judged').sum()} not judged, over {table['rows'].max():,} payments and "
            f"{table['cuts'].max()} moments."
        )
    if leaks:
        raise typer.Exit(1)


@models_app.command("list")
def models_list(as_json: JsonOption = False) -> None:
    """List the registered models with their aliases and key figures.

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


@models_app.command("promote")
def models_promote(
    name: Annotated[str, typer.Argument(help="A registered model.")],
    version: Annotated[str, typer.Argument(help="The version that shall be champion.")],
    reason: Annotated[str, typer.Option(help="Why, for whoever reads the model's history.")],
) -> None:
    """Make a registered version the champion by hand, with a reason; also the way back to an earlier one.

    Example: fraudlab models promote demo 1 --reason "version 2 raised false alarms on travel"
    """
    from fraudlab import tracking
    from fraudlab.privacy.auditlog import audit_log
    from fraudlab.privacy.masking import mask_text
    from fraudlab.runs import project_lock

    workspace = workspace_of()
    with project_lock(workspace):
        done = tracking.promote(tracking.open_store(workspace), name, version, reason=reason)
        facts = {"model": name, "model_version": version, "before": done["previous"]}
        audit_log(workspace).append("promote", by="hand", reason=mask_text(reason)[0], **facts)
    before = f"; before: version {done['previous']}" if done["previous"] else ""
    typer.echo(f"{name} version {version} is the champion{before}")


@app.command()
def runs(as_json: JsonOption = False) -> None:
    """List the runs of this project, newest first.

    Example: fraudlab runs
    """
    from fraudlab.workflow import runs_table

    table = runs_table(workspace_of())
    if as_json:
        print_json(table.to_dict("records"))
    elif table.empty:
        typer.echo("No run yet. Next: fraudlab retrain --config configs/demo.toml")
    else:
        print_table(table)


@app.command()
def report(
    run: Annotated[str, typer.Argument(help="A run: `fraudlab runs`.")],
    out: Annotated[Path | None, typer.Option(help="HTML or PDF file; default: reports/<run>.html.")] = None,
) -> None:
    """Write a run's report for reviewers again, from its evidence.

    Example: fraudlab report demo-1a2b3c4d5e --out /tmp/review.pdf
    """
    from fraudlab.privacy.auditlog import audit_log
    from fraudlab.report import build_report, to_pdf
    from fraudlab.schema import InputError, did_you_mean

    workspace = workspace_of()
    folder = workspace.runs / run
    if not folder.is_dir():
        there = [path.parent.name for path in workspace.runs.glob("*/state.json")]
        raise InputError(f"run: no run '{run}'; {did_you_mean(run, there)}")
    html = build_report(folder, workspace.reports / f"{run}.html")
    written = html
    if out is not None:
        written = out
        if out.suffix == ".pdf":
            to_pdf(html, out)
        else:
            build_report(folder, out)
        audit_log(workspace).append("export", what="report", run=run, to=out.suffix)
    typer.echo(f"{_near(written, workspace.root)}")


@app.command()
def notebook(
    path: Annotated[Path, typer.Argument(help="A notebook, e.g. notebooks/04_evaluate.ipynb.")],
    out: Annotated[Path, typer.Option(help="Where the executed notebook goes.")],
    parameter: Annotated[list[str] | None, typer.Option("--parameter", "-p", help="name=value, repeatable.")] = None,
) -> None:
    """Run one notebook with papermill; an unknown parameter is refused.

    Example: fraudlab notebook notebooks/02_explore.ipynb --out runs/explore.ipynb -p config=configs/demo.toml
    """
    from fraudlab.workflow import run_notebook

    run_notebook(path, out, _changes(parameter), cwd=workspace_of().root)
    typer.echo(f"{out}")


def main() -> None:
    """Run the command line; a refused input is a sentence on standard error and an exit code, not a traceback."""
    try:
        app()
    except Exception as error:
        # Known failures carry their exit code; importing their class here would cost every `--help` pandas.
        code = getattr(error, "exit_code", None)
        if code is None and isinstance(error, OSError):
            where = f" ({error.filename})" if error.filename else ""
            error, code = (
                f"the system refused a file{where}: {error.strerror or error}; check its rights and the disk",
                1,
            )
        if code is None:
            raise
        sys.stderr.write(f"{error}\n")
        sys.exit(code)


if __name__ == "__main__":
    main()
