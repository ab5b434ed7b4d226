"""Log entries of a block: one row for each message, from every generation of log events.

Where a row's parts come from differs: static messages have everything in their description, events of other log
libraries carry their own target and level, tagged ones have properties that may override both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lakeflight.wire.errors import CorruptPayloadError
from lakeflight.wire.transit import kernels
from lakeflight.wire.transit.columns import Codes, Int32Array, Int64Array
from lakeflight.wire.transit.dependencies import DependencyPlan, Wanted, read_dependencies
from lakeflight.wire.transit.kernels import (
    LOG_PLAN_COLUMNS,
    LOG_ROW,
    TEXT_INLINE,
    TEXT_REFERENCE,
    TEXT_STRICT,
    TEXT_SUBJECT,
)
from lakeflight.wire.transit.layout import Kind, StreamLayout, TypeTable
from lakeflight.wire.transit.records import (
    Plan,
    TypePlan,
    fixed_plan,
    fixed_type,
    need_dynamic,
    new_outcome,
    other_plan,
    scan_records,
)
from lakeflight.wire.transit.strings import read_texts

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
_WANTED: Final = Wanted(("target", "fmt_str"), "level", properties=("target", "level"), words=tuple(LEVELS))
_TIME_BYTES: Final = 8
_ADDRESS_BYTES: Final = 8


@dataclass(slots=True)
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
    known = read_dependencies(layout.dependencies.derived(_dependency_plan), dependencies)
    found = scan_records(layout.objects.derived(_plan), objects, "object")
    known.check_other_references(found)
    count = len(found)
    ticks, level = np.empty(count, np.int64), np.empty(count, np.int32)
    target, properties = np.empty(count, np.int32), np.empty(count, np.int32)
    starts, lengths, sources = np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count, np.uint8)
    outcome = new_outcome()
    rows = kernels.read_logs(
        *(found.buffer, found.kinds, found.starts, found.plan.rows, *known.index),
        *(known.sources, known.numbers, known.members, known.overrides, known.words),
        *(ticks, level, target, properties, starts, lengths, sources, outcome),
    )
    known.raise_fault(outcome)
    if rows < count:
        ticks, level, target, properties = ticks[:rows], level[:rows], target[:rows], properties[:rows]
        starts, lengths, sources = starts[:rows], lengths[:rows], sources[:rows]
    messages = read_texts(
        *(found.buffer, starts, lengths, sources),
        noun="message",
        references=known.texts,
        bytes_max=MESSAGE_BYTES_MAX,
    )
    return LogEvents(
        ticks=ticks,
        level=level,
        target=known.text_column(target),
        msg=messages.to_arrow(),
        properties=known.json_column(properties),
        skipped=count - rows,
    )


def _dependency_plan(table: TypeTable) -> DependencyPlan:
    return DependencyPlan(table, _WANTED)


def _plan(table: TypeTable) -> Plan:
    return Plan(table, LOG_PLAN_COLUMNS, _plan_of)


def _plan_of(table: TypeTable, index: int) -> TypePlan:
    """Plan row: action, dynamic, time, subject, level, level bytes, properties, text, text source."""
    name = table.types[index].name
    if name in _DESCRIBED_DYNAMIC:
        need_dynamic(table, index)
        time, tags, text, source = _DESCRIBED_DYNAMIC[name]
        return TypePlan((LOG_ROW, 1, time, 0, -1, 0, tags, text, source))
    if name in _INTEROP_DYNAMIC:
        need_dynamic(table, index)
        return TypePlan(_interop(table, *_INTEROP_DYNAMIC[name]))
    if name not in ("LogStaticStrEvent", "LogStaticStrInteropEvent"):
        return other_plan(table, index)
    fixed = fixed_type(table, index)
    if fixed.stands_for is not None:
        return other_plan(table, index)
    time = fixed.need("time", Kind.I64, Kind.U64).offset
    if name == "LogStaticStrEvent":
        subject = fixed.need("desc", Kind.REFERENCE).offset
        return fixed_plan(fixed, (LOG_ROW, 0, time, subject, -1, 0, -1, 0, TEXT_SUBJECT), subject)
    subject, text = fixed.need("target", Kind.REFERENCE).offset, fixed.need("msg", Kind.REFERENCE).offset
    level = fixed.need("level", Kind.U32, Kind.U8)
    row = (LOG_ROW, 0, time, subject, level.offset, level.kind.width, -1, text, TEXT_REFERENCE)
    return fixed_plan(fixed, row, subject, text)


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


__all__ = ["LEVELS", "LogEvents", "read_logs"]
