"""How soon planted patterns become candidates of `fraudlab monitor patterns`, and how many candidates are nothing.

Streams are those of `benchmarks/monitoring.py`: an invented bank of 1,500 customers, whose model and detector learnt in
the first 90 days. Every day is looked back on for a week, as a nightly job would. Planted streams get four patterns of
one size on one day and, ten days later, a fraud by persuasion; none of the kinds was there before. A pattern counts as
found when at least half of a candidate's payments belong to it. Calm streams hold the simulator's own frauds and no
more: a candidate at least half of whose payments are such frauds is right, any other is false.

    python benchmarks/patterns.py                    # all of it, resumable; some ten minutes of one core
    python benchmarks/patterns.py --streams 2 --calm 1 --work build/try
    python benchmarks/patterns.py --table            # the written results again, as Markdown
    python benchmarks/patterns.py --picture          # the picture of docs/monitoring.md
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import monitoring as streams
import numpy as np
import pandas as pd
from figures import setting, write

from fraudlab import plots
from fraudlab.anomaly import fit_detector
from fraudlab.features.sets import CARD_V1
from fraudlab.metrics import wilson
from fraudlab.patterns import find_patterns, not_read

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "patterns.json"
SIZES = (6, 12, 24)
PLANTED, PERSUADED, LOOKS, WINDOW = 100, 110, 7, 7
CALM = (97, 125)
PERSUASION = 0.01
"""Share of the payments that are frauds by persuasion; `streams.new_fraud`."""
WITHIN_DAYS = 5


def victims(frame: pd.DataFrame, rng: np.random.Generator, size: int, channel: str) -> pd.DataFrame:
    """Return a recent payment each of so many customers, moved into the days of the fraud."""
    recent = frame["event_time"].between(streams.moment(PLANTED - 20), streams.moment(PLANTED), inclusive="left")
    mine = frame[recent & (frame["channel"] == channel)].drop_duplicates("customer_id")
    mine = mine.iloc[rng.permutation(len(mine))[:size]]
    when = streams.moment(PLANTED) + pd.to_timedelta(rng.uniform(0, WITHIN_DAYS * 86_400, size), unit="s")
    return mine.assign(
        event_time=when.astype("datetime64[us, UTC]"),
        auth_result="passed",
        is_fraud=pd.array(np.ones(size, dtype=bool), dtype="boolean"),
        label_time=(when + pd.Timedelta(days=40)).astype("datetime64[us, UTC]"),  # nobody reports it in time
    )


def one_device(frame: pd.DataFrame, rng: np.random.Generator, size: int) -> pd.DataFrame:
    """Somebody pays out of several accounts with one device, at shops that their owners know."""
    amount = np.round(rng.lognormal(np.log(150), 0.4, size), 2)
    return victims(frame, rng, size, "online").assign(device_id="planted device", amount=amount)


def one_address(frame: pd.DataFrame, rng: np.random.Generator, size: int) -> pd.DataFrame:
    """The same behind one network address, with another device for each account."""
    devices = [f"planted device {number}" for number in range(size)]
    amount = np.round(rng.lognormal(np.log(150), 0.4, size), 2)
    return victims(frame, rng, size, "online").assign(ip="planted address", device_id=devices, amount=amount)


def known_merchant(frame: pd.DataFrame, rng: np.random.Generator, size: int) -> pd.DataFrame:
    """Copied cards buy a lot at one merchant of middling traffic."""
    visits = frame.loc[frame["channel"] == "pos", "merchant_id"].value_counts().sort_index()
    low, high = visits.quantile([0.4, 0.7])
    shop = frame[frame["merchant_id"] == rng.choice(visits.index[visits.between(low, high)])].iloc[0]
    there = {name: shop[name] for name in ("merchant_id", "merchant_category", "country", "latitude", "longitude")}
    return victims(frame, rng, size, "pos").assign(**there, amount=np.round(rng.lognormal(np.log(300), 0.3, size), 2))


def one_amount(frame: pd.DataFrame, rng: np.random.Generator, size: int) -> pd.DataFrame:
    """Customers are asked for the same sum, at many sellers of a marketplace."""
    shops = np.sort(frame.loc[frame["merchant_category"] == "marketplace", "merchant_id"].unique())
    asked = {"merchant_id": rng.choice(shops, size), "merchant_category": "marketplace", "amount": 499.0}
    return victims(frame, rng, size, "online").assign(**asked)


KINDS: dict[str, tuple[Callable[..., pd.DataFrame], str]] = {
    "one device": (one_device, "accounts are emptied with one device"),
    "one address": (one_address, "with a device each, behind one address"),
    "one merchant": (known_merchant, "copied cards buy a lot at one known shop"),
    "one amount": (one_amount, "customers pay 499.00 to sellers of a marketplace"),
}
PERSUADED_KIND = "persuasion"


def planted(seed: int, size: int) -> pd.DataFrame:
    """Return a stream with the kinds of one size, and persuasion later; column `planted` says what is what."""
    calm = streams.whole(streams.canonical(streams.CUSTOMERS, seed))
    frame = calm.assign(planted="")
    parts = [
        made(calm, np.random.default_rng([seed, size, number]), size).assign(planted=name)
        for number, (name, (made, _)) in enumerate(KINDS.items())
    ]
    late = (calm["event_time"] >= streams.moment(PERSUADED)).to_numpy()
    rng = np.random.default_rng([seed, size, len(KINDS)])
    persuaded = streams.new_fraud(calm, late, rng, PERSUASION).iloc[len(calm) :].assign(planted=PERSUADED_KIND)
    return streams.whole(pd.concat([frame, *parts, persuaded], ignore_index=True))


def scored(frame: pd.DataFrame, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return how unusual each payment is, without features of labels or merchants, and whether the model alerts it."""
    features = CARD_V1.compute(frame.drop(columns=["planted"], errors="ignore"))
    time = frame["event_time"]
    before = (time < streams.moment(streams.LEARNT)).to_numpy()
    model, (review, _) = streams.learnt(frame[before], features[before], seed)
    alerted = model.score(features) >= review
    features = features.assign(**dict.fromkeys(not_read(CARD_V1), np.nan))
    train = before & (time >= streams.moment(streams.WARM)).to_numpy()
    detector = fit_detector(features[train].to_numpy(), features.columns, "density")
    return detector.score(features.to_numpy()), alerted


