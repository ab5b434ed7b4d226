"""What predicates imply for the rows a statement needs, and the promise that pruning by it never changes a result."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pytest

from lakehouse.engine import DeclaredRelation, EngineCatalog, Reference
from lakehouse.engine.engine import QueryEngine
from lakehouse.engine.limits import EngineLimits
from lakehouse.model import EVERYTHING, NEVER, TimeRange
from tests.support.engine_lake import CATALOG, LOGS, SECOND, STREAM

DAY = 86_400 * SECOND
JAN1 = 1_704_067_200 * SECOND  # 2024-01-01
JAN2 = JAN1 + DAY
SPAN_VIEW = f"view_instance('thread_spans', '{STREAM}')"


@pytest.fixture(scope="module")
def engine() -> Iterator[QueryEngine]:
    engine = QueryEngine()
    yield engine
    engine.close()


def references(engine: QueryEngine, sql: str, parameters: list[object] | None = None) -> dict[str, Reference]:
    found = engine.inspect(sql, parameters, CATALOG, now_ns=JAN2).references
    return {reference.relation: reference for reference in found}


@pytest.mark.parametrize(
    ("condition", "begin", "end"),
    [
        ("time >= '2024-01-01'", JAN1, None),
        ("time > '2024-01-01'", JAN1 + 1, None),
        ("time <= '2024-01-01T00:00:00Z'", None, JAN1),
        ("time < TIMESTAMP '2024-01-01'", None, JAN1 - 1),
        ("'2024-01-01' <= time", JAN1, None),
        ("time = DATE '2024-01-01'", JAN1, JAN1),
        ("time BETWEEN '2024-01-01' AND '2024-01-02'", JAN1, JAN2),
        ("time >= '2024-01-01' AND time < '2024-01-02' AND level > 3", JAN1, JAN2 - 1),
        ("time >= CAST('2024-01-01T00:00:00Z' AS TIMESTAMP) AND time <= cast('2024-01-02' as timestamp)", JAN1, JAN2),
        ("time IN ('2024-01-01', '2024-01-02')", JAN1, JAN2),
        ("time = '2024-01-01' OR time = '2024-01-02'", JAN1, JAN2),
        ("(time > '2024-01-01' AND level = 1) OR (time > '2024-01-02' AND level = 2)", JAN1 + 1, None),
        ("time >= '2024-01-01' OR level = 1", None, None),
        ("NOT time >= '2024-01-01'", None, JAN1 - 1),
        ("time >= now() - INTERVAL '1 day'", JAN1, None),
        ("time >= now() - INTERVAL '1 day' AND time <= now()", JAN1, JAN2),
        ("time > current_timestamp - INTERVAL 24 HOURS", JAN1 + 1, None),
        ("time >= date_trunc('day', now()) - INTERVAL '1 day'", JAN1, None),
        ("time >= ago(INTERVAL '1 day')", JAN1, None),
        ("time >= make_timestamp_ns(1704067200000000000)", JAN1, None),
        ("time >= TIMESTAMP '2024-01-01' + INTERVAL '1 day'", JAN2, None),
        ("CAST(time AS TIMESTAMP) >= '2024-01-01'", JAN1 - 1_000, None),
        ("time::DATE = '2024-01-01'", JAN1 - DAY - 1_000, JAN1 + DAY + 2_000),
        ("date_trunc('hour', time) >= '2024-01-01'", JAN1 - 1_000, None),
        ("date_trunc('hour', time) = '2024-01-01'", JAN1 - 1_000, JAN1 + 3_600 * SECOND + 2_000),
        ("date_trunc('day', time) BETWEEN '2024-01-01' AND '2024-01-02'", JAN1 - 1_000, JAN2 + DAY + 2_000),
        ("date_trunc(msg, time) >= '2024-01-01'", None, None),
        ("time_bucket(INTERVAL 1 HOUR, time) < '2024-01-01'", None, JAN1 + 3_600 * SECOND + 2_000),
        (f"epoch_ns(time) > {JAN1}", JAN1 + 1, None),
        (f"epoch_us(time) <= {JAN1 // 1_000}", None, JAN1 + 2_999),
        (f"epoch_ms(time) = {JAN1 // 1_000_000}", JAN1 - 1_000_000, JAN1 + 2_000_000),
        (f"epoch(time) >= {JAN1 // SECOND}", JAN1 - 3_000, None),
        ("time - INTERVAL 1 DAY >= '2024-01-01'", JAN2 - 2_998, None),
        ("time - INTERVAL 1 MONTH >= '2024-01-01'", JAN1 + 28 * DAY - 2_998, None),
        ("date_trunc('day', time + INTERVAL 1 HOUR) < '2024-01-01'", None, JAN1 + 23 * 3_600 * SECOND + 2_000),
        ("epoch_ns(time) // 1000000000 > 1704067200", JAN1 - SECOND, None),
        ("epoch_ns(time) % 1000 = 7", None, None),
        ("make_timestamp(epoch_us(time) - 5) <= '2024-01-01'", None, JAN1 + 5_000 + 2_999),
        (
            "CASE WHEN time >= TIMESTAMP_NS 'infinity' THEN TIMESTAMP 'infinity' ELSE time::TIMESTAMP END > '2024-01-01'",
            JAN1 - 1_000,
            None,
        ),
        ("CASE WHEN level > 3 THEN TIMESTAMP_NS 'infinity' ELSE time END > '2024-01-01'", None, None),
        ("CASE WHEN time < '2000-01-01' THEN TIMESTAMP_NS 'infinity' ELSE time END > '2024-01-01'", None, None),
        (
            "CASE WHEN time < TIMESTAMP_NS 'infinity' THEN TIMESTAMP_NS 'infinity' ELSE time END > '2024-01-01'",
            None,
            None,
        ),
        (
            "CASE WHEN time > TIMESTAMP_NS '-infinity' THEN TIMESTAMP_NS '-infinity' ELSE time END < '2024-01-01'",
            None,
            None,
        ),
        ("time::TIMESTAMP <= TIMESTAMP 'infinity'", None, None),
        ("time <= TIMESTAMP_NS 'infinity'", None, (1 << 63) - 1),
        ("time + INTERVAL 1 DAY >= TIMESTAMP_NS 'infinity'", None, None),
        ("TRY_CAST(time AS TIMESTAMP_S) >= '2024-01-01'", None, None),
        ("strftime(time, '%Y') >= '2024'", None, None),
        ("time >= (SELECT max(time) FROM log_entries)", None, None),
        ("time >= msg::TIMESTAMP", None, None),
        ("time >= '9999-12-31'", (1 << 63) - 1, None),
        ("time + INTERVAL '1 day' >= '2024-01-02'", JAN1 - 808, None),
        ("insert_time >= '2024-01-01'", None, None),
        ("coalesce(time, '2020-01-01') >= '2024-01-01'", None, None),
        ("log_entries.time >= '2024-01-01'", JAN1, None),
        ("CASE WHEN time >= '2024-01-01' THEN true ELSE true END", None, None),
        ("time IS NOT DISTINCT FROM '2024-01-01'", None, None),
        ("time <> '2024-01-01'", None, None),
    ],
)
def test_time_columns_compared_with_constants(
    engine: QueryEngine, condition: str, begin: int | None, end: int | None
) -> None:
    found = references(engine, f"SELECT msg FROM log_entries WHERE {condition}")

    assert found["log_entries"].range == TimeRange(begin, end)


L, E = "time >= '2024-01-01'", "time <= '2024-01-02'"


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (f"SELECT * FROM (SELECT * FROM log_entries) WHERE {L}", TimeRange(JAN1)),
        (f"SELECT * FROM (SELECT msg, time AS t FROM log_entries WHERE {E}) x WHERE x.t >= '2024-01-01'",
         TimeRange(JAN1, JAN2)),
        (f"WITH a AS (SELECT * FROM log_entries WHERE {L}) SELECT * FROM a WHERE {E}", TimeRange(JAN1, JAN2)),
        (f"WITH a AS (SELECT * FROM log_entries), b AS (SELECT * FROM a WHERE {E}) SELECT * FROM b WHERE {L}",
         TimeRange(JAN1, JAN2)),
        ("WITH a(t) AS (SELECT time FROM log_entries) SELECT * FROM a WHERE t >= '2024-01-01'", TimeRange(JAN1)),
        (f"WITH a AS (SELECT * FROM log_entries) SELECT * FROM a WHERE {L} UNION ALL SELECT * FROM a WHERE {E}",
         EVERYTHING),
        (f"WITH a AS (SELECT * FROM log_entries) SELECT (SELECT count(*) FROM a) FROM a WHERE {L}", EVERYTHING),
        (f"SELECT * FROM (SELECT * FROM log_entries LIMIT 5) WHERE {L}", EVERYTHING),
        (f"SELECT * FROM (SELECT *, row_number() OVER (ORDER BY time) FROM log_entries) WHERE {L}", EVERYTHING),
        (f"SELECT * FROM (SELECT time, count(*) FROM log_entries GROUP BY time) WHERE {L}", TimeRange(JAN1)),
        (f"SELECT * FROM (SELECT time, count(*) FROM log_entries GROUP BY 1) WHERE {L}", TimeRange(JAN1)),
        (f"SELECT * FROM (SELECT time, target, count(*) FROM log_entries GROUP BY GROUPING SETS ((time), (target))) "
         f"WHERE {L}", EVERYTHING),
        (f"SELECT * FROM (SELECT max(time) AS time FROM log_entries) WHERE {L}", EVERYTHING),
        (f"SELECT * FROM (SELECT DISTINCT time FROM log_entries) WHERE {L}", TimeRange(JAN1)),
        (f"SELECT * FROM (SELECT DISTINCT ON (target) * FROM log_entries ORDER BY target, msg) WHERE {L}", EVERYTHING),
        (f"SELECT * FROM (SELECT *, lag(msg) OVER (PARTITION BY time ORDER BY msg) FROM log_entries) WHERE {L}",
         TimeRange(JAN1)),
        (f"SELECT * FROM (SELECT * FROM log_entries QUALIFY row_number() OVER (PARTITION BY target ORDER BY msg) = 1) "
         f"WHERE {L}", EVERYTHING),
        ("SELECT * FROM (SELECT s.*, time FROM (SELECT {'time': TIMESTAMP_NS '2030-01-01'} AS s, time FROM log_entries)) "
         f"WHERE {L}", EVERYTHING),
        ("SELECT * FROM (SELECT s.* FROM (SELECT {'time': insert_time, 'other': time} AS s FROM log_entries)) "
         f"WHERE {L}", EVERYTHING),
        (f"SELECT * FROM (SELECT COLUMNS('t.*') FROM log_entries) WHERE {L}", TimeRange(JAN1)),
        ("SELECT * FROM (SELECT * RENAME (time AS insert_time, insert_time AS time) FROM log_entries) "
         f"WHERE {L}", EVERYTHING),
        ("SELECT * FROM (SELECT * RENAME (time AS insert_time, insert_time AS time) FROM log_entries) "
         "WHERE date_trunc('day', time) >= '2024-01-02'", EVERYTHING),
        (f"SELECT * FROM processes p, LATERAL (SELECT * FROM log_entries l WHERE l.process_id = p.process_id AND l.{L})",
         TimeRange(JAN1)),
        ("SELECT * FROM processes p JOIN log_entries l ON p.start_time = l.time WHERE p.start_time >= '2024-01-01'",
         TimeRange(JAN1)),
        (f"SELECT target, count(*) FROM log_entries WHERE {L} GROUP BY target HAVING max(time) <= '2024-01-02'",
         TimeRange(JAN1)),
        (f"SELECT time FROM log_entries WHERE {L} LIMIT 5", TimeRange(JAN1)),
        (f"SELECT lag(time) OVER (ORDER BY time) FROM log_entries WHERE {L}", TimeRange(JAN1)),
        (f"SELECT * FROM log_entries TABLESAMPLE 10% WHERE {L}", EVERYTHING),
        (f"SELECT * FROM log_entries WHERE {L} USING SAMPLE 5 ROWS", EVERYTHING),
        (f"(SELECT time FROM log_entries WHERE {L}) UNION (SELECT time FROM log_entries WHERE {L} AND {E})",
         TimeRange(JAN1)),
        (f"SELECT * FROM (SELECT time FROM log_entries UNION ALL SELECT time FROM log_entries) WHERE {L}",
         TimeRange(JAN1)),
        (f"SELECT * FROM (SELECT time FROM log_entries EXCEPT SELECT time FROM log_entries) WHERE {L}",
         TimeRange(JAN1)),
        (f"SELECT * FROM (SELECT time FROM log_entries UNION ALL SELECT 'x') t(time) WHERE {L}", EVERYTHING),
        (f"SELECT * FROM log_entries l LEFT JOIN processes p USING (process_id) WHERE l.{L}", TimeRange(JAN1)),
        (f"SELECT * FROM processes p LEFT JOIN log_entries l USING (process_id) WHERE l.{L}", TimeRange(JAN1)),
        (f"SELECT * FROM processes p LEFT JOIN log_entries l ON l.{L}", TimeRange(JAN1)),
        (f"SELECT * FROM log_entries l LEFT JOIN processes p ON l.{L}", EVERYTHING),
        (f"SELECT * FROM log_entries l FULL JOIN processes p ON l.{L}", EVERYTHING),
        (f"SELECT * FROM log_entries l RIGHT JOIN processes p ON l.{L}", TimeRange(JAN1)),
        (f"SELECT * FROM processes p SEMI JOIN log_entries l ON l.{L}", TimeRange(JAN1)),
        (f"SELECT * FROM log_entries l ANTI JOIN processes p ON l.{L}", EVERYTHING),
        (f"SELECT * FROM processes p ANTI JOIN log_entries l ON l.{L}", TimeRange(JAN1)),
        (f"SELECT * FROM processes p ASOF JOIN log_entries l ON p.start_time >= l.time WHERE l.{L}", EVERYTHING),
        ("SELECT * FROM processes p ASOF JOIN log_entries l ON p.start_time >= l.time WHERE l.time::DATE < '2024-01-01'",
         EVERYTHING),
        ("SELECT * FROM log_entries l ASOF JOIN processes p ON p.start_time <= l.time WHERE l.time::DATE < '2024-01-01'",
         TimeRange(None, JAN2 + 2_000)),
        ("SELECT * FROM processes p JOIN log_entries l USING (process_id) WHERE epoch_ms(l.time) < 0",
         TimeRange(None, 2_000_000)),
        ("SELECT * FROM processes p FULL JOIN log_entries l USING (process_id) WHERE epoch_ms(l.time) < 0",
         TimeRange(None, 2_000_000)),
        ("SELECT * FROM processes p LEFT JOIN log_entries l USING (process_id) WHERE epoch_ms(p.start_time) < 0",
         EVERYTHING),
        ("SELECT * FROM log_entries l WHERE epoch_ms(time) < 0 AND process_id NOT IN (SELECT process_id FROM processes)",
         TimeRange(None, 2_000_000)),
        (f"SELECT * FROM processes p POSITIONAL JOIN log_entries l WHERE l.{L}", EVERYTHING),
        (f"SELECT * FROM processes p, log_entries l WHERE l.{L} AND p.exe = 'x'", TimeRange(JAN1)),
        (f"SELECT * FROM processes WHERE process_id IN (SELECT process_id FROM log_entries WHERE {L})",
         TimeRange(JAN1)),
        (f"SELECT * FROM processes WHERE EXISTS (FROM log_entries l WHERE l.{L} AND l.process_id = processes.process_id)",
         TimeRange(JAN1)),
        (f"SELECT (SELECT count(*) FROM log_entries WHERE {L}) FROM processes", TimeRange(JAN1)),
        (f"SELECT a.time FROM log_entries a JOIN log_entries b USING (process_id) WHERE a.{L} AND b.{E}", EVERYTHING),
        (f"SELECT a.time FROM log_entries a JOIN log_entries b USING (process_id) WHERE a.{L} AND b.{L}",
         TimeRange(JAN1)),
        (f"SELECT * FROM log_entries l, unnest([1]) u(x) WHERE {L}", TimeRange(JAN1)),
        (f"SELECT * FROM log_entries l, unnest([1]) u WHERE l.{L}", TimeRange(JAN1)),
        ("SELECT * FROM log_entries AS l(a, b, c, t) WHERE t >= '2024-01-01'", TimeRange(JAN1)),
        (f"SELECT * FROM log_entries AS l(a, b, time, insert_time) WHERE {L}", EVERYTHING),
        ("SELECT * FROM log_entries AS l(a, b, time, insert_time) WHERE time::DATE >= '2024-01-01'", EVERYTHING),
        ("SELECT * FROM log_entries AS l(a, b, time, insert_time) WHERE insert_time >= '2024-01-01'", TimeRange(JAN1)),
        (f"SELECT msg AS time, time AS t FROM log_entries WHERE {L}", TimeRange(JAN1)),
        (f"SELECT * FROM (SELECT * REPLACE (insert_time AS time) FROM log_entries) WHERE {L}", EVERYTHING),
        (f"SELECT * FROM (SELECT insert_time AS time FROM log_entries) WHERE {L}", EVERYTHING),
        (f"WITH RECURSIVE r AS (SELECT time FROM log_entries UNION ALL SELECT time FROM r WHERE false) "
         f"SELECT * FROM r WHERE {L}", EVERYTHING),
        (f"WITH RECURSIVE r AS (SELECT time FROM log_entries WHERE {L} UNION ALL SELECT time FROM r WHERE false) "
         f"SELECT * FROM r", TimeRange(JAN1)),
        (f"PIVOT (SELECT * FROM log_entries WHERE {L}) ON target IN ('a') USING count(*)", TimeRange(JAN1)),
        (f"WITH log_entries AS (SELECT * FROM log_entries WHERE {L}) SELECT * FROM log_entries WHERE {E}",
         TimeRange(JAN1, JAN2)),
        (f"WITH a AS (SELECT * FROM log_entries WHERE {L}) SELECT 1 WHERE 2 > 1", NEVER),
        ("SELECT * FROM log_entries LIMIT 0", NEVER),
        ("SELECT * FROM log_entries WHERE 1 = 0", NEVER),
        ("SELECT * FROM log_entries WHERE time > '2024-01-02' AND time < '2024-01-01'", NEVER),
        ("SELECT count(*) FROM log_entries", EVERYTHING),
        ("SELECT min(time), max(level) FROM log_entries WHERE level IS NOT NULL", EVERYTHING),
        ("SELECT * FROM log_entries WHERE time IS NULL OR level IS NULL", EVERYTHING),
        ("SELECT * FROM processes WHERE (SELECT count(*) FROM log_entries) = 0", EVERYTHING),
        ("SELECT * FROM processes WHERE NOT EXISTS (FROM log_entries)", EVERYTHING),
        (f"SUMMARIZE SELECT * FROM log_entries WHERE {L}", TimeRange(JAN1)),
        (f"EXPLAIN SELECT * FROM log_entries WHERE {L}", TimeRange(JAN1)),
    ],
)  # fmt: skip
def test_bounds_pass_through_what_keeps_them_true_and_through_nothing_else(
    engine: QueryEngine, sql: str, expected: TimeRange
) -> None:
    assert references(engine, sql)["log_entries"].range == expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("begin <= '2024-01-02' AND \"end\" >= '2024-01-01'", TimeRange(JAN1, JAN2)),
        ("begin >= '2024-01-01'", TimeRange(JAN1)),
        ("end < '2024-01-02'", TimeRange(None, JAN2 - 1)),
        ("begin < '2024-01-01' AND \"end\" > '2024-01-01'", TimeRange(JAN1 - 1, JAN1 + 1)),
        ("begin <= '2024-01-01' AND \"end\" >= '2024-01-02'", TimeRange(JAN1, JAN2)),
    ],
)
def test_spans_are_needed_as_far_as_they_overlap(engine: QueryEngine, condition: str, expected: TimeRange) -> None:
    assert references(engine, f"SELECT * FROM {SPAN_VIEW} WHERE {condition}")["view_instance"].range == expected


def test_where_a_row_may_end_before_it_begins_each_column_bounds_one_side(engine: QueryEngine) -> None:
    found = references(engine, "SELECT * FROM blocks WHERE begin_time >= '2024-01-01' AND insert_time >= '2024-01-02'")
    other = references(engine, "SELECT * FROM blocks WHERE begin_time <= '2024-01-01' AND insert_time <= '2024-01-02'")

    assert found["blocks"].range == TimeRange(JAN2, None)
    assert other["blocks"].range == TimeRange(None, JAN1)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT * FROM streams WHERE process_id = 'a'", {"process_id": ("a",)}),
        ("SELECT * FROM streams WHERE process_id IN ('b', 'a') AND stream_id = 's'",
         {"process_id": ("a", "b"), "stream_id": ("s",)}),
        ("SELECT * FROM streams WHERE process_id = 'a' OR process_id = 'b'", {"process_id": ("a", "b")}),
        ("SELECT * FROM streams WHERE process_id = 'a' OR stream_id = 'b'", {}),
        ("SELECT * FROM streams WHERE process_id = lower('A')", {"process_id": ("a",)}),
        ("SELECT * FROM streams WHERE process_id = ''", {"process_id": ("",)}),
        ("SELECT * FROM streams WHERE process_id = 'a''b'", {"process_id": ("a'b",)}),
        ("SELECT * FROM streams WHERE process_id NOT IN ('a', 'b')", {}),
        ("SELECT * FROM streams WHERE process_id IS NOT DISTINCT FROM 'a'", {}),
        ("SELECT * FROM streams WHERE lower(process_id) = 'a'", {}),
        ("SELECT * FROM streams WHERE process_id = 'a' COLLATE NOCASE", {}),
        ("SELECT * FROM streams WHERE CAST(process_id AS TIMESTAMP_NS) = '2024-01-01'", {}),
        ("SELECT * FROM streams WHERE process_id LIKE 'a'", {"process_id": ("a",)}),
        ("SELECT * FROM streams WHERE process_id LIKE 'a%'", {}),
        ("SELECT * FROM streams s JOIN processes p USING (process_id) WHERE process_id = 'a'", {"process_id": ("a",)}),
        ("WITH x AS (SELECT * FROM streams) SELECT * FROM x WHERE process_id = 'a'", {"process_id": ("a",)}),
        ("SELECT * FROM streams WHERE process_id > 'a'", {}),
    ],
)  # fmt: skip
def test_ids_that_are_compared_with_texts(engine: QueryEngine, sql: str, expected: dict[str, tuple[str, ...]]) -> None:
    assert dict(references(engine, sql)["streams"].equals) == expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("insert_time <= '2024-01-01'", JAN1),
        ("insert_time < '2024-01-01'", JAN1 - 1),
        ("insert_time = '2024-01-01'", JAN1),
        ("insert_time BETWEEN '2023-01-01' AND '2024-01-01'", JAN1),
        ("insert_time <= '2024-01-01' AND insert_time <= '2024-01-02'", JAN1),
        ("insert_time <= '2024-01-01' OR insert_time <= '2024-01-02'", JAN2),
        ("insert_time <= '2024-01-01' OR process_id = 'a'", None),
        ("insert_time >= '2024-01-01'", None),
        ("begin_time <= '2024-01-01'", None),
        ("end_time <= '2024-01-01'", None),
        ("NOT insert_time <= '2024-01-01'", None),
        ("insert_time IS DISTINCT FROM '2024-01-01'", None),
    ],
)  # fmt: skip
def test_rows_that_last_are_bounded_by_when_they_end(engine: QueryEngine, condition: str, expected: int | None) -> None:
    found = references(engine, f"SELECT count(*) FROM blocks WHERE {condition}")["blocks"]

    assert found.ended_by_ns == expected


def test_of_two_references_the_later_end_is_needed(engine: QueryEngine) -> None:
    sql = "SELECT * FROM blocks WHERE insert_time <= '2024-01-01' UNION ALL SELECT * FROM blocks {}"

    assert references(engine, sql.format("WHERE insert_time <= '2024-01-02'"))["blocks"].ended_by_ns == JAN2
    assert references(engine, sql.format(""))["blocks"].ended_by_ns is None


def test_bound_parameters_bound_as_literals_do(engine: QueryEngine) -> None:
    sql = "SELECT * FROM log_entries WHERE time >= ? AND time < $2 AND process_id = $3".replace("?", "$1")

    bound = references(engine, sql, ["2024-01-01T00:00:00Z", "2024-01-02", "p"])["log_entries"]
    unbound = references(engine, sql)["log_entries"]

    assert bound == Reference(
        "log_entries", "log_entries", ("global",), TimeRange(JAN1, JAN2 - 1), {"process_id": ("p",)}
    )
    assert unbound.range == EVERYTHING and unbound.equals == {}


def test_only_the_clock_makes_bounds_volatile(engine: QueryEngine) -> None:
    def volatile(condition: str) -> bool:
        return engine.inspect(f"SELECT 1 FROM log_entries WHERE {condition}", None, CATALOG).volatile

    assert volatile("time > now()") and volatile("time > current_timestamp")
    assert not volatile("time > '2024-01-01'") and not volatile("msg = 'now()'")


def test_a_doubling_chain_of_ctes_is_given_up_in_time(engine: QueryEngine) -> None:
    chain = ", ".join(f"c{i + 1} AS (SELECT * FROM c{i} UNION ALL SELECT * FROM c{i})" for i in range(20))

    found = references(engine, f"WITH c0 AS (SELECT time FROM log_entries), {chain} SELECT 1 FROM c20 WHERE {L}")

    assert found["log_entries"].range == EVERYTHING


def test_a_constant_that_fails_bounds_nothing(engine: QueryEngine) -> None:
    condition = "time >= TIMESTAMP '9999-01-01' + INTERVAL '999999 years' AND time <= '2024-01-02'"

    assert references(engine, f"SELECT 1 FROM log_entries WHERE {condition}")["log_entries"].range == EVERYTHING


def test_a_plan_that_is_too_long_to_read_bounds_nothing() -> None:
    engine = QueryEngine(EngineLimits(plan_chars_max=100))
    catalog = EngineCatalog({"log_entries": DeclaredRelation(LOGS, "time", "time", ordered=True)}, {})

    found = engine.inspect(f"SELECT 1 FROM log_entries WHERE {L} AND {E}", None, catalog).references[0]

    assert found.range == EVERYTHING
    engine.close()


def test_a_condition_of_any_depth_that_the_gate_lets_pass_is_read_or_bounds_nothing(engine: QueryEngine) -> None:
    for depth in (20, 60, 100):
        nested = L
        for level in range(depth):
            nested = f"({nested} OR level = {level} AND {L}) AND ({L} OR msg = '{level}' AND {E})"

        assert references(engine, f"SELECT 1 FROM log_entries WHERE {nested}")["log_entries"].range in (
            TimeRange(JAN1),
            EVERYTHING,
        )


def test_instances_of_one_view_set_are_told_apart(engine: QueryEngine) -> None:
    """Also where one is spelled in two ways, and where the statement before named others."""
    other = "00000000-0000-4000-8000-00000000000f"
    both = (
        f"SELECT 1 FROM view_instance('log_entries', '{STREAM.upper()}') a, view_instance('log_entries', $1) b,"
        f" view_instance('thread_spans', '{other}') c WHERE a.{L} AND b.{E} AND c.begin > '2024-01-02'"
    )
    for first in (STREAM, other):
        engine.inspect(f"SELECT 1 FROM view_instance('log_entries', '{first}') WHERE {L}", None, CATALOG)

        found = engine.inspect(both, [other], CATALOG).references

        assert {(r.view_set, r.instance): r.range for r in found} == {
            ("log_entries", STREAM): TimeRange(JAN1),
            ("log_entries", other): TimeRange(None, JAN2),
            ("thread_spans", other): TimeRange(JAN2 + 1),
        }


def test_values_of_every_type_bound_as_they_compare(engine: QueryEngine) -> None:
    moment = datetime.fromisoformat("2024-01-01")
    values: list[object] = [moment, JAN2, "p", 3, None]
    sql = "SELECT 1 FROM log_entries WHERE time >= ? AND time < make_timestamp_ns(?) AND process_id = ? AND level > ?"

    found = references(engine, sql, values[:4])["log_entries"]
    null = references(engine, f"{sql} AND msg = ?", values)["log_entries"]

    assert (found.range, found.equals) == (TimeRange(JAN1, JAN2 - 1), {"process_id": ("p",)})
    assert null.range == NEVER


def test_a_parameter_in_a_text_or_a_comment_is_none(engine: QueryEngine) -> None:
    sql = "SELECT '? é ?', \"time\" /* ? */ FROM log_entries WHERE time >= ? -- ?"

    assert references(engine, sql, ["2024-01-01"])["log_entries"].range == TimeRange(JAN1)
    assert references(engine, sql, ["2024-01-01' OR true --"])["log_entries"].range == EVERYTHING


def test_a_value_before_a_described_table_bounds_as_anywhere_else(engine: QueryEngine) -> None:
    sql = f"SELECT (SELECT count(*) FROM information_schema.tables) FROM log_entries WHERE time >= ? AND {E}"

    assert references(engine, sql, ["2024-01-01"])["log_entries"].range == TimeRange(JAN1, JAN2)
