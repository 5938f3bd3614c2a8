"""`fraudlab decide`: what other numbers of reviews and other costs would bring."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fraudlab.commands.shared import JsonOption, print_json, print_table, same_data, workspace_of

app = typer.Typer(help="Budgets, costs and actions (docs/decisions.md).", no_args_is_help=True)


SHOWN = {
    "by": "by",
    "budget": "cases",
    "alerts_per_day": "reviewed",
    "bothered_per_day": "genuine",
    "precision": "precision",
    "recall": "caught",
    "money_caught_share": "money",
    "net_saved_per_day": "saved",
    "net_saved_gain": "more",
}


@app.command()
def simulate(
    run: Annotated[str, typer.Argument(help="A finished run: `fraudlab runs`; default: the newest.")] = "",
    alerts_per_day: Annotated[int | None, typer.Option(help="Cases reviewed a day; default: the run's.")] = None,
    review_cost: Annotated[float | None, typer.Option(help="Cost of one review; default: the run's.")] = None,
    recovery_rate: Annotated[
        float | None, typer.Option(help="Share of a caught fraud's amount that is saved; default: the run's.")
    ] = None,
    false_alarm_cost: Annotated[
        float | None, typer.Option(help="Cost of reviewing a genuine customer, beside the review; default: the run's.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Simulate other numbers of reviews a day, or other costs, on a run's test payments; nothing is trained or kept.

    The number in use is compared with the others, with 95 % intervals over customers. Numbers that differ by fewer than
    ten frauds are left out.

    Example: fraudlab decide simulate demo-dfbb80259f --alerts-per-day 8 --review-cost 20
    """
    from pydantic import ValidationError

    from fraudlab import deciding, recipe
    from fraudlab.config import RunConfig, explain_validation
    from fraudlab.privacy.disclosure import protected
    from fraudlab.runs import finished_run
    from fraudlab.schema import InputError

    workspace = workspace_of()
    chosen = finished_run(workspace, run)
    same_data(chosen)
    given = {
        "alerts_per_day": alerts_per_day,
        "review_cost": review_cost,
        "recovery_rate": recovery_rate,
        "false_alarm_cost": false_alarm_cost,
    }
    stated = chosen.config.model_dump()
    stated["decision"] |= {name: value for name, value in given.items() if value is not None}
    try:
        config = RunConfig.model_validate(stated)
    except ValidationError as error:
        raise InputError("\n".join(f"decide: {line}" for line in explain_validation(error, RunConfig))) from None
    prepared = recipe.prepare(config, workspace)
    name = config.model.kind
    models = {name: chosen.load_models()[name]}
    scores = recipe.score_part(models, prepared, "test")
    table = protected("simulation", deciding.simulation(models, prepared, scores, config))
    if as_json:
        records = table.astype("object").where(table.notna(), None).to_dict("records")
        print_json({"run": chosen.folder.name, "decision": stated["decision"] | _plain(given), "simulation": records})
        return
    shown = deciding.simulation_overview(table, name)[list(SHOWN)].rename(columns=SHOWN)
    typer.echo(f"{chosen.folder.name}, {name}: {_said(config)}\n")
    print_table(shown.assign(**{column: shown[column].round(3) for column in ("precision", "caught", "money")}))
    typer.echo(_best(table, config.decision.alerts_per_day))
    typer.echo(
        "A day: cases planned and reviewed, genuine ones among them, saved net, more than in use. caught, money:"
    )
    typer.echo(
        "share of the frauds and of their amount. by threshold: the score that gave as many cases on validation."
    )


def _plain(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def _said(config: Any) -> str:
    costs = config.decision
    return (
        f"{costs.alerts_per_day:,} cases a day, a review costs {costs.review_cost:g}, {costs.recovery_rate:.0%} of a "
        f"caught fraud is saved, a false alarm costs {costs.false_alarm_cost:g} more"
    )


def _best(table: Any, in_use: int) -> str:
    """Say which number of reviews saves most, and whether that is more than chance."""
    gains = table[(table["by"] == "budget") & (table["metric"] == "net_saved_gain")].dropna(subset=["value"])
    if gains.empty:
        return "The reviews find fewer than 10 frauds at every number, so what they save is not told."
    best = gains.loc[gains["value"].idxmax()]
    if best["budget"] == in_use or best["value"] <= 0:
        return f"No other number of reviews saves more than the {in_use:,} a day in use."
    sure = "more than chance" if best["low"] > 0 else "chance could do as much"
    return (
        f"{best['budget']:,} reviews a day would save {best['value']:,.0f} a day more than the {in_use:,} in use "
        f"({best['low']:,.0f} to {best['high']:,.0f}: {sure})."
    )
