"""Blocks that a view set could not decode, and why: their bytes are kept, their rows are missing. From the catalog.

A block may be unreadable for one view set and fine in another. A newer writer version tries again by itself, so a row of
an older one is history. Of a block that nobody has asked a view set about there is no row.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from lakehouse.catalog.tables import CatalogTable
from views.columns import text_field, time_field

QUARANTINED_BLOCKS: Final = CatalogTable(
    name="quarantined_blocks",
    schema=pa.schema(
        [
            text_field("block_id"),
            text_field("stream_id"),
            text_field("process_id"),
            text_field("view_set"),
            pa.field("writer_version", pa.int32(), nullable=False),
            text_field("error"),
            time_field("time"),  # when the first attempt of this version failed
        ]
    ),
    ids=("block_id", "stream_id", "process_id"),
    begin_column="time",
    end_column="time",
)
