"""Moves the files of a bucket into the store and swaps its catalog rows: everything happens, or nothing that anybody sees.

The order is the safety argument: write intents committed, objects written, rows swapped in one transaction. A crash in
between leaves an intent that names the orphan.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from lakehouse.buckets.bucket import Bucket
from lakehouse.buckets.catalog import BucketCatalog
from lakehouse.buckets.decoding import DecodedRun
from lakehouse.buckets.model import Lease, MergeSwap, NewPartition, Source, Swap, SwapConflictError
from lakehouse.buckets.planning import Action, BucketPlan
from lakehouse.buckets.renewals import Renewals
from lakehouse.buckets.sharing import together
from lakehouse.errors import BackendUnavailableError
from lakehouse.failpoints import failpoint
from lakehouse.jobs.build import BuiltFile
from lakehouse.model import Block
from lakehouse.ports import ObjectStore
from lakehouse.storage.paths import partition_key

log = structlog.get_logger(__name__)

UPLOADS_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class Announced:
    """Keys that may be written to, and the write intents that name them."""

    keys: tuple[str, ...] = ()
    intents: tuple[uuid.UUID, ...] = ()


class Publisher:
    """Publishes for one server."""

    def __init__(self, catalog: BucketCatalog, store: ObjectStore, owner: str, intent_s: float) -> None:
        """``intent_s``: how long a write intent protects its object when it is not renewed."""
        self._catalog = catalog
        self._store = store
        self._owner = owner
        self._open: Renewals[uuid.UUID] = Renewals(catalog.renew_intents, intent_s)

    async def announce(self, bucket: Bucket, files: int) -> Announced:
        """Commit intents for so many files, and renew them until they are given up.

        It waits for a disk, which may as well be while the files are made.
        """
        key = bucket.instance.key
        begin_ns = int(bucket.begin.timestamp()) * 1_000_000_000
        keys = tuple(partition_key(key.view_set, key.instance, begin_ns) for _ in range(files))
        intents = await self._catalog.reserve(keys, self._open.lasts, self._owner)
        self._open.add(*intents)
        return Announced(keys, intents)

    async def withdraw(self, announcing: asyncio.Task[Announced]) -> None:
        """Nothing was written."""
        with suppress(BackendUnavailableError):  # they run out by themselves
            await self._catalog.drop_intents((await announcing).intents)

    def give_up(self, announcing: asyncio.Task[Announced]) -> None:
        """Intents that are not committed run out from now on, and a reaper has what was written under them."""
        announcing.add_done_callback(self._give_up)

    def _give_up(self, announcing: asyncio.Task[Announced]) -> None:
        if not announcing.cancelled() and announcing.exception() is None:
            self._open.discard(*announcing.result().intents)

    async def publish(
        self,
        bucket: Bucket,
        lease: Lease,
        source: Source,
        plan: BucketPlan,
        built: Sequence[DecodedRun],
        announced: Announced,
    ) -> None:
        """
        Args:
            announced: Of some of the files, or of more; intents that are not needed end with the others.

        Raises:
            SwapConflictError: The bucket is not what it was when ``source`` was read; the objects are gone again.
        """
        files = [file for _, result in built for file in result.files]
        swap: Swap | None = None

        async def commit(keys: Mapping[Path, str], intents: tuple[uuid.UUID, ...]) -> None:
            nonlocal swap
            swap = _swap(bucket, lease, source, plan, built, keys, intents)
            await self._catalog.commit(swap)

        await self._move(bucket, files, announced, commit)
        assert swap is not None
        log.info(
            "bucket.committed",
            view_set=bucket.instance.key.view_set,
            instance=bucket.instance.key.instance,
            bucket=bucket.begin.isoformat(),
            action=plan.action.value,
            blocks=sum(len(run) for run, _ in built),
            rows=sum(file.rows for file in files),
            size_bytes=sum(file.size_bytes for file in files),
            missing_blocks=swap.missing_blocks,
        )
        for block, error in swap.quarantined:
            log.warning(
                "block.quarantined", block_id=block.block_id, view_set=bucket.instance.key.view_set, error=error
            )

    async def publish_merged(
        self,
        bucket: Bucket,
        files: Sequence[BuiltFile],
        announced: Announced,
        swap_of: Callable[[Mapping[Path, str], tuple[uuid.UUID, ...]], MergeSwap],
    ) -> None:
        """One bucket for several. ``swap_of``: what is to be committed, of the keys of the files and their intents.

        Raises:
            SwapConflictError: One of them is not what it was; the objects are gone again.
        """

        async def commit(keys: Mapping[Path, str], intents: tuple[uuid.UUID, ...]) -> None:
            await self._catalog.merge(swap_of(keys, intents))

        await self._move(bucket, files, announced, commit)

    async def _move(
        self,
        bucket: Bucket,
        files: Sequence[BuiltFile],
        announced: Announced,
        commit: Callable[[Mapping[Path, str], tuple[uuid.UUID, ...]], Awaitable[None]],
    ) -> None:
        """Files into the store, then what names them."""
        more = Announced()
        if len(files) > len(announced.keys):
            more = await self.announce(bucket, len(files) - len(announced.keys))
        keys = dict(zip((file.path for file in files), (*announced.keys, *more.keys), strict=False))
        failpoint("reserve")
        try:
            await together((self._put(file, keys[file.path]) for file in files), asyncio.Semaphore(UPLOADS_AT_ONCE))
            failpoint("seal")
            await commit(keys, (*announced.intents, *more.intents))
            failpoint("commit")
        except SwapConflictError:
            await self._store.delete(list(keys.values()))
            raise
        finally:
            self._open.discard(*more.intents)

    async def _put(self, file: BuiltFile, key: str) -> None:
        await self._store.put_file(key, file.path)
        failpoint("write")


def _swap(
    bucket: Bucket,
    lease: Lease,
    source: Source,
    plan: BucketPlan,
    built: Sequence[DecodedRun],
    keys: Mapping[Path, str],
    intents: tuple[uuid.UUID, ...],
) -> Swap:
    blocks: dict[str, Block] = {block.block_id: block for block in source.blocks}
    quarantined = tuple((blocks[block_id], error) for _, result in built for block_id, error in result.quarantined)
    view = bucket.view
    return Swap(
        instance=bucket.instance,
        bucket_begin=bucket.begin,
        lease=lease,
        state=source.state,
        replace=plan.action is not Action.EXTEND,
        partitions=tuple(partitions_of(built, keys, plan.first_ordinal)),
        intents=intents,
        digest=plan.digest,
        blocks=len(source.blocks),
        objects=sum(block.claimed_objects for block in source.blocks),
        max_insert_ns=max((block.insert_time_ns for block in source.blocks), default=None),
        timing=plan.timing,
        missing_blocks=len(quarantined),
        repaired_events=sum(result.repaired_events for _, result in built),
        quarantined=quarantined,
        sort_order=view.sorted_by,
    )


def partitions_of(built: Sequence[DecodedRun], keys: Mapping[Path, str], first_ordinal: int) -> list[NewPartition]:
    """Each run's blocks are named by its first partition; a run without rows leaves an empty one that names them."""
    found: list[NewPartition] = []
    for run, result in built:
        block_ids = tuple(block.block_id for block in run)
        missing = len(result.quarantined)
        files: Sequence[BuiltFile | None] = result.files or (None,)
        for file in files:
            found.append(
                NewPartition(
                    ordinal=first_ordinal + len(found),
                    key=None if file is None else keys[file.path],
                    size_bytes=0 if file is None else file.size_bytes,
                    rows=0 if file is None else file.rows,
                    min_event_ns=None if file is None else file.min_event_ns,
                    max_event_ns=None if file is None else file.max_event_ns,
                    max_sort_key_ns=None if file is None else file.max_sort_key_ns,
                    block_ids=block_ids,
                    missing_blocks=missing,
                    sha256=None if file is None else file.sha256,
                    tail_digest=None if file is None else file.tail_digest,
                    filter=None if file is None else file.filter,
                )
            )
            block_ids, missing = (), 0
    return found
