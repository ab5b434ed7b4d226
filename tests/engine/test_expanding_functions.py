"""Values that become rows: members of documents, elements of arrays, bins of histograms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lakehouse.engine.engine import QueryEngine
from lakehouse.errors import LakeflightError
from tests.support.engine_lake import CATALOG, SECOND, T0, EngineLake, log_rows

HISTOGRAM = "{{'start': {0}, 'end': {1}, 'bins': CAST({2} AS UBIGINT[])}}"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineLake]:
    yield EngineLake(Path(tmp_path_factory.mktemp("expanding")), QueryEngine())


def answers(lake: EngineLake, sql: str, **given: Any) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in lake.rows(sql, **given)]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("""'{"b":1,"a":{"x":[1]},"0":null}'""", [("0", "null"), ("a", '{"x":[1]}'), ("b", "1")]),
        ("""'[10,"20",null]'""", [("0", "10"), ("1", '"20"'), ("2", "null")]),
        ("""(SELECT '{"é":"\\u00e9"}')""", [("é", '"é"')]),
        ("'[]'", []),
        ("'{}'", []),
        ("NULL", []),
        ("(SELECT '{\"a\":1}' WHERE false)", []),
        ("(SELECT [{'key': 'b', 'value': 'x'}, {'key': 'a', 'value': '1'}])", [("a", '"1"'), ("b", '"x"')]),
    ],
)
def test_members_of_a_document(lake: EngineLake, document: str, expected: list[tuple[str, str]]) -> None:
    assert answers(lake, f"SELECT key, value FROM jsonb_each({document})") == expected


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("""'[1,{"a":2},null,"s",[]]'""", ["1", '{"a":2}', "null", '"s"', "[]"]),
        ("'[]'", []),
        ("NULL", []),
    ],
)
def test_elements_of_an_array(lake: EngineLake, document: str, expected: list[str]) -> None:
    assert answers(lake, f"SELECT value FROM jsonb_array_elements({document})") == [(value,) for value in expected]


@pytest.mark.parametrize(
    ("histogram", "expected"),
    [
        (HISTOGRAM.format("0.0", "50.0", "[1, 1, 1, 1, 1]"), [(5.0, 1), (15.0, 1), (25.0, 1), (35.0, 1), (45.0, 1)]),
        (HISTOGRAM.format("0.0", "20.0", "[3, 2]"), [(5.0, 3), (15.0, 2)]),
        (HISTOGRAM.format("5.0", "5.0", "[3]"), [(5.5, 3)]),  # a point has bins of one
        (HISTOGRAM.format("0.0", "1.0", "[18446744073709551615]"), [(0.5, 2**64 - 1)]),
        ("NULL", []),
    ],
)
def test_bins_of_a_histogram(lake: EngineLake, histogram: str, expected: list[tuple[float, int]]) -> None:
    for argument in (histogram, f"(SELECT {histogram})"):
        assert answers(lake, f"SELECT bin_center, count FROM expand_histogram({argument})") == expected


def test_they_stand_wherever_a_table_does_and_take_what_a_statement_reads(lake: EngineLake) -> None:
    logs = lake.logs(lake.write(log_rows(20), "logs"))
    sql = """
        WITH documents AS (SELECT '{"n":' || count(*) || '}' AS document FROM log_entries)
        SELECT each.value, element.value
        FROM jsonb_each((SELECT document FROM documents)) AS each
        JOIN jsonb_array_elements(?) AS element ON element.value = each.value
    """

    with lake.engine.run(sql, ("[19,20]",), [logs], catalog=CATALOG, identity="somebody") as reader:
        (batch,) = list(reader)

    assert [column.to_pylist() for column in batch.columns] == [["20"], ["20"]]


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("jsonb_each('5')", "input of jsonb_each is not a JSONB object or array"),
        ("jsonb_each('{')", "JSON"),
        ("jsonb_array_elements('{}')", "input of jsonb_array_elements is not a JSONB array"),
    ],
)
def test_what_cannot_be_expanded_is_refused_in_words(lake: EngineLake, call: str, reason: str) -> None:
    with pytest.raises(LakeflightError, match=reason):
        lake.rows(f"SELECT * FROM {call}")


@pytest.mark.parametrize(
    "document",
    [
        "repeat('[', 1000000) || repeat(']', 1000000)",
        "(SELECT '{' || string_agg('\"k' || i || '\":' || i, ',') || '}' FROM range(1000000) t(i))",
    ],
)
def test_a_million_deep_or_wide_is_an_answer_or_an_error(lake: EngineLake, document: str) -> None:
    try:
        found = answers(lake, f"SELECT count(*) FROM jsonb_each({document})")
    except LakeflightError:
        return
    assert found in ([(1,)], [(1_000_000,)])


MANY = '(SELECT document FROM (VALUES (1, \'{"b":1,"a":2}\'), (2, NULL), (3, \'{"c":[3]}\')) t(i, document) %s)'


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (f"SELECT * FROM jsonb_each({MANY % 'ORDER BY i'})", [("a", "2"), ("b", "1"), ("c", "[3]")]),
        (f"SELECT * FROM JSONB_Each ( {MANY % 'ORDER BY i DESC'} ) e", [("c", "[3]"), ("a", "2"), ("b", "1")]),
        (f"SELECT * FROM jsonb_each({MANY % 'WHERE i = 2'})", []),
        (f"SELECT * FROM jsonb_each({MANY % 'WHERE false'})", []),
        (
            "SELECT * FROM jsonb_array_elements((SELECT x FROM (VALUES ('[1,2]'), ('[]'), (NULL), ('[\"é\"]')) t(x)))",
            [("1",), ("2",), ('"é"',)],
        ),
        (
            "SELECT * FROM expand_histogram((SELECT make_histogram(0, 4, 2, v) FROM (VALUES (1, 1), (1, 3), (2, 3)) t(g, v)"
            " GROUP BY g ORDER BY g))",
            [(1.0, 1), (3.0, 1), (1.0, 0), (3.0, 1)],
        ),
        (
            "SELECT a.key, b.value FROM jsonb_each((SELECT '{\"é\":1}')) a"
            " CROSS JOIN jsonb_array_elements((SELECT '[' || i || ']' FROM range(2) t(i) ORDER BY i)) b ORDER BY 2",
            [("é", "0"), ("é", "1")],
        ),
        (
            "SELECT g, e.key FROM (VALUES (1, '{\"a\":1}'), (2, '{\"b\":1}')) t(g, d), jsonb_each(t.d) e ORDER BY g",
            [(1, "a"), (2, "b")],
        ),
    ],
)
def test_of_several_rows_all_are_expanded(lake: EngineLake, sql: str, expected: list[Any]) -> None:
    assert answers(lake, sql) == expected


def test_rows_of_a_view_are_expanded_with_conditions_and_parameters_around_them(lake: EngineLake) -> None:
    logs = lake.logs(lake.write(log_rows(20), "many"))
    sql = """
        SELECT value FROM jsonb_array_elements((
            SELECT CAST(json_array(msg) AS VARCHAR) FROM log_entries
            WHERE time >= make_timestamp_ns(?) AND date_trunc('day', time) < now() ORDER BY time
        )) WHERE value <> ?
    """

    with lake.engine.run(sql, (T0 + 17 * SECOND, '"line 18"'), [logs], catalog=CATALOG, identity="somebody") as reader:
        rows = [row["value"] for batch in reader for row in batch.to_pylist()]

    assert rows == ['"line 17"', '"line 19"']


def test_a_subquery_of_several_columns_is_refused(lake: EngineLake) -> None:
    with pytest.raises(LakeflightError, match="Subquery returns 2 columns"):
        answers(lake, "SELECT * FROM jsonb_each((SELECT '{}', 1))")


def test_what_stands_for_all_rows_cannot_be_called(lake: EngineLake) -> None:
    with pytest.raises(LakeflightError, match="unknown table function 'lakeflight_each_of'"):
        answers(lake, "SELECT * FROM lakeflight_each_of(['{}'])")


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (
            "SELECT l.msg, e.key, e.value FROM log_entries l, jsonb_each(json_object('b', l.level, 'a', l.msg)) e"
            " WHERE l.msg = 'line 1' ORDER BY 2",
            [("line 1", "a", '"line 1"'), ("line 1", "b", "3")],
        ),
        (
            "SELECT sum(CAST(e.value AS BIGINT)) = (SELECT sum(level) FROM log_entries) AS ok FROM log_entries l"
            " CROSS JOIN LATERAL jsonb_array_elements(CAST(json_array(l.level) AS VARCHAR)) e",
            [(True,)],
        ),
        (
            "SELECT sum(b.count) AS n FROM (SELECT target, make_histogram(0, 7, 7, level) AS h FROM log_entries GROUP BY target)"
            " t, expand_histogram(t.h) b",
            [(5,)],
        ),
        (
            "SELECT k.key, k.value FROM (SELECT [{'key': msg, 'value': target}] AS p FROM log_entries) t, jsonb_each(t.p) k"
            " ORDER BY 1 LIMIT 1",
            [("line 0", '"net"')],
        ),
        (
            "SELECT l.msg FROM log_entries l"
            " WHERE EXISTS (SELECT 1 FROM jsonb_each(json_object('m', l.msg)) e WHERE e.value = '\"line 3\"')",
            [("line 3",)],
        ),
        (
            "SELECT count(e.key) AS keys, count(*) AS lines FROM log_entries l LEFT JOIN jsonb_each(json_object('m', l.msg)) e"
            " ON e.value = '\"line 3\"'",
            [(1, 5)],
        ),
        ("SELECT count(*) AS n FROM log_entries l, jsonb_each((SELECT json_object('m', l.msg))) e", [(5,)]),
    ],
)
def test_a_column_of_a_table_before_them_is_expanded_row_by_row(
    lake: EngineLake, sql: str, expected: list[Any]
) -> None:
    logs = lake.logs(lake.write(log_rows(5), "lateral"))

    assert [tuple(row.values()) for row in lake.rows(sql, logs)] == expected
