"""The catalog of view instances, buckets and partitions in Postgres. Decides nothing: ``lakehouse.buckets.materialize`` does."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

from lakehouse.buckets.model import (
    BucketState,
    EstimatedBucket,
    InstanceGoneError,
    InstanceId,
    InstanceScope,
    Registration,
    Source,
    StoredBucket,
    StoredPartition,
    Swap,
    SwapConflictError,
    UnknownClock,
    ViewVersion,
)
from lakehouse.catalog.connect import ACQUIRE_TIMEOUT_S, database_errors
from lakehouse.catalog.queries import load
from lakehouse.errors import BackendUnavailableError
from lakehouse.model import (
    NS_PER_US,
    Block,
    BlockId,
    InstanceKind,
    JsonProperties,
    LastTiming,
    Process,
    ProcessId,
    Stream,
    StreamId,
    TimeRange,
    ViewKey,
)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SQL: Final = load("partitions")
FIRST_LOOK_S_MAX: Final = 600  # it reads all blocks that there are, about 100,000 a second; later ones read what is new
FIRST_LOOK_PAUSE_S: Final = 0.5  # until it is seen whether another's first look is done
CLOCKS_REMEMBERED_MAX: Final = 100_000  # forgetting them costs one look-up each
LOOK_BEHIND_MAX: Final = 1_000  # transactions that looks read again before one is recorded that found nothing new
_LOCK_WAIT_S: Final = 3600.0  # for a connection of the pool of locks; the caller has a deadline of its own


def microseconds(timestamp_ns: int, *, up: bool = False) -> datetime:
    """A nanosecond time as Postgres can keep it: rounded down, or up."""
    return _EPOCH + timedelta(microseconds=-(-timestamp_ns // NS_PER_US) if up else timestamp_ns // NS_PER_US)


class PartitionCatalog:
    """Statements over ``view_instances``, ``lakehouse_buckets`` and ``lakehouse_partitions``.

    Raises ``BackendUnavailableError`` when Postgres does not answer.
    """

    def __init__(self, pool: asyncpg.Pool, lock_pool: asyncpg.Pool, store_name: str) -> None:
        self._pool = pool
        self._lock_pool = lock_pool  # its own, so that builders who hold a lock never starve themselves
        self._store = store_name
        self._known_clocks: set[str] = set()  # instances of processes that said their tick frequency
        self._looks = {
            suffix: {
                look: _of_seen(look).replace("{unseen}", _SQL["unseen"]).replace("{fresh}", _SQL[f"fresh_of_{suffix}"])
                for look in ("has_fresh", "mark_fresh")
            }
            for suffix in ("global", "process", "stream")
        }
        self._sources = {
            suffix: _SQL["fetch_source"].replace("{blocks}", _SQL[f"blocks_of_{suffix}"])
            for suffix in ("global", "process", "stream")
        }

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """A pooled connection; its troubles become ``BackendUnavailableError``."""
        with database_errors():
            async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
                yield connection

    async def find_entity(self, kind: InstanceKind, instance: str) -> bool:
        """Whether the process or stream that an instance id names is registered."""
        async with self.connection() as connection:
            return await connection.fetchval(_SQL[f"find_{kind.value}"], uuid.UUID(instance)) is not None

    async def find_instance(self, key: ViewKey, version: ViewVersion) -> InstanceId | None:
        async with self.connection() as connection:
            vid = await connection.fetchval(
                _SQL["find_instance"], key.view_set, key.instance, version.schema_hash, version.writer_version
            )
        return None if vid is None else InstanceId(vid, key, version)

    async def add_instance(self, key: ViewKey, version: ViewVersion) -> InstanceId:
        async with self.connection() as connection:
            vid = await connection.fetchval(
                _SQL["add_instance"], key.view_set, key.instance, version.schema_hash, version.writer_version
            )
        return InstanceId(vid, key, version)

    async def look(
        self, instance: InstanceId, scope: InstanceScope, wanted: TimeRange, margin_s: float
    ) -> list[StoredBucket]:
        """Take note of blocks that came since the last look, then list the buckets that a reader of ``wanted`` needs.

        Args:
            margin_s: How far outside its claims an event of a block may lie that is not materialized yet.

        Raises:
            InstanceGoneError: Without its row nothing would be found, which is not the answer.
        """
        while True:
            async with self.connection() as connection:
                if await self._take_note(connection, instance, scope):
                    rows = await connection.fetch(
                        _of_seen("fetch_buckets"), *_named(instance), wanted.begin_ns, wanted.end_ns, float(margin_s)
                    )
                    break
            await asyncio.sleep(FIRST_LOOK_PAUSE_S)  # the caller has a deadline
        if not rows:
            raise _gone(instance)
        return _buckets(rows)

    async def _take_note(self, connection: Any, instance: InstanceId, scope: InstanceScope) -> bool:
        """Mark the buckets of blocks that came since the last look; false while another does so for the first time."""
        arguments = (*_named(instance), None if scope.instance is None else uuid.UUID(scope.instance), scope.tag)
        looks = self._looks[scope.suffix]
        state = await connection.fetchrow(looks["has_fresh"], *arguments, LOOK_BEHIND_MAX)
        if state is not None and not state["continuous"]:
            await continue_ids(connection)
            state = await connection.fetchrow(looks["has_fresh"], *arguments, LOOK_BEHIND_MAX)
        if state is None:
            raise _gone(instance)
        if state["first"]:
            async with connection.transaction():
                if await connection.fetchval(_SQL["claim_first_look"], instance.vid) is None:
                    return False
                await connection.execute(f"SET LOCAL statement_timeout = '{FIRST_LOOK_S_MAX}s'")
                await connection.execute(looks["mark_fresh"], *arguments, timeout=FIRST_LOOK_S_MAX)
        elif state["fresh"] or state["due"]:
            await connection.execute(looks["mark_fresh"], *arguments)
        return True

    async def known_missing(
        self, uses: Sequence[tuple[ViewKey, ViewVersion, TimeRange]], margin_s: float
    ) -> int | None:
        """Blocks that the last builds had to leave out of these instances and ranges; ``None``: none of the lake's."""
        keys = [key for key, _, _ in uses]
        versions = [version for _, version, _ in uses]
        ranges = [wanted for _, _, wanted in uses]
        async with self.connection() as connection:
            found: int | None = await connection.fetchval(
                _SQL["fetch_known_missing"],
                [key.view_set for key in keys],
                [key.instance for key in keys],
                [version.schema_hash for version in versions],
                [version.writer_version for version in versions],
                [wanted.begin_ns for wanted in ranges],
                [wanted.end_ns for wanted in ranges],
                float(margin_s),
            )
        return found

    async def all_partitions(self, instance: InstanceId) -> list[StoredPartition]:
        """Every partition of an instance, unpruned (tests compare with this)."""
        async with self.connection() as connection:
            return [_partition(row) for row in await connection.fetch(_SQL["fetch_all_partitions"], instance.vid)]

    async def unknown_clock(self, scope: InstanceScope) -> UnknownClock | None:
        """That of the instance's process, if its tick frequency is unknown and it has blocks."""
        if scope.instance is None or scope.instance in self._known_clocks:
            return None
        async with self.connection() as connection:
            process = await connection.fetchrow(_SQL["find_clock"], uuid.UUID(scope.instance))
            if process is None:
                return None
            if process["is_known"]:  # and remains so: a process is registered once
                if len(self._known_clocks) >= CLOCKS_REMEMBERED_MAX:
                    self._known_clocks.clear()
                self._known_clocks.add(scope.instance)
                return None
            timing = await connection.fetchrow(_SQL["find_timing"], process["process_id"])
        if timing["end_ticks"] is None:
            return None
        latest = LastTiming(timing["end_ticks"], timing["end_us"] * NS_PER_US)
        return UnknownClock(process["start_us"] * NS_PER_US, latest)

    async def estimated_buckets(
        self, instance: InstanceId, clock: UnknownClock, wanted: TimeRange, shift_ns: int
    ) -> list[EstimatedBucket]:
        """Those that a reader of ``wanted`` may find too far from where ``clock`` has them: by more than ``shift_ns``."""
        async with self.connection() as connection:
            rows = await connection.fetch(
                _SQL["fetch_estimated"],
                instance.vid,
                wanted.begin_ns,
                wanted.end_ns,
                clock.start_ns,
                clock.latest.end_ticks,
                clock.latest.end_time_ns,
                float(shift_ns),
            )
        return [
            EstimatedBucket(
                row["bucket_begin"],
                row["dirty"],
                LastTiming(row["timing_end_ticks"], row["timing_end_us"] * NS_PER_US),
                None if row["min_ns"] is None else TimeRange(row["min_ns"], row["max_ns"]),
            )
            for row in rows
        ]

    async def mark(self, instance: InstanceId, bucket_begin: datetime) -> None:
        """Make a bucket dirty by hand."""
        async with self.connection() as connection:
            await connection.execute(_SQL["mark_bucket"], instance.vid, bucket_begin)

    @asynccontextmanager
    async def bucket_lock(self, instance: InstanceId, bucket_begin: datetime) -> AsyncIterator[bool]:
        """Whether it is ours: only one holder among all servers. Waits for nobody.

        The lock goes with its connection, so a dead holder frees it.
        """
        name = f"{instance.vid}/{bucket_begin.isoformat()}"
        with database_errors():
            async with self._lock_pool.acquire(timeout=_LOCK_WAIT_S) as connection:
                locked = await connection.fetchval(_SQL["lock_bucket"], name)
                try:
                    yield locked
                finally:
                    if locked and not connection.is_closed():
                        await connection.execute(_SQL["unlock_bucket"], name)

    async def read_source(self, instance: InstanceId, scope: InstanceScope, bucket_begin: datetime) -> Source:
        """Everything a builder needs, in one snapshot.

        Raises:
            InstanceGoneError: There is no such bucket.
        """
        bucket_end = bucket_begin + timedelta(hours=1)
        async with self.connection() as connection:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                state = await connection.fetchrow(_of_seen("read_bucket"), *_named(instance), bucket_begin)
                if state is None:
                    raise _gone(instance)
                rows = await connection.fetch(
                    self._sources[scope.suffix],
                    None if scope.instance is None else uuid.UUID(scope.instance),
                    bucket_begin,
                    bucket_end,
                    scope.tag,
                )
                blocks = tuple(_block(row) for row in rows)
                streams = await connection.fetch(_SQL["weigh_streams"], list({row["stream_id"] for row in rows}))
                processes = await connection.fetch(_SQL["weigh_processes"], list({row["process_id"] for row in rows}))
                included = await connection.fetch(_SQL["fetch_included"], instance.vid, bucket_begin)
                timings = {}
                for process in processes:
                    if process["tsc_frequency"] <= 0:
                        timing = await connection.fetchrow(_SQL["find_timing"], process["process_id"])
                        timings[ProcessId(str(process["process_id"]))] = LastTiming(
                            timing["end_ticks"], timing["end_us"] * NS_PER_US
                        )
        return Source(
            state=BucketState(
                state["incarnation"], state["dirty"], state["marks"], state["generation"], state["src_digest"]
            ),
            blocks=blocks,
            streams={
                StreamId(str(row["stream_id"])): Registration(row["size_bytes"], row["digest"]) for row in streams
            },
            processes={
                ProcessId(str(row["process_id"])): Registration(row["size_bytes"], row["digest"]) for row in processes
            },
            timings=timings,
            included={
                row["ordinal"]: frozenset(BlockId(str(block_id)) for block_id in row["block_ids"]) for row in included
            },
        )

    async def registrations(self, blocks: Sequence[Block]) -> tuple[dict[ProcessId, Process], dict[StreamId, Stream]]:
        """What ``blocks`` refer to. It is what it was when their source was read: a registration never changes."""
        process_ids = {block.process_id for block in blocks}
        stream_ids = {block.stream_id for block in blocks}
        async with self.connection() as connection:
            processes = await connection.fetch(_SQL["fetch_processes"], list(map(uuid.UUID, process_ids)))
            streams = await connection.fetch(_SQL["fetch_streams"], list(map(uuid.UUID, stream_ids)))
        if (len(processes), len(streams)) != (len(process_ids), len(stream_ids)):
            raise BackendUnavailableError("a stream or process was removed while its blocks were read; ask again")
        return (
            {process.process_id: process for process in map(_process, processes)},
            {stream.stream_id: stream for stream in map(_stream, streams)},
        )

    async def buckets_of(self, instance: InstanceId, keys: Sequence[str]) -> list[datetime]:
        """The buckets whose partitions are in these objects."""
        async with self.connection() as connection:
            rows = await connection.fetch(_SQL["fetch_buckets_of"], instance.vid, list(keys))
        return [row["bucket_begin"] for row in rows]

    async def reserve(self, keys: Sequence[str], lease: timedelta, owner: str) -> tuple[uuid.UUID, ...]:
        """Write intents for objects that are about to be made, committed before this returns."""
        intents = tuple(uuid.uuid4() for _ in keys)
        async with self.connection() as connection:
            await connection.execute(
                _SQL["reserve"], uuid.uuid4(), owner, self._store, list(intents), list(keys), lease
            )
        return intents

    async def commit(self, swap: Swap) -> None:
        """Replace or extend a bucket in one transaction.

        Raises:
            SwapConflictError: Somebody else changed the bucket, or an intent was reaped.
            BackendUnavailableError: Also when the outcome cannot be found out; then the intents decide later.
        """
        try:
            async with self.connection() as connection:
                async with connection.transaction():
                    await self._swap(connection, swap)
        except BackendUnavailableError:
            if not await self._did_commit(swap):
                raise

    async def _swap(self, connection: Any, swap: Swap) -> None:
        vid, begin = swap.instance.vid, swap.bucket_begin
        state = await connection.fetchrow(_SQL["lock_generation"], vid, begin)
        if state is None or (state["incarnation"], state["generation"]) != (
            swap.state.incarnation,
            swap.state.generation,
        ):
            raise SwapConflictError(f"generation {swap.state.generation} of {begin} is not current")
        if not swap.replace and state["src_digest"] != swap.state.digest:
            raise SwapConflictError(f"some of what is to be added to in {begin} was removed")
        if swap.replace:
            await connection.execute(_SQL["retire"], vid, begin)
        generation = swap.state.generation + 1
        for partition in swap.partitions:
            object_id = None
            if partition.key is not None:
                object_id = await connection.fetchval(
                    _SQL["add_object"], self._store, partition.key, partition.size_bytes
                )
            await connection.execute(
                _SQL["add_partition"],
                vid,
                begin,
                partition.ordinal,
                generation,
                partition.min_event_ns,
                partition.max_event_ns,
                partition.key,
                partition.size_bytes,
                swap.digest,
                partition.rows,
                list(swap.sort_order) or None,
                None if partition.max_sort_key_ns is None else microseconds(partition.max_sort_key_ns, up=True),
                object_id,
                partition.missing_blocks,
                [uuid.UUID(block_id) for block_id in partition.block_ids],
                None if partition.min_event_ns is None else microseconds(partition.min_event_ns),
                None if partition.max_event_ns is None else microseconds(partition.max_event_ns, up=True),
            )
        await connection.execute(
            _SQL["finish_bucket"],
            vid,
            begin,
            state["marks"] != swap.state.marks,
            generation,
            swap.blocks,
            swap.objects,
            swap.digest,
            None if swap.max_insert_ns is None else microseconds(swap.max_insert_ns),
            None if swap.timing is None else swap.timing.end_ticks,
            None if swap.timing is None else microseconds(swap.timing.end_time_ns),
            swap.missing_blocks,
            0 if swap.replace else 1,
            swap.repaired_events,
        )
        if swap.quarantined:
            blocks = [block for block, _ in swap.quarantined]
            await connection.execute(
                _SQL["add_quarantined"],
                swap.instance.key.view_set,
                swap.instance.version.writer_version,
                [uuid.UUID(block.block_id) for block in blocks],
                [uuid.UUID(block.stream_id) for block in blocks],
                [uuid.UUID(block.process_id) for block in blocks],
                [error for _, error in swap.quarantined],
            )
        if swap.intents:
            status = await connection.execute(_SQL["finish_intents"], list(swap.intents))
            if status != f"DELETE {len(swap.intents)}":
                raise SwapConflictError("a write intent ran out before the commit")

    async def _did_commit(self, swap: Swap) -> bool:
        """After a lost answer: the intents go with the commit, so their absence proves it."""
        if not swap.intents:
            return False
        async with self.connection() as connection:
            return not await connection.fetch(_SQL["find_intents"], list(swap.intents))

    async def mark_clean(self, instance: InstanceId, bucket_begin: datetime, state: BucketState) -> None:
        """The bucket's partitions hold exactly the blocks that there are.

        Raises:
            SwapConflictError: The bucket is gone.
        """
        async with self.connection() as connection:
            status = await connection.execute(
                _SQL["clean_bucket"], instance.vid, bucket_begin, state.incarnation, state.marks
            )
        if status != "UPDATE 1":
            raise SwapConflictError(f"the bucket of {bucket_begin} was removed")

    async def seal_buckets(self) -> None:
        async with self.connection() as connection:
            await connection.execute(_SQL["seal_buckets"])

    async def fragmented_buckets(
        self,
        versions: Sequence[ViewVersion],
        files_max: int,
        limit: int,
        after: tuple[InstanceId, datetime] | None = None,
    ) -> list[tuple[InstanceId, datetime]]:
        """Sealed buckets of ``versions`` with more than ``files_max`` partitions, oldest first, those after ``after``."""
        vid, begin = (None, None) if after is None else (after[0].vid, after[1])
        async with self.connection() as connection:
            rows = await connection.fetch(_SQL["fetch_fragmented"], files_max, limit, *_columns(versions), begin, vid)
        return [(_instance(row), row["bucket_begin"]) for row in rows]

    async def unused_instances(
        self, versions: Sequence[ViewVersion], unused: timedelta, limit: int
    ) -> list[InstanceId]:
        """Instances of versions that no server has used for ``unused``, other than ``versions``."""
        async with self.connection() as connection:
            rows = await connection.fetch(_SQL["find_unused"], unused, limit, *_columns(versions))
        return [_instance(row) for row in rows]

    async def retire_instance(self, instance: InstanceId, unused: timedelta) -> bool:
        """Remove an instance and release its files; ``False`` if it has been used meanwhile."""
        async with self.connection() as connection:
            async with connection.transaction():
                if await connection.fetchval(_SQL["lock_unused"], instance.vid, unused) is None:
                    return False
                await connection.execute(_SQL["lock_buckets"], instance.vid)
                await connection.execute(_SQL["retire_all"], instance.vid)
                await connection.execute(_SQL["remove_instance"], instance.vid)
        return True

    async def claim_expired_intents(self, limit: int) -> list[tuple[uuid.UUID, str]]:
        async with self.connection() as connection:
            rows = await connection.fetch(_SQL["claim_expired_intents"], self._store, limit)
        return [(row["staged_id"], row["path"]) for row in rows]

    async def finish_reaped(self, intents: Sequence[uuid.UUID]) -> None:
        async with self.connection() as connection:
            await connection.execute(_SQL["finish_reaped"], list(intents))
            await connection.execute(_SQL["purge_reaped"])

    async def condemn_unreferenced(self, grace: timedelta, limit: int) -> list[tuple[int, str]]:
        """Objects that nobody can need any more, fenced against new references; delete them, then forget them."""
        async with self.connection() as connection:
            async with connection.transaction():
                claimed = await connection.fetch(_SQL["claim_unreferenced"], self._store, limit, grace)
                rows = await connection.fetch(_SQL["condemn"], [row["object_id"] for row in claimed])
        return [(row["object_id"], row["path"]) for row in rows]

    async def forget_objects(self, object_ids: Sequence[int]) -> None:
        async with self.connection() as connection:
            await connection.execute(_SQL["forget_objects"], list(object_ids))


