"""What the making of buckets asks of a catalog: the port. ``lakehouse.catalog`` has it in Postgres and in memory.

Every method may raise ``BackendUnavailableError``. Buckets begin at whole hours, UTC, and last an hour, or a day, UTC.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from lakehouse.buckets.model import (
    BucketState,
    DifferingBucket,
    EstimatedBucket,
    ExpiredBlock,
    ExpiredHour,
    HeldBucket,
    InstanceId,
    InstanceScope,
    Lease,
    MergeSource,
    MergeSwap,
    PartitionFile,
    PartitionsOf,
    Retired,
    Source,
    StoredBucket,
    StoredPartition,
    Swap,
    UnknownClock,
    ViewVersion,
)
from lakehouse.model import Block, BlockId, InstanceKind, Process, ProcessId, Stream, StreamId, TimeRange, ViewKey


class Looks(Protocol):
    """What there is of a view instance, and what of it is stale."""

    async def find_entity(self, kind: InstanceKind, instance: str) -> bool:
        """Whether the process or stream that an instance id names is registered."""
        ...

    async def find_instance(self, key: ViewKey, version: ViewVersion) -> InstanceId | None: ...

    async def add_instance(self, key: ViewKey, version: ViewVersion) -> InstanceId:
        """The one that there is, or a new one."""
        ...

    async def look(
        self, instance: InstanceId, scope: InstanceScope, wanted: TimeRange, margin_s: float
    ) -> list[StoredBucket]:
        """Take note of blocks that came since the last look, then list the buckets that a reader of ``wanted`` needs.

        Args:
            margin_s: How far outside its claims an event of a block may lie that is not materialized yet.

        Raises:
            InstanceGoneError: Without its row nothing would be found, which is not the answer.
        """
        ...

    async def known_missing(
        self, uses: Sequence[tuple[ViewKey, ViewVersion, TimeRange]], margin_s: float
    ) -> int | None:
        """Blocks that the last builds had to leave out of these instances and ranges; ``None``: none of the lake's."""
        ...

    async def all_partitions(self, instance: InstanceId) -> list[StoredPartition]:
        """Every partition of an instance, unpruned (tests compare with this)."""
        ...

    async def unknown_clock(self, scope: InstanceScope) -> UnknownClock | None:
        """That of the instance's process, if its tick frequency is unknown and it has blocks."""
        ...

    async def estimated_buckets(
        self, instance: InstanceId, clock: UnknownClock, wanted: TimeRange, shift_ns: int
    ) -> list[EstimatedBucket]:
        """Those that a reader of ``wanted`` may find too far from where ``clock`` has them: by more than ``shift_ns``.

        Frozen ones are not among them.
        """
        ...

    async def mark(self, instance: InstanceId, bucket_begin: datetime) -> None:
        """Make a bucket dirty by hand."""
        ...


class Rows(Protocol):
    """What programs sent."""

    async def read_source(self, instance: InstanceId, scope: InstanceScope, bucket_begin: datetime) -> Source:
        """Everything a builder needs, in one snapshot.

        Raises:
            InstanceGoneError: There is no such bucket.
        """
        ...

    async def read_merge(
        self, instance: InstanceId, scope: InstanceScope, begin: datetime, length: timedelta
    ) -> MergeSource:
        """The buckets in a stretch of time, what is in their files, and the blocks that there are, in one snapshot.

        Raises:
            InstanceGoneError: The instance is gone.
        """
        ...

    async def find_block(self, block_id: str) -> Block | None:
        """The block of this id, if its stream and its process are registered."""
        ...

    async def registrations(self, blocks: Sequence[Block]) -> tuple[dict[ProcessId, Process], dict[StreamId, Stream]]:
        """What ``blocks`` refer to. It is what it was when their source was read: a registration never changes."""
        ...


