"""A materializer over a catalog and a real store, with a builder in this process that can be slow or die."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from lakeflight.wire.envelope import (
    BlockRequest,
    ProcessRequest,
    StreamRequest,
    decode_block,
    decode_process,
    decode_stream,
)
from lakehouse.buckets.bucket import scope_of
from lakehouse.buckets.catalog import BucketCatalog
from lakehouse.buckets.decoding import JobLimits
from lakehouse.buckets.freshen import MaterializerLimits
from lakehouse.buckets.materialize import Freshened, LocalPartitions, Materializer
from lakehouse.buckets.model import InstanceId, StoredBucket
from lakehouse.buckets.work import do
from lakehouse.catalog.memory import MemoryCatalog
from lakehouse.jobs.build import BuildJob, LocalBuild
from lakehouse.jobs.executor import LocalExecutor, WorkerCrashedError
from lakehouse.jobs.merge import MergeJob
from lakehouse.model import BUCKET_SECONDS, EVERYTHING, Block, BlockId, Process, ProcessId, Stream, StreamId
from lakehouse.ports import View
from lakehouse.storage import BlobStore, LocalStore
from lakehouse.storage.paths import blob_key
from tests.support.fixtures import Request
from views import default_registry

NATIVE = "micromegas-transit"
QUICK: JobLimits = JobLimits(second_try_s=0.0)


class Builder:
    """Builds in this process; ``hostile`` blocks kill it, as they would kill a worker."""

    def __init__(self) -> None:
        self.hostile: set[str] = set()
        self.deaths = 0  # so many jobs die of something that is not in their blocks
        self.jobs: list[BuildJob] = []
        self.merges: list[MergeJob] = []
        self.outputs: list[Path] = []  # the folders that they write to, in the same order
        self.pause: Callable[[BuildJob], Awaitable[None]] = self._wait_for_gate
        self.gate = asyncio.Event()  # closed: jobs wait at it, or only those with ``gated``
        self.gate.set()
        self.merge_gate = asyncio.Event()  # the same for merges
        self.merge_gate.set()
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
        if job.get("kind") == "merge":
            self.merges.append(MergeJob.from_message(job))
            await self.merge_gate.wait()
            return await asyncio.to_thread(do, view_of, job)
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
        return await asyncio.to_thread(do, view_of, job)


class Lake(ABC):
    """Everything a materializer needs, and a way to send to it. ``MemoryLake`` and ``PostgresLake`` keep the same promises."""

    def __init__(self, catalog: BucketCatalog, store: BlobStore, folder: Path) -> None:
        self.catalog, self.store, self.builder = catalog, store, Builder()
        self.scratch = folder / "scratch"
        self.scratch.mkdir(exist_ok=True)  # another process may be at the same lake

    def materializer(self, jobs: JobLimits = QUICK, **limits: Any) -> Materializer:
        return Materializer(
            self.catalog,
            self.store,
            LocalExecutor(self.store, self.builder),
            self.scratch,
            MaterializerLimits(jobs=jobs, **limits),
        )

    async def send(self, requests: Sequence[Request]) -> list[str]:
        """Ingest; the ids of blocks."""
        blocks = []
        for request in requests:
            match request.path.rsplit("_", 1)[-1]:
                case "process":
                    await self.insert_process(decode_process(request.body))
                case "stream":
                    await self.insert_stream(decode_stream(request.body))
                case _:
                    block = decode_block(request.body)
                    key = blob_key(block.process_id, block.stream_id, block.block_id)
                    sizes = await self.store.put_blobs([(key, block.payload)])
                    await self.insert_block(block, sizes[0])
                    blocks.append(block.block_id)
        return blocks

    async def spread(self, blocks: Sequence[str]) -> None:
        """As if the blocks had come an hour apart, the last one just now: each has a bucket of its own."""
        for age, block in enumerate(reversed(blocks)):
            await self.make_older([block], hours=age)

    async def age(self, blocks: Sequence[str]) -> None:
        """As if these blocks had come two days ago, and nobody had looked since."""
        await self.make_older(blocks, hours=48)
        await self.empty_buckets()

    async def look(self, view: View, instance: InstanceId) -> list[StoredBucket]:
        """All buckets of an instance."""
        return await self.catalog.look(instance, scope_of(view, instance.key.instance), EVERYTHING, 300)

    async def messages(self, fresh: Freshened) -> list[str]:
        async with self.store.localize([partition.key for partition in fresh.partitions]) as paths:
            tables = [pq.read_table(path, columns=["msg"]) for path in paths]
        return sorted(text for table in tables for text in table.column(0).to_pylist())

    async def local(self, materializer: Materializer, view: View, instance: str) -> LocalPartitions:
        """All of an instance as local files."""
        async with materializer.ensure_local(view, instance, EVERYTHING) as local:
            return local

    # what programs and operators do

    @abstractmethod
    async def insert_process(self, process: ProcessRequest) -> None: ...

    @abstractmethod
    async def insert_stream(self, stream: StreamRequest) -> None: ...

    @abstractmethod
    async def insert_block(self, block: BlockRequest, size_bytes: int) -> None: ...

    @abstractmethod
    async def make_older(self, blocks: Sequence[str], hours: int) -> None:
        """As if they had come so many hours earlier."""

    @abstractmethod
    async def remove_block(self, block: str) -> None:
        """As retention does."""

    @abstractmethod
    async def forget_clocks(self) -> None:
        """As if no process had said its tick frequency."""

    @abstractmethod
    async def restate(self, stream: str, *, ticks_factor: int = 1, later_s: int = 0) -> None:
        """As if the blocks of a stream had ended at other ticks, or at another time."""

    @abstractmethod
    async def enlarge(self, process: str, properties_bytes: int) -> None:
        """As if a process had been registered with so much."""

    @abstractmethod
    async def forget_digests(self) -> None:
        """As if an older version had written all partitions."""

    @abstractmethod
    async def empty_buckets(self) -> None: ...

    @abstractmethod
    async def expire_intents(self) -> None: ...

    # what there is

    @abstractmethod
    async def quarantined(self) -> dict[str, str]:
        """Blocks, and why."""

    @abstractmethod
    async def partition_rows(self) -> list[int]:
        """Of each partition."""

    @abstractmethod
    async def object_keys(self) -> set[str]: ...

    @abstractmethod
    async def instances(self) -> int: ...

    @abstractmethod
    async def payload_sizes(self) -> list[int]: ...

    @abstractmethod
    async def held(self) -> int:
        """Leases that have not run out, and open write intents."""


class MemoryLake(Lake):
    """Without a database."""

    def __init__(self, folder: Path) -> None:
        self.memory = MemoryCatalog(lambda: datetime.now(UTC) + self._later)
        super().__init__(self.memory, LocalStore(folder / "store"), folder)
        self._later = timedelta(0)
        self._last_insert_ns = 0

    async def insert_process(self, process: ProcessRequest) -> None:
        self.memory.add_process(
            Process(
                ProcessId(process.process_id),
                *(process.exe, process.username, process.realname, process.computer, process.distro),
                process.cpu_brand,
                process.tsc_frequency,
                process.start_time_ns,
                process.start_ticks,
                self._now_ns(),
                None,
                process.properties,
            )
        )

    async def insert_stream(self, stream: StreamRequest) -> None:
        self.memory.add_stream(
            Stream(
                StreamId(stream.stream_id),
                ProcessId(stream.process_id),
                stream.dependencies_metadata,
                stream.objects_metadata,
                stream.tags,
                stream.properties,
                NATIVE,
                self._now_ns(),
            )
        )

    async def insert_block(self, block: BlockRequest, size_bytes: int) -> None:
        self.memory.add_block(
            Block(
                BlockId(block.block_id),
                StreamId(block.stream_id),
                ProcessId(block.process_id),
                block.begin_time_ns,
                block.begin_ticks,
                block.end_time_ns,
                block.end_ticks,
                block.nb_objects,
                block.object_offset,
                size_bytes,
                self._now_ns(),
            )
        )

    async def make_older(self, blocks: Sequence[str], hours: int) -> None:
        for block_id in map(BlockId, blocks):
            block = self.memory.blocks[block_id]
            insert_time_ns = block.insert_time_ns - hours * BUCKET_SECONDS * 1_000_000_000
            self.memory.blocks[block_id] = replace(block, insert_time_ns=insert_time_ns)

    async def remove_block(self, block: str) -> None:
        del self.memory.blocks[BlockId(block)]

    async def forget_clocks(self) -> None:
        for process_id, process in self.memory.processes.items():
            self.memory.processes[process_id] = replace(process, tsc_frequency=0)

    async def restate(self, stream: str, *, ticks_factor: int = 1, later_s: int = 0) -> None:
        for block_id, block in self.memory.blocks.items():
            if block.stream_id == stream:
                self.memory.blocks[block_id] = replace(
                    block,
                    end_ticks=block.end_ticks * ticks_factor,
                    end_time_ns=block.end_time_ns + later_s * 1_000_000_000,
                )

    async def enlarge(self, process: str, properties_bytes: int) -> None:
        known = self.memory.processes[ProcessId(process)]
        self.memory.processes[ProcessId(process)] = replace(known, properties={"a": "x" * properties_bytes})

    async def forget_digests(self) -> None:
        self.memory.forget_digests()

    async def empty_buckets(self) -> None:
        self.memory.forget_buckets()

    async def expire_intents(self) -> None:
        self._later += timedelta(hours=1)

    async def quarantined(self) -> dict[str, str]:
        return {block: error for (block, _, _), error in self.memory.quarantined.items()}

    async def partition_rows(self) -> list[int]:
        return [made.rows for made in self.memory.partitions]

    async def object_keys(self) -> set[str]:
        return self.memory.object_keys

    async def instances(self) -> int:
        return len(self.memory.instances)

    async def payload_sizes(self) -> list[int]:
        return [block.payload_size for block in self.memory.blocks.values()]

    async def held(self) -> int:
        return self.memory.open_intents + self.memory.leases

    def _now_ns(self) -> int:
        """Whole microseconds, and never the same twice."""
        self._last_insert_ns = max(time.time_ns() // 1000 * 1000, self._last_insert_ns + 1000)
        return self._last_insert_ns


def view_of(name: str) -> View:
    return default_registry().view(name)
