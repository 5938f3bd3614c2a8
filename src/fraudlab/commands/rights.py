"""`fraudlab privacy access`, `erase` and `retention`: what a customer may ask for, and how long data are kept."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from fraudlab.commands.shared import JsonOption, print_json, print_table, workspace_of

DatasetOption = Annotated[str, typer.Option(help="The data set that knows the customer.")]


def access(
    customer: Annotated[
        str, typer.Option(help="The customer's reference in the source, or the pseudonym; '-' reads it from input.")
    ],
    out: Annotated[Path, typer.Option(help="A folder for the two files, for its owner only.")],
    dataset: DatasetOption = "demo",
) -> None:
    """Write all that is held on one customer: a page in plain words and the same as JSON (GDPR Art. 15).

    Example: fraudlab privacy access --customer - --out answer
    """
    from fraudlab.datasets.rights import access as find
    from fraudlab.datasets.rights import access_page
    from fraudlab.runs import write_whole

    held = find(dataset, _references(customer)[0], workspace=workspace_of())
    out.mkdir(parents=True, exist_ok=True, mode=0o700)
    stem = f"access-{dataset}-{held['customer'][:8]}"
    write_whole(out / f"{stem}.json", json.dumps(held, indent=2, ensure_ascii=False) + "\n")
    write_whole(out / f"{stem}.html", access_page(held))
    typer.echo(
        f"{len(held['transactions']):,} payments, {sum(map(len, held['identity'].values())):,} identity values and "
        f"{len(held['events']):,} events of one customer: {out / stem}.html and .json"
    )
    typer.echo("They hold the raw identity: hand them over, then delete them. This access is in the audit log.")


def erase(
    customer: Annotated[
        list[str],
        typer.Option(
            help="The customer's reference in the source, or the pseudonym; repeatable. '-' reads one a line of input."
        ),
    ],
    source: Annotated[str, typer.Option(help="How the request came in; no name, address or number of a person.")],
    dataset: DatasetOption = "demo",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: it cannot be undone.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Erase customers for good: key destroyed, rows gone, models marked. The same call completes a broken one.

    Example: fraudlab privacy erase --customer - --source "letter of 2026-03-01" --yes
    """
    from fraudlab.datasets.rights import erase as erase_customers
    from fraudlab.privacy.scan import SHORTEST
    from fraudlab.schema import InputError
    from fraudlab.tracking import mark_retrain_due

    workspace = workspace_of()
    references = [each for given in customer for each in _references(given)]
    if any(len(each) >= SHORTEST and each.casefold() in source.casefold() for each in references):
        raise InputError("source: must not repeat a customer's reference; name the letter, not the person")
    if not yes:
        if not sys.stdin.isatty():
            raise InputError("erase: cannot be undone; say --yes to do it without being asked")
        typer.confirm(f"Erase {len(references):,} customer(s) for good?", abort=True)
    done = erase_customers(dataset, references, source=source, workspace=workspace)
    due = mark_retrain_due(workspace)
    if as_json:
        print_json(done | {"retrain_due": due})
        return
    typer.echo(f"{len(done['customers']):,} customer(s) erased; {done['keys']:,} key(s) of raw identities destroyed.")
    for name, rows in done["data_sets"].items():
        typer.echo(f"  {name}: {rows:,} transactions removed")
    if done["already"]:
        typer.echo(f"  {done['already']:,} had been erased before; what was left to do is done")
    for each in due:
        typer.echo(f"  model {each['name']} version {each['version']}: trained on {each['customers']:,} of the erased")
    if done["runs"]:
        typer.echo(
            f"Not touched: {len(done['runs']):,} run(s) whose evidence and report show some payments without "
            f"identifiers, perhaps theirs ({', '.join(done['runs'])}). Delete them, and MLflow's copies, to be sure."
        )
    typer.echo("Older backups still hold them until erasures are replayed after a restore.")
    typer.echo(f"Next: {'fraudlab retrain' if due else f'fraudlab describe {dataset}'}")


def retention(
    dataset: Annotated[str, typer.Option(help="Only this data set.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove rows that no purpose may keep any longer; loads never show a purpose rows past its own time.

    Ages count to now; those of simulated payments, which concern nobody, to their own last one.

    Example: fraudlab privacy retention --dry-run
    """
    from fraudlab.datasets.rights import retention as keep_to_time

    table = keep_to_time(dataset or None, dry_run=dry_run, workspace=workspace_of())
    if as_json:
        print_json(table.to_dict("records"))
        return
    if table.empty:
        typer.echo("The vault is empty. Next: fraudlab ingest")
        return
    print_table(table.assign(oldest=table["oldest"].dt.strftime("%Y-%m-%d %H:%M")))
    goes = int(table.drop_duplicates("dataset")["goes"].sum())
    typer.echo(
        f"\npast: rows the purpose no longer sees; goes: rows past for every purpose. {goes:,} rows "
        f"{'would go. Next: fraudlab privacy retention' if dry_run and goes else 'to go' if dry_run else 'removed'}."
    )


def _references(given: str) -> list[str]:
    """Return the references given, or those on standard input, a line each; on a terminal without showing it."""
    import getpass

    from fraudlab.schema import InputError

    if given != "-":
        return [given]
    lines = [getpass.getpass("Customer: ")] if sys.stdin.isatty() else sys.stdin.read().splitlines()
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise InputError("customer: standard input held no reference; write one a line")
    return found
