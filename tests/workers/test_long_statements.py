"""Long statements beside short ones: everybody gets a turn, and nobody's rows differ for it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from lakehouse.errors import QueryTimeoutError
from lakehouse.model import Caller
from server.workers.pool import QueryPoolLimits, QueryWorkerPool, Statement
from server.workers.processes import YIELDING_NICENESS, WorkerProcess
from tests.support.worker_stubs import table_of

ENDLESS = "SELECT sum(hash(a.i + b.i)) FROM range(10000000) a(i), range(10000000) b(i)"
HEAVY = "SELECT count(*) AS n FROM range(8000) a(i), range(10000) b(i) WHERE (a.i * b.i) % 7 = {seed}"
ROWS = 1_000_000
LARGE = f"SELECT i, i * 2 AS twice, {{seed}} AS seed FROM range({ROWS}) t(i)"  # three times the ring


@asynccontextmanager
async def pool_of(**limits: Any) -> AsyncIterator[QueryWorkerPool]:
    settings = {"slots": 1, "short_slots": 1, "statement_timeout_s": 120.0, "memory_bytes": 512 << 20, **limits}
    pool = QueryWorkerPool(QueryPoolLimits(**settings), engine="tests.support.worker_stubs:StubEngine")
    await pool.start()
    await pool.ready()
    try:
        yield pool
    finally:
        await pool.close()


async def rows(pool: QueryWorkerPool, sql: str, connection: str = "", **limits: Any) -> Any:
    stream = pool.run(Statement(sql, options={}), caller=Caller(connection=connection), **limits)
    try:
        return table_of([frame async for frame in stream])
    finally:
        await stream.aclose()


def niceness(pid: int) -> int:
    """Of a worker, in steps behind this process: whoever runs a server may have made all of it nice."""
    return os.getpriority(os.PRIO_PROCESS, pid) - os.getpriority(os.PRIO_PROCESS, 0)


async def until(condition: Any, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)


async def stopped(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_endless_statements_do_not_keep_short_ones_waiting() -> None:
    async with pool_of() as pool:
        endless = [asyncio.create_task(rows(pool, f"{ENDLESS} -- {i}", str(i))) for i in range(4)]
        await asyncio.sleep(0.3)

        for _ in range(5):
            began = time.monotonic()
            assert (await rows(pool, "SELECT 1 AS one", "good")).to_pylist() == [{"one": 1}]
            assert time.monotonic() - began < 10  # the statements before it would take for ever

        assert not any(task.done() for task in endless)
        await stopped(*endless)


async def test_heavy_statements_that_had_to_begin_anew_end_with_their_own_results() -> None:
    async with pool_of() as pool:
        counts = await asyncio.gather(*(rows(pool, HEAVY.format(seed=seed), str(seed)) for seed in range(7)))

        assert sum(table["n"][0].as_py() for table in counts) == 8_000 * 10_000
        assert pool.busy == 0


async def test_large_results_that_had_to_begin_anew_are_handed_out_once() -> None:
    async with pool_of() as pool:
        tables = await asyncio.gather(*(rows(pool, LARGE.format(seed=seed), str(seed)) for seed in range(5)))

        for seed, table in enumerate(tables):
            assert table.num_rows == ROWS
            assert table["i"].to_numpy().sum() == ROWS * (ROWS - 1) // 2
            assert set(table["seed"].unique().to_pylist()) == {seed}


async def test_an_inspection_that_takes_long_leaves_its_short_place_too() -> None:
    async with pool_of(inspect_timeout_s=30.0) as pool:
        endless = asyncio.create_task(rows(pool, ENDLESS, "a"))
        await until(lambda: pool.busy == 1)
        slow = asyncio.create_task(pool.inspect(Statement("!attentive"), Caller(connection="b")))
        await until(lambda: pool.busy == 2)

        await until(lambda: pool.waiting == 1 and pool.busy == 1)

        assert (await rows(pool, "SELECT 1 AS one", "good")).num_rows == 1
        await stopped(slow, endless)


async def test_what_runs_on_lets_others_have_the_processors_first() -> None:
    async with pool_of() as pool:
        zygote, *workers = pool.pids
        endless = asyncio.create_task(rows(pool, ENDLESS))

        await until(lambda: YIELDING_NICENESS in map(niceness, workers))
        assert sorted(map(niceness, [zygote, *workers])) == [0, 0, YIELDING_NICENESS]

        await stopped(endless)
        await until(lambda: pool.busy == 0 and len(pool.pids) == 3)
        assert (await rows(pool, "SELECT 1 AS one")).num_rows == 1
        assert [niceness(pid) for pid in pool.pids] == [0, 0, 0]


async def test_a_worker_that_the_system_keeps_low_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WorkerProcess, "regain", lambda self: False)  # as it is for everybody but root
    async with pool_of(short_slots=0) as pool:
        before = pool.pids
        endless = asyncio.create_task(rows(pool, ENDLESS))
        await until(lambda: YIELDING_NICENESS in map(niceness, before))

        await stopped(endless)

        assert (await rows(pool, "SELECT 1 AS one")).num_rows == 1
        assert niceness(pool.pids[-1]) == 0
        assert pool.pids[-1] not in before


@pytest.mark.parametrize("short_slots", [0, 1])
async def test_beginning_anew_gives_a_statement_no_more_time_than_it_has(short_slots: int) -> None:
    async with pool_of(short_slots=short_slots, statement_timeout_s=1.2) as pool:
        outcomes = await asyncio.gather(
            *(rows(pool, f"{ENDLESS} -- {i}", str(i)) for i in range(3)), return_exceptions=True
        )

        assert [type(outcome) for outcome in outcomes] == [QueryTimeoutError] * 3
