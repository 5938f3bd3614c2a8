"""Segments of the test payments: labelled by the training's limits, measured like everybody, small cells hidden."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fraudlab import comparing, metrics
from fraudlab.privacy.disclosure import protected

one = runpy.run_path(str(Path(__file__).with_name("test_comparing.py")))["one"]


def test_amounts_are_cut_at_the_quartiles_of_the_training_payments(one):
    _, prepared, _, _ = one
    train, test = (prepared.rows(part)["transactions"] for part in ("train", "test"))
    label = comparing.segments(test, train, prepared.transactions)["amount"]
    low, middle, high = train["amount"].quantile([0.25, 0.5, 0.75]).round(2)
    amount = test["amount"]
    expected = np.select([amount <= low, amount <= middle, amount <= high], range(3), 3)
    assert pd.Series(expected).groupby(label).nunique().eq(1).all()
    assert set(label) == {
        f"up to {low:,.2f}",
        f"{low:,.2f} to {middle:,.2f}",
        f"{middle:,.2f} to {high:,.2f}",
        f"above {high:,.2f}",
    }


def test_kinds_beyond_the_commonest_of_training_and_missing_ones_have_names_of_their_own():
    many = [f"kind-{n:02d}" for n in range(10)]
    train = pd.DataFrame({"amount": 1.0, "merchant_category": np.repeat(many, range(20, 10, -1))})
    test = pd.DataFrame(
        {
            "amount": 1.0,
            "merchant_category": [many[0], many[9], "unseen", None],
            "customer_id": ["old", "old", "new", "new"],
            "event_time": pd.to_datetime(
                ["2026-03-01 00:00", "2026-03-01 07:00", "2026-03-01 19:00", "2026-03-31 00:01"], utc=True
            ),
        }
    )
    before = pd.DataFrame({"customer_id": ["old"], "event_time": pd.to_datetime(["2026-01-01"], utc=True)})
    found = comparing.segments(test, train, pd.concat([before, test]))
    assert found["merchant_category"].tolist() == [many[0], "others", "others", "missing"]
    assert found["hour"].tolist() == ["00 to 06 h UTC", "06 to 18 h UTC", "18 to 24 h UTC", "00 to 06 h UTC"]
    assert found["customer"].tolist() == [
        "known longer",
        "known longer",
        "new: in the first 30 days",
        "new: in the first 30 days",
    ]
    assert set(found["amount"]) == {"up to 1.00"}
    assert "channel" not in found


def test_a_segment_is_measured_with_cases_chosen_over_everybody(one):
    config, prepared, _, scores = one
    part, name = prepared.rows("test"), config.model.kind
    # Without ties, so that plain sorting picks the same cases.
    scores = scores.assign(**{name: scores[name] + 1e-9 * np.random.default_rng(1).permutation(len(scores))})
    table = comparing.by_segment(prepared, scores, config, n_boot=0)
    score, y = scores[name].to_numpy(), np.asarray(part["y"], dtype=bool)
    frame = part["transactions"].assign(score=score, day=part["transactions"]["event_time"].dt.floor("D"))
    best = frame.groupby(["day", "customer_id"])["score"].max().reset_index()
    best = best.sort_values("score", ascending=False).groupby("day").head(config.decision.alerts_per_day)
    keys = set(zip(best["day"], best["customer_id"]))
    inspected = np.array([key in keys for key in zip(frame["day"], frame["customer_id"])])
    label = comparing.segments(part["transactions"], prepared.rows("train")["transactions"], prepared.transactions)
    for by, groups in label.items():
        mine = table[(table["by"] == by) & (table["metric"] == "recall_at_budget")].set_index("group")
        for group in set(groups):
            where = groups == group
            assert mine.loc[group, "n"] == where.sum()
            assert mine.loc[group, "frauds"] == (y & where).sum()
            if (y & where).any():
                expected = (inspected & y & where).sum() / (y & where).sum()
                assert mine.loc[group, "value"] == pytest.approx(expected)
    assert set(table["metric"]) == set(comparing.SEGMENT_METRICS) <= set(metrics.METRICS)


def segments_table(counts: list[tuple[str, int, int, float]]) -> pd.DataFrame:
    rows = [
        ("channel", group, metric, value if metric == "recall_at_budget" else 0.5, 0.1, 0.9, n, frauds, "as measured")
        for group, n, frauds, value in counts
        for metric in ("recall_at_budget", "auc_roc")
    ]
    return pd.DataFrame(rows, columns=["by", "group", "metric", "value", "low", "high", "n", "frauds", "note"])


@pytest.mark.parametrize(
    ("counts", "hidden"),
    [
        ([("a", 900, 40, 0.5), ("b", 800, 30, 0.6)], set()),
        ([("a", 900, 40, 0.5), ("b", 800, 9, 1.0)], {"a", "b"}),  # one hidden alone could be worked out
        ([("a", 900, 40, 0.5), ("b", 800, 40, 0.1)], {"a", "b"}),  # four caught
        ([("a", 900, 40, 0.5), ("b", 800, 30, 0.5), ("c", 700, 4, 0.5)], {"b", "c"}),
        ([("a", 900, 0, np.nan), ("b", 800, 30, 0.5)], set()),
    ],
    ids=["none small", "few frauds", "few caught", "the next smallest goes too", "no frauds"],
)
def test_small_segments_are_hidden_when_saved(counts, hidden):
    table = segments_table(counts)
    shown = protected("segments", table)
    gone = shown[shown["note"].str.startswith("not shown")]
    assert set(gone["group"]) == hidden
    assert gone[["value", "low", "high"]].isna().all(axis=None)
    kept = shown[~shown["group"].isin(hidden)]
    pd.testing.assert_frame_equal(kept[["value", "low", "high"]], table.loc[kept.index, ["value", "low", "high"]])
    for name in ("n", "frauds"):
        assert not shown[name].dropna().between(1, 9).any()
    pd.testing.assert_frame_equal(protected("segments", shown), shown)


def test_one_segment_alone_hides_its_own_small_counts():
    shown = protected("segments", segments_table([("only", 900, 6, 0.5)]))
    assert shown["frauds"].isna().all()
    assert shown["value"].isna().all()
