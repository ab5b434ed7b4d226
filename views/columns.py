"""What views share: field types, the columns every event row repeats of its process, and collecting rows into batches.

Knows no view set.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakeflight.wire.compression import BLOCK_DECODED_BYTES_MAX, decompress
from lakeflight.wire.envelope import decode_payload
from lakeflight.wire.errors import CorruptPayloadError
from lakeflight.wire.ticks import TickClock, frequency
from lakeflight.wire.transit.columns import Codes
from lakeflight.wire.transit.layout import StreamLayout, compile_layout
from lakehouse.errors import LakeflightError
from lakehouse.model import Block, LastTiming, Process, ProcessId, Stream
from lakehouse.ports import BucketSource

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
V = TypeVar("V")


class Events(Protocol):
    """What a decoder makes of a block whose events stand alone."""

    @property
    def ticks(self) -> Int64s:
        """One for each row, absolute."""
        ...


E = TypeVar("E", bound=Events)
Decode: TypeAlias = Callable[[StreamLayout, bytes, bytes], T]
"""Makes a value of a stream's layout and a block's dependencies and objects."""


class Ticks(NamedTuple):
    """Times, converted when those of many blocks are together: a few cost as much as thousands."""

    ticks: Int64s
    clock: TickClock


Column: TypeAlias = npt.NDArray[Any] | Codes | Ticks | pa.Array | str | int
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
            raise unreadable_format(stream)
        key = (stream.dependencies_metadata, stream.objects_metadata)
        layout = self._layouts.get(key)
        if layout is None:
            if len(self._layouts) >= LAYOUTS_MAX:
                self._layouts.clear()
            layout = self._layouts[key] = compile_layout(*key)
        return layout


def unreadable_format(stream: Stream) -> CorruptPayloadError:
    """Why a view leaves the blocks of a stream out."""
    return CorruptPayloadError(f"this view does not read the format {stream.format[:100]}")


def rows_of_events(
    source: BucketSource,
    schema: pa.Schema,
    read: Decode[E],
    columns_of: Callable[[E, TickClock], dict[str, Column]],
    *,
    one_clock: bool = False,
    blocks: Sequence[Block] | None = None,
) -> Iterator[pa.RecordBatch]:
    """The rows of a view whose events stand alone, in the order of the blocks.

    Args:
        read: Makes the events of a block.  columns_of: Makes what rows have beside their time and their source.
        one_clock: An unknown clock is estimated from all blocks of its process, and not from the block alone.
        blocks: All of the bucket's, unless these are given.
    """
    reader, rows, processes = BlockReader(source), RowCollector(schema), _Processes(source if one_clock else None)
    for block in source.blocks if blocks is None else blocks:
        process = source.process_of(block)

        def decode(layout: StreamLayout, dependencies: bytes, objects: bytes) -> tuple[int, dict[str, Column]]:
            events = read(layout, dependencies, objects)
            clock = processes.clock(process, block)  # noqa: B023
            return events.ticks.size, {"time": Ticks(events.ticks, clock), **columns_of(events, clock)}

        decoded = reader.read(block, decode)
        if decoded is not None:
            count, columns = decoded
            yield from rows.add(count, {**processes.columns(process, block), **columns})
    yield from rows.finish()


class _Processes:
    """What the events of a block have of their process, made once for each process."""

    def __init__(self, estimates: BucketSource | None) -> None:
        """``estimates``: has those of unknown clocks; without it each block has its own."""
        self._estimates = estimates
        self._columns: dict[ProcessId, dict[str, Column]] = {}
        self._clocks: dict[ProcessId, TickClock] = {}

    def columns(self, process: Process, block: Block) -> dict[str, Column]:
        """The columns that are the same for all rows of a block."""
        known = self._columns.get(process.process_id)
        if known is None:
            known = self._columns[process.process_id] = {
                "process_id": process.process_id,
                "exe": process.exe,
                "username": process.username,
                "computer": process.computer,
                "process_properties": canonical_json(process.properties),
            }
        return {
            **known,
            "stream_id": block.stream_id,
            "block_id": block.block_id,
            "insert_time": block.insert_time_ns,
        }

    def clock(self, process: Process, block: Block) -> TickClock:
        """A clock that is not known is estimated: from the block that the events came in, unless the view says otherwise.

        Raises:
            CorruptPayloadError: The estimate makes no sense.
        """
        clock = self._clocks.get(process.process_id)
        if clock is not None:
            return clock
        of_block = LastTiming(block.end_ticks, block.end_time_ns)
        clock = clock_of(process, self._estimates.timing_of(process) if self._estimates else of_block)
        if process.tsc_frequency > 0 or self._estimates:  # the same for every block
            self._clocks[process.process_id] = clock
        return clock


def clock_of(process: Process, timing: LastTiming) -> TickClock:
    """The clock of a process, estimated by ``timing`` if it does not say its frequency.

    Raises:
        CorruptPayloadError: The estimate makes no sense.
    """
    ticks_per_s = frequency(process.tsc_frequency, process.start_time_ns, timing.end_ticks, timing.end_time_ns)
    return TickClock(process.start_ticks, process.start_time_ns, ticks_per_s)


def canonical_json(properties: Mapping[str, str]) -> str:
    """Equal properties, equal text: the form that events' properties are decoded to as well."""
    return json.dumps(dict(properties), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


class RowCollector:
    """Rows of many small blocks in, batches of a good size out. Strings come out dictionary-encoded.

    Each batch has its own dictionaries, so that they stay as small as what the batch holds.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._columns: list[tuple[str, _Collector]] = []
        self._rows = 0
        self._text_bytes = 0

    def add(self, rows: int, columns: Mapping[str, Column]) -> Iterator[pa.RecordBatch]:
        """Take the rows of one block; yields what came before when it is enough."""
        if rows == 0:
            return
        if self._rows + rows > BATCH_ROWS and self._rows >= BATCH_ROWS // 2:
            yield from self.finish()
        if not self._columns:
            self._columns = [(column.name, _collector_of(column, columns[column.name])) for column in self._schema]
        for name, into in self._columns:
            self._text_bytes += into.add(rows, columns[name])
        self._rows += rows
        if self._rows >= BATCH_ROWS or self._text_bytes >= BATCH_TEXT_BYTES_MAX:
            yield from self.finish()

    def finish(self) -> Iterator[pa.RecordBatch]:
        """What is left."""
        if self._rows == 0:
            return
        arrays = [column.take() for _, column in self._columns]
        fields = [declared.with_type(array.type) for declared, array in zip(self._schema, arrays, strict=True)]
        self._columns, self._rows, self._text_bytes = [], 0, 0
        yield pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


class _Collector(Protocol):
    """One column of a batch that grows. A column's values are of one sort, whatever block they come from."""

    def add(self, rows: int, values: Column) -> int:
        """Take the values of one block; returns how many bytes of text are new."""
        ...

    def take(self) -> pa.Array:
        """All of them."""
        ...


class _ConstantColumn:
    """Values that are the same for all rows of a block: counted, and repeated in the end."""

    def __init__(self, declared: pa.DataType) -> None:
        self._type = declared
        self._numbers: _Numbers[Any] = _Numbers()  # strings, or numbers
        self._parts: list[int] = []
        self._rows: list[int] = []

    def add(self, rows: int, values: Column) -> int:
        if not isinstance(values, str | int):
            raise TypeError(f"expected one value for all {rows} rows, got {type(values).__name__}")
        known = len(self._numbers)
        self._parts.append(self._numbers[values])
        self._rows.append(rows)
        return len(values) if isinstance(values, str) and len(self._numbers) > known else 0

    def take(self) -> pa.Array:
        codes = np.repeat(np.array(self._parts, np.int32), self._rows)
        if pa.types.is_string(self._type):
            return dictionary_of(codes, list(self._numbers))
        return array_of(np.array(list(self._numbers), np.int64)[codes], self._type)


class _PlainColumn:
    """Numbers."""

    def __init__(self, declared: pa.DataType) -> None:
        self._type = declared
        self._parts: list[npt.NDArray[Any]] = []

    def add(self, rows: int, values: Column) -> int:
        if not isinstance(values, np.ndarray) or values.size != rows:
            raise TypeError(f"expected {rows} numbers, got {type(values).__name__}")
        self._parts.append(values)
        return 0

    def take(self) -> pa.Array:
        return array_of(_joined(self._parts), self._type)


class _TimeColumn:
    """Ticks in, times out."""

    def __init__(self, declared: pa.DataType) -> None:
        self._type = declared
        self._parts: list[Ticks] = []

    def add(self, rows: int, values: Column) -> int:
        if not isinstance(values, Ticks) or values.ticks.size != rows:
            raise TypeError(f"expected {rows} ticks, got {type(values).__name__}")
        self._parts.append(values)
        return 0

    def take(self) -> pa.Array:
        by_clock = groupby(self._parts, lambda part: part.clock)
        times = [clock.absolute_ns(_joined([part.ticks for part in parts])) for clock, parts in by_clock]
        return array_of(_joined(times), self._type)


class _TextColumn:
    """Strings that hardly repeat."""

    def __init__(self) -> None:
        self._parts: list[pa.Array] = []

    def add(self, rows: int, values: Column) -> int:
        if not isinstance(values, pa.Array) or len(values) != rows:
            raise TypeError(f"expected {rows} strings, got {type(values).__name__}")
        self._parts.append(values)
        return int(values.get_total_buffer_size())

    def take(self) -> pa.Array:
        return self._parts[0] if len(self._parts) == 1 else pa.concat_arrays(self._parts)


class _DictionaryColumn:
    """Strings that repeat: across blocks too."""

    def __init__(self) -> None:
        self._numbers: _Numbers[str] = _Numbers()
        self._parts: list[npt.NDArray[np.int32]] = []

    def add(self, rows: int, values: Column) -> int:
        if not isinstance(values, Codes) or values.codes.size != rows:
            raise TypeError(f"expected {rows} codes, got {type(values).__name__}")
        known = len(self._numbers)
        mapped = np.fromiter(map(self._numbers.__getitem__, values.values), np.int32, len(values.values))
        self._parts.append(mapped[values.codes])
        if len(self._numbers) == known:
            return 0
        return sum(len(values.values[where]) for where in np.flatnonzero(mapped >= known).tolist())

    def take(self) -> pa.Array:
        return dictionary_of(_joined(self._parts), list(self._numbers))


class _Numbers(dict[V, int]):
    """Gives each distinct value the next number when it is first asked for."""

    def __missing__(self, value: V) -> int:
        number = self[value] = len(self)
        return number


def _collector_of(declared: pa.Field, values: Column) -> _Collector:
    match values:
        case str() | int():
            return _ConstantColumn(declared.type)
        case Ticks():
            return _TimeColumn(declared.type)
        case Codes():
            return _DictionaryColumn()
        case np.ndarray():
            return _PlainColumn(declared.type)
        case _:
            return _TextColumn()


def _joined(parts: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def array_of(values: npt.NDArray[Any], declared: pa.DataType) -> pa.Array:
    """The numbers as they lie in memory, without a copy."""
    values = np.ascontiguousarray(values)
    if values.dtype.itemsize * 8 != declared.bit_width:
        raise TypeError(f"{values.dtype} is not as wide as {declared}")
    return pa.Array.from_buffers(declared, values.size, [None, pa.py_buffer(values)], 0)


def dictionary_of(codes: npt.NDArray[np.int32], values: list[str]) -> pa.Array:
    """A dictionary-encoded string array; codes are checked."""
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(values, pa.string()))
