"""The sections about the data: what the model was made from, what protects the people in it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from fraudlab import plots
from fraudlab.report.blocks import (
    ABSENT,
    NOT_APPLICABLE,
    Bullets,
    Facts,
    Figure,
    Group,
    Prose,
    Section,
    Table,
    capital,
    count,
    few,
    moment,
    not_available,
    provided,
    share,
)
from fraudlab.report.evidence import TABLES, Evidence
from fraudlab.report.language import foreign, retold, say, spoken, term
from fraudlab.report.selection import looked_at

TREATMENTS = {
    "keep": "kept as it is",
    "pseudonymise": "replaced by a keyed pseudonym",
    "generalise": "made coarser",
    "mask": "identifiers in the text masked",
    "identity": "encrypted apart, in the identity file",
    "drop": "dropped at ingest",
}
BASES = {
    "consent": "consent, GDPR Article 6(1)(a)",
    "contract": "contract, GDPR Article 6(1)(b)",
    "legal-obligation": "legal obligation, GDPR Article 6(1)(c)",
    "vital-interests": "vital interests, GDPR Article 6(1)(d)",
    "public-task": "public task, GDPR Article 6(1)(e)",
    "legitimate-interest": "legitimate interest, GDPR Article 6(1)(f)",
}


def lawful_basis(e: Evidence) -> str:
    """Return the basis of the processing as the data contract states it."""
    basis = e.data.get("basis")
    return term(BASES[basis]) if basis in BASES else provided(basis)


def data(e: Evidence) -> Section:
    """What the model was made from: volume, labels, columns with their treatment, what was dropped."""
    blocks: list[Any] = [Facts(_data_facts(e))]
    if e.daily_volume is None:
        blocks.append(not_available("daily_volume.csv"))
    else:
        caption = say(
            "Payments a day and the weekly rate of fraud. Where the area ends, labels are not known yet; frauds are "
            "labelled first, so a rate over those few labels would be far too high."
        )
        blocks.append(Figure(plots.daily_volume(e.daily_volume), caption))
    blocks.append(Group(say("How mature the labels are"), _maturity(e)))
    blocks.append(Group(say("Who was looked at"), looked_at(e)))
    blocks.append(Group(say("How good the data are"), _quality(e)))
    order = [*TREATMENTS, *(column["treatment"] for column in e.data["columns"])]
    columns = [
        (
            foreign(column["name"]),
            term(provided(column.get("type"))),
            _treatment(column["treatment"]),
            foreign(", ".join(column.get("purposes") or [])) or say("none"),
            foreign(provided(column.get("meaning"))),
        )
        for column in sorted(e.data["columns"], key=lambda column: order.index(column["treatment"]))
    ]
    head = (say("Column"), say("Type"), say("Treatment"), say("Purposes"), say("Meaning"))
    blocks.append(Table(say("Columns of the contract, by treatment"), head, columns, "lllll"))
    if e.data["dropped"]:
        caption = say("Columns of the source that the contract does not declare: dropped and counted")
        dropped = [(foreign(row["column"]), count(row["non_null"])) for row in e.data["dropped"]]
        blocks.append(Table(caption, (say("Column"), say("Values dropped")), dropped, "lr"))
    else:
        blocks.append(Prose(say("The source held no column that the contract does not declare.")))
    return Section("data", say("Data"), blocks)


def _treatment(key: str) -> str:
    return term(TREATMENTS.get(key, key))


def _data_facts(e: Evidence) -> list[tuple[str, str]]:
    d = e.data
    frauds = count(d["frauds"])
    if d["frauds"] >= plots.SMALLEST_CELL:
        frauds = say("{n} ({share} of the labelled)", n=frauds, share=share(d["frauds"] / d["labelled"]))
    source = retold(provided(d.get("source")))
    facts = [
        (say("Data set"), say("{name} (source: {source})", name=foreign(d["dataset"]), source=source)),
        (say("Period"), say("{low} to {high}", low=moment(d["first"]), high=moment(d["last"]))),
        (say("Known as of"), moment(e.run["as_of"]) if e.run.get("as_of") else say("everything held")),
        (say("Payments"), count(d["rows"])),
        (say("Customers"), count(d["customers"])),
        (say("Merchants"), say("no such column") if d.get("merchants") is None else count(d["merchants"])),
        (say("With a known label"), count(d["labelled"])),
        (say("Label not known yet"), count(d["unlabelled"])),
        (say("Frauds"), frauds),
    ]
    facts.append((say("Data (sha-256)"), provided(d["digest"])))
    facts.append((say("Contract (sha-256)"), provided(d.get("contract_digest"))))
    return facts


def _maturity(e: Evidence) -> list[Any]:
    """How soon labels come, against the time that the split waits for them."""
    blocks: list[Any] = []
    waits = e.setting("split", "delay_days")
    facts = [(say("The split waits for labels, days"), NOT_APPLICABLE if waits is None else f"{waits:g}")]
    if delay := e.data.get("label_delay_days"):
        said = say(
            "half within {median}, 90 % within {p90}, longest {longest}",
            median=f"{delay['median']:.1f}",
            p90=f"{delay['p90']:.1f}",
            longest=f"{delay['max']:.1f}",
        )
        facts.append((say("Days until a label is known"), said))
    blocks.append(Facts(facts))
    if e.label_maturity is None:
        blocks.append(not_available("label_maturity.csv"))
    else:
        caption = say(
            "How soon frauds are reported, among payments old enough for their reports to have arrived. That a payment "
            "was genuine is known only after waiting: the split uses no label before its time."
        )
        blocks.append(Figure(plots.label_maturity(e.label_maturity, waits), caption))
    return blocks


def _quality(e: Evidence) -> list[Any]:
    """What is missing in each column that was loaded, how its values lie, how many payments repeat another."""
    blocks: list[Any] = [
        Prose(
            say(
                "The contract is enforced at ingest: a missing or repeated transaction number, an empty time or "
                "customer, a negative amount, a value of the wrong type or out of its bounds stops the whole load, so "
                "none of these is in the data."
            )
        )
    ]
    if e.data_quality is None:
        return [*blocks, not_available("data_quality.csv")]
    rows = [
        (
            foreign(row.column),
            say("not shown") if pd.isna(row.missing) else share(row.missing),
            ABSENT if pd.isna(row.distinct) else f"{row.distinct:,.0f}",
            *(
                ABSENT if pd.isna(value) else f"{value:,.2f}".replace("-", "−")
                for value in (row.low, row.median, row.high)
            ),
            "" if pd.isna(row.note) else retold(str(row.note)),
        )
        for row in e.data_quality.itertuples()
        if row.column != "(payments)"
    ]
    head = (
        say("Column"),
        say("Missing"),
        say("Different values"),
        spoken("1 %"),
        say("Median"),
        spoken("99 %"),
        say("Note"),
    )
    blocks.append(Table(say("What the loaded columns hold"), head, rows, "lrrrrrl"))
    repeated = e.data_quality.loc[e.data_quality["column"] == "(payments)", "note"]
    if len(repeated):
        blocks.append(Prose(capital(retold(str(repeated.iloc[0]))) + say(".")))
    return blocks


def privacy(e: Evidence) -> Section:
    """What personal data was used, how it was protected, what this report leaves out."""
    treated: dict[str, list[str]] = {}
    for column in e.data["columns"]:
        treated.setdefault(column["treatment"], []).append(column["name"])
    used = e.data["purpose_columns"]
    facts = [
        (say("Purpose"), foreign(provided(e.data["purpose"]))),
        (say("Lawful basis in the data contract"), lawful_basis(e)),
        (say("Columns loaded for it"), say("{n}: {names}", n=len(used), names=foreign(", ".join(used)))),
    ]
    facts += [(capital(_treatment(key)), foreign(", ".join(names))) for key, names in treated.items() if key != "keep"]
    undeclared = foreign(", ".join(row["column"] for row in e.data["dropped"])) or say("none")
    facts.append((say("Undeclared, never left ingest"), undeclared))
    rules = [
        say(
            "Payments with pseudonyms remain personal data: whoever holds the key, or knows a few payments of a "
            "customer, can recognise that customer. This report is for people bound to confidentiality."
        ),
        say("Pseudonyms are keyed and differ per column; no raw identifier is part of the data the model saw."),
        say("Example alerts carry no identifier and no pseudonym."),
    ]
    groups = [
        Group(say("How far single customers stand out"), _anonymity(e)),
        Group(say("What the model remembers"), _memory(e)),
        Group(say("What is not shown"), _suppressed(e)),
    ]
    return Section("privacy", say("Privacy"), [Facts(facts), Bullets(rules), *groups])


def _anonymity(e: Evidence) -> list[Any]:
    """The anonymity of what somebody may know of a person: k, l and t."""
    if e.anonymity is None:
        return [not_available("anonymity.csv")]
    rows = []
    for row in e.anonymity.itertuples():
        t = ABSENT if pd.isna(row.t_closeness) else f"{row.t_closeness:.3f}"
        rows.append(
            (
                term(str(row.unit)),
                count(row.units),
                f"{row.k_anonymity:,}",
                share(row.share_alone),
                share(row.share_below),
                ABSENT if pd.isna(row.distinct_l) else f"{row.distinct_l:,.0f}",
                t,
            )
        )
    head = (
        say("Counted in"),
        say("Number"),
        say("Smallest group (k)"),
        say("Alone"),
        say("In groups below {k}", k=plots.SMALLEST_CELL),
        say("Fraud or not in a group (l)"),
        say("Largest distance (t)"),
    )
    columns = str(e.anonymity["columns"].iloc[0]).replace(" ", ", ") if len(e.anonymity) else ""
    said = say(
        "Whoever knows {columns} of a person finds them in a group of so many who agree in all of it. k is the "
        "smallest group, l the number of different answers to the question of fraud in the least mixed group, t how "
        "far the rate of fraud of a group lies from that of all (0: nothing is learnt from the group). Amounts and "
        "times single nearly everybody out, so the payments stay personal data whatever these figures say.",
        columns=foreign(columns),
    )
    return [Prose(said), Table(say("Anonymity of the coarse personal columns"), head, rows, "lrrrrrr")]


def _memory(e: Evidence) -> list[Any]:
    """Say how well the model's stated risks tell whom it learnt from."""
    if e.membership is None:
        return [not_available("membership.csv")]
    rows = [
        (
            capital(term(row.group)),
            count(row.members),
            count(row.others),
            NOT_APPLICABLE if pd.isna(row.auc) else f"{row.auc:.3f}",
            "" if pd.isna(row.note) else retold(str(row.note)),
        )
        for row in e.membership.itertuples()
    ]
    said = say(
        "Does the model remember single payments? Whoever knows a payment and its label sees from the stated risk how "
        "surprised the model is, and guesses that the payments which surprise it least were in its training. 0.5: the "
        "guess is worth nothing; 1: it is always right. The frauds count most, because they are few."
    )
    head = (say("Payments"), say("Learnt from"), say("Not learnt from"), say("Guess (AUC)"), say("Note"))
    return [Prose(said), Table(say("What the model gives away of whom it learnt from"), head, rows, "lrrrl")]


