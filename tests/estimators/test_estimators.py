"""Every other kind of model is held against its own library, by brute force, and through file, package and MLflow."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import RidgeClassifier, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from fraudlab import estimators, explain, plots
from fraudlab.calibration import fit_calibrator
from fraudlab.config import ModelConfig
from fraudlab.decisions import Thresholds
from fraudlab.forest import Forest, forest_of
from fraudlab.model_files import load_model, save_model
from fraudlab.models import FittedModel
from fraudlab.schema import InputError
from fraudlab.serving import load_package, save_package
from fraudlab.training import fit_estimator

# CatBoost is an extra (`make extras`) that not every environment has; the others are always there.
BOOSTERS = ("lightgbm", "catboost") if find_spec("catboost") else ("lightgbm",)
KINDS = ("random_forest", "balanced_bagging", *BOOSTERS)
NAMES = ["amount", "ratio", "count", "device"]
DESCRIBE = pd.DataFrame(
    {
        "column": NAMES,
        "group": ["amount", "amount", "pace", "device"],
        "meaning": ["the amount", "amount against own mean", "payments in a day", "device not seen before"],
        "template": ["{value} paid", "{value} times usual", "{value} payments in a day", "A new device"],
        "kind": ["amount", "ratio", "count", "flag"],
    }
)


def rows(count: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(
        {
            "amount": np.round(rng.lognormal(3, 1, count), 2),
            "ratio": rng.lognormal(0, 0.6, count),
            "count": rng.poisson(2, count).astype(float),
            "device": (rng.random(count) < 0.1).astype(float),
        }
    )
    push = -6.5 + 1.5 * np.log(X["ratio"]) + 0.6 * np.log(X["amount"]) + 2.5 * X["device"] + 0.3 * X["count"]
    y = rng.random(count) < expit(push.to_numpy())
    X.loc[rng.random(count) < 0.15, "ratio"] = np.nan
    return X, y


@pytest.fixture(scope="module")
def data():
    return rows(3000, 0)


def settings(kind: str, **changes) -> ModelConfig:
    return ModelConfig(kind=kind, n_estimators=20, max_depth=5, **changes)


def fitted(data, kind: str, *, seed: int = 1, threads: int = 1, weight=None, **changes) -> FittedModel:
    return fit_estimator(*data, model=settings(kind, **changes), seed=seed, threads=threads, weight=weight)


@pytest.fixture(scope="module")
def models(data) -> dict[str, FittedModel]:
    X_valid, y_valid = rows(2000, 1)
    made = {kind: fitted(data, kind) for kind in KINDS}
    return {
        kind: replace(model, calibrator=fit_calibrator(model.score(X_valid), y_valid, "beta"))
        for kind, model in made.items()
    }


# -- all of them ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_gives_the_same_bits_on_one_thread_or_two_and_equal_files(data, kind, tmp_path):
    once, twice = (fitted(data, kind, threads=threads, subsample=0.8, colsample_bytree=0.75) for threads in (1, 2))
    other = fitted(data, kind, seed=2, subsample=0.8, colsample_bytree=0.75)
    X = rows(1000, 5)[0]
    np.testing.assert_array_equal(once.margin(X), twice.margin(X))
    assert (once.margin(X) != other.margin(X)).any()
    assert save_model(once, tmp_path / "a") == save_model(twice, tmp_path / "b")


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_scores_the_same_alone_and_in_any_company(models, kind):
    X = rows(25, 6)[0]
    together = models[kind].margin(X)
    np.testing.assert_array_equal([models[kind].margin(X.iloc[[row]])[0] for row in range(25)], together)
    np.testing.assert_array_equal(models[kind].margin(X[X.columns[::-1]].assign(more=1)), together)
    assert models[kind].score(X.iloc[:0]).shape == (0,)
    assert explain.contributions(models[kind], X.iloc[:0]).shape == (0, 5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_the_same_from_its_file_its_package_and_no_byte_may_change(models, kind, tmp_path):
    model, X = models[kind], rows(400, 7)[0]
    digest = save_model(model, tmp_path / "model")
    again = load_model(tmp_path / "model", digest=digest)
    for method in ("margin", "risk", "contributions"):
        np.testing.assert_array_equal(getattr(again, method)(X), getattr(model, method)(X))
    save_package(tmp_path / "package", model, Thresholds(review=0.2, step_up=0.1), DESCRIBE, {})
    scored = load_package(tmp_path / "package").score(X)
    np.testing.assert_array_equal(scored["score"], model.score(X))
    assert scored.loc[scored["tier"] > "low", "reasons"].map(len).max() > 0
    (path,) = (each for each in (tmp_path / "model").iterdir() if each.name != "model.json")
    whole = bytearray(path.read_bytes())
    for place in np.random.default_rng(0).integers(0, len(whole), 20):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(InputError, match=r"must be exactly what was saved; .* is damaged"):
            load_model(tmp_path / "model")


def test_what_mlflow_loads_scores_as_the_model(data, models, tmp_path):
    from fraudlab.serving_pyfunc import ScoringModel

    X, y = data
    wrapped = estimators.wrap(HistGradientBoostingClassifier(max_iter=5), X, y)
    for kind, model in {**models, "wrapped": wrapped}.items():
        save_package(tmp_path / kind, model, Thresholds(review=0.2, step_up=0.1), DESCRIBE, {})
        served = ScoringModel()
        served.load_context(SimpleNamespace(artifacts={"package": str(tmp_path / kind)}))
        scored = served.predict(None, X.iloc[:50])
        np.testing.assert_array_equal(scored["score"], model.score(X.iloc[:50]))
        assert scored["reasons"].str.len().max() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_contributions_sum_to_the_margin_and_have_one_base(models, kind):
    X = rows(300, 8)[0]
    table = explain.contributions(models[kind], X)
    np.testing.assert_allclose(table.sum(axis=1), models[kind].margin(X), atol=1e-4)
    assert table["base"].nunique() == 1
    assert (table["device"][X["device"] == 1] > 0).mean() > 0.9  # what the data were made with


@pytest.mark.parametrize("kind", KINDS)
def test_a_monotone_feature_never_lowers_the_score(data, kind):
    model = fitted(data, kind, monotone={"count": -1})  # against the truth: it may only fall
    raised = rows(300, 9)[0]
    scores = np.array([model.margin(raised.assign(count=float(value))) for value in range(8)])
    assert (np.diff(scores, axis=0) <= 1e-12).all()
    free = fitted(data, kind)
    assert (np.diff([free.margin(raised.assign(count=float(value))) for value in range(8)], axis=0) > 0).any()


@pytest.mark.parametrize("kind", KINDS)
def test_weights_count(data, kind):
    X, y = data
    even = fitted(data, kind, weight=np.full(len(y), 1.0))
    heavy = fitted(data, kind, weight=np.where(y, 30.0, 1.0))
    if kind == "random_forest":  # which draws by weight: other bags, the same on average
        assert even.score(X).mean() == pytest.approx(y.mean(), rel=0.1)
    else:
        np.testing.assert_allclose(even.margin(X), fitted(data, kind).margin(X), atol=1e-9)
    assert heavy.score(X).mean() > 1.5 * even.score(X).mean()


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_kind_cannot_keep_is_refused(data, kind):
    with pytest.raises(InputError, match=f"model.device: kind {kind} is fitted on the CPU only; found 'cuda'"):
        fitted(data, kind, device="cuda")
    with pytest.raises(InputError, match=f"model.members: only kind xgboost .* found 3 for {kind}; set it to 1"):
        fitted(data, kind, members=3)
    with pytest.raises(InputError, match=r"model.monotone: 'cuont' is none of the features; did you mean 'count'"):
        fitted(data, kind, monotone={"cuont": 1})
    if kind == "catboost":
        with pytest.raises(InputError, match=r"model.max_depth: catboost grows trees of depth 16 at most; found 20"):
            fit_estimator(*data, model=ModelConfig(kind=kind, max_depth=20), seed=1, threads=1)


@pytest.mark.parametrize("kind", BOOSTERS)
def test_a_library_that_is_not_installed_is_named_with_its_extra(data, models, kind, monkeypatch, tmp_path):
    save_model(models[kind], tmp_path / "model")

    def absent(name, *rest, **others):
        if name == kind:
            raise ImportError
        return found(name, *rest, **others)

    found = estimators.importlib.import_module
    monkeypatch.setattr(estimators.importlib, "import_module", absent)
    with pytest.raises(InputError, match=rf"model.kind: {kind} is a library .* pip install 'fraudlab\[boosters\]'"):
        fitted(data, kind)
    with pytest.raises(InputError, match=rf"is of the library {kind}; found it not installed"):
        load_model(tmp_path / "model")


@pytest.mark.parametrize("kind", BOOSTERS)
def test_boosting_stops_at_the_best_later_average_precision(data, kind):
    valid = rows(1500, 2)
    model = fit_estimator(
        *data,
        model=ModelConfig(kind=kind, n_estimators=150, max_depth=4, early_stopping_rounds=15, learning_rate=0.3),
        seed=1,
        threads=1,
        X_valid=valid[0],
        y_valid=valid[1],
    )
    facts = model.facts
    assert facts["trees"] == facts["rounds"] == facts["best_iteration"] + 1 < 135
    longer = fit_estimator(
        *data,
        model=ModelConfig(kind=kind, n_estimators=facts["trees"], max_depth=4, learning_rate=0.3),
        seed=1,
        threads=1,
    )
    np.testing.assert_array_equal(longer.margin(data[0]), model.margin(data[0]))
    json.dumps(facts, allow_nan=False)


# -- forests -------------------------------------------------------------------------------------------------------


def with_gaps(count: int, seed: int) -> np.ndarray:
    """Inputs with missing values, ties, values next to thresholds, and a column that is only there or not."""
    rng = np.random.default_rng(seed)
    values = np.round(rng.normal(size=(count, 5)), 1)
    values[:, 1] = rng.normal(size=count)
    values[rng.random((count, 5)) < 0.1] = np.nan
    values[:, 4] = np.where(rng.random(count) < 0.3, np.nan, 1.0)
    return values


@pytest.fixture(scope="module")
def library() -> tuple[RandomForestClassifier, Forest]:
    values = with_gaps(3000, 0)
    y = np.nan_to_num(values[:, 0]) + np.isnan(values[:, 4]) + np.random.default_rng(1).normal(size=3000) > 2.2
    weight = np.random.default_rng(2).random(3000) + 0.1
    forest = RandomForestClassifier(30, random_state=0).fit(values, y, sample_weight=weight)
    return forest, forest_of(forest.estimators_, rows=3000)


def test_a_forest_is_scikit_learns_to_the_last_bits(library):
    theirs, ours = library
    assert np.isinf(ours.threshold).any()  # splits of the missing from all others
    far = np.array([[np.finfo("float32").max, -1e30, 0.0, np.nan, 1.0], [np.nan] * 5])
    edges = np.repeat(with_gaps(1, 3), len(ours.threshold), axis=0)  # on, just above and just below every threshold
    inner = ours.left != -1
    for step in (-1e-7, 0, 1e-7):
        at = np.clip(ours.threshold * (1 + step), -1e30, 1e30)
        edges[np.flatnonzero(inner), ours.feature[inner]] = at[inner]
        for values in (edges, far, with_gaps(3000, 0), with_gaps(2000, 4)):
            np.testing.assert_allclose(ours.probability(values), theirs.predict_proba(values)[:, 1], atol=1e-12, rtol=0)


def test_a_fitted_random_forest_is_the_library_with_the_stated_settings(data):
    X, y = data
    model = fitted(data, "random_forest")
    oracle = RandomForestClassifier(n_estimators=20, max_depth=5, random_state=1).fit(X, y)
    test = rows(1000, 3)[0]
    share = oracle.predict_proba(test)[:, 1]
    np.testing.assert_allclose(model.estimator.probability(test.to_numpy()), share, atol=1e-12)
    # The score: half a row more on either side, which keeps the order and every score inside (0, 1).
    np.testing.assert_allclose(model.score(test), (3000 * share + 0.5) / 3001, atol=1e-12)
    bare = fit_estimator(X, y, model=ModelConfig(kind="random_forest"), seed=1, threads=1).facts
    assert (bare["trees"], bare["params"]["max_depth"]) == (100, 20)


def path_dependent_shapley(trees: list[DecisionTreeClassifier], row: np.ndarray) -> np.ndarray:
    """Shapley's formula over all subsets; what is not known is averaged over the branches by training weight."""
    count = len(row)

    def value(tree, node: int, known: frozenset[int]) -> float:
        if tree.children_left[node] == -1:
            return tree.value[node, 0, 1] / tree.value[node, 0].sum()
        left, right, feature = tree.children_left[node], tree.children_right[node], tree.feature[node]
        if feature in known:
            found = np.float32(row[feature])
            goes_left = tree.missing_go_to_left[node] if np.isnan(found) else found <= tree.threshold[node]
            return value(tree, left if goes_left else right, known)
        weights = tree.weighted_n_node_samples[[left, right]]
        return float(np.average([value(tree, left, known), value(tree, right, known)], weights=weights))

    def worth(known: frozenset[int]) -> float:
        return float(np.mean([value(each.tree_, 0, known) for each in trees]))

    subsets = [frozenset(s) for size in range(count + 1) for s in itertools.combinations(range(count), size)]
    game = {subset: worth(subset) for subset in subsets}
    out = np.zeros(count)
    for feature, subset in itertools.product(range(count), subsets):
        if feature not in subset:
            weight = math.factorial(len(subset)) * math.factorial(count - len(subset) - 1) / math.factorial(count)
            out[feature] += weight * (game[subset | {feature}] - game[subset])
    return np.append(out, game[frozenset()])


