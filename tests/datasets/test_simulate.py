"""The simulator keeps its promises: identities, determinism, typologies with their signs, late and noisy labels."""

from __future__ import annotations

import math
import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fraudlab.awareness.pages import texts
from fraudlab.config import SimulateConfig
from fraudlab.datasets import typologies
from fraudlab.datasets.simulate import simulate
from fraudlab.schema import InputError

SMALL = SimulateConfig(customers=200, merchants=80, days=60)
COLUMNS = [
    "payment_id",
    "paid_at",
    "customer_ref",
    "customer_name",
    "email",
    "phone",
    "street",
    "postcode",
    "birth_date",
    "card_number",
    "merchant_ref",
    "merchant_category",
    "channel",
    "country",
    "currency",
    "latitude",
    "longitude",
    "device_fingerprint",
    "ip_address",
    "auth_method",
    "auth_result",
    "amount",
    "memo",
    "loyalty_tier",
    "fraud_scenario",
    "reported_fraud",
    "reported_at",
]
IDENTITY = ["customer_name", "email", "phone", "street"]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return simulate(SimulateConfig(), seed=7)


@pytest.fixture(scope="module")
def genuine(table) -> pd.DataFrame:
    return table[table["fraud_scenario"] == ""]


def frauds(table: pd.DataFrame, name: str) -> pd.DataFrame:
    return table[table["fraud_scenario"] == name]


def digest(frame: pd.DataFrame) -> int:
    return int(pd.util.hash_pandas_object(frame, index=True).to_numpy().sum())


def passes_luhn(number: str) -> bool:
    """The textbook check: double every second digit from the right, add the digits, divide by ten."""
    doubled = [int(d) for d in number[-2::-2]]
    plain = [int(d) for d in number[-1::-2]]
    return (sum(plain) + sum(int(d) for x in doubled for d in str(2 * x))) % 10 == 0


