"""Log entries of a block: one row for each message, from every generation of log events.

Where a row's parts come from differs: static messages have everything in their description, events of other log
libraries carry their own target and level, tagged ones have properties that may override both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from wire.errors import CorruptPayloadError
from wire.transit import kernels
from wire.transit.columns import Codes, Int32Array, Int64Array, Interner, UInt8Array
from wire.transit.dependencies import Dependencies, read_dependencies
from wire.transit.kernels import (
    LOG_PLAN_COLUMNS,
    LOG_ROW,
    TEXT_INLINE,
    TEXT_REFERENCE,
    TEXT_STRICT,
    TEXT_SUBJECT,
)
from wire.transit.layout import RECORD_TYPES_MAX, Kind, StreamLayout, TypeTable
from wire.transit.objects import Objects, fixed_type, new_outcome, raise_fault, scan_objects
from wire.transit.tags import OrdinalColumn, PropertyColumn

MESSAGE_BYTES_MAX: Final = 512 << 20  # of one block as UTF-8; a message that many events share is written for each

LEVELS: Final = {"fatal": 1, "error": 2, "warning": 3, "info": 4, "debug": 5, "trace": 6}

_DESCRIBED_DYNAMIC: Final = {  # offsets: time, properties, text
    "LogStringEvent": (8, -1, 16, TEXT_STRICT),
    "LogStringEventV2": (8, -1, 16, TEXT_INLINE),
    "TaggedLogString": (16, 8, 24, TEXT_INLINE),
}
_INTEROP_DYNAMIC: Final = {  # bytes of the level, type of the target, has properties, text
    "LogStringInteropEventV2": (4, "StringId", False, TEXT_STRICT),
    "LogStringInteropEventV3": (1, "StaticStringRef", False, TEXT_INLINE),
    "TaggedLogInteropEvent": (1, "StaticStringRef", True, TEXT_INLINE),
}
_NONE: Final = np.int32(-1)
_TIME_BYTES: Final = 8
_ADDRESS_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class LogEvents:
    """Messages in object order."""

    ticks: Int64Array  # absolute
    level: Int32Array
    target: Codes
    msg: Any  # pyarrow array of strings
    properties: Codes  # canonical JSON
    skipped: int  # objects without a row


def read_logs(layout: StreamLayout, dependencies: bytes, objects: bytes) -> LogEvents:
    """Decode one block from its decompressed buffers.

    Raises:
        CorruptPayloadError: The buffers do not follow the type tables.
    """
    known = read_dependencies(layout.dependencies, dependencies)
    found = scan_objects(layout.objects, objects)
    plan, used = _plan(found)
    found.check_other_references(used, known)
    count = len(found)
    ticks, level = np.empty(count, np.int64), np.empty(count, np.int64)
    subject, tags, described = np.empty(count, np.int32), np.empty(count, np.int32), np.empty(count, np.uint8)
    text_start, text_length = np.empty(count, np.int64), np.empty(count, np.int64)
    text_source = np.empty(count, np.uint8)
    outcome = new_outcome()
    rows = kernels.read_logs(
        found.buffer,
        found.kinds,
        found.starts,
        plan,
        known.multiplier,
        known.slot_ids,
        known.slot_ordinals,
        ticks,
        level,
        subject,
        tags,
        described,
        text_start,
        text_length,
        text_source,
        outcome,
    )
    raise_fault(outcome)
    is_described = described[:rows].astype(np.bool_)
    descriptions = OrdinalColumn(known, np.where(is_described, subject[:rows], _NONE))
    own_targets = OrdinalColumn(known, np.where(is_described, _NONE, subject[:rows]))
    properties = PropertyColumn(known, tags[:rows])
    # properties override what a description says, and not what an event says itself
    overriding = PropertyColumn(known, np.where(is_described, tags[:rows], _NONE))
    target = _targets(known, descriptions, own_targets, is_described)
    levels = np.where(
        is_described,
        descriptions.numbers(lambda ordinal: _as_int32(known.record(ordinal).u32("level"))),
        level[:rows].astype(np.uint32).view(np.int32),
    )
    return LogEvents(
        ticks=ticks[:rows],
        level=overriding.override_numbers("level", LEVELS, levels),
        target=overriding.override("target", target),
        msg=_messages(known, found.buffer, text_start[:rows], text_length[:rows], text_source[:rows]),
        properties=properties.json(),
        skipped=count - rows,
    )


def _as_int32(value: int) -> int:
    """Levels are unsigned on the wire and signed in rows, with the same bits."""
    return value - (value >> 31 << 32)


def _plan(objects: Objects) -> tuple[Int32Array, dict[int, set[int]]]:
    """Plan row: action, dynamic, time, subject, level, level bytes, properties, text, text source."""
    plan = np.zeros((RECORD_TYPES_MAX, LOG_PLAN_COLUMNS), np.int32)
    used: dict[int, set[int]] = {}
    table = objects.table
    for type_index in objects.present:
        name = table.types[type_index].name
        if name in ("LogStaticStrEvent", "LogStaticStrInteropEvent"):
            fixed = fixed_type(objects, type_index)
            if fixed.stands_for is not None:
                continue
            time = fixed.need("time", Kind.I64, Kind.U64).offset
            if name == "LogStaticStrEvent":
                subject = fixed.need("desc", Kind.REFERENCE).offset
                plan[type_index] = LOG_ROW, 0, time, subject, -1, 0, -1, 0, TEXT_SUBJECT
                used[type_index] = {subject}
            else:
                subject = fixed.need("target", Kind.REFERENCE).offset
                text = fixed.need("msg", Kind.REFERENCE).offset
                level = fixed.need("level", Kind.U32, Kind.U8)
                plan[type_index] = (
                    *(LOG_ROW, 0, time, subject, level.offset, level.kind.width),
                    *(-1, text, TEXT_REFERENCE),
                )
                used[type_index] = {subject, text}
        elif name in _DESCRIBED_DYNAMIC:
            _need_dynamic(table, type_index)
            time, tags, text, source = _DESCRIBED_DYNAMIC[name]
            plan[type_index] = LOG_ROW, 1, time, 0, -1, 0, tags, text, source
        elif name in _INTEROP_DYNAMIC:
            _need_dynamic(table, type_index)
            plan[type_index] = _interop(table, *_INTEROP_DYNAMIC[name])
    return plan, used


def _need_dynamic(table: TypeTable, type_index: int) -> None:
    udt = table.types[type_index]
    if udt.size:
        raise CorruptPayloadError(f"event {udt.name!r} has a fixed size of {udt.size} bytes and cannot hold its text")


def _interop(table: TypeTable, level_bytes: int, target: str, tagged: bool, source: int) -> tuple[int, ...]:
    """Time, level, target, perhaps properties, text: one behind the other."""
    reference = table.named(target)
    if reference.stands_for is None or reference.stands_for.kind is not Kind.REFERENCE:
        raise CorruptPayloadError(f"type {target!r} is no reference to a string")
    if reference.size > 1 << 16:  # such an event could not fit into a plan, nor is there one
        raise CorruptPayloadError(f"type {target!r} has {reference.size} bytes")
    target_start = _TIME_BYTES + level_bytes
    tags = target_start + reference.size
    text = tags + (_ADDRESS_BYTES if tagged else 0)
    return (
        *(LOG_ROW, 1, 0, target_start + reference.stands_for.offset, _TIME_BYTES, level_bytes),
        *(tags if tagged else -1, text, source),
    )


def _targets(dependencies: Dependencies, descriptions: OrdinalColumn, own: OrdinalColumn, is_described: Any) -> Codes:
    """The description's target, or the event's own."""
    interner = Interner()
    described = descriptions.numbers(lambda ordinal: interner.number(dependencies.record(ordinal).text("target")))
    carried = own.numbers(lambda ordinal: interner.number(dependencies.text(ordinal)))
    return Codes(np.where(is_described, described, carried), interner.values)


def _messages(
    dependencies: Dependencies, buffer: UInt8Array, starts: Int64Array, lengths: Int64Array, sources: UInt8Array
) -> Any:
    """One Arrow string array, without a Python string for any row that carries its own text."""
    rows = len(starts)
    size = len(dependencies.values)
    reference_starts, reference_lengths = np.zeros(size, np.int64), np.zeros(size, np.int64)
    parts: list[bytes] = []
    position = 0

    def add(slot: int, text: str) -> None:
        nonlocal position
        encoded = text.encode()
        parts.append(encoded)
        reference_starts[slot], reference_lengths[slot] = position, len(encoded)
        position += len(encoded)

    # a description is no string, so both kinds of ordinals share one table
    is_subject, is_reference = sources == TEXT_SUBJECT, sources == TEXT_REFERENCE
    for ordinal in OrdinalColumn(dependencies, np.where(is_subject, starts, _NONE).astype(np.int32)).used:
        add(ordinal, dependencies.record(ordinal).text("fmt_str"))
    for ordinal in OrdinalColumn(dependencies, np.where(is_reference, starts, _NONE).astype(np.int32)).used:
        add(ordinal, dependencies.text(ordinal))
    sources[is_subject] = TEXT_REFERENCE

    out_lengths = np.empty(rows, np.int64)
    outcome = new_outcome()
    total = kernels.measure_text(buffer, starts, lengths, sources, reference_lengths, out_lengths, outcome)
    raise_fault(outcome)
    if total > MESSAGE_BYTES_MAX:
        raise CorruptPayloadError(f"messages of the block have {total} bytes, more than {MESSAGE_BYTES_MAX}")
    offsets = np.empty(rows + 1, np.int32)
    text = np.empty(total, np.uint8)
    references = np.frombuffer(b"".join(parts), np.uint8)
    kernels.write_text(buffer, starts, lengths, sources, out_lengths, references, reference_starts, offsets, text)
    return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(text))


__all__ = ["LEVELS", "LogEvents", "read_logs"]