def test_forest_contributions_are_shapley_values_stretched_to_the_log_odds(library):
    theirs, _ = library
    few = forest_of(theirs.estimators_[:4], rows=3000)
    values = with_gaps(3000, 0)[[0, 1, 2, 5]]
    for row, found in zip(values, few.contributions(values)):
        exact = path_dependent_shapley(theirs.estimators_[:4], row)

        def log_odds(share: float) -> float:
            return logit((3000 * share + 0.5) / 3001)

        stretch = (log_odds(exact.sum()) - log_odds(exact[-1])) / exact[:-1].sum()
        np.testing.assert_allclose(found[:-1], exact[:-1] * stretch, atol=2e-5)
        assert found[-1] == pytest.approx(log_odds(exact[-1]), abs=1e-5)


def test_a_forest_without_a_split_says_the_base_rate_and_moves_nothing():
    forest = forest_of([DecisionTreeClassifier().fit(np.ones((10, 2)), [True] * 3 + [False] * 7)], rows=10)
    np.testing.assert_allclose(forest.probability(np.array([[1.0, np.nan], [5.0, 2.0]])), 0.3)
    np.testing.assert_allclose(forest.contributions(np.ones((1, 2))), [[0, 0, logit(3.5 / 11)]], atol=1e-6)


@pytest.mark.parametrize("genuine_per_fraud", [1.0, 4.0])
def test_bags_hold_the_stated_genuine_rows_for_each_fraud_and_log_odds_are_moved_back(data, genuine_per_fraud):
    X, y = data
    model = fit_estimator(
        X, y, model=settings("balanced_bagging"), seed=0, threads=1, genuine_per_fraud=genuine_per_fraud
    )
    forest = model.estimator
    np.testing.assert_allclose(forest.value[forest.root], 1 / (1 + genuine_per_fraud), atol=0.01)
    bag = forest.cover[forest.root]
    assert bag.mean() == pytest.approx((1 + genuine_per_fraud) * y.sum(), rel=0.05)
    assert bag.std() > 0  # each bag is a new bootstrap
    kept = genuine_per_fraud * y.sum() / (~y).sum()
    assert forest.shift == pytest.approx(np.log(kept))
    # By the corrected score about as many frauds are expected as there are; by the one of the bags far more.
    X_test, y_test = rows(20_000, 4)
    assert 0.6 < model.score(X_test).sum() / y_test.sum() < 1.5
    assert forest.probability(X_test.to_numpy()).sum() / y_test.sum() > 2