async def continue_ids(connection: Any) -> None:
    """See to it that rows which come from now on get higher ids than all that there are, whatever cluster gave those."""
    if await connection.fetchval(_SQL["ids_continue"]):
        return  # as ever: the lock would wait for a running backup, and all ingestion for the lock
    async with connection.transaction():
        await connection.execute(_SQL["lock_transactions"])
        await connection.execute(_SQL["rebase"])


def _of_seen(name: str) -> str:
    return _SQL[name].replace("{seen}", _SQL["seen"])


def _named(instance: InstanceId) -> tuple[int, bytes, int, str, str]:
    """What ``seen`` asks for."""
    version, key = instance.version, instance.key
    return instance.vid, version.schema_hash, version.writer_version, key.view_set, key.instance


def _gone(instance: InstanceId) -> InstanceGoneError:
    return InstanceGoneError(f"view instance {instance.vid} is not {instance.key} any more, or is emptied")


def _columns(versions: Sequence[ViewVersion]) -> tuple[list[str], list[bytes], list[int]]:
    return (
        [version.view_set for version in versions],
        [version.schema_hash for version in versions],
        [version.writer_version for version in versions],
    )


def _instance(row: Any) -> InstanceId:
    version = ViewVersion(row["view_set"], row["schema_hash"], row["writer_version"])
    return InstanceId(row["vid"], ViewKey(row["view_set"], row["instance_id"]), version)


