"""Files are merged into fewer with the same rows: exact values, in order where there is one, whatever is copied or written again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.buckets import merge_files as merging
from lakehouse.buckets.merge_files import merge_files, merge_sorted
from lakehouse.errors import InternalError
from lakehouse.jobs.merge import LocalMerge, MergeJob, MergeResult
from lakehouse.parquet import write_file
from lakehouse.parquet_groups import FooterError, GroupWriter, read_footer
from lakehouse.ports import KeepsParts
from lakehouse.storage.digests import file_digests
from tests.support.lake_rows import counted
from views import default_registry

TIME = pa.timestamp("ns")
PAIRS = pa.list_(
    pa.field(
        "property", pa.struct([pa.field("key", pa.string(), nullable=False), ("value", pa.string())]), nullable=False
    )
)
ALL_TYPES = pa.schema(
    [
        pa.field("begin", TIME, nullable=False),
        pa.field("end", TIME, nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("note", pa.string()),
        pa.field("value", pa.float64()),
        pa.field("line", pa.uint32(), nullable=False),
        pa.field("level", pa.int32()),
        pa.field("id", pa.int64()),
        pa.field("flag", pa.bool_()),
        pa.field("data", pa.binary()),
        pa.field("trace", pa.binary(4)),
        pa.field("pairs", PAIRS),
    ]
)


@dataclass(frozen=True)
class Shape:
    """As much of a view as merging asks for."""

    schema: pa.Schema
    sorted_by: tuple[str, ...] = ()
    begin_column: str = "begin"
    end_column: str = "end"
    view_set: str = "made_up"


def merged(view: Any, paths: Sequence[Path], folder: Path, *, bytes_max: int = 1 << 30, sha: Any = None) -> MergeResult:
    output = folder / "out"
    output.mkdir()
    digests = tuple(sha or (file_digests(path).sha256 for path in paths))
    job = MergeJob(view.view_set, tuple(path.name for path in paths), digests, bytes_max)
    return merge_files(view, LocalMerge(job, tuple(paths), output))


def read(result: MergeResult) -> list[pa.Table]:
    return [pq.read_table(file.path) for file in result.files]


TEXTS = st.sampled_from(["", "a", "b", "ä€\U0001f600", "x" * 40]) | st.text(max_size=5)
INT64S = st.integers(-(1 << 63), (1 << 63) - 1)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    TIME: st.integers(-50, 50) | INT64S,
    pa.string(): TEXTS,
    pa.float64(): st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 1e-320]) | st.floats(),
    pa.uint32(): st.integers(0, (1 << 32) - 1),
    pa.int32(): st.integers(-(1 << 31), (1 << 31) - 1),
    pa.int64(): INT64S,
    pa.bool_(): st.booleans(),
    pa.binary(): st.binary(max_size=6),
    pa.binary(4): st.binary(min_size=4, max_size=4),
    pa.binary(8): st.binary(min_size=8, max_size=8),
    pa.binary(16): st.binary(min_size=16, max_size=16),
    PAIRS: st.lists(st.fixed_dictionaries({"key": TEXTS, "value": st.none() | TEXTS}), max_size=2),
}


@st.composite
def batches(draw: st.DrawFn, schema: pa.Schema, sorted_by: Sequence[str]) -> list[pa.RecordBatch]:
    """What a file is written of: in order, if it is; each text column in a dictionary in all of its batches, or in none."""
    encoded = {field.name for field in schema if field.type == pa.string() and draw(st.booleans())}
    rows = draw(st.lists(st.tuples(*map(_value, schema)), min_size=1, max_size=12))
    if sorted_by:
        places = [schema.get_field_index(name) for name in sorted_by]
        rows.sort(key=lambda row: tuple(row[place] for place in places))
    cuts = sorted({0, len(rows), *draw(st.lists(st.integers(0, len(rows)), max_size=3))})
    return [_batch(schema, rows[begin:end], encoded) for begin, end in pairwise(cuts)]


def _value(field: pa.Field) -> st.SearchStrategy[Any]:
    return st.none() | VALUES[field.type] if field.nullable else VALUES[field.type]


def _batch(schema: pa.Schema, rows: Sequence[tuple[Any, ...]], encoded: set[str]) -> pa.RecordBatch:
    columns = []
    for field, values in zip(schema, zip(*rows, strict=True), strict=True):
        array = pa.array(values, pa.int64()).view(TIME) if field.type == TIME else pa.array(values, field.type)
        columns.append(array.dictionary_encode() if field.name in encoded else array)
    typed = pa.schema([field.with_type(column.type) for field, column in zip(schema, columns, strict=True)])
    return pa.RecordBatch.from_arrays(columns, schema=typed)


SHAPES = [
    Shape(ALL_TYPES),
    Shape(ALL_TYPES, ("begin",)),
    Shape(ALL_TYPES, ("begin", "name")),
    *(view for view in default_registry().views if not isinstance(view, KeepsParts)),
]


@pytest.mark.parametrize("view", SHAPES, ids=lambda view: f"{view.view_set}-{'-'.join(view.sorted_by)}")
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_merging_is_what_putting_the_rows_together_and_sorting_them_is(
    tmp_path_factory: pytest.TempPathFactory, view: Any, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("merge")
    written = data.draw(st.lists(batches(view.schema, view.sorted_by), min_size=1, max_size=5))
    paths = [folder / f"{number}.parquet" for number in range(len(written))]
    for path, of_it in zip(paths, written, strict=True):
        write_file(path, view.schema, of_it, view.begin_column, view.end_column)
    before = [pq.read_table(path) for path in paths]
    bytes_max = data.draw(st.sampled_from([1, 6_000, 1 << 30]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merging, "COPIED_ROWS_MIN", data.draw(st.sampled_from([1, 3, 100])))
        patch.setattr(merging, "COPIED_BYTES_MIN", 1 << 30)
        patch.setattr(merging, "READ_ROWS", data.draw(st.sampled_from([1, 2, 100])))
        result = merged(view, paths, folder, bytes_max=bytes_max)

    after = read(result)
    assert counted(after) == counted(before)
    assert all(table.schema.equals(view.schema) for table in after)
    assert result.is_sorted == bool(view.sorted_by)
    if view.sorted_by:
        keys = pa.concat_tables(after).select(list(view.sorted_by))
        assert keys.equals(keys.sort_by([(name, "ascending") for name in view.sorted_by]))
    for file, table in zip(result.files, after, strict=True):
        bounds = [
            value
            for name in (view.begin_column, view.end_column)
            for value in pa.chunked_array([c.view(pa.int64()) for c in table.column(name).chunks]).to_pylist()
        ]
        assert (file.rows, file.min_event_ns, file.max_event_ns) == (table.num_rows, min(bounds), max(bounds))
        assert (file.sha256, file.tail_digest) == file_digests(file.path)
        groups = read_footer(file.path).groups
        assert len(groups) == 1 or sum(group.size_bytes for group in groups) < bytes_max
        with duckdb.connect() as engine:
            assert engine.execute(f"SELECT count(*) FROM '{file.path}'").fetchall() == [(table.num_rows,)]


def _rows(begins: Sequence[int], name: str = "n") -> pa.RecordBatch:
    schema = pa.schema([ALL_TYPES.field(column) for column in ("begin", "end", "name")])
    return _batch(schema, [(begin, begin + 1, name) for begin in begins], set())


def _files(folder: Path, *contents: Sequence[int]) -> tuple[Shape, list[Path]]:
    view = Shape(pa.schema([ALL_TYPES.field(column) for column in ("begin", "end", "name")]), ("begin",))
    paths = []
    for number, begins in enumerate(contents):
        path = folder / f"{number}.parquet"
        write_file(path, view.schema, [_rows(begins, f"of {number}")], "begin", "end")
        paths.append(path)
    return view, paths


def test_rows_that_are_not_in_their_view_s_order_are_merged_without_a_promise(tmp_path: Path) -> None:
    view, paths = _files(tmp_path, [5, 3], [1, 2])

    result = merged(view, paths, tmp_path)

    assert not result.is_sorted
    assert counted(read(result)) == counted([pq.read_table(path) for path in paths])


def test_equal_rows_stay_in_the_order_of_their_files(tmp_path: Path) -> None:
    streams = [[_rows([1, 1], "a"), _rows([1, 2], "a")], [_rows([1], "b"), _rows([1, 2], "b")], [_rows([0, 1], "c")]]

    found = pa.Table.from_batches(list(merge_sorted([iter(stream) for stream in streams], ["begin"])))

    assert found.column("name").to_pylist() == [*"caaabbcab"]


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_file_that_is_not_what_was_written_is_named_and_nothing_is_made(tmp_path: Path, is_gone: bool) -> None:
    """One that is gone as well: a reader that finds a copy damaged takes it away from everybody."""
    view, paths = _files(tmp_path, [1, 2], [3, 4])
    digests = [file_digests(path).sha256 for path in paths]
    content = bytearray(paths[1].read_bytes())
    content[6] ^= 0xFF
    paths[1].write_bytes(content)
    if is_gone:
        paths[1].unlink()

    result = merged(view, paths, tmp_path, sha=digests)

    assert (result.files, result.damaged) == ((), ("1.parquet",))
    assert list((tmp_path / "out").iterdir()) == []


def test_large_row_groups_are_copied_and_small_ones_become_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "COPIED_ROWS_MIN", 50)
    view, paths = _files(tmp_path, range(100), *([200 + number] for number in range(40)), range(300, 400))

    result = merged(view, paths, tmp_path)

    described = pq.ParquetFile(result.files[0].path).metadata
    assert [described.row_group(number).num_rows for number in range(described.num_row_groups)] == [100, 40, 100]
    was = pq.ParquetFile(paths[-1]).metadata.row_group(0)
    for place, column in enumerate(view.schema.names):
        copy, original = described.row_group(2).column(place), was.column(place)
        assert copy.statistics.null_count == original.statistics.null_count, column
        assert (copy.encodings, copy.compression) == (original.encodings, original.compression)


def test_files_of_another_schema_than_the_view_s_are_refused(tmp_path: Path) -> None:
    view, paths = _files(tmp_path, [1, 2], [3, 4])
    write_file(paths[1], Shape(ALL_TYPES).schema, [_everything()], "begin", "end")

    with pytest.raises(InternalError, match="differ in type"):
        merged(view, paths, tmp_path)


def _everything() -> pa.RecordBatch:
    row: tuple[Any, ...] = (1, 2, "n", None, math.nan, 1, None, None, True, b"", b"abcd", [])
    return _batch(ALL_TYPES, [row], set())


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1PAR1", b"PAR1" + b"\xff" * 40 + b"\x28\0\0\0PAR1"])
def test_what_is_no_parquet_file_is_no_source_of_groups(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "f"
    path.write_bytes(content)

    with pytest.raises(FooterError):
        read_footer(path)


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_a_footer_with_any_byte_changed_is_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Never another error, and never for long."""
    path = tmp_path_factory.mktemp("footer") / "f"
    write_file(path, ALL_TYPES, [_everything()], "begin", "end")
    content = bytearray(path.read_bytes())
    length = int.from_bytes(content[-8:-4], "little")
    place = data.draw(st.integers(len(content) - 8 - length, len(content) - 9))
    content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)

    try:
        footer = read_footer(path)
    except FooterError:
        return
    writer = GroupWriter(path.with_name("g"), footer)
    writer.close()
