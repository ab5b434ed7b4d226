"""What views share: field types, the columns every event row repeats of its process, and collecting rows into batches.

Knows no view set.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse.errors import LakeflightError
from lakehouse.model import Block, Process, Stream
from lakehouse.ports import BucketSource
from wire.compression import BLOCK_DECODED_BYTES_MAX, decompress
from wire.envelope import decode_payload
from wire.errors import CorruptPayloadError
from wire.ticks import TickClock, frequency
from wire.transit.columns import Codes
from wire.transit.layout import StreamLayout, compile_layout

NATIVE_FORMAT: Final = "micromegas-transit"

BATCH_ROWS: Final = 1 << 17
"""Rows that are worth a batch: a row group of the file it goes to."""

BATCH_TEXT_BYTES_MAX: Final = 32 << 20
"""Text of one batch, or little more: messages may be long."""

LAYOUTS_MAX: Final = 256
"""Type tables kept while a bucket is built. Streams of one program share theirs."""

_TIME: Final = pa.timestamp("ns")


def time_field(name: str, *, nullable: bool = False) -> pa.Field:
    """UTC without saying so: a zone would be a cast in the engine, and casts defeat pruning."""
    return pa.field(name, _TIME, nullable=nullable)


def text_field(name: str, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, pa.string(), nullable=nullable)


def properties_field(name: str, *, nullable: bool = False) -> pa.Field:
    """Properties of a process, stream or block: pairs. (Of an event they are JSON text.)"""
    pair = pa.struct([text_field("key"), text_field("value")])
    return pa.field(name, pa.list_(pa.field("property", pair, nullable=False)), nullable=nullable)


def tags_field(name: str) -> pa.Field:
    return pa.field(name, pa.list_(text_field("tag")), nullable=True)


SOURCE_FIELDS: Final = (
    text_field("process_id"),
    text_field("stream_id"),
    text_field("block_id"),
    time_field("insert_time"),
    text_field("exe"),
    text_field("username"),
    text_field("computer"),
)
"""Where an event came from; first in every view that has events of many processes."""

PROPERTIES_FIELDS: Final = (text_field("properties"), text_field("process_properties"))

Int64s = npt.NDArray[np.int64]
T = TypeVar("T")
Decode: TypeAlias = Callable[[StreamLayout, bytes, bytes], T]
"""Makes a value of a stream's layout and a block's dependencies and objects."""

Column: TypeAlias = npt.NDArray[Any] | Codes | pa.Array | str | int
"""One value per row, or one for all of them."""


@dataclass(slots=True)
class BlockReader:
    """Opens the blocks of one bucket; a block that cannot be decoded is left out, and said so."""

    source: BucketSource
    _layouts: dict[tuple[bytes, bytes], StreamLayout] = field(default_factory=dict)

    def read(self, block: Block, decode: Decode[T]) -> T | None:
        """What ``decode`` makes of a block's dependencies and objects, ``None`` if the block is quarantined.

        Trouble of the store is the source's, and passes through: it says nothing about the block.
        """
        stored = self.source.payload(block)
        with_stream = self.source.stream_of(block)
        try:
            layout = self._layout(with_stream)
            dependencies, objects = decode_payload(stored)
            del stored
            return decode(
                layout,
                decompress(dependencies, limit_bytes=BLOCK_DECODED_BYTES_MAX),
                decompress(objects, limit_bytes=BLOCK_DECODED_BYTES_MAX),
            )
        except (LakeflightError, MemoryError):
            raise
        except Exception as error:  # a decoder's own fault must not break other blocks either
            self.source.quarantine(block, error)
            return None

    def _layout(self, stream: Stream) -> StreamLayout:
        if stream.format != NATIVE_FORMAT:
            raise CorruptPayloadError(f"this view does not read the format {stream.format[:100]}")
        key = (stream.dependencies_metadata, stream.objects_metadata)
        layout = self._layouts.get(key)
        if layout is None:
            if len(self._layouts) >= LAYOUTS_MAX:
                self._layouts.clear()
            layout = self._layouts[key] = compile_layout(*key)
        return layout


def canonical_json(properties: Mapping[str, str]) -> str:
    """Equal properties, equal text: the form that events' properties are decoded to as well."""
    return json.dumps(dict(properties), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def source_columns(block: Block, process: Process) -> dict[str, Column]:
    """The columns that are the same for all rows of a block."""
    return {
        "process_id": block.process_id,
        "stream_id": block.stream_id,
        "block_id": block.block_id,
        "insert_time": block.insert_time_ns,
        "exe": process.exe,
        "username": process.username,
        "computer": process.computer,
        "process_properties": canonical_json(process.properties),
    }


def clock_of_block(process: Process, block: Block) -> TickClock:
    """For events that stand alone: an unknown clock is estimated from the block they came in.

    Raises:
        CorruptPayloadError: The estimate makes no sense.
    """
    ticks_per_s = frequency(process.tsc_frequency, process.start_time_ns, block.end_ticks, block.end_time_ns)
    return TickClock(process.start_ticks, process.start_time_ns, ticks_per_s)


class RowCollector:
    """Rows of many small blocks in, batches of a good size out. Strings come out dictionary-encoded.

    Each batch has its own dictionaries, so that they stay as small as what the batch holds.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._columns: list[_TextColumn | _PlainColumn | _DictionaryColumn] = []
        self._rows = 0
        self._text_bytes = 0

    def add(self, rows: int, columns: Mapping[str, Column]) -> Iterator[pa.RecordBatch]:
        """Take the rows of one block; yields what came before when it is enough."""
        if rows == 0:
            return
        if self._rows + rows > BATCH_ROWS and self._rows >= BATCH_ROWS // 2:
            yield from self.finish()
        if not self._columns:
            self._columns = [_collector_of(column, columns[column.name]) for column in self._schema]
        for column, into in zip(self._schema, self._columns, strict=True):
            self._text_bytes += into.add(rows, columns[column.name])
        self._rows += rows
        if self._rows >= BATCH_ROWS or self._text_bytes >= BATCH_TEXT_BYTES_MAX:
            yield from self.finish()

    def finish(self) -> Iterator[pa.RecordBatch]:
        """What is left."""
        if self._rows == 0:
            return
        arrays = [column.take() for column in self._columns]
        fields = [declared.with_type(array.type) for declared, array in zip(self._schema, arrays, strict=True)]
        self._columns, self._rows, self._text_bytes = [], 0, 0
        yield pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


class _PlainColumn:
    """Numbers and times."""

    def __init__(self, declared: pa.DataType) -> None:
        self._type = declared
        self._parts: list[npt.NDArray[Any]] = []

    def add(self, rows: int, values: Column) -> int:
        part = np.full(rows, values, np.int64) if isinstance(values, int) else values
        if not isinstance(part, np.ndarray) or part.size != rows:
            raise TypeError(f"expected {rows} numbers, got {type(values).__name__}")
        self._parts.append(part)
        return 0

    def take(self) -> pa.Array:
        values = self._parts[0] if len(self._parts) == 1 else np.concatenate(self._parts)
        return array_of(values, self._type)


class _TextColumn:
    """Strings that hardly repeat."""

    def __init__(self) -> None:
        self._parts: list[pa.Array] = []

    def add(self, rows: int, values: Column) -> int:
        if not isinstance(values, pa.Array) or len(values) != rows:
            raise TypeError(f"expected {rows} strings, got {type(values).__name__}")
        self._parts.append(values)
        return int(values.nbytes)

    def take(self) -> pa.Array:
        return self._parts[0] if len(self._parts) == 1 else pa.concat_arrays(self._parts)


class _DictionaryColumn:
    """Strings that repeat: across blocks too."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._parts: list[npt.NDArray[np.int32]] = []

    def add(self, rows: int, values: Column) -> int:
        numbers = self._numbers
        known = len(numbers)
        if isinstance(values, str):
            self._parts.append(np.full(rows, numbers.setdefault(values, known), np.int32))
            return len(values) if len(numbers) > known else 0
        if not isinstance(values, Codes) or values.codes.size != rows:
            raise TypeError(f"expected {rows} codes, got {type(values).__name__}")
        mapped = np.fromiter(
            (numbers.setdefault(value, len(numbers)) for value in values.values), np.int32, len(values.values)
        )
        self._parts.append(mapped[values.codes])
        return sum(map(len, values.values)) if len(numbers) > known else 0

    def take(self) -> pa.Array:
        codes = self._parts[0] if len(self._parts) == 1 else np.concatenate(self._parts)
        return dictionary_of(codes, list(self._numbers))


def _collector_of(declared: pa.Field, values: Column) -> _TextColumn | _PlainColumn | _DictionaryColumn:
    if not pa.types.is_string(declared.type):
        return _PlainColumn(declared.type)
    return _TextColumn() if isinstance(values, pa.Array) else _DictionaryColumn()


def array_of(values: npt.NDArray[Any], declared: pa.DataType) -> pa.Array:
    """The numbers as they lie in memory, without a copy."""
    values = np.ascontiguousarray(values)
    if values.dtype.itemsize * 8 != declared.bit_width:
        raise TypeError(f"{values.dtype} is not as wide as {declared}")
    return pa.Array.from_buffers(declared, values.size, [None, pa.py_buffer(values)], 0)


def dictionary_of(codes: npt.NDArray[np.int32], values: list[str]) -> pa.Array:
    """A dictionary-encoded string array; codes are checked."""
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(values, pa.string()))
