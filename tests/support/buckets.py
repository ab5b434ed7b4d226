"""Recorded requests as the blocks of one bucket, without a server."""

from __future__ import annotations

import gzip
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lakeflight.wire.envelope import (
    BlockRequest,
    ProcessRequest,
    StreamRequest,
    decode_block,
    decode_process,
    decode_stream,
)
from lakeflight.wire.otlp.resources import SIGNALS, decode_request
from lakeflight.wire.transit.types import LOG_TYPES, METRIC_TYPES, SPAN_TYPES, StreamTypes
from lakeflight.wire.transit.writer import EncodedBlock
from lakehouse.buckets.build import build_bucket
from lakehouse.jobs.build import BuildJob, BuildResult, LocalBuild
from lakehouse.model import (
    GLOBAL_INSTANCE,
    Block,
    BlockId,
    LastTiming,
    Process,
    ProcessId,
    Stream,
    StreamId,
)
from lakehouse.ports import View
from lakehouse.storage.paths import blob_key
from tests.support.fixtures import Request

NATIVE = "micromegas-transit"
INSERT_TIME_NS = 1_800_000_000_000_000_000
START_TIME_NS = 1_799_999_000_000_000_000
START_TICKS = 5_000
PROCESS_ID = "aaaaaaaa-0000-4000-8000-000000000001"
LOG_STREAM_ID = "bbbbbbbb-0000-4000-8000-000000000001"
METRICS_STREAM_ID = "bbbbbbbb-0000-4000-8000-000000000002"
SPANS_STREAM_ID = "bbbbbbbb-0000-4000-8000-000000000003"


def _whole_microseconds(time_ns: int) -> int:
    return time_ns // 1000 * 1000


@dataclass
class Lake:
    """What a catalog and a store would know after the requests."""

    folder: Path
    processes: dict[str, Process] = field(default_factory=dict)
    streams: dict[str, Stream] = field(default_factory=dict)
    blocks: dict[str, Block] = field(default_factory=dict)

    def send(self, requests: Iterable[Request]) -> Lake:
        for request in requests:
            self.post(request.path, request.body)
        return self

    def post(self, path: str, body: bytes) -> None:
        now = INSERT_TIME_NS + (len(self.processes) + len(self.streams) + len(self.blocks)) * 1000
        if path.endswith("insert_process"):
            self._register(decode_process(body), now)
        elif path.endswith("insert_stream"):
            self._open(decode_stream(body), NATIVE, now)
        elif path.endswith("insert_block"):
            self._store(decode_block(body), now)
        else:
            (signal,) = (signal for signal in SIGNALS if path.endswith(signal.name))
            for resource in decode_request(signal, gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body, now):
                self._register(resource.process, now)
                self._open(resource.stream, signal.format, now)
                self._store(resource.block, now)

    def _register(self, p: ProcessRequest, now: int) -> None:
        self.processes[p.process_id] = Process(
            ProcessId(p.process_id), p.exe, p.username, p.realname, p.computer, p.distro, p.cpu_brand,
            p.tsc_frequency, _whole_microseconds(p.start_time_ns), p.start_ticks, now,
            None if p.parent_process_id is None else ProcessId(p.parent_process_id), p.properties,
        )  # fmt: skip

    def _open(self, s: StreamRequest, stream_format: str, now: int) -> None:
        self.streams[s.stream_id] = Stream(
            StreamId(s.stream_id), ProcessId(s.process_id), s.dependencies_metadata, s.objects_metadata, s.tags,
            s.properties, stream_format, now,
        )  # fmt: skip

    def _store(self, b: BlockRequest, now: int) -> None:
        self.payload(b.block_id).write_bytes(b.payload)
        self.blocks[b.block_id] = Block(
            BlockId(b.block_id), StreamId(b.stream_id), ProcessId(b.process_id),
            _whole_microseconds(b.begin_time_ns), b.begin_ticks, _whole_microseconds(b.end_time_ns), b.end_ticks,
            b.nb_objects, b.object_offset, len(b.payload), now,
        )  # fmt: skip

    def payload(self, block: str | Block) -> Path:
        return self.folder / (block if isinstance(block, str) else block.block_id)

    def tagged(self, tag: str) -> list[str]:
        return [stream.stream_id for stream in self.streams.values() if tag in stream.tags]

    def job(self, view: View, instance: str, *, rows_per_file_max: int = 1 << 19) -> BuildJob:
        blocks = [
            block
            for block in self.blocks.values()
            if block.stream_id in self.streams
            and (instance == GLOBAL_INSTANCE or instance in (block.process_id, block.stream_id))
            and (view.stream_tag is None or view.stream_tag in self.streams[block.stream_id].tags)
        ]
        if not view.block_order.stands_alone:
            blocks.sort(key=lambda b: (b.begin_ticks, b.end_ticks, b.insert_time_ns, b.block_id))
        timings = {
            process_id: LastTiming(
                max(b.end_ticks for b in self.blocks.values() if b.process_id == process_id),
                max(b.end_time_ns for b in self.blocks.values() if b.process_id == process_id),
            )
            for process_id in {b.process_id for b in blocks}
            if self.processes[process_id].tsc_frequency == 0
        }
        return BuildJob(
            view_set=view.view_set,
            instance=instance,
            processes=tuple(self.processes.values()),
            streams=tuple(self.streams.values()),
            blocks=tuple(blocks),
            payload_keys=tuple(blob_key(b.process_id, b.stream_id, b.block_id) for b in blocks),
            timings=timings,
            rows_per_file_max=rows_per_file_max,
        )

    def local(self, job: BuildJob) -> LocalBuild:
        """The job as it would run here, with a folder of its own."""
        output = self.folder / f"out-{len(list(self.folder.glob('out-*')))}"
        output.mkdir()
        return LocalBuild(job, {block.block_id: self.payload(block) for block in job.blocks}, output)

    def build(self, view: View, job: BuildJob) -> BuildResult:
        return build_bucket(view, self.local(job))


