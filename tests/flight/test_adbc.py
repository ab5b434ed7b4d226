"""What a program sees that comes with the ADBC driver, which compares every schema with what it was promised."""

from __future__ import annotations

import datetime
import decimal
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import adbc_driver_flightsql
import adbc_driver_flightsql.dbapi as dbapi
import adbc_driver_manager
import pyarrow as pa
import pytest

from tests.support.fake_query_service import FakeQueryService
from tests.support.flight_server import ServerInThread


@pytest.fixture
def connection(flight: ServerInThread) -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "cannot disable autocommit"
        with dbapi.connect(flight.uri) as connection:
            yield connection


def test_a_cursor_fetches_rows_in_every_way(connection: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT i, i * 2 AS twice FROM range(5) t(i) ORDER BY i")
        assert cursor.fetchone() == (0, 0)
        assert cursor.fetchmany(2) == [(1, 2), (2, 4)]
        assert cursor.fetchall() == [(3, 6), (4, 8)]

        cursor.execute("SELECT count(*) AS n FROM log_entries")
        assert cursor.fetch_arrow_table().to_pylist() == [{"n": 1000}]

        cursor.execute("SELECT i FROM range(300000) t(i)")
        reader = cursor.fetch_record_batch()
        assert sum(batch.num_rows for batch in reader) == 300_000


def test_the_default_connection_only_warns_that_there_are_no_transactions(flight: ServerInThread) -> None:
    with pytest.warns(Warning, match="autocommit"), dbapi.connect(flight.uri) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            assert cursor.fetchall() == [(1,)]


def test_the_same_text_twice_reuses_the_prepared_statement(connection: Any, queries: FakeQueryService) -> None:
    with connection.cursor() as cursor:
        for _ in range(3):
            cursor.execute("SELECT 1")
            assert cursor.fetchall() == [(1,)]

    assert queries.calls["prepare"] == 1 + 3  # one CreatePreparedStatement, one GetFlightInfo each


def test_interleaved_cursors_do_not_disturb_each_other(connection: Any) -> None:
    with connection.cursor() as one, connection.cursor() as other:
        one.execute("SELECT i FROM range(100000) t(i) ORDER BY i")
        other.execute("SELECT i FROM range(100000) t(i) ORDER BY i")
        assert one.fetchmany(3) == other.fetchmany(3)
        one.execute("SELECT 7")
        assert other.fetchone() == (3,)
        assert one.fetchall() == [(7,)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM log_entries WHERE false",
        "SELECT sum(level) s, avg(level) a, min(msg) m, count(*) n FROM log_entries",
        "SELECT 1::TINYINT a, 2::SMALLINT b, 3::UTINYINT c, 4::USMALLINT d, 5::UINTEGER e, 6::UBIGINT f, 7::HUGEINT g",
        "SELECT 1.5::FLOAT a, 1.5::DOUBLE b, 1.5::DECIMAL(18, 3) c, true d, NULL e",
        "SELECT DATE '2020-01-01' a, TIME '10:00:00' b, now() c, TIMESTAMP_NS '2020-01-01' d, INTERVAL 1 DAY e",
        "SELECT [1, 2] a, {'x': 1, 'y': 'z'} b, MAP {'k': 'v'} c, 'abc'::BLOB d, gen_random_uuid() e",
        "SHOW TABLES",
        "DESCRIBE log_entries",
        "SELECT * FROM log_entries;  -- with a comment\r\n",
        "WITH a AS (SELECT 1 x) SELECT * FROM a JOIN (SELECT 1 x, 2 y) b USING (x)",
    ],
)
def test_the_promised_schema_is_the_schema_that_comes(connection: Any, sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)  # the driver itself fails on any difference between FlightInfo and stream
        table = cursor.fetch_arrow_table()

    assert table.num_columns > 0


