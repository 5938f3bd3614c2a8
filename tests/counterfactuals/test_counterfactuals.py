"""Changed payments have the features a table gives them, and no smaller change does, over every combination."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from fraudlab.config import ModelConfig
from fraudlab.counterfactuals import (
    BELOW,
    INPUTS,
    Change,
    Option,
    offered,
    recomputed,
    sentences,
    smallest_changes,
)
from fraudlab.features import FeatureSet, count, is_new, maximum, ratio, value
from fraudlab.features.sets import ACCOUNT_V1, CARD_V1, available
from fraudlab.schema import InputError
from fraudlab.training import fit_estimator

ROW = 3500


@pytest.fixture(scope="module")
def rows(transactions) -> pd.DataFrame:
    """The shared transactions with a channel, a category and a network address beside."""
    rng = np.random.default_rng(5)
    channel = np.where(rng.random(len(transactions)) < 0.5, "online", "pos")
    address = [f"i{number:02d}" for number in rng.integers(0, 40, len(transactions))]
    category = transactions["merchant_id"].str[-1]
    return transactions.assign(channel=channel, ip=address, merchant_category=category)


def given(rows: pd.DataFrame, row: int = ROW) -> tuple[dict, pd.DataFrame, pd.DataFrame]:
    """A payment, all before it, and its customer's own."""
    payment, before = rows.iloc[row].to_dict(), rows.iloc[:row]
    return payment, before, before[before["customer_id"] == payment["customer_id"]]


def options_of(rows: pd.DataFrame, features: FeatureSet, row: int = ROW, **given_too) -> list[Option]:
    payment, _, past = given(rows, row)
    return offered(payment, past, rows["amount"], reads=features.requires, **given_too)


# -- features ------------------------------------------------------------------------------------------------------


SPREE = FeatureSet(
    "spree",
    [
        value("amount"),
        maximum("usual", by="merchant_id", window="20d"),
        count("customer_id", "9d", where=("usual", ">", 2)),
    ],
    derived={"usual": ratio("amount", by="customer_id", window="30d")},
)


@pytest.mark.parametrize("features", [CARD_V1, ACCOUNT_V1, SPREE], ids=lambda features: features.name)
def test_changed_payments_have_the_features_of_a_table_that_ends_with_them(rows, features):
    features, _ = available(features, rows.columns)
    payment, before, _ = given(rows)
    options = options_of(rows, features)
    assert {option.input for option in options} >= {"amount", "time"}
    features_of = recomputed(features, before, payment, options, categories=["country"])
    tried = [payment, *({**payment, **option.values} for option in options)]
    found = features_of(tried)
    assert list(found.columns) == list(dict.fromkeys([*features.columns, "country"]))
    for place in (0, *range(1, len(tried), 7), len(tried) - 1):
        one = pd.DataFrame([tried[place]])
        whole = pd.concat([before, one.astype(before.dtypes.to_dict())], ignore_index=True)
        expected = features.compute(whole).iloc[-1].to_numpy()
        np.testing.assert_array_equal(found[list(features.columns)].iloc[place].to_numpy(), expected)
        assert found["country"].iloc[place] == tried[place]["country"]


# -- what is offered -----------------------------------------------------------------------------------------------


def test_only_inputs_of_the_payment_move_and_only_to_what_occurs(rows):
    features, _ = available(CARD_V1, rows.columns)
    payment, _, past = given(rows)
    low, high = np.percentile(rows["amount"], [1, 99])
    for option in options_of(rows, features):
        assert set(option.values) <= set(INPUTS[option.input])
        assert 0 <= option.distance <= 1
        for column, new in option.values.items():
            if column == "amount":
                assert low - 1 <= new <= high + 1
                assert round(new % 1, 2) == round(payment["amount"] % 1, 2)  # its cents
                assert option.before == f"{payment['amount']:,.0f}"
            elif column == "event_time":
                assert pd.Timedelta(0) < new - payment["event_time"] <= pd.Timedelta(days=1)
            else:
                assert new in set(past[column])
        if option.input == "merchant":
            assert option.values["merchant_id"] in set(past.loc[past["channel"] == payment["channel"], "merchant_id"])
        if option.input in ("device", "network", "merchant", "place"):
            assert option.before == option.after == ""  # never a name of who or where


def test_what_the_features_do_not_read_or_is_frozen_is_not_offered(rows):
    tiny = FeatureSet("tiny", [value("amount")])
    assert {option.input for option in options_of(rows, tiny)} == {"amount", "time"}
    assert {option.input for option in options_of(rows, tiny, frozen=["time"])} == {"amount"}
    with pytest.raises(InputError, match=r"^frozen: no input of a payment is named 'amuont'; did you mean 'amount'\?$"):
        options_of(rows, tiny, frozen=["amuont"])


