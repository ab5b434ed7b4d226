"""A job becomes files in order; bad blocks are left out by name, a bad store fails the job, a bad worker is not believed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cbor2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakeflight.wire.errors import CorruptPayloadError
from lakehouse.errors import BackendUnavailableError, InternalError
from lakehouse.jobs.build import BuildJob, BuildResult, LocalBuild
from lakehouse.model import Block, BlockOrder, InstanceKind, JsonProperties, LastTiming, ProcessId
from lakehouse.ports import BucketSource
from tests.support.buckets import LOG_STREAM_ID, PROCESS_ID, Lake, add_block, made_up_lake

SCHEMA = pa.schema(
    [pa.field("time", pa.timestamp("ns"), nullable=False), pa.field("text", pa.string(), nullable=False)]
)


@dataclass
class Bytes:
    """A view whose rows are the bytes of the blocks."""

    view_set: str = "bytes"
    writer_version: int = 1
    schema: pa.Schema = field(default_factory=lambda: SCHEMA)
    instance_kind: InstanceKind = InstanceKind.PROCESS
    has_global: bool = True
    stream_tag: str | None = "log"
    block_order: BlockOrder = BlockOrder.INSERT_TIME
    begin_column: str = "time"
    end_column: str = "time"
    is_ordered: bool = True
    sorted_by: tuple[str, ...] = ()

    def build(self, source: BucketSource) -> Iterator[pa.RecordBatch]:
        for block in source.blocks:
            data = source.payload(block)
            if data == b"bad":
                source.quarantine(block, CorruptPayloadError("three letters"))
            elif data == b"bug":
                source.quarantine(block, KeyError("/secret/path"))
            elif data == b"fix":
                source.count_repaired(2)
            else:
                times = np.frombuffer(data, np.uint8).astype(np.int64)
                text = [source.process_of(block).exe] * len(data)
                yield pa.RecordBatch.from_arrays([pa.array(times, pa.timestamp("ns")), pa.array(text)], schema=SCHEMA)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return made_up_lake(tmp_path)


def add(lake: Lake, *payloads: bytes) -> list[Block]:
    return [add_block(lake, LOG_STREAM_ID, payload, begin_ticks=0, end_ticks=1) for payload in payloads]


def times_of(result: BuildResult) -> list[list[int]]:
    return [pq.read_table(file.path).column("time").cast(pa.int64()).to_pylist() for file in result.files]


def test_rows_fill_files_in_order_and_each_file_has_its_true_bounds(lake: Lake) -> None:
    add(lake, b"\x05\x01", b"\x09\x02\x03", b"\x07" * 7, b"\x08")

    result = lake.build(Bytes(), lake.job(Bytes(), PROCESS_ID, rows_per_file_max=5))

    assert times_of(result) == [[5, 1, 9, 2, 3], [7] * 5, [7, 7, 8]]
    assert [(f.rows, f.min_event_ns, f.max_event_ns, f.max_sort_key_ns) for f in result.files] == [
        (5, 1, 9, 9), (5, 7, 7, 7), (3, 7, 8, 8),
    ]  # fmt: skip
    assert [file.size_bytes for file in result.files] == [file.path.stat().st_size for file in result.files]


def test_no_rows_make_no_files(lake: Lake) -> None:
    add(lake, b"bad")

    result = lake.build(Bytes(), lake.job(Bytes(), PROCESS_ID))

    assert result.files == ()


def test_blocks_that_cannot_be_decoded_are_named_with_a_reason_fit_for_users(lake: Lake) -> None:
    first, _, third, _ = add(lake, b"bad", b"\x01", b"bug", b"fix")

    result = lake.build(Bytes(), lake.job(Bytes(), PROCESS_ID))

    assert result.quarantined == (
        (first.block_id, "three letters"),
        (third.block_id, "its decoder failed: KeyError"),
    )
    assert result.repaired_events == 2
    assert times_of(result) == [[1]]


def test_trouble_of_the_store_fails_the_job_and_blames_no_block(lake: Lake) -> None:
    (block,) = add(lake, b"\x01\x02")
    lake.payload(block).write_bytes(b"\x01")
    with pytest.raises(BackendUnavailableError, match="has 1 bytes, not 2"):
        lake.build(Bytes(), lake.job(Bytes(), PROCESS_ID))

    lake.payload(block).unlink()
    with pytest.raises(BackendUnavailableError, match="cannot be read") as raised:
        lake.build(Bytes(), lake.job(Bytes(), PROCESS_ID))
    assert str(lake.folder) not in str(raised.value)


def test_a_job_survives_the_wire(lake: Lake) -> None:
    add(lake, b"\x01", b"\x02")
    job = replace(lake.job(Bytes(), PROCESS_ID), timings={ProcessId(PROCESS_ID): LastTiming(5, 6)})
    message: dict[str, Any] = cbor2.loads(cbor2.dumps(job.to_message() | {"paths": ["a"]}))

    assert BuildJob.from_message(message) == job


def test_a_job_where_it_runs_survives_the_wire(lake: Lake) -> None:
    add(lake, b"\x01", b"\x02")
    local = lake.local(lake.job(Bytes(), PROCESS_ID))

    assert LocalBuild.from_message(cbor2.loads(cbor2.dumps(local.to_message()))) == local


def test_a_job_names_keys_of_the_store_and_no_path(lake: Lake) -> None:
    (block,) = add(lake, b"\x01")

    message = lake.job(Bytes(), PROCESS_ID).to_message()

    assert message["payload_keys"] == [f"blobs/{PROCESS_ID}/{LOG_STREAM_ID}/{block.block_id}"]
    assert str(lake.folder) not in str(message)


def test_properties_are_handed_on_unread(lake: Lake) -> None:
    """They may be 16 MiB, which the server's event loop has no time to parse; here they cannot even be parsed."""
    add(lake, b"\x01")
    (process,) = lake.processes.values()
    job = replace(lake.job(Bytes(), PROCESS_ID), processes=(replace(process, properties=JsonProperties("{")),))

    received = BuildJob.from_message(cbor2.loads(cbor2.dumps(job.to_message())))

    assert lake.build(Bytes(), received).quarantined == ()
    with pytest.raises(ValueError, match="Expecting"):
        len(received.processes[0].properties)


