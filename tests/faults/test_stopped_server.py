"""A server that is stopped while it makes a bucket keeps nobody waiting for long, and makes no second set of partitions."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.lakehouse.test_damaged_files import noise
from tests.support.postgres import PostgresServer
from tests.support.programs import Program
from tests.support.serving import Server, serving

LINES = 150_000  # which take a while to decode and to write
ANSWER_S_MAX = 40.0  # a lease of 10 s, and making the bucket on a busy machine


@pytest.fixture
def two_servers(tmp_path: Path, postgres_server: PostgresServer) -> Iterator[tuple[Server, Server, str]]:
    url = asyncio.run(postgres_server.create(migrated=True))
    shared = ("--postgres-url", url, "--store-url", (tmp_path / "store").as_uri())
    with serving(tmp_path / "one", *shared) as one, serving(tmp_path / "other", *shared) as other:
        yield one, other, url
    asyncio.run(postgres_server.drop(url))


async def _until_held(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(60):
            while not await connection.fetchval("SELECT count(*) FROM lakehouse_leases"):  # noqa: ASYNC110 (a table)
                await asyncio.sleep(0.002)
    finally:
        await connection.close()


async def _state(url: str) -> tuple[int, int, int]:
    """Generations of the bucket, rows of its partitions, and open intents."""
    connection = await asyncpg.connect(url)
    try:
        row = await connection.fetchrow(
            "SELECT (SELECT max(generation) FROM lakehouse_buckets), (SELECT sum(num_rows) FROM lakehouse_partitions),"
            " (SELECT count(*) FROM lake_objects WHERE object_id NOT IN"
            " (SELECT object_id FROM lakehouse_partitions WHERE object_id IS NOT NULL))"
        )
        return row[0], row[1], row[2]
    finally:
        await connection.close()


def test_another_takes_over_what_a_stopped_server_holds(two_servers: tuple[Server, Server, str]) -> None:
    stopped, other, url = two_servers
    program = Program()
    stopped.replay([*program.registration(), program.log_block(LINES, noise)])
    sql = f"SELECT count(*) AS n, count(DISTINCT msg) AS messages FROM view_instance('log_entries', '{program.process_id}')"
    answers: list[object] = []
    asking = threading.Thread(target=lambda: answers.append(stopped.query(sql).to_pylist()))
    asking.start()
    asyncio.run(_until_held(url))
    stopped.process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        found = other.query(sql).to_pylist()
        took_s = time.monotonic() - began
    finally:
        stopped.process.send_signal(signal.SIGCONT)
    asking.join(60)

    assert found == [{"n": LINES, "messages": LINES}]
    assert took_s < ANSWER_S_MAX
    assert answers == [found], "it goes on, and finds the bucket made"
    assert asyncio.run(_state(url)) == (1, LINES, 0)
