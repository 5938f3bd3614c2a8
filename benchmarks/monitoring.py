"""How often monitoring calls without cause, and how fast it finds planted changes, over simulated streams.

A stream is an invented bank of 1,500 customers over 130 days. A small model learns from its first 90 days; from day 91
on every day is charted as `fraudlab monitor report` does. Limits are set on streams of their own (seeds 1000 and up) in
which nothing changes; they are judged on other streams (seeds 1 and up): as they are, over 40 days each, and with one
change planted on a day drawn from days 100 to 122. A change counts as found when an alarm falls into the seven days
from its beginning, in a stream that had no alarm in the seven days before.

    python benchmarks/monitoring.py                      # all of it, resumable; some 20 minutes of one core
    python benchmarks/monitoring.py --streams 5 --work build/try
    python benchmarks/monitoring.py --table              # the written results again, as Markdown
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from figures import setting, write

from fraudlab.config import ModelConfig, SimulateConfig
from fraudlab.datasets.simulate import simulate
from fraudlab.drift import signals as charts
from fraudlab.features.sets import CARD_V1
from fraudlab.metrics import wilson
from fraudlab.training import fit_estimator

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "monitoring.json"
CUSTOMERS, MERCHANTS, DAYS = 1_500, 500, 130
START = pd.Timestamp("2026-01-01", tz="UTC")
WARM, LEARNT, PLANTED = 30, 90, (100, 123)
FIND_WITHIN = 7
CALIBRATION_SEED = 1000
MODEL = ModelConfig(n_estimators=60, early_stopping_rounds=0, max_depth=4, max_bin=256, min_child_weight=5)
SPARE = dict.fromkeys(charts.GROUPS, 2) | {"labels": 5}
"""Largest values of the calm streams left out per limit, which makes about 0.5 false alarms a month of the 1 allowed.

