"""What a person at a driver's prompt meets: every way to ask, what comes back, and how refusals read."""

from __future__ import annotations

import csv
import datetime
import decimal
import io
import json
import math
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import adbc_driver_flightsql
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakeflight.connection import StatementError, connect
from lakeflight.wire.times import format_time
from tests.support.fixtures import ROOT, rows_of
from tests.support.flight_calls import raw_flight
from tests.support.history import HOUR_NS, MINUTE_NS, LongProgram
from tests.support.ports import REFUSED
from tests.support.serving import Server
from views import default_registry

START_NS = 1_717_236_000_000_000_000
NS = pa.timestamp("ns", "UTC")
RUNAWAY = "SELECT count(*) FROM range(1000000000000)"
FREE_AFTER_S = 3.0  # more than the second that is promised: tests share their machine


@dataclass
class Asked:
    """A server, two programs in its lake, and a connection."""

    server: Server
    one: LongProgram
    two: LongProgram
    connection: Any

    def rows(self, sql: str, parameters: Any = None) -> list[dict[str, Any]]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return rows_of(cursor.fetch_arrow_table())

    def value(self, sql: str, parameters: Any = None) -> Any:
        (row,) = self.rows(sql, parameters)
        (value,) = row.values()
        return value

    def logs(self, program: LongProgram) -> str:
        return f"view_instance('log_entries', '{program.process_id}')"

    def spans(self, program: LongProgram) -> str:
        return f"view_instance('thread_spans', '{program.streams['cpu']}')"


@pytest.fixture(scope="module")
def asked(server: Server) -> Iterator[Asked]:
    chance = random.Random(7)
    one, two = (LongProgram(START_NS, f"surface-{name}", chance) for name in ("one", "two"))
    for program in (one, two):
        server.replay(program.registration())
        for hour in range(3):
            begin = START_NS + hour * HOUR_NS
            server.replay([make(begin, MINUTE_NS) for make in (program.logs, program.metrics, program.spans)])
    with server.connect() as connection:
        yield Asked(server, one, two, connection)


# --- what can be asked


def test_several_view_instances_in_one_statement(asked: Asked) -> None:
    apart = [asked.value(f"SELECT count(*) FROM {asked.logs(program)}") for program in (asked.one, asked.two)]
    spans = asked.value(f"SELECT count(*) FROM {asked.spans(asked.one)}")

    together = asked.rows(
        f"SELECT (SELECT count(*) FROM {asked.logs(asked.one)}) AS a, (SELECT count(*) FROM {asked.logs(asked.two)}) AS b,"
        f" (SELECT count(*) FROM {asked.spans(asked.one)}) AS c"
    )

    assert together == [{"a": apart[0], "b": apart[1], "c": spans}]
    assert min(apart) > 0 and spans > 1


def test_views_join_with_each_other(asked: Asked) -> None:
    rows = asked.rows(
        "SELECT p.exe, count(DISTINCT s.stream_id) AS streams, count(DISTINCT b.block_id) AS blocks"
        " FROM processes p JOIN streams s USING (process_id) JOIN blocks b ON b.stream_id = s.stream_id"
        " WHERE p.exe LIKE 'surface-%' GROUP BY p.exe ORDER BY p.exe"
    )
    assert rows == [{"exe": f"surface-{name}", "streams": 3, "blocks": 9} for name in ("one", "two")]

    joined = asked.value(
        f"SELECT count(*) FROM log_entries l JOIN {asked.logs(asked.one)} v USING (process_id, block_id, time, msg)"
    )
    assert joined >= asked.value(f"SELECT count(*) FROM {asked.logs(asked.one)}")


def test_common_table_expressions(asked: Asked) -> None:
    rows = asked.rows(
        f"WITH frames AS (SELECT * FROM {asked.spans(asked.one)} WHERE name = 'Frame'),"
        f" work AS (SELECT * FROM {asked.spans(asked.one)} WHERE name = 'Work')"
        ' SELECT count(*) AS n, bool_and(w.begin >= f.begin AND w."end" <= f."end") AS inside'
        " FROM work w JOIN frames f ON w.parent = f.id"
    )
    frames = asked.value(f"SELECT count(*) FROM {asked.spans(asked.one)} WHERE name = 'Frame'")
    assert rows == [{"n": frames, "inside": True}]

    assert (
        asked.value("WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 10) SELECT sum(n) FROM r")
        == 55
    )


