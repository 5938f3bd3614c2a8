"""Many payments at once through an online state: the same memory and the same bits, at the speed of a table.

Payments that come in one by one and payments that come in files must leave the same state behind. Per entity kind the
rows that the state remembers and the new ones are put together, the kernels run over them, and what later windows can
still reach goes back into the log.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd

from fraudlab.features import engine
from fraudlab.features.kernels import jit, links, operations, windows
from fraudlab.features.kernels.labels import NEVER
from fraudlab.features.log import Log, steps
from fraudlab.features.online import LABELS, OnlineState
from fraudlab.features.source import Source
from fraudlab.schema import TIME_DTYPE, InputError, require_columns

Array = np.ndarray
BEGINNING = -NEVER


def score_table_then_update(state: OnlineState, payments: pd.DataFrame) -> pd.DataFrame:
    """Return the features of many payments, then remember them: `OnlineState.score_then_update` for a table.

    Parameters
    ----------
    state : it remembers the payments afterwards. If this raises, it may hold a part of them: go back to a copy.
    payments : canonical columns (`FeatureSet.requires`), in any row order; all of them must come after what the state
        remembers, in the total order (event_time, transaction_id). `is_fraud` and `label_time` may be left out; where
        they are there, each label counts from its label_time on.

    Returns
    -------
    A row per payment with the caller's index and order, columns as in `FeatureSet.columns`: to the bit what `compute`
    gives in one table of all payments.

    Raises
    ------
    InputError : a column is missing, a payment lies before the last one; and as `FeatureSet.compute`.

    >>> from fraudlab.features import FeatureSet, count
    >>> moments = pd.to_datetime(["2026-01-01 08:00", "2026-01-01 09:00", "2026-01-01 10:00"], utc=True)
    >>> frame = pd.DataFrame({"transaction_id": [1, 2, 3], "event_time": moments, "customer_id": "a"})
    >>> state = FeatureSet("tiny", [count(by="customer_id", window="1d")]).online(frame[:1])
    >>> score_table_then_update(state, frame[1:])["customer_id__count__1d"].tolist()
    [1.0, 2.0]
    """
    require_columns(payments, state.needs, where=state.where)
    columns = list(state.columns)
    if len(payments) == 0:
        return pd.DataFrame(index=payments.index, columns=columns, dtype=state.features.dtype)
    frame = payments
    if not set(LABELS) <= set(frame.columns):
        unknown = {"is_fraud": "boolean", "label_time": TIME_DTYPE}
        frame = frame.assign(**{name: pd.Series(pd.NA, frame.index, dtype=kind) for name, kind in unknown.items()})
    source = Source(frame, state.where)
    order = np.arange(len(frame)) if source.order is None else source.order
    first, last = ((int(source.time[row]), frame["transaction_id"].iloc[int(row)]) for row in (order[0], order[-1]))
    if state.last is not None and first <= state.last:
        raise InputError(
            f"{state.where}: payments must come in the order (event_time, transaction_id); "
            "found some that lie before the last; compute late ones in a table"
        )
    if state.before is not None:
        made = score_table_then_update(state.before, frame)
        names = [name for name, _ in state.features.derived]
        frame = frame.assign(**{name: made.iloc[:, k].to_numpy() for k, name in enumerate(names)})
        source = Source(frame, state.where)
    operations.prepare([log.plan.ops for log in state.logs], alone=True)
    number = np.empty(len(frame), np.int64)
    number[order] = np.arange(state.count, state.count + len(frame))
    out = np.empty((len(frame), state.width))
    for spec, column in state.current:
        out[:, column] = engine.CURRENT[spec.statistic](source, spec)
    with ThreadPoolExecutor(jit.threads() if len(frame) >= engine.MANY_ROWS else 1) as pool:
        list(pool.map(source.codes, state._coded))
        for name in state._coded:
            _take_codes(state, source, name)
        # While the kernels of one log run, the rows of the next one are laid out.
        entities, finish = [], []
        for log in state.logs:
            entity, grouped = _lay_out(log, source, order, number)
            entities.append(entity)
            out[np.ix_(order[entity < 0], log.columns)] = np.nan
            finish.append(_start(state, log, grouped, out, pool))
        nodes = [_link(state, names, graph, source, order, out) for names, graph in state.graphs.items()]
        if state.remembers:
            mine = [found for log, found in zip(state.logs, entities) if log.known >= 0]
            _trace(state, source, order, last[0], mine, nodes)
        for done in finish:
            done()
    state.count += len(frame)
    state.last = last
    found = out[:, : len(columns)].astype(state.features.dtype)
    return pd.DataFrame(found, index=payments.index, columns=columns, copy=False)


def _take_codes(state: OnlineState, source: Source, name: str) -> None:
    """Give the source the state's own code of each value; a value never met gets the next one."""
    known = state.codes[name]
    code, values = source.codes(name)
    values = list(values) if isinstance(values, range) else values.tolist()
    place = np.fromiter(map(known.get, values, itertools.repeat(-1)), np.int64, len(values))
    fresh = np.flatnonzero(place < 0)
    place[fresh] = np.arange(len(known), len(known) + len(fresh))
    known.update(zip([values[k] for k in fresh.tolist()], place[fresh].tolist()))
    place = np.append(place, -1)
    source.recode(name, place[code], len(known))
    if len(known) > state._tables.size:
        state._tables = np.zeros(2 * len(known), np.int64)


