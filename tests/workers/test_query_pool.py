"""Statements in real worker processes: rows, cancels, crashes, limits."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
import pytest_asyncio
import structlog

from lakehouse.errors import (
    BackendUnavailableError,
    InternalError,
    LakeflightError,
    LimitExceededError,
    QueryCancelledError,
    QueryError,
    QueryTimeoutError,
)
from server.workers.pool import QueryPoolLimits, QueryWorkerPool, Statement
from server.workers.protocol import FRAME_BYTES_MAX, REQUEST_BYTES_MAX
from server.workers.result_stream import PAUSE_S, WorkerStream
from server.workers.spool import SpoolLimits
from tests.support.worker_stubs import table_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMITS = QueryPoolLimits(
    slots=2,
    queued_per_slot_max=2,
    queue_wait_max_s=3.0,
    statement_timeout_s=30.0,
    inspect_timeout_s=0.5,
    stall_max_s=0.8,
    stall_contended_max_s=0.3,
    result_bytes_max=1 << 50,  # none of the endless scans gets there
    spool=SpoolLimits(bytes_max=40 << 20),
    memory_bytes=512 << 20,
)
NUMBERS = "SELECT i, i * 0.5::DOUBLE AS half, 'row ' || i AS name FROM range({rows}) t(i)"
FREE_AFTER_S = 4  # what a user is promised, on a loaded machine too
ENDLESS_SCAN = NUMBERS.format(rows=10**12)
ENDLESS_AGGREGATE = "SELECT sum(hash(a.i + b.i)) FROM range(10000000) a(i), range(10000000) b(i)"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool() -> AsyncIterator[QueryWorkerPool]:
    os.environ["A_SECRET_PASSWORD"] = "canary"
    pool = QueryWorkerPool(LIMITS, engine="tests.support.worker_stubs:StubEngine")
    await pool.start()
    await pool.ready()
    yield pool
    await pool.close()
    del os.environ["A_SECRET_PASSWORD"]


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def whole(pool: QueryWorkerPool) -> None:
    """What the test before killed has come back."""
    await idle_after(pool)


async def frames(pool: QueryWorkerPool, sql: str, timeout_s: float | None = None, **options: Any) -> list[bytes]:
    return [frame async for frame in pool.run(Statement(sql, options=options), timeout_s=timeout_s)]


async def value(pool: QueryWorkerPool, sql: str) -> Any:
    return json.loads(table_of(await frames(pool, sql))["value"][0].as_py())


async def idle_after(pool: QueryWorkerPool) -> float:
    """Seconds until both slots are free."""
    start = time.monotonic()
    while pool.busy or len(pool.pids) < 1 + LIMITS.slots:
        await asyncio.sleep(0.005)
        assert time.monotonic() - start < 10
    return time.monotonic() - start


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT 1 AS one", 65_536),
        ("SELECT 1 AS one WHERE false", 65_536),
        (NUMBERS.format(rows=3), 65_536),
        (NUMBERS.format(rows=400_000), 8_192),
        (NUMBERS.format(rows=400_000), 262_144),
        ("SELECT i, repeat('é', (i % 400)::INT) AS s, [i, i + 1] AS l, {'a': i} AS t FROM range(150000) t(i)", 65_536),
        ("SELECT (['a','b','c'][1 + i % 3])::ENUM('a','b','c') AS e, i FROM range(60000) t(i)", 65_536),
        (f"SELECT {', '.join(f'i + {c} AS c{c}' for c in range(200))} FROM range(20000) t(i)", 65_536),
        ("SELECT i, repeat('x', CASE WHEN i = 1 THEN 9000000 ELSE 3 END) AS s FROM range(3) t(i)", 65_536),
    ],
)
async def test_rows_are_those_of_bare_duckdb(pool: QueryWorkerPool, sql: str, rows: int) -> None:
    expected = duckdb.connect().sql(sql).to_arrow_reader(rows).read_all()

    received = await frames(pool, sql, rows=rows)

    key = [(expected.column_names[0], "ascending")]
    table = table_of(received)
    assert table.schema == expected.schema
    if expected.num_rows and not pa.types.is_dictionary(expected.schema[0].type):
        assert table.sort_by(key).combine_chunks().equals(expected.sort_by(key).combine_chunks())
    else:
        assert sorted(map(str, table.to_pylist())) == sorted(map(str, expected.to_pylist()))
    if "9000000" not in sql:
        assert max(map(len, received)) <= FRAME_BYTES_MAX


async def test_parameters_and_counts_arrive(pool: QueryWorkerPool) -> None:
    batch = pa.record_batch([pa.array([7]), pa.array(["x"])], names=["1", "2"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)

    stream = pool.run(Statement("SELECT ? + 1 AS a, ? AS b FROM range(5)", sink.getvalue().to_pybytes(), {}))
    received = [frame async for frame in stream]

    assert table_of(received).to_pylist() == [{"a": 8, "b": "x"}] * 5
    assert (stream.rows, stream.bytes_read) == (5, sum(map(len, received)))


async def test_an_inspection_knows_the_newest_catalog_and_leaves_the_rest_to_the_engine(pool: QueryWorkerPool) -> None:
    for catalog in ({"tables": ["a"]}, {"tables": ["a", "b"]}):
        pool.describe(catalog)
        for _ in range(4):
            planned = await pool.inspect(Statement("SELECT 1 AS one, 2 AS two", options={"k": [1]}))
            assert planned.inspection == {"columns": ["one", "two"], "catalog": catalog, "options": {"k": [1]}}


async def test_the_engine_s_errors_keep_their_kind_and_others_say_nothing(pool: QueryWorkerPool) -> None:
    with pytest.raises(QueryError, match="nonsense"):
        await pool.inspect(Statement("SELECT nonsense"))
    with pytest.raises(QueryError, match="nonsense"):
        await frames(pool, "SELECT nonsense")
    with pytest.raises(QueryError, match="Could not convert"):
        await frames(pool, "SELECT CASE WHEN i < 500000 THEN i ELSE ('x' || i)::INT END AS v FROM range(1000000) t(i)")
    with pytest.raises(InternalError, match=r"^the engine failed$"):
        await frames(pool, "!broken")
    with pytest.raises(LimitExceededError):
        await frames(pool, "!greedy")
    with pytest.raises(LimitExceededError):
        greedy = Statement("SELECT list(i) FROM range(1000000000) t(i)", options={})
        async for _ in pool.run(greedy, timeout_s=30):  # filling the memory may take more than a second
            pass

    assert await idle_after(pool) < FREE_AFTER_S


@pytest.mark.parametrize(("statement", "cause"), [("!broken", "a secret path"), ("!masked", "vi_8c1a3e")])
async def test_what_an_internal_error_hides_from_the_caller_is_in_the_log(
    pool: QueryWorkerPool, statement: str, cause: str
) -> None:
    with structlog.testing.capture_logs() as lines, pytest.raises(InternalError, match=r"^the engine failed$"):
        await frames(pool, statement)

    [line] = [line for line in lines if line["event"] == "worker.failed"]
    assert cause in line["detail"]


async def test_a_cancel_in_mid_stream_frees_the_worker(pool: QueryWorkerPool) -> None:
    before = set(pool.pids)
    stream = pool.run(Statement(ENDLESS_SCAN, options={}))
    for _ in range(20):
        await anext(stream)

    await stream.aclose()

    assert await idle_after(pool) < FREE_AFTER_S
    assert set(pool.pids) == before
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


@pytest.mark.parametrize("sql", [ENDLESS_AGGREGATE, ENDLESS_SCAN, "!attentive"])
@pytest.mark.parametrize("delay_s", [0.0, 0.001, 0.2])
async def test_a_cancelled_task_frees_its_worker_within_a_second(
    pool: QueryWorkerPool, sql: str, delay_s: float
) -> None:
    before = set(pool.pids)

    async def read() -> None:
        async for _ in pool.run(Statement(sql, options={})):
            pass

    task = asyncio.create_task(read())
    await asyncio.sleep(delay_s)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert task.cancelled()
    assert await idle_after(pool) < FREE_AFTER_S
    assert set(pool.pids) == before
    assert await value(pool, "!pid") in before


async def test_somebody_else_may_cancel_a_statement(pool: QueryWorkerPool) -> None:
    stream = pool.run(Statement(ENDLESS_AGGREGATE, options={}))
    asyncio.get_running_loop().call_later(0.2, stream.cancel)

    with pytest.raises(QueryCancelledError):
        await anext(stream)

    assert await idle_after(pool) < FREE_AFTER_S


@pytest.mark.parametrize("sql", [ENDLESS_AGGREGATE, "!deaf"])
async def test_a_statement_that_overruns_ends_in_time_and_its_slot_is_free_again(
    pool: QueryWorkerPool, sql: str
) -> None:
    start = time.monotonic()

    with pytest.raises(QueryTimeoutError, match="more than 1 s of engine time"):
        await frames(pool, sql, timeout_s=1.0)

    assert time.monotonic() - start < 1.8
    await idle_after(pool)
    assert time.monotonic() - start < 3  # two seconds after the deadline, a new process included
    assert table_of(await frames(pool, "SELECT 1 AS one")).to_pylist() == [{"one": 1}]


async def test_a_shorter_limit_may_be_asked_for(pool: QueryWorkerPool) -> None:
    start = time.monotonic()

    with pytest.raises(QueryTimeoutError):
        async for _ in pool.run(Statement(ENDLESS_AGGREGATE, options={}), timeout_s=0.3):
            pass

    assert 0.3 <= time.monotonic() - start < 0.9


async def test_an_inspection_that_overruns_ends_in_time(pool: QueryWorkerPool) -> None:
    start = time.monotonic()

    with pytest.raises(QueryTimeoutError, match="planning"):
        await pool.inspect(Statement("!deaf"))

    assert time.monotonic() - start < 1.2
    await idle_after(pool)
    assert time.monotonic() - start < 2.5


async def test_waiting_for_a_worker_is_no_time_of_planning(pool: QueryWorkerPool) -> None:
    busy = [asyncio.ensure_future(frames(pool, ENDLESS_AGGREGATE, timeout_s=1.0)) for _ in range(LIMITS.slots)]
    await asyncio.sleep(0.1)
    start = time.monotonic()

    planned = await pool.inspect(Statement("SELECT 1 AS one", options={}))

    assert time.monotonic() - start > 0.5 > planned.engine_s > 0
    for ended in await asyncio.gather(*busy, return_exceptions=True):
        assert isinstance(ended, QueryTimeoutError)
    await idle_after(pool)


async def test_a_reader_s_pauses_are_not_engine_time_and_keep_memory_flat(pool: QueryWorkerPool) -> None:
    began = time.monotonic()
    stream = pool.run(Statement(NUMBERS.format(rows=1_000_000), options={"rows": 60_000}))
    count, size = 0, 0
    async for frame in stream:
        count, size = count + 1, size + len(frame)
        if count in (2, 5, 9):
            await asyncio.sleep(0.5)
            gc.collect()
        if count == 2:
            resident = _resident_bytes()
        if count == 9:
            assert _resident_bytes() - resident < 32 << 20

    assert stream.rows == 1_000_000
    assert size > 20 << 20
    assert stream.engine_s < time.monotonic() - began - 3 * 0.5 + 3 * PAUSE_S  # until a pause is known as one


async def test_a_reader_that_stalls_and_holds_a_worker_loses_it_and_is_told(pool: QueryWorkerPool) -> None:
    stream = pool.run(Statement(ENDLESS_SCAN, options={}))
    await anext(stream)
    await anext(stream)

    await asyncio.sleep(0.6)
    assert pool.busy == 1
    await asyncio.sleep(0.6)

    assert pool.busy == 0
    assert pool.spools.kept_bytes == 0
    with pytest.raises(
        LimitExceededError, match=r"took nothing for 0.8 s, and the 41943040 bytes that half-read results"
    ):
        await anext(stream)


async def test_a_stalled_reader_loses_its_slot_sooner_while_somebody_waits(pool: QueryWorkerPool) -> None:
    stalled = [pool.run(Statement(ENDLESS_SCAN, options={})) for _ in range(2)]
    for stream in stalled:
        for _ in range(2):
            await anext(stream)
    start = time.monotonic()

    received = await frames(pool, "SELECT 1 AS one")

    assert table_of(received).num_rows == 1
    assert time.monotonic() - start < 1.2
    for stream in stalled:
        await stream.aclose()
    await idle_after(pool)


async def test_a_finished_statement_needs_no_slot_while_its_last_frames_are_read(pool: QueryWorkerPool) -> None:
    slow = [pool.run(Statement("SELECT i FROM range(600000) t(i)", options={"rows": 200_000})) for _ in range(4)]
    first = [await anext(stream) for stream in slow]

    other = await frames(pool, "SELECT i + 1000000 FROM range(600000) t(i)", rows=200_000)

    assert table_of(other).num_rows == 600_000
    for schema, stream in zip(first, slow, strict=True):
        table = table_of([schema, *[frame async for frame in stream]])
        assert table.column(0).to_pylist() == list(range(600_000))


async def test_a_killed_worker_costs_one_error_and_the_next_statement_works(pool: QueryWorkerPool) -> None:
    before = set(pool.pids)
    stream = pool.run(Statement(ENDLESS_SCAN, options={}))
    for _ in range(5):
        await anext(stream)
    (busy,) = pool.busy_pids
    start = time.monotonic()

    os.kill(busy, signal.SIGKILL)
    with pytest.raises(InternalError, match="the statement's worker failed"):
        while True:
            await anext(stream)

    assert time.monotonic() - start < 1
    await idle_after(pool)
    assert time.monotonic() - start < 2
    assert len(set(pool.pids) - before) == 1
    for _ in range(4):
        assert table_of(await frames(pool, "SELECT 1 AS one")).num_rows == 1


@pytest.mark.parametrize("sql", ["!segfault", "!liar", "!thief"])
async def test_a_worker_that_dies_or_lies_is_replaced(pool: QueryWorkerPool, sql: str) -> None:
    before = set(pool.pids)

    with pytest.raises(InternalError, match="the statement's worker failed"):
        await frames(pool, sql)
    with pytest.raises(InternalError, match="the statement's worker failed"):
        await pool.inspect(Statement("!segfault"))

    await idle_after(pool)
    assert len(set(pool.pids) - before) == 2
    assert table_of(await frames(pool, "SELECT 1 AS one")).num_rows == 1


async def test_a_dead_zygote_is_replaced_with_all_its_workers(pool: QueryWorkerPool) -> None:
    before = set(pool.pids)

    os.kill(pool.pids[0], signal.SIGKILL)
    start = time.monotonic()
    while before & set(pool.pids):
        await asyncio.sleep(0.01)
        assert time.monotonic() - start < 10
    received = [table_of(await frames(pool, "SELECT 1 AS one")).num_rows for _ in range(3)]

    assert received == [1, 1, 1]
    await idle_after(pool)
    assert not before & set(pool.pids)
    assert not [pid for pid in before if _alive(pid)]


async def test_the_queue_is_bounded_in_number_and_time(pool: QueryWorkerPool) -> None:
    running = [pool.run(Statement("!attentive", options={}), timeout_s=9) for _ in range(2)]
    busy = [asyncio.create_task(anext(stream)) for stream in running]
    await asyncio.sleep(0.05)
    queued = [asyncio.create_task(frames(pool, "SELECT 1 AS one")) for _ in range(4)]
    await asyncio.sleep(0.05)
    assert pool.waiting == 4

    with pytest.raises(LimitExceededError, match="4 requests wait already"):
        await frames(pool, "SELECT 1 AS one")
    queued[0].cancel()
    await asyncio.sleep(0.01)
    assert pool.waiting == 3
    running[0].cancel()
    done = await asyncio.gather(*queued[1:])

    assert [table_of(received).num_rows for received in done] == [1, 1, 1]
    running[1].cancel()
    assert {type(error) for error in await asyncio.gather(*busy, return_exceptions=True)} == {QueryCancelledError}
    await idle_after(pool)


async def test_who_waits_too_long_is_told_to_try_again(pool: QueryWorkerPool) -> None:
    impatient = QueryWorkerPool(
        QueryPoolLimits(slots=1, queue_wait_max_s=0.2), engine="tests.support.worker_stubs:StubEngine"
    )
    await impatient.start()

    with pytest.raises(BackendUnavailableError, match=r"no worker was free within 0\.2 s"):
        await frames(impatient, "SELECT 1")

    await impatient.close()


async def test_a_result_that_is_too_large_is_cut_off() -> None:
    pool = QueryWorkerPool(
        QueryPoolLimits(slots=1, result_bytes_max=64 << 20), engine="tests.support.worker_stubs:StubEngine"
    )
    await pool.start()

    with pytest.raises(LimitExceededError, match="the result is larger than 67108864 bytes"):
        await frames(pool, f"SELECT i, i + 1 AS j, i + 2 AS k FROM range({10**12}) t(i)")
    received = await frames(pool, "SELECT 1 AS one")

    assert table_of(received).num_rows == 1
    await pool.close()


async def test_statements_with_the_same_affinity_meet_the_same_worker() -> None:
    async def pid(affinity: str) -> Any:
        stream = fresh.run(Statement("!pid", options={}), affinity=affinity)
        return table_of([frame async for frame in stream])["value"][0].as_py()

    fresh = QueryWorkerPool(
        LIMITS, engine="tests.support.worker_stubs:StubEngine"
    )  # workers that keep much are replaced
    try:
        await fresh.start()
        await fresh.ready()
        first = [await pid("a"), await pid("b")]

        assert first[0] != first[1]
        for _ in range(3):
            assert [await pid("a"), await pid("b")] == first
            assert [await pid("b"), await pid("a")] == first[::-1]
    finally:
        await fresh.close()


async def test_a_worker_has_nothing_but_what_is_its_own(pool: QueryWorkerPool) -> None:
    seen = await value(pool, "!surroundings")

    assert seen["environ"] == {}
    assert not [entry for entry in seen["born_with"] if "SECRET" in entry or "canary" in entry]
    names = {entry.partition("=")[0] for entry in seen["born_with"]} - {""}
    assert names <= {
        *("JE_ARROW_MALLOC_CONF", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_"),
        *("MALLOC_TOP_PAD_", "MALLOC_TRIM_THRESHOLD_", "NUMBA_CACHE_DIR", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS"),
        *("OPENBLAS_NUM_THREADS", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONUTF8", "TZ", "LC_CTYPE"),
    }
    targets = {name: target.split(":")[0] for name, target in seen["descriptors"].items()}
    assert [targets.pop(name) for name in "0123"] == ["/dev/null"] * 3 + ["socket"]
    assert [target for target in targets.values() if target not in ("/memfd", "anon_inode")] == []
    assert seen["session"]
    assert seen["core"] == 0
    assert (512 << 20) + (3 << 30) <= seen["address_space"] < 5 << 30
    assert not seen["shrinks"]


async def test_a_worker_writes_no_file(pool: QueryWorkerPool) -> None:
    assert await value(pool, "!writer") == "OSError"


async def test_a_worn_worker_is_replaced_between_statements() -> None:
    pool = QueryWorkerPool(
        QueryPoolLimits(slots=1, jobs_per_worker_max=5), engine="tests.support.worker_stubs:StubEngine"
    )
    await pool.start()

    pids = [await value(pool, "!pid") for _ in range(15)]

    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [5, 5, 5]
    await pool.close()


async def test_a_worker_that_rests_and_keeps_much_memory_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.workers.workforce.REST_LOOK_S", 0.1)
    pool = QueryWorkerPool(QueryPoolLimits(slots=1), engine="tests.support.worker_stubs:StubEngine")
    await pool.start()
    light = await value(pool, "!pid")
    await asyncio.sleep(0.5)
    hoarding = await value(pool, "!hoard")
    async with asyncio.timeout(30):
        while hoarding in pool.pids:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.05)

    successor = await value(pool, "!pid")

    assert hoarding == light, "a worker that kept little was replaced"
    assert successor != hoarding
    await pool.close()


async def test_an_engine_that_cannot_be_loaded_is_reported_at_the_start() -> None:
    pool = QueryWorkerPool(QueryPoolLimits(slots=1), engine="tests.support.worker_stubs:NoSuchEngine")
    await pool.start()

    with pytest.raises(InternalError, match="query workers could not load their code"):
        await pool.ready()

    await pool.close()


async def test_a_closed_pool_leaves_no_process_and_fails_what_is_under_way() -> None:
    pool = QueryWorkerPool(QueryPoolLimits(slots=2), engine="tests.support.worker_stubs:StubEngine")
    await pool.start()
    stream: WorkerStream = pool.run(Statement(ENDLESS_SCAN, options={}))
    await anext(stream)
    pids = pool.pids
    assert len(pids) >= 2

    await pool.close()

    with pytest.raises(LakeflightError):
        while True:
            await anext(stream)
    await asyncio.sleep(0.2)
    assert not [pid for pid in pids if _alive(pid)]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("asks", ["inspect", "run"])
async def test_a_worker_knows_the_catalog_after_a_request_that_was_too_large_to_be_sent(
    pool: QueryWorkerPool, asks: str
) -> None:
    pool.describe({"tables": [asks]})
    large = Statement("SELECT 1", bytes(REQUEST_BYTES_MAX))

    with pytest.raises(LimitExceededError, match="a request to a worker takes"):
        if asks == "inspect":
            await pool.inspect(large)
        else:
            await anext(pool.run(large))

    assert (await pool.inspect(Statement("SELECT 1"))).inspection["catalog"] == {"tables": [asks]}
