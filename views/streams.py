"""Streams that have at least one block, with the type tables that decode them. Answered from the catalog."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from lakehouse.catalog.tables import CatalogTable
from views.columns import properties_field, tags_field, text_field, time_field

STREAMS: Final = CatalogTable(
    name="streams",
    schema=pa.schema(
        [
            text_field("stream_id"),
            text_field("process_id", nullable=True),
            pa.field("dependencies_metadata", pa.binary()),
            pa.field("objects_metadata", pa.binary()),
            tags_field("tags"),
            properties_field("properties", nullable=True),
            time_field("insert_time", nullable=True),
            text_field("format", nullable=True),
            time_field("last_update_time", nullable=True),
        ]
    ),
    ids=("stream_id", "process_id"),
    begin_column="insert_time",
    end_column="last_update_time",
)
