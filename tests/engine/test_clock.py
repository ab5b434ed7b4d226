"""One clock: every function and keyword that tells the time tells when the statement began, and nothing else can."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from lakehouse.engine.engine import QueryEngine
from lakehouse.engine.functions import CLOCK_FUNCTIONS, CLOCK_KEYWORDS, Verdict, function_rules, own_functions
from lakehouse.errors import ForbiddenSqlError
from tests.support.engine_lake import CATALOG, T0, EngineLake, log_rows

CALLS = sorted(f"{name}()" for name in CLOCK_FUNCTIONS if name not in (*CLOCK_KEYWORDS, "ago"))
AN_HOUR_NS = 3_600_000_000_000


@pytest.fixture(scope="module")
def engine() -> Iterator[QueryEngine]:
    engine = QueryEngine()
    yield engine
    engine.close()


def test_every_function_that_may_be_called_and_tells_a_time_of_nothing_is_listed() -> None:
    rows = duckdb.connect().execute(
        "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type = 'scalar' AND len(parameters) = 0 "
        "AND (return_type LIKE 'TIME%' OR return_type LIKE 'DATE%')"
    )
    telling = {name for (name,) in rows.fetchall()}
    allowed = {name for name in telling if (rule := function_rules().get(name)) and rule.verdict is Verdict.ALLOW}

    assert allowed >= {"now", "today", "get_current_time", "current_localtime"}
    assert allowed <= CLOCK_FUNCTIONS
    assert allowed <= {
        function.name for function in own_functions()
    }  # by their own clock they would be of another time


@pytest.mark.parametrize("call", [*CALLS, *sorted(CLOCK_KEYWORDS)])
def test_a_clock_is_that_of_the_statement_and_its_bounds_are_not_remembered(
    tmp_path: Path, engine: QueryEngine, call: str
) -> None:
    lake = EngineLake(tmp_path, engine)
    logs = lake.logs(lake.write(log_rows(1), "logs"))
    sql = f"SELECT CAST({call} AS VARCHAR) AS c FROM log_entries"

    [told] = {row["c"] for row in lake.rows(sql, logs, now_ns=T0)}
    assert told in (
        "2023-11-14 22:13:20",
        "2023-11-14",
        "22:13:20",
    )
    bounded = f"SELECT msg FROM log_entries WHERE time > TIMESTAMP '2020-01-01' AND {call} IS NOT NULL"
    assert engine.inspect(bounded, None, CATALOG, now_ns=T0).volatile


def test_bounds_by_the_time_of_the_day_move_with_the_clock(engine: QueryEngine) -> None:
    sql = "SELECT msg FROM log_entries WHERE time >= DATE '2023-11-14' + current_time"
    first, second = (
        engine.inspect(sql, None, CATALOG, now_ns=now_ns).references[0].range for now_ns in (T0, T0 + AN_HOUR_NS)
    )
    assert first.begin_ns is not None and second.begin_ns == first.begin_ns + AN_HOUR_NS


@pytest.mark.parametrize("sql", ["age(TIMESTAMP '2020-01-01')", "age(time)", "time.age()", "main.age(time)"])
def test_the_age_of_one_time_is_by_a_clock_of_the_engine_and_refused(engine: QueryEngine, sql: str) -> None:
    with pytest.raises(ForbiddenSqlError, match=r"write age\(today\(\), …\)"):
        engine.inspect(f"SELECT {sql} FROM log_entries", None, CATALOG)
    engine.inspect("SELECT age(today(), time)::VARCHAR AS a FROM log_entries", None, CATALOG)


@pytest.mark.parametrize("schema", ["system.main", "system", "SYSTEM.main", "pg_catalog"])
def test_what_ours_stands_before_is_not_reached_by_a_schema(engine: QueryEngine, schema: str) -> None:
    own = [function.name for function in own_functions() if not function.is_private]
    for name in own:
        with pytest.raises(ForbiddenSqlError, match=rf"function {schema.lower()}.{name} is not allowed: write {name}"):
            engine.inspect(f"SELECT {schema}.{name}()", None, CATALOG)
    assert engine.inspect("SELECT main.now() AS n", None, CATALOG, now_ns=T0).schema


def test_a_time_is_the_same_in_an_engine_that_has_seen_no_statement_before() -> None:
    sql = "SELECT now() - INTERVAL '1 hour' AS c"
    fresh = QueryEngine()
    try:
        ran = fresh.run(sql, (), [], catalog=CATALOG, identity="somebody", now_ns=T0 + 123)
        rows = [told for batch in ran for told in batch.column("c").cast(pa.int64()).to_pylist()]
    finally:
        fresh.close()

    assert rows == [T0 + 123 - AN_HOUR_NS]


@pytest.mark.parametrize("call", ["now()", "CURRENT_TIMESTAMP", "get_current_timestamp()", "ago(INTERVAL '0 seconds')"])
@pytest.mark.parametrize(
    ("expression", "moved_ns"),
    [
        ("epoch_ns({} - INTERVAL '1 hour')", -AN_HOUR_NS),
        ("epoch_ns(INTERVAL 1 HOUR + {})", AN_HOUR_NS),
        ("epoch_ns(CAST(CAST({} AS VARCHAR) AS TIMESTAMP_NS))", 0),
        ("greatest(epoch_ns({} + INTERVAL 1 HOUR), 0)", AN_HOUR_NS),
    ],
)
def test_the_clock_keeps_its_nanoseconds_inside_of_calls(
    tmp_path: Path, engine: QueryEngine, call: str, expression: str, moved_ns: int
) -> None:
    lake = EngineLake(tmp_path, engine)
    logs = lake.logs(lake.write(log_rows(1), "logs"))
    now_ns = T0 + 123_456_789

    [row] = lake.rows(f"SELECT {expression.format(call)} AS moved FROM log_entries", logs, now_ns=now_ns)

    assert row["moved"] == now_ns + moved_ns
