"""Times never lose nanoseconds, a zone or the reader: every function of the engine that takes a time is tried.

What is right is worked out here, in whole numbers, or by asking the engine about the microsecond that a moment is in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from lakehouse.engine.engine import QueryEngine
from lakehouse.engine.functions import Verdict, function_rules
from lakehouse.engine.times import BY_MICROSECOND, OWN, WHOLE_MICROSECONDS
from lakehouse.errors import ForbiddenSqlError, LakeflightError, QueryError, UnsupportedError
from lakehouse.model import TimeRange
from tests.support.engine_lake import CATALOG, LOGS, SECOND, T0, TIME, EngineLake, log_rows

DAY = 86_400 * SECOND
HOUR = 3_600 * SECOND
NEW_YEAR = 1_798_761_600 * SECOND  # 2027-01-01T00:00:00Z
# Just before borders of a microsecond, a second, an hour, a day and a year, on both sides of 1970, and the ends.
MOMENTS = [
    *(NEW_YEAR - ns for ns in (1, 400, 499, 500, 501, 999, 1_000, 1_001)),
    *(-ns for ns in (1, 400, 500, 600, 1_000, 1_001, HOUR + 1, DAY + 400)),
    *(T0 + offset for offset in (0, 1, 499, 500, 999_999_999, HOUR - 1)),
    *(7 * DAY - 400, 0, -(1 << 63) + 2_000, (1 << 63) - 3_000),
]
RANDOM_PARTS = ["year", "quarter", "month", "week", "day", "hour", "minute", "second", "millisecond", "microsecond"]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def engine() -> Iterator[QueryEngine]:
    engine = QueryEngine()
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory, engine: QueryEngine) -> EngineLake:
    return EngineLake(tmp_path_factory.mktemp("times"), engine)


@pytest.fixture(scope="module")
def moments(lake: EngineLake) -> Any:
    """A log of one line per moment."""
    rows = log_rows(len(MOMENTS)).set_column(LOGS.get_field_index("time"), LOGS.field("time"), pa.array(MOMENTS, TIME))
    return lake.logs(lake.write(rows, "moments"))


def floor_us(moment: int) -> int:
    return moment // 1_000


def times_of_the_engine() -> dict[str, set[str]]:
    """Functions that take a moment, with their kinds."""
    connection = duckdb.connect()
    rows = connection.execute(
        "SELECT lower(function_name), function_type, parameter_types FROM duckdb_functions()"
    ).fetchall()
    connection.close()
    found: dict[str, set[str]] = {}
    for name, kind, types in rows:
        if any(str(t).startswith(("TIMESTAMP", "DATE")) for t in types or []):
            found.setdefault(name, set()).add(kind)
    return found


# How each is called with a moment; each is exact, repaired, or refuses what it would lose.
CALLS = {
    "+": "time + INTERVAL 1 HOUR",
    "-": "time - INTERVAL 1 HOUR",
    "add": "add(time, INTERVAL 1 HOUR)",
    "subtract": "subtract(time, INTERVAL 1 HOUR)",
    "age": "age(time, TIMESTAMP_NS '2020-01-01 00:00:00.000000500')",
    "approx_quantile": "approx_quantile(time, 0.5)",
    "avg": "avg(time)",
    "mean": "mean(time)",
    "mad": "mad(time)",
    "quantile_cont": "quantile_cont(time, 0.5)",
    "date_diff": "date_diff('hour', TIMESTAMP_NS '2020-01-01', time)",
    "datediff": "datediff('day', TIMESTAMP_NS '2020-01-01', time)",
    "date_sub": "date_sub('hour', TIMESTAMP_NS '2020-01-01 00:00:00.000000500', time)",
    "datesub": "datesub('day', time, TIMESTAMP_NS '2020-01-01 00:00:00.000000500')",
    "date_part": "date_part('hour', time)",
    "datepart": "datepart('year', time)",
    "date_trunc": "date_trunc('hour', time)",
    "datetrunc": "datetrunc('day', time)",
    "equi_width_bins": "equi_width_bins(min(time), max(time), 2, true)",
    "generate_series": "generate_series(time, time, INTERVAL 1 HOUR)",
    "range": "range(time, time, INTERVAL 1 HOUR)",
    "lttb": "lttb(time, level::DOUBLE, 2)",
    "strftime": "strftime(time, '%Y-%m-%d %H:%M:%S')",
    "time_bucket": "time_bucket(INTERVAL 1 HOUR, time)",
    "timezone": "timezone('UTC', time)",
    **{
        name: f"{name}(level, time)"
        for name in (
            *("arg_max", "arg_max_null", "arg_max_nulls_last", "arg_min", "arg_min_null", "arg_min_nulls_last"),
            *("argmax", "argmin", "max_by", "min_by"),
        )
    },
}


def test_no_function_of_the_engine_that_takes_a_time_is_unseen(lake: EngineLake, moments: Any) -> None:
    """Whatever it is: its plan has no time that is rounded, or it is refused by its name, or it is not allowed."""
    unseen = []
    for name in sorted(times_of_the_engine()):
        rule = function_rules()[name]
        if rule.verdict is Verdict.REFUSE:
            continue
        sql = f"SELECT {CALLS.get(name, f'{name}(time)')} AS v FROM log_entries"
        try:
            lake.table(sql, moments)
        except (UnsupportedError, QueryError) as error:
            if "would lose the nanoseconds" not in str(error) and "does not fit" not in str(error):
                unseen.append((name, str(error)))
    assert unseen == []


@pytest.mark.parametrize("name", sorted(BY_MICROSECOND - {"age", "timezone", "time_bucket"}))
def test_what_counts_microseconds_or_more_takes_the_one_that_a_moment_is_in(
    lake: EngineLake, moments: Any, name: str
) -> None:
    """The engine's own answer for the microsecond, which it has exactly."""
    if name in ("date_diff", "datediff"):
        calls = [(f"{name}('{p}', TIMESTAMP '2000-01-01', {{}})", p) for p in RANDOM_PARTS]
    elif name in ("date_part", "datepart", "date_trunc", "datetrunc"):
        calls = [(f"{name}('{part}', {{}})", part) for part in RANDOM_PARTS]
    else:
        calls = [(f"{name}({{}})", "")]
    connection = duckdb.connect()
    for call, _ in calls:
        given = lake.table(f"SELECT CAST({call.format('time')} AS VARCHAR) AS v FROM log_entries", moments)
        for moment, shown in zip(MOMENTS, given.column("v").to_pylist(), strict=True):
            exact = connection.execute(
                f"SELECT CAST({call.format(f'make_timestamp({floor_us(moment)})')} AS VARCHAR)"
            ).fetchall()
            assert [(shown,)] == exact, (call, moment)
    connection.close()


