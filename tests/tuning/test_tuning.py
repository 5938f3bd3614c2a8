"""Settings are chosen before the test, by rules that a few lines of Python repeat, and a killed search goes on."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from fraudlab import tuning, validation
from fraudlab.config import RunConfig, SplitConfig, load_config
from fraudlab.schema import InputError
from fraudlab.splits import Fold, temporal_fold
from fraudlab.training import RowWeights, fit_estimator
from fraudlab.tuning import Tuned, tune
from fraudlab.validation import leaves, select, validation_folds

DAY = pd.Timedelta(days=1)
SPLIT = {"train_days": 14, "delay_days": 8, "valid_days": 8, "test_days": 8, "min_positives": 10}
SPACE = {"n_estimators": [5, 60], "max_depth": [2, 5], "subsample": [0.5, 1.0], "fraud_weight": [1.0, 4.0]}


def make_rows(rows: int = 6000, days: int = 70, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Transactions whose frauds are large, and two features; labels are known after one to seven days."""
    rng = np.random.default_rng(seed)
    when = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(np.sort(rng.integers(0, days * 86_400, rows)), "s")
    fraud = rng.random(rows) < 0.06
    amount = np.where(fraud, rng.lognormal(4.2, 0.6, rows), rng.lognormal(3.4, 0.7, rows))
    transactions = pd.DataFrame(
        {
            "transaction_id": np.arange(rows),
            "event_time": when.astype("datetime64[us, UTC]"),
            "customer_id": [f"c{i:04d}" for i in rng.integers(0, 900, rows)],
            "amount": amount,
            "is_fraud": pd.array(fraud, "boolean"),
            "label_time": (when + pd.to_timedelta(np.where(fraud, rng.integers(1, 7, rows), 7), "D")).astype(
                "datetime64[us, UTC]"
            ),
        }
    )
    X = pd.DataFrame({"amount": amount, "noise": rng.normal(size=rows), "hour": when.hour.to_numpy(float)})
    X.loc[rng.random(rows) < 0.05, "hour"] = np.nan
    return transactions, X


def configured(**changes: object) -> RunConfig:
    raw = {
        "name": "t",
        "seed": 3,
        "dataset": {"name": "t", "source": "simulate", "contract": "none.toml"},
        "split": SPLIT,
        "model": {"n_estimators": 20, "max_depth": 3, "max_bin": 64, "early_stopping_rounds": 0},
        "decision": {"alerts_per_day": 3},
        "tuning": {"trials": 6, "folds": 3, "space": SPACE, "rule": "mean"},
    }
    for dotted, value in changes.items():
        table, key = dotted.split("__")
        raw[table] = raw[table] | {key: value} if table in raw else {key: value}
    return RunConfig.model_validate(raw)


@pytest.fixture(scope="module")
def data() -> tuple[pd.DataFrame, pd.DataFrame, Fold]:
    transactions, X = make_rows()
    return transactions, X, temporal_fold(transactions, SplitConfig(**SPLIT))


def search(data: tuple[pd.DataFrame, pd.DataFrame, Fold], config: RunConfig, **options: object) -> Tuned:
    transactions, X, fold = data
    return tune(X, transactions, fold, config, threads=1, say=lambda text: None, **options)


@pytest.fixture(scope="module")
def found(data) -> Tuned:
    return search(data, configured())


# -- the periods -----------------------------------------------------------------------------------------------------


