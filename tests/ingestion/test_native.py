"""The three native requests, from the wire to the disk and the row."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import cbor2
import pytest

from lakeflight.wire.envelope import encode_payload
from tests.support.fixtures import native_cases
from tests.support.ingestion import (
    Connection,
    RunningIngestion,
    block_request,
    body_of,
    process_request,
    stream_request,
)

BLOCK = "/ingestion/insert_block"


async def test_success_is_exactly_200_with_nothing_in_it(server: RunningIngestion, database: Any) -> None:
    process = process_request()
    stream = stream_request(process.process_id)
    block = block_request(process.process_id, stream.stream_id)

    for path, request in (("process", process), ("stream", stream), ("block", block)):
        answer = await server.post(f"/ingestion/insert_{path}", body_of(request))
        assert (answer.status, answer.body) == (200, b"")

    assert server.blob(block).read_bytes() == block.payload
    row = await database.fetchrow("SELECT * FROM blocks")
    assert row["payload_size"] == len(block.payload)
    assert (row["nb_objects"], row["object_offset"], row["end_ticks"]) == (3, 0, 1_000_000_000)


async def test_recorded_requests_are_accepted_and_kept_byte_for_byte(server: RunningIngestion, database: Any) -> None:
    for case in native_cases()[:3]:
        connection = await Connection.open(server.port)
        for request in case.requests:
            answer = await connection.post(request.path, request.body)
            assert (answer.status, answer.body) == (200, b""), request.path
            if request.path.endswith("insert_block"):
                sent = cbor2.loads(request.body)
                stored = server.store_folder / "blobs" / sent["process_id"] / sent["stream_id"] / sent["block_id"]
                assert cbor2.loads(stored.read_bytes()) == sent["payload"]
        await connection.close()

        sent_blocks = sum(request.path.endswith("insert_block") for request in case.requests)
        stored_blocks = await database.fetchval("SELECT count(*) FROM blocks WHERE process_id = $1", case.process_id)
        assert stored_blocks == sent_blocks


@pytest.mark.parametrize("object_there", [False, True])
@pytest.mark.parametrize("row_there", [False, True])
async def test_object_and_row_are_each_created_only_if_absent(
    server: RunningIngestion, database: Any, object_there: bool, row_there: bool
) -> None:
    block = block_request()
    old_bytes = b"older and longer than what comes now" * 10
    if object_there:
        server.blob(block).parent.mkdir(parents=True)
        server.blob(block).write_bytes(old_bytes)
    if row_there:
        await database.execute(
            """
            INSERT INTO blocks (block_id, stream_id, process_id, begin_time, begin_ticks, end_time, end_ticks,
                nb_objects, object_offset, payload_size)
            VALUES ($1, $2, $3, now(), 0, now(), 0, 0, 0, 999999)
            """,
            block.block_id,
            block.stream_id,
            block.process_id,
        )

    answer = await server.post(BLOCK, body_of(block))

    assert answer.status == 200
    kept = old_bytes if object_there else block.payload
    assert server.blob(block).read_bytes() == kept
    sizes = [row["payload_size"] for row in await database.fetch("SELECT payload_size FROM blocks")]
    assert sizes == [999999 if row_there else len(kept)]


async def test_the_first_of_two_different_blocks_with_one_id_stands(server: RunningIngestion, database: Any) -> None:
    first = block_request(payload=encode_payload(b"one", b"1"))
    second = block_request(
        first.process_id, first.stream_id, block_id=first.block_id, payload=encode_payload(b"two", b"222"), nb_objects=9
    )

    for block in (first, second, first):
        assert (await server.post(BLOCK, body_of(block))).status == 200

    assert server.blob(first).read_bytes() == first.payload
    assert [row["nb_objects"] for row in await database.fetch("SELECT nb_objects FROM blocks")] == [3]


async def test_blocks_may_come_before_their_stream_and_process(server: RunningIngestion, database: Any) -> None:
    block = block_request()

    assert (await server.post(BLOCK, body_of(block))).status == 200

    assert await database.fetchval("SELECT count(*) FROM blocks") == 1


async def test_properties_that_only_servers_may_set_are_dropped(server: RunningIngestion, database: Any) -> None:
    properties = {"micromegas.audience": "all", "client.micromegas.x": "kept", "a": "b"}
    process = process_request(properties=dict(properties))
    stream = stream_request(process.process_id, properties=dict(properties))

    assert (await server.post("/ingestion/insert_process", body_of(process))).status == 200
    assert (await server.post("/ingestion/insert_stream", body_of(stream))).status == 200

    for table in ("processes", "streams"):
        kept = json.loads(await database.fetchval(f"SELECT properties FROM {table}"))
        assert kept == {"client.micromegas.x": "kept", "a": "b"}


async def test_what_postgres_cannot_hold_is_replaced_and_nothing_is_cut(
    server: RunningIngestion, database: Any
) -> None:
    process = process_request(exe="nul\0inside", computer="c" * 5000, properties={"k\0": "v\0"})

    assert (await server.post("/ingestion/insert_process", body_of(process))).status == 200

    row = await database.fetchrow("SELECT exe, computer, properties FROM processes")
    assert (row["exe"], len(row["computer"])) == ("nul\ufffdinside", 5000)
    assert json.loads(row["properties"]) == {"k\ufffd": "v\ufffd"}


async def test_large_bodies_take_the_same_way(server: RunningIngestion) -> None:
    block = block_request(payload=encode_payload(b"d", bytes(3_000_000)))

    assert (await server.post(BLOCK, body_of(block))).status == 200

    assert server.blob(block).read_bytes() == block.payload


async def test_many_senders_at_once_lose_nothing(server: RunningIngestion, database: Any) -> None:
    blocks = [block_request(payload=encode_payload(b"", bytes([n % 256]) * 500)) for n in range(300)]
    waiting = iter(blocks)

    async def send() -> None:
        connection = await Connection.open(server.port)
        for block in waiting:
            assert (await connection.post(BLOCK, body_of(block))).status == 200
        await connection.close()

    await asyncio.gather(*(send() for _ in range(20)))

    assert all(server.blob(block).read_bytes() == block.payload for block in blocks)
    stored = {str(row["block_id"]) for row in await database.fetch("SELECT block_id FROM blocks")}
    assert stored == {block.block_id for block in blocks}
