"""Arrow batches -> ``FlightData`` frames, encoded where the edge will read them: in a slot of the ring.

The IPC writer writes into the slot; the two field headers of ``FlightData`` then go in front of each message's header
and body, over bytes that are no longer needed, so a frame is never copied in the worker. A batch is cut by bytes until
each frame fits; one row that does not fit goes alone, in pieces. No sockets and no waiting here: ``take`` and ``emit``
are the caller's.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from lakeflight.wire.flight_data import BODY_TAG, HEADER_TAG, body_length, varint
from lakeflight.wire.flight_data import frame as flight_data_frame
from lakehouse.errors import LimitExceededError
from server.workers.protocol import (
    FRAME_BYTES_MAX,
    INLINE_BYTES_MAX,
    SLOT_BYTES,
    SLOT_HEADROOM,
    WIDE_FRAME_BYTES_MAX,
)
from server.workers.ring import RingWriter

_PREFIX_BYTES: Final = 8  # continuation marker and length of an encapsulated message
_FIELD_HEADERS_BYTES: Final = 16  # at most 1 + 5 before the header and 2 + 5 before the body
_BATCH_BYTES_MAX: Final = FRAME_BYTES_MAX - _FIELD_HEADERS_BYTES
_SCHEMA_BYTES_MAX: Final = 512 << 10  # the writer puts the schema into every slot, before the batch
_DICTIONARY_BYTES_MAX: Final = 256 << 10  # larger dictionaries are cut down to the values that a frame's rows use


class FrameEncoder:
    """Encodes the batches of one result.

    Args:
        take: Waits for a free slot of the ring and returns its number; may raise to give up.
        emit: Tells the edge of a frame (``slot, offset, length, more``); the slot is the edge's from then on.
    """

    def __init__(
        self, schema: pa.Schema, ring: RingWriter, take: Callable[[], int], emit: Callable[[int, int, int, bool], None]
    ) -> None:
        self._schema, self._ring, self._take, self._emit = schema, ring, take, emit
        self._dictionary_columns = [i for i, field in enumerate(schema) if pa.types.is_dictionary(field.type)]
        self._dictionaries: list[Any] = []  # of the batch written last
        self._sent: dict[int, bytes] = {}  # the dictionaries that the reader has, by their place in the stream
        self._schema_message: bytes = schema.serialize().to_pybytes()
        if len(self._schema_message) > _SCHEMA_BYTES_MAX:
            raise LimitExceededError(
                f"the result's schema takes {len(self._schema_message)} bytes, the limit is {_SCHEMA_BYTES_MAX}:"
                " select fewer columns"
            )

    def schema_frame(self) -> bytes:
        """The first frame of the stream."""
        return self._whole_frames(self._schema_message)[0]

    def small_frames(self, batch: pa.RecordBatch) -> list[bytes] | None:
        """Frames of a small batch as they are, ``None`` if it belongs into the ring."""
        if batch.nbytes > INLINE_BYTES_MAX or self._dictionary_bytes(batch) > INLINE_BYTES_MAX:
            return None
        sink = pa.BufferOutputStream()
        pa.ipc.new_stream(sink, self._schema).write_batch(batch)
        return self._unsent(self._whole_frames(sink.getvalue()))

    def write(self, batch: pa.RecordBatch) -> None:
        """Send a batch through the ring, in as many frames as it takes."""
        for piece in self._pieces(batch):
            self._write_piece(piece)

    def _pieces(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Cut by bytes; offsets divisible by eight keep the validity bitmaps from being shifted."""
        todo = [batch] if batch.num_rows else []
        while todo:
            piece = todo.pop()
            if self._dictionary_bytes(piece) > _DICTIONARY_BYTES_MAX:
                piece = self._with_used_values(piece)
            size = pa.ipc.get_record_batch_size(piece) + self._dictionary_bytes(piece)
            if size <= _BATCH_BYTES_MAX or piece.num_rows == 1:
                yield piece
                continue
            parts = -(-size // _BATCH_BYTES_MAX)
            rows = -(-piece.num_rows // parts)
            rows = max(1, min(rows - rows % 8 or rows, piece.num_rows // 2))
            todo.append(piece.slice(rows))
            todo.append(piece.slice(0, rows))

    def _write_piece(self, piece: pa.RecordBatch) -> None:
        if pa.ipc.get_record_batch_size(piece) + self._dictionary_bytes(piece) > _BATCH_BYTES_MAX:
            self._write_wide_row(piece)
            return
        self._write_new_dictionaries(piece)
        slot = self._take()
        memory = self._ring.slot(slot)
        sink = pa.FixedSizeBufferWriter(pa.py_buffer(memory[SLOT_HEADROOM:]))
        pa.ipc.new_stream(sink, self._schema).write_batch(piece)
        *_, last = _messages(
            memory, SLOT_HEADROOM, SLOT_HEADROOM + sink.tell()
        )  # its schema and dictionaries are there
        start, end = _frame_in_place(memory, *last)
        self._emit(slot, slot * SLOT_BYTES + start, end - start, False)

    def _write_new_dictionaries(self, piece: pa.RecordBatch) -> None:
        """Before a slot is taken for the batch: whoever waits for a slot must hold none, or the edge could not tell
        an engine at work from one that waits for the reader."""
        dictionaries = [piece.column(i).dictionary for i in self._dictionary_columns]
        known = self._dictionaries
        if len(known) == len(dictionaries) and all(map(pa.Array.equals, dictionaries, known)):
            return
        self._dictionaries = dictionaries
        sink = pa.BufferOutputStream()
        pa.ipc.new_stream(sink, self._schema).write_batch(piece.slice(0, 0))
        for frame in self._unsent(self._whole_frames(sink.getvalue()))[:-1]:
            self._write_bytes(frame)

    def _write_wide_row(self, piece: pa.RecordBatch) -> None:
        sink = pa.BufferOutputStream()
        pa.ipc.new_stream(sink, self._schema).write_batch(piece)
        if sink.tell() > WIDE_FRAME_BYTES_MAX:
            raise LimitExceededError(f"one row takes {sink.tell()} bytes, the limit is {WIDE_FRAME_BYTES_MAX}")
        for frame in self._unsent(self._whole_frames(sink.getvalue())):
            self._write_bytes(frame)

    def _write_bytes(self, frame: bytes) -> None:
        for start in range(0, len(frame), SLOT_BYTES):
            part = frame[start : start + SLOT_BYTES]
            slot = self._take()
            self._ring.slot(slot)[: len(part)] = part
            self._emit(slot, slot * SLOT_BYTES, len(part), start + SLOT_BYTES < len(frame))

    def _whole_frames(self, messages: Any) -> list[bytes]:
        memory = memoryview(messages)
        return [_frame(memory, start, end) for start, end in _messages(memory, 0, len(memory))]

    def _unsent(self, frames: list[bytes]) -> list[bytes]:
        """Of a stream's frames (schema, dictionaries, batch) those that the reader still needs."""
        _, *dictionaries, batch = frames
        unsent = [frame for place, frame in enumerate(dictionaries) if self._sent.get(place) != frame]
        self._sent.update(enumerate(dictionaries))
        return [*unsent, batch]

    def _dictionary_bytes(self, batch: pa.RecordBatch) -> int:
        return sum(batch.column(i).dictionary.nbytes for i in self._dictionary_columns)

    def _with_used_values(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The same rows over dictionaries that hold only their values."""
        columns = batch.columns
        for i in self._dictionary_columns:
            column = columns[i]
            used = pc.drop_null(pc.unique(column.indices))
            indices = pc.index_in(column.indices, value_set=used).cast(column.type.index_type)
            columns[i] = pa.DictionaryArray.from_arrays(
                indices, column.dictionary.take(used), ordered=column.type.ordered
            )
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)


def _messages(memory: memoryview, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Bounds of the encapsulated messages that a stream writer left, one after the other."""
    while start < end:
        (header_bytes,) = struct.unpack_from("<i", memory, start + 4)
        if header_bytes == 0:  # the end-of-stream mark
            return
        body = start + _PREFIX_BYTES + header_bytes
        stop = body + body_length(memory[start + _PREFIX_BYTES : body])
        yield start, stop
        start = stop


def _frame_in_place(memory: memoryview, start: int, end: int) -> tuple[int, int]:
    """Turn the message at ``[start, end)`` into a frame that ends where it did; returns the frame's bounds.

    Only the header moves, a few bytes towards the front; what lies there is the previous message, already taken.
    """
    (header_bytes,) = struct.unpack_from("<i", memory, start + 4)
    body = start + _PREFIX_BYTES + header_bytes
    header = bytes(memory[start + _PREFIX_BYTES : body])
    prefix = b"".join((HEADER_TAG, varint(header_bytes), header, *_body_field(end - body)))
    memory[body - len(prefix) : body] = prefix
    return body - len(prefix), end


def _frame(memory: memoryview, start: int, end: int) -> bytes:
    """The message at ``[start, end)`` as a frame of its own."""
    (header_bytes,) = struct.unpack_from("<i", memory, start + 4)
    body = start + _PREFIX_BYTES + header_bytes
    return flight_data_frame(memory[start + _PREFIX_BYTES : body], memory[body:end])


def _body_field(body_bytes: int) -> tuple[bytes, ...]:
    return (BODY_TAG, varint(body_bytes)) if body_bytes else ()


if _BATCH_BYTES_MAX + _SCHEMA_BYTES_MAX + SLOT_HEADROOM + _FIELD_HEADERS_BYTES > SLOT_BYTES:
    raise ValueError("a slot must hold a schema and a full frame")
