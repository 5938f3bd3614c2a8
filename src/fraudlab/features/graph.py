"""Who hangs together with each row of a frame: the graph of customers, devices, cards ... grown in the total order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fraudlab.features.kernels import links
from fraudlab.features.kernels.labels import NEVER

if TYPE_CHECKING:
    from fraudlab.features.source import Source

Array = np.ndarray


def linked(source: Source, names: Sequence[str]) -> dict[str, Array]:
    """Return the members and the known frauds of each row's component, members being values of the first name."""
    rows = slice(None) if source.order is None else source.order
    coded = [source.codes(name) for name in names]
    offsets = np.cumsum([0, *(len(found) for _, found in coded)])  # where the nodes of each column begin, and the end
    nodes = np.empty((len(source), len(names)), np.int32)
    for k, (code, _) in enumerate(coded):
        links.numbered(code[rows], offsets[k], nodes[:, k])
    if "label_time" in source.frame and "is_fraud" in source.frame:
        known, fraud = source.known(rows), source.fraud()[0][rows]
    else:
        known, fraud = np.full(len(source), NEVER), np.zeros(len(source), bool)
    told = np.flatnonzero(fraud & (known != NEVER))
    by_known = told[np.argsort(known[told], kind="stable")]
    parent, seen = np.arange(offsets[-1]), np.zeros(offsets[-1], bool)
    members, frauds = np.zeros((2, offsets[-1]), np.int64)
    where, members_of_rows, frauds_of_rows = np.empty((3, len(source)), np.int32)
    links.linked(
        nodes, 0, source.time[rows], known, by_known, fraud, parent, seen, members, frauds, where, members_of_rows,
        frauds_of_rows,
    )  # fmt: skip
    found = {"linked": members_of_rows, "linked_frauds": frauds_of_rows}
    if source.order is not None:
        for name, values in found.items():
            found[name] = np.empty_like(values)
            found[name][source.order] = values
    return found
