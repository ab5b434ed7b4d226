"""Payloads that a running statement asks for: answered in turn, by files or by an error, and never waited for too long."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from lakehouse.errors import BackendUnavailableError, InternalError, LakeflightError, QueryError, UnknownViewError
from lakehouse.storage.paths import blob_key
from server.workers.payloads import Payloads
from server.workers.pool import QueryPoolLimits, QueryWorkerPool, Statement
from server.workers.protocol import ProtocolError
from tests.support.worker_stubs import table_of

IDS = [f"00000000-0000-4000-8000-00000000000{n}" for n in range(3)]
FREE_AFTER_S = 4  # on a loaded machine too


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[QueryWorkerPool]:
    pool = QueryWorkerPool(QueryPoolLimits(slots=1), engine="tests.support.worker_stubs:StubEngine")
    await pool.start()
    await pool.ready()
    yield pool
    await pool.close()


async def answer(pool: QueryWorkerPool, statement: str, fetch: Any) -> Any:
    stream = pool.run(Statement(statement))
    stream.on_fetch = fetch
    frames = [frame async for frame in stream]
    return json.loads(table_of(frames).to_pylist()[0]["value"])


async def test_each_question_has_its_answer(pool: QueryWorkerPool) -> None:
    async def fetch(_: str, blocks: Sequence[Any]) -> list[str]:
        await asyncio.sleep(0)
        return ["/".join(block) for block in blocks]

    assert await answer(pool, "!payloads", fetch) == [["p/s/b"], ["p/s/c", "p/s/d"]]


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (UnknownViewError("no such block"), UnknownViewError("no such block")),
        (ValueError("a secret path"), InternalError("the engine failed")),
    ],
)
async def test_an_error_of_the_store_is_the_statements(
    pool: QueryWorkerPool, raised: Exception, told: LakeflightError
) -> None:
    async def fetch(*_: Any) -> list[str]:
        raise raised

    with pytest.raises(type(told), match=f"^{told}$"):
        await answer(pool, "!payloads", fetch)


async def test_whoever_gives_up_meanwhile_frees_the_worker(pool: QueryWorkerPool) -> None:
    asked, stopped = asyncio.Event(), asyncio.Event()

    async def fetch(*_: Any) -> list[str]:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return []

    reading = asyncio.ensure_future(answer(pool, "!payloads", fetch))
    await asyncio.wait_for(asked.wait(), 30)
    reading.cancel()
    began = time.monotonic()

    [frame, *_] = [frame async for frame in pool.run(Statement("SELECT 1 AS x"))]

    assert frame and time.monotonic() - began < FREE_AFTER_S
    assert stopped.is_set()


async def test_a_worker_that_asks_out_of_turn_is_ended(pool: QueryWorkerPool) -> None:
    async def fetch(*_: Any) -> list[str]:
        await asyncio.sleep(30)
        return []

    with pytest.raises(InternalError):
        await answer(pool, "!impatient", fetch)


class Store:
    """Has one payload, and counts who holds files."""

    def __init__(self, *keys: str) -> None:
        self.keys, self.held = keys, 0

    @asynccontextmanager
    async def localize(self, keys: Sequence[str]) -> AsyncIterator[list[Path]]:
        if not set(keys) <= set(self.keys):
            raise BackendUnavailableError("an object is missing in the store")
        self.held += 1
        yield [Path("/files") / key for key in keys]
        self.held -= 1

    async def size(self, key: str) -> int | None:
        return 1 if key in self.keys else None


async def test_files_are_held_until_others_are_asked_for() -> None:
    key = blob_key(*IDS)
    store: Any = Store(key)
    async with AsyncExitStack() as held:
        payloads = Payloads(store, held)
        for _ in range(3):
            assert await payloads.fetch([[each.upper() for each in IDS]]) == [f"/files/{key}"]
            assert store.held == 1
    assert store.held == 0


@pytest.mark.parametrize(
    ("block", "error"),
    [
        ([IDS[0], IDS[1], IDS[1]], UnknownViewError),
        ([IDS[0], "../../../etc", "passwd"], QueryError),
        ([IDS[0], IDS[1]], ProtocolError),
        ([IDS[0], IDS[1], 7], ProtocolError),
        ("x", ProtocolError),
    ],
)
async def test_nothing_but_payloads_of_blocks_is_fetched(block: Any, error: type[Exception]) -> None:
    store: Any = Store(blob_key(*IDS))
    async with AsyncExitStack() as held:
        with pytest.raises(error):
            await Payloads(store, held).fetch([block])
