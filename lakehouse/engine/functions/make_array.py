"""``make_array``: a list of any number of values."""

from __future__ import annotations

from typing import Final

from lakehouse.engine.functions.declare import Rewording
from lakehouse.engine.tree import Node, arguments_of, call_of


def translate(call: Node) -> Node:
    """The engine's own."""
    return call_of("list_value", *arguments_of(call))


FUNCTION: Final = Rewording(
    signature="make_array(value ANY, …) -> ANY[]",
    documentation="A list of these values.",
    examples=(("make_array(1, 2)", "[1, 2]"),),
    translate=translate,
)
