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
    cents,
    count,
    decayed_count,
    decayed_total,
    distinct,
    entropy,
    frauds,
    hour,
    hour_shift,
    is_new,
    labelled,
    linked,
    linked_frauds,
    mean,
    median,
    month_day,
    percentile,
    quantile,
    ratio,
    risk,
    round_amount,
    since_fraud,
    since_last,
    speed,
    total,
    usual_distance,
    usual_hour,
    value,
    weekday,
)
from fraudlab.features.sets import NAMED_SETS
from fraudlab.features.specs import CurrentSpec, LinkSpec, PastSpec, WindowSpec, spec_from_dict, spec_to_dict
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
        mean("amount", by="card_id", window="90d", last=5, where=("channel", "=", "in store")): [
            "card_id__amount__mean__90d__last5__where_channel_eq_in_store"
        ],
        quantile("amount", 0.9, by="card_id", window="7d"): ["card_id__amount__quantile0_9__7d"],
        quantile("amount", 1, by="card_id", window="7d"): ["card_id__amount__quantile1__7d"],
        median("amount", by="card_id", window="7d", include_current=True): [
            "card_id__amount__median__7d__with_current"
        ],
        risk("ip", "7d", last=20, prior=(0.01, 20), empty=0.0): ["ip__risk__7d__last20__empty0__prior0_01_of_20"],
        since_fraud("ip", ["7d", "1w"]): ["ip__since_fraud__7d", "ip__since_fraud__1w"],
        since_fraud("ip", "7d", first=True, delay="1d"): ["ip__since_first_fraud__7d__delay1d"],
        usual_hour("ip", "7d", zone="America/Argentina/La_Rioja"): ["ip__usual_hour__7d__America_Argentina_La_Rioja"],
        decayed_count("ip", half_life="90min"): ["ip__decayed_count__half90min"],
        decayed_total("amount", "ip", "1h", where=("amount", "<", -3)): [
            "ip__amount__decayed_total__half1h__where_amount_lt_-3"
        ],
        linked("customer_id", ["device_id", "ip"]): ["customer_id__linked__through_device_id_and_ip"],
        linked_frauds("card_id", "ip"): ["card_id__linked_frauds__through_ip"],
        round_amount(step=50): ["amount__round50"],
        hour(): ["hour"],
        weekday("Europe/Berlin"): ["weekday__Europe_Berlin"],
        value("amount"): ["amount"],
    }.items():
        assert list(spec.columns) == names


def test_specs_are_equal_and_hashable_by_what_they_mean():
    assert count(by="customer_id", window="1d") == count(by=["customer_id"], window=("1d",))
    assert len({risk("ip", "7d"), risk("ip", "7d", empty=float("nan")), risk("ip", "7d", empty=0.0)}) == 2
    assert risk("ip", "7d", prior=(0.01, 20)) == risk("ip", "7d", prior=[0.01, 20])
    assert linked("card_id", "ip") == linked("card_id", ["ip"])
    assert median("amount", "ip", "7d") == quantile("amount", 0.5, "ip", "7d")


def test_every_spec_survives_json():
    for spec in (
        count("ip", ["1d", "7d"], where=("auth_result", "!=", "failed"), delay="1h"),
        mean("amount", ("ip", "card_id"), "7d", last=3, include_current=True, where=("flag", "=", False)),
        quantile("amount", 0, "ip", "7d"),
        risk("ip", "7d", prior=(0.01, 20), empty=0.0, last=5),
        usual_hour("ip", "7d", zone="Europe/Berlin"),
        speed("ip", slack_km=0),
        decayed_total("amount", "ip", "1h", where=("amount", "<", 3)),
        linked("customer_id", ["device_id", "ip"]),
        round_amount(step=5),
        month_day("Asia/Kathmandu"),
    ):
        plain = json.loads(json.dumps(spec_to_dict(spec)))
        assert None not in plain.values()
        assert spec_from_dict(plain) == spec
        assert spec_from_dict(plain).columns == spec.columns


