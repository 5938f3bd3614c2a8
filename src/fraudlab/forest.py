"""A forest as plain arrays: trees whose leaves hold shares of fraud, averaged; no library needed to keep or read it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xgboost as xgb

from fraudlab.schema import InputError

ARRAYS = {
    "root": np.int64,
    "left": np.int32,
    "feature": np.int32,
    "threshold": np.float64,
    "missing_left": np.bool_,
    "cover": np.float64,
    "value": np.float64,
}
LEAF = -1


@dataclass(frozen=True, eq=False)
class Forest:
    """A random forest or bagged trees.

    The nodes of all trees lie one after the other; `root` says where each tree begins. `left`, counted from there, is a
    node's left child, the right one lies beside it, and a leaf has -1. A row goes left where its value, in single
    precision, is at most the `threshold`, and where `missing_left` says so if it has none. `cover` is the weight of the
    training rows that reached a node, `value` their share of fraud. `rows` is how many rows a tree was grown on, and
    `shift` what is added to the log-odds for the genuine rows left out of them.
    """

    root: np.ndarray
    left: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    missing_left: np.ndarray
    cover: np.ndarray
    value: np.ndarray
    inputs: int
    rows: int
    shift: float = 0.0

    def probability(self, values: np.ndarray) -> np.ndarray:
        """Return the mean over the trees of the share of fraud in a row's leaf, float64[rows], without the shift."""
        if not len(values):
            return np.empty(0)
        leaf = self._paths.predict(xgb.DMatrix(values), pred_leaf=True).astype("int64").reshape(len(values), -1)
        return self.value[leaf + self.root].mean(axis=1)

    def margin(self, values: np.ndarray) -> np.ndarray:
        """Return the log-odds, float64[rows]: of the probability with half a row added on either side, plus the shift.

        Without the half row the many rows in whose leaves there was no fraud would have no log-odds.
        """
        return self._log_odds(self.probability(values)) + self.shift

    def contributions(self, values: np.ndarray) -> np.ndarray:
        """Return path-dependent Shapley values in log-odds, float64[rows, features + 1]; the last is the base.

        They are exact for the probability. Log-odds bend it, so each row's values are stretched by one factor until
        they add up to its margin: the rescale rule (Chen, Lundberg, Lee 2022, doi:10.1038/s41467-022-31384-3).
        """
        if not len(values):
            return np.empty((0, self.inputs + 1))
        out = self.shapley(values)
        base, moved = out[0, -1], out[:, :-1].sum(axis=1)
        start = self._log_odds(base)
        near = np.abs(moved) < 1e-6  # both ends of the stretch coincide: its factor is the slope there
        slope = self.rows / (self.rows * base + 0.5) + self.rows / (self.rows * (1 - base) + 0.5)
        gained = self._log_odds(self.probability(values)) - start
        out[:, :-1] *= np.where(near, slope, gained / np.where(near, 1.0, moved))[:, None]
        out[:, -1] = start + self.shift
        return out

    def shapley(self, values: np.ndarray) -> np.ndarray:
        """Return path-dependent Shapley values of the trees' mean, float64[rows, features + 1]; last comes the base."""
        return self._paths.predict(xgb.DMatrix(values), pred_contribs=True).astype("float64") / len(self.root)

    def _log_odds(self, probability: Any) -> np.ndarray:
        return np.log((self.rows * probability + 0.5) / (self.rows * (1 - probability) + 0.5))

    @cached_property
    def _paths(self) -> xgb.Booster:
        # The same trees in the boosting library, which walks and explains them fast. Its leaves are single precision,
        # so only the leaf's number is taken from it. It goes left where a value is less than the condition: the next
        # single-precision number after the last one that is at most the threshold.
        last = self.threshold.astype("float32")
        last = np.where(last > self.threshold, np.nextafter(last, np.float32(-np.inf)), last)
        leaf = self.left == LEAF
        condition = np.where(leaf, self.value, np.nextafter(last, np.float32(np.inf)).astype("float64"))
        # A tree may part the missing from all others; values beyond the largest single-precision number are refused.
        condition = np.clip(condition, -float(np.finfo("float32").max), float(np.finfo("float32").max))
        small = xgb.DMatrix(np.zeros((2, self.inputs)), [0, 1])
        whole = json.loads(bytes(xgb.train({"base_score": 0.0}, small, num_boost_round=1).save_raw("json")))
        learnt = whole["learner"]["gradient_booster"]["model"]
        template, trees = learnt["trees"][0], []
        for begin, end in zip(self.root, [*self.root[1:], len(self.value)]):
            here, count = slice(begin, end), int(end - begin)
            inner = np.flatnonzero(~leaf[here])
            parents = np.full(count, 2**31 - 1)
            left = self.left[here]
            parents[left[inner]] = parents[left[inner] + 1] = inner
            trees.append(
                template
                | {
                    "id": len(trees),
                    "tree_param": template["tree_param"] | {"num_nodes": str(count)},
                    "left_children": left.tolist(),
                    "right_children": np.where(left == LEAF, LEAF, left + 1).tolist(),
                    "parents": parents.tolist(),
                    "split_indices": np.where(leaf[here], 0, self.feature[here]).tolist(),
                    "split_conditions": condition[here].tolist(),
                    "default_left": self.missing_left[here].astype(int).tolist(),
                    "sum_hessian": self.cover[here].tolist(),
                    "base_weights": self.value[here].tolist(),
                    "loss_changes": [0.0] * count,
                    "split_type": [0] * count,
                }
            )
        learnt["trees"] = trees
        learnt["tree_info"] = [0] * len(trees)
        learnt["iteration_indptr"] = list(range(len(trees) + 1))
        learnt["gbtree_model_param"]["num_trees"] = str(len(trees))
        booster = xgb.Booster()
        booster.load_model(bytearray(json.dumps(whole).encode()))
        return booster


