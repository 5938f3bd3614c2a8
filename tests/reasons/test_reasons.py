"""Reasons: three different things about a payment, true to its facts, in two languages, without anybody's name."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from typer.testing import CliRunner

from fraudlab.cli import app
from fraudlab.config import ModelConfig
from fraudlab.decisions import Thresholds
from fraudlab.features import (
    FeatureSet,
    count,
    decayed_count,
    distance,
    distinct,
    frauds,
    is_new,
    linked,
    linked_frauds,
    mean,
    percentile,
    ratio,
    risk,
    since_fraud,
    since_last,
    speed,
    total,
    value,
    zscore,
)
from fraudlab.features.sets import ACCOUNT_V1, CARD_V1, HANDBOOK_V2, NAMED_SETS
from fraudlab.features.words import (
    describe_anomaly,
    describe_category,
    in_every_language,
    one_or_none,
    points_at_someone,
    reason_codes,
    regroup,
)
from fraudlab.models import FittedModel
from fraudlab.reasons import ALIKE, catalogue, reasons, tell, told_together, unexplained
from fraudlab.schema import InputError
from fraudlab.serving import load_package, save_package
from fraudlab.training import fit_estimator

BASE = -3.0


def told(describe, values: dict[str, float], pushes: dict[str, float], **options):
    """Tell one payment: values of its features, and how far they pushed (the others not at all)."""
    columns = [name for name in describe["column"] if name in values]
    moved = pd.DataFrame([{name: pushes.get(name, 0.0) for name in columns} | {"base": BASE}])
    return tell(moved, pd.DataFrame([values])[columns], describe, **options)[0]


def sentences(*given, **options) -> list[str]:
    return [reason.sentence for reason in told(*given, **options)]


# -- facts of siblings -------------------------------------------------------------------------------------------------

SIBLINGS = FeatureSet(
    "siblings",
    [
        is_new("device_id", by="customer_id"),
        distinct("customer_id", by="device_id", window=["30d", "1w"], include_current=True),
        is_new("merchant_id", by="customer_id"),
        distinct("customer_id", by="merchant_id", window="1d"),
        distance(by="customer_id"),
        speed(by="customer_id"),
        since_last(by="customer_id"),
        ratio("amount", by="customer_id", window="30d"),
        mean("amount", by="customer_id", window=["7d", "30d"]),
        mean("amount", by="customer_id", window="30d", include_current=True),
        percentile("amount", by="customer_id", window="90d"),
        count(by="customer_id", window=["1h", "1d"]),
        total("amount", by="customer_id", window="1d"),
        decayed_count(by="customer_id", half_life="6h"),
        frauds(by="merchant_id", window="28d"),
        risk(by="merchant_id", window="28d"),
        since_fraud(by="merchant_id", window=["7d", "90d"]),
        linked("customer_id", through=["device_id"]),
        linked_frauds("customer_id", through=["device_id"]),
    ],
)
WORDS = SIBLINGS.describe()
NEW, LAST, DISTANCE = "customer_id__device_id__is_new", "customer_id__since_last", "customer_id__distance"
OTHERS = "device_id__customer_id__distinct__1w__with_current"
RATIO, MEAN = "customer_id__amount__ratio__30d", "customer_id__amount__mean__30d"


@pytest.mark.parametrize(
    ("there", "english", "chinese"),
    [
        (4.0, "; 3 other customers used it within 1 week", "；过去1周内另有3位其他客户"),
        (2.0, "; 1 other customer used it within 1 week", "；过去1周内另有1位其他客户"),
        (1.0, "", ""),  # nobody else
        (np.nan, "", ""),  # not known
        (None, "", ""),  # not a feature of this model
    ],
)
def test_a_fact_is_told_where_it_is_known_and_there_is_some(there, english, chinese):
    values = {NEW: 1.0} | ({} if there is None else {OTHERS: there})
    assert sentences(WORDS, values, {NEW: 1.0}) == ["First payment by this customer on this device" + english]
    assert sentences(WORDS, values, {NEW: 1.0}, lang="zh") == ["该客户首次使用该设备" + chinese]


def test_facts_of_every_pair_of_siblings():
    values = {
        "customer_id__merchant_id__is_new": 1,
        "merchant_id__customer_id__distinct__1d": 2,
        DISTANCE: 620.4,
        "customer_id__speed": 1984,
        LAST: 18 / 1440,
        RATIO: 4.83,
        MEAN: 57.2,
        "customer_id__amount__mean__30d__with_current": 80.0,
        "customer_id__amount__percentile__90d": 0.99,
        "customer_id__count__1h": 1,
        "customer_id__count__1d": 5,
        "customer_id__amount__total__1d": 260.0,
        "customer_id__decayed_count__half6h": 3.6,
        "merchant_id__frauds__28d": 3,
        "merchant_id__risk__28d": 0.12,
        "merchant_id__since_fraud__7d": np.nan,
        "merchant_id__since_fraud__90d": 2,
        "customer_id__linked__through_device_id": 7,
        "customer_id__linked_frauds__through_device_id": 1,
    }
    expected = {
        "customer_id__merchant_id__is_new": "First payment by this customer at this merchant; 2 other customers paid "
        "there within 1 day",
        DISTANCE: "620 km from this customer's previous place; 18 minutes since the previous payment",
        "customer_id__speed": "1,984 km/h needed from this customer's previous place; 620 km from the previous place; "
        "18 minutes since the previous payment",
        LAST: "18 minutes since this customer's previous payment; 620 km from the previous place",
        RATIO: "4.8 times this customer's usual amount over 30 days, which is 57.20",
        "customer_id__amount__percentile__90d": "Amount larger than 99 % of this customer's payments over 90 days; "
        "4.8 times the usual over 30 days",
        "customer_id__count__1h": "1 payment by this customer within 1 hour",
        "customer_id__count__1d": "5 payments by this customer within 1 day, 260.00 in total",
        "customer_id__decayed_count__half6h": "Recent payments by this customer, halved every 6 hours: 3.6; 5 payments "
        "within 1 day",
        "merchant_id__frauds__28d": "3 known frauds at this merchant within 28 days, the latest 2 days ago",
        "merchant_id__risk__28d": "12 % fraud among known payments at this merchant within 28 days, 3 known frauds",
        "customer_id__linked__through_device_id": "7 customers linked through shared devices, this one included, with "
        "1 known fraud",
    }
    for column, sentence in expected.items():
        assert sentences(WORDS, values, {column: 1.0}) == [sentence]
    whole = {"whole_amounts": True}
    assert sentences(WORDS, values, {RATIO: 1.0}, **whole)[0].endswith("over 30 days, which is 57")
    assert sentences(WORDS, values, {DISTANCE: 1.0}, lang="zh") == ["距该客户上一交易地点620公里，距上一笔交易18分钟"]
    assert sentences(WORDS, values, {RATIO: 1.0}, lang="zh") == ["金额是该客户过去30天平均水平的4.8倍（平均57.20）"]


def test_a_payment_at_the_same_moment_is_told_as_such():
    assert sentences(WORDS, {DISTANCE: 620.0, LAST: 0.0}, {DISTANCE: 1.0}) == [
        "620 km from this customer's previous place; less than 2 minutes since the previous payment"
    ]


def test_no_fact_is_said_twice_in_one_row():
    count_1h = "customer_id__count__1h"
    values = {DISTANCE: 620.0, LAST: 18 / 1440, count_1h: 4}
    # Distance comes first and mentions the time; the pace then has something else to say ...
    first = told(WORDS, values, {DISTANCE: 2.0, LAST: 1.0, count_1h: 0.4})
    assert [(reason.code, reason.feature) for reason in first] == [("R04", DISTANCE), ("R02", count_1h)]
    assert [reason.sentence for reason in first] == [
        "620 km from this customer's previous place; 18 minutes since the previous payment",
        "4 payments by this customer within 1 hour",
    ]
    # ... or nothing, if all else in it pulled the other way.
    assert len(told(WORDS, values, {DISTANCE: 2.0, LAST: 1.0, count_1h: -0.4})) == 1
    # What a stronger reason has said is not added to a weaker one.
    assert sentences(WORDS, values | {"customer_id__speed": 1984}, {"customer_id__speed": 1.0, LAST: 2.0}) == [
        "18 minutes since this customer's previous payment; 620 km from the previous place",
        "1,984 km/h needed from this customer's previous place",
    ]
    # The other way round the time leads and mentions the distance.
    assert sentences(WORDS, values, {DISTANCE: 1.0, LAST: 2.0}) == [
        "18 minutes since this customer's previous payment; 620 km from the previous place"
    ]


def test_what_is_not_known_is_said_once():
    values = {RATIO: np.nan, DISTANCE: np.nan, "customer_id__count__1h": 2.0}
    assert sentences(WORDS, values, {RATIO: 3.0, DISTANCE: 2.0, "customer_id__count__1h": 1.0}) == [
        "Not known for this payment: amount divided by the mean amount by the same customer in the last 30 days",
        "2 payments by this customer within 1 hour",
    ]
    assert sentences(WORDS, values, {DISTANCE: 2.0}, lang="zh") == [
        "本笔交易未知：本笔地点与同一客户上一已知交易地点的距离，单位为公里"
    ]


def test_none_of_the_bad_signs_is_no_reason_in_any_language():
    silent = {
        "merchant_id__frauds__28d": 0,
        "customer_id__linked_frauds__through_device_id": 0,
        "merchant_id__since_fraud__90d": np.nan,
        NEW: 0,
        "merchant_id__risk__28d": 0,
    }
    for lang in ("en", "zh"):
        assert sentences(WORDS, silent, dict.fromkeys(silent, 1.0), lang=lang) == []
    # That the customer never used this method is one, in both languages.
    column = "customer_id__auth_method__share__90d"
    for lang, start in (("en", "This authentication method makes up 0 %"), ("zh", "该认证方式占")):
        assert sentences(ACCOUNT_V1.describe(), {column: 0.0}, {column: 1.0}, lang=lang)[0].startswith(start)
    # The latest fraud just now is the loudest of reasons.
    assert sentences(WORDS, {"merchant_id__since_fraud__90d": 0.0}, {"merchant_id__since_fraud__90d": 1.0}) == [
        "Less than 2 minutes since the last known fraud at this merchant within 90 days"
    ]


@pytest.fixture(scope="module")
def payments() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    n = 600
    moment = pd.Timestamp("2026-03-01", tz="UTC") + pd.to_timedelta(np.sort(rng.integers(0, 40 * 86400, n)), unit="s")
    fraud = rng.random(n) < 0.1
    return pd.DataFrame(
        {
            "transaction_id": np.arange(n),
            "event_time": moment.astype("datetime64[us, UTC]"),
            "customer_id": rng.choice([f"c{k}" for k in range(25)], n),
            "device_id": rng.choice([f"d{k}" for k in range(15)], n),
            "merchant_id": rng.choice([f"m{k}" for k in range(12)], n),
            "amount": rng.lognormal(3, 1, n).round(2),
            "latitude": rng.uniform(45, 60, n),
            "longitude": rng.uniform(0, 20, n),
            "is_fraud": pd.array(fraud, dtype="boolean"),
            "label_time": moment + pd.Timedelta("1D"),
        }
    )


def test_the_facts_in_the_sentences_are_those_of_the_raw_payments(payments):
    """Every sentence of one leading feature, read back and counted anew from the raw table."""
    X = SIBLINGS.compute(payments)
    day = pd.Timedelta("1D")
    seen = dict.fromkeys(("others", "ratio", "pair", "count", "frauds"), 0)

    told_of = {}
    for column in (NEW, RATIO, DISTANCE, "customer_id__count__1d", "merchant_id__frauds__28d"):
        moved = pd.DataFrame(0.0, index=X.index, columns=X.columns).assign(**{column: 1.0, "base": BASE})
        told_of[column] = reasons(moved, X, WORDS)

    def said(column: str, row: int) -> str:
        found = told_of[column][row]
        return found[0] if found else ""

    for row in range(420, len(payments)):
        now = payments.iloc[row]
        before = payments.iloc[:row]
        mine = before[before["customer_id"] == now["customer_id"]]
        text = said(NEW, row)
        if text:
            assert now["device_id"] not in set(mine["device_id"])
            near = before[
                (before["device_id"] == now["device_id"]) & (now["event_time"] - before["event_time"] < 7 * day)
            ]
            others = near["customer_id"].nunique()
            ending = f"; {others} other customer{'s' * (others > 1)} used it within 1 week" if others else ""
            assert text == "First payment by this customer on this device" + ending
            seen["others"] += bool(others)
        month = mine[now["event_time"] - mine["event_time"] < 30 * day]
        if len(month) and (text := said(RATIO, row)):
            times, usual = re.fullmatch(r"([\d.,]+) times this .* over 30 days, which is ([\d.,]+)", text).groups()
            assert float(usual.replace(",", "")) == pytest.approx(month["amount"].mean(), abs=0.0051)
            assert float(times.replace(",", "")) == pytest.approx(now["amount"] / month["amount"].mean(), abs=0.051)
            seen["ratio"] += 1
        if len(mine) and (text := said(DISTANCE, row)):
            last = mine.iloc[-1]
            a, b = (np.radians([place["latitude"], place["longitude"]]) for place in (now, last))
            arc = np.sin((a - b)[0] / 2) ** 2 + np.cos(a[0]) * np.cos(b[0]) * np.sin((a - b)[1] / 2) ** 2
            km = 2 * 6371.0088 * np.arcsin(np.sqrt(arc))
            hours = (now["event_time"] - last["event_time"]) / pd.Timedelta("1h")
            since = f"{hours / 24:,.0f} days" if hours >= 48 else f"{hours:,.0f} hours"
            if hours >= 2:
                shown = f"{km:,.0f}" if km >= 1000 else f"{km:.3g}"
                assert text == (f"{shown} km from this customer's previous place; {since} since the previous payment")
                seen["pair"] += 1
        today = mine[now["event_time"] - mine["event_time"] < day]
        if len(today) > 1:
            text = said("customer_id__count__1d", row)
            paid = f"{today['amount'].sum():,.2f}"
            assert text == f"{len(today)} payments by this customer within 1 day, {paid} in total"
            seen["count"] += 1
        there = before[
            (before["merchant_id"] == now["merchant_id"]) & (now["event_time"] - before["event_time"] < 28 * day)
        ]
        known = there[there["is_fraud"] & (there["label_time"] <= now["event_time"])]
        if len(known) > 1:
            text = said("merchant_id__frauds__28d", row)
            days = (now["event_time"] - known["event_time"].max()) / day
            ago = f"{days:,.0f} days" if days >= 2 else f"{24 * days:,.0f} hours"
            assert text == f"{len(known)} known frauds at this merchant within 28 days, the latest {ago} ago"
            seen["frauds"] += 1
    assert min(seen.values()) > 10, seen


# -- ranking: against a plain loop over rows ---------------------------------------------------------------------------


def slowly(moved, values, words, top):
    """Return (group, feature, sum) of each row's reasons as the docstring of `tell` reads, facts and unknowns aside."""
    rows = []
    for push, there in zip(moved.to_dict("records"), values.to_dict("records")):
        sums, able = {}, {}
        for word in words.to_dict("records"):
            name, group = word["column"], word["group"]
            sums[group] = sums.get(group, 0.0) + push[name]
            if push[name] > 0 and not (word["kind"] in ("flag", "share") and there[name] == 0):
                able.setdefault(group, []).append((push[name], name))
        ranked = sorted(sums, key=lambda group: -sums[group])
        found = [(group, max(able[group])[1], sums[group]) for group in ranked if sums[group] > 0 and group in able]
        rows.append(found[:top])
    return rows


