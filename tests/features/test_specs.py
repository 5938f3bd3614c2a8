"""Specs as data: names, digests, dictionaries, words; and bad input refused in one sentence."""

from __future__ import annotations

import doctest
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fraudlab.features import (
    FeatureSet,
    count,
    distinct,
    frauds,
    is_new,
    mean,
    ratio,
    risk,
    round_amount,
    since_last,
    speed,
    total,
    value,
)
from fraudlab.features.sets import NAMED_SETS
from fraudlab.features.specs import WindowSpec, spec_from_dict, spec_to_dict
from fraudlab.schema import InputError


def test_a_column_is_named_from_its_parameters():
    for spec, names in {
        mean("amount", by="customer_id", window="7d"): ["customer_id__amount__mean__7d"],
        count(by=("customer_id", "merchant_id"), window=["1d", "4w"]): [
            "customer_id_and_merchant_id__count__1d",
            "customer_id_and_merchant_id__count__4w",
        ],
        count("ip", "15min", where=("amount", "<=", 2.5), include_current=True): [
            "ip__count__15min__with_current__where_amount_le_2_5"
        ],
        risk("merchant_id", "7d", delay="14d", empty=0.5): ["merchant_id__risk__7d__delay14d__empty0_5"],
        is_new("device_id", by="customer_id"): ["customer_id__device_id__is_new"],
        speed(by="card_id"): ["card_id__speed"],
        speed(by="card_id", slack_km=10, floor="1s"): ["card_id__speed__slack10km__floor1s"],
        round_amount(step=50): ["amount__round50"],
        value("amount"): ["amount"],
    }.items():
        assert list(spec.columns) == names


def test_specs_are_equal_and_hashable_by_what_they_mean():
    assert count(by="customer_id", window="1d") == count(by=["customer_id"], window=("1d",))
    assert len({risk("ip", "7d"), risk("ip", "7d", empty=float("nan")), risk("ip", "7d", empty=0.0)}) == 2


@pytest.mark.parametrize("features", NAMED_SETS.values(), ids=lambda features: features.name)
def test_a_set_survives_json(features):
    again = FeatureSet.from_dict(json.loads(json.dumps(features.to_dict())))
    assert again == features
    assert again.digest == features.digest


def test_the_digest_follows_what_is_computed_not_what_it_is_called():
    def make(name="x", window="7d", dtype="float64", empty=0.0):
        return FeatureSet(name, [value("amount"), risk("merchant_id", window, empty=empty)], dtype)

    assert make(name="y").digest == make().digest
    others = [make(window="8d"), make(dtype="float32"), make(empty=0.5), FeatureSet("x", make().specs[::-1])]
    assert len({features.digest for features in (make(), *others)}) == 5


def test_requires_names_the_source_columns_once_in_canonical_order():
    features = FeatureSet(
        "needs",
        [
            speed(by="customer_id"),
            count("my_device", "1d", where=("auth_result", "=", "failed")),
            frauds("customer_id", "7d"),
        ],
    )
    assert features.requires == (
        "transaction_id",
        "event_time",
        "customer_id",
        "latitude",
        "longitude",
        "auth_result",
        "is_fraud",
        "label_time",
        "my_device",
    )


def test_words_of_columns_nobody_foresaw():
    features = FeatureSet(
        "words",
        [
            mean("fuel_litres", by="terminal_id", window="1h", where=("channel", "!=", "pos")),
            count(by=("customer_id", "merchant_id"), window="2w"),
            ratio("amount", by=("customer_id", "merchant_id"), window="30d"),
        ],
    )
    assert features.describe()["meaning"].tolist() == [
        "Mean fuel litres of the payments with channel other than pos of the same terminal in the last hour.",
        "Number of payments by the same customer at the same merchant in the last 2 weeks.",
        "Amount divided by the mean amount by the same customer at the same merchant in the last 30 days.",
    ]


