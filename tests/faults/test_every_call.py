"""Every call of Postgres and of the store fails once, in everything that writes: done again, it comes to what it should.

Each step is done to copies of one lake. In each copy another call fails: the connection breaks before the database hears of the
statement, or when it has done it and nobody hears the answer, that to a COMMIT among them; the store fails before it does
anything, or after. What failed says so in words, is done again once, and the state is that of a copy in which nothing failed.
"""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, cast, get_args

import pyarrow.parquet as pq
import pytest
from structlog.testing import capture_logs

from lakeflight.wire.envelope import decode_block
from lakehouse.buckets.model import PartitionFile
from lakehouse.buckets.sharing import Progress
from lakehouse.catalog.connect import open_pool
from lakehouse.errors import BackendUnavailableError
from lakehouse.model import EVERYTHING, GLOBAL_INSTANCE
from lakehouse.ports import View
from lakehouse.storage import LocalStore
from lakehouse.storage.paths import BLOBS, PARTITIONS, partition_key
from server.administration import Administration
from server.ingestion.group_commit import GroupCommit
from server.maintenance import VERSION_UNUSED_MAX, Maintenance
from server.retention import Kept
from tests.lakehouse.test_merging import a_day, closed, sent_at
from tests.support.failing_store import FailingStore
from tests.support.fixtures import Request
from tests.support.housekeeping import KEPT, LOGS, OLD_H, REGISTRY, SPANS, all_runs_out, housekeeping
from tests.support.lake_rows import counted
from tests.support.postgres import PostgresServer
from tests.support.postgres_lake import PostgresLake, postgres_lake_at
from tests.support.postgres_proxy import Moment, PostgresProxy, proxy_before
from tests.support.programs import Program
from tests.support.sizes import FULL, SEED

Backend: TypeAlias = Literal["postgres", "store"]

DAY_NS: Final = 86_400 * 1_000_000_000
FAULTS_MAX: Final = 3  # of a step and a way to fail, chosen by the seed; all of them at full size
CALLS_MAX: Final = 2_000  # a step that makes more never ends


@dataclass
class Broken:
    """A copy of a lake whose every call goes through something that may fail."""

    lake: PostgresLake
    proxy: PostgresProxy
    store: FailingStore
    program: Program
    requests: list[Request] = field(default_factory=list)

    def maintenance(self, kept: Kept | None = None) -> Maintenance:
        return housekeeping(self.lake, kept)

    def arm(self, backend: Backend, number: int, moment: Moment) -> None:
        (self.proxy if backend == "postgres" else self.store).arm_call(number, moment)

    def calls_left(self, backend: Backend) -> int:
        """Until the one that fails."""
        return (self.proxy if backend == "postgres" else self.store).calls_left

    @property
    def faults(self) -> int:
        return self.proxy.broken + self.store.failed


State: TypeAlias = dict[str, Counter[Any]]
Prepare = Callable[[PostgresLake], Awaitable[tuple[Program, list[Request]]]]
Work = Callable[[Broken], Awaitable[object]]


# --- the lakes before ---------------------------------------------------------------------------------------------


async def _nothing(_: PostgresLake) -> tuple[Program, list[Request]]:
    program = Program()
    return program, [*program.registration(), program.log_block(), program.log_block(), program.thread_block()]


async def _a_day_of_blocks(lake: PostgresLake) -> tuple[Program, list[Request]]:
    return await a_day(lake, hours=2), []


async def _a_closed_day(lake: PostgresLake) -> tuple[Program, list[Request]]:
    program = await a_day(lake, hours=3)
    await closed(lake, LOGS, GLOBAL_INSTANCE)
    await closed(lake, LOGS, program.process_id)
    await closed(lake, SPANS, program.thread_stream)
    return program, []


async def _an_hour_of_deltas(lake: PostgresLake) -> tuple[Program, list[Request]]:
    program = Program()
    await lake.send(program.registration())
    for _ in range(6):
        await sent_at(lake, 0, program.log_block())
        await closed(lake, LOGS, program.process_id)
    return program, []


async def _old_and_new_blocks(lake: PostgresLake) -> tuple[Program, list[Request]]:
    """Logs are kept for longer than their blocks; spans are not, and some of them are materialized."""
    program = Program()
    await lake.send(program.registration())
    for age in (OLD_H + 1, OLD_H, 3):
        await lake.make_older(await lake.send([program.log_block(), program.thread_block()]), age)
    await closed(lake, LOGS, program.process_id)
    await closed(lake, SPANS, program.thread_stream)
    return program, []


async def _a_version_of_the_past(lake: PostgresLake) -> tuple[Program, list[Request]]:
    program, _ = await _a_closed_day(lake)
    await lake.pool.execute(
        "UPDATE view_instances SET writer_version = -1, used = clock_timestamp() - $1::interval",
        VERSION_UNUSED_MAX + timedelta(hours=1),
    )
    return program, []