def test_reasons_rank_as_a_plain_loop_would():
    rng = np.random.default_rng(3)
    names = [f"f{k}" for k in range(14)]
    words = pd.DataFrame(
        {
            "column": names,
            "group": [f"g{k % 5}" for k in range(14)],
            "meaning": "What it is.",
            "template": [f"{name} is {{value}}" for name in names],
            "kind": rng.choice(["flag", "share", "count", "number"], 14),
        }
    )
    moved = pd.DataFrame(rng.normal(size=(300, 14)), columns=names).assign(base=BASE)
    X = pd.DataFrame(rng.integers(0, 3, (300, 14)), columns=names)
    for top in (1, 3, 9):
        found = tell(moved, X, words, top)
        expected = slowly(moved, X, words, top)
        assert [[(r.name, r.feature) for r in row] for row in found] == [[pair[:2] for pair in row] for row in expected]
        for row, wanted in zip(found, expected):
            np.testing.assert_allclose([reason.pushed for reason in row], [pushed for *_, pushed in wanted])
    assert tell(moved.iloc[:0], X.iloc[:0], words) == []
    assert tell(moved, X, words, 0) == [[]] * 300


def test_sentences_and_reasons_are_the_same():
    moved = pd.DataFrame([[1.0, 0.5, BASE]], columns=[RATIO, LAST, "base"])
    X = pd.DataFrame([[4.8, 0.1]], columns=[RATIO, LAST])
    assert reasons(moved, X, WORDS) == [[reason.sentence for reason in row] for row in tell(moved, X, WORDS)]
    with pytest.raises(InputError, match=r"^lang: must be one of en, zh; found 'de'; valid are: en, zh$"):
        reasons(moved, X, WORDS, lang="de")
    assert unexplained("zh") == "此类模型无法给出原因"


