"""`fraudlab rules`: the rules that people wrote: list them, check them, measure them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fraudlab.commands.shared import DEMO, ConfigOption, JsonOption, print_json, print_table, same_data, workspace_of

app = typer.Typer(help="Rules that people write beside the model (docs/rules.md).", no_args_is_help=True)

BookOption = Annotated[Path | None, typer.Option("--book", help="A rule book; default: rules.book of the config.")]


def _book(config: Any, book: Path | None) -> Any:
    from fraudlab import ruling
    from fraudlab.schema import InputError

    found = ruling.book_of(config) if book is None else ruling.read_book(book)
    if found is None:
        raise InputError(
            "rules.book: the config names no rule book; write one (docs/rules.md) and name it there or with --book"
        )
    return found


@app.command("list")
def list_rules(config: ConfigOption = DEMO, book: BookOption = None, as_json: JsonOption = False) -> None:
    """List the rules of a book: what each asks for, whether it is acted on, and when it fires.

    Example: fraudlab rules list --config configs/demo.toml
    """
    from fraudlab import rulebook
    from fraudlab.config import load_config
    from fraudlab.ruling import facts

    found = _book(load_config(config), book)
    if as_json:
        print_json(facts(found))
        return
    typer.echo(f"Rule book '{found.name}', version {found.version}\n")
    for rule in found.rules:
        typer.echo(f"{rule.id:<24} {rule.status:<8} {rule.action.replace('_', ' ')}, since {rule.since}, {rule.owner}")
        typer.echo(f"    {rule.said()}: {rulebook.written(rule.tree)}")
    typer.echo("\nNext: fraudlab rules check, then fraudlab rules backtest")


@app.command()
def check(config: ConfigOption = DEMO, book: BookOption = None, as_json: JsonOption = False) -> None:
    """Check a book against the columns of a config's data, without reading any data; exit 2 if a rule is wrong.

    Example: fraudlab rules check --config configs/demo.toml --book configs/rules/demo.toml
    """
    from fraudlab import rulebook, ruling
    from fraudlab.config import load_config

    loaded = load_config(config)
    found = _book(loaded, book)
    columns = ruling.columns_of_config(loaded)
    rulebook.check_columns(found, columns)
    log = workspace_of(config).runs / ruling.VERSION_LOG
    said = rulebook.notices(found, loaded.decision.groups)
    if problem := ruling.version_problem(log, found):
        said = [f"{problem[0].upper()}{problem[1:]}.", *said]
    if as_json:
        print_json({"book": found.name, "version": found.version, "digest": found.digest, "notices": said})
        return
    counts = ", ".join(f"{len(found.of((status,)))} {status}" for status in rulebook.STATUSES)
    typer.echo(f"Rule book '{found.name}', version {found.version}: valid; {counts}; digest {found.digest[:12]}")
    for notice in said:
        typer.echo(f"Note: {notice}")
    typer.echo("Next: fraudlab rules backtest --period valid")


@app.command()
def backtest(
    config: ConfigOption = DEMO,
    book: BookOption = None,
    run: Annotated[str, typer.Option(help="A finished run: `fraudlab runs`; default: the config's newest.")] = "",
    period: Annotated[
        str, typer.Option(help="test: the last word; valid: while rules are written, so that the test stays unseen.")
    ] = "test",
    as_json: JsonOption = False,
) -> None:
    """Measure each rule alone, on top of the model's cases and within its budget, on matured labels only.

    Retired rules are left out; shadow rules are measured like the others. A look at the test is noted, as every look.

    Example: fraudlab rules backtest --config configs/demo.toml --period valid
    """
    from fraudlab.config import load_config
    from fraudlab.schema import InputError, did_you_mean

    if period not in ("test", "valid"):
        raise InputError(f"--period: unknown '{period}'; {did_you_mean(period, ('test', 'valid'))}")
    loaded = load_config(config)
    found = _book(loaded, book)
    from fraudlab import recipe, rulebook, ruling
    from fraudlab.privacy.disclosure import protected
    from fraudlab.runs import finished_run

    workspace = workspace_of(config)
    chosen = finished_run(workspace, run, config=loaded.name)
    same_data(chosen)
    prepared = recipe.prepare(chosen.config, workspace)
    rulebook.check_columns(found, rulebook.column_kinds(ruling.rule_table(prepared.rows(period))))
    scores = ruling.scores_of(chosen.load_models(), prepared, chosen.config, period)
    table = ruling.backtest(found, prepared, scores, chosen.config, part=period)
    overlap = protected("rules_overlap", ruling.overlap(found, prepared, scores, chosen.config, part=period))
    facts = ruling.facts(found, chosen.rule_books)
    if period == "test":
        _note_look(chosen, found)
    if as_json:
        whole = {"backtest": table, "overlap": overlap}
        told = {
            name: each.astype("object").where(each.notna(), None).to_dict("records") for name, each in whole.items()
        }
        print_json({"run": chosen.folder.name, "period": period, "headline": ruling.headline(table), **told, **facts})
        return
    _print(table, found, chosen, period)
    if facts["told"]:
        typer.echo(f"Note: {facts['told']}.")


def _note_look(run: Any, book: Any) -> None:
    """Note that rules were looked at on the test; other ones than the run's own are another try."""
    from fraudlab import looks
    from fraudlab.config import digest_of

    facts, data = run.load_json("run"), run.load_json("data")
    config_digest = facts["config_digest"]
    if not (run.evidence / "rulebook.json").is_file() or run.load_json("rulebook")["digest"] != book.digest:
        config_digest = digest_of({"config": config_digest, "rules": book.digest})
    test = next(part for part in run.load_json("fold")["parts"] if part["part"] == "test")
    looks.record(
        run.test_looks,
        run=run.folder.name,
        dataset=data["dataset"],
        data_digest=data["digest"],
        config_digest=config_digest,
        test_start=test["start"],
        test_end=test["end"],
        model=f"rules {book.name}",
        result={},
    )


def _print(table: Any, book: Any, run: Any, period: str) -> None:
    from fraudlab import ruling

    wide = ruling.overview(table, intervals=True)
    k = run.config.decision.alerts_per_day
    where = "test part" if period == "test" else "validation part"
    n = int(table["n"].iloc[0])
    typer.echo(f"Rule book '{book.name}', version {book.version}, on the {where} of {run.folder.name}: {n:,} payments")
    for row in table[table["rule"] == "payments"].itertuples():
        if row.value != 0:
            count = "Fewer than 10" if row.value != row.value else f"{row.value:,.0f}"
            typer.echo(f"{count} payments were left out: {row.note.rpartition('; ')[2]}.")
    rules = wide[wide["status"] != "model"]
    groups = {
        "Alone": (wide, ["cases a day", "fraud among them", "frauds caught"]),
        f"On top of the model's {k} cases a day": (
            rules,
            ["more cases a day", "fraud among these", "more frauds caught", "saved more a day"],
        ),
        f"First within {k} cases a day, the model fills the rest": (
            rules,
            ["displaced a day", "frauds caught, change", "saved a day, change"],
        ),
    }
    for title, (part, columns) in groups.items():
        typer.echo()
        print_table(part[["rule", "status", *columns]], title)
    typer.echo(
        "\nIn brackets: 95 % intervals over customers. A span: it rests on 1 to 9 frauds. few: not even that is shown."
    )
    typer.echo(ruling.headline(table))
