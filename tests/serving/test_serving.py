"""A package scores as its model does, refuses what it cannot score, and loads only if no byte of it has changed."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fraudlab import explain, serving
from fraudlab.config import ModelConfig
from fraudlab.decisions import Thresholds
from fraudlab.models import FittedModel
from fraudlab.reasons import reasons
from fraudlab.schema import InputError
from fraudlab.serving import Package, load_package, save_package
from fraudlab.training import fit_calibrator, fit_estimator, fit_rules

FEATURES = ["amount", "payments_1d", "speed_kmh", "new_device"]
THRESHOLDS = Thresholds(review=0.5, step_up=0.2, limit=0.9)
DESCRIBE = pd.DataFrame(
    {
        "column": FEATURES,
        "group": ["amount", "pace", "place", "device"],
        "meaning": ["the amount", "payments in a day", "speed since the last payment", "first use of the device"],
        "template": ["{value} paid", "{value} payments in a day", "{value} travelled", "a device never seen before"],
        "kind": ["amount", "count", "speed", "flag"],
    }
)


def rows(count: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(
        {
            "amount": rng.lognormal(3, 1, count),
            "payments_1d": rng.poisson(2, count),
            "speed_kmh": np.where(rng.random(count) < 0.3, np.nan, rng.gamma(2, 40, count)),
            "new_device": (rng.random(count) < 0.1).astype(float),
        }
    )
    push = np.log(X["amount"]) + 0.5 * X["payments_1d"] + 2 * X["new_device"] + rng.normal(size=count)
    return X, (push > 6).to_numpy()


@pytest.fixture(scope="module")
def model() -> FittedModel:
    X, y = rows(3000, 0)
    fitted = fit_estimator(X, y, model=ModelConfig(n_estimators=30, max_depth=3), seed=0, threads=1)
    X_valid, y_valid = rows(2000, 1)
    return replace(fitted, calibrator=fit_calibrator(fitted.score(X_valid), y_valid))


@pytest.fixture
def folder(model, tmp_path):
    save_package(tmp_path / "package", model, THRESHOLDS, DESCRIBE, {"name": "demo", "as_of": None})
    return tmp_path / "package"


@pytest.fixture
def package(folder) -> Package:
    return load_package(folder)


@pytest.fixture(scope="module")
def X() -> pd.DataFrame:
    return rows(400, 2)[0]


def test_scores_are_the_models_and_tiers_are_cut_on_the_score(package, model, X):
    scored = package.score(X)
    assert scored.columns.tolist() == ["score", "risk", "tier", "action", "reasons"]
    np.testing.assert_array_equal(scored["score"], model.score(X))
    risk = model.risk(X)
    np.testing.assert_array_equal(scored["risk"], risk)
    score = model.score(X)
    by_hand = ["severe" if s >= 0.9 else "high" if s >= 0.5 else "elevated" if s >= 0.2 else "low" for s in score]
    assert scored["tier"].tolist() == by_hand
    assert len(set(by_hand)) == 4
    action = {"low": "approve", "elevated": "step_up_authentication", "high": "manual_review"}
    assert scored["action"].tolist() == [action.get(tier, "limit_and_review") for tier in by_hand]


def test_only_alerts_are_explained_and_in_their_own_rows(package, model, X):
    told = package.score(X)
    alerts = told["tier"] > "low"
    assert 0 < alerts.sum() < len(X)
    assert all(told.loc[~alerts, "reasons"].map(len) == 0)
    for row in np.flatnonzero(alerts)[:20]:
        one = X.iloc[[row]]
        assert told["reasons"].iloc[row] == reasons(explain.contributions(model, one), one, DESCRIBE)[0]
    assert told.loc[alerts, "reasons"].map(len).max() == 3
    assert package.score(X, reasons=False)["reasons"].map(len).sum() == 0


def test_columns_are_found_by_name(package, X):
    expected = package.score(X)
    other = X[X.columns[::-1]].assign(customer_id="c1", amount_eur=1.0)
    pd.testing.assert_frame_equal(package.score(other), expected)
    pd.testing.assert_frame_equal(package.score(X.astype({"new_device": bool})), expected)


def test_the_index_is_the_callers(package, X):
    shuffled = X.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(package.score(shuffled).sort_index(), package.score(X))


def test_no_rows_give_no_rows(package, X):
    nothing = package.score(X.iloc[:0])
    assert len(nothing) == 0
    assert nothing.columns.tolist() == ["score", "risk", "tier", "action", "reasons"]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (
            lambda X: X.drop(columns=["amount", "speed_kmh"]).assign(card_4929="4929123412341234"),
            "scoring: every feature of the model must be there; missing are 2 of 4: 'amount', 'speed_kmh'; "
            "compute the feature set this model was trained on",
        ),
        (
            lambda X: pd.concat([X, X[["amount"]]], axis=1),
            "scoring: each feature must be there once; found twice: amount; drop one",
        ),
        (
            lambda X: X.assign(amount="4929123412341234"),
            "features: columns must be numbers or booleans; found 1 other: 'amount' (str); "
            "encode them as numbers in the feature set, or name them in features.categories",
        ),
        (
            lambda X: X.assign(amount=[np.inf, -np.inf, *X["amount"][2:]]),
            "features: values must be finite; found infinite ones of 400 rows: 'amount' 2; "
            "make the feature missing (NaN) where it is undefined",
        ),
        (
            lambda X: X.to_numpy(),
            "scoring: must get a table whose columns are named; found ndarray; pass a pandas DataFrame",
        ),
    ],
)
def test_what_cannot_be_scored_is_refused_without_quoting_it(package, X, bad, said):
    with pytest.raises(InputError) as refused:
        package.score(bad(X))
    assert str(refused.value) == said
    assert "4929" not in said


def test_a_table_without_header_does_not_leak_its_first_row(package, X):
    headless = pd.DataFrame(X.to_numpy(), columns=["4929123412341234", "b", "c", "d"])
    with pytest.raises(InputError) as refused:
        package.score(headless)
    assert "4929" not in str(refused.value)


def test_many_missing_features_are_counted_not_all_listed(tmp_path):
    names = [f"f{i:02d}" for i in range(30)]
    X = pd.DataFrame(np.random.default_rng(0).random((50, 30)), columns=names)
    wide = fit_estimator(X, np.arange(50) % 2, model=ModelConfig(n_estimators=2), seed=0, threads=1)
    words = pd.DataFrame({"column": names, "group": names, "meaning": "", "template": "", "kind": "number"})
    save_package(tmp_path / "wide", wide, THRESHOLDS, words, {})
    with pytest.raises(InputError, match=r"missing are 30 of 30: 'f00', .*'f09', \.\.\.;"):
        load_package(tmp_path / "wide").score(pd.DataFrame())


def test_a_callers_threshold_moves_manual_review_and_its_neighbours_give_way(package, model, X):
    score = model.score(X)
    low = package.score(X, reasons=False, threshold=0.1)
    assert low["tier"].tolist() == ["severe" if s >= 0.9 else "high" if s >= 0.1 else "low" for s in score]
    high = package.score(X, reasons=False, threshold=0.95)
    assert high["tier"].tolist() == ["severe" if s >= 0.95 else "elevated" if s >= 0.2 else "low" for s in score]
    for wrong in (-0.1, 1.5, float("nan")):
        with pytest.raises(InputError, match=r"threshold: must lie in \[0, 1\]; found"):
            package.score(X, threshold=wrong)


def test_without_calibrator_the_risk_is_missing_and_the_score_decides(tmp_path):
    X, y = rows(2000, 0)
    rules = fit_rules(X, y)
    save_package(tmp_path / "rules", rules, Thresholds(review=0.5, step_up=0.2), DESCRIBE, {})
    scored = load_package(tmp_path / "rules").score(X)
    assert scored["risk"].isna().all()
    score = rules.score(X)
    assert scored["tier"].tolist() == ["high" if s >= 0.5 else "elevated" if s >= 0.2 else "low" for s in score]
    assert scored["tier"].nunique() > 1


def test_what_is_loaded_is_what_was_saved(model, folder, package):
    assert (package.thresholds, package.facts) == (THRESHOLDS, {"name": "demo", "as_of": None})
    pd.testing.assert_frame_equal(package.describe, DESCRIBE)
    assert package.features == tuple(FEATURES)
    again = save_package(folder.with_name("again"), model, THRESHOLDS, DESCRIBE, {"name": "demo", "as_of": None})
    assert again == package.digest


def test_no_changed_byte_goes_unnoticed(folder):
    rng = np.random.default_rng(0)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    assert {path.name for path in files} == {
        "decision.json", "features.json", "package.json", "model.json", "trees.ubj",
    }  # fmt: skip
    for path in files:
        whole = path.read_bytes()
        for position in rng.integers(0, len(whole), 20):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << int(rng.integers(8))
            path.write_bytes(damaged)
            with pytest.raises(InputError, match="must be exactly what was saved"):
                load_package(folder)
        for content in (whole[: len(whole) // 2], b"", whole + b"\n"):
            path.write_bytes(content)
            with pytest.raises(InputError, match="must be exactly what was saved"):
                load_package(folder)
        path.unlink()
        with pytest.raises(InputError, match=f"missing.*{path.name}|{path.name} is missing"):
            load_package(folder)
        path.write_bytes(whole)
    load_package(folder)


def test_an_added_file_and_an_exchanged_package_are_refused(model, folder, package, tmp_path):
    (folder / "model" / "extra.pkl").write_bytes(b"")
    with pytest.raises(InputError, match=r"unexpected: model/extra\.pkl"):
        load_package(folder)
    (folder / "model" / "extra.pkl").unlink()
    save_package(tmp_path / "other", model, replace(THRESHOLDS, review=0.6), DESCRIBE, {})
    load_package(tmp_path / "other")
    with pytest.raises(InputError, match=r"package\.json is not the one recorded"):
        load_package(tmp_path / "other", digest=package.digest)
    assert load_package(folder, digest=package.digest).thresholds == THRESHOLDS


def test_an_unknown_format_is_refused(folder):
    about = json.loads((folder / "package.json").read_text())
    about["format"] = 2
    about.pop("digest")
    (folder / "package.json").write_bytes(serving.as_json(about | {"digest": serving.digest_of(about)}))
    with pytest.raises(InputError, match="its format is 2, this version reads 1"):
        load_package(folder)


def test_an_earlier_package_is_replaced_and_nothing_else(model, folder, tmp_path):
    save_package(folder, model, replace(THRESHOLDS, review=0.6), DESCRIBE, {})
    assert load_package(folder).thresholds.review == 0.6
    assert [path.name for path in tmp_path.iterdir()] == ["package"]
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").touch()
    with pytest.raises(InputError, match="folder letters: must be new or a package; found something else"):
        save_package(tmp_path / "letters", model, THRESHOLDS, DESCRIBE, {})


@pytest.mark.parametrize("step", ["save_model", "_write", "_swap", "digests_of"])
def test_a_failed_save_leaves_the_earlier_package_and_no_litter(model, folder, tmp_path, monkeypatch, step):
    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(serving, step, fail)
    with pytest.raises(OSError, match="no space left"):
        save_package(folder, model, replace(THRESHOLDS, review=0.6), DESCRIBE, {})
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["package"]
    assert load_package(folder).thresholds == THRESHOLDS


def test_the_earlier_package_comes_back_when_the_new_one_cannot_take_its_place(model, folder, tmp_path, monkeypatch):
    rename = os.replace

    def fail_at_the_last_step(source, target):
        if Path(target) == folder and Path(source).name != "old":
            raise OSError("no space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "replace", fail_at_the_last_step)
    with pytest.raises(OSError, match="no space left"):
        save_package(folder, model, replace(THRESHOLDS, review=0.6), DESCRIBE, {})
    assert [path.name for path in tmp_path.iterdir()] == ["package"]
    assert load_package(folder).thresholds == THRESHOLDS


def test_words_and_facts_are_checked_before_anything_is_written(model, tmp_path):
    with pytest.raises(InputError, match=r"describe: must have a row for each feature; found none for speed_kmh;"):
        save_package(tmp_path / "p", model, THRESHOLDS, DESCRIBE[DESCRIBE["column"] != "speed_kmh"], {})
    for fact in (float("nan"), pd.Timestamp("2026-01-01")):
        with pytest.raises(InputError, match="facts: must be text, whole or finite numbers"):
            save_package(tmp_path / "p", model, THRESHOLDS, DESCRIBE, {"fact": fact})
    assert not list(tmp_path.iterdir())


def test_a_copy_elsewhere_scores_the_same(package, folder, tmp_path, X):
    copy = shutil.copytree(folder, tmp_path / "far" / "away")
    pd.testing.assert_frame_equal(load_package(copy).score(X), package.score(X))
