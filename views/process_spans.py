"""Spans of all threads of a process, and its async spans in pairs: what ``process_spans`` answers.

An async span may begin in one hour and end in another, so files keep its halves, whose ``stream_id`` is no stream's, and
whoever reads them pairs them. ``views.process_rows`` makes the rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from lakehouse.model import BlockOrder, InstanceKind
from lakehouse.ports import BucketSource
from views.async_events import AsyncEvents
from views.columns import text_field
from views.thread_spans import ThreadSpans

SCHEMA: Final = pa.schema([text_field("stream_id"), text_field("thread_name"), *ThreadSpans.schema])
ASYNC_THREAD: Final = "async"

_PAIR: Final = (
    f"SELECT '' AS stream_id, '{ASYNC_THREAD}' AS thread_name, b.id, b.parent, b.depth, b.hash, b.\"begin\","
    ' e."begin" AS "end", epoch_ns(e."begin") - epoch_ns(b."begin") AS duration, b.name, b.target, b.filename, b.line'
    " FROM {rows} AS b JOIN {rows} AS e ON b.id = e.id"
    " WHERE b.stream_id = 'begin' AND e.stream_id = 'end' AND b.\"begin\" < e.\"begin\""
)


class ProcessSpans:
    """A row per span of a thread, and one per begin and end of an async span, to be merged."""

    view_set: Final = "process_spans"
    writer_version: Final = 1000 * ThreadSpans.writer_version + AsyncEvents.writer_version
    schema: Final = SCHEMA
    instance_kind: Final = InstanceKind.PROCESS
    has_global: Final = False
    stream_tag: Final = "cpu"
    block_order: Final = BlockOrder.EVENT_TIME
    begin_column: Final = "begin"
    end_column: Final = "end"
    is_ordered: Final = True
    sorted_by: Final[tuple[str, ...]] = ()
    merged: Final = f"SELECT * FROM {{rows}} WHERE stream_id NOT IN ('begin', 'end') UNION ALL {_PAIR}"
    reach_ns: Final = 0

    def build(self, source: BucketSource) -> Iterator[pa.RecordBatch]:
        from views.process_rows import build_rows  # compiled kernels: only where blocks are decoded

        return build_rows(source, SCHEMA)
