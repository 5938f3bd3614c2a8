"""History walked through as if it were live: what money and alerts each policy of retraining would have given.

`policies` says when a policy retrains and whether the gate decides; `walking` makes the models, lets the gate decide
and keeps who served when; `outcomes` judges what each policy's champions would have found, once all labels are known;
`estimates` judges what the monitoring would have said of each week before its labels came.
"""

from fraudlab.backtesting.estimates import measured
from fraudlab.backtesting.outcomes import decided, judge, overview, score_walk
from fraudlab.backtesting.policies import DEFAULT, Policy, policies_of, policy_of, step_days
from fraudlab.backtesting.walking import Walk, World, first_date, last_date, load_world, make_world, walk, with_revised

__all__ = [
    "DEFAULT",
    "Policy",
    "Walk",
    "World",
    "decided",
    "first_date",
    "judge",
    "last_date",
    "load_world",
    "make_world",
    "measured",
    "overview",
    "policies_of",
    "policy_of",
    "score_walk",
    "step_days",
    "walk",
    "with_revised",
]
