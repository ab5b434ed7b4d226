"""Async spans of a ``cpu`` block: begin and end events in order, with the ids that pair them.

They share the stream with the spans of the thread that was running, which are skipped here. Begin and end of one span may
be in blocks of different streams, so nothing is paired.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from lakeflight.wire.transit import event_kernels
from lakeflight.wire.transit.columns import Int32Array, Int64Array, UInt8Array, UInt32Array
from lakeflight.wire.transit.dependencies import read_dependencies
from lakeflight.wire.transit.event_kernels import ASYNC_PLAN_COLUMNS
from lakeflight.wire.transit.kernels import SPAN_BEGIN, SPAN_END
from lakeflight.wire.transit.layout import Kind, StreamLayout, TypeTable
from lakeflight.wire.transit.records import Plan, TypePlan, fixed_type, other_plan, scan_records
from lakeflight.wire.transit.spans import Scope, read_scoped, scope_dependencies, scoped_plan

_ACTIONS: Final = {
    "BeginAsyncSpanEvent": (SPAN_BEGIN, "span_desc", None),
    "EndAsyncSpanEvent": (SPAN_END, "span_desc", None),
    "BeginAsyncNamedSpanEvent": (SPAN_BEGIN, "span_location", "name"),
    "EndAsyncNamedSpanEvent": (SPAN_END, "span_location", "name"),
    # as in ``spans``
    "BeginAsyncDynNamedSpanEvent": (SPAN_BEGIN, "span_location", "name"),
    "EndAsyncDynNamedSpanEvent": (SPAN_END, "span_location", "name"),
    "TaggedEndAsyncSpanEvent": (SPAN_END, "span_desc", None),
    "TaggedEndAsyncNamedSpanEvent": (SPAN_END, "span_location", "name"),
}


@dataclass(slots=True)
class AsyncEvents:
    """Async events in object order."""

    kind: UInt8Array  # 0 begin, 1 end
    ticks: Int64Array  # absolute
    span_id: Int64Array  # unsigned on the wire, the same bits here
    parent_span_id: Int64Array
    depth: UInt32Array
    scope: Int32Array  # into scopes
    scopes: list[Scope]


def read_async_spans(layout: StreamLayout, dependencies: bytes, objects: bytes) -> AsyncEvents:
    """Decode one block from its decompressed buffers.

    Raises:
        CorruptPayloadError: The buffers do not follow the type tables.
    """
    known = read_dependencies(layout.dependencies.derived(scope_dependencies), dependencies)
    found = scan_records(layout.objects.derived(_plan), objects, "object")
    events = read_scoped(known, found)
    count = len(events.index)
    ids, parents, depth = np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count, np.uint32)
    event_kernels.read_async_members(
        *(found.buffer, found.kinds, found.starts, found.plan.rows, events.index, ids, parents, depth)
    )
    return AsyncEvents(events.kind, events.ticks, ids, parents, depth, events.scope, events.scopes)


def _plan(table: TypeTable) -> Plan:
    return Plan(table, ASYNC_PLAN_COLUMNS, _plan_of)


def _plan_of(table: TypeTable, index: int) -> TypePlan:
    """Plan row: action, time, description, name, span id, parent's id, depth and its bytes."""
    action = _ACTIONS.get(table.types[index].name)
    if action is None:
        return other_plan(table, index)
    fixed = fixed_type(table, index)
    if fixed.stands_for is not None:
        return other_plan(table, index)
    ids = (fixed.need(name, Kind.U64, Kind.I64).offset for name in ("span_id", "parent_span_id"))
    depth = fixed.need("depth", Kind.U32, Kind.U8)
    return scoped_plan(fixed, *action, *ids, depth.offset, depth.kind.width)


__all__ = ["AsyncEvents", "read_async_spans"]
