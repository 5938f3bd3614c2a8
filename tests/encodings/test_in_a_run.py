"""Categories and weights all the way: fold, model, package, reasons."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fraudlab import explaining, recipe
from fraudlab.config import ModelConfig, RunConfig, SamplingConfig, SplitConfig
from fraudlab.decisions import Thresholds
from fraudlab.features import FeatureSet, count, mean, value
from fraudlab.schema import InputError
from fraudlab.serving import load_package, save_package
from fraudlab.splits import temporal_fold
from fraudlab.training import RowWeights, fit_fold, fit_models

FEATURES = FeatureSet(
    "small", [value("amount"), count(by="customer_id", window="7d"), mean("amount", "customer_id", "7d")]
)
TREES = ModelConfig(n_estimators=25, max_depth=3, max_bin=64, early_stopping_rounds=0, calibration="sigmoid")
SPLIT = SplitConfig(
    train_days=20, delay_days=9, valid_days=10, test_days=8, min_positives=5, exclude_known_compromised=False
)


@pytest.fixture(scope="module")
def prepared(transactions):
    inputs = FEATURES.compute(transactions).assign(merchant_id=transactions["merchant_id"])
    return transactions, inputs, temporal_fold(transactions, SPLIT)


@pytest.mark.parametrize("encoding", ["native", "target", "frequency"])
@pytest.mark.parametrize("kind", ["xgboost", "logistic", "lightgbm"])
def test_what_is_learnt_about_categories_comes_from_the_rows_fitted_on(prepared, encoding, kind):
    """Everything after the rows fitted on is exchanged, names and labels: the encoder does not move."""
    pytest.importorskip(kind if kind == "lightgbm" else "xgboost")
    transactions, inputs, fold = prepared
    settings = {"model": TREES.model_copy(update={"kind": kind}), "seed": 0, "threads": 1}
    model = fit_fold(
        inputs,
        transactions["is_fraud"],
        fold,
        categories=["merchant_id"],
        encoding=encoding,
        min_positives=5,
        **settings,
    )
    last = fold.refit[-1]
    later = np.arange(len(inputs)) > max(last, fold.valid[-1])
    changed = inputs.assign(merchant_id=inputs["merchant_id"].mask(later, "never seen"))
    turned = transactions["is_fraud"].mask(later, ~transactions["is_fraud"])
    again = fit_fold(changed, turned, fold, categories=["merchant_id"], encoding=encoding, min_positives=5, **settings)
    assert again.encoder == model.encoder
    np.testing.assert_array_equal(again.score(inputs), model.score(inputs))
    assert np.isfinite(again.score(changed)).all()
    assert model.encoder.method == ("target" if kind == "logistic" and encoding == "native" else encoding)


def test_a_package_takes_the_name_itself_and_never_says_an_identifier(prepared, tmp_path):
    transactions, inputs, fold = prepared
    models = fit_models(
        inputs,
        transactions["is_fraud"],
        fold,
        model=TREES,
        seed=0,
        describe=FEATURES.describe(),
        categories=["merchant_id"],
        min_positives=5,
        threads=1,
    )
    assert set(models) >= {"xgboost", "logistic", "rules"}
    model = models["xgboost"]
    save_package(tmp_path / "package", model, Thresholds(review=0.3, step_up=0.05), FEATURES.describe(), {"name": "x"})
    package = load_package(tmp_path / "package")
    rows = inputs.iloc[fold.test[:400]]
    scored = package.score(rows)
    np.testing.assert_array_equal(scored["score"], model.score(rows))
    said = {sentence for sentences in scored["reasons"] for sentence in sentences}
    assert "This merchant" in said
    assert not any(name in sentence for sentence in said for name in transactions["merchant_id"].unique())
    unseen = package.score(rows.assign(merchant_id="never seen"))
    assert unseen["score"].notna().all()
    with pytest.raises(InputError, match="missing are 1 of 4: 'merchant_id'"):
        package.score(rows.drop(columns="merchant_id"))


def test_a_sampled_fit_ranks_as_fitted_and_states_the_unsampled_risk(prepared):
    transactions, inputs, fold = prepared
    inputs = inputs.drop(columns="merchant_id")
    y = transactions["is_fraud"]
    settled = TREES.model_copy(update={"n_estimators": 100, "learning_rate": 0.2, "max_depth": 2})

    def fit(sampling: SamplingConfig):
        weight = RowWeights(transactions, inputs, sampling, as_of=fold.test_start, model=settled, seed=0, threads=1)
        return fit_fold(inputs, y, fold, model=settled, seed=0, weight=weight, min_positives=5, threads=1)

    plain, sampled = fit(SamplingConfig()), fit(SamplingConfig(genuine_per_fraud=3, fraud_weight=2))
    frauds = int(y.iloc[fold.refit].sum())
    assert sampled.facts["rows"] == 4 * frauds
    assert plain.shift == 0.0
    assert sampled.shift == pytest.approx(np.log(3 * frauds / (len(fold.refit) - frauds) / 2))
    rows = inputs.iloc[fold.refit]
    assert sampled.score(rows).mean() == pytest.approx(plain.score(rows).mean(), rel=0.6)
    unshifted = 1 / (1 + np.exp(-(sampled.margin(rows) - sampled.shift)))
    assert unshifted.mean() > 4 * plain.score(rows).mean()
    assert pd.Series(unshifted).rank().equals(pd.Series(sampled.score(rows)).rank())


def test_a_recipe_names_its_categories_once_and_every_step_takes_them(prepared):
    transactions, inputs, fold = prepared
    config = RunConfig.model_validate(
        {
            "name": "small",
            "dataset": {"name": "small", "source": "simulate", "contract": "small.toml"},
            "features": {"categories": ["merchant_id", "country"], "encoding": "native"},
            "model": TREES.model_dump(),
            "sampling": {"genuine_per_fraud": 8},
            "split": SPLIT.model_dump(),
            "decision": {"alerts_per_day": 3, "step_up_per_day": 5},
        }
    )
    rows = inputs.assign(country=transactions["country"])
    ready = recipe.Prepared(transactions, rows, FEATURES, fold)
    fitted = recipe.fit(config, ready, threads=1)
    assert fitted.candidate.encoder.columns == ("merchant_id", "country")
    assert fitted.candidate.shift < -0.3
    assert fitted.models["logistic"].encoder.method == "target"
    assert fitted.models["rules"].encoder is None
    assert set(recipe.single_feature_ranking(ready)["feature"]) == set(FEATURES.columns)
    alerts = explaining.alert_examples(fitted.candidate, ready, fitted.thresholds.to_dict(), config, n=4)
    shown = {part["feature"]: part["value"] for alert in alerts for part in alert["contributions"]}
    assert shown["merchant_id"] is None
    assert shown["country"] in ("DE", "US")