@pytest.mark.parametrize("view_set", ["thread_spans", "log_entries", "measures"])
@pytest.mark.parametrize("mark", ["$1", "?"])
def test_the_instance_as_a_bound_parameter(asked: Asked, view_set: str, mark: str) -> None:
    counts = []
    for program in (asked.one, asked.two):
        instance = program.streams["cpu"] if view_set == "thread_spans" else program.process_id
        bound = asked.value(f"SELECT count(*) FROM view_instance('{view_set}', {mark})", (instance,))
        assert bound == asked.value(f"SELECT count(*) FROM view_instance('{view_set}', '{instance}')")
        counts.append(bound)
    assert min(counts) > 0


def test_an_instance_in_another_spelling_is_the_same_one(asked: Asked) -> None:
    plain = asked.value(f"SELECT count(*) FROM {asked.logs(asked.one)}")

    assert asked.value(f"SELECT count(*) FROM view_instance('log_entries', '{asked.one.process_id.upper()}')") == plain


NAIVE = datetime.datetime(2024, 2, 29, 1, 2, 3, 456789)  # noqa: DTZ001
VALUES: list[tuple[str, Any, Any]] = [
    ("BIGINT", 42, 42),
    ("BIGINT", -(1 << 62), -(1 << 62)),
    ("INTEGER", None, None),
    ("DOUBLE", 1.5, 1.5),
    ("VARCHAR", "naïve \N{SNOWMAN} 'quoted' ; --", "naïve \N{SNOWMAN} 'quoted' ; --"),
    ("BLOB", b"\x00\xff", b"\x00\xff"),
    ("BOOLEAN", True, True),
    ("DATE", datetime.date(2024, 2, 29), datetime.date(2024, 2, 29)),
    ("TIME", datetime.time(1, 2, 3), datetime.time(1, 2, 3)),
    ("TIMESTAMP", NAIVE, NAIVE.replace(tzinfo=datetime.UTC)),
    ("DECIMAL(9, 2)", decimal.Decimal("1.25"), decimal.Decimal("1.25")),
]


@pytest.mark.parametrize(
    ("sql_type", "value", "expected"), VALUES, ids=[f"{kind} {value}" for kind, value, _ in VALUES]
)
def test_parameters_of_each_type_arrive(asked: Asked, sql_type: str, value: Any, expected: Any) -> None:
    with asked.connection.cursor() as cursor:
        cursor.execute(f"SELECT ?::{sql_type} AS v", (value,))

        assert cursor.fetchall() == [(expected,)]


