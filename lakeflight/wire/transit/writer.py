"""Values to blocks: the two buffers of a native block, byte for byte as the original's Rust producer lays them out.

A block carries everything it refers to, so each builder interns its strings, descriptions and property sets for one
block, gives them ids that are unique in that block, and writes each into the dependencies once, before its first use.
Events are added one by one, or as numpy columns (``extend``) without a Python loop over them.

Ticks are absolute here; only the envelope's ticks are relative to the start of the process. Refuses to read the clock,
to make ids of blocks and streams, and to check that spans nest: what is given is what is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from struct import Struct
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lakeflight.wire.compression import compress
from lakeflight.wire.envelope import BlockRequest, StreamRequest, encode_payload
from lakeflight.wire.transit.types import LOG_TYPES, METRIC_TYPES, SPAN_TYPES, StreamTypes

Integers: TypeAlias = NDArray[np.integer[Any]]
Bytes: TypeAlias = NDArray[np.uint8]

BEGIN: Final = 0
END: Final = 1

LOD_MIN: Final = 1
LOD_MED: Final = 2
LOD_MAX: Final = 3

_UTF8: Final = 2  # the only string codec a Rust producer uses
_U32_MAX: Final = 0xFFFF_FFFF
_U64_MAX: Final = 0xFFFF_FFFF_FFFF_FFFF


class LogMetadata(NamedTuple):
    """What one logging statement has in common with itself: the constant half of a log event."""

    target: str
    level: int  # 1 fatal, 2 error, 3 warn, 4 info, 5 debug, 6 trace
    fmt_str: str = ""
    module_path: str = ""
    file: str = ""
    line: int = 0


class MetricMetadata(NamedTuple):
    """The constant half of a measurement."""

    name: str
    unit: str
    target: str = ""
    file: str = ""
    line: int = 0
    lod: int = LOD_MED


class SpanMetadata(NamedTuple):
    """A span whose name is part of the program."""

    name: str
    target: str = ""
    module_path: str = ""
    file: str = ""
    line: int = 0
    lod: int = LOD_MED


class SpanLocation(NamedTuple):
    """The place of spans whose name is chosen at run time."""

    target: str = ""
    module_path: str = ""
    file: str = ""
    line: int = 0
    lod: int = LOD_MED


class NamedSpan(NamedTuple):
    """A name chosen at run time, at a place in the program."""

    name: str
    location: SpanLocation


Scope: TypeAlias = SpanMetadata | NamedSpan


@dataclass(frozen=True, slots=True)
class EncodedBlock:
    """The two uncompressed buffers of a block and the number of its objects."""

    dependencies: bytes
    objects: bytes
    nb_objects: int

    def payload(self) -> bytes:
        """What is stored: the CBOR map of two LZ4 frames."""
        return encode_payload(compress(self.dependencies), compress(self.objects))

    def request(
        self,
        *,
        block_id: str,
        stream_id: str,
        process_id: str,
        begin_time_ns: int,
        begin_ticks: int,
        end_time_ns: int,
        end_ticks: int,
        object_offset: int,
    ) -> BlockRequest:
        """The envelope around this block. Ticks are relative to the start of the process."""
        return BlockRequest(
            block_id=block_id,
            stream_id=stream_id,
            process_id=process_id,
            begin_time_ns=begin_time_ns,
            begin_ticks=begin_ticks,
            end_time_ns=end_time_ns,
            end_ticks=end_ticks,
            payload=self.payload(),
            object_offset=object_offset,
            nb_objects=self.nb_objects,
        )


def describe_stream(
    types: StreamTypes, *, process_id: str, stream_id: str, properties: Mapping[str, str] | None = None
) -> StreamRequest:
    """The announcement of a stream whose blocks these builders make."""
    return StreamRequest(
        process_id=process_id,
        stream_id=stream_id,
        dependencies_metadata=types.dependencies_metadata,
        objects_metadata=types.objects_metadata,
        tags=(types.tag,),
        properties=dict(properties or {}),
    )


# --- dependencies ---------------------------------------------------------------------------------------------------

_STRING_HEAD: Final = Struct("<BIQ")  # type index, size, id
_DYNAMIC_STRING_HEAD: Final = Struct("<BIQBI")  # type index, size, id, codec, bytes
_PROPERTY_SET_HEAD: Final = Struct("<BIQI")  # type index, size, id, number of properties
_RECORD_OF_4: Final = Struct("<BQQQQQII")  # type index, id, four strings, two numbers
_RECORD_OF_3: Final = Struct("<BQQQQII")  # type index, id, three strings, two numbers
_STRING_REFERENCE: Final = Struct("<QIB3x")  # id, bytes, codec, padding


class _Interned(NamedTuple):
    id: int
    length: int  # of the UTF-8 text


class _Dependencies:
    """One block's dependencies: everything once, before its first use, under ids that nothing else in the block has."""

    def __init__(self, types: StreamTypes, ids: Iterator[int] | None) -> None:
        self.buffer = bytearray()
        self._ids = count(1) if ids is None else ids
        self._strings: dict[str, _Interned] = {}
        self._records: dict[tuple[Any, ...], int] = {}
        self._property_sets: dict[tuple[tuple[str, str], ...], int] = {}
        names = [udt.name for udt in types.dependencies]
        self._static_string = names.index("StaticString")
        self._dynamic_string = names.index("StaticStringDependency") if "StaticStringDependency" in names else -1
        self._property_set = names.index("PropertySetDependency") if "PropertySetDependency" in names else -1

    def string(self, text: str) -> _Interned:
        """Strings that are part of the program."""
        known = self._strings.get(text)
        if known is not None:
            return known
        data = text.encode("utf-8", "replace")
        interned = self._strings[text] = _Interned(next(self._ids), len(data))
        self.buffer += _STRING_HEAD.pack(self._static_string, 8 + len(data), interned.id)
        self.buffer += data
        return interned

    def text(self, text: str) -> _Interned:
        """Strings that were made at run time; the same text is one entry, whichever way it came first."""
        known = self._strings.get(text)
        if known is not None:
            return known
        data = text.encode("utf-8", "replace")
        interned = self._strings[text] = _Interned(next(self._ids), len(data))
        size = 8 + 5 + len(data)
        self.buffer += _DYNAMIC_STRING_HEAD.pack(self._dynamic_string, size, interned.id, _UTF8, len(data))
        self.buffer += data
        return interned

    def record(self, index: int, key: tuple[Any, ...], strings: Sequence[str], line: int, last: int) -> int:
        """A description: its id, three or four strings, the line and one more number."""
        known = self._records.get(key)
        if known is not None:
            return known
        references = [self.string(text).id for text in strings]
        record_id = self._records[key] = next(self._ids)
        layout = _RECORD_OF_4 if len(references) == 4 else _RECORD_OF_3
        self.buffer += layout.pack(index, record_id, *references, line & _U32_MAX, last & _U32_MAX)
        return record_id

    def property_set(self, properties: Mapping[str, str]) -> int:
        key = tuple(sorted(properties.items(), reverse=True))  # names descending, as the original interns them
        known = self._property_sets.get(key)
        if known is not None:
            return known
        references = [self.text(text) for pair in key for text in pair]
        set_id = self._property_sets[key] = next(self._ids)
        size = 12 + 32 * len(key)
        self.buffer += _PROPERTY_SET_HEAD.pack(self._property_set, size, set_id, len(key))
        for reference in references:
            self.buffer += _STRING_REFERENCE.pack(reference.id, reference.length, _UTF8)
        return set_id


