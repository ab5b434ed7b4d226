"""Has one block decoded for whoever asks for it, and keeps nothing: what ``parse_block`` reads.

The worker's file is handed on as it is, unread: whoever executes the statement reads it where it runs.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
from pathlib import Path
from typing import Final, Protocol

from lakeflight.wire.times import format_time
from lakehouse.buckets.catalog import BucketCatalog
from lakehouse.buckets.decoding import JobLimits
from lakehouse.buckets.sharing import Allowance
from lakehouse.errors import CorruptBlockError, InternalError, LimitExceededError, QueryError, UnknownViewError
from lakehouse.jobs.build import BuildJob, BuildResult
from lakehouse.jobs.executor import Executor, WorkerCrashedError
from lakehouse.model import Block, LastTiming, TimeRange
from lakehouse.ports import View
from lakehouse.storage.paths import blob_key

FILE_BYTES_MAX: Final = 32 << 20  # of one block's rows, compressed: a request to a worker holds those of a few blocks
_ROWS_PER_FILE_MAX: Final = 1 << 31  # one file


class BlockView(View, Protocol):
    """A view whose rows of a block need no other."""

    @property
    def formats(self) -> tuple[str, ...]:
        """Those of blocks that it reads."""
        ...


class SingleBlocks:
    """Finds blocks by their ids, and has them decoded in workers."""

    def __init__(self, catalog: BucketCatalog, executor: Executor, scratch: Path, limits: JobLimits) -> None:
        self._catalog = catalog
        self._executor = executor
        self._scratch = scratch
        self._limits = limits

    async def rows(self, view: BlockView, block_id: str, wanted: TimeRange, allowance: Allowance) -> bytes | None:
        """A Parquet file with what the view makes of the block, or ``None`` if that is no row.

        Raises:
            UnknownViewError: There is no such block in the range.
            QueryError: It is in a format that the view does not read.
            CorruptBlockError: It cannot be decoded.
            LimitExceededError: Its rows are too many, or the query has had too much decoded.
        """
        block = await self._catalog.find_block(block_id)
        if block is None or wanted.intersect(TimeRange(block.begin_time_ns, block.end_time_ns)).is_empty:
            raise UnknownViewError(f"{view.view_set}: block {block_id} not found{_in_range(wanted)}")
        allowance.take(view.view_set, [block])
        async with allowance.places:
            return await self._decode(view, block)

    async def _decode(self, view: BlockView, block: Block) -> bytes | None:
        processes, streams = await self._catalog.registrations([block])
        stream_format = streams[block.stream_id].format
        if stream_format not in view.formats:
            raise QueryError(
                f"{view.view_set}: block {block.block_id} has the format {stream_format[:100]!r}, which has no decoder;"
                f" known formats: {', '.join(view.formats)}"
            )
        job = BuildJob(
            view_set=view.view_set,
            instance=block.stream_id,
            processes=tuple(processes.values()),
            streams=tuple(streams.values()),
            blocks=(block,),
            payload_keys=(blob_key(block.process_id, block.stream_id, block.block_id),),
            timings={block.process_id: LastTiming(block.end_ticks, block.end_time_ns)},
            rows_per_file_max=_ROWS_PER_FILE_MAX,
        )
        folder = self._scratch / f"block-{secrets.token_hex(8)}"
        folder.mkdir(parents=True)
        try:
            deadline_s = self._limits.seconds_min + block.payload_size / self._limits.payload_bytes_per_s_min
            result = await self._executor.build(job, folder, deadline_s)
            return await asyncio.to_thread(_file_of, result, block)
        except WorkerCrashedError as crash:
            raise CorruptBlockError(f"block {block.block_id} cannot be decoded: its decoder died: {crash}") from crash
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _file_of(result: BuildResult, block: Block) -> bytes | None:
    for block_id, reason in result.quarantined:
        raise CorruptBlockError(f"block {block_id} cannot be decoded: {reason}")
    if not result.files:
        return None
    if len(result.files) > 1:
        raise InternalError(f"the rows of block {block.block_id} came in {len(result.files)} files")
    (file,) = result.files
    if file.size_bytes > FILE_BYTES_MAX:
        raise LimitExceededError(
            f"the objects of block {block.block_id} take {file.size_bytes} bytes, the limit is {FILE_BYTES_MAX}:"
            " read the view of its stream"
        )
    return file.path.read_bytes()


def _in_range(wanted: TimeRange) -> str:
    if wanted == TimeRange():
        return ""
    begin, end = ("…" if time_ns is None else format_time(time_ns) for time_ns in (wanted.begin_ns, wanted.end_ns))
    return f" between {begin} and {end}: ask for a wider time range"
