"""A rule baseline that a person can read aloud: what an analyst would write down, learnt from the training rows."""

from __future__ import annotations

import time
from typing import Any, Literal

import numpy as np
import pandas as pd

from fraudlab.models import FittedModel, Rule, RuleBaseline, feature_matrix, known_labels, same_length
from fraudlab.schema import InputError, did_you_mean

RULE_KINDS = ("ratio", "count", "speed", "flag", "share", "amount")
RULE_QUANTILES = (0.95, 0.99, 0.999)
MAX_RULES, MAX_RULES_PER_GROUP, MIN_FRAUDS_PER_RULE = 10, 2, 3


def fit_rules(X: pd.DataFrame, y: Any, *, describe: pd.DataFrame | None = None) -> FittedModel:
    """Make a rule baseline that a person can read: at most ten "feature above threshold" rules with points.

    Each candidate rule says that a feature exceeds a high quantile (95, 99 or 99.9 %) of the genuine training rows,
    or that a flag is set. Its points are the smoothed log odds ratio of fraud with and without it,
    ln[(f + ½)(G - g + ½) / ((F - f + ½)(g + ½))], with f of F frauds and g of G genuine rows firing. Rules are taken by
    f x points, one a column and two a feature group at most, only if at least three frauds fire and the points exceed
    twice their standard error. Points of rules that say the same add up, so the score ranks but is no probability
    before calibration.

    Parameters
    ----------
    X, y : training features and known labels.
    describe : `FeatureSet.describe()`; features of other kinds than ratio, count, speed, flag, share and amount are
        left out. None takes every column, each as its own group.

    Raises
    ------
    InputError : bad features or labels, as in `fit_estimator`; `describe` without one of the columns.

    References
    ----------
    Woolf (1955), doi:10.1111/j.1469-1809.1955.tb01348.x, with half a row added to each cell.

    >>> X = pd.DataFrame({"amount": [5.0] * 97 + [6.0, 80.0, 90.0, 70.0]})
    >>> print(*fit_rules(X, [0] * 98 + [1] * 3).estimator.rules)
    amount > 5 (+6.12)
    """
    began = time.perf_counter()
    names = tuple(str(name) for name in X.columns)
    values, known = feature_matrix(X, names, where="training"), known_labels(y, "training")
    same_length(values, known, "training")
    if describe is None:
        kinds, groups = dict.fromkeys(names, "count"), {name: name for name in names}
    else:
        table = describe.set_index("column")
        if absent := [name for name in names if name not in table.index]:
            raise InputError(
                f"describe: must have a row for each feature; found none for {', '.join(absent)}; "
                f"{did_you_mean(absent[0], table.index)}"
            )
        kinds, groups = table["kind"].to_dict(), table["group"].to_dict()
    candidates = [
        rule
        for position, name in enumerate(names)
        if kinds[name] in RULE_KINDS and (rule := _best_rule(name, kinds[name], values[:, position], known))
    ]
    candidates.sort(key=lambda rule: (-rule.frauds * rule.weight, rule.column))
    chosen: list[Rule] = []
    for rule in candidates:
        same_group = sum(groups[other.column] == groups[rule.column] for other in chosen)
        if len(chosen) < MAX_RULES and same_group < MAX_RULES_PER_GROUP:
            chosen.append(rule)
    frauds = int(known.sum())
    facts = {
        "rows": len(known),
        "frauds": frauds,
        "features": len(chosen),
        "params": {"rules": [str(rule) for rule in chosen]},
        "seconds": round(time.perf_counter() - began, 3),
    }
    base = float(np.log((frauds + 0.5) / (len(known) - frauds + 0.5)))
    return FittedModel("rules", tuple(rule.column for rule in chosen), RuleBaseline(tuple(chosen), base), facts=facts)


def _best_rule(column: str, kind: str, values: np.ndarray, known: np.ndarray) -> Rule | None:
    genuine = values[~known]
    genuine = genuine[~np.isnan(genuine)]
    if kind == "flag":
        options: list[tuple[Literal[">", ">="], float, float | None]] = [(">=", 1.0, None)]
    elif len(genuine):
        options = [(">", float(np.quantile(genuine, share)), share) for share in RULE_QUANTILES]
    else:
        options = []
    best = None
    for comparison, threshold, share in options:
        fired = values > threshold if comparison == ">" else values >= threshold
        f, g = int((fired & known).sum()), int((fired & ~known).sum())
        cells = np.array([f, int((~known).sum()) - g, int(known.sum()) - f, g]) + 0.5
        weight = float(np.log(cells[0] * cells[1] / (cells[2] * cells[3])))
        clear = weight > 2 * np.sqrt((1 / cells).sum())  # Woolf's standard error
        if f >= MIN_FRAUDS_PER_RULE and clear and (best is None or f * weight > best.frauds * best.weight):
            best = Rule(column, comparison, threshold, share, weight, f, g)
    return best
