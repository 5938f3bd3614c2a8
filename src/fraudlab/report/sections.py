"""The sections of a model report: each is a function from the evidence to blocks, and every number comes from there.

To add a section, write a function `Evidence -> Section` and put it into `parts`, under the heading of the model-risk
guidance it belongs to (SR 26-2); the template needs no change. Sentences go through `language.say`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fraudlab.report import (
    checking,
    comparison,
    data,
    deciding,
    decision,
    explaining,
    governance,
    limits,
    monitoring,
    results,
    ruling,
)
from fraudlab.report.blocks import (
    NOT_PROVIDED,
    Facts,
    KeyFigure,
    Part,
    Prose,
    Section,
    Verdict,
    capital,
    count,
    day,
    interval,
    metric_label,
    metric_text,
    provided,
)
from fraudlab.report.decision import gate_table, signs
from fraudlab.report.evidence import Evidence
from fraudlab.report.language import foreign, retold, say
from fraudlab.report.limits import found_limitations

KEY_METRICS = ("card_precision_at_k", "money_caught_share", "average_precision", "auc_roc")


def parts(e: Evidence) -> list[Part]:
    """Return the report's parts in order: the summary, then what the guidance asks for under its three headings."""
    grouped = (
        ("", "", SUMMARY),
        ("development", say("Development and use"), DEVELOPMENT),
        ("validation", say("Validation and monitoring"), VALIDATION),
        ("governance", say("Governance and controls"), GOVERNANCE),
    )
    return [Part(name, title, [section(e) for section in sections]) for name, title, sections in grouped]


def summary(e: Evidence) -> Section:
    """The decision, the key figures with intervals against the best baseline, and the gate."""
    d, test = e.decision, e.part("test")
    model = say(
        "{name} version {version}",
        name=foreign(provided(e.run.get("model_name") or e.run["name"])),
        version=provided(d.get("challenger_version")),
    )
    before = provided(d.get("champion_before"))
    tone, word, sentence = {
        "promoted": ("good", say("promoted"), say("{model} is the champion now.", model=model)),
        "kept champion": (
            "hold",
            say("champion kept"),
            say("{model} stays a challenger; version {before} remains the champion.", model=model, before=before),
        ),
        "in shadow": (
            "hold",
            say("in shadow"),
            say(
                "{model} scores beside the champion until {day} before it may take its place; version {before} remains "
                "the champion.",
                model=model,
                day=day((d.get("shadow") or {}).get("last_day")),
                before=before,
            ),
        ),
        "rejected": ("bad", say("rejected"), say("{model} did not pass the gate and is not to be used.", model=model)),
    }[d["decision"]]
    figures = []
    for metric in KEY_METRICS:
        if (row := e.metric(e.candidate, metric)) is not None:
            best = next(iter(e.rivals(metric)), None)
            against = say("no baseline measured")
            if best is not None:
                against = say("{name}: {value}", name=e.called(best["model"]), value=metric_text(metric, best["value"]))
            value, spread = metric_text(metric, row["value"]), interval(metric, row["low"], row["high"])
            figures.append(KeyFigure(metric_label(metric), value, spread, against))
    explained = say(
        "The figures are those of {model} on the test part ({start} until before {end}, {n} payments), from which no "
        "model learnt, when investigators review {k} cases a day. Below each figure stand its 95 % interval and the "
        "best baseline.",
        model=e.called(e.candidate),
        start=day(test.get("start")),
        end=day(test.get("end")),
        n=count(test.get("transactions", 0)),
        k=f"{d['alerts_per_day']:,}",
    )
    reasons = [capital(retold(signs(reason))) for reason in d["reasons"]]
    box = Verdict(tone, word, sentence, reasons, figures)
    return Section("summary", say("Summary"), [box, Prose(explained), *_gate(d), Prose(_doubts(e))])


def _doubts(e: Evidence) -> str:
    """Say how many checks failed and how many limitations were found, which a reader of the summary must know."""
    limited = say("{n} limitations were found in this run; each has its sentence below.", n=len(found_limitations(e)))
    if not e.checks:
        return limited
    failed = [check["code"] for check in e.checks if check["result"] == "failed"]
    asked = len(e.checks)
    told = say("Of {n} numbered checks none failed.", n=asked)
    if failed:
        told = say("Of {n} numbered checks {m} failed: {codes}.", n=asked, m=len(failed), codes=", ".join(failed))
    return told + say(" ") + limited


def _gate(decided: dict[str, Any]) -> list[Any]:
    """Table the gate where a check failed or the reasons do not name every check."""
    if not decided["gate"]:
        return [Prose(say("No check of the promotion gate was recorded."))]
    said = " ".join(decided["reasons"])
    if all(check["passed"] and check["check"] in said for check in decided["gate"]):
        return []
    return [gate_table(decided["gate"])]


def purpose_and_owner(e: Evidence) -> Section:
    """Who answers for the model and what it is for; empty human fields say so."""
    run, kept = e.run, e.data.get("retention_days")
    purpose = foreign(provided(run.get("purpose")))
    if meaning := e.data.get("purpose_meaning"):
        purpose = say("{purpose}: {meaning}", purpose=purpose, meaning=retold(meaning))
    facts = [
        (say("Model"), foreign(provided(run.get("model_name") or run["name"]))),
        (say("Title"), foreign(provided(run.get("title")))),
        (say("Purpose of the processing"), purpose),
        (say("Lawful basis in the data contract"), data.lawful_basis(e)),
        (say("Kept for this purpose at most"), NOT_PROVIDED if kept is None else say("{n} days", n=f"{kept:,}")),
        (say("Owner"), foreign(provided(run.get("owner")))),
        (say("Intended users"), foreign(provided(run.get("users")))),
        (say("Materiality or risk tier"), foreign(provided(run.get("risk_tier")))),
    ]
    use = say(
        "Intended use: to order payments for review by people and to ask for a second factor. A score is no proof of "
        "fraud; a decision against a customer needs a person's review."
    )
    return Section("purpose", say("Purpose and owner"), [Facts(facts), Prose(use)])


Sections = tuple[Callable[[Evidence], Section], ...]
SUMMARY: Sections = (summary,)
DEVELOPMENT: Sections = (
    purpose_and_owner,
    data.data,
    data.privacy,
    results.method,
    results.features,
)
VALIDATION: Sections = (
    results.performance,
    results.segments,
    comparison.comparison,
    comparison.fairness,
    results.ranking,
    deciding.money_saved,
    results.calibration,
    deciding.decision_tiers,
    deciding.customer_rating,
    explaining.explanation,
    explaining.robustness,
    ruling.rules,
    checking.checks,
    limits.limitations,
    limits.monitoring,
    monitoring.at_work,
)
GOVERNANCE: Sections = (
    decision.decision,
    data.data_protection,
    governance.reproduce,
    governance.change_log,
    governance.sign_off,
    checking.check_guide,
)
SECTIONS: Sections = (*SUMMARY, *DEVELOPMENT, *VALIDATION, *GOVERNANCE)
