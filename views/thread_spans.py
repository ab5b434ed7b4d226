"""Spans of one thread: who called whom, when, for how long.

Here is what users see of them; ``views.span_rows`` makes the rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from lakehouse.model import BlockOrder, InstanceKind
from lakehouse.ports import BucketSource
from views.columns import text_field, time_field

SCHEMA: Final = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),  # position of the event in the thread; -1 the synthetic root
        pa.field("parent", pa.int64(), nullable=False),
        pa.field("depth", pa.uint32(), nullable=False),
        pa.field("hash", pa.uint32(), nullable=False),  # of the call site
        time_field("begin"),
        time_field("end"),
        pa.field("duration", pa.int64(), nullable=False),  # ns
        text_field("name"),
        text_field("target"),
        text_field("filename"),
        pa.field("line", pa.uint32(), nullable=False),
    ]
)


class ThreadSpans:
    """One row per span, parents before their children, ``begin`` never going back."""

    view_set: Final = "thread_spans"
    writer_version: Final = 3
    schema: Final = SCHEMA
    instance_kind: Final = InstanceKind.STREAM
    has_global: Final = False
    stream_tag: Final = None
    block_order: Final = BlockOrder.EVENT_TIME
    begin_column: Final = "begin"
    end_column: Final = "end"
    is_ordered: Final = True
    sorted_by: Final[tuple[str, ...]] = ("begin",)

    def build(self, source: BucketSource) -> Iterator[pa.RecordBatch]:
        from views.span_rows import build_rows  # compiled kernels: only where blocks are decoded

        return build_rows(source, SCHEMA)
