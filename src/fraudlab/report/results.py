"""The sections about the model's results: how it was made, what it is worth, what it decides, why."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pandas as pd

from fraudlab import looks, plots
from fraudlab.metrics import METRICS
from fraudlab.report.blocks import (
    ABSENT,
    HIDDEN,
    NOT_APPLICABLE,
    Cell,
    Facts,
    Figure,
    Group,
    Prose,
    Section,
    Table,
    capital,
    count,
    day,
    few,
    interval,
    metric_label,
    metric_text,
    not_available,
    notes,
    share,
    span,
    value_text,
)
from fraudlab.report.evidence import Evidence
from fraudlab.report.language import foreign, language, plain, retold, say, term
from fraudlab.report.limits import assumptions

MOST_LOOKS = 10
FACTS: dict[str, Callable[[Any], str]] = {
    "rows": count,
    "frauds": count,
    "features": "{:,}".format,
    "trees": "{:,}".format,
    "seconds": "{:,.1f}".format,
}
# Facts of a model that stand in a table: its own, that of the split, that of the rules. The others are settings.
TABLED = (*FACTS, "refit", "calibration", "train_rows", "train_frauds", "params", "rules")


def method(e: Evidence) -> Section:
    """How time was split, which models were fitted and with what, and what the method takes for granted."""
    fold = e.fold
    rows = [
        (
            term(part["part"]),
            day(part["start"]),
            day(part["end"]),
            count(part["transactions"]),
            count(part["frauds"]),
            HIDDEN if few(part["frauds"]) else share(part["frauds"] / part["transactions"]),
            count(part["customers"]),
        )
        for part in fold["parts"]
        if part["transactions"] is None or part["transactions"] > 0
    ]
    head = (
        say("Part"),
        say("From"),
        say("Until before"),
        say("Payments"),
        say("Frauds"),
        say("Fraud rate"),
        say("Customers"),
    )
    caption = say(
        "Parts of the split. Between them lies the time that labels need, so nothing is learned before it was known."
    )
    left_out = say(
        "Left out of the test: {customers} customers with {rows} payments, because they were already known as victims "
        "then.",
        customers=count(fold["excluded_customers"]),
        rows=count(fold["excluded_transactions"]),
    )
    blocks = [
        Prose(_split_in_words(e)),
        Figure(plots.timeline(pd.DataFrame(fold["parts"])), caption),
        Table(say("Parts of the split"), head, rows, "lllrrrr"),
        Prose(left_out),
        assumptions(e),
        Group(say("How the models were fitted"), [_model_table(e), _settings(e), *_rule_tables(e)]),
    ]
    return Section("method", say("Method, split and assumptions"), blocks)


def _split_in_words(e: Evidence) -> str:
    """Say how time was split: in the evidence's own sentence, or anew in another language."""
    if language() == "en":
        return e.fold["explain"]
    said = {}
    for part in e.fold["parts"]:
        said[part["part"]] = say(
            "{start} until before {end} ({rows} payments, {frauds} frauds)",
            start=day(part["start"]),
            end=day(part["end"]),
            rows=count(part["transactions"]),
            frauds=count(part["frauds"]),
        )
    waits = e.setting("split", "delay_days")
    sentences = [
        say(
            "The models learn on {train} and are judged on {test}; between them lie {delay} days in which labels "
            "become known.",
            train=said.get("train", ABSENT),
            test=said.get("test", ABSENT),
            delay=ABSENT if waits is None else f"{waits:g}",
        )
    ]
    if "valid" in said:
        sentences.append(say("Thresholds and calibration come from {valid}.", valid=said["valid"]))
    if "refit" in said:
        sentences.append(say("The models are fitted again on {refit}.", refit=said["refit"]))
    return say(" ").join(sentences)


def _model_table(e: Evidence) -> Table:
    facts = {model["name"]: model for model in e.models}
    rows = [_model_row(e.called(name), facts[name]["role"], facts[name]["facts"]) for name in e.labels]
    head = (
        say("Model"),
        say("Role"),
        say("Training payments"),
        say("Frauds"),
        say("Features"),
        say("Trees"),
        say("Refitted"),
        say("Calibrated on"),
        say("Seconds"),
    )
    learned = {str((model["facts"].get("calibration") or {}).get("learned") or "") for model in e.models} - {""}
    note = say("Calibration was learned {how}", how=say(" or ").join(map(term, sorted(learned)))) if learned else ""
    return Table(say("Models and how they were fitted"), head, rows, "llrrrrlrr", note)


