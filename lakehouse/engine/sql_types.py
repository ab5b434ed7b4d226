"""How declared Arrow columns, names and texts are written in SQL. Refuses types that no view declares."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa

from lakehouse.errors import UnsupportedError

_SQL_NAMES: Final[dict[Any, str]] = {
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.uint8(): "UTINYINT",
    pa.uint16(): "USMALLINT",
    pa.uint32(): "UINTEGER",
    pa.uint64(): "UBIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.string(): "VARCHAR",
    pa.large_string(): "VARCHAR",
    pa.binary(): "BLOB",
    pa.large_binary(): "BLOB",
    pa.date32(): "DATE",
    pa.timestamp("ns"): "TIMESTAMP_NS",
    pa.timestamp("us"): "TIMESTAMP",
    pa.timestamp("ms"): "TIMESTAMP_MS",
    pa.timestamp("s"): "TIMESTAMP_S",
}


def quoted(name: str) -> str:
    """An identifier as SQL text."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string as SQL text."""
    return "'" + text.replace("'", "''") + "'"


def sql_type(kind: Any) -> str:
    """The DuckDB type of a declared column."""
    name = _SQL_NAMES.get(kind)
    if name is not None:
        return name
    if pa.types.is_dictionary(kind):
        return sql_type(kind.value_type)
    if pa.types.is_fixed_size_binary(kind):
        return "BLOB"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return sql_type(kind.value_type) + "[]"
    if pa.types.is_struct(kind):
        fields = ", ".join(f"{quoted(member.name)} {sql_type(member.type)}" for member in kind)
        return f"STRUCT({fields})"
    if pa.types.is_map(kind):
        return f"MAP({sql_type(kind.key_type)}, {sql_type(kind.item_type)})"
    raise UnsupportedError(f"columns of type {kind} are not supported")
