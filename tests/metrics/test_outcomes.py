"""What a rule that alerts transactions brings: counted with sets, replicated by copying customers, quiet about few."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fraudlab.metrics import OUTCOMES, alert_outcomes, evaluate
from fraudlab.schema import InputError

START = pd.Timestamp("2026-03-01", tz="UTC")
COSTS = {"review_cost": 15.0, "recovery_rate": 0.8, "false_alarm_cost": 2.0}


def make(rows=1500, days=8, entities=90, seed=0) -> dict:
    rng = np.random.default_rng(seed)
    y = rng.random(rows) < 0.08
    return {
        "y": y,
        "alerted": rng.random(rows) < np.where(y, 0.6, 0.05),
        "event_time": START + pd.to_timedelta(rng.integers(0, days * 86_400, rows), unit="s"),
        "entity": np.array([f"c{i:03d}" for i in rng.integers(0, entities, rows)]),
        "amount": np.round(rng.lognormal(3, 1, rows), 2),
    }


def counted(y, alerted, event_time, entity, amount, review_cost, recovery_rate, false_alarm_cost) -> dict[str, float]:
    """The measures from sets of cases."""
    case = list(zip((t.date() for t in event_time), entity))
    reviewed = {c for c, a in zip(case, alerted) if a}
    bad = {c for c, fraud in zip(case, y) if fraud}
    days = len({day for day, _ in case})
    inside = np.array([c in reviewed for c in case])
    money = amount[inside & y].sum()
    bothered = len(reviewed - bad)
    return {
        "alerts_per_day": len(reviewed) / days,
        "bothered_per_day": bothered / days,
        "precision": len(reviewed & bad) / len(reviewed),
        "recall": (inside & y).sum() / y.sum(),
        "false_positive_rate": (alerted & ~y).sum() / (~y).sum(),
        "money_caught_per_day": money / days,
        "money_caught_share": money / amount[y].sum(),
        "net_saved_per_day": (
            recovery_rate * money - review_cost * len(reviewed) - false_alarm_cost * bothered
        ) / days,
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_measures_equal_sets(seed):
    arguments = make(seed=seed)
    table = alert_outcomes(**arguments, **COSTS, n_boot=0).set_index("metric")
    assert table.index.tolist() == list(OUTCOMES)
    for metric, value in counted(**arguments, **COSTS).items():
        assert table.loc[metric, "value"] == pytest.approx(value), metric
    assert table["note"].eq("no interval asked for").all()


def test_intervals_equal_those_of_copied_customers():
    arguments = make(rows=700, entities=40)
    seen = (
        pd.DataFrame(arguments).groupby("entity")
        .agg(first=("event_time", "min"), rows=("y", "size"), largest=("amount", "max"))
        .sort_values(["first", "rows", "largest"])
    )  # fmt: skip
    number = seen.index.get_indexer(arguments["entity"])
    hat, rows = np.random.default_rng(0), []
    for _ in range(20):
        names = hat.integers(0, 40, 40)
        where = np.concatenate([np.flatnonzero(number == name) for name in names])
        copy = np.concatenate([np.full((number == name).sum(), i) for i, name in enumerate(names)])
        drawn = {key: np.asarray(value)[where] for key, value in arguments.items()}
        drawn["entity"] = np.array([f"{name}/{i}" for name, i in zip(drawn["entity"], copy)])
        drawn["event_time"] = pd.DatetimeIndex(drawn["event_time"])
        rows.append(counted(**drawn, **COSTS))
    plain = pd.DataFrame(rows)
    table = alert_outcomes(**arguments, **COSTS, n_boot=20).set_index("metric")
    for metric in OUTCOMES:
        expected = np.percentile(plain[metric], [2.5, 97.5])
        np.testing.assert_allclose(table.loc[metric, ["low", "high"]].astype(float), expected, err_msg=metric)


def test_a_threshold_that_keeps_the_budget_every_day_measures_what_the_budget_does():
    arguments = make()
    score = np.random.default_rng(1).random(1500) + arguments["y"]
    frame = pd.DataFrame(arguments).assign(score=score, day=arguments["event_time"].floor("D"))
    best = frame.groupby(["day", "entity"])["score"].max().groupby("day").nlargest(10)
    chosen = pd.MultiIndex.from_frame(frame[["day", "entity"]]).isin(best.index.droplevel(0))
    table = alert_outcomes(**(arguments | {"alerted": chosen}), **COSTS, n_boot=0).set_index("metric")["value"]
    given = {key: value for key, value in arguments.items() if key != "alerted"}
    other = evaluate(**given, score=score, k=10, n_boot=0).set_index("metric")["value"]
    assert table["recall"] == pytest.approx(other["recall_at_budget"])
    assert table["money_caught_share"] == pytest.approx(other["money_caught_share"])
    assert table["alerts_per_day"] == 10


def test_few_frauds_are_not_told():
    arguments = make(rows=300)
    arguments["alerted"] = np.where(arguments["y"], np.cumsum(arguments["y"]) <= 4, arguments["alerted"])
    table = alert_outcomes(**arguments, **COSTS, n_boot=5).set_index("metric")
    hidden = table.index[table["note"] == "not shown: it rests on 1 to 9 frauds"].tolist()
    assert hidden == [name for name in OUTCOMES if name not in ("alerts_per_day", "false_positive_rate")]
    assert table.loc[hidden, ["value", "low", "high"]].isna().all(axis=None)
    assert table.loc["alerts_per_day", "value"] > 0


def test_nothing_alerted_and_no_frauds_are_told():
    arguments = make()
    none = alert_outcomes(**(arguments | {"alerted": np.zeros(1500, bool)}), **COSTS, n_boot=5).set_index("metric")
    assert none.loc["precision", "note"] == "not applicable: nothing raises an alert"
    assert none.loc["net_saved_per_day", "value"] == 0
    assert none.loc["recall", "value"] == 0
    clean = alert_outcomes(**(arguments | {"y": np.zeros(1500, bool)}), **COSTS, n_boot=5).set_index("metric")
    assert clean.loc["recall", "note"] == "not applicable: no frauds among these transactions"
    assert clean.loc["money_caught_share", "note"] == "not applicable: the frauds amount to nothing"
    assert clean["value"].isna().equals(clean["note"].str.startswith("not "))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"review_cost": -1}, "review_cost: must be finite and >= 0; found -1"),
        ({"recovery_rate": 2}, r"recovery_rate: must lie in \[0, 1\]; found 2"),
        ({"alerted": [True]}, "must have one entry per transaction each"),
        ({"n_boot": -1}, "n_boot: must be a whole number >= 0; found -1"),
    ],
)
def test_alert_outcomes_refuses(changes, sentence):
    with pytest.raises(InputError, match=sentence):
        alert_outcomes(**(make() | COSTS | changes))
