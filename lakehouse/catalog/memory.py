"""The catalog in memory: the same promises as in Postgres, for tests, and to read what they are without SQL.

One process's, gone with it. Every call is over before another begins, so each is a transaction.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from lakehouse.buckets.model import (
    HOUR,
    BucketState,
    EstimatedBucket,
    HeldBucket,
    InstanceGoneError,
    InstanceId,
    InstanceScope,
    Lease,
    LeaseLostError,
    MergedBucket,
    MergeSource,
    MergeSwap,
    NewPartition,
    PartitionFile,
    PartitionsOf,
    Registration,
    Retired,
    Source,
    StoredBucket,
    StoredPartition,
    Swap,
    SwapConflictError,
    UnknownClock,
    ViewVersion,
)
from lakehouse.errors import BackendUnavailableError
from lakehouse.model import (
    BUCKET_SECONDS,
    DAY_SECONDS,
    Block,
    BlockId,
    InstanceKind,
    LastTiming,
    Process,
    ProcessId,
    Stream,
    StreamId,
    TimeRange,
    ViewKey,
)

NS_PER_S: Final = 1_000_000_000
CALL_S: Final = 0.001  # of those that matter, as long as one of a database takes: others have their turn
SAFE_HORIZON: Final = timedelta(seconds=10)
DAY: Final = timedelta(seconds=DAY_SECONDS)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class _Bucket:
    begin: datetime
    min_claimed_ns: int
    max_claimed_ns: int
    length: timedelta = HOUR
    incarnation: uuid.UUID = field(default_factory=uuid.uuid4)
    dirty: bool = True
    marks: int = 1
    generation: int = 0
    sealed: bool = False
    whole: bool = False
    frozen: bool = False
    settled: bool = False
    digest: bytes | None = None
    timing: LastTiming | None = None
    missing_blocks: int = 0
    repaired_events: int = 0
    partitions: dict[int, NewPartition] = field(default_factory=dict)

    @property
    def end(self) -> datetime:
        return self.begin + self.length

    @property
    def state(self) -> BucketState:
        return BucketState(
            self.incarnation, self.dirty, self.marks, self.generation, self.digest, self.frozen, self.length
        )

    @property
    def size_bytes(self) -> int:
        return sum(partition.size_bytes for partition in self.partitions.values())

    @property
    def stored(self) -> Iterator[StoredPartition]:
        for _, partition in sorted(self.partitions.items()):
            if partition.key is not None and partition.min_event_ns is not None and partition.max_event_ns is not None:
                yield StoredPartition(
                    partition.key,
                    partition.size_bytes,
                    partition.rows,
                    partition.min_event_ns,
                    partition.max_event_ns,
                    partition.tail_digest,
                )


@dataclass(slots=True)
class _Instance:
    id: InstanceId
    used: datetime
    looked_before: int = 0  # rows with a lower number were seen
    buckets: dict[datetime, _Bucket] = field(default_factory=dict)


@dataclass(slots=True)
class _Object:
    object_id: int
    sha256: bytes | None
    released: datetime | None = None  # None: a partition names it


@dataclass(slots=True)
class _Intent:
    key: str
    expires: datetime
    state: str = "open"


@dataclass(slots=True)
class _Hold:
    lease: Lease
    owner: str
    expires: datetime


class MemoryCatalog:
    """Implements ``lakehouse.buckets.catalog.BucketCatalog``.

    What ingestion would write comes by ``add_*``; what an operator would change by hand is changed in the mappings.
    """

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self.quarantined: dict[tuple[str, str, int], str] = {}  # block, view set, writer version -> why
        self.processes: dict[ProcessId, Process] = {}
        self.streams: dict[StreamId, Stream] = {}
        self.blocks: dict[BlockId, Block] = {}
        self._numbers: dict[str, int] = {}  # of rows, by their id, in the order they came
        self._instances: dict[int, _Instance] = {}
        self._objects: dict[str, _Object] = {}
        self._intents: dict[uuid.UUID, _Intent] = {}
        self._holds: dict[tuple[int, datetime], _Hold] = {}
        self._last = 0

    # what programs send

    def add_process(self, process: Process) -> None:
        """A registration counts once."""
        if process.process_id not in self.processes:
            self.processes[process.process_id] = process
            self._numbers[process.process_id] = self._next()

    def add_stream(self, stream: Stream) -> None:
        if stream.stream_id not in self.streams:
            self.streams[stream.stream_id] = stream
            self._numbers[stream.stream_id] = self._next()

    def add_block(self, block: Block) -> None:
        if block.block_id not in self.blocks:
            self.blocks[block.block_id] = block
            self._numbers[block.block_id] = self._next()

    # what there is, for whoever looks from outside

    @property
    def object_keys(self) -> set[str]:
        return set(self._objects)

    @property
    def instances(self) -> list[InstanceId]:
        return [known.id for known in self._instances.values()]

    @property
    def partitions(self) -> list[NewPartition]:
        return [made for _, bucket in self._all_buckets() for _, made in sorted(bucket.partitions.items())]

    @property
    def open_intents(self) -> int:
        return sum(intent.state == "open" for intent in self._intents.values())

    @property
    def leases(self) -> int:
        return len(self._holds)

    def forget_digests(self) -> None:
        """As if an older version had written all partitions."""
        for _, bucket in self._all_buckets():
            bucket.partitions = {
                ordinal: replace(made, sha256=None, tail_digest=None) for ordinal, made in bucket.partitions.items()
            }
        for known in self._objects.values():
            known.sha256 = None

    def forget_buckets(self) -> None:
        """As when an operator empties the tables: all instances look from the start."""
        for known, bucket in self._all_buckets():
            self._release(bucket.partitions.values())
            known.looked_before = 0
        for known in self._instances.values():
            known.buckets = {}

    # looks

    async def find_entity(self, kind: InstanceKind, instance: str) -> bool:
        return instance in (self.processes if kind is InstanceKind.PROCESS else self.streams)

    async def find_instance(self, key: ViewKey, version: ViewVersion) -> InstanceId | None:
        return next((i.id for i in self._instances.values() if (i.id.key, i.id.version) == (key, version)), None)

    async def add_instance(self, key: ViewKey, version: ViewVersion) -> InstanceId:
        found = await self.find_instance(key, version)
        if found is None:
            found = InstanceId(self._next(), key, version)
            self._instances[found.vid] = _Instance(found, self._now())
        return found

    async def look(
        self, instance: InstanceId, scope: InstanceScope, wanted: TimeRange, margin_s: float
    ) -> list[StoredBucket]:
        await asyncio.sleep(CALL_S)
        known = self._known(instance)
        for block in self._blocks_of(scope):
            numbers = (self._numbers[id_] for id_ in (block.block_id, block.stream_id, block.process_id))
            if max(numbers) >= known.looked_before:
                self._note(known, block)
        known.looked_before = self._next()
        known.used = self._now()
        margin_ns = round(margin_s * NS_PER_S)
        found = []
        for begin, bucket in sorted(known.buckets.items()):
            claimed = TimeRange(bucket.min_claimed_ns - margin_ns, bucket.max_claimed_ns + margin_ns)
            is_claimed = not wanted.intersect(claimed).is_empty
            partitions = tuple(
                stored
                for stored in bucket.stored
                if not wanted.intersect(TimeRange(stored.min_event_ns, stored.max_event_ns)).is_empty
            )
            if is_claimed or partitions:
                found.append(StoredBucket(begin, bucket.dirty, is_claimed, bucket.missing_blocks, partitions))
        return found

    async def known_missing(
        self, uses: Sequence[tuple[ViewKey, ViewVersion, TimeRange]], margin_s: float
    ) -> int | None:
        if not self.quarantined:
            return None
        margin_ns = round(margin_s * NS_PER_S)
        missing = 0
        for key, version, wanted in uses:
            found = await self.find_instance(key, version)
            for bucket in self._instances[found.vid].buckets.values() if found is not None else ():
                claimed = TimeRange(bucket.min_claimed_ns - margin_ns, bucket.max_claimed_ns + margin_ns)
                if not wanted.intersect(claimed).is_empty:
                    missing += bucket.missing_blocks
        return missing

    async def all_partitions(self, instance: InstanceId) -> list[StoredPartition]:
        return [stored for _, bucket in sorted(self._known(instance).buckets.items()) for stored in bucket.stored]

    async def unknown_clock(self, scope: InstanceScope) -> UnknownClock | None:
        if scope.instance is None:
            return None
        stream = self.streams.get(StreamId(scope.instance))
        process = self.processes.get(ProcessId(scope.instance) if stream is None else stream.process_id)
        if process is None or process.tsc_frequency > 0:
            return None
        timing = self._timing(process.process_id)
        return None if timing is None else UnknownClock(process.start_time_ns, timing)

    async def estimated_buckets(
        self, instance: InstanceId, clock: UnknownClock, wanted: TimeRange, shift_ns: int
    ) -> list[EstimatedBucket]:
        """All that rest on an estimate: whoever asks decides again."""
        found = []
        for begin, bucket in sorted(self._known(instance).buckets.items()):
            if bucket.timing is None or bucket.frozen or not bucket.partitions:
                continue
            stored = list(bucket.stored)
            events = (
                TimeRange(min(s.min_event_ns for s in stored), max(s.max_event_ns for s in stored)) if stored else None
            )
            found.append(EstimatedBucket(begin, bucket.dirty, bucket.timing, events))
        return found

    async def mark(self, instance: InstanceId, bucket_begin: datetime) -> None:
        bucket = self._known(instance).buckets.get(bucket_begin)
        if bucket is not None:
            bucket.dirty = True
            bucket.marks += 1

    # rows

    async def read_source(self, instance: InstanceId, scope: InstanceScope, bucket_begin: datetime) -> Source:
        await asyncio.sleep(CALL_S)
        bucket = self._bucket(instance, bucket_begin)
        included = {ordinal: frozenset(made.block_ids) for ordinal, made in sorted(bucket.partitions.items())}
        return self._source(scope, bucket_begin, bucket.state, included)

    async def read_merge(
        self, instance: InstanceId, scope: InstanceScope, begin: datetime, length: timedelta
    ) -> MergeSource:
        await asyncio.sleep(CALL_S)
        buckets = self._between(instance, begin, begin + length)
        partitions = tuple(made for bucket in buckets for _, made in sorted(bucket.partitions.items()))
        state = BucketState(uuid.UUID(int=0), False, 0, 0, None, length=length)
        included = frozenset[BlockId]().union(*(made.block_ids for made in partitions))
        return MergeSource(
            tuple(MergedBucket(bucket.begin, bucket.state, bucket.sealed, bucket.timing) for bucket in buckets),
            partitions,
            self._source(scope, begin, state, {0: included}),
        )

    def _source(
        self,
        scope: InstanceScope,
        begin: datetime,
        state: BucketState,
        included: Mapping[int, frozenset[BlockId]],
    ) -> Source:
        begin_ns, end_ns = _ns(begin), _ns(begin + state.length)
        blocks = [block for block in self._blocks_of(scope) if begin_ns <= block.insert_time_ns < end_ns]
        blocks.sort(key=lambda block: (block.insert_time_ns, block.block_id))
        processes = {block.process_id for block in blocks}
        timings = {
            process_id: timing
            for process_id in processes
            if self.processes[process_id].tsc_frequency <= 0 and (timing := self._timing(process_id)) is not None
        }
        return Source(
            state=state,
            blocks=tuple(blocks),
            streams={id_: _weigh_stream(self.streams[id_]) for id_ in {block.stream_id for block in blocks}},
            processes={id_: _weigh_process(self.processes[id_]) for id_ in processes},
            timings=timings,
            included=included,
        )

    async def find_block(self, block_id: str) -> Block | None:
        block = self.blocks.get(BlockId(block_id))
        if block is None or block.stream_id not in self.streams or block.process_id not in self.processes:
            return None
        return block

    async def registrations(self, blocks: Sequence[Block]) -> tuple[dict[ProcessId, Process], dict[StreamId, Stream]]:
        try:
            return (
                {block.process_id: self.processes[block.process_id] for block in blocks},
                {block.stream_id: self.streams[block.stream_id] for block in blocks},
            )
        except KeyError:
            raise BackendUnavailableError(
                "a stream or process was removed while its blocks were read; ask again"
            ) from None

    # buckets

    async def take_lease(self, lease: Lease, owner: str, lasts: timedelta) -> bool:
        await asyncio.sleep(CALL_S)
        bucket = (lease.instance.vid, lease.bucket_begin)
        held = self._holds.get(bucket)
        if held is not None and held.expires >= self._now():
            return False
        self._holds[bucket] = _Hold(lease, owner, self._now() + lasts)
        return True

    async def lease_owner(self, instance: InstanceId, bucket_begin: datetime) -> str | None:
        held = self._holds.get((instance.vid, bucket_begin))
        return None if held is None else held.owner

    async def renew_leases(self, leases: Sequence[Lease], lasts: timedelta) -> None:
        for lease in leases:
            if self._holds_still(lease):
                self._holds[(lease.instance.vid, lease.bucket_begin)].expires = self._now() + lasts

    async def drop_lease(self, lease: Lease) -> None:
        if self._holds_still(lease):
            del self._holds[(lease.instance.vid, lease.bucket_begin)]

    async def forget_leases(self, expired: timedelta) -> None:
        since = self._now() - expired
        self._holds = {bucket: held for bucket, held in self._holds.items() if held.expires >= since}

    async def buckets_of(self, instance: InstanceId, keys: Sequence[str]) -> list[datetime]:
        wanted = set(keys)
        return [
            begin
            for begin, bucket in sorted(self._known(instance).buckets.items())
            if any(stored.key in wanted for stored in bucket.stored)
        ]

    async def commit(self, swap: Swap) -> None:
        await asyncio.sleep(CALL_S)
        self._check(swap)
        bucket = self._known(swap.instance).buckets[swap.bucket_begin]
        if swap.replace:
            self._release(bucket.partitions.values())
            bucket.partitions = {}
            bucket.missing_blocks = bucket.repaired_events = 0
        self._add(bucket, swap.partitions)
        bucket.dirty = bucket.marks != swap.state.marks
        bucket.whole = swap.replace and bucket.length == HOUR
        bucket.generation += 1
        bucket.digest = swap.digest
        bucket.timing = swap.timing
        bucket.missing_blocks += swap.missing_blocks
        bucket.repaired_events += swap.repaired_events
        for block, error in swap.quarantined:
            version = swap.instance.version
            self.quarantined[(block.block_id, version.view_set, version.writer_version)] = error
        await self._end(swap.intents, swap.lease)

    async def merge(self, swap: MergeSwap) -> None:
        await asyncio.sleep(CALL_S)
        if not self._holds_still(swap.lease):
            raise LeaseLostError(f"the lease of {swap.begin} was not renewed in time")
        known = self._instances.get(swap.instance.vid)
        end = swap.begin + swap.length
        merged = [] if known is None else self._between(swap.instance, swap.begin, end)
        were = {bucket.begin: bucket.state for bucket in swap.buckets}
        if (
            known is None
            or {bucket.begin: bucket.state for bucket in merged} != were
            or any(bucket.dirty or not bucket.sealed or bucket.end > end for bucket in merged)
        ):
            raise SwapConflictError(f"the buckets from {swap.begin} to {end} are not what they were")
        self._check_intents(swap.intents)
        for bucket in merged:
            self._release(bucket.partitions.values())
            del known.buckets[bucket.begin]
        made = known.buckets[swap.begin] = _Bucket(
            swap.begin,
            min(bucket.min_claimed_ns for bucket in merged),
            max(bucket.max_claimed_ns for bucket in merged),
            swap.length,
            dirty=False,
            marks=max(bucket.marks for bucket in merged),
            generation=max(bucket.generation for bucket in merged) + 1,
            sealed=True,
            whole=swap.whole,
            frozen=any(bucket.frozen for bucket in merged),
            settled=swap.length > HOUR,
            digest=swap.digest,
            timing=swap.timing,
            missing_blocks=_or(swap.missing_blocks, sum(bucket.missing_blocks for bucket in merged)),
            repaired_events=_or(swap.repaired_events, sum(bucket.repaired_events for bucket in merged)),
        )
        self._add(made, swap.partitions)
        await self._end(swap.intents, swap.lease)

    async def mark_clean(
        self, instance: InstanceId, bucket_begin: datetime, state: BucketState, missing_blocks: int | None = None
    ) -> None:
        known = self._instances.get(instance.vid)
        bucket = None if known is None else known.buckets.get(bucket_begin)
        if bucket is None or bucket.incarnation != state.incarnation:
            raise SwapConflictError(f"the bucket of {bucket_begin} was removed")
        bucket.dirty = bucket.marks != state.marks
        if missing_blocks is not None:
            bucket.missing_blocks = missing_blocks

    async def freeze(self, instance: InstanceId, bucket_begin: datetime) -> bool:
        bucket = self._known(instance).buckets.get(bucket_begin)
        if bucket is None or bucket.frozen or bucket.dirty or not bucket.sealed or bucket.digest is None:
            return False
        bucket.frozen = True
        bucket.generation += 1
        return True

    async def seal_buckets(self) -> None:
        for _, bucket in self._all_buckets():
            if not bucket.dirty and bucket.end < self._now() - SAFE_HORIZON:
                bucket.sealed = True

    async def fragmented_buckets(
        self,
        versions: Sequence[ViewVersion],
        files_max: int,
        limit: int,
        after: tuple[InstanceId, datetime] | None = None,
    ) -> list[tuple[InstanceId, datetime]]:
        first = None if after is None else (after[1], after[0].vid)
        found = [
            (bucket.begin, known.id.vid, known.id)
            for known, bucket in self._all_buckets()
            if known.id.version in versions
            and bucket.sealed
            and not (bucket.dirty or bucket.whole)
            and len(bucket.partitions) > files_max
        ]
        later = sorted(item for item in found if first is None or item[:2] > first)
        return [(instance, begin) for begin, _, instance in later[:limit]]

    async def mergeable_days(
        self,
        versions: Sequence[ViewVersion],
        bytes_max: int,
        limit: int,
        after: tuple[InstanceId, datetime] | None = None,
    ) -> list[tuple[InstanceId, datetime]]:
        first = None if after is None else (after[1], after[0].vid)
        closed = _day_of(self._now() - HOUR)
        found = []
        for known in self._instances.values():
            if known.id.version not in versions:
                continue
            for day in sorted({_day_of(b.begin) for b in known.buckets.values() if not b.settled}):
                buckets = self._between(known.id, day, day + DAY)
                if day >= closed or not all(bucket.sealed and not bucket.dirty for bucket in buckets):
                    continue
                if len(buckets) == 1 or sum(bucket.size_bytes for bucket in buckets) > bytes_max:
                    for bucket in buckets:
                        bucket.settled = True
                elif len({bucket.frozen for bucket in buckets}) == 1:
                    found.append((day, known.id.vid, known.id))
        later = sorted(item for item in found if first is None or item[:2] > first)
        return [(instance, day) for day, _, instance in later[:limit]]

    async def unused_instances(
        self, versions: Sequence[ViewVersion], unused: timedelta, limit: int
    ) -> list[InstanceId]:
        last_used: dict[ViewVersion, datetime] = {}
        for known in self._instances.values():
            last_used[known.id.version] = max(known.used, last_used.get(known.id.version, known.used))
        found = [
            known.id
            for _, known in sorted(self._instances.items())
            if known.id.version not in versions and last_used[known.id.version] < self._now() - unused
        ]
        return found[:limit]

    async def retire_instance(self, instance: InstanceId, unused: timedelta) -> bool:
        known = self._instances.get(instance.vid)
        if known is None or known.used >= self._now() - unused:
            return False
        for bucket in known.buckets.values():
            self._release(bucket.partitions.values())
        del self._instances[instance.vid]
        return True

    async def stale_buckets(self, instance: InstanceId, begin: datetime, end: datetime) -> list[datetime]:
        buckets = sorted(self._known(instance).buckets.items())
        return [start for start, bucket in buckets if bucket.dirty and bucket.end > begin and start < end]

    async def held_buckets(self, key: ViewKey, begin: datetime, end: datetime) -> list[HeldBucket]:
        held = [
            HeldBucket(
                known.id,
                bucket.begin,
                bucket.begin,
                bucket.end,
                bucket.frozen,
                sum(made.key is not None for made in bucket.partitions.values()),
                sum(made.rows for made in bucket.partitions.values()),
                sum(made.size_bytes for made in bucket.partitions.values()),
            )
            for known, bucket in self._all_buckets()
            if known.id.key == key and bucket.partitions and begin <= bucket.begin and bucket.end <= end
        ]
        return sorted(held, key=lambda one: (one.begin, one.end, one.instance.vid))

    async def retire(self, chosen: Sequence[PartitionsOf | PartitionFile]) -> list[Retired]:
        outcomes, going = [], dict[tuple[int, datetime, int], _Bucket]()
        for one in chosen:
            found = {
                (known.id.vid, bucket.begin, ordinal): bucket
                for known, bucket in self._all_buckets()
                for ordinal, made in bucket.partitions.items()
                if _is_chosen(one, known.id, bucket, made)
            }
            found = {place: bucket for place, bucket in found.items() if place not in going}
            kept = any(bucket.frozen for bucket in found.values())
            outcomes.append(Retired.NOT_FOUND if not found else Retired.KEPT if kept else Retired.GONE)
            going |= found
        if all(outcome is Retired.GONE for outcome in outcomes):
            for (_, _, ordinal), bucket in going.items():
                self._release([bucket.partitions.pop(ordinal)])
                bucket.dirty, bucket.digest = True, None
                bucket.marks += 1
        return outcomes

    # objects

    async def reserve(self, keys: Sequence[str], lease: timedelta, owner: str) -> tuple[uuid.UUID, ...]:
        intents = {uuid.uuid4(): _Intent(key, self._now() + lease) for key in keys}
        self._intents |= intents
        return tuple(intents)

    async def renew_intents(self, intents: Sequence[uuid.UUID], lasts: timedelta) -> None:
        for intent in intents:
            if intent in self._intents and self._intents[intent].state == "open":
                self._intents[intent].expires = self._now() + lasts

    async def drop_intents(self, intents: Sequence[uuid.UUID]) -> None:
        for intent in intents:
            if intent in self._intents and self._intents[intent].state == "open":
                del self._intents[intent]

    async def note_senders(self) -> None:
        """Nobody lists them here."""

    async def digests(self, keys: Sequence[str]) -> dict[str, bytes | None]:
        return {key: self._objects[key].sha256 for key in keys if key in self._objects}

    async def without(self, keys: Sequence[str], values: Mapping[str, Sequence[str]]) -> set[str]:
        filters = {made.key: made.filter for _, bucket in self._all_buckets() for made in bucket.partitions.values()}
        return {
            key
            for key in keys
            if (found := filters.get(key)) is not None
            and not all(found.may_hold(column, texts) for column, texts in values.items())
        }

    async def claim_expired_intents(self, limit: int) -> list[tuple[uuid.UUID, str]]:
        expired = [
            (id_, intent)
            for id_, intent in self._intents.items()
            if intent.state in ("open", "reaping") and intent.expires < self._now()
        ]
        for _, intent in expired[:limit]:
            intent.state = "reaping"
        return [(id_, intent.key) for id_, intent in expired[:limit]]

    async def finish_reaped(self, intents: Sequence[uuid.UUID]) -> None:
        for intent in intents:
            self._intents[intent].state = "reaped"

    async def condemn_unreferenced(self, grace: timedelta, limit: int) -> list[tuple[int, str]]:
        found = [
            (known.object_id, key)
            for key, known in sorted(self._objects.items(), key=lambda item: item[1].object_id)
            if known.released is not None and known.released < self._now() - grace
        ]
        return found[:limit]

    async def forget_objects(self, object_ids: Sequence[int]) -> None:
        gone = set(object_ids)
        self._objects = {key: known for key, known in self._objects.items() if known.object_id not in gone}

    # inside

    def _next(self) -> int:
        self._last += 1
        return self._last

    def _known(self, instance: InstanceId) -> _Instance:
        known = self._instances.get(instance.vid)
        if known is None or known.id != instance:
            raise InstanceGoneError(f"view instance {instance.vid} is not {instance.key} any more, or is emptied")
        return known

    def _bucket(self, instance: InstanceId, bucket_begin: datetime) -> _Bucket:
        bucket = self._known(instance).buckets.get(bucket_begin)
        if bucket is None:
            raise InstanceGoneError(f"view instance {instance.vid} is not {instance.key} any more, or is emptied")
        return bucket

    def _all_buckets(self) -> Iterator[tuple[_Instance, _Bucket]]:
        for known in self._instances.values():
            for bucket in known.buckets.values():
                yield known, bucket

    def _blocks_of(self, scope: InstanceScope) -> Iterator[Block]:
        """Those whose stream and process are registered."""
        for block in self.blocks.values():
            stream = self.streams.get(block.stream_id)
            if stream is None or block.process_id not in self.processes:
                continue
            if scope.kind is InstanceKind.STREAM:
                is_its = block.stream_id == scope.instance
            else:
                is_its = scope.tag in stream.tags and (scope.kind is None or block.process_id == scope.instance)
            if is_its:
                yield block

    def _note(self, known: _Instance, block: Block) -> None:
        """A new block makes its bucket dirty, which remembers the union of what its blocks claim."""
        process = self.processes[block.process_id]
        claimed = [block.begin_time_ns, block.end_time_ns, block.insert_time_ns]
        if process.tsc_frequency > 0:
            claimed += [
                process.start_time_ns + ticks * NS_PER_S // process.tsc_frequency
                for ticks in (block.begin_ticks, block.end_ticks)
            ]
        seconds = block.insert_time_ns // (BUCKET_SECONDS * NS_PER_S) * BUCKET_SECONDS
        begin = _EPOCH + timedelta(seconds=seconds)
        bucket = known.buckets.get(begin) or known.buckets.get(_day_of(begin))
        if bucket is None or bucket.end <= begin:
            known.buckets[begin] = _Bucket(begin, min(claimed), max(claimed))
            return
        bucket.dirty = True
        bucket.marks += 1
        bucket.min_claimed_ns = min(bucket.min_claimed_ns, *claimed)
        bucket.max_claimed_ns = max(bucket.max_claimed_ns, *claimed)

    def _timing(self, process_id: ProcessId) -> LastTiming | None:
        blocks = [block for block in self.blocks.values() if block.process_id == process_id]
        if not blocks:
            return None
        return LastTiming(max(block.end_ticks for block in blocks), max(block.end_time_ns for block in blocks))

    def _holds_still(self, lease: Lease) -> bool:
        held = self._holds.get((lease.instance.vid, lease.bucket_begin))
        return held is not None and held.lease.token == lease.token

    def _check(self, swap: Swap) -> None:
        """See that nothing has changed since the source was read; a swap that fails changes nothing."""
        if not self._holds_still(swap.lease):
            raise LeaseLostError(f"the lease of {swap.bucket_begin} was not renewed in time")
        known = self._instances.get(swap.instance.vid)
        bucket = None if known is None else known.buckets.get(swap.bucket_begin)
        state = swap.state
        if bucket is None or (bucket.incarnation, bucket.generation) != (state.incarnation, state.generation):
            raise SwapConflictError(f"generation {state.generation} of {swap.bucket_begin} is not current")
        if not swap.replace and bucket.digest != state.digest:
            raise SwapConflictError(f"some of what is to be added to in {swap.bucket_begin} was removed")
        self._check_intents(swap.intents)

    def _check_intents(self, intents: Iterable[uuid.UUID]) -> None:
        if any(id_ not in self._intents or self._intents[id_].state != "open" for id_ in intents):
            raise SwapConflictError("a write intent ran out before the commit")

    def _add(self, bucket: _Bucket, partitions: Iterable[NewPartition]) -> None:
        for partition in partitions:
            bucket.partitions[partition.ordinal] = partition
            if partition.key is not None:
                self._objects[partition.key] = _Object(self._next(), partition.sha256)

    async def _end(self, intents: Iterable[uuid.UUID], lease: Lease) -> None:
        """What a swap was announced and held by goes with it."""
        for intent in intents:
            del self._intents[intent]
        await self.drop_lease(lease)

    def _between(self, instance: InstanceId, begin: datetime, end: datetime) -> list[_Bucket]:
        return [bucket for at, bucket in sorted(self._known(instance).buckets.items()) if begin <= at < end]

    def _release(self, partitions: Iterable[NewPartition]) -> None:
        for partition in partitions:
            if partition.key is not None:
                self._objects[partition.key].released = self._now()


def _or(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value


def _day_of(time: datetime) -> datetime:
    return time.replace(hour=0, minute=0, second=0, microsecond=0)


def _is_chosen(one: PartitionsOf | PartitionFile, id_: InstanceId, bucket: _Bucket, made: NewPartition) -> bool:
    if isinstance(one, PartitionFile):
        return made.key == one.key
    if one.schema_hash not in (None, id_.version.schema_hash):
        return False
    key = id_.key
    return (one.view_set, one.instance, one.begin, one.end) == (key.view_set, key.instance, bucket.begin, bucket.end)


def _ns(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1) * 1000


def _weigh_stream(stream: Stream) -> Registration:
    words = json.dumps([stream.tags, dict(stream.properties), stream.format]).encode()
    parts = (stream.dependencies_metadata, stream.objects_metadata, words)
    return Registration(sum(map(len, parts)), hashlib.sha256(b"".join(parts)).digest())


def _weigh_process(process: Process) -> Registration:
    words = json.dumps(
        [
            *(process.exe, process.username, process.realname, process.computer, process.distro, process.cpu_brand),
            *(process.tsc_frequency, process.start_time_ns, process.start_ticks, dict(process.properties)),
        ]
    ).encode()
    return Registration(len(words), hashlib.sha256(words).digest())
