"""Several ways of working through the same long stretch of time: what each finds period by period, and in all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from fraudlab.metrics.cases import Cases, Data, same_length, take_cards, whole
from fraudlab.metrics.cells import SMALLEST_CELL
from fraudlab.metrics.outcomes import OUTCOMES, Costs, alert_sums, measured, not_told
from fraudlab.metrics.replicates import draws, interval_note, percentiles
from fraudlab.schema import InputError, did_you_mean

WORKED: dict[str, str] = {
    **OUTCOMES,
    "money_missed_per_day": "fraud amount a day in cases without an alert",
    "review_cost_per_day": "a day's cost of the reviews and of the false alarms",
}
"""What `ways_of_working` measures, in its order, with its meaning."""

FEW_APART = "not shown: the two differ by 1 to 9 frauds"

Block = Literal["entity", "week"]


def top_cases(score: Any, *, event_time: Any, entity: Any, k: int) -> np.ndarray:
    """Say which transactions lie in the k best cases of their day: bool[n]; ties as everywhere in `metrics`.

    >>> day = pd.to_datetime(["2026-01-01"] * 3 + ["2026-01-02"], utc=True)
    >>> top_cases([0.9, 0.2, 0.1, 0.1], event_time=day, entity=["a", "b", "a", "b"], k=1).tolist()
    [True, False, True, True]
    """
    cases = Cases.of(Data.read(np.zeros(len(score)), score, event_time, entity))
    return cases.place[cases.of_row] < whole(k, "k", 1)


def ways_of_working(
    y: Any,
    ways: Mapping[str, Any],
    *,
    event_time: Any,
    entity: Any,
    amount: Any,
    review_cost: float,
    recovery_rate: float,
    false_alarm_cost: float = 0.0,
    against: str | None = None,
    block: Block = "entity",
    n_boot: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure what each of several ways of choosing cases brings, and what it brings more than one of them.

    Parameters
    ----------
    y, event_time, entity, amount, review_cost, recovery_rate, false_alarm_cost : as in `alert_outcomes`.
    ways : name -> bool, shape (n,): whether the transaction raises an alert; one alert reviews the whole case.
    against : the way that all others are held against; None: none is.
    block : what replicates draw, with all its rows: "entity", or "week", seven days from the first day on. Entities
        leave out what differs from week to week, weeks what one entity's rows have in common.
    n_boot, seed : every way sees the same draws.

    Returns
    -------
    DataFrame: way, against ("" or a name), metric (see `WORKED`), block, value, low, high, n, note; with `against` the
    value is way minus against. NaN exactly where the note begins "not applicable" or "not shown": a figure that rests
    on 1 to 9 frauds, or a difference made of as few frauds that one way alone catches.

    Raises
    ------
    InputError : as in `alert_outcomes`; no way; an unknown name to hold them against.

    Notes
    -----
    The ways stay as they are in every replicate: the intervals do not cover how models and thresholds were made.

    >>> day = pd.to_datetime(["2026-01-01"] * 40, utc=True)
    >>> fraud = np.arange(40) < 20
    >>> table = ways_of_working(fraud, {"all": np.ones(40), "half": fraud}, event_time=day, entity=range(40),
    ...     amount=[50] * 40, review_cost=15, recovery_rate=0.8, against="all", n_boot=0)
    >>> saved = table[table["metric"] == "net_saved_per_day"]
    >>> saved[["way", "against", "value"]].values.tolist()
    [['all', '', 200.0], ['half', '', 500.0], ['half', 'all', 300.0]]
    """
    if not ways:
        raise InputError("ways: must hold at least one way of choosing cases; found none; name one")
    if against is not None and against not in ways:
        raise InputError(f"against: no way is named '{against}'; {did_you_mean(against, list(ways))}")
    _known_block(block)
    costs = Costs(review_cost, recovery_rate, false_alarm_cost)
    data = {name: Data.read(y, np.asarray(given, float), event_time, entity, amount=amount) for name, given in
            ways.items()}  # fmt: skip
    first = next(iter(data.values()))
    units = _units(first, block)
    sums = {name: alert_sums(each, Cases.of(each), per=units) for name, each in data.items()}
    days, blocks = len(first.days), int(units.max()) + 1
    columns = sums[next(iter(sums))].columns
    stacked = np.stack([each.to_numpy() for each in sums.values()])  # [way, block, sum]

    def measure(totals: np.ndarray) -> np.ndarray:
        """Return the measures [replicate, way, metric] of sums [replicate, way, sum]."""
        total = pd.DataFrame(totals.reshape(-1, len(columns)), columns=columns)
        found = measured(total, days, costs)
        bothered = total["cases"] - total["bad_cases"]
        spent = costs.review_cost * total["cases"] + costs.false_alarm_cost * bothered
        missed = (total["money"] - total["money_caught"]) / days
        told = found.assign(money_missed_per_day=missed, review_cost_per_day=spent / days)[list(WORKED)]
        return told.to_numpy().reshape(*totals.shape[:2], len(WORKED))

    point = measure(stacked.sum(axis=1)[None])[0]
    spread = np.zeros((0, *point.shape))
    if whole(n_boot, "n_boot", 0) and blocks > 1:
        drawn = [np.einsum("b,wbs->ws", draw, stacked) for draw in draws(blocks, n_boot, seed)]
        spread = measure(np.array(drawn))
    alone = {name: _found_alone(data[name], None if against is None else data[against]) for name in data}
    rows = []
    for place, name in enumerate(sums):
        own = sums[name].sum()
        for other in ("",) if against in (None, name) else ("", against):
            values, replicates = point[place], spread[:, place]
            if other:
                base = list(sums).index(other)
                values, replicates = values - point[base], replicates - spread[:, base]
            low, high = np.full((2, len(WORKED)), np.nan)
            undefined = np.zeros(len(WORKED), int)
            if len(replicates):
                low, high, undefined = percentiles(replicates)
            for column, metric in enumerate(WORKED):
                gone = not_told(metric, own)
                if other:
                    gone = gone or not_told(metric, sums[other].sum())
                    gone = gone or (FEW_APART if alone[name] and metric not in _OF_CASES else "")
                note = gone or interval_note(block, blocks, n_boot, int(undefined[column]))
                told = (np.nan,) * 3 if gone else (values[column], low[column], high[column])
                rows.append((name, other, metric, block, *told, len(first.y), note))
    return pd.DataFrame(rows, columns=["way", "against", "metric", "block", "value", "low", "high", "n", "note"])