def look(frame: pd.DataFrame, unusual: np.ndarray, alerted: np.ndarray, day: int) -> Any:
    """Return the candidates of the week before midnight of a day."""
    since, until = streams.moment(day - WINDOW), streams.moment(day)
    return find_patterns(frame, unusual, since=since, until=until, alerted=alerted)


def planted_stream(seed: int, size: int) -> list[dict[str, Any]]:
    """Return, for each kind planted in a stream, when it was found and what the model had alerted of it."""
    frame = planted(seed, size)
    unusual, alerted = scored(frame, seed)
    kind = frame["planted"].to_numpy()
    found: dict[str, int] = {}
    for begin, names in ((PLANTED, list(KINDS)), (PERSUADED, [PERSUADED_KIND])):
        for day in range(begin + 1, begin + 1 + LOOKS):
            seen = look(frame, unusual, alerted, day)
            for _, rows in seen.members.groupby("pattern"):
                held = kind[rows["row"].to_numpy()]
                for name in names:
                    if (held == name).mean() >= 0.5:
                        found.setdefault(name, day - begin)
    threshold = seen.threshold
    return [
        {
            "kind": name,
            "size": size if name in KINDS else 0,
            "days": found.get(name),
            "unusual": float((unusual[kind == name] > threshold).mean()),
            "alerted": float(alerted[kind == name].mean()),
        }
        for name in (*KINDS, PERSUADED_KIND)
    ]


def calm_stream(seed: int) -> dict[str, Any]:
    """Count the candidates of a stream in which nothing is planted: new ones from one day's look to the next."""
    frame = streams.whole(streams.canonical(streams.CUSTOMERS, seed))
    unusual, alerted = scored(frame, seed)
    fraud = frame["is_fraud"].to_numpy(dtype=bool)
    known: list[set[int]] = []
    right = false = 0
    for day in range(CALM[0] + 1, CALM[1] + 1):
        for _, rows in look(frame, unusual, alerted, day).members.groupby("pattern"):
            mine = set(rows["row"])
            if any(len(mine & other) >= 0.5 * min(len(mine), len(other)) for other in known):
                continue
            known.append(mine)
            hit = fraud[list(mine)].mean() >= 0.5
            right, false = right + int(hit), false + int(not hit)
    return {"weeks": (CALM[1] - CALM[0]) / 7, "right": right, "false": false}


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """Return what a file holds, made first where it is not there."""
    if not path.is_file():
        part = path.with_suffix(".part")
        part.write_text(json.dumps(make()), encoding="utf-8")
        part.replace(path)
        print(f"{path.stem} done", flush=True)
    return json.loads(path.read_text(encoding="utf-8"))


