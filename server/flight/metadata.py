"""Results of the metadata commands: exact schemas, names, order and nullability, which ADBC compares.

Pure: tables and a command in, a record batch out. There is one catalog with one schema; tables have no keys.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, assert_never

import pyarrow as pa

from lakeflight.wire.flight_sql import (
    GetCatalogs,
    GetCrossReference,
    GetDbSchemas,
    GetExportedKeys,
    GetImportedKeys,
    GetPrimaryKeys,
    GetSqlInfo,
    GetTables,
    GetTableTypes,
    GetXdbcTypeInfo,
    MetadataCommand,
)
from server.flight.sessions import CATALOG, SCHEMA
from server.flight.sql_info import SQL_INFO_SCHEMA, Answer, sql_info_batch
from server.query.ports import TableDescription

TABLE_TYPES: Final = ("TABLE", "VIEW")
_FIELD_METADATA: Final = "ARROW:FLIGHT:SQL:"


def _schema(*columns: tuple[str, pa.DataType]) -> pa.Schema:
    """A name that ends in ``!`` is not null."""
    return pa.schema([pa.field(name.rstrip("!"), kind, nullable=not name.endswith("!")) for name, kind in columns])


_UTF8, _INT32, _BOOL, _UINT8 = pa.string(), pa.int32(), pa.bool_(), pa.uint8()
CATALOGS: Final = _schema(("catalog_name!", _UTF8))
DB_SCHEMAS: Final = _schema(("catalog_name", _UTF8), ("db_schema_name!", _UTF8))
TABLES: Final = _schema(
    ("catalog_name", _UTF8), ("db_schema_name", _UTF8), ("table_name!", _UTF8), ("table_type!", _UTF8)
)
TABLES_WITH_SCHEMA: Final = TABLES.append(pa.field("table_schema", pa.binary(), nullable=False))
TABLE_TYPES_SCHEMA: Final = _schema(("table_type!", _UTF8))
PRIMARY_KEYS: Final = _schema(
    ("catalog_name", _UTF8),
    ("db_schema_name", _UTF8),
    ("table_name!", _UTF8),
    ("column_name!", _UTF8),
    ("key_name", _UTF8),
    ("key_sequence!", _INT32),
)
FOREIGN_KEYS: Final = _schema(
    ("pk_catalog_name", _UTF8),
    ("pk_db_schema_name", _UTF8),
    ("pk_table_name!", _UTF8),
    ("pk_column_name!", _UTF8),
    ("fk_catalog_name", _UTF8),
    ("fk_db_schema_name", _UTF8),
    ("fk_table_name!", _UTF8),
    ("fk_column_name!", _UTF8),
    ("key_sequence!", _INT32),
    ("fk_key_name", _UTF8),
    ("pk_key_name", _UTF8),
    ("update_rule!", _UINT8),
    ("delete_rule!", _UINT8),
)
XDBC_TYPE_INFO: Final = _schema(
    ("type_name!", _UTF8),
    ("data_type!", _INT32),
    ("column_size", _INT32),
    ("literal_prefix", _UTF8),
    ("literal_suffix", _UTF8),
    ("create_params", pa.list_(pa.field("item", _UTF8, nullable=False))),
    ("nullable!", _INT32),
    ("case_sensitive!", _BOOL),
    ("searchable!", _INT32),
    ("unsigned_attribute", _BOOL),
    ("fixed_prec_scale!", _BOOL),
    ("auto_increment", _BOOL),
    ("local_type_name", _UTF8),
    ("minimum_scale", _INT32),
    ("maximum_scale", _INT32),
    ("sql_data_type!", _INT32),
    ("datetime_subcode", _INT32),
    ("num_prec_radix", _INT32),
    ("interval_precision", _INT32),
)


def metadata_schema(command: MetadataCommand) -> pa.Schema:
    """Schema of the command's result, which depends on nothing else."""
    match command:
        case GetCatalogs():
            return CATALOGS
        case GetDbSchemas():
            return DB_SCHEMAS
        case GetTables():
            return TABLES_WITH_SCHEMA if command.include_schema else TABLES
        case GetTableTypes():
            return TABLE_TYPES_SCHEMA
        case GetPrimaryKeys():
            return PRIMARY_KEYS
        case GetExportedKeys() | GetImportedKeys() | GetCrossReference():
            return FOREIGN_KEYS
        case GetSqlInfo():
            return SQL_INFO_SCHEMA
        case GetXdbcTypeInfo():
            return XDBC_TYPE_INFO
        case _:
            assert_never(command)


