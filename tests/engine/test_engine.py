"""Statements over real Parquet files: schemas that hold, databases that are shared with care, errors for the user."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from lakehouse.engine import Relation, relation_name
from lakehouse.engine.database import Database
from lakehouse.engine.engine import Memory, QueryEngine
from lakehouse.engine.limits import DEFAULT_LIMITS, EngineLimits
from lakehouse.engine.names import view_set_table
from lakehouse.engine.translate import translate
from lakehouse.errors import (
    BackendUnavailableError,
    ForbiddenSqlError,
    InternalError,
    LakeflightError,
    LimitExceededError,
    QueryCancelledError,
    QueryError,
    UnknownViewError,
    UnsupportedError,
)
from lakehouse.model import TimeRange
from tests.support.engine_lake import (
    CATALOG,
    LOGS,
    SECOND,
    STREAM,
    T0,
    EngineLake,
    log_rows,
    schema_of,
    span_rows,
)
from tests.support.hostile_sql import ATTACKS, BOMBS, fill


@pytest.fixture(scope="module")
def engine() -> Iterator[QueryEngine]:
    engine = QueryEngine()
    yield engine
    engine.close()


@pytest.fixture
def lake(tmp_path: Path, engine: QueryEngine) -> EngineLake:
    return EngineLake(tmp_path, engine)


SHAPES = [
    "SELECT count(*) FROM log_entries",
    "SELECT count(*) AS n, count(level), count(DISTINCT target) FROM log_entries",
    "SELECT count(*) + 1, sum(level), avg(level), min(time), max(msg) FROM log_entries",
    "SELECT * FROM log_entries",
    "SELECT *, count(*) OVER () FROM log_entries",
    "SELECT l.*, count(*) FROM log_entries l GROUP BY ALL",
    "SELECT count(*), max(COLUMNS(*)), count(*) FROM log_entries",
    "SELECT * EXCLUDE (msg) FROM log_entries LIMIT 0",
    "SELECT target, count(*) FROM log_entries GROUP BY target ORDER BY 2 DESC",
    "SELECT * FROM (SELECT count(*) FROM log_entries)",
    "SELECT count(*) FROM log_entries UNION ALL SELECT 1",
    f"SELECT * FROM view_instance('thread_spans', '{STREAM}')",
    f"SELECT name, sum(duration) AS total FROM view_instance('thread_spans', '{STREAM}') GROUP BY name",
    f"SELECT s.name, l.msg FROM view_instance('thread_spans', '{STREAM}') s LEFT JOIN log_entries l ON l.time = s.begin",
    f"SELECT \"end\" - begin AS took FROM view_instance('thread_spans', '{STREAM}')",
    "SELECT 1, 1.5, 'x', NULL, true, DATE '2024-01-01', TIME '10:00:00', INTERVAL '1 hour', uuid()",
    "SELECT 1 AS a, 2 AS a, 3 AS A",
    "SELECT TIMESTAMP '2024-01-01', TIMESTAMP_S '2024-01-01', TIMESTAMPTZ '2024-01-01', now(), current_timestamp",
    "SELECT date_trunc('hour', time) AS hour, time - INTERVAL '1 day' AS before FROM log_entries",
    "SELECT [time], {'at': time, 'n': [1.5]}, MAP {'k': time}, [INTERVAL '1 day']::VARCHAR FROM log_entries",
    "SELECT list(level), list(time), array_agg(msg ORDER BY time) FROM log_entries",
    "SELECT 5::HUGEINT, 5::UHUGEINT, 5 / 2, 5 / 2.0, 1e3",
    "SELECT 'a'::ENUM('a', 'b'), 'x'::BLOB, '{}'::JSON, [1, 2]::INT[2], row(1, 'a')",
    "SELECT level::TINYINT, level::SMALLINT, level::UTINYINT, level::UBIGINT, level::FLOAT FROM log_entries",
    "WITH a AS (SELECT time, level FROM log_entries) SELECT a.level, b.time FROM a JOIN a b USING (level)",
    "WITH RECURSIVE r AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM r WHERE i < 3) SELECT * FROM r",
    "SELECT row_number() OVER (ORDER BY time) AS n, lag(level) OVER (ORDER BY time) FROM log_entries",
    "SELECT CASE WHEN level > 3 THEN 'high' END AS what, level IN (1, 2) AS low FROM log_entries",
    "VALUES (1, 'a'), (2, NULL)",
    "FROM log_entries SELECT msg WHERE level = 1",
    "SELECT unnest([1, 2, 3]) AS u, count(*) OVER () FROM log_entries",
    "SELECT DISTINCT ON (target) target, time FROM log_entries ORDER BY target, time",
    "PIVOT log_entries ON target IN ('net', 'disk') USING count(*) GROUP BY level",
    "SELECT level, count(*) FROM log_entries GROUP BY ROLLUP (level)",
    "SELECT (SELECT count(*) FROM log_entries) AS n",
    "SELECT quantile_cont(level, 0.5), median(level), stddev(level), approx_count_distinct(msg) FROM log_entries",
    "SUMMARIZE log_entries",
    "DESCRIBE log_entries",
    "DESCRIBE SELECT count(*) FROM log_entries",
    "SHOW TABLES",
    "EXPLAIN SELECT count(*) FROM log_entries",
    "EXPLAIN ANALYZE SELECT count(*) FROM log_entries",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM information_schema.columns WHERE table_name = 'blocks'",
    "SELECT c.column_name FROM lakeflight.information_schema.columns c JOIN information_schema.tables t "
    "ON t.table_name = c.table_name",
    "SELECT date_part('year', time), epoch_ns(time), strftime(time, '%Y') FROM log_entries",
    "SELECT json_extract(properties, '$.a'), properties ->> 'a' FROM log_entries",
    "SELECT * FROM range(3) t(i), generate_series(1, 2) s(j)",
]


@pytest.mark.parametrize("sql", SHAPES)
def test_the_announced_schema_is_the_delivered_one(lake: EngineLake, sql: str) -> None:
    """Clients compare the two by name, type and nullability, and drop the result over any difference."""
    logs = lake.logs(lake.write(log_rows(20), "logs"))
    spans = lake.spans(lake.write(span_rows(20), "spans"))

    announced = schema_of(lake.engine.inspect(sql, None, CATALOG).schema)
    delivered = lake.table(sql, logs, spans)

    assert delivered.schema.equals(announced, check_metadata=True)
    for column, member in zip(delivered.columns, announced, strict=True):
        assert member.nullable or column.null_count == 0


def test_empty_relations_give_the_same_schema_as_files(lake: EngineLake) -> None:
    logs = lake.logs(lake.write(log_rows(3), "logs"))

    for sql in ("SELECT * FROM log_entries", "SELECT count(*), max(time) FROM log_entries"):
        assert lake.table(sql, logs).schema == lake.table(sql, lake.logs()).schema


def test_types_at_the_edge(lake: EngineLake) -> None:
    sql = (
        "SELECT count(*), sum(level), 1.5, max(time), max(time) - min(time), INTERVAL '90 minutes', "
        "TIMESTAMP '2024-01-01 00:00:00.000001' FROM log_entries"
    )
    table = lake.table(sql, lake.logs(lake.write(log_rows(11), "logs")))

    utc = pa.timestamp("ns", "UTC")
    assert table.schema.types == [
        pa.int64(), pa.int64(), pa.decimal128(2, 1), utc, pa.duration("ns"), pa.duration("ns"), utc
    ]  # fmt: skip
    assert table.schema.field(0) == pa.field("count(*)", pa.int64(), nullable=False)
    assert [column.cast(pa.int64())[0].as_py() for column in table.columns[3:]] == [
        T0 + 10 * SECOND,
        10 * SECOND,
        5_400 * SECOND,
        1_704_067_200_000_001_000,
    ]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 170141183460469231731687303715884105727",
        "SELECT TIMESTAMP '9999-12-31'",
        "SELECT TIMESTAMP 'infinity'",
        "SELECT DATE '-infinity'",
        "SELECT INTERVAL '1 month'",
        "SELECT INTERVAL '3000000 hours'",
        "SELECT INTERVAL '100000 days 2000000 hours' AS a, 1 AS a",
        "SELECT 340282366920938463463374607431768211455::UHUGEINT",
        "SELECT 340282366920938463454151235394913435648::UHUGEINT AS a, 1 AS a",
        "SELECT x::UHUGEINT + 9223372036854775807 FROM range(3) t(x)",
        "SELECT 'infinity'::TIMESTAMP_NS",
        "SELECT max(x) FROM (VALUES ('-infinity'::TIMESTAMP_NS)) t(x)",
        "SELECT 'infinity'::TIMESTAMPTZ_NS",
        "SELECT greatest(time, 'infinity') FROM (SELECT TIMESTAMP_NS '2024-01-01' AS time)",
        "WITH log_entries AS (SELECT 'infinity'::TIMESTAMP_NS AS time) SELECT time FROM log_entries",
        "SELECT TIME '24:00:00'",
        "SELECT TIME_NS '24:00:00'",
        "SELECT ['infinity'::DATE]",
        "SELECT [NULL, [DATE '2024-01-01'], ['-infinity'::DATE]]",
        "SELECT ['infinity'::DATE, '2020-01-01']::DATE[2]",
        "SELECT {'a': {'b': 'infinity'::DATE}}",
        "SELECT MAP {'infinity'::DATE: 1}",
        "SELECT [MAP {1: 'infinity'::TIMESTAMP_NS}]",
        "SELECT ['infinity'::TIMESTAMP]",
        "SELECT [TIMESTAMP '9999-12-31']",
        "SELECT {'a': 'infinity'::TIMESTAMP_S}",
        "SELECT [TIME '24:00:00']",
        "SELECT [170141183460469231731687303715884105727]",
    ],
)
def test_what_does_not_fit_the_edge_is_an_error_and_never_another_value(lake: EngineLake, sql: str) -> None:
    with pytest.raises(QueryError, match=r"does not fit|no fixed length"):
        lake.table(sql)


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("SELECT [to_microseconds(10000000000000000)]", "INTERVAL"),
        ("SELECT {'took': INTERVAL '1 day'}", "INTERVAL"),
        ("SELECT MAP {'k': [340282366920938463463374607431768211455::UHUGEINT]}", "UHUGEINT"),
    ],
)
def test_what_the_engine_would_wrap_around_inside_of_a_value_is_refused_by_type(
    lake: EngineLake, sql: str, kind: str
) -> None:
    with pytest.raises(UnsupportedError, match=f"type {kind} inside of a list, struct or map.*: cast it to VARCHAR"):
        lake.engine.inspect(sql, None, CATALOG)


def test_the_cast_to_text_shows_what_does_not_fit(lake: EngineLake) -> None:
    sql = """SELECT 340282366920938463463374607431768211455::UHUGEINT::VARCHAR AS a, 'infinity'::TIMESTAMP_NS::VARCHAR AS b,
        TIME '24:00:00'::VARCHAR AS c, ['infinity'::DATE]::VARCHAR AS d"""

    assert lake.rows(sql) == [
        {"a": "340282366920938463463374607431768211455", "b": "infinity", "c": "24:00:00", "d": "[infinity]"}
    ]


def test_values_next_to_what_does_not_fit_arrive(lake: EngineLake) -> None:
    sql = """SELECT 9223372036854775807::UHUGEINT AS a, NULL::UHUGEINT AS b, TIME '23:59:59.999999' AS c, [NULL::DATE] AS d,
        epoch_ns(x) AS e, x FROM (SELECT '2262-04-11 23:47:16.854775806'::TIMESTAMP_NS AS x)"""
    table = lake.table(sql)

    assert table.column("x").cast(pa.int64()).to_pylist() == [(1 << 63) - 2]
    assert table.drop_columns(["x", "c"]).to_pylist() == [
        {"a": (1 << 63) - 1, "b": None, "d": [None], "e": (1 << 63) - 2}
    ]


def test_a_stored_moment_that_is_infinity_to_the_engine_keeps_nobody_from_reading(lake: EngineLake) -> None:
    logs = lake.logs(lake.write(log_rows(2, begin_ns=(1 << 63) - 2, step_ns=1), "logs"))

    for sql in ("SELECT * FROM log_entries", "SELECT msg, time FROM log_entries ORDER BY level LIMIT 2"):
        assert max(lake.table(sql, logs).column("time").cast(pa.int64()).to_pylist()) == (1 << 63) - 1
    for sql in (
        "SELECT max(time) FROM log_entries",
        "SELECT * REPLACE ('infinity'::TIMESTAMP_NS AS time) FROM log_entries",
        "SELECT * FROM log_entries UNION ALL SELECT * FROM log_entries",
    ):
        with pytest.raises(QueryError, match="does not fit"):
            lake.table(sql, logs)


def test_a_nanosecond_is_kept(lake: EngineLake) -> None:
    path = lake.write(log_rows(3, begin_ns=T0 + 7, step_ns=1), "logs")

    rows = lake.rows(f"SELECT time FROM log_entries WHERE time > make_timestamp_ns({T0 + 7})", lake.logs(path))

    assert [row["time"] for row in rows] == [T0 + 8, T0 + 9]


def test_the_header_range_filters_rows_and_files_inside_of_it_are_read_whole(lake: EngineLake) -> None:
    first = lake.write(span_rows(10, begin_ns=T0), "first")
    second = lake.write(span_rows(10, begin_ns=T0 + 100 * SECOND), "second")
    limits = TimeRange(T0 + 5 * SECOND, T0 + 200 * SECOND)
    sql = f"SELECT count(*) AS n FROM view_instance('thread_spans', '{STREAM}')"
    filtered = lake.spans(first, second, range=limits)
    mixed = Relation(filtered.name, filtered.schema, (first,), "begin", "end", limits, (second,))

    expected = sum(end.value >= limits.begin_ns for end in span_rows(10, begin_ns=T0)["end"]) + 10

    assert lake.rows(sql, filtered) == lake.rows(sql, mixed) == [{"n": expected}]


def test_the_clock_stands_still_and_can_be_compared(lake: EngineLake) -> None:
    logs = lake.logs(lake.write(log_rows(10), "logs"))
    now_ns = T0 + 5 * SECOND
    sql = (
        "SELECT count(*) AS n FROM log_entries WHERE time >= now() - INTERVAL '2 seconds' AND time <= current_timestamp "
        "AND current_date = DATE '2023-11-14' AND get_current_timestamp() = now() AND today() = current_date"
    )

    inspection = lake.engine.inspect(sql, None, CATALOG, now_ns=now_ns)
    rows = lake.rows(sql, logs, now_ns=now_ns)

    assert rows == [{"n": 3}]
    assert inspection.volatile
    assert inspection.references[0].range == TimeRange(now_ns - 2 * SECOND, now_ns)


def test_the_dialect_is_the_documented_one(lake: EngineLake) -> None:
    logs = lake.logs(lake.write(log_rows(3), "logs"))

    assert lake.rows("SELECT 5 / 2 AS a, 5 / 2.0 AS b") == [{"a": 2, "b": 2.5}]
    assert [r["x"] for r in lake.rows("SELECT x FROM (VALUES (1), (NULL)) t(x) ORDER BY x DESC")] == [None, 1]
    assert [r["x"] for r in lake.rows("SELECT x FROM (VALUES (NULL), (1)) t(x) ORDER BY x")] == [1, None]
    assert len(lake.rows("SELECT time FROM log_entries WHERE time >= '2023-11-14T22:13:21Z'", logs)) == 2


def test_row_limit_comes_on_top_of_the_statements_own(lake: EngineLake) -> None:
    logs = lake.logs(lake.write(log_rows(30), "logs"))

    assert len(lake.rows("SELECT msg FROM log_entries", logs, row_limit=7)) == 7
    assert len(lake.rows("SELECT msg FROM log_entries LIMIT 3", logs, row_limit=7)) == 3
    assert len(lake.rows("SHOW TABLES", row_limit=1)) == 1
    assert lake.rows("SELECT msg FROM log_entries ORDER BY time DESC", logs, row_limit=1) == [{"msg": "line 29"}]


def test_a_trailing_semicolon_or_comment_is_no_second_statement(lake: EngineLake) -> None:
    for tail in (";", " ; -- done", " -- done", " /* done; */ ;;", " -- ;", ";\n"):
        assert lake.rows("SELECT 1 AS one" + tail, row_limit=5) == [{"one": 1}]
        assert lake.rows("DESCRIBE log_entries" + tail, row_limit=1)[0]["column_name"] == "process_id"
        assert lake.rows("SELECT $$;$$ AS a, 'é;' AS b" + tail, row_limit=5) == [{"a": ";", "b": "é;"}]
        assert "PROJECTION" in lake.rows("EXPLAIN SELECT 1 AS one" + tail)[0]["plan"]


def test_catalog_statements_leave_the_database_of_the_data_alone(lake: EngineLake) -> None:
    logs = lake.logs(lake.write(log_rows(5), "logs"))
    lake.rows("SELECT 1 AS one FROM log_entries", logs)
    kept = lake.engine.current

    lake.rows("SHOW TABLES")
    lake.rows("SELECT 1 AS one FROM log_entries", logs)

    assert lake.engine.current is kept


def test_batches_fit_one_message(lake: EngineLake) -> None:
    sql = "SELECT i, repeat('x', (i % 1000)::INTEGER) AS s FROM range(20000) t(i)"

    with lake.engine.run(sql, [], [], catalog=CATALOG, identity="somebody") as reader:
        sizes = [(batch.num_rows, len(batch.serialize())) for batch in reader]

    assert sum(rows for rows, _ in sizes) == 20_000
    assert max(size for _, size in sizes) <= 2 << 20


def test_parameters_are_bound_in_order(lake: EngineLake) -> None:
    logs = lake.logs(lake.write(log_rows(30), "logs"))
    spans = lake.spans(lake.write(span_rows(5), "spans"))

    by_text = lake.rows(
        "SELECT count(*) AS n FROM log_entries WHERE time >= ?", logs, parameters=["2023-11-14T22:13:40Z"]
    )
    instance = lake.rows(
        "SELECT count(*) AS n FROM view_instance('thread_spans', ?)", spans, parameters=[STREAM.upper()]
    )

    assert by_text == [{"n": 10}]
    assert instance == [{"n": 5}]
    with pytest.raises(QueryError, match="has 1 parameters, 2 were bound"):
        lake.rows("SELECT ?", parameters=[1, 2])
    with pytest.raises(ForbiddenSqlError, match="bound to a string"):
        lake.rows("SELECT * FROM view_instance('thread_spans', ?)", spans, parameters=[5])


@pytest.mark.parametrize(
    ("sql", "types"),
    [
        ("SELECT 1", []),
        ("SELECT * FROM log_entries WHERE time >= ? AND level = ? AND msg = ?", ["timestamp[ns, tz=UTC]", "int64", "string"]),
        ("SELECT * FROM log_entries LIMIT ? OFFSET ?", ["int64", "int64"]),
        ("SELECT level + ? FROM log_entries", ["int64"]),
        ("SELECT ?, ?::DATE, CAST(? AS DOUBLE)", ["string", "date32[day]", "double"]),
        ("SELECT * FROM view_instance('thread_spans', ?) WHERE begin >= $2 AND duration BETWEEN $3 AND $4",
         ["string", "timestamp[ns, tz=UTC]", "int64", "int64"]),
        ("SELECT * FROM log_entries WHERE level IN (?, ?) AND msg LIKE ?", ["int64", "int64", "string"]),
        ("SELECT * FROM log_entries WHERE time >= now() - ? * INTERVAL '1 hour'", ["int64"]),
    ],
)  # fmt: skip
def test_parameter_types_are_inferred(lake: EngineLake, sql: str, types: list[str]) -> None:
    inspection = lake.engine.inspect(sql, None, CATALOG)

    schema = schema_of(inspection.parameter_schema)

    assert [str(kind) for kind in schema.types] == types
    assert schema.names == [str(n) for n in range(1, len(types) + 1)]
    assert inspection.parameters == len(types)


def test_an_unbound_instance_is_known_at_prepare_by_its_columns_alone(lake: EngineLake) -> None:
    inspection = lake.engine.inspect("SELECT * FROM view_instance('thread_spans', ?)", None, CATALOG)

    assert inspection.references[0].instance is None
    assert schema_of(inspection.schema).names[:2] == ["id", "parent"]


def test_catalog_statements_show_what_may_be_queried_and_nothing_else(lake: EngineLake) -> None:
    tables = lake.rows("SHOW TABLES")
    described = lake.rows("DESCRIBE log_entries")
    columns = lake.rows("SELECT column_name FROM information_schema.columns WHERE table_name = 'log_entries'")

    assert [row["table_name"] for row in tables] == [
        "blocks", "log_entries", "processes", "quarantined_blocks", "streams",
    ]  # fmt: skip
    assert {(r["table_catalog"], r["table_schema"], r["table_type"]) for r in tables} == {
        ("lakeflight", "main", "BASE TABLE")
    }
    assert [row["column_name"] for row in described] == [row["column_name"] for row in columns] == LOGS.names
    assert described[3] == {"column_name": "time", "data_type": "TIMESTAMP_NS", "is_nullable": "YES"}
    assert lake.rows("SELECT catalog_name, schema_name FROM information_schema.schemata") == [
        {"catalog_name": "lakeflight", "schema_name": "main"}
    ]


def test_catalog_statements_need_no_relations(lake: EngineLake) -> None:
    for sql in ("SHOW TABLES", "DESCRIBE log_entries", "SELECT * FROM information_schema.tables", "SELECT 1"):
        inspection = lake.engine.inspect(sql, None, CATALOG)
        assert not inspection.needs_relations
        assert inspection.references == ()
        assert lake.rows(sql)


def test_plans_show_no_file(lake: EngineLake) -> None:
    path = lake.write(log_rows(200), "secret-name")

    for sql in ("EXPLAIN SELECT msg FROM log_entries WHERE level > 3", "EXPLAIN ANALYZE SELECT msg FROM log_entries"):
        (row,) = lake.rows(sql, lake.logs(path))
        assert "READ_PARQUET" in row["plan"]
        assert "secret-name" not in str(row) and str(lake.folder) not in str(row)


@pytest.mark.parametrize("aggregate", ["count(*)", "max(time)", "count(*) FILTER (WHERE level > 99)"])
@pytest.mark.parametrize("verb", ["EXPLAIN", "EXPLAIN ANALYZE"])
def test_a_plan_is_never_empty_even_where_statistics_are_the_answer(
    lake: EngineLake, verb: str, aggregate: str
) -> None:
    logs = lake.logs(lake.write(log_rows(20), "logs"))

    (row,) = lake.rows(f"{verb} SELECT {aggregate} FROM log_entries", logs)

    assert "SCAN" in row["plan"] or "READ_PARQUET" in row["plan"]


def test_a_common_table_expression_hides_no_view_set(lake: EngineLake) -> None:
    """Both are looked up by name when a statement is bound."""
    spans = lake.spans(lake.write(span_rows(3), "spans"))
    instance = f"view_instance('thread_spans', '{STREAM}')"

    for name in ("vs_thread_spans", "thread_spans", "set_thread_spans"):
        sql = f"WITH {name} AS (SELECT 'mine' AS name) SELECT s.name FROM {instance} s, {name}"
        announced = schema_of(lake.engine.inspect(sql, None, CATALOG).schema)
        table = lake.table(sql, spans)
        assert table.schema == announced and table.num_rows == 3
    for name in (view_set_table("thread_spans"), view_set_table("thread_spans").upper()):
        with pytest.raises(ForbiddenSqlError, match="must not be called"):
            lake.engine.inspect(f"WITH {name} AS (SELECT 1) SELECT * FROM {instance}", None, CATALOG)


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        ("SELECT '101'::BIT AS a", "column 'a' has the type BIT, which results do not have: cast it to VARCHAR"),
        ("SELECT 1 AS x, [12::BIGNUM] AS a", "column 'a' has the type BIGNUM, which results do not have"),
        ("SELECT MAP {} AS a", "column 'a' has a map whose keys have no type: cast it to VARCHAR"),
        ("SELECT " + "[" * 61 + "1" + "]" * 61 + " AS a", "column 'a' has a type nested deeper than 60 levels"),
        ("SELECT " + "[" * 400 + "1" + "]" * 400 + " AS a", "nested deeper|max_expression_depth|expression depth"),
    ],
)
def test_a_type_that_results_do_not_have_is_refused_by_column(lake: EngineLake, sql: str, sentence: str) -> None:
    with pytest.raises(LakeflightError, match=sentence) as refused:
        lake.engine.inspect(sql, None, CATALOG)

    assert not isinstance(refused.value, InternalError)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT json_transform('1', repeat('[', 50000) || repeat(']', 50000))",
        "SELECT from_json('1', '" + "[" * 5_000 + "]" * 5_000 + "')",
        "SELECT from_json_strict('1', '" + '{"a":' * 500 + "1" + "}" * 500 + "')",
        "SELECT NULL::INTEGER[100000][100000][100000][1000]",
        "SELECT (NULL::STRUCT(a INTEGER[100000])[100000][100000][100000])[1]",
    ],
)
def test_what_would_overflow_the_engine_is_refused_before_it_gets_there(lake: EngineLake, sql: str) -> None:
    with pytest.raises((LimitExceededError, ForbiddenSqlError), match=r"nested deeper|string literal|array type"):
        lake.engine.inspect(sql, None, CATALOG)


@pytest.mark.parametrize(
    "structure",
    [
        '"VARIANT"',
        '"UNION(a INT)"',
        '"BIT"',
        '"INTEGER[100000][100000][100000]"',
        '{"a": ["INTEGER[65536]"]}',
        '"' + "STRUCT(a " * 240 + "INTEGER" + ")" * 240 + '"',
        '{"a": "\\u0056ARIANT"}',
        '{"a": "VARIANT", "a": "INTEGER"}',
        '"main.INTEGER"',
        '"INTEGER',
        "[1]",
        "NaN",
    ],
    ids=lambda text: text[:30],
)
@pytest.mark.parametrize(
    "sql", ["SELECT json_transform('1', {}) FROM log_entries", "SELECT msg.from_json({}) FROM log_entries"]
)
def test_types_in_the_structure_of_json_are_held_against_the_list_too(
    lake: EngineLake, sql: str, structure: str
) -> None:
    for text, values in ((sql.format("?"), [structure]), (sql.format(f"'{structure}'"), None)):
        with pytest.raises((ForbiddenSqlError, QueryError), match="structure"):
            lake.engine.inspect(text, values, CATALOG)


def test_a_structure_of_json_must_be_text(lake: EngineLake) -> None:
    sql = "SELECT json_transform('1', ?)"
    lake.engine.inspect(sql, ['"INTEGER"'], CATALOG)

    for value in (None, 5, b'"VARIANT"'):
        with pytest.raises(ForbiddenSqlError, match="bound to a string"):
            lake.engine.inspect(sql, [value], CATALOG)
    with pytest.raises(ForbiddenSqlError, match="by position"):
        lake.engine.inspect("""SELECT json_transform(structure := '"VARIANT"', json := '1')""", None, CATALOG)
    with pytest.raises(LimitExceededError, match="limit is 65536"):
        lake.engine.inspect(sql, ["[" + " " * (64 << 10) + '"INTEGER"]'], CATALOG)


def test_structures_of_json_and_fixed_arrays_of_usual_size_are_fine(lake: EngineLake) -> None:
    sql = """SELECT json_transform('{"a": [1, 2]}', '{"a": ["INTEGER"]}').a AS a, [1, 2]::INTEGER[2] AS b"""
    assert lake.rows(sql) == [{"a": [1, 2], "b": [1, 2]}]
    assert lake.rows("SELECT from_json('[1]', ?) AS a", parameters=['["INTEGER"]']) == [{"a": [1]}]
    leaves = '{"a": "decimal(10, 2)", "b": "Timestamp with  time zone", "c": {"d": ["JSON"]}, "e": "NULL", "f": "VARCHAR(3)"}'
    assert lake.rows("SELECT json_transform('{\"e\": 1}', ?).e AS e", parameters=[leaves]) == [{"e": None}]
    sql = "SELECT x.json_transform('[\"INTEGER\"]') AS a FROM (SELECT '[1]' AS x)"
    assert lake.rows(sql) == [{"a": [1]}]
    lake.engine.inspect("SELECT from_json('[1]', ?) AS a", None, CATALOG)  # prepared: what will be bound is judged then


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (
            "Invalid Input Error: Division by zero in expression (1 // 0). Use TRY(...) to return NULL for this"
            " expression, or SET error_on_division_by_zero=false to return NULL for all divisions by zero.",
            "Invalid Input Error: Division by zero in expression (1 // 0). Use TRY(...) to return NULL for this"
            " expression",
        ),
        (
            'Binder Error: Max expression depth limit of 250 exceeded. Use "SET max_expression_depth TO x" to'
            " increase the maximum expression depth.",
            "Binder Error: Max expression depth limit of 250 exceeded",
        ),
        (
            "Binder Error: Pivot column limit of 9 exceeded. Use SET pivot_limit=X to increase the limit.",
            "Binder Error: Pivot column limit of 9 exceeded",
        ),
        (
            "Conversion Error: Could not convert string '. Use SET x=1' to INT32",
            "Conversion Error: Could not convert string '. Use SET x=1' to INT32",
        ),
        (
            "Conversion Error: Unimplemented type for cast (TIMESTAMP_NS -> TIMESTAMP_S)",
            "Conversion Error: Unimplemented type for cast (TIMESTAMP_NS -> TIMESTAMP_S): cast it to TIMESTAMP first",
        ),
    ],
)
def test_errors_advise_only_what_a_user_can_do(given: str, shown: str) -> None:
    assert str(translate(duckdb.Error(given))) == shown


def test_a_statement_too_deep_for_the_parser_gets_no_advice_that_only_we_could_take(lake: EngineLake) -> None:
    for sql in ("SELECT " + "- " * 20_000 + "1", "SELECT " + "(SELECT " * 100 + "1" + ")" * 100):
        with pytest.raises(QueryError, match="depth") as refused:
            lake.engine.inspect(sql, None, CATALOG)
        assert "SET" not in str(refused.value)


def test_the_other_way_that_a_missing_cast_advises_works(lake: EngineLake) -> None:
    logs = lake.logs(lake.write(log_rows(1), "logs"))
    (row,) = lake.rows(
        "SELECT time::TIMESTAMP::TIMESTAMP_S AS s, epoch_ns(time) AS ns, epoch(time) AS d,"
        " epoch_ns(time - time) AS i, epoch(time - time) AS id, time::TIME::TIMETZ::VARCHAR AS tz FROM log_entries",
        logs,
    )

    assert row["s"] == row["ns"] == T0 and row["d"] == T0 / 1e9 and row["i"] == row["id"] == 0 and row["tz"]


def test_two_queries_on_one_database_do_not_see_each_other(lake: EngineLake) -> None:
    first, second = lake.write(log_rows(5), "first"), lake.write(log_rows(9), "second")
    count = "SELECT count(*) AS n FROM log_entries"
    narrow = TimeRange(T0, T0 + 2 * SECOND)

    assert lake.rows(count, lake.logs(first, second)) == [{"n": 14}]
    kept = lake.engine.current
    assert lake.rows(count, lake.logs(first, second, range=narrow)) == [{"n": 6}]
    assert lake.rows(count, lake.logs(first, second)) == [{"n": 14}]
    with pytest.raises(QueryError):
        lake.rows("SELECT 'x'::INTEGER", lake.logs(first, second))
    assert lake.engine.current is kept
    assert kept is not None
    before = kept.connection.execute(
        "SELECT (SELECT count(*) FROM duckdb_tables()), (SELECT count(*) FROM duckdb_variables() WHERE name != 'lakeflight_now')"
    ).fetchall()
    assert before == [(0, 0)]


def test_relations_of_the_last_statement_are_gone(lake: EngineLake) -> None:
    logs, spans = lake.write(log_rows(5), "logs"), lake.write(span_rows(5), "spans")
    both = (lake.logs(logs), lake.spans(spans))
    lake.rows("SELECT count(*) FROM log_entries", *both)
    other = Relation(relation_name("thread_spans", "other"), both[1].schema, (logs, spans), "begin", "end")

    lake.rows("SELECT 1 AS one", Relation("log_entries", LOGS, (logs, spans)))

    assert lake.engine.current is not None
    assert lake.engine.current.connection.execute(
        "SELECT view_name FROM duckdb_views() WHERE NOT internal"
    ).fetchall() == [("log_entries",)]
    with pytest.raises(QueryError):
        lake.rows(f"SELECT * FROM view_instance('thread_spans', '{STREAM}')", other)


def test_another_identity_or_other_files_get_another_database(lake: EngineLake) -> None:
    first, second = lake.write(log_rows(5), "first"), lake.write(log_rows(9), "second")
    used = []

    for identity, paths in (("a", [first]), ("a", [first]), ("b", [first]), ("b", [first, second])):
        lake.rows("SELECT count(*) FROM log_entries", lake.logs(*paths), identity=identity)
        used.append(lake.engine.current)

    assert used[0] is used[1]
    assert used[1] is not used[2] and used[2] is not used[3]


def test_a_database_is_locked_and_opens_only_its_files(lake: EngineLake) -> None:
    path, outside = lake.write(log_rows(5), "mine"), lake.write(log_rows(5), "other")
    lake.rows("SELECT count(*) FROM log_entries", lake.logs(path))
    assert lake.engine.current is not None
    connection = lake.engine.current.connection

    settings = dict(connection.execute("SELECT name, value FROM duckdb_settings()").fetchall())

    assert settings["lock_configuration"] == "true"
    assert settings["enable_external_access"] == "false"
    assert settings["allowed_paths"] == f"[{path}]" or path in settings["allowed_paths"]
    assert settings["allowed_directories"] == "[]"
    assert settings["temp_directory"] == ""
    assert settings["max_expression_depth"] == "250"
    assert settings["python_enable_replacements"] == "false"
    for statement in (
        "SET threads = 9",
        "SET enable_external_access = true",
        f"SELECT * FROM read_parquet('{outside}')",
        f"SELECT * FROM read_text('{lake.folder}/x')",
        f"SELECT * FROM glob('{lake.folder}/*')",
        "INSTALL httpfs",
        f"ATTACH '{lake.folder}/x.db'",
    ):
        with pytest.raises(Exception, match=r"(?i)locked|permission|disabled|cannot|not"):
            connection.execute(statement).fetchall()


def test_a_lost_file_is_trouble_of_the_store_and_is_not_named(lake: EngineLake) -> None:
    path = lake.write(log_rows(5), "gone")
    Path(path).unlink()

    with pytest.raises(BackendUnavailableError) as error:
        lake.rows("SELECT * FROM log_entries", lake.logs(path))

    assert "gone" not in str(error.value)


def test_errors_are_one_line_for_the_user(lake: EngineLake) -> None:
    spans = lake.spans(lake.write(span_rows(5), "spans"))

    with pytest.raises(QueryError) as binder:
        lake.engine.inspect(f"SELECT nope FROM view_instance('thread_spans', '{STREAM}')", None, CATALOG)
    with pytest.raises(QueryError) as missing:
        lake.rows("SELECT * FROM view_instance('thread_spans', 'other')", spans)
    with pytest.raises(QueryError) as running:
        lake.rows("SELECT name::INTEGER FROM view_instance('thread_spans', $1)", spans, parameters=[STREAM])
    with pytest.raises(UnknownViewError, match="view set 'no_such' not found"):
        lake.engine.inspect("SELECT * FROM view_instance('no_such', 'global')", None, CATALOG)

    assert str(binder.value).startswith('Binder Error: Referenced column "nope" not found')
    assert str(running.value).startswith("Conversion Error")
    for error in (binder, missing, running):
        text = str(error.value)
        assert "\n" not in text and "vi_" not in text and "/" not in text and "vs_" not in text


def test_a_result_that_is_given_up_leaves_the_engine_usable(lake: EngineLake) -> None:
    with lake.engine.run("SELECT * FROM range(100000000)", [], [], catalog=CATALOG, identity="a") as reader:
        next(iter(reader))

    assert lake.rows("SELECT 1 AS one", identity="a") == [{"one": 1}]


def test_an_open_result_is_not_overtaken(lake: EngineLake) -> None:
    reader = lake.engine.run("SELECT * FROM range(10)", [], [], catalog=CATALOG, identity="a")
    with pytest.raises(RuntimeError):
        lake.engine.run("SELECT 1", [], [], catalog=CATALOG, identity="a")
    reader.close()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM range(1000000000000)",
        "SELECT i, hash(i) FROM range(1000000000000) t(i)",
        "SELECT count(*) FROM range(1000000) a, range(1000000) b",
    ],
)
def test_interrupt_from_another_thread_ends_the_statement_within_a_second(lake: EngineLake, sql: str) -> None:
    over = threading.Event()
    first: list[float] = []

    def interrupt() -> None:  # again and again, as workers do: one that comes just before the engine starts is lost
        while not over.wait(0.05 if first else 0.3):
            first.append(time.monotonic())
            lake.engine.interrupt()

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()

    with pytest.raises(QueryCancelledError):
        with lake.engine.run(sql, [], [], catalog=CATALOG, identity="a") as reader:
            for _ in reader:
                pass
    ended = time.monotonic()

    over.set()
    interrupting.join()
    assert ended - first[0] < 2
    assert lake.rows("SELECT 1 AS one", identity="a") == [{"one": 1}]


def test_memory_has_a_limit_and_its_database_is_not_used_again(tmp_path: Path) -> None:
    engine = QueryEngine(EngineLimits(memory_bytes_max=64 << 20))
    lake = EngineLake(tmp_path, engine)
    lake.rows("SELECT 1", identity="a")
    before = engine.current

    with pytest.raises(LimitExceededError, match="memory"):
        lake.rows("SELECT list(i) FROM range(100000000) t(i)", identity="a")

    assert engine.current is not before
    assert lake.rows("SELECT 1 AS one", identity="a") == [{"one": 1}]
    engine.close()


def test_a_database_made_ahead_is_taken_by_the_next_statement(tmp_path: Path) -> None:
    engine = QueryEngine()
    engine.premake()
    spare = engine.spare

    EngineLake(tmp_path, engine).rows("SELECT 1")

    assert isinstance(spare, Database) and engine.current is spare
    engine.close()


def test_a_remembered_judgement_is_never_that_of_other_values(lake: EngineLake) -> None:
    other = "6a1b2c3d-0000-4000-8000-000000000002"
    sql = "SELECT count(*) FROM view_instance('thread_spans', ?) WHERE begin >= ? AND depth <= ?"
    for instance in (STREAM, other, STREAM):
        for begin_ns in (T0, T0 + SECOND):
            begin = datetime.fromtimestamp(begin_ns / SECOND, UTC).replace(tzinfo=None)
            (reference,) = lake.engine.inspect(sql, [instance, begin, 3], CATALOG).references
            assert (reference.instance, reference.range.begin_ns) == (instance, begin_ns)

    text = "SELECT count(*) FROM log_entries WHERE time >= ?"
    lake.engine.inspect(text, ["2024-01-01T00:00:00Z"], CATALOG)
    with pytest.raises(ForbiddenSqlError, match="offset"):
        lake.engine.inspect(text, ["2024-01-01T00:00:00+02:00"], CATALOG)
    with pytest.raises(ForbiddenSqlError, match="bound to a string"):
        lake.engine.inspect(sql, [7, None, 3], CATALOG)
    with pytest.raises(QueryError, match="2 were bound"):
        lake.engine.inspect(text, ["2024-01-01T00:00:00Z", 1], CATALOG)
    structure = "SELECT from_json('[1]', ?) AS a"
    lake.engine.inspect(structure, ['["INTEGER"]'], CATALOG)
    with pytest.raises(LimitExceededError, match="nested deeper"):
        lake.engine.inspect(structure, ["[" * 200 + "]" * 200], CATALOG)


def test_inspections_are_remembered_but_for_the_clock(lake: EngineLake) -> None:
    plain = "SELECT count(*) FROM log_entries WHERE time > '2024-01-01'"
    first, second = (lake.engine.inspect(plain, None, CATALOG, now_ns=n) for n in (T0, T0 + SECOND))
    moving = "SELECT count(*) FROM log_entries WHERE time > now()"
    early, late = (lake.engine.inspect(moving, None, CATALOG, now_ns=n) for n in (T0, T0 + SECOND))

    assert first.references is second.references and second.now_ns == T0 + SECOND
    assert early.references != late.references


def test_what_is_remembered_has_a_limit_of_statements_and_one_of_text() -> None:
    memory = Memory[int](EngineLimits(statements_remembered_max=3, text_remembered_max=1_000))

    for number in range(5):
        memory.put(("", f"SELECT {number}", None), number)
    assert [memory.get(("", f"SELECT {number}", None)) for number in range(5)] == [None, None, 2, 3, 4]

    memory.put(("", "x" * 500, ("y" * 490, None)), 5)  # the older ones give way
    assert memory.get(("", "SELECT 3", None)) is None
    assert memory.get(("", "x" * 500, ("y" * 490, None))) == 5
    memory.put(("", "x" * 2_000, None), 6)
    assert memory.get(("", "x" * 2_000, None)) is None
    memory.put(("", "z" * 990, None), 7)  # what was forgotten counts no more
    memory.put(("", "z" * 990, None), 8)
    assert memory.get(("", "z" * 990, None)) == 8


_IN_A_PROCESS = """
import json, sys
from pathlib import Path
from lakehouse.engine.engine import QueryEngine
from lakehouse.errors import LakeflightError
from tests.support.engine_lake import CATALOG, EngineLake
folder, statements = Path(sys.argv[1]), json.loads(sys.stdin.read())
lake = EngineLake(folder, QueryEngine())
logs = lake.logs(str(folder / "p.parquet"))
accepted = []
for sql in statements:
    for text in (sql, f"SELECT * FROM ({sql}) x", f"WITH q AS ({sql}) SELECT * FROM q", f"EXPLAIN {sql}"):
        try:
            lake.engine.inspect(text, None, CATALOG)
            accepted.append(text)
        except LakeflightError as error:
            assert "Traceback" not in str(error)
