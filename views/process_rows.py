"""How the blocks of all threads of a process become its spans: each thread by itself, and then what is async."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lakehouse.model import Block, LastTiming, Process, Stream, StreamId, thread_name
from lakehouse.ports import BucketSource
from views.async_events import AsyncEvents
from views.columns import BATCH_ROWS, dictionary_of
from views.process_spans import ASYNC_THREAD
from views.span_rows import build_rows as rows_of_thread
from views.thread_spans import ThreadSpans


def build_rows(source: BucketSource, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Rows of threads by the id of their stream, then the halves of async spans in the order of their blocks."""
    streams: dict[StreamId, list[Block]] = {}
    for block in source.blocks:
        streams.setdefault(block.stream_id, []).append(block)
    waiting: list[pa.RecordBatch] = []
    for stream_id in sorted(streams):
        blocks = streams[stream_id]
        name = thread_name(stream_id, source.stream_of(blocks[0]).properties)
        for spans in rows_of_thread(_OneThread(source, blocks), ThreadSpans.schema):
            waiting.append(_batch(schema, _all(stream_id, spans), _all(name, spans), spans.columns))
            if sum(batch.num_rows for batch in waiting) >= BATCH_ROWS:
                yield _joined(waiting)
                waiting = []
    if waiting:
        yield _joined(waiting)
    for events in AsyncEvents().build(source):
        yield _batch(schema, events["event_type"], _all(ASYNC_THREAD, events), _half(events))


def _half(events: pa.RecordBatch) -> list[pa.Array]:
    """An async event as a span that takes no time."""
    no_time = pa.array(np.zeros(events.num_rows, np.int64))
    ids = [events[name] for name in ("span_id", "parent_span_id", "depth", "hash")]
    place = [events[name] for name in ("name", "target", "filename", "line")]
    return [*ids, events["time"], events["time"], no_time, *place]


def _all(text: str, rows: pa.RecordBatch) -> pa.Array:
    return dictionary_of(np.zeros(rows.num_rows, np.int32), [text])


def _batch(schema: pa.Schema, stream: pa.Array, thread: pa.Array, columns: Sequence[pa.Array]) -> pa.RecordBatch:
    arrays = [stream, thread, *columns]
    fields = [declared.with_type(array.type) for declared, array in zip(schema, arrays, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    """One row group of what many small threads did."""
    if len(batches) == 1:
        return batches[0]
    (joined,) = pa.Table.from_batches(batches).unify_dictionaries().combine_chunks().to_batches()
    return joined


@dataclass(frozen=True, slots=True)
class _OneThread:
    """The blocks of one stream of a bucket. Implements ``BucketSource``."""

    whole: BucketSource
    blocks: Sequence[Block]

    @property
    def instance(self) -> str:
        return self.blocks[0].stream_id

    def process_of(self, block: Block) -> Process:
        return self.whole.process_of(block)

    def stream_of(self, block: Block) -> Stream:
        return self.whole.stream_of(block)

    def timing_of(self, process: Process) -> LastTiming:
        return self.whole.timing_of(process)

    def payload(self, block: Block) -> bytes:
        return self.whole.payload(block)

    def quarantine(self, block: Block, error: Exception) -> None:
        self.whole.quarantine(block, error)

    def count_repaired(self, events: int) -> None:
        self.whole.count_repaired(events)