More for the one group that sees a fraud to which the model is blind.
"""
REVIEW_PER_DAY, STEP_UP_PER_DAY = 8, 30
NAMES = {
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
KEPT = ["merchant_category", "channel", "country", "currency", "latitude", "longitude", "auth_method", "auth_result"]


def canonical(customers: int, seed: int) -> pd.DataFrame:
    """Return the payments of an invented bank under their canonical names."""
    raw = simulate(SimulateConfig(customers=customers, merchants=MERCHANTS, days=DAYS), seed, identities=False)
    frame = raw.rename(columns=NAMES)[[*NAMES.values(), "amount", *KEPT]]
    return frame.assign(is_fraud=frame["is_fraud"].astype(bool).astype("boolean"))


def whole(frame: pd.DataFrame) -> pd.DataFrame:
    """Bring payments into the total order and number them anew."""
    frame = frame.sort_values("event_time", kind="stable", ignore_index=True)
    return frame.assign(transaction_id=pd.Series(np.arange(len(frame))).map("P{:08d}".format).astype("str"))


# -- what is planted ---------------------------------------------------------------------------------------------


def new_fraud(frame: pd.DataFrame, late: np.ndarray, rng: np.random.Generator, strength: float) -> pd.DataFrame:
    """Customers are tricked into paying themselves: own device and place, code entered, six known marketplaces."""
    genuine = frame[late & (frame["channel"] == "online").to_numpy()]
    n = rng.poisson(strength * late.sum())
    victims = genuine.iloc[rng.integers(0, len(genuine), n)]
    delay = np.minimum(rng.lognormal(np.log(5.0), 0.98, n), 60.0)
    shops = np.sort(frame.loc[frame["merchant_category"] == "marketplace", "merchant_id"].unique())
    when = victims["event_time"] + pd.to_timedelta(rng.integers(600, 6 * 3600, n), unit="s")
    tricked = victims.assign(
        event_time=when.astype("datetime64[us, UTC]"),
        merchant_id=pd.array(rng.choice(shops, 6)[rng.integers(0, 6, n)], dtype="str"),
        merchant_category="marketplace",
        amount=np.round(rng.lognormal(np.log(190), 0.5, n), 2),
        auth_method="totp",
        auth_result="passed",
        is_fraud=pd.array(np.ones(n, dtype=bool), dtype="boolean"),
        label_time=(when + pd.to_timedelta(delay * 86_400, unit="s")).astype("datetime64[us, UTC]"),
    )
    return pd.concat([frame, tricked[frame.columns]], ignore_index=True)


FEEDS: tuple[tuple[tuple[str, ...], Any], ...] = (
    (("device_id",), None),
    (("merchant_category",), "groceries"),
    (("latitude", "longitude"), 0.0),
    (("auth_method",), None),
    (("auth_result",), "none"),
    (("country",), "DE"),
    (("ip",), None),
)


def broken_feed(frame: pd.DataFrame, late: np.ndarray, rng: np.random.Generator, strength: float) -> pd.DataFrame:
    """A column comes empty, with one value, or as zero, in a share of the payments."""
    names, value = FEEDS[rng.integers(0, len(FEEDS))]
    hit = late & (rng.random(len(frame)) < strength)
    return frame.assign(**{name: frame[name].mask(hit, value) for name in names})


def currency_mixup(frame: pd.DataFrame, late: np.ndarray, rng: np.random.Generator, strength: float) -> pd.DataFrame:
    """Amounts of a share of the payments come in cents, or in a currency worth a seventh."""
    factor = (100.0, 7.0)[rng.integers(0, 2)]
    hit = late & (rng.random(len(frame)) < strength)
    return frame.assign(amount=np.round(frame["amount"].where(~hit, frame["amount"] * factor), 2))


def other_people(frame: pd.DataFrame, late: np.ndarray, rng: np.random.Generator, strength: float) -> pd.DataFrame:
    """Customers of another bank join with merchants of their own, half of the time all in one other country."""
    joined = canonical(max(int(CUSTOMERS * strength), 20), int(rng.integers(10_000, 1_000_000)))
    joined = joined[joined["event_time"] >= frame.loc[late, "event_time"].min()]
    for name in ("customer_id", "card_id", "merchant_id", "device_id"):
        joined[name] = ("N" + joined[name]).astype("str")
    if rng.random() < 0.5:
        joined = joined.assign(country="RO", latitude=joined["latitude"] - 3, longitude=joined["longitude"] + 18)
    return pd.concat([frame, joined[frame.columns]], ignore_index=True)


Plant = Callable[[pd.DataFrame, np.ndarray, np.random.Generator, float], pd.DataFrame]
CHANGES: dict[str, tuple[Plant, tuple[float, ...], str]] = {
    "new fraud typology": (new_fraud, (0.02, 0.01), "of the payments"),
    "broken feed": (broken_feed, (1.0, 0.2), "of the payments lose one column"),
    "currency mix-up": (currency_mixup, (0.10, 0.03), "of the payments"),
    "population shift": (other_people, (0.30, 0.10), "more customers"),
}
"""What is planted, how strong (the first is what the promise is about), and what the strength counts."""
PROMISED = [(name, strengths[0]) for name, (_, strengths, _) in CHANGES.items()]
WEAKER_STREAMS = 10
WEAKER = [(name, strengths[1]) for name, (_, strengths, _) in CHANGES.items()]


# -- a stream ----------------------------------------------------------------------------------------------------


def moment(day: int) -> pd.Timestamp:
    """Return midnight after so many days."""
    return START + pd.Timedelta(days=day)


def charted(frame: pd.DataFrame, model: Any, thresholds: tuple[float, float], until: int) -> pd.DataFrame:
    """Return the charts of a stream up to a day, those of the days a model was at work."""
    frame = frame[frame["event_time"] < moment(until)]
    # What becomes known later is not known: the charts read labels by the day they came.
    features = CARD_V1.compute(frame)
    score = model.score(features)
    table = charts.daily_signals(
        frame,
        features,
        score,
        review=thresholds[0],
        step_up=thresholds[1],
        begin=moment(LEARNT),
        until=moment(until),
        from_labels=CARD_V1.from_labels,
    )
    return table[table["day"] >= moment(LEARNT)].reset_index(drop=True)


def learnt(frame: pd.DataFrame, features: pd.DataFrame, seed: int) -> tuple[Any, tuple[float, float]]:
    """Fit the stream's model on what was known on day 90, and set its thresholds on the days before."""
    time, known = frame["event_time"], (frame["label_time"] < moment(LEARNT)).to_numpy()
    train = (time >= moment(WARM)).to_numpy() & (time < moment(LEARNT - 14)).to_numpy()
    label = (frame["is_fraud"].to_numpy(dtype=bool) & known)[train]
    model = fit_estimator(features[train], label, model=MODEL, seed=seed, threads=1)
    latest = (time >= moment(LEARNT - 14)).to_numpy() & (time < moment(LEARNT)).to_numpy()
    ranked = np.sort(model.score(features[latest]))[::-1]
    return model, (float(ranked[14 * REVIEW_PER_DAY]), float(ranked[14 * (REVIEW_PER_DAY + STEP_UP_PER_DAY)]))


