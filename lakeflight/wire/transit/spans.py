"""Thread spans of a ``cpu`` block: begin and end events in order, each with the scope it opens or closes.

Async spans share the stream; they are skipped here (``async_spans`` reads them), and count as objects. Pairing begins with
ends is the reader's business, because it crosses blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import xxhash

from lakeflight.wire.transit import kernels
from lakeflight.wire.transit.columns import Int32Array, Int64Array, UInt8Array
from lakeflight.wire.transit.dependencies import Dependencies, DependencyPlan, Wanted, read_dependencies
from lakeflight.wire.transit.kernels import SPAN_BEGIN, SPAN_END, SPAN_PLAN_COLUMNS, Fault
from lakeflight.wire.transit.layout import FixedType, Kind, StreamLayout, TypeTable
from lakeflight.wire.transit.records import (
    Plan,
    Records,
    TypePlan,
    fixed_plan,
    fixed_type,
    new_outcome,
    other_plan,
    scan_records,
)

SCOPES_MAX: Final = 1 << 20  # distinct in one block, a power of two; names of spans may be made at run time
_SCOPES_USUAL_MAX: Final = 1 << 11
_NO_NAME: Final = 0xFFFFFFFF
_WANTED: Final = Wanted(("name", "file", "target"), "line")

_ACTIONS: Final = {
    "BeginThreadSpanEvent": (SPAN_BEGIN, "thread_span_desc", None),
    "EndThreadSpanEvent": (SPAN_END, "thread_span_desc", None),
    "BeginThreadNamedSpanEvent": (SPAN_BEGIN, "thread_span_location", "name"),
    "EndThreadNamedSpanEvent": (SPAN_END, "thread_span_location", "name"),
    # of names that are made at run time, and ends that say more; what they say has no column
    "BeginThreadDynNamedSpanEvent": (SPAN_BEGIN, "thread_span_location", "name"),
    "EndThreadDynNamedSpanEvent": (SPAN_END, "thread_span_location", "name"),
    "TaggedEndThreadSpanEvent": (SPAN_END, "thread_span_desc", None),
    "TaggedEndThreadNamedSpanEvent": (SPAN_END, "thread_span_location", "name"),
}


class Scope(NamedTuple):
    """A place in the program that spans come from."""

    name: str
    file: str
    target: str
    line: int
    hash: int


@dataclass(slots=True)
class SpanEvents:
    """Sync events in object order. ``index`` counts every object of the block, so ids are ``object_offset + index``."""

    kind: UInt8Array  # 0 begin, 1 end
    ticks: Int64Array  # absolute
    index: Int64Array
    scope: Int32Array  # into scopes
    scopes: list[Scope]
    objects: int


def scope_hash(name: str, file: str, target: str, line: int) -> int:
    """xxHash32 chained through its seed, as the original identifies a scope. Two scopes may have one hash."""
    seed = xxhash.xxh32_intdigest(name.encode(), 0)
    seed = xxhash.xxh32_intdigest(file.encode(), seed)
    seed = xxhash.xxh32_intdigest(target.encode(), seed)
    return int(xxhash.xxh32_intdigest(line.to_bytes(4, "little"), seed))


def read_spans(layout: StreamLayout, dependencies: bytes, objects: bytes) -> SpanEvents:
    """Decode one block from its decompressed buffers.

    Raises:
        CorruptPayloadError: The buffers do not follow the type tables.
    """
    known = read_dependencies(layout.dependencies.derived(scope_dependencies), dependencies)
    found = scan_records(layout.objects.derived(_plan), objects, "object")
    return read_scoped(known, found)


def read_scoped(known: Dependencies, found: Records) -> SpanEvents:
    """The events that the plan of the records names, with their scopes. Async spans are read by it as well.

    Raises:
        CorruptPayloadError: An address leads nowhere, or to something else than it should.
    """
    known.check_other_references(found)
    count = len(found)
    kind, ticks = np.empty(count, np.uint8), np.empty(count, np.int64)
    index, scope = np.empty(count, np.int64), np.empty(count, np.int32)
    # a small table of scopes stays in the processor's cache; only a block that overflows it is read with the large one
    for scopes_max in (_SCOPES_USUAL_MAX, SCOPES_MAX):
        pairs = np.empty(scopes_max, np.int64)
        outcome = new_outcome()
        rows = kernels.read_spans(
            *(found.buffer, found.kinds, found.starts, found.plan.rows, *known.index),
            np.full(len(known), -1, np.int32),
            np.zeros(2 * scopes_max, np.int64),
            np.empty(2 * scopes_max, np.int32),
            *(pairs, kind, ticks, index, scope, outcome),
        )
        if int(outcome[0]) != Fault.TOO_MANY_SCOPES:
            break
        outcome[2] = scopes_max
    known.raise_fault(outcome)
    scopes = _scopes(known, pairs[: int(outcome[3])])
    return SpanEvents(kind[:rows], ticks[:rows], index[:rows], scope[:rows], scopes, count)


def scope_dependencies(table: TypeTable) -> DependencyPlan:
    """What scopes are made of."""
    return DependencyPlan(table, _WANTED)


def _plan(table: TypeTable) -> Plan:
    return Plan(table, SPAN_PLAN_COLUMNS, _plan_of)


def _plan_of(table: TypeTable, index: int) -> TypePlan:
    """Plan row: action, time, description, name."""
    action = _ACTIONS.get(table.types[index].name)
    if action is None:
        return other_plan(table, index)
    fixed = fixed_type(table, index)
    if fixed.stands_for is not None:
        return other_plan(table, index)
    return scoped_plan(fixed, *action)


def scoped_plan(fixed: FixedType, what: int, description_member: str, name_member: str | None, *more: int) -> TypePlan:
    """The plan of an event with a time and a scope; ``more`` are columns behind these."""
    time = fixed.need("time", Kind.I64, Kind.U64).offset
    description = fixed.need(description_member, Kind.REFERENCE).offset
    name = -1 if name_member is None else fixed.need(name_member, Kind.REFERENCE).offset
    return fixed_plan(fixed, (what, time, description, name, *more), description, name)


def _scopes(known: Dependencies, pairs: Int64Array) -> list[Scope]:
    """The scope of each pair of a description and a name of its own, if it has one."""
    count = len(pairs)
    places, lines = np.empty((3, count), np.int32), np.empty(count, np.int64)
    outcome = new_outcome()
    kernels.read_scopes(pairs, known.ids, known.sources, known.numbers, known.members, places, lines, outcome)
    known.raise_fault(outcome, "scope")
    members = zip(*map(known.strings, places), lines.tolist(), strict=True)
    return [
        Scope(name, file, target, line, scope_hash(name, file, target, line)) for name, file, target, line in members
    ]


__all__ = [
    "Scope",
    "SpanEvents",
    "read_scoped",
    "read_spans",
    "scope_dependencies",
    "scope_hash",
    "scoped_plan",
]
