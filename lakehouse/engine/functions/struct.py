"""``struct``: values under the names c0, c1 and so on."""

from __future__ import annotations

from typing import Final

from lakehouse.engine.functions.declare import Rewording
from lakehouse.engine.functions.named_struct import packed
from lakehouse.engine.tree import Node, arguments_of


def translate(call: Node) -> Node:
    """The names are those that the original gives."""
    return packed([(f"c{place}", value) for place, value in enumerate(arguments_of(call))])


FUNCTION: Final = Rewording(
    signature="struct(value ANY, …) -> STRUCT",
    documentation="A struct of these values, whose members are called c0, c1 and so on.",
    examples=(("struct(1, 'x')", "{'c0': 1, 'c1': x}"),),
    translate=translate,
)
