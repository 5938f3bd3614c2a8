"""Where windows begin: the first row of a group that is later than some time before one of its rows.

The edge of a row is found from that of the row before, which the processor would have to wait for. The rows of a group
are therefore done in stretches, side by side; the first edge of each is searched for. Chunks as in `windows`.
"""

from __future__ import annotations

import numpy as np

from fraudlab.features.kernels.jit import inlined, leading, part, replaced

ONE, TWO, FOUR, EIGHT = np.uint64(1), np.uint64(2), np.uint64(4), np.uint64(8)


@part
def later(time, first, limit):
    """Return the first row from `first` on with time > limit; there must be one.

    Eight rows are looked at together, without a branch that is guessed wrong; up to seven beyond that row are, too: the
    memory goes on there, whatever it holds.
    """
    ahead = leading(time, first, limit)
    first += ahead
    while ahead == EIGHT:
        ahead = leading(time, first, limit)
        first += ahead
    return first


@part
def move_on(time, first, end, limit):
    """Return what `later` does, `end` when there is no such row before it."""
    ahead = EIGHT
    while ahead == EIGHT and first < end:
        ahead = leading(time, first, limit)
        first += ahead
    return min(first, end)


@part
def search(time, first, end, limit):
    """Return what `move_on` does, for rows whose times never fall and a way that may be long."""
    while first < end:
        middle = (first + end) >> ONE
        if time[middle] <= limit:
            first = middle + ONE
        else:
            end = middle
    return first


@inlined
def edge(time, ip, offset, start, out):
    """Write for each row the first row of its group with time > t - offset (offset > 0, so at most the row itself)."""
    for g in range(ip.size - 1):
        first = np.uint64(ip[g])
        a = np.uint64(max(ip[g], start))
        end = np.uint64(ip[g + 1])
        if a >= end:
            continue
        stretch = (end - a) // FOUR
        b = a + stretch
        c = b + stretch
        d = c + stretch
        edge_a = search(time, first, a, time[a] - offset)
        edge_b = search(time, edge_a, b, time[b] - offset)
        edge_c = search(time, edge_b, c, time[c] - offset)
        edge_d = search(time, edge_c, d, time[d] - offset)
        for k in range(stretch):
            edge_a = later(time, edge_a, time[a + k] - offset)
            edge_b = later(time, edge_b, time[b + k] - offset)
            edge_c = later(time, edge_c, time[c + k] - offset)
            edge_d = later(time, edge_d, time[d + k] - offset)
            out[a + k] = np.int64(edge_a)
            out[b + k] = np.int64(edge_b)
            out[c + k] = np.int64(edge_c)
            out[d + k] = np.int64(edge_d)
        for i in range(d + stretch, end):
            edge_d = later(time, edge_d, time[i] - offset)
            out[i] = np.int64(edge_d)


@part
def first_found(time, first, row, offsets):
    """Return the edges of a row, one for each offset, by `search`."""
    edges = offsets
    for k in range(len(offsets)):
        edges = replaced(edges, k, np.int64(search(time, first, row, time[row] - offsets[k])))
    return edges


@part
def moved(time, edges, row, offsets):
    """Return the edges of a row from those of the one before it."""
    for k in range(len(offsets)):
        edges = replaced(edges, k, np.int64(later(time, np.uint64(edges[k]), time[row] - offsets[k])))
    return edges


@part
def write(outs, row, edges):
    """Write the edges of a row."""
    for k in range(len(outs)):
        outs[k][row] = edges[k]


@inlined
def edges(time, ip, offsets, start, outs):
    """Do the work of `edge` for three or four offsets at once, in two stretches."""
    for g in range(ip.size - 1):
        first = np.uint64(ip[g])
        a = np.uint64(max(ip[g], start))
        end = np.uint64(ip[g + 1])
        if a >= end:
            continue
        stretch = (end - a) // TWO
        b = a + stretch
        edges_a = first_found(time, first, a, offsets)
        edges_b = first_found(time, first, b, offsets)
        for i in range(a, b):
            k = i + stretch
            edges_a = moved(time, edges_a, i, offsets)
            edges_b = moved(time, edges_b, k, offsets)
            write(outs, i, edges_a)
            write(outs, k, edges_b)
        for i in range(b + stretch, end):
            edges_b = moved(time, edges_b, i, offsets)
            write(outs, i, edges_b)
