"""The objects of a block, found and typed, before anybody asks what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NoReturn

import numpy as np

from wire.errors import CorruptPayloadError
from wire.transit import kernels
from wire.transit.columns import Int64Array, UInt8Array, UInt32Array
from wire.transit.dependencies import Dependencies
from wire.transit.kernels import Fault
from wire.transit.layout import RECORD_TYPES_MAX, FixedType, TypeTable

OBJECTS_MAX: Final = 32 << 20  # of one block; twice what 256 MiB of the smallest real events hold
_SMALLEST_DYNAMIC_BYTES: Final = 5  # type index and size


@dataclass(frozen=True, slots=True)
class Objects:
    """The records of an objects buffer: type index and start of the body of each, and which types occur."""

    table: TypeTable
    buffer: UInt8Array
    kinds: UInt8Array
    starts: UInt32Array
    present: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.kinds)

    def check_other_references(self, used: dict[int, set[int]], dependencies: Dependencies) -> None:
        """Look up the addresses in fixed-size records that the caller does not (``used``: its offsets by type).

        An address that no dependency has makes the block corrupt, also in a member that nobody reads.
        """
        first = np.zeros(RECORD_TYPES_MAX + 1, np.int32)
        offsets: list[int] = []
        for index in range(RECORD_TYPES_MAX):
            if index in self.present and self.table.sizes[index] > 0:
                known = used.get(index, set())
                offsets += [offset for offset in self.table.record_type(index).references if offset not in known]
            first[index + 1] = len(offsets)
        if not offsets:
            return
        outcome = new_outcome()
        kernels.check_references(
            self.buffer,
            self.kinds,
            self.starts,
            first,
            np.array(offsets, np.int32),
            dependencies.multiplier,
            dependencies.slot_ids,
            dependencies.slot_ordinals,
            outcome,
        )
        raise_fault(outcome)


def scan_objects(table: TypeTable, data: bytes) -> Objects:
    """Find all records of an objects buffer.

    Raises:
        CorruptPayloadError: A record does not fit, or a record's type cannot be read.
    """
    buffer = np.frombuffer(data, np.uint8)
    smallest = min((int(size) + 1 if size else _SMALLEST_DYNAMIC_BYTES for size in table.sizes if size >= 0), default=2)
    objects_max = min(len(data) // smallest + 1, OBJECTS_MAX)
    starts = np.empty(objects_max, np.uint32)
    kinds = np.empty(objects_max, np.uint8)
    present = np.zeros(RECORD_TYPES_MAX, np.uint8)
    outcome = new_outcome()
    count = kernels.scan(buffer, objects_max, table.sizes, starts, kinds, present, outcome)
    raise_fault(outcome)
    found = tuple(int(index) for index in np.flatnonzero(present))
    for index in found:
        if table.sizes[index] > 0:
            table.record_type(index)  # raises if a type that occurs cannot be read
    return Objects(table, buffer, kinds[:count], starts[:count], found)


def fixed_type(objects: Objects, index: int) -> FixedType:
    """The compiled type of an event whose members are read by name; one that says its own length has none."""
    udt = objects.table.types[index]
    if udt.size == 0:
        raise CorruptPayloadError(f"event {udt.name!r} has no members")
    return objects.table.record_type(index)


def new_outcome() -> Int64Array:
    return np.zeros(4, np.int64)


def raise_fault(outcome: Int64Array) -> None:
    """Turn what a kernel found into an error; returns if it found nothing."""
    if outcome[0]:
        _raise_fault(Fault(int(outcome[0])), int(outcome[1]), int(outcome[2]))


def _raise_fault(fault: Fault, where: int, value: int) -> NoReturn:
    match fault:
        case Fault.UNKNOWN_TYPE:
            text = f"object at byte {where} has the unknown type {value}"
        case Fault.NO_SIZE:
            text = f"object at byte {where} has no room for its size"
        case Fault.BEYOND_BUFFER:
            text = f"object at byte {where} of {value} bytes lies beyond the buffer"
        case Fault.TOO_MANY:
            text = f"more than {OBJECTS_MAX} objects, the next at byte {where}"
        case Fault.UNKNOWN_DEPENDENCY:
            text = f"object {where} refers to the unknown dependency {value & (1 << 64) - 1:#x}"
        case Fault.SHORT_OBJECT:
            text = f"object {where} of {value} bytes is too short for its members"
        case Fault.BAD_CODEC:
            text = f"string of object {where} has the unknown codec {value}"
        case Fault.STRING_BEYOND_OBJECT:
            text = f"string of object {where} of {value} bytes lies beyond the object"
        case Fault.ODD_WIDE_STRING:
            text = f"wide string of row {where} has an odd length of {value} bytes"
        case Fault.NOT_UTF8:
            text = f"string of row {where} of {value} bytes is not UTF-8"
        case Fault.TOO_MANY_SCOPES:
            text = f"too many distinct scopes, the next in object {where}"
        case _:
            text = f"fault {fault} at {where}"
    raise CorruptPayloadError(text)


__all__ = ["Objects", "fixed_type", "new_outcome", "raise_fault", "scan_objects"]
