"""Readers that pause: they keep their rows, and hold no worker."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import shutil
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import numpy
import pytest

from lakehouse.catalog.metadata import MetadataExport
from lakehouse.catalog.tables import RowsNeed
from lakehouse.errors import InternalError, LimitExceededError
from lakehouse.jobs.run import JobRelation, RunJob
from lakehouse.model import Caller
from lakehouse.ports import ObjectStore
from server.workers.executor import LocalQueryExecutor
from server.workers.pool import QueryPoolLimits, QueryWorkerPool, Statement
from server.workers.result_stream import WorkerStream
from server.workers.spool import DISK_LOOK_BYTES, DISK_LOOK_S, SpoolBudget, SpoolLimits
from tests.support.worker_stubs import table_of
from views.processes import PROCESSES

ROWS = 1_000_000
LARGE = f"SELECT i, i * 2 AS twice, i / 3.0::DOUBLE AS third FROM range({ROWS}) t(i)"  # 24 MB: three times the ring
ENDLESS = "SELECT i FROM range(1000000000000) t(i)"


@asynccontextmanager
async def pool_of(folder: Path | None, **limits: Any) -> AsyncIterator[QueryWorkerPool]:
    spool = {"free_bytes_min": 0, **limits.pop("spool", {})}
    settings = {"slots": 2, "statement_timeout_s": 20.0, "memory_bytes": 512 << 20, **limits}
    pool = QueryWorkerPool(
        QueryPoolLimits(**settings, spool=SpoolLimits(folder, **spool)),
        engine="tests.support.worker_stubs:StubEngine",
    )
    await pool.start()
    await pool.ready()
    try:
        yield pool
    finally:
        await pool.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    spool = tmp_path / "spool"
    spool.mkdir()
    return spool


async def paused(pool: QueryWorkerPool, sql: str = LARGE, name: str = "ada") -> tuple[WorkerStream, list[bytes]]:
    """A reader that took the schema and a frame, and does not ask for more."""
    stream = pool.run(Statement(sql, options={"rows": 60_000}), caller=Caller(name))
    return stream, [await anext(stream), await anext(stream)]


async def rest_is_exact(stream: WorkerStream, taken: list[bytes]) -> bool:
    table = table_of([*taken, *[frame async for frame in stream]])
    sums = [int(column.to_numpy().sum()) for column in table.columns[:2]]
    return table.num_rows == stream.rows == ROWS and sums == [ROWS * (ROWS - 1) // 2, ROWS * (ROWS - 1)]


async def until(condition: Any, timeout_s: float = 15) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)


async def one(pool: QueryWorkerPool, name: str = "bob") -> int:
    frames = [frame async for frame in pool.run(Statement("SELECT 1 AS one", options={}), caller=Caller(name))]
    return int(table_of(frames)["one"][0].as_py())


def deleted_files(folder: Path) -> int:
    """Files of the folder that have no name and are open here."""
    count = 0
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except FileNotFoundError:
            continue
        count += target.startswith(str(folder)) and target.endswith("(deleted)")
    return count


async def test_many_paused_readers_hold_no_worker_and_each_gets_all_its_rows(folder: Path) -> None:
    async with pool_of(folder) as pool:
        readers = await asyncio.gather(*(paused(pool) for _ in range(30)))
        await until(lambda: pool.busy == 0)

        assert await one(pool) == 1
        assert pool.spools.kept_bytes > 25 * 10_000_000
        assert os.listdir(folder) == []  # a crash now would leave nothing
        assert deleted_files(folder) == 30

        for stream, taken in readers:
            assert await rest_is_exact(stream, taken)
        assert pool.spools.kept_bytes == 0
        await until(lambda: deleted_files(folder) == 0)


async def test_readers_that_pause_now_and_then_get_their_rows_in_order(folder: Path) -> None:
    chance = random.Random(7)
    pauses = [[0.0, 0.0, 0.3 * chance.random(), 0.6 * chance.random()] for _ in range(6)]

    async def read(pool: QueryWorkerPool, seed: int) -> bool:
        stream, taken = await paused(pool)
        async for frame in stream:
            taken.append(frame)
            await asyncio.sleep(random.Random(seed * 1000 + len(taken)).choice(pauses[seed]))
        return bool((table_of(taken)["i"].to_numpy() == numpy.arange(ROWS)).all())

    async with pool_of(folder) as pool:
        assert await asyncio.gather(*(read(pool, seed) for seed in range(6))) == [True] * 6
        assert pool.spools.kept_bytes == 0


async def test_a_reader_that_never_pauses_needs_no_spool_and_no_memory(folder: Path) -> None:
    async with pool_of(folder) as pool:
        stream = pool.run(Statement(ENDLESS, options={"rows": 250_000}))
        for _ in range(20):
            await anext(stream)
        before = _resident_bytes()

        while stream.bytes_read < 300_000_000:
            await anext(stream)

        assert _resident_bytes() - before < 60_000_000
        await stream.aclose()


async def test_a_reader_s_pause_is_no_engine_time(folder: Path) -> None:
    async with pool_of(folder, statement_timeout_s=1.5, spool={"bytes_max": 0}) as pool:
        stream, taken = await paused(pool)  # nothing may be kept: the worker waits for it

        await asyncio.sleep(3)

        assert pool.busy == 1
        assert await rest_is_exact(stream, taken)


async def test_a_paused_reader_that_is_closed_frees_its_spool_at_once(folder: Path) -> None:
    async with pool_of(folder) as pool:
        readers = [await paused(pool, sql) for sql in (LARGE, LARGE, ENDLESS)]
        await until(lambda: pool.spools.kept_bytes > 4 * 10_000_000)

        for stream, _ in readers:
            await stream.aclose()

        assert pool.spools.kept_bytes == 0
        await until(lambda: deleted_files(folder) == 0 and pool.busy == 0)


async def test_what_may_not_be_kept_waits_in_its_worker_and_arrives_all_the_same(folder: Path) -> None:
    async with pool_of(folder, short_slots=1, spool={"bytes_max": 10_000_000}) as pool:
        readers = [await paused(pool) for _ in range(2)]
        await asyncio.sleep(1)

        assert pool.busy == 2
        assert pool.spools.kept_bytes <= 10_000_000
        assert await one(pool) == 1  # there is a place that they cannot hold
        for stream, taken in readers:
            assert await rest_is_exact(stream, taken)


async def test_what_one_identity_keeps_is_limited_before_what_all_do(folder: Path) -> None:
    async with pool_of(folder, slots=3, spool={"bytes_per_identity_max": 30_000_000}) as pool:
        ada = [await paused(pool)]
        await until(lambda: pool.busy == 0)
        ada.append(await paused(pool))
        await asyncio.sleep(0.6)
        assert pool.busy == 1

        bob, taken = await paused(pool, name="bob")

        await until(lambda: pool.busy == 1)  # bob's statement is done, ada's second waits
        assert await rest_is_exact(bob, taken)
        for stream, frames in ada:
            assert await rest_is_exact(stream, frames)


async def test_whoever_holds_the_last_worker_while_others_wait_is_told_which_limit_it_was(folder: Path) -> None:
    async with pool_of(folder, slots=1, stall_contended_max_s=0.4, spool={"bytes_max": 9_000_000}) as pool:
        stream, _ = await paused(pool, ENDLESS)
        await until(lambda: pool.spools.kept_bytes > 6_000_000)

        assert await one(pool) == 1

        with pytest.raises(
            LimitExceededError, match=r"took nothing for 0.4 s, and the 9000000 bytes .* are used up: read"
        ):
            while True:
                await anext(stream)
        assert pool.spools.kept_bytes == 0


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """What a full disk does: a write beyond this size fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)


