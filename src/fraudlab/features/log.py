"""What one kind of entity remembers between payments: the latest rows of each, as the kernels' words, in one pool.

What reaches back for ever (the first payment, the last place, a decayed sum) is a row or a word that is kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fraudlab.features.kernels import table
from fraudlab.features.packing import whole
from fraudlab.features.plan import BITS, FRAUD, plan
from fraudlab.features.specs import PLACE, PastSpec, WindowSpec

FIRST_ROWS = 4  # room of a new entity


def steps(many: np.ndarray) -> np.ndarray:
    """Return 0, 1, ... many[0] - 1, 0, 1, ... many[1] - 1, ...

    >>> steps(np.array([2, 0, 3])).tolist()
    [0, 1, 0, 1, 2]
    """
    ends = np.cumsum(many)
    return np.arange(int(ends[-1]) if ends.size else 0) - np.repeat(ends - many, many)


class Numbers:
    """Numbers keys in the order in which they are met; a key is a row of whole numbers, such as codes of columns.

    >>> numbers = Numbers(2)
    >>> numbers.of(np.array([[4, 7], [7, 4], [4, 7], [-1, 7]]), adding=True).tolist(), len(numbers)
    ([0, 1, 0, -1], 2)
    """

    def __init__(self, width: int) -> None:
        self._keys = np.empty((16, width), np.int64)
        self._slots = np.full(32, -1, np.int64)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def keys(self) -> np.ndarray:
        """The keys by their numbers."""
        return self._keys[: self._size]

    def of(self, wanted: np.ndarray, *, adding: bool) -> np.ndarray:
        """Return the number of each key, -1 where one holds a negative number.

        A key that is not there gets the next number if `adding`, else -1.
        """
        found = np.empty(len(wanted), np.int64)
        if adding and self._size + len(wanted) > len(self._keys):
            self._grow(2 * (self._size + len(wanted)))
        self._size = table.numbered(self._slots, self._keys, self._size, wanted, adding, found)
        return found

    def _grow(self, room: int) -> None:
        keys = np.empty((room, self._keys.shape[1]), np.int64)
        keys[: self._size] = self.keys
        self._keys = keys
        self._slots = np.full(1 << (2 * room - 1).bit_length(), -1, np.int64)
        table.refill(self._slots, self._keys, self._size)


class Log:
    """What one kind of entity remembers: for each entity, the words of its latest rows, one behind the other."""

    def __init__(self, by: tuple[str, ...], specs: list[Any], columns: np.ndarray) -> None:
        self.by = by
        self.columns = columns
        self.plan = plan(specs, lambda name: True, keep=True)
        self.shape = self.plan.shape
        self.layout = whole(len(self.plan.words))
        self.pick = np.zeros(0, np.int64)  # where a payment's words lie for this log
        windows = [span for spec in specs if isinstance(spec, WindowSpec) for span in spec.spans]
        self.reach = max((span.delay + span.width for span in windows), default=0)
        past = {spec.statistic for spec in specs if isinstance(spec, PastSpec)}
        self.keep_first = "since_first" in past
        words = self.plan.words
        placed = past & {"distance", "speed"}
        self.place = [words.index(("number", name)) for name in PLACE] if placed else []
        self.known = words.index(("known",)) if ("known",) in words else -1
        number, bit = divmod(self.plan.bits.index(FRAUD), BITS) if FRAUD in self.plan.bits else (0, 0)
        self.fraud_word = words.index(("flags", number)) if FRAUD in self.plan.bits else -1
        self.fraud = np.int64(1) << bit
        self.carries = [words.index(("carry", k)) for k in range(self.plan.carries)]
        self.carried = np.zeros(0, np.int64)  # the columns that the kernels write them to
        self.entities = Numbers(len(by))
        self.offset, self.length, self.room = (np.zeros(0, np.int64) for _ in range(3))
        self.used = 0
        self._make_pool(1024)

    def _make_pool(self, rows: int) -> None:
        pool = np.empty((rows, len(self.plan.words)), np.int64)
        number = np.empty(rows, np.int64)
        if self.used:
            pool[: self.used], number[: self.used] = self.pool[: self.used], self.number[: self.used]
        self.pool, self.number = pool, number
        self.reals = pool.view(np.float64)

    def make_room(self, some: np.ndarray, more: np.ndarray, now: int) -> None:
        """Make room for the next rows of some entities, as `place_for` does for one row of one.

        some : numbers of entities, each once. more : how many rows each will get. now : the time of the first of them.
        """
        if self.used + int(more.sum()) > len(self.pool) and self.room.sum() < self.used // 2:
            self.close_gaps()
        tight = self.length[some] + more > self.room[some]
        some, more = some[tight], more[tight]
        here, ends = self.rows_of(some)
        keep = self._reachable(ends, here, now)
        kept = np.concatenate(([0], np.cumsum(keep)))
        self.length[some] = np.diff(kept[ends])
        rows, number = self.pool[here[keep]], self.number[here[keep]]
        move = self.length[some] + more > self.room[some]
        room = self.length[some][move] + more[move]
        room += np.maximum(room // 2, FIRST_ROWS)
        if self.used + int(room.sum()) > len(self.pool):
            self._make_pool(2 * (self.used + int(room.sum())))
        self.offset[some[move]] = self.used + np.cumsum(room) - room
        self.room[some[move]] = room
        self.used += int(room.sum())
        here, _ = self.rows_of(some)
        self.pool[here], self.number[here] = rows, number

    def rows_of(self, some: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where the rows of some entities lie in the pool, one entity after the other, and where each ends."""
        length = self.length[some]
        return np.repeat(self.offset[some], length) + steps(length), np.concatenate(([0], np.cumsum(length)))

    def _reachable(self, ends: np.ndarray, here: np.ndarray, now: int) -> np.ndarray:
        """Return which of some entities' rows a window after `now` can reach, or must stay for another reason."""
        keep = self.pool[here, 0] > now - self.reach
        some = ends[1:] > ends[:-1]
        keep[ends[1:][some] - 1] = True
        if self.keep_first:
            keep[ends[:-1][some]] = True
        if self.place:
            placed = np.where(np.isnan(self.reals[here][:, self.place]).any(axis=1), -1, np.arange(here.size))
            last = np.maximum.accumulate(placed)[ends[1:][some] - 1]
            keep[last[last >= ends[:-1][some]]] = True
        return keep

    def numbers(self, keys: np.ndarray) -> np.ndarray:
        """Return the numbers of entities, -1 for none; a new one gets the next number and no room yet."""
        found = self.entities.of(keys, adding=True)
        if len(self.entities) > self.offset.size:
            more = np.zeros(2 * len(self.entities) - self.offset.size, np.int64)
            self.offset, self.length, self.room = (
                np.append(kept, more) for kept in (self.offset, self.length, self.room)
            )
        return found

    def place_for(self, entity: int, now: int) -> int:
        """Return where in the pool the entity's next row goes.

        Rows that no window can reach are dropped when the room is full; when that is not enough, it grows.
        """
        if self.room[entity] == 0:
            self._move(entity, FIRST_ROWS)
        elif self.length[entity] == self.room[entity]:
            self._trim(entity, now)
            if self.length[entity] > 3 * self.room[entity] // 4:
                self._move(entity, 2 * int(self.room[entity]))
        return int(self.offset[entity] + self.length[entity])

    def _trim(self, entity: int, now: int) -> None:
        a, n = int(self.offset[entity]), int(self.length[entity])
        keep = self.pool[a : a + n, 0] > now - self.reach
        keep[-1] = True
        if self.keep_first:
            keep[0] = True
        if self.place:
            placed = np.flatnonzero(~np.isnan(self.reals[a : a + n][:, self.place]).any(axis=1))
            keep[placed[-1:]] = True
        left = int(keep.sum())
        if left < n:
            self.pool[a : a + left] = self.pool[a : a + n][keep]
            self.number[a : a + left] = self.number[a : a + n][keep]
            self.length[entity] = left

    def _move(self, entity: int, room: int) -> None:
        """Give an entity another stretch of the pool; when most of the pool is left behind, close the gaps."""
        if self.used + room > len(self.pool):
            if self.room.sum() < self.used // 2:
                self.close_gaps()
            if self.used + room > len(self.pool):
                self._make_pool(2 * max(len(self.pool), room))
        a, n = int(self.offset[entity]), int(self.length[entity])
        self.pool[self.used : self.used + n] = self.pool[a : a + n]
        self.number[self.used : self.used + n] = self.number[a : a + n]
        self.offset[entity], self.room[entity] = self.used, room
        self.used += room

    def close_gaps(self) -> None:
        """Move the entities' rows together; each keeps a little room."""
        rows, number = self.kept()
        self.fill(self.length[: len(self.entities)], rows, number)

    def kept(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the words and the payments' numbers of what is remembered, one entity after the other."""
        here, _ = self.rows_of(np.arange(len(self.entities)))
        return self.pool[here], self.number[here]

    def fill(self, length: np.ndarray, rows: np.ndarray, number: np.ndarray) -> None:
        """Take over what `kept` returned, and how many rows each entity has."""
        everyone = np.arange(len(length))
        self.length[everyone] = length
        self.room[everyone] = length + np.maximum(length // 4, FIRST_ROWS)
        ends = np.cumsum(self.room[everyone])
        self.offset[everyone] = ends - self.room[everyone]
        self.used, used = 0, int(ends[-1]) if ends.size else 0
        if used > len(self.pool):
            self._make_pool(2 * used)
        self.used = used
        here, _ = self.rows_of(everyone)
        self.pool[here], self.number[here] = rows, number
