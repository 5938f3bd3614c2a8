"""Boosted trees, one row at a time: what a library needs a millisecond for is a walk of some hundred steps.

A forest lies in plain arrays, one tree's nodes behind the other's. Everything is in single precision and added tree by
tree, as XGBoost does, so that the margin is the library's to the bit.
"""

from __future__ import annotations

import numpy as np

from fraudlab.features.kernels.jit import kernel


@kernel
def margin(values, roots, left, right, column, split, default_left, kind, begin, size, bits, base):
    """Return the sum of the leaves that one row falls into, float32, after `base`.

    values : float32 of the row, NaN where missing. roots : where each tree begins. left, right : a node's children,
    -1 for a leaf, whose value is in `split`. kind : 1 where `column` holds a category, whose codes that go right are
    the set bits of `bits[begin : begin + size]`, 32 to a word, the first code in the highest bit; else values below
    `split` go left.
    """
    found = base
    for tree in range(roots.size):
        node = roots[tree]
        while left[node] >= 0:
            value = values[column[node]]
            if value != value:
                goes_left = default_left[node]
            elif kind[node] == 0:
                goes_left = value < split[node]
            else:
                goes_left = True
                if value >= 0 and value < 16777216:
                    code = np.int64(value)
                    word = code >> 5
                    if word < size[node]:
                        goes_left = (bits[begin[node] + word] >> np.uint32(31 - (code & 31))) & np.uint32(1) == 0
            node = left[node] if goes_left else right[node]
        found = np.float32(found + split[node])
    return found
