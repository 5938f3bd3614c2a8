"""Windows over columns that are features themselves: against loops over the rows, live, kept, audited, refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fraudlab.features import FeatureSet, count, decayed_count, frauds, maximum, mean, minimum, ratio, risk, value
from fraudlab.features.audit import audit_leakage
from fraudlab.features.online import OnlineState
from fraudlab.features.sets import HANDBOOK_V2, available
from fraudlab.schema import InputError

SPREE = FeatureSet(
    "spree",
    [
        value("amount_ratio"),
        count(by="customer_id", window="14d", where=("amount_ratio", ">", 2)),
        maximum("amount_ratio", by="customer_id", window="7d"),
        minimum("amount_ratio", by="merchant_id", window="30d", delay="7d", last=2),
        mean("bad_share", by="customer_id", window="20d", include_current=True),
        decayed_count(by="customer_id", half_life="2d", where=("amount_ratio", ">", 2)),
    ],
    derived={
        "amount_ratio": ratio("amount", by="customer_id", window="10d"),
        "bad_share": risk(by="merchant_id", window="30d", empty=0.0),
    },
)


@pytest.fixture(scope="module")
def payments(transactions) -> pd.DataFrame:
    return transactions.iloc[:1500]


def test_windows_over_derived_columns_are_those_of_a_loop_over_the_rows(payments):
    found = SPREE.compute(payments)
    days = payments["event_time"].astype("int64").to_numpy() / 86_400e6
    known_from = payments["label_time"].astype("int64").to_numpy() / 86_400e6
    fraud, amount = payments["is_fraud"].to_numpy(dtype=float), payments["amount"].to_numpy()
    who = {by: payments[by].to_numpy(dtype=object) for by in ("customer_id", "merchant_id")}
    n = len(payments)

    def before(i: int, by: str, width: float, delay: float = 0) -> list[int]:
        """Return the earlier rows of the window (t - delay - width, t - delay] of row i, in order."""
        end = days[i] - delay
        mine = (who[by] == who[by][i]) & (days > end - width) & (days <= end) & (np.arange(n) < i)
        return np.flatnonzero(mine).tolist()

    ratios, bad_share = np.full(n, np.nan), np.zeros(n)
    for i in range(n):
        if past := before(i, "customer_id", 10):
            ratios[i] = amount[i] / amount[past].mean()
        if known := [j for j in before(i, "merchant_id", 30) if known_from[j] <= days[i]]:
            bad_share[i] = fraud[known].mean()
    np.testing.assert_allclose(found["amount_ratio"], ratios, rtol=1e-12)
    for i in range(300, n, 7):
        week = [ratios[j] for j in before(i, "customer_id", 7) if ratios[j] == ratios[j]]
        old = [ratios[j] for j in before(i, "merchant_id", 30, 7) if ratios[j] == ratios[j]]
        expected = [
            ratios[i],
            sum(ratios[j] > 2 for j in before(i, "customer_id", 14)),
            max(week, default=np.nan),
            min(old[-2:], default=np.nan),
            bad_share[[*before(i, "customer_id", 20), i]].mean(),
            sum(0.5 ** ((days[i] - days[j]) / 2) for j in before(i, "customer_id", 1e6) if ratios[j] > 2),
        ]
        np.testing.assert_allclose(found.iloc[i], expected, rtol=1e-9)


@pytest.mark.parametrize("features", [SPREE, HANDBOOK_V2], ids=lambda features: features.name)
def test_one_payment_at_a_time_gives_the_bits_of_the_table(features, payments):
    table = features.compute(payments)
    state = features.online(payments.iloc[:900])
    labels = payments.loc[:, ["transaction_id", "is_fraud", "label_time"]]
    waiting = labels.iloc[900:].sort_values("label_time").to_dict("records")
    rows = payments.drop(columns=["is_fraud", "label_time"]).to_dict("records")
    for k in range(900, len(rows)):
        while waiting and waiting[0]["label_time"] <= rows[k]["event_time"]:
            state.label(*waiting.pop(0).values())
        if k == 1200:
            state = OnlineState.from_bytes(state.to_bytes())
        looked = state.score(rows[k])
        found = state.score_then_update(rows[k])
        np.testing.assert_array_equal(found, looked)
        np.testing.assert_array_equal(found, table.iloc[k].to_numpy())


def test_a_refused_payment_leaves_nothing_behind(payments):
    state = SPREE.online(payments.iloc[:900])
    row = payments.drop(columns=["is_fraud", "label_time"]).iloc[900].to_dict()
    with pytest.raises(InputError, match="'amount' of the payment must be a finite number"):
        state.score_then_update({**row, "amount": np.inf})
    np.testing.assert_array_equal(state.score_then_update(row), SPREE.compute(payments).iloc[900].to_numpy())


def test_what_a_set_reads_and_how_it_is_kept(payments):
    assert "amount_ratio" not in SPREE.requires
    assert set(SPREE.requires) == {
        "transaction_id", "event_time", "customer_id", "merchant_id", "amount", "is_fraud", "label_time",
    }  # fmt: skip
    assert SPREE.reads(SPREE.specs[4]) == ("customer_id", "merchant_id", "is_fraud", "label_time")
    again = FeatureSet.from_dict(SPREE.to_dict())
    assert again == SPREE
    assert again.digest != FeatureSet("spree", [value("amount")]).digest
    assert "derived" not in FeatureSet("plain", [value("amount")]).to_dict()
    # A column of that name among the transactions is not read.
    there = payments.assign(amount_ratio=-1.0)
    pd.testing.assert_frame_equal(SPREE.compute(there), SPREE.compute(payments))
    meanings = SPREE.describe()["meaning"]
    assert meanings.str.contains("amount ratio").sum() == 2
    assert meanings.str.contains("amount above 2 times the usual").sum() == 2
    assert meanings[0] == "Amount divided by the mean amount by the same customer in the last 10 days."


def test_no_feature_of_it_sees_the_future(payments):
    table = audit_leakage(SPREE, payments, cuts=3, rows=1500, by="customer_id", seed=1)
    assert set(table["verdict"]) == {"passes"} or not (table["verdict"] == "leaks").any()


def test_a_missing_column_is_named_also_where_only_a_derived_one_needs_it(payments):
    with pytest.raises(InputError, match="features spree: column 'amount' is missing"):
        SPREE.compute(payments.drop(columns="amount"))
    part, left_out = available(SPREE, set(payments.columns) - {"amount"})
    assert part.columns == (SPREE.columns[4],)
    assert [name for name, _ in part.derived] == ["bad_share"]
    assert set(left_out["lacks"]) == {"amount"}


@pytest.mark.parametrize(
    ("derived", "sentence"),
    [
        ({"amount": ratio("amount", by="customer_id", window="7d")}, "derived column 'amount' must have a name of its"),
        ({"Times": ratio("amount", by="customer_id", window="7d")}, "derived column 'Times' must have a name of its"),
        ({"usual": ratio("amount", by="customer_id", window=["7d", "8d"])}, "must be a spec of one column; found 2"),
        (
            {"usual": frauds(by="customer_id", window="7d"), "more": mean("usual", by="customer_id", window="7d")},
            "derived column 'more' must be made of the transactions' own columns; found the derived 'usual'",
        ),
        ({"usual": "amount"}, "every entry must be a spec; found str"),
    ],
)
def test_derived_columns_that_cannot_be_are_refused(derived, sentence):
    with pytest.raises(InputError, match=sentence):
        FeatureSet("bad", [value("amount")], derived=derived)
