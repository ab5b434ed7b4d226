"""Rows of the catalog, as Postgres hands them over, become the relations that users know.

The rows come as CSV files that Postgres' COPY wrote from one snapshot: a file per relation, with those of its own columns
that the statement can read, under their names. The declared type says how a value is written: times as integer
microseconds, bytes as hexadecimal text, lists as JSON arrays, pairs as a JSON object; NULL is an unquoted empty field. A
column called ``other.column`` is in no file: it is joined. Every row has one in each relation that it may be joined with, so
nothing is joined for columns that are not read. Conversions are part of the views, so that a statement pays only for the
columns it reads.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv

from lakehouse.engine.names import raw_table
from lakehouse.engine.relations import EngineCatalog
from lakehouse.engine.sql_types import quoted, sql_type
from lakehouse.errors import InternalError

_US_MAX: Final = 9_223_372_036_854_775  # microseconds whose nanoseconds are an int64
_CSV_BLOCK_BYTES: Final = 16 << 20  # read at once; a stream's two type tables as hexadecimal text fit well …
_CSV_BLOCK_BYTES_MAX: Final = (1 << 31) - 1  # … but a row has no limit of its own; this is the reader's, an int32
_CSV_GROWTH: Final = 8


def own_columns(schema: Any) -> list[Any]:
    """The columns that are in a relation's own file; the others are joined."""
    return [column for column in schema if "." not in column.name]


def read_csv(name: str, schema: Any, snapshot: Path | bytes) -> Any:
    """One file as Arrow, values as they are written in it."""
    columns = pa.schema([(column.name, _written_type(column.type)) for column in own_columns(schema)])
    size = len(snapshot) if isinstance(snapshot, bytes) else snapshot.stat().st_size
    block_bytes = _CSV_BLOCK_BYTES
    while True:
        try:
            rows = _read_csv(snapshot, columns, block_bytes)
            break
        except pa.ArrowInvalid as error:
            # A row that is longer than a block is refused, in words that are not its own. The catalog limits what
            # it writes for a statement, so a block that holds all of it is bounded as well.
            if block_bytes >= min(size, _CSV_BLOCK_BYTES_MAX):
                raise InternalError(f"the snapshot of {name} is not as expected: {error}") from error
        block_bytes = min(_CSV_GROWTH * block_bytes, _CSV_BLOCK_BYTES_MAX)
    unknown = set(rows.column_names) - set(columns.names)
    if unknown:
        raise InternalError(f"the snapshot of {name} has a column {sorted(unknown)[0]!r}")
    return rows


def _read_csv(snapshot: Path | bytes, columns: Any, block_bytes: int) -> Any:
    is_small = isinstance(snapshot, bytes)
    return pa.csv.read_csv(
        pa.BufferReader(snapshot) if is_small else snapshot,
        read_options=pa.csv.ReadOptions(block_size=block_bytes, use_threads=not is_small),
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(
            column_types=columns, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    )


def columns_of(name: str, schema: Any, joins: Mapping[str, str], read: Collection[str] | None) -> dict[str, set[str]]:
    """The columns of each file that one relation needs, if nothing but ``read`` is read of it.

    Args:
        joins: Its id columns, and the relations that describe them.  read: Lower-case names; ``None``: any.
    """
    needed: dict[str, set[str]] = {name: set()}
    keys = {other: key for key, other in joins.items()}
    for column in schema.names:
        if read is None or column.lower() in read:
            table, _, plain = column.rpartition(".")
            needed.setdefault(table or name, set()).add(plain)
    for other in needed.keys() - {name}:
        needed[other].add(keys[other])
        needed[name].add(keys[other])
    return needed


def select_of(name: str, catalog: EngineCatalog, needed: Mapping[str, Collection[str]]) -> str:
    """The SELECT of one relation over the raw tables, columns in the declared order; those not needed are NULL."""
    declared = catalog.view_sets[name]
    columns = []
    for column in declared.schema:
        table, _, plain = column.name.rpartition(".")
        if plain in needed.get(table or name, ()):
            value = _converted(f"{quoted(table or name)}.{quoted(plain)}", column.type)
        else:
            value = f"CAST(NULL AS {sql_type(column.type)})"
        columns.append(f"{value} AS {quoted(column.name)}")
    rows = f"{quoted(raw_table(name))} AS {quoted(name)}"
    for key, other in declared.joins.items():
        if other in needed:
            rows += f" JOIN {quoted(raw_table(other))} AS {quoted(other)}"
            rows += f" ON {quoted(name)}.{quoted(key)} = {quoted(other)}.{quoted(key)}"
    return f"SELECT {', '.join(columns)} FROM {rows}"


def _written_type(kind: Any) -> Any:
    if pa.types.is_timestamp(kind):
        return pa.int64()
    return kind if pa.types.is_integer(kind) else pa.string()


def _converted(source: str, kind: Any) -> str:
    if pa.types.is_timestamp(kind):  # clamped: ingestion refuses times beyond; a foreign row must not fail every query
        clamped = f"greatest(least({source}, {_US_MAX}), -{_US_MAX})"  # of NULL and a number it is the number
        return f"CASE WHEN {source} IS NOT NULL THEN make_timestamp_ns({clamped} * 1000) END"
    if pa.types.is_binary(kind):
        return f"unhex({source})"
    if not pa.types.is_list(kind):
        return source
    values = f"CAST({source} AS JSON)"
    if pa.types.is_struct(kind.value_type):
        values = f"map_entries(CAST({values} AS MAP(VARCHAR, VARCHAR)))"
    return f"CAST({values} AS {sql_type(kind)})"
