"""What a model met since it learnt: drift, decisions, performance and causes as tables, and lights over them.

Values in, values out: `monitoring` loads and writes. Tables carry the names under which `privacy.disclosure` protects
them; lights are codes, and `report.monitoring` says them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from fraudlab import comparing, drift, explain
from fraudlab import reasons as reasons_of
from fraudlab.decisions import TIERS, Thresholds, assign_tiers
from fraudlab.delays import ReportDelays, delays_known
from fraudlab.drift.signals import LEAST_DAYS, QUIET_DAYS
from fraudlab.features.lasting import stability
from fraudlab.metrics import SMALLEST_CELL
from fraudlab.models import FittedModel
from fraudlab.schema import InputError

SCORE = "score"
HIGH_OR_SEVERE = "high or severe"
"""Both tiers as one, where single weeks have few severe cases."""
RECENT_DAYS = 7
LATER_DAYS = 28
EXPLAINED = 2_000
"""So many payments a side are explained to find what moved the score, and so many alerts to find their reasons."""

LEAST_ROWS = 200
AGEING = "__since_first"
LIGHTS = ("green", "amber", "red", "grey")


@dataclass(frozen=True, eq=False)
class Met:
    """Payments that a model meets at work, those it learnt from beside them, all in the total order.

    `learnt_until` is where its learning ends and its work begins; payments from `reference_start` to there are what it
    is held against. `until` is the midnight (UTC) after the last whole day, `as_of` the moment of knowing.
    """

    payments: pd.DataFrame
    features: pd.DataFrame
    score: np.ndarray = field(repr=False)
    risk: np.ndarray = field(repr=False)
    model: FittedModel = field(repr=False)
    thresholds: Thresholds
    words: pd.DataFrame = field(repr=False)
    from_labels: tuple[str, ...]
    reference_start: pd.Timestamp
    learnt_until: pd.Timestamp
    until: pd.Timestamp
    as_of: pd.Timestamp

    def rows(self, begin: pd.Timestamp, end: pd.Timestamp) -> np.ndarray:
        """Return the positions of the payments from `begin` to before `end`."""
        time = self.payments["event_time"]
        return np.flatnonzero((time >= begin) & (time < end))

    @property
    def reference(self) -> np.ndarray:
        """Positions of what the model is held against."""
        return self.rows(self.reference_start, self.learnt_until)

    @property
    def at_work(self) -> np.ndarray:
        """Positions of what came after it had learnt."""
        return self.rows(self.learnt_until, self.until)

    @property
    def recent(self) -> np.ndarray:
        """Positions of the last seven whole days."""
        return self.rows(self.until - pd.Timedelta(days=RECENT_DAYS), self.until)

    @property
    def week_before(self) -> np.ndarray:
        """Positions of the seven days before these."""
        return self.rows(self.until - pd.Timedelta(days=2 * RECENT_DAYS), self.until - pd.Timedelta(days=RECENT_DAYS))

    @property
    def before_recent(self) -> np.ndarray:
        """Positions of the four weeks before these at work: what the model had not learnt from either."""
        begin = max(self.until - pd.Timedelta(days=RECENT_DAYS + LATER_DAYS), self.learnt_until)
        return self.rows(begin, self.until - pd.Timedelta(days=RECENT_DAYS))

    @property
    def lately(self) -> np.ndarray:
        """Positions of the last five weeks at work."""
        return np.concatenate([self.before_recent, self.recent])

    @property
    def compared(self) -> pd.DataFrame:
        """The model's features, its score and the payments' own columns that can be compared, a row per payment."""
        raw = drift.raw_columns(self.payments)
        own = [name for name in raw.columns if name not in self.features]
        return pd.concat([self.features, raw[own]], axis=1).assign(**{SCORE: self.score})


def tables_of(met: Met) -> dict[str, pd.DataFrame]:
    """Table everything that is watched.

    Returns
    -------
    dict of tidy tables, not yet protected: monitor_columns (each column against training and against last week, see
    `drift.compare_columns`), monitor_weeks (stability index by week), monitor_hours (`drift.hour_by_weekday`),
    monitor_signals and monitor_alarms (`drift.daily_signals`, `drift.alarms`), monitor_decisions (cases by week and
    tier), monitor_reasons (alerts by their strongest reason, now and before), monitor_performance
    (`drift.weekly_performance`), monitor_estimate (`drift.estimate_error`), monitor_precision
    (`drift.precision_chart`), monitor_contributions (`drift.contribution_shift`, last week against the four weeks
    before), monitor_segments (`drift.segment_change` of the share of alerts, likewise). A table that cannot be made is
    empty.

    Raises
    ------
    InputError : no payment before or after the model had learnt, or no whole day.
    """
    if not len(met.reference) or not len(met.at_work):
        raise InputError(
            f"monitoring: needs payments from before and after {met.learnt_until:%Y-%m-%d}, until which the model "
            f"learnt; found {len(met.reference):,} and {len(met.at_work):,}; ingest newer payments"
        )
    signals = drift.daily_signals(
        met.payments,
        met.features,
        met.score,
        review=met.thresholds.review,
        step_up=met.thresholds.step_up,
        begin=met.learnt_until,
        until=met.until,
        from_labels=met.from_labels,
    )
    signals = signals[signals["day"] >= met.learnt_until.floor("D")].reset_index(drop=True)
    named = {f"distribution of {key}": f"distribution of {label}" for key, label in _labels(met).items()}
    signals["signal"] = signals["signal"].replace(named)
    weeks = performance(met)
    return {
        "monitor_columns": columns(met),
        "monitor_weeks": weekly_drift(met),
        "monitor_hours": drift.hour_by_weekday(
            met.payments["event_time"], met.payments["amount"], until=met.until, days=RECENT_DAYS
        ),
        "monitor_signals": signals,
        "monitor_alarms": drift.alarms(signals),
        "monitor_decisions": decided(met),
        "monitor_reasons": reasons_mix(met),
        "monitor_performance": weeks,
        "monitor_estimate": drift.estimate_error(weeks),
        "monitor_precision": drift.precision_chart(weeks),
        "monitor_contributions": contributions(met),
        "monitor_segments": segments(met),
    }


def _labels(met: Met) -> dict[str, str]:
    """Return what people call each of the model's columns."""
    return dict(zip(met.words["column"], met.words["label"]))


