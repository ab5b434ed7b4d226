"""A statement that administers the lake, as ``SELECT time, msg FROM retire_partitions(…)``: its rows as they come."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

import pyarrow as pa

from lakeflight.wire.flight_data import FrameEncoder
from lakehouse.engine import Inspection, Reference
from lakehouse.engine.functions import relation_functions


def administering_call(inspection: Inspection) -> Reference | None:
    """The call that is all of the statement; ``None``: the engine runs it."""
    called = [one for one in inspection.references if one.is_call and relation_functions()[one.relation].administers]
    return called[0] if called else None


async def administering_frames(
    schema: bytes, messages: AsyncGenerator[str, None], now_ns: Callable[[], int]
) -> AsyncIterator[bytes]:
    """A frame for each message, with the columns of the statement: those that are times, and the others, the message.

    Args:
        schema: Of the statement, as the engine has bound it: the gate lets it have these columns only.
        now_ns: The clock.
    """
    declared = pa.ipc.read_schema(pa.py_buffer(schema))
    encoder = FrameEncoder(declared)
    async with aclosing(messages):
        async for message in messages:
            columns = [
                (pa.array([now_ns()], pa.int64()) if pa.types.is_timestamp(kind) else pa.array([message])).cast(kind)
                for kind in declared.types
            ]
            for frame in encoder.frames(pa.RecordBatch.from_arrays(columns, schema=declared)):
                yield frame
