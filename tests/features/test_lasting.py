"""Features over time: planted ones last, fade or turn as they should, and PSI is what the formula says by hand."""

from __future__ import annotations

import math
import re
import time

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from fraudlab.drift.distances import bin_breaks, bin_codes
from fraudlab.features.lasting import _auc, _lasting, stability, time_consistency
from fraudlab.schema import InputError

START = pd.Timestamp("2026-01-01", tz="UTC")


def moments(rows: int, days: float = 60) -> pd.Series:
    return pd.Series((START + pd.to_timedelta(np.linspace(0, days * 86_400 - 1, rows), unit="s")).as_unit("us"))


@pytest.fixture(scope="module")
def drawn() -> tuple[pd.DataFrame, np.ndarray, pd.Series]:
    """8,000 rows with 5 % frauds; features of known fate."""
    rng = np.random.default_rng(1)
    rows = 8000
    fraud = rng.random(rows) < 0.05
    late = np.arange(rows) >= rows // 2
    noise = rng.normal(size=(8, rows))
    features = pd.DataFrame(
        {
            "lasts": noise[0] + 1.5 * fraud,
            "low is bad": noise[1] - 1.5 * fraud,
            "ends are bad": noise[2] * np.where(fraud, 3, 1),
            "fades": noise[3] + 1.5 * (fraud & ~late),
            "weaker": noise[4] + np.where(late, 0.5, 2.0) * fraud,
            "turns": noise[5] + np.where(late, -1.5, 1.5) * fraud,
            "tells nothing": noise[6],
            "missing tells": np.where(fraud | (rng.random(rows) < 0.3), np.nan, noise[7]),
            "flag": (rng.random(rows) < np.where(fraud, 0.4, 0.02)).astype("float32"),
            "flat": 7.0,
            "absent": np.nan,
            "text": "a",
        }
    )
    return features, fraud, moments(rows)


# --- time consistency ---------------------------------------------------------------------------------------------


def test_planted_features_last_fade_and_turn(drawn):
    features, fraud, times = drawn
    found = time_consistency(features, fraud, times).set_index("feature")
    assert found["verdict"].to_dict() == {
        "lasts": "lasts",
        "low is bad": "lasts",
        "ends are bad": "lasts",
        "fades": "fades",
        "weaker": "fades",
        "turns": "turns round",
        "tells nothing": "not applicable",
        "missing tells": "lasts",
        "flag": "lasts",
        "flat": "not applicable",
        "absent": "not applicable",
        "text": "not applicable",
    }
    notes = found["note"].replace("", None).dropna()
    assert notes.to_dict() == {
        "tells nothing": "not applicable: alone it does not tell fraud in either period",
        "flat": "not applicable: it has a single value in the first period",
        "absent": "not applicable: it has a single value in the first period",
        "text": "not applicable: it holds no numbers",
    }
    judged = found.drop(index=["flat", "absent", "text"])
    intervals = judged[["low_first", "auc_first", "high_first", "low_last", "auc_last", "high_last"]]
    assert intervals.notna().all(axis=None)
    assert (intervals["low_last"] < intervals["auc_last"]).all()
    assert (intervals["auc_last"] < intervals["high_last"]).all()
    assert found.loc[["flat", "absent", "text"], list(intervals)].isna().all(axis=None)
    assert found["n_first"].eq(4000).all()
    assert found["frauds_last"].eq(fraud[4000:].sum()).all()


@pytest.mark.parametrize(
    ("first", "last", "verdict", "note"),
    [
        ((0.7, 0.6, 0.8), (0.65, 0.55, 0.75), "lasts", ""),
        ((0.52, 0.45, 0.6), (0.6, 0.55, 0.65), "lasts", ""),  # what it learnt holds, though the halves were too small
        ((0.8, 0.75, 0.85), (0.65, 0.6, 0.7), "fades", ""),
        ((0.8, 0.75, 0.85), (0.5, 0.45, 0.55), "fades", ""),
        ((0.7, 0.6, 0.8), (0.4, 0.35, 0.45), "turns round", ""),
        ((0.52, 0.45, 0.6), (0.4, 0.35, 0.45), "not applicable", "does not tell fraud in either period"),
        ((0.56, 0.51, 0.61), (0.54, 0.49, 0.59), "not applicable", "the last interval holds both 0.5 and what it was"),
    ],
)
def test_verdicts_follow_from_the_intervals(first, last, verdict: str, note: str):
    said, why = _lasting(first, last)
    assert said == verdict
    assert note in why
    assert bool(note) == bool(why)