# --- columns --------------------------------------------------------------------------------------------------------


def _checked_codes(codes: Integers, values: Sequence[Any], what: str) -> Integers:
    if len(codes) and (int(codes.min()) < 0 or int(codes.max()) >= len(values)):
        raise ValueError(f"{what} codes must lie in [0, {len(values)}): {codes.min()} to {codes.max()}")
    return codes


def _used(codes: Integers, values: Sequence[Any]) -> list[int]:
    """Codes that occur, ascending: what a block must describe."""
    occurs = np.zeros(len(values), np.bool_)
    occurs[codes] = True
    found: list[int] = np.flatnonzero(occurs).tolist()
    return found


def _same_length(*columns: NDArray[Any]) -> int:
    lengths = {len(column) for column in columns}
    if len(lengths) != 1:
        raise ValueError(f"columns must have one length: {sorted(lengths)}")
    return lengths.pop()


def _interleave(widths: NDArray[np.int64], parts: Sequence[tuple[NDArray[np.intp], NDArray[Any]]]) -> Bytes:
    """Records of several widths, each at its place: ``parts`` are positions among all events and packed records."""
    ends = np.cumsum(widths)
    total = int(ends[-1]) if len(ends) else 0
    buffer = np.zeros(total, np.uint8)
    starts = ends - widths
    for positions, records in parts:
        if len(positions):
            width = records.dtype.itemsize
            raw = np.dtype((np.void, width))
            windows = np.ndarray((total - width + 1,), raw, buffer, strides=(1,))  # a record may begin at any byte
            windows[starts[positions]] = records.view(raw)
    return buffer


