"""``process_spans('process', 'both')``: the spans of all threads of a process, and its async spans in pairs."""

from __future__ import annotations

from typing import Final

from lakeflight.wire.errors import WireError
from lakeflight.wire.identifiers import canonical_uuid
from lakehouse.engine.functions.declare import Argument, RelationFunction
from lakehouse.errors import ForbiddenSqlError

SPAN_TYPES: Final = ("thread", "async", "both")


def _process(text: str) -> str:
    try:
        return canonical_uuid(text)
    except WireError as error:
        raise ForbiddenSqlError(f"the process id of process_spans must be a valid UUID, given: {text[:100]}") from error


def _types(text: str) -> str:
    if text not in SPAN_TYPES:
        raise ForbiddenSqlError(f"span_types must be 'thread', 'async', or 'both', given: {text[:100]}")
    return text


SPAN_TYPES_ARGUMENT: Final = Argument("span_types", "a type of spans", canonical=_types)

FUNCTION: Final = RelationFunction(
    name="process_spans",
    arguments=(
        Argument(
            "process_id",
            "a process id",
            canonical=_process,
            canonical_sql="coalesce(CAST(try_cast({0} AS UUID) AS VARCHAR), {0})",
        ),
        SPAN_TYPES_ARGUMENT,
    ),
    documentation="Spans of all threads of a process ('thread'), its async spans, each a row ('async'), or both ('both').",
    source="process_spans",
    select="SELECT * FROM {table} WHERE span_types = 'both' OR (stream_id = '') = (span_types = 'async')",
)
