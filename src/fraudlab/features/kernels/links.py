"""Who hangs together: components of the graph of customers, devices, cards ... as known at each moment.

A union-find over the rows in the total order. `parent` holds a node's parent (a root is its own), `members` the number
of counted nodes (customers, say) below each root, `frauds` the rows below each root known to be fraud.
"""

from __future__ import annotations

import numpy as np

from fraudlab.features.kernels.jit import kernel


@kernel
def root_of(parent, node):
    """Return a node's root; the path to it is halved on the way."""
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@kernel
def link(nodes, seen, counted, parent, members, frauds):
    """Join the nodes of one row (-1: missing) and return (members, frauds, root) of what hangs together then.

    `seen` tells nodes met before; a new one of column `counted` is a new member. A row without nodes gives (0, 0, -1).
    """
    top = np.int64(-1)
    for column in range(nodes.size):
        node = nodes[column]
        if node < 0:
            continue
        if not seen[node]:
            seen[node] = True
            members[node] = column == counted
        root = root_of(parent, node)
        if top < 0:
            top = root
        elif root != top:
            if members[root] > members[top]:
                root, top = top, root
            parent[root] = top
            members[top] += members[root]
            frauds[top] += frauds[root]
    if top < 0:
        return np.int64(0), np.int64(0), top
    return members[top], frauds[top], top


@kernel
def linked(nodes, counted, time, known, by_known, fraud, parent, seen, members, frauds, where, out_members, out_frauds):
    """Write for each row, in the total order, the members and the known frauds of the component it belongs to.

    nodes : (rows, columns) numbers of the graph's nodes. by_known : rows by the moment their label is known. where : a
    node of each row, -1 without any. Returns how many of `by_known` were known in time.
    """
    k = 0
    for i in range(time.size):
        while k < by_known.size:
            j = by_known[k]
            if known[j] > time[i] or (known[j] == time[i] and j >= i):
                break
            if fraud[j] and where[j] >= 0:
                frauds[root_of(parent, where[j])] += 1
            k += 1
        out_members[i], out_frauds[i], where[i] = link(nodes[i], seen, counted, parent, members, frauds)
    return k


@kernel
def numbered(codes, offset, nodes):
    """Write the node of each code: nodes of one column after those of another; -1 stays -1."""
    for i in range(codes.size):
        nodes[i] = codes[i] + offset if codes[i] >= 0 else -1