# -- three different things --------------------------------------------------------------------------------------------


def test_the_rank_correlation_is_that_of_scipy_where_all_is_known():
    rng = np.random.default_rng(0)
    a = rng.normal(size=500)
    X = pd.DataFrame({"a": a, "b": np.exp(a) + rng.normal(size=500), "c": -(a**3), "d": rng.normal(size=500)})
    words = pd.DataFrame({"column": list("abcd"), "group": ["one", "two", "three", "four"]})
    rho = np.abs(spearmanr(X.to_numpy()).statistic)
    assert rho[0, 2] == pytest.approx(1)  # falls where the other rises
    for limit in (rho[0, 1] - 1e-6, rho[0, 1] + 1e-6):
        joined = {"c": "a"} | ({"b": "a"} if limit < rho[0, 1] else {})
        assert told_together(words, X, limit) == joined


def test_what_is_alike_through_others_moves_where_most_of_it_is():
    rng = np.random.default_rng(1)
    chain = np.cumsum(rng.normal(size=(6, 4000)), axis=0)[2:]
    X = pd.DataFrame(chain.T, columns=list("wxyz")).assign(alone=rng.normal(size=4000))
    rho = np.abs(X.corr(method="spearman").to_numpy())
    limit = (rho[0, 3] + min(rho[k, k + 1] for k in range(3))) / 2
    assert rho[0, 3] < limit < min(rho[k, k + 1] for k in range(3))  # the ends are alike through the middle only
    words = pd.DataFrame({"column": [*"wxyz", "alone"], "group": ["pace", "pace", "place", "pace", "place"]})
    assert told_together(words, X, limit) == {"y": "w"}


