"""The dependency table of a block: what its events refer to by address.

Few entries (tens to thousands, against up to millions of events), so plain Python reads them. Compiled code maps the
addresses in events to ordinals in this table and hands the ordinals back. An address is opaque, and belongs to one
block.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct
from typing import Final, TypeAlias

import numpy as np

from wire.errors import CorruptPayloadError
from wire.transit import kernels
from wire.transit.columns import Int32Array, Int64Array
from wire.transit.layout import Field, FixedType, Kind, TypeTable
from wire.transit.strings import read_dyn_string, read_strict

DEPENDENCIES_MAX: Final = 2 << 20  # of one block: each costs about 300 bytes of memory
PROPERTY_TEXT_CHARS_MAX: Final = 64 << 20  # of all property sets that the events of one block use, as JSON

# what the inner reads of overlapping entries may sum up to; entries of sound senders never overlap
_READ_FACTOR: Final = 2
_READ_SLACK_BYTES: Final = 4096

_U8: Final = Struct("<B")
_U32: Final = Struct("<I")
_U64: Final = Struct("<Q")
_STRUCTS: Final[Mapping[Kind, Struct]] = {
    Kind.U8: _U8,
    Kind.U32: _U32,
    Kind.U64: _U64,
    Kind.I64: Struct("<q"),
    Kind.F64: Struct("<d"),
    Kind.REFERENCE: _U64,
}

# drawn anew by each process, so that nobody can choose addresses that fall into one slot
_MULTIPLIER: Final = np.int64(secrets.randbits(62) << 1 | 1)


@dataclass(frozen=True, slots=True)
class PropertySet:
    """Names and values in the order they were sent."""

    pairs: tuple[tuple[str, str], ...]

    def find(self, name: str) -> str | None:
        """The value of this name; of a doubled name the last, as in JSON."""
        return dict(self.pairs).get(name)

    def to_json(self) -> str:
        """Canonical JSON text: sorted keys, no spaces; of a doubled name the last value."""
        return json.dumps(dict(self.pairs), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


class Record:
    """A description: the members of one fixed-size entry, references resolved."""

    __slots__ = ("_type", "_values")

    def __init__(self, fixed: FixedType, values: tuple[Value, ...]) -> None:
        self._type = fixed
        self._values = values

    def text(self, name: str) -> str:
        value = self._value(name, Kind.REFERENCE)
        if type(value) is not str:
            raise CorruptPayloadError(f"member {name!r} of {self._type.name!r} refers to something else than a string")
        return value

    def u32(self, name: str) -> int:
        value = self._value(name, Kind.U32, Kind.U8)
        assert type(value) is int
        return value

    def _value(self, name: str, *kinds: Kind) -> Value:
        field = self._type.need(name, *kinds)
        return self._values[self._type.fields.index(field)]


Value: TypeAlias = "str | PropertySet | Record | int | float"


@dataclass(frozen=True, slots=True)
class Dependencies:
    """Entries by ordinal, in the order of the buffer, and an index from address to ordinal for compiled code."""

    ids: Int64Array
    values: list[Value]
    slot_ids: Int64Array
    slot_ordinals: Int32Array
    multiplier: np.int64

    def text(self, ordinal: int) -> str:
        value = self.values[ordinal]
        if type(value) is not str:
            raise self._wrong_kind(ordinal, "a string")
        return value

    def record(self, ordinal: int) -> Record:
        value = self.values[ordinal]
        if not isinstance(value, Record):
            raise self._wrong_kind(ordinal, "a description")
        return value

    def property_set(self, ordinal: int) -> PropertySet:
        value = self.values[ordinal]
        if not isinstance(value, PropertySet):
            raise self._wrong_kind(ordinal, "a property set")
        return value

    def _wrong_kind(self, ordinal: int, wanted: str) -> CorruptPayloadError:
        address = int(self.ids[ordinal]) & (1 << 64) - 1
        return CorruptPayloadError(f"dependency {address:#x} is not {wanted}")


def read_dependencies(table: TypeTable, data: bytes) -> Dependencies:
    """Decode the dependencies buffer of one block.

    Raises:
        CorruptPayloadError: A record, a reference or a string does not fit, or an address occurs twice.
    """
    entries = _Reader(table, data).read()
    ids = np.fromiter(entries.keys(), np.uint64, len(entries)).view(np.int64)
    slots = 8
    while slots < 2 * len(entries):
        slots *= 2
    slot_ids = np.zeros(slots, np.int64)
    slot_ordinals = np.full(slots, -1, np.int32)
    kernels.index_ids(ids, _MULTIPLIER, slot_ids, slot_ordinals)
    return Dependencies(ids, list(entries.values()), slot_ids, slot_ordinals, _MULTIPLIER)


def _twice(address: int) -> CorruptPayloadError:
    return CorruptPayloadError(f"dependency {address:#x} occurs twice")


class _Reader:
    def __init__(self, table: TypeTable, data: bytes) -> None:
        self._table = table
        self._data = data
        self._entries: dict[int, Value] = {}
        self._budget = _READ_FACTOR * len(data) + _READ_SLACK_BYTES
        self._property: tuple[FixedType, int, int] | None = None

    def read(self) -> dict[int, Value]:
        data, end = self._data, len(self._data)
        types = self._table.types
        sizes = [int(size) for size in self._table.sizes]
        dynamic = [udt.size == 0 and udt.name for udt in types]
        entries, address_at = self._entries, _U64.unpack_from
        position = 0
        while position < end:
            index = data[position]
            size = sizes[index]
            if size < 0:
                raise CorruptPayloadError(f"dependency at {position} has the unknown type {index}")
            start = position + 1
            if size == 0:
                if end - start < _U32.size:
                    raise CorruptPayloadError(f"dependency at {position} has no room for its size")
                body_size: int = _U32.unpack_from(data, start)[0]
                start += _U32.size
            else:
                body_size = size
            if body_size > end - start:
                raise CorruptPayloadError(f"dependency at {position} of {body_size} bytes has {end - start} left")
            name = dynamic[index]
            if name == "StaticString" and body_size >= _U64.size:  # most of all entries
                address = address_at(data, start)[0]
                if address in entries:
                    raise _twice(address)
                entries[address] = read_strict(data, start + _U64.size, start + body_size)
            elif name is False:
                self._read_record(self._table.record_type(index), start)
            else:
                self._read_dynamic(name, start, start + body_size)
            position = start + body_size
            if len(entries) > DEPENDENCIES_MAX:
                raise CorruptPayloadError(f"block has more than {DEPENDENCIES_MAX} dependencies")
        return entries

    def _add(self, address: int, value: Value) -> None:
        if address in self._entries:
            raise _twice(address)
        self._entries[address] = value

    def _read_dynamic(self, name: str, start: int, end: int) -> None:
        data = self._data
        if name == "StaticString":
            self._add(self._address(start, end, name), read_strict(data, start + 8, end))
        elif name == "StaticStringDependency":
            # bounded by the buffer and not by the record, as the original reads it
            address = self._address(start, len(data), name)
            text = read_dyn_string(data, start + 8, len(data))
            self._spend(len(text))
            self._add(address, text)
        elif name == "PropertySetDependency":
            self._add(self._address(start, len(data), name), self._read_properties(start + 8))
        else:
            raise CorruptPayloadError(f"dependency at {start} has the type {name!r} of unknown layout")

    def _address(self, start: int, end: int, name: str) -> int:
        if end - start < _U64.size:
            raise CorruptPayloadError(f"{name} at {start} has {end - start} bytes, too few for its address")
        address: int = _U64.unpack_from(self._data, start)[0]
        return address

    def _read_properties(self, start: int) -> PropertySet:
        data = self._data
        left = len(data) - start - _U32.size
        if left < 0:
            raise CorruptPayloadError(f"property set at {start} has no room for its count")
        count: int = _U32.unpack_from(data, start)[0]
        fixed, name_offset, value_offset = self._property_type()
        if count > left // fixed.size:
            raise CorruptPayloadError(f"property set at {start} of {count} entries has {left} bytes left")
        self._spend(count * fixed.size)
        pairs = []
        start += _U32.size
        for base in range(start, start + count * fixed.size, fixed.size):
            for offset in fixed.references:
                if offset not in (name_offset, value_offset):
                    self._resolve(base + offset)
            name = self._resolve(base + name_offset)
            value = self._resolve(base + value_offset)
            if type(name) is not str or type(value) is not str:
                raise CorruptPayloadError(f"property at {base} refers to something else than strings")
            pairs.append((name, value))
        return PropertySet(tuple(pairs))

    def _property_type(self) -> tuple[FixedType, int, int]:
        if self._property is None:
            fixed = self._table.named("Property")
            if fixed.size == 0:
                raise CorruptPayloadError("type 'Property' has no size")
            if fixed.stands_for is not None:
                raise CorruptPayloadError("type 'Property' is a reference")
            name, value = fixed.need("name", Kind.REFERENCE), fixed.need("value", Kind.REFERENCE)
            self._property = fixed, name.offset, value.offset
        return self._property

    def _read_record(self, fixed: FixedType, start: int) -> None:
        record = self._record(fixed, fixed.fields, start)
        if fixed.stands_for is not None:
            # resolves to an entry that is there already: a string adds nothing, anything else would be added twice
            if type(self._value(fixed, fixed.stands_for, start)) is not str:
                raise CorruptPayloadError(f"dependency at {start} of reference type {fixed.name!r} repeats an entry")
            return
        address = fixed.need("id", Kind.U64, Kind.I64)
        self._add(self._address(start + address.offset, len(self._data), fixed.name), record)

    def _record(self, fixed: FixedType, fields: tuple[Field, ...], start: int) -> Record:
        self._spend(len(fields))
        return Record(fixed, tuple(self._value(fixed, field, start) for field in fields))

    def _value(self, fixed: FixedType, field: Field, start: int) -> Value:
        if field.kind is Kind.REFERENCE:
            return self._resolve(start + field.offset)
        if field.kind is Kind.OBJECT:
            inner = FixedType(f"{fixed.name}.{field.name}", 0, field.fields, (), None)
            return self._record(inner, field.fields, start)
        value: int | float = _STRUCTS[field.kind].unpack_from(self._data, start + field.offset)[0]
        return value

    def _resolve(self, position: int) -> Value:
        address = _U64.unpack_from(self._data, position)[0]
        value = self._entries.get(address)
        if value is None:
            raise CorruptPayloadError(f"reference at {position} to the unknown dependency {address:#x}")
        return value

    def _spend(self, amount: int) -> None:
        """Entries that lie in each other could make a small buffer decode to anything."""
        self._budget -= amount
        if self._budget < 0:
            raise CorruptPayloadError("dependencies overlap each other")
