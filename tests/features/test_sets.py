"""The named sets: their columns for good, the book's inputs against the book's recipe, the default set at work."""

from __future__ import annotations

import os
import re
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from fraudlab.features.sets import CARD_V1, HANDBOOK, HANDBOOK_V2, NAMED_SETS, named_set
from fraudlab.schema import BY_NAME, InputError

PUBLISHED = Path(
    os.environ.get("FRAUDLAB_HANDBOOK", Path(__file__).parents[3] / "shared" / "data" / "handbook.parquet")
)

HANDBOOK_COLUMNS = (
    "amount",
    "weekend",
    "night",
    "customer_id__count__1d__with_current",
    "customer_id__count__7d__with_current",
    "customer_id__count__30d__with_current",
    "customer_id__amount__mean__1d__with_current",
    "customer_id__amount__mean__7d__with_current",
    "customer_id__amount__mean__30d__with_current",
    "merchant_id__count__1d__delay7d",
    "merchant_id__count__7d__delay7d",
    "merchant_id__count__30d__delay7d",
    "merchant_id__risk__1d__delay7d__empty0",
    "merchant_id__risk__7d__delay7d__empty0",
    "merchant_id__risk__30d__delay7d__empty0",
)


def test_the_columns_and_digests_of_the_named_sets_stay():
    # A model asks for its columns by name and for its set by digest: a change here is a new set with a new name.
    assert HANDBOOK.columns == HANDBOOK_COLUMNS
    assert {name: features.digest[:16] for name, features in NAMED_SETS.items()} == {
        "handbook": "4f6cee115771e2d7",
        "handbook-v2": "efa9777a378bf617",
        "card-v1": "46761f51915831c3",
        "account-v1": "5ea9f3d8f86f2ca8",
        "payment-v1": "7f9c2d457bb16373",
        "amount-v1": "4750423afe82f939",
    }


def test_every_named_set_describes_every_column():
    for features in NAMED_SETS.values():
        table = features.describe()
        assert tuple(table["column"]) == features.columns
        assert set(table["kind"]) <= {"count", "amount", "ratio", "days", "speed", "share", "part", "flag", "number"}
        assert table["meaning"].str.fullmatch(r"[A-Z0-9].*\.").all()
        assert not table["meaning"].str.contains("_").any()
        flag = table["kind"] == "flag"
        assert (table["template"].str.count(re.escape("{value}")) == (~flag)).all()
        assert table["meaning"].is_unique
        assert table["template"].is_unique


def test_the_default_set_speaks_plainly():
    words = CARD_V1.describe().set_index("column")
    assert {name: words.loc[name, "template"] for name in words.index if "ratio" in name or "is_new" in name} == {
        "customer_id__amount__ratio__30d": "{value} times this customer's usual amount over 30 days"
        "[, which is {customer_id__amount__mean__30d}]",
        "customer_id__amount__max_ratio__30d": "{value} times this customer's largest amount within 30 days",
        "merchant_id__amount__ratio__30d": "{value} times this merchant's usual amount over 30 days",
        "customer_id__device_id__is_new": "first payment by this customer on this device"
        "[; {device_id__customer_id__distinct__30d__with_current-1} other customers used it within 30 days]",
        "customer_id__merchant_id__is_new": "first payment by this customer at this merchant",
        "customer_id__country__is_new": "first payment by this customer in this country",
    }
    assert words.loc["merchant_id__risk__28d__delay14d", "meaning"] == (
        "Share of fraud among the payments at the same merchant in the 28 days that ended 14 days ago whose outcome is "
        "known."
    )


def test_the_sets_need_canonical_columns_only_and_nothing_found_out_afterwards():
    for features in NAMED_SETS.values():
        assert set(features.requires) <= set(BY_NAME)
        assert "fraud_scenario" not in features.requires
    assert len(CARD_V1.columns) >= 60


def everything_canonical(transactions: pd.DataFrame) -> pd.DataFrame:
    return transactions.assign(
        ip=transactions["device_id"].where(transactions.index % 5 > 0),
        channel=transactions["auth_method"],
        merchant_category=transactions["merchant_id"].str[:3],
    )


def test_the_default_set_runs_on_canonical_transactions(transactions):
    frame = everything_canonical(transactions)
    found = CARD_V1.compute(frame)
    assert found.dtypes.eq("float32").all()
    assert tuple(found.columns) == CARD_V1.columns
    # Only what the row lacks, or has no history for, is missing.
    first = ~frame["customer_id"].duplicated()
    assert (found["customer_id__since_last"].isna() == first).all()
    assert found["ip__count__1h"].isna().sum() == (transactions.index % 5 == 0).sum()
    assert (found["merchant_id__frauds__28d"] >= found["merchant_id__frauds__7d"]).all()
    assert found["merchant_id__risk__28d__delay14d"].between(0, 1).sum() > 1000
    assert (found["customer_id__merchant_id__distinct__7d"] <= found["customer_id__count__7d"]).all()


