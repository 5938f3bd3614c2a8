"""Payments in chunks, one by one or in one table: the same bits, and the same state afterwards."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fraudlab import features as f
from fraudlab.features import FeatureSet
from fraudlab.features.chunks import score_table_then_update
from fraudlab.features.log import Numbers
from fraudlab.features.online import OnlineState
from fraudlab.features.sets import ACCOUNT_V1, CARD_V1, HANDBOOK, HANDBOOK_V2
from fraudlab.schema import InputError

BY = "customer_id"
SHORT = FeatureSet(
    "short",
    [
        f.value("amount"),
        f.hour("Europe/Berlin"),
        f.count(BY, ["1h", "7d"], where=("auth_result", "!=", "failed")),
        f.count(("customer_id", "merchant_id"), "20d", include_current=True),
        f.mean("amount", BY, "9d", last=3),
        f.std("amount", "merchant_id", "5d"),
        f.quantile("amount", 0.9, "merchant_id", "9d"),
        f.entropy("merchant_id", BY, "9d"),
        f.risk("merchant_id", "20d", last=4),
        f.since_fraud("merchant_id", "20d"),
        f.is_new("device_id", BY),
        f.since_last("device_id"),
        f.since_first(BY),
        f.distance(BY),
        f.speed("device_id"),
        f.decayed_count("merchant_id", "1d"),
        f.decayed_total("amount", BY, "2d", where=("amount", "<", 50)),
        f.linked(BY, ["device_id"]),
        f.linked_frauds(BY, ["device_id", "card_id"]),
        f.maximum("times", by=BY, window="9d"),
    ],
    derived={"times": f.ratio("amount", by=BY, window="9d")},
)


@pytest.fixture(scope="module")
def payments(transactions) -> pd.DataFrame:
    """Payments with ties, holes, late and missing labels."""
    rng = np.random.default_rng(5)
    frame = transactions.iloc[:2000].copy()
    frame["event_time"] = frame["event_time"].dt.floor("30min")
    frame = frame.sort_values(["event_time", "transaction_id"], ignore_index=True)
    for column in ("device_id", "auth_result", "country", "latitude", "longitude"):
        frame[column] = frame[column].mask(rng.random(len(frame)) < 0.1)
    frame["label_time"] = frame["label_time"].mask(rng.random(len(frame)) < 0.2)
    frame["is_fraud"] = frame["is_fraud"].mask(frame["label_time"].isna())
    frame["ip"] = frame["device_id"]
    frame["channel"] = frame["merchant_category"] = frame["country"]
    return frame


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    return found.dtype == expected.dtype and bool(((found == expected) | (np.isnan(found) & np.isnan(expected))).all())


@pytest.mark.parametrize(
    "features", [SHORT, CARD_V1, ACCOUNT_V1, HANDBOOK, HANDBOOK_V2], ids=lambda features: features.name
)
def test_chunks_give_the_bits_of_the_table(features, payments):
    table = features.compute(payments)
    state = features.online(payments.iloc[:300])
    found = []
    for start, end in ((300, 301), (301, 900), (900, 900), (900, 1700), (1700, 2000)):
        chunk = payments.iloc[start:end].sample(frac=1, random_state=start)
        out = score_table_then_update(state, chunk)
        pd.testing.assert_index_equal(out.index, chunk.index)
        found.append(out.sort_index())
    whole = pd.concat(found)
    assert whole.columns.tolist() == table.columns.tolist()
    wrong = [name for name in table if not same(whole[name].to_numpy(), table[name].to_numpy()[300:])]
    assert wrong == []


@pytest.mark.parametrize("features", [SHORT, CARD_V1], ids=lambda features: features.name)
def test_chunks_and_single_payments_mix_and_labels_come_late(features, payments):
    """One state takes payments one by one, another in chunks and one by one in turns; labels come in between."""
    alone, mixed = OnlineState(features), OnlineState(features)
    bare = payments.drop(columns=["is_fraud", "label_time"])
    rows = bare.astype("object").where(bare.notna(), None).to_dict("records")
    rng = np.random.default_rng(2)
    for start in range(0, len(rows), 100):
        expected = np.array([alone.score_then_update(row) for row in rows[start : start + 100]])
        if start // 100 % 3 == 2:
            found = np.array([mixed.score_then_update(row) for row in rows[start : start + 100]])
        else:
            found = score_table_then_update(mixed, bare.iloc[start : start + 100]).to_numpy()
        assert same(found, expected)
        if start // 100 % 5 == 4:
            mixed = OnlineState.from_bytes(mixed.to_bytes())
        now = payments["event_time"].iloc[min(start + 99, len(rows) - 1)]
        for row in rng.integers(0, start + 100, 30).tolist():
            for state in (alone, mixed):  # some are told twice, and otherwise, and from later on
                moment = now + pd.Timedelta(hours=int(row) % 90)
                assert state.label(rows[row]["transaction_id"], row % 3 == 0, moment)
    assert alone.recent == mixed.recent
    assert alone.count == mixed.count
    assert alone.last == mixed.last


def test_memory_stays_bounded_by_the_windows():
    features = FeatureSet("tiny", [f.count(by="customer_id", window="1d")])
    state = features.online()
    start = pd.Timestamp("2026-01-01", tz="UTC")
    for day in range(60):
        moments = start + pd.Timedelta(days=day) + pd.to_timedelta(np.arange(200), unit="min")
        frame = pd.DataFrame({"transaction_id": day * 200 + np.arange(200), "event_time": moments, "customer_id": "a"})
        found = score_table_then_update(state, frame)["customer_id__count__1d"].to_numpy()
        assert found[-1] == 199
    assert state.logs[0].length.sum() <= 400
    assert len(state.logs[0].pool) < 4096


def test_keys_are_numbered_as_a_dictionary_would():
    rng = np.random.default_rng(1)
    for width in (1, 2, 3):
        numbers, expected = Numbers(width), {}
        for many in (1, 5, 3000, 1):
            keys = rng.integers(-1, 60, (many, width)) << rng.integers(0, 40)
            known = [expected.get(key, -1) for key in map(tuple, keys.tolist())]
            assert numbers.of(keys, adding=False).tolist() == known
            wanted = [
                -1 if min(key) < 0 else expected.setdefault(key, len(expected)) for key in map(tuple, keys.tolist())
            ]
            assert numbers.of(keys, adding=True).tolist() == wanted
        assert [tuple(key) for key in numbers.keys.tolist()] == list(expected)


def test_what_lies_before_the_last_payment_is_refused(payments):
    state = HANDBOOK.online(payments.iloc[:100])
    with pytest.raises(InputError) as refused:
        score_table_then_update(state, payments.iloc[50:150])
    assert str(refused.value) == (
        "features handbook: payments must come in the order (event_time, transaction_id); "
        "found some that lie before the last; compute late ones in a table"
    )
    assert state.count == 100