def forest_of(
    trees: Sequence[Any], *, rows: int, shift: float = 0.0, values: Sequence[np.ndarray] | None = None
) -> Forest:
    """Take scikit-learn's fitted decision trees over as a `Forest`.

    Parameters
    ----------
    trees : `DecisionTreeClassifier`s on the same inputs; the second class is fraud.
    rows : how many rows each was grown on.
    shift : added to the log-odds, for genuine rows left out.
    values : for each tree a number for each of its nodes, in place of the share of fraud; then it may be any tree.

    >>> from sklearn.tree import DecisionTreeClassifier
    >>> tree = DecisionTreeClassifier().fit([[1.0], [2.0], [3.0], [4.0]], [0, 0, 1, 1])
    >>> forest_of([tree], rows=4).probability(np.array([[2.0], [9.0]])).tolist()
    [0.0, 1.0]
    """
    told = values or [tree.tree_.value[:, 0, 1] / tree.tree_.value[:, 0, :].sum(axis=1) for tree in trees]
    parts = [_nodes(tree.tree_, value) for tree, value in zip(trees, told, strict=True)]
    arrays = {name: np.concatenate([part[name] for part in parts]).astype(ARRAYS[name]) for name in parts[0]}
    root = np.cumsum([0, *(len(part["left"]) for part in parts[:-1])]).astype(ARRAYS["root"])
    return Forest(root, **arrays, inputs=int(trees[0].n_features_in_), rows=rows, shift=shift)


def _nodes(tree: Any, value: np.ndarray) -> dict[str, np.ndarray]:
    """Return a tree's nodes level by level, so that siblings lie side by side."""
    levels, level = [], np.zeros(1, dtype="int64")
    while len(level):
        levels.append(level)
        inner = level[tree.children_left[level] != LEAF]
        level = np.column_stack([tree.children_left[inner], tree.children_right[inner]]).ravel()
    order = np.concatenate(levels)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    left = tree.children_left[order]
    leaf = left == LEAF
    return {
        "left": np.where(leaf, LEAF, place[left]),
        "feature": np.where(leaf, LEAF, tree.feature[order]),
        "threshold": np.where(leaf, 0.0, tree.threshold[order]),
        "missing_left": tree.missing_go_to_left[order],
        "cover": tree.weighted_n_node_samples[order],
        "value": value[order],
    }


def check_forest(forest: Forest, *, shares: bool = True) -> None:
    """Refuse arrays that are no forest; `shares` says whether its values must be shares of fraud.

    Raises
    ------
    InputError : with the first rule that is broken: lengths, trees without nodes, children out of place, loops,
        splits on inputs that do not exist, shares outside [0, 1].
    """
    nodes = len(forest.value)
    size = np.diff(np.append(forest.root, nodes))
    if any(len(getattr(forest, name)) != nodes for name in ARRAYS if name != "root"):
        raise _no_forest("every array has one entry for each node")
    if not len(size) or forest.root[0] != 0 or (size < 1).any():
        raise _no_forest("every tree has nodes of its own")
    inner = forest.left != LEAF
    place, own = np.arange(nodes) - np.repeat(forest.root, size), np.repeat(size, size)
    if ((forest.left <= place) | (forest.left + 1 >= own))[inner].any():
        raise _no_forest("children come after their parent, in its own tree")
    if ((forest.feature < 0) | (forest.feature >= forest.inputs))[inner].any():
        raise _no_forest("splits are on inputs that exist")
    if not (forest.value >= 0).all() or (shares and (forest.value > 1).any()):
        raise _no_forest("shares of fraud lie in [0, 1], path lengths are not negative")
    if not (forest.cover > 0).all() or forest.rows < 1:
        raise _no_forest("every node was reached by training rows")


def _no_forest(rule: str) -> InputError:
    return InputError(f"forest: {rule}; found otherwise; restore the file or train again")