def _lay_out(log: Log, source: Source, order: Array, number: Array) -> tuple[Array, engine.Groups]:
    """Put a log's new rows behind those that it remembers, so that the kernels can go on from there, where they lie.

    Return each payment's entity in the total order, -1 without, and the rows of the entities that have new ones.
    """
    keys = np.column_stack([source.codes(name)[0][order] for name in log.by])
    entity = log.numbers(keys.astype(np.int64)).astype(np.int32)
    many = np.zeros(len(log.entities), np.int64)
    windows.group_sizes(entity, many)
    some = np.flatnonzero(many)
    free = np.zeros(many.size, np.int64)
    many = many[some]
    log.make_room(some, many, int(source.time[order[0]]))
    first, held = log.offset[some], log.length[some]
    free[some] = first + held
    rows = np.empty((len(log.pool), 1), np.int64)
    words = [source.word(key, log.plan.bits) for key in log.plan.words]
    for cells, laid in ((words, log.pool), ([source.word(engine.ROW, ())], rows)):
        engine.place(source, cells, entity, None, (0, entity.size), free.copy(), laid)
    rows = rows.ravel()
    log.length[some] += many
    here = np.repeat(first + held, many) + steps(many)
    log.number[here] = number[rows[here]]
    return entity, engine.Groups(first, first + held + many, held, log.pool, log.layout, rows)


def _start(
    state: OnlineState, log: Log, grouped: engine.Groups, out: Array, pool: ThreadPoolExecutor
) -> Callable[[], None]:
    """Let the pool write one log's columns; return what waits for it and keeps what the next rows go on from."""
    many = grouped.last - grouped.first
    codes = max((len(state.codes[key[1]]) for key in log.plan.words if key[0] == "code"), default=0)
    largest = int(many.max(initial=1))

    def work(part: tuple[int, int]) -> None:
        engine.run(log.plan, grouped, part, largest, np.zeros(codes, np.int64), log.columns, out)

    started = [
        pool.submit(work, part) for part in engine.cut(np.concatenate(([0], np.cumsum(many))), 2 * pool._max_workers)
    ]

    def finish() -> None:
        for each in started:
            each.result()
        if log.carries:
            fresh = many - grouped.held
            here = np.repeat(grouped.first + grouped.held, fresh) + steps(fresh)
            log.reals[np.ix_(here, log.carries)] = out[np.ix_(grouped.rows[here], log.carried)]

    return finish


