"""Who hangs together with each row of a frame: the graph of customers, devices, cards ... grown in the total order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fraudlab.features.kernels import links
from fraudlab.features.kernels.labels import NEVER

if TYPE_CHECKING:
    from fraudlab.features.engine import Source

Array = np.ndarray


def linked(source: Source, names: Sequence[str]) -> dict[str, Array]:
    """Return the members and the known frauds of each row's component, members being values of the first name."""
    graph = Graph(source, names)
    found = {"linked": graph.members_of_rows, "linked_frauds": graph.frauds_of_rows}
    if source.order is not None:
        for name, values in found.items():
            found[name] = np.empty_like(values)
            found[name][graph.order] = values
    return found


class Graph:
    """The graph of the values of some columns, grown row by row in the total order.

    Attributes
    ----------
    parent, seen, members, frauds : per node, see `kernels.links`; the nodes of column k start at `offsets[k]`.
    where : per row in the total order, one of its nodes or -1.
    """

    def __init__(self, source: Source, names: Sequence[str]) -> None:
        coded = [source.codes(name) for name in names]
        sizes = [len(found) for _, found in coded]
        self.offsets = [sum(sizes[:k]) for k in range(len(sizes))]
        self.order = np.arange(len(source), dtype=np.int32) if source.order is None else source.order
        ordered = (lambda values: values) if source.order is None else (lambda values: values[source.order])
        nodes = np.empty((len(source), len(names)), np.int32)
        for k, (code, _) in enumerate(coded):
            links.numbered(ordered(code), self.offsets[k], nodes[:, k])
        self.parent = np.arange(sum(sizes))
        self.seen = np.zeros(sum(sizes), bool)
        self.members, self.frauds = np.zeros(sum(sizes), np.int64), np.zeros(sum(sizes), np.int64)
        self.where, self.members_of_rows, self.frauds_of_rows = np.empty((3, len(source)), np.int32)
        if "label_time" in source.frame and "is_fraud" in source.frame:
            self.known = source.known(slice(None) if source.order is None else source.order)
            fraud = ordered(source.fraud()[0])
        else:
            self.known, fraud = np.full(len(source), NEVER), np.zeros(len(source), bool)
        told = np.flatnonzero(fraud & (self.known != NEVER))
        by_known = told[np.argsort(self.known[told], kind="stable")]
        tree = (self.parent, self.seen, self.members, self.frauds, self.where)
        result = (self.members_of_rows, self.frauds_of_rows)
        time = ordered(source.time)
        links.linked(nodes, 0, time, self.known, by_known, fraud, *tree, *result)
