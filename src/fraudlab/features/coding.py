"""The values of a column as codes: whole numbers from 0 on as the values first come, -1 where they are missing.

No step holds much memory beside the codes: what several columns need at the same time would add up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from fraudlab.features.kernels import source as scan

SLICE = 65_536  # texts that are coded at a time
MOST = 4  # codes per row

Array = np.ndarray


def codes_of(values: pd.Series) -> tuple[Array, Any]:
    """Return a column's values as codes (-1 where missing) and the values by their codes; integers in a range as such.

    >>> code, found = codes_of(pd.Series(["b", None, "a", "b"]))
    >>> code.tolist(), found.tolist()
    ([0, -1, 1, 0], ['b', 'a'])
    """
    code = np.empty(len(values), np.int32)
    if isinstance(values.dtype, np.dtype) and values.dtype.kind == "i" and len(values):
        plain = values.to_numpy(np.int64)
        least, most = scan.narrowed(plain, code)
        if least >= 0 and most < MOST * len(values):  # integers close together are codes already
            return code, range(most + 1)
        if most - least < MOST * len(values):
            scan.shifted(plain, least, code)
            return code, range(least, most + 1)
    if is_arrow_text(values):
        text, start, found = pa.array(values.array), 0, np.empty(0)
        parts = [text.slice(start, SLICE) for start in range(0, len(text), SLICE)]
        parts = [part for some in parts for part in (some.chunks if isinstance(some, pa.ChunkedArray) else [some])]
        memory = {"memory_pool": pa.system_memory_pool()}  # Arrow's own pool would keep what it needed for each column
        for part in pc.dictionary_encode(pa.chunked_array(parts, text.type), **memory).chunks:
            found = part.dictionary  # the same for all parts
            code[start : start + len(part)] = pc.coalesce(part.indices, pa.scalar(-1, pa.int32()), **memory)
            start += len(part)
        return code, found
    if values.dtype == np.float64:
        numbers = np.ascontiguousarray(values.to_numpy())
        if scan.missing_codes(numbers, code):
            numbers = numbers + 0.0  # zero has no sign
        halves = numbers.view(np.int32)
        found = np.empty(numbered(halves[::2].copy(), halves[1::2].copy(), code))
        known = code >= 0
        found[code[known]] = numbers[known]
        return code, found
    code[:], found = pd.factorize(values)
    return code, found


def is_arrow_text(values: pd.Series) -> bool:
    """Return whether a column is text that Arrow holds."""
    return isinstance(values.dtype, pd.StringDtype) and values.dtype.storage == "pyarrow"


def text_ranks(values: pd.Series) -> Array:
    """Return the rank of each text that Arrow holds, equal ones having the same; none may be missing.

    >>> text_ranks(pd.Series(["b", "a", "b", "c"])).tolist()
    [2, 1, 2, 3]
    """
    ranks = pc.rank(pa.array(values.array), tiebreaker="dense", memory_pool=pa.system_memory_pool())
    return np.asarray(ranks).astype(np.int64)


def numbered(first: Array, second: Array, code: Array) -> int:
    """Number the pairs of integers of 32 bits where the code is not -1; return how many there are."""
    slots = np.full(1 << (len(code) * 3 // 2).bit_length(), -1, np.int32)
    return scan.numbered(first, second, slots, code)