_OF_CASES = ("alerts_per_day", "false_positive_rate")


def _found_alone(data: Data, other: Data | None) -> bool:
    """Say whether 1 to 9 frauds are caught by one of two ways alone."""
    if other is None:
        return False
    mine, theirs = _caught(data), _caught(other)
    apart = np.array([(mine & ~theirs).sum(), (theirs & ~mine).sum()])
    return bool(((apart > 0) & (apart < SMALLEST_CELL)).any())


def _caught(data: Data) -> np.ndarray:
    cases = Cases.of(data)
    alerted = np.zeros(len(cases.day))
    np.maximum.at(alerted, cases.of_row, data.score)
    return (alerted[cases.of_row] > 0) & (data.y > 0)


def _units(data: Data, block: Block) -> np.ndarray:
    """Return each row's block: its entity, or its week from the first day on."""
    if block == "entity":
        return data.entity
    week = (data.days - data.days[0]).days.to_numpy() // 7
    return np.unique(week, return_inverse=True)[1][data.day]


def _known_block(block: str) -> None:
    if block not in ("entity", "week"):
        raise InputError(f"block: must be 'entity' or 'week'; found {block!r}; name one of them")


@dataclass(frozen=True)
class _Stretch:
    """One period's cases in the order of one way's scores."""

    cases: Cases
    entities: np.ndarray  # the number, over the whole time, of each of the period's entities
    days: int


