"""The queue: the cases of each day that rank highest, once each, kept like all that points at people."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from fraudlab.casework import queue
from fraudlab.casework.queue import case_code, choose_cases, list_cases, queue_table
from fraudlab.config import RunConfig, Workspace
from fraudlab.datasets import ingest, load_transactions
from fraudlab.datasets.companions import CASES, companion_rows
from fraudlab.datasets.labelling import record_outcome
from fraudlab.features import FeatureSet
from fraudlab.privacy.consent import Ledger
from fraudlab.privacy.keys import KeyDirectory
from fraudlab.privacy.scan import find_planted
from fraudlab.privacy.vault import Vault
from fraudlab.schema import InputError
from fraudlab.tracking import registered_package

LETTER = "letter of 2026-03-01"
DAY = pd.Timedelta(days=1)


def rows_of(workspace: Workspace) -> pd.DataFrame:
    return companion_rows(Vault(workspace.vault, KeyDirectory(workspace.keys)), "demo", CASES)


def test_each_days_best_cases_are_chosen_as_by_hand() -> None:
    rng = np.random.default_rng(5)
    for _ in range(30):
        n = int(rng.integers(1, 60))
        score = rng.integers(0, 8, n) / 8  # with ties
        time = pd.DatetimeIndex(
            pd.Timestamp("2026-03-01", tz="UTC") + pd.to_timedelta(rng.integers(0, 96, n), unit="h")
        )
        who, threshold, most = rng.choice(list("abcdef"), n), float(rng.integers(1, 8) / 8), int(rng.integers(1, 4))
        taken = set()
        for day in set(time.date):
            best: dict[str, float] = {}
            for i in range(n):
                if time[i].date() == day and score[i] >= threshold:
                    best[who[i]] = max(best.get(who[i], 0), score[i])
            taken |= {(day, name) for name in sorted(best, key=lambda name: (-best[name], name))[:most]}
        expected = [i for i in range(n) if score[i] >= threshold and (time[i].date(), who[i]) in taken]
        assert choose_cases(score, time, who, threshold=threshold, per_day=most).tolist() == expected
    assert choose_cases([], pd.DatetimeIndex([], tz="UTC"), [], threshold=0.5, per_day=2).tolist() == []


def test_what_is_listed_is_what_the_model_says(workspace: Workspace, config: RunConfig, as_of: pd.Timestamp) -> None:
    rows = rows_of(workspace)
    _, _, package = registered_package(workspace, "demo@champion")
    known = load_transactions("demo", purpose="fraud-detection", as_of=as_of, workspace=workspace)
    features = FeatureSet.from_dict(package.facts["feature_set"]).compute(known)
    features = features.assign(**{name: known[name].to_numpy() for name in package.model.encoder.columns})
    recent = (known["event_time"] >= as_of - 7 * DAY).to_numpy()
    scored = package.score(features[recent])
    told = known[recent].assign(score=scored["score"], risk=scored["risk"], said=scored["reasons"])
    told["day"] = told["event_time"].dt.floor("D")
    high = told[told["score"] >= package.thresholds.review]
    best = high.groupby(["day", "customer_id"])["score"].max().reset_index()
    best = best.sort_values(["day", "score", "customer_id"], ascending=[True, False, True]).groupby("day").head(2)
    expected = high.merge(best[["day", "customer_id"]]).sort_values(["event_time", "transaction_id"])
    assert rows["transaction_id"].tolist() == expected["transaction_id"].tolist()
    assert rows["score"].tolist() == expected["score"].tolist()
    assert [[one["en"] for one in json.loads(text)] for text in rows["reasons"]] == expected["said"].tolist()
    assert rows.groupby(rows["event_time"].dt.floor("D"))["alert_id"].nunique().max() <= config.decision.alerts_per_day
    cases = rows.groupby("alert_id").agg(
        customers=("customer_id", "nunique"), days=("event_time", lambda t: t.dt.date.nunique())
    )
    assert (cases == 1).all(axis=None)
    assert rows["reasons"].map(lambda text: all({"code", "en", "zh"} == set(one) for one in json.loads(text))).all()


def test_listing_again_changes_nothing_and_later_days_add(
    workspace: Workspace, config: RunConfig, as_of: pd.Timestamp
) -> None:
    before = rows_of(workspace)
    done = list_cases(config, workspace, as_of=as_of)
    assert done["new"] == 0
    assert done["cases"] == before["alert_id"].nunique()
    pd.testing.assert_frame_equal(rows_of(workspace), before)
    earlier = list_cases(config, workspace, since=as_of - 14 * DAY, as_of=as_of - 7 * DAY)
    assert earlier["new"] == earlier["cases"] > 0
    assert len(rows_of(workspace)) > len(before)


def test_codes_tell_nothing_and_differ_by_version(workspace: Workspace) -> None:
    rows, keys = rows_of(workspace), KeyDirectory(workspace.keys)
    first = rows.iloc[0]
    day = f"{first['event_time']:%Y-%m-%d}"
    assert case_code(keys, "demo", "1", first["customer_id"], day) == first["alert_id"]
    assert case_code(keys, "demo", "2", first["customer_id"], day) != first["alert_id"]
    assert case_code(keys, "demo", "1", first["customer_id"], "2026-01-01") != first["alert_id"]
    (workspace.keys / "case.key").unlink()
    assert case_code(keys, "demo", "1", first["customer_id"], day) != first["alert_id"], "it hangs on a key"


def test_nothing_of_a_case_lies_open_in_the_workspace(workspace: Workspace) -> None:
    rows = rows_of(workspace)
    needles = [*rows["alert_id"].unique(), *rows["customer_id"].unique(), *rows["transaction_id"].unique()]
    assert find_planted([workspace.vault], needles).empty


def test_the_table_says_how_old_cases_are_and_what_became_of_them(
    workspace: Workspace, as_of: pd.Timestamp, config: RunConfig
) -> None:
    rows = rows_of(workspace)
    table = queue_table("demo", workspace, open_only=False).set_index("alert_id")
    assert table["payments"].to_dict() == rows.groupby("alert_id").size().to_dict()
    amounts = load_transactions("demo", purpose="case-investigation", workspace=workspace).set_index("transaction_id")
    paid = rows["transaction_id"].map(amounts["amount"])
    assert table["amount"].to_dict() == paid.groupby(rows["alert_id"]).sum().round(2).to_dict()
    first = rows.groupby("alert_id")["event_time"].min()
    assert table["age_days"].to_dict() == ((as_of - first).dt.days).to_dict()
    assert table["day"].is_monotonic_decreasing
    customers = rows.drop_duplicates("alert_id").set_index("alert_id")["customer_id"]
    assert table["customer"].to_dict() == customers.str[:8].to_dict()
    source = load_transactions("demo", purpose="case-investigation", as_of=as_of, workspace=workspace)
    frauds = set(source.loc[source["is_fraud"].fillna(False).astype(bool), "transaction_id"])
    known = rows.groupby("alert_id")["transaction_id"].agg(lambda ids: bool(frauds & set(ids)))
    assert (table["state"] == "fraud").to_dict() == known.to_dict()
    waiting = queue_table("demo", workspace)["alert_id"].tolist()
    assert waiting == table.index[table["state"] == "open"].tolist()
    for code, outcome in zip(waiting, ("fraud", "genuine", "unsure")):
        record_outcome("demo", code, outcome, decided_at="2026-04-05T23:59:59Z", workspace=workspace)
    after = queue_table("demo", workspace, open_only=False).set_index("alert_id")["state"]
    assert after[waiting[:3]].tolist() == ["fraud", "genuine", "unsure"]
    assert queue_table("demo", workspace)["alert_id"].tolist() == waiting[3:]
    assert queue_table("demo", workspace, as_of=as_of - DAY)["age_days"].min() == 0


def test_who_objects_is_neither_scored_nor_listed(workspace: Workspace, config: RunConfig, as_of: pd.Timestamp) -> None:
    rows = rows_of(workspace)
    one, other = rows["customer_id"].unique()[:2]
    ledger = Ledger(workspace.ledger)
    ledger.record(one, "case-investigation", "objection", basis="legitimate-interest", source=LETTER)
    codes = set(rows.loc[rows["customer_id"] == one, "alert_id"])
    assert not codes & set(queue_table("demo", workspace, open_only=False)["alert_id"])
    ledger.record(other, "fraud-detection", "objection", basis="legitimate-interest", source=LETTER)
    scored = list_cases(config, workspace, as_of=as_of)["payments"]
    everyone = load_transactions("demo", purpose="typology-review", as_of=as_of, workspace=workspace)
    recent = everyone[everyone["event_time"] >= as_of - 7 * DAY]
    assert scored == (recent["customer_id"] != other).sum()


def test_a_contract_that_does_not_allow_it_is_refused(
    workspace: Workspace, config: RunConfig, as_of: pd.Timestamp, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Vault.manifest

    def told(change: object) -> None:
        monkeypatch.setattr(
            Vault, "manifest", lambda self, name: change(real(self, name)) if name == "demo" else real(self, name)
        )

    def no_investigation(manifest: dict) -> dict:
        return manifest | {"purposes": {k: v for k, v in manifest["purposes"].items() if k != "case-investigation"}}

    def no_detection(manifest: dict) -> dict:
        return manifest | {"purposes": {k: v for k, v in manifest["purposes"].items() if k != "fraud-detection"}}

    told(no_investigation)
    with pytest.raises(InputError, match="its contract has no purpose 'case-investigation', so no case of it may be"):
        list_cases(config, workspace, as_of=as_of)
    told(no_detection)
    with pytest.raises(
        InputError, match="every column that the model reads; it does not allow latitude, longitude; add"
    ):
        list_cases(config, workspace, as_of=as_of)


@pytest.mark.parametrize(
    ("reference", "match"),
    [
        ("dem@champion", "model: none is registered as 'dem'; did you mean 'demo'?"),
        ("demo/7", "model: 'demo' has no version 7"),
        ("demo@candidate", "model: 'demo' has no version called 'candidate'"),
    ],
)
def test_a_model_that_is_not_there_is_refused(workspace: Workspace, reference: str, match: str) -> None:
    with pytest.raises(InputError) as refused:
        registered_package(workspace, reference)
    assert match in str(refused.value)


def test_a_rule_that_fired_is_named(workspace: Workspace, config: RunConfig, as_of: pd.Timestamp, tmp_path) -> None:
    listed = load_transactions("demo", purpose="fraud-detection", as_of=as_of, workspace=workspace).tail(5)
    book = tmp_path / "book.toml"
    book.write_text(
        'name = "own"\nversion = 1\n'
        + "".join(
            f'[[rule]]\nid = "{name}"\nexpression = "{said}"\nstatus = "{status}"\n'
            'title = {en = "Title", zh = "标题"}\n'
            'since = 2026-01-01\nowner = "fraud team"\nwhy = "an example of a rule"\n'
            for name, said, status in (
                ("any", "amount >= 0", "active"),
                ("no", "amount < 0", "active"),
                ("shy", "amount >= 0", "shadow"),
            )
        ),
        encoding="utf-8",
    )
    with_book = config.model_copy(update={"rules": config.rules.model_copy(update={"book": book})})
    assert queue.fired_rules(with_book, listed, pd.DataFrame(index=range(5))) == (["any"] * 5, "")
    book.write_text(book.read_text(encoding="utf-8").replace("amount < 0", "no_such_column < 0"), encoding="utf-8")
    fired, why = queue.fired_rules(with_book, listed, pd.DataFrame(index=range(5)))
    assert fired == [""] * 5
    assert "no_such_column" in why


def test_the_next_training_sees_outcomes_from_their_day_on(workspace: Workspace, config: RunConfig) -> None:
    from fraudlab import recipe

    rows = rows_of(workspace)
    table = queue_table("demo", workspace)
    code, decided = table["alert_id"].iloc[-1], pd.Timestamp("2026-04-05T12:00Z")
    ids = set(rows.loc[rows["alert_id"] == code, "transaction_id"])
    record_outcome("demo", code, "fraud", decided_at=str(decided), workspace=workspace)

    split = config.split.model_copy(update={"train_days": 20, "valid_days": 7, "test_days": 7})

    def labels(moment: pd.Timestamp) -> list:
        then = config.model_copy(update={"as_of": moment.to_pydatetime(), "split": split})
        known = recipe.prepare(then, workspace).transactions
        return known.loc[known["transaction_id"].isin(ids), "is_fraud"].tolist()

    assert labels(decided + DAY) == [True] * len(ids)
    assert labels(pd.Timestamp("2026-06-30", tz="UTC")) == [True] * len(ids), "silence does not overturn it"
    assert all(label is pd.NA for label in labels(decided - pd.Timedelta(seconds=1)))
    assert ingest(config, workspace)["reused"]
    assert labels(decided + DAY) == [True] * len(ids)
