"""``regenerate_partitions('view set', begin, end, seconds)``: partitions made again from their blocks, although they are fresh."""

from __future__ import annotations

from typing import Final

from lakehouse.engine.functions.declare import RelationFunction
from lakehouse.engine.functions.materialize_partitions import STEP, VIEW_SET, WINDOW

FUNCTION: Final = RelationFunction(
    name="regenerate_partitions",
    arguments=(VIEW_SET, *WINDOW, STEP),
    documentation=(
        "Makes the partitions of a view set's global instance again, of what came between two whole hours, step by step: a row"
        " (time, msg) for each, as it is done. Refused before anything is made if the blocks of some are not kept any more. For"
        " administrators; a statement of its own."
    ),
    source="regenerate_partitions",
    administers=True,
)
