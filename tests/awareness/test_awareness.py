"""Awareness pages: complete in both languages, true to the tables they are made from, with pictures of nobody."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from scipy.stats import mannwhitneyu

from fraudlab.awareness.cases import CUTS, invented_cases
from fraudlab.awareness.findings import apart, found_by_kind, given_reasons
from fraudlab.awareness.pages import LANGUAGES, Findings, overview, page, texts, write_pages
from fraudlab.config import ModelConfig, SimulateConfig
from fraudlab.datasets.simulate import simulate
from fraudlab.datasets.typologies import TYPOLOGIES
from fraudlab.decisions import Thresholds
from fraudlab.features.sets import CARD_V1
from fraudlab.schema import InputError
from fraudlab.training import fit_estimator

WORLD = SimulateConfig(customers=400, merchants=120, days=80)
HAN = re.compile(r"[\u4e00-\u9fff]")


@pytest.fixture(scope="module")
def cases():
    return invented_cases(WORLD, 7)


def test_every_kind_of_fraud_has_the_same_texts_in_both_languages():
    said = texts()
    assert set(said) == {*TYPOLOGIES, "words"}
    for name, languages in said.items():
        assert tuple(languages) == LANGUAGES
        assert set(languages["en"]) == set(languages["zh"]), name
        for word, text in languages["en"].items():
            other = languages["zh"][word]
            assert type(text) is type(other), word
            if isinstance(text, str):
                assert sorted(re.findall(r"{\w+}", text)) == sorted(re.findall(r"{\w+}", other)), word
                assert HAN.search(other) or word in ("other_language", "comma", "picture_facts"), word
                assert not HAN.search(text) or word == "other_language", word
            else:
                assert all(HAN.search(line) for line in other)


def test_cases_are_cut_from_the_simulated_payments(cases):
    world = simulate(WORLD, 7, identities=False)
    assert set(cases) == set(TYPOLOGIES) == set(CUTS)
    for name, case in cases.items():
        rows, cut = case.payments, CUTS[name]
        assert rows["since"].between(cut.first, cut.last).all()
        assert (rows["role"] != "own").any()
        assert rows.loc[rows["role"] == "bad", "since"].min() >= 0
        if case.shown == "amount":
            assert set(rows["value"]) <= set(world["amount"])
    # Nobody travels so far in the minutes between the last payment at home and the first far away.
    travel = cases["impossible_travel"].payments
    assert travel.loc[travel["role"] == "bad", "value"].min() > 1000
    again = invented_cases(WORLD, 7)
    for name, case in cases.items():
        pd.testing.assert_frame_equal(case.payments, again[name].payments)


@pytest.fixture(scope="module")
def payments():
    rng = np.random.default_rng(3)
    n = 900
    time = pd.Timestamp("2026-03-01", tz="UTC") + pd.to_timedelta(np.sort(rng.integers(0, 6 * 86_400, n)), unit="s")
    kind = pd.Series(rng.choice(["", "theft", "forgery", "rare"], n, p=[0.9, 0.05, 0.045, 0.005]))
    table = pd.DataFrame({"event_time": time, "customer_id": [f"c{i}" for i in rng.integers(0, 150, n)]})
    table["label_time"] = table["event_time"] + pd.to_timedelta(rng.integers(1, 30, n), unit="D")
    score = np.clip(rng.normal(0.2, 0.1, n) + 0.3 * (kind != ""), 0, 1)
    return kind, score, table


def test_what_is_found_of_each_kind_equals_a_count_by_hand(payments):
    kind, score, table = payments
    found = found_by_kind(kind, score, table, Thresholds(review=0.5, step_up=0.4), alerts_per_day=4)
    assert list(found["kind"]) == ["forgery", "rare", "theft"]
    listed = set()
    frame = table.assign(score=score, day=table["event_time"].dt.floor("D"))
    for day, rows in frame.groupby("day"):
        best = rows.groupby("customer_id", sort=False)["score"].max().sort_values(ascending=False, kind="stable")
        listed |= {(day, customer) for customer in best.index[:4]}
    for row in found.itertuples():
        mine = frame[(kind == row.kind).to_numpy()]
        if row.kind == "rare":
            assert len(mine) < 10
            assert row.payments is None or np.isnan(row.payments)
            assert "fewer than 10" in row.note
            continue
        hits = [(day, who) in listed for day, who in zip(mine["day"], mine["customer_id"])]
        assert row.on_list == pytest.approx(np.mean(hits))
        assert row.low < row.on_list < row.high
        assert row.stepped_up == pytest.approx((mine["score"] >= 0.4).mean())
        days = (mine["label_time"] - mine["event_time"]).dt.days
        assert row.report_days == days.median()


def test_rows_that_do_not_match_are_refused(payments):
    kind, score, table = payments
    with pytest.raises(InputError, match="same rows; found 900, 899 and 900"):
        found_by_kind(kind, score[1:], table, Thresholds(review=0.5, step_up=0.4), 4)


def test_the_rank_of_a_feature_alone_is_that_of_mann_and_whitney(payments):
    kind, _, _ = payments
    rng = np.random.default_rng(5)
    X = pd.DataFrame(
        {"near": rng.integers(0, 5, len(kind)) + 2.0 * (kind == "theft"), "far": rng.normal(size=len(kind))}
    )
    X.loc[::7, "near"] = np.nan
    words = pd.DataFrame({"column": ["near", "far"], "group": ["place", "pace"]})
    table = apart(kind, X, words).set_index(["kind", "feature"])
    assert "rare" not in table.index.get_level_values("kind")
    for name in ("theft", "forgery"):
        for feature in X:
            mine, genuine = X[feature][kind == name].dropna(), X[feature][kind == ""].dropna()
            auc = mannwhitneyu(mine, genuine).statistic / len(mine) / len(genuine)
            row = table.loc[(name, feature)]
            assert row["rank"] == pytest.approx(auc, abs=1e-12)
            assert (row["fraud"], row["genuine"]) == (mine.median(), genuine.median())
    one = words.assign(group="same")
    assert apart(kind, X, one)["kind"].is_unique, "one feature of each group"


def test_reasons_are_counted_over_the_suspicious_frauds_only(payments):
    kind, _, _ = payments
    rng = np.random.default_rng(5)
    X = pd.DataFrame(
        {"near": 4.0 * (kind == "theft"), "far": 4.0 * (kind == "forgery"), "noise": rng.random(len(kind))}
    )
    y = (kind != "").to_numpy()
    model = fit_estimator(X, y, model=ModelConfig(n_estimators=20), seed=0)
    words = pd.DataFrame({"column": list(X), "reason": ["R1", "R2", "R3"], "group": ["place", "distance", "chance"]})
    words = words.assign(meaning="", template="{value} km", kind="number")
    said = given_reasons(kind, X, model, words, y)
    assert said["theft"][0] == "R1"
    assert said["forgery"][0] == "R2"
    assert said["rare"] == [], "fewer than ten say nothing"
    assert given_reasons(kind, X, model, words, np.zeros(len(kind), bool)) == {name: [] for name in said}


@pytest.fixture(scope="module")
def findings():
    words = {language: CARD_V1.describe(language) for language in LANGUAGES}
    ratio, device = (words["en"].query("kind == @kind")["column"].iloc[0] for kind in ("ratio", "flag"))
    known = {"customers": 11, "low": 0.41, "high": 0.72, "stepped_up": 0.83, "report_days": 4.4, "note": ""}
    rows = [{"kind": name, "payments": 20 + place, "on_list": 0.5} | known for place, name in enumerate(TYPOLOGIES)]
    rows[-1] |= dict.fromkeys(("payments", "on_list", "low", "high", "stepped_up", "report_days"))
    codes = list(dict.fromkeys(words["en"]["reason"]))
    return Findings(
        run="demo-1",
        budget=5,
        found=pd.DataFrame(rows),
        apart=pd.DataFrame(
            {
                "kind": "card_testing",
                "feature": [ratio, device],
                "rank": [0.123, 0.987],
                "fraud": [4.81, 1.0],
                "genuine": [1.02, 0.0],
            }
        ),
        reasons={"card_testing": codes[:2]},
        words=words,
    )


def test_pages_say_what_the_tables_say(findings):
    text = page("card_testing", "en", findings, "fraudlab awareness", "What is seen.")
    for expected in ("![What is seen.](../images/card_testing.en.svg)", "| 4.8", "| 1", "0.12 |", "0.99 |"):
        assert expected in text
    place = list(TYPOLOGIES).index("card_testing")
    assert f"Of {20 + place} such payments" in text
    assert "50.0 % belonged to a case on the day's list of 5 (41.0 % to 72.0 %), and 83.0 %" in text
    assert "Half of the reports came within 4.4 days." in text
    assert "from run `demo-1`" in text
    few = page(list(TYPOLOGIES)[-1], "en", findings, "fraudlab awareness", None)
    assert "Too few frauds in the test period to say." in few
    assert "![" not in few
    assert "| <10 | – | – | – |" in overview("en", findings, "fraudlab awareness")


def test_a_chinese_page_holds_no_english(findings):
    for name in TYPOLOGIES:
        text = page(name, "zh", findings, "fraudlab awareness", "图")
        visible = re.sub(r"`[^`]*`|\]\([^)]*\)|English", "", text)
        visible = re.sub(r"AUC|EUR|IP|km/h|km|Wilson", "", visible)
        assert not re.search(r"[A-Za-z]{2,}", visible), re.search(r"[A-Za-z]{2,}.*", visible)[0]
        assert "  " not in visible


def test_pages_are_written_whole_with_working_links(tmp_path, cases, findings):
    folder = tmp_path / "awareness"
    written = write_pages(folder, cases, findings, "fraudlab awareness")
    assert len(written) == 1 + 2 * (len(TYPOLOGIES) + 1)
    for path in folder.rglob("*.md"):
        for target in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
            if ".." in target and "docs" not in target and target.count("..") > 1:
                continue  # leads out of the pages, into the docs
            assert (path.parent / target).is_file(), f"{path.name}: {target}"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (folder / "notes.txt").write_text("mine")
    write_pages(folder, cases, findings, "fraudlab awareness")
    assert (folder / "notes.txt").read_text() == "mine"
    assert before == {path: path.read_bytes() for path in before}, "the same findings give the same bytes"
    assert not list(tmp_path.glob(".*"))


def test_pictures_tell_frauds_by_more_than_colour(cases):
    from fraudlab.awareness.pages import _picture

    for case in cases.values():
        picture = _picture(case, "en")
        assert "fraud" in picture.alt
        assert str((case.payments["role"] == "bad").sum()) in picture.alt
