"""Say in plain sentences why a row scored as it did, from its contributions and the words of its features.

Features belong to named reasons (`features/words.toml`); a row's reasons are ranked by what their features add up to,
and each gives one sentence, filled with the facts of the row. A reason holds feature values only, never an identifier.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from fraudlab.features.words import (
    SPOKEN,
    check_language,
    format_value,
    one_or_none,
    phrase,
    points_at_someone,
    reason_codes,
)
from fraudlab.models import feature_matrix
from fraudlab.schema import InputError, did_you_mean

BASE = "base"
# Feature groups that count bad signs, in packages from before templates said so: to have none is no reason.
BAD_SIGNS = ("known fraud", "authentication", "trial payments")
# Kinds of value that have no order; an identifier is never shown.
NAMES = ("category", "identifier")
ALIKE = 0.8
"""Rank correlation from which on two features say the same."""


class Reason(NamedTuple):
    """One reason of one row: code and name of the reason, the sentence, the feature it is about, how far it pushed.

    `pushed` is the sum of the contributions of all features of the reason, in log-odds; `code` is "" where the words
    come from before there were codes.
    """

    code: str
    name: str
    sentence: str
    feature: str
    pushed: float


def unexplained(lang: str = "en") -> str:
    """Return what stands in place of reasons where a model gives none.

    >>> unexplained(), unexplained("zh")
    ('Reasons are not available for this kind of model', '此类模型无法给出原因')
    """
    return phrase("unexplained", lang)


def reasons(
    contributions: pd.DataFrame,
    X: pd.DataFrame,
    describe: pd.DataFrame,
    top: int = 3,
    *,
    whole_amounts: bool = False,
    lang: str = "en",
) -> list[list[str]]:
    """Say in plain sentences what pushed each row's score towards fraud.

    The model's strongest reasons, for an investigator to start from; they are neither proof nor complete.

    Parameters
    ----------
    contributions, X, describe, top, whole_amounts, lang : as in `tell`.

    Returns
    -------
    A list of sentences for each row, strongest first, perhaps empty; see `tell`.

    Raises
    ------
    InputError : rows do not match; `describe` lacks a feature; another language.

    >>> table = pd.DataFrame({"a": [1.5], "b": [-0.2], "base": [-3.0]})
    >>> words = pd.DataFrame({"column": ["a", "b"], "group": ["amount", "pace"], "meaning": "",
    ...                       "template": ["{value} times the customer's usual amount", "{value} payments in an hour"],
    ...                       "kind": ["ratio", "count"]})
    >>> reasons(table, pd.DataFrame({"a": [4.81], "b": [2]}), words)
    [["4.8 times the customer's usual amount"]]
    """
    told = tell(contributions, X, describe, top, whole_amounts=whole_amounts, lang=lang)
    return [[reason.sentence for reason in row] for row in told]


def tell(
    contributions: pd.DataFrame,
    X: pd.DataFrame,
    describe: pd.DataFrame,
    top: int = 3,
    *,
    whole_amounts: bool = False,
    lang: str = "en",
) -> list[list[Reason]]:
    """Return what pushed each row's score towards fraud, as named reasons with a sentence each.

    Parameters
    ----------
    contributions : rows of `contributions`.
    X : the features of the same rows, in the same order.
    describe : `FeatureSet.describe()`, or `FittedModel.words` of it; its `template` is the sentence, with `{value}`
        where the value belongs and facts of other features in [brackets].
    top : most reasons for a row.
    whole_amounts : as in `format_value`.
    lang : "en" or "zh"; words without a Chinese part are said in English.

    Returns
    -------
    A list for each row, strongest first, perhaps empty. Reasons are ranked by the sum of their features'
    contributions; each that pushes towards fraud gives one sentence, that of its strongest feature which has one. What
    is absent is no reason: a flag that is not set, a share of 0, none of the known frauds or failed authentications. A
    missing value reads "Not known for this payment: " and the feature's meaning, once a row. A fact that is unknown or
    none is left out of a sentence, as is one that another sentence of the row says already; a sentence never repeats
    what an earlier one said in passing.

    Raises
    ------
    InputError : rows do not match; `describe` lacks a feature; another language.

    >>> from fraudlab.features import FeatureSet, distinct, is_new
    >>> words = FeatureSet("tiny", [is_new("device_id", by="customer_id"),
    ...     distinct("customer_id", by="device_id", window="1w", include_current=True)]).describe()
    >>> new, others = words["column"]
    >>> table = pd.DataFrame({new: [0.9], others: [0.2], "base": [-3.0]})
    >>> [[first]] = tell(table, pd.DataFrame({new: [1], others: [4]}), words)
    >>> first.code, first.sentence
    ('R05', 'First payment by this customer on this device; 3 other customers used it within 1 week')
    >>> tell(table, pd.DataFrame({new: [1], others: [4]}), words, lang="zh")[0][0].sentence
    '该客户首次使用该设备；过去1周内另有3位其他客户'
    """
    features = _features(contributions, X)
    text, numbers = _kinds(X, features)
    matrix = feature_matrix(X, tuple(numbers))
    told = {name: matrix[:, place] for place, name in enumerate(numbers)}
    told |= {name: X[name].astype("str").to_numpy(dtype=object) for name in text}
    columns = [told[name] for name in features]
    pushes = contributions[features].to_numpy(dtype="float64")
    return tell_of(pushes, columns, describe, features, top, whole_amounts=whole_amounts, lang=lang)


def tell_of(
    pushes: np.ndarray,
    columns: Sequence[np.ndarray],
    describe: pd.DataFrame,
    features: Sequence[str],
    top: int = 3,
    *,
    whole_amounts: bool = False,
    lang: str = "en",
) -> list[list[Reason]]:
    """As `tell`, without tables: for one payment at a time, where to make them took longer than all else.

    Parameters
    ----------
    pushes : contributions, float64[rows, features], without the base.
    columns : of each feature its values: float64[rows], or text with NaN for missing as object[rows].
    features : their names.
    """
    check_language(lang)
    speech = _speech(_Same(describe), tuple(features), whole_amounts, lang)
    sayable = np.empty(pushes.shape, bool)
    for place, (teller, column) in enumerate(zip(speech.tellers, columns)):
        sayable[:, place] = teller.sayable(column)
    sayable &= pushes > 0
    # For each reason what it adds up to, and its strongest feature that has something to say (-1: none).
    totals = np.empty((len(pushes), len(speech.names)))
    strongest = np.empty(totals.shape, np.int64)
    rows = np.arange(len(pushes))
    for group, members in enumerate(speech.members):
        mine = pushes[:, members]
        totals[:, group] = mine.sum(axis=1)
        best = np.where(sayable[:, members], mine, -np.inf).argmax(axis=1)
        strongest[:, group] = np.where(sayable[rows, members[best]], members[best], -1)
    order = np.argsort(-totals, axis=1, kind="stable").tolist()
    plan = _Plan(pushes, sayable, columns, speech, features)
    return [plan.row(row, *given, top) for row, given in enumerate(zip(order, totals.tolist(), strongest.tolist()))]


class _Same:
    """A table that is a key by being the same, not by being equal."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table

    def __hash__(self) -> int:
        return id(self.table)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.table is self.table


