"""The documented statements of the original, one by one: each does what it must, or is named with the reason.

A server holds recorded telemetry and a made-up service; what a statement answers is compared with a plain DuckDB over the rows
that the original's server answered (``telemetry.py``), with functions in slow and obvious Python (``reference.py``), or with rows
that the documents themselves tell. ``statements.sql`` says what is expected where.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pyarrow as pa
import pytest

from tests.compatibility.suite import (
    Placeholders,
    Statement,
    Suite,
    assert_answers,
    for_the_model,
    meaning,
    read_suite,
    with_tables,
)
from tests.compatibility.telemetry import Model, Telemetry
from tests.support.fixtures import ROOT
from tests.support.serving import Server

SUITE: Suite = read_suite()
PAGE = ROOT / "docs" / "compatibility.md"


def test_all_statements_are_there_once() -> None:
    assert [statement.number for statement in SUITE.statements] == list(range(1, 268))


@pytest.mark.parametrize("statement", SUITE.statements, ids=lambda statement: f"{statement.number}")
def test_a_documented_statement_does_what_it_must(
    server: Server, model: Model, telemetry: Telemetry, statement: Statement
) -> None:
    placeholders = Placeholders(telemetry)

    if "gap" not in statement.told:
        check(server, model, placeholders, statement)
        return
    with pytest.raises(Exception, match=statement.told["error"]):  # in words; once it works it is no gap any more
        check(server, model, placeholders, statement)


def check(server: Server, model: Model, placeholders: Placeholders, statement: Statement) -> None:
    told = statement.told
    sql = placeholders.filled(with_tables(statement.sql, SUITE.tables), told.get("with", ""))
    if statement.must_fail:
        with pytest.raises(Exception, match=told["error"]):
            server.query(sql)
        return
    answer = server.query(sql)
    if "columns" in told:
        assert told["columns"] == "*" or answer.column_names == told["columns"].split(", ")
    if "rows" in told:
        assert meaning(answer) == sorted(map(tuple_of, json.loads(told["rows"])), key=repr)
        return
    if "count" in told:
        assert answer.num_rows == int(told["count"])
        return
    assert (answer.num_rows == 0) == ("empty" in told)
    if "columns" not in told:
        asked = told.get("model", statement.sql)
        replacements = "" if "model" in told else told.get("with", "")
        asked = for_the_model(placeholders.filled(with_tables(asked, SUITE.tables), replacements))
        assert_answers(asked, answer, model.connection, frozenset(told.get("near", "").split()))


def tuple_of(row: list[Any]) -> tuple[Any, ...]:
    return tuple(tuple(value) if isinstance(value, list) else value for value in row)


def test_the_page_counts_the_statements_that_do_what_they_must_and_names_the_others() -> None:
    page = PAGE.read_text(encoding="utf-8")
    gaps = {statement.number: statement.told["gap"] for statement in SUITE.statements if "gap" in statement.told}

    assert f"{267 - len(gaps)} of 267" in page
    for reason in set(gaps.values()):
        numbers = ", ".join(str(number) for number in sorted(gaps) if gaps[number] == reason)
        assert f"| {numbers} | {reason} |" in page


# --- what is the same for all statements


def test_differences_of_times_are_whole_milliseconds_once_they_are_divided(server: Server) -> None:
    answer = server.query(
        "SELECT CAST((e - b) AS BIGINT) / 1000000 AS ms, CAST(e - b AS BIGINT) AS ns, arrow_cast(e - b, 'Int64') AS a"
        " FROM (SELECT TIMESTAMP_NS '2026-01-01 00:00:01.500000009' AS e, TIMESTAMP_NS '2026-01-01' AS b)"
    )

    assert answer.schema.types == [pa.int64()] * 3
    assert answer.to_pylist() == [{"ms": 1500, "ns": 1_500_000_009, "a": 1_500_000_009}]


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT x FROM (VALUES (1), (NULL), (2)) t(x) ORDER BY x DESC", [[None], [2], [1]]),
        ("SELECT sum(x) AS s, 5 / 2 AS q FROM (VALUES (1), (2)) t(x)", [[3, 2]]),
        ("SELECT CAST(count(*) AS BIGINT) AS n, CAST(max(x) - min(x) AS BIGINT) AS d FROM (VALUES (1), (9)) t(x)", [[2, 8]]),
        ("SELECT CAST(2.6 AS BIGINT) AS c, arrow_cast(2.6, 'Int64') AS a, arrow_cast(-2.6, 'Int32') AS b", [[3, 2, -2]]),
        ("SELECT arrow_cast('a', 'Dictionary(Int32, Utf8)') AS a, arrow_cast(7.5, 'Decimal128(5, 2)')::VARCHAR AS b", [["a", "7.50"]]),
        ("SELECT first_value(x) AS f, last_value(x) FILTER (WHERE x < 3) AS l FROM (VALUES (1), (2), (3)) t(x)", [[1, 2]]),
        ("SELECT first_value(x) OVER (ORDER BY x) AS f FROM (VALUES (2), (1)) t(x)", [[1], [1]]),
        ("SELECT approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY x) AS p FROM range(101) t(x)", [[50]]),
        ("SELECT approx_percentile_cont(0.25) WITHIN GROUP (ORDER BY x DESC) AS p FROM range(101) t(x)", [[75.25]]),
        ("SELECT approx_percentile_cont(x, 0.5) FILTER (WHERE x > 50) AS p FROM range(101) t(x)", [[75.5]]),
        ("SELECT approx_distinct(x) FILTER (WHERE x < 2) AS n FROM (VALUES (1), (1), (3)) t(x)", [[1]]),
        ("SELECT make_array(1, 2)[2] AS a, named_struct('a', make_array(1))['a'][1] AS b, struct('x')['c0'] AS c", [[2, 1, "x"]]),
        ("SELECT CAST(1.5 AS FLOAT64) AS a, CAST(7 AS INT UNSIGNED) AS b", [[1.5, 7]]),
        ("SELECT date_bin('1 minute', TIMESTAMP_NS '2026-01-01 00:01:59.999999999')::VARCHAR AS t", [["2026-01-01 00:01:00"]]),
    ],
)  # fmt: skip
def test_the_dialect_reads_as_it_does_there(server: Server, sql: str, rows: list[list[Any]]) -> None:
    answer = server.query(sql)

    assert [list(row.values()) for row in answer.to_pylist()] == rows


def test_names_without_quotes_arrive_in_small_letters_and_quoted_ones_as_they_are(server: Server) -> None:
    answer = server.query(
        'SELECT 1 AS MTBC_hours, 2 AS "Kept", max(time) FROM (SELECT * FROM log_entries) AS Sub(Time)'
    )

    assert answer.column_names == ["mtbc_hours", "Kept", 'max("time")']


def test_a_prepared_statement_is_said_in_other_words_too(server: Server) -> None:
    answer = server.query(
        "SELECT arrow_cast(?, 'Int64') AS a, CAST(now() - CAST(? AS TIMESTAMP_NS) AS BIGINT) > 0 AS b",
        (7, "2026-01-01"),
    )

    assert answer.to_pylist() == [{"a": 7, "b": True}]


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT arrow_cast(1, 'Interval(DayTime)')", "there is no type for 'Interval"),
        ("SELECT arrow_cast(1, concat('Int', '64'))", "as a literal"),
        ("SELECT arrow_cast('x', 'Timestamp(Nanosecond, Some(\"+02:00\"))')", "there is no type for"),
        ("SELECT named_struct(level, 1) FROM log_entries", "names as string literals"),
        ("SELECT date_bin('0 seconds', now())", "Period must be greater than 0"),
        ("SELECT date_bin('1 month 1 day', now())", "Month intervals cannot have day or time component"),
        ("SELECT encode('x', 'rot13')", "encode knows hex, base64 and base64pad, not rot13"),
        ("SELECT color_scale('rainbow', 0.5, 1)", "does not know 'rainbow': the scales are cividis, inferno"),
        ("SELECT arrow_cast(lakeflight_count(1), 'Int64')", "unknown function 'lakeflight_count'"),
        ("SELECT CAST(time - INTERVAL 1 SECOND AS BIGINT) FROM log_entries", "would lose its nanoseconds"),
    ],
)
def test_what_has_no_exact_answer_is_refused_in_words(server: Server, sql: str, reason: str) -> None:
    with pytest.raises(Exception, match=re.escape(reason)):
        server.query(sql)
