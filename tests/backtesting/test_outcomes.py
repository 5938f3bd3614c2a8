"""What a walk brought: the tables against sums by hand, what may leave, the picture and the page."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from fraudlab import plots
from fraudlab.backtesting import World, decided, judge, measured, overview, score_walk
from fraudlab.backtesting.estimates import weekly
from fraudlab.backtesting.outcomes import Judged
from fraudlab.backtesting.walking import Walk
from fraudlab.metrics import top_cases
from fraudlab.privacy.disclosure import protected
from fraudlab.report.backtest import backtest_page

FACTS = {
    "name": "walked-backtest-1", "config": "walked", "dataset": "walked", "from": "2026-03-05", "to": "2026-04-02",
    "every_days": 7, "policies": {"never": "for ever", "14d": "-", "weekly": "-", "weekly-ungated": "<b>"},
    "alerts_per_day": 8, "models": 4, "payments": 9000, "payments_judged": 2600,
    "digests": {"config": "a" * 64, "data": "b" * 64, "code": "c" * 64, "ledger": None},
}  # fmt: skip


@pytest.fixture(scope="module")
def tables(world: World, walked: Walk) -> dict[str, pd.DataFrame]:
    judged = score_walk(world, walked)
    return judge(world, walked, judged, n_boot=60) | {"backtest_estimates": measured(world, walked, judged)}


def test_money_is_added_up_as_by_hand(world: World, walked: Walk, tables: dict[str, pd.DataFrame]) -> None:
    judged, costs = score_walk(world, walked), world.config.decision
    rows = world.transactions.iloc[judged.rows].reset_index(drop=True)
    day, y = rows["event_time"].dt.floor("D"), rows["is_fraud"].astype(bool)
    case = day.astype("str") + rows["customer_id"]
    saved = {}
    for name in judged.score:
        top = top_cases(judged.score[name], event_time=rows["event_time"], entity=rows["customer_id"], k=8)
        for by, alerted in (("budget", pd.Series(top)), ("threshold", judged.alert[name])):
            hit = alerted.groupby(case).transform("max")
            net = costs.recovery_rate * (rows["amount"] * y * hit).groupby(judged.period).sum()
            net -= costs.review_cost * hit[~case.duplicated()].groupby(judged.period[~case.duplicated()]).sum()
            saved[name, by] = net
            row = tables["backtest_totals"].query(
                "policy == @name and by == @by and against == '' and metric == 'net_saved_per_day'"
            )
            assert row["block"].tolist() == ["entity", "week"]
            assert row["value"].to_numpy() == pytest.approx([net.sum() / 28] * 2)
    for named, net in saved.items():
        name, by = named
        mine = tables["backtest_periods"].query("policy == @name and by == @by")
        last = (net - saved["never", by]).sum()
        assert mine["difference"].iloc[-1] == pytest.approx(last)
        row = tables["backtest_totals"].query(
            "policy == @name and by == @by and against == 'never' and metric == 'net_saved_per_day'"
        )
        told = row["value"].dropna().unique()
        assert all(value == pytest.approx(last / 28) for value in told)


def test_the_tables_of_a_walk(tables: dict[str, pd.DataFrame]) -> None:
    totals = tables["backtest_totals"]
    assert totals.groupby(["policy", "by", "against", "metric", "block"]).size().max() == 1
    hidden = totals["value"].isna()
    assert totals.loc[hidden, "note"].str.match("not (shown|applicable)").all()
    shown = overview(tables)
    assert shown["policy"].tolist() == ["never", "weekly", "14d", "weekly-ungated"]
    assert shown["models made"].tolist() == [1, 4, 2, 4]
    assert shown["champions"].iloc[[0, 3]].tolist() == [1, 4]
    said = decided(tables)
    assert [sentence.split()[0] for sentence in said] == ["weekly", "14d", "weekly-ungated"]
    assert said[-1].startswith("weekly-ungated promoted 3 of 3 later models")


def test_what_leaves_tells_of_no_few(tables: dict[str, pd.DataFrame]) -> None:
    safe = {name: protected(name, table) for name, table in tables.items()}
    again = {name: protected(name, table) for name, table in safe.items()}
    for name in safe:
        pd.testing.assert_frame_equal(safe[name], again[name])
    precision = safe["backtest_precision"]
    own = precision[(precision["against"] == "") & (precision["period"] != "all")]
    for name in ("hits", "compromised"):
        assert not own[name].between(1, 9).any()
    assert {"gained", "lost"}.isdisjoint(safe["backtest_periods"])


def test_a_difference_is_told_only_where_enough_frauds_made_it() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        steps = int(rng.integers(1, 15))
        gained, lost = rng.poisson(rng.choice([0.5, 4, 12]), steps), rng.poisson(rng.choice([0, 3, 9]), steps)
        table = pd.DataFrame(
            {
                "policy": "p", "by": "budget", "period": [f"{i:02d}" for i in range(steps)], "cases": 7,
                "gained": gained, "lost": lost, "difference": np.arange(steps) + 1.0,
            }
        )  # fmt: skip
        told = np.flatnonzero(protected("backtest_periods", table)["difference"].notna())
        for before, place in zip([-1, *told], told):
            for counts in (gained, lost):
                made = counts[before + 1 : place + 1].sum()
                assert made == 0 or made >= 10
        if gained.sum() >= 10 and lost.sum() == 0:
            left = gained[told[-1] + 1 :].sum() if len(told) else 1
            assert left == 0


def test_small_periods_are_joined_before_they_are_hidden(tables: dict[str, pd.DataFrame]) -> None:
    precision = tables["backtest_precision"]
    own = precision[(precision["against"] == "") & (precision["period"] != "all")]
    small = own[["hits", "compromised"]].apply(lambda column: column.between(1, 9)).any(axis=None)
    assert own["period"].nunique() == 1 or not small


def test_the_picture_tells_its_numbers(tables: dict[str, pd.DataFrame]) -> None:
    end = pd.Timestamp("2026-04-02", tz="UTC")
    names = ("backtest_champions", "backtest_precision", "backtest_periods", "backtest_totals")
    safe = [protected(name, tables[name]) for name in names]
    marks = [(pd.Timestamp("2026-03-12", tz="UTC"), "something begins")]
    picture = plots.backtest(*safe, end=end, marks=marks)
    assert picture.alt.startswith("Policies of retraining over time. never: ")
    assert "weekly-ungated: " in picture.alt
    assert "3 changes of champion" in picture.alt
    assert picture.svg() == plots.backtest(*safe, end=end, marks=marks).svg()
    assert "something begins" in picture.svg()
    lanes = picture.axes[1]
    changed = [line for line in lanes.lines if line.get_marker() in plots.style.MARKS]
    assert [len(line.get_xdata()) for line in changed][-1] == 4


def test_a_walk_without_enough_victims_is_not_drawn(tables: dict[str, pd.DataFrame]) -> None:
    empty = tables["backtest_precision"].assign(value=np.nan)
    picture = plots.backtest(
        tables["backtest_champions"], empty, tables["backtest_periods"], tables["backtest_totals"],
        end=pd.Timestamp("2026-04-02", tz="UTC"),
    )  # fmt: skip
    assert picture.alt == "Fewer than 10 victims were found in every period, so none is drawn."


def test_the_page_holds_everything_and_nothing_from_outside(tables: dict[str, pd.DataFrame]) -> None:
    safe = {name: protected(name, table) for name, table in tables.items()}
    facts = FACTS | {"said": decided(tables)}
    html = backtest_page(safe, facts, end=pd.Timestamp("2026-04-02", tz="UTC"))
    assert html == backtest_page(safe, facts, end=pd.Timestamp("2026-04-02", tz="UTC"))
    assert "&lt;b&gt;" in html
    assert "<b>" not in html
    for sentence in facts["said"]:
        assert sentence.replace("'", "&#39;") in html
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert "<script" not in html
    assert html.count("weekly-ungated") >= 4
    for who in ("c010", "c020", "t00001"):
        assert who not in html


def test_each_week_is_estimated_from_what_was_known_at_its_end(world: World, walked: Walk) -> None:
    judged = score_walk(world, walked)
    told = weekly(world, walked, judged, "never")
    rows = world.transactions.iloc[judged.rows].reset_index(drop=True)
    case = [rows["event_time"].dt.floor("D"), rows["customer_id"]]
    risk, alert = judged.risk["never"], judged.alert["never"]
    assert risk.between(0, 1).all()
    assert not risk.equals(judged.score["never"])
    cases = pd.DataFrame({"risk": risk, "alert": alert, "fraud": rows["is_fraud"].astype(bool)}).groupby(case).max()
    week = (cases.index.get_level_values(0) - walked.start) // pd.Timedelta(days=7)
    for number, mine in cases.groupby(week):
        alerted = mine[mine["alert"]]
        row = told.iloc[number]
        assert row["alerts"] == len(alerted)
        assert row["precision_expected"] == pytest.approx(alerted["risk"].mean())
        assert row["precision"] == pytest.approx(alerted["fraud"].mean())
        assert row["recall"] == pytest.approx(alerted["fraud"].sum() / mine["fraud"].sum())
        assert row["recall_expected"] == pytest.approx(alerted["risk"].sum() / mine["risk"].sum())
    assert told["precision_corrected"].isna().tolist() == [True, True, True, False], "three mature weeks are needed"

    # What becomes known after the third week has ended changes nothing of what is said of it then.
    third = walked.start + pd.Timedelta(days=21)
    later = world.transactions.copy()
    late = (later["label_time"] > third).to_numpy()
    later.loc[late, "is_fraud"] = False
    other = dataclasses.replace(world, transactions=later)
    again = weekly(other, walked, judged, "never")
    said = ["alerts", "precision_expected", "precision_corrected", "recall_expected"]
    pd.testing.assert_frame_equal(told.loc[:2, said], again.loc[:2, said])
    assert again["hits"].sum() < told["hits"].sum()


def test_a_walk_of_less_than_a_week_has_no_estimate_and_says_so(world: World, walked: Walk) -> None:
    short = dataclasses.replace(walked, end=walked.start + pd.Timedelta(days=6))
    table = measured(world, short, score_walk(world, walked))
    assert len(table) == 3 * len(walked.policies)
    assert table["n"].eq(0).all()
    assert table[["bias", "chance"]].isna().all(axis=None)
    assert table["note"].str.startswith("not applicable: fewer than three mature weeks").all()


def test_a_long_walk_is_corrected_by_earlier_weeks_alone(world: World, walked: Walk) -> None:
    """Twelve weeks of a champion that states twice the risk: each week is halved by those mature when it ended."""
    rng = np.random.default_rng(5)
    start = pd.Timestamp("2026-01-05", tz="UTC")
    n, weeks = 6000, 12
    when = start + pd.to_timedelta(np.sort(rng.integers(0, weeks * 7 * 86_400, n)), unit="s")
    risk = rng.uniform(0.1, 0.5, n)
    fraud = rng.random(n) < risk / 2
    payments = pd.DataFrame(
        {
            "event_time": when.astype("datetime64[us, UTC]"),
            "customer_id": [f"c{i}" for i in range(n)],
            "is_fraud": pd.array(fraud, dtype="boolean"),
            "label_time": (when + pd.Timedelta(days=5)).astype("datetime64[us, UTC]"),
        }
    )
    frame = pd.DataFrame({"p": risk})
    judged = Judged(np.arange(n), np.zeros(n), frame, frame, frame > 0.3)
    long = dataclasses.replace(walked, start=start, end=start + pd.Timedelta(days=7 * weeks))
    here = dataclasses.replace(world, transactions=payments)
    table = measured(here, long, judged).set_index("metric")
    assert table.loc["precision", "bias"] == pytest.approx(0.2, abs=0.02), "risks of .3 to .5 state .4, and .2 are so"
    assert abs(table.loc["corrected precision", "bias"]) < 0.02
    assert table.loc["corrected precision", "typical"] == pytest.approx(
        table.loc["corrected precision", "chance"], rel=0.5
    )
    told = weekly(here, long, judged, "p")
    number = np.asarray((when - start) // pd.Timedelta(days=7))
    # Frauds are known after five days: when week w ends, the weeks before it are mature and it is not.
    for at in range(3, weeks):
        before = (number < at) & (risk > 0.3)
        factor = fraud[before].sum() / risk[before].sum()
        expected = risk[(number == at) & (risk > 0.3)].mean() * factor
        assert told["precision_corrected"].iloc[at] == pytest.approx(expected)
    assert told["precision_corrected"].iloc[:3].isna().all()
