"""The monitoring page: a light for each topic with its next step, then the tables and pictures behind them.

The newest page's lights and alarms are a section of the reviewer's report too, brought there as evidence of the run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from fraudlab import plots
from fraudlab.drift import CHANGED, LIMITS, STABLE
from fraudlab.report.blocks import (
    ABSENT,
    HIDDEN,
    Cell,
    Figure,
    Part,
    Prose,
    Section,
    Table,
    capital,
    count,
    day,
    few,
    retold,
    share,
    span,
    term,
)
from fraudlab.report.evidence import Evidence
from fraudlab.report.language import foreign, language, say, speaking
from fraudlab.runs import Run
from fraudlab.watching import HIGH_OR_SEVERE

TONES = {"green": "good", "amber": "hold", "red": "bad", "grey": "none"}
MOST = 12
BROUGHT = {
    "monitor_signals": ["day", "group", "signal", "z", "sum"],
    "monitor_alarms": ["day", "group", "signal", "kind", "z", "what"],
}
"""What of monitoring's tables goes into the reviewer's report."""


def monitoring_page(
    facts: Mapping[str, Any], lights: list[dict[str, Any]], tables: Mapping[str, pd.DataFrame], lang: str = "en"
) -> str:
    """Return the monitoring page as HTML: the same bytes for the same findings, no script, no address outside it.

    Parameters
    ----------
    facts, lights, tables : of `fraudlab.monitoring.Watched`; the tables are protected.
    lang : "en" or "zh"; pictures and names of columns stay English and are marked so.

    Raises
    ------
    InputError : no page is written in that language.
    """
    from fraudlab.report import fill  # which knows this module's section

    with speaking(lang):
        model = foreign(str(facts["model"]))
        whole = say("{name}, version {version}", name=model, version=facts["version"])
        sections = [make(facts, tables) for make in (_alarms, _columns, _decisions, _performance, _causes, _retraining)]
        return fill(
            [
                Part("", "", [_summary(facts, lights)]),
                Part("details", say("What is behind the lights"), [each for each in sections if each is not None]),
            ],
            title=say("How {name} is doing", name=str(facts["model"])),
            heading=say("Monitoring: {name}", name=str(facts["model"])),
            kicker=say("Monitoring"),
            head=[
                (say("Model"), whole),
                (say("Learnt until before"), day(facts["learnt_until"])),
                (say("Watched until before"), day(facts["until"])),
                (say("Payments since"), count(facts["payments"])),
            ],
            foot=say("Made by fraudlab. Internal: holds results on personal data."),
        )


def light_words(light: str) -> str:
    """Return what a light is called, in the language that is being spoken.

    >>> light_words("amber")
    'amber: look'
    """
    return {
        "green": say("green: nothing to do"),
        "amber": say("amber: look"),
        "red": say("red: act"),
        "grey": say("not judged"),
    }[light]


def topic_words(topic: str) -> str:
    """Return what a light is about, in the language that is being spoken.

    >>> topic_words("volume")
    'Number of payments'
    """
    return {
        "volume": say("Number of payments"),
        "feed": say("What the columns hold"),
        "amount": say("Amounts"),
        "customers": say("Who pays, and where"),
        "features": say("What the model reads"),
        "fraud history": say("Known frauds that the model reads of"),
        "score": say("Scores and alerts"),
        "labels": say("Frauds that were missed"),
        "training": say("Distance from training"),
        "performance": say("Precision of the alerts"),
        "estimate": say("Precision before labels"),
        "age": say("Age of what the model learnt"),
    }[topic]


def found_words(light: Mapping[str, Any]) -> str:
    """Return in a sentence what a light saw, in the language that is being spoken."""
    topic, colour = light["topic"], light["light"]
    if topic == "age":
        if light.get("most") is None:
            return say("{n} days; the config states no limit (gate.max_age_days).", n=light["days"])
        return say("{n} days; {limit} are allowed.", n=light["days"], limit=light["most"])
    if colour == "grey" and topic not in ("estimate",):
        return say("Not judged: too little history, or no mature labels yet.")
    if topic == "training":
        if light["changed"]:
            return say(
                "{n} of {m} columns have changed, most of all {what} (stability index {psi}).",
                n=light["changed"],
                m=light["columns"],
                what=foreign(light["what"]),
                psi=f"{light['psi']:.2f}",
            )
        return say("None of {m} columns has changed.", m=light["columns"])
    if topic == "performance":
        return say(
            "{value} in the newest mature week; limits {limits}.",
            value=_rate(light["value"]),
            limits=span(_rate(light["low"]), _rate(light["high"])),
        )
    if topic == "estimate":
        if "value" not in light:
            return say("Not judged: no week without mature labels, or the model states no risks.")
        if "before" not in light:
            return say("The risks state {value}; no mature week to compare with.", value=_rate(light["value"]))
        return say(
            "The risks state {value} for the newest weeks and stated {before} for the mature ones.",
            value=_rate(light["value"]),
            before=_rate(light["before"]),
        )
    if colour == "green" and light.get("day"):
        return say("No alarm within four weeks; the newest is of {day}.", day=day(light["day"]))
    if colour == "green":
        return say("Within limits on {n} days.", n=light["days"])
    kind = {"one day": say("on one day"), "lasting": say("lasting")}[light["kind"]]
    found = say("Alarm of {day} ({kind}): {what}.", day=day(light["day"]), kind=kind, what=foreign(light["what"]))
    if light["bin"]:
        found += say(" ") + say("Most of it: {bin}.", bin=foreign(light["bin"]))
    return found


def step_words(light: Mapping[str, Any]) -> str:
    """Return the next step that a light asks for, in the language that is being spoken; "" where nothing is to do."""
    if light["light"] == "green":
        return ""
    if light["light"] == "grey":
        return say("Wait for five weeks of payments and for labels; read the plain figures until then.")
    return {
        "volume": say("Ask whether a feed broke, came twice or late; look at the hours below."),
        "feed": say("Open the named column in the source: missing, constant or with new values? Mend the feed first."),
        "amount": say("Ask for units and currency of the amounts (cents, another currency) before anything else."),
        "customers": say("Ask the business: new customers, a merger, another country? Then retrain with them."),
        "features": say("Find which raw column moves this feature; if none is broken, customers behave otherwise."),
        "fraud history": say("A wave of reported frauds, or labels came late or twice: look at the newest cases."),
        "score": say("Read ten alerts of that day; if they are genuine, raise the threshold until the cause is found."),
        "labels": say("Read the missed frauds together: a new kind? Write a rule for it today, then retrain."),
        "training": say("If a feed changed, mend it; if customers changed, retrain on payments after the change."),
        "performance": say("Read the false alarms; retrain; if that does not help, look for a new kind of fraud."),
        "estimate": say("The model has become less sure: look at the scores above, and at the labels as they come."),
        "age": say("`fraudlab retrain`; if the gate keeps the champion, find out why newer payments do not help."),
    }[light["topic"]]


def _rate(value: float | None) -> str:
    return say("not shown") if value is None or pd.isna(value) else share(float(value))


def _summary(facts: Mapping[str, Any], lights: list[dict[str, Any]]) -> Section:
    intro = say(
        "What the model met since it learnt ({n} payments), held against what it learnt from and against its own weeks "
        "before. A light is an alarm of charts whose limits are set so that a month in which nothing changes brings at "
        "most one; labels are needed for two of them alone.",
        n=count(facts["payments"]),
    )
    return Section("lights", say("Lights"), [Prose(intro), _lights(lights)])


def _lights(lights: list[dict[str, Any]]) -> Table:
    rows = [
        (
            topic_words(light["topic"]),
            Cell(light_words(light["light"]), tone=TONES[light["light"]]),
            found_words(light),
            step_words(light) or ABSENT,
        )
        for light in lights
    ]
    head = (say("What"), say("Light"), say("Found"), say("Next step"))
    return Table(say("Lights and next steps"), head, rows, "llll")


def _alarms(facts: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> Section:
    blocks = _charts(tables["monitor_signals"], tables["monitor_alarms"])
    hours = say(
        "Standard deviations from the same hours of the same weekdays; circles lie beyond 4. Hours with fewer than ten "
        "payments are not shown."
    )
    blocks.append(Figure(plots.odd_hours(tables["monitor_hours"]), hours))
    return Section("alarms", say("Alarms: when and what"), blocks)


def _charts(signals: pd.DataFrame, alarms: pd.DataFrame) -> list[Any]:
    """Return the picture of all charts and, where there are alarms, a table of the newest."""
    caption = say(
        "For each group the chart that lies farthest out on a day, as a share of its limit. A day is held against the "
        "same weekdays of six weeks before."
    )
    blocks: list[Any] = [Figure(plots.drift_charts(signals, alarms), caption)]
    if len(alarms):
        rows = [
            (
                day(row.day),
                capital(topic_words(row.group)),
                Cell(foreign(str(row.signal)), foreign(str(row.what)) if row.what else ""),
                say("on one day") if row.kind == "one day" else say("lasting"),
                f"{row.z:+.1f}".replace("-", "−"),
            )
            for row in alarms.tail(MOST).iloc[::-1].itertuples()
        ]
        head = (say("Day"), say("What"), say("Chart"), say("Kind"), say("Deviations"))
        blocks.append(Table(say("Alarms, the newest first"), head, rows, "llllr"))
    return blocks


def _columns(facts: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> Section:
    table = tables["monitor_columns"]
    labels = dict(zip(table["feature"], table["label"]))
    caption = say(
        "Stability index of each whole week against training; below {stable} is noise, above {changed} a change.",
        stable=f"{STABLE:.2f}",
        changed=f"{CHANGED:.2f}",
    )
    blocks: list[Any] = [Figure(plots.drift_by_week(tables["monitor_weeks"], labels), caption)]
    words = {"training": say("training"), "last week": say("the week before")}
    for against in ("training", "last week"):
        mine = table[table["against"] == against].head(MOST)
        rows = [
            (
                Cell(foreign(str(row.label)), retold(str(row.note)) if isinstance(row.note, str) and row.note else ""),
                _number(row.psi),
                _number(row.chance_psi),
                _chance(row.p_adjusted),
                span(_rate(row.missing_reference), _rate(row.missing_current)),
                _rate(row.new),
                term(str(row.reading)),
            )
            for row in mine.itertuples()
        ]
        head = (
            *(say("Column"), say("Index"), say("By chance"), say("p, corrected")),
            *(say("Missing, then and now"), say("New values"), say("Reading")),
        )
        note = say(
            "p values rest on customers, not on payments, and are corrected for the number of columns (Benjamini and "
            "Yekutieli); with many payments all differ, so the index decides"
        )
        what = say("The last seven days against {what}", what=words[against])
        blocks.append(Table(what, head, rows, "lrrrrrl", note))
    return Section("columns", say("What the model reads"), blocks)


def _number(value: Any) -> str:
    return ABSENT if value is None or pd.isna(value) else f"{value:.3f}"


def _chance(value: Any) -> str:
    if value is None or pd.isna(value):
        return ABSENT
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _decisions(facts: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> Section:
    table = tables["monitor_decisions"]
    blocks: list[Any] = []
    if len(table):
        tiers = list(dict.fromkeys(table["tier"]))
        rows = []
        for week, mine in table.groupby("week", sort=False):
            cells = mine.set_index("tier")
            rows.append((day(week), *(_cases(cells.loc[tier]) for tier in tiers)))
        head = (say("Week of"), *(capital(_tier(tier)) for tier in tiers))
        caption = say("Cases (a customer's day) by tier, week by week")
        blocks.append(Table(caption, head, rows, "l" + "r" * len(tiers)))
    mix = tables["monitor_reasons"]
    if len(mix):
        rows_ = [
            (
                capital(_group(row)),
                _hidden(row.alerts),
                _rate(row.share),
                _rate(row.share_before),
            )
            for row in mix.itertuples()
        ]
        head = (say("Strongest reason"), say("Alerts"), say("Share"), say("Share before"))
        caption = say("Why the last seven days' alerts were raised, and those of four weeks before")
        blocks.append(Table(caption, head, rows_, "lrrr"))
    if not blocks:
        blocks.append(Prose(say("No whole week has passed since the model learnt.")))
    return Section("decisions", say("Scores and decisions"), blocks)


def _group(row: Any) -> str:
    """Return the name of a reason in the language that is being spoken."""
    told = getattr(row, f"group_{language()}", None)
    return told if isinstance(told, str) and told else term(str(row.group))


def _tier(tier: str) -> str:
    return say("high or severe") if tier == HIGH_OR_SEVERE else term(tier)


def _hidden(value: Any) -> str:
    return HIDDEN if value is None or few(value) else count(value)


def _cases(row: pd.Series) -> str | Cell:
    return HIDDEN if pd.isna(row["cases"]) else Cell(count(row["cases"]), share(row["share"]))


def _performance(facts: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> Section:
    weeks, errors = tables["monitor_performance"], tables["monitor_estimate"]
    caption = say(
        "Found: frauds known so far over the share of frauds that are known after so long. Stated: the mean risk of "
        "the alerts, known at once. Customers known as victims are left out, as in the test."
    )
    blocks: list[Any] = [Figure(plots.precision_weeks(weeks, tables["monitor_precision"]), caption)]
    if len(weeks):
        rows = [
            (
                day(row.week),
                count(row.alerts),
                _rate(row.precision_expected),
                _rate(row.precision_corrected),
                Cell(_rate(row.precision), "" if pd.isna(row.low) else span(_rate(row.low), _rate(row.high))),
                Cell(
                    _rate(row.recall),
                    "" if pd.isna(row.recall_low) else span(_rate(row.recall_low), _rate(row.recall_high)),
                ),
                _rate(row.known),
            )
            for row in weeks.itertuples()
        ]
        head = (
            *(say("Week of"), say("Cases alerted"), say("Precision stated"), say("Precision corrected")),
            *(say("Precision found"), say("Recall found"), say("Frauds known by now")),
        )
        blocks.append(Table(say("What the alerts were worth"), head, rows, "lrrrrrr"))
    known = errors[errors["bias"].notna()]
    told = [
        say(
            "{metric}: the estimate was off by {error} on average over {n} mature weeks, by {bias} in the mean.",
            metric={
                "precision": say("Precision stated"),
                "corrected precision": say("Precision corrected"),
                "recall": say("Recall stated"),
            }[str(row.metric)],
            error=say("{n} points", n=plots.points(row.error).lstrip("+")),
            n=row.n,
            bias=say("{n} points", n=plots.points(row.bias)),
        )
        for row in known.itertuples()
    ]
    if told:
        blocks.append(Prose(say(" ").join(told)))
    else:
        blocks.append(Prose(say("How good the estimate is cannot be told before three weeks are mature.")))
    return Section("worth", say("What the alerts are worth"), blocks)


def _causes(facts: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> Section:
    moved, segments = tables["monitor_contributions"], tables["monitor_segments"]
    labels = dict(zip(moved["feature"], moved["label"])) if len(moved) else {}
    caption = say("Contributions say what moved the score, not what changed in the world; bars are 95 % intervals.")
    blocks: list[Any] = [Figure(plots.score_movers(moved, labels), caption)]
    if len(segments):
        rows = [
            (
                Cell(foreign(str(row.segment)), foreign(str(row.by).replace("_", " "))),
                span(share(row.share_reference), share(row.share_current)),
                span(_rate(row.rate_reference), _rate(row.rate_current)),
                _points(row.mix),
                _points(row.rate),
            )
            for row in segments.reindex(segments["total"].abs().sort_values(ascending=False, kind="stable").index)
            .head(MOST)
            .itertuples()
        ]
        head = (say("Segment"), say("Share of payments"), say("Share alerted"), say("By mix"), say("By rate"))
        note = say(
            "Before and now. By mix: the segment has more or fewer of the payments; by rate: more or fewer of its "
            "payments are alerted. The parts of one kind of segment add up to the change of all"
        )
        caption = say("Where the share of alerts changed, last seven days against four weeks before")
        blocks.append(Table(caption, head, rows, "lrrrr", note))
    return Section("causes", say("Why it changed"), blocks)


def _points(value: Any) -> str:
    return HIDDEN if pd.isna(value) else plots.points(float(value))


def _retraining(facts: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> Section | None:
    if "monitor_retraining" not in tables:
        return None
    table = tables["monitor_retraining"]
    title = say("Would retraining help?")
    if table["difference"].isna().all():
        return Section("retraining", title, [Prose(retold(capital(str(table["note"].iloc[0]))))])
    rows = [
        (
            capital(term(plots.METRIC_LABELS.get(row.metric, row.metric))),
            plots.metric_text(row.metric, row.fresh),
            plots.metric_text(row.metric, row.at_work),
            Cell(_number(row.difference), span(_number(row.low), _number(row.high))),
        )
        for row in table[table["difference"].notna()].itertuples()
    ]
    head = (say("Metric"), say("Fresh fit"), say("At work"), say("Difference"))
    note = say("Both on the newest mature payments, from which neither learnt; the gate decides, not this table")
    return Section("retraining", title, [Table(say("A fresh fit beside the model at work"), head, rows, "lrrr", note)])


def _read(tables: Mapping[str, Any], name: str) -> pd.DataFrame:
    """Return a table that was brought, its days as moments again."""
    table = pd.DataFrame(tables[name], columns=BROUGHT[name])
    return table.assign(day=pd.to_datetime(table["day"], utc=True))


# -- in the reviewer's report ------------------------------------------------------------------------------------------


def bring_findings(run: Run) -> str:
    """Put what the newest monitoring of a run's model found into its evidence; return why not, "" where it was done.

    Lights, alarms and, for each group and day, the chart that lies farthest out are taken from the monitoring's JSON,
    which is protected. Without such a file nothing is written, and nothing is said: the report says it.
    """
    path = run.workspace.reports / f"{run.config.name}.monitoring.json"
    if not path.is_file():
        return ""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        signals, alarms = (pd.DataFrame(held["tables"][f"monitor_{name}"]) for name in ("signals", "alarms"))
        if len(signals):
            pairs = signals["group"].map(LIMITS)
            far = np.maximum(signals["z"].astype(float).abs() / pairs.str[0], signals["sum"] / pairs.str[1])
            signals = signals.loc[far.groupby([signals["group"], signals["day"]]).idxmax().dropna()]
        tables = {"monitor_signals": signals, "monitor_alarms": alarms}
        rows = {
            name: json.loads(table.reindex(columns=BROUGHT[name]).to_json(orient="records"))
            for name, table in tables.items()
        }
        facts = {name: held["facts"][name] for name in ("model", "version", "until", "payments")}
        run.save_json("monitoring", {"facts": facts, "lights": held["lights"], "tables": rows})
    except (ValueError, KeyError, TypeError, AttributeError):
        return (
            f"What monitoring found is not in the report: {path.name} is not what `fraudlab monitor report` writes; "
            "run it again, then make the report again."
        )
    return ""


def at_work(e: Evidence) -> Section:
    """What monitoring found of the model at work: whose it is and until when, the lights, the charts and alarms."""
    title = say("How the model at work is doing")
    if e.monitoring is None:
        none = say(
            "There was no monitoring report of {name} when this report was made, so nothing is known here of how a "
            "model fares at work. `fraudlab monitor report` writes one; its charts judge from five weeks of payments "
            "after the model's learning on. Then make this report again: `fraudlab report {run}`.",
            run=foreign(str(e.run["run_id"])),
            name=foreign(str(e.run["name"])),
        )
        return Section("at-work", title, [Prose(none)])
    facts = e.monitoring["facts"]
    mine = str(facts["version"]) == str(e.decision.get("challenger_version"))
    which = say("the model of this report") if mine else say("not the model of this report")
    intro = say(
        "Monitoring watched {name} version {version} ({which}) until before {until}: {n} payments since it learnt, "
        "held against what it learnt from and against its own weeks before. The full page is {page}.",
        name=foreign(str(facts["model"])),
        version=foreign(str(facts["version"])),
        which=which,
        until=day(facts["until"]),
        n=count(facts["payments"]),
        page=foreign(f"{facts['model']}.monitoring.html"),
    )
    signals, alarms = (_read(e.monitoring["tables"], name) for name in BROUGHT)
    return Section("at-work", title, [Prose(intro), _lights(e.monitoring["lights"]), *_charts(signals, alarms)])
