"""Thread spans of a ``cpu`` block: begin and end events in order, each with the scope it opens or closes.

Async spans share the stream; they are skipped here, and count as objects. Pairing begins with ends is the reader's
business, because it crosses blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import xxhash

from wire.transit import kernels
from wire.transit.columns import Int32Array, Int64Array, UInt8Array
from wire.transit.dependencies import Dependencies, read_dependencies
from wire.transit.kernels import SPAN_BEGIN, SPAN_END, SPAN_PLAN_COLUMNS, Fault
from wire.transit.layout import RECORD_TYPES_MAX, Kind, StreamLayout
from wire.transit.objects import Objects, fixed_type, new_outcome, raise_fault, scan_objects

SCOPES_MAX: Final = 1 << 20  # distinct in one block, a power of two; names of spans may be made at run time
_SCOPES_USUAL_MAX: Final = 1 << 11
_NO_NAME: Final = 0xFFFFFFFF

_ACTIONS: Final = {
    "BeginThreadSpanEvent": (SPAN_BEGIN, "thread_span_desc", None),
    "EndThreadSpanEvent": (SPAN_END, "thread_span_desc", None),
    "BeginThreadNamedSpanEvent": (SPAN_BEGIN, "thread_span_location", "name"),
    "EndThreadNamedSpanEvent": (SPAN_END, "thread_span_location", "name"),
}


@dataclass(frozen=True, slots=True)
class Scope:
    """A place in the program that spans come from."""

    name: str
    file: str
    target: str
    line: int
    hash: int


@dataclass(frozen=True, slots=True)
class SpanEvents:
    """Sync events in object order. ``index`` counts every object of the block, so ids are ``object_offset + index``."""

    kind: UInt8Array  # 0 begin, 1 end
    ticks: Int64Array  # absolute
    index: Int64Array
    scope: Int32Array  # into scopes
    scopes: list[Scope]
    objects: int


def scope_hash(name: str, file: str, target: str, line: int) -> int:
    """xxHash32 chained through its seed, as the original identifies a scope. Nobody checks for collisions."""
    seed = xxhash.xxh32_intdigest(name.encode(), 0)
    seed = xxhash.xxh32_intdigest(file.encode(), seed)
    seed = xxhash.xxh32_intdigest(target.encode(), seed)
    return int(xxhash.xxh32_intdigest(line.to_bytes(4, "little"), seed))


def read_spans(layout: StreamLayout, dependencies: bytes, objects: bytes) -> SpanEvents:
    """Decode one block from its decompressed buffers.

    Raises:
        CorruptPayloadError: The buffers do not follow the type tables.
    """
    known = read_dependencies(layout.dependencies, dependencies)
    found = scan_objects(layout.objects, objects)
    plan, used = _plan(found)
    found.check_other_references(used, known)
    count = len(found)
    kind, ticks = np.empty(count, np.uint8), np.empty(count, np.int64)
    index, scope = np.empty(count, np.int64), np.empty(count, np.int32)
    # a small table of scopes stays in the processor's cache; only a block that overflows it is read with the large one
    for scopes_max in (_SCOPES_USUAL_MAX, SCOPES_MAX):
        pairs = np.empty(scopes_max, np.int64)
        outcome = new_outcome()
        rows = kernels.read_spans(
            found.buffer,
            found.kinds,
            found.starts,
            plan,
            known.multiplier,
            known.slot_ids,
            known.slot_ordinals,
            np.full(len(known.values), -1, np.int32),
            np.zeros(2 * scopes_max, np.int64),
            np.empty(2 * scopes_max, np.int32),
            pairs,
            kind,
            ticks,
            index,
            scope,
            outcome,
        )
        if outcome[0] != Fault.TOO_MANY_SCOPES:
            break
    raise_fault(outcome)
    scopes = [_scope(known, pair) for pair in pairs[: int(outcome[3])].tolist()]
    return SpanEvents(kind[:rows], ticks[:rows], index[:rows], scope[:rows], scopes, count)


def _plan(objects: Objects) -> tuple[Int32Array, dict[int, set[int]]]:
    plan = np.zeros((RECORD_TYPES_MAX, SPAN_PLAN_COLUMNS), np.int32)
    plan[:, 3] = -1
    used: dict[int, set[int]] = {}
    for type_index in objects.present:
        action = _ACTIONS.get(objects.table.types[type_index].name)
        if action is None:
            continue
        what, description_member, name_member = action
        fixed = fixed_type(objects, type_index)
        if fixed.stands_for is not None:
            continue
        time = fixed.need("time", Kind.I64, Kind.U64).offset
        description = fixed.need(description_member, Kind.REFERENCE).offset
        name = -1 if name_member is None else fixed.need(name_member, Kind.REFERENCE).offset
        plan[type_index] = what, time, description, name
        used[type_index] = {description, name}
    return plan, used


def _scope(dependencies: Dependencies, pair: int) -> Scope:
    description = dependencies.record(pair >> 32)
    own = pair & _NO_NAME
    name = description.text("name") if own == _NO_NAME else dependencies.text(own)
    file, target, line = description.text("file"), description.text("target"), description.u32("line")
    return Scope(name, file, target, line, scope_hash(name, file, target, line))


__all__ = ["Scope", "SpanEvents", "read_spans", "scope_hash"]
