"""The report's section on rules that people wrote: alone, on top of the model, within its budget, by their overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from fraudlab import plots
from fraudlab.metrics import FEW_FRAUDS
from fraudlab.report.blocks import (
    ABSENT,
    Bullets,
    Cell,
    Facts,
    Figure,
    Group,
    Prose,
    Section,
    Table,
    count,
    day,
    money,
    not_available,
    provided,
    share,
    span,
)
from fraudlab.report.evidence import Evidence
from fraudlab.report.language import foreign, language, say, spoken, term

_SHARES = ("precision", "recall", "money_caught_share", "unknown_share")


def rules(e: Evidence) -> Section:
    """What the rules that people wrote bring, each alone and beside the model, shadow rules apart."""
    title = say("Rules that people wrote")
    book, table = e.rulebook, e.rules_backtest
    if book is None or table is None or (book["rules"] and table.empty):
        return Section("rules", title, [not_available("rules_backtest.csv")])
    if not book["rules"]:
        none = say("This run's config names no rule book: nothing is decided by rules that people wrote.")
        return Section("rules", title, [Prose(none)])
    drawn = {rule["id"]: rule["title"]["en"] for rule in book["rules"]}  # pictures speak English in every report
    named = {rule["id"]: rule["title"].get(language()) or drawn[rule["id"]] for rule in book["rules"]}
    active, shadow = (
        [rule["id"] for rule in book["rules"] if rule["status"] == status] for status in ("active", "shadow")
    )
    together = ["together"] if "together" in set(table["rule"]) else []
    words = named | {"together": say("active rules together"), "model": say("the model")}
    k = e.decision["alerts_per_day"]
    intro = say(
        "A rule is judged twice: alone, and by what is left once the model has had its {k} cases a day, for much of "
        "what a rule catches the model has caught already. A case is a customer on a day; one payment on which a rule "
        "fires has the whole case reviewed. Every alert is counted as a reviewed case, whatever the rule asks for.",
        k=k,
    )
    picture_text = say(
        "Each rule alone and on top of the model, and the change when its cases come first within the {k} a day. A "
        "dotted line says between what a figure of 1 to 9 frauds lies; few stands where not even that is shown.",
        k=k,
    )
    blocks: list[Any] = [Prose(intro), Prose(_added(table, together, active)), _book(book)]
    if book.get("told"):
        blocks.append(Prose(say("The version needs a look: {told}.", told=foreign(str(book["told"])))))
    blocks += _unmeasured(table, named)
    blocks.append(Figure(plots.rules_backtest(table, drawn), picture_text))
    blocks += _measured(table, [*active, *together], words, k)
    if shadow:
        said = say("Shadow rules are measured like the others and never acted on.")
        blocks.append(Group(say("Shadow rules"), [Prose(said), *_measured(table, shadow, words, k)]))
    if e.rules_overlap is not None and len(e.rules_overlap):
        blocks.append(Group(say("What rules have in common"), _overlap(e.rules_overlap, words, drawn)))
    blocks += [_wording(book, named), Prose(_left_out(table))]
    return Section("rules", title, blocks)


def _added(table: pd.DataFrame, together: Sequence[str], active: Sequence[str]) -> str:
    """Say in a sentence what the active rules add to the model."""
    name = next(iter([*together, *active]), None)
    found = table[(table["rule"] == name) & (table["view"] == "beside")].set_index("metric")
    if found.empty:
        return say("No active rule was measured beside a model.")
    cases, frauds = found.loc["alerts_per_day"], found.loc["recall"]
    if pd.isna(cases["value"]) or (pd.isna(frauds["value"]) and pd.isna(frauds["high"])):
        return say("What the active rules add to the model is too little to be shown.")
    if pd.isna(frauds["value"]):
        return say(
            "The active rules add {cases} cases a day to the model's and catch at most {most} more of the frauds.",
            cases=_text("alerts_per_day", cases["value"]),
            most=share(frauds["high"]),
        )
    return say(
        "The active rules add {cases} cases a day to the model's and catch {frauds} more of the frauds (95 % interval "
        "{low} to {high}).",
        cases=_text("alerts_per_day", cases["value"]),
        frauds=share(frauds["value"]),
        low=share(frauds["low"]),
        high=share(frauds["high"]),
    )


def _unmeasured(table: pd.DataFrame, named: dict[str, str]) -> list[Bullets]:
    """Say which rules could not be measured, and why: they do not fit this run's columns."""
    why = table[(table["metric"] == "alerts_per_day") & table["note"].astype("str").str.startswith("not applicable")]
    items = [
        say("{rule} was not measured: {why}.", rule=named[row.rule], why=foreign(row.note.partition(": ")[2]))
        for row in why.itertuples()
        if row.rule in named
    ]
    return [Bullets(items)] if items else []


