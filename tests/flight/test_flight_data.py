"""IPC messages <-> FlightData frames."""

from __future__ import annotations

import contextlib
import itertools
import random
import struct

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeflight.wire.errors import MalformedRequestError
from lakeflight.wire.flight_data import (
    FRAME_BYTES_MAX,
    FrameEncoder,
    UploadFrame,
    body_length,
    decode_frame,
    flight_data_frames,
    frame,
    read_upload,
    schema_frame,
    varint,
)
from lakeflight.wire.flight_sql import FLIGHT, parse


def read_back(frames: list[bytes]) -> pa.Table:
    return read_upload([decode_frame(data) for data in frames])


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_a_frame_is_what_protobuf_would_write(header: bytes, body: bytes) -> None:
    parsed = parse(FLIGHT["FlightData"], frame(header, body))

    assert (parsed.data_header, parsed.data_body) == (header, body)


@pytest.mark.parametrize("value", [0, 127, 128, 300, 2**32])
def test_varints(value: int) -> None:
    encoded = varint(value)

    assert sum((byte & 0x7F) << 7 * i for i, byte in enumerate(encoded)) == value


ROWS = 60_000
WIDE = pa.record_batch({f"c{i}": pa.array(range(ROWS // 20), pa.int64()) for i in range(300)})
TEXT = ["x" * (i % 300) for i in range(ROWS)]


@pytest.mark.parametrize(
    "batch",
    [
        WIDE,
        pa.record_batch({"a": pa.array(range(500_000))}),
        pa.record_batch({"s": TEXT}),
        pa.record_batch({"s": pa.array(TEXT).dictionary_encode(), "n": pa.array(range(ROWS))}),
        pa.record_batch({"s": [["a", None], []] * 500}),
    ],
    ids=["wide", "narrow", "strings", "dictionary", "lists"],
)
def test_streams_are_cut_to_frames_and_come_back(batch: pa.RecordBatch) -> None:
    frames = list(flight_data_frames(batch.schema, [batch]))

    assert max(len(data) for data in frames) <= FRAME_BYTES_MAX
    assert read_back(frames).equals(pa.Table.from_batches([batch]))


def test_one_huge_row_goes_alone() -> None:
    batch = pa.record_batch({"s": ["small", "x" * (5 << 20), "small"]})

    frames = list(flight_data_frames(batch.schema, [batch]))

    assert [len(data) > FRAME_BYTES_MAX for data in frames] == [False, False, True, False]
    assert read_back(frames).equals(pa.Table.from_batches([batch]))


@pytest.mark.parametrize("rows", [12_000, ROWS])
def test_views_share_their_buffers_and_are_not_multiplied(rows: int) -> None:
    batch = pa.record_batch({"v": pa.array(TEXT[:rows], pa.string_view())})

    frames = list(flight_data_frames(batch.schema, [batch]))

    assert sum(len(data) for data in frames) < 2 * batch.nbytes
    assert read_back(frames).equals(pa.Table.from_batches([batch]))


def test_dictionaries_that_change_are_sent_again() -> None:
    batches = [pa.record_batch({"s": pa.array(words).dictionary_encode()}) for words in (["a", "b"], ["a", "b"], ["c"])]

    frames = list(flight_data_frames(batches[0].schema, batches))

    assert len(frames) == 1 + 2 + 1 + 2  # schema; dictionary and batch; batch; dictionary and batch
    assert read_back(frames).column("s").to_pylist() == ["a", "b", "a", "b", "c"]


def test_no_rows_give_the_schema_alone() -> None:
    schema = pa.schema([pa.field("a", pa.int64(), nullable=False)])

    frames = list(flight_data_frames(schema, [pa.record_batch({"a": pa.array([], pa.int64())}, schema=schema)]))

    assert frames == [schema_frame(schema.serialize().to_pybytes())]
    assert read_back(frames).schema == schema


@settings(max_examples=50)
@given(st.lists(st.one_of(st.none(), st.text(max_size=20)), max_size=50), st.booleans(), st.integers(600, 4000))
def test_any_strings_come_back(values: list[str | None], dictionary: bool, limit: int) -> None:
    column = pa.array(values, pa.string())
    batch = pa.record_batch({"s": column.dictionary_encode() if dictionary else column})
    encoder = FrameEncoder(batch.schema, frame_bytes_max=limit)

    table = read_back([encoder.schema(), *encoder.frames(batch)])

    assert table.column("s").cast(pa.string()).to_pylist() == values


def upload(batch: pa.RecordBatch, **options: object) -> list[UploadFrame]:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_batch(batch)
    received = []
    for message in pa.ipc.MessageReader.open_stream(sink.getvalue()):
        body = b"" if message.body is None else message.body.to_pybytes()
        received.append(UploadFrame(b"", False, message.metadata.to_pybytes(), body))
    return received


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
@pytest.mark.parametrize("dictionary", [False, True])
def test_compressed_uploads_are_refused(codec: str, dictionary: bool) -> None:
    column = pa.array(["bomb"] * 10_000)
    batch = pa.record_batch({"a": column.dictionary_encode() if dictionary else column})

    assert read_upload(upload(batch)).num_rows == 10_000
    with pytest.raises(MalformedRequestError, match="compressed"):
        read_upload(upload(batch, compression=codec))


def test_an_upload_without_schema_is_malformed() -> None:
    batch = pa.record_batch({"a": [1]})

    for frames in ([], [UploadFrame(b"", False, b"", b"")], upload(batch)[1:]):
        with pytest.raises(MalformedRequestError):
            read_upload(frames)


def test_body_lengths_must_agree() -> None:
    schema, batch = upload(pa.record_batch({"a": [1, 2, 3]}))

    with pytest.raises(MalformedRequestError, match="bytes"):
        read_upload([schema, UploadFrame(b"", False, batch.header, batch.body[:-8])])


def test_mangled_uploads_are_refused_or_read_but_never_crash() -> None:
    frames = upload(pa.record_batch({"a": [1, 2, 3], "s": ["x", None, "z"]}))
    rng = random.Random(7)

    refused = 0
    for index, _ in itertools.product(range(len(frames)), range(400)):
        header = bytearray(frames[index].header)
        header[rng.randrange(len(header))] = rng.randrange(256)
        mangled = [*frames]
        mangled[index] = UploadFrame(b"", False, bytes(header), frames[index].body)
        try:
            read_upload(mangled).validate(full=True)
        except MalformedRequestError:
            refused += 1

    assert refused > 100


@given(st.binary(max_size=64))
def test_any_header_has_a_length_or_is_malformed(header: bytes) -> None:
    with contextlib.suppress(MalformedRequestError):
        assert body_length(header) >= 0


def test_a_header_with_a_negative_body_is_malformed() -> None:
    header = bytearray(upload(pa.record_batch({"a": [1]}))[1].header)
    position = bytes(header).index(struct.pack("<q", body_length(bytes(header))))
    header[position : position + 8] = struct.pack("<q", -8)

    with pytest.raises(MalformedRequestError):
        body_length(bytes(header))
