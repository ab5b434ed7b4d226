"""The objects of one block as its program sent them, each a JSON document; for ``parse_block`` and for nothing that is kept.

Unlike a view's rows these have no time and are no telemetry yet: a type that no view understands is here as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa

from lakehouse.model import Block, BlockOrder, InstanceKind
from lakehouse.ports import BucketSource
from views.columns import NATIVE_FORMAT, BlockReader, text_field, time_field

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
    formats: Final = (NATIVE_FORMAT,)
    sorted_by: Final[tuple[str, ...]] = ()

    def build(self, source: BucketSource) -> Iterator[pa.RecordBatch]:
        from lakeflight.wire.transit.objects import read_objects  # compiled kernels: only where blocks are decoded

        reader = BlockReader(source)
        for block in source.blocks:
            objects = reader.read(block, read_objects)
            if objects is not None and len(objects.value):
                yield _batch(block, objects.type_name, objects.value)


def _batch(block: Block, type_name: pa.Array, value: pa.Array) -> pa.RecordBatch:
    indices = block.object_offset + np.arange(len(value), dtype=np.int64)
    times = pa.array(np.full(len(value), block.insert_time_ns, np.int64)).view(pa.timestamp("ns"))
    fields = [field.with_type(type_name.type) if field.name == "type_name" else field for field in SCHEMA]
    return pa.RecordBatch.from_arrays([pa.array(indices), type_name, value, times], schema=pa.schema(fields))
