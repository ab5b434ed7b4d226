"""``retire_partitions_dry_run(…)``: what ``retire_partitions`` would remove."""

from __future__ import annotations

from typing import Final

from lakehouse.engine.functions.declare import RelationFunction
from lakehouse.engine.functions.materialize_partitions import VIEW_SET, WINDOW
from lakehouse.engine.functions.retire_partitions import INSTANCE

FUNCTION: Final = RelationFunction(
    name="retire_partitions_dry_run",
    arguments=(VIEW_SET, INSTANCE, *WINDOW),
    documentation="What `retire_partitions` would remove, with the same arguments and rows; it removes nothing.",
    source="retire_partitions_dry_run",
    administers=True,
)
