"""`fraudlab audit`: show the audit log, check that nobody tampered with it, sign its newest entry."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fraudlab.commands.shared import JsonOption, print_json, print_table, workspace_of

app = typer.Typer(help="Who did what and when: the tamper-evident log.", no_args_is_help=True)


@app.command()
def show(
    action: Annotated[str, typer.Option(help="Only this action, e.g. load, refuse, reidentify.")] = "",
    since: Annotated[str, typer.Option(help="Only from this moment on, with a time zone: 2026-06-01T00:00Z.")] = "",
    last: Annotated[int, typer.Option(min=1, help="At most so many, the newest ones.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Show who did what and when.

    Example: fraudlab audit show --action load --since 2026-06-01T00:00Z --last 50
    """
    from rich.markup import escape

    from fraudlab.privacy.auditlog import audit_log

    table = audit_log(workspace_of()).entries(action or None, since or None, last)
    if as_json:
        print_json(table.assign(time=table["time"].map(lambda moment: moment.isoformat())).to_dict("records"))
        return
    if table.empty:
        typer.echo("No such entry. Next: fraudlab audit show, without --action and --since, shows the newest ones")
        return
    table["time"] = table["time"].dt.strftime("%Y-%m-%d %H:%M:%SZ")
    table["facts"] = table["facts"].map(lambda facts: escape(_in_short(facts)))
    print_table(table)
    typer.echo("\nWhether it can be trusted: fraudlab audit verify")


@app.command()
def verify(
    anchor: Annotated[Path | None, typer.Option(help="What `fraudlab audit anchor` wrote, kept elsewhere.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check that no entry was changed, removed or inserted; exit 1 if any was.

    Example: fraudlab audit verify --anchor /media/safe/anchor-2026-06.json
    """
    from fraudlab.privacy.auditlog import audit_log, read_anchor

    outside = None if anchor is None else read_anchor(anchor)
    found = audit_log(workspace_of()).verify(outside)
    if as_json:
        print_json(
            {
                "ok": found.ok,
                "entries": found.entries,
                "problems": found.problems,
                "warnings": found.warnings,
                "first_bad": found.first_bad,
                "anchor": None if outside is None else outside["number"],
            }
        )
    else:
        for sentence in _verdict(found, outside):
            typer.echo(sentence)
    if not found.ok:
        raise typer.Exit(1)


@app.command()
def anchor(
    out: Annotated[Path | None, typer.Option(help="A new file for it; default: printed.")] = None,
) -> None:
    """Sign the newest entry; kept where nobody here can change it, it shows later whether the log was cut or rewritten.

    Example: fraudlab audit anchor --out /media/safe/anchor-2026-06.json
    """
    from fraudlab.privacy.auditlog import audit_log, write_anchor

    made = audit_log(workspace_of()).anchor()
    if out is None:
        print_json(made)
        return
    write_anchor(out, made)
    typer.echo(
        f"{out}: the anchor of entry {made['number']:,}. It holds no secret; keep it where whoever can change the log "
        f"cannot change it.\nNext, at any later time: fraudlab audit verify --anchor {out}"
    )


def _verdict(found: Any, outside: dict[str, Any] | None) -> list[str]:
    """Say what a check found, what that means, and what to do next."""
    said = [f"Odd: {warning}." for warning in found.warnings[:10]]
    if len(found.warnings) > 10:
        said.append(f"Odd: {len(found.warnings) - 10:,} more of this kind.")
    if not found.ok:
        said += [f"Wrong: {problem}." for problem in found.problems[:20]]
        if len(found.problems) > 20:
            said.append(f"Wrong: {len(found.problems) - 20:,} more places.")
        if found.first_bad is not None:
            trusted = "No entry" if found.first_bad <= 1 else f"Only what lies before entry {found.first_bad:,}"
            said.append(f"{trusted} can be trusted.")
        said.append("Next: keep the log as it is, compare it with the newest backup, find out who could write to it.")
    elif found.entries == 0:
        said.append("The audit log has no entries yet.")
    else:
        said.append(f"{found.entries:,} entries: each is as it was written, none is missing in between.")
    if outside is None:
        said.append(
            "Without an outside anchor it cannot be noticed that the tail was cut off, the log removed, or all of it "
            "rewritten with a stolen key. Next: fraudlab audit anchor --out FILE, and keep FILE elsewhere"
        )
    elif found.ok:
        said.append(
            f"The anchor of {outside['time']} fits: up to entry {outside['number']:,} nothing was cut off or rewritten."
        )
    return said


def _in_short(facts: dict[str, Any]) -> str:
    return ", ".join(f"{name}={_value(value)}" for name, value in facts.items())


def _value(value: Any) -> str:
    if isinstance(value, list):
        return "+".join(map(_value, value))
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    # What would move the cursor or colour the screen is shown, not sent there.
    return str(value) if str(value).isprintable() else ascii(value)
