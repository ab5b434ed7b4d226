"""A parameter has the type of its Arrow column, never of its value; what is declared at prepare is what binding does."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.engine.engine import QueryEngine
from lakehouse.engine.values import bound_values, check_bindable
from lakehouse.errors import InternalError, LakeflightError, QueryError
from lakehouse.model import Spelling
from tests.support.engine_lake import CATALOG, STREAM, T0, EngineLake, log_rows, schema_of

UTC = pa.timestamp("ns", "UTC")
BIG = (1 << 63) - 1
MONTHS = pa.month_day_nano_interval()
SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def engine() -> Iterator[QueryEngine]:
    engine = QueryEngine()
    yield engine
    engine.close()


@pytest.fixture
def lake(tmp_path: Path, engine: QueryEngine) -> EngineLake:
    return EngineLake(tmp_path, engine)


def row(*columns: Any) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(list(columns), names=[str(n) for n in range(1, len(columns) + 1)])


# Arrow type, values, the SQL type of the parameter, the Arrow type of the result (None: the same).
EXACT: list[tuple[Any, list[Any], str, Any]] = [
    (pa.bool_(), [True, False], "BOOLEAN", None),
    (pa.int8(), [0, -128, 127], "TINYINT", None),
    (pa.int16(), [0, -32_768, 32_767], "SMALLINT", None),
    (pa.int32(), [0, -(1 << 31), (1 << 31) - 1], "INTEGER", None),
    (pa.int64(), [0, 1, 5_000, -BIG - 1, BIG], "BIGINT", None),
    (pa.uint8(), [0, 255], "UTINYINT", None),
    (pa.uint16(), [0, 65_535], "USMALLINT", None),
    (pa.uint32(), [0, (1 << 32) - 1], "UINTEGER", None),
    (pa.uint64(), [0, (1 << 64) - 1], "UBIGINT", None),
    (pa.float16(), [0.5, -65_504.0, float("inf")], "FLOAT", pa.float32()),
    (pa.float32(), [0.5, 3.4028234663852886e38, float("-inf")], "FLOAT", None),
    (pa.float64(), [0.1, -0.0, 1e300, 5e-324, float("inf")], "DOUBLE", None),
    (pa.decimal32(7, 2), [Decimal("1.20"), Decimal("-99999.99")], "DECIMAL(7,2)", pa.decimal128(7, 2)),
    (pa.decimal64(18, 0), [Decimal("9" * 18)], "DECIMAL(18,0)", pa.decimal128(18, 0)),
    (pa.decimal128(38, 10), [Decimal("-1234567890123456789012345678.0123456789")], "DECIMAL(38,10)", None),
    (pa.decimal256(38, 3), [Decimal("1.234")], "DECIMAL(38,3)", pa.decimal128(38, 3)),
    (pa.string(), ["", "it's", "é😀", "NULL", "5", "a\0b"], "VARCHAR", None),
    (pa.large_string(), ["x"], "VARCHAR", pa.string()),
    (pa.string_view(), ["x"], "VARCHAR", pa.string()),
    (pa.binary(), [b"", b"\0\xff'\\x"], "BLOB", None),
    (pa.large_binary(), [b"\0"], "BLOB", pa.binary()),
    (pa.binary_view(), [b"\0" * 20], "BLOB", pa.binary()),
    (pa.binary(3), [b"\0\1\2"], "BLOB", pa.binary()),
    (pa.date32(), [0, -719_162, 2_932_896, 40_000_000], "DATE", None),
    (pa.date64(), [0, 86_400_000 * 20_000], "DATE", pa.date32()),
    (pa.time32("s"), [0, 86_399], "TIME", pa.time64("us")),
    (pa.time32("ms"), [1, 86_399_999], "TIME", pa.time64("us")),
    (pa.time64("us"), [1, 86_399_999_999], "TIME", None),
    (pa.time64("ns"), [1, 86_399_999_999_999], "TIME_NS", None),
    (pa.timestamp("s"), [-1, T0 // SECOND], "TIMESTAMP_S", UTC),
    (pa.timestamp("ms"), [-1, T0 // 1_000_000 + 7], "TIMESTAMP_MS", UTC),
    (pa.timestamp("us"), [-1, T0 // 1_000 + 7], "TIMESTAMP", UTC),
    (pa.timestamp("ns"), [0, -1, T0, T0 + 1, T0 + 123_456_789, BIG - 1, 2 - BIG], "TIMESTAMP_NS", UTC),
    (pa.timestamp("ns", "UTC"), [T0 + 1], "TIMESTAMP_NS", UTC),
    (pa.timestamp("us", "Europe/Berlin"), [T0 // 1_000], "TIMESTAMP", UTC),
    (pa.duration("s"), [-1, 5], "INTERVAL", pa.duration("ns")),
    (pa.duration("ms"), [-1, 5], "INTERVAL", pa.duration("ns")),
    (pa.duration("us"), [-1, 5_000_000_000], "INTERVAL", pa.duration("ns")),
    (pa.duration("ns"), [-1_000, 5_000], "INTERVAL", pa.duration("ns")),
    (pa.dictionary(pa.int8(), pa.string()), ["x"], "VARCHAR", pa.string()),
    (pa.dictionary(pa.int32(), pa.int64()), [BIG], "BIGINT", pa.int64()),
    (pa.list_(pa.int64()), [[], [1, None, 5_000_000_000]], "BIGINT[]", pa.list_(pa.field("l", pa.int64()))),
    (pa.large_list(pa.string()), [["a,b", "'", None, "NULL"]], "VARCHAR[]", pa.list_(pa.field("l", pa.string()))),
    (pa.list_(pa.timestamp("ns")), [[], [T0 + 1, None]], "TIMESTAMP_NS[]", pa.list_(pa.field("l", UTC))),
    (pa.list_(pa.int16(), 2), [[1, None]], "SMALLINT[2]", pa.list_(pa.field("", pa.int16()), 2)),
    (
        pa.struct([("key", pa.list_(pa.int64())), ('v"?{', pa.list_(pa.timestamp("ns")))]),
        [{"key": [1], 'v"?{': [T0 + 1]}, {"key": None, 'v"?{': []}],
        'STRUCT("key" BIGINT[], "v""?{" TIMESTAMP_NS[])',
        pa.struct([("key", pa.list_(pa.field("l", pa.int64()))), ('v"?{', pa.list_(pa.field("l", UTC)))]),
    ),
    (
        pa.map_(pa.string(), pa.struct([("a", pa.date32())])),
        [[], [("k", {"a": 5}), ("l", None)]],
        "MAP(VARCHAR, STRUCT(a DATE))",
        pa.map_(pa.string(), pa.struct([("a", pa.date32())])),
    ),
    (
        pa.list_(pa.list_(pa.decimal128(5, 1))),
        [[[Decimal("1.5")], None, []]],
        "DECIMAL(5,1)[][]",
        pa.list_(pa.field("l", pa.list_(pa.field("l", pa.decimal128(5, 1))))),
    ),
]


def plain(value: Any) -> Any:
    """Times as their numbers: Python's would lose digits."""
    if isinstance(value, pa.ListScalar | pa.LargeListScalar | pa.FixedSizeListScalar) and not isinstance(
        value, pa.MapScalar
    ):
        return None if not value.is_valid else [plain(item) for item in value.values]
    if isinstance(value, pa.MapScalar):
        return None if not value.is_valid else [(plain(e[0]), plain(e[1])) for e in value.values]
    if isinstance(value, pa.StructScalar):
        return None if not value.is_valid else {name: plain(value[name]) for name in value}
    if not value.is_valid:
        return None
    kind = value.type
    if pa.types.is_timestamp(kind) or pa.types.is_duration(kind):
        return value.value * {"s": SECOND, "ms": 1_000_000, "us": 1_000, "ns": 1}[kind.unit]
    if pa.types.is_time(kind):
        return value.value * {"s": SECOND, "ms": 1_000_000, "us": 1_000, "ns": 1}[kind.unit]
    if pa.types.is_date(kind):
        return value.value // 86_400_000 if pa.types.is_date64(kind) else value.value
    found = value.as_py()
    return float(found) if pa.types.is_float16(kind) else found


