"""A time that meets a bound value keeps its nanoseconds, whatever the value is when the statement is first seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.engine.engine import QueryEngine
from tests.support.engine_lake import CATALOG

T0 = 1_796_061_279_335_339_776
SECOND = 1_000_000_000
ROW = f"(SELECT make_timestamp_ns({T0}) AS time)"
DURATION, COUNT, MOMENT = pa.duration("us"), pa.int64(), pa.timestamp("ns")


@pytest.fixture(scope="module")
def engine() -> Iterator[QueryEngine]:
    with_values = QueryEngine()
    yield with_values
    with_values.close()


def answer(engine: QueryEngine, sql: str, value: Any, kind: pa.DataType) -> Any:
    values = pa.record_batch([pa.array([value], kind)], names=["1"])
    engine.inspect(sql, values, CATALOG)
    with engine.run(sql, values, [], catalog=CATALOG, identity="somebody") as reader:
        ((row,),) = (batch.select(["ns"]).to_pylist() for batch in reader)
    return row["ns"]


@pytest.mark.parametrize("first", ["value", "null"])
@pytest.mark.parametrize(
    ("expression", "kind", "value", "moved_by"),
    [
        ("time + ?", DURATION, 1_000_000, SECOND),
        ("time - ?", DURATION, 1_000_000, -SECOND),
        ("? + time", DURATION, 1_000_000, SECOND),
        ("time + ?::INTERVAL", DURATION, 1_000_000, SECOND),
        ("time + coalesce(NULL, ?)", DURATION, 1_000_000, SECOND),
        ("time + to_seconds(?)", COUNT, 1, SECOND),
        ("time + INTERVAL (?) SECOND", COUNT, 1, SECOND),
        ("time + ? * INTERVAL 1 SECOND", COUNT, 1, SECOND),
        ("? + INTERVAL 1 SECOND", MOMENT, T0, SECOND),
        ("list_transform([time], lambda t: t + ?)[1]", DURATION, 1_000_000, SECOND),
        ("date_trunc('second', ?)", MOMENT, T0 // SECOND * SECOND + SECOND - 1, None),
    ],
)
def test_a_time_and_a_bound_value_are_added_to_the_nanosecond(
    engine: QueryEngine, expression: str, kind: pa.DataType, value: int, moved_by: int | None, first: str
) -> None:
    sql = f"SELECT epoch_ns({expression}) AS ns FROM {ROW} -- {first}"
    if first == "null":  # what runs is remembered by types, and a NULL says nothing of what others lose
        assert answer(engine, sql, None, kind) is None

    found = answer(engine, sql, value, kind)

    assert found == (value // SECOND * SECOND if moved_by is None else T0 + moved_by)


def test_a_name_of_the_result_that_has_a_value_in_it_keeps_its_nanoseconds_in_where(engine: QueryEngine) -> None:
    sql = f"SELECT time + ? AS later, epoch_ns(later) AS ns FROM {ROW} WHERE later > '2020-01-01'"

    assert answer(engine, sql, 1_000_000, DURATION) == T0 + SECOND


@pytest.mark.parametrize(
    "having",
    [
        "min(time) - INTERVAL 1 HOUR > '2020-01-01'",
        "min(time) + INTERVAL 1 HOUR > '2020-01-01'",
        "age(max(time), min(time)) < INTERVAL 1 DAY",
        "date_sub('hour', min(time), max(time)) = 0",
        "max(time) - min(time) < INTERVAL 1 DAY",
        "lerp_color(1, 2, count(*)::DOUBLE) >= 0",
        "unlerp(0, 2, count(*)::DOUBLE) > 0",
    ],
)
def test_our_functions_may_stand_in_having(engine: QueryEngine, having: str) -> None:
    """There a field of a struct that is named with a dot would be taken for a column of a table."""
    rows = f"(SELECT make_timestamp_ns({T0} + i) AS time, i % 2 AS half FROM range(4) r(i))"
    sql = f"SELECT half FROM {rows} GROUP BY half HAVING {having} ORDER BY half"
    engine.inspect(sql, [], CATALOG)

    with engine.run(sql, [], [], catalog=CATALOG, identity="somebody") as reader:
        found = [row["half"] for batch in reader for row in batch.to_pylist()]

    assert found == [0, 1]
