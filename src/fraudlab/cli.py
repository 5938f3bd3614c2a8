"""The command line: every door of fraudlab as one word, each with an example in its help.

Nothing heavy is imported before a command runs, so `fraudlab --help` is quick.

Exit codes: 0 done; 1 a step failed; 2 the input breaks a rule; 75 another run is going on.
"""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from fraudlab.commands import (
    audit,
    awareness,
    backtest,
    backup,
    case,
    checks,
    decide,
    doctor,
    keys,
    labels,
    models,
    monitor,
    privacy,
    quickstart,
    reasons,
    report,
    retrain,
    rules,
    score,
    servers,
    share,
)
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
app.add_typer(config_app, name="config")
app.add_typer(features_app, name="features")
features_app.command()(reasons.reasons)
app.add_typer(models.app, name="models")
app.add_typer(monitor.app, name="monitor")
app.add_typer(audit.app, name="audit")
app.add_typer(backup.app, name="backup")
app.command()(case.queue)
app.command()(case.case)
app.add_typer(labels.app, name="labels")
app.add_typer(checks.app, name="checks")
app.add_typer(decide.app, name="decide")
app.add_typer(keys.app, name="keys")
app.add_typer(privacy.app, name="privacy")
app.add_typer(report.app, name="report")
app.add_typer(rules.app, name="rules")
app.add_typer(share.app, name="share")
app.command()(servers.ui)
app.command()(servers.lab)
app.command()(doctor.doctor)
app.command()(quickstart.quickstart)
app.command()(retrain.retrain)
app.command()(score.score)
app.command()(score.serve)
app.command()(backtest.backtest)
app.command()(awareness.awareness)


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

    loaded = load_config(config, **changes_of(change))
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

    loaded = load_config(config, **changes_of(change))
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

    loaded = load_config(config, **changes_of(change))
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

    loaded = load_config(config, **changes_of(change))
    from fraudlab import checking

    table = checking.leakage_table(loaded, workspace_of(config), cuts=cuts, rows=rows)
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
def notebook(
    path: Annotated[Path, typer.Argument(help="A notebook, e.g. notebooks/04_evaluate.ipynb.")],
    out: Annotated[Path, typer.Option(help="Where the executed notebook goes.")],
    parameter: Annotated[list[str] | None, typer.Option("--parameter", "-p", help="name=value, repeatable.")] = None,
) -> None:
    """Run one notebook with papermill; an unknown parameter is refused.

    Example: fraudlab notebook notebooks/02_explore.ipynb --out runs/explore.ipynb -p config=configs/demo.toml
    """
    from fraudlab.workflow import run_notebook

    run_notebook(path, out, changes_of(parameter), cwd=workspace_of().root)
    typer.echo(f"{out}")


def main() -> None:
    """Run the command line; a refused input is a sentence on standard error and an exit code, not a traceback."""
    # What a command imports stays to its end; to look it through for garbage, then and at last, takes seconds.
    gc.set_threshold(20_000)
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
    finally:
        gc.freeze()


if __name__ == "__main__":
    main()
