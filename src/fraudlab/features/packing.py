"""How the words of a row lie in memory: in cells of 64 bits, each with one whole word or with the halves of two.

A code, a row's number, flags, and times that are whole seconds apart fit 32 bits. The less a row takes, the sooner it
is where its group lies, and the more rows fit into the same memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from fraudlab.features.kernels import source as scan

Array = np.ndarray
Word = Callable[[slice | Array], Array]
HALF = 32  # bits


class Half(NamedTuple):
    """A word as 32 bits: `base` + `unit` times what `make` gives of some rows."""

    make: Word
    unit: int = 1
    base: int = 0


class Packing(NamedTuple):
    """What each cell holds, and where each word lies.

    Attributes
    ----------
    cells : for each cell the function of its word, or of its two halves, the lower first.
    layout : (words, 4), per word its cell, by how many bits it is shifted, and unit and base of a half; unit 0: whole.
    """

    cells: list[list[Word]]
    layout: Array


def pack(words: Sequence[Word | Half]) -> Packing:
    """Put words into cells in their order; a half goes to the cell of the last half that is alone.

    >>> number, code, row = (lambda rows: np.ones(1)), Half(lambda rows: np.ones(1, np.int32)), Half(lambda rows: rows)
    >>> pack([code, number, row]).layout.tolist()
    [[0, 0, 1, 0], [1, 0, 0, 0], [0, 32, 1, 0]]
    """
    cells: list[list[Word]] = []
    layout = np.zeros((len(words), 4), np.int64)
    alone = -1
    for number, word in enumerate(words):
        if not isinstance(word, Half):
            layout[number, 0] = len(cells)
            cells.append([word])
        elif alone < 0:
            alone = len(cells)
            layout[number] = alone, 0, word.unit, word.base
            cells.append([word.make])
        else:
            layout[number] = alone, HALF, word.unit, word.base
            cells[alone].append(word.make)
            alone = -1
    return Packing(cells, layout)


def whole(words: int) -> Array:
    """Return the layout of so many words in a cell each."""
    layout = np.zeros((words, 4), np.int64)
    layout[:, 0] = np.arange(words)
    return layout


def fill(cells: Sequence[Sequence[Word]], rows: slice | Array, out: Array) -> None:
    """Write the cells of some rows: one row of `out`, whole numbers of 64 bits, for each cell."""
    reals = out.view(np.float64)
    for k, made in enumerate(cells):
        values = made[0](rows)
        if len(made) == 2:
            scan.pair(values, made[1](rows), out[k])
        else:
            (reals if values.dtype == np.float64 else out)[k] = values
