"""``list_partitions()``: the files that views are kept in."""

from __future__ import annotations

from typing import Final

from lakehouse.engine.functions.declare import RelationFunction

FUNCTION: Final = RelationFunction(
    name="list_partitions",
    arguments=(),
    documentation="The partitions of all view instances: what they hold, when it came, where it lies.",
    source="list_partitions",
)
