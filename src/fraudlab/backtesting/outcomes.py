"""What each policy's champions would have found, judged with every label that is known by now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from fraudlab import metrics
from fraudlab.backtesting.policies import DAY
from fraudlab.backtesting.walking import Walk, World, kept_model, review_threshold
from fraudlab.config import RunConfig
from fraudlab.metrics import SMALLEST_CELL
from fraudlab.schema import InputError

BLOCKS = ("entity", "week")
"""What replicates draw: customers, as everywhere; and weeks, which differ in more than their customers."""

JOINED = (1, 2, 4, 8, 13, 26, 52)
"""Periods of the walk that are shown as one, as few as hold enough cases to be told."""

WAYS = ("budget", "threshold")
"""How cases are chosen: the best of each day, known when it is over; or all that reach the champion's threshold."""


@dataclass(frozen=True, eq=False)
class Judged:
    """The payments judged: their positions, their period (its first day), and what each policy says of them.

    `score`, `risk` and `alert` have a column per policy; `risk` is what the champion states, NaN where it states none,
    and `alert` says whether the score reaches the champion's own threshold.
    """

    rows: np.ndarray
    period: np.ndarray
    score: pd.DataFrame
    risk: pd.DataFrame
    alert: pd.DataFrame


def judged_rows(world: World, start: pd.Timestamp, end: pd.Timestamp) -> np.ndarray:
    """Return the positions of the payments of [start, end) that count, as the test part of a fold would begin there.

    They have a label by now. Whoever is known as a victim when the day begins is left out
    (`split.exclude_known_compromised`): with a fraud since the last training window began that was reported by then.
    """
    split, payments = world.config.split, world.transactions
    when = payments["event_time"]
    low, high = when.searchsorted(start), when.searchsorted(end)
    rows = np.arange(low, high)
    rows = rows[payments["is_fraud"].iloc[rows].notna().to_numpy()]
    if not split.exclude_known_compromised or not len(rows):
        return rows
    since = start - (split.delay_days + split.train_days) * DAY if split.test_share is None else when.iloc[0]
    past = payments.iloc[when.searchsorted(since) : high]
    frauds = past[past["is_fraud"].fillna(False).to_numpy(dtype=bool) & past["label_time"].notna().to_numpy()]
    # A day that begins with a fraud does not begin with knowing it.
    told = np.maximum(frauds["label_time"], frauds["event_time"] + pd.Timedelta(1, "us"))
    first = told.groupby(frauds[split.entity].to_numpy()).min()
    known_from = payments[split.entity].iloc[rows].map(first)
    day = start + (when.iloc[rows] - start).dt.floor("D")
    return rows[~(known_from <= day).to_numpy()]


def score_walk(world: World, walked: Walk) -> Judged:
    """Let each period's champion of each policy score the period's payments, in the order of time.

    Raises
    ------
    InputError : a period has no payment with a label; its frauds are unknown.
    """
    names = [policy.name for policy in walked.policies]
    courses = {name: walked.champions(name) for name in names}
    parts: list[np.ndarray] = []
    periods: list[np.ndarray] = []
    told: dict[str, list[tuple[np.ndarray, ...]]] = {name: [] for name in names}
    kept: dict[pd.Timestamp, Any] = {}
    for number, (begin, end, _) in enumerate(courses[names[0]]):
        rows = judged_rows(world, begin, end)
        if not len(rows):
            raise InputError(
                f"backtest: the days from {begin:%Y-%m-%d} must have payments whose label is known by now; found none; "
                "choose an earlier --to"
            )
        features = world.features.iloc[rows].reset_index(drop=True)
        parts.append(rows)
        periods.append(np.full(len(rows), f"{begin:%Y-%m-%d}", dtype=object))
        found: dict[pd.Timestamp, tuple[np.ndarray, ...]] = {}
        for name in names:
            champion = courses[name][number][2]
            if champion not in kept:
                kept[champion] = kept_model(walked.folder, champion)
            if champion not in found:
                model, facts = kept[champion]
                with threadpool_limits(1):
                    score = model.score(features)
                risk = np.full(len(score), np.nan) if model.calibrator is None else model.risk_of(score)
                found[champion] = score, risk, score >= review_threshold(facts)
            told[name].append(found[champion])
    columns = [
        pd.DataFrame({name: np.concatenate([part[at] for part in mine]) for name, mine in told.items()})
        for at in range(3)
    ]
    return Judged(np.concatenate(parts), np.concatenate(periods), *columns)


