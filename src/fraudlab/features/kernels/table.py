"""A table of keys, each of which has a number: where a dictionary of tuples would take a look at objects per row.

Open addressing with linear probing; `slots` holds numbers, -1 where free, and is at most half full.
"""

from __future__ import annotations

import numpy as np

from fraudlab.features.kernels.jit import kernel

ODD = np.uint64(0x9E3779B97F4A7C15)
HALF = np.uint64(32)


@kernel
def place_of(slots, keys, key):
    """Return the place in `slots` of one key, or the free place where it belongs."""
    mixed = np.uint64(0)
    if key.size == 1:
        mixed = np.uint64(key[0])  # codes count from 0, so that each has a place of its own
    else:
        for k in range(key.size):
            mixed = (mixed ^ np.uint64(key[k])) * ODD
            mixed ^= mixed >> HALF
    mask = np.uint64(slots.size - 1)
    place = mixed & mask
    while slots[place] >= 0:
        row = slots[place]
        same = True
        for k in range(key.size):
            same = same and keys[row, k] == key[k]
        if same:
            break
        place = (place + np.uint64(1)) & mask
    return place


@kernel
def numbered(slots, keys, size, wanted, adding, found):
    """Write the number of each wanted key (a row of whole numbers), -1 for one that holds a negative number.

    With `adding`, a key that is not there gets the next number from `size` on and is written to `keys`, where there
    must be room; else it gets -1. Returns how many numbers there are then.
    """
    for i in range(wanted.shape[0]):
        found[i] = -1
        missing = False
        for k in range(wanted.shape[1]):
            missing = missing or wanted[i, k] < 0
        if missing:
            continue
        place = place_of(slots, keys, wanted[i])
        if slots[place] < 0 and adding:
            slots[place] = size
            for k in range(wanted.shape[1]):
                keys[size, k] = wanted[i, k]
            size += 1
        found[i] = slots[place]
    return size


@kernel
def refill(slots, keys, size):
    """Put the first `size` keys, all of them different, into empty slots."""
    for row in range(size):
        slots[place_of(slots, keys, keys[row])] = row
