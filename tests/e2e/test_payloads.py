"""``get_payload`` against a server: the bytes that were sent, or an error that names the id."""

from __future__ import annotations

import time

import pytest
from adbc_driver_manager import ProgrammingError

from lakeflight.wire.envelope import decode_block
from tests.support.programs import Program
from tests.support.serving import Server

GET = "get_payload(process_id, stream_id, block_id)"
NOWHERE = "00000000-0000-4000-8000-00000000dead"


@pytest.fixture(scope="module")
def program(server: Server) -> Program:
    sent = Program()
    server.replay([*sent.registration(), *(sent.thread_block(frames=frames) for frames in (1, 2, 3))])
    return sent


def test_a_payload_is_as_long_as_the_block_says_and_every_block_has_its_own(server: Server, program: Program) -> None:
    rows = server.query(
        f"SELECT octet_length({GET}) AS size, payload_size, {GET} AS payload, length({GET}::VARCHAR) > 0 AS shown"
        f" FROM blocks WHERE process_id = '{program.process_id}'"
    ).to_pylist()

    assert len(rows) >= 3
    assert all(row["size"] == row["payload_size"] == len(row["payload"]) for row in rows)
    assert len({row["payload"] for row in rows}) == len(rows)


def test_it_is_what_the_program_sent(server: Server, program: Program) -> None:
    request = program.thread_block(frames=4)
    server.replay([request])
    sent = decode_block(request.body)

    found = server.query(f"SELECT {GET} AS payload FROM blocks WHERE block_id = ?", [sent.block_id]).to_pylist()

    assert found == [{"payload": sent.payload}]


@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        ("'x', stream_id, block_id", "get_payload: 'x' is not a valid process id"),
        ("process_id, '../..', block_id", "'../..' is not a valid stream id"),
        ("process_id, stream_id, 'blobs'", "'blobs' is not a valid block id"),
        (f"process_id, stream_id, '{NOWHERE}'", f"block {NOWHERE} .* not found or not accessible"),
    ],
)
def test_an_id_that_names_no_block_is_an_error(server: Server, program: Program, ids: str, reason: str) -> None:
    with pytest.raises(ProgrammingError, match=reason):
        server.query(f"SELECT get_payload({ids}) FROM blocks WHERE process_id = '{program.process_id}'")


def test_whoever_gives_up_while_payloads_are_fetched_leaves_a_worker_that_answers(
    server: Server, program: Program
) -> None:
    many = f"SELECT {GET} AS p FROM blocks, range(3000000) WHERE process_id = '{program.process_id}'"
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute(many)
        cursor.fetchone()
    began = time.monotonic()

    assert server.query("SELECT 1 AS x").to_pylist() == [{"x": 1}]
    assert time.monotonic() - began < 20
