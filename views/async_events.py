"""Begins and ends of async spans, of all threads of a process. Each block stands alone: who wants spans pairs by ``span_id``.

Spans cross threads, so all blocks of a process must be timed by one clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from lakeflight.wire.ticks import TickClock
from lakeflight.wire.transit.columns import Codes
from lakehouse.model import BlockOrder, InstanceKind
from lakehouse.ports import BucketSource
from views.columns import Column, rows_of_events, text_field, time_field

if TYPE_CHECKING:
    from lakeflight.wire.transit import async_spans

SCHEMA: Final = pa.schema(
    [
        text_field("stream_id"),
        text_field("block_id"),
        time_field("time"),
        text_field("event_type"),  # begin or end
        pa.field("span_id", pa.int64(), nullable=False),
        pa.field("parent_span_id", pa.int64(), nullable=False),
        pa.field("depth", pa.uint32(), nullable=False),
        pa.field("hash", pa.uint32(), nullable=False),  # of the call site
        text_field("name"),
        text_field("filename"),
        text_field("target"),
        pa.field("line", pa.uint32(), nullable=False),
    ]
)

_EVENT_TYPES: Final = ["begin", "end"]


class AsyncEvents:
    """One row per begin or end of an async span."""

    view_set: Final = "async_events"
    writer_version: Final = 2
    schema: Final = SCHEMA
    instance_kind: Final = InstanceKind.PROCESS
    has_global: Final = False
    stream_tag: Final = "cpu"
    block_order: Final = BlockOrder.ONE_CLOCK
    begin_column: Final = "time"
    end_column: Final = "time"
    is_ordered: Final = True
    sorted_by: Final[tuple[str, ...]] = ()

    def build(self, source: BucketSource) -> Iterator[pa.RecordBatch]:
        # compiled kernels: only where blocks are decoded
        from lakeflight.wire.transit.async_spans import read_async_spans

        return rows_of_events(source, SCHEMA, read_async_spans, _columns, one_clock=self.block_order.shares_clock)


def _columns(events: async_spans.AsyncEvents, _: TickClock) -> dict[str, Column]:
    scopes = events.scopes
    return {
        "event_type": Codes(events.kind.astype(np.int32), _EVENT_TYPES),
        "span_id": events.span_id,
        "parent_span_id": events.parent_span_id,
        "depth": events.depth,
        "hash": np.array([scope.hash for scope in scopes], np.uint32)[events.scope],
        "name": Codes(events.scope, [scope.name for scope in scopes]),
        "filename": Codes(events.scope, [scope.file for scope in scopes]),
        "target": Codes(events.scope, [scope.target for scope in scopes]),
        "line": np.array([scope.line for scope in scopes], np.uint32)[events.scope],
    }
