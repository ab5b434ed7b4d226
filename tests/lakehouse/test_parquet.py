"""Files hold what they were given, say what they hold, and let a reader skip what it does not need."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.parquet import ROW_GROUP_ROWS_MAX, write_file

SCHEMA = pa.schema(
    [
        pa.field("begin", pa.timestamp("ns"), nullable=False),
        pa.field("end", pa.timestamp("ns"), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("msg", pa.string(), nullable=False),
        pa.field("depth", pa.uint32(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("note", pa.string()),
    ]
)


def batch_of(begins: list[int], name: str = "n") -> pa.RecordBatch:
    n = len(begins)
    arrays = [
        pa.array(begins, pa.timestamp("ns")),
        pa.array([b + 7 for b in begins], pa.timestamp("ns")),
        pa.array([f"{name}{i % 3}" for i in range(n)]).dictionary_encode(),
        pa.array([f"message {i}" for i in range(n)]),
        pa.array([i % 5 for i in range(n)], pa.uint32()),
        pa.array([i / 3 for i in range(n)]),
        pa.array([None if i % 2 else "odd" for i in range(n)], pa.string()),
    ]
    fields = [f.with_type(a.type) for f, a in zip(SCHEMA, arrays, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def test_a_file_reads_back_as_the_declared_schema_without_traces_of_arrow(tmp_path: Path) -> None:
    batches = [batch_of([5, 3, 4]), batch_of([1, 9], "other")]

    summary = write_file(tmp_path / "f", SCHEMA, batches, "begin", "end")
    table = pq.read_table(tmp_path / "f")

    assert table.schema.equals(SCHEMA)
    assert pq.ParquetFile(tmp_path / "f").metadata.metadata is None
    assert table.column("name").to_pylist() == ["n0", "n1", "n2", "other0", "other1"]
    assert table.column("begin").cast(pa.int64()).to_pylist() == [5, 3, 4, 1, 9]
    assert (summary.rows, summary.size_bytes) == (5, (tmp_path / "f").stat().st_size)
    assert (summary.min_event_ns, summary.max_event_ns, summary.max_sort_key_ns) == (1, 16, 9)


def test_duckdb_reads_times_as_nanoseconds_without_a_zone(tmp_path: Path) -> None:
    write_file(tmp_path / "f", SCHEMA, [batch_of([1_700_000_000_123_456_789])], "begin", "end")

    described = duckdb.execute(f"DESCRIBE FROM read_parquet('{tmp_path}/f')").fetchall()
    (text,) = duckdb.execute(f"SELECT begin::VARCHAR FROM read_parquet('{tmp_path}/f')").fetchall()[0]

    assert [row[1] for row in described] == [
        "TIMESTAMP_NS", "TIMESTAMP_NS", "VARCHAR", "VARCHAR", "UINTEGER", "DOUBLE", "VARCHAR",
    ]  # fmt: skip
    assert text == "2023-11-14 22:13:20.123456789"


def test_row_groups_are_even_and_carry_bounds_that_readers_can_skip_by(tmp_path: Path) -> None:
    rows = 2 * ROW_GROUP_ROWS_MAX + 10
    write_file(tmp_path / "f", SCHEMA, [batch_of(list(range(rows)))], "begin", "end")
    metadata = pq.ParquetFile(tmp_path / "f").metadata
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]

    assert len(groups) == 3
    assert max(g.num_rows for g in groups) - min(g.num_rows for g in groups) <= 3
    for number, field in enumerate(SCHEMA):
        # NaN has no place in a least and a greatest value: floats carry none.
        bounded = not pa.types.is_floating(field.type)
        assert all((g.column(number).statistics is not None) == bounded for g in groups)
    begins = [g.column(0).statistics for g in groups]
    assert all(a.max_raw < b.min_raw for a, b in pairwise(begins))

    query = f"SELECT sum(depth) FROM read_parquet('{tmp_path}/f') WHERE begin >= make_timestamp_ns({rows - 5})"
    ((_, plan),) = duckdb.execute(f"EXPLAIN (ANALYZE, FORMAT json) {query}").fetchall()
    measured = json.loads(plan)["query"]
    assert (measured["total_row_groups_scanned"], measured["total_row_groups_to_scan"]) == (1, 3)


def test_a_dictionary_that_is_longer_than_its_rows_is_not_stored(tmp_path: Path) -> None:
    values = [f"value {i:050}" for i in range(50_000)]
    codes = pa.array([49_999] * 10, pa.int32())
    batch = batch_of(list(range(10)))
    name = pa.DictionaryArray.from_arrays(codes, pa.array(values))
    batch = batch.set_column(2, batch.schema.field(2), name)

    summary = write_file(tmp_path / "f", SCHEMA, [batch], "begin", "end")

    assert summary.size_bytes < 20_000
    assert set(pq.read_table(tmp_path / "f").column("name").to_pylist()) == {values[-1]}


def test_what_does_not_follow_the_schema_is_refused(tmp_path: Path) -> None:
    good = batch_of([1])
    nulls = good.set_column(3, good.schema.field(3), pa.array([None], pa.string()))
    narrow = good.set_column(4, pa.field("depth", pa.int8(), nullable=False), pa.array([1], pa.int8()))
    plain = good.set_column(2, pa.field("name", pa.string(), nullable=False), pa.array(["a"]))

    for batches, reason in (
        ([], "needs rows"),
        ([good.slice(0, 0)], "needs rows"),
        ([nulls], "nulls"),
        ([narrow], "depth is int8"),
        ([good, plain], "differ"),
    ):
        with pytest.raises(ValueError, match=reason):
            write_file(tmp_path / "f", SCHEMA, batches, "begin", "end")


@given(
    parts=st.lists(st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=20), min_size=1, max_size=4),
)
@settings(max_examples=40, deadline=None)
def test_bounds_are_the_true_ones(parts: list[list[int]], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("bounds") / "f"
    begins = [begin for part in parts for begin in part]

    summary = write_file(path, SCHEMA, [batch_of(part) for part in parts], "begin", "end")

    assert summary.min_event_ns == min(begins)
    assert summary.max_event_ns == max(begins) + 7
    assert summary.max_sort_key_ns == max(begins)
    assert pq.read_table(path).column("begin").cast(pa.int64()).to_pylist() == begins