# --- logs -----------------------------------------------------------------------------------------------------------

_LOG_STATIC: Final = LOG_TYPES.object_index("LogStaticStrEvent")
_LOG_STRING: Final = LOG_TYPES.object_index("LogStringEventV2")
_LOG_STATIC_INTEROP: Final = LOG_TYPES.object_index("LogStaticStrInteropEvent")
_LOG_INTEROP: Final = LOG_TYPES.object_index("LogStringInteropEventV3")
_LOG_TAGGED: Final = LOG_TYPES.object_index("TaggedLogString")
_LOG_METADATA: Final = LOG_TYPES.dependency_index("LogMetadataRecord")

_LOG_STATIC_EVENT: Final = Struct("<BQq")  # type index, desc, ticks
_LOG_STRING_EVENT: Final = Struct("<BIQqBI")  # type index, size, desc, ticks, codec, bytes
_LOG_STATIC_INTEROP_EVENT: Final = Struct("<BQI4xQI4xqI4x")  # type index, target, message, ticks, level
_LOG_INTEROP_EVENT: Final = Struct("<BIqBQIB3xBI")  # type index, size, ticks, level, target, codec, bytes
_LOG_TAGGED_EVENT: Final = Struct("<BIQQqBI")  # type index, size, desc, properties, ticks, codec, bytes
_LOG_STRING_RECORD: Final = np.dtype(
    [("type", "u1"), ("size", "<u4"), ("desc", "<u8"), ("ticks", "<i8"), ("codec", "u1"), ("length", "<u4")]
)


class LogBlockBuilder:
    """Builds one block of a ``log`` stream."""

    types: Final = LOG_TYPES

    def __init__(self, *, ids: Iterator[int] | None = None) -> None:
        self._dependencies = _Dependencies(LOG_TYPES, ids)
        self._objects = bytearray()
        self._nb_objects = 0

    def _desc(self, metadata: LogMetadata) -> int:
        strings = (metadata.fmt_str, metadata.target, metadata.module_path, metadata.file)
        return self._dependencies.record(_LOG_METADATA, metadata, strings, metadata.line, metadata.level)

    def static(self, metadata: LogMetadata, ticks: int) -> None:
        """A statement without run-time arguments: its message is its format string."""
        self._objects += _LOG_STATIC_EVENT.pack(_LOG_STATIC, self._desc(metadata), ticks)
        self._nb_objects += 1

    def message(self, metadata: LogMetadata, ticks: int, message: str) -> None:
        """A statement with a message made at run time."""
        data = message.encode("utf-8", "replace")
        self._objects += _LOG_STRING_EVENT.pack(
            _LOG_STRING, 21 + len(data), self._desc(metadata), ticks, _UTF8, len(data)
        )
        self._objects += data
        self._nb_objects += 1

    def tagged(self, metadata: LogMetadata, ticks: int, message: str, properties: Mapping[str, str]) -> None:
        """A message with properties. Readers let properties named ``target`` and ``level`` override the event's own."""
        data = message.encode("utf-8", "replace")
        desc = self._desc(metadata)
        self._objects += _LOG_TAGGED_EVENT.pack(
            _LOG_TAGGED,
            29 + len(data),
            desc,
            self._dependencies.property_set(properties),
            ticks,
            _UTF8,
            len(data),
        )
        self._objects += data
        self._nb_objects += 1

    def static_interop(self, target: str, level: int, ticks: int, message: str) -> None:
        """A record of another logging library whose strings live as long as the program."""
        on, text = self._dependencies.string(target), self._dependencies.string(message)
        self._objects += _LOG_STATIC_INTEROP_EVENT.pack(
            _LOG_STATIC_INTEROP, on.id, on.length, text.id, text.length, ticks, level
        )
        self._nb_objects += 1

    def interop(self, target: str, level: int, ticks: int, message: str) -> None:
        """A record of another logging library."""
        data = message.encode("utf-8", "replace")
        on = self._dependencies.text(target)
        self._objects += _LOG_INTEROP_EVENT.pack(
            _LOG_INTEROP, 30 + len(data), ticks, level, on.id, on.length, _UTF8, _UTF8, len(data)
        )
        self._objects += data
        self._nb_objects += 1

    def extend(
        self,
        descs: Sequence[LogMetadata],
        codes: Integers,
        ticks: Integers,
        messages: bytes,
        offsets: Integers,
    ) -> None:
        """Add messages without properties, by the column.

        Args:
            descs: Statements; ``codes[i]`` says which one event ``i`` is of.  ticks: Absolute, one per event.
            messages: The UTF-8 texts, one after the other; event ``i`` has ``[offsets[i], offsets[i + 1])``.
        """
        events = _same_length(codes, ticks, offsets[1:])
        if not events:
            return
        desc_ids = np.zeros(len(descs), np.uint64)
        for code in _used(_checked_codes(codes, descs, "statement"), descs):
            desc_ids[code] = self._desc(descs[code])
        lengths = np.diff(offsets).astype(np.int64)
        texts = np.frombuffer(messages, np.uint8)
        if int(lengths.min()) < 0 or int(offsets[0]) < 0 or int(offsets[-1]) > len(texts):
            raise ValueError(f"offsets must ascend within {len(texts)} bytes: {offsets[0]} to {offsets[-1]}")
        heads = np.empty(events, _LOG_STRING_RECORD)
        heads["type"] = _LOG_STRING
        heads["size"] = lengths + 21
        heads["desc"] = desc_ids[codes]
        heads["ticks"] = ticks
        heads["codec"] = _UTF8
        heads["length"] = lengths
        widths = lengths + _LOG_STRING_RECORD.itemsize
        buffer = _interleave(widths, [(np.arange(events), heads)])
        text_starts = np.cumsum(widths) - lengths
        shift = np.repeat(text_starts - offsets[:-1], lengths)
        source = np.arange(int(offsets[0]), int(offsets[-1]))
        buffer[source + shift] = texts[int(offsets[0]) : int(offsets[-1])]
        self._objects += buffer.data
        self._nb_objects += events

    def finish(self) -> EncodedBlock:
        return EncodedBlock(bytes(self._dependencies.buffer), bytes(self._objects), self._nb_objects)


