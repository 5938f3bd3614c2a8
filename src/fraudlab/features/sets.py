"""The named feature sets. To add a feature to one, add a line here; its test is `tests/features/test_sets.py`."""

from __future__ import annotations

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
    total,
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
        # the customer's pace and level
        count(by="customer_id", window=["1h", "1d", "7d", "30d"]),
        total("amount", by="customer_id", window="1d"),
        mean("amount", by="customer_id", window=["7d", "30d"]),
        zscore("amount", by="customer_id", window="60d"),
        ratio("amount", by="customer_id", window="30d"),
        max_ratio("amount", by="customer_id", window="30d"),
        since_last(by="customer_id"),
        since_first(by="customer_id"),
        # spread, novelty, place
        distinct("merchant_id", by="customer_id", window=["1d", "7d"]),
        distinct("country", by="customer_id", window="7d"),
        is_new("device_id", by="customer_id"),
        is_new("merchant_id", by="customer_id"),
        is_new("country", by="customer_id"),
        distance(by="customer_id"),
        speed(by="customer_id"),
        # stolen cards are tried out with tiny amounts, accounts with wrong passwords
        count(by="card_id", window="1h", where=("amount", "<", 3), include_current=True),
        count(by="customer_id", window="1d", where=("auth_result", "=", "failed"), include_current=True),
        # the merchant
        count(by="merchant_id", window="1h"),
        ratio("amount", by="merchant_id", window="30d"),
        frauds(by="merchant_id", window=["7d", "28d"]),
        risk(by="merchant_id", window=["7d", "28d"], delay=_SETTLED),
        # who else is behind the device and the network address
        distinct("customer_id", by="device_id", window="30d", include_current=True),
        distinct("customer_id", by="ip", window="30d", include_current=True),
        count(by="ip", window="1h"),
        frauds(by="device_id", window="28d"),
    ],
    dtype="float32",
)

NAMED_SETS: dict[str, FeatureSet] = {features.name: features for features in (HANDBOOK, CARD_V1)}


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
