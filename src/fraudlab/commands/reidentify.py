"""`fraudlab privacy enrol` and `fraudlab privacy reidentify`: a second factor, and the one customer behind a case."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from fraudlab.commands.shared import JsonOption, print_json, workspace_of


def enrol(
    name: Annotated[str, typer.Option(help="What the app shows beside 'fraudlab'; default: the account's name.")] = "",
    reset: Annotated[
        bool, typer.Option("--reset", help="Replace it without a code of the old one, such as when the device is lost.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Why it is reset, for the audit log.")] = "",
) -> None:
    """Give this account a second factor: six digits from an authenticator app, needed to look a customer up.

    The secret is shown once. Scan it with the app, type the code, clear the screen.

    Example: fraudlab privacy enrol --name ann
    """
    import segno

    from fraudlab.privacy.secondfactor import app_address, check_reason, new_secret, second_factor
    from fraudlab.schema import InputError

    if reason and not reset:
        raise InputError("--reason: is for --reset only; leave it out, or add --reset if the device is lost")
    if reset:
        check_reason(reason)
    factor = second_factor(workspace_of())
    replacing = factor.enrolled and not reset
    if replacing:
        factor.check(typed("Code of the present second factor"))
    secret = new_secret()
    segno.make(app_address(secret, name)).terminal(compact=True)
    typer.echo(f"Scan this with an authenticator app, or type its key in: {_in_fours(secret)}")
    factor.enrol(
        secret,
        typed("Code that the app shows now"),
        old_code_checked=replacing,
        reset_reason=reason if reset else None,
    )
    typer.echo("The second factor is enrolled; this code is used up. Clear the screen: the secret is not shown again.")
    typer.echo('Next: fraudlab privacy reidentify demo --transaction P00000001 --reason "call back on alert"')


def reidentify(
    dataset: Annotated[str, typer.Argument(help="A data set in the vault.")],
    reason: Annotated[
        str, typer.Option(help="Why, at least 10 characters, for the audit log; names the case, not the person.")
    ],
    transaction: Annotated[
        str | None, typer.Option("--transaction", "--alert", help="The transaction that raised the alert.")
    ] = None,
    pseudonym: Annotated[str | None, typer.Option(help="Or the customer's pseudonym.")] = None,
    case: Annotated[str | None, typer.Option(help="Or the code of a case in the queue.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show who is behind one case, on this terminal only; needs the key `identity` and a code, and is logged first.

    The code is asked for, or read from standard input. It works once.

    Example: fraudlab privacy reidentify demo --transaction P00000001 --reason "call back on alert"
    """
    from fraudlab.datasets.labelling import payments_of_case
    from fraudlab.datasets.reidentify import reidentify as look_up
    from fraudlab.schema import InputError

    workspace, payments = workspace_of(), []
    if case is not None:
        if transaction is not None or pseudonym is not None:
            raise InputError(
                "case: name one case, one transaction or one pseudonym; found several; look up one at a time"
            )
        payments = payments_of_case(dataset, case, workspace)
        transaction = payments[0]
    identity = look_up(
        dataset,
        reason=reason,
        code=lambda: typed("Code of the second factor"),
        transaction=transaction,
        pseudonym=pseudonym,
        workspace=workspace,
    )
    named = case or transaction or pseudonym
    if as_json:
        print_json({"case": named, "payments": payments, "identity": identity})
        return
    typer.echo(f"Identity of one customer, for case {named}; this look-up is logged\n")
    for number, payment in enumerate(payments, start=1):
        typer.echo(f"  payment {number:<8}  {payment}")
    for column, values in identity.items():
        typer.echo(f"  {column:<16}  {_printable(', '.join(values))}")
    typer.echo("\nDo not copy it elsewhere. Who looked up whom: fraudlab audit show --action reidentify")


def typed(what: str) -> str:
    """Ask for a secret without showing it, or read a line of standard input; never an argument, which `ps` shows."""
    import getpass

    if sys.stdin.isatty():
        return getpass.getpass(f"{what}: ")
    return sys.stdin.readline().rstrip("\n")


def _printable(text: str) -> str:
    """Blank what a terminal would obey instead of show."""
    return "".join(character if character.isprintable() else " " for character in text)


def _in_fours(secret: str) -> str:
    return " ".join(secret[i : i + 4] for i in range(0, len(secret), 4))