async def _a_miscounted_bucket(lake: PostgresLake) -> tuple[Program, list[Request]]:
    program, _ = await _a_closed_day(lake)
    await lake.pool.execute("UPDATE lakehouse_buckets SET src_blocks = src_blocks + 1")
    return program, []


async def _what_crashes_leave(lake: PostgresLake) -> tuple[Program, list[Request]]:
    """A file that nothing names, one whose writer died, and one that was replaced."""
    program, _ = await _a_closed_day(lake)
    for key in (partition_key("log_entries", GLOBAL_INSTANCE, number) for number in range(2)):
        source = lake.scratch / "left"
        source.write_bytes(b"left")
        await lake.store.put_file(key, source)
    await lake.catalog.reserve([key], timedelta(0), "one that died")
    await lake.pool.execute("UPDATE lakehouse_buckets SET dirty = true, marks = marks + 1, src_digest = NULL")
    await closed(lake, LOGS, GLOBAL_INSTANCE)
    return program, []


# --- what is done to them -----------------------------------------------------------------------------------------


async def _ingest(broken: Broken) -> None:
    commit = GroupCommit(cast(LocalStore, broken.store), broken.lake.rows)
    for request in broken.requests:
        if request.path.endswith("_block"):
            await commit.put(decode_block(request.body))
        else:
            await broken.lake.send([request])


async def _freshen(broken: Broken) -> None:
    materializer = broken.lake.materializer()
    await materializer.ensure(LOGS, broken.program.process_id, EVERYTHING)
    await materializer.ensure(SPANS, broken.program.thread_stream, EVERYTHING)


async def _retire_window(broken: Broken) -> None:
    administration = Administration(REGISTRY, broken.lake.catalog, broken.lake.materializer())
    now_ns = time.time_ns()
    window = (str(now_ns - 10 * DAY_NS), str(now_ns + DAY_NS))
    arguments = ["log_entries", broken.program.process_id, *window]
    async for _ in administration.run("retire_partitions", arguments, Progress()):
        pass


async def _retire_files(broken: Broken) -> None:
    rows = await broken.lake.pool.fetch("SELECT file_path FROM lakehouse_partitions ORDER BY file_path")
    if rows:  # none is left when it has happened and nobody heard of it
        await broken.lake.catalog.retire([PartitionFile(row["file_path"]) for row in rows])


async def _clean_up(broken: Broken) -> None:
    maintenance = broken.maintenance()
    await maintenance.reap_expired_intents()
    await maintenance.collect_retired_objects()
    await maintenance.sweep_orphans()


@dataclass(frozen=True)
class Step:
    prepare: Prepare
    work: Work


STEPS: Final[dict[str, Step]] = {
    "ingest": Step(_nothing, _ingest),
    "freshen": Step(_a_day_of_blocks, _freshen),
    "freshen ahead of queries": Step(_a_day_of_blocks, lambda broken: broken.maintenance().freshen_global_views()),
    "make whole": Step(_an_hour_of_deltas, lambda broken: broken.maintenance().compact_closed_buckets()),
    "merge": Step(_a_closed_day, lambda broken: broken.maintenance().merge_closed_days()),
    "retain": Step(_old_and_new_blocks, lambda broken: broken.maintenance(KEPT).retain()),
    "retire a window": Step(_a_closed_day, _retire_window),
    "retire files": Step(_a_closed_day, _retire_files),
    "retire a version": Step(_a_version_of_the_past, lambda broken: broken.maintenance().retire_unused_versions()),
    "audit": Step(_a_miscounted_bucket, lambda broken: broken.maintenance().audit()),
    "clean up": Step(_what_crashes_leave, _clean_up),
}


# --- copies, and what is in them ----------------------------------------------------------------------------------


@dataclass
class Prepared:
    """A lake of which copies are made."""

    server: PostgresServer
    url: str
    folder: Path
    program: Program
    requests: list[Request]

    @asynccontextmanager
    async def copy(self) -> AsyncIterator[Broken]:
        """In the same place as every other: the catalog knows the store by it."""
        place = self.folder / "lake"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.folder / "prepared", place)
        url = await self.server.copy(self.url)
        try:
            async with AsyncExitStack() as stack:
                proxy = await stack.enter_async_context(proxy_before(url))
                pool = await stack.enter_async_context(await open_pool(proxy.url, connections_max=8))
                lake = PostgresLake(pool, proxy.url, place)
                files = lake.store
                store = FailingStore(files)
                lake.store = cast(LocalStore, store)
                yield Broken(lake, proxy, store, self.program, self.requests)
                await lake.rows.close()
                await files.close()
        finally:
            await self.server.drop(url)


