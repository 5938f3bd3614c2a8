"""The set a config asks for: what the data lack is left out and said, own columns follow, slips are refused."""

from __future__ import annotations

import pandas as pd
import pytest

from fraudlab.config import FeaturesConfig
from fraudlab.features.sets import AMOUNT_V1, CARD_V1, HANDBOOK, available, configured_set
from fraudlab.schema import InputError


def test_nothing_is_left_out_where_nothing_lacks(transactions: pd.DataFrame) -> None:
    part, left_out = available(HANDBOOK, transactions.columns)
    assert part is HANDBOOK
    assert left_out.empty


def test_what_is_left_out_is_said_with_the_columns_it_lacks(transactions: pd.DataFrame) -> None:
    frame = transactions.drop(columns=["device_id", "auth_result"])
    part, left_out = available(CARD_V1, frame.columns)
    assert set(part.columns) | set(left_out["feature"]) == set(CARD_V1.columns)
    assert not set(part.columns) & set(left_out["feature"])
    lacks = left_out.set_index("feature")["lacks"]
    assert lacks["customer_id__device_id__is_new"] == "device_id"
    # What is kept has the very values it has within the whole set, in the same order.
    kept = [column for column in CARD_V1.columns if column in part.columns]
    assert list(part.columns) == kept
    some = frame.head(400)
    whole = transactions.head(400).assign(merchant_category="x", channel="pos", ip="y")
    pd.testing.assert_frame_equal(part.compute(some.assign(merchant_category="x", channel="pos", ip="y"))[kept[:9]],
                                  CARD_V1.compute(whole)[kept[:9]])  # fmt: skip


def test_features_that_count_known_frauds_can_be_left_out(transactions: pd.DataFrame) -> None:
    frame = transactions.assign(merchant_category="x", channel="pos", ip="y")
    features, left_out = configured_set(FeaturesConfig(labels=False), frame)
    assert not [spec for spec in features.specs if "is_fraud" in spec.requires]
    assert set(left_out["lacks"]) == {"is_fraud, label_time"}


def test_all_own_columns_are_the_numeric_ones_that_are_not_canonical(transactions: pd.DataFrame) -> None:
    frame = transactions.assign(v1=1.0, flag=True, kind="x", whole=3)
    features, _ = configured_set(FeaturesConfig(set="amount-v1", columns="all"), frame)
    assert features.columns == ("amount", "v1", "whole")
    assert features.name == "amount-v1-with-columns"
    assert features.compute(frame.head(3))["whole"].tolist() == [3.0, 3.0, 3.0]


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"columns": ("speed1",)}, r"column 'speed1' is not among what the purpose may load; did you mean 'speed'\?"),
        ({"columns": ("transaction_id",)}, "column 'transaction_id' is not numeric"),
        ({"columns": ("kind",)}, "column 'kind' is not numeric"),
        ({"columns": ("amount",)}, "columns must differ; found 'amount' twice"),
        ({"columns": ("is_fraud",)}, "column 'is_fraud' is not numeric"),
    ],
)
def test_slips_are_refused(wanted: dict[str, object], sentence: str, transactions: pd.DataFrame) -> None:
    with pytest.raises(InputError, match=sentence):
        configured_set(FeaturesConfig(set="amount-v1", **wanted), transactions.assign(speed=1.0, kind="x"))


def test_a_set_of_which_nothing_is_left_is_refused() -> None:
    with pytest.raises(InputError, match="at least one feature of amount-v1; found none; choose another set"):
        available(AMOUNT_V1, ["transaction_id", "event_time"])