def metadata_batch(
    command: MetadataCommand, tables: Sequence[TableDescription], sql_info: Mapping[int, Answer]
) -> pa.RecordBatch:
    """The command's result. ``tables`` is read by ``GetTables`` alone."""
    match command:
        case GetSqlInfo():
            return sql_info_batch(sql_info, command.codes)
        case GetCatalogs():
            rows: Iterable[tuple[Any, ...]] = [(CATALOG,)]
        case GetDbSchemas():
            visible = _catalog_matches(command.catalog) and like(command.schema_pattern)(SCHEMA)
            rows = [(CATALOG, SCHEMA)] if visible else []
        case GetTables():
            rows = _tables(command, tables)
        case GetTableTypes():
            rows = [(kind,) for kind in TABLE_TYPES]
        case GetXdbcTypeInfo():
            rows = [row for row in _XDBC_ROWS if command.data_type is None or row[1] == command.data_type]
        case GetPrimaryKeys() | GetExportedKeys() | GetImportedKeys() | GetCrossReference():
            rows = []
        case _:
            assert_never(command)
    schema = metadata_schema(command)
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def needs_tables(command: MetadataCommand) -> bool:
    return isinstance(command, GetTables)


def _catalog_matches(catalog: str | None) -> bool:
    """``None`` is any, the empty name means objects without a catalog; ODBC sends a pattern."""
    if catalog is None:
        return True
    return like(catalog)(CATALOG) if "%" in catalog else catalog == CATALOG


def like(pattern: str | None) -> Callable[[str], bool]:
    """A LIKE pattern with escape ``\\`` as a predicate; ``None`` matches all."""
    if pattern is None:
        return lambda _: True
    parts = []
    for token in re.findall(r"\\.|%+|.", pattern, re.S):  # a run of % is one: adjacent .* would backtrack
        if token[0] == "%":
            parts.append(".*")
        elif token == "_":
            parts.append(".")
        else:
            parts.append(re.escape(token[-1]))
    return _split_match(parts)


def _split_match(parts: Sequence[str]) -> Callable[[str], bool]:
    """Match the pieces between wildcards greedily from the left: linear, where one regex could take for ever."""
    pieces: list[list[str]] = [[]]
    for part in parts:
        if part == ".*":
            pieces.append([])
        else:
            pieces[-1].append(part)
    first, *rest = (re.compile("".join(piece), re.S) for piece in pieces)

    def matches(text: str) -> bool:
        if not rest:
            return first.fullmatch(text) is not None
        begin = first.match(text)
        if begin is None:
            return False
        position = begin.end()
        for piece in rest[:-1]:
            found = piece.search(text, position)
            if found is None:
                return False
            position = found.end()
        tail_chars = len(pieces[-1])
        return len(text) - tail_chars >= position and rest[-1].match(text, len(text) - tail_chars) is not None

    return matches


def _tables(command: GetTables, tables: Sequence[TableDescription]) -> list[tuple[Any, ...]]:
    if not (_catalog_matches(command.catalog) and like(command.schema_pattern)(SCHEMA)):
        return []
    kinds = {"TABLE" if kind.upper() == "BASE TABLE" else kind.upper() for kind in command.table_types}
    matches = like(command.table_pattern)
    found = [table for table in tables if matches(table.name) and (not kinds or table.kind in kinds)]
    # Some clients pass a bare name, in which ``_`` is a wildcard, and read the first row only.
    found.sort(key=lambda table: (table.name != command.table_pattern, table.name))
    rows: list[tuple[Any, ...]] = [(CATALOG, SCHEMA, table.name, table.kind) for table in found]
    if not command.include_schema:
        return rows
    return [(*row, described_schema(table).serialize().to_pybytes()) for row, table in zip(rows, found, strict=True)]


def described_schema(table: TableDescription) -> pa.Schema:
    """The table's schema with Flight SQL's field metadata; remarks of the description's own fields are kept."""
    fields = []
    for field in table.schema:
        described = {
            "CATALOG_NAME": CATALOG,
            "DB_SCHEMA_NAME": SCHEMA,
            "TABLE_NAME": table.name,
            "TYPE_NAME": type_name(field.type),
            "IS_AUTO_INCREMENT": "0",
            "IS_CASE_SENSITIVE": "1" if pa.types.is_string(field.type) or pa.types.is_dictionary(field.type) else "0",
            "IS_READ_ONLY": "1",
            "IS_SEARCHABLE": "1",
        }
        if pa.types.is_decimal(field.type):
            described |= {"PRECISION": str(field.type.precision), "SCALE": str(field.type.scale)}
        metadata = {_FIELD_METADATA + key: value for key, value in described.items()}
        fields.append(field.with_metadata({**metadata, **(field.metadata or {})}))
    return pa.schema(fields)


