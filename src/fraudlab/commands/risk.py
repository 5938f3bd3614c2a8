"""`fraudlab privacy risk`: how far the columns of a data set single customers out, in plain words."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fraudlab.commands.shared import JsonOption, print_json, print_table, workspace_of

SHOWN_REMEDIES = 6
PERSONAL = (
    "Whatever these figures say, pseudonymous payments stay personal data: known amounts, times and shops single a "
    "person out, and whoever holds the keys finds the name. The figures hold for the named columns only."
)
WHERE = (
    "Where to change it: `treatment`, `step` or `characters` in the contract, or leave the column out of the purpose; "
    "then `fraudlab ingest` and this command again."
)


def risk(
    dataset: Annotated[str, typer.Argument(help="A data set in the vault.")] = "demo",
    purpose: Annotated[str, typer.Option(help="Why you look; decides the columns.")] = "fraud-model-training",
    columns: Annotated[
        str, typer.Option(help="What somebody may know of a person, comma-separated; default: coarse personal columns.")
    ] = "",
    sensitive: Annotated[
        str, typer.Option(help="What shall not be learnt, comma-separated; default: is_fraud; 'none' for nothing.")
    ] = "is_fraud",
    k: Annotated[int, typer.Option("--k", help="Groups with fewer count as small.")] = 10,
    per: Annotated[str, typer.Option(help="customer, row or both.")] = "both",
    as_json: JsonOption = False,
) -> None:
    """Measure how many customers stand alone by some columns, and which column to coarsen or drop.

    Example: fraudlab privacy risk demo --purpose fraud-model-training --columns age_band,postcode_area
    """
    from fraudlab.datasets import load_transactions
    from fraudlab.datasets.load import allowed_columns
    from fraudlab.privacy.anonymity import drop_order, remedy_table, risk_table
    from fraudlab.privacy.keys import open_keys
    from fraudlab.privacy.vault import Vault
    from fraudlab.schema import InputError, did_you_mean

    units = {"customer": ("customer_id",), "row": (None,), "both": ("customer_id", None)}.get(per)
    if units is None:
        raise InputError(f"--per: unknown '{per}'; {did_you_mean(per, ('customer', 'row', 'both'))}")
    workspace = workspace_of()
    manifest = Vault(workspace.vault, open_keys(workspace)).manifest(dataset)
    allowed = allowed_columns(manifest, purpose)
    known = _words(columns) or _coarse_columns(manifest, allowed)
    _refuse_identifiers(manifest, known)
    secret = [name for name in _words(sensitive) if name != "none" and (name in allowed or name != "is_fraud")]
    frame = load_transactions(dataset, purpose=purpose, columns=["customer_id", *known, *secret], workspace=workspace)
    risks = [risk_table(frame, known, sensitive=secret, unit=unit, k=k) for unit in units]
    remedies = remedy_table(frame, known, unit=units[0], k=k)
    order = drop_order(frame, known, unit=units[0], k=k)
    if as_json:
        print_json(
            {
                "dataset": dataset,
                "purpose": purpose,
                "risks": {_unit(one, 1): one.facts() for one in risks},
                "remedies": remedies.to_dict("records"),
                "drop_order": order.to_dict("records"),
                "note": PERSONAL,
            }
        )
        return
    typer.echo(f"{dataset} for {purpose}: {risks[0].rows:,} payments, by {', '.join(known)}\n")
    print_table(_figures(risks))
    for one in risks:
        typer.echo(f"\n{_meaning(one)}")
    typer.echo(f"\nWhat would help, counted in {_unit(risks[0], 2)}:")
    _print_help(risks[0], remedies, order)
    typer.echo(f"\n{PERSONAL}")


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _coarse_columns(manifest: dict[str, Any], allowed: list[str]) -> list[str]:
    """Return the columns somebody may know of a person: those made coarser, the country, and the contract's own."""
    from fraudlab.datasets.quality import personal_columns
    from fraudlab.schema import InputError

    found = personal_columns(manifest["columns"], allowed)
    if not found:
        raise InputError(
            "--columns: this purpose sees no coarse column about the person (none generalised, no country, none of "
            f"the contract's own); name what may be known, out of: {', '.join(allowed)}"
        )
    return found


