"""One payment, many payments and the training's own table give the same numbers; the door treats all alike."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from fraudlab.privacy.keys import KeyUnavailableError, open_keys
from fraudlab.privacy.vault import Vault
from fraudlab.schema import InputError
from fraudlab.scoring.door import Door
from fraudlab.scoring.scorer import (
    Scorer,
    deployed,
    learn,
    load_history,
    needed_columns,
    open_door,
    purpose_of,
)


@pytest.fixture
def model(workspace):
    return deployed(workspace, "demo@champion")


@pytest.fixture
def door(workspace, model):
    return open_door(workspace, model)


def test_files_single_payments_and_training_give_the_same_numbers(workspace, model, door, made, lines):
    history = load_history(workspace, model)
    payments = door.table(made.later)
    whole = pd.concat([history, payments]).reset_index(drop=True)
    features = model.package.features_of(whole).iloc[len(history) :]
    expected = model.package.score(features, reasons=True)
    table = Scorer(model.package, learn(model.package, history, rows=1000)).table(payments, features=True)
    np.testing.assert_array_equal(table["score"], expected["score"])
    np.testing.assert_array_equal(table["risk"], expected["risk"])
    assert table["action"].tolist() == expected["action"].tolist()
    for name in features:
        left, right = table[name].to_numpy(), features[name].to_numpy()
        assert ((left == right) | (pd.isna(left) & pd.isna(right))).all(), name
    one = Scorer(model.package, learn(model.package, history))
    assert one._walk is not None  # the quick way is the one that is tried here
    found = [one.one(door.one(json.loads(line))) for line in lines]
    assert [each.score for each in found] == table["score"].tolist()
    assert [each.risk for each in found] == table["risk"].tolist()
    assert [each.action for each in found] == table["action"].tolist()
    assert [each.tier for each in found] == table["tier"].tolist()
    assert [",".join(each.rules) for each in found] == table["rules"].tolist()
    assert table["rules"].ne("").sum() > 3
    alerts = [each for each in found if each.alert]
    assert 3 < len(alerts) < len(found) / 10
    told = expected["reasons"][expected["action"].isin(["manual_review", "limit_and_review"])].tolist()
    assert (
        [[each.sentence for each in row] for row in one.told(alerts)]
        == told
        == [each for each in table["reasons"] if each]
    )


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_warm_up_leaves_nothing_behind(workspace, model, lang):
    history = load_history(workspace, model)
    for state in (learn(model.package, history), learn(model.package, None)):
        scorer = Scorer(model.package, state)
        told, judged = [], scorer.told
        scorer.told = lambda scored, lang, told=told, judged=judged: told.append(judged(scored, lang))
        before = state.to_bytes()
        scorer.warm_up(lang)
        assert state.to_bytes() == before
        assert len(told) == 1, "reasons are laid out too"


def test_the_door_gives_what_ingest_gave(workspace, model, made):
    """Raw rows that the vault holds come out of the door as they lie there."""
    door = open_door(workspace, model)
    held = load_history(workspace, model).set_index("transaction_id")
    raw = pd.read_csv(workspace.root / "data" / "payments.csv", dtype="str", keep_default_na=False, na_values=[""])
    taken = door.table(raw).set_index("transaction_id").loc[held.index]
    assert set(taken) == set(needed_columns(model.package)) - {"transaction_id", "is_fraud", "label_time"}
    for name in taken:
        pd.testing.assert_series_equal(taken[name], held[name], check_freq=False)


def odd(value: str, rng: np.random.Generator) -> object:
    """Return a value written otherwise, sometimes gone."""
    kind = rng.integers(8)
    if kind == 0:
        return None
    if kind == 1:
        return f" {value} " if isinstance(value, str) else value
    if kind == 2:
        return str(value)
    if kind == 3:
        return ""
    return value


def tried(work) -> tuple[object, str]:
    """Return a result, or the sentence of its refusal."""
    try:
        return work(), ""
    except InputError as error:
        return None, str(error)


def test_one_row_is_read_as_a_table_of_one(workspace, model, lines):
    """Odd values, other ways to write them, missing ones: the same result or the same refusal."""
    rng = np.random.default_rng(4)
    one, many = open_door(workspace, model), open_door(workspace, model)
    agreed = refused = 0
    for line in lines[:60]:
        row = json.loads(line)
        for name in rng.choice(list(row), 4, replace=False):
            row[name] = odd(row[name], rng)
        if rng.random() < 0.2:
            row[rng.choice(["amount", "paid_at", "latitude", "customer_ref"])] = rng.choice(
                ["x", "-5", "2026-03-30", "1e400", "2026-03-30T10:00:00Z", "7"]
            )
        expected, said = tried(lambda row=row: many.table(pd.DataFrame([row], dtype=object)).iloc[0])
        found, why = tried(lambda row=row: one.one(row))
        assert why == said
        if said:
            refused += 1
            continue
        assert list(found) == expected.index.tolist()
        for name, value in found.items():
            assert value == expected[name] or (value is None and pd.isna(expected[name])), name
        agreed += 1
    assert agreed > 15
    assert refused > 8


def test_what_is_not_given_is_missing_and_counted_and_what_is_not_declared_stays_outside(door, lines):
    row = json.loads(lines[0])
    del row["device_fingerprint"]
    row["shoe_size"] = "43"
    found = door.one(row)
    assert found["device_id"] is None
    assert door.counts.missing == {"device_id": 1}
    assert door.counts.undeclared == {"shoe_size": 1, "loyalty_tier": 1}
    table = door.table(pd.DataFrame([row, row | {"payment_id": "another"}], dtype=object))
    assert table["device_id"].isna().all()
    assert door.counts.missing == {"device_id": 3}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"customer_ref": None},
            "data set demo: column 'customer_ref' (for 'customer_id') must not be empty; found 1 empty of 1 rows; "
            "correct or drop these rows at the source",
        ),
        ({"amount": "4111111111111111x"}, "column 'amount' must hold numbers (12.50); found 1 other values of 1"),
        ({"amount": -1.0}, "column 'amount' must be finite and >= 0; found 1 negative of 1 rows"),
        ({"paid_at": "2031-01-01T00:00:00+00:00"}, "must not lie in the future; found 1 of 1 rows"),
        ({"paid_at": "yesterday"}, "must hold times such as 2026-01-31T12:00:00Z; found 1 other values of 1"),
    ],
)
def test_a_refusal_names_the_column_and_quotes_no_value(door, lines, change, said):
    row = json.loads(lines[0]) | change
    with pytest.raises(InputError) as refused:
        door.one(row, now=pd.Timestamp("2026-11-01", tz="UTC").to_pydatetime())
    assert said in str(refused.value)
    for value in row.values():
        if isinstance(value, str) and len(value) > 6:
            assert value not in str(refused.value)


def test_a_required_column_that_is_not_there_is_refused(door, lines):
    row = json.loads(lines[0])
    del row["amount"]
    with pytest.raises(InputError, match="column 'amount' is missing; every transaction needs it; add it"):
        door.one(row)
    with pytest.raises(InputError, match="must hold at least one transaction; found none"):
        door.table(pd.DataFrame())


def test_another_pseudonym_key_is_refused(workspace, model):
    vault = Vault(workspace.vault, open_keys(workspace))
    manifest = vault.manifest("demo")
    manifest["keys"]["pseudonym"] = "0" * 16
    with pytest.raises(KeyUnavailableError, match="no payment would find its history"):
        Door(manifest, vault.keys, needed_columns(model.package), purpose=purpose_of(manifest))


def test_a_purpose_must_be_allowed_what_the_model_reads(workspace, model):
    vault = Vault(workspace.vault, open_keys(workspace))
    manifest = vault.manifest("demo")
    with pytest.raises(InputError, match="does not allow currency; add the purpose to these columns"):
        Door(manifest, vault.keys, ["currency"], purpose="fraud-detection")
    with pytest.raises(InputError, match="'place_km' is made from a whole table"):
        Door(manifest, vault.keys, ["place_km"], purpose="case-investigation")
