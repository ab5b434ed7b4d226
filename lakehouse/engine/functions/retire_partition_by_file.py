"""``retire_partition_by_file(file_path)``: the partition in one file taken away."""

from __future__ import annotations

from typing import Final

from lakehouse.engine.functions.declare import ServerFunction

FUNCTION: Final = ServerFunction(
    signature="retire_partition_by_file(file_path VARCHAR) -> VARCHAR",
    documentation=(
        "Removes the partition in a file, by its file_path of `list_partitions()`; else as `retire_partition_by_metadata`."
    ),
)
