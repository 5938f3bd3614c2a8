"""What an operation is given: the address of a frame, a row of whole numbers that say what to do and where to find it.

The operation's own row of `program` comes first, then the chunk: how long it is and at which addresses its arrays lie.
What is defined here gives a kernel one of them as an array; nothing is copied and nothing looks for its memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

WIDTH = 11  # of an operation
CODE, TARGET, LO, HI, VALUE, BIT, COUNTS, A, B, C, D = range(WIDTH)
# The bit of the operation's condition in its word of flags (-1: every row), and the number of that word.
FLAG, FLAGS = range(WIDTH, WIDTH + 2)
# Rows and groups of the chunk, the row from which on results are written, how long the table of codes is.
ROWS, GROUPS, START, TABLE_SIZE = range(WIDTH + 2, WIDTH + 6)
# Addresses.
PARAMS, ENDS, WORDS, SLOTS, BLOCK, SEEN, TABLE = range(WIDTH + 6, WIDTH + 13)
SIZE = WIDTH + 13
FRAME = types.CPointer(types.int64)
WORD = ir.IntType(64)


def _array(number: types.Type, sizes: Callable[[Any], list[Any]], base: int, apart: int = 0) -> Callable:
    """Return what writes the code of an intrinsic: the array at the address in `base`, or so many rows further on.

    sizes : what its shape is, made of the function that reads the frame. apart : how many numbers more than rows in the
    chunk there are from one of its rows to the next.
    """

    def generate(context, builder, signature, arguments):
        frame, *further = arguments

        def field(place, more=0):
            return builder.add(builder.load(builder.gep(frame, [WORD(place)])), WORD(more))

        kind = signature.return_type
        shape = sizes(field, *further[1:])
        data = builder.inttoptr(field(base), context.get_data_type(number).as_pointer())
        if further:
            data = builder.gep(data, [builder.mul(further[0], field(ROWS, apart))])
        strides = [builder.mul(field(ROWS, apart), WORD(8)), WORD(8)][-len(shape) :]
        array = context.make_array(kind)(context, builder)
        populate_array(array, data=data, shape=shape, strides=strides, itemsize=WORD(8), meminfo=None)
        return array._getvalue()

    return generate


def _one(number: types.Type, base: int, size: Callable[[Any], Any]) -> Callable:
    """Return an intrinsic that gives an array there is one of."""

    @intrinsic
    def one(typing_context, frame):
        return types.Array(number, 1, "C")(FRAME), _array(number, lambda field: [size(field)], base)

    return one


def _row(number: types.Type, base: int, apart: int, size: int) -> Callable:
    """Return an intrinsic that gives row k of several; `size` numbers more of it than the chunk has rows."""

    @intrinsic
    def row(typing_context, frame, k):
        found = types.Array(number, 1, "C")(FRAME, types.int64)
        return found, _array(number, lambda field: [field(ROWS, size)], base, apart)

    return row


def _rows(number: types.Type, base: int, apart: int) -> Callable:
    """Return an intrinsic that gives some rows of several, from row k on."""

    @intrinsic
    def rows(typing_context, frame, k, many):
        found = types.Array(number, 2, "C")(FRAME, types.int64, types.int64)
        return found, _array(number, lambda field, many: [many, field(ROWS, apart)], base, apart)

    return rows


# (frame): the array.
params = _one(types.float64, PARAMS, lambda field: WORD(3))
ends = _one(types.int64, ENDS, lambda field: field(GROUPS, 1))
table = _one(types.int64, TABLE, lambda field: field(TABLE_SIZE))
# (frame, k): row k. A slot is one longer than the rows; `edge` gives as many numbers of it as there are rows.
word, value = _row(types.int64, WORDS, 0, 0), _row(types.float64, WORDS, 0, 0)
slot, real, edge = _row(types.int64, SLOTS, 1, 1), _row(types.float64, SLOTS, 1, 1), _row(types.int64, SLOTS, 1, 0)
column = _row(types.float64, BLOCK, 0, 0)
seen, seen_real = _row(types.int64, SEEN, 2, 2), _row(types.float64, SEEN, 2, 2)
# (frame, k, many): so many rows from row k on.
words, slots, columns = _rows(types.int64, WORDS, 0), _rows(types.int64, SLOTS, 1), _rows(types.float64, BLOCK, 0)
