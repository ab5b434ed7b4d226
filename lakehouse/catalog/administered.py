"""What an administrator sees of buckets, and takes away."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from lakehouse.buckets.model import HeldBucket, InstanceId, PartitionFile, PartitionsOf, Retired
from lakehouse.catalog.parts import CatalogPart, instance_of
from lakehouse.catalog.queries import load
from lakehouse.model import ViewKey

_SQL: Final = load("administered")


class Administered(CatalogPart):
    """Statements over ``lakehouse_partitions`` and the buckets that they are of."""

    async def stale_buckets(self, instance: InstanceId, begin: datetime, end: datetime) -> list[datetime]:
        """Dirty ones with some of the insert times of ``[begin, end)``, as far as looks have taken note; by time."""
        async with self.connection() as connection:
            rows = await connection.fetch(_SQL["fetch_stale"], instance.vid, begin, end)
        return [row["bucket_begin"] for row in rows]

    async def held_buckets(self, key: ViewKey, begin: datetime, end: datetime) -> list[HeldBucket]:
        """What is kept of an instance, in any version, with insert times inside of ``[begin, end)``; by time."""
        async with self.connection() as connection:
            rows = await connection.fetch(_SQL["fetch_held"], key.view_set, key.instance, begin, end)
        return [
            HeldBucket(
                instance_of(row),
                row["bucket_begin"],
                row["begin_insert_time"],
                row["end_insert_time"],
                row["frozen"],
                row["files"],
                row["rows"],
                row["size_bytes"],
            )
            for row in rows
        ]

    async def retire(self, chosen: Sequence[PartitionsOf | PartitionFile]) -> list[Retired]:
        """Remove partitions and release their files, all of them or none."""
        outcomes: list[Retired] = []
        try:
            async with self.connection() as connection, connection.transaction():
                await connection.execute(_SQL["one_retires"])
                await self._lock(connection, chosen)
                outcomes = [await self._retire(connection, one) for one in chosen]
                if any(outcome is not Retired.GONE for outcome in outcomes):
                    raise _UndoneError
        except _UndoneError:
            pass
        return outcomes

    async def _lock(self, connection: Any, chosen: Sequence[PartitionsOf | PartitionFile]) -> None:
        ranges = [one for one in chosen if isinstance(one, PartitionsOf)]
        await connection.execute(
            _SQL["lock_chosen"],
            self._store,
            [one.key for one in chosen if isinstance(one, PartitionFile)],
            [one.view_set for one in ranges],
            [one.instance for one in ranges],
            [one.begin for one in ranges],
            [one.end for one in ranges],
            [one.schema_hash for one in ranges],
        )

    async def _retire(self, connection: Any, one: PartitionsOf | PartitionFile) -> Retired:
        condition: str
        arguments: tuple[Any, ...]
        if isinstance(one, PartitionFile):
            condition, arguments = _SQL["of_file"], (self._store, one.key)
        else:
            condition, arguments = (
                _SQL["of_range"],
                (
                    one.view_set,
                    one.instance,
                    one.begin,
                    one.end,
                    one.schema_hash,
                ),
            )
        locked = await connection.fetch(_SQL["fetch_chosen"].replace("{chosen}", condition), *arguments)
        if not locked:
            return Retired.NOT_FOUND
        if any(bucket["frozen"] for bucket in locked):
            return Retired.KEPT
        status: str = await connection.execute(_SQL["retire_chosen"].replace("{chosen}", condition), *arguments)
        return Retired.NOT_FOUND if status == "DELETE 0" else Retired.GONE  # somebody was faster before the lock


class _UndoneError(Exception):
    """The transaction is to change nothing."""
