"""Features of one payment at a time: the same plans and kernels as a table, run over what each entity must remember.

Per entity kind a `log.Log` keeps the rows that a window can still reach. A payment's words are put behind those of its
entity, the kernels write its last row, and the words stay.
"""

from __future__ import annotations

import datetime as dt
import heapq
import io
import json
import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import IO, TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from fraudlab.features import engine
from fraudlab.features.kernels import links, operations
from fraudlab.features.kernels.labels import NEVER
from fraudlab.features.log import Log
from fraudlab.features.plan import BITS, FRAUD
from fraudlab.features.source import COMPARISONS
from fraudlab.features.specs import PLACE, LinkSpec, parse_duration
from fraudlab.schema import InputError

if TYPE_CHECKING:
    from fraudlab.features.featureset import FeatureSet

FORMAT = 2
LABELS = ("is_fraud", "label_time")
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
PART = 20_000
"""Ids that are made an array at once: some milliseconds' work."""


class Payment:
    """One payment with the look of `source.Source`, as far as specs without history ask."""

    def __init__(self, given: Mapping[str, Any], where: str) -> None:
        self.given = given
        self.where = where
        self.time = self._time()

    def number(self, name: str) -> np.ndarray:
        return np.array([self.real(name)])

    def local(self, zone: str | None) -> np.ndarray:
        return np.array([self.clock(zone)])

    def real(self, name: str) -> float:
        """Return a number, NaN when it is missing."""
        value = self.given[name]
        if value is None or value is pd.NA or value != value:
            return math.nan
        if isinstance(value, bool | np.bool_ | str) or not math.isfinite(value):
            raise self._refusal(name, "a finite number or missing", type(value).__name__)
        limit = {"latitude": 90, "longitude": 180}.get(name)
        if limit and abs(value) > limit:
            raise self._refusal(name, f"within -{limit} and {limit} degrees", "one outside")
        return float(value)

    def clock(self, zone: str | None) -> int:
        """Return the wall clock's time in a zone, in microseconds as if it were UTC."""
        if zone is None:
            return self.time
        there = (EPOCH + dt.timedelta(microseconds=self.time)).astimezone(ZoneInfo(zone))
        return self.time + there.utcoffset() // dt.timedelta(microseconds=1)

    def has(self, word: tuple) -> bool:
        """Return whether the payment has a word of `plan`, or a place."""
        if word[0] == "place":
            return not any(math.isnan(self.real(name)) for name in PLACE)
        value = self.given[word[1]]
        return not (value is None or value is pd.NA or value != value)

    def meets(self, value: tuple | None, condition: tuple | None) -> bool:
        """Return whether the payment has the word `value` and meets a condition."""
        if value is not None and not self.has(value):
            return False
        if condition is None:
            return True
        column, operator, wanted = condition[:3]
        found = self.given[column]
        if found is None or found is pd.NA or found != found:
            return False
        if isinstance(wanted, str | bool) != isinstance(found, str | bool | np.bool_):
            raise self._refusal(column, f"of the kind compared with ({type(wanted).__name__})", type(found).__name__)
        return bool(COMPARISONS[operator](found, wanted))

    def _time(self) -> int:
        moment = self.given["event_time"]
        stamp = moment if isinstance(moment, pd.Timestamp) else pd.Timestamp(moment)
        if stamp is pd.NaT or stamp.tzinfo is None:
            raise self._refusal("event_time", "a moment with a time zone", "none")
        return stamp.value // 1000

    def _refusal(self, name: str, rule: str, found: str) -> InputError:
        return InputError(f"{self.where}: '{name}' of the payment must be {rule}; found {found}; correct the payment")


