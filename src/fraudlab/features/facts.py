"""Which features of a set know something more about the same thing: facts that are added to each other's reasons.

"First payment by this customer on this device" says more with "3 other customers used it within 30 days", a count that
is a feature of its own. The fact is read from the same payment's features, whether or not it moved the score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fraudlab.features.words import Words, duration, noun, noun_zh, wording


def with_facts(specs: Sequence[Any], words: Sequence[Words], lang: str = "en") -> list[Words]:
    """Add to the templates what other features of the same set know about the same thing.

    Parameters
    ----------
    specs : of the set, in its order.
    words : of their columns, in the same order.

    Returns
    -------
    The words; a template may end in parts such as "[; {customer_id__since_last} since the previous payment]", where the
    name in braces is the other column, less 1 where "-1" follows.
    """
    items = [
        (spec, window, column)
        for spec in specs
        for column, window in zip(spec.columns, getattr(spec, "window", None) or (None,))
    ]
    by_statistic: dict[str, list[tuple[Any, str | None, str]]] = {}
    for item in items:
        by_statistic.setdefault(item[0].statistic, []).append(item)
    told = []
    for (spec, window, _), word in zip(items, words):
        parts = [
            wording()["fact"][name][lang].format_map(known | {"fact": f"{{{column}}}"})
            for name, column, known in _siblings(spec, window, by_statistic, lang)
            if not set(column) & set("[]{}")  # signs that mean something in a template
        ]
        told.append(word._replace(template="".join([word.template, *(f"[{part}]" for part in parts)])))
    return told


def _siblings(spec: Any, window: Any, others: Mapping[str, list], lang: str) -> list[tuple[str, str, dict[str, str]]]:
    """Return (name of the fact, column, words) of what other features add to a reason."""

    def alike(statistic: str, *same: str, windows: bool = True) -> list[tuple[Any, str | None, str]]:
        return [
            (other, width, column)
            for other, width, column in others.get(statistic, ())
            if (not windows or width == window) and all(getattr(other, key) == getattr(spec, key) for key in same)
        ]

    statistic, found = spec.statistic, []
    if statistic in ("distance", "speed"):
        if statistic == "speed":
            found += [("distance", column, {}) for *_, column in alike("distance", "by")[:1]]
        found += [("previous", column, {}) for *_, column in alike("since_last", "by")[:1]]
    elif statistic == "since_last":
        found += [("distance", column, {}) for *_, column in alike("distance", "by")[:1]]
    elif statistic == "ratio":
        # The mean with the present payment included is not what the ratio divides by.
        means = alike("mean", "by", "value", "where", "delay", "last")
        found += [("usual", column, {}) for other, _, column in means if not other.include_current]
    elif statistic in ("zscore", "percentile"):
        # What is usual may be told over another stretch of time, which the words then name.
        ratios = alike("ratio", "by", "value", "where", "delay", "last", windows=False)
        found += [("times", column, {"span": duration(width, lang)}) for _, width, column in ratios[:1]]
    elif statistic == "decayed_count":
        half, such = spec.microseconds("half_life"), "such " if spec.where else ""
        for other, width, column in alike("count", "by", "where", windows=False):
            if not (found or other.delay or other.include_current) and _length(other, width) >= half:
                found.append(("counted", column, {"span": duration(width, lang), "such": such}))
    elif statistic == "count":
        totals = alike("total", "by", "where", "delay", "include_current")
        found += [("total", column, {}) for other, _, column in totals if other.value == "amount" and not other.last]
    elif statistic == "frauds" and not (spec.delay or spec.last):
        since = alike("since_fraud", "by", "delay", windows=False)
        reach = _length(spec, window)
        longer = [column for other, width, column in since if _length(other, width) >= reach]
        found += [("since_fraud", column, {}) for column in longer[:1]]
    elif statistic == "risk" and not spec.last:
        found += [("frauds", column, {}) for *_, column in alike("frauds", "by", "delay", "last")[:1]]
    elif statistic == "linked":
        found += [("linked_frauds", column, {}) for *_, column in alike("linked_frauds", "value", "through")[:1]]
    elif statistic == "is_new" and len(spec.by) == 1:
        found += _others(spec, others.get("distinct", ()), lang)
    return found


def _others(spec: Any, counts: Sequence[tuple[Any, str, str]], lang: str) -> list[tuple[str, str, dict[str, str]]]:
    """Return who else there was behind what is new for someone, over the shortest window that tells."""
    (whom,) = spec.by
    there = [
        (other, width, column)
        for other, width, column in counts
        if other.by == (spec.value,) and other.value == whom and not (other.where or other.delay or other.last)
    ]
    if not there:
        return []
    other, width, column = min(there, key=lambda item: _length(*item[:2]))
    if lang == "zh":
        one, measure, _ = noun_zh(whom)
        known = {"one": one, "measure": measure, "within": f"过去{duration(width, 'zh')}内"}
    else:
        did = "paid there" if noun(spec.value)[2] in ("at", "in") else "used it"
        known = {"many": noun(whom)[1], "did": did, "within": f"within {duration(width)}"}
    # Whoever pays is among those counted where the present payment is, and not before: it is new for them.
    return [("others", f"{column}-1" if other.include_current else column, known)]


def _length(spec: Any, window: str) -> int:
    return spec.spans[spec.window.index(window)].width