class _Speech(NamedTuple):
    """How each feature speaks, which features belong to each reason, and the reasons' names and codes."""

    tellers: list[_Teller]
    members: list[np.ndarray]
    names: list[str]
    codes: list[str]


@functools.lru_cache(maxsize=16)
def _speech(describe: _Same, features: tuple[str, ...], whole_amounts: bool, lang: str) -> _Speech:
    """Read the words of some features; kept, as one payment's reasons are asked for at a time."""
    words, lang = _spoken(_words(describe.table, features), lang)
    groups, found = pd.factorize(words["group"])
    names = [str(name) for name in found]
    members = [np.flatnonzero(groups == group) for group in range(len(names))]
    return _Speech(_tellers(words, whole_amounts, lang), members, names, _codes(words, names))


def _spoken(words: pd.DataFrame, lang: str) -> tuple[pd.DataFrame, str]:
    """Return the words in a language, and the language they are in."""
    if lang == "en" or "template_zh" not in words:
        return words, "en"
    return words.assign(**{name: words[f"{name}_zh"] for name in SPOKEN if f"{name}_zh" in words}), lang


def _codes(words: pd.DataFrame, names: Sequence[str]) -> list[str]:
    known = dict(zip(words["group"], words["reason"])) if "reason" in words else {}
    return [str(known.get(name, "")) for name in names]


class _Part(NamedTuple):
    """A part of a template that holds a fact: what stands before, the feature, what is taken off, what stands after."""

    before: str
    feature: int
    less: int
    after: str


