"""The one thing that makes partitions: ``Materializer.ensure`` makes a view instance fresh for a range of event time.

A query calls it for what it is about to read, and maintenance calls it ahead of time. The unit is the bucket: the
blocks of one instance that came in one hour. Its partitions change in one transaction, so a reader sees a bucket as it
was or as it is. The order is the safety argument: source read in one snapshot, files built outside the store, write
intents committed, objects written, catalog rows swapped. A crash in between leaves an intent that names the orphan.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol

import structlog

from lakehouse.build import BuildJob, BuildResult, BuiltFile
from lakehouse.catalog.partitions import (
    InstanceId,
    InstanceScope,
    NewPartition,
    PartitionCatalog,
    Source,
    StoredBucket,
    StoredPartition,
    Swap,
    SwapConflictError,
)
from lakehouse.errors import BackendUnavailableError, InternalError, LimitExceededError, UnknownViewError
from lakehouse.failpoints import failpoint
from lakehouse.model import GLOBAL_INSTANCE, Block, BlockOrder, TimeRange, ViewKey
from lakehouse.planning import Action, is_stale_by_timing, latest_timing, plan_bucket, split_jobs
from lakehouse.ports import ObjectStore, View
from lakehouse.storage.paths import blob_key, partition_key

log = structlog.get_logger(__name__)

INSTANCES_REMEMBERED_MAX: Final = 100_000  # numbers of view instances; forgetting them costs one look-up each
_ATTEMPTS_MAX: Final = 4  # a swap is repeated when another server was faster


class WorkerCrashedError(Exception):
    """A build worker died or overran its time: some block is more than its decoder can take."""


class Builder(Protocol):
    """Runs ``lakehouse.build.build_bucket`` in a process of its own."""

    async def build(self, job: dict[str, Any], deadline_s: float) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class MaterializerLimits:
    """What one query may cause to be built, and how."""

    buckets_at_once: int = 4  # each holds a database connection for its lock
    freshen_bytes_max: int = 16 << 30  # payload bytes per query; committed buckets survive the error
    freshen_s_max: float = 600.0
    job_bytes_max: int = 32 << 20  # payload bytes per worker job, where blocks stand alone
    job_blocks_max: int = 2048
    job_s_max: float = 600.0
    deltas_max: int = 16  # partitions of an open bucket before it is made whole again
    margin_s: float = 300.0  # how far an event may lie outside what its block claims
    lease_s: float = 900.0  # how long a write intent protects its object


@dataclass(slots=True)
class Progress:
    """What a query is waiting for; read by whoever draws a progress line."""

    buckets: int = 0
    buckets_done: int = 0
    blocks: int = 0
    payload_bytes: int = 0

    def as_dict(self) -> dict[str, int]:
        return {
            "buckets": self.buckets,
            "buckets_done": self.buckets_done,
            "blocks": self.blocks,
            "payload_bytes": self.payload_bytes,
        }


@dataclass(frozen=True, slots=True)
class Freshened:
    """The partitions that a reader of the range needs."""

    partitions: tuple[StoredPartition, ...]
    missing_blocks: int


@dataclass(slots=True)
class _Building:
    """What is left of a query's allowance."""

    bytes_left: int
    progress: Progress = field(default_factory=Progress)