def test_what_cannot_be_compared_is_not_joined():
    n = 300
    X = pd.DataFrame({"a": np.arange(n), "b": np.where(np.arange(n) < 90, np.arange(n), np.nan), "c": 1.0})
    words = pd.DataFrame({"column": list("abc"), "group": ["one", "two", "three"]})
    assert told_together(words, X.assign(text="x")) == {}  # too few rows known together; a constant; a category
    assert told_together(words, X.iloc[:0]) == {}
    assert told_together(words, X.assign(b=np.arange(n))) == {"b": "a"}
    assert told_together(words, pd.concat([X.assign(b=np.arange(n))] * 100), rows=200) == {"b": "a"}


def test_regrouped_words_take_the_other_reason_in_every_language():
    words = CARD_V1.describe()
    moved = regroup(words, {NEW: LAST, "not there": LAST, LAST: "nor this"})
    row = moved.set_index("column").loc[NEW]
    assert (row["reason"], row["group"], row["group_zh"]) == ("R02", "pace", "交易频率")
    assert row["template"] == words.set_index("column").loc[NEW, "template"]
    assert (moved["group"] != words["group"]).sum() == 1
    assert regroup(words, {}) is words


@pytest.fixture(scope="module")
def card() -> tuple[pd.DataFrame, np.ndarray]:
    from fraudlab.config import SimulateConfig
    from fraudlab.datasets.simulate import simulate

    raw = simulate(SimulateConfig(customers=250, merchants=120, days=100), 3)
    names = {
        "payment_id": "transaction_id",
        "paid_at": "event_time",
        "customer_ref": "customer_id",
        "card_number": "card_id",
        "merchant_ref": "merchant_id",
        "device_fingerprint": "device_id",
        "ip_address": "ip",
        "reported_fraud": "is_fraud",
        "reported_at": "label_time",
    }
    frame = raw.rename(columns=names)
    frame["is_fraud"] = frame["is_fraud"].astype("boolean").where(frame["label_time"].notna())
    frame = frame.sort_values(["event_time", "transaction_id"], ignore_index=True)
    return CARD_V1.compute(frame), frame["is_fraud"].fillna(False).to_numpy(dtype=bool)


