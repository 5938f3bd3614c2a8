"""The named feature sets. To add a feature to one, add a line here; its test is `tests/features/test_sets.py`."""

from __future__ import annotations

from fraudlab.features.featureset import FeatureSet
from fraudlab.features.statistics import (
    cents,
    count,
    decayed_count,
    distance,
    distinct,
    entropy,
    frauds,
    hour,
    hour_shift,
    hour_spread,
    is_new,
    linked,
    linked_frauds,
    max_ratio,
    mean,
    mean_gap,
    median,
    mode_share,
    night,
    percentile,
    quantile,
    ratio,
    repeats,
    risk,
    round_amount,
    share,
    since_first,
    since_fraud,
    since_last,
    speed,
    std,
    std_gap,
    total,
    usual_distance,
    value,
    weekend,
    zscore,
)
from fraudlab.schema import InputError, did_you_mean

# The 15 inputs of Le Borgne, Siblini, Lebichot and Bontempi (2022), "Reproducible Machine Learning for Credit Card
# Fraud Detection - Practical Handbook", chapter 3.
HANDBOOK = FeatureSet(
    "handbook",
    [
        value("amount"),
        weekend(),
        night(),
        count(by="customer_id", window=["1d", "7d", "30d"], include_current=True),
        mean("amount", by="customer_id", window=["1d", "7d", "30d"], include_current=True),
        count(by="merchant_id", window=["1d", "7d", "30d"], delay="7d"),
        risk(by="merchant_id", window=["1d", "7d", "30d"], delay="7d", empty=0.0),
    ],
)

# Two weeks: by then most honest payments are settled, so that shares of fraud are not those of the early reports only.
_SETTLED = "14d"

CARD_V1 = FeatureSet(
    "card-v1",
    [
        # the payment itself
        value("amount"),
        cents(),
        round_amount(),
        hour(),
        night(),
        weekend(),
        # the customer's pace ...
        count(by="customer_id", window=["1h", "1d", "7d", "30d"]),
        decayed_count(by="customer_id", half_life="6h"),
        since_last(by="customer_id"),
        since_first(by="customer_id"),
        mean_gap(by="customer_id", window="30d"),
        std_gap(by="customer_id", window="30d"),
        hour_shift(by="customer_id", window="60d"),
        # ... and level
        total("amount", by="customer_id", window="1d"),
        mean("amount", by="customer_id", window=["7d", "30d"]),
        mean("amount", by="customer_id", window="90d", last=5),
        median("amount", by="customer_id", window="60d"),
        std("amount", by="customer_id", window="60d"),
        zscore("amount", by="customer_id", window="60d"),
        ratio("amount", by="customer_id", window="30d"),
        max_ratio("amount", by="customer_id", window="30d"),
        percentile("amount", by="customer_id", window="90d"),
        repeats("amount", by="customer_id", window="1d"),
        # spread, novelty, place
        distinct("merchant_id", by="customer_id", window=["1d", "7d"]),
        distinct("country", by="customer_id", window="7d"),
        entropy("merchant_category", by="customer_id", window="60d"),
        share("merchant_category", by="customer_id", window="60d"),
        share("channel", by="customer_id", window="60d"),
        mode_share("merchant_id", by="customer_id", window="60d"),
        is_new("device_id", by="customer_id"),
        is_new("merchant_id", by="customer_id"),
        is_new("country", by="customer_id"),
        distance(by="customer_id"),
        speed(by="customer_id"),
        usual_distance(by="customer_id", window="60d"),
        # stolen cards are tried out with tiny amounts, accounts with wrong passwords
        count(by="card_id", window="1h", where=("amount", "<", 3), include_current=True),
        count(by="customer_id", window="1d", where=("auth_result", "=", "failed"), include_current=True),
        # the merchant
        count(by="merchant_id", window=["1h", "1d"]),
        ratio("amount", by="merchant_id", window="30d"),
        percentile("amount", by="merchant_id", window="30d"),
        quantile("amount", 0.9, by="merchant_id", window="30d"),
        # frauds known by now
        frauds(by="customer_id", window="90d"),
        frauds(by="merchant_id", window=["7d", "28d"]),
        risk(by="merchant_id", window=["7d", "28d"], delay=_SETTLED),
        risk(by="merchant_id", window="90d", last=20, prior=(0.01, 20)),
        since_fraud(by="merchant_id", window="90d"),
        frauds(by="device_id", window="28d"),
        # who else is behind the device, the network address, the card
        distinct("customer_id", by="device_id", window="30d", include_current=True),
        distinct("customer_id", by="ip", window="30d", include_current=True),
        distinct("device_id", by="customer_id", window="30d", include_current=True),
        count(by="ip", window="1h"),
        linked("customer_id", through=["device_id", "card_id"]),
        linked_frauds("customer_id", through=["device_id", "card_id"]),
    ],
    dtype="float32",
)

