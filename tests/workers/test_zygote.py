"""Where worker processes come from, what they cost, and that none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import structlog

from server.workers.pool import BuildPoolLimits, BuildWorkerPool, QueryPoolLimits, QueryWorkerPool, Statement
from tests.support.worker_stubs import table_of

ROOT = Path(__file__).resolve().parents[2]
ENGINE_OPTIONS = {"threads": 2}
# Two zygotes and two workers of each. Pages of files are not counted: how many others map them is not the workers' doing.
OWN_BYTES_MAX = 200 << 20

EDGE = """
import asyncio, sys
from server.workers.pool import BuildPoolLimits, BuildWorkerPool, QueryPoolLimits, QueryWorkerPool, Statement

async def main():
    queries = QueryWorkerPool(QueryPoolLimits(slots=2), engine="tests.support.worker_stubs:StubEngine")
    builds = BuildWorkerPool(BuildPoolLimits(slots=2), builder="tests.support.worker_stubs:builder")
    for pool in (queries, builds):
        await pool.start()
    stream = queries.run(Statement("!deaf", options={}))
    job = asyncio.create_task(builds.build({"do": "sleep"}, 60))
    if sys.argv[1] == "busy":
        for pool in (queries, builds):
            await pool.ready()
        reading = asyncio.ensure_future(anext(stream))
    print(*queries.pids, *builds.pids, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def _edge(moment: str) -> tuple[subprocess.Popen[str], list[int]]:
    edge = subprocess.Popen(
        [sys.executable, "-c", EDGE, moment],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert edge.stdout is not None
    return edge, [int(pid) for pid in edge.stdout.readline().split()]


def _survivors(pids: list[int], wait_s: float) -> list[int]:
    deadline = time.monotonic() + wait_s
    while True:
        alive = [pid for pid in pids if _alive(pid)]
        if not alive or time.monotonic() > deadline:
            return alive
        time.sleep(0.02)


def test_a_killed_edge_leaves_no_process_within_two_seconds() -> None:
    edge, pids = _edge("busy")
    assert len(pids) == 6
    assert _survivors(pids, 0) == pids

    edge.send_signal(signal.SIGKILL)
    edge.wait()

    assert _survivors(pids, 2) == []


def test_an_edge_that_is_killed_while_zygotes_warm_up_leaves_none() -> None:
    edge, pids = _edge("starting")
    assert len(pids) == 2

    edge.send_signal(signal.SIGKILL)
    edge.wait()

    assert _survivors(pids, 2) == []


async def test_real_workers_start_without_threads_and_are_small() -> None:
    queries = QueryWorkerPool(QueryPoolLimits(slots=2), engine_options=ENGINE_OPTIONS)
    builds = BuildWorkerPool(BuildPoolLimits(slots=2))
    queries.describe({"tables": {}, "view_sets": {}})
    with structlog.testing.capture_logs() as lines:
        for pool in (queries, builds):
            await pool.start()
        for pool in (queries, builds):
            await pool.ready()
    options: dict[str, object] = {"identity": "somebody", "row_limit": None, "now_ns": None, "metadata": {}}

    for _ in range(2):
        received = [frame async for frame in queries.run(Statement("SELECT 42 AS answer", options=options))]
        assert table_of(received).to_pylist() == [{"answer": 42}]
    own = {pid: _own_bytes(pid) for pid in [*queries.pids, *builds.pids]}

    assert [line for line in lines if line["event"] == "zygote.threads"] == []
    assert sum(own.values()) < OWN_BYTES_MAX, own
    for pool in (queries, builds):
        await pool.close()


def _own_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss_Anon:"):
            return int(line.split()[1]) << 10
    return 0


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
