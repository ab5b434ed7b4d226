"""``parse_block('block')``: the objects of one block as its program sent them."""

from __future__ import annotations

from typing import Final

from lakeflight.wire.errors import WireError
from lakeflight.wire.identifiers import canonical_uuid
from lakehouse.engine.functions.declare import Argument, RelationFunction
from lakehouse.errors import ForbiddenSqlError


def _block(text: str) -> str:
    try:
        return canonical_uuid(text)
    except WireError as error:
        raise ForbiddenSqlError(f"parse_block: '{text[:100]}' is not a valid block id") from error


FUNCTION: Final = RelationFunction(
    name="parse_block",
    arguments=(
        Argument(
            "block_id",
            "a block id",
            canonical=_block,
            canonical_sql="coalesce(CAST(try_cast({0} AS UUID) AS VARCHAR), {0})",
        ),
    ),
    documentation="Every object of one block as its program sent it, as JSON: object_index, type_name, value.",
    source="parse_block",
)