def pairs_alike(rows, X) -> int:
    """Count the pairs of features leading one row's reasons whose rank correlation in X clearly exceeds the limit."""
    rho = X.iloc[::12].corr(method="spearman").abs()
    pairs = [(a.feature, b.feature) for row in rows for k, a in enumerate(row) for b in row[:k]]
    return sum(bool(rho.loc[pair] > ALIKE + 0.02) for pair in pairs)


def test_no_two_reasons_of_an_alert_rest_on_features_that_are_near_copies(card):
    """Whatever a model makes of the features: contributions drawn at random push every one of them."""
    X, _ = card
    alerts = X.iloc[::60]
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(0.2, 1, alerts.shape), alerts.index, alerts.columns).assign(base=BASE)
    words = CARD_V1.describe()
    # As it was before the table knew better: the different merchants of a day are almost its payments.
    apart = words.assign(group=words["group"].where(~words["column"].str.contains("merchant_id__distinct"), "merchant"))
    assert pairs_alike(tell(table, alerts, apart), X) > 3
    moves = told_together(apart, X)
    assert moves["customer_id__merchant_id__distinct__1d"].startswith("customer_id__")
    for described in (regroup(apart, moves), regroup(words, told_together(words, X))):
        rows = tell(table, alerts, described)
        assert pairs_alike(rows, X) == 0
        assert np.mean([len(row) == 3 for row in rows]) > 0.9
        assert all(len({reason.name for reason in row}) == len(row) for row in rows)