def test_auc_and_interval_are_those_of_sklearn_and_of_delong(drawn):
    rng = np.random.default_rng(2)
    score, fraud = rng.integers(0, 12, 900) / 7, rng.random(900) < 0.2
    auc, low, high = _auc(score, fraud, np.arange(900))
    assert auc == pytest.approx(roc_auc_score(fraud, score), abs=1e-12)
    # DeLong's variance from its definition: placements of every fraud among the genuine rows, and the other way round.
    kernel = (score[fraud][:, None] > score[~fraud]) + 0.5 * (score[fraud][:, None] == score[~fraud])
    spread = kernel.mean(axis=1).var(ddof=1) / fraud.sum() + kernel.mean(axis=0).var(ddof=1) / (~fraud).sum()
    assert (high - low) / 2 == pytest.approx(1.96 * math.sqrt(spread), rel=0.01)
    assert (high + low) / 2 == pytest.approx(auc)


def test_rows_of_one_customer_count_together(drawn):
    # Every row ten times over tells nothing more: with the customers known the interval stays as wide.
    rng = np.random.default_rng(3)
    score, fraud = rng.normal(size=400), rng.random(400) < 0.2
    once = _auc(score, fraud, np.arange(400))
    ten = _auc(np.repeat(score, 10), np.repeat(fraud, 10), np.repeat(np.arange(400), 10))
    assert ten == pytest.approx(once)
    alone = _auc(np.repeat(score, 10), np.repeat(fraud, 10), np.arange(4000))
    assert alone[2] - alone[1] < 0.4 * (once[2] - once[1])
    features, fraud, times = drawn
    customer = pd.Series(np.arange(len(fraud)) // 8 % 500).map("c{}".format)
    together = time_consistency(features[["lasts"]], fraud, times, entity=customer)
    assert together["auc_last"].tolist() == time_consistency(features[["lasts"]], fraud, times)["auc_last"].tolist()


def test_noise_is_called_lasting_as_seldom_as_the_intervals_promise():
    rng = np.random.default_rng(4)
    fraud = rng.random(4000) < 0.05
    found = time_consistency(pd.DataFrame(rng.normal(size=(4000, 60))), fraud, moments(4000))
    assert (found["verdict"] != "not applicable").sum() <= 6
    assert found["auc_first"].mean() == pytest.approx(0.5, abs=0.02)  # no credit for what it has learnt by heart


def test_the_order_of_the_rows_and_unknown_labels_do_not_matter(drawn):
    features, fraud, times = drawn
    labels = pd.array(fraud, dtype="boolean")
    labels[::9] = pd.NA
    known = np.arange(len(fraud)) % 9 > 0
    mixed = np.random.default_rng(5).permutation(len(fraud))
    given = time_consistency(features.iloc[mixed], labels[mixed], times.iloc[mixed])
    pd.testing.assert_frame_equal(given, time_consistency(features[known], fraud[known], times[known]))


def test_the_split_may_be_a_share_or_a_moment(drawn):
    features, fraud, times = drawn
    share = time_consistency(features[["lasts"]], fraud, times, split=0.25)
    assert share["n_first"].tolist() == [2000]
    pd.testing.assert_frame_equal(share, time_consistency(features[["lasts"]], fraud, times, split=times[2000]))


def test_too_few_frauds_are_not_applicable(drawn):
    features, fraud, times = drawn
    few = fraud.copy()
    few[np.flatnonzero(few[4000:])[12:] + 4000] = False
    found = time_consistency(features, few, times)
    assert found["verdict"].eq("not applicable").all()
    assert set(found["note"]) == {"not applicable: fewer than 20 frauds or genuine rows in one of the periods"}
    assert time_consistency(features[["lasts"]], few, times, min_frauds=10)["verdict"].tolist() == ["lasts"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"features": [1.0]}, "time_consistency: features must be a DataFrame; found list; pass a table"),
        ({"y": [1, 0]}, "time_consistency: y must have a label for each row of features; found 2 for 8,000 rows"),
        ({"y": ["x"] * 8000}, "time_consistency: y must be true, false or missing; found other values; map them"),
        ({"event_time": moments(3)}, "event_time must have a moment for each row of features; found 3 for 8,000 rows"),
        (
            {"event_time": moments(8000).dt.tz_localize(None)},
            "must hold a moment with a time zone for every row; found",
        ),
        ({"entity": ["a"]}, "time_consistency: entity must have a value for each row of features; found 1 for 8,000"),
        ({"split": 1.5}, "time_consistency: split must lie between 0 and 1, or be a moment; found 1.5; take 0.5"),
        ({"split": "2026-01-05"}, "time_consistency: split: must carry a time zone"),
        (
            {"split": "2027-01-05T00:00Z"},
            "split must leave labelled rows before and after it; found 8,000 before and 0",
        ),
        ({"min_frauds": 0}, "time_consistency: min_frauds must be a whole number >= 2; found 0; take 20"),
    ],
    ids=lambda item: "-".join(item) if isinstance(item, dict) else "",
)
def test_bad_input_to_time_consistency_is_one_sentence(drawn, changes, sentence):
    given = dict(zip(("features", "y", "event_time"), drawn)) | changes
    with pytest.raises(InputError, match=re.escape(sentence)):
        time_consistency(**given)


