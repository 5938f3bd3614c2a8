"""What one kind of entity remembers between payments: the latest rows of each, as the kernels' words, in one pool.

What reaches back for ever (the first payment, the last place, a decayed sum) is a row or a word that is kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fraudlab.features.plan import BITS, FRAUD, plan
from fraudlab.features.specs import PLACE, PastSpec, WindowSpec

FIRST_ROWS = 4  # room of a new entity


class Log:
    """What one kind of entity remembers: for each entity, the words of its latest rows, one behind the other."""

    def __init__(self, by: tuple[str, ...], specs: list[Any], columns: np.ndarray) -> None:
        self.by = by
        self.columns = columns
        self.plan = plan(specs, lambda name: True, keep=True)
        self.shape = self.plan.shape
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
        self.entities: dict[Any, int] = {}
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

    def fill(self, ends: np.ndarray, packed: np.ndarray, number: np.ndarray, now: int) -> None:
        """Take over grouped history, row by row its words and its payment's number: entity g is number g."""
        keep = self._reachable(ends, packed, now)
        kept = np.concatenate(([0], np.cumsum(keep)))
        self.length = np.diff(kept[ends])
        self.room = self.length + np.maximum(self.length // 4, FIRST_ROWS)
        self.offset = np.concatenate(([0], np.cumsum(self.room)[:-1])).astype(np.int64)
        self.used = int(self.room.sum())
        self.pool = np.zeros((max(2 * self.used, 1024), packed.shape[1]), np.int64)
        self.number = np.zeros(len(self.pool), np.int64)
        self.reals = self.pool.view(np.float64)
        to = np.repeat(self.offset - kept[ends[:-1]], self.length) + np.arange(self.length.sum())
        self.pool[to], self.number[to] = packed[keep], number[keep]

    def extend(
        self, keys: list[Any], mine: np.ndarray, ends: np.ndarray, packed: np.ndarray, number: np.ndarray, now: int
    ) -> np.ndarray:
        """Take over what some entities remember after many new rows; return the entities' numbers.

        keys, mine : the entities and their numbers here, -1 for new ones. ends, packed, number : grouped by them, their
        remembered rows with the new ones behind. now : the time of the last row; what no later window can reach goes.
        """
        fresh = np.flatnonzero(mine < 0)
        known = len(self.entities)
        mine = mine.copy()
        mine[fresh] = np.arange(known, known + len(fresh))
        self.entities.update(zip([keys[k] for k in fresh.tolist()], range(known, known + len(fresh))))
        if len(self.entities) > self.offset.size:
            more = 2 * len(self.entities) - self.offset.size
            self.offset, self.length, self.room = (
                np.concatenate((kept, np.zeros(more, np.int64))) for kept in (self.offset, self.length, self.room)
            )
        keep = self._reachable(ends, packed, now)
        kept = np.concatenate(([0], np.cumsum(keep)))
        length = np.diff(kept[ends])
        tight = np.flatnonzero(length > self.room[mine])
        room = length[tight] + np.maximum(length[tight] // 2, FIRST_ROWS)
        self.length[mine] = 0  # their rows are in `packed`: no need to move them about
        self.room[mine[tight]] = 0
        if self.used + room.sum() > len(self.pool):
            self.close_gaps()
            if self.used + room.sum() > len(self.pool):
                self._make_pool(2 * int(self.used + room.sum()))
            tight = np.flatnonzero(length > self.room[mine])
            room = length[tight] + np.maximum(length[tight] // 2, FIRST_ROWS)
            if self.used + room.sum() > len(self.pool):
                self._make_pool(2 * int(self.used + room.sum()))
        self.offset[mine[tight]] = self.used + np.cumsum(room) - room
        self.room[mine[tight]] = room
        self.used += int(room.sum())
        self.length[mine] = length
        to = np.repeat(self.offset[mine] - kept[ends[:-1]], length) + np.arange(int(length.sum()))
        self.pool[to], self.number[to] = packed[keep], number[keep]
        return mine

    def _reachable(self, ends: np.ndarray, packed: np.ndarray, now: int) -> np.ndarray:
        """Return which rows of grouped ones a window after `now` can reach, or must stay for another reason."""
        time = packed[:, 0]
        keep = time > now - self.reach
        some = ends[1:] > ends[:-1]
        keep[ends[1:][some] - 1] = True
        if self.keep_first:
            keep[ends[:-1][some]] = True
        if self.place:
            reals = packed.view(np.float64)[:, self.place]
            placed = np.where(np.isnan(reals).any(axis=1), -1, np.arange(time.size))
            last = np.maximum.accumulate(placed)[ends[1:][some] - 1]
            keep[last[last >= ends[:-1][some]]] = True
        return keep

    def entity(self, key: Any) -> int:
        """Return an entity's number; a new one gets room for some rows."""
        found = self.entities.get(key, -1)
        if found < 0:
            found = self.entities[key] = len(self.entities)
            if found >= self.offset.size:
                size = max(1024, 2 * self.offset.size)
                self.offset, self.length, self.room = (
                    np.concatenate((kept, np.zeros(size - kept.size, np.int64)))
                    for kept in (self.offset, self.length, self.room)
                )
            self._move(found, FIRST_ROWS)
        return found

    def place_for(self, entity: int, now: int) -> int:
        """Return where in the pool the entity's next row goes.

        Rows that no window can reach are dropped when the room is full; when that is not enough, it grows.
        """
        if self.length[entity] == self.room[entity]:
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
        n = len(self.entities)
        length = self.length[:n]
        room = length + np.maximum(length // 4, FIRST_ROWS)
        offset = np.concatenate(([0], np.cumsum(room)[:-1])).astype(np.int64)
        start = np.concatenate(([0], np.cumsum(length)[:-1])).astype(np.int64)
        step = np.arange(int(length.sum())) - np.repeat(start, length)
        old, new = np.repeat(self.offset[:n], length) + step, np.repeat(offset, length) + step
        rows, number = self.pool[old], self.number[old]
        self.used = int(room.sum())
        if self.used > len(self.pool):
            self.used, used = 0, self.used
            self._make_pool(2 * used)
            self.used = used
        self.pool[new], self.number[new] = rows, number
        self.offset[:n], self.room[:n] = offset, room
