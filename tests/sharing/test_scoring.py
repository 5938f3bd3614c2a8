"""A champion that learnt with another bank's indicators scores with them: many payments, one by one, as in training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fraudlab import sharing
from fraudlab.config import Workspace
from fraudlab.datasets import ingest
from fraudlab.datasets.simulate import simulate
from fraudlab.scoring.scorer import Scorer, deployed, learn, load_history, needed_columns, open_door

SHARED, CUT = pd.Timestamp("2026-02-15T00:00Z"), pd.Timestamp("2026-03-30T00:00Z")
BOOK = """
name = "shared"
version = 1
[[rule]]
id = "told"
title = { en = "Known elsewhere", zh = "他行已知" }
expression = "indicator_merchant = 1 or indicator_network = 1"
action = "limit_and_review"
status = "active"
since = 2026-01-01
owner = "card fraud team"
why = "another bank's customers were defrauded there"
"""


@pytest.mark.slow
def test_a_champion_reads_indicators_in_training_and_at_work(tmp_path, small_bank, make_champion, monkeypatch):
    monkeypatch.delenv("FRAUDLAB_KEYS", raising=False)

    def party(name: str, seed: int, until: pd.Timestamp | None = None) -> tuple[object, Workspace, pd.DataFrame]:
        root = tmp_path / name
        (root / "data").mkdir(parents=True)
        (root / "rules.toml").write_text(BOOK)
        raw = simulate(small_bank().dataset.simulate, seed)
        paid = pd.to_datetime(raw["paid_at"], utc=True)
        there = raw if until is None else raw[paid < until]
        there.to_csv(root / "data" / "payments.csv", index=False)
        config = small_bank(
            as_of=None,
            dataset__source="file",
            dataset__path=str(root / "data" / "payments.csv"),
            features__columns=["indicator_merchant"],
            rules__book=str(root / "rules.toml"),
        )
        ingest(config, Workspace(root))
        return config, Workspace(root), raw[~raw.index.isin(there.index)]

    theirs, a, _ = party("a", 8)
    ours, b, later = party("b", 7, CUT)
    sharing.agree(a, "cards", "bank-a", "bank-b", tmp_path / "letter.json")
    sharing.join(b, tmp_path / "letter.json")
    made = sharing.export_set(
        theirs, a, "cards", licence="To stop payments; a test.", k=2, least_share=0.02, now=SHARED, rules=False
    )
    path = Path(tmp_path / "set.json")
    sharing.write_export(a, made, path)
    sharing.import_set(ours, b, path, now=SHARED)
    make_champion(ours, b)
    monkeypatch.setenv("FRAUDLAB_HOME", str(b.root))
    model = deployed(b, "demo@champion")
    assert {"indicator_merchant", "indicator_network"} <= set(needed_columns(model.package))
    history, door = load_history(b, model), open_door(b, model)
    assert history.loc[history["event_time"] < SHARED, "indicator_merchant"].sum() == 0
    assert history["indicator_merchant"].sum() > 0
    raw = later.drop(columns=["reported_fraud", "reported_at", "fraud_scenario"]).head(600)
    payments = door.table(raw)
    assert 0 < payments["indicator_merchant"].mean() < 1
    whole = pd.concat([history, payments]).reset_index(drop=True)
    features = model.package.features_of(whole).iloc[len(history) :]
    assert features["indicator_merchant"].tolist() == payments["indicator_merchant"].tolist()
    expected = model.package.score(features, reasons=False)
    table = Scorer(model.package, learn(model.package, history)).table(payments, reasons=False)
    np.testing.assert_array_equal(table["score"], expected["score"])
    one = Scorer(model.package, learn(model.package, history))
    rows = raw.assign(paid_at=pd.to_datetime(raw["paid_at"], utc=True).map(lambda moment: moment.isoformat()))
    lines = [json.dumps(row, default=str) for row in rows.astype(object).where(rows.notna(), None).to_dict("records")]
    found = [one.one(door.one(json.loads(line))) for line in lines]
    assert [each.score for each in found] == table.loc[sorted(table.index), "score"].tolist()
    told = [bool(each.rules) for each in found]
    assert told == (payments[["indicator_merchant", "indicator_network"]].max(axis=1) == 1).sort_index().tolist()