def test_hours_days_and_years_by_whole_numbers(lake: EngineLake, moments: Any) -> None:
    sql = """SELECT epoch_ns(date_trunc('hour', time)) AS hour, epoch_ns(date_trunc('day', time)) AS day, year(time) AS year,
        hour(time) AS h, time::DATE AS d, epoch_ms(time) AS ms, epoch_us(time) AS us, time.second() AS s,
        extract(minute FROM time) AS m, CAST(time AS TIME) AS t FROM log_entries
        WHERE time BETWEEN '1900-01-01' AND '2100-01-01'"""
    inside = [moment for moment in MOMENTS if -2_208_988_800 * SECOND <= moment <= 4_102_444_800 * SECOND]

    for moment, row in zip(inside, lake.rows(sql, moments), strict=True):
        at = _EPOCH + timedelta(microseconds=floor_us(moment))
        assert row["hour"] == moment // HOUR * HOUR and row["day"] == moment // DAY * DAY
        assert (row["year"], row["h"], row["m"], row["s"]) == (at.year, at.hour, at.minute, at.second)
        assert (row["d"], row["t"]) == (at.date(), at.time())
        assert (row["ms"], row["us"]) == (moment // 1_000_000, moment // 1_000)


@pytest.mark.parametrize(
    ("sql", "span"),
    [
        ("time + INTERVAL 1 HOUR", HOUR),
        ("INTERVAL 1 HOUR + time", HOUR),
        ("time - INTERVAL '1 microsecond'", -1_000),
        ("date_add(time, INTERVAL 2 DAY)", 2 * DAY),
        ("add(time, to_seconds(5))", 5 * SECOND),
        ("subtract(time, to_seconds(5))", -5 * SECOND),
        ("time + INTERVAL 1 DAY - INTERVAL 1 HOUR + INTERVAL 5 SECOND", DAY - HOUR + 5 * SECOND),
    ],
)
def test_a_time_and_an_interval_keep_the_nanoseconds(lake: EngineLake, moments: Any, sql: str, span: int) -> None:
    text = f"SELECT {sql} AS v FROM log_entries WHERE time BETWEEN '1900-01-01' AND '2100-01-01'"
    inside = [moment for moment in MOMENTS if -2_208_988_800 * SECOND <= moment <= 4_102_444_800 * SECOND]

    assert [row["v"] for row in lake.rows(text, moments)] == [moment + span for moment in inside]


def test_a_difference_is_in_whole_microseconds_and_never_one_too_many(lake: EngineLake, moments: Any) -> None:
    origin = T0 + 250
    sql = f"SELECT time - make_timestamp_ns({origin}) AS v FROM log_entries WHERE time BETWEEN '1900-01-01' AND '2100-01-01'"
    inside = [moment for moment in MOMENTS if -2_208_988_800 * SECOND <= moment <= 4_102_444_800 * SECOND]

    for moment, row in zip(inside, lake.rows(sql, moments), strict=True):
        exact = moment - origin
        assert row["v"] == (abs(exact) // 1_000 * 1_000) * (1 if exact >= 0 else -1)


def test_a_part_is_over_when_its_last_nanosecond_is(lake: EngineLake, moments: Any) -> None:
    origin = T0 + 250
    sql = f"""SELECT date_sub('hour', make_timestamp_ns({origin}), time) AS v, date_sub('hour', time, make_timestamp_ns({origin}))
        AS w FROM log_entries WHERE time BETWEEN '1900-01-01' AND '2100-01-01'"""
    inside = [moment for moment in MOMENTS if -2_208_988_800 * SECOND <= moment <= 4_102_444_800 * SECOND]

    for moment, row in zip(inside, lake.rows(sql, moments), strict=True):
        hours = abs(moment - origin) // HOUR * (1 if moment >= origin else -1)
        assert (row["v"], row["w"]) == (hours, -hours)


def test_buckets_hold_what_belongs_to_them(lake: EngineLake, moments: Any) -> None:
    sql = "SELECT time_bucket(INTERVAL 1 HOUR, time) AS b, time AS t FROM log_entries WHERE time BETWEEN '1900-01-01' AND '2100-01-01'"

    for row in lake.rows(sql, moments):
        assert row["b"] <= row["t"] < row["b"] + HOUR


@pytest.mark.parametrize(
    "expression",
    [
        "avg(time)",
        "avg(time) OVER ()",
        "quantile_cont(time, 0.5)",
        "generate_series(time, time, INTERVAL 1 HOUR)",
        "time_bucket(INTERVAL 1 HOUR, time, time)",
        "[time]::DATE[]",
        "{'a': time}::STRUCT(a TIMESTAMP)",
        "year(COLUMNS('time'))",
        "sum(level) OVER (ORDER BY time RANGE BETWEEN INTERVAL 1 MONTH PRECEDING AND CURRENT ROW)",
        "sum(level) OVER (ORDER BY time RANGE BETWEEN to_seconds(level) PRECEDING AND CURRENT ROW)",
    ],
)
def test_what_would_lose_nanoseconds_is_refused_with_a_way_out(lake: EngineLake, moments: Any, expression: str) -> None:
    with pytest.raises(LakeflightError, match=r"would lose the nanoseconds.*CAST\(… AS TIMESTAMP\)"):
        lake.rows(f"SELECT {expression} AS v FROM log_entries", moments)


@pytest.mark.parametrize(
    "expression",
    [
        "year(max(time))",
        "date_trunc('hour', max(time)) - INTERVAL 1 DAY",
        "max(time) - min(time)",
        "max(year(time))",
        "list_transform(list(time), lambda x: year(x))",
        "(SELECT max(hour(l.time)) FROM log_entries l WHERE l.time::DATE <= max(log_entries.time)::DATE)",
        "avg(CAST(time AS TIMESTAMP))",
        "count(*) FILTER (WHERE time + INTERVAL 1 HOUR > '2024-01-01')",
        "quantile_disc(time, 0.5)",
    ],
)
def test_repairs_reach_aggregates_lambdas_and_subqueries(lake: EngineLake, expression: str) -> None:
    logs = lake.logs(lake.write(log_rows(5, begin_ns=T0 + 1), "five"))

    for sql in (
        f"SELECT {expression} AS v FROM log_entries",
        f"SELECT v FROM (SELECT {expression} AS v FROM log_entries)",
        f"SELECT target, {expression} AS v FROM log_entries GROUP BY ALL HAVING year(max(time)) > 2000",
    ):
        assert lake.table(sql, logs).num_rows >= 1


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT year(time) AS y, count(*) AS n FROM log_entries GROUP BY 1", [{"y": 2023, "n": 3}]),
        ("SELECT time AS a, year(a) AS y FROM log_entries LIMIT 1", [{"a": T0 + 1, "y": 2023}]),
        ("SELECT y FROM log_entries, LATERAL (SELECT year(log_entries.time) AS y) LIMIT 1", [{"y": 2023}]),
        ("SELECT count(*) AS n FROM log_entries a JOIN log_entries b ON a.time::TIMESTAMP = b.time::TIMESTAMP", [{"n": 3}]),
        ("SELECT year(unnest([time])) AS y FROM log_entries LIMIT 1", [{"y": 2023}]),
        ("SELECT year(lag(time) OVER (ORDER BY time)) AS y FROM log_entries ORDER BY time DESC LIMIT 1", [{"y": 2023}]),
        ("SELECT DISTINCT date_trunc('day', time) + INTERVAL 1 DAY = '2023-11-15' AS y FROM log_entries", [{"y": True}]),
        ("DESCRIBE SELECT time + INTERVAL 1 DAY AS x FROM log_entries",
         [{"column_name": "x", "data_type": "TIMESTAMP_NS", "is_nullable": "YES"}]),
    ],
)  # fmt: skip
def test_repaired_statements_mean_what_they_say(lake: EngineLake, sql: str, rows: list[dict[str, Any]]) -> None:
    assert lake.rows(sql, lake.logs(lake.write(log_rows(3, begin_ns=T0 + 1), "three"))) == rows


