"""Network traces of a ``net`` block: what went over connections, as begin and end events with sizes in bits.

The tree they make crosses blocks, so building it is the reader's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from lakeflight.wire.transit import event_kernels
from lakeflight.wire.transit.columns import Int32Array, Int64Array, UInt8Array
from lakeflight.wire.transit.dependencies import DependencyPlan, Wanted, read_dependencies
from lakeflight.wire.transit.event_kernels import NET_PLAN_COLUMNS
from lakeflight.wire.transit.layout import Kind, StreamLayout, TypeTable
from lakeflight.wire.transit.records import (
    Plan,
    TypePlan,
    fixed_plan,
    fixed_type,
    new_outcome,
    other_plan,
    scan_records,
)

CONNECTION_BEGIN: Final = 1
OBJECT_BEGIN: Final = 2
RPC_BEGIN: Final = 3
CONNECTION_END: Final = 4
OBJECT_END: Final = 5
RPC_END: Final = 6
PROPERTY: Final = 7
BEGIN_TO_END: Final = CONNECTION_END - CONNECTION_BEGIN

_ACTIONS: Final = {  # what it is, the member with its name, the member with its number
    "NetConnectionBeginEvent": (CONNECTION_BEGIN, "connection_name", "is_outgoing"),
    "NetConnectionEndEvent": (CONNECTION_END, None, "bit_size"),
    "NetObjectBeginEvent": (OBJECT_BEGIN, "object_name", None),
    "NetObjectEndEvent": (OBJECT_END, None, "bit_size"),
    "NetPropertyEvent": (PROPERTY, "property_name", "bit_size"),
    "NetRPCBeginEvent": (RPC_BEGIN, "function_name", None),
    "NetRPCEndEvent": (RPC_END, None, "bit_size"),
}
_WANTED: Final = Wanted(())


@dataclass(slots=True)
class NetEvents:
    """Events in object order. ``index`` counts every object of the block, so ids are ``object_offset + index``."""

    action: UInt8Array  # ``CONNECTION_BEGIN`` and so on
    ticks: Int64Array  # absolute
    index: Int64Array
    name: Int32Array  # into names; -1 of an end
    number: Int64Array  # bits of an end and of a property; of the begin of a connection whether it is outgoing
    names: list[str]


def read_net_events(layout: StreamLayout, dependencies: bytes, objects: bytes) -> NetEvents:
    """Decode one block from its decompressed buffers.

    Raises:
        CorruptPayloadError: The buffers do not follow the type tables.
    """
    known = read_dependencies(layout.dependencies.derived(_dependency_plan), dependencies)
    found = scan_records(layout.objects.derived(_plan), objects, "object")
    known.check_other_references(found)
    count = len(found)
    action, ticks, index = np.empty(count, np.uint8), np.empty(count, np.int64), np.empty(count, np.int64)
    name, number = np.empty(count, np.int32), np.empty(count, np.int64)
    outcome = new_outcome()
    rows = event_kernels.read_net_events(
        *(found.buffer, found.kinds, found.starts, found.plan.rows, *known.index, known.sources),
        *(action, ticks, index, name, number, outcome),
    )
    known.raise_fault(outcome)
    used, names = known.used(name[:rows])
    return NetEvents(action[:rows], ticks[:rows], index[:rows], names, number[:rows], known.strings(used))


def _dependency_plan(table: TypeTable) -> DependencyPlan:
    return DependencyPlan(table, _WANTED)


def _plan(table: TypeTable) -> Plan:
    return Plan(table, NET_PLAN_COLUMNS, _plan_of)


def _plan_of(table: TypeTable, index: int) -> TypePlan:
    """Plan row: action, time, name, number and its bytes."""
    action = _ACTIONS.get(table.types[index].name)
    if action is None:
        return other_plan(table, index)
    fixed = fixed_type(table, index)
    if fixed.stands_for is not None:
        return other_plan(table, index)
    what, name_member, number_member = action
    time = fixed.need("time", Kind.I64, Kind.U64).offset
    name = -1 if name_member is None else fixed.need(name_member, Kind.REFERENCE).offset
    if number_member is None:
        return fixed_plan(fixed, (what, time, name, -1, 0), name)
    kinds = (Kind.U8,) if number_member == "is_outgoing" else (Kind.U32, Kind.U8)
    number = fixed.need(number_member, *kinds)
    return fixed_plan(fixed, (what, time, name, number.offset, number.kind.width), name)


__all__ = ["NetEvents", "read_net_events"]
