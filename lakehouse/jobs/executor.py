"""Who runs jobs. The seam at which another executor (a cluster's) is put in: it is given keys, and localizes them where it runs.

The one here has workers on this machine: the payloads become local files, pinned while the job runs; the worker reads them
and nothing else, and writes into one folder and nowhere else. It touches no store and holds no secret.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from lakehouse.errors import BackendUnavailableError
from lakehouse.jobs.ahead import BytesAhead
from lakehouse.jobs.build import BuildJob, BuildResult, LocalBuild
from lakehouse.jobs.merge import LocalMerge, MergeJob, MergeResult
from lakehouse.model import Block
from lakehouse.ports import ObjectStore

INLINE_BLOCKS_MAX: Final = 16  # so few are looked at and packed faster than another thread is asked to


class WorkerCrashedError(Exception):
    """A build worker died or overran its time: some block is more than its decoder can take."""


class Executor(Protocol):
    """Runs jobs."""

    async def build(self, job: BuildJob, output: Path, deadline_s: float) -> BuildResult:
        """Build what the job says. The files of the result are in ``output``, a folder of the caller.

        Raises:
            WorkerCrashedError: Its blocks, or the system, killed whoever was at it.
            BackendUnavailableError: A payload is not in the store, or not as it should be.
        """
        ...

    async def merge(self, job: MergeJob, output: Path, deadline_s: float) -> MergeResult:
        """Merge the files that the job names. Those of the result are in ``output``, a folder of the caller.

        Raises:
            WorkerCrashedError: Its files, or the system, killed whoever was at it.
            BackendUnavailableError: A file is not in the store.
        """
        ...


class BuildWorkers(Protocol):
    """Runs ``lakehouse.buckets.work.do`` in a process of its own."""

    async def build(self, job: dict[str, Any], deadline_s: float) -> dict[str, Any]:
        """``job`` is the message of a ``LocalBuild`` or a ``LocalMerge``. The answer is not to be believed."""
        ...


class LocalExecutor:
    """Runs jobs in workers of this machine.

    Args:
        ahead_bytes_max: Payloads of all jobs that are fetched, waited for or read; where files are far away and copies of
            them bounded.
    """

    def __init__(self, store: ObjectStore, workers: BuildWorkers, ahead_bytes_max: int | None = None) -> None:
        self._store = store
        self._workers = workers
        self._ahead = BytesAhead(ahead_bytes_max)

    async def build(self, job: BuildJob, output: Path, deadline_s: float) -> BuildResult:
        size = sum(block.payload_size for block in job.blocks)
        async with self._ahead.held(size), self._store.localize(job.payload_keys) as paths:

            def prepare() -> dict[str, Any]:
                _check_sizes(job.blocks, paths)
                named = {block.block_id: path for block, path in zip(job.blocks, paths, strict=True)}
                return LocalBuild(job, named, output).to_message()

            message = prepare() if len(paths) <= INLINE_BLOCKS_MAX else await asyncio.to_thread(prepare)
            answer = await self._workers.build(message, deadline_s)
        return BuildResult.from_message(answer, output, frozenset(block.block_id for block in job.blocks))

    async def merge(self, job: MergeJob, output: Path, deadline_s: float) -> MergeResult:
        async with self._store.localize(job.keys) as paths:
            answer = await self._workers.build(LocalMerge(job, tuple(paths), output).to_message(), deadline_s)
        return MergeResult.from_message(answer, job, output)


def _check_sizes(blocks: Sequence[Block], paths: Sequence[Path]) -> None:
    for block, path in zip(blocks, paths, strict=True):
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            raise BackendUnavailableError(f"the payload of block {block.block_id} is not in the store") from None
        if size != block.payload_size:
            raise BackendUnavailableError(
                f"the payload of block {block.block_id} has {size} bytes in the store, not {block.payload_size}"
            )