def test_parameters_bound_the_rows(asked: Asked) -> None:
    begin = datetime.datetime.fromtimestamp(START_NS // 10**9 + 1800, datetime.UTC)
    sql = f"SELECT count(*) FROM {asked.logs(asked.one)} WHERE time >= ? AND level <= ?"

    bound = asked.value(sql, (begin, 4))

    text = format_time(START_NS + HOUR_NS // 2)
    assert bound == asked.value(f"SELECT count(*) FROM {asked.logs(asked.one)} WHERE time >= '{text}' AND level <= 4")
    assert 0 < bound < asked.value(f"SELECT count(*) FROM {asked.logs(asked.one)}")


MOMENT = datetime.datetime(2024, 2, 29, 1, 2, 3, 456789, datetime.UTC)
UUID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
# Every logical type of the engine: its value as SQL, and what arrives; or the cast that the refusal advises.
RESULTS: dict[str, list[tuple[str, pa.DataType | None, Any]]] = {
    "BOOLEAN": [("true", pa.bool_(), True)],
    "TINYINT": [("(-128)::TINYINT", pa.int8(), -128)],
    "SMALLINT": [("(-32768)::SMALLINT", pa.int16(), -32768)],
    "INTEGER": [("(-2147483648)::INTEGER", pa.int32(), -(1 << 31))],
    "BIGINT": [("(-9223372036854775808)::BIGINT", pa.int64(), -(1 << 63))],
    "HUGEINT": [("9223372036854775807::HUGEINT", pa.int64(), (1 << 63) - 1)],
    "UTINYINT": [("255::UTINYINT", pa.uint8(), 255)],
    "USMALLINT": [("65535::USMALLINT", pa.uint16(), 65535)],
    "UINTEGER": [("4294967295::UINTEGER", pa.uint32(), (1 << 32) - 1)],
    "UBIGINT": [("18446744073709551615::UBIGINT", pa.uint64(), (1 << 64) - 1)],
    "UHUGEINT": [("12::UHUGEINT", pa.int64(), 12), ("{'a': 12::UHUGEINT}", None, "{'a': 12}")],
    "FLOAT": [("1.5::FLOAT", pa.float32(), 1.5)],
    "DOUBLE": [("'-inf'::DOUBLE", pa.float64(), -math.inf), ("0.1::DOUBLE", pa.float64(), 0.1)],
    "DECIMAL": [
        ("1.25::DECIMAL(4, 2)", pa.decimal128(4, 2), decimal.Decimal("1.25")),
        ("(-1.25)::DECIMAL(38, 2)", pa.decimal128(38, 2), decimal.Decimal("-1.25")),
    ],
    "BIGNUM": [("123::BIGNUM", None, "123")],
    "VARCHAR": [
        ("'naïve \N{SNOWMAN}'", pa.string(), "naïve \N{SNOWMAN}"),
        ("'x'::CHAR(3)", pa.string(), "x"),
        ("""'{"a": 1}'::JSON""", pa.string(), '{"a": 1}'),
    ],
    "BLOB": [(r"'\x00\xFF'::BLOB", pa.binary(), b"\x00\xff")],
    "BIT": [("'10101'::BIT", None, "10101")],
    "UUID": [(f"'{UUID}'::UUID", pa.string(), UUID)],
    "ENUM": [("'b'::ENUM('a', 'b')", pa.string(), "b")],
    "DATE": [("DATE '2024-02-29'", pa.date32(), MOMENT.date())],
    "TIME": [("TIME '01:02:03.456789'", pa.time64("us"), MOMENT.time())],
    "TIME_NS": [("'01:02:03.456789'::TIME_NS", pa.time64("ns"), MOMENT.time())],
    "TIME WITH TIME ZONE": [("'01:02:03+02'::TIMETZ", None, "01:02:03+02")],
    "TIMESTAMP": [("TIMESTAMP '2024-02-29 01:02:03.456789'", NS, MOMENT)],
    "TIMESTAMP_S": [("'2024-02-29 01:02:03'::TIMESTAMP_S", NS, MOMENT.replace(microsecond=0))],
    "TIMESTAMP_MS": [("'2024-02-29 01:02:03.456'::TIMESTAMP_MS", NS, MOMENT.replace(microsecond=456_000))],
    "TIMESTAMP_NS": [("'2024-02-29 01:02:03.456789'::TIMESTAMP_NS", NS, MOMENT)],
    "TIMESTAMP WITH TIME ZONE": [("'2024-02-29 03:02:03.456789+02'::TIMESTAMPTZ", NS, MOMENT)],
    "TIMESTAMPTZ_NS": [("'2024-02-29 01:02:03.456789'::TIMESTAMPTZ_NS", NS, MOMENT)],
    "INTERVAL": [
        ("INTERVAL '1 day 2 seconds'", pa.duration("ns"), datetime.timedelta(days=1, seconds=2)),
        ("[INTERVAL '1 month 2 days']", None, "[1 month 2 days]"),
    ],
    "LIST": [
        ("[[1], [2, NULL], []]", pa.list_(pa.list_(pa.int32())), [[1], [2, None], []]),
        ("[12::HUGEINT]", pa.list_(pa.int64()), [12]),
        ("['b'::ENUM('a', 'b')]", pa.list_(pa.string()), ["b"]),
        ("['2024-02-29 01:02:03'::TIMESTAMP_S]", pa.list_(NS), [MOMENT.replace(microsecond=0)]),
        ("[123::BIGNUM]", None, "[123]"),
    ],
    "ARRAY": [("[[1, 2], [3, 4]]::INTEGER[2][2]", pa.list_(pa.list_(pa.int32(), 2), 2), [[1, 2], [3, 4]])],
    "STRUCT": [
        ("{'x': 1, 'y': 'z'}", pa.struct([("x", pa.int32()), ("y", pa.string())]), {"x": 1, "y": "z"}),
        ("{'b': '101'::BIT}", None, "{'b': 101}"),
    ],
    "TUPLE": [
        (
            "row(1, 'a')",
            pa.struct([("element1", pa.int32()), ("element2", pa.string())]),
            {"element1": 1, "element2": "a"},
        )
    ],
    "MAP": [("MAP {'a': TIMESTAMP '2024-02-29 01:02:03.456789'}", pa.map_(pa.string(), NS), [("a", MOMENT)])],
    "UNION": [("2::UNION(num INTEGER, str VARCHAR)", None, "2")],
    "NULL": [("NULL", pa.null(), None)],
}
NEVER_IN_A_STATEMENT = {"VARIANT": "1::VARIANT", "GEOMETRY": "'POINT(1 1)'::GEOMETRY", "TYPE": "'INTEGER'::TYPE"}


def test_the_list_of_results_has_every_type_of_the_engine() -> None:
    with duckdb.connect() as engine:
        known = {name for (name,) in engine.execute("SELECT DISTINCT logical_type FROM duckdb_types()").fetchall()}

    assert known == RESULTS.keys() | NEVER_IN_A_STATEMENT.keys()


@pytest.mark.parametrize(
    ("sql", "kind", "value"),
    [
        pytest.param(*result, id=f"{name} {number}")
        for name, results in RESULTS.items()
        for number, result in enumerate(results, 1)
    ],
)
def test_a_result_of_each_type_arrives_or_is_refused_with_the_cast_that_works(
    asked: Asked, sql: str, kind: pa.DataType | None, value: Any
) -> None:
    select = 'SELECT v AS "it\'s" FROM (VALUES ({}), (NULL)) t(v)'
    if kind is None:
        with pytest.raises(adbc_driver_flightsql.dbapi.NotSupportedError, match=r"it's. has .*: cast it to VARCHAR"):
            asked.rows(select.format(sql))
        assert asked.rows(select.format(f"({sql})::VARCHAR")) == [{"it's": value}, {"it's": None}]
        return
    text = select.format(sql)
    with asked.connection.cursor() as cursor:
        cursor.execute(text)
        table = cursor.fetch_arrow_table()

    assert table.schema.types == [kind]
    assert [row["it's"] for row in table.to_pylist()] == [value, None]
    with raw_flight(asked.server.flight) as client:
        assert client.get(text).schema == client.promised(text) == client.schema(text) == table.schema


@pytest.mark.parametrize(("name", "sql"), NEVER_IN_A_STATEMENT.items())
def test_types_of_the_engines_own_are_refused_by_name(asked: Asked, name: str, sql: str) -> None:
    with pytest.raises(adbc_driver_flightsql.dbapi.ProgrammingError, match=f"type {name} is not allowed"):
        asked.rows(f"SELECT {sql}")


def test_the_same_text_twice_sees_what_came_in_between(asked: Asked) -> None:
    growing = LongProgram(START_NS, "growing", random.Random(8))
    asked.server.replay(growing.registration())
    sql = f"SELECT count(*) FROM {asked.logs(growing)}"
    with asked.connection.cursor() as cursor:
        for hour in range(3):
            cursor.execute(sql)
            before = cursor.fetchone()[0]
            asked.server.replay([growing.logs(START_NS + hour * HOUR_NS, MINUTE_NS)])
            cursor.execute(sql)
            assert cursor.fetchone()[0] > before


def test_a_large_answer_streams(asked: Asked) -> None:
    with asked.connection.cursor() as cursor:
        cursor.execute("SELECT i, 'row ' || i AS text FROM range(1000000) t(i)")
        reader = cursor.fetch_record_batch()
        sizes, total, last = [], 0, -1
        for batch in reader:
            sizes.append(batch.num_rows)
            total += pa.compute.sum(batch.column(0)).as_py()
            assert batch.column(0)[0].as_py() == last + 1
            last = batch.column(0)[-1].as_py()

    assert sum(sizes) == 1_000_000 and total == 999_999 * 500_000
    assert len(sizes) > 4


def test_the_columns_of_a_process_without_its_times(asked: Asked) -> None:
    (row,) = asked.rows(
        "SELECT exe, username, distro, tsc_frequency, properties FROM processes WHERE exe = 'surface-one'"
    )

    assert row == {
        "exe": "surface-one",
        "username": "tester",
        "distro": "none",
        "tsc_frequency": 1_000_000_000,
        "properties": [{"key": "purpose", "value": "history"}],
    }


@pytest.mark.parametrize("view_set", ["processes", "streams", "blocks"])
def test_a_table_of_the_catalog_is_its_own_only_instance(asked: Asked, view_set: str) -> None:
    process = f"process_id = '{asked.one.process_id}'"

    instance, table = (
        asked.rows(f"SELECT * FROM {source} WHERE {process} ORDER BY ALL")
        for source in (f"view_instance('{view_set}', 'global')", view_set)
    )

    assert instance == table != []


@pytest.mark.parametrize("table", ["processes", "streams", "blocks", "log_entries", "measures"])
def test_each_column_of_a_table_can_be_asked_for_alone(asked: Asked, table: str) -> None:
    for name in asked.connection.adbc_get_table_schema(table).names:
        assert asked.rows(f'SELECT "{name}" FROM {table} LIMIT 1'), name


# --- the catalog


def test_objects_and_schemas_of_the_driver_agree_with_what_queries_give(asked: Asked) -> None:
    (catalog,) = asked.connection.adbc_get_objects(depth="all").read_all().to_pylist()
    (schema,) = catalog["catalog_db_schemas"]
    tables = {table["table_name"]: table for table in schema["db_schema_tables"]}

    assert (catalog["catalog_name"], schema["db_schema_name"]) == ("lakeflight", "main")
    assert set(tables) >= {"processes", "streams", "blocks", "quarantined_blocks", "log_entries", "measures"}
    for name, table in tables.items():
        with asked.connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {name} LIMIT 0")
            given = cursor.fetch_arrow_table().schema
        declared = asked.connection.adbc_get_table_schema(name)
        assert [column["column_name"] for column in table["table_columns"]] == given.names == declared.names
        assert declared.types == given.types
        assert [field.nullable for field in declared] == [field.nullable for field in given]


def test_an_unknown_table_has_no_schema(asked: Asked) -> None:
    with pytest.raises(adbc_driver_flightsql.dbapi.Error):
        asked.connection.adbc_get_table_schema("no_such_table")


def test_catalog_statements(asked: Asked) -> None:
    names = sorted(default_registry().tables)
    shown = [row["table_name"] for row in asked.rows("SHOW TABLES")]
    assert shown == names

    described = asked.rows("DESCRIBE log_entries")
    assert described[0] == {"column_name": "process_id", "data_type": "VARCHAR", "is_nullable": "YES"}

    assert [
        row["table_name"]
        for row in asked.rows("SELECT table_name FROM information_schema.tables ORDER BY 1")
        if row["table_name"] in names
    ] == names
    columns = asked.rows(
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'log_entries' ORDER BY ordinal_position"
    )
    assert [row["column_name"] for row in columns] == [row["column_name"] for row in described]
    assert {row["schema_name"] for row in asked.rows("SELECT schema_name FROM information_schema.schemata")} >= {"main"}
    assert asked.value("SELECT count(*) FROM lakeflight.main.processes WHERE exe = 'surface-one'") == 1


@pytest.mark.parametrize("verb", ["EXPLAIN", "EXPLAIN ANALYZE"])
def test_plans_name_no_file(asked: Asked, verb: str) -> None:
    plan = "".join(
        row["plan"] for row in asked.rows(f"{verb} SELECT level, msg FROM {asked.logs(asked.one)} WHERE level > 2")
    )

    assert "msg" in plan
    for sign in (".parquet", str(asked.server.data_dir), "/tmp/", "view_set="):
        assert sign not in plan


# --- options


def test_the_limit_header_cuts_every_statement(asked: Asked) -> None:
    with asked.server.connect({"limit": "3"}) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT i FROM range(1000) t(i)")
        assert cursor.fetchall() == [(0,), (1,), (2,)]
        cursor.execute(f"SELECT level FROM {asked.logs(asked.one)} LIMIT 2")
        assert len(cursor.fetchall()) == 2


@pytest.mark.parametrize("header", ["limit", "query_range_begin", "x-lakeflight-strict", "x-output-profile"])
def test_an_option_that_cannot_be_read_is_refused_by_name(asked: Asked, header: str) -> None:
    with pytest.raises(Exception, match=header), asked.server.connect({header: "nonsense"}) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")


def test_range_headers_filter_rows_and_halves_are_one_sided(asked: Asked) -> None:
    sql = f"SELECT count(*) FROM {asked.logs(asked.one)}"
    middle = format_time(START_NS + HOUR_NS // 2) + "Z"
    counts = []
    for headers in ({}, {"query_range_begin": middle}, {"query_range_end": middle}):
        with asked.server.connect(headers) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            counts.append(cursor.fetchone()[0])

    everything, after, before = counts
    assert everything == after + before
    assert after > 0 and before > 0


def test_strict_changes_nothing_where_nothing_is_missing(asked: Asked) -> None:
    with connect(asked.server.flight) as client:
        sql = f"SELECT count(*) AS n FROM {asked.logs(asked.one)}"

        assert client.query(sql, strict=True) == client.query(sql)


# --- endings


@pytest.mark.parametrize(
    ("value", "sql_type"),
    [
        (10, "BIGINT"),
        (1.5, "DOUBLE"),
        (True, "BOOLEAN"),
        (b"a", "BLOB"),
        ("a", "VARCHAR"),
        (datetime.datetime(2026, 1, 31, 12), "TIMESTAMP"),  # noqa: DTZ001
        (datetime.date(2026, 1, 31), "DATE"),
        ([1, 2], "BIGINT[]"),
    ],
)
def test_the_client_library_binds_a_value_in_its_own_type(asked: Asked, value: Any, sql_type: str) -> None:
    with connect(asked.server.flight) as client:
        [row] = client.query("SELECT typeof(?) AS kind, ? IS NULL AS lost", params=[value, value]).to_pylist()

    assert row == {"kind": sql_type, "lost": False}


def test_the_client_library_compares_numbers_as_numbers(asked: Asked) -> None:
    levels = f"SELECT count(*) AS n FROM {asked.logs(asked.one)}"
    with connect(asked.server.flight) as client:
        [row] = client.query("SELECT ? > ? AS more, ? = ? AS same", params=[10, 9, None, 1]).to_pylist()
        [every] = client.query(levels).to_pylist()
        [found] = client.query(f"{levels} WHERE list_contains(?, level)", params=[[1, 2, 3, 4, 5, 6]]).to_pylist()
        [one] = client.query(f"{levels} WHERE level <= ? AND time > ?", params=[6, 0]).to_pylist()
        [none] = client.query(f"{levels} WHERE list_contains(?, level)", params=[[]]).to_pylist()

    assert row == {"more": True, "same": None}
    assert every["n"] > 0
    assert (found, one, none) == (every, every, {"n": 0})


def test_a_clients_deadline_is_an_error_and_frees_the_worker(asked: Asked) -> None:
    option = adbc_driver_flightsql.StatementOptions.TIMEOUT_FETCH.value
    with asked.connection.cursor(adbc_stmt_kwargs={option: "0.5"}) as cursor:
        begun = time.monotonic()
        with pytest.raises((adbc_driver_flightsql.dbapi.Error, OSError), match=r"(?i)deadline|timeout"):
            cursor.execute(RUNAWAY)
            cursor.fetchall()
        assert time.monotonic() - begun < FREE_AFTER_S

    _assert_all_slots_are_free(asked)


def test_cancelling_in_the_middle_of_a_stream_frees_the_worker(asked: Asked) -> None:
    for _ in range(4):  # more often than there are workers
        with asked.connection.cursor() as cursor:
            cursor.execute("SELECT i, repeat('x', 100) AS text FROM range(100000000) t(i)")
            reader = cursor.fetch_record_batch()
            assert reader.read_next_batch().num_rows > 0
            cursor.adbc_cancel()
            with pytest.raises((adbc_driver_flightsql.dbapi.Error, OSError, pa.ArrowException)):
                while True:
                    reader.read_next_batch()
        _assert_all_slots_are_free(asked)


def test_leaving_in_the_middle_of_a_stream_frees_the_worker(asked: Asked) -> None:
    for _ in range(4):
        with raw_flight(asked.server.flight) as client:
            reader = client.reader("SELECT i, repeat('x', 100) AS text FROM range(100000000) t(i)")
            assert reader.read_chunk().data.num_rows > 0
        _assert_all_slots_are_free(asked)


def _assert_all_slots_are_free(asked: Asked) -> None:
    """As many statements at once as there may be workers answer at once."""
    answers: list[float] = []

    def ask() -> None:
        begun = time.monotonic()
        assert asked.server.query("SELECT 41 + 1 AS a").to_pylist() == [{"a": 42}]
        answers.append(time.monotonic() - begun)

    threads = [threading.Thread(target=ask) for _ in range(max(2, os.cpu_count() or 2))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == len(threads)
    assert max(answers) < FREE_AFTER_S


# --- refusals


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        ("SELECT * FROM view_instance('no_such_set', 'global')", "view set 'no_such_set' not found"),
        ("SELECT * FROM view_instance('thread_spans', 'global')", "thread_spans"),
        ("SELECT * FROM view_instance('log_entries', 'not-an-id')", "not-an-id"),
        ("SELECT nothing FROM log_entries", 'Referenced column "nothing" not found'),
        ("SELECT level + FROM log_entries WHERE", r"syntax error at .*\(line 1, column \d+\)"),
        ("SELECT *\nFROM log_entries\nWHERE level >> >> 3 FROM", r"syntax error at .*\(line 3, column \d+\)"),
        ("SELECT * FROM thread_spans", "thread_spans"),
        ("SELECT * FROM no_such_table", "no_such_table"),
        ("SELECT no_such_function(1)", "no_such_function"),
        ("SELECT 1; SELECT 2", "statement"),
        ("-- nothing", "statement"),
        ("DELETE FROM log_entries", r"SELECT"),
        ("SELECT 'x'::INTEGER", "Conversion Error"),
        ("SELECT msg FROM log_entries WHERE time > '2024-01-01T00:00:00+02:00'", "offset"),
        ("SELECT msg FROM log_entries WHERE time > TIMESTAMPTZ '2024-01-01 00:00:00+02'", "AT TIME ZONE 'UTC'"),
        ("SELECT TIMESTAMPTZ '2024-01-01' - time FROM log_entries", "AT TIME ZONE 'UTC'"),
    ],
)
def test_a_refusal_says_what_and_where(asked: Asked, sql: str, sentence: str) -> None:
    with pytest.raises(adbc_driver_flightsql.dbapi.ProgrammingError, match=sentence) as caught:
        asked.rows(sql)

    text = str(caught.value)
    assert text.startswith("INVALID_ARGUMENT")
    assert "query_id=" in text
    for sign in ("vi_", "Traceback", "/tmp", ".parquet"):
        assert sign not in text


def test_an_id_of_another_kind_is_said_to_be_one(asked: Asked) -> None:
    process, stream = asked.one.process_id, asked.one.streams["cpu"]
    for sql, advised in (
        (f"SELECT * FROM view_instance('thread_spans', '{process}')", {"stream_id": stream}),
        (f"SELECT * FROM view_instance('log_entries', '{stream}')", {"process_id": process}),
    ):
        with pytest.raises(adbc_driver_flightsql.dbapi.ProgrammingError, match="not found: this is a") as caught:
            asked.rows(sql)
        advice = re.search(r"SELECT .* = '[-0-9a-f]+'", str(caught.value))
        assert advice is not None
        assert any(row.items() >= advised.items() for row in asked.rows(advice[0]))


def test_the_client_library_raises_its_own_errors(asked: Asked) -> None:
    with connect(asked.server.flight) as client:
        with pytest.raises(StatementError, match="syntax error") as caught:
            client.query("SELEC 1")

    assert caught.value.query_id is not None


# --- schemas


SHAPES = [
    "SELECT * FROM log_entries",
    "SELECT * FROM measures",
    "SELECT * FROM processes",
    "SELECT * FROM streams",
    "SELECT * FROM blocks",
    "SELECT * FROM {spans}",
    "SELECT * FROM {logs} WHERE false",
    "SELECT count(*) AS n, sum(level) AS s, avg(level) AS a, min(time) AS t, max(msg) AS m FROM {logs}",
    "SELECT level, count(*) FROM {logs} GROUP BY level ORDER BY level",
    "SELECT l.msg, s.name FROM {logs} l LEFT JOIN {spans} s ON l.time = s.begin LIMIT 5",
    "SELECT time, msg FROM {logs} UNION ALL SELECT begin, name FROM {spans}",
    "SELECT 1::TINYINT a, 2::UTINYINT b, 3::UBIGINT c, 4::HUGEINT d, 1.5::FLOAT e, 1.5::DECIMAL(18, 3) f, true g, NULL h",
    "SELECT DATE '2020-01-01' a, TIME '10:00:00' b, now() c, TIMESTAMP_NS '2020-01-01' d, INTERVAL 1 DAY e",
    "SELECT [1, 2] a, {{'x': 1, 'y': 'z'}} b, MAP {{'k': 'v'}} c, 'abc'::BLOB d",
    "SELECT time, row_number() OVER (ORDER BY time) AS n, lag(level) OVER (ORDER BY time) AS p FROM {logs}",
    "WITH c AS (SELECT * FROM {logs}) SELECT DISTINCT level, target FROM c",
    "SHOW TABLES",
    "DESCRIBE SELECT * FROM {logs}",
    "SUMMARIZE SELECT * FROM {logs}",
    "EXPLAIN SELECT * FROM {logs}",
    "SELECT * FROM information_schema.columns",
]


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_promised_is_what_comes(asked: Asked, shape: str) -> None:
    sql = shape.format(logs=asked.logs(asked.one), spans=asked.spans(asked.one))
    with raw_flight(asked.server.flight) as client:
        promised = client.promised(sql)
        streamed = client.get(sql).schema

        assert promised.equals(streamed, check_metadata=True), f"{promised}\n{streamed}"
        assert client.schema(sql).equals(promised, check_metadata=True)


def test_times_are_utc_nanoseconds_and_counts_are_never_null(asked: Asked) -> None:
    with raw_flight(asked.server.flight) as client:
        schema = client.get(
            f"SELECT count(*) AS n, min(time) AS t, sum(level) AS s FROM {asked.logs(asked.one)}"
        ).schema

    assert schema.field("n") == pa.field("n", pa.int64(), nullable=False)
    assert schema.field("t") == pa.field("t", NS)
    assert schema.field("s") == pa.field("s", pa.int64())


# --- the command


def _command(asked: Asked, *arguments: str, server: str | None = None) -> subprocess.CompletedProcess[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LAKEFLIGHT_")}
    return subprocess.run(
        [sys.executable, "-m", "server", "query", "--server", server or asked.server.flight, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_the_command_writes_each_format(asked: Asked, tmp_path: Path) -> None:
    sql = f"SELECT level, msg FROM {asked.logs(asked.one)} ORDER BY time, msg"
    rows = asked.rows(sql)

    table = _command(asked, sql)
    assert table.returncode == 0, table.stderr
    assert "level" in table.stdout.decode() and rows[0]["msg"] in table.stdout.decode()

    as_csv = _command(asked, sql, "--format", "csv")
    assert as_csv.returncode == 0
    assert list(csv.DictReader(io.StringIO(as_csv.stdout.decode()))) == [
        {name: str(value) for name, value in row.items()} for row in rows
    ]

    as_json = _command(asked, sql, "--format", "json")
    assert as_json.returncode == 0
    assert json.loads(as_json.stdout) == rows

    file = tmp_path / "rows.parquet"
    as_parquet = _command(asked, sql, "-o", str(file))
    assert as_parquet.returncode == 0
    assert pq.read_table(file).to_pylist() == rows

    bound = _command(
        asked, f"SELECT count(*) AS n FROM {asked.logs(asked.one)} WHERE level = ?", "--param", "4", "--format", "json"
    )
    assert bound.returncode == 0, bound.stderr
    assert json.loads(bound.stdout) == [{"n": sum(row["level"] == 4 for row in rows)}]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("SELEC 1",), 3, "syntax error"),
        (("SELECT * FROM view_instance('log_entries', 'zzz')",), 3, "zzz"),
        (("SELECT 1", "--begin", "yesterday"), 2, "yesterday"),
        ((), 2, "statement"),
        (("SELECT 1", "--format", "parquet", "-o", f"{__file__}/x.parquet"), 2, f"{__file__}/x.parquet"),
    ],
)
def test_exit_codes_say_whose_turn_it_is(asked: Asked, arguments: tuple[str, ...], code: int, said: str) -> None:
    done = _command(asked, *arguments)

    assert done.returncode == code, done.stderr
    assert said in done.stderr.decode()
    assert done.stdout == b""


def test_a_server_that_is_not_there_has_an_exit_code_of_its_own(asked: Asked) -> None:
    done = _command(asked, "SELECT 1", server=f"grpc://{REFUSED}")

    assert done.returncode == 5
    assert done.stdout == b""
