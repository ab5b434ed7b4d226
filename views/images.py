"""Images that a process sent: screenshots, plots, heat maps. Each block stands alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from lakeflight.wire.ticks import TickClock
from lakehouse.model import BlockOrder, InstanceKind
from lakehouse.ports import BucketSource
from views.columns import SOURCE_FIELDS, Column, rows_of_events, text_field, time_field

if TYPE_CHECKING:
    from lakeflight.wire.transit.images import ImageEvents

SCHEMA: Final = pa.schema(
    [
        *SOURCE_FIELDS,
        time_field("time"),
        text_field("name"),
        text_field("format"),  # as the program calls it: png
        pa.field("payload_size", pa.int64(), nullable=False),  # bytes of data
        pa.field("data", pa.binary(), nullable=False),
    ]
)


class Images:
    """One row per image."""

    view_set: Final = "images"
    writer_version: Final = 1
    schema: Final = SCHEMA
    instance_kind: Final = InstanceKind.PROCESS
    has_global: Final = False
    stream_tag: Final = "image"
    block_order: Final = BlockOrder.INSERT_TIME
    begin_column: Final = "time"
    end_column: Final = "time"
    is_ordered: Final = True
    sorted_by: Final[tuple[str, ...]] = ()

    def build(self, source: BucketSource) -> Iterator[pa.RecordBatch]:
        from lakeflight.wire.transit.images import read_images  # compiled kernels: only where blocks are decoded

        return rows_of_events(source, SCHEMA, read_images, _columns)


def _columns(events: ImageEvents, _: TickClock) -> dict[str, Column]:
    return {"name": events.name, "format": events.format, "payload_size": events.size, "data": events.data}
