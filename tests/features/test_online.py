"""One payment at a time gives the table's bits: with history or without, labels late, state restored."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from fraudlab import features as f
from fraudlab.features import FeatureSet
from fraudlab.features.online import OnlineState
from fraudlab.features.sets import ACCOUNT_V1, CARD_V1, HANDBOOK
from fraudlab.schema import InputError

BY = "customer_id"
SHORT = FeatureSet(
    "short",
    [
        f.value("amount"),
        f.hour("Europe/Berlin"),
        f.weekday("Asia/Kathmandu"),
        f.month_day(),
        f.count(BY, ["1h", "7d"], where=("auth_result", "!=", "failed")),
        f.count(("customer_id", "merchant_id"), "20d", include_current=True),
        f.total("amount", "merchant_id", "2d", delay="1d"),
        f.mean("amount", BY, "9d", last=3),
        f.std("amount", "merchant_id", "5d"),
        f.zscore("amount", BY, "9d"),
        f.minimum("latitude", BY, "9d"),
        f.maximum("amount", "merchant_id", "9d", include_current=True),
        f.quantile("amount", 0.9, "merchant_id", "9d"),
        f.percentile("amount", BY, "9d"),
        f.distinct("merchant_id", BY, "9d", include_current=True),
        f.entropy("merchant_id", BY, "9d"),
        f.mode_share("country", "merchant_id", "9d"),
        f.share("merchant_id", BY, "9d"),
        f.repeats("amount", "merchant_id", "20d"),
        f.mean_gap(BY, "9d"),
        f.std_gap(BY, "9d"),
        f.usual_hour(BY, "9d", zone="Europe/Berlin"),
        f.hour_spread(BY, "9d"),
        f.hour_shift(BY, "9d"),
        f.usual_distance(BY, "9d"),
        f.frauds("merchant_id", "9d"),
        f.labelled("merchant_id", "9d", delay="1d"),
        f.risk("merchant_id", "20d", last=4),
        f.risk("merchant_id", "20d", prior=(0.1, 5)),
        f.since_fraud("merchant_id", "20d"),
        f.since_fraud("merchant_id", "20d", first=True),
        f.is_new("device_id", BY),
        f.since_last("device_id"),
        f.since_first(BY),
        f.distance(BY),
        f.speed("device_id"),
        f.decayed_count("merchant_id", "1d"),
        f.decayed_total("amount", BY, "2d", where=("amount", "<", 50)),
        f.linked(BY, ["device_id"]),
        f.linked_frauds(BY, ["device_id", "card_id"]),
    ],
)


@pytest.fixture(scope="module")
def payments(transactions) -> pd.DataFrame:
    """A thousand payments in a month, with ties, holes and devices that are handed on."""
    rng = np.random.default_rng(3)
    frame = transactions.iloc[:1600].copy()
    frame["event_time"] = frame["event_time"].dt.floor("30min")
    frame = frame.sort_values(["event_time", "transaction_id"], ignore_index=True)
    for column in ("device_id", "auth_result", "country"):
        frame[column] = frame[column].mask(rng.random(len(frame)) < 0.1)
    for column in ("latitude", "longitude"):
        frame[column] = frame[column].mask(rng.random(len(frame)) < 0.1)
    frame["label_time"] = frame["label_time"].mask(rng.random(len(frame)) < 0.2)
    frame["is_fraud"] = frame["is_fraud"].mask(frame["label_time"].isna())
    frame["ip"] = frame["device_id"]
    frame["channel"] = frame["merchant_category"] = frame["country"]
    return frame


def as_mappings(frame: pd.DataFrame) -> list[dict]:
    rows = frame.drop(columns=["is_fraud", "label_time"]).astype("object")
    return rows.where(rows.notna(), None).to_dict("records")


def run(state: OnlineState, frame: pd.DataFrame) -> np.ndarray:
    """Score every payment; each label comes in when it is known, or with its payment when it is known at once."""
    known = frame.loc[frame["label_time"].notna(), ["transaction_id", "is_fraud", "label_time", "event_time"]]
    waiting = known.sort_values("label_time").to_dict("records")
    done: set = set()
    out = []
    for row in as_mappings(frame):
        while waiting and waiting[0]["label_time"] <= row["event_time"] and waiting[0]["transaction_id"] in done:
            label = waiting.pop(0)
            state.label(label["transaction_id"], bool(label["is_fraud"]), label["label_time"])
        out.append(state.score_then_update(row))
        done.add(row["transaction_id"])
    return np.array(out)


def assert_same_bits(found: np.ndarray, table: pd.DataFrame) -> None:
    expected = table.to_numpy()
    assert found.dtype == expected.dtype
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    assert same.all(), [(name, int((~same[:, k]).sum())) for k, name in enumerate(table) if not same[:, k].all()]


@pytest.mark.parametrize("features", [SHORT, CARD_V1, ACCOUNT_V1, HANDBOOK], ids=lambda features: features.name)
@pytest.mark.parametrize("start", [0, 700])
def test_one_at_a_time_gives_the_bits_of_the_table(features, start, payments):
    table = features.compute(payments)
    assert table.notna().mean().min() > 0.05  # no column is empty
    state = features.online(payments.iloc[:start])
    found = run(state, payments.iloc[start:])
    assert_same_bits(found, table.iloc[start:])


def test_a_state_survives_its_bytes(payments):
    table = SHORT.compute(payments)
    state = SHORT.online(payments.iloc[:400])
    first = run(state, payments.iloc[400:900])
    again = OnlineState.from_bytes(state.to_bytes())
    # Labels of the first part are told again, those that were not known yet for the first time.
    for row in payments.iloc[400:900].dropna(subset="label_time").itertuples():
        again.label(row.transaction_id, bool(row.is_fraud), row.label_time)
    assert_same_bits(first, table.iloc[400:900])
    assert_same_bits(run(again, payments.iloc[900:]), table.iloc[900:])


def test_scoring_without_update_changes_nothing(payments):
    state = SHORT.online(payments.iloc[:1000])
    rows = as_mappings(payments.iloc[1000:1100])
    for row in rows[::-1]:
        state.score({**row, "customer_id": "nobody", "device_id": "new"})
    found = np.array([(state.score(row), state.score_then_update(row)) for row in rows])
    np.testing.assert_array_equal(found[:, 0], found[:, 1])
    unlabelled = payments.iloc[:1100].copy()
    unlabelled.loc[1000:, ["is_fraud", "label_time"]] = pd.NA, pd.NaT
    assert_same_bits(found[:, 1], SHORT.compute(unlabelled).iloc[1000:])


def test_memory_is_bounded_by_the_windows():
    features = FeatureSet(
        "bound", [f.mean("amount", BY, "1d"), f.since_first(BY), f.distance(BY), f.decayed_count(BY, "1d")]
    )
    state = features.online()
    moment = pd.Timestamp("2026-01-01", tz="UTC")
    for k in range(4000):
        place = 50.0 if k == 7 else None
        state.score_then_update(
            {
                "transaction_id": k,
                "event_time": moment + pd.Timedelta(hours=k),
                "customer_id": "a",
                "amount": 1.0,
                "latitude": place,
                "longitude": place,
            }
        )
    log = state.logs[0]
    assert log.length[0] <= 2 * (24 + 3)
    assert log.used <= 500
    found = state.score(
        {
            "transaction_id": k + 1,
            "event_time": moment + pd.Timedelta(hours=4000),
            "customer_id": "a",
            "amount": 1.0,
            "latitude": 51.0,
            "longitude": 50.0,
        }
    )
    assert found[1] == pytest.approx(4000 / 24)
    assert found[2] == pytest.approx(111.195, abs=0.01)
    assert found[3] == pytest.approx(sum(2.0 ** -((h + 1) / 24) for h in range(4000)))


def test_many_entities_move_and_close_their_gaps():
    features = FeatureSet("many", [f.count(BY, "30d"), f.total("amount", BY, "30d")])
    rng = np.random.default_rng(5)
    n = 6000
    frame = pd.DataFrame(
        {
            "transaction_id": range(n),
            "event_time": pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(np.arange(n), unit="min"),
            "customer_id": (rng.pareto(0.7, n) * 3).astype(int) % 900,
            "amount": 0.01,
        }
    )
    state = features.online(frame.iloc[:100])
    found = np.array([state.score_then_update(row) for row in frame.iloc[100:].to_dict("records")])
    assert_same_bits(found, features.compute(frame).iloc[100:])
    assert state.logs[0].used <= 4 * n


REFUSED = {
    "missing column": ({"amount": ...}, "a payment must give amount"),
    "order": ({"event_time": pd.Timestamp("2020-01-01", tz="UTC")}, "payments must come in the order"),
    "naive": (
        {"event_time": pd.Timestamp("2030-01-01")},
        "'event_time' of the payment must be a moment with a time zone",
    ),
    "no id": ({"transaction_id": None}, "'transaction_id' of the payment must not be empty"),
    "text": ({"amount": "12"}, "'amount' of the payment must be a finite number or missing; found str"),
    "infinite": ({"amount": math.inf}, "'amount' of the payment must be a finite number"),
    "off the globe": ({"latitude": 91.0}, "'latitude' of the payment must be within -90 and 90 degrees"),
    "kind": ({"auth_result": 3}, "'auth_result' of the payment must be of the kind compared with"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_payment_is_refused_and_not_remembered(name, payments):
    change, sentence = REFUSED[name]
    state = SHORT.online(payments.iloc[:300])
    row = as_mappings(payments.iloc[300:301])[0]
    bad = {key: value for key, value in {**row, **change}.items() if value is not ...}
    with pytest.raises(InputError, match=sentence) as refusal:
        state.score_then_update(bad)
    assert "\n" not in str(refusal.value)
    known = payments.iloc[:301].copy()
    known.loc[300, ["is_fraud", "label_time"]] = pd.NA, pd.NaT
    assert_same_bits(np.array([state.score_then_update(row)]), SHORT.compute(known).iloc[300:])


def test_damaged_bytes_are_refused(payments):
    data = HANDBOOK.online(payments.iloc[:50]).to_bytes()
    for broken in (
        data[:-20],
        b"",
        data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 255]) + data[len(data) // 2 + 1 :],
    ):
        with pytest.raises(InputError, match="online state: must be"):
            OnlineState.from_bytes(broken)


def test_labels_are_checked_and_old_ones_let_go(payments):
    state = HANDBOOK.online(payments.iloc[:50])
    assert state.label(0, True, payments["event_time"].iloc[60])
    assert not state.label("unknown", True, payments["event_time"].iloc[60])
    with pytest.raises(InputError, match="is_fraud must be true or false"):
        state.label(0, "yes", payments["event_time"].iloc[60])