@pytest.mark.parametrize(
    ("condition", "count", "bounds"),
    [
        ("time < '9999-12-31'", 10, TimeRange(None, None)),
        ("time <= TIMESTAMP '9999-12-31 23:59:59'", 10, TimeRange(None, None)),
        ("time < DATE '9999-12-31'", 10, TimeRange(None, None)),
        ("time > '0001-01-01'", 10, TimeRange(None, None)),
        ("time > DATE '0001-01-01'", 10, TimeRange(None, None)),
        ("'9999-12-31' > time", 10, TimeRange(None, None)),
        ("time < now() + INTERVAL '500 years'", 10, TimeRange(None, None)),
        ("time > now() - INTERVAL '1000 years'", 10, TimeRange(None, None)),
        ("time BETWEEN '0001-01-01' AND '9999-12-31'", 10, TimeRange(None, None)),
        ("time < make_timestamp(9999, 12, 31, 0, 0, 0.0)", 10, TimeRange(None, None)),
        ("time < TIMESTAMP_NS '9999-12-31'", 10, TimeRange(None, None)),
        ("time >= '2023-11-14 22:13:25' AND time < '9999-12-31'", 5, TimeRange(T0 + 5 * SECOND, None)),
        ("time > '9999-12-31'", 0, None),
        ("time = '9999-12-31'", 0, None),
        ("time IN ('9999-12-31', '2023-11-14 22:13:20')", 1, None),
        ("time::TIMESTAMP < '9999-12-31'", 10, TimeRange(None, None)),
        ("msg < '9999-12-31'", 0, TimeRange(None, None)),
    ],
)
def test_open_bounds_are_unbounded(lake: EngineLake, condition: str, count: int, bounds: TimeRange | None) -> None:
    logs = lake.logs(lake.write(log_rows(10), "ten"))
    sql = f"SELECT count(*) AS n FROM log_entries WHERE {condition}"

    [reference] = lake.engine.inspect(sql, None, CATALOG, now_ns=T0).references

    assert lake.rows(sql, logs, now_ns=T0) == [{"n": count}]
    if bounds is not None:
        end = reference.range.end_ns if (reference.range.end_ns or 0) < (1 << 63) - 2 else None
        begin = reference.range.begin_ns if (reference.range.begin_ns or 0) > 2 - (1 << 63) else None
        assert TimeRange(begin, end) == bounds


