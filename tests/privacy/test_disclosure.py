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
from fraudlab.metrics import calibration_table, simulate
from fraudlab.privacy.disclosure import (
    hidden_tiers,
    joined_bins,
    protected,
    protected_facts,
    weekly_frauds,
    weekly_precision,
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


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.001, 0.2))
def test_budgets_left_differ_by_no_few_frauds(seed: int, rate: float) -> None:
    dice = np.random.default_rng(seed)
    n = 900
    day = pd.to_datetime("2026-01-01", utc=True) + pd.to_timedelta(dice.integers(0, 9, n), unit="D")
    y = dice.random(n) < rate
    given_ = {"event_time": day, "entity": dice.integers(0, 200, n), "amount": dice.random(n)}
    cuts = [1.45, 1.4, 1.2, 1.0, 0.9, 0.7, 0.5]
    table = simulate(
        y, dice.random(n) + 0.5 * y, **given_, budgets=[1, 2, 3, 5, 8, 13, 21], thresholds=cuts, chosen=5,
        review_cost=1.0, recovery_rate=0.5, model="m", n_boot=0,
    )  # fmt: skip
    left = protected("simulation", table, budget=5)
    for by in ("budget", "threshold"):
        wide = left[left["by"] == by].pivot(index="budget", columns="metric", values="value")
        assert 5 in wide.index, "the budget in use stays"
        shown = wide[wide["frauds_caught"].notna()]
        for counts in (shown["frauds_caught"], (shown["precision"].fillna(0) * shown["cases"]).round()):
            assert not any(few(each) for each in np.diff(np.r_[0, counts.to_numpy()]))
        hidden = wide[wide["frauds_caught"].isna()]
        assert hidden.index.isin([5]).all()
        assert hidden[["net_saved_per_day", "recall", "precision"]].isna().all(axis=None)
    pd.testing.assert_frame_equal(protected("simulation", left, budget=5), left)


def test_the_tables_of_the_policy_hide_small_counts_and_what_gives_them_away() -> None:
    actions = pd.DataFrame({"action": ["approve", "step_up_authentication", "manual_review"]})
    table = actions.assign(
        decided_by="", transactions=[900, 80, 40], frauds=[4, 16, 30], fraud_rate=0.1, amount=9.0, fraud_amount=1.0
    )
    told = protected("policy", table)
    assert told["frauds"].isna().tolist() == [True, True, False]
    assert told["share_of_frauds"].isna().tolist() == [True, True, False]
    pd.testing.assert_frame_equal(protected("policy", told), told)
    reasons = pd.DataFrame(
        {"action": "approve", "proposed": "approve", "why": list("abc"), "transactions": [900, 3, 30]}
    )
    assert protected("policy_reasons", reasons)["transactions"].fillna(-1).tolist() == [900, -1, -1]


def test_the_tables_of_ratings_hide_small_counts_week_by_week() -> None:
    weekly = pd.DataFrame({"week": [1, 1, 1, 2, 2, 2], "rating": ["low", "medium", "high"] * 2})
    weekly = weekly.assign(customers=[900, 40, 4, 800, 60, 50], share=0.1)
    told = protected("customer_rating", weekly)
    assert told["customers"].isna().tolist() == [False, True, True, False, False, False]
    assert told["share"].isna().tolist() == told["customers"].isna().tolist()
    after = pd.DataFrame(
        {"rating": ["low", "medium", "high"], "customers": [900, 40, 44], "transactions": [9000, 400, 90]}
    )
    after = after.assign(frauds=[30, 0, 5], fraud_rate=0.1, low=0.0, high=1.0)
    said = protected("rating_after", after)
    assert said["frauds"].isna().tolist() == [True, False, True]
    assert said["fraud_rate"].isna().tolist() == [True, False, True]
    pairs = pd.MultiIndex.from_product([["low", "high"]] * 2, names=["before", "after"]).to_frame(index=False)
    moves = protected("rating_moves", pairs.assign(customers=[900, 30, 20, 4], share=0.5))
    assert pd.isna(moves["customers"][3])
    assert moves["customers"].isna().sum() > 1, "no line gives it away"
    for name, table in (("customer_rating", told), ("rating_after", said), ("rating_moves", moves)):
        pd.testing.assert_frame_equal(protected(name, table), table)


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


def days_of_review(hits: list[int], compromised: list[int], k: int = 5, model: str = "m") -> pd.DataFrame:
    day = pd.date_range("2026-02-02", periods=len(hits), tz="UTC")
    table = pd.DataFrame({"day": day, "cases": k, "hits": hits, "compromised": compromised, "model": model})
    perfect = np.minimum(table["compromised"], k) / k
    return table.assign(precision=table["hits"] / k, perfect_precision=perfect)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 30))
