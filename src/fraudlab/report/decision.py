"""The section about the decision: who decided what, on which rows of the gate, and what the days in shadow showed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from fraudlab.report.blocks import (
    ABSENT,
    HIDDEN,
    NOT_APPLICABLE,
    Cell,
    Facts,
    Group,
    Prose,
    Section,
    Table,
    capital,
    count,
    day,
    moment,
    money,
    provided,
    share,
    span,
)
from fraudlab.report.evidence import Evidence
from fraudlab.report.language import foreign, retold, say, term


def decision(e: Evidence) -> Section:
    """The record of the decision: its facts, the whole gate, the shadow if any, and what would have changed it."""
    d = e.decision
    by = {"the gate": say("the gate"), "hand": say("a person, by hand")}.get(d.get("by", ""), provided(None))
    facts = [
        (say("Decision"), term(d["decision"])),
        (say("Decided by"), by),
        (say("When"), moment(d["at"]) if d.get("at") else provided(None)),
        (say("Champion before"), foreign(provided(d.get("champion_before")))),
        (say("Champion after"), foreign(provided(d.get("champion_after")))),
        (say("Record (sha-256)"), provided(d.get("digest"))),
    ]
    if reason := d.get("reason"):
        facts.insert(3, (say("Reason"), retold(reason)))
    if amends := d.get("amends"):
        facts.append((say("Follows the record (sha-256)"), amends))
    blocks: list[Any] = [Facts(facts)]
    if d["gate"]:
        blocks.append(gate_table(d["gate"]))
    if told := d.get("would_change"):
        blocks.append(Prose(say("What would have changed it: {what}.", what=retold("; ".join(told)))))
    if shadow := d.get("shadow"):
        blocks.append(Group(say("In shadow"), _shadow(e, shadow), id="shadow"))
    return Section("decision", say("The decision"), blocks)


def gate_table(gate: Sequence[Mapping[str, Any]]) -> Table:
    """Table the rows of a gate: what was asked, required and found."""
    rows = [
        (
            capital(retold(check["check"])),
            capital(retold(signs(str(check["required"])))),
            retold(str(check["found"])),
            say("passed") if check["passed"] else say("failed"),
        )
        for check in gate
    ]
    head = (say("Check"), say("Required"), say("Found"), say("Result"))
    return Table(say("The promotion gate"), head, rows, "lrrl")


def signs(text: str) -> str:
    """Return a text with signs for comparisons."""
    return text.replace(">=", "≥").replace("<=", "≤")


def _shadow(e: Evidence, shadow: Mapping[str, Any]) -> list[Any]:
    days = say(
        "From {first} to {last} the challenger scores the payments of every day beside version {champion}, whose cases "
        "alone are worked on.",
        first=day(shadow.get("first_day")),
        last=day(shadow.get("last_day")),
        champion=provided(shadow.get("champion")),
    )
    if e.shadow is None:
        return [Prose(days), Prose(say("What these days showed is not here: they are not over, or it ended before."))]
    value = e.shadow.set_index(["metric", "group"])
    return [Prose(days), _flips(value), _overall(value)]


def _flips(value: pd.DataFrame) -> Table:
    held = {
        "both": say("both"),
        "champion only": say("the champion only"),
        "challenger only": say("the challenger only"),
        "neither": say("neither"),
    }
    written = {"cases": count, "amount": money, "frauds": count, "fraud_amount": money}
    rows = [
        (
            capital(said),
            *(
                HIDDEN if pd.isna(found := value.loc[(metric, group), "value"]) else write(found)
                for metric, write in written.items()
            ),
        )
        for group, said in held.items()
    ]
    head = (say("Alerted by"), say("Cases"), say("Their amount"), say("Frauds known so far"), say("Their fraud amount"))
    note = say(
        "A case is one customer on one day. Counts from 1 to 9 are not shown, nor what would give them away. Frauds of "
        "these days go on being reported"
    )
    return Table(say("Which cases flip in the shadow"), head, rows, "lrrrr", note)


def _overall(value: pd.DataFrame) -> Table:
    names = {
        "flipped_share": say("Cases that only one alerts, of those alerted by either"),
        "agreement": say("Cases held alike, of all"),
        "rank_correlation": say("Rank correlation of the scores"),
        "labels_known": say("Labels known, of the payments"),
        "days": say("Days with payments"),
    }
    rows = []
    for metric, said in names.items():
        row = value.loc[(metric, "all")]
        if pd.isna(row["value"]):
            hidden = str(row["note"]).startswith(HIDDEN)
            rows.append((said, HIDDEN if hidden else Cell(NOT_APPLICABLE), ABSENT))
            continue
        write = {"rank_correlation": "{:.3f}".format, "days": "{:,.0f}".format}.get(metric, share)
        spread = ABSENT if pd.isna(row["low"]) else span(share(row["low"]), share(row["high"]))
        rows.append((said, write(row["value"]), spread))
    head = (say("Figure"), say("Value"), say("95 % interval"))
    return Table(say("How far the two agree"), head, rows, "lrr")
