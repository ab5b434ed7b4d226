"""What may run and what may not, at the gate: nothing here is executed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from lakehouse.engine import DEFAULT_LIMITS
from lakehouse.engine.database import Database
from lakehouse.engine.functions import Rewording, Verdict, function_rules, own_functions
from lakehouse.engine.functions.view_instance import canonical_instance
from lakehouse.engine.gate import Checked, judge
from lakehouse.engine.names import relation_name
from lakehouse.engine.parse import Parser
from lakehouse.engine.relations import Call
from lakehouse.errors import ForbiddenSqlError, LakeflightError, LimitExceededError, SqlSyntaxError, UnsupportedError
from tests.support.engine_lake import CATALOG, STREAM
from tests.support.hostile_sql import ATTACKS, BOMBS, HARMLESS, fill


@pytest.fixture(scope="module")
def parser() -> Iterator[Parser]:
    database = Database(DEFAULT_LIMITS)
    database.lock([])
    yield Parser(database.connection)
    database.close()


def check(parser: Parser, sql: str, parameters: list[object] | None = None) -> Checked:
    return judge(
        parser.parse(sql),
        tables=CATALOG.tables,
        view_sets=CATALOG.view_sets,
        time_columns=CATALOG.time_columns,
        other_columns=CATALOG.other_columns,
        parameters=parameters,
    )


def calls(*pairs: tuple[str, str | None]) -> frozenset[Call]:
    return frozenset(Call("view_instance", pair) for pair in pairs)


A, B, C = ("thread_spans", "a"), ("log_entries", "b"), ("thread_spans", "c")


@pytest.mark.parametrize(
    ("sql", "parameters", "expected"),
    [
        ("SELECT * FROM view_instance('thread_spans', 'a') WHERE id = 1", None, calls(A)),
        ("select * from VIEW_INSTANCE ( 'thread_spans' , /* c */ 'a' ) -- x", None, calls(A)),
        ("SELECT * FROM \"view_instance\"('thread_spans', 'a')", None, calls(A)),
        ("FROM view_instance('thread_spans', 'a')", None, calls(A)),
        (
            "WITH x AS (SELECT * FROM view_instance('thread_spans','a')), y AS MATERIALIZED (SELECT * FROM "
            "view_instance('log_entries','b')) SELECT * FROM x JOIN y USING (id) WHERE id IN "
            "(SELECT id FROM view_instance('thread_spans','c'))",
            None,
            calls(A, B, C),
        ),
        ("SELECT 'view_instance(''a'',''b'')' AS s FROM log_entries -- view_instance('c','d')", None, calls()),
        ("SELECT $$view_instance('a','b')$$ FROM log_entries /* view_instance('x','y') */", None, calls()),
        ("SELECT * FROM view_instance('thread_spans', ?)", ["a"], calls(A)),
        ("SELECT * FROM view_instance('thread_spans', $1)", ["a"], calls(A)),
        ("SELECT * FROM view_instance('thread_spans', ?)", None, calls(("thread_spans", None))),
        ("SELECT * FROM view_instance('thread_spans','a') UNION ALL SELECT * FROM view_instance('thread_spans','c')",
         None, calls(A, C)),
        ("SELECT (SELECT count(*) FROM view_instance('thread_spans','a') v WHERE v.id = level) FROM log_entries",
         None, calls(A)),
        ("SELECT * FROM processes p, LATERAL (SELECT * FROM view_instance('log_entries','b') v "
         "WHERE v.process_id = p.process_id) x", None, calls(B)),
        ("SELECT * FROM view_instance('thread_spans','a') t(x,y) TABLESAMPLE 10%", None, calls(A)),
        ("WITH RECURSIVE r AS (SELECT 1 i UNION ALL SELECT i+1 FROM r, view_instance('thread_spans','a') WHERE i<3) "
         "SELECT * FROM r", None, calls(A)),
        ("DESCRIBE SELECT * FROM view_instance('thread_spans','a')", None, calls(A)),
        ("SUMMARIZE SELECT * FROM view_instance('thread_spans','a')", None, calls(A)),
        ("PIVOT (SELECT * FROM view_instance('thread_spans','a')) ON k IN ('x','y') USING sum(v)", None, calls(A)),
        ("SELECT list_transform([1], lambda x: x + (SELECT count(*) FROM view_instance('thread_spans','a')))",
         None, calls(A)),
        ("SELECT CASE WHEN EXISTS (FROM view_instance('thread_spans','a')) THEN 1 END", None, calls(A)),
        ("SELECT * FROM view_instance('thread_spans','a') ASOF JOIN view_instance('thread_spans','c') ON true",
         None, calls(A, C)),
        ("SELECT sum(x) OVER (PARTITION BY y ORDER BY z) FROM view_instance('thread_spans','a') QUALIFY row_number() "
         "OVER () = 1 ORDER BY (SELECT max(i) FROM view_instance('thread_spans','c')) LIMIT (SELECT 3)",
         None, calls(A, C)),
        ("EXPLAIN SELECT * FROM view_instance('thread_spans','a')", None, calls(A)),
        ("/* why */ explain analyze SELECT * FROM view_instance('thread_spans','a')", None, calls(A)),
        (f"SELECT * FROM view_instance('thread_spans','{STREAM.upper()}')", None, calls(("thread_spans", STREAM))),
        (f"SELECT * FROM view_instance('thread_spans','{STREAM.replace('-', '')}')", None,
         calls(("thread_spans", STREAM))),
    ],
)  # fmt: skip
def test_view_instances_are_found_wherever_they_stand(
    parser: Parser, sql: str, parameters: list[object] | None, expected: frozenset[Call]
) -> None:
    assert check(parser, sql, parameters).calls == expected


@pytest.mark.parametrize(
    "sql",
    [
        "VALUES (1),(2)",
        "SELECT 1;",
        "SELECT unnest([1,2])",
        "SELECT * FROM LOG_ENTRIES",
        "SELECT * FROM lakeflight.main.log_entries",
        "SELECT * FROM lakeflight.log_entries",
        "SELECT * FROM main.log_entries l WHERE l.msg LIKE 'a%' ESCAPE '!'",
        "SELECT msg.upper(), x -> 'a' ->> 'b' FROM (SELECT msg, msg::JSON AS x FROM log_entries)",
        "SELECT count(*) FILTER (WHERE level > 2), grouping(level) FROM log_entries GROUP BY CUBE (level)",
        "SELECT list_aggregate([1], 'sum'), [1,2].list_aggregate('max')",
        "SELECT * EXCLUDE (msg) REPLACE (level + 1 AS level) FROM log_entries",
        "SELECT COLUMNS('t.*') FROM log_entries",
        "SELECT EXTRACT(hour FROM time), time AT TIME ZONE 'UTC', INTERVAL '1 hour' FROM log_entries",
        "SELECT CAST(level AS BIGINT), level::VARCHAR, DECIMAL '1.5', {'a': 1}::STRUCT(a INT) FROM log_entries",
        "WITH log_entries AS (SELECT * FROM log_entries) SELECT * FROM log_entries",
        "WITH log_entries AS NOT MATERIALIZED (SELECT * FROM log_entries) SELECT * FROM log_entries, log_entries AS l",
        "WITH a AS NOT MATERIALIZED (FROM log_entries), b AS NOT MATERIALIZED (FROM a, a AS z) FROM b, b AS c, a",
        "WITH c0 AS (FROM log_entries), "
        + ", ".join(f"c{n + 1} AS (FROM c{n} UNION ALL FROM c{n})" for n in range(20))
        + " FROM c20",
        "SELECT end, begin FROM view_instance('thread_spans', 'a') WHERE end >= begin ORDER BY end",
        "SELECT CASE WHEN end > begin THEN end ELSE begin END FROM view_instance('thread_spans', 'a')",
        "SELECT CAST(level AS INT UNSIGNED), CAST(level AS BIGINT UNSIGNED) FROM log_entries",
        "SELECT time FROM log_entries WHERE time >= '2024-01-01T00:00:00Z' AND time < '2024-01-01 00:00:00+00:00'",
        "SELECT time FROM log_entries WHERE msg = '2024-01-01T00:00:00+02:00'",
        "SELECT TIMESTAMPTZ '2024-01-01 00:00:00+02:00'",
        *HARMLESS,
    ],
)  # fmt: skip
def test_ordinary_sql_passes(parser: Parser, sql: str) -> None:
    assert check(parser, sql).text


@pytest.mark.parametrize("statement", ATTACKS)
def test_attacks_are_refused(parser: Parser, statement: str, tmp_path: Path) -> None:
    sql = fill(
        statement, secret="/tmp/secret", partition=f"{tmp_path}/p.parquet", other=f"{tmp_path}/o.parquet", folder="/tmp"
    )

    with pytest.raises(LakeflightError) as refusal:
        check(parser, sql)

    assert str(tmp_path) not in str(refusal.value) or str(tmp_path) in sql


@pytest.mark.parametrize("statement", BOMBS, ids=lambda text: text[:40])
def test_bombs_are_refused(parser: Parser, statement: str) -> None:
    with pytest.raises(LakeflightError):
        check(parser, fill(statement, secret="x", partition="x", other="x", folder="x"))


def test_every_function_of_the_engine_has_a_verdict() -> None:
    connection = duckdb.connect()
    names = {name for (name,) in connection.execute("SELECT DISTINCT function_name FROM duckdb_functions()").fetchall()}
    connection.close()

    assert {name for name in names if name.lower() not in function_rules()} == set()


def test_no_verdict_is_for_a_function_that_is_not_there() -> None:
    database = Database(DEFAULT_LIMITS)
    database.use_functions(" ".join(function.name for function in own_functions()))
    find = "SELECT DISTINCT function_name FROM duckdb_functions()"
    names = {name for (name,) in database.connection.execute(find).fetchall()}
    database.close()

    reworded = {function.name for function in own_functions() if isinstance(function, Rewording)}
    assert {rule.name for rule in function_rules().values()} - names <= {"grouping", "grouping_id", "unnest", *reworded}


def test_every_refusal_of_a_function_has_a_reason() -> None:
    assert [r.name for r in function_rules().values() if r.verdict is Verdict.REFUSE and not r.reason] == []


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("", "the statement is empty"),
        ("-- nothing", "the statement is empty"),
        ("SELECT 1; SELECT 2", "one statement at a time"),
        ("SELECT sleep_ms(1)", "function 'sleep_ms' is not allowed"),
        ("SELECT nofunction(1)", "unknown function 'nofunction'"),
        ("SELECT * FROM thread_spans", r"view_instance\('thread_spans', '<id>'\)"),
        ("SELECT * FROM nowhere", "unknown table 'nowhere'"),
        ("DROP TABLE x", "only SELECT statements are allowed, not DROP"),
        ("PIVOT log_entries ON level USING count(*)", "^PIVOT needs its values: list them, as in PIVOT"),
        ("SELECT * FROM (PIVOT log_entries ON level USING count(*))", "^PIVOT needs its values: list them"),
        ("SELECT *\nFROM log_entries\nWHERE WHERE", r"line 3, column 7"),
        ("EXPLAIN SELECT *\nFROM FROM", r"line 2, column 6"),
        ("SELECT 1 FROM 'a\0b'", "NUL"),
        ("SELECT $name", "named parameters"),
        ("SELECT $2", "without gaps"),
        ("SELECT * FROM log_entries WHERE time > '2024-01-01T00:00:00+02:00'", "as '2023-12-31T22:00:00Z'"),
        ("SELECT TIMESTAMP '2024-01-01 12:00:00-05:30'", "as '2024-01-01T17:30:00Z'"),
        ("SELECT * FROM log_entries WHERE time BETWEEN '2024-01-01' AND '2024-01-02T00:00:00+01'", "offset"),
    ],
)
def test_a_refusal_says_what_is_wrong(parser: Parser, sql: str, message: str) -> None:
    with pytest.raises(LakeflightError, match=message):
        check(parser, sql)


def test_a_bound_timestamp_with_an_offset_is_refused_too(parser: Parser) -> None:
    with pytest.raises(ForbiddenSqlError, match="offset"):
        check(parser, "SELECT * FROM log_entries WHERE time > ?", ["2024-01-01T00:00:00+02:00"])


def test_a_long_text_is_refused_before_it_is_parsed(parser: Parser) -> None:
    with pytest.raises(LimitExceededError, match="the limit is 1048576"):
        check(parser, "SELECT '" + "x" * (1 << 20) + "'")
    with pytest.raises(LimitExceededError, match="has 200004 words and signs, the limit is 65536: bind long lists"):
        check(parser, "SELECT [1" + ",1" * 100_000 + "]")


def test_a_long_text_that_is_no_long_statement_passes(parser: Parser) -> None:
    ids = ", ".join(f"'6a1b2c3d-0000-4000-8000-{number:012}'" for number in range(20_000))

    assert check(parser, f"SELECT * FROM log_entries WHERE process_id IN ({ids})").tables == {"log_entries"}
    assert check(parser, "SELECT '" + "x" * 1_000_000 + "'").text


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT * FROM log_entrie", r"unknown table 'log_entrie': did you mean log_entries\?"),
        ("SELECT * FROM main.proceses", r"unknown table 'main.proceses': did you mean processes\?"),
        ("SELECT * FROM thread_spans", r"unknown table 'thread_spans': .* view_instance\('thread_spans', '<id>'\)"),
        ("SELECT * FROM Thread_Spans", r"view_instance\('thread_spans', '<id>'\)"),
        ("SELECT * FROM thread_span", r"did you mean view_instance\('thread_spans', '<id>'\)\?"),
        ("WITH totals AS (SELECT 1) SELECT * FROM total", r"did you mean totals\?"),
        ("SELECT * FROM view_instance('log_entrys', 'global')", "view set 'log_entrys' not found: did you mean 'log_entries'"),
        ("SELECT * FROM view_instances('log_entries', 'global')", "unknown table function 'view_instances': did you mean view_instance"),
        ("SELECT date_trunk('hour', time) FROM log_entries", "unknown function 'date_trunk': did you mean date_trunc"),
        ("SELECT * FROM zebra", "unknown table 'zebra'$"),
    ],
)  # fmt: skip
def test_an_unknown_name_names_the_nearest(parser: Parser, sql: str, message: str) -> None:
    with pytest.raises(LakeflightError, match=message):
        check(parser, sql)


def test_the_kinds_of_errors_differ(parser: Parser) -> None:
    with pytest.raises(SqlSyntaxError):
        check(parser, "SELEC 1")
    with pytest.raises(ForbiddenSqlError):
        check(parser, "DROP TABLE x")
    with pytest.raises(UnsupportedError):
        check(parser, "SELECT $x")


def test_text_is_only_changed_where_the_parser_stumbled(parser: Parser) -> None:
    plain = "SELECT 'end' AS x, \"end\" FROM view_instance('thread_spans', 'a') -- end"

    assert check(parser, plain).text == plain
    assert check(parser, "SELECT 'é end', end FROM view_instance('thread_spans', 'a')").text == (
        "SELECT 'é end', \"end\" FROM view_instance('thread_spans', 'a')"
    )


def test_one_instance_has_one_name() -> None:
    spelled = [STREAM, STREAM.upper(), STREAM.replace("-", "")]

    assert {relation_name("thread_spans", canonical_instance(text)) for text in spelled} == {
        relation_name("thread_spans", STREAM)
    }
    for text in ("../x", "a b", "", "x" * 256, "é", "a\0", "{" + STREAM + "}"):
        with pytest.raises(ForbiddenSqlError):
            canonical_instance(text)


def test_a_statement_is_judged_and_its_plan_is_read_where_there_is_no_engine() -> None:
    """Both read trees. What makes them is the engine's, in ``parse.py`` and ``plan.py``."""
    program = """
import sys
sys.modules["duckdb"] = None
from lakehouse.engine.bounds import find_rows
from lakehouse.engine.gate import judge
from lakehouse.engine.relations import DeclaredRelation
from lakehouse.engine.tree import Parsed
table = {"type": "BASE_TABLE", "qualified_name": {"path": ["log_entries"]}}
node = {"type": "SELECT_NODE", "select_list": [{"class": "STAR", "type": "STAR"}], "from_table": table}
later = {"type": {"id": "TIMESTAMP_NS"}, "is_null": False, "value": 7}
scan = {
    "type": "LOGICAL_GET", "names": ["time"], "column_indexes": [{}], "table_filters_by_projection": True,
    "function_data": {"qualified_name": {"path": ["lakeflight", "main", "log_entries"]}},
    "table_filters": {"filters": [{"value": {
        "filter_type": "LEGACY_CONSTANT_COMPARISON", "comparison_type": "COMPARE_GREATERTHAN", "constant": later,
    }}]},
}
declared = DeclaredRelation(None, "time", "time", ordered=True)
checked = judge(Parsed("", node, 0, False, False), tables={"log_entries"}, view_sets=())
print(*checked.tables, find_rows({"plans": [scan]}, {"log_entries": declared})["log_entries"].range)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)

    assert ran.stdout.strip() == "log_entries TimeRange(begin_ns=8, end_ns=None)", ran.stderr
