"""The spans of a process become the chunks of one trace for Perfetto, in the order of their files.

Nothing is kept but a chunk, a batch of spans and what is open, however long the trace: the spans of threads are not sorted,
because those of a thread are in order already. Async spans are, by slices of time: files have them in halves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakeflight.wire.perfetto import Spans, TraceWriter, track_uuid
from lakeflight.wire.perfetto.trace import TooManyLanesError
from lakehouse.engine.functions import StoredRows
from lakehouse.errors import LimitExceededError
from lakehouse.model import TimeRange, thread_name

CHUNK_BYTES_MAX: Final = 1 << 20
"""Of one row. With what is around it a message stays below 2 MiB, which clients in Go have as their limit."""

ASYNC_BEGINS_MAX: Final = 1 << 18
"""Begins of async spans that are looked up at once; with more, the time is cut in slices."""

ASYNC_PAIRS_MAX: Final = 1 << 22
"""Pairs of these. Ids that many begins and many ends share would make more of them than there are events."""

BATCH_SPANS: Final = 1 << 16
ASYNC_TRACK: Final = "Async Operations"
_ASYNC_KEY: Final = "async_track"
_TID_MAX: Final = (1 << 31) - 1
_PLACES: Final = "name, target, filename, line"

Int64s = npt.NDArray[np.int64]


def trace_chunks(rows: StoredRows) -> Iterator[Any]:
    """Record batches of one row: the number of a chunk, and its bytes.

    Raises:
        LimitExceededError: Async spans that no picture shows: too many of one id, or too many side by side.
    """
    _, types, begin, end = rows.arguments
    wanted = TimeRange(int(begin), int(end)).intersect(rows.range)
    schema = pa.schema([pa.field("chunk_id", pa.int32(), False), pa.field("chunk_data", pa.binary(), False)])
    for number, chunk in enumerate(_chunks(_packets(rows, types, wanted))):
        yield pa.record_batch([pa.array([number], pa.int32()), pa.array([chunk], pa.binary())], schema=schema)


def _packets(rows: StoredRows, types: str, wanted: TimeRange) -> Iterator[bytes]:
    writer = TraceWriter()
    process_id = rows.arguments[0]
    yield from _described(writer, rows, process_id)
    if types != "thread":
        yield writer.lanes(ASYNC_TRACK, _ASYNC_KEY)
    if not wanted.is_empty:
        if types != "async":
            yield from _threads(writer, rows, wanted)
        if types != "thread":
            yield from _async_spans(writer, rows, wanted)
    yield from writer.finish()


def _described(writer: TraceWriter, rows: StoredRows, process_id: str) -> Iterator[bytes]:
    processes = rows.table("processes").to_pylist()
    exe = next((process["exe"] for process in processes if process["process_id"] == process_id), None)
    yield writer.process(process_id, exe or "")
    streams = [stream for stream in rows.table("streams").to_pylist() if stream["process_id"] == process_id]
    for stream in sorted(streams, key=lambda stream: str(stream["stream_id"])):
        if "cpu" in (stream["tags"] or ()):
            properties = {pair["key"]: pair["value"] for pair in stream["properties"] or ()}
            name = thread_name(stream["stream_id"], properties)
            yield writer.thread(stream["stream_id"], name, _thread_id(properties.get("thread-id", "")))


def _thread_id(text: str) -> int:
    """A number of 31 bits: longer ones are told apart by their lowest."""
    return int(text) & _TID_MAX if text.isascii() and text.isdigit() and len(text) <= 20 else 0


def _threads(writer: TraceWriter, rows: StoredRows, wanted: TimeRange) -> Iterator[bytes]:
    query = (
        f'SELECT epoch_ns("begin"), epoch_ns("end"), {_PLACES}, stream_id, depth FROM {{rows}}'
        f" WHERE stream_id NOT IN ('begin', 'end') AND \"begin\" <= make_timestamp_ns({wanted.end_ns})"
        f' AND "end" >= make_timestamp_ns({wanted.begin_ns})'
    )
    for batch in rows.query(query):
        streams = pc.dictionary_encode(batch[6])
        tracks = np.array([track_uuid(stream_id) for stream_id in streams.dictionary.to_pylist()], np.uint64)
        which = streams.indices.to_numpy(zero_copy_only=False)
        yield from writer.nested(_spans(batch), tracks[which], _numbers(batch[7]))


def _spans(batch: Any) -> Spans:
    """Of a batch whose columns are begin, end, and places."""
    begins, ends, name, target, filename, line = batch.columns[:6]
    return Spans(_numbers(begins), _numbers(ends), name, target, filename, _numbers(line))


def _numbers(column: Any) -> Int64s:
    numbers: Int64s = column.to_numpy(zero_copy_only=False).astype(np.int64)
    return numbers


def _async_spans(writer: TraceWriter, rows: StoredRows, wanted: TimeRange) -> Iterator[bytes]:
    assert wanted.begin_ns is not None and wanted.end_ns is not None
    try:
        for first, last in _slices(rows, wanted.begin_ns, wanted.end_ns):
            for batch in _pairs(rows, first, last, wanted.end_ns):
                yield from writer.overlapping(_spans(batch))
    except TooManyLanesError as error:
        raise LimitExceededError(str(error)) from error


def _slices(rows: StoredRows, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Closed ranges of time, in order, with as many begins in each as are looked up at once."""
    todo = [(first, last)]
    while todo:
        first, last = todo.pop()
        counted = f"SELECT count(*) FROM {{rows}} WHERE stream_id = 'begin' AND {_between(first, last)}"
        begins = sum(batch[0][0].as_py() for batch in rows.query(counted))
        if begins > ASYNC_BEGINS_MAX and first < last:
            middle = first + (last - first) // 2
            todo += [(middle + 1, last), (first, middle)]
        elif begins:
            yield first, last