# --- metrics --------------------------------------------------------------------------------------------------------

_INTEGER_METRIC: Final = METRIC_TYPES.object_index("IntegerMetricEvent")
_FLOAT_METRIC: Final = METRIC_TYPES.object_index("FloatMetricEvent")
_TAGGED_FLOAT_METRIC: Final = METRIC_TYPES.object_index("TaggedFloatMetricEvent")
_TAGGED_INTEGER_METRIC: Final = METRIC_TYPES.object_index("TaggedIntegerMetricEvent")
_METRIC_METADATA: Final = METRIC_TYPES.dependency_index("MetricMetadataDependency")

_INTEGER_METRIC_EVENT: Final = Struct("<BQQq")  # type index, desc, value, ticks
_FLOAT_METRIC_EVENT: Final = Struct("<BQdq")
_TAGGED_INTEGER_METRIC_EVENT: Final = Struct("<BQQQq")  # type index, desc, properties, value, ticks
_TAGGED_FLOAT_METRIC_EVENT: Final = Struct("<BQQdq")
_METRIC_RECORD: Final = np.dtype([("type", "u1"), ("desc", "<u8"), ("value", "<u8"), ("ticks", "<i8")])
_TAGGED_METRIC_RECORD: Final = np.dtype(
    [("type", "u1"), ("desc", "<u8"), ("properties", "<u8"), ("value", "<u8"), ("ticks", "<i8")]
)
NO_PROPERTIES: Final = -1


