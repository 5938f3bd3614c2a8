"""The tables and facts about the data that pictures and report are made from, checked against plain counting."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fraudlab import plots
from fraudlab.config import DatasetConfig, RunConfig, SimulateConfig, Workspace
from fraudlab.datasets import daily_volume, dataset_facts, ingest, label_maturity, load_transactions

CONTRACT = Path(__file__).resolve().parents[2] / "configs" / "contracts" / "demo.toml"
TRAINING = "fraud-model-training"
DAY = pd.Timedelta(days=1)


@pytest.fixture
def payments() -> pd.DataFrame:
    """90 days of payments: frauds reported after 1 to 40 days, genuine ones known after 14, seen on day 90."""
    rng = np.random.default_rng(3)
    rows = 3000
    event = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(np.sort(rng.uniform(0, 90, rows)), unit="D")
    fraud = rng.random(rows) < 0.3
    delay = pd.to_timedelta(np.where(fraud, np.minimum(rng.exponential(9, rows) + 1, 40), 14), unit="D")
    known = (event + delay) <= pd.Timestamp("2026-04-01", tz="UTC")
    return pd.DataFrame(
        {
            "event_time": event,
            "amount": 10.0,
            "is_fraud": pd.array(np.where(known, fraud, None), dtype="boolean"),
            "label_time": (event + delay).where(known),
        }
    )


def test_reports_are_counted_among_payments_old_enough_for_all_of_them(payments):
    found = label_maturity(payments)
    frauds = payments[payments["is_fraud"].fillna(False).astype(bool)]
    latest = max(payments["event_time"].max(), payments["label_time"].max())
    longest = (frauds["label_time"] - frauds["event_time"]).max()
    old = frauds[latest - frauds["event_time"] >= longest]
    assert 0 < len(old) < len(frauds)
    for row in found.itertuples():
        expected = ((old["label_time"] - old["event_time"]) <= row.days_since_event * DAY).mean()
        assert row.share_frauds_known == pytest.approx(expected)
        mature = payments[latest - payments["event_time"] >= row.days_since_event * DAY]
        soon = (mature["label_time"] - mature["event_time"]) <= row.days_since_event * DAY
        assert row.share_known == pytest.approx(soon.mean())
    # Counting young payments too would make reports look faster than they are.
    everyone = [((frauds["label_time"] - frauds["event_time"]) <= d * DAY).mean() for d in found["days_since_event"]]
    assert (found["share_frauds_known"] <= np.array(everyone) + 1e-12).mean() > 0.8


def test_one_very_late_report_does_not_leave_a_handful_of_payments(payments):
    late = payments.index[payments["is_fraud"].fillna(False).astype(bool)][0]
    payments.loc[late, "label_time"] = pd.Timestamp("2026-04-01", tz="UTC")
    found = label_maturity(payments)
    latest = pd.Timestamp("2026-04-01", tz="UTC")
    frauds = payments[payments["is_fraud"].fillna(False).astype(bool)]
    old = frauds[latest - frauds["event_time"] >= (latest - payments["event_time"].min()) / 2]
    assert len(old) > 300
    in_14 = ((old["label_time"] - old["event_time"]) <= 14 * DAY).mean()
    assert found["share_frauds_known"].iloc[14] == pytest.approx(in_14)


def test_a_fixed_delay_is_a_step_for_frauds_and_for_all(payments):
    fixed = payments.assign(label_time=payments["event_time"] + 7 * DAY)
    fixed["is_fraud"] = fixed["is_fraud"].fillna(False)
    found = label_maturity(fixed)
    assert found["share_known"].tolist() == found["share_frauds_known"].tolist() == [0.0] * 7 + [1.0]
    said = plots.label_maturity(found, 7).alt
    assert said.startswith("All frauds are reported 7 days after the payment; the split waits 7 days.")


@pytest.mark.parametrize("change", [{"is_fraud": False}, {"is_fraud": pd.NA}], ids=["no fraud", "no label"])
def test_without_frauds_there_is_no_share_of_them(payments, change):
    frame = payments.assign(is_fraud=pd.array([change["is_fraud"]] * len(payments), dtype="boolean"))
    assert label_maturity(frame)["share_frauds_known"].isna().all()
    assert label_maturity(frame.drop(columns="is_fraud"))["share_frauds_known"].isna().all()
    assert "labels" in plots.label_maturity(label_maturity(frame), 14).alt
    assert label_maturity(frame.iloc[:0])["share_frauds_known"].isna().all()


def test_the_newest_weeks_show_no_rate(payments):
    figure = plots.daily_volume(daily_volume(payments))
    heights = [bar.get_height() for bar in figure.axes[1].patches]
    assert max(heights) < 500
    assert "left out: " in figure.alt
    assert "weeks for want of labels" in figure.alt


def test_facts_state_the_purpose_as_the_contract_does(tmp_path, monkeypatch):
    monkeypatch.delenv("FRAUDLAB_KEYS", raising=False)
    dataset = DatasetConfig(
        name="demo", source="simulate", contract=CONTRACT, simulate=SimulateConfig(customers=50, merchants=20, days=30)
    )
    workspace = Workspace(tmp_path)
    ingest(RunConfig(name="demo", dataset=dataset, seed=3), workspace)
    stated = tomllib.loads(CONTRACT.read_text(encoding="utf-8"))["purposes"]
    for purpose in (TRAINING, "case-investigation"):
        facts = dataset_facts("demo", purpose, workspace=workspace)
        assert facts["purpose"] == purpose
        assert facts["basis"] == stated[purpose]["basis"]
        assert facts["purpose_meaning"] == stated[purpose]["meaning"]
        assert facts["retention_days"] == stated[purpose]["retention_days"]
    assert len(load_transactions("demo", purpose=TRAINING, workspace=workspace)) == facts["rows"]
