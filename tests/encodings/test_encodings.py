"""Encodings are held against scikit-learn, counting, and worlds in which a leak would show."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import TargetEncoder

from fraudlab.boosting import boost, tree_data
from fraudlab.config import FeaturesConfig, ModelConfig, RunConfig
from fraudlab.encodings import Coding, Encoder, fit_encoder
from fraudlab.explain import contributions, dependence, importance
from fraudlab.features import FeatureSet, risk
from fraudlab.features.words import Words, describe_category
from fraudlab.model_files import load_model, save_model
from fraudlab.models import FittedModel, feature_matrix
from fraudlab.reasons import reasons
from fraudlab.schema import InputError

TREES = ModelConfig(n_estimators=20, max_depth=3, max_bin=64, early_stopping_rounds=0)
KINDS = ("grocery", "travel", "games", "fuel", "books")


def table(rows: int = 3000, seed: int = 0, *, missing: float = 0.05) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(seed)
    kind = rng.choice(KINDS, rows, p=[0.4, 0.2, 0.2, 0.15, 0.05])
    amount = rng.lognormal(3, 1, rows)
    y = rng.random(rows) < np.where(kind == "games", 0.3, 0.03)
    names = pd.Series(kind, dtype="str").mask(rng.random(rows) < missing)
    return pd.DataFrame({"amount": amount, "merchant_category": names}), y


def fitted(X: pd.DataFrame, y: np.ndarray, method: str) -> FittedModel:
    encoder, numbers = fit_encoder(X, y, ["merchant_category"], method)
    features = tuple(X.columns)
    data = tree_data(feature_matrix(numbers, features), y, features, model=TREES, categories=encoder.native, threads=1)
    trees, _ = boost(data, TREES, 0, threads=1)
    return FittedModel("xgboost", features, trees, encoder=encoder)


# -- target --------------------------------------------------------------------------------------------------------


def test_target_encoding_of_later_rows_is_that_of_scikit_learn():
    X, y = table(missing=0)
    later, _ = table(500, seed=1, missing=0)
    encoder, _ = fit_encoder(X, y, ["merchant_category"], "target", few=1, smoothing=20.0)
    oracle = TargetEncoder(target_type="binary", smooth=20.0).fit(X[["merchant_category"]].to_numpy(dtype=object), y)
    np.testing.assert_allclose(
        encoder.encode(later)["merchant_category"],
        oracle.transform(later[["merchant_category"]].to_numpy(dtype=object))[:, 0],
        rtol=1e-12,
    )
    unseen = pd.DataFrame({"merchant_category": ["casino"]})
    assert encoder.encode(unseen)["merchant_category"].item() == pytest.approx(y.mean())


def test_training_rows_are_encoded_by_the_other_stretches_of_time():
    X, y = table(missing=0)
    _, coded = fit_encoder(X, y, ["merchant_category"], "target", few=1, smoothing=7.0, blocks=4)
    names = X[["merchant_category"]].to_numpy(dtype=object)
    for own in np.array_split(np.arange(len(X)), 4):
        others = np.setdiff1d(np.arange(len(X)), own)
        oracle = TargetEncoder(target_type="binary", smooth=7.0).fit(names[others], y[others])
        np.testing.assert_allclose(coded["merchant_category"].to_numpy()[own], oracle.transform(names[own])[:, 0])


def test_a_row_s_own_label_never_enters_its_own_number():
    """Each label is turned in turn: the number of its own row must not move. A plain mean would."""
    X, y = table(60, missing=0)
    _, before = fit_encoder(X, y, ["merchant_category"], "target", few=1)
    for row in range(len(X)):
        turned = y.copy()
        turned[row] = ~turned[row]
        _, after = fit_encoder(X, turned, ["merchant_category"], "target", few=1)
        assert after["merchant_category"].iloc[row] == before["merchant_category"].iloc[row]


def test_a_column_of_noise_with_many_values_stays_noise():
    """With 600 random names for 3,000 rows, a plain target mean looks like a fine feature on its own training rows."""
    rng = np.random.default_rng(3)
    X = pd.DataFrame({"shop": pd.Series([f"s{number}" for number in rng.integers(0, 600, 3000)], dtype="str")})
    y = rng.random(3000) < 0.1
    encoder, coded = fit_encoder(X, y, ["shop"], "target", few=1, smoothing=1)
    assert abs(roc_auc_score(y, coded["shop"]) - 0.5) < 0.05
    assert roc_auc_score(y, encoder.encode(X)["shop"]) > 0.85  # what it would be with the own label


# -- frequency, codes, other, missing ------------------------------------------------------------------------------


def test_frequency_is_the_share_of_training_rows():
    X, y = table()
    encoder, coded = fit_encoder(X, y, ["merchant_category"], "frequency")
    share = X["merchant_category"].value_counts(normalize=False) / len(X)
    expected = X["merchant_category"].map(share).to_numpy(dtype=float, na_value=np.nan)
    np.testing.assert_allclose(coded["merchant_category"], expected)
    new = pd.DataFrame({"merchant_category": ["casino", None]})
    np.testing.assert_array_equal(encoder.encode(new)["merchant_category"], [0.0, np.nan])


def test_native_codes_follow_the_names_and_few_rows_are_pooled():
    X = pd.DataFrame({"kind": ["b"] * 12 + ["a"] * 10 + ["rare"] * 9 + ["c"] + [None] * 2})
    y = np.arange(len(X)) % 7 == 0
    encoder, coded = fit_encoder(X, y, ["kind"], "native")
    assert encoder.codings == (Coding("kind", ("a", "b"), (0.0, 1.0), 2.0, None),)
    assert coded["kind"].fillna(-1).tolist() == [1.0] * 12 + [0.0] * 10 + [2.0] * 10 + [-1.0] * 2
    assert "rare" not in json.dumps(encoder.to_dict())  # nine rows may point at a person
    assert encoder.native == ("kind",)


@pytest.mark.parametrize("method", ["native", "target", "frequency"])
def test_missing_stays_missing_where_training_knows_missing_values_and_is_other_elsewhere(method):
    new = pd.DataFrame({"amount": [1.0, 1.0], "merchant_category": [None, "casino"]})
    with_missing, without = table(), table(missing=0)
    assert np.isnan(fit_encoder(*with_missing, ["merchant_category"], method)[0].encode(new).iloc[0, 1])
    encoder, _ = fit_encoder(*without, ["merchant_category"], method)
    missing, other = encoder.encode(new)["merchant_category"]
    assert missing == other


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (pd.Series([5411, 5812] * 20), ("5411", "5812")),
        (pd.Series([5411.0, 5812.0, np.nan] * 20), ("5411", "5812")),
        (pd.Series([5411, 5812, None] * 20, dtype="Int64"), ("5411", "5812")),
        (pd.Series([True, False] * 20), ("False", "True")),
        (pd.Series(["b", "a"] * 20, dtype="category"), ("a", "b")),
        (pd.Series(["b", "a"] * 20, dtype=object), ("a", "b")),
    ],
    ids=["int", "float", "nullable", "bool", "category", "object of text"],
)
def test_a_category_is_the_same_however_it_is_stored(values, names):
    encoder, _ = fit_encoder(pd.DataFrame({"code": values}), np.arange(len(values)) % 3 == 0, ["code"], "native")
    assert encoder.codings[0].known == names


# -- in a model ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["native", "target", "frequency"])
def test_a_model_scores_names_it_never_saw_and_says_the_same_after_a_file(method, tmp_path):
    X, y = table()
    model = fitted(X, y, method)
    new = pd.DataFrame({"merchant_category": ["games", "casino", None, "books"], "amount": [20.0, 20.0, 20.0, 20.0]})
    score = model.score(new)
    assert score[0] > 0.15 > score[1:].max()  # only the risky category is risky, not what nobody knows
    parts = model.contributions(new)
    np.testing.assert_allclose(parts.sum(axis=1), model.margin(new), atol=1e-4)
    save_model(model, tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert again.encoder == model.encoder
    np.testing.assert_array_equal(again.score(new), score)


def test_native_categories_are_split_as_sets():
    """One tree of one split parts {games} from the rest, which no threshold on codes in this order can."""
    X, y = table()
    encoder, numbers = fit_encoder(X, y, ["merchant_category"], "native")
    stump = TREES.model_copy(update={"n_estimators": 1, "max_depth": 1})
    values = feature_matrix(numbers, ("amount", "merchant_category"))
    data = tree_data(values, y, ("amount", "merchant_category"), model=stump, categories=encoder.native, threads=1)
    trees, _ = boost(data, stump, 0, threads=1)
    model = FittedModel("xgboost", ("amount", "merchant_category"), trees, encoder=encoder)
    rows = pd.DataFrame({"amount": 20.0, "merchant_category": list(KINDS)})
    margin = model.margin(rows)
    assert [kind for kind, highest in zip(KINDS, margin == margin.max()) if highest] == ["games"]


def test_the_shift_is_in_score_contributions_and_file(tmp_path):
    X, y = table()
    plain = fitted(X, y, "native")
    shifted = FittedModel(plain.name, plain.features, plain.estimator, encoder=plain.encoder, shift=-1.5)
    np.testing.assert_allclose(shifted.margin(X), plain.margin(X) - 1.5)
    np.testing.assert_allclose(shifted.score(X), expit(plain.margin(X) - 1.5))
    np.testing.assert_allclose(shifted.contributions(X).sum(axis=1), shifted.margin(X), atol=1e-4)
    save_model(shifted, tmp_path / "model")
    np.testing.assert_array_equal(load_model(tmp_path / "model").margin(X), shifted.margin(X))


# -- in words ------------------------------------------------------------------------------------------------------


def test_reasons_name_the_category_but_never_an_identifier():
    X, y = table()
    X = X.assign(merchant_id=X["merchant_category"].map(lambda name: f"secret-{name}", na_action="ignore"))
    moved = pd.DataFrame({"amount": 0.1, "merchant_category": 2.0, "merchant_id": 0.5, "base": -3.0}, index=X.index)
    amount = Words("amount", "amount", "R01", "amount", "Amount.", "{value} paid", "amount")
    words = pd.DataFrame([amount, describe_category("merchant_category"), describe_category("merchant_id")])
    games = np.flatnonzero(X["merchant_category"] == "games")[:1]
    told = reasons(moved.iloc[games], X.iloc[games], words, top=5)[0]
    assert told[0] == "Merchant category: games"
    assert "secret" not in " ".join(told)
    only = reasons(moved[["merchant_id", "base"]].iloc[games], X.iloc[games], words, top=5)[0]
    assert only == ["This merchant"]
    unknown = np.flatnonzero(X["merchant_category"].isna())[:1]
    told = reasons(moved[["merchant_category", "base"]].iloc[unknown], X.iloc[unknown], words)[0]
    assert told == ["Not known for this payment: merchant category of the payment"]
    model = fitted(X[["amount", "merchant_category"]], y, "native")
    table_ = contributions(model, X)
    ranked = importance(table_, X, words).set_index("feature")
    assert np.isnan(ranked.loc["merchant_category", "direction"])
    assert ranked.loc["merchant_category", "mean_abs"] > 0
    assert set(dependence(table_, X)["feature"]) == {"amount"}


# -- the default way: features of the engine ------------------------------------------------------------------------


def test_risk_by_category_is_an_ordered_target_encoding_that_knows_each_label_in_time(transactions):
    """Brute force: frauds among labels known at the payment's moment; turning later labels moves nothing before."""
    frame = transactions.iloc[:1500].reset_index(drop=True)
    features = FeatureSet("ordered", [risk(by="merchant_id", window="30d", prior=(0.02, 20))])
    found = features.compute(frame).iloc[:, 0].to_numpy()
    moment, told = frame["event_time"], frame["label_time"]
    for row in range(0, len(frame), 37):
        same = frame["merchant_id"] == frame["merchant_id"].iloc[row]
        known = same & (moment < moment[row]) & (moment > moment[row] - pd.Timedelta(days=30)) & (told <= moment[row])
        frauds = frame.loc[known, "is_fraud"].sum()
        assert found[row] == pytest.approx((frauds + 0.02 * 20) / (known.sum() + 20))
    cut = moment.iloc[1000]
    unknown = told > cut
    turned = frame.assign(is_fraud=frame["is_fraud"].where(~unknown, ~frame["is_fraud"]))
    earlier = (moment <= cut).to_numpy()
    assert unknown[earlier].any()
    np.testing.assert_array_equal(features.compute(turned).iloc[:, 0].to_numpy()[earlier], found[earlier])


