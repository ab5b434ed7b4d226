"""Arrow IPC messages <-> ``FlightData`` frames, by hand: protobuf would copy every body twice more.

An encapsulated IPC message is a continuation marker, a length, a header (padded to 8 bytes) and a body; ``FlightData``
carries header and body as two fields. Pure: bytes in, bytes out. Uploads are taken for hostile: lengths are checked
before anything is read, compressed bodies are refused (a small one may unpack to anything), and batches are validated.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from lakeflight.wire.errors import MalformedRequestError
from lakeflight.wire.flight_sql import FLIGHT, parse

FRAME_BYTES_MAX: Final = 2 << 20  # stock Go, Python and Rust clients refuse messages above 4 MiB; 1 to 2 MiB is fastest
FRAME_OVERHEAD_BYTES: Final = 32  # field headers of one frame, at most

_CONTINUATION: Final = b"\xff\xff\xff\xff"
_PREFIX: Final = struct.Struct("<Ii")
HEADER_TAG: Final = b"\x12"  # field 2, length-delimited
BODY_TAG: Final = b"\xc2\x3e"  # field 1000, length-delimited
_END_OF_STREAM: Final = _CONTINUATION + b"\0\0\0\0"


def varint(value: int) -> bytes:
    """Protobuf's base-128 encoding of a length."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def frame(header: bytes | memoryview, body: bytes | memoryview = b"") -> bytes:
    """One ``FlightData`` message."""
    parts: list[bytes | memoryview] = [HEADER_TAG, varint(len(header)), header]
    if len(body):
        parts += [BODY_TAG, varint(len(body)), body]
    return b"".join(parts)


def message_frames(messages: bytes | memoryview) -> Iterator[bytes]:
    """Frames of encapsulated IPC messages that lie one after the other, as an IPC stream writer leaves them."""
    view, offset = memoryview(messages), 0
    while offset < len(view):
        _, header_bytes = _PREFIX.unpack_from(view, offset)
        if header_bytes == 0:
            return
        header = view[offset + _PREFIX.size : offset + _PREFIX.size + header_bytes]
        offset += _PREFIX.size + header_bytes
        body_bytes = body_length(header)
        yield frame(header, view[offset : offset + body_bytes])
        offset += body_bytes


def schema_frame(schema_message: bytes) -> bytes:
    """The first frame of a stream, from ``schema.serialize()``."""
    return next(message_frames(schema_message))


