"""Charts of days: quiet on a stable stream, loud on planted changes at once, and blind to labels to come."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fraudlab.drift import GROUPS, LIMITS, alarms, daily_signals, episodes, limits_from
from fraudlab.drift.signals import _spread, raw_columns
from fraudlab.schema import InputError

START = pd.Timestamp("2026-01-01", tz="UTC")
DAYS, PLANTED = 70, 60
BEGIN, UNTIL = START + pd.Timedelta(days=50), START + pd.Timedelta(days=DAYS)


def stream(seed: int = 0, per_day: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    weekend = np.where((np.arange(DAYS) + START.weekday()) % 7 >= 5, 0.7, 1.0)
    day = np.repeat(np.arange(DAYS), rng.poisson(per_day * weekend))
    n = len(day)
    time = START + pd.to_timedelta(day * 86_400 + rng.integers(0, 86_400, n), unit="s")
    fraud = rng.random(n) < 0.01
    frame = pd.DataFrame(
        {
            "event_time": time,
            "customer_id": [f"c{number}" for number in rng.integers(0, 500, n)],
            "device_id": [f"d{number}" for number in rng.integers(0, 600, n)],
            "amount": np.round(rng.lognormal(3, 0.8, n), 2),
            "country": rng.choice(["DE", "FR", "NL"], n, p=[0.7, 0.2, 0.1]),
            "is_fraud": pd.array(fraud, dtype="boolean"),
            "label_time": time + pd.to_timedelta(rng.exponential(4, n) * 86_400, unit="s"),
            "noise": rng.random(n),
        }
    )
    return frame.sort_values("event_time", ignore_index=True)


def charted(frame: pd.DataFrame) -> pd.DataFrame:
    features = pd.DataFrame({"ratio": frame["amount"] / 20, "known": frame["noise"].round(1)})
    score = np.clip(frame["noise"] * 0.9 + np.log(frame["amount"]) / 100, 0, 1)
    return daily_signals(
        frame.drop(columns="noise"),
        features,
        score,
        review=0.9,
        step_up=0.8,
        begin=BEGIN,
        until=UNTIL,
        from_labels=["known"],
    )


def late(frame: pd.DataFrame) -> pd.Series:
    return frame["event_time"] >= START + pd.Timedelta(days=PLANTED)


@pytest.fixture(scope="module")
def calm() -> pd.DataFrame:
    return charted(stream())


def test_every_group_has_charts_and_days_without_history_are_not_judged(calm: pd.DataFrame) -> None:
    assert set(calm["group"]) == set(GROUPS) == set(LIMITS)
    first = calm[calm["z"].notna()].groupby("signal")["day"].min()
    assert (first >= START + pd.Timedelta(days=28)).all()
    assert (first.drop(first.index[first.index.str.startswith("victims")]) >= START + pd.Timedelta(days=35)).all()
    assert calm.loc[calm["signal"] == "distribution of known", "group"].unique().tolist() == ["fraud history"]
    assert not calm["signal"].str.contains("is_fraud|label_time|distribution of customer_id").any()


def test_charts_are_about_standard_normal_while_nothing_changes(calm: pd.DataFrame) -> None:
    judged = calm[calm["z"].notna() & ~calm["signal"].str.startswith("first payments")]
    two_sided = judged[~judged["signal"].str.startswith("distribution")]
    assert two_sided["z"].abs().quantile(0.95) < 3
    indices = judged[judged["signal"].str.startswith("distribution")]
    assert (indices["z"] > 3).mean() < 0.02
    assert (indices["z"] >= 0).all()


@pytest.mark.parametrize(
    ("plant", "group", "what"),
    [
        (lambda f: f.assign(device_id=f["device_id"].mask(late(f))), "customers", ""),
        (lambda f: f.assign(country=f["country"].mask(late(f), "DE")), "feed", "one value more or less often"),
        (lambda f: f.assign(country=f["country"].mask(late(f) & (f["noise"] < 0.1))), "feed", "missing values"),
        (lambda f: f.assign(country=f["country"].mask(late(f) & (f["noise"] < 0.1), "RO")), "feed", "new values"),
        (lambda f: f.assign(amount=f["amount"] * np.where(late(f) & (f["noise"] < 0.2), 100, 1)), "amount", ""),
        (lambda f: f[~(late(f) & (f["noise"] < 0.4))], "volume", ""),
        (lambda f: f.assign(customer_id=f["customer_id"].mask(late(f) & (f["noise"] < 0.2), "n" + f.index.astype(str))),
         "customers", ""),
    ],
)  # fmt: skip
def test_a_planted_change_is_found_on_its_first_days(plant, group: str, what: str) -> None:
    table = alarms(charted(plant(stream()).reset_index(drop=True)))
    since = START + pd.Timedelta(days=PLANTED)
    found = table[(table["day"] >= since) & (table["group"] == group)]
    assert len(found), f"no alarm of {group}"
    assert found["day"].iloc[0] <= since + pd.Timedelta(days=2)
    if what:
        assert what in set(found["what"])


def test_missed_frauds_alarm_as_they_are_reported_and_no_day_earlier() -> None:
    frame = stream()
    wave = late(frame) & (frame["noise"] < 0.06)
    frame = frame.assign(is_fraud=frame["is_fraud"].mask(wave, True))
    table = charted(frame)
    known = table[table["signal"].str.startswith("victims")]
    found = alarms(table)
    found = found[(found["group"] == "labels") & (found["day"] >= START + pd.Timedelta(days=PLANTED))]
    assert len(found)
    # Reports that come later than the day move nothing on it.
    cut = START + pd.Timedelta(days=65)
    blinded = frame.assign(is_fraud=frame["is_fraud"].mask(frame["label_time"] >= cut))
    earlier = charted(blinded)
    earlier = earlier[earlier["signal"].str.startswith("victims")]
    rows = (known["day"] < cut).to_numpy()
    np.testing.assert_array_equal(known["value"].to_numpy()[rows], earlier["value"].to_numpy()[rows])


def test_without_labels_all_but_their_group_is_watched() -> None:
    frame = stream().drop(columns=["is_fraud", "label_time"])
    assert set(charted(frame)["group"]) == set(GROUPS) - {"labels"}


def test_the_future_changes_no_chart_of_the_past(calm: pd.DataFrame) -> None:
    changed = stream()
    changed["amount"] = changed["amount"].where(~late(changed), 1e6)
    table = charted(changed)
    before = table["day"] < START + pd.Timedelta(days=PLANTED)
    pd.testing.assert_frame_equal(table[before], calm[(calm["day"] < START + pd.Timedelta(days=PLANTED))])


def test_spread_is_the_median_of_the_days_before() -> None:
    values = np.random.default_rng(1).normal(size=60)
    values[5] = np.nan
    for centre in (True, False):
        found = _spread(values, centre=centre)
        for day in range(60):
            past = values[max(day - 28, 0) : day]
            past = past[~np.isnan(past)]
            wanted = np.nan
            if past.size >= 14:
                wanted = 1.4826 * np.median(np.abs(past)) if centre else np.median(past)
            assert found[day] == pytest.approx(wanted, nan_ok=True)


def test_an_alarm_is_told_once_a_week_and_a_sum_once_until_it_falls() -> None:
    day = pd.date_range("2026-01-01", periods=20, freq="D", tz="UTC")
    table = pd.DataFrame({"day": day, "group": "feed", "signal": "s", "value": 0.0, "usual": 0.0, "n": 9, "what": ""})
    sharp = alarms(table.assign(z=9.0, sum=0.0))
    assert sharp["day"].dt.day.tolist() == [1, 8, 15]
    lasting = alarms(table.assign(z=0.0, sum=np.r_[np.zeros(5), np.full(15, 9.0)]))
    assert lasting[["kind"]].values.tolist() == [["lasting"]]
    assert lasting["day"].dt.day.tolist() == [6]
    assert episodes(pd.concat([sharp, lasting]).sort_values("day"))["signals"].tolist() == [2, 1, 1]
    assert episodes(alarms(table.assign(z=0.0, sum=0.0))).empty


def test_limits_are_what_calm_streams_reach() -> None:
    day = pd.date_range("2026-01-01", periods=3, freq="D", tz="UTC")
    tables = [
        pd.DataFrame({"day": day, "group": "feed", "signal": "s", "z": [9.0, -top, 1.0], "sum": [0.0, 2.0, top]})
        for top in (3.01, 4.0, 5.0)
    ]
    assert limits_from(tables, since=1)["feed"] == (5.1, 5.1)
    assert limits_from(tables, since=1, spare=1)["feed"] == (4.1, 4.1)
    assert limits_from(tables, since=1, spare={"feed": 2})["feed"] == (3.1, 3.1)


def test_refusals_and_what_is_never_compared() -> None:
    frame = stream(per_day=60)
    with pytest.raises(InputError, match="features and scores must have a row for each payment; found 3 and"):
        daily_signals(frame, frame[:3], frame["noise"], review=1, step_up=1, begin=BEGIN, until=UNTIL)
    with pytest.raises(InputError, match="bins need payments before the moment they end at; found none"):
        daily_signals(frame, frame[["noise"]], frame["noise"], review=1, step_up=1, begin=START, until=UNTIL)
    assert raw_columns(frame).columns.tolist() == ["amount", "country", "noise"]