@asynccontextmanager
async def _prepared(server: PostgresServer, folder: Path, prepare: Prepare) -> AsyncIterator[Prepared]:
    url = await server.create(migrated=True)
    place = folder / "lake"
    place.mkdir()
    try:
        async with postgres_lake_at(url, place) as lake:
            program, requests = await prepare(lake)
        shutil.rmtree(place / "scratch")
        place.rename(folder / "prepared")
        yield Prepared(server, url, folder, program, requests)
    finally:
        await server.drop(url)


CATALOG: Final = {
    "processes": "SELECT process_id, exe FROM processes",
    "streams": "SELECT stream_id, process_id FROM streams",
    "blocks": "SELECT block_id, stream_id, process_id, payload_size FROM blocks",
    "buckets": "SELECT view_set, instance_id, writer_version, bucket_begin, bucket_end, dirty, sealed, whole, frozen, src_blocks,"
    " src_objects, src_digest, b.missing_blocks FROM lakehouse_buckets b JOIN view_instances USING (vid)",
    "partitions": "SELECT view_set_name, view_instance_id, writer_version, bucket_begin, bucket_end, ordinal, num_rows,"
    " min_event_ns, max_event_ns, block_ids FROM lakehouse_partitions p"
    " JOIN lakehouse_buckets b USING (vid, bucket_begin)",
    "horizons": "SELECT kept_from FROM lakehouse_horizons",
    "quarantined": "SELECT block_id, view_set FROM quarantined_blocks",
}


async def _state(broken: Broken) -> State:
    """What whoever asks next finds, and what is left when everything has run out that can."""
    lake, program = broken.lake, broken.program
    state = {name: Counter(map(repr, await lake.pool.fetch(sql))) for name, sql in CATALOG.items()}
    await all_runs_out(broken.lake)
    await _clean_up(broken)
    named = await lake.pool.fetch("SELECT DISTINCT file_path FROM lakehouse_partitions WHERE file_path IS NOT NULL")
    assert sorted(row["file_path"] for row in named) == sorted(await lake.store.list(PARTITIONS)), (
        "files = the catalog's"
    )
    state["blobs"] = Counter(await lake.store.list(BLOBS))
    state["left"] = Counter({"held": await lake.held()})
    state["logs"] = await _rows(lake, LOGS, program.process_id)
    state["all logs"] = await _rows(lake, LOGS, GLOBAL_INSTANCE)
    state["spans"] = await _rows(lake, SPANS, program.thread_stream)
    return state


async def _rows(lake: PostgresLake, view: View, instance: str) -> Counter[Any]:
    """But for when they came, which is the same in no two copies that they are sent to."""
    fresh = await lake.materializer().ensure(view, instance, EVERYTHING)
    async with lake.store.localize([partition.key for partition in fresh.partitions]) as paths:
        tables = [pq.read_table(path) for path in paths]
    return counted(
        [table.drop_columns([name for name in table.column_names if name == "insert_time"]) for table in tables]
    )


async def _counted(prepared: Prepared, work: Work, backend: Backend) -> tuple[int, State]:
    """How many calls the step makes, and what it comes to."""
    async with prepared.copy() as whole:
        whole.arm(backend, CALLS_MAX, "before")
        await work(whole)
        left = whole.calls_left(backend)
        whole.arm(backend, 0, "before")
        return CALLS_MAX - left, await _state(whole)


@pytest.mark.parametrize("step", STEPS)
async def test_what_fails_at_any_call_is_done_when_it_is_done_again(
    postgres_server: PostgresServer, tmp_path: Path, step: str
) -> None:
    work = STEPS[step].work
    async with _prepared(postgres_server, tmp_path, STEPS[step].prepare) as prepared:
        for backend in get_args(Backend):
            calls, expected = await _counted(prepared, work, backend)
            for moment in get_args(Moment):
                for number in _chosen(calls, f"{step}-{backend}-{moment}"):
                    await _fails_and_is_done_again(prepared, work, backend, moment, number, expected)


def _chosen(calls: int, what: str) -> list[int]:
    """The calls that fail: all of them at full size."""
    numbers = list(range(1, calls + 1))
    if not FULL and calls > FAULTS_MAX:
        numbers = sorted(random.Random(f"{SEED}-{what}").sample(numbers, FAULTS_MAX))
    print(f"seed {SEED}: {what}: {len(numbers)} of {calls} calls fail: {numbers}")
    return numbers


async def _fails_and_is_done_again(
    prepared: Prepared, work: Work, backend: Backend, moment: Moment, number: int, expected: State
) -> None:
    async with prepared.copy() as broken:
        broken.arm(backend, number, moment)
        with capture_logs() as logs, suppress(BackendUnavailableError):
            await work(broken)
        broken.arm(backend, 0, moment)
        assert not [line for line in logs if line.get("exc_info")], "what failed says so, in words"
        assert broken.faults <= 1  # none, where fewer calls were made than in the copy that they were counted in
        await all_runs_out(broken.lake)

        await work(broken)

        assert await _state(broken) == expected, f"call {number} of {backend} failed {moment}"
