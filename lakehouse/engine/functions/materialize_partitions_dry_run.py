"""``materialize_partitions_dry_run(…)``: what ``materialize_partitions`` would make."""

from __future__ import annotations

from typing import Final

from lakehouse.engine.functions.declare import RelationFunction
from lakehouse.engine.functions.materialize_partitions import STEP, VIEW_SET, WINDOW

FUNCTION: Final = RelationFunction(
    name="materialize_partitions_dry_run",
    arguments=(VIEW_SET, *WINDOW, STEP),
    documentation="What `materialize_partitions` would make, with the same arguments and rows; it makes nothing.",
    source="materialize_partitions_dry_run",
    administers=True,
)
