"""A booster's trees laid out for quick walks, held against the library before they are trusted."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from fraudlab.features.kernels import jit, trees
from fraudlab.models import Trees

PROBES = 400
MANY = 20_000
"""Rows from which on every core has its share."""


@dataclass(frozen=True, eq=False)
class Walk:
    """The arrays of `kernels.trees.margins`."""

    arrays: tuple[np.ndarray, ...]
    base: np.float32

    @classmethod
    def of(cls, model: Trees) -> Walk | None:
        """Return a booster's walk; None where it does not give the library's bits on rows made up for this purpose."""
        try:
            learner = json.loads(bytes(model.booster.save_raw("json")))["learner"]
            walk = cls._read(learner)
        except (KeyError, ValueError, TypeError, IndexError):
            return None
        rows = _probes(learner["gradient_booster"]["model"]["trees"], model.booster.num_features())
        expected = model.booster.inplace_predict(rows, predict_type="margin")
        return walk if (walk.margins(rows) == expected).all() else None

    def margins(self, values: np.ndarray) -> np.ndarray:
        """Return the log-odds of rows, float32[rows], from float32[rows, features] with NaN for missing."""
        out = np.empty(len(values), np.float32)

        def work(rows: slice) -> None:
            trees.margins(values[rows], *self.arrays, self.base, out[rows])

        if len(values) < MANY:
            work(slice(None))
            return out
        ends = np.linspace(0, len(values), jit.threads() + 1).astype(np.int64).tolist()
        with ThreadPoolExecutor(jit.threads()) as pool:
            list(pool.map(work, map(slice, ends[:-1], ends[1:])))
        return out

    @classmethod
    def _read(cls, learner: dict) -> Walk:
        grown = [_laid_out(tree) for tree in learner["gradient_booster"]["model"]["trees"]]
        stated = learner["learner_model_param"]["base_score"]
        chance = np.float32(json.loads(stated)[0] if stated.startswith("[") else float(stated))
        base = np.float32(-math.log(1.0 / float(chance) - 1.0))
        roots = np.cumsum([0, *(len(tree["split"]) for tree in grown)])
        words = np.cumsum([0, *(len(tree["bits"]) for tree in grown)])
        if (
            np.diff(roots).max() > trees.MOST_NODES
            or max(int(tree["column"].max()) for tree in grown) >= trees.MOST_COLUMNS
        ):
            raise ValueError("more than a node can hold")

        def joined(name: str) -> np.ndarray:
            return np.concatenate([tree[name] for tree in grown])

        nodes = joined("column") << int(trees.COLUMN) | joined("child") << int(trees.CHILD)
        nodes |= joined("missing") << int(trees.MISSING) | joined("kind")
        arrays = (
            roots[:-1].astype(np.int64),
            np.array([tree["depth"] for tree in grown], np.int64),
            nodes.astype(np.uint32),
            joined("split").astype(np.float32),
            joined("begin") + np.repeat(words[:-1], np.diff(roots)),
            joined("size"),
            joined("bits"),
            joined("leaf").astype(np.float32),
        )
        return cls(arrays, base)


def _laid_out(tree: dict) -> dict[str, Any]:
    """Return one tree's nodes from the root down, two children side by side; see `kernels.trees.margins`."""
    order, depth = [0], [0]
    child = []
    for node, level in zip(order, depth):  # grows while it goes
        below = [tree["left_children"][node], tree["right_children"][node]]
        child.append(len(order) if below[0] >= 0 else len(child))
        if below[0] >= 0:
            order += below
            depth += [level + 1] * 2
    split = np.array(tree["split_conditions"], np.float32)[order]
    ends = np.array(tree["left_children"])[order] < 0
    begin, size, bits = np.zeros(len(order), np.int64), np.zeros(len(order), np.int64), [np.zeros(1, np.uint32)]
    place, used = {node: k for k, node in enumerate(order)}, 1
    for node, first, many in zip(tree["categories_nodes"], tree["categories_segments"], tree["categories_sizes"]):
        codes = tree["categories"][first : first + many]
        mine = np.zeros(max(codes) // 32 + 1, np.uint32)
        for code in codes:
            mine[code // 32] |= np.uint32(1 << (31 - code % 32))
        begin[place[node]], size[place[node]] = used, len(mine)
        used += len(mine)
        bits.append(mine)
    return {
        "depth": max(depth),
        "child": np.array(child),
        "column": np.where(ends, 0, np.array(tree["split_indices"], np.int64)[order]),
        "missing": np.where(ends, 0, 1 - np.array(tree["default_left"], np.int64)[order]),
        "kind": np.where(ends, 0, np.array(tree["split_type"], np.int64)[order]),
        "split": np.where(ends, np.float32(np.nan), split),
        "leaf": np.where(ends, split, np.float32(0)),
        "begin": begin,
        "size": size,
        "bits": np.concatenate(bits),
    }


def _probes(grown: list[dict], width: int) -> np.ndarray:
    """Return rows that reach many leaves: values at, just below and just above the splits, missing ones, categories."""
    column, split, kind, left = (
        np.concatenate([np.asarray(tree[name]) for tree in grown])
        for name in ("split_indices", "split_conditions", "split_type", "left_children")
    )
    split = split.astype(np.float32)
    rng = np.random.default_rng(0)
    rows = np.full((PROBES, width), np.nan, np.float32)
    for name in range(width):
        mine = (column == name) & (left >= 0)
        values = np.unique(split[mine & (kind == 0)])
        near = np.concatenate(
            [values, np.nextafter(values, np.float32(np.inf)), np.nextafter(values, np.float32(-np.inf))]
        )
        if (mine & (kind == 1)).any():
            near = np.arange(64, dtype=np.float32)
        near = np.append(near if near.size else np.zeros(1, np.float32), np.float32(np.nan))
        rows[:, name] = rng.choice(near, PROBES)
    return rows
