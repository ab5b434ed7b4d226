"""Pairs begin and end events of one thread into nested spans: a stack machine over arrays, compiled.

Knows neither blocks' bytes nor views. Takes events as arrays in the order of the thread, one block after the other, and
gives back spans in preorder (a parent before its children, siblings by time). Refuses nothing that a client can send:
every index is checked or bounded by how it was made, an end without a begin is repaired or ignored, and both time and
memory are linear in the number of events.

A thread's first span may have begun before its first event was recorded, and its last may still be open. So every
tree has a range, and what lies outside is cut there: a span that ends without having begun begins with the range, a
span that never ends ends with it. As soon as one span has closed with nothing around it, a synthetic root, named after
the thread, holds it and all that follow. When later a span ends that nobody saw begin, it must have been around
everything so far: the root becomes that span, and a new root is put around it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
from numba import njit

from lakeflight.wire.compiled import KERNEL

BEGIN: Final = 0
END: Final = 1
SYNTHETIC_ROOT_ID: Final = -1

TREE_EVENTS_MAX: Final = 1 << 27
"""Events of one tree. Node numbers are 32 bits wide, and a node takes 36 bytes."""

_GROWTH: Final = 1.25
_RESERVED_NODES_MAX: Final = 1 << 22  # on the word of whoever expects them; memory is used as it fills
_ROWS_EACH: Final = 1 << 17

Int64s = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]
UInt32s = npt.NDArray[np.uint32]
UInt8s = npt.NDArray[np.uint8]
T = TypeVar("T", np.int32, np.uint32)

# Slots of the array that carries the machine's registers from one block to the next.
_NODES, _OPEN, _ROOTS, _REPAIRED = 0, 1, 2, 3
_REGISTERS: Final = 4

# What a run of the machine may say, beside the event to go on with.
_DONE, _BAD_SCOPE = -1, -2


@njit(**KERNEL)
def _advance(
    kinds: UInt8s,
    times: Int64s,
    indices: Int64s,
    scopes: Int32s,
    scope_map: Int32s,
    first: int,
    object_offset: int,
    range_begin: int,
    range_end: int,
    root_scope: int,
    registers: Int64s,
    ids: Int64s,
    begins: Int64s,
    ends: Int64s,
    node_scopes: Int32s,
    parents: Int32s,
    depths: Int32s,
    stack: Int32s,
    open_spans: Int32s,
    root_ids: Int64s,
    root_ends: Int64s,
    root_scopes: Int32s,
    root_first_nodes: Int32s,
) -> int:
    """Run the machine from event ``first``.

    The caller has made room for a node and a stack entry per begin event and one more, and one ``open_spans`` counter
    per scope. Roots are rare, so room for them is asked for: the answer is the event to go on with, ``-1`` if there is
    none left, ``-2`` if an event names a scope that does not exist.

    ``parents`` holds the number of the parent node, or -1 for the root that was current at the time. The current root
    is the last one, and it is on top of the stack exactly if ``open_ == 0`` and there is one.
    """
    nodes = registers[_NODES]
    open_ = registers[_OPEN]
    roots = registers[_ROOTS]
    repaired = registers[_REPAIRED]
    answer = _DONE
    for i in range(first, kinds.size):
        t = times[i]
        if t < range_begin:
            continue
        if t > range_end:
            break
        local = scopes[i]
        if local < 0 or local >= scope_map.size:
            answer = _BAD_SCOPE
            break
        scope = scope_map[local]
        if kinds[i] == BEGIN:
            ids[nodes] = object_offset + indices[i]
            begins[nodes] = t
            ends[nodes] = range_end
            node_scopes[nodes] = scope
            parents[nodes] = stack[open_ - 1] if open_ > 0 else -1
            depths[nodes] = open_
            stack[open_] = nodes
            open_spans[scope] += 1
            nodes += 1
            open_ += 1
            continue

        if open_ > 0:
            top = stack[open_ - 1]
            if node_scopes[top] != scope:
                if node_scopes[top] == root_scope:
                    # A span that looks like the root is taken for it, as in the rule for the root below.
                    open_spans[root_scope] -= 1
                    open_spans[scope] += 1
                    ids[top] = object_offset + indices[i]
                    node_scopes[top] = scope
                else:
                    repaired += 1
                    if open_spans[scope] == 0:
                        continue
                    # Each turn closes a span for good, so all searches together are linear.
                    while node_scopes[top] != scope:
                        ends[top] = t
                        open_spans[node_scopes[top]] -= 1
                        open_ -= 1
                        top = stack[open_ - 1]
            ends[top] = t
            open_spans[scope] -= 1
            open_ -= 1
            if open_ > 0 or roots > 0:
                continue
        elif roots > 0:
            if root_scopes[roots - 1] != scope:
                root_ids[roots - 1] = object_offset + indices[i]
                root_scopes[roots - 1] = scope
            root_ends[roots - 1] = t
        else:  # nothing at all so far: this span began before the range did
            ids[nodes] = object_offset + indices[i]
            begins[nodes] = range_begin
            ends[nodes] = t
            node_scopes[nodes] = scope
            parents[nodes] = -1
            depths[nodes] = 0
            nodes += 1

        # Something closed and nothing is around it: a (new) root is.
        root_ids[roots] = SYNTHETIC_ROOT_ID
        root_ends[roots] = range_end
        root_scopes[roots] = root_scope
        root_first_nodes[roots] = nodes if roots > 0 else 0
        roots += 1
        if roots == root_ids.size:
            answer = i + 1
            break
    registers[_NODES] = nodes
    registers[_OPEN] = open_
    registers[_ROOTS] = roots
    registers[_REPAIRED] = repaired
    return answer


@njit(**KERNEL)
def _is_sorted(values: Int64s) -> bool:
    for i in range(1, values.size):  # noqa: SIM110  numba compiles the loop
        if values[i] < values[i - 1]:
            return False
    return True


@njit(**KERNEL)
def _write_rows(
    start: int,
    order: Int64s,
    range_begin: int,
    ids: Int64s,
    begins: Int64s,
    ends: Int64s,
    node_scopes: Int32s,
    parents: Int32s,
    depths: Int32s,
    root_ids: Int64s,
    root_ends: Int64s,
    root_scopes: Int32s,
    root_first_nodes: Int32s,
    out_id: Int64s,
    out_parent: Int64s,
    out_depth: UInt32s,
    out_begin: Int64s,
    out_end: Int64s,
    out_duration: Int64s,
    out_scope: Int32s,
) -> None:
    """Rows ``start`` and following, as many as the outputs hold: first the roots, outermost first, then the nodes.

    Nodes were numbered as they began, which is their preorder. ``order`` says otherwise if it is not empty.
    """
    roots = root_ids.size
    root = -1  # the root that was current when the node began; unknown so far
    for i in range(out_id.size):
        row = start + i
        if row < roots:
            this = roots - 1 - row
            out_id[i] = root_ids[this]
            out_parent[i] = root_ids[this + 1] if this + 1 < roots else 0
            out_depth[i] = row
            out_begin[i] = range_begin
            out_end[i] = root_ends[this]
            out_duration[i] = root_ends[this] - range_begin
            out_scope[i] = root_scopes[this]
            continue
        node = row - roots
        if order.size > 0:
            node = order[node]
            root = -1
        if root < 0:
            root = int(np.searchsorted(root_first_nodes, node, side="right")) - 1
        while root + 1 < roots and root_first_nodes[root + 1] <= node:
            root += 1
        parent = parents[node]
        if parent >= 0:
            out_parent[i] = ids[parent]
        elif roots > 0:
            out_parent[i] = root_ids[root]
        else:
            out_parent[i] = 0
        out_id[i] = ids[node]
        out_depth[i] = depths[node] + (roots - root if roots > 0 else 0)
        out_begin[i] = begins[node]
        out_end[i] = ends[node]
        out_duration[i] = ends[node] - begins[node]
        out_scope[i] = node_scopes[node]


@njit(**KERNEL)
def _gather(table: Any, positions: Int32s, out: Any) -> None:
    for i in range(positions.size):
        out[i] = table[positions[i]]


@njit(**KERNEL)
def _mark(positions: Int32s, seen: UInt8s) -> None:
    for i in range(positions.size):
        seen[positions[i]] = 1


def gather(table: npt.NDArray[T], scopes: Int32s) -> npt.NDArray[T]:
    """``table[scopes]`` for the scopes of rows, four times as fast. Every scope must have an entry in the table."""
    out = np.empty(scopes.size, table.dtype)
    _gather(table, scopes, out)
    return out


def used_scopes(scopes: Int32s, count: int) -> Int64s:
    """The distinct among the scopes of rows, ascending; all are below ``count``."""
    seen = np.zeros(count, np.uint8)
    _mark(scopes, seen)
    return np.flatnonzero(seen)


@dataclass(frozen=True, slots=True)
class SpanRows:
    """A run of rows; ``scope`` is the number that the caller gave each call site."""

    id: Int64s
    parent: Int64s
    depth: UInt32s
    begin: Int64s
    end: Int64s
    duration: Int64s
    scope: Int32s

    @classmethod
    def concatenate(cls, parts: Sequence[SpanRows]) -> SpanRows:
        return cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)})


class CallTree:
    """The tree of one chain of blocks. Feed it block after block, then read its rows; it is used once.

    Args:
        range_begin_ns, range_end_ns: Events outside are not taken; open ends are put there.
        root_scope: Number of the scope that the synthetic root has. Equal numbers mean equal scopes.
        expected_events: How many are likely to come; saves growing in steps.
    """

    def __init__(self, range_begin_ns: int, range_end_ns: int, root_scope: int, expected_events: int = 0) -> None:
        self._range_begin = range_begin_ns
        self._range_end = range_end_ns
        self._root_scope = root_scope
        self._events = 0
        self._registers = np.zeros(_REGISTERS, np.int64)
        nodes = min(max(expected_events // 2, 0) + 1, _RESERVED_NODES_MAX)
        self._ids = np.empty(nodes, np.int64)
        self._begins = np.empty(nodes, np.int64)
        self._ends = np.empty(nodes, np.int64)
        self._scopes = np.empty(nodes, np.int32)
        self._parents = np.empty(nodes, np.int32)
        self._depths = np.empty(nodes, np.int32)
        self._stack = np.empty(0, np.int32)
        self._open_spans = np.empty(0, np.int32)
        self._root_ids = np.empty(4, np.int64)
        self._root_ends = np.empty(4, np.int64)
        self._root_scopes = np.empty(4, np.int32)
        self._root_first_nodes = np.empty(4, np.int32)

    @property
    def repaired_events(self) -> int:
        """Ends that did not match the innermost open span."""
        return int(self._registers[_REPAIRED])

    @property
    def rows(self) -> int:
        return int(self._registers[_NODES] + self._registers[_ROOTS])

    def add(
        self, kinds: UInt8s, times: Int64s, indices: Int64s, scopes: Int32s, scope_map: Int32s, object_offset: int
    ) -> None:
        """Take one block's events.

        Args:
            kinds: 0 begin, 1 end.  times: Nanoseconds.  indices: Ordinal of each event in its block.
            scopes: Index into ``scope_map``, which holds the numbers of this block's scopes.
            object_offset: Number of the block's first event in the thread; makes an ordinal an id.
        Raises:
            ValueError: The arrays do not belong together, or the tree would pass ``TREE_EVENTS_MAX``. The tree is as
                it was before.
        """
        if not kinds.size == times.size == indices.size == scopes.size:
            raise ValueError("event arrays differ in length")
        if scopes.size and (int(scopes.min()) < 0 or int(scopes.max()) >= scope_map.size or int(scope_map.min()) < 0):
            raise ValueError("an event names a scope that does not exist")
        if self._events + kinds.size > TREE_EVENTS_MAX:
            raise ValueError(f"a thread has more than {TREE_EVENTS_MAX} events in one chain of blocks")
        self._events += kinds.size
        self._make_room(kinds.size - int(np.count_nonzero(kinds)) + 1)
        counters = max(self._root_scope + 1, int(scope_map.max()) + 1 if scope_map.size else 0)
        if counters > self._open_spans.size:
            self._open_spans.resize(counters, refcheck=False)
        first = 0
        while first >= 0:
            first = _advance(
                kinds, times, indices, scopes, scope_map,
                first, object_offset, self._range_begin, self._range_end, self._root_scope,
                self._registers, self._ids, self._begins, self._ends, self._scopes, self._parents, self._depths,
                self._stack, self._open_spans,
                self._root_ids, self._root_ends, self._root_scopes, self._root_first_nodes,
            )  # fmt: skip
            if first > 0:
                for roots in (self._root_ids, self._root_ends, self._root_scopes, self._root_first_nodes):
                    roots.resize(roots.size * 2, refcheck=False)

    def _make_room(self, begins: int) -> None:
        """Room for ``begins`` more nodes and open spans. The arrays are ours alone until rows are read."""
        nodes = int(self._registers[_NODES]) + begins
        if nodes > self._ids.size:
            size = max(nodes, int(self._ids.size * _GROWTH))
            for array in (self._ids, self._begins, self._ends, self._scopes, self._parents, self._depths):
                array.resize(size, refcheck=False)
        open_ = int(self._registers[_OPEN]) + begins
        if open_ > self._stack.size:
            self._stack.resize(max(open_, int(self._stack.size * _GROWTH)), refcheck=False)

    def read(self, rows_each: int = _ROWS_EACH) -> Iterator[SpanRows]:
        """All rows, ``rows_each`` at a time, ``begin`` never going back."""
        nodes = int(self._registers[_NODES])
        roots = int(self._registers[_ROOTS])
        order = np.empty(0, np.int64)
        if not _is_sorted(self._begins[:nodes]):
            # A clock that went backwards within a thread. Order by time is what readers and pruning rely on.
            order = np.argsort(self._begins[:nodes], kind="stable").astype(np.int64, copy=False)
        for start in range(0, nodes + roots, rows_each):
            n = min(rows_each, nodes + roots - start)
            rows = SpanRows(
                id=np.empty(n, np.int64),
                parent=np.empty(n, np.int64),
                depth=np.empty(n, np.uint32),
                begin=np.empty(n, np.int64),
                end=np.empty(n, np.int64),
                duration=np.empty(n, np.int64),
                scope=np.empty(n, np.int32),
            )
            _write_rows(
                start, order, self._range_begin,
                self._ids[:nodes], self._begins[:nodes], self._ends[:nodes],
                self._scopes[:nodes], self._parents[:nodes], self._depths[:nodes],
                self._root_ids[:roots], self._root_ends[:roots],
                self._root_scopes[:roots], self._root_first_nodes[:roots],
                rows.id, rows.parent, rows.depth, rows.begin, rows.end, rows.duration, rows.scope,
            )  # fmt: skip
            yield rows


def warm_up() -> None:
    """Compile the kernels, or load them from numba's cache, for the only types they are used with."""
    tree = CallTree(0, 10, 0)
    events: dict[str, Any] = {
        "kinds": np.array([BEGIN, END], np.uint8),
        "times": np.array([1, 2], np.int64),
        "indices": np.array([0, 1], np.int64),
        "scopes": np.array([0, 0], np.int32),
        "scope_map": np.array([1], np.int32),
    }
    tree.add(**events, object_offset=0)
    for rows in tree.read():
        gather(np.zeros(2, np.int32), rows.scope)
        gather(np.zeros(2, np.uint32), rows.scope)
        used_scopes(rows.scope, 2)