def judge(calm: list[dict[str, Any]], found: list[dict[str, Any]]) -> dict[str, Any]:
    """Add the streams up: false candidates a week (exact Poisson interval), shares found (Wilson)."""
    from scipy.stats import chi2

    weeks, false = sum(each["weeks"] for each in calm), sum(each["false"] for each in calm)
    low = chi2.ppf(0.025, 2 * false) / 2 if false else 0.0
    quiet = {
        "streams": len(calm),
        "weeks": weeks,
        "right": sum(each["right"] for each in calm),
        "false": false,
        "a_week": round(false / weeks, 3),
        "low": round(low / weeks, 3),
        "high": round(chi2.ppf(0.975, 2 * false + 2) / 2 / weeks, 3),
    }
    rows = []
    for (kind, size), mine in pd.DataFrame(found).groupby(["kind", "size"], sort=False):
        days = mine["days"].dropna()
        low, high = wilson(np.array([len(days)]), np.array([len(mine)]))
        rows.append(
            {
                "kind": kind,
                "size": int(size),
                "streams": len(mine),
                "found": len(days),
                "low": round(float(low[0]), 3),
                "high": round(float(high[0]), 3),
                "median_days": float(days.median()) if len(days) else None,
                "unusual": round(float(mine["unusual"].mean()), 3),
                "alerted": round(float(mine["alerted"].mean()), 3),
            }
        )
    return {"calm": quiet, "found": rows}


def markdown(results: dict[str, Any]) -> str:
    """Return the results as the tables of docs/monitoring.md."""
    calm = results["calm"]
    lines = [
        f"Calm streams: {calm['false']} false candidates in {calm['weeks']:.0f} weeks of {calm['streams']} streams, "
        f"{calm['a_week']:.2f} a week (95 % interval {calm['low']:.2f} to {calm['high']:.2f}); {calm['right']} more "
        "were frauds of the simulator's own.",
        "",
        "| planted pattern | customers | streams | found within a week | 95 % interval | median days "
        "| of its payments unusual | alerted by the model |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    said = {name: text for name, (_, text) in KINDS.items()}
    said[PERSUADED_KIND] = "customers are talked into paying six marketplaces"
    order = [*KINDS, PERSUADED_KIND]
    for row in sorted(results["found"], key=lambda row: (order.index(row["kind"]), row["size"])):
        days = "–" if row["median_days"] is None else f"{row['median_days']:g}"
        size = str(row["size"]) if row["size"] else f"{PERSUASION:.0%} of the payments"
        lines.append(
            f"| {row['kind']}: {said[row['kind']]} | {size} | {row['streams']} | {row['found'] / row['streams']:.0%} "
            f"| {row['low']:.0%} to {row['high']:.0%} | {days} | {row['unusual']:.0%} | {row['alerted']:.0%} |"
        )
    return "\n".join(lines)


def draw(path: Path, seed: int = 1201, size: int = 12) -> None:
    """Draw a planted device on the sixth day, as `fraudlab monitor patterns show` does."""
    frame = planted(seed, size)
    unusual, alerted = scored(frame, seed)
    found = look(frame, unusual, alerted, PLANTED + 6)
    number = next(row.pattern for row in found.shared.itertuples() if row.value == ("planted device",))
    rows = found.members.loc[found.members["pattern"] == number, "row"].to_numpy()
    week = frame["event_time"].between(streams.moment(PLANTED - 1), streams.moment(PLANTED + 6), inclusive="left")
    same = (frame["device_id"] == "planted device").to_numpy()
    facts = found.table.set_index("pattern").loc[number].to_dict()
    figure = plots.pattern(
        frame.iloc[rows].assign(alerted=alerted[rows]),
        frame.assign(same=same)[week & ~np.isin(np.arange(len(frame)), rows)].iloc[::2],
        shared="on the same device",
        facts=facts,
    )
    path.write_bytes(figure.png)


def main() -> None:
    """Make the streams, look at each day, write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--streams", type=int, default=3, help="planted streams of each size")
    parser.add_argument("--calm", type=int, default=4, help="calm streams")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "build" / "patterns", help="where streams' answers are kept"
    )
    parser.add_argument("--table", action="store_true", help="print the written results as Markdown")
    parser.add_argument("--picture", action="store_true", help="draw one planted pattern for the page, and stop")
    parser.add_argument("--out", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    if chosen.picture:
        draw(ROOT / "docs" / "images" / "pattern.png")
        return
    if chosen.table:
        print(markdown(json.loads(chosen.out.read_text(encoding="utf-8"))))
        return
    chosen.work.mkdir(parents=True, exist_ok=True)
    calm = [
        kept(chosen.work / f"calm-{seed}.json", lambda seed=seed: calm_stream(seed))
        for seed in range(1, chosen.calm + 1)
    ]
    found = [
        row
        for size in SIZES
        for seed in range(1, chosen.streams + 1)
        for row in kept(
            chosen.work / f"planted-{size}-{seed}.json",
            lambda seed=seed, size=size: planted_stream(100 * size + seed, size),
        )
    ]
    results = judge(calm, found)
    write({"setting": setting(), **results}, chosen.out)
    print(markdown(results))


if __name__ == "__main__":
    main()