class MetricBlockBuilder:
    """Builds one block of a ``metrics`` stream."""

    types: Final = METRIC_TYPES

    def __init__(self, *, ids: Iterator[int] | None = None) -> None:
        self._dependencies = _Dependencies(METRIC_TYPES, ids)
        self._objects = bytearray()
        self._nb_objects = 0

    def _desc(self, metadata: MetricMetadata) -> int:
        strings = (metadata.name, metadata.unit, metadata.target, metadata.file)
        return self._dependencies.record(_METRIC_METADATA, metadata, strings, metadata.line, metadata.lod)

    def add_integer(
        self, metadata: MetricMetadata, ticks: int, value: int, properties: Mapping[str, str] | None = None
    ) -> None:
        """An unsigned 64-bit value; of a negative one readers see the bits, a large value, except in unit ``ticks``."""
        desc = self._desc(metadata)
        value &= _U64_MAX
        if properties is None:
            self._objects += _INTEGER_METRIC_EVENT.pack(_INTEGER_METRIC, desc, value, ticks)
        else:
            set_id = self._dependencies.property_set(properties)
            self._objects += _TAGGED_INTEGER_METRIC_EVENT.pack(_TAGGED_INTEGER_METRIC, desc, set_id, value, ticks)
        self._nb_objects += 1

    def add_float(
        self, metadata: MetricMetadata, ticks: int, value: float, properties: Mapping[str, str] | None = None
    ) -> None:
        desc = self._desc(metadata)
        if properties is None:
            self._objects += _FLOAT_METRIC_EVENT.pack(_FLOAT_METRIC, desc, value, ticks)
        else:
            set_id = self._dependencies.property_set(properties)
            self._objects += _TAGGED_FLOAT_METRIC_EVENT.pack(_TAGGED_FLOAT_METRIC, desc, set_id, value, ticks)
        self._nb_objects += 1

    def extend(
        self,
        descs: Sequence[MetricMetadata],
        codes: Integers,
        ticks: Integers,
        values: NDArray[Any],
        *,
        integer: NDArray[np.bool_] | None = None,
        property_sets: Sequence[Mapping[str, str]] = (),
        property_codes: Integers | None = None,
    ) -> None:
        """Add measurements by the column.

        Args:
            descs: Metrics; ``codes[i]`` says which one event ``i`` is of.  ticks: Absolute, one per event.
            values: float64, or integers.  integer: Where given, ``values`` are the 64 bits of either kind, and true is
                an integer.
            property_sets: ``property_codes[i]`` is the set of event ``i``, ``NO_PROPERTIES`` if it has none.
        """
        events = _same_length(codes, ticks, values)
        if not events:
            return
        if integer is None:
            integer = np.full(events, values.dtype.kind in "iub")
        bits = values.view(np.uint64) if values.dtype.kind == "f" else values.astype(np.uint64)
        desc_ids = np.zeros(len(descs), np.uint64)
        for code in _used(_checked_codes(codes, descs, "metric"), descs):
            desc_ids[code] = self._desc(descs[code])
        plain = np.arange(events)
        tagged = np.empty(0, np.intp)
        set_ids = np.zeros(0, np.uint64)
        if property_codes is not None:
            has = property_codes != NO_PROPERTIES
            plain, tagged = np.flatnonzero(~has), np.flatnonzero(has)
            known = _checked_codes(property_codes[tagged], property_sets, "property set")
            set_ids = np.zeros(len(property_sets), np.uint64)
            for code in _used(known, property_sets):
                set_ids[code] = self._dependencies.property_set(property_sets[code])
            set_ids = set_ids[known]
        plain_records = np.empty(len(plain), _METRIC_RECORD)
        tagged_records = np.empty(len(tagged), _TAGGED_METRIC_RECORD)
        for records, where, if_integer, if_float in (
            (plain_records, plain, _INTEGER_METRIC, _FLOAT_METRIC),
            (tagged_records, tagged, _TAGGED_INTEGER_METRIC, _TAGGED_FLOAT_METRIC),
        ):
            records["type"] = np.where(integer[where], if_integer, if_float)
            records["desc"] = desc_ids[codes[where]]
            records["value"] = bits[where]
            records["ticks"] = ticks[where]
        tagged_records["properties"] = set_ids
        if len(tagged) == 0:
            self._objects += plain_records.view(np.uint8).data
        else:
            widths = np.full(events, _METRIC_RECORD.itemsize, np.int64)
            widths[tagged] = _TAGGED_METRIC_RECORD.itemsize
            parts = [(plain, plain_records), (tagged, tagged_records)]
            self._objects += _interleave(widths, parts).data
        self._nb_objects += events

    def finish(self) -> EncodedBlock:
        return EncodedBlock(bytes(self._dependencies.buffer), bytes(self._objects), self._nb_objects)


# --- spans ----------------------------------------------------------------------------------------------------------

