"""Feature specs in the competitors' words, column by column: what they start from, and the SQL for DuckDB.

`card_polars` has the expressions for Polars. Each engine takes the specs it can express, told by statistic and options,
and says of the others why not. What they start from is made for them and not timed: text and ids as whole numbers
(fraudlab gets the text), missing as NULL, and per entity a time that tells ties apart (see `recipes`).

Labels that become known row by row cannot be had from a RANGE window. Both engines get them from running sums: a label
enters the window at max(known, time + delay) and leaves it at time + delay + width, so the window's sum at t is that of
all entries and leavings up to t, found by an as-of join. A self-join gives the same numbers and is far slower.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd
from recipes import DAY, Recipe, half_step, microseconds, moments

from fraudlab.features.specs import parse_duration

EARTH_RADIUS_KM = 6371.0088
HOUR = DAY // 24
KNOWN_FIELDS = {
    *("statistic", "by", "window", "value", "delay", "include_current", "where"),
    *("empty", "prior", "q", "slack_km", "floor", "step"),
}
LABELS = ("frauds", "labelled", "risk")
# A spread below this share of the mean is what rounding leaves of equal values.
NO_SPREAD = 1e-9


class Left(Exception):
    """A column that an engine cannot express, with the reason."""


class Given:
    """The columns of a frame as the competitors get them, each made once.

    Attributes
    ----------
    columns : row, t (microseconds), known (NaN: never), fraud, and what the specs ask for: numbers, codes, `u_*` times
        per entity. codes : text columns with the code of each of their values.
    """

    def __init__(self, frame: pd.DataFrame, specs: Sequence[Any]) -> None:
        self.time = microseconds(frame["event_time"])
        self.half = half_step(self.time)
        self.columns: dict[str, np.ndarray] = {"row": np.arange(len(frame)), "t": self.time}
        self.codes: dict[str, dict[Any, int]] = {}
        self.nullable: set[tuple[str, ...]] = set()
        for name in sorted({name for spec in specs for name in spec.requires}):
            self._add(frame, name)
        for by in sorted({tuple(spec.by) for spec in specs if getattr(spec, "by", None)}):
            self._add_entity(by)

    def _add(self, frame: pd.DataFrame, name: str) -> None:
        if name == "is_fraud":
            self.columns["fraud"] = frame[name].to_numpy(np.int32, na_value=0)
        elif name == "label_time":
            known = frame[name].isna() | frame["is_fraud"].isna()
            moment = np.maximum(microseconds(frame[name].fillna(frame["event_time"])), self.time)
            if (~known & (moment == self.time)).any():
                raise SystemExit("benchmarks: a label known with the payment itself needs another recipe")
            self.columns["known"] = pd.array(moment, "Int64")
            self.columns["known"][known.to_numpy()] = pd.NA
        elif name in ("transaction_id", "event_time"):
            pass
        elif pd.api.types.is_numeric_dtype(frame[name].dtype) and frame[name].dtype.kind == "f":
            self.columns[name] = pd.array(frame[name].to_numpy(np.float64), "Float64")
        else:
            code, values = pd.factorize(frame[name])
            self.codes[name] = {value: place for place, value in enumerate(values)}
            self.columns[name] = pd.array(code.astype(np.int32), "Int32")
            self.columns[name][code < 0] = pd.NA

    def _add_entity(self, by: tuple[str, ...]) -> None:
        parts = pd.DataFrame({name: self.columns[name] for name in by})
        missing = parts.isna().any(axis=1).to_numpy()
        entity = parts.groupby(list(by), sort=False).ngroup().to_numpy()
        entity = np.where(missing, -1 - np.arange(len(parts)), entity)  # a missing one is nobody's history
        self.columns[clock(by)] = moments(self.time, entity, self.half)
        if missing.any():
            self.nullable.add(by)

    def meaning(self, where: tuple | None) -> tuple[str, str, Any] | None:
        """Return a condition with the code of its value in place of text."""
        if where is None:
            return None
        column, operator, wanted = where
        return (column, operator, self.codes[column].get(wanted, -2) if column in self.codes else wanted)


def clock(by: Sequence[str]) -> str:
    return "u_" + "_and_".join(by)


def check_options(spec: Any) -> None:
    """Refuse options that the recipes do not know, whatever the statistic."""
    for option in fields(spec):
        if getattr(spec, option.name) not in (None, False) and option.name not in KNOWN_FIELDS | {"through"}:
            raise Left(f"option {option.name}")


def label_times(span: Any) -> tuple[int, int]:
    return span.delay, span.delay + span.width


class _Query:
    """One SELECT over the rows of one entity, or of all that no row misses: its expressions and named windows."""

    def __init__(self) -> None:
        self.windows: dict[str, str] = {}
        self.found: list[tuple[str, str]] = []

    def window(self, text: str) -> str:
        return self.windows.setdefault(text, f"w{len(self.windows)}")

    def select(self, condition: str = "") -> str:
        found = ", ".join(f'{expression} AS "{name}"' for name, expression in self.found)
        windows = ", ".join(f"{name} AS ({text})" for text, name in self.windows.items())
        return f"SELECT row, {found} FROM payments{condition}" + (f" WINDOW {windows}" if windows else "")


def duckdb_card(given: Given, specs: Sequence[Any]) -> tuple[Recipe, list[str], dict[str, str]]:
    """Return the recipe, the columns it gives and the reason for each column it leaves out."""
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET enable_progress_bar = false")
    table = pd.DataFrame(given.columns)
    connection.register("given", table)
    connection.execute("CREATE TABLE payments AS SELECT * FROM given")
    connection.unregister("given")

    queries: dict[tuple[str, ...], _Query] = {(): _Query()}
    labels: dict[tuple, list[tuple[str, str]]] = {}
    expressed: list[str] = []
    left: dict[str, str] = {}
    for spec in specs:
        spans = getattr(spec, "spans", (None,))
        for column, span in zip(spec.columns, spans):
            try:
                check_options(spec)
                if spec.statistic in LABELS:
                    labels.setdefault((tuple(spec.by), *label_times(span)), []).append((column, _share_sql(spec)))
                else:
                    by = tuple(getattr(spec, "by", ()))
                    query = queries.setdefault(by if by in given.nullable else (), _Query())
                    query.found.append((column, _sql(given, query, spec, span)))
            except Left as why:
                left[column] = str(why)
            else:
                expressed.append(column)

    parts = []
    for by, query in queries.items():
        if query.found:
            condition = " WHERE " + " AND ".join(f"{name} IS NOT NULL" for name in by) if by else ""
            parts.append(query.select(condition))
    parts += [_labels_sql(by, enter, leave, found) for (by, enter, leave), found in labels.items()]
    joins = " ".join(f"LEFT JOIN ({part}) AS p{place} USING (row)" for place, part in enumerate(parts))
    named = ", ".join(f'"{name}"' for name in expressed)
    statement = (
        f"CREATE OR REPLACE TABLE found AS SELECT row, {named} FROM (SELECT row FROM payments) {joins} ORDER BY row"
    )

    def run() -> Any:
        connection.execute(statement)
        return connection

    def columns(result: Any) -> dict[str, np.ndarray]:
        read = result.sql("SELECT * EXCLUDE row FROM found").fetchnumpy()
        return {name: np.ma.filled(values.astype(np.float64), np.nan) for name, values in read.items()}

    return Recipe(run, columns), expressed, left


def _sql(given: Given, query: _Query, spec: Any, span: Any) -> str:
    if spec.kind == "current":
        return _current_sql(spec)
    if spec.kind == "past":
        return _past_sql(query, spec)
    if spec.kind != "window":
        raise Left("a graph needs more than windows")
    return _window_sql(given, query, spec, span)


def _current_sql(spec: Any) -> str:
    day = f"(t // {DAY} + 3) % 7"
    hour = f"(t // {HOUR}) % 24"
    known = {
        "value": f"{spec.value}",
        "cents": f"round({spec.value} * 100) % 100",
        "round": f"({spec.value} % {spec.step} = 0)::INT",
        "hour": hour,
        "night": f"({hour} <= 6)::INT",
        "weekday": day,
        "weekend": f"({day} >= 5)::INT",
        "month_day": "day(make_timestamp(t))",
    }
    if spec.statistic not in known:
        raise Left("no recipe")
    return known[spec.statistic]


def _past_sql(query: _Query, spec: Any) -> str:
    by = ", ".join(spec.by)
    time = clock(spec.by)
    before = query.window(f"PARTITION BY {by} ORDER BY {time}")
    if spec.statistic == "is_new":
        first = query.window(f"PARTITION BY {by}, {spec.value} ORDER BY {time}")
        return f"CASE WHEN {spec.value} IS NOT NULL THEN (row_number() OVER {first} = 1)::INT END"
    if spec.statistic == "since_last":
        return f"(t - lag(t) OVER {before}) / {DAY}.0"
    if spec.statistic == "since_first":
        return f"(t - first_value(t) OVER {before}) / {DAY}.0"
    if spec.statistic not in ("distance", "speed"):
        raise Left("no recipe")
    place = "CASE WHEN latitude IS NOT NULL AND longitude IS NOT NULL THEN {} END"
    lat, lon, then = (
        f"lag({place.format(name)} IGNORE NULLS) OVER {before}" for name in ("latitude", "longitude", "t")
    )
    half = (
        f"sin(radians(latitude - {lat}) / 2) ** 2 + cos(radians(latitude)) * cos(radians({lat})) "
        f"* sin(radians(longitude - {lon}) / 2) ** 2"
    )
    km = f"2 * {EARTH_RADIUS_KM} * asin(sqrt(least({half}, 1)))"
    known = "latitude IS NOT NULL AND longitude IS NOT NULL"
    if spec.statistic == "speed":
        floor = parse_duration(spec.floor, "floor") / HOUR
        km = f"greatest({km} - {spec.slack_km}, 0) / greatest((t - {then}) / {HOUR}.0, {floor})"
    return f"CASE WHEN {known} AND {then} IS NOT NULL THEN {km} END"


def _window_sql(given: Given, query: _Query, spec: Any, span: Any) -> str:
    lower = span.delay + span.width - given.half - 1
    if span.delay:
        upper = f"{span.delay - given.half} PRECEDING"
    else:
        upper = "CURRENT ROW" if span.include_current else "1 PRECEDING"
    order = f"ORDER BY {clock(spec.by)} RANGE BETWEEN {lower} PRECEDING AND {upper}"
    w = query.window(f"PARTITION BY {', '.join(spec.by)} {order}")
    x = spec.value
    where = given.meaning(spec.where)
    condition = f" FILTER (WHERE {where[0]} {where[1]} {where[2]})" if where else ""

    def of(function: str) -> str:
        return f"{function}{condition} OVER {w}"

    def same() -> str:
        """Count the rows of the window with the row's own value: a window per entity and value."""
        own = query.window(f"PARTITION BY {', '.join(spec.by)}, {x} {order}")
        return f"count(*){condition} OVER {own}"

    mean, spread = of(f"avg({x})"), of(f"stddev_samp({x})")
    simple = {
        "count": lambda: of("count(*)"),
        "total": lambda: f"coalesce({of(f'sum({x})')}, 0)",
        "mean": lambda: mean,
        "std": lambda: spread,
        "minimum": lambda: of(f"min({x})"),
        "maximum": lambda: of(f"max({x})"),
        "quantile": lambda: of(f"median({x})") if spec.q == 0.5 else of(f"quantile_cont({x}, {spec.q})"),
        "zscore": lambda: f"CASE WHEN {spread} > {NO_SPREAD} * abs({mean}) THEN ({x} - {mean}) / {spread} END",
        "ratio": lambda: f"{x} / nullif({mean}, 0)",
        "max_ratio": lambda: f"{x} / nullif({of(f'max({x})')}, 0)",
        "distinct": lambda: of(f"count(DISTINCT {x})"),
        "entropy": lambda: f"CASE WHEN {of(f'count({x})')} > 0 THEN {of(f'entropy({x})')} END",
        "mode_share": lambda: f"list_max(map_values({of(f'histogram({x})')})) / nullif({of(f'count({x})')}, 0)",
        "repeats": lambda: f"CASE WHEN {x} IS NOT NULL THEN {same()} END",
        "share": lambda: f"CASE WHEN {x} IS NOT NULL THEN {same()} / nullif({of(f'count({x})')}, 0) END",
        # Both ranks are among the window's rows, the row itself not being one of them.
        "percentile": lambda: (
            f"CASE WHEN {x} IS NOT NULL AND {of(f'count({x})')} > 0 THEN 0.5 + 0.5 * (rank(ORDER BY {x}) OVER {w} "
            f"- rank(ORDER BY {x} DESC) OVER {w}) / {of(f'count({x})')} END"
        ),
        "hour_shift": lambda: _hour_shift_sql(of),
        "mean_gap": lambda: (
            f"(last_value(t) OVER {w} - first_value(t) OVER {w}) / nullif(count(*) OVER {w} - 1, 0) / {DAY}.0"
        ),
    }
    if spec.statistic not in simple or (spec.statistic == "percentile" and where):
        raise Left("no recipe")
    return simple[spec.statistic]()


