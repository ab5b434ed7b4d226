"""What went over the network connections of a process: connections, and in them objects, their properties, and calls.

Here is what users see of it; ``views.net_rows`` makes the rows.
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
        text_field("process_id"),
        text_field("stream_id"),
        pa.field("span_id", pa.int64(), nullable=False),  # position of the event in the stream
        pa.field("parent_span_id", pa.int64(), nullable=False),  # -1: there is none
        pa.field("depth", pa.uint32(), nullable=False),
        text_field("kind"),  # connection, object, property or rpc
        text_field("name"),
        text_field("connection_name"),
        pa.field("is_outgoing", pa.bool_(), nullable=False),
        pa.field("begin_bits", pa.int64(), nullable=False),  # what had been sent of the parent before
        pa.field("end_bits", pa.int64(), nullable=False),
        pa.field("bit_size", pa.int64(), nullable=False),
        time_field("begin_time"),
        time_field("end_time"),
    ]
)


class NetSpans:
    """One row per span that ended, children before their parents."""

    view_set: Final = "net_spans"
    writer_version: Final = 1
    schema: Final = SCHEMA
    instance_kind: Final = InstanceKind.PROCESS
    has_global: Final = False
    stream_tag: Final = "net"
    block_order: Final = BlockOrder.EVENT_TIME
    begin_column: Final = "begin_time"
    end_column: Final = "end_time"
    is_ordered: Final = False  # two times of a sender, whose clock may go back
    sorted_by: Final[tuple[str, ...]] = ()

    def build(self, source: BucketSource) -> Iterator[pa.RecordBatch]:
        from views.net_rows import build_rows  # compiled kernels: only where blocks are decoded

        return build_rows(source, SCHEMA)