_TYPE_NAMES: Final = {
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
    pa.string_view(): "VARCHAR",
    pa.binary(): "BLOB",
    pa.large_binary(): "BLOB",
    pa.date32(): "DATE",
}


def type_name(data_type: pa.DataType) -> str:
    """The engine's name of an Arrow type."""
    types = pa.types
    if types.is_dictionary(data_type):
        return type_name(data_type.value_type)
    if types.is_timestamp(data_type):
        return "TIMESTAMP WITH TIME ZONE" if data_type.tz else "TIMESTAMP_NS" if data_type.unit == "ns" else "TIMESTAMP"
    if types.is_time(data_type):
        return "TIME"
    if types.is_decimal(data_type):
        return f"DECIMAL({data_type.precision},{data_type.scale})"
    if types.is_interval(data_type) or types.is_duration(data_type):
        return "INTERVAL"
    if types.is_list(data_type) or types.is_large_list(data_type):
        return f"{type_name(data_type.value_type)}[]"
    if types.is_struct(data_type):
        members = (f'"{field.name}" {type_name(field.type)}' for field in data_type)
        return f"STRUCT({', '.join(members)})"
    return _TYPE_NAMES.get(data_type, str(data_type).upper())


def _xdbc(
    name: str,
    code: int,
    size: int | None = None,
    *,
    quoted: bool = False,
    unsigned: bool | None = None,
    radix: int | None = None,
    scale_max: int | None = None,
    datetime_subcode: int | None = None,
) -> tuple[Any, ...]:
    quote = "'" if quoted else None
    sql_data_type = code if datetime_subcode is None else 9
    fixed_scale = unsigned is not None and radix == 10 and scale_max is None
    return (
        name,
        code,
        size,
        quote,
        quote,
        ["precision", "scale"] if name == "DECIMAL" else None,
        1,  # nullable
        name in ("VARCHAR", "CHAR"),
        3,  # searchable in every predicate
        unsigned,
        fixed_scale,
        False if unsigned is not None else None,
        name,
        0 if scale_max is not None else None,
        scale_max,
        sql_data_type,
        datetime_subcode,
        radix,
        None,
    )


# Unsigned integers take the code of the next wider signed one; JDBC and ODBC have none of their own.
_XDBC_ROWS: Final = sorted(
    (
        _xdbc("BOOLEAN", -7, 1),
        _xdbc("TINYINT", -6, 3, unsigned=False, radix=10),
        _xdbc("BIGINT", -5, 19, unsigned=False, radix=10),
        _xdbc("UINTEGER", -5, 10, unsigned=True, radix=10),
        _xdbc("BLOB", -3, quoted=True),
        _xdbc("TEXT", -1, quoted=True),
        _xdbc("CHAR", 1, quoted=True),
        _xdbc("DECIMAL", 3, 38, unsigned=False, radix=10, scale_max=38),
        _xdbc("HUGEINT", 3, 38, unsigned=False, radix=10, scale_max=0),
        _xdbc("UBIGINT", 3, 20, unsigned=True, radix=10, scale_max=0),
        _xdbc("INTEGER", 4, 10, unsigned=False, radix=10),
        _xdbc("USMALLINT", 4, 5, unsigned=True, radix=10),
        _xdbc("SMALLINT", 5, 5, unsigned=False, radix=10),
        _xdbc("UTINYINT", 5, 3, unsigned=True, radix=10),
        _xdbc("FLOAT", 7, 24, unsigned=False, radix=2),
        _xdbc("DOUBLE", 8, 53, unsigned=False, radix=2),
        _xdbc("INTERVAL", 10, quoted=True),
        _xdbc("UUID", 12, 36, quoted=True),
        _xdbc("VARCHAR", 12, quoted=True),
        _xdbc("DATE", 91, 10, quoted=True, datetime_subcode=1),
        _xdbc("TIME", 92, 15, quoted=True, datetime_subcode=2),
        _xdbc("TIMESTAMP", 93, 29, quoted=True, datetime_subcode=3),
        _xdbc("TIMESTAMP WITH TIME ZONE", 93, 35, quoted=True, datetime_subcode=3),
        _xdbc("TIMESTAMP_NS", 93, 29, quoted=True, datetime_subcode=3),
    ),
    key=lambda row: (row[1], row[0]),
)