def haversine(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    a, b, c, d = map(math.radians, (lat1, lon1, lat2, lon2))
    cosine = math.sin(a) * math.sin(c) + math.cos(a) * math.cos(c) * math.cos(d - b)
    return 6371 * math.acos(min(1.0, cosine))


def speeds(payments: pd.DataFrame) -> pd.Series:
    """Implied km/h since the same customer's previous payment, where that was more than 50 km away."""
    by_customer = payments.groupby("customer_ref")
    before = by_customer[["latitude", "longitude", "paid_at"]].shift()
    km = np.array(
        [
            haversine(*places) if np.isfinite(places[0]) else 0.0
            for places in zip(before["latitude"], before["longitude"], payments["latitude"], payments["longitude"])
        ]
    )
    hours = (payments["paid_at"] - before["paid_at"]).dt.total_seconds() / 3600
    return pd.Series(np.where(km > 50, km / np.maximum(hours, 1 / 3600), 0.0), index=payments.index)


def test_columns_and_types_are_those_of_the_contract(table):
    assert table.columns.tolist() == COLUMNS
    times, numbers = {"paid_at", "reported_at"}, {"amount", "latitude", "longitude"}
    for name in COLUMNS:
        expected = "datetime64[us, UTC]" if name in times else "float64" if name in numbers else "str"
        assert str(table[name].dtype) == ("int64" if name == "reported_fraud" else expected), name


def test_only_counter_payments_lack_device_and_address(table):
    missing = table.isna().sum()
    assert missing[missing > 0].index.tolist() == ["device_fingerprint", "ip_address"]
    counter = table["channel"] == "pos"
    assert table["device_fingerprint"].isna().equals(counter)
    assert table["ip_address"].isna().equals(counter)


def test_rows_are_in_time_order_within_the_period(table):
    assert table["paid_at"].is_monotonic_increasing
    assert table["payment_id"].is_unique
    assert table["payment_id"].is_monotonic_increasing
    assert table["paid_at"].iloc[0] >= pd.Timestamp("2026-01-01", tz="UTC")
    assert table["paid_at"].iloc[-1] < pd.Timestamp("2026-01-01", tz="UTC") + pd.Timedelta(days=180)
    assert (table["reported_at"] > table["paid_at"]).all()
    amount = table["amount"].to_numpy()
    assert amount.min() >= 0.5
    assert np.array_equal(amount, np.round(amount, 2))


def test_card_numbers_pass_luhn_and_belong_to_one_customer(table):
    cards = table[["customer_ref", "card_number"]].drop_duplicates()
    assert cards["card_number"].is_unique
    assert set(cards.groupby("customer_ref").size()) == {1, 2}
    assert all(re.fullmatch(r"\d{16}", number) and passes_luhn(number) for number in cards["card_number"])
    assert passes_luhn("4111111111111111")
    assert not passes_luhn("4111111111111112")


def test_a_customer_is_one_person_with_an_own_address(table):
    people = table[["customer_ref", *IDENTITY, "postcode", "birth_date", "loyalty_tier"]].drop_duplicates()
    assert people["customer_ref"].is_unique
    assert people["email"].is_unique
    assert people["email"].str.fullmatch(r"[a-z0-9.\-]+@(mail|post|inbox)\.example\.(com|net|org)").all()
    assert not people[IDENTITY].eq("").any(axis=None)
    age = (pd.Timestamp("2026-01-01") - pd.to_datetime(people["birth_date"])).dt.days / 365.25
    assert age.between(18, 93).all()


def test_same_config_and_seed_give_the_same_bits():
    first, second = simulate(SMALL, seed=11), simulate(SMALL, seed=11)
    assert digest(first) == digest(second)
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert digest(first) != digest(simulate(SMALL, seed=12))


def test_identities_can_be_left_out_without_changing_the_rest():
    full, bare = simulate(SMALL, seed=11), simulate(SMALL, seed=11, identities=False)
    pd.testing.assert_frame_equal(full.drop(columns=[*IDENTITY, "memo"]), bare.drop(columns="memo"))
    assert not bare["memo"].str.contains("@").any()


def test_another_typology_leaves_the_others_as_they_were(monkeypatch):
    full = simulate(SMALL, seed=11)
    monkeypatch.delitem(typologies.TYPOLOGIES, "new_account")
    fewer = simulate(SMALL, seed=11)
    rest = full[full["fraud_scenario"] != "new_account"].reset_index(drop=True)
    assert len(rest) < len(full)
    pd.testing.assert_frame_equal(rest.drop(columns="payment_id"), fewer.drop(columns="payment_id"))


def test_default_size_and_fraud_rate(table):
    assert 250_000 <= len(table) <= 350_000
    assert 0.005 <= (table["fraud_scenario"] != "").mean() <= 0.01
    assert 0.005 <= table["reported_fraud"].mean() <= 0.01
    counts = table["fraud_scenario"].value_counts()
    assert set(counts.index) == {"", *typologies.TYPOLOGIES}
    assert counts.min() >= 100


@pytest.mark.parametrize("merchants", [20, 800])
def test_the_smallest_world_has_most_typologies(merchants):
    for seed in range(5):
        tiny = simulate(SimulateConfig(customers=50, merchants=merchants, days=30), seed, identities=False)
        found = set(tiny["fraud_scenario"]) - {""}
        assert len(found) >= 6, (seed, found)
        assert 500 < len(tiny) < 2500


def test_large_amounts_lie_over_the_threshold(table, genuine):
    large = frauds(table, "large_amount")
    assert large["amount"].min() > typologies.THRESHOLD
    usual = genuine.groupby("merchant_category")["amount"].median()
    assert (large["amount"] / large["merchant_category"].map(usual)).median() > 5


def test_a_compromised_merchant_misuses_every_payment_for_four_weeks(table):
    bad = frauds(table, "compromised_merchant")
    spans = bad.groupby("merchant_ref")["paid_at"].agg(["min", "max"])
    assert len(spans) >= 5
    assert ((spans["max"] - spans["min"]) < pd.Timedelta(days=28)).all()
    at = table[table["merchant_ref"].isin(spans.index)].join(spans, on="merchant_ref")
    inside = at[at["paid_at"].between(at["min"], at["max"])]
    assert (inside["fraud_scenario"] == "compromised_merchant").mean() > 0.95
    assert (inside["fraud_scenario"] != "").all()


def test_a_compromised_card_pays_five_times_as_much_a_third_of_the_time(table, genuine):
    bad = frauds(table, "compromised_card")
    spans = bad.groupby("customer_ref")["paid_at"].agg(["min", "max"])
    assert ((spans["max"] - spans["min"]) < pd.Timedelta(days=14)).all()
    shops = genuine["merchant_ref"].isin(bad["merchant_ref"])
    assert 3.5 < bad["amount"].median() / genuine.loc[shops, "amount"].median() < 7
    # Only the inner part of each window is seen, from the first to the last fraud: leave those two out.
    several = spans[spans["max"] > spans["min"]]
    of_victims = table.join(several, on="customer_ref", how="inner")
    inner = of_victims[(of_victims["paid_at"] > of_victims["min"]) & (of_victims["paid_at"] < of_victims["max"])]
    assert 0.25 < (inner["fraud_scenario"] == "compromised_card").mean() < 0.42


def test_card_testing_is_a_burst_of_tiny_payments_from_an_unknown_device(table, genuine):
    bad = frauds(table, "card_testing")
    assert (bad["channel"] == "online").all()
    assert not bad["device_fingerprint"].isin(genuine["device_fingerprint"]).any()
    tiny = bad[bad["amount"] < 3]
    bursts = tiny.groupby(["device_fingerprint", "card_number"])["paid_at"].agg(["count", "min", "max"])
    assert (bursts["count"] >= 5).mean() > 0.95
    assert ((bursts["max"] - bursts["min"]) < pd.Timedelta(minutes=20)).mean() > 0.95
    assert (bad.groupby("card_number")["amount"].max() > 20).mean() > 0.4
    assert bad.groupby("device_fingerprint")["card_number"].nunique().max() == 3
    # Honest customers, too, make small payments in quick succession.
    small = genuine[(genuine["amount"] < 10) & (genuine["channel"] == "online")]
    gap = small.groupby("customer_ref")["paid_at"].diff()
    assert (gap < pd.Timedelta(minutes=10)).sum() > 100


def test_a_takeover_brings_a_new_device_failures_and_high_amounts(table, genuine):
    bad = frauds(table, "account_takeover")
    known = set(zip(genuine["customer_ref"], genuine["device_fingerprint"]))
    assert not any(pair in known for pair in zip(bad["customer_ref"], bad["device_fingerprint"]))
    addresses = set(zip(genuine["customer_ref"], genuine["ip_address"]))
    assert np.mean([pair in addresses for pair in zip(bad["customer_ref"], bad["ip_address"])]) < 0.02
    assert (bad["auth_result"] == "failed").mean() > 0.2
    failed_first = bad.groupby("customer_ref")["auth_result"].first() == "failed"
    assert failed_first.mean() > 0.6
    usual = genuine.groupby("customer_ref")["amount"].median()
    assert (bad["amount"] / bad["customer_ref"].map(usual)).median() > 4


def test_impossible_travel_is_faster_than_any_aircraft(table):
    bad = frauds(table, "impossible_travel")
    assert (bad["channel"] == "pos").all()
    speed = speeds(table[table["customer_ref"].isin(bad["customer_ref"])])
    before = table.groupby("customer_ref")["fraud_scenario"].shift()
    first = bad[before[bad.index] != "impossible_travel"]
    assert len(first) > 60
    assert (speed[first.index] > 900).mean() > 0.97


def test_honest_customers_rarely_break_the_speed_limit(genuine):
    assert 0 < (speeds(genuine) > 900).mean() < 0.003
    counter = genuine[genuine["channel"] == "pos"]
    assert (speeds(counter) > 900).sum() == 0


def test_new_account_fraud_begins_fresh_and_shares_devices(table, genuine):
    bad = frauds(table, "new_account")
    assert not bad["customer_ref"].isin(genuine["customer_ref"]).any()
    per_device = bad.groupby("device_fingerprint")["customer_ref"].nunique()
    assert (per_device == 3).sum() >= 3
    rank = bad.groupby("customer_ref").cumcount()
    assert bad.loc[rank >= 6, "amount"].median() > 2 * bad.loc[rank < 2, "amount"].median()
    # A new account or a shared device is not the label: honest ones have both.
    first = genuine.groupby("customer_ref")["paid_at"].min()
    assert (first > pd.Timestamp("2026-02-01", tz="UTC")).sum() > 5 * bad["customer_ref"].nunique()
    shared = genuine.groupby("device_fingerprint")["customer_ref"].nunique()
    assert (shared > 1).sum() > 10 * (per_device > 1).sum()
    addresses = genuine.groupby("ip_address")["customer_ref"].nunique()
    assert (addresses > 1).sum() > 500


def test_honest_authentication_fails_at_times(genuine):
    failed = genuine["auth_result"] == "failed"
    assert 0.003 < failed.mean() < 0.03
    assert ((genuine["auth_method"] == "none") == (genuine["auth_result"] == "none")).all()
    assert set(genuine.loc[genuine["channel"] == "pos", "auth_method"]) == {"none", "pin"}
    assert set(genuine.loc[genuine["channel"] == "online", "auth_method"]) == {"none", "password", "totp"}


def test_customers_shop_near_home_with_a_weekly_rhythm(genuine):
    counter = genuine[genuine["channel"] == "pos"]
    places = counter.groupby("customer_ref")["country"].agg(lambda seen: seen.value_counts(normalize=True).iloc[0])
    assert places.mean() > 0.85
    assert places.min() < 0.8
    weekday = genuine["paid_at"].dt.day_of_week.value_counts(normalize=True)
    assert weekday[5] > weekday[0] > weekday[6]
    night = genuine["paid_at"].dt.hour.between(1, 4).groupby(genuine["channel"]).mean()
    assert night["pos"] == 0
    assert 0.02 < night["online"] < 0.15


def test_frauds_are_reported_late_and_genuine_payments_after_two_weeks(table):
    delay = (table["reported_at"] - table["paid_at"]).dt.total_seconds() / 86_400
    real = table["fraud_scenario"] != ""
    reported = delay[real & (table["reported_fraud"] == 1)]
    assert 3.5 < reported.median() < 6.5
    assert 18 < reported.quantile(0.95) < 34
    assert reported.max() <= 60
    assert (delay[table["reported_fraud"] == 0] == 14).all()
    by_kind = delay[real].groupby(table["fraud_scenario"]).median()
    assert by_kind.idxmin() == "card_testing"
    assert by_kind["card_testing"] < 3
    assert (table["reported_at"] > table["paid_at"].iloc[-1])[real].any()


def test_label_noise_hides_frauds_and_friendly_fraud_adds_some():
    noisy = simulate(SimulateConfig(label_noise=0.08), seed=3, identities=False)
    real = noisy["fraud_scenario"] != ""
    hidden = 1 - noisy.loc[real, "reported_fraud"].mean()
    assert abs(hidden - 0.08) < 4 * math.sqrt(0.08 * 0.92 / real.sum())
    friendly = noisy.loc[~real, "reported_fraud"].sum()
    assert 1 <= friendly <= 40
    clean = simulate(SMALL.model_copy(update={"label_noise": 0.0}), seed=3, identities=False)
    assert (clean.loc[clean["fraud_scenario"] != "", "reported_fraud"] == 1).all()


def test_about_one_memo_in_a_hundred_holds_the_customers_own_contact(table):
    with_email = table["memo"].str.contains("@", regex=False)
    with_phone = table["memo"].str.startswith("please call ")
    assert 0.008 < (with_email | with_phone).mean() < 0.012
    rows = table[with_email]
    assert (rows["memo"] == "invoice to " + rows["email"]).all()
    rows = table[with_phone]
    assert (rows["memo"] == "please call " + rows["phone"]).all()


@pytest.mark.parametrize("seed", [-1, 1.5, None])
def test_a_seed_that_is_no_whole_number_is_refused(seed):
    with pytest.raises(InputError, match="seed: must be a whole number >= 0"):
        simulate(SMALL, seed)


@pytest.mark.slow
def test_a_million_payments_take_well_under_thirty_seconds():
    began = time.process_time()
    large = simulate(SimulateConfig(customers=8000, merchants=2000, days=180), seed=5)
    seconds = time.process_time() - began
    assert len(large) > 850_000
    assert seconds * 1_000_000 / len(large) < 20


def test_the_guide_describes_every_typology_with_its_measured_share(table):
    text = (Path(__file__).parents[2] / "docs" / "typologies.md").read_text(encoding="utf-8")
    counts = table["fraud_scenario"].value_counts()
    for name in typologies.TYPOLOGIES:
        assert f"### {texts()[name]['en']['title']}" in text
        row = re.search(rf"^\| `{name}` \| ([\d,]+) \|", text, flags=re.MULTILINE)
        assert row, name
        stated = int(row[1].replace(",", ""))
        assert abs(stated - counts[name]) < 0.25 * counts[name], name


def test_kinds_of_fraud_can_begin_later() -> None:
    always = simulate(SMALL, seed=3, identities=False)
    begins = SMALL.model_copy(update={"onset": {"large_amount": 30, "account_takeover": 45}})
    later = simulate(begins, seed=3, identities=False)
    day = (later["paid_at"] - pd.Timestamp(SMALL.start, tz="UTC")).dt.days
    for name, first in begins.onset.items():
        mine = later["fraud_scenario"] == name
        assert day[mine].min() >= first
        before = always[always["fraud_scenario"] == name]
        assert mine.sum() < len(before)
    # What a kind that begins later took over before is free again; other kinds have at least what they had.
    had, have = (each["fraud_scenario"].value_counts() for each in (always, later))
    assert all(have[name] >= had[name] for name in had.index if name and name not in begins.onset)
    early = always["paid_at"] < pd.Timestamp(SMALL.start, tz="UTC") + pd.Timedelta(days=30)
    assert ((always["fraud_scenario"] == "large_amount") & early).any()


def test_an_unknown_kind_of_fraud_cannot_begin() -> None:
    wrong = SMALL.model_copy(update={"onset": {"card_test": 3}})
    with pytest.raises(InputError, match=r"^dataset.simulate.onset: unknown kind of fraud 'card_test'; did you mean"):
        simulate(wrong, seed=1, identities=False)
