"""Merges buckets that nothing can be added to any more: the hours of a closed day become one, and many files few.

Files are merged, not blocks: no row changes, and what retention has taken from the sources stays. It goes as making a bucket
does: under a lease, announced by write intents, swapped in one transaction that finds everything as it was read, or nothing.
Queries that read the files of before go on with them.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog

from lakehouse.buckets.bucket import Bucket
from lakehouse.buckets.catalog import BucketCatalog
from lakehouse.buckets.decoding import BucketDecoder, DecodedRun
from lakehouse.buckets.leases import Leases
from lakehouse.buckets.model import HOUR, Lease, MergeSource, MergeSwap, NewPartition, SwapConflictError
from lakehouse.buckets.planning import MergePlan, Merging, plan_merge
from lakehouse.buckets.publish import Announced, Publisher, partitions_of
from lakehouse.errors import InternalError
from lakehouse.jobs.build import BuiltFile
from lakehouse.jobs.executor import Executor
from lakehouse.jobs.merge import MergeJob
from lakehouse.model import DAY_SECONDS, BlockId
from lakehouse.ports import KeepsParts

log = structlog.get_logger(__name__)

DAY: Final = timedelta(seconds=DAY_SECONDS)
MERGED_BYTES_MAX: Final = 1 << 30  # of files that become one bucket: larger days have large files already
FILE_BYTES_MAX: Final = 128 << 20  # of one file that comes out
SECONDS_MIN: Final = 60.0
BYTES_PER_S_MIN: Final = 2 << 20  # a tenth of what merging the smallest files takes


class DamagedFilesError(Exception):
    """Files of buckets that were to be merged are not what was written."""

    def __init__(self, keys: Sequence[str]) -> None:
        super().__init__(f"{len(keys)} files are not what was written")
        self.keys = keys


@dataclass(frozen=True, slots=True)
class _Merged:
    """What a merge came to: the partitions of the new bucket, without their keys in the store."""

    files: tuple[BuiltFile, ...]
    runs: tuple[DecodedRun, ...] | None  # None: of files, not of blocks
    is_sorted: bool


class BucketMerger:
    """Merges buckets for one server, one at a time."""

    def __init__(
        self,
        catalog: BucketCatalog,
        executor: Executor,
        decoder: BucketDecoder,
        leases: Leases,
        publisher: Publisher,
        scratch: Path,
    ) -> None:
        self._catalog, self._executor, self._decoder = catalog, executor, decoder
        self._leases, self._publisher, self._scratch = leases, publisher, scratch
        self._turn = asyncio.Semaphore(1)  # the other workers are for those who wait

    async def merge(self, bucket: Bucket, length: timedelta | None = None) -> bool:
        """Make one bucket of all in ``length`` from ``bucket``'s begin on, or of its own files; whether it was done.

        It is not while somebody else makes the first of them, or where ``plan_merge`` leaves them.

        Raises:
            DamagedFilesError: Nothing has happened; have them made again.
            BackendUnavailableError: A file is not in the store, or Postgres does not answer.
        """
        async with self._turn, self._leases.holding(bucket.instance, bucket.begin) as lease:
            if lease is None:
                return False
            source, length = await self._read(bucket, length)
            view = bucket.view
            plan = plan_merge(source, bucket.begin, length, view.block_order, view.writer_version)
            if plan.action is Merging.LEAVE:
                log.info("buckets.not_merged", bucket=bucket.words, buckets=len(source.buckets), reason=plan.reason)
                return False
            try:
                await self._merge(bucket, length, lease, source, plan)
            except SwapConflictError as conflict:
                log.info("bucket.conflict", bucket=bucket.words, reason=str(conflict))
                return False
            return True

    async def _read(self, bucket: Bucket, length: timedelta | None) -> tuple[MergeSource, timedelta]:
        wanted = HOUR if length is None else length
        source = await self._catalog.read_merge(bucket.instance, bucket.scope, bucket.begin, wanted)
        if length is None and source.buckets and source.buckets[0].state.length != wanted:
            wanted = source.buckets[0].state.length
            source = await self._catalog.read_merge(bucket.instance, bucket.scope, bucket.begin, wanted)
        return source, wanted

    async def _merge(
        self, bucket: Bucket, length: timedelta, lease: Lease, source: MergeSource, plan: MergePlan
    ) -> None:
        scratch = self._scratch / f"merge-{secrets.token_hex(8)}"
        scratch.mkdir(parents=True)
        announcing = asyncio.create_task(self._publisher.announce(bucket, 1))
        try:
            try:
                merged = await self._made(bucket, source, plan, scratch)
            except BaseException:
                await asyncio.shield(self._publisher.withdraw(announcing))
                raise
            await self._publish(bucket, length, lease, source, plan, merged, await announcing)
            self._leases.ended(lease)
        finally:
            self._publisher.give_up(announcing)
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)

    async def _made(self, bucket: Bucket, source: MergeSource, plan: MergePlan, scratch: Path) -> _Merged:
        if plan.action is Merging.BUILD:
            runs = await self._decoder.decode(
                bucket.view, bucket.instance.key, source.source, source.source.blocks, scratch, lambda: None
            )
            return _Merged(tuple(file for _, result in runs for file in result.files), tuple(runs), True)
        partitions = [partition for partition in source.partitions if partition.key is not None]
        if not partitions:
            return _Merged((), None, True)
        job = MergeJob(
            bucket.view.view_set,
            tuple(partition.key for partition in partitions if partition.key is not None),
            tuple(partition.sha256 for partition in partitions),
            FILE_BYTES_MAX,
        )
        size = sum(partition.size_bytes for partition in partitions)
        result = await self._executor.merge(job, scratch, SECONDS_MIN + size / BYTES_PER_S_MIN)
        if result.damaged:
            raise DamagedFilesError(result.damaged)
        rows, were = (sum(file.rows for file in files) for files in (result.files, partitions))
        if rows > were or (rows < were and not isinstance(bucket.view, KeepsParts)) or bool(rows) != bool(were):
            raise InternalError(f"merging {bucket.words} made {rows} rows of {were}")
        return _Merged(result.files, None, result.is_sorted)

    async def _publish(
        self,
        bucket: Bucket,
        length: timedelta,
        lease: Lease,
        source: MergeSource,
        plan: MergePlan,
        merged: _Merged,
        announced: Announced,
    ) -> None:
        results = [result for _, result in merged.runs or ()]
        is_built = merged.runs is not None

        def swap_of(keys: Mapping[Path, str], intents: tuple[uuid.UUID, ...]) -> MergeSwap:
            return MergeSwap(
                instance=bucket.instance,
                begin=bucket.begin,
                length=length,
                lease=lease,
                buckets=source.buckets,
                partitions=tuple(
                    partitions_of(merged.runs, keys, 0)
                    if merged.runs is not None
                    else _partitions(source, merged, keys)
                ),
                intents=intents,
                digest=plan.digest,
                timing=plan.timing,
                whole=not is_built or length == HOUR,
                sort_order=bucket.view.sorted_by if merged.is_sorted else (),
                missing_blocks=sum(len(result.quarantined) for result in results) if is_built else None,
                repaired_events=sum(result.repaired_events for result in results) if is_built else None,
            )

        await self._publisher.publish_merged(bucket, merged.files, announced, swap_of)
        log.info(
            "buckets.merged",
            view_set=bucket.instance.key.view_set,
            instance=bucket.instance.key.instance,
            bucket=bucket.begin.isoformat(),
            buckets=len(source.buckets),
            files_before=sum(partition.key is not None for partition in source.partitions),
            files=len(merged.files),
            rows=sum(file.rows for file in merged.files),
            size_bytes=sum(file.size_bytes for file in merged.files),
            from_blocks=is_built,
        )


def _partitions(source: MergeSource, merged: _Merged, keys: Mapping[Path, str]) -> list[NewPartition]:
    """The first of them names all blocks; one without rows does if there is no file."""
    blocks: dict[BlockId, None] = {}
    for partition in source.partitions:
        blocks.update(dict.fromkeys(partition.block_ids))
    block_ids, missing = tuple(blocks), sum(partition.missing_blocks for partition in source.partitions)
    if not merged.files:
        return [NewPartition(0, None, 0, 0, None, None, None, block_ids, missing)]
    return [
        NewPartition(
            ordinal=number,
            key=keys[file.path],
            size_bytes=file.size_bytes,
            rows=file.rows,
            min_event_ns=file.min_event_ns,
            max_event_ns=file.max_event_ns,
            max_sort_key_ns=file.max_sort_key_ns,
            block_ids=() if number else block_ids,
            missing_blocks=0 if number else missing,
            sha256=file.sha256,
            tail_digest=file.tail_digest,
            filter=file.filter,
        )
        for number, file in enumerate(merged.files)
    ]
