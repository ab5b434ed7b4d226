"""What repairs a time computes the time once: a drawn one stays the same one, and a sum of sums stays a small plan."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lakehouse.engine.engine import QueryEngine
from lakehouse.errors import UnsupportedError
from tests.support.engine_lake import CATALOG, T0, EngineLake, log_rows, schema_of

# Far apart, and with nanoseconds that a mixture of two of them would show.
MOMENTS = ("2001-02-03 04:05:06.123456789", "2024-12-31 23:59:59.999999600", "1969-12-31 23:59:59.000000999")
MADE_OF_A_TIME = (
    "{} + INTERVAL 0 SECOND",
    "INTERVAL 0 SECOND + {}",
    "{} - INTERVAL 1 DAY",
    "{}::TIMESTAMP",
    "{}::TIMESTAMP_MS",
    "{}::DATE",
    "date_trunc('second', {})",
    "hour({})",
    "epoch_ms({})",
    "{} - TIMESTAMP_NS '2000-01-01 00:00:00.0000005'",
    "TIMESTAMP_NS '2000-01-01 00:00:00.0000005' - {}",
    "age({}, TIMESTAMP_NS '2000-01-01 00:00:00.0000005')::VARCHAR",
    "date_sub('hour', {}, TIMESTAMP_NS '2000-01-01 00:00:00.0000005')",
    "date_sub('hour', TIMESTAMP_NS '2000-01-01 00:00:00.0000005', {})",
)
DAY_NS = 86_400_000_000_000


@pytest.fixture(scope="module")
def engine() -> Iterator[QueryEngine]:
    engine = QueryEngine()
    yield engine
    engine.close()


@pytest.fixture
def lake(tmp_path: Path, engine: QueryEngine) -> EngineLake:
    return EngineLake(tmp_path, engine)


def rows(table: Any) -> list[tuple[Any, ...]]:
    """As text: what the values are is the engine's to say, and Python would round times."""
    return list(zip(*(column.cast("string").to_pylist() for column in table.columns), strict=True))


def added(terms: int) -> str:
    return "time" + "".join(f" + INTERVAL {number} DAY" for number in range(1, terms + 1))


@pytest.mark.parametrize("made", MADE_OF_A_TIME)
def test_what_is_made_of_a_drawn_time_is_made_of_one_of_the_times(lake: EngineLake, made: str) -> None:
    logs = lake.logs(lake.write(log_rows(200), "logs"))
    spelled = ", ".join(made.format(f"TIMESTAMP_NS '{moment}'") for moment in MOMENTS)
    known = rows(lake.table(f"SELECT {spelled} FROM log_entries LIMIT 1", logs))[0]
    listed = ", ".join(f"TIMESTAMP_NS '{moment}'" for moment in MOMENTS)
    drawn = f"list_extract([{listed}], 1 + CAST(floor(random() * {len(MOMENTS)} + 0 * level) AS INTEGER))"

    found = {row[0] for row in rows(lake.table(f"SELECT {made.format(drawn)} FROM log_entries", logs))}

    assert found == set(known)


def test_a_long_sum_of_intervals_is_exact_and_its_bounds_are_read(lake: EngineLake) -> None:
    logs = lake.logs(lake.write(log_rows(40), "logs"))
    moved = sum(range(1, 13)) * DAY_NS

    found = lake.rows(f"SELECT epoch_ns({added(12)}) - epoch_ns(time) AS d FROM log_entries", logs)
    where = f"{added(12)} >= make_timestamp_ns({T0 + moved})"
    (reference,) = lake.engine.inspect(f"SELECT count(*) FROM log_entries WHERE {where}", None, CATALOG).references

    assert found == [{"d": moved}] * 40
    assert reference.range.begin_ns is not None and T0 - 50_000 <= reference.range.begin_ns <= T0


def test_a_sum_of_several_kinds_of_intervals_is_exact_of_a_constant_too(lake: EngineLake) -> None:
    logs = lake.logs(lake.write(log_rows(1), "logs"))
    sql = (
        "SELECT CAST(TIMESTAMP_NS '2026-01-31 00:00:00.123456789' + INTERVAL 1 YEAR + INTERVAL 1 MONTH "
        "+ INTERVAL 1 DAY + INTERVAL 1 HOUR AS VARCHAR) AS t FROM log_entries"
    )
    assert lake.rows(sql, logs) == [{"t": "2027-03-01 01:00:00.123456789"}]


def test_a_span_from_a_query_is_added(lake: EngineLake) -> None:
    logs = lake.logs(lake.write(log_rows(3), "logs"))
    sql = "SELECT epoch_ns(time + (SELECT INTERVAL 1 DAY)) - epoch_ns(time) AS d FROM log_entries"
    assert lake.rows(sql, logs) == [{"d": DAY_NS}] * 3


def test_names_of_nested_columns_do_not_repeat_what_is_in_them(engine: QueryEngine) -> None:
    """Each level was called by the text of all below it: twenty of them took a gigabyte."""
    long = f"'{'x' * 400_000}'"
    scalar = f"(SELECT {long} || time::DATE FROM log_entries LIMIT 1)"
    for _ in range(15):
        scalar = f"(SELECT {scalar} || time::DATE FROM log_entries LIMIT 1)"
    table = f"SELECT {long} || time::DATE FROM log_entries"
    for _ in range(15):
        table = f"SELECT (SELECT 'a' FROM ({table}) LIMIT 1) || time::DATE FROM log_entries"

    (field,) = schema_of(engine.inspect(f"SELECT {scalar} AS s", None, CATALOG).schema)
    with pytest.raises(UnsupportedError, match="name them with AS"):
        engine.inspect(table, None, CATALOG)

    assert field.name == "s"


def test_a_column_without_a_name_keeps_that_of_the_text_around_its_subqueries(lake: EngineLake) -> None:
    logs = lake.logs(lake.write(log_rows(1), "logs"))
    plain = "SELECT (SELECT year(DATE '2020-01-01')) + 1 FROM log_entries"
    made = "SELECT (SELECT year(time)) + 1 FROM log_entries"

    assert lake.table(plain, logs).column_names == ["((SELECT \"year\"(CAST('2020-01-01' AS DATE))) + 1)"]
    assert lake.table(made, logs).column_names == ['((SELECT "year"("time")) + 1)']
