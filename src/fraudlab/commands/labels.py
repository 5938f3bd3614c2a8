"""`fraudlab labels import`, `record`, `show`, `maturity` and `blind-side`: outcomes come back as dated labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fraudlab.commands.shared import JsonOption, print_json, print_table, workspace_of

app = typer.Typer(
    help="Bring outcomes of reviews and chargebacks in as dated labels, and look at them.", no_args_is_help=True
)

DatasetOption = Annotated[str, typer.Option(help="A data set in the vault.")]
ByOption = Annotated[str, typer.Option(help="The role of who decided, such as desk-2; no person's name.")]
ZoneOption = Annotated[str, typer.Option("--timezone", help="What times without a zone of their own are in.")]
AsOfOption = Annotated[str, typer.Option(help="What was known then, with a time zone; default: all that is held.")]


@app.command("import")
def bring_in(
    file: Annotated[Path, typer.Argument(help="A filled queue or a table of chargebacks, .csv or .xlsx.")],
    dataset: DatasetOption = "demo",
    source: Annotated[
        str, typer.Option(help="How the cases were chosen: review (by the model) or random; chargebacks need none.")
    ] = "",
    by: ByOption = "",
    timezone: ZoneOption = "UTC",
    skip_unknown: Annotated[
        bool, typer.Option("--skip-unknown", help="Leave out rows whose case or payment is not held any more.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring a sheet's outcomes in: all of it or nothing; the same file twice changes nothing.

    Cases: alert_id, outcome (fraud, genuine, unsure), decided_at. Chargebacks: transaction_id, is_fraud, reported_at.

    Example: fraudlab labels import queue.xlsx --by desk-1
    """
    from fraudlab.datasets.labelling import import_outcomes

    done = import_outcomes(
        dataset,
        file,
        source=source or None,
        by=by,
        zone=timezone,
        skip_unknown=skip_unknown,
        workspace=workspace_of(),
    )
    _tell(done, dataset, as_json)


@app.command()
def record(
    alert_id: Annotated[str, typer.Argument(help="The case's code.")],
    outcome: Annotated[str, typer.Argument(help="fraud, genuine or unsure.")],
    decided_at: Annotated[str, typer.Option(help="When it was decided: '2026-03-01 14:30'; a day alone is its end.")],
    dataset: DatasetOption = "demo",
    only: Annotated[str, typer.Option(help="Numbers of the payments it is about, as on the sheet; default: all.")] = "",
    source: Annotated[str, typer.Option(help="How the case was chosen: review or random; default: as listed.")] = "",
    by: ByOption = "",
    timezone: ZoneOption = "UTC",
    as_json: JsonOption = False,
) -> None:
    """Bring the outcome of one case in.

    Example: fraudlab labels record 6F13V-J6V4K fraud --by desk-1 --decided-at "2026-06-29 16:10"
    """
    from fraudlab.datasets.labelling import record_outcome

    done = record_outcome(
        dataset,
        alert_id,
        outcome,
        decided_at=decided_at,
        only=only,
        source=source or None,
        by=by,
        zone=timezone,
        workspace=workspace_of(),
    )
    _tell(done, dataset, as_json)


@app.command()
def show(dataset: DatasetOption = "demo", as_of: AsOfOption = "", as_json: JsonOption = False) -> None:
    """Count the outcomes that are held, and what they change for the next training.

    Example: fraudlab labels show
    """
    from fraudlab.datasets.labelling import label_facts

    facts = label_facts(dataset, as_of=_moment(as_of), workspace=workspace_of())
    if as_json:
        print_json({name: _records(value) for name, value in facts.items()})
        return
    if facts["outcomes"].empty:
        typer.echo(f"No outcome of {dataset} came back yet. Next: fraudlab queue --out queue.xlsx")
        return
    print_table(facts["outcomes"], f"Outcomes of {dataset}")
    typer.echo()
    print_table(facts["changes"], "Labels, without and with outcomes")
    typer.echo()
    for each in facts["imports"]:
        typer.echo(f"{each['at'][:19].replace('T', ' ')}  {each['rows']:,} outcomes, {each['source']}")
    typer.echo("Reviewed cases were chosen by the model: they are no fair sample (fraudlab labels blind-side).")
    typer.echo("Next: fraudlab retrain")