def test_bound_values_may_be_open_bounds_too(lake: EngineLake) -> None:
    logs = lake.logs(lake.write(log_rows(10), "ten"))
    sql = "SELECT count(*) AS n FROM log_entries WHERE time < ?"

    for column in (
        pa.array(["9999-12-31"]),
        pa.array([253_402_214_400_000_000], pa.timestamp("us")),
        pa.array([253_402_214_400], pa.timestamp("s")),
        pa.array([2_932_896], pa.date32()),
    ):
        parameters = pa.RecordBatch.from_arrays([column], names=["1"])
        assert lake.rows(sql, logs, parameters=parameters) == [{"n": 10}]


@pytest.mark.parametrize("condition", ["time > 'yesterday'", "time = '2024-13-01'", "time < TIMESTAMP_NS 'soon'"])
def test_a_malformed_time_gets_a_message_about_times(lake: EngineLake, condition: str) -> None:
    logs = lake.logs(lake.write(log_rows(1), "one"))

    with pytest.raises(LakeflightError, match="is not a timestamp: write it as 2026-01-31 12:00:00"):
        lake.rows(f"SELECT count(*) FROM log_entries WHERE {condition}", logs)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM log_entries WHERE time > '2024-06-01 12:00:00 Europe/Berlin'",
        "SELECT TIMESTAMP '2024-06-01 12:00:00 America/New_York'",
        "SELECT TIMESTAMP_NS '2024-06-01 12:00:00 CET'",
        "SELECT * FROM log_entries WHERE time BETWEEN '2024-06-01 Asia/Tokyo' AND '2024-06-02'",
    ],
)
def test_a_named_zone_is_refused_where_it_would_be_dropped(lake: EngineLake, sql: str) -> None:
    with pytest.raises(
        ForbiddenSqlError, match=r"has a time zone: write it in UTC, or as TIMESTAMPTZ '.*' AT TIME ZONE 'UTC'"
    ):
        lake.engine.inspect(sql, None, CATALOG)


def test_names_of_utc_are_no_zone_to_be_lost(lake: EngineLake) -> None:
    for zone in ("UTC", "Z", "GMT", "Etc/UTC"):
        lake.engine.inspect(f"SELECT * FROM log_entries WHERE time > '2024-06-01 12:00:00 {zone}'", None, CATALOG)
    lake.engine.inspect("SELECT * FROM log_entries WHERE msg = '2024-06-01 12:00:00 Europe/Berlin'", None, CATALOG)


def test_at_time_zone_is_the_wall_clock_of_a_zone(lake: EngineLake) -> None:
    """Columns are UTC: 22:13 there is 23:13 in Berlin in November, to the nanosecond."""
    logs = lake.logs(lake.write(log_rows(1, begin_ns=T0 + 7), "one"))
    sql = """SELECT time AT TIME ZONE 'Europe/Berlin' AS berlin, timezone('Asia/Tokyo', time) AS tokyo,
        time::TIMESTAMP AT TIME ZONE 'UTC' AS utc, hour(time AT TIME ZONE 'Europe/Berlin') AS h,
        TIMESTAMPTZ '2023-11-14 23:13:20 Europe/Berlin' AT TIME ZONE 'UTC' AS moment FROM log_entries"""

    assert lake.rows(sql, logs) == [
        {"berlin": T0 + HOUR + 7, "tokyo": T0 + 9 * HOUR + 7, "utc": T0, "h": 23, "moment": T0}
    ]
    with pytest.raises(ForbiddenSqlError, match="TIMESTAMPTZ '2024-06-01 12:00:00 Europe/Berlin' AT TIME ZONE 'UTC'"):
        lake.engine.inspect(
            "SELECT * FROM log_entries WHERE time > TIMESTAMP '2024-06-01 12:00:00' AT TIME ZONE 'Europe/Berlin'",
            None,
            CATALOG,
        )


