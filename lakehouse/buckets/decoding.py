"""Has the blocks of a bucket decoded in workers: what makes a job, what it is handed, and which block it dies of.

Blocks go in, files in a scratch folder come out. Knows no partition and commits nothing.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

import structlog

from lakehouse.buckets.catalog import BucketCatalog
from lakehouse.buckets.model import Source
from lakehouse.buckets.planning import metadata_bytes, split_jobs
from lakehouse.buckets.sharing import together
from lakehouse.errors import InternalError
from lakehouse.jobs.build import BuildJob, BuildResult
from lakehouse.jobs.executor import Executor, WorkerCrashedError
from lakehouse.model import Block, Process, ProcessId, Stream, StreamId, ViewKey
from lakehouse.ports import View
from lakehouse.storage.paths import blob_key

log = structlog.get_logger(__name__)

_ATTEMPTS_MAX: Final = 4  # of a job, each without the blocks that the one before died of

DecodedRun: TypeAlias = tuple[tuple[Block, ...], BuildResult]


@dataclass(frozen=True, slots=True)
class JobLimits:
    """What goes into one job."""

    payload_bytes_max: int = 32 << 20  # where blocks stand alone
    blocks_max: int = 2048
    metadata_bytes_max: int = 4 << 20  # of processes and streams: some thousand streams
    # Type tables and properties of programs take kilobytes, and other servers of the protocol refuse more than 1 MiB.
    # What is sixteen times as large is no honest block's; one job can still be handed it.
    block_metadata_bytes_max: int = 16 << 20
    # A decoder takes a second for some hundred MiB. The search for a block that it hangs in runs a dozen jobs, one after
    # the other, each half as large, and has to end before queries lose their patience.
    seconds_min: float = 30.0
    payload_bytes_per_s_min: int = 1 << 20
    second_try_s: float = 5.0  # after which a block that killed two workers has one more try, if memory was short


@dataclass(slots=True)
class _Job:
    """A run of blocks with all that a worker needs to decode them."""

    view: View
    key: ViewKey
    source: Source
    processes: Mapping[ProcessId, Process]
    streams: Mapping[StreamId, Stream]
    scratch: Path
    on_crash: Callable[[], None]


class BucketDecoder:
    """Cuts blocks into jobs and runs them."""

    def __init__(self, catalog: BucketCatalog, executor: Executor, limits: JobLimits, at_once: int) -> None:
        """``at_once``: jobs of one bucket that are prepared or run; the others leave room for those of other buckets."""
        self._catalog = catalog
        self._executor = executor
        self._limits = limits
        self._at_once = at_once

    async def decode(
        self,
        view: View,
        key: ViewKey,
        source: Source,
        blocks: Sequence[Block],
        scratch: Path,
        on_crash: Callable[[], None],
    ) -> list[DecodedRun]:
        """All of ``blocks``, in runs: each block is in the files of its run or named as left out.

        Args:
            on_crash: Called when a worker died of its blocks, before the search for the one that it was.

        Raises:
            BackendUnavailableError: A payload is not in the store, or not as it should be. No other job runs any more.
        """
        limits = self._limits
        left_out = {
            block.block_id: f"the process and the stream of this block were registered with {size} bytes of"
            f" properties and type tables, the limit is {limits.block_metadata_bytes_max}: send less with them"
            for block in blocks
            if (size := metadata_bytes(source, block)) > limits.block_metadata_bytes_max
        }
        runs = split_jobs(
            source,
            [block for block in blocks if block.block_id not in left_out],
            view.block_order,
            bytes_max=limits.payload_bytes_max,
            blocks_max=limits.blocks_max,
            metadata_bytes_max=limits.metadata_bytes_max,
        )

        async def decoded(run: tuple[Block, ...]) -> DecodedRun:
            processes, streams = await self._catalog.registrations(run)
            return run, await self._run(_Job(view, key, source, processes, streams, scratch, on_crash), run)

        results = await together((decoded(run) for run in runs), asyncio.Semaphore(self._at_once))
        if left_out:
            run = tuple(block for block in blocks if block.block_id in left_out)
            results.append((run, BuildResult((), tuple(left_out.items()), 0)))
        return results

    async def _run(self, job: _Job, blocks: Sequence[Block]) -> BuildResult:
        """Decode a run of blocks in a worker; if one of them kills it, find that one and leave it out."""
        killers: dict[str, str] = {}
        for _ in range(_ATTEMPTS_MAX):
            kept = [block for block in blocks if block.block_id not in killers]
            try:
                result = await self._run_job(job, kept, _folder(job.scratch))
            except WorkerCrashedError as crash:
                log.error("build.crashed", view_set=job.view.view_set, blocks=len(kept), reason=str(crash))
                job.on_crash()
                killers |= await self._find_killers(job, kept)
            else:
                return replace(result, quarantined=(*result.quarantined, *killers.items()))
        raise InternalError(f"the blocks of a bucket of {job.view.view_set} could not be decoded")

    async def _run_job(self, job: _Job, blocks: Sequence[Block], output: Path) -> BuildResult:
        size = sum(block.payload_size for block in blocks)
        deadline_s = self._limits.seconds_min + size / self._limits.payload_bytes_per_s_min
        return await self._executor.build(_request(job, blocks), output, deadline_s)

    async def _find_killers(self, job: _Job, blocks: Sequence[Block]) -> dict[str, str]:
        """Halve the blocks until each that kills a worker stands alone; then see whether it does so again.

        A worker may also have been killed by others, such as a system that was short of memory for a moment.
        """
        killers: dict[str, str] = {}
        alone: list[Block] = []
        suspects = [list(blocks)]
        while suspects:
            group = suspects.pop()
            if await self._kills(job, group) is None:
                continue
            if len(group) == 1:
                alone += group
            else:
                middle = len(group) // 2
                suspects += [group[:middle], group[middle:]]
        if alone:
            await asyncio.sleep(self._limits.second_try_s)
        for block in alone:
            crash = await self._kills(job, [block])
            if crash is not None:
                killers[block.block_id] = f"its decoder died: {crash}"
        return killers

    async def _kills(self, job: _Job, blocks: Sequence[Block]) -> WorkerCrashedError | None:
        output = _folder(job.scratch)
        try:
            await self._run_job(job, blocks, output)
        except WorkerCrashedError as crash:
            return crash
        finally:
            await asyncio.to_thread(shutil.rmtree, output, ignore_errors=True)
        return None


def _request(job: _Job, blocks: Sequence[Block]) -> BuildJob:
    """Only what these blocks refer to goes along."""
    process_ids = dict.fromkeys(block.process_id for block in blocks)
    stream_ids = dict.fromkeys(block.stream_id for block in blocks)
    return BuildJob(
        view_set=job.key.view_set,
        instance=job.key.instance,
        processes=tuple(job.processes[process_id] for process_id in process_ids),
        streams=tuple(job.streams[stream_id] for stream_id in stream_ids),
        blocks=tuple(blocks),
        payload_keys=tuple(blob_key(block.process_id, block.stream_id, block.block_id) for block in blocks),
        timings={id_: timing for id_, timing in job.source.timings.items() if id_ in process_ids},
    )


def _folder(scratch: Path) -> Path:
    folder = scratch / secrets.token_hex(8)
    folder.mkdir()
    return folder
