"""Every recorded native block, decoded twice, and its rows against what the original answered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakeflight.wire.ticks import TickClock, frequency
from lakeflight.wire.transit.columns import Codes
from lakeflight.wire.transit.logs import read_logs
from lakeflight.wire.transit.metrics import read_metrics
from lakeflight.wire.transit.spans import read_spans
from tests.support import reference_transit as reference
from tests.support.blocks import RecordedBlock, process_of, recorded_blocks
from tests.support.fixtures import Case, native_cases

CASES = native_cases()
pytestmark = pytest.mark.skipif(not CASES, reason="no recorded telemetry here")
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def texts(column: Codes) -> list[str]:
    return [column.values[code] for code in column.codes.tolist()]


def clock_of(case: Case, recorded: RecordedBlock) -> TickClock:
    """Rows of logs and metrics: an unknown clock is estimated from the block itself, times are those of Postgres."""
    process, block = process_of(case), recorded.block
    start_ns = process.start_time_ns // 1000 * 1000
    ticks_per_s = frequency(process.tsc_frequency, start_ns, block.end_ticks, block.end_time_ns // 1000 * 1000)
    return TickClock(process.start_ticks, start_ns, ticks_per_s)


def recorded_rows(case: Case, query: str, columns: list[str]) -> list[tuple[Any, ...]]:
    path = case.folder / "expected" / f"{query}.parquet"
    if not path.exists():
        assert case.description["queries"][query]["rows"] == 0
        return []
    rows = pq.read_table(path).select(columns)
    arrays = [c.cast(pa.int64()) if pa.types.is_timestamp(c.type) else c for c in rows.columns]
    return list(zip(*(array.to_pylist() for array in arrays), strict=True))


@every_case
def test_log_entries_equal_what_the_original_answered(case: Case) -> None:
    ours: list[tuple[Any, ...]] = []
    for recorded in recorded_blocks(case, "log"):
        events = read_logs(recorded.layout, recorded.dependencies, recorded.objects)
        times = clock_of(case, recorded).absolute_ns(events.ticks).tolist()
        ours += zip(
            [recorded.block.block_id] * len(times),
            times,
            texts(events.target),
            events.level.tolist(),
            events.msg.to_pylist(),
            texts(events.properties),
            strict=True,
        )

    columns = ["block_id", "time", "target", "level", "msg", "properties"]
    assert sorted(ours) == sorted(recorded_rows(case, "log_entries", columns))


@every_case
def test_measures_equal_what_the_original_answered(case: Case) -> None:
    ours: list[tuple[Any, ...]] = []
    for recorded in recorded_blocks(case, "metrics"):
        events = read_metrics(recorded.layout, recorded.dependencies, recorded.objects)
        clock = clock_of(case, recorded)
        units, values = texts(events.unit), events.value.copy()
        in_ticks = np.array([unit == "ticks" for unit in units], np.bool_) & events.integer
        values[in_ticks] = clock.milliseconds(events.raw[in_ticks]) / 1000.0
        ours += zip(
            [recorded.block.block_id] * len(units),
            clock.absolute_ns(events.ticks).tolist(),
            texts(events.target),
            texts(events.name),
            ["seconds" if flag else unit for unit, flag in zip(units, in_ticks.tolist(), strict=True)],
            values.view(np.int64).tolist(),
            texts(events.properties),
            strict=True,
        )

    columns = ["block_id", "time", "target", "name", "unit", "value", "properties"]
    theirs = [
        (*row[:5], np.float64(row[5]).view(np.int64).item(), row[6]) for row in recorded_rows(case, "measures", columns)
    ]
    assert sorted(ours) == sorted(theirs)


@every_case
def test_the_plain_decoder_reads_the_same_logs(case: Case) -> None:
    for recorded in recorded_blocks(case, "log"):
        objects = reference.decode(*recorded.metadata, recorded.dependencies, recorded.objects)

        events = read_logs(recorded.layout, recorded.dependencies, recorded.objects)

        rows = zip(
            events.ticks.tolist(),
            events.level.tolist(),
            texts(events.target),
            events.msg.to_pylist(),
            texts(events.properties),
            strict=True,
        )
        assert list(rows) == reference.log_rows(objects)
        assert len(objects) == len(events.ticks) + events.skipped == recorded.block.nb_objects


@every_case
def test_the_plain_decoder_reads_the_same_metrics(case: Case) -> None:
    for recorded in recorded_blocks(case, "metrics"):
        objects = reference.decode(*recorded.metadata, recorded.dependencies, recorded.objects)

        events = read_metrics(recorded.layout, recorded.dependencies, recorded.objects)

        sent = [
            raw & (1 << 64) - 1 if integer else value
            for raw, integer, value in zip(
                events.raw.tolist(), events.integer.tolist(), events.value.tolist(), strict=True
            )
        ]
        rows = zip(
            events.ticks.tolist(),
            events.integer.tolist(),
            map(repr, sent),
            texts(events.name),
            texts(events.unit),
            texts(events.target),
            texts(events.properties),
            strict=True,
        )
        assert list(rows) == [(*row[:2], repr(row[2]), *row[3:]) for row in reference.metric_rows(objects)]
        assert len(objects) == len(events.ticks) + events.skipped == recorded.block.nb_objects


@every_case
def test_the_plain_decoder_reads_the_same_spans(case: Case) -> None:
    for recorded in recorded_blocks(case, "cpu"):
        objects = reference.decode(*recorded.metadata, recorded.dependencies, recorded.objects)

        events = read_spans(recorded.layout, recorded.dependencies, recorded.objects)

        scopes = [(scope.name, scope.file, scope.target, scope.line) for scope in events.scopes]
        rows = zip(
            events.kind.tolist(),
            events.ticks.tolist(),
            events.index.tolist(),
            (scopes[number] for number in events.scope.tolist()),
            strict=True,
        )
        assert list(rows) == reference.span_rows(objects)
        assert [scope.hash for scope in events.scopes] == [reference.scope_hash(scope) for scope in scopes]
        assert len(objects) == events.objects == recorded.block.nb_objects