# What is said twice must be repaired twice: the engine knows a group by its text.
GROUPED_BY = [
    "time::DATE",
    "CAST(log_entries.time AS DATE)",
    "hour(time)",
    "extract(second FROM time)",
    "date_trunc('second', time)",
    "time_bucket(INTERVAL 3 SECOND, time)",
    "epoch_us(time + INTERVAL 1 HOUR)",
    "date_trunc('minute', time) + INTERVAL 1 MINUTE",
    "date_trunc('second', time - INTERVAL 1 DAY + INTERVAL '1 second')",
    "strftime(time::TIMESTAMP, '%H:%M:%S')",
    "date_diff('second', TIMESTAMP '2023-11-14', time)",
    "date_trunc('millisecond', time::TIMESTAMP)::TIMESTAMP_MS::VARCHAR",
    "CASE WHEN time > '9999-12-31' THEN 'late' ELSE dayname(time) END",
    "(time < TIMESTAMP '9999-12-31')",
    "second(time) % 3",
]
GROUPINGS = [
    "SELECT {e} AS g, count(*) AS n FROM log_entries GROUP BY {e} ORDER BY 1",
    "SELECT {e} AS g, count(*) AS n FROM log_entries GROUP BY {q} ORDER BY {e}",
    "SELECT {e}, count(*) FROM log_entries GROUP BY 1 ORDER BY {e}",
    "SELECT {e}, sum(level) FROM log_entries GROUP BY ALL ORDER BY {q} DESC",
    "SELECT {e} AS m, count(*) FROM log_entries GROUP BY m HAVING {e} IS NOT NULL ORDER BY m",
    "SELECT {e}, target, count(*), grouping({e}) FROM log_entries GROUP BY ROLLUP({e}, target) ORDER BY ALL",
    "SELECT {e}, count(*) FROM log_entries GROUP BY GROUPING SETS (({e}), ()) ORDER BY ALL",
    "SELECT {e}, level, count(*) FROM log_entries GROUP BY CUBE({q}, level) ORDER BY ALL",
    "SELECT {e}, rank() OVER (ORDER BY {e}) FROM log_entries GROUP BY {e} ORDER BY ALL",
    "SELECT count(*) OVER (PARTITION BY {q}), max({e}) OVER () FROM log_entries GROUP BY {e} ORDER BY ALL",
    "SELECT {e}, max(count(*)) OVER () FROM log_entries GROUP BY {e} QUALIFY {e} = max({e}) OVER () ORDER BY 1",
    "SELECT count(*) FROM log_entries GROUP BY {e} HAVING max(hour(time)) > 1 ORDER BY count(*), {e}",
    "SELECT DISTINCT {e} FROM log_entries ORDER BY {q}",
    "SELECT DISTINCT ON ({e}) {e}, count(*) OVER () FROM log_entries ORDER BY {e}",
    "SELECT {e} FROM log_entries UNION SELECT {e} FROM log_entries WHERE level > 2 ORDER BY {e}",
    "(SELECT {e} FROM log_entries EXCEPT SELECT {e} FROM log_entries WHERE level > 2) UNION ALL SELECT {e} FROM log_entries "
    "ORDER BY {e}",
    "SELECT * FROM (SELECT {e} AS g, min(msg) AS m FROM log_entries GROUP BY {e}) JOIN "
    "(SELECT 'x' AS time, count(*) AS c FROM log_entries GROUP BY {e}) ON true ORDER BY ALL",
    "WITH q AS (SELECT {e} AS g FROM log_entries GROUP BY {e}) SELECT count(*), (SELECT max(g) FROM q) FROM q",
    "SELECT log_entries.level, {e} FROM log_entries JOIN (SELECT DISTINCT level FROM log_entries) o USING (level) "
    "GROUP BY log_entries.level, {q} ORDER BY ALL",
]  # fmt: skip


@pytest.fixture(scope="module")
def grouped(lake: EngineLake) -> Iterator[tuple[Any, Any]]:
    """A log, and the engine itself over the same in microseconds, which it has exactly; no two times share one."""
    rows = log_rows(12, begin_ns=T0 + 999_999_600)
    connection = duckdb.connect()
    connection.register("stored", rows)
    connection.execute(
        "CREATE TABLE log_entries AS SELECT * REPLACE (make_timestamp(epoch_ns(time) // 1000) AS time) FROM stored"
    )
    yield lake.logs(lake.write(rows, "grouped")), connection
    connection.close()


@pytest.mark.parametrize("grouping", GROUPINGS)
def test_groups_by_a_time_are_those_of_the_engine_itself_in_every_clause(
    lake: EngineLake, grouped: Any, grouping: str
) -> None:
    for expression in ("date_trunc('second', time)", "time::DATE", "epoch_us(time + INTERVAL 1 HOUR)"):
        qualified = re.sub(r"\btime\b", "log_entries.time", expression)
        sql = grouping.format(e=expression, q=qualified)
        assert text_rows(lake.table(sql, grouped[0])) == text_rows(grouped[1].execute(sql).to_arrow_table()), sql


@pytest.mark.parametrize("expression", GROUPED_BY)
def test_groups_by_a_time_are_those_of_the_engine_itself_in_every_function(
    lake: EngineLake, grouped: Any, expression: str
) -> None:
    sql = f"SELECT {expression} AS g, count(*) AS n FROM log_entries GROUP BY {expression} HAVING {expression} IS NOT NULL"
    sql += f" ORDER BY {expression}"

    assert text_rows(lake.table(sql, grouped[0])) == text_rows(grouped[1].execute(sql).to_arrow_table())


def text_rows(table: Any) -> list[list[str]]:
    """Rows as text, with moments in whole microseconds."""
    columns = [
        column.cast(pa.timestamp("us"), safe=False) if pa.types.is_timestamp(column.type) else column
        for column in table.columns
    ]
    return [[str(value) for value in row] for row in zip(*(column.to_pylist() for column in columns), strict=True)]


def test_a_name_of_the_result_is_repaired_where_it_comes_from(lake: EngineLake, grouped: Any) -> None:
    for sql in (
        "SELECT time::DATE AS d, count(*) FROM log_entries WHERE d = '2023-11-14' GROUP BY d HAVING d > '2000-01-01' ORDER BY d",
        "SELECT date_trunc('second', time) AS s, hour(s) FROM log_entries WHERE second(s) < 25 ORDER BY s",
        "SELECT hour(time) AS time, count(*) FROM log_entries GROUP BY ALL",
        "SELECT time::DATE AS d, msg FROM log_entries WHERE d < '9999-12-31' ORDER BY msg",
        "SELECT date_trunc('second', main.log_entries.time), count(*) FROM log_entries "
        "GROUP BY date_trunc('second', log_entries.time) ORDER BY 1",
    ):
        assert text_rows(lake.table(sql, grouped[0])) == text_rows(grouped[1].execute(sql).to_arrow_table()), sql


