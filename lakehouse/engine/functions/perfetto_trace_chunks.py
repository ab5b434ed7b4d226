"""``perfetto_trace_chunks('process', 'both', begin, end)``: the spans of a process as a trace that Perfetto opens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from lakeflight.wire.errors import WireError
from lakeflight.wire.identifiers import canonical_uuid
from lakehouse.engine.functions.declare import Argument, MadeRows, Moment, RelationFunction, StoredRows
from lakehouse.engine.functions.process_spans import SPAN_TYPES_ARGUMENT


def _process(text: str) -> str:
    """One spelling of what is an id. What is none names no process, which the source says: it is looked at last."""
    try:
        return canonical_uuid(text)
    except WireError:
        return text


def _make(rows: StoredRows) -> Iterator[Any]:
    from lakehouse.engine.traces import trace_chunks  # compiled kernels: only where spans are read

    return trace_chunks(rows)


FUNCTION: Final = RelationFunction(
    name="perfetto_trace_chunks",
    arguments=(
        Argument(
            "process_id",
            "a process id",
            canonical=_process,
            canonical_sql="coalesce(CAST(try_cast({0} AS UUID) AS VARCHAR), {0})",
        ),
        SPAN_TYPES_ARGUMENT,
        Moment("begin_time", "a time", "start time"),
        Moment("end_time", "a time", "end time"),
    ),
    documentation=(
        "The spans of a process between two times as a trace for Perfetto: chunk_id, counted from 0, and chunk_data, in this"
        " order. One after the other they are the file. Of threads ('thread') every span that overlaps the time, of async"
        " spans ('async') those that lie in it; or both ('both')."
    ),
    source="perfetto_trace_chunks",
    made=MadeRows(
        _make,
        {"processes": ("process_id", "exe"), "streams": ("stream_id", "process_id", "tags", "properties")},
    ),
)
