"""Pictures draw exactly what their table says, say it in words too, and stay quiet about small cells."""

from __future__ import annotations

import itertools
import subprocess
import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
from IPython.core.formatters import DisplayFormatter
from matplotlib.dates import date2num
from scipy.stats import binomtest

from fraudlab import plots
from fraudlab.schema import InputError

LABELS = {"b": "boosted", "a": "additive"}


def curves() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "model": ["a"] * 4 + ["b"] * 4,
            "fpr": [0, 0.04, 0.5, 1, 0, 0.05, 0.3, 1],
            "tpr": [0, 0.3, 0.8, 1, 0, 0.6, 0.9, 1],
            "recall": [0.2, 0.5, 0.8, 1, 0.3, 0.6, 0.9, 1],
            "precision": [0.5, 0.4, 0.2, 0.1, 1, 0.7, 0.3, 0.1],
        }
    )


def daily() -> pd.DataFrame:
    days = ["2026-06-01", "2026-06-02", "2026-06-03"]
    return pd.DataFrame(
        {
            "model": ["b"] * 3 + ["a"] * 3,
            "day": days * 2,
            "precision": [0.4, 0.5, 0.6, 0.1, 0.2, 0.3],
            "perfect_precision": [0.8, 0.7, 0.9] * 2,
        }
    )


def risk() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "model": "b",
            "stage": ["before"] * 2 + ["after"] * 3,
            "n": [1000, 300, 1000, 200, 9],
            "mean_predicted": [0.10, 0.40, 0.08, 0.30, 0.9],
            "observed": [0.04, 0.30, 0.07, 0.31, 1.0],
            "low": [0.02, 0.25, 0.03, 0.26, 0.5],
            "high": [0.09, 0.36, 0.12, 0.37, 1.0],
        }
    )


def volume(days: int = 28, frauds: int = 4) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "day": pd.date_range("2026-01-05", periods=days).strftime("%Y-%m-%d"),
            "transactions": np.arange(days) + 200,
            "frauds": frauds,
            "labelled": np.where(np.arange(days) < 21, 200, 0),
        }
    )


def alert() -> dict:
    return {
        "case": 2,
        "base": -4.0,
        "margin": 1.5,
        "contributions": [
            {"feature": "x", "meaning": "Amount <b>", "value": 3.25, "contribution": 4.0},
            {"feature": "y", "meaning": "", "value": None, "contribution": -1.0},
            {"feature": "z", "meaning": "Night", "value": True, "contribution": 2.0},
        ],
    }


def line(ax, at=0):
    return ax.lines[at].get_xydata()


def words(figure: plots.Picture) -> str:
    """All text a reader sees, including axis labels and titles."""
    figure.canvas.draw()
    return " | ".join(text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_visible())


def test_roc_draws_every_point_and_says_what_is_found_at_five_per_cent():
    figure = plots.roc(curves(), LABELS)
    for panel in figure.axes:
        np.testing.assert_array_equal(line(panel, at=0), [[0, 0], [0.05, 0.6], [0.3, 0.9], [1, 1]])
        np.testing.assert_array_equal(line(panel, at=1), [[0, 0], [0.04, 0.3], [0.5, 0.8], [1, 1]])
    assert "Boosted finds 60.0 % of the frauds" in words(figure)
    assert figure.alt.endswith("Boosted 60.0 %; Additive 30.0 %")


def test_precision_recall_draws_every_point():
    figure = plots.precision_recall(curves(), LABELS)
    np.testing.assert_array_equal(line(figure.axes[0]), [[0.3, 1], [0.6, 0.7], [0.9, 0.3], [1, 0.1]])
    assert "Boosted, 70.0 % of the flagged payments are fraud" in words(figure)
    assert "Additive 40.0 %" in figure.alt


