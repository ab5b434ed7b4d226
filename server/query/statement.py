"""One statement to prepare or run: its text, its values, who asks, and how."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from lakehouse.model import Caller, QueryOptions


@dataclass(frozen=True, slots=True)
class BoundValues:
    """Values for a statement's parameters, one execution a row. Encoded once, in the form in which they travel from the
    client's handle to the engine; in between nobody looks at them."""

    encoded: bytes  # an Arrow IPC stream with one batch, a column per parameter
    rows: int

    @classmethod
    def of(cls, values: pa.RecordBatch) -> BoundValues:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, values.schema) as writer:
            writer.write_batch(values)
        return cls(sink.getvalue().to_pybytes(), values.num_rows)

    @property
    def batch(self) -> pa.RecordBatch:
        return pa.ipc.open_stream(self.encoded).read_next_batch()

    @property
    def first(self) -> BoundValues | None:
        """The values of the first execution, if there is one."""
        return next(iter(self), None)

    def __iter__(self) -> Iterator[BoundValues]:
        """The values of each execution."""
        if self.rows == 1:
            yield self
            return
        batch = self.batch
        for row in range(self.rows):
            yield BoundValues.of(batch.slice(row, 1))


@dataclass(frozen=True, slots=True)
class Statement:
    """One execution."""

    sql: str
    values: BoundValues | None  # of one row; ``None``: nothing is bound
    caller: Caller
    options: QueryOptions