print(json.dumps([accepted, lake.rows("SELECT count(*) AS n FROM log_entries", logs)]))
"""


def test_no_attack_is_accepted_in_any_wrapping_and_the_process_survives(lake: EngineLake) -> None:
    """In a process of its own: one of these would take the test run with it."""
    partition = lake.write(log_rows(5), "p")
    other = lake.write(log_rows(5), "o")
    secret = lake.folder / "secret.csv"
    secret.write_text("canary")
    before = {path: path.read_bytes() for path in lake.folder.iterdir()}
    hostile = [
        fill(text, secret=str(secret), partition=partition, other=other, folder=str(lake.folder))
        for text in (*ATTACKS, *BOMBS)
    ]

    done = subprocess.run(
        [sys.executable, "-c", _IN_A_PROCESS, str(lake.folder)],
        input=json.dumps(hostile),
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).resolve().parents[2],
        check=False,
    )

    assert done.returncode == 0, done.stderr[-2_000:]
    accepted, rows = json.loads(done.stdout)
    assert accepted == []
    assert rows == [{"n": 5}]
    assert {path: path.read_bytes() for path in lake.folder.iterdir()} == before


def test_every_refusal_is_an_error_of_the_lake(lake: EngineLake) -> None:
    for sql in (
        "",
        ";",
        "SELECT",
        "SELECT * FROM",
        "\0",
        "\ud800",
        "EXPLAIN",
        "EXPLAIN ANALYZE",
        "SHOW",
        "DESCRIBE nope",
    ):
        with pytest.raises(LakeflightError):
            lake.engine.inspect(sql, None, CATALOG)


def test_limits_are_the_documented_ones() -> None:
    assert (DEFAULT_LIMITS.sql_bytes_max, DEFAULT_LIMITS.relations_max, DEFAULT_LIMITS.lambda_depth_max) == (
        1 << 20,
        64,
        8,
    )


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_instances_of_one_statement_do_not_stand_in_the_way_of_the_next_one_s(
    lake: EngineLake, monkeypatch: pytest.MonkeyPatch, is_cancelled: bool
) -> None:
    """Two instances of one view set have stand-ins of their own, of which those of another view set know nothing."""
    other = "6a1b2c3d-0000-4000-8000-000000000002"
    both = " UNION ALL ".join(f"SELECT count(*) FROM view_instance('thread_spans', '{id_}')" for id_ in (STREAM, other))
    lake.engine.inspect("SELECT 1", [], CATALOG)
    run = Database._run  # noqa: SLF001

    def interrupted(self: Database, statements: str) -> None:
        run(self, statements)
        if is_cancelled and statements.startswith("CREATE OR REPLACE MACRO"):
            raise duckdb.InterruptException("INTERRUPT")

    with monkeypatch.context() as patched:
        patched.setattr(Database, "_run", interrupted)
        with pytest.raises(QueryCancelledError) if is_cancelled else nullcontext():
            assert len(lake.engine.inspect(f"{both} -- {is_cancelled}", [], CATALOG).references) == 2

    for instance in (other, STREAM):
        alone = f"SELECT count(*) FROM view_instance('log_entries', '{instance}') WHERE time > '2024-01-01'"
        (reference,) = lake.engine.inspect(f"{alone} -- {is_cancelled}", [], CATALOG).references
        assert reference.instance == instance