async def test_a_full_disk_loses_nothing_of_a_result(folder: Path) -> None:
    async with pool_of(folder, slots=1, stall_contended_max_s=60) as pool:
        with files_no_longer_than(5_000_000):
            stream, taken = await paused(pool)
            await asyncio.sleep(1)
            assert pool.busy == 1  # it waits with its ring full

        assert await rest_is_exact(stream, taken)


async def test_a_full_disk_is_what_a_reader_that_never_goes_on_is_told(folder: Path) -> None:
    async with pool_of(folder, slots=1, stall_max_s=1.0) as pool:
        with files_no_longer_than(5_000_000):
            stream, _ = await paused(pool)
            await until(lambda: pool.busy == 0)

        with pytest.raises(LimitExceededError, match="the server's disk has no room for half-read results"):
            while True:
                await anext(stream)
        assert pool.spools.kept_bytes == 0


async def test_a_disk_that_others_need_is_left_alone(folder: Path) -> None:
    async with pool_of(folder, slots=1, spool={"free_bytes_min": 1 << 60}) as pool:
        stream, taken = await paused(pool)
        await asyncio.sleep(0.8)

        assert (pool.busy, pool.spools.kept_bytes) == (1, 0)
        assert await rest_is_exact(stream, taken)


def test_the_disk_is_looked_at_now_and_then_and_not_for_each_frame(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = SpoolBudget(SpoolLimits(folder, free_bytes_min=0))
    looks: list[str] = []
    now, disk = [100.0], os.statvfs(folder)

    def look(path: str) -> os.statvfs_result:
        looks.append(path)
        return disk

    monkeypatch.setattr("server.workers.spool.time.monotonic", lambda: now[0])
    monkeypatch.setattr("server.workers.spool.os.statvfs", look)

    for _ in range(1000):
        assert budget.take("ada", 1000) is None
    assert len(looks) == 1

    now[0] += DISK_LOOK_S
    assert budget.take("ada", 1000) is None
    assert len(looks) == 2

    for _ in range(64):
        assert budget.take("ada", DISK_LOOK_BYTES // 16) is None
    assert 5 <= len(looks) <= 6
    budget.close()


def test_what_was_taken_since_the_last_look_is_room_no_longer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = os.statvfs(folder)
    monkeypatch.setattr("server.workers.spool.os.statvfs", lambda path: disk)
    room = DISK_LOOK_BYTES // 2
    budget = SpoolBudget(SpoolLimits(folder, free_bytes_min=disk.f_bavail * disk.f_frsize - room))

    assert budget.take("ada", room // 2) is None
    assert budget.take("ada", room // 2) is None
    assert budget.take("ada", 1) == "the server's disk has no room for half-read results"
    budget.close()


async def test_a_worker_that_dies_leaves_no_half_result_that_looks_whole(folder: Path) -> None:
    async with pool_of(folder, slots=1, spool={"bytes_max": 12_000_000}) as pool:
        stream, taken = await paused(pool)
        await until(lambda: pool.spools.kept_bytes > 9_000_000)

        os.kill(pool.pids[1], signal.SIGKILL)

        with pytest.raises(InternalError):
            async for frame in stream:
                taken.append(frame)
        assert pool.spools.kept_bytes == 0


async def test_a_worker_that_only_waits_for_its_ring_is_not_killed_for_it(folder: Path) -> None:
    """The statement is done, its last frames fill the ring and may not be kept: its worker is as good as before."""
    fits = "SELECT i, i * 2 AS twice FROM range(250000) t(i)"  # 4 MB
    async with pool_of(folder, slots=1, stall_contended_max_s=0.3, spool={"bytes_max": 0}) as pool:
        before = pool.pids
        stream, _ = await paused(pool, fits)
        await asyncio.sleep(0.3)
        assert pool.busy == 1

        assert await one(pool) == 1

        with pytest.raises(LimitExceededError, match="the 0 bytes that half-read results may keep"):
            while True:
                await anext(stream)
        assert pool.pids == before


async def test_the_last_frames_that_may_not_be_kept_are_read_out_of_the_ring(folder: Path) -> None:
    fits = "SELECT i, i * 2 AS twice FROM range(250000) t(i)"
    async with pool_of(folder, slots=1, spool={"bytes_max": 0}) as pool:
        stream, taken = await paused(pool, fits)
        await asyncio.sleep(0.3)
        assert pool.busy == 1

        taken += [frame async for frame in stream]

        assert (table_of(taken)["i"].to_numpy() == numpy.arange(250_000)).all()
        assert pool.busy == 0
        assert await one(pool) == 1


class _OneFile:
    """A store that knows how many files it has handed out."""

    def __init__(self) -> None:
        self.pinned = 0

    @asynccontextmanager
    async def localize(self, keys: Sequence[str]) -> AsyncIterator[list[Path]]:
        self.pinned += len(keys)
        try:
            yield [Path("/nowhere") / key for key in keys]
        finally:
            self.pinned -= len(keys)


async def test_a_paused_reader_pins_no_file_that_its_statement_has_read(folder: Path) -> None:
    store = _OneFile()
    async with pool_of(folder) as pool:
        executor = LocalQueryExecutor(
            pool,
            cast(ObjectStore, store),
            cast(MetadataExport, None),  # nothing is asked of the catalog
            folder,
            tables={},
            sources={},
        )
        frames = executor.run(RunJob(LARGE, None, Caller(), (JobRelation("a", "a", keys=("key",)),)))
        taken = [await anext(frames), await anext(frames)]
        assert store.pinned == 1

        await until(lambda: store.pinned == 0)

        assert pool.spools.kept_bytes > 0
        table = table_of([*taken, *[frame async for frame in frames]])
        assert table.num_rows == ROWS


class _Rows:
    """A catalog that writes the rows of one table into a file."""

    def __init__(self) -> None:
        self.folders: list[Path] = []

    async def write(self, needs: Sequence[RowsNeed], folder: Path) -> dict[str, Path | bytes]:
        self.folders.append(folder)
        folder.mkdir()
        (folder / "rows.csv").write_bytes(b"rows")
        return {"rows": folder / "rows.csv"}


async def test_rows_of_the_catalog_are_removed_without_holding_up_anybody(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, remove = [], shutil.rmtree

    def recorded(path: Path, **options: Any) -> None:
        threads.append(threading.current_thread())
        remove(path, **options)

    monkeypatch.setattr("server.workers.executor.shutil.rmtree", recorded)
    rows = _Rows()
    async with pool_of(folder, slots=1) as pool:
        executor = LocalQueryExecutor(
            pool, cast(ObjectStore, None), cast(MetadataExport, rows), folder, tables={}, sources={}
        )
        job = RunJob("SELECT 1 AS one", None, Caller(), (), needs=(RowsNeed(PROCESSES),))

        assert table_of([frame async for frame in executor.run(job)])["one"].to_pylist() == [1]

        await until(lambda: not rows.folders[0].exists())
    assert threads != []
    assert threading.main_thread() not in threads


async def test_a_statement_that_is_closed_half_way_unpins_its_files(folder: Path) -> None:
    store = _OneFile()
    async with pool_of(folder, slots=1) as pool:
        executor = LocalQueryExecutor(
            pool, cast(ObjectStore, store), cast(MetadataExport, None), folder, tables={}, sources={}
        )
        frames = executor.run(RunJob(ENDLESS, None, Caller(), (JobRelation("a", "a", keys=("key",)),)))
        await anext(frames)

        await frames.aclose()

        await until(lambda: store.pinned == 0 and pool.busy == 0)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
