"""How the words of a row lie in memory: side by side in cells of 64 bits, each with no more bits than it needs.

A code, a row's number, flags, and times that are whole seconds apart need few. The less a row takes, the sooner it is
where its group lies, and the more rows fit into the same memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

Array = np.ndarray
Word = Callable[[slice | Array], Array]
"""Gives a word of some rows, as int64 or float64."""
Put = Callable[[slice | Array, int, Array], None]
"""Adds a word of some rows, shifted by so many bits, to numbers that are 0 there."""
CELL = 64  # bits


class Field(NamedTuple):
    """A word that is `base` + `unit` times a whole number from 0 on, of so many bits, which `put` adds to a cell."""

    put: Put
    bits: int
    unit: int = 1
    base: int = 0


class Packing(NamedTuple):
    """What each cell holds, and where each word lies.

    Attributes
    ----------
    cells : for each cell its one word, or the fields in it, each with the number of bits by which it is shifted.
    layout : (words, 5), per word its cell, its shift, the bits it has there, unit and base; unit 0: all of the cell.
    """

    cells: list[Word | list[tuple[Put, int]]]
    layout: Array


def lay(bits: Sequence[int]) -> list[tuple[int, int]]:
    """Return the cell and the shift of words of so many bits: each goes to the first cell with room for it.

    >>> lay([24, 64, 1, 41, 39])
    [(0, 0), (1, 0), (0, 24), (2, 0), (0, 25)]
    """
    used: list[int] = []
    found = []
    for many in bits:
        cell = next((cell for cell, taken in enumerate(used) if taken + many <= CELL), len(used))
        if cell == len(used):
            used.append(0)
        found.append((cell, used[cell]))
        used[cell] += many
    return found


def pack(words: Sequence[Word | Field]) -> Packing:
    """Put words into cells, see `lay`.

    >>> put = lambda rows, shift, out: None
    >>> pack([Field(put, 20), lambda rows: np.ones(1), Field(put, 21, 1, -1)]).layout.tolist()
    [[0, 0, 1048575, 1, 0], [1, 0, 0, 0, 0], [0, 20, 2097151, 1, -1]]
    """
    cells: list[Word | list[tuple[Put, int]]] = []
    layout = np.zeros((len(words), 5), np.int64)
    bits = [word.bits if isinstance(word, Field) else CELL for word in words]
    for number, (word, (cell, shift)) in enumerate(zip(words, lay(bits), strict=True)):
        layout[number, :2] = cell, shift
        if not isinstance(word, Field):
            cells.append(word)
            continue
        if cell == len(cells):
            cells.append([])
        cells[cell].append((word.put, shift))
        layout[number, 2:] = (1 << word.bits) - 1, word.unit, word.base
    return Packing(cells, layout)


def whole(words: int) -> Array:
    """Return the layout of so many words in a cell each."""
    layout = np.zeros((words, 5), np.int64)
    layout[:, 0] = np.arange(words)
    return layout


def fill(cells: Sequence[Word | Sequence[tuple[Put, int]]], rows: slice | Array, out: Array) -> None:
    """Write the cells of some rows: one row of `out`, whole numbers of 64 bits, for each cell."""
    reals = out.view(np.float64)
    for k, made in enumerate(cells):
        if callable(made):
            values = made(rows)
            (reals if values.dtype == np.float64 else out)[k] = values
        else:
            out[k] = 0
            for put, shift in made:
                put(rows, shift, out[k])