def columns(met: Met) -> pd.DataFrame:
    """Compare the last week's features, score and raw columns with training and with the week before.

    Returns
    -------
    DataFrame: against ("training" or "last week"), label (what people call the column) and the columns of
    `drift.compare_columns`; the largest index first within each. The score is compared with the week before alone: of
    payments it learnt from a model is surer. Days since a first payment grow with the data whatever happens, and the
    note says so.
    """
    named = _labels(met)
    who = met.payments["customer_id"]
    frame = met.compared
    tables = []
    for against, before in (("training", met.reference), ("last week", met.week_before)):
        shown = frame.drop(columns=SCORE) if against == "training" else frame
        table = drift.compare_columns(
            shown.iloc[before],
            shown.iloc[met.recent],
            who.iloc[before],
            who.iloc[met.recent],
            min_rows=LEAST_ROWS,
        )
        tables.append(table.assign(against=against).sort_values("psi", ascending=False, kind="stable"))
    whole = pd.concat(tables, ignore_index=True)
    ageing = whole["feature"].str.contains(AGEING) & (whole["note"] == "")
    whole.loc[ageing, "note"] = "grows with the age of the data"
    whole.insert(0, "label", whole["feature"].map(named).fillna(whole["feature"]))
    return whole[["against", *(name for name in whole.columns if name != "against")]]


