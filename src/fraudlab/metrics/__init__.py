"""Evidence about scores: tidy tables of metrics with intervals, and the tables that curves are drawn from.

A case is one entity (customer or card) on one day (UTC), scored by its best transaction of that day. Investigators
inspect the k best cases a day; among equal scores a fixed hash of the entity's number by first appearance decides, so
that neither the order of the rows nor the pseudonyms' key matters. Arguments are matched by position; an index is not
looked at.
"""

from fraudlab.metrics.additions import FEW_FRAUDS, RULE_OUTCOMES, RULE_VIEWS, rule_outcomes
from fraudlab.metrics.cells import SMALLEST_CELL, small_cells
from fraudlab.metrics.comparison import COMPARED, FAIRNESS, compare
from fraudlab.metrics.curves import calibration_table, pr_table, roc_table, wilson
from fraudlab.metrics.evaluation import METRICS, card_precision_at_k, evaluate
from fraudlab.metrics.outcomes import OUTCOMES, alert_outcomes
from fraudlab.metrics.periods import WORKED, card_precision_by_period, top_cases, ways_of_working
from fraudlab.metrics.simulation import ACTED, SIMULATED, action_outcomes, simulate

__all__ = [
    "ACTED",
    "COMPARED",
    "FAIRNESS",
    "FEW_FRAUDS",
    "METRICS",
    "OUTCOMES",
    "RULE_OUTCOMES",
    "RULE_VIEWS",
    "SIMULATED",
    "SMALLEST_CELL",
    "WORKED",
    "action_outcomes",
    "alert_outcomes",
    "calibration_table",
    "card_precision_at_k",
    "card_precision_by_period",
    "compare",
    "evaluate",
    "pr_table",
    "roc_table",
    "rule_outcomes",
    "simulate",
    "small_cells",
    "top_cases",
    "ways_of_working",
    "wilson",
]