def test_a_group_by_a_sum_of_a_time_keeps_its_nanoseconds(lake: EngineLake) -> None:
    logs = lake.logs(lake.write(log_rows(2, begin_ns=T0 + 7), "two"))
    sql = "SELECT time + INTERVAL 1 DAY AS t, count(*) AS n FROM log_entries GROUP BY time + INTERVAL 1 DAY ORDER BY t"
    in_ms = "SELECT epoch_ms(time) AS t, count(*) AS n FROM log_entries GROUP BY epoch_ms(time) ORDER BY epoch_ms(time)"

    assert lake.rows(sql, logs) == [{"t": T0 + 7 + DAY, "n": 1}, {"t": T0 + 7 + DAY + SECOND, "n": 1}]
    assert lake.rows(in_ms, logs) == [{"t": T0 // 1_000_000, "n": 1}, {"t": T0 // 1_000_000 + 1_000, "n": 1}]


@pytest.mark.parametrize(("unit", "size"), [("TIMESTAMP_S", SECOND), ("TIMESTAMP_MS", 1_000_000)])
@pytest.mark.parametrize(
    "given",
    [
        "time",
        "time::TIMESTAMP",
        "time::TIMESTAMPTZ",
        "date_trunc('microsecond', time)",
        "time::VARCHAR",
        "(time::VARCHAR)::TIMESTAMP",
        "time + INTERVAL 0 SECOND",
        "TRY_CAST(time::VARCHAR AS TIMESTAMP)",
        "time::TIMESTAMP_MS",
        "(SELECT max(l.time) FROM log_entries l WHERE l.time = log_entries.time)",
    ],
)
def test_a_cast_to_seconds_or_milliseconds_is_what_a_moment_is_in(
    lake: EngineLake, moments: Any, given: str, unit: str, size: int
) -> None:
    inside = [moment for moment in MOMENTS if -2_208_988_800 * SECOND <= moment <= 4_102_444_800 * SECOND]
    for cast in (f"({given})::{unit}", f"CAST({given} AS {unit})", f"TRY_CAST({given} AS {unit})"):
        sql = f"SELECT epoch_ns({cast}) AS v FROM log_entries WHERE time BETWEEN '1900-01-01' AND '2100-01-01'"
        assert [row["v"] for row in lake.rows(sql, moments)] == [moment // size * size for moment in inside], cast


@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        ("TIMESTAMP_S '2026-12-31 23:59:59.9'", "2026-12-31 23:59:59"),
        ("TIMESTAMP_MS '2026-12-31 23:59:59.9999'", "2026-12-31 23:59:59.999"),
        ("'2026-12-31 23:59:59.9'::TIMESTAMP::TIMESTAMP_S", "2026-12-31 23:59:59"),
        ("TIMESTAMPTZ '2026-12-31 23:59:59.9'::TIMESTAMP_S", "2026-12-31 23:59:59"),
        ("TIMESTAMP_MS '2026-12-31 23:59:59.999'::TIMESTAMP_S", "2026-12-31 23:59:59"),
        ("epoch_us(TIMESTAMP_S '2026-12-31 23:59:59.9')", "1798761599000000"),
        ("year(make_timestamp(-1)::TIMESTAMP_S)", "1969"),
        ("epoch_us(TIMESTAMP_NS '2026-12-31 23:59:59.9999996'::TIMESTAMP)", "1798761599999999"),
        ("epoch(date_trunc('hour', make_timestamp_ns(1798761599999999600)))", "1798758000.0"),
        ("year(date_trunc('day', TIMESTAMP_NS '2026-12-31 23:59:59.9999996')::DATE::TIMESTAMP_S)", "2026"),
        ("epoch_ns(TIMESTAMP_NS '2026-12-31 23:59:59.999999600' + INTERVAL 1 SECOND)", "1798761600999999600"),
        ("struct_pack(a := TIMESTAMP_NS '2026-12-31 23:59:59.9999996'::DATE).a", "2026-12-31"),
        ("list_value(TIMESTAMP_NS '2026-12-31 23:59:59.9999996'::DATE)[1]", "2026-12-31"),
        ("make_timestamp(-1)::TIMESTAMP_S", "1969-12-31 23:59:59"),
        ("make_timestamp_ms(-1)::TIMESTAMP_S", "1969-12-31 23:59:59"),
        ("TIMESTAMP 'infinity'::TIMESTAMP_S", "infinity"),
        ("TRY_CAST('soon' AS TIMESTAMP_S)", "None"),
        ("TIMESTAMP_S '2026-12-31 23:59:59' < '2026-12-31 23:59:59.2'", "true"),
        ("TIMESTAMP_S '2026-12-31 23:59:59' = '2026-12-31 23:59:59.2'", "false"),
        ("TIMESTAMP_S '2026-12-31 23:59:59' > '2026-12-31 23:59:58.9'", "true"),
    ],
)
def test_texts_and_constants_are_never_rounded_to_the_next_second(
    lake: EngineLake, moments: Any, expression: str, answer: str
) -> None:
    sql = f"SELECT CAST({expression} AS VARCHAR) AS v FROM log_entries LIMIT 1"

    assert str(lake.rows(sql, moments)[0]["v"]) == answer


def test_times_inside_of_a_list_are_not_rounded_without_a_word(lake: EngineLake, moments: Any) -> None:
    for expression in ("[time::TIMESTAMP]::TIMESTAMP_S[]", "[time::VARCHAR]::TIMESTAMP_MS[]"):
        with pytest.raises(UnsupportedError, match="would round a time here: cast each time by itself"):
            lake.rows(
                f"SELECT {expression} AS v FROM log_entries WHERE time BETWEEN '1900-01-01' AND '2100-01-01'", moments
            )


OFFSET = "2023-11-14 22:13:50+02"


@pytest.mark.parametrize(
    "expression",
    [
        "greatest(time, {t}) = time",
        "list_contains([time], {t})",
        "time IN (SELECT {t}::TIMESTAMP_NS)",
        "date_diff('second', {t}, time) > 0",
        "coalesce(time, {t}) = time",
        "CASE WHEN level > 2 THEN time ELSE {t} END = time",
        "{t}::VARCHAR::TIMESTAMP < time",
        "CAST(CAST({t} AS TEXT) AS TIMESTAMP_NS) < time",
        "[{t}]::TIMESTAMP[] = [time::TIMESTAMP]",
        "list_contains([{t}]::TIMESTAMP[], time::TIMESTAMP)",
        "({{'a': {t}}}::STRUCT(a TIMESTAMP)).a < time",
        "hour({t}::VARCHAR::TIMESTAMP) = 3",
        "date_diff('hour', date_trunc('hour', {t}::VARCHAR::TIMESTAMP_NS), time) = 3",
        "{{'a': {t}}}::STRUCT(a TIMESTAMP) = {{'a': time::TIMESTAMP}}",
        "list_contains([{t}, time], time)",
        "{t}::TIMESTAMP_S < time",
        "{t}::VARCHAR::DATE < time",
        "time BETWEEN {t} AND now()",
        "nullif(time, {t}) IS NULL",
        "lag(time, 1, {t}) OVER () = time",
    ],
)
@pytest.mark.parametrize("text", [OFFSET, "2023/11/14 22:13:50 -0530", "2023-11-14T22:13:50.5 Europe/Berlin"])
def test_an_offset_or_a_zone_is_refused_wherever_a_text_becomes_a_time(
    lake: EngineLake, expression: str, text: str
) -> None:
    with pytest.raises(ForbiddenSqlError, match=r"has an offset: write it in UTC|has a time zone: write it in UTC"):
        lake.engine.inspect(f"SELECT {expression.format(t=repr(text))} FROM log_entries", (), CATALOG)
    if "::STRUCT" not in expression and "[]" not in expression:
        parameters = pa.RecordBatch.from_arrays([pa.array([text])], names=["1"])
        with pytest.raises(ForbiddenSqlError, match=r"write it in UTC"):
            lake.engine.inspect(f"SELECT {expression.format(t='?')} FROM log_entries", parameters, CATALOG)


@pytest.mark.parametrize(
    "expression",
    [
        "CAST(concat('2023-11-14 ', '22:13:50+02') AS TIMESTAMP)",
        "CAST('2023-11-14 22:13:50' || ' Europe/Berlin' AS TIMESTAMP_NS)",
        "concat('2023-11-14 ', '22:13:50+02')::TIMESTAMP_S",
        "count(*) FILTER (WHERE time > concat('2023-11-14 ', '22:13:50+02')::TIMESTAMP_NS)",
        "min(said::TIMESTAMP)",
        "max(date_diff('second', concat('2023-11-14 ', '22:13:50+02')::TIMESTAMP, time))",
        "hour(date_trunc('hour', concat('2023-11-14 ', '22:13:50+02')::TIMESTAMP))",
    ],
)
def test_a_text_that_is_put_together_loses_no_zone_either(lake: EngineLake, expression: str) -> None:
    logs = lake.logs(lake.write(log_rows(2), "two"))
    source = "(SELECT time, chr(50) || '023-11-14 22:13:50+02' AS said FROM log_entries)"

    with pytest.raises(LakeflightError, match="write it in UTC"):
        lake.rows(f"SELECT {expression} AS v FROM {source}", logs)


@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        (f"replace('{OFFSET}', '+02', '')::TIMESTAMP", "2023-11-14 22:13:50"),
        (f"TIMESTAMPTZ '{OFFSET}' AT TIME ZONE 'UTC'", "2023-11-14 20:13:50"),
        (f"'{OFFSET}'::VARCHAR::TIMESTAMPTZ::TIMESTAMP", "2023-11-14 20:13:50"),
        (f"strptime('{OFFSET}', '%Y-%m-%d %H:%M:%S%z')::TIMESTAMP", "2023-11-14 20:13:50"),
        (f"upper('{OFFSET}')", OFFSET),
        (f"TRY_CAST(concat('{OFFSET}', '') AS TIMESTAMP)", "None"),
        ("concat('2023-11-14 ', '22:13:50+00')::TIMESTAMP", "2023-11-14 22:13:50"),
        ("concat('2023-11-14 ', '22:13:50Z')::TIMESTAMP_NS", "2023-11-14 22:13:50"),
        ("concat('2023-11-14 ', '22:13:50.123456789 UTC')::TIMESTAMP_NS", "2023-11-14 22:13:50.123456789"),
        ("concat('2023-11-', '14')::TIMESTAMP", "2023-11-14 00:00:00"),
        ("concat('inf', 'inity')::TIMESTAMP", "infinity"),
        ("'2023-11-14 22:13:50+00:00'::VARCHAR::TIMESTAMP", "2023-11-14 22:13:50"),
        ("'\"2023-11-14 22:13:50\"'::JSON::TIMESTAMP", "2023-11-14 22:13:50"),
    ],
)
def test_a_text_without_a_zone_or_read_with_it_is_a_time(lake: EngineLake, expression: str, answer: str) -> None:
    logs = lake.logs(lake.write(log_rows(1), "one"))

    assert str(lake.rows(f"SELECT CAST({expression} AS VARCHAR) AS v FROM log_entries", logs)[0]["v"]) == answer