def test_no_day_or_week_of_review_shows_few_found(seed: int, days: int, k: int) -> None:
    dice = np.random.default_rng(seed)
    compromised = dice.poisson(k / 2, days)
    tables = [
        days_of_review(list(dice.binomial(np.minimum(compromised, k), share)), list(compromised), k, name)
        for name, share in (("a", 0.9), ("b", 0.2))
    ]
    table = pd.concat(tables, ignore_index=True)
    shown = weekly_precision(table)
    for name in ("hits", "compromised"):
        assert not any(few(count) for count in shown[name].dropna())
    assert shown["precision"].isna().equals(shown["hits"].isna())
    assert shown["cases"].sum() == table["cases"].sum()
    for name, rows in shown.groupby("model"):
        told, all_of_it = rows["hits"].sum(), table.loc[table["model"] == name, "hits"].sum()
        assert told == 0 or not few(all_of_it - told), "what is hidden adds up to enough, or to all there is"
    pd.testing.assert_frame_equal(weekly_precision(shown), shown)


def test_enough_found_on_each_day_stays_as_it_is_and_weeks_add_up() -> None:
    plenty = days_of_review([12, 0, 20], [30, 0, 22], k=25)
    assert weekly_precision(plenty) is plenty
    weeks = weekly_precision(days_of_review([2, 3, 1, 2, 2, 2, 2, 5], [3, 9, 1, 2, 2, 2, 2, 12]))
    assert weeks["days"].tolist() == [7, 1]
    assert weeks["hits"].isna().all(), "five found on the last day would tell, and so would their sum less it"
    assert weeks.loc[0, "perfect_precision"] == pytest.approx((3 + 5 + 1 + 2 * 4) / 35)
    assert protected("daily", weeks) is weeks


def test_where_labels_come_from_tells_no_small_count() -> None:
    counts = {
        "source: fraud": 300,
        "source: genuine": 9000,
        "review": 40,
        "random": 3,
        "chargeback": 0,
        "not known": 60,
    }
    rows = [("label_share", name, n / 9403, n) for name, n in counts.items()]
    rows += [("looked_at", "listed", 0.8, 50), ("looked_at", "not listed", 3 / 9353, 9353)]
    table = pd.DataFrame(rows, columns=["metric", "group", "value", "n"]).assign(low=np.nan, high=np.nan, note="")
    shown = protected("label_sources", table).set_index(["metric", "group"])
    told = shown.loc["label_share"]
    assert told["n"].isna().sum() == 2, "the small one, and the one that would give it away"
    assert told.loc[["random", "review"], ["n", "value"]].isna().all(axis=None)
    assert told.loc["chargeback", "n"] == 0
    assert shown.loc["looked_at", "value"].isna().all(), "each would tell the other"
    pd.testing.assert_frame_equal(protected("label_sources", shown.reset_index()), shown.reset_index())


@pytest.mark.parametrize(("found", "hidden"), [(0, False), (1, True), (9, True), (10, False)])
def test_what_few_frauds_found_by_chance_would_tell_is_hidden(found: int, hidden: bool) -> None:
    rows = [("random_checks", 1.0, 200), ("frauds_found", found, 200), ("frauds_per_10000", 5.0, 200)]
    rows += [("hidden_frauds", 70.0, 200), ("queue_recall", 0.6, 300), ("queue_precision", 0.5, 300)]
    table = pd.DataFrame(rows, columns=["metric", "value", "n"]).assign(low=0.1, high=0.9, note="200 days")
    shown = protected("blind_side", table).set_index("metric")
    named = ["frauds_found", "frauds_per_10000", "hidden_frauds", "queue_recall"]
    assert shown.loc[named, ["value", "low", "high"]].isna().all(axis=None) == hidden
    assert shown.loc[["random_checks", "queue_precision"], "value"].notna().all()
    assert shown.loc[named, "note"].str.startswith("not shown: a count below 10").all() == hidden
    pd.testing.assert_frame_equal(protected("blind_side", shown.reset_index()), shown.reset_index())


def test_a_recall_does_not_tell_the_few_frauds_that_the_queue_listed() -> None:
    rows = [
        ("random_checks", 0.5, 60),
        ("frauds_found", 0.0, 30),
        ("queue_recall", 1.0, 20),
        ("queue_precision", 0.2, 20),
    ]
    table = pd.DataFrame(rows, columns=["metric", "value", "n"]).assign(low=0.1, high=0.9, note="")
    shown = protected("blind_side", table).set_index("metric")["value"]
    assert shown[["queue_recall", "queue_precision"]].isna().all()
    assert shown["frauds_found"] == 0
