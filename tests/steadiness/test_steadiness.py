"""Noise that stays inside its bounds, and reasons that keep or lose their place as a count by hand says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from fraudlab.config import ModelConfig
from fraudlab.explain import contributions
from fraudlab.models import FittedModel, Logistic, Wrapped
from fraudlab.schema import InputError
from fraudlab.steadiness import STEADINESS, Spread, reason_stability
from fraudlab.training import fit_estimator

WORDS = pd.DataFrame(
    {
        "column": ["amount", "ratio", "count", "flag", "kind"],
        "group": ["money", "money", "pace", "device", "merchant"],
        "meaning": "",
        "template": "",
        "kind": ["amount", "ratio", "count", "flag", "category"],
    }
)


def make_rows(rows: int = 800, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "amount": np.round(rng.lognormal(3, 1, rows), 2),
            "ratio": np.where(rng.random(rows) < 0.1, np.nan, rng.lognormal(0, 1, rows)),
            "count": rng.poisson(30, rows),
            "flag": rng.random(rows) < 0.3,
            "kind": pd.Series(rng.choice(["a", "b"], rows), dtype="str"),
        }
    )


def linear(*coefficients: float) -> FittedModel:
    """A model whose contributions are coefficient x value: what noise does to them is plain."""
    names = tuple(WORDS["column"][: len(coefficients)])
    zero = np.zeros(len(names))
    estimator = Logistic(zero, np.array([], dtype=int), zero, zero + 1, np.array(coefficients), -3.0)
    return FittedModel("logistic", names, estimator)


# -- the noise -----------------------------------------------------------------------------------------------------


def test_noise_has_the_scale_of_the_feature_and_leaves_the_rest_alone():
    X = make_rows(4000)
    spread = Spread.of(X, WORDS)
    moved = spread.nudged(X, 0.1, np.random.default_rng(1))
    assert list(moved.columns) == list(X.columns)
    assert moved["kind"].equals(X["kind"])
    assert moved["flag"].astype(bool).equals(X["flag"])
    assert moved["ratio"].isna().equals(X["ratio"].isna())
    scale = dict(zip(spread.features, spread.scale))
    normal = (X["amount"].quantile(0.9) - X["amount"].quantile(0.1)) / (2 * 1.2815516)
    assert scale["amount"] == pytest.approx(normal)
    inside = X["amount"].between(X["amount"].quantile(0.5), X["amount"].quantile(0.95))  # far from the ends
    assert (moved["amount"] - X["amount"])[inside].std() == pytest.approx(0.1 * normal, rel=0.06)
    assert (moved["count"] == moved["count"].round()).all()
    assert 0.2 < (moved["count"] != X["count"]).mean() < 0.8
    for name in ("amount", "ratio", "count"):
        assert moved[name].min() >= X[name].min()
        assert moved[name].max() <= X[name].max()


def test_a_value_outside_the_range_found_stays_where_it_is_or_comes_nearer():
    spread = Spread.of(make_rows(), WORDS)
    far = pd.DataFrame({"amount": [1e6], "ratio": [np.nan], "count": [-4], "flag": [True], "kind": ["a"]})
    for seed in range(5):
        moved = spread.nudged(far, 1.0, np.random.default_rng(seed))
        assert moved["amount"].iloc[0] <= 1e6
        assert moved["count"].iloc[0] >= -4
    constant = Spread.of(pd.DataFrame({"amount": [3.0] * 9, "count": [np.nan] * 9}), WORDS)
    assert constant.scale.tolist() == [0.0, 0.0]


# -- the reasons ---------------------------------------------------------------------------------------------------


def test_reasons_far_apart_always_stay_and_tied_ones_change_half_the_time():
    X = pd.DataFrame({"amount": np.full(400, 10.0), "ratio": 0.0, "count": np.full(400, 10.0)})
    spread = Spread(
        ("amount", "ratio", "count"), np.array([1.0, 0.0, 1.0]), np.zeros(3, dtype=bool), np.zeros(3), np.full(3, 99.0)
    )
    steady = reason_stability(linear(9.0, 0.0, 1.0), X, WORDS, spread, top=1).set_index(["metric", "group"])
    assert steady.loc[("top_reason_kept", "all"), ["value", "low", "high"]].tolist() == [1.0, 1.0, 1.0]
    tied = reason_stability(linear(1.0, 0.0, 1.0), X, WORDS, spread, top=1, repeats=20, seed=3).set_index(
        ["metric", "group"]
    )
    kept = tied.loc[("top_reason_kept", "all")]
    assert kept["value"] == pytest.approx(0.5, abs=0.03)
    assert kept["low"] < 0.5 < kept["high"]
    assert kept["n"] == 400
    assert tied.loc[("group_kept", "money"), "value"] == pytest.approx(0.5, abs=0.03)
    both = reason_stability(linear(1.0, 0.0, 1.0), X, WORDS, spread, top=2, seed=3).set_index(["metric", "group"])
    assert both.loc[("top_reasons_overlap", "all"), "value"] == 1.0  # the two change places, both stay among two


def test_shares_are_those_of_a_loop_over_payments():
    X = make_rows(60)
    y = np.random.default_rng(2).random(60) < 0.4
    model = fit_estimator(
        X,
        y,
        model=ModelConfig(n_estimators=20, max_depth=3, min_child_weight=0),
        seed=0,
        threads=1,
        categories=["kind"],
    )
    spread = Spread.of(make_rows(), WORDS)
    found = reason_stability(model, X, WORDS, spread, noise=0.3, repeats=2, seed=9, top=2).set_index(
        ["metric", "group"]
    )
    before = contributions(model, X).drop(columns="base")
    groups = WORDS.set_index("column")["group"]

    def ranked(row: pd.Series) -> list[str]:
        totals = row.groupby(groups[row.index].to_numpy(), sort=False).sum()
        return [name for name in totals.sort_values(ascending=False, kind="stable").index if totals[name] > 0]

    reasoned = [place for place in range(60) if ranked(before.iloc[place])]
    rng = np.random.default_rng(9)
    kept, overlap, ranks = [], [], []
    for _ in range(2):
        after = contributions(model, spread.nudged(X.iloc[reasoned], 0.3, rng)).drop(columns="base")
        for place, row in enumerate(reasoned):
            one, two = ranked(before.iloc[row])[:2], ranked(after.iloc[place])[:2]
            kept.append(one[:1] == two[:1])
            overlap.append(len(set(one) & set(two)) / len(one))
            ranks.append(spearmanr(before.iloc[row], after.iloc[place]).statistic)
    assert found.loc[("top_reason_kept", "all"), "n"] == len(reasoned)
    assert found.loc[("top_reason_kept", "all"), "value"] == pytest.approx(np.mean(kept))
    assert found.loc[("top_reasons_overlap", "all"), "value"] == pytest.approx(np.mean(overlap))
    assert found.loc[("rank_correlation", "all"), "value"] == pytest.approx(np.mean(ranks))
    assert 0 < np.mean(kept) < 1
    assert set(found.index.get_level_values("metric")) == set(STEADINESS)


def test_more_noise_keeps_less_and_a_seed_gives_the_same_bits():
    X, spread = make_rows(300), Spread.of(make_rows(), WORDS)
    model = linear(0.02, 0.5, 0.05, 0.4)
    values = [
        reason_stability(model, X, WORDS, spread, noise=noise, seed=1)["value"].iloc[0] for noise in (0.001, 0.1, 1.0)
    ]
    assert values[0] > 0.99
    assert values == sorted(values, reverse=True)
    assert values[2] < 0.9
    once, again = (reason_stability(model, X, WORDS, spread, seed=4) for _ in range(2))
    pd.testing.assert_frame_equal(once, again, check_exact=True)


# -- limits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 9])
def test_fewer_than_ten_payments_are_not_shown(size):
    found = reason_stability(linear(1.0), make_rows(size), WORDS, Spread.of(make_rows(), WORDS))
    assert found["value"].isna().all()
    note = "not applicable: no payment has such a reason" if size == 0 else "not shown: fewer than 10 payments"
    assert found["note"].iloc[0] == note
    assert not found["n"].dropna().between(1, 9).any()


def test_a_small_part_is_hidden_with_another_that_would_give_it_away():
    """Money leads in 30 payments, pace in 12, a device in 4: the last is small, the second hides it in the total."""
    lead = np.repeat([0, 2, 3], [30, 12, 4])
    X = pd.DataFrame(np.eye(4)[lead] * 50, columns=list(WORDS["column"][:4]))
    found = reason_stability(linear(1.0, 1.0, 1.0, 1.0), X, WORDS, Spread.of(make_rows(), WORDS), noise=0.001)
    rows = found[found["metric"] == "top_reason_kept"].set_index("group")
    assert rows["n"].dropna().to_dict() == {"all": 46, "money": 30}
    assert set(rows.index[rows["n"].isna()]) == {"pace", "device"}
    assert rows.loc[["pace", "device"], "value"].isna().all()
    assert rows.loc["money", "value"] == 1.0


def test_payments_without_reasons_are_left_out():
    found = reason_stability(linear(-1.0), make_rows(50), WORDS, Spread.of(make_rows(), WORDS))
    assert found["note"].iloc[0] == "not applicable: no payment has such a reason"
    assert found["n"].iloc[0] == 0


def test_a_model_without_reasons_says_so():
    model = FittedModel("own", ("amount",), Wrapped(None))
    found = reason_stability(model, make_rows(20), WORDS, Spread.of(make_rows(), WORDS))
    assert found["note"].tolist() == ["not applicable: this kind of model has no reasons"]


def test_noise_and_repeats_are_checked():
    spread = Spread.of(make_rows(), WORDS)
    sentence = r"^reason stability: noise must lie in \(0, 1\] and repeats be at least 1; found {} and {}; the defaults"
    for noise, repeats in ((0.0, 5), (1.5, 5), (0.1, 0)):
        with pytest.raises(InputError, match=sentence.format(noise, repeats)):
            reason_stability(linear(1.0), make_rows(5), WORDS, spread, noise=noise, repeats=repeats)