# For a taken-over account: how it was entered, on what device, from where.
ACCOUNT_V1 = FeatureSet(
    "account-v1",
    [
        value("amount"),
        hour(),
        night(),
        hour_shift(by="customer_id", window="90d"),
        hour_spread(by="customer_id", window="90d"),
        ratio("amount", by="customer_id", window="30d"),
        percentile("amount", by="customer_id", window="90d"),
        count(by="customer_id", window=["1h", "1d", "7d"]),
        since_last(by="customer_id"),
        since_first(by="customer_id"),
        # authentication
        count(by="customer_id", window=["1h", "1d", "7d"], where=("auth_result", "=", "failed"), include_current=True),
        decayed_count(by="customer_id", half_life="1h", where=("auth_result", "=", "failed")),
        count(by="device_id", window="1h", where=("auth_result", "=", "failed"), include_current=True),
        count(by="ip", window=["1h", "1d"], where=("auth_result", "=", "failed"), include_current=True),
        is_new("auth_method", by="customer_id"),
        share("auth_method", by="customer_id", window="90d"),
        # device and network
        is_new("device_id", by="customer_id"),
        is_new("ip", by="customer_id"),
        since_first(by=("customer_id", "device_id")),
        since_last(by=("customer_id", "device_id")),
        share("device_id", by="customer_id", window="90d"),
        distinct("device_id", by="customer_id", window=["1d", "30d"], include_current=True),
        distinct("ip", by="customer_id", window=["1d", "30d"], include_current=True),
        distinct("customer_id", by="device_id", window=["1d", "30d"], include_current=True),
        distinct("customer_id", by="ip", window=["1d", "30d"], include_current=True),
        linked("customer_id", through="device_id"),
        # place
        is_new("country", by="customer_id"),
        share("country", by="customer_id", window="90d"),
        distinct("country", by="customer_id", window=["1d", "30d"], include_current=True),
        entropy("country", by="customer_id", window="90d"),
        distance(by="customer_id"),
        speed(by="customer_id"),
        usual_distance(by="customer_id", window="90d"),
        # frauds known by now
        frauds(by="customer_id", window="180d"),
        since_fraud(by="customer_id", window="180d"),
        frauds(by="device_id", window="90d"),
        frauds(by="ip", window="28d"),
        linked_frauds("customer_id", through="device_id"),
    ],
    dtype="float32",
)

NAMED_SETS: dict[str, FeatureSet] = {features.name: features for features in (HANDBOOK, CARD_V1, ACCOUNT_V1)}


def named_set(name: str) -> FeatureSet:
    """Return a feature set by its name.

    >>> len(named_set("handbook").columns)
    15
    >>> named_set("card-v2")
    Traceback (most recent call last):
    fraudlab.schema.InputError: features.set: unknown feature set 'card-v2'; did you mean 'card-v1'?
    """
    if name not in NAMED_SETS:
        raise InputError(f"features.set: unknown feature set '{name}'; {did_you_mean(name, NAMED_SETS)}")
    return NAMED_SETS[name]
