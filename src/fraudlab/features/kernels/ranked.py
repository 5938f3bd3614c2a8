"""Order: rows sorted by a key, and sets of ranks that are counted and searched while they change.

A set of whole numbers is a bit for each, 64 to a word, and behind the words a Fenwick tree of how many bits each has.
"""

from __future__ import annotations

import numpy as np

from fraudlab.features.kernels.jit import part

# Indices that cannot be negative save a check per access.
NONE, ONE, TWO, FOUR = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(4)
NO_SIGN = np.int64(2**63 - 1)
FEW = np.uint64(8)  # rows that are sorted by counting
WORD, IN_WORD = np.uint64(6), np.uint64(63)  # the bits of a number that say which word, and where in it
PAIRS, FOURS = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333)
EIGHTS, BYTES = np.uint64(0x0F0F0F0F0F0F0F0F), np.uint64(0x0101010101010101)


@part
def in_order(value):
    """Return a whole number for a number, in the same order; zero has no sign."""
    bits = np.float64(value + 0.0).view(np.int64)
    return bits ^ ((bits >> 63) & NO_SIGN)


@part
def sort_rows(keys, rows, spare_keys, spare_rows, a, b):
    """Sort keys[a:b], whole numbers, and rows[a:b] with them; equal ones stay in their order (a merge sort).

    Nothing is decided by a branch, of which the processor would guess every other one wrong: a few rows at a time find
    their place by counting, and a merge takes the smaller of two heads by arithmetic. What is spare is as long.
    """
    first = np.uint64(a)
    last = np.uint64(b)
    for left in range(first, last, FEW):
        end = min(left + FEW, last)
        for i in range(left, end):
            key = keys[i]
            place = left
            for k in range(left, i):
                place += np.uint64(keys[k] <= key)
            for k in range(i + ONE, end):
                place += np.uint64(keys[k] < key)
            spare_keys[place] = key
            spare_rows[place] = rows[i]
    given, made, given_rows, made_rows = spare_keys, keys, spare_rows, rows
    inside = False  # whether what is sorted so far lies in `keys` and `rows`
    width = FEW
    while width < last - first:
        for left in range(first, last, TWO * width):
            i = left
            middle = min(left + width, last)
            j = middle
            end = min(middle + width, last)
            k = left
            while i < middle and j < end:
                swap = given[j] < given[i]
                which = j if swap else i
                made[k] = given[which]
                made_rows[k] = given_rows[which]
                j += np.uint64(swap)
                i += np.uint64(not swap)
                k += ONE
            while i < middle:
                made[k] = given[i]
                made_rows[k] = given_rows[i]
                i += ONE
                k += ONE
            while j < end:
                made[k] = given[j]
                made_rows[k] = given_rows[j]
                j += ONE
                k += ONE
        given, made = made, given
        given_rows, made_rows = made_rows, given_rows
        inside = not inside
        width *= TWO
    if not inside:
        for k in range(first, last):
            keys[k] = spare_keys[k]
            rows[k] = spare_rows[k]


@part
def first_at_least(values, order, a, many, value, beyond):
    """Return how many of the `many` ordered values from `a` on are smaller than a value, or (`beyond`) not larger."""
    left = 0
    right = many
    while left < right:
        middle = (left + right) // 2
        found = values[order[a + middle]]
        if found < value or (beyond and found == value):
            left = middle + 1
        else:
            right = middle
    return left


@part
def ones(word):
    """Return how many bits of a word are 1; compilers know these lines and make one instruction of them."""
    word -= (word >> ONE) & PAIRS
    word = (word & FOURS) + ((word >> TWO) & FOURS)
    word = (word + (word >> FOUR)) & EIGHTS
    return (word * BYTES) >> np.uint64(56)


@part
def empty_set(room, most):
    """Return the empty set of numbers up to `most`, in as much of the room as it needs: at most `most` + 2 numbers."""
    held = room[: 2 * (most // 64 + 1) + 1]
    for k in range(held.size):
        held[k] = 0
    return held


@part
def toggle(held, number, by):
    """Put a number into the set (`by` is 1), or take it out (-1)."""
    word = np.uint64(number) >> WORD
    held[word] ^= np.int64(ONE << (np.uint64(number) & IN_WORD))
    size = np.uint64(held.size)
    words = size >> ONE
    place = word + ONE
    while words + place < size:
        held[words + place] += by
        place += place & (~place + ONE)


@part
def held_before(held, number):
    """Return how many numbers of the set are smaller than this one."""
    place = np.uint64(number) >> WORD
    found = np.int64(ones(np.uint64(held[place]) & ((ONE << (np.uint64(number) & IN_WORD)) - ONE)))
    words = np.uint64(held.size) >> ONE
    while place > NONE:
        found += held[words + place]
        place &= place - ONE
    return found


@part
def held_at(held, k):
    """Return the number at place k of the set, 0 the smallest; the set must hold more than k."""
    words = np.uint64(held.size) >> ONE
    size = words + ONE
    word = NONE
    step = ONE
    while TWO * step < size:
        step *= TWO
    while step > NONE:
        ahead = word + step
        if ahead < size and held[words + ahead] <= k:
            word = ahead
            k -= held[words + ahead]
        step >>= ONE
    # Now the word's own bit number k: is it in the lower half, of that half in the lower one, and so on.
    bits = np.uint64(held[word])
    left = np.uint64(k)
    bit = NONE
    width = np.uint64(32)
    while width > NONE:
        lower = ones(bits & ((ONE << width) - ONE))
        upper = left >= lower
        left -= lower if upper else NONE
        bits >>= width if upper else NONE
        bit += width if upper else NONE
        width >>= ONE
    return np.int64((word << WORD) + bit)


@part
def held_after(held, number, k):
    """Return the number that follows this one, which is at place k - 1 of the set; there must be one."""
    word = np.uint64(number) >> WORD
    above = np.uint64(held[word]) & (~ONE << (np.uint64(number) & IN_WORD))
    if above == NONE:
        return held_at(held, k)
    return np.int64((word << WORD) + ones((above & (~above + ONE)) - ONE))