NAIVE = datetime.datetime(2024, 2, 29, 1, 2, 3, 456789)  # noqa: DTZ001  a timestamp without a zone
VALUES: list[tuple[str, Any, Any]] = [
    ("BIGINT", 42, 42),
    ("BIGINT", -(1 << 62), -(1 << 62)),
    ("DOUBLE", 1.5, 1.5),
    ("VARCHAR", "naïve \N{SNOWMAN} 'quoted'", "naïve \N{SNOWMAN} 'quoted'"),
    ("BLOB", b"\x00\xff", b"\x00\xff"),
    ("BOOLEAN", True, True),
    ("BIGINT", None, None),
    ("DATE", datetime.date(2024, 2, 29), datetime.date(2024, 2, 29)),
    ("TIMESTAMP", NAIVE, NAIVE),
    ("TIME", datetime.time(1, 2, 3), datetime.time(1, 2, 3)),
    ("DECIMAL(9, 2)", decimal.Decimal("1.25"), decimal.Decimal("1.25")),
]


@pytest.mark.parametrize(("sql_type", "value", "expected"), VALUES)
def test_parameters_of_each_type_arrive(connection: Any, sql_type: str, value: Any, expected: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT ?::{sql_type} AS v", (value,))
        assert cursor.fetchall() == [(expected,)]


def test_a_prepared_statement_runs_again_with_other_values(connection: Any, queries: FakeQueryService) -> None:
    with connection.cursor() as cursor:
        for level in (1, 2, 1):
            cursor.execute("SELECT DISTINCT level FROM log_entries WHERE level = ?", (level,))
            assert cursor.fetchall() == [(level,)]


def test_several_rows_of_values_run_the_query_once_per_row(connection: Any) -> None:
    rows = pa.record_batch({"0": pa.array([1, 5, 3])})
    with connection.cursor() as cursor:
        cursor.execute("SELECT level, count(*) n FROM log_entries WHERE level = ? GROUP BY level", rows)
        assert [row[0] for row in cursor.fetchall()] == [1, 5, 3]


def test_executemany_is_refused_because_it_is_an_update(connection: Any) -> None:
    with connection.cursor() as cursor, pytest.raises(dbapi.NotSupportedError, match="not supported"):
        cursor.executemany("SELECT ?", [(1,), (2,)])


def test_wrong_number_of_values_is_a_programming_error(connection: Any) -> None:
    with connection.cursor() as cursor, pytest.raises(dbapi.ProgrammingError, match="1 values were bound to 2"):
        cursor.execute("SELECT ?, ?", (1,))


def test_sixteen_clients_share_one_text_and_close_it_at_will(flight: ServerInThread) -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with dbapi.connect(flight.uri, autocommit=True) as connection:
                for _ in range(5):
                    with connection.cursor() as cursor:
                        cursor.execute("SELECT 1 AS shared")
                        assert cursor.fetchall() == [(1,)]
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []


def test_cancel_from_another_thread_ends_the_query(connection: Any, queries: FakeQueryService) -> None:
    with connection.cursor() as cursor:
        cursor.execute("stall")
        timer = threading.Timer(0.2, cursor.adbc_cancel)
        timer.start()
        with pytest.raises((dbapi.OperationalError, OSError)):
            cursor.fetchall()
        timer.join()

    deadline = time.monotonic() + 2
    while queries.open_streams and time.monotonic() < deadline:
        time.sleep(0.01)
    assert queries.open_streams == {}


def test_syntax_errors_are_programming_errors_with_the_engines_line(connection: Any) -> None:
    with connection.cursor() as cursor, pytest.raises(dbapi.ProgrammingError, match="syntax error") as caught:
        cursor.execute("SELEC 1")

    assert "query_id=" in str(caught.value)


@pytest.mark.parametrize("sql", ["  -- nothing\n", "SELECT 1; SELECT 2"])
def test_none_or_two_statements_are_refused(connection: Any, sql: str) -> None:
    with connection.cursor() as cursor, pytest.raises(dbapi.ProgrammingError, match="statement"):
        cursor.execute(sql)


def objects(connection: Any, depth: str, **filters: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = connection.adbc_get_objects(depth=depth, **filters).read_all().to_pylist()
    return found


def test_objects_at_every_depth(connection: Any) -> None:
    catalogs = objects(connection, "catalogs")
    assert [c["catalog_name"] for c in catalogs] == ["lakeflight"]

    schemas = objects(connection, "db_schemas")[0]["catalog_db_schemas"]
    assert [s["db_schema_name"] for s in schemas] == ["main"]

    tables = objects(connection, "tables")[0]["catalog_db_schemas"][0]["db_schema_tables"]
    assert {(t["table_name"], t["table_type"]) for t in tables} == {
        ("log_entries", "TABLE"),
        ("logXentries", "TABLE"),
        ("measures", "TABLE"),
        ("processes", "VIEW"),
    }

    columns = objects(connection, "all", table_name_filter="measures")[0]["catalog_db_schemas"][0]["db_schema_tables"]
    assert [c["column_name"] for c in columns[0]["table_columns"]] == ["name", "value", "tags"]
    assert columns[0]["table_columns"][1]["xdbc_type_name"] == "DOUBLE"


def test_objects_are_filtered(connection: Any) -> None:
    def names(**filters: Any) -> list[str]:
        found = objects(connection, "tables", **filters)
        return sorted(
            t["table_name"] for c in found for s in c["catalog_db_schemas"] or [] for t in s["db_schema_tables"] or []
        )

    assert names(table_name_filter="log%") == ["logXentries", "log_entries"]
    assert names(table_name_filter="log\\_entries") == ["log_entries"]
    assert names(table_types_filter=["VIEW"]) == ["processes"]
    assert names(catalog_filter="lakeflight", db_schema_filter="main", table_name_filter="measures") == ["measures"]
    assert names(db_schema_filter="other") == []
    assert names(catalog_filter="other") == []


def test_table_schema_of_exactly_that_name(connection: Any) -> None:
    schema = connection.adbc_get_table_schema("log_entries")

    assert schema.names == ["time", "level", "msg", "properties"]
    metadata = schema.field("msg").metadata
    assert metadata[b"ARROW:FLIGHT:SQL:TYPE_NAME"] == b"VARCHAR"
    assert metadata[b"ARROW:FLIGHT:SQL:IS_READ_ONLY"] == b"1"


def test_query_schemas_carry_no_remarks(connection: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM log_entries LIMIT 0")
        assert all(not field.metadata for field in cursor.fetch_arrow_table().schema)


def test_an_unknown_table_is_not_found(connection: Any) -> None:
    with pytest.raises(dbapi.ProgrammingError):
        connection.adbc_get_table_schema("nothing")


def test_driver_and_server_introduce_themselves(connection: Any) -> None:
    info = connection.adbc_get_info()

    assert info["vendor_name"] == "lakeflight"
    assert info["vendor_version"] == "1.2.3"
    assert info["vendor_arrow_version"] == pa.__version__


def test_table_types(connection: Any) -> None:
    assert connection.adbc_get_table_types() == ["TABLE", "VIEW"]


def test_current_catalog_and_schema(connection: Any) -> None:
    assert connection.adbc_current_catalog == "lakeflight"
    assert connection.adbc_current_db_schema == "main"


def test_basic_credentials_are_taken_even_if_nobody_checks_them(flight: ServerInThread) -> None:
    with dbapi.connect(flight.uri, db_kwargs={"username": "u", "password": "p:w"}, autocommit=True) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            assert cursor.fetchall() == [(1,)]


def test_call_headers_reach_the_options(flight: ServerInThread, queries: FakeQueryService) -> None:
    header = adbc_driver_flightsql.DatabaseOptions.RPC_CALL_HEADER_PREFIX.value
    settings = {header + "limit": "3", header + "query_range_begin": "2024-01-01T00:00:00+01:00"}
    with dbapi.connect(flight.uri, db_kwargs=settings, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT i FROM range(10) t(i)")
        assert len(cursor.fetchall()) == 3

    assert queries.options[-1].row_limit == 3
    assert queries.options[-1].time_range.begin_ns == 1_704_063_600_000_000_000
    assert queries.options[-1].client["user-agent"].startswith("ADBC Flight SQL Driver")


def test_a_deadline_ends_the_query_and_closes_its_stream(flight: ServerInThread, queries: FakeQueryService) -> None:
    option = adbc_driver_flightsql.StatementOptions.TIMEOUT_FETCH.value
    with dbapi.connect(flight.uri, autocommit=True) as connection:
        with connection.cursor(adbc_stmt_kwargs={option: "0.3"}) as cursor:
            with pytest.raises((adbc_driver_manager.Error, OSError)):
                cursor.execute("stall")
                cursor.fetchall()

    deadline = time.monotonic() + 2
    while queries.calls["aclose"] == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert queries.open_streams == {}
