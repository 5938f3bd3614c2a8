"""Counts so small that they may point at a person, and which others have to be hidden with them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

SMALLEST_CELL = 10
"""Counts of payments or people from 1 up to one below this are not shown in pictures and reports."""


def small_cells(counts: Sequence[float] | pd.Series | np.ndarray, smallest: int = SMALLEST_CELL) -> np.ndarray:
    """Mark the counts that must not be shown: 1 to `smallest` - 1, and as many more as would give them away.

    Parameters
    ----------
    counts : whole numbers >= 0 that together make a total which may be known; missing ones are hidden already.
    smallest : the least count that may be shown.

    Returns
    -------
    bool array [n]; zeros are never marked. Those marked are two or more and add up to `smallest` or more, where there
    are as many: their sum can be worked out. For tables of several dimensions see `privacy.anonymity`.

    >>> small_cells([6, 0, 25, 12, 300]).tolist()
    [True, False, False, True, False]
    >>> small_cells([6, 8, 25]).tolist(), small_cells([10, 0, 25]).tolist()
    ([True, True, False], [False, False, False])
    >>> small_cells([4, 3, 25, 40]).tolist()
    [True, True, True, False]
    """
    counts = np.asarray(counts, dtype=float)
    gone = np.isnan(counts)
    hidden = gone | (counts > 0) & (counts < smallest)
    if hidden.any() and not gone.any():
        for other in np.argsort(counts, kind="stable"):
            if hidden.sum() >= 2 and counts[hidden].sum() >= smallest:
                break
            hidden[other] |= counts[other] > 0
    return hidden