@pytest.mark.parametrize(("kind", "values", "sql", "result"), EXACT, ids=[str(case[0])[:40] for case in EXACT])
def test_every_value_of_a_type_binds_exactly_and_as_one_type(
    lake: EngineLake, kind: Any, values: list[Any], sql: str, result: Any
) -> None:
    schemas = set()
    for value in [*values, None]:
        column = pa.array([value], kind)
        parameters = row(column)

        table = lake.table("SELECT typeof($1) AS t, $1 AS v", parameters=parameters)
        announced = lake.engine.inspect("SELECT typeof($1) AS t, $1 AS v", parameters, CATALOG).schema

        assert table.column("t").to_pylist() == [sql]
        assert table.schema.field("v").type == (result or kind)
        assert plain(table.column("v")[0]) == plain(column[0])
        assert schema_of(announced) == table.schema
        schemas.add(announced)
    assert len(schemas) == 1


@pytest.mark.parametrize(
    ("column", "complaint"),
    [
        (pa.array([Decimal(1)], pa.decimal256(50, 2)), r"parameter 2 has the Arrow type decimal256\(50, 2\), but decimals"),
        (pa.array([Decimal(100)], pa.decimal128(3, -2)), "parameter 2 has the Arrow type decimal128"),
        (pa.UnionArray.from_dense(pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array([1])]),
         "parameter 2 has the Arrow type dense_union.*cannot be bound"),
        (pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"x" * 16], pa.binary(16))), "parameter 2 .*cannot be bound"),
        (pa.array([{}], pa.struct([])), "parameter 2 .*fields need different names"),
        (pa.array([5], pa.date64()), "parameter 2, date64.*no whole number of days"),
        (pa.array([5], pa.duration("ns")), "parameter 2, duration.*no whole number of microseconds"),
        (pa.array([pa.MonthDayNano([1, 2, 5])], MONTHS), "parameter 2, month_day_nano_interval.*microseconds"),
        (pa.array([BIG], pa.timestamp("ns")), "parameter 2, timestamp.*beyond the times"),
        (pa.array([BIG], pa.timestamp("s")), "parameter 2, timestamp.*beyond the times"),
        (pa.array([(1 << 31) - 1], pa.date32()), "parameter 2, date32.*beyond the days"),
        (pa.array([86_400], pa.time32("s")), "parameter 2, time32.*no time of a day"),
    ],
)  # fmt: skip
def test_what_cannot_be_bound_is_refused_by_number_and_type(lake: EngineLake, column: Any, complaint: str) -> None:
    parameters = row(pa.array([1]), column)

    for ask in (
        lambda: lake.engine.inspect("SELECT ?, ?", parameters, CATALOG),
        lambda: lake.table("SELECT ?, ?", parameters=parameters),
    ):
        with pytest.raises(QueryError, match=complaint) as refused:
            ask()
        assert not isinstance(refused.value, InternalError)