def test_a_model_tells_what_its_training_rows_say_belongs_together(card, tmp_path):
    X, y = card
    names = [NEW, LAST]
    model = fit_estimator(X[names], y, model=ModelConfig(n_estimators=10, early_stopping_rounds=0), seed=0, threads=1)
    words = CARD_V1.describe()
    assert model.words(words).equals(words)
    joined = FittedModel(model.name, model.features, model.estimator, facts=model.facts | {"told_with": {NEW: LAST}})
    save_package(tmp_path / "package", joined, Thresholds(review=0.5, step_up=0.2), words, {})
    kept = load_package(tmp_path / "package")
    assert kept.model.facts["told_with"] == {NEW: LAST}
    assert kept.describe.set_index("column")["reason"].to_dict() == {NEW: "R02", LAST: "R02"}


# -- packages ----------------------------------------------------------------------------------------------------------


def test_a_package_speaks_chinese_and_an_old_one_english(card, tmp_path):
    X, y = card
    model = fit_estimator(X, y, model=ModelConfig(n_estimators=20, early_stopping_rounds=0), seed=0, threads=1)
    words, thresholds = CARD_V1.describe(), Thresholds(review=0.05, step_up=0.01)
    save_package(tmp_path / "new", model, thresholds, words, {})
    before = words[["column", "group", "meaning", "template", "kind"]].assign(
        template=words["template"].str.replace(r"\[.*\]$", "", regex=True).where(~words["template"].str.startswith("["))
    )
    before["template"] = before["template"].fillna("{value} of it")
    save_package(tmp_path / "old", model, thresholds, before, {})
    new, old = load_package(tmp_path / "new"), load_package(tmp_path / "old")
    rows = X.iloc[np.argsort(-model.score(X), kind="stable")[:60]]
    english, chinese = new.score(rows), new.score(rows, lang="zh")
    assert english["reasons"].map(len).tolist() == chinese["reasons"].map(len).tolist()
    assert english["reasons"].map(len).max() == 3
    assert not any(re.search("[\u4e00-\u9fff]", said) for row in english["reasons"] for said in row)
    assert all(re.search("[\u4e00-\u9fff]", said) for row in chinese["reasons"] for said in row)
    assert english.drop(columns="reasons").equals(chinese.drop(columns="reasons"))
    assert old.score(rows, lang="zh")["reasons"].tolist() == old.score(rows)["reasons"].tolist()
    with pytest.raises(InputError, match=r"^lang: must be one of en, zh; found 'fr'"):
        new.score(rows, lang="fr")
    kept = json.loads((tmp_path / "new" / "features.json").read_text())
    assert [row["column"] for row in kept] == list(model.features)
    assert {"reason", "template_zh"} <= kept[0].keys()