_OPTIONAL = re.compile(r"\[([^\[\]{}]*)\{([^{}]+)\}([^\[\]{}]*)\]")


class _Teller(NamedTuple):
    """How one feature speaks."""

    template: str
    kind: str
    parts: tuple[_Part, ...]
    only_if_some: bool
    only_if_known: bool
    unknown: str
    nameless: str
    whole_amounts: bool
    lang: str

    def sayable(self, column: np.ndarray) -> np.ndarray:
        """Tell for each value whether there is anything to say about it, bool[rows]."""
        known = column == column  # NaN is not
        if not self.only_if_some or column.dtype == object:
            return known | (not self.only_if_known)
        return (known & (column != 0)) | (~known & (not self.only_if_known))

    def say(self, value: Any) -> str:
        """Return the sentence about a value, without facts of other features."""
        if value != value:  # missing, be it a number or text
            return self.unknown
        if self.kind == "category" and points_at_someone(str(value)):
            return self.nameless
        template = self.template
        if self.kind == "count" and value < 1.5:
            template = one_or_none(template, round(value), self.lang)
        return template.replace("{value}", self.written(value))

    def written(self, value: Any) -> str:
        return format_value(value, self.kind, whole_amounts=self.whole_amounts, lang=self.lang)

    def fact(self, value: float, part: _Part) -> str:
        """Return what a part of another feature's sentence says of this feature's value; "" where there is nothing."""
        if value != value or isinstance(value, str):
            return ""
        value -= part.less
        if (self.kind == "count" and round(value) < 1) or (self.kind != "days" and value == 0):
            return ""
        after = part.after
        if self.kind == "count" and round(value) == 1:
            after = one_or_none(f"{{value}}{after}", 1, self.lang).removeprefix("{value}")
        return f"{part.before}{self.written(value)}{after}"


def _tellers(words: pd.DataFrame, whole_amounts: bool, lang: str) -> list[_Teller]:
    places = {name: place for place, name in enumerate(words.index)}
    return [_teller(word, places, whole_amounts, lang) for word in words.reset_index(names="column").itertuples()]


def _teller(word: Any, places: Mapping[str, int], whole_amounts: bool, lang: str) -> _Teller:
    template, parts, present = word.template, [], False
    for found in _OPTIONAL.finditer(word.template):
        before, name, after = found.groups()
        if name == "value":
            present = True
            continue
        template = template.replace(found[0], "", 1)
        less = 1 if name not in places and name.endswith("-1") else 0
        if (feature := places.get(name.removesuffix("-1") if less else name)) is not None:
            parts.append(_Part(before, feature, less, after))
    if present:
        template = template.removeprefix("[").removesuffix("]")
    bad = present or (not hasattr(word, "reason") and word.group in BAD_SIGNS)
    # Days since a known fraud are missing where there was none, and 0 just after one.
    since = bad and word.kind == "days"
    meaning = word.meaning.rstrip(".。")
    what = str(getattr(word, "label", "") or word.column)
    return _Teller(
        template=template,
        kind=word.kind,
        parts=tuple(parts),
        only_if_some=word.kind in ("flag", "share") or (bad and not since),
        only_if_known=word.kind == "flag" or since or present,
        unknown=phrase("unknown", lang).format(f"{meaning[:1].lower()}{meaning[1:]}"),
        nameless=phrase("identifier", lang).format(what),
        whole_amounts=whole_amounts,
        lang=lang,
    )


