"""`fraudlab backup`: make, verify, restore and list backups, and rehearse the emergency."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fraudlab.commands.shared import JsonOption, print_json, print_table, workspace_of

app = typer.Typer(
    help="Make, verify and restore backups of everything but the keys, and rehearse the emergency.",
    no_args_is_help=True,
)

FileArgument = Annotated[
    Path | None, typer.Argument(help="What `fraudlab backup create` wrote. Default: the newest in backups/.")
]
RepositoryOption = Annotated[
    str, typer.Option("--repository", help="A restic repository, instead of fraudlab's own archive; needs restic.")
]
PasswordFile = Annotated[
    Path | None, typer.Option("--password-file", help="File that holds the repository's password.")
]
PasswordCommand = Annotated[
    str, typer.Option("--password-command", help="Command that prints the repository's password.")
]


@app.command()
def create(
    out: Annotated[
        Path | None, typer.Option(help="New archive; best on another disk. Default: backups/<UTC time>.flbk.")
    ] = None,
    repository: RepositoryOption = "",
    password_file: PasswordFile = None,
    password_command: PasswordCommand = "",
    runs: Annotated[bool, typer.Option("--runs", help="Take runs/ too; MLflow holds the evidence already.")] = False,
    reports: Annotated[bool, typer.Option("--reports", help="Take reports/ too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Back up vault, ledger, audit log, MLflow and configs, while others go on working. The keys are not in it.

    Example: fraudlab backup create --out /media/safe/fraudlab.flbk
    """
    from fraudlab import backup
    from fraudlab.tracking_place import settings_of

    chosen = _repository(repository, password_file, password_command)
    done = backup.create(workspace_of(), out=out, repository=chosen, runs=runs, reports=reports)
    if as_json:
        print_json(done)
        return
    if chosen is None:
        typer.echo(f"{done['backup']}: {done['size'] / 1e6:,.1f} MB, fraudlab's own encrypted archive (not restic).")
    else:
        typer.echo(f"Snapshot {done['backup'][:8]} in {chosen.name}, made and encrypted by restic.")
    for name, rows in done["data_sets"].items():
        typer.echo(f"  data set {name:<24} {', '.join(f'{kind} {n:,} rows' for kind, n in rows.items())}")
    for name, tables in done["tables"].items():
        typer.echo(f"  {name:<33} {sum(tables.values()):,} rows in {len(tables)} tables")
    typer.echo(f"  {done['files']:,} files, {done['bytes'] / 1e6:,.1f} MB, in {done['seconds']:.1f} s")
    if (team := settings_of(workspace_of())) is not None:
        typer.echo(f"Runs and models are the team's, in {team.shown}: dump that database and copy its files too.")
    typer.echo("The keys are not in it, and it is worth nothing without them: fraudlab keys backup FILE, kept apart.")
    typer.echo(f"Next: {_again('fraudlab backup verify', chosen, out)}")


@app.command()
def verify(
    file: FileArgument = None,
    repository: RepositoryOption = "",
    password_file: PasswordFile = None,
    password_command: PasswordCommand = "",
    as_json: JsonOption = False,
) -> None:
    """Read and decrypt every byte of a backup, open every database in it, compare every count; exit 1 if one is wrong.

    Example: fraudlab backup verify
    """
    from fraudlab import backup

    workspace = workspace_of()
    source = _source(workspace, file, repository, password_file, password_command)
    found = backup.verify(source, workspace)
    if as_json:
        print_json(found)
    elif found["ok"]:
        typer.echo(
            f"{found['backup']} of {found['created']}: all {found['files']:,} files as written, "
            f"{found['bytes'] / 1e6:,.1f} MB, in {found['seconds']:.1f} s."
        )
        typer.echo("Whether it loads and scores: fraudlab backup drill")
    else:
        for problem in found["problems"]:
            typer.echo(problem, err=True)
        typer.echo("This backup cannot be trusted. Next: fraudlab backup create", err=True)
    if not found["ok"]:
        raise typer.Exit(1)