def _suppressed(e: Evidence) -> list[Any]:
    """The rules of small numbers, and how many cells of this run's evidence they hid."""
    rule = say(
        "Tables about payments and people do not show counts from 1 to 9, nor rates that would give them away; where "
        "one hidden count could be worked out from a total, a second one is hidden. Groups of stated risk are joined "
        "until each holds no frauds or at least 10, alert budgets that differ by fewer frauds are left out, frauds are "
        "counted by the week. Curves and the precision of the daily list describe the model's scores, not people with "
        "a common trait, and are shown as measured."
    )
    hidden = hidden_cells(e)
    if not hidden:
        return [Prose(rule), Prose(say("No line of this run's evidence had to be hidden."))]
    rows = [(foreign(name), f"{lines:,}") for name, lines in hidden.items()]
    table = Table(say("Lines of the evidence that small numbers hide"), (say("File"), say("Lines")), rows, "lr")
    return [Prose(rule), table]


def hidden_cells(e: Evidence) -> dict[str, int]:
    """Count, for each file of evidence that has any, the lines of which a small number hides something.

    A line counts where its note says "not shown", or where a count of payments, frauds or people is missing.
    """
    counted = ("transactions", "frauds", "members", "others", "observed")
    found = {}
    for name in TABLES:
        table = getattr(e, name, None)
        if table is None or not len(table) or name == "daily_volume":  # there a week stands on its first day
            continue
        hidden = pd.Series(False, index=table.index)
        if "note" in table:
            hidden |= table["note"].astype("str").str.contains("not shown", regex=False)
        for column in counted:
            if column in table:
                hidden |= table[column].isna()
        if hidden.any():
            found[f"{name}.csv"] = int(hidden.sum())
    parts = sum(any(few(part.get(key)) for key in ("transactions", "frauds", "customers")) for part in e.fold["parts"])
    return found | ({"fold.json": parts} if parts else {})


