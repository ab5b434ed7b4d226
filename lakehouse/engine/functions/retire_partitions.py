"""``retire_partitions('view set', 'instance', begin, end)``: partitions taken away, to be made again when somebody asks."""

from __future__ import annotations

from typing import Final

from lakehouse.engine.functions.declare import Argument, RelationFunction
from lakehouse.engine.functions.materialize_partitions import VIEW_SET, WINDOW

INSTANCE: Final = Argument("instance", "an instance")

FUNCTION: Final = RelationFunction(
    name="retire_partitions",
    arguments=(VIEW_SET, INSTANCE, *WINDOW),
    documentation=(
        "Removes the partitions of an instance, of every version, with insert times inside of a window: a row (time, msg) for"
        " each range of them, as it is done. A query that reads it makes them again from their blocks; those whose blocks are"
        " not kept any more stay. For administrators; a statement of its own."
    ),
    source="retire_partitions",
    administers=True,
)