def test_no_arrow_type_ends_in_an_internal_error() -> None:
    nested = pa.int8()
    for _ in range(12):
        nested = pa.list_(nested)
    for kind in (
        nested,
        pa.run_end_encoded(pa.int32(), pa.string()),
        pa.list_(pa.run_end_encoded(pa.int32(), pa.int8())),
    ):
        try:
            check_bindable(pa.schema([("1", kind)]))
        except QueryError as error:
            assert str(error).startswith("parameter 1 has the Arrow type")
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([1], pa.int32()), pa.array([BIG]))
    assert [one.value for one in bound_values([runs])] == [BIG]


def test_types_of_arrow_that_are_one_type_of_sql_are_not_remembered_for_each_other(lake: EngineLake) -> None:
    """``$1`` is text of one statement, whichever of them was bound first."""
    moments = [
        (pa.array([pa.MonthDayNano([1, 2, 3_000])], MONTHS), "2026-02-03 00:00:00.000003"),
        (pa.array([5_000_000], pa.duration("us")), "2026-01-01 00:00:05"),
        (pa.array([5], pa.duration("s")), "2026-01-01 00:00:05"),
    ]
    for column, answer in [*moments, *reversed(moments)]:
        found = lake.table("SELECT CAST(TIMESTAMP '2026-01-01' + $1 AS VARCHAR) AS t", parameters=row(column))
        assert found.column("t").to_pylist() == [answer]

    kinds = [(kind, values[-1]) for kind, values, _, _ in EXACT]
    for kind, value in [*kinds, *reversed(kinds)]:
        column = pa.array([value], kind)
        found = lake.table("SELECT $1 AS v", parameters=row(column)).column("v")
        assert plain(found[0]) == plain(column[0]), kind


def test_an_interval_of_months_is_bound_as_one(lake: EngineLake) -> None:
    parameters = row(pa.array([pa.MonthDayNano([14, -2, 3_000])], MONTHS))

    assert lake.rows("SELECT CAST(? AS VARCHAR) AS v", parameters=parameters) == [
        {"v": "1 year 2 months -2 days 00:00:00.000003"}
    ]


