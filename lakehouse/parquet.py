"""Writes record batches as one Parquet file, and says what a catalog must know about it.

The settings are for files that DuckDB reads and that are written once: whole numbers and times as deltas, text and
small numbers by dictionary, statistics that allow row groups to be skipped. Nothing in the file is of Arrow, so that a
file is what its Parquet schema says and every reader sees the same types.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse.filters import COLUMNS, VALUES_MAX, ValueFilter, filter_of

ROW_GROUP_ROWS_MAX: Final = 1 << 17
"""The unit in which a reader skips rows and shares work."""

_COMPRESSION_LEVEL: Final = 1
_SPARE_DICTIONARY_VALUES: Final = 1024


@dataclass(frozen=True, slots=True)
class FileSummary:
    """True bounds over all rows, in nanoseconds."""

    rows: int
    size_bytes: int
    min_event_ns: int
    max_event_ns: int
    max_sort_key_ns: int
    filter: ValueFilter | None = None


def has_footer(path: Path) -> bool:
    """Whether the end of a file is that of a Parquet file.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        try:
            pq.read_metadata(file)
        except (pa.ArrowException, OSError):  # the latter for what is no Thrift
            return False
    return True


def write_file(
    path: Path, schema: pa.Schema, batches: Sequence[pa.RecordBatch], begin_column: str, end_column: str
) -> FileSummary:
    """Write ``batches`` as rows of ``schema``; string columns of the batches may be dictionary-encoded.

    Every batch becomes row groups of its own, so small ones make poor files.

    Raises:
        ValueError: There are no rows, a batch does not follow the schema, or a time is null.
    """
    if not batches:
        raise ValueError("a file needs rows")
    with FileWriter(path, schema, batches[0].schema.types, begin_column, end_column) as writer:
        for batch in batches:
            writer.write(batch)
    return writer.summary


