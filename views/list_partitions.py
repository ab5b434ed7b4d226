"""The files that views are kept in, one row each, of every instance and version. From the catalog."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from lakehouse.catalog.tables import CatalogTable
from views.columns import tags_field, text_field, time_field


def _number(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


LIST_PARTITIONS: Final = CatalogTable(
    name="list_partitions",
    schema=pa.schema(
        [
            text_field("view_set_name"),
            text_field("view_instance_id"),
            time_field("begin_insert_time"),
            time_field("end_insert_time"),
            time_field("min_event_time", nullable=True),  # rounded outward to microseconds, as is the next
            time_field("max_event_time", nullable=True),
            time_field("updated"),
            text_field("file_path", nullable=True),  # key in the store; NULL: no rows
            _number("file_size", pa.int64()),
            pa.field("file_schema_hash", pa.binary(), nullable=False),
            pa.field("source_data_hash", pa.binary(), nullable=False),
            _number("num_rows", pa.int64()),
            _number("partition_format_version", pa.int32()),
            tags_field("sort_order"),
            time_field("max_sort_key_time", nullable=True),
        ]
    ),
    ids=(),
    begin_column="begin_insert_time",
    end_column="end_insert_time",
)
