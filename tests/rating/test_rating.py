"""Ratings: by a loop over everything known at each midnight, blind to the future, without flicker."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fraudlab.rating import RATINGS, RatingRule, Ratings, rate, rating_moves, rating_weeks, verdict
from fraudlab.schema import InputError

START = pd.Timestamp("2026-03-01", tz="UTC")
RULE = RatingRule(half_life_days=3, counts_from=0.1, medium_from=0.2987, high_from=0.8013, keep=0.4919)


def make(rows=700, days=25, entities=25, seed=0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    time = START + pd.to_timedelta(rng.integers(0, days * 86_400, rows), unit="s")
    time = time.where(rng.random(rows) > 0.05, time.floor("D"))  # some at midnight itself
    fraud = rng.random(rows) < 0.1
    label_time = time + pd.to_timedelta(rng.exponential(4, rows), unit="D").floor("s")
    label_time = label_time.where(rng.random(rows) > 0.1, label_time.ceil("D"))
    known = rng.random(rows) < 0.9
    risk = np.where(rng.random(rows) < 0.1, np.nan, np.round(np.clip(rng.beta(0.3, 2, rows) + 0.4 * fraud, 0, 1), 3))
    return pd.DataFrame(
        {
            "entity": [f"c{i}" for i in rng.integers(0, entities, rows)],
            "event_time": time,
            "risk": risk,
            "y": pd.array(np.where(known, fraud, None), dtype="boolean"),
            "label_time": label_time.where(known),
        }
    )


def rated(frame: pd.DataFrame, **changes) -> Ratings:
    given = {"rule": RULE, "start": START + pd.Timedelta(days=4), "end": START + pd.Timedelta(days=24)} | changes
    return rate(frame["entity"], frame["event_time"], frame["risk"], frame["y"], frame["label_time"], **given)


def by_hand(frame: pd.DataFrame, entity: str, rule: RatingRule) -> dict[pd.Timestamp, int]:
    """One customer's rating at every midnight, everything known then added up afresh."""
    own, code, found = frame[frame["entity"] == entity], 0, {}
    time, told = (own[name].dt.tz_convert(None).to_numpy() for name in ("event_time", "label_time"))
    outcome, risk = own["y"].to_numpy(dtype=float, na_value=np.nan), own["risk"].to_numpy()
    stated, day = np.where(risk >= rule.counts_from, risk, 0.0), time.astype("datetime64[D]")
    for midnight in pd.date_range(START, periods=25, freq="D"):
        now = midnight.tz_convert(None).to_datetime64()
        age = (now.astype("datetime64[D]") - day).astype(int) - 1
        value = np.where(~np.isnan(outcome) & (told <= now), outcome, stated)
        evidence = float((value * 2.0 ** (-age / rule.half_life_days))[time < now].sum())
        edges = np.array([rule.high_from, rule.medium_from])
        assert np.abs(evidence - np.r_[edges, rule.keep * edges]).min() > 1e-9, "no number lies on an edge"
        if evidence >= rule.high_from or (code == 2 and evidence >= rule.keep * rule.high_from):
            code = 2
        elif evidence >= rule.medium_from or (code >= 1 and evidence >= rule.keep * rule.medium_from):
            code = 1
        else:
            code = 0
        found[midnight] = code if (time < now).any() else -1
    return found


@pytest.mark.parametrize("seed", range(2))
def test_ratings_equal_a_loop_over_what_was_known(seed: int) -> None:
    frame = make(seed=seed)
    ratings = rated(frame)
    assert set(np.unique(ratings.code)) >= {0, 1, 2}
    for place, entity in enumerate(ratings.entities):
        expected = by_hand(frame, entity, RULE)
        assert ratings.code[place].tolist() == [expected[day] for day in ratings.days], entity