_THREAD_SPAN: Final = SPAN_TYPES.object_index("BeginThreadSpanEvent")  # the end of each is the next index
_THREAD_NAMED_SPAN: Final = SPAN_TYPES.object_index("BeginThreadNamedSpanEvent")
_ASYNC_SPAN: Final = SPAN_TYPES.object_index("BeginAsyncSpanEvent")
_ASYNC_NAMED_SPAN: Final = SPAN_TYPES.object_index("BeginAsyncNamedSpanEvent")
_SPAN_METADATA: Final = SPAN_TYPES.dependency_index("SpanRecord")
_SPAN_LOCATION: Final = SPAN_TYPES.dependency_index("SpanLocationRecord")

_SPAN_RECORD: Final = np.dtype([("type", "u1"), ("desc", "<u8"), ("ticks", "<i8")])
_NAME_FIELDS: Final = [("name", "<u8"), ("name_length", "<u4"), ("padding", "<u4")]
_NAMED_SPAN_RECORD: Final = np.dtype([("type", "u1"), ("desc", "<u8"), *_NAME_FIELDS, ("ticks", "<i8")])
_ASYNC_FIELDS: Final = [
    ("span_id", "<u8"),
    ("parent_span_id", "<u8"),
    ("ticks", "<i8"),
    ("depth", "<u4"),
    ("padding_2", "<u4"),
]
_ASYNC_SPAN_RECORD: Final = np.dtype([("type", "u1"), ("desc", "<u8"), *_ASYNC_FIELDS])
_ASYNC_NAMED_SPAN_RECORD: Final = np.dtype([("type", "u1"), ("desc", "<u8"), *_NAME_FIELDS, *_ASYNC_FIELDS])