def make(seed: int, scenarios: list[tuple[str, float]], work: Path) -> None:
    """Chart one stream as it is and with each change; what is there already is left as it is."""
    wanted = [(name, s) for name, s in [("stable", 0.0), *scenarios] if not file_of(work, seed, name, s).is_file()]
    if not wanted:
        return
    frame = whole(canonical(CUSTOMERS, seed))
    before = frame[frame["event_time"] < moment(LEARNT)]
    model, thresholds = learnt(before, CARD_V1.compute(before), seed)
    for name, strength in wanted:
        if name == "stable":
            table = charted(frame, model, thresholds, DAYS)
        else:
            day = planted_on(seed)
            rng = np.random.default_rng([seed, list(CHANGES).index(name)])
            late = (frame["event_time"] >= moment(day)).to_numpy()
            changed = whole(CHANGES[name][0](frame, late, rng, strength))
            table = charted(changed, model, thresholds, min(day + FIND_WITHIN, DAYS))
        path = file_of(work, seed, name, strength)
        table.to_parquet(path.with_suffix(".part"), index=False)
        path.with_suffix(".part").replace(path)


def planted_on(seed: int) -> int:
    """Return the day a stream's change begins on."""
    return int(np.random.default_rng([seed, 77]).integers(*PLANTED))


def file_of(work: Path, seed: int, name: str, strength: float) -> Path:
    """Return where the charts of one stream are kept."""
    return work / f"{seed:05d}-{name.replace(' ', '_')}-{strength:g}.parquet"


# -- judgement ---------------------------------------------------------------------------------------------------


def judge(work: Path, seeds: list[int], limits: dict[str, tuple[float, float]]) -> dict[str, Any]:
    """Count false alarms on stable streams and delays until changes were found, with Wilson and Poisson intervals."""
    from scipy.stats import chi2

    stable = {seed: pd.read_parquet(file_of(work, seed, "stable", 0.0)) for seed in seeds}
    calls = {seed: charts.episodes(charts.alarms(table, limits)) for seed, table in stable.items()}
    months = len(seeds) * (DAYS - LEARNT) / 30
    count = sum(len(table) for table in calls.values())
    low, high = chi2.ppf(0.025, 2 * count) / 2 if count else 0.0, chi2.ppf(0.975, 2 * count + 2) / 2
    by_group: dict[str, int] = {}
    for table in calls.values():
        for groups in table["groups"]:
            for group in groups.split(", "):
                by_group[group] = by_group.get(group, 0) + 1
    false = {
        "streams": len(seeds),
        "months": round(months, 1),
        "alarms": count,
        "a_month": round(count / months, 3),
        "low": round(low / months, 3),
        "high": round(high / months, 3),
        "by_group": by_group,
    }
    found = [
        {"change": name, "strength": strength, "counted": CHANGES[name][2]}
        | _found(work, judged, name, strength, limits)
        for judged, planted in ((seeds, PROMISED), (seeds[:WEAKER_STREAMS], WEAKER))
        for name, strength in planted
    ]
    return {"limits": {group: list(pair) for group, pair in limits.items()}, "false_alarms": false, "found": found}


