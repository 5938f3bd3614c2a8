"""The sections about the numbered checks: what each found, the tables behind them, and the guide that explains them."""

from __future__ import annotations

from typing import Any

import pandas as pd

from fraudlab.checks import CHECKS
from fraudlab.checks.guide import TEXTS, entry, heading
from fraudlab.checks.wording import SYMBOLS, outcome, tone
from fraudlab.report.blocks import (
    ABSENT,
    Cell,
    Facts,
    Group,
    Prose,
    Section,
    Table,
    count,
    interval,
    metric_label,
    metric_text,
    not_available,
    share,
)
from fraudlab.report.evidence import Evidence
from fraudlab.report.language import foreign, language, retold, say, term
from fraudlab.report.results import named

MOST = 12
"""Features that a table shows."""


def checks(e: Evidence) -> Section:
    """Every numbered check with its result, its sentence and what a failure does; then the tables behind them."""
    blocks: list[Any] = [not_available("checks.json")] if e.checks is None else _findings(e.checks)
    blocks += [_leaks(e), _over_time(e), _loss(e), _drift(e), _noise(e)]
    return Section("checks", say("Checks"), blocks)


def check_guide(e: Evidence) -> Section:
    """What each check of this run detects, why that matters and what to do."""
    lang = language()
    codes = [check["code"] for check in e.checks or [] if check["code"] in CHECKS] or list(CHECKS)
    groups = []
    for said in (entry(code, lang) for code in codes):
        facts = [(heading(name, lang), getattr(said, name)) for name in TEXTS]
        facts.append((heading("severity", lang), said.severity))
        groups.append(Group(f"{said.code} {said.title}", [Facts(facts)], id=f"check-{said.code}"))
    intro = say("What each numbered check detects, why that matters, and what to do where it failed.")
    return Section("check-guide", say("Appendix: guide to the checks"), [Prose(intro), *groups])


def _findings(found: list[dict[str, Any]]) -> list[Any]:
    """Table the findings, each number a link to the guide; say how many failed and what holds the model back."""
    lang = language()
    words = {
        "passed": say("passed"),
        "failed": say("failed"),
        "waived": say("failed, waived"),
        "not applicable": say("not applicable"),
    }
    rows = []
    for check in found:
        came, known = outcome(check), check["code"] in CHECKS
        # What the run wrote down in English, the guide says in the other languages.
        said = entry(check["code"], lang) if known and lang != "en" else None
        rows.append(
            (
                Cell(check["code"], link=f"#check-{check['code']}" if known else ""),
                Cell(
                    said.title if said else foreign(check["title"]), said.severity if said else term(check["severity"])
                ),
                Cell(f"{SYMBOLS[came]} {words[came]}", tone=tone(check)),
                Cell(
                    retold(check["sentence"]),
                    say("Waived: {why}", why=foreign(check["waived"])) if came == "waived" else "",
                ),
            )
        )
    came = [outcome(check) for check in found]
    hold = [check["code"] for check in found if tone(check) == "bad"]
    intro = say(
        "{n} questions were asked: {passed} passed, {failed} failed, {open} not applicable.",
        n=len(found),
        passed=came.count("passed"),
        failed=came.count("failed") + came.count("waived"),
        open=came.count("not applicable"),
    )
    held = (
        say("These hold the model back: {codes}.", codes=", ".join(hold))
        if hold
        else say("None of the failed ones holds the model back.")
    )
    head = (say("Check"), say("What is checked; if it fails"), say("Result"), say("What was found"))
    return [
        Prose(f"{intro} {held}" if "failed" in came or "waived" in came else intro),
        Table(say("The numbered checks"), head, rows, "llll"),
    ]


def _leaks(e: Evidence) -> Any:
    """Say how leaks were looked for, and list the features that are not clean."""
    title = say("Do the features see only the past?")
    if e.leakage is None:
        return Group(title, [not_available("leakage.csv")])
    how = say(
        "On a sample of the payments before the test, all that came after some moments was changed, joined by invented "
        "payments and removed, and labels not known then were turned. A feature is clean when none of its earlier "
        "values moved by one bit."
    )
    blocks: list[Any] = [Prose(how)]
    dirty = e.leakage[e.leakage["verdict"] != "clean"]
    if len(dirty):
        rows = [
            (named(row.column, e), term(row.verdict), count(row.moved), retold(row.meaning))
            for row in dirty.itertuples()
        ]
        head = (say("Feature"), say("Verdict"), say("Values moved"), say("Meaning"))
        blocks.append(Table(say("Features that are not clean"), head, rows, "llrl"))
    return Group(title, blocks)


