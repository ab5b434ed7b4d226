"""Views defined in SQL: parts of rows, made bucket by bucket, add up to what a statement over all rows would say."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeflight.wire.transit.writer import LogBlockBuilder, LogMetadata, MetricBlockBuilder, MetricMetadata
from lakehouse.errors import BackendUnavailableError
from lakehouse.sources import MergedSource, SourceRegistry
from tests.support.buckets import (
    LOG_STREAM_ID,
    METRICS_STREAM_ID,
    PROCESS_ID,
    START_TICKS,
    START_TIME_NS,
    Lake,
    add_block,
    made_up_lake,
)
from tests.support.fixtures import ROOT
from tests.support.rows import read_files
from tests.support.sizes import size
from views import sql_view
from views.log_stats import LOG_STATS
from views.sql_view import time_bin

MINUTE = 60_000_000_000
INT64_MAX = (1 << 63) - 1


def parts(lake: Lake, blocks: list[str] | None = None) -> pa.Table:
    job = lake.job(LOG_STATS, PROCESS_ID)
    if blocks is not None:
        chosen = [position for position, block in enumerate(job.blocks) if block.block_id in blocks]
        job = replace(
            job,
            blocks=tuple(job.blocks[n] for n in chosen),
            payload_keys=tuple(job.payload_keys[n] for n in chosen),
        )
    result = lake.build(LOG_STATS, job)
    return read_files([file.path for file in result.files], LOG_STATS.schema)


def merged(*tables: pa.Table) -> list[tuple[Any, ...]]:
    """The rows that a reader sees of these files: bin, level, target, count."""
    with duckdb.connect() as connection:
        connection.register("files", pa.concat_tables(tables))
        table = connection.sql(LOG_STATS.merged.format(rows="files")).to_arrow_table()
    assert table.schema.names == LOG_STATS.schema.names
    assert table.schema.types == LOG_STATS.schema.types
    bins = table.column("time_bin").cast(pa.int64()).to_pylist()
    return sorted(zip(bins, *(table.column(c).to_pylist() for c in ("level", "target", "count")), strict=True))


lines = st.lists(
    st.tuples(st.integers(-3 * MINUTE, 3 * MINUTE), st.integers(1, 6), st.sampled_from(["net", "", "ui"])), max_size=40
)


@given(lines=lines, chance=st.randoms(use_true_random=False), blocks=st.integers(1, 5), cut=st.integers(0, 5))
@settings(max_examples=size(40, 500), deadline=None)
def test_counts_are_those_of_the_lines_however_they_came(
    lines: list[tuple[int, int, str]],
    chance: random.Random,
    blocks: int,
    cut: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    lake = made_up_lake(tmp_path_factory.mktemp("stats"))
    builders = [LogBlockBuilder() for _ in range(blocks)]
    for tick, level, target in lines:
        chance.choice(builders).message(LogMetadata(target, level), START_TICKS + tick, "x")
    for builder in builders:
        add_block(lake, LOG_STREAM_ID, builder.finish(), begin_ticks=0, end_ticks=1)
    ids = list(lake.blocks)

    rows = merged(parts(lake, ids[:cut]), parts(lake, ids[cut:]))  # two deltas of a bucket, as files

    expected = Counter(((START_TIME_NS + tick) // MINUTE * MINUTE, level, target) for tick, level, target in lines)
    assert rows == sorted((*key, count) for key, count in expected.items())


def test_a_file_has_a_row_for_each_key_in_the_order_of_its_columns(tmp_path: Path) -> None:
    lake = made_up_lake(tmp_path)
    for _ in range(3):
        builder = LogBlockBuilder()
        for tick in (0, 1, 2 * MINUTE):
            builder.message(LogMetadata("net", 4), START_TICKS + tick, "x")
        add_block(lake, LOG_STREAM_ID, builder.finish(), begin_ticks=0, end_ticks=1)

    rows = parts(lake).to_pylist()

    assert [row["count"] for row in rows] == [6, 3]
    assert rows == sorted(rows, key=lambda row: row["time_bin"])


def test_parts_are_merged_before_they_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_view, "PARTS_MAX", 1)
    monkeypatch.setattr("views.columns.BATCH_ROWS", 4)
    lake = made_up_lake(tmp_path)
    for number in range(6):
        builder = LogBlockBuilder()
        for tick in range(4):
            builder.message(LogMetadata("net", 4), START_TICKS + tick * MINUTE, f"{number}")
        add_block(lake, LOG_STREAM_ID, builder.finish(), begin_ticks=0, end_ticks=1)

    assert [row["count"] for row in parts(lake).to_pylist()] == [6, 6, 6, 6]


def test_a_block_that_the_base_cannot_read_is_missing_here_too(tmp_path: Path) -> None:
    lake = made_up_lake(tmp_path)
    builder = LogBlockBuilder()
    builder.message(LogMetadata("net", 4), START_TICKS, "x")
    add_block(lake, LOG_STREAM_ID, builder.finish(), begin_ticks=0, end_ticks=1)
    bad = add_block(lake, LOG_STREAM_ID, b"junk", begin_ticks=0, end_ticks=1)

    result = lake.build(LOG_STATS, lake.job(LOG_STATS, PROCESS_ID))

    assert [block_id for block_id, _ in result.quarantined] == [bad.block_id]
    assert sum(file.rows for file in result.files) == 1


def test_trouble_of_the_store_stays_what_it_is(tmp_path: Path) -> None:
    lake = made_up_lake(tmp_path)
    block = add_block(lake, LOG_STREAM_ID, LogBlockBuilder().finish(), begin_ticks=0, end_ticks=1)
    lake.payload(block).unlink()

    with pytest.raises(BackendUnavailableError, match="cannot be read"):
        lake.build(LOG_STATS, lake.job(LOG_STATS, PROCESS_ID))


def test_a_process_that_logs_nothing_has_no_rows(tmp_path: Path) -> None:
    assert parts(made_up_lake(tmp_path)).num_rows == 0


@pytest.mark.parametrize("seconds", [1, 60, 3600, 86_400])
@pytest.mark.parametrize(
    "time_ns", [0, 1, -1, 59_999_999_600, 1_798_761_599_999_999_600, -MINUTE, -MINUTE - 1, -(1 << 62), (1 << 62) + 7]
)
def test_bins_are_exact_to_the_nanosecond(seconds: int, time_ns: int) -> None:
    width = seconds * 1_000_000_000

    assert _binned(time_ns, seconds) == time_ns // width * width


@pytest.mark.parametrize("time_ns", [INT64_MAX, -INT64_MAX, -INT64_MAX - 1, -INT64_MAX + 1])
def test_what_only_a_broken_clock_says_is_counted_where_it_is(time_ns: int) -> None:
    assert _binned(time_ns, 60) == time_ns


def test_the_version_of_a_view_follows_from_its_text_and_its_base() -> None:
    other = replace(LOG_STATS, select=LOG_STATS.select.replace("count(*)", "count(*) + 0"))

    assert 0 <= LOG_STATS.writer_version < 1 << 31
    assert other.writer_version != LOG_STATS.writer_version == replace(LOG_STATS).writer_version


def test_the_view_of_the_guide_is_made_by_what_the_guide_shows(tmp_path: Path) -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"All of such a module:\n\n```python\n(.*?)```", guide, re.DOTALL)
    module: dict[str, Any] = {}
    exec(compile(text, "measure_peaks.py", "exec"), module)
    view = module["PEAKS"]
    lake = made_up_lake(tmp_path)
    for values in ([3.0, -1.0], [7.0]):
        builder = MetricBlockBuilder()
        for value in values:
            builder.add_float(MetricMetadata("fps", "1/s"), START_TICKS, value)
        add_block(lake, METRICS_STREAM_ID, builder.finish(), begin_ticks=0, end_ticks=1)

    result = lake.build(view, lake.job(view, PROCESS_ID))

    (row,) = read_files([file.path for file in result.files], view.schema).to_pylist()
    assert (row["process_id"], row["name"], row["least"], row["most"]) == (PROCESS_ID, "fps", -1.0, 7.0)
    assert SourceRegistry([MergedSource(view)]).tables == ("measure_peaks",)


def _binned(time_ns: int, seconds: int) -> int:
    with duckdb.connect() as connection:
        connection.register("given", pa.table({"t": pa.array([time_ns], pa.int64()).view(pa.timestamp("ns"))}))
        found = connection.sql(f"SELECT {time_bin('t', seconds)} AS t FROM given").to_arrow_table()
    binned: int = found.column("t").cast(pa.int64())[0].as_py()
    return binned
