"""``regenerate_partitions_dry_run(…)``: what ``regenerate_partitions`` would make again."""

from __future__ import annotations

from typing import Final

from lakehouse.engine.functions.declare import RelationFunction
from lakehouse.engine.functions.materialize_partitions import STEP, VIEW_SET, WINDOW

FUNCTION: Final = RelationFunction(
    name="regenerate_partitions_dry_run",
    arguments=(VIEW_SET, *WINDOW, STEP),
    documentation="What `regenerate_partitions` would make again, with the same arguments and rows; it makes nothing.",
    source="regenerate_partitions_dry_run",
    administers=True,
)
