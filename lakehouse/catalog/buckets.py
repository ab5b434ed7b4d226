"""How a bucket is held while it is made, and replaced; how it is sealed and frozen, and how an instance goes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg

from lakehouse.buckets.model import (
    BucketState,
    InstanceId,
    Lease,
    LeaseLostError,
    MergeSwap,
    NewPartition,
    Swap,
    SwapConflictError,
    ViewVersion,
)
from lakehouse.catalog.parts import CatalogPart, columns_of, instance_of, microseconds
from lakehouse.catalog.queries import load
from lakehouse.errors import BackendUnavailableError
from lakehouse.model import NS_PER_US, Block

_SQL: Final = load("objects") | load("buckets")
_OWN_ROWS: Final = _SQL["has_rows_of_its_own"]
_FIND_UNUSED: Final = _SQL["find_unused"].replace("{has_rows_of_its_own}", _OWN_ROWS)
_LOCK_UNUSED: Final = _SQL["lock_unused"].replace("{has_rows_of_its_own}", _OWN_ROWS)
_CONFLICTS: Final = {  # what lakehouse_swap() and lakehouse_merge() raise
    "LF001": SwapConflictError,
    "LF002": LeaseLostError,
    "23P01": SwapConflictError,  # a bucket overlaps the merged one that was not there when they were read
}
SETTLED_AT_ONCE_MAX: Final = 10_000  # buckets that are found not to be worth merging, so that the look at them is short


class Buckets(CatalogPart):
    """Statements over ``lakehouse_buckets``, ``lakehouse_partitions`` and ``lakehouse_leases``."""

    async def take_lease(self, lease: Lease, owner: str, lasts: timedelta) -> bool:
        async with self.connection() as connection:
            taken = await connection.fetchval(
                _SQL["take_lease"], lease.instance.vid, lease.bucket_begin, lease.token, owner, lasts
            )
        return taken is not None

    async def lease_owner(self, instance: InstanceId, bucket_begin: datetime) -> str | None:
        async with self.connection() as connection:
            owner: str | None = await connection.fetchval(_SQL["find_lease"], instance.vid, bucket_begin)
        return owner

    async def renew_leases(self, leases: Sequence[Lease], lasts: timedelta) -> None:
        async with self.connection(renews=True) as connection:
            await connection.execute(_SQL["renew_leases"], [lease.token for lease in leases], lasts)

    async def drop_lease(self, lease: Lease) -> None:
        async with self.connection() as connection:
            await connection.execute(_SQL["drop_lease"], lease.instance.vid, lease.bucket_begin, lease.token)

    async def forget_leases(self, expired: timedelta) -> None:
        async with self.connection() as connection:
            await connection.execute(_SQL["forget_leases"], expired)

    async def buckets_of(self, instance: InstanceId, keys: Sequence[str]) -> list[datetime]:
        """The buckets whose partitions are in these objects."""
        async with self.connection() as connection:
            rows = await connection.fetch(_SQL["fetch_buckets_of"], instance.vid, list(keys))
        return [row["bucket_begin"] for row in rows]

    async def commit(self, swap: Swap) -> None:
        """Replace or extend a bucket in one transaction.

        Raises:
            SwapConflictError: Somebody else changed the bucket, or an intent was reaped.
            BackendUnavailableError: Also when the outcome cannot be found out; then the intents decide later.
        """
        try:
            async with self.connection() as connection:
                await self._swap(connection, swap)
        except BackendUnavailableError:
            if not await self._did_commit(swap.intents):
                raise

    async def merge(self, swap: MergeSwap) -> None:
        """Put one bucket in the place of several, in one transaction.

        Raises:
            SwapConflictError: One of them is not what it was, or an intent was reaped.
            BackendUnavailableError: Also when the outcome cannot be found out; then the intents decide later.
        """
        states = [bucket.state for bucket in swap.buckets]
        try:
            async with self.connection() as connection:
                with _conflicts():
                    await connection.execute(
                        _SQL["merge"],
                        swap.instance.vid,
                        swap.begin,
                        swap.begin + swap.length,
                        swap.lease.token,
                        [bucket.begin for bucket in swap.buckets],
                        [state.incarnation for state in states],
                        [state.generation for state in states],
                        [state.marks for state in states],
                        self._store,
                        json.dumps([_partition(partition) for partition in swap.partitions]),
                        list(swap.intents),
                        swap.digest,
                        None if swap.timing is None else swap.timing.end_ticks,
                        None if swap.timing is None else microseconds(swap.timing.end_time_ns),
                        swap.missing_blocks,
                        swap.repaired_events,
                        swap.whole,
                        list(swap.sort_order) or None,
                        *_filters(swap.partitions),
                    )
        except BackendUnavailableError:
            if not await self._did_commit(swap.intents):
                raise

    async def _swap(self, connection: Any, swap: Swap) -> None:
        with _conflicts():
            await connection.execute(
                _SQL["swap"],
                swap.instance.vid,
                swap.bucket_begin,
                swap.bucket_begin + swap.state.length,
                swap.lease.token,
                swap.state.incarnation,
                swap.state.generation,
                swap.state.marks,
                swap.state.digest,
                swap.replace,
                self._store,
                json.dumps([_partition(partition) for partition in swap.partitions]),
                list(swap.intents),
                swap.digest,
                swap.blocks,
                swap.objects,
                None if swap.max_insert_ns is None else microseconds(swap.max_insert_ns),
                None if swap.timing is None else swap.timing.end_ticks,
                None if swap.timing is None else microseconds(swap.timing.end_time_ns),
                swap.missing_blocks,
                swap.repaired_events,
                list(swap.sort_order) or None,
                json.dumps([_quarantined(block, error) for block, error in swap.quarantined]),
                *_filters(swap.partitions),
            )

    async def _did_commit(self, intents: Sequence[uuid.UUID]) -> bool:
        """After a lost answer: the intents go with the commit, so their absence proves it."""
        if not intents:
            return False
        async with self.connection() as connection:
            return not await connection.fetch(_SQL["find_intents"], list(intents))

    async def mark_clean(
        self, instance: InstanceId, bucket_begin: datetime, state: BucketState, missing_blocks: int | None = None
    ) -> None:
        """The bucket's partitions hold exactly the blocks that there are.

        Raises:
            SwapConflictError: The bucket is gone.
        """
        async with self.connection() as connection:
            status = await connection.execute(
                _SQL["clean_bucket"], instance.vid, bucket_begin, state.incarnation, state.marks, missing_blocks
            )
        if status != "UPDATE 1":
            raise SwapConflictError(f"the bucket of {bucket_begin} was removed")

    async def freeze(self, instance: InstanceId, bucket_begin: datetime) -> bool:
        async with self.connection() as connection:
            return await connection.fetchval(_SQL["freeze_bucket"], instance.vid, bucket_begin) is True

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
            rows = await connection.fetch(_SQL["fetch_fragmented"], files_max, limit, *columns_of(versions), begin, vid)
        return [(instance_of(row), row["bucket_begin"]) for row in rows]

    async def mergeable_days(
        self,
        versions: Sequence[ViewVersion],
        bytes_max: int,
        limit: int,
        after: tuple[InstanceId, datetime] | None = None,
    ) -> list[tuple[InstanceId, datetime]]:
        """Closed days of ``versions`` whose buckets may become one, oldest first, those after ``after``."""
        vid, begin = (None, None) if after is None else (after[0].vid, after[1])
        async with self.connection() as connection:
            await connection.execute(_SQL["settle_days"], bytes_max, SETTLED_AT_ONCE_MAX)
            rows = await connection.fetch(_SQL["fetch_mergeable"], bytes_max, limit, *columns_of(versions), begin, vid)
        return [(instance_of(row), row["bucket_begin"]) for row in rows]

    async def unused_instances(
        self, versions: Sequence[ViewVersion], unused: timedelta, limit: int
    ) -> list[InstanceId]:
        """Instances of versions that no server has used for ``unused``, other than ``versions``."""
        async with self.connection() as connection:
            rows = await connection.fetch(_FIND_UNUSED, unused, limit, *columns_of(versions))
        return [instance_of(row) for row in rows]

    async def retire_instance(self, instance: InstanceId, unused: timedelta) -> bool:
        """Remove an instance and release its files; ``False`` if it has been used meanwhile."""
        async with self.connection() as connection:
            async with connection.transaction():
                if await connection.fetchval(_LOCK_UNUSED, instance.vid, unused) is None:
                    return False
                await connection.execute(_SQL["lock_buckets"], instance.vid)
                await connection.execute(_SQL["retire_all"], instance.vid)
                await connection.execute(_SQL["remove_instance"], instance.vid)
        return True


@contextmanager
def _conflicts() -> Iterator[None]:
    try:
        yield
    except asyncpg.PostgresError as error:
        conflict = _CONFLICTS.get(error.sqlstate or "")
        if conflict is None:
            raise
        raise conflict(str(error)) from error


def _partition(partition: NewPartition) -> dict[str, Any]:
    """As ``lakehouse_swap`` takes it."""
    return {
        "ordinal": partition.ordinal,
        "key": partition.key,
        "size_bytes": partition.size_bytes,
        "rows": partition.rows,
        "min_event_ns": partition.min_event_ns,
        "max_event_ns": partition.max_event_ns,
        "min_event_us": _us(partition.min_event_ns),
        "max_event_us": _us(partition.max_event_ns, up=True),
        "max_sort_key_us": _us(partition.max_sort_key_ns, up=True),
        "missing_blocks": partition.missing_blocks,
        "block_ids": list(partition.block_ids),
        "sha256": None if partition.sha256 is None else partition.sha256.hex(),
        "tail_digest": None if partition.tail_digest is None else partition.tail_digest.hex(),
    }


def _filters(partitions: Sequence[NewPartition]) -> tuple[list[str], list[str], list[bytes]]:
    """Of the files that have one: their keys, the columns (arrays of arrays would all have to be as long), and the bits."""
    found = [(p.key, " ".join(p.filter.columns), p.filter.bits) for p in partitions if p.key and p.filter]
    return [key for key, _, _ in found], [columns for _, columns, _ in found], [bits for _, _, bits in found]


def _quarantined(block: Block, error: str) -> dict[str, str]:
    return {
        "block_id": block.block_id,
        "stream_id": block.stream_id,
        "process_id": block.process_id,
        "error": error,
    }


def _us(timestamp_ns: int | None, *, up: bool = False) -> int | None:
    """Whole microseconds, rounded outward."""
    if timestamp_ns is None:
        return None
    return -(-timestamp_ns // NS_PER_US) if up else timestamp_ns // NS_PER_US
