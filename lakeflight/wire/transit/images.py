"""Images of an ``image`` block: a name, a format, and the bytes as the program made them. Nothing looks into these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from lakeflight.wire.transit import event_kernels
from lakeflight.wire.transit.columns import Codes, Int64Array
from lakeflight.wire.transit.dependencies import DependencyPlan, Wanted, read_dependencies
from lakeflight.wire.transit.event_kernels import IMAGE_PLAN_COLUMNS, IMAGE_ROW
from lakeflight.wire.transit.layout import StreamLayout, TypeTable
from lakeflight.wire.transit.records import (
    Plan,
    TypePlan,
    need_dynamic,
    new_outcome,
    other_plan,
    raise_fault,
    scan_records,
)
from lakeflight.wire.transit.strings import read_texts

_IMAGE: Final = "ImageEvent"
_WANTED: Final = Wanted(())


@dataclass(slots=True)
class ImageEvents:
    """Images in object order."""

    ticks: Int64Array  # absolute
    name: Any  # pyarrow array of strings
    format: Codes
    data: Any  # pyarrow array of bytes
    size: Int64Array  # bytes of data


def read_images(layout: StreamLayout, dependencies: bytes, objects: bytes) -> ImageEvents:
    """Decode one block from its decompressed buffers.

    Raises:
        CorruptPayloadError: The buffers do not follow the type tables.
    """
    known = read_dependencies(layout.dependencies.derived(_dependency_plan), dependencies)
    found = scan_records(layout.objects.derived(_plan), objects, "object")
    known.check_other_references(found)
    count = len(found)
    ticks = np.empty(count, np.int64)
    starts, lengths, sources = (
        np.empty((3, count), np.int64),
        np.empty((3, count), np.int64),
        np.empty((2, count), np.uint8),
    )
    outcome = new_outcome()
    rows = event_kernels.read_images(
        *(found.buffer, found.kinds, found.starts, found.plan.rows, ticks, starts, lengths, sources, outcome)
    )
    raise_fault(outcome)
    name, format_ = (
        read_texts(found.buffer, starts[which, :rows], lengths[which, :rows], sources[which, :rows], noun="image")
        for which in range(2)
    )
    size = lengths[2, :rows]
    offsets, data = np.empty(rows + 1, np.int32), np.empty(int(size.sum()), np.uint8)
    event_kernels.gather_bytes(found.buffer, starts[2, :rows], size, offsets, data)
    formats = format_.to_arrow().dictionary_encode()
    return ImageEvents(
        ticks=ticks[:rows],
        name=name.to_arrow(),
        format=Codes(formats.indices.to_numpy(), formats.dictionary.to_pylist()),
        data=pa.BinaryArray.from_buffers(pa.binary(), rows, [None, pa.py_buffer(offsets), pa.py_buffer(data)]),
        size=size,
    )


def _dependency_plan(table: TypeTable) -> DependencyPlan:
    return DependencyPlan(table, _WANTED)


def _plan(table: TypeTable) -> Plan:
    return Plan(table, IMAGE_PLAN_COLUMNS, _plan_of)


def _plan_of(table: TypeTable, index: int) -> TypePlan:
    if table.types[index].name != _IMAGE:
        return other_plan(table, index)
    need_dynamic(table, index)
    return TypePlan((IMAGE_ROW,))


__all__ = ["ImageEvents", "read_images"]
