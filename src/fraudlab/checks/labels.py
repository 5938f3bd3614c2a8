"""Checks of what is learnt from and judged by: are the labels in, are there enough frauds, are the parts apart?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from fraudlab.checks.finding import Answer, named, not_applicable
from fraudlab.metrics import SMALLEST_CELL

MOST_LATE = 0.10
"""Share of a part's frauds that may still be unreported. Each one counts as genuine or is left out, so that recall is
too high and precision too low by about as much; a tenth is less than the intervals of a test of a hundred frauds."""

FEWEST_VICTIMS = 20
"""Intervals draw customers anew; with fewer than about 20 of them that carry the frauds they are known to be too narrow
(Cameron, Gelbach and Miller 2008, doi:10.1162/rest.90.3.414), and a calibration or threshold rests on a handful."""

MOST_COPIED = 0.01
"""Share of the test's frauds whose inputs may equal those of a training fraud to the last bit."""


def mature(transactions: pd.DataFrame, parts: Mapping[str, tuple[Any, Any]], most: float = MOST_LATE) -> Answer:
    """Fail when many frauds of a part were not reported yet when its labels were read.

    Parameters
    ----------
    transactions : event_time, is_fraud, label_time (both moments with a zone).
    parts : name -> (row positions, the moment at which its labels were read).
    most : share of a part's frauds that may be unreported.

    Returns
    -------
    Answer; the table has a row per part: part, read_at, expected_late (share 0 to 1; missing with the reason in note).

    Notes
    -----
    How long reports take is read off the frauds that happened in the older half of the time known, so that few of
    these are missing themselves; a fraud takes its place in each part by the age of its payments when labels were read.
    A share is what is expected, not counted: nobody can count what was not reported.

    >>> day = pd.to_datetime("2026-01-01", utc=True) + pd.to_timedelta(range(40), unit="D")
    >>> frame = pd.DataFrame({"event_time": day, "is_fraud": True, "label_time": day + pd.Timedelta(days=5)})
    >>> mature(frame, {"test": (np.arange(20, 40), day[-1] + pd.Timedelta(days=1))})[1]
    'About 20 % of the frauds of the test were not reported yet when its labels were read; the limit is 10 %.'
    """
    columns = ("part", "read_at", "expected_late", "note")
    event = transactions["event_time"].dt.as_unit("us").astype("int64").to_numpy()
    fraud = transactions["is_fraud"].fillna(False).to_numpy(dtype=bool)
    told = transactions["label_time"]
    dated = told.notna().to_numpy()
    if not (fraud & dated).any():
        return not_applicable("The data do not say when frauds became known.", columns)
    known = told.dt.as_unit("us").astype("int64").to_numpy()
    until = max(int(event.max()), int(known[dated].max()))
    older = event <= event.min() + (until - event.min()) // 2
    seen = fraud & dated & older
    if seen.sum() < SMALLEST_CELL:
        return not_applicable("Too few frauds of the older half tell how long reports take.", columns)
    delays = np.sort(np.maximum(known[seen] - event[seen], 0))
    rows = []
    for part, (where, read_at) in parts.items():
        age = pd.Timestamp(read_at).value // 1000 - event[where]
        late, note = np.nan, "not applicable: the part has no payments"
        if len(age):
            late, note = float(1 - np.searchsorted(delays, age, side="right").mean() / len(delays)), ""
        rows.append((part, pd.Timestamp(read_at), late, note))
    table = pd.DataFrame(rows, columns=list(columns))
    judged = table.dropna(subset="expected_late")
    if judged.empty:
        return "not applicable", "No part has payments.", table
    worst = judged.loc[judged["expected_late"].idxmax()]
    said = (
        f"About {worst['expected_late']:.0%} of the frauds of the {worst['part']} were not reported yet when its "
        f"labels were read; the limit is {most:.0%}."
    ).replace("%", " %")
    return ("failed" if worst["expected_late"] > most else "passed"), said, table


