"""What labels from reviews alone cost, and what random checks bring back: a world retrained every week.

Until a day every fraud is reported. From then on a payment's label is known only where somebody looked: the cases that
the week's model lists, and a few drawn by chance; all others count as genuine. On the same day two kinds of fraud begin
that no model has seen. Each way of labelling and weighting is retrained weekly on its own labels and judged by the
truth, over the second half of the weeks.

    python benchmarks/blindside.py
    python benchmarks/blindside.py --table        # the written results again, as Markdown

References: Lakkaraju, Kleinberg, Leskovec, Ludwig, Mullainathan (2017), doi:10.1145/3097983.3098066 (selective labels);
Horvitz and Thompson (1952), doi:10.1080/01621459.1952.10483446.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import tomllib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import figures
import numpy as np
import pandas as pd
from frames import DEMO
from scipy.stats import t

from fraudlab import survey
from fraudlab.casework.queue import choose_cases
from fraudlab.config import FeaturesConfig, ModelConfig, SimulateConfig
from fraudlab.datasets.simulate import simulate
from fraudlab.features.sets import configured_set
from fraudlab.schema import BY_NAME, conform
from fraudlab.training import fit_estimator

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "blindside.json"

NEW_KINDS = ("account_takeover", "new_account")
"""Kinds of fraud that begin on the day on which reports end."""

BEGIN, WEEKS, LEARNT_DAYS, PER_DAY = 80, 16, 60, 5
MODEL = ModelConfig(
    n_estimators=40, learning_rate=0.2, max_depth=4, min_child_weight=5, max_bin=128, early_stopping_rounds=0
)


@dataclass(frozen=True)
class Way:
    """How labels come and how they count: random checks a day, the weight of their rows, where labels end."""

    random: int = 0
    weight: str = "one"
    reports: bool = False
    unlabelled: str = "genuine"


WAYS: dict[str, Way] = {
    "every fraud is reported": Way(reports=True),
    "reviews only": Way(),
    "reviews only; the rest left out of the training": Way(unlabelled="left out"),
    "reviews and 1 random check a day": Way(random=1),
    "reviews and 1 random check a day, frauds of which count by their chance": Way(random=1, weight="chance"),
    "reviews and 5 random checks a day": Way(random=5),
    "reviews and 5 random checks a day, frauds of which count by their chance": Way(random=5, weight="chance"),
    "reviews and 5 random checks a day, frauds of which count by their chance, at most 10": Way(random=5, weight="10"),
}


@dataclass(frozen=True)
class World:
    """Payments in the total order: their features, day (whole days since the start), customer, truth, new kinds."""

    features: pd.DataFrame
    time: pd.Series
    customer: np.ndarray
    fraud: np.ndarray
    new: np.ndarray

    @property
    def day(self) -> np.ndarray:
        """Whole days since the first midnight."""
        return ((self.time - self.time.iloc[0].floor("D")) // pd.Timedelta(days=1)).to_numpy()


def made(seed: int, customers: int) -> World:
    """Simulate a world in which every fraud is known in the end; features count no labels."""
    config = SimulateConfig(
        customers=customers,
        merchants=max(20, customers // 3),
        days=BEGIN + 7 * WEEKS,
        label_noise=0.0,
        onset=dict.fromkeys(NEW_KINDS, BEGIN),
    )
    raw = simulate(config, seed, identities=False)
    columns = tomllib.loads(DEMO.read_text(encoding="utf-8"))["columns"]
    kept = {c["source"]: c["name"] for c in columns if c["name"] in BY_NAME and c["treatment"] != "generalise"}
    frame = conform(raw[[*kept, "latitude", "longitude"]].rename(columns=kept))
    kind = frame["transaction_id"].map(raw.set_index("payment_id")["fraud_scenario"]).fillna("").to_numpy()
    feature_set, _ = configured_set(FeaturesConfig(set="card-v1", labels=False), frame)
    return World(
        feature_set.compute(frame),
        frame["event_time"],
        frame["customer_id"].astype("str").to_numpy(),
        kind != "",
        np.isin(kind, NEW_KINDS),
    )


def lived(world: World, way: Way, *, seed: int, threads: int = 1) -> pd.DataFrame:
    """Live through the weeks one way: train, list, look, know more.

    Returns
    -------
    DataFrame, a row per week: cases (of fraud, customer and day), found (listed), new and new_found (of the new kinds),
    listed, hidden (frauds not listed), drawn, drawn_frauds, estimate, low, high (hidden frauds, by the random checks).
    """
    day, n = world.day, len(world.fraud)
    looked = day < BEGIN
    weight = np.ones(n)
    case = pd.factorize(pd.Series(world.customer) + pd.Series(day).astype("str"))[0]
    rng = np.random.default_rng(seed)
    told = []
    for week in range(WEEKS):
        now = BEGIN + 7 * week
        known = day < now if way.reports else looked
        learn = (day >= now - LEARNT_DAYS) & (day < now) & (known if way.unlabelled == "left out" else True)
        model = fit_estimator(
            world.features[learn],
            (world.fraud & known)[learn],
            model=MODEL,
            seed=seed,
            weight=weight[learn],
            threads=threads,
        )
        rows = np.flatnonzero((day >= now) & (day < now + 7))
        score = model.score(world.features.iloc[rows])
        listed = rows[choose_cases(score, world.time.iloc[rows], world.customer[rows], threshold=-1.0, per_day=PER_DAY)]
        units = pd.DataFrame({"case": case[rows], "day": day[rows], "score": score, "fraud": world.fraud[rows]})
        units = units.groupby(["day", "case"], as_index=False).agg({"score": "max", "fraud": "any"})
        rest = units[~units["case"].isin(case[listed])]
        drawn, chance = [], []
        for _, others in rest.groupby("day"):
            chances = survey.chances_by_rank(others["score"], way.random)
            taken = survey.draw(chances, rng.random(len(others)), rng.random())
            drawn += others["case"].iloc[taken].tolist()
            chance += chances[taken].tolist()
        looked[listed] = True
        checked = np.isin(case, drawn)
        looked |= checked
        if way.weight != "one":
            most = np.inf if way.weight == "chance" else float(way.weight)
            of = dict(zip(drawn, chance))
            stands = np.array([min(1 / of[each], most) for each in case[checked & world.fraud]])
            weight[checked & world.fraud] = stands
        frauds = set(case[rows][world.fraud[rows]])
        new = set(case[rows][world.new[rows]])
        hit = [1 / p for each, p in zip(drawn, chance) if each in frauds]
        ends = survey.weighted_total(hit, most=max(1 / p for p in chance)) if chance else (np.nan,) * 3
        told.append(
            {
                "week": week,
                "cases": len(frauds),
                "found": len(frauds & set(case[listed])),
                "new": len(new),
                "new_found": len(new & set(case[listed])),
                "listed": len(set(case[listed])),
                "hidden": len(frauds - set(case[listed])),
                "drawn": len(drawn),
                "drawn_frauds": len(hit),
                **dict(zip(("estimate", "low", "high"), ends)),
            }
        )
    return pd.DataFrame(told)


def judged(weeks: pd.DataFrame) -> dict[str, float]:
    """Add up the second half of the weeks: shares of cases found, precision, hidden frauds and their estimate."""
    late = weeks[weeks["week"] >= WEEKS // 2]
    total = late.sum()
    covered = ((late["low"] <= late["hidden"]) & (late["hidden"] <= late["high"])).mean()
    return {
        "recall": float(total["found"] / total["cases"]),
        "recall_new": float(total["new_found"] / total["new"]),
        "precision": float(total["found"] / total["listed"]),
        "hidden_a_week": float(late["hidden"].mean()),
        "estimate_a_week": float(late["estimate"].mean()),
        "covered": float(covered) if late["low"].notna().any() else float("nan"),
        "frauds_drawn": float(total["drawn_frauds"]),
        "cases_drawn": float(total["drawn"]),
    }


def one_world(seed: int, customers: int, threads: int) -> list[dict[str, Any]]:
    """Live through one world in every way."""
    world = made(seed, customers)
    return [
        {"way": name, "world": seed, **judged(lived(world, replace(way), seed=seed, threads=threads))}
        for name, way in WAYS.items()
    ]


def summed(rows: list[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Return mean and range over the worlds, and the difference to "reviews only" with its standard error."""
    table = pd.DataFrame(rows).set_index(["way", "world"])
    base = table.loc["reviews only"]
    found: dict[str, dict[str, list[float]]] = {}
    for way in WAYS:
        mine = table.loc[way]
        found[way] = {name: [float(mine[name].mean())] for name in mine}
        for name in ("recall", "recall_new", "precision"):
            change = mine[name] - base[name]
            found[way][name] += [float(change.mean()), float(change.std(ddof=1) / len(change) ** 0.5)]
    return found


