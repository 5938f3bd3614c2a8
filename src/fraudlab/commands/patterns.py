"""`fraudlab monitor patterns`: unusual payments that share something, for an analyst to confirm or dismiss."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fraudlab.commands.shared import DEMO, ConfigOption, JsonOption, print_json, print_table, workspace_of

app = typer.Typer()

CodeArgument = Annotated[str, typer.Argument(help="The pattern's code, as listed.")]
DatasetOption = Annotated[str, typer.Option(help="A data set in the vault.")]
BecauseOption = Annotated[str, typer.Option(help="Why, in a sentence that names nobody.")]
ByOption = Annotated[str, typer.Option(help="The role of who decided, such as desk-2; no person's name.")]
DecidedOption = Annotated[
    str, typer.Option(help="When, with a time zone; default: now, of simulated payments the newest search.")
]


@app.callback(invoke_without_command=True)
def patterns(
    context: typer.Context,
    config: ConfigOption = DEMO,
    model: Annotated[
        str, typer.Option(help="NAME@ALIAS or NAME/VERSION; default: the champion of the config's model.")
    ] = "",
    since: Annotated[
        str, typer.Option(help="Payments from then on, with a time zone; default: the last seven days.")
    ] = "",
    as_of: Annotated[str, typer.Option(help="What was known then; default: the config's own moment.")] = "",
    look: Annotated[bool, typer.Option("--search/--no-search", help="Search first, or show what is kept.")] = True,
    every: Annotated[bool, typer.Option("--all", help="Patterns that were decided on too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List groups of unusual payments that share a device, merchant, amount or place with more than chance explains.

    No label is used to find them; most unusual payments are honest, so each waits for a person's verdict.

    Example: fraudlab monitor patterns --config configs/demo.toml
    """
    if context.invoked_subcommand is not None:
        return
    from rich.console import Console

    from fraudlab.casework import patterns as found
    from fraudlab.config import load_config
    from fraudlab.schema import utc

    loaded, workspace = load_config(config), workspace_of(config)
    begin, moment = utc(since, "since") if since else None, utc(as_of, "as_of") if as_of else None
    done = None
    if look:
        with Console(stderr=True).status("") as status:
            done = found.search(
                loaded,
                workspace,
                model=model,
                since=begin,
                as_of=moment,
                progress=lambda text: status.update(f"{text} ..."),
            )
    table = found.patterns_table(loaded.dataset.name, workspace, as_of=moment, open_only=not every)
    if as_json:
        records = table.astype(object).where(table.notna(), None).to_dict("records")
        print_json({"search": done, "patterns": records})
        return
    if len(table):
        print_table(_shown(table, every))
    if done is not None:
        typer.echo(
            f"{done['payments']:,} payments since {done['since'][:10]}, {done['unusual']:,} of them unusual, "
            f"{done['tested']:,} devices, merchants, amounts and so on looked at: {done['found']:,} candidates, "
            f"{done['new']:,} of them new."
        )
    if not len(table):
        typer.echo("No pattern is open. Next: fraudlab monitor patterns --no-search --all")
        return
    typer.echo(f"Next: fraudlab monitor patterns show {table['pattern'].iloc[0]} --dataset {loaded.dataset.name}")


