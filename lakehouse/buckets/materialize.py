"""The one thing that makes partitions: ``Materializer.ensure`` makes a view instance fresh for a range of event time.

A query calls it for what it is about to read, and maintenance calls it ahead of time. The unit is the bucket: the
blocks of one instance that came in one hour. Its partitions change in one transaction, so a reader sees a bucket as it
was or as it is. The order is the safety argument: source read in one snapshot, files built outside the store, write
intents committed, objects written, catalog rows swapped. A crash in between leaves an intent that names the orphan.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from lakehouse.buckets.decoding import BucketDecoder, JobLimits
from lakehouse.buckets.model import (
    InstanceGoneError,
    InstanceId,
    InstanceScope,
    NewPartition,
    Source,
    StoredBucket,
    StoredPartition,
    Swap,
    SwapConflictError,
    ViewVersion,
)
from lakehouse.buckets.planning import (
    TIMING_SHIFT_NS_MAX,
    Action,
    BucketPlan,
    is_stale_by_timing,
    latest_timing,
    plan_bucket,
    version_of,
)
from lakehouse.buckets.sharing import Allowance, Progress, SharedBuild, together
from lakehouse.catalog.partitions import PartitionCatalog
from lakehouse.errors import BackendUnavailableError, LimitExceededError, UnknownViewError
from lakehouse.failpoints import failpoint
from lakehouse.jobs.build import BuildResult, BuiltFile
from lakehouse.jobs.executor import Executor
from lakehouse.model import GLOBAL_INSTANCE, Block, BlockOrder, LastTiming, TimeRange, ViewKey
from lakehouse.ports import ObjectStore, View
from lakehouse.storage.paths import partition_key

log = structlog.get_logger(__name__)

INSTANCES_REMEMBERED_MAX: Final = 100_000  # numbers of view instances; forgetting them costs one look-up each
STATS_INLINE_MAX: Final = 64  # so many stat calls are cheaper than a change of threads
LOST_KEYS_LOGGED_MAX: Final = 20
BUCKETS_NAMED_MAX: Final = 3  # in the message of an error
SIZES_AT_ONCE: Final = 16  # requests for the sizes of objects, when some of them are lost
LOCK_PAUSE_MIN_S: Final = 0.02  # between attempts to get a bucket that another server builds …
LOCK_PAUSE_MAX_S: Final = 0.5  # … which may take minutes
_ATTEMPTS_MAX: Final = 4  # a swap is repeated when another server was faster


@dataclass(frozen=True, slots=True)
class MaterializerLimits:
    """What one query may cause to be built, and how."""

    buckets_at_once: int = 4  # of one query, and of all together; each holds a database connection for its lock
    freshen_bytes_max: int = 16 << 30  # payload bytes per query; committed buckets survive the error
    freshen_s_max: float = 600.0
    abandoned_s_max: float = 60.0  # how long a bucket is decoded that nobody waits for, while nobody waits for another
    deltas_max: int = 16  # partitions of an open bucket before it is made whole again
    margin_s: float = 300.0  # how far an event may lie outside what its block claims
    lease_s: float = 900.0  # how long a write intent protects its object
    jobs: JobLimits = field(default_factory=JobLimits)


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
        catalog: PartitionCatalog,
        store: ObjectStore,
        executor: Executor,
        scratch: Path,
        limits: MaterializerLimits,
        *,
        prune: bool = True,
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._decoder = BucketDecoder(catalog, executor, limits.jobs, limits.buckets_at_once)
        self._scratch = scratch
        self._limits = limits
        self._prune = prune  # a switch for tests: the choice of partitions must never change a result
        self._instances: dict[tuple[ViewKey, ViewVersion], InstanceId] = {}
        self._running: dict[tuple[int, datetime], SharedBuild] = {}
        self._slots = asyncio.Semaphore(limits.buckets_at_once)
        self._owner = f"{os.uname().nodename}/{os.getpid()}"

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

    @asynccontextmanager
    async def ensure_local(
        self, view: View, instance: str, wanted: TimeRange, allowance: Allowance | None = None
    ) -> AsyncIterator[LocalPartitions]:
        """``ensure``, and local files of the partitions, which stay until the context is left.

        A file that is lost or damaged is made again, once.

        Raises:
            BackendUnavailableError: Also if the blocks of a lost partition are gone as well.
        """
        allowance = allowance or self.allowance(Progress())
        async with AsyncExitStack() as pins:
            fresh = await self._ensure(view, instance, wanted, allowance, lost=())
            paths, lost = await self._find_files(fresh.partitions, pins)
            if lost:
                fresh, paths = await self._make_again(view, instance, wanted, allowance, lost, pins)
            yield LocalPartitions(fresh, paths)

    async def _make_again(
        self,
        view: View,
        instance: str,
        wanted: TimeRange,
        allowance: Allowance,
        lost: Sequence[str],
        pins: AsyncExitStack,
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
            fresh = await self._ensure(view, instance, wanted, allowance, lost=lost)
            paths, lost = await self._find_files(fresh.partitions, pins)
        except BackendUnavailableError as error:
            raise _not_made_again(view, instance, begins, str(error)) from error
        if lost:
            begins = await self._catalog.buckets_of(stored, lost)
            raise _not_made_again(view, instance, begins, "what was made is lost as well")
        return fresh, paths

    async def ensure_stored(self, view: View, instance: str, wanted: TimeRange, allowance: Allowance) -> Freshened:
        """``ensure``, with files made again that the store has lost or damaged."""
        async with self.ensure_local(view, instance, wanted, allowance) as local:
            return local.fresh

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
        try:
            async with asyncio.timeout(self._limits.freshen_s_max):
                stored, buckets = await self._find_fresh(view, instance, wanted, allowance, lost)
        except TimeoutError:
            raise LimitExceededError(
                f"making {view.view_set} of {instance} fresh took more than {self._limits.freshen_s_max:g} s;"
                " what is done is kept: ask again, or for a shorter time range"
            ) from None
        if not self._prune:
            return Freshened(
                tuple(await self._catalog.all_partitions(stored)), sum(bucket.missing_blocks for bucket in buckets)
            )
        return Freshened(
            tuple(partition for bucket in buckets for partition in bucket.partitions),
            sum(bucket.missing_blocks for bucket in buckets if bucket.claimed_in_range),
        )

    async def compact(self, view: View, stored: InstanceId, bucket_begin: datetime) -> None:
        """Build a bucket whole, so that its deltas become as few files as they can be."""
        build = SharedBuild(whole=True, under_way=True)
        await self._build(view, stored, _scope(view, stored.key.instance), bucket_begin, build)

    async def _find_fresh(
        self, view: View, instance: str, wanted: TimeRange, allowance: Allowance, lost: Sequence[str]
    ) -> tuple[InstanceId, list[StoredBucket]]:
        scope = _scope(view, instance)
        for _ in range(_ATTEMPTS_MAX):
            stored = await self._instance(view, instance)
            try:
                # Asked before the look: whoever made them again in between has made partitions that the look returns.
                stale = set(await self._catalog.buckets_of(stored, lost)) if lost else set()
                stale |= await self._mark_moved(view, stored, scope, wanted)
                buckets = await self._look(stored, scope, wanted)
                stale |= {bucket.begin for bucket in buckets if bucket.dirty and bucket.claimed_in_range}
                if stale:
                    await self._freshen_all(view, stored, scope, stale, allowance, lost)
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
                raise UnknownViewError(f"{view.instance_kind.value} {instance} not found")
            found = await self._catalog.add_instance(key, version)
        if len(self._instances) >= INSTANCES_REMEMBERED_MAX:
            self._instances.clear()
        self._instances[(key, version)] = found
        return found

    async def _look(self, stored: InstanceId, scope: InstanceScope, wanted: TimeRange) -> list[StoredBucket]:
        return await self._catalog.look(stored, scope, self._pruned(wanted), self._limits.margin_s)

    async def _mark_moved(
        self, view: View, stored: InstanceId, scope: InstanceScope, wanted: TimeRange
    ) -> set[datetime]:
        """Buckets whose rows are elsewhere by today's estimate of an unknown clock; they are dirty from now on."""
        clock = await self._catalog.unknown_clock(scope) if view.block_order is BlockOrder.EVENT_TIME else None
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

    async def _find_files(
        self, partitions: Sequence[StoredPartition], pins: AsyncExitStack
    ) -> tuple[dict[str, Path], list[str]]:
        """Local files of partitions by key, pinned, and the keys of which the store has not what was written."""
        keys = [partition.key for partition in partitions]
        if not keys:
            return {}, []
        try:
            paths = await pins.enter_async_context(self._store.localize(keys))
        except BackendUnavailableError:
            sizes = await together((self._store.size(key) for key in keys), asyncio.Semaphore(SIZES_AT_ONCE))
            lost = [p.key for p, size in zip(partitions, sizes, strict=True) if size != p.size_bytes]
            if not lost:
                raise
            return {}, lost

        def damaged() -> list[str]:
            return [p.key for p, path in zip(partitions, paths, strict=True) if not _has_size(path, p.size_bytes)]

        lost = damaged() if len(paths) <= STATS_INLINE_MAX else await asyncio.to_thread(damaged)
        return dict(zip(keys, paths, strict=True)), lost

    async def _freshen_all(
        self,
        view: View,
        stored: InstanceId,
        scope: InstanceScope,
        begins: Collection[datetime],
        allowance: Allowance,
        lost: Sequence[str],
    ) -> None:
        async def one(begin: datetime) -> None:
            await self._freshen(view, stored, scope, begin, allowance, lost)
            allowance.progress.buckets_done += 1

        allowance.progress.buckets += len(begins)
        # A query asks for a few buckets at a time, so however many it needs, the next query's are soon in turn.
        await together((one(begin) for begin in sorted(begins)), allowance.places)

    async def _freshen(
        self,
        view: View,
        stored: InstanceId,
        scope: InstanceScope,
        begin: datetime,
        allowance: Allowance,
        lost: Sequence[str],
    ) -> None:
        """Build a bucket, or wait for whoever is at it; a cancelled query does not stop what others wait for."""
        key = (stored.vid, begin)
        while (build := self._running.get(key)) is not None and build.has_read:
            # It may have read its source before this query's blocks came; building again finds out. All who wait here
            # wake together, before the next build reads anything: nobody waits twice.
            await build.outlast()
        if build is None:
            for other in list(self._running.values()):
                other.give_up()  # if nobody waits for it
            build = self._running[key] = SharedBuild()
            build.start(
                self._build(view, stored, scope, begin, build), partial(self._leave, key, build), self._patience_s
            )
        build.lost_keys.update(lost)
        await build.wait(allowance)

    def _leave(self, key: tuple[int, datetime], build: SharedBuild) -> None:
        if self._running.get(key) is build:
            del self._running[key]

    def _patience_s(self) -> float:
        """How long a build goes on that nobody waits for: it keeps a worker from those that somebody does."""
        return 0.0 if any(build.is_wanted for build in self._running.values()) else self._limits.abandoned_s_max

    async def _build(
        self, view: View, stored: InstanceId, scope: InstanceScope, begin: datetime, build: SharedBuild
    ) -> None:
        pause_s = LOCK_PAUSE_MIN_S
        while True:
            async with self._slots, self._catalog.bucket_lock(stored, begin) as locked:
                if locked:
                    await self._build_locked(view, stored, scope, begin, build)
                    return
            # Another server is at it. Neither a slot nor a connection waits with us: other buckets can use them.
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LOCK_PAUSE_MAX_S)

    async def _build_locked(
        self, view: View, stored: InstanceId, scope: InstanceScope, begin: datetime, build: SharedBuild
    ) -> None:
        for _ in range(_ATTEMPTS_MAX):
            build.has_read = True
            lost = bool(build.lost_keys) and begin in await self._catalog.buckets_of(stored, list(build.lost_keys))
            source = await self._catalog.read_source(stored, scope, begin)
            if not (source.state.dirty or build.whole or lost):
                return
            try:
                await self._make(view, stored, begin, source, build, lost=lost)
            except SwapConflictError as conflict:
                log.info("bucket.conflict", view_set=view.view_set, reason=str(conflict))
            else:
                return
        raise BackendUnavailableError(f"a bucket of {view.view_set} changed {_ATTEMPTS_MAX} times while it was built")

    async def _make(
        self, view: View, stored: InstanceId, begin: datetime, source: Source, build: SharedBuild, *, lost: bool
    ) -> None:
        timing = latest_timing(source.timings, view.block_order)
        whole = build.whole or lost
        plan = plan_bucket(source, view.block_order, view.writer_version, timing, self._limits.deltas_max, whole=whole)
        if plan.action is Action.KEEP:
            await self._catalog.mark_clean(stored, begin, source.state)
            return
        if lost:
            _require_all_blocks(source)
        if not build.under_way and not build.charge(view.view_set, plan.blocks):
            return  # nobody who waits for it may ask for so much
        build.under_way, build.sees_through = True, False
        scratch = self._scratch / f"build-{secrets.token_hex(8)}"
        scratch.mkdir(parents=True)
        try:
            built = await self._decoder.decode(view, stored.key, source, plan.blocks, scratch, build.see_through)
            build.see_through()
            await self._publish(view, stored, begin, source, plan, timing, built)
        finally:
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)

    async def _publish(
        self,
        view: View,
        stored: InstanceId,
        begin: datetime,
        source: Source,
        plan: BucketPlan,
        timing: LastTiming | None,
        built: Sequence[tuple[Sequence[Block], BuildResult]],
    ) -> None:
        """Move the files into the store and swap the catalog rows; on failure the objects go again."""
        blocks: dict[str, Block] = {block.block_id: block for block in source.blocks}
        files = [file for _, result in built for file in result.files]
        begin_ns = int(begin.timestamp()) * 1_000_000_000
        keys = [partition_key(stored.key.view_set, stored.key.instance, begin_ns) for _ in files]
        quarantined = [(blocks[block_id], error) for _, result in built for block_id, error in result.quarantined]
        replaces = plan.action is not Action.EXTEND
        intents = await self._catalog.reserve(keys, timedelta(seconds=self._limits.lease_s), self._owner)
        failpoint("reserve")
        try:
            for file, key in zip(files, keys, strict=True):
                await self._store.put_file(key, file.path)
                failpoint("write")
            failpoint("seal")
            await self._catalog.commit(
                Swap(
                    instance=stored,
                    bucket_begin=begin,
                    state=source.state,
                    replace=replaces,
                    partitions=tuple(
                        _partitions(built, dict(zip([f.path for f in files], keys, strict=True)), plan.first_ordinal)
                    ),
                    intents=intents,
                    digest=plan.digest,
                    blocks=len(source.blocks),
                    objects=sum(block.nb_objects for block in source.blocks),
                    max_insert_ns=max((block.insert_time_ns for block in source.blocks), default=None),
                    timing=timing,
                    missing_blocks=len(quarantined),
                    repaired_events=sum(result.repaired_events for _, result in built),
                    quarantined=tuple(quarantined),
                    sort_order=(view.begin_column,) if view.block_order is BlockOrder.EVENT_TIME else (),
                )
            )
            failpoint("commit")
        except SwapConflictError:
            await self._store.delete(keys)
            raise
        log.info(
            "bucket.committed",
            view_set=view.view_set,
            instance=stored.key.instance,
            bucket=begin.isoformat(),
            action=plan.action.value,
            blocks=sum(len(run) for run, _ in built),
            rows=sum(file.rows for file in files),
            size_bytes=sum(file.size_bytes for file in files),
            missing_blocks=len(quarantined),
        )
        for block, error in quarantined:
            log.warning("block.quarantined", block_id=block.block_id, view_set=view.view_set, error=error)


