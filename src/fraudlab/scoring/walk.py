"""A booster's trees laid out for walks of one row, held against the library before they are trusted."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np

from fraudlab.features.kernels import trees
from fraudlab.models import Trees

PROBES = 400


@dataclass(frozen=True, eq=False)
class Walk:
    """The arrays of `kernels.trees.margin`."""

    arrays: tuple[np.ndarray, ...]
    base: np.float32

    @classmethod
    def of(cls, model: Trees) -> Walk | None:
        """Return a booster's walk; None where it does not give the library's bits on rows made up for this purpose."""
        try:
            walk = cls._read(json.loads(bytes(model.booster.save_raw("json")))["learner"])
        except (KeyError, ValueError, TypeError, IndexError):
            return None
        rows = _probes(walk, model.booster.num_features())
        expected = model.booster.inplace_predict(rows, predict_type="margin")
        return walk if all(walk.margin(row) == wanted for row, wanted in zip(rows, expected)) else None

    def margin(self, values: np.ndarray) -> np.float32:
        """Return the log-odds of one row, float32[features] with NaN for missing."""
        return trees.margin(values, *self.arrays, self.base)

    @classmethod
    def _read(cls, learner: dict) -> Walk:
        grown = learner["gradient_booster"]["model"]["trees"]
        stated = learner["learner_model_param"]["base_score"]
        chance = np.float32(json.loads(stated)[0] if stated.startswith("[") else float(stated))
        base = np.float32(-math.log(1.0 / float(chance) - 1.0))
        roots = np.cumsum([0, *(len(tree["left_children"]) for tree in grown)])[:-1]

        def joined(key: str, kind: type, shift: bool = False) -> np.ndarray:
            parts = [np.asarray(tree[key], kind) for tree in grown]
            if shift:
                parts = [np.where(part < 0, -1, part + root) for part, root in zip(parts, roots)]
            return np.concatenate(parts).astype(kind)

        begin, size, words = [], [], []
        used = 0
        for tree in grown:
            starts, sizes = (
                np.zeros(len(tree["left_children"]), np.int64),
                np.zeros(len(tree["left_children"]), np.int64),
            )
            for node, first, many in zip(
                tree["categories_nodes"], tree["categories_segments"], tree["categories_sizes"]
            ):
                codes = tree["categories"][first : first + many]
                mine = np.zeros(max(codes) // 32 + 1, np.uint32)
                for code in codes:
                    mine[code // 32] |= np.uint32(1 << (31 - code % 32))
                starts[node], sizes[node] = used, len(mine)
                used += len(mine)
                words.append(mine)
            begin.append(starts)
            size.append(sizes)
        arrays = (
            roots.astype(np.int64),
            joined("left_children", np.int64, True),
            joined("right_children", np.int64, True),
            joined("split_indices", np.int64),
            joined("split_conditions", np.float32),
            joined("default_left", np.bool_),
            joined("split_type", np.int64),
            np.concatenate(begin),
            np.concatenate(size),
            np.concatenate(words) if words else np.zeros(1, np.uint32),
        )
        return cls(arrays, base)


def _probes(walk: Walk, width: int) -> np.ndarray:
    """Return rows that reach many leaves: values at, just below and just above the splits, missing ones, categories."""
    _, left, _, column, split, _, kind, *_ = walk.arrays
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