@pytest.mark.slow
def test_seventy_features_of_a_hundred_thousand_rows_take_seconds():
    rng = np.random.default_rng(6)
    features = pd.DataFrame(rng.normal(size=(100_000, 70)).astype("float32"))
    fraud, customer = rng.random(100_000) < 0.01, rng.integers(0, 5000, 100_000)
    begin = time.process_time()
    time_consistency(features, fraud, moments(100_000), entity=customer)
    stability(features, moments(100_000))
    assert time.process_time() - begin < 20


# --- stability ----------------------------------------------------------------------------------------------------


def test_psi_is_what_the_formula_gives_by_hand():
    # Reference day: 1 2 3 4, so the halves are {1, 2} and {3, 4}. Then 1 3 4 4, then two missing, then all new.
    days = [[1, 2, 3, 4], [1, 3, 4, 4], [1, 3, np.nan, np.nan], [9, 9, 9, 9], [4, 3, 2, 1]]
    table = stability(pd.DataFrame({"x": np.concatenate(days)}), moments(20, 5), period="1d", bins=2, min_rows=1)
    expected = [
        (1 / 4 - 1 / 2) * math.log(1 / 2) + (3 / 4 - 1 / 2) * math.log(3 / 2),
        # Missing values: none of 4 counts as half a row, 1/8.
        2 * (1 / 4 - 1 / 2) * math.log(1 / 2) + (1 / 2 - 1 / 8) * math.log(4),
        (1 / 8 - 1 / 2) * math.log(1 / 4) + (1 - 1 / 2) * math.log(2),
        0.0,
    ]
    assert table["psi"].tolist() == pytest.approx(expected, abs=1e-12)
    assert [round(psi, 4) for psi in expected] == [0.2747, 0.8664, 0.8664, 0.0]
    assert table["reading"].tolist() == ["changed", "changed", "changed", "stable"]
    assert table["period"].tolist() == [1, 2, 3, 4]
    assert table["n"].tolist() == [4] * 4
    assert table["start"].tolist() == [START + pd.Timedelta(days=k) for k in range(1, 5)]
    assert table["end"].tolist() == [START + pd.Timedelta(days=k) for k in range(2, 6)]


@pytest.mark.parametrize(("share", "reading"), [(0.62, "stable"), (0.70, "moved"), (0.76, "changed")])
def test_the_customary_limits(share: float, reading: str):
    values = np.concatenate([np.arange(1000) % 2, np.arange(1000) < 1000 * share])
    table = stability(pd.DataFrame({"flag": values}), moments(2000, 2), period="1d")
    assert table["reading"].tolist() == [reading]
    by_hand = (share - 0.5) * math.log(share / 0.5) + (0.5 - share) * math.log((1 - share) / 0.5)
    assert table["psi"].iloc[0] == pytest.approx(by_hand)


