"""What leaves holds no small group: merged where that helps, hidden where not, and the totals give nothing away."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraudlab import plots
from fraudlab.config import DatasetConfig, RunConfig, Workspace
from fraudlab.metrics import calibration_table, cost_table
from fraudlab.privacy.disclosure import (
    hidden_tiers,
    joined_bins,
    protected,
    protected_facts,
    thinned_budgets,
    weekly_frauds,
)
from fraudlab.runs import Run

ROOT = Path(__file__).resolve().parents[2]


def few(count: float) -> bool:
    return 0 < count < 10


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 400), st.floats(0.0, 0.4))
def test_no_bin_of_stated_risk_holds_few_payments_or_few_frauds(seed: int, n: int, rate: float) -> None:
    dice = np.random.default_rng(seed)
    risk = np.round(dice.beta(1, 8, n), 3)
    y = dice.random(n) < rate
    table = calibration_table(y, risk, model="m", stage="after")
    joined = joined_bins(table)
    assert joined["n"].sum() == n, "joined, never left out"
    shown = joined["observed"].notna()
    assert not any(few(round(hits)) for hits in (joined["observed"] * joined["n"])[shown])
    assert (joined["n"][shown] >= 10).all()
    assert (joined["n"] * joined["mean_predicted"]).sum() == pytest.approx(risk.sum())
    if shown.all():
        assert (joined["n"] * joined["observed"]).sum() == pytest.approx(y.sum())
    else:
        assert few(y.sum()) or n < 10, "blanked only where all of it is small"
        assert len(joined) == 1
    pd.testing.assert_frame_equal(joined_bins(joined), joined)


def test_a_joined_bin_is_the_bin_of_its_payments() -> None:
    """Against the same payments binned at once by the metric itself."""
    risk = np.repeat([0.03, 0.06, 0.3], [500, 80, 120])
    y = np.repeat([1, 0, 1, 0, 1, 0], [20, 480, 3, 77, 40, 80])
    table = calibration_table(y, risk, bins=100, model="m", stage="after")
    assert table["n"].tolist() == [500, 80, 120]
    joined = joined_bins(table)
    expected = calibration_table(y, np.where(risk > 0.03, (80 * 0.06 + 120 * 0.3) / 200, risk), bins=100)
    for name in ("n", "mean_predicted", "observed", "low", "high"):
        np.testing.assert_allclose(joined[name], expected[name], rtol=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.001, 0.2))
def test_budgets_left_differ_by_no_few_frauds(seed: int, rate: float) -> None:
    dice = np.random.default_rng(seed)
    n = 900
    day = pd.to_datetime("2026-01-01", utc=True) + pd.to_timedelta(dice.integers(0, 9, n), unit="D")
    y = dice.random(n) < rate
    score = dice.random(n) + 0.5 * y
    ks = [1, 2, 3, 5, 8, 13, 21]
    table = cost_table(y, score, day, dice.integers(0, 200, n), dice.random(n), ks, 1.0, 0.5, model="m")
    left = thinned_budgets(table, 5)
    assert 5 in left["alerts_per_day"].tolist(), "the budget in use stays"
    shown = left[left["frauds_caught"].notna()]
    for counts in (shown["frauds_caught"], (shown["precision"] * shown["cases"]).round()):
        assert not any(few(each) for each in np.diff(np.r_[0, counts.to_numpy()]))
    hidden = left[left["frauds_caught"].isna()]
    assert hidden["alerts_per_day"].isin([5]).all()
    assert hidden[["net_saved", "fraud_amount_caught", "precision"]].isna().all(axis=None)
    pd.testing.assert_frame_equal(thinned_budgets(left, 5), left, check_dtype=False)


def volume(frauds: list[int], transactions: int = 500) -> pd.DataFrame:
    days = pd.date_range("2026-01-01", periods=len(frauds), freq="D").strftime("%Y-%m-%d")
    return pd.DataFrame(
        {"day": days, "transactions": transactions, "frauds": frauds, "amount": 10.0, "labelled": transactions}
    )


def test_frauds_are_counted_by_the_week_and_few_take_a_second_week_with_them() -> None:
    told = weekly_frauds(volume([2] * 7 + [1, *[0] * 6] + [5] * 7 + [3] * 4))
    # 14, 1, 35, 12: the smallest beside the 1 goes too, and they add up to 10 or more
    assert told["frauds"].iloc[::7].fillna(-1).tolist() == [14, -1, 35, -1]
    assert told["frauds"].drop(told.index[::7]).isna().all()
    assert told["transactions"].tolist() == [500] * 25
    pd.testing.assert_frame_equal(weekly_frauds(told), told)


def test_days_of_few_payments_or_few_labels_are_hidden() -> None:
    table = volume([0] * 14)
    table.loc[3, "transactions"] = 4
    table.loc[13, "labelled"] = 3  # frauds are labelled first: nearly a count of frauds
    told = weekly_frauds(table)
    assert told["transactions"].isna().sum() == 2
    assert pd.isna(told["transactions"][3])
    assert pd.isna(told["amount"][3])
    assert pd.isna(told["labelled"][13])
    assert told["labelled"].isna().sum() == 2


def test_the_picture_draws_the_same_weeks_from_the_protected_table() -> None:
    raw = volume([3] * 28)
    assert plots.daily_volume(weekly_frauds(raw)).alt == plots.daily_volume(raw).alt
    few_in_one = volume([3] * 21 + [1] + [0] * 6)
    said = plots.daily_volume(weekly_frauds(few_in_one)).alt
    assert "2 weeks with 1 to 9 frauds" in said, "and one more, because the total is known"


def tier_rows(frauds: list[int]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "tier": ["low", "elevated", "high", "severe"],
            "action": "x",
            "transactions": [9000, 300, 60, 0],
            "frauds": frauds,
            "fraud_rate": 0.1,
            "amount": 5.0,
            "fraud_amount": 2.0,
        }
    )


def test_tiers_hide_few_frauds_with_their_sums_and_a_second_tier() -> None:
    told = hidden_tiers(tier_rows([30, 4, 50, 0]))
    assert told["frauds"].isna().tolist() == [True, True, False, False]
    assert told.loc[:1, ["fraud_rate", "fraud_amount", "amount", "share_of_frauds"]].isna().all(axis=None)
    assert told["share_of_frauds"][2] == pytest.approx(50 / 84), "of all frauds, the hidden ones too"
    assert told["transactions"].tolist() == [9000, 300, 60, 0]
    pd.testing.assert_frame_equal(hidden_tiers(told), told)
    assert "high, 0.64 % of payments, 59.5 % of frauds" in plots.tiers(told).alt
    assert plots.tiers(told).alt == plots.tiers(tier_rows([30, 4, 50, 0])).alt


def test_facts_of_the_split_and_the_data() -> None:
    part = {"part": "test", "transactions": 900, "frauds": 4, "customers": 70}
    fold = {"parts": [part], "excluded_customers": 3, "excluded_transactions": 40, "late_frauds": 0.01}
    told = protected_facts("fold", fold)
    assert told["parts"] == [part | {"frauds": None}]
    assert (told["excluded_customers"], told["excluded_transactions"]) == (None, None)
    assert told["late_frauds"] == 0.01
    many = {"customers": 30, "rows": 500, "why": {"objection": 26, "withdrawal": 4}}
    assert protected_facts("data", {"left_out": many})["left_out"]["why"] == {"objection": 26, "withdrawal": None}
    assert protected_facts("thresholds", {"review": 3}) == {"review": 3}


def test_a_run_saves_and_shows_what_may_leave(tmp_path: Path) -> None:
    contract = ROOT / "configs" / "contracts" / "demo.toml"
    run = Run(
        tmp_path,
        RunConfig(name="demo", dataset=DatasetConfig(name="demo", source="simulate", contract=contract)),
        Workspace(tmp_path),
    )
    shown = run.save_table("tiers", tier_rows([30, 4, 50, 0]))
    pd.testing.assert_frame_equal(run.load_table("tiers"), shown, check_dtype=False)
    assert "30" not in shown["frauds"].astype(str).tolist()
    run.save_json("data", {"left_out": {"customers": 3, "rows": 40, "why": {"objection": 3}}})
    assert json.loads((run.evidence / "data.json").read_text())["left_out"]["customers"] is None
    frame = pd.DataFrame({"feature": ["a"], "auc_roc": [0.7]})
    assert protected("single_features", frame) is frame
