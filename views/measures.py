"""Metric values, of one process or of all. Each block stands alone, so blocks are taken in the order they arrived."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakeflight.wire.otlp import METRICS_FORMAT
from lakeflight.wire.ticks import TickClock
from lakeflight.wire.transit.columns import Codes
from lakehouse.model import Block, BlockOrder, InstanceKind
from lakehouse.ports import BucketSource
from views.columns import PROPERTIES_FIELDS, SOURCE_FIELDS, Column, rows_of_events, text_field, time_field
from views.otlp_rows import rows_by_format

if TYPE_CHECKING:
    from lakeflight.wire.transit.metrics import MetricEvents

SCHEMA: Final = pa.schema(
    [
        *SOURCE_FIELDS,
        time_field("time"),
        text_field("target"),
        text_field("name"),
        text_field("unit"),
        pa.field("value", pa.float64(), nullable=False),
        *PROPERTIES_FIELDS,
    ]
)

_TICKS: Final = "ticks"
_SECONDS: Final = "seconds"


class Measures:
    """One row per metric event. Whole numbers of ticks become seconds."""

    view_set: Final = "measures"
    writer_version: Final = 2
    schema: Final = SCHEMA
    instance_kind: Final = InstanceKind.PROCESS
    has_global: Final = True
    stream_tag: Final = "metrics"
    block_order: Final = BlockOrder.INSERT_TIME
    begin_column: Final = "time"
    end_column: Final = "time"
    is_ordered: Final = True
    sorted_by: Final[tuple[str, ...]] = ()

    def build(self, source: BucketSource) -> Iterator[pa.RecordBatch]:
        from lakeflight.wire.otlp import records  # compiled kernels: only where blocks are decoded
        from lakeflight.wire.transit.metrics import read_metrics

        def native(blocks: Sequence[Block]) -> Iterator[pa.RecordBatch]:
            return rows_of_events(source, SCHEMA, read_metrics, _columns, blocks=blocks)

        return rows_by_format(source, SCHEMA, METRICS_FORMAT, records.read_points, native)


def _columns(events: MetricEvents, clock: TickClock) -> dict[str, Column]:
    unit, value = _ticks_to_seconds(events, clock)
    return {
        "target": events.target,
        "name": events.name,
        "unit": unit,
        "value": value,
        "properties": events.properties,
    }


def _ticks_to_seconds(events: MetricEvents, clock: TickClock) -> tuple[Codes, npt.NDArray[np.float64]]:
    """Only integers: a float that says it counts ticks is left as it is."""
    units = events.unit.values
    if _TICKS not in units:
        return events.unit, events.value
    in_ticks = np.array([unit == _TICKS for unit in units], np.bool_)
    chosen = events.integer & in_ticks[events.unit.codes]
    value, codes = events.value.copy(), events.unit.codes.copy()
    value[chosen] = clock.milliseconds(events.raw[chosen]) / 1000.0
    codes[chosen] = len(units)
    return Codes(codes, [*units, _SECONDS]), value
