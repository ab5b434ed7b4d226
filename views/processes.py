"""Processes that have sent at least one block, with the latest of what they sent. Answered from the catalog."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from lakehouse.catalog.tables import CatalogTable
from views.columns import properties_field, text_field, time_field

PROCESSES: Final = CatalogTable(
    name="processes",
    schema=pa.schema(
        [
            text_field("process_id"),
            text_field("exe", nullable=True),
            text_field("username", nullable=True),
            text_field("realname", nullable=True),
            text_field("computer", nullable=True),
            text_field("distro", nullable=True),
            text_field("cpu_brand", nullable=True),
            pa.field("tsc_frequency", pa.int64()),  # 0 = unknown
            time_field("start_time", nullable=True),
            pa.field("start_ticks", pa.int64()),
            time_field("insert_time", nullable=True),
            text_field("parent_process_id", nullable=True),  # empty = none
            properties_field("properties", nullable=True),
            time_field("last_update_time", nullable=True),
            pa.field("last_block_end_ticks", pa.int64()),
            time_field("last_block_end_time", nullable=True),
        ]
    ),
    ids=("process_id",),
    begin_column="insert_time",
    end_column="last_update_time",
)