@pytest.mark.parametrize("features", NAMED_SETS.values(), ids=lambda features: features.name)
def test_a_set_survives_json(features):
    again = FeatureSet.from_dict(json.loads(json.dumps(features.to_dict())))
    assert again == features
    assert again.digest == features.digest


def test_the_digest_follows_what_is_computed_not_what_it_is_called():
    def make(name="x", window="7d", dtype="float64", **options):
        return FeatureSet(name, [value("amount"), risk("merchant_id", window, **options)], dtype)

    assert make(name="y").digest == make().digest
    assert make(prior=(0.5, 20)).digest == make(prior=[0.5, 20]).digest == make(prior=(0.5, 20.0)).digest
    assert make(empty=1).digest == make(empty=1.0).digest
    others = [make(window="8d"), make(dtype="float32"), make(empty=0.5), FeatureSet("x", make().specs[::-1])]
    others += [make(last=3), make(last=4), make(prior=(0.5, 20)), make(prior=(0.5, 21))]
    assert len({features.digest for features in (make(), *others)}) == 9


def test_requires_names_the_source_columns_once_in_canonical_order():
    features = FeatureSet(
        "needs",
        [
            speed(by="customer_id"),
            count("my_device", "1d", where=("auth_result", "=", "failed")),
            frauds("customer_id", "7d"),
            linked_frauds("customer_id", ["card_id", "my_device"]),
            decayed_count("customer_id", "1h", where=("my_flag", "=", True)),
            hour_shift("customer_id", "7d", zone="Europe/Berlin"),
        ],
    )
    assert features.requires == (
        "transaction_id",
        "event_time",
        "customer_id",
        "card_id",
        "latitude",
        "longitude",
        "auth_result",
        "is_fraud",
        "label_time",
        "my_device",
        "my_flag",
    )
    assert linked("customer_id", "ip").requires == ("customer_id", "ip")
    for make in (frauds, labelled, risk, since_fraud):
        assert make("ip", "7d").requires == ("ip", "is_fraud", "label_time")
    assert usual_distance("ip", "7d").requires == ("ip", "latitude", "longitude")


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
    "condition twice over": (
        lambda: decayed_count("ip", "1h", where=("amount", "~", 3)),
        "decayed_count: where must compare with one of",
    ),
    "last of none": (
        lambda: mean("amount", "ip", "7d", last=0),
        "mean: last must be a whole number > 0; found 0; correct or remove it",
    ),
    "last negative": (lambda: frauds("ip", "7d", last=-3), "frauds: last must be a whole number > 0; found -3"),
    "last half": (lambda: entropy("ip", "card_id", "7d", last=2.5), "entropy: last must be .*; found 2.5"),
    "last as text": (lambda: entropy("ip", "card_id", "7d", last="5"), "entropy: last must be .*; found '5'"),
    "last true": (lambda: mean("amount", "ip", "7d", last=True), "mean: last must be .*; found True"),
    "last of counts": (
        lambda: WindowSpec("count", "ip", "7d", last=3),
        "count: last must be left out; found 3; correct or remove it",
    ),
    "last of labels": (lambda: WindowSpec("labelled", "ip", "7d", last=3), "labelled: last must be left out; found 3"),
    "last of one fraud": (lambda: WindowSpec("since_fraud", "ip", "7d", last=3), "since_fraud: last must be left out"),
    "q too large": (
        lambda: quantile("amount", 1.5, "ip", "7d"),
        "quantile: q must be a number from 0 to 1 of quantile, else left out; found 1.5",
    ),
    "q in percent": (lambda: quantile("amount", 90, "ip", "7d"), "quantile: q must be .*; found 90"),
    "q missing": (lambda: quantile("amount", None, "ip", "7d"), "quantile: q must be .*; found None"),
    "q not a number": (lambda: quantile("amount", float("nan"), "ip", "7d"), "quantile: q must be .*; found nan"),
    "q of mean": (lambda: WindowSpec("mean", "ip", "7d", value="amount", q=0.5), "mean: q must be .*; found 0.5"),
    "prior alone": (
        lambda: risk("ip", "7d", prior=0.01),
        r"risk: prior must be \(rate from 0 to 1, strength > 0\) of risk, or left out; found 0.01; \(0.01, 20\) weighs",
    ),
    "prior of percent": (lambda: risk("ip", "7d", prior=(2, 20)), r"risk: prior must be .*; found \(2, 20\)"),
    "prior without weight": (lambda: risk("ip", "7d", prior=(0.1, 0)), r"risk: prior must be .*; found \(0.1, 0\)"),
    "prior of three": (lambda: risk("ip", "7d", prior=(0.1, 1, 1)), r"risk: prior must be .*; found \(0.1, 1, 1\)"),
    "prior of text": (lambda: risk("ip", "7d", prior=("0.1", 1)), r"risk: prior must be .*; found \('0.1', 1\)"),
    "prior of frauds": (
        lambda: WindowSpec("frauds", "ip", "7d", prior=(0.1, 1)),
        "frauds: prior must be .* of risk, or left out",
    ),
    "empty of mean": (lambda: WindowSpec("mean", "ip", "7d", value="amount", empty=0.0), "mean: empty must be .* risk"),
    "empty without end": (lambda: risk("ip", "7d", empty=float("inf")), "risk: empty must be a finite number"),
    "zone unknown": (
        lambda: hour("Europe/Berln"),
        "hour: zone must be a time zone's name; found 'Europe/Berln'; write it like Europe/Berlin",
    ),
    "zone of a continent": (lambda: hour("Europe"), "hour: zone must be a time zone's name; found 'Europe'"),
    "zone of nowhere": (lambda: hour(""), "hour: zone must be a time zone's name; found ''"),
    "zone of this machine": (lambda: hour("localtime"), "hour: zone must be a time zone's name; found 'localtime'"),
    "current as text": (
        lambda: WindowSpec("count", "ip", "7d", include_current="no"),
        "count: include_current must be True or False; found 'no'",
    ),
    "first as text": (
        lambda: since_fraud("ip", "7d", first="x"),
        "since_fraud: first must be True or False; found 'x'",
    ),
    "zone as number": (lambda: usual_hour("ip", "7d", zone=1), "usual_hour: zone must be .*; found 1"),
    "zone as path": (lambda: hour("../../etc/passwd"), "hour: zone must be a time zone's name"),
    "zones": (lambda: hour_shift("ip", "7d", zone=["UTC"]), r"hour_shift: zone must be .*; found \['UTC'\]"),
    "zone of gaps": (
        lambda: WindowSpec("mean_gap", "ip", "7d", zone="UTC"),
        "mean_gap: zone must be left out; found 'UTC'; remove it",
    ),
    "zone of cents": (lambda: CurrentSpec("cents", "amount", zone="UTC"), "cents: zone must be left out; found 'UTC'"),
    "half-life": (lambda: decayed_count("ip", "a day"), "decayed_count: half_life: must be .*; found 'a day'"),
    "no half-life": (lambda: decayed_count("ip", None), "decayed_count: half_life: must be .*; found None"),
    "half-life of hours": (lambda: decayed_total("amount", "ip", 3), "decayed_total: half_life: must be .*; found 3"),
    "half-life of since": (
        lambda: PastSpec("since_last", "ip", half_life="1h"),
        "since_last: half_life and where belong to decayed sums; found one; remove it",
    ),
    "condition of since": (
        lambda: PastSpec("since_last", "ip", where=("amount", "<", 3)),
        "since_last: half_life and where belong to decayed sums; found one; remove it",
    ),
    "slack of decay": (
        lambda: PastSpec("decayed_count", "ip", half_life="1h", slack_km=3),
        "decayed_count: slack_km and floor belong to speed",
    ),
    "no link": (
        lambda: linked("customer_id", []),
        "linked: through must name one or more columns other than 'customer_id'; found none; name what people share",
    ),
    "link to itself": (lambda: linked("ip", "ip"), "linked: through must name .* other than 'ip'; found ip"),
    "link twice": (lambda: linked("card_id", ["ip", "ip"]), "linked: through must name .*; found ip, ip"),
    "link by label": (
        lambda: linked("customer_id", ["device_id", "is_fraud"]),
        "linked: through must be known when the payment happens; found 'is_fraud', which is known only afterwards",
    ),
    "link by label's moment": (
        lambda: linked_frauds("customer_id", "label_time"),
        "linked_frauds: through must be known when the payment happens; found 'label_time'",
    ),
    "link of labels": (lambda: linked("is_fraud", "ip"), "linked: value must be known when .* 'is_fraud'"),
    "link by number": (lambda: linked("customer_id", ["ip", 5]), "linked: through must be a column's name; found 5"),
    "link of nothing": (lambda: linked(None, "ip"), "linked: value must be a column's name; found None"),
    "link statistic": (lambda: LinkSpec("linkd", "ip", "card_id"), "unknown link statistic 'linkd'; did you mean"),
    "decay of label": (lambda: decayed_total("is_fraud", "ip", "1h"), "decayed_total: value must be known when"),
    "tally of label": (lambda: entropy("fraud_scenario", "ip", "7d"), "entropy: value must be known when"),
    "condition of gaps": (
        lambda: WindowSpec("mean_gap", "ip", "7d", where=("amount", "<", 3)),
        "mean_gap: where must be left out; found a condition; use it with count or mean",
    ),
    "condition of hours": (
        lambda: WindowSpec("usual_hour", "ip", "7d", where=("amount", "<", 3)),
        "usual_hour: where must be left out",
    ),
    "current in its own share": (
        lambda: WindowSpec("share", "ip", "7d", value="card_id", include_current=True),
        "share: include_current must be left out, because it tells the row from its history; found true; remove it",
    ),
    "current label": (
        lambda: WindowSpec("risk", "ip", "7d", include_current=True),
        "risk: include_current must be left out",
    ),
    "current in percentile": (
        lambda: WindowSpec("percentile", "ip", "7d", value="amount", include_current=True),
        "percentile: include_current must be left out",
    ),
    "value of gaps": (lambda: WindowSpec("std_gap", "ip", "7d", value="amount"), "std_gap: value must be left out"),
    "no value": (lambda: percentile(None, "ip", "7d"), "percentile: value must be a column's name; found None"),
    "no entity at all": (lambda: count(None, "7d"), "count: by must .* column"),
    "no window at all": (lambda: count("ip", None), "count: window.* must .* 7d"),
    "window as number": (lambda: count("ip", 7), "count: window.* must .* 7d"),
    "no link at all": (lambda: linked("customer_id", None), "linked: through must .* column"),
    "step of cents": (lambda: CurrentSpec("cents", "amount", step=3), "cents: step must be .* of round, else left out"),
    "cents of nothing": (lambda: cents(None), "cents: value must be a column's name; found None"),
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
    "windowless": (
        lambda: spec_from_dict({"kind": "window", "statistic": "count", "by": ["ip"]}),
        "a window spec must give window",
    ),
    "link of what": (
        lambda: spec_from_dict({"kind": "link", "statistic": "linked", "through": ["ip"]}),
        "a link spec must give value",
    ),
    "zone through JSON": (
        lambda: spec_from_dict({**spec_to_dict(hour("UTC")), "zone": "Mars/Olympus"}),
        "hour: zone must be a time zone's name; found 'Mars/Olympus'",
    ),
    "other version": (
        lambda: FeatureSet.from_dict({**FeatureSet("x", []).to_dict(), "version": 0}),
        "must be of version 2; found 0",
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
    "times before all history": (
        {"event_time": lambda s: s.mask(s.index < 2, pd.Timestamp(5 - 2**63, unit="us", tz="UTC"))},
        "'event_time' must not begin before 290,000 BC",
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