class OnlineState:
    """The memory of a feature set: what the next payment's features need, no more. Made by `FeatureSet.online`.

    Memory per entity is bounded by its windows; new entities, and new values of `is_new`, add to it. Labels may come in
    up to `label_horizon` after their payment.
    """

    def __init__(self, features: FeatureSet, label_horizon: str = "400d") -> None:
        self.features = features
        self.columns = features.columns
        self.where = f"features {features.name}"
        self.horizon = parse_duration(label_horizon, "label_horizon")
        self.label_horizon = label_horizon
        self.needs = [name for name in features.requires if name not in LABELS]
        self.before = None if features.before is None else OnlineState(features.before, label_horizon)
        self.codes: dict[str, dict[Any, int]] = {}
        self.logs: list[Log] = []
        self.graphs: dict[tuple[str, ...], dict[str, Any]] = {}
        self.current: list[tuple[Any, int]] = []
        self.linking: list[tuple[Any, int]] = []
        for entity, members in engine.by_entity(features.specs).items():
            if entity:
                specs = [spec for spec, _ in members]
                self.logs.append(Log(entity, specs, np.concatenate([columns for _, columns in members])))
            for spec, columns in members if not entity else ():
                kind = self.linking if isinstance(spec, LinkSpec) else self.current
                kind.append((spec, int(columns[0])))
        for spec, _ in self.linking:
            self.graphs[(spec.value, *spec.through)] = _empty_graph((spec.value, *spec.through))
        self.labelled = [log for log in self.logs if log.known >= 0]
        self.remembers = bool(self.labelled or any(spec.statistic == "linked_frauds" for spec, _ in self.linking))
        self.last: tuple[int, Any] | None = None
        self.count = 0
        # Of each payment whose label may still come: id -> number, in order; and by number, from `first` on: its time,
        # from when it is known to be fraud (NEVER), its entity in each labelled log, its node in each graph.
        self.recent: dict[Any, int] = {}
        # The same ids: a dict whose first ones were deleted finds its first by walking over all of those.
        self.oldest: deque[Any] = deque()
        self.first = 0
        self.traces = np.zeros((1024, 2 + len(self.labelled) + len(self.graphs)), np.int64)
        # Behind the features' columns, what each log carries on to its next row.
        self.width = len(self.columns)
        for log in self.logs:
            log.carried = self.width + np.arange(log.plan.carries)
            log.columns = np.concatenate((log.columns, log.carried))
            self.width += log.plan.carries
        self._out = np.empty((1, self.width))
        self._prepare_words()
        self._tables = np.zeros(1024, np.int64)
        self._first, self._last, self._held = np.zeros((3, 1), np.int64)
        self._scratch = np.empty(0, np.int64)
        self._rows = np.arange(1024)

    def _prepare_words(self) -> None:
        """Lay out one place for each word of a payment; a log picks its own from there."""
        places: dict[tuple, int] = {}
        for number, log in enumerate(self.logs):
            keys = [(*key, number) if key[0] == "flags" else key for key in log.plan.words]
            log.pick = np.array([places.setdefault(key, len(places)) for key in keys])
        self._asked = [(k, key) for key, k in places.items()]
        self._words = np.zeros(len(places), np.int64)
        self._reals = self._words.view(np.float64)
        for key, k in places.items():
            if key[0] == "known":
                self._words[k] = NEVER
            elif key[0] == "carry":
                self._reals[k] = math.nan
        self._bits = list({bit: None for log in self.logs for bit in log.plan.bits if bit != FRAUD})
        names = [name for log in self.logs for name in log.by]
        names += [key[1] for key in places if key[0] == "code"]
        names += [name for graph in self.graphs for name in graph]
        self._coded = list(dict.fromkeys(names))
        self.codes = {name: {} for name in self._coded}

    # --- one payment --------------------------------------------------------------------------------------------------

    def score(self, payment: Mapping[str, Any]) -> np.ndarray:
        """Return the features of a payment without remembering it."""
        return self._score(payment, remember=False)

    def score_then_update(self, payment: Mapping[str, Any]) -> np.ndarray:
        """Return the features of a payment, then remember it.

        Parameters
        ----------
        payment : the columns of `requires` but the label's; it must come after all others in the total order
            (event_time, transaction_id).

        Returns
        -------
        One number per column, in the set's number type: to the bit what `compute` gives in a table.

        Raises
        ------
        InputError : a column is missing, the payment comes too late, a number is not finite; nothing is remembered.
        """
        return self._score(payment, remember=True)

    def _score(self, payment: Mapping[str, Any], *, remember: bool) -> np.ndarray:
        if missing := [name for name in self.needs if name not in payment]:
            raise InputError(f"{self.where}: a payment must give {', '.join(missing)}; found none; add it, or None")
        now = Payment(payment, self.where)
        name = payment["transaction_id"]
        if name is None or name != name:
            raise InputError(f"{self.where}: 'transaction_id' of the payment must not be empty; give it an id")
        if self.last is not None and (now.time, name) <= self.last:
            raise InputError(
                f"{self.where}: payments must come in the order (event_time, transaction_id); "
                "found one that lies before the last; compute late ones in a table"
            )
        if self.before is not None:
            derived = self.before.score(payment).tolist()
            now.given = {**payment, **dict(zip((column for column, _ in self.features.derived), derived))}
        out = self._out
        for spec, column in self.current:
            out[0, column] = engine.CURRENT[spec.statistic](now, spec)[0]
        coded = {column: self._code(column, now.given[column], remember) for column in self._coded}
        self._fill_words(now, coded)
        entities = [self._run(log, now, coded, remember) for log in self.logs]
        nodes = self._link(now, coded, remember)
        if remember:
            if self.remembers:
                mine = [found for log, found in zip(self.logs, entities) if log.known >= 0]
                self._trace(name, [now.time, NEVER, *mine, *nodes])
            if self.before is not None:
                self.before.score_then_update(payment)  # only now: a refused payment leaves nothing behind
            self.count += 1
            self.last = (now.time, name)
        return out[0, : len(self.columns)].astype(self.features.dtype)

    def _trace(self, name: Any, trace: list[int]) -> None:
        """Keep what a label needs that may come later; let go of payments whose time for it is over."""
        over = trace[0] - self.horizon
        start = self.count - len(self.oldest) - self.first
        while self.oldest and self.traces[start, 0] <= over:
            self.recent.pop(self.oldest.popleft(), None)
            start += 1
        row = self.count - self.first
        if row == len(self.traces):
            kept = self.traces[start:]
            self.traces = np.zeros((max(1024, 2 * len(kept)), kept.shape[1]), np.int64)
            self.traces[: len(kept)] = kept
            self.first += start
            row -= start
        self.traces[row] = trace
        self.recent[name] = self.count
        self.oldest.append(name)

    def _code(self, column: str, value: Any, remember: bool) -> int:
        """Return a value's code, -1 when it is missing; a value never met gets the next one."""
        if value is None or value is pd.NA or value != value:
            return -1
        known = self.codes[column]
        code = known.get(value, -1)
        if code < 0:
            code = len(known)
            if remember:
                known[value] = code
            if code >= self._tables.size:
                self._tables = np.zeros(2 * code + 1, np.int64)
        return code

    def _fill_words(self, now: Payment, coded: Mapping[str, int]) -> None:
        """Write every word of the payment that a log may ask for, each once."""
        for k, (what, *key) in self._asked:
            if what == "number":
                self._reals[k] = now.real(key[0])
            elif what == "code":
                self._words[k] = coded[key[0]]
            elif what == "time":
                self._words[k] = now.time
            elif what == "local":
                self._words[k] = now.clock(key[0])
        met = {bit: now.meets(*bit) for bit in self._bits}
        for log in self.logs:
            for k, key in enumerate(log.plan.words):
                if key[0] == "flags":
                    mine = log.plan.bits[BITS * key[1] : BITS * (key[1] + 1)]
                    self._words[log.pick[k]] = sum(met[bit] << b for b, bit in enumerate(mine) if bit != FRAUD)

    def _run(self, log: Log, now: Payment, coded: Mapping[str, int], remember: bool) -> int:
        """Write one log's columns of the payment; return its entity there, -1 without one."""
        codes = [coded[name] for name in log.by]
        if min(codes) < 0:
            self._out[0, log.columns] = math.nan
            return -1
        key = np.array([codes])
        entity = int((log.numbers(key) if remember else log.entities.of(key, adding=False))[0])
        if entity < 0:
            packed, row, a = np.empty((1, len(log.plan.words)), np.int64), 0, 0
            reals = packed.view(np.float64)
        else:
            row = log.place_for(entity, now.time)
            a = int(log.offset[entity])
            packed, reals = log.pool, log.reals
        packed[row] = self._words[log.pick]
        m = row - a + 1
        if m > self._rows.size:
            self._rows = np.arange(2 * m)
        if log.plan.scratch(m) > self._scratch.size:
            self._scratch = np.empty(2 * log.plan.scratch(m), np.int64)
        self._last[0], self._held[0] = m, m - 1
        operations.run(
            log.plan.ops,
            log.plan.params,
            packed[a : row + 1],
            log.layout,
            self._rows[:m],
            self._first,
            self._last,
            self._held,
            0,
            1,
            m,
            self._scratch,
            m - 1,
            log.shape,
            self._tables,
            log.columns,
            self._out,
            engine.NO_ROWS["float32"],
        )
        if remember:
            if log.carries:
                reals[row, log.carries] = self._out[0, log.carried]
            log.number[row] = self.count
            log.length[entity] += 1
        return entity

    def _link(self, now: Payment, coded: Mapping[str, int], remember: bool) -> list[int]:
        nodes = []
        for names, graph in self.graphs.items():
            mine = np.array([_node(graph, name, coded[name], remember) for name in names])
            if remember:
                while graph["known"] and graph["known"][0][0] <= now.time:
                    _, node, by = heapq.heappop(graph["known"])
                    graph["frauds"][links.root_of(graph["parent"], node)] += by
                members, frauds, root = links.link(
                    mine, graph["seen"], 0, graph["parent"], graph["members"], graph["frauds"]
                )
            else:
                members, frauds, root = _look(graph, mine, now.time)
            nodes.append(int(root))
            found = {"linked": members, "linked_frauds": frauds}
            for spec, column in self.linking:
                if (spec.value, *spec.through) == names:
                    self._out[0, column] = found[spec.statistic]
        return nodes

    # --- labels -------------------------------------------------------------------------------------------------------

    def label(self, transaction_id: Any, is_fraud: bool, label_time: Any) -> bool:
        """Take in the label of an earlier payment; it counts from `label_time` on, never before.

        Told again, the last word counts. Returns whether the payment is still remembered.
        """
        if not isinstance(is_fraud, bool | np.bool_):
            raise InputError(f"{self.where}: is_fraud must be true or false; found {type(is_fraud).__name__}")
        moment = Payment({"event_time": label_time}, f"{self.where}: label_time").time
        if self.before is not None:
            self.before.label(transaction_id, is_fraud, label_time)
        if transaction_id not in self.recent:
            return False
        number = self.recent[transaction_id]
        trace = self.traces[number - self.first]
        before, trace[1] = int(trace[1]), moment if is_fraud else NEVER
        for log, entity in zip(self.labelled, trace[2:].tolist()):
            if entity < 0:
                continue
            a, n = int(log.offset[entity]), int(log.length[entity])
            k = a + int(np.searchsorted(log.number[a : a + n], number))
            if k < a + n and log.number[k] == number:
                log.pool[k, log.known] = max(moment, int(log.pool[k, 0]))
                log.pool[k, log.fraud_word] &= ~log.fraud
                log.pool[k, log.fraud_word] |= log.fraud if is_fraud else 0
        for graph, node in zip(self.graphs.values(), trace[2 + len(self.labelled) :].tolist()):
            if node >= 0 and before != NEVER:  # take back what was told before
                heapq.heappush(graph["known"], (before, node, -1))
            if node >= 0 and is_fraud:
                heapq.heappush(graph["known"], (moment, node, 1))
        return True

    # --- keeping it ---------------------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """Return the state as an archive of plain arrays for `from_bytes`. It holds pseudonyms: keep it encrypted."""
        file = io.BytesIO()
        self.frozen()(file)
        return file.getvalue()

    def frozen(self) -> Callable[[IO[bytes]], None]:
        """Return what writes the state as it is now, as `to_bytes` would, whatever it takes in meanwhile.

        What is called later may raise InputError: ids must be all text or all integers.
        """
        arrays: dict[str, np.ndarray] = {}
        ids: dict[str, list[Any]] = {f"codes/{name}": list(known) for name, known in self.codes.items()}
        nodes: dict[str, tuple[list[int], list[int]]] = {}
        for k, log in enumerate(self.logs):
            arrays[f"log{k}/entities"] = log.entities.keys.copy()
            arrays[f"log{k}/length"] = log.length[: len(log.entities)].copy()
            arrays[f"log{k}/pool"], arrays[f"log{k}/number"] = log.kept()
        for k, (names, graph) in enumerate(self.graphs.items()):
            for part in ("parent", "seen", "members", "frauds"):
                arrays[f"graph{k}/{part}"] = graph[part][: graph["size"]].copy()
            arrays[f"graph{k}/known"] = np.array(graph["known"], np.int64).reshape(-1, 3)
            for c, name in enumerate(names):
                nodes[f"graph{k}/nodes{c}"] = list(graph["nodes"][name]), list(graph["nodes"][name].values())
        ids["recent/id"] = list(self.recent)
        ids["recent/number"] = list(self.recent.values())
        arrays["recent/traces"] = self.traces[: self.count - self.first].copy()
        last = None if self.last is None else [self.last[0], _plain(self.last[1])]
        facts = {
            "format": FORMAT,
            "features": self.features.to_dict(),
            "label_horizon": self.label_horizon,
            "count": self.count,
            "first": self.first,
            "last": last,
        }
        before = None if self.before is None else self.before.frozen()

        def write(file: IO[bytes]) -> None:
            found = {name: _array(values) for name, values in ids.items()} | arrays
            found |= {name: np.column_stack([_array(part) for part in pair]) for name, pair in nodes.items()}
            if unsafe := [name for name, values in found.items() if values.dtype.kind not in "iufbU"]:
                raise InputError(
                    f"{self.where}: ids must be all text or all integers to be kept; found others in {unsafe[0]}"
                )
            if before is not None:
                derived = io.BytesIO()
                before(derived)
                found["derived"] = np.frombuffer(derived.getvalue(), np.uint8)
            found["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
            np.savez(file, **found)

        return write

    @classmethod
    def from_bytes(cls, data: bytes) -> OnlineState:
        """Return the state that `to_bytes` wrote. No code is loaded with it.

        Raises
        ------
        InputError : the bytes are damaged, or written by another version.
        """
        from fraudlab.features.featureset import FeatureSet

        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            facts = json.loads(arrays["facts"].tobytes())
        except (ValueError, OSError, KeyError, EOFError) as error:
            raise InputError(f"online state: must be what to_bytes() wrote; found {type(error).__name__}") from None
        except Exception as error:  # zipfile's and zlib's own
            raise InputError(f"online state: must be undamaged; found {type(error).__name__}; restore a copy") from None
        if facts["format"] != FORMAT:
            raise InputError(f"online state: must be of format {FORMAT}; found {facts['format']}; learn it anew")
        state = cls(FeatureSet.from_dict(facts["features"]), facts["label_horizon"])
        state.count, state.first = facts["count"], facts["first"]
        if "derived" in arrays:
            state.before = cls.from_bytes(arrays["derived"].tobytes())
        state.last = None if facts["last"] is None else (facts["last"][0], facts["last"][1])
        for name, values in arrays.items():
            if name.startswith("codes/"):
                state.codes[name.removeprefix("codes/")] = {value: k for k, value in enumerate(values.tolist())}
        largest = max((len(known) for known in state.codes.values()), default=0)
        state._tables = np.zeros(max(1024, 2 * largest), np.int64)
        for k, log in enumerate(state.logs):
            log.numbers(arrays[f"log{k}/entities"])
            log.fill(arrays[f"log{k}/length"], arrays[f"log{k}/pool"], arrays[f"log{k}/number"])
        for k, (names, graph) in enumerate(state.graphs.items()):
            for part in ("parent", "seen", "members", "frauds"):
                graph[part] = arrays[f"graph{k}/{part}"].copy()
            graph["size"] = graph["parent"].size
            graph["known"] = [tuple(row) for row in arrays[f"graph{k}/known"].tolist()]
            graph["nodes"] = {name: dict(arrays[f"graph{k}/nodes{c}"].tolist()) for c, name in enumerate(names)}
        state.recent = dict(zip(arrays["recent/id"].tolist(), arrays["recent/number"].tolist()))
        state.oldest = deque(state.recent)
        state.traces = arrays["recent/traces"].copy()
        return state


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _array(values: list[Any]) -> np.ndarray:
    """Return ids as an array, made in parts: while one is made no other thread goes on."""
    parts = [np.array(values[start : start + PART]) for start in range(0, len(values), PART)]
    return np.concatenate(parts) if parts else np.array([], np.int64)


def _empty_graph(names: tuple[str, ...]) -> dict[str, Any]:
    return {
        "parent": np.zeros(0, np.int64),
        "seen": np.zeros(0, bool),
        "members": np.zeros(0, np.int64),
        "frauds": np.zeros(0, np.int64),
        "size": 0,
        "nodes": {name: {} for name in names},
        "known": [],
    }


def _node(graph: dict[str, Any], name: str, code: int, remember: bool) -> int:
    """Return the node of a value, -1 when it is missing; a new one is added to the graph, or counted as -2."""
    if code < 0:
        return -1
    nodes = graph["nodes"][name]
    if code not in nodes:
        if not remember:
            return -2
        node = nodes[code] = graph["size"]
        graph["size"] += 1
        if node >= graph["parent"].size:
            for part in ("parent", "seen", "members", "frauds"):
                old = graph[part]
                graph[part] = np.concatenate((old, np.zeros(max(1024, old.size), old.dtype)))
        graph["parent"][node] = node
    return nodes[code]


def _look(graph: dict[str, Any], nodes: np.ndarray, now: int) -> tuple[int, int, int]:
    """Return what `links.link` would, without joining anything; node -2 is one not met before."""
    roots = {int(links.root_of(graph["parent"], node)) for node in nodes if node >= 0}
    newcomer = int(nodes[0] == -2 or (nodes[0] >= 0 and not graph["seen"][nodes[0]]))
    members = sum(int(graph["members"][root]) for root in roots) + newcomer
    frauds = sum(int(graph["frauds"][root]) for root in roots)
    for moment, node, by in graph["known"]:
        frauds += by if moment <= now and links.root_of(graph["parent"], node) in roots else 0
    return members, frauds, -1
