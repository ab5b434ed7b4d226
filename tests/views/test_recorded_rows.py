"""Every recorded native process gives the rows that the original gave, from the bodies of its requests alone."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.jobs.build import BuildJob, BuildResult
from lakehouse.model import GLOBAL_INSTANCE
from lakehouse.ports import View
from tests.support.buckets import Lake
from tests.support.fixtures import Case, native_cases, shared_folder
from tests.support.rows import read_files, rows_of
from views.async_events import AsyncEvents
from views.images import Images
from views.log_entries import LogEntries
from views.measures import Measures
from views.net_spans import NetSpans
from views.thread_spans import ThreadSpans

CASES = native_cases()
PROPERTIES = ("properties", "process_properties")
pytestmark = pytest.mark.skipif(not CASES, reason="no recorded telemetry here")


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture
def lake(case: Case, tmp_path: Path) -> Lake:
    return Lake(tmp_path).send(case.requests)


def build(view: View, lake: Lake, instance: str) -> tuple[BuildJob, BuildResult, pa.Table]:
    job = lake.job(view, instance)
    result = lake.build(view, job)
    table = read_files([file.path for file in result.files], view.schema)
    assert table.num_rows == sum(file.rows for file in result.files)
    return job, result, table


def expected_table(case: Case, query: str, schema: pa.Schema) -> pa.Table:
    path = case.folder / "expected" / f"{query}.parquet"
    return pq.read_table(path) if path.exists() else schema.empty_table()


OF_A_PROCESS = (LogEntries(), Measures(), AsyncEvents(), NetSpans(), Images())


@pytest.mark.parametrize("view", OF_A_PROCESS, ids=lambda view: view.view_set)
def test_rows_of_a_process_are_the_recorded_ones(view: View, case: Case, lake: Lake) -> None:
    _, result, table = build(view, lake, case.process_id)
    expected = expected_table(case, view.view_set, view.schema)
    comparable = [name for name in view.schema.names if name != "insert_time"]

    assert table.num_rows == case.description["queries"][view.view_set]["rows"]
    assert rows_of(table, comparable, PROPERTIES) == rows_of(expected, comparable, PROPERTIES)
    assert result.quarantined == ()


def test_all_processes_together_hold_the_same_log_lines(case: Case, lake: Lake) -> None:
    _, _, table = build(LogEntries(), lake, GLOBAL_INSTANCE)
    columns = ["process_id", "time", "target", "level", "msg"]

    assert rows_of(table, columns) == rows_of(expected_table(case, "log_entries_global", table.schema), columns)


def test_spans_of_every_thread_are_the_recorded_ones(case: Case, lake: Lake) -> None:
    view = ThreadSpans()
    streams = [name.removeprefix("thread_spans_") for name in case.description["queries"] if "thread_spans_" in name]
    for stream in streams:
        _, result, table = build(view, lake, stream)
        expected = expected_table(case, f"thread_spans_{stream}", view.schema)

        assert rows_of(table, view.schema.names) == rows_of(expected, view.schema.names)
        assert result.quarantined == ()
        assert result.repaired_events == 0
        begins = table.column("begin").cast(pa.int64()).to_pylist()
        assert begins == sorted(begins)


def test_files_say_what_they_hold(case: Case, lake: Lake) -> None:
    for view in OF_A_PROCESS:
        _, result, table = build(view, lake, case.process_id)
        for file in result.files:
            written = pq.read_table(file.path, columns=[view.begin_column, view.end_column])
            times = [time for column in written.columns for time in column.cast(pa.int64()).to_pylist()]
            assert (file.min_event_ns, file.max_event_ns) == (min(times), max(times))
            assert file.size_bytes == file.path.stat().st_size
        assert table.schema.names == view.schema.names


def test_the_large_process_has_the_recorded_counts_and_sums(tmp_path: Path) -> None:
    case = Case(shared_folder("fixtures/native-large"))
    lake = Lake(tmp_path).send(case.requests)
    recorded = json.loads((case.folder / "expected.json").read_text())["streams"]
    for stream, by_name in recorded.items():
        _, _, table = build(ThreadSpans(), lake, stream)

        found = table.group_by("name").aggregate(
            [("id", "count"), ("duration", "sum"), ("duration", "min"), ("duration", "max"), ("depth", "sum")]
        )
        rows = {tuple(row.values()) for row in found.to_pylist()}
        keys = ("name", "count", "total_ns", "min_ns", "max_ns", "sum_depth")
        assert rows == {tuple(row[key] for key in keys) for row in by_name}
