"""`fraudlab privacy consent`: write down what a customer said about a purpose, show it, bring it in and out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from fraudlab.commands.shared import JsonOption, print_json, print_table, workspace_of

app = typer.Typer(help="Consents, objections, restrictions: the ledger that every load heeds.", no_args_is_help=True)

CustomerOption = Annotated[
    str,
    typer.Option(
        help="The customer's reference in the source, or the pseudonym. '-' reads it from standard input, so that it "
        "stays out of the shell's history."
    ),
]
DatasetOption = Annotated[str, typer.Option(help="The data set that knows the customer.")]

ACTIONS = {
    "consent": "consent",
    "withdrawal": "consent",
    "objection": "object",
    "objection-refused": "object",
    "objection-withdrawn": "object",
    "restriction": "restrict",
    "restriction-lifted": "restrict",
    "erasure": "erase",
}
"""What the audit log calls an event."""


@app.command()
def record(
    customer: CustomerOption,
    purpose: Annotated[str, typer.Option(help="A purpose of the data set; '*' restricts or erases for all of them.")],
    event: Annotated[
        str,
        typer.Option(
            help="consent, withdrawal, objection, objection-refused, objection-withdrawn, restriction, "
            "restriction-lifted or erasure."
        ),
    ],
    source: Annotated[str, typer.Option(help="How it came in; no name, address or number of a person.")],
    at: Annotated[
        str, typer.Option(help="Since when it holds, with a time zone: 2026-03-01T00:00Z. Default: now.")
    ] = "",
    note: Annotated[str, typer.Option(help="What else to know; an objection is refused for stated grounds.")] = "",
    dataset: DatasetOption = "demo",
    new: Annotated[bool, typer.Option("--new", help="The customer has no transaction in the data set yet.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write down what a customer said; the next load heeds it.

    Example: fraudlab privacy consent record --customer - --purpose typology-review --event objection
    --source "letter of 2026-03-01"
    """
    import pandas as pd

    from fraudlab.datasets.customers import customer_code
    from fraudlab.privacy.auditlog import audit_log
    from fraudlab.privacy.consent import EVERY_PURPOSE, Ledger, why_not
    from fraudlab.privacy.scan import SHORTEST
    from fraudlab.schema import InputError

    workspace = workspace_of()
    purposes = _purposes(dataset, purpose)
    reference = _from_input() if customer == "-" else customer
    if len(reference) >= SHORTEST and reference.casefold() in f"{source}\n{note}".casefold():
        raise InputError("source and note: must not repeat the customer's reference; name the letter, not the person")
    code = customer_code(dataset, reference, new=new, workspace=workspace)
    basis = None if purpose == EVERY_PURPOSE else purposes[purpose]["basis"]
    ledger = Ledger(workspace.ledger)
    number = ledger.record(code, purpose, event, basis=basis, source=source, at=at or None, note=note)
    audit_log(workspace).append(ACTIONS[event], purpose=purpose, event=event, count=1, number=number)
    one = pd.Series([code], dtype="str")
    reasons = {
        name: why_not(ledger.standing(name), one, stated["basis"]).iloc[0]
        for name, stated in purposes.items()
        if purpose in (name, EVERY_PURPOSE)
    }
    left_out = {name: None if pd.isna(reason) else reason for name, reason in reasons.items()}
    if as_json:
        print_json({"number": number, "customer": code, "event": event, "left_out": left_out})
        return
    typer.echo(f"Recorded as event {number}: {event} of customer {code}.")
    for name, reason in left_out.items():
        typer.echo(
            f"  {name:<28} {'loads this customer' if reason is None else f'leaves this customer out ({reason})'}"
        )
    if event == "erasure":
        typer.echo(
            "Loads heed it; the rows and the key are still there. Next: fraudlab privacy erase, which completes it"
        )
        return
    typer.echo("Models trained before still know what they learnt. Next: fraudlab retrain")


