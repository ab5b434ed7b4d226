"""Every object of a block as JSON text, whatever its type: what the program sent, not what a view makes of it.

An object is ``{"__type":…}`` and its members in the order of their names. An address becomes what it refers to, bytes
become ``"<binary N bytes>"``, and a float that JSON has no number for becomes null. An object of dynamic length whose
name nobody knows has no members.

Columns are made whole, by numpy and Arrow: Python sees each type and each member once, and no object.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakeflight.wire.errors import CorruptPayloadError
from lakeflight.wire.transit.columns import Int64Array, UInt8Array
from lakeflight.wire.transit.dependencies import Dependencies, DependencyPlan, Wanted, read_dependencies
from lakeflight.wire.transit.kernels import IS_DESCRIPTION, IS_PROPERTIES, TEXT_STRICT, Fault
from lakeflight.wire.transit.layout import NESTING_MAX, RECORD_TYPES_MAX, Field, Kind, StreamLayout, TypeTable
from lakeflight.wire.transit.records import Plan, address_text, new_outcome, other_plan, raise_fault, scan_records
from lakeflight.wire.transit.strings import read_texts

OBJECTS_TEXT_BYTES_MAX: Final = (
    256 << 20
)  # of one block as JSON; it is in memory three times, and 20 times its LZ4 frame

_NUMBERS: Final = {Kind.U8: "u1", Kind.U32: "<u4", Kind.U64: "<u8", Kind.I64: "<i8", Kind.F64: "<f8"}
_CODEC_MAX: Final = 2
_OBJECT_BYTES_MIN: Final = len('{"__type":""}')

# parts of events of dynamic length that are not of one of the kinds
_INLINE: Final = "inline"  # text that says its codec and length
_REST: Final = "rest"  # text to the end of the record
_BLOB: Final = "blob"  # bytes that say their length
_STRING_ID: Final = "StringId"  # a reference, as long as the table says that the type is
_STATIC_STRING_REF: Final = "StaticStringRef"

_DESCRIBED: Final = (("desc", Kind.REFERENCE), ("time", Kind.I64))
_DYNAMIC: Final[dict[str, tuple[tuple[str, Kind | str], ...]]] = {
    "LogStringEvent": (*_DESCRIBED, ("msg", _REST)),
    "LogStringEventV2": (*_DESCRIBED, ("msg", _INLINE)),
    "TaggedLogString": (
        *(("desc", Kind.REFERENCE), ("properties", Kind.REFERENCE)),
        *(("time", Kind.I64), ("msg", _INLINE)),
    ),
    "LogStringInteropEventV2": (("time", Kind.I64), ("level", Kind.U32), ("target", _STRING_ID), ("msg", _REST)),
    "LogStringInteropEventV3": (
        *(("time", Kind.I64), ("level", Kind.U8)),
        *(("target", _STATIC_STRING_REF), ("msg", _INLINE)),
    ),
    "TaggedLogInteropEvent": (
        *(("time", Kind.I64), ("level", Kind.U8), ("target", _STATIC_STRING_REF)),
        *(("properties", Kind.REFERENCE), ("msg", _INLINE)),
    ),
    "ImageEvent": (("time", Kind.I64), ("name", _INLINE), ("format", _INLINE), ("data", _BLOB)),
}


@dataclass(frozen=True, slots=True)
class BlockObjects:
    """All objects, in their order."""

    type_name: Any  # pyarrow dictionary array of strings
    value: Any  # pyarrow array of strings


def read_objects(layout: StreamLayout, dependencies: bytes, objects: bytes) -> BlockObjects:
    """Decode one block from its decompressed buffers.

    Raises:
        CorruptPayloadError: The buffers do not follow the type tables, or the text would be too long.
    """
    known = read_dependencies(layout.dependencies.derived(_dependency_plan), dependencies)
    found = scan_records(layout.objects.derived(_plan), objects, "object")
    known.check_other_references(found)
    check_text_bytes(len(found) * _OBJECT_BYTES_MIN)
    referred = _Referred(known, np.frombuffer(dependencies, np.uint8))
    reader = _Reader(found.buffer, layout.objects, referred, "object")
    values = _Scattered(len(found))
    for index in np.unique(found.kinds).tolist():
        rows = np.flatnonzero(found.kinds == index)
        values.put(rows, reader.objects(index, found.starts[rows].astype(np.int64), rows))
    names = pa.array([udt.name for udt in layout.objects.types[:RECORD_TYPES_MAX]] or [""], pa.string())
    return BlockObjects(pa.DictionaryArray.from_arrays(pa.array(found.kinds, pa.int32()), names), values.take())


class _Scattered:
    """Texts that are made a few rows at a time, in any order; all together within the limit."""

    def __init__(self, rows: int) -> None:
        self.lengths: Int64Array = np.zeros(rows, np.int64)
        self._parts: list[Any] = [pa.array([""], pa.string())]
        self._places: Int64Array = np.zeros(rows, np.int64)
        self._made, self._bytes = 1, 0

    def put(self, rows: Int64Array, texts: Any) -> None:
        lengths = pc.binary_length(texts).to_numpy().astype(np.int64)
        self._bytes += int(lengths.sum())
        check_text_bytes(self._bytes)
        self.lengths[rows] = lengths
        self._places[rows] = self._made + np.arange(len(rows))
        self._parts.append(texts)
        self._made += len(rows)

    def take(self, rows: Int64Array | None = None) -> Any:
        """The texts of these rows, or of all."""
        if rows is not None:
            check_text_bytes(int(self.lengths[rows].sum()))
        if len(self._parts) > 1:
            self._parts = [pa.concat_arrays(self._parts)]
        return self._parts[0].take(pa.array(self._places if rows is None else self._places[rows]))


class _Referred:
    """What addresses refer to, as JSON text: each dependency is written once."""

    def __init__(self, known: Dependencies, buffer: UInt8Array) -> None:
        self._order = np.argsort(known.ids)
        self._sorted = known.ids[self._order]
        self._values = _Scattered(len(known))
        self._is_written = known.sources < IS_DESCRIPTION
        self._values.put(np.flatnonzero(self._is_written), _quoted(known.texts.to_arrow()).filter(self._is_written))
        sets = np.flatnonzero(known.sources == IS_PROPERTIES)
        if len(sets):
            codes = known.json_column(sets.astype(np.int32))
            self._values.put(sets, _with_type(pa.array(codes.values, pa.string())).take(pa.array(codes.codes)))
            self._is_written[sets] = True
        self._write_descriptions(known, buffer)

    def _write_descriptions(self, known: Dependencies, buffer: UInt8Array) -> None:
        """They may refer to each other, earlier ones: in rounds, each after all that it refers to."""
        table = known.plan.table
        reader = _Reader(buffer, table, self, "dependency")
        for _ in range(NESTING_MAX):
            left = np.flatnonzero(~self._is_written)
            if not len(left):
                return
            done = []
            for index in np.unique(known.kinds[left]).tolist():
                rows = left[known.kinds[left] == index]
                ready = np.ones(len(rows), np.bool_)
                for offset in table.record_type(index).references:
                    ready &= self._is_written[
                        self.ordinals(reader.words(known.starts[rows] + offset), rows, "dependency")
                    ]
                rows = rows[ready]
                if len(rows):
                    self._values.put(rows, reader.objects(index, known.starts[rows], rows))
                    done.append(rows)
            self._is_written[np.concatenate(done)] = True  # the first that is left refers to none that is left
        if not self._is_written.all():
            raise CorruptPayloadError(f"dependencies refer to each other more than {NESTING_MAX} deep")

    def ordinals(self, addresses: Int64Array, records: Int64Array, noun: str) -> Int64Array:
        places = np.searchsorted(self._sorted, addresses)
        places[places == len(self._sorted)] = 0
        lost = np.flatnonzero(self._sorted[places] != addresses) if len(self._sorted) else np.arange(len(addresses))
        if len(lost):
            address = address_text(int(addresses[lost[0]]))
            raise CorruptPayloadError(f"{noun} {records[lost[0]]} refers to the unknown dependency {address}")
        return self._order[places]

    def texts(self, ordinals: Int64Array) -> Any:
        return self._values.take(ordinals)


@dataclass(slots=True)
class _Reader:
    """Writes the records of one buffer as JSON, those of one type at a time."""

    buffer: UInt8Array
    table: TypeTable
    referred: _Referred
    noun: str

    def objects(self, index: int, starts: Int64Array, records: Int64Array) -> Any:
        """The records of a type, whose bodies start there."""
        udt = self.table.types[index]
        if udt.size:
            fields = self.table.record_type(index).fields
            return self._object(udt.name, self._fields(fields, starts, records), len(starts))
        return self._object(udt.name, self._parts(_DYNAMIC.get(udt.name, ()), starts, records), len(starts))

    def words(self, positions: Int64Array) -> Int64Array:
        return self._numbers(Kind.I64, positions)

    def _object(self, type_name: str, members: Iterable[tuple[str, Any]], rows: int) -> Any:
        """``members``: names and JSON texts; the first of a name stands."""
        columns: dict[str, Any] = {}
        for name, texts in members:
            columns.setdefault(name, texts)
        columns.pop("__type", None)
        pieces: list[Any] = []
        literal = f'{{"__type":{_json(type_name)}'
        for name in sorted(columns):
            pieces += [pa.scalar(f"{literal},{_json(name)}:"), columns[name]]
            literal = ""
        if not pieces:
            return pa.array([literal + "}"], pa.string()).take(pa.array(np.zeros(rows, np.int64)))
        check_text_bytes(sum(_bytes_of(piece, rows) for piece in pieces) + rows)
        return pc.binary_join_element_wise(*pieces, pa.scalar("}"), "")

    def _fields(self, fields: Sequence[Field], starts: Int64Array, records: Int64Array) -> Iterable[tuple[str, Any]]:
        for member in fields:
            if member.kind is Kind.OBJECT:
                inner = self._fields(member.fields, starts, records)
                yield member.name, self._object(member.type_name, inner, len(starts))
            else:
                yield member.name, self._value(member.kind, starts + member.offset, records)

    def _parts(
        self, parts: Sequence[tuple[str, Kind | str]], starts: Int64Array, records: Int64Array
    ) -> Iterable[tuple[str, Any]]:
        """Members that lie one behind the other, up to the end of a record that says its own length."""
        sizes = self._numbers(Kind.U32, starts - Kind.U32.width).astype(np.int64)
        at, ends = starts, starts + sizes

        def step(width: Any) -> Int64Array:
            nonlocal at
            begin = at
            at = at + width
            short = np.flatnonzero(at > ends)
            if len(short):
                self._raise(Fault.SHORT_RECORD, records, short, sizes)
            return begin

        def step_over(lengths: Int64Array) -> Int64Array:
            nonlocal at
            begin = at
            at = at + lengths
            long = np.flatnonzero(at > ends)
            if len(long):
                self._raise(Fault.STRING_BEYOND_RECORD, records, long, lengths)
            return begin

        for name, part in parts:
            if isinstance(part, Kind):
                yield name, self._value(part, step(part.width), records)
            elif part in (_STRING_ID, _STATIC_STRING_REF):
                reference = self.table.named(part)
                if reference.stands_for is None or reference.stands_for.kind is not Kind.REFERENCE:
                    raise CorruptPayloadError(f"type {part!r} is no reference to a string")
                begin = step(reference.size)
                yield name, self._value(Kind.REFERENCE, begin + reference.stands_for.offset, records)
            elif part == _REST:
                lengths = ends - at
                yield name, self._texts(step_over(lengths), lengths, np.full(len(starts), TEXT_STRICT, np.uint8))
            elif part == _BLOB:
                lengths = self._numbers(Kind.U32, step(Kind.U32.width)).astype(np.int64)
                step_over(lengths)
                text = pa.array(lengths).cast(pa.string())
                yield name, pc.binary_join_element_wise('"<binary ', text, ' bytes>"', "")
            else:
                codecs = self._numbers(Kind.U8, step(Kind.U8.width))
                unknown = np.flatnonzero(codecs > _CODEC_MAX)
                if len(unknown):
                    self._raise(Fault.BAD_CODEC, records, unknown, codecs)
                lengths = self._numbers(Kind.U32, step(Kind.U32.width)).astype(np.int64)
                yield name, self._texts(step_over(lengths), lengths, codecs)

    def _value(self, kind: Kind, positions: Int64Array, records: Int64Array) -> Any:
        if kind is Kind.REFERENCE:
            return self.referred.texts(self.referred.ordinals(self.words(positions), records, self.noun))
        numbers = pa.array(self._numbers(kind, positions))
        return _float_texts(numbers) if kind is Kind.F64 else numbers.cast(pa.string())

    def _numbers(self, kind: Kind, positions: Int64Array) -> npt.NDArray[Any]:
        gathered = self.buffer[positions[:, None] + np.arange(kind.width)]
        return np.ascontiguousarray(gathered).view(_NUMBERS[kind]).ravel()

    def _texts(self, starts: Int64Array, lengths: Int64Array, sources: UInt8Array) -> Any:
        texts = read_texts(
            *(self.buffer, starts, lengths, sources.copy()), noun=self.noun, bytes_max=OBJECTS_TEXT_BYTES_MAX
        )
        return _quoted(texts.to_arrow())

    def _raise(self, fault: Fault, records: Int64Array, rows: Int64Array, values: Any) -> None:
        outcome = new_outcome()
        outcome[:3] = fault, records[rows[0]], values[rows[0]]
        raise_fault(outcome, self.noun)


def _float_texts(numbers: Any) -> Any:
    """The shortest text that means the same number, which says that it is a float; null for NaN and infinities."""
    texts = pc.replace_substring_regex(numbers.cast(pa.string()), pattern="^(-?[0-9]+)$", replacement=r"\1.0")
    return pc.if_else(pc.is_finite(numbers), texts, "null")


def _quoted(texts: Any) -> Any:
    """Texts as JSON strings."""
    for character in '\\"':
        texts = pc.replace_substring(texts, pattern=character, replacement="\\" + character)
    if pc.any(pc.match_substring_regex(texts, r"[\x00-\x1f]")).as_py():
        for code in range(0x20):
            character = chr(code)
            texts = pc.replace_substring(texts, pattern=character, replacement=_json(character)[1:-1])
    return pc.binary_join_element_wise('"', texts, '"', "")


def _with_type(sets: Any) -> Any:
    """Property sets are objects already, and get their type."""
    typed = pc.replace_substring_regex(
        sets, pattern=r"\A\{", replacement='{"__type":"property_set",', max_replacements=1
    )
    return pc.if_else(pc.equal(sets, "{}"), '{"__type":"property_set"}', typed)


def _bytes_of(piece: Any, rows: int) -> int:
    lengths = pc.binary_length(piece)
    return int(lengths.as_py()) * rows if isinstance(piece, pa.Scalar) else int(pc.sum(lengths).as_py() or 0)


def check_text_bytes(size: int) -> None:
    if size > OBJECTS_TEXT_BYTES_MAX:
        raise CorruptPayloadError(
            f"the objects of the block have {size} bytes as JSON or more, the limit is {OBJECTS_TEXT_BYTES_MAX}"
        )


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _dependency_plan(table: TypeTable) -> DependencyPlan:
    return DependencyPlan(table, Wanted(()))


def _plan(table: TypeTable) -> Plan:
    return Plan(table, 1, other_plan)


__all__ = ["OBJECTS_TEXT_BYTES_MAX", "BlockObjects", "read_objects"]