@pytest.mark.parametrize("cut", [8, 15, 20])
def test_rewriting_the_future_moves_nothing_before_it(cut: int) -> None:
    frame, now = make(seed=3), START + pd.Timedelta(days=cut)
    rng = np.random.default_rng(1)
    later = frame.copy()
    unborn = (later["event_time"] >= now).to_numpy()
    later.loc[unborn, "risk"] = rng.random(unborn.sum())
    later.loc[unborn, "y"] = pd.array(rng.random(unborn.sum()) < 0.5, dtype="boolean")
    untold = (later["label_time"] > now).to_numpy()
    later.loc[untold, "y"] = ~later.loc[untold, "y"].fillna(False)
    later.loc[untold, "label_time"] += pd.Timedelta(days=3)
    stranger = later[unborn].assign(entity="someone new")
    later = pd.concat([later[~unborn], later[unborn].iloc[::-1], stranger], ignore_index=True)
    before, after = rated(frame), rated(later)
    upto = before.days <= now
    place = after.entities.get_indexer(before.entities)
    np.testing.assert_array_equal(before.code[:, upto], after.code[place][:, upto])
    assert not np.array_equal(before.code[:, ~upto], after.code[place][:, ~upto]), "the future does move"
    shorter = rated(frame[frame["event_time"] < now], end=now)
    known = shorter.entities.get_indexer(before.entities)
    np.testing.assert_array_equal(before.code[known >= 0][:, upto], shorter.code[known[known >= 0]])


def test_a_payment_meets_the_rating_of_its_own_midnight() -> None:
    frame = make()
    ratings = rated(frame)
    inside = frame[frame["event_time"] >= START + pd.Timedelta(days=4)]
    inside = inside[inside["event_time"] < START + pd.Timedelta(days=25)]
    found = ratings.at(inside["entity"], inside["event_time"])
    assert list(found.categories) == list(RATINGS)
    assert found.ordered
    for tier, row in zip(found, inside.itertuples()):
        code = ratings.code[ratings.entities.get_loc(row.entity), ratings.days.get_loc(row.event_time.floor("D"))]
        assert tier == RATINGS[max(code, 0)]
    assert list(ratings.at(["a stranger"], [START + pd.Timedelta(days=5)])) == ["low"]
    with pytest.raises(InputError, match=r"2026-03-05 to 2026-03-25; found 1 outside; rate these days too"):
        ratings.at(["c1"], [START])


def test_a_confirmed_fraud_lasts_as_long_as_the_rule_says() -> None:
    rule = RatingRule(half_life_days=7, medium_from=0.2, high_from=0.6, keep=0.5)
    one = pd.DataFrame({"entity": ["a"], "event_time": [START], "risk": [np.nan], "y": [True], "label_time": [START]})
    ratings = rated(one.astype({"y": "boolean"}), rule=rule, start=START, end=START + pd.Timedelta(days=60))
    days = pd.Series(ratings.code[0]).value_counts()
    lasts = rule.lasts()
    assert days[2] == int(lasts["high"]) + 1, "the midnight it begins at counts"
    assert days[2] + days[1] == int(lasts["medium"]) + 1
    assert rule.lasts(0.3)["high"] == 0
    assert rule.lasts(0.1) == {"medium": 0.0, "high": 0.0}


def test_an_outcome_takes_the_place_of_the_risk() -> None:
    known = START + pd.Timedelta(days=3, hours=5)
    one = pd.DataFrame({"entity": ["a"], "event_time": [START], "risk": [0.95], "y": [False], "label_time": [known]})
    ratings = rated(one.astype({"y": "boolean"}), start=START, end=START + pd.Timedelta(days=5))
    assert ratings.code[0].tolist() == [-1, 2, 2, 2, 0, 0]


def test_small_risks_never_add_up() -> None:
    many = pd.DataFrame({"entity": "a", "event_time": START + pd.to_timedelta(np.arange(400), unit="h"), "risk": 0.09})
    ratings = rated(many.assign(y=pd.array([None] * 400, dtype="boolean"), label_time=pd.NaT))
    assert set(ratings.code[0]) <= {0, -1}