@app.command()
def maturity(
    dataset: DatasetOption = "demo",
    as_of: AsOfOption = "",
    out: Annotated[Path | None, typer.Option(help="Write the picture by source to this file, .svg.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show how fast labels become known: with what the source says alone and with outcomes, and source by source.

    Frauds not reported yet cannot be seen, so plain delays are too short; the table by source corrects for it and
    gives 95 % intervals. Cases that wait for a decision count for as long as they have waited.

    Example: fraudlab labels maturity --out maturity.svg
    """
    from fraudlab.datasets.labelling import maturity_table
    from fraudlab.datasets.maturity import SOURCES, maturity_by_source
    from fraudlab.schema import InputError

    if out is not None and out.suffix.lower() != ".svg":
        raise InputError(f"--out: must end in .svg; found '{out.suffix}'; name a picture such as maturity.svg")
    table = maturity_table(dataset, as_of=_moment(as_of), workspace=workspace_of())
    by_source = maturity_by_source(dataset, as_of=_moment(as_of), workspace=workspace_of())
    if out is not None:
        from fraudlab import plots
        from fraudlab.runs import write_whole

        write_whole(out, plots.maturity_by_source(by_source, SOURCES).svg() + "\n")
    if as_json:
        print_json({"known": table.to_dict("records"), "by_source": by_source.to_dict("records")})
        return
    text = {name: table[name].map("{:.1%}".format) for name in table.columns[1:]}
    told = table.assign(**text)[_telling_days(table["days_since_event"])]
    print_table(told, f"Share of labels known so many days after the payment: {dataset}")
    for source, rows in by_source.groupby("source", sort=False):
        typer.echo()
        text = {name: rows[name].map("{:.1%}".format) for name in ("share", "low", "high")}
        told = rows.assign(**text).loc[_telling_days(rows["days"]), ["days", "share", "low", "high"]]
        print_table(told, f"{SOURCES[source]}: share known by then, of {rows['n'].iloc[0]:,} known today")
    if out is not None:
        typer.echo(f"Picture: {out}")


@app.command("blind-side")
def blind_side(dataset: DatasetOption = "demo", as_of: AsOfOption = "", as_json: JsonOption = False) -> None:
    """Estimate from random checks how many frauds the queue does not list, and which share of all it does.

    Cases are drawn by chance while `decision.explore_per_day` is above 0; their outcomes come back like all others.

    Example: fraudlab labels blind-side
    """
    from fraudlab.datasets import blindside

    table = blindside.blind_side(dataset, as_of=_moment(as_of), workspace=workspace_of())
    if as_json:
        print_json(table.drop(columns="threshold").astype(object).where(table.notna(), None).to_dict("records"))
        return
    numbers = {name: [_figure(metric, value) for metric, value in zip(table["metric"], table[name])]
               for name in ("value", "low", "high")}  # fmt: skip
    shown = table.assign(**numbers, figure=table["metric"].map(blindside.FIGURES))
    print_table(shown[["figure", "value", "low", "high", "n", "note"]], f"What random checks say: {dataset}")


def _telling_days(days: Any) -> Any:
    return days.isin([0, 1, 2, 3, 5, 7, 10, 14, 21, 28, 45, 60, 90, 120, 180]) | (days == days.max())


def _figure(metric: str, value: float) -> str:
    if value != value:
        return ""
    share = metric in ("random_checks", "queue_recall", "queue_precision")
    return f"{value:.1%}" if share else f"{value:,.1f}"


def _tell(done: dict[str, Any], dataset: str, as_json: bool) -> None:
    if as_json:
        print_json(done)
        return
    found = ", ".join(f"{done[word]:,} {word}" for word in ("fraud", "genuine", "unsure") if done[word])
    typer.echo(
        f"{done['rows']:,} rows of {done['kind']}: outcomes of {done['outcomes']:,} payments, {done['new']:,} new"
        f"{f' ({found})' if found else ''}, {done['already']:,} came in before."
    )
    if done["undecided"]:
        typer.echo(f"  {done['undecided']:,} rows have no outcome yet")
    if done["unknown"]:
        typer.echo(f"  {done['unknown']:,} rows were left out: not held any more")
    typer.echo(f"Next: {'fraudlab retrain' if done['new'] else f'fraudlab labels show --dataset {dataset}'}")


def _moment(text: str) -> Any:
    from fraudlab.schema import utc

    return utc(text, "as_of") if text else None


def _records(value: Any) -> Any:
    return value.to_dict("records") if hasattr(value, "to_dict") else value
