"""``materialize_partitions('view set', begin, end, seconds)``: partitions made ahead of the queries that would make them."""

from __future__ import annotations

from typing import Final

from lakehouse.engine.functions.declare import Argument, Moment, RelationFunction, Seconds

VIEW_SET: Final = Argument("view_set", "a view set")
WINDOW: Final = (
    Moment("begin_time", "a time", "begin of insert times"),
    Moment("end_time", "a time", "end of insert times"),
)
STEP: Final = Seconds("step", "a number of seconds", "seconds of a step")

FUNCTION: Final = RelationFunction(
    name="materialize_partitions",
    arguments=(VIEW_SET, *WINDOW, STEP),
    documentation=(
        "Makes the partitions of a view set's global instance that are not fresh, of what came between two times, step by"
        " step: a row (time, msg) for each, as it is done. For administrators; a statement of its own."
    ),
    source="materialize_partitions",
    administers=True,
)
