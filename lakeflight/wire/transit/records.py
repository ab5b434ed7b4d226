"""The records of a buffer: found by one scan, and what kernels must know of their types before they read them.

Both buffers of a block are such records. What they mean is not known here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, NoReturn

import numpy as np

from lakeflight.wire.errors import CorruptPayloadError
from lakeflight.wire.transit import kernels
from lakeflight.wire.transit.columns import Int32Array, Int64Array, UInt8Array, UInt32Array
from lakeflight.wire.transit.kernels import MARK_NEW, MARK_REFERENCES, Fault
from lakeflight.wire.transit.layout import RECORD_TYPES_MAX, FixedType, TypeTable

RECORDS_MAX: Final = 32 << 20  # of one buffer; twice what 256 MiB of the smallest real events hold
PLANNED_BYTES_MAX: Final = (1 << 31) - 1  # a larger record fits into no buffer, nor its offsets into a plan


class TypePlan(NamedTuple):
    """What a kernel does with records of one type: a row of numbers, and the addresses that the row does not name."""

    row: tuple[int, ...]
    references: tuple[int, ...] = ()
    mark: int = 0


class Plan:
    """What a kernel does with the records of one table, by type index.

    A type is planned when it first occurs and not before, because one that never occurs may be as unsound as it likes.
    """

    __slots__ = ("_plan_of", "_references", "first", "marks", "offsets", "rows", "table")

    def __init__(self, table: TypeTable, columns: int, plan_of: Callable[[TypeTable, int], TypePlan]) -> None:
        self.table: Final = table
        self.rows: Final[Int32Array] = np.zeros((RECORD_TYPES_MAX, columns), np.int32)
        self.marks: Final[UInt8Array] = np.full(RECORD_TYPES_MAX, MARK_NEW, np.uint8)
        self.first: Int32Array = np.zeros(RECORD_TYPES_MAX + 1, np.int32)  # of type t: offsets[first[t]:first[t + 1]]
        self.offsets: Int32Array = np.zeros(0, np.int32)
        self._plan_of = plan_of
        self._references: dict[int, tuple[int, ...]] = {}

    def complete(self, kinds: UInt8Array) -> int:
        """Plan every type that occurs; returns the marks of all of them together.

        Raises:
            CorruptPayloadError: One cannot be read.
        """
        occurring: list[int] = np.unique(kinds).tolist()
        # all of them before any counts as planned: after an error, the next block must find none half done
        made = {index: self._plan_of(self.table, index) for index in occurring if self.marks[index] & MARK_NEW}
        self._references.update((index, plan.references) for index, plan in made.items())
        ordered = [self._references.get(index, ()) for index in range(RECORD_TYPES_MAX)]
        self.offsets = np.array([offset for references in ordered for offset in references], np.int32)
        self.first = np.cumsum([0, *map(len, ordered)]).astype(np.int32)
        for index, plan in made.items():
            self.rows[index, : len(plan.row)] = plan.row
            self.marks[index] = plan.mark | (MARK_REFERENCES if plan.references else 0)
        return int(np.bitwise_or.reduce(self.marks[occurring]))


@dataclass(slots=True)
class Records:
    """Type index and start of the body of each record."""

    plan: Plan
    buffer: UInt8Array
    kinds: UInt8Array
    starts: UInt32Array
    marks: int  # of all types that occur

    def __len__(self) -> int:
        return len(self.kinds)


def scan_records(plan: Plan, data: bytes, noun: str) -> Records:
    """Find all records of a buffer; ``noun`` is what errors call one.

    Raises:
        CorruptPayloadError: A record does not fit, or a record's type cannot be read.
    """
    table = plan.table
    buffer = np.frombuffer(data, np.uint8)
    records_max = min(len(data) // table.record_bytes_min + 1, RECORDS_MAX)
    starts, kinds = np.empty(records_max, np.uint32), np.empty(records_max, np.uint8)
    outcome = new_outcome()
    count = kernels.scan(buffer, records_max, table.sizes, plan.marks, starts, kinds, outcome)
    raise_fault(outcome, noun)
    kinds = kinds[:count]
    marks = int(outcome[3])
    if marks & MARK_NEW:
        marks = plan.complete(kinds)
    return Records(plan, buffer, kinds, starts[:count], marks)


def fixed_type(table: TypeTable, index: int) -> FixedType:
    """The compiled type of an event whose members are read by name; one that says its own length has none."""
    udt = table.types[index]
    if udt.size == 0:
        raise CorruptPayloadError(f"event {udt.name!r} has no members")
    return table.record_type(index)


def need_dynamic(table: TypeTable, index: int) -> None:
    """Events that hold text say their own length, and their name says how they are laid out."""
    udt = table.types[index]
    if udt.size:
        raise CorruptPayloadError(f"event {udt.name!r} has a fixed size of {udt.size} bytes and cannot hold its text")


def fixed_plan(fixed: FixedType, row: tuple[int, ...], *read: int) -> TypePlan:
    """The plan of a type of fixed size; ``read`` are the offsets of the addresses that the kernel reads by the row."""
    return TypePlan(row, tuple(offset for offset in fixed.references if offset not in read))


def other_plan(table: TypeTable, index: int) -> TypePlan:
    """A type that nobody reads: if its size is fixed, its addresses must be known nevertheless."""
    return fixed_plan(table.record_type(index), ()) if table.types[index].size else TypePlan(())


def new_outcome() -> Int64Array:
    return np.zeros(4, np.int64)


def raise_fault(outcome: Int64Array, noun: str = "object") -> None:
    """Turn what a kernel found into an error; returns if it found nothing."""
    if outcome[0]:
        _raise_fault(Fault(int(outcome[0])), int(outcome[1]), int(outcome[2]), noun)


def _raise_fault(fault: Fault, where: int, value: int, noun: str) -> NoReturn:
    match fault:
        case Fault.UNKNOWN_TYPE:
            text = f"{noun} at byte {where} has the unknown type {value}"
        case Fault.NO_SIZE:
            text = f"{noun} at byte {where} has no room for its size"
        case Fault.BEYOND_BUFFER:
            text = f"{noun} at byte {where} of {value} bytes lies beyond the buffer"
        case Fault.TOO_MANY:
            text = f"more than {RECORDS_MAX} records, the next {noun} at byte {where}"
        case Fault.UNKNOWN_DEPENDENCY:
            text = f"{noun} {where} refers to the unknown dependency {address_text(value)}"
        case Fault.SHORT_RECORD:
            text = f"{noun} {where} of {value} bytes is too short for its members"
        case Fault.BAD_CODEC:
            text = f"string of {noun} {where} has the unknown codec {value}"
        case Fault.STRING_BEYOND_RECORD:
            text = f"string of {noun} {where} has a length of {value} bytes, more than are left"
        case Fault.ODD_WIDE_STRING:
            text = f"wide string of {noun} {where} has an odd length of {value} bytes"
        case Fault.NOT_UTF8:
            text = f"string of {noun} {where} of {value} bytes is not UTF-8"
        case Fault.TOO_MANY_SCOPES:
            text = f"more than {value} distinct scopes, the next in {noun} {where}"
        case Fault.TWICE:
            text = f"{noun} {where} has the address {address_text(value)}, which occurs twice"
        case Fault.REPEATED_ENTRY:
            text = f"{noun} {where} of a reference type repeats an entry"
        case Fault.PROPERTIES_BEYOND_BUFFER:
            text = f"property set of {noun} {where} has {value} entries, more than are left"
        case Fault.OVERLAP:
            text = f"dependencies overlap each other, {noun} {where} too often"
        case Fault.TOO_MANY_DEPENDENCIES:
            text = f"block has more than {value} dependencies, the next is {noun} {where}"
        case Fault.NOT_A_STRING:
            text = f"{noun} {where} refers to {address_text(value)}, which is not a string"
        case Fault.NOT_A_PROPERTY_SET:
            text = f"{noun} {where} refers to {address_text(value)}, which is not a property set"
        case Fault.NOT_DESCRIBED:
            text = f"{noun} {where} refers to {address_text(value)}, which does not describe it"
        case Fault.LONG_PROPERTIES:
            text = f"properties of the block have more than {value} bytes with those of {noun} {where}"
        case Fault.DATA_BEYOND_RECORD:
            text = f"data of {noun} {where} has a length of {value} bytes, more than are left"
        case _:
            text = f"fault {fault} at {where}"
    raise CorruptPayloadError(text)


def address_text(address: int) -> str:
    return f"{address & (1 << 64) - 1:#x}"


__all__ = [
    "Plan",
    "Records",
    "TypePlan",
    "address_text",
    "fixed_plan",
    "fixed_type",
    "need_dynamic",
    "new_outcome",
    "other_plan",
    "raise_fault",
    "scan_records",
]