def test_a_missing_column_is_named_and_never_skipped(transactions):
    frame = everything_canonical(transactions).drop(columns=["country", "ip"])
    with pytest.raises(InputError) as refusal:
        CARD_V1.compute(frame.rename(columns={"device_id": "devise_id"}))
    lines = str(refusal.value).splitlines()
    assert lines[0].startswith("features card-v1: column 'country' is missing")
    assert lines[1] == "features card-v1: column 'device_id' is missing; did you mean 'devise_id'?"
    assert lines[2].startswith("features card-v1: column 'ip' is missing")
    assert len(lines) == 3


def test_an_unknown_set_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match="unknown feature set 'handbok'; did you mean 'handbook'"):
        named_set("handbok")


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    if not PUBLISHED.exists():
        pytest.skip("the published transactions are absent (set FRAUDLAB_HANDBOOK to their path)")
    raw = duckdb.read_parquet(str(PUBLISHED)).df()
    event_time = raw["TX_DATETIME"].dt.tz_localize("UTC").astype("datetime64[us, UTC]")
    return pd.DataFrame(
        {
            "transaction_id": raw["TRANSACTION_ID"],
            "event_time": event_time,
            "customer_id": raw["CUSTOMER_ID"],
            "merchant_id": raw["TERMINAL_ID"],
            "amount": raw["TX_AMOUNT"],
            "is_fraud": raw["TX_FRAUD"].astype("boolean"),
            "label_time": event_time + pd.Timedelta(days=7),
        }
    )


def test_the_handbook_set_equals_the_books_recipe_on_the_published_transactions(published):
    assert len(published) == 1_754_155
    found = HANDBOOK.compute(published)

    naive = published.assign(event_time=published["event_time"].dt.tz_localize(None))
    np.testing.assert_array_equal(found["weekend"], naive["event_time"].dt.day_of_week >= 5)
    np.testing.assert_array_equal(found["night"], naive["event_time"].dt.hour <= 6)
    # The published recipe, on the first hundred customers and terminals: rolling counts and means per customer; per
    # terminal the window with the delay minus the delay alone.
    for _, rows in naive[naive["customer_id"] < 100].groupby("customer_id"):
        rows = rows.sort_values("transaction_id")
        amount = rows.set_index("event_time")["amount"]
        for days in (1, 7, 30):
            rolled = amount.rolling(f"{days}D")
            of = found.loc[rows.index]
            np.testing.assert_array_equal(of[f"customer_id__count__{days}d__with_current"], rolled.count())
            np.testing.assert_allclose(
                of[f"customer_id__amount__mean__{days}d__with_current"], rolled.mean(), rtol=1e-12
            )
    for _, rows in naive[naive["merchant_id"] < 100].groupby("merchant_id"):
        rows = rows.sort_values("transaction_id")
        fraud = rows.set_index("event_time")["is_fraud"].astype(float)
        for days in (1, 7, 30):
            count = fraud.rolling(f"{7 + days}D").count() - fraud.rolling("7D").count()
            bad = (fraud.rolling(f"{7 + days}D").sum() - fraud.rolling("7D").sum()).round()
            of = found.loc[rows.index]
            np.testing.assert_array_equal(of[f"merchant_id__count__{days}d__delay7d"], count)
            np.testing.assert_allclose(of[f"merchant_id__risk__{days}d__delay7d__empty0"], (bad / count).fillna(0))
    assert found["merchant_id__risk__30d__delay7d__empty0"].max() == 1


def test_the_handbook_set_equals_sql_on_the_published_transactions(published):
    some = published[published["merchant_id"] % 50 == 0].sort_values("transaction_id")
    found = HANDBOOK.compute(some)
    table = some.assign(event_time=some["event_time"].dt.tz_localize(None))  # noqa: F841 (read by name in the query)
    expected = duckdb.sql(
        """SELECT transaction_id, count(*) OVER w AS n,
                  coalesce(sum(is_fraud::INT) OVER w / nullif(count(*) OVER w, 0), 0) AS risk
           FROM "table" WINDOW w AS (PARTITION BY merchant_id ORDER BY event_time RANGE BETWEEN
               INTERVAL '3196799999999 MICROSECONDS' PRECEDING AND INTERVAL '7 DAYS' PRECEDING)
           ORDER BY transaction_id"""
    ).df()
    np.testing.assert_array_equal(found["merchant_id__count__30d__delay7d"], expected["n"])
    np.testing.assert_allclose(found["merchant_id__risk__30d__delay7d__empty0"], expected["risk"], rtol=1e-12)