@pytest.mark.parametrize(("direction", "sign"), [(1, -1), (-1, 1)])
def test_amounts_move_against_a_monotone_constraint_only(rows, direction, sign):
    payment, _, _ = given(rows)
    moved = [
        option.values["amount"] - payment["amount"]
        for option in options_of(rows, CARD_V1, monotone={"amount": direction})
        if option.input == "amount"
    ]
    assert moved
    assert all(np.sign(each) == sign for each in moved)


@pytest.mark.parametrize(("amount", "round_ones"), [(120.0, True), (123.0, False), (99.99, False)])
def test_an_amount_stays_round_or_not_round(amount, round_ones):
    known = np.arange(1.0, 500.0)
    found = [each.values["amount"] for each in offered({"amount": amount, "event_time": pd.Timestamp(0, tz="UTC")},
             pd.DataFrame(), known, reads=["amount"], frozen=["time"])]  # fmt: skip
    assert len(found) > 10
    assert all((each % 10 == 0) == round_ones for each in found)
    assert {round(each % 1, 2) for each in found} == {round(amount % 1, 2)}


def test_distance_of_amounts_is_the_share_of_genuine_payments_between():
    payment = {"amount": 90.0, "event_time": pd.Timestamp(0, tz="UTC")}
    known = np.arange(100.0)  # one at each whole number
    for option in offered(payment, pd.DataFrame(), known, reads=["amount"], frozen=["time"]):
        assert option.distance == pytest.approx(abs(option.values["amount"] - 90) / 100)


def test_the_customer_s_own_habits_are_offered_the_most_usual_first_and_less_usual_ones_not():
    past = pd.DataFrame(
        {
            "device_id": ["d1"] * 5 + ["d2"] * 3 + ["d3"] * 2,
            "auth_method": ["totp"] * 6 + ["password"] * 4,
            "auth_result": ["passed"] * 5 + ["failed"] + ["passed"] * 4,
        }
    )
    payment = {
        "event_time": pd.Timestamp(0, tz="UTC"),
        "device_id": "d2",
        "auth_method": "none",
        "auth_result": "failed",
    }
    found = offered(payment, past, [], reads=["device_id", "auth_method"], frozen=["time"])
    assert [(each.input, each.values, round(each.distance, 2), each.after) for each in found] == [
        ("authentication", {"auth_method": "totp", "auth_result": "passed"}, 0.5, "totp"),
        ("authentication", {"auth_method": "password", "auth_result": "passed"}, 0.6, "password"),
        ("device", {"device_id": "d1"}, 0.5, ""),
    ]
    assert offered(payment, past.iloc[:0], [], reads=["device_id"], frozen=["time"]) == []
    none = {**payment, "device_id": None, "auth_method": pd.NA}
    assert offered(none, past, [], reads=["device_id", "auth_method"], frozen=["time"]) == []


# -- the search ----------------------------------------------------------------------------------------------------


def brute_force(payment: dict, options: list[Option], score_of, threshold: float) -> tuple[int, float] | None:
    """The fewest inputs and the smallest distance that suffice, over every subset of the options."""
    best = None
    for size in range(1, 4):
        for chosen in itertools.combinations(options, size):
            columns = [column for each in chosen for column in INPUTS[each.input]]
            if len(columns) != len(set(columns)):
                continue
            changed = payment | {key: new for each in chosen for key, new in each.values.items()}
            if score_of([changed])[0] < threshold:
                found = (size, sum(each.distance for each in chosen))
                best = found if best is None else min(best, found)
        if best is not None:
            return best
    return best


@pytest.mark.parametrize("seed", range(40))
def test_no_smaller_change_suffices(seed):
    """Random scores over a small grid: the answer is the brute-force one, also where only two or three together do."""
    rng = np.random.default_rng(seed)
    time = pd.Timestamp("2026-01-01", tz="UTC")
    payment = {"amount": 100.0, "event_time": time, "device_id": "d0", "ip": "i0", "merchant_id": "m0", "country": "US"}
    options = [Option("amount", {"amount": float(new)}, rng.random()) for new in (10, 40, 70)]
    options += [Option("time", {"event_time": time + pd.Timedelta(hours=n)}, n / 24) for n in (1, 12)]
    options += [Option("device", {"device_id": "d1"}, rng.random()), Option("network", {"ip": "i1"}, rng.random())]
    options += [Option("merchant", {"merchant_id": "m1", "country": "DE"}, rng.random())]
    options += [Option("place", {"country": "DE"}, rng.random())]
    weight = dict(zip(["amount", "time", "device_id", "ip", "merchant_id", "country"], rng.dirichlet(np.ones(6))))

    def score_of(rows):
        return np.array(
            [
                weight["amount"] * row["amount"] / 100
                + weight["time"] * (row["event_time"] == time)
                + sum(
                    weight[name] * (row[name] == payment[name])
                    for name in ("device_id", "ip", "merchant_id", "country")
                )
                for row in rows
            ]
        )

    threshold = rng.uniform(0.2, 0.95)
    found = smallest_changes(payment, options, score_of, threshold)
    expected = brute_force(payment, options, score_of, threshold)
    if expected is None:
        assert found == []
        return
    assert (len(found[0].options), found[0].distance) == pytest.approx(expected)
    for change in found:
        changed = payment | {key: new for each in change.options for key, new in each.values.items()}
        assert score_of([changed])[0] == change.score < threshold  # scored again, not promised
    sets = [frozenset(each.input for each in change.options) for change in found]
    assert len(set(sets)) == len(sets) <= 3
    distances = [change.distance for change in found]
    assert distances == sorted(distances)