class FrameEncoder:
    """Record batches of one schema -> frames of at most ``frame_bytes_max``, split by rows.

    A single row above the limit goes alone. Dictionaries travel before the first batch and again when they change.
    """

    def __init__(self, schema: pa.Schema, *, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self._limit = frame_bytes_max - FRAME_OVERHEAD_BYTES
        self._sink = _Sink()
        self._schema_message: bytes = schema.serialize().to_pybytes()
        self._writer: Any = None
        if any(_has_dictionary(field.type) for field in schema):  # only the stream writer knows how to send those
            self._writer = pa.ipc.new_stream(pa.PythonFile(self._sink, mode="w"), schema)
        self._schema_pending = self._writer is not None

    def schema(self) -> bytes:
        return schema_frame(self._schema_message)

    def frames(self, batch: pa.RecordBatch) -> Iterator[bytes]:
        """No frame for a batch without rows."""
        for piece in _pieces(batch, self._limit):
            if self._writer is None:
                yield from message_frames(piece.serialize())
            else:
                self._writer.write_batch(piece)
                messages = message_frames(self._sink.take())
                if self._schema_pending:  # the writer begins with a schema of its own
                    next(messages)
                    self._schema_pending = False
                yield from messages


def flight_data_frames(schema: pa.Schema, batches: Sequence[pa.RecordBatch]) -> Iterator[bytes]:
    """A whole stream: the schema, then the batches."""
    encoder = FrameEncoder(schema)
    yield encoder.schema()
    for batch in batches:
        yield from encoder.frames(batch)


class _Sink:
    """A file for the IPC writer whose content is taken away after each batch."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass

    def take(self) -> bytes:
        data, self._parts = b"".join(self._parts), []
        return data


def _has_dictionary(data_type: pa.DataType) -> bool:
    if pa.types.is_dictionary(data_type):
        return True
    return any(_has_dictionary(data_type.field(i).type) for i in range(data_type.num_fields))


def _pieces(batch: pa.RecordBatch, limit: int) -> Iterator[pa.RecordBatch]:
    """Slices that fit, in order. Types whose slices share all buffers (string views) do not get smaller by cutting:
    such a batch is left whole, instead of being sent once per row."""
    todo = [(batch, pa.ipc.get_record_batch_size(batch))] if batch.num_rows else []
    while todo:
        piece, size = todo.pop()
        if size <= limit or piece.num_rows == 1:
            yield piece
            continue
        rows = max(1, min(piece.num_rows // 2, piece.num_rows * limit // size))
        halves = [(half, pa.ipc.get_record_batch_size(half)) for half in (piece.slice(rows), piece.slice(0, rows))]
        if sum(half_size for _, half_size in halves) > size + size // 2:
            yield piece
        else:
            todo += halves


@dataclass(frozen=True, slots=True)
class UploadFrame:
    """One received ``FlightData``; ``descriptor`` is the serialized one of the first frame, or empty."""

    command: bytes
    is_path: bool
    header: bytes
    body: bytes


def decode_frame(data: bytes) -> UploadFrame:
    """Take one received message apart.

    Raises:
        MalformedRequestError: It is no ``FlightData``.
    """
    message = parse(FLIGHT["FlightData"], data)
    descriptor = message.flight_descriptor
    return UploadFrame(descriptor.cmd, descriptor.type == 1, message.data_header, message.data_body)


def read_upload(frames: Sequence[UploadFrame]) -> pa.Table:
    """The table of an uploaded stream; frames without a header (pure metadata) are skipped.

    The caller bounds the bytes; this bounds what they may turn into.

    Raises:
        MalformedRequestError: No schema, no sound IPC, a compressed body, or values that do not validate.
    """
    parts: list[bytes] = []
    for received in frames:
        if not received.header:
            continue
        padding = -len(received.header) % 8
        if _is_compressed(received.header):
            raise MalformedRequestError("compressed record batches are not accepted")
        if body_length(received.header) != len(received.body) + (-len(received.body) % 8):
            raise MalformedRequestError(
                f"record batch declares {body_length(received.header)} bytes and has {len(received.body)}"
            )
        parts += [_CONTINUATION, struct.pack("<i", len(received.header) + padding), received.header, b"\0" * padding]
        parts += [received.body, b"\0" * (-len(received.body) % 8)]
    if not parts:
        raise MalformedRequestError("the stream has no schema")
    parts.append(_END_OF_STREAM)
    try:
        table = pa.ipc.open_stream(b"".join(parts)).read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise MalformedRequestError(f"not an Arrow stream: {type(error).__name__}") from error
    return table


def _table_field(header: bytes | memoryview, table: int, index: int) -> int:
    """Offset of a flatbuffer table's field in ``header``, 0 if it is absent."""
    vtable = table - struct.unpack_from("<i", header, table)[0]
    if vtable < 0:
        raise struct.error("vtable before the buffer")
    slot = 4 + 2 * index
    if slot >= struct.unpack_from("<H", header, vtable)[0]:
        return 0
    offset: int = struct.unpack_from("<H", header, vtable + slot)[0]
    return table + offset if offset else 0


def body_length(header: bytes | memoryview) -> int:
    """``Message.bodyLength`` of an IPC header.

    Raises:
        MalformedRequestError: The header is no flatbuffer.
    """
    try:
        field = _table_field(header, struct.unpack_from("<I", header)[0], 3)
        length: int = struct.unpack_from("<q", header, field)[0] if field else 0
    except struct.error as error:
        raise MalformedRequestError(f"not an IPC message header ({len(header)} bytes)") from error
    if length < 0:
        raise MalformedRequestError(f"IPC message body of {length} bytes")
    return length


def _is_compressed(header: bytes) -> bool:
    """Whether a record batch, bare or of a dictionary, says that its buffers are compressed."""
    try:
        message = struct.unpack_from("<I", header)[0]
        kind_field, union_field = _table_field(header, message, 1), _table_field(header, message, 2)
        if not kind_field or not union_field:
            return False
        kind = header[kind_field]  # MessageHeader: 1 schema, 2 dictionary batch, 3 record batch
        batch = union_field + struct.unpack_from("<I", header, union_field)[0]
        if kind == 2:
            data_field = _table_field(header, batch, 1)
            if not data_field:
                return False
            batch = data_field + struct.unpack_from("<I", header, data_field)[0]
        return kind in (2, 3) and _table_field(header, batch, 3) != 0
    except (struct.error, IndexError) as error:
        raise MalformedRequestError(f"not an IPC message header ({len(header)} bytes)") from error