def _model_row(label: str, role: str, facts: dict[str, Any]) -> list[str | Cell]:
    said = {key: ABSENT if facts.get(key) is None else write(facts[key]) for key, write in FACTS.items()}
    calibrated: str | Cell = ABSENT
    if learned := facts.get("calibration"):
        how = say("{method}, {n} frauds", method=term(learned["method"]), n=count(learned["frauds"]))
        calibrated = Cell(count(learned["rows"]), how)
    refit = ABSENT if facts.get("refit") is None else say("yes") if facts["refit"] else say("no")
    numbers = [said[key] for key in ("rows", "frauds", "features", "trees")]
    return [label, term(role), *numbers, refit, calibrated, said["seconds"]]


def _settings(e: Evidence) -> Facts:
    settings = {model["name"]: ", ".join(_flat(model["facts"])) for model in e.models}
    return Facts([(e.called(name), foreign(settings[name])) for name in e.labels if settings[name]], code=True)


def _flat(facts: dict[str, Any], prefix: str = "") -> list[str]:
    """Lay out what the table does not show as "name = value", parameters first; empty values are left out."""
    said = _flat(facts["params"]) if "params" in facts else []
    for key, value in facts.items():
        if key in TABLED or value is None:
            continue
        if isinstance(value, dict):
            said += _flat(value, f"{prefix}{key}.")
            continue
        if isinstance(value, list):
            shown = " and ".join(map(str, value)) if len(value) <= 3 else f"{len(value)} values"
        else:
            shown = f"{value:.6g}" if isinstance(value, float) else str(value)
        said.append(f"{prefix}{key} = {shown}")
    return list(dict.fromkeys(said))


def _rule_tables(e: Evidence) -> list[Table]:
    tables = []
    facts = {model["name"]: model["facts"] for model in e.models}
    for name in e.labels:
        rules = (facts[name].get("params") or {}).get("rules")
        if rules:
            caption = say(
                "{model}: each one that fires adds its points to the score, in log-odds", model=e.called(name)
            )
            rows = [_rule_row(str(rule), e) for rule in rules]
            tables.append(Table(caption, (say("What it looks at"), say("Fires when"), say("Points")), rows, "llr"))
    return tables


def _rule_row(rule: str, e: Evidence) -> tuple[str | Cell, str, str]:
    parsed = re.fullmatch(r"(\S+) (>=?) (\S+) \((\S+)\)", rule)
    if not parsed:
        return foreign(rule), "", ""
    column, comparison, threshold, points = parsed.groups()
    kind = e.kinds.get(column, "")
    value = value_text(float(threshold), kind)
    when = say("at least {value}", value=value) if comparison == ">=" else say("above {value}", value=value)
    return named(column, e), say("yes") if kind == "flag" else when, points


def named(column: str, e: Evidence) -> str | Cell:
    """Return a feature's short name with its column name below, or the column name alone."""
    said = e.described("label" if "label" in e.features else "meaning").get(column, "")
    return Cell(_no_stop(said), foreign(column)) if plain(said) and plain(said) != column else foreign(column)


def _no_stop(text: str) -> str:
    """Return a text without the full stop at its end, which may stand inside an English part."""
    return foreign(plain(text).rstrip(".")) if text != plain(text) else text.rstrip(".。")


def features(e: Evidence) -> Section:
    """Every input of the model with its meaning."""
    columns = list(e.features["column"])
    groups, meanings = (e.described(what).values() for what in ("group", "meaning"))
    names = [named(column, e) if "label" in e.features else column for column in columns]
    rows = list(zip(names, groups, meanings))
    intro = say(
        "The model sees {n} features, each computed only from what was known at the moment of the payment.", n=len(rows)
    )
    head = (say("Feature"), say("Kind of reason"), say("Meaning"))
    return Section(
        "features", say("Features"), [Prose(intro), Table(say("Features and their meaning"), head, rows, "lll")]
    )


