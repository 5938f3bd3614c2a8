"""The sections about decisions print what their tables hold, hide small counts and say who decides."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fraudlab import plots
from fraudlab.rating import RATINGS, RatingRule
from fraudlab.report import deciding, read_evidence
from fraudlab.report.blocks import Cell, Group, Section, Table

write_evidence = runpy.run_path(str(Path(__file__).with_name("evidence_sample.py")))["write_evidence"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_evidence(tmp_path_factory.mktemp("runs") / "demo") / "evidence"


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def tables(section: Section) -> list[Table]:
    found = []
    for block in section.blocks:
        found += block.blocks if isinstance(block, Group) else [block]
    return [block for block in found if isinstance(block, Table)]


def text(section: Section) -> str:
    def words(block: Any) -> str:
        if isinstance(block, str | bool):
            return block if isinstance(block, str) else ""
        if isinstance(block, plots.Picture):
            return block.alt
        if isinstance(block, list | tuple):
            return " | ".join(words(inner) for inner in block)
        return " | ".join(words(value) for value in vars(block).values())

    return words(section)


def told(cell: str | Cell) -> tuple[str, str]:
    return (cell.text, cell.small) if isinstance(cell, Cell) else (cell, "")


def whole(value: float) -> str:
    return f"{value:,.0f}".replace("-", "−")


FORMS = {
    "cases": whole,
    "frauds_caught": whole,
    "precision": plots.share,
    "recall": plots.share,
    "bothered_per_day": "{:,.1f}".format,
    "net_saved_per_day": whole,
    "net_saved_gain": whole,
}


def test_money_prints_every_number_of_the_candidate(folder) -> None:
    simulation = pd.read_csv(folder / "simulation.csv")
    budgets, cuts = tables(deciding.money_saved(read_evidence(folder)))
    for table, by in ((budgets, "budget"), (cuts, "threshold")):
        mine = simulation[(simulation["model"] == "xgboost") & (simulation["by"] == by)]
        assert len(table.rows) == mine["budget"].nunique() > 2
        for row, (budget, found) in zip(table.rows, mine.groupby("budget")):
            values = found.set_index("metric")
            used, cut = values["chosen"].iloc[0], values["threshold"].iloc[0]
            assert told(row[0]) == (f"{budget:,}", ("in use" if used else "") if by == "budget" else f"from {cut:.4g}")
            for cell, (metric, form) in zip(row[1:], FORMS.items(), strict=True):
                value, low, high = values.loc[metric, ["value", "low", "high"]]
                if pd.isna(value):
                    assert told(cell) == ("not shown", "")
                else:
                    assert told(cell) == (form(value), "" if metric == "cases" else f"{form(low)} to {form(high)}")
    said = text(deciding.money_saved(read_evidence(folder)))
    assert "A review costs 15.0; of a caught fraud's amount the share 0.8 is taken as saved." in said


def test_money_hides_what_rests_on_few_frauds(folder, copy) -> None:
    simulation = pd.read_csv(folder / "simulation.csv")
    first = (simulation["budget"] == 1) & ~simulation["metric"].isin(["cases", "alerts_per_day"])
    simulation.loc[first, ["value", "low", "high"]] = None
    simulation.loc[first, "note"] = "not shown: it rests on 1 to 9 frauds"
    simulation.to_csv(copy / "simulation.csv", index=False)
    budgets = tables(deciding.money_saved(read_evidence(copy)))[0]
    assert [told(cell)[0] for cell in budgets.rows[0]][2:] == ["not shown"] * 6


def test_tiers_print_counts_but_no_small_ones(folder, copy) -> None:
    said = text(deciding.decision_tiers(read_evidence(folder)))
    for row in pd.read_csv(folder / "tiers.csv").itertuples():
        action = row.action.replace("_", " ")
        assert f"{row.tier} | {action} | {row.transactions:,} | {row.frauds:,} | {plots.share(row.fraud_rate)}" in said
    assert "Manual review from score | 0.31 | Limit and review from score | not used" in said
    assert "Tiers are cut on the score before calibration, not on the stated risk" in said
    tiers = pd.read_csv(folder / "tiers.csv").assign(frauds=[4, 0, 30, 60], fraud_rate=0.123)
    tiers.to_csv(copy / "tiers.csv", index=False)
    said = text(deciding.decision_tiers(read_evidence(copy)))
    assert "low | approve | 11,280 | not shown | not shown" in said
    assert "elevated | step up authentication | 480 | 0" in said
    assert "high | manual review | 180 | not shown | not shown" in said
    assert "severe | limit and review | 60 | 60" in said
    tiers.loc[3, ["transactions", "frauds", "fraud_rate"]] = [0, 0, float("nan")]
    tiers.to_csv(copy / "tiers.csv", index=False)
    assert "severe | limit and review | 0 | 0 | –" in text(deciding.decision_tiers(read_evidence(copy)))


def policy_tables(folder: Path) -> dict[str, Table]:
    return {table.caption: table for table in tables(deciding.decision_tiers(read_evidence(folder)))}


def test_the_policy_prints_its_costs_actions_and_reasons(folder) -> None:
    found = policy_tables(folder)
    costs = pd.read_csv(folder / "policy_costs.csv")
    assert [list(row) for row in found["What each action costs and stops"].rows] == [
        [
            row.action.replace("_", " "), f"{row.cost:,.2f}", f"{row.friction:,.2f}", plots.share(row.stops),
            f"{row.price:,.2f}",
        ]
        for row in costs.itertuples()
    ]  # fmt: skip
    actions = pd.read_csv(folder / "policy.csv")
    printed = found["What the policy does with the payments of the test part"].rows
    for row, cells in zip(actions.itertuples(), printed, strict=True):
        assert told(cells[0]) == (row.action.replace("_", " "), row.decided_by)
        assert list(cells[1:]) == [
            f"{row.transactions:,}", f"{row.frauds:,}", plots.share(row.fraud_rate), whole(row.amount),
            whole(row.fraud_amount), f"{row.cases_per_day:,.1f}",
        ]  # fmt: skip
    reasons = pd.read_csv(folder / "policy_reasons.csv")
    printed = found["Why each action was taken"].rows
    assert [row[3] for row in printed] == [f"{count:,}" for count in reasons["transactions"]]
    assert [row[2] for row in printed] == reasons["why"].tolist()


@pytest.mark.parametrize(
    ("name", "section"), [("policy_outcomes", deciding.decision_tiers), ("rating_effect", deciding.customer_rating)]
)
def test_ways_print_what_they_cost_and_how_much_more(folder, name: str, section) -> None:
    evidence = read_evidence(folder)
    table = next(each for each in tables(section(evidence)) if "would have cost" in each.caption)
    outcomes = getattr(evidence, name)
    for row, way in zip(table.rows, dict.fromkeys(outcomes["way"]), strict=True):
        own = outcomes[(outcomes["way"] == way) & outcomes["against"].isna()].set_index("metric")
        assert row[0] == plots.WAY_LABELS[way][:1].upper() + plots.WAY_LABELS[way][1:]
        for cell, metric in zip(row[1:4], ("reviews_per_day", "step_ups_per_day", "bothered_per_day"), strict=True):
            value, low, high = own.loc[metric, ["value", "low", "high"]]
            assert told(cell) == (f"{value:,.1f}", f"{low:,.1f} to {high:,.1f}")
        for cell, metric in zip(row[4:6], ("fraud_lost_per_day", "cost_per_day"), strict=True):
            value, low, high = own.loc[metric, ["value", "low", "high"]]
            assert told(cell) == (whole(value), f"{whole(low)} to {whole(high)}")
        more = outcomes[(outcomes["way"] == way) & outcomes["against"].notna()].set_index("metric")
        if len(more):
            value, low, high = more.loc["cost_per_day", ["value", "low", "high"]]
            assert told(row[6]) == (whole(value), f"{whole(low)} to {whole(high)}")
        else:
            assert row[6] == "–"


def test_a_person_decides_unless_the_config_names_an_action(folder, copy) -> None:
    assert "Limiting and declining are decided by a person" in text(deciding.decision_tiers(read_evidence(folder)))
    with (copy / "config.toml").open("a") as file:
        file.write('\n[decision.policy]\nautomatic = ["decline"]\n')
    said = text(deciding.decision_tiers(read_evidence(copy)))
    assert "carry out without a person: decline. Every customer concerned must be able to have a person look" in said
    assert "Limiting and declining are decided by a person" not in said


def test_ratings_print_what_followed_the_weeks_and_the_moves(folder) -> None:
    evidence = read_evidence(folder)
    after, weekly, moves, _ = tables(deciding.customer_rating(evidence))
    for row, cells in zip(evidence.rating_after.itertuples(), after.rows, strict=True):
        assert list(cells[:4]) == [row.rating, f"{row.customers:,}", f"{row.transactions:,}", f"{row.frauds:,}"]
        assert told(cells[4]) == (plots.share(row.fraud_rate), f"{plots.share(row.low)} to {plots.share(row.high)}")
    wide = evidence.customer_rating.pivot(index="week", columns="rating", values="customers")[list(RATINGS)]
    assert [list(row) for row in weekly.rows] == [
        [week[:10], *(f"{count:,}" for count in counts)] for week, counts in zip(wide.index, wide.to_numpy())
    ]
    share = evidence.rating_moves.pivot(index="before", columns="after", values="share")
    assert [list(row[1:]) for row in moves.rows] == [
        [plots.share(share.loc[before, after]) for after in RATINGS] for before in RATINGS
    ]
    lasts = RatingRule().lasts()
    said = text(deciding.customer_rating(evidence))
    assert f"high for at most {lasts['high']:.0f} days and above low for {lasts['medium']:.0f}" in said
    assert "customers rated high were fraud 3.4 times as often as of others." in said
    assert "acting on ratings does not pay: every way tried costs more than it saves." in said


def test_small_counts_of_ratings_are_not_printed(folder, copy) -> None:
    for name in ("customer_rating", "rating_moves", "rating_after"):
        table = pd.read_csv(folder / f"{name}.csv")
        table.loc[table.index[2], ["customers"]] = None
        for column in ("share", "fraud_rate"):
            if column in table:
                table.loc[table.index[2], column] = None
        table.to_csv(copy / f"{name}.csv", index=False)
    printed = tables(deciding.customer_rating(read_evidence(copy)))[:3]
    assert all(any(told(cell)[0] == "not shown" for row in table.rows for cell in row) for table in printed)


@pytest.mark.parametrize("section", [deciding.money_saved, deciding.decision_tiers, deciding.customer_rating])
def test_runs_without_the_tables_say_what_is_missing(copy, section) -> None:
    for name in ("simulation", "tiers", "policy", "policy_costs", "policy_reasons", "policy_outcomes", "rating_effect"):
        (copy / f"{name}.csv").unlink()
    said = text(section(read_evidence(copy)))
    assert "Not available: " in said


def test_a_model_without_stated_risks_has_empty_tables(copy) -> None:
    for name in ("policy", "policy_costs", "policy_reasons", "policy_outcomes", "rating_effect"):
        pd.read_csv(copy / f"{name}.csv").iloc[:0].to_csv(copy / f"{name}.csv", index=False)
    assert "The model states no risk" in text(deciding.decision_tiers(read_evidence(copy)))
    assert "cannot be told from this test" in text(deciding.customer_rating(read_evidence(copy)))