def _book(book: dict[str, Any]) -> Facts:
    status = [rule["status"] for rule in book["rules"]]
    counted = say(
        "{active} active, {shadow} shadow, {retired} retired",
        active=status.count("active"),
        shadow=status.count("shadow"),
        retired=status.count("retired"),
    )
    return Facts(
        [
            (say("Rule book"), foreign(provided(book["name"]))),
            (say("Version"), provided(book["version"])),
            (say("Rules"), counted),
            (say("Rules (sha-256)"), provided(book["digest"])),
        ]
    )


def _measured(table: pd.DataFrame, names: Sequence[str], words: dict[str, str], k: int) -> list[Table]:
    """Return the table of the rules alone and, where there is a model, what they add to it and change in it."""
    cells = table.drop_duplicates(["rule", "view", "metric"]).set_index(["rule", "view", "metric"])
    names = [name for name in names if name in set(table["rule"])]

    def row(name: str, figures: Sequence[tuple[str, str]]) -> list[str | Cell]:
        action = next(iter(table.loc[table["rule"] == name, "action"]))
        asks = "" if action == "none" else term(str(action).replace("_", " "))
        return [Cell(words[name], asks), *(_figure(cells, (name, *key)) for key in figures)]

    alone = ("payments_per_day", "alerts_per_day", "precision", "recall", "customers_bothered", "net_saved_per_day")
    alone += ("unknown_share",)
    head = (
        say("Rule, and what it asks for"),
        say("Payments a day"),
        say("Cases a day"),
        say("Fraud among them"),
        say("Frauds caught"),
        say("Genuine customers bothered"),
        say("Saved a day"),
        say("Could not tell"),
    )
    rows = [row(name, [("alone", metric) for metric in alone]) for name in names]
    note = say(
        "Could not tell: share of the payments for which a value the rule needs is missing; it does not fire there"
    )
    tables = [Table(say("Each rule alone"), head, rows, "l" + "r" * len(alone), note)]
    if not (table["view"] == "beside").any():
        return tables
    added = ("alerts_per_day", "precision", "recall", "customers_bothered", "net_saved_per_day")
    head = (
        say("Rule, and what it asks for"),
        say("More cases a day"),
        say("Fraud among these"),
        say("More frauds caught"),
        say("More customers bothered"),
        say("More saved a day"),
    )
    rows = [row(name, [("beside", metric) for metric in added]) for name in names]
    note = say(
        "Below each value its 95 % interval over customers. Where 1 to 9 frauds make a figure, it lies between the two "
        "given; smaller groups, and what would give them away, are not shown"
    )
    title = say("On top of the model's {k} cases a day", k=k)
    tables.append(Table(title, head, rows, "l" + "r" * len(added), note))
    moved = ("displaced_per_day", "recall", "customers_bothered", "net_saved_per_day")
    head = (
        say("Rule, and what it asks for"),
        say("Model's cases displaced a day"),
        say("Frauds caught, change in points"),
        say("Customers bothered, change"),
        say("Saved a day, change"),
    )
    rows = [row(name, [("within", metric) for metric in moved]) for name in names]
    note = say("The effort stays the same: what a rule alerts is reviewed first, and the model fills what is left")
    title = say("First within the {k} cases a day", k=k)
    return [*tables, Table(title, head, rows, "l" + "r" * len(moved), note)]


