"""What a repaired statement is: one that needs no repair, in which the shorter forms say what the general ones say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.engine import DEFAULT_LIMITS
from lakehouse.engine.database import Database
from lakehouse.engine.functions import own_functions
from lakehouse.engine.gate import judge
from lakehouse.engine.parse import Parser
from lakehouse.engine.rewrite import rewritten
from lakehouse.engine.times import BY_MICROSECOND
from lakehouse.errors import LakeflightError
from tests.support.engine_lake import CATALOG

MOMENTS = ("time", "time::TIMESTAMP_NS", "max(time) OVER ()", "time + INTERVAL 1 DAY", "now()", "coalesce(time, now())")
READERS = (
    *(f"{name}({{}})" for name in ("hour", "dayname", "epoch_us", "last_day", "isfinite")),
    *("date_trunc('minute', {})", "date_part('year', {})", "time_bucket(INTERVAL '10 seconds', {})", "{}::DATE"),
    *("CAST({} AS TIMESTAMP)", "{}::TIMESTAMP_S", "{} - INTERVAL '90 seconds'", "INTERVAL 2 HOURS + {}", "{} - now()"),
    *(
        "date_diff('hour', {}, now())",
        "({})::TIMESTAMP",
        "{}::TIMESTAMP::TIMESTAMP_MS",
        "age({}, now())",
        "strftime({}, '%H')",
    ),
)
FILTERS = (
    "time >= '2024-01-01'",
    "time < TIMESTAMP '2024-01-02 00:00:00'",
    "time >= now() - INTERVAL '1 hour'",
    "time > '9999-12-31'",
    "time BETWEEN '2024-01-01' AND DATE '9999-12-31'",
    "hour(time) = 3",
    "time::DATE = '2024-01-01'",
)


@dataclass(frozen=True)
class Statements:
    """What the engine does to a text before it runs, without running it."""

    database: Database
    parser: Parser

    def repaired(self, sql: str) -> str | None:
        """The text with its times repaired; ``None``: nothing is lost."""
        checked = judge(
            self.parser.parse(sql),
            tables=CATALOG.tables,
            view_sets=CATALOG.view_sets,
            time_columns=CATALOG.time_columns,
            other_columns=CATALOG.other_columns,
            parameters=None,
            limits=DEFAULT_LIMITS,
        )
        made = rewritten(self.database.connection, checked)
        if made is None or made.function is None:
            return None
        again = rewritten(self.database.connection, replace(checked, text=made.text, tree=self._tree(made.text)))
        assert again is None or again.function is None, f"{made.text} → {again.text}"
        self.database.connection.sql(made.text)
        return made.text

    def _tree(self, text: str) -> Any:
        (answer,) = self.database.connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [text]).fetchone() or (
            "",
        )
        return json.loads(answer)["statements"][0]["node"]


@pytest.fixture(scope="module")
def statements() -> Iterator[Statements]:
    database = Database(DEFAULT_LIMITS, ["explain_output = 'all'"], plans=True)
    database.declare(CATALOG)
    database.use_functions(" ".join(function.name for function in own_functions()))
    database.outline_functions()
    database.set_now(0)
    yield Statements(database, Parser(database.connection, DEFAULT_LIMITS))
    database.close()


@pytest.mark.parametrize("name", sorted(BY_MICROSECOND - {"timezone", "age", "time_bucket"}))
def test_a_column_that_is_brought_down_needs_no_second_look(statements: Statements, name: str) -> None:
    units = ("'hour', ",) if name in ("date_trunc", "datetrunc", "date_part", "datepart") else ("",)
    is_pair = name in ("date_diff", "datediff")
    for unit in units:
        call = f"{name}('hour', time, now())" if is_pair else f"{name}({unit}time)"
        text = statements.repaired(
            f"SELECT {call} AS v FROM log_entries WHERE time >= TIMESTAMP '2024-01-01' GROUP BY 1"
        )
        assert text is None or "lakeflight_floor(" in text


@given(st.data())
def test_a_repaired_statement_needs_no_repair(statements: Statements, data: st.DataObject) -> None:
    columns: list[str] = []
    for _ in range(data.draw(st.integers(1, 3))):
        expression = data.draw(st.sampled_from(MOMENTS))
        for _ in range(data.draw(st.integers(1, 3))):
            expression = data.draw(st.sampled_from(READERS)).format(expression)
        columns.append(f"{expression} AS c{len(columns)}")
    filters = data.draw(st.lists(st.sampled_from(FILTERS), max_size=2))
    sql = f"SELECT {', '.join(columns)} FROM log_entries WHERE {' AND '.join(['true', *filters])}"
    try:
        statements.database.connection.sql(sql)
    except duckdb.Error:  # of these many do not bind, whatever is done to them
        return
    try:
        statements.repaired(sql)
    except LakeflightError as error:
        assert "nanoseconds" in str(error) or "round a time" in str(error), sql


@pytest.mark.parametrize(
    ("span", "nanoseconds"),
    [
        ("INTERVAL '1 hour'", 3_600_000_000_000),
        ("INTERVAL '-90 seconds'", -90_000_000_000),
        ("INTERVAL 5 MINUTE", 300_000_000_000),
        ("INTERVAL '5' MINUTES", 300_000_000_000),
        ("to_days(2)", 172_800_000_000_000),
        ("'3 weeks'::INTERVAL", 1_814_400_000_000_000),
    ],
)
def test_constant_spans_are_numbers(statements: Statements, span: str, nanoseconds: int) -> None:
    assert f'lakeflight_moved("time", {nanoseconds})' in str(
        statements.repaired(f"SELECT time + {span} FROM log_entries")
    )
    assert f'lakeflight_moved("time", {-nanoseconds})' in str(
        statements.repaired(f"SELECT time - {span} FROM log_entries")
    )


@pytest.mark.parametrize(
    "span",
    ["INTERVAL '1 month'", "INTERVAL 1 YEAR", "INTERVAL '2 hours 3 minutes'", "INTERVAL '1.5 hours'", "to_hours(line)"],
)
def test_other_spans_are_none(statements: Statements, span: str) -> None:
    columns = "(SELECT time, level AS line FROM log_entries)"
    assert "lakeflight_plus" in str(statements.repaired(f"SELECT time + {span} FROM {columns}"))


@given(
    st.integers(-(1 << 63) + 2, (1 << 63) - 2), st.integers(-9_999, 9_999), st.sampled_from(("second", "day", "week"))
)
def test_a_moment_is_moved_as_by_the_general_function(statements: Statements, ns: int, count: int, unit: str) -> None:
    size = {"second": 1, "day": 86_400, "week": 604_800}[unit] * 1_000_000_000
    (moved, added, lessened) = statements.database.connection.execute(
        f"SELECT lakeflight_moved(t, {count * size}), lakeflight_plus(t, INTERVAL '{count} {unit}'),"
        f" lakeflight_less(t, INTERVAL '{-count} {unit}') FROM (SELECT make_timestamp_ns(CAST({ns} AS BIGINT)) AS t)"
    ).fetchall()[0]
    assert moved == added == lessened


@given(st.integers(-(1 << 62), 1 << 62), st.integers(-(1 << 62), 1 << 62) | st.integers(-5_000, 5_000))
def test_two_moments_are_as_far_apart_as_by_the_general_function(statements: Statements, ns: int, other: int) -> None:
    if -5_000 <= other <= 5_000:
        other += ns
    (apart, difference) = statements.database.connection.execute(
        "SELECT CAST(lakeflight_apart(a, b) AS VARCHAR), CAST(lakeflight_difference(a, b) AS VARCHAR)"
        f" FROM (SELECT make_timestamp_ns(CAST({ns} AS BIGINT)) AS a, make_timestamp_ns(CAST({other} AS BIGINT)) AS b)"
    ).fetchall()[0]
    assert apart == difference