def data_protection(e: Evidence) -> Section:
    """Purposes, minimisation and retention, as far as the evidence tells; the papers tell the rest."""
    columns, mine = e.data["columns"], provided(e.data["purpose"])
    purposes = dict.fromkeys([mine, *(name for column in columns for name in column.get("purposes") or [])])
    rows = []
    for name in purposes:
        allowed = [column for column in columns if name in (column.get("purposes") or [])]
        apart = sum(column["treatment"] in ("identity", "drop") for column in allowed)
        rows.append((foreign(name), str(len(allowed) - apart), str(apart), say("this model") if name == mine else ""))
    head = (say("Purpose"), say("Columns it may load"), say("Kept apart, for look-ups"), "")
    used = len(e.data["purpose_columns"])
    facts = [
        (say("Lawful basis in the data contract"), lawful_basis(e)),
        (say("Left out for the customers' sake"), _left_out(e.data.get("left_out"))),
        (say("Not declared, dropped at ingest"), say("{n} columns of the source", n=len(e.data["dropped"]))),
        (say("Loaded for this purpose"), say("{n} of {all} columns", n=used, all=len(columns))),
        (say("Kept for this purpose at most"), _retention(e)),
    ]
    papers = say(
        "Record of processing, impact assessment, minimisation, notice and retention: `fraudlab privacy papers` makes "
        "them from the vault, the ledger and the registered models."
    )
    blocks = [Facts(facts), Table(say("Purposes"), head, rows, "lrrl"), Prose(papers)]
    return Section("data-protection", say("Data protection"), blocks)


def _left_out(left_out: dict[str, Any] | None) -> str:
    """Say how many customers, with how many payments, the ledger left out of the load, and for which reasons."""
    if left_out is None:
        return provided(None)
    if left_out["customers"] == 0:
        return say("nobody")
    said = say(
        "{customers} customers with {rows} payments",
        customers=count(left_out["customers"]),
        rows=count(left_out.get("rows", 0)),
    )
    why = ", ".join(say("{reason}: {n}", reason=term(reason), n=count(n)) for reason, n in left_out["why"].items())
    return say("{said} ({why})", said=said, why=why) if why else said


def _retention(e: Evidence) -> str:
    """Say the limit, and how old the oldest payment was when the run was made."""
    days = e.data.get("retention_days")
    if days is None:
        return provided(None)
    oldest, made = (pd.to_datetime(value, utc=True, errors="coerce") for value in (e.data["first"], e.run["created"]))
    if pd.isna(oldest) or pd.isna(made):
        return say("{n} days", n=f"{days:,}")
    age = max((made - oldest).days, 0)
    said = say("{n} days; the oldest payment had {age} when this was made", n=f"{days:,}", age=f"{age:,}")
    return say("{said}: past its time, see `fraudlab privacy papers`", said=said) if age > days else said
