"""The sections about how far the results carry: what they assume, what limits them, what to watch from now on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from fraudlab.checks.outputs import REMEMBERS
from fraudlab.report.blocks import (
    ABSENT,
    Bullets,
    Cell,
    Group,
    Prose,
    Section,
    Table,
    count,
    day,
    metric_label,
    metric_text,
    provided,
    share,
    span,
)
from fraudlab.report.evidence import Evidence
from fraudlab.report.language import capital, foreign, retold, say

FEW_FRAUDS, FEW_DAYS = 100, 20
LEVEL = (0.8, 1.25)
"""Stated frauds over seen ones: outside of it the level of the stated risk is off."""
STABLE, CHANGED = 0.10, 0.25
"""Stability index up to which values count as stable, and above which as changed (Siddiqi 2006, chapter 9)."""
IN_TIME = 0.95
SIGMAS = 3
"""Width of control limits: of a process in control, 3 in 1,000 days lie outside (Shewhart 1931)."""


def assumptions(e: Evidence) -> Group:
    """What the method takes for granted, each with what this run's evidence says about it."""
    delay = e.setting("split", "delay_days")
    rows: list[tuple[str, str]] = [
        (
            say("Labels are the truth once their time has passed"),
            say("A fraud nobody reports counts as genuine; what was stopped before it happened has no label."),
        ),
        (
            say("Labels come within the time the split waits"),
            _label_assumption(e, delay),
        ),
        (
            say("What held in training holds in the test and afterwards"),
            say("Fraudsters adapt. The test is one later period; the monitoring plan says what to watch."),
        ),
        (
            say("Customers are exchangeable, days are not"),
            say(
                "Intervals draw whole customers again, so what one customer's payments have in common is kept; they "
                "leave out the difference between periods."
            ),
        ),
        (
            say("Payments are scored alike in training and at work"),
            say("Features are computed by one definition from what was known at the moment of the payment."),
        ),
        (
            say("A case is worked the day it arises"),
            say(
                "The {n} best cases of a day are reviewed that day; a backlog costs what is lost meanwhile.",
                n=f"{e.decision['alerts_per_day']:,}",
            ),
        ),
        (
            say("A review finds the truth, and its cost does not depend on how many there are"),
            say(
                "A review costs {cost}; of a caught fraud's amount the share {saved} is saved.",
                cost=provided(e.setting("decision", "review_cost")),
                saved=provided(e.setting("decision", "recovery_rate")),
            ),
        ),
    ]
    if excluded := e.fold.get("excluded_customers"):
        rows.append(
            (
                say("Known victims are handled before the model sees them"),
                say("{n} customers already known as victims are left out of the test.", n=count(excluded)),
            )
        )
    head = (say("Assumption"), say("What is known about it"))
    return Group(say("Assumptions"), [Table(say("What the method takes for granted"), head, rows, "ll")])


def _label_assumption(e: Evidence, delay: Any) -> str:
    if delay is None:
        return say("The config states no waiting time.")
    said = say("The split waits {n} days.", n=f"{delay:g}")
    known = frauds_in_time(e)
    if known is None:
        return said
    return said + say(" ") + say("By then {share} of the frauds are reported.", share=share(known))


def frauds_in_time(e: Evidence) -> float | None:
    """Return the share of the frauds that are reported when the split stops waiting; None where it is not known."""
    delay = e.setting("split", "delay_days")
    if e.label_maturity is None or delay is None or "share_frauds_known" not in e.label_maturity:
        return None
    known = e.label_maturity.loc[e.label_maturity["days_since_event"] <= delay, "share_frauds_known"].max()
    return None if pd.isna(known) else float(known)


def limitations(e: Evidence) -> Section:
    """What the evidence does not show: found in this run, and always."""
    found = found_limitations(e)
    always = [
        say(
            "Labels are reports: a fraud nobody reported counts as genuine, and a payment that was stopped got no "
            "label."
        ),
        say("The test is one past period. Fraudsters adapt; performance has to be watched after release."),
        say(
            "Contributions describe the model. They are no causes; correlated features share weight as the model chose."
        ),
        say("Intervals cover the sampling of customers or test days, not the choice of model and period."),
        say("Not assessed here: deliberate evasion, drift after the test.")
        if _groups_compared(e)
        else say(
            "Not assessed here: differences between groups of customers, deliberate evasion, drift after the test."
        ),
    ]
    crossed = Bullets(found) if found else Prose(say("No limit of this report's list was crossed."))
    groups = [Group(say("Found in this run"), [crossed]), Group(say("Always"), [Bullets(always)])]
    return Section("limitations", say("Limitations"), groups)