class _Plan(NamedTuple):
    """What all rows share while their reasons are put together."""

    pushes: np.ndarray
    sayable: np.ndarray
    columns: Sequence[np.ndarray]
    speech: _Speech
    features: Sequence[str]

    def row(
        self, row: int, order: Sequence[int], totals: Sequence[float], strongest: Sequence[int], top: int
    ) -> list[Reason]:
        """Return the reasons of one row; `order` ranks the groups, `strongest` is the feature each would tell."""
        told: list[Reason] = []
        said: set[int] = set()  # features whose value stands in a sentence already
        unknown = False
        for group in order:
            if totals[group] <= 0 or len(told) >= top:
                break
            feature = strongest[group]
            if feature in said or (unknown and feature >= 0 and self._missing(row, feature)):
                feature = self._next(row, group, said, unknown)
            if feature < 0:
                continue
            value, teller = self.columns[feature][row], self.speech.tellers[feature]
            sentence = teller.say(value)
            said.add(feature)
            if self._missing(row, feature):
                unknown = True
            else:
                sentence += self._facts(row, teller, said)
            if teller.lang == "en":
                sentence = f"{sentence[:1].upper()}{sentence[1:]}"
            named = self.speech.codes[group], self.speech.names[group]
            told.append(Reason(*named, sentence, self.features[feature], totals[group]))
        return told

    def _missing(self, row: int, feature: int) -> bool:
        value = self.columns[feature][row]
        return bool(value != value)

    def _next(self, row: int, group: int, said: set[int], unknown: bool) -> int:
        members = self.speech.members[group]
        members = members[self.sayable[row, members]]
        for feature in members[np.argsort(-self.pushes[row, members], kind="stable")]:
            if feature not in said and not (unknown and self._missing(row, feature)):
                return int(feature)
        return -1

    def _facts(self, row: int, teller: _Teller, said: set[int]) -> str:
        added = ""
        for part in teller.parts:
            if part.feature not in said:
                fact = self.speech.tellers[part.feature].fact(self.columns[part.feature][row], part)
                added += fact
                said |= {part.feature} if fact else set()
        return added