def performance(e: Evidence) -> Section:
    """What every model is worth at the alert budget, with intervals, and per day."""
    entity = str(e.setting("split", "entity") or "customer_id").removesuffix("_id")
    intro = say(
        "A case is one {entity} on one day, with its highest score of that day. Investigators review the {k} highest "
        "cases a day.",
        entity=term(entity),
        k=f"{e.decision['alerts_per_day']:,}",
    )
    caption = say("Where the intervals of two models overlap widely, the test does not tell them apart.")
    blocks = [
        Prose(intro),
        _metric_table(e),
        *_looks(e),
        Figure(plots.metric_intervals(e.overall, e.labels), caption),
    ]
    if e.daily is None:
        blocks.append(not_available("daily.csv"))
    else:
        caption = say(
            "Day by day. A perfect ranking stays below 100 % on days with fewer compromised cases than reviews; as "
            "found cases leave the later days, a model can lie above it late in the period."
        )
        blocks.append(Figure(plots.daily_precision(e.daily, e.labels), caption))
    return Section("performance", say("Performance at the alert budget"), blocks)


def _looks(e: Evidence) -> list[Any]:
    """Say how often these test days were looked at, this time included, and list the last looks of several."""
    if e.test_looks is None:
        return [not_available("test_looks.csv")]
    seen = e.test_looks.assign(when=pd.to_datetime(e.test_looks["when"], utc=True))
    said = [Prose(retold(looks.explain(seen)))]
    if len(seen) < 2:
        return said
    figures = list(looks.HEADLINE)
    rows = [
        (
            f"{look['when']:%Y-%m-%d %H:%M}",
            foreign(str(look["run"])),
            str(look["config_digest"])[:10],
            *(ABSENT if pd.isna(look[name]) else metric_text(name, look[name]) for name in figures),
        )
        for _, look in seen.tail(MOST_LOOKS).iterrows()
    ]
    head = (say("When, UTC"), say("Run"), say("Config"), *map(metric_label, figures))
    title = say("Looks at these test days")
    if len(seen) > MOST_LOOKS:
        title = say("Looks at these test days, the last {n}", n=MOST_LOOKS)
    return [*said, Table(title, head, rows, "lll" + "r" * len(figures))]


def _metric_table(e: Evidence) -> Table:
    rows = []
    for metric in dict.fromkeys(e.overall["metric"]):
        cells = [Cell(metric_label(metric), term(METRICS.get(metric, "")))]
        for name in e.labels:
            row = e.metric(name, metric)
            if row is None:
                cells.append(Cell(NOT_APPLICABLE))
            else:
                cells.append(Cell(metric_text(metric, row["value"]), interval(metric, row["low"], row["high"])))
        rows.append(cells)
    head = (say("Metric"), *map(e.called, e.labels))
    caption = say("Models on the test part: value and 95 % interval")
    return Table(caption, head, rows, "l" + "r" * len(e.labels), notes(e.overall["note"]))


def segments(e: Evidence) -> Section:
    """What the candidate is worth on parts of the payments and week by week."""
    title = say("Performance by segment and over time")
    blocks: list[Any] = []
    if e.segments is None:
        blocks.append(not_available("segments.csv"))
    else:
        intro = say(
            "The candidate on parts of the test payments. The cases to review are chosen over everybody, as at work; "
            "amounts are cut at the quartiles of the training payments. A part with wide intervals holds few frauds."
        )
        blocks.append(Prose(intro))
        blocks += [_segment_table(str(by), part) for by, part in e.segments.groupby("by", sort=False)]
    return Section("segments", title, [*blocks, *_by_week(e)])


def _segment_table(by: str, part: pd.DataFrame) -> Table:
    metrics = list(dict.fromkeys(part["metric"]))
    rows = []
    for group, found in part.groupby("group", sort=False):
        values, first = found.set_index("metric"), found.iloc[0]
        sizes = [HIDDEN if pd.isna(first[name]) else f"{first[name]:,.0f}" for name in ("n", "frauds")]
        rows.append((_segment(str(group)), *sizes, *(_measured(metric, values.loc[metric]) for metric in metrics)))
    head = (capital(term(by.replace("_", " "))), say("Payments"), say("Frauds"), *map(metric_label, metrics))
    caption = say("By {segment}: value and 95 % interval", segment=term(by.replace("_", " ")))
    hidden = part["note"].astype("str").str.startswith(HIDDEN).any()
    note = say("Not shown: a count from 1 to 9 could be read from it") if hidden else ""
    return Table(caption, head, rows, "l" + "r" * (len(head) - 1), note)


def _segment(group: str) -> str:
    """Return a segment's name in the report's language; names of categories are the data's own."""
    return retold(group.replace("_", " "))


