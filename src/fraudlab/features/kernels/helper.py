"""The other process that compiles: `python -m fraudlab.features.kernels.helper NAME ...`, see `units`.

First the kernels that come last in every run, then the operations with these names.
"""

from __future__ import annotations

import sys

from numba.core.sigutils import normalize_signature

from fraudlab.features.kernels import jit, program, windows
from fraudlab.features.kernels.operations import FUNCTIONS, unit

KERNELS = {
    program.run: (
        "int64[::1], int64[:, ::1], float64[:, ::1], int64[:, ::1], int32[::1], int64[::1], int64[::1], int64[::1], "
        "int64, int64, int64, int64[::1], int64, int64[::1], int64[::1], int64[::1], float64[:, ::1], float32[:, ::1]"
    ),
    windows.place_rows: ("int64[:, ::1], int32[::1], int32[::1], int64[::1], int64[::1], int64[:, ::1], int32[::1]"),
    windows.group_sizes: "int32[::1], int64[::1]",
}


def main(names: list[str]) -> None:
    """Compile what is not on disk by the time its turn comes."""
    codes = {function.__name__: code for code, function in FUNCTIONS.items()}
    with jit.without_collection():
        for kernel, signature in KERNELS.items():
            kernel.compile(normalize_signature(f"({signature})")[0])  # as a call does: kept under the same name
        for name in names:
            unit(codes[name]).make()


if __name__ == "__main__":
    main(sys.argv[1:])
