"""Ways of working through the same time: against the metrics of one way alone, and against resampling by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fraudlab.metrics import (
    WORKED,
    alert_outcomes,
    card_precision_at_k,
    card_precision_by_period,
    top_cases,
    ways_of_working,
)
from fraudlab.metrics.replicates import draws
from fraudlab.schema import InputError

COSTS = {"review_cost": 7.0, "recovery_rate": 0.6, "false_alarm_cost": 2.0}


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    n = 3000
    day = np.sort(rng.integers(0, 28, n))
    who = rng.integers(0, 90, n)
    y = rng.random(n) < np.where(who % 6 == 0, 0.2, 0.03)
    return pd.DataFrame(
        {
            "when": pd.Timestamp("2026-01-01", tz="UTC")
            + pd.to_timedelta(day * 86_400 + rng.integers(0, 86_400, n), "s"),
            "who": [f"c{i:02d}" for i in who],
            "y": y.astype(int),
            "amount": np.round(rng.lognormal(3, 1, n), 2),
            "one": rng.random(n) + 0.5 * y,
            "other": rng.random(n) + 0.3 * y,
            "period": [f"w{d // 7}" for d in day],
        }
    ).sort_values("when", ignore_index=True)


def where(rows: pd.DataFrame) -> dict:
    return {"event_time": rows["when"], "entity": rows["who"]}


def test_each_way_is_measured_as_it_is_alone(rows: pd.DataFrame) -> None:
    ways = {"one": rows["one"] > 1.1, "other": rows["other"] > 1.0}
    table = ways_of_working(rows["y"], ways, amount=rows["amount"], **where(rows), **COSTS, n_boot=40, seed=5)
    assert list(dict.fromkeys(table["metric"])) == list(WORKED)
    for name, alerted in ways.items():
        alone = alert_outcomes(rows["y"], alerted, amount=rows["amount"], **where(rows), **COSTS, n_boot=40, seed=5)
        mine = table[table["way"] == name].set_index("metric")
        for row in alone.itertuples():
            found = mine.loc[row.metric, ["value", "low", "high"]].to_numpy(dtype=float)
            np.testing.assert_allclose(found, [row.value, row.low, row.high], rtol=1e-12)
        days = 28
        total = (rows["y"] * rows["amount"]).sum() / days
        caught = mine.loc["money_caught_per_day", "value"]
        assert mine.loc["money_missed_per_day", "value"] == pytest.approx(total - caught)
        net = mine.loc["net_saved_per_day", "value"]
        assert mine.loc["review_cost_per_day", "value"] == pytest.approx(COSTS["recovery_rate"] * caught - net)


@pytest.mark.parametrize("block", ["entity", "week"])
def test_a_difference_is_that_of_the_same_draws(rows: pd.DataFrame, block: str) -> None:
    ways = {"one": rows["one"] > 1.1, "other": rows["other"] > 1.0}
    settings = {"amount": rows["amount"], **where(rows), **COSTS, "block": block, "n_boot": 25, "seed": 3}
    table = ways_of_working(rows["y"], ways, against="one", **settings)
    day = rows["when"].dt.floor("D")
    unit = rows["who"] if block == "entity" else (day - day.min()).dt.days // 7
    # Entities are numbered by first appearance; the weights of a draw go to them in that order.
    first = rows.groupby(unit.to_numpy())["when"].min().sort_values().index

    def net(weights: np.ndarray, alerted: pd.Series) -> float:
        times = unit.map(dict(zip(first, weights)))
        case = day.astype("str") + rows["who"]
        hit = alerted.groupby(case).transform("max")
        bad = rows["y"].groupby(case).transform("max")
        once = ~case.duplicated()
        money = (times * rows["y"] * rows["amount"] * hit).sum()
        cases = (times * hit)[once].sum()
        bothered = (times * hit * (1 - bad))[once].sum()
        costs = COSTS["review_cost"] * cases + COSTS["false_alarm_cost"] * bothered
        return (COSTS["recovery_rate"] * money - costs) / 28

    drawn = [net(w, ways["other"]) - net(w, ways["one"]) for w in draws(len(first), 25, 3)]
    row = table[(table["against"] == "one") & (table["metric"] == "net_saved_per_day")].iloc[0]
    ones = np.ones(len(first))
    assert row["value"] == pytest.approx(net(ones, ways["other"]) - net(ones, ways["one"]))
    np.testing.assert_allclose([row["low"], row["high"]], np.percentile(drawn, [2.5, 97.5]))
    assert row["note"].startswith(f"95 % interval over {len(first)} {'entities' if block == 'entity' else 'weeks'}")


def test_ways_that_differ_by_few_frauds_are_not_told_apart(rows: pd.DataFrame) -> None:
    one = rows["one"] > 1.1
    caught = np.flatnonzero(one & (rows["y"] == 1))
    other = one.copy()
    case = rows["when"].dt.floor("D").astype("str") + rows["who"]
    for place in caught[:2]:
        other[case == case[place]] = False
    ways = {"one": one, "other": other, "same": one}
    table = ways_of_working(
        rows["y"], ways, amount=rows["amount"], **where(rows), **COSTS, against="one", n_boot=0
    ).set_index(["way", "against", "metric"])
    assert table.loc[("other", "one", "net_saved_per_day"), "note"] == "not shown: the two differ by 1 to 9 frauds"
    assert np.isnan(table.loc[("other", "one", "recall"), "value"])
    assert np.isfinite(table.loc[("other", "one", "alerts_per_day"), "value"])
    assert table.loc[("same", "one", "net_saved_per_day"), "value"] == 0


def test_each_period_is_that_period_alone(rows: pd.DataFrame) -> None:
    scores = {"one": rows["one"], "other": rows["other"]}
    table = card_precision_by_period(rows["y"], scores, rows["period"], **where(rows), k=5, against="one", n_boot=30)
    for name in scores:
        mine = table[(table["way"] == name) & (table["against"] == "")].set_index("period")
        hits = 0
        for period, part in rows.groupby("period"):
            value, daily = card_precision_at_k(part["y"], part[name], part["when"], part["who"], 5)
            assert mine.loc[period, "value"] == pytest.approx(value)
            assert mine.loc[period, "hits"] == daily["hits"].sum()
            assert mine.loc[period, "compromised"] == daily["compromised"].sum()
            assert mine.loc[period, "low"] <= value <= mine.loc[period, "high"]
            hits += daily["hits"].sum()
        assert mine.loc["all", "value"] == pytest.approx(hits / 5 / 28)
    own = table[(table["against"] == "") & (table["period"] == "all")].set_index("way")["value"]
    row = table[table["against"] == "one"].iloc[0]
    assert row["value"] == pytest.approx(own["other"] - own["one"])
    assert row["low"] < row["value"] < row["high"]


def test_an_entity_that_is_drawn_twice_is_there_twice(rows: pd.DataFrame) -> None:
    table = card_precision_by_period(
        rows["y"], {"one": rows["one"]}, rows["period"], **where(rows), k=5, n_boot=12, seed=8
    )
    first = rows.groupby("who")["when"].min().sort_values().index
    values = {name: [] for name in ("all", "w2")}
    for weights in draws(len(first), 12, 8):
        times = dict(zip(first, weights.astype(int)))
        copies = pd.concat(
            [rows[rows["who"] == who].assign(who=f"{who}-{copy}") for who in first for copy in range(times[who])]
        )
        hits = {}
        for period, part in copies.groupby("period"):
            _, daily = card_precision_at_k(part["y"], part["one"], part["when"], part["who"], 5)
            hits[period] = daily["hits"].sum()
        values["all"].append(sum(hits.values()) / 5 / 28)
        values["w2"].append(hits["w2"] / 5 / 7)
    for name, drawn in values.items():
        row = table[table["period"] == name].iloc[0]
        np.testing.assert_allclose([row["low"], row["high"]], np.percentile(drawn, [2.5, 97.5]))


def test_weeks_are_drawn_whole(rows: pd.DataFrame) -> None:
    table = card_precision_by_period(
        rows["y"], {"one": rows["one"]}, rows["period"], **where(rows), k=5, block="week", n_boot=50, seed=2
    )
    week = table[table["period"] != "all"]
    assert week[["low", "high"]].isna().all(axis=None)
    hits = week["hits"].to_numpy()
    drawn = [(w @ hits) / 5 / 28 for w in draws(4, 50, 2)]
    row = table[table["period"] == "all"].iloc[0]
    np.testing.assert_allclose([row["low"], row["high"]], np.percentile(drawn, [2.5, 97.5]))
    assert "4 weeks, too few for a bootstrap" in row["note"]


def test_limits_and_refusals(rows: pd.DataFrame) -> None:
    one = rows.iloc[[0]].assign(y=1)
    table = card_precision_by_period(one["y"], {"a": [0.5]}, ["p"], **where(one), k=2, n_boot=9)
    assert table["value"].tolist() == [0.5, 0.5]
    assert table["low"].isna().all()
    assert top_cases([0.5], **where(one), k=1).tolist() == [True]
    with pytest.raises(InputError, match=r"^ways: must hold at least one way of choosing cases; found none"):
        ways_of_working([1], {}, amount=[1], **where(one), **COSTS)
    with pytest.raises(InputError, match=r"^against: no way is named 'wekly'; did you mean 'weekly'\?"):
        ways_of_working([1], {"weekly": [1]}, amount=[1], **where(one), **COSTS, against="wekly")
    with pytest.raises(InputError, match=r"^block: must be 'entity' or 'week'; found 'day'"):
        card_precision_by_period([1], {"a": [1.0]}, ["p"], **where(one), k=1, block="day")
    with pytest.raises(InputError, match=r"^scores: must hold at least one way of scoring"):
        card_precision_by_period([1], {}, ["p"], **where(one), k=1)
