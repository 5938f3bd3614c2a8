"""Pieces of machine code that are compiled and kept on disk one by one, and called by their address."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

from numba import types
from numba.core.ccallback import CFunc
from numba.core.dispatcher import Dispatcher

from fraudlab.features.kernels import jit
from fraudlab.features.kernels.frame import FRAME

FEW = 4
"""So many units are compiled before another process would be ready to help."""


class _Missing(Exception):
    """The machine code is not on disk."""


class Unit(CFunc):
    """A function of a frame (see `frame`), not compiled before it is asked for."""

    def __init__(self, function: Callable) -> None:
        super().__init__(function, ((FRAME,), types.void), {}, {"nopython": True, "error_model": "numpy"})
        self.kept = False
        self._may_compile = False
        with contextlib.suppress(RuntimeError):  # no folder can be written
            self._cache = jit.Kept(function)
            self.kept = True

    def load(self) -> bool:
        """Take the machine code from disk, if it is not here yet; return whether it is now."""
        if self.address is None:
            with contextlib.suppress(_Missing):
                self.compile()
        return self.address is not None

    def make(self) -> None:
        """Compile the function, unless the machine code is here or on disk."""
        self._may_compile = True
        if self.address is None:
            self.compile()

    def _compile_uncached(self):
        if not self._may_compile:
            raise _Missing
        return super()._compile_uncached()


def take(units: Sequence[Unit]) -> None:
    """Make units ready to be called; another process helps to compile those that are not on disk."""
    missing = [unit for unit in units if not unit.load()]
    if not missing:
        return
    jit.announce_compilation(kept=all(unit.kept for unit in missing))
    # Each process begins with long ones and both come to the shortest last: the less may be done twice there.
    missing.sort(key=lambda unit: _length(unit.__wrapped__), reverse=True)
    missing = missing[0::2] + missing[1::2][::-1]
    with _helped(missing), jit.without_collection():
        for unit in missing:
            unit.make()


def _length(function: Callable) -> int:
    """Return how long the byte code of a function and of all that it calls is, which is what compiling it takes."""
    names, known = function.__code__.co_names, function.__globals__
    modules = [known[name] for name in names if isinstance(known.get(name), ModuleType)]
    called = [known.get(name) for name in names] + [getattr(place, name, None) for name in names for place in modules]
    return len(function.__code__.co_code) + sum(_length(one.py_func) for one in called if isinstance(one, Dispatcher))


@contextlib.contextmanager
def _helped(units: Sequence[Unit]) -> Iterator[None]:
    """Let another process compile the units meanwhile, from the last one on; what is on disk nobody compiles again."""
    if len(units) < FEW or jit.cores() < 2 or not sys.executable or not all(unit.kept for unit in units):
        yield
        return
    names = [unit.__name__ for unit in reversed(units)]
    paths = os.pathsep.join(filter(None, sys.path))  # not the working folder, which anyone may have filled
    try:
        helper = subprocess.Popen(
            [sys.executable, "-P", Path(__file__).with_name("helper.py"), *names],
            env={**os.environ, "PYTHONPATH": paths},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except OSError:  # no program, memory or right to start one: then alone
        yield
        return
    try:
        yield
    finally:
        helper.kill()  # at most in the middle of what is here already
        helper.wait()
