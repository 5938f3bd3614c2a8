"""Say in plain sentences why a row scored as it did, from its contributions and the words of its features.

A reason holds feature values only, never an identifier.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from fraudlab.features.words import format_value, one_or_none
from fraudlab.models import feature_matrix
from fraudlab.schema import InputError, did_you_mean

BASE = "base"
UNEXPLAINED = "Reasons are not available for this kind of model"
# Feature groups that count bad signs: to have none of them is no reason for suspicion.
BAD_SIGNS = ("known fraud", "authentication", "trial payments")
# Kinds of value that have no order; an identifier is never shown.
NAMES = ("category", "identifier")


def reasons(
    contributions: pd.DataFrame,
    X: pd.DataFrame,
    describe: pd.DataFrame,
    top: int = 3,
    *,
    whole_amounts: bool = False,
) -> list[list[str]]:
    """Say in plain sentences what pushed each row's score towards fraud.

    The model's strongest reasons, for an investigator to start from; they are neither proof nor complete.

    Parameters
    ----------
    contributions : rows of `contributions`.
    X : the features of the same rows, in the same order.
    describe : `FeatureSet.describe()`; its `template` is the sentence, with `{value}` where the value belongs.
    top : most sentences for a row.
    whole_amounts : as in `format_value`.

    Returns
    -------
    A list for each row, strongest first, perhaps empty. Groups of features are ranked by the sum of their
    contributions; each group that pushes towards fraud gives one sentence, that of its strongest feature. What is
    absent is no reason: a flag that is not set, a share of 0, none of the known frauds or failed authentications. A
    missing value reads "Not known for this payment: " and the feature's meaning.

    Raises
    ------
    InputError : rows do not match; `describe` lacks a feature.

    >>> table = pd.DataFrame({"a": [1.5], "b": [-0.2], "base": [-3.0]})
    >>> words = pd.DataFrame({"column": ["a", "b"], "group": ["amount", "pace"], "meaning": "",
    ...                       "template": ["{value} times the customer's usual amount", "{value} payments in an hour"],
    ...                       "kind": ["ratio", "count"]})
    >>> reasons(table, pd.DataFrame({"a": [4.81], "b": [2]}), words)
    [["4.8 times the customer's usual amount"]]
    """
    moved, values, words = aligned(contributions, X, describe)
    groups, names = pd.factorize(words["group"])
    told = [_sayer(word, whole_amounts) for word in words.itertuples(index=False)]
    members = [np.flatnonzero(groups == group) for group in range(len(names))]
    pushes, found = moved.to_numpy(), values.to_numpy()
    totals = np.column_stack([pushes[:, member].sum(axis=1) for member in members]) if members else pushes
    return [_row_reasons(pushes[row], found[row], totals[row], members, told, top) for row in range(len(pushes))]


def _sayer(word: Any, whole_amounts: bool) -> Callable[[float], str]:
    # Days since a known fraud are missing where there was none, and 0 just after one.
    since = word.kind == "days" and word.group in BAD_SIGNS
    only_if_present = word.kind in ("flag", "share") or (word.group in BAD_SIGNS and not since)

    def say(value: Any) -> str:
        if value != value:  # missing, be it a number or text
            meaning = word.meaning.rstrip(".")
            unknown = f"Not known for this payment: {meaning[:1].lower()}{meaning[1:]}"
            return "" if word.kind == "flag" or since else unknown
        if value == 0 and only_if_present:
            return ""
        template = one_or_none(word.template, round(value)) if word.kind == "count" and value < 1.5 else word.template
        sentence = template.replace("{value}", format_value(value, word.kind, whole_amounts=whole_amounts))
        return f"{sentence[:1].upper()}{sentence[1:]}"

    return say


def _row_reasons(
    pushes: np.ndarray,
    values: np.ndarray,
    totals: np.ndarray,
    members: list[np.ndarray],
    told: list[Callable[[float], str]],
    top: int,
) -> list[str]:
    sentences: list[str] = []
    for group in np.argsort(-totals, kind="stable"):
        if totals[group] <= 0 or len(sentences) >= top:
            break
        member = members[group]
        for feature in member[np.argsort(-pushes[member], kind="stable")]:
            sentence = told[feature](values[feature]) if pushes[feature] > 0 else ""
            if sentence:
                sentences.append(sentence)
                break
    return sentences


def aligned(
    contributions: pd.DataFrame, X: pd.DataFrame, describe: pd.DataFrame | None
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return contributions without the base, the values and the words of the same features, by position."""
    features = [name for name in contributions.columns if name != BASE]
    if len(contributions) != len(X):
        raise InputError(
            f"contributions: must have the rows of X; found {len(contributions):,} for {len(X):,}; "
            "explain the same rows"
        )
    text = [name for name in features if name in X and not pd.api.types.is_numeric_dtype(X[name].dtype)]
    numbers = [name for name in features if name not in text]
    values = pd.DataFrame(feature_matrix(X, tuple(numbers)), columns=numbers)
    for name in text:
        values[name] = X[name].astype("str").to_numpy(dtype=object)
    values = values[features]
    moved = contributions[features].reset_index(drop=True)
    if describe is None:
        return moved, values, pd.DataFrame(index=features)
    words = describe.set_index("column")
    if absent := [name for name in features if name not in words.index]:
        raise InputError(
            f"describe: must have a row for each feature; found none for {', '.join(absent)}; "
            f"{did_you_mean(absent[0], words.index)}"
        )
    return moved, values, words.loc[features]
