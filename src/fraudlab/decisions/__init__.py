"""What happens to a transaction with a given score: thresholds, risk tiers, and the action of least expected cost.

`thresholds` cuts a score into tiers, as packages do today. `policy` weighs risk, amount, fired rules and the
customer's rating against what each action costs, within what investigators can review, and leaves what is adverse to
a person.
"""

from fraudlab.decisions.policy import (
    ACTIONS,
    ADVERSE,
    WEIGHED,
    WHY,
    ActionCost,
    Policy,
    decide,
    expected_costs,
    with_prices,
)
from fraudlab.decisions.thresholds import (
    TIERS,
    Thresholds,
    Tier,
    actions_for,
    assign_tiers,
    choose_thresholds,
    least_cost_threshold,
    threshold_at_false_positive_rate,
    thresholds_of_budgets,
    tier_table,
    worth_reviewing,
)

__all__ = [
    "ACTIONS",
    "ADVERSE",
    "TIERS",
    "WEIGHED",
    "WHY",
    "ActionCost",
    "Policy",
    "Thresholds",
    "Tier",
    "actions_for",
    "assign_tiers",
    "choose_thresholds",
    "decide",
    "expected_costs",
    "least_cost_threshold",
    "threshold_at_false_positive_rate",
    "thresholds_of_budgets",
    "tier_table",
    "with_prices",
    "worth_reviewing",
]
