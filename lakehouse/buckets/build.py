"""Builds the Parquet files of one bucket from the payloads of its blocks, where the job runs.

Knows no catalog and no store: payloads are files that somebody put there, results are files that somebody takes away.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from lakeflight.wire.errors import WireError
from lakehouse.errors import BackendUnavailableError
from lakehouse.jobs.build import ERROR_CHARACTERS_MAX, BuildJob, BuildResult, BuiltFile, LocalBuild
from lakehouse.model import Block, BlockId, LastTiming, Process, ProcessId, Stream, StreamId
from lakehouse.ports import View
from lakehouse.storage.digests import file_digests

if TYPE_CHECKING:
    from typing import TypeAlias

    from lakehouse.parquet import FileSummary
    from lakehouse.storage.digests import FileDigests

    Written: TypeAlias = tuple[Path, FileSummary, FileDigests]

BYTES_PER_FILE_MAX: Final = 128 << 20  # of rows in memory: long messages make a file full before its rows do


def build_bucket(view: View, build: LocalBuild) -> BuildResult:
    """Turn the blocks of a job into Parquet files in its output folder.

    Rows are made by this thread and written by a few others. Memory: what the view holds, and the rows of
    ``writers_max`` files.

    Raises:
        BackendUnavailableError: A payload is not there or not as long as it should be.
    """
    job = build.job
    source = _JobSource(job, build.payloads)
    written: list[Future[Written]] = []
    with ThreadPoolExecutor(max(1, job.writers_max), thread_name_prefix="parquet") as writers:
        running: deque[Future[Written]] = deque()
        try:
            for batches in _files_worth(view.build(source), job.rows_per_file_max):
                path = build.output / f"{len(written):05}.parquet"
                future = writers.submit(_write, path, view, batches)
                del batches
                written.append(future)
                running.append(future)
                if len(running) >= job.writers_max:  # before the next file's rows are made, not after
                    running.popleft().result()
        except BaseException:
            writers.shutdown(cancel_futures=True)
            raise
        done = [future.result() for future in written]
    return BuildResult(
        files=tuple(
            BuiltFile(path, s.rows, s.size_bytes, s.min_event_ns, s.max_event_ns, s.max_sort_key_ns, *digests, s.filter)
            for path, s, digests in done
        ),
        quarantined=tuple(source.quarantined.items()),
        repaired_events=source.repaired_events,
    )


def _write(path: Path, view: View, batches: list[pa.RecordBatch]) -> Written:
    from lakehouse.parquet import write_file  # the edge reads this module's values, and writes no file

    return path, write_file(path, view.schema, batches, view.begin_column, view.end_column), file_digests(path)


def _files_worth(batches: Iterator[pa.RecordBatch], rows_max: int) -> Iterator[list[pa.RecordBatch]]:
    """Runs of batches that make a file; a batch is never torn unless it alone is too long."""
    run: list[pa.RecordBatch] = []
    rows = size = 0
    for whole in batches:
        for start in range(0, whole.num_rows, rows_max):
            batch = whole.slice(start, rows_max)
            if run and (rows + batch.num_rows > rows_max or size + batch.nbytes > BYTES_PER_FILE_MAX):
                yield run
                run, rows, size = [], 0, 0
            run.append(batch)
            rows += batch.num_rows
            size += batch.nbytes
    if run:
        yield run


@dataclass(slots=True)
class _JobSource:
    """A job as a view sees it. Implements ``BucketSource``."""

    job: BuildJob
    payloads: Mapping[BlockId, Path]
    quarantined: dict[str, str] = field(default_factory=dict)
    repaired_events: int = 0
    _processes: dict[ProcessId, Process] = field(init=False)
    _streams: dict[StreamId, Stream] = field(init=False)

    def __post_init__(self) -> None:
        self._processes = {process.process_id: process for process in self.job.processes}
        self._streams = {stream.stream_id: stream for stream in self.job.streams}

    @property
    def instance(self) -> str:
        return self.job.instance

    @property
    def blocks(self) -> Sequence[Block]:
        return self.job.blocks

    def process_of(self, block: Block) -> Process:
        return self._processes[block.process_id]

    def stream_of(self, block: Block) -> Stream:
        return self._streams[block.stream_id]

    def timing_of(self, process: Process) -> LastTiming:
        # A known clock needs no estimate, and a job carries none for it.
        return self.job.timings.get(process.process_id, LastTiming(0, process.start_time_ns))

    def payload(self, block: Block) -> bytes:
        try:
            stored = self.payloads[block.block_id].read_bytes()
        except OSError as error:
            raise BackendUnavailableError(f"the payload of block {block.block_id} cannot be read") from error
        if len(stored) != block.payload_size:
            raise BackendUnavailableError(
                f"the payload of block {block.block_id} has {len(stored)} bytes, not {block.payload_size}"
            )
        return stored

    def quarantine(self, block: Block, error: Exception) -> None:
        # Only the wire's own errors were written for others to read.
        reason = str(error) if isinstance(error, WireError) else f"its decoder failed: {type(error).__name__}"
        self.quarantined[block.block_id] = reason[:ERROR_CHARACTERS_MAX]

    def count_repaired(self, events: int) -> None:
        self.repaired_events += events