def enough(parts: Mapping[str, tuple[Any, Any]], fewest: int = FEWEST_VICTIMS) -> Answer:
    """Fail when a part holds the frauds of too few customers to learn from or to judge by.

    Parameters
    ----------
    parts : name -> (0/1 labels, whose payment each is) of the same rows; parts without rows are left out.
    fewest : customers with a fraud that each part must have.

    Returns
    -------
    Answer; the table has a row per part: part, frauds, victims (customers with a fraud), required. It counts people
    and stays in the run.

    >>> enough({"test": ([1, 1, 0], ["a", "b", "c"])}, fewest=2)[:2]
    ('passed', 'Every part holds the frauds of at least 2 customers.')
    """
    rows = []
    for part, (y, entity) in parts.items():
        fraud = np.asarray(y, dtype=bool)
        if len(fraud):
            rows.append((part, int(fraud.sum()), int(pd.Series(np.asarray(entity)[fraud]).nunique()), fewest))
    table = pd.DataFrame(rows, columns=["part", "frauds", "victims", "required"])
    if table.empty:
        return not_applicable("No part has payments with a known label.", table.columns)
    poor = table[table["victims"] < fewest]
    if poor.empty:
        return "passed", f"Every part holds the frauds of at least {fewest} customers.", table
    parted = " and the ".join(poor["part"])
    hold = "holds" if len(poor) == 1 else "hold"
    return "failed", f"The {parted} {hold} the frauds of fewer than {fewest} customers.", table


def apart(
    learnt: pd.DataFrame,
    test: pd.DataFrame,
    *,
    inputs: tuple[pd.DataFrame, pd.DataFrame],
    entity: str = "customer_id",
    victims_excluded: bool = True,
) -> Answer:
    """Fail when the test holds what the training has seen: the same payments, copies of its frauds, its victims.

    A customer with payments on both sides is as it should be: most are. One whose fraud the training has learnt and
    whose later payments are judged is not, because investigators know the case already.

    Parameters
    ----------
    learnt, test : transaction_id, event_time, is_fraud, label_time and the entity's column, of the two parts.
    inputs : what the model reads of the same rows, row for row.
    entity : whose victims are looked for.
    victims_excluded : whether the split leaves known victims out; where it does not, they are said but do not fail.

    Returns
    -------
    Answer; the table has a row per kind: what, of ("payments" or "frauds"), share (of the test's, 0 to 1), allowed.
    """
    if learnt.empty or test.empty:
        return not_applicable("There are no payments on one side of the split.", ("what", "of", "share", "allowed"))
    fraud = [part["is_fraud"].fillna(False).to_numpy(dtype=bool) for part in (learnt, test)]
    same = test["transaction_id"].astype(object).isin(set(learnt["transaction_id"].astype(object))).mean()
    digests = [
        pd.util.hash_pandas_object(rows[where].astype(object).where(rows[where].notna(), None), index=False)
        for rows, where in zip(inputs, fraud)
    ]
    copied = digests[1].isin(digests[0]).mean() if len(digests[1]) else 0.0
    told = learnt.loc[fraud[0], [entity, "label_time"]].dropna().groupby(entity)["label_time"].min()
    known_from = test[entity].map(told)
    known = (known_from.notna() & (known_from <= test["event_time"].dt.floor("D"))).mean()
    allowed = 0.0 if victims_excluded else 1.0
    table = pd.DataFrame(
        [
            ("the same payments", "payments", same, 0.0),
            ("frauds with the inputs of a training fraud", "frauds", copied, MOST_COPIED),
            ("payments of victims known before", "payments", known, allowed),
        ],
        columns=["what", "of", "share", "allowed"],
    )
    wrong = table[table["share"] > table["allowed"]]
    if len(wrong):
        shares = [f"{row.what} ({row.share:.1%} of its {row.of})".replace("%", " %") for row in wrong.itertuples()]
        return "failed", f"The test holds what the training has seen: {named(shares)}.", table
    kept = f"; {known:.1%} of its payments are of victims known before, which the config keeps" if known else ""
    said = f"The test holds no payment of the training, and {copied:.1%} of its frauds are copies{kept}."
    return "passed", said.replace("%", " %"), table