def test_a_result_survives_the_wire(lake: Lake) -> None:
    add(lake, b"\x01", b"bad", b"fix", b"\x02")
    job = lake.job(Bytes(), PROCESS_ID, rows_per_file_max=1)
    result = lake.build(Bytes(), job)

    message = cbor2.loads(cbor2.dumps(result.to_message()))

    assert len(result.files) == 2
    assert BuildResult.from_message(message, result.files[0].path.parent) == result


BAD_RESULTS: list[tuple[str, Any]] = [
    ("name", "../f"),
    ("name", "/etc/passwd"),
    ("name", ".."),
    ("name", ""),
    ("name", "absent.parquet"),
    ("name", "link"),
    ("name", "twin"),
    ("name", "folder"),
    ("name", "a\0b"),
    ("name", 7),
    ("rows", True),
    ("rows", 0),
    ("rows", 1.0),
    ("rows", 1 << 63),
    ("rows", "1"),
    ("size_bytes", 1),
    ("min_event_ns", 1 << 64),
    ("min_event_ns", 3),
    ("max_sort_key_ns", None),
]


@pytest.mark.parametrize(("key", "value"), BAD_RESULTS)
def test_a_file_that_is_not_as_described_is_not_believed(lake: Lake, key: str, value: Any) -> None:
    add(lake, b"\x01\x02")
    result = lake.build(Bytes(), lake.job(Bytes(), PROCESS_ID))
    message = result.to_message()
    only = result.files[0].path
    output = only.parent
    (output / "link").symlink_to(only)
    (output / "folder").mkdir()
    if value == "twin":
        os.link(only, output / "twin")
    message["files"][0][key] = value

    with pytest.raises(InternalError, match="a build worker") as raised:
        BuildResult.from_message(message, output)
    assert str(output) not in str(raised.value)


@pytest.mark.parametrize(
    "change",
    [
        {"files": None},
        {"files": {}},
        {"files": [[]]},
        {"files": [{}] * 20_000},
        {"quarantined": [["only one"]]},
        {"quarantined": [["x" * 99, "why"]]},
        {"quarantined": [["b", "y" * 5000]]},
        {"quarantined": [["b", 1]]},
        {"quarantined": [["b", "1"], ["b", "2"]]},
        {"quarantined": "bb"},
        {"repaired_events": -1},
        {"repaired_events": False},
    ],
)
def test_nothing_else_in_a_result_is_believed_either(change: dict[str, Any], tmp_path: Path) -> None:
    message = {"files": [], "quarantined": [], "repaired_events": 0}
    assert BuildResult.from_message(message, tmp_path) == BuildResult((), (), 0)

    with pytest.raises(InternalError, match="a build worker"):
        BuildResult.from_message(message | change, tmp_path)


@pytest.mark.parametrize("message", [None, [], "files", {}, {"files": []}])
def test_a_result_must_be_complete(message: Any, tmp_path: Path) -> None:
    with pytest.raises(InternalError, match="sent no"):
        BuildResult.from_message(message, tmp_path)


def test_only_blocks_of_the_job_may_be_quarantined(tmp_path: Path) -> None:
    message = {"files": [], "quarantined": [["b", "why"]], "repaired_events": 0}

    assert BuildResult.from_message(message, tmp_path, frozenset({"b"})).quarantined == (("b", "why"),)
    with pytest.raises(InternalError):
        BuildResult.from_message(message, tmp_path, frozenset({"c"}))