def _refuse_identifiers(manifest: dict[str, Any], names: list[str]) -> None:
    """Refuse what points at one person by itself: measured, it would only say that everybody is alone."""
    from fraudlab.schema import refuse

    pointing = {column["name"] for column in manifest["columns"] if column["treatment"] == "pseudonymise"}
    refuse(
        [
            f"--columns: '{name}' is an identifier and singles out by itself; name what somebody may know of a person"
            for name in names
            if name in pointing or name == "transaction_id"
        ]
    )


def _unit(risk: Any, number: int) -> str:
    word = "customer" if risk.unit else "payment"
    return word if number == 1 else f"{word}s"


def _figures(risks: list[Any]) -> Any:
    """Return the figures side by side, as text."""
    import pandas as pd

    k = risks[0].threshold
    table = {"": ["units", "groups", "smallest group (k-anonymity)", "alone in their group", f"in groups below {k}"]}
    table[""] += ["highest risk to be found", "average risk to be found"]
    for name in risks[0].sensitive["column"]:
        table[""] += [f"{name}: distinct l", f"{name}: entropy l", f"{name}: t-closeness"]
    for one in risks:
        cells = [f"{number:,}" for number in (one.units, one.classes, one.k_anonymity, one.alone)]
        cells += [f"{one.units_below:,} ({one.share_below:.2%})", f"{one.highest_risk:.2%}", f"{one.average_risk:.2%}"]
        for row in one.sensitive.itertuples():
            cells += [f"{row.distinct_l:,}", f"{row.entropy_l:.2f}", f"{row.t_closeness:.3f}"]
        table[f"per {_unit(one, 1)}"] = cells
    return pd.DataFrame(table)


def _meaning(risk: Any) -> str:
    """Say in plain words what the figures of one unit mean."""
    units, k = _unit(risk, 2), risk.threshold
    about = " about all their payments" if risk.unit else ""
    found = "none stands out quite alone"
    if risk.alone:
        found = f"who knows that much of a {_unit(risk, 1)} finds {'them' if risk.unit else 'it'}"
    said = (
        f"{risk.alone:,} of {risk.units:,} {units} {'is' if risk.alone == 1 else 'are'} alone in what these columns "
        f"say{about}: {found}. "
    )
    if risk.units_below:
        said += f"{risk.units_below:,} ({risk.share_below:.2%}) are in groups of fewer than {k}."
    else:
        said += f"Every group holds at least {k}."
    for row in risk.sensitive.itertuples():
        if row.units_alike:
            said += (
                f" {row.units_alike:,} are in groups that all share one value of {row.column}: "
                "who finds the group knows it, without finding the person."
            )
    return said


def _print_help(risk: Any, remedies: Any, order: Any) -> None:
    """Print which change helps, and whether one is enough."""
    k = risk.threshold
    if not risk.units_below:
        typer.echo(f"Nothing is needed for these columns: every group holds at least {k}.")
        return
    shown = remedies.head(SHOWN_REMEDIES)
    shown = shown.assign(share_below=[f"{share:.2%}" for share in shown["share_below"]])
    print_table(shown.rename(columns={"units_below": f"in groups below {k}", "share_below": "share"}))
    best = remedies.iloc[0]
    if best["units_below"] == 0:
        typer.echo(f"\nOne change is enough: {best['column']}, {best['remedy']}.")
    elif len(order):
        last = order.iloc[-1]
        left = f"then {last['units_below']:,} are in groups below {k}" if last["units_below"] else "then none is left"
        typer.echo(
            f"\nNo single change is enough. Dropped one after the other, the most helpful first: "
            f"{', '.join(order['dropped'])}; {left}."
        )
    typer.echo(WHERE)
