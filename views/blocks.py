"""Every block that was received, with its stream's and its process's metadata. Answered from the catalog.

A dot in a name is part of the name: in SQL such a column is quoted. What stands before it is the view that it is of.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from lakehouse.catalog.tables import CatalogTable
from views.columns import properties_field, tags_field, text_field, time_field
from views.processes import PROCESSES
from views.streams import STREAMS


def _number(name: str, width: pa.DataType | None = None) -> pa.Field:
    return pa.field(name, width or pa.int64(), nullable=False)


BLOCKS: Final = CatalogTable(
    name="blocks",
    schema=pa.schema(
        [
            text_field("block_id"),
            text_field("stream_id"),
            text_field("process_id"),
            time_field("begin_time"),
            _number("begin_ticks"),  # since the process's start_ticks
            time_field("end_time"),
            _number("end_ticks"),
            _number("nb_objects", pa.int32()),
            _number("object_offset"),
            _number("payload_size"),
            time_field("insert_time"),
            pa.field("streams.dependencies_metadata", pa.binary(), nullable=False),
            pa.field("streams.objects_metadata", pa.binary(), nullable=False),
            tags_field("streams.tags"),
            properties_field("streams.properties"),
            time_field("streams.insert_time"),
            text_field("streams.format"),
            time_field("processes.start_time"),
            _number("processes.start_ticks"),
            _number("processes.tsc_frequency"),
            text_field("processes.exe"),
            text_field("processes.username"),
            text_field("processes.realname"),
            text_field("processes.computer"),
            text_field("processes.distro"),
            text_field("processes.cpu_brand"),
            time_field("processes.insert_time"),
            text_field("processes.parent_process_id"),
            properties_field("processes.properties"),
        ]
    ),
    ids=("block_id", "stream_id", "process_id"),
    begin_column="begin_time",
    end_column="insert_time",
    joins={"stream_id": STREAMS, "process_id": PROCESSES},
)