def test_periods_end_before_the_test_and_know_only_what_was_known(data):
    transactions, _, fold = data
    periods = validation_folds(transactions, fold, folds=3, min_positives=10)
    assert [each.name for each in periods] == ["period 1", "period 2", "period 3"]
    assert (periods[-1].test_start, periods[-1].test_end) == (fold.valid_start, fold.valid_end)
    np.testing.assert_array_equal(periods[-1].test, fold.valid)
    for each, later in zip(periods, [*periods[1:], None]):
        assert later is None or each.test_end == later.test_start
        assert each.test_start - each.train_end == fold.delay
        learnt, judged = transactions.iloc[each.train], transactions.iloc[each.test]
        assert (learnt["label_time"] <= each.test_start).all()
        assert (judged["label_time"] <= fold.test_start).all()
        assert judged["event_time"].max() < fold.test_start - fold.delay
        # Known victims, by brute force: no row of a customer with a fraud known when the row's day began.
        past = transactions[transactions["is_fraud"] & (transactions["event_time"] >= each.train_start)]
        for row in judged.sample(200, random_state=0).itertuples():
            day = row.event_time.floor("D")
            assert not ((past["customer_id"] == row.customer_id) & (past["label_time"] <= day)).any()


def test_the_test_period_leaves_no_trace(data, found):
    transactions, X, fold = data
    late = (transactions["event_time"] >= fold.test_start).to_numpy()
    spoilt = transactions.assign(
        amount=transactions["amount"].mask(late, 1.0), is_fraud=transactions["is_fraud"] ^ late
    )
    told = (transactions["label_time"] > fold.test_start).to_numpy() & ~late
    spoilt["is_fraud"] = spoilt["is_fraud"] ^ told
    again = search((spoilt, X.mask(pd.Series(late), axis=0), fold), configured())
    pd.testing.assert_frame_equal(again.scores, found.scores, check_exact=True)


def test_a_first_window_is_cut_where_the_data_begin_by_half_at_most(data):
    transactions, _, fold = data
    begins = fold.valid_start - 26 * DAY
    short = transactions[transactions["event_time"] >= begins].reset_index(drop=True)
    cut = temporal_fold(short, SplitConfig(**SPLIT), test_start=fold.test_start)
    periods = validation_folds(short, cut, folds=2, min_positives=10)
    assert periods[0].train_start == begins
    assert periods[0].train_end - periods[0].train_start >= 7 * DAY
    with pytest.raises(InputError, match=r"tuning.folds: 4 periods of 8 days .* enough for 2; set it to 2"):
        validation_folds(short, cut, folds=4, min_positives=10)


def test_periods_without_frauds_are_refused_with_the_number_needed(data):
    transactions, _, fold = data
    with pytest.raises(InputError, match=r"tuning: each training window must hold 5000 or more frauds .* found \d+, "):
        validation_folds(transactions, fold, folds=2, min_positives=5000)
    inside = (transactions["event_time"] >= fold.valid_start) & (transactions["event_time"] < fold.valid_end)
    honest = transactions.assign(is_fraud=transactions["is_fraud"].mask(inside, False))
    with pytest.raises(InputError, match=r"tuning: each period must hold 10 or more frauds .* found 0, period from"):
        validation_folds(honest, fold, folds=2, min_positives=10)


# -- the search ------------------------------------------------------------------------------------------------------


def test_a_settings_value_is_that_of_a_plain_fit(data, found):
    transactions, X, fold = data
    periods = {each.name: each for each in validation_folds(transactions, fold, folds=3, min_positives=10)}
    config = configured()
    y = transactions["is_fraud"]
    for trial in (0, int(found.trials.loc[found.trials["state"] == "complete", "trial"].iloc[-1])):
        params = found.trials.set_index("trial").loc[trial, list(SPACE)].to_dict()
        params |= {key: int(params[key]) for key in ("n_estimators", "max_depth")}
        model, sampling = tuning.settings(config, params)
        for row in found.scores[found.scores["trial"] == trial].itertuples():
            period = periods[row.period]
            weighed = RowWeights(transactions, X, sampling, period.test_start, model, config.seed).of(period.train)
            plain = fit_estimator(
                X.iloc[period.train], y.iloc[period.train], model=model, seed=config.seed, threads=1, **weighed
            )
            truth = y.iloc[period.test].to_numpy(bool)
            assert row.value == average_precision_score(truth, plain.margin(X.iloc[period.test]))