def test_with_more_genuine_rows_wanted_than_there_are_all_are_kept(data):
    X, y = data
    model = fit_estimator(X, y, model=settings("balanced_bagging"), seed=0, threads=1, genuine_per_fraud=10_000.0)
    assert model.estimator.shift == 0
    np.testing.assert_allclose(model.estimator.cover[model.estimator.root], 3000)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"left": "loop"}, "children come after their parent, in its own tree"),
        ({"feature": "wide"}, "splits are on inputs that exist"),
        ({"value": "large"}, "shares of fraud lie in"),
        ({"cover": "short"}, "every array has one entry for each node"),
        ({"root": "twice"}, "every tree has nodes of its own"),
        ({"threshold": "whole numbers"}, "another kind of 'threshold'"),
        ({"value": "absent"}, "holds no forest"),
    ],
)
def test_a_file_that_is_no_forest_is_refused_even_if_its_sums_are_right(models, tmp_path, change, rule):
    forest = models["random_forest"].estimator
    inner = int(np.flatnonzero(forest.left != -1)[3])
    wrong = {
        "loop": lambda a: np.where(np.arange(len(a)) == inner, 0, a).astype(a.dtype),
        "wide": lambda a: np.where(np.arange(len(a)) == inner, 4, a).astype(a.dtype),
        "large": lambda a: a + 1.0,
        "short": lambda a: a[:-1],
        "twice": lambda a: np.repeat(a, 2),
        "whole numbers": lambda a: np.nan_to_num(a, posinf=0).astype("int64"),
    }
    ((name, what),) = change.items()
    if what == "absent":
        save_model(models["lightgbm"], tmp_path / "text")
        payload = (tmp_path / "text" / "lightgbm.txt").read_bytes()
    else:
        broken = replace(forest, **{name: wrong[what](getattr(forest, name))})
        save_model(replace(models["random_forest"], estimator=broken), tmp_path / "broken")
        payload = None
    if payload is None:
        with pytest.raises(InputError, match=rule):
            load_model(tmp_path / "broken")
        return
    from fraudlab.model_files import _forest

    with pytest.raises(InputError, match=rule):
        _forest(payload, tmp_path)


