"""Features: what was known about a payment at the moment it happened, as one exact, leak-proof table.

    from fraudlab.features import FeatureSet, count, mean
    FeatureSet("mine", [count(by="customer_id", window=["1d", "7d"])]).compute(transactions)

The numba kernels are loaded with the first `compute`, not with this package.
"""

from fraudlab.features.featureset import FeatureSet
from fraudlab.features.specs import (
    cents,
    count,
    distance,
    distinct,
    frauds,
    hour,
    is_new,
    max_ratio,
    mean,
    night,
    ratio,
    risk,
    round_amount,
    since_first,
    since_last,
    speed,
    std,
    total,
    value,
    weekend,
    zscore,
)

__all__ = [
    "FeatureSet",
    "cents",
    "count",
    "distance",
    "distinct",
    "frauds",
    "hour",
    "is_new",
    "max_ratio",
    "mean",
    "night",
    "ratio",
    "risk",
    "round_amount",
    "since_first",
    "since_last",
    "speed",
    "std",
    "total",
    "value",
    "weekend",
    "zscore",
]