def made_up_lake(folder: Path, *, frequency: int = 1_000_000_000, start_time_ns: int = START_TIME_NS) -> Lake:
    """One process with a stream of each kind, and no blocks yet. Ticks are nanoseconds since its start."""
    lake = Lake(folder)
    lake.processes[PROCESS_ID] = Process(
        ProcessId(PROCESS_ID), "game.exe", "ann", "Ann", "desk", "linux", "cpu", frequency, start_time_ns, START_TICKS,
        INSERT_TIME_NS, None, {"version": "7", "build": "nightly"},
    )  # fmt: skip
    for stream_id, types, properties in (
        (LOG_STREAM_ID, LOG_TYPES, {}),
        (METRICS_STREAM_ID, METRIC_TYPES, {}),
        (SPANS_STREAM_ID, SPAN_TYPES, {"thread-name": "T", "thread-id": "1"}),
    ):
        lake.streams[stream_id] = Stream(
            StreamId(stream_id), ProcessId(PROCESS_ID), types.dependencies_metadata, types.objects_metadata,
            (types.tag,), properties, NATIVE, INSERT_TIME_NS,
        )  # fmt: skip
    return lake


def add_stream(lake: Lake, types: StreamTypes, stream_id: str) -> str:
    """One more stream of the made-up process."""
    lake.streams[stream_id] = Stream(
        StreamId(stream_id), ProcessId(PROCESS_ID), types.dependencies_metadata, types.objects_metadata,
        (types.tag,), {}, NATIVE, INSERT_TIME_NS,
    )  # fmt: skip
    return stream_id


def add_block(
    lake: Lake, stream_id: str, encoded: EncodedBlock | bytes, *, begin_ticks: int, end_ticks: int, offset: int = 0
) -> Block:
    """A block as it would be stored; bytes are stored as they are, whatever they are."""
    payload = encoded if isinstance(encoded, bytes) else encoded.payload()
    process = lake.processes[PROCESS_ID]
    block = Block(
        BlockId(str(uuid.UUID(int=len(lake.blocks) + 1))), StreamId(stream_id), ProcessId(PROCESS_ID),
        process.start_time_ns + begin_ticks, begin_ticks, process.start_time_ns + end_ticks, end_ticks,
        0 if isinstance(encoded, bytes) else encoded.nb_objects, offset, len(payload),
        INSERT_TIME_NS + len(lake.blocks) * 1000,
    )  # fmt: skip
    lake.payload(block).write_bytes(payload)
    lake.blocks[block.block_id] = block
    return block
