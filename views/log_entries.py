"""Log lines, of one process or of all. Each block stands alone, so blocks are taken in the order they arrived."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from lakeflight.wire.otlp import LOGS_FORMAT
from lakeflight.wire.ticks import TickClock
from lakehouse.model import Block, BlockOrder, InstanceKind
from lakehouse.ports import BucketSource
from views.columns import PROPERTIES_FIELDS, SOURCE_FIELDS, Column, rows_of_events, text_field, time_field
from views.otlp_rows import rows_by_format

if TYPE_CHECKING:
    from lakeflight.wire.transit.logs import LogEvents

SCHEMA: Final = pa.schema(
    [
        *SOURCE_FIELDS,
        time_field("time"),
        text_field("target"),
        pa.field("level", pa.int32(), nullable=False),  # 1 fatal, 2 error, 3 warning, 4 info, 5 debug, 6 trace
        text_field("msg"),
        *PROPERTIES_FIELDS,
    ]
)


class LogEntries:
    """One row per log event."""

    view_set: Final = "log_entries"
    writer_version: Final = 1
    schema: Final = SCHEMA
    instance_kind: Final = InstanceKind.PROCESS
    has_global: Final = True
    stream_tag: Final = "log"
    block_order: Final = BlockOrder.INSERT_TIME
    begin_column: Final = "time"
    end_column: Final = "time"
    is_ordered: Final = True
    sorted_by: Final[tuple[str, ...]] = ()

    def build(self, source: BucketSource) -> Iterator[pa.RecordBatch]:
        from lakeflight.wire.otlp import records  # compiled kernels: only where blocks are decoded
        from lakeflight.wire.transit.logs import read_logs

        def native(blocks: Sequence[Block]) -> Iterator[pa.RecordBatch]:
            return rows_of_events(source, SCHEMA, read_logs, _columns, blocks=blocks)

        return rows_by_format(source, SCHEMA, LOGS_FORMAT, records.read_logs, native)


def _columns(events: LogEvents, _: TickClock) -> dict[str, Column]:
    return {"target": events.target, "level": events.level, "msg": events.msg, "properties": events.properties}