@app.command()
def show(
    customer: Annotated[
        str, typer.Option(help="Only this customer's events; '-' reads the reference from input.")
    ] = "",
    purpose: Annotated[str, typer.Option(help="Only events that name this purpose.")] = "",
    dataset: DatasetOption = "demo",
    as_json: JsonOption = False,
) -> None:
    """Show a customer's events, or count all of them by purpose.

    Example: fraudlab privacy consent show --customer - --purpose typology-review
    """
    from fraudlab.datasets.customers import customer_code
    from fraudlab.privacy.consent import Ledger

    workspace = workspace_of()
    code = None
    if customer:
        reference = _from_input() if customer == "-" else customer
        code = customer_code(dataset, reference, new=True, workspace=workspace)
    events = Ledger(workspace.ledger).events(code, purpose or None)
    if as_json:
        print_json([{k: v for k, v in row.items() if v == v} for row in events.to_dict("records")])
    elif events.empty:
        typer.echo("No such event is recorded. Next: fraudlab privacy consent record --help")
    elif code is not None:
        for name in ("at", "recorded"):
            events[name] = events[name].dt.strftime("%Y-%m-%d %H:%M")
        print_table(events.drop(columns="customer"), f"Customer {code} (times in UTC)")
    else:
        counted = events.groupby(["purpose", "event"], as_index=False).agg(
            events=("number", "size"), customers=("customer", "nunique")
        )
        print_table(counted)
        typer.echo("\nNext: fraudlab privacy consent show --customer -   for one customer's events")


@app.command("import")
def import_events(
    file: Annotated[Path, typer.Argument(help="CSV: customer, purpose, basis, event, at, source and perhaps note.")],
    dataset: DatasetOption = "demo",
    new: Annotated[bool, typer.Option("--new", help="Accept customers without a transaction in it yet.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring in the events of a file, all or none; customers by reference or pseudonym. Twice adds nothing.

    Example: fraudlab privacy consent import consents.csv --dataset demo
    """
    from fraudlab.datasets.customers import customer_codes
    from fraudlab.privacy.auditlog import audit_log
    from fraudlab.privacy.consent import Ledger

    workspace = workspace_of()
    purposes = _purposes(dataset)

    def codes(references):
        found = customer_codes(dataset, references, workspace=workspace)
        return found["code"].where(found["held"] | found["given"] | new)

    counts = Ledger(workspace.ledger).import_csv(file, codes=codes, purposes=purposes)
    audit_log(workspace).append("consent", event="import", count=counts["added"])
    if as_json:
        print_json(counts)
        return
    typer.echo(
        f"{counts['rows']:,} events in {file.name}: {counts['added']:,} added, {counts['already']:,} there already."
    )
    typer.echo(f"If the file names customers, delete it. Next: fraudlab describe {dataset}")


@app.command()
def export(file: Annotated[Path, typer.Argument(help="CSV file to write, for its owner only.")]) -> None:
    """Write all events, with pseudonyms, as CSV.

    Example: fraudlab privacy consent export ledger.csv
    """
    from fraudlab.privacy.auditlog import audit_log
    from fraudlab.privacy.consent import Ledger

    workspace = workspace_of()
    rows = Ledger(workspace.ledger).export_csv(file)
    audit_log(workspace).append("export", what="consent ledger", rows=rows)
    typer.echo(f"{rows:,} events in {file}. Pseudonyms are personal data: keep it as safe as the ledger.")


def _purposes(dataset: str, named: str | None = None) -> dict[str, dict]:
    """Return a data set's purposes; refuse a name that is none of them."""
    from fraudlab.privacy.consent import EVERY_PURPOSE
    from fraudlab.privacy.keys import open_keys
    from fraudlab.privacy.vault import Vault
    from fraudlab.schema import InputError, did_you_mean

    workspace = workspace_of()
    purposes = Vault(workspace.vault, open_keys(workspace)).manifest(dataset)["purposes"]
    if named not in (None, EVERY_PURPOSE, *purposes):
        raise InputError(f"purpose: unknown '{named}'; {did_you_mean(str(named), purposes)}")
    return purposes


def _from_input() -> str:
    """Read a reference from standard input; on a terminal without showing it."""
    import getpass

    from fraudlab.schema import InputError

    given = getpass.getpass("Customer: ") if sys.stdin.isatty() else sys.stdin.readline()
    if not given.strip():
        raise InputError("customer: standard input held no reference; write it in its first line")
    return given.strip()
