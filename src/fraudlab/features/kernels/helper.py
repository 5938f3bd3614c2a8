"""The other process that compiles, see `units`: a script that is given the names of operations.

First it compiles the kernels that come last in every run, then those operations.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

ROWS = "int64[:, ::1]"
KERNELS = {
    "program.run": (
        f"int64[::1], {ROWS}, float64[:, ::1], {ROWS}, {ROWS}, int64[::1], int64[::1], int64[::1], int64[::1], int64, "
        "int64, int64, int64[::1], int64, int64[::1], int64[::1], int64[::1], float64[:, ::1], float32[:, ::1]"
    ),
    "windows.place_rows": f"{ROWS}, int32[::1], int64[::1], int64[::1], {ROWS}",
    "windows.group_sizes": "int32[::1], int64[::1]",
}
"""What they are called with."""


def main(names: list[str]) -> None:
    """Compile what is not on disk by the time its turn comes."""
    from numba.core.sigutils import normalize_signature

    from fraudlab.features.kernels import jit, operations, program, windows

    codes = {function.__name__: code for code, function in operations.FUNCTIONS.items()}
    with jit.without_collection():
        for name, signature in KERNELS.items():
            module, _, kernel = name.partition(".")
            arguments, _ = normalize_signature(f"({signature})")  # as a call gives them: kept under the same name
            getattr({"program": program, "windows": windows}[module], kernel).compile(arguments)
        for name in names:
            operations.unit(codes[name]).make()


def _stand_in(name: str, folder: Path) -> None:
    """Let a package be there without what its own code would load."""
    package = ModuleType(name)
    package.__path__ = [str(folder)]
    sys.modules[name] = package


if __name__ == "__main__":
    here = Path(__file__).absolute()
    _stand_in("fraudlab", here.parents[2])
    _stand_in("fraudlab.features", here.parents[1])
    main(sys.argv[1:])
