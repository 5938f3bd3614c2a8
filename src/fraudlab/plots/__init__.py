"""Pictures of the evidence tables, in one restrained style that also holds without colour.

Each function takes one table and returns a `Picture`: a matplotlib figure made without pyplot, which shows itself in a
notebook and carries `alt`, a sentence computed from the same numbers for people who cannot see it. A table that cannot
be drawn (no rows, one class only) gives a picture that says so. Colours derive from Okabe and Ito's palette, darkened
until text in them reads on white; the first model is blue and solid, the others differ by dash as well as by colour.
"""

from fraudlab.metrics import SMALLEST_CELL, small_cells
from fraudlab.plots.awareness import case_of_fraud
from fraudlab.plots.backtest import backtest
from fraudlab.plots.comparison import OUTCOME_LABELS, RULE_LABELS, comparison, points, threshold_outcomes
from fraudlab.plots.data import (
    amount_by_label,
    daily_volume,
    hour_by_label,
    label_maturity,
    maturity_by_source,
    timeline,
)
from fraudlab.plots.decisions import ACTION_LABELS, WAY_LABELS, actions, ratings, simulation
from fraudlab.plots.drift import drift_by_week, drift_charts, odd_hours, precision_weeks, score_movers
from fraudlab.plots.explanation import (
    dependence,
    dependence_bins,
    importance,
    pair_dependence,
    robustness,
    waterfall,
)
from fraudlab.plots.kinds import fraud_kinds
from fraudlab.plots.patterns import pattern
from fraudlab.plots.performance import (
    METRIC_LABELS,
    calibration,
    daily_precision,
    metric_intervals,
    metric_text,
    precision_recall,
    roc,
    tiers,
)
from fraudlab.plots.rules import rules_backtest, rules_overlap
from fraudlab.plots.style import Picture, keeping, share, value_text
from fraudlab.plots.unusual import unusual

__all__ = [
    "ACTION_LABELS",
    "METRIC_LABELS",
    "OUTCOME_LABELS",
    "RULE_LABELS",
    "SMALLEST_CELL",
    "WAY_LABELS",
    "Picture",
    "actions",
    "amount_by_label",
    "backtest",
    "calibration",
    "case_of_fraud",
    "comparison",
    "daily_precision",
    "daily_volume",
    "dependence",
    "dependence_bins",
    "drift_by_week",
    "drift_charts",
    "fraud_kinds",
    "hour_by_label",
    "importance",
    "keeping",
    "label_maturity",
    "maturity_by_source",
    "metric_intervals",
    "metric_text",
    "odd_hours",
    "pair_dependence",
    "pattern",
    "points",
    "precision_recall",
    "precision_weeks",
    "ratings",
    "robustness",
    "roc",
    "rules_backtest",
    "rules_overlap",
    "score_movers",
    "share",
    "simulation",
    "small_cells",
    "threshold_outcomes",
    "tiers",
    "timeline",
    "unusual",
    "value_text",
    "waterfall",
]
