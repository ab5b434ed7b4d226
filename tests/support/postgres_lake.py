"""A materializer's lake over a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg

from lakeflight.wire.envelope import BlockRequest, ProcessRequest, StreamRequest
from lakehouse.catalog.partitions import PartitionCatalog
from lakehouse.catalog.telemetry import BlockRows, insert_process, insert_stream
from lakehouse.storage import BlobStore, LocalStore
from server.maintenance import Maintenance
from tests.support.materializer_lake import Lake
from views import default_registry


class PostgresLake(Lake):
    """``pool`` is there for tests of what only a database can be made to do."""

    catalog: PartitionCatalog

    def __init__(self, pool: Any, url: str, folder: Path, store: BlobStore | None = None) -> None:
        store = store or LocalStore(folder / "store")
        super().__init__(PartitionCatalog(pool, store.name), store, folder)
        self.pool, self.url, self.rows = pool, url, BlockRows(url)

    def maintenance(self, **other: Any) -> Maintenance:
        """Housekeeping of this lake, without a grace; ``other`` are its fields that are to be otherwise."""
        fields: dict[str, Any] = {
            "materializer": self.materializer(),
            "interval_s": 1.0,
            "retired_grace_s": 0.0,
        } | other
        return Maintenance(registry=default_registry(), catalog=self.catalog, store=self.store, **fields)

    async def insert_process(self, process: ProcessRequest) -> None:
        await insert_process(self.pool, process)

    async def insert_stream(self, stream: StreamRequest) -> None:
        await insert_stream(self.pool, stream)

    async def insert_block(self, block: BlockRequest, size_bytes: int) -> None:
        await self.rows.insert([block], [size_bytes])

    async def make_older(self, blocks: Sequence[str], hours: int) -> None:
        await self.pool.execute(
            "UPDATE blocks SET insert_time = insert_time - $2 * interval '1 hour' WHERE block_id = ANY ($1::uuid[])",
            list(blocks),
            hours,
        )

    async def remove_block(self, block: str) -> None:
        await self.pool.execute("DELETE FROM blocks WHERE block_id = $1::uuid", block)

    async def forget_clocks(self) -> None:
        await self.pool.execute("UPDATE processes SET tsc_frequency = 0")

    async def restate(self, stream: str, *, ticks_factor: int = 1, later_s: int = 0) -> None:
        await self.pool.execute(
            "UPDATE blocks SET end_ticks = $2::bigint * end_ticks, end_time = end_time + $3 * interval '1 s'"
            " WHERE stream_id = $1::uuid",
            stream,
            ticks_factor,
            later_s,
        )

    async def enlarge(self, process: str, properties_bytes: int) -> None:
        await self.pool.execute(
            "UPDATE processes SET properties = json_build_object('a', repeat('x', $2)) WHERE process_id = $1::uuid",
            process,
            properties_bytes,
        )

    async def forget_digests(self) -> None:
        await self.pool.execute("UPDATE lakehouse_partitions SET tail_digest = NULL")
        await self.pool.execute("UPDATE lake_objects SET sha256 = NULL")

    async def empty_buckets(self) -> None:
        await self.pool.execute("TRUNCATE lakehouse_partitions, lakehouse_buckets")

    async def expire_intents(self) -> None:
        await self.pool.execute("UPDATE staged_writes SET lease_expires_at = clock_timestamp() - interval '1 s'")
        await self.pool.execute("UPDATE lakehouse_leases SET expires_at = clock_timestamp() - interval '1 s'")

    async def quarantined(self) -> dict[str, str]:
        rows = await self.pool.fetch("SELECT block_id, error FROM quarantined_blocks")
        return {str(row["block_id"]): row["error"] for row in rows}

    async def partition_rows(self) -> list[int]:
        return [row["num_rows"] for row in await self.pool.fetch("SELECT num_rows FROM lakehouse_partitions")]

    async def object_keys(self) -> set[str]:
        return {row["path"] for row in await self.pool.fetch("SELECT path FROM lake_objects")}

    async def instances(self) -> int:
        count: int = await self.pool.fetchval("SELECT count(*) FROM view_instances")
        return count

    async def payload_sizes(self) -> list[int]:
        return [row["payload_size"] for row in await self.pool.fetch("SELECT payload_size FROM blocks")]

    async def held(self) -> int:
        count: int = await self.pool.fetchval(
            "SELECT (SELECT count(*) FROM staged_writes WHERE state = 'open')"
            " + (SELECT count(*) FROM lakehouse_leases WHERE expires_at >= clock_timestamp())"
        )
        return count


@asynccontextmanager
async def postgres_lake_at(url: str, folder: Path) -> AsyncIterator[PostgresLake]:
    async with asyncpg.create_pool(url, min_size=0, max_size=8) as pool:
        lake = PostgresLake(pool, url, folder)
        yield lake
        lake.builder.gate.set()
        await lake.rows.close()
        await lake.store.close()