def test_daily_precision_draws_days_and_names_means():
    figure = plots.daily_precision(daily(), LABELS)
    perfect, additive, boosted = (each.get_ydata().tolist() for each in figure.axes[0].lines)
    assert (perfect, additive, boosted) == ([0.8, 0.7, 0.9], [0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    assert figure.axes[0].lines[0].get_xdata()[0] == pd.Timestamp("2026-06-01")
    assert "Boosted: 50.0 % of the daily cases" in figure.alt
    assert "reaches 80.0 %" in figure.alt
    assert "Additive 20.0 %" in figure.alt


def test_calibration_draws_points_intervals_and_both_stages_and_joins_small_groups():
    figure = plots.calibration(risk())
    before, after = figure.axes
    # by hand: 62 of 200 and 9 of 9 payments are 71 of 209; (200 x 0.30 + 9 x 0.9) / 209 = 0.32584
    interval = binomtest(71, 209).proportion_ci(method="wilson")
    for panel, points, bounds in (
        (before, [[0.10, 0.04], [0.40, 0.30]], [(0.02, 0.09), (0.25, 0.36)]),
        (after, [[0.08, 0.07], [0.3258373, 71 / 209]], [(0.03, 0.12), tuple(interval)]),
    ):
        container = panel.containers[0]
        np.testing.assert_allclose(container[0].get_xydata(), points)
        drawn = [tuple(segment[:, 1]) for segment in container[2][0].get_segments()]
        np.testing.assert_allclose(drawn, bounds)
    # weighted by hand: after (1000 x 0.01 + 209 x 0.01387) / 1209, before (1000 x 0.06 + 300 x 0.10) / 1300
    assert "off by 1.1 percentage points on average, 6.9 before" in " ".join(words(figure).split())
    assert "After calibration, 2 of 2 intervals contain" in figure.alt
    assert "Before calibration, 0 of 2 intervals contain" in figure.alt


def test_calibration_writes_the_error_with_its_interval_above_each_panel():
    errors = pd.DataFrame(
        {
            "model": [risk()["model"].iloc[0]] * 2,
            "stage": ["before", "after"],
            "value": [0.84, 0.2],
            "low": 0.1,
            "high": 1,
        }
    )
    figure = plots.calibration(risk(), errors=errors)
    assert [ax.get_title(loc="left") for ax in figure.axes] == [
        "before calibration: error 0.84 (0.10 to 1.00)",
        "after calibration: error 0.20 (0.10 to 1.00)",
    ]
    assert plots.calibration(risk(), errors=errors.iloc[:1]).axes[1].get_title(loc="left") == "after calibration"


def test_tiers_draw_shares_and_hide_what_could_be_worked_out():
    table = pd.DataFrame(
        {
            "tier": ["low", "high", "severe"],
            "action": ["approve", "manual_review", "limit_and_review"],
            "transactions": [900, 80, 20],
            "frauds": [4, 16, 60],
        }
    )
    figure = plots.tiers(table)
    payments, frauds = ([bar.get_width() for bar in panel.patches] for panel in figure.axes)
    assert payments == [0.9, 0.08, 0.02]
    assert frauds == [0, 0, 0.75]
    assert words(figure).count("not shown (few)") == 2
    assert "Tier 'severe' holds 2.00 % of the payments and 75.0 % of the frauds" in words(figure)
    assert "severe, 2.00 % of payments, 75.0 % of frauds" in figure.alt
    assert "low, 90.0 % of payments, not shown (few) of frauds" in figure.alt


def test_importance_draws_the_largest_first_and_sums_the_first_five():
    table = pd.DataFrame(
        {
            "feature": list("abcdef"),
            "mean_abs": [1.0, 6, 5, 4, 3, 2],
            "share": np.array([1, 6, 5, 4, 3, 2]) / 21,
            "meaning": ["A.", "B.", "C.", "D.", "E.", None],
        }
    )
    figure = plots.importance(table, top=4)
    bars = sorted(((bar.get_y(), bar.get_width()) for bar in figure.axes[0].patches), reverse=True)
    assert [width for _, width in bars] == [6, 5, 4, 3]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["B", "C", "D", "E"]
    assert f"4 strongest features make up {plots.share(18 / 21)}" in figure.alt
    named = plots.importance(table, {"b": "short b", "f": "short f"}, top=6).axes[0].get_yticklabels()
    assert [label.get_text() for label in named] == ["short b", "C", "D", "E", "short f", "A"]


def test_importance_draws_the_range_over_refits():
    table = pd.DataFrame(
        {
            "feature": ["a", "b"],
            "mean_abs": [2.0, 1.0],
            "low": [0.5, 1.0],
            "high": [2.0, 3.0],
            "share": 0.5,
            "meaning": "A",
        }
    )
    figure = plots.importance(table)
    (lines,) = [found for found in figure.axes[0].collections if len(found.get_segments()) == 2]
    assert [[tuple(point) for point in segment] for segment in lines.get_segments()] == [
        [(0.5, 1.0), (2.0, 1.0)],
        [(1.0, 0.0), (3.0, 0.0)],
    ]
    assert "Ranges over refits: 0.50 to 2.00; 1.00 to 3.00" in figure.alt
    without = plots.importance(table.assign(low=np.nan, high=np.nan))
    assert not without.axes[0].collections
    assert "Ranges" not in without.alt


def pair_table(rows=100):
    value = np.repeat(np.arange(5.0), rows // 5)
    both = [
        pd.DataFrame({"feature": "x", "partner": "p", "level": level, "value": value, "contribution": slope * value})
        for level, slope in (("no", 1.0), ("yes", -1.0))
    ]
    return pd.concat(both, ignore_index=True)


def test_pair_dependence_draws_a_line_for_each_level():
    figure = plots.pair_dependence(pair_table(), {"x": "the first", "p": "its partner"})
    lines = {
        drawn.get_label(): drawn.get_xydata() for drawn in figure.axes[0].lines if drawn.get_label() in ("no", "yes")
    }
    np.testing.assert_array_equal(lines["no"], np.c_[np.arange(5), np.arange(5)])
    np.testing.assert_array_equal(lines["yes"], np.c_[np.arange(5), -np.arange(5.0)])
    assert "no: from +0.00 at 0 to +4.00 at 4; yes: from +0.00 at 0 to −4.00 at 4" in figure.alt
    assert "How “the first” moves the score depends on “its partner”" in words(figure).replace("\n", " ")
    few = plots.pair_dependence(pair_table(rows=45))  # nine payments of each value
    assert "too few payments" in few.alt


def robust_table():
    return pd.DataFrame(
        {
            "scenario": ["as it is", "without place", "amounts ten times as large", "small noise in all numbers"],
            "metric": "auc_roc",
            "change": [np.nan, -0.05, -0.2, 0.01],
            "change_low": [np.nan, -0.1, -0.3, -0.02],
            "change_high": [np.nan, 0.01, -0.1, 0.03],
        }
    )


def test_robustness_draws_the_worst_failure_on_top_and_what_is_sure_in_red():
    figure = plots.robustness(robust_table(), {"auc_roc": "AUC ROC"})
    ax = figure.axes[0]
    names = [label.get_text().replace("\n", " ") for label in ax.get_yticklabels()]
    assert names == ["small noise in all numbers", "without place", "amounts ten times as large"]
    (points,) = [found for found in ax.collections if len(found.get_offsets()) == 3]
    np.testing.assert_allclose(points.get_offsets()[:, 0], [1, -5, -20])
    red, blue = (tuple(matplotlib.colors.to_rgba(colour)) for colour in ("#bf4e00", "#0072b2"))
    assert [tuple(colour) for colour in points.get_facecolors()] == [blue, blue, red]
    assert "AUC ROC changes most with amounts ten times as large: by −20.0 points" in figure.alt
    alone = plots.robustness(robust_table().iloc[:2], {})
    assert "changes most without place: by −5.0 points" in alone.alt


def test_a_compact_waterfall_gathers_the_rest():
    figure = plots.waterfall(alert(), top=1)
    bars = sorted(figure.axes[0].patches, key=lambda bar: -bar.get_y())
    assert [(bar.get_x(), bar.get_width()) for bar in bars] == [(-4.0, 4.0), (0.0, 1.5)]


def test_dependence_summarises_groups_of_ten_or_more():
    rng = np.random.default_rng(0)
    value = np.r_[np.zeros(50), np.ones(30), np.full(9, 2.0), [np.nan]]
    contribution = rng.normal(size=len(value))
    table = pd.DataFrame({"feature": "f", "value": value, "contribution": contribution})
    figure = plots.dependence(table, {"f": "Failures"})
    expected = [np.median(contribution[:50]), np.median(contribution[50:80])]
    points = figure.axes[0].containers[0][0].get_xydata()
    np.testing.assert_allclose(points, np.c_[[0, 1], expected])
    bars = [segment[:, 1] for segment in figure.axes[0].containers[0][2][0].get_segments()]
    np.testing.assert_allclose(bars[0], np.quantile(contribution[:50], [0.1, 0.9]))
    assert "Failures: from" in figure.alt


def test_dependence_bins_of_a_continuous_feature_match_a_loop():
    rng = np.random.default_rng(1)
    value, contribution = rng.normal(size=500), rng.normal(size=500)
    table = plots.dependence_bins(value, contribution, bins=5)
    edges = np.quantile(value, np.linspace(0, 1, 6))
    assert table["n"].sum() == 500
    for number, row in enumerate(table.itertuples()):
        low = value > edges[number] if number else value >= edges[0]
        inside = low & (value <= edges[number + 1])
        assert row.n == inside.sum()
        assert row.value == pytest.approx(np.median(value[inside]))
        assert row.middle == pytest.approx(np.median(contribution[inside]))


def test_waterfall_goes_from_the_average_to_the_margin():
    figure = plots.waterfall(alert())
    bars = sorted(figure.axes[0].patches, key=lambda bar: -bar.get_y())
    steps = [(bar.get_x(), bar.get_width()) for bar in bars]
    assert steps == [(-4.0, 4.0), (0.0, 2.0), (2.0, -1.0), (1.0, 0.5)]
    assert steps[-1][0] + steps[-1][1] == 1.5
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["Amount <b>: 3.25", "Night: yes", "y: missing", "all other features"]
    assert "−4.00 to 1.50" in figure.alt


def test_waterfall_uses_short_names_and_units():
    case = alert()
    case["contributions"][0] |= {"value": 0.0036}
    labels = {"x": "days since the previous payment", "z": "night"}
    figure = plots.waterfall(case, labels, {"x": "days", "z": "flag"})
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["time since the previous payment: 5 minutes", "night: yes", "y: missing", "all other features"]
    named = plots.waterfall(case, labels).axes[0].get_yticklabels()[0].get_text()
    assert named == "days since the previous payment: 0.0036"  # without its kind a value has no unit of its own
    fast = plots.waterfall(case, {"x": "km/h from the previous place"}, {"x": "speed"})
    assert fast.axes[0].get_yticklabels()[0].get_text() == "speed from the previous place: 0 km/h"


def test_values_read_with_their_unit():
    said = {"count": "1,235", "ratio": "1,234.5", "days": "1,234 days", "speed": "1,234 km/h", "number": "1,234"}
    assert {kind: plots.value_text(1234.5 if kind != "count" else 1235, kind) for kind in said} == said
    assert [plots.value_text(value, "amount") for value in (40.0, 7.25)] == ["40", "7.25"]
    assert [plots.value_text(value, "flag") for value in (0.0, 1.0, None)] == ["no", "yes", "missing"]
    assert plots.value_text("pos", "count") == "pos"


def test_long_names_take_lines_of_their_own_and_never_overlap():
    case = alert()
    case["contributions"][0]["meaning"] = "A long meaning of a feature that needs three lines " * 3
    figure = plots.waterfall(case)
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert figure.axes[0].get_yticklabels()[0].get_text().count("\n") >= 2
    for above, below in itertools.pairwise(sorted(boxes, key=lambda box: -box.y0)):
        assert above.y0 >= below.y1


LONG = {"b": "boosted trees of the second kind", "a": "additive"}
WIDE = [
    lambda frame: plots.roc(curves(), LONG),
    lambda frame: plots.precision_recall(curves(), LONG),
    lambda frame: plots.calibration(risk(), LONG),
    lambda frame: plots.daily_volume(volume(90, frauds=1).assign(labelled=lambda t: t["transactions"])),
    lambda frame: plots.label_maturity(maturity([0, 0.3, 0.6, 0.9, 1.0], [0, 0.01, 0.01, 1.0, 1.0]), 3),
    lambda frame: plots.hour_by_label(frame),
    lambda frame: plots.amount_by_label(frame),
    lambda frame: plots.waterfall(alert()),
    lambda frame: plots.pair_dependence(pair_table(), {"x": "a long name of a feature " * 4, "p": "its partner " * 9}),
    lambda frame: plots.robustness(robust_table()),
]


@pytest.mark.parametrize("draw", WIDE)
def test_every_word_lies_within_the_picture(draw, transactions):
    figure = draw(transactions)
    figure.draw_without_rendering()
    outside = {label for ax in figure.axes for label in ax.get_xticklabels() + ax.get_yticklabels()}
    shown = [text for text in figure.findobj(matplotlib.text.Text) if text.get_text() and text not in outside]
    assert shown
    for text in shown:
        box = text.get_window_extent()
        assert box.x0 >= 0, text.get_text()
        assert box.x1 <= figure.bbox.x1, text.get_text()


def test_metric_intervals_draw_value_and_interval_of_every_model():
    table = pd.DataFrame(
        [
            ("a", "auc_roc", 0.80, 0.75, 0.85),
            ("b", "auc_roc", 0.90, np.nan, np.nan),
            ("a", "recall_at_budget", np.nan, np.nan, np.nan),
        ],
        columns=["model", "metric", "value", "low", "high"],
    )
    figure = plots.metric_intervals(table, LABELS)
    assert len(figure.axes) == 1
    drawn = [each.get_xdata().tolist() for each in figure.axes[0].lines]
    assert drawn == [[0.90], [0.75, 0.85], [0.80]]
    assert figure.alt == "Models compared. AUC ROC: Boosted 0.900, Additive 0.800"


def test_timeline_draws_each_dated_part_and_hides_few_frauds():
    parts = pd.DataFrame(
        {
            "part": ["train", "valid", "test"],
            "start": ["2026-01-01 00:00:00+00:00", "NaT", "2026-02-01 00:00:00+00:00"],
            "end": ["2026-01-11 00:00:00+00:00", "NaT", "2026-02-08 00:00:00+00:00"],
            "transactions": [1000, 0, 700],
            "frauds": [12, 0, 9],
        }
    )
    figure = plots.timeline(parts)
    bars = [(bar.get_x(), bar.get_width()) for bar in figure.axes[0].patches]
    assert bars == [(date2num(np.datetime64("2026-01-01")), 10), (date2num(np.datetime64("2026-02-01")), 7)]
    assert "train 2026-01-01 to 2026-01-11, 10 days, 1,000 payments, 12 frauds" in figure.alt
    assert "7 days, 700 payments, fewer than 10 frauds" in figure.alt


def test_daily_volume_draws_days_and_weekly_rates_without_small_weeks():
    table = volume()
    table.loc[:20, "labelled"] = table.loc[:20, "transactions"]
    table.loc[7:13, "frauds"] = 1
    figure = plots.daily_volume(table)
    top, bottom = figure.axes
    assert top.lines[0].get_ydata().tolist() == table["transactions"].tolist()
    heights = [bar.get_height() for bar in bottom.patches]
    # the second week holds 7 frauds, the fourth no labels
    assert heights == [1000 * 28 / sum(range(200, 207)), 1000 * 28 / sum(range(214, 221))]
    said = " ".join(words(figure).split())
    assert "with a label for at least 95 % of them; left out: 1 week for want of labels, 1 week with 1 to 9" in said
    assert "2026-01-05 to 2026-02-01" in figure.alt


def test_daily_volume_shows_no_rate_over_the_few_labels_that_frauds_have_first():
    table = volume(35, frauds=3)
    table["transactions"] = 200
    table["labelled"] = [200] * 7 + [190] * 7 + [189] * 7 + [3] * 14
    figure = plots.daily_volume(table)
    heights = [bar.get_height() for bar in figure.axes[1].patches]
    assert heights == [1000 * 21 / 1400, 1000 * 21 / 1330]  # 95 % is enough, 94.5 % is not; never 1,000 in 1,000
    assert "left out: 3 weeks for want of labels" in figure.alt
    assert f"{plots.share(42 / 2730)} of them are fraud where labels are known" in figure.alt
    young = plots.daily_volume(table.assign(labelled=3))
    assert len(young.axes[1].patches) == 0
    assert "too few labels are known for a rate of fraud" in young.alt


def maturity(frauds: list[float], labels: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"days_since_event": range(len(frauds)), "share_known": labels, "share_frauds_known": frauds})


def test_label_maturity_draws_frauds_over_all_labels_and_names_the_finding():
    table = maturity([0, 0.3, 0.6, 0.9, 1.0], [0, 0.01, 0.01, 1.0, 1.0])
    figure = plots.label_maturity(table, 3)
    frauds, labels = figure.axes[0].lines[:2]
    drawn = [*zip(range(5), table["share_frauds_known"]), (4.2, 1.0)]
    np.testing.assert_allclose(frauds.get_xydata(), drawn)
    np.testing.assert_allclose(labels.get_xydata()[:5, 1], table["share_known"])
    assert frauds.get_linewidth() > labels.get_linewidth()
    assert figure.axes[0].lines[2].get_xdata() == [3, 3]
    title = "Half of the frauds are reported within 2 days; 90.0 % within the 3 days the split waits"
    assert title in " ".join(words(figure).split())
    assert figure.alt == f"{title}. Of all labels, those of genuine payments included, 100 % are known within 3 days."


@pytest.mark.parametrize(
    ("table", "waits", "said"),
    [
        (
            maturity([0, 0, 1], [0, 0, 1]),
            2,
            "All frauds are reported 2 days after the payment; the split waits 2 days.",
        ),
        (maturity([0, 0, 1], [0, 0, 1]), None, "All frauds are reported 2 days after the payment."),
        (maturity([0, 0.2, 0.4], [0, 0.1, 0.2]), 1, "20.0 % of the frauds are reported within the 1 day the split"),
        (maturity([np.nan] * 3, [0, 0.6, 1]), 1, "Half of the labels are known within 1 day; 60.0 % within the 1 day"),
        (
            maturity([0], [0]).drop(columns="share_frauds_known").assign(share_known=0.7),
            None,
            "Half of the labels are known within 0 days; 70.0 % within 0 days.",
        ),
    ],
)
def test_label_maturity_finds_words_for_every_shape(table, waits, said):
    figure = plots.label_maturity(table, waits)
    assert figure.alt.startswith(said)
    figure.svg()


def test_amounts_and_hours_match_a_plain_count(transactions):
    figure = plots.amount_by_label(transactions, bins=20)
    edges = np.geomspace(transactions["amount"].min(), transactions["amount"].max() * 1.0001, 21)
    fraud = transactions["is_fraud"].to_numpy(bool)
    for filled, mask in zip(figure.axes[0].patches[::2], (~fraud, fraud)):
        counts = [
            int(((transactions["amount"][mask] >= low) & (transactions["amount"][mask] < high)).sum())
            for low, high in itertools.pairwise(edges)
        ]
        expected = [count / mask.sum() if count >= 10 else 0 for count in counts]
        np.testing.assert_allclose(filled.get_data().values, expected)
    median = transactions.loc[fraud, "amount"].median()
    assert f"half of the fraud payments exceed {median:,.2f}" in figure.alt

    hours = plots.hour_by_label(transactions)
    counts = [int((transactions["event_time"].dt.hour[fraud] == hour).sum()) for hour in range(24)]
    expected = [count / fraud.sum() if count >= 10 else np.nan for count in counts]
    np.testing.assert_allclose(hours.axes[0].lines[1].get_ydata(), expected)


def test_small_cells_at_the_edge():
    assert plots.small_cells([9, 10, 0]).tolist() == [True, True, False]
    assert plots.small_cells([10, 11]).tolist() == [False, False]
    assert plots.small_cells([1, 0, 0]).tolist() == [True, False, False]
    assert plots.small_cells([]).tolist() == []


NOTHING = [
    (plots.roc, curves().iloc[:0], "both needed"),
    (plots.roc, curves().assign(tpr=np.nan), "both needed"),
    (plots.precision_recall, curves().iloc[:0], "Frauds are needed"),
    (plots.daily_precision, daily().iloc[:0], "no test day"),
    (plots.calibration, risk().iloc[:0], "no calibrated risk"),
    (plots.tiers, pd.DataFrame(columns=["tier", "action", "transactions", "frauds"]), "No payment was assigned"),
    (
        plots.importance,
        pd.DataFrame(columns=["feature", "mean_abs", "share", "meaning"]),
        "not available for this kind",
    ),
    (plots.pair_dependence, pair_table().iloc[:0], "No two features act together"),
    (plots.robustness, robust_table().iloc[:1], "No failure of the inputs"),
    (plots.dependence, pd.DataFrame({"feature": ["f"], "value": [1.0], "contribution": [1.0]}), "too few payments"),
    (plots.metric_intervals, pd.DataFrame(columns=["model", "metric", "value", "low", "high"]), "No metric could"),
    (plots.timeline, pd.DataFrame(columns=["part", "start", "end", "transactions", "frauds"]), "no parts with dates"),
    (plots.daily_volume, volume(0), "no transactions"),
    (plots.label_maturity, pd.DataFrame(columns=["days_since_event", "share_known"]), "No label is known yet"),
]


@pytest.mark.parametrize(("draw", "table", "said"), NOTHING, ids=lambda value: getattr(value, "__name__", None))
def test_nothing_to_draw_is_said_on_the_picture_and_in_its_alternative_text(draw, table, said):
    figure = draw(table)
    assert said in figure.alt
    assert said in " ".join(words(figure).split())
    assert not figure.axes


@pytest.mark.parametrize("draw", [plots.amount_by_label, plots.hour_by_label])
def test_one_class_or_no_label_is_said(draw, transactions):
    genuine = transactions[~transactions["is_fraud"].astype(bool)]
    assert "fewer than 10 frauds: not drawn" in draw(genuine).alt
    unknown = transactions.assign(is_fraud=pd.array([pd.NA] * len(transactions), dtype="boolean"))
    assert "No label is known yet" in draw(unknown).alt
    assert "ewer than 10" in draw(transactions.iloc[:5]).alt


def test_a_missing_column_is_named_with_the_nearest():
    with pytest.raises(InputError, match=r"^roc: column 'tpr' is missing; did you mean 'fpr'\?$"):
        plots.roc(curves().drop(columns="tpr"))
    with pytest.raises(InputError, match=r"waterfall: an alert needs .*; missing: base"):
        plots.waterfall({key: value for key, value in alert().items() if key != "base"})


def test_a_bare_last_expression_shows_in_a_notebook_with_its_alternative_text():
    figure = plots.roc(curves(), LABELS)
    shown, about = DisplayFormatter().format(figure)
    assert shown["image/png"][:8] == b"\x89PNG\r\n\x1a\n"
    assert about["image/png"]["alt"] == figure.alt
    assert about["image/png"]["width"] == 730


def test_svg_is_small_repeatable_and_points_nowhere():
    first, second = plots.roc(curves(), LABELS).svg(), plots.roc(curves(), LABELS).svg()
    assert first == second
    assert len(first) < 40_000
    rest = first.replace('xmlns="http://www.w3.org/2000/svg"', "").replace(
        'xmlns:xlink="http://www.w3.org/1999/xlink"', ""
    )
    assert "http" not in rest
    assert "<metadata" not in rest


def test_the_callers_style_is_neither_used_nor_changed():
    table = pd.DataFrame({"feature": ["a"], "mean_abs": [1.0], "share": [1.0], "meaning": ["A"]})
    plain = plots.importance(table).svg()
    with matplotlib.rc_context({"axes.facecolor": "black", "font.size": 30, "svg.fonttype": "path"}):
        before = dict(matplotlib.rcParams)
        assert plots.importance(table).svg() == plain
        assert dict(matplotlib.rcParams) == before


def test_pyplot_is_not_loaded():
    code = (
        "import sys, pandas as pd; from fraudlab import plots; "
        "plots.label_maturity(pd.DataFrame({'days_since_event': [0], 'share_known': [1.0]})).svg(); "
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- one thing held against another -------------------------------------------------------------------------------


def beside(champion: str = "a", gain: float = 0.1) -> pd.DataFrame:
    rows = []
    for view, group, metric, low in (
        ("overall", "all", "card_precision_at_k", 0.02),
        ("overall", "all", "auc_roc", -0.01),
        ("period", "2026-06-01", "card_precision_at_k", -0.1),
        ("period", "2026-06-08", "card_precision_at_k", 0.0),
    ):
        rows += [
            {"view": view, "by": "", "group": group, "metric": metric, "model": model, "value": value}
            | {"low": low if model == "difference" else value, "high": 0.3, "n": 100}
            for model, value in (("b", 0.4), (champion, 0.4 - gain), ("difference", gain))
        ]
    for group, rate in (("20-29", 0.03), ("30-39", 0.02), ("80+", np.nan)):
        rows += [
            {"view": "group", "by": "age_band", "group": group, "metric": "false_positive_rate", "model": model}
            | {"value": rate * factor, "low": rate / 2, "high": rate * 2, "n": 500}
            for model, factor in (("b", 1), (champion, 1.5))
        ]
    for model in ("b", champion):
        for number, stated in (("1", 0.01), ("2", 0.4)):
            key = {"view": "calibration", "by": "bin", "group": number, "model": model, "n": 80}
            rows.append(key | {"metric": "stated_risk", "value": stated})
            rows.append(key | {"metric": "observed_rate", "value": stated / 2, "low": 0.0, "high": stated})
    return pd.DataFrame(rows).assign(challenger="b", champion=champion)


def test_comparison_draws_differences_periods_groups_and_risks():
    figure = plots.comparison(pd.concat([beside(), beside("c", 0.2)]), LABELS)
    overall, periods, groups, risks = figure.axes
    marks = [each.get_xdata()[0] for each in overall.lines if each.get_marker() in ("o", "s")]
    assert marks == pytest.approx([0.1, 0.1, 0.2, 0.2])
    assert next(each for each in periods.lines if each.get_marker() == "o").get_ydata().tolist() == [0.1, 0.1]
    first, second = (each.get_ydata() for each in groups.lines if each.get_marker() in ("o", "s"))
    np.testing.assert_allclose(first[:2], [0.03, 0.02])
    np.testing.assert_allclose(second[:2], [0.045, 0.03])
    assert np.isnan(first[2])
    assert "–" in words(figure)
    assert [each.get_text() for each in groups.get_xticklabels()] == ["20-29", "30-39", "80+"]
    assert any(len(each.get_ydata()) == 2 and np.allclose(each.get_ydata(), [0.005, 0.2]) for each in risks.lines)
    assert figure.alt.startswith("Boosted against additive: +10.0 percentage points of precision at the alert budget")
    assert "95 % interval +2.0 to +30.0" in figure.alt
    assert "Boosted is ahead in 2 of 2 periods." in figure.alt
    assert (
        "3.00 % of the genuine cases of age_band 20-29 and 2.00 % of 30-39. Groups too small to show: 1." in figure.alt
    )


def test_comparison_without_parts_says_so():
    bare = beside()[lambda table: table["view"] == "overall"]
    said = words(plots.comparison(bare))
    for text in ("one period only", "no groups to compare", "no stated risks to compare"):
        assert text in said
    assert "no champion" in plots.comparison(beside().iloc[:0]).alt
    assert "lacks frauds" in plots.comparison(bare.assign(value=np.nan)).alt
    with pytest.raises(InputError, match="view"):
        plots.comparison(beside().drop(columns="view"))


def rule_outcomes() -> pd.DataFrame:
    rows = [
        {"rule": rule, "used": rule == "cost", "period": period, "metric": metric, "value": value + shift}
        | {"low": value - 1, "high": value + 1}
        for rule in ("budget", "cost")
        for metric, value in (("alerts_per_day", 5.0), ("net_saved_per_day", 400.0))
        for period, shift in (("validation", 0.5), ("test", 0.0))
    ]
    return pd.DataFrame(rows)


def test_threshold_outcomes_draw_what_was_promised_and_brought():
    figure = plots.threshold_outcomes(rule_outcomes())
    alerts, saved = figure.axes[:2]
    hollow = [line.get_xdata()[0] for line in alerts.lines if line.get_markerfacecolor() == "white"]
    assert hollow == [5.5, 5.5]
    spans = [line.get_xdata() for line in saved.lines if len(line.get_xdata()) == 2]
    assert [list(span) for span in spans] == [[399.0, 401.0], [399.0, 401.0]]
    assert figure.alt.startswith("The rule in use (least cost) was to save 400 a day and saved 400. ")
    assert "cases reviewed a day: 5.5 promised, 5.0 on the test" in figure.alt
    hidden = plots.threshold_outcomes(rule_outcomes().assign(value=np.nan))
    assert "No rule for the review threshold could be measured." in hidden.alt
