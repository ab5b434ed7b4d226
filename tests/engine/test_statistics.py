"""What a file says about its values saves reading them and never changes an answer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse.engine import DeclaredRelation, EngineCatalog, Relation
from lakehouse.engine.engine import QueryEngine
from lakehouse.parquet import write_file
from tests.support.sizes import size

_SCHEMA: Final = pa.schema([("time", pa.timestamp("ns")), ("value", pa.float64())])
_CATALOG: Final = EngineCatalog({"measures": DeclaredRelation(_SCHEMA, "time", "time", ordered=True)}, {})
_NUMBERS: Final = st.one_of(
    st.none(), st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, 5e-324]), st.floats(allow_nan=True, width=64)
)
_CONDITIONS: Final = st.sampled_from(
    [
        *("{v} > {x}", "{v} >= {x}", "{v} < {x}", "{v} <= {x}", "{v} = {x}", "{v} <> {x}", "{v} BETWEEN {x} AND {y}"),
        *("isnan({v})", "NOT isnan({v})", "isinf({v})", "{v} IN ({x}, {y})", "{v} IS NOT DISTINCT FROM {x}"),
        "{v} IS NULL",
    ]
)
# `+ 0` makes 0.0 of -0.0: they are equal, so which of them is the least depends on the order of rows; so do signs of nan.
_ANSWER: Final = (
    "SELECT count(*), count(value), replace(CAST(max(value) + 0 AS VARCHAR), '-nan', 'nan'),"
    " replace(CAST(min(value) + 0 AS VARCHAR), '-nan', 'nan') FROM measures"
)


@pytest.fixture(scope="module")
def engine() -> Iterator[QueryEngine]:
    engine = QueryEngine()
    yield engine
    engine.close()


def _batch(values: list[float | None]) -> pa.RecordBatch:
    return pa.record_batch([pa.array(range(len(values)), pa.timestamp("ns")), pa.array(values, pa.float64())], _SCHEMA)


def _literal(value: float | None) -> str:
    return "NULL::DOUBLE" if value is None else f"'{value!r}'::DOUBLE"


def _from_file(engine: QueryEngine, sql: str, batches: list[pa.RecordBatch], path: Path) -> list[Any]:
    write_file(path, _SCHEMA, batches, "time", "time")
    relation = Relation("measures", _SCHEMA, (str(path),), "time", "time")
    with engine.run(sql, (), [relation], catalog=_CATALOG, identity=str(path)) as reader:
        return [tuple(row.values()) for batch in reader for row in batch.to_pylist()]


def _from_memory(sql: str, batches: list[pa.RecordBatch]) -> list[Any]:
    with duckdb.connect() as connection:
        connection.register("measures", pa.Table.from_batches(batches))
        return connection.execute(sql).fetchall()


@pytest.mark.parametrize(
    ("condition", "rows"), [("value > 5", 1), ("isnan(value)", 1), ("value = 'nan'", 1), ("value < 5", 2), ("true", 3)]
)
def test_a_value_that_is_no_number_is_found(engine: QueryEngine, tmp_path: Path, condition: str, rows: int) -> None:
    sql = f"SELECT count(*) FROM measures WHERE {condition}"

    assert _from_file(engine, sql, [_batch([1.0, 2.0, math.nan])], tmp_path / "f") == [(rows,)]


def test_the_greatest_value_may_be_no_number(engine: QueryEngine, tmp_path: Path) -> None:
    [(greatest,)] = _from_file(
        QueryEngine(), "SELECT max(value) FROM measures", [_batch([1.0, math.nan])], tmp_path / "f"
    )

    assert math.isnan(greatest)


@settings(
    max_examples=size(25, 500),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    groups=st.lists(st.lists(_NUMBERS, min_size=1, max_size=8), min_size=1, max_size=4),
    condition=_CONDITIONS,
    x=_NUMBERS,
    y=_NUMBERS,
)
def test_files_answer_as_memory_does(
    engine: QueryEngine,
    tmp_path_factory: pytest.TempPathFactory,
    groups: list[list[float | None]],
    condition: str,
    x: float,
    y: float,
) -> None:
    where = condition.format(v="value", x=_literal(x), y=_literal(y))
    batches = [_batch(values) for values in groups]
    folder = tmp_path_factory.mktemp("file")

    for number, sql in enumerate((f"{_ANSWER} WHERE {where}", _ANSWER)):
        assert _from_file(engine, sql, batches, folder / f"{number}") == _from_memory(sql, batches)
