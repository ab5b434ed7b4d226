"""Workers that spill: files in a folder of their own and nowhere else, gone with the statement or with the worker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from server.workers import spilling
from server.workers.pool import QueryPoolLimits, QueryWorkerPool, Statement
from server.workers.spool import SpoolLimits
from tests.support.worker_stubs import table_of

pytestmark = pytest.mark.skipif(not spilling.can_confine(), reason="the kernel has no Landlock: workers write nothing")

LARGE_SORT = "SELECT repeat('x', 100) || i AS text FROM range(1500000) r(i) ORDER BY hash(i)"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "there").write_bytes(b"a partition")
    return folder


@pytest_asyncio.fixture
async def pool(tmp_path: Path, elsewhere: Path) -> AsyncIterator[QueryWorkerPool]:
    (tmp_path / "spill" / "1").mkdir(parents=True)
    (tmp_path / "spill" / "1" / "left").write_bytes(b"by a server that was killed")
    pool = QueryWorkerPool(
        QueryPoolLimits(
            slots=1,
            memory_bytes=64 << 20,
            spill_folder=str(tmp_path / "spill"),
            spill_bytes_max=1 << 30,
            spool=SpoolLimits(tmp_path, 1 << 30, 1 << 30),
        ),
        engine="tests.support.worker_stubs:StubEngine",
        engine_options={"folders": [str(elsewhere), str(tmp_path / "spill"), "/dev/shm"]},
    )
    await pool.start()
    await pool.ready()
    yield pool
    await pool.close()


async def until_gone(folder: Path, pattern: str) -> None:
    deadline = time.monotonic() + 20
    while left := list(folder.rglob(pattern)):
        assert time.monotonic() < deadline, left
        await asyncio.sleep(0.02)


async def test_a_worker_changes_nothing_outside_of_its_folder(pool: QueryWorkerPool, elsewhere: Path) -> None:
    frames = [frame async for frame in pool.run(Statement("!change_files"))]

    assert json.loads(table_of(frames)["value"][0].as_py()) == []
    assert {path.name: path.read_bytes() for path in elsewhere.iterdir()} == {"there": b"a partition"}


async def test_a_statement_that_is_read_to_its_end_leaves_no_file(pool: QueryWorkerPool, tmp_path: Path) -> None:
    (worker,) = pool.pids[1:]
    assert not (tmp_path / "spill" / "1" / "left").exists()

    frames = [frame async for frame in pool.run(Statement(LARGE_SORT))]

    assert table_of(frames).num_rows == 1_500_000
    assert pool.pids[1:] == [worker]
    await until_gone(tmp_path / "spill", "*.tmp")


async def test_nothing_is_left_of_a_worker_that_is_killed(pool: QueryWorkerPool, tmp_path: Path) -> None:
    (worker,) = pool.pids[1:]
    stream = pool.run(Statement(LARGE_SORT))
    await anext(stream)
    assert list((tmp_path / "spill" / str(worker)).rglob("*.tmp"))

    os.kill(worker, signal.SIGKILL)
    await stream.aclose()

    await until_gone(tmp_path / "spill", str(worker))
    frames = [frame async for frame in pool.run(Statement("SELECT 42 AS n"))]
    assert table_of(frames).to_pylist() == [{"n": 42}]