REFUSED = {
    "unit": (
        lambda: count("customer_id", "1 month"),
        "count: window: must be .* a unit out of s, min, h, d, w; found '1 month'; write it like 15min, 1h or 7d",
    ),
    "zero": (lambda: count("customer_id", "0d"), "count: window: .* found '0d'"),
    "negative": (lambda: count("customer_id", "-1d"), "count: window: .* found '-1d'"),
    "padded": (lambda: count("customer_id", "7d "), "count: window: .* found '7d '"),
    "number": (lambda: count("customer_id", [7]), "count: window: .* found 7"),
    "too long": (lambda: count("customer_id", "101000d"), "must be at most 100 years; found '101000d'"),
    "no window": (lambda: count("customer_id", []), "count: window must name at least one length"),
    "delay": (lambda: risk("merchant_id", "7d", delay="2 weeks"), "risk: delay: .* found '2 weeks'"),
    "delayed current": (
        lambda: count("ip", "7d", delay="1d", include_current=True),
        "include_current must be left out, because the row lies after a delayed window",
    ),
    "no entity": (lambda: count([], "7d"), "count: by must name one or more different columns; found none"),
    "entity twice": (lambda: count(["ip", "ip"], "7d"), "by must name one or more different columns; found ip, ip"),
    "entity of itself": (lambda: is_new("ip", by="ip"), "is_new: by must name one or more different columns"),
    "column": (lambda: mean(None, "customer_id", "7d"), "mean: value must be a column's name; found None"),
    "label as value": (
        lambda: mean("is_fraud", "merchant_id", "7d"),
        "mean: value must be known when the payment happens; found 'is_fraud', .*; use risk or frauds",
    ),
    "label as entity": (lambda: count(["ip", "fraud_scenario"], "7d"), "by must be known when .* 'fraud_scenario'"),
    "label as condition": (lambda: count("ip", "7d", where=("is_fraud", "=", True)), "where must be known when"),
    "operator": (
        lambda: count("ip", "7d", where=("amount", "~", 3)),
        "where must compare with one of = != < <= > >=; found '~'",
    ),
    "text compared": (
        lambda: count("ip", "7d", where=("channel", "<", "pos")),
        "must compare text with = or !=; found '<'",
    ),
    "condition": (lambda: count("ip", "7d", where="amount < 3"), r"where must be \(column, operator, value\)"),
    "condition value": (
        lambda: count("ip", "7d", where=("amount", "=", None)),
        "must compare with text, a number or a boolean; found None",
    ),
    "empty": (lambda: risk("ip", "7d", empty="none"), "risk: empty must be a finite number of risk"),
    "slack": (lambda: speed("ip", slack_km=-1), "speed: slack_km must be a finite number >= 0; found -1"),
    "floor": (lambda: speed("ip", floor="0s"), "speed: floor: .* found '0s'"),
    "step": (lambda: round_amount(step=0), "round: step must be a whole number > 0 of round, else left out; found 0"),
    "statistic": (lambda: WindowSpec("medain", "ip", "7d"), "unknown window statistic 'medain'"),
    "choice": (lambda: WindowSpec("risk", "ip", "7d", where=("amount", "<", 3)), "risk: where must be left out"),
    "needless value": (lambda: WindowSpec("count", "ip", "7d", value="amount"), "count: value must be left out"),
    "set name": (lambda: FeatureSet("My Set", []), "feature set: name must be lower-case .*; found 'My Set'"),
    "set dtype": (lambda: FeatureSet("x", [], "int8"), "feature set x: dtype must be float32 or float64; found 'int8'"),
    "not a spec": (lambda: FeatureSet("x", ["amount"]), "feature set x: every entry must be a spec; found str"),
    "twice": (
        lambda: FeatureSet("x", [count("ip", "7d"), count("ip", ["1d", "7d"])]),
        "feature set x: columns must differ; found 'ip__count__7d' twice",
    ),
    "kind": (lambda: spec_from_dict({"kind": "windw"}), "unknown kind of spec 'windw'; did you mean 'window'?"),
    "parameter": (
        lambda: spec_from_dict({**spec_to_dict(count("ip", "7d")), "wnidow": "1d"}),
        "unknown parameter 'wnidow' of a window spec; did you mean 'window'",
    ),
    "incomplete": (lambda: spec_from_dict({"kind": "window", "by": ["ip"]}), "a window spec must give statistic"),
    "other version": (
        lambda: FeatureSet.from_dict({**FeatureSet("x", []).to_dict(), "version": 0}),
        "must be of version 1; found 0",
    ),
    "no version": (lambda: FeatureSet.from_dict({"name": "x", "specs": []}), "keys must include version, dtype"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_spec_is_refused_in_one_sentence(name):
    make, sentence = REFUSED[name]
    with pytest.raises(InputError, match=sentence) as refusal:
        make()
    assert "\n" not in str(refusal.value)


FEATURES = FeatureSet(
    "mine",
    [
        total("amount", "customer_id", "7d"),
        distinct("country", "customer_id", "7d", where=("auth_result", "=", "failed")),
        speed("customer_id"),
        risk("merchant_id", "7d"),
    ],
)
BAD_FRAMES = {
    "naive times": (
        {"event_time": lambda s: s.dt.tz_localize(None)},
        "column 'event_time' must hold times in one time zone; found type datetime64",
    ),
    "mixed zones": (
        {"event_time": lambda s: s.astype("object").where(s.index > 9, s[0].tz_convert("Asia/Tokyo"))},
        "'event_time' must hold times in one time zone; found type object",
    ),
    "missing times": (
        {"event_time": lambda s: s.mask(s.index < 3)},
        "'event_time' must not be empty; found 3 empty rows",
    ),
    "naive labels": ({"label_time": lambda s: s.dt.tz_localize(None)}, "'label_time' must hold times in one time zone"),
    "missing ids": (
        {"transaction_id": lambda s: s.astype("Int64").mask(s.index < 2)},
        "'transaction_id' must not be empty; found 2 empty rows",
    ),
    "mixed ids": (
        {"transaction_id": lambda s: s.astype("object").where(s.index % 2 == 0, "x" + s.astype("str"))},
        "'transaction_id' must be all text or all integers; found type object",
    ),
    "fractional ids": (
        {"transaction_id": lambda s: s + 0.5},
        "'transaction_id' must be all text or all integers; found type float64",
    ),
    "text amount": (
        {"amount": lambda s: s.astype("str")},
        "'amount' must hold numbers for this statistic; found type str",
    ),
    "boolean amount": ({"amount": lambda s: s > 3}, "'amount' must hold numbers for this statistic; found type bool"),
    "infinite amount": (
        {"amount": lambda s: s.mask(s.index < 4, np.inf)},
        "'amount' must be finite; found 4 infinite rows",
    ),
    "enormous amount": (
        {"amount": lambda s: s.mask(s.index < 4, 2e18)},
        r"'amount' must add up to less than 4.6e\+18 to be summed exactly",
    ),
    "off the globe": (
        {"latitude": lambda s: s + 80},
        "'latitude' must lie within -90 and 90 degrees; found 4,000 outside",
    ),
    "labels": (
        {"is_fraud": lambda s: s.map({True: "yes", False: "no"})},
        "'is_fraud' must be true, false or missing; found type",
    ),
    "condition kind": (
        {"auth_result": lambda s: s.str.len()},
        r"'auth_result' must be of the kind compared with \(str\); found type int64",
    ),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_a_bad_frame_is_refused_in_one_sentence(name, transactions):
    change, sentence = BAD_FRAMES[name]
    with pytest.raises(InputError, match=sentence) as refusal:
        FEATURES.compute(transactions.assign(**{column: make(transactions[column]) for column, make in change.items()}))
    assert str(refusal.value).startswith("features mine: column '")
    assert "\n" not in str(refusal.value)


def test_repeated_ids_at_one_moment_have_no_order(transactions):
    moment = transactions.assign(event_time=transactions["event_time"].iloc[0])
    moment.loc[7, "transaction_id"] = 6
    with pytest.raises(InputError, match="must tell apart rows of the same event_time; found 1 repeated"):
        FEATURES.compute(moment)


def test_what_is_no_frame_or_has_twin_columns_is_refused(transactions):
    with pytest.raises(InputError, match="transactions must be a pandas DataFrame; found dict"):
        FEATURES.compute(transactions.to_dict("list"))
    twins = pd.concat([transactions, transactions[["amount"]]], axis=1)
    with pytest.raises(InputError, match="column names must be unique"):
        FEATURES.compute(twins)


def test_an_empty_frame_gives_an_empty_table(transactions):
    found = FEATURES.compute(transactions.iloc[:0])
    assert found.shape == (0, 4)
    assert tuple(found.columns) == FEATURES.columns


def test_an_entity_that_is_always_missing_gives_nan(transactions):
    none = transactions.assign(customer_id=pd.Series(pd.NA, index=transactions.index, dtype="str"))
    found = FeatureSet("none", [count("customer_id", "7d"), since_last("customer_id")]).compute(none)
    assert found.isna().all(axis=None)


def test_the_input_is_left_as_it_was(transactions):
    before = transactions.copy(deep=True)
    FEATURES.compute(transactions)
    pd.testing.assert_frame_equal(transactions, before)


def test_the_package_loads_without_the_compiler():
    import subprocess
    import sys

    code = "import sys, fraudlab.features.sets; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_examples_of_the_documentation_are_right():
    page = Path(__file__).parents[2] / "docs" / "features.md"
    failed, tried = doctest.testfile(str(page), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert tried > 20
    assert failed == 0
