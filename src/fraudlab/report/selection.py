"""The part of the data section about who was ever looked at: where labels come from, and what random checks say."""

from __future__ import annotations

from typing import Any

import pandas as pd

from fraudlab.report.blocks import ABSENT, Cell, Prose, Table, count, not_available, share, span
from fraudlab.report.evidence import Evidence
from fraudlab.report.language import retold, say


def looked_at(e: Evidence) -> list[Any]:
    """Say where the labels come from, what that leaves unseen, and how much of it random checks have found."""
    blocks: list[Any] = []
    if e.label_sources is None:
        blocks.append(not_available("label_sources.csv"))
    elif len(e.label_sources):
        blocks += [_sources(e.label_sources), Prose(_told(e.label_sources))]
    if e.blind_side is None:
        return [*blocks, not_available("blind_side.csv")]
    if e.blind_side.empty:
        return blocks
    if not (e.blind_side["n"] > 0).any():
        said = retold(str(e.blind_side["note"].iloc[0]))
        return [*blocks, Prose(say("What the model does not list: {said}.", said=said))]
    return [*blocks, _blind_side(e.blind_side)]


def _sources(table: pd.DataFrame) -> Table:
    names = {
        "source: fraud": (say("The source reports fraud"), say("the customer or the bank complained")),
        "source: genuine": (say("The source says genuine"), say("nobody had complained by then")),
        "review": (say("A review"), say("of a case that a model listed")),
        "random": (say("A random check"), say("of a case drawn by chance")),
        "pattern": (say("A pattern"), say("of unusual payments, confirmed by an analyst")),
        "chargeback": (say("A chargeback"), say("brought in later")),
        "not known": (say("Not known yet"), say("the label is still to come")),
    }
    rows = [
        (Cell(*names[row.group]), count(row.n), say("not shown") if pd.isna(row.value) else share(row.value))
        for row in table[table["metric"] == "label_share"].itertuples()
    ]
    head = (say("The label comes from"), say("Payments"), say("Of all"))
    return Table(say("Where the labels come from"), head, rows, "lrr")


def _told(table: pd.DataFrame) -> str:
    by = table[table["metric"] == "label_share"].set_index("group")["n"]
    looked_at = by.drop(["source: fraud", "source: genuine", "not known"])
    reviewed = not (looked_at.fillna(1) == 0).all()
    if not reviewed:
        return say(
            "No label comes from a review: which payments investigators looked at has no say in which are labelled. A "
            "fraud that nobody reported counts as genuine."
        )
    looked = table[table["metric"] == "looked_at"].set_index("group")["value"]
    listed, others = (
        say("not shown") if pd.isna(looked[group]) else share(looked[group]) for group in ("listed", "not listed")
    )
    said = say(
        "Reviewed payments were chosen by a model and are no fair sample: {listed} of the payments that it listed have "
        "an outcome, and {others} of all others. Payments nobody looked at stay in the training with what the source "
        "says of them.",
        listed=listed,
        others=others,
    )
    return said + say(" ") + say("Each label counts alike in training, whoever gave it.")


def _blind_side(table: pd.DataFrame) -> Table:
    names = {
        "random_checks": (say("Random checks that are decided"), say("of cases drawn by chance")),
        "frauds_found": (say("Frauds among them"), ""),
        "frauds_per_10000": (say("Frauds among 10,000 cases not listed"), say("estimated")),
        "hidden_frauds": (say("Cases of fraud not listed on these days"), say("estimated")),
        "queue_recall": (say("Share of all cases of fraud that the queue lists"), say("known ones and the estimate")),
        "queue_precision": (say("Share of listed cases that are fraud"), say("of those decided")),
    }
    rows = []
    for row in table.itertuples():
        words = share if row.metric in ("queue_recall", "queue_precision", "random_checks") else _number
        value = say("not shown") if pd.isna(row.value) else words(row.value)
        ends = ABSENT if pd.isna(row.low) else span(words(row.low), words(row.high))
        rows.append((Cell(*names[row.metric]), value, ends, count(row.n), retold(str(row.note))))
    head = (say("Figure"), say("Value"), say("95 % interval"), say("Cases"), say("Note"))
    return Table(say("What random checks say of the cases that the model does not list"), head, rows, "lrrrl")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:,.1f}"