def card_precision_by_period(
    y: Any,
    scores: Mapping[str, Any],
    periods: Any,
    *,
    event_time: Any,
    entity: Any,
    k: int,
    against: str | None = None,
    block: Block = "entity",
    n_boot: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Follow CP@k over time for several ways of scoring: in each period, over all, and against one of them.

    Parameters
    ----------
    y, event_time, entity, k : as in `card_precision_at_k`.
    scores : way -> score of each transaction, shape (n,); only the order within a day counts, so that a way may change
        its model between days.
    periods : label of each row's period, shape (n,); a period is whole days. Whoever is found compromised leaves the
        later days of the period and comes back with the next.
    against, block, n_boot, seed : as in `ways_of_working`. Entities are chosen afresh in each replicate; with weeks as
        blocks whole periods are drawn.

    Returns
    -------
    DataFrame: way, against, period ("all" first), metric ("card_precision_at_k"), block, value, low, high, n
    (transactions), cases (inspected), hits, compromised (of these days), days, note. A difference has no counts (NaN).

    Raises
    ------
    InputError : as in `ways_of_working` and `card_precision_at_k`.

    >>> day = pd.to_datetime(["2026-01-01"] * 2 + ["2026-01-08"] * 2, utc=True)
    >>> table = card_precision_by_period([1, 0, 1, 0], {"a": [0.9, 0.2, 0.8, 0.1], "b": [0.9, 0.2, 0.1, 0.8]},
    ...     ["w1", "w1", "w2", "w2"], event_time=day, entity=list("xyxy"), k=1, against="a", n_boot=0)
    >>> table[["way", "against", "period", "value"]].values.tolist()[:2]
    [['a', '', 'all', 1.0], ['a', '', 'w1', 1.0]]
    >>> table.set_index(["way", "against", "period"])["value"]["b", "a", "all"]
    np.float64(-0.5)
    """
    if not scores:
        raise InputError("scores: must hold at least one way of scoring; found none; name one")
    if against is not None and against not in scores:
        raise InputError(f"against: no way is named '{against}'; {did_you_mean(against, list(scores))}")
    _known_block(block)
    k, n_boot = whole(k, "k", 1), whole(n_boot, "n_boot", 0)
    label = pd.Series(periods).astype("str").to_numpy(dtype=object)
    arrays = {name: np.asarray(score, dtype=float) for name, score in scores.items()}
    everything = Data.read(y, next(iter(arrays.values())), event_time, entity)
    same_length(y=everything.y, periods=label, **arrays)
    time, who = pd.DatetimeIndex(event_time), pd.Series(entity).reset_index(drop=True)
    names = list(dict.fromkeys(label[np.argsort(everything.day, kind="stable")]))
    blocks = len(everything.entities) if block == "entity" else len(names)
    stretches: dict[tuple[int, bytes], _Stretch] = {}  # ways that share a model in a period share the work
    found: dict[tuple[int, bytes], tuple[np.ndarray, np.ndarray]] = {}
    keys: list[list[tuple[int, bytes]]] = []
    sizes = []
    for number, name in enumerate(names):
        where = np.flatnonzero(label == name)
        sizes.append(len(where))
        keys.append([(number, score[where].tobytes()) for score in arrays.values()])
        for key, score in zip(keys[-1], arrays.values()):
            if key not in stretches:
                data = Data.read(everything.y[where], score[where], time[where], who.iloc[where])
                code = np.empty(len(data.entities), np.int64)
                code[data.entity] = everything.entity[where]
                stretches[key] = _Stretch(Cases.of(data), code, len(data.days))
    weights = list(draws(blocks, n_boot, seed)) if n_boot and blocks > 1 else []
    for key, stretch in stretches.items():
        cards = take_cards(stretch.cases, np.ones(len(stretch.entities)), k)
        counts = np.array([cards.inspected.sum(), cards.hits.sum(), cards.compromised.sum(), stretch.days])
        drawn = np.full(len(weights), cards.hits.sum())
        if block == "entity":
            drawn = np.array([take_cards(stretch.cases, w[stretch.entities], k).hits.sum() for w in weights])
        found[key] = counts, drawn
    counts = np.array([[found[key][0] for key in row] for row in keys])  # [period, way, count]
    drawn = np.array([[found[key][1] for key in row] for row in keys])  # [period, way, replicate]
    days = counts[:, 0, 3]
    return _precision_rows(list(arrays), names, counts, drawn, weights, days, sizes, k, against, block, n_boot)


def _precision_rows(
    ways: list[str],
    names: list[str],
    counts: np.ndarray,
    drawn: np.ndarray,
    weights: list[np.ndarray],
    days: np.ndarray,
    sizes: list[int],
    k: int,
    against: str | None,
    block: Block,
    n_boot: int,
) -> pd.DataFrame:
    """Lay the counts out as rows: for each way all, then each period; then its differences."""
    times = np.array(weights).T if block == "week" else np.ones((len(names), len(weights)))  # [period, replicate]
    over_all = np.einsum("pwr,pr->wr", drawn, times) / k / np.maximum(days @ times, 1) if len(weights) else None
    blocks = len(names) if block == "week" else (len(weights[0]) if weights else 1)

    def row(way: str, other: str, period: str, value: float, spread: np.ndarray | None, n: int, told: list) -> tuple:
        low = high = np.nan
        if spread is not None and len(spread):
            (low,), (high,), _ = percentiles(spread[:, None])
        note = interval_note(block, blocks, n_boot if spread is not None else 0, 0)
        return (way, other, period, "card_precision_at_k", block, value, low, high, n, *told, note)

    rows = []
    for place, way in enumerate(ways):
        total = counts[:, place].sum(axis=0)
        mine = None if over_all is None else over_all[place]
        rows.append(row(way, "", "all", total[1] / k / total[3], mine, sum(sizes), list(total)))
        for number, name in enumerate(names):
            own = counts[number, place]
            spread = drawn[number, place] / k / own[3] if block == "entity" and len(weights) else None
            rows.append(row(way, "", name, own[1] / k / own[3], spread, sizes[number], list(own)))
        if against in (None, way):
            continue
        base = ways.index(against)
        difference = (counts[:, place, 1].sum() - counts[:, base, 1].sum()) / k / total[3]
        apart = None if over_all is None else over_all[place] - over_all[base]
        rows.append(row(way, against, "all", difference, apart, sum(sizes), [np.nan] * 3 + [total[3]]))
    columns = ["way", "against", "period", "metric", "block", "value", "low", "high", "n"]
    return pd.DataFrame(rows, columns=[*columns, "cases", "hits", "compromised", "days", "note"])
