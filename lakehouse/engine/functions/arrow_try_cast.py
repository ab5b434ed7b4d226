"""``arrow_try_cast``: ``arrow_cast``, with NULL for what cannot be cast."""

from __future__ import annotations

from typing import Final

from lakehouse.engine.functions.arrow_cast import cast_of
from lakehouse.engine.functions.declare import Rewording
from lakehouse.engine.tree import Node


def translate(call: Node) -> Node:
    """``TRY_CAST`` of the value, and of what it is cut off to."""
    return cast_of(call, tries=True)


FUNCTION: Final = Rewording(
    signature="arrow_try_cast(value ANY, type VARCHAR) -> ANY",
    documentation="The value in a type by Arrow's name for it, as arrow_cast has it; NULL where it has none.",
    examples=(
        ("arrow_try_cast('12', 'Int64')", "12"),
        ("arrow_try_cast('twelve', 'Int64') IS NULL", "true"),
        ("arrow_try_cast(300.9, 'UInt8') IS NULL", "true"),
        ("arrow_try_cast(2.7, 'Int8')", "2"),
    ),
    translate=translate,
)
