"""Buckets in real worker processes: answers, crashes, deadlines."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from lakehouse.errors import BackendUnavailableError, LimitExceededError
from lakehouse.jobs.build import BuildResult
from lakehouse.jobs.executor import WorkerCrashedError
from lakehouse.jobs.merge import LocalMerge, MergeJob, MergeResult
from server.workers import protocol
from server.workers.pool import BuildPoolLimits, BuildWorkerPool
from server.workers.protocol import REQUEST_BYTES_MAX
from tests.support.buckets import Lake
from tests.support.fixtures import native_cases
from views.log_entries import LogEntries

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_pool() -> AsyncIterator[BuildWorkerPool]:
    pool = BuildWorkerPool(BuildPoolLimits(slots=2, queued_max=3), builder="tests.support.worker_stubs:builder")
    await pool.start()
    await pool.ready()
    yield pool
    await pool.close()


@pytest_asyncio.fixture(loop_scope="module")
async def pool(shared_pool: BuildWorkerPool) -> BuildWorkerPool:
    """With both slots free, whatever the test before did to them."""
    for _ in range(400):
        if shared_pool.busy == 0 and len(shared_pool.pids) == 3:
            break
        await asyncio.sleep(0.01)
    return shared_pool


async def test_jobs_come_back_and_run_side_by_side(pool: BuildWorkerPool) -> None:
    requests = [{"do": "echo", "payload": bytes([i]) * 100_000, "deep": [{"a": [i, None, "x"]}]} for i in range(5)]

    answers = await asyncio.gather(*(pool.build(request, 5) for request in requests))

    assert [answer["echo"] for answer in answers] == requests
    assert {answer["pid"] for answer in answers} <= set(pool.pids)


async def test_a_full_disk_is_no_fault_of_the_server_s_and_named_without_a_path(pool: BuildWorkerPool) -> None:
    with pytest.raises(BackendUnavailableError) as refused:
        await pool.build({"do": "full"}, 5)

    assert str(refused.value) == (
        "the server cannot write partitions: no space left on device; ask again once that is mended"
    )


@pytest.mark.parametrize("how", ["crash", "memory"])
async def test_a_job_that_kills_its_worker_is_told_apart_and_the_next_one_runs(pool: BuildWorkerPool, how: str) -> None:
    other = asyncio.create_task(pool.build({"do": "echo"}, 5))

    with pytest.raises(WorkerCrashedError):
        await pool.build({"do": how}, 5)

    assert (await other)["echo"] == {"do": "echo"}
    assert (await pool.build({"do": "echo", "n": 2}, 5))["echo"] == {"do": "echo", "n": 2}


async def test_a_job_past_its_deadline_is_killed(pool: BuildWorkerPool) -> None:
    start = time.monotonic()

    with pytest.raises(WorkerCrashedError, match="it took too long"):
        await pool.build({"do": "sleep"}, 0.3)

    assert time.monotonic() - start < 0.8
    assert len(await asyncio.gather(*(pool.build({"do": "echo"}, 5) for _ in range(3)))) == 3


async def test_an_error_of_the_job_is_no_crash(pool: BuildWorkerPool) -> None:
    before = set(pool.pids)

    with pytest.raises(LimitExceededError, match="too much"):
        await pool.build({"do": "fail"}, 5)

    assert set(pool.pids) == before


async def test_a_caller_that_goes_away_takes_its_job_along(pool: BuildWorkerPool) -> None:
    task = asyncio.create_task(pool.build({"do": "sleep"}, 60))
    await asyncio.sleep(0.1)
    assert pool.busy == 1

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert pool.busy == 0
    assert (await pool.build({"do": "echo"}, 5))["echo"] == {"do": "echo"}


async def test_the_queue_is_bounded(pool: BuildWorkerPool) -> None:
    tasks = [asyncio.create_task(pool.build({"do": "sleep"}, 60)) for _ in range(5)]
    await asyncio.sleep(0.2)
    assert (pool.busy, pool.waiting) == (2, 3)

    with pytest.raises(LimitExceededError, match="3 requests wait already"):
        await pool.build({"do": "echo"}, 5)

    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (pool.busy, pool.waiting) == (0, 0)


async def test_a_request_that_is_too_large_is_refused_and_harms_nobody(pool: BuildWorkerPool) -> None:
    with pytest.raises(LimitExceededError, match="a request to a worker takes"):
        await pool.build({"do": "echo", "payload": bytes(REQUEST_BYTES_MAX)}, 5)

    assert (await pool.build({"do": "echo"}, 5))["echo"] == {"do": "echo"}


async def test_a_job_is_packed_beside_the_event_loop(pool: BuildWorkerPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes milliseconds a megabyte."""
    packed_in: list[int] = []

    def pack(message: Any) -> bytes:
        packed_in.append(threading.get_ident())
        return protocol.pack(message)

    monkeypatch.setattr("server.workers.pool.pack", pack)

    await pool.build({"do": "echo", "n": 1}, 5)

    assert len(packed_in) == 1
    assert packed_in[0] != threading.get_ident()


async def test_the_death_of_the_zygote_is_not_blamed_on_the_job(pool: BuildWorkerPool) -> None:
    task = asyncio.create_task(pool.build({"do": "sleep"}, 60))
    await asyncio.sleep(0.3)

    os.kill(pool.pids[0], signal.SIGKILL)

    with pytest.raises(BackendUnavailableError, match="restarted"):
        await task
    assert (await pool.build({"do": "echo"}, 5))["echo"] == {"do": "echo"}


async def test_a_worker_builds_the_files_that_the_server_would(tmp_path: Path) -> None:
    case = next(case for case in native_cases() if case.name == "generator-a")
    lake = Lake(tmp_path).send(case.requests)
    view = LogEntries()
    job = lake.job(view, case.process_id)
    there = lake.local(job)
    pool = BuildWorkerPool(BuildPoolLimits(slots=1))
    await pool.start()

    answer = await pool.build(there.to_message(), 60)
    await pool.close()

    expected = lake.build(view, job)
    result = BuildResult.from_message(answer, there.output, frozenset(there.payloads))
    assert [f.path.read_bytes() for f in result.files] == [f.path.read_bytes() for f in expected.files]
    assert sum(file.rows for file in result.files) > 0


async def test_a_worker_of_the_lake_s_own_merges_files_and_names_damaged_ones(tmp_path: Path) -> None:
    case = next(case for case in native_cases() if case.name == "generator-a")
    lake = Lake(tmp_path).send(case.requests)
    (file,) = lake.build(LogEntries(), lake.job(LogEntries(), case.process_id)).files
    output = tmp_path / "merged"
    output.mkdir()
    job = MergeJob("log_entries", ("a", "b"), (file.sha256, file.sha256), 1 << 30)
    pool = BuildWorkerPool(BuildPoolLimits(slots=1))
    await pool.start()

    twice = await pool.build(LocalMerge(job, (file.path, file.path), output).to_message(), 60)
    file.path.write_bytes(bytes(file.size_bytes))
    damaged = await pool.build(LocalMerge(job, (file.path, file.path), output).to_message(), 60)
    await pool.close()

    result = MergeResult.from_message(twice, job, output)
    assert [made.rows for made in result.files] == [2 * file.rows]
    assert MergeResult.from_message(damaged, job, output).damaged == ("a", "b")
