"""``view_instance('view_set', 'instance')``: the rows of one process or stream, or of all."""

from __future__ import annotations

import re
from typing import Final

from lakeflight.wire.errors import WireError
from lakeflight.wire.identifiers import canonical_uuid
from lakehouse.engine.functions.declare import Argument, RelationFunction
from lakehouse.errors import ForbiddenSqlError

_INSTANCE_TEXT: Final = re.compile(r"[A-Za-z0-9_-]{1,255}\Z")
_UUID_TEXT: Final = re.compile(r"[0-9A-Fa-f]{32}\Z|[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\Z")


def canonical_instance(text: str) -> str:
    """One spelling per instance, before it becomes a name, a key or a path."""
    if not _INSTANCE_TEXT.match(text):
        raise ForbiddenSqlError("the instance of view_instance must be 'global' or an id")
    if _UUID_TEXT.match(text):
        try:
            return canonical_uuid(text)
        except WireError as error:
            raise ForbiddenSqlError("the instance of view_instance must be 'global' or an id") from error
    return text


FUNCTION: Final = RelationFunction(
    name="view_instance",
    arguments=(
        Argument("view_set", "a view set", is_open=False),
        Argument(
            "instance",
            "an instance",
            canonical=canonical_instance,
            canonical_sql="coalesce(CAST(try_cast({0} AS UUID) AS VARCHAR), {0})",
        ),
    ),
    documentation="Rows of one instance of a view set: of a process or a stream by its id, or of all as 'global'.",
)