def _measured(metric: str, row: pd.Series) -> str | Cell:
    if pd.isna(row["value"]):
        return HIDDEN if str(row["note"]).startswith("not shown") else NOT_APPLICABLE
    return Cell(metric_text(metric, row["value"]), interval(metric, row["low"], row["high"]))


def _by_week(e: Evidence) -> list[Any]:
    """The candidate's figures week by week, from the comparison with a baseline or the champion."""
    table = e.champion_comparison if e.champion_comparison is not None and len(e.champion_comparison) else e.comparison
    if table is None:
        return [not_available("comparison.csv")]
    mine = table[(table["view"] == "period") & (table["model"] == e.candidate)]
    mine = mine.drop_duplicates(["group", "metric"])
    if mine.empty:
        return [Prose(say("The test is too short to be cut into weeks."))]
    metrics = list(dict.fromkeys(mine["metric"]))
    rows = [
        (
            day(week) if str(week)[:2] == "20" else foreign(str(week)),
            count(found["n"].iloc[0]),
            *(
                _measured(metric, found.set_index("metric").loc[metric]) if metric in set(found["metric"]) else ABSENT
                for metric in metrics
            ),
        )
        for week, found in mine.groupby("group", sort=False)
    ]
    head = (say("Week from"), say("Payments"), *map(metric_label, metrics))
    caption = say("Week by week: value and 95 % interval")
    note = say("Each week is judged on its own payments; found cases leave the later days of their week only")
    return [Table(caption, head, rows, "l" + "r" * (len(head) - 1), note)]


def ranking(e: Evidence) -> Section:
    """How the models order payments over all thresholds."""
    roc_caption = say("Left: every threshold. Right: the part that matters where few payments can be reviewed.")
    pr_caption = say("The area under each curve is its average precision.")
    blocks = [
        not_available("roc.csv") if e.roc is None else Figure(plots.roc(e.roc, e.labels), roc_caption),
        not_available("pr.csv") if e.pr is None else Figure(plots.precision_recall(e.pr, e.labels), pr_caption),
    ]
    return Section("ranking", say("Ranking curves"), blocks)


def calibration(e: Evidence) -> Section:
    """Whether a stated risk of 10 % means 10 frauds in 100."""
    risk, title = e.stated_risk, say("Calibration")
    if e.calibration is None or risk is None:
        return Section("calibration", title, [not_available("calibration.csv"), *_calibration_errors(e)])
    rows = [
        (
            str(number),
            count(row.n),
            share(row.mean_predicted),
            HIDDEN if pd.isna(row.observed) else share(row.observed),
            HIDDEN if pd.isna(row.observed) else span(share(row.low), share(row.high)),
        )
        for number, row in enumerate(risk.sort_values("mean_predicted").itertuples(), start=1)
    ]
    head = (say("Group"), say("Payments"), say("Stated risk"), say("Observed fraud"), say("95 % interval"))
    blocks = [
        Prose(
            say(
                "The stated risk is what people read on an alert, so it has to mean what it says: points on the "
                "diagonal do. Ranking, thresholds and tiers rest on the score before calibration, which keeps payments "
                "apart that calibration gives the same risk."
            )
        ),
        Figure(
            plots.calibration(e.calibration, e.labels, e.calibration_error),
            say(
                "Payments in groups of similar stated risk, each with no frauds or at least 10; bars are 95 % "
                "intervals."
            ),
        ),
        Table(say("Stated risk and what was observed"), head, rows, "lrrrr"),
        *_calibration_errors(e),
    ]
    return Section("calibration", title, blocks)


def _calibration_errors(e: Evidence) -> list[Any]:
    if e.calibration_error is None:
        return [not_available("calibration_error.csv")]
    mine = e.calibration_error[e.calibration_error["model"] == e.candidate]
    rows = [
        (
            say("before calibration") if row.stage == "before" else say("after calibration"),
            f"{row.value:.2f}",
            span(f"{row.low:.2f}", f"{row.high:.2f}"),
        )
        for row in mine.itertuples()
    ]
    note = retold(str(mine["note"].iloc[0])) if len(mine) else say("no risk with known labels")
    head = ("", say("Error"), say("95 % interval"))
    said = say(
        "An error of 1 is that of risks twice as high as they should be; {note}. Chance only ever adds, so the "
        "interval of a small error may lie above it.",
        note=note,
    )
    return [Table(say("Calibration error: frauds misplaced per fraud"), head, rows, "lrr"), Prose(said)]
