"""``list_view_sets()``: what there is to read."""

from __future__ import annotations

from typing import Final

from lakehouse.engine.functions.declare import RelationFunction

FUNCTION: Final = RelationFunction(
    name="list_view_sets",
    arguments=(),
    documentation="The view sets, the version and the columns of each, and whether it has instances and a global one.",
    source="list_view_sets",
)