def _link(
    state: OnlineState,
    names: tuple[str, ...],
    graph: dict[str, Any],
    source: Source,
    order: Array,
    out: Array,
) -> Array:
    """Write the columns of one graph and grow it; return a node of each payment in the total order, -1 without."""
    nodes = np.full((len(order), len(names)), -1, np.int32)
    for k, name in enumerate(names):
        code = source.codes(name)[0][order]
        known = graph["nodes"][name]
        values, place = np.unique(code[code >= 0], return_inverse=True)
        mine = np.empty(len(values), np.int32)
        for position, value in enumerate(values.tolist()):
            if value not in known:
                known[value] = graph["size"]
                graph["size"] += 1
            mine[position] = known[value]
        nodes[code >= 0, k] = mine[place]
    if graph["size"] > graph["parent"].size:
        for part in ("parent", "seen", "members", "frauds"):
            old = graph[part]
            graph[part] = np.concatenate((old, np.zeros(2 * graph["size"] - old.size, old.dtype)))
            if part == "parent":
                graph[part][old.size :] = np.arange(old.size, 2 * graph["size"])
    time = source.time[order]
    told = _pending(graph, int(time[0]))
    # Labels of earlier payments that are still to count stand before the new rows, each as a row of its one node.
    before = np.full((len(told), len(names)), -1, np.int32)
    before[:, 0] = np.array([node for _, node in told], np.int32)
    nodes = np.concatenate((before, nodes))
    moments = np.array([moment for moment, _ in told], np.int64)
    known = np.concatenate((moments, source.known(slice(None))[order]))
    fraud = np.concatenate((np.ones(len(told), bool), source.fraud()[0][order]))
    where = np.concatenate((before[:, 0], np.full(len(order), -1, np.int32)))
    candidates = np.flatnonzero(fraud & (known != NEVER))
    by_known = candidates[np.argsort(known[candidates], kind="stable")]
    members, frauds = np.empty((2, len(nodes)), np.int32)
    time = np.concatenate((np.full(len(told), BEGINNING), time))
    tree = (graph["parent"], graph["seen"], graph["members"], graph["frauds"], where)
    done = links.linked(nodes, 0, time, known, by_known, fraud, *tree, members, frauds)
    graph["known"] = [(int(known[row]), int(where[row]), 1) for row in by_known[done:] if where[row] >= 0]
    heapq.heapify(graph["known"])
    found = {"linked": members[len(told) :], "linked_frauds": frauds[len(told) :]}
    for spec, column in state.linking:
        if (spec.value, *spec.through) == names:
            out[order, column] = found[spec.statistic]
    return where[len(told) :]


def _pending(graph: dict[str, Any], now: int) -> list[tuple[int, int]]:
    """Count what is known by `now`; return moment and node of the frauds that will be, without those taken back."""
    while graph["known"] and graph["known"][0][0] <= now:
        _, node, by = heapq.heappop(graph["known"])
        graph["frauds"][links.root_of(graph["parent"], node)] += by
    left: Counter[tuple[int, int]] = Counter()
    for moment, node, by in graph["known"]:
        left[moment, node] += by
    return sorted(key for key, many in left.items() for _ in range(many))


def _trace(
    state: OnlineState, source: Source, order: Array, now: int, entities: list[Array], nodes: list[Array]
) -> None:
    """Keep what the payments' labels need that may come later; let go of those whose time for it is over."""
    guilty = np.where(source.fraud()[0], source.known(slice(None)), NEVER)[order]
    traces = np.column_stack([source.time[order], guilty, *entities, *nodes])
    held = np.concatenate((state.traces[: state.count - state.first], traces))
    ids = source.frame["transaction_id"].iloc[order].tolist()
    state.recent.update(zip(ids, range(state.count, state.count + len(ids))))
    state.oldest.extend(ids)
    first = state.count + len(ids) - len(state.oldest)
    over = int(np.searchsorted(held[first - state.first :, 0], now - state.horizon, side="right"))
    for _ in range(over):
        state.recent.pop(state.oldest.popleft(), None)
    first += over
    state.traces, state.first = held[first - state.first :], first