@pytest.mark.parametrize(
    ("body", "exact"),
    [
        ("x::DATE::VARCHAR", "strftime(time::TIMESTAMP, '%Y-%m-%d')"),
        ("epoch_us(x::TIMESTAMP)", "epoch_us(time)"),
        ("epoch_ns(x::TIMESTAMP_S)", "epoch_ns(date_trunc('second', time))"),
        ("epoch_ns(x::TIMESTAMP::TIMESTAMP_MS)", "epoch_ns(date_trunc('millisecond', time))"),
        ("epoch_us(CAST(x + INTERVAL 1 SECOND AS TIMESTAMP))", "epoch_us(time) + 1000000"),
        ("hour(x)", "hour(time)"),
    ],
)
def test_casts_in_lambdas_are_exact(lake: EngineLake, moments: Any, body: str, exact: str) -> None:
    where = "FROM log_entries WHERE time BETWEEN '1900-01-01' AND '2100-01-01'"

    [found] = lake.rows(f"SELECT list_transform(list(time), lambda x: {body}) = list({exact}) AS v {where}", moments)
    [said] = lake.rows(f"SELECT [{body} FOR x IN list(time)] = list({exact}) AS v {where}", moments)
    assert (found, said) == ({"v": True}, {"v": True})


@pytest.mark.parametrize(
    "condition",
    [
        "time < ALL (SELECT DATE '9999-12-31')",
        "time IN (SELECT DATE '9999-12-31')",
        "time < (SELECT TIMESTAMP '9999-12-31 10:00:00')",
    ],
)
def test_a_time_that_nanoseconds_do_not_reach_is_named_with_a_way_out(lake: EngineLake, condition: str) -> None:
    logs = lake.logs(lake.write(log_rows(1), "one"))

    with pytest.raises(
        QueryError, match=r"lies beyond the years 1677 to 2262, .*: compare it with CAST\(… AS TIMESTAMP\)"
    ):
        lake.rows(f"SELECT count(*) FROM log_entries WHERE {condition}", logs)
    assert lake.rows(
        f"SELECT count(*) AS n FROM log_entries WHERE {condition.replace('time', 'time::TIMESTAMP', 1)}", logs
    )


