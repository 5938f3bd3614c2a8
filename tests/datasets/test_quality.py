"""How good a load is and how far it singles people out, against plain counting; small numbers stay hidden."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fraudlab.datasets.quality import ANONYMITY, anonymity, data_quality, personal_columns
from fraudlab.privacy.anonymity import risk_table
from fraudlab.privacy.disclosure import protected
from fraudlab.schema import InputError

COLUMNS = [
    {"name": "age_band", "treatment": "generalise", "type": "text"},
    {"name": "country", "treatment": "keep", "type": "text"},
    {"name": "loyalty", "treatment": "keep", "type": "text"},
    {"name": "since", "treatment": "keep", "type": "time"},
    {"name": "amount", "treatment": "keep", "type": "number"},
    {"name": "customer_id", "treatment": "pseudonymise", "type": "id"},
]
FACTS = {"columns": COLUMNS, "purpose_columns": ["customer_id", "amount", "age_band", "country"]}


@pytest.fixture
def payments() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    rows = 2_000
    return pd.DataFrame(
        {
            "event_time": pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(np.arange(rows), unit="min"),
            "customer_id": [f"c{n}" for n in rng.integers(0, 200, rows)],
            "amount": rng.lognormal(3, 1, rows),
            "age_band": np.array(["20-29", "30-39", "40+"], dtype=object)[rng.integers(0, 3, rows)],
            "country": np.where(rng.random(rows) < 0.3, None, "DE"),
            "is_fraud": pd.array(rng.random(rows) < 0.05, dtype="boolean"),
            "label_time": pd.Timestamp("2026-02-01", tz="UTC"),
        }
    )


def test_each_column_is_counted(payments):
    found = data_quality(payments).set_index("column")
    assert list(found.index) == ["event_time", "customer_id", "amount", "age_band", "country", "(payments)"]
    assert found.loc["country", "missing"] == pytest.approx(payments["country"].isna().mean())
    assert found.loc["country", "note"] == "one value only: it tells nothing"
    assert found.loc["customer_id", "distinct"] == payments["customer_id"].nunique()
    assert found.loc["amount", ["low", "median", "high"]].tolist() == pytest.approx(
        payments["amount"].quantile([0.01, 0.5, 0.99]).tolist()
    )
    assert found.loc["age_band", ["low", "median", "high"]].isna().all()
    assert found.loc["(payments)", "note"].startswith("no payment repeats an earlier one")


@pytest.mark.parametrize(("lacking", "shown"), [(0, 0.0), (1, None), (9, None), (10, 10 / 2_000), (1_995, None)])
def test_few_missing_or_few_present_values_are_not_counted_aloud(payments, lacking, shown):
    payments.loc[payments.index[:lacking], "age_band"] = None
    row = data_quality(payments).set_index("column").loc["age_band"]
    if shown is None:
        assert pd.isna(row["missing"])
        assert row["note"].startswith("not shown: fewer than 10 payments lack it, or have it")
    else:
        assert row["missing"] == pytest.approx(shown)


def test_quantiles_need_ten_payments_beyond_them(payments):
    few = data_quality(payments.head(999)).set_index("column").loc["amount"]
    assert few[["low", "high"]].isna().all()
    assert few["median"] == pytest.approx(payments["amount"].head(999).median())
    assert data_quality(payments.head(1_000)).set_index("column").loc["amount", "low"] > 0


@pytest.mark.parametrize(
    ("copies", "said"), [(0, "no payment repeats"), (4, "fewer than 10 payments"), (30, "30 payments")]
)
def test_repeats_are_payments_equal_in_customer_moment_amount_and_merchant(payments, copies, said):
    table = pd.concat([payments, payments.head(copies)], ignore_index=True)
    assert data_quality(table)["note"].iloc[-1].startswith(said)


def test_a_table_that_is_no_load_is_refused(payments):
    with pytest.raises(InputError, match="amount"):
        data_quality(payments.drop(columns="amount"))


def test_personal_columns_are_the_coarse_ones_and_those_of_the_contract():
    allowed = ["customer_id", "amount", "age_band", "country", "loyalty", "since"]
    assert personal_columns(COLUMNS, allowed) == ["age_band", "country", "loyalty"]
    assert personal_columns(COLUMNS, ["amount"]) == []


def test_anonymity_is_that_of_the_risk_table(payments):
    found = anonymity(payments, FACTS)
    assert list(found.columns) == list(ANONYMITY)
    assert found["columns"].unique().tolist() == ["age_band country"]
    for row, unit in zip(found.itertuples(), ("customer_id", None)):
        risk = risk_table(payments, ["age_band", "country"], sensitive=["is_fraud"], unit=unit, k=10)
        assert (row.units, row.k_anonymity) == (risk.units, risk.k_anonymity)
        assert row.share_alone == pytest.approx(risk.alone / risk.units)
        assert row.share_below == pytest.approx(risk.share_below)
        assert row.t_closeness == pytest.approx(risk.sensitive["t_closeness"].item())


def test_anonymity_without_coarse_columns_or_payments_has_no_rows(payments):
    assert anonymity(payments, FACTS | {"purpose_columns": ["amount"]}).empty
    assert anonymity(payments.iloc[:0], FACTS).empty
    unlabelled = anonymity(payments.drop(columns="is_fraud"), FACTS)
    assert unlabelled["distinct_l"].isna().all()


def test_shares_that_stand_for_few_people_are_hidden_when_saved():
    table = pd.DataFrame({"unit": ["customers", "payments"], "units": [200, 2_000], "share_alone": [0.02, 0.005],
                          "share_below": [0.045, 0.5]})  # fmt: skip
    shown = protected("anonymity", table)
    assert shown["share_alone"].isna().tolist() == [True, False]
    assert shown["share_below"].isna().tolist() == [True, False]
    pd.testing.assert_frame_equal(protected("anonymity", shown), shown)
