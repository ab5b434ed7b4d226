"""What ``retire_partition_by_metadata`` has the server do; an empty hash means every version."""

from __future__ import annotations

from typing import Final

from lakehouse.engine.functions.declare import ServerFunction

FUNCTION: Final = ServerFunction(
    signature=(
        "lakeflight_retire_partitions(view_set VARCHAR, instance VARCHAR, begin_insert_time TIMESTAMP_NS,"
        " end_insert_time TIMESTAMP_NS, file_schema_hash BLOB) -> VARCHAR"
    ),
    documentation="Partitions of one range of insert time are taken away.",
)