def judge(world: World, walked: Walk, judged: Judged, *, n_boot: int = 500) -> dict[str, pd.DataFrame]:
    """Table what each policy would have brought.

    Parameters
    ----------
    judged : of `score_walk`.
    n_boot : bootstrap replicates; of entities, and of weeks.

    Returns
    -------
    dict of evidence tables, as they are before `privacy.disclosure`:

    - backtest_champions: the history of `Walk`, dates as YYYY-MM-DD.
    - backtest_totals: policy, by (`WAYS`), against, metric (`metrics.WORKED`; card_precision_at_k by budget), block,
      value, low, high, n, note.
    - backtest_precision: CP@k per policy and period, as of `metrics.card_precision_by_period` with `way` as policy. As
      many periods of the walk are joined as it takes for each to hold no or ten and more victims, found or not.
    - backtest_periods: policy, by, period, cases (reviewed), gained and lost (frauds that this policy, or the first,
      catches alone), difference (what it saved more than the first, net of costs, since the first day).
    """
    config = world.config
    payments = world.transactions.iloc[judged.rows].reset_index(drop=True)
    y = payments["is_fraud"].to_numpy(dtype=bool).astype(np.int8)
    where: dict[str, Any] = {"event_time": payments["event_time"], "entity": payments[config.split.entity]}
    amount, k, base = payments["amount"].to_numpy(), config.decision.alerts_per_day, walked.policies[0].name
    costs = {name: getattr(config.decision, name) for name in ("review_cost", "recovery_rate", "false_alarm_cost")}
    shared = {**where, "against": base, "n_boot": n_boot, "seed": config.seed}
    chosen = {
        "budget": {name: metrics.top_cases(judged.score[name], **where, k=k) for name in judged.score},
        "threshold": {name: judged.alert[name].to_numpy() for name in judged.alert},
    }
    shown = _joined(y, judged, where, k)
    totals, periods = [], []
    for by, ways in chosen.items():
        for block in BLOCKS:
            table = metrics.ways_of_working(y, ways, amount=amount, **costs, block=block, **shared)
            totals.append(table.assign(by=by))
        periods.append(_by_period(y, ways, shown, payments, config, base).assign(by=by))
    scores = {name: judged.score[name].to_numpy() for name in judged.score}
    few = shared | {"k": k, "n_boot": min(n_boot, 200)}
    whole = [metrics.card_precision_by_period(y, scores, judged.period, block=block, **few) for block in BLOCKS]
    over_all = pd.concat([table[table["period"] == "all"] for table in whole]).assign(by="budget")
    over_time = metrics.card_precision_by_period(y, scores, shown, **few)
    over_time = pd.concat([whole[0][whole[0]["period"] == "all"], over_time[over_time["period"] != "all"]])
    columns = ["policy", "by", "against", "metric", "block", "value", "low", "high", "n", "note"]
    named = {"way": "policy"}
    total = pd.concat([over_all, *totals], ignore_index=True).rename(columns=named)[columns]
    history = walked.history.assign(
        **{name: walked.history[name].dt.strftime("%Y-%m-%d") for name in ("date", "learnt_until", "champion")}
    )
    return {
        "backtest_champions": history,
        "backtest_totals": total,
        "backtest_precision": over_time.rename(columns=named).reset_index(drop=True),
        "backtest_periods": pd.concat(periods, ignore_index=True),
    }