# -- nobody's name -----------------------------------------------------------------------------------------------------

PLANTED = ["4929123412341234", "ada@example.org", "SE35 5000 0000 0549 1000 0003", "9f86d081884c7d659a2f", "c7" * 20]


@pytest.mark.parametrize("planted", PLANTED)
def test_a_value_that_points_at_someone_is_never_quoted(planted):
    assert points_at_someone(planted)
    for column in ("merchant_category", "merchant_id", "ip", "note"):
        words = pd.DataFrame([in_every_language(describe_category, column)])
        moved, X = pd.DataFrame({column: [1.0], "base": [BASE]}), pd.DataFrame({column: [planted]})
        for lang in ("en", "zh"):
            [[reason]] = tell(moved, X, words, lang=lang)
            assert planted not in reason.sentence
            assert not re.search(r"\d", reason.sentence)
    assert sentences(words, {"note": planted}, {"note": 1.0}) == ["This note"]
    category = pd.DataFrame([in_every_language(describe_category, "merchant_category")])
    assert sentences(category, {"merchant_category": planted}, {"merchant_category": 1.0}, lang="zh") == ["该商户类别"]


def test_a_number_that_is_an_identifier_is_named_only():
    words = FeatureSet("odd", [value("merchant_id"), value("card_number"), value("amount")]).describe()
    values = {"merchant_id": 812731.0, "card_number": 4929123412341234.0, "amount": 12.5}
    pushes = {"merchant_id": 3.0, "card_number": 2.0, "amount": 1.0}
    assert sentences(words, values, pushes) == ["This merchant", "This card number", "Amount of 12.50"]
    assert sentences(words, values, pushes, lang="zh")[0] == "该商户"


def test_names_of_kinds_of_things_are_quoted():
    words = pd.DataFrame([in_every_language(describe_category, "merchant_category")])
    for lang, said in (("en", "Merchant category: gift cards"), ("zh", "商户类别：礼品卡")):
        assert sentences(words, {"merchant_category": "gift_cards"}, {"merchant_category": 1.0}, lang=lang) == [said]
    assert not any(points_at_someone(name) for name in ("home_and_garden", "SE", "3D-Secure 2.1", "MCC 5411", "礼品卡"))


# -- speed -------------------------------------------------------------------------------------------------------------


def test_ten_thousand_alerts_of_sixty_features_take_under_three_seconds():
    rng = np.random.default_rng(0)
    names = list(CARD_V1.columns)
    X = pd.DataFrame(np.abs(rng.normal(2, 2, (10_000, len(names)))).round(2), columns=names)
    moved = pd.DataFrame(rng.normal(size=X.shape), columns=names).assign(base=BASE)
    words = CARD_V1.describe()
    spent = []
    for lang in ("en", "zh"):
        began = time.process_time()
        rows = tell(moved, X, words, lang=lang)
        spent.append(time.process_time() - began)
    assert len(rows) == 10_000
    assert min(spent) < 3, spent


# -- the list of reasons -----------------------------------------------------------------------------------------------

