"""`fraudlab privacy access`, `rectify`, `erase`, `retention`: what a customer may ask for, how long data are kept."""

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


def rectify(
    customer: Annotated[
        str, typer.Option(help="The customer's reference in the source, or the pseudonym; '-' reads it from input.")
    ],
    column: Annotated[str, typer.Option(help="The source's name of the column, such as postcode.")],
    source: Annotated[
        str, typer.Option(help="How it came in, on what grounds; no name, address or number of a person.")
    ],
    value: Annotated[
        str, typer.Option(help="What is right, as the source would write it; '-' reads it from input, a line further.")
    ] = "",
    no_value: Annotated[bool, typer.Option("--no-value", help="Right is that there is none.")] = False,
    transaction: Annotated[str, typer.Option(help="Only this payment.")] = "",
    since: Annotated[str, typer.Option(help="Only payments from then on, with a time zone: 2026-03-01T00:00Z.")] = "",
    until: Annotated[str, typer.Option(help="Only payments before then.")] = "",
    end: Annotated[
        bool, typer.Option("--end", help="The source is right now: forget the correction; the next ingest reads it.")
    ] = False,
    dataset: DatasetOption = "demo",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: the old value is not kept.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Correct a customer's data (GDPR Art. 16): in all payments, or some; the old value is kept nowhere.

    The correction is put over the source at every later ingest; have it corrected there too, then --end.

    Example: fraudlab privacy rectify --customer - --column postcode --value - --source "letter of 2026-03-01" --yes
    """
    from fraudlab.datasets.rights import end_rectification
    from fraudlab.datasets.rights import rectify as correct
    from fraudlab.schema import InputError
    from fraudlab.tracking import mark_retrain_due

    workspace = workspace_of()
    if sum((bool(value), no_value, end)) != 1:
        raise InputError("value: give one of --value, --no-value and --end; found none or several")
    reference, right = _from_input(Customer=customer, Value=value)
    if end:
        ended = end_rectification(dataset, reference, column, source=source, workspace=workspace)
        if as_json:
            print_json({"ended": ended})
        else:
            typer.echo(f"{ended:,} correction(s) of '{column}' ended. Next: fraudlab ingest --force")
        return
    if not yes:
        if not sys.stdin.isatty():
            raise InputError("rectify: the old value is not kept; say --yes to do it without being asked")
        typer.confirm(f"Correct '{column}' of one customer for good?", abort=True)
    done = correct(
        dataset,
        reference,
        column,
        right or None,
        source=source,
        transaction=transaction or None,
        since=since or None,
        until=until or None,
        workspace=workspace,
    )
    due = mark_retrain_due(workspace)
    if as_json:
        print_json(done | {"retrain_due": due})
        return
    also = " and the raw identity" if done["identity"] else ""
    typer.echo(
        f"{done['column']}: corrected in {done['rows']:,} payments of one customer{also}; they held "
        f"{done['different']:,} different value(s) before, which are kept nowhere."
    )
    for each in due:
        if each["corrected"]:
            typer.echo(f"  model {each['name']} version {each['version']}: {each['reason']}")
    for name in done["elsewhere"]:
        typer.echo(f"  data set {name} holds this customer too: correct it there with --dataset {name}")
    typer.echo("It is put over the source at every later ingest, until --end. Older backups hold the old value.")
    typer.echo(f"Next: {'fraudlab retrain' if due else f'fraudlab describe {dataset}'}")


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
    from fraudlab.scoring import rights as remembered
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
    states = remembered.let_go(workspace)
    due = mark_retrain_due(workspace)
    if as_json:
        print_json(done | {"states": states, "retrain_due": due})
        return
    typer.echo(f"{len(done['customers']):,} customer(s) erased; {done['keys']:,} key(s) of raw identities destroyed.")
    for name, rows in done["data_sets"].items():
        typer.echo(f"  {name}: {rows:,} transactions removed")
    for sentence in remembered.said(states):
        typer.echo(f"  {sentence}")
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
    from fraudlab.scoring import rights as remembered

    workspace = workspace_of()
    table = keep_to_time(dataset or None, dry_run=dry_run, workspace=workspace)
    removed = set() if dry_run else set(table.loc[table["goes"] > 0, "dataset"])
    states = remembered.let_go(workspace, datasets=removed) if removed else {}
    if as_json:
        print_json(table.to_dict("records"))
        return
    if table.empty:
        typer.echo("The vault is empty. Next: fraudlab ingest")
        return
    print_table(table.assign(oldest=table["oldest"].dt.strftime("%Y-%m-%d %H:%M")))
    for sentence in remembered.said(states):
        typer.echo(sentence)
    goes = int(table.drop_duplicates("dataset")["goes"].sum())
    typer.echo(
        f"\npast: rows the purpose no longer sees; goes: rows past for every purpose. {goes:,} rows "
        f"{'would go. Next: fraudlab privacy retention' if dry_run and goes else 'to go' if dry_run else 'removed'}."
    )


def _from_input(**given: str) -> list[str]:
    """Return what was given, each '-' replaced by a line of standard input; on a terminal without showing it."""
    import getpass

    from fraudlab.schema import InputError

    asked = [name for name, text in given.items() if text == "-"]
    if asked and sys.stdin.isatty():
        lines = [getpass.getpass(f"{name}: ") for name in asked]
    else:
        lines = [line.strip() for line in sys.stdin.read().splitlines() if line.strip()] if asked else []
    if len(lines) != len(asked):
        raise InputError(
            f"input: must hold a line for each '-' ({', '.join(asked).lower()}), in this order; found {len(lines):,}"
        )
    return [lines.pop(0) if text == "-" else text for text in given.values()]


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