def _buckets(rows: Sequence[Any]) -> list[StoredBucket]:
    found: dict[datetime, tuple[Any, list[StoredPartition]]] = {}
    for row in rows:
        if row["bucket_begin"] is None:
            continue
        _, partitions = found.setdefault(row["bucket_begin"], (row, []))
        if row["file_path"] is not None:
            partitions.append(_partition(row))
    return [
        StoredBucket(
            begin=begin,
            dirty=row["dirty"],
            claimed_in_range=row["claimed_in_range"],
            missing_blocks=row["missing_blocks"],
            partitions=tuple(partitions),
        )
        for begin, (row, partitions) in found.items()
    ]


def _partition(row: Any) -> StoredPartition:
    return StoredPartition(
        row["file_path"], row["file_size"], row["num_rows"], row["min_event_ns"], row["max_event_ns"]
    )


def _block(row: Any) -> Block:
    return Block(
        block_id=BlockId(str(row["block_id"])),
        stream_id=StreamId(str(row["stream_id"])),
        process_id=ProcessId(str(row["process_id"])),
        begin_time_ns=row["begin_us"] * NS_PER_US,
        begin_ticks=row["begin_ticks"],
        end_time_ns=row["end_us"] * NS_PER_US,
        end_ticks=row["end_ticks"],
        nb_objects=row["nb_objects"],
        object_offset=row["object_offset"],
        payload_size=row["payload_size"],
        insert_time_ns=row["insert_us"] * NS_PER_US,
    )


def _stream(row: Any) -> Stream:
    return Stream(
        stream_id=StreamId(str(row["stream_id"])),
        process_id=ProcessId(str(row["process_id"])),
        dependencies_metadata=row["dependencies_metadata"],
        objects_metadata=row["objects_metadata"],
        tags=tuple(row["tags"]),
        properties=JsonProperties(row["properties"]),
        format=row["format"],
        insert_time_ns=row["insert_us"] * NS_PER_US,
    )


def _process(row: Any) -> Process:
    return Process(
        process_id=ProcessId(str(row["process_id"])),
        exe=row["exe"],
        username=row["username"],
        realname=row["realname"],
        computer=row["computer"],
        distro=row["distro"],
        cpu_brand=row["cpu_brand"],
        tsc_frequency=row["tsc_frequency"],
        start_time_ns=row["start_us"] * NS_PER_US,
        start_ticks=row["start_ticks"],
        insert_time_ns=row["insert_us"] * NS_PER_US,
        parent_process_id=None if row["parent_process_id"] is None else ProcessId(str(row["parent_process_id"])),
        properties=JsonProperties(row["properties"]),
    )
