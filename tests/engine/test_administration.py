"""Functions that change the lake: where a statement may call them, and what the server is told of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.engine import EngineCatalog
from lakehouse.engine.engine import QueryEngine
from lakehouse.errors import ForbiddenSqlError, QueryError
from views import default_registry

REGISTRY = default_registry()
CATALOG = EngineCatalog({name: REGISTRY.declarations[name] for name in REGISTRY.tables}, REGISTRY.declarations)
CALL = "retire_partitions('log_entries', 'global', '2026-01-01T00:00:00Z', TIMESTAMP '2026-01-02')"
BY_FILE = "retire_partition_by_file"


@pytest.fixture(scope="module")
def engine() -> Iterator[QueryEngine]:
    made = QueryEngine()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        (f"SELECT * FROM {CALL}", ["time", "msg"]),
        (f"SELECT msg AS said, time FROM {CALL} AS r;", ["said", "time"]),
        (
            f"-- now\nselect r.msg from {CALL.upper().replace('LOG_ENTRIES', 'log_entries').replace('GLOBAL', 'global')} r",
            ["msg"],
        ),
    ],
)
def test_a_statement_of_its_own_binds_and_says_what_it_does(engine: QueryEngine, sql: str, columns: list[str]) -> None:
    inspection = engine.inspect(sql, [], CATALOG)

    (reference,) = inspection.references
    assert pa.ipc.read_schema(pa.py_buffer(inspection.schema)).names == columns
    assert inspection.administers == ("retire_partitions",)
    assert reference.arguments == ("log_entries", "global", "1767225600000000000", "1767312000000000000")


def test_moments_may_be_computed_and_bound(engine: QueryEngine) -> None:
    sql = "SELECT * FROM materialize_partitions('log_entries', now() - INTERVAL '1 hour', ?, 60 * ?)"
    now_ns = 1_767_225_600_000_000_000

    inspection = engine.inspect(sql, ["2026-01-01T00:00:00Z", 60], CATALOG, now_ns=now_ns)

    assert inspection.references[0].arguments == ("log_entries", str(now_ns - 3600 * 10**9), str(now_ns), "3600")


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT * FROM {CALL} LIMIT 1",
        f"SELECT * FROM {CALL} WHERE msg LIKE 'a%'",
        f"SELECT * FROM {CALL} ORDER BY time",
        f"SELECT DISTINCT msg FROM {CALL}",
        f"SELECT count(*) FROM {CALL}",
        f"SELECT msg || 'x' FROM {CALL}",
        f"SELECT * EXCLUDE (time) FROM {CALL}",
        f"SELECT * REPLACE (msg || 'x' AS msg) FROM {CALL}",
        f"SELECT * FROM {CALL}, {CALL}",
        f"SELECT * FROM {CALL} a JOIN {CALL} b USING (msg)",
        f"SELECT * FROM {CALL} UNION ALL SELECT * FROM {CALL}",
        f"SELECT * FROM (SELECT * FROM {CALL})",
        f"WITH done AS (SELECT * FROM {CALL}) SELECT * FROM done",
        f"SELECT (SELECT max(msg) FROM {CALL})",
        f"SELECT * FROM log_entries WHERE EXISTS (SELECT 1 FROM {CALL})",
        f"EXPLAIN SELECT * FROM {CALL}",
        f"EXPLAIN ANALYZE SELECT * FROM {CALL}",
        f"DESCRIBE SELECT * FROM {CALL}",
        f"SELECT * FROM {CALL} USING SAMPLE 1",
        f"FROM {CALL} SELECT * QUALIFY row_number() OVER () = 1",
    ],
)
def test_within_another_statement_it_is_refused(engine: QueryEngine, sql: str) -> None:
    with pytest.raises(ForbiddenSqlError, match="retire_partitions is a statement of its own"):
        engine.inspect(sql, [], CATALOG)


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        (
            "SELECT * FROM retire_partitions('log_entries', 'global', 'soon', 'later')",
            "Third argument .* must be a timestamp",
        ),
        (
            "SELECT * FROM regenerate_partitions('log_entries', '2026-01-01', '2026-01-02', 'x')",
            "must be a number of seconds",
        ),
        (
            "SELECT * FROM materialize_partitions('log_entries', '2026-01-01', '2026-01-02')",
            "Fourth argument .* seconds",
        ),
        (
            "SELECT * FROM materialize_partitions(lower('X'), '2026-01-01', '2026-01-02', 1)",
            "string literal or a parameter",
        ),
    ],
)
def test_arguments_are_checked_before_anything_is_done(engine: QueryEngine, sql: str, reason: str) -> None:
    with pytest.raises(QueryError, match=reason):
        engine.inspect(sql, [], CATALOG)


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT msg FROM log_entries WHERE {BY_FILE}(msg) = 'x'",
        f"SELECT {BY_FILE}(msg) FROM log_entries LIMIT 1",
        f"SELECT {BY_FILE}(msg) FROM log_entries ORDER BY time",
        f"SELECT DISTINCT {BY_FILE}(msg) FROM log_entries",
        f"SELECT {BY_FILE}(msg), count(*) FROM log_entries GROUP BY 1",
        f"SELECT upper({BY_FILE}(msg)) FROM log_entries",
        f"SELECT * FROM (SELECT {BY_FILE}(msg) AS r FROM log_entries)",
        f"WITH r AS (SELECT {BY_FILE}('x') AS r) SELECT r FROM r",
        f"SELECT {BY_FILE}('x') UNION ALL SELECT 'y'",
        f"SELECT list_transform(['x'], lambda x: {BY_FILE}(x))",
        f"EXPLAIN ANALYZE SELECT {BY_FILE}('x')",
        f"SELECT CASE WHEN true THEN {BY_FILE}('x') END",
    ],
)
def test_a_scalar_one_is_a_column_of_the_outermost_select(engine: QueryEngine, sql: str) -> None:
    with pytest.raises(ForbiddenSqlError, match=f"{BY_FILE} may only be a column of the outermost SELECT"):
        engine.inspect(sql, [], CATALOG)


def test_it_is_asked_for_each_row_that_is_chosen_when_the_statement_runs_and_never_before(engine: QueryEngine) -> None:
    asked: list[Any] = []

    def fetch(function: str, rows: Sequence[Sequence[str | None]]) -> Sequence[str]:
        asked.append((function, [list(row) for row in rows]))
        return [f"done {row[1]}" for row in rows]

    sql = (
        "SELECT n, retire_partition_by_metadata('v', name, TIMESTAMP '2026-01-01', make_timestamp_ns(n)) AS r"
        " FROM (VALUES (1, 'a'), (2, NULL), (3, 'c')) t(n, name) WHERE n <> 1"
    )
    inspection = engine.inspect(sql, [], CATALOG)
    assert (inspection.administers, asked) == (("retire_partition_by_metadata",), [])

    with engine.run(sql, (), [], catalog=CATALOG, identity="somebody", fetch=fetch) as reader:
        rows = pa.Table.from_batches(list(reader), schema=reader.schema).to_pylist()

    assert asked == [
        (
            "lakeflight_retire_partitions",
            [["v", None, "1767225600000000000", "2", ""], ["v", "c", "1767225600000000000", "3", ""]],
        )
    ]
    assert rows == [{"n": 2, "r": "done None"}, {"n": 3, "r": "done c"}]