def _has_size(path: Path, size_bytes: int) -> bool:
    try:
        return path.stat().st_size == size_bytes
    except FileNotFoundError:
        return False  # it is pinned, so nothing of ours made room for others


def _not_made_again(view: View, instance: str, begins: Sequence[datetime], reason: str) -> BackendUnavailableError:
    if not begins:  # somebody else made them again; the trouble is another
        return BackendUnavailableError(reason)
    hours = ", ".join(f"{begin:%Y-%m-%d %H:%M}" for begin in sorted(begins)[:BUCKETS_NAMED_MAX])
    more = f" and {len(begins) - BUCKETS_NAMED_MAX} more" if len(begins) > BUCKETS_NAMED_MAX else ""
    return BackendUnavailableError(
        f"the files of {view.view_set} of {instance} with what came in the hour from {hours}{more} (UTC) are lost or"
        f" damaged and could not be made again: {reason}"
    )


def _require_all_blocks(source: Source) -> None:
    """Before partitions are made again only because a file is lost: they must not come out with fewer rows."""
    included = frozenset[str]().union(*source.included.values())
    gone = included - {block.block_id for block in source.blocks}
    if gone:
        raise BackendUnavailableError(
            f"{len(gone)} of the blocks that they were made from are not kept any more; restore the files from a backup,"
            " or ask for a time range without them"
        )


def _partitions(
    built: Sequence[tuple[Sequence[Block], BuildResult]], keys: Mapping[Path, str], first_ordinal: int
) -> list[NewPartition]:
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
                )
            )
            block_ids, missing = (), 0
    return found


def _scope(view: View, instance: str) -> InstanceScope:
    if instance == GLOBAL_INSTANCE:
        return InstanceScope(None, None, view.stream_tag)
    return InstanceScope(view.instance_kind, instance, view.stream_tag)