def _groups_compared(e: Evidence) -> bool:
    return any(
        table is not None and (table["view"].eq("group") & table["value"].notna()).any()
        for table in (e.comparison, e.champion_comparison)
    )


def found_limitations(e: Evidence) -> list[str]:
    """Return a sentence for each limit that this run's evidence crosses."""
    judged: tuple[Callable[[Evidence], list[str]], ...] = (
        _of_data,
        _of_labels,
        _of_selection,
        _of_result,
        _of_model,
        _unused,
    )
    return [sentence for judge in judged for sentence in judge(e)]


def _of_data(e: Evidence) -> list[str]:
    found = []
    if str(e.data.get("source")).startswith("simulat"):
        found.append(
            say("The data is simulated: the figures show that the method works, not how it does on real customers.")
        )
    frauds = e.part("test").get("frauds", 0)
    if frauds is None or frauds < FEW_FRAUDS:
        found.append(
            say(
                "Few frauds: the test part holds {n}, below {limit}; expect wide intervals.",
                n=count(frauds),
                limit=FEW_FRAUDS,
            )
        )
    days = 0 if e.daily is None else int((e.daily["model"] == e.candidate).sum())
    if 0 < days < FEW_DAYS:
        found.append(
            say(
                "Few days: the test has {n}, below {limit}; intervals over days are too narrow then.",
                n=days,
                limit=FEW_DAYS,
            )
        )
    return found


def _of_labels(e: Evidence) -> list[str]:
    found = []
    if (late := e.fold.get("late_frauds", 0)) >= 0.01:
        found.append(
            say(
                "Frauds still to come: about {share} of the test's frauds are expected to be reported later.",
                share=share(late),
            )
        )
    delay, needed = e.setting("split", "delay_days"), (e.data.get("label_delay_days") or {}).get("p90")
    if delay is not None and needed is not None and needed > delay:
        found.append(
            say(
                "Late labels: 90 % are known only after {needed} days; the split waits {delay}.",
                needed=f"{needed:.1f}",
                delay=delay,
            )
        )
    if e.label_maturity is not None and delay is not None:
        known = e.label_maturity.loc[e.label_maturity["days_since_event"] <= delay, "share_known"].max()
        if known < IN_TIME:
            found.append(
                say("Immature labels: only {share} are known when the split stops waiting.", share=share(known))
            )
        in_time = frauds_in_time(e)
        if in_time is not None and in_time < IN_TIME:
            found.append(
                say(
                    "Late reports: {share} of the frauds are reported only after the {delay} days that the split "
                    "waits, too late for the newest training payments.",
                    share=share(1 - in_time),
                    delay=delay,
                )
            )
    return found


def _of_selection(e: Evidence) -> list[str]:
    """What is wrong with labels that come from cases a model chose, where nobody looked at others."""
    if e.label_sources is None or e.label_sources.empty:
        return []
    by = e.label_sources[e.label_sources["metric"] == "label_share"].set_index("group")["n"].fillna(1)
    if not by["review"] or by["random"]:
        return []
    return [
        say(
            "Selective labels: payments were reviewed because a model listed them and none by chance, so what it "
            "misses is not measured (decision.explore_per_day)."
        )
    ]


def _of_result(e: Evidence) -> list[str]:
    found = []
    mine = e.metric(e.candidate, "card_precision_at_k")
    near = [] if mine is None else [r for r in e.rivals("card_precision_at_k") if r["high"] >= mine["low"]]
    if near:
        found.append(
            say(
                "Not clearly ahead: at the alert budget the interval of {rival} overlaps the candidate's.",
                rival=e.called(near[0]["model"]),
            )
        )
    if (risk := e.stated_risk) is not None:
        stated, seen = (risk["n"] * risk["mean_predicted"]).sum(), (risk["n"] * risk["observed"]).sum()
        if not LEVEL[0] <= stated / max(seen, 1) <= LEVEL[1]:
            figures = {"stated": f"{stated:,.0f}", "seen": f"{seen:,.0f}"}
            found.append(
                say(
                    "Level: the stated risks of the test part add up to {stated} frauds and {seen} were seen; the "
                    "level of fraud has moved since validation, so read risks as too high.",
                    **figures,
                )
                if stated > seen
                else say(
                    "Level: the stated risks of the test part add up to {stated} frauds and {seen} were seen; the "
                    "level of fraud has moved since validation, so read risks as too low.",
                    **figures,
                )
            )
        outside = int((~risk["mean_predicted"].between(risk["low"], risk["high"])).sum())
        if outside:
            found.append(
                say(
                    "Calibration: in {n} of {all} groups the stated risk lies outside the 95 % interval.",
                    n=outside,
                    all=len(risk),
                )
            )
    return found