class SpanBlockBuilder:
    """Builds one block of a ``cpu`` stream: the spans of one thread, in the order they happened."""

    types: Final = SPAN_TYPES

    def __init__(self, *, ids: Iterator[int] | None = None) -> None:
        self._dependencies = _Dependencies(SPAN_TYPES, ids)
        self._objects = bytearray()
        self._nb_objects = 0

    def begin(self, scope: Scope, ticks: int) -> None:
        self._sync(BEGIN, scope, ticks)

    def end(self, scope: Scope, ticks: int) -> None:
        self._sync(END, scope, ticks)

    def begin_async(self, scope: Scope, ticks: int, *, span_id: int, parent_span_id: int = 0, depth: int = 0) -> None:
        """Ids are unique in the process and begin at 1; parent 0 is none; the outermost span has depth 0."""
        self._async(BEGIN, scope, ticks, span_id, parent_span_id, depth)

    def end_async(self, scope: Scope, ticks: int, *, span_id: int, parent_span_id: int = 0, depth: int = 0) -> None:
        self._async(END, scope, ticks, span_id, parent_span_id, depth)

    def extend(self, scopes: Sequence[Scope], kinds: Integers, codes: Integers, ticks: Integers) -> None:
        """Add thread spans by the column.

        Args:
            scopes: ``codes[i]`` says which one event ``i`` is of.  kinds: ``BEGIN`` or ``END``.  ticks: Absolute.
        """
        events = _same_length(kinds, codes, ticks)
        if not events:
            return
        plain, named, ids, names = self._scopes(scopes, codes)
        parts: list[tuple[NDArray[np.intp], NDArray[Any]]] = []
        for where, dtype, first in (
            (plain, _SPAN_RECORD, _THREAD_SPAN),
            (named, _NAMED_SPAN_RECORD, _THREAD_NAMED_SPAN),
        ):
            at = slice(None) if len(where) == events else where
            records = np.zeros(len(where), dtype)
            records["type"] = kinds[at]
            records["type"] += first
            records["ticks"] = ticks[at]
            _fill_scopes(records, codes[at], ids, names)
            parts.append((where, records))
        self._append(events, parts)

    def extend_async(
        self,
        scopes: Sequence[Scope],
        kinds: Integers,
        codes: Integers,
        ticks: Integers,
        span_ids: Integers,
        parent_span_ids: Integers,
        depths: Integers,
    ) -> None:
        """Add async spans by the column; arguments as in ``extend`` and ``begin_async``."""
        events = _same_length(kinds, codes, ticks, span_ids, parent_span_ids, depths)
        if not events:
            return
        plain, named, ids, names = self._scopes(scopes, codes)
        parts: list[tuple[NDArray[np.intp], NDArray[Any]]] = []
        for where, dtype, first in (
            (plain, _ASYNC_SPAN_RECORD, _ASYNC_SPAN),
            (named, _ASYNC_NAMED_SPAN_RECORD, _ASYNC_NAMED_SPAN),
        ):
            at = slice(None) if len(where) == events else where
            records = np.zeros(len(where), dtype)
            records["type"] = kinds[at]
            records["type"] += first
            records["ticks"] = ticks[at]
            records["span_id"] = span_ids[at]
            records["parent_span_id"] = parent_span_ids[at]
            records["depth"] = depths[at]
            _fill_scopes(records, codes[at], ids, names)
            parts.append((where, records))
        self._append(events, parts)

    def finish(self) -> EncodedBlock:
        return EncodedBlock(bytes(self._dependencies.buffer), bytes(self._objects), self._nb_objects)

    def _intern(self, scope: Scope) -> tuple[int, _Interned | None]:
        """The id of the description; of named spans that of the location, and the name."""
        if isinstance(scope, SpanMetadata):
            strings: tuple[str, ...] = (scope.name, scope.target, scope.module_path, scope.file)
            return self._dependencies.record(_SPAN_METADATA, scope, strings, scope.line, scope.lod), None
        at = scope.location
        strings = (at.target, at.module_path, at.file)
        location = self._dependencies.record(_SPAN_LOCATION, at, strings, at.line, at.lod)
        return location, self._dependencies.string(scope.name)

    def _sync(self, kind: int, scope: Scope, ticks: int) -> None:
        desc, name = self._intern(scope)
        if name is None:
            self._objects += _SYNC_EVENT.pack(_THREAD_SPAN + kind, desc, ticks)
        else:
            self._objects += _NAMED_SYNC_EVENT.pack(_THREAD_NAMED_SPAN + kind, desc, name.id, name.length, ticks)
        self._nb_objects += 1

    def _async(self, kind: int, scope: Scope, ticks: int, span_id: int, parent_span_id: int, depth: int) -> None:
        desc, name = self._intern(scope)
        rest = (span_id & _U64_MAX, parent_span_id & _U64_MAX, ticks, depth)
        if name is None:
            self._objects += _ASYNC_EVENT.pack(_ASYNC_SPAN + kind, desc, *rest)
        else:
            self._objects += _NAMED_ASYNC_EVENT.pack(_ASYNC_NAMED_SPAN + kind, desc, name.id, name.length, *rest)
        self._nb_objects += 1

    def _scopes(
        self, scopes: Sequence[Scope], codes: Integers
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.uint64], NDArray[np.uint64]]:
        """Describe the scopes in use.

        Returns:
            Positions of static and of named events, and by code the description's id and the name's (id, bytes).
        """
        ids = np.zeros(len(scopes), np.uint64)
        names = np.zeros((len(scopes), 2), np.uint64)
        is_named = np.zeros(len(scopes), np.bool_)
        for code in _used(_checked_codes(codes, scopes, "scope"), scopes):
            ids[code], name = self._intern(scopes[code])
            if name is not None:
                is_named[code] = True
                names[code] = name
        if not is_named.any():
            return np.arange(len(codes)), np.empty(0, np.intp), ids, names
        named = is_named[codes]
        return np.flatnonzero(~named), np.flatnonzero(named), ids, names

    def _append(self, events: int, parts: Sequence[tuple[NDArray[np.intp], NDArray[Any]]]) -> None:
        self._nb_objects += events
        for where, records in parts:
            if len(where) == events:  # one width: the records are the buffer
                self._objects += records.view(np.uint8).data
                return
        widths = np.empty(events, np.int64)
        for where, records in parts:
            widths[where] = records.dtype.itemsize
        self._objects += _interleave(widths, parts).data


_SYNC_EVENT: Final = Struct("<BQq")  # type index, desc, ticks
_NAMED_SYNC_EVENT: Final = Struct("<BQQI4xq")  # type index, location, name, bytes of the name, ticks
_ASYNC_EVENT: Final = Struct("<BQQQqI4x")  # type index, desc, id, parent, ticks, depth
_NAMED_ASYNC_EVENT: Final = Struct("<BQQI4xQQqI4x")


def _fill_scopes(records: NDArray[Any], codes: Integers, ids: NDArray[np.uint64], names: NDArray[np.uint64]) -> None:
    records["desc"] = ids[codes]
    if "name" in (records.dtype.names or ()):
        records["name"] = names[codes, 0]
        records["name_length"] = names[codes, 1]
