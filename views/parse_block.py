"""The objects of one block as its program sent them, each a JSON document; for ``parse_block`` and for nothing that is kept.

Unlike a view's rows these have no time and are no telemetry yet: a type that no view understands is here as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from lakeflight.wire.errors import CorruptPayloadError
from lakeflight.wire.otlp import LOGS_FORMAT, METRICS_FORMAT, TRACES_FORMAT
from lakehouse.model import Block, BlockOrder, InstanceKind
from lakehouse.ports import BucketSource
from views.columns import NATIVE_FORMAT, BlockReader, text_field, time_field
from views.otlp_rows import payload_of

if TYPE_CHECKING:
    from lakeflight.wire.transit.objects import BlockObjects

SCHEMA: Final = pa.schema(
    [
        pa.field("object_index", pa.int64(), nullable=False),  # counted over the stream
        text_field("type_name"),
        text_field("value"),  # JSON text
        time_field("time"),  # of files alone: when the block came
    ]
)


class ParseBlock:
    """One row per object."""

    view_set: Final = "parse_block"
    writer_version: Final = 1
    schema: Final = SCHEMA
    instance_kind: Final = InstanceKind.STREAM
    has_global: Final = False
    stream_tag: Final = None
    block_order: Final = BlockOrder.INSERT_TIME
    begin_column: Final = "time"
    end_column: Final = "time"
    is_ordered: Final = True
    formats: Final = (NATIVE_FORMAT, LOGS_FORMAT, METRICS_FORMAT, TRACES_FORMAT)
    sorted_by: Final[tuple[str, ...]] = ()

    def build(self, source: BucketSource) -> Iterator[pa.RecordBatch]:
        from lakeflight.wire.transit.objects import read_objects  # compiled kernels: only where blocks are decoded

        reader = BlockReader(source)
        for block in source.blocks:
            if source.stream_of(block).format == NATIVE_FORMAT:
                objects = reader.read(block, read_objects)
                parts = iter(() if objects is None else (objects,))
            else:
                parts = _records(source, block)
            first = block.object_offset
            for part in parts:
                if len(part.value):
                    yield _batch(block, first, part)
                    first += len(part.value)


def _records(source: BucketSource, block: Block) -> Iterator[BlockObjects]:
    """Those of a block of OpenTelemetry."""
    from lakeflight.wire.otlp.objects import read_objects
    from lakeflight.wire.otlp.scan import DamagedBlocksError

    payload = payload_of(source, block)
    if payload is None:
        return
    try:
        yield from read_objects(source.stream_of(block).format, payload)
    except DamagedBlocksError as error:
        source.quarantine(block, error.reasons[0])
    except CorruptPayloadError as error:
        source.quarantine(block, error)


def _batch(block: Block, first: int, objects: BlockObjects) -> pa.RecordBatch:
    rows = len(objects.value)
    indices = first + np.arange(rows, dtype=np.int64)
    times = pa.array(np.full(rows, block.insert_time_ns, np.int64)).view(pa.timestamp("ns"))
    name = objects.type_name
    fields = [field.with_type(name.type) if field.name == "type_name" else field for field in SCHEMA]
    return pa.RecordBatch.from_arrays([pa.array(indices), name, objects.value, times], schema=pa.schema(fields))