class Buckets(Protocol):
    """How a bucket is held and replaced, and what becomes of it."""

    async def take_lease(self, lease: Lease, owner: str, lasts: timedelta) -> bool:
        """Take the right to make a bucket; false while somebody else has it. Waits for nobody.

        Who does not renew it in time loses it to the next who asks, and cannot commit any more. Where this raises, it may
        be taken all the same: drop it.
        """
        ...

    async def lease_owner(self, instance: InstanceId, bucket_begin: datetime) -> str | None: ...

    async def renew_leases(self, leases: Sequence[Lease], lasts: timedelta) -> None:
        """Those that are still ours; of the others a swap will say so."""
        ...

    async def drop_lease(self, lease: Lease) -> None: ...

    async def forget_leases(self, expired: timedelta) -> None:
        """Those that ran out so long ago, and that nobody has taken over."""
        ...

    async def buckets_of(self, instance: InstanceId, keys: Sequence[str]) -> list[datetime]:
        """The buckets whose partitions are in these objects."""
        ...

    async def commit(self, swap: Swap) -> None:
        """Replace or extend a bucket in one transaction, and give up its lease.

        Raises:
            SwapConflictError: Somebody else changed the bucket, or an intent was reaped; ``LeaseLostError`` if the lease is
                somebody else's. Nothing has happened.
            BackendUnavailableError: Also when the outcome cannot be found out; then the intents decide later.
        """
        ...

    async def merge(self, swap: MergeSwap) -> None:
        """Put one bucket in the place of several, in one transaction, and give up its lease.

        What its files hold is what theirs held: nobody who looks has anything to make. It is as frozen as they were, misses the
        blocks that they missed, and claims the times that they claimed.

        Raises:
            SwapConflictError: One of them is not what it was, is not sealed and clean, or an intent was reaped;
                ``LeaseLostError`` if the lease is somebody else's. Nothing has happened.
            BackendUnavailableError: Also when the outcome cannot be found out; then the intents decide later.
        """
        ...

    async def mark_clean(
        self, instance: InstanceId, bucket_begin: datetime, state: BucketState, missing_blocks: int | None = None
    ) -> None:
        """The bucket's partitions hold the blocks that there are, but for ``missing_blocks`` of them, if given.

        Raises:
            SwapConflictError: The bucket is gone.
        """
        ...

    async def freeze(self, instance: InstanceId, bucket_begin: datetime) -> bool:
        """From now on a bucket is never made from blocks; false if it is not sealed and clean, or is frozen already."""
        ...

    async def seal_buckets(self) -> None:
        """Note of clean buckets that no block can come to any more."""
        ...

    async def fragmented_buckets(
        self,
        versions: Sequence[ViewVersion],
        files_max: int,
        limit: int,
        after: tuple[InstanceId, datetime] | None = None,
    ) -> list[tuple[InstanceId, datetime]]:
        """Sealed buckets of ``versions`` with more than ``files_max`` partitions, oldest first, those after ``after``."""
        ...

    async def mergeable_days(
        self,
        versions: Sequence[ViewVersion],
        bytes_max: int,
        limit: int,
        after: tuple[InstanceId, datetime] | None = None,
    ) -> list[tuple[InstanceId, datetime]]:
        """Closed days of ``versions`` whose buckets may become one, oldest first, those after ``after``.

        All of a day's buckets are sealed and clean, all or none of them frozen, and together no larger than ``bytes_max``. A day
        with one bucket, and one with more bytes, are settled: they are not looked at again before something comes into them.
        """
        ...

    async def unused_instances(
        self, versions: Sequence[ViewVersion], unused: timedelta, limit: int
    ) -> list[InstanceId]:
        """Instances of versions that no server has used for ``unused``, other than ``versions``."""
        ...

    async def retire_instance(self, instance: InstanceId, unused: timedelta) -> bool:
        """Remove an instance and release its files; ``False`` if it has been used meanwhile."""
        ...


class Administered(Protocol):
    """What an administrator sees of buckets, and takes away."""

    async def stale_buckets(self, instance: InstanceId, begin: datetime, end: datetime) -> list[datetime]:
        """Dirty ones with some of the insert times of ``[begin, end)``, as far as looks have taken note; by time."""
        ...

    async def held_buckets(self, key: ViewKey, begin: datetime, end: datetime) -> list[HeldBucket]:
        """What is kept of an instance, in any version, with insert times inside of ``[begin, end)``; by time."""
        ...

    async def retire(self, chosen: Sequence[PartitionsOf | PartitionFile]) -> list[Retired]:
        """Remove partitions and release their files, as those of replaced ones are, in one transaction.

        What became of each, in order; nothing has happened unless all of them are gone. Their buckets are made again for
        whoever reads them next. A builder that is at one of them does not add to what is left of it.
        """
        ...


class Objects(Protocol):
    """The files of partitions, from their announcement to their deletion."""

    async def reserve(self, keys: Sequence[str], lease: timedelta, owner: str) -> tuple[uuid.UUID, ...]:
        """Write intents for objects that are about to be made, committed before this returns."""
        ...

    async def renew_intents(self, intents: Sequence[uuid.UUID], lasts: timedelta) -> None:
        """Those that nobody has claimed; of the others a swap will say so."""
        ...

    async def drop_intents(self, intents: Sequence[uuid.UUID]) -> None:
        """Nothing was written under these."""
        ...

    async def digests(self, keys: Sequence[str]) -> dict[str, bytes | None]:
        """SHA-256 of what was written, ``None`` where it was not kept; keys that are not known are left out."""
        ...

    async def without(self, keys: Sequence[str], values: Mapping[str, Sequence[str]]) -> set[str]:
        """Those of these files that have no row with, in each of these columns, one of its values. It may leave some out."""
        ...

    async def claim_expired_intents(self, limit: int) -> list[tuple[uuid.UUID, str]]: ...

    async def finish_reaped(self, intents: Sequence[uuid.UUID]) -> None: ...

    async def condemn_unreferenced(self, grace: timedelta, limit: int) -> list[tuple[int, str]]:
        """Objects that nobody can need any more, fenced against new references; delete them, then forget them."""
        ...

    async def forget_objects(self, object_ids: Sequence[int]) -> None: ...


