"""Validation before the test: the periods that settings are judged on, and the rules that choose among them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from fraudlab.config import ModelConfig
from fraudlab.schema import InputError
from fraudlab.splits import DAY, Fold, book_fold

RULES = ("mean", "one_standard_error", "regret")

MIN_VALID_FRAUDS = 10
"""A validation period of fewer frauds says nothing: it is refused."""


def validation_folds(
    transactions: pd.DataFrame, fold: Fold, *, folds: int, exclude: bool = True, min_positives: int = 20
) -> list[Fold]:
    """Divide the time before a fold's test into periods that are judged as the test will be.

    The last one is the fold's own validation, the others end where the next begins. Each learns from a training window
    as long as the fold's that ends the label delay before it (cut where the data begin, by half at most), from labels
    known when it begins. Its own labels are those known when `fold`'s test begins.

    Parameters
    ----------
    transactions : the frame that `fold` divides.
    fold : with a validation part.
    folds : how many periods, at least 1.
    exclude : leave customers known as victims out of the periods, as `temporal_fold` does.
    min_positives : frauds that each training window must hold; each period must hold 10.

    Returns
    -------
    Folds in the order of time, named "period 1" ...; positions count rows of `transactions`.

    Raises
    ------
    InputError : no validation part, too few days or too few frauds.
    """
    if fold.valid_start is None or fold.valid_end is None:
        raise InputError(
            f"tuning: settings are chosen on the validation period; found none in fold '{fold.name}'; "
            "give the split one"
        )
    rows = int(transactions["event_time"].searchsorted(fold.test_start, side="left"))
    known = transactions.iloc[:rows]
    late = (known["label_time"] > fold.test_start).to_numpy()
    known = known.assign(
        is_fraud=known["is_fraud"].astype("boolean").mask(late), label_time=known["label_time"].mask(late)
    )
    length, learning = fold.valid_end - fold.valid_start, fold.train_end - fold.train_start
    data_start = known["event_time"].iloc[0].floor("D")
    made = []
    for back in range(folds):
        start = fold.valid_start - back * length
        end = start - fold.delay
        first = max(end - learning, data_start)
        if end - first < learning / 2:
            raise InputError(
                f"tuning.folds: {folds} periods of {length / DAY:g} days before {fold.valid_end.date()} need training "
                f"windows of at least {learning / DAY / 2:g} days; found data from {data_start.date()}, enough for "
                f"{back}; set it to {back}, shorten the split or load more days"
            )
        try:
            each = book_fold(
                known,
                train_start=first,
                train_days=(end - first) / DAY,
                delay_days=fold.delay / DAY,
                test_days=length / DAY,
                exclude_known_compromised=exclude,
                entity=fold.entity,
                name=f"period {folds - back}",
            )
        except InputError as error:
            raise InputError(f"tuning, period from {start.date()} on: {error}") from None
        for part, least in (("train", min_positives), ("test", MIN_VALID_FRAUDS)):
            if each.frauds[part] < least:
                named = "training window" if part == "train" else "period"
                raise InputError(
                    f"tuning: each {named} must hold {least} or more frauds known in time; found {each.frauds[part]}, "
                    f"period from {start.date()} on; lengthen the split's windows or lower tuning.folds (now {folds})"
                )
        made.append(each)
    return made[::-1]


# -- which one wins --------------------------------------------------------------------------------------------------


def select(scores: pd.DataFrame, leaves: Mapping[int, float], rule: str) -> tuple[int, pd.DataFrame]:
    """Choose a setting from what each reached in every period, and show what every rule would have chosen.

    Parameters
    ----------
    scores : trial, period, value; higher is better; a value for every trial in every period, periods in order of time.
    leaves : trial -> how complex its model is at most; the simplest has the fewest.
    rule : "mean", the highest mean; "one_standard_error", the simplest whose mean is less than a standard error below
        the best one's; "regret", the smallest worst loss against the best setting of each period.

    Returns
    -------
    (trial, table). Columns: rule, trial, mean, worst_regret, leaves, next_period_regret, used, why.
    `next_period_regret` judges the rule itself: applied to the periods up to each one, the mean loss of its choice in
    the next period against the best setting of that period; missing where there is one period only.

    Notes
    -----
    The standard error is that of the difference to the best mean over the periods, sd / sqrt(periods), as good and bad
    weeks are the same for every setting; with one period there is none, and the rule takes the best. Ties go to the
    fewer leaves, then to the earlier trial.

    References
    ----------
    One standard error: Breiman, Friedman, Olshen, Stone (1984), Classification and Regression Trees, section 3.4.3;
    smallest worst regret: Savage (1951), doi:10.1080/01621459.1951.10500768.

    Trial 1 is a hair better and five times as large; trial 2 is best in one period and poor in the other:

    >>> scores = pd.DataFrame({"trial": [0, 0, 1, 1, 2, 2], "period": [1, 2] * 3,
    ...                        "value": [0.70, 0.60, 0.69, 0.63, 0.50, 0.66]})
    >>> trial, rules = select(scores, {0: 100, 1: 500, 2: 100}, "one_standard_error")
    >>> trial, rules["trial"].tolist(), rules["worst_regret"].round(2).tolist()
    (0, [1, 0, 1], [0.03, 0.06, 0.03])
    """
    if rule not in RULES:
        raise InputError(f"tuning.rule: must be one of {', '.join(RULES)}; found '{rule}'; choose one of them")
    table = scores.pivot(index="trial", columns="period", values="value").sort_index()
    if table.isna().to_numpy().any() or table.empty:
        raise InputError("tuning: every setting needs a value in every period; found some without; leave them out")
    reached = table.to_numpy()
    sizes = np.array([float(leaves[trial]) for trial in table.index])
    regret = reached.max(axis=0) - reached
    rows = []
    for each in RULES:
        at, why = _choose(reached, sizes, each)
        later = [float(regret[_choose(reached[:, :seen], sizes, each)[0], seen]) for seen in range(1, reached.shape[1])]
        rows.append(
            {
                "rule": each,
                "trial": int(table.index[at]),
                "mean": float(reached[at].mean()),
                "worst_regret": float(regret[at].max()),
                "leaves": sizes[at],
                "next_period_regret": float(np.mean(later)) if later else np.nan,
                "used": each == rule,
                "why": why,
            }
        )
    rules = pd.DataFrame(rows)
    return int(rules.loc[rules["used"], "trial"].iloc[0]), rules


def _choose(reached: np.ndarray, sizes: np.ndarray, rule: str) -> tuple[int, str]:
    """Return the row that a rule chooses and why; ties go to the smaller size, then to the earlier row."""
    settings, periods = reached.shape
    mean = reached.mean(axis=1)
    order = np.arange(settings)
    best = int(np.lexsort((order, sizes, -mean))[0])
    over = f"{periods} period{'s' if periods > 1 else ''}"
    if rule == "mean" or (rule == "one_standard_error" and periods == 1):
        return best, f"the best mean over {over}"
    if rule == "regret":
        worst = (reached.max(axis=0) - reached).max(axis=1)
        at = int(np.lexsort((order, sizes, -mean, worst))[0])
        return at, f"never more than {worst[at]:.4f} below the best setting of a period, over {over}"
    behind = reached[best] - reached
    error = behind.std(axis=1, ddof=1) / np.sqrt(periods)
    near = np.flatnonzero((behind.mean(axis=1) < error) | (order == best))
    at = int(near[np.lexsort((near, -mean[near], sizes[near]))[0]])
    said = f"the fewest leaves among {len(near)} settings within a standard error of the best mean, {mean[best]:.4f}"
    return at, said


def leaves(model: ModelConfig) -> int:
    """Return how many leaves a model of these settings can have at most: trees x 2^depth; 0 for a logistic regression.

    >>> leaves(ModelConfig(n_estimators=100, max_depth=3))
    800
    """
    return 0 if model.kind == "logistic" else model.n_estimators * 2**model.max_depth