def _hour_shift_sql(of: Any) -> str:
    angle = f"(2 * pi() * (t % {DAY}) / {DAY})"
    sine, cosine = of(f"sum(sin{angle})"), of(f"sum(cos{angle})")
    across, along = (
        f"(sin{angle} * {cosine} - cos{angle} * {sine})",
        f"(cos{angle} * {cosine} + sin{angle} * {sine})",
    )
    return f"CASE WHEN greatest(abs({sine}), abs({cosine})) > 1e-9 THEN abs(atan2({across}, {along})) * 12 / pi() END"


def _share_sql(spec: Any) -> str:
    frauds, labelled = "coalesce(c.f, 0)", "coalesce(c.l, 0)"
    if spec.statistic != "risk":
        return frauds if spec.statistic == "frauds" else labelled
    prior = getattr(spec, "prior", None)
    if prior:
        rate, strength = prior
        share = f"({frauds} + {rate * strength!r}) / nullif({labelled} + {strength!r}, 0)"
    else:
        share = f"{frauds} / nullif({labelled}, 0)"
    return share if spec.empty is None else f"CASE WHEN {labelled} = 0 THEN {spec.empty!r} ELSE {share} END"


def _labels_sql(by: tuple[str, ...], enter: int, leave: int, found: list[tuple[str, str]]) -> str:
    names = ", ".join(by)
    entry = f"greatest(known, t + {enter})"
    only = "known IS NOT NULL" + "".join(f" AND {name} IS NOT NULL" for name in by)
    if all("c.l" not in expression for _, expression in found):
        only += " AND fraud = 1"
    moves = (
        f"SELECT {names}, {entry} AS moment, fraud AS f, 1 AS l FROM payments WHERE {only} AND {entry} < t + {leave} "
        f"UNION ALL SELECT {names}, t + {leave}, -fraud, -1 FROM payments WHERE {only} AND {entry} < t + {leave}"
    )
    running = (  # RANGE, so that all moves of one moment are in each other's sums, whichever of them the join finds
        f"SELECT {names}, moment, sum(f) OVER w AS f, sum(l) OVER w AS l FROM ({moves}) "
        f"WINDOW w AS (PARTITION BY {names} ORDER BY moment RANGE UNBOUNDED PRECEDING)"
    )
    on = " AND ".join(f"payments.{name} = c.{name}" for name in by)
    columns = ", ".join(f'{expression} AS "{name}"' for name, expression in found)
    known = " AND ".join(f"payments.{name} IS NOT NULL" for name in by)
    return (
        f"SELECT row, {columns} FROM payments ASOF LEFT JOIN ({running}) AS c ON {on} AND t >= c.moment WHERE {known}"
    )