def test_the_same_seed_gives_the_same_search_and_another_seed_another(data, found):
    again = search(data, configured())
    pd.testing.assert_frame_equal(again.scores, found.scores, check_exact=True)
    pd.testing.assert_frame_equal(
        again.trials.drop(columns="seconds"), found.trials.drop(columns="seconds"), check_exact=True
    )
    assert (again.model, again.sampling, again.trial) == (found.model, found.sampling, found.trial)
    other = configured().model_copy(update={"seed": 4})
    assert search(data, other).trials["subsample"].tolist() != found.trials["subsample"].tolist()


def test_setting_0_is_the_configs_own_and_values_stay_in_the_space(found):
    first = found.trials.iloc[0]
    assert (first["n_estimators"], first["max_depth"], first["subsample"], first["fraud_weight"]) == (20, 3, 1.0, 1.0)
    for key, (low, high) in SPACE.items():
        assert found.trials[key].between(low, high).all()
    assert found.trials["trial"].tolist() == list(range(6))
    assert found.trials["chosen"].sum() == 1
    chosen = found.trials[found.trials["chosen"]].iloc[0]
    assert chosen["mean"] == found.trials["mean"].max()
    assert (found.model.n_estimators, found.model.max_depth) == (chosen["n_estimators"], chosen["max_depth"])
    assert found.sampling.fraud_weight == chosen["fraud_weight"]
    assert found.model.early_stopping_rounds == 0
    means = found.scores.groupby("trial")["value"].agg(["mean", "sem"])
    complete = found.trials.set_index("trial").query("state == 'complete'")
    np.testing.assert_allclose(complete["mean"], means.loc[complete.index, "mean"])
    np.testing.assert_allclose(complete["standard_error"], means.loc[complete.index, "sem"])


def test_a_killed_search_goes_on_where_it_was(data, found, tmp_path: Path, monkeypatch):
    storage = tmp_path / "tuning.db"
    fits: list[int] = []
    score = tuning._Period.score

    def counted(self, model, sampling):
        fits.append(1)
        if len(fits) == 11:  # in the fourth setting
            raise KeyboardInterrupt
        return score(self, model, sampling)

    monkeypatch.setattr(tuning._Period, "score", counted)
    with pytest.raises(KeyboardInterrupt):
        search(data, configured(), storage=storage)
    again = search(data, configured(), storage=storage)
    pd.testing.assert_frame_equal(again.scores, found.scores, check_exact=True)
    assert again.model == found.model
    everything = len(found.scores)
    assert len(fits) <= everything + 3, "finished settings must not be fitted again"
    before = len(fits)
    longer = search(data, configured(tuning__trials=7), storage=storage)
    assert 1 <= len(fits) - before <= 3
    pd.testing.assert_frame_equal(
        longer.scores[longer.scores["trial"] < 6].reset_index(drop=True), found.scores, check_exact=True
    )


def test_other_data_settings_or_seeds_never_mix_in_one_storage(data, found, tmp_path: Path):
    transactions, X, fold = data
    storage = tmp_path / "tuning.db"
    few = configured(tuning__trials=1)
    digests = {search(data, few, storage=storage).facts["study"]}
    changed = X.assign(noise=X["noise"].mask(X.index == fold.train[0], 9.0))
    digests.add(search((transactions, changed, fold), few, storage=storage).facts["study"])
    digests.add(search(data, few.model_copy(update={"seed": 9}), storage=storage).facts["study"])
    digests.add(search(data, configured(tuning__trials=1, tuning__metric="auc_roc"), storage=storage).facts["study"])
    digests.add(search(data, configured(tuning__trials=1, model__max_bin=32), storage=storage).facts["study"])
    with sqlite3.connect(storage) as connection:
        kept = connection.execute("SELECT study, count(*) FROM trials GROUP BY study").fetchall()
    assert {study for study, _ in kept} == digests
    assert [count for _, count in kept] == [1] * 5
    # How many are tried, for how long and by which rule is no part of the study.
    later = configured(tuning__trials=1, tuning__rule="regret", model__early_stopping_rounds=7)
    assert search(data, later, storage=storage).facts["study"] in digests
    assert storage.stat().st_mode & 0o077 == 0
    storage.write_bytes(b"not a database at all, but long enough to be read as one" * 20)
    with pytest.raises(InputError, match=r"the storage tuning\.db must be the SQLite file of earlier searches"):
        search(data, few, storage=storage)


