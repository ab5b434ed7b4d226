"""How many lines were logged, by minute, process, level and target."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from views.columns import text_field, time_field
from views.log_entries import LogEntries
from views.sql_view import SqlView, time_bin

LOG_STATS: Final = SqlView(
    view_set="log_stats",
    base=LogEntries(),
    schema=pa.schema(
        [
            time_field("time_bin"),  # the begin of the minute
            text_field("process_id"),
            pa.field("level", pa.int32(), nullable=False),
            text_field("target"),
            pa.field("count", pa.int64(), nullable=False),
        ]
    ),
    select=f'SELECT {time_bin("time", 60)} AS time_bin, process_id, level, target, count(*) AS "count" FROM {{rows}} GROUP BY ALL',
    merge='SELECT time_bin, process_id, level, target, sum("count") AS "count" FROM {rows} GROUP BY ALL',
    begin_column="time_bin",
    end_column="time_bin",
    reach_s=60,
)
