"""A materializer over a real database and a real store, with a builder in this process that can be slow or die."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from lakeflight.wire.envelope import decode_block, decode_process, decode_stream
from lakehouse.buckets.build import build_bucket
from lakehouse.buckets.decoding import JobLimits
from lakehouse.buckets.freshen import MaterializerLimits
from lakehouse.buckets.materialize import Freshened, LocalPartitions, Materializer
from lakehouse.catalog.partitions import PartitionCatalog
from lakehouse.catalog.telemetry import BlockRows, insert_process, insert_stream
from lakehouse.jobs.build import BuildJob, LocalBuild
from lakehouse.jobs.executor import LocalExecutor, WorkerCrashedError
from lakehouse.model import EVERYTHING
from lakehouse.ports import View
from lakehouse.storage import LocalStore
from lakehouse.storage.paths import blob_key
from tests.support.fixtures import Request
from views import default_registry

QUICK: JobLimits = JobLimits(second_try_s=0.0)


class Builder:
    """Builds in this process; ``hostile`` blocks kill it, as they would kill a worker."""

    def __init__(self) -> None:
        self.hostile: set[str] = set()
        self.deaths = 0  # so many jobs die of something that is not in their blocks
        self.jobs: list[BuildJob] = []
        self.outputs: list[Path] = []  # the folders that they write to, in the same order
        self.pause: Callable[[BuildJob], Awaitable[None]] = self._wait_for_gate
        self.gate = asyncio.Event()  # closed: jobs wait at it, or only those with ``gated``
        self.gate.set()
        self.gated: str | None = None

    def close_gate(self, block: str | None = None) -> asyncio.Event:
        """Hold jobs back until what is returned is set, or only those with ``block``."""
        self.gate.clear()
        self.gated = block
        return self.gate

    async def _wait_for_gate(self, job: BuildJob) -> None:
        if self.gated is None or self.gated in {block.block_id for block in job.blocks}:
            await self.gate.wait()

    @property
    def sizes(self) -> list[int]:
        """How many blocks each job had."""
        return [len(job.blocks) for job in self.jobs]

    async def build(self, job: dict[str, Any], deadline_s: float) -> dict[str, Any]:
        local = LocalBuild.from_message(job)
        decoded = local.job
        self.jobs.append(decoded)
        self.outputs.append(local.output)
        await self.pause(decoded)
        if self.hostile & {block.block_id for block in decoded.blocks}:
            raise WorkerCrashedError("killed by signal 11")
        if self.deaths:
            self.deaths -= 1
            raise WorkerCrashedError("killed by signal 9")
        result = await asyncio.to_thread(build_bucket, view_of(decoded.view_set), local)
        return result.to_message()


class Lake:
    """Everything a materializer needs, and a way to send to it."""

    def __init__(self, pool: Any, locks: Any, url: str, folder: Path) -> None:
        self.pool, self.rows, self.builder = pool, BlockRows(url), Builder()
        self.store = LocalStore(folder / "store")
        self.catalog = PartitionCatalog(pool, self.store.name)
        self.scratch = folder / "scratch"
        self.scratch.mkdir()

    def materializer(self, jobs: JobLimits = QUICK, **limits: Any) -> Materializer:
        return Materializer(
            self.catalog,
            self.store,
            LocalExecutor(self.store, self.builder),
            self.scratch,
            MaterializerLimits(jobs=jobs, **limits),
        )

    async def send(self, requests: list[Request]) -> list[str]:
        """Ingest; the ids of blocks."""
        blocks = []
        for request in requests:
            match request.path.rsplit("_", 1)[-1]:
                case "process":
                    await insert_process(self.pool, decode_process(request.body))
                case "stream":
                    await insert_stream(self.pool, decode_stream(request.body))
                case _:
                    block = decode_block(request.body)
                    key = blob_key(block.process_id, block.stream_id, block.block_id)
                    sizes = await self.store.put_blobs([(key, block.payload)])
                    await self.rows.insert([block], sizes)
                    blocks.append(block.block_id)
        return blocks

    async def age(self, blocks: list[str]) -> None:
        """As if these blocks had come two days ago, and nobody had looked since."""
        await self.pool.execute(
            "UPDATE blocks SET insert_time = insert_time - interval '48 hours' WHERE block_id = ANY ($1::uuid[])",
            blocks,
        )
        await self.pool.execute("TRUNCATE lakehouse_partitions, lakehouse_buckets")

    async def remove_block(self, block: str) -> None:
        """As retention does."""
        await self.pool.execute("DELETE FROM blocks WHERE block_id = $1::uuid", block)

    async def forget_digests(self) -> None:
        """As if an older version had written all partitions."""
        await self.pool.execute("UPDATE lakehouse_partitions SET tail_digest = NULL")
        await self.pool.execute("UPDATE lake_objects SET sha256 = NULL")

    async def spread(self, blocks: list[str]) -> None:
        """As if the blocks had come an hour apart, the last one just now: each has a bucket of its own."""
        for age, block in enumerate(reversed(blocks)):
            await self.pool.execute(
                "UPDATE blocks SET insert_time = insert_time - $2 * interval '1 hour' WHERE block_id = $1::uuid",
                block,
                age,
            )

    async def messages(self, fresh: Freshened) -> list[str]:
        async with self.store.localize([partition.key for partition in fresh.partitions]) as paths:
            tables = [pq.read_table(path, columns=["msg"]) for path in paths]
        return sorted(text for table in tables for text in table.column(0).to_pylist())

    async def local(self, materializer: Materializer, view: View, instance: str) -> LocalPartitions:
        """All of an instance as local files."""
        async with materializer.ensure_local(view, instance, EVERYTHING) as local:
            return local


def view_of(name: str) -> View:
    return default_registry().view(name)