# -- any classifier ------------------------------------------------------------------------------------------------

CLASSIFIERS = [
    GaussianNB(),
    HistGradientBoostingClassifier(max_iter=10),
    make_pipeline(SimpleImputer(add_indicator=True), StandardScaler(), KNeighborsClassifier(15)),
    make_pipeline(SimpleImputer(), StandardScaler(), SGDClassifier(loss="log_loss")),
    ExtraTreesClassifier(10),
    make_pipeline(SimpleImputer(), StandardScaler(), LinearSVC()),
    make_pipeline(SimpleImputer(), StandardScaler(), MLPClassifier((4,), tol=1e-2)),
    CalibratedClassifierCV(DecisionTreeClassifier(max_depth=3), cv=2),
    make_pipeline(SimpleImputer(), StandardScaler(), RidgeClassifier()),
]


@pytest.mark.parametrize(
    "classifier", CLASSIFIERS, ids=lambda each: type(each[-1] if hasattr(each, "steps") else each).__name__
)
def test_any_classifier_scores_as_itself_and_from_its_file(data, classifier, tmp_path):
    X, y = data
    X = X.fillna({"ratio": 1.0}) if isinstance(classifier, GaussianNB) else X
    model = estimators.wrap(classifier, X, y, name="other", seed=3)
    again = estimators.wrap(classifier, X, y, name="other", seed=3)
    np.testing.assert_array_equal(model.margin(X), again.margin(X))
    kept = model.estimator.classifier
    if hasattr(kept, "predict_proba"):
        np.testing.assert_allclose(model.score(X), kept.predict_proba(X.to_numpy())[:, 1], atol=1e-12)
    else:
        np.testing.assert_allclose(model.margin(X), kept.decision_function(X.to_numpy()), rtol=1e-9)
    assert model.score(X[y]).mean() > model.score(X[~y]).mean()
    assert not hasattr(classifier, "classes_")  # the one given is left alone
    model = replace(model, calibrator=fit_calibrator(model.score(X), y))
    save_model(model, tmp_path / "model")
    np.testing.assert_array_equal(load_model(tmp_path / "model").risk(X), model.risk(X))
    json.dumps(model.facts, allow_nan=False)


