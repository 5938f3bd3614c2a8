"""Survey sampling: draw a few of many with known chances, and say from them how it is with all.

A model's list shows only what the model suspects. What it does not suspect is measured by looking at a few of the
others, drawn by chance: each drawn one stands for as many as the inverse of its chance.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fraudlab.schema import InputError

NEAR_SHARE, NEAR_DRAWS = 0.1, 0.5
"""The tenth that ranks highest gets half of the draws: hidden frauds are likelier there, and none is left out."""


def chances_by_rank(score: Any, draws: float) -> np.ndarray:
    """Return each unit's chance to be drawn: half of the draws go to the tenth with the highest scores.

    Parameters
    ----------
    score : shape (n,), finite; units with equal scores get equal chances.
    draws : how many are drawn on the whole, >= 0; all where it is n or more.

    Returns
    -------
    float64[n], in (0, 1] where `draws` is above 0; their sum is `draws` or n.

    Notes
    -----
    A unit's rank is the share of units with a higher score plus half of those with its own. Sizes 5 (near) and 5/9
    (far) make a chance nine times as high near the threshold; ties at the border share what they get.

    >>> chances_by_rank([0.9, *[0.1] * 9], draws=1).round(4).tolist()
    [0.5, 0.0556, 0.0556, 0.0556, 0.0556, 0.0556, 0.0556, 0.0556, 0.0556, 0.0556]
    """
    score = np.asarray(score, dtype="float64")
    if not np.isfinite(score).all():
        raise InputError(
            f"chances: scores must be finite; found {int((~np.isfinite(score)).sum()):,} others of {score.size:,}; "
            "score them all"
        )
    if not score.size:
        return np.empty(0)
    _, group, size = np.unique(-score, return_inverse=True, return_counts=True)
    begin = (np.cumsum(size) - size) / score.size
    end = np.cumsum(size) / score.size
    # The part of each group of equal scores that lies within the highest tenth.
    near = np.clip((np.minimum(end, NEAR_SHARE) - begin) / (end - begin), 0, 1)
    weight = near * NEAR_DRAWS / NEAR_SHARE + (1 - near) * (1 - NEAR_DRAWS) / (1 - NEAR_SHARE)
    return inclusion_chances(weight[group], draws)


def inclusion_chances(size: Any, draws: float) -> np.ndarray:
    """Return chances proportional to sizes that add up to `draws`, none above 1.

    Parameters
    ----------
    size : shape (n,), > 0.
    draws : >= 0; n or more: every chance is 1.

    Notes
    -----
    Units whose proportional chance would exceed 1 get 1, and the others share the rest, until none does.

    References
    ----------
    Tillé (2006), Sampling Algorithms, section 2.10, doi:10.1007/0-387-34240-0.

    >>> inclusion_chances([8, 1, 1, 2], draws=2).tolist()
    [1.0, 0.25, 0.25, 0.5]
    """
    size = np.asarray(size, dtype="float64")
    if not ((size > 0) & np.isfinite(size)).all() or not draws >= 0:
        wrong = int((~((size > 0) & np.isfinite(size))).sum())
        raise InputError(
            f"chances: sizes must be above 0 and draws not below 0; found {wrong:,} other sizes and {draws} draws; "
            "pass positive sizes"
        )
    if draws >= size.size:
        return np.ones(size.size)
    chance, sure = np.zeros(size.size), np.zeros(size.size, dtype=bool)
    while True:
        left = draws - sure.sum()
        chance[~sure] = left * size[~sure] / size[~sure].sum()
        above = ~sure & (chance >= 1)
        if not above.any():
            return chance
        chance[above], sure = 1.0, sure | above


def draw(chance: Any, order: Any, start: float) -> np.ndarray:
    """Draw units with stated chances: in random order, every unit on which a step of length one falls.

    Parameters
    ----------
    chance : shape (n,), in [0, 1].
    order : a random number per unit, shape (n,); units are gone through from the smallest to the largest, so that
        neither the file nor the score has a say in who comes together.
    start : a random number in [0, 1): where the first step falls.

    Returns
    -------
    int array: positions of the drawn units, from small to large. Their number is the sum of the chances, rounded down
    or up; each unit is among them with exactly its chance.

    References
    ----------
    Madow (1949), doi:10.1214/aoms/1177729988; Hartley and Rao (1962), doi:10.1214/aoms/1177704564.

    >>> draw([0.5, 0.25, 0.25], order=[0.3, 0.1, 0.2], start=0.6).tolist()  # gone through as 1, 2, 0
    [0]
    """
    chance, order = np.asarray(chance, dtype="float64"), np.asarray(order, dtype="float64")
    if chance.shape != order.shape or not ((chance >= 0) & (chance <= 1)).all() or not 0 <= start < 1:
        raise InputError(
            f"draw: needs a chance in [0, 1] and a number per unit, and a start in [0, 1); found {chance.size:,} "
            f"chances, {order.size:,} numbers, start {start}; pass them together"
        )
    along = np.lexsort((np.arange(len(order)), order))
    # Rounded so that chances that add up to a whole number do, whatever the order they are added in.
    ends = np.round(np.cumsum(chance[along]), 9)
    before = np.append(0.0, ends[:-1])
    # A step falls on a unit where a whole number plus `start` lies in [before, end).
    hit = np.ceil(ends - start) - np.ceil(before - start) >= 1
    return np.sort(along[hit])


def weighted_total(weight: Any, most: float | None = None) -> tuple[float, float, float]:
    """Estimate a total from the drawn units that count, with its 95 % interval.

    Parameters
    ----------
    weight : of the drawn units found to count (such as frauds), shape (x,), each the inverse of its chance.
    most : the largest weight of any drawn unit, found to count or not: what one more could have added. Default: the
        largest of `weight`.

    Returns
    -------
    total (the sum of the weights), low, high. With none found the total is 0 and `high` says what may have been
    missed: about three times `most`.

    Raises
    ------
    InputError : a weight is not above 0; none is given and `most` neither.

    Notes
    -----
    The total is that of Horvitz and Thompson. Where what is looked for is rare, the number found of each weight is all
    but a Poisson number, and the interval is that of a weighted sum of Poisson numbers: with y the total and v the sum
    of squared weights, a gamma distribution of mean y and variance v bounds it from below, one of mean y + m and
    variance v + m^2 (m = `most`) from above, and the mid-p interval takes the half of both. It holds for one fraud as
    for a hundred, where a normal interval would reach below zero and a bootstrap of none found say "none".

    References
    ----------
    Horvitz and Thompson (1952), doi:10.1080/01621459.1952.10483446; Fay and Feuer (1997),
    doi:10.1002/(SICI)1097-0258(19970415)16:7<791::AID-SIM500>3.0.CO;2-#; Fay and Kim (2017),
    doi:10.1002/bimj.201600111.

    >>> [round(end, 2) for end in weighted_total([], most=100.0)]
    [0.0, 0.0, 299.57]
    >>> [round(end, 1) for end in weighted_total([50.0, 50.0, 200.0], most=200.0)]
    [300.0, 50.8, 1084.5]
    """
    from scipy.optimize import brentq
    from scipy.stats import gamma

    weight = np.asarray(weight, dtype="float64")
    most = float(weight.max()) if most is None and weight.size else most
    if most is None or not (weight > 0).all() or not most > 0:
        raise InputError(
            f"total: weights must be above 0 and the largest one known; found {weight.size:,} weights and most "
            f"{most}; pass the weights of all that were drawn"
        )
    total, variance = float(weight.sum()), float((weight**2).sum())
    upper_mean, upper_variance = total + most, variance + most**2
    above = gamma(upper_mean**2 / upper_variance, scale=upper_variance / upper_mean)
    if not weight.size:
        return 0.0, 0.0, float(above.ppf(0.95))
    below = gamma(total**2 / variance, scale=variance / total)

    def at(share: float) -> float:
        ends = below.ppf(share), above.ppf(share)
        return float(brentq(lambda x: (below.cdf(x) + above.cdf(x)) / 2 - share, *ends))

    return total, at(0.025), at(0.975)


def answered_weights(chance: Any, answered: Any, told: Any) -> np.ndarray:
    """Return what each drawn unit counts where some have no answer yet: those with one stand for those without.

    Parameters
    ----------
    chance : of each drawn unit, shape (n,), in (0, 1].
    answered : bool[n], units that were looked at and decided.
    told : bool[n], units of which the answer came from elsewhere, such as a fraud its customer reported; where they
        were not looked at as well, they count for themselves alone: had they stood for others, frauds would be
        counted twice, because only frauds are told.

    Returns
    -------
    float64[n]: 1 / chance of units told of; 1 / chance times a common factor of units answered, so that they stand for
    all that were not told of; 0 of the others. All 0 where none is answered but some wait.

    >>> answered_weights([0.1, 0.1, 0.1, 0.5], answered=[True, False, False, True], told=[False, False, True, False])
    array([18.33333333,  0.        , 10.        ,  3.66666667])
    """
    weight = 1 / np.asarray(chance, dtype="float64")
    answered, told = np.asarray(answered, dtype=bool), np.asarray(told, dtype=bool)
    told = told & ~answered
    given = weight[answered].sum()
    if not given:
        return np.where(told, weight, 0.0) if told.all() else np.zeros(weight.size)
    return np.where(told, weight, np.where(answered, weight * weight[~told].sum() / given, 0.0))