def test_the_second_handbook_set_is_what_a_loop_over_the_published_rows_finds(published):
    some = published[published["customer_id"] < 400].reset_index(drop=True)
    found = HANDBOOK_V2.compute(some)
    pd.testing.assert_frame_equal(found[list(HANDBOOK_COLUMNS)], HANDBOOK.compute(some).astype("float32"))
    days = some["event_time"].astype("int64").to_numpy() / 86_400e6
    amount, fraud = some["amount"].to_numpy(), some["is_fraud"].to_numpy(dtype=bool)
    of = {by: some[by].to_numpy() for by in ("customer_id", "merchant_id")}

    def before(i: int, by: str, width: float, delay: float = 0) -> np.ndarray:
        """Return the earlier rows of the window (t - delay - width, t - delay] of row i, in order."""
        first, last = np.searchsorted(days, [days[i] - delay - width, days[i] - delay], side="right")
        rows = np.arange(first, min(last, i))
        return rows[of[by][rows] == of[by][i]]

    def usual(i: int) -> float:
        past = before(i, "customer_id", 60)
        return amount[i] / amount[past].mean() if len(past) else np.nan

    rng = np.random.default_rng(0)
    picked = np.concatenate([rng.choice(np.flatnonzero(fraud), 60), rng.choice(len(some), 60)])
    for i in picked:
        # Every label is known after seven days, so what is known of a window lies seven days back or more.
        known = {width: before(i, "merchant_id", width - 7, 7) for width in (14, 21, 28, 35, 90)}
        expected = {f"merchant_id__risk__{width}d": _mean(fraud[known[width]]) for width in (14, 21, 28, 35)}
        expected |= {
            f"merchant_id__risk__90d__last{last}": _mean(fraud[known[90][-last:]]) for last in (1, 2, 3, 5, 10)
        }
        ages = {width: days[i] - days[known[width][fraud[known[width]]]] for width in (28, 35)}
        expected["merchant_id__since_fraud__28d"] = min(ages[28], default=np.nan)
        expected |= {
            f"merchant_id__since_first_fraud__{width}d": max(ages[width], default=np.nan) for width in (28, 35)
        }
        old = before(i, "merchant_id", 90, 7)
        ratios = [each for j in old[-6:] if (each := usual(j)) == each]
        expected["merchant_id__amount__minimum__90d__delay7d__last1"] = min(amount[old[-1:]], default=np.nan)
        for last in (1, 2):
            name = f"merchant_id__amount_ratio__minimum__90d__delay7d__last{last}"
            expected[name] = min(ratios[-last:], default=np.nan)
        expected["merchant_id__amount_ratio__mean__90d__delay7d__last3"] = _mean(ratios[-3:])
        past = amount[before(i, "customer_id", 60)]
        week = amount[before(i, "customer_id", 7)]
        spree = {width: [usual(j) for j in before(i, "customer_id", width)] for width in (7, 14)}
        expected["customer_id__amount__mean__60d"] = _mean(past)
        expected["amount_ratio"] = usual(i)
        if len(past) > 1:
            expected["customer_id__amount__zscore__60d"] = (amount[i] - past.mean()) / past.std(ddof=1)
        expected["customer_id__amount__max_ratio__7d"] = amount[i] / week.max() if len(week) else np.nan
        for width in (7, 14):
            name = f"customer_id__count__{width}d__where_amount_ratio_gt_3"
            expected[name] = sum(each > 3 for each in spree[width])
        told = [each for each in spree[14] if each == each]
        expected["customer_id__amount_ratio__maximum__14d"] = max(told, default=np.nan)
        ages = [days[i] - days[j] for j in before(i, "customer_id", 120) if usual(j) > 3]
        expected["customer_id__decayed_count__half3d__where_amount_ratio_gt_3"] = sum(0.5 ** (age / 3) for age in ages)
        np.testing.assert_allclose(found.loc[i, list(expected)], list(expected.values()), rtol=2e-5, atol=1e-6)
    assert len(expected) >= len(HANDBOOK_V2.columns) - len(HANDBOOK_COLUMNS) - 1


def _mean(values) -> float:
    return float(np.mean(values)) if len(values) else np.nan
