"""How kernels are compiled: by numba, on first use, kept on disk; the only place that decides about it."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
from llvmlite import ir
from numba.core import cgutils
from numba.core.caching import FunctionCache
from numba.cpython.unsafe.tuple import tuple_setitem
from numba.extending import intrinsic

_log = logging.getLogger(__name__)
_told = False


SOURCES = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py")))).hexdigest()


class Kept(FunctionCache):
    """Machine code on disk, for these very sources of all kernels.

    Numba looks at the file of the function alone, yet a kernel's code holds that of the kernels it calls, and agrees
    with others about the frame. A process that has loaded older sources neither takes nor leaves what others must not.
    """

    def _index_key(self, sig: Any, codegen: Any) -> tuple:
        return (*super()._index_key(sig, codegen), SOURCES)


def kernel(function: Callable) -> Callable:
    """Compile a function on first use, without the interpreter lock, and keep the machine code on disk.

    The code is cached beside the source, or in NUMBA_CACHE_DIR, or in the user's cache folder, whichever can be
    written first; where none can, it is compiled once per process.
    """
    compiled = numba.njit(nogil=True, error_model="numpy", no_cfunc_wrapper=True)(function)
    with contextlib.suppress(RuntimeError):  # no folder can be written
        compiled._cache = Kept(function)
    return compiled


def part(function: Callable) -> Callable:
    """Make a function one that only kernels call: no way in from Python is compiled, and nothing of it is cached."""
    return numba.njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


def inlined(function: Callable) -> Callable:
    """Make a function one that is written out where a kernel calls it, which compiles quicker where that is once."""
    return numba.njit(nogil=True, error_model="numpy", inline="always")(function)


replaced = tuple_setitem
"""(tuple, k, item): the tuple with another item at place k."""


def _place(context, builder, kind, array, row, column):
    """Return the code that finds where `array[row, column]` lies."""
    struct = context.make_array(kind)(context, builder, array)
    return cgutils.get_item_pointer(context, builder, kind, struct, [row, column], wraparound=False)


@intrinsic
def prefetch(typing_context, array, row, column):
    """Ask the processor for the cache line of `array[row, column]`, which is to be written soon."""

    def generate(context, builder, signature, arguments):
        place = _place(context, builder, signature.args[0], *arguments)
        place = builder.bitcast(place, ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        ask = ir.FunctionType(ir.VoidType(), [place.type, number, number, number])
        ask = cgutils.get_or_insert_function(builder.module, ask, "llvm.prefetch.p0i8")
        builder.call(ask, [place, number(0), number(2), number(1)])
        return context.get_dummy_value()

    return numba.types.void(array, numba.types.uintp, numba.types.uintp), generate


@intrinsic
def write_two(typing_context, array, row, column, first, second):
    """Write `array[row, column]` and the number beside it at once."""

    def generate(context, builder, signature, arguments):
        kind = signature.args[0]
        place = _place(context, builder, kind, *arguments[:3])
        number = context.get_data_type(kind.dtype)
        two = ir.VectorType(number, 2)
        numbers = ir.Constant(two, ir.Undefined)
        for k, each in enumerate(arguments[3:]):
            each = builder.fptrunc(each, number) if kind.dtype == numba.types.float32 else each
            numbers = builder.insert_element(numbers, each, ir.IntType(32)(k))
        builder.store(numbers, builder.bitcast(place, two.as_pointer())).align = kind.dtype.bitwidth // 8
        return context.get_dummy_value()

    at, real = numba.types.uintp, numba.types.float64
    return numba.types.void(array, at, at, real, real), generate


@intrinsic
def leading(typing_context, array, first, limit):
    """Return how many of the eight whole numbers from `first` on come before the first that is more than a limit."""

    def generate(context, builder, signature, arguments):
        array, first, limit = arguments
        eight, wide = ir.VectorType(ir.IntType(64), 8), ir.IntType(64)
        place = builder.gep(context.make_array(signature.args[0])(context, builder, array).data, [first])
        numbers = builder.load(builder.bitcast(place, eight.as_pointer()))
        numbers.align = 8
        none = ir.Constant(eight, ir.Undefined)
        limits = builder.insert_element(none, limit, ir.IntType(32)(0))
        limits = builder.shuffle_vector(limits, none, ir.Constant(ir.VectorType(ir.IntType(32), 8), [0] * 8))
        more = builder.bitcast(builder.icmp_signed(">", numbers, limits), ir.IntType(8))
        return builder.cttz(builder.or_(builder.zext(more, wide), wide(1 << 8)), ir.IntType(1)(1))

    return numba.types.uint64(array, numba.types.uint64, numba.types.int64), generate


@intrinsic
def address_of(typing_context, array):
    """Return where an array's numbers lie."""

    def generate(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.ptrtoint(data, ir.IntType(64))

    return numba.types.int64(array), generate


@intrinsic
def pointer_to(typing_context, array):
    """Return a pointer to an array's numbers."""

    def generate(context, builder, signature, arguments):
        return context.make_array(signature.args[0])(context, builder, arguments[0]).data

    return numba.types.CPointer(array.dtype)(array), generate


@intrinsic
def call(typing_context, address, frame):
    """Call the machine code at an address with a pointer."""

    def generate(context, builder, signature, arguments):
        code = ir.FunctionType(ir.VoidType(), [arguments[1].type]).as_pointer()
        builder.call(builder.inttoptr(arguments[0], code), [arguments[1]])
        return context.get_dummy_value()

    return numba.types.void(address, frame), generate


def threads() -> int:
    """Return how many threads this process may use (NUMBA_NUM_THREADS, else the cores it may run on)."""
    return int(numba.config.NUMBA_NUM_THREADS)


def cores() -> int:
    """Return on how many cores this process may compile at once."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else threads()
    return min(allowed, threads())


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Leave Python's cyclic garbage where it is meanwhile: compiling makes much that lives, and is the quicker."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def announce_compilation(*, kept: bool) -> None:
    """Say once that kernels are compiled, and whether they are kept on disk."""
    global _told
    if _told:
        return
    _told = True
    if kept:
        _log.warning("Compiling the feature kernels: some ten seconds, once; later runs take them from the cache.")
    else:
        _log.warning("Compiling the feature kernels: some seconds in every run, until NUMBA_CACHE_DIR can be written.")
