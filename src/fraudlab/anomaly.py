"""Scores that need no labels: how unusual a payment is beside those a detector was fitted on.

Two methods: an isolation forest, kept as plain arrays, and a density, the squared distance from the centre of the
training rows in their own spread. Both give a raw number that only ranks; `Detector.score` turns it into the share of
training rows that are less unusual. No label is read anywhere, so a detector knows no frauds: it finds what is rare.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from scipy.special import logit

from fraudlab.features.words import describe_anomaly, in_every_language
from fraudlab.forest import ARRAYS, Forest, check_forest, forest_of
from fraudlab.metrics import SMALLEST_CELL, wilson
from fraudlab.schema import InputError, did_you_mean

Kind = Literal["isolation_forest", "density"]

ANOMALY = "anomaly"
"""The name of the feature column, and of the reference model, that a detector makes."""

RIDGE = 0.1
"""Added to every standardised feature's variance: near-copies among the features do not count as rare directions."""

FURTHEST = 20.0
"""Standard deviations beyond which a value is as far as it gets: one wild value must not hide all others."""

TREES, ROWS_A_TREE = 100, 256
"""Of the isolation forest: those of its authors."""

FEWEST = 100
"""Training rows a detector needs; what is rare cannot be told from fewer."""

KNOTS = 1000
TOPS = (*(step * 10.0**power for power in (-4, -3, -2, -1) for step in (1, 1.5, 2, 3, 5, 7)), 1.0)
EULER = float(np.euler_gamma)


# -- methods: unusual(values), higher is rarer, and parts(values) of it by feature ----------------------------------


@dataclass(frozen=True, eq=False)
class Density:
    """A normal density around the training rows' mean; its negative logarithm ranks as the squared distance does.

    z = (value - mean) / scale, a missing one 0, kept within `FURTHEST`; the distance is z' P z with P = `precision`,
    the inverse of Z'Z / n + ridge I over the training rows.
    """

    mean: np.ndarray
    scale: np.ndarray
    precision: np.ndarray

    def unusual(self, values: np.ndarray) -> np.ndarray:
        """Return the squared distance, float64[rows]."""
        return _in_chunks(self._distance, values, 512)

    def _distance(self, values: np.ndarray) -> np.ndarray:
        # z' P z as the sum of squares of R z, with P = R'R. Term by term, not by a matrix product, whose last bits
        # depend on how many rows there are: a payment scored alone must get what it got in a table.
        z = np.ascontiguousarray(standardised(values, self.mean, self.scale).T)
        turned, total = np.zeros_like(z), np.zeros(len(values))
        for last, row in enumerate(z):
            turned[: last + 1] += self._root[: last + 1, last, None] * row
        for row in turned:
            total += row * row
        return total

    def parts(self, values: np.ndarray) -> np.ndarray:
        """Return float64[rows, features] that sum to the distance: z_j (P z)_j.

        A part is below 0 where the others make the value expected.
        """
        z = standardised(values, self.mean, self.scale)
        return z * (z @ self.precision)

    @cached_property
    def _root(self) -> np.ndarray:
        return np.linalg.cholesky(self.precision).T


@dataclass(frozen=True, eq=False)
class Isolation:
    """An isolation forest: rare rows are parted from the others by few random splits.

    The `forest`'s leaf values are path lengths: the leaf's depth and, for the n training rows in it, the mean path
    c(n) of a tree that would part them. `rows` is how many rows a tree was grown on.
    """

    forest: Forest
    rows: int

    def unusual(self, values: np.ndarray) -> np.ndarray:
        """Return 2^(-mean path / c(rows)), float64[rows] in (0, 1]: scikit-learn's `-score_samples`."""
        whole = _mean_path(np.array([self.rows]))[0]
        return _in_chunks(lambda rows: 2.0 ** (-self.forest.probability(rows) / whole), values, 1 << 15)

    def parts(self, values: np.ndarray) -> np.ndarray:
        """Return by how many splits each feature shortens the mean path, float64[rows, features] (single precision).

        Path-dependent Shapley values; they sum to the path of the average training row minus this row's.
        """
        return -self.forest.shapley(values)[:, :-1]