def _over_time(e: Evidence) -> Any:
    """Table the features that turned or faded first, then those whose values drifted most."""
    title = say("Did the features last through the training period?")
    absent = [not_available(f"{name}.csv") for name in ("time_consistency", "stability") if getattr(e, name) is None]
    alone = e.time_consistency
    if alone is None or alone.empty:
        return Group(title, absent or [Prose(say("There are no features."))])
    drift = pd.Series(dtype=float) if e.stability is None else e.stability.groupby("feature")["psi"].max()
    told = alone.assign(
        order=alone["verdict"].map({"turns round": 0, "fades": 1}).fillna(2), psi=alone["feature"].map(drift)
    )
    rows = [
        (
            named(row.feature, e),
            term(row.verdict),
            _ranked(row.auc_first, row.low_first, row.high_first),
            _ranked(row.auc_last, row.low_last, row.high_last),
            ABSENT if pd.isna(row.psi) else f"{row.psi:.3f}",
        )
        for row in told.sort_values(["order", "psi"], ascending=[True, False], kind="stable").head(MOST).itertuples()
    ]
    one = alone.iloc[0]
    intro = say(
        "On the training period alone. Each feature by itself learnt fraud from the first half ({n_first} payments, "
        "{frauds_first} frauds) and was judged on the second ({n_last} payments, {frauds_last} frauds). The stability "
        "index compares the values of each week with those of the first; up to 0.10 counts as stable, above 0.25 as "
        "changed.",
        n_first=count(one["n_first"]),
        frauds_first=count(one["frauds_first"]),
        n_last=count(one["n_last"]),
        frauds_last=count(one["frauds_last"]),
    )
    head = (
        say("Feature"),
        say("Alone over time"),
        say("AUC ROC, first half"),
        say("Second half"),
        say("Largest index"),
    )
    note = say(
        "The twelve to look at first; not applicable: alone it does not tell fraud, or there are too few frauds to say"
    )
    table = Table(say("Features over the training period"), head, rows, "llrrr", note)
    return Group(title, [*absent, Prose(intro), table])


def _loss(e: Evidence) -> Any:
    """Table what the model is worth on what it learnt from, on the test, and what is lost between them."""
    title = say("What is lost from training to test?")
    table = e.check_FL008
    if table is None or table.empty:
        return Group(title, [_not_saved("FL008", e)])
    figures = ["value", "low", "high"]
    wide = table.set_index(["metric", "part"])[figures].round(3) + 0.0  # no loss of "-0.000"
    rows = [
        (
            metric_label(metric),
            *(
                Cell(
                    metric_text(metric, wide.loc[(metric, part), "value"]),
                    interval(metric, wide.loc[(metric, part), "low"], wide.loc[(metric, part), "high"]),
                )
                for part in ("training", "test", "loss")
            ),
        )
        for metric in dict.fromkeys(table["metric"])
    ]
    note = say(
        "Average precision at the test's share of frauds on both sides; intervals draw customers anew, each with all "
        "payments of both periods"
    )
    head = (say("Metric"), say("On the training"), say("On the test"), say("Loss"))
    return Group(
        title, [Table(say("The candidate on what it learnt from and on later payments"), head, rows, "lrrr", note)]
    )


def _drift(e: Evidence) -> Any:
    """Table the features whose values in the test differ most from those of the training."""
    title = say("Does the test hold the values that were learnt from?")
    table = e.check_FL010
    if table is None or table.empty:
        return Group(title, [_not_saved("FL010", e)])
    found = table.sort_values("psi", ascending=False, kind="stable")
    rows = [
        (named(row.feature, e), ABSENT if pd.isna(row.psi) else f"{row.psi:.3f}", term(row.reading))
        for row in found.head(MOST).itertuples()
    ]
    head = (say("Feature"), say("Stability index"), say("Reading"))
    note = say("The twelve whose values differ most; up to 0.10 counts as stable, above 0.25 as changed")
    return Group(title, [Table(say("Values of the test against those of the training"), head, rows, "lrl", note)])


def _noise(e: Evidence) -> Any:
    """Table the first features of a small booster that was given noise beside them."""
    title = say("Do the features tell more than noise?")
    table = e.check_FL020
    if table is None or table.empty:
        return Group(title, [_not_saved("FL020", e)])
    real = table[~table["planted"].astype(bool)]
    best = table[table["planted"].astype(bool)].sort_values("rank").iloc[0]
    total = table["importance"].sum()
    intro = say(
        "A small booster was given every feature and, beside it, a copy with its values dealt out anew, which knows "
        "nothing. The best of {copies} copies came out at rank {rank}; {below} of {n} features rank below it. Weak "
        "features may still add up to something.",
        copies=count(len(table) - len(real)),
        rank=int(best["rank"]),
        below=f"{int((real['reading'] == 'below noise').sum()):,}",
        n=f"{len(real):,}",
    )
    rows = [
        (named(row.feature, e), str(int(row.rank)), share(row.importance / total if total else 0.0))
        for row in real.sort_values("rank").head(MOST).itertuples()
    ]
    head = (say("Feature"), say("Rank"), say("Share of what moved its scores"))
    return Group(title, [Prose(intro), Table(say("The first features beside planted noise"), head, rows, "lrr")])


def _not_saved(code: str, e: Evidence) -> Prose:
    """Return why a check left no table: it was not applicable, or the run did not ask it."""
    said = [check for check in e.checks or [] if check["code"] == code and check["result"] == "not applicable"]
    return Prose(retold(said[0]["sentence"])) if said else not_available(f"check_{code}.csv")


def _ranked(auc: float, low: float, high: float) -> str | Cell:
    return ABSENT if pd.isna(auc) else Cell(metric_text("auc_roc", auc), interval("auc_roc", low, high))