def _of_model(e: Evidence) -> list[str]:
    found = []
    if e.membership is not None:
        of_frauds = e.membership.loc[e.membership["group"] == "fraud", "auc"].max()
        if of_frauds > REMEMBERS:
            found.append(
                say(
                    "Memory: the stated risk tells with an AUC of {auc} which frauds the model learnt from; a smaller "
                    "depth or a larger min_child_weight makes it forget single payments.",
                    auc=f"{of_frauds:.3f}",
                )
            )
    if e.importance is not None and len(e.importance):
        top = e.importance.nlargest(1, "share").iloc[0]
        if top["share"] > 0.5:
            name = e.words.get(top["feature"]) or top["feature"]
            found.append(
                say(
                    "One feature dominates: {name} makes up {share} of all movement.",
                    name=name,
                    share=share(top["share"]),
                )
            )
    found += [
        say("Check {code} failed: {sentence}", code=check["code"], sentence=retold(check["sentence"]))
        for check in e.checks or []
        if check["result"] == "failed"
    ]
    return found


def _unused(e: Evidence) -> list[str]:
    if not e.data["dropped"]:
        return []
    names = ", ".join(row["column"] for row in e.data["dropped"])
    return [
        say(
            "Unused source columns: the contract does not declare {names}, so the model never saw them.",
            names=foreign(names),
        )
    ]


def monitoring(e: Evidence) -> Section:
    """What to watch once the model works: each figure with its limits from this run, how often, who acts."""
    intro = say(
        "What to watch once the model is at work. Limits come from this run's own figures: a control limit lies {n} "
        "standard deviations from the mean of the days or weeks of the test, so that a process that has not changed "
        "crosses it about 3 times in 1,000. Act on one crossing of a limit, or on seven points in a row on one side of "
        "the expected value.",
        n=SIGMAS,
    )
    owner = e.run.get("owner")
    who = foreign(owner) if owner and owner != "not provided" else say("the owner (not provided)")
    rows = [row for make in (_volume, _alerts, _hits, _drift, _level, _delays, _figures, _age) for row in make(e)]
    head = (say("What"), say("Expected"), say("Act when"), say("How often"), say("What to do"))
    table = Table(say("Monitoring plan"), head, rows, "lllll")
    acts = [
        capital(say("{who} reads these figures, decides and writes down what was decided.", who=who)),
        say("`fraudlab monitor report` measures them every week: a light for each topic, and its next step."),
        say("`fraudlab retrain` makes a challenger; it takes over only through the promotion gate."),
        say(
            "If alerts or precision leave their limits and no cause is found the same day, go back to the champion "
            "before (its version stays registered) or to the rules alone."
        ),
    ]
    return Section("monitoring", say("Monitoring plan"), [Prose(intro), table, Group(say("Who acts"), [Bullets(acts)])])


Row = tuple[str | Cell, str | Cell, str, str, str]


def control_limits(values: pd.Series) -> tuple[float, float, float]:
    """Return the mean of a series and its lower and upper control limits, the lower one not below 0.

    The spread is estimated from the moving range of neighbours, which a slow trend hardly widens: mean absolute
    difference over 1.128 (Montgomery, Introduction to Statistical Quality Control, chapter 6). NaN where there are
    fewer than eight values.

    >>> [round(limit, 2) for limit in control_limits(pd.Series([10, 12, 10, 12, 10, 12, 10, 12]))]
    [11.0, 5.68, 16.32]
    """
    found = values.dropna().astype(float)
    if len(found) < 8:
        return float("nan"), float("nan"), float("nan")
    mean, spread = float(found.mean()), float(found.diff().abs().mean()) / 1.128
    return mean, max(mean - SIGMAS * spread, 0.0), mean + SIGMAS * spread


def _outside(low: float, high: float) -> str:
    """Say when a count has left its limits; none lies below 0."""
    if low <= 0:
        return say("above {limit}", limit=f"{high:,.0f}")
    return say("below {low} or above {high}", low=f"{low:,.0f}", high=f"{high:,.0f}")


def _volume(e: Evidence) -> list[Row]:
    if e.daily_volume is None or not len(e.daily_volume):
        return []
    last = e.daily_volume["transactions"].iloc[:-1].tail(56)  # the last day may not be whole
    mean, low, high = control_limits(last)
    if pd.isna(mean):
        return []
    return [
        (
            Cell(say("Payments a day"), say("the last eight weeks of the data")),
            f"{mean:,.0f}",
            _outside(low, high),
            say("daily"),
            say("Look whether a feed broke or was loaded twice."),
        )
    ]