@app.command()
def restore(
    into: Annotated[Path, typer.Option(help="A new folder; the present project is never touched.")],
    file: FileArgument = None,
    repository: RepositoryOption = "",
    password_file: PasswordFile = None,
    password_command: PasswordCommand = "",
    force: Annotated[
        bool, typer.Option("--force", help="If the folder is not empty, rename it; it is kept beside the new one.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Put a backup into a new folder, verified on the way, all of it or nothing; erasures since are replayed.

    Example: fraudlab backup restore backups/2026-06-01T02-00-00-000000Z.flbk --into /srv/fraudlab-restored
    """
    from fraudlab import backup
    from fraudlab.scoring import rights as remembered

    workspace = workspace_of()
    source = _source(workspace, file, repository, password_file, password_command)
    done = backup.restore(source, into, workspace, force=force)
    if as_json:
        print_json(done)
        return
    typer.echo(
        f"{done['backup']} of {done['created']} is in {done['into']}: {done['files']:,} files, "
        f"{done['bytes'] / 1e6:,.1f} MB, in {done['seconds']:.1f} s."
    )
    if done["aside"]:
        typer.echo(f"What was there is now in {done['aside']}.")
    for name, ids in done["keys"].items():
        for identity, here in ids.items():
            said = "is here" if here else "is NOT here: fraudlab keys restore, with an older backup of the keys"
            typer.echo(f"  needs key {name:<12} {identity} {said}")
    replayed = done["replayed"]
    typer.echo(f"{replayed['events']:,} newer events of the ledger were brought over.")
    for name, rows in replayed["data_sets"].items():
        typer.echo(f"Data set {name}: {rows:,} rows of customers erased since the backup were erased again.")
    for name, n in replayed["corrected"].items():
        typer.echo(f"Data set {name}: {n:,} correction(s) made since the backup were put in again.")
    for sentence in remembered.said(replayed["states"]):
        typer.echo(f"{sentence[0].upper()}{sentence[1:]}.")
    if replayed["revoked"]:
        typer.echo(
            f"Sets of indicators revoked since the backup were let go of again: {', '.join(replayed['revoked'])}."
        )
    if replayed["left"]:
        typer.echo(f"Not done again yet: {replayed['left']}", err=True)
    for each in done["due"]:
        typer.echo(f"Model {each['name']} version {each['version']} is due to be trained again: {each['reason']}.")
    typer.echo(f"Next: FRAUDLAB_HOME={done['into']} FRAUDLAB_KEYS={workspace.keys} fraudlab describe")


@app.command()
def drill(
    file: FileArgument = None,
    repository: RepositoryOption = "",
    password_file: PasswordFile = None,
    password_command: PasswordCommand = "",
    as_json: JsonOption = False,
) -> None:
    """Rehearse the emergency: restore in private, load, score, compare with here; exit 1 if anything differs.

    Example: fraudlab backup drill
    """
    workspace = workspace_of()
    source = _source(workspace, file, repository, password_file, password_command)
    from fraudlab.backup.drill import drill as rehearse

    table = rehearse(source, workspace)
    red = table[~table["ok"]]
    if as_json:
        print_json({"backup": source.name, "ok": red.empty, "steps": table.to_dict("records")})
    else:
        shown = table.assign(ok=table["ok"].map({True: "yes", False: "NO"}), seconds=table["seconds"].round(2))
        print_table(shown, f"Drill with {source.name}")
        typer.echo(
            "\nThe backup can be worked with. Next: fraudlab keys backup FILE, if the keys have changed since"
            if red.empty
            else "\nRed: this backup would not bring everything back. Next: fraudlab backup create, then drill again"
        )
    if not red.empty:
        raise typer.Exit(1)


@app.command("list")
def list_backups(
    repository: RepositoryOption = "",
    password_file: PasswordFile = None,
    password_command: PasswordCommand = "",
    as_json: JsonOption = False,
) -> None:
    """List the backups in backups/, or the snapshots of a restic repository, newest first.

    Example: fraudlab backup list
    """
    from fraudlab import backup

    table = backup.backups_table(workspace_of(), _repository(repository, password_file, password_command))
    if as_json:
        print_json(table.astype(object).where(table.notna(), None).to_dict("records"))
    elif table.empty:
        typer.echo("No backup yet. Next: fraudlab backup create")
    else:
        print_table(table)


def _repository(address: str, password_file: Path | None, password_command: str) -> Any:
    from fraudlab.backup import Repository
    from fraudlab.schema import InputError

    if address:
        return Repository(address, password_file, password_command or None)
    if password_file is not None or password_command:
        raise InputError("repository: a password was given, and no repository; name it with --repository")
    return None


def _source(workspace: Any, file: Path | None, address: str, password_file: Path | None, password_command: str) -> Any:
    """Return the repository or the archive that is meant, the newest archive by default."""
    from fraudlab.backup import newest
    from fraudlab.schema import InputError

    repository = _repository(address, password_file, password_command)
    if repository is not None and file is not None:
        raise InputError("file: a repository was named too; give one of them")
    return repository or file or newest(workspace)


def _again(command: str, repository: Any, file: Path | None) -> str:
    if repository is None:
        return command if file is None else f"{command} {file}"
    return f"{command} --repository ..., with the same password option"