def told_together(describe: pd.DataFrame, X: pd.DataFrame, limit: float = ALIKE, rows: int = 10_000) -> dict[str, str]:
    """Find the features that would say the same under different reasons, and name the reason to tell them under.

    Features whose rank correlation exceeds the limit, directly or through others, are told under one reason: the one
    most of them belong to. So three reasons rest on features that are not near-copies of each other.

    Parameters
    ----------
    describe : `FeatureSet.describe()`.
    X : features of training rows; categories are left out, as are pairs known together in fewer than 100 rows.
    limit : rank correlation, either sign, up to which two features may belong to different reasons.
    rows : at most so many rows are looked at, evenly spaced.

    Returns
    -------
    Column -> the column whose reason it takes; only those that move. `words.regroup` carries it out.

    References
    ----------
    Aas, Jullum and Loland (2021), doi:10.1016/j.artint.2021.103502: contributions of dependent features are split among
    them more or less by chance, so that only their sum is to be read.

    >>> words = pd.DataFrame({"column": ["a", "b", "c"], "group": ["pace", "pace", "merchant"]})
    >>> X = pd.DataFrame({"a": range(200), "b": [0, 1] * 100, "c": [2 * k for k in range(200)]})
    >>> told_together(words, X)
    {'c': 'a'}
    """
    group = dict(zip(describe["column"], describe["group"]))
    numbers = [name for name in X.columns if name in group and pd.api.types.is_numeric_dtype(X[name].dtype)]
    ranks = X[numbers].iloc[:: max(1, -(-len(X) // rows))].rank().to_numpy(dtype="float64")
    alike = np.abs(_correlation(ranks)) > limit
    moves: dict[str, str] = {}
    for members in _components(alike):
        names = [numbers[place] for place in members]
        counts = pd.Series([group[name] for name in names]).value_counts(sort=False)
        if len(counts) > 1:
            home = counts.idxmax()
            leader = next(name for name in names if group[name] == home)
            moves |= {name: leader for name in names if group[name] != home}
    return moves


def _correlation(ranks: np.ndarray, least: int = 100) -> np.ndarray:
    """Return Pearson's correlation of columns over the rows where both are known; 0 where that cannot be said."""
    there = ~np.isnan(ranks)
    known = there.astype("float64")
    middle = np.where(there, ranks, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1.0)  # a column without values: 0
    filled = np.where(there, ranks - middle, 0.0)
    n = known.T @ known
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (filled.T @ known) / n
        spread = (filled**2).T @ known / n - mean**2
        found = (filled.T @ filled / n - mean * mean.T) / np.sqrt(spread * spread.T)
    return np.where((n >= least) & np.isfinite(found), found, 0.0)


def _components(linked: np.ndarray) -> list[list[int]]:
    """Return the connected parts of a symmetric boolean matrix, each in order, by their first."""
    left, parts = set(range(len(linked))), []
    while left:
        reached, edge = set(), {min(left)}
        while edge:
            reached |= edge
            edge = {int(other) for one in edge for other in np.flatnonzero(linked[one])} - reached
        parts.append(sorted(reached))
        left -= reached
    return parts


# -- the list of reasons -----------------------------------------------------------------------------------------------

# The invented facts of the examples: by what the column's name holds, else by the kind of its value.
_INVENTED: dict[str, float] = {"__distance": 620, "__mean__": 257.2, "_fraud__": 2, "__since_first": 2}
_OF_KIND: dict[str, float | str] = {
    "count": 3,
    "amount": 1234.5,
    "ratio": 4.8,
    "days": 0.0125,
    "speed": 1983,
    "share": 0.98,
    "part": 0.02,
    "flag": 1,
    "weekday": 6,
    "number": 7.2,
    "category": "travel",
    "identifier": "",
}


def catalogue(describe: pd.DataFrame, lang: str = "en") -> pd.DataFrame:
    """List the named reasons of a feature set, each with an example sentence.

    Parameters
    ----------
    describe : `FeatureSet.describe()`.
    lang : "en" or "zh".

    Returns
    -------
    A row per reason that has a feature, by code: code, name, features (how many), about (what it is about), example (a
    sentence about one of its features, with invented facts).

    >>> from fraudlab.features.sets import HANDBOOK
    >>> catalogue(HANDBOOK.describe()).set_index("code")["name"].to_dict()
    {'R01': 'amount', 'R02': 'pace', 'R07': 'merchant', 'R08': 'known fraud', 'R11': 'time of day'}
    """
    check_language(lang)
    known = reason_codes()
    X = pd.DataFrame({word.column: [_example(word.column, word.kind)] for word in describe.itertuples()})
    words = aligned(pd.DataFrame(0.0, index=[0], columns=X.columns), X, describe)[2]
    words, spoken = _spoken(words, lang)
    rows = []
    for (code, name), part in words.groupby(["reason", "group"], sort=False):
        chosen = _most_telling(part)
        alone = pd.DataFrame(0.0, index=[0], columns=X.columns).assign(**{chosen: 1.0})
        [[reason]] = tell(alone, X, describe, top=1, lang=spoken)
        rows.append((code, name, len(part), known[code].about[spoken] if code in known else "", reason.sentence))
    table = pd.DataFrame(rows, columns=["code", "name", "features", "about", "example"])
    return table.sort_values(["code", "name"], kind="stable", ignore_index=True)


def _example(column: str, kind: str) -> float | str:
    return next((value for part, value in _INVENTED.items() if part in column), _OF_KIND[kind])


def _most_telling(part: pd.DataFrame) -> str:
    """Return the feature whose sentence shows most: one with facts of others, one set against what is usual."""
    facts = part["template"].str.count(r"\[") > part["template"].str.startswith("[")
    column = part.index.str
    flagship = column.contains("__ratio__") | column.endswith("__distance")
    kind = part["kind"].map({"ratio": 2, "speed": 2, "count": 1, "flag": 1}).fillna(0)
    return str((4 * facts + 4 * flagship + kind).idxmax())


def aligned(
    contributions: pd.DataFrame, X: pd.DataFrame, describe: pd.DataFrame | None
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return contributions without the base, the values and the words of the same features, by position."""
    features = _features(contributions, X)
    text, numbers = _kinds(X, features)
    values = pd.DataFrame(feature_matrix(X, tuple(numbers)), columns=numbers)
    for name in text:
        values[name] = X[name].astype("str").to_numpy(dtype=object)
    values = values[features]
    moved = contributions[features].reset_index(drop=True)
    if describe is None:
        return moved, values, pd.DataFrame(index=features)
    return moved, values, _words(describe, features)


def _features(contributions: pd.DataFrame, X: pd.DataFrame) -> list[str]:
    if len(contributions) != len(X):
        raise InputError(
            f"contributions: must have the rows of X; found {len(contributions):,} for {len(X):,}; "
            "explain the same rows"
        )
    return [name for name in contributions.columns if name != BASE]


def _kinds(X: pd.DataFrame, features: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return which features are text and which are numbers, or missing, which `feature_matrix` refuses."""
    text = [name for name in features if name in X and not pd.api.types.is_numeric_dtype(X[name].dtype)]
    return text, [name for name in features if name not in text]


def _words(describe: pd.DataFrame, features: Sequence[str]) -> pd.DataFrame:
    words = describe.set_index("column")
    if absent := [name for name in features if name not in words.index]:
        raise InputError(
            f"describe: must have a row for each feature; found none for {', '.join(absent)}; "
            f"{did_you_mean(absent[0], words.index)}"
        )
    return words.loc[list(features)]