def _figure(cells: pd.DataFrame, key: tuple[str, str, str]) -> str | Cell:
    if key not in cells.index:
        return ABSENT
    view, metric = key[1:]
    value, low, high = cells.loc[key, ["value", "low", "high"]].astype(float)
    note = str(cells.loc[key, "note"])
    if pd.isna(value):
        if note.startswith(FEW_FRAUDS) and pd.notna(high):
            return Cell(span(_text(metric, low, view), _text(metric, high, view)), say("1 to 9 frauds"))
        if note.startswith("not applicable"):
            return say("not applicable")
        if metric == "alerts_per_day" and note.endswith("fewer than 10 cases"):
            return Cell(say("fewer than {n}", n=plots.SMALLEST_CELL), say("in all"))
        if metric == "alerts_per_day" and note.endswith("those of the rule alone"):
            return Cell(say("nearly as alone"), say("the model has few of them"))
        return say("not shown")
    spread = pd.notna(high) and low < high  # of nothing found a bootstrap knows no interval
    small = span(_text(metric, low, view), _text(metric, high, view)) if spread else ""
    return Cell(_text(metric, value, view), small)


def _text(metric: str, value: float, view: str = "") -> str:
    changed = view == "within" and metric != "displaced_per_day"
    if metric in _SHARES:
        return plots.points(value) if changed else share(value)
    if metric == "net_saved_per_day":
        return ("+" if changed and round(value) > 0 else "") + money(value)
    if metric == "customers_bothered":
        return ("+" if changed and round(value) > 0 else "") + f"{value:,.0f}".replace("-", "−")
    return spoken(f"{value:,.1f}")


def _overlap(table: pd.DataFrame, words: dict[str, str], drawn: dict[str, str]) -> list[Any]:
    caption = say(
        "Read along a row: of this rule's cases, the share that the rule (or the model) of the column has as well. Two "
        "rules that share nearly all say the same; a rule whose cases the model has anyway adds nothing."
    )
    blocks: list[Any] = [Figure(plots.rules_overlap(table, drawn), caption)]
    model = table[(table["second"] == "model") & (table["first"] != "model")]
    if len(model):
        rows = [
            (
                words.get(row.first, row.first),
                count(row.cases),
                say("not shown") if pd.isna(row.both) else count(row.both),
                say("not shown") if pd.isna(row.both) else share(row.share),
            )
            for row in model.itertuples()
        ]
        head = (say("Rule"), say("Cases"), say("Also the model's"), say("Share"))
        blocks.append(Table(say("Cases of each rule that the model has as well"), head, rows, "lrrr"))
    return blocks


def _wording(book: dict[str, Any], named: dict[str, str]) -> Group:
    """Return the rules as they were written: what fires them, since when, who answers for them, why."""
    rows = [
        (
            Cell(named[rule["id"]], foreign(rule["id"])),
            term(rule["status"]),
            foreign(" ".join(str(rule["expression"]).split())),
            Cell(day(rule["since"]), foreign(rule["owner"])),
            foreign(rule["why"]),
        )
        for rule in book["rules"]
    ]
    head = (say("Rule"), say("Status"), say("Fires when"), say("Since, and who answers for it"), say("Why"))
    return Group(say("The rules in words"), [Table(say("Rules as written"), head, rows, "lllll")])


def _left_out(table: pd.DataFrame) -> str:
    """Say on what the rules were measured and what was left out."""
    found = table[table["rule"] == "payments"].set_index("metric")["value"]
    late, unknown = (
        say("fewer than {n}", n=plots.SMALLEST_CELL) if pd.isna(found.get(metric)) else count(found.get(metric))
        for metric in ("left_out_immature", "left_out_unlabelled")
    )
    return say(
        "Measured on {n} payments of the test part whose labels are mature. Left out: {late} whose label delay had not "
        "passed, {unknown} without a known label. No rule was fitted or chosen here.",
        n=count(table["n"].max()),
        late=late,
        unknown=unknown,
    )