def test_a_time_budget_ends_the_search_after_a_setting(data):
    assert search(data, configured(tuning__seconds=1e-6)).facts["finished"] == 1


def test_hopeless_settings_are_given_up_and_never_chosen(data):
    poor = configured(
        tuning__trials=12, tuning__space={"n_estimators": [1, 80], "learning_rate": [0.001, 0.3], "max_depth": [1, 4]}
    )
    result = search(data, poor)
    given_up = result.trials[result.trials["state"] == "given up"]
    assert len(given_up) >= 1
    assert given_up["mean"].isna().all()
    assert (result.scores[result.scores["trial"].isin(given_up["trial"])].groupby("trial").size() < 3).all()
    assert not given_up["chosen"].any()
    assert result.facts["given_up"] == len(given_up)
    # The latest period is tried first.
    assert set(result.scores[result.scores["trial"].isin(given_up["trial"])]["period"]) <= {"period 3", "period 2"}


def test_sampling_and_choices_can_be_searched(data):
    space = {"recency_half_life_days": ["none", 5], "genuine_per_fraud": ["none", 3], "max_depth": [2, 3, 4]}
    result = search(data, configured(tuning__space=space, tuning__trials=6))
    assert set(result.trials["max_depth"]) <= {2, 3, 4}
    assert set(result.trials["genuine_per_fraud"]) <= {"none", 3}
    assert result.sampling.genuine_per_fraud in (None, 3)


def test_other_kinds_and_metrics_are_searched_too(data):
    forest = configured(
        model__kind="random_forest", tuning__metric="card_precision_at_k", tuning__trials=2, tuning__space={}
    )
    result = search(data, forest)
    assert result.model.kind == "random_forest"
    assert result.scores["value"].between(0, 1).all()
    linear = configured(model__kind="logistic", tuning__space={})
    with pytest.raises(InputError, match="kind logistic has no settings that are searched by default"):
        search(data, linear)