@pytest.mark.parametrize(
    ("sql", "values"),
    [
        ("SELECT ? * 1000000 AS v", pa.array([5_000, 1, 5_000_000_000, None], pa.int64())),
        ("SELECT ? AS v", pa.array([1, 5_000_000_000])),
        ("SELECT ? AS v", pa.array([1, None])),
        ("SELECT ? AS v", pa.array(["a", None, "5"])),
        ("SELECT coalesce(level, ?) AS v FROM log_entries", pa.array(["1", None])),
        ("SELECT [?, 'x'] AS v, ? || 'x' AS w", None),
        ("SELECT count(*) FROM log_entries WHERE time > ?", pa.array(["2024-01-01", None])),
        ("SELECT ? AS v", pa.array([T0, T0 + 1, None], pa.timestamp("ns"))),
        ("SELECT date_trunc('hour', ?) AS v", pa.array([T0, T0 + 1, None], pa.timestamp("ns"))),
        ("SELECT ? + INTERVAL 1 DAY AS v", pa.array([T0, T0 + 1, None], pa.timestamp("ns"))),
    ],
)
def test_all_rows_of_bound_values_give_one_schema(lake: EngineLake, sql: str, values: Any) -> None:
    columns = [values] if values is not None else [pa.array(["a", None]), pa.array([None, "b"])]
    batch = row(*columns)

    schemas = {lake.engine.inspect(sql, batch.slice(n, 1), CATALOG).schema for n in range(batch.num_rows)}

    assert len(schemas) == 1


def test_a_number_that_fits_its_column_does_not_overflow_another_type(lake: EngineLake) -> None:
    assert lake.rows("SELECT ? * 1000000 AS v", parameters=row(pa.array([5_000], pa.int64()))) == [{"v": 5_000_000_000}]


@pytest.mark.parametrize(
    ("sql", "declared", "value"),
    [
        ("SELECT count(*) AS n FROM log_entries WHERE time > ? - INTERVAL 1 HOUR", UTC, pa.array([T0 + SECOND], UTC)),
        ("SELECT year(?) AS n", UTC, pa.array([T0], UTC)),
        ("SELECT epoch_ns(?) AS n", UTC, pa.array([T0 + 1], UTC)),
        ("SELECT count(*) AS n FROM log_entries WHERE time > now() - ?", pa.duration("us"), pa.array([5], pa.duration("us"))),
        ("SELECT abs(?) AS n", pa.int64(), pa.array([-5])),
        ("SELECT ? + ? AS n", pa.int64(), pa.array([5])),
        ("SELECT level + ? AS n FROM log_entries", pa.int64(), pa.array([5])),
        ("SELECT date_trunc('hour', ?) AS n", UTC, pa.array([T0], UTC)),
        ("SELECT strftime(?, '%Y') AS n", UTC, pa.array([T0], UTC)),
        ("SELECT to_days(?) AS n", pa.int64(), pa.array([5])),
        ("SELECT DATE '2024-01-01' + ? AS n", pa.int32(), pa.array([5], pa.int32())),
        ("SELECT sqrt(?) AS n", pa.float64(), pa.array([4.0])),
        ("SELECT n FROM (SELECT unnest(?) AS n)", pa.list_(pa.string()), pa.array([["a"]])),
        ("SELECT len(?) AS n", pa.string(), pa.array(["abc"])),
        ("SELECT count(*) AS n FROM log_entries LIMIT ?", pa.int64(), pa.array([1])),
    ],
)  # fmt: skip
def test_what_only_the_value_decides_is_left_open_and_then_does_as_declared(
    lake: EngineLake, sql: str, declared: Any, value: Any
) -> None:
    logs = lake.logs(lake.write(log_rows(3), "logs"))

    prepared = lake.engine.inspect(sql, None, CATALOG)
    types = schema_of(prepared.parameter_schema).types
    parameters = row(*[value] * len(types))
    bound = lake.engine.inspect(sql, parameters, CATALOG)

    assert set(types) == {declared}
    assert schema_of(prepared.schema) == schema_of(bound.schema) == lake.table(sql, logs, parameters=parameters).schema


def test_in_a_wide_statement_few_types_are_tried_and_the_value_decides(lake: EngineLake) -> None:
    """Each attempt binds the whole statement: a prepare of nine kilobytes took eight seconds."""
    logs = lake.logs(lake.write(log_rows(3), "logs"))
    wide = ", ".join(f"level + {number} AS c{number}" for number in range(500))
    sql = f"SELECT {wide}, count(*) OVER () AS n FROM log_entries WHERE time > now() - ?"

    assert schema_of(lake.engine.inspect(sql, None, CATALOG).parameter_schema).types == [pa.string()]
    bound = row(pa.array([5], pa.duration("us")))
    assert len(lake.table(sql, logs, parameters=bound, now_ns=T0).schema) == 501


