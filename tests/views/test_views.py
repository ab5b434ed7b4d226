"""What views do with blocks that nobody recorded: many small ones, bad ones, unknown clocks, gaps, crossing spans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakeflight.wire.transit.columns import Codes
from lakeflight.wire.transit.spans import scope_hash
from lakeflight.wire.transit.writer import (
    EncodedBlock,
    LogBlockBuilder,
    LogMetadata,
    MetricBlockBuilder,
    MetricMetadata,
    NamedSpan,
    SpanBlockBuilder,
    SpanLocation,
    SpanMetadata,
)
from lakehouse.jobs.build import BuildResult
from lakehouse.model import Block, BlockId, ProcessId, Stream, StreamId, thread_name
from lakehouse.ports import View
from tests.support.buckets import (
    LOG_STREAM_ID,
    METRICS_STREAM_ID,
    PROCESS_ID,
    SPANS_STREAM_ID,
    START_TICKS,
    START_TIME_NS,
    Lake,
    add_block,
    made_up_lake,
)
from tests.support.rows import read_files
from views import columns
from views.columns import BATCH_ROWS
from views.log_entries import LogEntries
from views.measures import Measures
from views.span_rows import CHAIN_OBJECTS_MAX, chains
from views.thread_spans import ThreadSpans

INFO = LogMetadata("game", 4, "static text")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return made_up_lake(tmp_path)


def build(view: View, lake: Lake, instance: str = PROCESS_ID) -> tuple[BuildResult, pa.Table]:
    result = lake.build(view, lake.job(view, instance))
    return result, read_files([file.path for file in result.files], view.schema)


def log_block(lines: list[tuple[int, str]]) -> EncodedBlock:
    builder = LogBlockBuilder()
    for tick, message in lines:
        builder.message(INFO, START_TICKS + tick, message)
    return builder.finish()


def span_block(events: str, first_tick: int = 0) -> EncodedBlock:
    """``+a -a``: begins and ends, one tick apart."""
    builder = SpanBlockBuilder()
    for tick, event in enumerate(events.split(), START_TICKS + first_tick):
        scope = SpanMetadata(event[1:], "target", file="f.rs", line=3)
        (builder.begin if event[0] == "+" else builder.end)(scope, tick)
    return builder.finish()


def spans(table: pa.Table) -> list[tuple[str, int, int, int]]:
    """Name, depth, begin and end since the process started."""
    begin, end = ((np.array(table.column(c).cast(pa.int64())) - START_TIME_NS).tolist() for c in ("begin", "end"))
    return list(zip(table.column("name").to_pylist(), table.column("depth").to_pylist(), begin, end, strict=True))


def test_many_small_blocks_share_row_groups(lake: Lake) -> None:
    for i in range(300):
        lines = [(i * 10 + k, f"line {i} {k}") for k in range(10)]
        add_block(lake, LOG_STREAM_ID, log_block(lines), begin_ticks=i * 10, end_ticks=i * 10 + 10)

    result, table = build(LogEntries(), lake)

    assert len(result.files) == 1
    assert pq.ParquetFile(result.files[0].path).metadata.num_row_groups == 1
    assert table.column("msg").to_pylist() == [f"line {i} {k}" for i in range(300) for k in range(10)]
    assert table.column("block_id").to_pylist() == [block_id for block_id in lake.blocks for _ in range(10)]
    assert set(table.column("process_properties").to_pylist()) == {'{"build":"nightly","version":"7"}'}


def test_batches_are_as_large_as_a_row_group_and_hardly_larger(lake: Lake) -> None:
    n = BATCH_ROWS // 3
    builder = LogBlockBuilder()
    text = b"x" * n
    builder.extend([INFO], np.zeros(n, np.int64), np.arange(n) + START_TICKS, text, np.arange(n + 1))
    for i in range(7):
        add_block(lake, LOG_STREAM_ID, builder.finish(), begin_ticks=i, end_ticks=n)

    result, _ = build(LogEntries(), lake)

    metadata = pq.ParquetFile(result.files[0].path).metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [3 * n, 3 * n, n]


def test_a_text_that_was_there_before_makes_no_batch_fuller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "BATCH_TEXT_BYTES_MAX", 1000)
    rows = columns.RowCollector(pa.schema([columns.text_field("text")]))

    def add(number: int) -> list[pa.RecordBatch]:
        return list(rows.add(2, {"text": Codes(np.array([0, 1], np.int32), ["x" * 500, f"{number}"])}))

    assert [batch for number in range(100) for batch in add(number)] == []
    (batch,) = rows.finish()
    assert batch["text"].to_pylist() == [text for number in range(100) for text in ("x" * 500, f"{number}")]


@pytest.mark.parametrize("view", [LogEntries(), Measures(), ThreadSpans()], ids=lambda view: view.view_set)
def test_a_bad_block_is_left_out_and_the_others_stay(view: View, lake: Lake) -> None:
    good = {
        "log_entries": log_block([(5, "good")]),
        "measures": _one_metric(),
        "thread_spans": span_block("+a -a", first_tick=5),
    }[view.view_set]
    stream = {"log_entries": LOG_STREAM_ID, "measures": METRICS_STREAM_ID, "thread_spans": SPANS_STREAM_ID}[
        view.view_set
    ]
    cut = EncodedBlock(good.dependencies, good.objects[:-1], good.nb_objects)
    orphan = EncodedBlock(b"", good.objects, good.nb_objects)
    add_block(lake, stream, good, begin_ticks=0, end_ticks=100)
    bad = [add_block(lake, stream, b, begin_ticks=0, end_ticks=100) for b in (b"", b"\xa0", b"junk", cut, orphan)]

    result, table = build(view, lake, stream if view.view_set == "thread_spans" else PROCESS_ID)

    assert table.num_rows == (2 if view.view_set == "thread_spans" else 1)
    assert [block_id for block_id, _ in result.quarantined] == [block.block_id for block in bad]
    assert all(reason and "decoder failed" not in reason for _, reason in result.quarantined)


def test_a_stream_of_another_format_is_not_read_in_silence(lake: Lake) -> None:
    block = add_block(lake, LOG_STREAM_ID, log_block([(1, "a")]), begin_ticks=0, end_ticks=1)
    known = lake.streams[LOG_STREAM_ID]
    lake.streams[LOG_STREAM_ID] = Stream(
        known.stream_id, known.process_id, b"", b"", known.tags, {}, "otlp/v9/smells", known.insert_time_ns
    )

    result, table = build(LogEntries(), lake)

    assert table.num_rows == 0
    assert result.quarantined == ((block.block_id, "this view does not read the format otlp/v9/smells"),)


def _one_metric() -> EncodedBlock:
    builder = MetricBlockBuilder()
    builder.add_float(MetricMetadata("fps", "1/s"), START_TICKS + 5, 60.0)
    return builder.finish()


def test_whole_ticks_become_seconds_and_nothing_else_does(tmp_path: Path) -> None:
    lake = made_up_lake(tmp_path, frequency=3_000_000)
    builder = MetricBlockBuilder()
    builder.add_integer(MetricMetadata("frame", "ticks"), START_TICKS, 50_001)
    builder.add_integer(MetricMetadata("count", "none"), START_TICKS, 2**64 - 1)
    builder.add_float(MetricMetadata("mean", "ticks"), START_TICKS, 2.5)
    builder.add_float(MetricMetadata("wait", "seconds"), START_TICKS, 3.5)
    add_block(lake, METRICS_STREAM_ID, builder.finish(), begin_ticks=0, end_ticks=1)

    _, table = build(Measures(), lake)

    rows = zip(*(table.column(c).to_pylist() for c in ("name", "unit", "value")), strict=True)
    assert list(rows) == [
        ("frame", "seconds", 50_001.0 * (1000.0 / 3e6) / 1000.0),
        ("count", "none", float(2**64 - 1)),
        ("mean", "ticks", 2.5),
        ("wait", "seconds", 3.5),
    ]


def test_an_unknown_clock_is_estimated_per_block_for_events_and_per_process_for_spans(tmp_path: Path) -> None:
    lake = made_up_lake(tmp_path, frequency=0)
    second = 1_000_000_000
    log = add_block(lake, LOG_STREAM_ID, log_block([(500, "half")]), begin_ticks=0, end_ticks=1000)
    add_block(lake, SPANS_STREAM_ID, span_block("+a -a", first_tick=500), begin_ticks=0, end_ticks=1000)
    for block_id, block in lake.blocks.items():  # the log's clock ticks at 1 kHz by itself, the process's at 500 Hz
        end = START_TIME_NS + (1 if block_id == log.block_id else 2) * second
        lake.blocks[block_id] = Block(
            block.block_id, block.stream_id, block.process_id, block.begin_time_ns, block.begin_ticks, end,
            block.end_ticks, block.nb_objects, block.object_offset, block.payload_size, block.insert_time_ns,
        )  # fmt: skip

    _, logs = build(LogEntries(), lake)
    _, tree = build(ThreadSpans(), lake, SPANS_STREAM_ID)

    assert logs.column("time").cast(pa.int64()).to_pylist() == [START_TIME_NS + second // 2]
    assert spans(tree)[1] == ("a", 1, second, second + 2_000_000)


def test_a_clock_that_makes_no_sense_quarantines_every_block_of_spans(tmp_path: Path) -> None:
    lake = made_up_lake(tmp_path, frequency=0)
    add_block(lake, SPANS_STREAM_ID, span_block("+a -a"), begin_ticks=0, end_ticks=0)

    result, table = build(ThreadSpans(), lake, SPANS_STREAM_ID)

    assert table.num_rows == 0
    assert [reason[:17] for _, reason in result.quarantined] == ["invalid frequency"]


def test_a_gap_between_blocks_makes_two_trees_and_their_ids_count_on(lake: Lake) -> None:
    add_block(lake, SPANS_STREAM_ID, span_block("+a -a", 0), begin_ticks=0, end_ticks=10)
    add_block(lake, SPANS_STREAM_ID, span_block("+b -b", 20), begin_ticks=20, end_ticks=30, offset=2)

    _, table = build(ThreadSpans(), lake, SPANS_STREAM_ID)

    assert spans(table) == [("T-1", 0, 0, 10), ("a", 1, 0, 1), ("T-1", 0, 20, 30), ("b", 1, 20, 21)]
    assert table.column("id").to_pylist() == [-1, 0, -1, 2]
    assert table.column("parent").to_pylist() == [0, -1, 0, -1]


def test_a_span_that_reaches_into_the_next_block_is_one_span(lake: Lake) -> None:
    add_block(lake, SPANS_STREAM_ID, span_block("-a", 10), begin_ticks=10, end_ticks=20, offset=1)
    add_block(lake, SPANS_STREAM_ID, span_block("+a", 0), begin_ticks=0, end_ticks=10)

    _, table = build(ThreadSpans(), lake, SPANS_STREAM_ID)

    assert spans(table) == [("T-1", 0, 0, 20), ("a", 1, 0, 10)]


def test_spans_that_cross_are_repaired_and_counted(lake: Lake) -> None:
    """The original fails the query of the whole thread."""
    add_block(lake, SPANS_STREAM_ID, span_block("+a +b -a -b -c"), begin_ticks=0, end_ticks=10)

    result, table = build(ThreadSpans(), lake, SPANS_STREAM_ID)

    assert result.repaired_events == 1
    assert spans(table) == [("T-1", 0, 0, 10), ("c", 1, 0, 4), ("b", 2, 0, 3), ("a", 3, 0, 2), ("b", 4, 1, 2)]


def test_names_whose_hashes_are_the_same_stay_apart(lake: Lake) -> None:
    """The original gives every span of a hash the name that it saw first."""
    names = ("span 10420", "span 337075")
    assert len({scope_hash(name, "", "t", 0) for name in names}) == 1
    first, second = (NamedSpan(name, SpanLocation("t")) for name in names)
    events = ((True, first), (True, second), (False, second), (False, first))
    builder = SpanBlockBuilder()
    for ticks, (begins, scope) in enumerate(events, START_TICKS):
        (builder.begin if begins else builder.end)(scope, ticks)
    add_block(lake, SPANS_STREAM_ID, builder.finish(), begin_ticks=0, end_ticks=10)

    result, table = build(ThreadSpans(), lake, SPANS_STREAM_ID)

    assert spans(table)[1:] == [(names[0], 1, 0, 3), (names[1], 2, 1, 2)]
    assert result.repaired_events == 0 and len(set(table.column("hash").to_pylist()[1:])) == 1


def test_a_thread_is_called_by_its_name_and_number() -> None:
    assert thread_name("s", {"thread-name": "Game", "thread-id": "7"}) == "Game-7"
    assert thread_name("s", {"thread-name": "Game"}) == "Game-s"
    assert thread_name("s", {"thread-id": "7"}) == "7"
    assert thread_name("s", {}) == "s"


@pytest.mark.parametrize(
    ("blocks", "lengths"),
    [
        ([(0, 105), (100, 205), (200, 305)], [3]),
        ([(0, 100), (100, 200), (200, 300)], [3]),
        ([(0, 100), (500, 600)], [1, 1]),
        ([(0, 105), (100, 205), (400, 505), (500, 600), (900, 950)], [2, 2, 1]),
        ([(0, 1000), (10, 20), (1000, 1100)], [3]),
        ([(0, 100), (100, 100), (100, 200)], [3]),
        ([], []),
    ],
)
def test_chains_break_only_where_events_may_be_missing(blocks: list[tuple[int, int]], lengths: list[int]) -> None:
    made = [_block(i, begin, end) for i, (begin, end) in enumerate(blocks)]

    for given_order in (made, made[::-1]):
        found = list(chains(given_order))
        assert [len(chain) for chain in found] == lengths
        assert [block for chain in found for block in chain] == made


def test_a_chain_that_is_too_long_is_cut_between_blocks() -> None:
    made = [_block(i, i, i + 1, CHAIN_OBJECTS_MAX // 2) for i in range(5)]

    assert [len(chain) for chain in chains(made)] == [2, 2, 1]


def _block(number: int, begin: int, end: int, objects: int = 1) -> Block:
    ids = BlockId(str(number)), StreamId("s"), ProcessId("p")
    return Block(*ids, 0, begin, 0, end, objects, 0, 0, number)


@given(damage=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_bytes_give_rows_or_a_reason_and_nothing_else(
    damage: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    lake = made_up_lake(tmp_path_factory.mktemp("damage"))
    for stream, encoded in (
        (LOG_STREAM_ID, log_block([(i, f"line {i}") for i in range(5)])),
        (METRICS_STREAM_ID, _one_metric()),
        (SPANS_STREAM_ID, span_block("+a +b -b -a -c")),
    ):
        dependencies, objects = bytearray(encoded.dependencies), bytearray(encoded.objects)
        for position, value in damage:
            half = objects if position % 2 else dependencies
            half[position // 2 % len(half)] = value
        broken = EncodedBlock(bytes(dependencies), bytes(objects), encoded.nb_objects)
        add_block(lake, stream, broken, begin_ticks=0, end_ticks=100)

    for view, instance in ((LogEntries(), PROCESS_ID), (Measures(), PROCESS_ID), (ThreadSpans(), SPANS_STREAM_ID)):
        result, table = build(view, lake, instance)
        assert all("decoder failed" not in reason for _, reason in result.quarantined)
        assert table.num_rows == 0 or not result.quarantined