# A code keeps its meaning: reports and case files of years ago name it.
CODES = {
    "R01": ("amount", "金额"),
    "R02": ("pace", "交易频率"),
    "R03": ("trial payments", "试探性交易"),
    "R04": ("place", "地点"),
    "R05": ("device and network", "设备与网络"),
    "R06": ("authentication", "身份认证"),
    "R07": ("merchant", "商户"),
    "R08": ("known fraud", "已知欺诈"),
    "R09": ("links", "关联关系"),
    "R10": ("account age", "账户时长"),
    "R11": ("time of day", "交易时间"),
    "R12": ("unusual payment", "整体异常"),
    "R13": ("channel", "渠道"),
    "R90": ("{what}", "{what}"),
    "R99": ("history", "交易历史"),
}


def test_codes_keep_their_meaning():
    assert {code: tuple(reason.name.values()) for code, reason in reason_codes().items()} == CODES


@pytest.mark.parametrize("features", NAMED_SETS.values(), ids=lambda features: features.name)
def test_every_feature_of_a_set_is_counted_once(features):
    table = catalogue(features.describe())
    assert table["features"].sum() == len(features.columns)
    assert table["code"].is_unique
    assert set(table["code"]) <= set(CODES)


def everything() -> pd.DataFrame:
    """The words of features that between them have every reason."""
    wide = FeatureSet("wide", [*CARD_V1.specs, linked("account_id", through="phone"), value("v14")]).describe()
    return pd.concat([wide, pd.DataFrame([in_every_language(describe_anomaly, "anomaly")])], ignore_index=True)


def page_table() -> str:
    english, chinese = (catalogue(everything(), lang) for lang in ("en", "zh"))
    lines = ["| code | name | about | example | 名称 | 例句 |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {a.code} | {a.name} | {a.about} | {a.example} | {b.name} | {b.example} |"
        for a, b in zip(english.itertuples(), chinese.itertuples())
    ]
    return "\n".join(lines)


def test_the_page_shows_the_reasons_as_they_are():
    page = (Path(__file__).parents[2] / "docs" / "reasons.md").read_text(encoding="utf-8")
    assert page_table() in page, f"put this table into docs/reasons.md:\n{page_table()}"


def test_the_examples_of_the_page_are_what_comes_out():
    page = (Path(__file__).parents[2] / "docs" / "reasons.md").read_text(encoding="utf-8")
    block = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    scope: dict[str, object] = {}
    exec(compile(block, "docs/reasons.md", "exec"), scope)
    for line in re.findall(r"# -> (.+)", block):
        assert line in [str(found) for found in scope["shown"]], line


def test_the_command_lists_the_reasons():
    run = CliRunner().invoke(app, ["features", "reasons", "account-v1", "--lang", "zh", "--json"])
    assert run.exit_code == 0
    assert json.loads(run.output) == catalogue(ACCOUNT_V1.describe(), "zh").to_dict("records")
    plain = CliRunner().invoke(app, ["features", "reasons", "handbook-v2"])
    assert "R08" in plain.output
    assert "known fraud" in plain.output
    wrong = CliRunner().invoke(app, ["features", "reasons", "--lang", "xx"])
    assert wrong.exit_code != 0


def test_counts_of_one_in_facts_keep_their_grammar():
    assert one_or_none("{value} other customers used it within 1 day", 1) == (
        "{value} other customer used it within 1 day"
    )
    assert HANDBOOK_V2.describe()["template"].str.contains("such payments").any()
    spree = FeatureSet(
        "spree",
        [
            decayed_count(by="customer_id", half_life="3d", where=("amount", ">", 500)),
            count(by="customer_id", window=["1d", "7d"], where=("amount", ">", 500)),
            zscore("amount", by="customer_id", window="7d"),
            ratio("amount", by="customer_id", window="30d"),
        ],
    )
    recent, _, week, against, times = spree.columns
    values = {recent: 1.2, week: 1.0, against: -1.5, times: 0.4}
    assert sentences(spree.describe(), values, {recent: 2.0, against: 1.0}) == [
        "Recent payments with amount above 500 by this customer, halved every 3 days: 1.2; 1 such payment within "
        "7 days",
        "-1.5 standard deviations from this customer's usual amount over 7 days; 0.4 times the usual over 30 days",
    ]
