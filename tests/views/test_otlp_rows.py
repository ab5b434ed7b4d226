"""OTLP blocks beside native ones, damaged ones and those of nobody: what stands in the tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lakeflight.wire.envelope import encode_payload
from lakeflight.wire.otlp.resources import LOGS, METRICS, TRACES, Signal
from lakehouse.model import GLOBAL_INSTANCE
from lakehouse.ports import View
from tests.support.buckets import Lake
from tests.support.fixtures import native_cases, otlp_cases, rows_of
from tests.support.otlp import NOW_NS
from tests.support.rows import read_files
from views.log_entries import LogEntries
from views.measures import Measures
from views.otel_spans import OtelSpans

PATHS = {LOGS: "/v1/logs", METRICS: "/v1/metrics", TRACES: "/v1/traces"}


def rows(lake: Lake, view: View, instance: str = GLOBAL_INSTANCE) -> list[dict[str, Any]]:
    result = lake.build(view, lake.job(view, instance))
    return rows_of(read_files([file.path for file in result.files], view.schema))


@pytest.mark.parametrize("view", [LogEntries(), Measures()], ids=lambda view: view.view_set)
def test_a_bucket_has_rows_of_native_and_of_otlp_blocks(tmp_path: Path, view: View) -> None:
    (native,) = (case for case in native_cases() if case.name == "generator-a")
    (otlp,) = otlp_cases()
    apart = [Lake(tmp_path / name) for name in ("native", "otlp")]
    both = Lake(tmp_path / "both")
    for lake in (*apart, both):
        lake.folder.mkdir()
    apart[0].send(native.requests)
    apart[1].send(otlp.requests)
    both.send([*otlp.requests[:1], *native.requests, *otlp.requests])

    together = rows(both, view)

    assert len(together) == sum(len(rows(lake, view)) for lake in apart) > 0
    ids = {row["process_id"] for row in together}
    assert ids == {native.process_id, otlp.process_id}


def test_a_block_that_is_damaged_is_set_aside_and_the_others_are_rows(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    for number in range(5):
        lake.post("/v1/logs", logs(f"service {number}", lines=2))
    victims = list(lake.blocks)[1:3]
    lake.payload(victims[0]).write_bytes(damaged(lake, victims[0], b"\x12\x7f"))
    lake.payload(victims[1]).write_bytes(b"\xff" * lake.blocks[victims[1]].payload_size)

    result = lake.build(LogEntries(), lake.job(LogEntries(), GLOBAL_INSTANCE))

    assert {block_id for block_id, _ in result.quarantined} == set(victims)
    reasons = dict(result.quarantined)
    assert reasons[victims[0]] == "the protobuf of the block is damaged"
    table = read_files([file.path for file in result.files], LogEntries().schema)
    assert table.num_rows == 6
    assert not set(victims) & set(table.column("block_id").to_pylist())


def damaged(lake: Lake, block_id: str, end: bytes) -> bytes:
    """A payload of the same size that ends in the middle of a field."""
    size = lake.blocks[block_id].payload_size
    empty = len(encode_payload(b"", b"\0" * 100)) - 100
    return encode_payload(
        b"", b"\x1a\0" * ((size - empty - len(end)) // 2) + b"\x1a\0"[: (size - empty - len(end)) % 2] + end
    )


def test_blocks_of_a_format_that_a_view_does_not_read_are_set_aside(tmp_path: Path) -> None:
    lake = Lake(tmp_path).send(native_cases()[0].requests)
    view = OtelSpans()
    stream_id = lake.tagged("log")[0]
    object.__setattr__(lake.streams[stream_id], "tags", ("trace",))

    result = lake.build(view, lake.job(view, native_cases()[0].process_id))

    assert result.files == ()
    assert {reason for _, reason in result.quarantined} == {"this view does not read the format micromegas-transit"}


def test_a_line_without_a_time_is_from_the_begin_of_its_block(tmp_path: Path) -> None:
    request = LOGS.request()
    records = request.resource_logs.add().scope_logs.add().log_records
    records.add(observed_time_unix_nano=NOW_NS + 7)
    records.add(time_unix_nano=NOW_NS + 1_000)
    records.add()
    lake = Lake(tmp_path)
    lake.post(PATHS[LOGS], request.SerializeToString())

    times = [row["time"] for row in rows(lake, LogEntries())]

    assert times == [NOW_NS + 7, NOW_NS + 1_000, NOW_NS + 7]


def test_a_span_whose_time_no_row_can_have_is_counted_as_left_out(tmp_path: Path) -> None:
    request = TRACES.request()
    spans = request.resource_spans.add().scope_spans.add().spans
    for end in (NOW_NS + 1, 1 << 63, 0):
        spans.add(trace_id=b"t" * 16, span_id=b"s" * 8, start_time_unix_nano=NOW_NS, end_time_unix_nano=end)
    lake = Lake(tmp_path)
    lake.post(PATHS[TRACES], request.SerializeToString())
    view = OtelSpans()

    result = lake.build(view, lake.job(view, next(iter(lake.processes))))

    assert sum(file.rows for file in result.files) == 1
    assert result.repaired_events == 1


def test_a_summary_is_up_to_four_rows(tmp_path: Path) -> None:
    request = METRICS.request()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="wait", unit="s")
    point = metric.summary.data_points.add(time_unix_nano=NOW_NS, count=42, sum=123.5)
    for quantile, value in ((0.0, 1.0), (0.5, 9.0), (1.0, 99.0)):
        point.quantile_values.add(quantile=quantile, value=value)
    lake = Lake(tmp_path)
    lake.post(PATHS[METRICS], request.SerializeToString())

    found = {(row["name"], row["unit"], row["value"]) for row in rows(lake, Measures())}

    assert found == {
        ("wait_count", "", 42.0),
        ("wait_sum", "s", 123.5),
        ("wait_min", "s", 1.0),
        ("wait_max", "s", 99.0),
    }


def test_more_than_is_decoded_at_once_is_decoded_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("views.otlp_rows.DECODED_BYTES", 2_000)
    lake = Lake(tmp_path)
    for number in range(30):
        lake.post("/v1/logs", logs(f"service {number}", lines=20))

    found = rows(lake, LogEntries())

    assert len(found) == 600
    assert {json.loads(row["process_properties"])["otel.resource.service.name"] for row in found} == {
        f"service {number}" for number in range(30)
    }


def logs(service: str, lines: int, signal: Signal = LOGS) -> bytes:
    request = signal.request()
    resource = request.resource_logs.add()
    resource.resource.attributes.add(key="service.name").value.string_value = service
    scope = resource.scope_logs.add()
    for line in range(lines):
        scope.log_records.add(time_unix_nano=NOW_NS + line).body.string_value = f"line {line}"
    encoded: bytes = request.SerializeToString()
    return encoded