class FileWriter:
    """One file, as long as its context. The types are those of all batches: text may be dictionary-encoded."""

    def __init__(
        self, path: Path, schema: pa.Schema, types: Sequence[pa.DataType], begin_column: str, end_column: str
    ) -> None:
        self._schema = pa.schema([_as_written(declared, type_) for declared, type_ in zip(schema, types, strict=True)])
        self._times = (begin_column, end_column)
        self._bounds: list[tuple[int, int, int]] = []
        self._values = _Values(schema)
        self._rows = self._size_bytes = 0
        # Arrow's own file: a Python one would need the interpreter for every page, and files are written in parallel.
        self._file = pa.OSFile(str(path), "wb")
        self._writer = pq.ParquetWriter(self._file, self._schema, **_settings(self._schema))

    def __enter__(self) -> FileWriter:
        return self

    def __exit__(self, *_: object) -> None:
        with self._file:
            self._writer.close()
            self._size_bytes = self._file.tell()

    def write(self, batch: pa.RecordBatch) -> None:
        """Rows of a few row groups, or of one.

        Raises:
            ValueError: The batch does not follow the schema, or a time is null.
        """
        _check(batch, self._schema)
        table = pa.Table.from_batches([_with_small_dictionaries(batch, self._schema)])
        groups = -(-table.num_rows // ROW_GROUP_ROWS_MAX)
        if groups == 0:
            return
        self._writer.write_table(table, row_group_size=-(-table.num_rows // groups))
        self._bounds.append(_bounds(batch, *self._times))
        self._values.add(batch)
        self._rows += table.num_rows

    @property
    def summary(self) -> FileSummary:
        """Of a file that is closed.

        Raises:
            ValueError: There are no rows.
        """
        if self._rows == 0:
            raise ValueError("a file needs rows")
        least, most, latest_begin = zip(*self._bounds, strict=True)
        return FileSummary(self._rows, self._size_bytes, min(least), max(most), max(latest_begin), self._values.filter)


def _settings(schema: pa.Schema) -> dict[str, Any]:
    """Encodings by type. Dictionary where values repeat: text, and small whole numbers; deltas for large ones.

    The writer gives a dictionary up by itself where values turn out not to repeat. For messages that costs a tenth of
    the time, and reading those that do repeat is ten times as fast. For floats it costs far more, and size too.

    Floats have no statistics: those of Parquet leave NaN out and write 0 as -0, and an engine that orders NaN above all
    numbers would skip rows, or answer with a least or greatest value that is none of the column's.
    """
    by_dictionary = [f.name for f in schema if _is_text(f.type) or f.type in _SMALL_NUMBERS]
    return {
        "version": "2.6",
        "compression": "zstd",
        "compression_level": _COMPRESSION_LEVEL,
        "use_dictionary": by_dictionary,
        "column_encoding": {f.name: _encoding(f.type) for f in schema if f.name not in by_dictionary},
        "write_statistics": [f.name for f in schema if not pa.types.is_floating(f.type)],
        "store_schema": False,
        "data_page_version": "1.0",
    }


_SMALL_NUMBERS: Final = (pa.int32(), pa.uint32())


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_dictionary(type_) or pa.types.is_string(type_))


def _encoding(type_: pa.DataType) -> str:
    if pa.types.is_int64(type_) or pa.types.is_timestamp(type_):
        return "DELTA_BINARY_PACKED"
    return "PLAIN"


def _as_written(declared: pa.Field, given: pa.DataType) -> pa.Field:
    if given == declared.type or (pa.types.is_dictionary(given) and given.value_type == declared.type):
        return declared.with_type(given)
    raise ValueError(f"column {declared.name} is {given}, not {declared.type}")


def _check(batch: pa.RecordBatch, schema: pa.Schema) -> None:
    if batch.schema.names != schema.names or batch.schema.types != schema.types:
        raise ValueError("batches of one file differ in type")
    for declared, column in zip(schema, batch.columns, strict=True):
        if not declared.nullable and column.null_count:
            raise ValueError(f"column {declared.name} has nulls")


def _with_small_dictionaries(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """A dictionary much longer than its rows (those of a larger batch) would be written in full with each file."""
    arrays = [
        column.dictionary_decode().dictionary_encode()
        if pa.types.is_dictionary(column.type) and len(column.dictionary) > len(column) + _SPARE_DICTIONARY_VALUES
        else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


class _Values:
    """The texts in those columns that a filter can cover, but of columns with too many."""

    def __init__(self, schema: pa.Schema) -> None:
        self._found: dict[str, set[str]] = {name: set() for name in COLUMNS if name in schema.names}

    def add(self, batch: pa.RecordBatch) -> None:
        for name, values in list(self._found.items()):
            distinct = pc.unique(batch.column(name))
            if len(distinct) <= VALUES_MAX:
                values.update(value for value in distinct.to_pylist() if value is not None)
            if max(len(distinct), len(values)) > VALUES_MAX:
                del self._found[name]

    @property
    def filter(self) -> ValueFilter | None:
        return filter_of(self._found)


def filter_of_file(path: Path) -> ValueFilter | None:
    """The filter of a file that was put together from parts of others."""
    metadata = pq.read_metadata(path)
    columns = [name for name in COLUMNS if name in metadata.schema.names]
    with pq.ParquetFile(path, metadata=metadata, read_dictionary=columns, pre_buffer=False) as file:
        values = _Values(file.schema_arrow)
        for batch in file.iter_batches(ROW_GROUP_ROWS_MAX, columns=columns, use_threads=False):
            values.add(batch)
    return values.filter


def _bounds(batch: pa.RecordBatch, begin_column: str, end_column: str) -> tuple[int, int, int]:
    begins = pc.min_max(batch.column(begin_column).view(pa.int64()))
    ends = pc.min_max(batch.column(end_column).view(pa.int64()))
    if begins["min"].as_py() is None or ends["min"].as_py() is None:
        raise ValueError("a row has no time")
    # Over both columns: a thread whose clock went back has spans that end before they begin.
    least = min(begins["min"].as_py(), ends["min"].as_py())
    most = max(begins["max"].as_py(), ends["max"].as_py())
    return least, most, begins["max"].as_py()
