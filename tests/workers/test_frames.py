"""Frames in the ring: the same rows, none larger than the limit."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from lakehouse.errors import LimitExceededError
from server.workers.frames import FrameEncoder
from server.workers.protocol import FRAME_BYTES_MAX, SLOT_BYTES, SLOTS, ProtocolError
from server.workers.ring import RING_BYTES, RingReader, RingWriter
from tests.support.worker_stubs import StubEngine, table_of


class Loop:
    """A ring whose reader takes every frame at once."""

    def __init__(self) -> None:
        self.reader = RingReader()
        self.writer = RingWriter(self.reader.fd)
        self.frames: list[bytes] = []
        self._parts: list[bytes] = []
        self._next = 0

    def take(self) -> int:
        self._next = (self._next + 1) % SLOTS
        return self._next

    def emit(self, slot: int, offset: int, length: int, more: bool) -> None:
        self.reader.check(slot, offset, length)
        self._parts.append(self.reader.copy(offset, length))
        if not more:
            self.frames.append(b"".join(self._parts))
            self._parts = []

    def stream(self, schema: pa.Schema, batches: list[pa.RecordBatch]) -> list[bytes]:
        encoder = FrameEncoder(schema, self.writer, self.take, self.emit)
        self.frames = [encoder.schema_frame()]
        for batch in batches:
            encoder.write(batch)
        return self.frames


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.writer.view.release()
    loop.reader.close()


def decoded(table: pa.Table) -> pa.Table:
    columns = [c.cast(c.type.value_type) if pa.types.is_dictionary(c.type) else c for c in table.columns]
    return pa.table(columns, names=table.column_names).combine_chunks()


ROWS = 60_000
TABLES = {
    "numbers": pa.table({"a": np.arange(ROWS), "b": np.arange(ROWS) * 0.5, "c": np.arange(ROWS) % 2 == 0}),
    "nulls": pa.table({"a": pa.array([None if i % 3 else i for i in range(ROWS)]), "n": pa.nulls(ROWS)}),
    "strings": pa.table({"s": [f"{i} " * (i % 120) for i in range(ROWS)]}),
    "skewed": pa.table({"s": ["x" * (1_500_000 if i % 20_000 == 7 else 10) for i in range(ROWS)]}),
    "lists": pa.table(
        {"l": [list(range(i % 30)) for i in range(ROWS)], "s": [{"a": i, "b": "y"} for i in range(ROWS)]}
    ),
    "many columns": pa.table({f"c{i}": np.arange(3000) + i for i in range(300)}),
    "no rows": pa.table({"a": pa.array([], pa.int64())}),
}


@pytest.mark.parametrize("name", TABLES)
def test_rows_come_through_unchanged_in_frames_below_the_limit(name: str, loop: Loop) -> None:
    table = TABLES[name]

    frames = loop.stream(table.schema, table.combine_chunks().to_batches())

    assert table_of(frames).combine_chunks().equals(table.combine_chunks())
    assert max(map(len, frames)) <= FRAME_BYTES_MAX


def test_full_frames_are_well_filled(loop: Loop) -> None:
    table = TABLES["numbers"]

    frames = loop.stream(table.schema, pa.concat_tables([table] * 8).combine_chunks().to_batches())

    assert len(frames) - 1 <= 1.2 * 8 * table.nbytes / FRAME_BYTES_MAX + 1


def test_a_row_larger_than_a_frame_goes_alone_and_the_others_do_not_suffer(loop: Loop) -> None:
    table = pa.table({"n": range(1000), "s": ["x" * (9 << 20) if i == 500 else "small" for i in range(1000)]})

    frames = loop.stream(table.schema, table.to_batches())

    assert table_of(frames).combine_chunks().equals(table)
    large = [frame for frame in frames if len(frame) > FRAME_BYTES_MAX]
    assert [table_of([frames[0], frame]).num_rows for frame in large] == [1]


def test_a_row_beyond_all_reason_is_refused(loop: Loop) -> None:
    table = pa.table({"s": ["x" * (70 << 20)]})

    with pytest.raises(LimitExceededError, match="one row takes"):
        loop.stream(table.schema, table.to_batches())


def test_dictionaries_are_sent_when_they_change_and_cut_down_when_they_are_large(loop: Loop) -> None:
    batches = list(StubEngine({"memory_bytes": 1 << 28}).dictionaries())

    frames = loop.stream(batches[0].schema, batches)

    assert decoded(table_of(frames)).equals(decoded(pa.Table.from_batches(batches)))
    assert max(map(len, frames)) <= FRAME_BYTES_MAX


def test_an_unchanged_dictionary_is_sent_once(loop: Loop) -> None:
    dictionary = pa.array([f"value {i}" for i in range(50)])
    batch = pa.record_batch([pa.DictionaryArray.from_arrays(pa.array([1, 2, 3]), dictionary)], names=["d"])

    frames = loop.stream(batch.schema, [batch] * 5)

    assert len(frames) == 1 + 1 + 5
    assert table_of(frames).num_rows == 15


def test_a_schema_that_would_not_fit_is_refused(loop: Loop) -> None:
    schema = pa.schema([(f"a column with quite a long name, number {i}", pa.int64()) for i in range(10_000)])

    with pytest.raises(LimitExceededError, match="select fewer columns"):
        loop.stream(schema, [])


@pytest.mark.parametrize(
    ("slot", "offset", "length"),
    [
        (-1, 0, 10),
        (SLOTS, SLOTS * SLOT_BYTES, 10),
        (0, -1, 10),
        (0, SLOT_BYTES - 5, 10),
        (1, 0, 10),
        (0, 0, 0),
        (0, 0, -5),
        (0, 0, SLOT_BYTES + 1),
        (0, 1 << 70, 10),
    ],
)
def test_a_place_outside_its_slot_is_refused(slot: int, offset: int, length: int) -> None:
    with pytest.raises(ProtocolError):
        RingReader.check(slot, offset, length)


def test_the_ring_cannot_be_shrunk_grown_or_unsealed(loop: Loop) -> None:
    descriptor = loop.reader.fd

    for size in (0, RING_BYTES * 2):
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, size)
    assert os.fstat(descriptor).st_size == RING_BYTES


def test_an_untouched_ring_takes_no_memory_and_a_used_one_gives_it_back(loop: Loop) -> None:
    descriptor = loop.reader.fd
    assert os.fstat(descriptor).st_blocks == 0

    loop.writer.slot(2)[: 1 << 20] = b"x" * (1 << 20)
    used = os.fstat(descriptor).st_blocks * 512
    loop.writer.forget_pages()

    assert used >= 1 << 20
    assert os.fstat(descriptor).st_blocks == 0