def _pairs(rows: StoredRows, first: int, last: int, latest: int) -> Iterator[Any]:
    """Async spans that begin in a slice, by their begins, the longer first."""
    begun = pa.Table.from_batches(
        list(
            rows.query(
                f'SELECT epoch_ns("begin") AS b, epoch_ns("begin") AS e, {_PLACES}, id FROM {{rows}}'
                f" WHERE stream_id = 'begin' AND {_between(first, last)}"
            )
        )
    )
    begins, ids = begun["b"].to_numpy(), begun["id"].to_numpy()
    by_id = np.argsort(ids, kind="stable")
    ids, begins = ids[by_id], begins[by_id]
    spans: list[Int64s] = [np.zeros(0, np.int64)]
    ends: list[Int64s] = [np.zeros(0, np.int64)]
    pairs = 0
    for batch in rows.query(
        f"SELECT id, epoch_ns(\"begin\") FROM {{rows}} WHERE stream_id = 'end' AND {_between(first + 1, latest)}"
    ):
        ended, times = batch[0].to_numpy(), batch[1].to_numpy()
        left = np.searchsorted(ids, ended, "left")
        counts = np.searchsorted(ids, ended, "right") - left
        pairs += int(counts.sum())
        if pairs > ASYNC_PAIRS_MAX:
            raise LimitExceededError(
                f"more than {ASYNC_PAIRS_MAX} pairs of begins and ends of async spans have equal ids: ask for a shorter time range"
            )
        which = np.repeat(left - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        times = np.repeat(times, counts)
        later = times > begins[which]
        spans.append(which[later])
        ends.append(times[later])
    which, end = np.concatenate(spans), np.concatenate(ends)
    order = np.lexsort((-end, begins[which]))
    taken, end = by_id[which[order]], end[order]
    for start in range(0, len(taken), BATCH_SPANS):
        part = slice(start, start + BATCH_SPANS)
        table = begun.take(pa.array(taken[part])).set_column(1, "e", pa.array(end[part]))
        yield table.combine_chunks().to_batches()[0]


def _between(first: int, last: int) -> str:
    return f'"begin" BETWEEN make_timestamp_ns({first}) AND make_timestamp_ns({last})'


def _chunks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Whole packets, as many as fit; one that is longer than a chunk is cut."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        if size + len(piece) > CHUNK_BYTES_MAX and size:
            yield b"".join(waiting)
            waiting, size = [], 0
        while len(piece) > CHUNK_BYTES_MAX:
            yield piece[:CHUNK_BYTES_MAX]
            piece = piece[CHUNK_BYTES_MAX:]
        waiting.append(piece)
        size += len(piece)
    if size:
        yield b"".join(waiting)