def _found(
    work: Path, seeds: list[int], name: str, strength: float, limits: dict[str, tuple[float, float]]
) -> dict[str, Any]:
    delays, groups, left_out, n = [], {}, 0, 0
    for seed in seeds:
        begins = moment(planted_on(seed))
        table = charts.alarms(pd.read_parquet(file_of(work, seed, name, strength)), limits)
        before = table[(table["day"] < begins) & (table["day"] >= begins - pd.Timedelta(days=charts.QUIET_DAYS))]
        if len(before):
            left_out += 1
            continue
        n += 1
        after = table[(table["day"] >= begins) & (table["day"] < begins + pd.Timedelta(days=FIND_WITHIN))]
        if len(after):
            delays.append((after["day"].iloc[0] - begins).days + 1)
            for group in after.loc[after["day"] == after["day"].iloc[0], "group"].unique():
                groups[group] = groups.get(group, 0) + 1
    low, high = wilson(np.array([len(delays)]), np.array([max(n, 1)]))
    return {
        "streams": n,
        "left_out": left_out,
        "found": len(delays),
        "share": round(len(delays) / max(n, 1), 3),
        "low": round(float(low[0]), 3),
        "high": round(float(high[0]), 3),
        "median_days": float(np.median(delays)) if delays else None,
        "longest_days": max(delays, default=None),
        "first_by": dict(sorted(groups.items(), key=lambda pair: -pair[1])),
    }


def markdown(results: dict[str, Any]) -> str:
    """Return the results as the tables of docs/monitoring.md."""
    false = results["false_alarms"]
    lines = [
        f"False alarms: {false['alarms']} in {false['months']:.0f} stable months of {false['streams']} streams, "
        f"{false['a_month']:.2f} a month (95 % interval {false['low']:.2f} to {false['high']:.2f}).",
        "",
        "| planted change | strength | streams | found within a week | 95 % interval | days (median, longest) "
        "| first by |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for row in results["found"]:
        days = "–" if row["median_days"] is None else f"{row['median_days']:g}, {row['longest_days']}"
        first = ", ".join(f"{group} {n}" for group, n in list(row["first_by"].items())[:3])
        lines.append(
            f"| {row['change']} | {100 * row['strength']:g} % {row['counted']} | {row['streams']} | {row['share']:.0%} "
            f"| {row['low']:.0%} to {row['high']:.0%} | {days} | {first} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Make the streams, set the limits, judge them, write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--streams", type=int, default=50, help="streams to judge on; as many again set the limits")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "monitoring", help="where charts are kept")
    parser.add_argument("--part", default="1/1", help="2/3: make the second third of the streams only, and stop")
    parser.add_argument("--table", action="store_true", help="print the written results as Markdown")
    parser.add_argument("--out", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    if chosen.table:
        print(markdown(json.loads(chosen.out.read_text(encoding="utf-8"))))
        return
    chosen.work.mkdir(parents=True, exist_ok=True)
    seeds = list(range(1, chosen.streams + 1))
    calm = [CALIBRATION_SEED + seed for seed in seeds]
    share, of = (int(number) for number in chosen.part.split("/"))
    jobs: list[tuple[int, list[tuple[str, float]]]] = [(seed, []) for seed in calm]
    # The weaker changes are planted in a few streams only: they show where finding ends.
    jobs += [(seed, PROMISED + (WEAKER if seed <= WEAKER_STREAMS else [])) for seed in seeds]
    for seed, wanted in jobs[share - 1 :: of]:
        make(seed, wanted, chosen.work)
        print(f"stream {seed} done", flush=True)
    if of > 1:
        return
    stable = [pd.read_parquet(file_of(chosen.work, seed, "stable", 0.0)) for seed in calm]
    limits = charts.limits_from(stable, spare=SPARE)
    results = judge(chosen.work, seeds, limits)
    write({"setting": setting(), "streams": chosen.streams, **results}, chosen.out)
    print(markdown(results))


if __name__ == "__main__":
    main()
