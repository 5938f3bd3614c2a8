"""What a table says, as one number: equal for equal data, whatever the keys and the machine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd


def pseudonymised(columns: list[Mapping[str, Any]]) -> list[str]:
    """Return the names of a manifest's pseudonymised columns."""
    return [column["name"] for column in columns if column["treatment"] == "pseudonymise"]


def content_digest(frame: pd.DataFrame, pseudonymised: list[str]) -> str:
    """Return the sha-256 of what a table says, equal on every machine for equal raw data and treatments.

    Pseudonyms count by who equals whom (numbered by first appearance), so another key gives the same digest, and no
    identifier enters it.

    >>> a = pd.DataFrame({"who": pd.Series(["x", "y", "x"], dtype="str"), "amount": [1.0, 2.0, 3.0]})
    >>> b = a.assign(who=pd.Series(["7f", "02", "7f"], dtype="str"))
    >>> content_digest(a, ["who"]) == content_digest(b, ["who"]), content_digest(a, []) == content_digest(b, [])
    (True, False)
    """
    digest = hashlib.sha256()
    for name in sorted(frame.columns):
        values = frame[name]
        digest.update(f"{name}\0{values.dtype}\0".encode())
        if isinstance(values.dtype, pd.DatetimeTZDtype):
            digest.update(values.dt.as_unit("us").astype("int64").to_numpy().tobytes())
        elif pd.api.types.is_bool_dtype(values.dtype):
            digest.update(values.to_numpy(dtype="int8", na_value=-1).tobytes())
        elif pd.api.types.is_float_dtype(values.dtype):
            numbers = values.to_numpy(dtype="float64")
            # One bit pattern for every NaN, one for every zero.
            digest.update((np.where(np.isnan(numbers), np.nan, numbers) + 0.0).tobytes())
        elif pd.api.types.is_integer_dtype(values.dtype) and name not in pseudonymised:
            digest.update(values.to_numpy(dtype="int64").tobytes())
        else:
            codes, different = pd.factorize(values)
            digest.update(codes.astype("int64").tobytes())
            if name not in pseudonymised:
                for text in map(str, different.tolist()):
                    digest.update(f"{len(text)}:{text}".encode())
    return digest.hexdigest()
