"""Files come in stretches and bring what one table brings; what is wrong with them is said in one sentence."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from fraudlab.cli import app
from fraudlab.schema import InputError
from fraudlab.scoring.files import score_file, score_vault
from fraudlab.scoring.scorer import Scorer, deployed, learn, load_history, open_door


@pytest.fixture
def model(workspace):
    return deployed(workspace, "demo")


@pytest.fixture
def raw(made, tmp_path):
    """The later payments as a CSV file and as Parquet, whole seconds torn apart by the stretches."""
    made.later.to_csv(tmp_path / "later.csv", index=False)
    made.later.to_parquet(tmp_path / "later.parquet", index=False)
    return tmp_path


def test_any_stretches_and_forms_bring_the_same(workspace, model, raw, made):
    payments = open_door(workspace, model).table(made.later).reset_index(drop=True)
    expected = Scorer(model.package, learn(model.package, load_history(workspace, model))).table(payments)
    told: list[str] = []
    summary = score_file(workspace, model, raw / "later.csv", raw / "out.parquet", rows=10_000, say=told.append)
    assert told[-1] == f"scored {len(expected):,} payments, {summary.alerts:,} alerts"
    for source, rows, out in (("later.parquet", 97, "a.parquet"), ("later.csv", 500, "b.csv")):
        assert score_file(workspace, model, raw / source, raw / out, rows=rows).rows == len(expected)
    whole = pd.read_parquet(raw / "out.parquet")
    np.testing.assert_array_equal(whole["score"], expected["score"])
    assert whole["action"].tolist() == expected["action"].astype("str").tolist()
    assert whole["reasons"].tolist() == [" | ".join(each) for each in expected["reasons"]]
    assert whole["reasons"].ne("").sum() == summary.alerts > 3
    pd.testing.assert_frame_equal(pd.read_parquet(raw / "a.parquet"), whole)
    by_csv = pd.read_csv(raw / "b.csv", keep_default_na=False)
    np.testing.assert_array_equal(by_csv["score"], whole["score"])
    assert by_csv["transaction_id"].tolist() == whole["transaction_id"].tolist()
    assert (raw / "out.parquet").stat().st_mode & 0o077 == 0
    assert sum(summary.tiers.values()) == len(expected)


def test_payments_of_the_vault_are_scored_as_known_then(workspace, model, tmp_path):
    held = load_history(workspace, model)
    features = model.package.features_of(held)
    expected = model.package.score(features, reasons=False)
    score_vault(workspace, model, tmp_path / "all.parquet", rows=5000, reasons=False)
    np.testing.assert_array_equal(pd.read_parquet(tmp_path / "all.parquet")["score"], expected["score"])
    since = held["event_time"].iloc[-300]
    score_vault(workspace, model, tmp_path / "some.parquet", since=since)
    some = pd.read_parquet(tmp_path / "some.parquet")
    np.testing.assert_array_equal(some["score"], expected["score"].iloc[-len(some) :])
    assert len(some) >= 300
    with pytest.raises(InputError, match="the vault holds no payment since then; take an earlier moment"):
        score_vault(workspace, model, tmp_path / "x.parquet", since=pd.Timestamp("2030-01-01", tz="UTC"))


def test_what_is_wrong_with_a_file_is_said_and_nothing_is_left(workspace, model, raw, made):
    made.later.iloc[::-1].to_csv(raw / "backwards.csv", index=False)
    with pytest.raises(InputError, match=r"rows must come in the order of time; found .* sort the file by its time"):
        score_file(workspace, model, raw / "backwards.csv", raw / "x.csv", rows=200)
    made.later.assign(amount="4111111111111111 EUR").to_csv(raw / "odd.csv", index=False)
    with pytest.raises(InputError) as refused:
        score_file(workspace, model, raw / "odd.csv", raw / "x.csv")
    assert "4111111111111111" not in str(refused.value)
    with pytest.raises(InputError, match=r"--out: must end in .parquet or .csv; found '.txt'"):
        score_file(workspace, model, raw / "later.csv", raw / "x.txt")
    made.later.drop(columns="amount").to_csv(raw / "without.csv", index=False)
    with pytest.raises(InputError, match="column 'amount' is missing; every transaction needs it; add it"):
        score_file(workspace, model, raw / "without.csv", raw / "x.csv")
    assert not list(raw.glob("*x.*"))


def test_the_command_line(workspace, raw, made):
    without = made.later.drop(columns="device_fingerprint")
    without.to_csv(raw / "without.csv", index=False)
    run = CliRunner().invoke(
        app, ["score", str(raw / "without.csv"), "--out", str(raw / "o.csv")], catch_exceptions=False
    )
    assert run.exit_code == 0
    assert f"demo version 1: {len(without):,} transactions scored" in run.output
    assert f"Column 'device_id' was not given in {len(without):,} transactions and counted as missing." in run.output
    run = CliRunner().invoke(
        app, ["score", "vault:demo", "--since", "2026-03-29T00:00Z", "--out", str(raw / "o.csv"), "--json"]
    )
    assert json.loads(run.output)["rows"] > 100
    with pytest.raises(InputError, match="--since: is for payments of the vault"):
        CliRunner().invoke(app, ["score", "x.csv", "--since", "2026-03-29", "--out", "o.csv"], catch_exceptions=False)
