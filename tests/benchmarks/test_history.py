"""What benchmarks write fast is what the server's own path would have written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest_asyncio

from benchmarks.history import History, pad, write
from lakehouse.model import EVERYTHING
from tests.support.fixtures import Request
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.postgres_lake import PostgresLake, postgres_lake_at
from views.log_entries import LogEntries

__all__ = ["postgres_server"]

HISTORY = History(
    "small",
    processes=5,
    blocks=4,
    every=timedelta(minutes=30),
    begins=datetime(2026, 3, 1, tzinfo=UTC),
    ends=datetime(2026, 3, 8, tzinfo=UTC),
)
LOGS = LogEntries()


@pytest_asyncio.fixture
async def lakes(postgres_server: PostgresServer, tmp_path: Path) -> AsyncIterator[tuple[PostgresLake, PostgresLake]]:
    """One that the history is sent to, and one that it is written into."""
    urls = [await postgres_server.create(migrated=True) for _ in range(2)]
    for folder in ("sent", "written"):
        (tmp_path / folder).mkdir()
    async with postgres_lake_at(urls[0], tmp_path / "sent") as sent:
        async with postgres_lake_at(urls[1], tmp_path / "written") as written:
            await sent.send([Request(path, {}, body) for path, body in HISTORY.requests()])
            await write(HISTORY, urls[1], tmp_path / "written" / "store")
            yield sent, written
    for url in urls:
        await postgres_server.drop(url)


async def test_rows_and_payloads_are_those_of_the_real_path_but_for_when_they_came(
    lakes: tuple[PostgresLake, PostgresLake],
) -> None:
    sent, written = lakes

    for table, key in (("processes", "process_id"), ("streams", "stream_id"), ("blocks", "block_id")):
        rows = [await _rows(lake, f"SELECT * FROM {table} ORDER BY {key}") for lake in lakes]
        assert rows[0] == rows[1] and rows[0]
    keys = await sent.store.list("blobs")
    assert len(keys) == HISTORY.processes * HISTORY.blocks
    assert keys == await written.store.list("blobs")
    assert [await sent.store.get(key) for key in keys] == [await written.store.get(key) for key in keys]


async def test_blocks_came_when_the_history_says(lakes: tuple[PostgresLake, PostgresLake]) -> None:
    _, written = lakes

    found = {str(row["block_id"]): row["insert_time"] for row in await written.pool.fetch("SELECT * FROM blocks")}

    assert found == {
        HISTORY.block_id(number, place): HISTORY.inserted(number, place)
        for number in range(HISTORY.processes)
        for place in range(HISTORY.blocks)
    }
    assert max(found.values()) <= HISTORY.ends


async def test_a_history_is_read_like_what_was_sent(lakes: tuple[PostgresLake, PostgresLake]) -> None:
    messages = [
        await lake.messages(await lake.materializer().ensure(LOGS, HISTORY.process_id(3), EVERYTHING)) for lake in lakes
    ]

    assert messages[0] == messages[1]
    assert len(messages[0]) == HISTORY.blocks * HISTORY.lines


async def test_padding_is_what_the_server_makes_of_that_process(lakes: tuple[PostgresLake, PostgresLake]) -> None:
    _, written = lakes
    for number in (0, 4):
        await written.materializer().ensure(LOGS, HISTORY.process_id(number), EVERYTHING)
    made = [await _rows(written, query, HISTORY.process_id(4)) for query in _OF_INSTANCE]
    await written.pool.execute("DELETE FROM lakehouse_partitions WHERE view_instance_id = $1", HISTORY.process_id(4))
    await written.pool.execute("DELETE FROM view_instances WHERE instance_id = $1", HISTORY.process_id(4))

    partitions = await pad(HISTORY, "log_entries", written.url, [4])

    assert [await _rows(written, query, HISTORY.process_id(4)) for query in _OF_INSTANCE] == made
    assert partitions == len(made[1]) > 1
    jobs = len(written.builder.jobs)
    fresh = await written.materializer().ensure(LOGS, HISTORY.process_id(4), EVERYTHING)
    assert (len(fresh.partitions), len(written.builder.jobs)) == (partitions, jobs)


_OF_INSTANCE = tuple(
    f"SELECT t.* FROM {table} t JOIN view_instances i USING (vid) WHERE i.instance_id = $1 ORDER BY t.bucket_begin"
    for table in ("lakehouse_buckets", "lakehouse_partitions")
)
# when a row was written, and where; and what follows from the content of files, which has the id of its process
_ELSEWHERE = frozenset({"insert_time", "ingest_xid", "updated", "vid", "partition_id", "object_id", "incarnation"})
_OF_CONTENT = frozenset({"file_path", "file_size", "source_data_hash", "src_digest", "tail_digest"})


async def _rows(lake: PostgresLake, query: str, *arguments: Any) -> list[dict[str, Any]]:
    rows = await lake.pool.fetch(query, *arguments)
    return [{name: value for name, value in row.items() if name not in _ELSEWHERE | _OF_CONTENT} for row in rows]
