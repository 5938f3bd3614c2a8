"""Boosted trees over rows: a walk of as many steps as a tree is deep, by numbers without a branch to be guessed wrong.

A forest lies in plain arrays, one tree's nodes behind the other's, two children side by side; a leaf is its own child.
Everything is in single precision and added tree by tree, as XGBoost does, so that a margin is the library's to the bit.
"""

from __future__ import annotations

import numpy as np

from fraudlab.features.kernels.jit import kernel

BLOCK = 32
"""Rows that go through a tree before the next one: they and the tree's nodes stay in the processor's cache."""
ONE = np.uint64(1)
COLUMN, CHILD, MISSING = np.uint32(20), np.uint32(2), np.uint32(1)
MOST_COLUMNS, MOST_NODES = 1 << 12, 1 << 18
"""What fits into a node: column (12 bits), first child as counted within its tree (18), which child a missing value
goes to, whether by category."""


@kernel
def margins(values, roots, depth, nodes, split, begin, size, bits, leaf, base, out):
    """Write the sum of the leaves that each row falls into, float32, after `base`.

    values : float32[rows, columns], NaN where missing. roots, depth : where each tree begins, how many steps it takes.
    nodes : see `MOST_NODES`. split : values below it go to the first child; NaN for a leaf. begin, size : of a node by
    category, whose codes that go to the second child are the set bits of `bits[begin : begin + size]`, 32 to a word,
    the first code in the highest bit. leaf : what a leaf adds.
    """
    for start in range(0, len(values), BLOCK):
        end = min(start + BLOCK, len(values))
        out[start:end] = base
        for tree in range(roots.size):
            root, steps = np.uint64(roots[tree]), depth[tree]
            for row in range(start, end):
                node = root
                for _ in range(steps):
                    packed = nodes[node]
                    value = values[row, np.uint64(packed >> COLUMN)]
                    missing = np.uint64(packed >> MISSING) & ONE
                    if packed & np.uint32(1):
                        second = np.uint64(0)
                        if value != value:
                            second = missing
                        elif value >= 0 and value < 16777216:
                            code = np.int64(value)
                            word = code >> 5
                            if word < size[node]:
                                second = np.uint64(bits[begin[node] + word] >> np.uint32(31 - (code & 31))) & ONE
                    else:
                        second = np.uint64(value >= split[node]) | (np.uint64(value != value) & missing)
                    node = root + (np.uint64(packed >> CHILD) & np.uint64(MOST_NODES - 1)) + second
                out[row] = np.float32(out[row] + leaf[node])