def test_a_payment_below_the_threshold_and_one_beyond_help():
    payment = {"amount": 50.0}
    options = [Option("amount", {"amount": 10.0}, 0.4, "50", "10")]
    assert smallest_changes(payment, options, lambda rows: np.full(len(rows), 0.4), 0.5) == []
    assert smallest_changes(payment, options, lambda rows: np.full(len(rows), 0.6), 0.5) == []
    assert smallest_changes(payment, [], lambda rows: np.full(len(rows), 0.6), 0.5) == []
    assert sentences([], below=True) == [BELOW]
    assert sentences([]) == [
        "No plausible change of up to 3 inputs of this payment alone would have kept it below the threshold"
    ]


def test_a_found_amount_moves_as_near_as_suffices():
    known = np.arange(1.0, 1001.0)
    payment = {"amount": 900.37}

    def score_of(rows):
        return np.array([row["amount"] / 1000 for row in rows])

    options = [Option("amount", {"amount": 200.37}, 0.7, "900", "200")]
    (coarse,) = smallest_changes(payment, options, score_of, 0.5)
    (fine,) = smallest_changes(payment, options, score_of, 0.5, genuine_amounts=known)
    assert coarse.options[0].values["amount"] == 200.37
    new = fine.options[0].values["amount"]
    assert 480 < new < 500  # within 2 % of the range of the threshold after six halvings
    assert round(new % 1, 2) == 0.37
    assert fine.distance < coarse.distance
    assert fine.options[0].after == f"{new:,.0f}"


def test_sentences_and_facts_hold_no_identifier():
    options = (
        Option("amount", {"amount": 72.5}, 0.1, "274", "72"),
        Option("time", {"event_time": pd.Timestamp(0, tz="UTC")}, 0.1, after="3 hours"),
        Option("merchant", {"merchant_id": "M0001"}, 0.2),
    )
    change = Change(options, 0.1234567)
    assert sentences([change]) == [
        "An amount of 72 instead of 274 and 3 hours later and a merchant this customer paid before"
    ]
    assert change.facts() == {
        "inputs": [
            {"input": "amount", "before": "274", "after": "72"},
            {"input": "time", "before": "", "after": "3 hours"},
            {"input": "merchant", "before": "", "after": ""},
        ],
        "score": 0.123457,
        "distance": 0.4,
    }


def test_other_pseudonyms_give_the_same_answers(rows):
    """Ties between a customer's devices are broken by time, not by what a key makes of their names."""
    features = FeatureSet("small", [value("amount"), is_new("device_id", "customer_id"), is_new("ip", "customer_id")])
    turned = rows.assign(
        **{name: rows[name].map(lambda text: text[::-1] + "x") for name in ("device_id", "ip", "customer_id")}
    )
    for row in (1200, 2500, 3900):
        ours, theirs = (options_of(each, features, row) for each in (rows, turned))
        assert [(each.input, each.distance, each.after) for each in ours] == [
            (each.input, each.distance, each.after) for each in theirs
        ]


def test_on_a_model_every_answer_is_confirmed_by_a_table(rows):
    """From the transactions to the score, the changed payment put into the table in place of the real one."""
    features = FeatureSet(
        "small",
        [
            value("amount"),
            ratio("amount", "customer_id", "30d"),
            is_new("device_id", "customer_id"),
            count("customer_id", "1d"),
        ],
    )
    X = features.compute(rows)
    rng = np.random.default_rng(0)
    usual = X["customer_id__amount__ratio__30d"].fillna(1)
    margin = -4 + 1.2 * usual + 2 * X["customer_id__device_id__is_new"]
    model = fit_estimator(
        X, rng.random(len(X)) < expit(margin), model=ModelConfig(n_estimators=30, max_depth=3), seed=0
    )
    score, threshold = model.score(X), 0.25
    changed = 0
    for row in np.flatnonzero(score >= threshold)[-6:]:
        payment, before, _ = given(rows, row)
        options = options_of(rows, features, row)
        features_of = recomputed(features, before, payment, options)

        def score_of(tried, features_of=features_of):
            return model.score(features_of(tried))

        assert score_of([payment])[0] == score[row]
        for change in smallest_changes(payment, options, score_of, threshold, genuine_amounts=rows["amount"]):
            new = payment | {key: value for each in change.options for key, value in each.values.items()}
            whole = pd.concat([before, pd.DataFrame([new]).astype(before.dtypes.to_dict())], ignore_index=True)
            assert model.score(features.compute(whole).iloc[[-1]])[0] == change.score < threshold
            changed += 1
    assert changed >= 3
