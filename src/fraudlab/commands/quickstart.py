"""`fraudlab quickstart`: from an unknown table to a contract, a config and a first model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fraudlab.commands.shared import JsonOption, print_json, print_table, workspace_of


def quickstart(
    context: typer.Context,
    data: Annotated[Path, typer.Argument(help="A CSV or Parquet file with a header row.")],
    time: Annotated[str, typer.Option(help="The column of the moment; several, with commas, where it is spread.")],
    label: Annotated[
        str, typer.Option(help="The column that says what is fraud: 0 and 1, true and false, yes and no.")
    ],
    entity: Annotated[str, typer.Option(help="The column that says whose row it is: customer, account, card.")] = "",
    amount: Annotated[str, typer.Option(help="The column of the amount; looked for by its name otherwise.")] = "",
    time_unit: Annotated[str, typer.Option(help="What a number in the time column counts: s, ms, h, d, 30d ...")] = "",
    name: Annotated[str, typer.Option(help="Of data set, run and model; default: made of the file's name.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for the two files; default: the project's configs/.")] = None,
    profile_only: Annotated[
        bool, typer.Option("--profile-only", help="Look and write the two files; no model.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over a contract and config of this name.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Look at an unknown table, propose a contract and a config for it, and train a first model by them.

    Both files are written to be read and edited; none is written over without --force. What names or locates a person
    does not enter, or only under a pseudonym; the table printed says what became of each column, and why.

    Example: fraudlab quickstart payments.csv --time paid_at --label is_fraud --entity customer_id
    """
    from fraudlab.datasets import quickstart as starting
    from fraudlab.datasets.profile import profile, summary
    from fraudlab.datasets.readers import existing, read_table, to_pandas
    from fraudlab.schema import InputError

    workspace = workspace_of()
    name = name or starting.name_of(data)
    if name != starting.name_of(Path(name)):
        raise InputError(f"--name: must be lower case letters, digits and hyphens; found '{name}'; shorten it to these")
    config_path = (out if out is not None else workspace.root / "configs") / f"{name}.toml"
    table = read_table(existing(data, "quickstart"))
    if not table.num_rows:
        raise InputError(f"quickstart: {data.name} has no rows; check the export and its filter")
    found = profile(to_pandas(table, data), time=time, label=label, entity=entity, amount=amount, time_unit=time_unit)
    proposal = starting.propose(found, name=name, data=data, config_path=config_path)
    config_path, contract_path = starting.write(proposal, config_path, force=force)
    ready = starting.ready_config(table.column_names, _shipped())
    del table
    if as_json:
        print_json(_facts(proposal, summary(found.plans), config_path, contract_path))
    else:
        _tell(data, proposal, found, summary(found.plans), ready)
        typer.echo(f"\n  contract  {_near(contract_path, workspace.root)}   (what enters, treated how)")
        typer.echo(f"  config    {_near(config_path, workspace.root)}   (features, split, model, budget)")
    if profile_only:
        if not as_json:
            typer.echo(f"\nNext: read both, then  fraudlab retrain --config {_near(config_path, workspace.root)}")
        return
    if not as_json:
        typer.echo("")
    commands: Any = context.find_root().command
    words = ["--config", str(config_path), *(["--json"] if as_json else [])]
    commands.get_command(context, "retrain").main(words, prog_name="fraudlab retrain", standalone_mode=False)


def _tell(data: Path, proposal: Any, found: Any, table: Any, ready: Path | None) -> None:
    frauds, rows = int(found.label.sum()), len(found.time)
    first, last = found.time.min(), found.time.max()
    typer.echo(
        f"{data.name}: {rows:,} rows, {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}, "
        f"{frauds:,} frauds ({frauds / rows:.2%})\n"
    )
    missing = table["missing"].where(table["missing"] == "0%", ", " + table["missing"] + " missing").replace("0%", "")
    holds = table["holds"] + ", " + table["distinct"] + " different" + missing
    print_table(table.assign(holds=holds)[["column", "holds", "becomes", "why"]])
    typer.echo(f"\n{proposal.split.fold.explain()}")
    lacking = sorted({name for lacks in proposal.left_out["lacks"] for name in lacks.split(", ")})
    less = f"; {len(proposal.left_out)} more need what the table lacks: {', '.join(lacking)}" if lacking else ""
    typer.echo(f"{proposal.features} inputs{less}.")
    typer.echo("\nAssumed:")
    for note in proposal.notes:
        typer.echo(f"  - {note}")
    if ready is not None:
        typer.echo(
            f"\nThis looks like a published set that has a config of its own, by its published protocol:\n"
            f"  fraudlab retrain --config configs/{ready.name} --set dataset.path={data}"
        )


def _facts(proposal: Any, table: Any, config_path: Path, contract_path: Path) -> dict[str, Any]:
    split = proposal.split
    return {
        "name": proposal.name,
        "config": str(config_path),
        "contract": str(contract_path),
        "columns": table.to_dict("records"),
        "inputs": proposal.features,
        "left_out": proposal.left_out.to_dict("records"),
        "split": {"test_share": split.test_share, "valid_share": split.valid_share, "delay_days": split.delay_days},
        "frauds": split.fold.frauds,
        "assumed": list(proposal.notes),
    }


def _shipped() -> Path:
    """Return the folder of the shipped configs."""
    return Path(__file__).resolve().parents[3] / "configs"


def _near(path: Path, root: Path) -> str:
    path = path.resolve()
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
