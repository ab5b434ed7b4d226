"""Spans that OpenTelemetry sent, of one process. Each block stands alone, so blocks are taken in the order they arrived.

A span without both of its times or both of its ids is no row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from lakeflight.wire.otlp import TRACES_FORMAT
from lakehouse.model import BlockOrder, InstanceKind
from lakehouse.ports import BucketSource
from views.columns import SOURCE_FIELDS, text_field, time_field
from views.otlp_rows import rows_by_format

SCHEMA: Final = pa.schema(
    [
        *SOURCE_FIELDS,
        text_field("process_properties"),
        pa.field("trace_id", pa.binary(16), nullable=False),
        pa.field("span_id", pa.binary(8), nullable=False),
        pa.field("parent_span_id", pa.binary(8), nullable=True),  # null: the root of its trace
        time_field("start_time"),
        time_field("end_time"),
        pa.field("duration", pa.int64(), nullable=False),  # nanoseconds
        text_field("name"),
        text_field("kind"),
        text_field("status"),
        text_field("status_message", nullable=True),
        text_field("properties"),
        text_field("events"),  # JSON arrays of objects
        text_field("links"),
    ]
)


class OtelSpans:
    """One row per span."""

    view_set: Final = "otel_spans"
    writer_version: Final = 1
    schema: Final = SCHEMA
    instance_kind: Final = InstanceKind.PROCESS
    has_global: Final = False
    stream_tag: Final = "trace"
    block_order: Final = BlockOrder.INSERT_TIME
    begin_column: Final = "start_time"
    end_column: Final = "end_time"
    sorted_by: Final[tuple[str, ...]] = ()
    is_ordered: Final = False  # two times of a sender, who may be wrong

    def build(self, source: BucketSource) -> Iterator[pa.RecordBatch]:
        from lakeflight.wire.otlp.records import read_spans  # compiled kernels: only where blocks are decoded

        return rows_by_format(source, SCHEMA, TRACES_FORMAT, read_spans)
