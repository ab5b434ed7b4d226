"""Metric values, of one process or of all. Each block stands alone, so blocks are taken in the order they arrived."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse.model import Block, BlockOrder, InstanceKind, Process
from lakehouse.ports import BucketSource
from views.columns import (
    PROPERTIES_FIELDS,
    SOURCE_FIELDS,
    BlockReader,
    Column,
    Decode,
    RowCollector,
    clock_of_block,
    source_columns,
    text_field,
    time_field,
)
from wire.ticks import TickClock
from wire.transit.columns import Codes
from wire.transit.layout import StreamLayout

if TYPE_CHECKING:
    from wire.transit.metrics import MetricEvents

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

    def build(self, source: BucketSource) -> Iterator[pa.RecordBatch]:
        reader = BlockReader(source)
        rows = RowCollector(SCHEMA)
        for block in source.blocks:
            process = source.process_of(block)
            columns = reader.read(block, _decoder(block, process))
            if columns is not None:
                yield from rows.add(columns["time"].size, source_columns(block, process) | columns)
        yield from rows.finish()


def _decoder(block: Block, process: Process) -> Decode[dict[str, Any]]:
    from wire.transit.metrics import read_metrics  # compiled kernels: only where blocks are decoded

    def decode(layout: StreamLayout, dependencies: bytes, objects: bytes) -> dict[str, Any]:
        events = read_metrics(layout, dependencies, objects)
        clock = clock_of_block(process, block)
        unit, value = _ticks_to_seconds(events, clock)
        columns: dict[str, Column] = {
            "time": clock.absolute_ns(events.ticks),
            "target": events.target,
            "name": events.name,
            "unit": unit,
            "value": value,
            "properties": events.properties,
        }
        return columns

    return decode


def _ticks_to_seconds(events: MetricEvents, clock: TickClock) -> tuple[Codes, npt.NDArray[np.float64]]:
    """Only integers: a float that says it counts ticks is left as it is."""
    if _TICKS not in events.unit.values:
        return events.unit, events.value
    chosen = events.integer & (events.unit.codes == events.unit.values.index(_TICKS))
    value = events.value.copy()
    value[chosen] = clock.milliseconds(events.raw[chosen]) / 1000.0
    units = list(dict.fromkeys([*events.unit.values, _SECONDS]))
    codes = events.unit.codes.copy()
    codes[chosen] = units.index(_SECONDS)
    return Codes(codes, units), value
