"""Tables as sorted lists of whole rows: times in nanoseconds, floats by their bits, JSON text by what it means."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

Row = tuple[Any, ...]


def rows_of(table: pa.Table, columns: Sequence[str], json_columns: Iterable[str] = ()) -> list[Row]:
    """Sorted, so that two of them are equal if they hold the same rows equally often."""
    taken = [_values(table.column(name), name in json_columns) for name in columns]
    return sorted(zip(*taken, strict=True), key=repr)


def _values(column: pa.ChunkedArray, is_json: bool) -> list[Any]:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("ns")).cast(pa.int64())
    elif pa.types.is_float64(column.type):
        bits = column.combine_chunks().to_numpy(zero_copy_only=False).view(np.int64)
        nan = np.isnan(bits.view(np.float64))
        return list(np.where(nan, -1, bits).tolist())
    values: list[Any] = column.to_pylist()
    if is_json:
        return [json.dumps(json.loads(text), sort_keys=True) for text in values]
    return values


def read_files(paths: Iterable[Path], schema: pa.Schema) -> pa.Table:
    """All files as one table, in order; an empty list is an empty table."""
    tables = [pq.read_table(path) for path in paths]
    return pa.concat_tables(tables) if tables else schema.empty_table()
