"""The named feature sets. To add a feature to one, add a line here; its test is `tests/features/test_sets.py`."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from fraudlab.config import FeaturesConfig
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
    maximum,
    mean,
    mean_gap,
    median,
    minimum,
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
from fraudlab.schema import BY_NAME, InputError, did_you_mean

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

# The same data with delay-aware inputs. A compromised terminal is told by its latest known payments: how many of them
# were fraud, since when, and whether their amounts explain it without the terminal (a stolen card spends several times
# the usual). A stolen card is told by amounts far above its customer's own, now and within the last two weeks.
HANDBOOK_V2 = FeatureSet(
    "handbook-v2",
    [
        *HANDBOOK.specs,
        # the terminal: frauds among the latest known payments and over longer stretches, and since when
        *(risk(by="merchant_id", window="90d", last=last) for last in (1, 2, 3, 5, 10)),
        risk(by="merchant_id", window=["14d", "21d", "28d", "35d"]),
        since_fraud(by="merchant_id", window="28d"),
        since_fraud(by="merchant_id", window=["28d", "35d"], first=True),
        # what those payments were, seen once their label is known, after seven days
        minimum("amount", by="merchant_id", window="90d", delay="7d", last=1),
        *(minimum("amount_ratio", by="merchant_id", window="90d", delay="7d", last=last) for last in (1, 2)),
        mean("amount_ratio", by="merchant_id", window="90d", delay="7d", last=3),
        # the customer's level
        mean("amount", by="customer_id", window="60d"),
        value("amount_ratio"),
        zscore("amount", by="customer_id", window="60d"),
        max_ratio("amount", by="customer_id", window="7d"),
        # ... and spree
        count(by="customer_id", window=["7d", "14d"], where=("amount_ratio", ">", 3)),
        decayed_count(by="customer_id", half_life="3d", where=("amount_ratio", ">", 3)),
        maximum("amount_ratio", by="customer_id", window="14d"),
    ],
    dtype="float32",
    derived={"amount_ratio": ratio("amount", by="customer_id", window="60d")},
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

# For data that name neither customer nor merchant: what a payment alone tells, beside the data's own columns.
PAYMENT_V1 = FeatureSet(
    "payment-v1",
    [value("amount"), cents(), round_amount(), hour(), night(), weekend()],
    dtype="float32",
)

# For data whose times are mere periods, such as a month's number: the amount, beside the data's own columns.
AMOUNT_V1 = FeatureSet("amount-v1", [value("amount")], dtype="float32")

NAMED_SETS: dict[str, FeatureSet] = {
    features.name: features for features in (HANDBOOK, HANDBOOK_V2, CARD_V1, ACCOUNT_V1, PAYMENT_V1, AMOUNT_V1)
}


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


def available(features: FeatureSet, columns: Iterable[str]) -> tuple[FeatureSet, pd.DataFrame]:
    """Return the part of a feature set that data with these columns can compute, and what was left out.

    Parameters
    ----------
    features : a set, such as `CARD_V1`.
    columns : the columns the data have.

    Returns
    -------
    The set itself where nothing lacks, else one named "...-available" of the specs whose columns are all there; and a
    table of the features left out: feature, lacks (the missing columns, comma-separated).

    Raises
    ------
    InputError : no spec is left.

    >>> part, left_out = available(HANDBOOK, ["transaction_id", "event_time", "customer_id", "amount"])
    >>> part.name, len(part.columns), left_out["lacks"].unique().tolist()
    ('handbook-available', 9, ['merchant_id', 'merchant_id, is_fraud, label_time'])
    """
    there = set(columns)
    kept, left_out = [], []
    for spec in features.specs:
        lacks = ", ".join(name for name in dict.fromkeys(features.reads(spec)) if name not in there)
        if lacks:
            left_out += [(column, lacks) for column in spec.columns]
        else:
            kept.append(spec)
    if features.specs and not kept:
        raise InputError(
            f"features.set: data must have the columns of at least one feature of {features.name}; found none; choose "
            "another set, such as payment-v1"
        )
    table = pd.DataFrame(left_out, columns=["feature", "lacks"], dtype="str")
    if left_out:
        derived = {name: spec for name, spec in features.derived if there.issuperset(spec.requires)}
        features = FeatureSet(f"{features.name}-available", kept, features.dtype, derived)
    return features, table


def configured_set(wanted: FeaturesConfig, transactions: pd.DataFrame) -> tuple[FeatureSet, pd.DataFrame]:
    """Return the feature set a config asks for on these transactions, and a table of what was left out.

    Parameters
    ----------
    wanted : the named set; whether features whose columns lack are left out (`available`) or refused when it computes;
        whether features may count known frauds; the data's own numeric columns that enter as they are.
    transactions : canonical transactions, with the columns the purpose allows.

    Returns
    -------
    The set, named "...-with-columns" where own columns follow those of the named set; and `available`'s table.

    Raises
    ------
    InputError : unknown set; a column that is not there or not numeric.

    >>> rows = pd.DataFrame({"transaction_id": [1], "event_time": pd.to_datetime(["2026-01-01"], utc=True),
    ...                      "customer_id": ["a"], "amount": [1.0], "v1": [0.5], "kind": ["x"]})
    >>> configured_set(FeaturesConfig(set="amount-v1", columns="all"), rows)[0].columns
    ('amount', 'v1')
    """
    features = named_set(wanted.set)
    there = set(transactions.columns) if wanted.missing == "leave_out" else set(features.requires)
    features, left_out = available(features, there if wanted.labels else there - {"is_fraud", "label_time"})
    numeric = [
        name
        for name, dtype in transactions.dtypes.items()
        if pd.api.types.is_numeric_dtype(dtype)
        and not pd.api.types.is_bool_dtype(dtype)
        and (name not in BY_NAME or BY_NAME[name].kind == "number")  # an id of whole numbers is none
    ]
    if wanted.columns == "all":
        own = [name for name in numeric if name not in BY_NAME]
    else:
        own = list(wanted.columns)
        for name in own:
            if name not in numeric:
                rule = "is not numeric" if name in transactions.columns else "is not among what the purpose may load"
                raise InputError(f"features.columns: column '{name}' {rule}; {did_you_mean(name, numeric)}")
    if own:
        specs = [*features.specs, *(value(name) for name in own)]
        features = FeatureSet(f"{features.name}-with-columns", specs, features.dtype, dict(features.derived))
    return features, left_out
