"""Metadata results: exact schemas, patterns, order, and what drivers cast."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import Any, Literal

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from server.flight import sql_info as info
from server.flight.metadata import like, metadata_batch, metadata_schema


@dataclass(frozen=True)
class Table:
    name: str
    kind: Literal["TABLE", "VIEW"]
    schema: pa.Schema


SCHEMA = pa.schema(
    [
        pa.field("time", pa.timestamp("ns", "UTC"), nullable=False),
        pa.field("level", pa.int32()),
        pa.field("properties", pa.dictionary(pa.int32(), pa.string())),
        pa.field("tags", pa.list_(pa.struct([("key", pa.string()), ("value", pa.string())]))),
        pa.field("price", pa.decimal128(9, 2), metadata={"ARROW:FLIGHT:SQL:REMARKS": "in euros"}),
    ]
)
TABLES = [
    Table("logXentries", "TABLE", SCHEMA),
    Table("log_entries", "TABLE", SCHEMA),
    Table("measures", "TABLE", SCHEMA),
    Table("a_view", "VIEW", SCHEMA),
]
ANSWERS = info.sql_info("9.9")
ALL: list[MetadataCommand] = [
    GetCatalogs(),
    GetDbSchemas(None, None),
    GetTables(None, None, None, (), False),
    GetTables(None, None, None, (), True),
    GetTableTypes(),
    GetPrimaryKeys("t"),
    GetExportedKeys("t"),
    GetImportedKeys("t"),
    GetCrossReference("a", "b"),
    GetSqlInfo(()),
    GetXdbcTypeInfo(None),
]


def rows(command: MetadataCommand) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = metadata_batch(command, TABLES, ANSWERS).to_pylist()
    return found


def names(
    table: str | None = None, *, catalog: str | None = None, schema: str | None = None, types: tuple[str, ...] = ()
) -> list[str]:
    return [row["table_name"] for row in rows(GetTables(catalog, schema, table, types, False))]


@pytest.mark.parametrize("command", ALL, ids=lambda c: type(c).__name__)
def test_results_have_the_declared_schema(command: MetadataCommand) -> None:
    batch = metadata_batch(command, TABLES, ANSWERS)

    assert batch.schema.equals(metadata_schema(command), check_metadata=True)
    batch.validate(full=True)


def test_four_columns_without_schemas_and_five_with() -> None:
    assert metadata_schema(GetTables(None, None, None, (), False)).names == [
        "catalog_name",
        "db_schema_name",
        "table_name",
        "table_type",
    ]
    with_schema = metadata_schema(GetTables(None, None, None, (), True))
    assert with_schema.field(4) == pa.field("table_schema", pa.binary(), nullable=False)


def test_there_is_one_catalog_with_one_schema() -> None:
    assert rows(GetCatalogs()) == [{"catalog_name": "lakeflight"}]
    assert rows(GetDbSchemas(None, None)) == [{"catalog_name": "lakeflight", "db_schema_name": "main"}]
    assert rows(GetDbSchemas("lakeflight", "ma%")) != []
    assert rows(GetDbSchemas(None, "information_schema")) == []
    assert rows(GetTableTypes()) == [{"table_type": "TABLE"}, {"table_type": "VIEW"}]


@pytest.mark.parametrize(
    ("catalog", "found"), [(None, 4), ("", 0), ("lakeflight", 4), ("LAKEFLIGHT", 0), ("%", 4), ("lake%", 4), ("x%", 0)]
)
def test_catalogs_are_absent_empty_named_or_a_pattern(catalog: str | None, found: int) -> None:
    assert len(names(catalog=catalog)) == found


def test_patterns_and_escapes() -> None:
    assert names("log%") == ["logXentries", "log_entries"]
    assert names("log\\_entries") == ["log_entries"]
    assert names("%e%s") == ["logXentries", "log_entries", "measures"]
    assert names("m_asures") == ["measures"]
    assert names("") == []
    assert names(schema="m_in") != []
    assert names(schema="other") == []


def test_the_exact_name_comes_first() -> None:
    assert names("log_entries") == ["log_entries", "logXentries"]
    assert names() == ["a_view", "logXentries", "log_entries", "measures"]


@pytest.mark.parametrize("types", [("TABLE",), ("table",), ("BASE TABLE",), ("BASE TABLE", "table"), ("base table",)])
def test_all_spellings_of_table_are_equal(types: tuple[str, ...]) -> None:
    assert names(types=types) == ["logXentries", "log_entries", "measures"]
    assert names(types=("VIEW",)) == ["a_view"]
    assert names(types=("SYSTEM TABLE",)) == []


def test_table_schemas_carry_what_tools_show() -> None:
    [row] = [r for r in rows(GetTables(None, None, "measures", (), True)) if r["table_name"] == "measures"]
    schema = pa.ipc.read_schema(pa.py_buffer(row["table_schema"]))

    assert row["table_schema"][:4] == b"\xff\xff\xff\xff"
    assert schema.remove_metadata() == SCHEMA.remove_metadata()
    types = {f.name: f.metadata[b"ARROW:FLIGHT:SQL:TYPE_NAME"].decode() for f in schema}
    assert types == {
        "time": "TIMESTAMP WITH TIME ZONE",
        "level": "INTEGER",
        "properties": "VARCHAR",
        "tags": 'STRUCT("key" VARCHAR, "value" VARCHAR)[]',
        "price": "DECIMAL(9,2)",
    }
    assert schema.field("price").metadata[b"ARROW:FLIGHT:SQL:REMARKS"] == b"in euros"
    assert schema.field("price").metadata[b"ARROW:FLIGHT:SQL:SCALE"] == b"2"
    assert schema.field("level").metadata[b"ARROW:FLIGHT:SQL:IS_READ_ONLY"] == b"1"


@given(st.text("ab_%", max_size=12), st.text("ab_", max_size=12))
def test_patterns_agree_with_a_simple_matcher(pattern: str, text: str) -> None:
    shell = pattern.replace("%", "*").replace("_", "?")

    assert like(pattern)(text) == fnmatch.fnmatchcase(text, shell)


def test_a_hostile_pattern_takes_no_time() -> None:
    assert not like("%a" * 10_000 + "b")("a" * 1_000)


MEMBERS = {"string": 0, "bool": 1, "bigint": 2, "bitmask": 3, "list": 4, "map": 5}


def members(codes: tuple[int, ...] = ()) -> dict[int, int]:
    batch = info.sql_info_batch(ANSWERS, codes)
    return dict(zip(batch.column(0).to_pylist(), batch.column(1).type_codes.to_pylist(), strict=True))


def test_an_empty_list_asks_for_the_standard_codes_and_no_other() -> None:
    standard = {*range(12), 100, 101, *range(500, 577)}

    assert set(members()) == standard


def test_each_answer_is_in_the_member_that_drivers_cast() -> None:
    found = members()
    switches = (3, 4, 5, 9, 10, 11, 500, 501, 502, 506, 515, 516, 518, 519, 520, 521, 523, 524, 527, 532, 536, 537)
    expected: dict[str, list[int]] = {
        "string": [0, 1, 2, 6, 7, 504, 513, 514, 529, 530, 531],
        "bool": [*switches, 539, 556, 563, 565, 566, *range(572, 577)],
        "bigint": [*range(541, 556), *range(557, 563)],
        "bitmask": [8, 100, 101, 503, 505, 507, 522, 525, 526, 528, 533, 534, 535, 538, 540, 564, *range(567, 572)],
        "list": [508, 509, 510, 511, 512],
        "map": [517],
    }

    assert found == {code: MEMBERS[kind] for kind, codes in expected.items() for code in codes}


def test_unknown_codes_are_absent_and_asked_ones_come_in_order() -> None:
    assert list(members((504, 99_999, 0, 504))) == [504, 0]


def test_there_are_no_transactions() -> None:
    [row] = info.sql_info_batch(ANSWERS, (8,)).to_pylist()

    assert row == {"info_name": 8, "value": 0}


def test_listed_functions_and_keywords_are_the_engines() -> None:
    database = duckdb.connect()
    functions = {row[0] for row in database.sql("SELECT DISTINCT function_name FROM duckdb_functions()").fetchall()}
    reserved = database.sql(
        "SELECT upper(keyword_name) FROM duckdb_keywords() WHERE keyword_category = 'reserved' ORDER BY 1"
    ).fetchall()
    listed = (*info.NUMERIC_FUNCTIONS, *info.STRING_FUNCTIONS, *info.SYSTEM_FUNCTIONS, *info.DATETIME_FUNCTIONS)

    assert {name for name in listed if name.lower() not in functions} == set()
    assert list(info.KEYWORDS) == [row[0] for row in reserved]


def test_type_info_is_sorted_and_filtered() -> None:
    everything = rows(GetXdbcTypeInfo(None))
    keys = [(row["data_type"], row["type_name"]) for row in everything]

    assert keys == sorted(keys)
    assert {-7, -6, -5, -3, -1, 1, 3, 4, 5, 7, 8, 10, 12, 91, 92, 93} == {key[0] for key in keys}
    assert [row["type_name"] for row in rows(GetXdbcTypeInfo(8))] == ["DOUBLE"]
    assert rows(GetXdbcTypeInfo(1234)) == []
    [timestamp] = [row for row in everything if row["type_name"] == "TIMESTAMP"]
    assert (timestamp["sql_data_type"], timestamp["datetime_subcode"], timestamp["literal_prefix"]) == (9, 3, "'")