def test_a_value_that_fills_a_bin_has_its_own():
    reference = np.concatenate([np.zeros(97), [1, 2, 3]])
    for values, apart in (
        (reference, (0, 1)),
        (1 - reference, (0, 1)),
        (np.full(50, 3.0), (3, 4)),
        (np.arange(9.0), (3, 4)),
    ):
        breaks = bin_breaks(values, 10)
        low, high = bin_codes(np.array(apart, dtype=float), breaks)
        assert low < high
    assert bin_codes(np.array([np.nan]), bin_breaks(np.array([np.nan]), 10)).tolist() == [1]


def test_bins_are_laid_on_the_reference_alone():
    rng = np.random.default_rng(7)
    values = rng.normal(size=3000)
    shifted = np.concatenate([values[:2000], values[2000:] * 50])
    whole, other = (stability(pd.DataFrame({"x": x}), moments(3000, 3), period="1d") for x in (values, shifted))
    assert whole["psi"].iloc[0] == other["psi"].iloc[0]
    assert other["reading"].tolist() == ["stable", "changed"]


def test_chance_alone_gives_what_the_notes_say():
    noise = pd.DataFrame(np.random.default_rng(8).normal(size=(2000, 200)))
    table = stability(noise, moments(2000, 2), period="1d")
    assert table["psi"].mean() == pytest.approx(9 * (1 / 1000 + 1 / 1000), rel=0.1)


def test_periods_by_length_by_number_and_after_a_reference(drawn):
    features, _, times = drawn
    features = features[["lasts", "absent", "text"]]
    weeks = stability(features, times)
    assert (
        weeks.groupby("feature")["period"].max().eq(8).all()
    )  # 60 days: eight weeks after the first, the last of 4 days
    assert weeks["n"].sum() == 3 * (len(times) - (times < START + pd.Timedelta(days=7)).sum())
    assert weeks[weeks["feature"] == "absent"]["psi"].eq(0).all()
    assert set(weeks[weeks["feature"] == "text"]["note"]) == {"not applicable: it holds no numbers"}
    assert set(weeks[weeks["feature"] == "text"]["reading"]) == {"not applicable"}
    thirds = stability(features, times, period=3)
    assert thirds["n"].between(2660, 2670).all()
    assert len(thirds) == 3 * 2
    later = stability(features, times, period=1, reference=START + pd.Timedelta(days=45))
    assert later["n"].tolist() == [2000] * 3
    assert later["start"].eq(START + pd.Timedelta(days=45)).all()


def test_few_rows_are_not_applicable(drawn):
    features, _, times = drawn
    table = stability(features[["lasts"]].head(1000), times.head(1000), period="3d")
    assert table["note"].tolist() == ["not applicable: fewer than 500 rows in the reference"] * 2
    assert table["psi"].isna().all()
    table = stability(features[["lasts"]], times, period=1, reference=times[7900])
    assert table["note"].tolist() == ["not applicable: fewer than 500 rows in the period"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"bins": 1}, "stability: bins must be a whole number from 2 to 100; found 1; the default is 10"),
        ({"period": "1 week"}, "stability: period: must be a whole number > 0 and a unit out of"),
        ({"period": 1}, "stability: period must be a length or 2 to 1000 periods; found 1; write it like 7d"),
        ({"period": "90d"}, "stability: there must be a period after the reference; found 1 in all; shorten period"),
        ({"reference": "2027-01-01T00:00Z"}, "stability: reference must end within the period; found it outside"),
        ({"event_time": moments(0)}, "stability: event_time must have a moment for each row of features; found 0 for"),
    ],
    ids=lambda item: "-".join(item) if isinstance(item, dict) else "",
)
def test_bad_input_to_stability_is_one_sentence(drawn, changes, sentence):
    given = {"features": drawn[0], "event_time": drawn[2]} | changes
    with pytest.raises(InputError, match=re.escape(sentence)):
        stability(**given)
