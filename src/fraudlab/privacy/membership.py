"""Whether a model's scores tell whom it was trained on. Pure functions of labels and scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from fraudlab.schema import InputError

SURE = 1e-12
"""Probabilities are kept this far from 0, so that every loss is finite."""


def membership_risk(
    member_labels: np.ndarray | pd.Series,
    member_scores: np.ndarray | pd.Series,
    other_labels: np.ndarray | pd.Series,
    other_scores: np.ndarray | pd.Series,
) -> pd.DataFrame:
    """Measure how well a model's scores tell whom it was trained on, overall and for each class.

    The attack: whose loss -log(stated probability of the true label) is smaller was in the training.

    Parameters
    ----------
    member_labels, member_scores : rows [n] the model learnt from: 0/1 or booleans, probabilities in [0, 1].
    other_labels, other_scores : rows [m] it did not learn from, of the same period if possible: what has changed since
        then looks like memory too.

    Returns
    -------
    DataFrame: group ("all", "fraud", "genuine"), members, others, auc, note. auc is the chance that the attack puts a
    member before another row: 0.5 tells nothing, 1 tells everything; NaN with the reason in `note` where a side has no
    rows.

    Raises
    ------
    InputError : labels and scores of different lengths, missing or other labels, scores outside [0, 1].

    References
    ----------
    Yeom, Giacomelli, Fredrikson and Jha, Privacy risk in machine learning, CSF 2018.

    >>> membership_risk([1, 1, 0, 0], [.9, .8, .1, .2], [1, 1, 0, 0], [.3, .4, .1, .2])[["group", "auc"]]
         group   auc
    0      all  0.75
    1    fraud  1.00
    2  genuine  0.50
    """
    member, member_fraud = _losses(member_labels, member_scores, "member")
    other, other_fraud = _losses(other_labels, other_scores, "other")
    rows = []
    for group in ("all", "fraud", "genuine"):
        ours = member if group == "all" else member[member_fraud == (group == "fraud")]
        theirs = other if group == "all" else other[other_fraud == (group == "fraud")]
        auc, note = np.nan, "not applicable: no rows on one side"
        if len(ours) and len(theirs):
            ranks = rankdata(np.r_[ours, theirs])[len(ours) :].sum()
            auc, note = (ranks / len(theirs) - (len(theirs) + 1) / 2) / len(ours), ""
        rows.append((group, len(ours), len(theirs), float(auc), note))
    return pd.DataFrame(rows, columns=["group", "members", "others", "auc", "note"])


def _losses(labels: Any, scores: Any, side: str) -> tuple[np.ndarray, np.ndarray]:
    truth = pd.Series(labels).astype("Float64").to_numpy(dtype=float, na_value=np.nan)
    stated = pd.Series(scores).astype("Float64").to_numpy(dtype=float, na_value=np.nan)
    if len(truth) != len(stated):
        raise InputError(
            f"{side}_scores: must be as many as the labels; found {len(stated):,} and {len(truth):,}; give both of "
            "the same rows"
        )
    if wrong := int((~np.isin(truth, (0, 1)) | ~((stated >= 0) & (stated <= 1))).sum()):
        raise InputError(
            f"{side}_labels, {side}_scores: labels must be 0 or 1 and scores in [0, 1]; found {wrong:,} other rows; "
            "leave unlabelled rows out and give probabilities"
        )
    right = np.where(truth == 1, stated, 1 - stated)
    return -np.log(np.clip(right, SURE, 1)), truth == 1