def test_weeks_and_moves_equal_a_count_by_hand() -> None:
    frame = make(seed=5)
    ratings = rated(frame)
    weeks = rating_weeks(ratings, frame["y"], frame["event_time"], frame["entity"])
    assert weeks["week"].nunique() == 3, "21 days are three weeks"
    for row in weeks.itertuples():
        day = ratings.days.get_loc(row.week)
        code = RATINGS.index(row.rating)
        who = ratings.entities[ratings.code[:, day] == code]
        inside = frame[frame["event_time"].between(row.week, row.week + pd.Timedelta(days=7), inclusive="left")]
        mine = inside[inside["entity"].isin(who) & inside["y"].notna()]
        assert (row.customers, row.transactions, row.frauds) == (len(who), len(mine), mine["y"].sum())
    moves = rating_moves(ratings).set_index(["before", "after"])
    pairs = [(a, b) for code in ratings.code for a, b in zip(code[:-7:7], code[7::7]) if a >= 0 and b >= 0]
    for (before, after), row in moves.iterrows():
        assert row["customers"] == pairs.count((RATINGS.index(before), RATINGS.index(after)))
    assert moves["customers"].sum() == len(pairs)
    of = moves["customers"].groupby("before").transform("sum")
    np.testing.assert_allclose(moves["share"], moves["customers"] / of)


def after(low: float = 0.01, high: float = 0.03) -> pd.DataFrame:
    return pd.DataFrame({"rating": RATINGS, "fraud_rate": [low, 0.01, high]})


def effect(*ends: tuple[float, float, float]) -> pd.DataFrame:
    ways = ("rating_step_up", "rating_review")
    rows = [(way, "costs", "cost_per_day", *each) for way, each in zip(ways, ends)]
    base = [("costs", "", "cost_per_day", 300.0, 250.0, 350.0)]
    return pd.DataFrame(base + rows, columns=["way", "against", "metric", "value", "low", "high"])


def test_the_verdict_says_what_the_tables_say() -> None:
    told, said = verdict(after(), effect((-12.0, -20.0, -3.0), (5.0, -1.0, 9.0)))
    assert told == "In the week after, payments of customers rated high were fraud 3.0 times as often as of others."
    assert said == "Beside the score, asking customers rated high for a second factor pays: 12 a day."
    assert "does not pay: every way" in verdict(after(), effect((5.0, 1.0, 9.0), (8.0, 2.0, 9.0)))[1]
    assert "nothing that this test can tell from chance" in verdict(after(), effect((5, -1, 9), (8, 2, 9)))[1]
    none = verdict(after(low=np.nan), effect((np.nan,) * 3, (np.nan,) * 3))
    assert none[0].startswith("Too few frauds")
    assert "cannot be told from this test" in none[1]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: RatingRule(half_life_days=0), r"half_life_days > 0.*; found RatingRule\(half_life_days=0"),
        (lambda: RatingRule(high_from=0.1), "0 < medium_from <= high_from"),
        (lambda: rated(make().assign(risk=1.5)), r"risk: must lie in \[0, 1\] or be missing; found 700 others"),
        (lambda: rated(make().assign(entity=None)), "entity: must not be missing; found 700 missing"),
        (lambda: rated(make(), end=START), "end: must not lie before start"),
        (
            lambda: rate(["a"], [START, START], [0.1], [True], [START], rule=RULE, start=START, end=START),
            "found entity 1, event_time 2, risk 1",
        ),
    ],
)
def test_ratings_refuse(call, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        call()


def test_nobody_to_rate_is_no_error() -> None:
    ratings = rated(make().iloc[:0])
    assert ratings.code.shape == (0, 21)
    assert rating_weeks(ratings, [], pd.DatetimeIndex([], tz="UTC"), [])["customers"].sum() == 0
