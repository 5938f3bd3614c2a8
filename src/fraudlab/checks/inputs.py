"""Checks of the model's inputs: what they see, whether they last, whether they tell more than noise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fraudlab.checks.finding import Answer, named, not_applicable, reason
from fraudlab.features import FeatureSet
from fraudlab.features.audit import audit_leakage, stability, time_consistency

MOST_ALONE = 0.99
"""AUC ROC of a single feature above which it is taken for a leak until somebody has confirmed it."""

NOISE_TOP = 10
"""A planted noise feature must not be among so many first ones. Reports show the dozen strongest features and alerts
give three reasons: what ranks below noise must not get there."""


def past_only(feature_set: FeatureSet | None, transactions: pd.DataFrame, **options: Any) -> Answer:
    """Fail when a feature sees the future; options as in `audit_leakage`, which makes the table."""
    table = audit_leakage(feature_set, transactions, **options)
    leaks, open_ = (table.loc[table["verdict"] == verdict, "column"] for verdict in ("leaks", "not judged"))
    tried = f"{table['rows'].max():,} payments, with the future rewritten after {table['cuts'].max()} moments"
    if len(leaks):
        see = "sees" if len(leaks) == 1 else "see"
        return "failed", f"{len(leaks)} of {len(table)} features {see} the future: {named(leaks)}.", table
    if len(open_):
        return "not applicable", f"{len(open_)} of {len(table)} features could not be judged: {named(open_)}.", table
    return "passed", f"No value of {len(table)} features moved over {tried}.", table


def lasting(features: pd.DataFrame, y: Any, event_time: Any, **options: Any) -> Answer:
    """Fail when a feature turns round or fades; options as in `time_consistency`, which makes the table."""
    table = time_consistency(features, y, event_time, **options)
    judged = table[table["verdict"] != "not applicable"]
    if judged.empty:
        return "not applicable", f"No feature could be judged; {reason(table)}.", table
    rest = f"; {len(table) - len(judged)} not applicable" if len(table) > len(judged) else ""
    said = [
        f"{len(found)} {words}: {named(found)}"
        for verdict, words in (("turns round", "turned round"), ("fades", "faded"))
        if len(found := judged.loc[judged["verdict"] == verdict, "feature"])
    ]
    if said:
        return "failed", f"Of {len(judged)} features that tell frauds alone, {'; '.join(said)}{rest}.", table
    return "passed", f"All {len(judged)} features that tell frauds alone still do so later{rest}.", table


def steady(features: pd.DataFrame, event_time: Any, **options: Any) -> Answer:
    """Fail when the values of a feature change; options as in `stability`, which makes the table."""
    table = stability(features, event_time, **options)
    return _changed(table, "The values of {changed} of {all} features changed: {names}.")


def drifted(features: pd.DataFrame, event_time: Any, test_start: Any, **options: Any) -> Answer:
    """Fail when the test holds other values than the training: the stability index of the test as one period.

    Parameters
    ----------
    features : inputs of the training and of the test, NaN = missing. Texts are categories: they count by their rank
        among the training's payments, and one that the training does not have counts as missing.
    event_time : moments of the same rows, with a zone.
    test_start : moments from here on are the test.
    options : as in `stability`, which makes the table.
    """
    moments = pd.Series(event_time).reset_index(drop=True)
    learnt = (moments < test_start).to_numpy()
    if not learnt.any() or learnt.all():
        return not_applicable("There are no payments on one side of the test's start.")
    coded = features.reset_index(drop=True)
    for name in coded.columns:
        if not pd.api.types.is_numeric_dtype(coded[name].dtype):
            rank = {value: place for place, value in enumerate(coded.loc[learnt, name].value_counts().index)}
            coded = coded.assign(**{name: coded[name].map(rank).astype("float64")})
    table = stability(coded, moments, period=1, reference=test_start, **options)
    return _changed(table, "The test holds other values of {changed} of {all} features than the training: {names}.")


def _changed(table: pd.DataFrame, said: str) -> Answer:
    judged = table[table["reading"] != "not applicable"]
    if judged.empty:
        return "not applicable", f"No feature could be judged; {reason(table)}.", table
    worst = judged.groupby("feature", sort=False)["psi"].max().sort_values(ascending=False, kind="stable")
    changed = worst[worst.index.isin(judged.loc[judged["reading"] == "changed", "feature"])]
    if len(changed):
        return "failed", said.format(changed=len(changed), all=len(worst), names=named(changed.index)), table
    return "passed", f"The values of {len(worst)} features stayed; the largest index is {worst.iloc[0]:.2f}.", table


def hidden_answer(alone: pd.DataFrame, confirmed: Iterable[str] = (), most: float = MOST_ALONE) -> Answer:
    """Fail when a feature alone ranks the training frauds almost perfectly: it may hold the answer.

    Parameters
    ----------
    alone : feature, auc_roc: how well each ranks alone, in whichever direction.
    confirmed : features a person has looked into and found to be known before the payment.
    most : AUC ROC from which a feature is too good to be believed unseen.
    """
    if alone.empty:
        return "not applicable", "There are no features.", alone
    telling = alone.loc[alone["auc_roc"] > most, "feature"]
    found = [name for name in telling if name not in set(confirmed)]
    if found:
        tell = "tells" if len(found) == 1 else "tell"
        said = f"{len(found)} of {len(alone)} features {tell} frauds almost alone (AUC above {most:g}): {named(found)}."
        return "failed", said, alone
    best = alone.loc[alone["auc_roc"].idxmax()]
    rest = f"; {len(telling)} above {most:g} confirmed" if len(telling) else ""
    return "passed", f"The best of {len(alone)} features alone reaches an AUC of {best['auc_roc']:.3f}{rest}.", alone


def columns_agree(
    expected: Sequence[str],
    features: pd.DataFrame,
    *,
    categories: Sequence[str] = (),
    score: Callable[[pd.DataFrame], np.ndarray] | None = None,
) -> Answer:
    """Fail when the model reads other columns than the feature set gives, or minds their order.

    Parameters
    ----------
    expected : the columns the model was made from, in its order.
    features : some rows of what the feature set and the categories give.
    categories : columns that hold texts; all others hold numbers.
    score : the model; it must give the same scores, bit by bit, when the columns come in another order.

    Returns
    -------
    Answer; the table has a row per column of either side: column, expected (its place from 1, missing where it is not
    expected), found (its place), type, problem ("missing", "not read", "no numbers", "").
    """
    names = list(dict.fromkeys([*expected, *map(str, features.columns)]))
    if not len(expected):
        return not_applicable("The model reads no columns.")
    there = [str(name) for name in features.columns]
    rows = []
    for name in names:
        kind = str(features[name].dtype) if name in there else ""
        numbers = name in categories or (name in there and pd.api.types.is_numeric_dtype(features[name].dtype))
        problem = (
            "missing" if name not in there else "not read" if name not in expected else "" if numbers else "no numbers"
        )
        place = [sequence.index(name) + 1 if name in sequence else None for sequence in (list(expected), there)]
        rows.append((name, *place, kind, problem))
    table = pd.DataFrame(rows, columns=["column", "expected", "found", "type", "problem"]).astype(
        {"expected": "Int64", "found": "Int64"}
    )
    said = [
        f"{len(found)} {words}: {named(found)}"
        for problem, words in (
            ("missing", "missing"),
            ("not read", "not read by the model"),
            ("no numbers", "of no numbers"),
        )
        if len(found := table.loc[table["problem"] == problem, "column"])
    ]
    if said:
        return "failed", f"Of {len(names)} columns {'; '.join(said)}.", table
    if score is not None and not np.array_equal(score(features), score(features[features.columns[::-1]])):
        return "failed", f"The scores change when the {len(names)} columns come in another order.", table
    moved = "" if there == list(expected) else ", though in another order"
    return "passed", f"The model reads all {len(names)} columns by their names{moved}.", table


def above_noise(ranking: pd.DataFrame, top: int = NOISE_TOP) -> Answer:
    """Fail when a planted feature of noise ranks among the first features.

    Parameters
    ----------
    ranking : feature, importance (>= 0, missing: not judged), planted (bool): real features, and copies of them whose
        values were dealt out anew. A copy knows nothing about fraud: what it seems to be worth is chance.
    top : so many first places are for real features.

    Returns
    -------
    Answer; the table is the ranking, best first, with rank (from 1) and reading: "above noise", "below noise" (worth
    less than the best copy), "planted".

    References
    ----------
    Kursa and Rudnicki (2010), Feature selection with the Boruta package, doi:10.18637/jss.v036.i11, for the copies.

    >>> ranking = pd.DataFrame({"feature": ["a", "b", "a, shuffled"], "importance": [0.9, 0.1, 0.2],
    ...                         "planted": [False, False, True]})
    >>> above_noise(ranking, top=1)[1]
    'The best of 1 planted noise features ranks 2 of 3; 1 of 2 features lie below it: b.'
    """
    judged = ranking.dropna(subset="importance")
    planted = judged["planted"].astype(bool)
    if judged.empty or planted.all() or not planted.any():
        return not_applicable("No noise was planted beside real features.")
    if not judged.loc[~planted, "importance"].gt(0).any():
        return not_applicable("The small model used for this learnt nothing, so that nothing can be ranked.")
    # Of equal worth the copy comes first: a feature has to be better than noise.
    table = judged.assign(planted=planted).sort_values(
        ["importance", "planted", "feature"], ascending=[False, False, True], kind="stable", ignore_index=True
    )
    best = table.loc[table["planted"], "importance"].max()
    reading = np.where(table["importance"] > best, "above noise", "below noise")
    table = table.assign(rank=np.arange(1, len(table) + 1), reading=np.where(table["planted"], "planted", reading))
    first = int(table.loc[table["planted"], "rank"].iloc[0])
    below = table.loc[table["reading"] == "below noise", "feature"]
    real = int((~table["planted"]).sum())
    names = f": {named(below)}" if len(below) else ""
    said = (
        f"The best of {int(planted.sum())} planted noise features ranks {first} of {len(table)}; "
        f"{len(below)} of {real} features lie below it{names}."
    )
    return ("failed" if first <= min(top, real) else "passed"), said, table