def _alerts(e: Evidence) -> list[Row]:
    """The cases a day over the threshold, from the outcomes of the rule in use."""
    table = e.threshold_outcomes
    if table is None or not len(table):
        return []
    used = table[table["used"].astype(bool) & (table["period"] == "test") & (table["metric"] == "alerts_per_day")]
    if used.empty or pd.isna(used["value"].iloc[0]):
        return []
    value = float(used["value"].iloc[0])
    # Cases arise one by one: a count's variance is its mean (a c chart).
    low, high = max(value - SIGMAS * value**0.5, 0), value + SIGMAS * value**0.5
    planned = e.decision["alerts_per_day"]
    return [
        (
            Cell(say("Cases a day over the review threshold"), say("planned: {n}", n=f"{planned:,}")),
            f"{value:,.1f}",
            _outside(low, high),
            say("daily"),
            say("Many: set the threshold anew on newer payments. Few: look at the feeds of the features."),
        )
    ]


def _hits(e: Evidence) -> list[Row]:
    """The precision of a week's reviews, a p chart over a week of cases."""
    row, k = e.metric(e.candidate, "card_precision_at_k"), e.decision["alerts_per_day"]
    if row is None:
        return []
    p = float(row["value"])
    half = SIGMAS * (p * (1 - p) / max(7 * k, 1)) ** 0.5
    return [
        (
            Cell(say("Precision of a week's reviews"), say("as soon as the cases are decided")),
            metric_text("card_precision_at_k", p),
            say("below {low}", low=share(max(p - half, 0.0))),
            say("weekly"),
            say("Read the false alarms; retrain; if that does not help, look for a new kind of fraud."),
        )
    ]


def _drift(e: Evidence) -> list[Row]:
    worst = ABSENT
    if e.stability is not None and len(e.stability):
        worst = f"{e.stability['psi'].max():.3f}"
    return [
        (
            Cell(say("Stability index of each feature and of the score"), say("against the training payments")),
            say("up to {limit}; largest in training {worst}", limit=f"{STABLE:.2f}", worst=worst),
            say("above {limit}", limit=f"{CHANGED:.2f}"),
            say("weekly"),
            say("Find out what changed in the feed or in the customers; retrain on payments after the change."),
        )
    ]


def _level(e: Evidence) -> list[Row]:
    said = ABSENT
    if (risk := e.stated_risk) is not None:
        seen = (risk["n"] * risk["observed"]).sum()
        said = f"{(risk['n'] * risk['mean_predicted']).sum() / seen:.2f}" if seen else ABSENT
    return [
        (
            Cell(say("Stated frauds over frauds seen"), say("on payments with mature labels")),
            say("1; in the test {value}", value=said),
            say("below {low} or above {high}", low=f"{LEVEL[0]:.2f}", high=f"{LEVEL[1]:.2f}"),
            say("monthly"),
            say("Calibrate anew on the newest mature payments; the order of the alerts does not change by it."),
        )
    ]


def _delays(e: Evidence) -> list[Row]:
    delay, seen = e.setting("split", "delay_days"), e.data.get("label_delay_days") or {}
    if delay is None:
        return []
    known = frauds_in_time(e)
    expected = ABSENT
    if known is not None:
        expected = say("{share} of the frauds within {n} days", share=share(known), n=f"{delay:g}")
    under = seen.get("p90")
    return [
        (
            Cell(
                say("Time until a fraud is reported"),
                "" if under is None else say("90 % of the labels within {n} days", n=f"{under:.1f}"),
            ),
            expected,
            say("below {low} within {n} days", low=share(IN_TIME), n=f"{delay:g}"),
            say("monthly"),
            say("Let the split wait longer (split.delay_days)."),
        )
    ]


def _figures(e: Evidence) -> list[Row]:
    """The headline figures of the next retraining, against the interval of this one."""
    rows: list[Row] = []
    for metric in ("money_caught_share", "average_precision"):
        row = e.metric(e.candidate, metric)
        if row is None or pd.isna(row["low"]):
            continue
        low, high = metric_text(metric, row["low"]), metric_text(metric, row["high"])
        rows.append(
            (
                Cell(metric_label(metric), span(low, high)),
                metric_text(metric, row["value"]),
                say("below {low}", low=low),
                say("each retraining"),
                say("Compare with the champion on the same payments; look at the parts that lost."),
            )
        )
    return rows


def _age(e: Evidence) -> list[Row]:
    until, limit = e.fold.get("learnt_until"), e.setting("gate", "max_age_days")
    if not until:
        return []
    act = (
        say("no limit in the config (gate.max_age_days)")
        if limit is None
        else say("older than {n} days", n=f"{limit:g}")
    )
    return [
        (
            Cell(say("Age of what the model learnt"), say("learnt until before {day}", day=day(until))),
            say("retrained every night, or when new labels are in"),
            act,
            say("monthly"),
            say("Retrain; if the gate keeps the champion, find out why the newer payments do not help."),
        )
    ]