@pytest.mark.parametrize(
    ("frame", "least", "most"),
    [
        ("time RANGE BETWEEN INTERVAL 2 SECOND PRECEDING AND CURRENT ROW", -2 * SECOND, 0),
        ("time RANGE BETWEEN CURRENT ROW AND '2 seconds'::INTERVAL FOLLOWING", 0, 2 * SECOND),
        ("time RANGE BETWEEN to_microseconds(1) PRECEDING AND INTERVAL 1 DAY FOLLOWING", -1_000, DAY),
        ("time DESC RANGE BETWEEN INTERVAL 2 SECOND PRECEDING AND CURRENT ROW", 0, 2 * SECOND),
        ("time RANGE BETWEEN UNBOUNDED PRECEDING AND INTERVAL '0 seconds' FOLLOWING", -DAY, 0),
    ],
)
def test_a_window_reaches_over_a_span_to_the_nanosecond(lake: EngineLake, frame: str, least: int, most: int) -> None:
    times = [
        T0 + offset for offset in (0, 1, 999, 1_000, 1_001, 2 * SECOND - 1, 2 * SECOND, 2 * SECOND + 1, 4 * SECOND + 1)
    ]
    rows = log_rows(len(times)).set_column(LOGS.get_field_index("time"), LOGS.field("time"), pa.array(times, TIME))
    logs = lake.logs(lake.write(rows, "spans of time"))
    sql = f"SELECT count(*) OVER (ORDER BY {frame}) AS n, min(time) OVER w AS t FROM log_entries WINDOW w AS (ORDER BY {frame})"

    found = sorted((row["t"], row["n"]) for row in lake.rows(sql, logs))
    reached = [[other for other in times if least <= other - time <= most] for time in times]
    assert found == sorted((min(others), len(others)) for others in reached)


def test_a_time_of_another_type_in_another_select_is_left_alone(lake: EngineLake) -> None:
    logs = lake.logs(lake.write(log_rows(2), "two"))
    sql = """WITH texts AS (SELECT '2024-01-01' AS time) SELECT time::DATE AS d, (SELECT time::DATE FROM texts) AS e, count(*) AS n
        FROM log_entries GROUP BY time::DATE"""

    [row] = lake.rows(sql, logs)
    assert (str(row["d"]), str(row["e"]), row["n"]) == ("2023-11-14", "2024-01-01", 2)


def test_every_repair_is_of_a_function_that_there_is() -> None:
    names = set(times_of_the_engine())

    assert (BY_MICROSECOND | {name for name, _ in OWN}) - names == set()
    assert WHOLE_MICROSECONDS - names <= {"favg"}
