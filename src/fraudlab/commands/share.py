"""`fraudlab share`: indicators of fraud for, and from, other institutions, without revealing customers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fraudlab.commands.shared import DEMO, ConfigOption, JsonOption, print_json, print_table, workspace_of

app = typer.Typer(help="Share indicators of fraud with other institutions.", no_args_is_help=True)

AtOption = Annotated[
    str, typer.Option("--at", help="Simulated payments only: the moment that stands in for now, with a time zone.")
]


@app.command("key")
def share_key(
    agreement: Annotated[str, typer.Argument(help="A name for the agreement, the same for both parties.")],
    me: Annotated[str, typer.Option(help="What this institution is called in it.")],
    partner: Annotated[str, typer.Option(help="What the other one is called.")],
    out: Annotated[Path, typer.Option(help="New file for the partner; it holds the shared key.")],
) -> None:
    """Begin an agreement: make a shared key, and the file that brings it to the partner.

    Who has the file can test guesses against everything that is shared: hand it over encrypted, then destroy it.

    Example: fraudlab share key cards-2026 --me bank-a --partner bank-b --out /media/safe/cards-2026.json
    """
    from fraudlab import sharing

    made = sharing.agree(workspace_of(), agreement, me, partner, out)
    typer.echo(f"Agreement {made.name} with {made.partner}: shared key {made.key_id}, for the partner in {out}.")
    typer.echo(f"Next, there: fraudlab share join {out.name}")


@app.command("join")
def share_join(file: Annotated[Path, typer.Argument(help="What the partner's `fraudlab share key` wrote.")]) -> None:
    """Take in the shared key of an agreement that the partner began.

    Example: fraudlab share join cards-2026.json
    """
    from fraudlab import sharing

    workspace = workspace_of()
    made = sharing.join(workspace, file)
    typer.echo(f"Agreement {made.name} with {made.partner}: shared key {made.key_id}; sets of theirs can be taken in.")
    typer.echo(f"Our public key, for theirs: {sharing.sharing_of(workspace).public_key()}")
    typer.echo(f"Next, if we send too, there: fraudlab share trust {made.name} --public-key KEY; here, destroy {file}")


@app.command("trust")
def share_trust(
    agreement: Annotated[str, typer.Argument(help="Whose partner.")],
    public_key: Annotated[str, typer.Option(help="What `fraudlab share join` showed there, told on another way.")],
) -> None:
    """Note the public key that the partner signs with, so that sets of theirs can be taken in.

    Example: fraudlab share trust cards-2026 --public-key $(cat their-public-key)
    """
    from fraudlab import sharing

    made = sharing.trust(workspace_of(), agreement, public_key)
    typer.echo(f"What {made.partner} signs with this key is taken in from now on.")


@app.command("export")
def share_export(
    agreement: Annotated[str, typer.Argument(help="With whom; see `fraudlab share list`.")],
    licence: Annotated[str, typer.Option(help="What the partner may do with it, in a sentence.")],
    out: Annotated[
        Path | None, typer.Option(help="New file for the partner; left out: only say what would leave.")
    ] = None,
    config: ConfigOption = DEMO,
    purpose: Annotated[list[str] | None, typer.Option(help="What it may be used for. Repeatable.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="merchant, device, ip, network. Repeatable.")] = None,
    days: Annotated[int, typer.Option(help="Until it expires.")] = 90,
    lookback: Annotated[int, typer.Option(help="Frauds of so many days count.")] = 60,
    k: Annotated[int, typer.Option("--k", help="Customers that each merchant or network must rest on.")] = 10,
    rules: Annotated[bool, typer.Option("--rules/--no-rules", help="The book's active rules too.")] = True,
    at: AtOption = "",
    as_json: JsonOption = False,
) -> None:
    """Write what a partner may know: codes of compromised merchants, devices and addresses, coarse tables, rules.

    Payments of customers who object do not count. No customer, no pseudonym and no count below k leaves.

    Example: fraudlab share export cards-2026 --licence "To stop payments; not to be passed on." --out for-bank-b.json
    """
    from fraudlab import sharing
    from fraudlab.config import load_config

    workspace, loaded = workspace_of(config), load_config(config)
    made = sharing.export_set(
        loaded,
        workspace,
        agreement,
        licence=licence,
        purposes=purpose or sharing.USES,
        kinds=kind or tuple(sharing.KINDS),
        lookback_days=lookback,
        valid_days=days,
        k=k,
        rules=rules,
        now=sharing.replayed(workspace, loaded, at),
    )
    name = None if out is None else sharing.write_export(workspace, made, out)
    package = made.package
    if as_json:
        told = {"id": name, "table": made.table.to_dict("records"), "rules_kept_back": made.skipped}
        print_json(told | {"rules": len(package["rules"]), "aggregates": len(package["aggregates"])})
        return
    print_table(made.table)
    typer.echo(f"\nGroups of payments told of: {len(package['aggregates'])}; rules: {len(package['rules'])}")
    for rule, why in made.skipped.items():
        typer.echo(f"Rule '{rule}' stays here: {why}.")
    if out is None:
        typer.echo("Nothing was written. Next: the same with --out FILE")
    else:
        typer.echo(f"Set {name} for {package['receiver']}, until {package['expires'][:10]}: {out}")
        typer.echo(f"Next, there: fraudlab share import {out.name}")


@app.command("import")
def share_import(
    file: Annotated[Path, typer.Argument(help="What the partner's `fraudlab share export` wrote.")],
    config: ConfigOption = DEMO,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would do.")] = False,
    at: AtOption = "",
    as_json: JsonOption = False,
) -> None:
    """Check a set from a partner and use it from now on: as columns of loads and of scoring, and as rules.

    Example: fraudlab share import for-bank-b.json --dry-run
    """
    from fraudlab import sharing
    from fraudlab.config import load_config
    from fraudlab.privacy.sharing import described

    workspace, loaded = workspace_of(config), load_config(config)
    now = sharing.replayed(workspace, loaded, at)
    done = sharing.import_set(loaded, workspace, file, dry_run=dry_run, now=now)
    facts = described(done.held)
    if as_json:
        told = {"dry_run": dry_run, "set": facts, "effect": done.effect.to_dict("records")}
        print_json(told | {"unfit_rules": done.unfit, "note": done.note})
        return
    typer.echo(f"Set {facts['id']} from {facts['sender']}, until {facts['expires'][:10]}")
    typer.echo(f"for: {', '.join(facts['purposes'])}; licence: {_plain(facts['licence'])}\n")
    print_table(done.effect)
    typer.echo("\npayments, customers: of the 90 days before, had it been known; none of these is flagged")
    for rule, why in done.unfit.items():
        typer.echo(f"Rule '{rule}' does not fit here: {why}")
    if done.note:
        typer.echo(f"{done.note[0].upper()}{done.note[1:]}.")
    if dry_run:
        typer.echo("It was a trial: nothing is used. Next: the same without --dry-run")
        return
    typer.echo("Payments from now on are flagged; a scorer that is running must be started anew.")
    typer.echo(f"Next: a rule such as 'indicator_merchant = 1'; its rules: fraudlab share rules {facts['id']}")


@app.command("list")
def share_list(as_json: JsonOption = False) -> None:
    """List the agreements, and the sets that came in: in use, expired, revoked.

    Example: fraudlab share list
    """
    from fraudlab import sharing

    told = sharing.listed(workspace_of())
    if as_json:
        print_json(told)
        return
    if not told["agreements"]:
        typer.echo("No agreement yet. Next: fraudlab share key NAME --me US --partner THEM --out FILE")
        return
    for each in told["agreements"]:
        typer.echo(f"{each['name']}: we are {each['me']}, with {each['partner']}; shared key {each['key_id']}")
        typer.echo(f"  their public key: {each['partner_key'] or 'not known yet'}")
    for each in told["sets"]:
        counts = ", ".join(f"{n:,} {kind}" for kind, n in each["indicators"].items()) or "no indicator"
        span = f"{each['valid_from'][:10]} to {each['expires'][:10]}"
        typer.echo(f"set {each['id']} from {each['sender']}: {each['state']}, {span}; {counts}; rules: {each['rules']}")


@app.command("rules")
def share_rules(name: Annotated[str, typer.Argument(help="A set that is held.")]) -> None:
    """Print the rules of a set as TOML for a rule book, as shadow rules: measured first, promoted by a person.

    Example: fraudlab share rules 1f2e3d4c5b6a7988
    """
    from fraudlab import sharing

    typer.echo(sharing.rules_of(workspace_of(), name))


@app.command("revoke")
def share_revoke(
    name: Annotated[str, typer.Argument(help="A set that is held.")],
    reason: Annotated[str, typer.Option(help="Why, at least 10 characters, for the audit log.")],
) -> None:
    """Let a set go: its codes are removed and no payment is flagged by it any more, past ones neither.

    Example: fraudlab share revoke 1f2e3d4c5b6a7988 --reason "the sender withdrew it"
    """
    from fraudlab import sharing

    left = sharing.revoke(workspace_of(), name, reason)
    typer.echo(f"Set {name} of {left['sender']} is revoked. Models that were trained with it know it still: retrain.")


def _plain(text: Any) -> str:
    """Blank what a terminal would obey instead of show."""
    return "".join(sign if sign.isprintable() else " " for sign in str(text))