def test_progress_is_one_line_and_names_the_best(data):
    said: list[str] = []
    transactions, X, fold = data
    tune(X, transactions, fold, configured(tuning__trials=2), threads=1, say=said.append)
    assert len(said) == 2
    assert said[-1].startswith("tuning: 2 of 2 settings in ")
    assert "best mean average_precision 0." in said[-1]
    assert "\n" not in said[-1]


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        ({"max_dept": [2, 8]}, r"'max_dept' is no key of \[model\] or \[sampling\]; did you mean 'max_depth'\?"),
        ({"kind": ["xgboost", "logistic"]}, "'kind' is stated, not searched; take it out; searched are n_estimators"),
        ({"max_depth": [8, 2]}, r"'max_depth' needs \[low, high\] with low < high, or some choices; found \[8, 2\]"),
        ({"subsample": [0.5, 1.5]}, "'subsample' cannot be 1.5: input should be less than or equal to 1"),
        ({"labels": ["known", "guessed"]}, "'labels' cannot be 'guessed': input should be 'known'"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_when_the_config_is_read(tmp_path: Path, space, sentence):
    lines = ['name = "t"', "[dataset]", 'name = "t"', 'source = "simulate"', 'contract = "c.toml"', "[tuning.space]"]
    lines += [f"{key} = {value}" for key, value in space.items()]
    (tmp_path / "t.toml").write_text("\n".join(lines))
    with pytest.raises(InputError, match=rf"key 'tuning.space': {sentence}"):
        load_config(tmp_path / "t.toml")


# -- the rules -------------------------------------------------------------------------------------------------------


def by_hand(table: dict[int, list[float]], sizes: dict[int, float], rule: str) -> int:
    """Return what a rule chooses, in plain loops."""
    periods = len(next(iter(table.values())))
    mean = {trial: sum(values) / periods for trial, values in table.items()}
    first = min(table, key=lambda trial: (-mean[trial], sizes[trial], trial))
    if rule == "regret":
        best = [max(values[p] for values in table.values()) for p in range(periods)]
        worst = {trial: max(best[p] - values[p] for p in range(periods)) for trial, values in table.items()}
        return min(table, key=lambda trial: (worst[trial], -mean[trial], sizes[trial], trial))
    if rule == "one_standard_error" and periods > 1:
        near = []
        for trial, values in table.items():
            gaps = [table[first][p] - values[p] for p in range(periods)]
            middle = sum(gaps) / periods
            error = (sum((gap - middle) ** 2 for gap in gaps) / (periods - 1) / periods) ** 0.5
            if trial == first or middle < error:
                near.append(trial)
        return min(near, key=lambda trial: (sizes[trial], -mean[trial], trial))
    return first


def long(table: dict[int, list[float]]) -> pd.DataFrame:
    rows = [(trial, period, value) for trial, values in table.items() for period, value in enumerate(values)]
    return pd.DataFrame(rows, columns=["trial", "period", "value"])


@pytest.mark.parametrize("periods", [1, 2, 3, 5])
def test_every_rule_chooses_as_by_hand_also_with_ties(periods):
    rng = np.random.default_rng(periods)
    for _ in range(20):
        table = {trial: np.round(0.6 + 0.1 * rng.random(periods), 2).tolist() for trial in (0, 1, 3, 4, 7)}
        sizes = {trial: float(rng.choice([100, 200, 400])) for trial in table}
        for rule in validation.RULES:
            trial, rules = select(long(table), sizes, rule)
            assert trial == by_hand(table, sizes, rule)
            used = rules[rules["used"]].iloc[0]
            assert (used["rule"], used["trial"], used["leaves"]) == (rule, trial, sizes[trial])
            assert used["mean"] == pytest.approx(np.mean(table[trial]))
            best = np.max(list(table.values()), axis=0)
            assert used["worst_regret"] == pytest.approx(np.max(best - table[trial]))
            lost = [
                best[seen] - table[by_hand({t: v[:seen] for t, v in table.items()}, sizes, rule)][seen]
                for seen in range(1, periods)
            ]
            assert used["next_period_regret"] == pytest.approx(np.mean(lost) if lost else np.nan, nan_ok=True)


def test_rules_disagree_where_they_should_and_say_why():
    table = {0: [0.70, 0.62, 0.66], 1: [0.72, 0.61, 0.66], 2: [0.60, 0.75, 0.60], 3: [0.40, 0.40, 0.40]}
    sizes = {0: 800.0, 1: 6400.0, 2: 6400.0, 3: 8.0}
    trial, rules = select(long(table), sizes, "one_standard_error")
    assert rules.set_index("rule")["trial"].to_dict() == {
        "mean": 1,
        "one_standard_error": 0,
        "regret": 2,
    }
    assert trial == 0
    why = rules.set_index("rule")["why"]
    assert why["mean"] == "the best mean over 3 periods"
    assert why["one_standard_error"].startswith("the fewest leaves among ")
    assert why["regret"] == "never more than 0.1200 below the best setting of a period, over 3 periods"


def test_selection_refuses_gaps_and_unknown_rules():
    with pytest.raises(InputError, match=r"tuning.rule: must be one of mean, one_standard_error, regret; found 'best'"):
        select(long({0: [0.5]}), {0: 1.0}, "best")
    gaps = long({0: [0.5, 0.6], 1: [0.4, 0.5]}).iloc[:3]
    with pytest.raises(InputError, match="every setting needs a value in every period; found some without"):
        select(gaps, {0: 1.0, 1: 1.0}, "mean")


def test_leaves_are_trees_times_two_to_the_depth():
    config = configured()
    assert leaves(config.model) == 20 * 8
    assert leaves(config.model.model_copy(update={"kind": "logistic"})) == 0