# -- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("X", "sentence"),
    [
        ({"kind": [0.5, 1.5]}, r"must hold text, whole numbers or booleans; found float\w* in type float64"),
        ({"kind": pd.Series([object(), object()])}, r"must hold text, whole numbers or booleans; found object in type"),
        ({"kind": pd.Series(["a", 1], dtype=object)}, r"must hold values of one type; found text and numbers"),
        ({"kind": pd.Series([None, None], dtype="str")}, r"must have values in the training rows; found none in 2"),
        ({"sort": ["a", "b"]}, r"categories: column 'kind' is missing"),
    ],
)
def test_columns_that_hold_no_categories_are_refused(X, sentence):
    with pytest.raises(InputError, match=sentence) as refused:
        fit_encoder(pd.DataFrame(X), [True, False], ["kind"], "native")
    assert "\n" not in str(refused.value)


def test_other_bad_arguments_are_refused():
    X = pd.DataFrame({"kind": ["a", "b"]})
    with pytest.raises(InputError, match="unknown method 'targt'; did you mean 'target'"):
        fit_encoder(X, [True, False], ["kind"], "targt")
    with pytest.raises(InputError, match="need a known label for each training row; found 2 labels, 1 of them unknown"):
        fit_encoder(X, pd.array([True, None], "boolean"), ["kind"], "target")
    with pytest.raises(InputError, match="blocks: must be at least 2; found 1"):
        fit_encoder(X, [True, False], ["kind"], "target", blocks=1)
    with pytest.raises(InputError, match="categories: column 'kind' is missing"):
        Encoder("native", (Coding("kind", ("a",), (0.0,), 1.0),)).encode(pd.DataFrame({"knd": ["a"]}))


@pytest.mark.parametrize("name", ["customer_id", "card_id", "device_id", "ip", "is_fraud", "fraud_scenario", "amount"])
def test_people_labels_and_numbers_are_no_categories(name):
    with pytest.raises(ValueError, match=f"'{name}' (points at a person|is known only after|is a number)"):
        FeaturesConfig(categories=(name,))


def test_constraints_on_a_category_are_refused_when_the_config_is_read():
    settings = {
        "name": "x",
        "dataset": {"name": "x", "source": "simulate", "contract": "x.toml"},
        "features": {"categories": ["channel"], "encoding": "target"},
    }
    assert RunConfig.model_validate(settings).features.categories == ("channel",)
    with pytest.raises(ValueError, match=r"model\.monotone names 'channel', a category"):
        RunConfig.model_validate(settings | {"model": {"monotone": {"channel": 1}}})