@app.command()
def show(
    code: CodeArgument,
    dataset: DatasetOption = "demo",
    out: Annotated[Path | None, typer.Option(help="The picture's file, .png or .svg; default: CODE.png here.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show one pattern: what is shared, how surprising it is, its payments, a rule that would catch it, and a picture.

    Customers appear as short codes; what they share is said in words. The look is in the audit log.

    Example: fraudlab monitor patterns show 6F13V-J6V4K --out pattern.png
    """
    from fraudlab import plots
    from fraudlab.casework.patterns import SHARES, pattern_facts
    from fraudlab.privacy.auditlog import audit_log
    from fraudlab.privacy.keys import replace_private
    from fraudlab.schema import InputError

    if out is not None and out.suffix.lower() not in (".png", ".svg"):
        raise InputError(f"--out: must end in .png or .svg; found '{out.suffix}'; name a picture such as pattern.png")
    workspace = workspace_of()
    found = pattern_facts(code, dataset, workspace)
    path = out or Path(f"{found.code}.png")
    picture = plots.pattern(found.payments, found.others, shared=SHARES[found.links[0]][0], facts=found.facts)
    # Written down first: what cannot be logged is not handed out.
    audit_log(workspace).append("export", what="pattern", dataset=dataset, pattern=found.code)
    replace_private(path, f"{picture.svg()}\n".encode() if path.suffix.lower() == ".svg" else picture.png)
    if as_json:
        told = {"pattern": found.code, "state": found.state, "verdict": found.verdict, "facts": found.facts}
        print_json(told | {"payments": found.payments.to_dict("records"), "picture": str(path)})
        return
    _tell(found)
    typer.echo(f"\nPicture: {path} (for its owner only; this look is in the audit log)")
    if found.state in ("open", "dismissed"):
        typer.echo(f"Next: fraudlab monitor patterns confirm {found.code} --as rule --because ...  (or --as fraud)")
        typer.echo(f"      fraudlab monitor patterns dismiss {found.code} --dataset {dataset} --because ...")


@app.command()
def confirm(
    code: CodeArgument,
    because: BecauseOption,
    decision: Annotated[
        list[str],
        typer.Option("--as", help="rule: into the rule book, as a shadow; fraud: labels. Give it twice for both."),
    ],
    config: ConfigOption = DEMO,
    by: ByOption = "",
    only: Annotated[str, typer.Option(help="Numbers of the payments that are fraud, as shown; default: all.")] = "",
    book: Annotated[Path | None, typer.Option(help="The rule book; default: rules.book of the config.")] = None,
    decided_at: DecidedOption = "",
    as_json: JsonOption = False,
) -> None:
    """Keep that a pattern is real: a shadow rule that is measured and not acted on, labels of its payments, or both.

    Example: fraudlab monitor patterns confirm 6F13V-J6V4K --as rule --because "accounts emptied with one device"
    """
    from fraudlab.casework import verdicts
    from fraudlab.config import load_config
    from fraudlab.schema import utc

    told = verdicts.confirm(
        code,
        load_config(config),
        workspace_of(config),
        decision=decision,
        because=because,
        by=by,
        only=only,
        decided_at=utc(decided_at, "decided_at") if decided_at else None,
        book=book,
    )
    if as_json:
        print_json(told)
        return
    typer.echo(f"Pattern {told['pattern']} is confirmed as {told['decision']}; it is in the audit log.")
    if rule := told.get("rule"):
        typer.echo(f"Rule {rule['id']} (shadow) in {rule['book']}, version {rule['version']}: {rule['expression']}")
        typer.echo(f"Next: fraudlab rules check --book {rule['book']}, then fraudlab rules backtest --period valid")
    if labels := told.get("labels"):
        typer.echo(f"{labels['new']:,} payments got the outcome fraud, {labels['already']:,} had it. Next: retrain")


@app.command()
def dismiss(
    code: CodeArgument,
    because: BecauseOption,
    dataset: DatasetOption = "demo",
    by: ByOption = "",
    decided_at: DecidedOption = "",
    as_json: JsonOption = False,
) -> None:
    """Keep that a pattern is nothing; its payments are not listed again, later ones that surprise are.

    Example: fraudlab monitor patterns dismiss 6F13V-J6V4K --because "a sale at the shop, seen on its page"
    """
    from fraudlab.casework import verdicts
    from fraudlab.schema import utc

    moment = utc(decided_at, "decided_at") if decided_at else None
    told = verdicts.dismiss(code, dataset, workspace_of(), because=because, by=by, decided_at=moment)
    if as_json:
        print_json(told)
        return
    typer.echo(f"Pattern {told['pattern']} is dismissed, {told['payments']:,} payments; it is in the audit log.")


def _shown(table: Any, every: bool) -> Any:
    """Lay the patterns out for a screen."""
    counts = zip(*(table[name] for name in ("observed", "of", "expected")))
    shown = {
        "pattern": table["pattern"],
        **({"state": table["state"]} if every else {}),
        "shares": table["shares"],
        "paid": [f"{n:,} by {who:,}" for n, who in zip(table["payments"], table["customers"])],
        "until": table["last"].dt.strftime("%m-%d"),
        "odd": [f"{k} of {n}" for k, n, _ in counts],
        "chance": table["expected"].round(1),
        "alerted": table["alerted"],
        "fraud": table["fraud"],
    }
    return table[[]].assign(**shown)


def _tell(found: Any) -> None:
    """Print what is known of a pattern."""
    from fraudlab.casework.patterns import SHARES

    facts, payments = found.facts, found.payments
    typer.echo(f"Pattern {found.code} of {found.dataset}, {found.state}")
    if found.verdict:
        said = found.verdict
        typer.echo(f"  {said['decision']} on {said['decided_at']:%Y-%m-%d} by {said['by']}: {said['because']}")
    for each in facts["shares"]:
        typer.echo(
            f"  {SHARES[each['link']][0]}: {each['customers']:,} of {each['of']:,} customers paid unusually, by chance "
            f"{each['expected']:.1f}; p {each['p']:.1g}, q {each['q']:.2g} for all that was looked at"
        )
    typer.echo(
        f"  {len(payments):,} payments, {int(payments['alerted'].sum()):,} of them alerted by the model, "
        f"{int(payments['fraud'].sum()):,} known as fraud; half of them as unusual as {facts['unusual']:.2%} of the "
        "payments before"
    )
    if facts["why"]:
        typer.echo(f"  unusual mostly by: {'; '.join(each.get('en', each['feature']) for each in facts['why'])}")
    if rule := facts["rule"]:
        typer.echo(f"  a rule for it: {rule['expression']}")
        typer.echo(f"    fires on {rule['fires']:,} of them and on {rule['others']:,} of {rule['out_of']:,} others")
    typer.echo()
    where = {"merchant": "merchant_id", "category": "merchant_category", "how": "channel", "in": "country"}
    marks = zip(payments["alerted"], payments["fraud"])
    shown = {
        "no.": payments["number"],
        "when": payments["event_time"].dt.strftime("%m-%d %H:%M"),
        "customer": payments["customer"],
        "amount": payments["amount"].map("{:,.2f}".format),
        **{said: payments[name] for said, name in where.items() if name in payments},
        "marks": [", ".join(word for word, true in zip(("alerted", "fraud"), mark) if true) for mark in marks],
    }
    print_table(payments[[]].assign(**shown))