def test_a_classifier_fitted_elsewhere_on_a_table_is_taken_as_it_is(data, tmp_path):
    X, y = data
    theirs = HistGradientBoostingClassifier(max_iter=5, random_state=0).fit(X, y)
    model = estimators.wrap(theirs, X.iloc[:0], name="theirs")
    np.testing.assert_allclose(model.score(X), theirs.predict_proba(X)[:, 1], atol=1e-12)
    save_model(model, tmp_path / "model")
    np.testing.assert_array_equal(load_model(tmp_path / "model").margin(X), model.margin(X))
    with pytest.raises(
        InputError, match="wants its inputs by name and in its order; found another column where 'amount'"
    ):
        estimators.wrap(theirs, X[X.columns[::-1]])
    with pytest.raises(InputError, match="was fitted on 4 inputs; found 3 columns"):
        estimators.wrap(theirs, X.iloc[:, :3])


def test_classifiers_that_cannot_be_wrapped_are_refused(data):
    X, y = data
    with pytest.raises(InputError, match="must have fit and predict_proba or decision_function; found StandardScaler"):
        estimators.wrap(StandardScaler(), X, y)
    with pytest.raises(InputError, match="without y it must be fitted; found GaussianNB not fitted"):
        estimators.wrap(GaussianNB(), X)
    with pytest.raises(InputError, match="two classes, genuine and fraud; found 3 in GaussianNB"):
        estimators.wrap(GaussianNB().fit(X[["amount"]], np.arange(len(X)) % 3), X[["amount"]])
    with pytest.raises(
        InputError, match="weight: KNeighborsClassifier takes no sample_weight; found weights for 3,000"
    ):
        estimators.wrap(KNeighborsClassifier(), X.fillna(0), y, weight=np.ones(len(y)))
    with pytest.raises(InputError, match="training: labels must be known; found 1 unknown of 3,000 rows"):
        estimators.wrap(GaussianNB(), X, pd.array([pd.NA, *y[1:]], dtype="boolean"))


