"""Trouble while a block is stored is 503, whatever it is: nothing is acknowledged that is not there, and nothing is left half."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import asyncpg
import pytest

from lakeflight.wire.envelope import BlockRequest, encode_payload
from lakehouse.catalog.telemetry import BlockRows
from lakehouse.storage import BlobOutcome, LocalStore
from server.ingestion.exchange import Answer, Request
from server.ingestion.group_commit import GroupCommit
from tests.support.ingestion import (
    Connection,
    block_request,
    body_of,
    process_request,
    running_endpoint,
    running_ingestion,
    stream_request,
)

BLOCK = "/ingestion/insert_block"
TROUBLE: list[Exception] = [
    *(OSError(code, os.strerror(code)) for code in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE)),
    MemoryError(),
    RuntimeError("can't start new thread"),
    TimeoutError(),
    ValueError("not for this column"),
    asyncpg.UndefinedTableError('relation "blocks" does not exist'),
    asyncpg.UndefinedColumnError('column "payload_size" does not exist'),
    asyncpg.InsufficientPrivilegeError("permission denied for table blocks"),
    asyncpg.InvalidCachedStatementError("cached statement plan is invalid"),
    asyncpg.UniqueViolationError("duplicate key"),
    asyncpg.DiskFullError("no space left on device"),
    asyncpg.DataError("invalid input"),
    asyncpg.InternalClientError("got result for unknown protocol state"),
]


class FailingStore(LocalStore):
    trouble: Exception | None = None

    async def create_blobs(self, objects: Sequence[tuple[str, bytes]]) -> list[BlobOutcome]:
        if self.trouble is not None:
            raise self.trouble
        return await super().create_blobs(objects)


class FailingRows(BlockRows):
    trouble: Exception | None = None

    async def insert(self, blocks: Sequence[BlockRequest], sizes: Sequence[int]) -> set[str]:
        if self.trouble is not None:
            raise self.trouble
        return await super().insert(blocks, sizes)


@contextlib.asynccontextmanager
async def backends(database_url: str, folder: Path) -> AsyncIterator[tuple[FailingStore, FailingRows, GroupCommit]]:
    store, rows = FailingStore(folder), FailingRows(database_url)
    commit = GroupCommit(store, rows)
    try:
        yield store, rows, commit
    finally:
        await commit.close()
        await rows.close()
        await store.close()


@pytest.mark.parametrize("where", ["store", "rows"])
async def test_trouble_of_any_kind_is_503_and_the_sender_comes_again(
    database_url: str, tmp_path: Path, where: str
) -> None:
    async with backends(database_url, tmp_path) as (store, rows, commit):
        blocks = {body_of(block): block for block in (block_request() for _ in TROUBLE)}

        async def insert(request: Request) -> Answer:
            await commit.put(blocks[request.body])
            return Answer()

        async with running_endpoint(insert) as server:
            failing = store if where == "store" else rows
            for trouble, body in zip(TROUBLE, blocks, strict=True):
                failing.trouble = trouble
                answer = await server.post("/echo", body)
                assert (answer.status, answer.headers.get("retry-after")) == (503, "1"), trouble
            assert await stored_blocks(database_url) == set()

            failing.trouble = None
            answers = await asyncio.gather(*(server.post("/echo", body) for body in blocks))
        assert {answer.status for answer in answers} == {200}
        assert await stored_blocks(database_url) == {block.block_id for block in blocks.values()}
        for block in blocks.values():
            path = tmp_path / "blobs" / block.process_id / block.stream_id / block.block_id
            assert path.read_bytes() == block.payload


async def stored_blocks(database_url: str) -> set[str]:
    database = await asyncpg.connect(database_url)
    try:
        return {str(row[0]) for row in await database.fetch("SELECT block_id FROM blocks")}
    finally:
        await database.close()


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A disk that takes the beginning of a file and no more of it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_payload_that_the_disk_takes_half_of_is_not_there_at_all(database_url: str, tmp_path: Path) -> None:
    large = block_request(payload=encode_payload(b"", os.urandom(300_000)))
    small = block_request()
    async with running_ingestion(database_url, tmp_path) as server:
        with files_of_at_most(100_000):
            answers = await asyncio.gather(
                server.post(BLOCK, body_of(large)),
                server.post(BLOCK, body_of(small)),
            )
        assert [answer.status for answer in answers] == [503, 200]
        assert not server.blob(large).exists()
        assert await stored_blocks(database_url) == {small.block_id}

        assert (await server.post(BLOCK, body_of(large))).status == 200
        assert server.blob(large).read_bytes() == large.payload
        assert await stored_blocks(database_url) == {small.block_id, large.block_id}


async def test_a_table_that_is_gone_is_503_for_every_kind_of_request(database_url: str, tmp_path: Path) -> None:
    process = process_request()
    requests = {
        "process": body_of(process),
        "stream": body_of(stream_request(process.process_id)),
        "block": body_of(block_request(process.process_id)),
    }
    database = await asyncpg.connect(database_url)
    async with running_ingestion(database_url, tmp_path) as server:
        for table in ("processes", "streams", "blocks"):
            await database.execute(f"ALTER TABLE {table} RENAME TO {table}_away")
        connection = await Connection.open(server.port)
        for kind, body in requests.items():
            answer = await connection.post(f"/ingestion/insert_{kind}", body)
            assert (answer.status, answer.headers.get("retry-after")) == (503, "1"), kind
            assert b"processes" not in answer.body

        for table in ("processes", "streams", "blocks"):
            await database.execute(f"ALTER TABLE {table}_away RENAME TO {table}")
        for kind, body in requests.items():
            assert (await connection.post(f"/ingestion/insert_{kind}", body)).status == 200, kind
        await connection.close()
    await database.close()