def weekly_drift(met: Met) -> pd.DataFrame:
    """Return the stability index of each feature against training, week by week since the model had learnt.

    Returns
    -------
    DataFrame: feature, start (of the week), n, psi, reading, note; whole weeks only. Features that grow with the age
    of the data are left out.
    """
    rows = met.rows(met.reference_start, met.until)
    frame = met.features.iloc[rows].reset_index(drop=True)
    numbers = [
        name for name in frame.columns if pd.api.types.is_numeric_dtype(frame[name].dtype) and AGEING not in name
    ]
    time = met.payments["event_time"].iloc[rows].reset_index(drop=True)
    # Whole weeks, counted back from the last day; the first one reaches back to where the learning ended.
    weeks = int((met.until - met.learnt_until) // pd.Timedelta(days=7))
    if weeks < 1:
        return pd.DataFrame(columns=["feature", "start", "n", "psi", "reading", "note"])
    begin = met.until - pd.Timedelta(days=7 * weeks)
    kept = ((time < met.learnt_until) | (time >= begin)).to_numpy()
    table = stability(frame.loc[kept, numbers], time[kept], period="7d", reference=begin, min_rows=LEAST_ROWS)
    return table[table["end"] <= met.until][["feature", "start", "n", "psi", "reading", "note"]].reset_index(drop=True)


def decided(met: Met) -> pd.DataFrame:
    """Count each week's cases (a customer's day) by their highest tier.

    Returns
    -------
    DataFrame: week, tier, action, cases, share; whole weeks only, counted back from the last day. Where a week has 1 to
    9 severe cases, the two highest tiers are one, "high or severe", so that fewer counts have to be hidden.
    """
    rows = met.at_work
    cases = drift.cases_of(
        met.payments.iloc[rows], met.score[rows], met.risk[rows], review=met.thresholds.review, as_of=met.as_of
    )
    back = ((met.until - cases["time"]) // pd.Timedelta(days=7)).to_numpy()
    weeks = int((met.until - met.learnt_until) // pd.Timedelta(days=7))
    tier = pd.Series(assign_tiers(cases["score"].to_numpy(), met.thresholds)).astype("str").to_numpy()
    kept = back < weeks
    counted = pd.crosstab(back[kept], tier[kept]).reindex(columns=list(TIERS), fill_value=0)
    actions = {name: each.action for name, each in TIERS.items()}
    if counted["severe"].between(1, SMALLEST_CELL - 1).any():
        counted = counted.assign(**{HIGH_OR_SEVERE: counted["high"] + counted["severe"]})
        counted = counted.drop(columns=["high", "severe"])
        actions[HIGH_OR_SEVERE] = TIERS["high"].action
    rows_ = [
        {
            "week": met.until - pd.Timedelta(days=7 * (int(number) + 1)),
            "tier": name,
            "action": actions[name],
            "cases": int(counted.at[number, name]),
            "share": counted.at[number, name] / counted.loc[number].sum(),
        }
        for number in sorted(counted.index, reverse=True)
        for name in counted.columns
    ]
    return pd.DataFrame(rows_, columns=["week", "tier", "action", "cases", "share"])


def reasons_mix(met: Met) -> pd.DataFrame:
    """Hold the strongest reasons of the last week's alerts against those of the four weeks before.

    Returns
    -------
    DataFrame, the largest change first: reason (its code), group, group_zh (its name), alerts and alerts_before
    (payments at or above the review threshold), share and share_before. Empty for a model that explains nothing.
    """
    named = ["reason", "group", "group_zh", "alerts", "alerts_before", "share", "share_before"]
    counted = []
    for rows in (met.recent, met.before_recent):
        alerts = rows[met.score[rows] >= met.thresholds.review]
        alerts = alerts[np.linspace(0, len(alerts) - 1, min(len(alerts), EXPLAINED)).astype(np.int64)]
        counted.append(_strongest(met, alerts))
    if not met.model.explains or not len(counted[0]) + len(counted[1]):
        return pd.DataFrame(columns=named)
    words = met.words.drop_duplicates("reason").set_index("reason")
    groups = words["group"]
    chinese = words["group_zh"] if "group_zh" in words else pd.Series(dtype="str")
    codes = sorted(set(counted[0]) | set(counted[1]))
    now, then = (pd.Series(found, dtype="str").value_counts().reindex(codes, fill_value=0) for found in counted)
    table = pd.DataFrame(
        {
            "reason": codes,
            "group": [groups.get(code, code) for code in codes],
            "group_zh": [chinese.get(code, "") for code in codes],
            "alerts": now.to_numpy(),
            "alerts_before": then.to_numpy(),
            "share": now.to_numpy() / max(now.sum(), 1),
            "share_before": then.to_numpy() / max(then.sum(), 1),
        }
    )
    order = np.argsort(-(table["share"] - table["share_before"]).abs().round(12), kind="stable")
    return table.iloc[order].reset_index(drop=True)[named]


def _strongest(met: Met, rows: np.ndarray) -> list[str]:
    """Return the code of the strongest reason of each payment that has one."""
    if not len(rows) or not met.model.explains:
        return []
    alerts = met.model.complete(met.features.iloc[rows])
    told = reasons_of.tell(explain.contributions(met.model, alerts), alerts, met.words, top=1)
    return [each[0].code for each in told if each]


def performance(met: Met) -> pd.DataFrame:
    """Table what each week's alerts were worth (`drift.weekly_performance`), weeks counted back from the last day.

    Customers known as victims when the day began, of a fraud since `reference_start`, are left out: somebody deals with
    them already, and the split that the model was judged by leaves them out as well.
    """
    rows = met.rows(met.reference_start, met.until)
    cases = drift.cases_of(
        met.payments.iloc[rows], met.score[rows], met.risk[rows], review=met.thresholds.review, as_of=met.until
    )
    weeks = int((met.until - met.learnt_until) // pd.Timedelta(days=7))
    begin = met.until - pd.Timedelta(days=7 * weeks)
    if weeks < 1:
        return pd.DataFrame(columns=drift.estimates.COLUMNS)
    cases = cases[~cases["known_victim"]]
    return drift.weekly_performance(
        cases[cases["time"] >= begin], start=begin, as_of=met.until, delays=report_delays(met)
    )


def report_delays(met: Met) -> ReportDelays | None:
    """Return how soon frauds are reported, from all that are known by the end of the last day; None without one."""
    if not {"is_fraud", "label_time"} <= set(met.payments.columns):
        return None
    return delays_known(met.payments, met.until)


def contributions(met: Met) -> pd.DataFrame:
    """Split the change of the mean log-odds from the four weeks before to the last week into what each feature moved.

    Returns
    -------
    DataFrame: label and the columns of `drift.contribution_shift`; over at most 2,000 payments a side, evenly spread in
    time, none of which the model learnt from. Empty for a model that explains nothing or has been at work for a week.
    """
    sides = []
    for rows in (met.before_recent, met.recent):
        if not met.model.explains or not len(rows):
            return pd.DataFrame(columns=CONTRIBUTIONS)
        picked = rows[np.linspace(0, len(rows) - 1, min(len(rows), EXPLAINED)).astype(np.int64)]
        table = explain.contributions(met.model, met.features.iloc[picked])
        sides.append((table, met.payments["customer_id"].iloc[picked]))
    (before, who_before), (after, who_after) = sides
    table = drift.contribution_shift(before, after, who_before, who_after)
    named = _labels(met)
    return table.assign(label=table["feature"].map(named).fillna(table["feature"]))[CONTRIBUTIONS]


CONTRIBUTIONS = ["label", "feature", "reference", "current", "difference", "low", "high", "share", "n"]


def segments(met: Met) -> pd.DataFrame:
    """Split the change of the share of alerts from the four weeks before to the last week over segments.

    Returns
    -------
    DataFrame with the columns of `drift.segment_change`: payments at or above the review threshold by amount, channel,
    kind of merchant, hour, new customers. Empty where the model has been at work for a week.
    """
    sides, train = (met.before_recent, met.recent), met.payments.iloc[met.reference]
    if not all(len(rows) for rows in sides):
        return pd.DataFrame(columns=drift.SEGMENT_COLUMNS)
    alerted = met.score >= met.thresholds.review
    labels = [comparing.segments(met.payments.iloc[rows], train, met.payments) for rows in sides]
    values = [alerted[rows] for rows in sides]
    tables = []
    for by in labels[0]:
        both = [pd.DataFrame({"segment": label[by], "value": value}) for label, value in zip(labels, values)]
        tables.append(drift.segment_change(by, *both))
    return pd.concat(tables, ignore_index=True)


def scored_lately(met: Met) -> dict[str, Any]:
    """Return how the model has scored in the last five weeks at work, for a live page to hold new scores against.

    Returns
    -------
    dict: breaks (upper ends of the classes but the last), counts (payments by class, 10 at least in each) and alerted
    (share at or above the review threshold; None where it would tell of 1 to 9 payments). Empty with fewer payments
    than can be compared.
    """
    score = met.score[met.lately]
    if len(score) < LEAST_ROWS:
        return {}
    breaks = drift.bin_breaks(score, 10)
    counts = np.bincount(drift.bin_codes(score, breaks), minlength=breaks.size + 1)[: breaks.size + 1].tolist()
    kept = breaks.tolist()
    while len(counts) > 1 and min(counts) < SMALLEST_CELL:  # ties leave small classes; a neighbour takes them in
        at = counts.index(min(counts))
        other = at - 1 if at == len(kept) else at + 1
        first = min(at, other)
        counts[first : first + 2] = [sum(counts[first : first + 2])]
        kept.pop(first)
    alerts = int((score >= met.thresholds.review).sum())
    small = min(alerts or SMALLEST_CELL, len(score) - alerts or SMALLEST_CELL) < SMALLEST_CELL
    return {"breaks": kept, "counts": counts, "alerted": None if small else alerts / len(score)}


# -- lights --------------------------------------------------------------------------------------------------------


def lights_of(met: Met, tables: dict[str, pd.DataFrame], max_age_days: float | None) -> list[dict[str, Any]]:
    """Judge each topic: green, amber, red or grey (not judged), with the figures that say why.

    Parameters
    ----------
    tables : from `tables_of`.
    max_age_days : how old what the model learnt may be (`gate.max_age_days`); None: no limit.

    Returns
    -------
    list of dicts: topic (a group of `drift.GROUPS`, "training", "performance", "estimate" or "age"), light, what (the
    chart that says most, "" where none), day (ISO, of the newest alarm, "" without one), and figures: number for
    alarms, changed, value, low, high, days.

    - red: an alarm within the last seven days; a mature week's precision outside its limits; too old.
    - amber: an alarm within four weeks; a column changed against training; the estimate for the newest weeks below the
      lower limit of the precision; four fifths of the age allowed.
    - grey: not judged, for lack of history or of labels.
    """
    told = [_alarm_light(met, tables["monitor_signals"], tables["monitor_alarms"], group) for group in drift.GROUPS]
    return [*told, _training(tables["monitor_columns"]), *_precision(tables), _age(met, max_age_days)]


def _light(topic: str, light: str, *, what: str = "", day: str = "", **figures: Any) -> dict[str, Any]:
    return {"topic": topic, "light": light, "what": what, "day": day, **figures}


def _alarm_light(met: Met, signals: pd.DataFrame, alarms: pd.DataFrame, group: str) -> dict[str, Any]:
    mine = signals[(signals["group"] == group) & signals["z"].notna()]
    if mine["day"].nunique() < 1:
        return _light(group, "grey", days=LEAST_DAYS)
    found = alarms[(alarms["group"] == group) & (alarms["day"] >= met.until - pd.Timedelta(days=LATER_DAYS))]
    late = found[found["day"] >= met.until - pd.Timedelta(days=QUIET_DAYS)]
    shown = late if len(late) else found
    if shown.empty:
        newest = alarms.loc[alarms["group"] == group, "day"].max()
        older = "" if pd.isna(newest) else f"{newest:%Y-%m-%d}"
        return _light(group, "green", day=older, days=int(mine["day"].nunique()))
    worst = shown.iloc[shown["z"].abs().to_numpy().argmax()]
    return _light(
        group,
        "red" if len(late) else "amber",
        what=str(worst["signal"]),
        day=f"{worst['day']:%Y-%m-%d}",
        bin=str(worst["what"]),
        kind=str(worst["kind"]),
        alarms=len(shown),
    )


def _training(columns: pd.DataFrame) -> dict[str, Any]:
    mine = columns[columns["against"] == "training"]
    judged = mine[mine["reading"] != "not applicable"]
    if judged.empty:
        return _light("training", "grey")
    judged = judged[~judged["feature"].str.contains(AGEING)]
    changed = judged[judged["reading"] == "changed"]
    what = "" if judged.empty else str(judged.sort_values("psi", ascending=False, kind="stable")["label"].iloc[0])
    return _light(
        "training",
        "amber" if len(changed) else "green",
        what=what,
        changed=len(changed),
        columns=len(judged),
        psi=float(judged["psi"].max()),
    )


def _precision(tables: dict[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Judge the precision of the mature weeks, and the estimate for those that are not."""
    chart, weeks = tables["monitor_precision"], tables["monitor_performance"]
    limits = chart[chart["low"].notna()] if len(chart) else chart
    if limits.empty:
        found = _light("performance", "grey", weeks=len(chart))
    else:
        last = limits.iloc[-1]
        out = bool(limits["outside"].tail(2).any())
        figures = {name: float(last[name]) for name in ("value", "low", "high")}
        found = _light("performance", "red" if out else "green", weeks=len(limits), **figures)
    young = weeks[~weeks["mature"].astype(bool) & weeks["precision_expected"].notna()] if len(weeks) else weeks
    mature = weeks[weeks["mature"].astype(bool) & weeks["precision_expected"].notna()] if len(weeks) else weeks
    if young.empty:
        return [found, _light("estimate", "grey")]
    now = float(young["expected_hits"].sum() / young["alerts"].sum())
    if mature.empty:
        return [found, _light("estimate", "grey", value=now)]
    before = float(mature["expected_hits"].sum() / mature["alerts"].sum())
    spread = float(np.sqrt(max(before * (1 - before), 1e-6) / young["alerts"].sum()))
    fell = now < before - 3 * spread
    return [found, _light("estimate", "amber" if fell else "green", value=now, before=before)]


def _age(met: Met, most: float | None) -> dict[str, Any]:
    days = float((met.as_of - met.learnt_until) / pd.Timedelta(days=1))
    if most is None:
        return _light("age", "grey", days=round(days))
    light = "red" if days > most else "amber" if days > 0.8 * most else "green"
    return _light("age", light, days=round(days), most=round(most))
