"""Rows of the catalog, as Postgres hands them over, become the relations that users know.

The rows come as CSV files that Postgres' COPY wrote from one snapshot: a file per relation, its own columns in declared
order. The declared type says how a value is written: times as integer microseconds, bytes as hexadecimal text, lists as
JSON arrays, pairs as a JSON object; NULL is an unquoted empty field. A column called ``other.column`` is in no file: it is
joined. Conversions are part of the views, so that a statement pays only for the columns it reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv

from lakehouse.engine.relations import EngineCatalog
from lakehouse.engine.sql_types import quoted, sql_type
from lakehouse.errors import InternalError

_US_MAX: Final = 9_223_372_036_854_775  # microseconds whose nanoseconds are an int64
_CSV_ROW_BYTES_MAX: Final = 16 << 20  # a stream's two type tables as hexadecimal text fit well


def own_columns(schema: Any) -> list[Any]:
    """The columns that are in a relation's own file; the others are joined."""
    return [column for column in schema if "." not in column.name]


def read_csv(name: str, schema: Any, path: Path) -> Any:
    """One file as Arrow, values as they are written in it."""
    columns = pa.schema([(column.name, _written_type(column.type)) for column in own_columns(schema)])
    if path.stat().st_size == 0:
        return columns.empty_table()
    try:
        return pa.csv.read_csv(
            path,
            read_options=pa.csv.ReadOptions(column_names=columns.names, block_size=_CSV_ROW_BYTES_MAX),
            parse_options=pa.csv.ParseOptions(newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(
                column_types=columns, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        raise InternalError(f"the snapshot of {name} is not as expected: {error}") from error


def raw_table(name: str) -> str:
    """Where the rows of one file are kept in the database; no user's text can name it."""
    return quoted(f"lakeflight_raw_{name}")


def files_of(name: str, catalog: EngineCatalog) -> tuple[str, ...]:
    """The relations whose files one relation is made of."""
    return (name, *catalog.view_sets[name].joins.values())


def select_of(name: str, catalog: EngineCatalog) -> str:
    """The SELECT of one relation over the raw tables, columns in the declared order."""
    declared = catalog.view_sets[name]
    columns = []
    for column in declared.schema:
        table, _, plain = column.name.rpartition(".")
        source = f"{quoted(table or name)}.{quoted(plain)}"
        columns.append(f"{_converted(source, column.type)} AS {quoted(column.name)}")
    rows = f"{raw_table(name)} AS {quoted(name)}"
    for key, other in declared.joins.items():
        rows += f" JOIN {raw_table(other)} AS {quoted(other)}"
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
