"""Feature specs in Polars' words: `rolling_*_by().over()` where it has them, `DataFrame.rolling` for the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from card_recipes import EARTH_RADIUS_KM, HOUR, LABELS, NO_SPREAD, Given, Left, check_options, clock, label_times
from recipes import DAY, Recipe

from fraudlab.features.specs import parse_duration


def polars_card(given: Given, specs: Sequence[Any]) -> tuple[Recipe, list[str], dict[str, str]]:
    """Return the recipe, the columns it gives and the reason for each column it leaves out."""
    import polars as pl

    clocks = [name for name in given.columns if name.startswith("u_")]
    frame = pl.DataFrame(pd.DataFrame(given.columns)).with_columns(
        pl.col(*clocks).cast(pl.Datetime("us")), one=pl.lit(1, pl.Int32)
    )
    base = frame.lazy()
    aligned: list[Any] = []  # expressions over all rows, in their order
    over: dict[tuple[str, ...], list[Any]] = {}  # per partition of an entity that rows may miss
    rolled: dict[tuple, list[Any]] = {}  # per entity and window: what needs the window's rows themselves
    labels: dict[tuple, list[tuple[str, Any]]] = {}
    expressed: list[str] = []
    left: dict[str, str] = {}
    maker = _Polars(pl, given)
    for spec in specs:
        by = tuple(getattr(spec, "by", ()))
        spans = getattr(spec, "spans", (None,))
        for column, span in zip(spec.columns, spans):
            try:
                check_options(spec)
                if spec.kind == "current":
                    aligned.append(maker.current(spec).alias(column))
                elif spec.kind not in ("past", "window"):
                    raise Left("a graph needs more than windows")
                elif spec.statistic in LABELS:
                    labels.setdefault((by, *label_times(span)), []).append((column, spec))
                elif spec.kind == "window" and maker.needs_rows(spec):
                    expression = maker.rows_of_window(spec)
                    entity = (*by, spec.value) if spec.statistic == "repeats" else by
                    rolled.setdefault((by, entity, span), []).append(expression.alias(column))
                else:
                    expression = maker.past(spec) if spec.kind == "past" else maker.rolling(spec, span)
                    (over.setdefault(by, []) if by in given.nullable else aligned).append(expression.alias(column))
            except Left as why:
                left[column] = str(why)
            else:
                expressed.append(column)

    def present(entity: tuple[str, ...]) -> Any:
        missing = [name for name in entity if frame[name].null_count()]
        return base.filter(pl.col(*missing).is_not_null()) if missing else base

    def back(part: Any, entity: tuple[str, ...]) -> Any:
        if present(entity) is base:
            return part.sort("row").drop("row")
        return base.select("row").join(part, on="row", how="left", maintain_order="left").drop("row")

    parts = [base.select(aligned)] if aligned else []
    parts += [back(present(by).select("row", *found), by) for by, found in over.items()]
    for (by, entity, span), found in rolled.items():
        rows = present(entity).sort(*entity, clock(by))
        closed = "right" if span.delay or span.include_current else "none"
        window = rows.rolling(clock(by), group_by=entity, **maker.period(span), closed=closed).agg(found)
        part = pl.concat([rows.select("row"), window.drop(clock(by), *entity)], how="horizontal")
        parts.append(back(part, entity))
    for (by, enter, leave), wanted in labels.items():
        part = maker.label_columns(present(by), by, enter, leave, wanted)
        parts.append(back(part, by) if by in given.nullable else part.drop("row"))

    def run() -> Any:
        return pl.concat(pl.collect_all(parts), how="horizontal").select(expressed)

    def columns(result: Any) -> dict[str, np.ndarray]:
        return {name: result[name].cast(pl.Float64).fill_null(math.nan).to_numpy() for name in result.columns}

    return Recipe(run, columns), expressed, left


class _Polars:
    """The expressions, one method per way that Polars needs."""

    FEW = 32  # so many values have a rolling count each

    def __init__(self, pl: Any, given: Given) -> None:
        self.pl = pl
        self.given = given

    def needs_rows(self, spec: Any) -> bool:
        """Return whether `rolling_*_by` has no such window, so that its rows must be gathered."""
        few = spec.value in self.given.codes and len(self.given.codes[spec.value]) <= self.FEW
        return (
            spec.delay
            or spec.statistic in ("distinct", "mode_share", "repeats")
            or (spec.statistic == "entropy" and not few)
        )

    def period(self, span: Any) -> dict[str, str]:
        width = span.width if span.delay else span.width - self.given.half
        offset = -(span.delay + span.width - self.given.half)
        return {"period": f"{width}us", "offset": f"{offset}us"}

    def condition(self, where: tuple | None) -> Any:
        if where is None:
            return None
        column, operator, wanted = self.given.meaning(where)
        left = self.pl.col(column)
        return {
            "=": left == wanted,
            "!=": left != wanted,
            "<": left < wanted,
            "<=": left <= wanted,
            ">": left > wanted,
            ">=": left >= wanted,
        }[operator]

    def chosen(self, name: str, where: tuple | None) -> Any:
        column = self.pl.col(name)
        return column if where is None else self.pl.when(self.condition(where)).then(column)

    def current(self, spec: Any) -> Any:
        t = self.pl.col("t")
        hour, day = (t // HOUR) % 24, (t // DAY + 3) % 7
        x = self.pl.col(spec.value) if spec.value else t
        known = {
            "value": x,
            "cents": (x * 100).round() % 100,
            "hour": hour,
            "night": hour <= 6,
            "weekday": day,
            "weekend": day >= 5,
            "month_day": t.cast(self.pl.Datetime("us")).dt.day(),
        }
        if spec.statistic == "round":
            return x % spec.step == 0
        if spec.statistic not in known:
            raise Left("no recipe")
        return known[spec.statistic]

    def past(self, spec: Any) -> Any:
        pl, by = self.pl, list(spec.by)
        t = pl.col("t")
        if spec.statistic == "is_new":
            first = pl.struct(*by, spec.value).is_first_distinct()
            return pl.when(pl.col(spec.value).is_not_null()).then(first)
        if spec.statistic == "since_last":
            return (t - t.shift(1).over(by)) / DAY
        if spec.statistic == "since_first":
            return (t - t.first().over(by)) / DAY
        if spec.statistic not in ("distance", "speed"):
            raise Left("no recipe")
        here = pl.col("latitude").is_not_null() & pl.col("longitude").is_not_null()
        lat, lon, then = (
            pl.when(here).then(pl.col(name)).forward_fill().shift(1).over(by) for name in ("latitude", "longitude", "t")
        )
        north, east = (pl.col("latitude") - lat).radians() / 2, (pl.col("longitude") - lon).radians() / 2
        half = north.sin() ** 2 + pl.col("latitude").radians().cos() * lat.radians().cos() * east.sin() ** 2
        km = 2 * EARTH_RADIUS_KM * half.clip(upper_bound=1).sqrt().arcsin()
        if spec.statistic == "speed":
            floor = parse_duration(spec.floor, "floor") / HOUR
            km = (km - spec.slack_km).clip(lower_bound=0) / ((t - then) / HOUR).clip(lower_bound=floor)
        return km

    def rolling(self, spec: Any, span: Any) -> Any:
        pl = self.pl
        window = f"{span.width - self.given.half}us"
        closed = "right" if span.include_current else "none"
        keys = {"by": clock(spec.by), "window_size": window, "closed": closed}

        def of(name: str, column: Any, by: Sequence[str] = spec.by, **more: Any) -> Any:
            return getattr(column, f"rolling_{name}_by")(**keys, **more).over(list(by))

        one = self.chosen("one", spec.where)
        if spec.statistic == "count":
            return of("sum", one).fill_null(0)
        if spec.statistic == "mean_gap":
            last, first = of("max", pl.col("t")), of("min", pl.col("t"))
            gaps = of("sum", one) - 1
            return pl.when(gaps > 0).then((last - first) / gaps / DAY)
        if spec.statistic == "hour_shift":
            angle = pl.col("t") % DAY * (2 * math.pi / DAY)
            sine, cosine = of("sum", angle.sin()), of("sum", angle.cos())
            across, along = angle.sin() * cosine - angle.cos() * sine, angle.cos() * cosine + angle.sin() * sine
            shift = pl.arctan2(across, along).abs() * (12 / math.pi)
            return pl.when((sine.abs() > 1e-9) | (cosine.abs() > 1e-9)).then(shift)
        if spec.value is None:
            raise Left("no recipe")
        x, v = self.chosen(spec.value, spec.where), pl.col(spec.value)
        if spec.statistic == "share":
            same = of("sum", one, (*spec.by, spec.value)).fill_null(0)
            n = of("sum", pl.when(v.is_not_null()).then(one))
            return pl.when(v.is_not_null() & (n > 0)).then(same / n)
        if spec.statistic == "percentile":
            with_own = pl.when(v.is_not_null()).then(one).rolling_sum_by(**keys | {"closed": "right"}).over(spec.by)
            rank = x.rolling_rank_by(**keys | {"closed": "right"}, method="average").over(spec.by)
            return pl.when(v.is_not_null() & (with_own > 1)).then((rank - 1) / (with_own - 1))
        if spec.statistic == "entropy":
            # A rolling count per value; `unique_counts` of every window takes several times as long.
            values = len(self.given.codes[spec.value])
            counts = [pl.when(x == code).then(1).otherwise(0) for code in range(values)]
            counts = [count.rolling_sum_by(**keys).alias(str(code)) for code, count in enumerate(counts)]
            counted = pl.struct(counts).over(spec.by)
            each = [counted.struct.field(str(code)).fill_null(0).cast(pl.Float64) for code in range(values)]
            n = pl.sum_horizontal(each)
            inner = pl.sum_horizontal(pl.when(count > 0).then(count * count.log(2)).otherwise(0) for count in each)
            return pl.when(n > 0).then((n.log(2) - inner / n).clip(lower_bound=0))
        mean = of("mean", x)
        if spec.statistic == "zscore":
            spread = of("std", x)
            return pl.when(spread > NO_SPREAD * mean.abs()).then((v - mean) / spread)
        if spec.statistic == "quantile":
            if spec.q == 0.5:
                return of("median", x)
            return of("quantile", x, quantile=spec.q, interpolation="linear")
        largest = of("max", x)
        simple = {
            "total": lambda: of("sum", x).fill_null(0),
            "mean": lambda: mean,
            "std": lambda: of("std", x),
            "minimum": lambda: of("min", x),
            "maximum": lambda: largest,
            "ratio": lambda: pl.when(mean != 0).then(v / mean),
            "max_ratio": lambda: pl.when(largest != 0).then(v / largest),
        }
        if spec.statistic not in simple:
            raise Left("no recipe")
        return simple[spec.statistic]()

    def rows_of_window(self, spec: Any) -> Any:
        """Give an aggregate of the window's rows, for `DataFrame.rolling`."""
        pl = self.pl
        condition = self.condition(spec.where)
        if spec.statistic == "count":
            return pl.len() if condition is None else condition.sum()
        if spec.value is None:
            raise Left("no recipe with a delay")
        x = pl.col(spec.value)
        x = (x if condition is None else x.filter(condition)).drop_nulls()
        simple = {
            "distinct": x.n_unique,
            "entropy": lambda: pl.when(x.len() > 0).then(x.unique_counts().entropy(base=2, normalize=True)),
            "mode_share": lambda: (x == x.mode().first()).sum() / x.len(),
            "repeats": x.len,
            "total": x.sum,
            "mean": x.mean,
            "std": x.std,
            "minimum": x.min,
            "maximum": x.max,
            "quantile": lambda: x.quantile(spec.q, "linear"),
        }
        if spec.statistic not in simple:
            raise Left("no recipe with a delay")
        return simple[spec.statistic]()

    def label_columns(
        self, rows: Any, by: tuple[str, ...], enter: int, leave: int, wanted: list[tuple[str, Any]]
    ) -> Any:
        pl = self.pl
        moves = rows.filter(pl.col("known").is_not_null())
        if all(spec.statistic == "frauds" for _, spec in wanted):
            moves = moves.filter(pl.col("fraud") == 1)
        moves = moves.select(
            *by,
            at=pl.max_horizontal("known", pl.col("t") + enter),
            out=pl.col("t") + leave,
            f=pl.col("fraud").cast(pl.Int64),
            l=pl.lit(1, pl.Int64),
        ).filter(pl.col("at") < pl.col("out"))
        leaving = moves.select(*by, at="out", f=-pl.col("f"), l=-pl.col("l"))
        running = (
            pl.concat([moves.drop("out"), leaving])
            .sort("at")
            .with_columns(pl.col("f", "l").cum_sum().over(list(by)))
            .unique([*by, "at"], keep="last", maintain_order=True)
        )
        found = rows.select("row", "t", *by).join_asof(
            running, left_on="t", right_on="at", by=list(by), strategy="backward", check_sortedness=False
        )
        frauds, labelled = pl.col("f").fill_null(0), pl.col("l").fill_null(0)
        columns = []
        for column, spec in wanted:
            share = frauds if spec.statistic == "frauds" else labelled
            if spec.statistic == "risk":
                rate, strength = getattr(spec, "prior", None) or (0, 0)
                share = (frauds + rate * strength) / (labelled + strength)
                share = pl.when(labelled + strength > 0).then(share)
                if spec.empty is not None:
                    share = pl.when(labelled > 0).then(share).otherwise(spec.empty)
            columns.append(share.alias(column))
        return found.select("row", *columns)