class Homemade(ClassifierMixin, BaseEstimator):
    """A classifier by nobody's library."""

    classes_ = (False, True)

    def fit(self, X, y):
        return self

    def predict_proba(self, X):
        return np.column_stack([1 - X[:, 3] / 2, X[:, 3] / 2])

    def __sklearn_is_fitted__(self):
        return True


def test_a_classifier_of_foreign_parts_scores_but_is_not_kept(data, tmp_path):
    X, _ = data
    model = estimators.wrap(Homemade(), X)
    np.testing.assert_allclose(model.score(X), X["device"] / 2, atol=1e-11)
    with pytest.raises(
        InputError, match=r"kept without pickles only if .* found .*Homemade in Homemade; use it in Python"
    ):
        save_model(model, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_file_with_foreign_parts_is_not_loaded(data, tmp_path, monkeypatch):
    X, y = data
    monkeypatch.setattr("fraudlab.model_files.TRUSTED", ("sklearn.tree._tree.Tree",))
    save_model(estimators.wrap(ExtraTreesClassifier(3), X, y), tmp_path / "model")
    monkeypatch.setattr("fraudlab.model_files.TRUSTED", ())
    with pytest.raises(InputError, match=r"it holds sklearn.tree._tree.Tree, which is not loaded from files"):
        load_model(tmp_path / "model")


def test_an_unknown_model_says_that_its_scores_cannot_be_explained(data, tmp_path):
    X, y = data
    model = estimators.wrap(ExtraTreesClassifier(3), X, y)
    table = explain.contributions(model, X)
    assert list(table.columns) == ["base"]
    np.testing.assert_array_equal(table["base"], model.margin(X))
    importance = explain.importance(table, X, DESCRIBE)
    assert importance.empty
    for picture in (
        plots.importance(importance),
        plots.dependence(explain.dependence(table, X)),
        plots.waterfall({"case": 1, "base": -3.0, "margin": -3.0, "contributions": []}),
    ):
        assert "not available for this kind of model" in picture.alt
    alerts = explain.example_alerts(
        model,
        X,
        pd.DataFrame(
            {
                "event_time": pd.Timestamp("2026-01-01", tz="UTC"),
                "customer_id": np.arange(len(X)).astype(str),
                "amount": X["amount"],
            }
        ),
        y,
        model.score(X),
        np.full(len(X), "high"),
        np.full(len(X), "manual_review"),
        DESCRIBE,
    )
    assert len(alerts) == 5
    assert {tuple(alert["reasons"]) for alert in alerts} == {("Reasons are not available for this kind of model",)}
    json.dumps(alerts, allow_nan=False)
    save_package(tmp_path / "package", model, Thresholds(review=0.2, step_up=0.1), DESCRIBE, {})
    scored = load_package(tmp_path / "package").score(X)
    told = scored.loc[scored["tier"] > "low", "reasons"]
    assert len(told)
    assert all(each == ["Reasons are not available for this kind of model"] for each in told)


# -- a classifier named in the config --------------------------------------------------------------------------------


def test_a_classifier_named_in_the_config_is_fitted_as_scikit_learn_fits_it(data):
    X, y = data
    named = ModelConfig(
        kind="wrapped", classifier="sklearn.ensemble.HistGradientBoostingClassifier", params={"max_iter": 7}
    )
    model = fit_estimator(X, y, model=named, seed=3)
    theirs = HistGradientBoostingClassifier(max_iter=7, random_state=3).fit(X.to_numpy(float), y)
    np.testing.assert_allclose(model.score(X), theirs.predict_proba(X.to_numpy(float))[:, 1], rtol=1e-12)
    assert model.facts["params"]["max_iter"] == 7
    assert not model.explains


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind": "wrapped"}, "state both or neither"),
        ({"classifier": "sklearn.ensemble.ExtraTreesClassifier"}, "state both or neither"),
        ({"params": {"a": 1}}, "belong to kind = 'wrapped'"),
        ({"kind": "wrapped", "classifier": "os.system"}, "pattern"),
        ({"kind": "wrapped", "classifier": "sklearn.os.System()"}, "pattern"),
    ],
)
def test_a_config_that_names_no_classifier_of_scikit_learn_is_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        ModelConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"classifier": "sklearn.ensemble.NoSuchForest"}, "scikit-learn has no sklearn.ensemble.NoSuchForest"),
        ({"classifier": "sklearn.ensemble.ExtraTreesClassifier", "params": {"tree": 1}}, "does not take them"),
        ({"classifier": "sklearn.neighbors.KNeighborsClassifier"}, "takes no missing values"),
        ({"classifier": "sklearn.preprocessing.StandardScaler"}, "predict_proba or decision_function"),
        ({"classifier": "sklearn.naive_bayes.GaussianNB", "monotone": {"amount": 1}}, "keeps no constraints"),
    ],
)
def test_a_named_classifier_that_cannot_be_used_is_refused_in_a_sentence(data, settings, said):
    X, y = data
    X = X.assign(amount=X["amount"].where(np.arange(len(X)) > 3))
    with pytest.raises(InputError, match=said):
        fit_estimator(X, y, model=ModelConfig(kind="wrapped", **settings), seed=3)
