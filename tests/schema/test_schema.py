"""The canonical form: what is cast, what is refused, and with which sentence."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fraudlab.schema import InputError, as_known_at, conform, did_you_mean, utc

NOW = pd.Timestamp("2026-06-01", tz="UTC")


def table(**columns: object) -> pd.DataFrame:
    rows = {
        "transaction_id": ["b", "a", "c"],
        "event_time": pd.to_datetime(["2026-01-02", "2026-01-02", "2026-01-01"], utc=True),
        "customer_id": ["x", "y", "x"],
        "amount": [1.0, 2.0, 3.0],
    }
    return pd.DataFrame(rows | columns)


def test_rows_come_out_in_the_total_order_with_canonical_types() -> None:
    frame = conform(table(is_fraud=[0, 1, None], label_time=pd.to_datetime(["2026-02-01"] * 3, utc=True)), now=NOW)
    assert frame["transaction_id"].tolist() == ["c", "a", "b"]
    assert frame.index.tolist() == [0, 1, 2]
    assert str(frame["event_time"].dtype) == "datetime64[us, UTC]"
    assert str(frame["is_fraud"].dtype) == "boolean"
    assert frame["is_fraud"].tolist() == [pd.NA, True, False]


def test_other_time_zones_become_utc() -> None:
    times = pd.to_datetime(["2026-01-02T01:00+01:00"] * 3, utc=False)
    assert conform(table(event_time=times))["event_time"].iloc[0] == pd.Timestamp("2026-01-02", tz="UTC")


NAIVE = pd.to_datetime(["2026-01-02"] * 3)
FUTURE = pd.to_datetime(["2026-01-02", "2026-07-01", "2026-08-01"], utc=True)

REFUSALS = {
    "wrong type": ({"amount": ["1", "2", "3"]}, "column 'amount' must hold numbers; found type str"),
    "float ids": ({"customer_id": [1.0, 2.0, 3.0]}, "column 'customer_id' must hold text or whole numbers"),
    "duplicates": (
        {"transaction_id": ["a", "a", "a"]},
        "'transaction_id' must be unique; found 2 duplicates of 3 rows",
    ),
    "empty id": ({"transaction_id": ["a", None, "c"]}, "'transaction_id' must not be empty; found 1 empty of 3 rows"),
    "naive": ({"event_time": NAIVE}, "'event_time' holds times without a time zone; found 3 naive rows"),
    "text time": ({"event_time": ["x", "y", "z"]}, "'event_time' must hold times; found type str"),
    "future": ({"event_time": FUTURE}, "'event_time' must not lie in the future; found 2 of 3 rows"),
    "bad amounts": (
        {"amount": [np.nan, np.inf, -1.0]},
        "'amount' must be finite and >= 0; found 1 NaN, 1 infinite, 1 negative of 3 rows",
    ),
    "label": ({"is_fraud": [0, 1, 2]}, "'is_fraud' must be 0, 1 or missing; found 1 other values"),
    "undated": (
        {"is_fraud": [0, 1, 0], "label_time": pd.to_datetime([None, "2026-02-01", "2026-02-01"], utc=True)},
        "'label_time' must say when each label became known; found 1 labels",
    ),
    "early": (
        {"is_fraud": [0, 1, 0], "label_time": pd.to_datetime(["2025-01-01"] * 3, utc=True)},
        "'label_time' must not lie before event_time; found 3 of 3 rows",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_tables_are_refused_with_one_sentence_each(case: str) -> None:
    columns, sentence = REFUSALS[case]
    with pytest.raises(InputError) as refusal:
        conform(table(**columns), now=NOW)
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert refusal.value.exit_code == 2


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(InputError) as refusal:
        conform(table(amount=[-1.0, 1.0, 1.0], transaction_id=["a", "a", "b"]))
    assert len(str(refusal.value).splitlines()) == 2


def test_missing_columns_name_the_nearest() -> None:
    with pytest.raises(InputError, match="column 'customer_id' is missing; did you mean 'custmer_id'"):
        conform(table().rename(columns={"customer_id": "custmer_id"}))


def test_an_empty_table_is_refused() -> None:
    with pytest.raises(InputError, match="the table has no rows"):
        conform(table().iloc[:0])


def test_messages_hold_no_values_of_rows() -> None:
    secret = "4929131415926535"
    with pytest.raises(InputError) as refusal:
        conform(table(transaction_id=[secret] * 3, amount=[secret] * 3))
    assert secret not in str(refusal.value)


def test_as_known_at_hides_later_rows_and_later_labels(transactions: pd.DataFrame) -> None:
    as_of = pd.Timestamp("2026-02-01", tz="UTC")
    known = as_known_at(transactions, as_of)
    # Row by row, as a reader would do it.
    wanted = [
        bool(row.is_fraud) if row.label_time <= as_of else pd.NA
        for row in transactions.itertuples()
        if row.event_time < as_of
    ]
    assert len(known) == len(wanted)
    assert known["is_fraud"].isna().tolist() == [value is pd.NA for value in wanted]
    assert known["is_fraud"].dropna().tolist() == [value for value in wanted if value is not pd.NA]
    assert (known["label_time"].isna() == known["is_fraud"].isna()).all()
    # A label known at exactly as_of is known; the moment before it is not.
    moment = transactions["label_time"].iloc[0]
    assert as_known_at(transactions, moment)["is_fraud"].notna().iloc[0]
    assert as_known_at(transactions, moment - pd.Timedelta(microseconds=1))["is_fraud"].isna().iloc[0]


def test_moments_need_a_zone() -> None:
    with pytest.raises(InputError, match="as_of: must carry a time zone"):
        utc("2026-01-01", "as_of")
    with pytest.raises(InputError, match="as_of: must be a date"):
        utc("yesterday-ish", "as_of")


def test_did_you_mean_lists_options_when_nothing_is_near() -> None:
    assert did_you_mean("zzz", ["b", "a"]) == "valid are: a, b"