class Senders(Protocol):
    """Who has sent blocks."""

    async def note_senders(self) -> None:
        """Note what is known by now, for whoever lists processes and streams. No answer depends on it but for its time."""
        ...


class BucketCatalog(Looks, Rows, Buckets, Administered, Objects, Senders, Protocol):
    """All of it."""


class Retention(Protocol):
    """What is older than it is to be kept. How old that is, the clock of the catalog says."""

    async def next_expired_hour(self, kept: timedelta) -> ExpiredHour | None:
        """The oldest hour whose blocks came more than ``kept`` ago and are still seen."""
        ...

    async def instances_of_hour(self, begin: datetime, versions: Sequence[ViewVersion]) -> list[InstanceId]:
        """Instances of ``versions``, but for global ones, that blocks of the hour can belong to."""
        ...

    async def expire_blocks(
        self, kept_from: datetime, kept: Sequence[ViewVersion]
    ) -> list[tuple[InstanceId, datetime]]:
        """From now on no block that came before is seen, and no bucket that began before is made from blocks.

        All at once, or not at all: what is in the way is returned, which is buckets of ``kept``, or of later versions of the
        same view sets, that do not hold their blocks.
        """
        ...

    async def expired_blocks(self, grace: timedelta, limit: int) -> list[ExpiredBlock]:
        """Blocks that have not been seen for ``grace``, the oldest first."""
        ...

    async def forget_blocks(self, blocks: Sequence[BlockId]) -> None: ...

    async def forget_horizons(self, grace: timedelta) -> None:
        """Those before which no block is left."""
        ...

    async def forget_registrations(self, kept: timedelta, limit: int) -> int:
        """Processes and streams that are older, and have neither blocks nor partitions; how many, at most ``limit``."""
        ...

    async def forget_instances(self, unused: timedelta, limit: int) -> int:
        """Instances without buckets, of processes and streams that are not known any more."""
        ...

    async def expire_buckets(self, view_set: str, kept: timedelta, made_again: timedelta, limit: int) -> int:
        """Release the partitions of buckets that are older than ``kept``; how many buckets, at most ``limit``.

        Where the blocks are gone, the rows are. Where they are not, whoever asks has the bucket made again, and it stays for
        ``made_again``.
        """
        ...

    async def uncarried_instances(self, versions: Sequence[ViewVersion], limit: int) -> list[ViewKey]:
        """Instances with frozen buckets in other versions which those of ``versions`` are without."""
        ...

    async def carry_frozen(self, instance: InstanceId) -> None:
        """Give it the frozen buckets that the same instance has in other versions: it cannot make them itself.

        Their files are shared. Of those that have other columns it gets the number of blocks, which count as missing.
        """
        ...


class Audit(Protocol):
    """Whether what is materialized is what was sent."""

    async def instances_after(self, versions: Sequence[ViewVersion], vid: int, limit: int) -> list[InstanceId]:
        """Instances of ``versions`` that somebody has looked at, by their numbers."""
        ...

    async def differing_buckets(self, instance: InstanceId, scope: InstanceScope) -> list[DifferingBucket]:
        """Closed buckets that do not have as many blocks as there are, and whose blocks are all kept."""
        ...


class Sweep(Protocol):
    """Files of partitions that are in the store and that nothing names."""

    async def lake_id(self) -> bytes:
        """What tells this database from others, copies of it apart."""
        ...

    async def note_orphans(self, keys: Sequence[str]) -> None:
        """Note which of these keys, which were in the store, nothing names."""
        ...

    async def orphans(self, grace: timedelta, limit: int) -> list[str]:
        """Keys that were noted ``grace`` ago."""
        ...

    async def forget_orphans(self, keys: Sequence[str]) -> None: ...


class Tasks(Protocol):
    """What maintenance has done, by name."""

    async def task_age(self, task: str) -> timedelta | None:
        """Since it was last done by any server; ``None``: it never was."""
        ...

    async def task_done(self, task: str, owner: str) -> None: ...


class LakeCatalog(BucketCatalog, Retention, Audit, Sweep, Tasks, Protocol):
    """With what only a lake that is kept for long needs."""
