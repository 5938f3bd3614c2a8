"""How kernels are compiled: by numba, on first use, kept on disk; the only place that decides about it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

import numba
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

_log = logging.getLogger(__name__)
_told = False


def kernel(function: Callable) -> Callable:
    """Compile a function on first use, without the interpreter lock, and keep the machine code on disk.

    The code is cached beside the source, or in NUMBA_CACHE_DIR, or in the user's cache folder, whichever can be
    written first; where none can, it is compiled once per process.
    """
    try:
        compiled = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:
        return numba.njit(nogil=True, error_model="numpy")(function)
    _drop_stale(compiled.stats.cache_path, function.__name__)
    return compiled


def _drop_stale(folder: str, name: str) -> None:
    """Remove cached code that is older than any kernel's source.

    Numba looks at the file of the function alone, yet a kernel's code holds that of the kernels it calls.
    """
    newest = max(source.stat().st_mtime for source in Path(__file__).parent.glob("*.py"))
    for index in Path(folder).glob(f"*.{name}-*.nbi"):
        with contextlib.suppress(FileNotFoundError):  # another process may be quicker
            if index.stat().st_mtime < newest:
                index.unlink()


@intrinsic
def prefetch(typing_context, array, row, column):
    """Ask the processor for the cache line of `array[row, column]`, which is to be written soon."""

    def generate(context, builder, signature, arguments):
        kind = signature.args[0]
        place = cgutils.get_item_pointer(
            context, builder, kind, context.make_array(kind)(context, builder, arguments[0]), arguments[1:],
            wraparound=False,
        )  # fmt: skip
        place = builder.bitcast(place, ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        ask = ir.FunctionType(ir.VoidType(), [place.type, number, number, number])
        ask = cgutils.get_or_insert_function(builder.module, ask, "llvm.prefetch.p0i8")
        builder.call(ask, [place, number(1), number(3), number(1)])
        return context.get_dummy_value()

    return numba.types.void(array, numba.types.uintp, numba.types.uintp), generate


def threads() -> int:
    """Return how many threads this process may use (NUMBA_NUM_THREADS, else the cores it may run on)."""
    return int(numba.config.NUMBA_NUM_THREADS)


def announce_compilation(entry: Callable) -> None:
    """Say once, before the kernel `entry` is first used, that it has to be compiled; stay silent when it is cached."""
    global _told
    if _told:
        return
    _told = True
    folder = getattr(getattr(entry, "stats", None), "cache_path", None)
    if folder is None:
        _log.warning("Compiling the feature kernels: half a minute in every run, until NUMBA_CACHE_DIR can be written.")
    elif not any(Path(folder).glob(f"*.{entry.__name__}-*.nbi")):
        _log.warning("Compiling the feature kernels: about half a minute, once; later runs take them from the cache.")
