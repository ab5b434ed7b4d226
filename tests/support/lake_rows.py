"""The rows of a view instance as a multiset that can be compared: every column, exact values."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.model import EVERYTHING, TimeRange
from lakehouse.ports import View
from tests.support.materializer_lake import Lake


async def rows_of(lake: Lake, view: View, instance: str, wanted: TimeRange = EVERYTHING) -> Counter[tuple[Any, ...]]:
    """What all files hold that a reader of ``wanted`` is given."""
    fresh = await lake.materializer().ensure(view, instance, wanted)
    async with lake.store.localize([partition.key for partition in fresh.partitions]) as paths:
        tables = [pq.read_table(path) for path in paths]
    return counted(tables)


def counted(tables: list[pa.Table]) -> Counter[tuple[Any, ...]]:
    """Times and floats by their bits: nanoseconds stay, and NaN is itself."""
    found: Counter[tuple[Any, ...]] = Counter()
    for table in tables:
        columns = [_exact(column).to_pylist() for column in table.columns]
        found.update(zip(*(map(_hashable, column) for column in columns), strict=True))
    return found


def _exact(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_timestamp(column.type) or column.type == pa.float64():
        return pa.chunked_array([chunk.view(pa.int64()) for chunk in column.chunks], pa.int64())
    return column


def _hashable(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_hashable, value))
    if isinstance(value, dict):
        return tuple((key, _hashable(item)) for key, item in value.items())
    return value
