"""The one thing that makes partitions: ``Materializer.ensure`` makes a view instance fresh for a range of event time.

A query calls it for what it is about to read, and maintenance calls it ahead of time. The unit is the bucket: the
blocks of one instance that came in one hour. Its partitions change in one transaction, so a reader sees a bucket as it
was or as it is. The order is the safety argument: source read in one snapshot, files built outside the store, write
intents committed, objects written, catalog rows swapped. A crash in between leaves an intent that names the orphan.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Final

import structlog

from lakehouse.buckets.bucket import Bucket, scope_of
from lakehouse.buckets.catalog import BucketCatalog
from lakehouse.buckets.files import PartitionFiles
from lakehouse.buckets.freshen import BucketMaker, MaterializerLimits
from lakehouse.buckets.merging import DAY, DamagedFilesError
from lakehouse.buckets.model import (
    InstanceGoneError,
    InstanceId,
    InstanceScope,
    StoredBucket,
    StoredPartition,
    ViewVersion,
)
from lakehouse.buckets.planning import (
    TIMING_SHIFT_NS_MAX,
    is_stale_by_timing,
    version_of,
)
from lakehouse.buckets.sharing import Allowance, Progress
from lakehouse.buckets.single_block import BlockView, SingleBlocks
from lakehouse.errors import BackendUnavailableError, LimitExceededError, UnknownViewError
from lakehouse.filters import asked
from lakehouse.jobs.executor import Executor
from lakehouse.model import EVERYTHING, GLOBAL_INSTANCE, NEVER, InstanceKind, TimeRange, ViewKey
from lakehouse.ports import ObjectStore, View

log = structlog.get_logger(__name__)

INSTANCES_REMEMBERED_MAX: Final = 100_000  # numbers of view instances; forgetting them costs one look-up each
STATS_INLINE_MAX: Final = 64  # so many stat calls are cheaper than a change of threads
LOST_KEYS_LOGGED_MAX: Final = 20
BUCKETS_NAMED_MAX: Final = 3  # in the message of an error
SIZES_AT_ONCE: Final = 16  # requests for the sizes of objects, when some of them are lost
LOCK_PAUSE_MIN_S: Final = 0.02  # between attempts to get a bucket that another server builds …
LOCK_PAUSE_MAX_S: Final = 0.5  # … which may take minutes
_ANY_BYTES: Final = 1 << 62  # of a build that is no query's
_NO_TIME: Final = TimeRange(0, 0)  # of a look for its own sake
FILTERED_MIN: Final = 4  # files; fewer are opened in the time that it takes to ask what they have
NO_VALUES: Final[Mapping[str, Sequence[str]]] = MappingProxyType({})
_ATTEMPTS_MAX: Final = 4  # a swap is repeated when another server was faster


@dataclass(frozen=True, slots=True)
class Freshened:
    """The partitions that a reader of the range needs."""

    partitions: tuple[StoredPartition, ...]
    missing_blocks: int


@dataclass(frozen=True, slots=True)
class LocalPartitions:
    """Fresh partitions as files that this machine has."""

    fresh: Freshened
    paths: Mapping[str, Path]  # by key


class Materializer:
    """Makes view instances fresh, one bucket at a time, each once however many ask."""

    def __init__(
        self,
        catalog: BucketCatalog,
        store: ObjectStore,
        executor: Executor,
        scratch: Path,
        limits: MaterializerLimits,
        *,
        prune: bool = True,
    ) -> None:
        self._catalog = catalog
        self._files = PartitionFiles(store, catalog)
        self._maker = BucketMaker(catalog, store, executor, scratch, limits)
        self._blocks = SingleBlocks(catalog, executor, scratch, limits.jobs)
        self._limits = limits
        self._prune = prune  # a switch for tests: the choice of partitions must never change a result
        self._instances: dict[tuple[ViewKey, ViewVersion], InstanceId] = {}

    def allowance(self, progress: Progress) -> Allowance:
        """What one query may have built, to be shared by all that it reads."""
        return Allowance(self._limits.freshen_bytes_max, self._limits.buckets_at_once, progress)

    async def ensure(
        self, view: View, instance: str, wanted: TimeRange, allowance: Allowance | None = None
    ) -> Freshened:
        """Make the partitions of ``view`` for ``instance`` that rows in ``wanted`` may be in, and list them.

        Every block that was acknowledged before this call is in them, or counted as missing.

        Raises:
            UnknownViewError: No such process or stream.
            LimitExceededError: More to build than one query may ask for; what was built stays.
            BackendUnavailableError: Postgres or the object store.
        """
        return await self._ensure(view, instance, wanted, allowance or self.allowance(Progress()), lost=())

    async def settle(self, view: View, instance: str, bucket_begin: datetime) -> None:
        """Make one bucket hold all blocks that came in its hour, whatever their times: they are about to go.

        Raises:
            UnknownViewError: No such process or stream.
            BackendUnavailableError: Postgres or the object store.
        """
        scope = scope_of(view, instance)
        for _ in range(_ATTEMPTS_MAX):
            stored = await self._instance(view, instance)
            try:
                await self._mark_moved(view, stored, scope, EVERYTHING)
                await self._look(stored, scope, _NO_TIME)
            except InstanceGoneError:
                self._instances.pop((stored.key, stored.version), None)
                continue
            with suppress(InstanceGoneError):  # nothing came for it
                await self._maker.freshen([Bucket(view, stored, bucket_begin)], Allowance(_ANY_BYTES, 1, Progress()))
            return
        raise BackendUnavailableError(f"{view.view_set} of {instance} was removed {_ATTEMPTS_MAX} times")

    @asynccontextmanager
    async def ensure_local(
        self,
        view: View,
        instance: str,
        wanted: TimeRange,
        allowance: Allowance | None = None,
        values: Mapping[str, Sequence[str]] = NO_VALUES,
    ) -> AsyncIterator[LocalPartitions]:
        """``ensure``, and local files of the partitions, which stay until the context is left.

        A file that is lost or damaged is made again, once. What is known to have no row with one of ``values`` in each of
        these columns is left out.

        Raises:
            BackendUnavailableError: Also if the blocks of a lost partition are gone as well.
        """
        allowance = allowance or self.allowance(Progress())
        async with AsyncExitStack() as pins:
            fresh = await self._with(values, await self._ensure(view, instance, wanted, allowance, lost=()))
            paths, lost = await self._files.localize(fresh.partitions, pins)
            if lost:
                fresh, paths = await self._make_again(view, instance, wanted, allowance, lost, pins, values)
            yield LocalPartitions(fresh, paths)

    async def _make_again(
        self,
        view: View,
        instance: str,
        wanted: TimeRange,
        allowance: Allowance,
        lost: Sequence[str],
        pins: AsyncExitStack,
        values: Mapping[str, Sequence[str]],
    ) -> tuple[Freshened, dict[str, Path]]:
        stored = await self._instance(view, instance)
        begins = await self._catalog.buckets_of(stored, lost)
        log.warning(
            "partition.lost",
            view_set=view.view_set,
            instance=instance,
            buckets=[begin.isoformat() for begin in begins[:LOST_KEYS_LOGGED_MAX]],
            files=len(lost),
            keys=lost[:LOST_KEYS_LOGGED_MAX],
        )
        try:
            fresh = await self._with(values, await self._ensure(view, instance, wanted, allowance, lost=lost))
            paths, lost = await self._files.localize(fresh.partitions, pins)
        except BackendUnavailableError as error:
            raise _not_made_again(view, instance, begins, str(error)) from error
        if lost:
            begins = await self._catalog.buckets_of(stored, lost)
            raise _not_made_again(view, instance, begins, "what was made is lost as well")
        return fresh, paths

    async def _with(self, values: Mapping[str, Sequence[str]], fresh: Freshened) -> Freshened:
        """Without the files that have no such row."""
        wanted = asked(values) if self._prune else {}
        if not wanted or len(fresh.partitions) < FILTERED_MIN:
            return fresh
        without = await self._catalog.without([partition.key for partition in fresh.partitions], wanted)
        return replace(fresh, partitions=tuple(p for p in fresh.partitions if p.key not in without))

    async def ensure_stored(
        self,
        view: View,
        instance: str,
        wanted: TimeRange,
        allowance: Allowance,
        values: Mapping[str, Sequence[str]] = NO_VALUES,
    ) -> Freshened:
        """``ensure_local`` for who has the files localized: what the store has lost or damaged is made again."""
        async with self.ensure_local(view, instance, wanted, allowance, values) as local:
            return local.fresh

    async def decode_block(
        self, view: BlockView, block_id: str, wanted: TimeRange, allowance: Allowance
    ) -> bytes | None:
        """What a view makes of one block, kept nowhere: a Parquet file, or ``None`` if that is no row."""
        return await self._blocks.rows(view, block_id, wanted, allowance)

    async def find_damaged(self, keys: Collection[str]) -> list[str]:
        """Those of these files of partitions that are not what was written. Whoever ensures them next has them made again."""
        return await self._files.find_damaged(keys)

    async def find_damaged_ends(self, keys: Collection[str]) -> list[str]:
        """The same by their ends alone, which costs next to nothing."""
        return await self._files.find_damaged_ends(keys)

    async def known_missing(self, uses: Sequence[tuple[View, str, TimeRange]]) -> int | None:
        """Blocks that are known to be missing from these instances and ranges; ``None``: no block of the lake is.

        Looks for no new block, makes nothing.
        """
        return await self._catalog.known_missing(
            [(ViewKey(view.view_set, instance), version_of(view), wanted) for view, instance, wanted in uses],
            self._limits.margin_s,
        )

    async def _ensure(
        self, view: View, instance: str, wanted: TimeRange, allowance: Allowance, lost: Sequence[str]
    ) -> Freshened:
        async with self._in_time(view, instance):
            stored, buckets = await self._find_fresh(view, instance, wanted, allowance, lost)
        if not self._prune:
            return Freshened(
                tuple(await self._catalog.all_partitions(stored)), sum(bucket.missing_blocks for bucket in buckets)
            )
        return Freshened(
            tuple(partition for bucket in buckets for partition in bucket.partitions),
            sum(bucket.missing_blocks for bucket in buckets if bucket.claimed_in_range),
        )

    @asynccontextmanager
    async def _in_time(self, view: View, instance: str) -> AsyncIterator[None]:
        """Refuse what takes longer than making fresh may."""
        try:
            async with asyncio.timeout(self._limits.freshen_s_max):
                yield
        except TimeoutError:
            raise LimitExceededError(
                f"making {view.view_set} of {instance} fresh took more than {self._limits.freshen_s_max:g} s;"
                " what is done is kept: ask again, or for a shorter time range"
            ) from None

    async def compact(self, view: View, stored: InstanceId, bucket_begin: datetime) -> None:
        """Merge the files of a closed bucket, so that its deltas become as few as they can be."""
        await self._merge(Bucket(view, stored, bucket_begin), None)

    async def merge_day(self, view: View, stored: InstanceId, day: datetime) -> None:
        """Make one bucket of those of a closed day."""
        await self._merge(Bucket(view, stored, day), DAY)

    async def _merge(self, bucket: Bucket, length: timedelta | None) -> None:
        """What is damaged of the files is made again instead, and merged at another time."""
        try:
            await self._maker.merger.merge(bucket, length)
        except DamagedFilesError as found:
            damaged = await self._files.find_damaged(found.keys)
            begins = await self._catalog.buckets_of(bucket.instance, damaged)
            buckets = [Bucket(bucket.view, bucket.instance, begin) for begin in begins]
            await self._maker.freshen(buckets, self.allowance(Progress()), damaged)

    async def stale_within(self, view: View, instance: str, begin: datetime, end: datetime) -> list[datetime]:
        """Buckets of what came in ``[begin, end)`` that do not hold all of their blocks."""
        scope = scope_of(view, instance)
        stored = await self._instance(view, instance)
        await self._mark_moved(view, stored, scope, EVERYTHING)
        await self._look(stored, scope, NEVER)  # takes note of what came; which of it is stale is asked by insert time
        return await self._catalog.stale_buckets(stored, begin, end)

    async def ensure_buckets(
        self, view: View, instance: str, begins: Sequence[datetime], allowance: Allowance | None = None
    ) -> None:
        """``ensure`` by insert time: make these buckets hold the blocks that there are."""
        stored = await self._instance(view, instance)
        async with self._in_time(view, instance):
            await self._maker.freshen(
                (Bucket(view, stored, begin) for begin in begins), allowance or self.allowance(Progress())
            )

    async def regenerate(self, view: View, instance: str, begin: datetime) -> None:
        """Make a bucket again from all of its blocks, although it is fresh.

        Raises:
            QueryError: Its blocks are not all there any more, so that it would lose rows.
        """
        stored = await self._instance(view, instance)
        async with self._in_time(view, instance):
            await self._maker.regenerate(Bucket(view, stored, begin))

    @property
    def under_way(self) -> int:
        """Buckets that are being made, or wait for it."""
        return self._maker.under_way

    async def _find_fresh(
        self, view: View, instance: str, wanted: TimeRange, allowance: Allowance, lost: Sequence[str]
    ) -> tuple[InstanceId, list[StoredBucket]]:
        scope = scope_of(view, instance)
        for _ in range(_ATTEMPTS_MAX):
            stored = await self._instance(view, instance)
            try:
                # Asked before the look: whoever made them again in between has made partitions that the look returns.
                stale = set(await self._catalog.buckets_of(stored, lost)) if lost else set()
                stale |= await self._mark_moved(view, stored, scope, wanted)
                buckets = await self._look(stored, scope, wanted)
                stale |= {bucket.begin for bucket in buckets if bucket.dirty and bucket.claimed_in_range}
                if stale:
                    await self._maker.freshen((Bucket(view, stored, begin) for begin in stale), allowance, lost)
                    buckets = await self._look(stored, scope, wanted)
            except InstanceGoneError as gone:
                log.info("instance.gone", view_set=view.view_set, instance=instance, reason=str(gone))
                self._instances.pop((stored.key, stored.version), None)
            else:
                return stored, buckets
        raise BackendUnavailableError(
            f"{view.view_set} of {instance} was removed {_ATTEMPTS_MAX} times while it was made fresh"
        )

    async def _instance(self, view: View, instance: str) -> InstanceId:
        key, version = ViewKey(view.view_set, instance), version_of(view)
        cached = self._instances.get((key, version))
        if cached is not None:
            return cached
        found = await self._catalog.find_instance(key, version)
        if found is None:
            if instance != GLOBAL_INSTANCE and not await self._catalog.find_entity(view.instance_kind, instance):
                raise UnknownViewError(
                    f"{view.instance_kind.value} {instance} not found{await self._hint(view, instance)}"
                )
            found = await self._catalog.add_instance(key, version)
        if len(self._instances) >= INSTANCES_REMEMBERED_MAX:
            self._instances.clear()
        self._instances[(key, version)] = found
        return found

    async def _hint(self, view: View, instance: str) -> str:
        """What an id names instead."""
        if view.instance_kind is InstanceKind.STREAM and await self._catalog.find_entity(
            InstanceKind.PROCESS, instance
        ):
            return (
                f": this is a process; its streams: SELECT stream_id, tags FROM streams WHERE process_id = '{instance}'"
            )
        if view.instance_kind is InstanceKind.PROCESS and await self._catalog.find_entity(
            InstanceKind.STREAM, instance
        ):
            return f": this is a stream; its process: SELECT process_id FROM streams WHERE stream_id = '{instance}'"
        return ""

    async def _look(self, stored: InstanceId, scope: InstanceScope, wanted: TimeRange) -> list[StoredBucket]:
        return await self._catalog.look(stored, scope, self._pruned(wanted), self._limits.margin_s)

    async def _mark_moved(
        self, view: View, stored: InstanceId, scope: InstanceScope, wanted: TimeRange
    ) -> set[datetime]:
        """Buckets whose rows are elsewhere by today's estimate of an unknown clock; they are dirty from now on."""
        clock = await self._catalog.unknown_clock(scope) if view.block_order.shares_clock else None
        if clock is None:
            return set()
        wanted = self._pruned(wanted)
        estimated = await self._catalog.estimated_buckets(stored, clock, wanted, TIMING_SHIFT_NS_MAX)
        moved = [bucket for bucket in estimated if is_stale_by_timing(bucket, clock, wanted)]
        for bucket in moved:
            if not bucket.dirty:
                await self._catalog.mark(stored, bucket.begin)
        return {bucket.begin for bucket in moved}

    def _pruned(self, wanted: TimeRange) -> TimeRange:
        return wanted if self._prune else TimeRange()


def _not_made_again(view: View, instance: str, begins: Sequence[datetime], reason: str) -> BackendUnavailableError:
    if not begins:  # somebody else made them again; the trouble is another
        return BackendUnavailableError(reason)
    hours = ", ".join(f"{begin:%Y-%m-%d %H:%M}" for begin in sorted(begins)[:BUCKETS_NAMED_MAX])
    more = f" and {len(begins) - BUCKETS_NAMED_MAX} more" if len(begins) > BUCKETS_NAMED_MAX else ""
    return BackendUnavailableError(
        f"the files of {view.view_set} of {instance} with what came in the hour or day from {hours}{more} (UTC) are lost or"
        f" damaged and could not be made again: {reason}"
    )
