"""Budgets, thresholds and actions simulated: by sets of cases, by copying customers, against the metrics that exist."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fraudlab.metrics import ACTED, SIMULATED, action_outcomes, alert_outcomes, evaluate, simulate
from fraudlab.metrics.replicates import draws
from fraudlab.schema import InputError

START = pd.Timestamp("2026-03-01", tz="UTC")
COSTS = {"review_cost": 15.0, "recovery_rate": 0.8, "false_alarm_cost": 2.0}
BUDGETS = [1, 3, 7, 20]
ACTION_COSTS = pd.DataFrame(
    {
        "cost": [0.0, 0.5, 2.0, 15.0, 15.0, 0.0],
        "friction": [0.0, 1.0, 2.0, 3.0, 3.0, 25.0],
        "stops": [0.0, 0.6, 0.7, 0.8, 0.8, 1.0],
        "by_case": [False, False, False, True, True, False],
    },
    index=["approve", "step_up_authentication", "limit", "manual_review", "limit_and_review", "decline"],
)


def make(rows=1500, days=8, entities=90, seed=0, rate=0.08) -> dict:
    rng = np.random.default_rng(seed)
    y = rng.random(rows) < rate
    return {
        "y": y,
        "score": np.round(rng.random(rows) + 0.4 * y, 2),  # many ties
        "event_time": START + pd.to_timedelta(rng.integers(0, days * 86_400, rows), unit="s"),
        "entity": np.array([f"c{i:03d}" for i in rng.integers(0, entities, rows)]),
        "amount": np.round(rng.lognormal(3, 1, rows), 2),
    }


def wide(table: pd.DataFrame, by: str = "budget", column: str = "value") -> pd.DataFrame:
    return table[table["by"] == by].pivot(index="budget", columns="metric", values=column)


@pytest.mark.parametrize("seed", range(3))
def test_a_budget_brings_what_the_metrics_at_that_budget_say(seed: int) -> None:
    arguments = make(seed=seed, rate=0.35)
    budgets = [3, 7, 20, 60]
    found = wide(simulate(**arguments, budgets=budgets, chosen=3, **COSTS, n_boot=0))
    for budget in budgets:
        at = evaluate(**arguments, k=budget, n_boot=0).set_index("metric")["value"]
        assert found.loc[budget, "recall"] == pytest.approx(at["recall_at_budget"])
        assert found.loc[budget, "money_caught_per_day"] * 8 == pytest.approx(at["money_caught"])
        assert found.loc[budget, "money_caught_share"] == pytest.approx(at["money_caught_share"])
        assert found.loc[budget, "frauds_caught"] == round(at["recall_at_budget"] * arguments["y"].sum())
    assert found["cases"].tolist() == [8 * budget for budget in budgets]
    assert (found["net_saved_gain"] == found["net_saved_per_day"] - found.loc[3, "net_saved_per_day"]).all()
    assert list(found.columns.sort_values()) == sorted(SIMULATED)


@pytest.mark.parametrize("seed", range(2))
def test_a_threshold_brings_what_alerts_from_it_bring_with_the_same_intervals(seed: int) -> None:
    arguments = make(seed=seed)
    cuts = [1.2, 0.95, 0.9, 0.5]
    table = simulate(**arguments, budgets=BUDGETS, thresholds=cuts, chosen=7, **COSTS, n_boot=40, seed=5)
    given = {name: arguments[name] for name in ("y", "event_time", "entity", "amount")}
    for budget, cut in zip(BUDGETS, cuts):
        alone = alert_outcomes(alerted=arguments["score"] >= cut, **given, **COSTS, n_boot=40, seed=5)
        alone = alone.set_index("metric")
        mine = table[(table["by"] == "threshold") & (table["budget"] == budget)].set_index("metric")
        assert (mine["threshold"] == cut).all()
        for metric in set(SIMULATED) & set(alone.index):
            for column in ("value", "low", "high"):
                np.testing.assert_allclose(mine.loc[metric, column], alone.loc[metric, column], err_msg=metric)
            assert mine.loc[metric, "note"] == alone.loc[metric, "note"]


def copied(arguments: dict, weights: np.ndarray, order: list[str]) -> dict:
    """The same payments with every customer there as often as drawn, copies being customers of their own."""
    parts = []
    for entity, times in zip(order, weights.astype(int)):
        own = np.flatnonzero(arguments["entity"] == entity)
        for number in range(times):
            parts.append((own, np.array([f"{entity}/{number}"] * len(own))))
    rows = np.concatenate([own for own, _ in parts])
    named = {name: np.asarray(values)[rows] for name, values in arguments.items() if name != "event_time"}
    named["entity"] = np.concatenate([names for _, names in parts])
    return named | {"event_time": pd.DatetimeIndex(arguments["event_time"])[rows]}


def test_intervals_are_those_of_customers_really_copied() -> None:
    arguments = make(rows=900, entities=40, seed=3, rate=0.35)
    arguments["score"] = np.random.default_rng(1).permutation(900) / 900  # no ties but those of copies
    frame = pd.DataFrame({"entity": arguments["entity"], "time": arguments["event_time"]})
    order = frame.groupby("entity")["time"].min().sort_values().index.tolist()
    table = simulate(**arguments, budgets=[4, 9], chosen=4, **COSTS, n_boot=15, seed=9)
    replicates = []
    for weights in draws(len(order), 15, 9):
        each = wide(simulate(**copied(arguments, weights, order), budgets=[4, 9], chosen=4, **COSTS, n_boot=0))
        replicates.append(each.loc[9, ["recall", "precision", "net_saved_per_day", "net_saved_gain"]])
    low, high = np.nanpercentile(np.array(replicates, dtype=float), [2.5, 97.5], axis=0)
    for column, expected in (("low", low), ("high", high)):
        found = wide(table, column=column).loc[9, ["recall", "precision", "net_saved_per_day", "net_saved_gain"]]
        np.testing.assert_allclose(found.astype(float), expected)


def test_budgets_beyond_the_first_cases_are_looked_at_too() -> None:
    """More entities are left out of a replicate than the near cases hold."""
    arguments = make(rows=2500, days=2, entities=900, seed=4)
    table = simulate(**arguments, budgets=[1, 400, 5000], chosen=1, **COSTS, n_boot=5)
    found = wide(table)
    by_case = pd.Series(arguments["y"]).groupby([arguments["event_time"].date, arguments["entity"]]).any()
    assert found.loc[5000, "cases"] == len(by_case)
    assert found.loc[5000, "recall"] == 1
    assert found.loc[5000, "precision"] == pytest.approx(by_case.mean())
    assert wide(table, column="low").loc[5000, "recall"] == 1


def test_the_chosen_budget_gains_nothing_over_itself_and_pairs_with_the_others() -> None:
    table = simulate(**make(rate=0.35), budgets=[7, 8], chosen=7, **COSTS, n_boot=60)
    own = table[(table["budget"] == 7) & (table["metric"] == "net_saved_gain")].iloc[0]
    assert (own["value"], own["low"], own["high"]) == (0, 0, 0)
    assert own["chosen"]
    spread = {column: wide(table, column=column) for column in ("low", "high")}
    width = spread["high"] - spread["low"]
    assert width.loc[8, "net_saved_gain"] < width.loc[8, "net_saved_per_day"], "paired: what both share cancels"


def test_one_seed_one_table_and_more_budgets_change_no_row() -> None:
    first = simulate(**make(), budgets=BUDGETS, chosen=7, **COSTS, n_boot=20, seed=2)
    pd.testing.assert_frame_equal(first, simulate(**make(), budgets=BUDGETS, chosen=7, **COSTS, n_boot=20, seed=2))
    more = simulate(**make(), budgets=[1, 2, 3, 7, 9, 20], chosen=7, **COSTS, n_boot=20, seed=2)
    pd.testing.assert_frame_equal(more[more["budget"].isin(BUDGETS)].reset_index(drop=True), first)


def test_few_frauds_nobody_and_nothing_named_are_said() -> None:
    arguments = make(rate=0.02)
    table = simulate(**arguments, budgets=[1, 20], thresholds=[9.0, 0.2], **COSTS, n_boot=3)
    few = table[(table["by"] == "budget") & (table["budget"] == 1)].set_index("metric")
    assert few.loc["recall", "note"] == "not shown: it rests on 1 to 9 frauds"
    assert np.isnan(few.loc["net_saved_per_day", "value"])
    assert few.loc["cases", "value"] == 8
    nobody = table[(table["by"] == "threshold") & (table["budget"] == 1)].set_index("metric")
    assert nobody.loc["precision", "note"] == "not applicable: nothing raises an alert"
    assert nobody.loc["net_saved_per_day", "value"] == 0
    told = table[table["value"].notna()]
    assert not told["note"].str.startswith("not ").any()
    assert table[table["value"].isna()]["note"].str.startswith("not ").all()
    gain = table[table["metric"] == "net_saved_gain"]
    assert gain["note"].str.startswith(("not applicable: no budget in use", "not shown")).all()
    none = simulate(**arguments | {"y": np.zeros(1500)}, budgets=[5], chosen=5, **COSTS, n_boot=0).set_index("metric")
    assert none.loc["recall", "note"] == "not applicable: no frauds among these transactions"
    assert none.loc["net_saved_per_day", "value"] == -(15 + 2) * 5


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"budgets": []}, "budgets: must hold at least one number of cases a day"),
        ({"budgets": [0]}, "budgets: must be a whole number >= 1; found 0"),
        ({"chosen": 4}, "chosen: must be one of the budgets; found 4"),
        ({"thresholds": [0.5]}, "thresholds: must be one per budget; found 1 for 4 budgets"),
        ({"review_cost": -1}, "review_cost: must be finite and >= 0; found -1"),
        ({"recovery_rate": 80}, r"recovery_rate: must lie in \[0, 1\]; found 80"),
        ({"score": [0.1]}, "one entry per transaction each"),
    ],
)
def test_the_simulation_refuses(changes: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        simulate(**({"budgets": BUDGETS, "n_boot": 0} | COSTS | make() | changes))


# --- actions ------------------------------------------------------------------------------------------------------


def acted(seed: int = 0) -> tuple[dict, np.ndarray]:
    arguments = make(seed=seed)
    rng = np.random.default_rng(50 + seed)
    actions = rng.choice(ACTION_COSTS.index, len(arguments["y"]), p=[0.6, 0.15, 0.05, 0.1, 0.05, 0.05])
    return {name: arguments[name] for name in ("y", "event_time", "entity", "amount")}, actions


def by_hand(y, event_time, entity, amount, actions, lgf: float) -> dict[str, float]:
    """What actions cost, payment by payment, cases kept in sets."""
    case = list(zip((t.date() for t in event_time), entity))
    people = ("manual_review", "limit_and_review")
    reviewed = {c for c, a in zip(case, actions) if a in people}
    stepped = {c for c, a in zip(case, actions) if a == "step_up_authentication"} - reviewed
    touched = {c for c, a in zip(case, actions) if a != "approve"}
    bad = {c for c, fraud in zip(case, y) if fraud}
    lost, handling = 0.0, 0.0
    for c, fraud, money, action in zip(case, y, amount, actions):
        row = ACTION_COSTS.loc[action]
        stops = max(row["stops"], 0.8 if c in reviewed else 0.0)
        lost += fraud * money * lgf * (1 - stops)
        handling += 0 if action in people else row["cost"] + (not fraud) * row["friction"]
    handling += 15 * len(reviewed) + 3 * len(reviewed - bad)
    days = len({day for day, _ in case})
    passing = (y * amount).sum() * lgf
    return {
        "reviews_per_day": len(reviewed) / days,
        "step_ups_per_day": len(stepped) / days,
        "bothered_per_day": len(touched - bad) / days,
        "fraud_lost_per_day": lost / days,
        "handling_per_day": handling / days,
        "cost_per_day": (lost + handling) / days,
        "saved_per_day": (passing - lost - handling) / days,
    }


@pytest.mark.parametrize("seed", range(3))
def test_actions_cost_what_a_count_by_hand_says(seed: int) -> None:
    given, actions = acted(seed)
    table = action_outcomes(**given, actions={"one": actions}, costs=ACTION_COSTS, loss_given_fraud=0.7, n_boot=0)
    found = table.set_index("metric")["value"]
    assert list(found.index) == list(ACTED)
    for metric, value in by_hand(**given, actions=actions, lgf=0.7).items():
        assert found[metric] == pytest.approx(value), metric


def test_reviews_alone_save_what_alerts_save() -> None:
    arguments = make()
    alerted = arguments["score"] >= 0.95
    given = {name: arguments[name] for name in ("y", "event_time", "entity", "amount")}
    costs = ACTION_COSTS.assign(friction=[0, 0, 0, 2.0, 2.0, 0])
    ways = {"reviews": np.where(alerted, "manual_review", "approve")}
    table = action_outcomes(**given, actions=ways, costs=costs, n_boot=30, seed=4).set_index("metric")
    expected = alert_outcomes(alerted=alerted, **given, **COSTS, n_boot=30, seed=4).set_index("metric")
    for mine, theirs in (("saved_per_day", "net_saved_per_day"), ("bothered_per_day", "bothered_per_day")):
        np.testing.assert_allclose(
            table.loc[mine, ["value", "low", "high"]].astype(float),
            expected.loc[theirs, ["value", "low", "high"]].astype(float),
        )


def test_ways_are_held_against_the_first_on_the_same_replicates() -> None:
    given, actions = acted()
    ways = {"one": actions, "again": actions, "nothing": np.full(len(actions), "approve")}
    table = action_outcomes(**given, actions=ways, costs=ACTION_COSTS, n_boot=25)
    assert table[["way", "against"]].drop_duplicates().to_numpy().tolist() == [
        ["one", ""], ["again", ""], ["again", "one"], ["nothing", ""], ["nothing", "one"]
    ]  # fmt: skip
    same = table[table["way"].eq("again") & table["against"].eq("one")]
    assert (same[["value", "low", "high"]] == 0).all(axis=None)
    nothing = table[table["way"].eq("nothing") & table["against"].eq("")].set_index("metric")["value"]
    assert nothing["saved_per_day"] == 0
    assert nothing["fraud_lost_per_day"] * 8 == pytest.approx((given["y"] * given["amount"]).sum())


def test_few_frauds_behind_an_action_are_not_told() -> None:
    given, _ = acted()
    frauds = np.flatnonzero(given["y"])
    actions = np.full(len(given["y"]), "approve", dtype=object)
    actions[frauds[:5]] = "decline"
    table = action_outcomes(**given, actions={"few": actions}, costs=ACTION_COSTS, n_boot=0).set_index("metric")
    assert table["value"].isna().sum() == len(ACTED) - 2
    assert table.loc["cost_per_day", "note"] == "not shown: it rests on 1 to 9 frauds"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"actions": {}}, "actions: must hold at least one way"),
        ({"actions": {"one": ["deny"] * 1500}}, "actions: must each have a row in costs; found 1,500 without"),
        ({"actions": {"one": ["approve"]}}, "found y 1,500, actions 1"),
        ({"costs": ACTION_COSTS.drop(columns="stops")}, "stops"),
    ],
)
def test_action_outcomes_refuse(changes: dict, sentence: str) -> None:
    given, actions = acted()
    with pytest.raises(InputError, match=sentence):
        action_outcomes(**(given | {"actions": {"one": actions}, "costs": ACTION_COSTS, "n_boot": 0} | changes))
