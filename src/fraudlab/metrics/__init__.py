"""Evidence about scores: tidy tables of metrics with intervals, and the tables that curves are drawn from.

A case is one entity (customer or card) on one day (UTC), scored by its best transaction of that day. Investigators
inspect the k best cases a day; among equal scores a fixed hash of the entity's number by first appearance decides, so
that neither the order of the rows nor the pseudonyms' key matters. Arguments are matched by position; an index is not
looked at.
"""

from fraudlab.metrics.curves import calibration_table, cost_table, pr_table, roc_table, wilson
from fraudlab.metrics.evaluation import METRICS, card_precision_at_k, evaluate

__all__ = [
    "METRICS",
    "calibration_table",
    "card_precision_at_k",
    "cost_table",
    "evaluate",
    "pr_table",
    "roc_table",
    "wilson",
]