def standardised(values: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return z values within `FURTHEST`, 0 where missing."""
    z = (values - mean) / scale
    return np.clip(np.where(np.isnan(z), 0.0, z), -FURTHEST, FURTHEST)


def _mean_path(rows: np.ndarray) -> np.ndarray:
    """Return the mean depth at which a binary search tree of so many rows ends an unsuccessful search.

    >>> _mean_path(np.array([1, 2, 3])).round(3).tolist()
    [0.0, 1.0, 1.207]
    """
    some = np.maximum(rows, 3).astype("float64")
    many = 2.0 * (np.log(some - 1.0) + EULER) - 2.0 * (some - 1.0) / some
    return np.where(rows > 2, many, np.where(rows == 2, 1.0, 0.0))


def _in_chunks(compute: Callable[[np.ndarray], np.ndarray], values: np.ndarray, size: int) -> np.ndarray:
    out = np.empty(len(values))
    for begin in range(0, len(values), size):
        out[begin : begin + size] = compute(values[begin : begin + size])
    return out


# -- a detector ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Detector:
    """A fitted method with the names of its inputs and what its numbers were on the training rows.

    `level[i]` is the share of the training rows, one added, that are at least as unusual as `reached[i]`.
    """

    features: tuple[str, ...]
    method: Density | Isolation
    reached: np.ndarray
    level: np.ndarray
    rows: int

    @property
    def kind(self) -> Kind:
        """The method's name in `[anomaly]`."""
        return "density" if isinstance(self.method, Density) else "isolation_forest"

    def score(self, values: np.ndarray) -> np.ndarray:
        """Return 1 - p, float64[rows] in (0, 1), with p the chance that a training row is at least as unusual.

        Between the kept levels p is interpolated. Beyond the most unusual training row it goes on as 1 / (rows + 1)
        times that row's number over this one's, so that the order is kept and 1 is never reached.

        Parameters
        ----------
        values : float64[rows, features], in the order of `features`; NaN is missing.
        """
        return 1.0 - self._tail(values)

    def margin(self, values: np.ndarray) -> np.ndarray:
        """Return the score's log-odds, float64[rows], as every estimator has them; no probability of fraud."""
        return -logit(self._tail(values))

    def parts(self, values: np.ndarray) -> pd.DataFrame:
        """Return what makes each row unusual: a column per feature, the larger the more; see the methods' `parts`."""
        return pd.DataFrame(self.method.parts(values), columns=list(self.features))

    def _tail(self, values: np.ndarray) -> np.ndarray:
        if values.ndim != 2 or values.shape[1] != len(self.features):
            raise InputError(
                f"anomaly: must get {len(self.features):,} features a row; found an array of shape {values.shape}; "
                "pass the columns in detector.features, in their order"
            )
        found, furthest = self.method.unusual(values), self.reached[-1]
        beyond = found > furthest
        within = np.interp(found, self.reached, self.level)
        return np.where(beyond, self.level[-1] * furthest / np.where(beyond, found, 1.0), within)

    def to_dict(self) -> dict[str, Any]:
        """Return the detector as plain values, ready for JSON."""
        about = {"kind": self.kind, "features": list(self.features), "rows": self.rows}
        tail = {"reached": self.reached.tolist(), "level": self.level.tolist()}
        if isinstance(self.method, Density):
            return about | tail | {name: getattr(self.method, name).tolist() for name in ("mean", "scale", "precision")}
        forest = {name: getattr(self.method.forest, name).tolist() for name in ARRAYS}
        return about | tail | {"rows_a_tree": self.method.rows, "forest": forest}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Detector:
        """Return the detector that `to_dict` wrote; its scores are the same, bit for bit.

        Raises
        ------
        InputError : unknown kind, arrays that do not fit each other.
        """
        kind, features = plain["kind"], tuple(plain["features"])
        if kind not in get_args(Kind):
            raise InputError(f"anomaly: unknown kind '{kind}'; {did_you_mean(str(kind), get_args(Kind))}")
        reached, level = np.array(plain["reached"], dtype="float64"), np.array(plain["level"], dtype="float64")
        count = len(features)
        fits = len(reached) == len(level) > 0 and (np.diff(reached) > 0).all() and (np.diff(level) < 0).all()
        if kind == "density":
            arrays = {name: np.array(plain[name], dtype="float64") for name in ("mean", "scale", "precision")}
            shapes = [array.shape for array in arrays.values()]
            fits = fits and shapes == [(count,), (count,), (count, count)] and (arrays["scale"] > 0).all()
            method: Density | Isolation = Density(**arrays)
        else:
            arrays = {name: np.array(plain["forest"][name], dtype=kind) for name, kind in ARRAYS.items()}
            forest = Forest(**arrays, inputs=count, rows=plain["rows_a_tree"])
            check_forest(forest, shares=False)
            method = Isolation(forest, plain["rows_a_tree"])
        if not fits:
            raise InputError("anomaly: the detector's arrays must fit each other; found otherwise; fit it again")
        return cls(features, method, reached, level, plain["rows"])


# -- fitting ---------------------------------------------------------------------------------------------------------


def fit_detector(
    values: np.ndarray,
    features: Sequence[str],
    kind: Kind,
    *,
    seed: int = 0,
    ridge: float = RIDGE,
    trees: int = TREES,
    rows_a_tree: int = ROWS_A_TREE,
) -> Detector:
    """Learn what is usual from training rows, without their labels.

    Use it to rank what nobody has looked for yet; most unusual payments are honest, so never decide on it alone.

    Parameters
    ----------
    values : float64[rows, features], at least 100 rows; NaN is missing. The frauds among them are few and stay in.
    features : a name for each column.
    kind : "density" or "isolation_forest".
    seed : of the isolation forest; the density has nothing random.
    ridge : > 0, of the density, in variances of a standardised feature.
    trees, rows_a_tree : of the isolation forest.

    Returns
    -------
    A frozen detector. Same rows, settings and seed give the same bits.

    Raises
    ------
    InputError : too few rows, names that do not match, infinite values, all rows alike, an argument out of range.

    Notes
    -----
    A missing value counts as the training mean in the density: it neither adds nor explains anything. The isolation
    forest sends missing values left or right by chance at each split, as scikit-learn does.

    References
    ----------
    Density: Mahalanobis (1936), reprinted doi:10.1007/s13171-019-00164-5, with the ridge of Hoerl and Kennard (1970),
    doi:10.1080/00401706.1970.10488634. Isolation forest: Liu, Ting and Zhou (2008), doi:10.1109/ICDM.2008.17.

    >>> usual = np.repeat([[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0]], [40, 20, 40], axis=0)
    >>> detector = fit_detector(usual, ["amount", "count"], "density", ridge=0.5)
    >>> detector.method.unusual(np.array([[1.0, 1.0], [1.0, -1.0]])).round(3).tolist()
    [1.0, 5.0]
    >>> detector.score(np.array([[0.0, 0.0], [1.0, -1.0]])).round(4).tolist()
    [0.0099, 0.8416]
    """
    features = tuple(str(name) for name in features)
    values = np.ascontiguousarray(values, dtype="float64")
    _check(values, features, kind, ridge=ridge, trees=trees, rows_a_tree=rows_a_tree)
    method = _density(values, ridge) if kind == "density" else _isolation(values, seed, trees, rows_a_tree)
    found = np.sort(method.unusual(values))
    if found[0] == found[-1]:
        raise InputError(
            f"anomaly: the training rows must differ; found all {len(values):,} equally unusual; "
            "set anomaly.kind to none or give the feature set columns that vary"
        )
    return Detector(features, method, *_levels(found), rows=len(values))


def _check(values: np.ndarray, features: tuple[str, ...], kind: str, **numbers: float) -> None:
    if kind not in get_args(Kind):
        raise InputError(f"anomaly.kind: unknown '{kind}'; {did_you_mean(str(kind), get_args(Kind))}")
    if values.ndim != 2 or values.shape[1] != len(features) or not features:
        raise InputError(
            f"anomaly: needs a name for each column of its rows; found {len(features):,} names for an array of shape "
            f"{values.shape}; pass both from the same features"
        )
    if len(values) < FEWEST:
        raise InputError(
            f"anomaly: needs at least {FEWEST} training rows to tell what is rare; found {len(values):,}; "
            "lengthen split.train_days or set anomaly.kind to none"
        )
    infinite = np.isinf(values).sum(axis=0)
    if infinite.any():
        said = ", ".join(f"'{name}' {count:,}" for name, count in zip(features, infinite) if count)
        raise InputError(
            f"anomaly: values must be finite; found infinite ones of {len(values):,} rows: {said}; "
            "make the feature missing (NaN) where it is undefined"
        )
    for name, least in (("ridge", 1e-9), ("trees", 1), ("rows_a_tree", 2)):
        if not numbers[name] >= least:
            raise InputError(f"{name}: must be at least {least:g}; found {numbers[name]}; correct it")


def _density(values: np.ndarray, ridge: float) -> Density:
    there = ~np.isnan(values)
    known = np.maximum(there.sum(axis=0), 1)  # a column without any value has mean 0 and never counts
    mean = np.where(there, values, 0.0).sum(axis=0) / known
    scale = np.sqrt((np.where(there, values - mean, 0.0) ** 2).sum(axis=0) / known)
    scale[~(scale > 1e-12 * np.maximum(np.abs(mean), 1e-300))] = 1.0  # a constant column, up to rounding
    z = standardised(values, mean, scale)
    return Density(mean, scale, np.linalg.inv(z.T @ z / len(z) + ridge * np.eye(len(mean))))


def _isolation(values: np.ndarray, seed: int, trees: int, rows_a_tree: int) -> Isolation:
    from sklearn.ensemble import IsolationForest

    rows = min(rows_a_tree, len(values))
    grown = IsolationForest(n_estimators=trees, max_samples=rows, random_state=seed).fit(values).estimators_
    return Isolation(forest_of(grown, rows=rows, values=[_paths(tree.tree_) for tree in grown]), rows)


def _paths(tree: Any) -> np.ndarray:
    """Return each node's depth plus the mean path of the training rows in it."""
    depth = np.zeros(tree.node_count)
    for node in range(tree.node_count):  # a parent comes before its children
        for child in (tree.children_left[node], tree.children_right[node]):
            if child >= 0:
                depth[child] = depth[node] + 1
    return depth + _mean_path(tree.n_node_samples)


def _levels(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ascending numbers and the share at least as unusual as each, dense where rows are rare."""
    rows = len(found)
    reached = np.unique(found[rows - np.unique(np.geomspace(1, rows, KNOTS).round().astype("int64"))])
    return reached, (rows - np.searchsorted(found, reached, side="left")) / (rows + 1)


# -- what it shows -----------------------------------------------------------------------------------------------


def tail_table(score: Any, group: Any, *, reference: str = "genuine", tops: Sequence[float] = TOPS) -> pd.DataFrame:
    """Table which share of each group is among the most unusual payments.

    Parameters
    ----------
    score : float[rows], of `Detector.score`.
    group : labels, one a row, such as "genuine" and the kind of fraud.
    reference : the group listed first; for rows like those learnt from, its share is about `top`.
    tops : shares of the training payments, such as 0.01 for those that only 1 % of them are as unusual as.

    Returns
    -------
    Columns group, top, value (share of the group's rows with a score above 1 - top), low, high (95 %, Wilson), n (rows
    of the group), note. A group of fewer than 10 rows has no values; its note says so.

    Raises
    ------
    InputError : lengths differ, a score outside [0, 1].

    >>> score, group = np.tile([0.2, 0.995], 20), ["genuine", "fraud"] * 20
    >>> tail_table(score, group, tops=[0.01, 1.0])[["group", "top", "value"]].values.tolist()
    [['genuine', 0.01, 0.0], ['genuine', 1.0, 1.0], ['fraud', 0.01, 1.0], ['fraud', 1.0, 1.0]]
    """
    score, group = np.asarray(score, dtype="float64"), pd.Series(group).astype("str").to_numpy()
    outside = int((~((score >= 0) & (score <= 1))).sum())
    if score.shape != group.shape or outside:
        raise InputError(
            f"tail table: needs one score in [0, 1] for each label; found {score.size:,} scores, {outside:,} of them "
            f"outside, for {len(group):,} labels; pass the detector's score of these rows"
        )
    tops = np.asarray(tops, dtype="float64")
    rows = []
    for name in sorted(set(group), key=lambda each: (each != reference, each)):
        own = score[group == name]
        few = len(own) < SMALLEST_CELL
        caught = np.array([(own > 1 - top).sum() for top in tops])
        low, high = wilson(caught, np.full(len(tops), len(own)))
        value = caught / len(own)
        for place, top in enumerate(tops):
            shown = (np.nan, np.nan, np.nan) if few else (value[place], low[place], high[place])
            note = f"not applicable: fewer than {SMALLEST_CELL} rows" if few else "95 % interval, Wilson"
            rows.append((name, float(top), *map(float, shown), len(own), note))
    return pd.DataFrame(rows, columns=["group", "top", "value", "low", "high", "n", "note"])


def describe_with(describe: pd.DataFrame) -> pd.DataFrame:
    """Return `FeatureSet.describe()` with a last row for the anomaly score.

    >>> from fraudlab.features import FeatureSet, value
    >>> describe_with(FeatureSet("tiny", [value("amount")]).describe())["column"].tolist()
    ['amount', 'anomaly']
    """
    others = describe[describe["column"] != ANOMALY]
    row = pd.DataFrame([in_every_language(describe_anomaly, ANOMALY)]).astype("str")
    return pd.concat([others, row[list(describe.columns)]], ignore_index=True)
