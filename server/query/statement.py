"""One statement to prepare or run: its text, its values, who asks, and how."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from lakehouse.model import Caller, QueryOptions


@dataclass(frozen=True, slots=True)
class Statement:
    """Values are encoded once, when the statement is made, in the form in which they travel to the engine."""

    sql: str
    values: bytes | None  # an Arrow IPC stream with one batch of one row; ``None``: nothing is bound
    caller: Caller
    options: QueryOptions


def encoded_row(values: pa.RecordBatch | None) -> bytes | None:
    """Bound values as a statement carries them."""
    if values is None:
        return None
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, values.schema) as writer:
        writer.write_batch(values)
    return bytes(sink.getvalue())