def _joined(y: np.ndarray, judged: Judged, where: Mapping[str, Any], k: int) -> np.ndarray:
    """Return the period that each row is shown under, the first day of as few periods of the walk as can be told."""
    number, names = pd.factorize(judged.period)
    scores = {name: judged.score[name].to_numpy() for name in judged.score}
    for size in JOINED:
        shown = np.asarray(names, dtype=object)[number // size * size]
        table = metrics.card_precision_by_period(y, scores, shown, k=k, n_boot=0, **where)
        counts = table.loc[table["period"] != "all", ["hits", "compromised"]].to_numpy()
        if size >= len(names) or not ((counts > 0) & (counts < SMALLEST_CELL)).any():
            break
    return shown


def _by_period(
    y: np.ndarray,
    ways: Mapping[str, np.ndarray],
    period: np.ndarray,
    payments: pd.DataFrame,
    config: RunConfig,
    base: str,
) -> pd.DataFrame:
    """Add up, policy by policy and period by period, what was reviewed and what it saved."""
    decision, amount = config.decision, payments["amount"].to_numpy()
    day = payments["event_time"].dt.floor("D")
    case = pd.MultiIndex.from_arrays([day, payments[config.split.entity]]).factorize()[0]
    number, names = pd.factorize(period)
    of_case = np.zeros(int(case.max()) + 1, np.int64)
    of_case[case] = number
    bad_case = np.bincount(case, weights=y) > 0

    def per_period(values: np.ndarray, at: np.ndarray = number) -> np.ndarray:
        return np.bincount(at, weights=values, minlength=len(names))

    caught, tables = {}, {}
    for name, given in ways.items():
        alerted = np.zeros(len(bad_case), bool)
        np.logical_or.at(alerted, case, given)
        caught[name] = (y > 0) & alerted[case]
        cases, bothered = per_period(alerted, of_case), per_period(alerted & ~bad_case, of_case)
        net = decision.recovery_rate * per_period(caught[name] * amount) - decision.review_cost * cases
        net -= decision.false_alarm_cost * bothered
        tables[name] = pd.DataFrame({"policy": name, "period": names, "cases": cases.astype(np.int64), "net": net})
    for name, table in tables.items():
        table["gained"] = per_period(caught[name] & ~caught[base]).astype(np.int64)
        table["lost"] = per_period(caught[base] & ~caught[name]).astype(np.int64)
        table["difference"] = (table["net"] - tables[base]["net"]).cumsum()
    return pd.concat(tables.values(), ignore_index=True).drop(columns="net")


def overview(tables: Mapping[str, pd.DataFrame], by: str = "budget", block: str = "entity") -> pd.DataFrame:
    """Lay the totals of one way of choosing cases out for reading: a row per policy.

    Columns: policy, models made, champions, what is told of `SHOWN`, and the difference of net_saved_per_day with its
    interval.
    """
    total = tables["backtest_totals"]
    total = total[(total["by"] == by) & (total["block"] == block)]
    history = tables["backtest_champions"]
    rows = []
    for policy in dict.fromkeys(history["policy"]):
        mine = total[total["policy"] == policy]
        own = mine[mine["against"] == ""].set_index("metric")["value"]
        beside = mine[mine["against"] != ""].set_index("metric")
        made = history[history["policy"] == policy]
        row = {"policy": policy, "models made": len(made), "champions": made["champion"].nunique()}
        row |= {said: own.get(metric, np.nan) for metric, said in SHOWN.items()}
        for name, said in (("value", "saved more"), ("low", "low"), ("high", "high")):
            row[said] = beside[name].get("net_saved_per_day", np.nan)
        rows.append(row)
    return pd.DataFrame(rows)


SHOWN = {
    "card_precision_at_k": "precision",
    "alerts_per_day": "cases a day",
    "recall": "frauds caught",
    "money_caught_share": "money caught",
    "money_missed_per_day": "missed a day",
    "net_saved_per_day": "saved a day",
}


def decided(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Say in a sentence per policy what it brought against the first, and whether that is more than chance."""
    total, history = tables["backtest_totals"], tables["backtest_champions"]
    found = total[(total["metric"] == "net_saved_per_day") & (total["by"] == "threshold") & (total["against"] != "")]
    said = []
    for policy, mine in found.groupby("policy", sort=False):
        made = history[history["policy"] == policy]
        promoted = int((made["decision"] == "promoted").sum())
        began = f"{policy} promoted {promoted} of {len(made) - 1} later models"
        base, values = mine["against"].iloc[0], mine.set_index("block")
        if values["value"].isna().any():
            said.append(f"{began}; what it saved against {base} is {values['note'].iloc[0]}")
            continue
        value, low, high = (values.loc["entity", name] for name in ("value", "low", "high"))
        if value == low == high == 0:
            said.append(f"{began} and alerted just what {base} did")
            continue
        apart = np.isfinite(low) and (low > 0 or high < 0)
        steady = apart and np.sign(values.loc["week", "low"]) == np.sign(values.loc["week", "high"])
        more = "more" if value >= 0 else "less"
        sure = (
            "and the interval over weeks agrees" if steady else "though from week to week it varies as much"
        ) if apart else "which chance alone could give"  # fmt: skip
        spread = f" ({low:+,.0f} to {high:+,.0f})".replace("-", "−") if np.isfinite(low) else ""
        said.append(f"{began} and saved {abs(value):,.0f} a day {more} than {base}{spread}, {sure}")
    return said