class Materializer:
    """Makes view instances fresh, one bucket at a time, each once however many ask."""

    def __init__(
        self,
        catalog: PartitionCatalog,
        store: ObjectStore,
        builder: Builder,
        scratch: Path,
        limits: MaterializerLimits,
        *,
        prune: bool = True,
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._builder = builder
        self._scratch = scratch
        self._limits = limits
        self._prune = prune  # a switch for tests: the choice of partitions must never change a result
        self._instances: dict[tuple[ViewKey, bytes, int], InstanceId] = {}
        self._running: dict[tuple[int, datetime], asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(limits.buckets_at_once)
        self._owner = f"{os.uname().nodename}/{os.getpid()}"

    async def ensure(self, view: View, instance: str, wanted: TimeRange, progress: Progress | None = None) -> Freshened:
        """Make the partitions of ``view`` for ``instance`` that rows in ``wanted`` may be in, and list them.

        Every block that was acknowledged before this call is in them, or counted as missing.

        Raises:
            UnknownViewError: No such process or stream.
            LimitExceededError: More to build than one query may ask for; what was built stays.
            BackendUnavailableError: Postgres or the object store.
        """
        stored = await self._instance(view, instance)
        scope = _scope(view, instance)
        building = _Building(self._limits.freshen_bytes_max, progress or Progress())
        try:
            async with asyncio.timeout(self._limits.freshen_s_max):
                buckets = await self._look(stored, scope, wanted, view)
                stale = [bucket for bucket in buckets if bucket.dirty and bucket.claimed_in_range]
                if stale:
                    building.progress.buckets += len(stale)
                    await self._freshen_all(view, stored, scope, stale, building)
                    buckets = await self._look(stored, scope, wanted, view)
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
        await self._build(view, stored, _scope(view, stored.key.instance), bucket_begin, None, whole=True)

    async def _instance(self, view: View, instance: str) -> InstanceId:
        key = ViewKey(view.view_set, instance)
        schema_hash = hashlib.blake2b(view.schema.serialize().to_pybytes(), digest_size=8).digest()
        cached = self._instances.get((key, schema_hash, view.writer_version))
        if cached is not None:
            return cached
        found = await self._catalog.find_instance(key, schema_hash, view.writer_version)
        if found is None:
            if instance != GLOBAL_INSTANCE and not await self._catalog.find_entity(view.instance_kind, instance):
                raise UnknownViewError(f"{view.instance_kind.value} {instance} not found")
            found = await self._catalog.add_instance(key, schema_hash, view.writer_version)
        if len(self._instances) >= INSTANCES_REMEMBERED_MAX:
            self._instances.clear()
        self._instances[(key, schema_hash, view.writer_version)] = found
        return found

    async def _look(
        self, stored: InstanceId, scope: InstanceScope, wanted: TimeRange, view: View
    ) -> list[StoredBucket]:
        buckets = await self._catalog.look(stored, scope, wanted if self._prune else TimeRange(), self._limits.margin_s)
        if view.block_order is BlockOrder.EVENT_TIME and any(bucket.timing is not None for bucket in buckets):
            clock = await self._catalog.unknown_clock(scope)
            if clock is not None:
                for index, bucket in enumerate(buckets):
                    if not bucket.dirty and is_stale_by_timing(bucket, *clock):
                        await self._catalog.mark(stored, bucket.begin)
                        buckets[index] = replace(bucket, dirty=True, claimed_in_range=True)
        return buckets

    async def _freshen_all(
        self,
        view: View,
        stored: InstanceId,
        scope: InstanceScope,
        stale: Sequence[StoredBucket],
        building: _Building,
    ) -> None:
        async def one(bucket: StoredBucket) -> None:
            await self._freshen(view, stored, scope, bucket.begin, building)
            building.progress.buckets_done += 1

        try:
            async with asyncio.TaskGroup() as group:
                for bucket in stale:
                    group.create_task(one(bucket))
        except ExceptionGroup as group_error:
            raise group_error.exceptions[0] from None

    async def _freshen(
        self, view: View, stored: InstanceId, scope: InstanceScope, begin: datetime, building: _Building
    ) -> None:
        """Build a bucket, or wait for whoever is at it; a cancelled query does not stop what others wait for."""
        key = (stored.vid, begin)
        running = self._running.get(key)
        if running is not None:
            # It may have read its source before this query's blocks came; building again finds out.
            await asyncio.wait([running])
        if (running := self._running.get(key)) is None:
            running = asyncio.create_task(self._build(view, stored, scope, begin, building))
            self._running[key] = running
            running.add_done_callback(lambda _: self._running.pop(key, None))
        # Begun by this query or by another waiter, and after this query looked: it sees what this query saw.
        await asyncio.shield(running)

    async def _build(
        self,
        view: View,
        stored: InstanceId,
        scope: InstanceScope,
        begin: datetime,
        building: _Building | None,
        *,
        whole: bool = False,
    ) -> None:
        async with self._slots, self._catalog.bucket_lock(stored, begin):
            for _ in range(_ATTEMPTS_MAX):
                source = await self._catalog.read_source(stored, scope, begin)
                if source is None or not (source.state.dirty or whole):
                    return
                try:
                    await self._make(view, stored, begin, source, building, whole=whole)
                except SwapConflictError as conflict:
                    log.info("bucket.conflict", view_set=view.view_set, reason=str(conflict))
                else:
                    return
        raise BackendUnavailableError(f"a bucket of {view.view_set} changed {_ATTEMPTS_MAX} times while it was built")

    async def _make(
        self,
        view: View,
        stored: InstanceId,
        begin: datetime,
        source: Source,
        building: _Building | None,
        *,
        whole: bool,
    ) -> None:
        timing = latest_timing(source.timings, view.block_order)
        plan = plan_bucket(source, view.block_order, view.writer_version, timing, self._limits.deltas_max, whole=whole)
        if plan.action is Action.KEEP:
            await self._catalog.mark_clean(stored, begin, source.state)
            return
        if building is not None:
            self._charge(building, view, plan.blocks)
        scratch = self._scratch / f"build-{secrets.token_hex(8)}"
        scratch.mkdir(parents=True)
        try:
            runs = list(
                split_jobs(plan.blocks, view.block_order, self._limits.job_bytes_max, self._limits.job_blocks_max)
            )
            results = await asyncio.gather(
                *(self._run(view, stored.key, source, run, scratch, index) for index, run in enumerate(runs))
            )
            await self._publish(
                view,
                stored,
                begin,
                source,
                plan.action,
                plan.digest,
                plan.first_ordinal,
                timing,
                list(zip(runs, results, strict=True)),
            )
        finally:
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)

    def _charge(self, building: _Building, view: View, blocks: Sequence[Block]) -> None:
        size = sum(block.payload_size for block in blocks)
        building.bytes_left -= size
        building.progress.blocks += len(blocks)
        building.progress.payload_bytes += size
        if building.bytes_left < 0:
            raise LimitExceededError(
                f"this query needs more than {self._limits.freshen_bytes_max} bytes of blocks of {view.view_set}"
                " decoded at once; what is done is kept: ask again, or for a shorter time range"
            )

    async def _run(
        self, view: View, key: ViewKey, source: Source, blocks: Sequence[Block], scratch: Path, index: int
    ) -> BuildResult:
        """Decode a run of blocks in a worker; if one of them kills it, find that one and leave it out."""
        paths = await self._localize(blocks)
        killers: dict[str, str] = {}
        for attempt in range(_ATTEMPTS_MAX):
            output = scratch / f"{index}-{attempt}"
            output.mkdir()
            kept = [block for block in blocks if block.block_id not in killers]
            try:
                result = await self._run_job(view, key, source, kept, paths, output)
            except WorkerCrashedError as crash:
                log.error("build.crashed", view_set=view.view_set, blocks=len(kept), reason=str(crash))
                killers |= await self._find_killers(view, key, source, kept, paths, scratch)
            else:
                return replace(result, quarantined=(*result.quarantined, *killers.items()))
        raise InternalError(f"the blocks of a bucket of {view.view_set} could not be decoded")

    async def _run_job(
        self,
        view: View,
        key: ViewKey,
        source: Source,
        blocks: Sequence[Block],
        paths: Mapping[str, Path],
        output: Path,
    ) -> BuildResult:
        job = BuildJob(
            view_set=key.view_set,
            instance=key.instance,
            processes=tuple(source.processes.values()),
            streams=tuple(source.streams.values()),
            blocks=tuple(blocks),
            timings=dict(source.timings),
            output_dir=output,
        )
        message = job.to_message() | {"paths": [str(paths[block.block_id]) for block in blocks]}
        answer = await self._builder.build(message, self._limits.job_s_max)
        return BuildResult.from_message(answer, output, frozenset(block.block_id for block in blocks))

    async def _find_killers(
        self,
        view: View,
        key: ViewKey,
        source: Source,
        blocks: Sequence[Block],
        paths: Mapping[str, Path],
        scratch: Path,
    ) -> dict[str, str]:
        """Halve the blocks until each that kills a worker stands alone."""
        killers: dict[str, str] = {}
        suspects = [list(blocks)]
        while suspects:
            group = suspects.pop()
            output = scratch / f"probe-{secrets.token_hex(4)}"
            output.mkdir()
            try:
                await self._run_job(view, key, source, group, paths, output)
            except WorkerCrashedError as crash:
                if len(group) == 1:
                    killers[group[0].block_id] = f"its decoder died: {crash}"
                else:
                    middle = len(group) // 2
                    suspects += [group[:middle], group[middle:]]
            finally:
                await asyncio.to_thread(shutil.rmtree, output, ignore_errors=True)
        return killers

    async def _localize(self, blocks: Sequence[Block]) -> dict[str, Path]:
        keys = [blob_key(block.process_id, block.stream_id, block.block_id) for block in blocks]
        paths = await self._store.localize(keys)

        def check() -> None:
            for block, path in zip(blocks, paths, strict=True):
                try:
                    size = path.stat().st_size
                except FileNotFoundError:
                    raise BackendUnavailableError(
                        f"the payload of block {block.block_id} is not in the store"
                    ) from None
                if size != block.payload_size:
                    raise BackendUnavailableError(
                        f"the payload of block {block.block_id} has {size} bytes in the store, not {block.payload_size}"
                    )

        await asyncio.to_thread(check)
        return {block.block_id: path for block, path in zip(blocks, paths, strict=True)}

    async def _publish(
        self,
        view: View,
        stored: InstanceId,
        begin: datetime,
        source: Source,
        action: Action,
        digest: bytes,
        first_ordinal: int,
        timing: Any,
        built: Sequence[tuple[Sequence[Block], BuildResult]],
    ) -> None:
        """Move the files into the store and swap the catalog rows; on failure the objects go again."""
        blocks: dict[str, Block] = {block.block_id: block for block in source.blocks}
        files = [file for _, result in built for file in result.files]
        begin_ns = int(begin.timestamp()) * 1_000_000_000
        keys = [partition_key(stored.key.view_set, stored.key.instance, begin_ns) for _ in files]
        quarantined = [(blocks[block_id], error) for _, result in built for block_id, error in result.quarantined]
        replaces = action is not Action.EXTEND
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
                        _partitions(built, dict(zip([f.path for f in files], keys, strict=True)), first_ordinal)
                    ),
                    intents=intents,
                    digest=digest,
                    blocks=len(source.blocks),
                    objects=sum(block.nb_objects for block in source.blocks),
                    max_insert_ns=max((block.insert_time_ns for block in source.blocks), default=None),
                    timing=timing,
                    missing_blocks=len(quarantined),
                    repaired_events=sum(result.repaired_events for _, result in built),
                    quarantined=tuple(quarantined),
                    sort_order=(view.begin_column,) if view.block_order is BlockOrder.EVENT_TIME else (),
                    view_set=view.view_set,
                    writer_version=view.writer_version,
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
            action=action.value,
            blocks=sum(len(run) for run, _ in built),
            rows=sum(file.rows for file in files),
            size_bytes=sum(file.size_bytes for file in files),
            missing_blocks=len(quarantined),
        )
        for block, error in quarantined:
            log.warning("block.quarantined", block_id=block.block_id, view_set=view.view_set, error=error)


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
