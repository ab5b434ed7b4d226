"""What is older than it is to be kept: how blocks stop being seen and go, how partitions expire, what is left of it all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from lakehouse.buckets.model import ExpiredBlock, ExpiredHour, InstanceId, ViewVersion
from lakehouse.catalog.parts import CatalogPart, columns_of, instance_of
from lakehouse.catalog.queries import load
from lakehouse.model import BlockId, ProcessId, StreamId, ViewKey

_SQL: Final = load("looks") | load("retention")


class Retention(CatalogPart):
    """Statements over ``lakehouse_horizons``, and over what expires."""

    async def next_expired_hour(self, kept: timedelta) -> ExpiredHour | None:
        async with self.connection() as connection:
            row = await connection.fetchrow(_SQL["next_expired_hour"], kept)
        return None if row is None else ExpiredHour(row["begin"], row["age"])

    async def instances_of_hour(self, begin: datetime, versions: Sequence[ViewVersion]) -> list[InstanceId]:
        async with self.connection() as connection:
            rows = await connection.fetch(_SQL["instances_of_hour"], begin, *columns_of(versions))
        return [instance_of(row) for row in rows]

    async def expire_blocks(
        self, kept_from: datetime, kept: Sequence[ViewVersion]
    ) -> list[tuple[InstanceId, datetime]]:
        view_sets, _, writer_versions = columns_of(kept)
        async with self.connection() as connection:
            async with connection.transaction():
                await connection.execute(_SQL["lock_horizons"])
                rows = await connection.fetch(_SQL["lock_expiring"], kept_from, view_sets, writer_versions)
                if in_the_way := [(instance_of(row), row["bucket_begin"]) for row in rows if row["is_in_the_way"]]:
                    return in_the_way
                await connection.execute(_SQL["freeze_expiring"], kept_from)
                before = await connection.fetchval(_SQL["kept_from"])
                await connection.execute(_SQL["lock_notes"])
                await connection.execute(_SQL["move_horizon"], kept_from)
                await connection.execute(_SQL["note_again"], before, kept_from)
        return []

    async def expired_blocks(self, grace: timedelta, limit: int) -> list[ExpiredBlock]:
        async with self.connection() as connection:
            await connection.execute(_SQL["freeze_expired"])
            rows = await connection.fetch(_SQL["fetch_expired_blocks"], grace, limit)
        return [
            ExpiredBlock(
                BlockId(str(row["block_id"])), StreamId(str(row["stream_id"])), ProcessId(str(row["process_id"]))
            )
            for row in rows
        ]

    async def forget_blocks(self, blocks: Sequence[BlockId]) -> None:
        async with self.connection() as connection:
            async with connection.transaction():
                await connection.execute(_SQL["forget_quarantined"], list(blocks))
                await connection.execute(_SQL["forget_blocks"], list(blocks))

    async def forget_horizons(self, grace: timedelta) -> None:
        async with self.connection() as connection:
            await connection.execute(_SQL["forget_horizons"], grace)

    async def forget_registrations(self, kept: timedelta, limit: int) -> int:
        async with self.connection() as connection:
            processes = await connection.fetch(_SQL["forget_processes"], kept, limit)
            streams = await connection.fetch(_SQL["forget_streams"], kept, limit)
        return max(len(processes), len(streams))

    async def forget_instances(self, unused: timedelta, limit: int) -> int:
        async with self.connection() as connection:
            return len(await connection.fetch(_SQL["forget_instances"], unused, limit))

    async def expire_buckets(self, view_set: str, kept: timedelta, made_again: timedelta, limit: int) -> int:
        async with self.connection() as connection:
            async with connection.transaction():
                rows = await connection.fetch(_SQL["fetch_expired_buckets"], view_set, kept, made_again, limit)
                buckets = ([row["vid"] for row in rows], [row["bucket_begin"] for row in rows])
                await connection.execute(_SQL["begin_expiring"])
                await connection.execute(_SQL["lock_expired"], *buckets)
                await connection.execute(_SQL["expire_partitions"], *buckets)
                await connection.execute(_SQL["expire_buckets"], *buckets)
        return len(rows)

    async def uncarried_instances(self, versions: Sequence[ViewVersion], limit: int) -> list[ViewKey]:
        async with self.connection() as connection:
            rows = await connection.fetch(_SQL["find_uncarried"], *columns_of(versions), limit)
        return [ViewKey(row["view_set"], row["instance_id"]) for row in rows]

    async def carry_frozen(self, instance: InstanceId) -> None:
        async with self.connection() as connection:
            await connection.execute(_SQL["carry_frozen"], instance.vid)
