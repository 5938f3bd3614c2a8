"""What rules bring alone, add to a model and displace, against a count by hand over lists and sets."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pandas as pd
import pytest

from fraudlab import metrics
from fraudlab.metrics import FEW_FRAUDS, RULE_OUTCOMES, RULE_VIEWS, alert_outcomes, rule_outcomes
from fraudlab.metrics.replicates import draws
from fraudlab.schema import InputError

COSTS = {"review_cost": 15.0, "recovery_rate": 0.8, "false_alarm_cost": 4.0}
K = 6


def world(seed: int, rows: int = 1500, people: int = 120, rate: float = 0.12) -> dict:
    rng = np.random.default_rng(seed)
    bad = rng.random(people) < 0.4
    who = rng.integers(0, people, rows)
    y = (rng.random(rows) < np.where(bad[who], rate * 2.5, 0)).astype(int)
    day = rng.integers(0, 8, rows)
    order = np.argsort(day, kind="stable")
    score = rng.permutation(rows) / rows + 0.5 * y  # no ties
    fired = {
        "good": (y == 1) & (rng.random(rows) < 0.6) | (rng.random(rows) < 0.01),
        "wide": rng.random(rows) < 0.15,
        "rare": rng.random(rows) < 0.02,
    }
    return {
        "y": y[order],
        "fired": pd.DataFrame(fired).iloc[order].reset_index(drop=True),
        "score": score[order],
        "event_time": pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(day[order], unit="D"),
        "entity": who[order],
        "amount": np.round(rng.lognormal(3, 1, rows), 2)[order],
    }


def by_hand(w: dict, fires: np.ndarray, k: int = K) -> dict[tuple[str, str], float]:
    """Count with dictionaries what one rule does; cases are (day, customer)."""
    cases: dict[tuple, dict] = defaultdict(lambda: {"best": -1.0, "frauds": 0, "money": 0.0, "fired": False})
    frauds_of: dict = defaultdict(int)
    for y, fire, score, time, who, amount in zip(
        w["y"], fires, w["score"], w["event_time"], w["entity"], w["amount"], strict=True
    ):
        case = cases[(time, who)]
        case["best"] = max(case["best"], score)
        case["frauds"] += y
        case["money"] += y * amount
        case["fired"] |= bool(fire)
        frauds_of[who] += y
    days = sorted({day for day, _ in cases})
    model, within = set(), set()
    for day in days:
        here = [key for key in cases if key[0] == day]
        model |= set(sorted(here, key=lambda key: (-cases[key]["best"], str(key[1])))[:k])
        within |= set(sorted(here, key=lambda key: (not cases[key]["fired"], -cases[key]["best"], str(key[1])))[:k])
    alone = {key for key in cases if cases[key]["fired"]}
    all_frauds, all_money = sum(w["y"]), float((w["y"] * w["amount"]).sum())

    def worth(chosen: set) -> dict[str, float]:
        bad = sum(cases[key]["frauds"] > 0 for key in chosen)
        money = sum(cases[key]["money"] for key in chosen)
        per_day = {"alerts_per_day": len(chosen), "bothered_per_day": len(chosen) - bad, "money_caught_per_day": money}
        found = {name: value / len(days) for name, value in per_day.items()}
        found["customers_bothered"] = len({who for _, who in chosen if not frauds_of[who]})
        found["precision"] = bad / len(chosen) if chosen else np.nan
        found["recall"] = sum(cases[key]["frauds"] for key in chosen) / all_frauds
        found["money_caught_share"] = money / all_money
        found["net_saved_per_day"] = (
            COSTS["recovery_rate"] * found["money_caught_per_day"]
            - COSTS["review_cost"] * found["alerts_per_day"]
            - COSTS["false_alarm_cost"] * found["bothered_per_day"]
        )
        return found

    single, top, both, first = worth(alone), worth(model), worth(alone | model), worth(within)
    extra = worth(alone - model)
    found = {("alone", name): value for name, value in single.items()}
    found[("alone", "payments_per_day")] = sum(map(bool, fires)) / len(days)
    found |= {("beside", name): both[name] - top[name] for name in single}
    found[("beside", "precision")] = extra["precision"]
    found |= {("within", name): first[name] - top[name] for name in single if name != "alerts_per_day"}
    found[("within", "displaced_per_day")] = len(model - within) / len(days)
    return found


def measured(w: dict, **changes) -> pd.DataFrame:
    arguments = {name: value for name, value in w.items() if name not in ("y", "fired")}
    return rule_outcomes(w["y"], w["fired"], **(arguments | {"k": K, **COSTS, "n_boot": 0} | changes))


@pytest.mark.parametrize("seed", range(4))
def test_every_figure_is_what_a_count_by_hand_gives(seed: int) -> None:
    w = world(seed)
    table = measured(w, together=["good", "wide"])
    fires = {name: w["fired"][name].to_numpy() for name in w["fired"]}
    fires["together"] = fires["good"] | fires["wide"]
    seen = 0
    for rule, flags in fires.items():
        expected = by_hand(w, flags)
        mine = table[table["rule"] == rule].set_index(["view", "metric"])
        assert set(mine.index) == set(expected)
        for key, value in mine["value"].items():
            if np.isnan(value):
                assert mine.loc[key, "note"].startswith("not ")
            else:
                seen += 1
                assert value == pytest.approx(expected[key], abs=1e-9), (rule, key)
    assert seen >= 55
    model = table[table["rule"] == "model"].set_index("metric")["value"]
    assert model["alerts_per_day"] == K


@pytest.mark.parametrize("n_boot", [0, 5])
def test_a_rule_alone_is_measured_like_any_alert(n_boot: int) -> None:
    w = world(1)
    table = measured(w, n_boot=n_boot)
    mine = table[(table["rule"] == "good") & (table["view"] == "alone")].set_index("metric")
    shared = {name: w[name] for name in ("event_time", "entity", "amount")}
    other = alert_outcomes(w["y"], w["fired"]["good"], **shared, **COSTS, n_boot=n_boot).set_index("metric")
    both = [name for name in mine.index if name in other.index]
    assert len(both) == 7
    pd.testing.assert_frame_equal(mine.loc[both, ["value", "low", "high"]], other.loc[both, ["value", "low", "high"]])


def test_intervals_are_those_of_counting_again_with_the_customers_drawn() -> None:
    w = world(2)
    table = measured(w, n_boot=12, seed=5)
    # The blocks are numbered by first appearance; entities that share it are told apart by how often and by amount.
    frame = pd.DataFrame({"who": w["entity"], "time": w["event_time"], "amount": w["amount"]})
    order = frame.groupby("who").agg(first=("time", "min"), n=("time", "size"), top=("amount", "max"))
    names = order.sort_values(["first", "n", "top"]).index.to_numpy()
    replicates = []
    for weights in draws(len(names), 12, 5):
        copies = dict(zip(names, weights.astype(int)))
        rows = [(at, (who, copy)) for at, who in enumerate(w["entity"]) for copy in range(copies[who])]
        where = [at for at, _ in rows]
        drawn = {name: np.asarray(w[name])[where] for name in ("y", "score", "amount")}
        drawn |= {"event_time": w["event_time"][where], "entity": [who for _, who in rows]}
        found = by_hand(drawn, w["fired"]["good"].to_numpy()[where])
        replicates.append(found)
    checked = 0
    for row in table[(table["rule"] == "good") & table["value"].notna()].itertuples():
        values = [found[(row.view, row.metric)] for found in replicates]
        # a day without any customer drawn keeps its place in the count of days
        low, high = np.nanpercentile(values, [2.5, 97.5])
        assert (row.low, row.high) == pytest.approx((low, high), abs=1e-9), (row.view, row.metric)
        checked += 1
    assert checked > 20


def test_equal_seeds_give_equal_tables_and_pseudonyms_do_not_matter() -> None:
    w = world(3)
    first = measured(w, n_boot=6)
    renamed = w | {"entity": [f"p{hash((who, 'salt')) % 10**9}-{who}" for who in w["entity"]]}
    pd.testing.assert_frame_equal(first, measured(renamed, n_boot=6))
    assert not first.equals(measured(w, n_boot=6, seed=1))


def test_a_rule_that_is_the_model_adds_nothing_and_displaces_nothing() -> None:
    w = world(0)
    model = measured(w)
    day = w["event_time"]
    best = pd.DataFrame({"day": day, "who": w["entity"], "s": w["score"]}).groupby(["day", "who"])["s"].transform("max")
    rank = best.groupby(np.asarray(day)).rank(ascending=False, method="dense")
    table = measured(w | {"fired": pd.DataFrame({"same": (rank <= K).to_numpy()})})
    same = table[table["rule"] == "same"].set_index(["view", "metric"])["value"].sort_index()
    top = model[model["rule"] == "model"].set_index("metric")["value"]
    for name, value in top.items():
        assert same["alone", name] == pytest.approx(value, nan_ok=True)
    assert same["beside"].drop("precision").eq(0).all()
    assert same["within"].eq(0).all()
    note = table[(table["rule"] == "same") & (table["view"] == "beside") & (table["metric"] == "precision")]["note"]
    assert note.tolist() == ["not applicable: it adds no case"]


def test_limits_no_hit_every_hit_no_model_no_fraud() -> None:
    w = world(0)
    flags = pd.DataFrame({"never": np.zeros(len(w["y"]), bool), "always": np.ones(len(w["y"]), bool)})
    table = measured(w | {"fired": flags})
    value = table.set_index(["rule", "view", "metric"])["value"].sort_index()
    assert value["never", "alone", "alerts_per_day"] == 0
    assert np.isnan(value["never", "alone", "precision"])
    assert value["never", "within"].eq(0).all()
    assert value["always", "alone", "recall"] == 1
    assert value["always", "within"].eq(0).all(), "the best of all alerted cases are the model's"
    alone = measured(w, score=None)
    assert set(alone["view"]) == {"alone"}
    assert "model" not in set(alone["rule"])
    genuine = measured(w | {"y": np.zeros(len(w["y"]), int)})
    notes = genuine[(genuine["metric"] == "recall") & (genuine["view"] == "alone")]["note"].unique().tolist()
    assert notes == ["not applicable: no frauds among these transactions"]
    none = measured(w | {"fired": pd.DataFrame(index=range(len(w["y"])))})
    assert none["rule"].unique().tolist() == ["model"]


def small(cases: int, bad: int, shared_bad: int = 0) -> pd.DataFrame:
    """One day, 400 customers; the model takes 30, 20 of them bad; the rule alerts so many others and shared ones."""
    y, fires = np.zeros(400, int), np.zeros(400, bool)
    score = np.linspace(1, 0, 400)
    y[:20] = 1
    fires[100 : 100 + cases] = True
    y[100 : 100 + bad] = 1
    y[390:] = 1
    fires[:shared_bad] = True
    return rule_outcomes(
        y,
        pd.DataFrame({"r": fires}),
        score=score,
        event_time=pd.to_datetime(["2026-01-01"] * 400, utc=True),
        entity=range(400),
        amount=np.full(400, 10.0),
        k=30,
        **COSTS,
        n_boot=0,
    ).set_index(["rule", "view", "metric"])


@pytest.mark.parametrize(("bad", "shown"), [(0, True), (1, False), (9, False), (10, True)])
def test_nothing_is_shown_that_rests_on_one_to_nine_frauds(bad: int, shown: bool) -> None:
    table = small(60, bad)
    alone = table.loc[("r", "alone")]
    assert alone.loc["alerts_per_day", "value"] == 60
    assert pd.notna(alone.loc["recall", "value"]) == shown
    assert pd.notna(alone.loc["net_saved_per_day", "value"]) == shown
    if not shown:
        assert alone.loc["recall", "note"] == FEW_FRAUDS
        total = 20 + bad + 10
        assert alone.loc["recall", ["low", "high"]].tolist() == pytest.approx([1 / total, 9 / total])
        assert alone.loc["precision", ["low", "high"]].tolist() == pytest.approx([1 / 60, 9 / 60])
        assert alone.loc["bothered_per_day", ["low", "high"]].tolist() == pytest.approx([51, 59])
        assert alone.loc["net_saved_per_day", ["low", "high"]].isna().all()


def test_few_cases_are_not_shown_at_all() -> None:
    table = small(9, 0)
    assert table.loc[("r", "alone"), "value"].isna().all()
    assert table.loc[("r", "alone"), "note"].unique().tolist() == ["not shown: fewer than 10 cases"]
    assert table.loc[("r", "within"), "value"].isna().all()


def test_what_would_follow_by_subtraction_is_not_shown_either() -> None:
    table = small(60, 20, shared_bad=5)  # 25 frauds alone and 20 beside the model would tell of five
    assert pd.notna(table.loc[("r", "alone", "recall"), "value"])
    assert table.loc[("r", "beside"), "value"].isna().all()
    few = "not shown: all but fewer than 10 cases are those of the rule alone"
    assert table.loc[("r", "beside"), "note"].unique().tolist() == [few]
    wide = world(5, rate=0.3)
    wide["fired"] = wide["fired"].assign(also=wide["fired"]["wide"])
    wide["fired"].loc[np.flatnonzero(wide["y"])[:3], "also"] = True
    shown = measured(wide, together=["wide", "also"]).set_index(["rule", "view", "metric"])
    assert shown.loc[("together", "alone", "recall"), "note"].startswith("not shown: it differs from one rule's")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fired": pd.DataFrame({"model": [True] * 1500})}, "fired: no rule may be called 'model', a row of the table"),
        ({"fired": pd.DataFrame({"r": [0.5] * 1500})}, "fired: column 'r' must be true or false; found other values"),
        ({"fired": pd.DataFrame({"r": [True]})}, "arguments: must have one entry per transaction each"),
        ({"together": ["nobody"]}, "together: must be columns of fired; found 'nobody'; take it out"),
        ({"k": 0}, "k: must be a whole number >= 1; found 0"),
        ({"recovery_rate": 1.5}, "recovery_rate: must lie in [0, 1]; found 1.5; correct decision.recovery_rate"),
        ({"review_cost": -1.0}, "review_cost: must be finite and >= 0; found -1.0; correct decision.review_cost"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(changes: dict, said: str) -> None:
    w = world(0)
    fired = changes.pop("fired", w["fired"]) if "fired" in changes else w["fired"]
    with pytest.raises(InputError) as error:
        measured(w | {"fired": fired}, **changes)
    assert str(error.value).startswith(said)


def test_views_and_metrics_have_their_meaning() -> None:
    table = measured(world(0))
    assert set(table["view"]) == set(RULE_VIEWS)
    assert set(table["metric"]) == set(RULE_OUTCOMES)
    assert metrics.RULE_OUTCOMES is RULE_OUTCOMES
