"""Drift: what changed in the payments, since when, how surely, and why.

`distances` holds two samples against each other, `charts` a series against its own past, `signals` turns days of
payments into charts with limits, `estimates` tells performance before and while labels come in, `causes` takes a change
apart. Everything here is pure: arrays and frames in, tables out.
"""

from fraudlab.drift.causes import SEGMENT_COLUMNS, contribution_shift, segment_change
from fraudlab.drift.charts import cusum, cusum_arl, hour_by_weekday, share_chart
from fraudlab.drift.distances import (
    CHANGED,
    STABLE,
    adjusted,
    bin_breaks,
    bin_codes,
    chance_psi,
    compare_columns,
    design_effect,
    psi,
    psi_p_value,
)
from fraudlab.drift.estimates import cases_of, estimate_error, precision_chart, weekly_performance
from fraudlab.drift.signals import GROUPS, LIMITS, alarms, daily_signals, episodes, limits_from, raw_columns

__all__ = [
    "CHANGED",
    "GROUPS",
    "LIMITS",
    "SEGMENT_COLUMNS",
    "STABLE",
    "adjusted",
    "alarms",
    "bin_breaks",
    "bin_codes",
    "cases_of",
    "chance_psi",
    "compare_columns",
    "contribution_shift",
    "cusum",
    "cusum_arl",
    "daily_signals",
    "design_effect",
    "episodes",
    "estimate_error",
    "hour_by_weekday",
    "limits_from",
    "precision_chart",
    "psi",
    "psi_p_value",
    "raw_columns",
    "segment_change",
    "share_chart",
    "weekly_performance",
]
