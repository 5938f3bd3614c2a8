"""`fraudlab keys`: see, rotate, back up, restore and serve the keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fraudlab.commands.shared import JsonOption, print_json, print_table, workspace_of

app = typer.Typer(help="See, rotate, back up, restore and serve the keys.", no_args_is_help=True)

OPENS = {
    "features": "the pseudonymised transactions",
    "identity": "the raw identities",
    "manifest": "nothing; seals what the vault says of itself",
    "pseudonym": "nothing; makes pseudonyms, and can test a guess",
    "audit": "nothing; seals the audit log",
    "audit-sign": "nothing; signs the audit log's anchors",
    "report-sign": "nothing; signs reports",
    "backup": "the backups",
    "share": "nothing; codes what is shared under an agreement",
    "sharing": "agreements with other institutions and what came in by them; signs indicators",
    "second-factor": "the secrets of the authenticator apps",
    "scoring": "what live scoring remembers",
}

PassphraseFile = Annotated[
    Path | None, typer.Option("--passphrase-file", help="File (0600) whose first line is the passphrase.")
]
PassphraseDescriptor = Annotated[
    int | None, typer.Option("--passphrase-fd", help="Open file descriptor to read the passphrase from.")
]


@app.command("list")
def keys_list(as_json: JsonOption = False) -> None:
    """List the keys this account can use: id, age, what they open, who can use them, which data sets need them.

    Example: fraudlab keys list
    """
    import datetime as dt

    import pandas as pd

    from fraudlab.privacy.rotation import users
    from fraudlab.schema import FraudlabError

    vault = _vault()
    try:
        used, unknown = users(vault), ""
    except FraudlabError as error:
        used, unknown = {}, str(error)
    now = dt.datetime.now(dt.UTC)
    rows = [
        {
            "name": key.name,
            "id": key.id,
            "age_days": round((now - key.made) / dt.timedelta(days=1), 1),
            "opens": OPENS.get(key.name, OPENS.get(key.name.partition("-")[0], ""))
            + (" (being retired: rotate again to finish)" if key.retired else ""),
            "readers": key.readers,
            "data_sets": None if unknown else used.get(key.id, []),
        }
        for key in vault.keys.held()
    ]
    if as_json:
        print_json(rows)
    elif not rows:
        typer.echo("This account has no key yet. Next: fraudlab ingest --config configs/demo.toml")
    else:
        shown = pd.DataFrame(rows)
        shown["data_sets"] = ["unknown" if names is None else ", ".join(names) for names in shown["data_sets"]]
        print_table(shown)
        typer.echo("\nNext: fraudlab keys backup FILE, on a disk that does not hold the vault")
    if unknown:
        typer.echo(f"Which data sets need them is not known: {unknown}", err=True)


@app.command("rotate")
def keys_rotate(
    name: Annotated[str, typer.Argument(help="features, identity, manifest, scoring or report-sign.")],
    as_json: JsonOption = False,
) -> None:
    """Give everything a key opens a new key, then destroy the old one. Killed at any moment, all stays readable.

    For `scoring`, end `fraudlab monitor` and `fraudlab serve` first; they go on afterwards where they were.

    Only this project's vault is written anew: another project that shares the keys, and older copies of the vault, need
    a backup of the keys made before.

    Example: fraudlab keys rotate features
    """
    from rich.console import Console
    from rich.progress import Progress

    from fraudlab.privacy.rotation import rotate

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        bars: dict[str, Any] = {}

        def progress(dataset: str, done: int, rows: int) -> None:
            if dataset not in bars:
                bars[dataset] = bar.add_task(dataset, total=rows)
            bar.update(bars[dataset], completed=done)

        done = rotate(_vault(), name, progress=progress)
    _log("rotate", key=name, key_id=done["id"], data_sets=done["data_sets"], states=done["states"])
    if as_json:
        print_json(done)
        return
    if done["resumed"]:
        typer.echo("An interrupted rotation was found and finished.")
    renewed = [*done["data_sets"], *(f"live state of {model}" for model in done["states"])]
    sets = ", ".join(renewed) or "nothing"
    rows = f", {done['rows']:,} rows" if done["rows"] else ""
    typer.echo(f"{name}: the key is now {done['id']}, the old one is gone. Made anew: {sets}{rows}.")
    typer.echo("Next: fraudlab keys backup FILE, because earlier backups do not hold this key")


@app.command("backup")
def keys_backup(
    file: Annotated[Path, typer.Argument(help="New file for all keys, encrypted.")],
    passphrase_file: PassphraseFile = None,
    passphrase_fd: PassphraseDescriptor = None,
) -> None:
    """Write all keys into one file, encrypted with a passphrase that is asked for twice.

    Keep the file apart from the vault, and the passphrase apart from both: with all three everything can be read.

    Example: fraudlab keys backup /media/safe/fraudlab-keys.json
    """
    from fraudlab.privacy.keybackup import backup_keys
    from fraudlab.privacy.keys import open_folder

    keys = open_folder(workspace_of())
    ids = backup_keys(keys, file, _passphrase(passphrase_file, passphrase_fd, twice=True))
    _log("backup", keys=sorted(Path(name).stem for name in ids))
    for name, identity in ids.items():
        typer.echo(f"  {Path(name).stem:<12} {identity}")
    typer.echo(
        f"All {len(ids)} are in {file}. Next: fraudlab keys restore {file} tries it and changes no key that is here"
    )


@app.command("restore")
def keys_restore(
    file: Annotated[Path, typer.Argument(help="What `fraudlab keys backup` wrote.")],
    passphrase_file: PassphraseFile = None,
    passphrase_fd: PassphraseDescriptor = None,
) -> None:
    """Put the keys of a backup back where they are missing; another key under the same name is never replaced.

    Example: fraudlab keys restore /media/safe/fraudlab-keys.json
    """
    from fraudlab.privacy.keybackup import restore_keys
    from fraudlab.privacy.keys import open_folder

    keys = open_folder(workspace_of())
    ids = restore_keys(keys, file, _passphrase(passphrase_file, passphrase_fd, twice=False))
    _log("restore", keys=sorted(Path(name).stem for name in ids))
    for name, identity in ids.items():
        typer.echo(f"  {Path(name).stem:<12} {identity}")
    said = f"Back are {len(ids)} of the backup's keys" if ids else "The backup opens, and all its keys are here already"
    typer.echo(f"{said}. Next: fraudlab keys list")


@app.command("serve")
def keys_serve(
    socket: Annotated[Path, typer.Option("--socket", help="Socket to listen on, in a folder of this account.")],
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", help="account:key,key, by name or number; `rotate` among the keys. Repeatable."),
    ] = None,
    log: Annotated[Path | None, typer.Option(help="Who unwrapped what; default: served.jsonl beside the keys.")] = None,
) -> None:
    """Keep the keys in this account and let others use, never see, those they need (Linux). Ctrl+C ends it.

    The others set FRAUDLAB_KEYS=unix:/run/fraudlab/keys.sock.

    Example: fraudlab keys serve --socket /run/fraudlab/keys.sock --allow analyst:features,manifest
    """
    import signal

    from fraudlab.privacy.keys import open_folder
    from fraudlab.privacy.keyserver import parse_grants, serve

    keys = open_folder(workspace_of())
    grants = parse_grants(allow or [])
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        serve(
            keys,
            socket.absolute(),
            grants,
            log or keys.path / "served.jsonl",
            ready=lambda: typer.echo(f"Serving. The others set FRAUDLAB_KEYS=unix:{socket.absolute()}"),
        )
    except KeyboardInterrupt:
        typer.echo("Ended; the socket is gone.")


def _log(event: str, **facts: Any) -> None:
    from fraudlab.privacy.auditlog import audit_log

    audit_log(workspace_of()).append("keys", event=event, **facts)


def _vault() -> Any:
    from fraudlab.privacy.keys import open_keys
    from fraudlab.privacy.vault import Vault

    workspace = workspace_of()
    return Vault(workspace.vault, open_keys(workspace))


def _passphrase(file: Path | None, descriptor: int | None, *, twice: bool) -> str:
    """Return the passphrase from a file, a descriptor or the terminal; an argument would stand in the process list."""
    import os
    import stat

    from fraudlab.schema import InputError

    if file is not None and descriptor is not None:
        raise InputError("passphrase: --passphrase-file and --passphrase-fd exclude each other; give one")
    if file is None and descriptor is None:
        return typer.prompt("Passphrase", hide_input=True, confirmation_prompt=twice)
    try:
        if file is not None and (mode := stat.S_IMODE(file.stat().st_mode)) & 0o077:
            raise InputError(
                f"--passphrase-file: {file} must be closed to others; found mode {mode:03o}; run: chmod 600 {file}"
            )
        with open(descriptor if file is None else file, encoding="utf-8") as source:
            return source.readline().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "not UTF-8"
        raise InputError(f"passphrase: could not be read ({reason}); name another file or descriptor") from None
