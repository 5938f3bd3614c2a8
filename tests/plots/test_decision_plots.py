"""Pictures of decisions: the numbers drawn are those of the table, few are not drawn, nothing to draw is said."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fraudlab import plots

LABELS = {"xgboost": "boosted trees", "rules": "plain rules"}


def simulated(net: tuple[float, ...] = (300.0, 500.0, 200.0)) -> pd.DataFrame:
    rows = []
    for model, factor in (("xgboost", 1.0), ("rules", 0.5)):
        for by in ("budget", "threshold") if model == "xgboost" else ("budget",):
            for place, budget in enumerate((1, 5, 20)):
                values = {
                    "cases": 30.0 * budget,
                    "alerts_per_day": budget + 0.5 * (by == "threshold"),
                    "bothered_per_day": 0.5 * budget,
                    "precision": 0.5,
                    "frauds_caught": 15.0 * budget,
                    "recall": 0.2 + 0.2 * place,
                    "net_saved_per_day": factor * net[place],
                }
                for metric, value in values.items():
                    rows.append((model, by, budget, budget == 5, metric, value, value - 1, value + 1))
    return pd.DataFrame(rows, columns=["model", "by", "budget", "chosen", "metric", "value", "low", "high"])


def test_a_simulation_draws_each_panel_and_says_where_it_pays_most() -> None:
    figure = plots.simulation(simulated(), LABELS)
    assert figure.alt.startswith("Boosted trees: the 5 reviews a day in use save most, 500 a day.")
    assert "20 a day: 60.0 % of the frauds, 10.0 genuine cases, 200 saved." in figure.alt
    lines = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 3]
    drawn = {line.get_label(): np.column_stack(line.get_data()).tolist() for line in lines}
    assert drawn["Boosted trees"] == [[1, 300], [5, 500], [20, 200]]
    assert drawn["Plain rules"] == [[1, 150], [5, 250], [20, 100]]
    assert drawn["its thresholds, from validation"] == [[1.5, 300], [5.5, 500], [20.5, 200]]
    other = plots.simulation(simulated((300.0, 500.0, 800.0)), LABELS)
    assert "20 reviews a day would save most, 800 a day; the 5 in use save 500" in other.alt


def test_a_simulation_without_enough_frauds_is_said() -> None:
    few = simulated()
    few.loc[~few["metric"].isin(["cases", "alerts_per_day"]), ["value", "low", "high"]] = np.nan
    assert "fewer than 10 frauds at every budget" in plots.simulation(few, LABELS).alt
    assert "no simulation to draw" in plots.simulation(few.iloc[:0]).alt


def test_actions_are_drawn_with_who_decides_and_small_counts_are_not() -> None:
    table = pd.DataFrame(
        {
            "action": ["approve", "step_up_authentication", "manual_review"],
            "decided_by": ["nobody", "the customer confirms", "a person"],
            "transactions": [900, 80, 20],
            "frauds": [4, 16, 60],
        }
    )
    figure = plots.actions(table)
    assert "manual review (a person), 2.00 % of payments, 75.0 % of frauds" in figure.alt
    assert "approve (nobody), 90.0 % of payments, not shown (few) of frauds" in figure.alt
    widths = [bar.get_width() for bar in figure.axes[1].patches]
    assert widths == [0, 0, 0.75]
    assert "states no risk" in plots.actions(table.iloc[:0]).alt


def rated(high: int = 40) -> tuple[pd.DataFrame, pd.DataFrame]:
    weeks = pd.date_range("2026-05-01", periods=2, freq="7D", tz="UTC")
    weekly = pd.DataFrame(
        {"week": weeks.repeat(3), "rating": ["low", "medium", "high"] * 2, "customers": [900, 60, high] * 2}
    )
    weekly["share"] = weekly["customers"] / weekly.groupby("week")["customers"].transform("sum")
    after = pd.DataFrame({"rating": ["low", "medium", "high"], "customers": [1800, 120, 2 * high]})
    rates = {"transactions": [9000, 600, 400], "frauds": [90, 12, 20], "fraud_rate": [0.01, 0.02, 0.05]}
    return weekly, after.assign(**rates, low=[0.008, 0.01, 0.03], high=[0.012, 0.04, 0.08])


def test_ratings_are_drawn_week_by_week_with_what_followed() -> None:
    figure = plots.ratings(*rated())
    assert "payments of customers rated high are fraud 5.0 times as often as of those rated low" in figure.alt
    assert "high 4.00 % at first, 4.00 % at last" in figure.alt
    assert "low 1.00 %, medium 2.00 %, high 5.00 %." in figure.alt
    lines = {line.get_label(): list(line.get_ydata()) for line in figure.axes[0].get_lines()}
    assert lines["medium"] == [0.06, 0.06]


def test_few_customers_rated_high_are_not_drawn() -> None:
    weekly, after = rated(high=3)
    figure = plots.ratings(weekly, after.assign(frauds=[90, 12, 3]))
    assert not any(line.get_label() == "high" for line in figure.axes[0].get_lines())
    assert "high" not in figure.alt.split("Share of fraud")[1]
    assert "too few to show" in plots.ratings(weekly.iloc[:0], after.iloc[:0]).alt
