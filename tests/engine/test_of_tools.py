"""What consoles and drivers send beside SELECT is answered exactly, or refused with what to do; nothing is ignored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.engine.engine import QueryEngine
from lakehouse.errors import ForbiddenSqlError, LakeflightError
from tests.support.engine_lake import CATALOG


@pytest.fixture(scope="module")
def engine() -> Iterator[QueryEngine]:
    made = QueryEngine()
    yield made
    made.close()


def rows(engine: QueryEngine, sql: str) -> list[dict[str, Any]]:
    inspection = engine.inspect(sql, [], CATALOG)
    with engine.run(sql, [], [], catalog=CATALOG, identity="anybody") as reader:
        table = pa.Table.from_batches(list(reader), schema=reader.schema)
    assert pa.ipc.read_schema(pa.py_buffer(inspection.schema)) == table.schema
    found: list[dict[str, Any]] = table.to_pylist()
    return found


@pytest.mark.parametrize("sql", ["SHOW DATABASES", "show databases;", "-- what\nSHOW  CATALOGS ;\n"])
def test_there_is_one_database(engine: QueryEngine, sql: str) -> None:
    assert rows(engine, sql) == [{"database_name": "lakeflight"}]


def test_its_schema_is_listed(engine: QueryEngine) -> None:
    assert {"database_name": "lakeflight", "schema_name": "main"} in rows(engine, "SHOW SCHEMAS")


def test_all_tables_come_with_their_columns(engine: QueryEngine) -> None:
    found = {row["name"]: row for row in rows(engine, "SHOW ALL TABLES")}

    assert found.keys() == set(CATALOG.tables)
    for name, row in found.items():
        described = rows(engine, f"DESCRIBE {name}")
        assert row["column_names"] == [column["column_name"] for column in described]
        assert row["column_types"] == [column["data_type"] for column in described]
    assert rows(engine, "PRAGMA show_tables") == [{"name": name} for name in sorted(found)]


@pytest.mark.parametrize(
    "written", ["'log_entries'", "log_entries", '"log_entries"', "'main.log_entries'", "'lakeflight.main.log_entries'"]
)
def test_the_columns_of_a_table_are_those_that_describe_tells(engine: QueryEngine, written: str) -> None:
    found = rows(engine, f"PRAGMA table_info({written})")

    described = rows(engine, "DESCRIBE log_entries")
    assert [(row["cid"], row["name"], row["type"]) for row in found] == [
        (place, row["column_name"], row["data_type"]) for place, row in enumerate(described)
    ]
    assert not any(row["pk"] or row["notnull"] for row in found)


@pytest.mark.parametrize("written", ["'nothing'", "'x'' OR true'", '"a""b"', "'system.duckdb_settings'"])
def test_a_table_that_is_not_there_is_an_error(engine: QueryEngine, written: str) -> None:
    with pytest.raises(LakeflightError):
        rows(engine, f"PRAGMA table_info({written})")


@pytest.mark.parametrize(
    "sql",
    [
        "SET TimeZone='UTC'",
        "SET timezone TO utc",
        "SET SESSION TIME ZONE 'Etc/UTC';",
        "SET schema = 'main'",
        "SET search_path TO main",
        "SET schema='lakeflight.main'",
        "USE lakeflight",
        'USE "lakeflight"."main"',
        "USE main;",
        "BEGIN",
        "begin transaction",
        "BEGIN READ ONLY",
        "START TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "COMMIT",
        "COMMIT WORK",
        "END",
        "ROLLBACK;",
    ],
)
def test_what_is_so_already_succeeds_without_a_row(engine: QueryEngine, sql: str) -> None:
    assert rows(engine, sql) == []


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SET TimeZone='Europe/Berlin'", "times are UTC, the time zone cannot be 'Europe/Berlin'"),
        ("SET TIME ZONE '+02:00'", "times are UTC"),
        ("SET schema='other'", "the only catalog is lakeflight, with the schema main"),
        ("USE system", "the only catalog is lakeflight"),
        ("USE lakeflight.information_schema", "the only catalog is lakeflight"),
        ("START TRANSACTION ISOLATION LEVEL SERIALIZABLE", "READ ONLY and READ COMMITTED"),
        ("BEGIN READ WRITE", "READ ONLY and READ COMMITTED"),
        ("SET memory_limit='1GB'", "only SELECT statements are allowed, not SET"),
        ("SET threads=1", "only SELECT statements are allowed, not SET"),
        ("SET TimeZone='UTC'; SELECT 1", "only SELECT|one statement"),
        ("BEGIN; SELECT 1", "only SELECT|one statement"),
        ("PRAGMA database_size", "only SELECT statements are allowed, not PRAGMA"),
        ("PRAGMA table_info('log_entries'); DROP TABLE x", "only SELECT"),
        ("ROLLBACK TO SAVEPOINT a", "."),
        ("EXPLAIN BEGIN", "."),
    ],
)
def test_what_would_change_an_answer_is_refused(engine: QueryEngine, sql: str, message: str) -> None:
    with pytest.raises((ForbiddenSqlError, LakeflightError), match=message):
        rows(engine, sql)