@pytest.mark.parametrize(
    ("sql", "value"),
    [
        ("SELECT ?.a AS n", pa.array([{"a": 7}])),
        ("SELECT map_keys(?)[1] AS n", pa.array([[(7, 1)]], pa.map_(pa.int64(), pa.int64()))),
        ("SELECT from_json('7', ?) AS n", pa.array(['"INTEGER"'])),
    ],
)
def test_a_statement_of_which_only_values_tell_the_columns_is_prepared_all_the_same(
    lake: EngineLake, sql: str, value: Any
) -> None:
    prepared = lake.engine.inspect(sql, None, CATALOG)

    assert prepared.parameters == 1
    assert schema_of(prepared.parameter_schema).types == [pa.string()]
    assert lake.rows(sql, parameters=row(value)) == [{"n": 7}]


@pytest.mark.parametrize("sql", ["SELECT nope + ? FROM log_entries", "SELECT ? FROM log_entries GROUP BY nope"])
def test_a_mistake_that_no_value_mends_is_found_at_prepare(lake: EngineLake, sql: str) -> None:
    with pytest.raises(LakeflightError, match="nope"):
        lake.engine.inspect(sql, None, CATALOG)


def test_columns_keep_the_names_that_the_text_gives_them(lake: EngineLake) -> None:
    sql = "SELECT ?, level + $2, upper(msg), count(*), date_trunc('hour', max(time)), ? AS named FROM log_entries GROUP BY ALL"
    sql = sql.replace("?", "$1", 1).replace("?", "$3")
    parameters = row(pa.array([1]), pa.array([2]), pa.array(["x"]))

    assert schema_of(lake.engine.inspect(sql, parameters, CATALOG).schema).names == [
        "$1", '("level" + $2)', "upper(msg)", "count(*)", "date_trunc('hour', max(\"time\"))", "named",
    ]  # fmt: skip


def test_an_instance_may_be_bound_beside_typed_values(lake: EngineLake) -> None:
    parameters = row(pa.array([STREAM.upper()]), pa.array([T0], pa.timestamp("ns")), pa.array([3], pa.int8()))
    sql = "SELECT count(*) AS n FROM view_instance('thread_spans', ?) WHERE begin >= ? AND depth <= ?"

    [reference] = lake.engine.inspect(sql, parameters, CATALOG).references

    assert (reference.instance, reference.range.begin_ns) == (STREAM, T0)


@pytest.mark.parametrize(
    ("sql", "declared"),
    [
        ("SELECT ? * 2 AS v", pa.float64()),
        ("SELECT 1 + ? AS v", pa.float64()),
        ("SELECT ? / 2", pa.float64()),
        ("SELECT -?", pa.float64()),
        ("SELECT ? > 2 AS v", pa.float64()),
        ("SELECT 2 >= ?", pa.float64()),
        ("SELECT ? BETWEEN 1 AND 5", pa.float64()),
        ("SELECT ? IN (1, 2)", pa.float64()),
        ("SELECT count(*) FROM log_entries WHERE level > ? * 2", pa.float64()),
        ("SELECT count(*) FROM log_entries WHERE level = ?", pa.int64()),
        ("SELECT count(*) FROM log_entries WHERE level * 2 IN (?, 4)", pa.int64()),
        ("SELECT CAST(? AS BIGINT) AS v", pa.int64()),
        ("SELECT CAST(? AS INTEGER) + 1", pa.int64()),
        ("SELECT count(*) FROM range(?)", pa.int64()),
        ("SELECT count(*) FROM range(1 + ?)", pa.int64()),
        ("SELECT 1 LIMIT ?", pa.int64()),
    ],
)
def test_a_parameter_is_whole_only_if_a_column_a_cast_or_a_function_says_so(
    lake: EngineLake, sql: str, declared: Any
) -> None:
    assert schema_of(lake.engine.inspect(sql, None, CATALOG).parameter_schema).types == [declared]


def test_times_are_declared_in_milliseconds_for_a_client_that_writes_no_others(lake: EngineLake) -> None:
    sql = "SELECT count(*) FROM log_entries WHERE time BETWEEN ? AND CAST(? AS TIMESTAMP) AND level = ?"

    asked = lake.engine.inspect(sql, None, CATALOG, spelling=Spelling.MILLISECONDS)
    plain = lake.engine.inspect(sql, None, CATALOG)

    assert schema_of(asked.parameter_schema).types == [pa.timestamp("ms", "UTC"), pa.timestamp("ms", "UTC"), pa.int64()]
    assert schema_of(plain.parameter_schema).types == [pa.timestamp("ns", "UTC"), pa.timestamp("ns", "UTC"), pa.int64()]