def markdown(results: dict[str, Any]) -> str:
    """Return the written results as a table."""
    lines = [
        "| labels | frauds found | of the new kinds | against reviews only | listed cases that are fraud | "
        "hidden a week: true | estimated | intervals that held it |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for way, told in results["ways"].items():
        shift, error = told["recall"][1:]
        half = t.ppf(0.975, results["worlds"] - 1) * error  # few worlds: Student's t
        against = "" if way == "reviews only" else f"{100 * shift:+.1f} ± {100 * half:.1f} points"
        estimated = told["estimate_a_week"][0]
        cells = (
            way,
            f"{told['recall'][0]:.1%}",
            f"{told['recall_new'][0]:.1%}",
            against.replace("-", "−"),
            f"{told['precision'][0]:.1%}",
            f"{told['hidden_a_week'][0]:.1f}",
            "" if estimated != estimated else f"{estimated:.1f}",
            "" if estimated != estimated else f"{told['covered'][0]:.0%}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    """Live through every world in every way, write the results, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=4, help="how many, each with its own seed")
    parser.add_argument("--customers", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="worlds at once, one thread each")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the figures go (JSON)")
    parser.add_argument("--table", action="store_true", help="print what is written, as Markdown")
    arguments = parser.parse_args()
    if arguments.table:
        print(markdown(json.loads(arguments.out.read_text(encoding="utf-8"))))
        return 0
    began = time.perf_counter()
    with ProcessPoolExecutor(arguments.jobs) as pool:
        waiting = [pool.submit(one_world, seed, arguments.customers, 1) for seed in range(1, arguments.worlds + 1)]
        rows = [row for each in waiting for row in each.result()]
    results = {
        "ways": summed(rows),
        "worlds": arguments.worlds,
        "customers": arguments.customers,
        "weeks": WEEKS,
        "alerts_per_day": PER_DAY,
        "seconds": round(time.perf_counter() - began, 1),
    }
    figures.write(results, arguments.out)
    print(markdown(results))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
